"""Three famous networks in miniature, for 28x28 images and a laptop: what `minidl demo` trains.

Each keeps the idea of its paper and its table of layers, with few channels and few layers, and with batch
normalisation after every convolution (Ioffe and Szegedy 2015), which VGG and the first GoogLeNet did not have yet.
Sizes below are for 28x28 images; `width` scales all channels. Every net takes x (N, in_channels, 28, 28) and returns
the scores (logits) before the softmax, (N, num_classes).
"""
from collections.abc import Callable
from typing import Any, NamedTuple

from minidl.autograd import Tensor, concat
from minidl.nn import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Flatten, Identity, Linear, MaxPool2d, Module, ReLU, Sequential
from minidl.nn.checks import whole_number
from minidl.ops import relu


class ConvBN(Sequential):
    """y = relu(batch_norm(conv(x))), padded so that a stride of 1 keeps height and width.

    The convolution has no bias: batch norm would subtract it again.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__(conv(in_channels, out_channels, kernel_size, stride), BatchNorm2d(out_channels), ReLU())


def conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> Conv2d:
    """A convolution without bias, padded by half its kernel."""
    return Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)


# --- VGG: only 3x3 convolutions, one after the other ----------------------------------------------------------------

POOL = "pool"
VGG_LAYERS = (1, POOL, 2, 2, POOL, 4, 4, POOL)
"""Channels of each 3x3 convolution in units of `width`; a pool halves height and width, 28 -> 14 -> 7 -> 3."""


def mini_vgg(num_classes: int = 10, in_channels: int = 1, width: int = 12) -> Sequential:
    """Depth from small kernels: two 3x3 see as far as a 5x5, with fewer weights and one more nonlinearity.

    Simonyan and Zisserman 2015, table 1 (channels double after each pool); 5 convolutions instead of 8 to 16.
    """
    _check("mini_vgg", num_classes, in_channels, width)
    layers: list[Module] = []
    channels = in_channels
    for entry in VGG_LAYERS:
        if isinstance(entry, str):
            layers.append(MaxPool2d(2, 2))
        else:
            layers.append(ConvBN(channels, entry * width, 3))
            channels = entry * width
    return Sequential({"features": Sequential(*layers), "flatten": Flatten(),
                       "classifier": Linear(channels * 3 * 3, num_classes)})


# --- Inception: kernels of several sizes side by side ---------------------------------------------------------------


class Branches(NamedTuple):
    """One row of the paper's table 1: output channels of the convolutions in an Inception module, in units of width."""

    one: int
    """1x1"""
    three_reduce: int
    """1x1 that leaves fewer channels to the 3x3 behind it"""
    three: int
    """3x3"""
    five_reduce: int
    """1x1 that leaves fewer channels to the 5x5 behind it"""
    five: int
    """5x5"""
    pool: int
    """1x1 behind the 3x3 max pool"""


INCEPTION_STEM = (2, 4)
"""Channels of the two 3x3 convolutions before the modules, in units of width: the first halves 28 to 14, and a pool
behind the second halves again."""

INCEPTION_MODULES = (
    Branches(one=4, three_reduce=4, three=8, five_reduce=1, five=2, pool=2),
    Branches(one=4, three_reduce=4, three=8, five_reduce=1, five=2, pool=2),
)
"""All at 7x7, like the paper's 5a and 5b."""


class Inception(Module):
    """y = 1x1, 3x3, 5x5 convolutions and a max pool of the same x, one behind the other along the channels.

    x (N, C, H, W) -> y (N, one + three + five + pool, H, W). The 1x1 convolutions in front of the 3x3 and the 5x5
    keep them cheap. Szegedy et al. 2015, figure 2b.
    """

    def __init__(self, in_channels: int, branches: Branches) -> None:
        b = branches
        self.one = ConvBN(in_channels, b.one, 1)
        self.three = Sequential(ConvBN(in_channels, b.three_reduce, 1), ConvBN(b.three_reduce, b.three, 3))
        self.five = Sequential(ConvBN(in_channels, b.five_reduce, 1), ConvBN(b.five_reduce, b.five, 5))
        self.pool = Sequential(MaxPool2d(3, 1, padding=1), ConvBN(in_channels, b.pool, 1))
        self.out_channels = b.one + b.three + b.five + b.pool

    def forward(self, x: Any) -> Tensor:
        return concat([self.one(x), self.three(x), self.five(x), self.pool(x)], axis=1)


def mini_inception(num_classes: int = 10, in_channels: int = 1, width: int = 6) -> Sequential:
    """The net chooses its kernel sizes: every module offers several, and the average pool at the end saves weights.

    Szegedy et al. 2015 (GoogLeNet), table 1; 2 modules instead of 9, no auxiliary classifiers.
    """
    _check("mini_inception", num_classes, in_channels, width)
    first, channels = (units * width for units in INCEPTION_STEM)
    layers: list[Module] = [ConvBN(in_channels, first, 3, stride=2), ConvBN(first, channels, 3), MaxPool2d(2, 2)]
    for row in INCEPTION_MODULES:
        module = Inception(channels, Branches(*(units * width for units in row)))
        layers.append(module)
        channels = module.out_channels
    return Sequential({"features": Sequential(*layers), "pool": AdaptiveAvgPool2d(1), "flatten": Flatten(),
                       "classifier": Linear(channels, num_classes)})


# --- ResNet: learn what to add ---------------------------------------------------------------------------------------

RESNET_STAGES = ((1, 2, 1), (2, 2, 2), (4, 2, 2))
"""(channels in units of `width`, blocks, stride of the first block) of each stage: 14x14, 7x7, 4x4 after the stem."""


class ResidualBlock(Module):
    """y = relu(F(x) + shortcut(x)),  F = batch_norm(conv(relu(batch_norm(conv(x)))))

    The shortcut is x itself; where channels or stride change, a 1x1 convolution with batch norm (option B).
    x (N, C, H, W) -> y (N, out_channels, ceil(H / stride), ceil(W / stride)). He et al. 2016, figure 2.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        self.first = ConvBN(in_channels, out_channels, 3, stride)
        self.second = Sequential(conv(out_channels, out_channels, 3), BatchNorm2d(out_channels))
        self.shortcut: Module = Identity()
        if in_channels != out_channels or stride != 1:
            self.shortcut = Sequential(conv(in_channels, out_channels, 1, stride), BatchNorm2d(out_channels))

    def forward(self, x: Any) -> Tensor:
        return relu(self.second(self.first(x)) + self.shortcut(x))


def mini_resnet(num_classes: int = 10, in_channels: int = 1, width: int = 12) -> Sequential:
    """Every block adds to what it is given, so the gradient reaches all layers and depth does not hurt.

    He et al. 2016, section 4.2 (the nets for CIFAR-10); 13 convolutions on the main path, and the stem halves the image.
    """
    _check("mini_resnet", num_classes, in_channels, width)
    layers: list[Module] = [ConvBN(in_channels, width, 3, stride=2)]
    channels = width
    for units, blocks, stride in RESNET_STAGES:
        for block in range(blocks):
            layers.append(ResidualBlock(channels, units * width, stride if block == 0 else 1))
            channels = units * width
    return Sequential({"features": Sequential(*layers), "pool": AdaptiveAvgPool2d(1), "flatten": Flatten(),
                       "classifier": Linear(channels, num_classes)})


# --- all three -------------------------------------------------------------------------------------------------------

MINI_NETS: dict[str, Callable[..., Sequential]] = {
    "vgg": mini_vgg, "inception": mini_inception, "resnet": mini_resnet}
"""The nets by the names that `minidl demo --nets` and `minidl summary` take."""


def _check(who: str, num_classes: int, in_channels: int, width: int) -> None:
    """The knobs are positive integers: an error names the net, not a layer inside."""
    for name, value in (("num_classes", num_classes), ("in_channels", in_channels), ("width", width)):
        whole_number(who, name, value)
