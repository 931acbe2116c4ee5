"""Every operation on random shapes and options: forward against its loops, gradients against central differences.

A light version belongs to the plain suite; `pytest -m fuzz` looks much further.
"""
import numpy as np
import pytest
from cases import CASES, KINDS, POINTED_CHECKS, cases
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from operation_checks import EPS, EXACT, GRADIENT, backward, differences, relative_error, run

from minidl import ops
from minidl.autograd import Tensor, apply
from minidl.function import Function
from minidl.ops import OPS
from minidl.testing import GradcheckError, assert_gradients, conv_geometries, image_shapes, images, make_array, pool_geometries

LIGHT = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
DEEP = settings(LIGHT, max_examples=300)

every_operation = pytest.mark.parametrize("op", OPS, ids=lambda op: op.__name__)


def test_every_operation_has_a_case():
    assert set(CASES) == set(OPS)


ABOUT_THE_HOST = {"conv2d": "Python's loops and Winograd run on the CPU alone", "relu": "looks at NumPy's memory"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.cpu(ABOUT_THE_HOST[name])])
                                  if name in ABOUT_THE_HOST else name for name in POINTED_CHECKS])
def test_what_no_sample_can_show_holds(name):
    (op,) = [op for op in OPS if op.name == name]
    POINTED_CHECKS[name](op)


def forward_agrees_with_the_loops(op, case):
    y, _ = run(op, case.inputs, case.options)
    error = relative_error(y.numpy(), op.naive(*case.inputs, **case.options))
    assert error <= EXACT, f"{op.__name__}: forward is off its loops by {error:.2e}"


def gradients_agree_with_differences(op, case):
    y, _ = run(op, case.inputs, case.options)
    dy = case.dy(y.shape)
    got = backward(op, case.inputs, case.options, dy)
    want = differences(lambda *arrays: op(**case.options).forward(*arrays), case.inputs_as(np.float64), dy)
    # What differences cannot resolve, and random cases do meet gradients that small (a sum that cancels): y comes
    # rounded to 2**-53 of itself, and the term of third order adds eps**2 / 6 times a derivative of a few units.
    largest = abs(y.numpy()).max(initial=0)
    unresolved = (2**-52 * largest / EPS + EPS**2) * abs(dy).sum()
    for k, (g, w) in enumerate(zip(got, want)):
        assert (g is None) == (w is None), f"{op.__name__}: {op.input_name(k)} must have a gradient if it is floating"
        if w is not None and w.size:
            error = abs(g - w).max()
            assert error <= GRADIENT * abs(w).max() + unresolved, (
                f"{op.__name__}: gradient of {op.input_name(k)} is off by {error:.2e}, the largest is {abs(w).max():.2e}")


@pytest.mark.parametrize("kind", KINDS)
@every_operation
def test_forward_agrees_with_the_loops_on_random_cases(op, kind):
    @LIGHT
    @given(cases(op, kind))
    def agrees(case):
        forward_agrees_with_the_loops(op, case)

    agrees()


@every_operation
def test_gradients_agree_with_central_differences_on_random_cases(op):
    @LIGHT
    @given(cases(op, "smooth"))
    def agrees(case):
        gradients_agree_with_differences(op, case)

    agrees()


@pytest.mark.fuzz
@every_operation
def test_forward_and_gradients_agree_on_hundreds_of_random_cases(op):
    @DEEP
    @given(cases(op, "smooth"), cases(op, "exact"))
    def agrees(smooth, exact):
        forward_agrees_with_the_loops(op, smooth)
        forward_agrees_with_the_loops(op, exact)
        gradients_agree_with_differences(op, smooth)

    agrees()


@every_operation
def test_the_cases_of_an_operation_are_not_all_empty(op):
    """A comparison of nothing with nothing always holds."""
    filled, total = 0, 0

    @LIGHT
    @given(cases(op, "smooth"))
    def count(case):
        nonlocal filled, total
        y, _ = run(op, case.inputs, case.options)
        filled, total = filled + bool(y.size and all(x.size for x in case.inputs)), total + 1

    count()
    assert filled >= total / 5, "most drawn cases hold no element"


# --- minidl.testing's own tools on random input --------------------------------------------------------------------


@LIGHT
@given(conv_geometries(max_side=4, max_kernel=3, max_channels=2, max_groups=2), st.integers(0, 999))
def test_assert_gradients_accepts_a_convolution_under_relu(geometry, seed):
    x, w = make_array(geometry.x_shape, seed), make_array(geometry.w_shape, seed + 1)
    assert_gradients(lambda x, w: ops.relu(ops.conv2d(x, w, **geometry.options)).mean(), x, w, seeds=(0,))


@LIGHT
@given(pool_geometries(max_side=5, max_kernel=3, max_channels=2), st.integers(0, 999))
def test_assert_gradients_accepts_pooling_of_a_curved_function(geometry, seed):
    x = make_array(geometry.x_shape, seed, "apart") / (1 + np.prod(geometry.x_shape) / 14)  # apart, and within -2 and 2
    assert_gradients(lambda x: ops.max_pool2d(ops.tanh(x), **geometry.options), x, seeds=(0,))


@LIGHT
@given(images(image_shapes(max_side=4, max_channels=3)), st.integers(2, 4), st.integers(0, 999))
def test_assert_gradients_accepts_a_classifier_with_its_loss(x, classes, seed):
    w = make_array((classes, x.shape[1]), seed)
    labels = np.random.default_rng(seed).integers(0, classes, len(x))

    def loss(x, w):
        return ops.cross_entropy(ops.linear(ops.adaptive_avg_pool2d(x, 1).reshape(len(x), -1), w), labels)

    assert_gradients(loss, x, w, seeds=(0,))


class ForgetfulSquare(Function):
    """y = x**2, with the gradient of one element forgotten."""

    name = "forgetful_square"

    def __init__(self, forgotten=0):
        self.forgotten = forgotten

    def forward(self, x):
        self.x = x
        return x**2

    def backward(self, dy):
        dx = 2 * dy * self.x
        dx.reshape(-1)[self.forgotten] = 0  # a view
        return dx


@LIGHT
@given(images(image_shapes(max_side=4), values="apart"), st.data())
def test_assert_gradients_finds_one_forgotten_element_wherever_it_is(x, data):
    forgotten = data.draw(st.integers(0, x.size - 1))
    with pytest.raises(GradcheckError):
        assert_gradients(lambda x: apply(ForgetfulSquare(forgotten), x), x, seeds=(0,))


@LIGHT
@given(image_shapes(), st.sampled_from(["normal", "apart", "exact", "positive"]), st.integers(0, 2**32 - 1))
def test_arrays_keep_what_their_values_promise(shape, values, seed):
    x = make_array(shape, seed, values)
    assert x.shape == shape and x.dtype == np.float64
    assert np.array_equal(x, make_array(shape, seed, values)), "the seed does not determine the array"
    assume(x.size > 1)
    if values == "apart":
        assert np.diff(np.sort(x.ravel())).min() > 0.14 and abs(x).min() > 0.07
    if values == "exact":
        assert np.array_equal(x * 4, np.round(x * 4)) and abs(x).max() <= 2
    if values == "positive":
        assert x.min() >= 0.5 and x.max() <= 2


@LIGHT
@given(conv_geometries(), pool_geometries())
def test_every_drawn_geometry_is_accepted(conv, pool):
    x, w = Tensor(np.zeros(conv.x_shape)), Tensor(np.zeros(conv.w_shape))
    assert ops.conv2d(x, w, **conv.options).shape[0] == conv.x_shape[0]
    x = Tensor(np.zeros(pool.x_shape))
    assert ops.max_pool2d(x, **pool.options).shape == ops.avg_pool2d(x, **pool.options).shape
