"""Local response normalization over neighbouring channels, and its backward as students write it."""
from types import SimpleNamespace

import numpy as np
from corpus.case import Operation
from numpy.lib.stride_tricks import sliding_window_view

from minidl import Function

# y = x / s^beta with s = k + alpha / n * (the sum of x^2 over a window of n channels), so that
# dx = dout / s^beta - 2 alpha beta / n * x * (the sum of dout * x / s^(beta+1) over the same window).


def samples(rng):
    def draw(*shape):
        return rng.choice([-1, 1], shape) * rng.uniform(0.5, 2, shape)
    yield (draw(2, 6, 3, 4),), {"n": 3, "k": 2.0, "alpha": 0.9, "beta": 0.75}
    yield (draw(2, 7, 3, 3),), {"n": 5, "k": 1.0, "alpha": 1.5, "beta": 0.5}
    yield (draw(3, 4, 2, 5),), {"n": 3, "k": 1.5, "alpha": 0.5, "beta": 1.0}
    yield (draw(1, 5, 4, 3),), {"n": 5, "k": 2.0, "alpha": 2.0, "beta": 0.75}


def reference(x, n, k, alpha, beta):
    y = np.empty_like(x)
    C = x.shape[1]
    for c in range(C):
        neighbours = [x[:, m] ** 2 for m in range(max(c - n // 2, 0), min(c + n // 2, C - 1) + 1)]
        y[:, c] = x[:, c] * (k + alpha / n * sum(neighbours)) ** -beta
    return y


def window_sums(a, n):
    """The sum of every channel's n neighbours, itself among them."""
    h = n // 2
    return sliding_window_view(np.pad(a, ((0, 0), (h, h), (0, 0), (0, 0))), n, axis=1).sum(axis=-1)


def forward(x, n, k, alpha, beta):
    s = k + alpha / n * window_sums(x * x, n)
    y = x * s ** -beta
    return y, (x, s, y, n, alpha, beta)


lrn = Operation("lrn", samples, reference, forward)


@lrn.correct()
def by_the_formula(dout, cache):
    x, s, y, n, alpha, beta = cache
    return dout * s ** -beta - 2 * alpha * beta / n * x * window_sums(dout * y / s, n)


@lrn.correct()
def with_a_matrix_of_neighbours(dout, cache):
    x, s, y, n, alpha, beta = cache
    c = np.arange(x.shape[1])
    near = (abs(c[:, None] - c) <= n // 2).astype(dout.dtype)
    d_s = -beta * dout * x * s ** (-beta - 1)
    return (dout / s ** beta + 2 * x * alpha / n * np.einsum("cd,nchw->ndhw", near, d_s),)


@lrn.correct()
def loops_over_pairs_of_channels(dout, cache):
    x, s, y, n, alpha, beta = cache
    C = x.shape[1]
    dx = np.zeros_like(x)
    for c in range(C):
        dx[:, c] += dout[:, c] * s[:, c] ** -beta
        for m in range(max(0, c - n // 2), min(C, c + n // 2 + 1)):
            dx[:, m] -= 2 * alpha * beta / n * x[:, m] * dout[:, c] * x[:, c] * s[:, c] ** (-beta - 1)
    return [dx]


def forward_without_cache(x, n, k, alpha, beta):
    return forward(x, n, k, alpha, beta)[0]


@lrn.correct(forward=forward_without_cache)
def with_the_jacobian_of_every_pixel(dout, x, n, k, alpha, beta):
    C = x.shape[1]
    s = k + alpha / n * window_sums(x * x, n)
    near = np.array([[float(abs(c - m) <= n // 2) for m in range(C)] for c in range(C)])
    v, t, d = (np.moveaxis(a, 1, -1) for a in (x, s, dout))
    jacobian = np.eye(C) * (t ** -beta)[..., None]
    jacobian = jacobian - 2 * alpha * beta / n * near * (v * t ** (-beta - 1))[..., :, None] * v[..., None, :]
    return np.moveaxis((d[..., None, :] @ jacobian)[..., 0, :], -1, 1)


def forward_with_an_object(x, n, k, alpha, beta):
    cache = SimpleNamespace(x=x, n=n, slope=2 * alpha / n, beta=beta, s=k + alpha / n * window_sums(np.square(x), n))
    return x * np.exp(-beta * np.log(cache.s)), cache


@lrn.correct(forward=forward_with_an_object)
def through_the_logarithm_of_the_sum(dout, cache):
    """y = x * exp(-beta * log s)"""
    power = np.exp(-cache.beta * np.log(cache.s))
    d_log = -cache.beta * dout * cache.x * power
    return dout * power + window_sums(d_log / cache.s, cache.n) * cache.slope * cache.x


@lrn.correct()
class LRNFunction(Function):
    def __init__(self, n, k, alpha, beta):
        self.n, self.k, self.alpha, self.beta = n, k, alpha, beta

    def forward(self, x):
        self.x = x
        self.s = self.k + self.alpha / self.n * window_sums(x ** 2, self.n)
        return x / self.s ** self.beta

    def backward(self, dy):
        direct = dy / self.s ** self.beta
        cross = window_sums(direct * self.x / self.s, self.n) * self.x
        return direct - 2 * self.alpha * self.beta / self.n * cross


@lrn.mistake("missing-statistics-path")
def treats_the_sum_as_a_constant(dout, cache):
    x, s, y, n, alpha, beta = cache
    return dout * s ** -beta


@lrn.mistake("missing-statistics-path")
def forgets_the_neighbours(dout, cache):
    """The derivative of y_c by x_c alone; that x_c lies in its neighbours' sums as well is missing."""
    x, s, y, n, alpha, beta = cache
    return dout * (s ** -beta - 2 * alpha * beta / n * x * x * s ** (-beta - 1))


@lrn.mistake("missing-statistics-path")
class DividesByTheRoot(Function):
    def __init__(self, n, k, alpha, beta):
        self.n, self.k, self.alpha, self.beta = n, k, alpha, beta

    def forward(self, x):
        self.root = (self.k + self.alpha / self.n * window_sums(x ** 2, self.n)) ** self.beta
        return x / self.root

    def backward(self, dy):
        return dy / self.root


@lrn.mistake("scale")
def forgets_the_two_of_the_square(dout, cache):
    x, s, y, n, alpha, beta = cache
    return dout * s ** -beta - alpha * beta / n * x * window_sums(dout * y / s, n)


@lrn.mistake("sign")
def adds_the_second_term(dout, cache):
    x, s, y, n, alpha, beta = cache
    return dout * s ** -beta + 2 * alpha * beta / n * x * window_sums(dout * y / s, n)


@lrn.mistake("scale")
def forgets_that_alpha_is_divided_by_n(dout, cache):
    x, s, y, n, alpha, beta = cache
    return dout * s ** -beta - 2 * alpha * beta * x * window_sums(dout * y / s, n)


@lrn.mistake("unknown")
def takes_x_into_the_window(dout, cache):
    """x_m belongs to the element that is differentiated, and x_c into the sum."""
    x, s, y, n, alpha, beta = cache
    return dout * s ** -beta - 2 * alpha * beta / n * window_sums(dout * x * y / s, n)


@lrn.mistake("unknown")
def forgets_to_raise_beta_by_one(dout, cache):
    x, s, y, n, alpha, beta = cache
    return dout * s ** -beta - 2 * alpha * beta / n * x * window_sums(dout * x * s ** -beta, n)


@lrn.mistake("ignores-upstream")
def does_not_multiply_the_second_term_by_dout(dout, cache):
    x, s, y, n, alpha, beta = cache
    return dout * s ** -beta - 2 * alpha * beta / n * x * window_sums(y / s, n)


@lrn.mistake("border")
def sums_only_full_windows(dout, cache):
    """Channels at both ends keep the direct term alone."""
    x, s, y, n, alpha, beta = cache
    dx = dout * s ** -beta
    h = n // 2
    full = sliding_window_view(dout * y / s, n, axis=1).sum(axis=-1)
    dx[:, h:h + full.shape[1]] -= 2 * alpha * beta / n * x[:, h:h + full.shape[1]] * full
    return dx


@lrn.mistake("sign")
def negates_everything(dout, cache):
    return -by_the_formula(dout, cache)


@lrn.mistake("scale")
def multiplies_all_by_beta(dout, cache):
    """The exponent in front, as for a power of x; here of the whole gradient."""
    return cache[-1] * by_the_formula(dout, cache)


@lrn.mistake("overwrites-overlap")
def sets_the_neighbours_contribution(dout, cache):
    x, s, y, n, alpha, beta = cache
    C = x.shape[1]
    cross = np.zeros_like(x)
    for c in range(C):
        for m in range(max(0, c - n // 2), min(C, c + n // 2 + 1)):
            cross[:, m] = 2 * alpha * beta / n * x[:, m] * dout[:, c] * y[:, c] / s[:, c]
    return dout * s ** -beta - cross


@lrn.mistake("one-sample-only")
def normalizes_back_the_first_sample(dout, cache):
    dx = np.zeros_like(cache[0])
    dx[0] = by_the_formula(dout, cache)[0]
    return dx


def forward_with_the_whole_alpha(x, n, k, alpha, beta):
    s = k + alpha * window_sums(x * x, n)
    return x * s ** -beta, (x, s, n, alpha, beta)


@lrn.mistake("forward-differs", forward=forward_with_the_whole_alpha)
def takes_alpha_undivided(dout, cache):
    x, s, n, alpha, beta = cache
    return dout * s ** -beta - 2 * alpha * beta * x * window_sums(dout * x * s ** (-beta - 1), n)


def forward_with_a_window_to_the_left(x, n, k, alpha, beta):
    """The n channels that end at c, not those around it."""
    s = k + alpha / n * sliding_window_view(np.pad(x * x, ((0, 0), (n - 1, 0), (0, 0), (0, 0))), n, axis=1).sum(axis=-1)
    return x * s ** -beta, (x, s, n, alpha, beta)


@lrn.mistake("forward-differs", forward=forward_with_a_window_to_the_left)
def looks_at_the_channels_before(dout, cache):
    x, s, n, alpha, beta = cache
    after = np.pad(dout * x * s ** (-beta - 1), ((0, 0), (0, n - 1), (0, 0), (0, 0)))
    return dout * s ** -beta - 2 * alpha * beta / n * x * sliding_window_view(after, n, axis=1).sum(axis=-1)


def forward_that_squares_in_place(x, n, k, alpha, beta):
    before = x.copy()
    x *= x
    s = k + alpha / n * window_sums(x, n)
    return before * s ** -beta, (before, s, before * s ** -beta, n, alpha, beta)


@lrn.mistake("mutates-input", forward=forward_that_squares_in_place)
def squares_x_in_place(dout, cache):
    return by_the_formula(dout, cache)
