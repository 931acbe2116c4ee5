"""Mistakes that leave the right numbers: all 0, negated, scaled, exchanged, mirrored."""
from collections.abc import Iterator
from itertools import combinations, permutations

import numpy as np

from minidl.checking.evidence import Evidence, close
from minidl.checking.factors import names_of
from minidl.checking.report import Cause

LEAST = 4  # elements without which a pattern may be chance


# --- the whole gradient, element by element --------------------------------------------------------------------------


def nothing_arrives(e: Evidence) -> Cause | None:
    """got = 0 everywhere."""
    if not (e.here == 0).all():
        return None
    return Cause("zero", f"d{e.name} is 0 everywhere: nothing that backward computes arrives in it")


def upstream_is_ignored(e: Evidence) -> Cause | None:
    """Something is left of the gradient when dout is 0: a term is not multiplied by it."""
    left = e.pull(np.zeros(e.y.size))
    left = np.where(np.isfinite(left), left, 0.0)
    if not (abs(left) > 1e-9 * e.scale).any():
        return None
    same = np.allclose(e.got[0], e.got[1], rtol=1e-9, atol=1e-12) and np.allclose(left, e.got[0], rtol=1e-9, atol=1e-12)
    what = f"d{e.name} is the same for every dout" if same else f"with dout = 0 d{e.name} is not 0"
    return Cause("ignores-upstream", f"{what}: {'dout is not used' if same else 'a term is not multiplied by dout'}")


def wrong_sign(e: Evidence) -> Cause | None:
    """got = -expected."""
    if not e.fits(-e.expected):
        return None
    return Cause("sign", f"d{e.name} is right but for its sign: got = -expected everywhere")


def constant_factor(e: Evidence) -> Cause | None:
    """got = c * expected."""
    return _factor(e, e.smooth, f"everywhere d{e.name} is")


def _ratio(e: Evidence, where: np.ndarray) -> float | None:
    """The constant got / expected, if it is one and the elements are enough to say so."""
    large = where[None, :] & (abs(e.expected) > 1e-4 * e.scale)
    if not large.any():
        return None
    ratios = e.here[large] / e.expected[large]
    c = float(np.median(ratios))
    if not np.isfinite(c) or c == 0 or not e.fits(c * e.expected, where) or abs(c - 1) < 1e-3:
        return None
    independent = large.any(axis=0).sum() * (1 if e.y.size == 1 else large.any(axis=1).sum())
    if independent < LEAST and not names_of(c, e.point.numbers, e.y_shape):
        return None
    return None if independent < 2 else c


def _factor(e: Evidence, where: np.ndarray, whose: str) -> Cause | None:
    c = _ratio(e, where)
    if c is None:
        return None
    if abs(c + 1) < 1e-6:
        return Cause("sign", f"{whose} right but for its sign: got = -expected")
    return Cause("scale", f"{whose} {{factor}} times what it should be", factor=c,
                 names=frozenset(names_of(c, e.point.numbers, e.y_shape)))


# --- the right numbers in other places -------------------------------------------------------------------------------


def _orders(shape: tuple[int, ...], same_shape: bool = False) -> Iterator[tuple[int, ...]]:
    """Permutations of axes that change an array of this shape."""
    for order in permutations(range(len(shape))):
        moved = tuple(shape[i] for i in order)
        kept = [i for i in order if shape[i] > 1]
        if kept != sorted(kept) and (moved == shape or not same_shape):
            yield order


def exchanged_axes(e: Evidence) -> Cause | None:
    """got = expected with axes exchanged: transposed, or read in another order by a reshape."""
    if not e.complete or e.x.ndim < 2:
        return None
    expected = e.expected.reshape(2, *e.x.shape)
    for order in _orders(e.x.shape):
        moved = expected.transpose(0, *(1 + i for i in order))
        if e.fits(moved.reshape(2, -1)):
            how = "transposed" if moved.shape[1:] == e.x.shape else "in another order: a reshape where a transpose is needed"
            return Cause("transposed", f"d{e.name} holds the right numbers, {how} (axes {order})")
    return None


def exchanged_axes_of_dout(e: Evidence) -> Cause | None:
    """got is the gradient for a dout whose axes were exchanged, or that was reshaped where it had to be transposed."""
    shape = e.y_shape
    if len(shape) < 2 or e.y.size > 20000:
        return None
    dys = e.cotangents.reshape(2, *shape)
    for order in _orders(shape):
        moved = dys.transpose(0, *(1 + i for i in order))
        back = dys.reshape(2, *(shape[i] for i in order)).transpose(0, *(1 + i for i in np.argsort(order)))
        for dy in (moved.reshape(2, -1), back.reshape(2, -1)):
            if not np.array_equal(dy, e.cotangents) and e.fits(dy @ e.slopes.T):
                return Cause("transposed", f"d{e.name} is right for a dout with axes in another order {order}: "
                             "a reshape where a transpose is needed, or the wrong permutation")
    return None


def reordered_dout(e: Evidence) -> Cause | None:
    """Backward's Jacobian has the right columns in another order: dout is read in a wrong order."""
    own, n = e.jacobian, e.y.size
    if own is None or n < 2 * LEAST or not e.smooth.all():
        return None
    marks = np.random.default_rng(0).standard_normal((2, len(e.index)))
    mine, theirs = marks @ own, marks @ e.slopes
    for code, order in _orders_of(n, e.y_shape):
        if close(mine, theirs[:, order]) and not close(theirs, theirs[:, order]) and close(own, e.slopes[:, order]):
            how = "part of its numbers reversed" if code == "flipped" else "its axes in another order"
            return Cause(code, f"d{e.name} is right for a dout with {how}")
    if (abs(e.slopes) > 1e-6 * abs(e.slopes).max()).sum(axis=0).max() == 1:
        return None  # each output has one source: then any wrong source would look like an exchange
    used = abs(theirs[0]) > 1e-6 * abs(theirs[0]).max()
    if used.sum() < 2 * LEAST or not all(close(np.sort(a), np.sort(b)) for a, b in zip(mine, theirs)):
        return None
    if len(np.unique(np.round(theirs[0][used] / abs(theirs[0]).max(), 6))) < used.sum():
        return None
    return Cause("transposed", f"d{e.name} is right for a dout whose elements are in another order: is a reshape where a "
                 "transpose is needed?")


def _orders_of(n: int, shape: tuple[int, ...]) -> Iterator[tuple[str, np.ndarray]]:
    """Orders in which n numbers may be misread: (outer, a, inner) with a reversed; (outer, a, b, inner) with a, b exchanged."""
    counted = np.arange(n)
    divisors = [d for d in range(1, n + 1) if n % d == 0]
    for a in divisors[1:]:
        for inner in (d for d in divisors if (n // a) % d == 0):
            yield "flipped", counted.reshape(-1, a, inner)[:, ::-1].reshape(-1)
    for a in divisors[1:]:
        for b in (d for d in divisors[1:] if (n // a) % d == 0):
            for inner in (d for d in divisors if (n // (a * b)) % d == 0):
                yield "transposed", counted.reshape(-1, a, b, inner).swapaxes(1, 2).reshape(-1)
    yield from (("transposed", order) for order in _split_axes(counted, shape))


def _split_axes(counted: np.ndarray, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """The last two axes of an image each split in two factors, and the factors exchanged."""
    if len(shape) < 3:
        return
    H, W = shape[-2:]
    for a in (d for d in range(2, H) if H % d == 0):
        for b in (d for d in range(2, W) if W % d == 0):
            split = counted.reshape(-1, a, H // a, b, W // b)
            yield split.transpose(0, 2, 1, 4, 3).reshape(-1)


def factor_not_transposed(e: Evidence) -> Cause | None:
    """The Jacobian in place of its transpose: dout @ w for dout @ w.T, a permutation for its inverse."""
    own = e.jacobian if e.complete and e.x.size == e.y.size else None
    if own is None or not e.smooth.all() or not close(own, e.slopes.T):
        return None
    return Cause("transposed", f"d{e.name} is J dout, where J.T dout is needed: a matrix is not transposed, or a "
                 "permutation is applied again in place of its inverse")


def other_input_rearranged(e: Evidence) -> Cause | None:
    """got is right for another input transposed (`transposed`), or turned or mirrored (`flipped`)."""
    for name, v in e.values.items():
        if v.ndim < 1 or v.size < 2 or (name == e.name and e.x.size > 60):
            continue
        for order in _orders(v.shape, same_shape=v.ndim > 2 and v.size > 200):
            moved = v.transpose(order).reshape(v.shape)
            if not np.array_equal(moved, v) and e.fits_if({name: moved}):
                return Cause("transposed", f"d{e.name} is right for {name} with its axes exchanged {order}: "
                             f"a transpose of {name} is missing, or a reshape stands in its place")
        for axes in _spatial(v.shape):
            turned = np.flip(v, axes)
            if not np.array_equal(turned, v) and e.fits_if({name: turned}):
                return Cause("flipped", f"d{e.name} is right for {name} reversed along axes {axes}: a kernel is turned "
                             "where it must not be, or not where it must")
    return None


def _spatial(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Sets of axes along which an array may have been reversed: the last two together first."""
    axes = [i for i, size in enumerate(shape) if size > 1]
    sets = [c for n in range(1, len(axes) + 1) for c in combinations(axes, n)]
    yield from sorted(sets, key=lambda c: (c != tuple(axes[-2:]), len(c), -sum(c)))


def reversed_in_space(e: Evidence) -> Cause | None:
    """got is expected, or the gradient for dout, reversed along axes."""
    why = None
    if e.complete and e.x.ndim:
        expected = e.expected.reshape(2, *e.x.shape)
        for axes in _spatial(e.x.shape):
            if e.fits(np.flip(expected, tuple(1 + i for i in axes)).reshape(2, -1)):
                why = f"d{e.name} holds the right numbers reversed along axes {axes}"
    shape = e.y_shape
    if why is None and shape:
        dys = e.cotangents.reshape(2, *shape)
        for axes in _spatial(shape):
            if e.fits(np.flip(dys, tuple(1 + i for i in axes)).reshape(2, -1) @ e.slopes.T):
                why = f"d{e.name} is right for a dout reversed along axes {axes}"
    return Cause("flipped", why) if why else None


def wrong_places(e: Evidence) -> Cause | None:
    """The same numbers as expected, in an order that no single exchange of axes gives."""
    if not e.complete or not e.smooth.all() or e.x.ndim < 2 or e.x.size < 2 * LEAST:
        return None
    if (abs(e.expected) < 1e-6 * e.scale).mean() > 0.1:  # zeros fit everywhere
        return None
    if not all(e.alike(np.sort(g), np.sort(x)).all() for g, x in zip(e.here, e.expected)):
        return None
    return Cause("transposed", f"d{e.name} holds the right numbers in wrong places: a reshape where a transpose is needed")


# --- some elements only ----------------------------------------------------------------------------------------------


def nothing_at_some(e: Evidence) -> Cause | None:
    """All that is wrong is 0."""
    bad = e.wrong & e.smooth
    if bad.sum() < 2 or not (e.here[:, bad] == 0).all():
        return None
    return Cause("zero", f"at {int(bad.sum())} of {bad.size} elements d{e.name} is 0 where it should not be")


def factor_at_some(e: Evidence) -> Cause | None:
    """All that is wrong is so by one factor."""
    bad = e.wrong & e.smooth
    return _factor(e, bad, f"at {int(bad.sum())} of {bad.size} elements d{e.name} is") if bad.sum() >= LEAST else None
