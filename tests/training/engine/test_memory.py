import ctypes
import platform
import subprocess
import sys

import pytest

from training.engine.memory import keep_freed_memory

_KEPT = """
import numpy as np

from training.engine.memory import keep_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

if {keep}:
    keep_freed_memory()
before = resident()
block = np.ones(64 << 20, np.uint8)
assert resident() - before > 60 << 20
del block
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is meant")
@pytest.mark.parametrize("keep", [True, False])
def test_a_large_freed_block_stays_with_the_process(keep):
    command = [sys.executable, "-c", _KEPT.format(keep=keep)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (int(done.stdout) > 60 << 20) is keep


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not keep_freed_memory()
