"""What is checked, seen alike: a function of named float64 arrays, all its outputs in one vector, and its gradient.

`PairSubject` is a forward and a backward on raw arrays, or a `Function` class, which is both; `TensorSubject` is a
function of Tensors, whose gradient the engine computes.
"""
import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from minidl.autograd import Tensor, enable_grad, no_grad
from minidl.backend import device_of, is_array, to_device, to_numpy
from minidl.checking.report import GradcheckError
from minidl.function import Function


class BrokenRuleError(Exception):
    """What is checked breaks a rule that comes before all numbers. `code` is the cause; the message says it."""

    def __init__(self, code: str, why: str, name: str | None = None) -> None:
        super().__init__(why)
        self.code, self.why, self.name = code, why, name


def is_floating(x: Any) -> bool:
    """Whether `x` is what a gradient is asked for: a floating array, a float, or nested lists of floats."""
    if isinstance(x, (float, np.floating)) or (is_array(x) and x.dtype.kind == "f"):
        return True
    try:
        return isinstance(x, list) and np.asarray(x).dtype.kind == "f"
    except ValueError:  # rows of different lengths
        return False


def _copied(x: Any) -> Any:
    """A copy of what is no array; what cannot be copied (a module, a lock) is handed on itself."""
    try:
        return copy.deepcopy(x)
    except Exception:
        return x


class Subject:
    """A function of named arrays. `values`: the point, as float64 NumPy arrays; `y_shape`: the output's shape."""

    name: str
    values: dict[str, np.ndarray]
    y_shape: tuple[int, ...]
    dtype = np.dtype(np.float64)
    device = "cpu"
    numbers: dict[str, Any]
    """Arrays and options by name: where factors of a wrong gradient may come from."""

    def outputs(self, changed: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        """All outputs in one vector, at the point with some of its arrays `changed`."""
        raise NotImplementedError

    def gradients(self, dy: np.ndarray, changed: Mapping[str, np.ndarray] | None = None) -> dict[str, Any]:
        """What backward gives in float64 for each array of the point, with some `changed`; None where it gives none."""
        raise NotImplementedError

    def gradients_low(self, dy: np.ndarray) -> dict[str, Any]:
        """The same in `dtype` and on `device`, brought to the host."""
        return self.gradients(dy)

    def keeps_the_rules(self) -> None:
        """Raises BrokenRuleError if calls change inputs, or two calls differ."""
        raise NotImplementedError

    def takes_complex(self) -> bool:
        """Whether `outputs` may be asked at a complex point."""
        return False


def _takes_one(backward: Callable) -> bool:
    """Whether backward takes dout and nothing else."""
    try:
        parameters = inspect.signature(backward).parameters.values()
    except (TypeError, ValueError):
        return False
    return len(parameters) == 1 and all(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


class PairSubject(Subject):
    """A student's pair on raw arrays.

    forward(*inputs, **options) -> (out, cache) goes with backward(dout, cache); forward(*inputs, **options) -> out with
    backward(dout, *inputs, **options), or with the backward(dout) of a layer that remembers what forward saw. Every call
    gets arrays and options of its own.
    """

    def __init__(self, forward: Callable, backward: Callable, inputs: list, options: Mapping[str, Any], names: list[str],
                 name: str, dtype: Any = np.float64, device: str = "cpu", is_function: bool = False) -> None:
        self.forward, self.backward, self.inputs, self.options, self.names = forward, backward, inputs, dict(options), names
        self.name, self.dtype, self.device, self.is_function = name, np.dtype(dtype), device, is_function
        self._shapes: dict[str, Any] = {}
        self.backward_remembers = _takes_one(backward)
        self.floating = [is_floating(x) for x in inputs]
        # what the numbers are measured at is what arrives there in the dtype of the check
        self.values = {n: np.asarray(to_numpy(x)).astype(self.dtype).astype(np.float64)
                       for n, x, yes in zip(names, inputs, self.floating) if yes}
        out = to_numpy(self._out(self._call(self._arguments())[0]))
        self.y_shape, self._y_is_number = np.shape(out), not isinstance(out, np.ndarray)
        given = {**dict(zip(names, inputs)), **self.options}
        self.numbers = {name: to_numpy(x) if is_array(x) else x for name, x in given.items()}

    def _arguments(self, changed: Mapping[str, np.ndarray] | None = None, dtype: Any = None, device: str = "cpu") -> list:
        """The inputs of one call: copies, so that nothing a call does to them is seen by the next."""
        arguments = []
        for name, x, floating in zip(self.names, self.inputs, self.floating):
            if floating:
                x_here = np.array((changed or {}).get(name, self.values[name]))
                if dtype is not None:
                    x_here = x_here.astype(dtype)
                is_number = isinstance(x, (float, np.floating)) and device == "cpu"
                arguments.append(x_here[()] if is_number else to_device(x_here, device))
            elif is_array(x):
                arguments.append(to_device(np.array(to_numpy(x)), device))
            else:
                arguments.append(_copied(x))
        return arguments

    def arguments(self) -> list:
        """Copies of the inputs at the point, in float64, for a reference."""
        return self._arguments()

    def copied_options(self) -> dict[str, Any]:
        """A copy of the options."""
        return {key: _copied(value) for key, value in self.options.items()}

    def _call(self, arguments: list) -> tuple[Any, dict]:
        options = self.copied_options()
        return self.forward(*arguments, **options), options

    @staticmethod
    def _has_cache(result: Any) -> bool:
        return isinstance(result, tuple) and len(result) == 2

    def _out(self, result: Any) -> Any:
        out = result[0] if self._has_cache(result) else result
        if not is_array(out) and not isinstance(out, (float, int, complex, np.number)):
            raise TypeError(f"{self.name}: forward must return (out, cache) or out, out an array or a number, "
                            f"got {type(result).__name__}{' of ' + type(out).__name__ if result is not out else ''}")
        return out

    def outputs(self, changed: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        """The forward, in float64 on the host (or complex, if `changed` is)."""
        out = np.asarray(to_numpy(self._out(self._call(self._arguments(changed))[0])))
        return out.reshape(-1) if out.dtype.kind == "c" else out.reshape(-1).astype(np.float64)

    def takes_complex(self) -> bool:
        """Plain NumPy code may; Function classes check their inputs."""
        return not self.is_function

    def _cotangent(self, dy: np.ndarray, dtype: Any = np.float64, device: str = "cpu") -> Any:
        dout = np.array(dy, dtype).reshape(self.y_shape)
        return dout[()] if self._y_is_number and device == "cpu" else to_device(dout, device)

    def _pull(self, dout: Any, result: Any, arguments: list, options: dict) -> Any:
        if self._has_cache(result):
            return self.backward(dout, result[1])
        if self.backward_remembers:
            return self.backward(dout)
        return self.backward(dout, *arguments, **options)

    def gradients(self, dy: np.ndarray, changed: Mapping[str, np.ndarray] | None = None) -> dict[str, Any]:
        """A fresh forward and backward in float64 on the CPU."""
        gradients = self._fresh(dy, changed, np.float64, "cpu")
        for name, g in gradients.items():
            shape = None if g is None else g.shape
            if self._shapes.setdefault(name, shape) != shape:
                raise BrokenRuleError("wrong-shape", f"d{name} has shape {self._shapes[name]} for one dout and {shape} for "
                                      "another", name)
        return gradients

    def gradients_low(self, dy: np.ndarray) -> dict[str, Any]:
        """A fresh forward and backward in the dtype and on the device of the check."""
        return self._fresh(dy, None, self.dtype, self.device)

    def _fresh(self, dy: np.ndarray, changed: Mapping[str, np.ndarray] | None, dtype: Any, device: str) -> dict[str, Any]:
        arguments = self._arguments(changed, dtype, device)
        result, options = self._call(arguments)
        return self._named(self._pull(self._cotangent(dy, dtype, device), result, arguments, options))

    def _named(self, returned: Any) -> dict[str, Any]:
        """The gradients by the names of their inputs."""
        if isinstance(returned, Mapping):
            returned = tuple(returned.get(name, returned.get(f"d{name}")) for name in self.values)
        wanted = list(self.values)
        if isinstance(returned, (tuple, list)) and not (isinstance(returned, list) and self._is_one_gradient(returned)):
            gradients = list(returned)
        else:
            gradients = [returned]
        if len(gradients) == len(self.names):
            gradients = [g for g, floating in zip(gradients, self.floating) if floating]
        if len(gradients) != len(wanted):
            raise BrokenRuleError("wrong-shape", f"backward returned {len(gradients)} gradient(s) for {len(wanted)} input(s), "
                                  f"{', '.join(wanted)}: it must return one for each, in that order (a number that is no "
                                  "variable is better passed as an option)")
        return {name: self._host(g) for name, g in zip(wanted, gradients)}

    def _is_one_gradient(self, returned: list) -> bool:
        """Whether a list is the one gradient of the one input, as nested numbers."""
        try:
            return len(self.values) == 1 and np.shape(returned) == next(iter(self.values.values())).shape
        except ValueError:  # rows of different lengths
            return False

    @staticmethod
    def _host(g: Any) -> Any:
        if g is None:
            return None
        try:
            return np.array(to_numpy(g))
        except ValueError:
            raise BrokenRuleError("wrong-shape", f"backward returned a {type(g).__name__} that is no array: its rows differ in "
                                  "length") from None

    def keeps_the_rules(self) -> None:
        """Nothing is written into, nothing changes from call to call."""
        arguments = self._arguments(dtype=self.dtype, device=self.device)
        before = [_copied(x) for x in arguments]
        result, options = self._call(arguments)
        self._refuse_written(arguments, before, "forward")
        out = np.array(to_numpy(self._out(result)))
        again = np.array(to_numpy(self._out(self._call(self._arguments(dtype=self.dtype, device=self.device))[0])))
        if out.shape != again.shape or not np.array_equal(out, again, equal_nan=out.dtype.kind in "fc"):
            raise BrokenRuleError("not-deterministic", "two calls of forward with the same inputs gave different outputs: "
                                  "random numbers must come from a seed that is an input or an option")
        if out.dtype.kind != "f" or out.dtype.itemsize < self.dtype.itemsize:
            raise BrokenRuleError("wrong-dtype", f"forward turned {self.dtype} inputs into {out.dtype}: a constant, a cast or "
                                  "an array made inside it has another dtype")
        if not np.isfinite(out).all():
            raise GradcheckError(f"{self.name}: forward returned {'NaN' if np.isnan(out).any() else 'Inf'} at this point, "
                                 "where no slope can be measured: choose other inputs")
        self._refuse_changing_backward(arguments, before, result, options)

    def _refuse_changing_backward(self, arguments: list, before: list, result: Any, options: dict) -> None:
        """Two calls of backward, and a whole new one, give the same gradients; nothing that was handed over has changed."""
        dy = np.random.default_rng([0, 1]).standard_normal(int(np.prod(self.y_shape)))
        dout = self._cotangent(dy, self.dtype, self.device)
        first = self._named(self._pull(dout, result, arguments, options))
        self._refuse_written(arguments, before, "backward")
        if is_array(dout) and not np.array_equal(to_numpy(dout), to_numpy(self._cotangent(dy, self.dtype, self.device))):
            raise BrokenRuleError("mutates-input", "backward wrote into dout, which another branch of a network may share: "
                             "work on a copy", "dout")
        again = [(self.gradients_low(dy), "two calls of forward and backward with the same inputs gave different gradients"),
                 (self._second(dout, result, arguments, options), "a second backward on the same cache gave another gradient")]
        for other, why in again:
            for name, g in first.items():
                if not _same(g, other[name]):
                    raise BrokenRuleError("not-deterministic", f"{why} of {name}", name)

    def _second(self, dout: Any, result: Any, arguments: list, options: dict) -> dict[str, Any]:
        try:
            return self._named(self._pull(dout, result, arguments, options))
        except Exception as error:
            raise BrokenRuleError("not-deterministic", "a second backward on the same cache failed: backward used up what "
                                  f"forward had saved ({type(error).__name__}: {error})") from error

    def _refuse_written(self, arguments: list, before: list, who: str) -> None:
        for name, now, then in zip(self.names, arguments, before):
            if is_array(now) and not np.array_equal(to_numpy(now), to_numpy(then), equal_nan=now.dtype.kind == "f"):
                raise BrokenRuleError("mutates-input", f"{who} wrote into {name}, which others go on using: copy it first",
                                      name)


def _same(a: Any, b: Any) -> bool:
    """Equal gradients, up to the order in which threads add; what is no array of numbers is judged later."""
    if a is None or b is None or np.shape(a) != np.shape(b) or a.dtype.kind not in "fiub" or b.dtype.kind not in "fiub":
        return (a is None) == (b is None) and np.shape(a) == np.shape(b)
    scale = float(abs(np.nan_to_num(a)).max(initial=0.0))
    tolerance = 1e-12 if a.dtype.itemsize >= 8 else 1e-5
    return bool(np.allclose(a, b, rtol=tolerance, atol=tolerance * scale, equal_nan=True))


def function_pair(function: Any, options: Mapping[str, Any]) -> tuple[Callable, Callable]:
    """(forward, backward) of a Function class, or of an instance, from which every call gets a copy."""
    def forward(*inputs: Any) -> tuple[Any, Callable]:
        one = function(**options) if isinstance(function, type) else copy.copy(function)
        one.needs = tuple(is_floating(x) for x in inputs)
        run, back = one.kernels(inputs)
        return run(*inputs), back

    return forward, lambda dy, back: back(dy)


def input_names(f: Callable, count: int) -> list[str]:
    """The names that f gives its first `count` inputs; x0, x1, ... where it does not say."""
    if isinstance(f, (Function, type)):
        kind = f if isinstance(f, type) else type(f)
        return [kind.input_name(i) for i in range(count)]  # type: ignore[attr-defined]
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][:count]
    return names if len(names) == count else [f"x{i}" for i in range(count)]


class TensorSubject(Subject):
    """A function of Tensors, and the engine's gradient of it. Parameters that it uses besides are variables, too."""

    def __init__(self, f: Callable, arguments: list, variables: dict[str, Tensor], name: str) -> None:
        self.f, self.arguments, self.variables, self.name = f, arguments, variables, name
        self.values = {name: to_numpy(x.data).copy() for name, x in variables.items()}
        self.y_shape = self._run()[0].shape
        self.numbers = dict(self.values)

    def _run(self) -> tuple[np.ndarray, list[Tensor]]:
        ys = self.f(*self.arguments)
        ys = list(ys) if isinstance(ys, (tuple, list)) else [ys]
        for y in ys:
            if not isinstance(y, Tensor):
                raise TypeError(f"{self.name}: f must return a Tensor or a tuple of Tensors, got {type(y).__name__}")
            if y.dtype != np.float64:
                raise TypeError(f"{self.name}: f turned float64 inputs into {y.dtype}; the check needs float64 throughout "
                                "(pass a net's parameters as parameters=net.named_parameters())")
        one = ys[0].numpy() if len(ys) == 1 else np.concatenate([y.numpy().reshape(-1) for y in ys]) if ys else np.zeros(0)
        return one, ys

    def outputs(self, changed: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        """Every output of f in one vector, computed without recording."""
        with self._moved(changed), no_grad():
            return np.array(self._run()[0].reshape(-1))

    def gradients(self, dy: np.ndarray, changed: Mapping[str, np.ndarray] | None = None) -> dict[str, Any]:
        """One recorded call and its backward. Zeros where f does not depend on a variable."""
        with self._moved(changed):
            return self._gradients(dy)

    @contextmanager
    def _moved(self, changed: Mapping[str, np.ndarray] | None) -> Iterator[None]:
        """The variables hold `changed` inside the block."""
        raw = {name: self.variables[name].data for name in changed or {}}
        try:
            for name, x in raw.items():
                x[...] = to_device(np.asarray((changed or {})[name]).reshape(x.shape), device_of(x))
            yield
        finally:
            for name, x in raw.items():
                x[...] = to_device(self.values[name], device_of(x))

    def _gradients(self, dy: np.ndarray) -> dict[str, Any]:
        untouched = {name: to_numpy(x.data).copy() for name, x in self.variables.items()}
        for x in self.variables.values():
            x.grad, x.requires_grad = None, True
        with enable_grad():  # whoever calls gradcheck inside no_grad wants an answer all the same
            _, ys = self._run()
            total = None
            for y, part in zip(ys, np.split(dy, np.cumsum([y.size for y in ys])[:-1])):
                term = (y * Tensor(part.reshape(y.shape)).to(y.device)).sum()
                total = term if total is None else total + term
            if total is None or not total.requires_grad:
                raise BrokenRuleError("zero", "the result of f does not depend on its inputs through recorded operations; "
                                 "does f call .data, .numpy() or detach()?")
            total.backward()
        self._refuse_written(untouched)
        return {name: np.zeros(x.shape) if x.grad is None else to_numpy(x.grad).copy() for name, x in self.variables.items()}

    def _refuse_written(self, untouched: Mapping[str, np.ndarray]) -> None:
        for name, x in self.variables.items():
            if not np.array_equal(to_numpy(x.data), untouched[name], equal_nan=True):
                raise BrokenRuleError("mutates-input", f"f or its backward wrote into {name}; an operation must leave its "
                                      "inputs alone", name)

    def keeps_the_rules(self) -> None:
        """Nothing is written into, nothing changes from call to call."""
        y = self.outputs()
        self._refuse_written(self.values)
        if not np.array_equal(y, self.outputs(), equal_nan=True):
            raise BrokenRuleError("not-deterministic", "f is not deterministic: two calls with the same inputs gave different "
                                  "outputs; if it draws random numbers (dropout), call minidl.manual_seed(0) inside f")
        if not np.isfinite(y).all():
            raise GradcheckError(f"{self.name}: f returned {'NaN' if np.isnan(y).any() else 'Inf'} at this point, "
                                 "where no slope can be measured: choose other inputs")
        self.gradients(np.random.default_rng([0, 1]).standard_normal(y.size))
