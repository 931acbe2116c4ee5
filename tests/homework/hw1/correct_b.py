"""Homework 1, handed in: short, with einsum, views and a heap."""
import heapq
from contextlib import contextmanager
from itertools import count

import numpy as np


def unbroadcast(dy, shape):
    padded = (1,) * (dy.ndim - len(shape)) + tuple(shape)
    axes = tuple(i for i, (a, b) in enumerate(zip(dy.shape, padded)) if a != b)
    return np.add.reduce(dy, axis=axes).reshape(shape) if axes else dy.reshape(shape)


class Binary:
    """What Add and Multiply share: the inputs are kept, the local slopes are a method."""

    def forward(self, x, y):
        self.inputs = x, y
        return self.value(x, y)

    def backward(self, dz):
        return [unbroadcast(dz * slope, x.shape) for x, slope in zip(self.inputs, self.slopes(*self.inputs))]


class Add(Binary):
    value = staticmethod(np.add)

    def slopes(self, x, y):
        return 1.0, 1.0


class Multiply(Binary):
    value = staticmethod(np.multiply)

    def slopes(self, x, y):
        return y, x


class Power:
    def __init__(self, exponent):
        self.exponent = exponent

    def forward(self, x):
        self.slope = self.exponent * x ** (self.exponent - 1)
        return x**self.exponent

    def backward(self, dy):
        return [self.slope * dy]


class MatMul:
    def forward(self, x, y):
        self.inputs = x, y
        return np.einsum("...mk,...kn->...mn", x, y)

    def backward(self, dz):
        x, y = self.inputs
        return (unbroadcast(np.einsum("...mn,...kn->...mk", dz, y), x.shape),
                unbroadcast(np.einsum("...mk,...mn->...kn", x, dz), y.shape))


class Sum:
    def __init__(self, axis=None, keepdims=False):
        self.axis, self.keepdims = axis, keepdims

    def forward(self, x):
        axes = range(x.ndim) if self.axis is None else np.atleast_1d(self.axis) % x.ndim
        self.shape, self.kept = x.shape, tuple(1 if i in axes else size for i, size in enumerate(x.shape))
        return x.sum(axis=self.axis, keepdims=self.keepdims)

    def backward(self, dy):
        return (np.broadcast_to(np.reshape(dy, self.kept), self.shape),)  # a view that cannot be written into


class Recorder:
    depth = 0  # how many no_grad blocks we are inside
    clock = count()


@contextmanager
def no_grad():
    Recorder.depth += 1
    try:
        yield
    finally:
        Recorder.depth -= 1


def record(operation, *inputs):
    inputs = tuple(x if isinstance(x, Tensor) else Tensor(x) for x in inputs)
    y = Tensor(operation.forward(*(x.data for x in inputs)))
    if not Recorder.depth and any(x.requires_grad for x in inputs):
        y.requires_grad, y.operation, y.inputs = True, operation, inputs
    return y


class Tensor:
    __array_ufunc__ = None
    __slots__ = ("data", "grad", "inputs", "operation", "requires_grad")

    def __init__(self, data, requires_grad=False):
        self.data = np.asarray(data, dtype=np.float64)
        self.grad, self.requires_grad, self.operation, self.inputs = None, requires_grad, None, ()

    def __add__(self, other):
        return record(Add(), self, other)

    __radd__ = __add__

    def __mul__(self, other):
        return record(Multiply(), self, other)

    __rmul__ = __mul__

    def __sub__(self, other):
        return self + -1.0 * (other if isinstance(other, Tensor) else np.asarray(other))

    def __pow__(self, exponent):
        return record(Power(exponent), self)

    def __matmul__(self, other):
        return record(MatMul(), self, other)

    def sum(self, axis=None, keepdims=False):
        return record(Sum(axis=axis, keepdims=keepdims), self)

    def detach(self):
        return Tensor(self.data)

    def backward(self):
        walk_back(self)


def topological_order(result):
    """Depth first, with an iterator over the inputs of every tensor on the way."""
    order, seen, way = [], {result}, [(result, iter(result.inputs))]
    while way:
        tensor, rest = way[-1]
        for x in rest:
            if x not in seen:
                seen.add(x)
                way.append((x, iter(x.inputs)))
                break
        else:
            order.append(tensor)
            way.pop()
    return tuple(order)


def walk_back(result, dy=None):
    """The latest first, by a heap; shares wait in a list and are summed when their tensor's turn comes."""
    if dy is None:
        if result.data.size > 1:
            raise ValueError("pass dy, or give me a scalar")
        dy = np.ones(result.data.shape)
    turn = {x: -i for i, x in enumerate(topological_order(result))}
    shares, heap = {result: [dy]}, [(turn[result], id(result), result)]
    while heap:
        _, _, tensor = heapq.heappop(heap)
        total = sum(shares.pop(tensor), np.zeros(tensor.data.shape))
        if tensor.operation is None:
            if tensor.requires_grad:
                tensor.grad = total if tensor.grad is None else tensor.grad + total
            continue
        for x, dx in zip(tensor.inputs, tensor.operation.backward(total)):
            if x not in shares:
                shares[x] = []
                heapq.heappush(heap, (turn[x], id(x), x))
            shares[x].append(dx)


def descend(compute_loss, parameters, lr, steps):
    def step():
        for p in parameters:
            p.grad = None
        loss = compute_loss()
        loss.backward()
        for p in parameters:
            if p.grad is not None:
                p.data -= lr * p.grad
        return float(loss.data.reshape(()))
    return [step() for _ in range(steps)]
