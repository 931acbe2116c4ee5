"""Build datasets/fashion_mnist_5k.npz from the four files of Fashion-MNIST.

    python datasets/make_fashion_mnist_5k.py [FOLDER] [--out FILE]

FOLDER holds train-images-idx3-ubyte.gz and its three siblings; the default is where Debian's package
`dataset-fashion-mnist` puts them. 400 train and 100 test images a class, train from the train file and test from
the test file, in random order. The same input gives the same bytes on every run, so the sha256 in SHA256SUMS can be
checked.
"""
from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs from a checkout that is not installed

import numpy as np

from minidl.data.idx import parse_idx, read_maybe_gzipped
from minidl.data.npz import write_npz
from minidl.data.split import balanced_split

DEBIAN = "/usr/share/datasets/fashion-mnist"
SEED = 0
TRAIN_IMAGES, TEST_IMAGES = 4000, 1000
# Of the unpacked files: Debian packs them again without the file name in the gzip header, so that the packed ones
# differ from Zalando's although they hold the same bytes.
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def read_checked(folder: Path, name: str) -> np.ndarray:
    """The array of one IDX file, gzipped or not, after its hash was checked."""
    packed = folder / f"{name}.gz"
    path = packed if packed.exists() else folder / name
    content = read_maybe_gzipped(path)
    array = parse_idx(content, str(path))  # first: for a damaged file it says more than a hash can
    arrived = hashlib.sha256(content).hexdigest()
    if arrived != SHA256[name]:
        raise ValueError(f"{path}: unpacked, it should have sha256 {SHA256[name]}, but has {arrived}; is it plain "
                         f"MNIST, whose files have the same names?")
    return array


def excerpt(images: np.ndarray, labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` of the images with their labels, equally many a class, in random order."""
    _, chosen = balanced_split(labels, count, SEED)
    return images[chosen], labels[chosen]


def build(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of the npz: uint8 images (n, 28, 28) and uint8 labels (n,), for train and test."""
    train = [read_checked(folder, name) for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")]
    test = [read_checked(folder, name) for name in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")]
    train_images, train_labels = excerpt(train[0], train[1], TRAIN_IMAGES)
    test_images, test_labels = excerpt(test[0], test[1], TEST_IMAGES)
    return {"train_images": train_images, "train_labels": train_labels,
            "test_images": test_images, "test_labels": test_labels}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Build fashion_mnist_5k.npz from the four Fashion-MNIST IDX files.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(DEBIAN), help=f"where they are (default {DEBIAN})")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("fashion_mnist_5k.npz"))
    options = parser.parse_args(arguments)
    try:
        write_npz(options.out, build(options.folder))
    except (OSError, ValueError) as error:
        print(f"make_fashion_mnist_5k: {error}", file=sys.stderr)
        return 1
    print(f"{hashlib.sha256(options.out.read_bytes()).hexdigest()}  {options.out.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
