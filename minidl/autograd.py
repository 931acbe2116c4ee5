"""Tensors that remember how they were computed, and the walk back that turns the memory into gradients.

    x = Tensor([1.0, 2.0], requires_grad=True)
    y = (x * x).sum()       # forward: apply() runs each Function and records a Node
    y.backward()            # backward: the nodes in reverse order of creation, each once
    x.grad                  # array([2., 4.], dtype=float32)

The whole engine is `apply` (record one operation), `Node` (one entry of the record) and `Tensor.backward` (the walk).
Gradients are of first order: `backward` works on raw arrays and is not itself recorded.
"""
import heapq
import itertools
import math
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minidl.anomaly import refuse_non_finite, user_line
from minidl.arithmetic.broadcasting import positive_axes
from minidl.arithmetic.elementwise import Add, Divide, Exp, Log, Multiply, Negate, Power, Sqrt, Subtract, Tanh, Where
from minidl.arithmetic.matmul import MatMul
from minidl.arithmetic.reductions import Axis, Max, Mean, Sum, Var
from minidl.arithmetic.shaping import Cast, Concat, GetItem, Pad, Reshape, Stack, Transpose
from minidl.backend import Array, array_module, device_of, is_array, to_device, to_numpy
from minidl.function import Function
from minidl.threads import ENOUGH, in_parts


class _Settings(threading.local):
    """What holds for the current thread only."""

    recording = True
    detecting_anomaly = False
    shapes_only = False
    watchers: tuple[Callable, ...] = ()


_settings = _Settings()
_creation_order = itertools.count()


@contextmanager
def _setting(name: str, value: Any) -> Iterator[None]:
    before = getattr(_settings, name)
    setattr(_settings, name, value)
    try:
        yield
    finally:
        setattr(_settings, name, before)


def no_grad():
    """A `with` block (or decorator) in which nothing is recorded, in this thread: for evaluation and updates."""
    return _setting("recording", False)


def enable_grad():
    """A `with` block (or decorator) in which recording is on, also inside `no_grad`."""
    return _setting("recording", True)


def detect_anomaly():
    """A `with` block (or decorator) in which the first NaN or Inf raises, naming the operation and the user's line.

    Forward: the operation whose output is the first to hold one. Backward: the operation whose gradient is, with the
    line that called it in the forward pass. Costs a pass over every array: for hunting, not for training.
    """
    return _setting("detecting_anomaly", True)


@contextmanager
def shapes_only() -> Iterator[None]:
    """A `with` block in which every operation checks its inputs' shapes and gives zeros of its output's.

    The zeros are one number shown in every place, so that VGG-19 on a batch of 1,000 costs neither time nor memory. Nothing is
    recorded, and running statistics stay as they are. The operations of the zoo's nets compute nothing at all; those that
    have no `output_shape` of their own run on zeros. For counting and drawing nets.
    """
    with _setting("shapes_only", True):
        yield


def computing() -> bool:
    """False inside `shapes_only`: for what must not happen there, such as moving running statistics."""
    return not _settings.shapes_only


def may_be_overwritten(x: Any) -> bool:
    """Whether an operation that works in place may take the memory of x, a tensor or an array.

    Only memory that an operation made: what a user or a parameter holds stays as it is. And only where that operation does not
    need it for its gradient, or is not recorded. (If it is taken, `apply` sees to it that nobody goes on with x.)
    """
    if not getattr(x, "_made", False):
        return False
    return x.node is None or x.node.function is None or x.node.function.may_lose_output()


def watch(callback: Callable[[Function, tuple, Any], None]):
    """A `with` block in which `callback(function, inputs, output)` sees every applied operation (arrays, not tensors).

    Copy what you keep: an operation that works in place (`relu(x, inplace=True)`) may overwrite it, and its own input has been.
    """
    if not callable(callback):
        raise TypeError(f"watch: needs a function of (function, inputs, output), got {type(callback).__name__}")
    return _setting("watchers", (*_settings.watchers, callback))


# --- one operation: run it and record it ---------------------------------------------------------------------------


class Node:
    """One entry of the record: the function that ran, and where the gradients of its inputs go."""

    def __init__(self, function: Function, backward: Callable, inputs: tuple["Tensor", ...], output: "Tensor") -> None:
        self.function: Function | None = function
        self.run_backward: Callable | None = backward  # the function's, of the kernels that ran forward
        self.name = function.name
        self.order = next(_creation_order)
        # a gradient goes to the Node that made the input, to the input itself if it is a leaf, or nowhere
        self.parents: tuple[Node | Tensor | None, ...] = tuple(
            (x.node if x.node is not None else x) if x.requires_grad else None for x in inputs)
        used = inputs if function.may_lose_output() else (*inputs, output)
        self.versions = tuple((x._version, x._version.count) for x in used)
        self.shape, self.dtype, self.device = output.shape, output.dtype, output.device
        self.hooks: list[Callable] = []
        self.retained_by: weakref.ref[Tensor] | None = None
        self.line = user_line() if _settings.detecting_anomaly else ""

    def __lt__(self, other: "Node") -> bool:  # the heap of `backward` yields the latest node first
        return self.order > other.order

    def backward(self, dy: Array) -> list[tuple["Node | Tensor", Array]]:
        """Pairs (where to, gradient), one for each input that needs one. Frees what forward had saved."""
        if self.function is None:
            raise RuntimeError(
                f"backward: {self.name} has run backward before and its saved arrays are freed; "
                "call forward again, or add the losses up and call backward once")
        for index, (version, count) in enumerate(self.versions):
            if version.count != count:
                of_input = index < len(self.parents)
                what = f"input {self.function.input_name(index)}" if of_input else "the output"
                raise RuntimeError(
                    f"backward: {what} of {self.name} was changed after forward "
                    "(by optimizer.step(), net.to(...), an assignment to .data or relu(..., inplace=True)), so its gradient "
                    "would be wrong; "
                    "call backward before you change it, or run forward again")
        function, run_backward, parents = self.function, self.run_backward, self.parents
        self.function, self.run_backward, self.parents, self.versions = None, None, (), ()
        dxs = run_backward(dy)  # type: ignore[misc]
        if not isinstance(dxs, tuple):
            dxs = (dxs,)
        if len(dxs) != len(parents):
            raise ValueError(f"{self.name}.backward: returned {len(dxs)} gradients for {len(parents)} inputs; "
                             "return one per input, None where none is needed")
        owned_elsewhere = [dy, *_flattened(vars(function).values())]
        flows: list[tuple[Node | Tensor, Array]] = []
        for index, (parent, dx) in enumerate(zip(parents, dxs)):
            if parent is None:
                continue
            dx = self._checked(function, index, dx, parent)
            if isinstance(parent, Tensor) and (dx.base is not None or any(dx is other for other in owned_elsewhere)):
                dx = dx.copy()  # a view, or an array that someone else holds: .grad must be the leaf's own
            owned_elsewhere.append(dx)
            flows.append((parent, dx))
        return flows

    def _checked(self, function: Function, index: int, dx: Array, parent: "Node | Tensor") -> Array:
        """`dx` if it fits the input that it is the gradient of."""
        fits = (type(dx) is np.ndarray and dx.shape == parent.shape and dx.dtype == parent.dtype
                and parent.device == "cpu")
        if fits and not _settings.detecting_anomaly:
            return dx
        name = function.input_name(index)
        if dx is None:
            raise ValueError(f"{self.name}.backward: gradient of input {name} is None, but {name} requires one")
        dx = array_module(dx).asarray(dx)
        if device_of(dx) != parent.device:
            raise TypeError(f"{self.name}.backward: gradient of input {name} is on {device_of(dx)}, but {name} is on "
                            f"{parent.device}: make it with xp = minidl.array_module(dy)")
        if dx.shape != parent.shape or dx.dtype != parent.dtype:
            raise ValueError(
                f"{self.name}.backward: gradient of input {name} is {dx.dtype} {dx.shape}, but {name} is "
                f"{parent.dtype} {parent.shape}; a gradient has its input's shape and dtype (was {name} broadcast?)")
        if _settings.detecting_anomaly:
            refuse_non_finite(dx, f"gradient of input {name} of {self.name}", self.line or "(forward ran unwatched)")
        return dx


def apply(function: Function, *inputs: Any) -> "Tensor":
    """Runs `function` on the inputs (tensors, arrays or numbers) and records it if a gradient may be asked for.

    The one place where every operation is checked before its kernel runs: all inputs on one device, floating inputs
    of one dtype. Errors: TypeError for dtypes, ValueError for devices, and whatever `function` itself refuses.
    """
    if not isinstance(function, Function):
        name = getattr(function, "__name__", type(function).__name__)
        raise TypeError(f"apply: needs an instance of a Function, got {name}: write apply({name}(), x), with the parentheses")
    if "needs" in vars(function):
        raise RuntimeError(f"apply: this {function.name} has been applied before, and keeps what that call saved; "
                           f"make a new one for every call: apply({type(function).__name__}(...), x)")
    tensors = tuple([x if isinstance(x, Tensor) else Tensor(x) for x in inputs])
    arrays = tuple([x._data for x in tensors])
    if function.integer_inputs or not _all_alike(arrays):
        _check_inputs(function, arrays)
    for x in tensors:
        if x._version.taken:
            raise RuntimeError(x._TAKEN)
    recording = _settings.recording and not _settings.shapes_only
    function.needs = tuple([recording and x.requires_grad for x in tensors])
    forward, backward = function.kernels(arrays)
    y = _zeros_of_its_shape(function, arrays) if _settings.shapes_only else forward(*arrays)
    if not is_array(y):
        if not isinstance(y, (np.generic, int, float)):
            raise TypeError(f"{function.name}: forward must return one array, got {type(y).__name__}")
        y = np.asarray(y)  # NumPy turns 0-d results into scalars
    if arrays and type(y) is not type(arrays[0]) and device_of(y) != device_of(arrays[0]):
        raise TypeError(f"{function.name}: forward got arrays on {device_of(arrays[0])} and returned one on {device_of(y)}: "
                        "make it with xp = minidl.array_module(x), xp.zeros(...) instead of np.zeros(...)")
    if _settings.detecting_anomaly:
        refuse_non_finite(y, f"output of {function.name}", user_line(), arrays)
    for watcher in _settings.watchers:
        watcher(function, arrays, y)
    output = Tensor(y)
    if function.inplace and y is arrays[0]:
        tensors[0]._version.count += 1  # whoever saved it refuses to run backward
        tensors[0]._version.taken = True  # nobody may use it, or another view of that memory, again
        output._made = True
    else:
        owner, output._made = _owner(y), True
        for x in tensors:
            if owner is _owner(x._data):
                output._version, output._made = x._version, False  # a view: whoever changes one changes the other
    if any(function.needs):
        output.node, output.requires_grad = Node(function, backward, tensors, output), True
    return output


def _zeros_of_its_shape(function: Function, arrays: tuple[Array, ...]) -> Array:
    """What `function` would give, as one zero that is shown in every place."""
    shape, dtype = function.output_shape(*(x.shape for x in arrays)), function.output_dtype(*(x.dtype for x in arrays))
    xp = array_module(arrays[0])
    return xp.broadcast_to(xp.zeros((), dtype), shape)


def _owner(x: Array) -> Array:
    """The array whose memory `x` shows: itself, or what it is a view of."""
    return x if x.base is None else x.base


def _flattened(values: Iterable) -> list:
    """The values, and those in lists, tuples and dictionaries among them."""
    found = list(values)
    for value in found[:]:
        if isinstance(value, (dict, list, tuple)):
            found += value.values() if isinstance(value, dict) else value
    return found


def _all_alike(arrays: tuple[Array, ...]) -> bool:
    """NumPy arrays of one floating dtype: then there is nothing to check."""
    dtype = arrays[0].dtype if arrays else None
    return dtype is not None and dtype.kind == "f" and all(type(x) is np.ndarray and x.dtype == dtype for x in arrays)


def _check_inputs(function: Function, arrays: tuple[Array, ...]) -> None:
    """One device, one floating dtype, integers only where they belong."""
    names = [function.input_name(i) for i in range(len(arrays))]
    devices = [device_of(x) for x in arrays]
    for name, device in zip(names, devices):
        if device != devices[0]:
            left = names[0] if devices[0] == "cpu" else name
            raise ValueError(f"{function.name}: {names[0]} is on {devices[0]}, {name} on {device}: move one with "
                             f"{left}.to('cuda'), an array with minidl.Tensor({left}).to('cuda'), a net with net.to('cuda')")
    first = None
    for name, x in zip(names, arrays):
        if x.dtype.kind != "f":
            if not function.accepts_integers and name not in function.integer_inputs:
                raise TypeError(f"{function.name}: {name} is {x.dtype}, but must be floating: "
                                f"convert it with {name}.astype(np.float32)")
        elif name in function.integer_inputs:
            continue  # the operation itself says what it expects there
        elif first is None:
            first = name, x.dtype
        elif x.dtype != first[1]:
            raise TypeError(f"{function.name}: {first[0]} is {first[1]} but {name} is {x.dtype}; dtypes are not mixed: "
                            f"convert the data, {first[0]}.astype(np.{x.dtype}) or {name}.astype(np.{first[1]}), "
                            f"or a whole net, net.to(dtype=np.{first[1]})")


# --- tensors -------------------------------------------------------------------------------------------------------


class _Version:
    """Counts the changes of one tensor's data; shared with the nodes that used it, and with views."""

    def __init__(self) -> None:
        self.count = 0
        self.taken = False  # an operation that works in place has overwritten it


def as_tensor(x: Any) -> "Tensor":
    """`x` itself if it is a Tensor, else a constant Tensor of it."""
    return x if isinstance(x, Tensor) else Tensor(x)


class Tensor:
    """An array that takes part in automatic differentiation.

    `Tensor(x)`: numbers and lists become float32; arrays keep their dtype and are not copied. `requires_grad=True`
    asks `backward` to leave the gradient in `.grad` (None until then; same shape and dtype as `.data`).
    Errors: TypeError for what is no real number and for integers that ask for a gradient.
    """

    __array_ufunc__ = None  # array * tensor is left to Tensor.__rmul__

    _TAKEN = ("this tensor's memory was taken by relu(..., inplace=True), and holds what that made of it: go on with what relu "
              "returned, or leave inplace out")

    def __init__(self, x: Any, requires_grad: bool = False) -> None:
        self._data = _as_array(x)
        self._version = _Version()
        self._grad: Array | None = None
        self.node: Node | None = None
        self._hooks: list[Callable] = []
        self._made = False  # whether an operation made the array, in memory of its own
        if requires_grad and self._data.dtype.kind != "f":
            raise TypeError(f"Tensor: {self.dtype} carries no gradient; convert it with x.astype(np.float32) first")
        self.requires_grad = requires_grad

    # what it is

    @property
    def data(self) -> Array:
        """The raw array, on the tensor's device. Assigning (also `t.data -= step`) tells the graph of the change.

        Writing into single elements (`t.data[0] = 1`) is not seen: between forward and backward it spoils gradients.
        Errors: RuntimeError where an operation that works in place has overwritten it.
        """
        if self._version.taken:
            raise RuntimeError(self._TAKEN)
        return self._data

    @data.setter
    def data(self, x: Array) -> None:
        if not is_array(x) or x.shape != self.shape or x.dtype != self.dtype or device_of(x) != self.device:
            arrived = f"{x.dtype} {x.shape} on {device_of(x)}" if is_array(x) else type(x).__name__
            raise ValueError(f"Tensor.data: needs a {self.dtype} array of shape {self.shape} on {self.device}, got {arrived}; "
                             "make a new Tensor for another shape or dtype, move one with .to(device)")
        self.replace(x)

    @property
    def grad(self) -> Array | None:
        """The gradient that backward has summed up: a raw array like `.data`, or None."""
        return self._grad

    @grad.setter
    def grad(self, dx: Array | None) -> None:
        if dx is not None and not (is_array(dx) and dx.shape == self.shape and dx.dtype == self.dtype
                                   and device_of(dx) == self.device):
            arrived = f"{dx.dtype} {dx.shape} on {device_of(dx)}" if is_array(dx) else type(dx).__name__
            raise ValueError(f"Tensor.grad: must be None or a {self.dtype} array of shape {self.shape} on {self.device}, "
                             f"got {arrived}: leave it to backward(), or assign such an array")
        self._grad = dx

    def replace(self, x: Array) -> None:
        """Puts another array, of any dtype and device, in place of the data and forgets the gradient's array if unfit."""
        self._data = x
        self._version.count += 1
        if self.grad is not None and (self.grad.dtype != x.dtype or device_of(self.grad) != device_of(x)):
            self.grad = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        return self._data.shape

    @property
    def dtype(self) -> np.dtype:
        """What kind of number it holds: float32, float64, int64, bool, ..."""
        return self._data.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._data.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self._data.size

    @property
    def device(self) -> str:
        """ "cpu" or "cuda"."""
        return device_of(self._data)

    @property
    def T(self) -> "Tensor":
        """The tensor with its axes reversed: a matrix transposed."""
        return self.transpose()

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len: a 0-d tensor has no length; its value is t.item()")
        return self.shape[0]

    def __iter__(self) -> Iterator["Tensor"]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        values = np.array2string(to_numpy(self._data), separator=", ", prefix="Tensor(", threshold=50, precision=4)
        details = [str(self.dtype)] + [f"device={self.device}"] * (self.device != "cpu")
        details += [f"made by {self.node.name}"] if self.node else ["requires_grad"] * self.requires_grad
        return f"Tensor({values}, {', '.join(details)})"

    # leaving the graph or the device

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array: the only way to the host. On the CPU it is `.data` itself, not a copy."""
        return to_numpy(self.data)

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("a Tensor does not turn into an array silently: use t.numpy() (or t.data on its device)")

    def item(self) -> float | int | bool:
        """The value of a one-element tensor as a Python number."""
        if self.size != 1:
            raise ValueError(f"item: needs a tensor of one element, got shape {self.shape}; reduce it first, or index it")
        return self.numpy().item()

    def __float__(self) -> float:
        return float(self.item())

    def __format__(self, spec: str) -> str:
        """A tensor of one element formats like its number: f"{loss:.3f}"."""
        return format(self.item(), spec) if spec else repr(self)

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(f"the truth of a tensor of shape {self.shape} is ambiguous: reduce it to one element first")
        return bool(self.item())

    def detach(self) -> "Tensor":
        """The same data (shared, not copied) outside the graph."""
        y = Tensor(self._data)
        y._version = self._version
        return y

    def to(self, device: str) -> "Tensor":
        """A new leaf on "cpu" or "cuda"; where it is there already, it shares the data.

        Errors: RuntimeError for a tensor with a graph, whose gradients would not find their way back.
        """
        if self.node is not None:
            raise RuntimeError(f"to: this tensor was computed by {self.node.name}, and no gradient passes between devices: "
                               "move the inputs before the computation, or the result with t.detach().to(...)")
        y = Tensor(to_device(self._data, device), requires_grad=self.requires_grad)
        if _owner(y._data) is _owner(self._data):
            y._version = self._version
        return y

    def astype(self, dtype: Any) -> "Tensor":
        """The tensor in another dtype; the gradient flows back in this one's. Integers end the graph."""
        try:
            dtype = np.dtype(dtype)
        except TypeError:
            raise TypeError(f"astype: {dtype!r} is no dtype; write np.float32, np.float64, np.int64 or bool") from None
        if dtype.kind not in "fiub":
            raise TypeError(f"astype: {dtype} holds no real numbers; write np.float32, np.float64, np.int64 or bool")
        return Tensor(self._data.astype(dtype)) if dtype.kind != "f" else apply(Cast(dtype), self)

    # gradients

    def backward(self, dy: Any = None) -> None:
        """Adds d(self)/d(leaf), weighted by `dy`, to the `.grad` of every leaf that self was computed from.

        dy: gradient of the final result with respect to self, of self's shape; may be left out for one element (1).
        The nodes run in reverse order of creation: when one runs, all that used its output have run. A heap, no
        recursion: depth is unlimited. Each node's saved arrays are freed once it has run.
        Errors: RuntimeError without a graph, on a second backward, or if an input was changed since forward.
        """
        if not self.requires_grad:
            raise RuntimeError("backward: this tensor has no graph; was everything inside no_grad(), "
                               "or did no input have requires_grad=True?")
        pending: dict[Node | Tensor, Array] = {self.node or self: self._first_gradient(dy)}
        heap = [self.node] if self.node else []
        while heap:
            node = heapq.heappop(heap)
            dy = _run_hooks(node.hooks, pending.pop(node))
            holder = node.retained_by() if node.retained_by else None
            if holder is not None:
                holder.grad = dy.copy() if holder.grad is None else _sum(holder.grad, dy)
            for parent, dx in node.backward(dy):
                if parent in pending:
                    pending[parent] = _sum(pending[parent], dx)  # a new array: dx may be shared with a sibling
                else:
                    pending[parent] = dx
                    if isinstance(parent, Node):
                        heapq.heappush(heap, parent)
        leaves = [(leaf, dy, _run_hooks(leaf._hooks, dy)) for leaf, dy in pending.items() if isinstance(leaf, Tensor)]
        for leaf, dy, hooked in leaves:  # all hooks have run: one that raises leaves no .grad half-way
            dy = dy if hooked is dy else hooked.copy()
            leaf._grad = dy if leaf._grad is None else _sum(leaf._grad, dy)  # checked by Node.backward, or by _run_hooks

    def _first_gradient(self, dy: Any) -> Array:
        """The gradient to start from, as an array of our own."""
        xp = array_module(self._data)
        if dy is None:
            if self.size != 1:
                raise ValueError(f"backward: a tensor of shape {self.shape} needs a gradient of that shape; "
                                 "pass one, or reduce to one number first with .sum() or .mean()")
            return xp.ones_like(self._data)
        dy = dy.data if isinstance(dy, Tensor) else dy
        if not is_array(dy):
            try:
                dy = np.array(dy, dtype=self.dtype)
            except (TypeError, ValueError):
                raise TypeError(f"backward: the gradient must be numbers like the tensor, {self.dtype} {self.shape}, "
                                f"got {dy!r:.60}") from None
            dy = to_device(dy, self.device)
        dy = dy.copy()
        if dy.shape != self._data.shape or dy.dtype != self._data.dtype:
            raise ValueError(f"backward: the gradient must be {self.dtype} {self.shape} like the tensor, "
                             f"got {dy.dtype} {dy.shape}")
        if device_of(dy) != self.device:
            raise ValueError(f"backward: the tensor is on {self.device}, the gradient on {device_of(dy)}: move one")
        return dy

    def register_hook(self, hook: Callable[[Array], Array | None]) -> Callable[[], None]:
        """Calls `hook(gradient)` when self's whole gradient is known; what it returns, if not None, replaces it.

        The gradient is a raw array and must not be written into. Returns a function that removes the hook.
        """
        if not self.requires_grad:
            raise RuntimeError("register_hook: the tensor does not require a gradient, so the hook would never run")
        if not callable(hook):
            raise TypeError(f"register_hook: needs a function of the gradient, got {type(hook).__name__}")
        hooks = self.node.hooks if self.node else self._hooks
        hooks.append(hook)
        return lambda: hooks.remove(hook) if hook in hooks else None

    def retain_grad(self) -> "Tensor":
        """Asks `backward` to keep the gradient of this computed tensor in `.grad` too, as it does for leaves."""
        if self.node is not None:
            self.node.retained_by = weakref.ref(self)
        return self

    # operators

    def __add__(self, other: Any) -> "Tensor":
        return apply(Add(), *_operands(self, other))

    def __radd__(self, other: Any) -> "Tensor":
        return apply(Add(), *_operands(other, self))

    def __sub__(self, other: Any) -> "Tensor":
        return apply(Subtract(), *_operands(self, other))

    def __rsub__(self, other: Any) -> "Tensor":
        return apply(Subtract(), *_operands(other, self))

    def __mul__(self, other: Any) -> "Tensor":
        return apply(Multiply(), *_operands(self, other))

    def __rmul__(self, other: Any) -> "Tensor":
        return apply(Multiply(), *_operands(other, self))

    def __truediv__(self, other: Any) -> "Tensor":
        return apply(Divide(), *_operands(self, other, floating=True))

    def __rtruediv__(self, other: Any) -> "Tensor":
        return apply(Divide(), *_operands(other, self, floating=True))

    def __matmul__(self, other: Any) -> "Tensor":
        return apply(MatMul(), *_operands(self, other))

    def __rmatmul__(self, other: Any) -> "Tensor":
        return apply(MatMul(), *_operands(other, self))

    def __pow__(self, exponent: float) -> "Tensor":
        if not _is_number(exponent):
            raise TypeError(f"power: the exponent must be a constant number, got {type(exponent).__name__}; "
                            "for x ** y with x > 0 write (x.log() * y).exp()")
        whole = isinstance(exponent, (int, np.integer))
        base = self if whole else _operands(self, exponent)[0]
        return apply(Power(int(exponent) if whole else float(exponent)), base)

    def __rpow__(self, base: float) -> "Tensor":
        if not _is_number(base) or base <= 0:
            raise TypeError(f"power: {base!r} ** tensor needs a positive number as its base")
        return (self * math.log(base)).exp()

    def __neg__(self) -> "Tensor":
        return apply(Negate(), self)

    def __getitem__(self, index: Any) -> "Tensor":
        parts = tuple(p.data if isinstance(p, Tensor) else p for p in (index if isinstance(index, tuple) else (index,)))
        return apply(GetItem(parts if isinstance(index, tuple) else parts[0]), self)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError("a Tensor is not assigned to in place: earlier results may share its data. "
                        "Build a new one with minidl.where(mask, new, old), or change t.data before forward")

    # comparisons: boolean tensors, outside the graph

    def __gt__(self, other: Any) -> "Tensor":
        return _compare("greater", self, other)

    def __ge__(self, other: Any) -> "Tensor":
        return _compare("greater_equal", self, other)

    def __lt__(self, other: Any) -> "Tensor":
        return _compare("less", self, other)

    def __le__(self, other: Any) -> "Tensor":
        return _compare("less_equal", self, other)

    def __eq__(self, other: Any) -> "Tensor":  # type: ignore[override]  # elementwise, as in NumPy
        return NotImplemented if other is None else _compare("equal", self, other)

    def __ne__(self, other: Any) -> "Tensor":  # type: ignore[override]  # elementwise, as in NumPy
        return NotImplemented if other is None else _compare("not_equal", self, other)

    __hash__ = object.__hash__  # tensors are dictionary keys by identity

    # array methods

    def sum(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        """The sum over `axis` (an integer, a tuple, or None for all)."""
        return apply(Sum(axis, keepdims), self)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        """The average over `axis`."""
        return apply(Mean(axis, keepdims), self)

    def max(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        """The largest; of equal ones the first receives the gradient."""
        return apply(Max(axis, keepdims), self)

    def var(self, axis: Axis = None, keepdims: bool = False) -> "Tensor":
        """The biased variance (ddof 0)."""
        return apply(Var(axis, keepdims), self)

    def argmax(self, axis: int | None = None) -> "Tensor":
        """Index of the first largest element: an integer tensor, outside the graph."""
        axes = positive_axes("argmax", axis, self.ndim)
        if isinstance(axis, tuple):
            raise TypeError(f"argmax: takes one axis or None, got {axis!r}")
        if 0 in (self.shape[a] for a in axes):
            raise ValueError(f"argmax: a tensor of shape {self.shape} has no largest element along axis {axis}")
        return Tensor(array_module(self._data).asarray(self._data.argmax(axis=axis)))

    def reshape(self, *shape: Any) -> "Tensor":
        """`x.reshape(2, -1)` or `x.reshape((2, -1))`."""
        return apply(Reshape(tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape), self)

    def transpose(self, *axes: Any) -> "Tensor":
        """`x.transpose(0, 2, 1)`, `x.transpose((0, 2, 1))`, or without axes: all reversed."""
        order = tuple(axes[0]) if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes
        return apply(Transpose(order or None), self)

    def exp(self) -> "Tensor":
        """e to the power of each element."""
        return apply(Exp(), self)

    def log(self) -> "Tensor":
        """The natural logarithm of each element."""
        return apply(Log(), self)

    def sqrt(self) -> "Tensor":
        """The square root of each element."""
        return apply(Sqrt(), self)

    def tanh(self) -> "Tensor":
        """The hyperbolic tangent of each element."""
        return apply(Tanh(), self)


def concat(tensors: Any, axis: int = 0) -> Tensor:
    """The tensors one behind the other along `axis`."""
    return apply(Concat(axis), *_alike("concat", tensors))


def stack(tensors: Any, axis: int = 0) -> Tensor:
    """The tensors side by side along a new `axis`."""
    return apply(Stack(axis), *_alike("stack", tensors))


def pad(x: Any, pad_width: tuple[tuple[int, int], ...], value: float = 0.0) -> Tensor:
    """x with ((before, after), ...) constant elements around each axis."""
    return apply(Pad(pad_width, value), x)


def where(condition: Any, x: Any, y: Any) -> Tensor:
    """x where the boolean `condition` holds, else y."""
    if isinstance(condition, (bool, list, tuple)):
        condition = np.asarray(condition)
    both = _operands(x, y)
    if isinstance(condition, Tensor) and _is_number(x) and _is_number(y):  # they meet no other tensor
        both = both[0].to(condition.device), both[1].to(condition.device)
    return apply(Where(), condition, *both)


# --- helpers of the Tensor class -----------------------------------------------------------------------------------


def _as_array(x: Any) -> Array:
    """The array of a new tensor: arrays as they are, numbers and lists as float32."""
    if type(x) is np.ndarray and x.dtype.kind in "fiub":
        return x
    if isinstance(x, Tensor):
        raise TypeError("Tensor: got a Tensor; use t.detach() to share its data outside the graph")
    if not is_array(x) and not isinstance(x, np.generic):
        try:
            numbers = np.array(x)
        except (TypeError, ValueError):
            numbers = np.array(None)
        if numbers.dtype.kind not in "fiub":
            raise TypeError(f"Tensor: needs numbers, a rectangular nested list of numbers, or an array, got {x!r:.80}; "
                            "to join tensors use minidl.stack")
        x = numbers.astype(np.float32)
    x = np.asarray(x) if isinstance(x, np.generic) else x
    if x.dtype.kind not in "fiub":
        raise TypeError(f"Tensor: dtype {x.dtype} is no real number; floats, integers and booleans are supported")
    return x


def _alike(name: str, tensors: Any) -> list[Tensor]:
    """A sequence of tensors to be joined; integers among floats become floats."""
    if not isinstance(tensors, (list, tuple)) and not hasattr(tensors, "__next__"):
        raise TypeError(f"{name}: needs a list of tensors, got {type(tensors).__name__}: write {name}([x, y])")
    found = [as_tensor(x) for x in tensors]
    floats = [x.dtype for x in found if x.dtype.kind == "f"]
    return [Tensor(x.data.astype(floats[0])) if floats and x.dtype.kind != "f" else x for x in found]


def _is_number(x: Any) -> bool:
    """A Python or NumPy scalar: it takes the dtype of the tensor it meets."""
    return isinstance(x, (int, float, np.number, np.bool_)) and not isinstance(x, np.complexfloating)


def _operands(x: Any, y: Any, floating: bool = False) -> tuple[Tensor, Tensor]:
    """Both sides of an operator as tensors that can meet.

    Numbers take the other side's dtype and device; integers that meet floats become floats. Two float dtypes stay as
    they are: `apply` refuses to mix them.
    """
    if type(x) is Tensor and type(y) is Tensor and x._data.dtype == y._data.dtype and x._data.dtype.kind == "f":
        return x, y
    dtypes = [v.dtype for v in (x, y) if isinstance(v, Tensor) or is_array(v)]
    floats = [dtype for dtype in dtypes if dtype.kind == "f"]
    fractional = any(_is_number(v) and isinstance(v, (float, np.floating)) for v in (x, y))
    if floats:
        common: Any = floats[0]
    elif floating or fractional or not dtypes:
        common = np.dtype(np.float32)
    else:
        common = None  # integers among themselves: NumPy's promotion
    like = next((v for v in (x, y) if isinstance(v, Tensor)), None)

    def as_operand(v: Any) -> Tensor:
        if _is_number(v):
            dtype = common or np.result_type(v if isinstance(v, (bool, int)) else v.dtype, *dtypes)
            try:
                number = np.asarray(v, dtype=dtype)
            except OverflowError:
                raise OverflowError(f"the number {v} does not fit into {dtype}: convert the tensor with "
                                    "t.astype(np.int64)") from None
            return Tensor(to_device(number, like.device) if like is not None else number)
        v = as_tensor(v)
        return Tensor(v.data.astype(common)) if common is not None and v.dtype.kind != "f" else v

    return as_operand(x), as_operand(y)


def _compare(name: str, x: Tensor, y: Any) -> Tensor:
    """NumPy's comparison of that name on the raw arrays: a boolean tensor outside the graph."""
    xp = array_module(x.data)
    other = y if _is_number(y) else as_tensor(y).data
    if is_array(other) and device_of(other) != x.device:
        raise ValueError(f"compare: x is on {x.device}, y on {device_of(other)}: move one with y.to({x.device!r})")
    try:
        return Tensor(xp.asarray(getattr(xp, name)(x.data, other)))
    except ValueError:
        raise ValueError(f"compare: shapes {x.shape} and {other.shape} do not broadcast") from None


def _sum(a: Array, b: Array) -> Array:
    """a + b as an array of its own, where NumPy would turn 0-d arrays into a scalar."""
    if type(a) is np.ndarray and type(b) is np.ndarray and a.size >= ENOUGH:
        total = np.empty(a.shape, a.dtype)
        in_parts(lambda a, b, total: np.add(a, b, out=total), a, b, total)
        return total
    return array_module(a).asarray(a + b)


def _run_hooks(hooks: list[Callable], dy: Array) -> Array:
    """`dy` after every hook has seen it and perhaps replaced it."""
    if not hooks:
        return dy
    for hook in list(hooks):
        replacement = hook(dy)
        if replacement is None:
            continue
        if not is_array(replacement) or replacement.shape != dy.shape or replacement.dtype != dy.dtype:
            raise ValueError(f"hook: must return None or a {dy.dtype} array of shape {dy.shape}, "
                             f"got {getattr(replacement, 'dtype', type(replacement).__name__)} "
                             f"{getattr(replacement, 'shape', '')}")
        dy = replacement
    return dy
