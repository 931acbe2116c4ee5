"""How much of the image one output pixel depends on: the receptive field, followed operation by operation.

    size_out = size_in + (kernel - 1) * step_in        step_out = step_in * stride

in each direction, from size 1 and step 1 at the image. A transposed convolution has stride 1 / s. What gives up height and
width (flatten, an average over the whole map) looks at all of it: kernel = the map's size. Padding counts like image.
"""
from typing import Any, NamedTuple

from minidl.function import Function

Pair = tuple[float, float]


class Field(NamedTuple):
    """What one output pixel sees of the image."""

    size: Pair
    """Height and width in pixels of the image."""
    step: Pair | None
    """How far apart two neighbours see (the stride of all layers so far); None where there are no neighbours any more."""


IMAGE = Field((1, 1), (1, 1))
"""A pixel of the image sees itself."""


def seen_through(function: Function, inputs: list[tuple[tuple, Field | None]], shapes: list[tuple],
                 y_shape: tuple) -> Field | None:
    """The field of the output, None where it is not known.

    inputs: (shape, field) of those inputs that depend on the image, at least one; shapes: of all inputs. Of several inputs
    the largest field counts, in each direction.
    """
    fields = []
    for shape, field in inputs:
        grown = _through_one(function, shape, field, shapes, y_shape)
        if grown is None:
            return None
        fields.append(grown)
    size = max(field.size[0] for field in fields), max(field.size[1] for field in fields)
    steps = [field.step for field in fields if field.step is not None]
    if not steps or len(y_shape) != 4:
        return Field(size, None)
    return Field(size, (min(step[0] for step in steps), min(step[1] for step in steps)))


def _through_one(function: Function, x_shape: tuple, field: Field | None, shapes: list[tuple], y_shape: tuple) -> Field | None:
    if field is None or field.step is None:
        return field
    window = function.window(*shapes) or _window_of_others(function, x_shape, y_shape)
    if window is None:
        return None
    sizes = [_whole(size + (kernel - 1) * step) for size, kernel, step in zip(field.size, window[0], field.step)]
    steps = [_whole(step * stride) for step, stride in zip(field.step, window[1])]
    return Field((sizes[0], sizes[1]), (steps[0], steps[1]))


def _window_of_others(function: Function, x: tuple, y: tuple) -> tuple[Pair, Pair] | None:
    """(kernel, stride) of an operation on images x (N, C, H, W) that slides no window; None if it cannot be told."""
    whole_map = (x[2], x[3]), (x[2], x[3])
    if function.name == "getitem":
        return (1, 1), steps_of_slices(function.index)  # type: ignore[attr-defined]
    if function.name in ("crop", "pad", "concat"):
        return (1, 1), (1, 1)
    if len(y) <= 2:
        return whole_map
    if len(y) != 4 or function.name in ("transpose", "matmul", "linear"):
        return None  # height and width are elsewhere, or mixed
    if all(after == before or before == 1 for before, after in zip(x[2:], y[2:])):  # element by element, or broadcast
        return (1, 1), (1, 1)
    return whole_map if y[2:] == (1, 1) else None


def only_slices(index: Any) -> bool:
    """Whether `x[index]` is a view: slices, integers, ... and None, but no arrays."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is Ellipsis or isinstance(part, (int, slice)) for part in parts)


def steps_of_slices(index: Any) -> tuple[int, int]:
    """The steps along height and width of x[index], x (N, C, H, W): (2, 2) for x[:, :, ::2, ::2]."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if not only_slices(index) or None in parts:
        return 1, 1
    if Ellipsis in parts:
        place = parts.index(Ellipsis)
        parts[place : place + 1] = [slice(None)] * (5 - len(parts))
    parts += [slice(None)] * (4 - len(parts))
    height, width = (abs(part.step or 1) if isinstance(part, slice) else 1 for part in parts[2:4])
    return height, width


def _whole(x: float) -> float:
    """32 * (1 / 32) is the integer 1 again."""
    return round(x) if abs(x - round(x)) < 1e-9 else x
