"""Homework 2, handed in: other legal choices. One task built on another, caches as objects and closures, in place on copies."""
from types import SimpleNamespace

import numpy as np


def softmax_forward(x):
    y = x.copy()
    y -= y.max(axis=-1, keepdims=True)
    np.exp(y, out=y)
    y /= y.sum(axis=-1, keepdims=True)
    return y, SimpleNamespace(y=y)


def softmax_backward(dy, cache):
    dx = dy * cache.y
    dx -= cache.y * np.add.reduce(dx, axis=-1, keepdims=True)
    return dx


def log_softmax_forward(x):
    p, of_softmax = softmax_forward(x)
    centred = x - x.max(axis=-1, keepdims=True)
    total = np.exp(centred).sum(axis=-1, keepdims=True)
    return centred - np.log(total), lambda dy: dy - p * dy.sum(axis=-1, keepdims=True)


def log_softmax_backward(dy, cache):
    return cache(dy)


def cross_entropy_forward(x, labels):
    y, of_log_softmax = log_softmax_forward(x)
    picked = np.take_along_axis(y, np.asarray(labels)[:, None], axis=1)

    def backward(dloss):
        dy = np.zeros(x.shape)
        np.add.at(dy, (np.arange(len(x)), labels), -dloss / len(x))
        return log_softmax_backward(dy, of_log_softmax)
    return -np.mean(picked), backward


def cross_entropy_backward(dloss, cache):
    return cache(dloss)


def numeric_gradient(f, x, dy, eps=1e-6):
    x = x.astype(float)
    flat = x.reshape(-1)  # a view of our copy
    dx, kinks = np.empty(x.size), np.empty(x.size, dtype=bool)
    here = np.array(f(x))
    for i, before in enumerate(flat.tolist()):
        flat[i] = before + eps
        above = np.array(f(x))
        flat[i] = before - eps
        below = np.array(f(x))
        flat[i] = before
        right, left = ((above - here) / eps * dy).sum(), ((here - below) / eps * dy).sum()
        dx[i] = ((above - below) * dy).sum() / (2 * eps)
        kinks[i] = np.abs(right - left) > 1e-5 * (1 + np.abs(right) + np.abs(left))
    return dx.reshape(x.shape), kinks.reshape(x.shape)


def check_gradient(forward, backward, x, rng):
    cache = forward(x)[1]
    dy = rng.uniform(-1, 1, np.shape(forward(x)[0]))
    dx = backward(dy, cache)
    if dx.shape != x.shape:
        raise ValueError("the shapes differ")
    measured, kinks = numeric_gradient(lambda z: forward(z)[0], x, dy)
    fine = kinks | (np.isfinite(dx) & (abs(dx - measured) <= 1e-7 + 1e-5 * abs(measured)))
    return np.argwhere(~fine)


def linear_forward(x, w, b):
    y = np.tile(b, (len(x), 1))
    y += x.dot(w.T)
    return y, dict(x=x, w=w)


def linear_backward(dy, cache):
    return dy.dot(cache["w"]), (cache["x"].T.dot(dy)).T, np.ones(len(dy)) @ dy


class SoftmaxRegression:
    def __init__(self, w, b):
        self.w, self.b = w, b

    def step(self, x, labels, lr):
        y, of_linear = linear_forward(x, self.w, self.b)
        loss, of_loss = cross_entropy_forward(y, labels)
        _, dw, db = linear_backward(cross_entropy_backward(1.0, of_loss), of_linear)
        self.w, self.b = self.w - lr * dw, self.b - lr * db
        return loss


def train(x, labels, w, b, steps, lr, batch_size, rng):
    model = SoftmaxRegression(w, b)
    losses = []
    for _ in range(steps):
        rows = np.argsort(rng.random(len(x)))[:batch_size]
        losses.append(model.step(x[rows], labels[rows], lr))
    return [model.w, model.b, losses]
