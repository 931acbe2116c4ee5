"""Homework 5: the blocks of VGG, GoogLeNet and ResNet, what they cost, and how far they see.

You count the parameters of a net before you build it, work out how much of the image one unit sees, draw He's first
weights, and write the three blocks of the lecture: a VGG stage, an Inception module, a residual block. At the end a table
becomes a net of them. It goes with lesson 3 (`lessons/03_plain_against_residual.py`).

Use the layers of `minidl.nn` (Conv2d, Linear, BatchNorm2d, ReLU, MaxPool2d, AdaptiveAvgPool2d, Flatten, Dropout, Sequential),
the operations of `minidl.ops` (such as `ops.relu`, `ops.max_pool2d`), and `minidl.concat` and `minidl.pad` for Tensors. A
module of your own is a subclass of `nn.Module` that makes its layers in `__init__` and uses them in `forward`. The ready-made
nets of `minidl.models` will not help you: names and arguments differ here on purpose.

Check your file with: minidl homework check hw5_blocks.py

Papers: Simonyan and Zisserman 2015 (VGG), Szegedy et al. 2015 (GoogLeNet), He et al. 2015 (first weights) and 2016 (ResNet).
"""
import math

import numpy as np

import minidl
from minidl import nn, ops


#: task count_table | 4 points | 25 minutes
#: hint Cover the table and ask of one filter: how many numbers does it hold? It looks at all channels of the map before it.
#: hint Walk down the rows and carry the shape along. A convolution has F * C * K * K weights and F biases, and gives
#:      (H + 2 P - K) // S + 1 rows. Each weight is used once at each place of the output map.
#: hint After "fc" the shape is (F,). Its weights are F * math.prod(shape before), and each is used once. A pool keeps C.
def count_table(table, shape):
    """What every row of a table gives and what it costs: a list of (shape, parameters, multiply_adds), one per row

    shape: of one image, (C, H, W). table: a list of rows, each a tuple of a kind and whole numbers:
        ("conv", F, K, S, P)   F filters of K x K, stride S, P zeros around the image on each side; each filter has a bias
        ("pool", K, S)         windows of K x K, stride S, no padding; a window that does not fit is left out
        ("fc", F)              F units, each connected to all numbers of the row before; each has a bias
    ReLU changes none of these numbers, so it has no row.

    Each entry of the result: the shape of the output for one image, (C, H, W) after "conv" and "pool", (F,) after "fc"; how
    many numbers the row learns; and how many products of a weight and an input one image takes (adding a bias is none).
    A kind that you do not know is a ValueError that names it.
    """
    #: solution
    rows = []
    for kind, *numbers in table:
        if kind == "conv":
            (C, H, W), (F, K, S, P) = shape, numbers
            shape = F, (H + 2 * P - K) // S + 1, (W + 2 * P - K) // S + 1
            weights, biases, places = F * C * K * K, F, shape[1] * shape[2]
        elif kind == "pool":
            (C, H, W), (K, S) = shape, numbers
            shape = C, (H - K) // S + 1, (W - K) // S + 1
            weights, biases, places = 0, 0, 0
        elif kind == "fc":
            F, = numbers
            weights, biases, places = F * math.prod(shape), F, 1
            shape = (F,)
        else:
            raise ValueError(f"count_table: the kind must be conv, pool or fc, got {kind!r}")
        rows.append((shape, weights + biases, weights * places))
    return rows
    #: end


#: task receptive_field | 4 points | 25 minutes
#: hint Draw two 3x3 convolutions along one axis. How many pixels does one unit of the second see? And with a pool of 2
#:      between them?
#: hint Carry three numbers: size and step (how many pixels lie between two neighbours of this map), both 1 at the image, and
#:      start, which is 0. A window of K takes K - 1 steps more.
#: hint For every row, with the step of the map before it: start -= P * step, then size += (K - 1) * step, then step *= S.
def receptive_field(table):
    """What a unit sees of the image along one axis: (size, step, start), three whole numbers

    Unit i of the last map depends on the pixels start + i * step to start + i * step + size - 1, and on no others. Pixels that
    are not in the image (such as the negative ones) are padding. table: rows "conv" and "pool" as in count_table.
    """
    #: solution
    size, step, start = 1, 1, 0
    for kind, *numbers in table:
        K, S, P = numbers[1:] if kind == "conv" else (*numbers, 0)
        start -= P * step
        size += (K - 1) * step
        step *= S
    return size, step, start
    #: end


#: task he_init | 4 points | 20 minutes
#: hint One output is a sum of fan_in products. ReLU then throws half of the power away. What must the variance of a weight be,
#:      so that the mean square stays the same from layer to layer?
#: hint fan_in is the number of weights that one output uses: all axes of the shape but the first, multiplied. The standard
#:      deviation is the square root of 2 / fan_in.
#: hint for module in net.modules(): ... isinstance(module, (nn.Conv2d, nn.Linear)) ... module.weight.data = he_weights(...).
#:      A layer may have no bias: then module.bias is None.
def he_weights(shape, rng):
    """First weights for layers that ReLU follows: independent normal numbers, mean 0, variance 2 / fan_in (He et al. 2015)

    shape: (F, C, KH, KW) of a convolution or (outputs, inputs) of a linear layer. fan_in: how many products one output adds up.
    rng: the numpy.random.Generator to draw from. Returns a float32 array of this shape.
    """
    #: solution
    fan_in = math.prod(shape[1:])
    return (rng.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32)
    #: end


def initialise(net, rng):
    """Gives every nn.Conv2d and nn.Linear in `net`, however deep inside, new he_weights, and sets its bias (if it has one) to 0

    All other layers keep their numbers. The Parameters stay the same objects, since an optimizer may hold them already:
    only their .data change. Returns nothing.
    """
    #: solution
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.weight.data = he_weights(module.weight.shape, rng)
            if module.bias is not None:
                module.bias.data = np.zeros(module.bias.shape, np.float32)
    #: end


#: task vgg | 5 points | 30 minutes
#: hint Two loops, one in the other: over the stages, and over the convolutions of a stage. What must you remember from one
#:      convolution to the next?
#: hint Collect the layers in a Python list and end with nn.Sequential(*layers). Padding K // 2 keeps height and width when K is
#:      odd.
#: hint Every pool halves height and width and rounds down, also if they are odd. So behind n stages the map is H // 2**n high,
#:      and the first Linear takes channels * height * width numbers.
def vgg_features(stages, in_channels, batch_norm=False):
    """The convolutional part of a VGG net, from its table, as one flat nn.Sequential

    stages: a list of stages, each a list of (kernel, channels). VGG-A begins [[(3, 64)], [(3, 128)], [(3, 256), (3, 256)], ...
    For every pair: nn.Conv2d (stride 1, with bias, padded so that height and width stay; kernels are odd), then
    nn.BatchNorm2d if batch_norm, then nn.ReLU. At the end of every stage: nn.MaxPool2d of 2x2, stride 2.
    """
    #: solution
    layers: list[nn.Module] = []
    for stage in stages:
        for kernel, channels in stage:
            layers.append(nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2))
            if batch_norm:
                layers.append(nn.BatchNorm2d(channels))
            layers.append(nn.ReLU())
            in_channels = channels
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)
    #: end


def vgg(stages, image_shape, hidden, num_classes):
    """The whole net, as one flat nn.Sequential: the layers of vgg_features, nn.Flatten, then the classifier

    image_shape: (C, H, W) of one image. hidden: widths of the hidden fully connected layers, such as [4096, 4096]; it may be
    empty. For each of them nn.Linear, nn.ReLU, nn.Dropout with probability 0.5; at the end an nn.Linear to num_classes.
    """
    #: solution
    C, H, W = image_shape
    layers = [*vgg_features(stages, C), nn.Flatten()]
    side = 2 ** len(stages)
    size = stages[-1][-1][1] * (H // side) * (W // side)  # (channels, H, W) of the last map, flattened
    for width in hidden:
        layers += [nn.Linear(size, width), nn.ReLU(), nn.Dropout(0.5)]
        size = width
    return nn.Sequential(*layers, nn.Linear(size, num_classes))
    #: end


#: task inception | 5 points | 30 minutes
#: hint Draw the module: four arrows start at x and end side by side. Which axis do they share, and which one grows?
#: hint Three of the branches are one or two convolutions of x; the fourth pools x before its convolution. All four must keep
#:      height and width: what padding does each need?
#: hint minidl.concat([...], axis=1) of ops.relu(self.one(x)), ops.relu(self.three(ops.relu(self.three_reduce(x)))), the same
#:      with five, and ops.relu(self.pool(ops.max_pool2d(x, 3, 1, 1))).
class Inception(nn.Module):
    """Four views of the same x, side by side: x (N, in_channels, H, W) -> y (N, one + three + five + pool channels, H, W)

        1x1                        one channels
        1x1 to fewer, then 3x3     three = (reduced, channels)
        1x1 to fewer, then 5x5     five = (reduced, channels)
        3x3 max pool, then 1x1     pool channels

    in this order along the channels. Every convolution has stride 1, a bias, and a ReLU behind it, the reducing ones too. The
    pool has stride 1 and padding 1. The convolutions are attributes with the names
    one, three_reduce, three, five_reduce, five, pool, each an nn.Conv2d.
    """

    def __init__(self, in_channels, one, three, five, pool):
        #: solution
        self.one = nn.Conv2d(in_channels, one, 1)
        self.three_reduce = nn.Conv2d(in_channels, three[0], 1)
        self.three = nn.Conv2d(three[0], three[1], 3, padding=1)
        self.five_reduce = nn.Conv2d(in_channels, five[0], 1)
        self.five = nn.Conv2d(five[0], five[1], 5, padding=2)
        self.pool = nn.Conv2d(in_channels, pool, 1)
        #: end

    def forward(self, x):
        #: solution
        return minidl.concat([
            ops.relu(self.one(x)),
            ops.relu(self.three(ops.relu(self.three_reduce(x)))),
            ops.relu(self.five(ops.relu(self.five_reduce(x)))),
            ops.relu(self.pool(ops.max_pool2d(x, 3, 1, 1))),
        ], axis=1)
        #: end


#: task residual | 6 points | 40 minutes
#: hint If F(x) is 0, what should the block give? Where, then, do the sum and the last ReLU stand?
#: hint x[:, :, ::stride, ::stride] works on Tensors, and minidl.pad(x, ((0, 0), (0, n), (0, 0), (0, 0))) puts n zero channels
#:      behind. Decide in __init__ which of the three shortcuts the block has.
#: hint y = self.norm2(self.conv2(ops.relu(self.norm1(self.conv1(x))))), then ops.relu(y + shortcut). The shortcut is x, or
#:      shortcut_a(x, ...), or self.projection_norm(self.projection(x)).
def shortcut_a(x, channels, stride):
    """Option A, no parameters: every stride-th row and column of x, beginning with the first; zero channels behind its own

    x: a Tensor (N, C, H, W), C <= channels -> a Tensor (N, channels, ceil(H / stride), ceil(W / stride)); gradients flow back.
    """
    #: solution
    C = x.shape[1]
    return minidl.pad(x[:, :, ::stride, ::stride], ((0, 0), (0, channels - C), (0, 0), (0, 0)))
    #: end


class ResidualBlock(nn.Module):
    """y = relu(F(x) + shortcut(x)),  F(x) = norm2(conv2(relu(norm1(conv1(x)))))

    x (N, in_channels, H, W) -> y (N, channels, ceil(H / stride), ceil(W / stride)). conv1 and conv2 are 3x3 with padding 1 and
    without bias (batch norm would subtract it); conv1 has the stride. norm1 and norm2: nn.BatchNorm2d.

    shortcut(x) is x itself where F keeps the shape (in_channels == channels and stride 1). Else, by `option`:
        "A"   shortcut_a, no parameters
        "B"   projection, a 1x1 nn.Conv2d with the stride, without bias, and then projection_norm, an nn.BatchNorm2d
    Another option is a ValueError that names it. The layers are attributes with the names conv1, norm1, conv2, norm2, and
    projection, projection_norm where (and only where) they are used.
    """

    def __init__(self, in_channels, channels, stride=1, option="B"):
        #: solution
        if option not in ("A", "B"):
            raise ValueError(f"ResidualBlock: option must be 'A' or 'B', got {option!r}")
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.channels, self.stride = channels, stride
        self.keeps_shape = in_channels == channels and stride == 1
        self.option = option
        if option == "B" and not self.keeps_shape:
            self.projection = nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)
            self.projection_norm = nn.BatchNorm2d(channels)
        #: end

    def forward(self, x):
        #: solution
        y = ops.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if self.keeps_shape:
            shortcut = x
        elif self.option == "A":
            shortcut = shortcut_a(x, self.channels, self.stride)
        else:
            shortcut = self.projection_norm(self.projection(x))
        return ops.relu(y + shortcut)
        #: end


#: task net_from_table | 5 points | 25 minutes
#: hint It is the loop of vgg_features once more, with blocks in place of layers. What does each block make of the number of
#:      channels?
#: hint One module per row: a row with several layers becomes an nn.Sequential of its own. An Inception module gives the sum of
#:      its four outputs.
#: hint ("vgg", stage) is vgg_features([stage], channels). At the end come nn.AdaptiveAvgPool2d(1), nn.Flatten() and
#:      nn.Linear(channels, num_classes).
def net_from_table(table, in_channels, num_classes):
    """A classifier from a table of blocks: an nn.Sequential with one module per row and three more for the scores

    Rows:
        ("stem", F)                                       3x3 convolution, stride 1, padding 1, without bias; batch norm; ReLU
        ("vgg", [(K, F), ...])                            one stage of vgg_features, without batch norm
        ("inception", one, (r, three), (r, five), pool)   an Inception module
        ("residual", F, S, option)                        a ResidualBlock
    Each takes the channels that the row before gives, the first one in_channels. Then: the average over the whole map, whatever
    its size is; nn.Flatten; nn.Linear to the scores (logits).
    x (N, in_channels, H, W) -> scores (N, num_classes). A row that you do not know is a ValueError that names its kind.
    """
    #: solution
    modules: list[nn.Module] = []
    C = in_channels
    for kind, *numbers in table:
        if kind == "stem":
            F, = numbers
            modules.append(nn.Sequential(nn.Conv2d(C, F, 3, padding=1, bias=False), nn.BatchNorm2d(F), nn.ReLU()))
            C = F
        elif kind == "vgg":
            stage, = numbers
            modules.append(vgg_features([stage], C))
            C = stage[-1][1]
        elif kind == "inception":
            one, three, five, pool = numbers
            modules.append(Inception(C, one, three, five, pool))
            C = one + three[1] + five[1] + pool
        elif kind == "residual":
            F, S, option = numbers
            modules.append(ResidualBlock(C, F, S, option))
            C = F
        else:
            raise ValueError(f"net_from_table: a row is stem, vgg, inception or residual, got {kind!r}")
    return nn.Sequential(*modules, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(C, num_classes))
    #: end
