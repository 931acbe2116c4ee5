"""Losses: mean squared error, mean absolute error, binary cross-entropy with logits, hinge, Huber, and L2 regularization."""
import numpy as np
from corpus.case import Operation

from minidl import Function


def fit(gradient, shape):
    """`gradient` summed over the axes along which an input of this shape was broadcast."""
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))
    return gradient.sum(axis=tuple(a for a, n in enumerate(shape) if n == 1), keepdims=True)


# mse: mean over all elements, two inputs

def mse_samples(rng):
    for shape in ((3, 4), (5, 2, 3), (7,), (1, 5)):
        yield (rng.normal(size=shape), rng.normal(size=shape)), {}


def mse_reference(pred, target):
    return sum((p - t) ** 2 for p, t in zip(pred.ravel(), target.ravel())) / pred.size


def mse_forward(pred, target):
    return np.mean((pred - target) ** 2), (pred, target)


def mse_as_float(pred, target):
    error = pred - target
    return float(np.vdot(error, error)) / error.size, error


def mse_only(pred, target):
    return np.square(pred - target).mean()


mse = Operation("mse", mse_samples, mse_reference, mse_forward)


@mse.mistake("scale")
def forgets_the_two(dout, cache):
    pred, target = cache
    d = dout * (pred - target) / pred.size
    return d, -d


@mse.mistake("scale")
def divides_by_the_batch_only(dout, cache):
    """On flat inputs this is right; on others the features are missing in the count."""
    pred, target = cache
    d = 2 * dout * (pred - target) / len(pred)
    return d, -d


@mse.mistake("scale")
def forgets_to_divide(dout, cache):
    pred, target = cache
    d = 2 * dout * (pred - target)
    return d, -d


@mse.mistake("ignores-upstream")
def two_errors_over_the_count(dout, cache):
    pred, target = cache
    d = 2 * (pred - target) / pred.size
    return d, -d


@mse.mistake("sign")
def target_minus_prediction(dout, cache):
    pred, target = cache
    d = 2 * dout * (target - pred) / pred.size
    return d, -d


@mse.mistake("sign")
def same_gradient_for_both(dout, cache):
    pred, target = cache
    d = 2 * dout * (pred - target) / pred.size
    return d, d


@mse.mistake("zero")
def target_is_a_constant(dout, cache):
    pred, target = cache
    return 2 * dout * (pred - target) / pred.size, None


@mse.mistake("wrong-shape")
def only_the_prediction_gets_a_gradient(dout, cache):
    pred, target = cache
    return 2 * dout * (pred - target) / pred.size


@mse.mistake("unknown")
def multiplies_by_the_prediction(dout, cache):
    pred, target = cache
    return 2 * dout * pred / pred.size, -2 * dout * target / pred.size


@mse.mistake("unknown")
def multiplies_by_the_squared_error(dout, cache):
    pred, target = cache
    d = 2 * dout * (pred - target) ** 2 / pred.size
    return d, -d


@mse.mistake("wrong-shape")
def averages_the_gradient(dout, cache):
    pred, target = cache
    d = dout * np.mean(2 * (pred - target))
    return d, -d


@mse.mistake("one-sample-only")
def last_sample_of_the_loop(dout, cache):
    pred, target = cache
    for n in range(len(pred)):
        d = np.zeros_like(pred)
        d[n] = 2 * dout * (pred[n] - target[n]) / pred.size
    return d, -d


def sum_of_squares(pred, target):
    return np.sum((pred - target) ** 2), (pred, target)


@mse.mistake("forward-differs", forward=sum_of_squares)
def adds_the_squares(dout, cache):
    pred, target = cache
    d = 2 * dout * (pred - target)
    return d, -d


@mse.mistake("forward-differs", forward=lambda pred, target: (0.5 * mse_only(pred, target), (pred, target)))
def half_of_it(dout, cache):
    pred, target = cache
    d = dout * (pred - target) / pred.size
    return d, -d


@mse.mistake("not-deterministic", forward=mse_as_float)
def scales_the_cached_error(dout, error):
    error *= 2 * dout / error.size
    return error.copy(), -error


@mse.correct()
def two_errors_over_the_count_times_dout(dout, cache):
    pred, target = cache
    d = 2 * dout * (pred - target) / pred.size
    return d, -d


@mse.correct(forward=mse_as_float)
def from_a_float_loss(dout, error):
    d = np.multiply(error, 2.0 / error.size) * dout
    return [d, np.negative(d)]


@mse.correct(forward=mse_only)
def element_by_element(dout, pred, target):
    d_pred, d_target = np.zeros_like(pred), np.zeros_like(target)
    for i in np.ndindex(pred.shape):
        share = dout / pred.size
        d_pred[i] += share * 2 * (pred[i] - target[i])
        d_target[i] -= share * 2 * (pred[i] - target[i])
    return d_pred, d_target


@mse.correct()
class MSE(Function):
    def forward(self, pred, target):
        self.error = np.subtract(pred, target)
        return np.mean(np.square(self.error))

    def backward(self, dy):
        d = (2.0 / self.error.size) * self.error * dy
        return d, -d


@mse.mistake("ignores-upstream")
class MSEAsTheLastNode(Function):
    def forward(self, pred, target):
        self.error = pred - target
        return np.mean(self.error ** 2)

    def backward(self, dy):
        d = 2 * self.error / self.error.size
        return d, -d


# weighted squared error: the weights (one per column) broadcast over the batch

def weighted_samples(rng):
    for shape, columns in (((3, 4), (4,)), ((5, 3), (1, 3)), ((1, 2), (2,))):
        yield (rng.normal(size=shape), rng.uniform(0.5, 2, columns)), {}


weighted = Operation("weighted_square", weighted_samples,
                     lambda e, w: np.array([sum(v * v * c for v, c in zip(row, w.ravel())) for row in e]),
                     lambda e, w: ((w * e ** 2).sum(axis=1), (e, w)))


@weighted.mistake("broadcast-not-summed")
def weights_get_one_row_per_sample(dout, cache):
    e, w = cache
    return 2 * dout[:, None] * w * e, dout[:, None] * e ** 2


@weighted.mistake("one-sample-only")
def weights_see_the_last_sample(dout, cache):
    e, w = cache
    for up, row in zip(dout, e):
        dw = (up * row ** 2).reshape(w.shape)
    return 2 * dout[:, None] * w * e, dw


@weighted.mistake("ignores-upstream")
def weights_get_the_squares(dout, cache):
    e, w = cache
    return 2 * dout[:, None] * w * e, fit(e ** 2, w.shape)


@weighted.mistake("unknown")
def forgets_the_square_in_the_weights(dout, cache):
    e, w = cache
    return 2 * dout[:, None] * w * e, fit(dout[:, None] * e, w.shape)


@weighted.correct()
def summed_over_the_batch(dout, cache):
    e, w = cache
    return 2 * dout[:, None] * w * e, fit(dout[:, None] * e ** 2, w.shape)


# mean absolute error; an error of exactly 0 is a kink

def mae_samples(rng):
    for shape, zeros in (((3, 4), 0), ((5, 6), 4), ((7,), 0), ((1, 2), 0)):
        target = rng.integers(-3, 4, shape) / 4
        error = rng.uniform(0.2, 2, shape) * rng.choice([-1.0, 1.0], shape)
        error.flat[:zeros] = 0.0
        yield (target + error, target.copy()), {}


mae = Operation("mae", mae_samples, lambda p, t: sum(abs(a - b) for a, b in zip(p.flat, t.flat)) / p.size,
                lambda p, t: (np.abs(p - t).mean(), np.sign(p - t)))


@mae.mistake("scale")
def sign_without_the_count(dout, sign):
    return dout * sign, -dout * sign


@mae.mistake("unknown", forward=lambda p, t: (np.abs(p - t).mean(), np.abs(p - t)))
def error_for_its_sign(dout, error):
    return dout * error / error.size, -dout * error / error.size


@mae.mistake("ignores-upstream")
def sign_over_the_count(dout, sign):
    return sign / sign.size, -sign / sign.size


@mae.correct()
def sign_over_the_count_times_dout(dout, sign):
    return dout * sign / sign.size, -dout * sign / sign.size


@mae.correct(forward=lambda p, t: (np.abs(p - t).mean(), np.where(p < t, -1.0, 1.0)))
def plus_one_where_the_error_is_zero(dout, sign):
    return dout * sign / sign.size, -dout * sign / sign.size


# binary cross-entropy with logits, mean over all

def bce_samples(rng):
    for shape in ((3, 4), (7,), (2, 3, 4), (1, 3)):
        labels = rng.permutation(np.arange(np.prod(shape)) % 2).reshape(shape)
        yield (rng.normal(size=shape), labels), {}


def bce_reference(z, labels):
    return sum(np.log1p(np.exp(-v if y else v)) for v, y in zip(z.flat, labels.flat)) / z.size


def bce_forward(z, labels):
    return np.mean(np.maximum(z, 0) - z * labels + np.log1p(np.exp(-np.abs(z)))), (z, labels)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


bce = Operation("bce_with_logits", bce_samples, bce_reference, bce_forward)


@bce.mistake("sign")
def label_minus_probability(dout, cache):
    z, y = cache
    return dout * (y - sigmoid(z)) / z.size


@bce.mistake("scale")
def forgets_the_mean(dout, cache):
    z, y = cache
    return dout * (sigmoid(z) - y)


@bce.mistake("unknown")
def derivative_by_the_probability(dout, cache):
    z, y = cache
    p = sigmoid(z)
    return dout * (p - y) / (p * (1 - p)) / z.size


@bce.mistake("unknown")
def sigmoid_derivative_twice(dout, cache):
    z, y = cache
    p = sigmoid(z)
    return dout * (p - y) * p * (1 - p) / z.size


@bce.mistake("unknown")
def logits_for_probabilities(dout, cache):
    z, y = cache
    return dout * (z - y) / z.size


@bce.mistake("zero")
def negatives_do_not_learn(dout, cache):
    """Only -y log p is differentiated."""
    z, y = cache
    return dout * y * (sigmoid(z) - 1) / z.size


@bce.mistake("ignores-upstream")
def probability_minus_label(dout, cache):
    z, y = cache
    return (sigmoid(z) - y) / z.size


@bce.correct()
def probability_minus_label_times_dout(dout, cache):
    z, y = cache
    return dout * (sigmoid(z) - y) / z.size


@bce.correct()
def term_by_term(dout, cache):
    z, y = cache
    positive, negative = -y * sigmoid(-z), (1 - y) * sigmoid(z)
    return (positive + negative) * (dout / z.size), None


# multiclass hinge loss (CS231n's SVM), mean over the batch; margins stay away from 0

def hinge_samples(rng):
    for n, classes in ((4, 5), (3, 6), (5, 2), (2, 3)):
        scores = np.stack([rng.permutation(classes) for _ in range(n)]) * 0.7 + rng.uniform(-0.05, 0.05, (n, classes))
        yield (scores, rng.integers(0, classes, n)), {}


def hinge_reference(scores, labels):
    loss = 0.0
    for row, y in zip(scores, labels):
        loss += sum(max(0.0, v - row[y] + 1) for j, v in enumerate(row) if j != y)
    return loss / len(labels)


def hinge_forward(scores, labels):
    rows = np.arange(len(labels))
    margins = np.maximum(0, scores - scores[rows, labels][:, None] + 1)
    margins[rows, labels] = 0
    return margins.sum() / len(labels), (margins, labels)


hinge = Operation("hinge", hinge_samples, hinge_reference, hinge_forward)


@hinge.mistake("zero")
def nothing_for_the_right_class(dout, cache):
    margins, labels = cache
    return dout * (margins > 0) / len(labels)


@hinge.mistake("unknown")
def right_class_pays_once(dout, cache):
    margins, labels = cache
    dx = (margins > 0).astype(float)
    dx[np.arange(len(labels)), labels] -= 1
    return dout * dx / len(labels)


@hinge.mistake("unknown")
def multiplies_by_the_margins(dout, cache):
    margins, labels = cache
    dx = margins.copy()
    dx[np.arange(len(labels)), labels] -= margins.sum(axis=1)
    return dout * dx / len(labels)


@hinge.mistake("scale")
def not_divided_by_the_batch(dout, cache):
    margins, labels = cache
    dx = (margins > 0).astype(float)
    dx[np.arange(len(labels)), labels] -= dx.sum(axis=1)
    return dout * dx


@hinge.mistake("ignores-upstream")
def counts_the_violations(dout, cache):
    margins, labels = cache
    dx = (margins > 0).astype(float)
    dx[np.arange(len(labels)), labels] -= dx.sum(axis=1)
    return dx / len(labels)


@hinge.correct()
def right_class_pays_for_every_violation(dout, cache):
    margins, labels = cache
    dx = (margins > 0).astype(float)
    dx[np.arange(len(labels)), labels] -= dx.sum(axis=1)
    return dout * dx / len(labels)


@hinge.correct(forward=lambda scores, labels: (float(hinge_reference(scores, labels)), (scores, labels)))
def two_loops(dout, cache):
    scores, labels = cache
    dx = np.zeros_like(scores)
    for n, y in enumerate(labels):
        for j in range(scores.shape[1]):
            if j != y and scores[n, j] - scores[n, y] + 1 > 0:
                dx[n, j] += dout / len(labels)
                dx[n, y] -= dout / len(labels)
    return dx


# loss with L2 regularization: mean of the residuals' squares plus reg * sum(w * w)

def ridge_samples(rng):
    for (n, d), reg in zip(((5, 3), (4, 6), (2, 2)), (0.3, 0.1, 1.5)):
        yield (rng.normal(size=(n, d)), rng.normal(size=d), rng.normal(size=n)), {"reg": reg}


def ridge_reference(X, w, y, reg):
    return sum((sum(r * w) - t) ** 2 for r, t in zip(X, y)) / len(y) + reg * sum(v * v for v in w)


def ridge_forward(X, w, y, reg):
    error = X @ w - y
    return error @ error / len(y) + reg * w @ w, (X, w, error, reg)


ridge = Operation("ridge", ridge_samples, ridge_reference, ridge_forward)


@ridge.mistake("unknown")
def regularization_is_forgotten(dout, cache):
    X, w, error, reg = cache
    d = 2 * dout * error / len(error)
    return np.outer(d, w), X.T @ d, -d


@ridge.mistake("unknown")
def regularization_without_its_two(dout, cache):
    X, w, error, reg = cache
    d = 2 * dout * error / len(error)
    return np.outer(d, w), X.T @ d + dout * reg * w, -d


@ridge.mistake("ignores-upstream")
def regularization_without_dout(dout, cache):
    X, w, error, reg = cache
    d = 2 * dout * error / len(error)
    return np.outer(d, w), X.T @ d + 2 * reg * w, -d


@ridge.mistake("scale")
def halves_all_three(dout, cache):
    X, w, error, reg = cache
    d = dout * error / len(error)
    return np.outer(d, w), X.T @ d + dout * reg * w, -d


@ridge.mistake("wrong-shape")
def gradient_of_the_data_as_a_column_sum(dout, cache):
    X, w, error, reg = cache
    d = 2 * dout * error / len(error)
    return d.sum() * w, X.T @ d + 2 * dout * reg * w, -d


@ridge.correct()
def data_and_regularization(dout, cache):
    X, w, error, reg = cache
    d = 2 * dout * error / len(error)
    return np.outer(d, w), X.T @ d + 2 * dout * reg * w, -d


# Huber, mean over all; errors stay away from delta

def huber_samples(rng):
    for shape, delta in (((3, 4), 1.0), ((7,), 0.5), ((1, 5), 2.0)):
        count = int(np.prod(shape))
        error = delta * np.where(rng.permutation(count) % 2, rng.uniform(0.1, 0.8, count), rng.uniform(1.3, 3, count))
        yield ((error * rng.choice([-1.0, 1.0], count)).reshape(shape),), {"delta": delta}


def huber_reference(e, delta):
    return sum(0.5 * v * v if abs(v) <= delta else delta * (abs(v) - 0.5 * delta) for v in e.flat) / e.size


def huber_forward(e, delta):
    small = np.abs(e) <= delta
    return np.where(small, 0.5 * e ** 2, delta * (np.abs(e) - 0.5 * delta)).mean(), (e, delta)


huber = Operation("huber", huber_samples, huber_reference, huber_forward)


@huber.mistake("unknown")
def linear_everywhere(dout, cache):
    e, delta = cache
    return dout * delta * np.sign(e) / e.size


@huber.mistake("unknown")
def loses_the_sign_outside(dout, cache):
    e, delta = cache
    return dout * np.where(np.abs(e) <= delta, e, delta) / e.size


@huber.mistake("zero")
def nothing_outside_delta(dout, cache):
    e, delta = cache
    return dout * e * (np.abs(e) <= delta) / e.size


@huber.correct()
def clips_the_error(dout, cache):
    e, delta = cache
    return dout * np.clip(e, -delta, delta) / e.size
