"""Backward passes of many operations as students hand them in, kept apart from the corpus that the doctor was built with."""
import numpy as np
from corpus.case import Operation

from minidl import Function


def grid(rng, shape, step=1 / 7):
    """Distinct values in random order, at least `step` apart, around zero."""
    n = int(np.prod(shape))
    return (rng.permutation(n) - n // 2 + 0.4).reshape(shape) * step


def away_from_zero(rng, *shape):
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(0.2, 2, shape)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# Convolution of signals: x (N, C, L), w (F, C, K), b (F)

def conv1d_samples(rng):
    for (N, C, L), (F, K), stride, pad in [((3, 2, 9), (4, 5), 2, 2), ((2, 3, 8), (4, 3), 1, 1), ((1, 4, 10), (2, 4), 3, 0)]:
        yield (rng.normal(size=(N, C, L)), rng.normal(size=(F, C, K)), rng.normal(size=F)), {"stride": stride, "pad": pad}


def conv1d_reference(x, w, b, stride, pad):
    (N, _, L), (F, _, K) = x.shape, w.shape
    n = (L + 2 * pad - K) // stride + 1
    y = np.zeros((N, F, n))
    for s, f, i in np.ndindex(y.shape):
        y[s, f, i] = b[f]
        for k in range(K):
            at = i * stride + k - pad
            if 0 <= at < L:
                y[s, f, i] += x[s, :, at] @ w[f, :, k]
    return y


def conv1d_forward(x, w, b, stride, pad):
    K = w.shape[2]
    xp = np.pad(x, ((0, 0), (0, 0), (pad, pad)))
    n = (xp.shape[2] - K) // stride + 1
    y = np.stack([np.tensordot(xp[:, :, i * stride:i * stride + K], w, ([1, 2], [1, 2])) for i in range(n)], axis=2)
    return y + b[:, None], (xp, w, stride, pad, x.shape[2])


conv1d = Operation("unseen-conv1d", conv1d_samples, conv1d_reference, conv1d_forward)


@conv1d.mistake("overwrites-overlap")
def every_window_replaces_the_one_before(dout, cache):
    xp, w, stride, pad, L = cache
    K = w.shape[2]
    dxp, dw = np.zeros_like(xp), np.zeros_like(w)
    for i in range(dout.shape[2]):
        here = slice(i * stride, i * stride + K)
        dw += np.einsum("nf,nck->fck", dout[:, :, i], xp[:, :, here])
        dxp[:, :, here] = np.einsum("nf,fck->nck", dout[:, :, i], w)
    return dxp[:, :, pad:pad + L], dw, dout.sum(axis=(0, 2))


@conv1d.correct()
def scatters_windows_with_add_at(dout, cache):
    xp, w, stride, pad, L = cache
    at = np.arange(dout.shape[2])[:, None] * stride + np.arange(w.shape[2])
    dxp = np.zeros_like(xp)
    np.add.at(dxp, (slice(None), slice(None), at), np.einsum("nfi,fck->ncik", dout, w))
    return dxp[..., pad:pad + L], np.einsum("nfi,ncik->fck", dout, xp[:, :, at]), dout.sum(axis=2).sum(axis=0)


# Squared distances of all pairs: x (N, D), y (M, D)

def pairwise_samples(rng):
    for N, M, D in [(4, 5, 3), (3, 3, 2), (1, 4, 6)]:
        yield (rng.normal(size=(N, D)), rng.normal(size=(M, D))), {}


def pairwise_reference(x, y):
    return np.array([[np.sum((a - b) ** 2) for b in y] for a in x])


def pairwise_forward(x, y):
    return np.sum(x ** 2, axis=1)[:, None] - 2 * x @ y.T + np.sum(y ** 2, axis=1), (x, y)


pairwise = Operation("unseen-pairwise-distances", pairwise_samples, pairwise_reference, pairwise_forward)


@pairwise.mistake("sign")
def both_sides_get_the_difference_with_the_same_sign(dout, cache):
    x, y = cache
    d = 2 * dout[:, :, None] * (x[:, None, :] - y[None, :, :])
    return d.sum(axis=1), d.sum(axis=0)


@pairwise.correct()
def by_row_and_column_sums(dout, cache):
    x, y = cache
    dx = 2 * (dout.sum(axis=1, keepdims=True) * x - dout @ y)
    dy = 2 * (dout.sum(axis=0)[:, None] * y - dout.T @ x)
    return dx, dy


# Running sum along an axis

def cumsum_samples(rng):
    for shape, axis in [((3, 5, 4), 1), ((6, 2), 0), ((1, 7), -1)]:
        yield (rng.normal(size=shape),), {"axis": axis}


def cumsum_reference(x, axis):
    y = np.moveaxis(x.copy(), axis, 0)
    for i in range(1, len(y)):
        y[i] = y[i] + y[i - 1]
    return np.moveaxis(y, 0, axis)


def cumsum_forward(x, axis):
    return np.cumsum(x, axis=axis), axis


cumsum = Operation("unseen-cumsum", cumsum_samples, cumsum_reference, cumsum_forward)


@cumsum.mistake("flipped")
def reverses_but_does_not_reverse_back(dout, axis):
    return np.cumsum(np.flip(dout, axis), axis)


@cumsum.correct()
class RunningSum(Function):
    """By a triangle of ones."""

    def __init__(self, axis):
        self.axis = axis

    def forward(self, x):
        return np.cumsum(x, axis=self.axis)

    def backward(self, dy):
        n = dy.shape[self.axis]
        return np.moveaxis(np.tensordot(np.triu(np.ones((n, n))), dy, (1, self.axis)), 0, self.axis)


# Self-attention of one head: q, k (B, T, D), v (B, T, E)

def attention_samples(rng):
    for B, T, D, E, causal in [(2, 5, 4, 3, False), (3, 4, 2, 5, True), (1, 3, 6, 2, False)]:
        yield (rng.normal(size=(B, T, D)), rng.normal(size=(B, T, D)), rng.normal(size=(B, T, E))), {"causal": causal}


def attention_reference(q, k, v, causal):
    B, T, D = q.shape
    y = np.zeros(v.shape)
    for b, t in np.ndindex(B, T):
        seen = t + 1 if causal else T
        e = np.exp([q[b, t] @ k[b, s] / D ** 0.5 for s in range(seen)])
        y[b, t] = (e / e.sum()) @ v[b, :seen]
    return y


def attention_forward(q, k, v, causal):
    T, D = q.shape[1:]
    s = q @ k.transpose(0, 2, 1) / np.sqrt(D)
    if causal:
        s = np.where(np.tri(T, dtype=bool), s, -1e9)
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    p = e / e.sum(axis=-1, keepdims=True)
    return p @ v, (q, k, v, p)


attention = Operation("unseen-self-attention", attention_samples, attention_reference, attention_forward)


@attention.mistake("scale")
def forgets_the_root_of_the_width(dout, cache):
    q, k, v, p = cache
    dp = dout @ v.transpose(0, 2, 1)
    ds = p * (dp - np.sum(p * dp, axis=-1, keepdims=True))
    return ds @ k, ds.transpose(0, 2, 1) @ q, p.transpose(0, 2, 1) @ dout


@attention.mistake("transposed")
def keys_use_the_scores_as_the_queries_do(dout, cache):
    q, k, v, p = cache
    dp = dout @ v.transpose(0, 2, 1)
    ds = p * (dp - np.sum(p * dp, axis=-1, keepdims=True)) / np.sqrt(q.shape[-1])
    return ds @ k, ds @ q, p.transpose(0, 2, 1) @ dout


@attention.mistake("missing-statistics-path")
def takes_the_sum_in_the_softmax_for_a_constant(dout, cache):
    q, k, v, p = cache
    ds = p * (dout @ v.swapaxes(1, 2)) / np.sqrt(q.shape[-1])
    return ds @ k, ds.swapaxes(1, 2) @ q, p.swapaxes(1, 2) @ dout


@attention.correct()
def by_the_jacobian_of_softmax(dout, cache):
    q, k, v, p = cache
    jacobian = np.einsum("bts,su->btsu", p, np.eye(p.shape[-1])) - np.einsum("bts,btu->btsu", p, p)
    ds = np.einsum("bte,bse,btsu->btu", dout, v, jacobian) * q.shape[-1] ** -0.5
    return (np.einsum("bts,bsd->btd", ds, k), np.einsum("bts,btd->bsd", ds, q), np.einsum("bts,bte->bse", p, dout))


# Rows of a table: table (V, D), tokens (B, T)

def embedding_samples(rng):
    yield (rng.normal(size=(6, 4)), np.array([[1, 4, 1], [0, 1, 5]])), {}
    for V, D, B, T in [(5, 3, 4, 2), (3, 2, 1, 6)]:
        yield (rng.normal(size=(V, D)), rng.integers(0, V, (B, T))), {}


def embedding_reference(table, tokens):
    return np.array([[table[t] for t in row] for row in tokens])


def embedding_forward(table, tokens):
    return table[tokens], (table.shape, tokens)


embedding = Operation("unseen-embedding", embedding_samples, embedding_reference, embedding_forward)


@embedding.mistake("overwrites-overlap")
def adds_by_fancy_index(dout, cache):
    """`+=` with an index array adds only once for an index that comes twice."""
    shape, tokens = cache
    dtable = np.zeros(shape)
    dtable[tokens] += dout
    return dtable


@embedding.correct()
def by_one_hot_matrix(dout, cache):
    (V, D), tokens = cache
    hot = np.eye(V)[tokens.ravel()]
    return hot.T @ dout.reshape(-1, D), None


# Gated linear unit: a * sigmoid(b)

def gate_samples(rng):
    for shape in [(3, 4), (2, 5, 3), (1, 6)]:
        yield (rng.normal(size=shape), rng.normal(size=shape)), {}


def gate_reference(a, b):
    return a * (1 + np.tanh(b / 2)) / 2


def gate_forward(a, b):
    s = sigmoid(b)
    return a * s, (a, s)


gate = Operation("unseen-gated-unit", gate_samples, gate_reference, gate_forward)


@gate.mistake("ignores-upstream")
def gate_gets_the_local_derivative_only(dout, cache):
    a, s = cache
    return dout * s, a * s * (1 - s)


# Layer norm over the last axis: x (N, T, D)

def layer_norm_samples(rng):
    for N, T, D in [(3, 4, 5), (2, 2, 6), (1, 3, 7)]:
        yield (rng.normal(size=(N, T, D)), rng.uniform(0.5, 2, D), rng.normal(size=D)), {"eps": 1e-3}


def layer_norm_reference(x, gamma, beta, eps):
    y = np.zeros(x.shape)
    for i in np.ndindex(x.shape[:2]):
        row = x[i]
        m = sum(row) / len(row)
        y[i] = gamma * (row - m) / (sum((row - m) ** 2) / len(row) + eps) ** 0.5 + beta
    return y


def layer_norm_forward(x, gamma, beta, eps):
    m = x.mean(axis=-1, keepdims=True)
    inv = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    hat = (x - m) * inv
    return gamma * hat + beta, {"hat": hat, "inv": inv, "gamma": gamma}


layer_norm = Operation("unseen-layer-norm", layer_norm_samples, layer_norm_reference, layer_norm_forward)


@layer_norm.mistake("broadcast-not-summed")
def sums_the_parameters_over_the_first_axis_only(dout, cache):
    hat, inv, g = cache["hat"], cache["inv"], dout * cache["gamma"]
    dx = inv * (g - g.mean(axis=-1, keepdims=True) - hat * (g * hat).mean(axis=-1, keepdims=True))
    return dx, (dout * hat).sum(axis=0), dout.sum(axis=0)


@layer_norm.correct()
def by_a_matrix_for_each_row(dout, cache):
    hat, inv, gamma = cache["hat"], cache["inv"], cache["gamma"]
    D = gamma.size
    dx = np.empty_like(dout)
    for i in np.ndindex(dout.shape[:2]):
        matrix = inv[i] * (np.eye(D) - 1 / D - np.outer(hat[i], hat[i]) / D)
        dx[i] = matrix @ (gamma * dout[i])
    return dx, np.einsum("ntd,ntd->d", dout, hat), np.einsum("ntd->d", dout)


# Hinge loss of many classes, the mean over the batch: scores (N, C), labels (N)

def hinge_samples(rng):
    for N, C in [(4, 5), (3, 3), (1, 6)]:
        yield (grid(rng, (N, C), 0.37), rng.integers(0, C, N)), {}


def hinge_reference(scores, labels):
    return sum(max(0.0, s - row[y] + 1) for row, y in zip(scores, labels) for j, s in enumerate(row) if j != y) / len(scores)


def hinge_forward(scores, labels):
    rows = np.arange(len(scores))
    margins = np.maximum(0, scores - scores[rows, labels][:, None] + 1)
    margins[rows, labels] = 0
    return margins.sum() / len(scores), (margins, labels)


hinge = Operation("unseen-hinge-loss", hinge_samples, hinge_reference, hinge_forward)


@hinge.mistake("zero")
def right_class_gets_nothing(dout, cache):
    margins, _ = cache
    return dout * (margins > 0) / len(margins)


@hinge.correct()
def by_loops_over_samples_and_classes(dout, cache):
    margins, labels = cache
    N, C = margins.shape
    d = np.zeros((N, C))
    for i in range(N):
        for j in range(C):
            if margins[i, j] > 0:
                d[i, j] += dout / N
                d[i, labels[i]] -= dout / N
    return [d]


# Nearest-neighbour upsampling by a whole factor: x (N, C, H, W)

def upsample_samples(rng):
    for shape, factor in [((2, 3, 4, 5), 2), ((3, 2, 2, 3), 3), ((1, 4, 3, 2), 2)]:
        yield (rng.normal(size=shape),), {"factor": factor}


def upsample_reference(x, factor):
    N, C, H, W = x.shape
    y = np.zeros((N, C, H * factor, W * factor))
    for i, j in np.ndindex(y.shape[2:]):
        y[:, :, i, j] = x[:, :, i // factor, j // factor]
    return y


def upsample_forward(x, factor):
    return x.repeat(factor, axis=2).repeat(factor, axis=3), factor


def upsample_by_tile(x, factor):
    """np.tile repeats the picture, not the pixel."""
    return np.tile(x, (1, 1, factor, factor)), factor


upsample = Operation("unseen-upsample-nearest", upsample_samples, upsample_reference, upsample_forward)


@upsample.mistake("forward-differs", forward=upsample_by_tile)
def repeats_the_picture(dout, factor):
    N, C, H, W = dout.shape
    return dout.reshape(N, C, factor, H // factor, factor, W // factor).sum(axis=(2, 4))


@upsample.correct()
def sums_strided_views(dout, factor):
    return sum(dout[:, :, i::factor, j::factor] for i in range(factor) for j in range(factor))


# Bilinear form of every pair of rows: x (N, D), w (D, E), y (N, E)

def bilinear_samples(rng):
    for N, D, E in [(3, 4, 5), (4, 3, 3), (1, 2, 6)]:
        yield (rng.normal(size=(N, D)), rng.normal(size=(D, E)), rng.normal(size=(N, E))), {}


def bilinear_reference(x, w, y):
    return np.array([a @ w @ b for a, b in zip(x, y)])


def bilinear_forward(x, w, y):
    return np.sum((x @ w) * y, axis=1), (x, w, y)


bilinear = Operation("unseen-bilinear-form", bilinear_samples, bilinear_reference, bilinear_forward)


@bilinear.mistake("transposed")
def multiplies_the_vectors_in_the_wrong_order(dout, cache):
    x, w, y = cache
    d = dout[:, None]
    return d * (y @ w.T), (d * y).T @ x, d * (x @ w)


# Cosine similarity of rows: a, b (N, D)

def cosine_samples(rng):
    for N, D in [(4, 5), (3, 3), (1, 4)]:
        yield (away_from_zero(rng, N, D), away_from_zero(rng, N, D)), {}


def cosine_reference(a, b):
    return np.array([u @ v / (u @ u * (v @ v)) ** 0.5 for u, v in zip(a, b)])


def cosine_forward(a, b):
    na, nb = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    return np.sum(a * b, axis=1) / (na * nb), (a, b, na, nb)


cosine = Operation("unseen-cosine-similarity", cosine_samples, cosine_reference, cosine_forward)


@cosine.mistake("missing-statistics-path")
def takes_the_lengths_for_constants(dout, cache):
    a, b, na, nb = cache
    d = (dout / (na * nb))[:, None]
    return d * b, d * a


# Logarithm of a sum of exponentials

def logsumexp_samples(rng):
    for shape, axis in [((3, 5), 1), ((4, 2, 3), 0), ((1, 6), -1)]:
        yield (rng.normal(size=shape),), {"axis": axis}


def logsumexp_reference(x, axis):
    return np.log(np.sum(np.exp(x), axis=axis))


def logsumexp_forward(x, axis):
    top = x.max(axis=axis, keepdims=True)
    return np.log(np.exp(x - top).sum(axis=axis)) + np.squeeze(top, axis), (x, axis)


def logsumexp_without_a_cache(x, axis):
    return np.logaddexp.reduce(x, axis=axis)


logsumexp = Operation("unseen-log-sum-exp", logsumexp_samples, logsumexp_reference, logsumexp_forward)


@logsumexp.mistake("ignores-upstream")
def returns_the_softmax(dout, cache):
    x, axis = cache
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


@logsumexp.correct(forward=logsumexp_without_a_cache)
def computes_the_output_again(dout, x, axis):
    y = logsumexp_without_a_cache(x, axis)
    return np.exp(x - np.expand_dims(y, axis)) * np.expand_dims(dout, axis)


# Columns brought to mean 0 and variance 1: x (N, D)

def standardise_samples(rng):
    for N, D in [(5, 3), (4, 4), (6, 2)]:
        yield (rng.normal(size=(N, D)) + rng.normal(size=D),), {"eps": 1e-2}


def standardise_reference(x, eps):
    return np.stack([(c - c.mean()) / (((c - c.mean()) ** 2).mean() + eps) ** 0.5 for c in x.T], axis=1)


def standardise_forward(x, eps):
    std = np.sqrt(np.var(x, axis=0) + eps)
    return (x - np.mean(x, axis=0)) / std, std


standardise = Operation("unseen-standardise-columns", standardise_samples, standardise_reference, standardise_forward)


@standardise.mistake("missing-statistics-path")
def goes_through_the_mean_but_not_the_deviation(dout, std):
    return (dout - np.mean(dout, axis=0)) / std


# Values kept within limits

def clip_samples(rng):
    yield (grid(rng, (4, 5)),), {"low": -0.6, "high": 0.9}
    yield (grid(rng, (2, 3, 4)),), {"low": -0.3, "high": 0.25}
    yield (np.array([[-2.0, -1.0, 0.0, 0.5, 1.0, 3.0]]),), {"low": -1.0, "high": 0.5}


def clip_reference(x, low, high):
    return np.minimum(np.maximum(x, low), high)


def clip_forward(x, low, high):
    return np.clip(x, low, high), (x, low, high)


clip = Operation("unseen-clip", clip_samples, clip_reference, clip_forward)


@clip.mistake("mutates-input")
def puts_zeros_into_dout(dout, cache):
    x, low, high = cache
    dout[x < low] = 0
    dout[x > high] = 0
    return dout


@clip.mistake("unknown")
def clips_the_gradient_too(dout, cache):
    _, low, high = cache
    return np.clip(dout, low, high)


@clip.correct()
def lets_it_pass_at_the_limits(dout, cache):
    x, low, high = cache
    return dout * ((low <= x) & (x <= high)).astype(dout.dtype)


# The larger of two arrays

def maximum_samples(rng):
    both = grid(rng, (2, 3, 4, 2))
    yield (both[0], both[1]), {}
    yield (np.array([[1.0, 2.0, -1.0], [0.0, 3.0, 2.0]]), np.array([[1.0, 0.5, -1.0], [2.0, 3.0, 1.0]])), {}
    both = grid(rng, (2, 1, 5))
    yield (both[0], both[1]), {}


def maximum_reference(a, b):
    return np.array([max(p, q) for p, q in zip(a.ravel(), b.ravel())]).reshape(a.shape)


def maximum_forward(a, b):
    return np.maximum(a, b), (a, b)


maximum = Operation("unseen-maximum", maximum_samples, maximum_reference, maximum_forward)


@maximum.mistake("ties")
def both_win_where_they_are_equal(dout, cache):
    a, b = cache
    return dout * (a >= b), dout * (b >= a)


@maximum.correct()
def equals_share_evenly(dout, cache):
    a, b = cache
    share = (np.sign(a - b) + 1) / 2
    return dout * share, dout * (1 - share)


# One matrix for all the sequences of a batch: x (B, T, D), w (D, K)

def sequence_samples(rng):
    for B, T, D, K in [(3, 4, 5, 2), (2, 3, 3, 3), (1, 5, 2, 4)]:
        yield (rng.normal(size=(B, T, D)), rng.normal(size=(D, K))), {}


def sequence_reference(x, w):
    return np.einsum("btd,dk->btk", x, w)


def sequence_forward(x, w):
    return x @ w, (x, w)


sequence = Operation("unseen-sequence-times-matrix", sequence_samples, sequence_reference, sequence_forward)


@sequence.mistake("broadcast-not-summed")
def one_weight_gradient_for_every_sequence(dout, cache):
    x, w = cache
    return dout @ w.T, np.transpose(x, (0, 2, 1)) @ dout


@sequence.mistake("one-sample-only")
def returns_inside_the_loop(dout, cache):
    x, w = cache
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for b in range(len(x)):
        dx[b] = dout[b] @ w.T
        dw += x[b].T @ dout[b]
        return dx, dw
    return dx, dw


# Mean over some axes

def mean_samples(rng):
    for shape, axes in [((3, 4, 5), (1,)), ((2, 3, 4, 5), (2, 3)), ((1, 6, 2), (0, 2))]:
        yield (rng.normal(size=shape),), {"axes": axes}


def mean_reference(x, axes):
    for axis in sorted(axes, reverse=True):
        x = x.sum(axis=axis) / x.shape[axis]
    return x


def mean_forward(x, axes):
    return x.mean(axis=axes), (x.shape, axes)


mean = Operation("unseen-mean-over-axes", mean_samples, mean_reference, mean_forward)


@mean.mistake("scale")
def divides_by_the_number_of_all_elements(dout, cache):
    shape, axes = cache
    return np.broadcast_to(np.expand_dims(dout, axes), shape) / np.prod(shape)


# The heads of an attention side by side: (B, H, T, D) to (B, T, H * D)

def merge_samples(rng):
    for shape in [(2, 3, 4, 5), (3, 2, 2, 4), (1, 2, 3, 6)]:
        yield (rng.normal(size=shape),), {}


def merge_reference(x):
    return np.concatenate([x[:, h] for h in range(x.shape[1])], axis=-1)


def merge_forward(x):
    B, H, T, D = x.shape
    return x.transpose(0, 2, 1, 3).reshape(B, T, H * D), x.shape


merge = Operation("unseen-merge-heads", merge_samples, merge_reference, merge_forward)


@merge.mistake("transposed")
def reshapes_in_one_go(dout, shape):
    return dout.reshape(shape)


# Depthwise convolution: x (N, C, H, W), w (C, KH, KW), stride 1

def depthwise_samples(rng):
    for x, k, pad in [((2, 3, 4, 5), (3, 2), (1, 2)), ((3, 2, 5, 3), (2, 3), (0, 0)), ((1, 4, 5, 6), (3, 3), (2, 1))]:
        yield (rng.normal(size=x), rng.normal(size=(x[1], *k))), {"pad": pad}


def depthwise_reference(x, w, pad):
    (N, C, H, W), (_, KH, KW) = x.shape, w.shape
    y = np.zeros((N, C, H + 2 * pad[0] - KH + 1, W + 2 * pad[1] - KW + 1))
    for i, j in np.ndindex(y.shape[2:]):
        for k, m in np.ndindex(KH, KW):
            r, c = i + k - pad[0], j + m - pad[1]
            if 0 <= r < H and 0 <= c < W:
                y[:, :, i, j] += x[:, :, r, c] * w[:, k, m]
    return y


def depthwise_forward(x, w, pad):
    xp = np.pad(x, ((0, 0), (0, 0), (pad[0], pad[0]), (pad[1], pad[1])))
    windows = np.lib.stride_tricks.sliding_window_view(xp, w.shape[1:], axis=(2, 3))
    return np.einsum("ncijkm,ckm->ncij", windows, w), (xp, w, pad, x.shape)


depthwise = Operation("unseen-depthwise-conv2d", depthwise_samples, depthwise_reference, depthwise_forward)


@depthwise.mistake("border")
def cuts_off_the_paddings_of_the_other_axis(dout, cache):
    xp, w, (ph, pw), (N, C, H, W) = cache
    OH, OW = dout.shape[2:]
    dxp, dw = np.zeros_like(xp), np.zeros_like(w)
    for k, m in np.ndindex(w.shape[1:]):
        dxp[:, :, k:k + OH, m:m + OW] += dout * w[:, k, m][:, None, None]
        dw[:, k, m] = np.sum(dout * xp[:, :, k:k + OH, m:m + OW], axis=(0, 2, 3))
    return dxp[:, :, pw:pw + H, ph:ph + W], dw


@depthwise.mistake("one-sample-only")
def kernel_keeps_the_last_sample(dout, cache):
    xp, w, (ph, pw), (N, C, H, W) = cache
    OH, OW = dout.shape[2:]
    dxp, dw = np.zeros_like(xp), np.zeros_like(w)
    for n, c in np.ndindex(N, C):
        for k, m in np.ndindex(w.shape[1:]):
            dxp[n, c, k:k + OH, m:m + OW] += dout[n, c] * w[c, k, m]
            dw[c, k, m] = np.sum(dout[n, c] * xp[n, c, k:k + OH, m:m + OW])
    return dxp[:, :, ph:ph + H, pw:pw + W], dw


@depthwise.correct()
def walks_over_every_output(dout, cache):
    xp, w, (ph, pw), (N, C, H, W) = cache
    KH, KW = w.shape[1:]
    dxp, dw = np.zeros(xp.shape), np.zeros(w.shape)
    for n, c, i, j in np.ndindex(dout.shape):
        dxp[n, c, i:i + KH, j:j + KW] += dout[n, c, i, j] * w[c]
        dw[c] += dout[n, c, i, j] * xp[n, c, i:i + KH, j:j + KW]
    return dxp[:, :, ph:ph + H, pw:pw + W], dw


# PReLU with one slope for every channel: x (N, C, L), slope (C)

def prelu_samples(rng):
    for N, C, L in [(3, 4, 5), (2, 3, 2), (1, 5, 4)]:
        yield (away_from_zero(rng, N, C, L), rng.uniform(0.1, 0.6, C)), {}


def prelu_reference(x, slope):
    return np.stack([np.where(x[:, c] > 0, x[:, c], slope[c] * x[:, c]) for c in range(len(slope))], axis=1)


def prelu_forward(x, slope):
    s = slope.reshape(1, -1, 1)
    return np.maximum(x, 0) + s * np.minimum(x, 0), (x, s)


prelu = Operation("unseen-prelu", prelu_samples, prelu_reference, prelu_forward)


@prelu.mistake("zero")
def takes_the_slope_for_an_option(dout, cache):
    x, s = cache
    return np.where(x > 0, dout, s * dout), None


# Dice loss: p (N, H, W) in 0..1, integer masks

def dice_samples(rng):
    for shape in [(2, 4, 5), (3, 3, 3), (1, 2, 6)]:
        yield (rng.uniform(0.1, 0.9, shape), rng.integers(0, 2, shape)), {"smooth": 1.0}


def dice_reference(p, mask, smooth):
    both = sum(a * t for a, t in zip(p.flat, mask.flat))
    return 1 - (2 * both + smooth) / (sum(p.flat) + sum(mask.flat) + smooth)


def dice_forward(p, mask, smooth):
    top, bottom = 2 * np.sum(p * mask) + smooth, np.sum(p) + np.sum(mask) + smooth
    return 1 - top / bottom, (mask, top, bottom)


dice = Operation("unseen-dice-loss", dice_samples, dice_reference, dice_forward)


@dice.mistake("sign")
def gradient_of_the_coefficient_instead_of_the_loss(dout, cache):
    mask, top, bottom = cache
    return dout * (2 * mask * bottom - top) / bottom ** 2


# Squared error of a linear layer with a penalty on its weights: x (N, D), w (D, K), b (K), whole-number targets (N, K)

def ridge_samples(rng):
    for N, D, K, reg in [(4, 3, 2, 0.3), (3, 5, 4, 0.7), (1, 2, 3, 0.5)]:
        yield (rng.normal(size=(N, D)), rng.normal(size=(D, K)), rng.normal(size=K), rng.integers(-2, 3, (N, K))), {"reg": reg}


def ridge_reference(x, w, b, target, reg):
    return sum(np.sum((x[i] @ w + b - target[i]) ** 2) for i in range(len(x))) / len(x) + reg * np.linalg.norm(w) ** 2


def ridge_forward(x, w, b, target, reg):
    error = x @ w + b - target
    return np.sum(error ** 2) / len(x) + reg * np.sum(w ** 2), (x, w, b, error, reg)


ridge = Operation("unseen-ridge-regression-loss", ridge_samples, ridge_reference, ridge_forward)


@ridge.mistake("ignores-upstream")
def adds_the_penalty_without_dout(dout, cache):
    x, w, b, error, reg = cache
    d = 2 * dout * error / len(x)
    return d @ w.T, x.T @ d + 2 * reg * w, d.sum(axis=0)


@ridge.mistake("unknown")
def penalises_the_bias_as_well(dout, cache):
    x, w, b, error, reg = cache
    d = 2 * dout * error / len(x)
    return d @ w.T, x.T @ d + 2 * dout * reg * w, d.sum(axis=0) + 2 * dout * reg * b


# Recurrent layer: x (T, N, D), h0 (N, H), wx (D, H), wh (H, H), b (H); every state is an output

def rnn_samples(rng):
    for T, N, D, H in [(4, 2, 5, 3), (3, 3, 2, 2), (5, 1, 3, 4)]:
        yield (rng.normal(size=(T, N, D)), rng.normal(size=(N, H)), 0.5 * rng.normal(size=(D, H)),
               0.5 * rng.normal(size=(H, H)), rng.normal(size=H)), {}


def rnn_reference(x, h0, wx, wh, b):
    states = [h0]
    for row in x:
        states.append(np.tanh(row @ wx + states[-1] @ wh + b))
    return np.array(states[1:])


class Steps:
    """What the steps leave for the way back."""

    def __init__(self, x, wx, wh):
        self.x, self.wx, self.wh, self.before, self.after = x, wx, wh, [], []


def rnn_forward(x, h0, wx, wh, b):
    steps, h = Steps(x, wx, wh), h0
    for t in range(len(x)):
        steps.before.append(h)
        h = np.tanh(np.hstack([x[t], h]) @ np.vstack([wx, wh]) + b)
        steps.after.append(h)
    return np.stack(steps.after), steps


rnn = Operation("unseen-rnn", rnn_samples, rnn_reference, rnn_forward)


@rnn.mistake("overwrites-overlap")
def shared_weights_keep_one_step(dout, steps):
    dx, dh = np.zeros_like(steps.x), np.zeros_like(steps.before[0])
    for t in reversed(range(len(dout))):
        da = (dout[t] + dh) * (1 - steps.after[t] ** 2)
        dx[t], dh = da @ steps.wx.T, da @ steps.wh.T
        dwx, dwh, db = steps.x[t].T @ da, steps.before[t].T @ da, da.sum(axis=0)
    return dx, dh, dwx, dwh, db


@rnn.mistake("unknown")
def forgets_the_derivative_of_tanh(dout, steps):
    dx, dh = np.zeros_like(steps.x), np.zeros_like(steps.before[0])
    dwx, dwh, db = np.zeros_like(steps.wx), np.zeros_like(steps.wh), np.zeros(len(steps.wh))
    for t in reversed(range(len(dout))):
        da = dout[t] + dh
        dx[t], dh = da @ steps.wx.T, da @ steps.wh.T
        dwx, dwh, db = dwx + steps.x[t].T @ da, dwh + steps.before[t].T @ da, db + da.sum(axis=0)
    return dx, dh, dwx, dwh, db


@rnn.correct()
def walks_back_and_returns_a_list(dout, steps):
    carried, das = 0, []
    for d, h in zip(dout[::-1], steps.after[::-1]):
        das.insert(0, (1 - h * h) * (d + carried))
        carried = das[0] @ steps.wh.T
    da = np.array(das)
    return [np.asfortranarray(da @ steps.wx.T), carried, np.einsum("tnd,tnh->dh", steps.x, da),
            np.einsum("tng,tnh->gh", np.array(steps.before), da), da.sum(axis=(0, 1))]


# Batch norm of pictures: x (N, C, H, W), gamma, beta (C)

def batch_norm_samples(rng):
    for shape in [(2, 3, 4, 5), (3, 2, 3, 3), (1, 4, 2, 5)]:
        yield (rng.normal(size=shape), rng.uniform(0.5, 2, shape[1]), rng.normal(size=shape[1])), {"eps": 1e-3}


def batch_norm_reference(x, gamma, beta, eps):
    y = np.zeros(x.shape)
    for c in range(x.shape[1]):
        flat = x[:, c].ravel()
        m = flat.sum() / flat.size
        v = (flat ** 2).sum() / flat.size - m ** 2
        y[:, c] = gamma[c] * (x[:, c] - m) / np.sqrt(v + eps) + beta[c]
    return y


def batch_norm_forward(x, gamma, beta, eps):
    g, b = gamma[None, :, None, None], beta[None, :, None, None]
    inv = 1 / np.sqrt(x.var(axis=(0, 2, 3), keepdims=True) + eps)
    hat = (x - x.mean(axis=(0, 2, 3), keepdims=True)) * inv
    return g * hat + b, (hat, g, inv)


batch_norm = Operation("unseen-batch-norm-2d", batch_norm_samples, batch_norm_reference, batch_norm_forward)


@batch_norm.mistake("missing-statistics-path")
def takes_mean_and_variance_for_constants(dout, cache):
    hat, g, inv = cache
    return dout * g * inv, np.sum(dout * hat, axis=(0, 2, 3)), np.sum(dout, axis=(0, 2, 3))


@batch_norm.mistake("wrong-shape")
def parameters_keep_the_axes_of_the_picture(dout, cache):
    hat, g, inv = cache
    axes = (0, 2, 3)
    dgamma, dbeta = np.sum(dout * hat, axis=axes, keepdims=True), np.sum(dout, axis=axes, keepdims=True)
    count = dout.size / g.size
    return g * inv * (dout - dbeta / count - hat * dgamma / count), dgamma, dbeta


# Max pooling: x (N, C, H, W)

def max_pool_samples(rng):
    yield (grid(rng, (2, 3, 4, 6)),), {"size": (3, 2), "stride": (1, 2)}
    equal = [[2.0, 2, 1, 0, 3], [1, 2, 0, 3, 3], [0, 1, 1, 1, 0], [5, 5, 4, 5, 5]]
    yield (np.array([[equal]]),), {"size": (2, 2), "stride": (2, 1)}
    yield (grid(rng, (1, 4, 5, 7)),), {"size": (2, 3), "stride": (2, 2)}


def max_pool_reference(x, size, stride):
    N, C, H, W = x.shape
    y = np.zeros((N, C, (H - size[0]) // stride[0] + 1, (W - size[1]) // stride[1] + 1))
    for n, c, i, j in np.ndindex(y.shape):
        y[n, c, i, j] = max(x[n, c, i * stride[0] + k, j * stride[1] + m] for k in range(size[0]) for m in range(size[1]))
    return y


def max_pool_forward(x, size, stride):
    view = np.lib.stride_tricks.sliding_window_view(x, size, axis=(2, 3))[:, :, ::stride[0], ::stride[1]]
    return view.max(axis=(4, 5)), (x, size, stride)


max_pool = Operation("unseen-max-pool2d", max_pool_samples, max_pool_reference, max_pool_forward)


@max_pool.mistake("ties")
def marks_all_that_equal_the_maximum(dout, cache):
    x, (KH, KW), (sh, sw) = cache
    dx = np.zeros_like(x)
    for i, j in np.ndindex(dout.shape[2:]):
        rows, cols = slice(i * sh, i * sh + KH), slice(j * sw, j * sw + KW)
        window = x[:, :, rows, cols]
        dx[:, :, rows, cols] += (window == window.max(axis=(2, 3), keepdims=True)) * dout[:, :, i, j, None, None]
    return dx


@max_pool.mistake("wrong-dtype")
def collects_in_single_precision(dout, cache):
    x, (KH, KW), (sh, sw) = cache
    dx = np.zeros(x.shape, dtype=np.float32)
    for n, c, i, j in np.ndindex(dout.shape):
        window = x[n, c, i * sh:i * sh + KH, j * sw:j * sw + KW]
        k, m = np.unravel_index(window.argmax(), window.shape)
        dx[n, c, i * sh + k, j * sw + m] += dout[n, c, i, j]
    return dx


@max_pool.correct()
def last_winner_takes_all(dout, cache):
    x, (KH, KW), (sh, sw) = cache
    dx = np.zeros_like(x)
    for n, c, i, j in np.ndindex(dout.shape):
        window = x[n, c, i * sh:i * sh + KH, j * sw:j * sw + KW]
        k, m = np.argwhere(window == window.max())[-1]
        dx[n, c, i * sh + k, j * sw + m] += dout[n, c, i, j]
    return dx


# Average pooling with zeros around the picture, which count: x (N, C, H, W) and a dictionary

def avg_pool_samples(rng):
    for shape, size, stride, pad in [((3, 2, 6, 4), (3, 2), (1, 2), (1, 1)), ((3, 2, 4, 5), (2, 3), (2, 1), (1, 2)),
                                     ((1, 2, 6, 5), (3, 3), (2, 3), (2, 1))]:
        yield (rng.normal(size=shape), {"size": size, "stride": stride, "pad": pad}), {}


def avg_pool_reference(x, pool):
    (KH, KW), (sh, sw), (ph, pw) = pool["size"], pool["stride"], pool["pad"]
    N, C, H, W = x.shape
    y = np.zeros((N, C, (H + 2 * ph - KH) // sh + 1, (W + 2 * pw - KW) // sw + 1))
    for i, j in np.ndindex(y.shape[2:]):
        for r in range(max(0, i * sh - ph), min(H, i * sh - ph + KH)):
            for c in range(max(0, j * sw - pw), min(W, j * sw - pw + KW)):
                y[:, :, i, j] += x[:, :, r, c] / (KH * KW)
    return y


def avg_pool_forward(x, pool):
    ph, pw = pool["pad"]
    xp = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    view = np.lib.stride_tricks.sliding_window_view(xp, pool["size"], axis=(2, 3))
    return view[:, :, ::pool["stride"][0], ::pool["stride"][1]].mean(axis=(4, 5)), (x.shape, pool)


avg_pool = Operation("unseen-avg-pool2d", avg_pool_samples, avg_pool_reference, avg_pool_forward)


@avg_pool.mistake("border")
def divides_by_the_pixels_inside_the_picture(dout, cache):
    shape, pool = cache
    (KH, KW), (sh, sw), (ph, pw) = pool["size"], pool["stride"], pool["pad"]
    dx = np.zeros(shape)
    for i, j in np.ndindex(dout.shape[2:]):
        top, left = max(i * sh - ph, 0), max(j * sw - pw, 0)
        bottom, right = min(i * sh - ph + KH, shape[2]), min(j * sw - pw + KW, shape[3])
        if bottom > top and right > left:
            dx[:, :, top:bottom, left:right] += dout[:, :, i, j, None, None] / ((bottom - top) * (right - left))
    return dx


# Convolution of pictures: x (N, C, H, W), w (F, C, KH, KW)

def conv2d_samples(rng):
    for x, w, stride, pad in [((2, 3, 5, 4), (4, 3, 3, 2), (2, 1), (1, 2)), ((3, 2, 4, 4), (2, 2, 3, 3), (1, 1), (0, 0)),
                              ((1, 2, 6, 7), (3, 2, 2, 4), (3, 2), (0, 1))]:
        yield (rng.normal(size=x), rng.normal(size=w)), {"stride": stride, "pad": pad}


def conv2d_reference(x, w, stride, pad):
    (N, _, H, W), (F, _, KH, KW) = x.shape, w.shape
    y = np.zeros((N, F, (H + 2 * pad[0] - KH) // stride[0] + 1, (W + 2 * pad[1] - KW) // stride[1] + 1))
    for i, j in np.ndindex(y.shape[2:]):
        for k, m in np.ndindex(KH, KW):
            r, c = i * stride[0] + k - pad[0], j * stride[1] + m - pad[1]
            if 0 <= r < H and 0 <= c < W:
                y[:, :, i, j] += x[:, :, r, c] @ w[:, :, k, m].T
    return y


def conv2d_windows(x, w, stride, pad):
    x = np.pad(x, ((0, 0), (0, 0), (pad[0], pad[0]), (pad[1], pad[1])))
    return np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(2, 3))[:, :, ::stride[0], ::stride[1]]


def conv2d_forward(x, w, stride, pad):
    return np.einsum("ncijkm,fckm->nfij", conv2d_windows(x, w, stride, pad), w), (x, w, stride, pad)


conv2d = Operation("unseen-conv2d", conv2d_samples, conv2d_reference, conv2d_forward)


@conv2d.mistake("flipped")
def correlates_with_the_kernel_as_it_is(dout, cache):
    x, w, stride, pad = cache
    (N, _, H, W), (F, _, KH, KW) = x.shape, w.shape
    spread = np.zeros((N, F, H + 2 * pad[0] - KH + 1, W + 2 * pad[1] - KW + 1))
    spread[:, :, ::stride[0], ::stride[1]] = dout
    kernel = w.transpose(1, 0, 2, 3)
    dxp = np.einsum("nfijkm,cfkm->ncij", conv2d_windows(spread, kernel, (1, 1), (KH - 1, KW - 1)), kernel)
    dw = np.einsum("nfij,ncijkm->fckm", dout, conv2d_windows(x, w, stride, pad))
    return dxp[:, :, pad[0]:pad[0] + H, pad[1]:pad[1] + W], dw


@conv2d.correct()
def shifts_the_picture_for_every_kernel_element(dout, cache):
    x, w, (sh, sw), (ph, pw) = cache
    N, C, H, W = x.shape
    OH, OW = dout.shape[2:]
    xp = np.zeros((N, C, H + 2 * ph, W + 2 * pw), dtype=x.dtype)
    dxp, dw = np.zeros_like(xp), np.zeros_like(w)
    xp[:, :, ph:ph + H, pw:pw + W] = x
    for k, m in np.ndindex(w.shape[2:]):
        here = (..., slice(k, k + sh * (OH - 1) + 1, sh), slice(m, m + sw * (OW - 1) + 1, sw))
        dw[:, :, k, m] = np.tensordot(dout, xp[here], ((0, 2, 3), (0, 2, 3)))
        dxp[here] += np.moveaxis(np.tensordot(dout, w[:, :, k, m], (1, 0)), -1, 1)
    return dxp[:, :, ph:ph + H, pw:pw + W], dw


# Dropout; the seed makes forward repeat its mask

def dropout_samples(rng):
    for shape, p in [((4, 6), 0.4), ((2, 3, 5), 0.5), ((1, 12), 0.25)]:
        yield (away_from_zero(rng, *shape),), {"p": p, "seed": int(rng.integers(1000))}


def dropout_reference(x, p, seed):
    return np.where(np.random.default_rng(seed).random(x.shape) < p, 0, x / (1 - p))


def dropout_forward(x, p, seed):
    mask = np.random.default_rng(seed).random(x.shape) >= p
    return x * mask / (1 - p), p


dropout = Operation("unseen-dropout", dropout_samples, dropout_reference, dropout_forward)


@dropout.mistake("not-deterministic")
def draws_another_mask(dout, p):
    mask = np.random.random(dout.shape) >= p  # noqa: NPY002
    return dout * mask / (1 - p)


# A draw from a normal distribution: mu + exp(logvar / 2) * noise

def draw_samples(rng):
    for shape in [(3, 4), (5, 2), (1, 6)]:
        yield (rng.normal(size=shape), rng.normal(size=shape)), {"seed": int(rng.integers(1000))}


def draw_reference(mu, logvar, seed):
    return np.sqrt(np.exp(logvar)) * np.random.default_rng(seed).normal(size=mu.shape) + mu


def draw_forward(mu, logvar, seed):
    noise = np.random.default_rng(seed).normal(size=mu.shape)
    std = np.exp(0.5 * logvar)
    return mu + std * noise, (std, noise)


draw = Operation("unseen-gaussian-draw", draw_samples, draw_reference, draw_forward)


@draw.mistake("scale")
def forgets_the_half_of_the_log_variance(dout, cache):
    std, noise = cache
    return dout, dout * noise * std


# Binary cross entropy of logits, the mean over all of them

def bce_samples(rng):
    for shape in [(4, 3), (2, 5), (1, 7)]:
        yield (rng.normal(size=shape), rng.integers(0, 2, shape)), {}


def bce_reference(z, labels):
    p = 1 / (1 + np.exp(-z))
    return -np.mean(np.where(labels == 1, np.log(p), np.log(1 - p)))


def bce_forward(z, labels):
    return float(np.mean(np.maximum(z, 0) - z * labels + np.log1p(np.exp(-np.abs(z))))), (z, labels)


bce = Operation("unseen-binary-cross-entropy", bce_samples, bce_reference, bce_forward)


@bce.mistake("unknown")
def multiplies_by_the_derivative_of_the_sigmoid_again(dout, cache):
    z, labels = cache
    p = sigmoid(z)
    return dout * (p - labels) * p * (1 - p) / z.size


# Power with a fixed exponent

def power_samples(rng):
    for shape, exponent in [((3, 4), 3), ((2, 3, 5), 2), ((1, 6), 2.5)]:
        yield (rng.uniform(0.5, 2, shape),), {"exponent": exponent}


def power_reference(x, exponent):
    return np.exp(exponent * np.log(x))


def power_forward(x, exponent):
    return x ** exponent, (x, exponent)


power = Operation("unseen-power", power_samples, power_reference, power_forward)


@power.mistake("unknown")
def keeps_the_exponent(dout, cache):
    x, exponent = cache
    return dout * exponent * x ** exponent
