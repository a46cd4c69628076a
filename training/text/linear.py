"""A linear support vector machine on tf-idf, the baseline, and a part of the graph where that helps."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.svm import LinearSVC
from torch import Tensor, nn

from service.tasks.text.reading import PAD, UNKNOWN
from training.export.calibration import Floats, cross_fitting, fit_temperature
from training.text.data import Ids

# Of a decision value beside a log-probability of the network; 0 leaves the linear classifier out.
WEIGHTS = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0)


class LinearClassifier(nn.Module):
    """Decision values of a linear classifier on tf-idf (Joachims 1998).

    `idf` has the shape (words,), and is 0 for what does not count; `weights` (words, classes); `bias` (classes,).
    """

    idf: Tensor
    bias: Tensor

    def __init__(self, idf: Floats, weights: Floats, bias: Floats) -> None:
        super().__init__()
        self.register_buffer("idf", torch.from_numpy(idf))
        self.register_buffer("bias", torch.from_numpy(bias))
        self.votes = nn.Embedding.from_pretrained(torch.from_numpy(idf[:, None] * weights))

    def forward(self, ids: Tensor) -> Tensor:
        """Shape (batch, classes), for token ids, int64, shape (batch, time), padded with 0 at the end."""
        # Sublinear term frequency: a word that a text has n times counts 1 + ln n times, divided among its n positions.
        count = (ids[:, :, None] == ids[:, None, :]).float().sum(-1)
        frequency = (1 + count.log()) / count
        length = ((frequency * self.idf[ids]).square() * count).sum(1, keepdim=True).sqrt()
        return (self.votes(ids) * (frequency / length.clamp_min(1e-6))[..., None]).sum(1) + self.bias


def fit_linear(texts: Sequence[Ids], labels: Ids, words: int, classes: int) -> LinearClassifier:
    """A support vector machine of the training texts, one class against the rest; every class must have a text."""
    rows = np.repeat(np.arange(len(texts)), [len(ids) for ids in texts])
    columns = np.concatenate(texts)
    known = (columns != PAD) & (columns != UNKNOWN)
    # How often each text has each known word: entries for the same position are added up.
    counts = csr_matrix((known[known].astype(float), (rows[known], columns[known])), (len(texts), words))
    tfidf = TfidfTransformer(sublinear_tf=True)
    features = tfidf.fit_transform(counts)
    idf = tfidf.idf_.copy()
    idf[[PAD, UNKNOWN]] = 0
    of_class = np.bincount(labels, minlength=classes)
    # Without weights, rare classes are hardly ever predicted. Their mean is 1, so that C means the same for any number.
    weights = of_class**-0.5
    weights *= len(labels) / (weights * of_class).sum()
    machine = LinearSVC(C=0.5, class_weight=dict(enumerate(weights)), random_state=0).fit(features, labels)
    coefficients, bias = machine.coef_, machine.intercept_
    if classes == 2:  # a single machine tells them apart
        coefficients, bias = np.concatenate((-coefficients, coefficients)) / 2, np.concatenate((-bias, bias)) / 2
    return LinearClassifier(*(array.astype(np.float32) for array in (idf, coefficients.T, bias)))


@torch.no_grad()
def decide(linear: LinearClassifier, texts: Sequence[Ids]) -> Floats:
    """The decision values of texts of any length, shape (texts, classes)."""
    return np.concatenate([linear(torch.from_numpy(ids)[None]).numpy() for ids in texts])


def choose_weight(logits: Floats, decisions: Floats, labels: Ids) -> float:
    """The weight of the decision values for which logits plus weighted decisions make the labels most likely.

    The temperature of the sum is cross-fitted: the labels of each fold are scored at the temperature of the others.
    """

    def loss(weight: float) -> float:
        both = logits + np.float32(weight) * decisions
        temperatures = np.ones((len(labels), 1), np.float32)
        for others, fold in cross_fitting(len(labels)):
            temperatures[fold] = fit_temperature(both[others], labels[others])
        return F.cross_entropy(torch.from_numpy(both / temperatures), torch.from_numpy(labels)).item()

    return min(WEIGHTS, key=loss)
