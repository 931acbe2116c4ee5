"""The ResNets and plain nets of 6 n + 2 layers for CIFAR-10's 32x32 images: He et al. 2016, section 4.2."""
from typing import Any

from minidl.models.network import Classifier, Knobs, choose, small_start
from minidl.models.resnet import BasicBlock, PlainBlock, conv, stage, start_as_identity
from minidl.nn import AdaptiveAvgPool2d, BatchNorm2d, Flatten, Linear, ReLU
from minidl.nn.checks import flag, whole_number


class CifarNet(Classifier):
    """Keys: conv1, bn1, layerL.i.{conv1,bn1,conv2,bn2}, fc."""

    def _renamed(self, state: dict[Any, Any]) -> dict[Any, Any]:
        """The last layer is called "linear" in some checkpoints."""
        ours = {"linear.weight": "fc.weight", "linear.bias": "fc.bias"}
        return {ours.get(key, key): x for key, x in state.items()}


def resnet_cifar(depth: int = 20, num_classes: int = 10, *, shortcut: str = "A", zero_init_residual: bool = False,
                 in_channels: int = 3, width: float = 1.0, image_size: int = 32) -> CifarNet:
    """`depth` = 6 n + 2 layers: a 3x3 convolution, three stages of n residual blocks, 16, 32 and 64 channels wide.

    The paper has 20, 32, 44, 56, 110 and 1202 layers, 0.27 to 19.4 million parameters, and identity shortcuts
    everywhere (option A); "B" and "C" are as in `resnet`.
    """
    n = _blocks("resnet_cifar", depth)
    choose("resnet_cifar", "shortcut", shortcut, ("A", "B", "C"))
    net = _cifar(n, BasicBlock, Knobs("resnet_cifar", num_classes, in_channels, width, image_size), shortcut=shortcut)
    if flag("resnet_cifar", "zero_init_residual", zero_init_residual):
        start_as_identity(net)
    return net


def plain_cifar(depth: int = 20, num_classes: int = 10, *, in_channels: int = 3, width: float = 1.0,
                image_size: int = 32) -> CifarNet:
    """The same layers without shortcuts, and as many parameters as with option A."""
    n = _blocks("plain_cifar", depth)
    return _cifar(n, PlainBlock, Knobs("plain_cifar", num_classes, in_channels, width, image_size))


def _blocks(who: str, depth: Any) -> int:
    """n of depth = 6 n + 2: a first convolution, three stages of n blocks of two, and a last fully connected layer."""
    depth = whole_number(who, "depth", depth, least=8)
    n, rest = divmod(depth - 2, 6)
    if rest:
        raise ValueError(f"{who}: depth must be 6 n + 2 (20, 32, 44, 56, 110, 1202, ...), got {depth}: "
                         f"the next ones are {6 * n + 2} and {6 * n + 8}")
    return n


def _cifar(n: int, block: type[PlainBlock], c: Knobs, **options: Any) -> CifarNet:
    """The comments give channels and height for 32x32 images."""
    return CifarNet({
        "conv1": conv(c.in_channels, c(16), 3), "bn1": BatchNorm2d(c(16)), "relu": ReLU(inplace=True),  # 16, 32
        "layer1": stage(block, c(16), c(16), n, 1, **options),                              # 16, 32
        "layer2": stage(block, c(16), c(32), n, 2, **options),                              # 32, 16
        "layer3": stage(block, c(32), c(64), n, 2, **options),                              # 64, 8
        "avgpool": AdaptiveAvgPool2d(1), "flatten": Flatten(),
        "fc": small_start(Linear(c(64), c.num_classes)),
    }, c.image_size, c.in_channels)
