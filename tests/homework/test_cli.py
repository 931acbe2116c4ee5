"""`minidl homework`: what it prints, what it writes, how it ends."""
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minidl.cli.main import main
from minidl.homework.catalog import homeworks

pytestmark = pytest.mark.cpu("students' files run in processes of their own")


def homework(capsys, *arguments):
    """Exit status, standard output, standard error."""
    status = main(["homework", *map(str, arguments)])
    return status, *capsys.readouterr()


def test_the_page_names_only_options_that_there_are():
    page = (Path(__file__).parents[2] / "docs" / "homework.md").read_text().replace("nbconvert --to", "")
    help_texts = "".join(subprocess.run([sys.executable, "-m", "minidl", "homework", action, "--help"], capture_output=True,
                                        text=True, check=True).stdout for action in ("list", "start", "check", "grade"))
    assert set(re.findall(r"--[a-z]+", page)) <= set(re.findall(r"--[a-z]+", help_texts))


# --- list and start --------------------------------------------------------------------------------------------------


def test_the_list_names_tasks_points_and_time(toy, capsys):
    status, out, _ = homework(capsys, "list")
    assert status == 0
    for words in ("9  Homework 9: a toy, for tests", "5 points, about 25 min; goes with lesson 09_toys",
                  "double      3 points   10 min", "minidl homework start 9"):
        assert words in out


def test_the_real_homeworks_are_listed(capsys):
    status, out, _ = homework(capsys, "list")
    assert status == 0
    assert all(each.source.title.rstrip(".") in out for each in homeworks())


def test_start_writes_the_stub_and_says_what_next(toy, tmp_path, capsys):
    status, out, _ = homework(capsys, "start", 9, tmp_path / "new" / "folder")
    path = tmp_path / "new" / "folder" / "hw9_toy.py"
    assert status == 0
    assert path.read_text() == toy.stub()
    assert f"minidl homework check {path} --task double" in out


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_start_never_replaces_what_is_there(toy, tmp_path, capsys, kind):
    path = tmp_path / "hw9_toy.py"
    {"file": lambda: path.write_text("mine"), "folder": path.mkdir, "dangling link": lambda: path.symlink_to("nowhere")}[kind]()
    status, out, err = homework(capsys, "start", 9, tmp_path)
    assert (status, out) == (2, "")
    assert "is there already, and was not touched" in err and "in another folder" in err
    assert kind != "file" or path.read_text() == "mine"


def test_start_leaves_nothing_where_it_cannot_write(toy, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    status, _, err = homework(capsys, "start", 9, tmp_path / "file")
    assert status == 2
    assert "is a file, but must be a folder" in err
    assert "DIR DIR" not in homework(capsys, "start", 9, tmp_path / "file" / "below")[2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "installed"]


@pytest.mark.parametrize(("arguments", "words"), [
    (["start", "8"], "there is no homework 8; there are 9"),
    (["start", "three"], "must be an integer, got 'three'"),
    (["start"], "required: N"),
    ([], "required: WHAT"),
    (["chek", "x.py"], "Did you mean check?"),
    (["check", "nothing.py"], "FILE: nothing.py is not there"),
    (["check", "."], "FILE: . is a folder"),
    (["check", "hw9_toy.py", "--tsk", "double"], "Did you mean --task?"),
    (["check", "hw9_toy.py", "--task", "doubel"], "homework 9 has no task 'doubel'; did you mean double?"),
    (["check", "hw9_toy.py", "--task", "xyz"], "it has double, quadruple"),
    (["check", "hw9_toy.py", "--hint"], "--hint: which task? Add --task NAME; homework 9 has double, quadruple"),
    (["check", "hw9_toy.py", "--task", "double", "--hint", "4"], "must be at most 3, got 4"),
    (["check", "hw9_toy.py", "--homework", "4"], "there is no homework 4"),
    (["check", "hw9_toy.py", "--json", "hw9_toy.py"], "must not be replaced"),
    (["check", "hw9_toy.py", "--json", "no/where.json"], "there is no folder no"),
    (["check", "other.py"], "does not say which homework it is"),
    (["check", "hw7_x.py"], "there is no homework 7; add --homework N (there are 9)"),
    (["check", "nothing.py"], "is the name right? . has hw7_x.py, hw9.ipynb, hw9_toy.py, other.py"),
    (["check", "hw9.ipynb"], "is a notebook; export it with `jupyter nbconvert --to script hw9.ipynb`, and check hw9.py"),
    (["check", "hw9_toy.py", "other.py"], "unrecognized arguments: other.py\nSee `minidl homework check --help`."),
    (["check", "--hint", "hw9_toy.py", "--task", "double"], "`minidl homework check FILE --task NAME --hint`"),
    (["check", "hw9_toy.py", "--hint", "double"], "`minidl homework check FILE --task NAME --hint`"),
    (["check", "hw9_toy.py", "--time", "0"], "must be at least 1"),
    (["grade", "."], "required: --csv"),
    (["grade", "nowhere", "--csv", "x.csv"], "DIR: nowhere is not a folder"),
    (["grade", "empty", "--csv", "x.csv"], "DIR: empty holds no submissions"),
])
def test_wrong_usage_is_one_line_and_status_2(toy, handed_in, monkeypatch, capsys, arguments, words):
    folder = handed_in().parent
    (folder / "other.py").write_text("x = 1\n")
    (folder / "empty").mkdir()
    (folder / "hw7_x.py").write_text("x = 1\n")
    (folder / "hw9.ipynb").write_text("{}")
    before = sorted(folder.iterdir())
    monkeypatch.chdir(folder)
    status, out, err = homework(capsys, *arguments)
    assert (status, out) == (2, "")
    assert words in err and "Traceback" not in err
    assert sorted(folder.iterdir()) == before


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs a file that not even root can read")
def test_a_file_that_cannot_be_read_is_told(toy, tmp_path, capsys):
    path = tmp_path / "hw9_toy.py"
    path.symlink_to("/proc/self/mem")
    status, out, err = homework(capsys, "check", path)
    assert (status, out) == (2, "") and f"FILE: cannot read {path} (" in err


# --- check -----------------------------------------------------------------------------------------------------------


def test_check_prints_the_path_first_then_tasks_and_the_total_of_what_ran(toy, handed_in, capsys):
    path = handed_in(double="print('hello [red]')\nreturn x + 1")
    status, out, _ = homework(capsys, "check", path)
    lines = out.splitlines()
    assert status == 1
    assert lines[0] == f"checking {path}"
    assert "double: 1 of 3 points" in lines and "quadruple: 1 of 1 points; 1 NOT RUN" in lines
    assert re.search(r"  LOST    2  doubles\n {6}double\(x \(2, 3\)\), at \[\d, \d\]: got ", out)
    assert "  NOT RUN 1  also on a GPU\n      device 'cuda' needs CuPy" in out
    assert "hello [red]" in out
    assert lines[-2] == "2 of 4 points of what ran; 1 point NOT RUN"
    assert lines[-1] == f"a hint: minidl homework check {path} --task double --hint"
    assert "\x1b" not in out


def test_all_points_of_what_ran_is_status_0(toy, handed_in, capsys):
    status, out, _ = homework(capsys, "check", handed_in())
    assert (status, out.splitlines()[-1]) == (0, "4 of 4 points of what ran; 1 point NOT RUN")


def test_only_one_task(toy, handed_in, capsys):
    status, out, _ = homework(capsys, "check", handed_in(quadruple="return 0"), "--task", "double")
    assert status == 0
    assert "quadruple" not in out and out.splitlines()[-1] == "3 of 3 points"


def test_mine_is_handed_on(toy, handed_in, capsys):
    path = handed_in(double="return x")
    assert homework(capsys, "check", path, "--task", "quadruple")[0] == 0
    assert homework(capsys, "check", path, "--task", "quadruple", "--mine")[0] == 1


def test_hints_come_one_by_one_and_nothing_is_checked(toy, handed_in, capsys):
    path = handed_in(top="raise RuntimeError")
    for arguments, words in (([], "double, hint 1 of 3: What is twice a number?\nthe next one: minidl homework check"),
                             (["2"], "double, hint 2 of 3: Add it to itself."), (["3"], "double, hint 3 of 3: x + x\n")):
        status, out, _ = homework(capsys, "check", path, "--task", "double", "--hint", *arguments)
        assert status == 0 and words in out
    assert "the next one" not in out


def test_a_file_that_does_not_load_is_told_once(toy, handed_in, capsys):
    status, out, _ = homework(capsys, "check", handed_in(top="x = (1,"))
    assert status == 1
    assert out.count("SyntaxError") == 1 and "in line 1: x = (1," in " ".join(out.split())  # folded where the path ends
    assert out.splitlines()[-1] == "0 of 4 points of what ran; 1 point NOT RUN"


@pytest.mark.parametrize(("name", "arguments"), [
    ("alice_HW9.py", []), ("renamed.py", ["--homework", "9"]), ("hw9 (1).py", []), ("hw8_other.py", ["--homework", "9"])])
def test_which_homework_follows_from_the_name_or_the_option(toy, handed_in, capsys, name, arguments):
    assert homework(capsys, "check", handed_in(name=name), "--task", "double", *arguments)[0] == 0


def test_which_homework_follows_from_the_marker_line(toy, tmp_path, capsys):
    path = tmp_path / "renamed.py"
    path.write_text(toy.stub())
    status, out, _ = homework(capsys, "check", path, "--task", "double")
    assert status == 1 and "Homework 9" in out


def test_the_marker_line_wins_over_the_name(tmp_path, capsys):
    path = tmp_path / "hw3_other.py"
    path.write_text("# minidl homework 4\n")
    status, out, _ = homework(capsys, "check", path, "--task", "max_pool", "--hint")
    assert status == 0 and "max_pool, hint 1 of 3" in out


@pytest.mark.parametrize(("name", "words"), [
    ("gone.py", "is not there; is the name right?"), ("other.py", "does not say which homework it is"), (".", "is a folder")])
def test_gradescope_is_told_of_a_file_that_cannot_be_judged(toy, tmp_path, capsys, name, words):
    (tmp_path / "other.py").write_text("x = 1\n")
    status, _, err = homework(capsys, "check", tmp_path / name, "--gradescope", tmp_path / "results.json")
    result = json.loads((tmp_path / "results.json").read_text())
    assert status == 1 and words in err  # run_autograder takes 1 for points that were lost
    assert result["score"] == 0 and result["output"].startswith("FILE: ") and words in result["output"]


def test_what_several_parts_say_is_told_once_per_task(toy, tmp_path, capsys):
    path = tmp_path / "hw9_toy.py"
    path.write_text(toy.stub())
    out = homework(capsys, "check", path)[1]
    assert out.count("LOST") == 3 and out.count("double is not written yet") == 1


def test_mine_says_of_later_tasks_that_an_earlier_one_may_be_to_blame(toy, handed_in, capsys):
    path = handed_in(double="return x")
    out = homework(capsys, "check", path, "--mine")[1]
    assert out.count("with --mine, an earlier task of yours may be to blame") == 1
    assert "earlier task" not in homework(capsys, "check", handed_in(quadruple="return x"))[1]


@pytest.mark.parametrize(("columns", "most"), [(None, 100), ("70", 70), ("20", 60)])
def test_long_messages_are_folded_and_long_lines_that_it_printed_cut(toy, handed_in, capsys, monkeypatch, columns, most):
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    path = handed_in(double="print('noise' * 200)\nraise ValueError('so many words ' * 30)")
    lines = homework(capsys, "check", path)[1].splitlines()[2:]
    assert f"      {'noise' * 20} ... 900 more characters" in lines
    told = [line for line in lines if "words" in line]
    assert most - 10 < max(map(len, told)) <= most and all(line.startswith("      ") for line in told)


def test_what_the_doctor_has_folded_is_folded_anew():
    from minidl.cli.homework import _paragraphs
    first = "likely cause: scale. " + "word " * 15
    assert _paragraphs(f"{first}xy\n    longer than what was left\n\n  x[0]: got 1\n  x[1]: got 2") == [
        f"{first}xy longer than what was left", "", "  x[0]: got 1", "  x[1]: got 2"]


def test_letters_that_the_output_does_not_have_become_question_marks(toy, handed_in):
    script = ("import sys; from pathlib import Path; from minidl.homework import catalog; catalog.FOLDER = Path(sys.argv[1]);"
              "from minidl.cli.main import main; sys.exit(main(['homework', 'check', sys.argv[2], '--task', 'double']))")
    command = [sys.executable, "-c", script, str(toy.folder.parent), str(handed_in(double="print('gr\xfcn'); return x + x"))]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL,
                          env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and b"gr?n" in done.stdout


def test_the_forms_for_programs(toy, handed_in, tmp_path, capsys):
    path = handed_in(double="return x + 1")
    status, _, _ = homework(capsys, "check", path, "--json", tmp_path / "r.json", "--gradescope", tmp_path / "results.json")
    assert status == 1
    record = json.loads((tmp_path / "r.json").read_text())
    assert {key: record[key] for key in ("homework", "number", "file", "points", "of", "not_run", "load_error")} == {
        "homework": "hw9_toy", "number": 9, "file": str(path), "points": 2, "of": 4, "not_run": 1, "load_error": ""}
    assert [part["status"] for task in record["tasks"] for part in task["parts"]] == ["lost", "passed", "passed", "not run"]
    result = json.loads((tmp_path / "results.json").read_text())
    assert result["score"] == 2 == sum(test["score"] for test in result["tests"])
    assert sum(test["max_score"] for test in result["tests"]) == 4  # of what ran, as the total says
    assert [test["status"] for test in result["tests"]] == ["failed", "passed", "passed", "failed"]
    assert result["tests"][3]["output"].startswith("NOT RUN: ")
    assert "double(x (2, 3))" in result["tests"][0]["output"]


def test_colours_only_on_a_terminal(toy, handed_in):
    script = ("import sys; from pathlib import Path; from minidl.homework import catalog; catalog.FOLDER = Path(sys.argv[1]);"
              "from minidl.cli.main import main; sys.exit(main(['homework', 'check', sys.argv[2], '--task', 'double']))")
    command = [sys.executable, "-c", script, str(toy.folder.parent), str(handed_in())]
    plain = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL)
    assert plain.returncode == 0 and b"\x1b" not in plain.stdout
    coloured = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, env=os.environ | {"FORCE_COLOR": "1"})
    assert b"\x1b" in coloured.stdout


# --- grade -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def class_of_students(toy, handed_in, tmp_path):
    """Folders and files, good and bad."""
    right, wrong, broken = (handed_in(**put).read_text() for put in ({}, {"double": "return x"}, {"top": "x = ("}))
    folder = tmp_path / "class"
    for name, text in (("alice/hw9_toy.py", right), ("alice/hw9_toy_final.py", wrong), ("alice_hw9_toy.py", wrong),
                       ("bob/hw9_toy.py", wrong), ("carol/hw9_toy.py", broken), ("judy_hw9.ipynb", "{}"),
                       ("karl/inner/hw9_toy.py", right), ("hw9_toy (1).py", right), ("hw9_toy_lena.py", right),
                       ("=cmd()/hw9_toy.py", right), ("dave_hw9_toy.py", right), ("erin.py", "# minidl homework 9\n" + wrong),
                       ("frank/notes.txt", ""), ("grace/a_hw9.py", right), ("grace/b_hw9.py", right),
                       ("heidi/hw9_toy.py", right), ("heidi/old_hw9.py", wrong), ("heidi/helper.py", ""),
                       ("ivan/hw9_toy.py", "import os; os._exit(0)"), ("mona/hw9.zip", ""),
                       ("__MACOSX/hw9_toy.py", right), (".hidden.py", right)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "nils_hw9_toy.py").symlink_to("nowhere")
    return folder


@pytest.mark.parametrize("jobs", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_grade_writes_a_line_for_everybody(class_of_students, tmp_path, capsys, jobs):
    status, out, err = homework(capsys, "grade", class_of_students, "--csv", tmp_path / "points.csv", "--jobs", jobs)
    assert status == 1  # some were not judged
    assert "wrote" in out and "16 submissions, 7 of them not judged" in out
    rows = {row["student"]: row for row in csv.DictReader((tmp_path / "points.csv").read_text().splitlines())}
    assert list(rows) == ["'=cmd()", "alice", "bob", "carol", "class", "dave", "erin", "frank", "grace", "heidi", "ivan",
                          "judy", "karl", "lena", "mona", "nils"]
    assert list(rows["alice"].values()) == ["alice", str(class_of_students / "alice" / "hw9_toy.py"), "hw9_toy", "3", "1",
                                            "4", "4", "1",
                                            "all points; not judged: alice/hw9_toy_final.py, alice_hw9_toy.py"]
    got = {name: (row["total"], row["of"], row["status"]) for name, row in rows.items()}
    assert got["bob"] == got["erin"] == ("1", "4", "points lost")
    assert got["carol"][:2] == got["ivan"][:2] == ("0", "4")  # of what the others could get here
    assert got["carol"][2].startswith("the file does not load: SyntaxError")
    assert got["frank"] == ("", "", "no file for a homework")
    assert got["grace"] == ("0", "4", "several files: grace/a_hw9.py, grace/b_hw9.py; leave one")
    assert got["heidi"] == ("4", "4", "all points; not judged: heidi/old_hw9.py")
    assert got["judy"][2] == "judy_hw9.ipynb is a notebook; export it: jupyter nbconvert --to script judy_hw9.ipynb"
    assert got["karl"] == got["lena"] == got["class"] == ("4", "4", "all points")
    assert got["mona"][2] == "mona/hw9.zip is no Python file; unpack it"
    assert got["nils"][2].endswith("nils_hw9_toy.py cannot be read: No such file or directory")
    assert "alice: 4 of 4 points of what ran; 1 point NOT RUN; not judged: alice/hw9_toy_final.py" in err and "[16/16]" in err


def test_grade_says_what_it_could_not_judge_and_goes_on(class_of_students, toy, tmp_path, capsys, monkeypatch):
    from minidl.homework import grading
    check_file = grading.check_file

    def fails_for_bob(path, *arguments, **options):
        if path.parent.name == "bob":
            raise RuntimeError("the checker did not start")
        return check_file(path, *arguments, **options)
    monkeypatch.setattr(grading, "check_file", fails_for_bob)
    for path in class_of_students.iterdir():
        if path.name not in ("bob", "dave_hw9_toy.py"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    status, out, _ = homework(capsys, "grade", class_of_students, "--csv", tmp_path / "points.csv")
    assert status == 1 and "1 of them not judged" in out
    rows = {row["student"]: row for row in csv.DictReader((tmp_path / "points.csv").read_text().splitlines())}
    assert (rows["bob"]["total"], rows["bob"]["status"]) == ("", "not judged: the checker did not start")
    assert rows["dave"]["total"] == "4"


def test_grade_of_one_homework_takes_a_lone_file_by_any_name(toy, handed_in, tmp_path, capsys):
    path = handed_in(name="solution_of_mine.py")
    status, out, _ = homework(capsys, "grade", path.parent.parent / "student", "--csv", tmp_path / "a.csv", "--homework", 9)
    assert status == 0
    assert (tmp_path / "a.csv").read_text().splitlines()[1].endswith("4,4,1,all points")
    assert out == f"wrote {tmp_path / 'a.csv'}: 1 submission\n"


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="Ctrl-C is a signal on POSIX")
@pytest.mark.parametrize("action", [["check", "DIR/a_hw9_toy.py"], ["grade", "DIR", "--csv", "DIR/points.csv", "--jobs", "2"]],
                         ids=["check", "grade"])
def test_ctrl_c_ends_what_runs_and_writes_no_table(toy, handed_in, tmp_path, action):
    folder = tmp_path / "class"
    folder.mkdir()
    for name in "abc":
        note = f"import os; open({str(folder)!r} + f'/pid{{os.getpid()}}', 'w').close()"
        (folder / f"{name}_hw9_toy.py").write_text(f"{note}\nwhile True: pass\n")
    script = ("import sys; from pathlib import Path; from minidl.homework import catalog; catalog.FOLDER = Path(sys.argv[1]);"
              "from minidl.cli.main import main; sys.exit(main(['homework', *sys.argv[2:]]))")
    arguments = [argument.replace("DIR", str(folder)) for argument in action]
    process = subprocess.Popen([sys.executable, "-c", script, str(toy.folder.parent), *arguments], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not list(folder.glob("pid*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130 and "interrupted" in err and "Traceback" not in err
    assert not (folder / "points.csv").exists()
    for note in folder.glob("pid*"):
        assert not is_running(int(note.name[3:]))


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_table_that_cannot_be_written_is_told_before_the_work(class_of_students, tmp_path, capsys):
    status, _, err = homework(capsys, "grade", class_of_students, "--csv", tmp_path / "no" / "points.csv")
    assert status == 2 and "there is no folder" in err and "[1/" not in err
