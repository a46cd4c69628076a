"""How networks are trained: settings, of nothing that takes long to import."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How a network is trained.

    Attributes:
        epochs: passes over the training split.
        batch_size: items per step, over all devices together.
        optimizer: `sgd` (Nesterov momentum 0.9) or `adamw`.
        lr: the peak learning rate (of the head, if the backbone has a rate of its own).
        backbone_lr: the peak learning rate of pretrained parameters; None for that of the others.
        weight_decay: of every parameter of two or more dimensions.
        warmup: the fraction of the steps in which the rate rises linearly; then it falls linearly to 0.
        clip: the gradient is clipped to this norm, taken over all parameters; 0 for no clipping.
        ema: decay per step of the averaged weights that are evaluated and kept; 0 turns averaging off. It is smaller
            in the first steps, so that a short training is not judged by its initial weights.
        seed: of initial weights, order and augmentation.
        patience: the epochs without a better validation score after which the training ends early; 0 for never.

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
        if self.seed < 0:
            raise ValueError(f"--seed {self.seed}: must be at least 0")
        if self.patience < 0:
            raise ValueError(f"--patience {self.patience}: must be at least 0")
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(f"{self.epochs} epochs in batches of {self.batch_size}: a training needs one of each")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"--warmup {self.warmup:g}: must be at least 0 and less than 1")
        if not 0 <= self.ema < 1:
            raise ValueError(f"--ema {self.ema:g}: must be at least 0 and less than 1")
