# %% [markdown]
# # Lesson 2: convolution as one matrix product
#
# ## Question
#
# A convolution layer is defined by seven nested loops. In Python they are hopelessly slow, and the multiplications
# cannot be avoided. How can the same multiplications run hundreds of times faster, what does that cost, and what does
# it do to the backward pass?
#
# You need: lesson 1 (gradcheck), NumPy arrays and their shapes. All images here are `(N, C, H, W)`: image, channel,
# height, width.

# %% [markdown]
# ## Prediction
#
# Write down your answers before you run anything.
#
# 1. One layer, computed in four ways: seven loops; four loops with a small dot product inside; one call to `einsum`; a
#    copy into a matrix and one matrix product. All do the same multiplications. How many times faster than the loops is
#    each of the other three?
# 2. The matrix holds a copy of every 3x3 window of the image. How many times larger than the image is it?
# 3. The backward pass puts the windows back into an image. Somebody writes `=` where `+=` belongs. Which test finds it:
#    2x2 windows with stride 2, or 3x3 windows with stride 1?
#
# **The rule**, fixed now:
#
# - Speed: *observed* if the matrix product is at least 100 times faster than the loops.
# - Memory: *observed* if the matrix has exactly $K_H K_W$ times the elements of the image, for stride 1 and an output as
#   large as the input.
# - Bug: *observed* if gradcheck refuses the `=` version with overlapping windows and accepts it without overlap.

# %%
def speed_observed(ratio):
    return ratio >= 100


def memory_observed(elements_of_matrix, elements_of_image, KH, KW):
    return elements_of_matrix == KH * KW * elements_of_image


def bug_observed(accepted):
    """accepted[name of fold, overlap]: what gradcheck said."""
    return (accepted["right", True] and accepted["right", False]
            and accepted["wrong", False] and not accepted["wrong", True])


# %% [markdown]
# ## Experiment
#
# ### The definition: seven loops
#
# $y_{nfij} = \sum_{c,k,l} w_{fckl} \, x_{n,\,c,\,i+k,\,j+l}$
#
# Four indices name an element of the output, three are summed over. (Strictly this is cross-correlation, since the
# kernel is not flipped. Every framework calls it convolution. The kernel is learned, so the flip makes no difference to
# what a layer can do.) The image arrives with its border of zeros already in place.

# %%
import numpy as np


def by_loops(x, w):
    (N, C, H, W), (F, _, KH, KW) = x.shape, w.shape
    y = np.zeros((N, F, H - KH + 1, W - KW + 1))
    for n in range(N):
        for f in range(F):
            for i in range(y.shape[2]):
                for j in range(y.shape[3]):
                    for c in range(C):
                        for k in range(KH):
                            for m in range(KW):
                                y[n, f, i, j] += w[f, c, k, m] * x[n, c, i + k, j + m]
    return y


# %% [markdown]
# The layer of this lesson: two images of 16 x 16 with 8 channels, 16 kernels of 3x3, a border of one zero so that the
# output is 16 x 16 again. The number of multiply-adds is that of the loop body: one per element of $y$, per term of the
# sum.

# %%
rng = np.random.default_rng(0)
N, C, H, W, F, KH, KW = 2, 8, 16, 16, 16, 3, 3
image = rng.standard_normal((N, C, H, W))
w = rng.standard_normal((F, C, KH, KW))
x = np.pad(image, ((0, 0), (0, 0), (1, 1), (1, 1)))  # (2, 8, 18, 18)

y_loops = by_loops(x, w)
multiply_adds = y_loops.size * C * KH * KW
print("y", y_loops.shape, f"  multiply-adds {multiply_adds:,}")

# %% [markdown]
# ### Windows as a view
#
# Every output element meets one window of the image. NumPy can show you all windows at once without copying a number:
# a *strided view* is the same memory, read with other step lengths. The steps of $i$ and $k$ are equal, since going to
# the next window and going to the next row inside a window are the same step in memory.

# %%
windows = np.lib.stride_tricks.sliding_window_view(x, (KH, KW), axis=(2, 3))  # (N, C, OH, OW, KH, KW)
OH, OW = windows.shape[2:4]
print("windows", windows.shape, "  same memory:", np.shares_memory(windows, x))
print("bytes per step of n, c, i, j, k, m:", windows.strides)


def by_dot_products(x, w):
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(2, 3))
    y = np.zeros((len(x), len(w), *windows.shape[2:4]))
    for n, f, i, j in np.ndindex(y.shape):
        y[n, f, i, j] = (w[f] * windows[n, :, i, j]).sum()
    return y

# %% [markdown]
# With the windows as an array, the definition is one line of `einsum`: letters on the left that are missing on the
# right are summed over. Each version is held against the one before.

# %%
def by_einsum(x, w):
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(2, 3))
    return np.einsum("ncijkm,fckm->nfij", windows, w)


y_dots, y_einsum = by_dot_products(x, w), by_einsum(x, w)
np.testing.assert_allclose(y_dots, y_loops, rtol=1e-10, atol=1e-10)
np.testing.assert_allclose(y_einsum, y_dots, rtol=1e-10, atol=1e-10)
print("loops, dot products and einsum agree")

# %% [markdown]
# ### im2col: windows as columns
#
# Look at the sum again. It runs over $(c, k, m)$ together. Call that triple one row index, and the window $(n, i, j)$
# one column index: then the sum is a matrix product, $Y = W \cdot \mathrm{cols}$. Copying the windows into that matrix is
# called *im2col* (Chellapilla et al. 2006, "High performance convolutional neural networks for document processing",
# section 3).

# %%
def im2col(x, KH, KW, stride=1):
    windows = np.lib.stride_tricks.sliding_window_view(x, (KH, KW), axis=(2, 3))[:, :, ::stride, ::stride]
    N, C, OH, OW = windows.shape[:4]
    return windows.transpose(1, 4, 5, 0, 2, 3).reshape(C * KH * KW, N * OH * OW)


cols = im2col(x, KH, KW)
print("cols", cols.shape, "  a copy:", not np.shares_memory(cols, x))
column = 5 * OW + 7  # the window of image 0 at (5, 7)
np.testing.assert_array_equal(cols[:, column], x[0, :, 5:8, 7:10].ravel())

# %% [markdown]
# ### One matrix product

# %%
def by_matrix_product(x, w):
    F, C, KH, KW = w.shape
    N, _, H, W = x.shape
    y = w.reshape(F, C * KH * KW) @ im2col(x, KH, KW)  # (F, N * OH * OW)
    return y.reshape(F, N, H - KH + 1, W - KW + 1).transpose(1, 0, 2, 3)


np.testing.assert_allclose(by_matrix_product(x, w), y_einsum, rtol=1e-10, atol=1e-10)
ratio_memory = cols.size / image.size
print(f"image {image.nbytes:,} bytes, cols {cols.nbytes:,} bytes: {ratio_memory:g} times as much")

# %% [markdown]
# minidl's layer works the same way (`minidl/ops/conv2d.py`). Ask it for its own count of multiply-adds while you compare.

# %%
import minidl
from minidl import ops

counts = []
with minidl.watch(lambda op, inputs, y: counts.append(op.multiply_adds(y.shape, *(a.shape for a in inputs)))):
    y_minidl = ops.conv2d(minidl.Tensor(image), minidl.Tensor(w), padding=1)
np.testing.assert_allclose(y_minidl.numpy(), y_loops, rtol=1e-10, atol=1e-10)
print(f"minidl agrees, and counts {counts[0]:,} multiply-adds")
assert counts == [multiply_adds]

# %% [markdown]
# ### Time
#
# A single timing means little: the machine does other things as well, and that only ever adds time. So you run each
# method several times, in turn, so that a busy moment hits all of them. You take the median, and you report ratios,
# which travel better between machines than seconds do.

# %%
import time


def seconds(method, calls):
    start = time.perf_counter()
    for _ in range(calls):
        method(x, w)
    return (time.perf_counter() - start) / calls


methods = {"seven loops": (by_loops, 1), "dot products": (by_dot_products, 1),
           "einsum": (by_einsum, 5), "matrix product": (by_matrix_product, 50)}
times = {name: [] for name in methods}
for _ in range(7):
    for name, (method, calls) in methods.items():
        times[name].append(seconds(method, calls))

# %%
median = {name: float(np.median(t)) for name, t in times.items()}
ratio = {name: median["seven loops"] / t for name, t in median.items()}
for name, t in times.items():
    print(f"{name:15} {ratio[name]:8.1f} times as fast as the loops;  "
          f"slowest / fastest of its own runs {max(t) / min(t):.1f}")

# %% [markdown]
# The last column is the noise. A ratio between two methods that is smaller than this says nothing.
#
# Where does the time go? The seven loops pay Python's price for every single multiply-add: names are looked up, index
# tuples built, number objects made. The matrix product pays it once. What runs inside is BLAS, a library tuned for
# exactly this: it multiplies several numbers per instruction, and it loads a block of numbers once and uses it many
# times. `einsum` also leaves Python, but walks the windows number by number. The copy into `cols` is the price that the
# matrix product pays for its order.
#
# ### Backward: putting the windows back
#
# Forward, each pixel was *copied* into every window that covers it. Lesson 1 says what happens on the way back: slopes
# of several uses add up. So *col2im* adds each column back to where it came from. The loop over $(k, m)$ takes care of
# one position inside the window at a time, for all windows at once.

# %%
def fold(columns, shape, KH, KW, stride):
    N, C, H, W = shape
    OH, OW = (H - KH) // stride + 1, (W - KW) // stride + 1
    pieces = columns.reshape(C, KH, KW, N, OH, OW).transpose(3, 0, 1, 2, 4, 5)
    x = np.zeros(shape)
    for k in range(KH):
        for m in range(KW):
            rows, across = slice(k, k + OH * stride, stride), slice(m, m + OW * stride, stride)
            x[:, :, rows, across] += pieces[:, :, k, m]
    return x


covered = fold(im2col(np.ones((1, 1, 5, 5)), 3, 3), (1, 1, 5, 5), 3, 3, stride=1)
print("how many 3x3 windows cover each pixel of a 5x5 image:", covered[0, 0], sep="\n")

# %% [markdown]
# Now the wrong version. One character is missing: `=` in place of `+=`. The last window that touches a pixel wins.

# %%
def fold_wrong(columns, shape, KH, KW, stride):
    N, C, H, W = shape
    OH, OW = (H - KH) // stride + 1, (W - KW) // stride + 1
    pieces = columns.reshape(C, KH, KW, N, OH, OW).transpose(3, 0, 1, 2, 4, 5)
    x = np.zeros(shape)
    for k in range(KH):
        for m in range(KW):
            rows, across = slice(k, k + OH * stride, stride), slice(m, m + OW * stride, stride)
            x[:, :, rows, across] = pieces[:, :, k, m]
    return x

# %% [markdown]
# A convolution of your own as a minidl `Function`. The kernel is a fixed array here, so that only the image asks for a
# gradient: $\mathrm{dcols} = W^T \cdot dY$, then fold.

# %%
class Convolution(minidl.Function):
    name = "convolution"

    def __init__(self, w, stride, fold):
        self.w, self.stride, self.fold = w, stride, fold

    def forward(self, x):
        self.shape, (F, _, KH, KW) = x.shape, self.w.shape
        OH, OW = (x.shape[2] - KH) // self.stride + 1, (x.shape[3] - KW) // self.stride + 1
        y = self.w.reshape(F, -1) @ im2col(x, KH, KW, self.stride)
        return y.reshape(F, len(x), OH, OW).transpose(1, 0, 2, 3)

    def backward(self, dy):
        F, _, KH, KW = self.w.shape
        dcols = self.w.reshape(F, -1).T @ dy.transpose(1, 0, 2, 3).reshape(F, -1)
        return self.fold(dcols, self.shape, KH, KW, self.stride)

# %% [markdown]
# Four checks: both versions, with windows that overlap (3x3, stride 1) and windows that lie side by side (2x2,
# stride 2).

# %%
def gradcheck_accepts(fold, kernel, stride):
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((1, 2, 6, 6)), rng.standard_normal((3, 2, kernel, kernel))
    try:
        minidl.gradcheck(lambda x: minidl.apply(Convolution(w, stride, fold), x), x)
    except minidl.GradcheckError:
        return False
    return True

# %%
accepted = {}
for name, function in (("right", fold), ("wrong", fold_wrong)):
    for overlap, (kernel, stride) in ((True, (3, 1)), (False, (2, 2))):
        accepted[name, overlap] = gradcheck_accepts(function, kernel, stride)
        print(f"{name} fold, {kernel}x{kernel} windows, stride {stride}:",
              "accepted" if accepted[name, overlap] else "REFUSED")

# %% [markdown]
# The bug is real, and a good referee let it pass: on windows that never overlap, `=` and `+=` do the same. A gradient
# check is only as good as the example it is given. The same slip, in the backward pass of max pooling, stood for years
# in copies of the solutions to a well-known course (CS231n), because that course's own test uses 2x2 windows with
# stride 2 (reported as issue 19 of the repository 0809zheng/CS231n-assignment2019).

# %% [markdown]
# ## Plot
#
# Speed relative to the seven loops. The whiskers span all runs of a method.

# %%
from matplotlib import pyplot

names = list(methods)
speeds = [median["seven loops"] / np.array(times[name]) for name in names]
centres = [ratio[name] for name in names]
below = [c - s.min() for c, s in zip(centres, speeds)]
above = [s.max() - c for c, s in zip(centres, speeds)]
figure, axes = pyplot.subplots(figsize=(7, 3.2), layout="constrained")
axes.errorbar(centres, names, xerr=(below, above), fmt="o", markersize=9, ecolor="black", capsize=5)
for name, c in zip(names, centres):
    axes.annotate(f"{c:,.0f}x", (c, name), xytext=(0, 9), textcoords="offset points", ha="center")
axes.set_xscale("log")
axes.set_xlim(0.5, 6 * max(centres))
axes.set_ylim(3.4, -0.7)  # the first method on top
pyplot.close(figure)  # so that a notebook shows it once, as the last line of the next cell

# %%
import os
from pathlib import Path

axes.set_xlabel("speed, seven loops = 1 (no unit, logarithmic)")
axes.set_title(f"One 3x3 layer, {multiply_adds:,} multiply-adds")
axes.grid(axis="x", alpha=0.3)
folder = Path(os.environ.get("MINIDL_LESSON_OUTPUT", "lesson-output"))
folder.mkdir(parents=True, exist_ok=True)
path = folder / "02_convolution_as_one_matrix_product.png"
figure.savefig(path, dpi=150)
print("plot:", path)
figure

# %% [markdown]
# ## Observed

# %%
for claim, holds in (
    (f"speed, matrix product {ratio['matrix product']:,.0f} times as fast", speed_observed(ratio["matrix product"])),
    (f"memory, {ratio_memory:g} times the image", memory_observed(cols.size, image.size, KH, KW)),
    ("the bug passes without overlap and is caught with it", bug_observed(accepted)),
):
    print("observed:" if holds else "not observed:", claim)

# %% [markdown]
# What we saw when we ran it:
#
# - Dot products were 12 to 13 times as fast as the loops and `einsum` 160 to 170 times, run after run. The matrix product
#   was 4,000 to 5,000 times as fast. All four did 589,824 multiply-adds.
# - On a machine that was busy with other things, the slowest run of one method took up to four times as long as its
#   fastest. The factor between the methods is so large that this changes nothing. With a factor of 1.5 it would.
# - The matrix has 9 times the elements of the image.
# - gradcheck refused the wrong fold for 3x3 windows with stride 1, and accepted it for 2x2 windows with stride 2.
#
# Compare with what you wrote down.

# %% [markdown]
# ## Exercise
#
# The kernel needs a gradient too. With $Y = W \cdot \mathrm{cols}$, what is $dW$, given $dY$? Work out its shape first:
# there is only one product of $dY$ and $\mathrm{cols}$ that fits. Then fill in the function. You are done when the cell
# below it says that the gradients agree. Try overlapping windows, of course.
#
# To think about: for which kernel size is im2col a waste, because `cols` is only a rearranged image?

# %%
def kernel_gradient(dy, cols, w_shape):
    """dy (F, N * OH * OW), cols (C * KH * KW, N * OH * OW) -> dw (F, C, KH, KW)."""
    raise NotImplementedError("kernel_gradient")


class TrainableConvolution(Convolution):
    def forward(self, x, w):
        self.x, self.w = x, w
        return super().forward(x)

    def backward(self, dy):
        F, _, KH, KW = self.w.shape
        matrix = dy.transpose(1, 0, 2, 3).reshape(F, -1)
        dw = kernel_gradient(matrix, im2col(self.x, KH, KW, self.stride), self.w.shape)
        return super().backward(dy), dw

# %%
try:
    inputs = rng.standard_normal((2, 2, 5, 6)), rng.standard_normal((3, 2, 3, 2))
    report = minidl.gradcheck(lambda x, w: minidl.apply(TrainableConvolution(w, 1, fold), x, w), inputs, names="xw")
    print("exercise:", report)
except NotImplementedError as error:
    print("exercise: still to do,", error)
except (ValueError, minidl.GradcheckError) as error:
    print("exercise: not yet right:", error, sep="\n")
