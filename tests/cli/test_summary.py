"""`minidl summary` and `minidl models` from outside: every network, every option, every refusal."""
import json
import os
import subprocess
import sys
import time
from xml.etree import ElementTree

import pytest

from minidl.cli import files
from minidl.cli import models as models_command
from minidl.cli.main import main
from minidl.models import ZOO, build
from minidl.nn import init
from minidl.show import count_parameters


def lines_of(capsys):
    return [line.split() for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("name", ZOO)
def test_every_network_is_shown_and_drawn_in_a_moment(name, tmp_path, capsys):
    start = time.process_time()
    path = tmp_path / "net.svg"
    assert main(["summary", name, "--batch", "1000", "--graph", str(path)]) == 0
    assert time.process_time() - start < 10  # 2 s on a free core for the deepest; with computing it would be hours
    out = capsys.readouterr().out
    assert out.startswith(f"{name}: {ZOO[name].paper}; 1,000 images ")
    with init.no_values():
        net = build(name)
    assert f"parameters     {count_parameters(net):,} in " in out
    assert " for 1,000 images" in out and "…" not in out
    assert max(len(line.rstrip()) for line in out.splitlines() if str(path) not in line) <= 80
    assert ElementTree.parse(path).getroot().find("{http://www.w3.org/2000/svg}title").text.startswith(name)
    assert [file.name for file in tmp_path.iterdir()] == ["net.svg"]


def test_the_knobs_reach_the_net(capsys):
    given = ["--width", "0.5", "--classes", "3", "--channels", "2", "--option", "image_size=40"]
    assert main(["summary", "mini-vgg", *given]) == 0
    rows = lines_of(capsys)
    assert ["features.0", "Conv2d", "6x40x40", "114", "173", "k", "38.4", "kB", "3"] in rows  # 2 * 6 * 9 + 6
    assert ["flatten", "Flatten", "600", "66"] in rows  # 24 channels at 5x5; 34 + (5 - 1) * 8
    assert ["classifier.0", "Linear", "3", "1,803", "1.80", "k", "12", "B", "66"] in rows


def test_images_of_another_size_go_through_the_network_as_it_is(capsys):
    """VGG pools to the 7x7 that its first fully connected layer takes, so that 288 changes no parameter."""
    assert main(["summary", "vgg-d", "--size", "288"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].rstrip() == "vgg-d: Simonyan and Zisserman 2015; image 3x288x288"
    assert "parameters     138,357,544 in" in out


def test_only_where_they_do_not_fit_it_is_built_for_them_and_says_so(capsys):
    assert main(["summary", "alexnet", "--size", "224"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].rstrip() == "alexnet: Krizhevsky et al. 2012; image 3x224x224 (built for 224x224)"
    with init.no_values():
        assert f"parameters     {count_parameters(build('alexnet', image_size=224)):,} in" in out
    assert main(["summary", "alexnet", "--size", "224", "--option", "image_size=227"]) == 2
    assert "images 3x224x224 do not fit alexnet" in capsys.readouterr().err


@pytest.mark.parametrize("columns", [20, 40, 52, 60, 70, 79])
@pytest.mark.parametrize("name", ["googlenet", "vgg-e", "alexnet", "fcn8s"])
def test_a_narrow_terminal_cuts_no_number(name, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["summary", name]) == 0
    wide = [word for row in lines_of(capsys) for word in row if "x" in word and word[0].isdigit() or "," in word]
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["summary", name]) == 0
    out = capsys.readouterr().out
    assert "…" not in out
    assert [word for word in wide if word not in out.split()] == []
    assert max(map(len, out.splitlines())) <= max(columns, 56)
    assert columns > 60 or "memory" not in out.split("total")[0]


def test_options_of_the_family_go_by_name(capsys):
    assert main(["summary", "VGG_A", "--option", "batch_norm=true", "--option", "width=0.125", "--depth", "1"]) == 0
    rows = lines_of(capsys)
    assert rows[0][0] == "vgg-a:"
    features = next(row for row in rows if row[:2] == ["features", "Sequential"])
    with init.no_values():
        net = build("vgg-a", batch_norm=True, width=0.125)
    assert features[3] == f"{count_parameters(net.features):,}"


def test_a_size_of_two_numbers_shows_the_net_such_images(capsys):
    assert main(["summary", "resnet18", "--size", "96x160", "--depth", "1"]) == 0
    rows = lines_of(capsys)
    assert rows[0][-1] == "3x96x160"
    assert next(row for row in rows if row[:1] == ["layer4"])[:3] == ["layer4", "Sequential", "512x3x5"]


def test_a_drawing_replaces_the_old_one_and_follows_depth(tmp_path, capsys):
    path = tmp_path / "net.DOT"
    path.write_text("old")
    assert main(["summary", "resnet50", "--depth", "1", "--graph", str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"Graph: {path}"
    text = path.read_text(encoding="utf-8")
    assert text.startswith("digraph") and text.count("->") == 10


def test_a_drawing_that_fails_leaves_the_old_one(tmp_path, monkeypatch, capsys):
    import minidl.show
    path = tmp_path / "net.svg"
    path.write_text("old")

    def fail(*args, **options):
        raise ValueError("no room")
    monkeypatch.setattr(minidl.show, "to_svg", fail)
    assert main(["summary", "mini-vgg", "--graph", str(path)]) == 1
    assert "no room" in capsys.readouterr().err
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["net.svg"]


def test_a_full_disk_is_told_in_one_line(tmp_path, monkeypatch, capsys):
    def fail(*args):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(files, "write_atomically", fail)
    assert main(["summary", "mini-vgg", "--graph", str(tmp_path / "net.svg")]) == 2
    assert "cannot write" in (error := capsys.readouterr().err) and "(no space left on device)" in error


@pytest.mark.parametrize(("arguments", "words"), [
    (["resnt50"], "did you mean resnet50"),
    (["vgg"], "did you mean"),
    (["vgg-d", "--size", "16"], "(in layer features.30 (MaxPool2d))"),
    (["mini-vgg", "--size", "5x9"], "images 1x5x9 do not fit mini-vgg: max_pool2d: the kernel's height 2"),
    (["alexnet", "--size", "300x227"], "(in layer "),
    (["vgg-d", "--option", "bath_norm=true"], "did you mean batch_norm?"),
    (["vgg-d", "--option", "config=A"], "no option 'config'"),
    (["vgg-d", "--option", "num_classes=3", "--classes", "4"], "given twice, as 4 and as 3"),
    (["vgg-d", "--option", "num_classes=many"], "error: vgg-d: num_classes must be an integer of at least 1, got 'many'\n"),
    (["vgg-d", "--option", "num_classes=true"], "of at least 1, got the bool True\n"),
    (["googlenet", "--option", "width=wide"], "error: googlenet: width must be a finite number, got 'wide'\n"),
    (["resnet18", "--option", "width=1", "--option", "width=2"], "width is given twice, as 1 and as 2"),
    (["fcn8s", "--option", "vgg16=x"], "vgg16 stands for a network"),
    (["resnet18", "--option", "foo=1"], "error: resnet18 has no option 'foo'; its options are num_classes, "),
    (["vgg-d", "--width", "0"], "width must be a factor"),
    (["vgg-d", "--width", "nan"], "width must be"),
    (["mini-vgg", "--graph", "net.png"], "must end in .svg or .dot, got net.png"),
    (["mini-vgg", "--graph", "svg"], "must end in"),
    (["mini-vgg", "--graph", "no/such/folder/net.svg"], "there is no folder no/such/folder"),
])
def test_what_cannot_be_shown_is_refused_in_one_line(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["summary", *arguments]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("minidl summary: error: ") and len(error.splitlines()) == 1
    assert words in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("arguments", "words"), [
    (["--size", "0"], "must be N or HEIGHTxWIDTH"), (["--size", "1x2x3"], "must be N or HEIGHTxWIDTH"),
    (["--size", "x9"], "must be N or HEIGHTxWIDTH"), (["--size", "9999999999"], "from 1 to 100000"),
    (["--size", "²"], "must be N or HEIGHTxWIDTH"),
    (["--batch", "0"], "must be at least 1"), (["--depth", "0"], "must be at least 1"), (["--classes", "0"], "at least 1"),
    (["--channels", "1000001"], "at most 1000000"), (["--width", "wide"], "must be a number"),
    (["--option", "batch_norm"], "KEY=VALUE"), (["--option", "=3"], "KEY=VALUE"), (["--option", "a b=3"], "KEY=VALUE"),
    (["--graph", ""], "must name a place"), (["--grph", "x.svg"], "Did you mean --graph?"),
])
def test_arguments_that_are_none_are_refused(arguments, words, capsys):
    assert main(["summary", "mini-vgg", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_neither_command_loads_anything_heavy_for_its_help():
    script = ("import sys\nfrom minidl.cli.main import main\nmain(['summary', '--help'])\nmain(['models', '--help'])\n"
              "print({'matplotlib', 'rich', 'minidl.models', 'minidl.show', 'minidl.train'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_summary_loads_no_plotting_and_draws_without_graphviz(tmp_path):
    script = (f"import sys\nsys.modules['graphviz'] = None\nfrom minidl.cli.main import main\n"
              f"status = main(['summary', 'resnet18', '--graph', {str(tmp_path / 'a.svg')!r}])\n"
              "print(status, {'matplotlib', 'PIL'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True,
                          env=os.environ | {"PATH": ""})
    assert done.stdout.splitlines()[-1] == "0 set()"


# --- minidl models -------------------------------------------------------------------------------------------------------


def test_models_lists_all_networks(capsys):
    assert main(["models", "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [record["name"] for record in records] == list(ZOO)
    assert {record["name"]: (record["parameters"], record["input"], record["paper"]) for record in records}.items() >= {
        "vgg-d": (138_357_544, [3, 224, 224], "Simonyan and Zisserman 2015"),
        "alexnet": (60_965_224, [3, 227, 227], "Krizhevsky et al. 2012"),
        "resnet152": (60_192_808, [3, 224, 224], "He et al. 2016"),
        "mini-resnet": (98_782, [1, 28, 28], "He et al. 2016")}.items()


def test_the_table_fits_80_columns_and_names_are_whole(capsys):
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    first = [line.split()[0] for line in text.splitlines() if line[:1] not in (" ", "")]
    assert first[0] == "name" and [word for word in first if word in ZOO] == list(ZOO)
    assert "…" not in text
    starts = [i for i, line in enumerate(text.splitlines()) if line.split()[:1] and line.split()[0] in ZOO]
    few = [after - before <= 2 for before, after in zip(starts, starts[1:])]
    assert sum(few) > 0.75 * len(few)


@pytest.mark.parametrize("columns", [30, 60, 64, 70, 76])
def test_a_narrow_terminal_cuts_no_name_and_no_number_of_the_list(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    assert "…" not in text and max(map(len, text.splitlines())) <= max(columns, 64)
    assert {*ZOO, "138,357,544", "3x224x224"} < set(text.split()) and "normalisation" in text


@pytest.mark.parametrize(("words", "found"), [
    (["fcn"], ["fcn32s", "fcn16s", "fcn8s"]), (["Krizhevsky"], ["alexnet", "alexnet-torchvision"]), (["FCN16"], ["fcn16s"]),
    (["vgg19_bn"], ["vgg19-bn"]), (["simonyan", "mini"], ["mini-vgg"]), (["he", "2016", "plain18"], ["plain18"])])
def test_a_filter_keeps_what_holds_every_word(words, found, capsys):
    assert main(["models", "--json", *words]) == 0
    assert [record["name"] for record in json.loads(capsys.readouterr().out)] == found


@pytest.mark.parametrize(("words", "hint"), [(["resnet5O"], "did you mean resnet50"), (["zzzz"], "leave the words out"),
                                            (["vgg", "fcn99"], "'vgg' and 'fcn99'")])
def test_a_filter_that_nothing_passes_is_answered_with_a_hint(words, hint, capsys):
    assert main(["models", *words]) == 2
    assert hint in capsys.readouterr().err


def test_listing_draws_no_weights(monkeypatch, capsys):
    """1.8 GB of weights are neither drawn nor written."""
    from minidl.nn import init as module

    def generator():
        raise RuntimeError("weights were drawn")
    monkeypatch.setattr(module, "generator", generator)
    assert main(["models", "vgg"]) == 0
    assert main(["summary", "vgg-e"]) == 0
    assert models_command.HELP and "138,357,544" in capsys.readouterr().out
