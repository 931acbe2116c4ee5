"""Before a gradient is called wrong: is it the measurement that is?

A central difference is off by the function's bend over the step, by rounding over the step, and says nothing at a point
where slopes jump. So a disagreement is looked at with larger and smaller steps, with a complex step where the function
takes one, and beside the point. `settled` gives what the gradient should be, or None if the one that came may be right.
"""
import warnings
from dataclasses import dataclass

import numpy as np

from minidl.checking.point import Point
from minidl.checking.slopes import Expected, central

STEPS = (64.0, 8.0, 1.0, 1 / 8, 1 / 64, 1 / 512, 1 / 4096, 1 / 32768, 1 / 262144)
COMPLEX_STEP = 1e-30
NUDGES, NUDGE = 16, 1e-4  # so many points beside the point, so far away in parts of the largest element
JUMP = 0.02  # a smooth slope changes by less over a nudge, in parts of what it is made of


@dataclass(frozen=True)
class Question:
    """What a disagreement is about: dy . slope along a direction of one input, measured with step h, and what backward gave."""

    point: Point
    name: str
    direction: np.ndarray
    h: float
    dy: np.ndarray
    got: float
    expected: Expected
    rtol: float
    atol: float


def settled(q: Question, may_jump: bool = True) -> float | None:
    """What dy . slope is; None if what backward gave may be right.

    `may_jump`: also if the slope jumps about the point, and `got` is one of its values there.
    """
    if not np.isfinite(q.got):
        return q.expected.value
    with np.errstate(all="ignore"):
        value, doubt, jumps = _over_steps(q)
        if value is None or jumps:
            return None
        if q.expected.low != q.expected.high:
            return None if may_jump and _may_jump(q) else q.expected.value
        terms = q.expected.terms
        exact = complex_step(q.point, q.name, q.direction, q.dy, terms)
        if exact is not None and abs(exact - value) <= 3 * doubt + 1e-6 * terms + q.rtol * abs(value):
            value, doubt = exact, (q.rtol * abs(exact) + q.atol + 1e-12 * terms) / 3
        if abs(q.got - value) <= 3 * doubt:  # doubt: by how much the two steps that agree best differ
            return None
        return None if may_jump and _may_jump(q) else value


def _over_steps(q: Question) -> tuple[float | None, float, bool]:
    """(value, how far it may be off, whether it grows like a jump's): None for value if `got` fits at one of the steps."""
    line, base = q.point.line(q.name, q.direction), abs(q.got - q.expected.value)
    found = []
    for factor in STEPS:
        slope, rounding = central(line, factor * q.h)
        value, noise = float(q.dy @ slope), float(abs(q.dy) @ rounding)
        if not np.isfinite(value):
            continue
        found.append((value, noise))
        # it must fit by its value: noise as large as the disagreement would excuse anything
        if abs(q.got - value) <= q.rtol * abs(value) + q.atol + noise and noise < 0.3 * base:
            return None, 0.0, False
    if len(found) < 2:
        return q.expected.value, 0.0, False
    pairs = [(abs(a - b) + n, b) for (a, _), (b, n) in zip(found, found[1:])]
    doubt, value = min(pairs)
    growths = [b / a if a else 0.0 for (a, _), (b, _) in zip(found, found[1:])]
    jumps = sum(abs(g - 8) < 0.1 for g in growths) >= len(growths) - 1 and len(growths) > 2  # a jump over a step 1/8 as long
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


def _may_jump(q: Question) -> bool:
    """Whether the slope jumps about the point (at three equal elements, say), and `got` lies among its values beside it."""
    x, rng = q.point.values[q.name], np.random.default_rng(0)
    size = max(1.0, float(abs(x).max(initial=0.0)))
    seen = [q.expected.low, q.expected.high]
    for _ in range(NUDGES):
        beside = x + NUDGE * size * rng.uniform(-1, 1, x.shape)
        try:
            there = Point(q.point.subject, {**q.point.moved, q.name: beside})
        except Exception:
            continue
        with np.errstate(all="ignore"):
            value = float(q.dy @ central(there.line(q.name, q.direction), q.h)[0])
        if np.isfinite(value):
            seen.append(value)
    if max(seen) - min(seen) <= JUMP * max(q.expected.terms, abs(max(seen)), abs(min(seen))):
        return False
    slack = 1e-3 * (max(seen) - min(seen))
    return min(seen) - slack <= q.got <= max(seen) + slack
