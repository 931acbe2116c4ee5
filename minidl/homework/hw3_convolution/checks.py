"""What is checked in homework 3. The definitions below are loops of their own: they share no line with the solution."""
import sys
from functools import partial

import numpy as np

import minidl
from minidl import check_backward
from minidl.homework.parts import both, close, leaves_alone, part, refuses, shown


def padded_by_loops(x, padding):
    N, C, H, W = x.shape
    y = np.zeros((N, C, H + 2 * padding, W + 2 * padding), x.dtype)
    for h, v in np.ndindex(H, W):
        y[:, :, padding + h, padding + v] = x[:, :, h, v]
    return y


def starts(size, kernel, stride, padding):
    """Where windows begin, found by trying every pixel."""
    return [s for s in range(0, size + 2 * padding, stride) if s + kernel <= size + 2 * padding]


def convolution(x, w, b, stride=1, padding=0):
    """The definition in loops, up to the sum over one window."""
    (N, _, H, W), (F, _, KH, KW) = x.shape, w.shape
    padded = padded_by_loops(x, padding)
    rows, columns = starts(H, KH, stride, padding), starts(W, KW, stride, padding)
    y = np.zeros((N, F, len(rows), len(columns)))
    for n, f in np.ndindex(N, F):
        for i, h in enumerate(rows):
            for j, v in enumerate(columns):
                y[n, f, i, j] = b[f] + np.sum(w[f] * padded[n, :, h : h + KH, v : v + KW], dtype=float)
    return y


def windows_as_columns(x, KH, KW, stride, padding):
    """The definition of im2col: one window after the other."""
    H, W = x.shape[2:]
    cols = [image[:, h : h + KH, v : v + KW].ravel() for image in padded_by_loops(x, padding)
            for h in starts(H, KH, stride, padding) for v in starts(W, KW, stride, padding)]
    return np.array(cols).T


# x's shape, w's shape, options. Windows overlap, tile, leave gaps, leave a remainder; one image; one channel; padding
PLAIN: list[tuple] = [((2, 3, 5, 6), (4, 3, 3, 2), {}), ((1, 1, 4, 3), (1, 1, 1, 3), {}), ((1, 2, 3, 5), (3, 2, 3, 5), {})]
WITH_OPTIONS = [((2, 2, 5, 6), (3, 2, 3, 2), dict(stride=2, padding=1)), ((1, 3, 4, 6), (2, 3, 2, 3), dict(stride=2)),
                ((2, 1, 7, 4), (2, 1, 1, 2), dict(stride=3, padding=0)), ((1, 2, 2, 3), (2, 2, 3, 2), dict(padding=2))]
SMALL: list[tuple] = [((2, 2, 4, 5), (3, 2, 3, 2), {})]
SMALL_WITH_OPTIONS = [((2, 2, 4, 5), (2, 2, 2, 3), dict(stride=2, padding=1)),
                      ((1, 1, 5, 4), (2, 1, 3, 1), dict(stride=1, padding=2))]


def layers(rng, table):
    for x_shape, w_shape, options in table:
        x, w, b = rng.standard_normal(x_shape), rng.standard_normal(w_shape), rng.standard_normal(w_shape[0])
        yield x, w, b, options, f"(x {x_shape}, w {w_shape}" + "".join(f", {k}={v}" for k, v in options.items()) + ")"


# --- output_size -----------------------------------------------------------------------------------------------------


@part("output_size", 1, "counts the windows that fit")
def _(hw, ref, rng):
    for size, kernel, stride, padding in np.ndindex(9, 5, 4, 3):
        size, kernel, stride = size + 1, kernel + 1, stride + 1
        expected = len(starts(size, kernel, stride, padding))
        if not expected:
            continue
        call = f"output_size({size}, {kernel}, stride={stride}, padding={padding})"
        got = hw.output_size(size, kernel, stride=stride, padding=padding)
        if isinstance(got, bool) or not isinstance(got, (int, np.integer)):
            raise AssertionError(f"{call}: must be an integer, which can be a shape, got {shown(got)} ({type(got).__name__}): "
                                 "// divides without a remainder")
        close(got, expected, call)
    close(hw.output_size(6, 3), 4, "output_size(6, 3), with the default stride 1 and padding 0")


@part("output_size", 1, "refuses a kernel that does not fit")
def _(hw, ref, rng):
    for size, kernel, stride, padding in [(3, 5, 1, 0), (2, 7, 3, 1), (13, 17, 5, 1), (1, 4, 2, 1)]:
        refuses(partial(hw.output_size, size, kernel, stride, padding), [str(kernel), str(size + 2 * padding)],
                f"output_size({size}, {kernel}, stride={stride}, padding={padding}), where the padded image has "
                f"{size + 2 * padding} pixels")
    close(hw.output_size(3, 5, 2, 1), 1, "output_size(3, 5, stride=2, padding=1), where the kernel just fits")


# --- pad -------------------------------------------------------------------------------------------------------------


def pad_case(hw, x, padding):
    what = f"pad(x {x.shape} {x.dtype}, {padding})"
    close(leaves_alone(partial(hw.pad, padding=padding), what, x=x), padded_by_loops(x, padding), what, dtype=x.dtype)


@part("pad", 1, "puts zeros around height and width")
def _(hw, ref, rng):
    for shape, padding in [((2, 3, 4, 5), 1), ((1, 2, 3, 1), 3), ((3, 1, 2, 4), 0)]:
        pad_case(hw, rng.standard_normal(shape), padding)
    pad_case(hw, rng.standard_normal((2, 1, 3, 2)).astype(np.float32), 1)


def check_pad_gradient(hw, rng, padding):
    def forward(x, padding):
        return hw.pad(x, padding), padding

    forward.__name__ = "pad"  # what the doctor says is wrong
    check_backward(forward, hw.pad_backward, [rng.standard_normal((2, 2, 3, 4))], options=dict(padding=padding), names=["x"],
                   reference=padded_by_loops)


@part("pad", 1, "backward keeps what arrived inside the border")
def _(hw, ref, rng):
    for padding in (1, 2):
        check_pad_gradient(hw, rng, padding)


@part("pad", 1, "also where the border has no width")
def _(hw, ref, rng):
    dy = rng.standard_normal((2, 1, 3, 4))
    close(hw.pad_backward(dy, 0), dy, f"pad_backward(dy {dy.shape}, padding=0)")
    check_pad_gradient(hw, rng, 0)
    pad_case(hw, rng.standard_normal((2, 1, 3, 4)), 2)  # or an empty layer would do


# --- conv_loops, and what conv_matrix shares with it -----------------------------------------------------------------


def check_forward(name, forward, rng, table):
    for x, w, b, options, call in layers(rng, table):
        what = name + call
        y, _ = both(leaves_alone(partial(forward, **options), what, x=x, w=w, b=b), "y, cache", what)
        close(y, convolution(x, w, b, **options), what)


def check_gradient(forward, backward, rng, table):
    for x, w, b, options, _ in layers(rng, table):
        check_backward(forward, backward, [x, w, b], options=options, names=["x", "w", "b"], reference=convolution)


@part("conv_loops", 1, "forward is the definition, for stride 1 without padding")
def _(hw, ref, rng):
    check_forward("conv_loops_forward", hw.conv_loops_forward, rng, PLAIN)


@part("conv_loops", 1, "and with stride and padding")
def _(hw, ref, rng):
    check_forward("conv_loops_forward", hw.conv_loops_forward, rng, WITH_OPTIONS)


@part("conv_loops", 2, "backward is the slope of forward, for stride 1 without padding")
def _(hw, ref, rng):
    check_gradient(hw.conv_loops_forward, hw.conv_loops_backward, rng, SMALL)


@part("conv_loops", 2, "and with stride and padding")
def _(hw, ref, rng):
    check_gradient(hw.conv_loops_forward, hw.conv_loops_backward, rng, SMALL_WITH_OPTIONS)


# --- im2col and col2im -----------------------------------------------------------------------------------------------


# x's shape, KH, KW, stride, padding
IMAGES = [((2, 3, 4, 5), 3, 2, 1, 0), ((1, 1, 3, 4), 1, 3, 1, 0), ((3, 2, 2, 3), 2, 3, 1, 0)]
IMAGES_WITH_OPTIONS = [((2, 2, 5, 6), 3, 2, 2, 1), ((1, 3, 4, 6), 2, 3, 2, 0), ((2, 1, 7, 4), 1, 2, 3, 0),
                       ((1, 2, 2, 3), 3, 2, 1, 2)]


def check_columns(hw, rng, table):
    for shape, *options in table:
        x, what = rng.standard_normal(shape), "im2col(x {}, KH={}, KW={}, stride={}, padding={})".format(shape, *options)
        cols = leaves_alone(lambda x, o=options: hw.im2col(x, *o), what, x=x)
        close(cols, windows_as_columns(x, *options), what)


@part("im2col", 2, "every window is a column, in order")
def _(hw, ref, rng):
    check_columns(hw, rng, IMAGES)


@part("im2col", 1, "with stride, padding, and pixels that no window reaches")
def _(hw, ref, rng):
    check_columns(hw, rng, IMAGES_WITH_OPTIONS)


@part("im2col", 1, "float32 stays float32")
def _(hw, ref, rng):
    x = rng.standard_normal((2, 3, 5, 4)).astype(np.float32)
    close(hw.im2col(x, 2, 3, 1, 1), windows_as_columns(x, 2, 3, 1, 1), "im2col(x (2, 3, 5, 4) float32, 2, 3, 1, 1)",
          dtype=np.float32)


def check_col2im(hw, ref, rng, table):
    """col2im as the backward pass of im2col."""
    for shape, *options in table:
        def forward(x, o=options):
            return ref.im2col(x, *o), x.shape

        def backward(dcols, shape, o=options):
            return hw.col2im(dcols, shape, *o)

        forward.__name__ = f"im2col(x {shape}, {', '.join(map(str, options))}) and col2im"
        check_backward(forward, backward, [rng.standard_normal(shape)], names=["x"])


@part("col2im", 2, "is the slope of im2col: what overlaps adds up")
def _(hw, ref, rng):
    check_col2im(hw, ref, rng, IMAGES)


@part("col2im", 1, "is im2col's adjoint, with stride, padding, and pixels that no window reaches")
def _(hw, ref, rng):
    for shape, *options in IMAGES_WITH_OPTIONS:
        x = rng.standard_normal(shape)
        cols = ref.im2col(x, *options)
        c, what = rng.standard_normal(cols.shape), "col2im(c {}, {}, KH={}, KW={}, stride={}, padding={})".format(
            cols.shape, shape, *options)
        back = leaves_alone(lambda c, s=shape, o=options: hw.col2im(c, s, *o), what, c=c)
        close(np.shape(back), shape, f"the shape of {what}")
        close((x * back).sum(), (cols * c).sum(), f"the sum of x * {what}, which must be the sum of im2col(x, ...) * c")
    check_col2im(hw, ref, rng, IMAGES_WITH_OPTIONS[:2])


@part("col2im", 1, "float32 stays float32")
def _(hw, ref, rng):
    cols = np.ones((6, 8), np.float32)  # a 2x3 window meets a 5x4 image in four rows and two columns
    counts = np.array([[1, 2, 2, 1], [2, 4, 4, 2], [2, 4, 4, 2], [2, 4, 4, 2], [1, 2, 2, 1]], np.float32).reshape(1, 1, 5, 4)
    close(hw.col2im(cols, (1, 1, 5, 4), 2, 3), counts, "col2im(np.ones((6, 8), np.float32), (1, 1, 5, 4), 2, 3)",
          dtype=np.float32)


# --- conv_matrix -----------------------------------------------------------------------------------------------------


@part("conv_matrix", 1, "forward is the definition")
def _(hw, ref, rng):
    check_forward("conv_matrix_forward", hw.conv_matrix_forward, rng, PLAIN + WITH_OPTIONS)


@part("conv_matrix", 3, "backward is the slope of forward")
def _(hw, ref, rng):
    check_gradient(hw.conv_matrix_forward, hw.conv_matrix_backward, rng, SMALL + SMALL_WITH_OPTIONS)


@part("conv_matrix", 1, "float32 stays float32")
def _(hw, ref, rng):
    x, w, b = (rng.standard_normal(shape).astype(np.float32) for shape in [(2, 3, 5, 4), (4, 3, 2, 3), (4,)])
    y, cache = both(hw.conv_matrix_forward(x, w, b, stride=2, padding=1), "y, cache", "conv_matrix_forward")
    close(y, convolution(x, w, b, 2, 1).astype(np.float32), "conv_matrix_forward of float32", rtol=1e-4, dtype=np.float32)
    dy = rng.standard_normal(y.shape).astype(np.float32)
    gradients = both(hw.conv_matrix_backward(dy, cache), "dx, dw, db", "conv_matrix_backward of float32")
    _, in_float64 = ref.conv_matrix_forward(*(a.astype(float) for a in (x, w, b)), stride=2, padding=1)
    expected = ref.conv_matrix_backward(dy.astype(float), in_float64)
    for name, got, right in zip(("dx", "dw", "db"), gradients, expected):
        close(got, right.astype(np.float32), f"{name} of conv_matrix_backward of float32", rtol=1e-4, dtype=np.float32)


def lines_of_python(call):
    """How many lines of Python `call` runs, without those of earlier tasks' functions. A time would depend on the machine."""
    count, inside = 0, 0

    def trace(frame, event, arg):
        nonlocal count, inside
        if frame.f_code.co_name in ("output_size", "pad", "pad_backward", "im2col", "col2im"):
            inside += {"call": 1, "return": -1}.get(event, 0)
        elif not inside:
            count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


@part("conv_matrix", 1, "without a loop over pixels")
def _(hw, ref, rng):
    check_forward("conv_matrix_forward", hw.conv_matrix_forward, rng, PLAIN)
    x, w, b = rng.standard_normal((4, 2, 24, 21)), rng.standard_normal((8, 2, 3, 2)), rng.standard_normal(8)
    dy = rng.standard_normal((4, 8, 22, 20))

    def forward_and_backward():
        _, cache = hw.conv_matrix_forward(x, w, b)
        hw.conv_matrix_backward(dy, cache)

    # 1760 windows: a loop over them runs several thousand lines. NumPy's own functions run some dozens, a loop over the
    # four images or the eight kernels a few hundred.
    lines = lines_of_python(forward_and_backward)
    if lines > 1500:
        raise AssertionError(f"conv_matrix_forward and conv_matrix_backward of x {x.shape}, w {w.shape} run {lines} lines of "
                             "Python, where some twenty do. There is still a loop over pixels: the matrix product replaces it")


@part("conv_matrix", 1, "runs on the GPU, on its own arrays", gpu=True)
def _(hw, ref, rng):
    x, w, b, dy = (rng.standard_normal(shape).astype(np.float32) for shape in [(2, 3, 7, 6), (4, 3, 2, 3), (4,), (2, 4, 4, 3)])
    on_gpu = [minidl.Tensor(a).to("cuda").data for a in (x, w, b, dy)]
    y, cache = both(hw.conv_matrix_forward(*on_gpu[:3], stride=2, padding=1), "y, cache", "conv_matrix_forward on the GPU")
    results = (y, *both(hw.conv_matrix_backward(on_gpu[3], cache), "dx, dw, db", "conv_matrix_backward on the GPU"))
    y, cache = ref.conv_matrix_forward(x, w, b, stride=2, padding=1)
    for name, got, expected in zip(("y", "dx", "dw", "db"), results, (y, *ref.conv_matrix_backward(dy, cache))):
        if minidl.array_module(got) is np:
            raise AssertionError(f"conv_matrix on the GPU: {name} came back as a NumPy array. Make new arrays with "
                                 "minidl.array_module(x), not with np")
        close(minidl.Tensor(got), expected, f"{name} of conv_matrix on the GPU", rtol=1e-4, dtype=np.float32)
