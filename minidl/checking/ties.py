"""Equal maxima: one may get all of dy, or all may share it; dy to each of them, or to none, is wrong.

At a tie every element lies on a kink, and any gradient between the slopes of both sides would pass. But if all elements
of one output's kink that are equal move together, max moves smoothly: their gradients must add up to that slope. Other
kinks that happen to lie at equal values (relu of one and min(., 0) of another, at 0) need not: there the slope of that move is
another one beside the point, where nothing is tied, and whatever lies between those slopes is right.
"""
from dataclasses import dataclass
from itertools import product

import numpy as np

from minidl.checking.point import Point
from minidl.checking.slopes import measure, step_of

MOST_OUTPUTS = 32
BESIDE = 1e-4  # how far the elements are parted, in parts of their size
SAME = 1e-5  # sums that are alike, in parts of the largest share


@dataclass
class Tie:
    """One output, the equal elements that it is made of, their gradients for dy = 1 there, and what these must add up to."""

    output: tuple[int, ...]
    elements: list[tuple[str, int]]
    got: list[float]
    total: float


def wrong_ties(point: Point, eps: float) -> list[Tie]:
    """The ties at which the gradients add up to what they must not."""
    found = []
    for o, elements in list(_tied(point).items())[:MOST_OUTPUTS]:
        for group in _equal(point, elements):
            tie = _wrong(point, o, group, eps)
            if tie is not None:
                found.append(tie)
    return found


def _tied(point: Point) -> dict[int, list[tuple[str, int]]]:
    """For each output with kinks: the elements along which it has one."""
    tied: dict[int, list[tuple[str, int]]] = {}
    for name, slopes in point.measured.items():
        for i, slope in slopes.items():
            for o in np.flatnonzero(slope.kinked) if slope.kinked is not None else ():
                tied.setdefault(int(o), []).append((name, i))
    return {o: elements for o, elements in tied.items() if len(elements) > 1}


def _equal(point: Point, elements: list[tuple[str, int]]) -> list[list[tuple[str, int]]]:
    """The elements by their values, where there are several of one value."""
    groups: dict[float, list[tuple[str, int]]] = {}
    for name, i in elements:
        groups.setdefault(float(point.values[name].reshape(-1)[i]), []).append((name, i))
    return [group for group in groups.values() if len(group) > 1]


def _wrong(point: Point, o: int, group: list[tuple[str, int]], eps: float) -> Tie | None:
    value = float(point.values[group[0][0]].reshape(-1)[group[0][1]])
    h = step_of(value, eps)

    def output(t: float) -> np.ndarray:
        return point.outputs(_moved(point, group, [t] * len(group)))[o : o + 1]

    slope = measure(output, h)
    if slope.kinked is not None or not np.isfinite(slope.value).all():
        return None
    one = np.zeros(point.y.size)
    one[o] = 1.0
    got, total = _shares(point, group, one), float(slope.value[0])
    tolerance = SAME * max(1.0, abs(total), *map(abs, got)) + float(slope.rounding[0])
    if abs(sum(got) - total) <= tolerance:
        return None
    beside = [_slope_beside(point, o, group, [max(1.0, abs(value)) * m for m in move], h) for move in _moves(len(group))]
    if min(beside) - tolerance <= sum(got) <= max(beside) + tolerance:
        return None
    index = tuple(int(j) for j in np.unravel_index(o, point.y_shape)) if point.y_shape else ()
    return Tie(index, group, got, total)


def _moves(count: int) -> list[list[float]]:
    """Steps that part the elements: every pattern of up and down, or sixteen of many; no two elements by the same step."""
    rng = np.random.default_rng(0)
    every = product((-1.0, 1.0), repeat=count) if count <= 4 else (rng.choice([-1.0, 1.0], count) for _ in range(16))
    signs = [tuple(pattern) for pattern in every]
    return [[BESIDE * sign * rng.uniform(0.5, 1.0) for sign in pattern] for pattern in signs]


def _moved(point: Point, group: list[tuple[str, int]], steps: list[float]) -> dict[str, np.ndarray]:
    moved = {name: point.values[name].copy() for name, _ in group}
    for (name, i), step in zip(group, steps):
        moved[name].reshape(-1)[i] += step
    return moved


def _slope_beside(point: Point, o: int, group: list[tuple[str, int]], move: list[float], h: float) -> float:
    """How output o moves with all of the group, from where each of them has been moved a little."""
    up, down = (point.outputs(_moved(point, group, [m + t for m in move]))[o] for t in (h, -h))
    return float((up - down) / (2 * h))


def _shares(point: Point, group: list[tuple[str, int]], one: np.ndarray) -> list[float]:
    gradients = point.gradients(one)
    return [0.0 if gradients[name] is None else float(np.asarray(gradients[name]).reshape(-1)[i]) for name, i in group]
