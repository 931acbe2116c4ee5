# minidl homework 5: this line tells which one the file is, whatever its name
"""Other legal choices: generators, subclasses of Sequential, shortcuts as matrices, min-max of padding, NumPy integers."""
import math

import numpy as np

import minidl
from minidl import nn, ops


def count_table(table, shape):
    result, shape = [], np.array(shape)
    for kind, *o in table:
        before = shape.copy()
        if kind == "fc":
            weights, places = before.prod() * o[0], 1
            shape = np.array(o)
        elif kind in ("conv", "pool"):
            F, K, S, P = o if kind == "conv" else (before[0], *o, 0)
            shape = np.array([F, *np.floor((before[1:] + 2 * P - K) / S + 1).astype(int)])
            weights, places = F * before[0] * K**2, shape[1] * shape[2]
        else:
            raise ValueError(f"cannot count a {kind}")
        if kind == "pool":
            result.append([tuple(shape), 0, 0])
        else:
            result.append([tuple(shape), weights + shape[0], weights * places])
    return result


def receptive_field(table):
    if not table:
        return (1, 1, 0)
    *before, (kind, *o) = table
    size, step, start = receptive_field(before)
    K, S, P = o[-3:] if kind == "conv" else (o[0], o[1], 0)
    return (size + (K - 1) * step, step * S, start - P * step)


def he_weights(shape, rng):
    # Box and Muller: two uniform numbers make a normal one
    u, v = 1 - rng.random(shape), rng.random(shape)
    normal = np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)
    return np.asarray(normal * math.sqrt(2 / math.prod(shape[1:])), dtype=np.float32)


def initialise(net, rng):
    if isinstance(net, (nn.Conv2d, nn.Linear)):
        net.weight.data = he_weights(net.weight.shape, rng)
        if net.bias is not None:
            net.bias.data = net.bias.data - net.bias.data
    for child in net.children():
        initialise(child, rng)


class Features(nn.Sequential):
    """A Sequential is what it must be; a subclass is one."""


def vgg_features(stages, in_channels, batch_norm=False):
    layers = Features()
    for n, stage in enumerate(stages):
        for i, (kernel, channels) in enumerate(stage):
            before = stage[i - 1][1] if i else stages[n - 1][-1][1] if n else in_channels
            layers.append(nn.Conv2d(before, channels, (kernel, kernel), (1, 1), (kernel // 2, kernel // 2)))
            if batch_norm:
                layers.append(nn.BatchNorm2d(channels))
            layers.append(nn.ReLU())
        layers.append(nn.MaxPool2d((2, 2), (2, 2)))
    return layers


def vgg(stages, image_shape, hidden, num_classes):
    features = vgg_features(stages, image_shape[0])
    with minidl.no_grad():  # ask the layers how large their map is
        size = features(minidl.Tensor(np.zeros((1, *image_shape), np.float32))).size
    layers = list(features) + [nn.Flatten(1)]
    for width in hidden:
        layers.extend([nn.Linear(size, width), nn.ReLU(), nn.Dropout()])
        size = width
    layers.append(nn.Linear(size, num_classes))
    return nn.Sequential(*layers)


class Inception(nn.Module):
    def __init__(self, in_channels, one, three, five, pool):
        self.pool = nn.Conv2d(in_channels, pool, 1)
        self.five = nn.Conv2d(five[0], five[1], 5, 1, 2)
        self.five_reduce = nn.Conv2d(in_channels, five[0], 1)
        self.three = nn.Conv2d(three[0], three[1], 3, 1, 1)
        self.three_reduce = nn.Conv2d(in_channels, three[0], 1)
        self.one = nn.Conv2d(in_channels, one, 1)

    def branches(self, x):
        for layers in ((self.one,), (self.three_reduce, self.three), (self.five_reduce, self.five),
                       (nn.MaxPool2d(3, 1, 1), self.pool)):
            y = x
            for layer in layers:
                y = layer(y)
                if isinstance(layer, nn.Conv2d):
                    y = ops.relu(y, inplace=True)
            yield y

    def forward(self, x):
        y = None
        for branch in self.branches(x):
            y = branch if y is None else minidl.concat((y, branch), axis=1)
        return y


def shortcut_a(x, channels, stride):
    """As a 1x1 convolution with a fixed weight: the identity on top of zeros."""
    w = np.eye(channels, x.shape[1], dtype=x.dtype)[:, :, None, None]
    return ops.conv2d(x, minidl.Tensor(w), None, stride, 0)


class ResidualBlock(nn.Module):
    def __init__(self, in_channels, channels, stride=1, option="B"):
        changes = in_channels != channels or stride > 1
        if option == "B":
            if changes:
                self.projection = nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)
                self.projection_norm = nn.BatchNorm2d(channels)
                self.path = lambda x: self.projection_norm(self.projection(x))
        elif option != "A":
            raise ValueError("known options are 'A' and 'B'; this is " + repr(option))
        elif changes:
            self.path = lambda x: shortcut_a(x, channels, stride)
        if not changes:
            self.path = lambda x: x
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.norm1 = nn.BatchNorm2d(channels)

    def forward(self, x):
        y = ops.relu(self.norm1(self.conv1(x)), inplace=True)
        return ops.relu(self.path(x) + self.norm2(self.conv2(y)), inplace=True)


class Stem(nn.Module):
    def __init__(self, C, F):
        self.conv, self.norm = nn.Conv2d(C, F, 3, 1, 1, bias=False), nn.BatchNorm2d(F)

    def forward(self, x):
        return ops.relu(self.norm(self.conv(x)))


def net_from_table(table, in_channels, num_classes):
    net, C = nn.Sequential(), in_channels
    for kind, *o in table:
        match kind:
            case "stem":
                block, C = Stem(C, o[0]), o[0]
            case "vgg":
                block, C = vgg_features(o, C), o[0][-1][1]
            case "inception":
                block, C = Inception(C, *o), o[0] + o[1][-1] + o[2][-1] + o[3]
            case "residual":
                block, C = ResidualBlock(C, *o), o[0]
            case _:
                raise ValueError(f"what is {kind}?")
        net.append(block)
    return net.append(nn.AdaptiveAvgPool2d(1)).append(nn.Flatten()).append(nn.Linear(C, num_classes))
