"""A linear support vector machine on n-grams of tokens: it chooses the vocabulary, and votes in the graph."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.svm import LinearSVC
from torch import Tensor, nn

from service.tasks.text.reading import PAD, UNKNOWN
from training.export.calibration import Floats, cross_fitting, fit_temperature
from training.text.data import Ids
from training.text.learner import compute_texts

# Up to which length runs of tokens vote. Longer ones help with parts of words, and hurt with few texts of a class.
ORDERS = (2, 3, 4)
# N-grams share so many buckets for each order (feature hashing, Weinberger et al. 2009); both numbers are prime.
_BUCKETS, _FACTOR = 2**19 - 1, 40_503_007
# An n-gram of several tokens in fewer texts does not vote; neither do the rarest beyond so many votes, which are stored
# in half precision.
_FEWEST_TEXTS, _MOST_VOTES = 2, 2**22
# The graph compares every two tokens of a text. Longer texts would take gigabytes.
MOST_TOKENS = 1_024
# Of a decision value beside a log-probability of the network; 0 leaves the linear classifier out.
WEIGHTS = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0)
# So many held-out texts tell which of two vocabularies is better.
_ENOUGH = 1_000


@dataclass(frozen=True, slots=True)
class Votes:
    """How the network's logits and the decision values are added up: `network` is 1, or 0 to leave the network out."""

    network: float = 1.0
    linear: float = 0.0

    def __call__(self, logits: Floats, decisions: Floats) -> Floats:
        """The weighted sum, shape (texts, classes)."""
        return np.float32(self.network) * logits + np.float32(self.linear) * decisions


NETWORK_ALONE = Votes()
# With this weight a temperature near 1 makes probabilities of decision values.
LINEAR_ALONE = Votes(0.0, 8.0)


class LinearClassifier(nn.Module):
    """Decision values of a linear classifier on tf-idf of n-grams of tokens (Joachims 1998).

    `rows` maps each token and each bucket of longer n-grams to its row, 0 for what does not count; the shape is (words
    + buckets,). `idf` has the shape (rows,), and is 0 in the first row; `weights` (rows, classes); `bias` (classes,).
    """

    rows: Tensor
    idf: Tensor
    votes: Tensor
    bias: Tensor

    def __init__(
        self, words: int, orders: int, rows: npt.NDArray[np.int32], idf: Floats, weights: Floats, bias: Floats
    ) -> None:
        super().__init__()
        self.words, self.orders = words, orders
        self.register_buffer("rows", torch.from_numpy(rows))
        self.register_buffer("idf", torch.from_numpy(idf))
        self.register_buffer("votes", torch.from_numpy(idf[:, None] * weights).half())
        self.register_buffer("bias", torch.from_numpy(bias))

    def forward(self, ids: Tensor) -> Tensor:
        """Shape (batch, classes), for token ids, int64, shape (batch, time), padded with 0 at the end."""
        each = [(self.rows[keys] * counted).long() for keys, counted in n_grams(ids, self.words, self.orders)]
        count = torch.stack([(row[:, :, None] == row[:, None, :]).float().sum(-1) for row in each])
        rows = torch.stack(each)  # (orders, batch, time)
        # Sublinear term frequency: what a text has n times counts 1 + ln n times, divided among its n positions.
        frequency = (1 + count.log()) / count
        length = ((frequency * self.idf[rows]).square() * count).sum((0, 2)).sqrt()
        votes = (self.votes[rows].float() * frequency[..., None]).sum((0, 2))
        return votes / length.clamp_min(1e-6)[:, None] + self.bias


def n_grams(ids: Tensor, words: int, orders: int) -> Iterator[tuple[Tensor, Tensor]]:
    """For each order the n-gram that starts at each token, as a key, and whether it counts: it has only known tokens.

    Both have the shape of `ids`, (…, time). A single token is its own key; longer n-grams have `words` and more.
    """
    keys, counted = ids, ids > UNKNOWN
    yield keys, counted
    for order in range(2, orders + 1):
        following = F.pad(ids, (0, order - 1), value=PAD)[..., order - 1 :]
        counted = counted & (following > UNKNOWN)
        keys = (keys * _FACTOR + following) % _BUCKETS
        yield words + (order - 2) * _BUCKETS + keys, counted


def count_n_grams(texts: Sequence[Ids], words: int, orders: int) -> csr_matrix:
    """How often each text has each key of `n_grams`, shape (texts, keys)."""
    apart = np.full(orders - 1, PAD)
    flat = np.concatenate([part for ids in texts for part in (ids, apart)])
    text = np.repeat(np.arange(len(texts)), [len(ids) + len(apart) for ids in texts])
    grams = n_grams(torch.from_numpy(flat), words, orders)
    found = [(keys[counted].numpy(), text[counted.numpy()]) for keys, counted in grams]
    columns, rows = (np.concatenate(parts) for parts in zip(*found, strict=True))
    # Entries for the same position are added up.
    return csr_matrix((np.ones(len(rows)), (rows, columns)), (len(texts), words + (orders - 1) * _BUCKETS))


@dataclass(frozen=True, slots=True)
class _Machine:
    """A support vector machine on tf-idf of the n-grams with these keys."""

    keys: Ids
    tfidf: TfidfTransformer
    machine: LinearSVC

    @classmethod
    def fit(cls, counts: csr_matrix, labels: Ids, words: int, classes: int) -> "_Machine":
        texts = np.bincount(counts.indices, minlength=counts.shape[1])
        often = np.flatnonzero((texts >= _FEWEST_TEXTS) | ((texts > 0) & (np.arange(len(texts)) < words)))
        often = often[np.argsort(-texts[often], kind="stable")][: _MOST_VOTES // classes]
        keys = np.sort(often) if len(often) else np.array([UNKNOWN])  # which no text has
        tfidf = TfidfTransformer(sublinear_tf=True)
        features = tfidf.fit_transform(counts[:, keys])
        present, of_class = np.unique(labels, return_counts=True)
        # Without weights, rare classes are hardly ever predicted. Their mean is 1, so that C means the same for any
        # number.
        weights = of_class**-0.5
        weights *= len(labels) / (weights * of_class).sum()
        machine = LinearSVC(C=0.5, class_weight=dict(zip(present.tolist(), weights, strict=True)), random_state=0)
        return cls(keys, tfidf, machine.fit(features, labels))

    def predict(self, counts: csr_matrix) -> Ids:
        predicted: Ids = self.machine.predict(self.tfidf.transform(counts[:, self.keys]))
        return predicted


def fit_linear(texts: Sequence[Ids], labels: Ids, words: int, classes: int, orders: int) -> LinearClassifier:
    """A support vector machine of the training texts, one class against the rest; every class must have a text."""
    fitted = _Machine.fit(counts := count_n_grams(texts, words, orders), labels, words, classes)
    coefficients, bias = fitted.machine.coef_, fitted.machine.intercept_
    if classes == 2:  # a single machine tells them apart
        coefficients, bias = np.concatenate((-coefficients, coefficients)) / 2, np.concatenate((-bias, bias)) / 2
    rows = np.zeros(counts.shape[1], np.int32)
    rows[fitted.keys] = np.arange(1, len(fitted.keys) + 1)
    idf = np.append(0, fitted.tfidf.idf_)
    weights = np.concatenate((np.zeros((1, classes)), coefficients.T))
    return LinearClassifier(words, orders, rows, *(array.astype(np.float32) for array in (idf, weights, bias)))


def held_out_accuracy(texts: Sequence[Ids], labels: Ids, words: int, classes: int, orders: int) -> float:
    """The accuracy of the support vector machine on held-out training texts.

    Of five folds, so many are held out in turn that there are at least `_ENOUGH` texts.
    """
    counts = count_n_grams(texts, words, orders)
    folds = np.array_split(np.random.default_rng(0).permutation(len(labels)), 5)
    folds = folds[: math.ceil(_ENOUGH / max(1, len(folds[0])))]
    right = []
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(labels)), fold)
        if len(np.unique(labels[rest])) > 1:
            machine = _Machine.fit(counts[rest], labels[rest], words, classes)
            right.append(machine.predict(counts[fold]) == labels[fold])
    return float(np.concatenate(right).mean()) if right else 0.0


@torch.no_grad()
def decide(linear: LinearClassifier, texts: Sequence[Ids]) -> Floats:
    """The decision values of texts, shape (texts, classes)."""
    (decisions,) = compute_texts(texts, lambda ids: (linear(ids).numpy(),))
    return decisions


def choose_votes(logits: Floats, decisions: Floats, labels: Ids) -> Votes:
    """Those for which the weighted sum makes the labels most likely, without being less accurate than either alone.

    The temperature of the sum is cross-fitted: the labels of each fold are scored at the temperature of the others.
    """

    def loss(votes: Votes) -> float:
        both = votes(logits, decisions)
        temperatures = np.ones((len(labels), 1), np.float32)
        for others, fold in cross_fitting(len(labels)):
            temperatures[fold] = fit_temperature(both[others], labels[others])
        return F.cross_entropy(torch.from_numpy(both / temperatures), torch.from_numpy(labels)).item()

    def right(votes: Votes) -> int:
        return int((votes(logits, decisions).argmax(1) == labels).sum())

    candidates = [*(Votes(linear=weight) for weight in WEIGHTS), LINEAR_ALONE]
    least = max(right(NETWORK_ALONE), right(LINEAR_ALONE))
    return min((votes for votes in candidates if right(votes) >= least), key=loss)
