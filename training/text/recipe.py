"""Topics of texts: a recurrent network over words or a pretrained transformer, on any data set of labelled texts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from tokenizers import Tokenizer
from torch import nn

from quartet.captured.items import Captured
from service.inference.cards import GoldenCard
from service.inference.manifest import GOLDEN, MODEL
from service.tasks.text.manifest import TOKENIZER, TextManifest
from training.baseline import Baseline
from training.data import foreign
from training.data.dataset import class_names, stratified_sample
from training.data.inspection import missed_classes
from training.data.recognise import Recognised, Source
from training.engine.checkpoint import FitState
from training.engine.settings import FitSettings
from training.export import history
from training.export.calibration import Floats, fit_scaling
from training.export.cards import data_card, training_card
from training.export.distances import MOST_HELD_OUT, Distance, Method
from training.export.graph import export, write_golden
from training.export.histograms import MOST_OBSERVED, Observed
from training.export.labelled import Labelled
from training.export.layers import penultimate
from training.export.ood import MOST_TEST, MOST_TRAINING, OodData, ood_items, ood_uses, some_indices
from training.options import override
from training.phases import Work
from training.recipe import Draft, Recipe
from training.registry import training_of
from training.report.curves import write_curves
from training.report.earlier import earlier_runs
from training.report.record import update_record
from training.report.samples import LINES, table_of
from training.run import Run
from training.text.added import with_captures
from training.text.baseline import fit_baseline
from training.text.data import Ids, TextData, load_texts, recognise_texts
from training.text.labelled import labelled_texts
from training.text.learner import INPUT, TextClassification, TextEvaluator, padded, predict, run_texts
from training.text.linear import (
    LINEAR_ALONE,
    MOST_TOKENS,
    NETWORK_ALONE,
    LinearClassifier,
    Votes,
    choose_votes,
    decide,
    fit_linear,
)
from training.text.network import TRANSLATIONS, TextGraph, TextNetwork
from training.text.options import DEFAULTS, PRETRAINED, TRANSFORMERS, TextOptions, TokenSettings, usual_epochs
from training.text.report import CURVES, write_report
from training.text.tokenizer import choose_length, to_ids, train_tokenizer
from training.text.transformer import TransformerNetwork, short_backbone
from training.text.vocabulary import choose_orders, describe_vocabulary, try_vocabularies, vocabulary_of

TextRun = Run[TextOptions, TextData]

MAX_BATCH = 64
OOD = Method(
    "how far the last layer's features are from those of the nearest class", ((Distance.to_class_means, penultimate),)
)


class TextRecipe(Recipe[TextOptions, TextData]):
    """A recurrent network over words, or a pretrained transformer."""

    name = "text"
    items = "texts"
    manifests = (TextManifest,)
    _texts: TextEvaluator
    _tokens: TokenSettings
    _linear: LinearClassifier | None = None

    def recognise(self, source: Source) -> Recognised | None:
        return recognise_texts(source)

    def load(self, options: TextOptions) -> TextData:
        return _load(options, override(DEFAULTS, options.fit).seed)

    def add(self, data: TextData, items: Sequence[Captured]) -> TextData:
        return with_captures(data, items)

    def draw(self, data: TextData) -> Image:
        labels = data.train.labels
        chosen = stratified_sample(labels, LINES, 0)
        chosen = chosen[np.argsort(labels[chosen], kind="stable")]
        return table_of(("label", "text"), ((data.classes[labels[i]], data.train.texts[i]) for i in chosen))

    def describe(self, data: TextData) -> str:
        return f", {len(data.classes)} classes"

    def settings(self, options: TextOptions, data: TextData) -> FitSettings:
        defaults = PRETRAINED if options.backbone else replace(DEFAULTS, epochs=usual_epochs(len(data.train)))
        return override(defaults, options.fit)

    def model_name(self, options: TextOptions) -> str:
        return "topics"

    def build(self, run: TextRun) -> nn.Module:
        data, options, tokens, texts = run.data, run.options, run.options.tokens, run.data.train.texts
        run.warn_of_absent(data.classes, {"validation": data.validation.labels, "test": data.test.labels})
        torch.manual_seed(run.settings.seed)
        network: nn.Module | None = None
        if options.backbone:
            network = TransformerNetwork(options.backbone, len(data.classes))
            if tokens.length > network.most:
                raise ValueError(f"--length {tokens.length}: {options.backbone} reads {network.most} tokens at most")
            tokenizer, unit = network.tokenizer, "tokens"
            tokenizer.enable_truncation(tokens.length or choose_length(tokenizer, texts, most=network.most))
        else:
            resumed = options.resume and (run.folder / TOKENIZER).is_file()
            if run.is_main and tokens.vocabulary is None and not resumed:
                tokens = _choose_vocabulary(run)
            tokenizer = train_tokenizer(texts, tokens, run.folder / TOKENIZER, run.accelerator, options.resume)
            tokens = replace(tokens, vocabulary=vocabulary_of(tokenizer))
            unit = describe_vocabulary(replace(tokens, words=0))
        self._tokens, self._texts = tokens, TextEvaluator(data, tokenizer)
        run.console.print(f"vocabulary: {self._texts.words} {unit}; texts are truncated to {self._texts.length}")
        return network or TextNetwork(self._texts.words, len(data.classes), options.network)

    def baseline(self, run: TextRun, network: nn.Module) -> Baseline:
        return fit_baseline(run.data)

    def work(self, run: TextRun) -> Sequence[Work]:
        # The graph reads validation and test once, and some texts of each split for the out-of-distribution score.
        data = run.data
        scored = ood_items(len(data.train), len(data.division[1]), len(data.test))
        return [
            Work(name="evaluation and export", items=len(data.validation) + len(data.test), seconds=15),
            Work(name="out-of-distribution score", items=scored),
            Work(name="histograms", items=min(len(data.validation), MOST_OBSERVED)),
        ]

    def learner(self, run: TextRun, network: nn.Module) -> TextClassification:
        texts, labels = self._texts, run.data.train.labels
        if run.is_main and run.options.linear and self._texts.length > MOST_TOKENS:
            run.console.print(f"texts are longer than {MOST_TOKENS} tokens: without the linear classifier")
        elif run.is_main and run.options.linear:
            self._linear = _fit_linear(run, texts)
        chosen = texts.selected, texts.labels
        return TextClassification(texts.train, labels, *chosen, len(run.data.classes), run.options.loss)

    def origin(self, run: TextRun) -> Mapping[str, Any]:
        return {name: getattr(run.options, name) for name in ("backbone", "network", "tokens", "loss")}

    def drafts(self, run: TextRun, network: nn.Module, state: FitState) -> list[Draft]:
        if not run.is_main:
            return []
        data, texts = run.data, self._texts
        with run.phase("calibration"):
            logits, votes = predict(network, texts.selected), NETWORK_ALONE
            if self._linear is not None:
                decisions = decide(self._linear, texts.selected)
                votes = _choose_votes(run, logits, decisions, texts.labels)
                logits = votes(logits, decisions)
            graph = TextGraph(network, fit_scaling(logits, texts.labels), self._linear, votes).eval()
        draft = Draft(
            name=run.name,
            write=partial(self._write, run, graph, state),
            network=network,
            ood_data=partial(_ood_data, texts, {}),
            observed=partial(_observed, texts),
            evaluator=texts,
            example=data.test.texts[0],
        )
        return [draft]

    def _write(self, run: TextRun, graph: TextGraph, state: FitState, target: Path) -> TextManifest:
        data, options, tokens, texts = run.data, run.options, self._tokens, self._texts
        names: Any = {"input_name": INPUT, "output_names": ("probabilities",)}
        rows = min(16, len(texts.test))
        card = GoldenCard(rows=rows, atol=1e-4, labels=class_names(data.test.labels[:rows], data.classes))
        mixed = padded(texts.test[:MAX_BATCH]).numpy()
        # Every text at lengths of one word, of five, and of the maximum: alone and in a full batch.
        longest = np.resize(np.concatenate(texts.test), (MAX_BATCH, texts.length))
        more = [mixed[:, :1], mixed[:, :5], longest, longest[:1]]
        given: Any = {"axes": ("batch", "length"), "more": more, "translations": TRANSLATIONS, "card": card, **names}
        inputs, outputs, difference = export(graph, mixed, target / MODEL, max_batch=MAX_BATCH, **given)
        evaluation = texts.evaluate(target / MODEL, graph.scaling.fitted)
        if missed := missed_classes(evaluation.metrics.per_class):
            run.console.print(missed, style="yellow")
        run.console.print(
            f"test accuracy {evaluation.metrics.accuracy:.4f}, macro F1 {evaluation.metrics.macro_f1:.4f}, "
            f"calibration error {evaluation.calibration.ece_after:.4f}"
        )
        write_golden(graph, padded(texts.test[: card.rows]).numpy(), target / GOLDEN, **names)
        texts.tokenizer.save(str(target / TOKENIZER))
        vectors: Any = getattr(graph.network, "vectors", None)  # of words, if the network is recurrent
        stated = run.stated(*([options.network] if vectors else []), tokens, options.loss) | {
            "backbone": options.backbone and short_backbone(options.backbone),
            "linear": graph.votes.linear,
            "linear_alone": graph.votes == LINEAR_ALONE,
        }
        chosen = [history.EPOCH, *[history.LINEAR] * (self._linear is not None)]
        update_record(target, onnx_difference=f"{difference.value:.1g}")
        with run.optional("report"):
            earlier = earlier_runs(options.init_from)
            write_curves(target, state, *CURVES, before=run.lineage.before, earlier=earlier)
            write_report(target, evaluation, texts, vectors.weight.detach().numpy() if vectors else None)
        network = _describe_network(options, tokens.vocabulary, graph.votes)
        return TextManifest(
            name=run.name,
            description=f"{data.name}, {len(data.classes)} topics: {network}",
            labels=data.classes,
            inputs=(inputs,),
            outputs=outputs,
            max_batch=MAX_BATCH,
            max_length=texts.length,
            words=texts.words,
            text_column=data.text_column,
            data=data_card(data),
            **evaluation.fields,
            training=training_card("python -m training text", stated, state, graph),
            history=run.history(stated, state, *texts.scored(*chosen), *texts.measured()),
            golden=card,
            files={},
        )

    def reload(self, manifest: TextManifest, folder: Path, options: Any) -> TextData:
        return _load(options, int(training_of(manifest).settings["seed"]))

    def labelled(self, manifest: TextManifest, options: Any) -> Labelled:
        return labelled_texts(manifest, options)

    def evaluator(self, manifest: TextManifest, folder: Path, data: TextData) -> TextEvaluator:
        return TextEvaluator(data, Tokenizer.from_file(str(folder / TOKENIZER)))

    def ood_data(self, manifest: TextManifest, folder: Path, data: TextData, foreign: Mapping[str, str]) -> OodData:
        return _ood_data(self.evaluator(manifest, folder, data), foreign)

    def observed(self, manifest: TextManifest, folder: Path, data: TextData) -> Observed:
        return _observed(self.evaluator(manifest, folder, data))


def _load(options: Any, seed: int) -> TextData:
    names = ("text_column", "label_column", "validation", "limit", "bad", "encoding")
    return load_texts(options.data, seed=seed, **{name: getattr(options, name) for name in names})


def _ood_data(texts: TextEvaluator, sources: Mapping[str, str]) -> OodData:
    data, (_, calibration) = texts.data, texts.data.division
    train = some_indices(len(data.train), MOST_TRAINING)
    held_out = calibration[some_indices(len(calibration), MOST_HELD_OUT)]
    test = [texts.test[index] for index in some_indices(len(data.test), MOST_TEST)]
    others = foreign.made_up_texts(texts.words, test)
    others |= {name: to_ids(texts.tokenizer, foreign.read_lines(source)) for name, source in sources.items()}
    return OodData(
        OOD,
        [texts.train[index] for index in train],
        data.train.labels[train],
        [texts.validation[index] for index in held_out],
        test,
        others,
        run_texts,
        ood_uses(len(train), data.division),
    )


def _observed(texts: TextEvaluator) -> Observed:
    chosen = some_indices(len(texts.validation), MOST_OBSERVED)
    return Observed([texts.validation[index] for index in chosen], run_texts)


def _choose_vocabulary(run: TextRun) -> TokenSettings:
    train, classes = run.data.train, len(run.data.classes)
    with run.phase("choice of the vocabulary"):
        trials = try_vocabularies(train.texts, train.labels, classes, run.options.tokens)
    compared = ", ".join(map(str, trials))
    run.console.print(f"accuracy of a linear classifier on training texts held out: {compared}", highlight=False)
    return trials[0].tokens


def _fit_linear(run: TextRun, texts: TextEvaluator) -> LinearClassifier:
    labels, classes = run.data.train.labels, len(run.data.classes)
    with run.phase("linear classifier"):
        orders = choose_orders(texts.train, labels, texts.words, classes)
        linear = fit_linear(texts.train, labels, texts.words, classes, orders)
        right = decide(linear, texts.selected).argmax(1) == texts.labels
    run.console.print(
        f"linear classifier on runs of 1 to {orders} tokens: validation accuracy {right.mean():.4f}", highlight=False
    )
    return linear


def _choose_votes(run: TextRun, logits: Floats, decisions: Floats, labels: Ids) -> Votes:
    votes = choose_votes(logits, decisions, labels)
    alone, linear, both = ((v.argmax(1) == labels).mean() for v in (logits, decisions, votes(logits, decisions)))
    chosen = "it answers alone" if votes == LINEAR_ALONE else f"its decision values count {votes.linear:g} times"
    run.console.print(
        f"linear classifier: {chosen}; validation accuracy {both:.4f}, of the network alone {alone:.4f}, of the linear "
        f"classifier alone {linear:.4f}",
        highlight=False,
    )
    return votes


def _describe_network(options: TextOptions, vocabulary: str | None, votes: Votes) -> str:
    parts = "" if vocabulary in (None, "words") else f", on parts of words ({vocabulary})"
    if votes == LINEAR_ALONE:
        return f"a linear classifier on tf-idf{parts}"
    count = options.network.encoders
    kind = "bidirectional GRU" if count == 1 else f"{count} bidirectional GRUs over shared embeddings"
    if options.backbone:
        kind = f"{short_backbone(options.backbone).removeprefix(TRANSFORMERS)}, fine-tuned"
    kind += parts
    more = ["a bag-of-words layer"] * options.network.wide + ["a linear classifier on tf-idf"] * bool(votes.linear)
    return f"{kind}, plus {' and '.join(more)}" if more else kind
