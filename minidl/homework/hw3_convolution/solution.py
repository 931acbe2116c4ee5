"""Homework 3: convolution, by loops and as one matrix product.

A convolution layer slides a small kernel over an image. You write it twice: first as its definition says, in loops that
nobody can misread and nobody can wait for; then as one matrix product, hundreds of times faster. Both with their
gradients. It goes with lesson 2 (`lessons/02_convolution_as_one_matrix_product.py`).

The letters are the same everywhere:
    x (N, C, H, W)     N images with C channels, H pixels high and W wide
    w (F, C, KH, KW)   F kernels, each as deep as the image
    b (F,)             one bias per kernel
    y (N, F, OH, OW)   the output: OH windows fit into the height, OW into the width
`stride` and `padding` are integers that hold for both directions. H and W differ, and so do KH and KW: the checks use
such shapes only.

The convolutions come in pairs: `forward(...)` returns (y, cache), where cache is anything that you want back later, and
`backward(dy, cache)` returns the gradients. `dy` has y's shape: dy[n, f, i, j] is how much the loss grows per unit of
y[n, f, i, j]. Nothing may be written into an array that was handed to you.

Check your work as often as you like:
    minidl homework check hw3_convolution.py
"""
import numpy as np

import minidl


#: task output_size | 2 points | 10 minutes
#: hint Draw a row of 7 pixels and a kernel of 3. At which pixels can it start with stride 1? Which of these are left with
#:      stride 2? Then put a zero at either end.
#: hint The last possible start is at size + 2 * padding - kernel, counted from 0. Every stride-th start is used, and the
#:      first one always is.
#: hint room = size + 2 * padding - kernel; if room is negative nothing fits; else room // stride + 1.
def output_size(size, kernel, stride=1, padding=0):
    """How many windows fit along one direction, as an integer: OH from H and KH, or OW from W and KW.

    The image is `size` pixels long and gets `padding` zeros at BOTH ends. Windows of length `kernel` start at
    0, stride, 2 * stride, ... of the padded image, and each must lie inside it. Pixels that no window reaches are left.

    If not even one window fits, raise a ValueError whose text names the kernel and the size of the padded image.
    """
    #: solution
    room = size + 2 * padding - kernel
    if room < 0:
        raise ValueError(f"a kernel of {kernel} does not fit into {size} + 2 * {padding} = {size + 2 * padding} pixels")
    return room // stride + 1
    #: end


#: task pad | 3 points | 15 minutes
#: hint Which outputs did the pixel x[n, c, h, v] become? And the zeros: whose gradient is theirs?
#: hint x stands in the middle of y, from row `padding` to row `padding + H`. The gradient is what arrives there.
#: hint np.pad wants one pair per axis, and images and channels get (0, 0). Careful with a slice that ends at -padding: for
#:      padding 0 it is empty. H is dy.shape[2] - 2 * padding: cut from padding to padding + H.
def pad(x, padding):
    """A border of zeros: x (N, C, H, W) -> y (N, C, H + 2 * padding, W + 2 * padding), of x's dtype. padding may be 0.

    Returns y alone: this layer has nothing to remember.
    """
    #: solution
    around = (padding, padding)
    return minidl.array_module(x).pad(x, ((0, 0), (0, 0), around, around))
    #: end


def pad_backward(dy, padding):
    """Returns dx (N, C, H, W), for dy (N, C, H + 2 * padding, W + 2 * padding). padding may be 0 here too."""
    #: solution
    H, W = dy.shape[2] - 2 * padding, dy.shape[3] - 2 * padding
    return dy[:, :, padding : padding + H, padding : padding + W]
    #: end


#: task conv_loops | 6 points | 40 minutes
#: hint Forward: which pixels of the padded image does y[n, f, i, j] see? Write the window down as one slice.
#:      Backward: look at the formula of one y[n, f, i, j] and ask every letter on its right: what is your slope?
#: hint window = padded[n, :, i * stride : i * stride + KH, j * stride : j * stride + KW] has w[f]'s shape. In backward, every
#:      output hands its own dy[n, f, i, j] on: to w[f] times the window, to the window times w[f], to b[f] as it is. Shares
#:      of different outputs add up.
#: hint The same four loops: dw[f] += dy[n, f, i, j] * window; dpadded[n, :, rows, columns] += dy[n, f, i, j] * w[f];
#:      db[f] += dy[n, f, i, j]. At the end dx = pad_backward(dpadded, padding).
def conv_loops_forward(x, w, b, stride=1, padding=0):
    """The definition:

    y[n, f, i, j] = b[f] + sum over c, k, m of w[f, c, k, m] * padded[n, c, i * stride + k, j * stride + m]

    where padded is x with its border of zeros. The kernel is not flipped. x (N, C, H, W), w (F, C, KH, KW), b (F,)
    -> y (N, F, OH, OW). Loops are welcome here: speed comes in the last task. Returns (y, cache).
    """
    #: solution
    (N, _, H, W), (F, _, KH, KW) = x.shape, w.shape
    OH, OW = output_size(H, KH, stride, padding), output_size(W, KW, stride, padding)
    padded = pad(x, padding)
    y = np.zeros((N, F, OH, OW), x.dtype)
    for n, f, i, j in np.ndindex(y.shape):
        window = padded[n, :, i * stride : i * stride + KH, j * stride : j * stride + KW]  # (C, KH, KW)
        y[n, f, i, j] = (w[f] * window).sum() + b[f]
    return y, (padded, w, b, stride, padding)
    #: end


def conv_loops_backward(dy, cache):
    """Returns (dx, dw, db), of the shapes of x, w and b."""
    #: solution
    padded, w, b, stride, padding = cache
    KH, KW = w.shape[2:]
    dpadded, dw, db = np.zeros_like(padded), np.zeros_like(w), np.zeros_like(b)
    for n, f, i, j in np.ndindex(dy.shape):
        rows, columns = slice(i * stride, i * stride + KH), slice(j * stride, j * stride + KW)
        dw[f] += dy[n, f, i, j] * padded[n, :, rows, columns]
        dpadded[n, :, rows, columns] += dy[n, f, i, j] * w[f]
        db[f] += dy[n, f, i, j]
    return pad_backward(dpadded, padding), dw, db
    #: end


#: task im2col | 4 points | 25 minutes
#: hint Fix one place (k, m) inside the window. Which pixels of the padded image do ALL windows have there? One slice with a
#:      step finds them.
#: hint Make an empty array of shape (C, KH, KW, N, OH, OW), fill it for one (k, m) at a time, and reshape it once at the
#:      end. The slice of x is (N, C, OH, OW): which axes must change places?
#: hint padded[:, :, k : k + OH * stride : stride, m : m + OW * stride : stride] would do, and NumPy cuts what sticks out at
#:      the end; .transpose(1, 0, 2, 3) puts the channel first. A reshape alone never moves an axis.
def im2col(x, KH, KW, stride=1, padding=0):
    """Every window as a column: x (N, C, H, W) -> cols (C * KH * KW, N * OH * OW).

    The rows count (c, k, m), the place in the window, the columns count (n, i, j), the window; in both the last letter
    runs fastest:

    cols[(c * KH + k) * KW + m, (n * OH + i) * OW + j] = padded[n, c, i * stride + k, j * stride + m]

    float32 stays float32. The last task's matrix product runs on a GPU too if you make new arrays with
    xp = minidl.array_module(x): that is np for a NumPy array and cupy for a CuPy one.
    """
    #: solution
    N, C, H, W = x.shape
    OH, OW = output_size(H, KH, stride, padding), output_size(W, KW, stride, padding)
    padded = pad(x, padding)
    cols = minidl.array_module(x).zeros((C, KH, KW, N, OH, OW), x.dtype)
    for k in range(KH):
        for m in range(KW):
            place = padded[:, :, k : k + OH * stride : stride, m : m + OW * stride : stride]  # (N, C, OH, OW)
            cols[:, k, m] = place.transpose(1, 0, 2, 3)
    return cols.reshape(C * KH * KW, N * OH * OW)
    #: end


#: task col2im | 4 points | 25 minutes
#: hint im2col copied a pixel into every window that covers it. Several slopes come back to that pixel: what happens to them?
#: hint Walk im2col backwards: reshape to (C, KH, KW, N, OH, OW), and for each (k, m) send the piece back to the slice that
#:      im2col read. The image there is the padded one; its border goes at the end.
#: hint dpadded[:, :, k : k + OH * stride : stride, m : m + OW * stride : stride] += cols[:, k, m].transpose(1, 0, 2, 3).
#:      Then cut the border off with pad_backward.
def col2im(cols, shape, KH, KW, stride=1, padding=0):
    """im2col's gradient: cols (C * KH * KW, N * OH * OW) -> x of `shape` (N, C, H, W).

    x[n, c, h, v] is the sum of all those elements of cols into which im2col copies x[n, c, h, v]; 0 if there are none.
    float32 stays float32.
    """
    #: solution
    N, C, H, W = shape
    OH, OW = output_size(H, KH, stride, padding), output_size(W, KW, stride, padding)
    cols = cols.reshape(C, KH, KW, N, OH, OW)
    padded = minidl.array_module(cols).zeros((N, C, H + 2 * padding, W + 2 * padding), cols.dtype)
    for k in range(KH):
        for m in range(KW):  # for one (k, m) no two windows touch the same pixel
            padded[:, :, k : k + OH * stride : stride, m : m + OW * stride : stride] += cols[:, k, m].transpose(1, 0, 2, 3)
    return pad_backward(padded, padding)
    #: end


#: task conv_matrix | 7 points | 35 minutes
#: hint Write the shapes down: w as (F, C * KH * KW), cols as (C * KH * KW, N * OH * OW). What is the shape of their product,
#:      and in which order do n, i and j stand in its columns?
#: hint Y = Wm @ cols + b has the gradients dWm = dY @ cols.T, dcols = Wm.T @ dY, db = the sum of every row of dY. First
#:      bring dy into the shape (F, N * OH * OW) of Y: the exact way back from what forward did at its end.
#: hint Forward ends with Y.reshape(F, N, OH, OW).transpose(1, 0, 2, 3), backward begins with
#:      dy.transpose(1, 0, 2, 3).reshape(F, -1) and ends with dx = col2im(dcols, x.shape, KH, KW, stride, padding).
def conv_matrix_forward(x, w, b, stride=1, padding=0):
    """The same y as conv_loops_forward, by im2col and one matrix product. No loop over images, kernels or pixels.

    float32 stays float32. Runs on the GPU where x, w and b are CuPy arrays: use their own methods and
    xp = minidl.array_module(x) where you need a new array, never np. Returns (y, cache).
    """
    #: solution
    (N, _, H, W), (F, _, KH, KW) = x.shape, w.shape
    OH, OW = output_size(H, KH, stride, padding), output_size(W, KW, stride, padding)
    cols = im2col(x, KH, KW, stride, padding)
    Y = w.reshape(F, -1) @ cols + b.reshape(F, 1)  # (F, N * OH * OW)
    return Y.reshape(F, N, OH, OW).transpose(1, 0, 2, 3), (x.shape, cols, w, stride, padding)
    #: end


def conv_matrix_backward(dy, cache):
    """Returns (dx, dw, db), of the shapes of x, w and b, by two matrix products and col2im; for float32, in float32."""
    #: solution
    x_shape, cols, w, stride, padding = cache
    F, _, KH, KW = w.shape
    dY = dy.transpose(1, 0, 2, 3).reshape(F, -1)  # (F, N * OH * OW)
    dw = (dY @ cols.T).reshape(w.shape)
    dcols = w.reshape(F, -1).T @ dY
    return col2im(dcols, x_shape, KH, KW, stride, padding), dw, dY.sum(axis=1)
    #: end
