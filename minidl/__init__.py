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
from minidl.backend import NoCudaError, array_module, free_gpu_memory, gpu_memory, synchronize
from minidl.checking.gradcheck import gradcheck
from minidl.checking.pairs import check, check_backward
from minidl.checking.report import GradcheckError, Report
from minidl.function import Function
from minidl.ops.conv2d import conv_method
from minidl.randomness import manual_seed
from minidl.threads import get_num_threads, set_num_threads

__version__ = "0.1.0"

__all__ = ["Function", "GradcheckError", "NoCudaError", "Report", "Tensor", "apply", "array_module", "check", "check_backward",
           "concat", "conv_method", "detect_anomaly", "enable_grad", "free_gpu_memory", "get_num_threads", "gpu_memory",
           "gradcheck", "manual_seed", "nn", "no_grad", "ops", "optim", "pad", "set_num_threads", "shapes_only", "stack",
           "synchronize", "watch", "where"]

# What costs time to load, and the module it comes from: the module itself, or a function in it.
_ON_DEMAND = {"data": "minidl.data", "interop": "minidl.interop", "load": "minidl.interop", "models": "minidl.models",
              "parity": "minidl.parity", "save": "minidl.interop", "show": "minidl.show", "testing": "minidl.testing",
              "train": "minidl.train"}


def __getattr__(name: str):
    """`minidl.data`, `minidl.load` and their like work without an import of their own, and cost nothing until asked for."""
    if name not in _ON_DEMAND:
        raise AttributeError(f"module 'minidl' has no attribute {name!r}; it has {', '.join([*__all__, *_ON_DEMAND])}")
    module = importlib.import_module(_ON_DEMAND[name])
    return module if module.__name__ == f"minidl.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_ON_DEMAND])
