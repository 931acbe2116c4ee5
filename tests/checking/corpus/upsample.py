"""Enlarging images, by repeating pixels and by bilinear weights, and the way back as students write it."""
import numpy as np
from corpus.case import Operation

from minidl import Function


def samples(rng):
    yield (rng.standard_normal((2, 3, 4, 5)),), {"factors": (3, 2)}
    yield (rng.standard_normal((2, 3, 4, 4)),), {"factors": (2, 2)}
    yield (rng.standard_normal((3, 2, 3, 4)),), {"factors": (1, 3)}
    yield (rng.standard_normal((1, 2, 5, 3)),), {"factors": (2, 3)}


def reference(x, factors):
    fh, fw = factors
    return np.kron(x, np.ones((1, 1, fh, fw)))


def forward(x, factors):
    return x.repeat(factors[0], axis=2).repeat(factors[1], axis=3), (x.shape, factors)


def blocks(dout, cache):
    """[n, c, h, p, w, q]: what became of the pixel (h, w)."""
    (N, C, H, W), (fh, fw) = cache
    return dout.reshape(N, C, H, fh, W, fw)


upsample = Operation("upsample", samples, reference, forward)


@upsample.correct()
def sums_blocks(dout, cache):
    return blocks(dout, cache).sum(axis=(3, 5))


@upsample.correct()
def adds_strided_views(dout, cache):
    shape, (fh, fw) = cache
    dx = np.zeros(shape)
    for p in range(fh):
        for q in range(fw):
            dx += dout[:, :, p::fh, q::fw]
    return (dx,)


@upsample.correct()
def adds_at_the_pixel_that_was_copied(dout, cache):
    (N, C, H, W), (fh, fw) = cache
    dx = np.zeros((N, C, H, W))
    rows, columns = np.arange(H * fh)[:, None] // fh, np.arange(W * fw) // fw
    np.add.at(dx, (slice(None), slice(None), rows, columns), dout)
    return dx


def forward_without_cache(x, factors):
    return x[:, :, np.arange(x.shape[2] * factors[0]) // factors[0]][..., np.arange(x.shape[3] * factors[1]) // factors[1]]


@upsample.correct(forward=forward_without_cache)
def with_two_matrices(dout, x, factors):
    up, across = (np.repeat(np.eye(n), f, axis=0) for n, f in zip(x.shape[2:], factors))
    return up.T @ dout @ across


@upsample.correct()
class UpsampleFunction(Function):
    def __init__(self, factors):
        self.factors = factors

    def forward(self, x):
        self.shape = x.shape
        return np.kron(x, np.ones(self.factors))

    def backward(self, dy):
        (fh, fw), (H, W) = self.factors, self.shape[2:]
        rows = np.add.reduceat(dy, np.arange(H) * fh, axis=2)
        return np.add.reduceat(rows, np.arange(W) * fw, axis=3)


@upsample.mistake("scale")
def averages_blocks(dout, cache):
    return blocks(dout, cache).mean(axis=(3, 5))


@upsample.mistake("scale")
def divides_by_the_factor_of_the_height(dout, cache):
    return blocks(dout, cache).sum(axis=(3, 5)) / cache[1][0]


@upsample.mistake("overwrites-overlap")
def takes_one_pixel_of_every_block(dout, cache):
    fh, fw = cache[1]
    return dout[:, :, ::fh, ::fw]


@upsample.mistake("overwrites-overlap")
def sets_in_the_loop_over_the_output(dout, cache):
    shape, (fh, fw) = cache
    dx = np.zeros(shape)
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            dx[:, :, i // fh, j // fw] = dout[:, :, i, j]
    return dx


@upsample.mistake("overwrites-overlap")
def sums_rows_of_a_block_and_keeps_its_last_column(dout, cache):
    shape, (fh, fw) = cache
    dx = np.zeros(shape)
    for q in range(fw):
        dx[...] = sum(dout[:, :, p::fh, q::fw] for p in range(fh))
    return dx


@upsample.mistake("transposed")
def splits_axes_with_the_factor_in_front(dout, cache):
    """(fh, H) for (H, fh): pixels that lie far apart are summed."""
    (N, C, H, W), (fh, fw) = cache
    return dout.reshape(N, C, fh, H, fw, W).sum(axis=(2, 4))


@upsample.mistake("transposed")
def brings_blocks_to_the_front_without_moving_axes(dout, cache):
    (N, C, H, W), (fh, fw) = cache
    return dout.reshape(N, C, H, W, fh * fw).sum(axis=-1)


@upsample.mistake("unknown")
def takes_the_largest_of_every_block(dout, cache):
    return blocks(dout, cache).max(axis=(3, 5))


@upsample.mistake("border")
def forgets_the_last_rows_of_the_output(dout, cache):
    shape, (fh, fw) = cache
    dx = np.zeros(shape)
    for i in range(dout.shape[2] - 1):
        for j in range(dout.shape[3] - 1):
            dx[:, :, i // fh, j // fw] += dout[:, :, i, j]
    return dx


@upsample.mistake("border")
def shifts_the_blocks_by_one(dout, cache):
    """The first row and column are taken for padding."""
    shape, (fh, fw) = cache
    shifted = np.zeros_like(dout)
    shifted[:, :, :-1, :-1] = dout[:, :, 1:, 1:]
    return blocks(shifted, cache).sum(axis=(3, 5))


@upsample.mistake("flipped")
def mirrors_the_columns(dout, cache):
    return blocks(dout, cache).sum(axis=(3, 5))[..., ::-1]


@upsample.mistake("wrong-shape")
def sums_along_the_width_only(dout, cache):
    return blocks(dout, cache).sum(axis=5).reshape(*dout.shape[:3], -1)


@upsample.mistake("ignores-upstream")
def returns_the_size_of_the_blocks(dout, cache):
    shape, (fh, fw) = cache
    return np.full(shape, float(fh * fw))


@upsample.mistake("sign")
def subtracts_in_the_loop(dout, cache):
    shape, (fh, fw) = cache
    dx = np.zeros(shape)
    for p in range(fh):
        for q in range(fw):
            dx -= dout[:, :, p::fh, q::fw]
    return dx


@upsample.mistake("mutates-input")
def adds_within_dout(dout, cache):
    """The first pixel of every block is where the others are added."""
    fh, fw = cache[1]
    dx = dout[:, :, ::fh, ::fw]
    for p in range(fh):
        for q in range(fw):
            if p or q:
                dx += dout[:, :, p::fh, q::fw]
    return dx.copy()


@upsample.mistake("wrong-dtype")
def sums_in_float32(dout, cache):
    return blocks(dout, cache).sum(axis=(3, 5), dtype=np.float32)


@upsample.mistake("not-deterministic")
class AddsToWhatItReturnedBefore(Function):
    def __init__(self, factors):
        self.factors, self.dx = factors, 0.0

    def forward(self, x):
        self.shape = x.shape
        return np.kron(x, np.ones(self.factors))

    def backward(self, dy):
        self.dx = self.dx + blocks(dy, (self.shape, self.factors)).sum(axis=(3, 5))
        return self.dx


def forward_by_tiles(x, factors):
    return np.tile(x, (1, 1, *factors)), (x.shape, factors)


@upsample.mistake("forward-differs", forward=forward_by_tiles)
def repeats_the_whole_image(dout, cache):
    (N, C, H, W), (fh, fw) = cache
    return dout.reshape(N, C, fh, H, fw, W).sum(axis=(2, 4))


# Bilinear, with the corners of input and output on one another.

def bilinear_samples(rng):
    for shape, size in (((2, 3, 3, 4), (5, 6)), ((2, 2, 3, 3), (6, 6)), ((1, 2, 5, 4), (4, 7))):
        yield (rng.standard_normal(shape),), {"size": size}


def bilinear_reference(x, size):
    y = np.empty((*x.shape[:2], *size))
    H, W = x.shape[2:]
    for i in range(size[0]):
        for j in range(size[1]):
            r, c = i * (H - 1) / (size[0] - 1), j * (W - 1) / (size[1] - 1)
            near = [(p, q) for p in (int(r), int(r) + 1) for q in (int(c), int(c) + 1) if p < H and q < W]
            y[:, :, i, j] = sum(x[:, :, p, q] * (1 - abs(r - p)) * (1 - abs(c - q)) for p, q in near)
    return y


def neighbours(n, m):
    """For each of m outputs the input before it, the one after it, and the latter's weight."""
    place = np.arange(m) * (n - 1) / (m - 1)
    before = np.minimum(place.astype(int), n - 2)
    return before, before + 1, place - before


def bilinear_forward(x, size):
    (top, bottom, down), (left, right, across) = (neighbours(n, m) for n, m in zip(x.shape[2:], size))
    rows = x[:, :, top] * (1 - down)[:, None] + x[:, :, bottom] * down[:, None]
    return rows[..., left] * (1 - across) + rows[..., right] * across, x.shape


def weights(n, m):
    before, after, weight = neighbours(n, m)
    matrix = np.zeros((m, n))
    matrix[np.arange(m), before] += 1 - weight
    matrix[np.arange(m), after] += weight
    return matrix


bilinear = Operation("upsample_bilinear", bilinear_samples, bilinear_reference, bilinear_forward)


@bilinear.correct()
def with_the_matrices_of_weights(dout, shape):
    return weights(shape[2], dout.shape[2]).T @ dout @ weights(shape[3], dout.shape[3])


@bilinear.correct()
def gives_every_output_back_to_its_four_neighbours(dout, shape):
    dx = np.zeros(shape)
    rows, columns = (list(zip(*neighbours(n, m))) for n, m in zip(shape[2:], dout.shape[2:]))
    for i, (top, bottom, down) in enumerate(rows):
        for j, (left, right, across) in enumerate(columns):
            d = dout[:, :, i, j]
            dx[:, :, top, left] += d * (1 - down) * (1 - across)
            dx[:, :, top, right] += d * (1 - down) * across
            dx[:, :, bottom, left] += d * down * (1 - across)
            dx[:, :, bottom, right] += d * down * across
    return dx


@bilinear.mistake("overwrites-overlap")
def sets_the_four_neighbours(dout, shape):
    dx = np.zeros(shape)
    rows, columns = (list(zip(*neighbours(n, m))) for n, m in zip(shape[2:], dout.shape[2:]))
    for i, (top, bottom, down) in enumerate(rows):
        for j, (left, right, across) in enumerate(columns):
            d = dout[:, :, i, j]
            dx[:, :, top, left] = d * (1 - down) * (1 - across)
            dx[:, :, top, right] = d * (1 - down) * across
            dx[:, :, bottom, left] = d * down * (1 - across)
            dx[:, :, bottom, right] = d * down * across
    return dx


@bilinear.mistake("overwrites-overlap")
def adds_rows_with_repeated_indices(dout, shape):
    top, bottom, down = neighbours(shape[2], dout.shape[2])
    rows = dout @ weights(shape[3], dout.shape[3])
    dx = np.zeros(shape)
    dx[:, :, top] += rows * (1 - down)[:, None]
    dx[:, :, bottom] += rows * down[:, None]
    return dx


@bilinear.mistake("unknown")
def gives_all_to_the_nearest_pixel(dout, shape):
    nearest = [np.eye(n)[np.round(np.arange(m) * (n - 1) / (m - 1)).astype(int)] for n, m in zip(shape[2:], dout.shape[2:])]
    return nearest[0].T @ dout @ nearest[1]


@bilinear.mistake("unknown")
def exchanges_near_and_far(dout, shape):
    """The weight of the pixel before goes to the one after, and the other way round."""
    matrices = []
    for n, m in zip(shape[2:], dout.shape[2:]):
        before, after, weight = neighbours(n, m)
        matrix = np.zeros((m, n))
        matrix[np.arange(m), before] += weight
        matrix[np.arange(m), after] += 1 - weight
        matrices.append(matrix)
    return matrices[0].T @ dout @ matrices[1]


@bilinear.mistake("unknown")
def enlarges_dout_down_to_the_size_of_x(dout, shape):
    """The same interpolation in the other direction; what is wanted is its transpose."""
    return bilinear_forward(dout, shape[2:])[0]
