"""Finding the first NaN or Inf: whose line called, and what is not finite. What `detect_anomaly` switches on."""
import os
import sys

import numpy as np

from minidl.backend import Array, array_module, to_numpy


def user_line() -> str:
    """"file:line" of the innermost call that does not come from inside the package."""
    package = os.path.dirname(__file__) + os.sep
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(package):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def refuse_non_finite(x: Array, what: str, line: str, inputs: tuple[Array, ...] = ()) -> None:
    """Raises FloatingPointError if `x` holds a NaN or Inf; says whether one came in with the inputs."""
    if x.dtype.kind != "f" or bool(array_module(x).isfinite(x).all()):
        return
    index = tuple(int(i) for i in np.argwhere(~np.isfinite(to_numpy(x)))[0])
    kind = "NaN" if np.isnan(to_numpy(x)[index]) else "Inf"
    arrived = any(a.dtype.kind == "f" and not bool(array_module(a).isfinite(a).all()) for a in inputs)
    origin = "; it came in with an input" if arrived else ""
    raise FloatingPointError(f"detect_anomaly: first {kind} in the {what}, at index {index}, called at {line}{origin}")
