"""The columns of an image (every window becomes a row of a matrix), and the way back as students write it."""
import numpy as np
from corpus.case import Operation
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from minidl import Function


def samples(rng):
    def draw(*shape):
        return rng.standard_normal(shape)
    yield (draw(2, 3, 6, 4),), {"kernel": (2, 3), "stride": (1, 2), "padding": (1, 2)}
    yield (draw(2, 3, 5, 5),), {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)}
    yield (draw(3, 2, 5, 4),), {"kernel": (3, 2), "stride": (2, 1), "padding": (0, 0)}
    yield (draw(1, 2, 5, 4),), {"kernel": (2, 2), "stride": (1, 1), "padding": (0, 1)}


def reference(x, kernel, stride, padding):
    (KH, KW), (sh, sw), (ph, pw) = kernel, stride, padding
    N, C, H, W = x.shape
    rows = []
    for n in range(N):
        xp = np.zeros((C, H + 2 * ph, W + 2 * pw))
        xp[:, ph:ph + H, pw:pw + W] = x[n]
        for top in range(0, H + 2 * ph - KH + 1, sh):
            for left in range(0, W + 2 * pw - KW + 1, sw):
                rows.append(xp[:, top:top + KH, left:left + KW].ravel())
    return np.array(rows)


def pad(x, padding):
    ph, pw = padding
    return np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))


def cut(dxp, shape, padding):
    ph, pw = padding
    return dxp[:, :, ph:ph + shape[2], pw:pw + shape[3]]


def forward(x, kernel, stride, padding):
    windows = sliding_window_view(pad(x, padding), kernel, axis=(2, 3))[:, :, ::stride[0], ::stride[1]]
    OH, OW = windows.shape[2:4]
    out = windows.transpose(0, 2, 3, 1, 4, 5).reshape(len(x) * OH * OW, -1)
    return out, (x.shape, OH, OW, kernel, stride, padding)


def padded(cache):
    (N, C, H, W), _, _, _, _, (ph, pw) = cache
    return np.zeros((N, C, H + 2 * ph, W + 2 * pw))


def add_windows(d, cache):
    """d[n, i, j, c, p, q] added to where it came from; the padding stays on."""
    _, OH, OW, (KH, KW), (sh, sw), _ = cache
    dxp = padded(cache)
    for i in range(OH):
        for j in range(OW):
            dxp[:, :, i * sh:i * sh + KH, j * sw:j * sw + KW] += d[:, i, j]
    return dxp


def unfold(dout, cache):
    (N, C, _, _), OH, OW, (KH, KW), _, _ = cache
    return dout.reshape(N, OH, OW, C, KH, KW)


im2col = Operation("im2col", samples, reference, forward)


@im2col.correct()
def adds_windows(dout, cache):
    return cut(add_windows(unfold(dout, cache), cache), cache[0], cache[-1])


@im2col.correct()
def adds_elements_of_the_kernel(dout, cache):
    """Fewer, larger steps: one for each place within the window."""
    shape, OH, OW, (KH, KW), (sh, sw), padding = cache
    d = unfold(dout, cache)
    dxp = padded(cache)
    for p in range(KH):
        for q in range(KW):
            dxp[:, :, p:p + sh * OH:sh, q:q + sw * OW:sw] += d[..., p, q].transpose(0, 3, 1, 2)
    return (cut(dxp, shape, padding),)


def forward_by_indices(x, kernel, stride, padding):
    """The classical index arrays, and a cache that is a dictionary."""
    N, C = x.shape[:2]
    xp = pad(x, padding)
    where = np.arange(xp.size).reshape(xp.shape)
    index, _ = forward_of_padded(where, kernel, stride)
    return xp.ravel()[index], {"index": index, "shape": x.shape, "padded": xp.shape, "padding": padding}


def forward_of_padded(xp, kernel, stride):
    rows = [xp[n, :, i:i + kernel[0], j:j + kernel[1]].ravel() for n in range(len(xp))
            for i in range(0, xp.shape[2] - kernel[0] + 1, stride[0]) for j in range(0, xp.shape[3] - kernel[1] + 1, stride[1])]
    return np.array(rows), None


@im2col.correct(forward=forward_by_indices)
def counts_with_bincount(dout, cache):
    flat = np.bincount(cache["index"].ravel(), weights=dout.ravel(), minlength=np.prod(cache["padded"]))
    return cut(flat.reshape(cache["padded"]), cache["shape"], cache["padding"])


@im2col.correct(forward=forward_by_indices)
def multiplies_by_the_matrix_of_ones(dout, cache):
    """The Jacobian itself, transposed: one row for each element of the padded image."""
    ones = (np.arange(np.prod(cache["padded"]))[:, None] == cache["index"].ravel()).astype(dout.dtype)
    return cut((ones @ dout.ravel()).reshape(cache["padded"]), cache["shape"], cache["padding"])


@im2col.correct()
def adds_into_overlapping_views(dout, cache):
    """The i-th window is a view of the image, by as_strided; each one is added to by itself."""
    shape, OH, OW, (KH, KW), (sh, sw), padding = cache
    d = unfold(dout, cache)
    dxp = padded(cache)
    n, c, h, w = dxp.strides
    views = as_strided(dxp, (OH, OW, shape[0], shape[1], KH, KW), (sh * h, sw * w, n, c, h, w))
    for i, j in np.ndindex(OH, OW):
        views[i, j] += d[:, i, j]
    return cut(dxp, shape, padding)


@im2col.correct()
class Im2colFunction(Function):
    def __init__(self, kernel, stride, padding):
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, x):
        y, self.cache = forward(x, self.kernel, self.stride, self.padding)
        return y

    def backward(self, dy):
        return adds_windows(dy, self.cache)


@im2col.mistake("overwrites-overlap")
def sets_windows(dout, cache):
    _, OH, OW, (KH, KW), (sh, sw), _ = cache
    d, dxp = unfold(dout, cache), padded(cache)
    for i in range(OH):
        for j in range(OW):
            dxp[:, :, i * sh:i * sh + KH, j * sw:j * sw + KW] = d[:, i, j]
    return cut(dxp, cache[0], cache[-1])


@im2col.mistake("overwrites-overlap")
def sets_elements_of_the_kernel(dout, cache):
    shape, OH, OW, (KH, KW), (sh, sw), padding = cache
    d, dxp = unfold(dout, cache), padded(cache)
    for p in range(KH):
        for q in range(KW):
            dxp[:, :, p:p + sh * OH:sh, q:q + sw * OW:sw] = d[..., p, q].transpose(0, 3, 1, 2)
    return cut(dxp, shape, padding)


@im2col.mistake("overwrites-overlap", forward=forward_by_indices)
def adds_with_repeated_indices(dout, cache):
    flat = np.zeros(np.prod(cache["padded"]))
    flat[cache["index"]] += dout
    return cut(flat.reshape(cache["padded"]), cache["shape"], cache["padding"])


@im2col.mistake("border")
def returns_the_padded_image(dout, cache):
    return add_windows(unfold(dout, cache), cache)


@im2col.mistake("border")
def cuts_at_the_upper_left(dout, cache):
    (_, _, H, W), *_ = cache
    return add_windows(unfold(dout, cache), cache)[:, :, :H, :W]


@im2col.mistake("border")
def cuts_one_side_with_a_minus(dout, cache):
    """[2p:] has the right size and the wrong place."""
    _, _, _, _, _, (ph, pw) = cache
    return add_windows(unfold(dout, cache), cache)[:, :, 2 * ph:, 2 * pw:]


@im2col.mistake("border")
def stops_one_window_early(dout, cache):
    _, OH, OW, (KH, KW), (sh, sw), _ = cache
    d, dxp = unfold(dout, cache), padded(cache)
    for i in range(OH - 1):
        for j in range(OW - 1):
            dxp[:, :, i * sh:i * sh + KH, j * sw:j * sw + KW] += d[:, i, j]
    return cut(dxp, cache[0], cache[-1])


@im2col.mistake("transposed")
def reads_channels_last(dout, cache):
    """The row is (c, p, q); here it is read as (p, q, c)."""
    (N, C, _, _), OH, OW, (KH, KW), _, _ = cache
    d = dout.reshape(N, OH, OW, KH, KW, C).transpose(0, 1, 2, 5, 3, 4)
    return cut(add_windows(d, cache), cache[0], cache[-1])


@im2col.mistake("transposed")
def reads_the_batch_after_the_positions(dout, cache):
    """The rows are (n, i, j); here they are read as (i, j, n), as the columns of another book are."""
    (N, C, _, _), OH, OW, (KH, KW), _, _ = cache
    d = dout.reshape(OH, OW, N, C, KH, KW).transpose(2, 0, 1, 3, 4, 5)
    return cut(add_windows(d, cache), cache[0], cache[-1])


@im2col.mistake("transposed")
def exchanges_rows_and_columns_of_the_window(dout, cache):
    (N, C, _, _), OH, OW, (KH, KW), _, _ = cache
    d = dout.reshape(N, OH, OW, C, KW, KH).swapaxes(4, 5)
    return cut(add_windows(d, cache), cache[0], cache[-1])


@im2col.mistake("flipped")
def turns_every_window(dout, cache):
    return cut(add_windows(unfold(dout, cache)[..., ::-1, ::-1], cache), cache[0], cache[-1])


@im2col.mistake("flipped")
def goes_through_the_rows_from_below(dout, cache):
    return cut(add_windows(unfold(dout, cache)[:, ::-1], cache), cache[0], cache[-1])


@im2col.mistake("unknown")
def divides_by_how_often_an_element_was_copied(dout, cache):
    """The mean over the windows that hold an element, as for putting patches of a picture together again."""
    times = add_windows(np.ones_like(unfold(dout, cache)), cache)
    return cut(add_windows(unfold(dout, cache), cache) / np.maximum(times, 1), cache[0], cache[-1])


@im2col.mistake("unknown")
def steps_by_the_kernel_instead_of_the_stride(dout, cache):
    (N, C, H, W), OH, OW, (KH, KW), _, padding = cache
    d = unfold(dout, cache)
    dxp = np.zeros((N, C, H + OH * KH, W + OW * KW))
    for i in range(OH):
        for j in range(OW):
            dxp[:, :, i * KH:i * KH + KH, j * KW:j * KW + KW] += d[:, i, j]
    return cut(dxp, cache[0], padding)


@im2col.mistake("ignores-upstream")
def counts_the_windows_of_every_element(dout, cache):
    return cut(add_windows(np.ones_like(unfold(dout, cache)), cache), cache[0], cache[-1])


@im2col.mistake("one-sample-only")
def goes_through_the_first_samples_rows_only(dout, cache):
    _, OH, OW, (KH, KW), (sh, sw), _ = cache
    d, dxp = unfold(dout, cache), padded(cache)
    for row in range(OH * OW):
        i, j = divmod(row, OW)
        dxp[0, :, i * sh:i * sh + KH, j * sw:j * sw + KW] += d[0, i, j]
    return cut(dxp, cache[0], cache[-1])


@im2col.mistake("wrong-dtype")
def adds_into_half_the_precision(dout, cache):
    return cut(add_windows(unfold(dout, cache), cache), cache[0], cache[-1]).astype(np.float32)


@im2col.mistake("wrong-shape")
def flattens_the_image(dout, cache):
    return cut(add_windows(unfold(dout, cache), cache), cache[0], cache[-1]).reshape(cache[0][0], -1)


@im2col.mistake("not-deterministic")
class AddsIntoTheSameImageAgain(Function):
    """The image that gradients are added into is made in forward, and never cleared."""

    def __init__(self, kernel, stride, padding):
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, x):
        y, self.cache = forward(x, self.kernel, self.stride, self.padding)
        self.dx = np.zeros_like(x)
        return y

    def backward(self, dy):
        self.dx += adds_windows(dy, self.cache)
        return self.dx.copy()


def forward_with_rows_of_positions_first(x, kernel, stride, padding):
    out, cache = forward(x, kernel, stride, padding)
    (N, _, _, _), OH, OW, *_ = cache
    return out.reshape(N, OH * OW, -1).transpose(1, 0, 2).reshape(out.shape), cache


@im2col.mistake("forward-differs", forward=forward_with_rows_of_positions_first)
def puts_samples_side_by_side(dout, cache):
    (N, C, _, _), OH, OW, (KH, KW), _, _ = cache
    d = dout.reshape(OH, OW, N, C, KH, KW).transpose(2, 0, 1, 3, 4, 5)
    return cut(add_windows(d, cache), cache[0], cache[-1])
