"""Functions of single elements: negate, power, exp, log, sqrt, tanh and the absolute value."""
import numpy as np
from corpus.case import Operation

from minidl import Function


def positive(rng):
    yield (rng.uniform(0.5, 2, (3, 4, 5)),), {}
    yield (rng.uniform(0.5, 2, (2, 7)),), {}
    yield (rng.uniform(0.5, 2, 6),), {}
    yield (rng.uniform(0.5, 2, (1, 3)),), {}


def signed(rng):
    yield (rng.uniform(0.2, 2, (3, 4, 5)) * rng.choice([-1.0, 1.0], (3, 4, 5)),), {}
    yield (rng.uniform(0.2, 2, (7, 2)) * rng.choice([-1.0, 1.0], (7, 2)),), {}
    yield (rng.uniform(0.2, 2, (1, 6)) * rng.choice([-1.0, 1.0], (1, 6)),), {}


def each(function):
    """The function of an array that applies `function` to its elements one by one."""
    def reference(x):
        out = np.zeros(x.shape)
        for i in np.ndindex(x.shape):
            out[i] = function(float(x[i]))
        return out
    return reference


# negate

def negate_forward(x):
    return -x, None


negate = Operation("negate", signed, each(lambda v: 0.0 - v), negate_forward)


@negate.mistake("sign")
def passes_dout_through(dout, cache):
    return dout


@negate.mistake("ignores-upstream")
def is_minus_one(dout, cache):
    return -np.ones_like(dout)


@negate.mistake("mutates-input")
def negates_dout_in_place(dout, cache):
    dout *= -1
    return dout


@negate.correct()
def negated_dout(dout, cache):
    return np.negative(dout)


@negate.correct()
class Negate(Function):
    def forward(self, x):
        return np.negative(x)

    def backward(self, dy):
        return (-dy,)


# power

def power_samples(rng):
    yield (rng.uniform(0.5, 2, (3, 4, 2)),), {"exponent": 3}
    yield (rng.uniform(0.5, 2, (5, 4)),), {"exponent": 2}
    yield (rng.uniform(0.5, 2, 6),), {"exponent": 0.5}
    yield (rng.uniform(0.5, 2, (1, 4)),), {"exponent": -2.5}


def power_reference(x, exponent):
    return np.exp(exponent * np.log(x))


def power_forward(x, exponent):
    return x ** exponent, (x, exponent)


def power_only(x, exponent):
    return np.power(x, exponent)


power = Operation("power", power_samples, power_reference, power_forward)


@power.mistake("scale")
def forgets_the_exponent_in_front(dout, cache):
    x, exponent = cache
    return dout * x ** (exponent - 1)


@power.mistake("unknown")
def keeps_the_exponent(dout, cache):
    x, exponent = cache
    return dout * exponent * x ** exponent


@power.mistake("unknown")
def differentiates_to_the_exponent(dout, cache):
    x, exponent = cache
    return dout * np.log(x) * x ** exponent


@power.mistake("ignores-upstream", forward=power_only)
def power_rule_alone(dout, x, exponent):
    return exponent * x ** (exponent - 1)


@power.mistake("wrong-dtype")
def counts_in_float32(dout, cache):
    x, exponent = cache
    return (dout * exponent * x ** (exponent - 1)).astype(np.float32)


@power.mistake("wrong-shape")
def returns_a_gradient_of_the_exponent_too(dout, cache):
    x, exponent = cache
    return dout * exponent * x ** (exponent - 1), np.sum(dout * x ** exponent * np.log(x))


def power_rounding_the_exponent(x, exponent):
    n = int(exponent)
    return x ** n, (x, n)


@power.mistake("forward-differs", forward=power_rounding_the_exponent)
def power_rule_for_whole_exponents(dout, cache):
    x, n = cache
    return dout * n * x ** (n - 1.0)


@power.correct()
def power_rule(dout, cache):
    x, exponent = cache
    return dout * exponent * np.power(x, exponent - 1)


@power.correct(forward=power_only)
def from_the_output_again(dout, x, exponent):
    return [dout * exponent * power_only(x, exponent) / x]


# exp

def exp_forward(x):
    out = np.exp(x)
    return out, out


def exp_keeps_x(x):
    return np.exp(x), x


exp = Operation("exp", signed, each(lambda v: np.e ** v), exp_forward)


@exp.mistake("ignores-upstream")
def returns_the_output(dout, cache):
    return cache


@exp.mistake("unknown", forward=exp_keeps_x)
def multiplies_by_x(dout, cache):
    return dout * cache


@exp.mistake("unknown")
def takes_exp_of_the_output(dout, cache):
    return dout * np.exp(cache)


@exp.mistake("not-deterministic")
def multiplies_the_cache_in_place(dout, cache):
    cache *= dout
    return cache


@exp.mistake("zero")
def computes_and_never_stores(dout, cache):
    dx = np.zeros_like(cache)
    for i in np.ndindex(dx.shape):
        dx[i] + dout[i] * cache[i]
    return dx


@exp.correct()
def times_the_output(dout, cache):
    return np.multiply(dout, cache)


@exp.correct(forward=exp_keeps_x)
def element_by_element(dout, x):
    dx = np.empty_like(x)
    for i, v in np.ndenumerate(x):
        dx[i] = np.exp(v) * dout[i]
    return dx


# log

def log_forward(x):
    return np.log(x), (x,)


log = Operation("log", positive, each(lambda v: np.log2(v) * np.log(2.0)), log_forward)


@log.mistake("unknown")
def multiplies_instead_of_dividing(dout, cache):
    (x,) = cache
    return dout * x


@log.mistake("scale")
def derivative_of_log10(dout, cache):
    (x,) = cache
    return dout / (x * np.log(10))


def log10_forward(x):
    return np.log10(x), (x,)


@log.mistake("forward-differs", forward=log10_forward)
def divides_by_x_after_log10(dout, cache):
    (x,) = cache
    return dout / x


@log.mistake("sign")
def adds_a_minus(dout, cache):
    (x,) = cache
    return -dout * x ** -1


@log.mistake("ignores-upstream")
def one_over_x(dout, cache):
    (x,) = cache
    return 1 / x


@log.correct()
def divides_by_x(dout, cache):
    return dout / cache[0]


@log.correct()
class Log(Function):
    def forward(self, x):
        self.x = x.copy()
        return np.log(self.x)

    def backward(self, dy):
        return np.true_divide(dy, self.x)


# sqrt

def sqrt_forward(x):
    out = np.sqrt(x)
    return out, {"out": out, "x": x}


sqrt = Operation("sqrt", positive, each(lambda v: v ** 0.5), sqrt_forward)


@sqrt.mistake("scale")
def forgets_the_half(dout, cache):
    return dout / cache["out"]


@sqrt.mistake("unknown")
def half_times_the_root(dout, cache):
    return 0.5 * dout * cache["out"]


@sqrt.mistake("mutates-input")
def divides_dout_in_place(dout, cache):
    dout /= 2 * cache["out"]
    return dout


@sqrt.mistake("wrong-dtype")
def collects_in_a_float32_array(dout, cache):
    dx = np.zeros(dout.shape, dtype=np.float32)
    for i in np.ndindex(dx.shape):
        dx[i] = dout[i] / (2 * cache["out"][i])
    return dx


@sqrt.correct()
def half_over_the_root(dout, cache):
    return 0.5 * dout / cache["out"]


@sqrt.correct()
def keeps_the_dtype_of_x(dout, cache):
    x = np.asarray(cache["x"])
    return (dout * x.dtype.type(0.5) * x ** x.dtype.type(-0.5)).astype(x.dtype)


# tanh

def tanh_forward(x):
    y = np.tanh(x)
    return y, y


def tanh_keeps_x(x):
    return np.tanh(x), x


tanh = Operation("tanh", signed, each(lambda v: (np.exp(v) - np.exp(-v)) / (np.exp(v) + np.exp(-v))), tanh_forward)


@tanh.mistake("unknown", forward=tanh_keeps_x)
def takes_x_for_the_output(dout, x):
    return dout * (1 - x ** 2)


@tanh.mistake("ignores-upstream")
def one_minus_y_squared(dout, y):
    return 1 - y ** 2


@tanh.mistake("ignores-upstream")
def dout_multiplies_only_the_first_term(dout, y):
    return dout - y ** 2


@tanh.mistake("sign")
def y_squared_minus_one(dout, y):
    return dout * (y * y - 1)


@tanh.mistake("unknown")
def derivative_of_the_sigmoid(dout, y):
    return dout * y * (1 - y)


@tanh.correct()
def one_minus_y_squared_times_dout(dout, y):
    return dout * (1 - y ** 2)


@tanh.correct(forward=tanh_keeps_x)
def over_cosh_squared(dout, x):
    return np.asfortranarray(dout / np.cosh(x) ** 2)


# abs

def abs_samples(rng):
    yield from signed(rng)
    x = rng.uniform(0.2, 2, (4, 3)) * rng.choice([-1.0, 1.0], (4, 3))
    x[1, 2] = x[3, 0] = 0.0
    yield (x,), {}


def abs_forward(x):
    return np.abs(x), x


absolute = Operation("abs", abs_samples, each(lambda v: v if v > 0 else -v), abs_forward)


@absolute.mistake("unknown")
def multiplies_by_x_for_its_sign(dout, x):
    return dout * x


@absolute.mistake("zero")
def treats_it_as_relu(dout, x):
    return dout * (x > 0)


@absolute.correct()
def sign_of_x(dout, x):
    return dout * np.sign(x)


@absolute.correct()
def plus_one_at_zero(dout, x):
    return np.where(x >= 0, dout, -dout)
