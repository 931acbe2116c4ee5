"""Average pooling to a given size, with bins that differ in size and overlap, and its backward as students write it."""
import numpy as np
from corpus.case import Operation


def adaptive_samples(rng):
    for shape, size in (((2, 3, 5, 4), (3, 2)), ((2, 3, 5, 5), (2, 3)), ((1, 2, 7, 6), (4, 4))):
        yield (rng.standard_normal(shape),), {"size": size}


def bins(n, m):
    """From floor(i n / m) to ceil((i + 1) n / m)."""
    return [slice(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]


def adaptive_reference(x, size):
    rows, columns = bins(x.shape[2], size[0]), bins(x.shape[3], size[1])
    return np.array([[x[:, :, r, c].mean(axis=(2, 3)) for c in columns] for r in rows]).transpose(2, 3, 0, 1)


def averages(n, m):
    """Row i of this matrix takes the mean over bin i."""
    matrix = np.zeros((m, n))
    for i, part in enumerate(bins(n, m)):
        matrix[i, part] = 1 / (part.stop - part.start)
    return matrix


def adaptive_forward(x, size):
    return averages(x.shape[2], size[0]) @ x @ averages(x.shape[3], size[1]).T, x.shape


adaptive = Operation("adaptive_avg_pool2d", adaptive_samples, adaptive_reference, adaptive_forward)


@adaptive.correct()
def with_transposed_averages(dout, shape):
    return averages(shape[2], dout.shape[2]).T @ dout @ averages(shape[3], dout.shape[3])


@adaptive.correct()
def loops_over_bins(dout, shape):
    dx = np.zeros(shape)
    for i, rows in enumerate(bins(shape[2], dout.shape[2])):
        for j, columns in enumerate(bins(shape[3], dout.shape[3])):
            part = dx[:, :, rows, columns]
            part += dout[:, :, i, j, None, None] / (part.shape[2] * part.shape[3])
    return dx


@adaptive.mistake("overwrites-overlap")
def sets_the_bins(dout, shape):
    dx = np.zeros(shape)
    for i, rows in enumerate(bins(shape[2], dout.shape[2])):
        for j, columns in enumerate(bins(shape[3], dout.shape[3])):
            part = dx[:, :, rows, columns]
            part[...] = dout[:, :, i, j, None, None] / (part.shape[2] * part.shape[3])
    return dx


@adaptive.mistake("zero")
def adds_to_a_new_array(dout, shape):
    dx = np.zeros(shape)
    for i, rows in enumerate(bins(shape[2], dout.shape[2])):
        for j, columns in enumerate(bins(shape[3], dout.shape[3])):
            part = dx[:, :, rows, columns]
            part = part + dout[:, :, i, j, None, None] / (part.shape[2] * part.shape[3])
    return dx


@adaptive.mistake("unknown")
def takes_all_bins_for_equally_large(dout, shape):
    """H*W / outputs is the size of a bin only where sizes divide each other."""
    dx = np.zeros(shape)
    share = dout * (dout.shape[2] * dout.shape[3]) / (shape[2] * shape[3])
    for i, rows in enumerate(bins(shape[2], dout.shape[2])):
        for j, columns in enumerate(bins(shape[3], dout.shape[3])):
            dx[:, :, rows, columns] += share[:, :, i, j, None, None]
    return dx
