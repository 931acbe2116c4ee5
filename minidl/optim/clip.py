"""Keeping gradients small: between `loss.backward()` and `optimizer.step()`."""
import math
from typing import Any

import numpy as np

from minidl.backend import array_module, to_numpy
from minidl.optim.optimizer import check_number, parameter_list


def clip_grad_norm_(params: Any, max_norm: float, error_if_nonfinite: bool = False) -> float:
    """Scales all gradients by one factor so that their joint Euclidean norm is at most `max_norm`, in place.

    Returns the norm before. Parameters without a gradient do not count. Pascanu et al. 2013, algorithm 1.
    A norm that is infinite or NaN makes gradients NaN, as in PyTorch; `error_if_nonfinite` raises instead, and leaves
    the gradients as they are.
    """
    max_norm = check_number("clip_grad_norm_", "max_norm", max_norm)
    gradients = [p.grad for p in parameter_list("clip_grad_norm_", params) if p.grad is not None]
    # squares are added up in float64: those of large float32 gradients would overflow
    squares = [array_module(g).square(g, dtype=np.float64).sum() for g in gradients]
    norm = math.sqrt(sum(float(to_numpy(s)) for s in squares))
    if error_if_nonfinite and not math.isfinite(norm):
        raise FloatingPointError(f"clip_grad_norm_: the norm of the gradients is {norm}: lower the learning rate, or "
                                 "find the operation with minidl.detect_anomaly()")
    factor = max_norm / (norm + 1e-6)
    if not factor >= 1:  # true for NaN as well
        for g in gradients:
            g *= factor
    return norm


def clip_grad_value_(params: Any, clip_value: float) -> None:
    """Cuts every element of every gradient to -clip_value .. clip_value, in place. NaN stays NaN."""
    clip_value = check_number("clip_grad_value_", "clip_value", clip_value)
    for p in parameter_list("clip_grad_value_", params):
        if p.grad is not None:
            array_module(p.grad).clip(p.grad, -clip_value, clip_value, out=p.grad)
