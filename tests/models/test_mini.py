"""The mini nets: their tables of layers counted by hand, their gradients checked, members of their families."""
import numpy as np
import pytest

import minidl
from minidl import nn, ops
from minidl.models import MINI_NETS, Classifier, googlenet, mini_inception, mini_resnet, mini_vgg, resnet_cifar, vgg11_bn
from minidl.models.googlenet import Inception, Unit
from minidl.models.resnet import BasicBlock
from minidl.show import count_multiply_adds, count_parameters

# (kernel, input channels, output channels, output positions) of every convolution at width 1, written down from the papers'
# tables with the nets' units; none of these numbers was copied from a run.
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
BIASES = {"vgg": 12 + 24 + 24 + 48 + 48, "inception": 0, "resnet": 0}  # VGG's convolutions keep theirs under batch norm


@pytest.mark.parametrize("name", TABLES)
def test_parameters_are_those_of_the_layer_table(name):
    convolutions, features = TABLES[name]
    expected = sum(k * k * i * o + 2 * o for k, i, o, _ in convolutions) + BIASES[name]  # 2: batch norm's scale and shift
    expected += features * 10 + 10
    assert count_parameters(MINI_NETS[name]()) == expected


@pytest.mark.parametrize("name", TABLES)
def test_multiply_adds_are_those_of_the_layer_table(name):
    convolutions, features = TABLES[name]
    expected = sum(k * k * i * o * positions for k, i, o, positions in convolutions) + features * 10
    assert count_multiply_adds(MINI_NETS[name](), (1, 28, 28)) == expected


def test_the_totals_are_those_that_the_tables_add_up_to():
    # 9 * (12 + 12 * 24 + 24 * 24 + 24 * 48 + 48 * 48) = 38988; 3 * 156 for bias, scale and shift; 432 * 10 + 10
    assert count_parameters(mini_vgg()) == 38_988 + 468 + 4_330 == 43_786


def test_the_smallest_net_is_small_enough_to_add_up_by_head():
    # width 1 / 12: 3x3 kernels 1->1, 1->2, 2->2, 2->4, 4->4 = 9 * 31; bias, scale and shift 3 * 13; classifier 36 * 10 + 10
    assert count_parameters(mini_vgg(width=1 / 12)) == 9 * 31 + 39 + 370


@pytest.mark.parametrize("name", MINI_NETS)
@pytest.mark.parametrize(("num_classes", "in_channels", "width"), [(10, 1, 1 / 12), (3, 2, 1 / 6)])
def test_knobs_reach_the_first_and_the_last_layer(name, num_classes, in_channels, width):
    net = MINI_NETS[name](num_classes=num_classes, in_channels=in_channels, width=width)
    y = net(np.zeros((2, in_channels, 28, 28), np.float32))
    assert y.shape == (2, num_classes)
    assert y.dtype == np.float32
    channels = [layer.out_channels for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    assert channels[0] == round(12 * width)


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
    net = MINI_NETS[name](num_classes=3, width=1 / 12, image_size=12).train(training).to(dtype=np.float64)
    x = np.random.default_rng(4).standard_normal((2, 1, 12, 12))
    shake_batch_norm(net)
    report = minidl.gradcheck(net, [x], parameters=net.named_parameters(), max_elements=2, projections=1)
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
        states.append(MINI_NETS[name](width=1 / 12).state_dict())
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][key], err_msg=key)


def test_a_residual_block_whose_convolutions_are_zero_passes_its_input_on():
    net = mini_resnet(width=1 / 6)
    block = net.layer1[1]
    block.bn2.weight.data *= 0  # batch norm's scale: F(x) = 0
    x = np.random.default_rng(0).uniform(0, 1, (2, 2, 14, 14)).astype(np.float32)
    np.testing.assert_array_equal(block(x).numpy(), x)


def test_an_inception_module_puts_its_branches_one_behind_the_other():
    net = mini_inception(width=1 / 12).eval()
    module = net.inception3a
    x = np.random.default_rng(0).uniform(0, 1, (2, 2, 7, 7)).astype(np.float32)
    y = module(x).numpy()
    parts = [branch(x).numpy() for branch in (module.branch1, module.branch2, module.branch3, module.branch4)]
    assert [part.shape[1] for part in parts] == [2, 4, 1, 1]
    np.testing.assert_array_equal(y, np.concatenate(parts, axis=1))


def test_they_are_members_of_their_families():
    """Of the same blocks, under the same names: what a reader learns here holds there."""
    assert all(type(build()) is Classifier for build in MINI_NETS.values())
    big, small = vgg11_bn(width=1 / 64), mini_vgg()
    assert [name for name, _ in small.named_children()] == [name for name, _ in big.named_children()]
    assert [type(layer) for layer in small.features[:4]] == [type(layer) for layer in big.features[:4]]

    big, small = googlenet(variant="torchvision", aux=False, width=1 / 64), mini_inception()
    assert type(small.inception3a) is type(big.inception3a) is Inception
    assert type(small.conv1) is type(big.conv1) is Unit
    assert list(small.inception3b.state_dict()) == list(big.inception3b.state_dict())

    big, small = resnet_cifar(14), mini_resnet()  # two blocks in each stage
    assert [name for name, _ in small.named_children()] == [name for name, _ in big.named_children()]
    assert {type(block) for stage in (small.layer1, small.layer2, small.layer3) for block in stage} == {BasicBlock}
    projections = {f"layer{i}.0.downsample.{j}" for i in (2, 3) for j in (0, 1)}  # option B, where the big one pads
    assert {name.rpartition(".")[0] for name in set(small.state_dict()) - set(big.state_dict())} == projections
    assert set(big.state_dict()) <= set(small.state_dict())


@pytest.mark.parametrize(("name", "layers"), [
    ("vgg", "conv bn relu pool conv bn relu conv bn relu pool conv bn relu conv bn relu pool"),
    ("inception", "conv1 conv2 maxpool2 inception3a inception3b avgpool flatten fc"),
    ("resnet", "conv1 bn1 relu layer1 layer2 layer3 avgpool flatten fc"),
])
def test_layers_follow_each_other_as_in_the_table(name, layers):
    net = MINI_NETS[name]()
    kinds = {nn.Conv2d: "conv", nn.BatchNorm2d: "bn", nn.ReLU: "relu", nn.MaxPool2d: "pool"}
    if name == "vgg":
        assert [kinds[type(layer)] for layer in net.features] == layers.split()
        assert [type(layer) for layer in net.classifier] == [nn.Linear]  # one fully connected layer, nothing dropped
    else:
        assert [child for child, _ in net.named_children()] == layers.split()
