"""What is checked in homework 4. The definitions below are loops of their own: they share no line with the solution."""
from functools import partial

import numpy as np

from minidl import check_backward
from minidl.homework.parts import both, close, leaves_alone, part


def called(name, shape, options):
    return f"{name}(x {shape}" + "".join(f", {key}={value}" for key, value in options.items()) + ")"


def check_forward(name, forward, definition, rng, table, values=None):
    for shape, options in table:
        x, what = (values or numbers)(rng, shape), called(name, shape, options)
        y, _ = both(leaves_alone(partial(forward, **options), what, x=x), "y, cache", what)
        close(y, definition(x, **options), what)


def check_gradient(forward, backward, definition, rng, table, values=None):
    for shape, options in table:
        check_backward(forward, backward, [(values or numbers)(rng, shape)], options=options, names=["x"], reference=definition)


def numbers(rng, shape):
    return rng.standard_normal(shape)


def apart(rng, shape):
    """A random order of numbers that lie well apart, none of them positive: no two are equal, nor nearly so."""
    return -rng.permutation(int(np.prod(shape))).reshape(shape) / 7


# --- max_pool --------------------------------------------------------------------------------------------------------


def windows(size, kernel, stride, padding=0):
    """From where to where each window goes in the padded image, found by trying every pixel."""
    whole = size + 2 * padding
    return [slice(s, s + kernel) for s in range(0, whole, stride) if s + kernel <= whole]


def max_pool(x, KH, KW, stride):
    N, C, H, W = x.shape
    return np.array([[[[x[n, c, rows, columns].max() for columns in windows(W, KW, stride)] for rows in windows(H, KH, stride)]
                      for c in range(C)] for n in range(N)])


SIDE_BY_SIDE = [((2, 3, 4, 6), dict(KH=2, KW=2, stride=2)), ((1, 2, 3, 6), dict(KH=3, KW=3, stride=3)),
                ((1, 1, 2, 3), dict(KH=2, KW=3, stride=1))]
OVERLAPPING = [((2, 2, 7, 6), dict(KH=3, KW=2, stride=2)), ((2, 2, 5, 6), dict(KH=3, KW=2, stride=1)),
               ((1, 3, 7, 5), dict(KH=3, KW=3, stride=2)), ((1, 2, 6, 8), dict(KH=2, KW=3, stride=2)),
               ((2, 1, 7, 6), dict(KH=1, KW=2, stride=3))]


@part("max_pool", 2, "forward, where windows lie side by side, overlap, or leave pixels over")
def _(hw, ref, rng):
    for values in (numbers, apart):
        check_forward("max_pool_forward", hw.max_pool_forward, max_pool, rng, SIDE_BY_SIDE + OVERLAPPING, values)


@part("max_pool", 1, "backward, where windows lie side by side")
def _(hw, ref, rng):
    check_gradient(hw.max_pool_forward, hw.max_pool_backward, max_pool, rng, SIDE_BY_SIDE, apart)


@part("max_pool", 2, "backward, where they overlap or leave pixels over")
def _(hw, ref, rng):
    check_gradient(hw.max_pool_forward, hw.max_pool_backward, max_pool, rng, OVERLAPPING, apart)


@part("max_pool", 1, "backward, where several pixels are equally large")
def _(hw, ref, rng):
    """One window at a time gets dy = 1: whoever shares it in whatever way, only the largest do, and it is 1 in all."""
    x = rng.integers(0, 2, (2, 2, 4, 5)).astype(float)
    x[0, 0] = 0  # as after a ReLU
    KH, KW, stride = 3, 2, 1
    y = max_pool(x, KH, KW, stride)
    for n, c, i, j in np.ndindex(y.shape):
        _, cache = both(hw.max_pool_forward(x.copy(), KH, KW, stride), "y, cache", "max_pool_forward")
        dy = np.zeros(y.shape)
        dy[n, c, i, j] = 1
        what = f"max_pool_backward, where only window [{n}, {c}, {i}, {j}] has a dy, 1,"
        dx = np.asarray(hw.max_pool_backward(dy, cache))
        close(dx.shape, x.shape, f"{what} shape of dx")
        window = np.zeros(x.shape, bool)
        window[n, c, i : i + KH, j : j + KW] = True
        largest = window & (x == y[n, c, i, j])
        ties = f"{what} in which {largest.sum()} pixels are equally large (ties)"
        close(dx[largest].sum(), 1.0, f"{ties}: the sum of what they get")
        close(dx[~largest], np.zeros((~largest).sum()), f"{ties}: what all other pixels get")
        if dx.min() < -1e-9:
            raise AssertionError(f"{ties}: a pixel gets {dx.min():.6g}, but a share cannot be negative")


# --- avg_pool --------------------------------------------------------------------------------------------------------


def avg_pool(x, KH, KW, stride, padding=0, count_include_pad=True):
    (N, C, H, W), border = x.shape, ((padding, padding), (padding, padding))
    padded = np.pad(x, ((0, 0), (0, 0), *border))
    pixels = np.pad(np.ones((H, W)), border)
    return np.array([[[[padded[n, c, rows, columns].sum() / (KH * KW if count_include_pad else pixels[rows, columns].sum())
                        for columns in windows(W, KW, stride, padding)] for rows in windows(H, KH, stride, padding)]
                      for c in range(C)] for n in range(N)])


PADDED = [(shape, dict(KH=KH, KW=KW, stride=stride, padding=padding, count_include_pad=count))
          for shape, KH, KW, stride, padding in [((1, 2, 7, 8), 3, 2, 1, 1), ((2, 3, 5, 3), 2, 3, 2, 1),
                                                 ((1, 1, 3, 4), 5, 4, 3, 2)]
          for count in (True, False)]


@part("avg_pool", 1, "forward without padding")
def _(hw, ref, rng):
    check_forward("avg_pool_forward", hw.avg_pool_forward, avg_pool, rng, SIDE_BY_SIDE + OVERLAPPING)


@part("avg_pool", 1, "forward with padding, counted or not")
def _(hw, ref, rng):
    check_forward("avg_pool_forward", hw.avg_pool_forward, avg_pool, rng, PADDED)


@part("avg_pool", 1, "backward without padding")
def _(hw, ref, rng):
    check_gradient(hw.avg_pool_forward, hw.avg_pool_backward, avg_pool, rng, SIDE_BY_SIDE + OVERLAPPING)


@part("avg_pool", 1, "backward with padding, counted or not")
def _(hw, ref, rng):
    check_gradient(hw.avg_pool_forward, hw.avg_pool_backward, avg_pool, rng, PADDED)


# --- lrn -------------------------------------------------------------------------------------------------------------


def lrn(x, n=5, k=2.0, alpha=1e-4, beta=0.75):
    y = np.zeros(x.shape)
    for c in range(x.shape[1]):
        s = np.full(x[:, c].shape, k, float)
        for d in range(c - n // 2, c + (n - 1) // 2 + 1):
            if 0 <= d < x.shape[1]:
                s += alpha * x[:, d] ** 2
        y[:, c] = x[:, c] / s**beta
    return y


# With the paper's alpha of 1e-4 the sum would hardly matter, and neither would a mistake in it.
ODD = [((2, 7, 1, 2), dict(n=3, k=1.0, alpha=0.4, beta=0.75)), ((1, 8, 2, 1), dict(n=5, k=2.0, alpha=0.7, beta=1.5)),
       ((1, 3, 2, 2), dict(n=1, k=0.5, alpha=0.3, beta=0.5))]
EVEN_OR_WIDE = [((1, 6, 2, 1), dict(n=4, k=1.0, alpha=0.5, beta=0.75)), ((2, 5, 1, 2), dict(n=2, k=2.0, alpha=0.9, beta=0.6)),
                ((1, 3, 1, 3), dict(n=9, k=1.5, alpha=0.2, beta=0.75)), ((1, 1, 2, 2), dict(n=5, k=1.0, alpha=0.5, beta=0.75))]


@part("lrn", 1, "forward, for a window with a middle")
def _(hw, ref, rng):
    check_forward("lrn_forward", hw.lrn_forward, lrn, rng, ODD)
    x = 100 * rng.standard_normal((1, 9, 2, 2))
    y, _ = both(hw.lrn_forward(x), "y, cache", "lrn_forward(x)")
    close(y, lrn(x), "lrn_forward(100 * x), with the defaults n=5, k=2, alpha=1e-4, beta=0.75")


@part("lrn", 1, "forward, for even windows and windows wider than the channels")
def _(hw, ref, rng):
    check_forward("lrn_forward", hw.lrn_forward, lrn, rng, EVEN_OR_WIDE)


@part("lrn", 2, "backward, for a window with a middle")
def _(hw, ref, rng):
    check_gradient(hw.lrn_forward, hw.lrn_backward, lrn, rng, ODD)


@part("lrn", 1, "backward, for even windows and windows wider than the channels")
def _(hw, ref, rng):
    check_gradient(hw.lrn_forward, hw.lrn_backward, lrn, rng, EVEN_OR_WIDE)


# --- batch_norm ------------------------------------------------------------------------------------------------------


def normalised(x, mean, var, eps):
    """x_hat, channel by channel."""
    return np.stack([(x[:, c] - mean[c]) / (var[c] + eps) ** 0.5 for c in range(x.shape[1])], axis=1)


def statistics(x):
    """Mean and variance (divided by M) of every channel."""
    values = [x[:, c].ravel() for c in range(x.shape[1])]
    mean = np.array([v.sum() / len(v) for v in values])
    return mean, np.array([((v - m) ** 2).sum() / len(v) for v, m in zip(values, mean)])


def normalised_by_batch(x, eps):
    mean, var = statistics(x)
    return normalised(x, mean, var, eps)


def scaled(x_hat, w, b):
    return np.stack([w[c] * x_hat[:, c] + b[c] for c in range(len(w))], axis=1)


def batch_norm(x, w, b, running=None, momentum=0.1, eps=1e-5):
    return scaled(normalised_by_batch(x, eps), w, b)


def batch_norm_eval(x, w, b, running, eps=1e-5):
    return scaled(normalised(x, running["mean"], running["var"], eps), w, b)


# C = W = 3, where (C,) meets the wrong axis without an error; one image; two values per channel
BATCHES = [((2, 3, 2, 3), dict(eps=1e-5)), ((4, 2, 1, 3), dict(eps=0.3)), ((1, 2, 3, 2), dict(momentum=0.4)),
           ((2, 4, 1, 1), dict(eps=0.5))]


def batches(rng, table=BATCHES):
    for shape, options in table:
        C = shape[1]
        x = 2 * rng.standard_normal(shape) + rng.standard_normal(C).reshape(-1, 1, 1)
        running = dict(mean=rng.standard_normal(C), var=rng.uniform(0.5, 2, C))
        yield x, rng.standard_normal(C), rng.standard_normal(C), running, options


def check_batch_norm(name, forward, definition, rng):
    for x, w, b, running, options in batches(rng):
        options = {key: value for key, value in options.items() if key == "eps"}
        what = called(name, x.shape, options)
        expected = definition(x, w, b, running, **options)
        y, _ = both(leaves_alone(partial(forward, running=running, **options), what, x=x, w=w, b=b), "y, cache", what)
        close(y, expected, what)


@part("batch_norm", 2, "forward normalises every channel by the batch, also where the mean is large")
def _(hw, ref, rng):
    check_batch_norm("batch_norm_forward", hw.batch_norm_forward, batch_norm, rng)
    x, w, b = rng.standard_normal((3, 2, 4, 5)), rng.standard_normal(2), rng.standard_normal(2)
    x[:, 1] *= 0.01
    running = dict(mean=np.zeros(2), var=np.ones(2))
    y, _ = both(hw.batch_norm_forward(x + 1e6, w, b, running), "y, cache", "batch_norm_forward")
    # 1e6 + x holds x to 1e-10, one part in 1e8 of what is 0.01
    close(y, batch_norm(x, w, b), "batch_norm_forward(x + 1e6), which is that of x (the mean of x**2 minus mean**2 has "
          "lost its digits here)", rtol=1e-5)


@part("batch_norm", 2, "the running statistics move towards the batch's; its variance is divided by M - 1")
def _(hw, ref, rng):
    for x, w, b, running, options in batches(rng):
        M, momentum = x[:, 0].size, options.get("momentum", 0.1)
        expected = {key: a.copy() for key, a in running.items()}
        for batch, count in ((x, "one batch"), (3 * x + 1, "two batches")):
            mean, var = statistics(batch)
            hw.batch_norm_forward(batch.copy(), w, b, running, **options)
            call = called("batch_norm_forward", x.shape, options)
            for key, of_batch in (("mean", mean), ("var", var * M / (M - 1))):
                expected[key] = (1 - momentum) * expected[key] + momentum * of_batch
                close(running[key], expected[key], f"running[{key!r}] after {count} of {call}, momentum {momentum}")


@part("batch_norm", 1, "backward: dw and db")
def _(hw, ref, rng):
    check_parameters(hw.batch_norm_forward, hw.batch_norm_backward, "batch_norm_backward", rng,
                     lambda x, running, eps: normalised_by_batch(x, eps))


def check_parameters(forward, backward, name, rng, x_hat):
    for x, w, b, running, options in batches(rng):
        eps, dy = options.get("eps", 1e-5), rng.standard_normal(x.shape)
        direct = dy * x_hat(x, running, eps)
        _, cache = both(forward(x, w, b, running, eps=eps), "y, cache", name.replace("backward", "forward"))
        what = called(name, x.shape, dict(eps=eps))
        _, dw, db = both(leaves_alone(lambda dy, cache=cache: backward(dy, cache), what, dy=dy), "dx, dw, db", what)
        for gradient, got, terms in (("dw", dw, direct), ("db", db, dy)):
            close(got, np.array([terms[:, c].sum() for c in range(len(w))]), f"{what}: {gradient}")


def check_batch_norm_gradient(forward, backward, definition, rng):
    for x, w, b, running, options in batches(rng):
        options = dict(eps=options.get("eps", 1e-3))
        check_backward(forward, backward, [x, w, b, running], options=options, names=["x", "w", "b", "running"],
                       reference=definition)


@part("batch_norm", 2, "backward is the slope of forward, through mean and variance too")
def _(hw, ref, rng):
    check_batch_norm_gradient(hw.batch_norm_forward, hw.batch_norm_backward, batch_norm, rng)


# --- batch_norm_eval -------------------------------------------------------------------------------------------------


@part("batch_norm_eval", 1, "forward uses the running statistics, and only reads them")
def _(hw, ref, rng):
    check_batch_norm("batch_norm_eval_forward", hw.batch_norm_eval_forward, batch_norm_eval, rng)
    for x, w, b, running, _ in batches(rng):
        before = {key: a.copy() for key, a in running.items()}
        y, _ = both(hw.batch_norm_eval_forward(x[:1].copy(), w, b, running), "y, cache", "batch_norm_eval_forward")
        close(y, batch_norm_eval(x[:1], w, b, before), f"batch_norm_eval_forward of one image, x {x[:1].shape}")
        for key in before:
            close(running[key], before[key], f"running[{key!r}] after batch_norm_eval_forward, which only reads it,")


@part("batch_norm_eval", 1, "backward: dw and db")
def _(hw, ref, rng):
    check_parameters(hw.batch_norm_eval_forward, hw.batch_norm_eval_backward, "batch_norm_eval_backward", rng,
                     lambda x, running, eps: normalised(x, running["mean"], running["var"], eps))


@part("batch_norm_eval", 1, "backward is the slope of forward")
def _(hw, ref, rng):
    check_batch_norm_gradient(hw.batch_norm_eval_forward, hw.batch_norm_eval_backward, batch_norm_eval, rng)


# --- dropout ---------------------------------------------------------------------------------------------------------


def kept_of(hw, x, p, seed):
    """Which elements were kept. AssertionError unless they were divided by 1 - p."""
    what = f"dropout_forward(x {x.shape}, p={p}, seed={seed})"
    y, _ = both(leaves_alone(partial(hw.dropout_forward, p=p, seed=seed), what, x=x), "y, cache", what)
    y = np.asarray(y)
    close(y.shape, x.shape, f"{what}: the shape of y")
    kept = y != 0
    close(y, np.where(kept, x / (1 - p), 0), f"{what}, where what is kept is divided by 1 - p = {1 - p:g}: y")
    return kept


@part("dropout", 1, "in training, drops with probability p, each element by itself, and scales the rest")
def _(hw, ref, rng):
    x = rng.uniform(1, 2, (8, 5, 20, 25))
    for p in (0.0, 0.2, 0.5, 0.9):
        kept = kept_of(hw, x, p, seed=3)
        share, sigma = 1 - kept.mean(), (p * (1 - p) / x.size) ** 0.5
        if abs(share - p) > 6 * sigma:
            raise AssertionError(f"dropout_forward(x {x.shape}, p={p}): dropped {share:.3f} of all elements, expected {p} "
                                 f"within {6 * sigma:.3f}")
        for axis in range(4 if p else 0):
            if np.array_equal(kept.take(0, axis), kept.take(1, axis)):
                raise AssertionError(f"dropout_forward(x {x.shape}, p={p}): along axis {axis}, index 0 and index 1 lost the "
                                     "very same elements: every element must be drawn by itself")
    first, again, other = (kept_of(hw, x, 0.5, seed) for seed in (3, 3, 4))
    if not np.array_equal(first, again) or np.array_equal(first, other):
        raise AssertionError("dropout_forward must drop the same elements for the same seed, and others for another seed: draw "
                             "from np.random.default_rng(seed)")


@part("dropout", 1, "without training, changes nothing, forward or backward")
def _(hw, ref, rng):
    x, dy = rng.standard_normal((3, 4, 5)), rng.standard_normal((3, 4, 5))
    y, cache = both(hw.dropout_forward(x, 0.4, 7, training=False), "y, cache", "dropout_forward")
    close(y, x, f"dropout_forward(x {x.shape}, p=0.4, seed=7, training=False)")
    close(hw.dropout_backward(dy, cache), dy, f"dropout_backward(dy {dy.shape}) after training=False")
    y, _ = both(hw.dropout_forward(x, 0.4, 7), "y, cache", "dropout_forward")
    if np.array_equal(y, x):
        raise AssertionError(f"dropout_forward(x {x.shape}, p=0.4, seed=7), in training: nothing was dropped")


@part("dropout", 1, "backward reaches those that were kept")
def _(hw, ref, rng):
    for shape, p, seed in [((3, 4, 5), 0.4, 5), ((2, 3, 2, 4), 0.75, 6), ((30,), 0.1, 7)]:
        options = dict(p=p, seed=seed)
        kept_of(hw, rng.uniform(1, 2, shape), **options)
        check_backward(hw.dropout_forward, hw.dropout_backward, [rng.standard_normal(shape)], options=options, names=["x"])
