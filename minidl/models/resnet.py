"""ResNet: He, Zhang, Ren and Sun 2016, "Deep residual learning for image recognition". Nets for ImageNet."""
from typing import Any, TypeAlias

from minidl.autograd import Tensor, as_tensor, pad
from minidl.backend import is_array, to_numpy
from minidl.models.network import Classifier, Knobs, choose, small_start
from minidl.nn import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Identity,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
    init,
)
from minidl.nn.checks import flag
from minidl.ops import relu

STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Table 1: blocks in the stages of 64, 128, 256 and 512 channels, whose maps are 56, 28, 14 and 7 high."""

DEEP = 50
"""From here on blocks are bottlenecks."""


def conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> Conv2d:
    """A convolution without bias, which batch norm would subtract again; padding keeps height and width at stride 1."""
    return Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)


# --- shortcuts ---------------------------------------------------------------------------------------------------------


class ZeroPadShortcut(Module):
    """Option A: every stride-th pixel of x, and zeros for the channels that it lacks, half before and half behind them

    x (N, C, H, W) -> y (N, out_channels, ceil(H / stride), ceil(W / stride)). No parameters. Section 3.3.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        self.missing, self.stride = out_channels - in_channels, stride

    def forward(self, x: Any) -> Tensor:
        y = as_tensor(x)[:, :, :: self.stride, :: self.stride]
        before = self.missing // 2
        return pad(y, ((0, 0), (before, self.missing - before), (0, 0), (0, 0)))

    def extra_repr(self) -> str:
        return f"{self.missing} zero channels, stride={self.stride}"


def make_shortcut(option: str, in_channels: int, out_channels: int, stride: int) -> Module:
    """What carries x past a block (section 4.1): x itself where the shape stays, else A: zeros, B: a projection by a
    1x1 convolution with batch norm. C: a projection everywhere."""
    if option != "C" and in_channels == out_channels and stride == 1:
        return Identity()
    if option == "A":
        return ZeroPadShortcut(in_channels, out_channels, stride)
    return Sequential(conv(in_channels, out_channels, 1, stride), BatchNorm2d(out_channels))


# --- blocks ------------------------------------------------------------------------------------------------------------


class PlainBlock(Module):
    """y = relu(F(x)),  F = batch_norm(conv(relu(batch_norm(conv(x))))), both 3x3: two layers of a plain net

    x (N, C, H, W) -> y (N, channels, ceil(H / stride), ceil(W / stride)).
    """

    expansion = 1
    """Output channels of a block by the channels of its 3x3 convolution."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        self.conv1, self.bn1 = conv(in_channels, channels, 3, stride), BatchNorm2d(channels)
        self.conv2, self.bn2 = conv(channels, channels, 3), BatchNorm2d(channels)

    def residual(self, x: Any) -> Tensor:
        """F(x), before the last ReLU."""
        return self.bn2(self.conv2(relu(self.bn1(self.conv1(x)), inplace=True)))

    def forward(self, x: Any) -> Tensor:
        return relu(self.residual(x), inplace=True)


class BasicBlock(PlainBlock):
    """y = relu(F(x) + shortcut(x)): the same two layers learn what to add to x. Figure 2; figure 5 left."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1, shortcut: str = "B") -> None:
        super().__init__(in_channels, channels, stride)
        self.downsample = make_shortcut(shortcut, in_channels, channels, stride)

    def forward(self, x: Any) -> Tensor:
        return relu(self.residual(x) + self.downsample(x), inplace=True)


class Bottleneck(Module):
    """y = relu(F(x) + shortcut(x)), F: 1x1 to few channels, 3x3, 1x1 to four times as many. Figure 5 right

    x (N, C, H, W) -> y (N, 4 channels, ceil(H / stride), ceil(W / stride)). `stride_in` "1x1": the first one strides, as in
    the authors' nets; "3x3": torchvision's, which spends more and sees all of x.
    """

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int = 1, shortcut: str = "B", stride_in: str = "3x3") -> None:
        first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
        out = channels * self.expansion
        self.conv1, self.bn1 = conv(in_channels, channels, 1, first), BatchNorm2d(channels)
        self.conv2, self.bn2 = conv(channels, channels, 3, second), BatchNorm2d(channels)
        self.conv3, self.bn3 = conv(channels, out, 1), BatchNorm2d(out)
        self.downsample = make_shortcut(shortcut, in_channels, out, stride)

    def forward(self, x: Any) -> Tensor:
        y = relu(self.bn1(self.conv1(x)), inplace=True)
        y = relu(self.bn2(self.conv2(y)), inplace=True)
        return relu(self.bn3(self.conv3(y)) + self.downsample(x), inplace=True)


Block: TypeAlias = type[PlainBlock] | type[Bottleneck]


def stage(block: Block, in_channels: int, channels: int, blocks: int, stride: int, **options: Any) -> Sequential:
    """`blocks` blocks one after the other; the first one strides and changes the number of channels."""
    out = channels * block.expansion
    rest = [block(out, channels, **options) for _ in range(blocks - 1)]
    return Sequential(block(in_channels, channels, stride, **options), *rest)


def start_as_identity(net: Module) -> None:
    """The last scale (gamma) of every residual block becomes 0: the net starts as if its blocks were not there.

    Goyal et al. 2017, "Accurate, large minibatch SGD", section 5.1.
    """
    for module in net.modules():
        if isinstance(module, (BasicBlock, Bottleneck)):
            init.constant(module.bn3.weight if isinstance(module, Bottleneck) else module.bn2.weight, 0)


# --- nets --------------------------------------------------------------------------------------------------------------


class ResNet(Classifier):
    """The layers of table 1, from conv1 to fc; keys are torchvision's."""

    def _renamed(self, state: dict[Any, Any]) -> dict[Any, Any]:
        """A bias of conv1, which the authors' own ResNet-50 has, goes into the mean that bn1 subtracts."""
        bias, mean = state.get("conv1.bias"), state.get("bn1.running_mean")
        if bias is not None and mean is not None and is_array(bias) and is_array(mean) and bias.shape == mean.shape:
            state["bn1.running_mean"] = to_numpy(mean) - to_numpy(state.pop("conv1.bias"))
        return state


def resnet(depth: int = 50, num_classes: int = 1000, *, shortcut: str = "B", stride_in: str = "3x3",
           zero_init_residual: bool = False, in_channels: int = 3, width: float = 1.0, image_size: int = 224) -> ResNet:
    """Table 1, `depth` 18, 34, 50, 101 or 152 layers: every block learns what to add to its input.

    shortcut: "A", "B" or "C" (see `make_shortcut`). stride_in: where a stage of bottlenecks strides, "3x3" as torchvision
    or in the first "1x1" as the paper. zero_init_residual: see `start_as_identity`.
    """
    who = "resnet"
    choose(who, "shortcut", shortcut, ("A", "B", "C"))
    choose(who, "stride_in", stride_in, ("3x3", "1x1"))
    if depth not in tuple(STAGES):
        raise ValueError(f"resnet: depth must be one of {', '.join(map(str, STAGES))}, got {depth!r}; "
                         "for 6 n + 2 layers on small images there is resnet_cifar")
    c = Knobs(who, num_classes, in_channels, width, image_size)
    if depth >= DEEP:
        net = _resnet(STAGES[depth], Bottleneck, c, shortcut=shortcut, stride_in=stride_in)
    else:
        net = _resnet(STAGES[depth], BasicBlock, c, shortcut=shortcut)
    if flag(who, "zero_init_residual", zero_init_residual):
        start_as_identity(net)
    return net


def plain(depth: int = 34, num_classes: int = 1000, *, in_channels: int = 3, width: float = 1.0,
          image_size: int = 224) -> ResNet:
    """The nets of 18 or 34 layers without shortcuts, which ResNets are compared with: figure 3, middle; table 2."""
    if depth not in [known for known in STAGES if known < DEEP]:
        raise ValueError(f"plain: depth must be 18 or 34, got {depth!r}; "
                         "for 6 n + 2 layers on small images there is plain_cifar")
    return _resnet(STAGES[depth], PlainBlock, Knobs("plain", num_classes, in_channels, width, image_size))


def _resnet(blocks: tuple[int, ...], block: Block, c: Knobs, **options: Any) -> ResNet:
    """The comments give channels (times 4 for bottlenecks) and height for 224x224 images."""
    e = block.expansion
    return ResNet({
        "conv1": conv(c.in_channels, c(64), 7, stride=2), "bn1": BatchNorm2d(c(64)), "relu": ReLU(inplace=True),  # 64, 112
        "maxpool": MaxPool2d(3, 2, padding=1),                                                        # 64, 56
        "layer1": stage(block, c(64), c(64), blocks[0], 1, **options),                                # 64, 56
        "layer2": stage(block, c(64) * e, c(128), blocks[1], 2, **options),                           # 128, 28
        "layer3": stage(block, c(128) * e, c(256), blocks[2], 2, **options),                          # 256, 14
        "layer4": stage(block, c(256) * e, c(512), blocks[3], 2, **options),                          # 512, 7
        "avgpool": AdaptiveAvgPool2d(1), "flatten": Flatten(),
        "fc": small_start(Linear(c(512) * e, c.num_classes)),
    }, c.image_size, c.in_channels)


def resnet18(num_classes: int = 1000, **options: Any) -> ResNet:
    """18 layers, 11,689,512 parameters. Options: see `resnet`."""
    return resnet(18, num_classes, **options)


def resnet34(num_classes: int = 1000, **options: Any) -> ResNet:
    """34 layers, 21,797,672 parameters. Options: see `resnet`."""
    return resnet(34, num_classes, **options)


def resnet50(num_classes: int = 1000, **options: Any) -> ResNet:
    """50 layers, 25,557,032 parameters. Options: see `resnet`."""
    return resnet(50, num_classes, **options)


def resnet101(num_classes: int = 1000, **options: Any) -> ResNet:
    """101 layers, 44,549,160 parameters. Options: see `resnet`."""
    return resnet(101, num_classes, **options)


def resnet152(num_classes: int = 1000, **options: Any) -> ResNet:
    """152 layers, 60,192,808 parameters. Options: see `resnet`."""
    return resnet(152, num_classes, **options)


def plain18(num_classes: int = 1000, **options: Any) -> ResNet:
    """18 layers without shortcuts. Options: see `plain`."""
    return plain(18, num_classes, **options)


def plain34(num_classes: int = 1000, **options: Any) -> ResNet:
    """34 layers without shortcuts. Options: see `plain`."""
    return plain(34, num_classes, **options)
