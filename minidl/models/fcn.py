"""Fully convolutional networks: Long, Shelhamer and Darrell 2015, "Fully convolutional networks for semantic segmentation".

A VGG-16 whose fully connected layers have become convolutions gives a coarse map of class scores; transposed convolutions
that interpolate bilinearly bring it back to the image's size. FCN-32s does so at once, FCN-16s and FCN-8s add scores of
finer maps (pool4, pool3) on the way. Layers are named as in the authors' net.py.
"""
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from minidl.autograd import Tensor, as_tensor
from minidl.models.network import Knobs, Network, without_prefix
from minidl.models.vgg import STAGES, convolutions
from minidl.nn import Conv2d, ConvTranspose2d, Dropout, MaxPool2d, Module, ReLU, Sequential, init
from minidl.nn.checks import flag
from minidl.ops import bilinear_kernel, crop

FIRST_PADDING = 100
"""So much is put around the image that fc6's 7x7 window finds room even on small ones; the crops below take it off again."""

POOL4_OFFSET, POOL3_OFFSET = 5, 9
FINAL_OFFSET = {32: 19, 16: 27, 8: 31}
"""Where the map of scores lies in the padded one, in pixels of that map: sums of paddings and half windows on the way."""


class FCN(Network):
    """Images (N, in_channels, H, W) -> scores (N, num_classes, H, W) of every pixel; `stride` 32, 16 or 8.

    A net of stride 16 has all keys of one of stride 32 but that of its last upsampling, and so on: with strict=False,
    fcn16s().load_state_dict(fcn32.state_dict(), strict=False) goes on from a trained coarser net, as the paper does.
    """

    def __init__(self, stride: int, c: Knobs, learned: bool) -> None:
        self.stride, self.image_size, self.in_channels = stride, c.image_size, c.in_channels
        self.features = Sequential(*convolutions(STAGES["D"], c, first_padding=FIRST_PADDING, ceil_mode=True))
        self.pools = [i + 1 for i, layer in enumerate(self.features) if isinstance(layer, MaxPool2d)]  # where each ends
        self.fc6, self.relu6, self.drop6 = Conv2d(c(512), c(4096), 7), ReLU(inplace=True), Dropout(0.5)
        self.fc7, self.relu7, self.drop7 = Conv2d(c(4096), c(4096), 1), ReLU(inplace=True), Dropout(0.5)
        self.score_fr = _score(c(4096), c.num_classes)
        if stride <= 16:
            self.upscore2 = _upsampling(c.num_classes, 2, learned)
            self.score_pool4 = _score(c(512), c.num_classes)
        if stride == 8:
            self.upscore_pool4 = _upsampling(c.num_classes, 2, learned)
            self.score_pool3 = _score(c(256), c.num_classes)
        setattr(self, _last(stride), _upsampling(c.num_classes, stride, learned))

    def forward(self, x: Any) -> Tensor:
        x = as_tensor(x)
        _, _, third, fourth, _ = self.pools
        pool3 = self.features[:third](x)
        pool4 = self.features[third:fourth](pool3)
        y = self.features[fourth:](pool4)
        y = self.drop6(self.relu6(self.fc6(y)))
        y = self.drop7(self.relu7(self.fc7(y)))
        y = self.score_fr(y)
        if self.stride <= 16:
            y = self.upscore2(y)
            y = y + crop(self.score_pool4(pool4), y.shape[2:], POOL4_OFFSET)
        if self.stride == 8:
            y = self.upscore_pool4(y)
            y = y + crop(self.score_pool3(pool3), y.shape[2:], POOL3_OFFSET)
        y = getattr(self, _last(self.stride))(y)
        return crop(y, x.shape[2:], FINAL_OFFSET[self.stride])

    def start_from(self, vgg16: Any) -> None:
        """Takes over the weights of a VGG-16 (the net, or its state_dict) but for its last layer. All or nothing.

        fc6 and fc7 get the classifier's matrices as 7x7 and 1x1 kernels.
        """
        state = vgg16.state_dict() if isinstance(vgg16, Module) else vgg16
        if not isinstance(state, Mapping):
            raise TypeError(f"FCN.start_from: needs a VGG-16 or its state_dict, got {type(vgg16).__name__}: "
                            "load the file first")
        state, ours = without_prefix(state), dict(self.named_parameters())
        theirs = {"fc6": "classifier.0", "fc7": "classifier.3"} | {
            f"features.{i}": f"features.{i}" for i, layer in enumerate(self.features) if isinstance(layer, Conv2d)}
        taken = {}
        for layer, source in theirs.items():
            for part in ("weight", "bias"):
                key, shape = f"{source}.{part}", ours[f"{layer}.{part}"].shape
                flat = (shape[0], math.prod(shape[1:])) if part == "weight" else shape
                if key not in state or np.shape(state[key]) not in (shape, flat):
                    arrived = np.shape(state[key]) if key in state else "nothing of that name"
                    raise ValueError(f"FCN.start_from: {layer}.{part} {shape} is made of {key}, got {arrived}: needs a VGG-16 "
                                     "without batch norm, of the same width and in_channels, for images of 224")
                taken[f"{layer}.{part}"] = np.reshape(state[key], shape)
        self.load_state_dict(taken, strict=False)


def _score(channels: int, num_classes: int) -> Conv2d:
    """A 1x1 convolution that scores every place of a map. It starts with zeros, as in the paper (section 4.1)."""
    layer = Conv2d(channels, num_classes, 1)
    init.constant(layer.weight, 0)
    return layer


def _upsampling(num_classes: int, factor: int, learned: bool) -> ConvTranspose2d:
    """Every class's map `factor` times larger by bilinear interpolation, its margin left on for the crop (section 3.3)."""
    with init.no_values():
        layer = ConvTranspose2d(num_classes, num_classes, 2 * factor, stride=factor, bias=False)
    layer.weight.data = bilinear_kernel(2 * factor, num_classes)
    layer.weight.requires_grad = learned
    return layer


def _last(stride: int) -> str:
    """The name of the last upsampling layer."""
    return {32: "upscore", 16: "upscore16", 8: "upscore8"}[stride]


def _fcn(stride: int, num_classes: int, learned_upsampling: bool, vgg16: Any, in_channels: int, width: float) -> FCN:
    who = f"fcn{stride}s"
    c = Knobs(who, num_classes, in_channels, width, image_size=500)  # PASCAL's images are at most 500 high and wide
    net = FCN(stride, c, flag(who, "learned_upsampling", learned_upsampling))
    if vgg16 is not None:
        net.start_from(vgg16)
    return net


def fcn32s(num_classes: int = 21, *, learned_upsampling: bool = False, vgg16: Any = None, in_channels: int = 3,
           width: float = 1.0) -> FCN:
    """Scores at stride 32, interpolated to the image's size at once. 21 classes: PASCAL VOC's 20 and the background.

    vgg16: a VGG-16 or its state_dict to start from (see `FCN.start_from`). learned_upsampling: whether training may change
    the bilinear kernels. 134,346,581 learned parameters with fixed kernels, which hold 1,806,336 numbers.
    """
    return _fcn(32, num_classes, learned_upsampling, vgg16, in_channels, width)


def fcn16s(num_classes: int = 21, *, learned_upsampling: bool = False, vgg16: Any = None, in_channels: int = 3,
           width: float = 1.0) -> FCN:
    """FCN-32s with the scores of pool4 (stride 16) added before the last interpolation. Options: see `fcn32s`."""
    return _fcn(16, num_classes, learned_upsampling, vgg16, in_channels, width)


def fcn8s(num_classes: int = 21, *, learned_upsampling: bool = False, vgg16: Any = None, in_channels: int = 3,
          width: float = 1.0) -> FCN:
    """FCN-16s with the scores of pool3 (stride 8) added as well. Options: see `fcn32s`."""
    return _fcn(8, num_classes, learned_upsampling, vgg16, in_channels, width)
