"""What a net is made of and what it costs: one forward pass of shapes, watched layer by layer."""
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from minidl.autograd import Tensor, shapes_only, watch
from minidl.backend import array_module, to_device
from minidl.function import Function
from minidl.nn import Module
from minidl.nn.calls import watch_calls
from minidl.nn.checks import whole_number
from minidl.nn.module import evaluating
from minidl.show.receptive import IMAGE, Field, only_slices, seen_through

FROM_IMAGE = -1
"""In `Row.inputs`: the image itself."""


class Row(NamedTuple):
    """One call of a layer (a module that holds no others), or one operation in the forward of a module that does."""

    layer: str
    """Dotted name of the layer. For an operation: of the module in whose forward it runs, "" for the net itself."""
    operation: str
    """The layer's class, or the operation's name."""
    shape: tuple[int, ...]
    """Shape of the output, batch axis first; () for a layer that hands its input on (Identity, Dropout in evaluation)."""
    parameters: int
    """Numbers in the parameters it uses and that no row above has used."""
    multiply_adds: int
    """Of convolutions and linear layers, for the batch that went through."""
    memory: int = 0
    """Bytes of the arrays that its operations make, kept all at once, as training keeps them. Views cost nothing: reshape,
    transpose, crop, slices, and layers that hand their input on; nor does ReLU that takes its input's memory."""
    field: Field | None = None
    """The receptive field of one output pixel; None where there is no image, or it cannot be followed."""
    inputs: tuple[int, ...] = ()
    """The rows whose outputs it reads, in order of use; FROM_IMAGE is the image."""
    is_layer: bool = True
    """False for an operation."""
    window: tuple | None = None
    """(kernel, stride), each (height, width), of the first operation in it that slides a window."""

    @property
    def path(self) -> tuple[str, ...]:
        """Where the row hangs in the tree of modules, an operation one below its module: ("layer1", "0", "add")."""
        names = tuple(self.layer.split(".")) if self.layer else ()
        return names if self.is_layer else (*names, self.operation)


class Walk(NamedTuple):
    """All that one forward pass tells."""

    rows: list[Row]
    results: tuple[int, ...]
    """The rows that made what the net returns."""
    result_shapes: tuple[tuple[int, ...], ...]
    unused: dict[str, int]
    """name -> size of the parameters that no operation used: of parts for training only, or forgotten ones."""


def trace(net: Module, input_shape: tuple[int, ...], batch_size: int = 1) -> list[Row]:
    """What happens to a batch (batch_size, *input_shape) on its way through `net`: a row per layer, in order of the calls.

    A layer that is called twice has two rows, the second without parameters. input_shape: of one image, (C, H, W), or of one
    vector. Runs in evaluation mode without gradients and leaves modes, gradients and running statistics as they were; nothing
    is computed, only shapes. One image is followed, and what depends on it multiplied by batch_size.
    Errors: those of the net for an image that does not fit, with a note of the layer's name.
    """
    return walk(net, input_shape, batch_size).rows


def walk(net: Module, input_shape: tuple[int, ...], batch_size: int = 1) -> Walk:
    """`trace`, with what the net returns and which parameters it left alone."""
    if not isinstance(net, Module):
        raise TypeError(f"trace: needs a net (a Module), got {type(net).__name__}")
    batch_size, shape = whole_number("trace", "batch_size", batch_size), _image_shape(input_shape)
    parameters = dict(net.named_parameters())
    first = next(iter(parameters.values()), Tensor(np.zeros((), np.float32)))
    zero = to_device(np.zeros((), first.dtype), first.device)
    x = Tensor(array_module(zero).broadcast_to(zero, (1, *shape)))  # as `shapes_only` has it: one zero shown everywhere
    watcher = _Watcher(net, x, {id(p.data): p.size for p in parameters.values()}, batch_size)
    with evaluating(net), shapes_only(), watch(watcher.applied), watch_calls(watcher.calling):
        try:
            result = net(x)
        except Exception as error:
            error.add_note(watcher.where)
            raise
    made = [y.data for y in _tensors(result)]
    unused = {name: p.size for name, p in parameters.items() if id(p.data) not in watcher.counted}
    results = dict.fromkeys(watcher.maker[id(y)] for y in made if id(y) in watcher.maker)
    shapes = tuple(watcher.batch_of(y) for y in made)
    return Walk(watcher.rows, tuple(results), shapes, unused)


def count_parameters(net: Module, trainable_only: bool = False) -> int:
    """The numbers in all parameters, shared ones once; `trainable_only` leaves frozen ones out."""
    return sum(p.size for p in net.parameters() if p.requires_grad or not trainable_only)


def count_multiply_adds(net: Module, input_shape: tuple[int, ...]) -> int:
    """Multiply-adds of all convolutions and linear layers for one image of shape (C, H, W); see `trace`."""
    return sum(row.multiply_adds for row in trace(net, input_shape))


class _Watcher:
    """Turns what `watch` and `watch_calls` tell into rows. Knows arrays by their identity, and keeps them alive for it."""

    def __init__(self, net: Module, x: Tensor, sizes: dict[int, int], batch_size: int) -> None:
        names = {id(module): name for name, module in net.named_modules()}
        parents = {name.rpartition(".")[0] for name in names.values() if name} | {""}
        self.names = names
        self.layers = {i for i, name in names.items() if name not in parents}
        self.sizes, self.counted = sizes, set[int]()  # of parameters, by their arrays
        self.batch_size = batch_size
        self.alive: list[Any] = [x.data]
        self.maker = {id(x.data): FROM_IMAGE}
        self.functions: dict[int, Function] = {}  # that made the arrays
        self.fields: dict[int, Field | None] = {id(x.data): IMAGE if x.ndim == 4 else None}  # of all that depends on the image
        self.rows: list[Row] = []
        self.open: Row | None = None  # the layer that is being called
        self.module = ""  # the innermost module with parts that is being called
        self.where = ""  # where the innermost error came from

    @contextmanager
    def calling(self, module: Module) -> Iterator[None]:
        """Around each call of a module."""
        if self.open is not None:  # a layer that makes modules for itself is one layer all the same
            yield
            return
        outer, name = self.module, self.names.get(id(module))
        try:
            if id(module) in self.layers:
                self.open = Row(self.names[id(module)], type(module).__name__, (), 0, 0)
            elif name is not None:
                self.module = name
            elif next(module.children(), None) is None:  # made in forward, as in nn.ReLU()(x): an operation of the caller's
                self.open = Row(self.module, type(module).__name__, (), 0, 0, is_layer=False)
            # else also made in forward, as in self.layers[:3](x): the layers in it speak for themselves
            yield
        except Exception:
            self.where = self.where or (f"in layer {name} ({type(module).__name__})" if name else
                                        f"in the forward of {type(module).__name__}")
            raise
        finally:
            if self.open is not None:
                self.rows.append(self.open)
            self.open, self.module = None, outer

    def applied(self, function: Function, inputs: tuple, y: Any) -> None:
        """After each operation."""
        row = self.open or Row(self.module, function.name, (), 0, 0, is_layer=False)
        used = [i for i in dict.fromkeys(map(id, inputs)) if i in self.sizes and i not in self.counted]
        self.counted.update(used)
        makers = [self.maker[id(x)] for x in inputs if id(x) in self.maker]
        shapes = [tuple(x.shape) for x in inputs]
        field = self._field(function, inputs, shapes, y)
        images = self.batch_size if id(y) in self.fields else 1
        row = row._replace(
            shape=self.batch_of(y),
            parameters=row.parameters + sum(self.sizes[i] for i in used),
            multiply_adds=row.multiply_adds + images * function.multiply_adds(tuple(y.shape), *shapes),
            memory=row.memory + (0 if self._takes_no_memory(function, inputs) else images * y.size * y.dtype.itemsize),
            field=field,
            inputs=tuple(dict.fromkeys((*row.inputs, *(i for i in makers if i != len(self.rows))))),
            window=row.window or function.window(*shapes))
        self.alive.append(y)
        self.maker[id(y)], self.functions[id(y)] = len(self.rows), function
        if self.open is not None:
            self.open = row
        else:
            self.rows.append(row)

    def _takes_no_memory(self, function: Function, inputs: tuple) -> bool:
        """Whether the output shows the input's memory or, while training, takes it."""
        before = self.functions.get(id(inputs[0])) if inputs else None
        return _is_view(function) or (function.inplace and before is not None and before.may_lose_output())

    def batch_of(self, y: Any) -> tuple[int, ...]:
        """The shape that y has for the whole batch."""
        return (y.shape[0] * self.batch_size, *y.shape[1:]) if y.ndim and id(y) in self.fields else tuple(y.shape)

    def _field(self, function: Function, inputs: tuple, shapes: list[tuple], y: Any) -> Field | None:
        known = [(tuple(x.shape), self.fields[id(x)]) for x in inputs if id(x) in self.fields]
        if not known:
            return None  # made of parameters alone
        self.fields[id(y)] = field = seen_through(function, known, shapes, tuple(y.shape))
        return field


def _is_view(function: Function) -> bool:
    """Whether the output shows the input's memory. (Zeros that stand in for arrays do not tell.)"""
    return function.name in ("reshape", "transpose", "crop") or (
        function.name == "getitem" and only_slices(function.index))  # type: ignore[attr-defined]


def _tensors(result: Any) -> list[Tensor]:
    """The tensors that a net has returned: one, or those in a tuple, list or dictionary."""
    if isinstance(result, Tensor):
        return [result]
    parts = result.values() if isinstance(result, dict) else result if isinstance(result, (tuple, list)) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


def _image_shape(input_shape: Any) -> tuple[int, ...]:
    if not isinstance(input_shape, (tuple, list)) or not input_shape or not all(
            isinstance(n, (int, np.integer)) and n >= 1 for n in input_shape):
        raise ValueError(f"trace: input_shape must be the shape of one image such as (1, 28, 28), got {input_shape!r}")
    return tuple(int(n) for n in input_shape)


def short_number(n: int) -> str:
    """1234567 -> "1.23 M": three significant digits; all of them above 999 P."""
    unit = 0
    while 2 * n >= 1999 * 1000**unit and unit < 5:
        unit += 1
    if unit == 0:
        return str(n)
    whole, value = (2 * n + 1000**unit) // (2 * 1000**unit), n / 1000**unit
    digits = f"{value:.{2 if value < 9.995 else 1}f}" if value < 99.95 else f"{whole:,}"
    return f"{digits} {'kMGTP'[unit - 1]}"


def short_bytes(n: int) -> str:
    """1234567 -> "1.23 MB", of 1000 x 1000 bytes."""
    text = short_number(n)
    return f"{text}B" if " " in text else f"{text} B"
