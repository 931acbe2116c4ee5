"""How each operation is written in ONNX: TRANSLATIONS, and the functions in it.

`translate(g, call, x, ...)` receives the graph, the call (its function with the options, and the shapes), and the names of
the inputs as ONNX values. It adds nodes with `g.node(operator, *inputs, **attributes)` and returns the name of the
result; `g.constant` adds numbers. Nothing may depend on the batch size: it is None in the shapes.
Operators: opset 17, of which all that is used here means the same since opset 13.
"""
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.arithmetic.broadcasting import positive_axes
from minidl.arithmetic.elementwise import Add, Divide, Exp, Log, Multiply, Negate, Power, Sqrt, Subtract, Tanh
from minidl.arithmetic.matmul import MatMul
from minidl.arithmetic.reductions import Max, Mean, Sum, Var
from minidl.arithmetic.shaping import Cast, Concat, GetItem, Pad, Reshape, Stack, Transpose
from minidl.function import Function
from minidl.interop.onnx_graph import Graph
from minidl.interop.onnx_trace import Call, Shape
from minidl.ops.adaptive_avg_pool2d import AdaptiveAvgPool2d, averaging_matrix
from minidl.ops.avg_pool2d import AvgPool2d, counted
from minidl.ops.batch_norm import BatchNormEval
from minidl.ops.conv2d import Conv2d
from minidl.ops.conv_transpose2d import ConvTranspose2d
from minidl.ops.crop import Crop
from minidl.ops.leaky_relu import LeakyReLU
from minidl.ops.linear import Linear
from minidl.ops.lrn import LRN
from minidl.ops.max_pool2d import MaxPool2d
from minidl.ops.relu import ReLU
from minidl.ops.sigmoid import Sigmoid
from minidl.ops.softmax import LogSoftmax, Softmax

Translate = Callable[..., str]

_LAST, _FIRST = np.iinfo(np.int64).max, np.iinfo(np.int64).min  # ONNX's "to the end", forwards and backwards


# --- layers with weights ---------------------------------------------------------------------------------------------


def conv2d(g: Graph, call: Call, x: str, w: str, *b: str) -> str:
    f: Any = call.function
    return g.node("Conv", x, w, *b, kernel_shape=call.shapes[1][2:], strides=f.stride, pads=f.padding * 2, group=f.groups)


def conv_transpose2d(g: Graph, call: Call, x: str, w: str, *b: str) -> str:
    f: Any = call.function
    return g.node("ConvTranspose", x, w, *b, kernel_shape=call.shapes[1][2:], strides=f.stride, pads=f.padding * 2,
                  output_padding=f.output_padding, group=f.groups)


def linear(g: Graph, call: Call, x: str, w: str, *b: str) -> str:
    if len(call.shapes[0]) == 2:
        return g.node("Gemm", x, w, *b, transB=1)
    y = g.node("MatMul", x, g.node("Transpose", w, perm=[1, 0]))  # Gemm takes matrices only
    return g.node("Add", y, *b) if b else y


def batch_norm_eval(g: Graph, call: Call, x: str, w: str, b: str, mean: str, var: str) -> str:
    f: Any = call.function
    return g.node("BatchNormalization", x, w, b, mean, var, epsilon=f.eps)


# --- pooling ---------------------------------------------------------------------------------------------------------


def overhang(call: Call) -> tuple[int, int]:
    """How far the last window sticks out of the padded image, down and to the right: in ceil mode only.

    Written as padding, which gives ONNX's floor the number of windows that minidl's ceil mode has. ONNX's own ceil_mode is
    not used: up to opset 21 it keeps a window that starts in the padding, which minidl (as Caffe and torch) drops.
    """
    f: Any = call.function
    windows = image_size(call, call.shape)
    down, right = (max(0, (o - 1) * s + k - (n + 2 * p))
                   for n, k, s, p, o in zip(image_size(call), f.kernel, f.stride, f.padding, windows))
    return down, right


def max_pool2d(g: Graph, call: Call, x: str) -> str:
    f: Any = call.function
    (PH, PW), (down, right) = f.padding, overhang(call)
    return g.node("MaxPool", x, kernel_shape=f.kernel, strides=f.stride, pads=[PH, PW, PH + down, PW + right])


def avg_pool2d(g: Graph, call: Call, x: str) -> str:
    f: Any = call.function
    (PH, PW), (KH, KW), (down, right) = f.padding, f.kernel, overhang(call)
    include = f.count_include_pad and any(f.padding)
    y = g.node("AveragePool", x, kernel_shape=f.kernel, strides=f.stride, pads=[PH, PW, PH + down, PW + right],
               count_include_pad=int(include))
    if not (include and any((down, right))):
        return y
    # The padding counts in the average, what sticks out beyond it does not, and ONNX has divided by KH * KW everywhere.
    rows, columns = (np.array(counted(n, k, s, p, o, True)) for n, k, s, p, o in zip(
        image_size(call), f.kernel, f.stride, f.padding, image_size(call, call.shape)))
    return g.node("Mul", y, g.constant("share", KH * KW / (rows[:, None] * columns)))


def adaptive_avg_pool2d(g: Graph, call: Call, x: str) -> str:
    size, output = image_size(call), image_size(call, call.shape)
    if size == output:
        return x
    if output == (1, 1):
        return g.node("GlobalAveragePool", x)
    if all(n % o == 0 for n, o in zip(size, output)):
        window = [n // o for n, o in zip(size, output)]
        return g.node("AveragePool", x, kernel_shape=window, strides=window)
    A, B = (averaging_matrix(n, o) for n, o in zip(size, output))
    return g.node("MatMul", g.node("MatMul", g.constant("A", A), x), g.constant("B", B.T))


def image_size(call: Call, shape: Shape | None = None) -> tuple[int, int]:
    """Height and width of the first input (or of `shape`)."""
    _, _, H, W = shape or call.shapes[0]
    return fixed(call, H), fixed(call, W)


def fixed(call: Call, size: int | None) -> int:
    """A size that does not change with the batch."""
    if size is None:
        raise ValueError(f"export_onnx: {call.name}: {call.function.name} runs over an axis whose size changes with the batch; "
                         "for the one batch size that you need, pass batch=<the number>")
    return size


# --- normalisation across channels -----------------------------------------------------------------------------------


def lrn(g: Graph, call: Call, x: str) -> str:
    f: Any = call.function
    n = f.before + 1 + f.after
    if n % 2 == 1 and len(call.shapes[0]) == 4:
        return g.node("LRN", x, size=n, alpha=f.alpha * n, beta=f.beta, bias=f.k)  # ONNX divides alpha by n, as torch does
    return lrn_by_hand(g, call, x)


def lrn_by_hand(g: Graph, call: Call, x: str) -> str:
    """For even windows, which ONNX centres one channel further on and onnxruntime refuses, and for other than images."""
    f: Any = call.function
    ndim, C = len(call.shapes[0]), fixed(call, call.shapes[0][1])
    before, after = np.zeros((2, ndim), np.int64)
    before[1], after[1] = f.before, f.after
    padded = g.node("Pad", g.node("Mul", x, x), g.constant("pads", [*before, *after], np.int64))
    axis = g.constant("axis", [1], np.int64)
    shifted = [g.node("Slice", padded, g.constant("start", [i], np.int64), g.constant("end", [i + C], np.int64), axis)
               for i in range(f.before + 1 + f.after)]
    total = g.node("Mul", g.node("Sum", *shifted), g.constant("alpha", f.alpha))
    s = g.node("Add", total, g.constant("k", f.k))
    return g.node("Div", x, g.node("Pow", s, g.constant("beta", f.beta)))


# --- shapes ----------------------------------------------------------------------------------------------------------


def reshape(g: Graph, call: Call, x: str) -> str:
    """The batch's size becomes -1, "the rest", whatever the net itself wrote there."""
    if call.shape.count(None) > 1 or 0 in call.shape:
        raise ValueError(f"export_onnx: {call.name}: reshape to {call.shape} (None: changes with the batch) cannot be written "
                         "for any batch size; for the one that you need, pass batch=<the number>")
    return g.node("Reshape", x, g.constant("shape", [-1 if n is None else n for n in call.shape], np.int64))


def transpose(g: Graph, call: Call, x: str) -> str:
    f: Any = call.function
    ndim = len(call.shape)
    return g.node("Transpose", x, perm=[a % ndim for a in (range(ndim)[::-1] if f.axes is None else f.axes)])


def concat(g: Graph, call: Call, *xs: str) -> str:
    f: Any = call.function
    return g.node("Concat", *xs, axis=f.axis)


def stack(g: Graph, call: Call, *xs: str) -> str:
    f: Any = call.function
    axis = f.axis % len(call.shape)
    axes = g.constant("axes", [axis], np.int64)
    return g.node("Concat", *(g.node("Unsqueeze", x, axes) for x in xs), axis=axis)


def pad(g: Graph, call: Call, x: str) -> str:
    f: Any = call.function
    before, after = zip(*f.pad_width)
    return g.node("Pad", x, g.constant("pads", [*before, *after], np.int64), g.constant("value", f.value))


def crop(g: Graph, call: Call, x: str) -> str:
    f: Any = call.function
    end = [offset + size for offset, size in zip(f.offset, f.size)]
    return g.node("Slice", x, *(g.constant(label, value, np.int64)
                                for label, value in (("start", f.offset), ("end", end), ("axes", [2, 3]))))


def getitem(g: Graph, call: Call, x: str) -> str:
    """Slices and integers become one Slice; Squeeze takes away the axes of integers, Unsqueeze makes those of None."""
    f: Any = call.function
    shape = call.shapes[0]
    slices: list[tuple[int, int, int, int]] = []  # start, end, axis, step
    squeezed: list[int] = []
    new: list[int] = []
    axis = 0
    for part in _without_ellipsis(call, f.index, len(shape)):
        if part is None:
            new.append(axis - len(squeezed) + len(new))
            continue
        if not isinstance(part, slice):
            squeezed.append(axis)
            part = slice(part, part + 1 if part != -1 else None)
        if part != slice(None):
            start, end, step = _bounds(part, shape[axis])
            slices.append((start, end, axis, step))
        axis += 1
    if slices:
        labels = ("start", "end", "axes", "steps")
        x = g.node("Slice", x, *(g.constant(label, column, np.int64) for label, column in zip(labels, zip(*slices))))
    if squeezed:
        x = g.node("Squeeze", x, g.constant("squeezed", squeezed, np.int64))
    return g.node("Unsqueeze", x, g.constant("new", new, np.int64)) if new else x


def _without_ellipsis(call: Call, index: Any, ndim: int) -> list:
    """One slice or integer for every axis that the index reaches, and its Nones."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if any(isinstance(p, bool) or not (p is None or p is Ellipsis or isinstance(p, (slice, int, np.integer))) for p in parts):
        raise ValueError(f"export_onnx: {call.name}: x[...] with arrays or masks has no ONNX form here, only slices, "
                         "integers, None and ... have; split with slices and join with minidl.concat")
    if Ellipsis in parts:
        at, taken = parts.index(Ellipsis), sum(p is not None and p is not Ellipsis for p in parts)
        parts[at:at + 1] = [slice(None)] * (ndim - taken)
    return parts


def _bounds(part: slice, size: int | None) -> tuple[int, int, int]:
    """(start, end, step) as ONNX reads them. Negative ones count from the end there too."""
    if size is None:
        step = 1 if part.step is None else part.step
        first, last = (0, _LAST) if step > 0 else (_LAST, _FIRST)
        return first if part.start is None else part.start, last if part.stop is None else part.stop, step
    start, end, step = part.indices(size)
    return start, _FIRST if end == -1 else end, step  # Python's -1 after counting means "before the first"


# --- arithmetic ------------------------------------------------------------------------------------------------------


def same(operator: str) -> Translate:
    """An ONNX operator with the same inputs and no options."""
    return lambda g, call, *inputs: g.node(operator, *inputs)


def along_classes(operator: str) -> Translate:
    """Softmax and its logarithm."""
    return lambda g, call, x: g.node(operator, x, axis=int(call.function.dim))


def reduction(operator: str) -> Translate:
    """Mean and maximum; in opset 17 their axes are an attribute."""
    def translate(g: Graph, call: Call, x: str) -> str:
        axes, keepdims = _reduced(call)
        return g.node(operator, x, axes=axes, keepdims=keepdims) if axes else x  # to ONNX, no axes are all axes
    return translate


def sum_(g: Graph, call: Call, x: str) -> str:
    axes, keepdims = _reduced(call)
    return g.node("ReduceSum", x, g.constant("axes", axes, np.int64), keepdims=keepdims) if axes else x


def var(g: Graph, call: Call, x: str) -> str:
    axes, keepdims = _reduced(call)
    if not axes:
        return g.node("Sub", x, x)
    centred = g.node("Sub", x, g.node("ReduceMean", x, axes=axes, keepdims=1))
    return g.node("ReduceMean", g.node("Mul", centred, centred), axes=axes, keepdims=keepdims)


def _reduced(call: Call) -> tuple[tuple[int, ...], int]:
    f: Any = call.function
    return positive_axes(f.name, f.axis, len(call.shapes[0])), int(f.keepdims)


def power(g: Graph, call: Call, x: str) -> str:
    f: Any = call.function
    return g.node("Pow", x, g.constant("exponent", f.exponent))


def leaky_relu(g: Graph, call: Call, x: str) -> str:
    f: Any = call.function
    return g.node("LeakyRelu", x, alpha=f.negative_slope)


# --- the table -------------------------------------------------------------------------------------------------------

TRANSLATIONS: dict[type[Function], Translate] = {
    Conv2d: conv2d,
    ConvTranspose2d: conv_transpose2d,
    Linear: linear,
    BatchNormEval: batch_norm_eval,
    MaxPool2d: max_pool2d,
    AvgPool2d: avg_pool2d,
    AdaptiveAvgPool2d: adaptive_avg_pool2d,
    LRN: lrn,
    ReLU: same("Relu"),
    LeakyReLU: leaky_relu,
    Sigmoid: same("Sigmoid"),
    Tanh: same("Tanh"),
    Softmax: along_classes("Softmax"),
    LogSoftmax: along_classes("LogSoftmax"),
    Reshape: reshape,
    Transpose: transpose,
    Concat: concat,
    Stack: stack,
    Pad: pad,
    Crop: crop,
    GetItem: getitem,
    Cast: same("Identity"),
    Add: same("Add"),
    Subtract: same("Sub"),
    Multiply: same("Mul"),
    Divide: same("Div"),
    Negate: same("Neg"),
    Exp: same("Exp"),
    Log: same("Log"),
    Sqrt: same("Sqrt"),
    Power: power,
    MatMul: same("MatMul"),
    Sum: sum_,
    Mean: reduction("ReduceMean"),
    Max: reduction("ReduceMax"),
    Var: var,
}
"""Function class -> what writes it. A Function of your own is exported once it has an entry here."""
