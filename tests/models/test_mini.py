"""The mini nets: their tables of layers counted by hand, their gradients checked, their inputs refused."""
import numpy as np
import pytest

import minidl
from minidl import nn, ops
from minidl.models import MINI_NETS, mini_inception, mini_resnet, mini_vgg
from minidl.show import count_multiply_adds, count_parameters

# (kernel, input channels, output channels, output positions) of every convolution at the default width, written down
# from the papers' tables with the nets' units; none of these numbers was copied from a run.
VGG = [(3, 1, 12, 28 * 28), (3, 12, 24, 14 * 14), (3, 24, 24, 14 * 14), (3, 24, 48, 7 * 7), (3, 48, 48, 7 * 7)]


def _inception_module(channels):
    """1x1 to 24; 1x1 to 24, 3x3 to 48; 1x1 to 6, 5x5 to 12; pool, 1x1 to 12: 96 channels at 7x7."""
    return [(1, channels, 24, 49), (1, channels, 24, 49), (3, 24, 48, 49), (1, channels, 6, 49), (5, 6, 12, 49),
            (1, channels, 12, 49)]


INCEPTION = [(3, 1, 12, 14 * 14), (3, 12, 24, 14 * 14), *_inception_module(24), *_inception_module(96)]
RESNET = [
    (3, 1, 12, 14 * 14),
    *[(3, 12, 12, 14 * 14)] * 4,  # two blocks of two
    (3, 12, 24, 7 * 7), (3, 24, 24, 7 * 7), (1, 12, 24, 7 * 7), *[(3, 24, 24, 7 * 7)] * 2,  # the 1x1 is the shortcut
    (3, 24, 48, 4 * 4), (3, 48, 48, 4 * 4), (1, 24, 48, 4 * 4), *[(3, 48, 48, 4 * 4)] * 2,
]
TABLES = {"vgg": (VGG, 48 * 3 * 3), "inception": (INCEPTION, 96), "resnet": (RESNET, 48)}


@pytest.mark.parametrize("name", TABLES)
def test_parameters_are_those_of_the_layer_table(name):
    convolutions, features = TABLES[name]
    expected = sum(k * k * i * o + 2 * o for k, i, o, _ in convolutions)  # no bias, but batch norm's scale and shift
    expected += features * 10 + 10
    assert count_parameters(MINI_NETS[name]()) == expected


@pytest.mark.parametrize("name", TABLES)
def test_multiply_adds_are_those_of_the_layer_table(name):
    convolutions, features = TABLES[name]
    expected = sum(k * k * i * o * positions for k, i, o, positions in convolutions) + features * 10
    assert count_multiply_adds(MINI_NETS[name](), (1, 28, 28)) == expected


def test_the_smallest_net_is_small_enough_to_add_up_by_head():
    # width 1: 3x3 kernels 1->1, 1->2, 2->2, 2->4, 4->4 = 9 * 31; batch norm 2 * 13; classifier 36 * 10 + 10
    assert count_parameters(mini_vgg(width=1)) == 9 * 31 + 26 + 370


@pytest.mark.parametrize("name", MINI_NETS)
@pytest.mark.parametrize(("num_classes", "in_channels", "width"), [(10, 1, 1), (3, 2, 2)])
def test_knobs_reach_the_first_and_the_last_layer(name, num_classes, in_channels, width):
    net = MINI_NETS[name](num_classes=num_classes, in_channels=in_channels, width=width)
    y = net(np.zeros((2, in_channels, 28, 28), np.float32))
    assert y.shape == (2, num_classes)
    assert y.dtype == np.float32


def shake_batch_norm(net):
    """Moves scales, shifts and running statistics off 1 and 0, where mistakes hide and ReLUs sit on their kink."""
    rng = np.random.default_rng(6)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            C = module.num_features
            module.weight.data, module.bias.data = (
                a for a in (rng.uniform(0.5, 1.5, C), rng.standard_normal(C) / 2))
            module.running_mean, module.running_var = (
                a for a in (rng.standard_normal(C) / 2, rng.uniform(0.5, 1.5, C)))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", MINI_NETS)
def test_gradients_are_the_measured_slopes(name, training):
    minidl.manual_seed(3)
    net = MINI_NETS[name](num_classes=3, width=1).train(training).to(dtype=np.float64)
    x = np.random.default_rng(4).standard_normal((2, 1, 28, 28))
    shake_batch_norm(net)
    report = minidl.gradcheck(net, [x], parameters=net.named_parameters(), max_elements=4, projections=2)
    assert report


@pytest.mark.parametrize("name", MINI_NETS)
def test_every_parameter_gets_a_gradient(name):
    minidl.manual_seed(0)
    net = MINI_NETS[name]()
    x = np.random.default_rng(0).standard_normal((4, 1, 28, 28)).astype(np.float32)
    ops.cross_entropy(net(x), np.array([0, 3, 9, 3])).backward()
    for parameter_name, parameter in net.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert np.abs(parameter.grad).max() > 0, parameter_name


@pytest.mark.parametrize("name", MINI_NETS)
def test_the_same_seed_gives_the_same_net(name):
    states = []
    for _ in range(2):
        minidl.manual_seed(5)
        states.append(MINI_NETS[name](width=1).state_dict())
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][key], err_msg=key)


def test_a_residual_block_whose_convolutions_are_zero_passes_its_input_on():
    net = mini_resnet(width=2)
    block = net[0][1]
    block.second[1].weight.data *= 0  # batch norm's scale: F(x) = 0
    x = np.random.default_rng(0).uniform(0, 1, (2, 2, 14, 14)).astype(np.float32)
    np.testing.assert_array_equal(block(x).numpy(), x)


def test_an_inception_module_puts_its_branches_one_behind_the_other():
    net = mini_inception(width=1).eval()
    module = net[0][3]
    x = np.random.default_rng(0).uniform(0, 1, (2, 4, 7, 7)).astype(np.float32)
    y = module(x).numpy()
    parts = [branch(x).numpy() for branch in (module.one, module.three, module.five, module.pool)]
    assert [part.shape[1] for part in parts] == [4, 8, 2, 2]
    np.testing.assert_array_equal(y, np.concatenate(parts, axis=1))


@pytest.mark.parametrize("build", [mini_vgg, mini_inception, mini_resnet])
@pytest.mark.parametrize(("options", "words"), [
    (dict(width=0), "width must be an integer of at least 1, got 0"),
    (dict(num_classes=-1), "num_classes"),
    (dict(in_channels=True), "in_channels"),
])
def test_knobs_that_make_no_net_are_refused_by_its_name(build, options, words):
    with pytest.raises((TypeError, ValueError), match=words) as caught:
        build(**options)
    assert build.__name__ in str(caught.value)
