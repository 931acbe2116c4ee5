"""A classifier turned fully convolutional, for images larger than it was made for: VGG, section 3.2; FCN, section 3.1."""
import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from minidl.autograd import Tensor, shapes_only, watch
from minidl.backend import to_device
from minidl.function import Function
from minidl.models.googlenet import AuxiliaryHead
from minidl.nn import AdaptiveAvgPool2d, AvgPool2d, Conv2d, Flatten, Identity, Linear, Module, Parameter, init
from minidl.nn.calls import watch_calls
from minidl.nn.checks import whole_number
from minidl.nn.module import evaluating


class Step(NamedTuple):
    """A layer that the net ran, and the shape of what it was given."""

    name: str
    layer: Module
    operation: str
    shape: tuple[int, ...]


EACH_PLACE_ALONE = ("relu", "leaky_relu", "sigmoid", "tanh")
"""Operations that do to a map (N, C, H, W) what they do to vectors (N, C)."""


def to_fully_convolutional(net: Module, image_size: int | None = None) -> Any:
    """A new net with the same weights that slides over larger images: scores (N, num_classes, OH, OW), one per place.

    The first fully connected layer behind `Flatten` becomes a convolution as large as the map that it saw (7x7 in VGG), the
    others 1x1; an adaptive average pool becomes the window that it was at `image_size` (the zoo's nets know theirs). At that
    size OH = OW = 1 and the scores are the classifier's; a 224 net gives 3x3 at 288. Their mean over the map is the dense
    evaluation of VGG's section 3.2. Auxiliary heads are left out.
    Errors: ValueError for a net that does not end in Flatten and Linear layers, or whose pooling is no sliding window.
    """
    who = "to_fully_convolutional"
    if not isinstance(net, Module):
        raise TypeError(f"{who}: needs a net (a Module), got {type(net).__name__}")
    size = getattr(net, "image_size", None) if image_size is None else image_size
    if size is None:
        raise ValueError(f"{who}: {type(net).__name__} does not say how large its images are: give image_size=...")
    steps = _run(net, whole_number(who, "image_size", size))
    flat = [i for i, step in enumerate(steps) if _flattens_maps(step)]
    if not any(isinstance(step.layer, Linear) for step in steps):
        raise ValueError(f"{who}: {type(net).__name__} has no Linear layer at this size, so it is convolutional already")
    if len(flat) != 1:
        raise ValueError(f"{who}: {type(net).__name__} must flatten its last map once, with a Flatten layer, "
                         f"and then be Linear; it does so {len(flat)} times: only classifiers can be turned")
    place, (_, channels, height, width) = flat[0], steps[flat[0]].shape
    changes: dict[str, Module] = {steps[place].name: Identity()}
    for name, layer, _, shape in steps[:place]:
        if isinstance(layer, AdaptiveAvgPool2d):
            if name in changes:
                raise ValueError(f"{who}: {name} is used twice, but can become one window only")
            changes[name] = _window(name, layer, shape)
        elif isinstance(layer, Linear):
            raise ValueError(f"{who}: {name} is Linear, but stands before Flatten, where it does not see channels")
    for name, layer, operation, _ in steps[place + 1 :]:
        if isinstance(layer, Linear):
            if name in changes:
                raise ValueError(f"{who}: {name} is Linear, but is used twice")
            if layer.in_features != channels * height * width:
                raise ValueError(f"{who}: {name} takes {layer.in_features} numbers, but the map or the layer before it gives "
                                 f"{channels * height * width}: Linear layers must follow each other")
            changes[name] = _as_convolution(layer, height, width)
            channels, height, width = layer.out_features, 1, 1
        elif operation not in EACH_PLACE_ALONE:
            raise ValueError(f"{who}: {operation} runs behind Flatten (in {name or type(net).__name__}), and would mix the "
                             "places of a map: take it out, and apply it to the scores with dim=1")
    return _copy_with(net, changes)


def _flattens_maps(step: Step) -> bool:
    """Whether this layer makes one vector of each map (C, H, W)."""
    layer = step.layer
    return isinstance(layer, Flatten) and len(step.shape) == 4 and layer.start_dim == 1 and layer.end_dim in (-1, 3)


def _run(net: Module, size: int) -> list[Step]:
    """The layers of `net` in the order in which an image of that size meets them, in evaluation mode. Computes nothing."""
    names = {id(module): name for name, module in net.named_modules()}
    steps: list[Step] = []
    inside: list[Module] = [net]

    @contextmanager
    def enter(module: Module) -> Iterator[None]:
        inside.append(module if id(module) in names else inside[-1])  # what forward makes for itself has no name
        try:
            yield
        finally:
            inside.pop()

    def record(function: Function, inputs: tuple, output: Any) -> None:
        steps.append(Step(names[id(inside[-1])], inside[-1], function.name, inputs[0].shape))

    parameter = next(net.parameters(), None)
    first = next((layer for layer in net.modules() if isinstance(layer, Conv2d)), None)
    channels = getattr(net, "in_channels", 3 if first is None else first.in_channels)
    x = np.zeros((1, channels, size, size), np.float32 if parameter is None else parameter.dtype)
    with evaluating(net), shapes_only(), watch_calls(enter), watch(record):
        net(Tensor(to_device(x, "cpu" if parameter is None else parameter.device)))
    return steps


def _window(name: str, layer: AdaptiveAvgPool2d, shape: tuple[int, ...]) -> Module:
    """What an adaptive average pool is for maps of this shape, as a window that slides."""
    size = shape[2:]
    if layer.output_size == size:
        return Identity()
    if layer.output_size == (1, 1):
        return AvgPool2d(size, stride=1)
    raise ValueError(f"to_fully_convolutional: {name} averages {size} to {layer.output_size}, which is no window that slides "
                     "by one: give the image_size that the net was made for")


def _as_convolution(linear: Linear, height: int, width: int) -> Conv2d:
    """The convolution that gives on a map (C, height, width) what `linear` gives on that map flattened."""
    channels = linear.in_features // (height * width)
    with init.no_values():
        conv = Conv2d(channels, linear.out_features, (height, width), bias=linear.bias is not None)
    weight = linear.weight.data.reshape(linear.out_features, channels, height, width)
    conv.weight = Parameter(weight, linear.weight.requires_grad)
    if linear.bias is not None:
        conv.bias = Parameter(linear.bias.data, linear.bias.requires_grad)
    return conv


def _copy_with(net: Module, changes: dict[str, Module]) -> Any:
    """A deep copy of the net with other layers in the named places, and without auxiliary heads."""
    new = copy.deepcopy(net)
    for name, module in list(new.named_modules()):
        if name in changes or isinstance(module, AuxiliaryHead):
            above, _, attribute = name.rpartition(".")
            parent = dict(new.named_modules())[above]
            setattr(parent, attribute, changes.get(name))
            if name in changes:
                changes[name].train(module.training)
    return new
