"""Homework 2, handed in: einsum, one-hot matrices, whole Jacobians, one output for all directions at once."""
import numpy as np


def softmax_forward(x):
    z = x - np.max(x, axis=1)[:, None]
    y = np.exp(z - np.log(np.sum(np.exp(z), axis=1))[:, None])
    return y, {"jacobian": np.einsum("nk,kj->nkj", y, np.eye(y.shape[1])) - np.einsum("nk,nj->nkj", y, y)}


def softmax_backward(dy, cache):
    return np.einsum("nk,nkj->nj", dy, cache["jacobian"])


def log_softmax_forward(x):
    y = x - np.logaddexp.reduce(x, axis=1, keepdims=True)
    return y, [np.exp(y)]


def log_softmax_backward(dy, cache):
    (p,) = cache
    return np.einsum("nj,njk->nk", dy, np.eye(p.shape[1]) - p[:, None, :])


def cross_entropy_forward(x, labels):
    hot = np.eye(x.shape[1])[labels]
    y = x - np.logaddexp.reduce(x, axis=1, keepdims=True)
    return np.einsum("nk,nk->", -y, hot) / len(x), ((np.exp(y) - hot) / len(x),)


def cross_entropy_backward(dloss, cache):
    return np.multiply(dloss, cache[0])


def numeric_gradient(f, x, dy, eps=1e-6):
    x = np.asarray(x, np.float64)
    steps = eps * np.eye(x.size).reshape(x.size, *x.shape)

    def s(points):
        return np.array([np.sum(np.multiply(f(point), dy)) for point in points])

    here = s([x.copy()])
    right, left = (s(x + steps) - here) / eps, (here - s(x - steps)) / eps
    kinks = np.abs(right - left) > 1e-5 * (1 + np.abs(right) + np.abs(left))
    return (0.5 * (left + right)).reshape(x.shape), kinks.reshape(x.shape)


def check_gradient(forward, backward, x, rng):
    wrong = np.zeros(x.shape, dtype=bool)
    for _ in range(2):  # two cotangents, away from 0
        y, cache = forward(x.copy())
        dy = rng.uniform(1, 2, np.shape(y)) * rng.choice([-1.0, 1.0], np.shape(y))
        dx = backward(dy, cache)
        if np.shape(dx) != np.shape(x):
            raise ValueError(f"shape {np.shape(dx)} is not {np.shape(x)}")
        measured, kinks = numeric_gradient(lambda z: forward(z)[0], x, dy)
        wrong |= ~np.isclose(dx, measured, rtol=1e-5, atol=1e-7) & ~kinks
    return list(zip(*np.nonzero(wrong)))


def linear_forward(x, w, b):
    return np.einsum("nd,kd->nk", x, w) + b, (x, w)


def linear_backward(dy, cache):
    x, w = cache
    return [np.einsum("nk,kd->nd", dy, w), np.einsum("nk,nd->kd", dy, x), np.einsum("nk->k", dy)]


def train(x, labels, w, b, steps, lr, batch_size, rng):
    weights, extended = np.column_stack([w, b]), np.column_stack([x, np.ones(len(x))])  # b as one more column of w
    losses = np.empty(steps)
    for step in range(steps):
        rows = rng.choice(len(x), size=batch_size, replace=False, shuffle=False)
        losses[step], cache = cross_entropy_forward(extended[rows] @ weights.T, labels[rows])
        weights = weights - lr * cross_entropy_backward(1, cache).T @ extended[rows]
    return weights[:, :-1], weights[:, -1], losses
