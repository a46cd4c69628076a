"""What a dense network learns from a table. See `Learner`."""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from training.engine.learner import Batch, Learner, Step
from training.engine.processes import in_parts
from training.tabular.data import TabularSplit
from training.tabular.encoding import Floats
from training.tabular.profile import Kind


class Rows(Learner):
    """See `Learner`.

    Args:
        train: the rows to learn from; numeric targets are standardised by their mean and standard deviation.
        validation: the rows that choose the epoch.
        kind: of the target.
    """

    unit = "rows"
    score = "score"

    def __init__(self, train: TabularSplit, validation: TabularSplit, kind: Kind) -> None:
        self._kind = kind
        mean, std = target_scale(train, kind) or (0, 1)
        self._rows, self._validation = torch.from_numpy(train.rows), validation.rows
        self._targets, self._validation_targets = (
            torch.from_numpy(split.targets if kind == "classification" else (split.targets - mean) / std)
            for split in (train, validation)
        )

    def __len__(self) -> int:
        return len(self._targets)

    def batch(self, items: Tensor, epoch: int, rng: torch.Generator) -> Batch:
        """See `Learner`."""
        return {"rows": self._rows[items], "targets": self._targets[items]}

    def loss(self, network: nn.Module, batch: Batch, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Learner`."""
        return self._loss(network(batch["rows"]).float(), batch["targets"]), {}

    def validate(self, network: nn.Module, accelerator: Accelerator) -> dict[str, float]:
        """See `Learner`."""
        rows, targets = self._validation, self._validation_targets
        with accelerator.autocast():
            outputs = in_parts(accelerator, len(rows), lambda indices: list(predict(network, rows[indices])))
        predicted = torch.from_numpy(np.stack(outputs))
        loss = self._loss(predicted, targets).item()
        figures = {"loss": loss, "score": float(np.exp(-loss))}
        if self._kind == "classification":
            figures["accuracy"] = (predicted.argmax(1) == targets).double().mean().item()
        return figures

    def _loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy, or the mean squared error of standardised numbers."""
        if self._kind == "classification":
            return F.cross_entropy(outputs, targets)
        return F.mse_loss(outputs.squeeze(1), targets)


def target_scale(train: TabularSplit, kind: Kind) -> tuple[float, float] | None:
    """Mean and standard deviation of a numeric target; None for classes."""
    if kind == "classification":
        return None
    return float(train.targets.mean()), max(float(train.targets.std()), 1e-12)


@torch.no_grad()
def predict(network: nn.Module, rows: Floats) -> npt.NDArray[np.float32]:
    """The network's outputs, shape (n, outputs)."""
    network.eval()
    device = next(network.parameters()).device
    outputs: npt.NDArray[np.float32] = network(torch.from_numpy(rows).to(device)).float().cpu().numpy()
    return outputs
