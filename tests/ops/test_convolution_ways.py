"""Every way to convolve against the plain form, whole and cut into small pieces; accuracy; who chooses what."""
import threading

import numpy as np
import pytest
from operation_checks import relative_error

import minidl
from minidl import ops, threads
from minidl.function import plain_kernels
from minidl.ops import Conv2d, conv2d_cpu

pytestmark = pytest.mark.cpu("these are the CPU's ways")

# N, C, F, H, W, KH, KW, stride, padding
SIZES = [
    (2, 3, 4, 7, 9, 3, 3, (1, 1), (1, 1)), (3, 4, 5, 12, 8, 3, 3, (1, 1), (0, 2)), (1, 3, 4, 17, 13, 3, 3, (1, 1), (1, 0)),
    (5, 9, 3, 8, 8, 1, 1, (1, 1), (0, 0)), (4, 3, 2, 9, 8, 1, 1, (2, 2), (0, 0)), (3, 2, 2, 4, 4, 1, 1, (1, 1), (1, 1)),
    (2, 8, 4, 11, 10, 5, 5, (1, 1), (2, 2)), (2, 3, 4, 23, 19, 7, 7, (2, 2), (3, 3)), (2, 3, 4, 23, 19, 3, 2, (2, 1), (1, 0)),
    (7, 8, 4, 6, 5, 3, 3, (1, 1), (2, 2)), (2, 3, 4, 5, 4, 3, 4, (3, 1), (2, 1)), (2, 9, 2, 5, 6, 1, 3, (1, 1), (0, 1)),
    (2, 9, 2, 5, 6, 3, 1, (1, 1), (1, 0)), (1, 8, 3, 1, 1, 3, 3, (1, 1), (1, 1)), (1, 8, 3, 2, 2, 3, 3, (1, 1), (2, 2)),
    (2, 8, 3, 4, 5, 3, 3, (1, 1), (4, 3)), (1, 2, 1, 7, 4, 1, 2, (3, 3), (0, 0)), (3, 8, 8, 16, 12, 3, 3, (1, 1), (1, 1)),
]


def shape_of(size):
    N, C, F, H, W, KH, KW, (SH, SW), (PH, PW) = size
    return conv2d_cpu.Shape(N, C, H, W, F, KH, KW, (H + 2 * PH - KH) // SH + 1, (W + 2 * PW - KW) // SW + 1, (SH, SW), (PH, PW))


def ways(s, dtype):
    """All that compute this convolution, also where `best_way` would not choose them."""
    found = ["windows"]
    if s.stride == (1, 1):
        found.append("pointwise" if (s.KH, s.KW, *s.padding) == (1, 1, 0, 0) else "rows")
    if conv2d_cpu.winograd_fits(s, np.dtype(dtype)):
        found.append("winograd")
    return found


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("pieces", ["whole", "small"])
def test_every_way_gives_what_the_definition_gives(size, pieces, request):
    if pieces == "small":
        request.getfixturevalue("threads_share")
    N, C, F, H, W, KH, KW, stride, padding = size
    rng, s = np.random.default_rng(0), shape_of(size)
    x, w, b = rng.standard_normal((N, C, H, W)), rng.standard_normal((F, C, KH, KW)), rng.standard_normal(F)
    plain = Conv2d(stride, padding)
    y = plain.forward(x, w, b)
    dy = rng.standard_normal(y.shape)
    dx, dw, _ = plain.backward(dy)
    for dtype, tolerance in ((np.float64, 1e-13), (np.float32, 1e-5)):
        for way in ways(s, dtype):
            got, got_dx = np.full(y.shape, np.nan, dtype), np.full(x.shape, np.nan, dtype)
            x1, w1, b1, dy1 = (a.astype(dtype) for a in (x, w, b, dy))
            conv2d_cpu.convolve(x1, w1, b1, got, s, way)
            conv2d_cpu.gradient_of_x(dy1, w1, got_dx, s, way)
            threads.scratch(dtype, (s.F, s.C, 36), purpose="kernel")[0][...] = np.nan  # what was there must not matter
            got_dw = conv2d_cpu.gradient_of_w(x1, dy1, s, way)
            for name, g, want in (("y", got, y), ("dx", got_dx, dx), ("dw", got_dw, dw)):
                error = relative_error(g, want)
                assert error <= tolerance, f"{way}, {dtype.__name__}: {name} is off by {error:.2e}"


@pytest.mark.parametrize("size", [(2, 64, 64, 28, 28), (1, 256, 128, 14, 14), (4, 128, 256, 9, 7), (1, 512, 512, 6, 8)],
                         ids=str)
def test_every_way_errs_by_at_most_3e_5_of_the_largest(size):
    """Each way, forward and both gradients, against float64, with weights as networks have them."""
    N, C, F, H, W = size
    rng, s = np.random.default_rng(1), shape_of((N, C, F, H, W, 3, 3, (1, 1), (1, 1)))
    x = np.maximum(rng.standard_normal((N, C, H, W)), 0)
    w, dy = rng.standard_normal((F, C, 3, 3)) * (2 / (9 * C)) ** 0.5, rng.standard_normal((N, F, H, W))
    exact = Conv2d(1, 1)
    want = [exact.forward(x, w), *exact.backward(dy)]
    x, w, dy = (a.astype(np.float32) for a in (x, w, dy))
    for way in ways(s, np.float32):
        y, dx = np.empty(want[0].shape, np.float32), np.empty(x.shape, np.float32)
        conv2d_cpu.convolve(x, w, None, y, s, way)
        conv2d_cpu.gradient_of_x(dy, w, dx, s, way)
        errors = [relative_error(g, v) for g, v in zip((y, dx, conv2d_cpu.gradient_of_w(x, dy, s, way)), want)]
        assert max(errors) <= 3e-5, (way, errors)


def test_float64_never_goes_by_winograd():
    s = shape_of((4, 256, 256, 56, 56, 3, 3, (1, 1), (1, 1)))
    assert conv2d_cpu.best_way(s, np.dtype(np.float32)) == "winograd"
    for method in (None, "winograd"):
        assert conv2d_cpu.best_way(s, np.dtype(np.float64), method) != "winograd"


def test_conv_method_forces_a_way_and_its_backward_and_ends_with_the_block():
    rng = np.random.default_rng(2)
    x, w, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((1, 4, 6, 5), (4, 2, 3, 3), (4,)))
    dy = rng.standard_normal((1, 4, 6, 5)).astype(np.float32)
    results = {}
    for method in ("loops", "im2col", "threads", "winograd"):
        tensors = [minidl.Tensor(a, requires_grad=True) for a in (x, w, b)]
        with minidl.conv_method(method):
            y = ops.conv2d(*tensors, padding=1, groups=2)
        y.backward(dy)
        results[method] = [y.numpy(), *(t.grad for t in tensors)]
    for method, arrays in results.items():
        for got, want in zip(arrays, results["loops"]):
            assert relative_error(got, want) <= 1e-5, method
    assert not np.array_equal(results["winograd"][0], results["threads"][0]), "winograd computed as threads do"
    with pytest.raises(ValueError, match="must be one of loops, im2col, threads, winograd, got 'fft'"):
        minidl.conv_method("fft").__enter__()


def test_conv_method_holds_for_its_own_thread_alone(monkeypatch):
    called = []
    monkeypatch.setattr(Conv2d, "naive", staticmethod(lambda x, w, *rest: called.append(1) or np.zeros((1, 1, 2, 2))))
    seen = []
    with minidl.conv_method("loops"):
        other = threading.Thread(target=lambda: seen.append(ops.conv2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)))))
        other.start()
        other.join()
    assert not called and seen[0].numpy().tolist() == [[[[9, 9], [9, 9]]]]


def test_the_loops_are_what_runs_when_asked_for(monkeypatch):
    called = []
    monkeypatch.setattr(Conv2d, "naive", staticmethod(lambda x, w, *rest: called.append(1) or np.zeros((1, 1, 2, 2))))
    with minidl.conv_method("loops"):
        ops.conv2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)))
    assert called
    with plain_kernels():
        ops.conv2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)))
    assert len(called) == 1


@pytest.mark.parametrize("part", ["channels", "every second row"])
def test_parts_of_larger_arrays_are_convolved_without_a_mistake(part):
    """What concat's backward and slices hand on: a part of the channels lies whole in memory, a part of the rows does not."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3, 12, 10, 8))
    x = x[:, 2:11] if part == "channels" else x[:, :9, ::2]
    w = rng.standard_normal((4, 9, 3, 3))
    with plain_kernels():
        want = ops.conv2d(x, w, padding=1).numpy()
    assert relative_error(ops.conv2d(x, w, padding=1).numpy(), want) <= 1e-13
