"""gradcheck: is the gradient that backward computes the slope that forward has?

    loss = sum of dy * f(x)         dy: random, so that no mistake hides in a sum that happens to be constant
    d loss / d x[i]  by backward    must equal    (loss(x + eps e_i) - loss(x - eps e_i)) / 2 eps    measured

Every element is measured while the input is small; for a large one, random directions are, and a direction that
disagrees is bisected down to an element.
"""
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from minidl.autograd import Tensor, enable_grad, no_grad
from minidl.backend import device_of, is_array, to_device, to_numpy
from minidl.checking.report import GradientError, GradientReport, Mismatch
from minidl.checking.slopes import Expectation, Line, expect, expect_at_kink
from minidl.function import check_number

COTANGENTS = 2
MAX_KINKS, MAX_WRONG = 20, 5  # of a large input: how many are located before the check gives up


def gradcheck(f: Any, inputs: Any, *, parameters: Any = (), names: Iterable[str] | None = None, seed: int = 0,
              eps: float = 1e-6, rtol: float = 1e-5, atol: float = 1e-7, max_elements: int = 500,
              projections: int = 8) -> GradientReport:
    """Compares the gradients of f(*inputs) with measured slopes, in float64; raises GradientError where they differ.

    f: takes Tensors, returns a Tensor or a tuple of them; must be deterministic (call minidl.manual_seed inside it if
        it draws random numbers).
    inputs: one array or Tensor, or a sequence. Floating ones are copied to float64 and checked; integer ones (labels,
        masks) and anything else are passed on as they are.
    parameters: Tensors that f uses besides, as a mapping or pairs (name, tensor): `net.named_parameters()`. They are
        float64 during the check and get their own arrays back afterwards, as do the buffers of an f that is a Module.
    names: what to call the inputs in messages; default x0, x1, ...
    eps: step of the central difference; rtol, atol: |got - expected| <= atol + rtol * |expected| + rounding, where
        rounding is what float64 cannot resolve at that step.
    max_elements: an input up to this size is checked element by element, a larger one along `projections` random
        directions for each of two random cotangents (seeded by `seed`).

    Kinks (ReLU at 0, ties of a maximum) within eps are not failures: there the gradient must lie between the slopes
    of both sides, and the report lists them. If most elements are kinks, that is an error: the check would say nothing.
    """
    _check_options(f, seed, eps, rtol, atol, max_elements, projections)
    arguments = [_argument(x) for x in (inputs if isinstance(inputs, (tuple, list)) else [inputs])]
    labels = list(names) if names is not None else [f"x{i}" for i in range(len(arguments))]
    if len(labels) != len(arguments):
        raise ValueError(f"gradcheck: {len(labels)} names for {len(arguments)} inputs: give one name each")
    variables = {name: x for name, x in zip(labels, arguments) if isinstance(x, Tensor) and x.requires_grad}
    extra = _named(parameters)
    everything = [*labels, *extra]
    if len(set(everything)) < len(everything):
        raise ValueError(f"gradcheck: inputs and parameters need different names, got {everything}: pass names=[...]")
    if not variables and not extra:
        raise ValueError("gradcheck: there is nothing to check: no input is floating and no parameters were given")
    before = {name: (p.data, p.grad, p.requires_grad) for name, p in extra.items()}
    buffers = {name: x.copy() for name, x in f.named_buffers()} if hasattr(f, "named_buffers") else {}
    try:
        for p in extra.values():
            p.replace(p.data.astype(np.float64))  # a copy: the check writes into it
        checker = _Checker(f, arguments, {**variables, **extra}, seed, eps, rtol, atol)
        return checker.run(max_elements, projections)
    finally:
        for name, (data, grad, requires_grad) in before.items():
            extra[name].replace(data)
            extra[name].grad, extra[name].requires_grad = grad, requires_grad
        if buffers:  # f is a Module: training mode moves its running statistics with every call
            f.load_state_dict(buffers, strict=False)


def _check_options(f: Any, seed: Any, eps: Any, rtol: Any, atol: Any, max_elements: Any, projections: Any) -> None:
    if not callable(f):
        raise TypeError(f"gradcheck: f must be a function from Tensors to a Tensor, got {type(f).__name__}: "
                        "write gradcheck(f, [x]), not gradcheck(f(x))")
    eps, rtol, atol = (check_number("gradcheck", name, value) for name, value in (("eps", eps), ("rtol", rtol), ("atol", atol)))
    if eps <= 0 or rtol < 0 or atol < 0:
        raise ValueError(f"gradcheck: needs eps > 0 and rtol, atol >= 0, got eps={eps}, rtol={rtol}, atol={atol}")
    for name, value, least in (("seed", seed, 0), ("max_elements", max_elements, 0), ("projections", projections, 1)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"gradcheck: {name} must be an integer of at least {least}, got {value!r}")


def _named(parameters: Any) -> dict[str, Tensor]:
    """The parameters by name; bare tensors are called p0, p1, ..."""
    if hasattr(parameters, "named_parameters"):  # a Module
        parameters = parameters.named_parameters()
    items = list(parameters.items() if isinstance(parameters, Mapping) else parameters)
    pairs = [(f"p{i}", item) if isinstance(item, Tensor) else item for i, item in enumerate(items)]
    for pair in pairs:
        fits = isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], Tensor)
        if not fits or pair[1].dtype.kind != "f":
            raise TypeError("gradcheck: parameters must be floating Tensors, by name: pass net.named_parameters() or "
                            f"a mapping, got {pair!r:.60}")
    return dict(pairs)


def _argument(x: Any) -> Any:
    """A float64 leaf of our own for what is floating; everything else as it is."""
    raw = x.data if isinstance(x, Tensor) else x
    if isinstance(raw, (float, list)):
        raw = np.array(raw)
    if is_array(raw) and raw.dtype.kind == "f":
        return Tensor(raw.astype(np.float64), requires_grad=True)
    return x


class _Checker:
    """One check: the function at one point, its outputs strung into one vector, two random cotangents."""

    def __init__(self, f: Callable, arguments: list, variables: dict[str, Tensor], seed: int, eps: float, rtol: float,
                 atol: float) -> None:
        self.f, self.arguments, self.variables = f, arguments, variables
        self.seed, self.eps, self.rtol, self.atol = seed, eps, rtol, atol
        self.rng = np.random.default_rng(seed)
        self.report = GradientReport(seed=seed, eps=eps, rtol=rtol, atol=atol)

    def run(self, max_elements: int, projections: int) -> GradientReport:
        untouched = {name: x.data.copy() for name, x in self.variables.items()}
        y = self.outputs()
        self.refuse_written(untouched)
        if not np.array_equal(y, self.outputs(), equal_nan=True):
            raise GradientError("gradcheck: f is not deterministic: two calls with the same inputs gave different outputs; "
                                "if it draws random numbers (dropout), call minidl.manual_seed(0) inside f")
        if not np.isfinite(y).all():
            raise GradientError(f"gradcheck: f returned {'NaN' if np.isnan(y).any() else 'Inf'} at this point, "
                                "where no slope can be measured: choose other inputs")
        self.cotangents = self.rng.standard_normal((COTANGENTS, y.size))
        self.gradients = [self.analytic(dy) for dy in self.cotangents]
        for name, x in self.variables.items():
            if x.size <= max_elements:
                self.check_every_element(name)
            else:
                self.check_directions(name, projections)
        self.report.conclude()
        return self.report

    def outputs(self) -> np.ndarray:
        """Every output of f in one float64 vector, computed without recording."""
        with no_grad():
            ys = self.f(*self.arguments)
        ys = ys if isinstance(ys, (tuple, list)) else (ys,)
        for y in ys:
            if not isinstance(y, Tensor):
                raise TypeError(f"gradcheck: f must return a Tensor or a tuple of Tensors, got {type(y).__name__}")
            if y.dtype != np.float64:
                raise TypeError(f"gradcheck: f turned float64 inputs into {y.dtype}; the check needs float64 throughout "
                                "(pass a net's parameters as parameters=net.named_parameters())")
        return np.concatenate([y.numpy().reshape(-1) for y in ys]) if ys else np.zeros(0)

    def analytic(self, dy: np.ndarray) -> dict[str, np.ndarray]:
        """The gradient of dy . outputs by backward, flattened, for every variable. Zeros where f does not depend on it."""
        untouched = {name: x.data.copy() for name, x in self.variables.items()}
        for x in self.variables.values():
            x.grad, x.requires_grad = None, True
        with enable_grad():  # whoever calls gradcheck inside no_grad wants an answer all the same
            return self.recorded(dy, untouched)

    def recorded(self, dy: np.ndarray, untouched: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One recorded call and its backward; the gradients that arrive at the variables."""
        ys = self.f(*self.arguments)
        ys = ys if isinstance(ys, (tuple, list)) else (ys,)
        ends = np.cumsum([y.size for y in ys])[:-1]
        total = None
        for y, part in zip(ys, np.split(dy, ends)):
            term = (y * Tensor(part.reshape(y.shape)).to(y.device)).sum()
            total = term if total is None else total + term
        if total is None or not total.requires_grad:
            raise GradientError("gradcheck: the result of f does not depend on its inputs through recorded operations; "
                                "does f call .data, .numpy() or detach()?")
        total.backward()
        self.refuse_written(untouched)
        return {name: np.zeros(x.size) if x.grad is None else to_numpy(x.grad).reshape(-1).copy()
                for name, x in self.variables.items()}

    def refuse_written(self, untouched: dict[str, np.ndarray]) -> None:
        """Raises if a variable is no longer what it was."""
        for name, x in self.variables.items():
            if not np.array_equal(x.numpy(), to_numpy(untouched[name]), equal_nan=True):
                raise GradientError(f"gradcheck: f or its backward wrote into {name}; an operation must leave its inputs alone")

    def line(self, name: str, direction: np.ndarray) -> Line:
        """The outputs of f along `direction` (flat) of one variable. Every point is evaluated once."""
        x = self.variables[name].data
        step = to_device(direction.reshape(x.shape), device_of(x))
        seen: dict[float, np.ndarray] = {}

        def outputs(t: float) -> np.ndarray:
            if t not in seen:
                here = x.copy()
                x[...] = here + t * step
                try:
                    seen[t] = self.outputs()
                finally:
                    x[...] = here
            return seen[t]

        return Line(outputs, self.eps)

    def disagreement(self, name: str, direction: np.ndarray) -> tuple[int, float, Expectation] | None:
        """The first cotangent for which backward and measurement differ along `direction`: (which, got, expected)."""
        line = self.line(name, direction)
        for k, dy in enumerate(self.cotangents):
            got = float(self.gradients[k][name] @ direction)
            expected = expect(line, dy)
            self.report.note_error(got, expected)
            if not expected.accepts(got, self.rtol, self.atol):
                return k, got, expected
        return None

    def check_element(self, name: str, i: int) -> str:
        """Checks element i (flat): "agrees", "kink" or "wrong"; the last two go into the report."""
        direction = np.zeros(self.variables[name].size)
        direction[i] = 1.0
        self.report.elements += 1
        with np.errstate(invalid="ignore", over="ignore"):
            slopes = self.line(name, direction).central()
        index = tuple(int(j) for j in np.unravel_index(i, self.variables[name].shape))
        if not np.isfinite(slopes).all():
            raise GradientError(f"gradcheck: f is not finite within eps = {self.eps:g} of {name}{list(index)} = "
                                f"{float(self.variables[name].data[index]):g}, so there is no slope to measure: move the input")
        if self.disagreement(name, direction) is None:
            return "agrees"
        line = self.line(name, direction)
        for k, dy in enumerate(self.cotangents):
            got, at_kink = float(self.gradients[k][name][i]), expect_at_kink(line, dy)
            expected = at_kink or expect(line, dy)
            if not expected.accepts(got, self.rtol, self.atol):
                self.report.mismatches.append(Mismatch(name, index, got, expected, cotangent=k))
                return "wrong"
        self.report.kinks.append((name, index))
        return "kink"

    def check_every_element(self, name: str) -> None:
        kinks = [self.check_element(name, i) for i in range(self.variables[name].size)].count("kink")
        if 2 * kinks > self.variables[name].size:
            self.report.blind_spots.append(f"{kinks} of the {self.variables[name].size} elements of {name} sit on a kink")

    def check_directions(self, name: str, projections: int) -> None:
        """Checks random directions. Each that disagrees is bisected to an element, which later ones leave out."""
        left_out: list[int] = []
        wrong = 0
        for _ in range(projections):
            direction = self.rng.choice([-1.0, 1.0], self.variables[name].size)
            self.report.directions += 1
            while True:
                direction[left_out] = 0.0
                found = self.disagreement(name, direction)
                if found is None:
                    break
                i = self.locate(name, direction)
                verdict = self.check_element(name, i)
                if verdict == "agrees":  # the mistake is spread too thin to show in a single element
                    self.report.mismatches.append(Mismatch(name, None, found[1], found[2], found[0]))
                wrong += verdict == "wrong"
                left_out.append(i)
                if verdict == "agrees" or wrong == MAX_WRONG:
                    return
                if len(left_out) > MAX_KINKS:
                    self.report.blind_spots.append(f"more than {MAX_KINKS} of the elements of {name} sit on a kink")
                    return

    def locate(self, name: str, direction: np.ndarray) -> int:
        """The element that contributes most to the disagreement along `direction`, by halving its support."""
        support = np.flatnonzero(direction)
        while len(support) > 1:
            halves = np.array_split(support, 2)
            errors = []
            for half in halves:
                part = np.zeros_like(direction)
                part[half] = direction[half]
                line = self.line(name, part)
                errors.append(max(abs(float(g[name] @ part) - expect(line, dy).low)
                                  for g, dy in zip(self.gradients, self.cotangents)))
            support = halves[int(np.argmax(np.nan_to_num(errors, nan=np.inf)))]
        return int(support[0])
