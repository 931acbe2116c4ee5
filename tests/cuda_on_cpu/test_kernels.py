"""Every CUDA kernel, from the same source and by the same launch code as on a GPU, executed on the CPU.

Block by block against the loops that define each operation, in several orders of blocks and threads; then on real threads, all
at once, under sanitizers that see races, reads out of bounds and undefined arithmetic.
"""
from contextlib import ExitStack, contextmanager

import engine
import numpy as np
import pytest
from nvrtc import all_kernels
from operation_checks import (
    backward,
    check_cuda_kernels_against_the_plain_ones,
    differences,
    relative_error,
    run,
    samples,
)

from minidl import cuda, parity
from minidl.backend import to_device
from minidl.function import plain_kernels
from minidl.ops import OPS, Conv2d

pytestmark = [pytest.mark.ladder, pytest.mark.usefixtures("cupy")]

ON_CUDA = [op for op in OPS if op.forward_cuda is not None]
FLOAT32 = 3e-5  # sums of some hundred float32 numbers, each rounded to 6e-8, and expf and powf, which are off by a few of those
EXACT_GRADIENT = 1e-7  # of central differences in float64


@contextmanager
def small_launches(threads=8, blocks=3):
    """Few threads in few blocks, so that each does the work of several: the small samples then cross every border. And an image
    at a time where convolution takes some together."""
    before = cuda.THREADS, cuda.MOST_BLOCKS, Conv2d.most_columns
    cuda.THREADS, cuda.MOST_BLOCKS, Conv2d.most_columns = threads, blocks, 1
    try:
        yield
    finally:
        cuda.THREADS, cuda.MOST_BLOCKS, Conv2d.most_columns = before


@contextmanager
def launches_seen(names):
    """Adds the name of every kernel that is launched to `names`."""
    launch = engine.Library.launch

    def seen(library, name, *args, **options):
        names.add(name)
        return launch(library, name, *args, **options)

    engine.Library.launch = seen
    try:
        yield
    finally:
        engine.Library.launch = launch


def on_cuda(op, inputs, options, dy):
    """Output and gradients in float32 on the device, as NumPy arrays."""
    cast = tuple(to_device(x.astype(np.float32) if x.dtype.kind == "f" else x, "cuda") for x in inputs)
    y, tensors = run(op, cast, options)
    y.backward(to_device(dy.astype(np.float32), "cuda"))
    return [y.numpy(), *(None if x.grad is None else x.grad.get() for x in tensors)]


def in_float32(inputs):
    """The same numbers in float64, as a float32 kernel gets them."""
    return tuple(x.astype(np.float32).astype(np.float64) if x.dtype.kind == "f" else x for x in inputs)


def from_the_loops(op, inputs, options, dy):
    """Output by the loops, gradients by central differences of the loops; of larger samples by the plain form on the CPU, which
    other tests compare with its differences."""
    loops = lambda *arrays: np.asarray(op.naive(*arrays, **options))
    y = loops(*inputs)
    if sum(x.size for x in inputs) * y.size <= 2e4:
        gradients = differences(loops, inputs, dy)
    else:
        with plain_kernels():
            gradients = backward(op, inputs, options, dy)
    return [y, *gradients]


@pytest.mark.parametrize("op", ON_CUDA, ids=lambda op: op.name)
def test_a_kernel_computes_what_its_loops_compute_in_every_order_of_blocks_and_threads(op):
    for label, given, options in samples(op, seed=3):
        inputs = in_float32(given)
        dy = np.asarray(np.random.default_rng(4).standard_normal(np.shape(op.naive(*inputs, **options)))).astype(np.float32)
        want = from_the_loops(op, inputs, options, dy.astype(np.float64))
        for schedule in engine.SCHEDULES:
            for threads, blocks in ((8, 3), (cuda.THREADS, cuda.MOST_BLOCKS)):
                with engine.scheduled(schedule), small_launches(threads, blocks):
                    got = on_cuda(op, inputs, options, dy)
                for k, (g, w) in enumerate(zip(got, want, strict=True)):
                    what = f"{label}, {schedule}, {threads} threads, {blocks} blocks: {op.input_name(k - 1) if k else 'output'}"
                    assert (g is None) == (w is None), what
                    if g is not None:
                        assert g.dtype == np.float32, what
                        error = relative_error(g, w)
                        assert error <= FLOAT32 + EXACT_GRADIENT, f"{what} is off the loops by {error:.2e}"


@pytest.mark.parametrize("op", ON_CUDA, ids=lambda op: op.name)
def test_a_kernel_agrees_with_the_plain_form_however_its_inputs_lie_and_refuses_the_same(op):
    check_cuda_kernels_against_the_plain_ones(op)


@pytest.mark.parametrize("most, images", [(1, 1), (59, 1), (60, 1), (120, 2), (179, 2), (2**26, 5)])
def test_convolution_makes_no_more_columns_at_once_than_it_may_but_one_images(most, images, monkeypatch):
    conv = Conv2d(padding=(1, 0))
    monkeypatch.setattr(Conv2d, "most_columns", most)
    monkeypatch.setattr(conv, "x_shape", (5, 2, 3, 4), raising=False)
    monkeypatch.setattr(conv, "w_shape", (7, 1, 1, 3), raising=False)  # 2 groups: columns have 2 * 1 * 3 numbers
    monkeypatch.setattr(conv, "output", (5, 2), raising=False)
    slices = conv.batches()
    assert [len(range(5)[s]) for s in slices] == [min(images, 5 - i) for i in range(0, 5, images)]


NO_SLOPES = {
    "ties": np.zeros((1, 1, 4, 5)), "-infinity": np.full((1, 1, 4, 5), -np.inf),
    "NaN": np.array([[[[1, np.nan, 2, np.nan], [3, np.nan, 4, 5], [np.nan, 0, 0, 1]]]])}


@pytest.mark.parametrize("x", NO_SLOPES.values(), ids=NO_SLOPES)
def test_where_no_slope_can_be_measured_max_pooling_does_what_the_plain_form_does(x):
    (op,) = [op for op in ON_CUDA if op.name == "max_pool2d"]
    options = dict(kernel_size=2, stride=1)
    dy = np.random.default_rng(0).standard_normal((1, 1, x.shape[2] - 1, x.shape[3] - 1)).astype(np.float32)
    with plain_kernels():
        y, (t,) = run(op, (x,), options)
        y.backward(dy.astype(np.float64))
    for schedule in engine.SCHEDULES:
        with engine.scheduled(schedule), small_launches():
            got, dx = on_cuda(op, (x,), options, dy)
        np.testing.assert_array_equal(got, y.numpy())
        np.testing.assert_allclose(dx, t.grad, atol=1e-6)


def test_relu_keeps_nan():
    (op,) = [op for op in ON_CUDA if op.name == "relu"]
    y, _ = on_cuda(op, (np.array([np.nan, -np.inf, -0.0, 2.0]),), {}, np.ones(4))
    np.testing.assert_array_equal(y, [np.nan, 0, 0, 2])
    assert not np.signbit(y[2])


@pytest.mark.parametrize("wrong", [3, -1])
def test_a_label_that_is_no_class_makes_the_loss_and_its_own_gradient_nan(wrong):
    (op,) = [op for op in ON_CUDA if op.name == "cross_entropy"]
    with small_launches():
        loss, dlogits, _ = on_cuda(op, (np.zeros((3, 3)), np.array([0, wrong, 1])), {}, np.array(1.0))
    assert np.isnan(loss) and np.isnan(dlogits[1]).all() and np.isfinite(dlogits[[0, 2]]).all()


@pytest.mark.parametrize("row", [row for row in parity.rows() if row.kind != "training"],
                         ids=lambda row: f"{row.kind} {row.name}")
def test_the_table_that_a_gpu_is_tested_with_holds(row):
    assert row.check() <= 1


@pytest.mark.parametrize("schedule", engine.SCHEDULES)
def test_optimizers_take_the_same_steps_in_every_order(schedule):
    with engine.scheduled(schedule), small_launches():
        for row in parity.rows():
            if row.kind == "optimizer":
                assert row.check() <= 1, row.name


def everything_small(seen=None):
    """Forward and backward of every operation's samples, and the steps of every optimizer, in small launches."""
    with ExitStack() as stack:
        stack.enter_context(small_launches(threads=4, blocks=2))
        if seen is not None:
            stack.enter_context(launches_seen(seen))
        for op in ON_CUDA:
            for _, inputs, options in samples(op, seed=5):
                shape = np.shape(op.naive(*inputs, **options))
                on_cuda(op, inputs, options, np.asarray(np.random.default_rng(6).standard_normal(shape)))
        for make in parity.OPTIMIZERS.values():
            parity.after_steps(make, np.linspace(-1, 1, 19, dtype=np.float32), "cuda")


def test_every_kernel_is_among_those_that_the_tests_launch():
    seen = set()
    everything_small(seen)
    assert seen == {name for kernels in all_kernels().values() for name in kernels.parameters}


@pytest.mark.parametrize("sanitizer", ["thread", "address"])
def test_no_sanitizer_finds_anything_when_all_threads_run_at_once(sanitizer, tmp_path):
    with engine.recording(tmp_path):
        everything_small()
    findings = engine.replay(tmp_path, sanitizer)
    assert not findings, "\n".join(f"{finding.kernel}: {finding.text}" for finding in findings)


def test_the_same_bits_come_out_in_every_order_of_blocks():
    """No sum depends on who comes first: what a GPU computes is the same on every run."""
    for op in ON_CUDA:
        for label, inputs, options in samples(op, seed=7):
            dy = np.asarray(np.random.default_rng(8).standard_normal(np.shape(op.naive(*inputs, **options))))
            results = []
            for schedule in engine.SCHEDULES:
                with engine.scheduled(schedule), small_launches():
                    results.append(on_cuda(op, inputs, options, dy))
            for other in results[1:]:
                for g, w in zip(other, results[0], strict=True):
                    assert g is None or np.array_equal(g, w, equal_nan=True), label
