"""What the functions of this folder check before they touch an argument: the rule, what arrived, the likely fix."""
from __future__ import annotations

import operator

import numpy as np


def whole_number(who: str, name: str, value: object, minimum: int) -> int:
    """`value` as a Python int of at least `minimum`; bools and floats are refused, NumPy integers are welcome."""
    rule = f"{who}: {name} is an integer >= {minimum}"
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{rule}, but got the bool {value!r}; pass a number")
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{rule}, but got {value!r} ({type(value).__name__}); use int(...) or //, "
                        f"which keeps integers integers") from None
    if number < minimum:
        raise ValueError(f"{rule}, but got {number}; pass {minimum} or more")
    return number


def batch_of_images(who: str, images: object) -> np.ndarray:
    """`images` if it is a NumPy array (N, C, H, W)."""
    if not isinstance(images, np.ndarray):
        raise TypeError(f"{who}: images is a NumPy array (N, C, H, W), but got {type(images).__name__}; "
                        f"use tensor.numpy() or np.asarray(...) first")
    if images.ndim != 4:
        raise ValueError(f"{who}: images is (N, C, H, W), but got shape {images.shape}; "
                         f"for one image use image[None], for grey images without channels images[:, None]")
    return images


def random_generator(who: str, rng: object) -> np.random.Generator:
    """`rng` if it is a np.random.Generator."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"{who}: rng is a np.random.Generator, but got {rng!r} ({type(rng).__name__}); "
                        f"pass np.random.default_rng(0) or minidl.randomness.generator()")
    return rng


def label_vector(who: str, labels: object) -> np.ndarray:
    """`labels` if it is a NumPy integer array (N,) with N >= 1."""
    if not isinstance(labels, np.ndarray):
        raise TypeError(f"{who}: labels is a NumPy integer array (N,), but got {type(labels).__name__}; "
                        f"use np.asarray(labels)")
    if labels.ndim != 1 or labels.size == 0 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{who}: labels is an integer array (N,) with N >= 1, but got {labels.dtype} of shape "
                         f"{labels.shape}; one-hot labels become integers with labels.argmax(axis=1)")
    return labels


def summary(record: object) -> str:
    """What a dataclass of arrays prints: names, shapes and dtypes, not the numbers."""
    parts = [f"{name}={value.dtype}{value.shape}" if isinstance(value, np.ndarray) else f"{name}={value!r}"
             for name, value in vars(record).items()]
    return f"{type(record).__name__}({', '.join(parts)})"
