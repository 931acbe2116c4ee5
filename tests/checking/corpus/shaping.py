"""Operations that move elements: reshape, transpose, flip, concat, stack, pad, repeat; differences and means of neighbours."""
import numpy as np
from corpus.case import Operation

from minidl import Function


def normal(rng, *shape):
    return rng.normal(size=shape)


# reshape

def reshape_samples(rng):
    for old, new in (((3, 4, 5), (6, 10)), ((2, 6), (3, 4)), ((4, 3), (-1,)), ((1, 8), (2, 2, 2))):
        yield (normal(rng, *old),), {"shape": new}


def reshape_reference(x, shape):
    return np.array(list(x.flat)).reshape(shape)


reshape = Operation("reshape", reshape_samples, reshape_reference, lambda x, shape: (x.reshape(shape), x.shape))


@reshape.mistake("wrong-shape")
def leaves_the_new_shape(dout, shape):
    return dout


@reshape.mistake("flipped")
def fills_from_the_end(dout, shape):
    return dout.ravel()[::-1].reshape(shape)


@reshape.mistake("wrong-shape")
def flattens_the_gradient(dout, shape):
    return dout.flatten()


@reshape.correct()
def reshapes_back(dout, shape):
    return dout.reshape(shape)


@reshape.correct()
def copies_element_by_element(dout, shape):
    dx = np.empty(shape, order="F")
    for i, value in zip(np.ndindex(shape), dout.flat):
        dx[i] = value
    return dx


@reshape.correct()
class Reshape(Function):
    def __init__(self, shape):
        self.shape = shape

    def forward(self, x):
        self.old = x.shape
        return x.reshape(self.shape)

    def backward(self, dy):
        return np.reshape(dy, self.old)


# flatten the image after moving its channels last

def flatten_samples(rng):
    for shape in ((2, 3, 4, 5), (2, 4, 3, 2), (1, 3, 2, 4), (2, 3, 3, 3)):
        yield (normal(rng, *shape),), {}


def flatten_reference(x):
    return np.stack([np.concatenate([image[:, i, j] for i in range(x.shape[2]) for j in range(x.shape[3])]) for image in x])


def flatten_forward(x):
    return x.transpose(0, 2, 3, 1).reshape(len(x), -1), x.shape


flatten = Operation("channels_last_flatten", flatten_samples, flatten_reference, flatten_forward)


@flatten.mistake("transposed")
def reshapes_where_it_must_transpose(dout, shape):
    return dout.reshape(shape)


@flatten.mistake("transposed")
def reshapes_and_leaves_the_channels_last(dout, shape):
    N, C, H, W = shape
    return dout.reshape(N, H, W, C)


@flatten.mistake("transposed")
def exchanges_height_and_width(dout, shape):
    N, C, H, W = shape
    return dout.reshape(N, W, H, C).transpose(0, 3, 2, 1)


@flatten.mistake("transposed")
def repeats_the_same_permutation(dout, shape):
    N, C, H, W = shape
    return dout.reshape(N, H, W, C).transpose(0, 2, 3, 1)


@flatten.correct()
def undoes_both_steps(dout, shape):
    N, C, H, W = shape
    return dout.reshape(N, H, W, C).transpose(0, 3, 1, 2)


@flatten.correct()
def by_moveaxis(dout, shape):
    N, C, H, W = shape
    return np.ascontiguousarray(np.moveaxis(dout.reshape(N, H, W, C), -1, 1))


# transpose

def transpose_samples(rng):
    for shape, axes in (((3, 4, 5), (1, 2, 0)), ((4, 3, 2), (2, 0, 1)), ((3, 3, 3), (1, 2, 0)), ((1, 4, 2), (1, 2, 0))):
        yield (normal(rng, *shape),), {"axes": axes}


def transpose_reference(x, axes):
    out = np.zeros([x.shape[a] for a in axes])
    for i in np.ndindex(x.shape):
        out[tuple(i[a] for a in axes)] = x[i]
    return out


def transpose_only(x, axes):
    return np.transpose(x, axes)


transpose = Operation("transpose", transpose_samples, transpose_reference, lambda x, axes: (x.transpose(axes), axes))


@transpose.mistake("transposed")
def applies_the_same_permutation_again(dout, axes):
    return dout.transpose(axes)


@transpose.mistake("transposed", forward=transpose_only)
def reshapes_to_the_old_shape(dout, x, axes):
    return dout.reshape(x.shape)


@transpose.mistake("transposed")
def reverses_all_axes(dout, axes):
    return dout.T


@transpose.mistake("transposed")
class TransposeForgotten(Function):
    def __init__(self, axes):
        self.axes = axes

    def forward(self, x):
        return x.transpose(self.axes)

    def backward(self, dy):
        return dy


def transpose_by_reshape(x, axes):
    return x.reshape([x.shape[a] for a in axes]), axes


@transpose.mistake("forward-differs", forward=transpose_by_reshape)
def inverse_permutation_after_reshape(dout, axes):
    return dout.transpose(np.argsort(axes))


@transpose.correct()
def inverse_permutation(dout, axes):
    return dout.transpose(np.argsort(axes))


@transpose.correct(forward=transpose_only)
def inverse_by_hand(dout, x, axes):
    back = [0] * len(axes)
    for new, old in enumerate(axes):
        back[old] = new
    return np.transpose(dout, tuple(back)).copy()


# matrix transpose

def square_samples(rng):
    yield (normal(rng, 3, 5),), {}
    yield (normal(rng, 4, 4),), {}
    yield (normal(rng, 1, 6),), {}


matrix_transpose = Operation("matrix_transpose", square_samples, lambda x: np.array([list(row) for row in zip(*x)]),
                             lambda x: (x.T, x.shape))


@matrix_transpose.mistake("transposed")
def passes_dout_through(dout, shape):
    return dout


@matrix_transpose.mistake("transposed")
def reshape_to_the_shape_of_x(dout, shape):
    return np.reshape(dout, shape)


@matrix_transpose.mistake("not-deterministic", forward=lambda x: (x.T, np.zeros(x.shape)))
def adds_to_a_gradient_in_the_cache(dout, dx):
    dx += dout.T
    return dx


@matrix_transpose.correct()
def turns_back(dout, shape):
    return dout.T


# flip

def flip_samples(rng):
    for shape, axis in (((3, 4, 5), 1), ((4, 6), 0), ((7,), 0), ((1, 5), 1)):
        yield (normal(rng, *shape),), {"axis": axis}


def flip_reference(x, axis):
    return np.take(x, range(x.shape[axis] - 1, -1, -1), axis=axis)


flip = Operation("flip", flip_samples, flip_reference, lambda x, axis: (np.flip(x, axis), axis))


@flip.mistake("flipped")
def does_not_turn_back(dout, axis):
    return dout


@flip.mistake("flipped")
def turns_all_axes(dout, axis):
    return np.flip(dout)


@flip.mistake("sign")
def minus_for_mirrored(dout, axis):
    return -np.flip(dout, axis)


@flip.correct()
def turns_back_along_the_axis(dout, axis):
    return np.flip(dout, axis)


@flip.correct()
class Flip(Function):
    def __init__(self, axis):
        self.axis = axis

    def forward(self, x):
        self.index = tuple(slice(None, None, -1 if a == self.axis else 1) for a in range(x.ndim))
        return x[self.index]

    def backward(self, dy):
        dx = np.zeros_like(dy)
        dx[self.index] += dy
        return dx


# concat

def concat_samples(rng):
    yield (normal(rng, 3, 2, 5), normal(rng, 3, 4, 5)), {"axis": 1}
    yield (normal(rng, 2, 4), normal(rng, 5, 4)), {"axis": 0}
    yield (normal(rng, 3, 4), normal(rng, 3, 4)), {"axis": -1}
    yield (normal(rng, 1, 3), normal(rng, 1, 1)), {"axis": 1}


def concat_reference(a, b, axis):
    return np.moveaxis(np.array(list(np.moveaxis(a, axis, 0)) + list(np.moveaxis(b, axis, 0))), 0, axis)


def concat_forward(a, b, axis):
    return np.concatenate([a, b], axis=axis), (a.shape[axis], b.shape[axis], axis)


concat = Operation("concat", concat_samples, concat_reference, concat_forward)


@concat.mistake("wrong-shape")
def gives_dout_to_both(dout, cache):
    return dout, dout


@concat.mistake("wrong-shape")
def exchanges_the_two_parts(dout, cache):
    na, _, axis = cache
    da, db = np.split(dout, [na], axis=axis)
    return db, da


@concat.mistake("zero")
def nothing_for_the_second_part(dout, cache):
    na, nb, axis = cache
    da, db = np.split(dout, [na], axis=axis)
    return da, np.zeros_like(db)


@concat.mistake("border")
def second_part_starts_one_too_early(dout, cache):
    na, nb, axis = cache
    return np.take(dout, range(na), axis=axis), np.take(dout, range(na - 1, na + nb - 1), axis=axis)


@concat.correct()
def splits_at_the_seam(dout, cache):
    na, _, axis = cache
    return np.split(dout, [na], axis=axis)


@concat.correct()
class Concat(Function):
    def __init__(self, axis=0):
        self.axis = axis

    def forward(self, *parts):
        self.sizes = [p.shape[self.axis] for p in parts]
        return np.concatenate(parts, self.axis)

    def backward(self, dy):
        rolled, grads, start = np.moveaxis(dy, self.axis, 0), [], 0
        for size in self.sizes:
            grads.append(np.moveaxis(rolled[start:start + size], 0, self.axis))
            start += size
        return tuple(grads)


# stack

def stack_samples(rng):
    for shape, axis in (((3, 4, 5), 1), ((4, 6), 0), ((3, 3), -1), ((1, 2), 1)):
        yield (normal(rng, *shape), normal(rng, *shape), normal(rng, *shape)), {"axis": axis}


def stack_reference(a, b, c, axis):
    return np.moveaxis(np.array([a, b, c]), 0, axis)


def stack_forward(a, b, c, axis):
    return np.stack([a, b, c], axis=axis), axis


stack = Operation("stack", stack_samples, stack_reference, stack_forward)


@stack.mistake("wrong-shape")
def leaves_an_axis_of_one(dout, axis):
    return tuple(np.split(dout, 3, axis=axis))


@stack.mistake("unknown")
def everybody_gets_the_first_part(dout, axis):
    first = np.take(dout, 0, axis=axis)
    return first, first, first


@stack.mistake("zero")
def only_the_first_input_learns(dout, axis):
    first = np.take(dout, 0, axis=axis)
    return first, np.zeros_like(first), np.zeros_like(first)


@stack.correct()
def slices(dout, axis):
    return tuple(np.take(dout, i, axis=axis) for i in range(3))


@stack.correct()
def views(dout, axis):
    return list(np.moveaxis(dout, axis, 0))


# pad the last two axes with zeros

def pad_samples(rng):
    for shape, top, left, bottom, right in (((2, 3, 4, 5), 1, 2, 1, 2), ((3, 5, 4), 2, 1, 1, 0), ((4, 6), 0, 1, 2, 3),
                                            ((1, 3, 3), 2, 1, 2, 1)):
        yield (normal(rng, *shape),), {"top": top, "left": left, "bottom": bottom, "right": right}


def pad_reference(x, top, left, bottom, right):
    H, W = x.shape[-2:]
    out = np.zeros((*x.shape[:-2], H + top + bottom, W + left + right))
    for i in range(H):
        for j in range(W):
            out[..., top + i, left + j] = x[..., i, j]
    return out


def pad_forward(x, top, left, bottom, right):
    width = [(0, 0)] * (x.ndim - 2) + [(top, bottom), (left, right)]
    return np.pad(x, width), (x.shape, top, left)


def pad_only(x, top, left, bottom, right):
    return np.pad(x, [(0, 0)] * (x.ndim - 2) + [(top, bottom), (left, right)])


pad = Operation("pad", pad_samples, pad_reference, pad_forward)


@pad.mistake("border")
def does_not_cut(dout, cache):
    return dout


@pad.mistake("border")
def cuts_at_the_end_only(dout, cache):
    shape, _, _ = cache
    return dout[..., :shape[-2], :shape[-1]]


@pad.mistake("border")
def cuts_at_the_front_only(dout, cache):
    _, top, left = cache
    return dout[..., top:, left:]


@pad.mistake("border", forward=pad_only)
def cuts_one_off(dout, x, top, left, bottom, right):
    H, W = x.shape[-2:]
    return dout[..., max(top - 1, 0):max(top - 1, 0) + H, max(left - 1, 0):max(left - 1, 0) + W]


@pad.mistake("border")
def cuts_only_the_rows(dout, cache):
    shape, top, _ = cache
    return dout[..., top:top + shape[-2], :]


@pad.mistake("border", forward=pad_only)
def cuts_the_wrong_side(dout, x, top, left, bottom, right):
    return dout[..., bottom + top:, right + left:]


def pad_repeating_the_edge(x, top, left, bottom, right):
    width = [(0, 0)] * (x.ndim - 2) + [(top, bottom), (left, right)]
    return np.pad(x, width, mode="edge"), (x.shape, top, left)


@pad.mistake("forward-differs", forward=pad_repeating_the_edge)
def forward_repeats_the_edge(dout, cache):
    shape, top, left = cache
    return dout[..., top:top + shape[-2], left:left + shape[-1]]


@pad.mistake("ignores-upstream")
def ones_inside(dout, cache):
    return np.ones(cache[0])


@pad.correct()
def cuts_the_margin(dout, cache):
    shape, top, left = cache
    return dout[..., top:top + shape[-2], left:left + shape[-1]]


@pad.correct(forward=pad_only)
def by_selection_matrices(dout, x, top, left, bottom, right):
    H, W = x.shape[-2:]
    rows = np.eye(H, dout.shape[-2], top)
    columns = np.eye(W, dout.shape[-1], left)
    return np.einsum("ip,...pq,jq->...ij", rows, dout, columns)


# pad a signal by repeating its ends

def edge_samples(rng):
    for shape, p in (((3, 5), 2), ((2, 4), 1), ((1, 6), 3)):
        yield (normal(rng, *shape),), {"p": p}


def edge_reference(x, p):
    at = np.clip(np.arange(-p, x.shape[-1] + p), 0, x.shape[-1] - 1)
    return np.stack([row[at] for row in x])


pad_edge = Operation("pad_edge", edge_samples, edge_reference, lambda x, p: (np.pad(x, [(0, 0), (p, p)], mode="edge"), p))


@pad_edge.mistake("border")
def cuts_as_for_zeros(dout, p):
    return dout[:, p:-p]


@pad_edge.mistake("border")
def adds_only_at_the_left_end(dout, p):
    dx = dout[:, p:-p].copy()
    dx[:, 0] += dout[:, :p].sum(axis=1)
    return dx


@pad_edge.correct()
def adds_at_both_ends(dout, p):
    dx = dout[:, p:-p].copy()
    dx[:, 0] += dout[:, :p].sum(axis=1)
    dx[:, -1] += dout[:, -p:].sum(axis=1)
    return dx


@pad_edge.correct()
def scatters_with_add_at(dout, p):
    n = dout.shape[1] - 2 * p
    dx = np.zeros((dout.shape[0], n))
    np.add.at(dx, (slice(None), np.clip(np.arange(-p, n + p), 0, n - 1)), dout)
    return dx


# repeat: every element of the last axis several times in a row

def repeat_samples(rng):
    for shape, times in (((3, 4, 5), 2), ((4, 6), 3), ((1, 2), 4)):
        yield (normal(rng, *shape),), {"times": times}


def repeat_reference(x, times):
    out = np.zeros((*x.shape[:-1], x.shape[-1] * times))
    for t in range(times):
        out[..., t::times] = x
    return out


repeat = Operation("repeat", repeat_samples, repeat_reference, lambda x, times: (np.repeat(x, times, axis=-1), times))


@repeat.mistake("overwrites-overlap")
def keeps_the_last_copy(dout, times):
    dx = np.zeros((*dout.shape[:-1], dout.shape[-1] // times))
    for j in range(dout.shape[-1]):
        dx[..., j // times] = dout[..., j]
    return dx


@repeat.mistake("overwrites-overlap")
def takes_every_first_copy(dout, times):
    return dout[..., ::times]


@repeat.mistake("scale")
def averages_the_copies(dout, times):
    return dout.reshape(*dout.shape[:-1], -1, times).mean(axis=-1)


@repeat.mistake("transposed")
def takes_repeat_for_tile(dout, times):
    return dout.reshape(*dout.shape[:-1], times, -1).sum(axis=-2)


@repeat.correct()
def adds_the_copies(dout, times):
    return dout.reshape(*dout.shape[:-1], -1, times).sum(axis=-1)


@repeat.correct()
def adds_strided_slices(dout, times):
    return sum(dout[..., t::times] for t in range(times))


# diff: each element minus the one before it

def diff_samples(rng):
    for shape in ((3, 4, 5), (4, 6), (1, 3)):
        yield (normal(rng, *shape),), {}


diff = Operation("diff", diff_samples, lambda x: np.stack([x[..., j + 1] - x[..., j] for j in range(x.shape[-1] - 1)], -1),
                 lambda x: (x[..., 1:] - x[..., :-1], x.shape))


@diff.mistake("overwrites-overlap")
def second_slice_overwrites(dout, shape):
    dx = np.zeros(shape)
    dx[..., 1:] = dout
    dx[..., :-1] = -dout
    return dx


@diff.mistake("sign")
def before_minus_after(dout, shape):
    return np.diff(dout, axis=-1, prepend=0, append=0)


@diff.correct()
def adds_both_slices(dout, shape):
    dx = np.zeros(shape)
    dx[..., 1:] += dout
    dx[..., :-1] -= dout
    return dx


@diff.correct()
def minus_the_diff_of_padded_dout(dout, shape):
    return -np.diff(dout, axis=-1, prepend=0, append=0)


# smooth: the mean of each element and its neighbours, as many as there are

def smooth_samples(rng):
    for shape, reach in (((3, 7), 1), ((2, 8), 2), ((1, 5), 1)):
        yield (normal(rng, *shape),), {"reach": reach}


def smooth_reference(x, reach):
    n = x.shape[1]
    near = np.abs(np.arange(n)[:, None] - np.arange(n)) <= reach
    return x @ (near / near.sum(axis=0))


def smooth_forward(x, reach):
    n = x.shape[1]
    out = np.zeros_like(x)
    for i in range(n):
        out[:, i] = x[:, max(0, i - reach):i + reach + 1].mean(axis=1)
    return out, (n, reach)


smooth = Operation("smooth", smooth_samples, smooth_reference, smooth_forward)


@smooth.mistake("border")
def divides_by_the_whole_window_at_the_ends(dout, cache):
    n, reach = cache
    dx = np.zeros_like(dout)
    for i in range(n):
        dx[:, max(0, i - reach):i + reach + 1] += dout[:, [i]] / (2 * reach + 1)
    return dx


@smooth.mistake("border")
def smooths_dout_once_more(dout, cache):
    """Right only where all windows around an element are whole."""
    return smooth_forward(dout, cache[1])[0]


@smooth.mistake("border")
def skips_the_windows_at_the_ends(dout, cache):
    n, reach = cache
    dx = np.zeros_like(dout)
    for i in range(reach, n - reach):
        dx[:, i - reach:i + reach + 1] += dout[:, [i]] / (2 * reach + 1)
    return dx


@smooth.mistake("overwrites-overlap")
def windows_overwrite_each_other(dout, cache):
    n, reach = cache
    dx = np.zeros_like(dout)
    for i in range(n):
        lo, hi = max(0, i - reach), min(n, i + reach + 1)
        dx[:, lo:hi] = dout[:, [i]] / (hi - lo)
    return dx


@smooth.mistake("overwrites-overlap")
def keeps_only_the_own_share(dout, cache):
    n, reach = cache
    count = np.array([min(n, i + reach + 1) - max(0, i - reach) for i in range(n)])
    return dout / count


@smooth.correct()
def adds_window_by_window(dout, cache):
    n, reach = cache
    dx = np.zeros_like(dout)
    for i in range(n):
        lo, hi = max(0, i - reach), min(n, i + reach + 1)
        dx[:, lo:hi] += dout[:, [i]] / (hi - lo)
    return dx


@smooth.correct()
def by_the_matrix_of_shares(dout, cache):
    n, reach = cache
    J = np.array([[1.0 if abs(i - j) <= reach else 0.0 for j in range(n)] for i in range(n)])
    return dout @ (J / J.sum(axis=1, keepdims=True))


# block_mean: the mean of every `size` elements; the last block may be shorter

def block_samples(rng):
    for shape, size in (((3, 7), 2), ((2, 11), 4), ((1, 5), 3)):
        yield (normal(rng, *shape),), {"size": size}


def block_forward(x, size):
    starts = np.arange(0, x.shape[1], size)
    return np.stack([x[:, s:s + size].mean(axis=1) for s in starts], axis=1), (x.shape, size)


block_mean = Operation("block_mean", block_samples,
                       lambda x, size: np.array([[sum(row[s:s + size]) / len(row[s:s + size]) for s in range(0, len(row), size)]
                                                 for row in x]), block_forward)


@block_mean.mistake("border")
def divides_the_short_block_by_the_size(dout, cache):
    shape, size = cache
    return np.repeat(dout, size, axis=1)[:, :shape[1]] / size


@block_mean.mistake("border")
def leaves_the_remainder_out(dout, cache):
    shape, size = cache
    dx = np.zeros(shape)
    whole = shape[1] // size
    dx[:, :whole * size] = np.repeat(dout[:, :whole], size, axis=1) / size
    return dx


@block_mean.correct()
def divides_by_the_length_of_each_block(dout, cache):
    shape, size = cache
    dx = np.zeros(shape)
    for b, start in enumerate(range(0, shape[1], size)):
        part = dx[:, start:start + size]
        part[...] = dout[:, [b]] / part.shape[1]
    return dx
