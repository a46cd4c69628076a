"""Topics of texts: a recurrent network over words or a pretrained transformer, on any data set of labelled texts.

From the data to a published version, top to bottom: load, tokenise, build, fit, evaluate, export, report.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from tokenizers import Tokenizer
from torch import nn

from service.inference.cards import GoldenCard
from service.inference.manifest import GOLDEN, MODEL
from service.tasks.text.manifest import TOKENIZER, TextManifest
from training.data.dataset import stratified_sample
from training.data.inspection import missed_classes
from training.data.recognise import Recognised, Source
from training.engine.fit import FitState
from training.engine.settings import FitSettings
from training.export import history
from training.export.calibration import Floats, fit_scaling
from training.export.cards import data_card, training_card
from training.export.graph import export, write_golden
from training.export.ood import OodData
from training.options import override
from training.recipe import Draft, Recipe
from training.report.plots import write_curves
from training.report.record import update_record
from training.report.samples import LINES, table_of
from training.run import Run
from training.text.data import TextData, load_with, recognise_texts
from training.text.evaluation import explain_mistakes
from training.text.evaluator import INPUT, TextEvaluator
from training.text.learner import TextClassification, padded, predict
from training.text.linear import WEIGHTS, choose_weight, decide, fit_linear
from training.text.network import TextGraph, TextNetwork
from training.text.ood import ood_data_from_texts
from training.text.operators import TRANSLATIONS
from training.text.options import (
    DEFAULTS,
    PRETRAINED,
    TRANSFORMERS,
    TextOptions,
    TokenSettings,
)
from training.text.report import CURVES, write_report
from training.text.tokenizer import Ids, choose_length, to_ids, train_tokenizer, usual_vocabulary
from training.text.transformer import Pretrained, TransformerNetwork, load_pretrained, short_backbone

TextRun = Run[TextOptions, TextData]

MAX_BATCH = 64
GOLDEN_ROWS = 16
ATOL = 1e-4


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokenizer of a training, its settings, and the token ids of the training, validation and test texts."""

    tokenizer: Tokenizer
    settings: TokenSettings
    train: list[Ids]
    validation: list[Ids]
    test: list[Ids]

    @property
    def words(self) -> int:
        """Size of the vocabulary."""
        return self.tokenizer.get_vocab_size()

    @property
    def length(self) -> int:
        """The number of tokens that texts are truncated to."""
        truncation: Any = self.tokenizer.truncation
        return int(truncation["max_length"])


class TextRecipe(Recipe[TextOptions, TextData]):
    """A recurrent network over words, or a pretrained transformer."""

    name = "text"
    items = "texts"
    manifests = (TextManifest,)
    _tokens: Tokens

    def recognise(self, source: Source) -> Recognised | None:
        return recognise_texts(source)

    def load(self, options: TextOptions) -> TextData:
        return load_with(options, override(DEFAULTS, options.fit).seed)

    def draw(self, data: TextData) -> Image:
        labels = data.train.labels
        chosen = stratified_sample(labels, LINES, 0)
        chosen = chosen[np.argsort(labels[chosen], kind="stable")]
        rows = ((data.classes[labels[index]], data.train.texts[index]) for index in chosen)
        return table_of(("label", "text"), rows)

    def describe(self, data: TextData) -> str:
        return f", {len(data.classes)} classes"

    def settings(self, options: TextOptions, data: TextData) -> FitSettings:
        return override(PRETRAINED if options.backbone else DEFAULTS, options.fit)

    def model_name(self, options: TextOptions) -> str:
        return "topics"

    def build(self, run: TextRun) -> nn.Module:
        data, options = run.data, run.options
        run.warn_of_absent(data.classes, {"validation": data.validation.labels, "test": data.test.labels})
        pretrained = load_pretrained(options.backbone) if options.backbone else None
        tokenizer, settings = _tokenizer(run, pretrained)
        parts = [to_ids(tokenizer, part.texts) for part in (data.train, data.validation, data.test)]
        tokens = self._tokens = Tokens(tokenizer, settings, *parts)
        kind = {"words": "words", None: "tokens"}.get(settings.vocabulary, f"parts of words ({settings.vocabulary})")
        run.console.print(f"vocabulary: {tokens.words} {kind}; texts are truncated to {tokens.length}")
        torch.manual_seed(run.settings.seed)
        if pretrained:
            return TransformerNetwork(pretrained, len(data.classes))
        return TextNetwork(tokens.words, len(data.classes), options.network)

    def learner(self, run: TextRun, network: nn.Module) -> TextClassification:
        labels, classes = run.data.train.labels, len(run.data.classes)
        return TextClassification(self._tokens.train, labels, *self._selection(run.data), classes, run.options.loss)

    def origin(self, run: TextRun) -> Mapping[str, Any]:
        options = run.options
        return {
            "backbone": options.backbone,
            "network": options.network,
            "tokens": options.tokens,
            "loss": options.loss,
        }

    def drafts(self, run: TextRun, network: nn.Module, state: FitState) -> list[Draft]:
        if not run.is_main:
            return []
        data, tokens = run.data, self._tokens
        linear = fit_linear(tokens.train, data.train.labels, tokens.words, len(data.classes))
        texts, labels = self._selection(data)
        logits, weight = predict(network, texts), 0.0
        if run.options.linear:
            decisions = decide(linear, texts)
            weight = _choose_linear(run, logits, decisions, labels)
            logits = logits + weight * decisions
        graph = TextGraph(network, fit_scaling(logits, labels), linear, weight).eval()
        evaluator = TextEvaluator(data, tokens.train, tokens.validation, tokens.test)
        baseline = float((decide(linear, tokens.test).argmax(1) == data.test.labels).mean())
        write = partial(
            _write_version, run=run, graph=graph, evaluator=evaluator, tokens=tokens, baseline=baseline, state=state
        )
        return [
            Draft(
                name=run.name,
                write=write,
                network=network,
                ood_data=partial(ood_data_from_texts, data, tokens.tokenizer),
                evaluator=evaluator,
                example=data.test.texts[0],
            )
        ]

    def _selection(self, data: TextData) -> tuple[list[Ids], Ids]:
        """The texts that choose, and their labels."""
        selection, _ = data.division
        return [self._tokens.validation[index] for index in selection], data.validation.labels[selection]

    def reload(self, manifest: TextManifest, folder: Path, options: Any) -> TextData:
        return load_with(options, int(manifest.training.settings["seed"]))

    def evaluator(self, manifest: TextManifest, folder: Path, data: TextData) -> TextEvaluator:
        return TextEvaluator.of(data, Tokenizer.from_file(str(folder / TOKENIZER)))

    def ood_data(self, manifest: TextManifest, folder: Path, data: TextData, foreign: Mapping[str, str]) -> OodData:
        return ood_data_from_texts(data, Tokenizer.from_file(str(folder / TOKENIZER)), foreign)


def _tokenizer(run: TextRun, pretrained: Pretrained | None) -> tuple[Tokenizer, TokenSettings]:
    """The tokenizer, which truncates, and its settings."""
    texts, settings, backbone = run.data.train.texts, run.options.tokens, run.options.backbone
    if pretrained:
        if settings.length > pretrained.most:
            raise ValueError(f"--length {settings.length}: {backbone} reads {pretrained.most} tokens at most")
        tokenizer = pretrained.tokenizer
        tokenizer.enable_truncation(settings.length or choose_length(tokenizer, texts, most=pretrained.most))
        return tokenizer, settings
    settings = dataclasses.replace(settings, vocabulary=settings.vocabulary or usual_vocabulary(texts))
    return train_tokenizer(texts, settings, run.folder / TOKENIZER, run.accelerator, run.options.resume), settings


def _choose_linear(run: TextRun, logits: Floats, decisions: Floats, labels: Ids) -> float:
    """The weight of the decision values that is best for these labels."""
    weight = choose_weight(logits, decisions, labels)
    alone, both = ((votes.argmax(1) == labels).mean() for votes in (logits, logits + weight * decisions))
    run.console.print(
        f"linear classifier: its decision values count {weight:g} times; validation accuracy {both:.4f}, of the "
        f"network alone {alone:.4f}",
        highlight=False,
    )
    if weight == WEIGHTS[-1]:
        run.console.print(f"[yellow]{weight:g} is the largest weight that was tried: a larger one may be better")
    return weight


def _describe_network(options: TextOptions, vocabulary: str | None, linear: float) -> str:
    if options.backbone:
        kind = f"{short_backbone(options.backbone).removeprefix(TRANSFORMERS)}, fine-tuned"
    elif options.network.encoders == 1:
        kind = "bidirectional GRU"
    else:
        kind = f"{options.network.encoders} bidirectional GRUs over shared embeddings"
    if vocabulary not in (None, "words"):
        kind += f", on parts of words ({vocabulary})"
    more = ["a bag-of-words layer"] * options.network.wide + ["a linear classifier on tf-idf"] * bool(linear)
    return f"{kind}, plus {' and '.join(more)}" if more else kind


def _write_version(
    target: Path,
    run: TextRun,
    graph: TextGraph,
    evaluator: TextEvaluator,
    tokens: Tokens,
    baseline: float,
    state: FitState,
) -> TextManifest:
    """Fills `target` with graph, golden file, tokenizer and report; returns the manifest, its `files` still empty."""
    data, options, length, test = run.data, run.options, tokens.length, tokens.test
    names: Any = {"input_name": INPUT, "output_names": ("probabilities",)}
    card = GoldenCard(rows=min(GOLDEN_ROWS, len(test)), atol=ATOL)
    mixed = padded(test[:MAX_BATCH]).numpy()
    # Every text at lengths of one word, of five, and of the maximum: alone and in a full batch.
    longest = np.resize(np.concatenate(test), (MAX_BATCH, length))
    inputs, outputs, difference = export(
        graph,
        mixed,
        target / MODEL,
        max_batch=MAX_BATCH,
        card=card,
        axes=("batch", "length"),
        more=[mixed[:, :1], mixed[:, :5], longest, longest[:1]],
        translations=TRANSLATIONS,
        **names,
    )
    evaluation = evaluator.evaluate(target / MODEL, graph.scaling)
    if missed := missed_classes(evaluation.metrics.per_class):
        run.console.print(missed)
    run.console.print(
        f"test accuracy {evaluation.metrics.accuracy:.4f} (linear baseline {baseline:.4f}), macro F1 "
        f"{evaluation.metrics.macro_f1:.4f}, calibration error {evaluation.calibration.ece_after:.4f}"
    )
    write_golden(graph, padded(test[: card.rows]).numpy(), target / GOLDEN, **names)
    tokens.tokenizer.save(str(target / TOKENIZER))
    network = graph.network
    recurrent = isinstance(network, TextNetwork)
    parts = (*((options.network,) if recurrent else ()), tokens.settings, options.loss)
    stated = run.stated(*parts) | {
        "backbone": options.backbone and short_backbone(options.backbone),
        "linear": graph.weight,
    }
    chosen = [history.EPOCH, *[history.LINEAR] * options.linear]
    manifest = TextManifest(
        name=run.name,
        description=f"{data.name}, {len(data.classes)} topics: "
        f"{_describe_network(options, tokens.settings.vocabulary, graph.weight)}",
        labels=data.classes,
        inputs=(inputs,),
        outputs=outputs,
        max_batch=MAX_BATCH,
        max_length=length,
        words=tokens.words,
        data=data_card(data),
        metrics=evaluation.metrics,
        calibration=evaluation.calibration,
        conformal=evaluation.conformal,
        intervals=evaluation.intervals,
        training=training_card("python -m training text", stated, state, graph),
        history=run.history(stated, state, *evaluator.scored(*chosen), *evaluator.measured()),
        golden=card,
        files={},
    )
    vectors = network.vectors.weight.detach().numpy() if isinstance(network, TextNetwork) else None
    write_report(target, evaluation, data, tokens.tokenizer, length, test, vectors)
    write_curves(target, state, *CURVES)
    update_record(
        target,
        onnx_difference=f"{difference.value:.1g}",
        baseline=baseline,
        baseline_features="tf-idf of the same tokens",
        mistakes=explain_mistakes(target / MODEL, tokens.tokenizer, length, data, evaluation),
    )
    return manifest
