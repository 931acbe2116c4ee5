"""The zoo once more, in PyTorch: written from the papers' tables, without a look at how minidl computes them.

Every net takes `width`, a factor for its channels that must leave whole numbers, and `side`, the height of the map that
its first fully connected layer was made for. Layers have the names of torchvision, or of the authors' Caffe nets, so that
weights travel by state_dict.
"""
import math

import numpy as np
import torch
from torch import nn

from minidl.randomness import generator

F = nn.functional


def scaled(n, width):
    """n * width channels, which must be a whole number: how a net rounds is no business of these tests."""
    assert float(n * width).is_integer(), f"{n} channels * {width}"
    return int(n * width)


class Dropout(nn.Module):
    """PyTorch's formula with minidl's masks: after the same `minidl.manual_seed`, both nets drop the same places."""

    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        if not self.training:
            return x
        keep = generator().random(tuple(x.shape), dtype=np.float32) >= self.p
        return torch.where(torch.from_numpy(keep), x / (1 - self.p), 0)


def fully_connected(layers, x, side):
    """Flatten and run the layers; on a map larger than side x side, slide: every Linear is a convolution."""
    for layer in layers:
        if isinstance(layer, nn.Linear):
            x = F.conv2d(x, layer.weight.view(layer.out_features, x.shape[1], side, side), layer.bias)
            side = 1
        else:
            x = layer(x)
    return x


class Net(nn.Module):
    """trunk(x) is the last map, `pooled` what is done to it, head() the fully connected layers."""

    def forward(self, x):
        x = self.pooled(self.trunk(x)).flatten(1)
        for layer in self.head():
            x = layer(x)
        return x

    def slide(self, x, side):
        """The scores at every place of a larger image. side: height of the last map at the size that the net is made for."""
        x = self.trunk(x)
        if self.averages:
            x, side = F.avg_pool2d(x, side, stride=1), 1
        return fully_connected(self.head(), x, side)


# --- AlexNet -----------------------------------------------------------------------------------------------------------


class AlexNet(Net):
    """Krizhevsky et al. 2012, as bvlc_alexnet names it: conv, ReLU, LRN, pool; two groups in conv2, conv4 and conv5."""

    averages = False

    def __init__(self, width, num_classes, side, in_channels=3):
        super().__init__()
        n96, n256, n384, n4096 = (scaled(n, width) for n in (96, 256, 384, 4096))
        self.conv1 = nn.Conv2d(in_channels, n96, 11, stride=4)
        self.conv2 = nn.Conv2d(n96, n256, 5, padding=2, groups=2)
        self.conv3 = nn.Conv2d(n256, n384, 3, padding=1)
        self.conv4 = nn.Conv2d(n384, n384, 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(n384, n256, 3, padding=1, groups=2)
        self.fc6 = nn.Linear(n256 * side * side, n4096)
        self.fc7 = nn.Linear(n4096, n4096)
        self.fc8 = nn.Linear(n4096, num_classes)
        self.drop6, self.drop7 = Dropout(0.5), Dropout(0.5)

    def trunk(self, x):
        def norm(x):  # the paper's alpha is not divided by n = 5; PyTorch divides
            return F.local_response_norm(x, 5, alpha=5 * 1e-4, beta=0.75, k=2.0)

        x = F.max_pool2d(norm(F.relu(self.conv1(x))), 3, 2)
        x = F.max_pool2d(norm(F.relu(self.conv2(x))), 3, 2)
        x = F.relu(self.conv3(x))
        x = F.relu(self.conv4(x))
        return F.max_pool2d(F.relu(self.conv5(x)), 3, 2)

    def pooled(self, x):
        return x

    def head(self):
        return [self.fc6, F.relu, self.drop6, self.fc7, F.relu, self.drop7, self.fc8]


class FeaturesAndClassifier(Net):
    """What torchvision's AlexNet and VGG have in common: `features`, an adaptive pool to side x side, `classifier`."""

    averages = False

    def trunk(self, x):
        return self.features(x)

    def pooled(self, x):
        return F.adaptive_avg_pool2d(x, self.side)

    def head(self):
        return self.classifier


class OneWeirdTrick(FeaturesAndClassifier):
    """torchvision's AlexNet: no groups, no LRN, dropout before each hidden fully connected layer."""

    def __init__(self, width, num_classes, side, in_channels=3):
        super().__init__()
        self.side = side
        n64, n192, n384, n256, n4096 = (scaled(n, width) for n in (64, 192, 384, 256, 4096))
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, n64, 11, stride=4, padding=2), nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(n64, n192, 5, padding=2), nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(n192, n384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(n384, n256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(n256, n256, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(3, 2),
        )
        self.classifier = nn.Sequential(
            Dropout(0.5), nn.Linear(n256 * side * side, n4096), nn.ReLU(),
            Dropout(0.5), nn.Linear(n4096, n4096), nn.ReLU(),
            nn.Linear(n4096, num_classes),
        )


# --- VGG ---------------------------------------------------------------------------------------------------------------

# Kernel sizes of the convolutions in the five stages (table 1 and section 4.1).
VGG_KERNELS = {
    "A": [[3], [3], [3] * 2, [3] * 2, [3] * 2],
    "A-LRN": [[3], [3], [3] * 2, [3] * 2, [3] * 2],
    "B": [[3] * 2] * 5,
    "B-shallow": [[5]] * 5,
    "C": [[3] * 2, [3] * 2, [3, 3, 1], [3, 3, 1], [3, 3, 1]],
    "D": [[3] * 2, [3] * 2, [3] * 3, [3] * 3, [3] * 3],
    "E": [[3] * 2, [3] * 2, [3] * 4, [3] * 4, [3] * 4],
}
VGG_CHANNELS = (64, 128, 256, 512, 512)


class PaperLRN(nn.Module):
    """n = 5, k = 2, alpha = 1e-4 undivided, beta = .75."""

    def forward(self, x):
        return F.local_response_norm(x, 5, alpha=5e-4, beta=0.75, k=2.0)


def vgg_stage(in_channels, channels, kernels, batch_norm):
    """Convolutions that keep the size, each with (batch norm and) ReLU."""
    layers = []
    for k in kernels:
        layers.append(nn.Conv2d(in_channels, channels, k, padding=(k - 1) // 2))
        if batch_norm:
            layers.append(nn.BatchNorm2d(channels))
        layers.append(nn.ReLU())
        in_channels = channels
    return layers


class VGG(FeaturesAndClassifier):
    """Simonyan and Zisserman 2015."""

    def __init__(self, config, width, num_classes, side, batch_norm=False, in_channels=3):
        super().__init__()
        self.side = side
        layers, before = [], in_channels
        for stage, (kernels, n) in enumerate(zip(VGG_KERNELS[config], VGG_CHANNELS)):
            n = scaled(n, width)
            layers += vgg_stage(before, n, kernels, batch_norm)
            if config == "A-LRN" and stage == 0:
                layers.append(PaperLRN())
            layers.append(nn.MaxPool2d(2))
            before = n
        self.features = nn.Sequential(*layers)
        n4096 = scaled(4096, width)
        self.classifier = nn.Sequential(
            nn.Linear(before * side * side, n4096), nn.ReLU(), Dropout(0.5),
            nn.Linear(n4096, n4096), nn.ReLU(), Dropout(0.5),
            nn.Linear(n4096, num_classes),
        )


# --- GoogLeNet ---------------------------------------------------------------------------------------------------------

# 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection
INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64), "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
}


class ConvReLU(nn.Module):
    """A convolution and ReLU; between them batch norm, if `eps` is one: then without bias."""

    def __init__(self, in_channels, out_channels, k, stride=1, eps=None):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, k, stride, (k - 1) // 2, bias=eps is None)
        self.bn = nn.Identity() if eps is None else nn.BatchNorm2d(out_channels, eps=eps)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    """1x1, 3x3, 5x5, pool: concatenated in this order."""

    def __init__(self, in_channels, row, eps, five=5):
        super().__init__()
        one, reduce3, three, reduce5, fives, pool = row
        self.branch1 = ConvReLU(in_channels, one, 1, eps=eps)
        self.branch2 = nn.Sequential(ConvReLU(in_channels, reduce3, 1, eps=eps), ConvReLU(reduce3, three, 3, eps=eps))
        self.branch3 = nn.Sequential(ConvReLU(in_channels, reduce5, 1, eps=eps), ConvReLU(reduce5, fives, five, eps=eps))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), ConvReLU(in_channels, pool, 1, eps=eps))
        self.channels = one + three + fives + pool

    def forward(self, x):
        return torch.cat((self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)), 1)


class Head(nn.Module):
    """An auxiliary classifier. pool: the paper averages 5x5 windows 3 apart, torchvision to 4x4."""

    def __init__(self, in_channels, side, pool, width, num_classes, eps):
        super().__init__()
        n128, n1024 = scaled(128, width), scaled(1024, width)
        self.pool = pool
        self.conv = ConvReLU(in_channels, n128, 1, eps=eps)
        self.fc1, self.fc2 = nn.Linear(n128 * side * side, n1024), nn.Linear(n1024, num_classes)
        self.dropout = Dropout(0.7)

    def forward(self, x):
        x = self.conv(self.pool(x)).flatten(1)
        return self.fc2(self.dropout(F.relu(self.fc1(x))))


class GoogLeNet(Net):
    """Szegedy et al. 2015, or torchvision's: batch norm of eps .001, no LRN, 3x3 for 5x5, maxpool4 of 2x2.

    side: of the last map; aux_side: of a head's map after its pool; None: without heads.
    """

    averages = True

    def __init__(self, width, num_classes, side, aux_side, torchvision=False, transform_input=False):
        super().__init__()
        self.side, self.torchvision, self.transform_input = side, torchvision, transform_input
        eps, five = (1e-3, 3) if torchvision else (None, 5)
        n64, n192 = scaled(64, width), scaled(192, width)
        self.conv1 = ConvReLU(3, n64, 7, 2, eps=eps)
        self.conv2 = ConvReLU(n64, n64, 1, eps=eps)
        self.conv3 = ConvReLU(n64, n192, 3, eps=eps)
        channels, at = n192, {}
        for name, row in INCEPTION.items():
            module = Inception(channels, [scaled(n, width) for n in row], eps, five)
            setattr(self, f"inception{name}", module)
            at[name] = channels = module.channels
        if aux_side:
            pool = nn.AdaptiveAvgPool2d((4, 4)) if torchvision else nn.AvgPool2d(5, 3)
            self.aux1 = Head(at["4a"], aux_side, pool, width, num_classes, eps)
            self.aux2 = Head(at["4d"], aux_side, pool, width, num_classes, eps)
        self.aux_side = aux_side
        self.dropout = Dropout(0.2 if torchvision else 0.4)
        self.fc = nn.Linear(channels, num_classes)

    def trunk(self, x):
        """The last map; those of 4a and 4d are remembered for the heads."""
        def norm(x):  # alpha is divided by 5
            return x if self.torchvision else F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1.0)

        def pool(x, k=3):
            return F.max_pool2d(x, k, 2, ceil_mode=True)

        if self.transform_input:
            red = x[:, 0:1] * (0.229 / 0.5) + (0.485 - 0.5) / 0.5
            green = x[:, 1:2] * (0.224 / 0.5) + (0.456 - 0.5) / 0.5
            blue = x[:, 2:3] * (0.225 / 0.5) + (0.406 - 0.5) / 0.5
            x = torch.cat((red, green, blue), 1)
        x = norm(pool(self.conv1(x)))
        x = pool(norm(self.conv3(self.conv2(x))))
        x = pool(self.inception3b(self.inception3a(x)))
        self.map4a = x = self.inception4a(x)
        self.map4d = x = self.inception4d(self.inception4c(self.inception4b(x)))
        x = pool(self.inception4e(x), 2 if self.torchvision else 3)
        return self.inception5b(self.inception5a(x))

    def pooled(self, x):
        return F.adaptive_avg_pool2d(x, 1) if self.torchvision else F.avg_pool2d(x, self.side, stride=1)

    def head(self):
        return [self.dropout, self.fc]

    def forward(self, x):
        logits = super().forward(x)
        if self.training and self.aux_side:
            return logits, self.aux1(self.map4a), self.aux2(self.map4d)
        return logits


# --- ResNet ------------------------------------------------------------------------------------------------------------


def conv(in_channels, out_channels, k, stride=1):
    return nn.Conv2d(in_channels, out_channels, k, stride=stride, padding=(k - 1) // 2, bias=False)


class Block(nn.Module):
    """A basic block (3x3, 3x3) or a bottleneck (1x1, 3x3, 1x1 to four times the channels), and its shortcut.

    shortcut None: a plain net. "A": zeros for new channels, as many before as behind the old ones. "B": a projection
    where the shape changes. "C": a projection everywhere.
    """

    def __init__(self, in_channels, n, stride, bottleneck, shortcut, stride_in):
        super().__init__()
        self.bottleneck, self.shortcut, self.stride = bottleneck, shortcut, stride
        self.out_channels = 4 * n if bottleneck else n
        if bottleneck:
            self.conv1 = conv(in_channels, n, 1, stride if stride_in == "1x1" else 1)
            self.bn1 = nn.BatchNorm2d(n)
            self.conv2 = conv(n, n, 3, stride if stride_in == "3x3" else 1)
            self.bn2 = nn.BatchNorm2d(n)
            self.conv3 = conv(n, 4 * n, 1)
            self.bn3 = nn.BatchNorm2d(4 * n)
        else:
            self.conv1, self.bn1 = conv(in_channels, n, 3, stride), nn.BatchNorm2d(n)
            self.conv2, self.bn2 = conv(n, n, 3), nn.BatchNorm2d(n)
        changes = stride != 1 or in_channels != self.out_channels
        self.downsample = None
        if shortcut == "C" or (shortcut == "B" and changes):
            self.downsample = nn.Sequential(conv(in_channels, self.out_channels, 1, stride), nn.BatchNorm2d(self.out_channels))

    def carried(self, x):
        if self.downsample is not None:
            return self.downsample(x)
        if self.shortcut == "A":
            extra = self.out_channels - x.shape[1]
            return F.pad(x[:, :, ::self.stride, ::self.stride], (0, 0, 0, 0, extra // 2, extra - extra // 2))
        return x

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.bottleneck:
            y = self.bn3(self.conv3(F.relu(y)))
        if self.shortcut is not None:
            y = y + self.carried(x)
        return F.relu(y)


class ResNet(Net):
    """`blocks` in each stage, `channels` of their 3x3 convolutions. stem: (kernel, stride) of conv1, and whether a
    max pool follows."""

    averages = True

    def __init__(self, blocks, channels, num_classes, stem=(7, 2, True), in_channels=3, bottleneck=False, shortcut="B",
                 stride_in="3x3"):
        super().__init__()
        k, stride, self.max_pool = stem
        self.conv1, self.bn1 = conv(in_channels, channels[0], k, stride), nn.BatchNorm2d(channels[0])
        before = channels[0]
        self.stages = []
        for i, (count, n) in enumerate(zip(blocks, channels)):
            stage = []
            for j in range(count):
                stage.append(Block(before, n, 2 if i > 0 and j == 0 else 1, bottleneck, shortcut, stride_in))
                before = stage[-1].out_channels
            self.stages.append(f"layer{i + 1}")
            setattr(self, self.stages[-1], nn.Sequential(*stage))
        self.fc = nn.Linear(before, num_classes)

    def trunk(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        if self.max_pool:
            x = F.max_pool2d(x, 3, 2, padding=1)
        for name in self.stages:
            x = getattr(self, name)(x)
        return x

    def pooled(self, x):
        return F.adaptive_avg_pool2d(x, 1)

    def head(self):
        return [self.fc]


RESNET_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def resnet(depth, width, num_classes, **options):
    """He et al. 2016, table 1. shortcut=None: the plain net."""
    channels = [scaled(n, width) for n in (64, 128, 256, 512)]
    return ResNet(RESNET_BLOCKS[depth], channels, num_classes, bottleneck=depth >= 50, **options)


def cifar(depth, width, num_classes, **options):
    """Section 4.2: 6 n + 2 layers."""
    channels = [scaled(n, width) for n in (16, 32, 64)]
    return ResNet([(depth - 2) // 6] * 3, channels, num_classes, stem=(3, 1, False), **options)


# --- FCN ---------------------------------------------------------------------------------------------------------------


def bilinear(k, channels):
    """The kernel that interpolates, on the diagonal of (channels, channels, k, k).

    A place i of the kernel lies |i - centre| fine pixels from the coarse one, `factor` fine pixels from the next.
    """
    factor, centre = math.ceil(k / 2), (k - 1) / 2
    row = torch.tensor([1 - abs(i - centre) / factor for i in range(k)], dtype=torch.float64)
    w = torch.zeros(channels, channels, k, k, dtype=torch.float64)
    for c in range(channels):
        w[c, c] = row[:, None] * row[None, :]
    return w


class FCN(nn.Module):
    """Long et al. 2015 on VGG-16: voc-fcn32s, voc-fcn16s and voc-fcn8s of the authors, layer by layer."""

    def __init__(self, stride, width, num_classes, learned=False):
        super().__init__()
        self.stride = stride
        layers, before = [], 3
        for kernels, n in zip(VGG_KERNELS["D"], VGG_CHANNELS):
            layers += [*vgg_stage(before, scaled(n, width), kernels, False), nn.MaxPool2d(2, 2, ceil_mode=True)]
            before = scaled(n, width)
        layers[0].padding = (100, 100)
        self.features = nn.Sequential(*layers)
        n256, n512, n4096 = (scaled(n, width) for n in (256, 512, 4096))
        self.fc6, self.drop6 = nn.Conv2d(n512, n4096, 7), Dropout(0.5)
        self.fc7, self.drop7 = nn.Conv2d(n4096, n4096, 1), Dropout(0.5)
        self.score_fr = nn.Conv2d(n4096, num_classes, 1)
        sizes = {32: {"upscore": 64}, 16: {"upscore2": 4, "upscore16": 32},
                 8: {"upscore2": 4, "upscore_pool4": 4, "upscore8": 16}}
        for name, k in sizes[stride].items():
            setattr(self, name, nn.ConvTranspose2d(num_classes, num_classes, k, stride=k // 2, bias=False))
            getattr(self, name).weight = nn.Parameter(bilinear(k, num_classes), requires_grad=learned)
        if stride < 32:
            self.score_pool4 = nn.Conv2d(n512, num_classes, 1)
        if stride < 16:
            self.score_pool3 = nn.Conv2d(n256, num_classes, 1)

    def forward(self, x):
        H, W = x.shape[2:]
        pools = []
        y = x
        for layer in self.features:
            y = layer(y)
            if isinstance(layer, nn.MaxPool2d):
                pools.append(y)
        _, _, pool3, pool4, _ = pools
        y = self.drop6(F.relu(self.fc6(y)))
        y = self.drop7(F.relu(self.fc7(y)))
        y = self.score_fr(y)
        if self.stride == 32:
            return self.upscore(y)[:, :, 19:19 + H, 19:19 + W]
        y = self.upscore2(y)
        y = y + self.score_pool4(pool4)[:, :, 5:5 + y.shape[2], 5:5 + y.shape[3]]
        if self.stride == 16:
            return self.upscore16(y)[:, :, 27:27 + H, 27:27 + W]
        y = self.upscore_pool4(y)
        y = y + self.score_pool3(pool3)[:, :, 9:9 + y.shape[2], 9:9 + y.shape[3]]
        return self.upscore8(y)[:, :, 31:31 + H, 31:31 + W]


# --- the mini nets -----------------------------------------------------------------------------------------------------


class MiniVGG(FeaturesAndClassifier):
    """Three stages of one, two and two 3x3 with batch norm, and one fully connected layer."""

    def __init__(self, width, num_classes, side):
        super().__init__()
        self.side, before, layers = side, 1, []
        for n, count in ((12, 1), (24, 2), (48, 2)):
            layers += [*vgg_stage(before, scaled(n, width), [3] * count, True), nn.MaxPool2d(2)]
            before = scaled(n, width)
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(before * side * side, num_classes))


class MiniInception(Net):
    """A 3x3 of stride 2, a 3x3, a 2x2 max pool, two Inception modules with batch norm, the average, a linear layer.

    eps as in torchvision's GoogLeNet.
    """

    averages = True

    def __init__(self, width, num_classes):
        super().__init__()
        n12, n24 = scaled(12, width), scaled(24, width)
        row = [scaled(n, width) for n in (24, 24, 48, 6, 12, 12)]
        self.conv1 = ConvReLU(1, n12, 3, 2, eps=1e-3)
        self.conv2 = ConvReLU(n12, n24, 3, eps=1e-3)
        self.inception3a = Inception(n24, row, 1e-3)
        self.inception3b = Inception(self.inception3a.channels, row, 1e-3)
        self.fc = nn.Linear(self.inception3b.channels, num_classes)

    def trunk(self, x):
        return self.inception3b(self.inception3a(F.max_pool2d(self.conv2(self.conv1(x)), 2)))

    def pooled(self, x):
        return F.adaptive_avg_pool2d(x, 1)

    def head(self):
        return [self.fc]


def mini_resnet(width, num_classes):
    """Two basic blocks in each of three stages behind a 3x3 of stride 2."""
    return ResNet((2, 2, 2), [scaled(n, width) for n in (12, 24, 48)], num_classes, stem=(3, 2, False), in_channels=1)


# --- weights -----------------------------------------------------------------------------------------------------------


def randomise(net, x, seed):
    """Other weights, biases, scales and statistics, none of them 0 or 1, with which signals and gradients stay of order 1.

    Running statistics are those of the batch x, then shaken: a deep net in evaluation mode would otherwise blow up or die.
    Weights that are not to be learned stay.
    """
    rng = np.random.default_rng(seed)

    def uniform(low, high, t):
        return torch.from_numpy(rng.uniform(low, high, tuple(t.shape)))

    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                signs = torch.from_numpy(rng.choice([-1, 1, 1, 1], len(module.weight)))
                module.weight.copy_(uniform(0.5, 1.5, module.weight) * signs)
                module.bias.copy_(uniform(-0.5, 0.5, module.bias))
            elif isinstance(module, (nn.Conv2d, nn.Linear, nn.ConvTranspose2d)) and module.weight.requires_grad:
                w = module.weight
                if not isinstance(module, nn.ConvTranspose2d):
                    w.copy_(torch.from_numpy(rng.standard_normal(tuple(w.shape)) * math.sqrt(2 / w[0].numel())))
                else:  # bilinear kernels that learn: shaken, off the diagonal as well
                    w.add_(torch.from_numpy(rng.standard_normal(tuple(w.shape)) * 0.1))
                if module.bias is not None:
                    module.bias.copy_(uniform(-0.3, 0.3, module.bias))
        if not norms:
            return
        for norm in norms:
            norm.momentum = 1.0
        net.train()(x)
        for norm in norms:
            norm.momentum = 0.1
            spread = norm.running_var.sqrt()
            norm.running_mean.add_(spread * uniform(-0.3, 0.3, spread))
            norm.running_var.mul_(uniform(0.6, 1.5, spread))
            norm.num_batches_tracked.fill_(int(rng.integers(1, 1000)))
