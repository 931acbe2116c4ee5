"""Two or three inputs that broadcast: add, subtract, multiply, divide, where and the larger of two."""
import numpy as np
from corpus.case import Operation

from minidl import Function


def fit(gradient, shape):
    """`gradient` summed over the axes along which an input of this shape was broadcast."""
    while gradient.ndim > len(shape):
        gradient = gradient.sum(axis=0)
    for axis, size in enumerate(shape):
        if size == 1:
            gradient = gradient.sum(axis=axis, keepdims=True)
    return gradient


def sizes(rng, *shapes):
    return tuple(rng.uniform(0.5, 2, shape) * rng.choice([-1.0, 1.0], shape) for shape in shapes)


def samples(rng):
    yield sizes(rng, (3, 4, 5), (5,)), {}
    yield sizes(rng, (3, 4), (3, 1)), {}
    yield sizes(rng, (2, 3, 4), (3, 1)), {}
    yield sizes(rng, (4, 1), (1, 3)), {}
    yield sizes(rng, (1, 6), (1, 6)), {}


def loops(function):
    """Applies `function` to the elements of the inputs one by one, after they were broadcast."""
    def reference(*inputs):
        wide = np.broadcast_arrays(*inputs)
        return np.array([function(*map(float, v)) for v in zip(*(w.ravel() for w in wide))]).reshape(wide[0].shape)
    return reference


# add

def add_forward(a, b):
    return a + b, (a.shape, b.shape)


def add_only(a, b):
    return np.add(a, b)


add = Operation("add", samples, loops(lambda a, b: a + b), add_forward)


@add.mistake("broadcast-not-summed")
def passes_dout_to_both(dout, cache):
    return dout, dout


@add.mistake("broadcast-not-summed")
def sums_over_new_axes_only(dout, cache):
    def shrink(g, shape):
        while g.ndim > len(shape):
            g = g.sum(axis=0)
        return g
    return tuple(shrink(dout, shape) for shape in cache)


@add.mistake("broadcast-not-summed")
def sums_over_one_axis_at_most(dout, cache):
    """Stops after one of the axes."""
    def shrink(g, shape):
        missing = g.ndim - len(shape)
        if missing:
            return g.sum(axis=0)
        for axis, size in enumerate(shape):
            if size < g.shape[axis]:
                return g.sum(axis=axis, keepdims=True)
        return g
    return shrink(dout, cache[0]), shrink(dout, cache[1])


@add.mistake("wrong-shape")
def loses_the_axes_of_size_one(dout, cache):
    return tuple(np.squeeze(fit(dout, shape)) if len(shape) > 1 else fit(dout, shape) for shape in cache)


@add.mistake("wrong-shape")
def returns_one_gradient_for_two_inputs(dout, cache):
    return fit(dout, cache[0])


@add.mistake("ignores-upstream", forward=add_only)
def counts_how_often_each_was_used(dout, a, b):
    return fit(np.ones_like(dout), a.shape), fit(np.ones_like(dout), b.shape)


@add.mistake("zero")
def nothing_for_the_second(dout, cache):
    return fit(dout, cache[0]), None


@add.correct()
def sums_over_what_was_broadcast(dout, cache):
    return tuple(fit(dout, shape) for shape in cache)


@add.correct(forward=add_only)
def by_scatter(dout, a, b):
    def collect(x):
        into = np.zeros(x.size)
        np.add.at(into, np.broadcast_to(np.arange(x.size).reshape(x.shape), dout.shape), dout)
        return into.reshape(x.shape)
    return [collect(a), collect(b)]


@add.correct()
class Add(Function):
    def forward(self, a, b):
        self.shapes = a.shape, b.shape
        return a + b

    def backward(self, dy):
        grads = []
        for shape in self.shapes:
            missing = dy.ndim - len(shape)
            axes = [i for i in range(dy.ndim) if i < missing or shape[i - missing] == 1]
            grads.append(np.sum(dy, axis=tuple(axes), keepdims=True).reshape(shape))
        return tuple(grads)


@add.mistake("scale")
class AddAverages(Function):
    """Averages over what was broadcast."""

    def forward(self, a, b):
        self.shapes = a.shape, b.shape
        return a + b

    def backward(self, dy):
        return tuple(fit(dy, shape) * np.prod(shape) / dy.size for shape in self.shapes)


# subtract

def subtract_forward(a, b):
    return a - b, (a, b)


subtract = Operation("subtract", samples, loops(lambda a, b: a - b), subtract_forward)


@subtract.mistake("sign")
def adds_on_the_way_back(dout, cache):
    a, b = cache
    return fit(dout, a.shape), fit(dout, b.shape)


@subtract.mistake("sign")
def minus_on_both(dout, cache):
    a, b = cache
    return fit(-dout, a.shape), fit(-dout, b.shape)


@subtract.mistake("mutates-input")
def turns_dout_itself(dout, cache):
    a, b = cache
    da = fit(dout, a.shape).copy()
    dout *= -1
    return da, fit(dout, b.shape)


@subtract.mistake("broadcast-not-summed")
def keeps_the_output_shape_for_b(dout, cache):
    a, b = cache
    return fit(dout, a.shape), -dout


@subtract.correct()
def minus_for_the_second(dout, cache):
    a, b = cache
    return fit(dout, a.shape), fit(-dout, b.shape)


# multiply

def multiply_forward(a, b):
    return a * b, (a, b)


multiply = Operation("multiply", samples, loops(lambda a, b: a * b), multiply_forward)


@multiply.mistake("unknown")
def multiplies_by_the_input_itself(dout, cache):
    a, b = cache
    return fit(dout * a, a.shape), fit(dout * b, b.shape)


@multiply.mistake("broadcast-not-summed")
def forgets_to_sum(dout, cache):
    a, b = cache
    return dout * b, dout * a


@multiply.mistake("broadcast-not-summed")
def sums_over_the_new_axes_only(dout, cache):
    a, b = cache
    da, db = dout * b, dout * a
    return da.sum(axis=tuple(range(da.ndim - a.ndim))), db.sum(axis=tuple(range(db.ndim - b.ndim)))


@multiply.mistake("ignores-upstream")
def returns_the_other_factor(dout, cache):
    a, b = cache
    return fit(np.broadcast_to(b, dout.shape), a.shape), fit(np.broadcast_to(a, dout.shape), b.shape)


@multiply.mistake("ignores-upstream")
def second_gradient_without_dout(dout, cache):
    a, b = cache
    return fit(dout * b, a.shape), fit(a + 0 * b, b.shape)


@multiply.mistake("unknown")
def sums_before_it_multiplies(dout, cache):
    """The sum over the broadcast axes has to come last."""
    a, b = cache
    return fit(dout, a.shape) * fit(b + 0 * dout, a.shape), fit(dout, b.shape) * fit(a + 0 * dout, b.shape)


@multiply.mistake("wrong-dtype")
def makes_float32_of_one_gradient(dout, cache):
    a, b = cache
    return fit(dout * b, a.shape), fit(dout * a, b.shape).astype("float32")


@multiply.correct()
def times_the_other_then_summed(dout, cache):
    a, b = cache
    return fit(dout * b, a.shape), fit(dout * a, b.shape)


def multiply_with_object(a, b):
    class Saved:
        wide = np.broadcast_arrays(a, b)
        shapes = a.shape, b.shape
    return Saved.wide[0] * Saved.wide[1], Saved


@multiply.correct(forward=multiply_with_object)
def from_a_saved_object(dout, saved):
    a, b = saved.wide
    return [fit(dout * b, saved.shapes[0]), fit(dout * a, saved.shapes[1])]


# divide

def divide_forward(a, b):
    return a / b, {"a": a, "b": b}


def divide_only(a, b):
    return a / b


divide = Operation("divide", samples, loops(lambda a, b: a / b), divide_forward)


@divide.mistake("sign")
def forgets_the_minus_of_the_denominator(dout, cache):
    a, b = cache["a"], cache["b"]
    return fit(dout / b, a.shape), fit(dout * a / b ** 2, b.shape)


@divide.mistake("unknown")
def forgets_the_square(dout, cache):
    a, b = cache["a"], cache["b"]
    return fit(dout / b, a.shape), fit(-dout * a / b, b.shape)


@divide.mistake("unknown")
def forgets_the_numerator(dout, cache):
    a, b = cache["a"], cache["b"]
    return fit(dout / b, a.shape), fit(-dout / b ** 2, b.shape)


@divide.mistake("unknown", forward=divide_only)
def multiplies_by_the_denominator(dout, a, b):
    return fit(dout * b, a.shape), fit(-dout * a / b ** 2, b.shape)


@divide.mistake("zero")
def takes_the_denominator_as_constant(dout, cache):
    a, b = cache["a"], cache["b"]
    return fit(dout / b, a.shape), np.zeros_like(b)


@divide.mistake("broadcast-not-summed")
def sums_for_the_numerator_only(dout, cache):
    a, b = cache["a"], cache["b"]
    return fit(dout / b, a.shape), -dout * a / b ** 2


@divide.correct()
def quotient_rule(dout, cache):
    a, b = cache["a"], cache["b"]
    return fit(dout / b, a.shape), fit(-dout * a / b ** 2, b.shape)


@divide.correct(forward=divide_only)
def as_a_times_one_over_b(dout, a, b):
    inverse = 1 / b
    d_inverse = dout * a
    return fit(dout * inverse, a.shape), fit(d_inverse * -inverse ** 2, b.shape)


# where

def where_samples(rng):
    for shape_c, shape_a, shape_b in (((3, 4, 5), (3, 4, 5), (5,)), ((3, 4), (3, 1), (3, 4)), ((4,), (2, 3, 4), (3, 1)),
                                      ((1, 6), (1, 6), (1, 6))):
        condition = rng.permutation(np.arange(np.prod(shape_c)) % 2).reshape(shape_c)
        yield (condition, *sizes(rng, shape_a, shape_b)), {}


def where_forward(condition, a, b):
    return np.where(condition, a, b), (condition, a.shape, b.shape)


where = Operation("where", where_samples, loops(lambda c, a, b: a if c else b), where_forward)


@where.mistake("unknown")
def exchanges_the_branches(dout, cache):
    c, a, b = cache
    return fit(np.where(c, 0, dout), a), fit(np.where(c, dout, 0), b)


@where.mistake("unknown")
def passes_everything_to_both(dout, cache):
    c, a, b = cache
    return fit(dout, a), fit(dout, b)


@where.mistake("broadcast-not-summed")
def masks_and_does_not_sum(dout, cache):
    c, _, _ = cache
    return dout * (c == 1), dout * (c == 0)


@where.mistake("ignores-upstream")
def returns_the_conditions(dout, cache):
    c, a, b = cache
    c = np.broadcast_to(c, dout.shape).astype(float)
    return fit(c, a), fit(1 - c, b)


@where.mistake("zero")
def nothing_for_the_else_branch(dout, cache):
    c, a, b = cache
    return None, fit(dout * c, a), np.zeros(b)


@where.correct()
def masks_and_sums(dout, cache):
    c, a, b = cache
    return fit(dout * c, a), fit(dout * (1 - c), b)


@where.correct()
def none_for_the_condition(dout, cache):
    c, a, b = cache
    return None, fit(np.where(c, dout, 0.0), a), fit(np.where(c, 0.0, dout), b)


# maximum of two

def apart(rng, *shapes):
    """Distinct multiples of 1/7."""
    total = sum(int(np.prod(shape)) for shape in shapes)
    values, arrays = rng.permutation(total) / 7 - total / 14, []
    for shape in shapes:
        count = int(np.prod(shape))
        arrays.append(values[:count].reshape(shape))
        values = values[count:]
    return tuple(arrays)


def maximum_samples(rng):
    yield apart(rng, (3, 4, 5), (3, 4, 5)), {}
    a, b = apart(rng, (4, 6), (4, 6))
    b[::2] = a[::2]
    yield (a, b), {}
    yield apart(rng, (1, 5), (1, 5)), {}


def maximum_forward(a, b):
    return np.maximum(a, b), (a, b)


maximum = Operation("maximum", maximum_samples, loops(lambda a, b: a if a > b else b), maximum_forward)


@maximum.mistake("ties")
def both_win_a_tie(dout, cache):
    a, b = cache
    return dout * (a >= b), dout * (b >= a)


@maximum.mistake("ties")
def none_wins_a_tie(dout, cache):
    a, b = cache
    return dout * (a > b), dout * (b > a)


@maximum.mistake("ties")
def compares_with_the_output(dout, cache):
    a, b = cache
    out = np.maximum(a, b)
    return np.where(a == out, dout, 0), np.where(b == out, dout, 0)


@maximum.mistake("unknown")
def gives_it_to_the_smaller(dout, cache):
    a, b = cache
    return dout * (a < b), dout * (a >= b)


@maximum.correct()
def first_wins_a_tie(dout, cache):
    a, b = cache
    return dout * (a >= b), dout * (a < b)


@maximum.correct()
def second_wins_a_tie(dout, cache):
    a, b = cache
    return np.where(a > b, dout, 0), np.where(a > b, 0, dout)


@maximum.correct()
class MaximumSharesTies(Function):
    def forward(self, a, b):
        self.share = 0.5 * (1 + np.sign(a - b))
        return np.maximum(a, b)

    def backward(self, dy):
        return dy * self.share, dy * (1 - self.share)
