import pytest

from training import tracking
from training.tracking import tracker


def test_a_tracker_that_is_not_installed_is_refused_with_the_line_that_installs_it(monkeypatch):
    assert tracker(None) is None
    monkeypatch.setattr(tracking, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match="pip install tensorboard"):
        tracker("tensorboard")
