"""The table of operations, each against everything that an operation must hold. See support/operation_checks.py."""
import inspect
from contextlib import nullcontext

import numpy as np
import pytest
from operation_checks import CHECKS, FASTER, relative_error

import minidl
from minidl import ops
from minidl.arithmetic.elementwise import Add
from minidl.function import Function, plain_kernels
from minidl.ops import OPS


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.__name__)
def test_every_operation_holds(op, check):
    with plain_kernels():
        check(op)


@pytest.mark.parametrize("check", [*CHECKS, *FASTER], ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("op", [op for op in OPS if op.forward_cpu is not None], ids=lambda op: op.__name__)
def test_every_faster_kernel_holds(op, check, threads_share):
    """threads_share: cut into as many parts as there can be, which the samples are too small for."""
    check(op)


def subclasses(cls):
    for sub in cls.__subclasses__():
        yield sub
        yield from subclasses(sub)


def test_every_function_of_the_package_is_listed_in_the_table():
    written = {cls for cls in subclasses(Function)
               if cls.__module__.startswith("minidl.") and not cls.__name__.startswith("_")}
    assert written == set(OPS)
    assert len({op.name for op in OPS}) == len(OPS), "two operations have one name"


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.__name__)
def test_every_operation_says_its_formula_and_is_named(op):
    assert op.__doc__ and len(op.__doc__) > 5
    assert op.name != Function.name
    assert list(inspect.signature(op.forward).parameters)[1:], "forward takes no input"


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.__name__)
def test_naive_takes_the_inputs_of_forward_and_the_options_of_init(op):
    forward = [p.name for p in inspect.signature(op.forward).parameters.values()][1:]
    options = [p.name for p in inspect.signature(op.__init__).parameters.values()
               if p.name != "self" and p.kind is p.POSITIONAL_OR_KEYWORD]
    assert list(inspect.signature(op.naive).parameters) == forward + options


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.__name__)
def test_every_operation_has_a_sample_or_a_refusal_without_elements(op):
    samples = [inputs for inputs, _ in op.samples(np.random.default_rng(0))]
    refused = [inputs for inputs, _, _ in op.rejects()]
    assert any(np.size(x) == 0 for inputs in samples + refused for x in inputs)


# LRN: the vectors of several frameworks for x = 1..6 over channels, n = 5, beta = .75 (computed from each one's formula)
LRN_VECTORS = [
    (ops.lrn, dict(k=2, alpha=1e-4), [.59429158, 1.18787101, 1.78014039, 2.37041856, 2.96346574, 3.55735442]),
    (ops.local_response_norm, dict(k=2, alpha=5e-4), [.59429158, 1.18787101, 1.78014039, 2.37041856, 2.96346574, 3.55735442]),
    (ops.local_response_norm, dict(k=1, alpha=1e-4), [.99979005, 1.99910047, 2.99752738, 3.99460849, 4.99355969, 5.99307933]),
    (ops.local_response_norm, dict(k=1, alpha=1), [.36741959, .46473616, .46530243, .43953634, .56743545, .73623823]),
    (ops.lrn, dict(k=2, alpha=1), [.125, .14865089, .14461559, .13465396, .17402354, .22642842]),
]


@pytest.mark.parametrize("f, options, want", LRN_VECTORS)
def test_lrn_gives_the_known_vectors_in_both_conventions(f, options, want):
    x = np.arange(1.0, 7.0).reshape(1, 6, 1, 1)
    np.testing.assert_allclose(f(x, 5, beta=.75, **options).numpy().ravel(), want, rtol=3e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cross_entropy_is_stable_at_huge_logits(dtype):
    logits = minidl.Tensor(np.array([[1e4, -1e4, 0], [-1e4, 1e4, 1e4], [-1e4, -1e4, 1e4]], dtype), requires_grad=True)
    loss = ops.cross_entropy(logits, np.array([1, 2, 2]))
    # row 0: 1e4 - (-1e4); row 1: two equal largest, log 2; row 2: 0
    assert loss.item() == pytest.approx((2e4 + np.log(2)) / 3, rel=1e-6)
    loss.backward()
    np.testing.assert_allclose(logits.grad * 3, [[1, -1, 0], [0, .5, -.5], [0, 0, 0]], atol=1e-6)


@pytest.mark.parametrize("f", [ops.softmax, ops.log_softmax], ids=["softmax", "log_softmax"])
def test_softmax_does_not_change_when_all_scores_shift_by_ten_thousand(f):
    x = np.random.default_rng(0).integers(-8, 8, (3, 5)) / 4  # exact in float64, shifted or not
    for shift in (1e4, -1e4):
        assert relative_error(f(x + shift).numpy(), f(x).numpy()) <= 1e-12


def test_relu_has_slope_zero_at_zero():
    x = minidl.Tensor([0.0, -0.0, 1.0], requires_grad=True)
    ops.relu(x).backward([1.0, 1.0, 1.0])
    assert x.grad.tolist() == [0, 0, 1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_relu_keeps_nan(dtype):
    for context in (plain_kernels, nullcontext):
        with context():
            np.testing.assert_array_equal(ops.relu(np.array([np.nan, -1, 2, -np.inf, np.inf], dtype)).numpy(),
                                          [np.nan, 0, 2, 0, np.inf])


def test_max_pool_finds_places_in_windows_of_more_than_255():
    x = np.random.default_rng(0).standard_normal((2, 3, 40, 21)).astype(np.float32)
    results = []
    for context in (plain_kernels, nullcontext):
        with context():
            t = minidl.Tensor(x, requires_grad=True)
            ops.max_pool2d(t, (20, 21), stride=10).backward(np.arange(18, dtype=np.float32).reshape(2, 3, 3, 1))
            results.append(t.grad)
    assert np.array_equal(*results)


@pytest.mark.cpu("the plain form and the GPU give it to the first NaN")
def test_max_pool_hands_no_gradient_to_a_window_with_nan():
    x = np.zeros((1, 1, 2, 6), np.float32)
    x[0, 0, 1, 3] = np.nan
    t = minidl.Tensor(x, requires_grad=True)
    y = ops.max_pool2d(t, 2)
    y.backward(np.ones((1, 1, 1, 3), np.float32))
    assert np.isnan(y.numpy()[0, 0, 0, 1]) and t.grad[0, 0].tolist() == [[1, 0, 0, 0, 1, 0], [0] * 6]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_max_pool_sends_the_gradient_of_a_tie_to_the_first(dtype):
    x = minidl.Tensor(np.full((1, 1, 3, 3), 2, dtype), requires_grad=True)
    ops.max_pool2d(x, 2, stride=1).backward(np.array([[[[1.0, 10.0], [100.0, 1000.0]]]], dtype))
    assert x.grad[0, 0].tolist() == [[1, 10, 0], [100, 1000, 0], [0, 0, 0]]


@pytest.mark.parametrize("kernel, stride, padding", [
    (3, 1, 1), (3, 2, 1), (2, 2, 0), (2, 2, 1), (2, 3, 0), ((1, 3), (2, 1), (0, 1))], ids=str)
def test_max_pool_of_equal_numbers_gives_every_gradient_to_the_first_pixel_of_its_window(kernel, stride, padding):
    """Behind a ReLU most windows hold only zeros: the places around the image, where nothing is, must not take part."""
    rng = np.random.default_rng(0)
    x = np.round(np.maximum(rng.standard_normal((3, 2, 7, 6)), 0))
    results = []
    for context in (plain_kernels, nullcontext):
        with context():
            t = minidl.Tensor(x, requires_grad=True)
            y = ops.max_pool2d(t, kernel, stride, padding)
            y.backward(np.random.default_rng(1).standard_normal(y.shape))
        results.append((y.numpy(), t.grad))
    for got, want in zip(results[1], results[0]):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-14)


def test_relu_in_place_takes_the_memory_of_what_its_maker_does_not_need():
    rng = np.random.default_rng(0)
    image, w, b = (minidl.Tensor(rng.standard_normal(shape), requires_grad=True) for shape in ((2, 3, 6, 5), (3, 3, 3, 3), 3))
    makers = {
        "conv2d": (lambda: ops.conv2d(image, w, b), True), "add": (lambda: image + image * 2, True),
        "linear": (lambda: ops.linear(image.reshape(2, -1)[:, :3], w[0, 0]), True),
        "batch_norm": (lambda: ops.batch_norm(image, b.data * 0, b.data * 0 + 1, b, b, training=True), True),
        "tanh, whose gradient is made from y": (lambda: ops.tanh(image), False),
        "a leaf": (lambda: image, False), "a view": (lambda: (image + 1).reshape(-1), False),
    }
    for name, (make, may) in makers.items():
        results = []
        for inplace in (False, True):
            x = make()
            for leaf in (image, w, b):
                leaf.grad = None
            before = x.numpy().copy()
            y = ops.relu(x, inplace=inplace)
            assert (y._data is x._data) is (inplace and may), name
            y.backward(np.random.default_rng(1).standard_normal(y.shape))
            results.append([np.maximum(before, 0), y.numpy(), *(leaf.grad for leaf in (image, w, b) if leaf.grad is not None)])
        for got, want in zip(results[1], results[0], strict=True):
            assert np.array_equal(got, want), name


@pytest.mark.parametrize("context", [nullcontext, minidl.no_grad])
def test_whoever_saved_what_relu_overwrote_refuses_to_run_backward(context):
    x = minidl.Tensor(np.array([-1.0, 2.0]), requires_grad=True)
    y = x + 1
    z = y * y
    with context():
        assert ops.relu(y, inplace=True)._data is y._data
    with pytest.raises(RuntimeError, match="was changed after forward"):
        z.backward(np.ones(2))


@pytest.mark.parametrize("context", [nullcontext, minidl.no_grad])
def test_what_relu_overwrote_is_refused_wherever_it_is_used_again(context):
    x = minidl.Tensor(np.array([-1.0, 2.0]), requires_grad=True)
    with context():
        y = x + 1
        view, detached = y[:1], y.detach()
        r = ops.relu(y, inplace=True)
        for use in (lambda: y + r, lambda: view * 2, lambda: detached + 1, lambda: ops.relu(y), lambda: y.data, y.numpy):
            with pytest.raises(RuntimeError, match="taken by relu"):
                use()
        assert (r + 1).numpy().tolist() == [1, 4]


def test_relu_without_a_graph_leaves_alone_what_a_graph_needs():
    x = minidl.Tensor(np.array([-1.0, 2.0]), requires_grad=True)
    y = ops.tanh(x)
    with minidl.no_grad():
        ops.relu(y, inplace=True)
    y.backward(np.ones(2))
    np.testing.assert_allclose(x.grad, 1 - np.tanh([-1, 2]) ** 2, rtol=1e-12)


def test_relu_that_did_not_take_the_memory_changes_nothing():
    x = minidl.Tensor(np.array([[-1.0, 2.0]]), requires_grad=True)
    view = (x + 1).reshape(2)
    z = view * view
    ops.relu(view, inplace=True)
    z.backward(np.ones(2))
    assert x.grad.tolist() == [[0, 6]] and view.numpy().tolist() == [0, 3]


def test_a_subclass_that_looks_at_its_output_keeps_it():
    class Squared(Add):
        def forward(self, x, y):
            self.z = super().forward(x, y)
            return self.z

        def backward(self, dz):
            return dz * self.z, dz * self.z

    x = minidl.Tensor(np.array([-1.0, 2.0]), requires_grad=True)
    z = minidl.apply(Squared(), x, x)
    assert ops.relu(z, inplace=True)._data is not z._data


def test_relu_in_place_leaves_alone_what_no_operation_made():
    for context in (plain_kernels, nullcontext):
        for recorded in (minidl.enable_grad, minidl.no_grad):
            with context(), recorded():
                image = np.array([[-1.0, 2.0]])
                parameter = minidl.Tensor(image, requires_grad=True)
                for x in (image, minidl.Tensor(image), parameter, parameter.reshape(2), parameter.detach()):
                    assert ops.relu(x, inplace=True).numpy().ravel().tolist() == [0, 2]
                assert image.tolist() == [[-1, 2]]
        with context(), minidl.no_grad():
            made = ops.tanh(image)
            assert ops.relu(made, inplace=True)._data is made._data, "no gradient will need it"


def test_relu_in_place_leaves_alone_what_an_operation_handed_on():
    class Same(Function):
        keeps_output = False

        def forward(self, x):
            return x

        def backward(self, dy):
            return dy

    x = minidl.Tensor(np.array([-1.0, 2.0]), requires_grad=True)
    assert ops.relu(minidl.apply(Same(), x), inplace=True).numpy().tolist() == [0, 2] and x.numpy().tolist() == [-1, 2]


@pytest.mark.parametrize("size, kernel, stride, padding, floor, ceil", [
    (112, 3, 2, 0, 55, 56), (55, 3, 2, 0, 27, 27), (5, 2, 2, 0, 2, 3), (5, 2, 2, 1, 3, 3), (6, 2, 3, 1, 3, 3),
])
def test_pooling_rounds_as_caffe_and_torch_do(size, kernel, stride, padding, floor, ceil):
    x = np.zeros((1, 1, size, size))
    for f in (ops.max_pool2d, ops.avg_pool2d):
        assert f(x, kernel, stride, padding).shape[2:] == (floor, floor)
        assert f(x, kernel, stride, padding, ceil_mode=True).shape[2:] == (ceil, ceil)


def test_batch_norm_keeps_unbiased_running_variance_and_uses_it_in_evaluation():
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((4, 2, 3, 3)) * 3 + 1, np.array([2.0, .5]), np.array([.1, -1.0])
    mean, var = (minidl.Tensor(a).data for a in (np.zeros(2), np.ones(2)))
    ops.batch_norm(x, mean, var, w, b, training=True, momentum=0.25)
    np.testing.assert_allclose(mean, 0.25 * x.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(var, 0.75 + 0.25 * x.var(axis=(0, 2, 3), ddof=1), rtol=1e-12)
    kept = mean.copy(), var.copy()
    y = ops.batch_norm(x, mean, var, w, b, training=False, eps=1e-3).numpy()
    assert (mean == kept[0]).all() and (var == kept[1]).all(), "evaluation moved the running statistics"
    want = (x[1, 1] - mean[1]) / np.sqrt(var[1] + 1e-3) * .5 - 1
    np.testing.assert_allclose(y[1, 1], want, rtol=1e-12)


def test_dropout_keeps_the_share_and_the_mean_and_follows_the_seed():
    x = minidl.Tensor(np.ones((200, 500)))
    minidl.manual_seed(3)
    y = ops.dropout(x, p=0.3).numpy()
    kept = (y != 0).mean()
    assert abs(kept - 0.7) < 5 * np.sqrt(.3 * .7 / y.size)
    np.testing.assert_allclose(y[y != 0], 1 / 0.7, rtol=1e-12)
    minidl.manual_seed(3)
    assert (ops.dropout(x, p=0.3).numpy() == y).all()
    assert ops.dropout(x, p=0.3, training=False) is x


def test_bilinear_kernel_upsamples_a_ramp_exactly_away_from_the_border():
    for factor in (2, 3, 4):
        kernel = 2 * factor - factor % 2
        w = ops.bilinear_kernel(kernel, in_channels=2, dtype=np.float64)
        ramp = np.broadcast_to(np.arange(6.0), (1, 2, 6, 6)).copy()
        y = ops.conv_transpose2d(ramp, w, stride=factor, padding=(factor - 1 + 1) // 2).numpy()
        inside = y[0, 1, 2 * factor, factor:-factor]
        np.testing.assert_allclose(np.diff(inside), 1 / factor, rtol=1e-12)
    assert ops.bilinear_kernel(4, 3, groups=3).shape == (3, 1, 4, 4)
    with pytest.raises(ValueError, match="integer of at least 1"):
        ops.bilinear_kernel(0)


@pytest.mark.cpu("calls the CPU's kernels by name")
def test_the_first_layer_does_not_compute_the_gradient_of_the_image(monkeypatch):
    import minidl.ops as rooms
    conv = rooms.Conv2d(padding=1)
    image = minidl.Tensor(np.ones((1, 1, 3, 3)))
    w = minidl.Tensor(np.ones((1, 1, 3, 3)), requires_grad=True)
    y = minidl.apply(conv, image, w)
    assert conv.needs == (False, True)
    assert conv.backward_cpu(np.ones(y.shape))[0] is None
    with plain_kernels():
        conv = rooms.Conv2d(padding=1)
        minidl.apply(conv, image, w)
        assert conv.backward(np.ones(y.shape))[0] is None


COSTLY = ["Multiply", "Divide", "MatMul", "Linear", "Conv2d", "ConvTranspose2d", "BatchNorm", "BatchNormEval"]


@pytest.mark.parametrize("op", [op for op in OPS if op.__name__ in COSTLY], ids=lambda op: op.__name__)
def test_costly_operations_skip_the_gradient_of_a_first_input_that_needs_none(op):
    inputs, options = next(op.samples(np.random.default_rng(0)))
    for forward, backward in ("forward", "backward"), ("forward_cpu", "backward_cpu"):
        function = op(**options)
        function.needs = (False,) + (True,) * (len(inputs) - 1)
        if getattr(function, forward) is not None:
            y = getattr(function, forward)(*inputs)
            gradients = getattr(function, backward)(np.ones(y.shape))
            assert gradients[0] is None
            assert all(dx is not None for dx in gradients[1:])


@pytest.mark.parametrize("op", [op for op in OPS if op.__name__ in ("Conv2d", "ConvTranspose2d", "Linear", "MatMul")],
                         ids=lambda op: op.__name__)
def test_a_frozen_weight_lets_the_input_go(op):
    inputs, options = next(op.samples(np.random.default_rng(0)))
    function = op(**options)
    function.needs = (True, False, False)[: len(inputs)]
    function.forward(*inputs)
    assert not any(value is inputs[0] for value in vars(function).values())
