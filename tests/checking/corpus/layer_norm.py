"""Normalization of every sample by itself (layer norm, group norm, unit length) and its backward as students write it."""
import numpy as np
from corpus.case import Operation

from minidl import Function


def factors(rng, n):
    return rng.choice([-1, 1], n) * rng.uniform(0.5, 2, n)


def samples(rng):
    def draw(*shape):
        return rng.standard_normal(shape)
    yield (draw(3, 4, 6), factors(rng, 6), draw(6)), {"eps": 1e-2}
    yield (draw(2, 5, 5), factors(rng, 5), draw(5)), {"eps": 1e-5}
    yield (draw(4, 3, 7) * 2 + 1, factors(rng, 7), draw(7)), {"eps": 0.1}
    yield (draw(1, 3, 8), factors(rng, 8), draw(8)), {"eps": 1e-3}


def reference(x, gamma, beta, eps):
    def row(v):
        return gamma * (v - v.mean()) / np.sqrt(v.var() + eps) + beta
    return np.apply_along_axis(row, -1, x)


def forward(x, gamma, beta, eps):
    inv = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    xhat = (x - x.mean(axis=-1, keepdims=True)) * inv
    return gamma * xhat + beta, (xhat, inv, gamma)


def mean(a):
    return a.mean(axis=-1, keepdims=True)


def parameters(dout, xhat):
    rows = tuple(range(dout.ndim - 1))
    return (dout * xhat).sum(axis=rows), dout.sum(axis=rows)


def into_x(dout, cache):
    xhat, inv, gamma = cache
    d = dout * gamma
    return inv * (d - mean(d) - xhat * mean(d * xhat))


layer_norm = Operation("layer_norm", samples, reference, forward)


@layer_norm.correct()
def in_one_formula(dout, cache):
    return into_x(dout, cache), *parameters(dout, cache[0])


@layer_norm.correct()
def row_by_row_with_the_jacobian(dout, cache):
    xhat, inv, gamma = cache
    D = len(gamma)
    dx, dgamma, dbeta = np.zeros(xhat.shape), np.zeros(D), np.zeros(D)
    for row in np.ndindex(xhat.shape[:-1]):
        h = xhat[row]
        jacobian = inv[row] * (np.eye(D) - 1 / D - np.outer(h, h) / D)
        dx[row] = (gamma * dout[row]) @ jacobian
        dgamma += dout[row] * h
        dbeta += dout[row]
    return dx, dgamma, dbeta


def forward_without_cache(x, gamma, beta, eps):
    return forward(x, gamma, beta, eps)[0]


@layer_norm.correct(forward=forward_without_cache)
def through_variance_and_mean(dout, x, gamma, beta, eps):
    D = x.shape[-1]
    centred = x - mean(x)
    std = np.sqrt(mean(centred ** 2) + eps)
    dxhat = dout * gamma
    dstd = -(dxhat * centred).sum(axis=-1, keepdims=True) / std ** 2
    dcentred = dxhat / std + dstd * centred / (D * std)
    dx = dcentred - dcentred.sum(axis=-1, keepdims=True) / D
    flat = dout.reshape(-1, D)
    return [dx, np.einsum("rd,rd->d", flat, (centred / std).reshape(-1, D)), np.ones(len(flat)) @ flat]


@layer_norm.correct()
class LayerNormFunction(Function):
    def __init__(self, eps):
        self.eps = eps

    def forward(self, x, gamma, beta):
        y, self.cache = forward(x, gamma, beta, self.eps)
        return y

    def backward(self, dy):
        return into_x(dy, self.cache), *parameters(dy, self.cache[0])


@layer_norm.mistake("missing-statistics-path")
def multiplies_by_gamma_over_std(dout, cache):
    xhat, inv, gamma = cache
    return dout * gamma * inv, *parameters(dout, xhat)


@layer_norm.mistake("missing-statistics-path")
def centres_and_no_more(dout, cache):
    xhat, inv, gamma = cache
    d = dout * gamma
    return inv * (d - mean(d)), *parameters(dout, xhat)


@layer_norm.mistake("missing-statistics-path")
def takes_the_mean_for_given(dout, cache):
    xhat, inv, gamma = cache
    d = dout * gamma
    return inv * (d - xhat * mean(d * xhat)), *parameters(dout, xhat)


@layer_norm.mistake("unknown")
def averages_over_the_batch_as_batch_norm_does(dout, cache):
    xhat, inv, gamma = cache
    d = dout * gamma
    return inv * (d - d.mean(axis=0) - xhat * (d * xhat).mean(axis=0)), *parameters(dout, xhat)


@layer_norm.mistake("unknown")
def multiplies_by_gamma_at_the_end(dout, cache):
    """gamma is different for every element of the mean, and belongs inside of it."""
    xhat, inv, gamma = cache
    return gamma * inv * (dout - mean(dout) - xhat * mean(dout * xhat)), *parameters(dout, xhat)


@layer_norm.mistake("ignores-upstream")
def forgets_dout_in_the_path_of_the_variance(dout, cache):
    xhat, inv, gamma = cache
    d = dout * gamma
    return inv * (d - mean(d) - xhat * mean(gamma * xhat)), *parameters(dout, xhat)


@layer_norm.mistake("broadcast-not-summed")
def returns_gamma_and_beta_for_every_row(dout, cache):
    return into_x(dout, cache), dout * cache[0], dout


@layer_norm.mistake("broadcast-not-summed")
def sums_gamma_over_the_first_axis_only(dout, cache):
    dgamma, dbeta = parameters(dout, cache[0])
    return into_x(dout, cache), (dout * cache[0]).sum(axis=0), dbeta


@layer_norm.mistake("wrong-shape")
def sums_beta_along_the_row(dout, cache):
    """One number for every row, where one for every column is wanted."""
    dgamma, _ = parameters(dout, cache[0])
    return into_x(dout, cache), dgamma, dout.sum(axis=-1).ravel()


@layer_norm.mistake("scale")
def multiplies_dx_by_the_number_of_columns(dout, cache):
    return dout.shape[-1] * into_x(dout, cache), *parameters(dout, cache[0])


@layer_norm.mistake("sign")
def subtracts_beta(dout, cache):
    dgamma, dbeta = parameters(dout, cache[0])
    return into_x(dout, cache), dgamma, -dbeta


@layer_norm.mistake("zero")
def forgets_gamma_in_the_return(dout, cache):
    dgamma, dbeta = np.zeros(dout.shape[-1]), parameters(dout, cache[0])[1]
    return into_x(dout, cache), dgamma, dbeta


@layer_norm.mistake("overwrites-overlap")
def keeps_the_last_row_for_gamma(dout, cache):
    xhat, inv, gamma = cache
    dgamma, dbeta = np.zeros(len(gamma)), np.zeros(len(gamma))
    for row in np.ndindex(xhat.shape[:-1]):
        dgamma = dout[row] * xhat[row]
        dbeta += dout[row]
    return into_x(dout, cache), dgamma, dbeta


@layer_norm.mistake("wrong-dtype")
def computes_in_float32(dout, cache):
    xhat, inv, gamma = cache
    return into_x(dout.astype(np.float32), [a.astype(np.float32) for a in cache]), *parameters(dout, xhat)


def forward_over_all_but_the_batch(x, gamma, beta, eps):
    rows = tuple(range(x.ndim - 1))
    inv = 1 / np.sqrt(x.var(axis=rows, keepdims=True) + eps)
    xhat = (x - x.mean(axis=rows, keepdims=True)) * inv
    return gamma * xhat + beta, (xhat, inv, gamma)


@layer_norm.mistake("forward-differs")
class NormalizesColumns(Function):
    def __init__(self, eps):
        self.eps = eps

    def forward(self, x, gamma, beta):
        y, self.cache = forward_over_all_but_the_batch(x, gamma, beta, self.eps)
        return y

    def backward(self, dy):
        xhat, inv, gamma = self.cache
        d, rows = dy * gamma, tuple(range(dy.ndim - 1))
        dx = inv * (d - d.mean(axis=rows, keepdims=True) - xhat * (d * xhat).mean(axis=rows, keepdims=True))
        return dx, *parameters(dy, xhat)


# Group norm: channels in groups, each sample by itself.

def group_samples(rng):
    yield (rng.standard_normal((2, 6, 3, 4)), factors(rng, 6), rng.standard_normal(6)), {"groups": 3}
    yield (rng.standard_normal((4, 4, 3, 2)), factors(rng, 4), rng.standard_normal(4)), {"groups": 2}
    yield (rng.standard_normal((1, 6, 5, 2)), factors(rng, 6), rng.standard_normal(6)), {"groups": 2}


def group_reference(x, gamma, beta, groups):
    y = np.empty_like(x)
    size = x.shape[1] // groups
    for n in range(len(x)):
        for g in range(groups):
            part = x[n, g * size:(g + 1) * size]
            y[n, g * size:(g + 1) * size] = (part - part.mean()) / np.sqrt(part.var() + 1e-2)
    return y * gamma[:, None, None] + beta[:, None, None]


def group_forward(x, gamma, beta, groups):
    rows = x.reshape(len(x) * groups, -1)
    inv = 1 / np.sqrt(rows.var(axis=1, keepdims=True) + 1e-2)
    xhat = (rows - rows.mean(axis=1, keepdims=True)) * inv
    out = xhat.reshape(x.shape) * gamma[:, None, None] + beta[:, None, None]
    return out, {"xhat": xhat, "inv": inv, "gamma": gamma, "groups": groups}


def group_parameters(dout, cache):
    return (dout * cache["xhat"].reshape(dout.shape)).sum(axis=(0, 2, 3)), dout.sum(axis=(0, 2, 3))


def group_into_x(dout, cache):
    d = (dout * cache["gamma"][:, None, None]).reshape(cache["xhat"].shape)
    return (cache["inv"] * (d - mean(d) - cache["xhat"] * mean(d * cache["xhat"]))).reshape(dout.shape)


group_norm = Operation("group_norm", group_samples, group_reference, group_forward)


@group_norm.correct()
def rows_of_groups(dout, cache):
    return group_into_x(dout, cache), *group_parameters(dout, cache)


@group_norm.mistake("missing-statistics-path")
def forgets_mean_and_variance_of_the_group(dout, cache):
    inv = np.repeat(cache["inv"], dout[0].size // cache["groups"]).reshape(dout.shape)
    return dout * cache["gamma"][:, None, None] * inv, *group_parameters(dout, cache)


@group_norm.mistake("unknown")
def takes_means_over_single_channels(dout, cache):
    """Every channel for itself, as if there were as many groups."""
    d = dout * cache["gamma"][:, None, None]
    xhat = cache["xhat"].reshape(dout.shape)
    inv = np.repeat(cache["inv"], dout[0].size // cache["groups"]).reshape(dout.shape)
    inner = d - d.mean(axis=(2, 3), keepdims=True) - xhat * (d * xhat).mean(axis=(2, 3), keepdims=True)
    return inv * inner, *group_parameters(dout, cache)


@group_norm.mistake("broadcast-not-summed")
def leaves_positions_in_dgamma(dout, cache):
    dgamma, dbeta = group_parameters(dout, cache)
    return group_into_x(dout, cache), (dout * cache["xhat"].reshape(dout.shape)).sum(axis=0), dbeta


@group_norm.mistake("one-sample-only")
def learns_beta_from_the_first_sample(dout, cache):
    dgamma, _ = group_parameters(dout, cache)
    return group_into_x(dout, cache), dgamma, dout[0].sum(axis=(1, 2))


@group_norm.mistake("overwrites-overlap")
def keeps_one_position_of_beta(dout, cache):
    dgamma, dbeta = group_parameters(dout, cache)
    for n, i, j in np.ndindex(len(dout), *dout.shape[2:]):
        dbeta = dout[n, :, i, j]
    return group_into_x(dout, cache), dgamma, dbeta


# Rows divided by their length.

def length_samples(rng):
    for shape in ((3, 5), (4, 4), (2, 3, 6), (1, 7)):
        yield (rng.choice([-1, 1], shape) * rng.uniform(0.5, 2, shape),), {}


def length_reference(x):
    return np.apply_along_axis(lambda row: row / sum(row ** 2) ** 0.5, -1, x)


def length_forward(x):
    length = np.sqrt((x * x).sum(axis=-1, keepdims=True))
    return x / length, (x / length, length)


l2_normalize = Operation("l2_normalize", length_samples, length_reference, length_forward)


@l2_normalize.correct()
def takes_away_the_part_along_y(dout, cache):
    y, length = cache
    return (dout - y * (y * dout).sum(axis=-1, keepdims=True)) / length


@l2_normalize.correct()
def with_a_projection_matrix(dout, cache):
    y, length = cache
    projection = np.eye(y.shape[-1]) - y[..., :, None] * y[..., None, :]
    return np.squeeze(projection @ dout[..., None], axis=-1) / length


@l2_normalize.mistake("missing-statistics-path")
def divides_by_a_length_that_is_constant(dout, cache):
    return dout / cache[1]


@l2_normalize.mistake("sign")
def adds_the_part_along_y(dout, cache):
    y, length = cache
    return (dout + y * (y * dout).sum(axis=-1, keepdims=True)) / length


@l2_normalize.mistake("unknown")
def divides_the_part_along_y_by_the_length_once_more(dout, cache):
    y, length = cache
    return dout / length - y * (y * dout).sum(axis=-1, keepdims=True) / length ** 2


@l2_normalize.mistake("missing-statistics-path")
def forgets_to_sum_over_the_row(dout, cache):
    """Only the diagonal of the Jacobian."""
    y, length = cache
    return dout * (1 - y * y) / length
