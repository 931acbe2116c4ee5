"""A generator of labelled pictures: one bright or dark shape on a textured background, with its box, mask and size.

Made for lessons on classification, boxes, segmentation and object size, where no freely licensed set is small enough.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minidl.data import checks
from minidl.randomness import check_seed

CLASS_NAMES = ("circle", "square", "triangle", "cross", "diamond", "ring")
SMALLEST = 7  # pixels; below this a ring has no visible hole
_DARK, _LIGHT = (0.15, 0.35), (0.65, 0.85)  # bands of brightness; shape and background are in opposite ones
_LABELS, _PICTURE = 0, 1  # keys that keep the two random streams apart


@dataclass(frozen=True, eq=False, repr=False)
class Shapes:
    """What `shapes` makes, N pictures of (size, size) pixels.

    images  float32 (N, 3, H, W) in [0, 1]
    labels  int64 (N,), an index into class_names
    boxes   int64 (N, 4): x0, y0, x1, y1 in pixels. x0, y0 are the first column and row of the shape, x1, y1 one past
            the last: x1 - x0 is the width and image[:, y0:y1, x0:x1] the shape, with no empty row or column around it
    masks   bool (N, H, W), True where the shape is
    sizes   int64 (N,), the longer side of the box in pixels
    """
    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    masks: np.ndarray
    sizes: np.ndarray
    class_names: tuple[str, ...]

    def __repr__(self) -> str:
        return checks.summary(self)


def shapes(n: int, size: int = 32, seed: int = 0, size_range: tuple[int, int] | None = None) -> Shapes:
    """`n` pictures with one shape each, somewhere, in some colours, on a textured background.

    size        side of the pictures in pixels
    size_range  (smallest, largest) longer side of a shape in pixels, both included; a third to two thirds of `size` if
                left out. Train on one range and test on another to see what a network makes of size
    seed        the same seed gives the same bits (on the same NumPy); minidl's generator is neither used nor changed

    Picture i depends on (i, size, seed, size_range) and not on n: asking for more adds pictures at the end. Each run of
    six pictures from the start holds every class once, in random order.

    Raises TypeError for numbers that are not integers, ValueError for sizes that are too small or do not fit.
    """
    n = checks.whole_number("shapes", "n", n, 1)
    size = checks.whole_number("shapes", "size", size, SMALLEST)
    seed = check_seed(seed, "shapes")
    smallest, largest = _size_range(size, size_range)
    images = np.empty((n, 3, size, size), np.float32)
    masks = np.zeros((n, size, size), bool)
    boxes = np.empty((n, 4), np.int64)
    labels = np.array([_label(seed, i) for i in range(n)], np.int64)
    sizes = np.empty(n, np.int64)
    for i in range(n):
        rng = _stream(seed, _PICTURE, i)
        s = sizes[i] = rng.integers(smallest, largest + 1)
        x0, y0 = rng.integers(0, size - s + 1, size=2)
        boxes[i] = x0, y0, x0 + s, y0 + s
        masks[i, y0:y0 + s, x0:x0 + s] = _outline(CLASS_NAMES[labels[i]], int(s))
        images[i] = _paint(rng, masks[i])
    return Shapes(images, labels, boxes, masks, sizes, CLASS_NAMES)


def _size_range(size: int, size_range: tuple[int, int] | None) -> tuple[int, int]:
    if size_range is None:
        return max(SMALLEST, size // 3), max(SMALLEST, 2 * size // 3)
    if not isinstance(size_range, (tuple, list)) or len(size_range) != 2:
        raise TypeError(f"shapes: size_range is a pair (smallest, largest) in pixels, but got {size_range!r}; "
                        f"for one size only, repeat it: (12, 12)")
    smallest, largest = (checks.whole_number("shapes", "size_range", value, SMALLEST) for value in size_range)
    if not smallest <= largest <= size:
        raise ValueError(f"shapes: size_range is (smallest, largest) with smallest <= largest <= size, but got "
                         f"{(smallest, largest)} for size {size}; swap them or make the pictures larger")
    return smallest, largest


def _stream(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _label(seed: int, i: int) -> int:
    """The class of picture i: entry i % 6 of the permutation that belongs to its run of six."""
    run, place = divmod(i, len(CLASS_NAMES))
    return int(_stream(seed, _LABELS, run).permutation(len(CLASS_NAMES))[place])


def _outline(name: str, s: int) -> np.ndarray:
    """bool (s, s): the shape, touching all four sides of its square, so that the square is its tight box."""
    centers = (2 * np.arange(s) + 1) / s - 1  # of the pixels, in (-1, 1)
    v, u = centers[:, None], centers[None, :]  # v down, u to the right
    rounding = 1e-9  # the corner pixels lie exactly on the outline
    if name == "circle":
        return u**2 + v**2 <= 1
    if name == "square":
        return np.ones((s, s), bool)
    if name == "triangle":  # half a pixel wider than the lines: the tip would fall between two pixels
        return np.abs(u) <= (v + 1) / 2 + 0.5 / s + rounding
    if name == "cross":
        return (np.abs(u) <= 1 / 3) | (np.abs(v) <= 1 / 3)
    if name == "diamond":
        return np.abs(u) + np.abs(v) <= 1 + rounding
    return (u**2 + v**2 <= 1) & (u**2 + v**2 >= 0.5**2)  # ring


def _paint(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """float32 (3, H, W): textured background, and the shape in a colour of the opposite brightness.

    Which of the two is the bright one is a coin toss, so that the mean brightness does not give the picture away.
    """
    bands = (_DARK, _LIGHT) if rng.random() < 0.5 else (_LIGHT, _DARK)
    back, front = (rng.uniform(*band) + _tint(rng) for band in bands)
    background = back + 0.12 * _texture(rng, len(mask)) + 0.03 * rng.standard_normal((3, *mask.shape))
    foreground = front + 0.03 * rng.standard_normal((3, *mask.shape))
    return np.clip(np.where(mask, foreground, background), 0, 1).astype(np.float32)


def _tint(rng: np.random.Generator) -> np.ndarray:
    """A colour (3, 1, 1) whose three values add up to 0: it changes the hue and leaves the brightness in its band."""
    tint = rng.uniform(-0.2, 0.2, (3, 1, 1))
    return tint - tint.mean()


def _texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """Smooth blotches (3, size, size) in [-1, 1]: a coarse grid of noise, interpolated linearly along both axes."""
    knots = int(rng.integers(4, 8))
    grid = rng.uniform(-1, 1, (3, knots, knots))
    position = np.linspace(0, knots - 1, size)
    left = np.minimum(position.astype(int), knots - 2)
    weight = position - left
    rows = grid[:, left] * (1 - weight)[:, None] + grid[:, left + 1] * weight[:, None]  # (3, size, knots)
    return rows[:, :, left] * (1 - weight) + rows[:, :, left + 1] * weight
