"""The bundled sets: what they hold, what they do not, and what happens when a file is damaged."""
import functools
import hashlib
import re

import numpy as np
import pytest

from minidl.data import bundled, datasets, digits, fashion_mnist

cached_fashion = functools.lru_cache(maxsize=None)(fashion_mnist)
SETS = [(cached_fashion, 4000, 1000, 28), (digits, 1400, 397, 8)]


@pytest.mark.parametrize("load, train, test, side", SETS, ids=["fashion", "digits"])
def test_shapes_dtypes_and_ranges_are_the_promised_ones(load, train, test, side):
    data = load()
    for images, labels, n in ((data.train_images, data.train_labels, train), (data.test_images, data.test_labels, test),
                              (data.validation_images, data.validation_labels, 0)):
        assert images.shape == (n, 1, side, side) and images.dtype == np.float32
        assert labels.shape == (n,) and labels.dtype == np.int64
        assert n == 0 or (images.min() == 0 and images.max() == 1 and set(labels) == set(range(10)))
    assert len(data.class_names) == 10 and isinstance(data.class_names, tuple)


@pytest.mark.parametrize("load, train, test, side", SETS, ids=["fashion", "digits"])
def test_neither_part_is_sorted_by_class(load, train, test, side):
    data = load()
    for labels in (data.train_labels, data.test_labels):
        changes = (labels[1:] != labels[:-1]).mean()  # 0.9 for a random order of ten classes, about 0 for a sorted one
        assert 0.85 < changes < 0.95
        assert len(set(labels[:100])) == 10


def test_fashion_is_balanced_and_digits_nearly():
    data = cached_fashion()
    assert (np.bincount(data.train_labels) == 400).all() and (np.bincount(data.test_labels) == 100).all()
    assert set(np.bincount(digits().test_labels)) == {39, 40}


@pytest.mark.parametrize("load, train, test, side", SETS, ids=["fashion", "digits"])
def test_no_test_image_is_a_train_image(load, train, test, side):
    data = load()
    seen = {image.tobytes() for image in data.train_images}
    repeated = sum(image.tobytes() in seen for image in data.test_images)
    assert repeated == 0


@pytest.mark.parametrize("load, train, test, side", SETS, ids=["fashion", "digits"])
def test_the_labels_belong_to_the_images(load, train, test, side):
    # The nearest class mean is far better than chance, but only if labels and images were moved alike.
    data = load()
    means = np.stack([data.train_images[data.train_labels == c].mean(axis=0).ravel() for c in range(10)])
    x = data.test_images.reshape(test, -1)
    nearest = (means**2).sum(axis=1) - 2 * x @ means.T
    accuracy = (nearest.argmin(axis=1) == data.test_labels).mean()
    assert accuracy > {28: 0.6, 8: 0.85}[side]


def test_class_names_match_what_the_images_show():
    data = cached_fashion()
    width = {name: (data.train_images[data.train_labels == c].mean(axis=(0, 1))[14] > 0.1).sum()
             for c, name in enumerate(data.class_names)}
    assert width["Trouser"] < width["T-shirt/top"] < width["Bag"] and width["Dress"] < width["Coat"]


def test_a_validation_split_is_balanced_seeded_and_taken_out_of_train():
    whole, data, again = fashion_mnist(), fashion_mnist(validation=500), fashion_mnist(500)
    other = fashion_mnist(500, seed=1)
    assert data.train_images.shape[0] == 3500 and (np.bincount(data.validation_labels) == 50).all()
    assert (np.bincount(data.train_labels) == 350).all()
    np.testing.assert_array_equal(data.validation_images, again.validation_images)
    assert not np.array_equal(data.validation_images, other.validation_images)
    np.testing.assert_array_equal(data.test_images, whole.test_images)
    together = sorted(image.tobytes() for part in (data.train_images, data.validation_images) for image in part)
    assert together == sorted(image.tobytes() for image in whole.train_images)


def test_the_seed_of_the_digits_moves_validation_and_never_the_test_set():
    a, b = digits(validation=100, seed=1), digits(validation=100, seed=2)
    np.testing.assert_array_equal(a.test_images, b.test_images)
    assert not np.array_equal(a.validation_images, b.validation_images)


def test_writing_into_one_copy_does_not_reach_the_next():
    first = digits()
    first.train_images[:] = 7
    assert digits().train_images.max() == 1


@pytest.mark.parametrize("validation, error", [
    (-1, ValueError), (4000, ValueError), (0.1, TypeError), (True, TypeError)])
def test_an_impossible_validation_is_refused(validation, error):
    with pytest.raises(error, match="fashion_mnist: validation|held_out"):
        fashion_mnist(validation=validation)


def test_a_damaged_file_is_refused_with_both_hashes_and_a_fix(tmp_path, monkeypatch):
    content = bytearray(bundled.find("datasets", "digits.npz").read_bytes())
    content[5000] ^= 1
    (tmp_path / "digits.npz").write_bytes(content)
    monkeypatch.setattr(bundled, "find", lambda kind, name: tmp_path / name)
    with pytest.raises(ValueError) as caught:
        digits()
    for words in (datasets.SHA256["digits.npz"], hashlib.sha256(content).hexdigest(), "damaged", "git checkout"):
        assert words in str(caught.value)


def test_the_hashes_in_the_code_the_list_and_the_readme_are_those_of_the_files():
    folder = bundled.find("datasets")
    listed = dict(line.split()[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert listed == datasets.SHA256
    for name, expected in datasets.SHA256.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected
    assert sorted(re.findall(r"[0-9a-f]{64}", (folder / "README.md").read_text())) == sorted(listed.values())


def test_printing_a_dataset_shows_shapes_and_not_numbers():
    text = repr(digits())
    assert "train_images=float32(1400, 1, 8, 8)" in text and len(text) < 600
