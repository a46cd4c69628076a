"""What a text classifier learns, and how its graphs are judged: see `Learner` and `Evaluator`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from tokenizers import Tokenizer
from torch import Tensor, nn

from service.inference.session import Session
from service.tasks.text.reading import PAD, UNKNOWN
from training.classification.learner import label_figures
from training.engine.learner import Batch, Learner, Step
from training.engine.processes import in_parts
from training.export.calibration import Floats
from training.export.evaluator import LabelEvaluator, sample
from training.export.layers import Inputs
from training.text.data import Ids, TextData
from training.text.options import LossSettings
from training.text.tokenizer import to_ids

INPUT = "ids"

Texts = Sequence[Ids]
Array = npt.NDArray[Any]


class TextClassification(Learner):
    """Token ids of each training text and their labels, and of the texts that choose the epoch; see `Learner`."""

    unit = "texts"
    score = "accuracy"

    def __init__(
        self, train: Texts, labels: Ids, validation: Texts, validation_labels: Ids, classes: int, settings: LossSettings
    ) -> None:
        self._train = train
        self._labels = torch.from_numpy(labels)
        self._lengths = torch.tensor([len(ids) for ids in train])
        self._validation = (validation, torch.from_numpy(validation_labels))
        self._settings = settings
        counts = torch.bincount(self._labels, minlength=classes).clamp_min(1).float()
        weights = counts**-settings.balance
        # The mean weight of a text is 1, so that a learning rate means the same with and without balance.
        self._weights = weights * len(labels) / (weights * counts).sum()

    def __len__(self) -> int:
        return len(self._labels)

    def order(self, generator: torch.Generator, batch_size: int) -> Tensor:
        # Texts are sorted by length within chunks of 50 batches, so that batches still differ between epochs.
        chunks = torch.randperm(len(self), generator=generator).split(50 * batch_size)
        sorted_ = torch.cat([chunk[self._lengths[chunk].argsort(stable=True)] for chunk in chunks])
        whole = len(self) // batch_size
        batches = sorted_[: whole * batch_size].view(whole, batch_size)
        mixed = batches[torch.randperm(whole, generator=generator)].flatten()
        return torch.cat((mixed, sorted_[whole * batch_size :]))

    def batch(self, items: Tensor, epoch: int, rng: torch.Generator) -> Batch:
        return {"ids": padded([self._train[item] for item in items.tolist()]), "labels": self._labels[items]}

    def loss(self, network: nn.Module, batch: Batch, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        ids, target = batch["ids"], batch["labels"]
        lost = torch.rand(ids.shape, generator=step.rng, device=step.device) < self._settings.word_dropout
        ids = ids.masked_fill(lost & (ids != PAD), UNKNOWN)
        outputs = network(ids).float()  # of every encoder
        encoders = outputs.shape[1]
        smoothing, repeated = self._settings.label_smoothing, target.repeat_interleave(encoders)
        each = F.cross_entropy(outputs.flatten(0, 1), repeated, label_smoothing=smoothing, reduction="none")
        loss = (each.view(-1, encoders).mean(1) * self._weights.to(step.device)[target]).mean()
        return loss, label_figures(outputs.detach().mean(1), target)

    def validate(self, network: nn.Module, accelerator: Accelerator) -> dict[str, float]:
        texts, target = self._validation
        with accelerator.autocast():
            parts = in_parts(accelerator, len(texts), lambda some: list(predict(network, [texts[i] for i in some])))
        figures = label_figures(torch.from_numpy(np.stack(parts)), target)
        return {"loss": figures["cross_entropy"].item(), "accuracy": figures["accuracy"].item()}


class TextEvaluator(LabelEvaluator):
    """See `LabelEvaluator`; the inputs are token ids. `tokenizer` truncates to `length`, and knows `words`."""

    def __init__(self, data: TextData, tokenizer: Tokenizer) -> None:
        train, validation, test = (to_ids(tokenizer, part.texts) for part in (data.train, data.validation, data.test))
        super().__init__(data, (train, validation, test), [validation[index] for index in data.division[0]])
        self.tokenizer = tokenizer
        truncation: Any = tokenizer.truncation
        self.length = int(truncation["max_length"])
        self.words: int = tokenizer.get_vocab_size()

    def answers(self, graph: Path, items: Texts) -> Floats:
        return run_texts(graph, items)[0]

    def calibration(self, count: int) -> list[Inputs]:
        texts = [self.train[index] for index in sample(count, len(self.train))]
        return [{INPUT: padded([texts[index] for index in part]).numpy()} for part in in_order_of_length(texts)]

    def examples(self, count: int) -> Inputs:
        return {INPUT: padded(self.selected[:count]).numpy()}


def padded(texts: Texts) -> Tensor:
    """Token ids as one tensor, int64, shape (texts, longest), padded at the end."""
    return nn.utils.rnn.pad_sequence([torch.from_numpy(ids) for ids in texts], batch_first=True, padding_value=PAD)


def in_order_of_length(texts: Texts) -> list[Ids]:
    """The indices of the texts in batches of similar length, the shortest first."""
    order = np.argsort([len(ids) for ids in texts], kind="stable")
    return [order[start : start + 64] for start in range(0, len(order), 64)]


def compute_texts(texts: Texts, compute: Callable[[Tensor], Sequence[Array]]) -> list[Array]:
    """What `compute` makes of batches of similar length, in the order of the texts."""
    parts = in_order_of_length(texts)
    outputs = [compute(padded([texts[index] for index in part])) for part in parts]
    back = np.argsort(np.concatenate(parts))
    return [np.concatenate(output)[back] for output in zip(*outputs, strict=True)]


@torch.no_grad()
def predict(network: nn.Module, texts: Texts) -> npt.NDArray[np.float32]:
    """Logits, shape (texts, classes), in the order of the texts."""
    network.eval()
    device = next(network.parameters()).device
    return compute_texts(texts, lambda ids: (network(ids.to(device)).float().cpu().numpy(),))[0]


def run_texts(graph: Path, texts: Texts) -> list[Array]:
    """A graph's outputs for texts, in their order."""
    session = Session(graph, "cpu")
    return compute_texts(texts, lambda ids: session.run({INPUT: ids.numpy()}))
