"""A file is written whole or not at all, whatever stands in its place."""
import os
import stat

import pytest

from minidl.files import write_atomically

ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def new(path):
    path.write_text("new")


def test_a_file_is_made_and_replaced_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "file"
    for text in ("first", "second"):
        write_atomically(str(path), lambda temporary, text=text: temporary.write_text(text))
        assert path.read_text() == text
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_write_that_fails_late_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, where):
    path = tmp_path / "file"
    path.write_text("old")

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, where, full)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, new)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("target_is_there", [True, False])
def test_a_link_stays_a_link(tmp_path, target_is_there):
    target, link = tmp_path / "else" / "target", tmp_path / "link"
    target.parent.mkdir()
    if target_is_there:
        target.write_text("old")
    link.symlink_to(target)
    write_atomically(link, new)
    assert link.is_symlink() and target.read_text() == "new" and not target.is_symlink()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["else", "link", "target"]


def test_permissions_of_a_file_are_kept(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o600)
    write_atomically(path, new)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_longest_name_is_no_trouble(tmp_path):
    path = tmp_path / ("n" * 255)
    write_atomically(path, new)
    assert path.read_text() == "new"


def test_what_is_on_the_disk_before_the_rename_is_the_whole_file(tmp_path, monkeypatch):
    synced = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_size), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda *names: (synced.append("renamed"), replace(*names)))
    write_atomically(tmp_path / "file", new)
    assert synced == [3, "renamed"]


@pytest.mark.parametrize(("name", "error", "words"), [
    ("", IsADirectoryError, "but it is a folder"),
    ("missing/file", FileNotFoundError, "cannot write in the folder .*missing .no such file"),
    ("taken/file", OSError, "cannot write in the folder .*taken"),
])
def test_a_place_where_nothing_can_be_written_is_named_before_the_work(tmp_path, name, error, words):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(error, match=words):
        write_atomically(tmp_path / name, lambda temporary: pytest.fail("the work was done in vain"))
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name are a thing of Unix")
def test_a_pipe_or_a_device_is_never_replaced(tmp_path):
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link, os.devnull):
        with pytest.raises(OSError, match="is a device or a pipe; choose a file name"):
            write_atomically(path, lambda temporary: pytest.fail("the work was done in vain"))
    assert pipe.is_fifo() and link.is_symlink() and sorted(tmp_path.iterdir()) == [link, pipe]


@pytest.mark.skipif(ROOT, reason="root may write anywhere")
def test_a_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="cannot write in the folder .*permission denied"):
        write_atomically(tmp_path / "file", new)


def test_a_read_only_disk_is_named(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(OSError, match="cannot write in the folder .*read-only file system.*choose another place") as caught:
        write_atomically(tmp_path / "file", new)
    assert caught.value.errno == 30


def test_a_new_file_may_be_read_by_those_whom_the_umask_allows(tmp_path):
    def for_the_owner_only(temporary):
        temporary.unlink()
        temporary.write_text("new")
        temporary.chmod(0o600)

    before = os.umask(0o022)
    try:
        write_atomically(tmp_path / "x", for_the_owner_only)
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o644
