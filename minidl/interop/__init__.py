"""Weights from and for other frameworks: safetensors, PyTorch's .pth, NumPy's .npz; whole networks as ONNX."""
from minidl.interop.onnx_export import export_onnx
from minidl.interop.pth import read_pth
from minidl.interop.weights import load, read_metadata, save

__all__ = ["export_onnx", "load", "read_metadata", "read_pth", "save"]
