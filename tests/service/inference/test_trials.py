"""Which trial is chosen, where a sweep ends, and a real graph under load."""

import math
from pathlib import Path

import numpy as np
import pytest

from service.inference.trials import Bench, Trial, answers_sooner_inline, choose, sweep
from service.inference.variants import graphs
from service.tasks.registry import read_manifest
from tests.cuda import fake_cuda
from tests.tiny import write_model
from tests.tiny_text import write_topics


def trial(
    max_batch: int, rate: float, p99: float, *, threads: int = 4, clients: int = 8, inline: bool = False
) -> Trial:
    return Trial(max_batch, threads, inline, clients, rate, p99 / 2, p99)


@pytest.mark.parametrize(
    ("trials", "expected"),
    [
        ([trial(1, 100, 0.01)], 1),
        ([trial(1, 100, 0.01), trial(2, 200, 0.02)], 2),
        # About as many with less latency.
        ([trial(4, 198, 0.02), trial(8, 200, 0.04)], 4),
        ([trial(4, 100, 0.02), trial(8, 200, 0.2)], 4),
        # None is in time.
        ([trial(4, 100, 0.3), trial(8, 200, 0.2)], 8),
        # Lone items, and fewer threads than the others have, say nothing about the batch.
        ([trial(4, 100, 0.02), trial(8, 900, 0.02, threads=2), trial(8, 900, 0.02, clients=1)], 4),
    ],
)
def test_the_choice(trials: list[Trial], expected: int):
    assert choose(trials, 0.1).max_batch == expected


def test_where_lone_items_run():
    on_threads, on_loop = trial(8, 1, 0.004, clients=1), trial(8, 1, 0.002, clients=1, inline=True)
    assert answers_sooner_inline([on_threads, on_loop])
    assert not answers_sooner_inline([on_threads, trial(8, 1, 0.008, clients=1, inline=True)])
    assert not answers_sooner_inline([trial(8, 1, 0.001)])


class FakeBench:
    """A machine on which items per second and latency are functions of the batch."""

    sizes = (1, 2, 4, 8, 16, 32, 64)

    def __init__(self, rate, p99, counts=(4, 2, 1), inline=False):
        self.rate, self.p99, self.thread_counts, self.inline = rate, p99, list(counts), inline

    def run(self, max_batch, threads, seconds, *, clients=None, inline=False):
        return trial(max_batch, self.rate(max_batch), self.p99(max_batch), threads=threads,
                     clients=clients or 8, inline=inline)  # fmt: skip

    def may_run_inline(self, trial):
        return self.inline


def sizes(bench: FakeBench) -> list[tuple[int, int, int, bool]]:
    return [(each.max_batch, each.threads, each.clients, each.inline) for each in sweep(bench, 0.1, 0.1)]


def test_a_sweep_ends_where_larger_batches_gain_nothing():
    plateau = FakeBench(lambda batch: min(batch, 4) * 100, lambda batch: batch / 1000, counts=(4,))
    assert [size for size, *_ in sizes(plateau)] == [1, 2, 4, 8, 16]


def test_a_sweep_ends_where_batches_take_too_long():
    slow = FakeBench(lambda batch: batch * 100, lambda batch: batch / 50)
    assert sizes(slow) == [(size, 4, 8, False) for size in (1, 2, 4, 8)] + [(4, 2, 8, False), (4, 1, 8, False)]


def test_lone_items_are_tried_on_the_event_loop_where_it_can_afford_that():
    cheap = FakeBench(lambda batch: batch * 100, lambda batch: batch / 1e6, counts=(1,), inline=True)
    assert sizes(cheap)[-2:] == [(64, 1, 1, False), (64, 1, 1, True)]


@pytest.mark.parametrize("write", [write_model, write_topics])
def test_a_real_graph(tmp_path: Path, write):
    write(tmp_path)
    (folder,) = tmp_path.glob("*/1")
    graph = graphs(read_manifest(folder), "auto", "cpu")[0][-1]
    bench = Bench(folder, graph, "cpu", threads=2, max_batch=12, gpu_memory_mb=0)
    assert bench.sizes == [1, 2, 4, 8, 12]
    assert bench.thread_counts == [2, 1]
    for inline in (False, True):
        found = bench.run(4, 2, 0.05, inline=inline)
        assert (found.max_batch, found.threads, found.clients, found.inline) == (4, 2, 16, inline)
        assert 0 < found.median <= found.p99 < math.inf
        assert found.rate > 0
    performance = bench.performance(found, 0.01, inline=True)
    assert performance.max_batch == 4
    assert performance.alone > 0
    assert performance.seconds > 0


def test_on_cuda_a_session_holds_no_larger_shape_than_the_batch(tmp_path: Path):
    folder = write_model(tmp_path)
    graph = graphs(read_manifest(folder), "auto", "cuda")[0][-1]
    with fake_cuda() as opened:
        bench = Bench(folder, graph, "cuda", threads=2, max_batch=16, gpu_memory_mb=0)
        assert bench.thread_counts == [2]
        found = [bench.run(size, 2, 0.02) for size in (2, 16)]
    assert all(np.isfinite(each.rate) and each.rate > 0 for each in found)
    # What a server with such batches would open: the largest, and those that are smaller.
    assert {shape[0][0] for shape, _ in opened.opened[-3:]} == {1, 8, 16}
    assert {run[0][0] for run in opened.runs} == {1, 2, 8, 16}
