"""assert_gradients: gradcheck and the rest of what an operation owes its users, for a pytest file."""
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from minidl.autograd import Tensor, no_grad
from minidl.backend import Array, array_module, is_array
from minidl.checking.gradcheck import gradcheck
from minidl.checking.report import GradcheckError


def _raw(x: Any) -> Any:
    return x.data if isinstance(x, Tensor) else x


def _is_floating(x: Any) -> bool:
    return is_array(_raw(x)) and _raw(x).dtype.kind == "f"


def assert_gradients(f: Callable, *inputs: Any, seeds: Iterable[int] = (0, 1), **options: Any) -> None:
    """Fails, with input, index, got and expected, unless f's gradients are right and f keeps the house rules.

    Runs `gradcheck(f, inputs, seed=..., **options)` for every seed, then checks that f keeps float32 (output and
    gradients) and gives the same result for strided inputs as for contiguous ones.
    f: from Tensors to a Tensor (or a tuple); inputs: arrays or Tensors; options: those of `gradcheck`.
    """
    for seed in seeds:
        gradcheck(f, inputs, seed=seed, **options)
    if not options.get("parameters"):  # parameters have a dtype of their own
        _assert_float32_kept(f, inputs)
    _assert_strides_do_not_matter(f, inputs, options)


def _outputs(f: Callable, inputs: list) -> tuple[Tensor, ...]:
    ys = f(*inputs)
    return tuple(ys) if isinstance(ys, (tuple, list)) else (ys,)


def _assert_float32_kept(f: Callable, inputs: tuple) -> None:
    tensors = [Tensor(_raw(x).astype(np.float32), requires_grad=True) if _is_floating(x) else x for x in inputs]
    ys = _outputs(f, tensors)
    for y in ys:
        if y.dtype != np.float32:
            raise GradcheckError(f"assert_gradients: float32 inputs gave a {y.dtype} output: a constant or an array inside f "
                                "has another dtype")
    for y in ys:
        if y.requires_grad:
            y.sum().backward()
            break
    for i, x in enumerate(tensors):
        if isinstance(x, Tensor) and x.grad is not None and x.grad.dtype != np.float32:
            raise GradcheckError(f"assert_gradients: float32 input {i} got a {x.grad.dtype} gradient")


def _assert_strides_do_not_matter(f: Callable, inputs: tuple, options: dict) -> None:
    if options.get("parameters"):
        return

    def strided(x: Array) -> Array:
        wide = array_module(x).zeros((*x.shape[:-1], 2 * x.shape[-1]) if x.ndim else 2)
        view = wide[..., ::2] if x.ndim else wide[::2].reshape(())
        view[...] = x
        return view

    plain = [Tensor(_raw(x).astype(np.float64)) if _is_floating(x) else x for x in inputs]
    spread = [Tensor(strided(_raw(x))) if _is_floating(x) else x for x in inputs]
    with no_grad():
        for y, z in zip(_outputs(f, plain), _outputs(f, spread)):
            if y.shape != z.shape or not np.allclose(y.numpy(), z.numpy(), rtol=1e-12, atol=1e-12):
                raise GradcheckError("assert_gradients: strided inputs (every second element of an array) give another "
                                    "result than contiguous ones: does f look at strides or memory order?")
