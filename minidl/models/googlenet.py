"""GoogLeNet: Szegedy et al. 2015, "Going deeper with convolutions"."""
from typing import Any, NamedTuple

from minidl.autograd import Tensor, as_tensor, concat
from minidl.backend import array_module
from minidl.models.network import Knobs, Network, choose, small_start
from minidl.nn import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Identity,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
)
from minidl.nn.checks import flag


class Branches(NamedTuple):
    """One row of table 1: output channels of the convolutions in an Inception module."""

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

    def scaled(self, c: Knobs) -> "Branches":
        """With the width of the net."""
        return Branches(*(c(n) for n in self))


#      one, three_reduce, three, five_reduce, five, pool     output channels, height
INCEPTION = {
    "3a": Branches(64, 96, 128, 16, 32, 32),      # 256, 28
    "3b": Branches(128, 128, 192, 32, 96, 64),    # 480
    "4a": Branches(192, 96, 208, 16, 48, 64),     # 512, 14
    "4b": Branches(160, 112, 224, 24, 64, 64),    # 512
    "4c": Branches(128, 128, 256, 24, 64, 64),    # 512
    "4d": Branches(112, 144, 288, 32, 64, 64),    # 528
    "4e": Branches(256, 160, 320, 32, 128, 128),  # 832
    "5a": Branches(256, 160, 320, 32, 128, 128),  # 832, 7
    "5b": Branches(384, 192, 384, 48, 128, 128),  # 1024
}
"""Table 1."""


class Unit(Sequential):
    """relu(conv(x)), or with batch norm relu(batch_norm(conv(x))) and no bias; padding keeps height and width at stride 1.

    The eps of batch norm is torchvision's for this net.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, *, batch_norm: bool) -> None:
        layers: dict[str, Module] = {
            "conv": Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=not batch_norm)}
        if batch_norm:
            layers["bn"] = BatchNorm2d(out_channels, eps=1e-3)
        super().__init__(layers | {"relu": ReLU(inplace=True)})


class Inception(Module):
    """y = 1x1, 3x3, 5x5 convolutions and a max pool of the same x, one behind the other along the channels.

    x (N, C, H, W) -> y (N, one + three + five + pool, H, W). The 1x1 convolutions in front of the 3x3 and the 5x5
    keep them cheap. Figure 2b. `five_kernel` 3 is torchvision's, whose branch is 3x3 by an old mistake of its source.
    """

    def __init__(self, in_channels: int, b: Branches, *, batch_norm: bool, five_kernel: int = 5) -> None:
        def unit(in_channels: int, out_channels: int, kernel_size: int) -> Unit:
            return Unit(in_channels, out_channels, kernel_size, batch_norm=batch_norm)

        self.branch1 = unit(in_channels, b.one, 1)
        self.branch2 = Sequential(unit(in_channels, b.three_reduce, 1), unit(b.three_reduce, b.three, 3))
        self.branch3 = Sequential(unit(in_channels, b.five_reduce, 1), unit(b.five_reduce, b.five, five_kernel))
        self.branch4 = Sequential(MaxPool2d(3, 1, 1, ceil_mode=True), unit(in_channels, b.pool, 1))
        self.out_channels = b.one + b.three + b.five + b.pool

    def forward(self, x: Any) -> Tensor:
        return concat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], axis=1)


class AuxiliaryHead(Sequential):
    """A small classifier on a map in the middle of the net: x (N, C, H, W) -> scores (N, num_classes).

    In training its loss, times .3, is added to the net's, so that the lower layers learn sooner what they are for.
    Section 5. The paper averages 5x5 windows, 3 apart; torchvision averages to 4x4.
    """

    def __init__(self, in_channels: int, side: int, c: Knobs, variant: str) -> None:
        if variant == "paper" and side < 5:
            raise ValueError(f"googlenet: image_size {c.image_size} gives the auxiliary heads maps of {side}x{side}, but they "
                             "average windows of 5x5: use larger images, or aux=False")
        pool, side = (AvgPool2d(5, 3), (side - 5) // 3 + 1) if variant == "paper" else (AdaptiveAvgPool2d(4), 4)
        super().__init__({
            "pool": pool, "conv": Unit(in_channels, c(128), 1, batch_norm=variant == "torchvision"), "flatten": Flatten(),
            "fc1": Linear(c(128) * side * side, c(1024)), "relu": ReLU(inplace=True), "dropout": Dropout(0.7),
            "fc2": small_start(Linear(c(1024), c.num_classes))})


class GoogLeNet(Network):
    """Images (N, in_channels, H, W) -> scores (N, num_classes); in training with heads: (scores, aux1, aux2)."""

    conv1: Unit
    conv2: Unit
    conv3: Unit
    norm1: Module
    norm2: Module
    maxpool1: MaxPool2d
    maxpool2: MaxPool2d
    maxpool3: MaxPool2d
    maxpool4: MaxPool2d
    inception3a: Inception
    inception3b: Inception
    inception4a: Inception
    inception4b: Inception
    inception4c: Inception
    inception4d: Inception
    inception4e: Inception
    inception5a: Inception
    inception5b: Inception
    aux1: AuxiliaryHead | None
    aux2: AuxiliaryHead | None

    def __init__(self, c: Knobs, variant: str, aux: bool, transform_input: bool) -> None:
        self.image_size, self.in_channels, self.transform_input = c.image_size, c.in_channels, transform_input
        layers = _trunk(c, variant)
        for name, layer in layers.items():
            setattr(self, name, layer)
        trunk = Sequential(layers)
        self.aux1 = self.aux2 = None
        if aux:
            side = c.map_after(trunk[: list(layers).index("inception4a") + 1])  # that of 4d, too
            self.aux1 = AuxiliaryHead(self.inception4a.out_channels, side, c, variant)
            self.aux2 = AuxiliaryHead(self.inception4d.out_channels, side, c, variant)
        self.avgpool = AvgPool2d(c.map_after(trunk), stride=1) if variant == "paper" else AdaptiveAvgPool2d(1)
        self.flatten, self.dropout = Flatten(), Dropout(0.4 if variant == "paper" else 0.2)
        self.fc = small_start(Linear(self.inception5b.out_channels, c.num_classes))

    def forward(self, x: Any) -> Any:
        x = self.maxpool1(self.conv1(self.transformed(x)))
        x = self.conv3(self.conv2(self.norm1(x)))
        x = self.maxpool2(self.norm2(x))
        x = self.inception3b(self.inception3a(x))
        x = x4a = self.inception4a(self.maxpool3(x))
        x = x4d = self.inception4d(self.inception4c(self.inception4b(x)))
        x = self.maxpool4(self.inception4e(x))
        x = self.inception5b(self.inception5a(x))
        logits = self.fc(self.dropout(self.flatten(self.avgpool(x))))
        if self.training and self.aux1 is not None and self.aux2 is not None:
            return logits, self.aux1(x4a), self.aux2(x4d)
        return logits

    def transformed(self, x: Any) -> Tensor:
        """x, normalised by ImageNet's mean and standard deviation, as its first weights expect it: (x - .5) / .5."""
        x = as_tensor(x)
        if not self.transform_input or x.dtype.kind != "f":  # what is not floating, the first convolution refuses
            return x
        xp = array_module(x.data)
        mean, std = (xp.asarray(values, x.dtype).reshape(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        return x * (std / 0.5) + (mean - 0.5) / 0.5


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _trunk(c: Knobs, variant: str) -> dict[str, Module]:
    """Table 1 from top to bottom, up to the average pool. The comments give channels and height for 224x224 images."""
    paper = variant == "paper"

    def unit(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> Unit:
        return Unit(in_channels, out_channels, kernel_size, stride, batch_norm=not paper)

    def norm() -> Module:
        return LocalResponseNorm(5) if paper else Identity()  # alpha / 5, as the authors' own framework and Caffe have it

    layers: dict[str, Module] = {
        "conv1": unit(c.in_channels, c(64), 7, stride=2),                    # 64, 112
        "maxpool1": MaxPool2d(3, 2, ceil_mode=True), "norm1": norm(),        # 64, 56
        "conv2": unit(c(64), c(64), 1), "conv3": unit(c(64), c(192), 3),     # 192, 56
        "norm2": norm(), "maxpool2": MaxPool2d(3, 2, ceil_mode=True),        # 192, 28
    }
    channels = c(192)
    for name, row in INCEPTION.items():
        if name == "4a":
            layers["maxpool3"] = MaxPool2d(3, 2, ceil_mode=True)
        if name == "5a":
            layers["maxpool4"] = MaxPool2d(3 if paper else 2, 2, ceil_mode=True)
        module = Inception(channels, row.scaled(c), batch_norm=not paper, five_kernel=5 if paper else 3)
        layers[f"inception{name}"] = module
        channels = module.out_channels
    return layers


def googlenet(num_classes: int = 1000, *, variant: str = "paper", aux: bool = True, transform_input: bool = False,
              in_channels: int = 3, width: float = 1.0, image_size: int = 224) -> GoogLeNet:
    """Twenty-two layers of few parameters: nine Inception modules and an average pool, where AlexNet was fully connected.

    variant "paper": biases, local response normalisation, 5x5 branches; 6,998,552 parameters without and 13,378,280 with
    heads. "torchvision": batch norm (eps .001), no LRN, 3x3 where the paper has 5x5, keys of torchvision; 6,624,904 and
    13,004,888. aux: with the two auxiliary heads, which are used in training only.
    transform_input: for images normalised as torchvision's other nets want them, when the weights want (x - .5) / .5; only
    with variant "torchvision", whose published weights do.
    """
    choose("googlenet", "variant", variant, ("paper", "torchvision"))
    c = Knobs("googlenet", num_classes, in_channels, width, image_size)
    if flag("googlenet", "transform_input", transform_input) and (variant == "paper" or in_channels != 3):
        raise ValueError(f"googlenet: transform_input belongs to variant 'torchvision' with 3 channels, got variant "
                         f"{variant!r} and in_channels {in_channels}: leave it out")
    return GoogLeNet(c, variant, flag("googlenet", "aux", aux), transform_input)
