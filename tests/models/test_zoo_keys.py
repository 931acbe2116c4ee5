"""Names and shapes of weights: published files must find their places. Spelled out here; and asked of torchvision itself."""
import pytest

from minidl import models, nn

AFFINE = ("weight", "bias")
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

# Where the convolutions stand in `features`. Batch norm stands behind each of them.
VGG = {
    "vgg11": (0, 3, 6, 8, 11, 13, 16, 18),
    "vgg13": (0, 2, 5, 7, 10, 12, 15, 17, 20, 22),
    "vgg16": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    "vgg19": (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34),
    "vgg11_bn": (0, 4, 8, 11, 15, 18, 22, 25),
    "vgg13_bn": (0, 3, 7, 10, 14, 17, 21, 24, 28, 31),
    "vgg16_bn": (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40),
    "vgg19_bn": (0, 3, 7, 10, 14, 17, 20, 23, 27, 30, 33, 36, 40, 43, 46, 49),
}
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
ENTRIES = {18: 122, 34: 218, 50: 320, 101: 626, 152: 932}


def built(name, **options):
    """The full-size net, without drawing its weights."""
    with nn.init.no_values():
        return models.build(name, **options)


def keys(name, **options):
    """Those of a narrow net, for state_dict copies its weights."""
    return list(built(name, width=1 / 16, **options).state_dict())


def entries(*layers):
    """("conv1", AFFINE), ... -> conv1.weight, conv1.bias, ..."""
    return [f"{name}.{part}" for name, parts in layers for part in parts]


def shapes(net):
    return {key: x.shape for key, x in (*net.named_parameters(), *net.named_buffers())}


def alexnet():
    return entries(*((f"features.{i}", AFFINE) for i in (0, 3, 6, 8, 10)), *((f"classifier.{i}", AFFINE) for i in (1, 4, 6)))


def vgg(name):
    layers = []
    for i in VGG[name]:
        layers.append((f"features.{i}", AFFINE))
        if name.endswith("_bn"):
            layers.append((f"features.{i + 1}", NORM))
    return entries(*layers, *((f"classifier.{i}", AFFINE) for i in (0, 3, 6)))


def resnet(depth):
    layers = [("conv1", ("weight",)), ("bn1", NORM)]
    for stage, count in enumerate(BLOCKS[depth], start=1):
        for i in range(count):
            block = f"layer{stage}.{i}"
            for k in range(1, 4 if depth >= 50 else 3):
                layers += [(f"{block}.conv{k}", ("weight",)), (f"{block}.bn{k}", NORM)]
            if i == 0 and (stage > 1 or depth >= 50):
                layers += [(f"{block}.downsample.0", ("weight",)), (f"{block}.downsample.1", NORM)]
    return entries(*layers, ("fc", AFFINE))


def googlenet(aux):
    def unit(name):
        return [(f"{name}.conv", ("weight",)), (f"{name}.bn", NORM)]

    layers = [*unit("conv1"), *unit("conv2"), *unit("conv3")]
    for module in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        for branch in ("branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1", "branch4.1"):
            layers += unit(f"inception{module}.{branch}")
    for head in ("aux1", "aux2") if aux else ():
        layers += [*unit(f"{head}.conv"), (f"{head}.fc1", AFFINE), (f"{head}.fc2", AFFINE)]
    return entries(*layers, ("fc", AFFINE))


@pytest.mark.parametrize("name, options, expected, count", [
    ("alexnet-torchvision", {}, alexnet(), 16),
    *((name, {}, vgg(name), (7 if name.endswith("_bn") else 2) * len(VGG[name]) + 6) for name in VGG),
    *((f"resnet{depth}", {}, resnet(depth), ENTRIES[depth]) for depth in BLOCKS),
    *((f"resnet{depth}-paper", {}, resnet(depth), ENTRIES[depth]) for depth in BLOCKS if depth >= 50),
    ("googlenet-torchvision", dict(aux=False), googlenet(False), 344),
    ("googlenet-torchvision", {}, googlenet(True), 364),
])
def test_keys_are_torchvisions_in_its_order(name, options, expected, count):
    assert keys(name, **options) == expected
    assert len(expected) == count


def test_shapes_at_the_joints_are_torchvisions():
    """Weights are (out, in, height, width) and (out, in); a VGG's first matrix takes (512, 7, 7), flattened."""
    expected = {
        "alexnet-torchvision": {"features.0.weight": (64, 3, 11, 11), "features.8.weight": (256, 384, 3, 3),
                                "classifier.1.weight": (4096, 256 * 6 * 6), "classifier.6.weight": (1000, 4096)},
        "vgg16_bn": {"features.0.weight": (64, 3, 3, 3), "features.40.weight": (512, 512, 3, 3),
                     "features.41.running_var": (512,), "features.41.num_batches_tracked": (),
                     "classifier.0.weight": (4096, 512 * 7 * 7), "classifier.6.bias": (1000,)},
        "resnet18": {"conv1.weight": (64, 3, 7, 7), "layer2.0.downsample.0.weight": (128, 64, 1, 1), "fc.weight": (1000, 512)},
        "resnet50": {"layer1.0.conv1.weight": (64, 64, 1, 1), "layer1.0.downsample.0.weight": (256, 64, 1, 1),
                     "layer4.2.conv3.weight": (2048, 512, 1, 1), "fc.weight": (1000, 2048)},
        "googlenet-torchvision": {"conv2.conv.weight": (64, 64, 1, 1), "conv3.conv.weight": (192, 64, 3, 3),
                                  "inception3a.branch3.1.conv.weight": (32, 16, 3, 3),  # not 5x5
                                  "aux1.conv.conv.weight": (128, 512, 1, 1), "aux2.conv.conv.weight": (128, 528, 1, 1),
                                  "aux1.fc1.weight": (1024, 128 * 4 * 4), "fc.weight": (1000, 1024)},
    }
    for name, wanted in expected.items():
        found = shapes(built(name))
        assert {key: found[key] for key in wanted} == wanted, name


def test_the_papers_own_names_hold_their_layers():
    """Nets that torchvision lacks: Caffe's names for AlexNet and the FCNs, torchvision's for what resembles its nets."""
    assert keys("alexnet") == entries(
        *((name, AFFINE) for name in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")))
    assert built("alexnet").conv2.weight.shape == (256, 48, 5, 5)  # two groups of 48
    encoder = [key for key in vgg("vgg16") if key.startswith("features")]
    last = {32: ("score_fr", "upscore"), 16: ("score_fr", "upscore2", "score_pool4", "upscore16"),
            8: ("score_fr", "upscore2", "score_pool4", "upscore_pool4", "score_pool3", "upscore8")}
    for stride, layers in last.items():
        expected = encoder + entries(*((layer, ("weight",) if layer.startswith("up") else AFFINE)
                                       for layer in ("fc6", "fc7", *layers)))
        assert sorted(keys(f"fcn{stride}s")) == sorted(expected)
    paper = keys("googlenet")
    assert [key for key in googlenet(True) if ".bn." not in key] == [key for key in paper if not key.endswith("conv.bias")]
    assert {key for key in paper if key.endswith("conv.bias")} == {
        key.replace("weight", "bias") for key in paper if key.endswith("conv.weight")}


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["alexnet", *VGG, *(f"resnet{depth}" for depth in BLOCKS), "googlenet"])
def test_torchvision_itself_has_these_keys_and_shapes(name):
    torch = pytest.importorskip("torch", reason="compares with torchvision, which minidl does not depend on")
    try:
        import torchvision
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another version of torch
        pytest.skip(f"torchvision cannot be imported: {error}")
    options = dict(aux_logits=True, init_weights=False) if name == "googlenet" else {}
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)(**options)
    our_name = f"{name}-torchvision" if name in ("alexnet", "googlenet") else name
    assert keys(our_name) == list(theirs.state_dict())
    ours = built(our_name)
    assert shapes(ours) == {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
    eps = {key: module.eps for key, module in theirs.named_modules() if isinstance(module, torch.nn.BatchNorm2d)}
    assert eps == {key: module.eps for key, module in ours.named_modules() if isinstance(module, nn.BatchNorm2d)}

