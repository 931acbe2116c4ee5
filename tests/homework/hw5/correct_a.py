# minidl homework 5: this line tells which one the file is, whatever its name
"""The plainest way: one loop per task, every size written out."""
import numpy as np

import minidl
from minidl import nn, ops


def count_table(table, shape):
    result = []
    for row in table:
        if row[0] == "conv":
            _, F, K, S, P = row
            C, H, W = shape
            OH = (H + P + P - K) // S + 1
            OW = (W + P + P - K) // S + 1
            shape = (F, OH, OW)
            result.append((shape, F * (C * K * K + 1), F * C * K * K * OH * OW))
        elif row[0] == "pool":
            _, K, S = row
            C, H, W = shape
            shape = (C, (H - K) // S + 1, (W - K) // S + 1)
            result.append((shape, 0, 0))
        elif row[0] == "fc":
            inputs = 1
            for n in shape:
                inputs = inputs * n
            shape = (row[1],)
            result.append((shape, row[1] * (inputs + 1), row[1] * inputs))
        else:
            raise ValueError("unknown kind of row: " + str(row[0]))
    return result


def receptive_field(table):
    size = 1
    step = 1
    start = 0
    for row in table:
        if row[0] == "conv":
            kernel, stride, padding = row[2], row[3], row[4]
        else:
            kernel, stride, padding = row[1], row[2], 0
        start = start - padding * step
        size = size + (kernel - 1) * step
        step = step * stride
    return size, step, start


def he_weights(shape, rng):
    fan_in = 1
    for n in shape[1:]:
        fan_in = fan_in * n
    return rng.normal(0.0, (2 / fan_in) ** 0.5, shape).astype(np.float32)


def initialise(net, rng):
    for module in net.modules():
        if type(module) is nn.Conv2d or type(module) is nn.Linear:
            module.weight.data = he_weights(module.weight.data.shape, rng)
            if module.bias is not None:
                module.bias.data = np.zeros_like(module.bias.data)


def vgg_features(stages, in_channels, batch_norm=False):
    net = nn.Sequential()
    for stage in stages:
        for kernel, channels in stage:
            net.append(nn.Conv2d(in_channels, channels, kernel, stride=1, padding=(kernel - 1) // 2))
            if batch_norm:
                net.append(nn.BatchNorm2d(channels))
            net.append(nn.ReLU())
            in_channels = channels
        net.append(nn.MaxPool2d(2))
    return net


def vgg(stages, image_shape, hidden, num_classes):
    C, H, W = image_shape
    net = vgg_features(stages, C)
    for stage in stages:
        H = H // 2
        W = W // 2
        C = stage[-1][1]
    size = C * H * W
    net.append(nn.Flatten())
    for width in hidden:
        net.append(nn.Linear(size, width))
        net.append(nn.ReLU())
        net.append(nn.Dropout(0.5))
        size = width
    net.append(nn.Linear(size, num_classes))
    return net


class Inception(nn.Module):
    def __init__(self, in_channels, one, three, five, pool):
        self.one = nn.Conv2d(in_channels, one, 1)
        self.three_reduce = nn.Conv2d(in_channels, three[0], 1)
        self.three = nn.Conv2d(three[0], three[1], 3, padding=1)
        self.five_reduce = nn.Conv2d(in_channels, five[0], 1)
        self.five = nn.Conv2d(five[0], five[1], 5, padding=2)
        self.pool = nn.Conv2d(in_channels, pool, 1)
        self.max_pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x):
        a = self.relu(self.one(x))
        b = self.relu(self.three_reduce(x))
        b = self.relu(self.three(b))
        c = self.relu(self.five_reduce(x))
        c = self.relu(self.five(c))
        d = self.max_pool(x)
        d = self.relu(self.pool(d))
        return minidl.concat([a, b, c, d], axis=1)


def shortcut_a(x, channels, stride):
    x = x[:, :, ::stride, ::stride]
    N, C, H, W = x.shape
    return minidl.pad(x, ((0, 0), (0, channels - C), (0, 0), (0, 0)))


class ResidualBlock(nn.Module):
    def __init__(self, in_channels, channels, stride=1, option="B"):
        if option != "A" and option != "B":
            raise ValueError(f"there is no option {option!r}")
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.channels = channels
        self.stride = stride
        self.projection = None
        self.projection_norm = None
        self.pads = False
        if in_channels != channels or stride != 1:
            if option == "B":
                self.projection = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
                self.projection_norm = nn.BatchNorm2d(channels)
            else:
                self.pads = True

    def forward(self, x):
        y = self.conv1(x)
        y = self.norm1(y)
        y = ops.relu(y)
        y = self.conv2(y)
        y = self.norm2(y)
        if self.projection is not None:
            x = self.projection_norm(self.projection(x))
        elif self.pads:
            x = shortcut_a(x, self.channels, self.stride)
        return ops.relu(x + y)


def net_from_table(table, in_channels, num_classes):
    net = nn.Sequential()
    for row in table:
        if row[0] == "stem":
            conv = nn.Conv2d(in_channels, row[1], 3, padding=1, bias=False)
            net.append(nn.Sequential(conv, nn.BatchNorm2d(row[1]), nn.ReLU()))
            in_channels = row[1]
        elif row[0] == "vgg":
            net.append(vgg_features([row[1]], in_channels))
            in_channels = row[1][-1][1]
        elif row[0] == "inception":
            net.append(Inception(in_channels, row[1], row[2], row[3], row[4]))
            in_channels = row[1] + row[2][1] + row[3][1] + row[4]
        elif row[0] == "residual":
            net.append(ResidualBlock(in_channels, row[1], row[2], row[3]))
            in_channels = row[1]
        else:
            raise ValueError(f"there is no row of kind {row[0]!r}")
    net.append(nn.AdaptiveAvgPool2d(1))
    net.append(nn.Flatten())
    net.append(nn.Linear(in_channels, num_classes))
    return net
