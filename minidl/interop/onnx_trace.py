"""What a net does to a batch of images: the operations that it applies, each with the module that ran it.

Arrays stand for values, and are told apart by their identity.
"""
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from minidl.autograd import Tensor, no_grad, shapes_only, watch
from minidl.backend import Array, to_device
from minidl.function import Function
from minidl.nn import Module
from minidl.nn.calls import watch_calls
from minidl.nn.module import evaluating

Shape = tuple[int | None, ...]
"""Sizes of axes; None where the size changes with the number of images in the batch."""


@dataclass(frozen=True)
class Call:
    """One operation that was applied."""

    function: Function
    inputs: tuple[Array, ...]
    output: Array
    module: Module
    """The innermost module of the net that was running."""
    name: str
    """That module's dotted name; behind it the operation's, where the module has parts of its own: "layer1.0.add"."""
    shapes: tuple[Shape, ...]
    """Of the inputs."""
    shape: Shape
    """Of the output."""


class Trace(NamedTuple):
    """The way of one batch through the net."""

    images: Array
    calls: list[Call]
    """Those that the output was computed from, in order."""
    output: Array
    shape: Shape
    """Of the output."""


def trace(net: Module, input_shape: tuple[int, ...], batch_size: int) -> Trace:
    """The operations that `net` applies in evaluation mode to images (batch_size, *input_shape); nothing is computed.

    Errors: TypeError for a net that returns anything but one tensor, and whatever the net refuses.
    """
    with shapes_only():
        return _trace(net, np.zeros((batch_size, *input_shape)))


def trace_any_batch(net: Module, input_shape: tuple[int, ...]) -> list[Trace]:
    """The same for two batch sizes; sizes that differ between them are None in the shapes of both.

    Errors: ValueError for a net whose operations depend on the batch size.
    """
    first, second = trace(net, input_shape, 2), trace(net, input_shape, 3)
    if _path(first) != _path(second):
        raise ValueError("export_onnx: the net applies other operations to 2 images than to 3; "
                         "for the one batch size that you need, pass batch=<the number>")
    return [_opened(first, second), _opened(second, first)]


def trace_with_values(net: Module, taken: list[Trace]) -> Trace:
    """The first trace again, this time computed, for random images: what differs depends on what the images show.

    Errors: ValueError if even the operations differ.
    """
    first, *others = taken
    with no_grad(), np.errstate(all="ignore"):
        real = _trace(net, np.random.default_rng(0).standard_normal(first.images.shape))
    if _path(first) != _path(real):
        raise ValueError("export_onnx: which operations the net applies depends on what the images show, and the file would "
                         "hold one way only: write both and join them with arithmetic, or export the parts")
    return _opened(real, others[0]) if others else real


def _trace(net: Module, images: np.ndarray) -> Trace:
    recorder = _Recorder(net)
    like = next(net.parameters(), Tensor(np.zeros((), np.float32)))
    x = to_device(images.astype(like.dtype), like.device)
    with evaluating(net), watch(recorder.record), watch_calls(recorder.inside):
        y = net(Tensor(x))
    if not isinstance(y, Tensor):
        raise TypeError(f"export_onnx: the net must return one tensor, in evaluation mode too, got {type(y).__name__}: "
                        "wrap it in a Module whose forward returns the one that is wanted")
    calls = _that_lead_to(y.data, recorder.calls)
    if y.data is not x and not any(array is x for call in calls for array in call.inputs):
        raise ValueError("export_onnx: no operation leads from the images to what the net returns: "
                         "between .numpy() or .data and a new Tensor(...) the thread is lost; use operations of minidl")
    return Trace(x, calls, y.data, y.shape)


def _path(taken: Trace) -> list[tuple[type, str]]:
    return [(type(call.function), call.name) for call in taken.calls]


def _opened(one: Trace, other: Trace) -> Trace:
    """`one` with None for every size in which `other` differs."""
    calls = [replace(a, shapes=tuple(map(_common, a.shapes, b.shapes)), shape=_common(a.shape, b.shape))
             for a, b in zip(one.calls, other.calls)]
    return one._replace(calls=calls, shape=_common(one.shape, other.shape))


def _common(shape: Shape, other: Shape) -> Shape:
    if len(shape) != len(other):
        raise ValueError(f"export_onnx: the batch size changes the number of axes, {len(shape)} or {len(other)}; "
                         "for the one batch size that you need, pass batch=<the number>")
    return tuple(n if n == m else None for n, m in zip(shape, other))


def _that_lead_to(output: Array, calls: list[Call]) -> list[Call]:
    """The calls that `output` was computed from. A net may compute more, such as scores that only training looks at."""
    wanted, kept = {id(output)}, []
    for call in reversed(calls):
        if id(call.output) in wanted:
            wanted.update(map(id, call.inputs))
            kept.append(call)
    return kept[::-1]


class _Recorder:
    """Takes down the calls, and knows which module is running."""

    def __init__(self, net: Module) -> None:
        self.paths = {id(module): path for path, module in net.named_modules()}
        self.running: list[Module] = [net]
        self.calls: list[Call] = []

    @contextmanager
    def inside(self, module: Module) -> Iterator[None]:
        # a module that was made during forward has no name: its operations count as those of the one that runs it
        self.running.append(module if id(module) in self.paths else self.running[-1])
        try:
            yield
        finally:
            self.running.pop()

    def record(self, function: Function, inputs: tuple, output: Any) -> None:
        module = self.running[-1]
        path, has_parts = self.paths[id(module)], next(module.children(), None) is not None
        name = f"{path}.{function.name}" if path and has_parts else path or function.name
        self.calls.append(Call(function, inputs, output, module, name, tuple(x.shape for x in inputs), output.shape))
