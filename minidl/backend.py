"""Whose array is this, and how does it move? The only module of minidl that imports CuPy.

Kernels are written once with `xp = array_module(x)` and run on NumPy and on CuPy alike. Nothing about CuPy is
remembered at import: a test can put a stand-in into `sys.modules` and take it out again.
"""
import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

Array = Any  # numpy.ndarray or cupy.ndarray: every kernel accepts both

DEVICES = ("cpu", "cuda")

INSTALL = "pip install 'minidl[cuda13]' (or 'minidl[cuda12]' for a driver that nvidia-smi says has CUDA 12)"


def _is_cupy(x: Any) -> bool:
    """Whether `x` is a CuPy array. An array of a library that nobody has imported cannot exist."""
    if type(x) is np.ndarray:
        return False
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(x, getattr(cupy, "ndarray", ()))


def is_array(x: Any) -> bool:
    """Whether `x` is a raw array of a supported library."""
    return isinstance(x, np.ndarray) or _is_cupy(x)


def array_module(x: Array) -> ModuleType:
    """The library (`numpy` or `cupy`) that `x` belongs to."""
    return sys.modules["cupy"] if _is_cupy(x) else np


def device_of(x: Array) -> str:
    """`"cpu"` for a NumPy array, `"cuda"` for a CuPy array."""
    return "cuda" if _is_cupy(x) else "cpu"


def to_device(x: Array, device: str) -> Array:
    """`x` on `device` ("cpu" or "cuda"): `x` itself where it is already, else a copy. NoCudaError without a GPU."""
    if device not in DEVICES:
        hint = ": one GPU is used, without a number" if str(device).startswith("cuda:") else ""
        raise ValueError(f"device must be 'cpu' or 'cuda', got {device!r}{hint}")
    if device_of(x) == device:
        return x
    return working_cupy().asarray(x) if device == "cuda" else to_numpy(x)


def to_numpy(x: Array) -> np.ndarray:
    """`x` on the host. A NumPy array comes back as it is, not copied."""
    return x.get() if _is_cupy(x) else x


# --- is there a GPU that works? --------------------------------------------------------------------------------------


class NoCudaError(RuntimeError):
    """Device "cuda" cannot be used. `stage` says how far it came: "installed", "imports", "device" or "kernel" failed."""

    def __init__(self, stage: str, found: str, fix: str) -> None:
        super().__init__(f"device 'cuda' needs CuPy and a working GPU, but {' '.join(found.split())}: {fix}; or stay on 'cpu'")
        self.stage = stage


_proven: ModuleType | None = None  # the CuPy that has run a kernel


def working_cupy() -> ModuleType:
    """CuPy, once it has run a kernel: it imports without a GPU, and a GPU may lack its compiler. Else NoCudaError."""
    global _proven
    if _proven is None or sys.modules.get("cupy") is not _proven:
        _proven = None
        cupy = _imported_cupy()
        _see_a_device(cupy)
        _run_a_kernel(cupy)
        _proven = cupy
    return _proven


def _imported_cupy() -> ModuleType:
    """Stages 1 and 2: CuPy is installed, imports, and is CuPy."""
    try:
        missing = importlib.util.find_spec("cupy") is None
    except ValueError:  # sys.modules["cupy"] is something that was never imported
        missing = sys.modules.get("cupy") is None
    if missing:
        raise NoCudaError("installed", "CuPy is not installed", INSTALL)
    try:
        cupy = importlib.import_module("cupy")
    except (Exception, SystemExit) as error:  # broken installations raise whatever they like
        raise NoCudaError("imports", f"importing CuPy{_origin()} failed with {type(error).__name__}: {error}",
                          f"if that is a file of yours, rename it; else remove every CuPy that pip list shows, then {INSTALL}"
                          ) from error
    if not hasattr(cupy, "ndarray") or not hasattr(cupy, "cuda"):
        where = getattr(cupy, "__file__", None) or ", ".join(getattr(cupy, "__path__", ["?"]))
        raise NoCudaError("imports", f"what is imported as cupy, {where}, is not CuPy",
                          f"rename that file or folder, then {INSTALL}")
    return cupy


def _origin() -> str:
    """The file that `import cupy` reads, as part of a sentence."""
    try:
        spec = importlib.util.find_spec("cupy")
    except ValueError:
        spec = None
    return f" ({spec.origin})" if spec is not None and spec.origin else ""


def _see_a_device(cupy: ModuleType) -> None:
    """Stage 3: there are a driver and a GPU."""
    try:
        if cupy.cuda.runtime.getDeviceCount() > 0:
            return
        why = "the driver lists none"
    except Exception as error:  # without a driver, CuPy raises its own CUDARuntimeError
        why = f"{type(error).__name__}: {error}"
    raise NoCudaError("device", f"CuPy {cupy.__version__} finds no GPU ({why})",
                      "does nvidia-smi list one? If not, install NVIDIA's driver; if so, is CUDA_VISIBLE_DEVICES set, or the "
                      "driver older than this CuPy's CUDA")


def _run_a_kernel(cupy: ModuleType) -> None:
    """Stage 4: a kernel is compiled, runs, and computes what it should."""
    try:
        total = float((cupy.arange(3) + 1).sum())
    except Exception as error:  # CuPy has classes of its own for compiler and runtime trouble
        raise NoCudaError("kernel", f"a first kernel failed with {type(error).__name__}: {error}",
                          "the CUDA compiler or its headers may be missing, which the extra [ctk] brings: " + INSTALL
                          ) from error
    if total != 6:
        raise NoCudaError("kernel", f"a first kernel computed 1 + 2 + 3 = {total:g}", "check the driver, and the GPU itself")


def _in_use() -> bool:
    """Whether a GPU has been asked for, and works."""
    return _proven is not None and sys.modules.get("cupy") is _proven


def synchronize() -> None:
    """Waits until the GPU has done all that it was asked to do: before a clock is read. Nothing to wait for without one."""
    if _in_use():
        sys.modules["cupy"].cuda.Device().synchronize()


class GpuMemory(NamedTuple):
    """Bytes: of the card, and of the pool that CuPy keeps so that it need not ask the driver for every array."""

    free: int
    total: int
    used_by_arrays: int
    kept_by_pool: int


def gpu_memory() -> GpuMemory:
    """The GPU's memory now. `minidl.free_gpu_memory()` gives back what the pool keeps but no array uses."""
    cupy = working_cupy()
    pool = cupy.get_default_memory_pool()
    free, total = cupy.cuda.runtime.memGetInfo()
    return GpuMemory(int(free), int(total), int(pool.used_bytes()), int(pool.total_bytes()))


def free_gpu_memory() -> None:
    """Gives the pool's unused memory back to the driver, for other programs; arrays stay. Without a GPU in use: nothing."""
    if _in_use():
        sys.modules["cupy"].get_default_memory_pool().free_all_blocks()
