"""Homework 4: pooling and normalisation.

The small layers between the convolutions: max and average pooling, AlexNet's local response normalisation, batch
normalisation and dropout. Their forward passes are a few lines. Their gradients are where people slip, because an input
often counts in several outputs: windows overlap, and a mean belongs to everybody. The lesson to read first is lesson 2
(`lessons/02_convolution_as_one_matrix_product.py`), whose last slip is at home in max pooling. Read `minidl/ops/` only
afterwards.

All images are x (N, C, H, W): image, channel, height, width. Windows are KH high and KW wide.

Layers come in pairs: `forward(...)` returns (y, cache), where cache is anything that you want back later, and
`backward(dy, cache)` returns the gradients. `dy` has y's shape: it says how much the loss grows per unit of y. Nothing may
be written into an array that was handed to you, dy included.

Check your work as often as you like:
    minidl homework check hw4_pooling_and_norm.py
"""
import numpy as np


#: task max_pool | 6 points | 35 minutes
#: hint One window is an argument among KH * KW pixels that only one of them wins. Who gets the window's dy? What if a pixel
#:      wins in two windows?
#: hint Loop over (i, j) and treat all images and channels at once: window = x[:, :, rows, columns].reshape(N, C, KH * KW).
#:      argmax(axis=2) names the winner (one of them, if several are equal), and you will want it again in backward.
#: hint k, m = np.divmod(winner, KW) is its place in the window. With n, c = np.ogrid[:N, :C], backward is
#:      dx[n, c, i * stride + k, j * stride + m] += dy[:, :, i, j] for every (i, j).
def max_pool_forward(x, KH, KW, stride):
    """y[n, c, i, j] = the largest x[n, c, h, v] with i * stride <= h < i * stride + KH and j * stride <= v < j * stride + KW

    x (N, C, H, W) -> y (N, C, OH, OW), where OH = (H - KH) // stride + 1 and OW = (W - KW) // stride + 1: what the last
    window does not reach is left out. There is no padding; KH <= H and KW <= W. Windows overlap where stride is smaller
    than the kernel, as in AlexNet. Pixels may well be negative. Returns (y, cache).
    """
    #: solution
    N, C, H, W = x.shape
    OH, OW = (H - KH) // stride + 1, (W - KW) // stride + 1
    y, winner = np.empty((N, C, OH, OW), x.dtype), np.empty((N, C, OH, OW), int)
    for i, j in np.ndindex(OH, OW):
        rows, columns = slice(i * stride, i * stride + KH), slice(j * stride, j * stride + KW)
        window = x[:, :, rows, columns].reshape(N, C, KH * KW)
        winner[:, :, i, j] = window.argmax(axis=2)
        y[:, :, i, j] = window.max(axis=2)
    return y, (x.shape, winner, KW, stride)
    #: end


def max_pool_backward(dy, cache):
    """Returns dx (N, C, H, W).

    Each window hands its dy to its largest pixel. If several are equally large, you may choose one or split dy among
    them, but all in all they get exactly dy, once. A pixel that is largest in several windows gets the sum.
    """
    #: solution
    shape, winner, KW, stride = cache
    dx = np.zeros(shape, dy.dtype)
    n, c = np.ogrid[: shape[0], : shape[1]]
    for i, j in np.ndindex(dy.shape[2:]):
        k, m = np.divmod(winner[:, :, i, j], KW)  # (N, C) each: row and column in the window
        dx[n, c, i * stride + k, j * stride + m] += dy[:, :, i, j]
    return dx
    #: end


#: task avg_pool | 4 points | 25 minutes
#: hint Put the border of zeros around x first. How many numbers does a window add up, and by how many is it divided in
#:      either case? Do the zeros change the sum?
#: hint For the divisor without padding, pad np.ones((H, W)) with zeros too and add up each window: that counts the pixels.
#:      Keep the divisors for backward.
#: hint Backward: every place of window (i, j) gets dy[:, :, i, j] / count[i, j], added with += to a padded dx, whose border
#:      you cut off at the end: dpadded[:, :, padding : padding + H, padding : padding + W].
def avg_pool_forward(x, KH, KW, stride, padding=0, count_include_pad=True):
    """y[n, c, i, j] = the average over window (i, j) of x with `padding` zeros on all four sides

    x (N, C, H, W) -> y (N, C, OH, OW), where OH = (H + 2 * padding - KH) // stride + 1, and OW likewise. The sum over the
    window is divided by KH * KW, zeros of the border included; with count_include_pad=False by the number of the
    window's places that lie inside the image (padding is at most half the kernel, so there is one at least).
    Returns (y, cache).
    """
    #: solution
    N, C, H, W = x.shape
    OH, OW = (H + 2 * padding - KH) // stride + 1, (W + 2 * padding - KW) // stride + 1
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    inside = np.pad(np.ones((H, W)), padding)
    y, count = np.empty((N, C, OH, OW), x.dtype), np.empty((OH, OW))
    for i, j in np.ndindex(OH, OW):
        rows, columns = slice(i * stride, i * stride + KH), slice(j * stride, j * stride + KW)
        count[i, j] = KH * KW if count_include_pad else inside[rows, columns].sum()
        y[:, :, i, j] = padded[:, :, rows, columns].sum(axis=(2, 3)) / count[i, j]
    return y, (x.shape, count, KH, KW, stride, padding)
    #: end


def avg_pool_backward(dy, cache):
    """Returns dx (N, C, H, W)."""
    #: solution
    (N, C, H, W), count, KH, KW, stride, padding = cache
    dpadded = np.zeros((N, C, H + 2 * padding, W + 2 * padding), dy.dtype)
    share = dy / count  # what each place of a window gets
    for i, j in np.ndindex(count.shape):
        rows, columns = slice(i * stride, i * stride + KH), slice(j * stride, j * stride + KW)
        dpadded[:, :, rows, columns] += share[:, :, i, j, None, None]
    return dpadded[:, :, padding : padding + H, padding : padding + W]
    #: end


#: task lrn | 5 points | 35 minutes
#: hint Write y[c] = x[c] * s[c]**-beta and ask where x[c] occurs. Once in front, and in the sum s of every channel that has c
#:      in its window, its own included.
#: hint Loop over channels: first, last = max(0, c - n // 2), c + (n - 1) // 2 + 1 and s[:, c] = k + alpha * the sum of
#:      x[:, first:last]**2. A slice that ends beyond C is cut by NumPy; one that begins below 0 is not what you want.
#: hint Backward: dx = dy * s**-beta, and then, for every c, the other path: dx[:, first:last] -= 2 * alpha * beta *
#:      x[:, first:last] * (dy * x * s**(-beta - 1))[:, c : c + 1].
def lrn_forward(x, n=5, k=2.0, alpha=1e-4, beta=0.75):
    """AlexNet's local response normalisation (Krizhevsky, Sutskever, Hinton 2012, section 3.3), across channels:

    y[c] = x[c] / s[c]**beta    with    s[c] = k + alpha * sum of x[d]**2 over the channels d near c

    at every image and pixel by itself. x (N, C, H, W) -> y, same shape. The window has n channels, from c - n // 2 to
    c + (n - 1) // 2, both included, as far as they exist: at the first and the last channels the sum has fewer terms.
    alpha is not divided by n. n may be even, and larger than C. Returns (y, cache).
    """
    #: solution
    s = np.empty_like(x)
    for c in range(x.shape[1]):
        first, last = max(0, c - n // 2), c + (n - 1) // 2 + 1
        s[:, c] = k + alpha * (x[:, first:last] ** 2).sum(axis=1)
    return x * s**-beta, (x, s, n, alpha, beta)
    #: end


def lrn_backward(dy, cache):
    """Returns dx (N, C, H, W)."""
    #: solution
    x, s, n, alpha, beta = cache
    dx = dy * s**-beta  # x[c] in front
    ds = -beta * dy * x * s ** (-beta - 1)
    for c in range(x.shape[1]):  # the x[d] in the sum s[c]
        first, last = max(0, c - n // 2), c + (n - 1) // 2 + 1
        dx[:, first:last] += 2 * alpha * x[:, first:last] * ds[:, c : c + 1]
    return dx
    #: end


#: task batch_norm | 7 points | 40 minutes
#: hint Over which axes do you average, if every channel shall have one mean? And what shape must a (C,) array take to meet
#:      (N, C, H, W) on the right axis?
#: hint mean[:, None, None] is (C, 1, 1) and meets x. Use x.var, not the mean of x**2 minus mean**2, which loses all digits
#:      when the mean is large. In backward, x acts on y directly, through the mean, and through the variance.
#: hint The three paths together: dx = w / std * (dy - mean(dy) - x_hat * mean(dy * x_hat)), the means over (0, 2, 3) and
#:      std = sqrt(var + eps). dw = sum(dy * x_hat), db = sum(dy) over the same axes.
def batch_norm_forward(x, w, b, running, momentum=0.1, eps=1e-5):
    """Batch normalisation in training (Ioffe and Szegedy 2015, algorithm 1):

    y = w * x_hat + b    with    x_hat = (x - mean) / sqrt(var + eps)

    x (N, C, H, W), w and b (C,) -> y, same shape as x. mean and var are taken per channel over images and pixels,
    M = N * H * W values each; var is divided by M. It must keep its digits when x is 1e6 plus something small.

    `running` is a dictionary with the arrays running["mean"] and running["var"], (C,) each, which evaluation will use.
    Move both towards the batch's, with the variance that is divided by M - 1 (M is at least 2):

    new = (1 - momentum) * old + momentum * batch

    and leave the new arrays in the dictionary. It is the one thing that you may change. Returns (y, cache).
    """
    #: solution
    M = x.size // x.shape[1]
    mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))  # (C,)
    running["mean"] = (1 - momentum) * running["mean"] + momentum * mean
    running["var"] = (1 - momentum) * running["var"] + momentum * var * M / (M - 1)
    std = np.sqrt(var + eps)
    x_hat = (x - mean[:, None, None]) / std[:, None, None]
    return w[:, None, None] * x_hat + b[:, None, None], (x_hat, w, std)
    #: end


def batch_norm_backward(dy, cache):
    """Returns (dx, dw, db), of the shapes of x, w and b. Remember that mean and var depend on every x of the channel."""
    #: solution
    x_hat, w, std = cache
    dw, db = (dy * x_hat).sum(axis=(0, 2, 3)), dy.sum(axis=(0, 2, 3))
    M = dy.size // dy.shape[1]
    dx_hat = dy - (db / M)[:, None, None] - x_hat * (dw / M)[:, None, None]  # what mean and variance leave of it
    return (w / std)[:, None, None] * dx_hat, dw, db
    #: end


#: task batch_norm_eval | 3 points | 15 minutes
#: hint Which of the numbers in the formula still depend on x? So what kind of function of x is y?
#: hint y = scale * x + shift with one scale and one shift per channel. The gradient of that needs no mean.
#: hint x_hat = (x - running["mean"][:, None, None]) / std[:, None, None]; dx = (w / std)[:, None, None] * dy; dw and db are
#:      the sums that they were in training.
def batch_norm_eval_forward(x, w, b, running, eps=1e-5):
    """Batch normalisation in evaluation: the same formula, with running["mean"] and running["var"] as they are.

    The result for an image must not depend on which others are in the batch, and running is only read. x (N, C, H, W),
    where N may be 1; w, b (C,) -> y, same shape as x. Returns (y, cache).
    """
    #: solution
    std = np.sqrt(running["var"] + eps)
    x_hat = (x - running["mean"][:, None, None]) / std[:, None, None]
    return w[:, None, None] * x_hat + b[:, None, None], (x_hat, w, std)
    #: end


def batch_norm_eval_backward(dy, cache):
    """Returns (dx, dw, db). The running statistics are constants here: they get no gradient."""
    #: solution
    x_hat, w, std = cache
    return (w / std)[:, None, None] * dy, (dy * x_hat).sum(axis=(0, 2, 3)), dy.sum(axis=(0, 2, 3))
    #: end


#: task dropout | 3 points | 15 minutes
#: hint If a tenth of all numbers goes, the sum shrinks to nine tenths. By what must the others grow, so that on average
#:      nothing changes?
#: hint np.random.default_rng(seed).random(x.shape) is uniform between 0 and 1: the share below p is p. Keep the others,
#:      divided by 1 - p, and store what you multiplied with.
#: hint factor = (rng.random(x.shape) >= p) / (1 - p); y = x * factor; dx = dy * factor. Without training, factor = 1.
def dropout_forward(x, p, seed, training=True):
    """Inverted dropout (Krizhevsky et al. 2012, section 4.2; Srivastava et al. 2014, section 10)

    In training every element of x, by itself, becomes 0 with probability p and is divided by 1 - p otherwise, so that y
    is x on average. Without training y is x. x has any shape, 0 <= p < 1. Draw from np.random.default_rng(seed): the same
    seed gives the same y. Returns (y, cache).
    """
    #: solution
    if not training:
        return x, 1.0
    factor = (np.random.default_rng(seed).random(x.shape) >= p) / (1 - p)
    return x * factor, factor
    #: end


def dropout_backward(dy, cache):
    """Returns dx: for the elements that were dropped in THIS forward it is 0."""
    #: solution
    return dy * cache
    #: end
