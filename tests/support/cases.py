"""For every operation of the table a hypothesis strategy of cases: random shapes and options that fit together.

A case is of one of two kinds:

"smooth"  values without ties and away from kinks: central differences exist, every digit of float64 may be asked for.
"exact"   values that leave rounding no excuse in float32, where 1e-5 is only 84 units in the last place. What is
          linear gets quarters, whose sums and products float32 holds exactly (ties and zeros included). What divides
          or averages gets positive numbers: sums of one sign keep their digits, while a sum that cancels to a
          thousandth of its terms has lost a thousandfold of them, and its relative error says nothing. What is
          curved gets ranges in which its gradient is no difference of nearly equal numbers; each says why.
"""
import itertools
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from minidl import ops
from minidl.arithmetic import elementwise, matmul, reductions, shaping
from minidl.autograd import Tensor, apply
from minidl.function import Function, plain_kernels
from minidl.testing import conv_geometries, image_shapes, make_array, pool_geometries

KINDS = ("smooth", "exact")


@dataclass(frozen=True)
class Case:
    """Inputs (float64, or integers) and options of one call, and what the gradient of its output shall be."""

    inputs: tuple[np.ndarray, ...]
    options: dict[str, Any]
    cotangent: str | np.ndarray
    seed: int

    def dy(self, shape: tuple[int, ...]) -> np.ndarray:
        """The gradient of the output, float64."""
        return make_array(shape, self.seed, self.cotangent) if isinstance(self.cotangent, str) else self.cotangent

    def inputs_as(self, dtype: Any) -> tuple[np.ndarray, ...]:
        """Copies of the inputs, the floating ones in `dtype`."""
        return tuple(x.astype(dtype if x.dtype.kind == "f" else x.dtype) for x in self.inputs)


class Draw:
    """What a case is made from: hypothesis' choices for shapes and options, one drawn seed for all of its numbers."""

    def __init__(self, choose: Callable, kind: str) -> None:
        self.choose, self.exact = choose, kind == "exact"
        self.seed = choose(st.integers(0, 2**32 - 1))
        self.rng = np.random.default_rng(self.seed)

    def __call__(self, strategy: Any) -> Any:
        return self.choose(strategy)

    def integer(self, low: int, high: int) -> int:
        return self.choose(st.integers(low, high))

    def one_of(self, *values: Any) -> Any:
        return self.choose(st.sampled_from(values))

    def flag(self) -> bool:
        return self.choose(st.booleans())

    def rarely(self) -> bool:
        return self.one_of(False, False, False, False, False, True)

    def array(self, shape: tuple, values: str = "") -> np.ndarray:
        """An array of `shape`; unless `values` says otherwise normal in smooth cases, quarters in exact ones."""
        seed = int(self.rng.integers(2**32))
        return make_array(tuple(shape), seed, values or ("exact" if self.exact else "normal"))

    def signed(self, shape: tuple) -> np.ndarray:
        """Magnitudes from 1/2 to 2 with random signs: away from zero."""
        return self.array(shape, "positive") * self.rng.choice([-1, 1], shape)

    def shape(self, least_axes: int = 0, most_axes: int = 3, most: int = 4, may_be_empty: bool = True) -> tuple[int, ...]:
        sizes = self.choose(st.lists(st.integers(1, most), min_size=least_axes, max_size=most_axes))
        if sizes and may_be_empty and self.rarely():
            sizes[self.integer(0, len(sizes) - 1)] = 0
        return tuple(sizes)

    def broadcastable(self, count: int = 2) -> list[tuple[int, ...]]:
        """Shapes that broadcast: leading axes left out, others of size 1."""
        full = self.shape(most=3)
        shapes = []
        for _ in range(count):
            kept = full[self.integer(0, len(full)) if self.flag() else 0:]
            shapes.append(tuple(1 if self.rarely() else n for n in kept))
        return shapes

    def batch(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """`shape`, and once in a while an empty batch of it."""
        return (0, *shape[1:]) if self.rarely() else shape

    def axes(self, ndim: int) -> Any:
        """Some of `ndim` axes, as reductions take them: None, one, or a tuple, counted from either end."""
        if ndim == 0 or self.rarely():
            return None
        some = self.choose(st.lists(st.integers(0, ndim - 1), min_size=1, max_size=ndim, unique=True))
        some = [a - ndim if self.flag() else a for a in some]
        return some[0] if len(some) == 1 and self.flag() else tuple(some)


# --- elements ------------------------------------------------------------------------------------------------------


def pair_of_arrays(d: Draw) -> tuple:
    return tuple(d.array(shape) for shape in d.broadcastable()), {}


def division(d: Draw) -> tuple:
    shapes = d.broadcastable()
    if d.exact:  # dx = sum of dz / y and dy = -sum of dz x / y**2 have terms of one sign
        return tuple(d.array(shape, "positive") for shape in shapes), {}, "positive"
    return tuple(d.signed(shape) for shape in shapes), {}


def power(d: Draw) -> tuple:
    exponent = d.one_of(2, 3, 1, 0, -1, -2, 0.5, -0.5, 2.5)
    whole = isinstance(exponent, int)
    return ((d.signed if whole else lambda shape: d.array(shape, "positive"))(d.shape()),), dict(exponent=exponent)


def any_array(d: Draw) -> tuple:
    return (d.array(d.shape()),), {}


def positive_array(d: Draw) -> tuple:
    return (d.array(d.shape(), "positive"),), {}


def within_two(d: Draw) -> tuple:
    """The slopes 1 - tanh(x)**2 and y (1 - y) subtract; up to |x| = 2 at least 0.07 is left of the 1, so at most four
    of its 24 bits are lost. Far out nearly all of them are."""
    return (d.rng.uniform(-2, 2, d.shape()),), {}


def choice(d: Draw) -> tuple:
    condition, x, y = d.broadcastable(3)
    return (d.rng.random(condition) < 0.5, d.array(x), d.array(y)), {}


def away_from_zero(d: Draw) -> tuple:
    shape = d.shape()
    return (d.array(shape) if d.exact else d.signed(shape),), {}  # exact ones hold zeros: the kink itself


def leaky(d: Draw) -> tuple:
    return away_from_zero(d)[0], dict(negative_slope=d.one_of(0.01, 0.2, 1.0, 0.0))


def dropped(d: Draw) -> tuple:
    shape, p = d.shape(), d.one_of(0.5, 0.2, 0.0, 0.9)
    return (d.array(shape), d.rng.random(shape) >= p), dict(p=p)


# --- matrices, reductions, shapes ----------------------------------------------------------------------------------


def matrix_product(d: Draw) -> tuple:
    M, K, P = d.integer(1, 3), 0 if d.rarely() else d.integer(1, 4), d.integer(1, 3)
    left, right = d.one_of((True, True), (True, False), (False, True), (False, False))
    x_lead, y_lead = d.broadcastable()
    x_shape = (*x_lead[-2:], M, K) if left else (K,)
    y_shape = (*y_lead[-2:], K, P) if right else (K,)
    return (d.array(x_shape), d.array(y_shape)), {}


def affine(d: Draw) -> tuple:
    D, F = d.integer(1, 4), d.integer(1, 4)
    arrays = d.array((*d.shape(most_axes=2), D)), d.array((F, D)), d.array((F,))
    return arrays if d.flag() else arrays[:2], {}


def reduced(values: str = "", may_be_empty: bool = False) -> Callable:
    """Quarters also serve the variance: of values that differ, one is 1/8 or more from a mean of at most 2, so their
    difference keeps all but four of float32's 24 bits."""
    def case(d: Draw) -> tuple:
        shape = d.shape(may_be_empty=may_be_empty)
        options = dict(axis=d.axes(len(shape)), keepdims=d.flag())
        return (d.array(shape, "" if d.exact else values),), options
    return case


def reshaped(d: Draw) -> tuple:
    shape = d.shape()
    size = int(np.prod(shape))
    sizes = list(d.choose(st.permutations(shape)))
    if sizes and d.flag():
        sizes[:2] = [int(np.prod(sizes[:2]))]
    if size and d.flag():
        sizes.insert(d.integer(0, len(sizes)), 1)
    if size and sizes and d.flag():
        sizes[d.integer(0, len(sizes) - 1)] = -1
    return (d.array(shape),), dict(shape=tuple(sizes))


def transposed(d: Draw) -> tuple:
    shape = d.shape()
    axes = d.choose(st.permutations(range(len(shape))))
    axes = tuple(a - len(shape) if d.flag() else a for a in axes)
    return (d.array(shape),), dict(axes=None if d.flag() else axes)


def indexed(d: Draw) -> tuple:
    shape = d.shape(1, 3, may_be_empty=False)
    return (d.array(shape),), dict(index=an_index(d, shape))


def an_index(d: Draw, shape: tuple[int, ...]) -> Any:
    """Integers, slices, arrays with repeats, masks, and tuples of them."""
    def one(n: int) -> Any:
        what = d.one_of("integer", "slice", "backwards")
        if what == "integer":
            return d.integer(-n, n - 1)
        start, stop = d.integer(-n, n), d.integer(-n, n)
        return slice(start, stop, d.integer(1, 2)) if what == "slice" else slice(None, None, -d.integer(1, 2))

    def several(n: int) -> np.ndarray:  # more places than elements: some are taken twice
        return d.rng.integers(-n, n, n + 2)

    what = d.one_of("basic", "ellipsis", "array", "column", "list", "pairs", "mask", "rows")
    if what == "basic":
        parts = tuple(one(n) for n in shape[: d.integer(1, len(shape))])
        return parts[0] if len(parts) == 1 and d.flag() else parts
    if what == "ellipsis":
        return (Ellipsis, None, one(shape[-1]))
    if what == "array":
        return several(shape[0])
    if what == "column" and len(shape) > 1:
        return (slice(None), several(shape[1]))
    if what == "list":
        return several(shape[0]).tolist()
    if what == "pairs" and len(shape) > 1:
        return (d.rng.integers(-shape[0], shape[0], 5), d.rng.integers(-shape[1], shape[1], 5))
    if what == "mask":
        return d.rng.random(shape) < 0.5
    return d.rng.random(shape[0]) < 0.5


def joined(d: Draw) -> tuple:
    shape = list(d.shape(1, 3, may_be_empty=False))
    axis = d.integer(-len(shape), len(shape) - 1)
    xs = []
    for _ in range(d.integer(1, 4)):
        shape[axis] = d.integer(0, 3)
        xs.append(d.array(tuple(shape)))
    return tuple(xs), dict(axis=axis)


def stacked(d: Draw) -> tuple:
    shape = d.shape()
    xs = tuple(d.array(shape) for _ in range(d.integer(1, 4)))
    return xs, dict(axis=d.integer(-len(shape) - 1, len(shape)))


def padded(d: Draw) -> tuple:
    shape = d.shape()
    widths = tuple((d.integer(0, 2), d.integer(0, 2)) for _ in shape)
    return (d.array(shape),), dict(pad_width=widths, value=d.one_of(0.0, 1.5))


def converted(d: Draw) -> tuple:
    # a step of 1e-6 cannot be seen through float32: only the exact cases, which nobody differentiates, narrow
    return (d.array(d.shape()),), dict(dtype=d.one_of(np.float64, np.float32, np.float16) if d.exact else np.float64)


# --- classes and losses --------------------------------------------------------------------------------------------


def scores(d: Draw) -> tuple:
    """dx = y * (dy - sum of dy * y) is a difference: `apart` cotangents are never equal within a row, and scores within
    -1 and 1 leave every class a share of at least 1 / (1 + 4 e**2)."""
    shape = d.shape(1, 4) if not d.rarely() else (*d.shape(0, 2), 1)
    dim = d.integer(-len(shape), len(shape) - 1)
    if shape[dim] == 0:
        shape = tuple(max(1, n) for n in shape)
    return (d.array(shape) / 2 if d.exact else d.array(shape),), dict(dim=dim), "apart" if d.exact else "normal"


def labelled(d: Draw) -> tuple:
    """dlogits = softmax - 1 at the label: with scores within -1 and 1 the softmax of two classes or more is below 0.9."""
    C, N = d.integer(1, 5), d.integer(1, 4)
    pixels = d.one_of((), (d.integer(1, 3), d.integer(1, 3)))
    logits = d.array((N, C, *pixels)) / (2 if d.exact else 1)
    labels = d.rng.integers(0, C, (N, *pixels))
    ignored = d.one_of(None, -1, 255, -100)
    if ignored is not None:
        labels[d.rng.random(labels.shape) < 0.4] = ignored
        labels.flat[d.integer(0, labels.size - 1)] = C - 1  # there must be something left to average over
    dtype = np.uint8 if ignored == 255 else d.one_of(np.int64, np.int32)
    return (logits, labels.astype(dtype)), dict(ignore_index=ignored)


def two_alike(d: Draw) -> tuple:
    shape = d.shape(may_be_empty=False)
    return (d.array(shape), d.array(shape)), {}


# --- images --------------------------------------------------------------------------------------------------------


def convolved(d: Draw) -> tuple:
    geometry = d(conv_geometries(max_side=5, max_kernel=3, max_channels=2, max_groups=2))
    arrays = d.array(d.batch(geometry.x_shape)), d.array(geometry.w_shape), d.array(geometry.w_shape[:1])
    return arrays if d.flag() else arrays[:2], geometry.options


def convolved_back(d: Draw) -> tuple:
    N, C, F, groups = 0 if d.rarely() else d.integer(1, 2), d.integer(1, 2), d.integer(1, 2), d.integer(1, 2)

    def along_one_axis() -> tuple[int, int, int, int, int]:
        size, kernel, stride = d.integer(1, 4), d.integer(1, 3), d.integer(1, 3)
        extra = d.integer(0, stride - 1)
        painted = (size - 1) * stride + kernel + extra
        return size, kernel, stride, d.integer(0, min(2, (painted - 1) // 2)), extra  # something must be left

    (H, KH, SH, PH, EH), (W, KW, SW, PW, EW) = along_one_axis(), along_one_axis()
    arrays = d.array((N, C * groups, H, W)), d.array((C * groups, F, KH, KW)), d.array((F * groups,))
    options = dict(stride=(SH, SW), padding=(PH, PW), output_padding=(EH, EW), groups=groups)
    return arrays if d.flag() else arrays[:2], options


def windows_of(d: Draw) -> tuple:
    geometry = d(conv_geometries(max_side=5, max_kernel=3, max_channels=2, max_groups=1))
    options = dict(kernel_size=geometry.w_shape[2:], stride=geometry.stride, padding=geometry.padding)
    return (d.array(d.batch(geometry.x_shape)),), options


def windows_back(d: Draw) -> tuple:
    geometry = d(conv_geometries(max_side=5, max_kernel=3, max_channels=2, max_groups=1))
    (N, C, H, W), (KH, KW) = geometry.x_shape, geometry.w_shape[2:]
    (SH, SW), (PH, PW) = geometry.stride, geometry.padding
    places = ((H + 2 * PH - KH) // SH + 1) * ((W + 2 * PW - KW) // SW + 1)
    options = dict(output_size=(H, W), kernel_size=(KH, KW), stride=(SH, SW), padding=(PH, PW))
    return (d.array((N, C * KH * KW, places)),), options


def max_pooled(d: Draw) -> tuple:
    geometry = d(pool_geometries(max_side=6, max_kernel=3, max_channels=2))
    return (d.array(d.batch(geometry.x_shape), "" if d.exact else "apart"),), geometry.options  # quarters tie often


def averaged(d: Draw) -> tuple:
    geometry = d(pool_geometries(max_side=6, max_kernel=3, max_channels=2))
    values = "positive" if d.exact else "normal"  # thirds and sixths are rounded: their sums must not cancel
    return (d.array(d.batch(geometry.x_shape), values),), dict(geometry.options, count_include_pad=d.flag()), values


def averaged_to_size(d: Draw) -> tuple:
    shape = d.batch(d(image_shapes(max_batch=2, max_channels=3, max_side=6)))
    values = "positive" if d.exact else "normal"
    return (d.array(shape, values),), dict(output_size=(d.integer(1, 5), d.integer(1, 5))), values


def cropped(d: Draw) -> tuple:
    N, C, H, W = d.batch(d(image_shapes(max_batch=2, max_channels=2, max_side=5)))
    OH, OW = d.integer(1, H), d.integer(1, W)
    return (d.array((N, C, H, W)),), dict(size=(OH, OW), offset=(d.integer(0, H - OH), d.integer(0, W - OW)))


# --- normalisation -------------------------------------------------------------------------------------------------


def normalised_locally(d: Draw) -> tuple:
    """dx = dy s**-beta - 2 alpha beta x * (...) is a difference. With |x| <= 1, alpha <= 0.3, windows up to 5 and k >= 1
    the second part is at most 2 beta * 1.5 / 2.5 = 0.9 of the first in the direction where it is largest."""
    shape = (0 if d.rarely() else d.integer(1, 2), d.integer(1, 6), *d.shape(0, 2, 3, may_be_empty=False))
    options = dict(n=d.integer(1, 5), k=d.one_of(1.0, 2.0), alpha=d.one_of(0.3, 0.1), beta=d.one_of(0.75, 0.5))
    return (d.rng.uniform(-1, 1, shape),), options


def normalised_by_batch(d: Draw) -> tuple:
    """dx is dy less its projections on 1 and on x_hat: of two values per channel nothing is left but rounding, of six
    or more there remain four dimensions or more.

    In exact cases dy = 2 + x_hat + noise in -1/2..1/2. So db (about 2 per value) and dw (about 1 per value) do not cancel,
    and dx is what the projections leave of the noise: a tenth of dy or so, which costs 1 of float32's 7 digits.
    """
    C = d.integer(1, 3)
    shape = (d.integer(1, 2), C, d.integer(2, 3), d.integer(3, 4)) if d.flag() else (d.integer(6, 9), C)
    x = d.array(shape, "normal") * 2 + 1
    arrays = x, d.signed((C,)), d.signed((C,))
    options = dict(eps=d.one_of(1e-5, 1e-3, 0.5))
    if not d.exact:
        return arrays, options
    axes = (0, *range(2, len(shape)))
    x_hat = (x - x.mean(axis=axes, keepdims=True)) / x.std(axis=axes, keepdims=True)
    return arrays, options, 2 + x_hat + d.rng.uniform(-0.5, 0.5, shape)


def normalised_as_before(d: Draw) -> tuple:
    C = d.integer(1, 3)
    shape = (0 if d.rarely() else d.integer(1, 3), C, *d.one_of((), (d.integer(1, 3), d.integer(1, 3))))
    options = dict(eps=d.one_of(1e-5, 1e-3, 0.5))
    w, b, var = d.signed((C,)), d.signed((C,)), d.array((C,), "positive")
    if d.exact:  # x above the mean and dy positive: the sums over the batch have terms of one sign
        return (d.array(shape, "positive"), w, b, -d.array((C,), "positive"), var), options, "positive"
    return (d.array(shape), w, b, d.array((C,)), var), options


CASES: dict[type[Function], Callable[[Draw], tuple]] = {
    elementwise.Add: pair_of_arrays,
    elementwise.Subtract: pair_of_arrays,
    elementwise.Multiply: pair_of_arrays,
    elementwise.Divide: division,
    elementwise.Power: power,
    elementwise.Negate: any_array,
    elementwise.Exp: within_two,
    elementwise.Log: positive_array,
    elementwise.Sqrt: positive_array,
    elementwise.Tanh: within_two,
    elementwise.Where: choice,
    matmul.MatMul: matrix_product,
    reductions.Sum: reduced(may_be_empty=True),
    reductions.Mean: reduced(),
    reductions.Max: reduced("apart"),
    reductions.Var: reduced(),
    shaping.Reshape: reshaped,
    shaping.Transpose: transposed,
    shaping.GetItem: indexed,
    shaping.Concat: joined,
    shaping.Stack: stacked,
    shaping.Pad: padded,
    shaping.Cast: converted,
    ops.ReLU: away_from_zero,
    ops.LeakyReLU: leaky,
    ops.Sigmoid: within_two,
    ops.Softmax: scores,
    ops.LogSoftmax: scores,
    ops.CrossEntropy: labelled,
    ops.MSE: two_alike,
    ops.Linear: affine,
    ops.Im2Col: windows_of,
    ops.Col2Im: windows_back,
    ops.Conv2d: convolved,
    ops.ConvTranspose2d: convolved_back,
    ops.MaxPool2d: max_pooled,
    ops.AvgPool2d: averaged,
    ops.AdaptiveAvgPool2d: averaged_to_size,
    ops.LRN: normalised_locally,
    ops.BatchNorm: normalised_by_batch,
    ops.BatchNormEval: normalised_as_before,
    ops.Dropout: dropped,
    ops.Crop: cropped,
}


# --- what no sample can show, because samples are also judged by differences ---------------------------------------


def check_slope_at_zero(op: type[Function]) -> None:
    """At a kink differences see the mean of both slopes; the formula says which one it is."""
    x = Tensor(np.array([0.0, -0.0]), requires_grad=True)
    apply(op(negative_slope=0.25), x).backward(np.array([1.0, 3.0]))
    assert x.grad.tolist() == [0.25, 0.75], f"{op.__name__}: the slope at 0 is the negative one"


def check_narrowing(op: type[Function]) -> None:
    """Differences of 1e-6 drown in float32, but to change the dtype there and back is what the operation is for."""
    for here, there in ((np.float64, np.float32), (np.float32, np.float16), (np.float16, np.float64)):
        x = Tensor(np.array([0.5, -3.0], here), requires_grad=True)
        y = apply(op(dtype=there), x)
        assert y.dtype == there and y.numpy().tolist() == [0.5, -3.0], f"{op.__name__}: must give {there}"
        y.backward(np.array([2.0, 0.25], there))
        assert x.grad.dtype == here and x.grad.tolist() == [2.0, 0.25], f"{op.__name__}: the gradient must be {here}"


def check_the_index_is_its_own(op: type[Function]) -> None:
    """An index array shuffled between forward and backward does not send the gradient elsewhere."""
    index = np.array([0, 2])
    x = Tensor(np.ones(3), requires_grad=True)
    y = apply(op(index=index), x)
    index[:] = 1
    y.backward(np.array([1.0, 2.0]))
    assert x.grad.tolist() == [1, 0, 2], f"{op.__name__}: the gradient followed an index that was changed after forward"


def check_every_method(op: type[Function]) -> None:
    """conv_method's ways, forward and backward, and that each is the one that runs."""
    conv_method = op.kernels.__globals__["conv_method"]  # of the very module that `op` is from
    for inputs, options in op.samples(np.random.default_rng(1)):
        results = []
        for method in ("im2col", "loops", "threads", "winograd"):
            function, ran = op(**options), []
            with conv_method(method):
                forward, backward = function.kernels(inputs)
                ran.append((forward.__name__, backward.__name__))
                tensors = [Tensor(x, requires_grad=True) for x in inputs]
                y = apply(op(**options), *tensors)
            y.backward(np.random.default_rng(2).standard_normal(y.shape))
            suffix = {"im2col": "", "loops": "_loops"}.get(method, "_cpu")
            assert ran == [(f"forward{suffix}", f"backward{suffix}")], f"{method} runs {ran}"
            results.append([y.numpy(), *(t.grad for t in tensors)])
        for other in results[1:]:
            for got, want in zip(other, results[0]):
                assert got.shape == want.shape and np.allclose(got, want, rtol=1e-11, atol=1e-12), "two methods differ"
    with conv_method("loops"):
        try:
            apply(op(), np.ones((1, 2, 4, 4)), np.ones((3, 1, 3, 3)))
        except ValueError as error:
            assert "channels" in str(error)
        else:
            raise AssertionError("the loops take what must be refused")
        try:
            apply(op(), np.ones((1, 1, 4, 4)), np.ones((3, 1, 3, 3)), np.ones(2))
        except ValueError as error:
            assert "bias" in str(error)
        else:
            raise AssertionError("the loops take what must be refused")
        x32 = apply(op(), np.ones((1, 1, 4, 4), np.float32), np.ones((1, 1, 3, 3), np.float32))
        assert x32.dtype == np.float32
    rng = np.random.default_rng(0)
    winograd = (Tensor(rng.standard_normal(shape).astype(np.float32)) for shape in ((1, 2, 5, 5), (3, 2, 3, 3)))
    function = op(padding=1)
    with conv_method("winograd"):
        apply(function, *winograd)
    assert function.way == "winograd"


def check_in_place(op: type[Function]) -> None:
    """ReLU(inplace=True) takes its input's memory where it may, and only there, in both kernels."""
    for context in (plain_kernels, nullcontext):
        with context():
            for needs, inplace, given, view, frozen in itertools.product((True, False), repeat=5):
                memory = np.array([-1.0, 2.0, -3.0, 4.0])
                x = memory[:2] if view else memory
                x.flags.writeable = not frozen
                function = op(inplace=inplace)
                if given:
                    function.x_is_free = True
                y = apply(function, Tensor(x, requires_grad=needs)).numpy()
                assert y.tolist() == [max(v, 0.0) for v in ([-1.0, 2.0] if view else [-1.0, 2.0, -3.0, 4.0])]
                may = inplace and given and not view and not frozen
                assert np.shares_memory(y, memory) is may, (
                    f"needs {needs}, inplace {inplace}, given away {given}, view {view}, frozen {frozen}")


def check_statistics(op: type[Function]) -> None:
    """What `ops.batch_norm` moves its running statistics by, in both kernels."""
    x = np.random.default_rng(0).standard_normal((3, 2, 4, 5)) * np.array([1.0, 3.0]).reshape(2, 1, 1) + 2
    for context in (plain_kernels, nullcontext):
        function = op()
        with context():
            apply(function, x, np.ones(2), np.zeros(2))
        assert np.allclose(function.mean, x.mean(axis=(0, 2, 3))) and np.allclose(function.var, x.var(axis=(0, 2, 3)))
        assert function.count == 60


def check_two_kinds_of_integers(op: type[Function]) -> None:
    """Integers of two widths meet in the wider one."""
    for x, y in ((np.int8, np.int32), (np.int32, np.int8)):
        got = apply(op(), np.array([100, 100], x), np.array([100, 100], y))
        assert got.dtype == np.int32 and got.numpy().tolist() == [200, 200]


POINTED_CHECKS: dict[str, Callable] = {  # by the name of the operation
    "conv2d": check_every_method, "relu": check_in_place, "add": check_two_kinds_of_integers, "batch_norm": check_statistics,
    "leaky_relu": check_slope_at_zero, "astype": check_narrowing, "getitem": check_the_index_is_its_own}


@st.composite
def cases(choose: Callable, op: type[Function], kind: str) -> Case:
    """Strategy for cases of the operation `op`, of the kind "smooth" or "exact"."""
    if kind not in KINDS:
        raise ValueError(f"cases: kind must be one of {KINDS}, got {kind!r}")
    d = Draw(choose, kind)
    inputs, options, *cotangent = CASES[op](d)
    inputs = tuple(np.array(x) for x in inputs)  # also those without axes, where NumPy's arithmetic gives a scalar
    return Case(inputs, options, cotangent[0] if cotangent else "exact" if d.exact else "normal", d.seed ^ 1)
