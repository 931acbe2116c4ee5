"""The integers of the papers' tables: every net is counted as built, against numbers that were written down beforehand.

The expected numbers are the papers', torchvision's published counts, and sums made by hand from the layer tables. None came
out of this package. A multiply-add is one of a convolution or a linear layer: no bias, normalisation or pooling.

| what is counted                                                      | where                                      |
|----------------------------------------------------------------------|--------------------------------------------|
| AlexNet, both forms: every layer, totals, share of the FC layers     | ALEXNET, test_alexnet_*                    |
| AlexNet without groups; 227 or 224; ceil or floor; order of layers   | test_alexnet_*                             |
| VGG: every layer, the table's columns, 10 classes, batch norm        | VGG_LAYERS, VGG, test_vgg_*                |
| VGG: stages, fully connected part, receptive fields, 15.3 G          | test_vgg_*                                 |
| small and large filters: 18 : 25, 27 : 49, 13.5 : 12.5, B-shallow    | test_small_filters_*, test_b_shallow_*     |
| GoogLeNet, both forms: stem, modules, heads, totals, 22 layers       | GOOGLENET, test_googlenet_*                |
| GoogLeNet: batch norm with 5x5, rows of table 1 that cannot be right | test_googlenet_*                           |
| ResNet, plain: the table, options A and C, strides, stages, layers   | RESNET, RESNET_STAGES, test_resnet_*       |
| ResNet: batch norm channels, projections, pooling, the extra bias    | test_resnet_*                              |
| CIFAR: six depths, options A and B, stages of 20                     | CIFAR, test_cifar_*                        |
| FCN: parameters, sizes for 500, crops, kernels, receptive field      | FCN_PARAMETERS, FCN_SIZES, test_fcn_*      |
"""
import copy
import functools
import math

import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.models import build
from minidl.models.googlenet import INCEPTION, Inception
from minidl.models.network import Knobs
from minidl.models.resnet import BasicBlock, Bottleneck, PlainBlock
from minidl.models.vgg import STAGES, convolutions
from minidl.ops import bilinear_kernel
from minidl.show import count_multiply_adds, count_parameters, trace

pytestmark = pytest.mark.cpu("counts the numbers of full-sized nets, whose zeros take memory once they are moved")

WEIGHTED = (nn.Conv2d, nn.Linear)


@functools.cache
def built(name, **options):
    """The net, its weights not drawn: zeros that nobody writes cost no memory. Do not change it."""
    with nn.init.no_values():
        return build(name, **options)


@functools.cache
def rows_of(name, side=None, **options):
    net = built(name, **options)
    side = side or net.image_size
    return trace(net, (net.in_channels, side, side))


def part(rows, name):
    """The rows of one layer, or of all that is inside a module."""
    return [row for row in rows if row.layer == name or row.layer.startswith(name + ".")]


def cost(rows):
    """(output channels, output height, parameters, multiply-adds) of rows that follow each other."""
    _, C, *rest = rows[-1].shape
    return C, rest[0] if rest else 1, sum(row.parameters for row in rows), sum(row.multiply_adds for row in rows)


def total(name, **options):
    """(parameters, multiply-adds)"""
    return count_parameters(built(name, **options)), sum(row.multiply_adds for row in rows_of(name, **options))


def those(net, kinds):
    return [module for module in net.modules() if isinstance(module, kinds)]


def parameters_of(net, kinds):
    return sum(count_parameters(module) for module in those(net, kinds))


def percent(a, b):
    return round(100 * a / b, 1)


def output_side(layer, channels, side):
    with minidl.shapes_only():
        return layer(np.zeros((1, channels, side, side), np.float32)).shape[2]


# --- AlexNet -----------------------------------------------------------------------------------------------------------

FC6, FC7, FC8 = (4096, 1, 37_752_832, 37_748_736), (4096, 1, 16_781_312, 16_777_216), (1000, 1, 4_097_000, 4_096_000)

# name: output channels, output height, parameters, multiply-adds
ALEXNET = {
    "alexnet": {
        "conv1": (96, 55, 34_944, 105_415_200),
        "norm1": (96, 55, 0, 0),
        "pool1": (96, 27, 0, 0),
        "conv2": (256, 27, 307_456, 223_948_800),
        "norm2": (256, 27, 0, 0),
        "pool2": (256, 13, 0, 0),
        "conv3": (384, 13, 885_120, 149_520_384),
        "conv4": (384, 13, 663_936, 112_140_288),
        "conv5": (256, 13, 442_624, 74_760_192),
        "pool5": (256, 6, 0, 0),
        "flatten": (9216, 1, 0, 0),
        "fc6": FC6, "fc7": FC7, "fc8": FC8,
    },
    "alexnet-torchvision": {
        "features.0": (64, 55, 23_296, 70_276_800),
        "features.2": (64, 27, 0, 0),
        "features.3": (192, 27, 307_392, 223_948_800),
        "features.5": (192, 13, 0, 0),
        "features.6": (384, 13, 663_936, 112_140_288),
        "features.8": (256, 13, 884_992, 149_520_384),
        "features.10": (256, 13, 590_080, 99_680_256),
        "features.12": (256, 6, 0, 0),
        "flatten": (9216, 1, 0, 0),
        "classifier.1": FC6, "classifier.4": FC7, "classifier.6": FC8,
    },
}
ALEXNET_TOTALS = {"alexnet": (60_965_224, 724_406_816), "alexnet-torchvision": (61_100_840, 714_188_480)}


@pytest.mark.parametrize("name", ALEXNET)
def test_alexnet_has_the_layers_of_its_table(name):
    rows = rows_of(name)
    assert {layer: cost(part(rows, layer)) for layer in ALEXNET[name]} == ALEXNET[name]


@pytest.mark.parametrize("name", ALEXNET)
def test_alexnet_has_no_weights_but_those_of_its_eight_layers(name):
    assert total(name) == ALEXNET_TOTALS[name]
    assert tuple(sum(column) for column in zip(*(row[2:] for row in ALEXNET[name].values()))) == ALEXNET_TOTALS[name]
    assert len(those(built(name), WEIGHTED)) == 8


def test_alexnet_keeps_96_percent_of_its_numbers_in_fully_connected_layers():
    assert parameters_of(built("alexnet-torchvision"), nn.Linear) == 58_631_144
    assert percent(58_631_144, 61_100_840) == 96.0


def test_alexnet_on_one_gpu_would_have_a_few_more():
    """The same widths without groups."""
    net = copy.copy(built("alexnet"))  # a net of the same layers; those that are replaced stay in the other
    with nn.init.no_values():
        net.conv2 = nn.Conv2d(96, 256, 5, padding=2)
        net.conv4 = nn.Conv2d(384, 384, 3, padding=1)
        net.conv5 = nn.Conv2d(384, 256, 3, padding=1)
    assert (count_parameters(net), count_multiply_adds(net, (3, 227, 227))) == (62_378_344, 1_135_256_096)
    assert [cost(part(trace(net, (3, 227, 227)), layer))[2:] for layer in ("conv2", "conv4", "conv5")] == [
        (614_656, 447_897_600), (1_327_488, 224_280_576), (884_992, 149_520_384)]


def test_alexnet_groups_stand_in_conv2_conv4_and_conv5():
    net = built("alexnet")
    assert [net.conv1.groups, net.conv2.groups, net.conv3.groups, net.conv4.groups, net.conv5.groups] == [1, 2, 1, 2, 2]
    assert all(layer.groups == 1 for layer in those(built("alexnet-torchvision"), nn.Conv2d))


def test_alexnet_makes_maps_of_55_from_227_pixels_or_from_224_and_a_margin():
    net = built("alexnet")
    assert (net.image_size, net.conv1.padding) == (227, (0, 0))
    with nn.init.no_values():
        sides = [output_side(nn.Conv2d(3, 96, 11, stride=4, padding=p), 3, side) for p, side in ((0, 227), (2, 224), (0, 224))]
    assert sides == [55, 55, 54]  # the text's 224 without a margin does not
    assert (built("alexnet-torchvision").image_size, built("alexnet-torchvision").features[0].padding) == (224, (2, 2))


@pytest.mark.parametrize(("side", "expected"), [(55, 27), (27, 13), (13, 6)])
def test_alexnet_pools_alike_rounding_up_or_down(side, expected):
    assert [output_side(nn.MaxPool2d(3, 2, ceil_mode=mode), 1, side) for mode in (False, True)] == [expected, expected]


def test_alexnet_has_its_layers_in_the_order_conv_relu_norm_pool():
    net = built("alexnet")
    assert [type(layer).__name__ for layer in net] == [
        "Conv2d", "ReLU", "LRN", "MaxPool2d", "Conv2d", "ReLU", "LRN", "MaxPool2d", "Conv2d", "ReLU", "Conv2d", "ReLU",
        "Conv2d", "ReLU", "MaxPool2d", "Flatten", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    assert not those(built("alexnet-torchvision"), nn.LRN)
    for pool in those(net, nn.MaxPool2d) + those(built("alexnet-torchvision"), nn.MaxPool2d):
        assert (pool.kernel_size, pool.stride, pool.padding) == ((3, 3), (2, 2), (0, 0))


# --- VGG ---------------------------------------------------------------------------------------------------------------

# (kernel, input channels, output channels, height): parameters, multiply-adds
VGG_LAYERS = {
    (3, 3, 64, 224): (1_792, 86_704_128),
    (3, 64, 64, 224): (36_928, 1_849_688_064),
    (3, 64, 128, 112): (73_856, 924_844_032),
    (3, 128, 128, 112): (147_584, 1_849_688_064),
    (3, 128, 256, 56): (295_168, 924_844_032),
    (3, 256, 256, 56): (590_080, 1_849_688_064),
    (1, 256, 256, 56): (65_792, 205_520_896),
    (3, 256, 512, 28): (1_180_160, 924_844_032),
    (3, 512, 512, 28): (2_359_808, 1_849_688_064),
    (1, 512, 512, 28): (262_656, 205_520_896),
    (3, 512, 512, 14): (2_359_808, 462_422_016),
    (1, 512, 512, 14): (262_656, 51_380_224),
    (5, 3, 64, 224): (4_864, 240_844_800),
    (5, 64, 128, 112): (204_928, 2_569_011_200),
    (5, 128, 256, 56): (819_456, 2_569_011_200),
    (5, 256, 512, 28): (3_277_312, 2_569_011_200),
    (5, 512, 512, 14): (6_554_112, 1_284_505_600),
}

# Table 1's columns: kernels in the five stages
VGG_KERNELS = {
    "vgg-a": ("3", "3", "33", "33", "33"),
    "vgg-a-lrn": ("3", "3", "33", "33", "33"),
    "vgg-b": ("33", "33", "33", "33", "33"),
    "vgg-b-shallow": ("5", "5", "5", "5", "5"),
    "vgg-c": ("33", "33", "331", "331", "331"),
    "vgg-d": ("33", "33", "333", "333", "333"),
    "vgg-e": ("33", "33", "3333", "3333", "3333"),
}
# convolutions, layers with weights, parameters, those of the convolutions, multiply-adds, parameters for 10 classes,
# parameters with batch norm, receptive fields at pool5 and fc6
VGG = {
    "vgg-a": (8, 11, 132_863_336, 9_220_480, 7_609_090_048, 128_807_306, 132_868_840, 150, 342),
    "vgg-a-lrn": (8, 11, 132_863_336, 9_220_480, 7_609_090_048, 128_807_306, 132_868_840, 150, 342),
    "vgg-b": (10, 13, 133_047_848, 9_404_992, 11_308_466_176, 128_991_818, 133_053_736, 156, 348),
    "vgg-b-shallow": (5, 8, 134_503_528, 10_860_672, 9_356_017_664, 130_447_498, 134_506_472, 156, 348),
    "vgg-c": (13, 16, 133_638_952, 9_996_096, 11_770_888_192, 129_582_922, 133_647_400, 156, 348),
    "vgg-d": (13, 16, 138_357_544, 14_714_688, 15_470_264_320, 134_301_514, 138_365_992, 212, 404),
    "vgg-e": (16, 19, 143_667_240, 20_024_384, 19_632_062_464, 139_611_210, 143_678_248, 268, 460),
}
VGG_TABLE_2 = {"vgg-a": 133, "vgg-a-lrn": 133, "vgg-b": 133, "vgg-c": 134, "vgg-d": 138, "vgg-e": 144}  # in millions


def convolution_rows(name):
    """((kernel, in, out, height), (parameters, multiply-adds)) of every convolution."""
    modules = dict(built(name).named_modules())
    rows = [row for row in rows_of(name) if isinstance(modules[row.layer], nn.Conv2d)]
    return [((modules[row.layer].kernel_size[0], modules[row.layer].in_channels, *row.shape[1:3]),
             (row.parameters, row.multiply_adds)) for row in rows]


@pytest.mark.parametrize("name", VGG)
def test_vgg_has_the_convolutions_of_its_column(name):
    sizes = [(64, 224), (128, 112), (256, 56), (512, 28), (512, 14)]
    expected, channels = [], 3
    for (out, height), kernels in zip(sizes, VGG_KERNELS[name]):
        for kernel in kernels:
            layer = (int(kernel), channels, out, height)
            expected.append((layer, VGG_LAYERS[layer]))
            channels = out
    assert convolution_rows(name) == expected


@pytest.mark.parametrize("name", VGG)
def test_vgg_has_the_numbers_of_its_column(name):
    net = built(name)
    convolutions_, weighted, parameters, of_convolutions, multiply_adds, *_ = VGG[name]
    assert (len(those(net, nn.Conv2d)), len(those(net, WEIGHTED))) == (convolutions_, weighted)
    assert total(name) == (parameters, multiply_adds)
    assert parameters_of(net, nn.Conv2d) == count_parameters(net.features) == of_convolutions


@pytest.mark.parametrize("name", VGG_TABLE_2)
def test_vgg_has_the_millions_of_table_2(name):
    assert round(count_parameters(built(name)) / 1e6) == VGG_TABLE_2[name]


@pytest.mark.parametrize("name", VGG)
def test_vgg_with_a_head_for_ten_classes_or_with_batch_norm(name):
    *_, ten_classes, batch_norm, _, _ = VGG[name]
    assert count_parameters(built(name, num_classes=10)) == ten_classes
    assert total(f"{name}-bn") == (batch_norm, VGG[name][4])


@pytest.mark.parametrize("name", VGG)
def test_vgg_stages_end_in_these_shapes(name):
    modules = dict(built(name).named_modules())
    pools = [row.shape[1:] for row in rows_of(name) if isinstance(modules[row.layer], nn.MaxPool2d)]
    assert pools == [(64, 112, 112), (128, 56, 56), (256, 28, 28), (512, 14, 14), (512, 7, 7)]
    assert cost(part(rows_of(name), "flatten"))[0] == 25_088


@pytest.mark.parametrize("name", VGG)
def test_vgg_has_the_same_fully_connected_part_in_every_column(name):
    rows = rows_of(name)
    assert [cost(part(rows, f"classifier.{i}"))[2:] for i in (0, 3, 6)] == [
        (102_764_544, 102_760_448), (16_781_312, 16_777_216), (4_097_000, 4_096_000)]
    assert parameters_of(built(name), nn.Linear) == 123_642_856


def test_vgg_16_keeps_89_percent_of_its_numbers_there():
    assert percent(parameters_of(built("vgg-d"), nn.Linear), count_parameters(built("vgg-d"))) == 89.4


@pytest.mark.parametrize("name", VGG)
def test_vgg_sees_so_much_of_the_image(name):
    rows = rows_of(name)
    pool5 = len(built(name).features) - 1
    field = {layer: part(rows, layer)[-1].field.size for layer in (f"features.{pool5}", "classifier.0")}
    *_, at_pool5, at_fc6 = VGG[name]
    assert list(field.values()) == [(at_pool5, at_pool5), (at_fc6, at_fc6)]


def test_vgg_b_c_and_b_shallow_see_equally_much():
    """So C against D tells what context is worth, B against B-shallow what depth is worth."""
    fields = {name: part(rows_of(name), "classifier.0")[-1].field.size for name in ("vgg-b", "vgg-c", "vgg-b-shallow")}
    assert set(fields.values()) == {(348, 348)}


def test_vgg_in_the_resnet_paper_is_counted_by_two_rules():
    """15.3 G are VGG-16's convolutions alone, 19.6 G are all of VGG-19."""
    assert sum(multiply_adds for _, (_, multiply_adds) in convolution_rows("vgg-d")) == 15_346_630_656
    assert round(total("vgg-e")[1] / 1e9, 1) == 19.6
    assert round(sum(multiply_adds for _, (_, multiply_adds) in convolution_rows("vgg-e")) / 1e9, 1) == 19.5


def test_vgg_a_lrn_has_one_normalisation_behind_the_first_relu_with_alexnets_numbers():
    net = built("vgg-a-lrn")
    assert [type(layer).__name__ for layer in net.features[:4]] == ["Conv2d", "ReLU", "LRN", "MaxPool2d"]
    [norm] = those(net, nn.LRN)
    assert repr(norm) == repr(built("alexnet").norm1) == repr(nn.LRN(n=5, k=2, alpha=1e-4, beta=0.75))


@pytest.mark.parametrize("name", VGG)
def test_vgg_layers_are_padded_pooled_and_dropped_as_section_2_1_says(name):
    net = built(name)
    for layer in those(net, nn.Conv2d):
        k, = set(layer.kernel_size)
        assert (layer.stride, layer.padding, layer.bias is not None) == ((1, 1), (k // 2, k // 2), True)
    for pool in those(net, nn.MaxPool2d):
        assert (pool.kernel_size, pool.stride) == ((2, 2), (2, 2))
    assert [type(layer).__name__ for layer in net.classifier] == [
        "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    assert [layer.p for layer in those(net, nn.Dropout)] == [0.5, 0.5]
    assert len(those(net.features, nn.ReLU)) == len(those(net, nn.Conv2d))


def weights(*layers):
    """Of (kernel, in, out): convolutions without bias."""
    with nn.init.no_values():
        return sum(count_parameters(nn.Conv2d(i, o, k, bias=False)) for k, i, o in layers)


@pytest.mark.parametrize("C", [64, 512])
def test_small_filters_are_cheaper_between_equal_channels_only(C):  # noqa: N803
    pair, five = weights((3, C, C), (3, C, C)), weights((5, C, C))
    three, seven = weights((3, C, C), (3, C, C), (3, C, C)), weights((7, C, C))
    assert (pair, five, three, seven) == (18 * C**2, 25 * C**2, 27 * C**2, 49 * C**2)
    assert (round(100 * (five / pair - 1)), round(100 * (seven / three - 1))) == (39, 81)
    # the first layer of a stage doubles the channels: there one 5x5 is the cheaper
    assert (weights((5, C // 2, C)), weights((3, C // 2, C), (3, C, C))) == (12.5 * C**2, 13.5 * C**2)


def test_b_shallow_has_more_numbers_than_b_but_fewer_multiply_adds():
    (parameters, multiply_adds), (more, fewer) = total("vgg-b"), total("vgg-b-shallow")
    assert more - parameters == 1_455_680
    assert percent(fewer - multiply_adds, multiply_adds) == -17.3


# --- GoogLeNet ---------------------------------------------------------------------------------------------------------

# output channels, output height, parameters, multiply-adds
GOOGLENET = {
    "googlenet": {
        "conv1": (64, 112, 9_472, 118_013_952),
        "maxpool1": (64, 56, 0, 0),
        "conv2": (64, 56, 4_160, 12_845_056),
        "conv3": (192, 56, 110_784, 346_816_512),
        "maxpool2": (192, 28, 0, 0),
        "inception3a": (256, 28, 163_696, 128_049_152),
        "inception3b": (480, 28, 388_736, 304_267_264),
        "maxpool3": (480, 14, 0, 0),
        "inception4a": (512, 14, 376_176, 73_608_192),
        "inception4b": (512, 14, 449_160, 87_908_352),
        "inception4c": (512, 14, 510_104, 99_850_240),
        "inception4d": (528, 14, 605_376, 118_515_712),
        "inception4e": (832, 14, 868_352, 169_996_288),
        "maxpool4": (832, 7, 0, 0),
        "inception5a": (832, 7, 1_043_456, 51_079_168),
        "inception5b": (1024, 7, 1_444_080, 70_697_984),
        "avgpool": (1024, 1, 0, 0),
        "fc": (1000, 1, 1_025_000, 1_024_000),
    },
    "googlenet-torchvision": {
        "conv1": (64, 112, 9_536, 118_013_952),
        "maxpool1": (64, 56, 0, 0),
        "conv2": (64, 56, 4_224, 12_845_056),
        "conv3": (192, 56, 110_976, 346_816_512),
        "maxpool2": (192, 28, 0, 0),
        "inception3a": (256, 28, 155_872, 121_626_624),
        "inception3b": (480, 28, 340_224, 265_732_096),
        "maxpool3": (480, 14, 0, 0),
        "inception4a": (512, 14, 364_512, 71_199_744),
        "inception4b": (512, 14, 425_232, 83_091_456),
        "inception4c": (512, 14, 486_192, 95_033_344),
        "inception4d": (528, 14, 573_312, 112_093_184),
        "inception4e": (832, 14, 803_840, 157_151_232),
        "maxpool4": (832, 7, 0, 0),
        "inception5a": (832, 7, 978_944, 47_867_904),
        "inception5b": (1024, 7, 1_347_040, 65_881_088),
        "avgpool": (1024, 1, 0, 0),
        "fc": (1000, 1, 1_025_000, 1_024_000),
    },
}
# parameters without and with the heads, multiply-adds, then the heads: parameters and multiply-adds of each
GOOGLENET_TOTALS = {
    "googlenet": (6_998_552, 13_378_280, 1_582_671_872, (3_188_840, 4_169_728), (3_190_888, 4_202_496)),
    "googlenet-torchvision": (6_624_904, 13_004_888, 1_498_376_192, (3_188_968, 4_169_728), (3_191_016, 4_202_496)),
}
# 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection
INCEPTION_TABLE = {
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64), "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64), "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128), "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
}


@pytest.mark.parametrize("name", GOOGLENET)
def test_googlenet_has_the_modules_of_its_table(name):
    rows = rows_of(name)
    assert {layer: cost(part(rows, layer)) for layer in GOOGLENET[name]} == GOOGLENET[name]


@pytest.mark.parametrize("name", GOOGLENET)
@pytest.mark.parametrize("module", INCEPTION_TABLE)
def test_googlenet_modules_have_the_branches_of_table_1(name, module):
    inception = getattr(built(name), f"inception{module}")
    shapes = [layer.weight.shape for layer in those(inception, nn.Conv2d)]
    C = inception.branch1.conv.in_channels
    one, three_reduce, three, five_reduce, five, pool = INCEPTION_TABLE[module]
    k = 5 if name == "googlenet" else 3
    assert shapes == [(one, C, 1, 1), (three_reduce, C, 1, 1), (three, three_reduce, 3, 3), (five_reduce, C, 1, 1),
                      (five, five_reduce, k, k), (pool, C, 1, 1)]


@pytest.mark.parametrize("name", GOOGLENET)
def test_googlenet_totals_with_and_without_heads(name):
    without, with_heads, multiply_adds, *heads = GOOGLENET_TOTALS[name]
    assert total(name) == (with_heads, multiply_adds)  # the heads are for training: they cost nothing later
    assert total(name, aux=False) == (without, multiply_adds)
    net = built(name)
    assert [(count_parameters(head), count_multiply_adds(head, (C, 14, 14)))
            for head, C in ((net.aux1, 512), (net.aux2, 528))] == heads
    assert sum(row[2] for row in GOOGLENET[name].values()) == without
    assert sum(row[3] for row in GOOGLENET[name].values()) == multiply_adds


def test_googlenet_has_22_layers_with_weights_from_top_to_bottom():
    net = built("googlenet", aux=False)
    modules = those(net, Inception)
    stem_and_end = len(those(net, WEIGHTED)) - sum(len(those(module, WEIGHTED)) for module in modules)
    assert all([len(those(branch, WEIGHTED)) for branch in module.children()] == [1, 2, 2, 1] for module in modules)
    assert stem_and_end + 2 * len(modules) == 22


def test_googlenet_keeps_15_percent_of_its_numbers_in_the_fully_connected_layer():
    assert percent(1_025_000, count_parameters(built("googlenet", aux=False))) == 14.6
    assert count_parameters(built("googlenet").fc) == 1_025_000


def test_googlenet_of_torchvision_has_7280_channels_of_batch_norm():
    norms = those(built("googlenet-torchvision", aux=False), nn.BatchNorm2d)
    assert sum(norm.num_features for norm in norms) == 7_280
    assert parameters_of(built("googlenet-torchvision", aux=False), nn.BatchNorm2d) == 14_560
    assert {norm.eps for norm in norms} == {0.001}
    assert not those(built("googlenet"), nn.BatchNorm2d)


def test_googlenet_with_batch_norm_and_the_papers_5x5():
    """What torchvision's net would count without the old mistake in its "5x5" branch."""
    counts = []
    for options in ({"aux": False}, {}):
        net = copy.copy(built("googlenet-torchvision", **options))
        with nn.init.no_values():
            for name, row in INCEPTION.items():
                C = getattr(net, f"inception{name}").branch1.conv.in_channels
                setattr(net, f"inception{name}", Inception(C, row, batch_norm=True))
        counts.append((count_parameters(net), count_multiply_adds(net, (3, 224, 224))))
    assert counts == [(7_005_832, 1_582_671_872), (13_385_816, 1_582_671_872)]


def weights_alone(module):
    return sum(layer.weight.size for layer in those(module, nn.Conv2d))


def test_googlenet_table_1_counts_weights_in_units_of_1024():
    net = built("googlenet")
    assert weights_alone(net.inception3a) == 163_328
    assert weights_alone(net.inception3a) // 1024 == 159
    assert (weights_alone(net.conv2) + weights_alone(net.conv3)) / 1024 == 112


@pytest.mark.parametrize(("row", "printed", "ours"), [
    ("4c", 463, 497), ("4d", 580, 590), ("5a", 1072, 1018), ("5b", 1388, 1409)])
def test_googlenet_rows_of_table_1_that_disagree_with_their_own_channels(row, printed, ours):
    assert weights_alone(getattr(built("googlenet"), f"inception{row}")) // 1024 == ours != printed


def test_googlenet_table_1_multiplies_more_in_5a_than_its_channels_need():
    assert round(cost(part(rows_of("googlenet"), "inception5a"))[3] / 1e6) == 51  # the table prints 54 million


def test_googlenet_first_row_of_table_1_is_no_plain_7x7():
    """It prints 2.7 K and 34 M: a 7x7 for each colour with 8 channels each, and a 1x1 to 64 behind it, would have that."""
    with nn.init.no_values():
        separable = nn.Sequential(nn.Conv2d(3, 24, 7, 2, 3, groups=3, bias=False), nn.Conv2d(24, 64, 1, bias=False))
    assert count_parameters(separable) == 2_712
    assert round(count_multiply_adds(separable, (3, 224, 224)) / 1e6) == 34
    assert weights_alone(built("googlenet").conv1) == 9_408


def test_inception_reductions_save_nine_tenths_of_the_5x5_in_3a():
    module = built("googlenet").inception3a
    assert weights_alone(module.branch3) == 16 * 192 + 16 * 32 * 25 == 15_872
    assert weights((5, 192, 32)) == 153_600


def test_googlenet_pools_round_up_and_the_heads_see_4x4():
    paper, theirs = built("googlenet"), built("googlenet-torchvision")
    for net, last in ((paper, 3), (theirs, 2)):
        assert [(pool.kernel_size[0], pool.stride[0], pool.padding[0], pool.ceil_mode)
                for pool in (net.maxpool1, net.maxpool2, net.maxpool3, net.maxpool4)] == [
            (3, 2, 0, True), (3, 2, 0, True), (3, 2, 0, True), (last, 2, 0, True)]
        assert {output_side(head.pool, 1, 14) for head in (net.aux1, net.aux2)} == {4}
    assert output_side(nn.MaxPool2d(3, 2), 1, 112) == 55  # rounded down, the maps would be smaller


def test_googlenet_of_torchvision_takes_images_of_15_pixels():
    net = built("googlenet-torchvision", aux=False)
    assert trace(net, (3, 15, 15))[-1].shape == (1, 1000)


def test_googlenet_of_torchvision_takes_no_images_of_14_pixels():
    with pytest.raises(ValueError, match="max_pool2d"):
        trace(built("googlenet-torchvision", aux=False), (3, 14, 14))


# --- ResNet ------------------------------------------------------------------------------------------------------------

# name, options: parameters, multiply-adds (None: not published)
RESNET = [
    ("resnet18", {}, 11_689_512, 1_814_073_344),
    ("resnet34", {}, 21_797_672, 3_663_761_408),
    ("resnet50-paper", {}, 25_557_032, 3_857_973_248),
    ("resnet50", {}, 25_557_032, 4_089_184_256),
    ("resnet101-paper", {}, 44_549_160, 7_570_194_432),
    ("resnet101", {}, 44_549_160, 7_801_405_440),
    ("resnet152-paper", {}, 60_192_808, 11_282_415_616),
    ("resnet152", {}, 60_192_808, 11_513_626_624),
    ("plain18", {}, 11_515_688, 1_794_805_760),
    ("plain34", {}, 21_623_848, 3_644_493_824),
    ("resnet18", {"shortcut": "A"}, 11_515_688, 1_794_805_760),
    ("resnet34", {"shortcut": "A"}, 21_623_848, 3_644_493_824),
    ("resnet50", {"shortcut": "A"}, 22_780_456, 3_729_522_688),
    ("resnet101", {"shortcut": "A"}, 41_772_584, 7_441_743_872),
    ("resnet152", {"shortcut": "A"}, 57_416_232, 11_153_965_056),
    ("resnet18", {"shortcut": "C"}, 12_043_816, 1_878_298_624),
    ("resnet34", {"shortcut": "C"}, 22_716_840, 3_830_747_136),
    ("resnet50", {"shortcut": "C"}, 40_128_552, 6_555_435_008),
    ("resnet101", {"shortcut": "C"}, 76_981_288, 13_761_511_424),
    ("resnet152", {"shortcut": "C"}, 107_335_720, 20_967_587_840),
]
# output channels, height, parameters, multiply-adds of layer1 to layer4
RESNET_STAGES = {
    "resnet18": [(64, 56, 147_968, 462_422_016), (128, 28, 525_568, 411_041_792),
                 (256, 14, 2_099_712, 411_041_792), (512, 7, 8_393_728, 411_041_792)],
    "plain18": [(64, 56, 147_968, 462_422_016), (128, 28, 517_120, 404_619_264),
                (256, 14, 2_066_432, 404_619_264), (512, 7, 8_261_632, 404_619_264)],
    "resnet34": [(64, 56, 221_952, 693_633_024), (128, 28, 1_116_416, 873_463_808),
                 (256, 14, 6_822_400, 1_335_885_824), (512, 7, 13_114_368, 642_252_800)],
    "plain34": [(64, 56, 221_952, 693_633_024), (128, 28, 1_107_968, 867_041_280),
                (256, 14, 6_789_120, 1_329_463_296), (512, 7, 12_982_272, 635_830_272)],
    "resnet50": [(256, 56, 215_808, 667_942_912), (512, 28, 1_219_584, 1_027_604_480),
                 (1024, 14, 7_098_368, 1_464_336_384), (2048, 7, 14_964_736, 809_238_528)],
    "resnet101": [(256, 56, 215_808, 667_942_912), (512, 28, 1_219_584, 1_027_604_480),
                  (1024, 14, 26_090_496, 5_176_557_568), (2048, 7, 14_964_736, 809_238_528)],
    "resnet152": [(256, 56, 215_808, 667_942_912), (512, 28, 2_339_840, 1_901_068_288),
                  (1024, 14, 40_613_888, 8_015_314_944), (2048, 7, 14_964_736, 809_238_528)],
}
RESNET_BLOCKS = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3], 101: [3, 4, 23, 3], 152: [3, 8, 36, 3]}
RESNET_GIGA = {"resnet18": 1.8, "resnet34": 3.6, "resnet50-paper": 3.8, "resnet101-paper": 7.6, "resnet152-paper": 11.3,
               "plain18": 1.8, "plain34": 3.6}  # table 1's FLOPs
RESNET_BATCH_NORM = {"resnet18": 4_800, "resnet34": 8_512, "resnet50": 26_560, "resnet101": 52_672, "resnet152": 75_712,
                     "plain18": 3_904, "plain34": 7_616}


@pytest.mark.parametrize(("name", "options", "parameters", "multiply_adds"), RESNET)
def test_resnet_has_the_numbers_of_its_table(name, options, parameters, multiply_adds):
    assert total(name, **options) == (parameters, multiply_adds)


@pytest.mark.parametrize("name", RESNET_GIGA)
def test_resnet_has_the_papers_flops(name):
    assert abs(total(name)[1] / 1e9 - RESNET_GIGA[name]) < 0.1  # table 1 cuts some of its numbers off and rounds others


@pytest.mark.parametrize("name", RESNET_STAGES)
def test_resnet_stages_have_these_shapes_and_costs(name):
    rows = rows_of(name)
    assert cost(part(rows, "conv1") + part(rows, "bn1")) == (64, 112, 9_536, 118_013_952)
    assert cost(part(rows, "maxpool"))[:2] == (64, 56)
    assert [cost(part(rows, f"layer{i}")) for i in (1, 2, 3, 4)] == RESNET_STAGES[name]
    features = RESNET_STAGES[name][-1][0]
    assert cost(part(rows, "fc")) == (1000, 1, {512: 513_000, 2048: 2_049_000}[features], features * 1000)


@pytest.mark.parametrize("depth", RESNET_BLOCKS)
def test_resnet_has_as_many_layers_as_its_name_says(depth):
    net = built(f"resnet{depth}")
    assert [len(stage) for stage in (net.layer1, net.layer2, net.layer3, net.layer4)] == RESNET_BLOCKS[depth]
    projections = sum(len(those(module.downsample, nn.Conv2d)) for module in those(net, (BasicBlock, Bottleneck)))
    assert len(those(net, WEIGHTED)) - projections == depth
    assert {type(block) for block in net.layer1} == {BasicBlock if depth < 50 else Bottleneck}


@pytest.mark.parametrize("depth", [18, 34])
def test_resnet_has_as_many_numbers_as_the_plain_net_with_option_a(depth):
    net, shortcuts = built(f"plain{depth}"), built(f"resnet{depth}", shortcut="A")
    assert count_parameters(net) == count_parameters(shortcuts)
    assert [name for name, _ in net.named_parameters()] == [name for name, _ in shortcuts.named_parameters()]
    assert {type(block) for block in net.layer1} == {PlainBlock}
    assert len(those(net, WEIGHTED)) == depth


@pytest.mark.parametrize("name", RESNET_BATCH_NORM)
def test_resnet_normalises_so_many_channels(name):
    norms = those(built(name), nn.BatchNorm2d)
    assert sum(norm.num_features for norm in norms) == RESNET_BATCH_NORM[name]
    assert sum(norm.running_mean.size + norm.running_var.size for norm in norms) == 2 * RESNET_BATCH_NORM[name]


@pytest.mark.parametrize(("option", "projections"), [("A", 0), ("B", 3), ("C", 16)])
def test_resnet_34_with_option_c_projects_in_thirteen_more_places_than_b(option, projections):
    blocks = those(built("resnet34", shortcut=option), BasicBlock)
    assert sum(isinstance(block.downsample, nn.Sequential) for block in blocks) == projections


@pytest.mark.parametrize(("name", "strides"), [("resnet50-paper", (2, 1, 1)), ("resnet50", (1, 2, 1))])
def test_resnet_strides_in_the_first_1x1_or_in_the_3x3(name, strides):
    net = built(name)
    for stage in (net.layer2, net.layer3, net.layer4):
        first, *others = stage
        assert (first.conv1.stride[0], first.conv2.stride[0], first.conv3.stride[0]) == strides
        assert first.downsample[0].stride == (2, 2)
        assert {layer.stride for block in others for layer in those(block, nn.Conv2d)} == {(1, 1)}


@pytest.mark.parametrize("name", ["resnet18", "plain34"])
def test_resnet_basic_blocks_stride_in_their_first_3x3(name):
    for stage in (built(name).layer2, built(name).layer3, built(name).layer4):
        assert [(block.conv1.stride[0], block.conv2.stride[0]) for block in stage] == [(2, 1)] + [(1, 1)] * (len(stage) - 1)


def test_resnet_convolutions_have_no_bias_and_its_last_layer_has_one():
    for name in ("resnet18", "resnet152", "plain34"):
        assert all(layer.bias is None for layer in those(built(name), nn.Conv2d)), name
        assert built(name).fc.bias.size == 1000


def test_resnet_50_of_the_authors_has_64_more_numbers_and_loads():
    """Their file of ResNet-50 leaves the first convolution's bias on, those of 101 and 152 do not."""
    net = built("resnet50-paper")
    state = {name: p.data for name, p in net.named_parameters()} | {"conv1.bias": np.zeros(64, np.float32)}
    assert sum(x.size for x in state.values()) == 25_557_096
    with nn.init.no_values():
        other = build("resnet50-paper")
    assert other.load_state_dict(state | dict(net.named_buffers())) == ([], [])


def test_resnet_pools_in_other_windows_than_the_authors_nets_but_to_the_same_size():
    """Theirs rounds up and starts in the corner, torchvision's starts in the margin: weights of one are not for the other."""
    pool = built("resnet50").maxpool
    assert (pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode) == ((3, 3), (2, 2), (1, 1), False)
    x = np.random.default_rng(0).standard_normal((1, 1, 112, 112))
    here, theirs = pool(x).numpy(), nn.MaxPool2d(3, 2, ceil_mode=True)(x).numpy()
    assert here.shape == theirs.shape == (1, 1, 56, 56)
    assert not np.array_equal(here, theirs)


def test_resnet_50_keeps_8_percent_of_its_numbers_in_the_fully_connected_layer():
    assert percent(count_parameters(built("resnet50").fc), count_parameters(built("resnet50"))) == 8.0


# --- CIFAR -------------------------------------------------------------------------------------------------------------

# depth: n, parameters (A = plain), the paper's millions, parameters with option B, multiply-adds with A and with B
CIFAR = {
    20: (3, 269_722, "0.27", 272_474, 40_551_040, 40_813_184),
    32: (5, 464_154, "0.46", 466_906, 68_862_592, 69_124_736),
    44: (7, 658_586, "0.66", 661_338, 97_174_144, 97_436_288),
    56: (9, 853_018, "0.85", 855_770, 125_485_696, 125_747_840),
    110: (18, 1_727_962, "1.7", 1_730_714, 252_887_680, 253_149_824),
    1202: (200, 19_421_274, "19.4", 19_424_026, 2_829_238_912, 2_829_501_056),
}


@pytest.mark.parametrize("depth", CIFAR)
def test_cifar_nets_have_the_numbers_of_their_table(depth):
    n, parameters, millions, with_projections, multiply_adds, and_projections = CIFAR[depth]
    assert total(f"resnet{depth}-cifar") == total(f"plain{depth}-cifar") == (parameters, multiply_adds)
    assert total(f"resnet{depth}-cifar", shortcut="B") == (with_projections, and_projections)
    decimals = len(millions.partition(".")[2])
    assert f"{parameters / 1e6:.{decimals}f}" == millions
    for name in (f"resnet{depth}-cifar", f"plain{depth}-cifar"):
        net = built(name)
        assert [len(stage) for stage in (net.layer1, net.layer2, net.layer3)] == [n, n, n]
        assert len(those(net, WEIGHTED)) == 6 * n + 2 == depth


@pytest.mark.parametrize("name", ["resnet20-cifar", "plain20-cifar"])
def test_cifar_20_has_these_stages(name):
    rows = rows_of(name)
    assert cost(part(rows, "conv1") + part(rows, "bn1")) == (16, 32, 464, 442_368)
    assert [cost(part(rows, f"layer{i}")) for i in (1, 2, 3)] == [
        (16, 32, 14_016, 14_155_776), (32, 16, 51_072, 12_976_128), (64, 8, 203_520, 12_976_128)]
    assert cost(part(rows, "fc")) == (10, 1, 650, 640)
    assert sum(norm.num_features for norm in those(built(name), nn.BatchNorm2d)) == 688


# --- FCN ---------------------------------------------------------------------------------------------------------------

# learnable with fixed kernels, numbers in the kernels, both together
FCN_PARAMETERS = {
    "fcn32s": (134_346_581, 1_806_336, 136_152_917),
    "fcn16s": (134_357_354, 458_640, 134_815_994),
    "fcn8s": (134_362_751, 127_008, 134_489_759),
}
# heights on the way of an image of 500x500
FCN_ENCODER_SIZES = [698, 349, 175, 88, 44, 22, 16]  # conv1, the five pools, fc6
FCN_SIZES = {
    "fcn32s": {"upscore": 544},
    "fcn16s": {"upscore2": 34, "upscore16": 560},
    "fcn8s": {"upscore2": 34, "upscore_pool4": 70, "upscore8": 568},
}
# the crops: (offset, size) of pool4's scores, of pool3's, of the last map
FCN_CROPS = {
    "fcn32s": [(19, 500)],
    "fcn16s": [(5, 34), (27, 500)],
    "fcn8s": [(5, 34), (9, 70), (31, 500)],
}
FCN_KERNELS = {
    "fcn32s": {"upscore": (64, 32)},
    "fcn16s": {"upscore2": (4, 2), "upscore16": (32, 16)},
    "fcn8s": {"upscore2": (4, 2), "upscore_pool4": (4, 2), "upscore8": (16, 8)},
}


@pytest.mark.parametrize("name", FCN_PARAMETERS)
def test_fcn_learns_so_many_numbers(name):
    learnable, kernels, both = FCN_PARAMETERS[name]
    net = built(name)
    assert count_parameters(net, trainable_only=True) == learnable
    assert parameters_of(net, nn.ConvTranspose2d) == kernels
    assert count_parameters(net) == count_parameters(built(name, learned_upsampling=True), trainable_only=True) == both


@pytest.mark.parametrize("name", FCN_PARAMETERS)
def test_fcn_parts_have_so_many(name):
    net = built(name)
    encoder = count_parameters(net.features) + count_parameters(net.fc6) + count_parameters(net.fc7)
    assert encoder == 134_260_544 == count_parameters(built("vgg-d")) - 4_097_000
    scores = {part_: count_parameters(getattr(net, part_)) for part_ in ("score_fr", "score_pool4", "score_pool3")
              if hasattr(net, part_)}
    expected = {"score_fr": 86_037, "score_pool4": 10_773, "score_pool3": 5_397}
    assert scores == dict(list(expected.items())[: {"fcn32s": 1, "fcn16s": 2, "fcn8s": 3}[name]])


@pytest.mark.parametrize("name", FCN_SIZES)
def test_fcn_makes_these_sizes_of_an_image_of_500(name):
    net, rows = built(name), rows_of(name)
    pools = [f"features.{end - 1}" for end in net.pools]
    heights = [part(rows, layer)[-1].shape[2] for layer in ("features.0", *pools, "fc6")]
    assert heights == FCN_ENCODER_SIZES
    assert part(rows, "score_fr")[-1].shape == (1, 21, 16, 16)
    assert {layer: part(rows, layer)[-1].shape[2] for layer in FCN_SIZES[name]} == FCN_SIZES[name]
    assert rows[-1].shape == (1, 21, 500, 500)


@pytest.mark.parametrize(("name", "side", "encoder"), [
    ("fcn32s", 500, 180_903_432_960), ("fcn8s", 224, 62_671_958_784)])
def test_fcn_multiplies_so_often_up_to_its_first_scores(name, side, encoder):
    rows = rows_of(name, side)
    assert sum(cost(part(rows, layer))[3] for layer in ("features", "fc6", "fc7", "score_fr")) == encoder


def crops_of(net, side):
    """(offset, size) of every crop on the way."""
    found = []

    def look(function, inputs, y):
        if function.name == "crop":
            (top, left), (height, width) = function.offset, y.shape[2:]
            assert top == left and height == width
            found.append((top, height))

    with minidl.shapes_only(), minidl.watch(look):
        net.eval()(np.zeros((1, 3, side, side), np.float32))
    return found


@pytest.mark.parametrize("name", FCN_CROPS)
def test_fcn_crops_where_the_papers_code_crops(name):
    assert crops_of(built(name), 500) == FCN_CROPS[name]


def centre_of_first_pixel(layers, start=0.0, step=1.0):
    """Where the first output pixel looks, and how far apart pixels look, in pixels of the image.

    A window of k with padding p is centred on its input's pixel (k - 1) / 2 - p; a transposed one paints around it.
    """
    for layer in layers:
        if isinstance(layer, nn.ConvTranspose2d):
            step /= layer.stride[0]
            start -= step * ((layer.kernel_size[0] - 1) / 2 - layer.padding[0])
        elif isinstance(layer, (nn.Conv2d, nn.MaxPool2d)):
            start += step * ((layer.kernel_size[0] - 1) / 2 - layer.padding[0])
            step *= layer.stride[0]
    return start, step


@pytest.mark.parametrize("name", FCN_CROPS)
def test_fcn_crops_are_those_that_lay_the_maps_on_the_image(name):
    """Every offset again, from the kernels, strides and paddings of the layers that were built."""
    net = built(name)
    pool3, pool4 = (centre_of_first_pixel(net.features[:end]) for end in net.pools[2:4])
    here = centre_of_first_pixel([*net.features, net.fc6, net.fc7, net.score_fr])
    offsets = []
    for layer, fine in ((getattr(net, "upscore2", None), pool4), (getattr(net, "upscore_pool4", None), pool3)):
        if layer is not None:
            here = centre_of_first_pixel([layer], *here)
            assert here[1] == fine[1]
            offsets.append((here[0] - fine[0]) / fine[1])
    here = centre_of_first_pixel([list(net.children())[-1]], *here)
    offsets.append(0 - here[0])
    assert here[1] == 1
    assert offsets == [offset for offset, _ in FCN_CROPS[name]]


def test_fcn_offsets_are_wrong_with_pooling_that_rounds_down():
    with nn.init.no_values():
        layers = convolutions(STAGES["D"], Knobs("fcn", 21, 3, 1.0, 500), first_padding=100, ceil_mode=False)
    rows = trace(nn.Sequential(*layers), (3, 500, 500))
    pools = [str(i) for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    assert [part(rows, pool)[-1].shape[2] for pool in pools] == [349, 174, 87, 43, 21]


@pytest.mark.parametrize("name", FCN_KERNELS)
def test_fcn_interpolates_bilinearly_each_class_for_itself(name):
    net = built(name, num_classes=3)
    for layer_name, (k, stride) in FCN_KERNELS[name].items():
        layer = getattr(net, layer_name)
        assert (layer.kernel_size, layer.stride, layer.padding, layer.bias) == ((k, k), (stride, stride), (0, 0), None)
        tent = [1 - abs(i - (k - 1) / 2) / (k / 2) for i in range(k)]
        expected = np.einsum("cd,i,j->cdij", np.eye(3), tent, tent)
        np.testing.assert_allclose(layer.weight.numpy(), expected, rtol=0, atol=1e-7, err_msg=layer_name)


def test_fcn_kernel_of_4_is_one_quarter_three_quarters():
    np.testing.assert_array_equal(bilinear_kernel(4)[0, 0], np.outer([0.25, 0.75, 0.75, 0.25], [0.25, 0.75, 0.75, 0.25]))
    np.testing.assert_allclose(bilinear_kernel(3)[0, 0, 1], np.array([1, 2, 1]) / 2, rtol=1e-7)  # odd: the centre is a pixel


def test_fcn_sees_404_pixels_at_stride_32():
    row = part(rows_of("fcn32s"), "score_fr")[-1]
    assert (row.field.size, row.field.step) == ((404, 404), (32, 32))
    last = list(built("fcn32s").features)[-1]
    assert math.prod(layer.stride[0] for layer in built("fcn32s").features if isinstance(layer, nn.MaxPool2d)) == 32
    assert last.ceil_mode


def test_fcn_convolutions_are_padded_by_100_once():
    net = built("fcn8s")
    paddings = [layer.padding[0] for layer in those(net.features, nn.Conv2d)]
    assert paddings == [100] + [1] * 12
    assert [(layer.kernel_size[0], layer.padding[0], layer.out_channels) for layer in (net.fc6, net.fc7, net.score_fr)] == [
        (7, 0, 4096), (1, 0, 4096), (1, 0, 21)]
    assert [net.drop6.p, net.drop7.p] == [0.5, 0.5]
