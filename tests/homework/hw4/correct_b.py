"""Homework 4, correct: views of windows, einsum, matrices."""
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def _view(x, KH, KW, stride):
    """(N, C, OH, OW, KH, KW), no copy."""
    return sliding_window_view(x, (KH, KW), axis=(2, 3))[:, :, ::stride, ::stride]


def _fold(windows, H, W, stride):
    """Adds windows (N, C, OH, OW, KH, KW) where they came from."""
    N, C, OH, OW, KH, KW = windows.shape
    x = np.zeros((N, C, H, W))
    for k, m in np.ndindex(KH, KW):
        x[:, :, k:k + OH * stride:stride, m:m + OW * stride:stride] += windows[..., k, m]
    return x


def max_pool_forward(x, KH, KW, stride):
    windows = _view(x, KH, KW, stride)
    y = windows.max(axis=(4, 5))
    return y, (x.shape[2:], stride, windows == y[..., None, None])


def max_pool_backward(dy, cache):
    """Equal ones share dy."""
    (H, W), stride, largest = cache
    share = largest / largest.sum(axis=(4, 5), keepdims=True)
    return _fold(share * dy[..., None, None], H, W, stride)


def _matrix(size, kernel, stride, padding):
    """(outputs, size): 1 where a window covers a pixel. Average pooling is such a matrix from the left and the right."""
    starts = np.arange((size + 2 * padding - kernel) // stride + 1)[:, None] * stride - padding
    pixels = np.arange(size)
    return ((starts <= pixels) & (pixels < starts + kernel)).astype(float)


def avg_pool_forward(x, KH, KW, stride, padding=0, count_include_pad=True):
    rows, columns = _matrix(x.shape[2], KH, stride, padding), _matrix(x.shape[3], KW, stride, padding)
    if count_include_pad:
        rows, columns = rows / KH, columns / KW
    else:
        rows, columns = rows / rows.sum(axis=1, keepdims=True), columns / columns.sum(axis=1, keepdims=True)
    return rows @ x @ columns.T, (rows, columns)


def avg_pool_backward(dy, cache):
    rows, columns = cache
    return np.einsum("ih,ncij,jv->nchv", rows, dy, columns)


def lrn_forward(x, n=5, k=2.0, alpha=1e-4, beta=0.75):
    c = np.arange(x.shape[1])
    near = (c >= c[:, None] - n // 2) & (c <= c[:, None] + (n - 1) // 2)  # [c, d]: does c's window hold d?
    s = k + alpha * np.einsum("cd,ndhw->nchw", near.astype(float), np.square(x))
    return x * np.power(s, -beta), dict(x=x, s=s, near=near.astype(float), alpha=alpha, beta=beta)


def lrn_backward(dy, cache):
    x, s, near, alpha, beta = (cache[key] for key in ("x", "s", "near", "alpha", "beta"))
    direct = dy * s**-beta
    return direct - 2 * alpha * beta * x * np.einsum("cd,nchw->ndhw", near, direct * x / s)


def _rows(x):
    """(N, C, H, W) -> (C, N H W)"""
    return np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)


def _images(rows, shape):
    N, C, H, W = shape
    return np.moveaxis(rows.reshape(C, N, H, W), 0, 1)


def batch_norm_forward(x, w, b, running, momentum=0.1, eps=1e-5):
    rows = _rows(x)
    mean, var = rows.mean(1, keepdims=True), rows.var(1, keepdims=True)
    running.update(mean=running["mean"] + momentum * (mean[:, 0] - running["mean"]),
                   var=running["var"] + momentum * (rows.var(1, ddof=1) - running["var"]))
    rows = (rows - mean) / np.sqrt(var + eps)
    return _images(w[:, None] * rows + b[:, None], x.shape), (rows, (var + eps) ** -0.5, w)


def batch_norm_backward(dy, cache):
    """Step by step through the graph: x - mean, its square's mean, the root, the quotient."""
    x_hat, inverse, w = cache
    rows, M = _rows(dy), x_hat.shape[1]
    dx_hat = rows * w[:, None]
    centred = x_hat / inverse
    d_inverse = (dx_hat * centred).sum(1, keepdims=True)
    d_var = -0.5 * inverse**3 * d_inverse
    d_centred = dx_hat * inverse + 2 / M * centred * d_var
    drows = d_centred - d_centred.mean(1, keepdims=True)
    return _images(drows, dy.shape), np.einsum("cm,cm->c", rows, x_hat), np.einsum("cm->c", rows)


def batch_norm_eval_forward(x, w, b, running, eps=1e-5):
    scale = w / np.sqrt(running["var"] + eps)
    shift = b - running["mean"] * scale
    return np.einsum("nchw,c->nchw", x, scale) + shift[:, None, None], (x, scale, dict(running), eps)


def batch_norm_eval_backward(dy, cache):
    x, scale, running, eps = cache
    db = np.einsum("nchw->c", dy)
    dw = (np.einsum("nchw,nchw->c", dy, x) - running["mean"] * db) / np.sqrt(running["var"] + eps)
    return np.einsum("nchw,c->nchw", dy, scale), dw, db


def dropout_forward(x, p, seed, training=True):
    keep = np.random.default_rng(seed).binomial(1, 1 - p, x.shape) if training else np.ones(x.shape)
    scale = 1 / (1 - p) if training else 1
    return scale * keep * x, (scale, keep)


def dropout_backward(dy, cache):
    scale, keep = cache
    return np.where(keep, scale * dy, 0)
