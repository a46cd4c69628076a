"""The image classifier's networks besides the CNN. Each takes float pixels in 0 to 1 (NCHW) and returns logits."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.backbones.cnn import Normalize
from training.backbones.registry import Backbone


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
    """A pretrained backbone with a new head, on images enlarged to a size that suits it.

    Args:
        backbone: the network without its head.
        size: the side in pixels that images are enlarged to (0: not at all).
        classes: the number of classes.
        dropout: of the features.
        frozen: how many groups of the backbone's layers keep their weights and statistics (the stem, then each stage);
            -1 for all.
        start_size: the side at which training starts; see `set_progress`.
        freeze_norms: whether the backbone's batch normalisation keeps its statistics in training.
    """

    def __init__(
        self,
        backbone: Backbone,
        size: int,
        classes: int,
        dropout: float = 0.0,
        frozen: int = 0,
        start_size: int | None = None,
        freeze_norms: bool = False,
    ) -> None:
        super().__init__()
        self.normalize = Normalize(torch.tensor(backbone.mean), torch.tensor(backbone.std))
        self.size = size
        self.start_size = min(start_size or size, size)
        self.training_size = size
        self.backbone = backbone.module
        self.frozen = backbone.freeze(frozen)
        if freeze_norms:
            self.frozen += [module for module in self.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(backbone.features, classes)

    def pretrained(self) -> Iterator[nn.Parameter]:
        """The parameters that learn at `backbone_lr`."""
        return self.backbone.parameters()

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
        features = self.backbone(self.normalize(pixels))
        if features.ndim == 4:
            features = features.mean((2, 3))
        return self.head(self.dropout(features))
