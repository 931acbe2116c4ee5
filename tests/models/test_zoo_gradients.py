"""Whole networks against measured slopes: backward of every family, end to end, in float64.

    family      quick                                       slow, in both modes
    ----------  ------------------------------------------  -----------------------------------------------------------
    AlexNet     paper, torchvision; eval, train             the same with another seed, more elements and directions;
    VGG         A, A-LRN, B-shallow, C-bn; eval, train      and B, C, D, E, A-bn
    GoogLeNet   paper; train: three outputs                 and torchvision with transform_input, and both without heads
    ResNet      18 A; two stages of bottlenecks with        and 18 B, 18 C, 34, 50 A, 50 B with the paper's strides, 50 C
                option A and the paper's stride, two with
                projections (C); eval, train
    plain       18; eval, train                             and 34
    CIFAR       resnet 14 A, plain 14; eval, train          and resnet 20 B, 20 C
    FCN         8s, learned kernels; train                  and 32s, 16s, 8s with fixed and with learned kernels
    sliding     VGG-A on a larger image; eval
    mini nets   in test_mini.py

Checked are the image and every parameter that learns: small ones element by element, others along random directions. All
weights are drawn anew (`redraw`), for score layers start at 0 and batch norms at 1 and 0. Dropout is on in training.
"""
import math
from typing import Any, NamedTuple

import numpy as np
import pytest

import minidl
from minidl import models, nn, ops
from minidl.autograd import Tensor
from minidl.models.resnet import Bottleneck, stage
from minidl.train import classification_loss


class Case(NamedTuple):
    """A net and its images (N, C, H, W), whose pixels have standard deviation `scale`."""

    make: Any
    shape: tuple[int, int, int, int]
    scale: float = 1.0


S = 1 / 16
BIG = 50.0  # LRN adds alpha = 1e-4 times a sum of squares to 2: with smaller pixels it would be a constant factor


def vgg(config, **options):
    return lambda: models.vgg(config, 3, width=S, image_size=32, **options)


def resnet(depth, **options):
    return lambda: models.resnet(depth, 3, width=S, **options)


def cifar(depth, **options):
    return lambda: models.resnet_cifar(depth, 3, width=1 / 4, **options)


def fcn(stride, learned):
    return lambda: models.build(f"fcn{stride}s", num_classes=2, learned_upsampling=learned, width=1 / 32)


def googlenet(variant, size, **options):
    return lambda: models.googlenet(3, variant=variant, width=1 / 8, image_size=size, **options)


def bottlenecks(**options):
    """Two stages, behind a convolution that gives them 4 channels."""
    return lambda: nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), stage(Bottleneck, 4, 2, 2, 1, **options),
                                 stage(Bottleneck, 8, 4, 2, 2, **options))


# Small images keep few ReLUs near their kinks. Five of them: batch norm over the three 1x1 maps of three would be nearly a
# step function, whose slope no step of float64 can measure behind twenty others.
CASES = {
    "alexnet": Case(lambda: models.alexnet(3, width=S, image_size=67), (2, 3, 67, 69), BIG),
    "alexnet-torchvision": Case(lambda: models.alexnet(3, variant="torchvision", width=S, image_size=63), (2, 3, 63, 66)),
    "vgg-A": Case(vgg("A"), (2, 3, 32, 37)),
    "vgg-A-LRN": Case(vgg("A-LRN"), (2, 3, 32, 37), BIG),
    "vgg-B-shallow": Case(vgg("B-shallow"), (2, 3, 32, 37)),
    "vgg-C-bn": Case(vgg("C", batch_norm=True), (5, 3, 32, 33)),
    "googlenet": Case(googlenet("paper", 80), (1, 3, 80, 79), BIG),
    "resnet18-A": Case(resnet(18, shortcut="A"), (5, 3, 17, 22)),
    "bottlenecks-A-paper": Case(bottlenecks(shortcut="A", stride_in="1x1"), (3, 3, 7, 10)),
    "bottlenecks-C": Case(bottlenecks(shortcut="C"), (3, 3, 7, 10)),
    "plain18": Case(lambda: models.plain(18, 3, width=S), (5, 3, 17, 22)),
    "resnet14-cifar": Case(cifar(14), (3, 3, 9, 11)),
    "plain14-cifar": Case(lambda: models.plain_cifar(14, 3, width=1 / 4), (3, 3, 9, 11)),
    "fcn8s, learned": Case(fcn(8, learned=True), (1, 3, 9, 12)),
}
SLOW = {
    "vgg-B": Case(vgg("B"), (2, 3, 32, 37)),
    "vgg-C": Case(vgg("C"), (2, 3, 32, 37)),
    "vgg-D": Case(vgg("D"), (2, 3, 32, 37)),
    "vgg-E": Case(vgg("E"), (2, 3, 32, 37)),
    "vgg-A-bn": Case(vgg("A", batch_norm=True), (5, 3, 33, 32)),
    "googlenet-torchvision": Case(googlenet("torchvision", 64, transform_input=True), (5, 3, 33, 35)),
    "googlenet without heads": Case(googlenet("paper", 64, aux=False), (1, 3, 64, 63), BIG),
    "googlenet-torchvision without heads": Case(googlenet("torchvision", 64, aux=False), (5, 3, 33, 35)),
    "resnet18-B": Case(resnet(18), (5, 3, 33, 35)),
    "resnet18-C": Case(resnet(18, shortcut="C"), (5, 3, 33, 35)),
    "resnet34": Case(resnet(34), (5, 3, 33, 35)),
    "resnet50-A": Case(resnet(50, shortcut="A"), (5, 3, 33, 35)),
    "resnet50-paper": Case(resnet(50, stride_in="1x1"), (5, 3, 33, 35)),
    "resnet50-C": Case(resnet(50, shortcut="C"), (5, 3, 33, 35)),
    "plain34": Case(lambda: models.plain(34, 3, width=S), (5, 3, 33, 35)),
    "resnet20-cifar-B": Case(cifar(20, shortcut="B"), (3, 3, 9, 11)),
    "resnet20-cifar-C": Case(cifar(20, shortcut="C"), (3, 3, 9, 11)),
    "fcn8s": Case(fcn(8, learned=False), (1, 3, 9, 12)),
    **{f"fcn{stride}s{', learned' if learned else ''}": Case(fcn(stride, learned), (1, 3, 9, 12))
       for stride in (32, 16) for learned in (False, True)},
}


def redraw(net, x, rng):
    """Weights with which signals stay of order 1, none of them 0; statistics of the batch x, shaken."""
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            C = module.num_features
            module.weight.data, module.bias.data = rng.uniform(0.5, 1.5, C), rng.uniform(-0.5, 0.5, C)
        elif isinstance(module, nn.ConvTranspose2d):
            if module.weight.requires_grad:
                module.weight.data = module.weight.data + rng.standard_normal(module.weight.shape) * 0.1
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            w = module.weight
            w.data = rng.standard_normal(w.shape) * math.sqrt(2 / w[0].size)
            if module.bias is not None:
                module.bias.data = rng.uniform(0, 0.3, module.bias.shape)
    for norm in norms:
        norm.momentum = 1.0
    net.train()(x)
    for norm in norms:
        norm.momentum = 0.1
        norm.running_mean = norm.running_mean + np.sqrt(norm.running_var) * rng.uniform(-0.3, 0.3, norm.num_features)
        norm.running_var = norm.running_var * rng.uniform(0.6, 1.5, norm.num_features)


def drawn(case, seed):
    """The net, float64, with weights of its own, and x."""
    rng = np.random.default_rng(seed)
    net = case.make().to(dtype=np.float64)
    redraw(net, case.scale * rng.standard_normal((16, *case.shape[1:])), rng)
    return net, case.scale * rng.standard_normal(case.shape)


def same_masks(net, seed):
    """net(x), whose dropout drops the same elements at every call."""
    def f(x):
        minidl.manual_seed(seed)
        return net(x)

    return f


def taken_off_again(net):
    """Names of the biases of convolutions in front of a batch norm: training takes their gradient away."""
    features = list(getattr(net, "features", ()))
    return {f"features.{i}.bias" for i, after in enumerate(features[1:]) if isinstance(after, nn.BatchNorm2d)}


# A step along a direction moves a thousand ReLUs of every layer: of 1e-6, it would take some across their kink. With 1e-8 the
# slope of an output of order 1 is known to 1e-16 / 1e-8 = 1e-8 times what the net makes of a rounding error: some ten for most
# nets, up to a thousand where twenty batch norms follow one another. Slopes are of order 0.1 to 1000.
STEP = dict(eps=1e-8, atol=1e-5, rtol=1e-4)


def check(case, training, seed, **options):
    """gradcheck; and the frozen parameters get no gradient, all others one that is not 0."""
    net, x = drawn(case, seed)
    net.train(training)
    f = same_masks(net, seed)
    learned = {name: p for name, p in net.named_parameters() if p.requires_grad}
    frozen = {name: p for name, p in net.named_parameters() if not p.requires_grad}
    minidl.gradcheck(f, [x], parameters=learned, seed=seed, **STEP, **options)

    outputs = f(Tensor(x, requires_grad=True))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    rng = np.random.default_rng(seed)
    sum((y * rng.standard_normal(y.shape)).sum() for y in outputs).backward()
    sizes = {name: 0.0 if p.grad is None else abs(p.grad).max() for name, p in learned.items()}
    nothing = {name for name, size in sizes.items() if size < 1e-6 * max(sizes.values())}
    idle = taken_off_again(net) if training else {name for name in learned if name.startswith("aux")}
    assert nothing <= idle, f"no gradient arrives at {nothing - idle}"
    assert all(p.grad is None for p in frozen.values())


modes = {False: "eval", True: "train"}


@pytest.mark.parametrize("name, training", [(name, training) for name in CASES for training in modes
                                            if training or not name.startswith(("googlenet", "fcn"))],
                         ids=lambda value: modes.get(value, value))
def test_the_gradient_of_a_whole_net_is_the_measured_slope(name, training):
    check(CASES[name], training, seed=0, max_elements=2, projections=1)


@pytest.mark.slow
@pytest.mark.parametrize("training", modes, ids=modes.values())
@pytest.mark.parametrize("name", [*CASES, *SLOW])
def test_so_it_is_for_the_whole_family_and_another_seed(name, training):
    """A kink within the step, or a branch without a living ReLU, is a matter of the draw; a mistake is in all of them."""
    for draws_left in (2, 1, 0):
        try:
            check({**CASES, **SLOW}[name], training, seed=1 + draws_left, max_elements=4, projections=2)
            return
        except AssertionError:
            if not draws_left:
                raise


def test_a_net_that_slides_has_the_gradient_of_a_convolution():
    net, x = drawn(CASES["vgg-A"]._replace(shape=(1, 3, 64, 97)), 0)
    sliding = models.to_fully_convolutional(net).eval()
    assert sliding(x).shape == (1, 3, 2, 3)
    minidl.gradcheck(sliding, [x], parameters=sliding.named_parameters(), max_elements=8, projections=2, **STEP)


@pytest.mark.parametrize("stride, kernels", [(32, 1), (16, 2), (8, 3)])
def test_kernels_that_only_interpolate_get_no_gradient(stride, kernels):
    net, x = drawn(Case(fcn(stride, learned=False), (1, 3, 9, 12)), 0)
    net(x).sum().backward()
    without = [name for name, p in net.named_parameters() if p.grad is None]
    assert len(without) == kernels and all(name.startswith("upscore") for name in without)


# --- GoogLeNet's heads -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant, size", [("paper", 80), ("torchvision", 48)])
def test_the_losses_of_googlenets_heads_reach_the_stem_with_weight_0_3(variant, size):
    """Section 5: gradient of the loss = gradient of the net's own loss + .3 * gradient of both heads' losses."""
    net, x = drawn(Case(googlenet(variant, size), (4, 3, size, size), BIG if variant == "paper" else 1.0), 0)
    labels = np.array([0, 2, 1, 2])
    names = ("conv1.conv.weight", "inception4a.branch2.1.conv.weight", "inception4d.branch1.conv.weight")

    def gradients(loss):
        net.zero_grad()
        loss(same_masks(net, 0)(x)).backward()
        return {name: p.grad for name, p in net.named_parameters() if name in names}

    together = gradients(lambda outputs: classification_loss(outputs, labels))
    own = gradients(lambda outputs: ops.cross_entropy(outputs[0], labels))
    heads = gradients(lambda outputs: ops.cross_entropy(outputs[1], labels) + ops.cross_entropy(outputs[2], labels))
    for name in names:
        expected = own[name] + 0.3 * heads[name]
        assert abs(together[name] - expected).max() <= 1e-10 * abs(expected).max(), name
        assert abs(heads[name]).max() > 1e-3 * abs(own[name]).max() > 0, f"{name}: the heads add nothing"


@pytest.mark.parametrize("head, last", [("aux1", "4a"), ("aux2", "4d")])
def test_a_head_teaches_only_the_layers_below_it(head, last):
    net, x = drawn(Case(googlenet("paper", 80), (2, 3, 80, 80), BIG), 0)
    _, *heads = same_masks(net, 0)(x)
    ops.cross_entropy(heads[head == "aux2"], np.array([0, 2])).backward()
    modules = ["3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"]
    for name in modules:
        taught = getattr(net, f"inception{name}").branch1.conv.weight.grad is not None
        assert taught == (modules.index(name) <= modules.index(last)), name
    assert net.fc.weight.grad is None
