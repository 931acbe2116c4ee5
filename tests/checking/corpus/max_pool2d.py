"""Max pooling, with overlapping windows, remainders and equal maxima, and its backward as students write it."""
import numpy as np
from corpus.case import Operation
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from minidl import Function


def samples(rng):
    def distinct(*shape):
        return rng.permutation(np.prod(shape)).reshape(shape) / 7 - 10
    yield (distinct(2, 3, 4, 6),), {"kernel": (2, 3), "stride": (1, 2)}
    yield (distinct(2, 3, 5, 5),), {"kernel": (2, 2), "stride": (2, 2)}
    equal = rng.integers(0, 3, (2, 3, 6, 4)) / 2
    equal[:, :, :2, :2] = 1.5  # a window whose elements are all the maximum, in every image
    yield (equal,), {"kernel": (2, 2), "stride": (2, 2)}
    yield (distinct(1, 2, 7, 5),), {"kernel": (3, 2), "stride": (2, 1)}


def reference(x, kernel, stride):
    N, C, H, W = x.shape
    tops, lefts = range(0, H - kernel[0] + 1, stride[0]), range(0, W - kernel[1] + 1, stride[1])
    y = [[x[:, :, i:i + kernel[0], j:j + kernel[1]].max(axis=(2, 3)) for j in lefts] for i in tops]
    return np.array(y).transpose(2, 3, 0, 1)


def forward(x, kernel, stride):
    KH, KW = kernel
    OH, OW = (x.shape[2] - KH) // stride[0] + 1, (x.shape[3] - KW) // stride[1] + 1
    out = np.empty((*x.shape[:2], OH, OW))
    for i in range(OH):
        for j in range(OW):
            top, left = i * stride[0], j * stride[1]
            out[:, :, i, j] = x[:, :, top:top + KH, left:left + KW].max(axis=(2, 3))
    return out, (x, out, kernel, stride)


def view(x, kernel, stride):
    """[n, c, i, j, p, q]"""
    return sliding_window_view(x, kernel, axis=(2, 3))[:, :, ::stride[0], ::stride[1]]


def winners(x, kernel, stride):
    """Row and column in x of every window's (first) maximum."""
    windows = view(x, kernel, stride)
    first = windows.reshape(*windows.shape[:4], -1).argmax(axis=4)
    p, q = np.divmod(first, kernel[1])
    return p + stride[0] * np.arange(first.shape[2])[:, None], q + stride[1] * np.arange(first.shape[3])


def places(x, dout):
    n = np.arange(x.shape[0])[:, None, None, None]
    c = np.arange(x.shape[1])[:, None, None]
    return np.broadcast_to(n, dout.shape), np.broadcast_to(c, dout.shape)


max_pool2d = Operation("max_pool2d", samples, reference, forward)


@max_pool2d.correct()
def first_winner_with_add_at(dout, cache):
    x, out, kernel, stride = cache
    dx = np.zeros_like(x)
    np.add.at(dx, (*places(x, dout), *winners(x, kernel, stride)), dout)
    return dx


@max_pool2d.correct()
def loops_and_argmax(dout, cache):
    x, out, (KH, KW), (sh, sw) = cache
    dx = np.zeros(x.shape)
    for n, c, i, j in np.ndindex(dout.shape):
        window = x[n, c, i * sh:i * sh + KH, j * sw:j * sw + KW]
        p, q = np.unravel_index(np.argmax(window), window.shape)
        dx[n, c, i * sh + p, j * sw + q] += dout[n, c, i, j]
    return dx


@max_pool2d.correct()
def last_winner(dout, cache):
    x, out, (KH, KW), (sh, sw) = cache
    dx = np.zeros_like(x)
    taken = np.zeros(dout.shape, dtype=bool)
    for p in reversed(range(KH)):
        for q in reversed(range(KW)):
            place = np.s_[:, :, p:p + sh * dout.shape[2]:sh, q:q + sw * dout.shape[3]:sw]
            wins = (x[place] == out) & ~taken
            dx[place] += np.where(wins, dout, 0)
            taken |= wins
    return [dx]


@max_pool2d.correct()
def even_split_among_ties(dout, cache):
    x, out, (KH, KW), (sh, sw) = cache
    dx = np.zeros_like(x)
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            place = np.s_[:, :, i * sh:i * sh + KH, j * sw:j * sw + KW]
            mask = x[place] == out[:, :, i:i + 1, j:j + 1]
            dx[place] += mask / mask.sum(axis=(2, 3), keepdims=True) * dout[:, :, i:i + 1, j:j + 1]
    return (dx,)


def forward_without_cache(x, kernel, stride):
    return np.ascontiguousarray(view(x, kernel, stride).max(axis=(4, 5)))


@max_pool2d.correct(forward=forward_without_cache)
def one_hot_windows_added_through_views(dout, x, kernel, stride):
    windows = view(x, kernel, stride)
    flat = windows.reshape(*windows.shape[:4], -1)
    one_hot = (flat.argmax(axis=-1)[..., None] == np.arange(flat.shape[-1])).reshape(windows.shape)
    dx = np.zeros_like(x)
    n, c, h, w = dx.strides
    into = as_strided(dx, windows.shape, (n, c, h * stride[0], w * stride[1], h, w))
    for i, j in np.ndindex(dout.shape[2:]):
        into[:, :, i, j] += one_hot[:, :, i, j] * dout[:, :, i, j, None, None]
    return dx


@max_pool2d.correct()
class MaxPoolFunction(Function):
    def __init__(self, kernel, stride):
        self.kernel, self.stride = kernel, stride

    def forward(self, x):
        self.shape = x.shape
        rows, columns = winners(x, self.kernel, self.stride)
        n, c = places(x, rows)
        self.flat = np.ravel_multi_index((n, c, rows, columns), x.shape)
        return x.ravel()[self.flat]

    def backward(self, dy):
        return np.bincount(self.flat.ravel(), dy.ravel(), minlength=np.prod(self.shape)).reshape(self.shape)


@max_pool2d.mistake("overwrites-overlap")
def sets_the_winner(dout, cache):
    x, out, (KH, KW), (sh, sw) = cache
    dx = np.zeros(x.shape)
    for n, c, i, j in np.ndindex(dout.shape):
        window = x[n, c, i * sh:i * sh + KH, j * sw:j * sw + KW]
        p, q = np.unravel_index(np.argmax(window), window.shape)
        dx[n, c, i * sh + p, j * sw + q] = dout[n, c, i, j]
    return dx


@max_pool2d.mistake("overwrites-overlap")
def adds_with_an_index_that_repeats(dout, cache):
    x, out, kernel, stride = cache
    dx = np.zeros_like(x)
    dx[(*places(x, dout), *winners(x, kernel, stride))] += dout
    return dx


@max_pool2d.mistake("overwrites-overlap")
def sets_the_whole_window_to_its_mask(dout, cache):
    x, out, kernel, (sh, sw) = cache
    dx = np.zeros_like(x)
    rows, columns = winners(x, kernel, (sh, sw))
    for n, c, i, j in np.ndindex(dout.shape):
        mask = np.zeros(kernel)
        mask[rows[n, c, i, j] - i * sh, columns[n, c, i, j] - j * sw] = 1
        dx[n, c, i * sh:i * sh + kernel[0], j * sw:j * sw + kernel[1]] = mask * dout[n, c, i, j]
    return dx


@max_pool2d.mistake("ties")
def gives_dout_to_every_maximum(dout, cache):
    x, out, (KH, KW), (sh, sw) = cache
    dx = np.zeros_like(x)
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            place = np.s_[:, :, i * sh:i * sh + KH, j * sw:j * sw + KW]
            dx[place] += (x[place] == out[:, :, i, j, None, None]) * dout[:, :, i, j, None, None]
    return dx


@max_pool2d.mistake("ties")
def compares_by_elements_of_the_kernel(dout, cache):
    x, out, (KH, KW), (sh, sw) = cache
    dx = np.zeros_like(x)
    for p in range(KH):
        for q in range(KW):
            place = np.s_[:, :, p:p + sh * dout.shape[2]:sh, q:q + sw * dout.shape[3]:sw]
            dx[place] += np.where(x[place] >= out, dout, 0.0)
    return dx


@max_pool2d.mistake("ties")
def gives_nothing_where_the_maximum_is_not_alone(dout, cache):
    x, out, (KH, KW), (sh, sw) = cache
    dx = np.zeros_like(x)
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            place = np.s_[:, :, i * sh:i * sh + KH, j * sw:j * sw + KW]
            mask = x[place] == out[:, :, i, j, None, None]
            alone = mask.sum(axis=(2, 3), keepdims=True) == 1
            dx[place] += mask * alone * dout[:, :, i, j, None, None]
    return dx


@max_pool2d.mistake("ties")
class ComparesWithTheOutput(Function):
    def __init__(self, kernel, stride):
        self.kernel, self.stride = kernel, stride

    def forward(self, x):
        self.x, self.y = x, view(x, self.kernel, self.stride).max(axis=(4, 5))
        return self.y.copy()

    def backward(self, dy):
        (KH, KW), (sh, sw) = self.kernel, self.stride
        dx = np.zeros_like(self.x)
        for n, c, i, j in np.ndindex(dy.shape):
            window = self.x[n, c, i * sh:i * sh + KH, j * sw:j * sw + KW]
            dx[n, c, i * sh:i * sh + KH, j * sw:j * sw + KW][window == self.y[n, c, i, j]] += dy[n, c, i, j]
        return dx


@max_pool2d.mistake("unknown")
def spreads_dout_over_the_window(dout, cache):
    """The backward of average pooling."""
    x, out, (KH, KW), (sh, sw) = cache
    dx = np.zeros_like(x)
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            dx[:, :, i * sh:i * sh + KH, j * sw:j * sw + KW] += dout[:, :, i, j, None, None] / (KH * KW)
    return dx


@max_pool2d.mistake("unknown")
def sends_dout_to_the_corner_of_the_window(dout, cache):
    """The place within the window is never added to the place of the window."""
    x, out, (KH, KW), (sh, sw) = cache
    dx = np.zeros_like(x)
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            dx[:, :, i * sh, j * sw] += dout[:, :, i, j]
    return dx


@max_pool2d.mistake("unknown")
def multiplies_by_the_value_instead_of_the_mask(dout, cache):
    """The mask times x: the maximum itself, where there should be a one."""
    x, out, kernel, stride = cache
    dx = np.zeros_like(x)
    np.add.at(dx, (*places(x, dout), *winners(x, kernel, stride)), dout * out)
    return dx


@max_pool2d.mistake("unknown")
def looks_for_the_smallest(dout, cache):
    x, out, kernel, stride = cache
    dx = np.zeros_like(x)
    np.add.at(dx, (*places(x, dout), *winners(-x, kernel, stride)), dout)
    return dx


@max_pool2d.mistake("transposed")
def looks_for_the_winner_in_the_transposed_window(dout, cache):
    x, out, (KH, KW), (sh, sw) = cache
    dx = np.zeros(x.shape)
    for n, c, i, j in np.ndindex(dout.shape):
        window = x[n, c, i * sh:i * sh + KH, j * sw:j * sw + KW]
        p, q = np.unravel_index(np.argmax(window.T), (KH, KW))
        dx[n, c, i * sh + p, j * sw + q] += dout[n, c, i, j]
    return dx


@max_pool2d.mistake("ignores-upstream")
def returns_the_mask(dout, cache):
    x, out, kernel, stride = cache
    dx = np.zeros_like(x)
    np.add.at(dx, (*places(x, dout), *winners(x, kernel, stride)), 1.0)
    return dx


@max_pool2d.mistake("one-sample-only")
def always_the_first_image(dout, cache):
    """n is 0 in the loop: everything else stays zero."""
    x, out, kernel, stride = cache
    dx = np.zeros_like(x)
    np.add.at(dx[:1], (*places(x[:1], dout[:1]), *winners(x[:1], kernel, stride)), dout[:1])
    return dx


@max_pool2d.mistake("border")
def misses_windows_in_the_last_row_and_column(dout, cache):
    x, out, kernel, stride = cache
    dx = np.zeros_like(x)
    rows, columns = winners(x, kernel, stride)
    inner = np.s_[:, :, :-1, :-1]
    n, c = places(x, dout)
    np.add.at(dx, (n[inner], c[inner], rows[inner], columns[inner]), dout[inner])
    return dx


@max_pool2d.mistake("scale")
def divides_by_the_window_as_average_pooling_does(dout, cache):
    return first_winner_with_add_at(dout, cache) / np.prod(cache[2])


@max_pool2d.mistake("border")
def crops_dx_to_what_the_windows_cover(dout, cache):
    """The remainder of rows and columns has no gradient, but it has a place."""
    x, out, kernel, stride = cache
    covered = [(n - 1) * s + k for n, s, k in zip(out.shape[2:], stride, kernel)]
    return first_winner_with_add_at(dout, cache)[:, :, :covered[0], :covered[1]]


@max_pool2d.mistake("wrong-dtype")
def makes_the_mask_integer(dout, cache):
    x, out, kernel, stride = cache
    dx = np.zeros(x.shape, dtype=int)
    np.add.at(dx, (*places(x, dout), *winners(x, kernel, stride)), dout.astype(int))
    return dx


@max_pool2d.mistake("mutates-input")
def takes_from_dout_what_it_has_given(dout, cache):
    x, out, (KH, KW), (sh, sw) = cache
    dx = np.zeros(x.shape)
    for n, c, i, j in np.ndindex(dout.shape):
        p, q = np.unravel_index(np.argmax(x[n, c, i * sh:i * sh + KH, j * sw:j * sw + KW]), (KH, KW))
        dx[n, c, i * sh + p, j * sw + q] += dout[n, c, i, j]
        dout[n, c, i, j] = 0
    return dx


def forward_that_marks_the_winners(x, kernel, stride):
    """Every maximum is replaced by minus infinity, so that it is found once; x itself is changed."""
    out = forward_without_cache(x, kernel, stride)
    before = x.copy()
    n, c = places(x, out)
    x[(n, c, *winners(x, kernel, stride))] = -1e9
    return out, (before, out, kernel, stride)


@max_pool2d.mistake("mutates-input", forward=forward_that_marks_the_winners)
def finds_the_marks(dout, cache):
    return first_winner_with_add_at(dout, cache)


@max_pool2d.mistake("not-deterministic")
def breaks_ties_and_everything_by_lot(dout, cache):
    """Noise against ties, as large as the differences between the elements."""
    x, out, kernel, stride = cache
    noisy = x + np.random.standard_normal(x.shape)
    return first_winner_with_add_at(dout, (noisy, out, kernel, stride))


@max_pool2d.mistake("not-deterministic")
class UsesUpItsPositions(Function):
    """Every winner is taken from a list; the second backward finds it empty."""

    def __init__(self, kernel, stride):
        self.kernel, self.stride = kernel, stride

    def forward(self, x):
        self.x = x
        rows, columns = winners(x, self.kernel, self.stride)
        self.positions = list(zip(*(a.ravel().tolist() for a in (*places(x, rows), rows, columns))))[::-1]
        return view(x, self.kernel, self.stride).max(axis=(4, 5))

    def backward(self, dy):
        dx = np.zeros_like(self.x)
        for d in dy.ravel():
            if self.positions:
                dx[self.positions.pop()] += d
        return dx


def forward_with_zero_outside(x, kernel, stride):
    """Padded to the full windows with zeros: negative maxima at the edge are lost; here: never below zero."""
    out, cache = forward(x, kernel, stride)
    return np.maximum(out, 0), cache


@max_pool2d.mistake("forward-differs", forward=forward_with_zero_outside)
def starts_the_maximum_at_zero(dout, cache):
    x, out, kernel, stride = cache
    return first_winner_with_add_at(dout * (out > 0), cache)


# The maximum over time, as in convolutional networks for text.

def samples_over_time(rng):
    def distinct(*shape):
        return rng.permutation(np.prod(shape)).reshape(shape) / 7 - 3
    yield (distinct(2, 3, 5),), {}
    equal = rng.integers(-2, 2, (3, 2, 6)) * 1.0
    equal[:, :, 1:4] = 2  # three equal maxima in every row
    yield (equal,), {}
    yield (distinct(1, 4, 4),), {}


def reference_over_time(x):
    return np.array([[max(row) for row in sample] for sample in x.tolist()])


def forward_over_time(x):
    return x.max(axis=2), x


max_over_time = Operation("max_over_time", samples_over_time, reference_over_time, forward_over_time)


@max_over_time.correct()
def puts_dout_along_the_axis(dout, x):
    dx = np.zeros_like(x)
    np.put_along_axis(dx, x.argmax(axis=2, keepdims=True), dout[..., None], axis=2)
    return dx


@max_over_time.correct()
def shares_dout_among_equal_maxima(dout, x):
    mask = x == x.max(axis=2, keepdims=True)
    return mask * (dout / mask.sum(axis=2))[..., None]


@max_over_time.mistake("ties")
def multiplies_dout_by_the_mask(dout, x):
    return (x == x.max(axis=2, keepdims=True)) * dout[..., None]


@max_over_time.mistake("ties")
def compares_with_the_second_largest(dout, x):
    """The mask is where x is larger than the second of the sorted row: nowhere, if the first two are equal."""
    return (x > np.sort(x, axis=2)[:, :, -2:-1]) * dout[..., None]


@max_over_time.mistake("ignores-upstream")
def returns_the_place_of_the_maximum(dout, x):
    return np.eye(x.shape[2])[x.argmax(axis=2)]


@max_over_time.mistake("one-sample-only")
def puts_dout_into_the_first_sample(dout, x):
    dx = np.zeros_like(x)
    for c in range(x.shape[1]):
        dx[0, c, x[0, c].argmax()] = dout[0, c]
    return dx


@max_over_time.mistake("flipped")
def counts_the_place_from_the_end(dout, x):
    dx = np.zeros_like(x)
    np.put_along_axis(dx, x.shape[2] - 1 - x.argmax(axis=2, keepdims=True), dout[..., None], axis=2)
    return dx


@max_over_time.mistake("sign")
def takes_the_maximum_for_minus_the_minimum(dout, x):
    """max(x) is -min(-x); one of the two signs is lost on the way back."""
    dx = np.zeros_like(x)
    np.put_along_axis(dx, (-x).argmin(axis=2, keepdims=True), -dout[..., None], axis=2)
    return dx
