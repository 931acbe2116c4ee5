"""What all nets of the zoo share: a list of layers, the image that it is made for, and how it is made smaller.

Every builder takes the same knobs:

    num_classes   outputs of the last layer
    in_channels   channels of the images (3: colour)
    width         a factor for the channels of every hidden layer: 1 is the paper's net, 1/8 a net for a lesson
    image_size    height and width of the images that the net is made for; fully connected layers depend on it
"""
from collections.abc import Mapping
from typing import Any

import numpy as np

from minidl.autograd import Tensor, shapes_only
from minidl.nn import Linear, LoadReport, Module, Sequential, init
from minidl.nn.checks import real_number, whole_number
from minidl.nn.module import evaluating


class Network(Module):
    """A net with `image_size`, the H = W that it is made for, and `in_channels`."""

    image_size: int
    in_channels: int

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> LoadReport:
        """As every module's; the prefix "module." that PyTorch's DataParallel puts before all keys is taken off."""
        if isinstance(state, Mapping):
            state = self._renamed(without_prefix(state))
        return super().load_state_dict(state, strict)

    def _renamed(self, state: dict[Any, Any]) -> dict[Any, Any]:
        """The checkpoint in this net's words, for families that others write down differently. `state` may be changed."""
        return state


def without_prefix(state: Mapping[str, Any], prefix: str = "module.") -> dict[str, Any]:
    """The same entries without a prefix that all of their names have."""
    shared = all(str(key).startswith(prefix) for key in state)
    return {str(key).removeprefix(prefix): x for key, x in state.items()} if shared else dict(state)


class Classifier(Network, Sequential):
    """Layers one after the other: images (N, in_channels, H, W) -> scores before the softmax, (N, num_classes).

    Layers go by name or number: net.conv1, net.features[0], net[:4].
    """

    def __init__(self, layers: dict[str, Module], image_size: int, in_channels: int) -> None:
        super().__init__(layers)
        self.image_size, self.in_channels = image_size, in_channels


class Knobs:
    """The knobs of one net, checked. Called, it scales channels: Knobs("vgg", ..., width=0.5)(64) = 32."""

    def __init__(self, who: str, num_classes: Any, in_channels: Any, width: Any, image_size: Any) -> None:
        self.who = who
        self.num_classes = whole_number(who, "num_classes", num_classes)
        self.in_channels = whole_number(who, "in_channels", in_channels)
        self.image_size = whole_number(who, "image_size", image_size)
        self.width = real_number(who, "width", width)
        if not 0 < self.width <= 64:
            raise ValueError(f"{who}: width must be a factor for the channels, above 0 and at most 64, got {width!r}: "
                             "1 is the paper's net, 0.125 has an eighth of its channels")

    def __call__(self, channels: int, multiple_of: int = 1) -> int:
        """`channels` times width, to the nearest multiple, at least one."""
        return max(1, round(channels * self.width / multiple_of)) * multiple_of

    def map_after(self, layers: Module) -> int:
        """Height = width of what `layers` make of an image of `image_size`; nothing is computed.

        Errors: ValueError where the image is too small.
        """
        x = Tensor(np.zeros((1, self.in_channels, self.image_size, self.image_size), np.float32))
        try:
            with evaluating(layers), shapes_only():
                return layers(x).shape[2]
        except ValueError as error:
            raise ValueError(f"{self.who}: image_size {self.image_size} is too small for its layers: {error}") from None


def small_start(linear: Linear) -> Linear:
    """The last layer of a classifier, drawn with standard deviation .01 (AlexNet's section 5; VGG's 3.1 means the same).

    In training, first scores are then near 0 and the first loss is near log(num_classes).
    """
    init.normal(linear.weight, std=0.01)
    return linear


def choose(who: str, option: str, value: Any, allowed: tuple) -> Any:
    """`value` if it is one of `allowed`."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{who}: {option} must be {' or '.join(map(repr, allowed))}, got {value!r}")
    return value
