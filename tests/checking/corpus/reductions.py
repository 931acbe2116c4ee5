"""What reduces an axis or runs along one: sum, mean, max, min, var, std, norm, logsumexp, centering and cumsum."""
import numpy as np
from corpus.case import Operation

from minidl import Function


def axis_tuple(axis, ndim):
    """The axes as a tuple of numbers from 0."""
    if axis is None:
        return tuple(range(ndim))
    return tuple(a % ndim for a in (axis if isinstance(axis, tuple) else (axis,)))


def count(shape, axis):
    """Over how many elements the reduction goes."""
    return int(np.prod([shape[a] for a in axis_tuple(axis, len(shape))]))


def widen(g, shape, axis):
    """`g` with axes of size 1 where `axis` was reduced, whether or not they were kept."""
    return np.reshape(g, [1 if a in axis_tuple(axis, len(shape)) else n for a, n in enumerate(shape)])


def slow(function):
    """Reduces by hand: hands each group of elements to `function` as a flat array."""
    def reference(x, axis, keepdims):
        axes = axis_tuple(axis, x.ndim)
        kept = [a for a in range(x.ndim) if a not in axes]
        flat = x.transpose(kept + list(axes)).reshape([x.shape[a] for a in kept] + [-1])
        out = np.zeros(flat.shape[:-1])
        for i in np.ndindex(out.shape):
            out[i] = function(flat[i])
        return out.reshape([1 if a in axes else n for a, n in enumerate(x.shape)]) if keepdims else out
    return reference


OPTIONS = [{"axis": 1, "keepdims": False}, {"axis": (0, 2), "keepdims": True}, {"axis": None, "keepdims": False},
           {"axis": -1, "keepdims": True}]


def samples(rng):
    for shape, options in zip([(3, 4, 5), (2, 5, 3), (4, 3), (2, 6)], OPTIONS):
        yield (rng.uniform(0.5, 2, shape),), options


def grid(rng, shape):
    """Distinct multiples of 1/7 in a random order."""
    n = int(np.prod(shape))
    return rng.permutation(n).reshape(shape) / 7 - n / 14


def grids(rng):
    for shape, options in zip([(3, 4, 5), (2, 5, 3), (4, 3)], OPTIONS):
        yield (grid(rng, shape),), options
    x = np.array([rng.permutation([3.0, 1.0, 3.0, -2.0, 3.0, -2.0]), rng.permutation([0.5, 2.0, 2.0, -1.0, -1.0, 0.0])])
    yield (x,), OPTIONS[3]


# sum

def sum_forward(x, axis, keepdims):
    return x.sum(axis=axis, keepdims=keepdims), (x.shape, axis)


def sum_only(x, axis, keepdims):
    return np.sum(x, axis=axis, keepdims=keepdims)


total = Operation("sum", samples, slow(sum), sum_forward)


@total.mistake("scale")
def divides_by_the_count(dout, cache):
    shape, axis = cache
    return np.ones(shape) * widen(dout, shape, axis) / count(shape, axis)


@total.mistake("wrong-shape")
def returns_dout_unexpanded(dout, cache):
    return dout


@total.mistake("ignores-upstream")
def ones_everywhere(dout, cache):
    shape, _ = cache
    return np.ones(shape)


@total.mistake("wrong-dtype")
def spreads_in_float32(dout, cache):
    shape, axis = cache
    dx = np.zeros(shape, dtype=np.float32)
    dx += np.asarray(widen(dout, shape, axis), dtype=np.float32)
    return dx


@total.correct()
def spreads_dout(dout, cache):
    shape, axis = cache
    return np.ones(shape) * widen(dout, shape, axis)


@total.correct()
def returns_a_read_only_view(dout, cache):
    shape, axis = cache
    return np.broadcast_to(widen(dout, shape, axis), shape)


@total.correct(forward=sum_only)
def expands_axis_by_axis(dout, x, axis, keepdims):
    dx = np.asarray(dout)
    if not keepdims:
        for a in sorted(axis_tuple(axis, x.ndim)):
            dx = np.expand_dims(dx, a)
    for a in axis_tuple(axis, x.ndim):
        dx = np.repeat(dx, x.shape[a], axis=a)
    return dx


@total.correct()
class Sum(Function):
    def __init__(self, axis, keepdims):
        self.axis, self.keepdims = axis, keepdims

    def forward(self, x):
        self.x = x
        return x.sum(axis=self.axis, keepdims=self.keepdims)

    def backward(self, dy):
        return np.full_like(self.x, 1.0) * widen(dy, self.x.shape, self.axis)


# mean

def mean_forward(x, axis, keepdims):
    return x.mean(axis=axis, keepdims=keepdims), (x, axis)


mean = Operation("mean", samples, slow(lambda group: sum(group) / len(group)), mean_forward)


@mean.mistake("scale")
def forgets_to_divide_by_the_count(dout, cache):
    x, axis = cache
    return np.ones(x.shape) * widen(dout, x.shape, axis)


@mean.mistake("scale")
def divides_by_the_size_of_the_output(dout, cache):
    x, axis = cache
    return np.ones(x.shape) * widen(dout, x.shape, axis) / np.size(dout)


@mean.mistake("scale")
def divides_by_all_elements(dout, cache):
    x, axis = cache
    return np.broadcast_to(widen(dout, x.shape, axis), x.shape) / x.size


@mean.mistake("ignores-upstream")
def one_over_the_count(dout, cache):
    x, axis = cache
    return np.full(x.shape, 1 / count(x.shape, axis))


@mean.mistake("unknown")
def multiplies_by_x(dout, cache):
    x, axis = cache
    return x * widen(dout, x.shape, axis) / count(x.shape, axis)


@mean.mistake("sign")
def takes_it_for_centering(dout, cache):
    x, axis = cache
    return np.zeros_like(x) - widen(dout, x.shape, axis) / count(x.shape, axis)


def mean_over_everything(x, axis, keepdims):
    out = np.full_like(np.sum(x, axis=axis, keepdims=keepdims), np.mean(x))
    return out, x


@mean.mistake("forward-differs", forward=mean_over_everything)
def forward_ignores_the_axis(dout, x):
    return np.full(x.shape, np.sum(dout) / x.size)


def mean_keeping_dims(x, axis, keepdims):
    return x.mean(axis=axis, keepdims=True), (x, axis)


@mean.mistake("forward-differs", forward=mean_keeping_dims)
def forward_always_keeps_the_axis(dout, cache):
    x, axis = cache
    return np.ones(x.shape) * dout / count(x.shape, axis)


@mean.correct()
def one_over_the_count_times_dout(dout, cache):
    x, axis = cache
    return np.ones_like(x) * (widen(dout, x.shape, axis) / count(x.shape, axis))


@mean.correct()
class Mean(Function):
    def __init__(self, axis=None, keepdims=False):
        self.axis, self.keepdims = axis, keepdims

    def forward(self, x):
        self.weight = np.full(x.shape, 1.0 / count(x.shape, self.axis))
        return np.sum(x * self.weight, axis=self.axis, keepdims=self.keepdims)

    def backward(self, dy):
        return widen(dy, self.weight.shape, self.axis) * self.weight


# max

def max_forward(x, axis, keepdims):
    out = np.max(x, axis=axis, keepdims=True)
    return out if keepdims else np.squeeze(out, axis=axis), {"x": x, "max": out, "axis": axis}


def max_only(x, axis, keepdims):
    return np.amax(x, axis=axis, keepdims=keepdims)


maximum = Operation("max", grids, slow(lambda group: sorted(group)[-1]), max_forward)


def winners(x, axis, last):
    """True at one maximum of each group: the first or the last of them."""
    axes = axis_tuple(axis, x.ndim)
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    moved = x.transpose(kept + axes)
    flat = moved.reshape([x.shape[a] for a in kept] + [-1])
    at = flat.shape[-1] - 1 - np.argmax(flat[..., ::-1], axis=-1) if last else np.argmax(flat, axis=-1)
    hit = np.arange(flat.shape[-1]) == np.expand_dims(at, -1)
    return hit.reshape(moved.shape).transpose(np.argsort(kept + axes))


@maximum.mistake("ties")
def every_maximum_gets_dout(dout, cache):
    x = cache["x"]
    return (x == cache["max"]) * widen(dout, x.shape, cache["axis"])


@maximum.mistake("ties")
def only_a_single_maximum_gets_dout(dout, cache):
    x, axis = cache["x"], cache["axis"]
    mask = x == cache["max"]
    return mask * (mask.sum(axis=axis, keepdims=True) == 1) * widen(dout, x.shape, axis)


@maximum.mistake("ties")
class MaxMask(Function):
    def __init__(self, axis, keepdims):
        self.axis, self.keepdims = axis, keepdims

    def forward(self, x):
        top = x.max(axis=self.axis, keepdims=True)
        self.mask = (x >= top).astype(x.dtype)
        return x.max(axis=self.axis, keepdims=self.keepdims)

    def backward(self, dy):
        return self.mask * widen(dy, self.mask.shape, self.axis)


@maximum.mistake("ignores-upstream")
def marks_the_winner(dout, cache):
    return winners(cache["x"], cache["axis"], last=False).astype(float)


@maximum.mistake("unknown")
def dout_goes_to_the_minimum(dout, cache):
    x, axis = cache["x"], cache["axis"]
    return winners(-x, axis, last=False) * widen(dout, x.shape, axis)


@maximum.mistake("unknown")
def shares_dout_among_all(dout, cache):
    x, axis = cache["x"], cache["axis"]
    return np.ones_like(x) * widen(dout, x.shape, axis) / count(x.shape, axis)


@maximum.mistake("unknown")
def hands_back_the_maximum(dout, cache):
    x, axis = cache["x"], cache["axis"]
    return winners(x, axis, last=False) * x * widen(dout, x.shape, axis)


@maximum.mistake("zero", forward=max_only)
def compares_the_wrong_way(dout, x, axis, keepdims):
    return (x > np.max(x, axis=axis, keepdims=True)) * widen(dout, x.shape, axis)


@maximum.mistake("mutates-input")
def marks_the_winner_by_overwriting_x(dout, cache):
    x, axis = cache["x"], cache["axis"]
    hit = winners(x, axis, last=False)
    x[...] = np.where(hit, np.max(x) + 1, x)
    return hit * widen(dout, x.shape, axis)


@maximum.correct()
def first_winner_takes_all(dout, cache):
    x, axis = cache["x"], cache["axis"]
    return winners(x, axis, last=False) * widen(dout, x.shape, axis)


@maximum.correct()
def last_winner_takes_all(dout, cache):
    x, axis = cache["x"], cache["axis"]
    return np.where(winners(x, axis, last=True), widen(dout, x.shape, axis), 0)


@maximum.correct()
def winners_share_evenly(dout, cache):
    x, axis = cache["x"], cache["axis"]
    mask = x == cache["max"]
    return mask * widen(dout, x.shape, axis) / mask.sum(axis=axis, keepdims=True)


@maximum.correct()
class Max(Function):
    def __init__(self, axis, keepdims):
        self.axis, self.keepdims = axis, keepdims

    def forward(self, x):
        mask = x == x.max(axis=self.axis, keepdims=True)
        self.share = mask / mask.sum(axis=self.axis, keepdims=True)
        return x.max(axis=self.axis, keepdims=self.keepdims)

    def backward(self, dy):
        return [self.share * widen(dy, self.share.shape, self.axis)]


# min over the last axis

def min_samples(rng):
    yield (grid(rng, (3, 4, 5)),), {}
    yield (grid(rng, (4, 6)),), {}
    yield (rng.integers(0, 2, (3, 6)) * 1.0,), {}
    yield (grid(rng, (1, 7)),), {}


def min_forward(x):
    at = x.argmin(axis=-1)
    return np.take_along_axis(x, at[..., None], axis=-1)[..., 0], (x, at)


minimum = Operation("min", min_samples, lambda x: -np.sort(-x, axis=-1)[..., -1], min_forward)


@minimum.mistake("sign")
def takes_it_for_minus_max(dout, cache):
    x, at = cache
    dx = np.zeros_like(x)
    np.put_along_axis(dx, at[..., None], -dout[..., None], axis=-1)
    return dx


@minimum.mistake("ties")
def equality_with_the_output(dout, cache):
    x, _ = cache
    return np.where(x == x.min(axis=-1, keepdims=True), dout[..., None], 0.0)


@minimum.mistake("ties")
def smaller_than_all_others(dout, cache):
    """Nobody is smaller than all others where two share the minimum."""
    x, _ = cache
    smaller = np.sum(x[..., :, None] < x[..., None, :], axis=-1) == x.shape[-1] - 1
    return smaller * dout[..., None]


@minimum.mistake("wrong-dtype")
def puts_dout_into_an_integer_array(dout, cache):
    x, at = cache
    dx = np.zeros(x.shape, dtype=int)
    np.put_along_axis(dx, at[..., None], dout[..., None], axis=-1)
    return dx


@minimum.mistake("one-sample-only")
def loop_ends_after_the_first(dout, cache):
    x, at = cache
    dx = np.zeros_like(x)
    for n in range(x.shape[0]):
        np.put_along_axis(dx[n], at[n][..., None], dout[n][..., None], axis=-1)
        break
    return dx


@minimum.correct()
def puts_along_the_axis(dout, cache):
    x, at = cache
    dx = np.zeros_like(x)
    np.put_along_axis(dx, at[..., None], dout[..., None], axis=-1)
    return dx


@minimum.correct()
def one_hot_rows(dout, cache):
    x, at = cache
    return np.eye(x.shape[-1])[at] * dout[..., None]


# var

def var_forward(x, axis, keepdims):
    mu = x.mean(axis=axis, keepdims=True)
    return np.square(x - mu).mean(axis=axis, keepdims=keepdims), (x, mu, axis)


variance = Operation("var", samples, slow(lambda g: sum(v * v for v in g) / len(g) - (sum(g) / len(g)) ** 2), var_forward)


@variance.mistake("scale")
def forgets_the_two(dout, cache):
    x, mu, axis = cache
    return (x - mu) * widen(dout, x.shape, axis) / count(x.shape, axis)


@variance.mistake("scale")
def divides_by_one_less(dout, cache):
    x, mu, axis = cache
    return 2 * (x - mu) * widen(dout, x.shape, axis) / (count(x.shape, axis) - 1)


@variance.mistake("scale")
def forgets_the_count(dout, cache):
    x, mu, axis = cache
    return 2 * (x - mu) * widen(dout, x.shape, axis)


@variance.mistake("missing-statistics-path")
def forgets_to_subtract_the_mean(dout, cache):
    x, mu, axis = cache
    return 2 * x * widen(dout, x.shape, axis) / count(x.shape, axis)


@variance.mistake("sign")
def mean_minus_x(dout, cache):
    x, mu, axis = cache
    return 2 * (mu - x) * widen(dout, x.shape, axis) / count(x.shape, axis)


@variance.mistake("unknown")
def squares_the_deviation(dout, cache):
    x, mu, axis = cache
    return 2 * (x - mu) ** 2 * widen(dout, x.shape, axis) / count(x.shape, axis)


def unbiased_forward(x, axis, keepdims):
    mu = x.mean(axis=axis, keepdims=True)
    return x.var(axis=axis, keepdims=keepdims, ddof=1), (x, mu, axis)


@variance.mistake("forward-differs", forward=unbiased_forward)
def unbiased_variance(dout, cache):
    x, mu, axis = cache
    return 2 * (x - mu) * widen(dout, x.shape, axis) / (count(x.shape, axis) - 1)


def var_centering_x_in_place(x, axis, keepdims):
    x -= x.mean(axis=axis, keepdims=True)
    return np.mean(x * x, axis=axis, keepdims=keepdims), (x, 0.0, axis)


@variance.mistake("mutates-input", forward=var_centering_x_in_place)
def forward_centers_x_in_place(dout, cache):
    x, _, axis = cache
    return 2 * x * widen(dout, x.shape, axis) / count(x.shape, axis)


@variance.correct()
def two_deviations_over_the_count(dout, cache):
    x, mu, axis = cache
    return 2 * (x - mu) * widen(dout, x.shape, axis) / count(x.shape, axis)


@variance.correct()
def step_by_step_with_the_path_through_the_mean(dout, cache):
    x, mu, axis = cache
    n = count(x.shape, axis)
    d_square = np.ones(x.shape) * widen(dout, x.shape, axis) / n
    d_centered = d_square * 2 * (x - mu)
    d_mu = -d_centered.sum(axis=axis, keepdims=True)
    return d_centered + d_mu / n


# std

def std_forward(x, axis, keepdims):
    centered = x - x.mean(axis=axis, keepdims=True)
    std = np.sqrt((centered ** 2).mean(axis=axis, keepdims=True))
    return std if keepdims else std.squeeze(axis), (centered, std, axis)


deviation = Operation("std", samples, slow(lambda g: np.sqrt(np.dot(g, g) / len(g) - np.mean(g) ** 2)), std_forward)


@deviation.mistake("scale")
def takes_two_for_the_half(dout, cache):
    centered, std, axis = cache
    return 2 * centered / std * widen(dout, centered.shape, axis) / count(centered.shape, axis)


@deviation.mistake("unknown")
def forgets_the_root(dout, cache):
    centered, std, axis = cache
    return 2 * centered * widen(dout, centered.shape, axis) / count(centered.shape, axis)


@deviation.mistake("unknown")
def divides_by_the_variance(dout, cache):
    centered, std, axis = cache
    return centered / std ** 2 * widen(dout, centered.shape, axis) / count(centered.shape, axis)


@deviation.correct()
def normalized_over_the_count(dout, cache):
    centered, std, axis = cache
    return centered / (std * count(centered.shape, axis)) * widen(dout, centered.shape, axis)


# normalize: rows of length one

def row_samples(rng):
    for shape in ((3, 4, 5), (4, 6), (2, 3), (1, 5)):
        yield (rng.uniform(0.3, 2, shape) * rng.choice([-1.0, 1.0], shape),), {}


def normalize_reference(x):
    return x / np.sqrt(np.einsum("...i,...i->...", x, x))[..., None]


def normalize_forward(x):
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return x / length, (x, length)


normalize = Operation("normalize", row_samples, normalize_reference, normalize_forward)


@normalize.mistake("missing-statistics-path")
def takes_the_length_as_constant(dout, cache):
    x, length = cache
    return dout / length


@normalize.mistake("missing-statistics-path")
def length_depends_on_its_own_element_only(dout, cache):
    x, length = cache
    return dout / length - dout * x ** 2 / length ** 3


@normalize.mistake("sign")
def adds_the_path_through_the_length(dout, cache):
    x, length = cache
    return dout / length + x * np.sum(dout * x, axis=-1, keepdims=True) / length ** 3


@normalize.correct()
def both_paths(dout, cache):
    x, length = cache
    return dout / length - x * np.sum(dout * x, axis=-1, keepdims=True) / length ** 3


@normalize.correct()
def by_the_projection(dout, cache):
    x, length = cache
    y = x / length
    P = np.eye(x.shape[-1]) - np.einsum("...i,...j->...ij", y, y)
    return np.einsum("...ij,...j->...i", P, dout) / length


# center: x minus the mean of its column

def center_samples(rng):
    for shape in ((3, 4, 5), (5, 2), (6,)):
        yield (rng.normal(size=shape),), {}


center = Operation("center", center_samples, lambda x: x - sum(x) / len(x), lambda x: (x - x.mean(axis=0), x.shape))


@center.mistake("missing-statistics-path")
def takes_the_mean_as_constant(dout, shape):
    return dout


@center.mistake("sign")
def adds_the_mean_of_dout(dout, shape):
    return dout + dout.mean(axis=0)


@center.mistake("scale")
def forgets_the_count_in_the_mean(dout, shape):
    return dout - dout.sum(axis=0)


@center.mistake("mutates-input")
def centers_dout_in_place(dout, shape):
    dout -= dout.mean(axis=0)
    return dout


@center.correct()
def centers_dout(dout, shape):
    return dout - dout.mean(axis=0, keepdims=True)


# logsumexp over the last axis

def logsumexp_samples(rng):
    for shape in ((3, 4, 5), (4, 6), (1, 3)):
        yield (rng.normal(size=shape),), {}


def logsumexp_forward(x):
    top = x.max(axis=-1, keepdims=True)
    out = np.log(np.exp(x - top).sum(axis=-1, keepdims=True)) + top
    return out[..., 0], (x, out)


logsumexp = Operation("logsumexp", logsumexp_samples, lambda x: np.log(sum(np.exp(np.moveaxis(x, -1, 0)))),
                      logsumexp_forward)


@logsumexp.mistake("unknown")
def forgets_to_normalize(dout, cache):
    x, _ = cache
    return np.exp(x) * dout[..., None]


@logsumexp.mistake("ignores-upstream")
def softmax_alone(dout, cache):
    x, out = cache
    return np.exp(x - out)


def logsumexp_in_place(x):
    top = x.max(axis=-1, keepdims=True)
    x -= top
    np.exp(x, out=x)
    total = x.sum(axis=-1, keepdims=True)
    return np.log(total)[..., 0] + top[..., 0], x / total


@logsumexp.mistake("mutates-input", forward=logsumexp_in_place)
def forward_exponentiates_x_in_place(dout, softmax):
    return softmax * dout[..., None]


@logsumexp.correct()
def softmax_times_dout(dout, cache):
    x, out = cache
    return np.exp(x - out) * dout[..., None]


# cumsum along the last axis

def cumsum_samples(rng):
    for shape in ((3, 4, 5), (4, 6), (7,), (1, 3)):
        yield (rng.normal(size=shape),), {}


def cumsum_reference(x):
    return np.einsum("...i,ij->...j", x, np.triu(np.ones((x.shape[-1], x.shape[-1]))))


cumsum = Operation("cumsum", cumsum_samples, cumsum_reference, lambda x: (np.cumsum(x, axis=-1), None))


@cumsum.mistake("flipped")
def forgets_to_turn_back(dout, cache):
    return np.cumsum(dout[..., ::-1], axis=-1)


@cumsum.mistake("overwrites-overlap")
def each_output_overwrites_the_last(dout, cache):
    dx = np.zeros_like(dout)
    for j in range(dout.shape[-1]):
        dx[..., :j + 1] = dout[..., j:j + 1]
    return dx


@cumsum.correct()
def sums_from_the_back(dout, cache):
    return np.cumsum(dout[..., ::-1], axis=-1)[..., ::-1]


@cumsum.correct()
def total_minus_what_came_before(dout, cache):
    return dout.sum(axis=-1, keepdims=True) - np.cumsum(dout, axis=-1) + dout
