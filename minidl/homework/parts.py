"""What a homework's checks.py is written with: `part` names what is judged; `close` and `refuses` judge it; `in_case` and
`shown` say more of what was judged.

    @part("softmax", 2, "rows sum to one, also for large numbers")
    def _(hw, ref, rng):
        x = 1000 * rng.normal(size=(3, 5))
        close(hw.softmax(x).sum(axis=1), np.ones(3), f"softmax(x {x.shape}).sum(axis=1)")
"""
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

Body = Callable[[Any, Any, np.random.Generator], object]


@dataclass(frozen=True)
class Part:
    """One thing that is judged, all or nothing: part `number` of a task, from 1."""
    task: str
    number: int
    points: int
    title: str
    gpu: bool
    body: Body


_collected: list[Part] = []  # what the checks.py that is being loaded has named so far


def part(task: str, points: int, title: str, *, gpu: bool = False) -> Callable[[Body], Body]:
    """The function below it is a part of `task`: body(hw, ref, rng) raises, or the student has the points.

    `hw` is the student's file, with what belongs to earlier tasks taken from the reference; `ref` is the reference; `rng` is
    seeded by task and part. `gpu`: it runs only where a GPU works, and is reported as not run elsewhere.
    """
    if type(points) is not int or points < 1:
        raise ValueError(f"part({task!r}, ...): points must be an integer of at least 1, got {points!r}")

    def add(body: Body) -> Body:
        number = 1 + sum(other.task == task for other in _collected)
        _collected.append(Part(task, number, points, title, gpu, body))
        return body
    return add


def parts_named_by(load: Callable[[], ModuleType]) -> tuple[Part, ...]:
    """The parts that a checks.py names while `load` loads it."""
    _collected.clear()
    load()
    found = tuple(_collected)
    _collected.clear()
    return found


def close(got: Any, expected: Any, what: str, rtol: float = 1e-9, *, dtype: Any = None) -> None:
    """Raises AssertionError unless `got` has the shape, the kind (floats, integers, booleans) and the values of `expected`.

    `what` says what was called: it begins the message. Values may differ by `rtol` times the largest of |expected| (by `rtol`
    itself, where all are 0): small numbers that are the difference of large ones have no more digits. NaN and infinity must
    stand at the same places. Tensors, lists, tuples and numbers are compared as arrays. `dtype`: the one that `got` must have.
    """
    y, right = _array(got, what), _array(expected, "what is expected")
    if y.shape != right.shape:
        raise AssertionError(f"{what}: got shape {y.shape}, expected shape {right.shape}")
    if dtype is not None and y.dtype != np.dtype(dtype):
        raise AssertionError(f"{what}: got dtype {y.dtype}, expected {np.dtype(dtype)}")
    if _kind(y) != _kind(right):
        raise AssertionError(f"{what}: got {_kind(y)} (dtype {y.dtype}), expected {_kind(right)}")
    _same_values(y, right, what, rtol)


def _array(x: Any, what: str) -> np.ndarray:
    """A plain array of its own, whatever came: what a subclass would answer is nobody's business here."""
    if x is None:
        raise AssertionError(f"{what}: got None; is a `return` missing?")
    if hasattr(x, "requires_grad"):  # a Tensor
        x = x.numpy()
    try:
        y = np.array(x, subok=False)
    except ValueError:  # lists of different lengths
        y = np.array(None)
    if y.dtype.kind not in "fiubc":
        raise AssertionError(f"{what}: got {type(x).__name__} {shown(x)}, expected an array of numbers")
    return y


def _kind(x: np.ndarray) -> str:
    return {"f": "floats", "c": "complex numbers", "b": "booleans"}.get(x.dtype.kind, "integers")


def _same_values(y: np.ndarray, right: np.ndarray, what: str, rtol: float) -> None:
    if y.dtype.kind in "bui":
        wrong, gap = y != right, np.abs(y.astype(float) - right.astype(float))
    else:
        finite = np.abs(right[np.isfinite(right)])
        scale = float(finite.max(initial=0)) or 1.0
        with np.errstate(all="ignore"):
            gap = np.abs(y - right)
            wrong = ~(gap <= rtol * scale)
        wrong &= ~((y == right) | (np.isnan(y) & np.isnan(right)))  # infinity minus infinity is no number
        gap = np.where(np.isnan(gap), np.inf, gap)
    if not wrong.any():
        return
    worst = np.unravel_index(np.argmax(np.where(wrong, gap, -1)), y.shape)
    index = f", at [{', '.join(map(str, worst))}]" if worst else ""
    count = f"; {np.count_nonzero(wrong)} of {y.size} numbers differ, this one the most" if y.size > 1 else ""
    raise AssertionError(f"{what}{index}: got {_number(y[worst])}, expected {_number(right[worst])}{count}")


def _number(x: Any) -> str:
    return str(x) if isinstance(x, np.bool_) else f"{x:.10g}"


def leaves_alone(call: Callable[..., Any], what: str, **arrays: np.ndarray) -> Any:
    """Returns call(*arrays). Raises AssertionError if it wrote into one of them; `what` says what was called."""
    before = {name: a.copy() for name, a in arrays.items()}
    result = call(*arrays.values())
    for name, a in arrays.items():
        if not np.array_equal(a, before[name]):
            raise AssertionError(f"{what} wrote into {name}, which others may still need: work on a copy")
    return result


def both(result: Any, names: str, what: str) -> tuple:
    """`result` as a tuple of as many values as there are `names` ("y, cache"). Raises AssertionError if it is none."""
    if not isinstance(result, (tuple, list)) or len(result) != len(names.split(", ")):
        raise AssertionError(f"{what}: must return ({names}), got {type(result).__name__}"
                             + (f" of {len(result)}" if isinstance(result, (tuple, list)) else ""))
    return tuple(result)


def refuses(call: Callable[[], object], words: str | Sequence[str], what: str,
            error: type[Exception] | tuple[type[Exception], ...] = ValueError) -> None:
    """Raises AssertionError unless `call()` raises `error` with all of `words` in its message (capitals do not matter).

    `what` says what is called: `refuses(lambda: hw.conv_forward(x, w, b), "channels", f"conv_forward(x {x.shape}, ...)")`.
    """
    expected = " or ".join(kind.__name__ for kind in (error if isinstance(error, tuple) else (error,)))
    needed = [words] if isinstance(words, str) else list(words)
    try:
        result = call()
    except NotImplementedError:
        raise
    except error as raised:
        missing = [word for word in needed if word.lower() not in str(raised).lower()]
        if missing:
            raise AssertionError(f"{what}: raised {type(raised).__name__} as it must, but its message, {str(raised)!r}, does "
                                 f"not say {' and '.join(map(repr, missing))}") from None
        return
    except Exception as raised:
        raise AssertionError(f"{what}: raised {type(raised).__name__} ({raised}), expected {expected}") from None
    raise AssertionError(f"{what}: must be refused with {expected}, but returned {shown(result)}")


@contextmanager
def in_case(what: str) -> Iterator[None]:
    """Around a check that does not know which case it is: `what` begins its message. The doctor's report stays with it."""
    try:
        yield
    except AssertionError as error:
        report = getattr(error, "report", None)
        if report is not None:
            report.name = f"{what}: {report.name}"
        error.args = (f"{what}: {error}",)
        raise


def shown(x: object, most: int = 80) -> str:
    """x on one line, in at most so many letters, as Python's own numbers are shown: 2.79, not np.float64(2.79)."""
    try:
        with np.printoptions(legacy="1.25"):
            text = " ".join(repr(x).split())
    except Exception:  # a student's own __repr__
        text = f"a {type(x).__name__}"
    return text if len(text) <= most else text[:most - 3] + "..."
