"""VGG: Simonyan and Zisserman 2015, "Very deep convolutional networks for large-scale image recognition"."""
from collections.abc import Iterable
from typing import Any

from minidl.models.network import Classifier, Knobs, choose, small_start
from minidl.nn import LRN, AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, Module, ReLU, Sequential
from minidl.nn.checks import flag

STAGES = {
    "A":         ("3-64",      "3-128",       "3-256 3-256",             "3-512 3-512",             "3-512 3-512"),
    "A-LRN":     ("3-64 LRN",  "3-128",       "3-256 3-256",             "3-512 3-512",             "3-512 3-512"),
    "B":         ("3-64 3-64", "3-128 3-128", "3-256 3-256",             "3-512 3-512",             "3-512 3-512"),
    "B-shallow": ("5-64",      "5-128",       "5-256",                   "5-512",                   "5-512"),
    "C":         ("3-64 3-64", "3-128 3-128", "3-256 3-256 1-256",       "3-512 3-512 1-512",       "3-512 3-512 1-512"),
    "D":         ("3-64 3-64", "3-128 3-128", "3-256 3-256 3-256",       "3-512 3-512 3-512",       "3-512 3-512 3-512"),
    "E":         ("3-64 3-64", "3-128 3-128", "3-256 3-256 3-256 3-256", "3-512 3-512 3-512 3-512", "3-512 3-512 3-512 3-512"),
}
"""The columns of table 1: "3-64" is a 3x3 convolution with 64 channels. Max pooling follows every stage, ReLU every
convolution. B-shallow is the net of section 4.1 in which one 5x5 stands for each pair of 3x3 in B."""

FULLY_CONNECTED = (4096, 4096)


def vgg(config: str = "D", num_classes: int = 1000, *, batch_norm: bool = False, in_channels: int = 3, width: float = 1.0,
        image_size: int = 224) -> Classifier:
    """The column `config` of table 1: "A", "A-LRN", "B", "B-shallow", "C", "D" or "E".

    batch_norm puts a normalisation behind every convolution, as torchvision's vgg*_bn; the paper's nets have none.
    The keys of A, B, D and E, with and without, are torchvision's. 132,863,336 (A) to 143,667,240 (E) parameters.
    """
    stages = STAGES[choose("vgg", "config", config, tuple(STAGES))]
    knobs = Knobs("vgg", num_classes, in_channels, width, image_size)
    return build_vgg(stages, FULLY_CONNECTED, knobs, flag("vgg", "batch_norm", batch_norm))


def build_vgg(stages: Iterable[str], fully_connected: Iterable[int], c: Knobs, batch_norm: bool) -> Classifier:
    """A net of the family from its table: stages of convolutions, then fully connected layers; c(n) is n channels, scaled."""
    features = Sequential(*convolutions(stages, c, batch_norm))
    side = c.map_after(features)
    size = _last_channels(features) * side * side
    classifier: list[Module] = []
    for n in fully_connected:
        classifier += [Linear(size, c(n)), ReLU(inplace=True), Dropout(0.5)]
        size = c(n)
    return Classifier({
        "features": features, "avgpool": AdaptiveAvgPool2d(side), "flatten": Flatten(),
        "classifier": Sequential(*classifier, small_start(Linear(size, c.num_classes))),
    }, c.image_size, c.in_channels)


def convolutions(stages: Iterable[str], c: Knobs, batch_norm: bool = False, first_padding: int | None = None,
                 ceil_mode: bool = False) -> list[Module]:
    """The layers of the stages. Padding keeps height and width; an FCN pads the image more and rounds pooling up."""
    layers: list[Module] = []
    channels = c.in_channels
    for stage in stages:
        for entry in stage.split():
            if entry == "LRN":
                layers.append(LRN())
                continue
            kernel, out = (int(n) for n in entry.split("-"))
            padding = kernel // 2 if layers or first_padding is None else first_padding
            layers.append(Conv2d(channels, c(out), kernel, padding=padding))
            channels = c(out)
            layers += [BatchNorm2d(channels), ReLU(inplace=True)] if batch_norm else [ReLU(inplace=True)]
        layers.append(MaxPool2d(2, 2, ceil_mode=ceil_mode))
    return layers


def _last_channels(features: Sequential) -> int:
    return [layer for layer in features if isinstance(layer, Conv2d)][-1].out_channels


def vgg11(num_classes: int = 1000, **options: Any) -> Classifier:
    """Configuration A: 11 layers with weights. Options: see `vgg`."""
    return vgg("A", num_classes, **options)


def vgg13(num_classes: int = 1000, **options: Any) -> Classifier:
    """Configuration B: 13 layers with weights. Options: see `vgg`."""
    return vgg("B", num_classes, **options)


def vgg16(num_classes: int = 1000, **options: Any) -> Classifier:
    """Configuration D: 16 layers with weights. Options: see `vgg`."""
    return vgg("D", num_classes, **options)


def vgg19(num_classes: int = 1000, **options: Any) -> Classifier:
    """Configuration E: 19 layers with weights. Options: see `vgg`."""
    return vgg("E", num_classes, **options)


def vgg11_bn(num_classes: int = 1000, **options: Any) -> Classifier:
    """Configuration A with batch normalisation. Options: see `vgg`."""
    return vgg("A", num_classes, batch_norm=True, **options)


def vgg13_bn(num_classes: int = 1000, **options: Any) -> Classifier:
    """Configuration B with batch normalisation. Options: see `vgg`."""
    return vgg("B", num_classes, batch_norm=True, **options)


def vgg16_bn(num_classes: int = 1000, **options: Any) -> Classifier:
    """Configuration D with batch normalisation. Options: see `vgg`."""
    return vgg("D", num_classes, batch_norm=True, **options)


def vgg19_bn(num_classes: int = 1000, **options: Any) -> Classifier:
    """Configuration E with batch normalisation. Options: see `vgg`."""
    return vgg("E", num_classes, batch_norm=True, **options)
