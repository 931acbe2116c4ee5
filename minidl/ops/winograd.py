"""Winograd's convolution for 3x3 kernels at stride 1: 36 multiplications where the definition takes 144.

The output is cut into tiles of 4x4; each sees 6x6 pixels d of every channel. With g the 3x3 kernel (Lavin and Gray 2016,
section 4.3),

    U = G g G^T   (6x6)        V = B^T d B   (6x6)        M = sum over channels of U * V, element by element
    tile of y = A^T M A  (4x4)

In one dimension F(4, 3) is multiplication of polynomials: evaluate both at six points (0, 1, -1, 2, -2, infinity), multiply
there, interpolate. G, B^T and A^T are the evaluations and the interpolation. The trick here is to let BLAS do all of it: a tile
as a column of 36 numbers is transformed by the Kronecker product of B^T with itself, so

    V = (B^T x B^T) tiles        36x36 times 36x(channels * tiles)
    M[p] = U[p] V[p]             for each of the 36 places p: FxC times C x tiles
    y = (A^T x A^T) M            16x36 times 36x(filters * tiles)

Tiles are gathered, transformed and scattered a few channels at a time, so that the copies stay in the cache; the products take
as many tiles as MOST allows. Multiplying by 4 and 5 and taking differences costs digits: errors are some 1e-5 of the largest
output, in float32, against 4e-7 for the definition; and one infinity makes NaNs of its whole tiles. dw is the adjoint:
dM = (A x A) dy, dU[p] = dM[p] V[p]^T, dw = G^T dU G.
"""
from typing import NamedTuple

import numpy as np

from minidl.ops.windows import Pair
from minidl.threads import even, for_each, get_num_threads, ranges, scratch

B_T = np.array([[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
                [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]], np.float32)
G = np.array([[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
              [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]], np.float32)
A_T = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], np.float32)
B_T2, G2, A_T2 = np.kron(B_T, B_T), np.kron(G, G), np.kron(A_T, A_T)  # (36, 36), (36, 9), (16, 36)

MOST = 12 * 2**20
"""Numbers in V and M together: 48 MiB."""

COLUMNS = 16384
"""Tiles, over all channels of a step, that are transformed at once: 36 numbers each, so that they stay in the cache."""


class Block(NamedTuple):
    """Some images, and which rows of their tiles."""

    images: slice
    rows: slice


def blocks(N: int, TH: int, TW: int, channels: int) -> list[Block]:
    """All tiles in blocks that take MOST numbers for so many channels: several images, or some rows of one."""
    per_row = 36 * channels * TW
    rows = min(TH, max(1, MOST // per_row))
    rows = -(-TH // -(-TH // rows))
    images = min(N, max(1, MOST // (per_row * TH))) if rows == TH else 1
    images = -(-N // -(-N // images)) if N else 1
    return [Block(part, band) for part in ranges(N, images) for band in ranges(TH, rows)]


def winograd(x: np.ndarray, U: np.ndarray, b: np.ndarray | None, y: np.ndarray, padding: Pair) -> None:
    """Fills y (N, F, OH, OW) with the convolution of x (N, C, H, W) by the kernel that U (36, F, C) is made of, plus b."""
    (F, C), (N, _, OH, OW) = U.shape[1:], y.shape
    TH, TW = -(-OH // 4), -(-OW // 4)
    for block in blocks(N, TH, TW, C + F):
        winograd_block(x, U, b, y, padding, block, TW)


def winograd_block(x: np.ndarray, U: np.ndarray, b: np.ndarray | None, y: np.ndarray, padding: Pair, block: Block,
                   TW: int) -> None:
    """The part of y that is the block's tiles."""
    (F, C), T = U.shape[1:], tiles_of(block, TW)
    V, M = scratch(x.dtype, (36, C, T), (36, F, T), purpose="tiles")
    transform_input(x, V, block, TW, padding)

    def multiply(points: slice) -> None:
        np.matmul(U[points], V[points], out=M[points])

    def to_y(filters: slice) -> None:
        done = y[block.images, filters, 4 * block.rows.start:4 * block.rows.stop]
        inverse_transform(M[:, filters], done, TW)
        if b is not None:
            done += b[filters, None, None]

    for_each(multiply, ranges(36, 3))
    for_each(to_y, even(F, max(1, COLUMNS // T), get_num_threads()))


def winograd_dw(x: np.ndarray, dy: np.ndarray, padding: Pair) -> np.ndarray:
    """dw (F, C, 3, 3) from x (N, C, H, W) and dy (N, F, OH, OW)."""
    (N, C), (F, OH, OW) = x.shape[:2], dy.shape[1:]
    TH, TW = -(-OH // 4), -(-OW // 4)
    dU, = scratch(x.dtype, (36, F, C), purpose="kernel")
    every = blocks(N, TH, TW, C + F)
    if not every:
        dU[...] = 0
    for block in every:
        add_block(x, dy, dU, padding, block, TW, first=block is every[0])
    dw = np.empty((F, C, 3, 3), x.dtype)

    def back(filters: slice) -> None:
        np.matmul(dU[:, filters].transpose(1, 2, 0), G2, out=dw[filters].reshape(-1, C, 9))

    for_each(back, even(F, max(1, COLUMNS // C), get_num_threads()))
    return dw


def add_block(x: np.ndarray, dy: np.ndarray, dU: np.ndarray, padding: Pair, block: Block, TW: int, first: bool) -> None:
    """dU (36, F, C) += what the block's tiles add; for the first one, dU is what they add."""
    (F, C), T = dU.shape[1:], tiles_of(block, TW)
    V, dM = scratch(x.dtype, (36, C, T), (36, F, T), purpose="tiles")
    transform_input(x, V, block, TW, padding)

    def from_dy(filters: slice) -> None:
        adjoint_transform(dy[block.images, filters, 4 * block.rows.start:4 * block.rows.stop], dM[:, filters], TW)

    def multiply(p: int) -> None:
        if first:
            np.matmul(dM[p], V[p].T, out=dU[p])
            return
        product, = scratch(x.dtype, (F, C))
        np.matmul(dM[p], V[p].T, out=product)
        dU[p] += product

    for_each(from_dy, even(F, max(1, COLUMNS // T), get_num_threads()))
    for_each(multiply, range(36))


def transformed_kernel(w: np.ndarray, turned: bool = False) -> np.ndarray:
    """U (36, F, C) of w (F, C, 3, 3). turned: (36, C, F), of w by 180 degrees, which convolves dy to dx."""
    F, C = w.shape[:2]
    U, = scratch(w.dtype, (36, F, C), purpose="kernel")
    matrix = np.ascontiguousarray(G2[:, ::-1]) if turned else G2

    def body(filters: slice) -> None:
        np.matmul(matrix, w[filters].reshape(-1, 9).T, out=U[:, filters].reshape(36, -1))

    for_each(body, even(F, max(1, COLUMNS // C), get_num_threads()))
    return U.swapaxes(1, 2) if turned else U


def transform_input(x: np.ndarray, V: np.ndarray, block: Block, TW: int, padding: Pair) -> None:
    """Fills V (36, C, tiles) with B^T d B of the block's tiles."""
    (H, W), (PH, PW) = x.shape[2:], padding
    count, T = block.images.stop - block.images.start, tiles_of(block, TW)
    top = 4 * block.rows.start - PH  # the first row of the image that the block sees; may lie above it
    height, width = 4 * (block.rows.stop - block.rows.start) + 2, 4 * TW + 2
    rows = slice(max(top, 0), min(top + height, H))

    def body(channels: slice) -> None:
        number = channels.stop - channels.start
        padded, tiles = scratch(x.dtype, (number, count, height, width), (36, number * T))
        across = slice(rows.start - top, rows.stop - top)
        along = slice(PW, min(PW + W, width))
        padded[:, :, :across.start] = 0
        padded[:, :, across.stop:] = 0
        padded[:, :, across, :PW] = 0
        padded[:, :, across, along.stop:] = 0
        padded[:, :, across, along] = x[block.images, channels, rows, :along.stop - PW].swapaxes(0, 1)
        c, n, h, w = padded.strides
        views = np.lib.stride_tricks.as_strided(
            padded, (6, 6, number, count, T // count // TW, TW), (h, w, c, n, 4 * h, 4 * w), writeable=False)
        np.copyto(tiles.reshape(views.shape), views)
        np.matmul(B_T2, tiles, out=V[:, channels].reshape(36, -1))

    for_each(body, even(x.shape[1], max(1, COLUMNS // T), get_num_threads()))


def inverse_transform(M: np.ndarray, y: np.ndarray, TW: int) -> None:
    """Fills y (images, filters, rows, columns) with A^T M A of M (36, filters, tiles); tiles may stick out below and on the
    right.

    Here a tile is a row of 16 numbers, and its rows of 4 are copied as single "complex" numbers of 16 bytes: a fourth of the
    steps.
    """
    (N, F, H, W), T = y.shape, M.shape[2]
    TH = T // N // TW
    tiles, beside = scratch(y.dtype, (F * T, 16), (0,) if W == 4 * TW and H == 4 * TH else (N, F, 4 * TH, 4 * TW))
    np.matmul(M.reshape(36, F * T).T, A_T2.T, out=tiles)
    whole = beside if beside.size else y
    fours = whole.view(np.complex128).reshape(N, F, TH, 4, TW)
    fours[...] = tiles.view(np.complex128).reshape(F, N, TH, TW, 4).transpose(1, 0, 2, 4, 3)
    if whole is not y:
        np.copyto(y, whole[:, :, :H, :W])


def adjoint_transform(dy: np.ndarray, dM: np.ndarray, TW: int) -> None:
    """Fills dM (36, filters, tiles) with A dy A^T: what `inverse_transform` does, turned round."""
    (N, F, H, W), T = dy.shape, dM.shape[2]
    TH = T // N // TW
    tiles, beside = scratch(dy.dtype, (16, F * T), (0,) if W == 4 * TW and H == 4 * TH else (N, F, 4 * TH, 4 * TW))
    if beside.size:
        beside[:, :, H:] = 0
        beside[:, :, :, W:] = 0
        beside[:, :, :H, :W] = dy
        dy = beside
    np.copyto(tiles.reshape(4, 4, F, N, TH, TW), dy.reshape(N, F, TH, 4, TW, 4).transpose(3, 5, 1, 0, 2, 4))
    np.matmul(A_T2.T, tiles, out=dM.reshape(36, F * T))


def tiles_of(block: Block, TW: int) -> int:
    """How many tiles a block has."""
    return (block.images.stop - block.images.start) * (block.rows.stop - block.rows.start) * TW
