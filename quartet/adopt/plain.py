"""The task `tensors`: a graph as it is, named tensors in and out."""

import argparse
from functools import partial

from quartet.adopt.base import AdoptTask, Proposal
from quartet.adopt.graph import Loaded, inputs_of, open_session
from quartet.adopt.hazards import refuse_unbounded_sizes
from quartet.adopt.lookups import lookups
from quartet.adopt.samples import check, draw, read
from quartet.adopt.state import refuse_state
from service.tasks.tensors.manifest import TensorsManifest


def _add_no_options(parser: argparse.ArgumentParser) -> None:
    """The command line adds them itself, since they are those without `--task`."""


def propose(loaded: Loaded, options: argparse.Namespace) -> Proposal:
    """The graph unchanged, with the given samples or random ones."""
    if not options.explicit_state:
        refuse_state(loaded.model)
    refuse_unbounded_sizes(loaded.model, options.ranges)
    inputs = inputs_of(loaded.model)
    ranges = lookups(loaded.model) | options.ranges
    if options.samples:
        samples = read(options.samples, inputs)
        check(samples, inputs, ranges, options.max_length)
    else:
        samples = draw(inputs, ranges, open_session(loaded.model, loaded.source.file).run, options.max_length)
    manifest = partial(TensorsManifest, max_length=options.max_length, ranges=ranges)
    return Proposal(loaded, samples, lambda common: manifest(**common))


PLAIN = AdoptTask("any graph: its tensors, at /v2", _add_no_options, propose)
