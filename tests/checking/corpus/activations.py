"""Activations: relu, leaky_relu, sigmoid and silu."""
import numpy as np
from corpus.case import Operation

from minidl import Function


def away_from_zero(rng, shape):
    return rng.uniform(0.2, 2, shape) * rng.choice([-1.0, 1.0], shape)


def half_negative(rng, shape):
    """Values away from 0, of which the first half is negative before they are shuffled."""
    x = rng.uniform(0.2, 2, int(np.prod(shape)))
    x[:x.size // 2] *= -1
    return rng.permutation(x).reshape(shape)


def with_zeros(rng, shape):
    x = half_negative(rng, shape)
    x.flat[::3] = 0.0
    return x


def samples(rng):
    yield (half_negative(rng, (3, 4, 5)),), {}
    yield (half_negative(rng, (7, 2)),), {}
    yield (with_zeros(rng, (4, 3)),), {}
    yield (half_negative(rng, (1, 6)),), {}


def smooth_samples(rng):
    yield (away_from_zero(rng, (3, 4, 5)),), {}
    yield (away_from_zero(rng, (7, 2)),), {}
    yield (3 * away_from_zero(rng, (1, 6)),), {}


# relu

def relu_reference(x):
    return np.array([v if v > 0 else 0.0 for v in x.ravel()]).reshape(x.shape)


def relu_forward(x):
    return np.maximum(x, 0), x


def relu_with_mask(x):
    mask = x > 0
    return x * mask, {"mask": mask}


def relu_only(x):
    return np.where(x > 0, x, 0.0)


relu = Operation("relu", samples, relu_reference, relu_forward)


@relu.mistake("mutates-input")
def zeroes_dout_in_place(dout, x):
    dout[x <= 0] = 0
    return dout


def relu_in_place(x):
    mask = x > 0
    x[~mask] = 0
    return x, {"mask": mask}


@relu.mistake("mutates-input", forward=relu_in_place)
def forward_zeroes_x_in_place(dout, cache):
    return dout * cache["mask"]


@relu.mistake("ignores-upstream")
def returns_the_mask_as_floats(dout, x):
    return (x > 0).astype(x.dtype)


@relu.mistake("wrong-dtype")
def returns_the_mask_in_float32(dout, x):
    return np.where(x > 0, dout, 0).astype(np.float32)


@relu.mistake("unknown")
def masks_by_the_sign_of_dout(dout, x):
    return np.maximum(dout, 0)


@relu.mistake("unknown")
def multiplies_by_relu_of_x(dout, x):
    return dout * np.maximum(x, 0)


@relu.mistake("unknown", forward=relu_with_mask)
def uses_the_mask_the_wrong_way_round(dout, cache):
    return dout * ~cache["mask"]


@relu.mistake("not-deterministic", forward=relu_with_mask)
def inverts_the_mask_in_place(dout, cache):
    np.logical_not(cache["mask"], out=cache["mask"])
    dx = dout.copy()
    dx[cache["mask"]] = 0
    return dx


@relu.mistake("wrong-shape")
def boolean_indexing_flattens(dout, x):
    return dout[x > 0]


@relu.mistake("one-sample-only")
def returns_inside_the_loop(dout, x):
    dx = np.zeros_like(x)
    for n in range(len(x)):
        dx[n] = dout[n] * (x[n] > 0)
        break
    return dx


@relu.correct()
def masks_dout(dout, x):
    return dout * (x > 0)


@relu.correct()
def one_at_zero(dout, x):
    return np.where(x >= 0, dout, 0)


@relu.correct(forward=relu_only)
def half_at_zero(dout, x):
    return dout * np.heaviside(x, 0.5)


@relu.correct(forward=relu_with_mask)
def copies_and_zeroes(dout, cache):
    dx = dout.copy()
    dx[~cache["mask"]] = 0
    return dx


@relu.correct()
class Relu(Function):
    def forward(self, x):
        y = np.maximum(x, 0)
        self.y = y
        return y

    def backward(self, dy):
        return np.where(self.y > 0, dy, np.zeros_like(dy))


@relu.mistake("ignores-upstream")
class ReluSlope(Function):
    def forward(self, x):
        self.mask = x > 0
        return np.where(self.mask, x, 0.0)

    def backward(self, dy):
        return np.where(self.mask, 1.0, 0.0)


# leaky_relu

def leaky_samples(rng):
    for (inputs, _), slope in zip(samples(rng), (0.1, 0.25, 0.01, 0.3)):
        yield inputs, {"negative_slope": slope}


def leaky_reference(x, negative_slope):
    return np.array([v if v > 0 else negative_slope * v for v in x.ravel()]).reshape(x.shape)


def leaky_forward(x, negative_slope):
    return np.where(x > 0, x, negative_slope * x), (x, negative_slope)


leaky_relu = Operation("leaky_relu", leaky_samples, leaky_reference, leaky_forward)


@leaky_relu.mistake("zero")
def backward_of_the_plain_relu(dout, cache):
    x, _ = cache
    return dout * (x > 0)


@leaky_relu.mistake("ignores-upstream")
def negative_side_without_dout(dout, cache):
    x, slope = cache
    return np.where(x > 0, dout, slope)


@leaky_relu.mistake("unknown")
def puts_the_values_of_x_in(dout, cache):
    x, slope = cache
    return dout * np.where(x > 0, x, slope * x)


def leaky_with_fixed_slope(x, negative_slope):
    return np.maximum(x, 0.05 * x), (x, 0.05)


@leaky_relu.mistake("forward-differs", forward=leaky_with_fixed_slope)
def slope_of_its_own(dout, cache):
    x, slope = cache
    return dout * np.where(x > 0, 1, slope)


@leaky_relu.mistake("mutates-input")
class LeakyInPlace(Function):
    def __init__(self, negative_slope):
        self.negative_slope = negative_slope

    def forward(self, x):
        self.negative = x < 0
        return np.where(self.negative, self.negative_slope * x, x)

    def backward(self, dy):
        dy[self.negative] *= self.negative_slope
        return dy


@leaky_relu.correct()
def slope_where_negative(dout, cache):
    x, slope = cache
    return dout * np.where(x > 0, 1.0, slope)


@leaky_relu.correct()
def one_at_zero_and_slope_below(dout, cache):
    x, slope = cache
    dx = np.array(dout)
    dx[x < 0] *= slope
    return dx


@leaky_relu.correct()
class Leaky(Function):
    def __init__(self, negative_slope):
        self.negative_slope = negative_slope

    def forward(self, x):
        self.factor = np.where(x > 0, 1.0, self.negative_slope)
        return x * self.factor

    def backward(self, dy):
        return dy * self.factor


# sigmoid

def sigmoid_reference(x):
    return np.array([0.5 * (1 + np.tanh(v / 2)) for v in x.ravel()]).reshape(x.shape)


def sigmoid_forward(x):
    y = 1 / (1 + np.exp(-x))
    return y, y


def sigmoid_keeps_x(x):
    return 1 / (1 + np.exp(-x)), x


def sigmoid_only(x):
    return np.exp(x) / (1 + np.exp(x))


sigmoid = Operation("sigmoid", smooth_samples, sigmoid_reference, sigmoid_forward)


@sigmoid.mistake("unknown", forward=sigmoid_keeps_x)
def takes_x_for_the_output(dout, x):
    return dout * x * (1 - x)


@sigmoid.mistake("unknown")
def forgets_one_minus(dout, y):
    return dout * y


@sigmoid.mistake("unknown")
def sigmoid_of_the_output_again(dout, y):
    s, _ = sigmoid_forward(y)
    return dout * s * (1 - s)


@sigmoid.mistake("ignores-upstream")
def y_times_one_minus_y(dout, y):
    return y * (1 - y)


@sigmoid.mistake("ignores-upstream")
def dout_slips_into_the_bracket(dout, y):
    return y * (dout - y)


@sigmoid.mistake("sign")
def exchanges_the_bracket(dout, y):
    return dout * y * (y - 1)


@sigmoid.mistake("scale")
def multiplies_by_four(dout, y):
    return 4 * dout * y * (1 - y)


@sigmoid.mistake("forward-differs", forward=lambda x: (1 / (1 + np.exp(x)), x))
def minus_lost_in_forward(dout, x):
    y = 1 / (1 + np.exp(x))
    return -dout * y * (1 - y)


@sigmoid.correct()
def y_one_minus_y(dout, y):
    return dout * y * (1 - y)


@sigmoid.correct(forward=sigmoid_only)
def in_terms_of_exp(dout, x):
    e = np.exp(-np.abs(x))
    return dout * e / np.square(1 + e)


# silu

def silu_reference(x):
    return x * sigmoid_reference(x)


def silu_forward(x):
    s = 1 / (1 + np.exp(-x))
    return x * s, (x, s)


silu = Operation("silu", smooth_samples, silu_reference, silu_forward)


@silu.mistake("unknown")
def forgets_the_product_rule(dout, cache):
    x, s = cache
    return dout * x * s * (1 - s)


@silu.mistake("unknown")
def treats_the_gate_as_constant(dout, cache):
    x, s = cache
    return dout * s


@silu.mistake("ignores-upstream")
def second_term_without_dout(dout, cache):
    x, s = cache
    return dout * s + x * s * (1 - s)


@silu.correct()
def product_rule(dout, cache):
    x, s = cache
    return dout * s + dout * x * s * (1 - s)


@silu.correct()
class Silu(Function):
    def forward(self, x):
        self.x = x
        return x / (1 + np.exp(-x))

    def backward(self, dy):
        return self.parts(dy).sum(axis=0)

    def parts(self, dy):
        s = 1 / (1 + np.exp(-self.x))
        return np.stack([dy * s, dy * s * (1 - s) * self.x])
