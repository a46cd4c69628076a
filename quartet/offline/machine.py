"""The hardware of this machine, as far as it matters to a neural network: processor, memory, GPUs."""

import ctypes
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

# Processor features that speed up neural networks, by their names in /proc/cpuinfo (x86, ARM).
_FEATURES = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512_bf16": "AVX-512 BF16",
    "amx_int8": "AMX int8",
    "amx_bf16": "AMX BF16",
    "asimddp": "dot product",
    "i8mm": "I8MM",
    "bf16": "BF16",
    "sve": "SVE",
}
# With one of these, products of 8-bit integers are exact and fast; otherwise they may saturate.
_INT8 = ("AVX-VNNI", "AVX-512 VNNI", "AMX int8", "dot product", "I8MM")
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # CUdevice_attribute


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor.

    Attributes:
        name: of its model.
        cores: how many there are.
        features: that make neural networks faster.
    """

    name: str
    cores: int
    features: tuple[str, ...]

    @property
    def fast_int8(self) -> bool:
        """Whether it multiplies 8-bit integers exactly in one instruction."""
        return any(feature in self.features for feature in _INT8)


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU.

    Attributes:
        index: as CUDA counts them.
        name: of its model.
        memory_mb: total memory, in MB.
        capability: CUDA's compute capability, "9.0" say.
        bus: its PCI bus address, as nvidia-smi shows it.
    """

    index: int
    name: str
    memory_mb: int
    capability: str
    bus: str


@dataclass(frozen=True, slots=True)
class Driver:
    """The NVIDIA driver.

    Attributes:
        version: of the driver; None if unknown.
        cuda: the newest CUDA that it supports.
        gpus: visible to this process.
    """

    version: str | None
    cuda: str
    gpus: tuple[Gpu, ...]


def read_cpu() -> Cpu:
    """The processor of this machine."""
    text = _read("/proc/cpuinfo")
    name = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*: (.+)$", text, re.MULTILINE)
    present = flags[1].split() if flags else []
    features = tuple(known for flag, known in _FEATURES.items() if flag in present)
    return Cpu(name[1] if name else platform.processor() or platform.machine(), os.cpu_count() or 1, features)


def read_memory_mb() -> tuple[int, int | None]:
    """The machine's memory and the container's limit, if any (cgroup v2, v1), in MB."""
    total = int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6)
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = _read(path).strip()
        if limit.isdecimal() and int(limit) / 1e6 < total:
            return total, int(int(limit) / 1e6)
    return total, None


def read_driver() -> Driver | None:
    """The NVIDIA driver and its GPUs; None if there is none."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    number = ctypes.c_int(0)
    cuda.cuDriverGetVersion(ctypes.byref(number))
    newest = number.value
    count = ctypes.c_int(0)
    usable = not cuda.cuInit(0) and not cuda.cuDeviceGetCount(ctypes.byref(count))
    version = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)", _read("/proc/driver/nvidia/version"))
    gpus = tuple(_read_gpu(cuda, index) for index in range(count.value if usable else 0))
    return Driver(version[1] if version else None, f"{newest // 1000}.{newest % 1000 // 10}", gpus)


def _read_gpu(cuda: ctypes.CDLL, index: int) -> Gpu:
    device = ctypes.c_int(0)
    cuda.cuDeviceGet(ctypes.byref(device), index)
    name, bus = ctypes.create_string_buffer(256), ctypes.create_string_buffer(32)
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDeviceGetPCIBusId(bus, len(bus), device)
    memory = ctypes.c_size_t(0)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    major, minor = ctypes.c_int(0), ctypes.c_int(0)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, device)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, device)
    capability = f"{major.value}.{minor.value}"
    return Gpu(index, name.value.decode(), int(memory.value / 1e6), capability, bus.value.decode())


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
