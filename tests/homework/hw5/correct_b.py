# minidl homework 5: this line tells which one the file is, whatever its name
"""Small functions, comprehensions, and one helper for every "window over a map"."""
from functools import reduce
from itertools import pairwise

import numpy as np

from minidl import Tensor, concat, nn, ops, stack


def window(side, K, S, P=0):
    return 1 + (side + 2 * P - K) // S


def conv_row(shape, F, K, S, P):
    out = (F, *(window(side, K, S, P) for side in shape[1:]))
    weights = np.prod([F, shape[0], K, K])
    return out, weights + F, weights * np.prod(out[1:])


def pool_row(shape, K, S):
    return (shape[0], *(window(side, K, S) for side in shape[1:])), 0, 0


def fc_row(shape, F):
    weights = np.prod([*shape, F])
    return (F,), weights + F, weights


KINDS = {"conv": conv_row, "pool": pool_row, "fc": fc_row}


def count_table(table, shape):
    rows = [[shape]]
    for kind, *options in table:
        if kind not in KINDS:
            raise ValueError(f"{kind} is none of {', '.join(KINDS)}")
        rows.append(KINDS[kind](rows[-1][0], *options))
    return rows[1:]


def receptive_field(table):
    """Backwards, from one unit: which pixels first...last of the map before does it need?"""
    def pixels(unit):
        first = last = unit
        for kind, *options in reversed(table):
            K, S, P = options[1:] if kind == "conv" else [*options, 0]
            first, last = first * S - P, last * S - P + K - 1
        return first, last

    (first, last), (following, _) = pixels(0), pixels(1)
    return [last - first + 1, following - first, first]


def he_weights(shape, rng):
    fan_in = np.prod(shape) // shape[0]
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(np.sqrt(2 / fan_in))


def initialise(net, rng):
    for layer in net.modules():
        if type(layer) in (nn.Conv2d, nn.Linear):
            layer.weight.data[...] = he_weights(layer.weight.shape, rng)
            if layer.bias is not None:
                layer.bias.data *= 0


def stage_layers(stage, in_channels, batch_norm):
    widths = [in_channels, *(channels for _, channels in stage)]
    for (kernel, _), (before, after) in zip(stage, pairwise(widths)):
        yield nn.Conv2d(before, after, kernel, padding=kernel // 2)
        yield from [nn.BatchNorm2d(after)] * batch_norm
        yield nn.ReLU(inplace=True)
    yield nn.MaxPool2d(2, 2)


def vgg_features(stages, in_channels, batch_norm=False):
    widths = [in_channels, *(stage[-1][1] for stage in stages)]
    return nn.Sequential(*(layer for stage, C in zip(stages, widths) for layer in stage_layers(stage, C, batch_norm)))


def vgg(stages, image_shape, hidden, num_classes):
    features = vgg_features(stages, image_shape[0])
    H, W = (reduce(lambda n, _: n // 2, stages, side) for side in image_shape[1:])
    widths = [stages[-1][-1][1] * H * W, *hidden]
    classifier = [layer for before, after in pairwise(widths)
                  for layer in (nn.Linear(before, after), nn.ReLU(inplace=True), nn.Dropout(p=0.5))]
    return nn.Sequential(*features, nn.Flatten(), *classifier, nn.Linear(widths[-1], num_classes))


class Inception(nn.Module):
    def __init__(self, in_channels, one, three, five, pool):
        self.one, self.pool = nn.Conv2d(in_channels, one, 1), nn.Conv2d(in_channels, pool, 1)
        for name, (reduced, channels), K in (("three", three, 3), ("five", five, 5)):
            setattr(self, f"{name}_reduce", nn.Conv2d(in_channels, reduced, 1))
            setattr(self, name, nn.Conv2d(reduced, channels, K, padding=K // 2))

    def forward(self, x):
        # ReLU acts on each number alone, so the last one of every branch can wait until they stand side by side
        three, five = self.three(ops.relu(self.three_reduce(x))), self.five(ops.relu(self.five_reduce(x)))
        return ops.relu(concat([self.one(x), three, five, self.pool(ops.max_pool2d(x, 3, 1, 1))], 1))


def shortcut_a(x, channels, stride):
    x = x[..., ::stride, ::stride]
    N, C, H, W = x.shape
    if channels == C:
        return x
    return concat([x, Tensor(np.zeros((N, channels - C, H, W), x.dtype))], axis=1)


class OptionA(nn.Module):
    def __init__(self, channels, stride):
        self.channels, self.stride = channels, stride

    def forward(self, x):
        return shortcut_a(x, self.channels, self.stride)


class ResidualBlock(nn.Module):
    def __init__(self, in_channels, channels, stride=1, option="B"):
        if option not in {"A", "B"}:
            raise ValueError(f"option is 'A' or 'B', not {option!r}")
        first, second = ({"stride": s, "padding": 1, "bias": False} for s in (stride, 1))
        self.conv1, self.norm1 = nn.Conv2d(in_channels, channels, 3, **first), nn.BatchNorm2d(channels)
        self.conv2, self.norm2 = nn.Conv2d(channels, channels, 3, **second), nn.BatchNorm2d(channels)
        if (in_channels, stride) == (channels, 1):
            self.shortcut = nn.Identity()
        elif option == "A":
            self.shortcut = OptionA(channels, stride)
        else:
            self.projection = nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)
            self.projection_norm = nn.BatchNorm2d(channels)
            self.shortcut = nn.Sequential(self.projection, self.projection_norm)

    def forward(self, x):
        F = nn.Sequential(self.conv1, self.norm1, nn.ReLU(), self.conv2, self.norm2)
        return ops.relu(stack([F(x), self.shortcut(x)]).sum(axis=0))


def stem(C, F):
    return nn.Sequential({"conv": nn.Conv2d(C, F, 3, padding=1, bias=False), "norm": nn.BatchNorm2d(F), "relu": nn.ReLU()}), F


def vgg_stage(C, stage):
    return vgg_features([stage], C), stage[-1][1]


def inception(C, one, three, five, pool):
    return Inception(C, one, three, five, pool), one + three[1] + five[1] + pool


def residual(C, F, S, option):
    return ResidualBlock(C, F, S, option), F


ROWS = {"stem": stem, "vgg": vgg_stage, "inception": inception, "residual": residual}


def net_from_table(table, in_channels, num_classes):
    modules, C = [], in_channels
    for kind, *options in table:
        if kind not in ROWS:
            raise ValueError(f"{kind}: no such row")
        module, C = ROWS[kind](C, *options)
        modules.append(module)
    return nn.Sequential(*modules, nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(C, num_classes))
