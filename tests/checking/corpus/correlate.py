"""A signal correlated with a kernel: out[n, i] is the sum over k of x[n, i + k] * w[k]; same with padding and stride."""
import numpy as np
from corpus.case import Operation
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from minidl import Function

# without padding


def samples(rng):
    for n, length, k in ((3, 7, 4), (2, 9, 3), (4, 6, 6), (1, 5, 2)):
        yield (rng.normal(size=(n, length)), rng.normal(size=k)), {}


def reference(x, w):
    return np.array([[sum(row[i + k] * w[k] for k in range(len(w))) for i in range(len(row) - len(w) + 1)] for row in x])


def forward(x, w):
    return sliding_window_view(x, len(w), axis=1) @ w, (x, w)


def forward_strided(x, w):
    n, length = x.shape
    windows = as_strided(x, (n, length - len(w) + 1, len(w)), (x.strides[0], x.strides[1], x.strides[1]))
    return np.dot(windows, w), (windows, w)


def full(dout, w):
    """Every row of dout convolved with w."""
    return np.stack([np.convolve(row, w) for row in dout])


correlate = Operation("correlate", samples, reference, forward)


@correlate.mistake("flipped")
def kernel_not_turned(dout, cache):
    """np.convolve turns the kernel itself; turned before, it is not turned at all."""
    x, w = cache
    return full(dout, w[::-1]), np.einsum("nik,ni->k", sliding_window_view(x, len(w), axis=1), dout)


@correlate.mistake("flipped")
def kernel_gradient_reversed(dout, cache):
    x, w = cache
    return full(dout, w), np.einsum("nik,ni->k", sliding_window_view(x, len(w), axis=1), dout)[::-1]


@correlate.mistake("flipped")
def convolves_for_the_kernel(dout, cache):
    """np.convolve where np.correlate is needed."""
    x, w = cache
    dw = sum(np.convolve(row[::-1], up, mode="valid") for row, up in zip(x, dout))
    return full(dout, w), dw


@correlate.mistake("overwrites-overlap")
def windows_overwrite_each_other(dout, cache):
    x, w = cache
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for i in range(dout.shape[1]):
        dx[:, i:i + len(w)] = dout[:, [i]] * w
        dw += dout[:, i] @ x[:, i:i + len(w)]
    return dx, dw


@correlate.mistake("overwrites-overlap")
def kernel_keeps_the_last_position(dout, cache):
    x, w = cache
    for i in range(dout.shape[1]):
        dw = dout[:, i] @ x[:, i:i + len(w)]
    return full(dout, w), dw


@correlate.mistake("overwrites-overlap", forward=forward_strided)
def adds_into_overlapping_windows_at_once(dout, cache):
    """+= with an index array adds only one of the shares that meet at an element."""
    windows, w = cache
    n, count, k = windows.shape
    dx = np.zeros((n, count + k - 1))
    dx[:, np.arange(count)[:, None] + np.arange(k)] += dout[..., None] * w
    return dx, np.einsum("nik,ni->k", windows, dout)


@correlate.mistake("one-sample-only")
def kernel_sees_the_last_signal(dout, cache):
    x, w = cache
    for row, up in zip(x, dout):
        dw = np.correlate(row, up, mode="valid")
    return full(dout, w), dw


@correlate.mistake("broadcast-not-summed")
def a_kernel_gradient_for_every_signal(dout, cache):
    x, w = cache
    return full(dout, w), np.einsum("nik,ni->nk", sliding_window_view(x, len(w), axis=1), dout)


@correlate.mistake("border")
def starts_one_too_late(dout, cache):
    x, w = cache
    dx = full(np.pad(dout, [(0, 0), (1, 0)]), w)[:, :x.shape[1]]
    return dx, np.einsum("nik,ni->k", sliding_window_view(x, len(w), axis=1), dout)


@correlate.correct()
def convolution_and_correlation(dout, cache):
    x, w = cache
    return full(dout, w), sum(np.correlate(row, up, mode="valid") for row, up in zip(x, dout))


@correlate.correct()
def loops_that_add(dout, cache):
    x, w = cache
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for n, i in np.ndindex(dout.shape):
        for k in range(len(w)):
            dx[n, i + k] += dout[n, i] * w[k]
            dw[k] += dout[n, i] * x[n, i + k]
    return dx, dw


@correlate.correct(forward=forward_strided)
def scatters_the_windows(dout, cache):
    windows, w = cache
    n, count, k = windows.shape
    dx = np.zeros((n, count + k - 1))
    np.add.at(dx, (slice(None), np.arange(count)[:, None] + np.arange(k)), dout[..., None] * w)
    return [dx, np.einsum("nik,ni->k", windows, dout)]


@correlate.correct()
class Correlate(Function):
    """By the matrix that holds the kernel once in every row, one place further each time."""

    def forward(self, x, w):
        self.x, self.w = x, w
        self.band = sum(v * np.eye(x.shape[1], x.shape[1] - len(w) + 1, -k) for k, v in enumerate(w))
        return x @ self.band

    def backward(self, dy):
        by_band = self.x.T @ dy
        return dy @ self.band.T, np.array([np.trace(by_band[k:]) for k in range(len(self.w))])


# with padding and stride

def strided_samples(rng):
    for n, length, k, stride, padding in ((3, 8, 4, 2, 1), (2, 9, 3, 2, 2), (4, 7, 2, 3, 0), (1, 5, 3, 1, 1)):
        yield (rng.normal(size=(n, length)), rng.normal(size=k)), {"stride": stride, "padding": padding}


def strided_reference(x, w, stride, padding):
    wide = np.concatenate([np.zeros((len(x), padding)), x, np.zeros((len(x), padding))], axis=1)
    return reference(wide, w)[:, ::stride]


def strided_forward(x, w, stride, padding):
    wide = np.pad(x, [(0, 0), (padding, padding)])
    count = (wide.shape[1] - len(w)) // stride + 1
    out = np.zeros((len(x), count))
    for i in range(count):
        out[:, i] = wide[:, i * stride:i * stride + len(w)] @ w
    return out, (x, wide, w, stride, padding)


strided = Operation("correlate_strided", strided_samples, strided_reference, strided_forward)


def wide_gradients(dout, cache, step=None):
    x, wide, w, stride, padding = cache
    dwide, dw = np.zeros_like(wide), np.zeros_like(w)
    for i in range(dout.shape[1]):
        at = slice(i * (step or stride), i * (step or stride) + len(w))
        dwide[:, at] += dout[:, [i]] * w
        dw += dout[:, i] @ wide[:, at]
    return dwide, dw


@strided.mistake("border")
def leaves_the_padding_on(dout, cache):
    return wide_gradients(dout, cache)


@strided.mistake("border")
def cuts_all_padding_at_the_end(dout, cache):
    dwide, dw = wide_gradients(dout, cache)
    return dwide[:, :cache[0].shape[1]], dw


@strided.mistake("border")
def forgets_the_padding(dout, cache):
    """Adds to x's places as if window 0 started at x[0]; what falls off the end is lost."""
    x, wide, w, stride, padding = cache
    dx = np.zeros_like(x)
    for i in range(dout.shape[1]):
        part = dx[:, i * stride:i * stride + len(w)]
        part += (dout[:, [i]] * w)[:, :part.shape[1]]
    return dx, wide_gradients(dout, cache)[1]


@strided.mistake("unknown")
def forgets_the_stride(dout, cache):
    x, wide, w, stride, padding = cache
    dwide, dw = wide_gradients(dout, cache, step=1)
    return dwide[:, padding:padding + x.shape[1]], dw


@strided.correct()
def adds_and_cuts(dout, cache):
    x, wide, w, stride, padding = cache
    dwide, dw = wide_gradients(dout, cache)
    return dwide[:, padding:padding + x.shape[1]], dw


@strided.correct()
def spreads_dout_and_convolves(dout, cache):
    x, wide, w, stride, padding = cache
    spread = np.zeros((len(x), wide.shape[1] - len(w) + 1))
    spread[:, ::stride] = dout
    dw = sliding_window_view(wide, len(w), axis=1)
    return full(spread, w)[:, padding:padding + x.shape[1]], np.tensordot(spread, dw, axes=2)
