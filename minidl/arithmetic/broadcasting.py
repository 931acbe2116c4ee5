"""Broadcasting and its gradient, and the plain loop that defines an elementwise operation."""
from collections.abc import Callable

import numpy as np

from minidl.backend import Array


def broadcast_shape(name: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The common shape of `shapes` under NumPy's rule. ValueError where there is none."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(
            f"{name}: shapes {' and '.join(map(str, shapes))} do not broadcast; aligned from the right, "
            "two sizes must be equal or one of them 1: insert axes with x.reshape(...)"
        ) from None


def sum_to(dy: Array, shape: tuple[int, ...]) -> Array:
    """The gradient of broadcasting `shape` up to `dy.shape`: the sum of `dy` over every axis that was repeated."""
    if dy.shape == shape:
        return dy
    dy = dy.sum(axis=tuple(range(dy.ndim - len(shape))))  # axes that broadcasting put in front
    repeated = tuple(axis for axis, size in enumerate(shape) if size == 1 and dy.shape[axis] != 1)
    return dy.sum(axis=repeated, keepdims=True)


def over_elements(f: Callable, *arrays: np.ndarray) -> np.ndarray:
    """y[i] = f(a[i], b[i], ...) for every index i of the broadcast arrays: a plain loop."""
    broadcast = np.broadcast_arrays(*arrays)
    y = np.zeros(broadcast[0].shape)
    for i in np.ndindex(y.shape):
        y[i] = f(*(float(a[i]) for a in broadcast))
    return y


def positive_axes(name: str, axis: int | tuple[int, ...] | None, ndim: int) -> tuple[int, ...]:
    """`axis` (None for all, negative from the end) as a sorted tuple. Errors name the axis that does not exist."""
    axes = tuple(range(ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    for a in axes:
        if isinstance(a, bool) or not isinstance(a, (int, np.integer)):
            raise TypeError(f"{name}: axis must be an integer, a tuple of integers or None, got {axis!r}")
        if not -ndim <= a < ndim:
            raise ValueError(f"{name}: axis {a} does not exist in an array of {ndim} axes (0 to {ndim - 1})")
    axes = tuple(sorted(int(a) % ndim for a in axes))
    if len(set(axes)) < len(axes):
        raise ValueError(f"{name}: axis {axis} names the same axis twice")
    return axes
