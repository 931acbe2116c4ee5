"""What a net is made of and what it costs: one forward pass, watched."""
from typing import Any, NamedTuple

import numpy as np

from minidl.autograd import Tensor, shapes_only, watch
from minidl.backend import to_device
from minidl.function import Function
from minidl.nn import Module
from minidl.train.loop import evaluating


class Row(NamedTuple):
    """One operation of the forward pass."""

    layer: str
    """Dotted name of the module whose parameters it uses; "" for an operation without parameters."""
    operation: str
    shape: tuple[int, ...]
    """Shape of the output, batch axis first."""
    parameters: int
    """Numbers that training changes and that no row above has used."""
    multiply_adds: int
    """Of convolutions and linear layers, for the batch that went through."""


def trace(net: Module, input_shape: tuple[int, ...], batch_size: int = 1) -> list[Row]:
    """The operations that `net` applies to a batch of zeros (batch_size, *input_shape), in order.

    input_shape: of one image, (C, H, W). Runs in evaluation mode without gradients and leaves modes, gradients and
    running statistics as they were; nothing is computed, only shapes.
    """
    shape = _image_shape(input_shape)
    named = list(net.named_parameters())
    owner = {id(parameter.data): (name.rpartition(".")[0], parameter.size) for name, parameter in named}
    rows: list[Row] = []
    counted: set[int] = set()

    def record(function: Function, inputs: tuple, output: Any) -> None:
        mine = [id(x) for x in inputs if id(x) in owner]
        size = sum(owner[i][1] for i in mine if i not in counted)
        counted.update(mine)
        rows.append(Row(owner[mine[0]][0] if mine else "", function.name, tuple(output.shape), size,
                        function.multiply_adds(output.shape, *(x.shape for x in inputs))))

    dtype, device = (named[0][1].dtype, named[0][1].device) if named else (np.dtype(np.float32), "cpu")
    x = Tensor(to_device(np.zeros((batch_size, *shape), dtype), device))
    with evaluating(net), shapes_only(), watch(record):
        net(x)
    return rows


def count_parameters(net: Module, trainable_only: bool = False) -> int:
    """The numbers in all parameters, shared ones once; `trainable_only` leaves frozen ones out."""
    return sum(p.size for p in net.parameters() if p.requires_grad or not trainable_only)


def count_multiply_adds(net: Module, input_shape: tuple[int, ...]) -> int:
    """Multiply-adds of all convolutions and linear layers for one image of shape (C, H, W); see `trace`."""
    return sum(row.multiply_adds for row in trace(net, input_shape))


def _image_shape(input_shape: Any) -> tuple[int, ...]:
    if not isinstance(input_shape, (tuple, list)) or not input_shape or not all(
            isinstance(n, (int, np.integer)) and n >= 1 for n in input_shape):
        raise ValueError(f"trace: input_shape must be the shape of one image such as (1, 28, 28), got {input_shape!r}")
    return tuple(int(n) for n in input_shape)


def short_number(n: int) -> str:
    """1234567 -> "1.23 M": three significant digits."""
    value, unit = float(n), 0
    while value >= 999.5 and unit < 3:
        value, unit = value / 1000, unit + 1
    if unit == 0:
        return str(n)
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {'kMG'[unit - 1]}"
