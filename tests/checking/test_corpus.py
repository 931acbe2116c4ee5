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
from minidl.checking import causes
from minidl.checking.codes import CODES

CORPUS = Path(__file__).parent / "corpus"
for path in sorted(CORPUS.glob("*.py")):
    if path.stem not in ("case", "__init__"):
        importlib.import_module(f"corpus.{path.stem}")

CASES = [case for operation in OPERATIONS for case in operation.cases]
MISTAKES, CORRECT = [c for c in CASES if c.code], [c for c in CASES if not c.code]
SEEDS = 1000

CHOSEN = {  # by hypothesis, mistakes that it names; without one, those that are told by rules, shapes, ties, a reference
    "nothing_arrives": ["getitem_rows-adds_to_a_copy"],
    "upstream_is_ignored": ["tanh-one_minus_y_squared", "tanh-dout_multiplies_only_the_first_term"],
    "wrong_sign": ["negate-passes_dout_through"],
    "constant_factor": ["linear-scales_the_bias_as_well", "repeat-averages_the_copies"],
    "exchanged_axes": ["transpose-reverses_all_axes", "channels_last_flatten-reshapes_and_leaves_the_channels_last"],
    "reversed_in_space": ["flip-turns_all_axes", "cumsum-forgets_to_turn_back", "correlate-kernel_gradient_reversed"],
    "one_sample": ["weighted_square-weights_see_the_last_sample", "max_over_time-puts_dout_into_the_first_sample",
                   "relu-returns_inside_the_loop"],
    "exchanged_axes_of_dout": ["conv2d-reshapes_dout_without_transposing_it"],
    "shifted": ["concat-second_part_starts_one_too_early", "pad-cuts_at_the_end_only"],
    "one_share_only": ["repeat-keeps_the_last_copy", "repeat-takes_every_first_copy", "diff-second_slice_overwrites",
                       "matmul-loop_forgets_to_add_over_the_columns"],
    "wrong_at_the_edges": ["im2col-stops_one_window_early"],
    "wrong_for_windows_at_the_edges": ["avg_pool2d-never_counts_the_padding",
                                       "max_pool2d-misses_windows_in_the_last_row_and_column"],
    "statistics_path": ["center-takes_the_mean_as_constant", "l2_normalize-forgets_to_sum_over_the_row",
                        "center-adds_the_mean_of_dout", "center-forgets_the_count_in_the_mean",
                        "layer_norm-takes_the_mean_for_given",
                        "unseen-standardise-columns-goes_through_the_mean_but_not_the_deviation",
                        "batch_norm-adds_the_mean_instead_of_subtracting_it", "var-forgets_to_subtract_the_mean",
                        "cross_entropy-only_the_score_of_the_label"],
    "factor_not_transposed": ["matmul_square-forgets_to_transpose_b"],
    "reordered_dout": ["repeat-takes_repeat_for_tile", "im2col-turns_every_window",
                       "upsample-brings_blocks_to_the_front_without_moving_axes"],
    "other_input_rearranged": ["residual_block-does_not_transpose_v", "correlate-kernel_not_turned"],
    "nothing_at_some": ["huber-nothing_outside_delta"],
    "": ["negate-negates_dout_in_place", "power-counts_in_float32", "mse-scales_the_cached_error", "mse-half_of_it",
         "add-returns_one_gradient_for_two_inputs", "reshape-flattens_the_gradient", "sum-returns_dout_unexpanded",
         "matmul-exchanges_the_gradients", "multiply-forgets_to_sum", "pad-does_not_cut",
         "correlate_strided-leaves_the_padding_on", "max_pool2d-crops_dx_to_what_the_windows_cover",
         "matmul_batched-returns_the_gradient_of_b_transposed", "add-nothing_for_the_second",
         "max-only_a_single_maximum_gets_dout",
         "log-multiplies_instead_of_dividing"],
}
NOT_IN_THE_CORPUS = {"wrong_places", "factor_at_some"}  # test_doctor.py has a mistake for each
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


def test_every_hypothesis_and_every_code_has_a_chosen_mistake():
    assert {hypothesis.__name__ for hypothesis in causes.HYPOTHESES} == CHOSEN.keys() - {""} | NOT_IN_THE_CORPUS
    named = {name for names in CHOSEN.values() for name in names}
    assert {case.code for case in MISTAKES if str(case) in named} == set(CODES)


@pytest.mark.parametrize(("hypothesis", "name"), [(hypothesis, name) for hypothesis in CHOSEN for name in CHOSEN[hypothesis]])
def test_a_hypothesis_names_its_mistake(hypothesis, name, monkeypatch):
    """The code alone might be that of another hypothesis, which is tried later and knows less."""
    found = []

    def watched(tried):
        def one(e):
            cause = tried(e)
            found.extend([tried.__name__] * (cause is not None))
            return cause
        return one

    monkeypatch.setattr(causes, "HYPOTHESES", [watched(tried) for tried in causes.HYPOTHESES])
    case = next(case for case in MISTAKES if str(case) == name)
    report = judged(case)
    assert report.causes[:1] == [case.code], report.text
    assert hypothesis in found or not hypothesis


def test_windows_that_reach_over_the_edge_are_told_from_those_that_lie_along_it():
    case = next(case for case in MISTAKES if str(case) == "avg_pool2d-never_counts_the_padding")
    assert "whose windows reach over the edge" in " ".join(judged(case).text.split())


@pytest.mark.slow
def test_every_mistake_is_found_and_nine_of_ten_are_named():
    missed, otherwise = rates(MISTAKES)
    print(f"\n{len(MISTAKES)} mistakes, {len(MISTAKES) - len(missed)} found, {len(MISTAKES) - len(otherwise)} named rightly")
    print("\n".join(otherwise))
    assert not missed
    assert len(otherwise) <= len(MISTAKES) / 50, "\n".join(otherwise)  # promised: a tenth; ten of 699 when last measured


@pytest.mark.slow
def test_no_correct_solution_is_refused_at_other_seeds():
    """Two hundred checks: each entry at a seed of its own. `seeds.py` beside this file runs a thousand seeds for each."""
    for n, case in enumerate(CORRECT):
        report = judged(case, seed=1 + 5 * n)
        assert report.ok, report.text
    assert len(CORRECT) >= 200
