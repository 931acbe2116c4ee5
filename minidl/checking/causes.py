"""Why a gradient is wrong: hypotheses about what a student wrote, each tried on the numbers.

Every hypothesis says what the gradient would be if a certain mistake had been made. It is named only if these numbers
come out, at every measured element. Where none fits, the cause is unknown; a guess would send a student to the wrong
line. They are tried in the order of `HYPOTHESES`: what explains more with less comes first.
"""
from collections.abc import Callable

import numpy as np

from minidl.checking import lost_shares, right_numbers
from minidl.checking.evidence import BUDGET, Evidence
from minidl.checking.report import Cause
from minidl.checking.statistics_path import statistics_path

Hypothesis = Callable[[Evidence], Cause | None]

HYPOTHESES: list[Hypothesis] = [
    right_numbers.nothing_arrives,
    right_numbers.upstream_is_ignored,
    right_numbers.wrong_sign,
    right_numbers.constant_factor,
    right_numbers.exchanged_axes,
    right_numbers.reversed_in_space,
    lost_shares.one_sample,
    right_numbers.exchanged_axes_of_dout,
    lost_shares.shifted,
    lost_shares.one_share_only,
    lost_shares.wrong_at_the_edges,
    lost_shares.wrong_for_windows_at_the_edges,
    statistics_path,
    right_numbers.factor_not_transposed,
    right_numbers.reordered_dout,
    right_numbers.other_input_rearranged,
    right_numbers.wrong_places,
    right_numbers.nothing_at_some,
    right_numbers.factor_at_some,
]


def diagnose(e: Evidence) -> Cause:
    """The cause that the numbers support; unknown where there is none."""
    with np.errstate(all="ignore"):
        cause = _first_that_fits(e)
    cause.input = e.name
    return cause


def _first_that_fits(e: Evidence) -> Cause:
    if not (e.wrong & e.smooth).any() and e.wrong.any():
        return Cause("unknown", f"d{e.name} is wrong at kinks only: there it must lie between the slopes of both sides")
    for hypothesis in HYPOTHESES:
        cause = hypothesis(e)
        if cause is not None:
            return cause
    remark = _remark(e) or (f"; the search ended after {BUDGET:g} s: a smaller input would tell more" if e.out_of_time else "")
    return Cause("unknown", f"d{e.name} fits no cause on the list{remark}")


# --- where no cause is known -----------------------------------------------------------------------------------------


def _remark(e: Evidence) -> str:
    """What can be said all the same: dout came back as it was; a factor that is one of the arrays is missing or too many."""
    if not np.isfinite(e.got).all():
        return ": it holds NaN or infinity"
    twice = e.pull(2 * e.cotangents[0])
    if not np.allclose(twice, 2 * e.got[0], rtol=1e-6, atol=1e-9 * e.scale) and np.isfinite(twice).all():
        return ": it is not proportional to dout: dout enters more than once"
    if e.x.size == e.y.size and e.fits(e.cotangents[:, e.index]):
        return ": it equals dout: the local slope is not multiplied in"
    for other in e.values:
        alike = other != e.name and e.values[other].size == e.x.size
        if alike and e.fits((e.cotangents @ e.slopes_of(other).T)[:, e.index]):
            return f": it equals the gradient of {other}: are they exchanged?"
    return _array_factor(e)


def _array_factor(e: Evidence) -> str:
    large = (abs(e.expected) > 1e-3 * e.scale) & e.smooth[None]
    if large.sum() < 4 or not e.complete:
        return ""
    known = {**e.values, "out": e.y.reshape(e.y_shape)}
    for name, v in known.items():
        try:
            wide = np.broadcast_to(v, e.x.shape).reshape(-1)[e.index]
        except ValueError:
            continue
        for word, factor in ((f"{name} is a factor too many", wide), (f"the factor {name} is missing", 1 / wide)):
            if np.ptp(wide) > 0 and np.isfinite(factor).all() and e.fits(factor * e.expected):
                return f", but {word}"
    return ""
