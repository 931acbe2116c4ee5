"""Layers y = x w + b: CS231n's affine layer, PyTorch's linear layer, and a layer that is used at many positions."""
import numpy as np
from corpus.case import Operation

from minidl import Function


def normal(rng, *shapes):
    return tuple(rng.normal(size=shape) for shape in shapes)


# affine: x is (N, d1, ..., dk), w is (d1 * ... * dk, M)

def affine_samples(rng):
    yield normal(rng, (3, 2, 4), (8, 5), (5,)), {}
    yield normal(rng, (4, 6), (6, 3), (3,)), {}
    yield normal(rng, (2, 3, 2, 2), (12, 4), (4,)), {}
    yield normal(rng, (1, 5), (5, 2), (2,)), {}


def affine_reference(x, w, b):
    return np.array([[b[m] + sum(v * w[d, m] for d, v in enumerate(row.flat)) for m in range(len(b))] for row in x])


def affine_forward(x, w, b):
    return x.reshape(len(x), -1) @ w + b, (x, w, b)


def affine_only(x, w, b):
    return np.dot(x.reshape(x.shape[0], -1), w) + b


affine = Operation("affine", affine_samples, affine_reference, affine_forward)


@affine.mistake("broadcast-not-summed")
def bias_gets_dout(dout, cache):
    x, w, b = cache
    return (dout @ w.T).reshape(x.shape), x.reshape(len(x), -1).T @ dout, dout


@affine.mistake("scale")
def bias_gets_the_mean(dout, cache):
    x, w, b = cache
    return (dout @ w.T).reshape(x.shape), x.reshape(len(x), -1).T @ dout, dout.mean(axis=0)


@affine.mistake("scale")
def divides_the_weights_by_the_batch(dout, cache):
    x, w, b = cache
    N = len(x)
    return (dout @ w.T).reshape(x.shape), x.reshape(N, -1).T @ dout / N, dout.sum(axis=0) / N


@affine.mistake("wrong-shape")
def sums_dout_over_the_wrong_axis(dout, cache):
    x, w, b = cache
    return (dout @ w.T).reshape(x.shape), x.reshape(len(x), -1).T @ dout, dout.sum(axis=1)


@affine.mistake("wrong-shape")
def leaves_x_flat(dout, cache):
    x, w, b = cache
    return dout @ w.T, x.reshape(len(x), -1).T @ dout, dout.sum(axis=0)


@affine.mistake("wrong-shape")
def bias_keeps_an_axis(dout, cache):
    x, w, b = cache
    return (dout @ w.T).reshape(x.shape), x.reshape(len(x), -1).T @ dout, dout.sum(axis=0, keepdims=True)


@affine.mistake("wrong-shape")
def forgets_to_return_db(dout, cache):
    x, w, b = cache
    return (dout @ w.T).reshape(x.shape), x.reshape(len(x), -1).T @ dout


@affine.mistake("transposed")
def weights_transposed(dout, cache):
    x, w, b = cache
    return (dout @ w.T).reshape(x.shape), dout.T @ x.reshape(len(x), -1), dout.sum(axis=0)


@affine.mistake("transposed")
def weights_reshaped_into_place(dout, cache):
    x, w, b = cache
    return (dout @ w.T).reshape(x.shape), (dout.T @ x.reshape(len(x), -1)).reshape(w.shape), dout.sum(axis=0)


@affine.mistake("zero")
def bias_is_forgotten(dout, cache):
    x, w, b = cache
    return (dout @ w.T).reshape(x.shape), x.reshape(len(x), -1).T @ dout, np.zeros_like(b)


@affine.mistake("ignores-upstream")
def bias_counts_the_samples(dout, cache):
    x, w, b = cache
    return (dout @ w.T).reshape(x.shape), x.reshape(len(x), -1).T @ dout, np.ones_like(b) * len(x)


@affine.mistake("ignores-upstream")
def weights_get_the_inputs(dout, cache):
    x, w, b = cache
    dw = x.reshape(len(x), -1).T @ np.ones_like(dout)
    return (dout @ w.T).reshape(x.shape), dw, dout.sum(axis=0)


@affine.mistake("one-sample-only")
def weights_overwritten_sample_by_sample(dout, cache):
    x, w, b = cache
    dx, db = np.zeros_like(x), np.zeros_like(b)
    for n in range(len(x)):
        dx[n] = (w @ dout[n]).reshape(x[n].shape)
        dw = np.outer(x[n].ravel(), dout[n])
        db += dout[n]
    return dx, dw, db


@affine.mistake("one-sample-only")
def bias_takes_the_first_row(dout, cache):
    x, w, b = cache
    return (dout @ w.T).reshape(x.shape), x.reshape(len(x), -1).T @ dout, dout[0]


@affine.mistake("not-deterministic", forward=lambda x, w, b: (affine_only(x, w, b), [x, w, np.zeros_like(w), np.zeros_like(b)]))
def adds_to_gradients_in_the_cache(dout, cache):
    x, w, dw, db = cache
    dw += x.reshape(len(x), -1).T @ dout
    db += dout.sum(axis=0)
    return (dout @ w.T).reshape(x.shape), dw, db


@affine.mistake("unknown")
def weights_see_the_gradient_of_x(dout, cache):
    x, w, b = cache
    dx = dout @ w.T
    return dx.reshape(x.shape), dx.T @ dout, dout.sum(axis=0)


def affine_without_bias(x, w, b):
    return x.reshape(len(x), -1) @ w, (x, w, b)


@affine.mistake("forward-differs", forward=affine_without_bias)
def forward_leaves_the_bias_out(dout, cache):
    x, w, b = cache
    return (dout @ w.T).reshape(x.shape), x.reshape(len(x), -1).T @ dout, dout.sum(axis=0)


@affine.mistake("mutates-input")
def updates_the_weights_at_once(dout, cache):
    x, w, b = cache
    dx, dw, db = (dout @ w.T).reshape(x.shape), x.reshape(len(x), -1).T @ dout, dout.sum(axis=0)
    b -= 0.1 * db
    return dx, dw, db


@affine.correct()
def three_lines(dout, cache):
    x, w, b = cache
    return (dout @ w.T).reshape(x.shape), x.reshape(len(x), -1).T @ dout, dout.sum(axis=0)


@affine.correct(forward=affine_only)
def a_column_of_ones_for_the_bias(dout, x, w, b):
    flat = np.hstack([x.reshape(len(x), -1), np.ones((len(x), 1))])
    both = np.einsum("nd,nm->dm", flat, dout)
    return [np.einsum("nm,dm->nd", dout, w).reshape(x.shape), both[:-1], both[-1]]


@affine.correct()
def sample_by_sample(dout, cache):
    x, w, b = cache
    dx, dw, db = np.zeros(x.shape), np.zeros(w.shape), np.zeros(b.shape)
    for n in range(len(x)):
        dx[n] += np.reshape(w @ dout[n], x[n].shape)
        dw += x[n].reshape(-1, 1) * dout[n]
        db += dout[n]
    return dx, dw, db


# linear: w is (out, in), scaled by alpha

def linear_samples(rng):
    yield normal(rng, (3, 4), (5, 4), (5,)), {"alpha": 0.5}
    yield normal(rng, (4, 2), (3, 2), (3,)), {"alpha": 3.0}
    yield normal(rng, (4, 3), (3, 3), (3,)), {"alpha": 1.5}
    yield normal(rng, (1, 4), (2, 4), (2,)), {"alpha": 2.0}


def linear_reference(x, w, b, alpha):
    return np.stack([alpha * sum(x[:, i] * row[i] for i in range(len(row))) + b[m] for m, row in enumerate(w)], axis=1)


def linear_forward(x, w, b, alpha):
    return alpha * (x @ w.T) + b, {"x": x, "w": w, "b": b, "alpha": alpha}


linear = Operation("linear", linear_samples, linear_reference, linear_forward)


@linear.mistake("scale")
def forgets_alpha(dout, cache):
    return dout @ cache["w"], dout.T @ cache["x"], dout.sum(axis=0)


@linear.mistake("scale")
def scales_the_bias_as_well(dout, cache):
    d = cache["alpha"] * dout
    return d @ cache["w"], d.T @ cache["x"], d.sum(axis=0)


@linear.mistake("transposed")
def returns_in_by_out(dout, cache):
    d = cache["alpha"] * dout
    return d @ cache["w"], cache["x"].T @ d, dout.sum(axis=0)


@linear.mistake("mutates-input")
def scales_dout_in_place(dout, cache):
    db = dout.sum(axis=0)
    dout *= cache["alpha"]
    return dout @ cache["w"], dout.T @ cache["x"], db


@linear.mistake("sign")
def subtracts_the_bias_gradient(dout, cache):
    d = cache["alpha"] * dout
    return d @ cache["w"], d.T @ cache["x"], -dout.sum(axis=0)


@linear.correct()
def alpha_for_the_product_only(dout, cache):
    d = cache["alpha"] * dout
    return d @ cache["w"], d.T @ cache["x"], np.ones(len(dout)) @ dout


@linear.correct()
class Linear(Function):
    def __init__(self, alpha=1.0):
        self.alpha = alpha

    def forward(self, x, w, b):
        self.x, self.w = x, w
        return np.tensordot(x, self.alpha * w, axes=(1, 1)) + b

    def backward(self, dy):
        dx = self.alpha * np.tensordot(dy, self.w, axes=(1, 0))
        dw = self.alpha * np.tensordot(dy, self.x, axes=(0, 0))
        return dx, dw, dy.sum(0)


@linear.mistake("broadcast-not-summed")
class LinearBiasNotSummed(Function):
    def __init__(self, alpha=1.0):
        self.alpha = alpha

    def forward(self, x, w, b):
        self.x, self.w = x, w
        return self.alpha * x @ w.T + b

    def backward(self, dy):
        return self.alpha * dy @ self.w, self.alpha * dy.T @ self.x, dy


@linear.mistake("scale")
class LinearAveraged(Function):
    def __init__(self, alpha=1.0):
        self.alpha = alpha

    def forward(self, x, w, b):
        self.x, self.w = x, w
        return self.alpha * x @ w.T + b

    def backward(self, dy):
        N = len(dy)
        return self.alpha * dy @ self.w, self.alpha * dy.T @ self.x / N, dy.sum(axis=0) / N


# temporal affine: the same weights at every time step, x is (N, T, D)

def temporal_samples(rng):
    yield normal(rng, (2, 3, 4), (4, 5), (5,)), {}
    yield normal(rng, (3, 5, 2), (2, 4), (4,)), {}
    yield normal(rng, (1, 4, 3), (3, 2), (2,)), {}


def temporal_reference(x, w, b):
    return np.stack([affine_reference(x[:, t], w, b) for t in range(x.shape[1])], axis=1)


def temporal_forward(x, w, b):
    return np.einsum("ntd,dm->ntm", x, w) + b, (x, w, b)


temporal = Operation("temporal_affine", temporal_samples, temporal_reference, temporal_forward)


@temporal.mistake("broadcast-not-summed")
def sums_the_bias_over_the_batch_only(dout, cache):
    x, w, b = cache
    return dout @ w.T, np.einsum("ntd,ntm->dm", x, dout), dout.sum(axis=0)


@temporal.mistake("broadcast-not-summed")
def weights_keep_the_batch_axis(dout, cache):
    x, w, b = cache
    return dout @ w.T, x.transpose(0, 2, 1) @ dout, dout.sum(axis=(0, 1))


@temporal.mistake("overwrites-overlap")
def every_time_step_overwrites_the_weights(dout, cache):
    x, w, b = cache
    dx = np.zeros_like(x)
    for t in range(x.shape[1]):
        dx[:, t] = dout[:, t] @ w.T
        dw = x[:, t].T @ dout[:, t]
        db = dout[:, t].sum(axis=0)
    return dx, dw, db


@temporal.mistake("transposed")
def mixes_time_and_features(dout, cache):
    """Where time must go to the rows, a reshape puts features there."""
    x, w, b = cache
    N, T, D = x.shape
    dw = x.transpose(0, 2, 1).reshape(-1, D).T @ dout.reshape(N * T, -1)
    return dout @ w.T, dw, dout.sum(axis=(0, 1))


@temporal.mistake("one-sample-only")
def only_the_first_sequence_counts(dout, cache):
    x, w, b = cache
    return dout @ w.T, x[0].T @ dout[0], dout[0].sum(axis=0)


@temporal.correct()
def flattens_batch_and_time(dout, cache):
    x, w, b = cache
    d = dout.reshape(-1, dout.shape[-1])
    return (d @ w.T).reshape(x.shape), x.reshape(-1, x.shape[-1]).T @ d, d.sum(axis=0)


@temporal.correct()
def adds_over_the_time_steps(dout, cache):
    x, w, b = cache
    dx, dw, db = np.empty_like(x), 0, 0
    for t in reversed(range(x.shape[1])):
        dx[:, t] = dout[:, t] @ w.T
        dw = dw + x[:, t].T @ dout[:, t]
        db = db + dout[:, t].sum(axis=0)
    return dx, dw, db
