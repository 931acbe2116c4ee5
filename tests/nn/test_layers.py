"""Layers: every operation has one, each does what its operation does, and constructors refuse nonsense."""
import numpy as np
import pytest

from minidl import nn, ops
from minidl.autograd import Tensor, no_grad, watch
from minidl.randomness import manual_seed

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((2, 4, 6, 7)).astype(np.float32)
ROWS = RNG.standard_normal((5, 4)).astype(np.float32)
LABELS = np.array([0, 3, 1, 1, 2])

# layer, its inputs, the shape of its output
EXAMPLES = [
    (lambda: nn.Identity(), (IMAGES,), (2, 4, 6, 7)),
    (lambda: nn.Flatten(), (IMAGES,), (2, 168)),
    (lambda: nn.Flatten(0, 1), (IMAGES,), (8, 6, 7)),
    (lambda: nn.Linear(4, 3), (ROWS,), (5, 3)),
    (lambda: nn.Linear(4, 3, bias=False), (ROWS,), (5, 3)),
    (lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(0, 1), groups=2), (IMAGES,), (2, 6, 2, 8)),
    (lambda: nn.Conv2d(4, 3, 1, bias=False), (IMAGES,), (2, 3, 6, 7)),
    (lambda: nn.ConvTranspose2d(4, 6, (3, 2), stride=(2, 1), padding=(0, 1), output_padding=(1, 0), groups=2), (IMAGES,),
     (2, 6, 14, 6)),
    (lambda: nn.BilinearUpsample2d(4, 3), (IMAGES,), (2, 4, 18, 21)),
    (lambda: nn.ReLU(), (IMAGES,), (2, 4, 6, 7)),
    (lambda: nn.LeakyReLU(0.2), (IMAGES,), (2, 4, 6, 7)),
    (lambda: nn.Sigmoid(), (IMAGES,), (2, 4, 6, 7)),
    (lambda: nn.Tanh(), (IMAGES,), (2, 4, 6, 7)),
    (lambda: nn.Softmax(dim=1), (IMAGES,), (2, 4, 6, 7)),
    (lambda: nn.LogSoftmax(dim=1), (IMAGES,), (2, 4, 6, 7)),
    (lambda: nn.MaxPool2d((3, 2), (2, 1), padding=(1, 0)), (IMAGES,), (2, 4, 3, 6)),
    (lambda: nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False), (IMAGES,), (2, 4, 3, 4)),
    (lambda: nn.AdaptiveAvgPool2d((2, 3)), (IMAGES,), (2, 4, 2, 3)),
    (lambda: nn.LocalResponseNorm(3, alpha=0.5), (IMAGES,), (2, 4, 6, 7)),
    (lambda: nn.LRN(alpha=0.5), (IMAGES,), (2, 4, 6, 7)),
    (lambda: nn.BatchNorm2d(4), (IMAGES,), (2, 4, 6, 7)),
    (lambda: nn.BatchNorm2d(4).eval(), (IMAGES,), (2, 4, 6, 7)),
    (lambda: nn.BatchNorm1d(4), (ROWS,), (5, 4)),
    (lambda: nn.Dropout(0.3), (IMAGES,), (2, 4, 6, 7)),
    (lambda: nn.Crop((2, 3), (4, 1)), (IMAGES,), (2, 4, 2, 3)),
    (lambda: nn.Unfold((3, 2), padding=(1, 0), stride=2), (IMAGES,), (2, 24, 9)),
    (lambda: nn.Fold((4, 5), (2, 3), stride=2), (RNG.standard_normal((2, 12, 4)).astype(np.float32),), (2, 2, 4, 5)),
    (lambda: nn.CrossEntropyLoss(), (ROWS, LABELS), ()),
    (lambda: nn.MSELoss(), (ROWS, ROWS + 1), ()),
]
NAMES = [repr(make()) for make, _, _ in EXAMPLES]


@pytest.mark.parametrize("make, inputs, shape", EXAMPLES, ids=NAMES)
def test_the_output_has_the_documented_shape_and_the_inputs_dtype(make, inputs, shape):
    layer = make()
    y = layer(*inputs)
    assert y.shape == shape
    assert y.dtype == np.float32, f"{layer} returned {y.dtype}"
    wide = layer.to(dtype=np.float64)(*(x.astype(np.float64) if x.dtype.kind == "f" else x for x in inputs))
    assert wide.dtype == np.float64


@pytest.mark.parametrize("make, inputs, shape", EXAMPLES, ids=NAMES)
def test_gradients_reach_the_input_and_every_trained_parameter(make, inputs, shape):
    layer, x = make(), Tensor(inputs[0], requires_grad=True)
    y = layer(x, *inputs[1:])
    y.backward(np.random.default_rng(1).standard_normal(y.shape).astype(np.float32))
    for tensor in (x, *(p for p in layer.parameters() if p.requires_grad)):
        assert tensor.grad is not None and np.abs(tensor.grad).sum() > 0, f"{layer}: {tensor.shape}"


@pytest.mark.parametrize("make, inputs, shape", EXAMPLES, ids=NAMES)
def test_a_layer_gives_the_same_on_every_device(make, inputs, shape, device):
    layer = make()
    state = layer.state_dict()
    moved = make().to(device)
    moved.load_state_dict(state)
    manual_seed(0)
    expected = layer(*inputs).numpy()
    manual_seed(0)
    y = moved(*(Tensor(x).to(device) for x in inputs))
    assert y.device == device
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-4, atol=1e-5)
    for key, value in layer.state_dict().items():
        np.testing.assert_allclose(moved.state_dict()[key], value, rtol=1e-4, atol=1e-5, err_msg=key)


def test_every_operation_has_a_layer():
    used = set()
    for make, inputs, _ in EXAMPLES:
        with watch(lambda function, arrays, y: used.add(type(function))):
            make()(*inputs)
    arithmetic = {function for function in ops.OPS if function.__module__.startswith("minidl.arithmetic")}
    left_out = set(ops.OPS) - arithmetic - used
    assert not left_out, f"no layer for {sorted(f.__name__ for f in left_out)}: write one, and an example above"


def test_every_public_function_of_ops_is_called_by_a_layer_module():
    import minidl.nn.activations
    import minidl.nn.layers
    import minidl.nn.losses
    import minidl.nn.normalization
    import minidl.nn.windows
    rooms = (minidl.nn.activations, minidl.nn.layers, minidl.nn.losses, minidl.nn.normalization, minidl.nn.windows)
    left_out = [name for name in ops.__all__ if name != "OPS" and not any(hasattr(room, name) for room in rooms)]
    assert not left_out, f"no layer calls {left_out}"


def test_every_layer_has_an_example():
    shown = {type(make()).__name__ for make, _, _ in EXAMPLES}
    others = {"Module", "Parameter", "LoadReport", "Sequential", "ModuleList", "init"}
    assert set(nn.__all__) == shown | others


def test_options_arrive_at_the_operation():
    x = Tensor(IMAGES)
    pairs = [
        (nn.MaxPool2d((3, 2), (2, 1), (1, 0), ceil_mode=True)(x), ops.max_pool2d(x, (3, 2), (2, 1), (1, 0), True)),
        (nn.AvgPool2d((3, 2), (2, 1), (1, 0), True, False)(x), ops.avg_pool2d(x, (3, 2), (2, 1), (1, 0), True, False)),
        (nn.LRN(3, 1.5, 0.5, 0.6)(x), ops.lrn(x, 3, 1.5, 0.5, 0.6)),
        (nn.LocalResponseNorm(3, 0.5, 0.6, 1.5)(x), ops.local_response_norm(x, 3, 0.5, 0.6, 1.5)),
        (nn.Crop((2, 3), (4, 1))(x), ops.crop(x, (2, 3), (4, 1))),
        (nn.Unfold((3, 2), padding=(1, 0), stride=(2, 1))(x), ops.im2col(x, (3, 2), (2, 1), (1, 0))),
        (nn.LeakyReLU(-0.5)(x), ops.leaky_relu(x, -0.5)),
        (nn.Softmax(2)(x), ops.softmax(x, 2)),
        (nn.LogSoftmax(2)(x), ops.log_softmax(x, 2)),
        (nn.CrossEntropyLoss(ignore_index=1)(ROWS, LABELS), ops.cross_entropy(ROWS, LABELS, ignore_index=1)),
    ]
    for layer, operation in pairs:
        np.testing.assert_array_equal(layer.numpy(), operation.numpy())


def test_the_keys_are_pytorchs():
    assert list(nn.Conv2d(1, 2, 3).state_dict()) == ["weight", "bias"]
    assert list(nn.Conv2d(1, 2, 3, bias=False).state_dict()) == ["weight"]
    assert nn.Conv2d(1, 2, 3, bias=False).bias is None
    assert list(nn.BatchNorm2d(2).state_dict()) == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert nn.Conv2d(4, 6, (3, 2), groups=2).weight.shape == (6, 2, 3, 2)
    assert nn.ConvTranspose2d(4, 6, (3, 2), groups=2).weight.shape == (4, 3, 3, 2)


def test_flatten_keeps_an_empty_batch():
    assert nn.Flatten()(np.zeros((0, 3, 2, 2), np.float32)).shape == (0, 12)


# --- modes ---------------------------------------------------------------------------------------------------------


def test_dropout_drops_in_training_only_and_keeps_the_mean():
    manual_seed(3)
    layer, x = nn.Dropout(0.25), np.ones((100, 100), np.float32)
    y = layer(x).numpy()
    assert abs((y == 0).mean() - 0.25) < 0.02 and np.allclose(y[y != 0], 1 / 0.75)
    assert np.array_equal(layer.eval()(x).numpy(), x)


def test_batch_norm_moves_its_statistics_in_training_only():
    layer, x = nn.BatchNorm2d(4, eps=0.01, momentum=0.3), IMAGES.astype(np.float64) * 2 + 1
    layer.to(dtype=np.float64)
    y = layer(x).numpy()
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(layer.running_mean, 0.3 * x.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(layer.running_var, 0.7 + 0.3 * x.var(axis=(0, 2, 3), ddof=1), rtol=1e-12)
    assert int(layer.num_batches_tracked) == 1
    before = layer.state_dict()
    y = layer.eval()(x).numpy()
    assert all(np.array_equal(before[k], a) for k, a in layer.state_dict().items())
    mean, var = (a[:, None, None] for a in (layer.running_mean, layer.running_var))
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 0.01), rtol=1e-12)


def test_a_refused_batch_does_not_count():
    layer = nn.BatchNorm1d(4)
    with pytest.raises(ValueError, match="at least two values"):
        layer(ROWS[:1])
    assert int(layer.num_batches_tracked) == 0
    assert layer.eval()(ROWS[:1]).shape == (1, 4)


def test_batch_norm_takes_sequences_in_one_dimension():
    x = RNG.standard_normal((3, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(nn.BatchNorm1d(4)(x).numpy(), nn.BatchNorm2d(4)(x[:, :, None]).numpy()[:, :, 0], rtol=1e-6)


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_bilinear_upsampling_keeps_constants_and_ramps_inside(factor):
    layer = nn.BilinearUpsample2d(2, factor)
    ramp = np.broadcast_to(np.arange(6, dtype=np.float32), (1, 2, 5, 6))
    y = layer(ramp).numpy()
    assert y.shape == (1, 2, 5 * factor, 6 * factor)
    inside = y[:, :, factor:-factor, factor:-factor]
    expected = (np.arange(6 * factor) + 0.5) / factor - 0.5  # pixel centres
    np.testing.assert_allclose(inside, np.broadcast_to(expected[factor:-factor], inside.shape), rtol=1e-5, atol=1e-5)


def test_bilinear_upsampling_learns_only_when_asked():
    assert not nn.BilinearUpsample2d(2, 2).weight.requires_grad
    assert nn.BilinearUpsample2d(2, 2, learned=True).weight.requires_grad
    assert list(nn.BilinearUpsample2d(2, 2).state_dict()) == ["weight"]
    assert len(list(nn.BilinearUpsample2d(2, 2).parameters())) == 1


def test_no_grad_records_nothing_through_a_net():
    net = nn.Sequential(nn.Conv2d(4, 2, 3), nn.Flatten(), nn.Linear(40, 2))
    with no_grad():
        assert not net(IMAGES).requires_grad
    assert net(IMAGES).requires_grad


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make, error, words", [
    (lambda: nn.Linear(0, 3), ValueError, "Linear: in_features must be an integer of at least 1, got 0"),
    (lambda: nn.Linear(3, 2.0), TypeError, "out_features must be an integer"),
    (lambda: nn.Linear(3, True), TypeError, "got the bool True"),
    (lambda: nn.Linear(3, 2, 5), TypeError, "bias must be True or False"),
    (lambda: nn.Conv2d(3, 2, 0), ValueError, "Conv2d: kernel_size must be at least 1"),
    (lambda: nn.Conv2d(3, 2, (3, 3, 3)), TypeError, "pair"),
    (lambda: nn.Conv2d(3, 2, 3, stride=0), ValueError, "stride must be at least 1"),
    (lambda: nn.Conv2d(3, 2, 3, padding="same"), TypeError, "padding must be an integer or a pair"),
    (lambda: nn.Conv2d(3, 2, 3, padding=-1), ValueError, "padding must be at least 0"),
    (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "groups must divide in_channels and out_channels"),
    (lambda: nn.Conv2d(4, 4, 3, groups=0), ValueError, "groups must be an integer of at least 1"),
    (lambda: nn.Conv2d("3", 4, 3), TypeError, "in_channels must be an integer"),
    (lambda: nn.ConvTranspose2d(3, 2, 3, output_padding=1), ValueError, "output_padding must be smaller than stride"),
    (lambda: nn.ConvTranspose2d(4, 3, 3, groups=2), ValueError, "groups must divide"),
    (lambda: nn.BilinearUpsample2d(3, 1.5), TypeError, "factor must be an integer"),
    (lambda: nn.BilinearUpsample2d(3, 2, learned=1), TypeError, "learned must be True or False"),
    (lambda: nn.MaxPool2d(2, padding=2), ValueError, "at most half of kernel_size"),
    (lambda: nn.AvgPool2d(2, ceil_mode=3), TypeError, "ceil_mode must be True or False"),
    (lambda: nn.AvgPool2d(0), ValueError, "kernel_size must be at least 1"),
    (lambda: nn.AdaptiveAvgPool2d(None), TypeError, "output_size must be an integer"),
    (lambda: nn.BatchNorm2d(0), ValueError, "num_features"),
    (lambda: nn.BatchNorm2d(3, momentum=1.5), ValueError, "momentum must be a finite number between 0 and 1"),
    (lambda: nn.BatchNorm2d(3, momentum=None), TypeError, "momentum must be a finite number"),
    (lambda: nn.BatchNorm1d(3, eps=-1), ValueError, "eps"),
    (lambda: nn.Dropout(1.0), ValueError, "use p < 1"),
    (lambda: nn.Dropout(-0.1), ValueError, "probability of dropping"),
    (lambda: nn.Dropout("0.5"), TypeError, "probability of dropping"),
    (lambda: nn.LRN(0), ValueError, "n must be an integer of at least 1"),
    (lambda: nn.LRN(alpha=float("nan")), ValueError, "alpha must be a finite number"),
    (lambda: nn.LocalResponseNorm(2.5), TypeError, "size must be an integer"),
    (lambda: nn.LeakyReLU("a"), TypeError, "negative_slope"),
    (lambda: nn.Softmax(1.0), TypeError, "Softmax: dim must be an integer"),
    (lambda: nn.LogSoftmax(None), TypeError, "LogSoftmax: dim must be an integer"),
    (lambda: nn.Crop(0), ValueError, "Crop: size"),
    (lambda: nn.Crop(2, -1), ValueError, "Crop: offset"),
    (lambda: nn.Unfold(0), ValueError, "Unfold: kernel_size"),
    (lambda: nn.Fold(4, 0), ValueError, "Fold: kernel_size"),
    (lambda: nn.Flatten("1"), TypeError, "start_dim"),
    (lambda: nn.CrossEntropyLoss(ignore_index=0.5), TypeError, "ignore_index must be an integer"),
])
def test_constructors_refuse(make, error, words):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize("layer, x, words", [
    (nn.BatchNorm2d(4), ROWS, r"BatchNorm2d: x must be images \(N, C, H, W\), got shape \(5, 4\).*BatchNorm1d takes"),
    (nn.BatchNorm1d(4), IMAGES, r"BatchNorm1d: x must be \(N, C\) or \(N, C, L\), got shape .*BatchNorm2d takes images"),
    (nn.BatchNorm2d(7), IMAGES, "num_features is 7, but x .* has 4 channels: are the channels last"),
    (nn.BatchNorm2d(3), IMAGES, "num_features is 3, but x"),
    (nn.Flatten(), np.zeros(3, np.float32), "Flatten: axes 1 to -1 are asked for, but x has 1"),
    (nn.Flatten(2, 1), IMAGES, "swap them"),
    (nn.Conv2d(3, 2, 3), IMAGES, "x has 4 channels but w expects 3"),
    (nn.Linear(3, 2), ROWS, "must end in 3 features"),
])
def test_layers_refuse_inputs_that_do_not_fit(layer, x, words):
    with pytest.raises(ValueError, match=words):
        layer(x)
