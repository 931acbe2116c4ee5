"""Parameters, and the modules that hold them.

    class Net(Module):
        def __init__(self):
            self.hidden = Linear(784, 100)
            self.output = Linear(100, 10)

        def forward(self, x):
            return self.output(relu(self.hidden(x)))

Nothing is registered. A module's parameters, buffers and children are what is found among its attributes (`vars(self)`)
at the moment somebody asks, in the order in which they were first assigned.
"""
import reprlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, Self

import numpy as np

from minidl.autograd import Tensor, no_grad
from minidl.backend import DEVICES, Array, device_of, is_array, to_device, to_numpy
from minidl.nn.calls import calls
from minidl.nn.fuse import Fusible


class Parameter(Tensor):
    """A tensor that training changes: a leaf that asks for its gradient and that modules and optimizers recognise.

    `Parameter(x)` copies x, since optimizers write into the data. requires_grad=False makes a frozen one: it is saved
    and loaded like any other, and optimizers pass it by.
    """

    def __init__(self, x: Any, requires_grad: bool = True) -> None:
        super().__init__(x.copy() if is_array(x) else x, requires_grad)

    @classmethod
    def zeros(cls, *shape: int) -> "Parameter":
        """A float32 Parameter of zeros. They take no memory until somebody writes them."""
        parameter = cls(np.zeros((), np.float32))
        parameter.replace(np.zeros(shape, np.float32))
        return parameter


@contextmanager
def modes_kept(net: "Module") -> Iterator[None]:
    """A `with` block after which every module of the net is in the mode that it had.

    One by one: somebody may have frozen a part of the net by putting it alone into evaluation mode.
    """
    before = [(module, module.training) for module in net.modules()]
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode


@contextmanager
def evaluating(net: "Module") -> Iterator[None]:
    """A `with` block in evaluation mode and without a graph; afterwards every module is in the mode that it had."""
    with modes_kept(net), no_grad():
        net.eval()
        yield


class LoadReport(NamedTuple):
    """What `load_state_dict(..., strict=False)` passed over."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module(Fusible):
    """A part of a network: attributes that are Parameters, buffers or Modules, and a `forward` that uses them.

    There is no constructor to call first: `super().__init__()` may be written, as in PyTorch, or left out.
    """

    training: bool = True
    """Whether dropout drops and batch norm measures; `train()` and `eval()` set it in every module of the tree."""

    _buffer_names: tuple[str, ...] = ()

    def forward(self, *inputs: Any) -> Any:
        """The output, computed from the inputs: what a subclass must define."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(self, x): "
                                  "is it misspelt, or indented wrongly?")

    def __setattr__(self, name: str, value: Any) -> None:
        loose = isinstance(value, Tensor) and not isinstance(value, Parameter)
        if loose and value.requires_grad and value.node is None:
            raise TypeError(f"{type(self).__name__}.{name}: a plain Tensor would be neither trained nor saved: "
                            "make it a nn.Parameter(...)")
        if isinstance(vars(self).get(name), Parameter) and value is not None and not isinstance(value, Parameter):
            raise TypeError(f"{type(self).__name__}.{name} is a Parameter, and a {type(value).__name__} in its place would not "
                            f"be trained: assign nn.Parameter(...), or new values to {name}.data")
        super().__setattr__(name, value)

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        watchers = calls.watchers
        if not watchers:
            return self.forward(*inputs, **options)
        with ExitStack() as stack:
            for watcher in watchers:
                stack.enter_context(watcher(self))
            return self.forward(*inputs, **options)

    # what it holds

    def _own(self, kind: type) -> Iterator[tuple[str, Any]]:
        """The attributes of this very module that are a `kind`, in order of assignment."""
        for name, value in list(vars(self).items()):
            if isinstance(value, (list, tuple, set, frozenset, dict)) and _holds_parts(value):
                raise TypeError(
                    f"{type(self).__name__}.{name} is a plain {type(value).__name__} of Modules or Parameters, where "
                    "training, saving and moving would not find them: wrap Modules in nn.ModuleList([...]) or "
                    "nn.Sequential(...), give each Parameter an attribute of its own")
            if isinstance(value, kind):
                yield name, value

    def _own_buffers(self) -> Iterator[tuple[str, Array]]:
        for name in self._buffer_names:
            value = vars(self).get(name)
            if isinstance(value, np.generic):
                value = np.asarray(value)  # arithmetic on a 0-d array leaves NumPy's scalar
                setattr(self, name, value)
            if value is not None and not is_array(value):
                raise TypeError(f"{type(self).__name__}.{name} was registered as a buffer, but now is a "
                                f"{type(value).__name__}: assign an array to it")
            if value is not None:
                yield name, value

    def _walk(self, name: str = "", above: tuple["Module", ...] = ()) -> Iterator[tuple[str, "Module"]]:
        """Every path through the tree, parents first; a module that is used twice comes twice."""
        if any(self is module for module in above):
            raise ValueError(f"the module {type(self).__name__} at {name!r} contains itself: a module's attributes are "
                             "its parts, so it cannot hold its parent; pass the parent to forward instead")
        yield name, self
        for child_name, child in self.named_children():
            yield from child._walk(_join(name, child_name), (*above, self))

    def named_children(self) -> Iterator[tuple[str, "Module"]]:
        """(attribute, module) for the modules directly below this one."""
        return self._own(Module)

    def children(self) -> Iterator["Module"]:
        """The modules directly below this one."""
        return (child for _, child in self.named_children())

    def named_modules(self) -> Iterator[tuple[str, "Module"]]:
        """(dotted name, module) for this module ("") and all below it, parents first, each module once."""
        seen: set[int] = set()
        for name, module in self._walk():
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def modules(self) -> Iterator["Module"]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(dotted name, Parameter) for all of the tree; a shared one comes once, under its first name."""
        seen: set[int] = set()
        for path, module in self.named_modules():
            for name, parameter in module._own(Parameter):
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield _join(path, name), parameter

    def parameters(self) -> Iterator[Parameter]:
        """Every Parameter of the tree, once: what an optimizer is given."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Array]]:
        """(dotted name, raw array) for all of the tree: state that is saved but not trained."""
        for path, module in self.named_modules():
            for name, buffer in module._own_buffers():
                yield _join(path, name), buffer

    def buffers(self) -> Iterator[Array]:
        """Every buffer of the tree."""
        return (buffer for _, buffer in self.named_buffers())

    def register_buffer(self, name: str, array: Array) -> None:
        """Makes a copy of `array` the attribute `name`, saved and moved along with the parameters."""
        who = f"{type(self).__name__}.register_buffer"
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"{who}: the name must be that of an attribute, got {name!r}: use letters, digits and _")
        if hasattr(self, name):
            raise ValueError(f"{who}: {name!r} is taken already: choose another name, or assign to self.{name}")
        if not is_array(array):
            raise TypeError(f"{who}: {name!r} must be an array, got {type(array).__name__}: "
                            "use np.asarray(...) for numbers, tensor.data for a tensor")
        self._buffer_names = (*self._buffer_names, name)
        setattr(self, name, array.copy())

    # changing all of it

    def train(self, mode: bool = True) -> Self:
        """Training mode (or evaluation, for mode=False) for the whole tree. Returns self."""
        if not isinstance(mode, (bool, np.bool_)):
            raise TypeError(f"train: mode must be True or False, got {mode!r}; this sets a mode, it runs no training")
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self) -> Self:
        """Evaluation mode for the whole tree: no dropout, batch norm by its running statistics. Returns self."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forgets every parameter's gradient."""
        for parameter in self.parameters():
            parameter.grad = None

    def to(self, device: str | None = None, dtype: Any = None) -> Self:
        """Moves the tree to "cpu" or "cuda" and converts it to a floating dtype, in place. Returns self.

        Every Parameter stays the same object, so an optimizer made before keeps working; gradients move along. Integer
        buffers keep their dtype. All new arrays are made before the first is put in place: what fails changes nothing.
        """
        if device is not None and device not in DEVICES:
            raise ValueError(f"to: device must be 'cpu' or 'cuda', got {device!r}; "
                             "a dtype goes by name, to(dtype=np.float32)")
        dtype = None if dtype is None else _floating(dtype)
        parameters = list(self.parameters())
        buffers = [(module, name) for module in self.modules() for name, _ in module._own_buffers()]
        moved: dict[int, Array] = {}  # by the old array: what was shared stays shared

        def move(x: Array) -> Array:
            if id(x) not in moved:
                y = x if dtype is None or x.dtype.kind != "f" else x.astype(dtype, copy=False)
                moved[id(x)] = to_device(y, device_of(y) if device is None else device)
            return moved[id(x)]

        new_data = [move(parameter.data) for parameter in parameters]
        new_buffers = [move(getattr(module, name)) for module, name in buffers]
        new_gradients = [None if parameter.grad is None else move(parameter.grad) for parameter in parameters]
        for parameter, x, gradient in zip(parameters, new_data, new_gradients):
            if x is not parameter.data:  # an unchanged array must not tell the graph of a change
                parameter.replace(x)
                parameter.grad = gradient
        for (module, name), x in zip(buffers, new_buffers):
            setattr(module, name, x)
        return self

    # saving and loading

    def _entries(self) -> Iterator[tuple[str, "Module", str, Array]]:
        """(name, module, attribute, array) for all that is saved: own parameters, own buffers, then the children's."""
        for path, module in self._walk():
            for name, parameter in module._own(Parameter):
                yield _join(path, name), module, name, parameter.data
            for name, buffer in module._own_buffers():
                yield _join(path, name), module, name, buffer

    def state_dict(self) -> dict[str, np.ndarray]:
        """name -> NumPy copy of every parameter and buffer, under torchvision's names ("layer1.0.bn1.running_mean").

        A shared parameter stands under each of its names.
        """
        return {name: np.array(to_numpy(x)) for name, _, _, x in self._entries()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> LoadReport:
        """Copies arrays (or tensors) in by name, converted to the dtype that is there. All or nothing.

        strict: every name must be matched, but for `num_batches_tracked`, which checkpoints from before 2018 lack and which
        changes no output; it then stays as it is. Otherwise what fits by name is loaded and the rest is reported; an array of
        a wrong shape is refused all the same. Errors: TypeError for what is no mapping; ValueError that lists every
        entry that does not fit.
        """
        if not isinstance(strict, bool):
            raise TypeError(f"load_state_dict: strict must be True or False, got {strict!r}")
        if not isinstance(state, Mapping):
            raise TypeError(f"load_state_dict: needs a mapping from names to arrays, got {type(state).__name__}; "
                            "load the file first, and pass other.state_dict() rather than the module itself")
        entries = list(self._entries())
        names = {name for name, *_ in entries}
        missing = [name for name, *_ in entries if name not in state]
        unexpected = [key for key in state if key not in names]
        refused: list[str] = []
        arrays = [(module, attribute, _fitted(name, state[name], current, refused))
                  for name, module, attribute, current in entries if name in state]
        needed = [name for name in missing if not name.endswith("num_batches_tracked")]
        if refused or (strict and (needed or unexpected)):
            shapes = {name: current.shape for name, _, _, current in entries}
            lines = [f"missing: {name} {shapes[name]}" for name in needed if strict]
            lines += [f"unexpected: {key}" for key in unexpected if strict] + refused
            head = f"load_state_dict: entries that do not fit {type(self).__name__}: {len(lines)}; nothing was loaded"
            raise ValueError("\n  ".join([head, *lines, f"likely fix: {_likely_fix(needed, unexpected, refused)}"]))
        for module, attribute, array in arrays:
            value = getattr(module, attribute)
            if isinstance(value, Parameter):
                value.data = array
            else:
                setattr(module, attribute, array)
        return LoadReport(missing, unexpected)

    # printing

    def extra_repr(self) -> str:
        """What stands between the parentheses when the module is printed: its options."""
        return ""

    @reprlib.recursive_repr("...")
    def __repr__(self) -> str:
        lines = [f"  ({name}): {child!r}".replace("\n", "\n  ") for name, child in self.named_children()]
        return "\n".join([f"{type(self).__name__}({self.extra_repr()}", *lines, ")"]) if lines else (
            f"{type(self).__name__}({self.extra_repr()})")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _holds_parts(container: Any, depth: int = 2) -> bool:
    """Whether a list or dictionary (or one in it) holds Modules or Parameters."""
    values = container.values() if isinstance(container, dict) else container
    return any(isinstance(value, (Module, Parameter))
               or (depth > 1 and isinstance(value, (list, tuple, set, dict)) and _holds_parts(value, depth - 1))
               for value in values)


def _floating(dtype: Any) -> np.dtype:
    try:
        converted = np.dtype(dtype)
    except TypeError:
        converted = None
    if converted is None or converted.kind != "f":
        raise TypeError(f"to: dtype must be a floating one such as np.float32, got {dtype!r}")
    return converted


def _fitted(name: str, value: Any, current: Array, refused: list[str]) -> Array | None:
    """A copy of `value` that can stand in the place of `current`; else None, and a line in `refused`."""
    x = value.numpy() if isinstance(value, Tensor) else np.asarray(value) if isinstance(value, np.generic) else value
    if not is_array(x):
        refused.append(f"no array: {name} is a {type(value).__name__}; convert it with np.asarray(...)")
        return None
    x = to_numpy(x)
    if x.dtype.kind not in "fiub":
        refused.append(f"no numbers: {name} is {x.dtype}, expected {current.dtype}")
        return None
    if x.shape != current.shape:
        hint = ", its transpose" if x.ndim == 2 and x.shape == current.shape[::-1] else ""
        refused.append(f"misshapen: {name} is {x.shape}, expected {current.shape}{hint}")
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        fitted = x.astype(current.dtype)
    if current.dtype.kind != "f" and not np.array_equal(fitted, x):
        refused.append(f"no integers: {name} is {x.dtype} and would be rounded to {current.dtype}")
        return None
    return to_device(fitted, device_of(current))


def _likely_fix(missing: list[str], unexpected: list[Any], refused: list[str]) -> str:
    """The most probable reason why entries do not fit, as an instruction."""
    first = missing[0] if missing else ""
    prefix = next((str(key).removesuffix(first) for key in unexpected if first and str(key).endswith("." + first)), "")
    if prefix and {str(key).removeprefix(prefix) for key in unexpected} >= set(missing):
        return f"take the prefix off, {{k.removeprefix({prefix!r}): v for k, v in state.items()}}"
    if any("its transpose" in line for line in refused):
        return "a Linear's weight is (out_features, in_features): transpose it, state[name].T"
    if any(line.startswith("misshapen") for line in refused):
        return ("build the network with the options it was saved with (number of classes, width), "
                "or leave these entries out and load with strict=False")
    if refused:
        return "pass NumPy arrays of numbers, such as another module's state_dict()"
    return "is this the checkpoint of another architecture? strict=False loads what fits by name and reports the rest"
