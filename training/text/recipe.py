"""Topics of texts: a recurrent network over words, on any data set of labelled texts.

From the data to a published version, top to bottom: load, tokenise, build, fit, evaluate, export, report.
"""

import dataclasses
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from tokenizers import Tokenizer

from service.inference.cards import GoldenCard, Use
from service.inference.manifest import GOLDEN, MODEL
from service.tasks.text.manifest import TOKENIZER, TextManifest
from training.data.inspection import missed_classes
from training.data.splits import selection_of
from training.engine.fit import FitState
from training.engine.processes import from_main
from training.engine.settings import FitSettings
from training.export import history
from training.export.calibration import fit_scaling
from training.export.cards import data_card, training_card
from training.export.graph import export, write_golden
from training.export.ood import with_ood
from training.export.quantize import with_variants
from training.old_run import Run, as_served, begin
from training.options import override
from training.report.plots import write_curves
from training.report.record import update_record
from training.text.data import TextData, load_as_told
from training.text.evaluation import investigate
from training.text.evaluator import TextEvaluator
from training.text.graph import TextGraph
from training.text.linear import SHARES, LinearClassifier, choose_share, decide, fit_linear
from training.text.network import TextNetwork, build
from training.text.ood import ood_data_from_texts
from training.text.operators import TRANSLATIONS
from training.text.options import DEFAULTS, NetworkSettings, TextSettings
from training.text.report import CURVES, write_report
from training.text.samples import draw_texts
from training.text.study import run_study
from training.text.task import Ids, TextClassification, padded, predict
from training.text.tokenizer import to_ids
from training.text.vocabulary import choose_vocabulary, make_tokenizer

MAX_BATCH = 64
GOLDEN_ROWS = 16
ATOL = 1e-4
STUDY = "study.json"
VOCABULARY = "vocabulary.json"


def run(arguments: Namespace, console: Console) -> None:
    """Trains, evaluates, and publishes if that is asked for."""
    network = override(NetworkSettings(), arguments)
    settings = override(DEFAULTS, arguments)
    learning = override(TextSettings(), arguments)
    load = partial(load_as_told, arguments, settings.seed, network.digits)
    run = begin(arguments, console, load, run="text", model="topics", draw=draw_texts)
    data = run.data
    choice = selection_of(data)
    network, tokenizer, length = _vocabulary(run, choice, network, settings, learning)
    words = tokenizer.get_vocab_size()
    kind = "words" if network.vocabulary == "words" else f"parts of words ({network.vocabulary})"
    labels = {"validation": data.validation.labels, "test": data.test.labels}
    run.announce(
        "texts", f", {len(data.classes)} classes; {words} {kind}, truncated to {length} per text", data.classes, labels
    )

    train, validation, test = (to_ids(tokenizer, part.texts) for part in (data.train, data.validation, data.test))
    study = []
    if arguments.study:
        study = run_study(network, choice, settings, learning, run.folder / STUDY, run.accelerator, console)
    model = build(network, words, len(data.classes), settings.seed)
    run.start(model)
    chosen_by = [validation[index] for index in data.division[0]], choice.validation.labels
    task = TextClassification(train, data.train.labels, *chosen_by, len(data.classes), learning)
    state = run.fit(model, task, settings, network=network, learning=learning)
    if not run.reports:
        return

    model = as_served(model)
    if arguments.linear:
        linear = fit_linear(train, data.train.labels, words, len(data.classes))
        graph = _with_votes(model, linear, *chosen_by, console)
    else:
        graph = TextGraph(model, fit_scaling(predict(model, chosen_by[0]), chosen_by[1]))
    write = partial(
        _write_version,
        run=run,
        graph=graph.eval(),
        evaluator=TextEvaluator(data, train, validation, test),
        test=test,
        tokenizer=tokenizer,
        length=length,
        stated=run.stated(network, settings, learning) | {"linear": graph.share},
        state=state,
        study=study,
    )
    run.deliver((run.name, write), text=data.test.texts[0])


def _with_votes(
    network: TextNetwork, linear: LinearClassifier, texts: Sequence[Ids], labels: Ids, console: Console
) -> TextGraph:
    """The network with the votes of a linear classifier, which count as much as is best for these texts."""
    logits, decisions = predict(network, texts), decide(linear, texts)
    share = choose_share(logits, decisions, labels)
    alone, both = ((votes.argmax(1) == labels).mean() for votes in (logits, logits + share * decisions))
    console.print(
        f"linear classifier: its decision values count {share:g} times; validation accuracy {both:.4f}, of the network "
        f"alone {alone:.4f}",
        highlight=False,
    )
    if share == SHARES[-1]:
        console.print(f"[yellow]{share:g} is the largest weight that was tried: a larger one may be better")
    return TextGraph(network, fit_scaling(logits + share * decisions, labels), linear, share)


def _vocabulary(
    run: Run[TextData], data: TextData, network: NetworkSettings, settings: FitSettings, learning: TextSettings
) -> tuple[NetworkSettings, Tokenizer, int]:
    """The settings with the vocabulary that was chosen, its tokenizer, and the length that texts are truncated to."""
    if network.vocabulary == "auto":
        chosen = choose_vocabulary(
            network, data, settings, learning, run.folder / VOCABULARY, run.accelerator, run.console
        )
        network = dataclasses.replace(network, vocabulary=chosen)
    kind: Any = network.vocabulary
    path = run.folder / TOKENIZER
    kept = Tokenizer.from_file(str(path)) if run.arguments.resume and path.is_file() else None
    if tokenizer := from_main(run.accelerator, kept):
        # Parts of words may come out in another order if they are learned again.
        truncation: Any = tokenizer.truncation
        return network, tokenizer, truncation["max_length"]
    tokenizer, length = make_tokenizer(network, data, kind, run.accelerator)
    run.folder.mkdir(parents=True, exist_ok=True)
    if run.reports:
        tokenizer.save(str(path))
    return network, tokenizer, length


def _describe_network(stated: dict[str, Any]) -> str:
    cell, encoders = str(stated["cell"]).upper(), stated["encoders"]
    kind = f"bidirectional {cell}" if encoders == 1 else f"{encoders} bidirectional {cell}s over shared word embeddings"
    if stated["vocabulary"] != "words":
        kind = kind.replace("word embeddings", "embeddings") + f", on parts of words ({stated['vocabulary']})"
    more = ["a bag-of-words layer"] * stated["wide"] + ["a linear classifier on tf-idf"] * bool(stated["linear"])
    return f"{kind}, plus {' and '.join(more)}" if more else kind


def _choices(run: Run[TextData], evaluator: TextEvaluator) -> tuple[Use, ...]:
    """What validation texts chose."""
    asked, purposes = run.arguments, [history.EPOCH]
    if asked.vocabulary in (None, "auto"):
        purposes.append(history.VOCABULARY)
    if asked.linear:
        purposes.append(history.LINEAR)
    return evaluator.scored(*purposes)


def _write_version(
    target: Path,
    run: Run[TextData],
    graph: TextGraph,
    evaluator: TextEvaluator,
    test: Sequence[Ids],
    tokenizer: Tokenizer,
    length: int,
    stated: dict[str, Any],
    state: FitState,
    study: list[dict[str, Any]],
) -> TextManifest:
    """Fills `target` with graph, golden file, tokenizer and report; returns the manifest, its `files` still empty."""
    data = run.data
    network: Any = graph.network
    names: dict[str, Any] = {"input_name": "ids", "output_names": ("probabilities",)}
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
    findings = investigate(target / MODEL, network, tokenizer, length, data, evaluation, study)
    run.console.print(
        f"test accuracy {evaluation.metrics.accuracy:.4f} (linear baseline {findings.baseline:.4f}), macro F1 "
        f"{evaluation.metrics.macro_f1:.4f}, calibration error {evaluation.calibration.ece_after:.4f}"
    )
    write_golden(graph, padded(test[: card.rows]).numpy(), target / GOLDEN, **names)
    findings.tokenizer.save(str(target / TOKENIZER))
    manifest = TextManifest(
        name=run.name,
        description=f"{data.name}, {len(data.classes)} topics: {_describe_network(stated)}",
        labels=data.classes,
        inputs=(inputs,),
        outputs=outputs,
        max_batch=MAX_BATCH,
        max_length=length,
        words=findings.tokenizer.get_vocab_size(),
        data=data_card(data),
        metrics=evaluation.metrics,
        calibration=evaluation.calibration,
        conformal=evaluation.conformal,
        intervals=evaluation.intervals,
        training=training_card("python -m training text", stated, state, graph),
        history=run.history(stated, state, *_choices(run, evaluator), *evaluator.measured()),
        golden=card,
        files={},
    )
    write_report(target, evaluation, data, findings, length)
    write_curves(target, state, *CURVES)
    update_record(target, onnx_difference=f"{difference.value:.1g}")
    ood_data = ood_data_from_texts(data, tokenizer)
    manifest = with_ood(target, manifest, ood_data, run.console)
    if run.arguments.quantize:
        return with_variants(target, manifest, evaluator, run.console, ood_data)
    return manifest
