"""find: the installed package first, then the checkout, and an error that names both."""
from pathlib import Path

import pytest

from minidl.data import bundled


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A made-up place with minidl/ in it; returns a function that puts a file there."""
    monkeypatch.setattr(bundled, "_PACKAGE", tmp_path / "minidl")

    def put(path, content="x"):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        return file
    return put


def test_the_installed_package_is_found_first(house):
    house("datasets/SHA256SUMS")
    house("datasets/a.npz")
    installed = house("minidl/bundled/datasets/a.npz")
    assert bundled.find("datasets", "a.npz") == installed


def test_a_checkout_is_found_when_the_package_does_not_have_the_file(house):
    house("datasets/SHA256SUMS")
    lesson = house("lessons/01_tensors.py")
    assert bundled.find("lessons", "01_tensors.py") == lesson
    assert bundled.find("lessons") == lesson.parent


def test_somebody_elses_package_called_datasets_is_not_taken_for_a_checkout(house):
    house("datasets/__init__.py")
    with pytest.raises(FileNotFoundError):
        bundled.find("datasets")
    with pytest.raises(FileNotFoundError):
        bundled.find("datasets", "__init__.py")


def test_a_missing_file_names_both_places(house, tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        bundled.find("datasets", "b.npz")
    assert str(tmp_path / "minidl" / "bundled" / "datasets" / "b.npz") in str(caught.value)
    assert str(tmp_path / "datasets" / "b.npz") in str(caught.value)
    assert "reinstall" in str(caught.value)


@pytest.mark.parametrize("kind, name, words", [
    ("digits.npz", "datasets", "swap kind and name"),
    ("", "", "kind is one of datasets, lessons"),
    ("datasets", "../pyproject.toml", "inside datasets/"),
    ("datasets", "/etc/passwd", "inside datasets/"),
])
def test_a_wrong_kind_or_a_name_that_leaves_the_folder_is_refused(kind, name, words):
    with pytest.raises(ValueError, match=words):
        bundled.find(kind, name)


def test_the_real_files_are_there():
    assert isinstance(bundled.find("datasets", "digits.npz"), Path)
    assert bundled.find("datasets", "fashion_mnist_5k.npz").is_file()
