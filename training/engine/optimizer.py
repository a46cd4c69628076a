"""What moves the weights: the optimizer, its learning rate over time, and the average of the weights."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def make_optimizer(
    model: nn.Module, kind: str, lr: float, backbone_lr: float | None, weight_decay: float
) -> torch.optim.Optimizer:
    """Groups: pretrained or not, with weight decay (matrices and filters) or without (biases, normalisation).

    Args:
        model: its method `pretrained`, if it has one, gives the parameters that are pretrained.
        kind: `sgd` or `adamw`.
        lr: the peak learning rate; each group has its own as `peak_lr`.
        backbone_lr: that of pretrained parameters; None for `lr`.
        weight_decay: of parameters of two or more dimensions.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    list_pretrained: Callable[[], Iterable[nn.Parameter]] = getattr(model, "pretrained", list)
    pretrained = {id(parameter) for parameter in list_pretrained()}
    for parameter in model.parameters():
        if parameter.requires_grad:
            rate = backbone_lr if backbone_lr is not None and id(parameter) in pretrained else lr
            decay = weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    params = [
        {"params": members, "lr": rate, "peak_lr": rate, "weight_decay": decay}
        for (rate, decay), members in groups.items()
    ]
    if kind == "adamw":
        return torch.optim.AdamW(params)
    return torch.optim.SGD(params, momentum=0.9, nesterov=True)


def schedule(progress: float, warmup: float) -> float:
    """The learning rate's factor at `progress` (0 to 1) of the training: a linear rise, then a linear fall to 0."""
    return (progress + 1e-3) / (warmup + 1e-3) if progress < warmup else (1 - progress) / (1 - warmup)


class Average(AveragedModel):
    """An exponential moving average of a model's weights, with a smaller decay per step in the first steps."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, multi_avg_fn=self._blend, use_buffers=True)
        self._most, self._decay = decay, decay

    def update(self, model: nn.Module, step: int) -> None:
        """Takes in the weights after `step` steps of the whole training, counted from 0.

        The count that `AveragedModel` hands to its averaging function lies on the device: reading it would wait for
        the device in every step.
        """
        self._decay = min(self._most, (1 + step) / (10 + step))
        self.update_parameters(model)

    def _blend(self, averages: Sequence[Tensor], newest: Sequence[Tensor], count: Tensor | int) -> None:
        get_ema_multi_avg_fn(self._decay)(list(averages), list(newest), count)
