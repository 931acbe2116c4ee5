"""Every net by its name: what `build` makes of it, what it refuses, and what the functions make by default."""
import inspect

import numpy as np
import pytest

import minidl
from minidl import models, nn
from minidl.models import ZOO, Entry, Network, build, find, names
from minidl.models.googlenet import GoogLeNet
from minidl.models.resnet import Bottleneck, PlainBlock, ZeroPadShortcut
from minidl.show import count_parameters


def quietly(name, **options):
    """Built without drawing weights."""
    with nn.init.no_values():
        return build(name, **options)


# What the papers have: families, columns, depths. A net that is missing from the list would be missed.
EXPECTED = {
    "alexnet", "alexnet-torchvision", "googlenet", "googlenet-torchvision", "plain18", "plain34", "fcn32s", "fcn16s", "fcn8s",
    "mini-vgg", "mini-inception", "mini-resnet",
    *(f"vgg{n}{bn}" for n in ("-a", "-a-lrn", "-b", "-b-shallow", "-c", "-d", "-e", 11, 13, 16, 19) for bn in ("", "-bn")),
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)), *(f"resnet{depth}-paper" for depth in (50, 101, 152)),
    *(f"{kind}{depth}-cifar" for kind in ("resnet", "plain") for depth in (20, 32, 44, 56, 110, 1202)),
}


def test_the_list_has_every_net_of_the_lecture():
    assert set(names()) == set(ZOO) == EXPECTED
    assert len(names()) == len(EXPECTED) == 2 + 22 + 2 + 8 + 2 + 12 + 3 + 3


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_every_name_builds_a_net_that_scores_images(name):
    net = quietly(name).eval()
    assert isinstance(net, Network)
    classes = 21 if name.startswith("fcn") else 10 if name.startswith("mini") or name.endswith("cifar") else 1000
    side = 64 if name.startswith("fcn") else net.image_size
    with minidl.shapes_only():
        y = net(np.zeros((2, net.in_channels, side, side), np.float32))
    assert y.shape == ((2, classes, side, side) if name.startswith("fcn") else (2, classes))


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_every_entry_says_what_it_is(name):
    entry = ZOO[name]
    assert isinstance(entry, Entry)
    assert entry.paper and entry.about and "\n" not in entry.paper + entry.about
    assert entry.paper.split()[-1] in ("2012", "2014", "2015", "2016")
    assert set(entry.options) <= set(inspect.signature(entry.build).parameters)
    assert entry.build.__name__ in models.__all__


@pytest.mark.parametrize(("written", "name"), [
    ("VGG-C", "vgg-c"), ("vgg_a_lrn", "vgg-a-lrn"), ("vgg16_bn", "vgg16-bn"), ("Resnet50", "resnet50"), ("FCN8s", "fcn8s"),
    ("ResNet20_CIFAR", "resnet20-cifar"), ("googlenet", "googlenet"), ("VGG-B_shallow", "vgg-b-shallow")])
def test_capitals_and_underscores_do_not_matter(written, name):
    assert find(written) == name
    assert repr(quietly(written, width=1 / 64)) == repr(quietly(name, width=1 / 64))


@pytest.mark.parametrize(("wrong", "words"), [
    ("vgg61", "there is no network called 'vgg61': did you mean vgg"),
    ("vgg-f", r"did you mean .*vgg-"), ("resnet51", "did you mean .*resnet50"), ("googelnet", "did you mean googlenet"),
    ("alexnett", "did you mean alexnet"), ("resnet-20", "did you mean .*resnet"), ("fcn8", "did you mean fcn8s"),
    ("plain", "did you mean plain"),
    ("transformer-xxl", "the first are alexnet, alexnet-torchvision"), ("", "the first are"), (None, "no network called None"),
    (18, "no network called 18"),
])
def test_unknown_names_are_refused_with_the_nearest(wrong, words):
    with pytest.raises(ValueError, match=words):
        build(wrong)
    with pytest.raises(ValueError, match=rf"`minidl models` lists all {len(names())}\)"):
        find(wrong)


@pytest.mark.parametrize(("name", "option", "words"), [
    ("vgg-d", "num_class",
     "^build: vgg-d has no option 'num_class'; its options are num_classes, .*: did you mean num_classes[?]$"),
    ("resnet50", "widht", "resnet50 has no option 'widht'; its options are .*: did you mean width[?]"),
    ("vgg16", "config", "vgg16 has no option 'config'"),  # that is what the name says
    ("vgg16-bn", "batch_norm",
     "vgg16-bn has no option 'batch_norm'; its options are num_classes, in_channels, width, image_size$"),
    ("resnet50-paper", "stride_in", "resnet50-paper has no option 'stride_in'"),
    ("resnet18", "depth", "resnet18 has no option 'depth'"),
    ("plain18", "shortcut", "plain18 has no option 'shortcut'"),
    ("fcn8s", "image_size", "fcn8s has no option 'image_size'"),
    ("googlenet-torchvision", "variant", "googlenet-torchvision has no option 'variant'"),
])
def test_unknown_options_are_refused_with_those_that_there_are(name, option, words):
    with pytest.raises(ValueError, match=words):
        build(name, **{option: 1})


def test_options_pass_through():
    net = quietly("vgg-d", num_classes=7, in_channels=1, width=1 / 32, image_size=32)
    assert (net.classifier[-1].out_features, net.in_channels, net.image_size) == (7, 1, 32)
    assert net.features[0].out_channels == 2
    assert quietly("googlenet", aux=False, width=1 / 32).aux1 is None
    assert any(isinstance(module, ZeroPadShortcut) for module in quietly("resnet18", shortcut="A", width=1 / 32).modules())
    assert quietly("fcn8s", learned_upsampling=True, width=1 / 64).upscore8.weight.requires_grad
    assert quietly("resnet20-cifar", zero_init_residual=False, width=1 / 4).conv1.out_channels == 4
    with pytest.raises(ValueError, match="^resnet: shortcut must be"):
        quietly("resnet18", shortcut="D")


@pytest.mark.parametrize(("name", "parameters"), [
    ("vgg-c", 133_638_952), ("vgg-a-lrn", 132_863_336), ("vgg-b-shallow", 134_503_528), ("resnet20-cifar", 269_722),
    ("plain34", 21_623_848), ("fcn8s", 134_489_759), ("resnet152", 60_192_808), ("googlenet-torchvision", 13_004_888),
    ("alexnet", 60_965_224), ("alexnet-torchvision", 61_100_840)])
def test_names_of_the_lecture_mean_the_nets_of_the_lecture(name, parameters):
    assert count_parameters(quietly(name)) == parameters


@pytest.mark.parametrize(("number", "column"), [("vgg11", "vgg-a"), ("vgg13", "vgg-b"), ("vgg16", "vgg-d"), ("vgg19", "vgg-e"),
                                                ("vgg16-bn", "vgg-d-bn")])
def test_numbers_and_columns_of_vgg_are_the_same_nets(number, column):
    assert repr(quietly(number, width=1 / 32)) == repr(quietly(column, width=1 / 32))


FUNCTIONS = {  # function: the name of the same net
    "alexnet": "alexnet", "googlenet": "googlenet", "vgg": "vgg-d", "resnet": "resnet50", "plain": "plain34",
    "resnet_cifar": "resnet20-cifar", "plain_cifar": "plain20-cifar", "mini_vgg": "mini-vgg", "mini_resnet": "mini-resnet",
    "mini_inception": "mini-inception", "fcn32s": "fcn32s", "fcn16s": "fcn16s", "fcn8s": "fcn8s", "plain18": "plain18",
    **{f"vgg{n}{bn}": f"vgg{n}{bn.replace('_', '-')}" for n in (11, 13, 16, 19) for bn in ("", "_bn")},
    **{f"resnet{depth}": f"resnet{depth}" for depth in (18, 34, 50, 101, 152)},
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_and_names_make_the_same_nets(function):
    with nn.init.no_values():
        net = getattr(models, function)(num_classes=4, width=1 / 32)
    assert repr(net) == repr(quietly(FUNCTIONS[function], num_classes=4, width=1 / 32))


def test_functions_make_by_default_what_the_papers_describe():
    with nn.init.no_values():
        alexnet, googlenet = models.alexnet(), models.googlenet()
    assert (alexnet.conv2.groups, type(alexnet.norm1), count_parameters(alexnet)) == (2, nn.LRN, 60_965_224)
    assert isinstance(googlenet, GoogLeNet)
    assert googlenet.aux1 is not None and googlenet.inception3a.branch3[1].conv.kernel_size == (5, 5)
    assert type(googlenet.norm1) is nn.LocalResponseNorm and not googlenet.transform_input


def test_resnet50_is_torchvisions_form_by_default():
    with nn.init.no_values():
        net = models.resnet50()
    first = net.layer2[0]
    assert isinstance(first, Bottleneck)
    assert (first.conv1.stride, first.conv2.stride) == ((1, 1), (2, 2))
    assert count_parameters(net) == 25_557_032
    paper = quietly("resnet50-paper").layer2[0]
    assert (paper.conv1.stride, paper.conv2.stride) == ((2, 2), (1, 1))


def test_plain_nets_have_no_way_past_their_blocks():
    for name in ("plain18", "plain34", "plain56-cifar"):
        net = quietly(name, width=1 / 16)
        assert {type(block) for block in net.layer2} == {PlainBlock}
        assert not any("downsample" in key for key in net.state_dict())


def test_the_face_of_the_models_exports_what_exists():
    assert all(hasattr(models, name) for name in models.__all__)
    assert len(set(models.__all__)) == len(models.__all__)


@pytest.mark.parametrize("name", [name for name in models.names() if "1202" not in name])
def test_a_new_net_has_met_no_images_and_shapes_only_shows_it_none(name):
    net = models.build(name, width=1 / 16)
    size = 64 if name.startswith("fcn") else net.image_size

    def buffers():
        return {key: x.copy() for key, x in net.named_buffers()}

    for key, x in buffers().items():
        assert (x == (1 if key.endswith("running_var") else 0)).all(), key
    for training in (True, False):
        with minidl.shapes_only():
            net.train(training)(np.zeros((2, net.in_channels, size, size), np.float32))
        assert all((x == (1 if key.endswith("running_var") else 0)).all() for key, x in buffers().items()), training


def test_googlenet_of_torchvision_is_built_for_15_pixels_with_its_heads():
    with nn.init.no_values():
        net = models.googlenet(variant="torchvision", image_size=15)
    with minidl.shapes_only():
        assert [y.shape for y in net(np.zeros((2, 3, 15, 15), np.float32))] == [(2, 1000)] * 3
