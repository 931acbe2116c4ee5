"""A real GPU against the CPU: the table of `minidl info --test-gpu`, and what only a GPU can show. `pytest -m gpu`"""
import os

import numpy as np
import pytest

import minidl
from minidl import ops
from minidl.backend import NoCudaError, working_cupy
from minidl.parity import rows

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", autouse=True)
def cupy():
    """CuPy with a GPU that works. Without one the tests are skipped, or fail where MINIDL_REQUIRE_GPU=1."""
    try:
        return working_cupy()
    except NoCudaError as error:
        if os.environ.get("MINIDL_REQUIRE_GPU") == "1":
            pytest.fail(f"MINIDL_REQUIRE_GPU=1, but {error}")
        pytest.skip(f"needs a GPU: {error}")


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: f"{row.kind} {row.name}")
def test_the_gpu_computes_what_the_cpu_computes(row):
    share = row.check()
    assert share <= 1, f"{row.name}: the largest error is {share:.2g} times what is allowed"


def test_gradients_are_checked_on_the_gpu():
    x = minidl.Tensor(np.random.default_rng(0).standard_normal((2, 3, 6, 5))).to("cuda")
    w = minidl.Tensor(np.random.default_rng(1).standard_normal((4, 3, 3, 3))).to("cuda")
    minidl.gradcheck(lambda x, w: ops.max_pool2d(ops.lrn(ops.conv2d(x, w), alpha=0.5), 2), [x, w])


def test_the_same_bits_come_out_on_every_run():
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((64, 1, 28, 28)).astype(np.float32), rng.integers(0, 10, 64)
    results = []
    for _ in range(3):
        minidl.manual_seed(0)
        results.append(minidl.parity.one_step(minidl.models.mini_vgg(), images, labels, "cuda"))
    for other in results[1:]:
        assert all(np.array_equal(other[key], results[0][key]) for key in other)


def test_memory_goes_back_when_arrays_are_gone(cupy):
    minidl.free_gpu_memory()
    before = minidl.gpu_memory()
    x = minidl.Tensor(np.zeros(2**24, np.float32)).to("cuda")
    during = minidl.gpu_memory()
    assert during.used_by_arrays - before.used_by_arrays >= 2**26
    del x
    minidl.free_gpu_memory()
    assert minidl.gpu_memory().kept_by_pool <= before.kept_by_pool


def test_a_wrong_launch_is_refused_on_the_gpu_too(cupy):
    from minidl.ops.relu import KERNELS
    x = cupy.zeros(4, np.float32)
    for wrong, words in (((x, np.zeros(4, np.float32), 4), "CuPy array"), ((x, x.astype(np.float64), 4), "float32"),
                         ((x, cupy.zeros(8, np.float32)[::2], 4), "contiguous"), ((x, x, 4.0), "swapped")):
        with pytest.raises((TypeError, ValueError), match=words):
            KERNELS.launch("relu", 4, *wrong)
