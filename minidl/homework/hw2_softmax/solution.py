"""Homework 2: softmax, cross-entropy, and a gradient checker that cannot be fooled.

A classifier ends in softmax: numbers in, probabilities out. You write it with its gradient, its logarithm and the loss on
top, then the referee that tells a right gradient from a wrong one, and at last you train on handwritten digits.
It goes with the second half of lesson 1 (01_chain_rule_and_tape): a referee, and how good a measured slope is.

Every operation is a pair of functions on NumPy arrays:

    y, cache = something_forward(x, ...)    what backward needs from forward travels in cache, in whatever form you like
    dx = something_backward(dy, cache)      dy is the slope of the loss with respect to y, dx the one with respect to x

No function writes into an array that it was given, and backward may be called twice with the same cache.
N counts examples, K classes.

You need NumPy only. Write the tasks in their order; each is checked by itself, with our solution for the tasks before it:

    minidl homework check hw2_softmax.py
"""
import numpy as np


#: task softmax | 4 points | 30 minutes
#: hint exp(1000) is infinite, and infinity over infinity is no number. But softmax does not change if every number of a row is
#:      moved by the same amount: which amount makes the largest exponent 0?
#: hint For one row: dy_j/dx_i is y_j (1 - y_j) for i = j and -y_i y_j else. Sum over j with dy_j, and y_i comes out as a
#:      factor: dx_i = y_i * (dy_i - what is left). What is left is the same for all i of the row.
#: hint dx = y * (dy - (dy * y).sum(axis=-1, keepdims=True)); all that you need from forward is y.
def softmax_forward(x):
    """y[n, k] = exp(x[n, k]) / sum over j of exp(x[n, j]), finite for every finite x.

    x: (N, K), floating. Returns (y, cache); y is (N, K) and has the dtype of x, float32 as well.
    """
    #: solution
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True)
    return y, y
    #: end


def softmax_backward(dy, cache):
    """dy: (N, K). Returns dx (N, K): every x of a row moves every y of this row, through the sum."""
    #: solution
    y = cache
    return y * (dy - (dy * y).sum(axis=-1, keepdims=True))
    #: end


#: task log_softmax | 4 points | 25 minutes
#: hint log(softmax(x)) is right on paper. What happens to the row (0, -1000)? Take the logarithm on paper first.
#: hint y = x - log(sum of exp(x)), again with the maximum taken out. For the gradient: how does y_j depend on x_i, directly
#:      and through the sum?
#: hint dx = dy - exp(y) * dy.sum(axis=-1, keepdims=True).
def log_softmax_forward(x):
    """y[n, k] = log(softmax(x)[n, k]), finite for every finite x, also where the probability itself is too small to hold.

    x: (N, K), floating. Returns (y, cache), y: (N, K).
    """
    #: solution
    shifted = x - x.max(axis=-1, keepdims=True)
    y = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return y, y
    #: end


def log_softmax_backward(dy, cache):
    """dy: (N, K). Returns dx (N, K)."""
    #: solution
    y = cache
    return dy - np.exp(y) * dy.sum(axis=-1, keepdims=True)
    #: end


#: task cross_entropy | 4 points | 30 minutes
#: hint You have log-softmax already. Which one number of each of its rows does the loss look at?
#: hint x[np.arange(N), labels] picks one number of each row. Backward: the slope of the loss with respect to those log
#:      probabilities is -1/N each, and 0 for the others. Or on paper: probabilities minus one-hot labels, over N.
#: hint dx = np.exp(y); dx[np.arange(N), labels] -= 1; return dx * (dloss / N).
def cross_entropy_forward(x, labels):
    """loss = -(1/N) * sum over n of log(softmax(x)[n, labels[n]]): the mean surprise at the right answers.

    x: (N, K), scores of any size (not probabilities). labels: (N,) integers from 0 to K - 1.
    Returns (loss, cache); loss is a single number and finite.
    """
    #: solution
    N = len(x)
    y, _ = log_softmax_forward(x)
    loss = -y[np.arange(N), labels].mean()
    return loss, (y, labels)
    #: end


def cross_entropy_backward(dloss, cache):
    """dloss: a single number, the slope of whatever comes after with respect to the loss; often 1. Returns dx (N, K)."""
    #: solution
    y, labels = cache
    N = len(y)
    dx = np.exp(y)
    dx[np.arange(N), labels] -= 1
    return dx * (dloss / N)
    #: end


#: task numeric_gradient | 4 points | 30 minutes
#: hint One element at a time: a little up, a little down, everything else stays. How do you make sure of the last?
#: hint A float64 copy of x that you may write into; np.ndindex(x.shape) gives all indices, also of an array without axes.
#:      Set, measure, set back. The central slope is the mean of the slopes to the right and to the left.
#: hint here = np.sum(f(x) * dy); for each i: right = (np.sum(f(x + eps e_i) * dy) - here) / eps, left the same with here minus
#:      the lower one, dx[i] = (right + left) / 2, kinks[i] = abs(right - left) > 1e-5 * (1 + abs(right) + abs(left)).
def numeric_gradient(f, x, dy, eps=1e-6):
    """Measures the slope of s(x) = sum of dy * f(x) for every element of x, without any knowledge of f.

    f: a function from an array of the shape of x to an array y (or a number); y may be the very array that f was given, or a
    view of it. x: a real array of any shape, float32 and integers as well; measure in float64. x is as before afterwards.
    dy: the weights of the outputs, of the shape of y.

    Returns (dx, kinks), both of the shape of x. With e_i = 1 at element i and 0 elsewhere,

        dx[i]    = (s(x + eps e_i) - s(x - eps e_i)) / (2 eps), the central difference, float64
        right    = (s(x + eps e_i) - s(x)) / eps, the slope to the right
        left     = (s(x) - s(x - eps e_i)) / eps, the slope to the left
        kinks[i] = |right - left| > 1e-5 * (1 + |right| + |left|): True where s has a kink
    """
    #: solution
    x = np.array(x, dtype=np.float64)  # a copy: it is written into
    dx, kinks = np.zeros(x.shape), np.zeros(x.shape, dtype=bool)
    here = np.sum(f(x) * dy)
    for i in np.ndindex(x.shape):
        before = x[i]
        x[i] = before + eps
        right = (np.sum(f(x) * dy) - here) / eps
        x[i] = before - eps
        left = (here - np.sum(f(x) * dy)) / eps
        x[i] = before
        dx[i] = (right + left) / 2
        kinks[i] = abs(right - left) > 1e-5 * (1 + abs(right) + abs(left))
    return dx, kinks
    #: end


#: task check_gradient | 6 points | 35 minutes
#: hint The rows of softmax sum to 1. So with dy all ones, what is the slope of sum of dy * softmax(x)? Which wrong gradients
#:      give the same? What must dy be instead?
#: hint y, cache = forward(x); dy random, of the shape of y; dx = backward(dy, cache); then measure with numeric_gradient, whose
#:      f must return y alone. Compare element by element, and leave out the kinks.
#: hint The comparison decides about NaN: `abs(dx - measured) > tolerance` is False for it. Ask the other way round:
#:      wrong = ~(abs(dx - measured) <= tolerance) & ~kinks.
def check_gradient(forward, backward, x, rng):
    """Where is `backward` not the slope of `forward`? Returns the list of those indices of x, as tuples; empty if all is well.

    forward: y, cache = forward(x), y an array or a number. backward: dx = backward(dy, cache). x: float64 array.
    rng: a NumPy Generator, for random weights dy of the outputs (rng.normal will do): with ones, wrong gradients pass.

    Element i is right if |dx[i] - measured| <= 1e-7 + 1e-5 * |measured|; NaN and infinity never are. Elements at a kink (see
    numeric_gradient) are left out: there any slope between left and right is a legal answer.
    A dx of another shape than x raises ValueError. x is as before afterwards.
    """
    #: solution
    y, cache = forward(x)
    dy = rng.normal(size=np.shape(y))
    dx = np.asarray(backward(dy, cache))
    if dx.shape != x.shape:
        raise ValueError(f"check_gradient: the gradient must have the shape of x {x.shape}, but backward returned {dx.shape}")
    measured, kinks = numeric_gradient(lambda z: forward(z)[0], x, dy)
    right = np.abs(dx - measured) <= 1e-7 + 1e-5 * np.abs(measured)
    return [tuple(i) for i in np.argwhere(~right & ~kinks)]
    #: end


#: task linear | 3 points | 20 minutes
#: hint Write one element: y[n, k] = b[k] + sum over d of x[n, d] w[k, d]. Which y does one w[k, d] move, and how much?
#: hint Let the shapes decide: dx (N, D) from dy (N, K) and w (K, D); dw (K, D) from dy and x (N, D). b was used for every n.
#: hint dx = dy @ w, dw = dy.T @ x, db = dy.sum(axis=0).
def linear_forward(x, w, b):
    """y = x @ w.T + b: one row of w and one number of b for each output.

    x: (N, D), w: (K, D), b: (K,). Returns (y, cache), y: (N, K).
    """
    #: solution
    return x @ w.T + b, (x, w)
    #: end


def linear_backward(dy, cache):
    """dy: (N, K). Returns (dx, dw, db), of the shapes of x, w and b."""
    #: solution
    x, w = cache
    return dy @ w, dy.T @ x, dy.sum(axis=0)
    #: end


#: task train | 5 points | 35 minutes
#: hint What are the three lines of one step: forward, backward, move? Which way does the gradient point?
#: hint Draw batch_size different row numbers with rng.choice(N, batch_size, replace=False). Forward: linear, then
#:      cross-entropy; backward the other way round, beginning with 1.
#: hint w = w - lr * dw makes a new array, w -= lr * dw writes into the one that you were given.
def train(x, labels, w, b, steps, lr, batch_size, rng):
    """Softmax regression by plain SGD: `steps` times a random batch, its gradient, and one step of size lr against it.

    x: (N, D) examples, labels: (N,) integers, w: (K, D) and b: (K,) to begin with (left as they are).
    batch_size: how many different examples each step sees, drawn anew for each step with `rng`; at most N.
    Returns (w, b, losses): the trained weights, and a list of floats, each step's loss on its batch, before the step.
    """
    #: solution
    losses = []
    for _ in range(steps):
        rows = rng.choice(len(x), batch_size, replace=False)
        scores, of_linear = linear_forward(x[rows], w, b)
        loss, of_loss = cross_entropy_forward(scores, labels[rows])
        _, dw, db = linear_backward(cross_entropy_backward(1.0, of_loss), of_linear)
        w, b = w - lr * dw, b - lr * db
        losses.append(float(loss))
    return w, b, losses
    #: end
