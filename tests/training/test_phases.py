import pytest

from training.engine.interrupts import Stopped
from training.phases import FAILURES, Phases, Work, estimate


@pytest.fixture
def phases(console, tmp_path):
    return Phases(console, tmp_path / "run")


def test_a_phase_is_announced_and_timed(phases, console):
    with phases.phase("evaluation"), phases.phase("report"):
        pass
    with phases.phase("evaluation"):
        pass
    assert console.file.getvalue() == "evaluation …\nevaluation …\n"
    assert phases.seconds.keys() == {"evaluation", "report"}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyboardInterrupt(), "stopped, in the cross-validation"),
        (Stopped("stopped in epoch 2 of 6"), "stopped in epoch 2 of 6, in the cross-validation"),
    ],
)
def test_ctrl_c_names_the_innermost_phase(phases, error, message):
    with pytest.raises(Stopped) as stopped, phases.phase("evaluation"), phases.phase("cross-validation"):
        raise error
    assert str(stopped.value) == message


def test_an_optional_phase_may_fail(phases, console, tmp_path):
    with phases.optional("report"):
        raise IndexError("no such word")
    with phases.optional("score"):
        raise OSError("cannot open [/data/x]")
    assert "The score failed (OSError: cannot open [/data/x])" in console.file.getvalue()
    assert phases.failed == ["report", "score"]
    assert "The report failed (IndexError: no such word). The version lacks it" in console.file.getvalue()
    assert "Traceback" in (tmp_path / "run" / FAILURES).read_text()
    with pytest.raises(Stopped), phases.optional("plots"):
        raise KeyboardInterrupt
    assert phases.failed == ["report", "score"]


def test_an_estimate_adds_up_its_parts():
    work = [Work(name="cross-validation", fits=5), Work(name="evaluation", items=200, seconds=3)]
    assert estimate(10, 10, 50, work) == (67, "training 10 s, cross-validation 50 s, evaluation 7 s")
    assert estimate(2, 10, 50, work) == (59, "cross-validation 50 s, evaluation 7 s")  # resumed
    assert estimate(60, 60, 50, [Work(name="evaluation", items=1)]) == (60.02, "")
