"""minidl convert: every form in, two forms out, nothing replaced unasked."""
import numpy as np
import pytest
from pth_writer import zip_pth

from minidl.cli.main import main
from minidl.data.npz import npz_bytes
from minidl.interop import load, read_metadata, save

W = np.arange(6, dtype=np.float32).reshape(2, 3)
STATE = {"conv.weight": W, "bn.num_batches_tracked": np.array(7, np.int64)}


@pytest.fixture
def sources(tmp_path):
    """A file of each form with STATE in it."""
    save(STATE, tmp_path / "a.safetensors", {"note": "x"})
    np.savez(tmp_path / "a.npz", **STATE)
    (tmp_path / "a.pth").write_bytes(zip_pth({"epoch": 3, "state_dict": STATE}))
    return tmp_path


@pytest.mark.parametrize("target", ["out.safetensors", "out.npz"])
@pytest.mark.parametrize("source", ["a.safetensors", "a.npz", "a.pth"])
def test_every_form_becomes_either(sources, source, target, capsys):
    assert main(["convert", str(sources / source), str(sources / target)]) == 0
    got = load(sources / target)
    assert got.keys() == STATE.keys()
    for name, x in STATE.items():
        assert got[name].dtype == x.dtype and got[name].shape == x.shape
        np.testing.assert_array_equal(got[name], x)
    assert capsys.readouterr().out == f"2 arrays, 7 numbers, 32 bytes -> {sources / target}\n"
    assert read_metadata(sources / target) == ({"note": "x"} if source == "a.safetensors" and target != "out.npz" else {})


def test_a_file_that_is_there_is_replaced_only_with_force(sources, capsys):
    target = sources / "out.npz"
    target.write_text("mine")
    arguments = ["convert", str(sources / "a.pth"), str(target)]
    assert main(arguments) == 2
    assert "is there already" in capsys.readouterr().err and target.read_text() == "mine"
    assert main([*arguments, "--force"]) == 0
    assert load(target).keys() == STATE.keys()


def test_the_file_that_is_read_is_never_replaced(sources, capsys):
    (sources / "link.npz").symlink_to("a.npz")
    before = (sources / "a.npz").read_bytes()
    for target in ("a.npz", "link.npz"):
        assert main(["convert", str(sources / "a.npz"), str(sources / target), "--force"]) == 2
        assert "must not be replaced" in capsys.readouterr().err
    assert (sources / "a.npz").read_bytes() == before and (sources / "link.npz").is_symlink()


def test_list_prints_a_table_and_writes_nothing(sources, capsys):
    before = sorted(sources.iterdir())
    assert main(["convert", str(sources / "a.pth"), "--list"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "conv.weight             2x3  float32", "bn.num_batches_tracked  ()   int64", "2 arrays, 7 numbers, 32 bytes"]
    assert main(["convert", str(sources / "a.pth"), str(sources / "out.npz"), "--list"]) == 2
    assert "--list writes nothing, but OUT is" in capsys.readouterr().err
    assert sorted(sources.iterdir()) == before


def test_names_that_a_terminal_would_obey_are_shown_harmless(tmp_path, capsys):
    (tmp_path / "a.pth").write_bytes(zip_pth({"\x1b[2J é": W}))
    assert main(["convert", str(tmp_path / "a.pth"), "--list"]) == 0
    assert capsys.readouterr().out.startswith(r"'\x1b[2J \xe9'  2x3  float32")


def test_key_chooses_the_part_of_a_checkpoint(tmp_path, capsys):
    source, target = tmp_path / "gan.pth", tmp_path / "d.safetensors"
    source.write_bytes(zip_pth({"netG": {"g": W}, "netD": {"d": W}}))
    assert main(["convert", str(source), str(target)]) == 2
    assert "choose one by its key, such as 'netG'" in capsys.readouterr().err
    assert main(["convert", str(source), str(target), "--key", "netD"]) == 0
    assert list(load(target)) == ["d"]


@pytest.mark.parametrize(("source", "target", "words"), [
    ("a.npz", "out.pth", "OUT: its ending chooses the form and must be .safetensors or .npz, got out.pth"),
    ("a.npz", None, "OUT: the file to write is missing"),
    ("a.npz", "gone/out.npz", "make it first"),
    ("a.npz", "", "its ending chooses"),
    ("gone.npz", "out.npz", "there is no file"),
    ("bad.pth", "out.npz", "is a web page"),
    ("", "out.npz", "is a folder"),
])
def test_mistakes_are_told_in_one_line_with_status_2(sources, source, target, words, capsys):
    (sources / "bad.pth").write_text("<html>")
    before = sorted(sources.iterdir())
    assert main(["convert", str(sources / source), *([] if target is None else [str(sources / target)])]) == 2
    error = capsys.readouterr().err
    assert words in error and error.startswith("minidl convert: error: ") and error.count("\n") == 1
    assert sorted(sources.iterdir()) == before


def test_an_npz_depends_on_the_arrays_alone(sources):
    for source in ("a.pth", "a.safetensors"):
        assert main(["convert", str(sources / source), str(sources / "out.npz"), "--force"]) == 0
        arrays = load(sources / source)
        assert (sources / "out.npz").read_bytes() == npz_bytes(arrays)


def test_a_name_that_no_zip_holds_is_told_in_one_line(tmp_path, capsys):
    (tmp_path / "a.pth").write_bytes(zip_pth({"a\0b": W}))
    assert main(["convert", str(tmp_path / "a.pth"), str(tmp_path / "out.npz")]) == 2
    error = capsys.readouterr().err
    assert "OUT: write_npz: a zip holds names" in error and error.count("\n") == 1 and not (tmp_path / "out.npz").exists()


def test_any_name_and_no_array_at_all_fit_an_npz(tmp_path):
    for state in ({}, {"file": W, "a/b": W, "é": W}):
        (tmp_path / "a.pth").write_bytes(zip_pth(state))
        assert main(["convert", str(tmp_path / "a.pth"), str(tmp_path / "out.npz"), "--force"]) == 0
        assert load(tmp_path / "out.npz").keys() == state.keys()
        with np.load(tmp_path / "out.npz", allow_pickle=False) as read:
            assert set(read.files) == state.keys()
