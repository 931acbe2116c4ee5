"""minidl: a deep-learning framework small enough to be read in a weekend.

    import numpy as np
    import minidl
    x = minidl.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    (x * x).sum().backward()
    print(x.grad)                       # [2. 4. 6.]

This file is the face: it gathers the names that users need. Nothing inside the package imports it.
"""
import importlib

from minidl import nn, ops, optim
from minidl.autograd import Tensor, apply, concat, detect_anomaly, enable_grad, no_grad, pad, shapes_only, stack, watch, where
from minidl.checking.gradcheck import gradcheck
from minidl.checking.report import GradientError
from minidl.function import Function
from minidl.randomness import manual_seed

__version__ = "0.1.0"

__all__ = ["Function", "GradientError", "Tensor", "apply", "concat", "detect_anomaly", "enable_grad", "gradcheck",
           "manual_seed", "nn", "no_grad", "ops", "optim", "pad", "shapes_only", "stack", "watch", "where"]

_ON_DEMAND = ("data", "models", "show", "testing", "train")


def __getattr__(name: str):
    """`minidl.data` and its like work without an import of their own, and cost nothing until somebody asks."""
    if name in _ON_DEMAND:
        return importlib.import_module(f"minidl.{name}")
    raise AttributeError(f"module 'minidl' has no attribute {name!r}; it has {', '.join([*__all__, *_ON_DEMAND])}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ON_DEMAND])
