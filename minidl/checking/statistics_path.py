"""Mistakes about a statistic: y depends on x also through a mean, a variance, a norm, a sum, and that path is wrong.

For y of the shape of x, the Jacobian of a normalisation is, within each group that shares the statistic,

    D I + a 1 1' + b u u' + c w w'      u: x minus its mean, w: x itself

with a the path through the mean and b, c those through a variance or a norm. Backward's own Jacobian, taken apart alike,
says which path is missing, negated or scaled.
"""
import numpy as np

from minidl.checking.evidence import Evidence, close
from minidl.checking.factors import names_of
from minidl.checking.report import Cause

LEAST = 4


def statistics_path(e: Evidence) -> Cause | None:
    """What is wrong with the path through a statistic, if that is all that is wrong."""
    if not e.complete or not e.smooth.all() or e.x.size < LEAST or e.jacobian is None:
        return None
    if e.x.shape != e.y_shape:
        return _constant_difference(e)
    own, slopes = e.jacobian, e.slopes
    size = abs(slopes).max()
    off = ~np.eye(e.x.size, dtype=bool)
    across = off & (abs(slopes) > 1e-6 * size)
    if not across.any():
        return None
    if (abs(own[off]) <= 1e-9 * size).all():
        return _only_itself(e, own, across)
    return _one_factor_across(e, own, across) or _terms(e, own, across)


def _missing(e: Evidence, path: str) -> Cause:
    return Cause("missing-statistics-path", f"{e.name} acts on all outputs of its group through {path}, and d{e.name} leaves "
                 "that path out")


def _only_itself(e: Evidence, own: np.ndarray, across: np.ndarray) -> Cause | None:
    """Every element moves only its own output: the statistic was held fixed."""
    diagonal = np.diag(own)
    known = [e.y, e.y / e.x.reshape(-1)] + ([] if _is_linear(e) else [np.diag(e.slopes)])
    held_fixed = any(close(diagonal, direct) for direct in known)
    if not held_fixed:
        groups = _groups(across)
        held_fixed = all(len(g) >= LEAST and _rank(e, (e.slopes - own)[np.ix_(g, g)]) <= 2 < len(g) - 1 for g in groups)
    if not held_fixed:
        return None
    return Cause("missing-statistics-path", f"in d{e.name} every element moves only its own output; but through a sum (a mean, "
                 "a variance, a norm) it moves others, too, and that path is missing")


def _is_linear(e: Evidence) -> bool:
    """Whether the slopes are the same elsewhere: then y has no statistic but sums, each of whose terms counts alone."""
    rows = np.arange(min(LEAST, e.x.size))
    return close(e.slopes_with({e.name: e.x * 0.7 + 0.2}, rows), e.slopes[rows])


def _one_factor_across(e: Evidence, own: np.ndarray, across: np.ndarray) -> Cause | None:
    """All that acts across elements has one wrong factor."""
    ratio = float(np.median(own[across] / e.slopes[across]))
    if not close(own[across], ratio * e.slopes[across]) or abs(ratio - 1) < 1e-4 or abs(ratio) < 1e-6:
        return None
    names = names_of(ratio, e.point.numbers, e.y_shape)
    return _wrong_factor(e, "a statistic (a sum, a mean, a variance)", ratio) if names or abs(ratio + 1) < 1e-4 else None


def _wrong_factor(e: Evidence, path: str, ratio: float) -> Cause:
    whose = f"the path of {e.name} through {path}"
    if abs(ratio + 1) < 1e-4:
        return Cause("sign", f"{whose} has the wrong sign")
    return Cause("scale", f"{whose} is {{factor}} times what it should be", factor=ratio,
                 names=frozenset(names_of(ratio, e.point.numbers, e.y_shape)))


def _terms(e: Evidence, own: np.ndarray, across: np.ndarray) -> Cause | None:
    """Both Jacobians taken apart into D, mean and variance terms: the term whose coefficient differs."""
    for scale in _column_scales(e):
        found = _differing(e, own / scale, e.slopes / scale, across)
        if found is None:
            continue
        if len(found) != 1:
            return None
        (path, ratio), = found
        if ratio != ratio:
            return None
        return _missing(e, path) if abs(ratio) < 1e-3 else _wrong_factor(e, path, ratio)
    return None


def _column_scales(e: Evidence) -> list[np.ndarray]:
    """What outputs may have been multiplied by after the statistic: nothing, or another input (gamma)."""
    scales = [np.ones(e.y.size)]
    for name, v in e.values.items():
        if name != e.name and (v != 0).all():
            try:
                scales.append(np.broadcast_to(v, e.y_shape).reshape(-1))
            except ValueError:
                continue
    return scales


def _differing(e: Evidence, own: np.ndarray, slopes: np.ndarray, across: np.ndarray) -> set[tuple[str, float]] | None:
    """(path, mine / right) of the terms that differ; None where the slopes are no such combination."""
    found: set[tuple[str, float]] = set()
    x = e.x.reshape(-1)
    for group in _groups(across):
        if len(group) < LEAST:
            return None
        square, m = np.ix_(group, group), len(group)
        u = x[group] - x[group].mean()
        terms = {"direct": np.eye(m), "the mean": np.ones((m, m)) / m, "the variance": np.outer(u, u) / (u @ u),
                 "the norm": np.outer(x[group], x[group]) / (x[group] @ x[group])}
        for names in (("direct", "the norm"), ("direct", "the mean", "the variance")):
            right, mine = (_coefficients(block[square], [terms[n] for n in names]) for block in (slopes, own))
            if right is not None:
                break
        if right is None or mine is None or not np.isclose(mine[0], right[0], rtol=1e-4):
            return None
        size = abs(right).max()
        found |= {(name, round(float(a / b), 4) if abs(b) > 1e-5 * size else float("nan"))
                  for name, a, b in zip(names[1:], mine[1:], right[1:]) if abs(a - b) > 1e-4 * size}
    return found


def _coefficients(block: np.ndarray, terms: list[np.ndarray]) -> np.ndarray | None:
    """The block as a combination of the terms; None if it is none."""
    columns = np.stack([t.reshape(-1) for t in terms], axis=1)
    solution = np.linalg.lstsq(columns, block.reshape(-1), rcond=None)[0]
    return solution if close(columns @ solution, block.reshape(-1)) else None


def _rank(e: Evidence, block: np.ndarray) -> int:
    values = np.linalg.svd(block, compute_uv=False)
    return int((values > 1e-5 * max(values[0], 1e-6 * abs(e.slopes).max())).sum())


def _groups(across: np.ndarray) -> list[list[int]]:
    """Elements that act on each other's outputs, directly or through others."""
    left, groups, linked = set(range(len(across))), [], across | across.T
    while left:
        group: set[int] = set()
        frontier = {left.pop()}
        while frontier:
            group |= frontier
            frontier = {int(j) for i in frontier for j in np.flatnonzero(linked[i])} - group
        left -= group
        groups.append(sorted(group))
    return groups


def _constant_difference(e: Evidence) -> Cause | None:
    """For a reduction: what is missing is what would make it blind to a shift, or to a scale, of what it reduces.

    A function that subtracts a mean, or normalises by exponentials, does not change if a number is added to all elements:
    their slopes add up to 0. One that divides by a norm does not change if all are multiplied: sum of x * slope is 0.
    """
    own = e.jacobian
    if own is None or e.x.size <= e.y.size:
        return None
    missing, size, x = e.slopes - own, abs(e.slopes).max(), e.x.reshape(-1)
    if abs(missing).max() < 1e-4 * size:
        return None
    columns = [(missing[:, o], e.slopes[:, o]) for o in range(e.y.size)]
    if all(_in_proportion(m, s, np.ones(x.size), size) for m, s in columns):
        return _missing(e, "the mean, or another statistic,")
    if all(_in_proportion(m, s, x, size) for m, s in columns):
        return _missing(e, "the norm")
    if e.x.ndim == 2 and all(_is_softmax(m.reshape(e.x.shape), s.reshape(e.x.shape), e.x, size) for m, s in columns):
        return _missing(e, "the sum of exponentials")
    return None


def _in_proportion(missing: np.ndarray, slopes: np.ndarray, pattern: np.ndarray, size: float) -> bool:
    """Whether the elements that count are off in proportion to `pattern`, along which the output does not change."""
    members = abs(slopes) > 1e-9 * size
    gap, along = missing[members], pattern[members]
    if members.sum() < LEAST or abs(missing[~members]).max(initial=0.0) > 1e-6 * size:
        return False
    if abs(slopes[members] @ along) > 1e-5 * abs(slopes[members]) @ abs(along):
        return False
    return bool((abs(gap - along * (gap @ along) / (along @ along)) <= 1e-5 * size).all())


def _is_softmax(missing: np.ndarray, slopes: np.ndarray, x: np.ndarray, size: float) -> bool:
    """Whether each row is 0 or in proportion to the softmax of x's row, and the slopes of each row add up to 0."""
    if x.shape[1] < 3 or (abs(slopes.sum(axis=1)) > 1e-5 * size).any():
        return False
    p = np.exp(x - x.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return bool((abs(missing - missing.sum(axis=1, keepdims=True) * p) <= 1e-5 * size).all())
