"""What homework 6 is checked for: rules against their formulas, evaluation against loops over windows and pixels."""
import numpy as np

import minidl
from minidl import nn
from minidl.homework.parts import close, in_case, part, shown

# --- what the parts share ------------------------------------------------------------------------------------------------


def parameter(array):
    return minidl.Tensor(array.copy(), requires_grad=True)


def softmax(scores):
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def numbers(result, what):
    """The array in a Tensor that a student's function has returned."""
    if not isinstance(result, minidl.Tensor):
        raise AssertionError(f"{what} must be a Tensor, got {type(result).__name__}"
                             + (": is a return missing?" if result is None else ""))
    return result.numpy()


def pair(result, what):
    """The two things that a student's function must return."""
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise AssertionError(f"{what} must return two things, got {type(result).__name__}"
                             + (f" of {len(result)}" if isinstance(result, (tuple, list)) else ""))
    return result


class Probe(nn.Module):
    """Scores by a linear layer; notes at every call in which mode it was, and whether the call was recorded for a backward."""

    def __init__(self, inputs, classes):
        self.layer = nn.Linear(inputs, classes)
        self.modes = []
        self.recorded = []

    def forward(self, x):
        y = self.layer(x.reshape(len(x), -1))
        self.modes.append(self.training)
        self.recorded.append(y.requires_grad)
        return y


# --- sgd -----------------------------------------------------------------------------------------------------------------


def follows_the_rule(hw, rng, rates, momentum, weight_decay, what):
    """Takes one step per rate with random gradients, and compares the parameter with the formula each time."""
    w = rng.standard_normal((3, 2))
    p, v = parameter(w), np.zeros_like(w)
    optimizer = hw.PaperSGD([p], rates[0], momentum, weight_decay)
    for number, lr in enumerate(rates, 1):
        optimizer.lr = lr
        p.grad = gradient = rng.standard_normal(w.shape)
        optimizer.step()
        v = momentum * v - weight_decay * lr * w - lr * gradient
        w = w + v
        close(p.data, w, f"the parameter after step {number} with {what}, rates {rates[:number]}")


@part("sgd", 1, "the first step, and zero_grad")
def _(hw, ref, rng):
    follows_the_rule(hw, rng, [0.1], 0.9, 0.0, "momentum 0.9")
    p = parameter(np.ones(3))
    p.grad = np.ones(3)
    hw.PaperSGD([p], 0.1).zero_grad()
    if p.grad is not None:
        raise AssertionError(f"after zero_grad() the .grad of every parameter must be None, got {p.grad}")


@part("sgd", 2, "momentum, with a rate that changes between the steps")
def _(hw, ref, rng):
    follows_the_rule(hw, rng, [0.1, 0.1, 0.1], 0.9, 0.0, "momentum 0.9")
    follows_the_rule(hw, rng, [0.5, 0.5, 0.05, 0.005, 0.2], 0.8, 0.0, "momentum 0.8")
    follows_the_rule(hw, rng, [0.1, 0.2], 0.0, 0.0, "momentum 0")


@part("sgd", 1, "weight decay, which goes through the velocity")
def _(hw, ref, rng):
    follows_the_rule(hw, rng, [0.3], 0.9, 0.2, "momentum 0.9, weight decay 0.2")
    follows_the_rule(hw, rng, [0.3, 0.1, 0.1], 0.9, 0.2, "momentum 0.9, weight decay 0.2")


@part("sgd", 1, "several parameters from an iterator, missing gradients, float32, gradients left as they are")
def _(hw, ref, rng):
    tensors = [parameter(rng.standard_normal(shape).astype(np.float32)) for shape in ((2, 3), (4,), (4,))]
    values, velocities = [p.data.copy() for p in tensors], [0, 0, 0]
    lr, momentum, weight_decay = np.array([0.5, 0.5, 0.25], np.float32)
    optimizer = hw.PaperSGD(iter(tensors), 0.5, 0.5, 0.25)
    for step in (1, 2, 3):
        gradients = [rng.standard_normal(p.shape).astype(np.float32) for p in tensors]
        if step == 2:
            gradients[2] = None
        for i, (p, gradient) in enumerate(zip(tensors, gradients)):
            p.grad = gradient if gradient is None else gradient.copy()
            if gradient is not None:
                velocities[i] = momentum * velocities[i] - lr * (gradient + weight_decay * values[i])
                values[i] = values[i] + velocities[i]
        optimizer.step()
        for number, p, gradient, value in zip((1, 2, 3), tensors, gradients, values):
            what = f"parameter {number} of 3 after step {step}" + (" (the third had no gradient in step 2)" if step > 1 else "")
            close(p.data, value, what, 1e-5, dtype=np.float32)
            if gradient is not None:
                close(p.grad, gradient, f"the gradient of parameter {number} after step(), which must leave it as it is", 1e-6)


# --- rate ----------------------------------------------------------------------------------------------------------------


def rates_are(hw, expected, *options, **more):
    """Compares the rates of the updates 0, 1, 2, ... one by one."""
    for step, rate in enumerate(expected):
        listed = ", ".join([*map(repr, options), *(f"{name}={value!r}" for name, value in more.items())])
        what = f"rate_at({step}, {listed})"
        result = hw.rate_at(step, *options, **more)
        if not isinstance(result, (float, np.floating)):
            raise AssertionError(f"{what} must be a float, got {type(result).__name__} {shown(result)}")
        close(result, rate, what)


@part("rate", 1, "it falls at the milestones")
def _(hw, ref, rng):
    rates_are(hw, [0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001], 0.1, [3, 5])
    rates_are(hw, [2.0, 2.0], 2, [])


@part("rate", 1, "it rises during the warm-up")
def _(hw, ref, rng):
    rates_are(hw, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0], 1.0, [], warmup=4)
    rates_are(hw, [0.2, 0.4, 0.4, 0.2], 0.4, [3], factor=0.5, warmup=2)


@part("rate", 1, "other factors, milestones in any order, at 0 and during the warm-up")
def _(hw, ref, rng):
    rates_are(hw, [1.0, 1.0, 0.5, 0.5, 0.25], 1.0, [4, 2], factor=0.5)
    rates_are(hw, [0.1, 0.1], 1.0, [0])
    rates_are(hw, [0.25, 0.5, 0.375, 0.5, 0.25], 1.0, (2, 4), factor=0.5, warmup=4)


# --- train ---------------------------------------------------------------------------------------------------------------


@part("train", 2, "updates and mean losses, batch by batch")
def _(hw, ref, rng):
    net, momentum = nn.Linear(3, 4).to(dtype=np.float64), 0.5
    x, labels = rng.standard_normal((7, 3)), np.array([0, 3, 1, 2, 2, 0, 3])
    batches = [(x[:4], labels[:4]), (x[4:], labels[4:])]  # of different sizes
    rates = [0.5, 0.2, 0.1, 0.4, 0.3, 0.2]
    w, b = net.weight.numpy().copy(), np.zeros(4)
    v, u, expected = np.zeros_like(w), np.zeros_like(b), []
    for number, lr in enumerate(rates):
        images, answers = batches[number % 2]
        p = softmax(images @ w.T + b)
        expected.append(-np.log(p[np.arange(len(images)), answers]))
        p[np.arange(len(images)), answers] -= 1
        v, u = momentum * v - lr * p.T @ images / len(images), momentum * u - lr * p.mean(axis=0)
        w, b = w + v, b + u
    for p in net.parameters():
        p.grad = np.full(p.shape, 9.0)  # what somebody left behind
    losses = hw.train(net, ref.PaperSGD(net.parameters(), 0.0, momentum), batches, 3, lambda step: rates[step % 6])
    what = "train with two batches of 4 and 3 images, 3 passes"
    close(net.weight.data, w, f"the weight of a linear net after {what}")
    close(net.state_dict()["bias"], b, f"the bias of a linear net after {what}")
    means = [np.concatenate(expected[2 * i:2 * i + 2]).mean() for i in range(3)]
    close(losses, means, f"the mean losses that {what} returns")


@part("train", 1, "training mode, and one walk through the batches per pass")
def _(hw, ref, rng):
    net = Probe(4, 3).eval()
    walks = []

    class Batches:
        def __iter__(self):
            walks.append(0)
            for _ in range(3):
                walks[-1] += 1
                yield rng.standard_normal((5, 4)).astype(np.float32), np.arange(5) % 3

    asked = []  # which rates; that of the update after the last one, too, if one likes

    def rate(step):
        asked.append(step)
        return 0.1

    losses = hw.train(net, ref.PaperSGD(net.parameters(), 0.1), Batches(), 2, rate)
    if walks != [3, 3]:
        raise AssertionError("train with 2 passes must walk through the batches 2 times, to the end (3 batches each); batches "
                             f"taken in each walk: {walks}")
    if net.modes != [True] * 6:
        raise AssertionError("train must call the net once per batch, in training mode (net.train()), also if it came in "
                             f"evaluation mode; net.training was {net.modes}")
    if not net.training:
        raise AssertionError("train must leave the net in training mode, got evaluation mode")
    if sorted(set(asked) - {6}) != list(range(6)):
        raise AssertionError(f"train must ask rate(step) for the updates 0 to 5, counted over both passes, got {asked}")
    if len(losses) != 2:
        raise AssertionError(f"train with 2 passes must return 2 mean losses, got {losses}")


@part("train", 2, "scores_of: evaluation mode, order, nothing recorded, the net as it was")
def _(hw, ref, rng):
    for mode in (True, False):
        net = Probe(4, 3).train(mode)
        x, labels = rng.standard_normal((8, 4)).astype(np.float32), rng.integers(0, 3, 8)
        batches = [(x[:3], labels[:3]), (x[3:7], labels[3:7]), (x[7:], labels[7:])]
        what = f"scores_of(net, batches of 3, 4 and 1 images), net.training {mode} before"
        scores, returned = pair(hw.scores_of(net, batches), what)
        if any(net.modes):
            raise AssertionError(f"{what}: the net must judge in evaluation mode (net.eval()), net.training was {net.modes}")
        if any(net.recorded):
            raise AssertionError(f"{what}: nothing may be recorded for a backward: put `with minidl.no_grad():` around it")
        if net.training != mode:
            raise AssertionError(f"{what}: net.training must be {mode} afterwards, too, got {net.training}")
        if not isinstance(scores, np.ndarray):
            raise AssertionError(f"{what}: the scores must be a NumPy array, got {type(scores).__name__}")
        w, b = (p.numpy() for p in net.parameters())
        close(scores, x @ w.T + b, f"{what}: the scores", 1e-5)
        close(returned, labels, f"{what}: the labels")
    normed = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3))
    before = normed.state_dict()
    hw.scores_of(normed, batches)
    for name, array in normed.state_dict().items():
        close(array, before[name], f"{name} of a net after scores_of, which must leave it as it was", 1e-6)


@part("train", 2, "a small net learns the digits")
def _(hw, ref, rng):
    minidl.manual_seed(5)
    digits = minidl.data.digits()
    train_images, test_images = ((a - digits.train_images.mean()) / digits.train_images.std()
                                 for a in (digits.train_images, digits.test_images))
    net = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2),
                        nn.Linear(8 * 4 * 4, 10))
    batches = minidl.data.DataLoader(train_images, digits.train_labels, batch_size=50, shuffle=True)
    optimizer = ref.PaperSGD(net.parameters(), 0.1, 0.9, 1e-4)
    losses = hw.train(net, optimizer, batches, 3, lambda step: 0.05 if step < 60 else 0.005)
    scores, labels = pair(hw.scores_of(net, [(test_images[::-1], digits.test_labels[::-1])]), "scores_of(net, batches)")
    right = np.mean(np.argmax(scores, axis=1) == labels)
    if not losses[-1] < losses[0]:
        raise AssertionError(f"training on digits must lower the loss; mean losses of 3 passes: {losses}")
    if right < 0.85:
        raise AssertionError("after 3 passes over the digits the net should be right on more than 85 % of the test images, got "
                             f"{right:.1%}")


# --- errors --------------------------------------------------------------------------------------------------------------


@part("errors", 2, "top_k_errors: percentages of errors, for each k")
def _(hw, ref, rng):
    scores = np.array([[0.1, 0.5, 0.4, 0.0], [0.9, 0.3, 0.2, 0.6], [-3.0, -2.0, -4.0, -1.0]])
    labels = np.array([2, 2, 3])  # ranks 2, 4, 1
    close(hw.top_k_errors(scores, labels, (1, 2, 3, 4)), [200 / 3, 100 / 3, 100 / 3, 0.0],
          "top_k_errors of 3 images whose labels rank 2nd, 4th and 1st, ks=(1, 2, 3, 4)")
    scores, labels = rng.standard_normal((40, 7)), rng.integers(0, 7, 40)
    ranks = np.array([sorted(-row).index(-row[label]) for row, label in zip(scores, labels)])
    close(hw.top_k_errors(scores, labels), [100 * np.mean(ranks >= k) for k in (1, 5)], "top_k_errors of random scores (40, 7)")


@part("errors", 1, "top_k_errors: ties count against the net")
def _(hw, ref, rng):
    labels = np.arange(6) % 3
    close(hw.top_k_errors(np.zeros((6, 3)), labels, [1, 2, 3]), [100.0, 100.0, 0.0],
          "top_k_errors where all 3 scores are equal, ks=[1, 2, 3]")
    scores = np.array([[2.0, 2.0, 1.0], [1.0, 2.0, 2.0], [3.0, 1.0, 1.0], [1.0, 1.0, 3.0]])
    close(hw.top_k_errors(scores, np.array([0, 2, 0, 1]), [1, 2]), [75.0, 25.0],
          f"top_k_errors of {scores.tolist()}, labels [0, 2, 0, 1], ks=[1, 2]")


@part("errors", 1, "confusion: rows are labels, columns are guesses")
def _(hw, ref, rng):
    for shape, C in (((50,), 4), ((2, 5, 7), 3), ((3,), 6)):
        guesses, labels = rng.integers(0, C, shape), rng.integers(0, C, shape)
        expected = np.zeros((C, C), np.int64)
        for guess, label in zip(guesses.ravel(), labels.ravel()):
            expected[label, guess] += 1
        close(hw.confusion(guesses, labels, C), expected, f"confusion(guesses {shape}, labels {shape}, {C})")


@part("errors", 1, "confusion: ignored labels, small integer types, arguments left as they are")
def _(hw, ref, rng):
    for dtype, ignore, C in ((np.uint8, 255, 30), (np.int64, -1, 3), (np.int32, 2, 4)):
        labels, guesses = rng.integers(0, C, (6, 7)).astype(dtype), rng.integers(0, C, (6, 7)).astype(dtype)
        labels[1:3, 2:5] = ignore
        guesses[1, 2] = 100 if ignore == 255 else 0  # which does not matter there
        kept = guesses.copy(), labels.copy()
        expected = np.zeros((C, C), np.int64)
        for guess, label in zip(guesses.ravel(), labels.ravel()):
            if label != ignore:
                expected[label, guess] += 1
        what = f"confusion of {np.dtype(dtype)} arrays, {C} classes, ignore={ignore}"
        close(hw.confusion(guesses, labels, C, ignore), expected, what)
        close(guesses, kept[0], f"{what}: the guesses afterwards")
        close(labels, kept[1], f"{what}: the labels afterwards")


# --- ten_crops -----------------------------------------------------------------------------------------------------------

VIEWS = ("top left", "top right", "bottom left", "bottom right", "centre")


@part("ten_crops", 2, "ten windows: where they lie, and which are mirrored")
def _(hw, ref, rng):
    for shape, height, width in (((2, 3, 7, 10), 4, 5), ((1, 1, 6, 5), 6, 3), ((3, 2, 4, 6), 4, 6)):
        images = rng.standard_normal(shape).astype(np.float32)
        crops = np.asarray(hw.ten_crops(images.copy(), height, width))
        what = f"ten_crops(images {shape}, {height}, {width})"
        if crops.shape != (shape[0], 10, shape[1], height, width):
            raise AssertionError(f"{what} must have shape {(shape[0], 10, shape[1], height, width)}, got {crops.shape}")
        down, right = shape[2] - height, shape[3] - width
        for i, (top, left) in enumerate([(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]):
            window = images[:, :, top:top + height, left:left + width]
            close(crops[:, i], window, f"{what}[:, {i}] ({VIEWS[i]})", dtype=np.float32)
            mirrored = f"{what}[:, {5 + i}] ({VIEWS[i]}, mirrored left to right)"
            close(crops[:, 5 + i], window[:, :, :, ::-1], mirrored, dtype=np.float32)


def scorer(rng, C, height, width, K, size=1.0):
    """A net of one linear layer in float64, and its weight."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(C * height * width, K)).to(dtype=np.float64).eval()
    net[1].weight.data = size * rng.standard_normal(net[1].weight.shape)
    return net, net[1].weight.numpy()


def mean_of_crops(images, height, width, w):
    """Softmax of each crop, one by one, and their mean."""
    N, _, H, W = images.shape
    down, right = H - height, W - width
    result = np.zeros((N, len(w)))
    for n in range(N):
        for top, left in [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]:
            window = images[n, :, top:top + height, left:left + width]
            for view in (window, window[:, :, ::-1]):
                result[n] += softmax(w @ view.reshape(-1)) / 10
    return result


@part("ten_crops", 2, "the mean of the ten probabilities, image by image")
def _(hw, ref, rng):
    for shape, height, width in (((3, 2, 7, 8), 4, 5), ((1, 3, 5, 4), 3, 2)):
        images, (net, w) = rng.standard_normal(shape), scorer(rng, shape[1], height, width, 4)
        close(hw.ten_crop_probabilities(net, images, height, width), mean_of_crops(images, height, width, w),
              f"ten_crop_probabilities(net, images {shape}, {height}, {width})")


@part("ten_crops", 1, "large scores do not overflow")
def _(hw, ref, rng):
    images, (net, w) = rng.standard_normal((2, 1, 5, 6)), scorer(rng, 1, 3, 4, 5, size=1000.0)
    with np.errstate(all="ignore"):
        result = hw.ten_crop_probabilities(net, images, 3, 4)
    close(result, mean_of_crops(images, 3, 4, w), "ten_crop_probabilities of a net with scores in the thousands")


# --- dense ---------------------------------------------------------------------------------------------------------------


def head(rng, map_shape, hidden, K, dtype=np.float64):
    """A classifier of flattened maps, in evaluation mode, with biases that show."""
    layers, size = [], int(np.prod(map_shape))
    for width in hidden:
        layers += [nn.Linear(size, width), nn.ReLU(), nn.Dropout(0.5)]
        size = width
    classifier = nn.Sequential(*layers, nn.Linear(size, K)).to(dtype=dtype).eval()
    for p in classifier.parameters():
        p.data = (rng.standard_normal(p.shape) / np.sqrt(p.shape[-1])).astype(dtype)
    return classifier


@part("dense", 2, "as_convolutions: every window of a larger map gets the classifier's scores")
def _(hw, ref, rng):
    for map_shape, hidden, larger in (((3, 2, 4), [6, 5], (5, 6)), ((2, 3, 3), [], (3, 5)), ((4, 3, 2), [7], (3, 2))):
        classifier = head(rng, map_shape, hidden, 4)
        C, H, W = map_shape
        maps = rng.standard_normal((2, C, *larger))
        what = f"as_convolutions(classifier for maps {map_shape} with hidden layers {hidden}, ...)"
        net = hw.as_convolutions(classifier, map_shape)
        if not isinstance(net, nn.Sequential):
            raise AssertionError(f"{what} must be an nn.Sequential, got {type(net).__name__}")
        y = numbers(net.eval()(minidl.Tensor(maps)), f"{what}(maps {maps.shape})")
        OH, OW = larger[0] - H + 1, larger[1] - W + 1
        if y.shape != (2, 4, OH, OW):
            raise AssertionError(f"{what}(maps {maps.shape}) must have shape {(2, 4, OH, OW)}, got {y.shape}")
        for i, j in np.ndindex(OH, OW):
            window = maps[:, :, i:i + H, j:j + W].reshape(2, -1)
            close(y[:, :, i, j], classifier(minidl.Tensor(window)).numpy(), f"{what}(maps {maps.shape})[:, :, {i}, {j}]")


@part("dense", 1, "as_convolutions: copies, of the same type, in place of linear layers only")
def _(hw, ref, rng):
    for dtype in (np.float32, np.float64):
        classifier = head(rng, (2, 2, 3), [4], 3, dtype)
        before = classifier.state_dict()
        net = hw.as_convolutions(classifier, (2, 2, 3))
        expected = nn.Conv2d, nn.ReLU, nn.Dropout, nn.Conv2d
        if len(net) != 4 or not all(isinstance(layer, kind) for layer, kind in zip(net, expected)):
            kinds = [type(layer).__name__ for layer in net]
            raise AssertionError("as_convolutions of Linear, ReLU, Dropout, Linear must be Conv2d, ReLU, Dropout, Conv2d; got "
                                 f"{kinds}")
        for name, p in net.named_parameters():
            if p.dtype != dtype:
                raise AssertionError(f"as_convolutions of a {np.dtype(dtype)} classifier: {name} must have this dtype, got "
                                     f"{p.dtype}")
            p.data[...] = 7  # an array shared with the classifier would change there
        for name, array in classifier.state_dict().items():
            close(array, before[name], f"{name} of the classifier, after the weights of the new net were changed", 1e-6)


@part("dense", 2, "dense_probabilities: mean over the map, softmax, mean with the mirror image")
def _(hw, ref, rng):
    for shape, kernel in (((3, 2, 6, 8), (3, 4)), ((1, 3, 5, 4), (5, 4))):
        net = nn.Sequential(nn.Conv2d(shape[1], 4, kernel)).to(dtype=np.float64).eval()
        net[0].weight.data = rng.standard_normal(net[0].weight.shape)
        images = rng.standard_normal(shape)
        expected = sum(softmax(mean_over_windows(view, net[0].weight.numpy())) for view in (images, images[..., ::-1])) / 2
        what = f"dense_probabilities(net, images {shape}), a net whose windows are {kernel}"
        close(hw.dense_probabilities(net, images), expected, what)


def mean_over_windows(images, w):
    """The mean over all places of the sum of w times the window there: (N, K)."""
    KH, KW = w.shape[2:]
    places = list(np.ndindex(images.shape[2] - KH + 1, images.shape[3] - KW + 1))
    return sum(np.tensordot(images[:, :, i:i + KH, j:j + KW], w, ([1, 2, 3], [1, 2, 3])) for i, j in places) / len(places)


# --- upsample ------------------------------------------------------------------------------------------------------------


@part("upsample", 1, "bilinear_weights: tents for even and odd factors, height and width")
def _(hw, ref, rng):
    close(hw.bilinear_weights(2, 1), np.array([[0.25], [0.75], [0.75], [0.25]]), "bilinear_weights(2, 1)")
    close(hw.bilinear_weights(1, 3), np.array([[1, 2, 3, 2, 1]]) / 3, "bilinear_weights(1, 3)")
    close(hw.bilinear_weights(4, 2), np.outer([1, 3, 5, 7, 7, 5, 3, 1], [2, 6, 6, 2]) / 64, "bilinear_weights(4, 2)")


FACTORS = ((2, 3), (3, 2), (4, 1), (1, 4))


@part("upsample", 2, "upsample: every pixel paints its tents, every channel by itself")
def _(hw, ref, rng):
    for fh, fw in FACTORS:
        x, k = rng.standard_normal((2, 3, 3, 4)), ref.bilinear_weights(fh, fw)
        painted = np.zeros((2, 3, 3 * fh + k.shape[0], 4 * fw + k.shape[1]))
        for i, j in np.ndindex(3, 4):
            painted[:, :, i * fh:i * fh + k.shape[0], j * fw:j * fw + k.shape[1]] += x[:, :, i, j, None, None] * k
        top, left = fh // 2, fw // 2
        what = f"upsample(x {x.shape}, {fh}, {fw})"
        close(numbers(hw.upsample(minidl.Tensor(x), fh, fw), what), painted[:, :, top:top + 3 * fh, left:left + 4 * fw], what)


@part("upsample", 1, "upsample: away from the edges a plane stays a plane")
def _(hw, ref, rng):
    for fh, fw in FACTORS:
        row, column = np.arange(6)[:, None], np.arange(5)[None, :]
        what = f"upsample of the plane 2 + 3 row - column, (6, 5) pixels, factors {fh} and {fw}, away from the edges"
        y = numbers(hw.upsample(minidl.Tensor((2.0 + 3 * row - column)[None, None]), fh, fw), what)
        i, j = np.arange(6 * fh)[:, None], np.arange(5 * fw)[None, :]
        plane = 2 + 3 * ((i + 0.5) / fh - 0.5) - ((j + 0.5) / fw - 0.5)  # where the middle of a small pixel lies in x
        inside = ..., slice(fh, 5 * fh), slice(fw, 4 * fw)
        close(y[0, 0][inside], plane[inside], what)


@part("upsample", 1, "upsample: gradients, and float32")
def _(hw, ref, rng):
    x = rng.standard_normal((1, 2, 3, 4))
    for fh, fw in FACTORS[:2]:
        with in_case(f"upsample(x {x.shape}, {fh}, {fw})"):
            minidl.gradcheck(lambda x, fh=fh, fw=fw: hw.upsample(x, fh, fw), [x], names=["x"])
    y = numbers(hw.upsample(minidl.Tensor(x.astype(np.float32)), 2, 3), "upsample(x (1, 2, 3, 4), 2, 3)")
    if y.dtype != np.float32:
        raise AssertionError(f"upsample of a float32 Tensor must be float32, got {y.dtype}")


# --- mean_iou ------------------------------------------------------------------------------------------------------------


def iou_by_sets(guesses, labels, C, ignore):
    """Per class, by the sets of its pixels."""
    per_class = []
    for c in range(C):
        guessed = {place for place in np.ndindex(labels.shape) if guesses[place] == c and labels[place] != ignore}
        there = {place for place in np.ndindex(labels.shape) if labels[place] == c != ignore}
        per_class.append(len(guessed & there) / len(guessed | there) if guessed | there else np.nan)
    return np.array(per_class)


def judged(hw, scores, labels, what, *ignore):
    mean, per_class = pair(hw.mean_iou(scores, labels, *ignore), what)
    expected = iou_by_sets(scores.argmax(axis=1), labels, scores.shape[1], *(ignore or (255,)))
    close(per_class, expected, f"{what}: intersection over union of each class")
    close(mean, np.nanmean(expected), f"{what}: the mean")


def scored(guesses, C, rng):
    """Scores (N, C, H, W) whose largest are the guesses."""
    return rng.standard_normal((guesses.shape[0], C, *guesses.shape[1:])) + 20 * np.moveaxis(np.eye(C)[guesses], -1, 1)


@part("mean_iou", 2, "intersection over union, over all pixels of all images")
def _(hw, ref, rng):
    for shape, C in (((2, 4, 5), 3), ((3, 6, 4), 4)):
        labels = rng.integers(0, C, shape)
        guesses = np.where(rng.random(shape) < 0.5, labels, rng.integers(0, C, shape))
        guesses[0], labels[0, 0] = 0, 0  # images differ
        judged(hw, scored(guesses, C, rng), labels, f"mean_iou(scores, labels {shape}), {C} classes")


@part("mean_iou", 1, "classes that are nowhere, or on one side only")
def _(hw, ref, rng):
    labels = np.array([[[0, 0, 1, 1], [0, 0, 3, 3]]])
    guesses = np.array([[[0, 0, 0, 1], [2, 0, 3, 3]]])  # 4 is nowhere, 2 is guessed only
    what = f"mean_iou with labels {labels.tolist()} and guesses {guesses.tolist()}, 5 classes"
    judged(hw, scored(guesses, 5, rng), labels, what)
    zeros, ones = np.zeros((1, 2, 3), int), np.ones((1, 2, 3), int)
    judged(hw, scored(zeros, 2, rng), ones, "mean_iou where every pixel is 1 and 0 is guessed")


@part("mean_iou", 1, "ignored pixels count nowhere")
def _(hw, ref, rng):
    for ignore in ((), (255,), (-1,), (2,)):
        labels, unlabelled = rng.integers(0, 3, (2, 4, 5)), ignore[0] if ignore else 255
        guesses = np.where(rng.random(labels.shape) < 0.5, labels, rng.integers(0, 3, labels.shape))
        labels[:, 1:3, :3] = unlabelled
        judged(hw, scored(guesses, 3, rng), labels, f"mean_iou(scores, labels (2, 4, 5)), ignore {unlabelled}", *ignore)
