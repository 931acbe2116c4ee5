"""Homework 1, handed in: other legal choices. Closures, explicit Jacobians, .grad summed in place into an array of its own."""
import numpy as np


def ones_like_matrix(shape, out_shape):
    """The 0/1 matrix of broadcasting from shape to out_shape: row = output, column = input."""
    number = np.arange(int(np.prod(shape))).reshape(shape)
    source = np.broadcast_to(number, out_shape).ravel()
    matrix = np.zeros((source.size, number.size))
    matrix[np.arange(source.size), source] = 1.0
    return matrix


def unbroadcast(dy, shape):
    return (np.ravel(dy) @ ones_like_matrix(shape, np.shape(dy))).reshape(shape)


class Operation:
    def run(self, value, *slopes):
        self.slopes = slopes
        return value

    def backward(self, dz):
        return tuple(slope(dz) for slope in self.slopes)


class Add(Operation):
    def forward(self, x, y):
        return self.run(x + y, lambda dz: unbroadcast(dz, x.shape), lambda dz: unbroadcast(dz, y.shape))


class Multiply(Operation):
    def forward(self, x, y):
        return self.run(x * y, lambda dz: unbroadcast(dz * y, x.shape), lambda dz: unbroadcast(x * dz, y.shape))


class Power(Operation):
    def __init__(self, exponent):
        self.exponent = exponent

    def forward(self, x):
        p = self.exponent
        return self.run(x**p, lambda dy: p * dy * x ** (p - 1))


class MatMul(Operation):
    def forward(self, x, y):
        return self.run(np.matmul(x, y),
                        lambda dz: unbroadcast((dz[..., :, None, :] * y[..., None, :, :]).sum(axis=-1), x.shape),
                        lambda dz: unbroadcast((x[..., :, :, None] * dz[..., :, None, :]).sum(axis=-3), y.shape))


class Sum(Operation):
    def __init__(self, axis=None, keepdims=False):
        self.options = dict(axis=axis, keepdims=keepdims)

    def forward(self, x):
        number = np.arange(x.size).reshape(x.shape)  # which outputs does element i reach: all but one are 0

        def slope(dy):
            dx = np.empty(x.size)
            for i in range(x.size):
                dx[i] = (np.sum(number == i, **self.options) * dy).sum()
            return dx.reshape(x.shape)
        return self.run(x.sum(**self.options), slope)


switches = [True]


class no_grad:
    def __enter__(self):
        switches.append(False)
        return self

    def __exit__(self, *error):
        switches.pop()
        return False


def record(operation, *inputs):
    inputs = [x if isinstance(x, Tensor) else Tensor(x) for x in inputs]
    value = operation.forward(*[x.data for x in inputs])
    if switches[-1] and any(x.requires_grad for x in inputs):
        return Tensor(value, True, operation, inputs)
    return Tensor(value)


class Tensor:
    __array_ufunc__ = None

    def __init__(self, data, requires_grad=False, operation=None, inputs=()):
        self.data, self.requires_grad = np.array(data, np.float64), requires_grad
        self.grad, self.operation, self.inputs = None, operation, tuple(inputs)

    def __add__(self, other):
        return record(Add(), self, other)

    def __mul__(self, other):
        return record(Multiply(), self, other)

    __radd__, __rmul__ = __add__, __mul__

    def __sub__(self, other):
        return (self * -1.0 + other) * -1.0

    def __pow__(self, exponent):
        return record(Power(exponent), self)

    def __matmul__(self, other):
        return record(MatMul(), self, other)

    def sum(self, axis=None, keepdims=False):
        return record(Sum(axis, keepdims), self)

    def detach(self):
        with no_grad():
            return self + 0.0

    def backward(self):
        walk_back(self)


def topological_order(result):
    """By depth: a tensor stands one level above the highest of its inputs; sorted by level."""
    level, stack = {}, [result]
    while stack:
        tensor = stack[-1]
        waiting = [x for x in tensor.inputs if x not in level]
        if waiting:
            stack += waiting
        else:
            level[stack.pop()] = 1 + max((level[x] for x in tensor.inputs), default=0)
    return sorted(level, key=level.get)


def walk_back(result, dy=None):
    if dy is None and result.data.size != 1:
        raise ValueError(f"the loss must be one number, got {result.data.shape}")
    slopes = {result: np.ones(result.data.shape) if dy is None else np.array(dy)}
    for tensor in topological_order(result)[::-1]:
        if tensor not in slopes:
            continue
        slope = slopes[tensor]
        if tensor.operation is not None:
            for x, dx in zip(tensor.inputs, tensor.operation.backward(slope)):
                if x.requires_grad:
                    slopes.setdefault(x, np.zeros(x.data.shape))
                    slopes[x] += dx  # into an array of our own
        elif tensor.requires_grad:
            if tensor.grad is None:
                tensor.grad = np.zeros_like(tensor.data)
            tensor.grad += slope


def descend(compute_loss, parameters, lr, steps):
    losses = np.zeros(steps)
    for i in range(steps):
        for p in parameters:
            p.grad = np.zeros_like(p.data)
        loss = compute_loss()
        loss.backward()
        losses[i] = loss.data.sum()
        for p in parameters:
            p.data = p.data - lr * p.grad
    return losses.tolist()
