"""gradcheck: is the gradient that backward computes the slope that forward has? For functions of Tensors, Functions, nets."""
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from minidl.autograd import Tensor
from minidl.backend import is_array
from minidl.checking.examine import Examiner
from minidl.checking.one_input import Limits
from minidl.checking.pairs import check_function, check_limits, examined, finish, precision
from minidl.checking.report import GradcheckError, Report
from minidl.checking.subject import TensorSubject
from minidl.function import Function


def gradcheck(f: Any, inputs: Any, *, parameters: Any = (), names: Iterable[str] | None = None, seed: int = 0,
              eps: float = 1e-6, rtol: float = 1e-5, atol: float = 1e-7, max_elements: int = 500, projections: int = 8,
              options: Mapping[str, Any] | None = None, dtype: Any = "float64", device: str = "cpu",
              raise_error: bool = True) -> Report:
    """Compares the gradients of f(*inputs) with measured slopes, in float64, and says what is wrong where they differ.

    f: takes Tensors, returns a Tensor or a tuple of them; must be deterministic (call minidl.manual_seed inside it if
        it draws random numbers). A Module is one. Or a Function class (with `options` for its __init__), or an instance.
    inputs: one array or Tensor, or a sequence. Floating ones are copied to float64 and checked; integer ones (labels,
        masks) and anything else are passed on as they are.
    parameters: Tensors that f uses besides, as a mapping or pairs (name, tensor): `net.named_parameters()`. They are
        float64 during the check and get their own arrays back afterwards, as do the buffers of an f that is a Module.
    names: what to call the inputs in messages; default x0, x1, ..., for a Function the names that its forward uses.
    eps: step of the central difference, for elements of magnitude 1 or less; rtol, atol: |got - expected| <= atol +
        rtol * |expected| + rounding, where rounding is what float64 cannot resolve at that step.
    max_elements: an input up to this size is checked element by element, a larger one along `projections` random
        directions for each of two random cotangents (seeded by `seed`).
    dtype, device: of a Function class, backward may be computed in "float32", and on "cuda"; the slopes it is held
        against are those of float64 on the CPU, and what float32 may lose is allowed for.
    raise_error: True: a wrong gradient raises GradcheckError, whose `.report` is the Report; False: the Report is returned.

    Kinks (ReLU at 0, ties of a maximum) are not failures: there the gradient must lie between the slopes of both sides,
    equal maxima must share dy, and the report counts them. If most elements are kinks, the check goes a little beside the
    point; kinks there, too, are an error, for the check would say nothing.
    """
    limits = _limits(f, seed, eps, rtol, atol, max_elements, projections)
    given = list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]
    labels = list(names) if names is not None else None
    if labels is not None and len(labels) != len(given):
        raise ValueError(f"gradcheck: {len(labels)} names for {len(given)} inputs: give one name each")
    if isinstance(f, Function) or (isinstance(f, type) and issubclass(f, Function)):
        if parameters:
            raise ValueError("gradcheck: a Function has no parameters: everything it is given is an input")
        arrays = [x.data if isinstance(x, Tensor) else x for x in given]
        return check_function(f, arrays, options=options, names=labels, seed=seed, limits=limits, dtype=dtype, device=device,
                              raise_error=raise_error)
    if options:
        raise ValueError("gradcheck: options are for a Function class; a function of Tensors has its own: lambda x: f(x, n=5)")
    if precision("gradcheck", dtype, device) != np.float64 or device != "cpu":
        raise ValueError("gradcheck: dtype and device are for a Function class; a function of Tensors may use arrays of its "
                         "own, which the check cannot convert: pass the class, or a pair to minidl.check_backward")
    labels = labels or [f"x{i}" for i in range(len(given))]
    return _check_tensors(f, given, parameters, labels, seed, limits, raise_error)


def _check_tensors(f: Any, given: list, parameters: Any, labels: list[str], seed: int, limits: Limits,
                   raise_error: bool) -> Report:
    arguments = [_argument(x) for x in given]
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
        subject = TensorSubject(f, arguments, {**variables, **extra}, "gradcheck")
        report = examined(Examiner(subject, seed, limits))
    finally:
        for name, (data, grad, requires_grad) in before.items():
            extra[name].replace(data)
            extra[name].grad, extra[name].requires_grad = grad, requires_grad
        if buffers:  # f is a Module: training mode moves its running statistics with every call
            f.load_state_dict(buffers, strict=False)
    given_seed = f", seed={seed}" if seed else ""
    report.repeat = f"minidl.gradcheck(f, inputs{', parameters=...' if extra else ''}{given_seed}, eps={limits.eps:g})"
    return finish(report, raise_error)


def _limits(f: Any, *numbers: Any) -> Limits:
    if not callable(f) and not isinstance(f, Function):
        raise TypeError(f"gradcheck: f must be a function from Tensors to a Tensor, got {type(f).__name__}: "
                        "write gradcheck(f, [x]), not gradcheck(f(x))")
    return check_limits("gradcheck", *numbers)


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


__all__ = ["GradcheckError", "gradcheck"]
