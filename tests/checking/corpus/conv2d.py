"""Convolution in two dimensions, with stride and padding for each direction, and its backward as students write it."""
import numpy as np
from corpus.case import Operation
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from minidl import Function


def samples(rng):
    def draw(*shape):
        return rng.standard_normal(shape)
    yield (draw(2, 3, 6, 4), draw(5, 3, 2, 3), draw(5)), {"stride": (1, 2), "padding": (1, 2)}
    yield (draw(2, 3, 5, 5), draw(3, 3, 3, 3), draw(3)), {"stride": (1, 1), "padding": (1, 1)}
    yield (draw(3, 2, 7, 3), draw(4, 2, 3, 2), draw(4)), {"stride": (2, 1), "padding": (2, 1)}
    yield (draw(1, 2, 5, 6), draw(3, 2, 2, 3), draw(3)), {"stride": (1, 1), "padding": (0, 0)}


def sizes(x, w, stride, padding):
    OH = (x.shape[2] + 2 * padding[0] - w.shape[2]) // stride[0] + 1
    OW = (x.shape[3] + 2 * padding[1] - w.shape[3]) // stride[1] + 1
    return OH, OW


def pad(x, padding):
    ph, pw = padding
    return np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))


def cut(dx_padded, padding):
    ph, pw = padding
    H, W = dx_padded.shape[2:]
    return dx_padded[:, :, ph:H - ph, pw:W - pw]


def reference(x, w, b, stride, padding):
    windows = sliding_window_view(pad(x, padding), w.shape[2:], axis=(2, 3))[:, :, ::stride[0], ::stride[1]]
    return np.einsum("nchwij,fcij->nfhw", windows, w) + b[:, None, None]


def forward(x, w, b, stride, padding):
    xp = pad(x, padding)
    KH, KW = w.shape[2:]
    OH, OW = sizes(x, w, stride, padding)
    out = np.zeros((len(x), len(w), OH, OW))
    for i in range(OH):
        for j in range(OW):
            top, left = i * stride[0], j * stride[1]
            out[:, :, i, j] = np.tensordot(xp[:, :, top:top + KH, left:left + KW], w, axes=([1, 2, 3], [1, 2, 3])) + b
    return out, (x, xp, w, stride, padding)


def positions(dout, w, stride):
    """Every place of the kernel: the indices in dout, and the slices of the padded image under the kernel."""
    KH, KW = w.shape[2:]
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            top, left = i * stride[0], j * stride[1]
            yield i, j, slice(top, top + KH), slice(left, left + KW)


def gradients(dout, cache):
    """What is right, with the padding still on; the mistakes that follow change one thing each."""
    x, xp, w, stride, padding = cache
    dxp, dw = np.zeros_like(xp), np.zeros_like(w)
    for i, j, rows, columns in positions(dout, w, stride):
        d = dout[:, :, i, j]
        dxp[:, :, rows, columns] += np.tensordot(d, w, axes=1)
        dw += np.tensordot(d.T, xp[:, :, rows, columns], axes=1)
    return dxp, dw, dout.sum(axis=(0, 2, 3))


conv2d = Operation("conv2d", samples, reference, forward)


# Correct.

@conv2d.correct()
def loops_over_positions(dout, cache):
    dxp, dw, db = gradients(dout, cache)
    return cut(dxp, cache[-1]), dw, db


@conv2d.correct()
def loops_over_everything(dout, cache):
    x, xp, w, stride, padding = cache
    dxp, dw, db = np.zeros(xp.shape), np.zeros(w.shape), np.zeros(len(w))
    N, F, OH, OW = dout.shape
    for n in range(N):
        for f in range(F):
            for i in range(OH):
                for j in range(OW):
                    rows = slice(i * stride[0], i * stride[0] + w.shape[2])
                    columns = slice(j * stride[1], j * stride[1] + w.shape[3])
                    dxp[n, :, rows, columns] += dout[n, f, i, j] * w[f]
                    dw[f] += dout[n, f, i, j] * xp[n, :, rows, columns]
                    db[f] += dout[n, f, i, j]
    return [cut(dxp, padding), dw, db]


def forward_without_cache(x, w, b, stride, padding):
    return forward(x, w, b, stride, padding)[0]


@conv2d.correct(forward=forward_without_cache)
def from_the_inputs_alone(dout, x, w, b, stride, padding):
    """Loops over the elements of the kernel: each one is a strided view of the padded image."""
    dxp, dw = pad(np.zeros_like(x), padding), np.empty_like(w)
    xp = pad(x, padding)
    OH, OW = dout.shape[2:]
    for p in range(w.shape[2]):
        for q in range(w.shape[3]):
            place = (slice(None), slice(None), slice(p, p + OH * stride[0], stride[0]), slice(q, q + OW * stride[1], stride[1]))
            dxp[place] += np.einsum("nfhw,fc->nchw", dout, w[:, :, p, q])
            dw[:, :, p, q] = np.einsum("nfhw,nchw->fc", dout, xp[place])
    return cut(dxp, padding), dw, np.einsum("nfhw->f", dout)


@conv2d.correct()
def as_a_full_convolution_with_the_turned_kernel(dout, cache):
    """Zeros between the elements of dout for the stride, zeros around it, and the kernel turned by 180 degrees."""
    x, xp, w, (sh, sw), padding = cache
    N, F, OH, OW = dout.shape
    KH, KW = w.shape[2:]
    spread = np.zeros((N, F, xp.shape[2] - KH + 1, xp.shape[3] - KW + 1))
    spread[:, :, :OH * sh:sh, :OW * sw:sw] = dout
    around = np.pad(spread, ((0, 0), (0, 0), (KH - 1, KH - 1), (KW - 1, KW - 1)))
    dxp = np.einsum("nfhwij,fcij->nchw", sliding_window_view(around, (KH, KW), axis=(2, 3)), w[:, :, ::-1, ::-1])
    dw = np.einsum("nchwij,nfij->fchw", sliding_window_view(xp, spread.shape[2:], axis=(2, 3)), spread)
    return cut(dxp, padding), dw, spread.sum((0, 2, 3))


def forward_by_columns(x, w, b, stride, padding):
    xp = pad(x, padding)
    N, C = x.shape[:2]
    KH, KW = w.shape[2:]
    OH, OW = sizes(x, w, stride, padding)
    n, c, h, v = xp.strides
    windows = as_strided(xp, (N, OH, OW, C, KH, KW), (n, h * stride[0], v * stride[1], c, h, v), writeable=False)
    columns = windows.reshape(N * OH * OW, C * KH * KW)
    out = columns @ w.reshape(len(w), -1).T + b
    return out.reshape(N, OH, OW, -1).transpose(0, 3, 1, 2), dict(columns=columns, w=w, shape=xp.shape, stride=stride,
                                                                  padding=padding)


@conv2d.correct(forward=forward_by_columns)
def with_columns_and_a_cache_that_is_a_dict(dout, cache):
    w, shape, (sh, sw), padding = cache["w"], cache["shape"], cache["stride"], cache["padding"]
    rows = dout.transpose(0, 2, 3, 1).reshape(-1, len(w))
    dw = (rows.T @ cache["columns"]).reshape(w.shape)
    N, _, OH, OW = dout.shape
    dcolumns = (rows @ w.reshape(len(w), -1)).reshape(N, OH, OW, *w.shape[1:])
    dxp = np.zeros(shape, dtype=dout.dtype)
    for i in range(OH):
        for j in range(OW):
            dxp[:, :, i * sh:i * sh + w.shape[2], j * sw:j * sw + w.shape[3]] += dcolumns[:, i, j]
    return cut(dxp, padding), dw, rows.sum(axis=0)


@conv2d.correct()
def scatters_with_add_at(dout, cache):
    x, xp, w, (sh, sw), padding = cache
    C, KH, KW = w.shape[1:]
    OH, OW = dout.shape[2:]
    rows = sh * np.arange(OH)[:, None, None, None] + np.arange(KH)[:, None]
    columns = sw * np.arange(OW)[:, None, None] + np.arange(KW)
    dxp = np.zeros_like(xp)
    np.add.at(dxp, (slice(None), slice(None), rows, columns), np.einsum("nfhw,fcij->nchwij", dout, w))
    dw = np.einsum("nfhw,nchwij->fcij", dout, xp[:, :, rows, columns])
    return cut(dxp, padding), dw, dout.sum(axis=3).sum(axis=2).sum(axis=0)


@conv2d.correct()
class Conv2dFunction(Function):
    def __init__(self, stride, padding):
        self.stride, self.padding = stride, padding

    def forward(self, x, w, b):
        y, self.cache = forward(x, w, b, self.stride, self.padding)
        return y

    def backward(self, dy):
        dxp, dw, db = gradients(dy, self.cache)
        return cut(dxp, self.padding), dw, db


# Mistakes in the gradient of the image.

@conv2d.mistake("overwrites-overlap")
def sets_the_window_of_dx(dout, cache):
    x, xp, w, stride, padding = cache
    dxp, dw, db = gradients(dout, cache)
    dxp = np.zeros_like(xp)
    for i, j, rows, columns in positions(dout, w, stride):
        dxp[:, :, rows, columns] = np.tensordot(dout[:, :, i, j], w, axes=1)
    return cut(dxp, padding), dw, db


@conv2d.mistake("overwrites-overlap")
def adds_with_fancy_indices(dout, cache):
    """`+=` with repeated indices adds only one of them."""
    x, xp, w, (sh, sw), padding = cache
    _, dw, db = gradients(dout, cache)
    rows = sh * np.arange(dout.shape[2])[:, None, None, None] + np.arange(w.shape[2])[:, None]
    columns = sw * np.arange(dout.shape[3])[:, None, None] + np.arange(w.shape[3])
    dxp = np.zeros_like(xp)
    dxp[:, :, rows, columns] += np.einsum("nfhw,fcij->nchwij", dout, w)
    return cut(dxp, padding), dw, db


@conv2d.mistake("flipped")
def does_not_turn_the_kernel(dout, cache):
    x, xp, w, (sh, sw), padding = cache
    _, dw, db = gradients(dout, cache)
    KH, KW = w.shape[2:]
    spread = np.zeros((*dout.shape[:2], xp.shape[2] + KH - 1, xp.shape[3] + KW - 1))
    spread[:, :, KH - 1:KH - 1 + sh * dout.shape[2]:sh, KW - 1:KW - 1 + sw * dout.shape[3]:sw] = dout
    dxp = np.einsum("nfhwij,fcij->nchw", sliding_window_view(spread, (KH, KW), axis=(2, 3)), w)
    return cut(dxp, padding), dw, db


@conv2d.mistake("flipped")
def turns_the_kernel_in_the_loop_too(dout, cache):
    x, xp, w, stride, padding = cache
    _, dw, db = gradients(dout, cache)
    turned = np.rot90(w, 2, axes=(2, 3))
    dxp = np.zeros_like(xp)
    for i, j, rows, columns in positions(dout, w, stride):
        dxp[:, :, rows, columns] += np.tensordot(dout[:, :, i, j], turned, axes=1)
    return cut(dxp, padding), dw, db


@conv2d.mistake("flipped")
def turns_the_kernel_in_one_direction_only(dout, cache):
    """w[:, :, ::-1] turns rows; the columns are forgotten."""
    x, xp, w, (sh, sw), padding = cache
    _, dw, db = gradients(dout, cache)
    KH, KW = w.shape[2:]
    spread = np.zeros((*dout.shape[:2], xp.shape[2] + KH - 1, xp.shape[3] + KW - 1))
    spread[:, :, KH - 1:KH - 1 + sh * dout.shape[2]:sh, KW - 1:KW - 1 + sw * dout.shape[3]:sw] = dout
    dxp = np.einsum("nfhwij,fcij->nchw", sliding_window_view(spread, (KH, KW), axis=(2, 3)), w[:, :, ::-1])
    return cut(dxp, padding), dw, db


@conv2d.mistake("border")
def leaves_the_padding_on(dout, cache):
    return gradients(dout, cache)


@conv2d.mistake("border")
def cuts_the_padding_at_the_end_only(dout, cache):
    dxp, dw, db = gradients(dout, cache)
    H, W = cache[0].shape[2:]
    return dxp[:, :, :H, :W], dw, db


@conv2d.mistake("border")
def cuts_twice_the_padding_at_the_start(dout, cache):
    dxp, dw, db = gradients(dout, cache)
    ph, pw = cache[-1]
    return dxp[:, :, 2 * ph:, 2 * pw:], dw, db


@conv2d.mistake("border")
def cuts_with_height_and_width_exchanged(dout, cache):
    dxp, dw, db = gradients(dout, cache)
    return cut(dxp, cache[-1][::-1]), dw, db


@conv2d.mistake("border")
def forgets_the_last_row_and_column_of_positions(dout, cache):
    x, xp, w, stride, padding = cache
    _, dw, db = gradients(dout, cache)
    return cut(gradients(dout[:, :, :-1, :-1], cache)[0], padding), dw, db


@conv2d.mistake("border")
def skips_windows_that_reach_into_the_padding(dout, cache):
    x, xp, w, stride, (ph, pw) = cache
    _, dw, db = gradients(dout, cache)
    dx = np.zeros_like(x)
    for i, j, rows, columns in positions(dout, w, stride):
        top, left = rows.start - ph, columns.start - pw
        if top >= 0 and left >= 0 and top + w.shape[2] <= x.shape[2] and left + w.shape[3] <= x.shape[3]:
            dx[:, :, top:top + w.shape[2], left:left + w.shape[3]] += np.tensordot(dout[:, :, i, j], w, axes=1)
    return dx, dw, db


@conv2d.mistake("one-sample-only")
def leaves_the_loop_over_samples_after_the_first(dout, cache):
    """A line at the loop's end is indented too far."""
    x, xp, w, stride, padding = cache
    _, dw, db = gradients(dout, cache)
    dxp = np.zeros_like(xp)
    for n in range(len(x)):
        for i, j, rows, columns in positions(dout, w, stride):
            dxp[n, :, rows, columns] += np.tensordot(dout[n, :, i, j], w, axes=1)
        break
    return cut(dxp, padding), dw, db


@conv2d.mistake("unknown")
def uses_the_first_filter_for_all(dout, cache):
    x, xp, w, stride, padding = cache
    _, dw, db = gradients(dout, cache)
    dxp, _, _ = gradients(dout, (x, xp, np.broadcast_to(w[:1], w.shape), stride, padding))
    return cut(dxp, padding), dw, db


@conv2d.mistake("unknown")
def swaps_the_strides(dout, cache):
    x, xp, w, (sh, sw), padding = cache
    _, dw, db = gradients(dout, cache)
    room = np.zeros((*xp.shape[:2], 40, 40))
    for i, j, rows, columns in positions(dout, w, (sw, sh)):
        room[:, :, rows, columns] += np.tensordot(dout[:, :, i, j], w, axes=1)
    return cut(room[:, :, :xp.shape[2], :xp.shape[3]], padding), dw, db


@conv2d.mistake("unknown")
def forgets_the_stride(dout, cache):
    """Right only where the stride is 1."""
    x, xp, w, stride, padding = cache
    dxp, dw, db = np.zeros_like(xp), np.zeros_like(w), dout.sum(axis=(0, 2, 3))
    for i, j, rows, columns in positions(dout, w, (1, 1)):
        dxp[:, :, rows, columns] += np.tensordot(dout[:, :, i, j], w, axes=1)
        dw += np.tensordot(dout[:, :, i, j].T, xp[:, :, rows, columns], axes=1)
    return cut(dxp, padding), dw, db


@conv2d.mistake("scale")
def divides_dx_by_the_number_of_filters(dout, cache):
    dxp, dw, db = gradients(dout, cache)
    return cut(dxp, cache[-1]) / dout.shape[1], dw, db


@conv2d.mistake("zero")
def fills_a_copy_of_dx(dout, cache):
    """astype copies; what is added to the copy is lost."""
    x, xp, w, stride, padding = cache
    _, dw, db = gradients(dout, cache)
    dxp = np.zeros_like(xp)
    for i, j, rows, columns in positions(dout, w, stride):
        window = dxp[:, :, rows, columns].astype(float)
        window += np.tensordot(dout[:, :, i, j], w, axes=1)
    return cut(dxp, padding), dw, db


# Mistakes in the gradient of the kernel.

@conv2d.mistake("overwrites-overlap")
def keeps_the_last_position_of_dw(dout, cache):
    x, xp, w, stride, padding = cache
    dxp, dw, db = gradients(dout, cache)
    for i, j, rows, columns in positions(dout, w, stride):
        dw = np.tensordot(dout[:, :, i, j].T, xp[:, :, rows, columns], axes=1)
    return cut(dxp, padding), dw, db


@conv2d.mistake("overwrites-overlap")
def keeps_the_last_column_of_positions_of_dw(dout, cache):
    """dw is set to zero again for every column."""
    x, xp, w, stride, padding = cache
    dxp, dw, db = gradients(dout, cache)
    for j in range(dout.shape[3]):
        dw = np.zeros_like(w)
        for i in range(dout.shape[2]):
            top, left = i * stride[0], j * stride[1]
            dw += np.tensordot(dout[:, :, i, j].T, xp[:, :, top:top + w.shape[2], left:left + w.shape[3]], axes=1)
    return cut(dxp, padding), dw, db


@conv2d.mistake("one-sample-only")
def keeps_the_last_sample_of_dw(dout, cache):
    x, xp, w, stride, padding = cache
    dxp, dw, db = gradients(dout, cache)
    for n in range(len(x)):
        dw = gradients(dout[n:n + 1], (x[n:n + 1], xp[n:n + 1], w, stride, padding))[1]
    return cut(dxp, padding), dw, db


@conv2d.mistake("scale")
def averages_dw_over_the_batch(dout, cache):
    dxp, dw, db = gradients(dout, cache)
    return cut(dxp, cache[-1]), dw / len(dout), db


@conv2d.mistake("scale")
def averages_dw_over_positions(dout, cache):
    dxp, dw, db = gradients(dout, cache)
    return cut(dxp, cache[-1]), dw / (dout.shape[2] * dout.shape[3]), db


@conv2d.mistake("flipped")
def turns_dw(dout, cache):
    dxp, dw, db = gradients(dout, cache)
    return cut(dxp, cache[-1]), dw[:, :, ::-1, ::-1], db


@conv2d.mistake("ignores-upstream")
def sums_the_image_for_dw(dout, cache):
    """dw is the image under the kernel, not multiplied by dout."""
    x, xp, w, stride, padding = cache
    dxp, dw, db = gradients(dout, cache)
    dw = np.zeros_like(w)
    for _, _, rows, columns in positions(dout, w, stride):
        dw += xp[:, :, rows, columns].sum(axis=0)
    return cut(dxp, padding), dw, db


@conv2d.mistake("sign")
def returns_the_step_of_gradient_descent_for_w(dout, cache):
    x, xp, w, stride, padding = cache
    dxp, dw, db = gradients(dout, cache)
    step = np.zeros_like(w)
    for i, j, rows, columns in positions(dout, w, stride):
        step -= np.tensordot(dout[:, :, i, j].T, xp[:, :, rows, columns], axes=1)
    return cut(dxp, padding), step, db


@conv2d.mistake("transposed", forward=forward_by_columns)
def reshapes_dout_without_transposing_it(dout, cache):
    """Rows of the columns are (n, i, j); dout's first two axes are (n, f)."""
    w, shape, (sh, sw), padding = cache["w"], cache["shape"], cache["stride"], cache["padding"]
    F, C, KH, KW = w.shape
    N, _, OH, OW = dout.shape
    dw = (dout.reshape(F, -1) @ cache["columns"]).reshape(w.shape)
    dcolumns = (dout.reshape(-1, F) @ w.reshape(F, -1)).reshape(N, OH, OW, C, KH, KW)
    dxp = np.zeros(shape)
    for i in range(OH):
        for j in range(OW):
            dxp[:, :, i * sh:i * sh + KH, j * sw:j * sw + KW] += dcolumns[:, i, j]
    return cut(dxp, padding), dw, dout.sum(axis=(0, 2, 3))


@conv2d.mistake("transposed", forward=forward_by_columns)
def reshapes_dw_instead_of_transposing_it(dout, cache):
    """columns.T @ dout is (C*KH*KW, F); reshape makes it fit, and mixes it."""
    w, shape, (sh, sw), padding = cache["w"], cache["shape"], cache["stride"], cache["padding"]
    rows = dout.transpose(0, 2, 3, 1).reshape(-1, len(w))
    dw = (cache["columns"].T @ rows).reshape(w.shape)
    dxp = np.zeros(shape)
    dcolumns = (rows @ w.reshape(len(w), -1)).reshape(len(dout), *dout.shape[2:], *w.shape[1:])
    for i, j, up, across in positions(dout, w, (sh, sw)):
        dxp[:, :, up, across] += dcolumns[:, i, j]
    return cut(dxp, padding), dw, rows.sum(axis=0)


@conv2d.mistake("unknown")
def takes_dw_of_all_channels_from_the_first(dout, cache):
    x, xp, w, stride, padding = cache
    dxp, _, db = gradients(dout, cache)
    _, dw, _ = gradients(dout, (x, np.broadcast_to(xp[:, :1], xp.shape), w, stride, padding))
    return cut(dxp, padding), dw, db


# Mistakes in the gradient of the bias, and in what comes back.

@conv2d.mistake("broadcast-not-summed")
def returns_dout_for_the_bias(dout, cache):
    dxp, dw, _ = gradients(dout, cache)
    return cut(dxp, cache[-1]), dw, dout


@conv2d.mistake("broadcast-not-summed")
def sums_the_bias_over_the_batch_only(dout, cache):
    dxp, dw, _ = gradients(dout, cache)
    return cut(dxp, cache[-1]), dw, dout.sum(axis=0)


@conv2d.mistake("broadcast-not-summed")
def sums_the_bias_over_positions_only(dout, cache):
    dxp, dw, _ = gradients(dout, cache)
    return cut(dxp, cache[-1]), dw, dout.sum(axis=(2, 3))


@conv2d.mistake("scale")
def averages_db(dout, cache):
    dxp, dw, _ = gradients(dout, cache)
    return cut(dxp, cache[-1]), dw, dout.mean(axis=(0, 2, 3))


@conv2d.mistake("one-sample-only")
def sums_the_bias_of_the_first_sample(dout, cache):
    dxp, dw, _ = gradients(dout, cache)
    return cut(dxp, cache[-1]), dw, dout[0].sum(axis=(1, 2))


@conv2d.mistake("overwrites-overlap")
def keeps_the_last_position_of_db(dout, cache):
    dxp, dw, db = gradients(dout, cache)
    for n in range(dout.shape[0]):
        for f in range(dout.shape[1]):
            for i in range(dout.shape[2]):
                for j in range(dout.shape[3]):
                    db[f] = dout[n, f, i, j]
    return cut(dxp, cache[-1]), dw, db


@conv2d.mistake("ignores-upstream")
def counts_outputs_for_the_bias(dout, cache):
    dxp, dw, db = gradients(dout, cache)
    return cut(dxp, cache[-1]), dw, np.full(len(db), dout.size / len(db))


@conv2d.mistake("zero")
def forgets_the_bias(dout, cache):
    dxp, dw, db = gradients(dout, cache)
    return cut(dxp, cache[-1]), dw, np.zeros_like(db)


@conv2d.mistake("wrong-shape")
def keeps_the_dimensions_of_db(dout, cache):
    dxp, dw, _ = gradients(dout, cache)
    return cut(dxp, cache[-1]), dw, dout.sum(axis=(0, 2, 3), keepdims=True)


@conv2d.mistake("wrong-shape")
def returns_no_db(dout, cache):
    dxp, dw, _ = gradients(dout, cache)
    return cut(dxp, cache[-1]), dw


@conv2d.mistake("wrong-dtype")
def allocates_dw_in_float32(dout, cache):
    dxp, dw, db = gradients(dout, cache)
    return cut(dxp, cache[-1]), dw.astype(np.float32), db


@conv2d.mistake("unknown")
def sums_the_kernel_over_channels(dout, cache):
    """Every channel of the image gets the gradient of all channels together."""
    x, xp, w, stride, padding = cache
    _, dw, db = gradients(dout, cache)
    together = np.broadcast_to(w.sum(axis=1, keepdims=True), w.shape)
    dxp, _, _ = gradients(dout, (x, xp, together, stride, padding))
    return cut(dxp, padding), dw, db


def forward_without_bias(x, w, b, stride, padding):
    out, cache = forward(x, w, b, stride, padding)
    return out - b[:, None, None], cache


@conv2d.mistake("forward-differs", forward=forward_without_bias)
def forgets_the_bias_in_forward(dout, cache):
    dxp, dw, db = gradients(dout, cache)
    return cut(dxp, cache[-1]), dw, db


def forward_with_the_kernel_turned(x, w, b, stride, padding):
    """The convolution of signal processing."""
    return forward(x, w[:, :, ::-1, ::-1], b, stride, padding)


@conv2d.mistake("forward-differs", forward=forward_with_the_kernel_turned)
def turns_the_kernel_in_forward(dout, cache):
    dxp, dw, db = gradients(dout, cache)
    return cut(dxp, cache[-1]), dw[:, :, ::-1, ::-1], db


@conv2d.mistake("mutates-input")
def multiplies_dout_in_place(dout, cache):
    """dout is scaled for the average over the batch, and what is averaged is then multiplied back."""
    dout /= len(dout)
    dxp, dw, db = (len(dout) * g for g in gradients(dout, cache))
    return cut(dxp, cache[-1]), dw, db


@conv2d.mistake("not-deterministic")
class KeepsAddingToDw(Function):
    """The gradient is made in forward, once, and every backward adds to it."""

    def __init__(self, stride, padding):
        self.stride, self.padding = stride, padding

    def forward(self, x, w, b):
        y, self.cache = forward(x, w, b, self.stride, self.padding)
        self.dw = np.zeros_like(w)
        return y

    def backward(self, dy):
        dxp, dw, db = gradients(dy, self.cache)
        self.dw += dw
        return cut(dxp, self.padding), self.dw.copy(), db


@conv2d.mistake("transposed")
class ExchangesRowsAndColumnsOfDw(Function):
    """The kernel's gradient is filled as [f, c, q, p], and its shape made to fit."""

    def __init__(self, stride, padding):
        self.stride, self.padding = stride, padding

    def forward(self, x, w, b):
        y, self.cache = forward(x, w, b, self.stride, self.padding)
        return y

    def backward(self, dy):
        dxp, dw, db = gradients(dy, self.cache)
        return cut(dxp, self.padding), dw.transpose(0, 1, 3, 2).reshape(dw.shape), db


# The form of the Stanford exercises: the settings are a dictionary among the inputs.

def samples_with_a_dictionary(rng):
    def draw(*shape):
        return rng.standard_normal(shape)
    yield (draw(2, 3, 5, 4), draw(4, 3, 3, 2), draw(4), {"stride": 1, "pad": 1}), {}
    yield (draw(2, 2, 7, 5), draw(3, 2, 3, 3), draw(3), {"stride": 2, "pad": 1}), {}
    yield (draw(1, 3, 4, 4), draw(3, 3, 3, 3), draw(3), {"stride": 1, "pad": 0}), {}


def reference_with_a_dictionary(x, w, b, conv_param):
    return reference(x, w, b, (conv_param["stride"],) * 2, (conv_param["pad"],) * 2)


def forward_with_a_dictionary(x, w, b, conv_param):
    out, _ = forward(x, w, b, (conv_param["stride"],) * 2, (conv_param["pad"],) * 2)
    return out, (x, w, b, conv_param)


exercise = Operation("conv2d_exercise", samples_with_a_dictionary, reference_with_a_dictionary, forward_with_a_dictionary)


@exercise.correct()
def naive(dout, cache):
    x, w, b, conv_param = cache
    s, p = conv_param["stride"], conv_param["pad"]
    xp = np.pad(x, [(0, 0), (0, 0), (p, p), (p, p)], mode="constant")
    dxp, dw = np.zeros_like(xp), np.zeros_like(w)
    db = np.sum(dout, axis=(0, 2, 3))
    for n in range(x.shape[0]):
        for f in range(w.shape[0]):
            for i in range(dout.shape[2]):
                for j in range(dout.shape[3]):
                    area = np.s_[n, :, i * s:i * s + w.shape[2], j * s:j * s + w.shape[3]]
                    dw[f] += xp[area] * dout[n, f, i, j]
                    dxp[area] += w[f] * dout[n, f, i, j]
    return dxp[:, :, p:p + x.shape[2], p:p + x.shape[3]], dw, db


@exercise.mistake("border")
def loses_the_last_row_and_column_when_it_cuts(dout, cache):
    x, w, b, conv_param = cache
    s, p = conv_param["stride"], conv_param["pad"]
    dxp, dw, db = gradients(dout, (x, pad(x, (p, p)), w, (s, s), (p, p)))
    dx = np.zeros_like(x)
    dx[:, :, :-1, :-1] = dxp[:, :, p:p + x.shape[2] - 1, p:p + x.shape[3] - 1]
    return dx, dw, db


@exercise.mistake("border")
def takes_dw_from_the_image_without_padding(dout, cache):
    """What lay in the padding contributes nothing, and everything else is taken from the wrong place."""
    x, w, b, conv_param = cache
    s, p = conv_param["stride"], conv_param["pad"]
    dxp, _, db = gradients(dout, (x, pad(x, (p, p)), w, (s, s), (p, p)))
    at_the_end = np.pad(x, [(0, 0), (0, 0), (0, 2 * p), (0, 2 * p)])
    _, dw, _ = gradients(dout, (x, at_the_end, w, (s, s), (p, p)))
    return cut(dxp, (p, p)), dw, db


@exercise.mistake("overwrites-overlap")
def sets_both_gradients_in_the_loop(dout, cache):
    x, w, b, conv_param = cache
    s, p = conv_param["stride"], conv_param["pad"]
    xp = pad(x, (p, p))
    dxp, dw, db = np.zeros_like(xp), np.zeros_like(w), np.sum(dout, axis=(0, 2, 3))
    for n in range(x.shape[0]):
        for f in range(w.shape[0]):
            for i in range(dout.shape[2]):
                for j in range(dout.shape[3]):
                    area = np.s_[n, :, i * s:i * s + w.shape[2], j * s:j * s + w.shape[3]]
                    dw[f] = xp[area] * dout[n, f, i, j]
                    dxp[area] = w[f] * dout[n, f, i, j]
    return cut(dxp, (p, p)), dw, db


@exercise.mistake("zero")
def never_returns_dx(dout, cache):
    x, w, b, conv_param = cache
    s, p = conv_param["stride"], conv_param["pad"]
    _, dw, db = gradients(dout, (x, pad(x, (p, p)), w, (s, s), (p, p)))
    return None, dw, db
