"""Softmax and cross-entropy in one: a mean over the batch, a loss per sample, and with weights for the samples."""
import numpy as np
from corpus.case import Operation

from minidl import Function


def samples(rng):
    for n, classes in ((4, 5), (3, 6), (6, 2), (2, 3)):
        labels = rng.integers(0, classes, n)
        labels[0], labels[-1] = classes - 1, 0
        yield (rng.normal(size=(n, classes)), labels), {}


def losses(scores, labels):
    """The loss of every sample."""
    return np.array([np.log(sum(np.exp(v - row[y]) for v in row)) for row, y in zip(scores, labels)])


def softmax(scores):
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


# the mean over the batch, a scalar

def mean_reference(scores, labels):
    return losses(scores, labels).mean()


def mean_forward(scores, labels):
    p = softmax(scores)
    return -np.log(p[np.arange(len(labels)), labels]).mean(), (p, labels)


def mean_as_float(scores, labels):
    p = softmax(scores)
    return float(np.mean(-np.log(p[range(len(labels)), labels]))), {"p": p, "y": labels}


def mean_only(scores, labels):
    log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return -np.mean(log_p[np.arange(len(labels)), labels])


cross_entropy = Operation("cross_entropy", samples, mean_reference, mean_forward)


@cross_entropy.mistake("ignores-upstream")
def forgets_that_the_loss_may_be_scaled(dout, cache):
    p, y = cache
    dx = p.copy()
    dx[np.arange(len(y)), y] -= 1
    return dx / len(y)


@cross_entropy.mistake("scale")
def forgets_to_divide_by_the_batch(dout, cache):
    p, y = cache
    dx = p.copy()
    dx[np.arange(len(y)), y] -= 1
    return dout * dx


@cross_entropy.mistake("scale")
def divides_by_batch_and_classes(dout, cache):
    p, y = cache
    return dout * (p - np.eye(p.shape[1])[y]) / p.size


@cross_entropy.mistake("scale")
def divides_by_the_batch_twice(dout, cache):
    p, y = cache
    N = len(y)
    dx = p / N
    dx[np.arange(N), y] -= 1 / N
    return dout * dx / N


@cross_entropy.mistake("sign")
def label_minus_probability(dout, cache):
    p, y = cache
    return dout * (np.eye(p.shape[1])[y] - p) / len(y)


@cross_entropy.mistake("unknown")
def forgets_to_subtract_one_at_the_label(dout, cache):
    p, y = cache
    return dout * p / len(y)


@cross_entropy.mistake("missing-statistics-path")
def only_the_score_of_the_label(dout, cache):
    p, y = cache
    dx = np.zeros_like(p)
    dx[np.arange(len(y)), y] = -1 / len(y)
    return dout * dx


@cross_entropy.mistake("missing-statistics-path")
def derivative_by_p_times_p(dout, cache):
    """-1/p at the label, and from there through exp alone, as if the sum were constant."""
    p, y = cache
    dp = np.zeros_like(p)
    dp[np.arange(len(y)), y] = -dout / (len(y) * p[np.arange(len(y)), y])
    return dp * p


@cross_entropy.mistake("unknown")
def stops_at_the_probabilities(dout, cache):
    """The gradient of p, not that of the scores."""
    p, y = cache
    dp = np.zeros_like(p)
    dp[np.arange(len(y)), y] = -dout / (len(y) * p[np.arange(len(y)), y])
    return dp


@cross_entropy.mistake("unknown")
def subtracts_one_in_the_columns_of_all_labels(dout, cache):
    """dx[:, y] touches every row."""
    p, y = cache
    dx = p.copy()
    dx[:, y] -= 1
    return dout * dx / len(y)


@cross_entropy.mistake("not-deterministic")
def works_on_the_probabilities_in_the_cache(dout, cache):
    dx, y = cache
    dx[np.arange(len(y)), y] -= 1
    dx /= len(y)
    return dout * dx


@cross_entropy.mistake("mutates-input", forward=lambda scores, labels: (mean_only(scores, labels), (scores, labels)))
def works_on_the_scores_in_the_cache(dout, cache):
    scores, y = cache
    p = softmax(scores)
    scores -= scores.max(axis=1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    return dout * p / len(y)


@cross_entropy.mistake("one-sample-only")
def loop_builds_a_new_gradient_for_each_sample(dout, cache):
    p, y = cache
    for n in range(len(y)):
        dx = np.zeros_like(p)
        dx[n] = p[n]
        dx[n, y[n]] -= 1
    return dout * dx / len(y)


@cross_entropy.mistake("one-sample-only")
def returns_after_the_first_sample(dout, cache):
    p, y = cache
    dx = np.zeros_like(p)
    for n in range(len(y)):
        dx[n] = dout * (p[n] - (np.arange(p.shape[1]) == y[n])) / len(y)
        if n == 0:
            break
    return dx


def sum_forward(scores, labels):
    p = softmax(scores)
    return -np.log(p[np.arange(len(labels)), labels]).sum(), (p, labels)


@cross_entropy.mistake("forward-differs", forward=sum_forward)
def adds_the_losses(dout, cache):
    p, y = cache
    return dout * (p - np.eye(p.shape[1])[y])


def gain_forward(scores, labels):
    return -mean_only(scores, labels), (softmax(scores), labels)


@cross_entropy.mistake("forward-differs", forward=gain_forward)
def forward_without_the_minus(dout, cache):
    p, y = cache
    return dout * (np.eye(p.shape[1])[y] - p) / len(y)


@cross_entropy.mistake("transposed")
def returns_classes_first(dout, cache):
    p, y = cache
    return dout * (p - np.eye(p.shape[1])[y]).T / len(y)


@cross_entropy.mistake("wrong-shape")
def returns_the_label_column_only(dout, cache):
    p, y = cache
    return dout * (p[np.arange(len(y)), y] - 1) / len(y)


@cross_entropy.mistake("wrong-dtype")
def one_hot_of_integers_decides_the_dtype(dout, cache):
    p, y = cache
    dx = np.zeros(p.shape, dtype=np.float32)
    dx[np.arange(len(y)), y] = -1
    dx += p
    return np.float32(dout) * dx / np.float32(len(y))


@cross_entropy.correct()
def p_minus_one_at_the_label(dout, cache):
    p, y = cache
    dx = p.copy()
    dx[np.arange(len(y)), y] -= 1
    dx *= dout / len(y)
    return dx


@cross_entropy.correct(forward=mean_as_float)
def p_minus_one_hot(dout, cache):
    return dout * (cache["p"] - np.eye(cache["p"].shape[1])[cache["y"]]) / len(cache["y"]), None


@cross_entropy.correct(forward=mean_only)
def softmax_again_from_the_scores(dout, scores, labels):
    dx = np.zeros_like(scores)
    for n, (row, y) in enumerate(zip(scores, labels)):
        for c, v in enumerate(row):
            dx[n, c] = (1 / np.exp(row - v).sum() - (c == y)) / len(labels)
    return [dx * dout]


@cross_entropy.correct()
class CrossEntropy(Function):
    integer_inputs = ("labels",)

    def forward(self, scores, labels):
        z = scores - scores.max(axis=1, keepdims=True)
        self.log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        self.hit = np.arange(scores.shape[1]) == labels[:, None]
        return -(self.log_p * self.hit).sum() / len(labels)

    def backward(self, dy):
        d_log_p = -dy * self.hit / len(self.hit)
        return d_log_p - np.exp(self.log_p) * d_log_p.sum(axis=1, keepdims=True), None


@cross_entropy.mistake("scale")
class CrossEntropySum(Function):
    """Averages in forward and forgets it in backward."""

    integer_inputs = ("labels",)

    def forward(self, scores, labels):
        self.p = softmax(scores)
        self.one_hot = np.eye(scores.shape[1])[labels]
        return -(self.one_hot * np.log(self.p)).sum(axis=1).mean()

    def backward(self, dy):
        return dy * (self.p - self.one_hot), None


# a loss for each sample

def single_forward(scores, labels):
    p = softmax(scores)
    return -np.log(p[np.arange(len(labels)), labels]), (p, labels)


single = Operation("cross_entropy_per_sample", samples, losses, single_forward)


@single.mistake("ignores-upstream")
def every_sample_with_weight_one(dout, cache):
    p, y = cache
    return p - np.eye(p.shape[1])[y]


@single.mistake("ignores-upstream")
def dout_scales_only_the_label(dout, cache):
    p, y = cache
    return p - np.eye(p.shape[1])[y] * dout[:, None]


@single.mistake("scale")
def divides_by_the_batch_all_the_same(dout, cache):
    p, y = cache
    return dout[:, None] * (p - np.eye(p.shape[1])[y]) / len(y)


@single.mistake("unknown")
def every_sample_gets_the_mean_of_dout(dout, cache):
    p, y = cache
    return np.mean(dout) * (p - np.eye(p.shape[1])[y])


@single.correct()
def rows_times_dout(dout, cache):
    p, y = cache
    return dout[:, None] * (p - np.eye(p.shape[1])[y])


@single.correct()
def subtracts_dout_at_the_label(dout, cache):
    p, y = cache
    dx = np.einsum("n,nc->nc", dout, p)
    dx[np.arange(len(y)), y] -= dout
    return dx


# with smoothed labels

def smooth_samples(rng):
    for (inputs, _), smoothing in zip(samples(rng), (0.1, 0.3, 0.2)):
        yield inputs, {"smoothing": smoothing}


def target(labels, classes, smoothing):
    return (1 - smoothing) * np.eye(classes)[labels] + smoothing / classes


def smooth_reference(scores, labels, smoothing):
    log_p = scores - np.log(np.exp(scores).sum(axis=1))[:, None]
    return sum(-(target(y, len(row), smoothing) * row).sum() for row, y in zip(log_p, labels)) / len(labels)


def smooth_forward(scores, labels, smoothing):
    p, t = softmax(scores), target(labels, scores.shape[1], smoothing)
    return -(t * np.log(p)).sum() / len(labels), (p, labels, smoothing)


smooth = Operation("cross_entropy_smoothed", smooth_samples, smooth_reference, smooth_forward)


@smooth.mistake("unknown")
def forgets_the_smoothing(dout, cache):
    p, y, _ = cache
    return dout * (p - np.eye(p.shape[1])[y]) / len(y)


@smooth.mistake("unknown")
def spreads_the_smoothing_over_the_others_only(dout, cache):
    p, y, s = cache
    hit = np.eye(p.shape[1])[y]
    return dout * (p - np.where(hit, 1 - s, s / (p.shape[1] - 1))) / len(y)


@smooth.mistake("scale")
def forgets_the_batch(dout, cache):
    p, y, s = cache
    return dout * (p - target(y, p.shape[1], s))


@smooth.correct()
def p_minus_the_target(dout, cache):
    p, y, s = cache
    return dout * (p - target(y, p.shape[1], s)) / len(y)
