"""Classifiers that slide over larger images: the same scores at their own size, one per place on larger ones."""
import numpy as np
import pytest

import minidl
from minidl import nn, ops
from minidl.models import build, fcn8s, names, resnet18, to_fully_convolutional, vgg11, vgg16
from minidl.models.network import Knobs
from minidl.models.vgg import build_vgg

SMALL = 1 / 32


def images(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def trained(net, seed=6):
    """Biases and batch norm as after some training: at 0 and 1 mistakes would not show; and scores of size 1."""
    rng = np.random.default_rng(seed)
    for name, p in net.named_parameters():
        if name.endswith("bias"):
            p.data = rng.normal(0, 0.2, p.shape).astype(p.dtype)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            C, dtype = module.num_features, module.weight.dtype
            module.weight.data = rng.uniform(0.8, 1.2, C).astype(dtype)
            module.running_mean, module.running_var = rng.normal(0, 0.2, C).astype(dtype), rng.uniform(0.5, 1, C).astype(dtype)
        elif isinstance(module, nn.Linear):
            nn.init.he_normal(module.weight)
    return net.eval()


# name: its own size, a smaller one that it can be built for, a larger image and the places in it
FAMILIES = {
    "alexnet": (227, 67, 291, 3),
    "alexnet-torchvision": (224, 63, 288, 3),
    "vgg-a-lrn": (224, 32, 288, 3),
    "vgg-b-shallow": (224, 64, 288, 3),
    "vgg-c": (224, 33, 288, 3),
    "vgg16-bn": (224, 32, 288, 3),
    "googlenet": (224, 79, 288, 3),
    "googlenet-torchvision": (224, 64, 288, 3),
    "resnet18": (224, 33, 288, 3),
    "resnet50-paper": (224, 64, 288, 3),
    "plain18": (224, 33, 288, 3),
    "resnet20-cifar": (32, 17, 40, 3),
    "plain20-cifar": (32, 16, 40, 3),
    "mini-vgg": (28, 17, 44, 3),
    "mini-inception": (28, 32, 36, 3),
    "mini-resnet": (28, 32, 43, 3),
}
EXACT = [(name, FAMILIES[name][0], np.float32) for name in FAMILIES] + [
    (name, FAMILIES[name][1], dtype) for name in FAMILIES for dtype in (np.float32, np.float64)]


@pytest.mark.parametrize(("name", "side", "dtype"), EXACT)
def test_at_the_nets_own_size_the_one_score_is_the_classifiers(name, side, dtype):
    minidl.manual_seed(1)
    net = trained(build(name, num_classes=7, width=1 / 4 if "mini" in name or "cifar" in name else SMALL, image_size=side))
    net.to(dtype=dtype)
    x = images(2, net.in_channels, side, side, dtype=dtype)
    expected = net(x).numpy()
    y = to_fully_convolutional(net)(x)
    assert (y.shape, y.dtype) == ((2, 7, 1, 1), dtype)
    # the sums are the same, in another order
    np.testing.assert_allclose(y.numpy()[:, :, 0, 0], expected, rtol=0,
                               atol={np.float32: 1e-5, np.float64: 1e-12}[dtype] * np.abs(expected).max())
    assert np.abs(expected[0] - expected[1]).max() > 1e-4 * np.abs(expected).max()  # the net does look at the images


@pytest.mark.parametrize("name", FAMILIES)
def test_larger_images_give_a_map_of_scores(name):
    own, _, larger, places = FAMILIES[name]
    with nn.init.no_values():
        net = to_fully_convolutional(build(name, num_classes=7, width=SMALL).eval())
    with minidl.shapes_only():
        assert net(images(1, net.in_channels, larger, larger)).shape == (1, 7, places, places)
        assert net(images(2, net.in_channels, own, larger)).shape == (2, 7, 1, places)


IMAGENET = [name for name in names() if not name.startswith(("mini", "fcn")) and "cifar" not in name]


@pytest.mark.parametrize(("name", "width"), [(name, 1 / 16) for name in IMAGENET] + [
    (name, 1) for name in ("vgg-d", "googlenet", "googlenet-torchvision", "resnet50")])
def test_a_net_for_224_gives_3x3_at_288(name, width):
    """Strides multiply to 32 in all of them, and 288 = 224 + 2 * 32; the first AlexNet is for 227."""
    extra = 3 if name == "alexnet" else 0
    with nn.init.no_values():
        net = build(name, width=width).eval()
        dense = to_fully_convolutional(net)
    with minidl.shapes_only():
        assert dense(images(1, 3, 224 + extra, 224 + extra)).shape == (1, 1000, 1, 1)
        assert dense(images(1, 3, 288 + extra, 288 + extra)).shape == (1, 1000, 3, 3)
        assert dense(images(1, 3, 256 + extra, 320 + extra)).shape == (1, 1000, 2, 4)
        assert net(images(1, 3, 224 + extra, 224 + extra)).shape == (1, 1000)


# --- what each place of the map says -----------------------------------------------------------------------------------


def unpadded():
    """(net, its size, its stride) without padding: what a place sees is what a crop has. Padding would put zeros around a
    crop where the larger image goes on, so most nets of the zoo give other scores there, by design."""
    minidl.manual_seed(3)
    own = nn.Sequential(nn.Conv2d(3, 4, (5, 3), stride=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 2), nn.LRN(alpha=0.1),
                        nn.Flatten(), nn.Linear(6 * 4 * 4, 9), nn.Sigmoid(), nn.Dropout(), nn.Linear(9, 7))
    averaging = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                              nn.Linear(4, 7))
    family = build_vgg(("1-4 1-4", "1-6"), (8,), Knobs("vgg", 7, 3, 1.0, 12), batch_norm=True)  # 1x1 needs no padding
    return {"own": (own, 23, 4), "averaging": (averaging, 11, 2), "vgg of 1x1": (family, 12, 4)}


@pytest.mark.parametrize("which", ["own", "averaging", "vgg of 1x1"])
def test_every_place_has_the_classifiers_scores_for_its_crop(which):
    net, side, stride = unpadded()[which]
    trained(net).to(dtype=np.float64)
    x = images(2, 3, side + 2 * stride, side + 3 * stride, dtype=np.float64)
    y = to_fully_convolutional(net, side)(x).numpy()
    assert y.shape == (2, 7, 3, 4)
    crops = np.empty_like(y)
    for i in range(3):
        for j in range(4):
            crop = x[:, :, stride * i : stride * i + side, stride * j : stride * j + side]
            crops[:, :, i, j] = net(crop).numpy()
    np.testing.assert_allclose(y, crops, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(y.mean(axis=(2, 3)), crops.mean(axis=(2, 3)), rtol=1e-12, atol=1e-13)  # dense evaluation


def test_fully_connected_layers_become_kernels_as_large_as_the_map():
    net = vgg11(7, width=SMALL)
    dense = to_fully_convolutional(net)
    first, second, third = [layer for layer in dense.classifier if isinstance(layer, nn.Conv2d)]
    assert [layer.kernel_size for layer in (first, second, third)] == [(7, 7), (1, 1), (1, 1)]
    for i, layer in ((0, first), (3, second), (6, third)):
        linear = net.classifier[i]
        np.testing.assert_array_equal(layer.weight.numpy().reshape(linear.weight.shape), linear.weight.numpy())
        np.testing.assert_array_equal(layer.bias.numpy(), linear.bias.numpy())
    assert list(dense.state_dict()) == list(net.state_dict())
    assert type(dense) is type(net) and (dense.image_size, dense.in_channels) == (224, 3)
    assert not any(isinstance(layer, nn.Linear) for layer in dense.modules())


# --- the original stays ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["alexnet", "vgg16-bn", "googlenet", "resnet18"])
def test_the_original_is_untouched_and_shares_nothing(name):
    minidl.manual_seed(0)
    net = build(name, num_classes=7, width=SMALL).train()
    before, text = net.state_dict(), repr(net)
    dense = to_fully_convolutional(net)
    for p in dense.parameters():
        p.data += 1
    for module in dense.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean += 1
    assert repr(net) == text and all(module.training for module in net.modules())
    for key, x in net.state_dict().items():
        np.testing.assert_array_equal(x, before[key], err_msg=key)
    ours = {id(p) for p in net.parameters()}
    assert not ours & {id(p) for p in dense.parameters()}


def test_modes_and_frozen_parameters_stay_as_they_are():
    net = vgg11(7, width=SMALL).train()
    for layer in (net.avgpool, net.flatten, net.classifier[2], net.classifier[3]):
        layer.eval()
    net.features[0].weight.requires_grad = False
    net.classifier[0].weight.requires_grad = False
    net.classifier[3].bias.requires_grad = False
    dense = to_fully_convolutional(net)
    assert {name: m.training for name, m in dense.named_modules()} == {name: m.training for name, m in net.named_modules()}
    frozen = {name for name, p in dense.named_parameters() if not p.requires_grad}
    assert frozen == {"features.0.weight", "classifier.0.weight", "classifier.3.bias"}


@pytest.mark.parametrize("name", ["googlenet", "googlenet-torchvision"])
def test_auxiliary_heads_are_left_out(name):
    net = build(name, num_classes=7, width=SMALL)
    dense = to_fully_convolutional(net)
    assert dense.aux1 is None and dense.aux2 is None and net.aux1 is not None
    assert not any(key.startswith("aux") for key in dense.state_dict())
    with minidl.shapes_only():
        assert dense.eval()(images(1, 3, 288, 288)).shape == (1, 7, 3, 3)


def test_it_can_be_trained_on():
    minidl.manual_seed(0)
    net = resnet18(7, width=SMALL, image_size=32)
    dense = to_fully_convolutional(net)
    y = dense(images(2, 3, 96, 64))
    assert y.shape == (2, 7, 3, 2)
    ops.cross_entropy(y, np.random.default_rng(0).integers(0, 7, (2, 3, 2))).backward()
    assert all(p.grad is not None for p in dense.parameters()) and all(p.grad is None for p in net.parameters())


# --- nets of one's own, and nets that cannot slide ---------------------------------------------------------------------


def test_grey_images_are_known_by_the_first_convolution():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 4 * 4, 5))
    x = images(3, 1, 6, 6)
    y = to_fully_convolutional(net, 6)(x)
    np.testing.assert_allclose(y.numpy()[:, :, 0, 0], net(x).numpy(), rtol=1e-5, atol=1e-6)


def test_a_layer_without_bias_stays_without():
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 4 * 4, 5, bias=False))
    assert to_fully_convolutional(net, 6)[2].bias is None


class Loose(nn.Module):
    """Flattens with a layer that it makes on the way, which nobody could replace."""

    def __init__(self):
        self.fc = nn.Linear(48, 2)

    def forward(self, x):
        return self.fc(nn.Flatten()(x))


def net_of(*layers):
    return nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), *layers)


REFUSED = [
    ("an FCN", lambda: fcn8s(num_classes=3, width=1 / 64), 64, "FCN has no Linear layer .*, so it is convolutional already"),
    ("no Linear", lambda: net_of(nn.ReLU()), 4, "Sequential has no Linear layer"),
    ("flattened by a passing layer", Loose, 4, "Loose must flatten its last map once, .* 0 times"),
    ("a Flatten of rows", lambda: net_of(nn.Flatten(2), nn.Linear(16, 5)), 4, "Sequential must flatten its last map once"),
    ("a Flatten of the batch, too", lambda: net_of(nn.Flatten(0), nn.Linear(32, 2)), 4,
     "Sequential must flatten its last map once"),
    ("Linear before Flatten", lambda: net_of(nn.Linear(4, 4), nn.Flatten()), 4, "1 is Linear, but stands before Flatten"),
    ("a Linear used twice", lambda: net_of(nn.Flatten(), *[nn.Linear(32, 32)] * 2), 4, "2 is Linear, but is used twice"),
    ("built for another size", lambda: vgg11(7, width=SMALL, image_size=224), 288,
     r"avgpool averages \(9, 9\) to \(7, 7\), which is no window that slides by one: give the image_size"),
    ("no size", lambda: net_of(nn.Flatten(), nn.Linear(32, 5)), None, "Sequential does not say how large its images are"),
    ("a size of 0", lambda: vgg11(7, width=SMALL), 0, "image_size must be an integer of at least 1, got 0"),
    ("half a pixel", lambda: vgg11(7, width=SMALL), 32.5, r"image_size must be an integer of at least 1, got 32\.5"),
    ("an array", lambda: np.zeros(3), 32, r"needs a net \(a Module\), got ndarray"),
]


@pytest.mark.parametrize(("make", "size", "words"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_cannot_slide_is_refused_with_the_reason(make, size, words):
    net = make()
    with pytest.raises((TypeError, ValueError), match=f"^to_fully_convolutional: {words}"):
        to_fully_convolutional(net, size)
    if isinstance(net, nn.Module):
        assert all(module.training for module in net.modules())


def test_another_size_than_a_net_is_built_for_is_refused_unless_its_pool_is_global():
    dense = to_fully_convolutional(resnet18(7, width=SMALL), image_size=64)  # an average over 2x2
    with minidl.shapes_only():
        assert dense.eval()(images(1, 3, 96, 64)).shape == (1, 7, 2, 1)
    with pytest.raises(ValueError, match="linear"):
        to_fully_convolutional(build("mini-vgg", width=1 / 4).features.append(nn.Flatten()).append(nn.Linear(12, 2)), 28)
    with pytest.raises(ValueError, match="avgpool averages"):
        to_fully_convolutional(vgg16(7, width=SMALL), image_size=256)


class Softmaxed(nn.Module):
    def __init__(self):
        self.conv, self.flatten, self.fc = nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 4 * 4, 5)

    def forward(self, x):
        return ops.softmax(self.fc(self.flatten(self.conv(x))), -1)


class Parallel(nn.Module):
    def __init__(self):
        self.flatten, self.a, self.b = nn.Flatten(), nn.Linear(12, 5), nn.Linear(12, 5)

    def forward(self, x):
        flat = self.flatten(x)
        return self.a(flat) + self.b(flat)


class PoolTwice(nn.Module):
    def __init__(self):
        self.pool, self.flatten, self.fc = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)

    def forward(self, x):
        return self.fc(self.flatten(self.pool(x) + self.pool(x[:, :, 1:, 1:])))


@pytest.mark.parametrize("net, size, words", [
    (Softmaxed(), 6, "softmax runs behind Flatten .in Softmaxed., and would mix"),
    (Parallel(), 2, "b takes 12 numbers, but the map or the layer before it gives 5"),
    (PoolTwice(), 4, "pool is used twice"),
], ids=["softmax", "parallel", "pool"])
def test_what_would_be_converted_wrongly_is_refused(net, size, words):
    with pytest.raises(ValueError, match=words):
        to_fully_convolutional(net, image_size=size)
