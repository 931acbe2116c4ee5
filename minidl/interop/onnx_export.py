"""Networks as ONNX files, which onnxruntime and many other programs run without minidl.

    minidl.interop.export_onnx(net, "net.onnx", (3, 224, 224))

Three steps, a file each: onnx_trace.py sends shapes through the net and takes down the operations; onnx_table.py says how
each operation is written in ONNX, and onnx_graph.py keeps the names; this file turns the result into a checked file.
"""
import operator
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from minidl import __version__
from minidl.files import write_atomically
from minidl.interop.onnx_graph import Graph
from minidl.interop.onnx_table import TRANSLATIONS
from minidl.interop.onnx_trace import Trace, trace, trace_any_batch, trace_with_values
from minidl.nn import Module

OPSETS = range(13, 18)
"""Versions of the operators that the table is written for; 18 moved the axes of ReduceMean and ReduceMax."""

IR_VERSION = 8
"""Version of the file format: the one that came with opset 17, so that older runtimes read it too."""

LARGEST = 2**31 - 2**20
"""Bytes that a graph may take: protobuf's messages end below 2 GiB, and the file holds a little more than the graph."""


class Exported(NamedTuple):
    """What was written."""

    path: Path
    output: str
    """"logits" or "scores"."""
    output_shape: tuple
    """With the batch's name where that is open."""
    nodes: int
    constants: int
    """Parameters, buffers and numbers that the nodes read."""
    opset: int
    size: int
    """Of the file, in bytes."""


def export_onnx(net: Module, path: str | Path, input_shape: tuple[int, ...], *, batch: str | int = "N", opset: int = 17,
                metadata: Mapping[str, str] | None = None) -> Exported:
    """Writes what `net` does in evaluation mode as an ONNX model, and returns what was written.

    input_shape: of one image, (C, H, W). batch: the name of an axis of any size, or a fixed number of images. Input
    "images" (batch, C, H, W); output "logits", or "scores" where the net returns maps (batch, classes, H, W). Constants have
    the state dict's names, nodes those of the modules; what evaluation does not use (dropout, auxiliary heads) is left out.
    Numbers are float32; a float64 net is rounded to it, since onnxruntime has no convolution in float64.
    Only operations on tensors are seen, and one way through the net: a branch on what images show cannot be exported.

    `path` is replaced once the whole file has been written and checked by onnx.checker, shapes included.
    Errors: ImportError without onnx; ValueError for operations without an ONNX form, for what depends on the batch size, and
    above protobuf's 2 GiB; TypeError for a net that is no Module or returns no tensor; OSError as in `write_atomically`.
    """
    onnx = _import_onnx()
    shape, batch = _image_shape(net, input_shape), _batch(batch)
    if opset not in OPSETS:
        raise ValueError(f"export_onnx: opset must be {OPSETS[0]} to {OPSETS[-1]}, got {opset!r}; 17 is read by every "
                         "onnxruntime since 1.12")
    properties = _properties(metadata)
    taken = [trace(net, shape, batch)] if isinstance(batch, int) else trace_any_batch(net, shape)
    name, output_shape = "scores" if len(taken[0].shape) == 4 else "logits", _output_shape(taken[0], batch)
    graphs = [_graph(net, t, name) for t in taken]
    if graphs[0].loose:  # this costs a forward pass
        graphs.append(_graph(net, trace_with_values(net, taken), name))
    _refuse_if_different(*graphs)
    model = onnx.ModelProto(ir_version=IR_VERSION, producer_name="minidl", producer_version=__version__)
    model.opset_import.add(version=opset)
    for key, value in properties.items():
        model.metadata_props.add(key=key, value=value)
    model.graph.name = type(net).__name__
    model.graph.node.extend(graphs[0].nodes)
    model.graph.input.append(_value(onnx, "images", (batch, *shape)))
    model.graph.output.append(_value(onnx, name, output_shape))
    size = _write_checked(onnx, Path(path), model, graphs[0].constants)
    return Exported(Path(path), name, output_shape, len(graphs[0].nodes), len(graphs[0].constants), opset, size)


def _graph(net: Module, taken: Trace, output_name: str) -> Graph:
    graph = Graph(net, taken.images, "images", output_name)
    for call in taken.calls:
        translate = TRANSLATIONS.get(type(call.function))
        if translate is None:
            known = ", ".join(sorted(function.name for function in TRANSLATIONS))
            raise ValueError(f"export_onnx: {call.name}: the operation {call.function.name} (module "
                             f"{type(call.module).__name__}) has no ONNX form in minidl; these have: {known}. Build it from "
                             "them, or add an entry to minidl.interop.onnx_table.TRANSLATIONS")
        graph.write(call, translate)
    graph.end(taken.output)
    return graph


def _refuse_if_different(graph: Graph, *others: Graph) -> None:
    """What was written for one batch must be what was written for others, larger or of other images."""
    for other in others:
        nodes = [f"{node.name} ({node.op_type})" for node, node_2 in zip(graph.nodes, other.nodes) if node != node_2]
        constants = [name for name, x in graph.constants.items() if not _same(x, other.constants.get(name))]
        if nodes or constants:
            raise ValueError(
                f"export_onnx: {(nodes or constants)[0]} depends on the images in the batch, on their number or on what they "
                "show, and the file would keep one result for all: compute with minidl's operations on tensors, "
                "x.mean(axis=0) rather than x.sum(axis=0) / len(x), and without masks, argmax or .item(); or fix the number "
                "by batch=<the number>")


def _same(x: np.ndarray, y: np.ndarray | None) -> bool:
    return x is y or y is not None and x.dtype == y.dtype and np.array_equal(x, y, equal_nan=True)


def _value(onnx: ModuleType, name: str, shape: tuple) -> Any:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def _output_shape(taken: Trace, batch: str | int) -> tuple:
    """The sizes, with the name of the batch where the number of images stands."""
    images = taken.images.shape[0]
    return tuple(batch if n is None and m == images else n for n, m in zip(taken.shape, taken.output.shape))


# --- the file ---------------------------------------------------------------------------------------------------------


def _write_checked(onnx: ModuleType, path: Path, model: Any, constants: dict[str, np.ndarray]) -> int:
    """Writes the file, lets the checker read it before it gets its name, and returns its size."""
    size = sum(x.nbytes for x in map(_as_written, constants.values()))
    if size > LARGEST:
        raise ValueError(f"export_onnx: the net takes {size / 2**30:.2f} GiB, but an ONNX file holds at most 2: "
                         "export its parts one by one, or a smaller net")

    def write(temporary: Path) -> None:
        for name, x in constants.items():
            model.graph.initializer.append(onnx.numpy_helper.from_array(_as_written(x), name))
        onnx.save_model(model, temporary, format="protobuf")
        model.Clear()  # its weights, before the checker reads its own
        try:
            onnx.checker.check_model(str(temporary), full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise RuntimeError("export_onnx: onnx.checker refuses what minidl wrote, and no file was made; "
                               f"this is a mistake of minidl, or of an entry added to its table: {error}") from None

    write_atomically(path, write)
    return path.stat().st_size


def _as_written(x: np.ndarray) -> np.ndarray:
    """Floating numbers as float32, whole ones (axes, shapes) as int64."""
    return np.asarray(x, np.float32 if x.dtype.kind == "f" else np.int64)


# --- what users pass ----------------------------------------------------------------------------------------------------


def _import_onnx() -> ModuleType:
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
        import onnx.shape_inference
    except ImportError as error:
        raise ImportError(f"export_onnx: needs the package onnx ({error}): pip install 'minidl[onnx]'") from None
    return onnx


def _image_shape(net: Any, input_shape: Any) -> tuple[int, ...]:
    if not isinstance(net, Module):
        hint = f": add parentheses, {net.__name__}(...)" if isinstance(net, type) else ""
        raise TypeError(f"export_onnx: net must be a Module, got {getattr(net, '__name__', type(net).__name__)}{hint}")
    if not isinstance(input_shape, (tuple, list)) or not input_shape or not all(
            isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 1 for n in input_shape):
        raise ValueError("export_onnx: input_shape must be the shape of one image such as (3, 224, 224), without the batch, "
                         f"got {input_shape!r}")
    return tuple(int(n) for n in input_shape)


def _batch(batch: Any) -> str | int:
    if isinstance(batch, str) and batch.isidentifier():
        return batch
    if isinstance(batch, (int, np.integer)) and not isinstance(batch, bool) and batch >= 1:
        return operator.index(batch)
    raise ValueError("export_onnx: batch must be a name for an axis of any size, such as 'N', or a number of images, "
                     f"got {batch!r}")


def _properties(metadata: Any) -> dict[str, str]:
    found = {} if metadata is None else metadata
    if not isinstance(found, Mapping) or not all(isinstance(text, str) for pair in found.items() for text in pair):
        raise TypeError(f"export_onnx: metadata must map strings to strings, got {metadata!r:.80}: turn numbers into text")
    return dict(found)
