"""Clipping of gradients."""
import math

import numpy as np
import pytest

from minidl.nn import Parameter
from minidl.optim import clip_grad_norm_, clip_grad_value_


def parameters(*gradients, dtype=np.float64):
    found = []
    for g in gradients:
        p = Parameter(np.zeros_like(np.asarray(g, dtype)) if g is not None else np.zeros(2))
        p.grad = None if g is None else np.array(g, dtype)
        found.append(p)
    return found


def test_the_joint_norm_is_returned_and_brought_down():
    ps = parameters([3.0, 0.0], None, [[4.0]])
    assert clip_grad_norm_(ps, 1.0) == 5.0
    np.testing.assert_allclose(ps[0].grad, [0.6, 0.0], rtol=1e-6)
    np.testing.assert_allclose(ps[2].grad, [[0.8]], rtol=1e-6)
    assert ps[1].grad is None


def test_a_norm_just_above_the_limit_shrinks_a_little():
    ps = parameters([3.0, 4.0])
    clip_grad_norm_(ps, 4.0)
    np.testing.assert_allclose(ps[0].grad, [2.4, 3.2], rtol=1e-6)


def test_small_gradients_stay_to_the_bit():
    ps = parameters([3.0, 4.0])
    assert clip_grad_norm_((p for p in ps), 5.5) == 5.0
    assert ps[0].grad.tolist() == [3.0, 4.0]


@pytest.mark.parametrize("dtype, size", [(np.float16, 6e4), (np.float32, 3e38)])
def test_squares_do_not_overflow_and_the_dtype_stays(dtype, size):
    ps = parameters([size, size], dtype(size), dtype=dtype)
    assert clip_grad_norm_(ps, 1.0) == pytest.approx(math.sqrt(3) * size, rel=1e-3)
    assert ps[0].grad.dtype == dtype and type(ps[1].grad) is type(ps[1].data)
    assert ps[1].grad == pytest.approx(1 / math.sqrt(3), rel=1e-2)


def test_a_non_finite_norm_passes_like_pytorchs_or_raises_on_request():
    ps = parameters([1.0, math.nan])
    with pytest.raises(FloatingPointError, match="norm of the gradients is nan"):
        clip_grad_norm_(ps, 1.0, error_if_nonfinite=True)
    assert ps[0].grad[0] == 1.0
    assert math.isnan(clip_grad_norm_(ps, 1.0)) and np.isnan(ps[0].grad).all()


def test_without_gradients_the_norm_is_zero():
    assert clip_grad_norm_(parameters(None), 1.0) == 0.0


def test_values_are_cut_on_both_sides_in_place():
    ps = parameters([-3.0, 0.5, 2.0, math.nan], None)
    gradient = ps[0].grad
    clip_grad_value_(ps, 1.5)
    assert ps[0].grad is gradient
    np.testing.assert_array_equal(gradient, [-1.5, 0.5, 1.5, math.nan])


@pytest.mark.parametrize("clip", [clip_grad_norm_, clip_grad_value_])
def test_clipping_refuses(clip):
    with pytest.raises(ValueError, match="got no parameters"):
        clip(iter([]), 1.0)
    with pytest.raises(ValueError, match="must be a finite number of at least 0"):
        clip(parameters([1.0]), -1.0)
    with pytest.raises(TypeError, match="put it into a list"):
        clip(Parameter([1.0]), 1.0)
