"""Memory that a large allocation has used returns to the system; garbage collection is on after the start."""

import gc
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from service import memory

_SCRIPT = """
import threading
from pathlib import Path
from service import memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

def use():
    # As decoded images do it: blocks that leave a gap in the middle of the heap when they are freed.
    kept = [(bytearray(8_000_000), bytearray(100)) for _ in range(10)]
    small[:] = [each[1] for each in kept]

memory.configure()
small = []
before = resident()
for _ in range(4):
    threads = [threading.Thread(target=use) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
print(resident() - before)
"""


@pytest.mark.skipif(not memory._GLIBC, reason="only glibc has these settings")
def test_freed_memory_returns_to_the_system():
    command = [sys.executable, "-c", _SCRIPT]
    left = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert int(left.stdout) < 10_000_000


def test_settling_turns_the_collector_on_and_exempts_what_is_there():
    gc.disable()
    try:
        memory.settle()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 1000
    finally:
        gc.enable()
        gc.unfreeze()


def test_releasing_leaves_alone_what_was_exempted():
    class Loop:
        def __init__(self) -> None:
            self.itself = self

    gc.disable()
    try:
        old = weakref.ref(Loop())
        gc.freeze()
        new = weakref.ref(Loop())
        memory.release()
        assert new() is None
        assert old() is not None
    finally:
        gc.enable()
        gc.unfreeze()
