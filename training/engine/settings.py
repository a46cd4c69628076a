"""How networks are trained: settings, without anything that takes long to import."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How a network is trained; `training.options.FitOptions` describes what both have.

    Attributes:
        backbone_lr: the peak learning rate of pretrained parameters; None for that of the others.
        clip: the gradient is clipped to this norm, taken over all parameters; 0 for no clipping.
        ema: decay per step of the averaged weights; it is smaller in the first steps, so that a short training is not
            judged by its initial weights.

    Raises:
        ValueError: a setting is out of range.
    """

    epochs: int
    batch_size: int = 512
    optimizer: str = "sgd"
    lr: float = 0.4
    backbone_lr: float | None = None
    weight_decay: float = 5e-4
    warmup: float = 0.2
    clip: float = 0.0
    ema: float = 0.99
    seed: int = 0
    patience: int = 0

    def __post_init__(self) -> None:
        for name in ("seed", "patience"):
            if getattr(self, name) < 0:
                raise ValueError(f"--{name} {getattr(self, name)}: must be at least 0")
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(f"{self.epochs} epochs in batches of {self.batch_size}: a training needs one of each")
        for name in ("warmup", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"--{name} {getattr(self, name):g}: must be at least 0 and less than 1")
