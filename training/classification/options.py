"""The options of the recipe for an image classifier."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from training.engine.settings import FitSettings
from training.options import BackboneFitOptions, Options, changed

Arch = Literal["mlp", "cnn", "transfer"]

# Defaults for each architecture, sized for CIFAR-10 on two cores (the CNN takes 45 minutes in bfloat16); for
# photographs see `training.classification.choice`.
DEFAULTS: dict[Arch, FitSettings] = {
    "mlp": FitSettings(epochs=20, lr=0.1),
    "cnn": FitSettings(epochs=20),
    "transfer": FitSettings(
        epochs=8, batch_size=128, optimizer="adamw", lr=2e-3, backbone_lr=5e-4, weight_decay=0.02, ema=0.995, warmup=0.1
    ),
}
# Options that only one architecture has.
ONLY: dict[Arch, set[str]] = {
    "cnn": {"widths", "depth", "distill_features"},
    "transfer": {"backbone", "weights", "network_size", "start_size", "freeze", "freeze_norms", "backbone_lr"},
}


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The network.

    Attributes:
        arch: mlp, cnn or transfer (a pretrained backbone); auto chooses by the size and number of the images.
        widths: filters of each group of the CNN.
        depth: convolutions in each group of the CNN.
        dropout: of the last features (of every hidden layer of the MLP).
        backbone: of transfer: a timm model, torchvision:NAME, quartet:cnn, or package.module:NAME of any network.
        weights: where its pretrained weights come from: hub, package, none or a path.
        network_size: the side in pixels that transfer enlarges images to; 0 to leave them as they are; by default 224,
            or 128 for images of up to 64 pixels.
        start_size: the smaller side that its training starts with; by default 176, or 64 for images of up to 64 pixels.
        freeze: how many groups of layers of the backbone are frozen (the stem, then the stages); -1 for all; by default
            none, or with pretrained weights 3 for photographs, and all for fewer than 500 of them.
        freeze_norms: freeze the statistics of the batch normalisation of the backbone; always done for photographs
            with pretrained weights.
    """

    arch: Literal["auto", Arch] = "auto"
    widths: tuple[int, ...] = (64, 256, 256)
    depth: int = 3
    dropout: float = 0.0
    backbone: str = "tf_efficientnet_lite0"
    weights: str = "package"
    network_size: int | None = None
    start_size: int | None = None
    freeze: int | None = None
    freeze_norms: bool = False

    def __post_init__(self) -> None:
        if self.depth < 1 or min(self.widths, default=0) < 1:
            raise ValueError(f"--widths {self.widths} --depth {self.depth}: a network needs filters and layers")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"--dropout {self.dropout:g}: must be at least 0 and less than 1")


@dataclass(frozen=True, kw_only=True)
class AugmentOptions:
    """Augmentation.

    Attributes:
        augment: small (shifts and blanked squares), crop (random crops and colours) or trivial (crops, then
            TrivialAugment); by default crop for images over 64 pixels, trivial from 30 epochs on, small for others and
            for mlp.
        flip: mirror images left to right; not for digits and letters.
        cutout: side in pixels of the square that is blanked; by default 8, more in images over 32 pixels; 0 for mlp.
        cutmix: fraction of the batches whose images get a rectangle of another one; by default 0, or 0.25 for
            photographs in 30 epochs or more.
        mixup: fraction of the batches whose images are blended with another one; by default as cutmix.
    """

    augment: Literal["auto", "small", "crop", "trivial"] = "auto"
    flip: bool = True
    cutout: int | None = None
    cutmix: float | None = None
    mixup: float | None = None


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """The loss.

    Attributes:
        class_weights: balanced gives rare classes more weight in the loss; by default only if a class has ten times the
            images of another one.
        label_smoothing: probability mass that is spread over all classes.
        distill: weight of the prediction of the teacher in the loss; the label has the rest.
        distill_features: cnn: weight of the loss of the features of the teacher.
    """

    class_weights: Literal["auto", "balanced", "none"] = "auto"
    label_smoothing: float = 0.1
    distill: float = 0.7
    distill_features: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ClassificationOptions(Options):
    """Trains on images of classes.

    Attributes:
        data: a hub id, a URL, or a folder or archive with parquet, class folders, or a table of labels.
        encoding: of a table of labels, such as cp949; detected by default.
        image_size: side of the images in pixels; their own by default, or 224 if they are larger or differ.
        test_time_flip: average the prediction over an image and its mirror image when serving.
        interpolate: move the weights back towards --init-from if validation gains.
        teacher: a published version to learn from too, such as models/NAME/1.
    """

    data: str = "uoft-cs/cifar10"
    encoding: str | None = None
    image_size: int | None = None
    test_time_flip: bool = False
    interpolate: bool = False
    teacher: Path | None = None
    fit: BackboneFitOptions = field(default_factory=BackboneFitOptions)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    loss: LossOptions = field(default_factory=LossOptions)

    def __post_init__(self) -> None:
        loss = self.loss
        for option, value, most in (
            ("cutmix", self.augment.cutmix or 0, 1),
            ("mixup", self.augment.mixup or 0, 1),
            ("label-smoothing", loss.label_smoothing, 1),
            ("distill", loss.distill, 1),
            ("distill-features", loss.distill_features, 1e6),
        ):
            if not 0 <= value <= most:
                raise ValueError(f"--{option} {value:g}: must be at least 0 and at most {most:g}")

    def implied_arch(self) -> Arch | None:
        """The architecture that was asked for, or the only one that has the options given; None for any."""
        if self.network.arch != "auto":
            return self.network.arch
        given = changed(self)
        return next((arch for arch, names in ONLY.items() if names & given.keys()), None)

    def check(self) -> None:
        super().check()
        arch, given = self.implied_arch(), changed(self)
        for other, names in ONLY.items():
            for name in sorted(names & given.keys()):
                if arch and other != arch:
                    raise ValueError(f"--{name.replace('_', '-')} is for --arch {other}, not {arch}")
        for name, part in (("distill", "predictions"), ("distill_features", "features")):
            if name in given and not self.teacher:
                raise ValueError(f"--{name.replace('_', '-')} weights the {part} of a --teacher: name one")
        if self.interpolate and not self.init_from:
            raise ValueError("--interpolate moves back towards the weights of --init-from: name them")
        if self.fit.backbone_lr is not None and self.network.freeze == -1:
            raise ValueError("--backbone-lr has no effect while the backbone is frozen: leave out --freeze -1")
        defaults = sorted({DEFAULTS[each].optimizer for each in ([arch] if arch else DEFAULTS)})
        if self.fit.lr is None and self.fit.optimizer and [self.fit.optimizer] != defaults:
            needs = f"the default is for {' or '.join(defaults)}"
            raise ValueError(f"--optimizer {self.fit.optimizer} needs its own --lr: {needs}")
        if self.augment.augment in ("crop", "trivial") and self.augment.cutout:
            raise ValueError(f"--cutout is for --augment small, not {self.augment.augment}")
        if self.test_time_flip and not self.augment.flip:
            raise ValueError("--test-time-flip predicts mirror images, which --no-flip excludes from training")
