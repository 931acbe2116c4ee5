"""What a constant factor in a gradient may be called: the batch, the size of a window, an option, two."""
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

WORDS = {4: ("the batch", "the channels", "the height", "the width"), 3: ("the batch",), 2: ("the batch", "the features"),
         1: ("the batch",)}


def named_numbers(numbers: Mapping[str, Any], y_shape: tuple[int, ...]) -> Iterator[tuple[str, float]]:
    """(what it is called, its value) for all that a forgotten or a needless factor may be."""
    arrays = {name: np.shape(x) for name, x in numbers.items() if isinstance(x, np.ndarray)}
    for place, (name, shape) in enumerate(arrays.items()):
        words: tuple[str, ...] = WORDS.get(len(shape), ()) if place == 0 else ()
        for axis, size in enumerate(shape):
            word = f"{words[axis]}, " if axis < len(words) else ""
            yield f"{word}{name}.shape[{axis}]", size
        yield from _products(name, shape, place == 0)
    for axis, size in enumerate(y_shape):
        yield f"out.shape[{axis}]", size
    yield from _products("out", y_shape, False)
    for name, value in numbers.items():
        if not isinstance(value, np.ndarray):
            yield from _option(name, value)


def _products(name: str, shape: tuple[int, ...], first: bool) -> Iterator[tuple[str, float]]:
    if len(shape) == 4:
        N, C, H, W = shape
        yield (f"H*W of {name}" if name in ("out",) or first else f"the window size, {name}.shape[2] * {name}.shape[3]"), H * W
        yield f"N*H*W of {name}", N * H * W
        yield f"C*H*W of {name}", C * H * W
        yield f"N*C of {name}", N * C
    if len(shape) == 3:
        yield f"{name}.shape[1] * {name}.shape[2]", shape[1] * shape[2]
        yield f"{name}.shape[0] * {name}.shape[2]", shape[0] * shape[2]
        yield f"{name}.shape[0] * {name}.shape[1]", shape[0] * shape[1]
    if len(shape) > 1:
        yield f"{name}.size", int(np.prod(shape))


def _option(name: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _option(f"{name}[{key!r}]", inner)
        keys = {str(k).lower(): v for k, v in value.items()}
        if "pool_height" in keys and "pool_width" in keys:
            yield "the window size, pool_height * pool_width", keys["pool_height"] * keys["pool_width"]
    elif isinstance(value, (tuple, list)) and len(value) <= 4 and all(isinstance(v, (int, float)) for v in value):
        for i, v in enumerate(value):
            yield f"{name}[{i}]", v
        if len(value) == 2:
            word = "the window size, " if _windowlike(name) else ""
            yield f"{word}{name}[0] * {name}[1]", value[0] * value[1]
    elif isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        value = float(value)
        yield name, value
        if 0 < value < 1:
            yield f"1 - {name}", 1 - value
        if value > 1 and value == int(value):
            yield f"the window size, {name}**2" if _windowlike(name) else f"{name}**2", value**2


def _windowlike(name: str) -> bool:
    return any(word in name.lower() for word in ("kernel", "size", "window", "pool", "k"))


def names_of(factor: float, numbers: Mapping[str, Any], y_shape: tuple[int, ...]) -> list[str]:
    """What the factor, or 1 / factor, may be called, whichever is at least 1: "the batch, x.shape[0]"."""
    size = max(abs(factor), 1 / abs(factor))
    shown: str
    value: float
    found = ["2, as of a square"] if _alike(size, 2) else []
    for name, number in named_numbers(numbers, y_shape):
        value = abs(float(number))
        if value in (0, 1) or not np.isfinite(value):
            continue
        shown, value = (name, value) if value > 1 else (f"1 / ({name})" if " " in name else f"1 / {name}", 1 / value)
        if _alike(size, value):
            found.append(shown)
        if _alike(size, value**0.5):
            found.append(f"the root of {shown}")
    return list(dict.fromkeys(found))


def _alike(a: float, b: float) -> bool:
    return abs(a - b) <= 2e-5 * abs(b)
