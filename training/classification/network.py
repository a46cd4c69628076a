"""The image classifier's networks. Each takes float pixels in 0 to 1 (NCHW) and returns logits."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.backbones.cnn import CNN, Normalize, sample
from training.backbones.registry import Backbone, load_backbone
from training.classification.choice import CROP, is_photographs
from training.classification.options import NetworkSettings
from training.data.augment import to_pixels
from training.data.images import ImageData
from training.export.calibration import Scaling
from training.export.scaling import ScalingLayer


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
        classes: how many there are.
        dropout: of the features.
        frozen: how many groups of the backbone's layers keep weights and statistics; see `Backbone.freeze`.
        start_size: the side at which training starts; see `set_progress`.
        end_size: the side at which training ends, `size` by default.
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
        end_size: int | None = None,
    ) -> None:
        super().__init__()
        self.normalize = Normalize(torch.tensor(backbone.mean), torch.tensor(backbone.std))
        self.size = size
        self.end_size = self.training_size = size if end_size is None else end_size
        self.start_size = min(start_size or self.end_size, self.end_size)
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
        """Sets the size of training images: it grows from `start_size` to `end_size` over the first three quarters.

        Small images teach the coarse features at a fraction of the cost (progressive learning, Tan and Le 2021,
        arXiv:2104.00298). Evaluation and export always use `size`. `progress` is the fraction that is done.
        """
        grown = self.start_size + (self.end_size - self.start_size) * min(1.0, progress / 0.75)
        self.training_size = round(grown / 8) * 8 if grown < self.end_size else self.end_size

    def train(self, mode: bool = True) -> "Transfer":
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def features(self, pixels: Tensor) -> Tensor:
        """The input of the head, shape (batch, features)."""
        if pixels.shape[1] == 1:
            pixels = pixels.expand(-1, 3, -1, -1)
        size = self.training_size if self.training else self.size
        if size and pixels.shape[2:] != (size, size):
            pixels = F.interpolate(pixels, (size, size), mode="bilinear", align_corners=False)
        features: Tensor = self.backbone(self.normalize(pixels))
        return features.mean((2, 3)) if features.ndim == 4 else features

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits, of pixels or of what `features` gave for them."""
        features = self.features(pixels) if pixels.ndim == 4 else pixels
        return self.head(self.dropout(features))


class ClassifierGraph(nn.Module):
    """What is exported: uint8 pixels (batch, height, width, channels) to probabilities (batch, classes).

    With `flip`, the logits are averaged over the image and its mirror image.
    """

    def __init__(self, network: nn.Module, scaling: Scaling, flip: bool = False) -> None:
        super().__init__()
        self.network = network
        self.scaling = ScalingLayer(scaling)
        self.flip = flip

    def forward(self, images: Tensor) -> Tensor:
        pixels = to_pixels(images)
        logits = mirrored(self.network, pixels) if self.flip else self.network(pixels)
        return torch.softmax(self.scaling(logits), dim=1)


def mirrored(network: nn.Module, pixels: Tensor) -> Tensor:
    """The logits, averaged over the images and their mirror images.

    Both pass through as one batch, so that an exported graph holds the network once.
    """
    logits: Tensor = network(torch.cat((pixels, pixels.flip(3))))
    return logits.unflatten(0, (2, -1)).mean(0)


def build(network: NetworkSettings, data: ImageData, seed: int) -> nn.Module:
    """The network, chosen already, its weights initialised from `seed` and from the training split."""
    torch.manual_seed(seed)
    classes = len(data.classes)
    if network.arch == "mlp":
        return MLP(Normalize.of(data.train), data.shape, classes, network.dropout)
    if network.arch == "cnn":
        cnn = CNN(Normalize.of(data.train), data.shape, classes, network.widths, network.depth, network.dropout)
        cnn.init_whiten(to_pixels(torch.from_numpy(sample(data.train))))
        return cnn
    backbone = load_backbone(network.backbone, network.weights)
    size, start_size, end_size = network.network_size or 0, network.start_size, None
    largest = max(data.shape[:2])
    if is_photographs(data):
        # Crops show things larger than evaluation does (Touvron et al. 2019, arXiv:1906.06423), and takes longer.
        end_size = round(max(size, largest) * CROP / 8) * 8
    if size <= largest:
        size = 0
    if backbone.size:
        size = start_size = end_size = backbone.size
    options = network.dropout, network.freeze or 0, start_size, network.freeze_norms, end_size
    return Transfer(backbone, size, classes, *options)
