"""What every operation must pass, from its own samples, loops and refusals alone. No code per operation.

Each check takes a Function class and raises AssertionError when the operation is wrong. `test_operations.py` runs all of
them over OPS; the mutation script runs them over operations with planted bugs.
"""
from contextlib import nullcontext

import numpy as np

from minidl.autograd import Tensor, apply, shapes_only
from minidl.backend import array_module, to_device
from minidl.function import plain_kernels

EXACT = 1e-12  # forward against its loops, float64
GRADIENT = 1e-7  # backward against central differences, float64
EPS = 1e-6


def relative_error(got, want):
    """max|got - want| / max|want|; the absolute error where want is all zero. Equal infinities agree."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"shape {got.shape}, expected {want.shape}"
    if want.size == 0:
        return 0.0
    finite = np.isfinite(want)
    assert np.array_equal(got[~finite], want[~finite], equal_nan=True), "infinities or NaNs differ"
    got, want = got[finite], want[finite]
    if want.size == 0:
        return 0.0
    error, scale = abs(got - want).max(), abs(want).max()
    return float(error / scale if scale else error)


def samples(op, seed=0):
    """(label, inputs, options) of every sample; inputs are fresh arrays."""
    for k, (inputs, options) in enumerate(op.samples(np.random.default_rng(seed))):
        arrays = tuple(np.array(x) for x in inputs)
        yield f"{op.__name__} sample {k}, shapes {[x.shape for x in arrays]}, {options}", arrays, options


def cotangent(shape, seed):
    """A random gradient of the output: ones would hide every mistake that a constant sum forgives."""
    return np.array(np.random.default_rng(seed).standard_normal(shape))


def run(op, inputs, options, requires_grad=True):
    """The output tensor and the input tensors of one recorded call."""
    tensors = [Tensor(x, requires_grad=requires_grad and x.dtype.kind == "f") for x in inputs]
    return apply(op(**options), *tensors), tensors


def backward(op, inputs, options, dy):
    """Gradients of all inputs (None for integers) for the cotangent dy."""
    y, tensors = run(op, inputs, options)
    y.backward(dy)
    return [x.grad for x in tensors]


def differences(f, inputs, dy):
    """d(dy . f(*inputs)) / d inputs by central differences; None for integer inputs."""
    gradients = []
    for x in inputs:
        if x.dtype.kind != "f":
            gradients.append(None)
            continue
        dx = np.zeros(x.shape)
        for i in np.ndindex(x.shape):
            here = x[i]
            x[i] = here + EPS
            up = np.array(f(*inputs))  # a copy: the output may be a view of x
            x[i] = here - EPS
            down = np.array(f(*inputs))
            x[i] = here
            dx[i] = ((up - down) * dy).sum() / (2 * EPS)
        gradients.append(dx)
    return gradients


def check_forward_against_loops(op):
    for label, inputs, options in samples(op):
        y, _ = run(op, inputs, options)
        error = relative_error(y.numpy(), op.naive(*inputs, **options))
        assert error <= EXACT, f"{label}: forward is off its loops by {error:.2e}"


def check_backward_against_differences(op):
    for seed in (0, 1):
        for label, inputs, options in samples(op, seed):
            y, _ = run(op, inputs, options)
            dy = cotangent(y.shape, seed + 10)
            got = backward(op, inputs, options, dy)
            want = differences(lambda *arrays, o=options: op(**o).forward(*arrays), inputs, dy)
            compare_gradients(label, op, got, want, GRADIENT)


def check_backward_against_differences_of_the_loops(op):
    """On the smallest sample that has elements: forward and backward may share a mistake, the loops do not."""
    label, inputs, options = min((s for s in samples(op) if all(x.size for x in s[1])),
                                 key=lambda s: sum(x.size for x in s[1]))
    y, _ = run(op, inputs, options)
    dy = cotangent(y.shape, 5)
    got = backward(op, inputs, options, dy)
    want = differences(lambda *arrays: op.naive(*arrays, **options), inputs, dy)
    compare_gradients(f"{label} (loops)", op, got, want, GRADIENT)


def compare_gradients(label, op, got, want, tolerance):
    for k, (g, w) in enumerate(zip(got, want)):
        if w is None:
            assert g is None, f"{label}: integer input {op.input_name(k)} got a gradient"
            continue
        error = relative_error(g, w)
        assert error <= tolerance, f"{label}: gradient of {op.input_name(k)} is off by {error:.2e}"


def check_dtype_is_kept(op):
    for label, inputs, options in samples(op):
        if options.get("dtype") is not None:  # astype: changing it is its purpose
            continue
        for dtype in (np.float32, np.float64):
            cast = tuple(x.astype(dtype) if x.dtype.kind == "f" else x for x in inputs)
            y, tensors = run(op, cast, options)
            assert y.dtype == dtype, f"{label}: {np.dtype(dtype)} in, {y.dtype} out"
            y.backward(np.ones(y.shape, dtype))
            for k, x in enumerate(tensors):
                assert x.grad is None or x.grad.dtype == dtype, f"{label}: gradient of {op.input_name(k)} is {x.grad.dtype}"


def check_inputs_stay_untouched(op):
    for label, inputs, options in samples(op):
        before = [x.copy() for x in inputs]
        y, _ = run(op, inputs, options)
        dy = cotangent(y.shape, 3)
        dy_before, y_before = dy.copy(), y.numpy().copy()
        function = op(**options)
        function.needs = tuple(x.dtype.kind == "f" for x in inputs)
        function.forward(*inputs)
        function.backward(dy)
        for k, (x, was) in enumerate(zip(inputs, before)):
            assert np.array_equal(x, was), f"{label}: wrote into input {op.input_name(k)}"
        assert np.array_equal(dy, dy_before), f"{label}: backward wrote into dy"
        assert np.array_equal(y.numpy(), y_before), f"{label}: a second call wrote into the first one's output"


def check_strided_inputs(op):
    for label, inputs, options in samples(op):
        y, _ = run(op, inputs, options)
        dy = cotangent(y.shape, 4)
        want = [y.numpy(), *backward(op, inputs, options, dy)]
        for spread in (every_second, reversed_axes):
            strided = tuple(spread(x) for x in inputs)
            y, _ = run(op, strided, options)
            got = [y.numpy(), *backward(op, strided, options, spread(dy))]
            for g, w in zip(got, want):
                assert g is None and w is None or relative_error(g, w) <= EXACT, f"{label}: {spread.__name__} input differs"


def every_second(x):
    """x as a view of every second element of a larger array."""
    wide = array_module(x).zeros(tuple(2 * n for n in x.shape), x.dtype)
    view = wide[(..., *(slice(None, None, 2) for _ in x.shape))]
    view[...] = x
    return view


def reversed_axes(x):
    """x with its memory in column-major order."""
    return array_module(x).array(x, order="F")


def check_a_gradient_asked_for_alone_is_the_same(op):
    """With a gradient asked for one input only, that one is the same as with all."""
    for label, inputs, options in samples(op):
        y, _ = run(op, inputs, options)
        dy = cotangent(y.shape, 6)
        everything = backward(op, inputs, options, dy)
        for k, want in enumerate(everything):
            if want is None:
                continue
            tensors = [Tensor(x, requires_grad=i == k) for i, x in enumerate(inputs)]
            apply(op(**options), *tensors).backward(dy)
            error = relative_error(tensors[k].grad, want)
            assert error <= EXACT, f"{label}: gradient of {op.input_name(k)} alone differs by {error:.2e}"


def check_refusals(op):
    for k, (inputs, options, words) in enumerate(op.rejects()):
        label = f"{op.__name__} refusal {k}, {[np.shape(x) for x in inputs]}, {options}"
        try:
            apply(op(**options), *inputs)
        except (ValueError, TypeError, IndexError) as error:
            assert words in str(error), f"{label}: expected {words!r} in the error, got: {error}"
        else:
            raise AssertionError(f"{label}: was not refused")


def check_the_output_shape_is_known_without_computing(op):
    """From the inputs' shapes alone, with the same refusals."""
    for label, inputs, options in samples(op):
        y, _ = run(op, inputs, options)
        shape = op(**options).output_shape(*(x.shape for x in inputs))
        assert shape == y.shape and all(type(n) is int for n in shape), f"{label}: output_shape says {shape}, it is {y.shape}"
        with shapes_only():
            hollow = apply(op(**options), *inputs)
        what = hollow.shape, hollow.dtype
        assert what == (y.shape, y.dtype) and not hollow.numpy().any(), f"{label}: shapes_only gives {what}"


def check_faster_kernels_against_the_plain_ones(op):
    """Output and gradients, in float64 and float32; BLAS and the order of sums may differ in the last digits."""
    for seed in (0, 1):
        for label, inputs, options in samples(op, seed):
            for dtype, tolerance in ((np.float64, EXACT), (np.float32, 3e-5)):
                cast = tuple(x.astype(dtype) if x.dtype.kind == "f" else x for x in inputs)
                results = []
                for context in (plain_kernels, nullcontext):
                    with context():
                        y, tensors = run(op, cast, options)
                        y.backward(cotangent(y.shape, seed + 20).astype(dtype))
                    results.append([y.numpy(), *(x.grad for x in tensors)])
                for k, (want, got) in enumerate(zip(*results)):
                    what = op.input_name(k - 1) if k else "output"
                    assert (got is None) == (want is None), f"{label}: {what}"
                    if got is not None:
                        error = relative_error(got, want)
                        assert error <= tolerance, f"{label}, {dtype.__name__}: {what} is off the plain kernel's by {error:.2e}"


FASTER = [check_faster_kernels_against_the_plain_ones]


def check_cuda_kernels_against_the_plain_ones(op):
    """On device "cuda" in float32, with inputs that lie in memory in several ways, and each gradient alone; and the refusals.

    Values are not looked at on a GPU: what would have to be read back makes NaN there instead of an error.
    """
    _check_samples_on_cuda(op)
    _check_refusals_on_cuda(op)
    if hasattr(op, "most_columns"):
        op.most_columns, before = 1, op.most_columns  # convolution's columns, one image's after the other
        try:
            _check_samples_on_cuda(op)
        finally:
            op.most_columns = before


def _check_samples_on_cuda(op):
    for seed in (0, 1):
        for label, inputs, options in samples(op, seed):
            cast = tuple(x.astype(np.float32) if x.dtype.kind == "f" else x for x in inputs)
            with plain_kernels():
                y, tensors = run(op, cast, options)
                dy = cotangent(y.shape, seed + 30).astype(y.dtype)
                y.backward(dy)
            want = [y.numpy(), *(x.grad for x in tensors)]
            for spread in (without_gaps, every_second, reversed_axes):
                got = _on_cuda(op, cast, options, dy, [x.dtype.kind == "f" for x in cast], spread)
                _compare_devices(f"{label}, {spread.__name__}", op, got, want)
            for k, x in enumerate(cast):
                if x.dtype.kind == "f":
                    got = _on_cuda(op, cast, options, dy, [i == k for i in range(len(cast))])
                    _compare_devices(f"{label}, gradient of {op.input_name(k)} alone", op, got,
                                     [want[0], *(w if i == k else None for i, w in enumerate(want[1:]))])
            if op.name == "batch_norm":  # what the running statistics move by
                plain, moved = op(**options), op(**options)
                with plain_kernels():
                    apply(plain, *cast)
                apply(moved, *(to_device(x, "cuda") for x in cast))
                _compare_devices(f"{label}, mean and var", op, [moved.mean.get(), moved.var.get()], [plain.mean, plain.var])


def _check_refusals_on_cuda(op):
    for inputs, options, words in op.rejects():
        if len({x.dtype for x in inputs if x.dtype.kind == "f"}) < 2:  # mixed dtypes are refused wherever they are
            cast = [to_device(x.astype(np.float32) if x.dtype.kind == "f" else x, "cuda") for x in inputs]
            try:
                y = apply(op(**options), *cast)
            except (ValueError, TypeError, IndexError) as error:
                assert words in str(error), f"{op.__name__} on cuda: expected {words!r} in the error, got: {error}"
            else:
                assert np.isnan(y.numpy()).any(), f"{op.__name__} on cuda: {words!r} was not refused"


def without_gaps(x):
    """x as it is."""
    return x


def _on_cuda(op, inputs, options, dy, needs, spread=without_gaps):
    """Output and gradients on device "cuda", as NumPy arrays; there, each array lies in memory as `spread` puts it."""
    def moved(x):
        return spread(to_device(x, "cuda"))

    tensors = [Tensor(moved(x), requires_grad=need) for x, need in zip(inputs, needs)]
    before = [x.numpy().copy() for x in tensors]
    y, dy = apply(op(**options), *tensors), moved(dy)
    y.backward(dy)
    for x, was in zip(tensors, before):
        assert np.array_equal(x.numpy(), was), f"{op.__name__} on cuda wrote into an input"
    return [y.numpy(), *(None if x.grad is None else x.grad.get() for x in tensors)]


def _compare_devices(label, op, got, want):
    for k, (g, w) in enumerate(zip(got, want, strict=True)):
        what = f"{label}: {op.input_name(k - 1) if k else 'output'} on cuda"
        assert (g is None) == (w is None), what
        if g is not None:
            assert g.dtype == w.dtype, f"{what} is {g.dtype}"
            error = relative_error(g, w)
            assert error <= 3e-5, f"{what} is off the plain kernel's by {error:.2e}"

CHECKS = [
    check_forward_against_loops, check_backward_against_differences, check_backward_against_differences_of_the_loops,
    check_dtype_is_kept, check_inputs_stay_untouched, check_strided_inputs, check_a_gradient_asked_for_alone_is_the_same,
    check_refusals, check_the_output_shape_is_known_without_computing,
]
