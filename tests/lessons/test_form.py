"""Every lesson has the form that lessons/README.md describes."""
import ast
import re
import sys

import pytest

from minidl.data import find

LESSONS = sorted(find("lessons").glob("[0-9][0-9]_*.py"))
HEADINGS = ["Question", "Prediction", "Experiment", "Plot", "Observed", "Exercise"]
MOST_LINES = 15

pytestmark = pytest.mark.parametrize("lesson", LESSONS, ids=[lesson.stem for lesson in LESSONS])


def cells(lesson):
    """(kind, first line, source) of every cell, kind "code" or "markdown"; the source of the latter without its "# "."""
    found = []
    for number, line in enumerate(lesson.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("# %%"):
            found.append(("markdown" if "[markdown]" in line else "code", number, []))
        else:
            assert found, f"{lesson.name}:{number}: {line!r} stands before the first cell"
            found[-1][2].append(line)
    return [(kind, number, "\n".join(re.sub(r"^# ?", "", line) if kind == "markdown" else line for line in lines))
            for kind, number, lines in found]


def of_kind(lesson, kind):
    return [(number, source) for found, number, source in cells(lesson) if found == kind]


def code(lesson):
    return "\n".join(source for _, source in of_kind(lesson, "code"))


def section(lesson, heading):
    """The cells from one second-level heading to the next."""
    found, inside = [], False
    for kind, number, source in cells(lesson):
        if kind == "markdown" and re.search(r"^## ", source, re.M):
            inside = re.search(r"^## (.*)$", source, re.M).group(1) == heading
        if inside:
            found.append((kind, number, source))
    return found


def test_a_lesson_has_a_numbered_title_and_the_headings_in_order(lesson):
    text = "\n".join(source for _, source in of_kind(lesson, "markdown"))
    titles = re.findall(r"^# (.*)$", text, re.M)
    assert len(titles) == 1
    assert titles[0].startswith(f"Lesson {int(lesson.stem[:2])}: ")
    assert re.findall(r"^## (.*)$", text, re.M) == HEADINGS


def test_every_line_of_a_markdown_cell_is_a_comment(lesson):
    raw, inside = lesson.read_text(encoding="utf-8").splitlines(), False
    for number, line in enumerate(raw, 1):
        if line.startswith("# %%"):
            inside = "[markdown]" in line
        elif inside:
            assert not line or line.startswith("#"), f"{lesson.name}:{number}: code in a Markdown cell: {line!r}"


def test_a_code_cell_has_at_most_fifteen_lines(lesson):
    for number, source in of_kind(lesson, "code"):
        lines = [line for line in source.splitlines() if line.strip() and not line.strip().startswith("#")]
        assert lines, f"{lesson.name}:{number}: an empty code cell"
        assert len(lines) <= MOST_LINES, f"{lesson.name}:{number}: {len(lines)} lines of code in one cell"
        ast.parse(source)


def test_no_cell_depends_on_the_blank_lines_at_its_end(lesson):
    for kind, number, source in cells(lesson):
        assert source.strip(), f"{lesson.name}:{number}: an empty {kind} cell"


def test_the_student_predicts_and_the_rule_stands_in_code_before_the_experiment(lesson):
    prediction = section(lesson, "Prediction")
    text = "\n".join(source for kind, _, source in prediction if kind == "markdown")
    assert re.search(r"Write down .*before you run", text)
    assert "**The rule" in text
    rules = [node.name for kind, _, source in prediction if kind == "code" for node in ast.parse(source).body
             if isinstance(node, ast.FunctionDef)]
    observed = "\n".join(source for kind, _, source in section(lesson, "Observed") if kind == "code")
    assert rules
    assert all(f"{rule}(" in observed for rule in rules), f"the section Observed must use all of {rules}"
    assert '"observed:" if ' in observed


def test_exactly_one_plot_is_saved_where_the_student_wants_it(lesson):
    plots = "\n".join(source for kind, _, source in section(lesson, "Plot") if kind == "code")
    assert code(lesson).count(".savefig(") == plots.count(".savefig(") == 1
    assert f'"{lesson.stem}.png"' in plots
    assert 'os.environ.get("MINIDL_LESSON_OUTPUT", "lesson-output")' in plots
    assert "pyplot.subplots(" in plots, "one figure"
    assert plots.count("pyplot.subplots(") == 1
    assert ".show(" not in code(lesson)
    drawn = [source for _, _, source in section(lesson, "Plot") if "pyplot.subplots(" in source]
    assert drawn[0].strip().splitlines()[-1].startswith("pyplot.close(figure)"), "else shown twice"
    last_cell = [source for kind, _, source in section(lesson, "Plot") if kind == "code"][-1]
    assert last_cell.strip().endswith("\nfigure"), "a notebook shows the last expression of a cell"


def test_matplotlib_is_imported_in_the_plot_section_only(lesson):
    lines = {number for _, number, _ in section(lesson, "Plot")}
    for kind, number, source in cells(lesson):
        assert kind == "markdown" or number in lines or "matplotlib" not in source


def test_what_was_observed_is_told_in_words_too(lesson):
    told = "\n".join(source for kind, _, source in section(lesson, "Observed") if kind == "markdown")
    assert "What we saw" in told
    assert re.search(r"\d", told), "with figures"


def test_the_exercise_is_left_to_do_and_has_a_check(lesson):
    exercise = section(lesson, "Exercise")
    source = "\n".join(source for kind, _, source in exercise if kind == "code")
    assert cells(lesson)[-1] == exercise[-1], "the exercise comes last"
    assert "raise NotImplementedError(" in source
    assert "except NotImplementedError" in source or "except (NotImplementedError" in source
    assert '"exercise: still to do,"' in source
    assert "gradcheck" in source or "verdict(" in source or "np.testing" in source or "assert " in source


def test_imports_are_the_standard_library_numpy_matplotlib_and_minidl(lesson):
    allowed = {"numpy", "matplotlib", "minidl"} | sys.stdlib_module_names
    for node in ast.walk(ast.parse(code(lesson))):
        names = ([alias.name for alias in node.names] if isinstance(node, ast.Import)
                 else [node.module or ""] if isinstance(node, ast.ImportFrom) else [])
        assert {name.split(".")[0] for name in names} <= allowed, f"{lesson.name}:{node.lineno}: {names}"


def test_the_readme_lists_the_lesson(lesson):
    assert f"`{lesson.name}`" in (lesson.parent / "README.md").read_text(encoding="utf-8")
