"""The engines that run CUDA C on the CPU: right kernels come out right, and each kind of wrong one is caught by name."""
import shutil
import subprocess
import sys
from pathlib import Path

import engine
import numpy as np
import pytest

pytestmark = [pytest.mark.ladder, pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ to compile CUDA C")]

PRELUDE = '''
#define FOR_EACH(i, n) for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < (n); \\
                            i += (long long)blockDim.x * gridDim.x)
'''
RELU = PRELUDE + '''#line 1 "relu.cu"
extern "C" __global__ void relu(const float* x, float* y, long long size) {
    FOR_EACH(i, size) y[i] = x[i] > 0 ? x[i] : 0;
}
'''
# One sum per block, by a tree; then with the sum taken twice, and without the one or the other barrier.
TOTAL = PRELUDE + '''#line 1 "total.cu"
__device__ double block_sum(double value, double* shared) {
    shared[threadIdx.x] = value;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
        __syncthreads();
    }
    return shared[0];
}
extern "C" __global__ void total(const float* x, double* y, long long size) {
    extern __shared__ double shared[];
    double sum = 0;
    FOR_EACH(i, size) sum += x[i];
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) y[blockIdx.x] = sum;
}
'''
COUNT = '''#line 1 "count.cu"
extern "C" __global__ void count(int* y) { atomicAdd(&y[0], 1); }
'''
TWICE = TOTAL.replace("sum = block_sum(sum, shared);", """
    sum = block_sum(sum, shared); __syncthreads(); sum += block_sum(sum, shared);""")
BROKEN_TOTALS = [TOTAL.replace("value;\n    __syncthreads();", "value;\n"),
                 TOTAL.replace("half];\n        __syncthreads();", "half];\n")]


def kernel(body, parameters="float* y", name="f"):
    return f'#line 1 "f.cu"\nextern "C" __global__ void {name}({parameters}) {{\n{body}\n}}\n'


def floats(*shape):
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def findings(folder, sanitizer, source, name, grid, block, args, shared_mem=0):
    with engine.recording(folder):
        engine.build(source).launch(name, grid, block, args, shared_mem)
    return engine.replay(folder, sanitizer)


def replace_recorded(folder, source):
    """Another kernel in place of the recorded one: run by the replay alone, it cannot harm this process."""
    recorded, = folder.glob("*/source.cu")
    recorded.write_text(source)


@pytest.fixture(params=engine.SCHEDULES)
def schedule(request):
    with engine.scheduled(request.param):
        yield request.param


# What is right comes out right

@pytest.mark.parametrize("size", [0, 1, 7, 1000])
@pytest.mark.parametrize("grid, block", [(1, 1), (1, 8), (3, 1), (2, 32), (50, 1024)])
def test_a_kernel_gives_numpy_s_result_for_every_grid_and_block(schedule, size, grid, block):
    x, y = floats(size), np.full(size, 9, np.float32)
    engine.build(RELU).launch("relu", (grid,), (block,), (x, y, np.int64(size)))
    np.testing.assert_array_equal(y, np.maximum(x, 0))


@pytest.mark.parametrize("grid, block", [(1, 1), (1, 2), (3, 8), (2, 256), (2, 1024)])
def test_a_sum_over_barriers_and_shared_memory_is_right(schedule, grid, block):
    x, y = floats(5000), np.empty(grid)
    engine.build(TOTAL).launch("total", (grid,), (block,), (x, y, np.int64(x.size)), shared_mem=8 * block)
    np.testing.assert_allclose(y.sum(), x.sum(dtype=float), rtol=1e-12)


def test_indices_of_blocks_and_threads_run_along_x_first(schedule):
    source = kernel("""
        int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
        int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
        y[block * blockDim.x * blockDim.y * blockDim.z + thread] += blockIdx.z + 10 * threadIdx.y + 100 * threadIdx.x;""")
    y = np.zeros((4, 3, 2, 2, 3, 4), np.float32)
    engine.build(source).launch("f", (2, 3, 4), (4, 3, 2), (y,))
    z, _, _, _, ty, tx = np.indices(y.shape)
    np.testing.assert_array_equal(y, z + 10 * ty + 100 * tx)


def turns(name):
    """In which order 3 blocks of 8 threads come to the begin and, after a barrier, to the end: (3 blocks, 2, 8 threads)."""
    source = kernel("""
        order[atomicAdd(&count[0], 1)] = 8 * blockIdx.x + threadIdx.x;
        __syncthreads();
        order[atomicAdd(&count[0], 1)] = 8 * blockIdx.x + threadIdx.x;""", "int* order, int* count")
    order = np.zeros((3, 2, 8), np.int32)
    with engine.scheduled(name):
        engine.build(source).launch("f", (3,), (8,), (order, np.zeros(1, np.int32)))
    return order


def test_schedules_differ_in_the_order_of_blocks_and_of_threads_at_every_barrier():
    blocks, _, threads = np.indices((3, 2, 8))
    np.testing.assert_array_equal(turns("forward"), 8 * blocks + threads)
    np.testing.assert_array_equal(turns("backward"), 23 - turns("forward"))
    orders = [tuple(turn) for name in engine.SCHEDULES for turn in turns(name).reshape(6, 8) % 8]
    assert len(set(orders)) == 1 + 1 + 6 + 6, "forward's, backward's, and a new one every time"
    assert all(sorted(order) == list(range(8)) for order in orders)
    assert any((turns(name)[:, 0, 0] // 8 != [0, 1, 2]).any() for name in engine.SCHEDULES if name.startswith("random"))


def test_arguments_of_every_type_arrive():
    source = kernel("y[0] = a + b + c + d + e + f + p[0];", "double* y, float a, double b, const int c, long long d, bool e,\n"
                    "    unsigned char f, /* (no, bool*) */ const unsigned char* __restrict__ p  // the last\n")
    y = np.zeros(1)
    args = np.float32(.5), np.float64(.25), np.int32(-4), np.int64(2**40), np.bool_(True), np.uint8(200)
    engine.build(source).launch("f", (1,), (1,), (y, *args, np.array([3], np.uint8)))
    assert y[0] == .5 + .25 - 4 + 2**40 + 1 + 200 + 3


def test_signatures_are_read_over_several_lines_and_comments():
    source = '''// extern "C" __global__ void no(int x) {}
        extern "C" __global__ void __launch_bounds__(256)
        two(const float* __restrict__ x, /* float* y */
            long long size) {}
        extern "C" __global__ void none() {}'''
    two = [("float", True, True, "x"), ("long long", False, False, "size")]
    assert engine.build(source).kernels == {"two": two, "none": []}


def test_the_functions_of_cuda_give_their_values():
    source = kernel("""
        y[0] = expf(1); y[1] = logf(2.f); y[2] = powf(2, 0.5f); y[3] = sqrtf(3); y[4] = rsqrtf(4); y[5] = fabsf(-5);
        y[6] = fmaxf(nan, 6); y[7] = max(nan, 7.f); y[8] = min(8, 9); y[9] = __int_as_float(__float_as_int(9));
        y[10] = __ldg(y); y[11] = exp(1.); y[12] = max(11LL, 12LL); y[13] = fminf(nan, 13);""", "float* y, float nan")
    y = np.zeros(14, np.float32)
    engine.build(source).launch("f", (1,), (1,), (y, np.float32("nan")))
    np.testing.assert_allclose(
        y, [np.e, np.log(2), 2**.5, 3**.5, .5, 5, 6, 7, 8, 9, np.e, np.e, 12, 13], rtol=1e-6)


@pytest.mark.parametrize("sanitizer", engine.SANITIZERS)
def test_right_kernels_are_clean_under_the_sanitizers(tmp_path, sanitizer):
    x, y = floats(50), np.empty(2)
    with engine.recording(tmp_path):
        engine.build(TOTAL).launch("total", (2,), (8,), (x, y, np.int64(50)), 64)
        engine.build(RELU).launch("relu", (2,), (8,), (x, x, np.int64(50)))  # in place
        engine.build(RELU).launch("relu", (2,), (8,), (x[:0], x[:0].copy(), np.int64(0)))
        engine.build(RELU).launch("relu", (99,), (1,), (x, np.empty_like(x), np.int64(50)))  # grid larger than the work
        engine.build(COUNT).launch("count", (2,), (8,), (np.zeros(1, np.int32),))
    assert engine.replay(tmp_path, sanitizer) == []


def test_a_kernel_may_be_named_like_a_function_of_the_c_library(tmp_path):
    y = np.zeros(1, np.float32)
    assert findings(tmp_path, "address", kernel("y[0] = 1;", name="write"), "write", (1,), (1,), (y,)) == []
    assert y[0] == 1


# Barriers, races and shared memory

def sums(source, schedule):
    x, y = floats(512), np.empty(2)
    with engine.scheduled(schedule):
        engine.build(source).launch("total", (2,), (64,), (x, y, np.int64(x.size)), 512)
    return abs(y.sum() - x.sum(dtype=float)) < 1e-9


@pytest.mark.parametrize("source", BROKEN_TOTALS)
def test_a_missing_barrier_is_wrong_under_some_schedule_and_a_race_of_threads(tmp_path, source):
    assert all(sums(TOTAL, schedule) for schedule in engine.SCHEDULES)
    assert not all(sums(source, schedule) for schedule in engine.SCHEDULES)
    found = findings(tmp_path, "thread", source, "total", (2,), (8,), (floats(50), np.empty(2), np.int64(50)), 64)
    assert any(f.kernel == "total" and "data race" in f.text and "total.cu:5" in f.text for f in found), found


def test_shared_memory_used_again_without_a_barrier_in_between_is_a_race_of_threads(tmp_path):
    """Between two barriers that all threads meet: found only if the replay's barriers order no more than they must."""
    launch = "total", (2,), (8,), (floats(50), np.empty(2), np.int64(50)), 64
    assert findings(tmp_path / "right", "thread", TWICE, *launch) == []
    found = findings(tmp_path / "broken", "thread", TWICE.replace("; __syncthreads(); sum +=", "; sum +="), *launch)
    assert any("data race" in f.text and "total.cu:" in f.text for f in found), found


@pytest.mark.parametrize("body, words", [
    ("if (threadIdx.x < 3) __syncthreads();", "of 8 threads 3 wait, at f.cu:2, and 5 have finished"),
    ("if (threadIdx.x == 3) return;\n__syncthreads();", "of 8 threads 7 wait, at f.cu:3, and 1 have finished"),
    ("if (threadIdx.x < 3) __syncthreads();\nelse __syncthreads();", "8 wait, at f.cu:"),
    ("for (int i = 0; i <= threadIdx.x / 4; ++i)\n__syncthreads();", "4 wait, at f.cu:3, and 4 have finished"),
])
def test_a_barrier_that_not_every_thread_meets_is_refused(schedule, body, words):
    y = np.zeros(1, np.float32)
    library = engine.build(kernel(body))
    with pytest.raises(engine.LaunchError, match="f: divergent barrier in block") as error:
        library.launch("f", (2,), (8,), (y,))
    assert words in str(error.value)
    assert all(sums(TOTAL, each) for each in engine.SCHEDULES)  # the fibers that were left waiting are as good as new


def test_blocks_that_write_to_one_place_are_a_race(tmp_path):
    source = kernel("y[0] = blockIdx.x;")
    results = set()
    for name in engine.SCHEDULES:
        with engine.scheduled(name):
            y = np.zeros(1, np.float32)
            engine.build(source).launch("f", (4,), (1,), (y,))
            results.add(y[0])
    assert len(results) > 1
    found = findings(tmp_path, "thread", source, "f", (4,), (1,), (y,))
    assert any("data race" in f.text and "f.cu:2" in f.text for f in found), found


def test_an_atomic_add_made_plain_is_a_race_that_fibers_do_not_see(tmp_path):
    plain = COUNT.replace("atomicAdd(&y[0], 1)", "y[0] += 1")
    for source in (COUNT, plain):
        y = np.zeros(1, np.int32)
        engine.build(source).launch("count", (2,), (8,), (y,))
        assert y[0] == 16
    found = findings(tmp_path, "thread", plain, "count", (2,), (8,), (np.zeros(1, np.int32),))
    assert any("data race" in f.text and "count.cu:1" in f.text for f in found), found


@pytest.mark.parametrize("type", ["float", "double"])
def test_shared_memory_is_nan_until_the_block_has_written_it(schedule, type):
    source = kernel(f"extern __shared__ {type} shared[];\ny[blockIdx.x] = shared[7];\nshared[7] = 1;")
    y = np.zeros(3, np.float32)
    engine.build(source).launch("f", (3,), (1,), (y,), shared_mem=64)
    assert np.isnan(y).all()


@pytest.mark.parametrize("index", [4, 5, 100])
def test_shared_memory_written_beyond_its_size_is_refused(tmp_path, index):
    source = kernel(f"extern __shared__ float shared[];\nshared[{index}] = 1;")
    library, y = engine.build(source), np.zeros(1, np.float32)
    with pytest.raises(engine.LaunchError, match="f: wrote beyond its 16 bytes of shared memory"):
        library.launch("f", (2,), (1,), (y,), shared_mem=16)
    library.launch("f", (2,), (1,), (y,), shared_mem=4 * index + 4)


def test_shared_memory_read_beyond_its_size_is_found_under_address(tmp_path):
    source = kernel("extern __shared__ float shared[];\ny[0] = shared[4];")
    found = findings(tmp_path, "address", source, "f", (1,), (1,), (np.zeros(1, np.float32),), 16)
    assert [f.kernel for f in found] == ["f"] and "heap-buffer-overflow f.cu:3" in found[0].text


# Indices

@pytest.mark.parametrize("right, wrong", [
    ("? x[i]", "? x[i > 0 ? i - 1 : 0]"),
    ("i < (n)", "i < (n) - 1"),
    ("i += (long long)blockDim.x * gridDim.x", "i += (long long)blockDim.x * gridDim.x + 1"),
    ("blockIdx.x * (long long)blockDim.x + threadIdx.x", "blockIdx.x + threadIdx.x"),
])
def test_wrong_indices_give_wrong_results(schedule, right, wrong):
    assert right in RELU
    x, y = np.arange(1, 101, dtype=np.float32), np.full(100, -1, np.float32)
    engine.build(RELU.replace(right, wrong)).launch("relu", (2,), (8,), (x, y, np.int64(100)))
    assert (y != x).any()


@pytest.mark.parametrize("body, words", [
    ("y[0] = x[4];", "heap-buffer-overflow f.cu:2"),
    ("y[0] = x[-1];", "heap-buffer-overflow f.cu:2"),
    ("y[4] = x[0];", "heap-buffer-overflow f.cu:2"),
    ("y[0] = none[0];", "heap-buffer-overflow f.cu:2"),
    ("y[0] = size + 2147483647;", "f.cu:2:13: runtime error: signed integer overflow"),
    ("y[0] = 1 / (size - 4);", "f.cu:2:10: runtime error: division by zero"),
    ("y[0] = 1 << (size + 28);", "f.cu:2:10: runtime error: shift exponent 32 is too large"),
    ("int a[4] = {};\ny[0] = a[size];", "f.cu:3:14: runtime error: index 4 out of bounds"),
])
def test_what_is_out_of_bounds_or_undefined_is_found_under_address(tmp_path, body, words):
    parameters = "const float* x, float* y, const unsigned char* none, int size"
    x, y, none = np.ones(4, np.float32), np.ones(4, np.float32), np.ones(0, np.uint8)
    with engine.recording(tmp_path):
        for _ in range(2):  # the first launch ends the program, the second has a finding of the same words
            engine.build(kernel("", parameters)).launch("f", (1,), (1,), (x, y, none, np.int32(4)))
    replace_recorded(tmp_path, kernel(body, parameters))
    found = engine.replay(tmp_path, "address")
    assert len(found) == 1 and found[0].kernel == "f" and words in found[0].text, found


# Replay itself

def test_in_place_arguments_stay_one_array_in_the_replay(tmp_path):
    source = kernel("x[threadIdx.x] = 1;\ny[threadIdx.x] += x[threadIdx.x];", "float* x, float* y")
    x = np.zeros(8, np.float32)
    assert findings(tmp_path, "thread", source, "f", (1,), (8,), (x, x)) == []
    assert (x == 2).all()


def test_a_result_that_differs_from_the_fibers_is_found(tmp_path):
    assert findings(tmp_path, "thread", kernel("y[threadIdx.x] += 1;"), "f", (1,), (8,), (np.zeros(8, np.float32),)) == []
    replace_recorded(tmp_path, kernel("y[threadIdx.x] += 1.0000001f;"))
    assert engine.replay(tmp_path, "thread") == [("f", "result differs from the fibers'")]


def test_unwritten_shared_memory_is_the_fibers_nan(tmp_path):
    source = kernel("extern __shared__ float shared[];\ny[blockIdx.x] = shared[blockIdx.x];")
    assert findings(tmp_path, "address", source, "f", (2,), (1,), (np.zeros(2, np.float32),), 8) == []


def test_nan_is_the_fibers_nan_whatever_its_bits(tmp_path):
    source = kernel("y[threadIdx.x] = 0 / (y[threadIdx.x] * 0);")
    assert findings(tmp_path, "thread", source, "f", (1,), (8,), (np.zeros(8, np.float32),)) == []


@pytest.mark.parametrize("sanitizer", engine.SANITIZERS)
def test_a_launch_that_hangs_is_found_and_the_next_one_is_still_run(tmp_path, sanitizer):
    with engine.recording(tmp_path):
        for start in (0, 1):
            engine.build(kernel("y[threadIdx.x] += 1;")).launch("f", (1,), (8,), (np.full(8, start, np.float32),))
    replace_recorded(tmp_path, kernel("if (y[threadIdx.x] == 0 && threadIdx.x > 0) __syncthreads();\ny[threadIdx.x] += 2;"))
    found = engine.replay(tmp_path, sanitizer, seconds=1)
    assert found == [("f", "hangs: still running after 1 seconds"), ("f", "result differs from the fibers'")]


def test_a_launch_that_ends_the_program_without_a_report_is_found(tmp_path):
    with engine.recording(tmp_path):
        engine.build(kernel("")).launch("f", (1,), (1,), (np.zeros(1, np.float32),))
    replace_recorded(tmp_path, kernel("__builtin_trap();"))
    found = engine.replay(tmp_path, "thread")
    assert len(found) == 1 and found[0].kernel == "f" and "ended with exit code -" in found[0].text, found


def test_an_empty_recording_is_no_clean_one(tmp_path):
    with engine.recording(tmp_path):
        pass
    with pytest.raises(ValueError, match="no launch was recorded"):
        engine.replay(tmp_path, "thread")


def test_a_launch_of_many_threads_is_not_recorded(tmp_path):
    y = np.zeros(1, np.float32)
    with engine.recording(tmp_path), pytest.raises(ValueError, match="f: a launch of 520 threads cannot be recorded"):
        engine.build(kernel("")).launch("f", (65,), (8,), (y,))


@pytest.mark.parametrize("part", [slice(3, None), slice(0, 5)])
def test_arrays_that_overlap_by_a_part_are_not_recorded(tmp_path, part):
    x = np.zeros(8, np.float32)
    with engine.recording(tmp_path), pytest.raises(ValueError, match="f: two arrays overlap"):
        engine.build(kernel("", "float* x, float* y")).launch("f", (1,), (8,), (x[:6], x[part]))


# What is refused

X, Y, N = np.zeros(8, np.float32), np.zeros(8, np.float32), np.int64(8)
READ_ONLY = np.broadcast_to(np.float32(0), (1,))


@pytest.mark.parametrize("args, words", [
    ((X, Y), "relu has 3 parameters (x, y, size), got 2"),
    ((X, Y, N, N), "got 4"),
    ((X.astype(float), Y, N), "relu: x is a NumPy array of float32, not ndarray of float64"),
    ((X, Y.astype(np.int32), N), "y is a NumPy array of float32, not ndarray of int32"),
    ((X, Y, 8), "size is a NumPy scalar of int64, not int 8"),
    ((X, Y, np.int32(8)), "size is a NumPy scalar of int64, not int32 of int32"),
    ((X, Y, np.array(8)), "size is a NumPy scalar of int64, not ndarray of int64"),
    ((X, np.float32(1), N), "y is a NumPy array of float32, not float32 of float32"),
    ((X, None, N), "y is a NumPy array of float32, not NoneType None"),
    ((X[::2], Y, N), "x is not contiguous (strides (8,))"),
    ((X, Y.reshape(2, 4).T, N), "y is not contiguous"),
    ((np.zeros(33, np.uint8)[1:].view(np.float32), Y, N), "x is not contiguous"),
    ((X, READ_ONLY, N), "y is read-only"),
])
def test_arguments_that_a_gpu_would_read_wrongly_are_refused(args, words):
    with pytest.raises(engine.LaunchError) as error:
        engine.build(RELU).launch("relu", (1,), (8,), args)
    assert words in str(error.value)


@pytest.mark.parametrize("grid, block, shared_mem, words", [
    ((0,), (8,), 0, "a grid has 1 to 2**31 - 1 blocks along x"),
    ((1,), (0,), 0, "a block has 1 to 1024 threads"),
    ((1,), (1025,), 0, "not (1025, 1, 1)"),
    ((1,), (32, 33), 0, "a block has 1 to 1024 threads"),
    ((1,), (1, 1, 65), 0, "at most 64 of them along z"),
    ((2**31,), (1,), 0, "a grid has"),
    ((1, 65536), (1,), 0, "a grid has"),
    ((1, 1, 65536), (1,), 0, "a grid has"),
    ((-1,), (1,), 0, "a grid has"),
    (1, (1,), 0, "grid is a tuple of one to three integers, not 1"),
    ((1,), (8.,), 0, "block is a tuple of one to three integers, not (8.0,)"),
    ((1, 1, 1, 1), (1,), 0, "grid is a tuple"),
    ((1,), (1,), 48 * 1024 + 1, "at most 49152 bytes of shared memory"),
    ((1,), (1,), -1, "bytes of shared memory, not -1"),
])
def test_sizes_that_a_gpu_refuses_are_refused(grid, block, shared_mem, words):
    with pytest.raises(engine.LaunchError) as error:
        engine.build(RELU).launch("relu", grid, block, (X, Y, N), shared_mem)
    assert words in str(error.value)


def test_a_kernel_that_is_not_there_is_refused():
    with pytest.raises(engine.LaunchError, match="there is no kernel 'tanh'; there are relu"):
        engine.build(RELU).launch("tanh", (1,), (1,), ())


def test_a_schedule_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="no schedule 'sideways'; there are forward"), engine.scheduled("sideways"):
        pass


@pytest.mark.parametrize("body, word", [
    ("y[0] = INFINITY;", "INFINITY"),
    ("y[0] = NAN;", "NAN"),
    ("y[0] = FLT_MAX;", "FLT_MAX"),
    ("y[0] = M_PI;", "M_PI"),
    ("int32_t i = 0;", "int32_t"),
    ("std::max(1, 2);", "std"),
    ("printf(\"\");", "printf"),
    ("assert(true);", "assert"),
    ("memcpy(y, y, 0);", "memcpy"),
    ("y[0] = __shfl_down_sync(0xffffffff, y[0], 1);", "__shfl_down_sync"),
    ("__syncwarp();", "__syncwarp"),
    ("y[0] = max(1, 2LL);", "ambiguous"),
    ("long long n = 1;\ny[0] = min(threadIdx.x, n);", "ambiguous"),
    ("#include <cmath>", "NVRTC has no headers"),
    ("  # include \"cuda.cuh\"", "NVRTC has no headers"),
    ("__shared__ float shared[4];", "use dynamic shared memory"),
    ("}\nextern __shared__ float shared[];\nvoid g() {", "shared"),
    ("y[0] = undefined;", "undefined"),
])
def test_what_nvrtc_does_not_know_is_an_error_at_its_line(body, word):
    with pytest.raises(engine.CompileError, match=r"f\.cu:[23]:.*error") as error:
        engine.build(kernel(body))
    assert word in str(error.value)


@pytest.mark.parametrize("source, words", [
    ("__global__ void f(float* y) {}", "a kernel is not written as"),
    (kernel("", "short* y"), "f: the parameter 'short* y' is none of float, double"),
    (kernel("", "float** y"), "none of"),
    (kernel("", "float"), "none of"),
])
def test_kernels_that_cannot_be_launched_are_refused(source, words):
    with pytest.raises(engine.CompileError) as error:
        engine.build(source)
    assert words in str(error.value)


# Building

def test_without_a_compiler_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "cache_folder", lambda: tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(engine.NoCompiler, match=r"needs g\+\+"):
        engine.Library(RELU)


def test_a_cache_folder_that_cannot_be_written_is_replaced(tmp_path, monkeypatch):
    (tmp_path / ".pytest_cache").write_text("a file where the folder would be")
    monkeypatch.setattr(engine, "HERE", tmp_path / "tests" / "cuda_on_cpu")
    folder = engine.cache_folder.__wrapped__()
    assert folder.is_dir() and tmp_path not in folder.parents


def test_several_processes_may_build_the_same_source_at_once(tmp_path):
    program = ("import sys, pathlib, numpy, engine\n"
               "engine.cache_folder = lambda: pathlib.Path(sys.argv[1])\n"
               f"engine.build({COUNT!r}).launch('count', (1,), (1,), (numpy.zeros(1, numpy.int32),))")
    command = [sys.executable, "-c", program, str(tmp_path)]
    runs = [subprocess.Popen(command, cwd=Path(engine.__file__).parent, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [(run.communicate()[1], run.returncode) for run in runs] == [("", 0)] * 3
    assert len(list(tmp_path.iterdir())) == 2, "the fibers and the kernel, and nothing that was not tidied up"
