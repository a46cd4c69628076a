"""What the machine is, from files and a driver that are made up."""

import ctypes
from pathlib import Path
from typing import Any

import pytest

from quartet.offline import machine


def files(monkeypatch: pytest.MonkeyPatch, **texts: str) -> None:
    monkeypatch.setattr(machine, "_read", lambda path: texts.get(Path(path).name, ""))


def test_the_features_of_a_processor_that_matter(monkeypatch: pytest.MonkeyPatch):
    files(monkeypatch, cpuinfo="model name\t: AMD EPYC\nflags\t\t: fpu sse avx2 avx512f avx512_vnni\n")
    cpu = machine.read_cpu()
    assert (cpu.name, cpu.features, cpu.fast_int8) == ("AMD EPYC", ("AVX2", "AVX-512", "AVX-512 VNNI"), True)
    files(monkeypatch, cpuinfo="model name\t: Core 2\nflags\t\t: fpu sse ssse3\n")
    assert not machine.read_cpu().fast_int8
    files(monkeypatch, cpuinfo="processor\t: 0\nFeatures\t: fp asimd asimddp bf16\n")
    assert machine.read_cpu().features == ("dot product", "BF16")


@pytest.mark.parametrize(("limit", "expected"), [("1000000000\n", 1000), ("max\n", None), (f"{1 << 60}\n", None)])
def test_the_memory_of_a_container(monkeypatch: pytest.MonkeyPatch, limit: str, expected: int | None):
    files(monkeypatch, **{"memory.max": limit})
    assert machine.read_memory_mb()[1] == expected


def test_a_machine_without_a_driver(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert machine.read_driver() is None


def test_the_gpus_of_a_driver(monkeypatch: pytest.MonkeyPatch):
    class Cuda:
        """The functions of libcuda that are called."""

        def __init__(self, name: str) -> None:
            assert name == "libcuda.so.1"

        def cuInit(self, flags: int) -> int:  # noqa: N802
            return 0

        def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
            version._obj.value = 12_080
            return 0

        def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
            count._obj.value = 2
            return 0

        def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
            device._obj.value = index + 40
            return 0

        def cuDeviceGetName(self, name: Any, length: int, device: Any) -> int:  # noqa: N802
            name.value = f"GPU {device.value}".encode()
            return 0

        def cuDeviceGetPCIBusId(self, name: Any, length: int, device: Any) -> int:  # noqa: N802
            name.value = b"0000:01:00.0"
            return 0

        def cuDeviceTotalMem_v2(self, memory: Any, device: Any) -> int:  # noqa: N802
            memory._obj.value = 80 * 10**9
            return 0

        def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:  # noqa: N802
            value._obj.value = {75: 9, 76: 0}[attribute]
            return 0

    monkeypatch.setattr(ctypes, "CDLL", Cuda)
    files(
        monkeypatch,
        version="NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (root)\n",
    )
    driver = machine.read_driver()
    assert driver is not None
    assert (driver.version, driver.cuda) == ("580.65.06", "12.8")
    assert driver.gpus[1] == machine.Gpu(1, "GPU 41", 80_000, "9.0", "0000:01:00.0")
