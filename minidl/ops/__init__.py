"""The operations. Each has a room of its own; `OPS` is the table of contents that tests and reference pages walk."""
from minidl.arithmetic.elementwise import Add, Divide, Exp, Log, Multiply, Negate, Power, Sqrt, Subtract, Tanh, Where
from minidl.arithmetic.matmul import MatMul
from minidl.arithmetic.reductions import Max, Mean, Sum, Var
from minidl.arithmetic.shaping import Cast, Concat, GetItem, Pad, Reshape, Stack, Transpose
from minidl.autograd import Tensor, apply
from minidl.function import Function
from minidl.ops.adaptive_avg_pool2d import AdaptiveAvgPool2d, adaptive_avg_pool2d
from minidl.ops.avg_pool2d import AvgPool2d, avg_pool2d
from minidl.ops.batch_norm import BatchNorm, BatchNormEval, batch_norm
from minidl.ops.conv2d import Conv2d, conv2d
from minidl.ops.conv_transpose2d import ConvTranspose2d, conv_transpose2d
from minidl.ops.crop import Crop, bilinear_kernel, crop
from minidl.ops.cross_entropy import CrossEntropy, cross_entropy
from minidl.ops.dropout import Dropout, dropout
from minidl.ops.im2col import Col2Im, Im2Col, col2im, im2col
from minidl.ops.leaky_relu import LeakyReLU, leaky_relu
from minidl.ops.linear import Linear, linear
from minidl.ops.lrn import LRN, local_response_norm, lrn
from minidl.ops.max_pool2d import MaxPool2d, max_pool2d
from minidl.ops.mse import MSE, mse
from minidl.ops.relu import ReLU, relu
from minidl.ops.sigmoid import Sigmoid, sigmoid
from minidl.ops.softmax import LogSoftmax, Softmax, log_softmax, softmax

OPS: list[type[Function]] = [
    Add, Subtract, Multiply, Divide, Power, Negate, Exp, Log, Sqrt, Tanh, Where, MatMul, Sum, Mean, Max, Var,
    Reshape, Transpose, GetItem, Concat, Stack, Pad, Cast,
    ReLU, LeakyReLU, Sigmoid, Softmax, LogSoftmax, CrossEntropy, MSE, Linear, Im2Col, Col2Im, Conv2d, ConvTranspose2d,
    MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, LRN, BatchNorm, BatchNormEval, Dropout, Crop,
]


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent, element by element (also `x.tanh()`)."""
    return apply(Tanh(), x)


__all__ = [
    "OPS", "adaptive_avg_pool2d", "avg_pool2d", "batch_norm", "bilinear_kernel", "col2im", "conv2d", "conv_transpose2d",
    "crop", "cross_entropy", "dropout", "im2col", "leaky_relu", "linear", "local_response_norm", "log_softmax", "lrn",
    "max_pool2d", "mse", "relu", "sigmoid", "softmax", "tanh",
]
