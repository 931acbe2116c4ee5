"""Batch norm folded into the convolution in front of it: a net for inference alone.

In evaluation batch norm is y = scale * x + shift per channel, scale = gamma / sqrt(var + eps), shift = beta - mean * scale.
Behind a convolution, x = w * image + b, that is a convolution again, with weights scale * w and bias scale * b + shift: one
pass less over every map.
"""
import copy
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import numpy as np

from minidl.autograd import Tensor, no_grad, shapes_only, watch
from minidl.backend import array_module, to_device
from minidl.function import Function
from minidl.nn.calls import watch_calls


class Step(NamedTuple):
    """An operation that the net ran: in which module, on what, and what came out (zeros that stand for the arrays)."""

    operation: str
    module: Any
    inputs: tuple
    output: Any


class Fusible:
    """What a Module can do for inference. A class of its own, for `Module` to inherit from: so no import goes in a circle."""

    def fuse(self, image_size: int | tuple[int, int] | None = None) -> Self:
        """A copy in evaluation mode whose batch norms are folded into the convolutions in front of them, for inference.

        It gives the same scores to some 1e-6, in less time. Which batch norm belongs to which convolution is seen by running
        the net, without computing, on an image of that size, a number or (height, width) (nets of the zoo know theirs): a
        convolution whose output goes into one batch norm and nowhere else, both minidl's own layers and used once. ReLU
        layers of the copy work in place where nobody else needs what they are given. What does not fit stays as it is; the
        net itself is not changed. A net that goes other ways for other inputs is not for fusing: one way is seen.
        Errors: ValueError for a net that does not say its image size, if none is given.
        """
        new: Any = copy.deepcopy(self)
        new.eval()
        steps, results = _run(new, image_size)
        readers: Counter[int] = Counter(id(x) for x in (*(x for step in steps for x in step.inputs), *results))
        made_by = {id(step.output): step for step in steps}
        runs: Counter[int] = Counter(id(step.module) for step in steps)
        for step in steps:
            before = made_by.get(id(step.inputs[0]))
            alone = before is not None and readers[id(before.output)] == 1 and runs[id(step.module)] == 1
            if not alone or before is None:
                continue
            if step.operation == "batch_norm_eval" and before.operation == "conv2d" and runs[id(before.module)] == 1 and (
                    _is_ours(before.module) and _is_ours(step.module)):
                _fold(before.module, step.module)
            elif step.operation == "relu" and hasattr(step.module, "inplace"):
                step.module.inplace = True
        return new


def _is_ours(module: Any) -> bool:
    """Whether it is minidl's own layer: what a subclass or another layer does with its weights is not known."""
    return "can_be_folded" in vars(type(module))


def _fold(conv: Any, norm: Any) -> None:
    """`conv` does what `norm` does behind it, and `norm` nothing."""
    xp = array_module(conv.weight.data)
    scale = norm.weight.data / xp.sqrt(norm.running_var + norm.eps)
    bias = 0 if conv.bias is None else conv.bias.data
    parameter, trained = type(conv.weight), conv.weight.requires_grad
    conv.bias = parameter((bias - norm.running_mean) * scale + norm.bias.data, trained)
    conv.weight = parameter(conv.weight.data * scale.reshape(-1, 1, 1, 1), trained)
    norm.folded = True
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        setattr(norm, name, None)


def _run(net: Any, size: Any) -> tuple[list[Step], list]:
    """The operations of the net in their order, in evaluation mode, on zeros of which nothing is computed; what it returns."""
    size = getattr(net, "image_size", None) if size is None else size
    both = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if len(both) != 2 or any(isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1 for n in both):
        unknown = ", and does not say how large its images are" if size is None else ""
        raise ValueError(f"fuse: {type(net).__name__} is run once to see what follows what{unknown}: "
                         f"give image_size=..., a whole number or (height, width), got {size!r}")
    inside: list[Any] = [net]
    steps: list[Step] = []

    @contextmanager
    def enter(module: Any) -> Iterator[None]:
        inside.append(module)
        try:
            yield
        finally:
            inside.pop()

    def record(function: Function, inputs: tuple, output: Any) -> None:
        steps.append(Step(function.name, inside[-1], inputs, output))

    parameter = next(net.parameters(), None)
    channels = getattr(net, "in_channels", None) or next(
        (layer.in_channels for layer in net.modules() if hasattr(layer, "in_channels")), 3)
    x = np.zeros((1, channels, *both), np.float32 if parameter is None else parameter.dtype)
    with no_grad(), shapes_only(), watch_calls(enter), watch(record):
        returned = net(Tensor(to_device(x, "cpu" if parameter is None else parameter.device)))
    return steps, _arrays_in(returned)


def _arrays_in(returned: Any) -> list:
    """The arrays of the tensors that a net returned, also in tuples, lists and dictionaries."""
    if isinstance(returned, Tensor):
        return [returned.data]
    parts = returned.values() if isinstance(returned, dict) else returned if isinstance(returned, (tuple, list)) else ()
    return [x for part in parts for x in _arrays_in(part)]
