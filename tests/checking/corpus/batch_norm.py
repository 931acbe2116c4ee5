"""Batch normalization of images and of vectors, in training and in evaluation, and its backward as students write it."""
import numpy as np
from corpus.case import Operation

from minidl import Function

AXES = (0, 2, 3)


def samples(rng):
    def draw(*shape):
        return rng.standard_normal(shape)

    def factors(n):
        return rng.choice([-1, 1], n) * rng.uniform(0.5, 2, n)
    yield (draw(2, 4, 3, 5), factors(4), draw(4)), {"eps": 1e-2}
    yield (3 * draw(3, 3, 3, 3) + 1, factors(3), draw(3)), {"eps": 1e-5}
    yield (draw(4, 3, 2, 5) - 2, factors(3), draw(3)), {"eps": 0.1}
    yield (draw(1, 3, 4, 5), factors(3), draw(3)), {"eps": 1e-3}


def reference(x, gamma, beta, eps):
    y = np.empty_like(x)
    for c in range(x.shape[1]):
        channel = x[:, c]
        y[:, c] = gamma[c] * (channel - channel.mean()) / np.sqrt(channel.var() + eps) + beta[c]
    return y


def forward(x, gamma, beta, eps):
    mean = x.mean(axis=AXES, keepdims=True)
    inv = 1 / np.sqrt(x.var(axis=AXES, keepdims=True) + eps)
    xhat = (x - mean) * inv
    return gamma[:, None, None] * xhat + beta[:, None, None], (x, mean, xhat, inv, gamma, eps)


def mean(a):
    return a.mean(axis=AXES, keepdims=True)


def parameters(dout, cache):
    return (dout * cache[2]).sum(axis=AXES), dout.sum(axis=AXES)


def into_x(dout, cache):
    x, mu, xhat, inv, gamma, eps = cache
    d = dout * gamma[:, None, None]
    return inv * (d - mean(d) - xhat * mean(d * xhat))


batch_norm = Operation("batch_norm", samples, reference, forward)


# Correct.

@batch_norm.correct()
def in_one_formula(dout, cache):
    return into_x(dout, cache), *parameters(dout, cache)


@batch_norm.correct()
def step_by_step(dout, cache):
    x, mu, xhat, inv, gamma, eps = cache
    m = x.size // x.shape[1]
    dbeta = dout.sum(axis=AXES)
    dgamma = (dout * xhat).sum(axis=AXES)
    dxhat = dout * gamma.reshape(1, -1, 1, 1)
    centred = x - mu
    dvar = np.sum(dxhat * centred * -0.5 * inv ** 3, axis=AXES, keepdims=True)
    dmu = np.sum(-dxhat * inv, axis=AXES, keepdims=True) + dvar * np.sum(-2 * centred, axis=AXES, keepdims=True) / m
    dx = dxhat * inv + dvar * 2 * centred / m + dmu / m
    return dx, dgamma, dbeta


@batch_norm.correct()
def channel_by_channel(dout, cache):
    x, mu, xhat, inv, gamma, eps = cache
    dx, dgamma, dbeta = np.empty_like(x), np.empty(len(gamma)), np.empty(len(gamma))
    for c in range(len(gamma)):
        d, h = dout[:, c], xhat[:, c]
        dbeta[c], dgamma[c] = d.sum(), np.vdot(d, h)
        dx[:, c] = gamma[c] * inv[0, c, 0, 0] / d.size * (d.size * d - dbeta[c] - h * dgamma[c])
    return [dx, dgamma, dbeta]


def forward_without_cache(x, gamma, beta, eps):
    return forward(x, gamma, beta, eps)[0]


@batch_norm.correct(forward=forward_without_cache)
def with_the_jacobian_of_a_channel(dout, x, gamma, beta, eps):
    N, C, H, W = x.shape
    m = N * H * W
    flat, d = (a.transpose(1, 0, 2, 3).reshape(C, m) for a in (x, dout))
    centred = flat - flat.mean(axis=1, keepdims=True)
    std = np.sqrt((centred ** 2).mean(axis=1) + eps)
    dx = np.empty((C, m))
    for c in range(C):
        jacobian = (np.eye(m) - 1 / m) / std[c] - np.outer(centred[c], centred[c]) / (m * std[c] ** 3)
        dx[c] = gamma[c] * jacobian @ d[c]
    return dx.reshape(C, N, H, W).transpose(1, 0, 2, 3), np.einsum("cm,cm->c", d, centred) / std, d.sum(axis=1)


@batch_norm.correct()
class BatchNormFunction(Function):
    def __init__(self, eps):
        self.eps = eps

    def forward(self, x, gamma, beta):
        y, self.cache = forward(x, gamma, beta, self.eps)
        return y

    def backward(self, dy):
        return into_x(dy, self.cache), *parameters(dy, self.cache)


# Paths through mean and variance.

@batch_norm.mistake("missing-statistics-path")
def treats_mean_and_variance_as_constants(dout, cache):
    x, mu, xhat, inv, gamma, eps = cache
    return dout * gamma[:, None, None] * inv, *parameters(dout, cache)


@batch_norm.mistake("missing-statistics-path")
def forgets_the_path_through_the_mean(dout, cache):
    x, mu, xhat, inv, gamma, eps = cache
    d = dout * gamma[:, None, None]
    return inv * (d - xhat * mean(d * xhat)), *parameters(dout, cache)


@batch_norm.mistake("missing-statistics-path")
def forgets_the_path_through_the_variance(dout, cache):
    x, mu, xhat, inv, gamma, eps = cache
    d = dout * gamma[:, None, None]
    return inv * (d - mean(d)), *parameters(dout, cache)


@batch_norm.mistake("missing-statistics-path")
def never_adds_dmu_to_dx(dout, cache):
    """dmu is computed, and left where it is."""
    x, mu, xhat, inv, gamma, eps = cache
    m = x.size // x.shape[1]
    dxhat = dout * gamma[:, None, None]
    dvar = np.sum(dxhat * (x - mu) * -0.5 * inv ** 3, axis=AXES, keepdims=True)
    return dxhat * inv + dvar * 2 * (x - mu) / m, *parameters(dout, cache)


@batch_norm.mistake("missing-statistics-path")
class KeepsTheStatisticsOutOfBackward(Function):
    def __init__(self, eps):
        self.eps = eps

    def forward(self, x, gamma, beta):
        y, self.cache = forward(x, gamma, beta, self.eps)
        return y

    def backward(self, dy):
        _, _, xhat, inv, gamma, _ = self.cache
        return dy * inv * gamma[:, None, None], (dy * xhat).sum(axis=AXES), dy.sum(axis=AXES)


@batch_norm.mistake("scale")
def sums_where_means_belong(dout, cache):
    x, mu, xhat, inv, gamma, eps = cache
    d = dout * gamma[:, None, None]
    dx = inv * (d - d.sum(axis=AXES, keepdims=True) - xhat * (d * xhat).sum(axis=AXES, keepdims=True))
    return dx, *parameters(dout, cache)


@batch_norm.mistake("scale")
def divides_by_the_batch_instead_of_all_elements(dout, cache):
    """N is the number of samples; a channel has N*H*W elements."""
    x, mu, xhat, inv, gamma, eps = cache
    N = len(x)
    d = dout * gamma[:, None, None]
    dx = inv * (d - d.sum(axis=AXES, keepdims=True) / N - xhat * (d * xhat).sum(axis=AXES, keepdims=True) / N)
    return dx, *parameters(dout, cache)


@batch_norm.mistake("sign")
def adds_the_mean_instead_of_subtracting_it(dout, cache):
    x, mu, xhat, inv, gamma, eps = cache
    d = dout * gamma[:, None, None]
    return inv * (d + mean(d) - xhat * mean(d * xhat)), *parameters(dout, cache)


@batch_norm.mistake("scale")
def forgets_the_two_of_the_variance(dout, cache):
    x, mu, xhat, inv, gamma, eps = cache
    d = dout * gamma[:, None, None]
    return inv * (d - mean(d) - 0.5 * xhat * mean(d * xhat)), *parameters(dout, cache)


@batch_norm.mistake("unknown")
def averages_over_the_batch_axis_only(dout, cache):
    x, mu, xhat, inv, gamma, eps = cache
    d = dout * gamma[:, None, None]
    dx = inv * (d - d.mean(axis=0) - xhat * (d * xhat).mean(axis=0))
    return dx, *parameters(dout, cache)


@batch_norm.mistake("unknown")
def forgets_gamma(dout, cache):
    x, mu, xhat, inv, gamma, eps = cache
    return inv * (dout - mean(dout) - xhat * mean(dout * xhat)), *parameters(dout, cache)


@batch_norm.mistake("unknown")
def divides_by_the_variance_instead_of_its_root(dout, cache):
    x, mu, xhat, inv, gamma, eps = cache
    return inv * into_x(dout, cache), *parameters(dout, cache)


@batch_norm.mistake("scale")
def forgets_the_one_over_m_in_front(dout, cache):
    """In the form with m in brackets the factor 1/m stands in front of all."""
    x, mu, xhat, inv, gamma, eps = cache
    m = x.size // x.shape[1]
    dgamma, dbeta = parameters(dout, cache)
    dx = (gamma * inv.ravel())[:, None, None] * (m * dout - dbeta[:, None, None] - xhat * dgamma[:, None, None])
    return dx, dgamma, dbeta


@batch_norm.mistake("sign")
def turns_the_sign_of_dx(dout, cache):
    x, mu, xhat, inv, gamma, eps = cache
    d = dout * gamma[:, None, None]
    return inv * (mean(d) + xhat * mean(d * xhat) - d), *parameters(dout, cache)


@batch_norm.mistake("ignores-upstream")
def leaves_dout_out_of_the_mean(dout, cache):
    x, mu, xhat, inv, gamma, eps = cache
    d = dout * gamma[:, None, None]
    return inv * (d - mean(gamma[:, None, None] * np.ones_like(d)) - xhat * mean(d * xhat)), *parameters(dout, cache)


@batch_norm.mistake("zero")
def fills_a_reshaped_copy(dout, cache):
    """reshape after a transpose copies (but for a batch of one); dx itself stays as it was made."""
    dx = np.zeros_like(dout)
    right = into_x(dout, cache)
    channels = dx.transpose(1, 0, 2, 3).reshape(dout.shape[1], -1)
    for c in range(len(channels)):
        channels[c] = right[:, c].ravel()
    return dx, *parameters(dout, cache)


# gamma and beta.

@batch_norm.mistake("unknown")
def multiplies_dgamma_by_x_instead_of_xhat(dout, cache):
    dgamma, dbeta = parameters(dout, cache)
    return into_x(dout, cache), (dout * cache[0]).sum(axis=AXES), dbeta


@batch_norm.mistake("unknown")
def multiplies_dgamma_by_the_centred_x(dout, cache):
    x, mu, xhat, inv, gamma, eps = cache
    return into_x(dout, cache), (dout * (x - mu)).sum(axis=AXES), dout.sum(axis=AXES)


@batch_norm.mistake("ignores-upstream")
def counts_elements_for_beta(dout, cache):
    """y has the derivative 1 by beta, for each of the m elements; dout is forgotten."""
    dgamma, dbeta = parameters(dout, cache)
    return into_x(dout, cache), dgamma, np.full_like(dbeta, dout.size // dout.shape[1])


@batch_norm.mistake("broadcast-not-summed")
def does_not_sum_dgamma(dout, cache):
    return into_x(dout, cache), dout * cache[2], dout.sum(axis=AXES)


@batch_norm.mistake("broadcast-not-summed")
def sums_dbeta_over_the_batch_only(dout, cache):
    return into_x(dout, cache), (dout * cache[2]).sum(axis=AXES), dout.sum(axis=0)


@batch_norm.mistake("broadcast-not-summed")
def treats_images_as_vectors(dout, cache):
    """axis=0 for gamma and beta, as where there are no rows and columns."""
    return into_x(dout, cache), np.sum(dout * cache[2], axis=0), np.sum(dout, axis=0)


@batch_norm.mistake("scale")
def averages_dbeta(dout, cache):
    return into_x(dout, cache), (dout * cache[2]).sum(axis=AXES), dout.mean(axis=AXES)


@batch_norm.mistake("scale")
def divides_dgamma_by_the_batch(dout, cache):
    dgamma, dbeta = parameters(dout, cache)
    return into_x(dout, cache), dgamma / len(dout), dbeta


@batch_norm.mistake("zero")
def returns_none_for_beta(dout, cache):
    return into_x(dout, cache), parameters(dout, cache)[0], None


@batch_norm.mistake("one-sample-only")
def learns_gamma_from_the_last_sample(dout, cache):
    dgamma, dbeta = parameters(dout, cache)
    for n in range(len(dout)):
        dgamma = (dout[n] * cache[2][n]).sum(axis=(1, 2))
    return into_x(dout, cache), dgamma, dbeta


@batch_norm.mistake("wrong-shape")
def keeps_dimensions_for_gamma_and_beta(dout, cache):
    return into_x(dout, cache), (dout * cache[2]).sum(axis=AXES, keepdims=True), dout.sum(axis=AXES, keepdims=True)


@batch_norm.mistake("wrong-shape")
def returns_dx_alone(dout, cache):
    return into_x(dout, cache)


@batch_norm.mistake("wrong-shape")
def sums_beta_to_one_number(dout, cache):
    return into_x(dout, cache), (dout * cache[2]).sum(axis=AXES), dout.sum()


@batch_norm.mistake("mutates-input")
def multiplies_dout_by_gamma_in_place(dout, cache):
    dgamma, dbeta = parameters(dout, cache)
    x, mu, xhat, inv, gamma, eps = cache
    dout *= gamma[:, None, None]
    return inv * (dout - mean(dout) - xhat * mean(dout * xhat)), dgamma, dbeta


def forward_that_centres_in_place(x, gamma, beta, eps):
    x -= x.mean(axis=AXES, keepdims=True)
    inv = 1 / np.sqrt((x ** 2).mean(axis=AXES, keepdims=True) + eps)
    xhat = x * inv
    return gamma[:, None, None] * xhat + beta[:, None, None], (x, 0, xhat, inv, gamma, eps)


@batch_norm.mistake("mutates-input", forward=forward_that_centres_in_place)
def centres_x_in_place(dout, cache):
    return into_x(dout, cache), *parameters(dout, cache)


@batch_norm.mistake("not-deterministic")
def uses_the_cached_xhat_as_memory(dout, cache):
    """xhat is overwritten with what the first backward needed last."""
    x, mu, xhat, inv, gamma, eps = cache
    dgamma, dbeta = parameters(dout, cache)
    d = dout * gamma[:, None, None]
    dot = mean(d * xhat)
    xhat *= dot
    return inv * (d - mean(d) - xhat), dgamma, dbeta


# Forward.

def forward_over_the_batch_axis(x, gamma, beta, eps):
    """Statistics for every pixel, as if images were vectors."""
    mu, inv = x.mean(axis=0), 1 / np.sqrt(x.var(axis=0) + eps)
    xhat = (x - mu) * inv
    return gamma[:, None, None] * xhat + beta[:, None, None], (xhat, inv, gamma)


@batch_norm.mistake("forward-differs", forward=forward_over_the_batch_axis)
def normalizes_every_pixel_by_itself(dout, cache):
    xhat, inv, gamma = cache
    d = dout * gamma[:, None, None]
    return inv * (d - d.mean(axis=0) - xhat * (d * xhat).mean(axis=0)), (dout * xhat).sum(axis=AXES), dout.sum(axis=AXES)


def forward_with_eps_outside_of_the_root(x, gamma, beta, eps):
    std = x.std(axis=AXES, keepdims=True)
    xhat = (x - mean(x)) / (std + eps)
    return gamma[:, None, None] * xhat + beta[:, None, None], (x, mean(x), xhat, 1 / np.sqrt(std ** 2 + eps), gamma, eps)


@batch_norm.mistake("forward-differs", forward=forward_with_eps_outside_of_the_root)
def adds_eps_to_the_root(dout, cache):
    return into_x(dout, cache), *parameters(dout, cache)


def forward_with_the_sample_variance(x, gamma, beta, eps):
    inv = 1 / np.sqrt(x.var(axis=AXES, keepdims=True, ddof=1) + eps)
    xhat = (x - mean(x)) * inv
    return gamma[:, None, None] * xhat + beta[:, None, None], (x, mean(x), xhat, inv, gamma, eps)


@batch_norm.mistake("forward-differs", forward=forward_with_the_sample_variance)
def divides_the_variance_by_m_minus_one(dout, cache):
    x, mu, xhat, inv, gamma, eps = cache
    m = x.size // x.shape[1]
    d = dout * gamma[:, None, None]
    return inv * (d - mean(d) - xhat * mean(d * xhat) * m / (m - 1)), *parameters(dout, cache)


# Evaluation: fixed statistics come as a dictionary among the inputs.

def samples_of_evaluation(rng):
    for n, d in ((3, 5), (4, 4), (1, 6)):
        running = {"mode": "test", "eps": 1e-3, "running_mean": rng.standard_normal(d), "running_var": rng.uniform(0.5, 2, d)}
        yield (rng.standard_normal((n, d)), rng.uniform(0.5, 2, d), rng.standard_normal(d), running), {}


def evaluation_reference(x, gamma, beta, bn_param):
    std = [(v + bn_param["eps"]) ** 0.5 for v in bn_param["running_var"]]
    columns = zip(x.T, gamma, bn_param["running_mean"], std, beta)
    return np.array([g * (column - m) / s + b for column, g, m, s, b in columns]).T


def evaluation_forward(x, gamma, beta, bn_param):
    xhat = (x - bn_param["running_mean"]) / np.sqrt(bn_param["running_var"] + bn_param["eps"])
    return gamma * xhat + beta, {"xhat": xhat, "gamma": gamma, **bn_param}


evaluation = Operation("batch_norm_evaluation", samples_of_evaluation, evaluation_reference, evaluation_forward)


@evaluation.correct()
def running_statistics_are_constants(dout, cache):
    dx = dout * cache["gamma"] / np.sqrt(cache["running_var"] + cache["eps"])
    return dx, np.sum(dout * cache["xhat"], axis=0), np.sum(dout, axis=0)


@evaluation.mistake("unknown")
def goes_through_the_statistics_of_training(dout, cache):
    xhat, d = cache["xhat"], dout * cache["gamma"]
    dx = (d - d.mean(axis=0) - xhat * (d * xhat).mean(axis=0)) / np.sqrt(cache["running_var"] + cache["eps"])
    return dx, np.sum(dout * xhat, axis=0), np.sum(dout, axis=0)


@evaluation.mistake("unknown")
def divides_by_the_running_variance(dout, cache):
    dx = dout * cache["gamma"] / (cache["running_var"] + cache["eps"])
    return dx, np.sum(dout * cache["xhat"], axis=0), np.sum(dout, axis=0)


@evaluation.mistake("broadcast-not-summed")
def returns_dout_for_beta(dout, cache):
    dx = dout * cache["gamma"] / np.sqrt(cache["running_var"] + cache["eps"])
    return dx, np.sum(dout * cache["xhat"], axis=0), dout
