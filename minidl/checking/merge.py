"""One report of many: the same mistake seen at several samples."""
from collections import Counter

from minidl.checking.report import Report

FIRST = ("forward-differs", "mutates-input", "not-deterministic", "wrong-dtype")
"""What makes all else doubtful comes first, however few samples show it."""
NAMED = 2.0
"""A cause that is named at one sample has its reasons; it takes two samples that know of none to outvote it."""


def merged(reports: list[Report]) -> Report:
    """The report of the sample that shows the likeliest cause, with the counts of all samples.

    A single mistake shows at many samples: the cause that most of the failed ones name comes first.
    """
    failed = [report for report in reports if not report.ok]
    if not failed:
        best = max(reports, key=lambda r: r.worst)
        best.elements, best.directions = sum(r.elements for r in reports), sum(r.directions for r in reports)
        best.kinks = []  # their indices are those of many samples
        best.checked = dict(sum((Counter(r.checked) for r in reports), Counter()))
        best.skipped = dict(sum((Counter(r.skipped) for r in reports), Counter()))
        return best
    votes: Counter[str] = Counter()
    for report in failed:
        for cause in report.diagnoses:
            votes[cause.code] += (1.0 if cause.code == "unknown" else NAMED) / len(report.diagnoses)  # type: ignore[assignment]
    leading = max(votes, key=lambda code: (code in FIRST, votes[code], code != "unknown")) if votes else None
    named = [r for r in failed if r.causes and r.causes[0] == leading] or [r for r in failed if leading in r.causes] or failed
    shown = max(named, key=lambda r: sum(r.checked.values()))
    shown.diagnoses.sort(key=lambda cause: cause.code != leading)
    _agree_on_factor(shown, failed)
    others = [cause for r in failed for cause in r.diagnoses if cause.code not in shown.causes and cause.code != "unknown"]
    for cause in others:
        if cause.code not in shown.causes:
            shown.diagnoses.append(cause)
    shown.seen = f"{len(failed)} of {len(reports)} samples fail"
    return shown


def _agree_on_factor(shown: Report, failed: list[Report]) -> None:
    """Of the names that a factor may have, those that fit every sample."""
    first = shown.diagnoses[0] if shown.diagnoses else None
    if first is None or first.factor is None:
        return
    for report in failed:
        for cause in report.diagnoses:
            same = cause.code == first.code and cause.input == first.input and cause.factor is not None
            if same and first.names & cause.names:
                first.names &= cause.names
