"""Why a gradient has the wrong shape: what must be summed, transposed or cut off to make it right."""
from collections.abc import Iterator
from itertools import combinations, permutations, product

import numpy as np

from minidl.checking.evidence import Evidence
from minidl.checking.report import Cause


def explain_shape(e: Evidence, got: list[np.ndarray]) -> Cause:
    """The cause for gradients `got`, one for each cotangent, that do not have the shape of the input."""
    shape, x = got[0].shape, e.x.shape
    says = f"d{e.name} has shape {shape}, but {e.name} has {x}"
    for cause in _explanations(e, [np.asarray(g, np.float64) for g in got], says):
        cause.input = e.name
        return cause
    return Cause("wrong-shape", says, input=e.name)


def _explanations(e: Evidence, got: list[np.ndarray], says: str) -> Iterator[Cause]:
    """What fits, most specific first."""
    g = np.stack(got)
    if e.complete:
        expected = e.expected.reshape(2, *e.x.shape)
        axes = next(_sums(e, g, expected), None)
        if axes is not None:
            yield Cause("broadcast-not-summed", f"{says}; summed over axes {axes} it is right")
        if g.size == expected.size and _alike(e, g.reshape(2, -1), expected.reshape(2, -1)):
            yield Cause("wrong-shape", f"{says}; the numbers are right: reshape, or keepdims=True")
        wide = _broadcast(g, expected.shape)
        if wide is not None and _alike(e, wide.reshape(2, -1), expected.reshape(2, -1)):
            yield Cause("wrong-shape", f"{says}; broadcast to that, as by np.broadcast_to, it is right")
        order = _order(e, g, expected)
        if order is not None:
            yield Cause("transposed", f"{says}; transposed by {order} it is right")
        cut = _window(e, g, expected)
        if cut is not None:
            yield Cause("border", f"{says}; {cut}")
        for other in e.values:
            if other != e.name and e.values[other].shape == g.shape[1:]:
                theirs = e.cotangents @ e.slopes_of(other).T
                if _alike(e, g.reshape(2, -1), theirs):
                    yield Cause("wrong-shape", f"{says}; it is the gradient of {other}: are they in the order of the inputs?")
    if _is_broadcast(e, g.shape[1:]):
        yield Cause("broadcast-not-summed", f"{says}, which forward broadcast: d{e.name} was not summed over the axes along "
                    f"which {e.name} was used")


def _alike(e: Evidence, a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool(e.alike(a, b).all())


def _sums(e: Evidence, g: np.ndarray, expected: np.ndarray) -> Iterator[tuple[int, ...]]:
    """Sets of axes of the gradient whose sums give the right one."""
    for n in range(1, g.ndim):
        for axes in combinations(range(1, g.ndim), n):
            total = g.sum(axis=axes)
            smaller = g.size > total.size == expected.size
            if smaller and _alike(e, total.reshape(2, -1), expected.reshape(2, -1)):
                yield tuple(a - 1 for a in axes)


def _order(e: Evidence, g: np.ndarray, expected: np.ndarray) -> tuple[int, ...] | None:
    if g.ndim != expected.ndim or g.size != expected.size:
        return None
    for order in permutations(range(g.ndim - 1)):
        if _alike(e, g.transpose(0, *(1 + i for i in order)), expected):
            return order
    return None


def _window(e: Evidence, g: np.ndarray, expected: np.ndarray) -> str | None:
    """Where the two overlap in space: padding that is still there, a remainder that is missing, or both."""
    if g.ndim != expected.ndim:
        return None
    spatial = range({2: 1, 3: 1, 4: 2}.get(g.ndim, 3), g.ndim)  # axis 0 counts the two cotangents
    if any(g.shape[a] != expected.shape[a] for a in range(g.ndim) if a not in spatial):
        return None
    if np.array_equal(g.reshape(2, -1), e.cotangents) and (len(e.values) > 1 or g.size < expected.size):
        return None  # dout itself, which was to be taken apart or put into zeros
    for offset in product(*(range(abs(a - b) + 1) for a, b in zip(g.shape, expected.shape))):
        sizes = [min(a, b) for a, b in zip(g.shape, expected.shape)]
        mine = tuple(slice(o, o + n) if a > b else slice(0, n) for o, n, a, b in zip(offset, sizes, g.shape, expected.shape))
        theirs = tuple(slice(o, o + n) if a < b else slice(0, n) for o, n, a, b in zip(offset, sizes, g.shape, expected.shape))
        if g[mine].size >= 4 and _alike(e, g[mine], expected[theirs]):
            if all(a >= b for a, b in zip(g.shape, expected.shape)):
                return f"cut to its own shape from {tuple(offset[1:])} on it is right: the padding is still there"
            if all(a <= b for a, b in zip(g.shape, expected.shape)):
                return f"it is right, but begins at {tuple(offset[1:])} and ends too early: what is not covered has gradient 0"
            return "where the two overlap it is right: padding is cut off along the wrong axis"
    return None


def _broadcast(g: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    try:
        return np.broadcast_to(g, shape)
    except ValueError:
        return None


def _is_broadcast(e: Evidence, shape: tuple[int, ...]) -> bool:
    """Whether the input is smaller than the output by broadcasting, and the gradient has kept (some of) the output's axes."""
    y = e.y_shape
    try:
        if np.broadcast_shapes(e.x.shape, y) != y or e.x.shape == y:
            return False
        return np.broadcast_shapes(e.x.shape, shape) == shape and shape != e.x.shape
    except ValueError:
        return False
