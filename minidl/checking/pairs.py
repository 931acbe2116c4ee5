"""check_backward and check: the doctor for raw NumPy pairs, for Function classes, and over many samples at once."""
import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minidl.autograd import Tensor
from minidl.checking.examine import Examiner
from minidl.checking.merge import merged
from minidl.checking.one_input import Limits
from minidl.checking.report import Cause, GradcheckError, Report
from minidl.checking.source_line import gradient_line
from minidl.checking.subject import PairSubject, function_pair, input_names, is_floating
from minidl.function import Function, check_number
from minidl.ops import OPS


def check_backward(forward: Callable, backward: Callable, inputs: Any, *, options: Mapping[str, Any] | None = None,
                   names: Iterable[str] | None = None, reference: Callable | None = None, seed: int = 0,
                   raise_error: bool = True, dtype: Any = "float64", device: str = "cpu", max_elements: int = 500,
                   eps: float = 1e-6, rtol: float = 1e-5, atol: float = 1e-7) -> Report:
    """Checks a backward written by hand against the slopes of its forward, and says what is wrong and why probably.

    forward(*inputs, **options) -> (out, cache) with backward(dout, cache) -> the gradient, or a tuple of gradients; or
    forward(*inputs, **options) -> out with backward(dout, *inputs, **options).
    inputs: a sequence of arrays or numbers. Floating ones are differentiated, as float64; integer arrays (labels) and
        everything else (CS231n's dictionaries of parameters) are passed on, copied for every call.
    gradients: one for each floating input, in order; or one for each input, with None where it is not floating.
    reference(*inputs, **options) -> out: what forward must compute; a difference is the cause `forward-differs`.
    names: what to call the inputs; default: the names that forward gives them.
    seed: of the two random cotangents, and of the directions along which large inputs are checked.
    dtype="float32", device="cuda": backward is computed so, and held against slopes measured in float64 on the CPU.
    raise_error=False: returns the Report of a wrong gradient, too. Otherwise GradcheckError, with `.report`.

    An exception from forward is the caller's to see. One from backward makes the gradient wrong, and is in the report.
    Report: `ok`, `causes`, `findings`, `skipped`, `seed`, `text`, `plot()`; docs/gradient_doctor.md has the codes.
    """
    if not callable(forward) or not callable(backward):
        raise TypeError(f"check_backward: needs two functions, forward and backward, got {forward!r:.60} and {backward!r:.60}")
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f"check_backward: options must be a mapping of names to values, got {options!r:.60}")
    given = _sequence("check_backward", inputs)
    labels = _labels("check_backward", names, forward, given)
    limits = check_limits("check_backward", seed, eps, rtol, atol, max_elements, 8)
    how = How(seed, limits, precision("check_backward", dtype, device), device)
    report = _examined(Pair(forward, backward, _name(forward)), given, dict(options or {}), labels, how, reference)
    called = f"{_called(forward, 'forward')}, {_called(backward, 'backward')}"
    shown = ", ".join(f"{key!r}: {value!r:.40}" for key, value in (options or {}).items())
    more = (f", options={{{shown}}}" if len(shown) < 120 else ", options=...") if shown else ""
    more += (", names=..." if names is not None else "") + (", reference=..." if reference else "")
    report_options = dict(seed=seed, dtype=dtype, device=device, max_elements=max_elements, eps=eps, rtol=rtol, atol=atol)
    report.repeat = f"minidl.check_backward({called}, inputs{more}{_changed(report_options)})"
    return finish(report, raise_error)


def check(subject: Any, *, like: Any = None, samples: Callable | None = None, reference: Callable | None = None, seed: int = 0,
          raise_error: bool = True, dtype: Any = "float64", device: str = "cpu",
          progress: Callable[[int], None] | None = None) -> Report:
    """Checks a Function class, or a pair (forward, backward), on the samples of an operation of minidl's, and against it.

    subject: the class; its options go to __init__. Or a pair as for `check_backward`.
    like: an operation of minidl's: its class (ops.LRN), its function (ops.lrn) or its name ("lrn"). Its samples are the
        inputs, and its loops are what forward is compared with.
    samples(rng): yields (inputs, options) in place of `like`; default: those of the class itself.
    reference(*inputs, **options): what forward must compute; default: that of `like`.
    progress(n) is called after sample n.
    Samples with options that the subject does not know are left out; the report says how many. Errors: ValueError if
    there are no samples; GradcheckError as for `check_backward`.
    """
    kind = find_operation(like) if like is not None else None
    is_function = isinstance(subject, type) and issubclass(subject, Function)
    if not is_function and not (isinstance(subject, (tuple, list)) and len(subject) == 2 and all(map(callable, subject))):
        raise TypeError(f"check: needs a Function class or a pair (forward, backward), got {subject!r:.80}")
    samples = samples or (kind.samples if kind else getattr(subject, "samples", None))
    if samples is None or samples is Function.samples:
        raise ValueError("check: there are no inputs: pass like=ops.LRN, or samples(rng) that yields (inputs, options)")
    reference = reference or (kind.naive if kind else None)
    if reference is None and is_function and "naive" in vars(subject):
        reference = subject.naive
    run = _function_runner(subject, reference) if is_function else _pair_runner(subject, reference)
    reports, left_out = [], []
    for n, (inputs, options) in enumerate(samples(np.random.default_rng(seed))):
        if not any(is_floating(x) and np.size(x) for x in inputs):
            left_out.append(f"sample {n} has no floating numbers")
            continue
        unfit = _unfit(subject if is_function else subject[0], inputs, options)
        if unfit:
            left_out.append(f"sample {n}: {unfit}")
            continue
        report = run(inputs, options, How(seed, Limits(), precision("check", dtype, device), device))
        report.sample = f" (sample {n}: {_described(inputs, options)})"
        reports.append(report)
        if progress:
            progress(n)
    if not reports:
        raise ValueError(f"check: no sample could be checked; {'; '.join(left_out[:2])}"
                         + (f"; and so on, {len(left_out)} samples" if len(left_out) > 2 else ""))
    report = merged(reports)
    report.left_out = left_out
    name = subject.__name__ if is_function else f"({_called(subject[0], 'forward')}, {_called(subject[1], 'backward')})"
    given = f", like={kind.name!r}" if kind else ", samples=..."
    report.repeat = f"minidl.check({name}{given}{_changed(dict(seed=seed, dtype=dtype, device=device))})"
    return finish(report, raise_error)


def check_function(function: Any, inputs: list, *, options: Mapping[str, Any] | None, names: list[str] | None, seed: int,
                   limits: Limits, dtype: Any, device: str, raise_error: bool) -> Report:
    """gradcheck of a Function class or instance: its forward and backward on raw arrays, with the kernels that serve them."""
    labels = names or input_names(function, len(inputs))
    pair = _pair_of(function, options or {})
    how = How(seed, limits, precision("gradcheck", dtype, device), device)
    report = _examined(pair, inputs, {}, labels, how, reference=None)
    changed = _changed(dict(seed=seed, dtype=dtype, device=device, eps=limits.eps, rtol=limits.rtol, atol=limits.atol))
    report.repeat = f"minidl.gradcheck({pair.name}, inputs{', options=...' if options else ''}{changed})"
    return finish(report, raise_error)


def finish(report: Report, raise_error: bool) -> Report:
    """The report; or, if the gradient is wrong and an error is wanted, the error that carries it."""
    if isinstance(report.exception, GradcheckError) and raise_error:  # it has measured nothing
        report.exception.report = report
        raise report.exception
    if not report.ok and raise_error:
        error = GradcheckError(report.text)
        error.report = report
        raise error from report.exception
    return report


def precision(who: str, dtype: Any, device: str) -> np.dtype:
    """The dtype in which backward is computed: float64 or float32."""
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = None
    if kind not in (np.dtype(np.float64), np.dtype(np.float32)):
        raise ValueError(f"{who}: dtype must be 'float64' or 'float32', got {dtype!r}")
    if device not in ("cpu", "cuda"):
        raise ValueError(f"{who}: device must be 'cpu' or 'cuda', got {device!r}")
    return kind


def check_limits(who: str, seed: Any, eps: Any, rtol: Any, atol: Any, max_elements: Any, projections: Any) -> Limits:
    """The options of a check, if they make sense."""
    eps, rtol, atol = (check_number(who, name, value) for name, value in (("eps", eps), ("rtol", rtol), ("atol", atol)))
    if eps <= 0 or rtol < 0 or atol < 0:
        raise ValueError(f"{who}: needs eps > 0 and rtol, atol >= 0, got eps={eps}, rtol={rtol}, atol={atol}")
    for name, value, least in (("seed", seed, 0), ("max_elements", max_elements, 0), ("projections", projections, 1)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"{who}: {name} must be an integer of at least {least}, got {value!r}")
    return Limits(eps, rtol, atol, int(max_elements), int(projections))


def find_operation(like: Any) -> type[Function]:
    """The class of an operation of minidl's, given the class, its function or its name."""
    if isinstance(like, type) and issubclass(like, Function):
        return like
    wanted = like if isinstance(like, str) else getattr(like, "__name__", "")
    for kind in OPS:
        if wanted.lower() in (kind.name, kind.__name__.lower()):
            return kind
    names = [kind.name for kind in OPS]
    near = difflib.get_close_matches(wanted.lower(), names, 3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
    raise ValueError(f"check: like={like!r:.60} is no operation of minidl's; {hint}")


# --- one pair, one point ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """A forward and its backward; `source`: where its lines stand, if that is not backward itself."""

    forward: Callable
    backward: Callable
    name: str
    is_function: bool = False
    source: Callable | None = None


@dataclass(frozen=True)
class How:
    """How a pair is checked: the seed, what may differ, and where and in which dtype backward runs."""

    seed: int
    limits: Limits
    dtype: np.dtype
    device: str


def _examined(pair: Pair, inputs: list, options: dict, labels: list[str], how: How, reference: Callable | None) -> Report:
    """One pair at one point."""
    subject = PairSubject(pair.forward, _tried(pair.backward), inputs, options, labels, pair.name, how.dtype, how.device,
                          pair.is_function)
    if not subject.values:
        raise ValueError(f"{pair.name}: there is nothing to check: no input is floating (integers are passed on as they are)")
    right = None if reference is None else lambda: reference(*subject.arguments(), **subject.copied_options())
    try:
        report = examined(Examiner(subject, how.seed, how.limits, right))
    except _BackwardError as failed:
        report = _of_exception(pair.name, how.seed, failed.error)
    for cause in report.diagnoses:
        if cause.input in subject.values:
            cause.line = gradient_line(pair.source or pair.backward, cause.input, list(subject.values), labels)
    return report


def examined(examiner: Examiner) -> Report:
    """The report; also where nothing could be measured: then not ok, and it says so."""
    try:
        return examiner.run()
    except GradcheckError as unmeasured:
        why = str(unmeasured).removeprefix(f"{examiner.subject.name}: ")
        return Report(examiner.subject.name, examiner.seed, ok=False, measured=False, exception=unmeasured,
                      diagnoses=[Cause("unknown", f"cannot be checked here: {why}")])


class _BackwardError(Exception):
    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def _tried(backward: Callable) -> Callable:
    """A backward whose exceptions are told from everybody else's."""
    @functools.wraps(backward)
    def tried(*arguments: Any, **options: Any) -> Any:
        try:
            return backward(*arguments, **options)
        except Exception as error:
            raise _BackwardError(error) from error

    return tried


ABOUT_SHAPES = ("shape", "broadcast", "dimension", "mismatch", "aligned", "axis", "axes", "out of bounds")


def _of_exception(name: str, seed: int, error: Exception) -> Report:
    """A backward that fails: about shapes, if NumPy says so."""
    text = f"{type(error).__name__}: {error}"
    shapes = isinstance(error, (ValueError, IndexError)) and any(word in str(error) for word in ABOUT_SHAPES)
    report = Report(name, seed, ok=False, exception=error)
    report.diagnoses.append(Cause("wrong-shape" if shapes else "unknown", f"backward failed with {text[:300]}{_where(error)}"))
    return report


def _where(error: Exception) -> str:
    """The last line of the student's own code on the way to the error."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if not _is_ours(code.co_filename) and not code.co_filename.startswith("<"):
            place = f" (line {trace.tb_lineno} of {code.co_filename.rsplit('/', 1)[-1]}, in {code.co_name})"
        trace = trace.tb_next
    return place


def _is_ours(filename: str) -> bool:
    """Whether a line is minidl's or another library's, and not the student's."""
    return filename.startswith(str(Path(__file__).parents[1])) or "site-packages" in filename


def _sequence(who: str, inputs: Any) -> list:
    if any(isinstance(x, Tensor) for x in (inputs if isinstance(inputs, (tuple, list)) else [inputs])):
        raise TypeError(f"{who}: the inputs are raw NumPy arrays, got a Tensor: pass x.data, or use minidl.gradcheck")
    if isinstance(inputs, np.ndarray) or not isinstance(inputs, (tuple, list)):
        raise TypeError(f"{who}: inputs must be a list or tuple with one entry for each input of forward, got "
                        f"{type(inputs).__name__}: write [x] for a single one")
    return list(inputs)


def _labels(who: str, names: Iterable[str] | None, forward: Callable, given: list) -> list[str]:
    if names is None:
        return input_names(forward, len(given))
    labels = list(names)
    if len(labels) != len(given) or len(set(labels)) < len(labels):
        raise ValueError(f"{who}: needs one name for each of the {len(given)} inputs, all different, got {labels}")
    return labels


DEFAULTS = dict(dtype="float64", device="cpu", max_elements=500, eps=1e-6, rtol=1e-5, atol=1e-7)


def _changed(options: Mapping[str, Any]) -> str:
    """The options that are not the usual ones, for the line that repeats a check; the seed always."""
    return "".join(f", {name}={value!r}" for name, value in options.items() if name not in DEFAULTS or value != DEFAULTS[name])


def _called(function: Callable, otherwise: str) -> str:
    name = getattr(function, "__name__", otherwise)
    return otherwise if name == "<lambda>" else name


def _name(forward: Callable) -> str:
    name = getattr(forward, "__name__", type(forward).__name__)
    return name.removesuffix("_forward") if name not in ("forward", "<lambda>") else "forward/backward"


# --- many samples ----------------------------------------------------------------------------------------------------


def _pair_runner(pair: Any, reference: Callable | None) -> Callable:
    forward, backward = pair

    def run(inputs: tuple, options: dict, how: How) -> Report:
        labels = input_names(forward, len(inputs))
        return _examined(Pair(forward, backward, _name(forward)), list(inputs), options, labels, how, reference)

    return run


def _function_runner(kind: type[Function], reference: Callable | None) -> Callable:
    def run(inputs: tuple, options: dict, how: How) -> Report:
        right = None if reference is None else lambda *arrays: reference(*arrays, **options)
        return _examined(_pair_of(kind, options), list(inputs), {}, input_names(kind, len(inputs)), how, right)

    return run


def _pair_of(function: Any, options: Mapping[str, Any]) -> Pair:
    """A Function class, or an instance, as a pair."""
    kind: Any = function if isinstance(function, type) else type(function)
    return Pair(*function_pair(function, options), kind.__name__, is_function=True, source=kind.backward)


def _unfit(subject: Any, inputs: tuple, options: Mapping[str, Any]) -> str:
    """Why a forward (or the __init__ of a class) cannot take the sample; empty if it can."""
    try:
        if isinstance(subject, type):
            inspect.signature(subject).bind(**options)
            inspect.signature(subject.forward).bind(None, *inputs)  # type: ignore[attr-defined]
        else:
            inspect.signature(subject).bind(*inputs, **options)
    except TypeError as error:
        where = "its __init__, where the options of a Function go" if isinstance(subject, type) else "forward"
        return f"with options {', '.join(options) or 'none'} and {len(inputs)} inputs it does not fit {where} ({error})"
    except ValueError:  # no signature to be had
        return ""
    return ""


def _described(inputs: Iterable[Any], options: Mapping[str, Any]) -> str:
    shapes = ", ".join(str(np.shape(x)) for x in inputs)
    return ", ".join([shapes, *(f"{k}={v!r}" for k, v in options.items())])[:70]
