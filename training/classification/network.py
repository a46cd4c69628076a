"""The image classifier's networks besides the CNN. Each takes float pixels in 0 to 1 (NCHW) and returns logits."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.backbones.cnn import Normalize
from training.backbones.timm_models import freeze


class MLP(nn.Sequential):
    """Dense layers on flattened pixels: the baseline that shows what convolution gains."""

    def __init__(self, normalize: Normalize, shape: tuple[int, int, int], classes: int, dropout: float) -> None:
        height, width, channels = shape
        layers: list[nn.Module] = [normalize, nn.Flatten()]
        features = height * width * channels
        for hidden in (1024, 512, 256):
            layers += [nn.Linear(features, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(dropout)]
            features = hidden
        super().__init__(*layers, nn.Linear(features, classes))


class Transfer(nn.Module):
    """A pretrained timm backbone with a new head, on images enlarged to a size that suits it.

    Args:
        backbone: a timm model without its classifier.
        size: the side in pixels that images are enlarged to (0: not at all).
        classes: the number of classes.
        dropout: of the features.
        frozen: how many groups of the backbone's layers keep their weights and statistics (the stem, then each stage);
            -1 for all.
        start_size: the side at which training starts; see `set_progress`.
    """

    def __init__(
        self, backbone: Any, size: int, classes: int, dropout: float, frozen: int, start_size: int | None = None
    ) -> None:
        super().__init__()
        config = backbone.pretrained_cfg
        self.normalize = Normalize(torch.tensor(config["mean"]), torch.tensor(config["std"]))
        self.size = size
        self.start_size = min(start_size or size, size)
        self.training_size = size
        self.backbone = backbone
        self.frozen = freeze(backbone, frozen)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(backbone.head_hidden_size, classes)

    def set_progress(self, progress: float) -> None:
        """Sets the size of training images: it grows from `start_size` to `size` over the first three quarters.

        Small images teach the coarse features at a fraction of the cost (progressive learning, Tan and Le 2021,
        arXiv:2104.00298). Evaluation and export always use `size`.

        Args:
            progress: the fraction of the training that is done.
        """
        grown = self.start_size + (self.size - self.start_size) * min(1.0, progress / 0.75)
        self.training_size = round(grown / 8) * 8 if grown < self.size else self.size

    def train(self, mode: bool = True) -> "Transfer":
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def forward(self, pixels: Tensor) -> Tensor:
        if pixels.shape[1] == 1:
            pixels = pixels.expand(-1, 3, -1, -1)
        size = self.training_size if self.training else self.size
        if size:
            pixels = F.interpolate(pixels, (size, size), mode="bilinear", align_corners=False)
        return self.head(self.dropout(self.backbone(self.normalize(pixels))))
