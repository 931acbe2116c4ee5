"""Pooling on the CPU, fast: a few passes per place of the window instead of one window after the other.

The pixels that stand at place (kh, kw) of their windows, x[kh::SH, kw::SW], are gathered once into planes, one for each
remainder of (row, column) by the stride. In its plane a place is a mere shift: plane[kh % SH, kw % SW], kh // SH rows and kw //
SW columns further, and since a row follows the other in memory, both are one shift of a long vector. Windows that a shift over
the end of a row makes up are left out at the end. So

    y = the largest of KH * KW shifted vectors; its place is the last one that was larger than all before it
    dx: to each place, shifted back, dy where this was the place

and every call of NumPy runs over a long contiguous vector. Threads share images and channels.
"""
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from minidl.ops.windows import Pair, seen
from minidl.threads import even, for_each, get_num_threads, scratch, split


class Grid(NamedTuple):
    """The sizes of a pooling. height, width: of a plane, which has a place for every window and for the largest shift."""

    size: Pair
    output: Pair
    kernel: Pair
    stride: Pair
    padding: Pair

    @property
    def planes(self) -> Pair:
        """How many planes: one for each remainder that a place of the window has."""
        return min(self.kernel[0], self.stride[0]), min(self.kernel[1], self.stride[1])

    @property
    def plane(self) -> Pair:
        """Rows and columns of a plane."""
        (KH, KW), (SH, SW) = self.kernel, self.stride
        return self.output[0] + (KH - 1) // SH, self.output[1] + (KW - 1) // SW

    @property
    def last_shift(self) -> int:
        """The shift of the window's last place."""
        return (self.kernel[0] - 1) // self.stride[0] * self.plane[1] + (self.kernel[1] - 1) // self.stride[1]

    @property
    def leaves_gaps(self) -> bool:
        """Whether some pixels may be in no window."""
        return any(k < s or (o - 1) * s + k - p < n
                   for k, s, o, p, n in zip(self.kernel, self.stride, self.output, self.padding, self.size))

    def shifts(self) -> Iterator[tuple[int, int, int]]:
        """(row and column of its plane, shift) of each place of the window, row by row."""
        for kh in range(self.kernel[0]):
            for kw in range(self.kernel[1]):
                yield (kh % self.stride[0], kw % self.stride[1],
                       kh // self.stride[0] * self.plane[1] + kw // self.stride[1])

    def pixels(self) -> Iterator[tuple[int, int, tuple, tuple]]:
        """(row and column of the plane, where in the plane, the pixels that belong there) for each plane."""
        for i in range(self.planes[0]):
            inner_rows, rows = seen(self.size[0], self.plane[0], i - self.padding[0], self.stride[0])
            for j in range(self.planes[1]):
                inner_columns, columns = seen(self.size[1], self.plane[1], j - self.padding[1], self.stride[1])
                yield i, j, (..., inner_rows, inner_columns), (..., rows, columns)

    def into_planes(self, x: np.ndarray, planes: np.ndarray, fill: float) -> None:
        """planes (rows, columns, vector and some more) from a part of the images, (..., H, W); `fill` is around the images."""
        planes[...] = fill
        for i, j, inside, pixels in self.pixels():
            self.image(planes[i, j], x)[inside] = x[pixels]

    def image(self, vector: np.ndarray, like: np.ndarray) -> np.ndarray:
        """A vector as images (..., height, width), as many as `like` has."""
        return vector[:math.prod(like.shape[:-2]) * self.plane[0] * self.plane[1]].reshape(*like.shape[:-2], *self.plane)


BLOCK = 2**21
"""Numbers of a plane that are pooled at once. Smaller blocks would stay in the cache, but make calls so short that threads wait
for the interpreter more than they work."""


def blocks(number: int, grid: Grid) -> list[slice]:
    """So many maps (one channel of one image each) in blocks."""
    return even(number, max(1, BLOCK // (grid.plane[0] * grid.plane[1] or 1)), get_num_threads())


def maps(x: np.ndarray) -> np.ndarray:
    """x (N, C, H, W) as (N * C, H, W); a copy only where its memory is out of order."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def places_for(shape: tuple[int, ...], kernel: Pair) -> np.ndarray:
    """Memory for the number of a place in each window; the dtype's largest number is nobody's."""
    return np.empty(shape, np.min_scalar_type(math.prod(kernel)))


def max_pool(x: np.ndarray, y: np.ndarray, places: np.ndarray | None, kernel: Pair, stride: Pair, padding: Pair) -> None:
    """Fills y (maps, OH, OW) with the largest of every window of x (maps, H, W).

    places (maps, OH, OW), if given: the number of the first place in its window that has it. NaN stands nowhere.
    """
    OH, OW = y.shape[1:]
    grid = Grid(x.shape[1:], (OH, OW), kernel, stride, padding)

    def body(some: slice) -> None:
        length = (some.stop - some.start) * grid.plane[0] * grid.plane[1]
        planes, largest = scratch(x.dtype, (*grid.planes, length + grid.last_shift), (length,))
        grid.into_planes(x[some], planes, -np.inf)
        largest[...] = planes[0, 0, :length]
        if places is not None:
            met, = scratch(bool, (length,), purpose="met")
            place, here = scratch(places.dtype, (length,), (length,), purpose="places")
            place[...] = 0
        for k, (i, j, shift) in list(enumerate(grid.shifts()))[1:]:
            pixels = planes[i, j, shift:shift + length]
            if places is not None:
                np.greater(pixels, largest, out=met)
                np.multiply(met.view(np.uint8), place.dtype.type(k), out=here)  # k where it is larger than all before, else 0
                np.maximum(place, here, out=place)
            np.maximum(largest, pixels, out=largest)
        y[some] = grid.image(largest, x[some])[:, :OH, :OW]
        if places is not None:
            places[some] = grid.image(place, x[some])[:, :OH, :OW]
            np.putmask(places[some], np.isnan(y[some]), np.iinfo(places.dtype).max)

    for_each(body, blocks(len(x), grid))


def max_pool_gradient(places: np.ndarray, dy: np.ndarray, dx: np.ndarray, kernel: Pair, stride: Pair, padding: Pair) -> None:
    """Fills dx (maps, H, W): each dy (maps, OH, OW) goes to its place."""
    OH, OW = dy.shape[1:]
    grid = Grid(dx.shape[1:], (OH, OW), kernel, stride, padding)

    def body(some: slice) -> None:
        target = dx[some]
        length = len(target) * grid.plane[0] * grid.plane[1]
        dplanes, gradient, share = scratch(dx.dtype, (*grid.planes, length + grid.last_shift), (length,), (length,))
        met, = scratch(bool, (length,), purpose="met")
        place, = scratch(places.dtype, (length,), purpose="places")
        place[...], gradient[...], dplanes[...] = np.iinfo(places.dtype).max, 0, 0  # no place, where there is no window
        grid.image(place, target)[:, :OH, :OW] = places[some]
        grid.image(gradient, target)[:, :OH, :OW] = dy[some]
        for k, (i, j, shift) in enumerate(grid.shifts()):
            np.equal(place, place.dtype.type(k), out=met)
            np.multiply(gradient, met, out=share)
            dplanes[i, j, shift:shift + length] += share
        if grid.leaves_gaps:
            target[...] = 0
        for i, j, inside, pixels in grid.pixels():
            target[pixels] = grid.image(dplanes[i, j], target)[inside]

    for_each(body, blocks(len(dx), grid))


def window_places(size: Pair, output: Pair, kernel: Pair, stride: Pair, padding: Pair) -> Iterator[tuple[tuple, tuple]]:
    """For each place of the window, row by row: (windows that have a pixel there, these pixels), as indices of (rows,
    columns)."""
    for kh in range(kernel[0]):
        rows, pixel_rows = seen(size[0], output[0], kh - padding[0], stride[0])
        for kw in range(kernel[1]):
            columns, pixel_columns = seen(size[1], output[1], kw - padding[1], stride[1])
            yield (..., rows, columns), (..., pixel_rows, pixel_columns)


def sum_pool(x: np.ndarray, y: np.ndarray, kernel: Pair, stride: Pair, padding: Pair, divisor: np.ndarray) -> None:
    """Fills y (N, C, OH, OW) with the sum of every window of x (N, C, H, W), divided by `divisor` (OH, OW)."""
    whole = tuple(window_places(x.shape[2:], y.shape[2:], kernel, stride, padding))

    def body(index: tuple) -> None:
        y[index] = 0
        for windows, pixels in whole:
            y[index][windows] += x[index][pixels]
        y[index] /= divisor

    for_each(body, split(x.shape))


def sum_pool_gradient(dy: np.ndarray, dx: np.ndarray, kernel: Pair, stride: Pair, padding: Pair, divisor: np.ndarray) -> None:
    """Fills dx (N, C, H, W): each dy, divided, goes to all places of its window."""
    whole = tuple(window_places(dx.shape[2:], dy.shape[2:], kernel, stride, padding))

    def body(index: tuple) -> None:
        share = dy[index] / divisor
        dx[index] = 0
        for windows, pixels in whole:
            dx[index][pixels] += share[windows]

    for_each(body, split(dx.shape))
