"""The doctor's promise: right gradients pass, wrong ones do not, odd but legal input is no trouble, reports can be read."""

import functools
import math
import warnings

import numpy as np
import pytest

import minidl
from minidl import check_backward


def elementwise(f, slope):
    """A pair for y = f(x), element by element."""
    return lambda x: (f(x), x), lambda dout, x: dout * slope(x)


def examined(forward, backward, inputs, **more):
    """The report; a warning on the way is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return check_backward(forward, backward, inputs, raise_error=False, **more)


def normal(*shape, scale=1.0, at=0.0, seed=11):
    return at + scale * np.random.default_rng(seed).standard_normal(shape)


def uniform(*shape, scale=1.0, seed=12):
    return scale * (0.5 + np.random.default_rng(seed).random(shape))


# --- layers that students write --------------------------------------------------------------------------------------


def norm_forward(x):
    n = np.sqrt((x * x).sum())
    return x / n, (x, n)


def norm_backward(dout, cache):
    x, n = cache
    return dout / n - x * (dout * x).sum() / n**3


def batch_norm_forward(x, gamma, beta, bn_param):
    mean, var = x.mean(axis=0), x.var(axis=0)
    bn_param["running_mean"] = 0.9 * bn_param["running_mean"] + 0.1 * mean
    bn_param["running_var"] *= 0.9
    bn_param["running_var"] += 0.1 * var
    std = np.sqrt(var + 1e-5)
    x_hat = (x - mean) / std
    return gamma * x_hat + beta, (x_hat, std, gamma)


def batch_norm_backward(dout, cache):
    x_hat, std, gamma = cache
    d = dout * gamma
    return (d - d.mean(axis=0) - x_hat * (d * x_hat).mean(axis=0)) / std, (dout * x_hat).sum(axis=0), dout.sum(axis=0)


def softmax_forward(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    p = e / e.sum(axis=-1, keepdims=True)
    return p, p


def softmax_backward(dout, p):
    return p * (dout - (dout * p).sum(axis=-1, keepdims=True))


def cross_entropy_forward(x, y):
    z = x - x.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return -log_p[np.arange(len(y)), y].mean(), (log_p, y)


def cross_entropy_backward(dout, cache):
    log_p, y = cache
    p = np.exp(log_p)
    p[np.arange(len(y)), y] -= 1
    return dout * p / len(y)


def log_sum_exp_forward(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return x.max(axis=-1) + np.log(e.sum(axis=-1)), e / e.sum(axis=-1, keepdims=True)


def conv_forward(x, w):
    n, _, height, width = x.shape
    k = w.shape[-1]
    out = np.zeros((n, len(w), height - k + 1, width - k + 1), x.dtype)
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            out[:, :, i, j] = np.tensordot(x[:, :, i : i + k, j : j + k], w, ([1, 2, 3], [1, 2, 3]))
    return out, (x, w)


def conv_backward(dout, cache):
    x, w = cache
    k = w.shape[-1]
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            dx[:, :, i : i + k, j : j + k] += np.tensordot(dout[:, :, i, j], w, 1)
            dw += np.tensordot(dout[:, :, i, j], x[:, :, i : i + k, j : j + k], ([0], [0]))
    return dx, dw


def svm_forward(scores, y):
    rows = np.arange(len(y))
    margins = scores - scores[rows, y][:, None] + 1
    margins[rows, y] = 0
    return np.maximum(0, margins).sum() / len(y), (margins, y)


def svm_backward(dout, cache, counts=np.greater):
    margins, y = cache
    rows = np.arange(len(y))
    d = counts(margins, 0).astype(float)
    d[rows, y] = 0
    d[rows, y] = -d.sum(axis=1)
    return dout * d / len(y)


def row_max_forward(x):
    return x.max(axis=1), x


def row_max_all(dout, x):
    return dout[:, None] * (x == x.max(axis=1, keepdims=True))


def row_max_first(dout, x):
    d = np.zeros_like(x)
    d[np.arange(len(x)), x.argmax(axis=1)] = dout
    return d


def row_max_shared(dout, x):
    top = x == x.max(axis=1, keepdims=True)
    return dout[:, None] * top / top.sum(axis=1, keepdims=True)


def row_max_no_ties(dout, x):
    top = x == x.max(axis=1, keepdims=True)
    return dout[:, None] * top * (top.sum(axis=1, keepdims=True) == 1)


def linear_forward(x, w):
    return x @ w, (x, w)


def linear_backward(dout, cache):
    x, w = cache
    return dout @ w.T, x.T @ dout


square_forward, square_backward = elementwise(lambda x: x * x, lambda x: 2 * x)


def running():
    return {"running_mean": np.zeros(3), "running_var": np.ones(3), "mode": "train"}


# --- right gradients pass --------------------------------------------------------------------------------------------

SCALES = (1e-4, 1e-3, 1.0, 1e3, 1e6)
FUNCTIONS = {
    "log": (np.log, lambda x: 1 / x),
    "1/x": (lambda x: 1 / x, lambda x: -1 / x**2),
    "sqrt": (np.sqrt, lambda x: 0.5 / np.sqrt(x)),
    "square": (lambda x: x * x, lambda x: 2 * x),
    "cube": (lambda x: x**3, lambda x: 3 * x * x),
    "sin": (np.sin, np.cos),
    "sqrt(x**2 + 1e-12)": (lambda x: np.sqrt(x * x + 1e-12), lambda x: x / np.sqrt(x * x + 1e-12)),
}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_right_elementwise_gradients_pass_at_every_scale(name, scale):
    assert examined(*elementwise(*FUNCTIONS[name]), [uniform(6, scale=scale)]).ok


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    "forward, backward",
    [
        (norm_forward, norm_backward),
        (softmax_forward, softmax_backward),
        (log_sum_exp_forward, lambda dout, p: dout[..., None] * p),
    ],
    ids=["norm", "softmax", "log-sum-exp"],
)
def test_right_normalisations_pass_at_every_scale(forward, backward, scale):
    assert examined(forward, backward, [normal(4, 5, scale=scale)]).ok


STEEP_AND_FLAT = np.array([1e-9, 1e6, 1.0, 1e-3])
RIGHT = {
    "exp between -20 and 30": (*elementwise(np.exp, np.exp), [np.array([20.0, -20.0, 0.0, 15.0, 30.0])]),
    "exp near overflow": (*elementwise(np.exp, np.exp), [np.array([707.0, 1.0])]),
    "an output of 1e8": (*elementwise(lambda x: 1e8 * np.sin(x), lambda x: 1e8 * np.cos(x)), [normal(5)]),
    "1e8 added": (*elementwise(lambda x: 1e8 + np.sin(x), np.cos), [normal(5)]),
    "slopes of 1e-9 beside 1e6": (
        *elementwise(lambda x: STEEP_AND_FLAT * np.sin(x), lambda x: STEEP_AND_FLAT * np.cos(x)),
        [normal(4)],
    ),
    "nearly flat": (*elementwise(lambda x: x**9, lambda x: 9 * x**8), [normal(4, scale=0.01)]),
    "a saturated sigmoid": (
        *elementwise(lambda x: 1 / (1 + np.exp(-x)), lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2),
        [np.array([40.0, -40.0, 10.0, -300.0])],
    ),
    "cross-entropy": (cross_entropy_forward, cross_entropy_backward, [normal(4, 5), np.array([0, 1, 2, 3])]),
    "cross-entropy of large logits": (
        cross_entropy_forward,
        cross_entropy_backward,
        [normal(4, 5, scale=1e3), np.array([0, 1, 2, 3])],
    ),
    "batch norm far from 0": (
        batch_norm_forward,
        batch_norm_backward,
        [normal(30, 3, at=100.0), normal(3), normal(3), running()],
    ),
    "batch norm of tiny variance": (
        batch_norm_forward,
        batch_norm_backward,
        [normal(30, 3, scale=1e-4), normal(3), normal(3), running()],
    ),
    "convolution": (conv_forward, conv_backward, [normal(2, 3, 7, 7), normal(4, 3, 3, 3)]),
    "dropout": (
        lambda x, rng: (x * (mask := rng.random(x.shape) > 0.5), mask),
        lambda dout, mask: dout * mask,
        [normal(8), np.random.default_rng(0)],
    ),
    "large, element by element": (square_forward, square_backward, [normal(50_000)]),
    "large, one output": (lambda x: ((x * x).sum(), x), lambda dout, x: 2 * x * dout, [normal(50_000)]),
    "large, a mean": (lambda x: ((x * x).mean(), x), lambda dout, x: 2 * x * dout / x.size, [normal(50_000)]),
    "large, softmax": (softmax_forward, softmax_backward, [normal(50_000)]),
    "large, a norm": (norm_forward, norm_backward, [normal(50_000)]),
    "large, a rectifier": (*elementwise(lambda x: np.maximum(x, 0), lambda x: x > 0), [normal(50_000, scale=1e3)]),
    "large, one number of 1e6": (*elementwise(np.tanh, lambda x: 1 - np.tanh(x) ** 2), [np.append(normal(600), 1e6)]),
    "large convolution": (conv_forward, conv_backward, [normal(4, 3, 16, 16), normal(4, 3, 3, 3)]),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_gradients_pass(name):
    forward, backward, inputs = RIGHT[name]
    report = examined(forward, backward, inputs)
    assert report.ok and not report.causes, report.text


# --- kinks, ties, jumps ----------------------------------------------------------------------------------------------

X = np.array([0.0, 1.0, -1.0, 0.5, 2.0, 0.3])
TIED = np.array([[1.0, 1.0, 0.0, 0.5], [2.0, 3.0, 3.0, 1.0], [1.0, 2.0, 3.0, 2.5]])
SCORES = np.array([[1.0, 0.0, 0.3, 2.0], [0.1, 0.2, 1.2, 0.4], [0.5, -0.5, 0.2, 0.1]])
LEGAL_AT_KINKS = {
    **{
        f"relu with slope {c} at 0": (*elementwise(lambda x: np.maximum(x, 0), lambda x, c=c: (x > 0) + c * (x == 0)), [X])
        for c in (0, 0.5, 1)
    },
    **{
        f"leaky relu with slope {c} at 0": (
            *elementwise(lambda x: np.where(x > 0, x, 0.1 * x), lambda x, c=c: (x > 0) + 0.1 * (x < 0) + c * (x == 0)),
            [X],
        )
        for c in (0.1, 1)
    },
    **{f"abs with slope {c} at 0": (*elementwise(np.abs, lambda x, c=c: np.sign(x) + c * (x == 0)), [X]) for c in (-1, 0, 1)},
    "clip, both bounds inside": (*elementwise(lambda x: np.clip(x, 0, 1), lambda x: (x >= 0) & (x <= 1)), [X]),
    "clip, both bounds outside": (*elementwise(lambda x: np.clip(x, 0, 1), lambda x: (x > 0) & (x < 1)), [X]),
    "where with equal branches": (*elementwise(lambda x: np.where(x > 0, x, x), np.ones_like), [X]),
    "a jump: floor at an integer": (*elementwise(np.floor, np.zeros_like), [X + 0.25 * (X != 0)]),
    "a jump: x % 1 at an integer": (*elementwise(lambda x: x % 1, np.ones_like), [X + 0.25 * (X != 0)]),
    "steps away from a jump": (*elementwise(np.round, np.zeros_like), [X + 0.1]),
    "where the maximum is": (*elementwise(lambda x: (x == x.max()) * 1.0, np.zeros_like), [X]),
    "of equal maxima the first": (row_max_forward, row_max_first, [TIED]),
    "equal maxima share": (row_max_forward, row_max_shared, [TIED]),
    "sorted, two equal": (
        lambda x: (np.sort(x), x),
        lambda dout, x: dout[np.argsort(np.argsort(x, kind="stable"))],
        [np.array([1.0, 2.0, 2.0, 3.0, 7.0])],
    ),
    "median between two equal": (
        lambda x: (np.median(x), x),
        lambda dout, x: dout * np.array([0, 0.5, 0.5, 0]),
        [np.array([1.0, 2, 2, 3])],
    ),
    "largest minus smallest": (
        lambda x: (x.max() - x.min(), x),
        lambda dout, x: dout * np.array([1, 0, -1, 0, 0, 0, 0, 0]),
        [np.array([3.0, 3, 1, 1, 2, 2.5, 1.5, 2.2])],
    ),
    **{
        f"the larger of two equal inputs, {c} to the first": (
            lambda a, b: (np.maximum(a, b), (a, b)),
            lambda dout, ab, c=c: (
                dout * ((ab[0] > ab[1]) + c * (ab[0] == ab[1])),
                dout * ((ab[0] < ab[1]) + (1 - c) * (ab[0] == ab[1])),
            ),
            [np.array([1.0, 2, 3, 4]), np.array([1.0, 5, 1, 2])],
        )
        for c in (0, 0.5, 1)
    },
    "hinge at the margin, not counted": (svm_forward, svm_backward, [SCORES, np.array([0, 1, 0])]),
    "hinge at the margin, counted": (
        svm_forward,
        functools.partial(svm_backward, counts=np.greater_equal),
        [SCORES, np.array([0, 1, 0])],
    ),
}


@pytest.mark.parametrize("name", LEGAL_AT_KINKS)
def test_every_legal_slope_at_a_kink_passes(name):
    forward, backward, inputs = LEGAL_AT_KINKS[name]
    report = examined(forward, backward, inputs)
    assert report.ok, report.text


# --- odd but legal: inputs, caches, returns --------------------------------------------------------------------------


def read_only(x):
    x.flags.writeable = False
    return x


class Cache:
    """An object as a cache."""

    def __init__(self, x):
        self.x = x


class Layer:
    """A pair of methods."""

    def forward(self, x):
        self.x = x
        return x * x, None

    def backward(self, dout, cache):
        return 2 * self.x * dout


LAYER = Layer()
ODD = {
    "an array of no axes": (square_forward, square_backward, [np.array(1.5)], {}),
    "a float": (square_forward, square_backward, [1.5], {}),
    "a float and a float back": (lambda x: (float(x) ** 2, x), lambda dout, x: float(2 * x * dout), [1.5], {}),
    "one element": (square_forward, square_backward, [np.array([[1.5]])], {}),
    "float32": (square_forward, square_backward, [normal(4).astype(np.float32)], {}),
    "float16": (square_forward, square_backward, [normal(4).astype(np.float16)], {}),
    "a list": (lambda x: (np.asarray(x) ** 2, x), lambda dout, x: list(2 * np.asarray(x) * dout), [[1.0, 2.0, 3.0]], {}),
    "the order of Fortran": (linear_forward, linear_backward, [np.asfortranarray(normal(3, 4)), normal(4, 2)], {}),
    "a view with negative strides": (linear_forward, linear_backward, [normal(6, 8)[::2, ::-2], normal(4, 2)], {}),
    "a broadcast view": (square_forward, square_backward, [np.broadcast_to(normal(3), (2, 3))], {}),
    "read-only": (square_forward, square_backward, [read_only(normal(4))], {}),
    "an empty one beside it": (
        lambda x, e: (2 * x + e.sum(), e.shape),
        lambda dout, shape: (2 * dout, np.full(shape, dout.sum())),
        [normal(3), np.zeros((0, 3))],
        {},
    ),
    "a mask": (
        lambda x, mask: (x * mask, mask),
        lambda dout, mask: (dout * mask, None),
        [normal(3), np.array([True, False, True])],
        {},
    ),
    "bytes": (
        lambda x, m: (x * (m / 255), m),
        lambda dout, m: dout * (m / 255),
        [normal(3), np.array([1, 2, 255], np.uint8)],
        {},
    ),
    "an int, None and a word": (lambda x, n, *rest: (x * n, n), lambda dout, n: dout * n, [normal(3), 3, None, "mean"], {}),
    "complex numbers passed on": (
        lambda x, z: (x * abs(z), z),
        lambda dout, z: dout * abs(z),
        [normal(3), np.array([1j, 2, 3 + 1j])],
        {},
    ),
    "any number of arguments": (
        lambda *a: (a[0] * a[1], a),
        lambda dout, a: (dout * a[1], dout * a[0]),
        [normal(3), normal(3, seed=1)],
        {},
    ),
    "options by name only": (lambda x, *, k: (x * k, k), lambda dout, k: dout * k, [normal(3)], {"k": 2.0}),
    "a function as an option": (lambda x, f: (f(x), x), lambda dout, x: dout * np.exp(x), [normal(3)], {"f": np.exp}),
    "running statistics as an input": (
        batch_norm_forward,
        batch_norm_backward,
        [normal(5, 3), normal(3), normal(3), running()],
        {},
    ),
    "running statistics as an option": (
        batch_norm_forward,
        batch_norm_backward,
        [normal(5, 3), normal(3), normal(3)],
        {"bn_param": running()},
    ),
    "x itself and dout itself": (lambda x: (x, None), lambda dout, cache: dout, [normal(4)], {}),
    "views of both": (lambda x: (x.T, None), lambda dout, cache: dout.T, [normal(2, 4)], {}),
    "dout as a broadcast view": (
        lambda x: (x.sum(axis=0), x.shape),
        lambda dout, shape: np.broadcast_to(dout, shape),
        [normal(2, 4)],
        {},
    ),
    "dout for both inputs": (
        lambda x, y: (x + y, None),
        lambda dout, cache: (dout, dout),
        [normal(2, 4), normal(2, 4, seed=1)],
        {},
    ),
    "a Python number comes out": (lambda x: (float((x * x).sum()), x), lambda dout, x: 2 * x * dout, [normal(4)], {}),
    "a dictionary of gradients": (
        linear_forward,
        lambda dout, c: {"x": dout @ c[1].T, "dw": c[0].T @ dout},
        [normal(2, 4), normal(4, 3)],
        {},
    ),
    "a list of gradients": (linear_forward, lambda dout, c: [dout @ c[1].T, c[0].T @ dout], [normal(2, 4), normal(4, 3)], {}),
    "a closure as a cache": (lambda x: (x * x, lambda dout: 2 * x * dout), lambda dout, cache: cache(dout), [normal(4)], {}),
    "an object as a cache": (lambda x: (x * x, Cache(x)), lambda dout, cache: 2 * cache.x * dout, [normal(4)], {}),
    "no cache": (lambda x, k=2: x**k, lambda dout, x, k=2: k * x ** (k - 1) * dout, [normal(4)], {"k": 3}),
    "methods": (LAYER.forward, LAYER.backward, [normal(4)], {}),
    "a ufunc": (np.square, lambda dout, x: 2 * x * dout, [normal(4)], {}),
    "a partial function": (functools.partial(lambda k, x: (x * k, k), 3.0), lambda dout, k: k * dout, [normal(4)], {}),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_but_legal_pairs_pass(name):
    forward, backward, inputs, options = ODD[name]
    report = examined(forward, backward, inputs, options=options)
    assert report.ok, report.text
    if all(np.size(x) for x in inputs):
        report.plot()


def test_what_is_passed_in_is_left_alone():
    parameters, x = running(), normal(5, 3)
    before = x.copy()
    examined(batch_norm_forward, batch_norm_backward, [x, normal(3), normal(3), parameters])
    examined(batch_norm_forward, batch_norm_backward, [x, normal(3), normal(3)], options={"bn_param": parameters})
    assert np.array_equal(x, before) and not parameters["running_mean"].any() and (parameters["running_var"] == 1).all()


# --- wrong gradients do not pass -------------------------------------------------------------------------------------


def changed(i, factor):
    """The gradient of x * x, one element of it multiplied."""

    def backward(dout, x):
        dx = 2 * x * dout
        dx.reshape(-1)[i] *= factor
        return dx

    return backward


OFFSET = np.array([[1.0, 1, 0], [2, 3, 3], [1, 2, 3]])
WRONG = {
    **{
        f"one of eight off by {off:g}": (square_forward, changed(3, 1 + off), [normal(8)])
        for off in (1e-4, 1e-3, 1.0, -1.0, np.nan)
    },
    **{f"one of {n} off by {off:g}": (square_forward, changed(7, 1 + off), [normal(n)]) for n in (600,) for off in (1e-2, 1.0)},
    "one of 1000 in a sum": (lambda x: ((x * x).sum(), x), changed(7, 2.0), [normal(1000)]),
    "all of 50000 off by 1e-3": (square_forward, lambda dout, x: 2.002 * x * dout, [normal(50_000)]),
    "all of 50000 of a mean off by 1e-3": (
        lambda x: ((x * x).mean(), x),
        lambda dout, x: 2.002 * x * dout / x.size,
        [normal(50_000)],
    ),
    "only for positive dout": (square_forward, lambda dout, x: 2 * x * np.maximum(dout, 0), [normal(8)]),
    "rounded to three digits": (square_forward, lambda dout, x: np.round(2 * x * dout, 3), [normal(8)]),
    "a small slope of one output beside 1e6": (
        lambda x: ((np.array([1e-2, 1e6, 1, 1e-3]) * np.sin(x)).sum(), x),
        lambda dout, x: dout * np.array([2e-2, 1e6, 1, 1e-3]) * np.cos(x),
        [normal(4)],
    ),
    "0 where an output of 1e-5 has a slope": (lambda x: (1e-5 * np.sin(x), x), lambda dout, x: 0 * x, [normal(8)]),
    "relu with slope 2 at 0": (*elementwise(lambda x: np.maximum(x, 0), lambda x: (x > 0) + 2 * (x == 0)), [X]),
    "relu with slope -1 at 0": (*elementwise(lambda x: np.maximum(x, 0), lambda x: (x > 0) - 1.0 * (x == 0)), [X]),
    "dout to all equal maxima": (row_max_forward, row_max_all, [TIED]),
    "dout to none of equal maxima": (row_max_forward, row_max_no_ties, [TIED]),
    "dout to all equal maxima of a sum": (
        lambda x: (x.max(axis=1).sum(), x),
        lambda dout, x: row_max_all(np.full(len(x), dout), x),
        [OFFSET],
    ),
    "dout to all equal maxima of exp": (
        lambda x: (np.exp(x.max(axis=1)).sum(), x),
        lambda dout, x: row_max_all(dout * np.exp(x.max(axis=1)), x),
        [OFFSET],
    ),
    "dout to all equal maxima of 600": (
        lambda x: (x.max(), x),
        lambda dout, x: dout * (x == x.max()),
        [np.append(normal(598), [5.0, 5.0])],
    ),
    "dout to both equal inputs": (
        lambda a, b: (np.maximum(a, b), (a, b)),
        lambda dout, ab: (dout * (ab[0] >= ab[1]), dout * (ab[0] <= ab[1])),
        [np.array([1.0, 2, 3, 4]), np.array([1.0, 5, 1, 2])],
    ),
    "dout to neither of equal inputs": (
        lambda a, b: (np.maximum(a, b), (a, b)),
        lambda dout, ab: (dout * (ab[0] > ab[1]), dout * (ab[0] < ab[1])),
        [np.array([1.0, 2, 3, 4]), np.array([1.0, 5, 1, 2])],
    ),
    "tripled beside an empty input": (
        lambda x, e: (2 * x + e.sum(), e.shape),
        lambda dout, shape: (3 * dout, np.full(shape, dout.sum())),
        [normal(3), np.zeros((0, 3))],
    ),
    "a dictionary that lacks one": (linear_forward, lambda dout, c: {"x": dout @ c[1].T}, [normal(2, 4), normal(4, 3)]),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_gradients_do_not_pass(name):
    forward, backward, inputs = WRONG[name]
    report = examined(forward, backward, inputs)
    assert not report.ok and report.causes
    with pytest.raises(minidl.GradcheckError) as caught:
        check_backward(forward, backward, inputs)
    assert caught.value.report.causes == report.causes


# --- float32 ---------------------------------------------------------------------------------------------------------


def loop_sum(x):
    total = x.dtype.type(0)
    for v in x:
        total += v * v
    return total, x


FLOAT32 = {
    "batch norm": (batch_norm_forward, batch_norm_backward, [normal(32, 3), normal(3), normal(3), running()]),
    "batch norm far from 0": (
        batch_norm_forward,
        batch_norm_backward,
        [normal(200, 3, at=100.0), normal(3), normal(3), running()],
    ),
    "convolution": (conv_forward, conv_backward, [normal(2, 3, 7, 7), normal(4, 3, 3, 3)]),
    "large convolution": (conv_forward, conv_backward, [normal(4, 3, 16, 16), normal(4, 3, 3, 3)]),
    "cross-entropy": (cross_entropy_forward, cross_entropy_backward, [normal(8, 10), np.arange(8)]),
    "cross-entropy of large logits": (cross_entropy_forward, cross_entropy_backward, [normal(8, 10, scale=1e4), np.arange(8)]),
    "a sum in a loop": (loop_sum, lambda dout, x: 2 * x * dout, [normal(400)]),
    "long sums": (linear_forward, linear_backward, [normal(64, 400), normal(400, 64, seed=1)]),
    "a norm": (norm_forward, norm_backward, [normal(50)]),
    "exp": (*elementwise(np.exp, np.exp), [np.array([20.0, -20.0, 5.0])]),
    "float64 comes out": (lambda x: (x.astype(np.float64) ** 2, x), lambda dout, x: 2 * x * dout, [normal(5)]),
}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", FLOAT32)
def test_right_gradients_pass_in_float32(name, seed):
    forward, backward, inputs = FLOAT32[name]
    report = examined(forward, backward, inputs, dtype="float32", seed=seed)
    assert report.ok, report.text


@pytest.mark.parametrize(
    "forward, backward, inputs",
    [
        (square_forward, lambda dout, x: 2.002 * x * dout, [normal(20)]),
        (square_forward, changed(7, 2.0), [normal(100)]),
        (cross_entropy_forward, lambda dout, c: len(c[1]) * cross_entropy_backward(dout, c), [normal(8, 10), np.arange(8)]),
        (softmax_forward, lambda dout, p: p * (1 - p) * dout, [normal(3, 4)]),
    ],
    ids=["all off by 1e-3", "one of a hundred", "no division by the batch", "the diagonal only"],
)
def test_wrong_gradients_do_not_pass_in_float32(forward, backward, inputs):
    assert not examined(forward, backward, inputs, dtype="float32").ok


# --- whatever comes back from backward, there is a report that can be read -------------------------------------------

PAIRS = {
    "squares": (lambda x: x * x, lambda dout, x: 2 * x * dout),
    "their sum": (lambda x: float((x * x).sum()), lambda dout, x: 2 * x * dout),
    "largest": (lambda x: x.max(), lambda dout, x: dout * (x == x.max())),
    "norm": (lambda x: x / np.sqrt((x * x).sum() + 1), lambda dout, x: dout * x),
}
SHAPES = [(), (1,), (7,), (1, 1), (3, 4), (1, 5), (2, 3, 4), (2, 2, 5, 5), (1, 1, 1, 1, 2)]
RETURNED = {
    "negated": lambda g, dout: -g,
    "0": lambda g, dout: 0 * g,
    "NaN": lambda g, dout: g * np.nan,
    "huge": lambda g, dout: g * 1e200,
    "half of it": lambda g, dout: np.where(np.arange(g.size).reshape(g.shape) < g.size // 2, 3 * g, g),
    "transposed": lambda g, dout: g.T,
    "flat": lambda g, dout: g.reshape(-1),
    "summed": lambda g, dout: g.sum(),
    "one axis more": lambda g, dout: g[None],
    "padded": lambda g, dout: np.pad(g, 1),
    "rolled": lambda g, dout: np.roll(g, 1),
    "plus 1": lambda g, dout: g + 1,
    "dout": lambda g, dout: dout,
    "None": lambda g, dout: None,
    "objects": lambda g, dout: g.astype(object),
    "a word": lambda g, dout: "abc",
    "complex": lambda g, dout: g + 0j,
    "int": lambda g, dout: g.astype(int),
    "float16": lambda g, dout: g.astype(np.float16),
    "bool": lambda g, dout: g > 0,
    "two": lambda g, dout: (g, g),
    "none": lambda g, dout: (),
    "another name": lambda g, dout: {"z": g},
    "a function": lambda g, dout: len,
    "dates": lambda g, dout: np.zeros(g.shape, "M8[s]"),
    "square of it": lambda g, dout: g * abs(g),
}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("returned", RETURNED)
def test_whatever_comes_back_the_report_fits_on_a_page(returned, pair):
    f, gradient = PAIRS[pair]
    for shape in SHAPES:
        x = np.array(normal(*shape))
        report = check_backward(
            lambda x: (f(x), x), lambda dout, x: RETURNED[returned](np.asarray(gradient(dout, x)), dout), [x], raise_error=False
        )
        lines = report.text.splitlines()
        assert report.ok or (report.causes and len(lines) <= 25)
        if not report.ok and returned != "huge":
            assert max(map(len, lines)) <= 100, report.text


@pytest.mark.parametrize(
    "error", [ValueError("shapes (2,3) and (4,5) not aligned"), KeyError("x"), ZeroDivisionError(), IndexError("index 5")]
)
def test_a_backward_that_raises_is_wrong_and_the_error_is_told(error):
    def backward(dout, cache):
        raise error

    report = examined(square_forward, backward, [normal(3)])
    assert not report.ok and type(error).__name__ in report.text and len(report.text.splitlines()) <= 25


# --- the line that is named ------------------------------------------------------------------------------------------


def decorated(f):
    @functools.wraps(f)
    def inner(*arguments):
        return f(*arguments)

    return inner


@decorated
def doubled_backward(dout, cache):
    x, w = cache
    dx = dout @ w.T
    dw = 2 * x.T @ dout
    return dx, dw


def in_a_loop(dout, cache):
    x, w = cache
    dw = np.zeros_like(w)
    for row, drow in zip(x, dout):
        dw += 2 * np.outer(row, drow)
    return dout @ w.T, dw


class WithMethod:
    """A backward that is a method."""

    def backward(self, dout, cache):
        x, w = cache
        dw = 2 * x.T @ dout
        return dout @ w.T, dw


@pytest.mark.parametrize(
    "backward, line",
    [
        (doubled_backward, "dw = 2 * x.T @ dout"),
        (in_a_loop, "dw += 2 * np.outer(row, drow)"),
        (WithMethod().backward, "dw = 2 * x.T @ dout"),
    ],
    ids=["decorated", "loop", "method"],
)
def test_the_line_that_makes_the_wrong_gradient_is_named(backward, line):
    report = examined(linear_forward, backward, [normal(4, 3), normal(3, 2)])
    assert report.causes == ["scale"] and f": {line}" in report.text


def test_code_without_a_file_is_checked_without_naming_a_line():
    space = {}
    exec("def backward(dout, cache):\n    x, w = cache\n    return dout @ w.T, 2 * x.T @ dout\n", space)
    report = examined(linear_forward, space["backward"], [normal(4, 3), normal(3, 2)])
    assert report.causes == ["scale"] and "look at" not in report.text


HUGE_FIRST = np.append(1e6, normal(599))
PIXELS = np.random.default_rng(1).integers(0, 256, (12, 16, 4)) / 255.0  # 768 numbers, rows of four with ties
CLIP = np.array([0, 1, 0.5, 2, -1, 0.3, 0.4, 0.6])
x0 = normal(4, 5)
RIGHT_AT_THE_LIMIT = {
    "relu, the first of 600 is 1e6": (*elementwise(lambda x: np.maximum(x, 0), lambda x: x > 0), [HUGE_FIRST]),
    "tanh in a loop, the first of 600 is 1e6": (
        lambda x: (np.array([math.tanh(v) for v in x]), x),
        lambda dout, x: dout * (1 - np.tanh(x) ** 2),
        [HUGE_FIRST],
    ),
    "sum of clip, one at each bound, inside": (
        lambda x: (np.clip(x, 0, 1).sum(), x),
        lambda dout, x: dout * ((x >= 0) & (x <= 1)),
        [CLIP],
    ),
    "sum of clip, one at each bound, outside": (
        lambda x: (np.clip(x, 0, 1).sum(), x),
        lambda dout, x: dout * ((x > 0) & (x < 1)),
        [CLIP],
    ),
    "relu(x) + min(y, 0), both at 0": (
        lambda x, y: ((np.maximum(x, 0) + np.minimum(y, 0)).sum(), (x, y)),
        lambda dout, c: (dout * (c[0] > 0), dout * (c[1] < 0)),
        [np.array([0, 1, 2.0, 3]), np.array([0, 1, -2.0, 5])],
    ),
    "sort, three equal": (
        lambda x: (np.sort(x), x),
        lambda dout, x: dout[np.argsort(np.argsort(x, kind="stable"))],
        [np.array([1.0, 2, 2, 2, 3, 4, 5, 6])],
    ),
    "median, three equal": (
        lambda x: (np.median(x), x),
        lambda dout, x: dout * np.array([0, 0, 1, 0, 0]),
        [np.array([1.0, 2, 2, 2, 3])],
    ),
    "sign at 0": (*elementwise(np.sign, np.zeros_like), [np.array([0, 1, -1, 0.5, 2, 3])]),
    "cosine along x itself, x of 1e-4": (
        lambda x: ((norm_forward(x)[0] * x0).sum(), norm_forward(x)[1]),
        lambda dout, c: norm_backward(dout * x0, c),
        [1e-4 * x0],
    ),
    "the norm of differences of 1e-6": (
        lambda x: (np.linalg.norm(x, axis=1), x),
        lambda dout, x: dout[:, None] * x / np.linalg.norm(x, axis=1, keepdims=True),
        [normal(4, 3, scale=1e-6)],
    ),
    "batch norm by var, spread 1e-5": (
        lambda x: ((x - x.mean(0)) / np.sqrt(x.var(0) + 1e-12), x),
        lambda dout, x: (lambda s, h: (dout - dout.mean(0) - h * (dout * h).mean(0)) / s)(
            np.sqrt(x.var(0) + 1e-12), (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-12)
        ),
        [normal(300, 1, scale=1e-5)],
    ),
    "batch norm far away": (
        lambda x: ((x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), x),
        lambda dout, x: (lambda s, h: (dout - dout.mean(0) - h * (dout * h).mean(0)) / s)(
            np.sqrt(x.var(0) + 1e-5), (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
        ),
        [normal(30, 2, at=1000.0, scale=1e-2)],
    ),
    "1/x at 1e-8": (*elementwise(lambda x: 1 / x, lambda x: -1 / x**2), [uniform(6, scale=1e-8)]),
    "logistic regression, one feature of 1e6": (
        lambda x, w: (1 / (1 + np.exp(-np.clip(x @ w, -500, 500))), (x, w)),
        lambda dout, c: (lambda s: ((dout * s * (1 - s)) @ c[1].T, c[0].T @ (dout * s * (1 - s))))(
            1 / (1 + np.exp(-np.clip(c[0] @ c[1], -500, 500)))
        ),
        [normal(200, 4) * np.array([1e6, 1, 1, 1e-3]), normal(4, 1) / np.array([1e6, 1, 1, 1e-3])[:, None]],
    ),
    "relu, 30 zeros of 600": (
        *elementwise(lambda x: np.maximum(x, 0), lambda x: x > 0),
        [np.append(np.zeros(30), normal(570))],
    ),
    "relu behind a relu": (*elementwise(lambda x: np.maximum(x, 0), lambda x: x > 0), [np.maximum(normal(100), 0)]),
    "largest of four pixels, 12288 of them": (
        lambda x: (x.max(-1), x),
        lambda dout, x: dout[..., None] * (np.arange(4) == x.argmax(-1)[..., None]),
        [np.random.default_rng(1).integers(0, 256, (12, 256, 4)) / 255.0],
    ),
    "a ragged list passed on": (
        lambda x, ws: (x * ws[0][0], ws),
        lambda dout, ws: dout * ws[0][0],
        [normal(3), [[1.0, 2.0], [3.0]]],
    ),
    "a module passed on": (lambda x, xp: (xp.exp(x), x), lambda dout, x: np.exp(x) * dout, [normal(4), np]),
    "log of 1e-5 in a loop": (
        lambda p: (np.array([-math.log(q) for q in p]), p),
        lambda dout, p: -dout / p,
        [np.array([1e-5, 0.3, 0.7])],
    ),
}


@pytest.mark.parametrize("name", RIGHT_AT_THE_LIMIT)
def test_right_gradients_at_the_limits_of_measuring_pass(name):
    forward, backward, inputs = RIGHT_AT_THE_LIMIT[name]
    assert examined(forward, backward, inputs).ok


def only_if_large(dout, x):
    return 2 * x * np.clip(dout, -5, 5)


WRONG_IN_A_HIDDEN_PLACE = {
    **{
        f"twice the gradient of an output of {s:g}": (
            lambda x, s=s: (s * np.sin(x), x),
            lambda dout, x, s=s: 2 * s * np.cos(x) * dout,
            [normal(8)],
            {},
        )
        for s in (1e-8, 1e-12)
    },
    "log at 1e8, twice": (lambda x: (np.log(x).sum(), x), lambda dout, x: 2 * dout / x, [uniform(4, scale=1e8)], {}),
    "None for a large input that acts through few elements": (
        lambda x, b: (x[:3].sum() * b, (x, b)),
        lambda dout, c: (None, dout * c[0][:3].sum()),
        [normal(2000), np.array(1.5)],
        {},
    ),
    "clips dout": (square_forward, only_if_large, [normal(8)], {}),
    "NaN where dout is 0": (square_forward, lambda dout, x: 2 * x * dout * dout / dout, [normal(8)], {}),
    **{
        f"abs(dout) of one output, seed {s}": (
            lambda x: ((x * x).sum(), x),
            lambda dout, x: 2 * x * abs(dout),
            [normal(3)],
            {"seed": s},
        )
        for s in (1, 6, 7)
    },
    "1e8 added, 10 % off": (lambda x: (1e8 + np.sin(x).sum(), x), lambda dout, x: 1.1 * dout * np.cos(x), [normal(4)], {}),
    "one tie gets twice, another nothing": (
        lambda x: (x.max(1).sum(), x),
        lambda dout, x: dout * np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1]]),
        [OFFSET],
        {},
    ),
    "float32: one of 3000 twice": (square_forward, changed(7, 2.0), [normal(3000)], {"dtype": "float32"}),
    "float32: all of 5000 off by 1 %": (square_forward, lambda dout, x: 2.02 * x * dout, [normal(5000)], {"dtype": "float32"}),
}


@pytest.mark.parametrize("name", WRONG_IN_A_HIDDEN_PLACE)
def test_wrong_gradients_that_hide_do_not_pass(name):
    forward, backward, inputs, more = WRONG_IN_A_HIDDEN_PLACE[name]
    assert not examined(forward, backward, inputs, **more).ok


def test_no_cotangent_is_what_a_student_draws_with_the_same_seed():
    seen = []

    def backward(dout, x):
        seen.append(np.array(dout))
        return 2 * x * dout

    x = np.random.default_rng(0).standard_normal((3, 4))
    examined(square_forward, backward, [x])
    assert not any(np.array_equal(d, x) for d in seen)


def test_one_wrong_of_many_is_found_and_explained_without_walking_through_all_of_them():
    calls = []

    def counted(x):
        calls.append(1)
        return square_forward(x)

    assert not examined(counted, changed(7, 2.0), [normal(8000)]).ok
    assert len(calls) < 3000


@pytest.mark.parametrize("n", [6, 600])
def test_a_verdict_on_what_is_right_has_100_columns_too(n):
    report = examined(*elementwise(np.abs, np.sign), [np.append(np.zeros(2), normal(n))])
    assert max(map(len, report.text.splitlines())) <= 100


def test_a_ragged_list_that_comes_back_is_in_the_report():
    assert not examined(square_forward, lambda dout, x: [[1.0], [1.0, 2.0]], [normal(3)]).ok


def test_infinity_is_not_a_sign():
    assert examined(square_forward, lambda dout, x: 2 * x * dout + np.inf, [normal(6)]).causes == ["unknown"]


def test_huge_factors_are_written_short():
    assert max(map(len, examined(square_forward, lambda dout, x: 1e300 * x * dout, [normal(4)]).text.splitlines())) <= 100


def test_long_names_fit():
    r = examined(
        *elementwise(lambda x: np.maximum(x, 0), lambda x: (x > 0) - 3.123456789 * (x == 0)),
        [np.append(np.zeros(2), normal(6)).reshape(2, 2, 2)],
        names=["a_long_name_of_an_input_that_a_student_chose_for_clarity"],
    )
    assert max(map(len, r.text.splitlines())) <= 100


def test_large_options_leave_the_last_line_readable():
    r = examined(lambda x, **k: (x * x, x), lambda dout, x: x * dout, [normal(3)], options={"mask": np.arange(400.0)})
    assert len(r.text.splitlines()) < 16


def test_the_line_is_that_of_the_last_return_of_backward_itself():
    def backward(dout, cache):
        x, w = cache
        dw = 2 * x.T @ dout
        if dout.size > 1e9:
            return None, None
        return dout @ w.T, dw

    assert ": dw = 2 * x.T @ dout" in examined(linear_forward, backward, [normal(4, 3), normal(3, 2)]).text


def test_empty_inputs_plot_without_warning():
    examined(
        lambda x, e: (2 * x + e.sum(), e.shape),
        lambda dout, s: (2 * dout, np.full(s, dout.sum())),
        [normal(3), np.zeros((0, 3))],
    )
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_backward(
            lambda x, e: (2 * x + e.sum(), e.shape),
            lambda dout, s: (2 * dout, np.full(s, dout.sum())),
            [normal(3), np.zeros((0, 3))],
        ).plot()


def test_a_wrong_shape_can_be_plotted_or_says_why_not():
    examined(square_forward, lambda dout, x: 2 * (x * dout).sum(), [normal(3)]).plot()


def test_a_reference_may_return_its_cache_too():
    assert examined(square_forward, square_backward, [normal(3)], reference=square_forward).ok


def test_worst_counts_what_float32_may_lose():
    assert examined(square_forward, square_backward, [normal(5000)], dtype="float32").worst <= 1
