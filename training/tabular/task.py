"""What a dense network learns from a table: See `Learner`."""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from training.engine.learner import Batch, Learner, Step
from training.tabular.data import TabularSplit
from training.tabular.encoding import Floats
from training.tabular.profile import Kind


class Rows(Learner):
    """See `Learner`.

    Args:
        train: the rows to learn from; numeric targets are standardised.
        validation: the rows that choose the epoch.
        kind: of the target.
    """

    unit = "rows"
    score = "score"

    def __init__(self, train: TabularSplit, validation: TabularSplit, kind: Kind) -> None:
        self._rows = torch.from_numpy(train.rows)
        self._targets = torch.from_numpy(train.targets)
        self._validation = validation
        self._kind = kind

    def __len__(self) -> int:
        return len(self._targets)

    def batch(self, items: Tensor, epoch: int, rng: torch.Generator) -> Batch:
        """See `Learner`."""
        return {"rows": self._rows[items], "targets": self._targets[items]}

    def loss(self, network: nn.Module, batch: Batch, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Learner`."""
        return loss_of(network(batch["rows"]).float(), batch["targets"], self._kind), {}

    def validate(self, network: nn.Module, accelerator: Accelerator) -> dict[str, float]:
        """See `Learner`."""
        with accelerator.autocast():
            outputs = torch.from_numpy(predict(network, self._validation.rows))
        loss = loss_of(outputs, torch.from_numpy(self._validation.targets), self._kind).item()
        figures = {"loss": loss, "score": float(np.exp(-loss))}
        if self._kind == "classification":
            figures["accuracy"] = float((outputs.argmax(1).numpy() == self._validation.targets).mean())
        return figures


def loss_of(outputs: Tensor, targets: Tensor, kind: Kind) -> Tensor:
    """Cross-entropy, or the mean squared error of standardised numbers."""
    if kind == "classification":
        return F.cross_entropy(outputs, targets)
    return F.mse_loss(outputs.squeeze(1), targets.float())


@torch.no_grad()
def predict(network: nn.Module, rows: Floats) -> npt.NDArray[np.float32]:
    """The network's outputs, shape (n, outputs)."""
    network.eval()
    device = next(network.parameters()).device
    outputs: npt.NDArray[np.float32] = network(torch.from_numpy(rows).to(device)).float().cpu().numpy()
    return outputs
