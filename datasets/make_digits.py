"""Build datasets/digits.npz from the csv that scikit-learn carries.

    python datasets/make_digits.py CSV [--out FILE]

CSV is sklearn/datasets/data/digits.csv.gz out of any scikit-learn wheel (a wheel is a zip file): 1,797 rows of
64 pixels 0..16 and the digit. The images keep the order of the csv, so that image i is scikit-learn's image i.
"""
from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs from a checkout that is not installed

import numpy as np

from minidl.data.idx import read_maybe_gzipped
from minidl.data.npz import write_npz

SHA256 = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"  # of the unpacked csv


def parse(content: bytes, name: str) -> dict[str, np.ndarray]:
    """uint8 images (N, 8, 8) with values 0..16 and uint8 labels (N,) from the rows of the csv."""
    rows = []
    for number, line in enumerate(content.decode("ascii", "replace").split(), start=1):
        fields = line.split(",")
        values = [int(field) if field.isascii() and field.isdigit() else -1 for field in fields]
        if len(values) != 65 or min(values) < 0 or max(values[:64]) > 16 or values[64] > 9:
            raise ValueError(f"{name}: a row is 64 pixels 0..16 and a digit 0..9, but row {number} has {len(fields)} "
                             f"fields and reads {line[:60]!r}; is it sklearn/datasets/data/digits.csv.gz?")
        rows.append(values)
    if not rows:
        raise ValueError(f"{name}: has rows of 64 pixels and a digit, but is empty; take it out of the wheel again")
    table = np.array(rows, np.uint8)
    return {"images": table[:, :64].reshape(-1, 8, 8), "labels": table[:, 64]}


def build(csv: Path) -> dict[str, np.ndarray]:
    """The arrays of the npz, after the csv's hash was checked."""
    content = read_maybe_gzipped(csv)
    arrays = parse(content, str(csv))  # first: for a damaged file it says more than a hash can
    arrived = hashlib.sha256(content).hexdigest()
    if arrived != SHA256:
        raise ValueError(f"{csv}: unpacked, it should have sha256 {SHA256}, but has {arrived}; has a newer "
                         f"scikit-learn changed it? Then compare, and change the constant")
    return arrays


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Build digits.npz from scikit-learn's digits.csv.gz.")
    parser.add_argument("csv", type=Path, help="sklearn/datasets/data/digits.csv.gz, packed or not")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("digits.npz"))
    options = parser.parse_args(arguments)
    try:
        write_npz(options.out, build(options.csv))
    except (OSError, ValueError) as error:
        print(f"make_digits: {error}", file=sys.stderr)
        return 1
    print(f"{hashlib.sha256(options.out.read_bytes()).hexdigest()}  {options.out.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
