"""The context of a call: deadline, progress, cancellation."""

import time

import pytest

from service.errors import Abandoned, DeadlineExceeded
from service.inference.context import Context


def test_the_deadline_moves_with_progress():
    context = Context(0.05)
    first = context.deadline
    context.check()
    time.sleep(0.06)
    with pytest.raises(DeadlineExceeded, match=r"No progress within 0\.05 s"):
        context.check()
    context.progressed()
    assert context.deadline > first
    context.check()


def test_without_a_timeout_there_is_no_deadline():
    assert Context().deadline == float("inf")


def test_a_call_that_was_cancelled_is_over():
    context = Context()
    context.cancel()
    with pytest.raises(Abandoned):
        context.check()


def test_a_slow_call_is_reported_once():
    said = []
    context = Context(on_slow=lambda: said.append("slow"))
    context.slow()
    context.slow()
    assert said == ["slow"]
    Context().slow()
