"""Transposed convolution (every input element lays its kernel down) and its backward as students write it."""
import numpy as np
from corpus.case import Operation
from numpy.lib.stride_tricks import sliding_window_view

from minidl import Function


def samples(rng):
    def draw(*shape):
        return rng.standard_normal(shape)
    yield (draw(2, 3, 5, 4), draw(3, 4, 3, 2), draw(4)), {"stride": (2, 1), "padding": (2, 1)}
    yield (draw(2, 3, 4, 4), draw(3, 3, 3, 3), draw(3)), {"stride": (2, 2), "padding": (1, 1)}
    yield (draw(3, 2, 4, 3), draw(2, 4, 2, 3), draw(4)), {"stride": (1, 2), "padding": (0, 0)}
    yield (draw(1, 2, 4, 5), draw(2, 3, 3, 2), draw(3)), {"stride": (1, 1), "padding": (0, 1)}


def cut(y, padding):
    ph, pw = padding
    return y[:, :, ph:y.shape[2] - ph, pw:y.shape[3] - pw]


def reference(x, w, b, stride, padding):
    """The output asks which kernels reach it."""
    N, C, H, W = x.shape
    _, F, KH, KW = w.shape
    sh, sw = stride
    full = np.zeros((N, F, (H - 1) * sh + KH, (W - 1) * sw + KW))
    for p in range(KH):
        for q in range(KW):
            full[:, :, p:p + (H - 1) * sh + 1:sh, q:q + (W - 1) * sw + 1:sw] += np.einsum("nchw,cf->nfhw", x, w[:, :, p, q])
    return cut(full, padding) + b[:, None, None]


def forward(x, w, b, stride, padding):
    N, C, H, W = x.shape
    _, F, KH, KW = w.shape
    sh, sw = stride
    full = np.zeros((N, F, (H - 1) * sh + KH, (W - 1) * sw + KW))
    for i in range(H):
        for j in range(W):
            full[:, :, i * sh:i * sh + KH, j * sw:j * sw + KW] += np.tensordot(x[:, :, i, j], w, axes=1)
    return cut(full, padding) + b[:, None, None], (x, w, stride, padding)


def pad(dout, padding):
    ph, pw = padding
    return np.pad(dout, ((0, 0), (0, 0), (ph, ph), (pw, pw)))


def windows(dp, w, stride):
    """[n, f, i, j, p, q]: the part of the padded dout on which input (i, j) laid its kernel."""
    return sliding_window_view(dp, w.shape[2:], axis=(2, 3))[:, :, ::stride[0], ::stride[1]]


conv_transpose2d = Operation("conv_transpose2d", samples, reference, forward)


@conv_transpose2d.correct()
def by_windows_and_einsum(dout, cache):
    x, w, stride, padding = cache
    d = windows(pad(dout, padding), w, stride)
    return np.einsum("nfijpq,cfpq->ncij", d, w), np.einsum("nfijpq,ncij->cfpq", d, x), dout.sum(axis=(0, 2, 3))


@conv_transpose2d.correct()
def loops_over_input_positions(dout, cache):
    x, w, (sh, sw), padding = cache
    dp = pad(dout, padding)
    dx, dw = np.empty(x.shape), np.zeros(w.shape)
    for i in range(x.shape[2]):
        for j in range(x.shape[3]):
            d = dp[:, :, i * sh:i * sh + w.shape[2], j * sw:j * sw + w.shape[3]]
            dx[:, :, i, j] = np.tensordot(d, w, axes=([1, 2, 3], [1, 2, 3]))
            dw += np.tensordot(x[:, :, i, j].T, d, axes=1)
    return [dx, dw, np.einsum("nfhw->f", dout)]


@conv_transpose2d.correct()
def loops_over_the_kernel(dout, cache):
    x, w, (sh, sw), padding = cache
    dp = pad(dout, padding)
    H, W = x.shape[2:]
    dx, dw = np.zeros_like(x), np.empty_like(w)
    for p in range(w.shape[2]):
        for q in range(w.shape[3]):
            d = dp[:, :, p:p + (H - 1) * sh + 1:sh, q:q + (W - 1) * sw + 1:sw]
            dx += np.einsum("nfhw,cf->nchw", d, w[:, :, p, q])
            dw[:, :, p, q] = np.einsum("nfhw,nchw->cf", d, x)
    return dx, dw, dout.sum((0, 2, 3))


def forward_without_cache(x, w, b, stride, padding):
    return forward(x, w, b, stride, padding)[0]


@conv_transpose2d.correct(forward=forward_without_cache)
def as_an_ordinary_convolution_by_columns(dout, x, w, b, stride, padding):
    N, C, H, W = x.shape
    columns = windows(pad(dout, padding), w, stride).transpose(0, 2, 3, 1, 4, 5).reshape(N * H * W, -1)
    dx = (columns @ w.reshape(C, -1).T).reshape(N, H, W, C).transpose(0, 3, 1, 2)
    dw = x.transpose(1, 0, 2, 3).reshape(C, -1) @ columns
    return dx, dw.reshape(w.shape), np.sum(dout, axis=(0, 2, 3))


@conv_transpose2d.mistake("border")
def cuts_dout_instead_of_padding_it(dout, cache):
    """dout keeps its place in the corner; what is missing there is filled with zeros at the end."""
    x, w, stride, (ph, pw) = cache
    dp = np.pad(dout, ((0, 0), (0, 0), (0, 2 * ph), (0, 2 * pw)))
    d = windows(dp, w, stride)
    return np.einsum("nfijpq,cfpq->ncij", d, w), np.einsum("nfijpq,ncij->cfpq", d, x), dout.sum(axis=(0, 2, 3))


@conv_transpose2d.mistake("border")
def leaves_out_the_last_row_and_column(dout, cache):
    x, w, (sh, sw), padding = cache
    dp = pad(dout, padding)
    dx, dw = np.zeros(x.shape), np.zeros(w.shape)
    for i in range(x.shape[2] - 1):
        for j in range(x.shape[3] - 1):
            d = dp[:, :, i * sh:i * sh + w.shape[2], j * sw:j * sw + w.shape[3]]
            dx[:, :, i, j] = np.tensordot(d, w, axes=([1, 2, 3], [1, 2, 3]))
            dw += np.tensordot(x[:, :, i, j].T, d, axes=1)
    return dx, dw, dout.sum(axis=(0, 2, 3))


@conv_transpose2d.mistake("flipped")
def turns_the_kernel_although_it_is_a_correlation(dout, cache):
    x, w, stride, padding = cache
    d = windows(pad(dout, padding), w, stride)
    dx = np.einsum("nfijpq,cfpq->ncij", d, w[:, :, ::-1, ::-1])
    return dx, np.einsum("nfijpq,ncij->cfpq", d, x), dout.sum(axis=(0, 2, 3))


@conv_transpose2d.mistake("flipped")
def turns_the_gradient_of_the_kernel(dout, cache):
    x, w, stride, padding = cache
    d = windows(pad(dout, padding), w, stride)
    dw = np.flip(np.einsum("nfijpq,ncij->cfpq", d, x), axis=(2, 3))
    return np.einsum("nfijpq,cfpq->ncij", d, w), dw, dout.sum(axis=(0, 2, 3))


@conv_transpose2d.mistake("overwrites-overlap")
def keeps_the_last_place_of_the_kernel(dout, cache):
    x, w, (sh, sw), padding = cache
    dp = pad(dout, padding)
    H, W = x.shape[2:]
    dx, dw = np.zeros_like(x), np.empty_like(w)
    for p in range(w.shape[2]):
        for q in range(w.shape[3]):
            d = dp[:, :, p:p + (H - 1) * sh + 1:sh, q:q + (W - 1) * sw + 1:sw]
            dx = np.einsum("nfhw,cf->nchw", d, w[:, :, p, q])
            dw[:, :, p, q] = np.einsum("nfhw,nchw->cf", d, x)
    return dx, dw, dout.sum((0, 2, 3))


@conv_transpose2d.mistake("overwrites-overlap")
def keeps_the_last_position_of_the_kernels_gradient(dout, cache):
    x, w, (sh, sw), padding = cache
    dp = pad(dout, padding)
    dx, dw = np.empty(x.shape), np.zeros(w.shape)
    for i in range(x.shape[2]):
        for j in range(x.shape[3]):
            d = dp[:, :, i * sh:i * sh + w.shape[2], j * sw:j * sw + w.shape[3]]
            dx[:, :, i, j] = np.tensordot(d, w, axes=([1, 2, 3], [1, 2, 3]))
            dw[:] = np.tensordot(x[:, :, i, j].T, d, axes=1)
    return dx, dw, dout.sum(axis=(0, 2, 3))


@conv_transpose2d.mistake("transposed")
def returns_dw_with_filters_first(dout, cache):
    """The layout of an ordinary convolution's kernel."""
    x, w, stride, padding = cache
    d = windows(pad(dout, padding), w, stride)
    return np.einsum("nfijpq,cfpq->ncij", d, w), np.einsum("nfijpq,ncij->fcpq", d, x), dout.sum(axis=(0, 2, 3))


@conv_transpose2d.mistake("transposed")
def reshapes_rows_of_pixels_to_channels_first(dout, cache):
    x, w, stride, padding = cache
    N, C, H, W = x.shape
    d = windows(pad(dout, padding), w, stride)
    columns = d.transpose(0, 2, 3, 1, 4, 5).reshape(N * H * W, -1)
    dx = (columns @ w.reshape(C, -1).T).reshape(N, C, H, W)
    return dx, np.einsum("nfijpq,ncij->cfpq", d, x), dout.sum(axis=(0, 2, 3))


@conv_transpose2d.mistake("unknown")
def takes_the_middle_of_the_kernel_only(dout, cache):
    x, w, stride, padding = cache
    d = windows(pad(dout, padding), w, stride)
    p, q = w.shape[2] // 2, w.shape[3] // 2
    dx = np.einsum("nfij,cf->ncij", d[..., p, q], w[:, :, p, q])
    return dx, np.einsum("nfijpq,ncij->cfpq", d, x), dout.sum(axis=(0, 2, 3))


@conv_transpose2d.mistake("unknown")
def goes_on_by_one_for_every_input(dout, cache):
    """The stride of the forward does not appear in the backward."""
    x, w, stride, padding = cache
    d = windows(pad(dout, padding), w, (1, 1))[:, :, :x.shape[2], :x.shape[3]]
    return np.einsum("nfijpq,cfpq->ncij", d, w), np.einsum("nfijpq,ncij->cfpq", d, x), dout.sum(axis=(0, 2, 3))


@conv_transpose2d.mistake("scale")
def divides_dx_by_the_stride(dout, cache):
    x, w, stride, padding = cache
    d = windows(pad(dout, padding), w, stride)
    dx = np.einsum("nfijpq,cfpq->ncij", d, w) / (stride[0] * stride[1])
    return dx, np.einsum("nfijpq,ncij->cfpq", d, x), dout.sum(axis=(0, 2, 3))


@conv_transpose2d.mistake("broadcast-not-summed")
def leaves_the_batch_in_db(dout, cache):
    x, w, stride, padding = cache
    d = windows(pad(dout, padding), w, stride)
    return np.einsum("nfijpq,cfpq->ncij", d, w), np.einsum("nfijpq,ncij->cfpq", d, x), dout.sum(axis=(2, 3))


@conv_transpose2d.mistake("zero")
def starts_db_and_never_fills_it(dout, cache):
    x, w, stride, padding = cache
    d = windows(pad(dout, padding), w, stride)
    db = np.zeros(w.shape[1])
    return np.einsum("nfijpq,cfpq->ncij", d, w), np.einsum("nfijpq,ncij->cfpq", d, x), db


@conv_transpose2d.mistake("one-sample-only")
class LearnsFromTheLastSample(Function):
    def __init__(self, stride, padding):
        self.stride, self.padding = stride, padding

    def forward(self, x, w, b):
        y, self.cache = forward(x, w, b, self.stride, self.padding)
        return y

    def backward(self, dy):
        x, w, stride, padding = self.cache
        d = windows(pad(dy, padding), w, stride)
        dx = np.einsum("nfijpq,cfpq->ncij", d, w)
        for n in range(len(x)):
            dw = np.einsum("fijpq,cij->cfpq", d[n], x[n])
        return dx, dw, dy.sum(axis=(0, 2, 3))


def forward_that_overwrites(x, w, b, stride, padding):
    """Where kernels overlap, the last one stays."""
    N, C, H, W = x.shape
    _, F, KH, KW = w.shape
    sh, sw = stride
    full = np.zeros((N, F, (H - 1) * sh + KH, (W - 1) * sw + KW))
    for i in range(H):
        for j in range(W):
            full[:, :, i * sh:i * sh + KH, j * sw:j * sw + KW] = np.tensordot(x[:, :, i, j], w, axes=1)
    return cut(full, padding) + b[:, None, None], (x, w, stride, padding)


@conv_transpose2d.mistake("forward-differs", forward=forward_that_overwrites)
def sets_the_output_where_kernels_overlap(dout, cache):
    return by_windows_and_einsum(dout, cache)
