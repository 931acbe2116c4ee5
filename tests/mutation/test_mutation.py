"""The checks of operations notice planted bugs; and what plants them does what it says."""
import ast
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import plant_bugs  # noqa: E402
from equivalents import EQUIVALENT  # noqa: E402
from operation_checks import CHECKS  # noqa: E402
from plant_bugs import Bug, Place, bugs_in, noticed_by, places, source_tree, with_bug  # noqa: E402

from minidl.ops import OPS  # noqa: E402

pytestmark = pytest.mark.mutation


def place_of(name):
    (found,) = [place for place in places() if place.name == name]
    return found


def bug(name, change):
    """The bug `change` of the function `name`, as a tree of its own."""
    return next(bug for bug in plant_bugs.all_bugs([place_of(name)]) if bug.change == change)


def test_every_planted_bug_is_noticed_or_explained():
    done = subprocess.run([sys.executable, str(HERE / "plant_bugs.py")], capture_output=True, text=True, timeout=900)
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr}"
    assert "killed / planted" in done.stdout


def test_the_script_judges_with_all_checks_of_operations():
    assert {check.__name__ for check in CHECKS} <= {judge.__name__ for judge in plant_bugs.JUDGES}


def test_bugs_are_planted_in_forward_and_backward_of_every_operation():
    planted = {(place.path, op) for place in places() for op in place.judges}
    for op in OPS:
        for method in ("forward", "backward"):
            assert any(path[-1] == method and judge is op for path, judge in planted), f"{op.__name__}.{method}"


def test_helpers_are_judged_by_all_operations_that_use_them():
    judges = {op.__name__ for op in place_of("windows.fold").judges}
    assert judges == {"Im2Col", "Col2Im", "Conv2d", "ConvTranspose2d", "MaxPool2d", "AvgPool2d"}
    assert {op.__name__ for op in place_of("softmax.log_probabilities").judges} == {"LogSoftmax", "CrossEntropy"}


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.__name__)
def test_without_a_bug_a_fresh_copy_of_the_operation_passes(op):
    """Else a bug could be noticed for the copying alone."""
    copies = with_bug(Bug(Place(op.__name__, sys.modules[op.__module__], (), [op]), "", "none",
                          source_tree(sys.modules[op.__module__])))
    assert copies[0] is not op and copies[0].forward is not op.forward
    assert copies[0].naive is op.naive
    assert noticed_by(copies) == ""


@pytest.mark.parametrize("helper", ["windows", "broadcasting", "conv2d", "softmax"])
def test_without_a_bug_operations_around_a_fresh_copy_of_a_helper_pass(helper):
    for place in places():
        if place.module.__name__.endswith(f".{helper}") and len(place.judges) > 1:
            assert noticed_by(with_bug(Bug(place, "", "none", source_tree(place.module)))) == "", place.name


def test_the_changed_code_is_what_runs():
    (wrong,) = with_bug(bug("elementwise.Multiply.forward", "x * y -> x / y"))
    assert wrong().forward(np.array(6.0), np.array(3.0)) == 2
    assert wrong.naive(np.array(6.0), np.array(3.0)) == 18, "the loops must stay those of the original"
    assert "forward is off its loops" in noticed_by([wrong])


def test_a_changed_helper_reaches_the_operations_that_import_it():
    copies = with_bug(bug("windows.fold", next(
        b.change for b in bugs_in(place_of("windows.fold")) if "+=" in b.change and "= windows" in b.change)))
    reasons = {op.__name__: noticed_by([op]) for op in copies}
    assert all(reasons.values()), f"the planted = for += was not noticed by all: {reasons}"


def test_the_original_is_left_as_it_was():
    place = place_of("elementwise.Multiply.forward")
    with_bug(next(iter(bugs_in(place))))
    assert place.judges[0]().forward(np.array(6.0), np.array(3.0)) == 18
    tree = source_tree(place.module)
    before = ast.dump(tree)
    for _ in plant_bugs.planted(plant_bugs.functions_in(tree)[place.path]):
        pass
    assert ast.dump(tree) == before, "the walk must put back what it changed"


def test_every_bug_differs_from_the_original_and_from_the_others():
    for place in itertools.islice(places(), 12):
        original = ast.unparse(source_tree(place.module))
        sources = [ast.unparse(planted.tree) for planted in bugs_in(place)]
        assert original not in sources, place.name
        assert len({planted.key for planted in bugs_in(place)}) == len(sources), "two bugs have one key"


def test_guards_and_error_texts_are_left_alone():
    for planted in bugs_in(place_of("conv2d.Conv2d.forward")):
        assert "raise" not in planted.line and "ValueError" not in planted.line


def test_an_endless_loop_counts_as_noticed():
    (op,) = [op for op in OPS if op.__name__ == "ReLU"]

    class Endless(op):
        def forward(self, x):
            while True:
                pass

    assert "no end" in noticed_by([Endless], seconds=0.2)


def test_a_stale_explanation_is_reported(monkeypatch):
    place = place_of("sigmoid.Sigmoid.forward")
    gone = (place.name, "a line that is no more", "x -> y")
    nowhere = ("sigmoid.Sigmoid.renamed", "self.y = 1", "1 -> 2")
    noticed = (place.name, "return self.y", "1 -> 2")
    for key in (gone, nowhere, noticed):
        monkeypatch.setitem(EQUIVALENT, key, "for this test")
    said = []
    scores, met = plant_bugs.judge([place], said.append)
    assert plant_bugs.stale(met, [place]) == [gone, nowhere, noticed]
    assert not plant_bugs.report(scores, plant_bugs.stale(met, [place]), said.append)
    assert any("a line that is no more" in text for text in said)


def test_an_explanation_of_a_bug_that_is_noticed_is_reported(monkeypatch):
    place = place_of("elementwise.Negate.backward")
    first = next(iter(bugs_in(place)))
    monkeypatch.setitem(EQUIVALENT, first.key, "wrong")
    _, met = plant_bugs.judge([place], lambda text: None)
    assert first.key not in met and first.key in plant_bugs.stale(met, [place])


def test_an_unexplained_survivor_fails_the_report(monkeypatch):
    place = place_of("sigmoid.Sigmoid.forward")
    monkeypatch.setattr(plant_bugs, "EQUIVALENT", {})
    scores, met = plant_bugs.judge([place], lambda text: None)
    assert [survivor.change for survivor in scores["Sigmoid"].survivors] == ["x >= 0 -> x > 0"]
    assert not plant_bugs.report(scores, [], lambda text: None)
