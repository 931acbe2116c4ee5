"""Three famous networks in miniature, for 28x28 images and a laptop: what `minidl demo` trains.

Members of their families: the same blocks in a shorter table with fewer channels, and with batch normalisation after every
convolution (Ioffe and Szegedy 2015), which VGG and the first GoogLeNet did not have yet. Every net takes images
(N, in_channels, 28, 28) and returns the scores (logits) before the softmax, (N, num_classes).
"""
from collections.abc import Callable

from minidl.models.googlenet import Branches, Inception, Unit
from minidl.models.network import Classifier, Knobs, small_start
from minidl.models.resnet import BasicBlock, conv, stage
from minidl.models.vgg import build_vgg
from minidl.nn import AdaptiveAvgPool2d, BatchNorm2d, Flatten, Linear, MaxPool2d, Module, ReLU

VGG_STAGES = ("3-12", "3-24 3-24", "3-48 3-48")
"""As in vgg.py: 28x28, 14x14 and 7x7; the last pool leaves 3x3."""


def mini_vgg(num_classes: int = 10, in_channels: int = 1, width: float = 1.0, image_size: int = 28) -> Classifier:
    """Depth from small kernels: two 3x3 see as far as a 5x5, with fewer weights and one more nonlinearity.

    Simonyan and Zisserman 2015, table 1 (channels double after each pool); 5 convolutions instead of 8 to 16, and one fully
    connected layer.
    """
    return build_vgg(VGG_STAGES, (), Knobs("mini_vgg", num_classes, in_channels, width, image_size), batch_norm=True)


INCEPTION_ROW = Branches(one=24, three_reduce=24, three=48, five_reduce=6, five=12, pool=12)
"""Both modules, at 7x7 like the paper's 5a and 5b: 96 channels."""


def mini_inception(num_classes: int = 10, in_channels: int = 1, width: float = 1.0, image_size: int = 28) -> Classifier:
    """The net chooses its kernel sizes: every module offers several, and the average pool at the end saves weights.

    Szegedy et al. 2015 (GoogLeNet), table 1; 2 modules instead of 9, no auxiliary classifiers.
    """
    c = Knobs("mini_inception", num_classes, in_channels, width, image_size)
    first = Inception(c(24), INCEPTION_ROW.scaled(c), batch_norm=True)
    second = Inception(first.out_channels, INCEPTION_ROW.scaled(c), batch_norm=True)
    layers: dict[str, Module] = {
        "conv1": Unit(c.in_channels, c(12), 3, stride=2, batch_norm=True),                  # 12, 14
        "conv2": Unit(c(12), c(24), 3, batch_norm=True), "maxpool2": MaxPool2d(2, 2),       # 24, 7
        "inception3a": first, "inception3b": second,                                        # 96, 7
        "avgpool": AdaptiveAvgPool2d(1), "flatten": Flatten(),
        "fc": small_start(Linear(second.out_channels, c.num_classes)),
    }
    return Classifier(layers, c.image_size, c.in_channels)


def mini_resnet(num_classes: int = 10, in_channels: int = 1, width: float = 1.0, image_size: int = 28) -> Classifier:
    """Every block adds to what it is given, so the gradient reaches all layers and depth does not hurt.

    He et al. 2016, section 4.2 (the nets for CIFAR-10) with shortcuts of option B; 12 convolutions on the main path, and the
    first one halves the image.
    """
    c = Knobs("mini_resnet", num_classes, in_channels, width, image_size)
    return Classifier({
        "conv1": conv(c.in_channels, c(12), 3, stride=2), "bn1": BatchNorm2d(c(12)), "relu": ReLU(inplace=True),  # 12, 14
        "layer1": stage(BasicBlock, c(12), c(12), 2, 1),                                              # 12, 14
        "layer2": stage(BasicBlock, c(12), c(24), 2, 2),                                              # 24, 7
        "layer3": stage(BasicBlock, c(24), c(48), 2, 2),                                              # 48, 4
        "avgpool": AdaptiveAvgPool2d(1), "flatten": Flatten(),
        "fc": small_start(Linear(c(48), c.num_classes)),
    }, c.image_size, c.in_channels)


MINI_NETS: dict[str, Callable[..., Classifier]] = {
    "vgg": mini_vgg, "inception": mini_inception, "resnet": mini_resnet}
"""The nets by the names that `minidl demo --nets` takes."""
