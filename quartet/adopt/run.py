"""What `quartet adopt` does: loads a graph, lets a task propose how to serve it, and publishes it."""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence

from quartet.adopt.asking import ask_command
from quartet.adopt.base import AdoptTask
from quartet.adopt.graph import CannotAdopt, Loaded, Value, inputs_of, load, outputs_of
from quartet.adopt.version import Published, check_name, publish
from quartet.console import did_you_mean


def adopt(task: AdoptTask, options: argparse.Namespace, command: str, report: Callable[[str], None]) -> Published:
    """Publishes a version.

    Args:
        task: of the version.
        options: as `command_line.read_options` gives them.
        command: that the manifest states.
        report: takes the lines that the command prints.

    Raises:
        CannotAdopt: the graph cannot be served; nothing is left behind.
    """
    check_name(options.models, options.name, options.task)
    loaded = load(options.file)
    _check_ranges(options.ranges, inputs_of(loaded.model))
    for line in _describe(loaded):
        report(line)
    proposal = task.propose(loaded, options)
    published = publish(proposal, options.models, options.name, most=options.max_batch, command=command)
    for line in _describe_published(published, proposal.call):
        report(line)
    return published


def _check_ranges(ranges: Mapping[str, tuple[float, float]], inputs: Sequence[Value]) -> None:
    known = {value.name: value for value in inputs}
    for name in ranges:
        if name not in known:
            raise CannotAdopt("range", f"--range: the graph has no input {name!r}{did_you_mean(name, known, 'it has')}")
        if known[name].dtype in ("str", "bool"):
            raise CannotAdopt("range", f"--range: the input {name!r} is {known[name].dtype}, which has no range.")


def _describe(loaded: Loaded) -> Iterator[str]:
    source = loaded.source
    opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in source.opsets.items())
    yield f"{source.file}: {source.size / 1e6:.3g} MB, from {source.producer or 'an unnamed exporter'}, opset {opsets}"
    for what, values in (("input", inputs_of(loaded.model)), ("output", outputs_of(loaded.model))):
        for name, dtype, shape in values:
            sizes = "unknown" if shape is None else f"[{', '.join(str(size) or '?' for size in shape)}]"
            yield f"  {what} {name}: {dtype} {sizes}"


def _describe_published(published: Published, call: str | None) -> Iterator[str]:
    manifest = published.manifest
    if card := manifest.adopted:
        yield from (f"changed: {change}" for change in card.changes)
        yield f"samples: {card.samples}"
        yield f"batches: {card.batching}"
    for name, (least, greatest) in getattr(manifest, "ranges", {}).items():
        yield f"values of {name}: {least:g} to {greatest:g}"
    yield f"published {published.folder}"
    if asked := call or ask_command(published.folder, manifest.name):
        yield "Serve it with `quartet serve`, and ask it:"
        yield asked
