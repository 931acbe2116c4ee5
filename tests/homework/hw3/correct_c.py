"""Homework 3, correct: other legal choices. Closures and objects in the cache, np.add.at, loops over images and the kernel."""
from types import SimpleNamespace

import numpy as np


def output_size(size, kernel, stride=1, padding=0):
    total = size + 2 * padding
    starts = range(0, total - kernel + 1, stride)
    if len(starts) == 0:
        raise ValueError(f"no room: the kernel has {kernel} pixels, the padded image {total}")
    return np.int64(len(starts))


def pad(x, padding):
    if padding == 0:
        return x  # the same array: nobody writes into it
    N, C, H, W = x.shape
    rows, columns = np.zeros((N, C, padding, W), x.dtype), np.zeros((N, C, H + 2 * padding, padding), x.dtype)
    tall = np.concatenate([rows, x, rows], axis=2)
    return np.concatenate([columns, tall, columns], axis=3)


def pad_backward(dy, padding):
    inside = slice(padding, -padding or None)
    return np.ascontiguousarray(dy[:, :, inside, inside])


def conv_loops_forward(x, w, b, stride=1, padding=0):
    """The window's place in the kernel outside, whole images inside."""
    F, _, KH, KW = w.shape
    OH, OW = output_size(x.shape[2], KH, stride, padding), output_size(x.shape[3], KW, stride, padding)
    padded = pad(x, padding)
    y = np.empty((len(x), F, OH, OW), np.result_type(x, w))
    y[...] = b.reshape(1, -1, 1, 1)
    for k in range(KH):
        for m in range(KW):
            rows = slice(k, k + (OH - 1) * stride + 1, stride)
            columns = slice(m, m + (OW - 1) * stride + 1, stride)
            y += np.tensordot(padded[:, :, rows, columns], w[:, :, k, m], axes=([1], [1])).transpose(0, 3, 1, 2)

    def backward(dy):
        dpadded, dw = np.zeros(padded.shape), np.zeros(w.shape)
        for k in range(KH):
            for m in range(KW):
                rows = slice(k, k + (OH - 1) * stride + 1, stride)
                columns = slice(m, m + (OW - 1) * stride + 1, stride)
                dw[:, :, k, m] = np.tensordot(dy, padded[:, :, rows, columns], axes=([0, 2, 3], [0, 2, 3]))
                dpadded[:, :, rows, columns] += np.tensordot(dy, w[:, :, k, m], axes=([1], [0])).transpose(0, 3, 1, 2)
        return [pad_backward(dpadded, padding), dw, dy.sum((0, 2, 3))]

    return y, backward


def conv_loops_backward(dy, cache):
    return cache(dy)


def _indices(C, H, W, KH, KW, stride, padding):
    """channel (C KH KW, 1), row and column (C KH KW, OH OW) of every place of every window in the padded image."""
    OH, OW = output_size(H, KH, stride, padding), output_size(W, KW, stride, padding)
    c, k, m = (a.reshape(-1, 1) for a in np.indices((C, KH, KW)))
    i, j = (a.reshape(1, -1) for a in np.indices((OH, OW)))
    return c, k + stride * i, m + stride * j


def im2col(x, KH, KW, stride=1, padding=0):
    N, C, H, W = x.shape
    c, rows, columns = _indices(C, H, W, KH, KW, stride, padding)
    padded = np.pad(x, ((0,), (0,), (padding,), (padding,)))
    cols = padded[:, c, rows, columns]  # (N, C KH KW, OH OW)
    return cols.transpose(1, 0, 2).reshape(cols.shape[1], -1)


def col2im(cols, shape, KH, KW, stride=1, padding=0):
    N, C, H, W = shape
    c, rows, columns = _indices(C, H, W, KH, KW, stride, padding)
    padded = np.zeros((N, C, H + 2 * padding, W + 2 * padding), cols.dtype)
    np.add.at(padded, (slice(None), c, rows, columns), cols.reshape(cols.shape[0], N, -1).transpose(1, 0, 2))
    return padded[:, :, padding:padding + H, padding:padding + W].copy()


def conv_matrix_forward(x, w, b, stride=1, padding=0):
    KH, KW = w.shape[2:]
    cols = im2col(x, KH, KW, stride, padding)
    OH = output_size(x.shape[2], KH, stride, padding)
    y = (cols.T @ w.reshape(len(w), -1).T + b).reshape(len(x), OH, -1, len(w))  # (N, OH, OW, F)
    return y.transpose(0, 3, 1, 2), SimpleNamespace(cols=cols, x=x, w=w, options=(KH, KW, stride, padding))


def conv_matrix_backward(dy, saved):
    pixels = dy.transpose(0, 2, 3, 1).reshape(-1, dy.shape[1])  # (N OH OW, F)
    dw = (saved.cols @ pixels).T.reshape(saved.w.shape)
    dcols = (pixels @ saved.w.reshape(len(saved.w), -1)).T
    return col2im(dcols, saved.x.shape, *saved.options), dw, pixels.sum(0)
