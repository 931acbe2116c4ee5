"""Homework 1: an autograd engine of your own, on NumPy arrays.

You build what stands behind `loss.backward()`: operations that know their own slope, tensors that remember how they were
computed, and the walk back that turns the memory into gradients. At the end your engine trains something.
It goes with lesson 1 (01_chain_rule_and_tape). There a value was one number; here it is an array.

Three kinds of things, and one rule for each:

    operation   y = op.forward(x, ...) and (dx, ...) = op.backward(dy): NumPy arrays in, NumPy arrays out. backward returns
                a tuple with one gradient for each argument of forward, in that order, also when there is only one.
                What backward needs from forward is saved on `self`. One instance serves one call of forward.
    gradient    dx is the slope of the loss with respect to x, and so has the shape of x. dy is the slope with respect to y;
                it comes from whoever used y.
    tensor      an array, and how it was made: `operation` and `inputs`.

No method ever writes into an array that it was given: somebody else may be using it.

You need NumPy only. Write the tasks in their order; each is checked by itself, with our solution for the tasks before it:

    minidl homework check hw1_autograd.py
"""
from contextlib import contextmanager

import numpy as np


#: task unbroadcast | 3 points | 20 minutes
#: hint In (2, 3) + (3,) every number of the second array is used twice. What does the chain rule do where paths meet?
#: hint Two cases: NumPy had put axes in front (dy.ndim is larger), or had stretched an axis of size 1. Which axes of dy are
#:      those? Sum over them.
#: hint dy.sum(axis=tuple(range(dy.ndim - len(shape)))) for the front. Then, for every axis i where shape[i] is 1 and
#:      dy.shape[i] is not: dy.sum(axis=i, keepdims=True).
def unbroadcast(dy, shape):
    """The gradient of an array of this shape that NumPy broadcast to dy.shape: dy summed over all that was repeated.

    dy: array. shape: a tuple of sizes that broadcasts to dy.shape, () for a single number.
    Returns an array of exactly this shape; if nothing had been repeated, dy itself or a copy.

        unbroadcast(dy of shape (4, 2, 3), (2, 1)) has the shape (2, 1): summed over axis 0 (was not there) and axis 2 (was 1).
    """
    #: solution
    added = dy.ndim - len(shape)
    dy = dy.sum(axis=tuple(range(added)))  # an empty tuple of axes sums over nothing
    stretched = tuple(i for i, size in enumerate(shape) if size == 1 and dy.shape[i] != 1)
    return dy.sum(axis=stretched, keepdims=True)
    #: end


#: task elementwise | 4 points | 20 minutes
#: hint Write down dL/dx for one element, as if there were no arrays. Then ask: was x repeated to reach the shape of y?
#: hint Add: each input gets dy. Multiply: each gets dy times the other one. Power: dy times p x^(p - 1). Which of them need
#:      `unbroadcast`, and with which shape?
#: hint Multiply saves self.x, self.y = x, y and returns (unbroadcast(dz * self.y, self.x.shape),
#:      unbroadcast(dz * self.x, self.y.shape)).
class Add:
    """z = x + y for arrays that broadcast."""

    def forward(self, x, y):
        """x, y: arrays that broadcast. Returns z = x + y and saves what backward needs."""
        #: solution
        self.shapes = x.shape, y.shape
        return x + y
        #: end

    def backward(self, dz):
        """dz: array of the shape of z. Returns (dx, dy), of the shapes of x and y."""
        #: solution
        x_shape, y_shape = self.shapes
        return unbroadcast(dz, x_shape), unbroadcast(dz, y_shape)
        #: end


class Multiply:
    """z = x * y, element by element, for arrays that broadcast."""

    def forward(self, x, y):
        """x, y: arrays that broadcast. Returns z = x * y and saves what backward needs."""
        #: solution
        self.x, self.y = x, y
        return x * y
        #: end

    def backward(self, dz):
        """dz: array of the shape of z. Returns (dx, dy), of the shapes of x and y."""
        #: solution
        return unbroadcast(dz * self.y, self.x.shape), unbroadcast(dz * self.x, self.y.shape)
        #: end


class Power:
    """y = x ** exponent, element by element; the exponent is a number, not an array, and gets no gradient."""

    def __init__(self, exponent):
        self.exponent = exponent

    def forward(self, x):
        """x: array (positive where the exponent is not whole). Returns y = x ** exponent and saves what backward needs."""
        #: solution
        self.x = x
        return x**self.exponent
        #: end

    def backward(self, dy):
        """dy: array of the shape of y. Returns (dx,): a tuple, also for one."""
        #: solution
        return (dy * self.exponent * self.x ** (self.exponent - 1),)
        #: end


#: task matmul | 3 points | 20 minutes
#: hint Shapes nearly decide it: dx must be (M, K), and you have dz (M, N) and y (K, N). Only one product fits.
#: hint dx = dz @ y.T and dy = x.T @ dz for two matrices. Of a stack, `.T` would turn all axes around: swap the last two only.
#:      And what if one of the two was not stacked?
#: hint unbroadcast(dz @ np.swapaxes(self.y, -1, -2), self.x.shape), and the same kind of line for dy.
class MatMul:
    """z = x @ y, for two matrices or stacks of them."""

    def forward(self, x, y):
        """x: (..., M, K), y: (..., K, N), both with at least two axes; those in front of the last two broadcast.

        Returns z = x @ y of shape (..., M, N) and saves what backward needs.
        """
        #: solution
        self.x, self.y = x, y
        return x @ y
        #: end

    def backward(self, dz):
        """dz: (..., M, N). Returns (dx, dy), of the shapes of x and y."""
        #: solution
        dx = dz @ np.swapaxes(self.y, -1, -2)
        dy = np.swapaxes(self.x, -1, -2) @ dz
        return unbroadcast(dx, self.x.shape), unbroadcast(dy, self.y.shape)
        #: end


#: task total | 3 points | 20 minutes
#: hint Every element of x enters exactly one sum, with slope 1. So dx holds numbers of dy: which one stands where?
#: hint dx is dy, broadcast to the shape of x. Without keepdims the summed axes are missing from dy: put them back with size 1.
#: hint if axis is not None and not keepdims: dy = np.expand_dims(dy, axis), which takes a tuple and negative axes, too.
#:      Then np.broadcast_to(dy, shape), as a copy.
class Sum:
    """y = x.sum(axis=axis, keepdims=keepdims)."""

    def __init__(self, axis=None, keepdims=False):
        """axis: None for all axes, an integer or a tuple of integers; negative ones count from the end, as NumPy's do."""
        self.axis, self.keepdims = axis, keepdims

    def forward(self, x):
        """x: array. Returns its sum along the axes, as NumPy would, and saves what backward needs."""
        #: solution
        self.shape = x.shape
        return x.sum(axis=self.axis, keepdims=self.keepdims)
        #: end

    def backward(self, dy):
        """dy: array of the shape of y, which has no axes at all for axis=None without keepdims. Returns (dx,)."""
        #: solution
        if self.axis is not None and not self.keepdims:
            dy = np.expand_dims(dy, self.axis)
        return (np.broadcast_to(dy, self.shape).copy(),)
        #: end


#: task tensor | 5 points | 35 minutes
#: hint `record` is the only place where anything is remembered. What must a tensor know so that a walk back can start at it?
#:      And when is remembering useless?
#: hint Wrap what is not a Tensor, run operation.forward on the .data of all inputs, make the result. Only if recording is on
#:      and one of the inputs requires a gradient: set requires_grad, operation and inputs of the result.
#: hint no_grad: before = settings["recording"], set it to False, then `try: yield` and in `finally:` set it to before, not to
#:      True: no_grad may stand inside no_grad. x - y is x + y * -1.
settings = {"recording": True}


@contextmanager
def no_grad():
    """`with no_grad():` nothing that is computed inside is remembered, however it is left, also by an error.

    Afterwards everything is as it was before. Blocks may stand inside one another. The one who asks is `record`.
    """
    #: solution
    before = settings["recording"]
    settings["recording"] = False
    try:
        yield
    finally:
        settings["recording"] = before
    #: end


def record(operation, *inputs):
    """Runs operation.forward on the inputs' arrays. Returns the result as a Tensor that remembers how it was made.

    operation: an instance of Add, Multiply, ... inputs: Tensors; arrays and numbers are turned into Tensors.
    If an input requires a gradient and we are not inside `no_grad`, the result has
        requires_grad = True, operation = the instance, inputs = the tuple of the input Tensors (the very objects, in order).
    Otherwise the result is a plain leaf: requires_grad = False, operation = None, inputs = ().
    """
    #: solution
    tensors = tuple(x if isinstance(x, Tensor) else Tensor(x) for x in inputs)
    result = Tensor(operation.forward(*[x.data for x in tensors]))
    if settings["recording"] and any(x.requires_grad for x in tensors):
        result.requires_grad, result.operation, result.inputs = True, operation, tensors
    return result
    #: end


class Tensor:
    """An array that remembers how it was computed.

    data: a float64 array. grad: None, or the gradient: an array of the shape of data.
    requires_grad: whether a gradient is wanted. operation, inputs: how it was made; None and () for a leaf, which is a tensor
    that no operation made: a weight, a constant.
    """

    __array_ufunc__ = None  # so that NumPy leaves `array * tensor` to __rmul__

    def __init__(self, data, requires_grad=False):
        self.data = np.asarray(data, dtype=np.float64)
        self.grad = None
        self.requires_grad = requires_grad
        self.operation = None
        self.inputs: tuple = ()

    def __add__(self, other):
        return record(Add(), self, other)

    __radd__ = __add__

    def __mul__(self, other):
        """self * other, recorded; other is a Tensor, an array or a number, here and below."""
        #: solution
        return record(Multiply(), self, other)
        #: end

    __rmul__ = __mul__

    def __sub__(self, other):
        """self - other, made of what you have: no new operation."""
        #: solution
        return self + record(Multiply(), other, -1.0)
        #: end

    def __pow__(self, exponent):
        """self ** exponent, recorded; exponent is a number."""
        #: solution
        return record(Power(exponent), self)
        #: end

    def __matmul__(self, other):
        """self @ other, recorded."""
        #: solution
        return record(MatMul(), self, other)
        #: end

    def sum(self, axis=None, keepdims=False):
        """The sum along the axes, recorded."""
        #: solution
        return record(Sum(axis, keepdims), self)
        #: end

    def detach(self):
        """A new leaf with the same numbers that requires no gradient: whatever is computed from it, no walk comes back."""
        #: solution
        return Tensor(self.data)
        #: end

    def backward(self):
        walk_back(self)


#: task topological_order | 4 points | 35 minutes
#: hint In which order do you finish if you may only write a tensor down after all its inputs? How do you know, back at a
#:      tensor, that its inputs are done, without a function that calls itself?
#: hint Keep a stack of your own: pairs (tensor, were its inputs pushed already?). The first time you take a tensor off, push it
#:      again as (tensor, True) and its inputs as (input, False); the second time, write it down. A set of what you have seen
#:      keeps you from doing anything twice.
#: hint while stack: tensor, done = stack.pop(). If done: order.append(tensor). Else, if id(tensor) is not in seen: add it,
#:      push (tensor, True), push (x, False) for x in tensor.inputs.
def topological_order(result):
    """All tensors from which `result` was computed, as a list; the last one is `result` itself.

    That is result, its inputs, their inputs, and so on down to the leaves, constants among them: each exactly once, and each
    after all of its own inputs. Any such order will do.

    Without recursion: a chain of 5,000 operations is an ordinary thing, and Python stops at about 1,000 nested calls. And
    without walking along every path: n doublings x = x + x have 2^n paths, but only n + 1 tensors.
    """
    #: solution
    order, seen, stack = [], set(), [(result, False)]
    while stack:
        tensor, inputs_done = stack.pop()
        if inputs_done:
            order.append(tensor)
        elif id(tensor) not in seen:
            seen.add(id(tensor))
            stack.append((tensor, True))
            stack.extend((x, False) for x in tensor.inputs)
    return order
    #: end


#: task walk_back | 5 points | 35 minutes
#: hint What must be known about a tensor before its operation's backward may run? Which order guarantees it?
#: hint Go through reversed(topological_order(result)) with a dictionary from id(tensor) to the gradient collected so far. A
#:      leaf adds what was collected to its .grad; any other tensor hands it to operation.backward, and each input that
#:      requires a gradient collects its share.
#: hint Collect with collected[id(x)] = collected[id(x)] + dx, never with +=, which writes into an array that another may
#:      hold. At a leaf: .grad is a copy of what was collected, or .grad + what was collected.
def walk_back(result, dy=None):
    """The walk back: afterwards every leaf that requires a gradient, and from which `result` was computed, has its .grad.

    result: a Tensor. dy: the slope of the loss with respect to result, an array of its shape. None means that result is the
    loss itself: the slope is 1, and result must be a single number (of any shape with one element), else ValueError.

    - Each operation's backward runs once, after everything that used its result has sent its share; the shares add up.
    - A leaf's .grad is added to, if there is one: two walks give the sum.
    - .grad stays None for constants and for the results of operations.
    - Every .grad is an array of its own. It shares memory neither with dy nor with another .grad, and dy is left alone.
      (The backward of Add may hand the very same array to both of its inputs.)
    """
    #: solution
    if dy is None:
        if result.data.size != 1:
            raise ValueError(f"walk_back: without dy the result must be a single number, but it has the shape "
                             f"{result.data.shape}; sum it up first, or pass dy")
        dy = np.ones_like(result.data)
    collected = {id(result): dy}
    for tensor in reversed(topological_order(result)):
        if not tensor.requires_grad:
            continue
        dy = collected.pop(id(tensor))
        if tensor.operation is None:
            tensor.grad = dy.copy() if tensor.grad is None else tensor.grad + dy
            continue
        for x, dx in zip(tensor.inputs, tensor.operation.backward(dy)):
            if x.requires_grad:
                collected[id(x)] = collected[id(x)] + dx if id(x) in collected else dx
    #: end


#: task descend | 3 points | 20 minutes
#: hint One step: compute the loss, walk back, move each parameter against its gradient. What would be wrong in the second
#:      step if you did nothing else?
#: hint .grad adds up, so it must be None before each walk back. And the step is not part of the computation: work on .data,
#:      so that the parameter stays a leaf and the same object.
#: hint for p in parameters: p.grad = None, then loss = compute_loss(), loss.backward(), then p.data = p.data - lr * p.grad
#:      for every p whose .grad is not None.
def descend(compute_loss, parameters, lr, steps):
    """Gradient descent: `steps` times p <- p - lr * dloss/dp for every parameter p.

    compute_loss: a function without arguments that computes the loss from the parameters, as a Tensor with a single number.
    parameters: a list of leaf Tensors that require a gradient; they are changed, and stay the same objects and leaves.
    A parameter from which the loss was not computed stays as it is. A .grad that a parameter brings along does not count.
    Returns the losses as a list of floats, one for each step, each measured before the step.
    """
    #: solution
    losses = []
    for _ in range(steps):
        for p in parameters:
            p.grad = None
        loss = compute_loss()
        loss.backward()
        for p in parameters:
            if p.grad is not None:
                p.data = p.data - lr * p.grad
        losses.append(float(loss.data))
    return losses
    #: end
