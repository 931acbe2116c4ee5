"""Whose array is this, and how does it move? The only module of minidl that imports CuPy.

Kernels are written once with `xp = array_module(x)` and run on NumPy and on CuPy alike. Nothing about CuPy is
remembered between calls: a test can put a stand-in into `sys.modules` and take it out again.
"""
import importlib
import sys
from types import ModuleType
from typing import Any

import numpy as np

Array = Any  # numpy.ndarray or cupy.ndarray: every kernel accepts both

DEVICES = ("cpu", "cuda")


def _is_cupy(x: Any) -> bool:
    """Whether `x` is a CuPy array. An array of a library that nobody has imported cannot exist."""
    if type(x) is np.ndarray:
        return False
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(x, cupy.ndarray)


def is_array(x: Any) -> bool:
    """Whether `x` is a raw array of a supported library."""
    return isinstance(x, np.ndarray) or _is_cupy(x)


def array_module(x: Array) -> ModuleType:
    """The library (`numpy` or `cupy`) that `x` belongs to."""
    return sys.modules["cupy"] if _is_cupy(x) else np


def device_of(x: Array) -> str:
    """`"cpu"` for a NumPy array, `"cuda"` for a CuPy array."""
    return "cuda" if _is_cupy(x) else "cpu"


def _cupy() -> ModuleType:
    """CuPy, proven by running a kernel: it imports without a GPU, and a GPU may lack its compiler."""
    try:
        cupy = importlib.import_module("cupy")
        probe = (cupy.arange(3) + 1).sum().item()
    except Exception as error:  # CuPy raises its own classes for driver, runtime and compiler trouble
        raise RuntimeError(
            f"device 'cuda' needs CuPy and a working GPU, but {type(error).__name__}: {error}; "
            "install minidl with the extra for your driver (pip install 'minidl[cuda13]'), or stay on 'cpu'"
        ) from error
    if probe != 6:
        raise RuntimeError(f"device 'cuda' computed 1 + 2 + 3 = {probe}: check the GPU driver, or stay on 'cpu'")
    return cupy


def to_device(x: Array, device: str) -> Array:
    """`x` on `device` ("cpu" or "cuda"): `x` itself where it is there already, else a copy."""
    if device not in DEVICES:
        raise ValueError(f"device must be 'cpu' or 'cuda', got {device!r}")
    if device_of(x) == device:
        return x
    return _cupy().asarray(x) if device == "cuda" else to_numpy(x)


def to_numpy(x: Array) -> np.ndarray:
    """`x` on the host. A NumPy array comes back as it is, not copied."""
    return x.get() if _is_cupy(x) else x
