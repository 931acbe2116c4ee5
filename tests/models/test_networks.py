"""What the nets do: shapes, heads and dropout, checkpoints of others, shortcuts, knobs that are refused, first losses."""
import math
import os
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest

import minidl
from minidl import nn, ops
from minidl.models import (
    Classifier,
    alexnet,
    build,
    fcn8s,
    googlenet,
    mini_inception,
    mini_resnet,
    mini_vgg,
    plain,
    plain_cifar,
    resnet,
    resnet18,
    resnet34,
    resnet50,
    resnet_cifar,
    vgg,
    vgg11,
)
from minidl.models.googlenet import Branches, Inception
from minidl.models.resnet import BasicBlock, Bottleneck, PlainBlock, ZeroPadShortcut, make_shortcut

SMALL = 1 / 16


def images(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def shaken(net, seed=6):
    """Batch norm with scales, shifts and statistics of a trained net: at 1 and 0 mistakes would not show."""
    rng = np.random.default_rng(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            C, dtype = module.num_features, module.weight.dtype
            module.weight.data, module.bias.data = rng.uniform(0.5, 1, C).astype(dtype), rng.normal(0, 0.2, C).astype(dtype)
            module.running_mean, module.running_var = rng.normal(0, 0.2, C).astype(dtype), rng.uniform(1, 2, C).astype(dtype)
    return net


# --- shapes ------------------------------------------------------------------------------------------------------------

# (name, sides to build for, whether its layers need the size that it was built for)
SHAPES = [
    ("alexnet", (67, 99), True), ("alexnet-torchvision", (63, 95), False),
    ("vgg-a", (32, 64), False), ("vgg-a-lrn", (32,), False), ("vgg-b-shallow", (45,), False), ("vgg-c", (32, 33), False),
    ("vgg16-bn", (32,), False), ("googlenet", (85, 96), True), ("googlenet-torchvision", (48, 64), False),
    ("resnet18", (32, 49), False), ("resnet50", (33,), False), ("resnet50-paper", (33,), False), ("plain34", (40,), False),
    ("resnet20-cifar", (32, 19), False), ("plain20-cifar", (32,), False),
    ("mini-vgg", (28, 17), False), ("mini-inception", (28, 17), False), ("mini-resnet", (28, 17), False),
]


@pytest.mark.parametrize(("name", "side"), [(name, side) for name, sides, _ in SHAPES for side in sides])
def test_scores_have_one_row_per_image(name, side):
    net = build(name, num_classes=5, in_channels=2, width=SMALL, image_size=side).eval()
    assert (net.image_size, net.in_channels) == (side, 2)
    for N in (1, 3):
        y = net(images(N, 2, side, side))
        assert (y.shape, y.dtype) == ((N, 5), np.float32)
        assert np.isfinite(y.numpy()).all()


@pytest.mark.parametrize("name", [name for name, _, fixed in SHAPES if not fixed])
def test_nets_with_adaptive_pooling_take_larger_and_oblong_images(name):
    side = max(max(sides) for n, sides, _ in SHAPES if n == name)
    net = build(name, num_classes=5, width=SMALL, in_channels=3, image_size=side).eval()
    with minidl.shapes_only():
        assert net(images(2, 3, side + 37, side + 74)).shape == (2, 5)


@pytest.mark.parametrize("name", [name for name, _, fixed in SHAPES if fixed])
def test_nets_without_it_refuse_images_of_other_sizes(name):
    side = max(max(sides) for n, sides, _ in SHAPES if n == name)
    net = build(name, num_classes=5, width=SMALL, image_size=side).eval()
    with minidl.shapes_only(), pytest.raises(ValueError, match="linear"):
        net(images(2, 3, side + 64, side + 64))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_have_the_dtype_of_the_net(dtype):
    for name in ("alexnet", "vgg-c", "resnet18", "mini-inception"):
        net = build(name, num_classes=3, in_channels=3, width=SMALL, image_size=67).eval().to(dtype=dtype)
        assert net(images(1, 3, 67, 67, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize(("width", "channels"), [(1, 64), (0.5, 32), (2, 128), (1 / 3, 21), (1e-6, 1)])
def test_width_is_a_factor_for_the_channels_of_every_hidden_layer(width, channels):
    with nn.init.no_values():
        assert vgg11(width=width, image_size=32).features[0].out_channels == channels
        net = resnet18(5, width=width)
    assert (net.conv1.out_channels, net.fc.in_features, net.fc.out_features) == (channels, max(1, round(512 * width)), 5)


def test_alexnets_channels_stay_even_so_that_two_groups_share_them():
    for width in (1e-6, 0.013, 1 / 3, 0.999):
        with nn.init.no_values():
            net = alexnet(width=width)
        assert all(net_layer.out_channels % 2 == 0 for net_layer in (net.conv1, net.conv2, net.conv3, net.conv4, net.conv5))


# --- names -------------------------------------------------------------------------------------------------------------


def test_layers_go_by_the_papers_names():
    net = alexnet(width=SMALL)
    assert [name for name, _ in net.named_children()] == [
        "conv1", "relu1", "norm1", "pool1", "conv2", "relu2", "norm2", "pool2", "conv3", "relu3", "conv4", "relu4",
        "conv5", "relu5", "pool5", "flatten", "fc6", "relu6", "drop6", "fc7", "relu7", "drop7", "fc8"]
    assert [name for name, _ in resnet18(width=SMALL).named_children()] == [
        "conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "flatten", "fc"]
    assert [name for name, _ in resnet_cifar(width=SMALL).named_children()] == [
        "conv1", "bn1", "relu", "layer1", "layer2", "layer3", "avgpool", "flatten", "fc"]
    assert [name for name, _ in vgg11(width=SMALL).named_children()] == ["features", "avgpool", "flatten", "classifier"]


CONVOLUTIONS_OF_VGG = {  # where PyTorch users find them
    ("A", False): (0, 3, 6, 8, 11, 13, 16, 18), ("B", False): (0, 2, 5, 7, 10, 12, 15, 17, 20, 22),
    ("D", False): (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    ("E", False): (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34),
    ("A", True): (0, 4, 8, 11, 15, 18, 22, 25), ("B", True): (0, 3, 7, 10, 14, 17, 21, 24, 28, 31),
    ("D", True): (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40),
    ("E", True): (0, 3, 7, 10, 14, 17, 20, 23, 27, 30, 33, 36, 40, 43, 46, 49),
}


@pytest.mark.parametrize(("config", "batch_norm"), CONVOLUTIONS_OF_VGG)
def test_vgg_keys_are_torchvisions(config, batch_norm):
    keys = list(vgg(config, width=SMALL, batch_norm=batch_norm).state_dict())
    expected = []
    for i in CONVOLUTIONS_OF_VGG[config, batch_norm]:
        expected += [f"features.{i}.weight", f"features.{i}.bias"]
        if batch_norm:
            expected += [f"features.{i + 1}.{part}" for part in (
                "weight", "bias", "running_mean", "running_var", "num_batches_tracked")]
    expected += [f"classifier.{i}.{part}" for i in (0, 3, 6) for part in ("weight", "bias")]
    assert keys == expected


@pytest.mark.parametrize(("name", "entries"), [
    ("alexnet-torchvision", 16), ("googlenet-torchvision", 364), ("resnet18", 122), ("resnet34", 218), ("resnet50", 320),
    ("resnet101", 626), ("resnet152", 932)])
def test_state_dicts_have_as_many_entries_as_torchvisions(name, entries):
    with nn.init.no_values():
        assert len(build(name, width=SMALL).state_dict()) == entries


def test_keys_of_the_other_families_are_torchvisions():
    keys = set(alexnet(variant="torchvision", width=SMALL).state_dict())
    assert keys == {f"features.{i}.{part}" for i in (0, 3, 6, 8, 10) for part in ("weight", "bias")} | {
        f"classifier.{i}.{part}" for i in (1, 4, 6) for part in ("weight", "bias")}
    keys = set(googlenet(variant="torchvision", width=SMALL).state_dict())
    assert {"conv1.conv.weight", "conv3.bn.running_var", "inception3a.branch1.conv.weight", "inception5b.branch2.1.bn.weight",
            "inception4e.branch3.0.conv.weight", "inception4a.branch4.1.bn.bias", "aux1.conv.conv.weight", "aux2.fc1.bias",
            "aux2.fc2.weight", "fc.weight"} <= keys
    assert len(googlenet(variant="torchvision", aux=False, width=SMALL).state_dict()) == 344
    keys = set(resnet50(width=SMALL).state_dict())
    assert {"conv1.weight", "bn1.num_batches_tracked", "layer1.0.downsample.0.weight", "layer1.0.downsample.1.running_mean",
            "layer4.2.conv3.weight", "layer4.2.bn3.bias", "fc.bias"} <= keys
    assert not any("layer1.0.downsample" in key for key in resnet34(width=SMALL).state_dict())


@pytest.mark.parametrize("net", [alexnet(width=SMALL), resnet18(width=SMALL), resnet_cifar(width=SMALL), mini_vgg()],
                         ids=["alexnet", "resnet", "cifar", "mini_vgg"])
def test_a_part_of_a_classifier_is_a_sequential_of_the_same_layers(net):
    start = net[:4]
    assert type(start) is nn.Sequential
    assert isinstance(net, Classifier)
    assert [id(layer) for layer in start] == [id(layer) for layer in list(net.children())[:4]]
    side = net.image_size
    assert net[:2](images(1, net.in_channels, side, side)).ndim == 4


# --- GoogLeNet ---------------------------------------------------------------------------------------------------------


def small_googlenet(num_classes=5, **options):
    return googlenet(num_classes, width=SMALL, image_size=96, **options)


@pytest.mark.parametrize("variant", ["paper", "torchvision"])
def test_googlenet_gives_three_scores_in_training_and_one_in_evaluation(variant):
    net = small_googlenet(variant=variant)
    x = images(2, 3, 96, 96)
    logits, aux1, aux2 = net.train()(x)
    assert (logits.shape, aux1.shape, aux2.shape) == ((2, 5), (2, 5), (2, 5))
    assert net.eval()(x).shape == (2, 5)
    without = small_googlenet(variant=variant, aux=False)
    assert without.aux1 is None and without.aux2 is None
    assert without.train()(x).shape == (2, 5)


def test_googlenets_heads_hang_on_4a_and_on_4d():
    """Zero weights behind a module take its gradient from the head that is said to hang there, and from that alone."""
    net = small_googlenet(variant="torchvision")
    for head, last in ((0, "inception4a"), (1, "inception4d")):
        net.zero_grad()
        net.train()(images(2, 3, 96, 96))[head + 1].sum().backward()
        reached = {name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None}
        modules = ["inception3a", "inception3b", "inception4a", "inception4b", "inception4c", "inception4d", "inception4e"]
        assert reached == {"conv1", "conv2", "conv3", f"aux{head + 1}", *modules[: modules.index(last) + 1]}


def test_googlenets_scores_in_evaluation_do_not_depend_on_the_heads():
    minidl.manual_seed(0)
    net = small_googlenet().eval()
    without = small_googlenet(aux=False).eval()
    report = without.load_state_dict(net.state_dict(), strict=False)
    assert report.missing_keys == [] and {key.split(".")[0] for key in report.unexpected_keys} == {"aux1", "aux2"}
    x = images(2, 3, 96, 96)
    np.testing.assert_array_equal(without(x).numpy(), net(x).numpy())


def test_an_inception_module_puts_its_branches_one_behind_the_other():
    """In the order 1x1, 3x3, 5x5, pool; ReLU behind every convolution."""
    minidl.manual_seed(1)
    module = Inception(3, Branches(2, 3, 4, 1, 5, 6), batch_norm=False).eval()
    x = images(2, 3, 7, 6)
    y = module(x).numpy()
    parts = [branch(x).numpy() for branch in (module.branch1, module.branch2, module.branch3, module.branch4)]
    assert [part.shape for part in parts] == [(2, C, 7, 6) for C in (2, 4, 5, 6)]
    np.testing.assert_array_equal(y, np.concatenate(parts, axis=1))
    assert module.out_channels == 17
    layers = [type(layer).__name__ for layer in module.modules()]
    assert layers.count("ReLU") == layers.count("Conv2d") == 6
    assert min(part.min() for part in parts) == 0
    pool = module.branch4[0]
    assert (pool.kernel_size, pool.stride, pool.padding) == ((3, 3), (1, 1), (1, 1))


def test_googlenet_normalises_behind_pool1_and_before_pool2_with_alpha_by_5():
    net = small_googlenet()
    names = [name for name, _ in net.named_children()]
    assert names[:7] == ["conv1", "maxpool1", "norm1", "conv2", "conv3", "norm2", "maxpool2"]
    order = []
    with nn.calls.watch_calls(_noting(net, order)):
        net.eval()(images(1, 3, 96, 96))
    assert [name for name in order if name in names][:7] == names[:7]
    x = 30 * images(1, 8, 3, 3)  # far from 0, where the normalisation acts
    for norm in (net.norm1, net.norm2):
        expected = ops.lrn(minidl.Tensor(x), n=5, k=1, alpha=1e-4 / 5, beta=0.75).numpy()
        np.testing.assert_allclose(norm(x).numpy(), expected, rtol=1e-6)


def _noting(net, order):
    names = {id(module): name for name, module in net.named_modules()}

    @contextmanager
    def note(module):
        order.append(names[id(module)])
        yield

    return note


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_transform_input_turns_imagenets_normalisation_into_half_and_half(dtype):
    net = small_googlenet(variant="torchvision", transform_input=True).to(dtype=dtype)
    pixels = np.random.default_rng(0).random((2, 3, 4, 5)).astype(dtype)
    x = np.empty_like(pixels)
    for c, (mean, std) in enumerate(((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))):
        x[:, c] = (pixels[:, c] - mean) / std
    y = net.transformed(x)
    assert y.dtype == dtype
    np.testing.assert_allclose(y.numpy(), (pixels - 0.5) / 0.5, rtol=0, atol=5e-7)
    expected = np.stack([x[:, c] * (std / 0.5) + (mean - 0.5) / 0.5
                         for c, (mean, std) in enumerate(((0.485, 0.229), (0.456, 0.224), (0.406, 0.225)))], axis=1)
    np.testing.assert_allclose(y.numpy(), expected, rtol=0, atol=5e-7)


def test_transform_input_is_used_by_forward_and_off_by_default():
    minidl.manual_seed(0)
    net = small_googlenet(variant="torchvision").eval()
    x = images(1, 3, 96, 96)
    np.testing.assert_array_equal(net.transformed(x).numpy(), x)
    raw = net(x).numpy()
    net.transform_input = True
    transformed, y = net.transformed(x).numpy(), net(x).numpy()
    assert not np.allclose(y, raw)
    net.transform_input = False
    np.testing.assert_array_equal(net(transformed).numpy(), y)


@pytest.mark.parametrize("options", [{}, {"variant": "torchvision", "in_channels": 1}])
def test_transform_input_is_refused_where_it_means_nothing(options):
    with pytest.raises(ValueError, match=r"googlenet: transform_input belongs to variant 'torchvision' with 3 channels"):
        small_googlenet(transform_input=True, **options)


# --- dropout -----------------------------------------------------------------------------------------------------------


def kinds(net):
    return [type(layer).__name__ for layer in net]


def test_dropout_stands_where_each_family_has_it():
    net = alexnet(width=SMALL)
    assert kinds(net)[-7:] == ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]  # behind fc6 and fc7
    assert kinds(vgg11(width=SMALL).classifier) == kinds(net)[-7:]
    assert kinds(alexnet(variant="torchvision", width=SMALL).classifier) == [
        "Dropout", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Linear"]  # before them
    for net in (alexnet(width=SMALL), alexnet(variant="torchvision", width=SMALL), vgg11(width=SMALL)):
        assert [layer.p for layer in net.modules() if isinstance(layer, nn.Dropout)] == [0.5, 0.5]
    for variant, p in (("paper", 0.4), ("torchvision", 0.2)):
        net = small_googlenet(variant=variant)
        assert (net.dropout.p, net.aux1.dropout.p, net.aux2.dropout.p) == (p, 0.7, 0.7)
    assert kinds(net.aux1) == ["AdaptiveAvgPool2d", "Unit", "Flatten", "Linear", "ReLU", "Dropout", "Linear"]
    for net in (resnet18(width=SMALL), plain_cifar(width=SMALL)):
        assert not any(isinstance(layer, nn.Dropout) for layer in net.modules())


@pytest.mark.parametrize("variant", ["paper", "torchvision"])
def test_googlenet_drops_what_its_last_layer_reads_in_training_only(variant):
    net = googlenet(5, variant=variant, aux=False, image_size=48).eval()
    seen = []
    with minidl.watch(lambda function, inputs, y: seen.append((function.name, inputs[0]))):
        for mode in (True, False):
            net.dropout.training = mode
            net(images(1, 3, 48, 48))
    trained, evaluated = [x for name, x in seen if name == "linear"]
    scale = 1 / (1 - net.dropout.p)
    kept = trained != 0
    np.testing.assert_allclose(trained[kept], scale * evaluated[kept], rtol=1e-5)
    p, dropped = net.dropout.p, 1 - kept.sum() / (evaluated != 0).sum()
    assert abs(dropped - p) < 5 * math.sqrt(p * (1 - p) / (evaluated != 0).sum())  # five standard deviations


# --- checkpoints of others ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["alexnet", "vgg16-bn", "googlenet", "resnet18", "plain20-cifar", "mini-resnet"])
def test_a_prefix_of_pytorchs_dataparallel_is_taken_off(name):
    net = build(name, num_classes=3, width=SMALL)
    state = {f"module.{key}": x + 1 for key, x in net.state_dict().items()}
    assert net.load_state_dict(state) == ([], [])
    for key, x in net.state_dict().items():
        np.testing.assert_array_equal(x, state[f"module.{key}"], err_msg=key)


def test_a_prefix_that_only_some_keys_have_is_left_on():
    net = resnet_cifar(8, width=SMALL)
    state = net.state_dict()
    state["module.fc.weight"] = state.pop("fc.weight")
    with pytest.raises(ValueError, match=r"unexpected: module\.fc\.weight"):
        net.load_state_dict(state)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("build_net", [resnet_cifar, plain_cifar])
def test_cifar_nets_read_checkpoints_whose_last_layer_is_called_linear(build_net, prefix):
    net = build_net(8, width=SMALL)
    state = {f"{prefix}{key.replace('fc.', 'linear.')}": x + 1 for key, x in net.state_dict().items()}
    assert {f"{prefix}linear.weight", f"{prefix}linear.bias"} <= set(state)
    before = set(state)
    assert net.load_state_dict(state) == ([], [])
    assert set(state) == before  # the caller's mapping is left alone
    np.testing.assert_array_equal(net.fc.weight.numpy(), state[f"{prefix}linear.weight"])
    np.testing.assert_array_equal(net.fc.bias.numpy(), state[f"{prefix}linear.bias"])


def test_cifar_nets_rename_nothing_else():
    net = resnet_cifar(8, width=SMALL)
    others = ["head.linear.weight", "mylinear.weight", "linear.scale", "linear.weight.old", "layer1.0.linear.bias", "linear"]
    state = net.state_dict() | dict.fromkeys(others, np.zeros(1, np.float32))
    assert net.load_state_dict(state, strict=False).unexpected_keys == others
    with pytest.raises(ValueError, match=r"unexpected: linear\.weight"):  # nor do ImageNet's nets
        resnet18(width=SMALL).load_state_dict({"linear.weight": np.zeros((1000, 32), np.float32)})


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_bias_of_conv1_goes_into_the_mean_that_bn1_subtracts(prefix):
    minidl.manual_seed(0)
    net = shaken(resnet50(5, stride_in="1x1", width=SMALL, image_size=32)).eval()
    bias = np.random.default_rng(0).standard_normal(net.conv1.out_channels).astype(np.float32)
    state = net.state_dict()
    x = images(2, 3, 32, 32)
    # the net that the checkpoint is of: conv1 adds its bias
    with_bias = resnet50(5, stride_in="1x1", width=SMALL, image_size=32).eval()
    with_bias.load_state_dict(state)
    with_bias.conv1 = nn.Conv2d(3, net.conv1.out_channels, 7, stride=2, padding=3)
    with_bias.conv1.weight.data, with_bias.conv1.bias.data = state["conv1.weight"], bias
    expected = with_bias(x).numpy()
    assert not np.allclose(net(x).numpy(), expected, rtol=1e-3)

    given = {f"{prefix}{key}": value for key, value in (state | {"conv1.bias": bias}).items()}
    loaded = resnet50(5, stride_in="1x1", width=SMALL, image_size=32).eval()
    assert loaded.load_state_dict(given) == ([], [])
    assert f"{prefix}conv1.bias" in given  # the caller's mapping is left alone
    np.testing.assert_array_equal(given[f"{prefix}bn1.running_mean"], state["bn1.running_mean"])
    np.testing.assert_allclose(loaded(x).numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["vgg-a", "resnet18", "googlenet", "resnet20-cifar"])
def test_what_is_no_mapping_is_refused_as_everywhere(name):
    net = build(name, width=SMALL)
    for wrong in (net, None, [("fc.weight", 1)]):
        with pytest.raises(TypeError, match="load_state_dict: needs a mapping from names to arrays"):
            net.load_state_dict(wrong)
    with pytest.raises(ValueError, match="missing"):
        net.load_state_dict({})


# --- residual blocks ---------------------------------------------------------------------------------------------------


def positive(*shape):
    return np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)


def blocks_of(net):
    return [module for module in net.modules() if isinstance(module, (BasicBlock, Bottleneck))]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("make", [lambda **o: resnet(18, width=SMALL, **o), lambda **o: resnet(50, width=SMALL, **o),
                                  lambda **o: resnet_cifar(20, width=1 / 4, **o)], ids=["18", "50", "cifar"])
def test_zero_init_residual_starts_every_block_as_the_identity(make, training):
    """The lecture's sentence: set the weights to 0, and a block passes on what it is given (which is not negative)."""
    net = make(zero_init_residual=True).train(training)
    counted = 0
    for block in blocks_of(net):
        if isinstance(block.downsample, nn.Identity):
            x = positive(2, block.conv1.in_channels, 5, 4)
            np.testing.assert_array_equal(block(x).numpy(), x)
            counted += 1
    assert counted >= 5
    plain_start = make().train(training)
    block = next(block for block in blocks_of(plain_start) if isinstance(block.downsample, nn.Identity))
    x = positive(2, block.conv1.in_channels, 5, 4)
    assert not np.allclose(block(x).numpy(), x)


@pytest.mark.parametrize(("depth", "last", "blocks"), [(18, "bn2", (2, 2, 2, 2)), (50, "bn3", (3, 4, 6, 3))])
def test_zero_init_residual_draws_the_other_weights_as_without(depth, last, blocks):
    states = []
    for flag in (False, True):
        minidl.manual_seed(3)
        states.append(resnet(depth, width=SMALL, zero_init_residual=flag).state_dict())
    different = [key for key in states[0] if not np.array_equal(states[0][key], states[1][key])]
    assert different == [f"layer{i}.{j}.{last}.weight" for i, n in enumerate(blocks, 1) for j in range(n)]
    assert not any(states[1][key].any() for key in different)


@pytest.mark.parametrize("make", [lambda: BasicBlock(4, 4), lambda: Bottleneck(16, 4)], ids=["basic", "bottleneck"])
def test_a_block_whose_last_convolution_is_zero_passes_its_input_on(make):
    block = make()
    last = block.conv3 if isinstance(block, Bottleneck) else block.conv2
    last.weight.data = np.zeros_like(last.weight.data)
    x = positive(2, last.out_channels, 6, 5)
    np.testing.assert_array_equal(block(x).numpy(), x)
    np.testing.assert_array_equal(block(x - 1).numpy(), 0 * x)  # what is negative meets the last ReLU


def test_a_plain_block_of_zeros_forgets_its_input():
    block = PlainBlock(4, 4)
    block.conv2.weight.data = np.zeros_like(block.conv2.weight.data)
    np.testing.assert_array_equal(block(positive(2, 4, 6, 5)).numpy(), 0)


def convolved(conv, x):
    return ops.conv2d(x, conv.weight, None, conv.stride, conv.padding).numpy()


def normed(bn, x):
    """Batch norm in evaluation, written out."""
    shape = (1, -1, 1, 1)
    mean, var, scale, shift = (a.reshape(shape) for a in (bn.running_mean, bn.running_var, bn.weight.data, bn.bias.data))
    return (x - mean) / np.sqrt(var + bn.eps) * scale + shift


@pytest.mark.parametrize("stride", [1, 2])
def test_blocks_compute_what_their_formulas_say(stride):
    minidl.manual_seed(2)
    x = images(2, 4, 7, 6, dtype=np.float64)
    relu = lambda a: np.maximum(a, 0)
    for block in (PlainBlock(4, 6, stride), BasicBlock(4, 6, stride), Bottleneck(4, 2, stride),
                  Bottleneck(4, 2, stride, stride_in="1x1")):
        shaken(block.eval().to(dtype=np.float64))
        y = normed(block.bn2, convolved(block.conv2, relu(normed(block.bn1, convolved(block.conv1, x)))))
        if isinstance(block, Bottleneck):
            y = normed(block.bn3, convolved(block.conv3, relu(y)))
        if type(block) is not PlainBlock:
            y = y + normed(block.downsample[1], convolved(block.downsample[0], x))
        np.testing.assert_allclose(block(x).numpy(), relu(y), rtol=1e-10, atol=1e-12)


# --- shortcuts ---------------------------------------------------------------------------------------------------------


def test_option_a_takes_every_second_pixel_and_puts_zeros_on_both_sides():
    x = np.arange(2 * 2 * 4 * 3, dtype=np.float32).reshape(2, 2, 4, 3)
    y = ZeroPadShortcut(2, 4, stride=2)(x).numpy()
    assert y.shape == (2, 4, 2, 2)
    np.testing.assert_array_equal(y[0], [
        [[0, 0], [0, 0]],
        [[0, 2], [6, 8]],      # rows 0 and 2, columns 0 and 2 of the first channel
        [[12, 14], [18, 20]],  # and of the second
        [[0, 0], [0, 0]],
    ])
    np.testing.assert_array_equal(y[1, [0, 3]], 0)


@pytest.mark.parametrize(("old", "new", "before"), [(2, 4, 1), (2, 5, 1), (3, 4, 0), (16, 32, 8), (3, 3, 0), (1, 8, 3)])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_option_a_shares_the_missing_channels_out_an_odd_one_goes_behind(old, new, before, stride):
    x = images(2, old, 7, 8)
    y = ZeroPadShortcut(old, new, stride)(x).numpy()
    expected = np.zeros((2, new, math.ceil(7 / stride), math.ceil(8 / stride)), np.float32)
    expected[:, before : before + old] = x[:, :, ::stride, ::stride]
    np.testing.assert_array_equal(y, expected)


def test_option_a_hands_gradients_back_to_the_pixels_that_it_took():
    x = images(2, 3, 5, 4, dtype=np.float64)
    assert minidl.gradcheck(ZeroPadShortcut(3, 8, stride=2), [x])


@pytest.mark.parametrize(("option", "same", "wider", "strided"), [
    ("A", "Identity", "ZeroPadShortcut", "ZeroPadShortcut"),
    ("B", "Identity", "Sequential", "Sequential"),
    ("C", "Sequential", "Sequential", "Sequential"),
])
def test_options_differ_in_where_they_project(option, same, wider, strided):
    made = [make_shortcut(option, *sizes) for sizes in ((8, 8, 1), (8, 16, 1), (8, 8, 2))]
    assert [type(shortcut).__name__ for shortcut in made] == [same, wider, strided]
    for shortcut, (in_channels, out_channels, stride) in zip(made, ((8, 8, 1), (8, 16, 1), (8, 8, 2))):
        assert shortcut(images(1, in_channels, 6, 4)).shape == (1, out_channels, 6 // stride, 4 // stride)
        if isinstance(shortcut, nn.Sequential):
            conv, norm = shortcut
            assert (conv.kernel_size, conv.stride, conv.bias) == ((1, 1), (stride, stride), None)
            assert isinstance(norm, nn.BatchNorm2d)


@pytest.mark.parametrize("option", ["A", "B", "C"])
@pytest.mark.parametrize("make", [
    lambda option: resnet(18, 3, shortcut=option, width=SMALL, image_size=33),
    lambda option: resnet(50, 3, shortcut=option, width=SMALL, image_size=33),
    lambda option: resnet_cifar(14, 3, shortcut=option, width=3 / 16, image_size=9)], ids=["18", "50", "cifar"])
def test_every_option_runs_on_odd_maps_and_reaches_every_block(make, option):
    net = make(option)
    kinds_ = [type(block.downsample).__name__ for block in blocks_of(net)]
    assert (kinds_.count("Identity") == 0) == (option == "C")
    assert ("ZeroPadShortcut" in kinds_) == (option == "A")
    y = net(images(2, 3, net.image_size, net.image_size))
    ops.cross_entropy(y, np.array([0, 2])).backward()
    assert all(p.grad is not None and np.isfinite(p.grad).all() for p in net.parameters())


def test_stride_in_the_first_1x1_skips_pixels_that_the_3x3_would_see():
    """With stride in the first 1x1, pixels at odd places do not matter to the block at all."""
    x = images(1, 8, 6, 6)
    changed = x.copy()
    changed[:, :, 1::2, 1::2] += 1
    for stride_in, same in (("1x1", True), ("3x3", False)):
        block = Bottleneck(8, 2, stride=2, stride_in=stride_in).eval()
        assert np.array_equal(block(x).numpy(), block(changed).numpy()) == same


# --- knobs -------------------------------------------------------------------------------------------------------------

FAMILIES = {
    "alexnet": alexnet, "vgg": vgg11, "googlenet": googlenet, "resnet": resnet18, "plain": lambda *a, **o: plain(18, *a, **o),
    "resnet_cifar": lambda *a, **o: resnet_cifar(8, *a, **o), "plain_cifar": lambda *a, **o: plain_cifar(8, *a, **o),
    "fcn8s": fcn8s, "mini_vgg": mini_vgg, "mini_inception": mini_inception, "mini_resnet": mini_resnet,
}
KNOBS = [
    ({"width": 0}, ValueError, "width must be a factor for the channels, above 0 and at most 64, got 0"),
    ({"width": -1}, ValueError, "width must be a factor .* got -1"),
    ({"width": 65}, ValueError, "width must be a factor .* got 65"),
    ({"width": "1"}, TypeError, "width must be a finite number, got '1'"),
    ({"width": True}, TypeError, "width must be a finite number, got True"),
    ({"width": math.nan}, ValueError, "width must be a finite number, got nan"),
    ({"width": math.inf}, ValueError, "width must be a finite number, got inf"),
    ({"num_classes": 0}, ValueError, "num_classes must be an integer of at least 1, got 0"),
    ({"num_classes": 2.5}, TypeError, r"num_classes must be an integer of at least 1, got 2\.5"),
    ({"num_classes": "10"}, TypeError, "num_classes must be an integer of at least 1, got '10'"),
    ({"in_channels": 0}, ValueError, "in_channels must be an integer of at least 1, got 0"),
    ({"in_channels": True}, TypeError, "in_channels must be an integer of at least 1, got the bool True"),
    ({"image_size": 0}, ValueError, "image_size must be an integer of at least 1, got 0"),
    ({"image_size": 32.0}, TypeError, r"image_size must be an integer of at least 1, got 32\.0"),
]


@pytest.mark.parametrize(("family", "options", "error", "words"), [
    (family, *knob) for family in FAMILIES for knob in KNOBS
    if not (family == "fcn8s" and "image_size" in knob[0])])  # an FCN takes images of every size
def test_knobs_that_make_no_net_are_refused_by_its_name(family, options, error, words):
    with pytest.raises(error, match=f"^{family}: {words}"):
        FAMILIES[family](**options)


@pytest.mark.parametrize(("make", "words"), [
    (lambda: vgg("F"), r"^vgg: config must be 'A' or .* or 'E', got 'F'"),
    (lambda: vgg(16), "^vgg: config must be 'A' or .* got 16"),
    (lambda: vgg("D", batch_norm="yes"), "^vgg: batch_norm must be True or False, got 'yes'"),
    (lambda: alexnet(variant="papr"), "^alexnet: variant must be 'paper' or 'torchvision', got 'papr'"),
    (lambda: googlenet(variant="v2"), "^googlenet: variant must be 'paper' or 'torchvision', got 'v2'"),
    (lambda: googlenet(aux=1), "^googlenet: aux must be True or False, got 1"),
    (lambda: resnet(20), "^resnet: depth must be one of 18, 34, 50, 101, 152, got 20; .* resnet_cifar"),
    (lambda: resnet("50"), "^resnet: depth must be one of .* got '50'"),
    (lambda: resnet([50]), r"^resnet: depth must be one of .* got \[50\]"),
    (lambda: resnet(50, shortcut="D"), "^resnet: shortcut must be 'A' or 'B' or 'C', got 'D'"),
    (lambda: resnet(50, shortcut=None), "^resnet: shortcut must be 'A' or 'B' or 'C', got None"),
    (lambda: resnet(50, stride_in="5x5"), "^resnet: stride_in must be '3x3' or '1x1', got '5x5'"),
    (lambda: resnet18(zero_init_residual="no"), "^resnet: zero_init_residual must be True or False, got 'no'"),
    (lambda: plain(50), "^plain: depth must be 18 or 34, got 50; .* plain_cifar"),
    (lambda: plain([18]), r"^plain: depth must be 18 or 34, got \[18\]"),
    (lambda: resnet_cifar(21), r"^resnet_cifar: depth must be 6 n \+ 2 .* got 21: the next ones are 20 and 26"),
    (lambda: plain_cifar(51), r"^plain_cifar: depth must be 6 n \+ 2 .* got 51: the next ones are 50 and 56"),
    (lambda: plain_cifar(2), "^plain_cifar: depth must be an integer of at least 8, got 2"),
    (lambda: resnet_cifar(20.0), r"^resnet_cifar: depth must be an integer of at least 8, got 20\.0"),
    (lambda: resnet_cifar(shortcut="a"), "^resnet_cifar: shortcut must be 'A' or 'B' or 'C', got 'a'"),
    (lambda: resnet_cifar(zero_init_residual=0), "^resnet_cifar: zero_init_residual must be True or False, got 0"),
    (lambda: fcn8s(learned_upsampling="bilinear"), "^fcn8s: learned_upsampling must be True or False, got 'bilinear'"),
    (lambda: vgg11(image_size=31), "^vgg: image_size 31 is too small for its layers: max_pool2d"),
    (lambda: alexnet(image_size=60), "^alexnet: image_size 60 is too small for its layers"),
    (lambda: alexnet(variant="torchvision", image_size=62), "^alexnet: image_size 62 is too small for its layers"),
    (lambda: googlenet(image_size=64), "^googlenet: image_size 64 gives the auxiliary heads maps of 4x4, .*aux=False"),
    (lambda: googlenet(image_size=20, aux=False), "^googlenet: image_size 20 is too small for its layers"),
    (lambda: googlenet(image_size=10, variant="torchvision"), "^googlenet: image_size 10 is too small for its layers"),
    (lambda: mini_vgg(image_size=7), "^mini_vgg: image_size 7 is too small for its layers"),
])
def test_options_that_make_no_net_are_refused_by_its_name(make, words):
    with nn.init.no_values(), pytest.raises((TypeError, ValueError), match=words):
        make()


@pytest.mark.parametrize(("make", "side"), [
    (lambda side: vgg11(image_size=side, width=SMALL), 32), (lambda side: alexnet(image_size=side, width=SMALL), 67),
    (lambda side: alexnet(image_size=side, width=SMALL, variant="torchvision"), 63),
    (lambda side: googlenet(image_size=side, width=SMALL), 79)], ids=["vgg", "alexnet", "torchvision", "googlenet"])
def test_the_smallest_images_that_are_allowed_work(make, side):
    assert make(side).eval()(images(1, 3, side, side)).shape == (1, 1000)
    with pytest.raises(ValueError, match="image_size"):
        make(side - 1)


# --- first values ------------------------------------------------------------------------------------------------------

NORMALISED = ["googlenet-torchvision", "resnet18", "resnet50", "plain18", "resnet20-cifar", "plain20-cifar", "mini-inception",
              "mini-resnet"]
CLASSIFIERS = ["alexnet", "alexnet-torchvision", "vgg-a", "vgg-b-shallow", "vgg16-bn", "googlenet", "mini-vgg", *NORMALISED]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_last_layer_starts_small(name):
    minidl.manual_seed(0)
    net = build(name, width=1 / 4, num_classes=100, image_size=96)
    lasts = [module for module in net.modules() if isinstance(module, nn.Linear) and module.out_features == 100]
    assert len(lasts) == (3 if name.startswith("googlenet") else 1)
    for last in lasts:
        n = last.weight.size  # the standard deviation of n drawn numbers is itself known to 1 / sqrt(2 n)
        assert abs(np.std(last.weight.numpy()) / 0.01 - 1) < 5 / math.sqrt(2 * n)
        assert not last.bias.numpy().any()


@pytest.mark.parametrize("name", NORMALISED)
def test_the_first_loss_is_that_of_guessing(name):
    """In training: batch norm and the average pool keep features near 1, and the last weights are small."""
    minidl.manual_seed(0)
    net = build(name, width=1 / 8, num_classes=7, in_channels=3, image_size=96)
    y = net(images(4, 3, 96, 96))
    for scores in y if isinstance(y, tuple) else [y]:
        loss = float(ops.cross_entropy(scores, np.array([0, 6, 2, 3])).numpy())
        assert abs(loss - math.log(7)) < 0.1


def test_hidden_layers_start_as_he_says():
    minidl.manual_seed(0)
    for net in (vgg11(width=1 / 4, image_size=32), resnet18(width=1 / 4)):
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d) and layer.weight.size > 5000:
                std = math.sqrt(2 / (layer.in_channels * layer.kernel_size[0] ** 2))
                assert abs(np.std(layer.weight.numpy()) / std - 1) < 5 / math.sqrt(2 * layer.weight.size)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_same_seed_gives_the_same_net(name):
    states = []
    for seed in (5, 5, 6):
        minidl.manual_seed(seed)
        states.append(build(name, width=SMALL, image_size=96).state_dict())
    assert all(np.array_equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not np.array_equal(states[0][key], states[2][key]) for key in states[0])


@pytest.mark.parametrize("name", ["alexnet", "vgg-c", "googlenet", "resnet50", "resnet20-cifar", "fcn8s", "mini-inception"])
def test_building_without_values_draws_nothing(name):
    minidl.manual_seed(5)
    expected = nn.Linear(3, 2).weight.numpy()
    minidl.manual_seed(5)
    with nn.init.no_values():
        net = build(name)
    np.testing.assert_array_equal(nn.Linear(3, 2).weight.numpy(), expected)  # the generator is where it was
    first = next(net.parameters())
    assert not first.numpy().any()


# --- time and memory ---------------------------------------------------------------------------------------------------

MEASURE = """
import time
from pathlib import Path
from minidl import nn
from minidl.models import build
from minidl.show import count_parameters

def peak():  # Linux tells it in kB; getrusage would start from the peak of the process that has started this one
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])

nn.Linear(4, 4)  # what the first draw imports
before, start = peak(), time.perf_counter()
{build}
print(time.perf_counter() - start, peak() - before, 4 * count_parameters(net))
"""


def measured(code):
    """(seconds, bytes that the peak rose by, bytes of the parameters) of a fresh process that builds `net`."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
    result = subprocess.run([sys.executable, "-c", MEASURE.format(build=code)], capture_output=True, text=True, env=env)
    assert result.returncode == 0, result.stderr
    return [float(word) for word in result.stdout.split()]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet152", "vgg-e", "alexnet", "googlenet"])
def test_the_largest_nets_are_built_quickly_and_never_twice_in_memory(name):
    seconds, rise, parameters = measured(f"net = build({name!r})")
    assert seconds < 5
    assert 0.95 * parameters < rise < 1.2 * parameters


@pytest.mark.slow
def test_without_values_the_largest_nets_take_next_to_nothing():
    for name in ("vgg-e", "resnet152", "fcn32s"):
        seconds, rise, _ = measured(f"with nn.init.no_values():\n    net = build({name!r})")
        assert seconds < 1
        assert rise < 40e6, name  # bilinear kernels of 7 MB, batch norm, and Python's objects


def test_without_values_a_net_of_144_million_numbers_is_there_at_once():
    seconds = []
    for _ in range(3):  # the best of three: others use this machine too
        start = time.perf_counter()
        with nn.init.no_values():
            build("vgg-e")
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5


def test_a_slice_of_a_part_is_a_sequential():
    unit = mini_inception().conv1
    assert type(unit[:1]) is nn.Sequential and unit[:1][0] is unit.conv


@pytest.mark.parametrize("bias", [[0.0] * 64, np.zeros(7, np.float32)], ids=["a list", "misshapen"])
def test_a_bias_of_conv1_that_does_not_fit_is_reported(bias):
    net = minidl.models.resnet18(width=1.0)
    with pytest.raises(ValueError, match="unexpected: conv1.bias"):
        net.load_state_dict(net.state_dict() | {"conv1.bias": bias})
