"""Homework 3, correct: views of windows and einsum."""
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import minidl


def output_size(size, kernel, stride=1, padding=0):
    windows = (size + 2 * padding - kernel + stride) // stride
    if kernel > size + 2 * padding:
        raise ValueError(f"kernel={kernel} > size + 2 * padding = {size + 2 * padding}")
    return windows


def pad(x, padding):
    xp = minidl.array_module(x)
    return xp.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])


def pad_backward(dy, p):
    H, W = dy.shape[2] - 2 * p, dy.shape[3] - 2 * p
    return dy[..., p:p + H, p:p + W]


def _windows(x, KH, KW, stride):
    """(N, C, OH, OW, KH, KW), a view."""
    xp = minidl.array_module(x)
    return xp.lib.stride_tricks.sliding_window_view(x, (KH, KW), axis=(2, 3))[:, :, ::stride, ::stride]


def _spread(dy, stride, KH, KW, height, width):
    """dy with stride - 1 zeros between its pixels, and zeros around, as a full correlation needs them."""
    N, F, OH, OW = dy.shape
    y = np.zeros((N, F, height + KH - 1, width + KW - 1))
    y[:, :, KH - 1:KH - 1 + OH * stride:stride, KW - 1:KW - 1 + OW * stride:stride][:, :, :OH, :OW] = dy
    return y


def conv_loops_forward(x, w, b, stride=1, padding=0):
    padded = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    windows = sliding_window_view(padded, w.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
    y = np.einsum("ncijkm,fckm->nfij", windows, w) + b[:, None, None]
    return y, (windows, padded.shape, w, stride, padding)


def conv_loops_backward(dy, cache):
    windows, (N, C, height, width), w, stride, padding = cache
    KH, KW = w.shape[2:]
    dw = np.einsum("nfij,ncijkm->fckm", dy, windows)
    # the gradient of the image: every pixel meets the kernel turned by 180 degrees
    around = sliding_window_view(_spread(dy, stride, KH, KW, height, width), (KH, KW), axis=(2, 3))
    dpadded = np.einsum("nfhvkm,fckm->nchv", around, w[:, :, ::-1, ::-1])
    return dpadded[:, :, padding:height - padding, padding:width - padding], dw, np.einsum("nfij->f", dy)


def im2col(x, KH, KW, stride=1, padding=0):
    windows = _windows(pad(x, padding), KH, KW, stride)
    N, C, OH, OW = windows.shape[:4]
    return windows.transpose(1, 4, 5, 0, 2, 3).reshape(C * KH * KW, N * OH * OW)


def _numbers(shape, KH, KW, stride, padding):
    """im2col of an image whose pixels are numbered: which pixel each place of the columns came from, -1 for the border."""
    N, C, H, W = shape
    numbered = np.pad(np.arange(N * C * H * W).reshape(shape), [(0, 0), (0, 0), (padding, padding), (padding, padding)],
                      constant_values=-1)
    return im2col(numbered, KH, KW, stride, 0)


def col2im(cols, shape, KH, KW, stride=1, padding=0):
    numbers = _numbers(shape, KH, KW, stride, padding).ravel()
    inside = numbers >= 0
    sums = np.bincount(numbers[inside], weights=np.asarray(cols).ravel()[inside], minlength=int(np.prod(shape)))
    return sums.reshape(shape).astype(cols.dtype)


def conv_matrix_forward(x, w, b, stride=1, padding=0):
    N, H, (F, _, KH, KW) = x.shape[0], x.shape[2], w.shape
    xp = minidl.array_module(x)
    cols = im2col(x, KH, KW, stride, padding)
    y = xp.tensordot(w.reshape(F, -1), cols, axes=1).reshape(F, N, output_size(H, KH, stride, padding), -1)
    y += b[:, None, None, None]
    return xp.ascontiguousarray(xp.moveaxis(y, 0, 1)), (x.shape, cols, w, (stride, padding))


def conv_matrix_backward(dy, cache):
    shape, cols, w, options = cache
    xp = minidl.array_module(dy)
    F, C, KH, KW = w.shape
    flat = xp.moveaxis(dy, 1, 0).reshape(F, -1)
    dw = xp.einsum("fp,rp->fr", flat, cols).reshape(w.shape)
    dcols = xp.einsum("fr,fp->rp", w.reshape(F, -1), flat)
    return col2im(dcols, shape, KH, KW, *options), dw, flat @ xp.ones(flat.shape[1], flat.dtype)
