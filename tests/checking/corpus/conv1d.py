"""Causal convolution in one dimension (zeros stand in front: no output sees what comes later) and its backward."""
import numpy as np
from corpus.case import Operation
from numpy.lib.stride_tricks import sliding_window_view

from minidl import Function


def conv1d_samples(rng):
    def draw(*shape):
        return rng.standard_normal(shape)
    yield (draw(2, 3, 7), draw(5, 3, 4), draw(5)), {"stride": 1}
    yield (draw(3, 2, 8), draw(4, 2, 3), draw(4)), {"stride": 2}
    yield (draw(2, 3, 6), draw(3, 3, 3), draw(3)), {"stride": 1}
    yield (draw(1, 2, 9), draw(3, 2, 2), draw(3)), {"stride": 1}


def conv1d_reference(x, w, b, stride):
    N, C, T = x.shape
    F, _, K = w.shape
    y = np.zeros((N, F, (T - 1) // stride + 1))
    for t in range(y.shape[2]):
        for k in range(K):
            s = t * stride + k - (K - 1)
            if s >= 0:
                y[:, :, t] += x[:, :, s] @ w[:, :, k].T
    return y + b[:, None]


def conv1d_forward(x, w, b, stride):
    K = w.shape[2]
    xp = np.pad(x, ((0, 0), (0, 0), (K - 1, 0)))
    windows = sliding_window_view(xp, K, axis=2)[:, :, ::stride]
    return np.einsum("nctk,fck->nft", windows, w) + b[:, None], (xp, windows, w, stride)


def conv1d_gradients(dout, cache):
    """dx with its padding, dw and db."""
    xp, windows, w, stride = cache
    K = w.shape[2]
    dxp = np.zeros_like(xp)
    for t in range(dout.shape[2]):
        dxp[:, :, t * stride:t * stride + K] += np.tensordot(dout[:, :, t], w, axes=1)
    return dxp, np.einsum("nctk,nft->fck", windows, dout), dout.sum(axis=(0, 2))


conv1d = Operation("conv1d_causal", conv1d_samples, conv1d_reference, conv1d_forward)


@conv1d.correct()
def cuts_the_zeros_in_front(dout, cache):
    dxp, dw, db = conv1d_gradients(dout, cache)
    return dxp[:, :, cache[2].shape[2] - 1:], dw, db


@conv1d.correct()
def turned_kernel_over_spread_dout(dout, cache):
    xp, windows, w, stride = cache
    K = w.shape[2]
    T = xp.shape[2] - K + 1
    spread = np.zeros((*dout.shape[:2], T + K - 1))
    spread[:, :, :T:stride] = dout
    dx = np.einsum("nftk,fck->nct", sliding_window_view(spread, K, axis=2), w[:, :, ::-1])
    return dx, np.einsum("nctk,nft->fck", windows, dout), np.einsum("nft->f", dout)


@conv1d.mistake("border")
def cuts_behind_instead_of_in_front(dout, cache):
    dxp, dw, db = conv1d_gradients(dout, cache)
    return dxp[:, :, :dxp.shape[2] - cache[2].shape[2] + 1], dw, db


@conv1d.mistake("border")
def cuts_half_on_both_sides(dout, cache):
    """As if the padding were that of a centred convolution."""
    dxp, dw, db = conv1d_gradients(dout, cache)
    K = cache[2].shape[2]
    front = (K - 1) // 2
    return dxp[:, :, front:front + dxp.shape[2] - K + 1], dw, db


@conv1d.mistake("flipped")
def forgets_to_turn_the_kernel(dout, cache):
    xp, windows, w, stride = cache
    K = w.shape[2]
    T = xp.shape[2] - K + 1
    spread = np.zeros((*dout.shape[:2], T + K - 1))
    spread[:, :, :T:stride] = dout
    _, dw, db = conv1d_gradients(dout, cache)
    return np.einsum("nftk,fck->nct", sliding_window_view(spread, K, axis=2), w), dw, db


@conv1d.mistake("flipped")
def returns_time_backwards(dout, cache):
    dxp, dw, db = conv1d_gradients(dout, cache)
    return dxp[:, :, cache[2].shape[2] - 1:][:, :, ::-1], dw, db


@conv1d.mistake("overwrites-overlap")
def sets_slices_of_time(dout, cache):
    xp, windows, w, stride = cache
    K = w.shape[2]
    _, dw, db = conv1d_gradients(dout, cache)
    dxp = np.zeros_like(xp)
    for t in range(dout.shape[2]):
        dxp[:, :, t * stride:t * stride + K] = np.tensordot(dout[:, :, t], w, axes=1)
    return dxp[:, :, K - 1:], dw, db


@conv1d.mistake("transposed")
def leaves_filters_and_channels_exchanged(dout, cache):
    dxp, dw, db = conv1d_gradients(dout, cache)
    return dxp[:, :, cache[2].shape[2] - 1:], dw.transpose(1, 0, 2), db


@conv1d.mistake("broadcast-not-summed")
def sums_the_bias_over_time_only(dout, cache):
    dxp, dw, _ = conv1d_gradients(dout, cache)
    return dxp[:, :, cache[2].shape[2] - 1:], dw, dout.sum(axis=-1)


@conv1d.mistake("one-sample-only")
class LearnsFromTheFirstSequence(Function):
    def __init__(self, stride):
        self.stride = stride

    def forward(self, x, w, b):
        y, self.cache = conv1d_forward(x, w, b, self.stride)
        return y

    def backward(self, dy):
        dxp, _, db = conv1d_gradients(dy, self.cache)
        _, windows, w, _ = self.cache
        return dxp[:, :, w.shape[2] - 1:], np.einsum("ctk,ft->fck", windows[0], dy[0]), db
