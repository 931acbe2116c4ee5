# minidl homework 6: this line tells which one the file is, whatever its name
"""The plainest way: loops, and every number written out."""
import numpy as np

import minidl
from minidl import nn, ops


class PaperSGD:
    def __init__(self, parameters, lr, momentum=0.9, weight_decay=0.0):
        self.parameters = []
        self.velocity = []
        for p in parameters:
            self.parameters.append(p)
            self.velocity.append(np.zeros(p.shape, p.dtype))
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay

    def step(self):
        for i in range(len(self.parameters)):
            p = self.parameters[i]
            if p.grad is not None:
                v = self.momentum * self.velocity[i] - self.weight_decay * self.lr * p.data - self.lr * p.grad
                self.velocity[i] = v
                p.data = p.data + v

    def zero_grad(self):
        for p in self.parameters:
            p.grad = None


def rate_at(step, base, milestones, factor=0.1, warmup=0):
    rate = float(base)
    for milestone in milestones:
        if step >= milestone:
            rate = rate * factor
    if step < warmup:
        rate = rate * (step + 1) / warmup
    return rate


def train(net, optimizer, batches, passes, rate):
    step = 0
    means = []
    for _ in range(passes):
        losses = []
        images = []
        for x, labels in batches:
            net.train()
            net.zero_grad()
            optimizer.lr = rate(step)
            loss = ops.cross_entropy(net(minidl.Tensor(x)), labels)
            loss.backward()
            optimizer.step()
            step = step + 1
            losses.append(loss.item())
            images.append(len(labels))
        total = 0
        for loss, n in zip(losses, images):
            total = total + loss * n
        means.append(total / sum(images))
    return means


def scores_of(net, batches):
    mode = net.training
    net.eval()
    all_scores = []
    all_labels = []
    with minidl.no_grad():
        for x, labels in batches:
            scores = net(minidl.Tensor(x)).numpy()
            for n in range(len(scores)):
                all_scores.append(scores[n])
                all_labels.append(labels[n])
    if mode:
        net.train()
    return np.array(all_scores), np.array(all_labels)


def top_k_errors(scores, labels, ks=(1, 5)):
    errors = []
    for k in ks:
        wrong = 0
        for n in range(len(labels)):
            as_good = 0
            for c in range(scores.shape[1]):
                if c != labels[n] and scores[n, c] >= scores[n, labels[n]]:
                    as_good += 1
            if as_good >= k:
                wrong += 1
        errors.append(100 * wrong / len(labels))
    return errors


def confusion(guesses, labels, C, ignore=255):
    matrix = np.zeros((C, C), int)
    for guess, label in zip(guesses.reshape(-1), labels.reshape(-1)):
        if label != ignore:
            matrix[label, guess] += 1
    return matrix


def ten_crops(images, height, width):
    N, C, H, W = images.shape
    crops = np.zeros((N, 10, C, height, width), images.dtype)
    tops = [0, 0, H - height, H - height, (H - height) // 2]
    lefts = [0, W - width, 0, W - width, (W - width) // 2]
    for i in range(5):
        for n in range(N):
            crop = images[n, :, tops[i]:tops[i] + height, lefts[i]:lefts[i] + width]
            crops[n, i] = crop
            crops[n, 5 + i] = crop[:, :, ::-1]
    return crops


def softmax_of(scores):
    e = np.exp(scores - scores.max())
    return e / e.sum()


def ten_crop_probabilities(net, images, height, width):
    crops = ten_crops(images, height, width)
    result = []
    with minidl.no_grad():
        for n in range(len(images)):
            scores = net(minidl.Tensor(crops[n])).numpy()
            total = 0
            for i in range(10):
                total = total + softmax_of(scores[i])
            result.append(total / 10)
    return np.array(result)


def as_convolutions(classifier, map_shape):
    C, H, W = map_shape
    new = nn.Sequential()
    for layer in classifier:
        if isinstance(layer, nn.Linear):
            conv = nn.Conv2d(C, layer.out_features, (H, W)).to(dtype=layer.weight.dtype)
            weight = np.zeros((layer.out_features, C, H, W), layer.weight.dtype)
            for c in range(C):
                for i in range(H):
                    for j in range(W):
                        weight[:, c, i, j] = layer.weight.data[:, c * H * W + i * W + j]
            conv.weight.data = weight
            conv.bias.data = np.array(layer.bias.data)
            new.append(conv)
            C = layer.out_features
            H = 1
            W = 1
        else:
            new.append(layer)
    return new


def dense_probabilities(net, images):
    with minidl.no_grad():
        first = net(minidl.Tensor(images)).numpy()
        second = net(minidl.Tensor(np.ascontiguousarray(images[:, :, :, ::-1]))).numpy()
    result = []
    for n in range(len(images)):
        p = softmax_of(first[n].mean(axis=2).mean(axis=1))
        q = softmax_of(second[n].mean(axis=2).mean(axis=1))
        result.append((p + q) / 2)
    return np.array(result)


def bilinear_weights(fh, fw):
    KH = 2 * fh - fh % 2
    KW = 2 * fw - fw % 2
    weights = np.zeros((KH, KW))
    for i in range(KH):
        for j in range(KW):
            weights[i, j] = (1 - abs(i - (KH - 1) / 2) / fh) * (1 - abs(j - (KW - 1) / 2) / fw)
    return weights


def upsample(x, fh, fw):
    C = x.shape[1]
    kernel = bilinear_weights(fh, fw)
    w = np.zeros((C, C, kernel.shape[0], kernel.shape[1]))
    for c in range(C):
        w[c, c] = kernel
    return ops.conv_transpose2d(x, minidl.Tensor(w.astype(x.dtype)), None, stride=(fh, fw), padding=(fh // 2, fw // 2))


def mean_iou(scores, labels, ignore=255):
    C = scores.shape[1]
    matrix = confusion(scores.argmax(axis=1), labels, C, ignore)
    per_class = []
    there = []
    for c in range(C):
        union = matrix[c].sum() + matrix[:, c].sum() - matrix[c, c]
        if union == 0:
            per_class.append(float("nan"))
        else:
            per_class.append(matrix[c, c] / union)
            there.append(matrix[c, c] / union)
    return sum(there) / len(there), np.array(per_class)
