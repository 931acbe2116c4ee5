"""Output files: refused before the work, written whole or not at all."""
import os

import pytest

from minidl.cli.errors import UserError
from minidl.cli.files import no_input, remove_if_empty, writable_file, writable_folder, write_atomically

ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def test_a_missing_folder_is_made_and_reported_as_new(tmp_path):
    folder = tmp_path / "a" / "b"
    assert writable_folder(folder, "--out") is True
    assert writable_folder(folder, "--out") is False
    assert list(folder.iterdir()) == []


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "taken").write_text("mine")
    for path in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(UserError, match="--out: "):
            writable_folder(path, "--out")
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.skipif(ROOT, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot write in"):
        writable_folder(tmp_path, "--out")


def test_a_folder_where_nothing_can_be_written_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.write_bytes", lambda *_: (_ for _ in ()).throw(OSError(30, "Read-only file system")))
    with pytest.raises(UserError, match="read-only file system"):
        writable_folder(tmp_path, "--out")


@pytest.mark.parametrize(("name", "words"), [
    ("", "is a folder"), ("missing/numbers.json", "make it first"), ("/dev/null", "is a device")])
def test_what_is_no_place_for_a_file_is_refused(tmp_path, name, words):
    with pytest.raises(UserError, match=words):
        writable_file(tmp_path / name, "--json")


def test_an_output_is_no_input_by_whatever_name(tmp_path):
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_text("mine")
    (tmp_path / "link").symlink_to(path)
    os.link(path, tmp_path / "hard")
    for name in (path, tmp_path / "link", tmp_path / "hard", tmp_path / "x" / ".." / "a"):
        with pytest.raises(UserError, match="--json: .* is read, and must not be replaced"):
            no_input(name, "--json", None, other, path)
    no_input(other, "--json", None, path)


def test_a_file_is_replaced_in_one_step(tmp_path):
    path = tmp_path / "numbers.json"
    path.write_text("old")
    seen = []

    def write(temporary):
        temporary.write_text("new")
        seen.append(path.read_text())

    write_atomically(path, write)
    assert (seen, path.read_text()) == (["old"], "new")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "numbers.json"
    path.write_text("old")

    def write(temporary):
        temporary.write_text("ne")
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, write)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_only_an_empty_folder_is_removed(tmp_path):
    for name in ("empty", "full"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "file").write_text("")
    for name in ("empty", "full", "missing"):
        remove_if_empty(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
