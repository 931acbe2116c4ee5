"""What every optimizer shares: its parameters in groups, its memory per parameter, saving and resuming."""
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from minidl.autograd import Tensor
from minidl.backend import Array, array_module, device_of, is_array, to_device, to_numpy
from minidl.threads import for_each, ranges


class Optimizer:
    """Changes parameters by their gradients. A subclass checks its options and says how one parameter is updated.

    params: an iterable of parameters, or of groups {"params": [...], "lr": ...} whose options override the others'.
    `param_groups` lists the groups as dictionaries; schedules write their "lr". Updates work on raw arrays, so no graph
    records them, and go through `.data`, so that a graph still waiting for its backward notices.
    """

    memory: tuple[str, ...] = ()
    """The names of the arrays that the optimizer keeps per parameter, each of the parameter's shape."""

    counts_steps: bool = False
    """Whether it keeps each parameter's number of steps too, as "step"."""

    def __init__(self, params: Any, options: dict[str, Any]) -> None:
        self.name = type(self).__name__
        self.param_groups = [self._group(i, group, options) for i, group in enumerate(_groups(self.name, params))]
        self.state: dict[Tensor, dict[str, Any]] = {}
        everything = [p for group in self.param_groups for p in group["params"]]
        if len(set(map(id, everything))) != len(everything):
            raise ValueError(f"{self.name}: a parameter is listed twice and would be updated twice per step: "
                             "put each parameter into one group, once")
        if not any(p.requires_grad for p in everything):
            raise ValueError(f"{self.name}: none of the {len(everything)} parameters requires a gradient, so there is "
                             "nothing to train: set requires_grad = True on some first")

    def check_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options of one group, checked and as plain Python numbers."""
        raise NotImplementedError(f"{type(self).__name__} must define check_options(self, options)")

    def update(self, parameter: Tensor, gradient: Array, options: dict[str, Any], memory: dict[str, Any]) -> None:
        """Changes `parameter.data`; `memory` holds what was kept at the last step, {} at the first."""
        raise NotImplementedError(f"{self.name} must define update(self, parameter, gradient, options, memory)")

    def step(self) -> None:
        """One update of every parameter that has a gradient; frozen ones (requires_grad False) are left alone."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.requires_grad:
                    memory = self.state.setdefault(parameter, {})
                    self._follow(parameter, memory)
                    self.update(parameter, parameter.grad, group, memory)

    def zero_grad(self) -> None:
        """Forgets every gradient (sets it to None): backward adds to what is there."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def state_dict(self) -> dict[str, np.ndarray]:
        """All that is needed to resume, as NumPy copies by name: "groups.0.lr", "state.3.momentum_buffer", ...

        Parameters are numbered through all groups, in order. A flat mapping: it can be written to any file of arrays.
        """
        options = {f"groups.{i}.{key}": np.array(value) for i, group in enumerate(self.param_groups)
                   for key, value in group.items() if key != "params"}
        numbered = enumerate(p for group in self.param_groups for p in group["params"])
        return options | {f"state.{i}.{key}": np.array(to_numpy(value) if is_array(value) else value)
                          for i, p in numbered for key, value in self.state.get(p, {}).items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where the optimizer that gave `state` stood. Strict, and all or nothing.

        Errors: TypeError for what is no mapping; ValueError that lists every entry that does not fit.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"{self.name}.load_state_dict: needs a mapping from names to arrays, got "
                            f"{type(state).__name__}; pass other.state_dict()")
        parameters = [p for group in self.param_groups for p in group["params"]]
        problems: list[str] = []
        expected = {f"groups.{i}.{key}": np.shape(value) for i, group in enumerate(self.param_groups)
                    for key, value in group.items() if key != "params"}
        for i, p in enumerate(parameters):
            entries = {f"state.{i}.step": ()} if self.counts_steps else {}
            entries |= {f"state.{i}.{key}": p.shape for key in self.memory}
            if any(key in state for key in entries):  # a parameter that never had a gradient has none of them
                expected |= entries
        problems += [f"missing: {key}" for key in expected if key not in state]
        problems += [f"unexpected: {key}" for key in state if key not in expected]
        values = {key: _entry(key, state[key], shape, problems) for key, shape in expected.items() if key in state}
        groups = [] if problems else [self._loaded_options(i, group, values, problems)
                                      for i, group in enumerate(self.param_groups)]
        if problems:
            head = f"{self.name}.load_state_dict: entries that do not fit: {len(problems)}; nothing was loaded"
            fix = "likely fix: make the optimizer with the class, parameters and groups of the one that was saved"
            raise ValueError("\n  ".join([head, *problems, fix]))
        for group, options in zip(self.param_groups, groups):
            group.update(options)
        self.state = {p: memory for i, p in enumerate(parameters) if (memory := self._loaded_memory(i, p, values))}

    # helpers

    def _group(self, index: int, group: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
        """One entry of `param_groups`, checked."""
        unknown = [key for key in group if key != "params" and key not in defaults]
        if unknown or "params" not in group:
            raise ValueError(f"{self.name}: group {index} must have 'params' and may set {', '.join(defaults)}, "
                             f"got the keys {list(group)}: is one misspelt?")
        params = parameter_list(f"{self.name}, group {index}" if index else self.name, group["params"])
        options = {key: group.get(key, value) for key, value in defaults.items()}
        return {"params": params, **self.check_options(options)}

    def _follow(self, parameter: Tensor, memory: dict[str, Any]) -> None:
        """Moves what is kept to where the parameter is now: `net.to(...)` may have come between two steps."""
        for key in self.memory:
            if key in memory and (memory[key].dtype != parameter.dtype or device_of(memory[key]) != parameter.device):
                memory[key] = to_device(memory[key].astype(parameter.dtype), parameter.device)

    def _loaded_options(self, index: int, group: dict[str, Any], values: dict[str, Any],
                        problems: list[str]) -> dict[str, Any]:
        found = {key: values[f"groups.{index}.{key}"].tolist() for key in group if key != "params"}
        try:
            return self.check_options({key: tuple(value) if isinstance(value, list) else value
                                       for key, value in found.items()})
        except (TypeError, ValueError) as error:
            problems.append(f"group {index}: {error}")
            return {}

    def _loaded_memory(self, index: int, parameter: Tensor, values: dict[str, Any]) -> dict[str, Any]:
        memory: dict[str, Any] = {}
        if f"state.{index}.step" in values:
            memory["step"] = int(values[f"state.{index}.step"])
        for key in self.memory:
            if f"state.{index}.{key}" in values:
                array = values[f"state.{index}.{key}"].astype(parameter.dtype)
                memory[key] = to_device(array, parameter.device)
        return memory


def remembered(memory: dict[str, Any], key: str, like: Array) -> Array:
    """The array kept under `key`: zeros at first."""
    if key not in memory:
        memory[key] = array_module(like).zeros_like(like)
    return memory[key]


def takes_kernel(p: Array) -> bool:
    """Whether a CUDA kernel updates this parameter: float32 without gaps on the GPU. Anything else goes array by array."""
    return device_of(p) == "cuda" and p.dtype == np.float32 and p.flags.c_contiguous


SLICE = 2**18
"""Numbers of a parameter that are updated at once."""


def in_slices(step: Callable[..., None], *arrays: Array) -> None:
    """step(slice of each array) for slices that cover arrays of one shape, on the CPU over threads.

    An update reads and writes several arrays as large as the parameter, again and again, and memory is slower than arithmetic:
    slice by slice each array passes through the cache once. `step` writes into the slices.
    """
    if not all(type(x) is np.ndarray and x.flags.c_contiguous for x in arrays) or arrays[0].size <= SLICE:
        step(*arrays)
        return
    flat = [x.reshape(-1) for x in arrays]
    for_each(lambda part: step(*(x[part] for x in flat)), ranges(flat[0].size, SLICE))


def parameter_list(who: str, params: Any) -> list[Tensor]:
    """`params` as a list of tensors that training may change, none of them missing."""
    if isinstance(params, Tensor):
        raise TypeError(f"{who}: needs an iterable of parameters, got one tensor: put it into a list, [parameter]")
    if isinstance(params, (Mapping, str)) or not isinstance(params, Iterable):
        raise TypeError(f"{who}: needs an iterable of parameters, got {type(params).__name__}: pass net.parameters()")
    found = list(params)
    if not found:
        raise ValueError(f"{who}: got no parameters: does the network have any, and was a generator net.parameters() "
                         "used up before? It can be walked once: list(net.parameters()) keeps them")
    for index, p in enumerate(found):
        if not isinstance(p, Tensor):
            hint = ", not net.named_parameters()" if isinstance(p, tuple) else ""
            raise TypeError(f"{who}: parameter {index} must be a Parameter, got {type(p).__name__}: "
                            f"pass net.parameters(){hint}")
        if p.node is not None:
            raise ValueError(f"{who}: parameter {index} {p.shape} was computed by {p.node.name}, so it is no leaf and "
                             "keeps no gradient: pass what it was computed from")
        # a frozen Parameter of a network may be passed along; a plain Tensor that asks for no gradient is a mistake
        if p.dtype.kind != "f" or (not p.requires_grad and type(p) is Tensor):
            raise ValueError(f"{who}: parameter {index} {p.dtype} {p.shape} requires no gradient and would never change: "
                             "make it with Tensor(x, requires_grad=True), x floating, or leave it out")
        if not getattr(p.data.flags, "writeable", True):
            raise ValueError(f"{who}: parameter {index} {p.shape} is read-only memory: make it of a copy, x.copy()")
    return found


def check_number(who: str, name: str, value: Any, below: float = math.inf) -> float:
    """`value` as a finite Python float, at least 0 and less than `below`."""
    rule = f"{who}: {name} must be a finite number of at least 0"
    rule += f" and below {below:g}" if below < math.inf else ""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{rule}, got {value!r} ({type(value).__name__}): pass a plain number")
    if not math.isfinite(value) or not 0 <= value < below:
        raise ValueError(f"{rule}, got {value!r}")
    return float(value)


def _groups(who: str, params: Any) -> list[dict[str, Any]]:
    """`params` as a list of groups."""
    if isinstance(params, (list, tuple)) and any(isinstance(p, Mapping) for p in params):
        wrong = [type(p).__name__ for p in params if not isinstance(p, Mapping)]
        if wrong:
            raise TypeError(f"{who}: got groups and {wrong[0]} mixed: put loose parameters into a group of their own, "
                            "{'params': [...]}")
        return [dict(group) for group in params]
    if isinstance(params, Mapping):
        raise TypeError(f"{who}: needs an iterable of parameters or of groups, got one {type(params).__name__}: "
                        "put a group into a list, [{'params': ...}]")
    return [{"params": params}]


def _entry(key: str, value: Any, shape: tuple[int, ...], problems: list[str]) -> np.ndarray | None:
    """`value` as a NumPy array if it fits; else a line in `problems`."""
    if not is_array(value) and not isinstance(value, (np.generic, bool, int, float)):
        problems.append(f"no array: {key} is a {type(value).__name__}")
        return None
    x = np.asarray(to_numpy(value))
    if x.dtype.kind not in "fiub" or (key.endswith(".step") and x.dtype.kind not in "iu"):
        problems.append(f"no numbers of the right kind: {key} is {x.dtype}")
    elif x.shape != shape:
        problems.append(f"misshapen: {key} is {x.shape}, expected {shape}")
    return x
