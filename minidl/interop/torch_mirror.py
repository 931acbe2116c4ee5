"""The same network in PyTorch, to compare with: the operations that a minidl net applies, replayed with PyTorch's.

The net is run once without computing, and what it applies is written down (`autograd.watch`); each operation then stands for
one call of PyTorch's on the same parameters. ReLU works in place, as in torchvision's nets. For benchmarks (`minidl bench`) and
for a look at how two frameworks say the same.
"""
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.autograd import Tensor, shapes_only, watch
from minidl.function import Function
from minidl.nn import Module
from minidl.nn.module import modes_kept


def torch_mirror(net: Module, input_shape: tuple[int, ...], training: bool, outputs: int = 1) -> Any:
    """A torch.nn.Module that does to images of `input_shape` (N, C, H, W) what `net` does in that mode.

    It has copies of the parameters, under their names with "/" for ".", and batch norms of its own that start afresh. Errors:
    ImportError without PyTorch; ValueError for an operation that has no twin in the table below.
    """
    import torch
    steps: list[tuple[Function, tuple, Any]] = []
    parameter = next(net.parameters(), None)
    images = np.broadcast_to(np.zeros((), np.float32 if parameter is None else parameter.dtype), input_shape)
    with modes_kept(net), shapes_only(), watch(lambda function, inputs, output: steps.append((function, inputs, output))):
        net.train(training)
        given = net(Tensor(images))
    results = [y.data for y in (given if isinstance(given, tuple) else (given,))]
    places = {id(p.data): name.replace(".", "/") for name, p in net.named_parameters()}

    class Mirror(torch.nn.Module):
        """Runs the steps one after the other; values are known by the identity of the array that stands for them."""

        def __init__(self) -> None:
            super().__init__()
            for name, p in net.named_parameters():
                self.register_parameter(name.replace(".", "/"), torch.nn.Parameter(torch.from_numpy(np.array(p.data))))
            self.plan = _plan(steps, results, id(images), places)
            for k, (function, *_) in enumerate(self.plan):
                if function.name == "batch_norm":
                    channels = steps[k][1][1].shape[0]
                    self.register_buffer(f"mean/{k}", torch.zeros(channels))
                    self.register_buffer(f"var/{k}", torch.ones(channels))

        def forward(self, x: Any) -> Any:
            values: dict[Any, Any] = {id(images): x}
            parameters, buffers = self._parameters, self._buffers
            for k, (function, twin, inputs, output, last) in enumerate(self.plan):
                arguments = [parameters[i] if isinstance(i, str) else values[i] if isinstance(i, int) else i for i in inputs]
                if function.name == "batch_norm":
                    arguments += [buffers[f"mean/{k}"], buffers[f"var/{k}"]]
                values[output] = twin(function, *arguments)
                for done in last:  # what nobody reads any more is let go
                    del values[done]
            found = tuple(values[id(y)] for y in results)
            return found if len(found) > 1 else found[0]

    return Mirror()


def _plan(steps: list[tuple[Function, tuple, Any]], results: list, images: int, places: dict[int, str]) -> list[tuple]:
    """(function, twin, inputs, output, what is not read after it) per step. An input: a parameter's name, a value, a
    constant."""
    import torch
    table, made = twins(), {images} | {id(output) for _, _, output in steps}
    readers = Counter(id(x) for _, inputs, _ in steps for x in inputs) + Counter(id(y) for y in results)
    plan = []
    for function, inputs, output in steps:
        if function.name not in table:
            raise ValueError(f"torch_mirror: {function.name} has no twin among PyTorch's operations here; "
                             f"there are {', '.join(sorted(table))}")
        named = [places.get(id(x)) or (id(x) if id(x) in made else torch.from_numpy(np.array(x))) for x in inputs]
        last = []
        for x in inputs:
            readers[id(x)] -= 1
            if id(x) in made and not readers[id(x)] and id(x) != images:
                last.append(id(x))
        name = "relu, kept" if function.name == "relu" and id(inputs[0]) not in last else function.name
        plan.append((function, table[name], named, id(output), last))
    return plan


def twins() -> dict[str, Callable[..., Any]]:
    """The name of an operation of minidl -> a function of it and PyTorch tensors."""
    import torch
    F = torch.nn.functional

    def reshape(f: Any, x: Any) -> Any:
        return x.reshape(f.shape)

    def lrn(f: Any, x: Any) -> Any:  # PyTorch divides alpha by the window
        n = f.before + f.after + 1
        return F.local_response_norm(x, n, f.alpha * n, f.beta, f.k)

    def pad(f: Any, x: Any) -> Any:
        return F.pad(x, [n for both in reversed(f.pad_width) for n in both], value=f.value)

    return {
        "conv2d": lambda f, x, w, b=None: F.conv2d(x, w, b, f.stride, f.padding, groups=f.groups),
        "linear": lambda f, x, w, b=None: F.linear(x, w, b),
        "relu": lambda f, x: torch.relu_(x), "relu, kept": lambda f, x: torch.relu(x),
        "max_pool2d": lambda f, x: F.max_pool2d(x, f.kernel, f.stride, f.padding, ceil_mode=f.ceil_mode),
        "avg_pool2d": lambda f, x: F.avg_pool2d(x, f.kernel, f.stride, f.padding, f.ceil_mode, f.count_include_pad),
        "adaptive_avg_pool2d": lambda f, x: F.adaptive_avg_pool2d(x, f.output_size),
        "batch_norm": lambda f, x, w, b, mean, var: F.batch_norm(x, mean, var, w, b, True, 0.1, f.eps),
        "batch_norm_eval": lambda f, x, w, b, mean, var: F.batch_norm(x, mean, var, w, b, False, 0.1, f.eps),
        "lrn": lrn, "dropout": lambda f, x, keep: F.dropout(x, f.p, True), "reshape": reshape, "pad": pad,
        "add": lambda f, x, y: x + y, "concat": lambda f, *xs: torch.cat(xs, f.axis),
        "getitem": lambda f, x: x[f.index],
    }
