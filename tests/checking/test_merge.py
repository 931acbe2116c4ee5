"""Many samples make one report: which cause leads, what a factor is called, what is counted."""
import pytest

from minidl.checking.factors import names_of
from minidl.checking.merge import merged
from minidl.checking.report import Cause, Report


def failed(*codes, names=(), n=1):
    """The report of a sample that names these causes, of a factor 2 that may be called `names`; n elements are checked."""
    causes = [Cause(code, code, "x", factor=2.0 if names else None, names=frozenset(names)) for code in codes]
    return Report("f", 0, ok=False, diagnoses=causes, checked={"x": n})


@pytest.mark.parametrize(("codes", "first"), [
    (["scale", "sign", "sign"], "sign"),
    (["scale", "scale", "mutates-input"], "mutates-input"),  # makes all else doubtful
    (["unknown", "unknown", "scale"], "scale"),
    (["unknown", "unknown", "unknown", "scale"], "unknown"),
])
def test_the_cause_that_most_samples_name_comes_first(codes, first):
    report = merged([failed(code) for code in codes])
    assert report.causes[0] == first and set(report.causes) - {"unknown"} == set(codes) - {"unknown"}
    assert report.seen == f"{len(codes)} of {len(codes)} samples fail"


def test_of_the_samples_that_show_the_leading_cause_the_largest_is_shown():
    small, large = failed("sign", n=3), failed("sign", n=30)
    assert merged([small, large, failed("scale", n=300)]) is large


def test_names_of_a_factor_that_fit_every_sample_are_left():
    report = merged([failed("scale", names=("the batch", "2")), failed("scale", names=("2", "p"))])
    assert report.diagnoses[0].names == {"2"}


def test_what_passed_is_added_up():
    report = merged([Report("f", 0, elements=5, skipped={"x": 1}), Report("f", 0, elements=7, skipped={"x": 2, "w": 1})])
    assert report.ok and report.elements == 12 and report.skipped == {"x": 3, "w": 1}


@pytest.mark.parametrize(("factor", "options", "name"), [
    (0.75, {"p": 0.25}, "1 / (1 - p)"), (1 / 9, {"kernel_size": 3}, "the window size, kernel_size**2"),
    (6.0, {"kernel_size": (2, 3)}, "the window size, kernel_size[0] * kernel_size[1]"), (2**0.5, {"n": 2}, "the root of n"),
])
def test_a_factor_is_called_by_the_option_that_it_is_made_of(factor, options, name):
    assert name in names_of(factor, options, ())
    assert name not in names_of(1.05 * factor, options, ())
