"""Homework 2, handed in: loops, one row and one element at a time."""
import math

import numpy as np


def softmax_forward(x):
    N, K = x.shape
    y = np.zeros_like(x)
    for n in range(N):
        largest = x[n].max()
        total = 0.0
        for k in range(K):
            y[n, k] = math.exp(x[n, k] - largest)
            total += y[n, k]
        for k in range(K):
            y[n, k] /= total
    return y, y


def softmax_backward(dy, cache):
    y = cache
    N, K = y.shape
    dx = np.zeros((N, K))
    for n in range(N):
        for i in range(K):
            for j in range(K):
                if i == j:
                    dx[n, i] += dy[n, j] * y[n, j] * (1 - y[n, j])
                else:
                    dx[n, i] -= dy[n, j] * y[n, i] * y[n, j]
    return dx


def log_softmax_forward(x):
    y = np.zeros(x.shape)
    for n in range(len(x)):
        largest = max(x[n])
        total = 0.0
        for value in x[n]:
            total += math.exp(value - largest)
        y[n] = x[n] - largest - math.log(total)
    return y, y


def log_softmax_backward(dy, cache):
    y = cache
    dx = np.zeros(y.shape)
    for n in range(len(y)):
        dx[n] = dy[n] - np.exp(y[n]) * sum(dy[n])
    return dx


def cross_entropy_forward(x, labels):
    y, cache = log_softmax_forward(x)
    loss = 0.0
    for n in range(len(x)):
        loss -= y[n, labels[n]]
    loss /= len(x)
    return loss, (cache, labels)


def cross_entropy_backward(dloss, cache):
    of_log_softmax, labels = cache
    N, K = of_log_softmax.shape
    dy = np.zeros((N, K))
    for n in range(N):
        dy[n, labels[n]] = -dloss / N
    return log_softmax_backward(dy, of_log_softmax)


def numeric_gradient(f, x, dy, eps=1e-6):
    x = np.asarray(x, dtype=np.float64)
    dx = np.zeros(x.shape)
    kinks = np.zeros(x.shape, dtype=bool)

    def s(x):
        return float(np.sum(np.asarray(f(x)) * dy))

    for index in np.ndindex(x.shape):
        up = x.copy()
        up[index] += eps
        down = x.copy()
        down[index] -= eps
        right = (s(up) - s(x.copy())) / eps
        left = (s(x.copy()) - s(down)) / eps
        dx[index] = (s(up) - s(down)) / (2 * eps)
        if abs(right - left) > 1e-5 * (1 + abs(right) + abs(left)):
            kinks[index] = True
    return dx, kinks


def check_gradient(forward, backward, x, rng):
    y, cache = forward(x)
    dy = np.array(rng.standard_normal(np.array(y).shape))
    dx = backward(dy, cache)
    if np.array(dx).shape != x.shape:
        raise ValueError("backward gave shape " + str(np.array(dx).shape))
    measured, kinks = numeric_gradient(lambda z: forward(z)[0], x, dy)
    wrong = []
    for index in np.ndindex(x.shape):
        if kinks[index]:
            continue
        difference = abs(dx[index] - measured[index])
        if math.isnan(difference) or difference > 1e-7 + 1e-5 * abs(measured[index]):
            wrong.append(index)
    return wrong


def linear_forward(x, w, b):
    N, D = x.shape
    K = len(w)
    y = np.zeros((N, K))
    for n in range(N):
        for k in range(K):
            y[n, k] = b[k]
            for d in range(D):
                y[n, k] += x[n, d] * w[k, d]
    return y, (x, w, b)


def linear_backward(dy, cache):
    x, w, b = cache
    dx = np.zeros(x.shape)
    dw = np.zeros(w.shape)
    db = np.zeros(b.shape)
    for n in range(len(x)):
        for k in range(len(w)):
            dx[n] += dy[n, k] * w[k]
            dw[k] += dy[n, k] * x[n]
            db[k] += dy[n, k]
    return dx, dw, db


def train(x, labels, w, b, steps, lr, batch_size, rng):
    w = w.copy()
    b = b.copy()
    losses = []
    for _ in range(steps):
        rows = rng.permutation(len(x))[:batch_size]
        y, cache = linear_forward(x[rows], w, b)
        loss, loss_cache = cross_entropy_forward(y, labels[rows])
        losses.append(loss)
        dy = cross_entropy_backward(1.0, loss_cache)
        dx, dw, db = linear_backward(dy, cache)
        w -= lr * dw
        b -= lr * db
    return w, b, losses
