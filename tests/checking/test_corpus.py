"""The doctor on a corpus of students' work: every mistake is noticed, most are named rightly, nothing right is refused.

The corpus (`corpus/`) was written by the meaning of the codes, without a look at the doctor. What it is held to: every
mistake found, the right cause first for nine of ten, no correct solution refused.
"""
import importlib
import warnings
import zlib
from collections import Counter
from pathlib import Path

import pytest
from corpus.case import OPERATIONS

import minidl
from minidl.checking.codes import CODES

CORPUS = Path(__file__).parent / "corpus"
for path in sorted(CORPUS.glob("*.py")):
    if path.stem not in ("case", "__init__"):
        importlib.import_module(f"corpus.{path.stem}")

CASES = [case for operation in OPERATIONS for case in operation.cases]
MISTAKES, CORRECT = [c for c in CASES if c.code], [c for c in CASES if not c.code]
SEEDS = 1000
pytestmark = pytest.mark.cpu("raw NumPy pairs, as students write them")


def judged(case, seed=0, samples=None):
    """The report on all samples of an entry."""
    subject = case.backward if case.forward is None else (case.forward, case.backward)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the doctor says what is wrong in its report, not by warnings
        return minidl.check(subject, samples=samples or case.operation.samples, reference=case.operation.reference, seed=seed,
                            raise_error=False)


def one_sample(case, k):
    """The operation's samples, cut to one of them."""
    def samples(rng):
        found = list(case.operation.samples(rng))
        yield found[k % len(found)]
    return samples


def test_the_corpus_is_as_large_as_promised_and_uses_every_code():
    assert len(MISTAKES) >= 150 and len(CORRECT) >= 60
    assert {case.code for case in MISTAKES} == set(CODES)
    assert min(Counter(case.code for case in MISTAKES).values()) >= 5
    assert len({str(case) for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CORRECT, ids=str)
def test_no_correct_solution_is_refused(case):
    report = judged(case)
    assert report.ok and report.causes == [] and report.elements, report.text


def rates(cases):
    """(names of missed ones, names of those diagnosed otherwise)."""
    missed, otherwise = [], []
    for case in cases:
        report = judged(case)
        assert len(report.text.splitlines()) <= 25 and max(map(len, report.text.splitlines())) <= 140, report.text
        if report.ok:
            missed.append(str(case))
        elif report.causes[0] != case.code:
            otherwise.append(f"{case}: {case.code} expected, {report.causes} named")
    return missed, otherwise


def test_a_tenth_of_the_mistakes_is_found_and_nine_of_ten_are_named():
    """One in ten, chosen by name, so that plain pytest stays quick; all of them: the slow test below."""
    chosen = [case for case in MISTAKES if zlib.crc32(str(case).encode()) % 10 == 0]
    missed, otherwise = rates(chosen)
    assert len(chosen) > 40 and not missed
    assert len(otherwise) <= len(chosen) / 10, "\n".join(otherwise)


@pytest.mark.slow
def test_every_mistake_is_found_and_nine_of_ten_are_named():
    missed, otherwise = rates(MISTAKES)
    print(f"\n{len(MISTAKES)} mistakes, {len(MISTAKES) - len(missed)} found, {len(MISTAKES) - len(otherwise)} named rightly")
    print("\n".join(otherwise))
    assert not missed
    assert len(otherwise) <= len(MISTAKES) / 10, "\n".join(otherwise)


@pytest.mark.slow
def test_no_correct_solution_is_refused_at_other_seeds():
    """Two hundred checks: each entry at a seed of its own. `seeds.py` beside this file runs a thousand seeds for each."""
    for n, case in enumerate(CORRECT):
        report = judged(case, seed=1 + 5 * n)
        assert report.ok, report.text
    assert len(CORRECT) >= 200
