"""What homework 5 is checked for: nets against plain operations on the same weights, counts against the papers' integers."""
import numpy as np

import minidl
from minidl import nn, ops
from minidl.homework.parts import close, in_case, part, refuses, shown

VGG_A = [[(3, 64)], [(3, 128)], [(3, 256)] * 2, [(3, 512)] * 2, [(3, 512)] * 2]
VGG_B = [[(3, 64)] * 2, [(3, 128)] * 2, [(3, 256)] * 2, [(3, 512)] * 2, [(3, 512)] * 2]
VGG_D = [[(3, 64)] * 2, [(3, 128)] * 2, [(3, 256)] * 3, [(3, 512)] * 3, [(3, 512)] * 3]
VGG_E = [[(3, 64)] * 2, [(3, 128)] * 2, [(3, 256)] * 4, [(3, 512)] * 4, [(3, 512)] * 4]

ALEXNET = [("conv", 96, 11, 4, 0), ("pool", 3, 2), ("conv", 256, 5, 1, 2), ("pool", 3, 2), ("conv", 384, 3, 1, 1),
           ("conv", 384, 3, 1, 1), ("conv", 256, 3, 1, 1), ("pool", 3, 2), ("fc", 4096), ("fc", 4096), ("fc", 1000)]
"""Without the two groups that shared the work of two GPUs."""


def rows_of(stages, *end):
    """A VGG net as rows of count_table."""
    rows = []
    for stage in stages:
        rows += [("conv", F, K, 1, K // 2) for K, F in stage] + [("pool", 2, 2)]
    return [*rows, *end]


# --- what the parts share ------------------------------------------------------------------------------------------------


def same(got, expected, what):
    """Raises unless the whole numbers in `got` are those expected; tuples and lists count as alike."""
    if plain(got) != plain(expected):
        raise AssertionError(f"{what}: expected {expected}, got {shown(got)}")


def plain(value):
    """`value` with tuples as lists and NumPy's integers as Python's, to compare."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return int(value) if isinstance(value, np.integer) else value


def numbers(result, what):
    """The array in a Tensor that a student's function has returned."""
    if not isinstance(result, minidl.Tensor):
        raise AssertionError(f"{what} must be a Tensor, got {type(result).__name__}"
                             + (": is a return missing?" if result is None else ""))
    return result.numpy()


def parameters_of(net, what):
    """How many numbers a net learns."""
    if not isinstance(net, nn.Module):
        raise AssertionError(f"{what} must be an nn.Module, got {type(net).__name__}")
    return sum(p.size for p in net.parameters())


def filled(net, rng):
    """The net in float64, with random weights that keep signals near 1, and with biases and scales that show."""
    if not isinstance(net, nn.Module):
        raise AssertionError(f"expected an nn.Module, got {type(net).__name__}"
                             + (": is a return missing?" if net is None else ""))
    net.to(dtype=np.float64)
    for p in net.parameters():
        if p.ndim > 1:
            p.data = rng.standard_normal(p.shape) * np.sqrt(2 / np.prod(p.shape[1:]))
        else:
            p.data = rng.uniform(0.3, 1.0, p.shape) * rng.choice([-1.0, 1.0], p.shape)
    return net


def layer(net, name, kind):
    """The layer that must have this name, and be of this kind."""
    found = getattr(net, name, None)
    if not isinstance(found, kind):
        raise AssertionError(f"{type(net).__name__} must have an nn.{kind.__name__} as attribute {name!r}, "
                             + ("but it has none of that name" if found is None else f"got {type(found).__name__}"))
    return found


def slopes_agree(f, inputs, what, parameters=()):
    """minidl.gradcheck along a random direction of each array, with what was checked in front of its message."""
    with in_case(what):
        minidl.gradcheck(f, inputs, parameters=parameters, max_elements=0, projections=1)


# --- count_table ---------------------------------------------------------------------------------------------------------


def counted(hw, table, shape, column):
    """One column of the student's result."""
    rows = hw.count_table(table, shape)
    if not isinstance(rows, (list, tuple)) or len(rows) != len(table) or any(len(row) != 3 for row in rows):
        raise AssertionError(f"count_table({table}, {shape}) must be a list of {len(table)} triples (shape, parameters, "
                             f"multiply_adds), one per row of the table, got {shown(rows, 200)}")
    return [row[column] for row in rows]


@part("count_table", 1, "shapes: padding, strides, and windows that do not fit")
def _(hw, ref, rng):
    sides = [(F, s, s) for F, s in ((96, 55), (96, 27), (256, 27), (256, 13), (384, 13), (384, 13), (256, 13), (256, 6))]
    same(counted(hw, ALEXNET, (3, 227, 227), 0), [*sides, (4096,), (4096,), (1000,)], "shapes in AlexNet, image (3, 227, 227)")
    table = [("conv", 4, 5, 2, 1), ("pool", 3, 2), ("conv", 6, 1, 3, 0), ("fc", 7)]
    same(counted(hw, table, (2, 20, 33), 0), [(4, 9, 16), (4, 4, 7), (6, 2, 3), (7,)], f"shapes of {table}, image (2, 20, 33)")


@part("count_table", 2, "parameters: the integers of AlexNet and VGG")
def _(hw, ref, rng):
    expected = [34_944, 0, 614_656, 0, 885_120, 1_327_488, 884_992, 0, 37_752_832, 16_781_312, 4_097_000]
    same(counted(hw, ALEXNET, (3, 227, 227), 1), expected, "parameters in AlexNet (without groups), row by row")
    same(sum(counted(hw, rows_of(VGG_A), (3, 224, 224), 1)), 9_220_480, "parameters in the convolutions of VGG-A")
    head = ("fc", 4096), ("fc", 4096), ("fc", 1000)
    for name, stages, total in (("A", VGG_A, 132_863_336), ("D", VGG_D, 138_357_544), ("E", VGG_E, 143_667_240)):
        same(sum(counted(hw, rows_of(stages, *head), (3, 224, 224), 1)), total, f"all parameters of VGG-{name}")
    table = [("conv", 5, 3, 2, 0), ("fc", 2)]
    same(counted(hw, table, (4, 7, 12), 1), [185, 152], f"parameters of {table}, image (4, 7, 12)")


@part("count_table", 1, "multiply-adds, and rows of an unknown kind")
def _(hw, ref, rng):
    head = ("fc", 4096), ("fc", 4096), ("fc", 1000)
    same(sum(counted(hw, ALEXNET, (3, 227, 227), 2)), 1_135_256_096, "multiply-adds of AlexNet (without groups)")
    same(sum(counted(hw, rows_of(VGG_A, *head), (3, 224, 224), 2)), 7_609_090_048, "multiply-adds of VGG-A")
    table = [("conv", 5, 3, 2, 0), ("pool", 2, 2), ("fc", 2)]
    same(counted(hw, table, (4, 7, 12), 2), [5 * 4 * 9 * 3 * 5, 0, 20], f"multiply-adds of {table}, image (4, 7, 12)")
    table = [("conv", 5, 3, 1, 1), ("norm", 5)]
    refuses(lambda: hw.count_table(table, (3, 8, 8)), "norm", f"count_table({table}, (3, 8, 8))")


# --- receptive_field -----------------------------------------------------------------------------------------------------


def field(hw, table):
    result = hw.receptive_field(table)
    if not isinstance(result, (tuple, list)) or len(result) != 3:
        raise AssertionError(f"receptive_field({table}) must be three numbers (size, step, start), got {shown(result)}")
    return plain(result)


@part("receptive_field", 1, "one and two layers")
def _(hw, ref, rng):
    same(field(hw, [])[:2], [1, 1], "size and step of an empty table: a pixel sees itself")
    same(field(hw, [("conv", 8, 5, 1, 2)])[:2], [5, 1], "size and step behind one 5x5 convolution")
    same(field(hw, [("conv", 8, 3, 1, 1), ("conv", 8, 3, 1, 1)])[:2], [5, 1], "size and step behind two 3x3 convolutions")
    same(field(hw, [("pool", 2, 2), ("conv", 8, 3, 1, 1)])[:2], [6, 2], "size and step behind a 2x2 pool and a 3x3 convolution")


@part("receptive_field", 2, "size and step of VGG and AlexNet")
def _(hw, ref, rng):
    nets = ("A", VGG_A, 150, 342), ("B", VGG_B, 156, 348), ("D", VGG_D, 212, 404), ("E", VGG_E, 268, 460)
    for name, stages, pool5, fc6 in nets:
        same(field(hw, rows_of(stages))[:2], [pool5, 32], f"size and step at the last pool of VGG-{name}")
        same(field(hw, rows_of(stages, ("conv", 4096, 7, 1, 0)))[:2], [fc6, 32], f"size and step behind the 7x7 of VGG-{name}")
    shallow = [[(5, F)] for F in (64, 128, 256, 512, 512)]
    same(field(hw, rows_of(shallow))[:2], [156, 32], "size and step of VGG-B with one 5x5 for each pair of 3x3")
    same(field(hw, ALEXNET[:8])[:2], [195, 32], "size and step at the last pool of AlexNet")


def pixels_seen(table, i, length):
    """The pixels that unit i of the last map depends on: where its gradient is not 0 when all weights are positive."""
    x = minidl.Tensor(np.ones((1, 1, length, length)), requires_grad=True)
    y = x
    for kind, *options in table:
        if kind == "conv":
            _, K, S, P = options
            y = ops.conv2d(y, minidl.Tensor(np.ones((1, 1, K, K)) / K**2), None, S, P)
        else:
            y = ops.avg_pool2d(y, *options)  # a maximum would hide what it did not choose
    y[0, 0, i, i].sum().backward()
    return np.flatnonzero(np.asarray(x.grad)[0, 0].any(axis=1)).tolist()


@part("receptive_field", 1, "start: exactly the pixels that a gradient reaches")
def _(hw, ref, rng):
    tables = [[("conv", 1, 3, 1, 0), ("pool", 2, 2)], [("conv", 1, 5, 2, 2), ("conv", 1, 3, 1, 1)],
              [("pool", 3, 2), ("conv", 1, 3, 3, 1), ("conv", 1, 1, 1, 0)],
              [("conv", 1, 3, 1, 1), ("pool", 2, 2), ("conv", 1, 4, 1, 2), ("pool", 3, 2)]]
    for table in tables:
        size, step, start = field(hw, table)
        for i in (0, 1):
            says = [pixel for pixel in range(start + i * step, start + i * step + size) if 0 <= pixel < 40]
            seen = pixels_seen(table, i, 40)
            if says != seen:
                raise AssertionError(f"receptive_field({table}) is (size {size}, step {step}, start {start}), so unit {i} "
                                     f"would see {span(says)} of the image; a gradient reaches {span(seen)}")


def span(pixels):
    return f"pixels {pixels[0]} to {pixels[-1]}" if pixels else "no pixel"


# --- he_init -------------------------------------------------------------------------------------------------------------


def has_he_spread(w, fan_in, what):
    """Raises unless w looks drawn with mean 0 and variance 2 / fan_in; bounds are 6 standard errors wide."""
    std, n = np.sqrt(2 / fan_in), w.size
    if abs(w.mean()) > 6 * std / np.sqrt(n):
        raise AssertionError(f"{what}: the mean should be 0, got {w.mean():.4g} (standard deviation {w.std():.4g})")
    if abs(w.std() / std - 1) > 6 / np.sqrt(2 * n):
        raise AssertionError(f"{what}: the standard deviation should be sqrt(2 / fan_in) = {std:.4g} with fan_in {fan_in}, "
                             f"got {w.std():.4g}, so the variance is {w.var() * fan_in / 2:.3g} times what it should be")


@part("he_init", 1, "he_weights: shape, float32, mean 0, variance 2 / fan_in, normal")
def _(hw, ref, rng):
    for shape, fan_in in (((64, 32, 3, 5), 480), ((400, 96), 96), ((96, 400), 400)):
        w, what = hw.he_weights(shape, rng), f"he_weights({shape}, rng)"
        if not isinstance(w, np.ndarray) or w.shape != shape or w.dtype != np.float32:
            arrived = f"{w.dtype} {w.shape}" if isinstance(w, np.ndarray) else type(w).__name__
            raise AssertionError(f"{what} must be a float32 array of shape {shape}, got {arrived}")
        w = w.astype(np.float64)
        has_he_spread(w, fan_in, what)
        for bound, share in ((1, 0.6827), (2, 0.9545)):
            inside = (np.abs(w) < bound * np.sqrt(2 / fan_in)).mean()
            if abs(inside - share) > 6 * 0.5 / np.sqrt(w.size):
                raise AssertionError(f"{what}: of normal numbers {share:.1%} lie within {bound} standard deviation(s), got "
                                     f"{inside:.1%}")
        if np.array_equal(w, hw.he_weights(shape, rng)):
            raise AssertionError(f"{what}: a second call with the same rng gave the same numbers; draw from rng")
        close(hw.he_weights(shape, np.random.default_rng(3)), hw.he_weights(shape, np.random.default_rng(3)),
              f"he_weights({shape}, rng) for two generators with the same seed: all random numbers must come from rng", 1e-6)


@part("he_init", 1, "a signal keeps its size through 20 layers with ReLU")
def _(hw, ref, rng):
    x = rng.standard_normal((32, 512))
    before = np.mean(x**2)
    for _ in range(20):
        x = np.maximum(x @ np.asarray(hw.he_weights((512, 512), rng), np.float64).T, 0)
    after = 2 * np.mean(x**2)  # ReLU has just halved it
    if not 0.1 < after / before < 10:  # spreads by a factor of about 1.6 from draw to draw
        raise AssertionError(f"the mean square of a signal before a ReLU was {before:.3g} at first and {after:.3g} after 20 "
                             "layers of 512 units with he_weights: it should stay about the same")


@part("he_init", 2, "initialise: every convolution and linear layer, nothing else")
def _(hw, ref, rng):
    minidl.manual_seed(0)
    inner = nn.Sequential(nn.Conv2d(24, 48, (3, 5), bias=False), nn.BatchNorm2d(48))
    net = nn.Sequential(nn.Conv2d(16, 24, 5), nn.Sequential(nn.ReLU(), inner), nn.Flatten(), nn.Linear(300, 80))
    grouped = nn.Conv2d(32, 32, 3, groups=4)
    net.append(grouped)  # such a filter sees 8 channels only
    for p in net.parameters():
        p.data = rng.uniform(3, 4, p.shape).astype(np.float32)
    kept, norm = dict(net.named_parameters()), inner[1].state_dict()
    hw.initialise(net, rng)
    for name, p in net.named_parameters():
        if p is not kept[name]:
            raise AssertionError(f"initialise(net, rng): {name} is another Parameter now, and an optimizer would go on with "
                                 "the old one: write into its .data")
        if p.dtype != np.float32:
            raise AssertionError(f"initialise(net, rng): {name} was float32 and is {p.dtype} now")
    for name, array in inner[1].state_dict().items():
        close(array, norm[name], f"{name} of the batch norm in the net, which initialise must leave alone")
    layers = ("0", net[0], 400), ("1.1.0", inner[0], 360), ("3", net[3], 300), ("4 (with groups)", grouped, 72)
    for name, module, fan_in in layers:
        has_he_spread(module.weight.numpy().astype(np.float64), fan_in, f"the weight of layer {name} after initialise")
        if module.bias is not None and module.bias.numpy().any():
            raise AssertionError(f"the bias of layer {name} after initialise must be 0, got {module.bias.numpy()[:3]}...")


# --- vgg -----------------------------------------------------------------------------------------------------------------


def has_layers(net, expected, what):
    """Raises unless the Sequential holds layers of these kinds in this order."""
    if not isinstance(net, nn.Sequential):
        raise AssertionError(f"{what} must be an nn.Sequential, got {type(net).__name__}")
    if len(net) != len(expected) or not all(isinstance(module, getattr(nn, kind)) for module, kind in zip(net, expected)):
        kinds = [type(module).__name__ for module in net]
        raise AssertionError(f"{what} must hold {', '.join(expected)}; got {', '.join(kinds)}")


SMALL = [[(3, 5), (1, 4)], [(5, 6)]]
IN_SMALL = ["Conv2d", "ReLU", "Conv2d", "ReLU", "MaxPool2d", "Conv2d", "ReLU", "MaxPool2d"]


@part("vgg", 1, "vgg_features: the right layers in the right order")
def _(hw, ref, rng):
    has_layers(hw.vgg_features(SMALL, 2), IN_SMALL, f"vgg_features({SMALL}, 2)")
    with_norm = []
    for name in IN_SMALL:
        with_norm += [name, "BatchNorm2d"] if name == "Conv2d" else [name]
    has_layers(hw.vgg_features(SMALL, 2, batch_norm=True), with_norm, f"vgg_features({SMALL}, 2, batch_norm=True)")


@part("vgg", 1, "parameters: the paper's integers")
def _(hw, ref, rng):
    with nn.init.no_values():  # counting needs no random numbers
        for name, stages, count in (("A", VGG_A, 9_220_480), ("D", VGG_D, 14_714_688)):
            net = hw.vgg_features(stages, 3)
            same(parameters_of(net, "vgg_features(...)"), count, f"parameters of vgg_features for VGG-{name}")
        net = hw.vgg(VGG_A, (3, 96, 64), [128], 10)  # small ends: the paper's would fill half a gigabyte
        expected = 9_220_480 + 128 * (512 * 3 * 2 + 1) + 10 * 129
        same(parameters_of(net, "vgg(...)"), expected, "parameters of VGG-A for images (3, 96, 64), hidden [128], 10 classes")
        net = hw.vgg_features(VGG_A, 3, batch_norm=True)
        same(parameters_of(net, "vgg_features(...)"), 9_225_984, "parameters of vgg_features for VGG-A with batch_norm=True")


def vgg_by_hand(stages, parameters, x, batch_norm=False):
    """The stages with plain operations; takes its weights one after the other from `parameters`."""
    for stage in stages:
        for kernel, _ in stage:
            x = ops.conv2d(x, next(parameters), next(parameters), 1, kernel // 2)
            if batch_norm:
                C = x.shape[1]
                x = ops.batch_norm(x, np.zeros(C), np.ones(C), next(parameters), next(parameters), training=True)
            x = ops.relu(x)
        x = ops.max_pool2d(x, 2, 2)
    return x


@part("vgg", 2, "vgg_features: computes what its table says, and gradients flow")
def _(hw, ref, rng):
    x = rng.standard_normal((2, 2, 9, 14))
    for batch_norm in (False, True):
        net = filled(hw.vgg_features(SMALL, 2, batch_norm), rng)
        what = f"vgg_features({SMALL}, 2, batch_norm={batch_norm})(x {x.shape})"
        expected = vgg_by_hand(SMALL, iter(list(net.parameters())), minidl.Tensor(x), batch_norm)
        close(numbers(net(minidl.Tensor(x)), what), expected.numpy(), what)
        slopes_agree(net, [x[:1]], what, net)


@part("vgg", 1, "vgg: the classifier, also for odd images and without hidden layers")
def _(hw, ref, rng):
    with_hidden = [*IN_SMALL, "Flatten", "Linear", "ReLU", "Dropout", "Linear"]
    for shape, hidden, expected in (((2, 9, 15), [7], with_hidden), ((3, 14, 7), [], [*IN_SMALL, "Flatten", "Linear"])):
        what = f"vgg({SMALL}, {shape}, {hidden}, 4)"
        net = hw.vgg(SMALL, shape, hidden, 4)
        has_layers(net, expected, what)
        net = filled(net, rng).eval()
        x = minidl.Tensor(rng.standard_normal((3, *shape)))
        parameters = iter(list(net.parameters()))
        y = vgg_by_hand(SMALL, parameters, x).reshape(3, -1)
        for _ in hidden:
            y = ops.relu(ops.linear(y, next(parameters), next(parameters)))
        close(numbers(net(x), what), ops.linear(y, next(parameters), next(parameters)).numpy(), f"{what}, on images {x.shape}")


# --- inception -----------------------------------------------------------------------------------------------------------

CONVOLUTIONS = ("one", "three_reduce", "three", "five_reduce", "five", "pool")


def inception_by_hand(net, x):
    """The four branches by plain operations with the weights of `net`: {name: array}."""
    def conv(name, x, padding=0):
        found = layer(net, name, nn.Conv2d)
        if found.bias is None:
            raise AssertionError(f"Inception: the convolution {name} must have a bias")
        return ops.relu(ops.conv2d(x, found.weight, found.bias, 1, padding))

    x = minidl.Tensor(x)
    return {"1x1": conv("one", x).numpy(), "3x3": conv("three", conv("three_reduce", x), 1).numpy(),
            "5x5": conv("five", conv("five_reduce", x), 2).numpy(), "pool": conv("pool", ops.max_pool2d(x, 3, 1, 1)).numpy()}


@part("inception", 1, "parameters: GoogLeNet's modules 3a and 5b")
def _(hw, ref, rng):
    with nn.init.no_values():
        for name, row, count in (("3a", (192, 64, (96, 128), (16, 32), 32), 163_696),
                                 ("4c", (512, 128, (128, 256), (24, 64), 64), 510_104),
                                 ("5b", (832, 384, (192, 384), (48, 128), 128), 1_444_080)):
            net = hw.Inception(*row)
            kernels = {"one": 1, "three_reduce": 1, "three": 3, "five_reduce": 1, "five": 5, "pool": 1}
            for attribute, K in kernels.items():
                found = layer(net, attribute, nn.Conv2d)
                same(found.kernel_size, (K, K), f"the kernel of {attribute} in Inception{row}")
            same(parameters_of(net, "Inception(...)"), count, f"parameters of Inception{row}, which is GoogLeNet's {name}")


@part("inception", 3, "forward: four branches, in order, each with its ReLUs")
def _(hw, ref, rng):
    for N, H, W in ((2, 5, 7), (1, 6, 4)):
        net = filled(hw.Inception(4, 3, (2, 5), (6, 4), 2), rng)
        x = rng.standard_normal((N, 4, H, W)) - 0.5  # mostly negative: a pool that pads with zeros would show
        branches = inception_by_hand(net, x)
        what = f"Inception(4, 3, (2, 5), (6, 4), 2)(x {x.shape})"
        y = numbers(net(minidl.Tensor(x)), what)
        same(y.shape, (N, 14, H, W), f"the shape of {what}")
        first = 0
        for name, expected in branches.items():
            C = expected.shape[1]
            close(y[:, first:first + C], expected, f"{what}, channels {first} to {first + C - 1} (the {name} branch)")
            first += C


@part("inception", 1, "gradients flow through all four branches")
def _(hw, ref, rng):
    net = filled(hw.Inception(3, 2, (2, 3), (2, 2), 2), rng)
    slopes_agree(net, [rng.standard_normal((2, 3, 5, 6))], "Inception(3, 2, (2, 3), (2, 2), 2)", net)


# --- residual ------------------------------------------------------------------------------------------------------------


@part("residual", 1, "shortcut_a: strides, odd sizes, zeros behind, gradients")
def _(hw, ref, rng):
    for shape, channels, stride in (((2, 3, 7, 5), 8, 2), ((1, 4, 8, 9), 4, 3), ((2, 2, 4, 6), 5, 1)):
        x, what = rng.standard_normal(shape), f"shortcut_a(x {shape}, {channels}, {stride})"
        expected = np.zeros((shape[0], channels, -(-shape[2] // stride), -(-shape[3] // stride)))
        expected[:, :shape[1]] = x[:, :, ::stride, ::stride]
        close(numbers(hw.shortcut_a(minidl.Tensor(x), channels, stride), what), expected, what)
        slopes_agree(lambda x, c=channels, s=stride: hw.shortcut_a(x, c, s), [x], what)


def residual_by_hand(net, x, stride, shortcut):
    """relu(F(x) + shortcut) in training mode with the weights of `net`; shortcut: "x", "A" or "B"."""
    def conv(name, x, stride, padding):
        return ops.conv2d(x, layer(net, name, nn.Conv2d).weight, None, stride, padding)

    def norm(name, x):
        found, C = layer(net, name, nn.BatchNorm2d), x.shape[1]
        return ops.batch_norm(x, np.zeros(C), np.ones(C), found.weight, found.bias, training=True)

    x = minidl.Tensor(x)
    y = norm("norm2", conv("conv2", ops.relu(norm("norm1", conv("conv1", x, stride, 1))), 1, 1)).numpy()
    if shortcut == "B":
        return np.maximum(y + norm("projection_norm", conv("projection", x, stride, 0)).numpy(), 0)
    path = x.numpy()
    if shortcut == "A":
        path = np.zeros_like(y)
        path[:, :x.shape[1]] = x.numpy()[:, :, ::stride, ::stride]
    return np.maximum(y + path, 0)


BLOCKS = [((4, 4, 1, "A"), "x"), ((4, 4, 1, "B"), "x"), ((3, 5, 1, "A"), "A"), ((3, 5, 1, "B"), "B"), ((4, 4, 2, "A"), "A"),
          ((4, 4, 2, "B"), "B"), ((2, 6, 2, "A"), "A"), ((2, 6, 2, "B"), "B")]
"""Arguments of ResidualBlock, and the shortcut that it must take."""


@part("residual", 1, "the layers: which ones there are, their parameters, and options that do not exist")
def _(hw, ref, rng):
    for arguments, shortcut in BLOCKS:
        C, F, stride, _ = arguments
        net, what = hw.ResidualBlock(*arguments), f"ResidualBlock{arguments}"
        for name in ("conv1", "conv2"):
            expected = (stride, stride) if name == "conv1" else (1, 1)
            same(layer(net, name, nn.Conv2d).stride, expected, f"the stride of {name} in {what}")
        for name in ("norm1", "norm2"):
            layer(net, name, nn.BatchNorm2d)
        has, needs = getattr(net, "projection", None) is not None, shortcut == "B"
        if has != needs:
            raise AssertionError(f"{what} must have {'a' if needs else 'no'} projection, but has {'one' if has else 'none'}: a "
                                 "projection is option B's, for blocks that change the shape")
        count = 9 * C * F + 9 * F * F + 4 * F + (C * F + 2 * F if shortcut == "B" else 0)
        same(parameters_of(net, what), count, f"parameters of {what} (no convolution has a bias)")
    refuses(lambda: hw.ResidualBlock(3, 4, 1, "AB"), "AB", "ResidualBlock(3, 4, 1, 'AB')")


@part("residual", 2, "forward: with x itself, with option A and with option B; also in evaluation mode")
def _(hw, ref, rng):
    for arguments, shortcut in BLOCKS:
        net = filled(hw.ResidualBlock(*arguments), rng)
        x = rng.standard_normal((3, arguments[0], 7, 6))
        what = f"ResidualBlock{arguments}(x {x.shape}) in training mode"
        close(numbers(net(minidl.Tensor(x)), what), residual_by_hand(net, x, arguments[2], shortcut), what)
        net.eval()
        together, alone = (numbers(net(minidl.Tensor(images)), what) for images in (x, x[:1]))
        close(alone, together[:1], f"ResidualBlock{arguments} in evaluation mode, where an image alone must give what it gives "
              "among others")


@part("residual", 2, "where F is 0, the block hands on x; gradients flow through its layers and past them")
def _(hw, ref, rng):
    net = filled(hw.ResidualBlock(4, 4), rng)
    for p in (layer(net, "norm2", nn.BatchNorm2d).weight, net.norm2.bias):
        p.data = np.zeros(4)
    x = np.abs(rng.standard_normal((2, 4, 5, 6)))
    close(numbers(net(minidl.Tensor(x)), "a ResidualBlock"), x, "a ResidualBlock(4, 4) whose norm2 gives 0, on x >= 0")
    x = rng.standard_normal((2, 4, 5, 6))
    close(numbers(net(minidl.Tensor(x)), "a ResidualBlock"), np.maximum(x, 0),
          "a ResidualBlock(4, 4) whose norm2 gives 0, on x of both signs (a ReLU follows the sum)")
    for arguments in ((3, 3, 1, "B"), (2, 4, 2, "A"), (2, 4, 2, "B")):
        net = filled(hw.ResidualBlock(*arguments), rng)
        slopes_agree(net, [rng.standard_normal((2, arguments[0], 5, 4))], f"ResidualBlock{arguments}", net)


# --- net_from_table ------------------------------------------------------------------------------------------------------


def resnet20(option):
    """The smallest net of He et al. 2016, section 4.2, for 32x32 images."""
    first = [("residual", 16, 1, option)] * 3
    return [("stem", 16), *first, *(("residual", F, 2 if i == 0 else 1, option) for F in (32, 64) for i in range(3))]


MIXED = [("stem", 4), ("vgg", [(3, 5), (3, 6)]), ("inception", 3, (2, 4), (2, 3), 2), ("residual", 12, 1, "A"),
         ("residual", 8, 2, "B")]


@part("net_from_table", 2, "parameters: ResNet-20 with options A and B, and a net of all blocks")
def _(hw, ref, rng):
    for option, count in (("A", 269_722), ("B", 272_474)):
        net = hw.net_from_table(resnet20(option), 3, 10)
        same(parameters_of(net, "net_from_table(...)"), count, f"parameters of ResNet-20 with option {option}, 10 classes")
    net = hw.net_from_table(MIXED, 2, 7)
    expected = parameters_of(ref.net_from_table(MIXED, 2, 7), "the solution")
    same(parameters_of(net, "net_from_table(...)"), expected, f"parameters of net_from_table({MIXED}, 2, 7)")


@part("net_from_table", 1, "one module per row and three more; unknown rows")
def _(hw, ref, rng):
    net = hw.net_from_table(MIXED, 2, 7)
    if not isinstance(net, nn.Sequential) or len(net) != len(MIXED) + 3:
        raise AssertionError(f"net_from_table of {len(MIXED)} rows must be an nn.Sequential of {len(MIXED) + 3} modules, got "
                             f"{type(net).__name__}" + (f" of {len(net)}" if isinstance(net, nn.Sequential) else ""))
    has_layers(net[-3:], ["AdaptiveAvgPool2d", "Flatten", "Linear"], "the end of net_from_table's net")
    x = minidl.Tensor(rng.standard_normal((2, 2, 12, 10)).astype(np.float32))
    shapes = [(2, 4, 12, 10), (2, 6, 6, 5), (2, 12, 6, 5), (2, 12, 6, 5), (2, 8, 3, 3)]
    for row, module, shape in zip(MIXED, net, shapes):
        x = module(x)
        same(x.shape, shape, f"the shape behind the row {row}, images (2, 2, 12, 10)")
    table = [("stem", 4), ("dense", 5)]
    refuses(lambda: hw.net_from_table(table, 2, 7), "dense", f"net_from_table({table}, 2, 7)")


def known_by_hand(net, x):
    """A stem and the scores, by plain operations, around two modules that the net made itself."""
    stem = list(net[0].parameters())
    if [p.ndim for p in stem] != [4, 1, 1]:
        raise AssertionError("the stem must learn a convolution without bias and a batch norm, got parameters "
                             f"{[p.shape for p in stem]}")
    w, scale, shift = stem
    y = ops.conv2d(minidl.Tensor(x), w, None, 1, 1)
    y = ops.relu(ops.batch_norm(y, np.zeros(len(w)), np.ones(len(w)), scale, shift, training=True))
    y = net[2](net[1](y)).numpy().mean(axis=(2, 3))  # (N, C)
    return y @ net[5].weight.numpy().T + net[5].bias.numpy()


@part("net_from_table", 1, "scores: stem, average over any map, linear layer")
def _(hw, ref, rng):
    table = [("stem", 4), ("residual", 6, 2, "A"), ("vgg", [(3, 5)])]
    for shape in ((2, 3, 12, 8), (3, 3, 9, 16)):
        net = filled(hw.net_from_table(table, 3, 4), rng)
        x = rng.standard_normal(shape)
        what = f"net_from_table({table}, 3, 4)(x {shape})"
        close(numbers(net(minidl.Tensor(x)), what), known_by_hand(net, x), what)


@part("net_from_table", 1, "gradients, and a few steps of training lower the loss")
def _(hw, ref, rng):
    table = [("stem", 3), ("inception", 2, (2, 2), (2, 2), 2), ("residual", 9, 2, "A")]
    net = filled(hw.net_from_table(table, 2, 3), rng)
    slopes_agree(net, [rng.standard_normal((2, 2, 5, 4))], f"net_from_table({table}, 2, 3)", net)
    net = filled(hw.net_from_table(MIXED, 2, 3), rng)
    x, labels = rng.standard_normal((12, 2, 8, 8)), np.arange(12) % 3
    optimizer = minidl.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(15):
        loss = ops.cross_entropy(net(minidl.Tensor(x)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    if not losses[-1] < 0.7 * losses[0]:
        raise AssertionError(f"15 steps of training on 12 images should lower the loss clearly: {losses[0]:.3f} at first, "
                             f"{losses[-1]:.3f} at the end")
