"""The bundled image sets, ready for a network: nothing is downloaded. Sources and licences: datasets/README.md."""
from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

import numpy as np

from minidl.data import bundled, checks
from minidl.data.split import balanced_split

SHA256 = {
    "fashion_mnist_5k.npz": "8046296a0ffd9327314f456d9cb289956d1a4540f6b356fb459d312b16181e73",
    "digits.npz": "0c2aff3ad3efa4c983d74435f40847c3f2dea3c33f362c61616f7b067d84c8fe",
}
_DIGITS_TEST = 397  # of 1,797; with a fixed seed, so that everybody's test accuracy is about the same images
_DIGITS_SEED = 0


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A labelled image set: images float32 (N, 1, H, W) in [0, 1], labels int64 (N,) in 0 .. len(class_names) - 1.

    The validation arrays are empty (N = 0) unless a validation split was asked for.
    """
    train_images: np.ndarray
    train_labels: np.ndarray
    validation_images: np.ndarray
    validation_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]

    def __repr__(self) -> str:
        return checks.summary(self)


def fashion_mnist(validation: int = 0, seed: int = 0) -> Dataset:
    """Zalando's article images, 28x28 grey, 10 classes: 4,000 to train on and 1,000 to test, balanced, in random order.

    A 5,000-image excerpt of Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747): train images come from its
    train file, test images from its test file. Accuracies are lower than those printed for the full 60,000.

    validation: how many train images to set apart, equally many a class (500 is 50 a class); `seed` picks which.

    Raises FileNotFoundError or ValueError if the bundled file is missing or damaged, ValueError for a validation that
    the train set cannot give.
    """
    arrays = _load("fashion_mnist_5k.npz")
    names = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
    return _dataset("fashion_mnist", validation, seed, names,
                    _images(arrays["train_images"], 255), _labels(arrays["train_labels"]),
                    _images(arrays["test_images"], 255), _labels(arrays["test_labels"]))


def digits(validation: int = 0, seed: int = 0) -> Dataset:
    """Handwritten digits, 8x8 grey, 10 classes: 1,400 to train on and 397 to test, always the same ones.

    The set that scikit-learn carries: the test file of UCI's "Optical Recognition of Handwritten Digits" (Alpaydin and
    Kaynak 1998). The file does not say who wrote which digit, so the same 13 writers are in train and test: accuracy
    here says little about new writers.

    validation: how many train images to set apart, equally many a class; `seed` picks which (the test set stays).

    Raises as `fashion_mnist` does.
    """
    arrays = _load("digits.npz")
    images, labels = _images(arrays["images"], 16), _labels(arrays["labels"])
    rest, held = balanced_split(labels, _DIGITS_TEST, _DIGITS_SEED)
    return _dataset("digits", validation, seed, tuple("0123456789"),
                    images[rest], labels[rest], images[held], labels[held])


def _dataset(who: str, validation: int, seed: int, names: tuple[str, ...], train_images: np.ndarray,
             train_labels: np.ndarray, test_images: np.ndarray, test_labels: np.ndarray) -> Dataset:
    if checks.whole_number(who, "validation", validation, 0):
        rest, held = balanced_split(train_labels, validation, seed)
    else:
        rest, held = np.arange(train_labels.size), np.arange(0)
    return Dataset(train_images[rest], train_labels[rest], train_images[held], train_labels[held],
                   test_images, test_labels, names)


def _images(pixels: np.ndarray, white: int) -> np.ndarray:
    """uint8 (N, H, W) with values 0 .. white -> float32 (N, 1, H, W) in [0, 1]."""
    return pixels[:, None].astype(np.float32) / np.float32(white)


def _labels(labels: np.ndarray) -> np.ndarray:
    return labels.astype(np.int64)


def _load(name: str) -> dict[str, np.ndarray]:
    """The arrays of a bundled file, after its hash was checked: the bytes that are hashed are those that are read."""
    path = bundled.find("datasets", name)
    content = path.read_bytes()
    arrived = hashlib.sha256(content).hexdigest()
    if arrived != SHA256[name]:
        raise ValueError(f"minidl.data: {path} should have sha256 {SHA256[name]}, but has {arrived} ({len(content)} "
                         f"bytes): it is damaged or was changed; reinstall minidl, or restore it with "
                         f"`git checkout -- datasets/{name}`")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}
