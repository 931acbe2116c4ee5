"""No launch reaches the GPU that would read garbage: count, dtype, memory, device and sizes are checked before."""
import re

import numpy as np
import pytest
import standin

from minidl import cuda
from minidl.cuda import Kernels, Parameter, read_parameters

pytestmark = pytest.mark.ladder

SOURCE = """
// extern "C" __global__ void not_this(int a) { }
/* extern "C" __global__ void nor_this(int a) { } */
extern "C" __global__ void scaled(const float* x, float* y, long long size, float factor, bool twice, int shift,
                                  const long long* __restrict__ labels) {
    FOR_EACH(i, size) y[i] = x[i] * factor * (twice ? 2 : 1) + shift + labels[i];
}
extern "C" __global__ void block_size(double* threads, long long rows) {
    FOR_EACH_ROW(r, rows) if (threadIdx.x == 0) threads[r] = blockDim.x;
}
"""


@pytest.fixture
def kernels(tmp_path, cupy):
    (tmp_path / "room.cu").write_text(SOURCE)
    return Kernels(str(tmp_path / "room.py"))


def test_parameters_are_read_from_the_source_and_comments_are_not():
    f, i, n, b = (np.dtype(t) for t in (np.float32, np.int32, np.int64, np.bool_))
    assert read_parameters(SOURCE)["scaled"] == [
        Parameter("x", f, True), Parameter("y", f, True), Parameter("size", n, False), Parameter("factor", f, False),
        Parameter("twice", b, False), Parameter("shift", i, False), Parameter("labels", n, True)]
    assert list(read_parameters(SOURCE)) == ["scaled", "block_size"]


@pytest.mark.parametrize("declared", ["unsigned x", "float** x", "float3 x", "const size_t n", "float", "half* x"])
def test_a_parameter_that_nobody_can_check_is_refused(declared):
    with pytest.raises(ValueError, match=re.escape(repr(declared))):
        read_parameters(f'extern "C" __global__ void f({declared}) {{ }}')


def arguments(cupy, n=5):
    return [cupy.asarray(np.arange(n, dtype=np.float32)), cupy.empty(n, np.float32), n, 0.5, True, 3,
            cupy.asarray(np.arange(n))]


def test_a_kernel_runs_with_numbers_of_exactly_its_types(kernels, cupy):
    args = arguments(cupy)
    kernels.launch("scaled", 5, *args)
    assert args[1].get().tolist() == [3, 5, 7, 9, 11]
    values = kernels.checked("scaled", tuple(args))
    assert [type(value) for value in values[2:6]] == [np.int64, np.float32, np.bool_, np.int32]
    args[2:6] = [np.int32(5), np.float64(0.5), np.bool_(True), np.int64(3)]  # NumPy's numbers are numbers
    assert [type(value) for value in kernels.checked("scaled", tuple(args))[2:6]] == [np.int64, np.float32, np.bool_, np.int32]


def with_argument(index, make):
    def spoil(args, cupy):
        args[index] = make(args[index], cupy)
        return args
    return spoil


WRONG = {
    "one too few": (lambda args, cupy: args[:-1], TypeError,
                    "takes 7 arguments (x, y, size, factor, twice, shift, labels), got 6"),
    "one too many": (lambda args, cupy: [*args, 1], TypeError, "got 8"),
    "a host array": (with_argument(0, lambda x, cupy: x.get()), TypeError, "x must be a CuPy array, got ndarray"),
    "a list": (with_argument(0, lambda x, cupy: [1.0]), TypeError, "x must be a CuPy array, got list"),
    "a float64 array": (with_argument(0, lambda x, cupy: x.astype(np.float64)), TypeError, "x must be float32, got float64"),
    "int32 labels": (with_argument(6, lambda x, cupy: x.astype(np.int32)), TypeError, "labels must be int64, got int32"),
    "every second element": (with_argument(0, lambda x, cupy: cupy.zeros(10, np.float32)[::2]), ValueError,
                             "x must be contiguous"),
    "columns first": (with_argument(1, lambda x, cupy: cupy.zeros((2, 3), np.float32).T), ValueError, "y must be contiguous"),
    "an array for a number": (with_argument(3, lambda x, cupy: cupy.zeros((), np.float32)), TypeError,
                              "are two arguments swapped?"),
    "a number for an array": (with_argument(1, lambda x, cupy: 1.0), TypeError, "y must be a CuPy array, got float"),
    "an int for a float": (with_argument(3, lambda x, cupy: 1), TypeError, "factor is a float32 parameter, got 1 (int)"),
    "a float for an int": (with_argument(2, lambda x, cupy: 5.0), TypeError, "size is a int64 parameter, got 5.0 (float)"),
    "a bool for an int": (with_argument(5, lambda x, cupy: True), TypeError, "shift is a int32 parameter, got True"),
    "an int for a bool": (with_argument(4, lambda x, cupy: 1), TypeError, "twice is a bool parameter, got 1"),
    "no number": (with_argument(5, lambda x, cupy: None), TypeError, "got None"),
    "an int of 33 bits": (with_argument(5, lambda x, cupy: 2**31), ValueError, "shift = 2147483648 does not fit into int32"),
    "a negative one of 33 bits": (with_argument(5, lambda x, cupy: -(2**31) - 1), ValueError, "does not fit into int32"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_would_be_read_as_garbage_is_refused_before_anything_runs(case, kernels, cupy):
    spoil, error, words = WRONG[case]
    args = arguments(cupy)
    output = args[1]
    with pytest.raises(error, match=re.escape(words)):
        kernels.launch("scaled", 5, *spoil(args, cupy))
    assert np.isnan(output.get()).all(), "the kernel ran"


def test_an_array_of_another_gpu_is_refused(kernels, cupy, monkeypatch):
    args = arguments(cupy)
    monkeypatch.setattr(cupy.cuda, "Device", lambda *number: type("Device", (), {"id": 1})())
    with pytest.raises(ValueError, match="x lives on GPU 0, but GPU 1 is in use"):
        kernels.launch("scaled", 5, *args)


def test_a_kernel_that_the_file_has_not_is_refused(kernels):
    with pytest.raises(ValueError, match=r"room.cu has no kernel 'scale': it has scaled, block_size"):
        kernels.launch("scale", 1)


def test_nothing_to_do_is_no_launch_but_is_checked(kernels, cupy):
    args = arguments(cupy, n=0)
    kernels.launch("scaled", 0, *args)
    with pytest.raises(TypeError, match="got 6"):
        kernels.launch("scaled", 0, *args[:-1])


@pytest.mark.parametrize("length, threads", [(1, 1), (2, 2), (3, 4), (8, 8), (9, 16), (255, 256), (256, 256), (100_000, 256)])
def test_a_block_has_as_many_threads_as_its_row_rounded_up_to_a_power_of_two(length, threads, kernels, cupy):
    sizes = cupy.zeros(3, np.float64)
    kernels.launch_rows("block_size", 3, length, sizes, 3)
    assert sizes.get().tolist() == [threads] * 3


def test_more_rows_than_blocks_are_done_in_turn(kernels, cupy, monkeypatch):
    monkeypatch.setattr(cuda, "MOST_BLOCKS", 2)
    sizes = cupy.zeros(5, np.float64)
    kernels.launch_rows("block_size", 5, 4, sizes, 5)
    assert sizes.get().tolist() == [4] * 5


def test_nothing_is_compiled_before_the_first_launch_and_then_once(kernels, cupy, monkeypatch):
    compiled = []
    make = cupy.RawModule
    monkeypatch.setattr(cupy, "RawModule", lambda **options: compiled.append(options) or make(**options))
    args = arguments(cupy)
    kernels.checked("scaled", tuple(args))
    assert not compiled
    for _ in range(3):
        kernels.launch("scaled", 5, *args)
    assert len(compiled) == 1 and compiled[0]["options"] == ("-std=c++17",)
    assert '#line 1 "cuda.cuh"' in compiled[0]["code"] and '#line 1 "room.cu"' in compiled[0]["code"]


def test_another_cupy_gets_kernels_of_its_own(kernels, cupy):
    kernels.launch("scaled", 5, *arguments(cupy))
    standin.uninstall()
    other = standin.install()
    kernels.launch("scaled", 5, *arguments(other))
    assert kernels._compiled[0] is other


def test_an_array_without_gaps_is_not_copied():
    x = np.zeros((3, 4))
    assert cuda.contiguous(x) is x
    assert cuda.contiguous(x.T).flags.c_contiguous and cuda.contiguous(x.T) is not x
