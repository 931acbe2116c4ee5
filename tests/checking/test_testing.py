"""minidl.testing: what students import into test files of their own."""
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidl import Function, GradcheckError, Tensor, apply, ops
from minidl.testing import assert_gradients, conv_geometries, image_shapes, images, make_array, pool_geometries


@given(images(values="apart"))
def test_images_without_ties_keep_relu_off_its_kink(x):
    assert x.ndim == 4 and abs(x).min() >= 1 / 14 - 1e-12
    values = np.sort(x.ravel())
    assert (np.diff(values) > 0.1).all()
    assert_gradients(ops.relu, x)


@given(images(values="exact", dtype=np.float32))
def test_exact_images_survive_float32_products(x):
    assert x.dtype == np.float32 and (x * 4 == np.round(x * 4)).all() and abs(x).max() <= 2


@given(image_shapes(max_batch=2, max_channels=3, min_side=2, max_side=5))
def test_image_shapes_stay_in_their_bounds(shape):
    N, C, H, W = shape
    assert 1 <= N <= 2 and 1 <= C <= 3 and 2 <= H <= 5 and 2 <= W <= 5


@given(conv_geometries(), st.integers(0, 1000))
def test_every_drawn_convolution_fits(geometry, seed):
    y = ops.conv2d(make_array(geometry.x_shape, seed), make_array(geometry.w_shape, seed + 1), **geometry.options)
    assert min(y.shape) >= 1


@given(pool_geometries(), st.integers(0, 1000))
def test_every_drawn_pooling_fits(geometry, seed):
    x = make_array(geometry.x_shape, seed, "apart")
    assert np.isfinite(ops.max_pool2d(x, **geometry.options).numpy()).all()


def test_drawn_geometries_are_not_square_only():
    seen = []

    @given(conv_geometries())
    def collect(geometry):
        seen.append(geometry)

    collect()
    assert any(g.x_shape[2] != g.x_shape[3] for g in seen) and any(g.stride[0] != g.stride[1] for g in seen)
    assert any(g.w_shape[2] != g.w_shape[3] for g in seen) and any(g.groups > 1 for g in seen)
    assert any(g.padding[0] != g.padding[1] for g in seen)


def test_unknown_values_are_refused():
    with pytest.raises(ValueError, match="values must be one of"):
        make_array((2,), 0, "gaussian")


def test_assert_gradients_finds_a_wrong_gradient():
    with pytest.raises(GradcheckError, match=r"x0\[0"):
        assert_gradients(lambda x: x * 2.0 + x.detach() * 3.0, np.ones(3))


def test_assert_gradients_finds_a_function_that_leaves_float32():
    class Widens(Function):
        name = "widens"

        def forward(self, x):
            return x * np.full((), 2.0)  # a float64 array: float32 becomes float64

        def backward(self, dy):
            return dy * 2

    with pytest.raises(GradcheckError, match="float32 inputs gave a float64 output"):
        assert_gradients(lambda x: apply(Widens(), x), np.ones(3))


def test_assert_gradients_finds_a_function_that_reads_memory_in_its_own_order():
    class ReadsMemory(Function):
        name = "reads_memory"

        def forward(self, x):
            self.contiguous = x.flags.c_contiguous
            return x * 1.0 if self.contiguous else x * 2.0

        def backward(self, dy):
            return dy if self.contiguous else dy * 2

    for shape in ((2, 3), (3,)):
        with pytest.raises(GradcheckError, match="strided inputs"):
            assert_gradients(lambda x: apply(ReadsMemory(), x), np.ones(shape))


def test_assert_gradients_takes_parameters_and_several_inputs():
    w = Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    assert_gradients(lambda x, s: ops.linear(x, w) * s, np.ones((4, 3)), np.ones((4, 1)), parameters={"w": w})


def test_assert_gradients_works_without_hypothesis_and_the_strategies_say_what_to_install():
    script = ("import sys; sys.modules['hypothesis'] = None\n"
              "import numpy as np; from minidl import ops; from minidl.testing import assert_gradients, images\n"
              "assert_gradients(ops.sigmoid, np.ones(3))\n"
              "try: images()\nexcept ImportError as e: print(e)")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "pip install 'minidl[test]'" in done.stdout
