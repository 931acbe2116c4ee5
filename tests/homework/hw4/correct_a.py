"""Homework 4, correct: loops over every index, nothing clever."""
import math

import numpy as np


def max_pool_forward(x, KH, KW, stride):
    N, C, H, W = x.shape
    OH = (H - KH) // stride + 1
    OW = (W - KW) // stride + 1
    y = np.zeros((N, C, OH, OW), dtype=x.dtype)
    for n in range(N):
        for c in range(C):
            for i in range(OH):
                for j in range(OW):
                    largest = -math.inf
                    for k in range(KH):
                        for m in range(KW):
                            if x[n, c, i * stride + k, j * stride + m] > largest:
                                largest = x[n, c, i * stride + k, j * stride + m]
                    y[n, c, i, j] = largest
    return y, (x, y, KH, KW, stride)


def max_pool_backward(dy, cache):
    x, y, KH, KW, stride = cache
    dx = np.zeros(x.shape)
    for n in range(dy.shape[0]):
        for c in range(dy.shape[1]):
            for i in range(dy.shape[2]):
                for j in range(dy.shape[3]):
                    found = False
                    for k in range(KH):
                        for m in range(KW):
                            h, v = i * stride + k, j * stride + m
                            if not found and x[n, c, h, v] == y[n, c, i, j]:
                                dx[n, c, h, v] += dy[n, c, i, j]
                                found = True
    return dx


def avg_pool_forward(x, KH, KW, stride, padding=0, count_include_pad=True):
    N, C, H, W = x.shape
    OH = (H + 2 * padding - KH) // stride + 1
    OW = (W + 2 * padding - KW) // stride + 1
    y = np.zeros((N, C, OH, OW))
    windows = {}
    for i in range(OH):
        for j in range(OW):
            pixels = []
            for k in range(KH):
                for m in range(KW):
                    h = i * stride + k - padding
                    v = j * stride + m - padding
                    if h >= 0 and h < H and v >= 0 and v < W:
                        pixels.append((h, v))
            divisor = KH * KW
            if not count_include_pad:
                divisor = len(pixels)
            windows[i, j] = pixels, divisor
            for h, v in pixels:
                y[:, :, i, j] += x[:, :, h, v] / divisor
    return y, {"shape": x.shape, "windows": windows}


def avg_pool_backward(dy, cache):
    dx = np.zeros(cache["shape"])
    for (i, j), (pixels, divisor) in cache["windows"].items():
        for h, v in pixels:
            dx[:, :, h, v] += dy[:, :, i, j] / divisor
    return dx


def lrn_forward(x, n=5, k=2.0, alpha=1e-4, beta=0.75):
    C = x.shape[1]
    s = np.zeros(x.shape)
    for c in range(C):
        s[:, c] = k
        for d in range(c - n // 2, c + (n - 1) // 2 + 1):
            if d >= 0 and d < C:
                s[:, c] = s[:, c] + alpha * x[:, d] * x[:, d]
    y = x / s**beta
    return y, (x, y, s, n, alpha, beta)


def lrn_backward(dy, cache):
    x, y, s, n, alpha, beta = cache
    C = x.shape[1]
    dx = np.zeros(x.shape)
    for c in range(C):
        dx[:, c] += dy[:, c] / s[:, c] ** beta
        for d in range(c - n // 2, c + (n - 1) // 2 + 1):
            if d >= 0 and d < C:
                dx[:, d] -= dy[:, c] * y[:, c] / s[:, c] * 2 * alpha * beta * x[:, d]
    return dx


def batch_norm_forward(x, w, b, running, momentum=0.1, eps=1e-5):
    N, C, H, W = x.shape
    M = N * H * W
    y = np.zeros(x.shape)
    x_hat = np.zeros(x.shape)
    std = np.zeros(C)
    for c in range(C):
        mean = x[:, c].sum() / M
        var = ((x[:, c] - mean) ** 2).sum() / M
        std[c] = math.sqrt(var + eps)
        x_hat[:, c] = (x[:, c] - mean) / std[c]
        y[:, c] = w[c] * x_hat[:, c] + b[c]
        running["mean"][c] = (1 - momentum) * running["mean"][c] + momentum * mean
        running["var"][c] = (1 - momentum) * running["var"][c] + momentum * var * M / (M - 1)
    return y, (x_hat, w, std)


def batch_norm_backward(dy, cache):
    x_hat, w, std = cache
    N, C, H, W = dy.shape
    M = N * H * W
    dx, dw, db = np.zeros(dy.shape), np.zeros(C), np.zeros(C)
    for c in range(C):
        db[c] = dy[:, c].sum()
        dw[c] = (dy[:, c] * x_hat[:, c]).sum()
        dx[:, c] = w[c] / std[c] * (dy[:, c] - db[c] / M - x_hat[:, c] * dw[c] / M)
    return dx, dw, db


def batch_norm_eval_forward(x, w, b, running, eps=1e-5):
    y, x_hat = np.zeros(x.shape), np.zeros(x.shape)
    std = np.sqrt(running["var"] + eps)
    for c in range(x.shape[1]):
        x_hat[:, c] = (x[:, c] - running["mean"][c]) / std[c]
        y[:, c] = w[c] * x_hat[:, c] + b[c]
    return y, (x_hat, w, std)


def batch_norm_eval_backward(dy, cache):
    x_hat, w, std = cache
    C = dy.shape[1]
    dx, dw, db = np.zeros(dy.shape), np.zeros(C), np.zeros(C)
    for c in range(C):
        db[c] = dy[:, c].sum()
        dw[c] = (dy[:, c] * x_hat[:, c]).sum()
        dx[:, c] = dy[:, c] * w[c] / std[c]
    return dx, dw, db


def dropout_forward(x, p, seed, training=True):
    if not training:
        return x.copy(), np.ones(x.shape)
    rng = np.random.default_rng(seed)
    mask = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        if rng.random() >= p:
            mask[index] = 1 / (1 - p)
    return x * mask, mask


def dropout_backward(dy, cache):
    return dy * cache
