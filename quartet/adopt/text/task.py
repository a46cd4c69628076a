"""`quartet adopt --task text`: classifiers of texts that were exported with a `tokenizer.json`, as by Hugging Face.

The service sends token ids with 0 as padding at the end. The composed graph maps them to the ids of the original, adds
the special tokens before and after each text, and makes the attention mask.
"""

import argparse
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from onnx import ModelProto

from quartet.adopt.base import AdoptTask, Proposal
from quartet.adopt.composition import Composition, element_of, row_runner
from quartet.adopt.graph import Array, CannotAdopt, Loaded, Value, declare, inputs_of, outputs_of
from quartet.adopt.labels import labels_of
from quartet.adopt.samples import Samples
from quartet.adopt.text.vocabulary import Vocabulary, read_json, read_vocabulary
from service.inference.cards import ManifestBase
from service.tasks.text.manifest import TOKENIZER, TextManifest
from service.tasks.text.reading import PAD, UNKNOWN, read_text

Ids = Array

_IDS, _MASK, _KINDS = "input_ids", "attention_mask", "token_type_ids"
# The operators that are added take their axes as inputs since this opset.
_LEAST_OPSET = 13
# Golden texts, and the most tokens of one.
_GOLDEN, _GOLDEN_LENGTH = 16, 64
_LENGTHS = (1, 2, 3, 5, 8, 13, 21, 34, 64)
_MOST_SAMPLE_BYTES = 2**20
# How far padding may move a probability.
_TOLERANCE = 1e-3
_SUM_TOLERANCE = 1e-3
_SEED = 0


class _Texts(NamedTuple):
    """Golden texts.

    Attributes:
        ids: of each, int64, shape (tokens,).
        kind: whether they were given.
        example: a text for the command that is printed.
    """

    ids: list[Ids]
    kind: Literal["given", "random"]
    example: str


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a text classifier."""
    parser.add_argument(
        "--tokenizer", type=Path, metavar="FILE", help="the tokenizer.json (default: the one beside the graph)"
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="the labels, one a line, or a config.json with id2label (default: the config.json beside the tokenizer)",
    )


def propose(loaded: Loaded, options: argparse.Namespace) -> Proposal:
    """A graph that answers at `/v1/classify-text`; see `AdoptTask`."""
    if options.ranges:
        raise CannotAdopt("range", "--range is of plain tensors: token ids come from the tokenizer.")
    path = options.tokenizer or options.file.with_name(TOKENIZER)
    if not path.is_file():
        raise CannotAdopt("tokenizer", f"There is no {path}: give the model's tokenizer.json with --tokenizer FILE.")
    config = read_json(path.with_name("config.json"))
    if config.get("problem_type") == "multi_label_classification":
        raise CannotAdopt(
            "several labels", "The config.json says that a text may have several labels; the service gives one of them."
        )
    vocabulary = read_vocabulary(path, config)
    width = _check_inputs(loaded.model)
    model = compose_inputs(loaded.model, vocabulary, width)
    run = row_runner(model, loaded.source.file)
    limits = [options.max_length, *([vocabulary.limit] if vocabulary.limit else []), *([width] if width else [])]
    longest = _longest(run, vocabulary, min(limits) - vocabulary.added)
    drawn = _draw_texts(vocabulary, longest)
    texts = _read_texts(options.samples, vocabulary, longest) if options.samples else drawn
    value, scores = _scores(model, run(_padded(texts.ids)))
    labels = _labels(loaded, options.labels, path, scores.shape[1])
    probable = _are_probabilities(scores)
    composed = compose_answer(model, value, len(labels), softmax=not probable)
    moved = _effect_of_padding(row_runner(composed, loaded.source.file), drawn.ids)
    padding_matters = moved > _TOLERANCE
    golden = _padded(_of_one_length(texts.ids) if padding_matters else texts.ids)
    changes = [
        f"one input ids, with 0 as padding, instead of {', '.join(each.name for each in inputs_of(loaded.model))}; "
        f"{vocabulary.added} special tokens are added to each text",
        f"output {value.name}: " + ("probabilities, as they were" if probable else "softmax makes probabilities of it"),
    ]
    if vocabulary.neutral:
        changes.append(
            f"the tokenizer has no unknown token: explanations replace a word by {vocabulary.neutral} instead"
        )

    def make_manifest(fields: Mapping[str, Any]) -> ManifestBase:
        described = f"{len(labels)} labels of texts of up to {longest} tokens ({loaded.source.file}, trained elsewhere)"
        return TextManifest(
            **{**fields, "description": described},
            labels=labels,
            max_length=longest,
            words=len(vocabulary.own_ids),
        )

    def write(folder: Path, _manifest: ManifestBase) -> None:
        vocabulary.tokenizer.save(str(folder / TOKENIZER))

    return Proposal(
        loaded.changed(composed, *changes),
        Samples.of_rows({composed.graph.input[0].name: golden}, texts.kind),
        make_manifest,
        # The probabilities of texts with the same label may be all but equal.
        trials=Samples.of_rows({composed.graph.input[0].name: _padded(drawn.ids)}, drawn.kind),
        alone=f"padding moves a probability of a text by up to {moved:.2g}" if padding_matters else None,
        rows=True,
        sections=(_described(labels, longest),),
        write=write,
        call=_call(texts.example, options.name),
    )


TEXT = AdoptTask("token ids of texts, to labels", add_options, propose)


def _check_inputs(model: ModelProto) -> int | None:
    """The length that the graph states for texts, special tokens included; None if it is open."""
    inputs = {value.name: value for value in inputs_of(model)}
    strange = inputs.keys() - {_IDS, _MASK, _KINDS}
    if _IDS not in inputs or strange:
        said = f"it also takes {', '.join(sorted(strange))}" if _IDS in inputs else f"it takes {', '.join(inputs)}"
        raise CannotAdopt(
            "inputs", f"A text classifier takes {_IDS}, and at most {_MASK} and {_KINDS}; {said}: export it without."
        )
    for name, value in inputs.items():
        if value.dtype == "str" or len(value.shape or ()) != 2:
            raise CannotAdopt("inputs", f"The input {name!r} must be numbers of the shape (batch, length).")
    versions = [each.version for each in model.opset_import if each.domain in ("", "ai.onnx")]
    if max(versions, default=0) < _LEAST_OPSET:
        raise CannotAdopt("opset", f"The graph has opset {max(versions, default=0)}: export it with 13 or a later one.")
    length = (inputs[_IDS].shape or ("", ""))[1]
    return length if isinstance(length, int) else None


def compose_inputs(model: ModelProto, vocabulary: Vocabulary, width: int | None) -> ModelProto:
    """The graph with one input: token ids of the served tokenizer, int64, shape (batch, length), 0 as padding.

    Args:
        model: the graph.
        vocabulary: the served tokenizer.
        width: the length of the graph's own input, if it is fixed.
    """
    composition = Composition(model)
    add, constant = composition.before, composition.constant
    ids = composition.name("ids", "token_ids")
    before, after = len(vocabulary.before), len(vocabulary.after)
    zero, one = (constant(np.array([number], np.int64)) for number in (0, 1))
    # As long as the original's text: the special tokens have places, before they are known.
    right = constant(np.array([after], np.int64))
    if width is not None:
        length = add("Gather", add("Shape", ids), one, axis=0)
        right = add("Sub", constant(np.array([width - before], np.int64)), length)
    amounts = add("Concat", constant(np.array([0, before, 0], np.int64)), right, axis=0)
    padded = add("Pad", ids, amounts, constant(np.int64(PAD)))
    own = add("Gather", constant(np.array(vocabulary.own_ids, np.int64)), padded, axis=0)
    total = add("Reshape", add("Gather", add("Shape", padded), one, axis=0), constant(np.array([], np.int64)))
    places = add("Range", constant(np.int64(0)), total, constant(np.int64(1)))
    real = add("Cast", add("Not", add("Equal", ids, zero)), to=element_of("int64"))
    # Shape (batch, 1).
    end = add("Add", add("ReduceSum", real, one, keepdims=1), constant(np.int64(before)))
    for place, token in enumerate(vocabulary.before):
        here = add("Equal", places, constant(np.int64(place)))
        own = add("Where", here, constant(np.int64(token)), own)
    for offset, token in enumerate(vocabulary.after):
        here = add("Equal", places, add("Add", end, constant(np.int64(offset))))
        own = add("Where", here, constant(np.int64(token)), own)
    mask = add("Cast", add("Less", places, add("Add", end, constant(np.int64(after)))), to=element_of("int64"))
    parts = {_IDS: own, _MASK: mask, _KINDS: add("Sub", own, own)}
    for value in inputs_of(model):
        add("Cast", parts[value.name], output=value.name, to=element_of(value.dtype))
    return composition.finish([declare(ids, "int64", ["batch", "length"])], model.graph.output)


def compose_answer(model: ModelProto, value: Value, labels: int, *, softmax: bool) -> ModelProto:
    """The graph with one output: probabilities, float32, shape (batch, labels)."""
    composition = Composition(model)
    scores = composition.after("Cast", value.name, to=element_of("float32"))
    name = composition.name("probabilities", "label_probabilities")
    composition.after("Softmax" if softmax else "Identity", scores, output=name, **({"axis": -1} if softmax else {}))
    return composition.finish(list(model.graph.input), [declare(name, "float32", ["batch", labels])])


def _longest(run: Callable[[Ids], Any], vocabulary: Vocabulary, most: int) -> int:
    """The most tokens of a text that the graph runs, up to a limit."""
    usual = next(index for index in range(UNKNOWN + 1, len(vocabulary.own_ids)) if index not in vocabulary.special)
    failure = ""

    def runs(length: int) -> bool:
        nonlocal failure
        try:
            run(np.full((1, length), usual, np.int64))
        except Exception as error:  # the runtime's exceptions share no public base class
            failure = str(error)
            return False
        return True

    if most < 1 or not (runs(most) or runs(1)):
        why = failure or f"it reads {most + vocabulary.added} tokens, and {vocabulary.added} are special"
        raise CannotAdopt("invalid graph", f"The graph cannot run a text of one token: {why}.")
    if runs(most):
        return most
    least = 1
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if runs(middle) else (least, middle)
    return least


def _draw_texts(vocabulary: Vocabulary, longest: int) -> _Texts:
    """Random tokens, of many lengths."""
    random = np.random.default_rng(_SEED)
    usual = np.setdiff1d(np.arange(UNKNOWN + 1, len(vocabulary.own_ids)), [*vocabulary.special])
    lengths = [length for length in _LENGTHS if length <= longest]
    ids = [random.choice(usual, lengths[index % len(lengths)]) for index in range(_GOLDEN)]
    return _Texts(ids, "random", "A text to classify.")


def _read_texts(path: Path, vocabulary: Vocabulary, longest: int) -> _Texts:
    """The texts of a file, one a line."""
    try:
        if path.stat().st_size > _MOST_SAMPLE_BYTES:
            raise CannotAdopt("samples", f"{path} is larger than 1 MB: give a few texts, one a line.")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CannotAdopt("samples", f"{path} cannot be read as text, one a line: {error}") from None
    texts = [line.strip() for line in lines if line.strip()][:_GOLDEN]
    if not texts:
        raise CannotAdopt("samples", f"{path} holds no text: write one a line.")
    readings = [read_text(vocabulary.tokenizer, text, min(longest, _GOLDEN_LENGTH)) for text in texts]
    return _Texts([reading.ids for reading in readings], "given", texts[0])


def _padded(texts: Sequence[Ids]) -> Ids:
    padded = np.full((len(texts), max(map(len, texts))), PAD, np.int64)
    for row, ids in zip(padded, texts, strict=True):
        row[: len(ids)] = ids
    return padded


def _scores(model: ModelProto, answers: Sequence[Array]) -> tuple[Value, Array]:
    """The output with a score for each label."""
    every = list(zip(outputs_of(model), answers, strict=True))
    found = [each for each in every if each[0].dtype.startswith("float") and each[1].ndim == 2 and each[1].shape[1] > 1]
    found = [each for each in found if each[0].name == "logits"] or found
    if len(found) != 1:
        listed = ", ".join(f"{value.name} {list(array.shape)}" for value, array in every)
        raise CannotAdopt(
            "outputs",
            "A text classifier has one output of the shape (batch, labels), with two labels or more; this graph has "
            f"{listed}: export it for sequence classification.",
        )
    if not np.isfinite(found[0][1]).all():
        raise CannotAdopt("samples", "The graph answers with NaN or infinity: give real texts with --samples FILE.txt.")
    return found[0]


def _are_probabilities(scores: Array) -> bool:
    sums = scores.astype(np.float64).sum(1)
    return bool((scores >= 0).all() and (abs(sums - 1) < _SUM_TOLERANCE).all())


def _labels(loaded: Loaded, given: Path | None, tokenizer: Path, count: int) -> tuple[str, ...]:
    beside = tokenizer.with_name("config.json")
    path = given or (beside if "id2label" in read_json(beside) else None)
    labels, where = labels_of(path, loaded.source.metadata)
    if len(labels) != count:
        raise CannotAdopt(
            "labels",
            f"{where} has {len(labels)} labels; the graph has {count}: give the right ones with --labels FILE.",
        )
    return labels


def _effect_of_padding(run: Callable[[Ids], Sequence[Array]], texts: Sequence[Ids]) -> float:
    """How far a probability of a text moves beside longer texts, which pad it; infinity if it is NaN."""
    padded = _padded(texts)
    moved = 0.0
    for index, ids in enumerate(texts):
        (beside,), (alone,) = run(padded[index : index + 1]), run(ids[None])
        moved = max(moved, float(np.nan_to_num(np.abs(alone - beside), nan=np.inf).max()))
    return moved


def _of_one_length(texts: Sequence[Ids]) -> list[Ids]:
    """The texts of the length that most of them have, so that no golden text is padded."""
    lengths = sorted(map(len, texts))
    length = max(lengths, key=lengths.count)
    return [ids for ids in texts if len(ids) == length]


def _described(labels: Sequence[str], longest: int) -> str:
    """What is predicted, for the model card."""
    return (
        f"It gives a text one of {len(labels)} labels: {', '.join(labels)}. It reads up to {longest} tokens of a text. "
        "Its probabilities were not calibrated here."
    )


def _call(text: str, name: str) -> str:
    """A command that asks for the labels of a text."""
    body = shlex.quote(json.dumps({"texts": [text]}, ensure_ascii=False))
    return f"curl -d {body} -H 'Content-Type: application/json' 'localhost:8000/v1/classify-text?model={name}'"
