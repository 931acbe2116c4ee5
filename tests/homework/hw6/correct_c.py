# minidl homework 6: this line tells which one the file is, whatever its name
"""Other legal choices: velocities in a dictionary, one crop or pixel row at a time, groups instead of a diagonal."""
import numpy as np

import minidl
from minidl import nn, ops


class PaperSGD:
    def __init__(self, parameters, lr, momentum=0.9, weight_decay=0.0):
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.parameters, self.velocity = tuple(parameters), {}

    def step(self):
        for p in self.parameters:
            if p.grad is None:
                continue
            v = self.velocity.setdefault(id(p), np.zeros_like(p.data))
            np.multiply(v, self.momentum, out=v)
            np.subtract(v, self.lr * p.grad, out=v)
            np.subtract(v, self.weight_decay * self.lr * p.data, out=v)
            p.data = np.add(p.data, v)

    def zero_grad(self):
        for p in self.parameters:
            p.grad = None


def rate_at(step, base, milestones, factor=0.1, warmup=0):
    reached = np.asarray(milestones, dtype=int) <= step
    rate = np.prod(np.where(reached, factor, 1.0)) * base
    return np.float64(rate * np.clip((step + 1) / warmup, 0, 1) if warmup else rate)


class Pass:
    """What one pass adds up."""

    def __init__(self):
        self.mean, self.images = 0.0, 0

    def add(self, loss, images):
        self.images += images
        self.mean += (loss - self.mean) * images / self.images


def train(net, optimizer, batches, passes, rate):
    net, means, step = net.train(), [], 0
    optimizer.lr = rate(step)  # each update leaves the rate of the next
    optimizer.zero_grad()
    for _ in range(passes):
        seen = Pass()
        for x, labels in batches:
            loss = nn.CrossEntropyLoss()(net(minidl.Tensor(x)), minidl.Tensor(labels))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            optimizer.lr = rate(step)
            seen.add(loss.item(), x.shape[0])
        means.append(seen.mean)
    return tuple(means)


@minidl.no_grad()
def _judge(net, x):
    return np.array(net(minidl.Tensor(x)).numpy())


def scores_of(net, batches):
    modes = [(module, module.training) for module in net.modules()]
    net.train(False)
    result = [(_judge(net, x), labels) for x, labels in batches]
    for module, mode in modes:
        module.training = mode
    return [np.concatenate([entry[i] for entry in result], axis=0) for i in (0, 1)]


def top_k_errors(scores, labels, ks=(1, 5)):
    C = scores.shape[1]
    others = scores[np.arange(C) != labels[:, None]].reshape(len(labels), C - 1)
    best_first = -np.sort(-others, axis=1)
    own = scores[np.arange(len(labels)), labels]
    # right among k: the k-th best of the others is below
    return np.array([100.0 * np.mean(best_first[:, k - 1] >= own) if k < C else 0.0 for k in ks])


def confusion(guesses, labels, C, ignore=255):
    flat_guesses, flat_labels = guesses.ravel(), labels.ravel()
    counted = np.flatnonzero(flat_labels != ignore)
    there = np.eye(C, dtype=np.int64)[flat_labels[counted]]
    guessed = np.eye(C, dtype=np.int64)[flat_guesses[counted]]
    return there.T @ guessed


def ten_crops(images, height, width):
    H, W = images.shape[-2:]
    views = []
    for view, mirrored in ((images, False), (images[..., ::-1], True)):
        for name in ("00", "01", "10", "11", "cc"):
            top = {"0": 0, "1": H - height, "c": (H - height) // 2}[name[0]]
            left = {"0": 0, "1": W - width, "c": (W - width) // 2}[name[1]]
            left = W - width - left if mirrored else left
            views.append(view[:, :, top:top + height, left:left + width])
    return np.moveaxis(np.array(views), 0, 1)


def ten_crop_probabilities(net, images, height, width):
    total = 0
    for crop in np.moveaxis(ten_crops(images, height, width), 1, 0):
        scores = _judge(net, np.ascontiguousarray(crop))
        total = total + np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)) / 10
    return total


class Window(nn.Conv2d):
    """A Conv2d that begins with the weights of a linear layer."""

    def __init__(self, linear, C, H, W):
        super().__init__(C, linear.out_features, (H, W))
        state = {"weight": linear.weight.numpy().reshape(linear.out_features, C, H, W), "bias": linear.bias.numpy()}
        self.to(dtype=linear.weight.dtype).load_state_dict(state)


def as_convolutions(classifier, map_shape):
    layers, shape = [], map_shape
    for layer in classifier:
        if isinstance(layer, nn.Linear):
            conv = nn.Conv2d(shape[0], layer.out_features, shape[1:]).to(dtype=layer.weight.dtype)
            conv.load_state_dict(Window(layer, *shape).state_dict())
            layer, shape = conv, (layer.out_features, 1, 1)
        layers.append(layer)
    return nn.Sequential(*layers)


def dense_probabilities(net, images):
    result = np.zeros(())
    for step in (1, -1):
        scores = _judge(net, images[:, :, :, ::step].copy())
        scores = scores.reshape(*scores.shape[:2], -1).mean(axis=-1)
        result = result + 0.5 * np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))
    return result


def bilinear_weights(fh, fw):
    tents = []
    for f in (fh, fw):
        half = np.arange(1, f + 1) / f if f % 2 else (np.arange(f) + 0.5) / f
        tents.append(np.concatenate([half, half[::-1][f % 2:]]))
    return np.multiply.outer(*tents)


def upsample(x, fh, fw):
    C = x.shape[1]
    w = np.broadcast_to(bilinear_weights(fh, fw), (C, 1, 2 * fh - fh % 2, 2 * fw - fw % 2)).astype(x.dtype)
    return ops.conv_transpose2d(x, minidl.Tensor(w), None, (fh, fw), (fh // 2, fw // 2), groups=C)


def mean_iou(scores, labels, ignore=255):
    C = scores.shape[1]
    matrix = sum(confusion(s.argmax(axis=0), y, C, ignore) for s, y in zip(scores, labels))
    per_class = np.full(C, np.nan)
    union = matrix.sum(0) + matrix.sum(1) - matrix.diagonal()
    np.divide(matrix.diagonal(), union, out=per_class, where=union != 0)
    return per_class[~np.isnan(per_class)].mean(), per_class
