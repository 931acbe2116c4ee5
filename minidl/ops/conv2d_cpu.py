"""Convolution on the CPU, fast: the same sums as in conv2d.py, cut into pieces that fit the cache and spread over threads.

The plain form copies every window of the whole batch into one huge matrix, and multiplies once. Here a piece is some images, or
some rows of one image, small enough that what is copied is still in the cache when BLAS reads it; threads take piece after
piece. Four ways to multiply a piece, chosen by `best_way`:

pointwise   a 1x1 kernel needs no windows: every image is a matrix already.
rows        stride 1: the window is unfolded along its width only, which copies KW times instead of KH * KW. One product with
            the weights of all KH kernel rows gives KH images; they are added, each shifted by a row.
windows     any stride: im2col of the piece.
winograd    3x3, stride 1, float32: fewer multiplications, see winograd.py.

The gradient of x is, at stride 1, again a convolution: of dy with the kernel turned by 180 degrees, so nothing is scattered.
The gradient of w multiplies dy by the same unfolded pieces, which are made again: keeping them would take KH * KW times x.
"""
from typing import NamedTuple

import numpy as np

from minidl.ops.windows import Pair, seen
from minidl.ops.winograd import transformed_kernel, winograd, winograd_dw
from minidl.threads import MOST, SMALL_PRODUCT, even, for_each, get_num_threads, scratch, shares

PIECE = 2**22
"""Numbers that a piece should need at most: 16 MiB of float32. Smaller pieces stay in the cache, but then Python is asked too
often: a call of NumPy should last 100 microseconds where threads share the interpreter, since handing it over costs some 20."""


FEW = 96
"""Fewer filters than this, and BLAS is faster with them on the right of the product that makes dw; turning that costs a
pass."""


LEAST_COLUMNS = 32
"""Columns that a product of some rows of an image should have."""


class Shape(NamedTuple):
    """The sizes of one convolution, of one group."""

    N: int
    C: int
    H: int
    W: int
    F: int
    KH: int
    KW: int
    OH: int
    OW: int
    stride: Pair
    padding: Pair


class Piece(NamedTuple):
    """Some images, and which rows of their output."""

    images: slice
    rows: slice


def best_way(s: Shape, dtype: np.dtype, method: str | None = None) -> str:
    """The table of choices, from measurements (docs/performance.md). method: "winograd" wherever it fits, "threads" nowhere."""
    if method == "winograd" and winograd_fits(s, dtype):
        return "winograd"
    if (s.KH, s.KW) == (1, 1) and s.stride == (1, 1) and s.padding == (0, 0):
        return "pointwise"
    if s.stride != (1, 1) or s.C < 8 or s.N * s.OH * s.OW <= 2048:  # few pixels: what the others do once per call is too much
        return "windows"
    if method is None and winograd_fits(s, dtype) and s.C * s.F >= 96 * 96 and min(s.C, s.F) >= 48:
        return "winograd"
    return "rows"


def winograd_fits(s: Shape, dtype: np.dtype) -> bool:
    """Whether Winograd's algorithm computes this convolution at all: in float64 gradient checks want every digit."""
    return (s.KH, s.KW) == (3, 3) and s.stride == (1, 1) and max(s.padding) <= 2 and dtype == np.float32


def convolve(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, y: np.ndarray, s: Shape, way: str) -> None:
    """Fills y (N, F, OH, OW) with the convolution of x by w, plus b."""
    if way == "winograd":
        winograd(x, transformed_kernel(w), b, y, s.padding)
        return
    multiply = multiply_rows if way == "rows" else multiply_windows
    matrix = row_matrix(w) if way == "rows" else w.reshape(s.F, -1)
    bias = None if b is None else b[:, None, None]

    def body(piece: Piece) -> None:
        multiply(x, matrix, bias, y, s, piece)

    for_each(body, pieces(s, way))


def pieces(s: Shape, way: str) -> list[Piece]:
    """The output in pieces: several small images, one image, or some rows of a large one; all threads get equally many."""
    per_row = s.OW * {"rows": s.C * s.KW + s.F * s.KH, "windows": s.C * s.KH * s.KW + s.F, "pointwise": s.C + s.F}[way]
    most = PIECE // (per_row * s.OH) if way != "pointwise" else -(-192 // (s.OH * s.OW))  # columns that keep BLAS busy
    if most > 0:
        return [Piece(images, slice(0, s.OH)) for images in even(s.N, most, get_num_threads())]
    return [Piece(slice(n, n + 1), rows) for n in range(s.N) for rows in even(s.OH, max(1, PIECE // per_row))]


# one piece

def fill(target: np.ndarray, source: np.ndarray, inner: tuple[slice, slice], pixels: tuple[slice, slice]) -> None:
    """target[..., inner] = source[..., pixels], and zeros around it."""
    rows, columns = inner
    height, width = target.shape[-2:]
    if rows.start:
        target[..., :rows.start, :] = 0
    if rows.stop < height:
        target[..., rows.stop:, :] = 0
    if columns.start:
        target[..., :columns.start] = 0
    if columns.stop < width:
        target[..., columns.stop:] = 0
    target[(..., *inner)] = source[(..., *pixels)]


def frame(x: np.ndarray, images: slice, rows: slice, columns: slice) -> tuple[int, ...]:
    """The shape that `framed` needs of its memory: (0,) where these rows and columns lie inside the images."""
    H, W = x.shape[2:]
    if rows.start >= 0 and rows.stop <= H and columns.start >= 0 and columns.stop <= W:
        return (0,)
    return x.shape[1], images.stop - images.start, rows.stop - rows.start, columns.stop - columns.start


def framed(x: np.ndarray, images: slice, rows: slice, columns: slice, memory: np.ndarray) -> np.ndarray:
    """(C, images, rows, columns) of x, with zeros where rows and columns lie outside. A view of x, or `memory`."""
    if memory.ndim == 1:
        return x[images, :, rows, columns].swapaxes(0, 1)
    H, W = x.shape[2:]
    inner_rows, pixel_rows = seen(H, rows.stop - rows.start, rows.start, 1)
    inner_columns, pixel_columns = seen(W, columns.stop - columns.start, columns.start, 1)
    fill(memory, x[images].swapaxes(0, 1), (inner_rows, inner_columns), (pixel_rows, pixel_columns))
    return memory


def windows_of(source: np.ndarray, kernel: Pair, stride: Pair, output: Pair) -> np.ndarray:
    """The windows of source (C, images, rows, columns), as a view (C, KH, KW, images, OH, OW): so one call copies them all."""
    c, n, h, w = source.strides
    return np.lib.stride_tricks.as_strided(source, (len(source), *kernel, source.shape[1], *output),
                                           (c, h, w, n, h * stride[0], w * stride[1]), writeable=False)


def window_frame(s: Shape, rows: slice) -> tuple[slice, slice]:
    """The rows and columns of the image that the windows of these rows of the output see, padding included."""
    top = rows.start * s.stride[0] - s.padding[0]
    return (slice(top, top + (rows.stop - rows.start - 1) * s.stride[0] + s.KH),
            slice(-s.padding[1], (s.OW - 1) * s.stride[1] + s.KW - s.padding[1]))


def rows_needed(s: Shape, rows: slice) -> slice:
    """The rows of the image that these rows of the output see, at stride 1."""
    first = min(s.H, max(0, rows.start - s.padding[0]))
    return slice(first, max(first, min(s.H, rows.stop + s.KH - 1 - s.padding[0])))  # none, where all is padding


def kernel_rows(s: Shape, rows: slice, needed: slice) -> list[tuple[int, slice, slice]]:
    """(kh, some of the output's `rows`, the `needed` rows of the image that meet kernel row kh there), the most rows first."""
    met = [(kh, *seen(needed.stop - needed.start, rows.stop - rows.start, rows.start + kh - s.padding[0] - needed.start, 1))
           for kh in range(s.KH)]
    return sorted(met, key=lambda part: part[1].start - part[1].stop)


def row_matrix(w: np.ndarray) -> np.ndarray:
    """w (F, C, KH, KW) -> (KH * F, C * KW)."""
    F, C, KH, KW = w.shape
    return np.ascontiguousarray(w.transpose(2, 0, 1, 3)).reshape(KH * F, C * KW)


def count(piece: Piece) -> int:
    """How many images."""
    return piece.images.stop - piece.images.start


def height(piece: Piece) -> int:
    """How many rows."""
    return piece.rows.stop - piece.rows.start


def columns_of(x: np.ndarray, s: Shape, piece: Piece) -> np.ndarray | None:
    """What a 1x1 kernel at stride 1 multiplies, (C, rows * W), where that lies in x as it is; else None."""
    if (s.KH, s.KW) != (1, 1) or s.padding != (0, 0) or s.stride != (1, 1) or count(piece) != 1:
        return None
    return x[piece.images.start, :, piece.rows].reshape(s.C, -1)


def window_columns(x: np.ndarray, s: Shape, piece: Piece, *shapes: tuple) -> list[np.ndarray]:
    """The windows of the piece as columns, (C * KH * KW, images * rows * OW), and scratch memory of these shapes."""
    cols = columns_of(x, s, piece)
    if cols is not None:
        return [cols, *scratch(x.dtype, *shapes)]
    rows, columns = window_frame(s, piece.rows)
    memory, unfolded, *others = scratch(x.dtype, frame(x, piece.images, rows, columns),
                                        (s.C, s.KH, s.KW, count(piece), height(piece), s.OW), *shapes)
    source = framed(x, piece.images, rows, columns, memory)
    np.copyto(unfolded, windows_of(source, (s.KH, s.KW), s.stride, (height(piece), s.OW)))
    return [unfolded.reshape(s.C * s.KH * s.KW, -1), *others]


def multiply_windows(x: np.ndarray, matrix: np.ndarray, bias: np.ndarray | None, y: np.ndarray, s: Shape,
                     piece: Piece) -> None:
    """Fills the piece's part of y (N, F, OH, OW); matrix (F, C * KH * KW), bias (F, 1, 1)."""
    part = y[piece.images, :, piece.rows].swapaxes(0, 1)  # (F, images, rows, OW)
    made = part if count(piece) == 1 else None
    cols, product = window_columns(x, s, piece, part.shape if made is None else (0,))
    made = product if made is None else made
    np.matmul(matrix, cols, out=made.reshape(s.F, -1))
    if bias is not None:
        np.add(made, bias[:, None], out=part)
    elif made is product:
        np.copyto(part, made)


def unfold_rows(x: np.ndarray, s: Shape, piece: Piece, needed: slice, cols: np.ndarray) -> None:
    """Fills cols (C, KW, images, bands, rows, OW): the needed rows of the images, moved by kw pixels for each kw."""
    bands, rows = cols.shape[3:5]
    source = x[piece.images, :, needed].reshape(count(piece), s.C, bands, rows, s.W).swapaxes(0, 1)
    for kw in range(s.KW):
        inner, pixels = seen(s.W, s.OW, kw - s.padding[1], 1)
        fill(cols[:, kw], source, (slice(0, rows), inner), (slice(0, rows), pixels))


def band(s: Shape, inside: int) -> int:
    """How many of the rows to multiply at once: all, or so few that BLAS takes the matrices as they lie."""
    per_row = s.KH * s.F * s.C * s.KW * s.OW
    fitting = [rows for rows in range(1, inside + 1)
               if inside % rows == 0 and rows * s.OW >= LEAST_COLUMNS and rows * per_row <= SMALL_PRODUCT]
    return fitting[-1] if fitting else inside


def multiply_rows(x: np.ndarray, matrix: np.ndarray, bias: np.ndarray | None, y: np.ndarray, s: Shape, piece: Piece) -> None:
    """Fills the piece's part of y (N, F, OH, OW); matrix (KH * F, C * KW), bias (F, 1, 1)."""
    needed = rows_needed(s, piece.rows)
    inside = needed.stop - needed.start
    rows = band(s, inside) if inside else 1
    bands, n = inside // rows, count(piece)
    cols, products = scratch(x.dtype, (n, bands, s.C, s.KW, rows, s.OW), (n, s.KH, s.F, inside, s.OW))
    unfold_rows(x, s, piece, needed, cols.transpose(2, 3, 0, 1, 4, 5))
    np.matmul(matrix, cols.reshape(n, bands, s.C * s.KW, rows * s.OW),
              out=products.reshape(n, s.KH * s.F, bands, rows * s.OW).swapaxes(1, 2))
    part = y[piece.images, :, piece.rows]
    (kh, outputs, pixels), *others = kernel_rows(s, piece.rows, needed)
    outside = 0 if bias is None else bias
    if outputs.start or outputs.stop < height(piece):
        part[:, :, :outputs.start] = outside
        part[:, :, outputs.stop:] = outside
    if others and bias is None and others[0][1] == outputs:  # the first two in one pass
        another, *others = others
        np.add(products[:, kh, :, pixels], products[:, another[0], :, another[2]], out=part[:, :, outputs])
    else:
        np.add(products[:, kh, :, pixels], outside, out=part[:, :, outputs])
    for kh, outputs, pixels in others:
        part[:, :, outputs] += products[:, kh, :, pixels]


# gradients

def gradient_of_x(dy: np.ndarray, w: np.ndarray, dx: np.ndarray, s: Shape, way: str) -> None:
    """Fills dx (N, C, H, W)."""
    padding = s.KH - 1 - s.padding[0], s.KW - 1 - s.padding[1]
    back = Shape(s.N, s.F, s.OH, s.OW, s.C, s.KH, s.KW, s.H, s.W, (1, 1), padding)
    if way == "winograd":
        winograd(dy, transformed_kernel(w, turned=True), None, dx, padding)
    elif way == "pointwise" or (way == "rows" and min(padding) >= 0):
        convolve(dy, w[:, :, ::-1, ::-1].swapaxes(0, 1), None, dx, back, way)
    else:
        scatter_windows(dy, w, dx, s)


def scatter_windows(dy: np.ndarray, w: np.ndarray, dx: np.ndarray, s: Shape) -> None:
    """dx by col2im: every window's gradient added to the pixels that it was taken from.

    Pixels of several images lie side by side, images last: rows of small maps alone would be too short for NumPy.
    """
    matrix = w.reshape(s.F, -1).T

    def body(images: list[Piece]) -> None:  # all pieces of the same images, which share pixels
        number, target = count(images[0]), dx[images[0].images].transpose(1, 2, 3, 0)  # (C, H, W, images)
        if number == 1:
            target[...] = 0
        for piece in images:
            shape = height(piece), s.OW, number
            dcols, together, pixels = scratch(dy.dtype, (s.C, s.KH, s.KW, *shape), (s.F, *shape),
                                              (0,) if number == 1 else target.shape)
            np.copyto(together, dy[piece.images, :, piece.rows].transpose(1, 2, 3, 0))
            np.matmul(matrix, together.reshape(s.F, -1), out=dcols.reshape(len(matrix), -1))
            if number == 1:
                add_windows(dcols, target, s, piece)
            else:  # several images are one piece
                pixels[...] = 0
                add_windows(dcols, pixels, s, piece)
                np.copyto(target, pixels)

    together: dict[int, list[Piece]] = {}
    for piece in pieces(s, "windows"):
        together.setdefault(piece.images.start, []).append(piece)
    for_each(body, list(together.values()))


def add_windows(windows: np.ndarray, pixels: np.ndarray, s: Shape, piece: Piece) -> None:
    """windows (C, KH, KW, rows, OW, images) of a piece, added to pixels (C, H, W, images)."""
    for kh in range(s.KH):
        outputs, rows = seen(s.H, height(piece), kh - s.padding[0] + piece.rows.start * s.stride[0], s.stride[0])
        for kw in range(s.KW):
            along, columns = seen(s.W, s.OW, kw - s.padding[1], s.stride[1])
            pixels[:, rows, columns] += windows[:, kh, kw, outputs, along]


def gradient_of_w(x: np.ndarray, dy: np.ndarray, s: Shape, way: str) -> np.ndarray:
    """dw (F, C, KH, KW). Every thread sums over its share of the pieces; these sums are added in order."""
    if way == "winograd":
        return winograd_dw(x, dy, s.padding)
    everything = pieces(s, way)
    parts = [everything[share] for share in shares(len(everything))]
    if way == "rows":
        add, sums = add_by_rows, np.zeros((len(parts), s.KH * s.F, s.C * s.KW), x.dtype)
        by_filter = sums.reshape(-1, s.KH, s.F, s.C, s.KW).transpose(0, 2, 3, 1, 4)
    else:
        few = s.F < FEW
        matrix = (s.C * s.KH * s.KW, s.F) if few else (s.F, s.C * s.KH * s.KW)
        add, sums = add_by_windows, np.zeros((len(parts), *matrix), x.dtype)
        by_filter = (sums.swapaxes(1, 2) if few else sums).reshape(-1, s.F, s.C, s.KH, s.KW)

    def body(k: int) -> None:
        for piece in parts[k]:
            add(x, dy, s, piece, sums[k])

    for_each(body, range(len(parts)))
    dw = np.zeros((s.F, s.C, s.KH, s.KW), x.dtype)

    def add_up(filters: slice) -> None:
        for part in by_filter:
            dw[filters] += part[filters]

    for_each(add_up, even(s.F, max(1, MOST // (s.C * s.KH * s.KW)), get_num_threads()))
    return dw


def add_by_windows(x: np.ndarray, dy: np.ndarray, s: Shape, piece: Piece, total: np.ndarray) -> None:
    """total (C * KH * KW, F), or (F, C * KH * KW), += what the piece adds to dw."""
    part, alone = dy[piece.images, :, piece.rows].swapaxes(0, 1), count(piece) == 1
    cols, together, product = window_columns(x, s, piece, (0,) if alone else part.shape, total.shape)
    if not alone:
        np.copyto(together, part)
    rows = (part if alone else together).reshape(s.F, -1)
    left, right = (cols, rows.T) if s.F < FEW else (rows, cols.T)
    np.matmul(left, right, out=product)
    total += product


def add_by_rows(x: np.ndarray, dy: np.ndarray, s: Shape, piece: Piece, total: np.ndarray) -> None:
    """total (KH * F, C * KW) += what the piece adds to dw: dy, moved by kh rows for each kh, times the rows of x."""
    needed = rows_needed(s, piece.rows)
    inside = needed.stop - needed.start
    cols, moved, product = scratch(x.dtype, (s.C, s.KW, count(piece), 1, inside, s.OW), (s.KH, s.F, count(piece), inside, s.OW),
                                   total.shape)
    unfold_rows(x, s, piece, needed, cols)
    part = dy[piece.images, :, piece.rows].swapaxes(0, 1)
    for kh, outputs, pixels in kernel_rows(s, piece.rows, needed):
        fill(moved[kh], part, (pixels, slice(0, s.OW)), (outputs, slice(0, s.OW)))
    np.matmul(moved.reshape(s.KH * s.F, -1), cols.reshape(s.C * s.KW, -1).T, out=product)
    total += product
