"""Batch norm folded into convolutions: the same scores, a copy, and nothing folded that must not be."""
import numpy as np
import pytest
from operation_checks import relative_error

import minidl
from minidl import models, nn
from minidl.autograd import Tensor
from minidl.nn.module import Module

NETS = {
    "vgg-a": dict(batch_norm=True, width=1 / 16, num_classes=4, image_size=64),
    "googlenet-torchvision": dict(width=1 / 8, num_classes=5, image_size=96),
    "resnet18": dict(width=1 / 8, num_classes=5, image_size=64), "resnet50": dict(width=1 / 16, num_classes=5, image_size=64),
    "resnet20-cifar": {}, "plain20-cifar": {}, "alexnet-torchvision": dict(width=1 / 16, image_size=95),
}


def randomise(net, seed=0):
    """Scales, shifts and statistics that batch norm shows with."""
    rng = np.random.default_rng(seed)
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            module.bias.data = rng.standard_normal(module.bias.shape).astype(np.float32)
        if hasattr(module, "running_mean"):
            n = module.weight.shape
            module.weight.data, module.bias.data = (rng.uniform(0.5, 2, n).astype(np.float32) for _ in range(2))
            module.running_mean, module.running_var = (rng.uniform(0.5, 2, n).astype(np.float32) for _ in range(2))
    return net


def batch_norms(net):
    return [module for module in net.modules() if hasattr(module, "running_mean")]


@pytest.mark.parametrize("name", NETS)
def test_a_fused_net_gives_the_same_scores(name):
    net = randomise(models.build(name, **NETS[name])).to(dtype=np.float64)
    before = net.state_dict()
    x = np.random.default_rng(1).standard_normal((2, 3, net.image_size, net.image_size))
    fused = net.fuse()
    with minidl.no_grad():
        want = net.eval()(x).numpy()
        got, again = fused(x).numpy(), fused(x).numpy()
    assert relative_error(got, want) <= 1e-12 and np.array_equal(got, again)
    assert list(before) == list(net.state_dict()) and all(np.array_equal(v, before[k]) for k, v in net.state_dict().items())
    assert not any(module.training for module in fused.modules())
    heads = [head for attribute, head in net.named_children() if attribute.startswith("aux")]
    left = len(batch_norms(net)) - sum(len(batch_norms(head)) for head in heads)
    assert sum(module.folded for module in fused.modules() if isinstance(module, (nn.BatchNorm2d,))) == left


class Net(Module):
    """conv -> bn, with something that may stand in the way."""

    def __init__(self, forward, groups=1, bias=True):
        self.conv = nn.Conv2d(4, 6, 3, groups=groups, bias=bias) if groups == 1 else nn.Conv2d(4, 6, 3, groups=groups)
        self.bn, self.run, self.relu = nn.BatchNorm2d(6), forward, nn.ReLU()

    def forward(self, x):
        return self.run(self, x)


def outputs_of(returned):
    if isinstance(returned, Tensor):
        return [returned.numpy()]
    return [x for part in (returned.values() if isinstance(returned, dict) else returned) for x in outputs_of(part)]


CASES = {
    "conv, bn": (lambda net, x: net.bn(net.conv(x)), True),
    "conv, relu, bn": (lambda net, x: net.bn(net.relu(net.conv(x))), False),
    "the convolution's output is used twice": (lambda net, x: (y := net.conv(x)) + net.bn(y), False),
    "the batch norm is used twice": (lambda net, x: net.bn(net.bn(net.conv(x))), False),
    "the convolution is used twice": (lambda net, x: net.bn(net.conv(x)) + net.conv(x), False),
    "the convolution's output is returned": (lambda net, x: (lambda y: (net.bn(y), y))(net.conv(x)), False),
    "the convolution's output is returned in a dictionary": (
        lambda net, x: (lambda y: {"scores": net.bn(y), "maps": [y]})(net.conv(x)), False),
    "the batch norm's input is a sum": (lambda net, x: net.bn(net.conv(x) + 1.0), False),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("groups", [1, 2])
def test_only_a_batch_norm_right_behind_a_convolution_is_folded(case, groups):
    forward, folds = CASES[case]
    net = randomise(Net(forward, groups)).to(dtype=np.float64).eval()
    x = np.random.default_rng(2).standard_normal((2, 4, 7, 7))
    fused = net.fuse(image_size=7)
    assert fused.bn.folded is folds and not net.bn.folded
    with minidl.no_grad():
        for got, want in zip(outputs_of(fused(x)), outputs_of(net(x)), strict=True):
            assert relative_error(got, want) <= 1e-13


def test_relu_works_in_place_only_where_nobody_else_reads():
    net = Net(lambda net, x: (y := net.bn(net.conv(x))) + net.relu(y))
    assert not net.fuse(image_size=7).relu.inplace
    net = Net(lambda net, x: net.relu(net.bn(net.conv(x))))
    assert net.fuse(image_size=7).relu.inplace and not net.relu.inplace
    net = Net(lambda net, x: (lambda y: (net.relu(y), y))(net.bn(net.conv(x))))
    assert not net.fuse(image_size=7).relu.inplace, "what relu is given is returned as well"
    net = Net(lambda net, x: net.bn(net.conv(net.relu(x))))
    image = np.full((1, 4, 7, 7), -1.0, np.float32)
    with minidl.no_grad():
        net.fuse(image_size=7)(Tensor(image))
    assert (image == -1).all(), "the user's image was written into"


def test_a_net_that_does_not_know_its_image_size_asks_for_it():
    with pytest.raises(ValueError, match=r"fuse: Sequential is run once .* give image_size=.*, a whole number or .*, got None"):
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).fuse()
    for wrong in (0, 2.5, "32", True, (8,), (8, 0), (8, 8.0)):
        with pytest.raises(ValueError, match="image_size"):
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).fuse(image_size=wrong)


def test_images_may_be_wider_than_high():
    class Wide(nn.Module):
        def __init__(self):
            self.conv, self.bn, self.linear = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4 * 4 * 8, 5)

        def forward(self, x):
            return self.linear(self.bn(self.conv(x)).reshape(len(x), -1))

    net = randomise(Wide()).eval()
    image = np.random.default_rng(3).standard_normal((1, 3, 6, 10)).astype(np.float32)
    fused = net.fuse(image_size=(6, 10))
    assert fused.bn.folded and relative_error(fused(image).numpy(), net(image).numpy()) <= 1e-5


def test_a_folded_batch_norm_says_so():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).fuse(image_size=8)
    assert "folded into the convolution" in repr(net) and "1.weight" not in net.state_dict()


class Unbiased(nn.Conv2d):
    """A layer of a student's own, which has no use for a bias."""

    def forward(self, x):
        return minidl.ops.conv2d(x, self.weight, None, self.stride, self.padding)


def test_layers_of_ones_own_are_left_alone():
    net = randomise(nn.Sequential(Unbiased(4, 6, 3, bias=False), nn.BatchNorm2d(6))).to(dtype=np.float64).eval()
    x = np.random.default_rng(3).standard_normal((2, 4, 7, 7))
    with minidl.no_grad():
        assert relative_error(net.fuse(image_size=7)(x).numpy(), net(x).numpy()) <= 1e-13


def test_what_was_frozen_stays_frozen():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    for parameter in net.parameters():
        parameter.requires_grad = False
    assert not any(p.requires_grad for p in net.fuse(image_size=8).parameters())
