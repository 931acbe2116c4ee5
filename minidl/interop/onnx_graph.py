"""The ONNX graph while it is being written: its nodes, its constants, and one name for every value."""
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.backend import Array, to_numpy
from minidl.interop.onnx_trace import Call
from minidl.nn import Module


class Graph:
    """Nodes and constants, written call by call.

    Parameters and buffers have their names of the state dict (and its shapes); the result of a call has the call's.
    """

    def __init__(self, net: Module, images: Array, input_name: str, output_name: str) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        """Name -> array, in the order of first use. What the net holds but no operation reads is not among them."""
        held = [*((name, parameter.data) for name, parameter in net.named_parameters()), *net.named_buffers()]
        self.loose: set[str] = set()
        """Constants that the net does not hold: its code made them, as a number in a formula or from who knows what."""
        self._held = {id(x): name for name, x in held}
        self._names = {id(images): input_name}
        self._taken = {input_name, output_name, *(name for name, _ in held)}
        self._output_name = output_name
        self._prefixes = {id(module): f"{path}." if path else "" for path, module in net.named_modules()}
        self._call: Any = None

    def write(self, call: Call, translate: Callable[..., str]) -> None:
        """Adds the nodes of one call: `translate(graph, call, *names of the inputs)` writes them and names the result."""
        self._call, before = call, len(self.nodes)
        y = translate(self, call, *(self._name_of(i, x) for i, x in enumerate(call.inputs)))
        if len(self.nodes) > before:  # the last node bears the module's name, those before it what `node` called them
            y = self.nodes[-1].name = self.nodes[-1].output[0] = self._unused(call.name)
        self._names[id(call.output)] = y

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Adds an ONNX node with one output, and returns the name of that output."""
        from onnx import helper
        name = self._unused(f"{self._call.name}/{operator}")
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, label: str, value: Any, dtype: Any = np.float32) -> str:
        """Adds numbers that are nobody's parameter, and returns their name."""
        name = self._unused(f"{self._call.name}.{label}")
        self.constants[name] = np.asarray(value, dtype)
        return name

    def end(self, output: Array) -> None:
        """Gives the result of the last node, which is the net's output, its name. (Nothing else reads it: all leads to it.)"""
        from onnx import helper
        name = self._output_name
        if self.nodes:
            self.nodes[-1].output[0] = name
        else:  # a net that hands its input on
            self.nodes.append(helper.make_node("Identity", [self._names[id(output)]], [name], name))

    def _name_of(self, index: int, x: Array) -> str:
        """The name of input `index` of the current call; a constant that is not known yet is added."""
        if id(x) in self._names:
            return self._names[id(x)]
        call, label = self._call, self._call.function.input_name(index)
        if x.dtype.kind != "f":
            raise ValueError(
                f"export_onnx: {call.name}: input {label} of {call.function.name} is {x.dtype}, which no parameter is: "
                "what a net computes from images outside its operations (x > 0, argmax) cannot be exported")
        name = self._held.get(id(x)) or self._buffer_like(x, label)
        if name is None:
            self._names[id(x)] = self.constant(label, to_numpy(x))
            self.loose.add(self._names[id(x)])
        else:
            self._names[id(x)], self.constants[name] = name, to_numpy(x)
        return self._names[id(x)]

    def _buffer_like(self, x: Array, label: str) -> str | None:
        """The running module's buffer of which `x` is a copy: batch norm hands its running mean on as a copy."""
        for name, buffer in self._call.module.named_buffers():
            if name.endswith(label) and "." not in name and np.array_equal(to_numpy(x), to_numpy(buffer), equal_nan=True):
                return self._prefixes[id(self._call.module)] + name
        return None

    def _unused(self, name: str) -> str:
        """`name`, or name_2, name_3, ... where that is taken."""
        found, number = name, 1
        while found in self._taken:
            number += 1
            found = f"{name}_{number}"
        self._taken.add(found)
        return found
