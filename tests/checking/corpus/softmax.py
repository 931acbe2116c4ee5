"""Softmax and log_softmax along an axis, and softmax with a temperature."""
import numpy as np
from corpus.case import Operation

from minidl import Function


def samples(rng):
    for shape, axis in (((3, 4, 5), 1), ((4, 6), -1), ((5, 3), 0), ((1, 4), 1)):
        yield (1.5 * rng.normal(size=shape),), {"axis": axis}


def by_rows(function):
    """Applies `function` to every row along the axis."""
    def reference(x, axis):
        return np.apply_along_axis(function, axis, x)
    return reference


# softmax

def softmax_forward(x, axis):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    y = e / e.sum(axis=axis, keepdims=True)
    return y, (y, axis)


def softmax_only(x, axis=-1):
    e = np.exp(x)
    return e / e.sum(axis=axis, keepdims=True)


def softmax_row(row):
    return np.array([1 / np.exp(row - v).sum() for v in row])


softmax = Operation("softmax", samples, by_rows(softmax_row), softmax_forward)


@softmax.mistake("missing-statistics-path")
def takes_the_sum_as_constant(dout, cache):
    y, _ = cache
    return y * dout


@softmax.mistake("missing-statistics-path")
def only_the_diagonal_of_the_jacobian(dout, cache):
    y, _ = cache
    return dout * y * (1 - y)


@softmax.mistake("ignores-upstream")
def diagonal_without_dout(dout, cache):
    y, _ = cache
    return y * (1 - y)


@softmax.mistake("ignores-upstream")
def inner_sum_without_dout(dout, cache):
    y, axis = cache
    return y * (dout - y.sum(axis=axis, keepdims=True))


@softmax.mistake("unknown")
def sums_over_the_wrong_axis(dout, cache):
    y, axis = cache
    return y * (dout - (y * dout).sum(axis=axis - 1, keepdims=True))


@softmax.mistake("unknown")
def subtracts_the_plain_sum_of_dout(dout, cache):
    y, axis = cache
    return y * (dout - dout.sum(axis=axis, keepdims=True))


@softmax.mistake("sign")
def adds_the_inner_product(dout, cache):
    y, axis = cache
    return y * (dout + (y * dout).sum(axis=axis, keepdims=True))


@softmax.mistake("sign")
def takes_the_bracket_the_other_way_round(dout, cache):
    y, axis = cache
    return y * ((y * dout).sum(axis=axis, keepdims=True) - dout)


def softmax_in_place(x, axis):
    x -= x.max(axis=axis, keepdims=True)
    e = np.exp(x)
    return e / e.sum(axis=axis, keepdims=True), (e / e.sum(axis=axis, keepdims=True), axis)


@softmax.mistake("mutates-input", forward=softmax_in_place)
def forward_subtracts_the_maximum_in_place(dout, cache):
    y, axis = cache
    return y * (dout - (y * dout).sum(axis=axis, keepdims=True))


@softmax.mistake("mutates-input")
def subtracts_from_dout_in_place(dout, cache):
    y, axis = cache
    dout -= (y * dout).sum(axis=axis, keepdims=True)
    return y * dout


@softmax.mistake("not-deterministic")
def multiplies_into_the_cached_output(dout, cache):
    y, axis = cache
    inner = (y * dout).sum(axis=axis, keepdims=True)
    y *= dout - inner
    return y.copy()


def softmax_over_everything(x, axis):
    e = np.exp(x - x.max())
    y = e / e.sum()
    return y, (y, None)


@softmax.mistake("forward-differs", forward=softmax_over_everything)
def forward_normalizes_the_whole_array(dout, cache):
    y, _ = cache
    return y * (dout - (y * dout).sum())


def softmax_without_sum(x, axis):
    y = np.exp(x - x.max(axis=axis, keepdims=True))
    return y, (y, axis)


@softmax.mistake("forward-differs", forward=softmax_without_sum)
def forward_does_not_normalize(dout, cache):
    y, axis = cache
    return y * dout


@softmax.mistake("wrong-dtype")
def jacobian_in_float32(dout, cache):
    y, axis = cache
    y, d = y.astype(np.float32), dout.astype(np.float32)
    return y * (d - (y * d).sum(axis=axis, keepdims=True))


@softmax.correct()
def y_times_dout_minus_the_inner_product(dout, cache):
    y, axis = cache
    return y * (dout - np.sum(y * dout, axis=axis, keepdims=True))


@softmax.correct()
def row_by_row_with_jacobians(dout, cache):
    y, axis = cache
    Y, D = np.moveaxis(y, axis, -1), np.moveaxis(dout, axis, -1)
    dx = np.empty(Y.shape)
    for i in np.ndindex(Y.shape[:-1]):
        s = Y[i].reshape(-1, 1)
        jacobian = np.diagflat(s) - s @ s.T
        dx[i] = jacobian @ D[i]
    return np.moveaxis(dx, -1, axis)


@softmax.correct(forward=softmax_only)
def through_exp_and_sum(dout, x, axis=-1):
    e = np.exp(x)
    total = e.sum(axis=axis, keepdims=True)
    d_total = -np.sum(dout * e, axis=axis, keepdims=True) / total ** 2
    return e * (dout / total + d_total)


@softmax.correct()
class Softmax(Function):
    def __init__(self, axis=-1):
        self.axis = axis

    def forward(self, x):
        z = np.moveaxis(x, self.axis, 0)
        e = np.exp(z - z.max(axis=0))
        self.y = e / e.sum(axis=0)
        return np.moveaxis(self.y, 0, self.axis)

    def backward(self, dy):
        g = self.y * np.moveaxis(dy, self.axis, 0)
        return np.moveaxis(g - self.y * g.sum(axis=0), 0, self.axis)


@softmax.mistake("missing-statistics-path")
class SoftmaxLikeSigmoid(Function):
    def __init__(self, axis=-1):
        self.axis = axis

    def forward(self, x):
        e = np.exp(x - x.max(axis=self.axis, keepdims=True))
        self.y = e / e.sum(axis=self.axis, keepdims=True)
        return self.y

    def backward(self, dy):
        return dy * self.y * (1 - self.y)


# log_softmax

def log_softmax_forward(x, axis):
    z = x - x.max(axis=axis, keepdims=True)
    out = z - np.log(np.exp(z).sum(axis=axis, keepdims=True))
    return out, {"out": out, "axis": axis}


def log_softmax_only(x, axis):
    return x - np.log(np.sum(np.exp(x), axis=axis, keepdims=True))


log_softmax = Operation("log_softmax", samples, by_rows(lambda row: np.log(softmax_row(row))), log_softmax_forward)


@log_softmax.mistake("missing-statistics-path")
def passes_dout_through(dout, cache):
    return dout


@log_softmax.mistake("missing-statistics-path")
def own_element_of_the_sum_only(dout, cache):
    return dout - np.exp(cache["out"]) * dout


@log_softmax.mistake("ignores-upstream")
def one_minus_softmax(dout, cache):
    return 1 - np.exp(cache["out"])


@log_softmax.mistake("ignores-upstream")
def subtracts_softmax_without_the_sum_of_dout(dout, cache):
    return dout - np.exp(cache["out"])


@log_softmax.mistake("scale")
def takes_the_mean_of_dout_for_its_sum(dout, cache):
    axis = cache["axis"]
    return dout - np.exp(cache["out"]) * dout.mean(axis=axis, keepdims=True)


@log_softmax.mistake("unknown")
def uses_the_output_for_its_exponential(dout, cache):
    return dout - cache["out"] * dout.sum(axis=cache["axis"], keepdims=True)


@log_softmax.mistake("sign")
def softmax_part_minus_dout(dout, cache):
    return np.exp(cache["out"]) * dout.sum(axis=cache["axis"], keepdims=True) - dout


@log_softmax.mistake("forward-differs", forward=lambda x, axis: (np.log10(softmax_only(x, axis)), (x, axis)))
def forward_takes_log10(dout, cache):
    x, axis = cache
    return (dout - softmax_only(x, axis) * dout.sum(axis=axis, keepdims=True)) / np.log(10)


@log_softmax.correct()
def dout_minus_softmax_times_its_sum(dout, cache):
    return dout - np.exp(cache["out"]) * dout.sum(axis=cache["axis"], keepdims=True)


@log_softmax.correct(forward=log_softmax_only)
def by_the_jacobian(dout, x, axis):
    p = np.moveaxis(np.exp(log_softmax_only(x, axis)), axis, -1)
    J = np.eye(p.shape[-1]) - p[..., None, :]
    return np.moveaxis(np.einsum("...ij,...i->...j", J, np.moveaxis(dout, axis, -1)), -1, axis)


# softmax of x / temperature over the last axis

def warm_samples(rng):
    for shape, temperature in (((3, 5), 2.0), ((2, 4, 3), 0.5), ((1, 4), 3.0)):
        yield (rng.normal(size=shape),), {"temperature": temperature}


def warm_reference(x, temperature):
    return np.apply_along_axis(softmax_row, -1, x / temperature)


def warm_forward(x, temperature):
    return softmax_forward(x / temperature, -1)[0], (x, temperature)


warm = Operation("softmax_temperature", warm_samples, warm_reference, warm_forward)


@warm.mistake("scale")
def forgets_the_temperature(dout, cache):
    x, temperature = cache
    y, _ = warm_forward(x, temperature)
    return y * (dout - (y * dout).sum(-1, keepdims=True))


@warm.mistake("scale")
def multiplies_by_the_temperature(dout, cache):
    x, temperature = cache
    y, _ = warm_forward(x, temperature)
    return temperature * y * (dout - (y * dout).sum(-1, keepdims=True))


@warm.mistake("unknown")
def softmax_of_x_without_temperature(dout, cache):
    x, temperature = cache
    y = softmax_only(x)
    return y * (dout - (y * dout).sum(-1, keepdims=True)) / temperature


@warm.mistake("missing-statistics-path")
def only_what_each_output_owes_itself(dout, cache):
    x, temperature = cache
    y, _ = warm_forward(x, temperature)
    return y * (1 - y) * dout / temperature


@warm.correct()
def divides_by_the_temperature(dout, cache):
    x, temperature = cache
    y, _ = warm_forward(x, temperature)
    return y / temperature * (dout - (y * dout).sum(-1, keepdims=True))
