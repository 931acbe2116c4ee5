"""Average pooling, with padding that counts or does not count, and its backward as students write it."""
import numpy as np
from corpus.case import Operation
from numpy.lib.stride_tricks import sliding_window_view

from minidl import Function


def samples(rng):
    def draw(*shape):
        return rng.standard_normal(shape)
    yield (draw(2, 3, 5, 4),), {"kernel": (2, 3), "stride": (1, 2), "padding": (0, 1), "count_include_pad": False}
    yield (draw(2, 3, 4, 6),), {"kernel": (3, 2), "stride": (2, 1), "padding": (1, 0), "count_include_pad": True}
    yield (draw(2, 3, 5, 5),), {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "count_include_pad": True}
    yield (draw(1, 2, 5, 7),), {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1), "count_include_pad": False}


def reference(x, kernel, stride, padding, count_include_pad):
    (KH, KW), (sh, sw), (ph, pw) = kernel, stride, padding
    H, W = x.shape[2:]
    columns = []
    for i in range((H + 2 * ph - KH) // sh + 1):
        for j in range((W + 2 * pw - KW) // sw + 1):
            top, left = i * sh - ph, j * sw - pw
            part = x[:, :, max(top, 0):top + KH, max(left, 0):left + KW]
            columns.append(part.sum(axis=(2, 3)) / (KH * KW) if count_include_pad else part.mean(axis=(2, 3)))
    return np.stack(columns, axis=2).reshape(*x.shape[:2], i + 1, j + 1)


def pad(x, padding):
    ph, pw = padding
    return np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))


def cut(dxp, padding):
    ph, pw = padding
    return dxp[:, :, ph:dxp.shape[2] - ph, pw:dxp.shape[3] - pw]


def windows(xp, kernel, stride):
    return sliding_window_view(xp, kernel, axis=(2, 3))[:, :, ::stride[0], ::stride[1]]


def forward(x, kernel, stride, padding, count_include_pad):
    counts = np.full(1, kernel[0] * kernel[1])
    if not count_include_pad:
        counts = windows(pad(np.ones_like(x[:1, :1]), padding), kernel, stride).sum(axis=(4, 5))
    out = windows(pad(x, padding), kernel, stride).sum(axis=(4, 5)) / counts
    return out, (x.shape, kernel, stride, padding, counts)


def add_windows(d, cache):
    """d[n, c, i, j] added to every element of the window (i, j); the padding stays on."""
    (N, C, H, W), (KH, KW), (sh, sw), (ph, pw), _ = cache
    dxp = np.zeros((N, C, H + 2 * ph, W + 2 * pw))
    for i in range(d.shape[2]):
        for j in range(d.shape[3]):
            dxp[:, :, i * sh:i * sh + KH, j * sw:j * sw + KW] += d[:, :, i, j, None, None]
    return dxp


avg_pool2d = Operation("avg_pool2d", samples, reference, forward)


@avg_pool2d.correct()
def adds_shares_to_windows(dout, cache):
    return cut(add_windows(dout / cache[4], cache), cache[3])


@avg_pool2d.correct()
def adds_shares_by_elements_of_the_kernel(dout, cache):
    (N, C, H, W), (KH, KW), (sh, sw), (ph, pw), counts = cache
    share = dout / counts
    dxp = np.zeros((N, C, H + 2 * ph, W + 2 * pw), order="F")
    for p in range(KH):
        for q in range(KW):
            dxp[:, :, p:p + sh * share.shape[2]:sh, q:q + sw * share.shape[3]:sw] += share
    return (dxp[:, :, ph:ph + H, pw:pw + W],)


@avg_pool2d.correct()
def multiplies_by_one_matrix_for_rows_and_one_for_columns(dout, cache):
    """y = A x B.T / counts, with A and B of zeros and ones, so dx = A.T (dout / counts) B."""
    (_, _, H, W), (KH, KW), (sh, sw), (ph, pw), counts = cache

    def which(outputs, size, kernel, stride, padding):
        offset = np.arange(size) + padding - stride * np.arange(outputs)[:, None]
        return ((offset >= 0) & (offset < kernel)).astype(float)
    A = which(dout.shape[2], H, KH, sh, ph)
    B = which(dout.shape[3], W, KW, sw, pw)
    return A.T @ (dout / counts) @ B


def forward_without_cache(x, kernel, stride, padding, count_include_pad):
    return forward(x, kernel, stride, padding, count_include_pad)[0]


@avg_pool2d.correct(forward=forward_without_cache)
def scalar_loops_within_the_image(dout, x, kernel, stride, padding, count_include_pad):
    dx = np.zeros(x.shape)
    H, W = x.shape[2:]
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            top, left = i * stride[0] - padding[0], j * stride[1] - padding[1]
            rows = [r for r in range(top, top + kernel[0]) if 0 <= r < H]
            columns = [c for c in range(left, left + kernel[1]) if 0 <= c < W]
            count = kernel[0] * kernel[1] if count_include_pad else len(rows) * len(columns)
            for r in rows:
                for c in columns:
                    dx[:, :, r, c] += dout[:, :, i, j] / count
    return dx


@avg_pool2d.correct()
class AvgPoolFunction(Function):
    def __init__(self, kernel, stride, padding, count_include_pad):
        self.options = kernel, stride, padding, count_include_pad

    def forward(self, x):
        y, self.cache = forward(x, *self.options)
        return y

    def backward(self, dy):
        return cut(add_windows(dy / self.cache[4], self.cache), self.cache[3])


@avg_pool2d.mistake("scale")
class AveragesOverTheBatchAsWell(Function):
    def __init__(self, kernel, stride, padding, count_include_pad):
        self.options = kernel, stride, padding, count_include_pad

    def forward(self, x):
        y, self.cache = forward(x, *self.options)
        return y

    def backward(self, dy):
        return cut(add_windows(dy / self.cache[4], self.cache), self.cache[3]) / len(dy)


@avg_pool2d.mistake("scale")
def divides_by_the_window_twice(dout, cache):
    KH, KW = cache[1]
    return cut(add_windows(dout / cache[4], cache), cache[3]) / (KH * KW)


@avg_pool2d.mistake("overwrites-overlap")
def sets_the_window(dout, cache):
    (N, C, H, W), (KH, KW), (sh, sw), (ph, pw), counts = cache
    share = dout / counts
    dxp = np.zeros((N, C, H + 2 * ph, W + 2 * pw))
    for i in range(share.shape[2]):
        for j in range(share.shape[3]):
            dxp[:, :, i * sh:i * sh + KH, j * sw:j * sw + KW] = share[:, :, i, j, None, None]
    return cut(dxp, cache[3])


@avg_pool2d.mistake("overwrites-overlap")
def sets_strided_views(dout, cache):
    (N, C, H, W), (KH, KW), (sh, sw), (ph, pw), counts = cache
    share = dout / counts
    dxp = np.zeros((N, C, H + 2 * ph, W + 2 * pw))
    for p in range(KH):
        for q in range(KW):
            dxp[:, :, p:p + sh * share.shape[2]:sh, q:q + sw * share.shape[3]:sw] = share
    return cut(dxp, cache[3])


@avg_pool2d.mistake("border")
def counts_the_padding_although_forward_does_not(dout, cache):
    KH, KW = cache[1]
    return cut(add_windows(dout / (KH * KW), cache), cache[3])


@avg_pool2d.mistake("border")
def never_counts_the_padding(dout, cache):
    (_, _, H, W), kernel, stride, padding, _ = cache
    inside = windows(pad(np.ones((1, 1, H, W)), padding), kernel, stride).sum(axis=(4, 5))
    return cut(add_windows(dout / inside, cache), padding)


@avg_pool2d.mistake("border")
def does_not_cut_the_padding(dout, cache):
    return add_windows(dout / cache[4], cache)


@avg_pool2d.mistake("border")
def cuts_from_the_upper_left_corner(dout, cache):
    H, W = cache[0][2:]
    return add_windows(dout / cache[4], cache)[:, :, :H, :W]


@avg_pool2d.mistake("border")
def loses_the_last_windows(dout, cache):
    d = (dout / cache[4]).copy()
    d[:, :, -1] = 0
    d[:, :, :, -1] = 0
    return cut(add_windows(d, cache), cache[3])


@avg_pool2d.mistake("unknown")
def gives_the_share_to_the_first_element_of_the_window(dout, cache):
    (N, C, H, W), _, (sh, sw), (ph, pw), counts = cache
    share = dout / counts
    dxp = np.zeros((N, C, H + 2 * ph, W + 2 * pw))
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            dxp[:, :, i * sh, j * sw] += share[:, :, i, j]
    return cut(dxp, cache[3])


@avg_pool2d.mistake("unknown")
def repeats_every_element_as_if_windows_did_not_overlap(dout, cache):
    """np.kron with a block of ones, whatever the stride; cut or filled up to the size of x."""
    (_, _, H, W), (KH, KW), *_, counts = cache
    blocks = np.kron(dout / counts, np.ones((1, 1, KH, KW)))
    blocks = np.pad(blocks, ((0, 0), (0, 0), (0, H), (0, W)))
    return blocks[:, :, :H, :W]


@avg_pool2d.mistake("transposed")
def reads_dout_column_by_column(dout, cache):
    N, C, OH, OW = dout.shape
    share = (dout / cache[4]).reshape(N, C, OW, OH).swapaxes(2, 3)
    return cut(add_windows(share, cache), cache[3])


@avg_pool2d.mistake("ignores-upstream")
def returns_the_share_alone(dout, cache):
    return cut(add_windows(np.ones_like(dout) / cache[4], cache), cache[3])


@avg_pool2d.mistake("zero")
def adds_to_a_copy_of_the_window(dout, cache):
    (N, C, H, W), (KH, KW), (sh, sw), _, counts = cache
    share = dout / counts
    dx = np.zeros((N, C, H, W))
    for i in range(share.shape[2]):
        for j in range(share.shape[3]):
            window = dx[:, :, i * sh:i * sh + KH, j * sw:j * sw + KW]
            window = window + share[:, :, i, j, None, None]
    return dx


@avg_pool2d.mistake("sign")
def subtracts_shares(dout, cache):
    return cut(-add_windows(dout / cache[4], cache), cache[3])


@avg_pool2d.mistake("flipped")
def goes_through_dout_from_the_end(dout, cache):
    return cut(add_windows((dout / cache[4])[:, :, ::-1, ::-1], cache), cache[3])


@avg_pool2d.mistake("mutates-input")
def divides_dout_in_place(dout, cache):
    dout /= cache[4]
    return cut(add_windows(dout, cache), cache[3])


@avg_pool2d.mistake("wrong-dtype")
def returns_float32(dout, cache):
    return cut(add_windows(dout / cache[4], cache), cache[3]).astype("float32")


def forward_that_always_counts_the_padding(x, kernel, stride, padding, count_include_pad):
    return forward(x, kernel, stride, padding, True)


@avg_pool2d.mistake("forward-differs", forward=forward_that_always_counts_the_padding)
def does_not_know_count_include_pad(dout, cache):
    return adds_shares_to_windows(dout, cache)


def forward_of_sums(x, kernel, stride, padding, count_include_pad):
    out, cache = forward(x, kernel, stride, padding, count_include_pad)
    return out * cache[4], cache


@avg_pool2d.mistake("forward-differs", forward=forward_of_sums)
def pools_sums(dout, cache):
    return cut(add_windows(dout, cache), cache[3])


# Without padding every window has the same size.

def samples_without_padding(rng):
    yield (rng.standard_normal((2, 3, 4, 6)),), {"kernel": (2, 3), "stride": (1, 2)}
    yield (rng.standard_normal((2, 3, 5, 5)),), {"kernel": (3, 3), "stride": (2, 2)}
    yield (rng.standard_normal((1, 2, 6, 5)),), {"kernel": (2, 2), "stride": (2, 2)}


def reference_without_padding(x, kernel, stride):
    return windows(x, kernel, stride).mean(axis=(4, 5))


def forward_without_padding(x, kernel, stride):
    return forward(x, kernel, stride, (0, 0), True)


plain = Operation("avg_pool2d_plain", samples_without_padding, reference_without_padding, forward_without_padding)


@plain.correct()
def four_loops(dout, cache):
    shape, (KH, KW), (sh, sw), _, _ = cache
    dx = np.zeros(shape)
    for n, c, i, j in np.ndindex(dout.shape):
        for p in range(KH):
            for q in range(KW):
                dx[n, c, i * sh + p, j * sw + q] += dout[n, c, i, j] / KH / KW
    return dx


@plain.mistake("scale")
def forgets_to_divide_by_the_window(dout, cache):
    return add_windows(dout, cache)


@plain.mistake("scale")
def divides_by_one_side_of_the_window(dout, cache):
    return add_windows(dout / cache[1][0], cache)


@plain.mistake("scale")
def divides_by_the_stride_instead_of_the_window(dout, cache):
    sh, sw = cache[2]
    return add_windows(dout / (sh * sw), cache)


@plain.mistake("overwrites-overlap")
def gives_the_whole_share_with_an_assignment(dout, cache):
    shape, (KH, KW), (sh, sw), _, _ = cache
    dx = np.zeros(shape)
    for n, c, i, j in np.ndindex(dout.shape):
        dx[n, c, i * sh:i * sh + KH, j * sw:j * sw + KW] = dout[n, c, i, j] / (KH * KW)
    return dx


@plain.mistake("one-sample-only")
def pools_back_the_first_image_into_its_place(dout, cache):
    shape, (KH, KW), (sh, sw), _, _ = cache
    dx = np.zeros(shape)
    for i, j in np.ndindex(dout.shape[2:]):
        dx[0, :, i * sh:i * sh + KH, j * sw:j * sw + KW] += dout[0, :, i, j, None, None] / (KH * KW)
    return dx


# Global average pooling: a mean over all positions.

def samples_of_global(rng):
    yield (rng.standard_normal((3, 2, 4, 5)),), {}
    yield (rng.standard_normal((2, 3, 4, 4)),), {}
    yield (rng.standard_normal((1, 4, 5, 3)),), {}


def global_reference(x):
    return np.array([[sum(channel.ravel().tolist()) / channel.size for channel in sample] for sample in x])


def global_forward(x):
    return x.mean(axis=(2, 3)), x.shape


global_avg_pool = Operation("global_avg_pool", samples_of_global, global_reference, global_forward)


@global_avg_pool.correct()
def repeats_the_share(dout, shape):
    H, W = shape[2:]
    return np.repeat(dout / (H * W), H * W).reshape(shape)


@global_avg_pool.correct()
def broadcasts_a_view(dout, shape):
    return np.broadcast_to((dout / np.prod(shape[2:]))[:, :, None, None], shape)


@global_avg_pool.mistake("scale")
def forgets_to_divide(dout, shape):
    return np.ones(shape) * dout[:, :, None, None]


@global_avg_pool.mistake("scale")
def divides_by_the_height_only(dout, shape):
    return np.ones(shape) * dout[:, :, None, None] / shape[2]


@global_avg_pool.mistake("wrong-shape")
def leaves_the_spatial_axes_to_broadcasting(dout, shape):
    return dout[:, :, None, None] / (shape[2] * shape[3])


@global_avg_pool.mistake("transposed")
def tiles_instead_of_repeating(dout, shape):
    """The numbers of dout one after another, where each should stand H*W times."""
    H, W = shape[2:]
    return np.tile(dout.ravel() / (H * W), H * W).reshape(shape)
