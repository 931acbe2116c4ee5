"""Before a gradient is called wrong: is it the measurement that is?

A central difference is off by the function's bend over the step, by rounding over the step, and says nothing at a point
where slopes jump. So a disagreement is looked at with larger and smaller steps, with a complex step where the function
takes one, and beside the point. `settled` gives what the gradient should be, or None if the one that came may be right.
"""
import warnings

import numpy as np

from minidl.checking.point import Point
from minidl.checking.slopes import Expected, central

STEPS = (64.0, 8.0, 1.0, 1 / 8, 1 / 64, 1 / 512, 1 / 4096, 1 / 32768, 1 / 262144)
COMPLEX_STEP = 1e-30
NUDGES, NUDGE = 16, 1e-4
JUMP = 0.02


def settled(point: Point, name: str, direction: np.ndarray, h: float, got: float, expected: Expected, dy: np.ndarray,
            rtol: float, atol: float, may_jump: bool = True) -> float | None:
    """The best value for dy . slope along `direction`; None if `got` may be right.

    `may_jump`: also if the slope jumps about the point, and `got` is one of its values there.
    """
    if not np.isfinite(got):
        return expected.value
    with np.errstate(all="ignore"):
        value, doubt, jumps = _over_steps(point, name, direction, h, got, expected, dy, rtol, atol)
        if value is None or jumps:
            return None
        if expected.low != expected.high:
            return None if may_jump and _may_jump(point, name, direction, h, got, dy, expected) else expected.value
        exact = complex_step(point, name, direction, dy, expected.terms)
        if exact is not None and abs(exact - value) <= 3 * doubt + 1e-6 * expected.terms + rtol * abs(value):
            value, doubt = exact, (rtol * abs(exact) + atol + 1e-12 * expected.terms) / 3
        if abs(got - value) <= 3 * doubt:
            return None
        return None if may_jump and _may_jump(point, name, direction, h, got, dy, expected) else value


def _over_steps(point: Point, name: str, direction: np.ndarray, h: float, got: float, expected: Expected, dy: np.ndarray,
                rtol: float, atol: float) -> tuple[float | None, float, bool]:
    """(value, how far it may be off, whether it grows like a jump's): None for value if `got` fits at one of the steps."""
    line, base = point.line(name, direction), abs(got - expected.value)
    found = []
    for factor in STEPS:
        slope, rounding = central(line, factor * h)
        value, noise = float(dy @ slope), float(abs(dy) @ rounding)
        if not np.isfinite(value):
            continue
        found.append((value, noise))
        if abs(got - value) <= rtol * abs(value) + atol + noise and noise < 0.3 * base:
            return None, 0.0, False
    if len(found) < 2:
        return expected.value, 0.0, False
    pairs = [(abs(a - b) + n, b) for (a, _), (b, n) in zip(found, found[1:])]
    doubt, value = min(pairs)
    growths = [b / a if a else 0.0 for (a, _), (b, _) in zip(found, found[1:])]
    jumps = sum(abs(g - 8) < 0.1 for g in growths) >= len(growths) - 1 and len(growths) > 2
    return value, doubt, jumps


def complex_step(point: Point, name: str, direction: np.ndarray, dy: np.ndarray, terms: float) -> float | None:
    """The imaginary part of dy . f(x + i h e) / h: a slope without cancellation. None where f takes no complex numbers."""
    if not point.subject.takes_complex():
        return None
    x = point.values[name]
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("error")
            y = point.outputs({name: x + 1j * COMPLEX_STEP * direction.reshape(x.shape)})
    except Exception:
        return None
    if y.dtype.kind != "c" or not np.isfinite(y).all():
        return None
    exact = float(dy @ (y.imag / COMPLEX_STEP))
    return exact if exact or not terms else None  # 0: the imaginary part was dropped on the way


def _may_jump(point: Point, name: str, direction: np.ndarray, h: float, got: float, dy: np.ndarray, expected: Expected) -> bool:
    """Whether the slope jumps about the point (at three equal elements, say), and `got` lies among its values beside it."""
    x, rng = point.values[name], np.random.default_rng(0)
    size = max(1.0, float(abs(x).max(initial=0.0)))
    seen = [expected.low, expected.high]
    for _ in range(NUDGES):
        beside = x + NUDGE * size * rng.uniform(-1, 1, x.shape)
        try:
            there = Point(point.subject, {**point.moved, name: beside})
        except Exception:
            continue
        with np.errstate(all="ignore"):
            value = float(dy @ central(there.line(name, direction), h)[0])
        if np.isfinite(value):
            seen.append(value)
    if max(seen) - min(seen) <= JUMP * max(expected.terms, abs(max(seen)), abs(min(seen))):
        return False
    slack = 1e-3 * (max(seen) - min(seen))
    return min(seen) - slack <= got <= max(seen) + slack
