"""Layers, containers and losses; `Module` and `Parameter` beneath them; `init` for first values."""
from minidl.nn import init
from minidl.nn.activations import LeakyReLU, LogSoftmax, ReLU, Sigmoid, Softmax, Tanh
from minidl.nn.containers import ModuleList, Sequential
from minidl.nn.layers import BilinearUpsample2d, Conv2d, ConvTranspose2d, Dropout, Flatten, Identity, Linear
from minidl.nn.losses import CrossEntropyLoss, MSELoss
from minidl.nn.module import LoadReport, Module, Parameter
from minidl.nn.normalization import LRN, BatchNorm1d, BatchNorm2d, LocalResponseNorm
from minidl.nn.windows import AdaptiveAvgPool2d, AvgPool2d, Crop, Fold, MaxPool2d, Unfold

__all__ = [
    "AdaptiveAvgPool2d", "AvgPool2d", "BatchNorm1d", "BatchNorm2d", "BilinearUpsample2d", "Conv2d", "ConvTranspose2d",
    "Crop", "CrossEntropyLoss", "Dropout", "Flatten", "Fold", "Identity", "LRN", "LeakyReLU", "Linear", "LoadReport",
    "LocalResponseNorm", "LogSoftmax", "MSELoss", "MaxPool2d", "Module", "ModuleList", "Parameter", "ReLU",
    "Sequential", "Sigmoid", "Softmax", "Tanh", "Unfold", "init",
]
