"""Topics of texts: a recurrent network over words, on any data set of labelled texts.

From the data to a published version, top to bottom: load, tokenise, build, fit, evaluate, export, report.
"""

import dataclasses
from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from tokenizers import Tokenizer
from torch import nn

from service.inference.cards import GoldenCard
from service.inference.manifest import GOLDEN, MODEL
from service.tasks.text.manifest import TOKENIZER, TextManifest
from training.data.hub import SPLITS
from training.data.inspection import missed_classes
from training.engine.fit import FitState
from training.engine.processes import from_main
from training.export import history
from training.export.cards import data_card, training_card
from training.export.familiarize import with_familiarity
from training.export.graph import check_export, export, write_golden
from training.export.quantize import with_variants
from training.export.scaling import Scaling
from training.options import override
from training.run import Run, as_served, begin
from training.text.data import TextData, load_as_told
from training.text.evaluation import Findings, explain_mistakes, full_lengths
from training.text.evaluator import INPUT, TextEvaluator
from training.text.graph import TextGraph
from training.text.linear import WEIGHTS, LinearClassifier, choose_weight, decide, fit_linear
from training.text.network import TextNetwork
from training.text.operators import TRANSLATIONS
from training.text.options import DEFAULTS, PRETRAINED, TRANSFORMERS, LossSettings, NetworkSettings, TokenSettings
from training.text.parts import of_texts
from training.text.report import write_report
from training.text.samples import draw_texts
from training.text.task import TextClassification, padded, predict
from training.text.tokenizer import Ids, choose_length, to_ids, train_tokenizer, usual_vocabulary
from training.text.transformer import Pretrained, TransformerNetwork, load_pretrained

MAX_BATCH = 64
GOLDEN_ROWS = 16
ATOL = 1e-4
_NAMES: Any = {"input_name": INPUT, "output_names": ("probabilities",)}


def run(arguments: Namespace, console: Console) -> None:
    """Trains, evaluates, and publishes if that is asked for."""
    network, tokens = override(NetworkSettings(), arguments), override(TokenSettings(), arguments)
    settings = override(PRETRAINED if arguments.backbone else DEFAULTS, arguments)
    losses = override(LossSettings(), arguments)
    run = begin(
        arguments, console, partial(load_as_told, arguments, settings.seed), run="text", model="topics", draw=draw_texts
    )
    data, classes = run.data, len(run.data.classes)
    tokenizer, tokens, pretrained = _tokenizer(run, tokens)
    length = int(truncation["max_length"]) if (truncation := tokenizer.truncation) else 0
    kind = {"words": "words", None: "tokens"}.get(tokens.vocabulary, f"parts of words ({tokens.vocabulary})")
    labels = {"validation": data.validation.labels, "test": data.test.labels}
    run.announce(
        "texts",
        f", {classes} classes; {tokenizer.get_vocab_size()} {kind}, truncated to {length} per text",
        data.classes,
        labels,
    )
    ids = {name: to_ids(tokenizer, getattr(data, name).texts) for name in SPLITS}
    selection = [ids["validation"][index] for index in data.division[0]], data.validation.labels[data.division[0]]
    torch.manual_seed(settings.seed)
    model: nn.Module = (
        TransformerNetwork(pretrained, classes)
        if pretrained
        else TextNetwork(tokenizer.get_vocab_size(), classes, network)
    )
    run.start(model)
    task = TextClassification(ids["train"], data.train.labels, *selection, classes, losses)
    described = {"backbone": arguments.backbone} | ({} if pretrained else dataclasses.asdict(network))
    state = run.fit(model, task, settings, network=described, tokens=tokens, learning=losses)
    if not run.reports:
        return

    model = as_served(model)
    linear = fit_linear(ids["train"], data.train.labels, tokenizer.get_vocab_size(), classes)
    weight = choose_linear(model, linear, *selection, console) if arguments.linear else 0.0
    graph = TextGraph(model, Scaling(), linear, weight).eval()
    write = partial(
        _write_version,
        run=run,
        graph=graph,
        evaluator=TextEvaluator(data, ids),
        test=ids["test"],
        baseline=float((decide(linear, ids["test"]).argmax(1) == data.test.labels).mean()),
        tokenizer=tokenizer,
        length=length,
        stated=run.stated(tokens, settings, losses) | described | {"linear": weight},
        state=state,
    )
    run.deliver((run.name, write), text=data.test.texts[0])


def _tokenizer(run: Run[TextData], tokens: TokenSettings) -> tuple[Tokenizer, TokenSettings, Pretrained | None]:
    """The tokenizer, which truncates, its settings, and the pretrained backbone if there is one.

    The main process trains it, once: trained again, parts of words may come out in another order.
    """
    texts = run.data.train.texts
    if run.arguments.backbone:
        pretrained = load_pretrained(run.arguments.backbone)
        if tokens.length > pretrained.most:
            raise ValueError(f"--length {tokens.length}: {run.arguments.backbone} reads {pretrained.most} at most")
        tokenizer = pretrained.tokenizer
        tokenizer.enable_truncation(tokens.length or choose_length(tokenizer, texts, most=pretrained.most))
        return tokenizer, tokens, pretrained
    tokens = dataclasses.replace(tokens, vocabulary=tokens.vocabulary or usual_vocabulary(texts))
    path = run.folder / TOKENIZER
    trained = None
    if run.reports:
        trained = Tokenizer.from_file(str(path)) if run.arguments.resume and path.is_file() else None
        trained = trained or train_tokenizer(texts, tokens)
        trained.save(str(path))
    shared: Any = from_main(run.accelerator, trained)
    return shared, tokens, None


def choose_linear(
    network: nn.Module, linear: LinearClassifier, texts: Sequence[Ids], labels: Ids, console: Console
) -> float:
    """The weight of the linear classifier that is best for these texts."""
    logits, decisions = predict(network, texts), decide(linear, texts)
    weight = choose_weight(logits, decisions, labels)
    alone, both = ((votes.argmax(1) == labels).mean() for votes in (logits, logits + weight * decisions))
    console.print(
        f"linear classifier: its decision values count {weight:g} times; validation accuracy {both:.4f}, of the "
        f"network alone {alone:.4f}",
        highlight=False,
    )
    if weight == WEIGHTS[-1]:
        console.print(f"[yellow]{weight:g} is the largest weight that was tried: a larger one may be better")
    return weight


def _describe_network(stated: Mapping[str, Any]) -> str:
    if stated["backbone"]:
        kind = f"{Path(stated['backbone'].removeprefix(TRANSFORMERS)).name}, fine-tuned"
    else:
        encoders = stated["encoders"]
        kind = "bidirectional GRU" if encoders == 1 else f"{encoders} bidirectional GRUs over shared word embeddings"
        if stated["vocabulary"] != "words":
            kind = kind.replace("word embeddings", "embeddings") + f", on parts of words ({stated['vocabulary']})"
    more = ["a bag-of-words layer"] * stated.get("wide", 0) + ["a linear classifier on tf-idf"] * bool(stated["linear"])
    return f"{kind}, plus {' and '.join(more)}" if more else kind


def _write_version(
    target: Path,
    run: Run[TextData],
    graph: TextGraph,
    evaluator: TextEvaluator,
    test: Sequence[Ids],
    baseline: float,
    tokenizer: Tokenizer,
    length: int,
    stated: dict[str, Any],
    state: FitState,
) -> TextManifest:
    """Fills `target` with graph, golden file, tokenizer and report; returns the manifest, its `files` still empty."""
    data = run.data
    network = graph.network
    card = GoldenCard(rows=min(GOLDEN_ROWS, len(test)), atol=ATOL)
    mixed = padded(test[:MAX_BATCH]).numpy()
    # Every text at lengths of one word, of five, and of the maximum: alone and in a full batch.
    longest = np.resize(np.concatenate(test), (MAX_BATCH, length))
    checked = {
        "max_batch": MAX_BATCH,
        "card": card,
        "more": [mixed[:, :1], mixed[:, :5], longest, longest[:1]],
        **_NAMES,
    }
    inputs, outputs, _ = export(
        graph, mixed, target / MODEL, axes=("batch", "length"), translations=TRANSLATIONS, **checked
    )
    evaluation = evaluator.evaluate(target / MODEL)
    if missed := missed_classes(evaluation.metrics.per_class):
        run.console.print(missed)
    graph.scaling = evaluation.scaling
    difference = check_export(graph, mixed, target / MODEL, **checked)
    findings = Findings(
        tokenizer,
        network.vectors.weight.detach().numpy() if isinstance(network, TextNetwork) else None,
        full_lengths(tokenizer, data.train.texts),
        baseline,
        explain_mistakes(target / MODEL, tokenizer, length, data, evaluation),
    )
    run.console.print(
        f"test accuracy {evaluation.metrics.accuracy:.4f} (linear baseline {baseline:.4f}), macro F1 "
        f"{evaluation.metrics.macro_f1:.4f}, calibration error {evaluation.calibration.ece_after:.4f}"
    )
    write_golden(graph, padded(test[: card.rows]).numpy(), target / GOLDEN, **_NAMES)
    tokenizer.save(str(target / TOKENIZER))
    chosen = [history.EPOCH, *[history.LINEAR] * run.arguments.linear]
    manifest = TextManifest(
        name=run.name,
        description=f"{data.name}, {len(data.classes)} topics: {_describe_network(stated)}",
        labels=data.classes,
        inputs=(inputs,),
        outputs=outputs,
        max_batch=MAX_BATCH,
        max_length=length,
        words=tokenizer.get_vocab_size(),
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
    write_report(target / "report", manifest, evaluation, data, findings, state, difference.value)
    parts = of_texts(data, tokenizer)
    manifest = with_familiarity(target, manifest, parts, run.console)
    if run.arguments.quantize:
        return with_variants(target, manifest, evaluator.at(graph.scaling), run.console, parts)
    return manifest
