"""Augmentation and normalisation of image batches (N, C, H, W), in NumPy.

Every function returns a new array of the same dtype and never writes into its input. The random ones take the generator
to draw from, and decide for each image separately. Together they make the `transform` of a DataLoader:

    def augment(images, rng):
        return random_horizontal_flip(random_crop(images, rng, padding=4), rng)
"""
from __future__ import annotations

import numbers

import numpy as np

from minidl.data import checks


def normalize(images: np.ndarray, mean: float | np.ndarray, std: float | np.ndarray) -> np.ndarray:
    """(images - mean) / std, where mean and std are numbers or one number per channel (C,).

    Take both from the train images (`images.mean(axis=(0, 2, 3))`) and use the same ones for the test images.
    Nothing here is random, so there is no rng. Raises TypeError for integer images, ValueError for a std <= 0.
    """
    images = checks.batch_of_images("normalize", images)
    if not np.issubdtype(images.dtype, np.floating):
        raise TypeError(f"normalize: images is a floating-point array, but got {images.dtype}; "
                        f"use images.astype(np.float32) / 255")
    C = images.shape[1]
    center, spread = (_per_channel(name, value, C) for name, value in (("mean", mean), ("std", std)))
    if not (spread > 0).all():
        raise ValueError(f"normalize: std is > 0 in every channel, but got {std!r}; a channel that never changes "
                         f"needs no scaling: use 1 for it")
    return (images - center.astype(images.dtype)) / spread.astype(images.dtype)


def _per_channel(name: str, value: object, C: int) -> np.ndarray:
    """`value` in the shape (C, 1, 1) or (1, 1, 1), which broadcasts against (N, C, H, W)."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty((0, 0))
    if array.shape not in ((), (C,)) or not np.isfinite(array).all():
        raise ValueError(f"normalize: {name} is a finite number or one per channel ({C},), but got {value!r}; "
                         f"did you forget axis=(0, 2, 3) when you computed it?")
    return array.reshape(-1, 1, 1)


def random_horizontal_flip(images: np.ndarray, rng: np.random.Generator, probability: float = 0.5) -> np.ndarray:
    """Mirror each image left to right with the given probability. Not for data where sides matter, such as digits."""
    images = checks.batch_of_images("random_horizontal_flip", images)
    rng = checks.random_generator("random_horizontal_flip", rng)
    if not isinstance(probability, (int, float, np.floating)) or not 0 <= probability <= 1:
        raise ValueError(f"random_horizontal_flip: probability is a number from 0 to 1, but got {probability!r}; "
                         f"0.5 is the usual one")
    flip = rng.random(len(images)) < probability
    return np.where(flip[:, None, None, None], images[..., ::-1], images)


def random_crop(images: np.ndarray, rng: np.random.Generator, padding: int = 4, size: int | None = None) -> np.ndarray:
    """Surround each image with `padding` zeros, then cut a (size, size) window at a random place.

    images (N, C, H, W) -> (N, C, size, size); without a size, (N, C, H, W): a shift by up to `padding` pixels.
    He et al. 2015, section 4.2, use padding=4 on 32x32 images. After `normalize`, zero is the mean colour.
    """
    images = checks.batch_of_images("random_crop", images)
    rng = checks.random_generator("random_crop", rng)
    padding = checks.whole_number("random_crop", "padding", padding, 0)
    N, C, H, W = images.shape
    height, width = (H, W) if size is None else (checks.whole_number("random_crop", "size", size, 1),) * 2
    if height > H + 2 * padding or width > W + 2 * padding:
        raise ValueError(f"random_crop: size fits into the padded image ({H + 2 * padding}, {W + 2 * padding}), "
                         f"but got {size}; raise padding or crop less")
    padded = np.pad(images, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    top = rng.integers(H + 2 * padding - height + 1, size=(N, 1))
    left = rng.integers(W + 2 * padding - width + 1, size=(N, 1))
    rows = (top + np.arange(height))[:, None, :, None]
    columns = (left + np.arange(width))[:, None, None, :]
    return padded[np.arange(N)[:, None, None, None], np.arange(C)[:, None, None], rows, columns]


def cutout(images: np.ndarray, rng: np.random.Generator, size: int = 8, fill: float = 0.0) -> np.ndarray:
    """Overwrite one square of `size` x `size` pixels in each image with `fill`, in all channels.

    The square's middle is any pixel, so near the border part of it falls outside and less is erased (DeVries and
    Taylor 2017, arXiv:1708.04552). After `normalize`, the usual fill 0 is the mean colour.
    """
    images = checks.batch_of_images("cutout", images)
    rng = checks.random_generator("cutout", rng)
    size = checks.whole_number("cutout", "size", size, 1)
    limits = np.iinfo(images.dtype) if np.issubdtype(images.dtype, np.integer) else None
    if not isinstance(fill, numbers.Real) or limits and not limits.min <= fill <= limits.max:
        raise ValueError(f"cutout: fill is a number that fits into {images.dtype}, but got {fill!r}; "
                         f"0 is the usual one")
    N, _, H, W = images.shape
    rows = _stripe(rng, N, H, size)[:, None, :, None]
    columns = _stripe(rng, N, W, size)[:, None, None, :]
    return np.where(rows & columns, images.dtype.type(fill), images)


def _stripe(rng: np.random.Generator, N: int, length: int, size: int) -> np.ndarray:
    """bool (N, length): in each row `size` neighbours are True, around a random position, clipped at the ends."""
    start = rng.integers(length, size=(N, 1)) - size // 2
    position = np.arange(length)
    return (position >= start) & (position < start + size)
