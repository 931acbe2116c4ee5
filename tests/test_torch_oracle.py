"""Every operation against PyTorch on random cases: forward, and the gradient of every input.

    pip install torch==2.13.0 && pytest -m oracle

float64 agrees to 1e-9 and float32 to 1e-5, as max|got - want| / max|want| for each array. Why 1e-5 can be asked for in
float32 is the business of the "exact" cases, see support/cases.py.
"""
import numpy as np
import pytest
from cases import cases
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from operation_checks import relative_error

import minidl
from minidl import ops
from minidl.arithmetic import elementwise, matmul, reductions, shaping
from minidl.autograd import Tensor, apply
from minidl.ops import OPS
from minidl.testing import image_shapes, make_array

torch = pytest.importorskip("torch", reason="the comparison with PyTorch needs torch: pip install torch")
F = torch.nn.functional

pytestmark = pytest.mark.oracle

TOLERANCE = {np.float64: 1e-9, np.float32: 1e-5}
FULL = settings(max_examples=max(60, settings().max_examples),  # more under --hypothesis-profile=fuzz
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The arrays are tiny: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- what torch calls the operations -------------------------------------------------------------------------------


def axes_of(x, axis):
    """Axes in ascending order, not negative."""
    axes = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return tuple(sorted(a % x.ndim for a in axes))


def torch_reduction(reduce):
    def function(x, axis=None, keepdims=False):
        if x.ndim == 0:
            return reduce(x.reshape(1), (0,), False)
        return reduce(x, axes_of(x, axis), keepdims)
    return function


def torch_max(x, axes, keepdims):
    """torch.amax shares the gradient among equals; torch.max along one axis gives it to the first, as we do."""
    others = tuple(a for a in range(x.ndim) if a not in axes)
    y = x.permute(*others, *axes).flatten(len(others)).max(dim=-1).values
    return y.reshape([1 if a in axes else n for a, n in enumerate(x.shape)]) if keepdims else y


def torch_index(x, index):
    parts = index if isinstance(index, tuple) else (index,)
    if any(isinstance(part, slice) and part.step is not None and part.step < 0 for part in parts):
        places = torch.arange(x.numel()).reshape(x.shape).numpy()[index]  # torch has no steps backwards
        return x.reshape(-1)[torch.from_numpy(places.copy())]
    parts = tuple(torch.from_numpy(part) if isinstance(part, np.ndarray) else part for part in parts)
    return x[parts if isinstance(index, tuple) else parts[0]]


def torch_pad(x, pad_width=(), value=0.0):
    return F.pad(x, [n for pair in reversed(pad_width) for n in pair], value=value) if pad_width else x.clone()


def torch_crop(x, size, offset):
    return x[:, :, offset[0]:offset[0] + size[0], offset[1]:offset[1] + size[1]]


def torch_pool(pool):
    def function(x, kernel_size, stride, padding, ceil_mode, **options):
        return pool(x, kernel_size, stride, padding, ceil_mode=ceil_mode, **options)
    return function


def torch_lrn(x, n, k, alpha, beta):
    """torch divides alpha by the window, and wants at least one axis after the channels."""
    y = F.local_response_norm(x[..., None] if x.ndim == 2 else x, n, alpha=alpha * n, beta=beta, k=k)
    return y.reshape(x.shape)


def torch_batch_norm(x, w, b, eps):
    return F.batch_norm(x, None, None, w, b, training=True, eps=eps)


def torch_batch_norm_eval(x, w, b, mean, var, eps):
    """The formula: F.batch_norm gives no gradient to mean and var. It is compared below, with the public function."""
    w, b, mean, var = (a.reshape(-1, *[1] * (x.ndim - 2)) for a in (w, b, mean, var))
    return w * (x - mean) / torch.sqrt(var + eps) + b


def torch_cross_entropy(logits, labels, ignore_index):
    labels = labels.long()
    return F.cross_entropy(logits, labels, ignore_index=-12345 if ignore_index is None else ignore_index)


def torch_power(x, exponent):
    return torch.pow(x, exponent)


TORCH_DTYPE = {np.float16: torch.float16, np.float32: torch.float32, np.float64: torch.float64}

TORCH = {
    elementwise.Add: torch.add,
    elementwise.Subtract: torch.sub,
    elementwise.Multiply: torch.mul,
    elementwise.Divide: torch.div,
    elementwise.Power: torch_power,
    elementwise.Negate: torch.neg,
    elementwise.Exp: torch.exp,
    elementwise.Log: torch.log,
    elementwise.Sqrt: torch.sqrt,
    elementwise.Tanh: torch.tanh,
    elementwise.Where: torch.where,
    matmul.MatMul: torch.matmul,
    reductions.Sum: torch_reduction(lambda x, axes, keepdims: x.sum(dim=axes, keepdim=keepdims)),
    reductions.Mean: torch_reduction(lambda x, axes, keepdims: x.mean(dim=axes, keepdim=keepdims)),
    reductions.Max: torch_reduction(torch_max),
    reductions.Var: torch_reduction(lambda x, axes, keepdims: x.var(dim=axes, correction=0, keepdim=keepdims)),
    shaping.Reshape: lambda x, shape: x.reshape(shape),
    shaping.Transpose: lambda x, axes: x.permute(tuple(reversed(range(x.ndim))) if axes is None else axes),
    shaping.GetItem: torch_index,
    shaping.Concat: lambda *xs, axis: torch.cat(xs, dim=axis),
    shaping.Stack: lambda *xs, axis: torch.stack(xs, dim=axis),
    shaping.Pad: torch_pad,
    shaping.Cast: lambda x, dtype: x.to(TORCH_DTYPE[dtype]),
    ops.ReLU: F.relu,
    ops.LeakyReLU: F.leaky_relu,
    ops.Sigmoid: torch.sigmoid,
    ops.Softmax: F.softmax,
    ops.LogSoftmax: F.log_softmax,
    ops.CrossEntropy: torch_cross_entropy,
    ops.MSE: F.mse_loss,
    ops.Linear: F.linear,
    ops.Im2Col: lambda x, **options: F.unfold(x, **options),
    ops.Col2Im: lambda cols, **options: F.fold(cols, **options),
    ops.Conv2d: F.conv2d,
    ops.ConvTranspose2d: F.conv_transpose2d,
    ops.MaxPool2d: torch_pool(F.max_pool2d),
    ops.AvgPool2d: torch_pool(F.avg_pool2d),
    ops.AdaptiveAvgPool2d: F.adaptive_avg_pool2d,
    ops.LRN: torch_lrn,
    ops.BatchNorm: torch_batch_norm,
    ops.BatchNormEval: torch_batch_norm_eval,
    ops.Dropout: lambda x, keep, p: x * keep / (1 - p),  # the same mask; the public function is tested below
    ops.Crop: torch_crop,
}


def test_every_operation_has_its_torch_equivalent():
    assert set(TORCH) == set(OPS)


# --- the comparison ------------------------------------------------------------------------------------------------


def assert_agrees(f, torch_f, inputs, make_dy, dtype, what):
    """f on Tensors and torch_f on torch tensors: the same output, and the same gradients for the same random dy."""
    tolerance = TOLERANCE[dtype]
    ours = [Tensor(x.copy(), requires_grad=x.dtype.kind == "f") for x in inputs]
    theirs = [torch.from_numpy(x.copy()).requires_grad_(x.dtype.kind == "f") for x in inputs]
    y, torch_y = f(*ours), torch_f(*theirs)
    got, want = y.numpy(), torch_y.detach().numpy()
    assert got.dtype == want.dtype, f"{what}: {got.dtype}, torch has {want.dtype}"
    error = relative_error(got, want)
    assert error <= tolerance, f"{what}: forward differs from torch by {error:.2e}"
    dy = make_dy(got.shape).astype(got.dtype)
    y.backward(dy)
    torch_y.backward(torch.from_numpy(dy))
    for k, (x, torch_x) in enumerate(zip(ours, theirs)):
        if not x.requires_grad:
            continue
        want = np.zeros(x.shape, dtype) if torch_x.grad is None else torch_x.grad.numpy()
        assert x.grad.dtype == want.dtype
        error = relative_error(x.grad, want)
        assert error <= tolerance, f"{what}: gradient of input {k} differs from torch by {error:.2e}"


@pytest.mark.parametrize("dtype, kind", [(np.float64, "smooth"), (np.float64, "exact"), (np.float32, "exact")],
                         ids=["float64-smooth", "float64-exact", "float32-exact"])
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.__name__)
def test_forward_and_gradients_agree_with_torch(op, dtype, kind):
    @FULL
    @given(cases(op, kind))
    def agrees(case):
        assert_agrees(lambda *xs: apply(op(**case.options), *xs), lambda *xs: TORCH[op](*xs, **case.options),
                      case.inputs_as(dtype), case.dy, dtype, f"{op.__name__} {case.options}")

    agrees()


def test_a_small_mistake_would_be_noticed():
    """The comparison itself can fail: one element of one gradient off by 3e-5 in float32, by 3e-9 in float64."""
    class SlightlyWrong(ops.Sigmoid):
        off = 0.0

        def backward(self, dy):
            dx = super().backward(dy)
            dx.flat[0] += self.off * abs(dx).max()
            return dx

    x = make_array((2, 3), 0)

    def compare(dtype):
        assert_agrees(lambda x: apply(SlightlyWrong(), x), torch.sigmoid, (x.astype(dtype),),
                      lambda shape: make_array(shape, 1), dtype, "slightly wrong")

    for dtype, off in ((np.float32, 3e-5), (np.float64, 3e-9)):
        SlightlyWrong.off = 0.0
        compare(dtype)
        SlightlyWrong.off = off
        with pytest.raises(AssertionError, match="gradient of input 0 differs"):
            compare(dtype)


# --- the public functions that do more than call their Function ----------------------------------------------------

both_dtypes = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=lambda dtype: dtype.__name__)


@both_dtypes
@FULL
@given(shape=image_shapes(max_channels=7, max_side=3), size=st.integers(1, 6), k=st.sampled_from([1.0, 2.0]),
       seed=st.integers(0, 2**32 - 1))
def test_local_response_norm_is_torchs(dtype, shape, size, k, seed):
    # |x| <= 1: see support/cases.py, normalised_locally
    x = np.random.default_rng(seed).uniform(-1, 1, shape).astype(dtype)
    options = dict(alpha=0.3, beta=0.75, k=k)
    assert_agrees(lambda x: ops.local_response_norm(x, size, **options),
                  lambda x: F.local_response_norm(x, size, **options),
                  (x,), lambda shape: make_array(shape, seed, "exact"), dtype, "local_response_norm")


@both_dtypes
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@FULL
@given(case=cases(ops.BatchNorm, "exact"), momentum=st.sampled_from([0.1, 0.5, 1.0]))
def test_batch_norm_and_its_running_statistics_are_torchs(dtype, training, case, momentum):
    inputs, eps = case.inputs_as(dtype), case.options["eps"]
    C = inputs[0].shape[1]
    # Evaluation: the mean lies below every x and dy is positive, so that the sums over the batch do not cancel.
    mean = np.full(C, inputs[0].min() - 1, dtype)
    var = make_array((C,), case.seed, "positive", dtype)
    torch_mean, torch_var = torch.from_numpy(mean.copy()), torch.from_numpy(var.copy())
    dy = case.dy if training else lambda shape: make_array(shape, case.seed, "positive")
    for _ in range(2):  # the second call sees what the first one left behind
        assert_agrees(
            lambda x, w, b: ops.batch_norm(x, mean, var, w, b, training=training, momentum=momentum, eps=eps),
            lambda x, w, b: F.batch_norm(x, torch_mean, torch_var, w, b, training=training, momentum=momentum, eps=eps),
            inputs, dy, dtype, "batch_norm")
        # a running mean may come close to zero: its error is measured against what went into it
        scale = abs(inputs[0]).max() + 1
        assert abs(mean - torch_mean.numpy()).max() <= TOLERANCE[dtype] * scale
        assert relative_error(var, torch_var.numpy()) <= TOLERANCE[dtype]


@both_dtypes
@FULL
@given(case=cases(ops.CrossEntropy, "exact"))
def test_cross_entropy_with_ignored_labels_is_torchs(dtype, case):
    ignored, labels = case.options["ignore_index"], case.inputs[1]
    torch_labels = torch.from_numpy(labels.astype(np.int64))
    for given_labels in (labels, Tensor(labels)):
        assert_agrees(lambda logits, given_labels=given_labels: ops.cross_entropy(logits, given_labels, ignore_index=ignored),
                      lambda logits: torch_cross_entropy(logits, torch_labels, ignored),
                      case.inputs_as(dtype)[:1], case.dy, dtype, "cross_entropy")


@both_dtypes
def test_cross_entropy_of_huge_scores_is_torchs(dtype):
    logits = np.array([[1e4, -1e4, 0], [-1e4, 1e4, 1e4], [80, 0, -80]], dtype)
    labels = np.array([1, 2, 0])
    assert_agrees(lambda x: ops.cross_entropy(x, labels), lambda x: F.cross_entropy(x, torch.from_numpy(labels)),
                  (logits,), lambda shape: make_array(shape, 0, "positive"), dtype, "cross_entropy")


@both_dtypes
@FULL
@given(factor=st.integers(1, 5), shape=image_shapes(max_batch=2, max_channels=3, min_side=3, max_side=6),
       grouped=st.booleans(), seed=st.integers(0, 2**32 - 1))
@example(factor=3, shape=(1, 2, 3, 4), grouped=False, seed=0)
def test_bilinear_upsampling_is_torchs_away_from_the_border(dtype, factor, shape, grouped, seed):
    """torch repeats the border pixel; a transposed convolution has zeros there. One pixel further in they are one."""
    C, (H, W) = shape[1], shape[2:]
    x = make_array(shape, seed, "positive", dtype)  # weights and pixels are positive: nothing cancels
    w = ops.bilinear_kernel(2 * factor - factor % 2, C, groups=C if grouped else None, dtype=dtype)
    y = ops.conv_transpose2d(x, w, stride=factor, padding=factor // 2, groups=C if grouped else 1).numpy()
    want = F.interpolate(torch.from_numpy(x), scale_factor=factor, mode="bilinear", align_corners=False).numpy()
    assert y.shape == want.shape == (*shape[:2], H * factor, W * factor)
    inside = np.s_[:, :, factor:-factor, factor:-factor]
    assert relative_error(y[inside], want[inside]) <= TOLERANCE[dtype]


@both_dtypes
@FULL
@given(shape=image_shapes(max_batch=2), p=st.sampled_from([0.0, 0.3, 0.5]), seed=st.integers(0, 2**16))
def test_dropout_scales_what_it_keeps_as_torch_does(dtype, shape, p, seed):
    """The masks come from different generators; torch gets ours, read off the output."""
    x = make_array(shape, seed, "positive", dtype)
    minidl.manual_seed(seed)
    kept = torch.from_numpy(ops.dropout(x, p).numpy() != 0)

    def again(x):
        minidl.manual_seed(seed)
        return ops.dropout(x, p)

    def torch_dropout(x):
        y = F.dropout(x, p, training=True)
        survivors = y.detach() != 0
        scale = (y.detach()[survivors] / x.detach()[survivors]).max() if survivors.any() else 1 / (1 - p)
        return x * kept * scale

    assert_agrees(again, torch_dropout, (x,), lambda shape: make_array(shape, seed, "exact"), dtype, "dropout")


@both_dtypes
@FULL
@given(case=cases(ops.Im2Col, "exact"))
def test_im2col_and_col2im_are_torchs_unfold_and_fold(dtype, case):
    (x,), size = case.inputs_as(dtype), case.inputs[0].shape[2:]
    cols, torch_cols = ops.im2col(x, **case.options), F.unfold(torch.from_numpy(x), **case.options)
    assert np.array_equal(cols.numpy(), torch_cols.numpy())  # moving elements rounds nothing
    back = ops.col2im(cols, size, **case.options).numpy()
    if len(x):  # torch's fold refuses an empty batch
        assert np.array_equal(back, F.fold(torch_cols, size, **case.options).numpy())  # nor do sums of quarters


@FULL
@given(case=cases(ops.MaxPool2d, "exact"))
def test_max_pool_chooses_the_same_of_equal_pixels_as_torch(case):
    """Distinct gradients show which pixel was chosen: a shared or moved one could not agree by chance."""
    (x,) = case.inputs
    assert_agrees(lambda x: ops.max_pool2d(x, **case.options), lambda x: TORCH[ops.MaxPool2d](x, **case.options),
                  (np.round(x),), lambda shape: 2.0 ** (np.arange(np.prod(shape)).reshape(shape) % 40), np.float64,
                  "max_pool2d")
