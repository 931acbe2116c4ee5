"""Homework 3, correct: loops wherever they are allowed, nothing clever."""
import math

import numpy as np


def output_size(size, kernel, stride=1, padding=0):
    whole = size + padding + padding
    if kernel > whole:
        raise ValueError("kernel " + str(kernel) + " is longer than the padded image, which has " + str(whole) + " pixels")
    return math.floor((whole - kernel) / stride) + 1


def pad(x, padding):
    N, C, H, W = x.shape
    y = np.zeros((N, C, H + 2 * padding, W + 2 * padding), dtype=x.dtype)
    for h in range(H):
        for v in range(W):
            y[:, :, h + padding, v + padding] = x[:, :, h, v]
    return y


def pad_backward(dy, padding):
    if padding == 0:
        return dy.copy()
    return dy[:, :, padding:-padding, padding:-padding]


def conv_loops_forward(x, w, b, stride=1, padding=0):
    N, C, H, W = x.shape
    F, _, KH, KW = w.shape
    OH = output_size(H, KH, stride, padding)
    OW = output_size(W, KW, stride, padding)
    padded = pad(x, padding)
    y = np.zeros((N, F, OH, OW))
    for n in range(N):
        for f in range(F):
            for i in range(OH):
                for j in range(OW):
                    total = b[f]
                    for c in range(C):
                        for k in range(KH):
                            for m in range(KW):
                                total = total + w[f, c, k, m] * padded[n, c, i * stride + k, j * stride + m]
                    y[n, f, i, j] = total
    return y, {"x": x, "padded": padded, "w": w, "stride": stride, "padding": padding}


def conv_loops_backward(dy, cache):
    padded, w, stride = cache["padded"], cache["w"], cache["stride"]
    N, F, OH, OW = dy.shape
    _, C, KH, KW = w.shape
    dpadded = np.zeros(padded.shape)
    dw = np.zeros(w.shape)
    db = np.zeros(F)
    for n in range(N):
        for f in range(F):
            for i in range(OH):
                for j in range(OW):
                    db[f] += dy[n, f, i, j]
                    for c in range(C):
                        for k in range(KH):
                            for m in range(KW):
                                dw[f, c, k, m] += dy[n, f, i, j] * padded[n, c, i * stride + k, j * stride + m]
                                dpadded[n, c, i * stride + k, j * stride + m] += dy[n, f, i, j] * w[f, c, k, m]
    return pad_backward(dpadded, cache["padding"]), dw, db


def im2col(x, KH, KW, stride=1, padding=0):
    N, C, H, W = x.shape
    OH = output_size(H, KH, stride, padding)
    OW = output_size(W, KW, stride, padding)
    padded = pad(x, padding)
    cols = np.zeros((C * KH * KW, N * OH * OW), dtype=x.dtype)
    column = 0
    for n in range(N):
        for i in range(OH):
            for j in range(OW):
                top, left = i * stride, j * stride
                cols[:, column] = padded[n, :, top:top + KH, left:left + KW].flatten()
                column += 1
    return cols


def col2im(cols, shape, KH, KW, stride=1, padding=0):
    N, C, H, W = shape
    OH = output_size(H, KH, stride, padding)
    OW = output_size(W, KW, stride, padding)
    padded = np.zeros((N, C, H + 2 * padding, W + 2 * padding), dtype=cols.dtype)
    column = 0
    for n in range(N):
        for i in range(OH):
            for j in range(OW):
                top, left = i * stride, j * stride
                padded[n, :, top:top + KH, left:left + KW] += cols[:, column].reshape(C, KH, KW)
                column += 1
    return pad_backward(padded, padding)


def conv_matrix_forward(x, w, b, stride=1, padding=0):
    N, C, H, W = x.shape
    F, _, KH, KW = w.shape
    OH = output_size(H, KH, stride, padding)
    OW = output_size(W, KW, stride, padding)
    cols = im2col(x, KH, KW, stride, padding)
    rows = w.reshape(F, C * KH * KW) @ cols
    rows = rows + b.reshape(F, 1)
    y = rows.reshape(F, N, OH, OW).swapaxes(0, 1)
    return y, [x, w, stride, padding]


def conv_matrix_backward(dy, cache):
    x, w, stride, padding = cache
    F, C, KH, KW = w.shape
    cols = im2col(x, KH, KW, stride, padding)  # again, so that they need not be kept
    rows = dy.swapaxes(0, 1).reshape(F, -1)
    dw = (rows @ cols.T).reshape(F, C, KH, KW)
    db = dy.sum(axis=(0, 2, 3))
    dcols = w.reshape(F, -1).T @ rows
    dx = col2im(dcols, x.shape, KH, KW, stride, padding)
    return dx, dw, db
