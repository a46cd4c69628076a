"""CUDA as the sessions use it: whether it can serve here, the provider's options, and which errors are fatal."""

import ctypes
import os
import re
from typing import Any

import onnxruntime as ort

from service.inference.device import cuda_index, cuda_name

PROVIDER = "CUDAExecutionProvider"

_INSTALL = "in the clone, run `make install-gpu`; as a container, use the image quartet:gpu"
# How ONNX Runtime reports errors of NVIDIA's libraries; a test looks for this wording in the provider's file.
_FAILURE = re.compile(r"(?P<library>CU[A-Z_]*) failure (?P<code>\d+): (?P<text>[^;]*)")
# Errors that leave "the process in an inconsistent state", after which "any further CUDA work will return the same
# error" (CUDA Runtime API, cudaError_t): uncorrectable errors of memory and links, a destroyed context, an illegal
# address, a timeout, an assertion, a broken kernel; and the unknown error, when a GPU has left the bus.
_FATAL = frozenset({214, 220, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 999})


def cuda_problem(index: int = 0) -> str | None:
    """Why a GPU cannot serve on this machine, such as the first missing library; None if it can.

    Args:
        index: of the GPU, as CUDA counts them after CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER.
    """
    # cuBLAS and cuDNN read this variable when they are loaded, below. The provider's `use_tf32` is not enough: its
    # convolutions retry with TensorFloat-32 if there is no plan without it, and its recurrent layers ignore the option.
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    if PROVIDER not in ort.get_available_providers():
        return f"this build of ONNX Runtime has no CUDA provider: {_INSTALL}"
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return f"no NVIDIA driver ({error}): install it, or start the container with its GPUs"
    count = ctypes.c_int(0)
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if code or not count.value:
        return f"the NVIDIA driver offers no GPU (CUDA error {code}, {count.value} devices): check nvidia-smi"
    if index >= count.value:
        return f"there is no GPU {index}: the driver offers {count.value}, counted from 0"
    newest = ctypes.c_int(0)
    major = ort.cuda_version.split(".")[0]
    if not driver.cuDriverGetVersion(ctypes.byref(newest)) and newest.value // 1000 < int(major):
        supported = f"{newest.value // 1000}.{newest.value % 1000 // 10}"
        return f"the NVIDIA driver supports CUDA {supported}, and {ort.cuda_version} is needed: update the driver"
    ort.preload_dlls()
    # What the provider links against; loading the provider itself outside the runtime is not supported.
    for name in (f"cudart.so.{major}", f"cublasLt.so.{major}", f"cublas.so.{major}", "curand.so.10", "cudnn.so.9"):
        try:
            ctypes.CDLL(f"lib{name}")
        except OSError as error:
            return f"a CUDA library is missing ({error}): {_INSTALL}"
    return None


def free_memory(index: int) -> int | None:
    """Free bytes of a GPU; None if that is unknown, as before anything runs on it."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, flags, active = ctypes.c_int(0), ctypes.c_uint(0), ctypes.c_int(0)
    context, free, total = ctypes.c_void_p(), ctypes.c_size_t(0), ctypes.c_size_t(0)
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), index):
        return None
    # Only in the context that the provider has made: another one would take hundreds of MB of the GPU.
    if driver.cuDevicePrimaryCtxGetState(device, ctypes.byref(flags), ctypes.byref(active)) or not active.value:
        return None
    if driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device):
        return None
    try:
        if driver.cuCtxPushCurrent_v2(context):
            return None
        code = driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
        driver.cuCtxPopCurrent_v2(ctypes.byref(context))
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(device)
    return None if code else free.value


def serving_device(device: str) -> str:
    """The device on which graphs run for the setting `device`: `auto` is resolved to CUDA or the CPU."""
    return "cpu" if device == "cpu" or cuda_problem(cuda_index(device)) else cuda_name(cuda_index(device))


def provider(index: int, memory_mb: float) -> tuple[str, dict[str, Any]]:
    """The CUDA provider and its options for a session whose arena may take `memory_mb`; 0 for no limit."""
    options = {
        "device_id": str(index),
        # TensorFloat-32 keeps 10 of 23 bits of the mantissa (`python -m benchmarks.tf32` measures the effect).
        "use_tf32": "0",
        # Powers of two would take up to twice the memory that a session needs; its shapes are fixed.
        "arena_extend_strategy": "kSameAsRequested",
        # Exhaustive search would time every algorithm at each start, and replicas might choose different ones.
        "cudnn_conv_algo_search": "HEURISTIC",
    }
    if memory_mb:
        options["gpu_mem_limit"] = str(int(memory_mb * 1_000_000))
    return PROVIDER, options


def failure(error: BaseException) -> str | None:
    """The error of one of NVIDIA's libraries that caused `error`, if any."""
    found = _FAILURE.search(str(error))
    return f"{found['library']} error {found['code']}, {found['text'].strip()}" if found else None


def fatal(error: BaseException) -> str | None:
    """Why the GPU is unusable for this process after an error; None if it is not."""
    for found in _FAILURE.finditer(str(error)):
        if found["library"] == "CUDA" and int(found["code"]) in _FATAL:
            return f"CUDA error {found['code']}, {found['text'].strip()}"
    return None
