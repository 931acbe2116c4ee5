"""Mistakes that lose what some outputs contribute: of other samples, of overlapping windows, at the edges.

Most of them show in backward's own Jacobian, got one output at a time: its columns are right but for some outputs, or its
entries are each right or 0.
"""
from itertools import combinations, product

import numpy as np

from minidl.checking.evidence import Evidence
from minidl.checking.report import Cause

LEAST = 4
MOST_SHARES = 4_000_000

# --- one sample ------------------------------------------------------------------------------------------------------


def one_sample(e: Evidence) -> Cause | None:
    """One sample of the batch alone contributes, or receives."""
    return _one_receives(e) or _one_contributes(e)


def _one_receives(e: Evidence) -> Cause | None:
    N = e.x.shape[0] if e.x.ndim else 0
    first = next(iter(e.values.values()))
    is_batch = first.shape[:1] == (N,) or e.y_shape[:1] == (N,)
    if N < 2 or not is_batch or not (e.y.size == 1 or _apart(e, N)):
        return None
    samples = e.index // (e.x.size // N)
    for n in np.unique(samples):
        if e.fits(np.where(samples == n, e.expected, 0.0)):
            return Cause("one-sample-only", f"only sample {n} of the {N} in {e.name} has a gradient, the others have 0")
        if e.complete and e.x.size > N and e.fits(np.tile(e.expected.reshape(2, N, -1)[:, n], (1, N))):
            return Cause("one-sample-only", f"every sample has the gradient of sample {n}")
    return None


def _apart(e: Evidence, N: int) -> bool:
    """Whether no output depends on two samples."""
    samples, acts = e.index // (e.x.size // N), abs(e.slopes) > 1e-9 * abs(e.slopes).max(initial=0.0)
    counted = np.zeros((N, e.y.size), bool)
    np.logical_or.at(counted, samples, acts)
    return bool((counted.sum(axis=0) <= 1).all())


def _one_contributes(e: Evidence) -> Cause | None:
    N = e.y_shape[0] if e.y_shape else 0
    if N < 2 or e.slopes.size > MOST_SHARES:
        return None
    shares = e.shares(tuple(range(1, len(e.y_shape))))
    if len(e.y_shape) < 2 and e.x.ndim > 0 and e.x.shape == e.y_shape:
        return None  # a vector that becomes a vector has no samples
    if ((shares != 0).sum(axis=2) <= 1).all():
        return None
    for n in range(N):
        if e.fits(shares[:, :, n]):
            return Cause("one-sample-only", f"d{e.name} is that of sample {n} alone; the other {N - 1} do not contribute")
    return None


# --- overlap ---------------------------------------------------------------------------------------------------------


def one_share_only(e: Evidence) -> Cause | None:
    """Where several outputs contribute, only the first or the last share is kept: `=` for `+=`."""
    own, shape = e.jacobian, e.y_shape
    if own is None or not shape:
        return None
    size = abs(e.slopes).max(initial=0.0)
    kept, acts = (abs(own) > 1e-6 * size), (abs(e.slopes) > 1e-6 * size)
    right = abs(own - e.slopes) <= 1e-4 * abs(e.slopes) + 1e-6 * size
    found = _one_position(e, right, kept, acts)
    for part in _parts(e):
        found = found or _kept_one(e, right, kept, acts, part)
    if not found:
        return None
    return Cause("overwrites-overlap", f"{e.name} contributes to several outputs, but at {found} elements only one of their "
                 "shares arrives, the first or the last")


def _one_position(e: Evidence, right: np.ndarray, kept: np.ndarray, acts: np.ndarray) -> int:
    """The outputs of the first or the last position alone contribute, whole: a weight whose gradient a loop sets anew."""
    shape = e.y_shape
    there = kept[e.smooth].any(axis=0)
    if not right[e.smooth][:, there].all() or not there.any() or there.all():
        return 0
    box = there.reshape(shape)
    for fixed in (c for n in range(1, len(shape)) for c in combinations(range(1, len(shape)), n)):
        for end in (-1, 0):
            position = np.zeros(shape, bool)
            position[tuple(end if a in fixed else slice(None) for a in range(len(shape)))] = True
            if np.array_equal(box, position & acts.any(axis=0).reshape(shape)):
                return int((acts[:, ~there].any(axis=1) & e.smooth).sum())
    return 0


def _parts(e: Evidence) -> list[list[np.ndarray]]:
    """What is looked at together: all outputs; all but an element's own; those of each sample by itself."""
    every = np.ones(e.slopes.shape, bool)
    parts = [[every]]
    if e.x.shape == e.y_shape and e.complete:
        parts.append([every & (np.eye(e.x.size) == 0)])
    N = e.y_shape[0]
    if 1 < N <= 64 and len(e.y_shape) > 1:
        sample = np.arange(e.y.size) // (e.y.size // N)
        parts.append([every & (sample == n) for n in range(N)])
    return parts


def _kept_one(e: Evidence, right: np.ndarray, kept: np.ndarray, acts: np.ndarray, parts: list[np.ndarray]) -> int:
    """At how many elements exactly one of several shares was kept, if the Jacobian looks like that in all its parts; else 0."""
    axes = range(len(e.y_shape))
    inside = parts[0] if len(parts) == 1 else np.ones(kept.shape, bool)
    if not (right | ~kept | ~inside)[e.smooth].all():  # an entry is right, or missing
        return 0
    selects = bool((acts.sum(axis=0) <= 1).all())  # a maximum, an index: an element may act on an output, but not at this point
    for summed in (c for n in range(max(1, len(axes))) for c in combinations(axes, n)):
        counted = [_telling(e, kept & part, acts & part, summed, selects or not part.all()) for part in parts]
        if None not in counted and any(counted):
            return sum(c or 0 for c in counted)
    return 0


def _telling(e: Evidence, kept: np.ndarray, acts: np.ndarray, summed: tuple[int, ...], may_lose_all: bool) -> int | None:
    """How many elements kept exactly one of several groups of outputs; None if some kept more, or a group in part."""
    shape = e.y_shape
    over = tuple(1 + a for a in summed)
    there = acts.reshape(len(acts), *shape).any(axis=over).reshape(len(acts), -1)
    left = kept.reshape(len(acts), *shape).any(axis=over).reshape(len(acts), -1)
    whole = (kept == acts) | ~left[:, _group_of(shape, summed)]
    counts, several = left.sum(axis=1), (there.sum(axis=1) > 1) & e.smooth
    if not whole[e.smooth].all() or (counts[several] > 1).any():
        return None
    telling = several & (counts == 1)
    if not several.any():
        return 0
    if telling.sum() < min(2, several.sum()) or (not may_lose_all and telling.sum() < 0.6 * several.sum()):
        return None
    rest = [n for a, n in enumerate(shape) if a not in summed]
    return int(telling.sum()) if _at_an_end(there[telling], left[telling], rest) else None


def _group_of(shape: tuple[int, ...], summed: tuple[int, ...]) -> np.ndarray:
    """For every output the number of its group, when the axes `summed` lie within a group."""
    outer = [1 if a in summed else n for a, n in enumerate(shape)]
    return np.broadcast_to(np.arange(int(np.prod(outer))).reshape(outer), shape).reshape(-1)


def _at_an_end(there: np.ndarray, left: np.ndarray, shape: list[int]) -> bool:
    """Whether what is left is, along every axis of the output, always the first or always the last of what there was."""
    if not shape:
        return False
    counted = np.arange(int(np.prod(shape)))
    if _is_extreme(there, left, counted):
        return True
    return all(_is_extreme(there, left, c.reshape(-1)) for c in np.indices(shape))


def _is_extreme(there: np.ndarray, left: np.ndarray, c: np.ndarray) -> bool:
    """Whether the one group that is left has always the largest, or always the smallest, number of those that were there."""
    kept = (left * c).sum(axis=1)
    last = np.where(there, c, -1).max(axis=1)
    first = np.where(there, c, c.max() + 1).min(axis=1)
    return bool((kept == last).all() or (kept == first).all())


# --- edges -----------------------------------------------------------------------------------------------------------


def spatial_axes(shape: tuple[int, ...]) -> list[int]:
    """The axes of images or signals: those behind batch and channels; the last one of a matrix."""
    return list(range(2, len(shape))) if len(shape) > 2 else [len(shape) - 1] if shape else []


def shifted(e: Evidence) -> Cause | None:
    """got = expected, some rows or columns off: the padding is cut at the wrong place."""
    table = any(np.asarray(v).dtype.kind in "iu" and np.ndim(v) for v in e.point.numbers.values())  # rows that are looked up
    first = {1: 0, 2: 1 if table else 0}.get(e.x.ndim, 1)
    spatial = [a for a in range(first, e.x.ndim) if e.x.shape[a] > 2]
    if not e.complete or not spatial:
        return None
    got, expected = e.here.reshape(2, *e.x.shape), e.expected.reshape(2, *e.x.shape)
    offsets = [range(-2, 3) if a in spatial else (0,) for a in range(e.x.ndim)]
    for offset in sorted(product(*offsets), key=lambda o: sum(map(abs, o))):
        if not any(offset) or any(2 * abs(o) > size for o, size in zip(offset, e.x.shape)):
            continue
        mine = tuple(slice(max(0, -o), size - max(0, o)) for o, size in zip(offset, e.x.shape))
        theirs = tuple(slice(max(0, o), size - max(0, -o)) for o, size in zip(offset, e.x.shape))
        a, b = got[(slice(None), *mine)], expected[(slice(None), *theirs)]
        if a.size >= 2 * LEAST and (abs(b) > 1e-6 * e.scale).mean() > 0.3 and e.alike(a, b).all():
            return Cause("border", f"d{e.name} is right, but shifted by {offset}: padding is cut off at the wrong place")
    return None


def wrong_at_the_edges(e: Evidence) -> Cause | None:
    """Right inside, wrong along the edges of the input."""
    if not e.complete or not e.smooth.any():
        return None
    wrong = (e.wrong & e.smooth).reshape(e.x.shape)
    for axes in (spatial_axes(e.x.shape), [1] if e.x.ndim > 2 else []):
        place = _edge(wrong, axes)
        if place:
            return Cause("border", f"d{e.name} is right inside and wrong {place}")
    return None


def wrong_for_windows_at_the_edges(e: Evidence) -> Cause | None:
    """Right for the outputs inside, wrong for those at the edges, or for those whose windows reach over the edge."""
    own, shape = e.jacobian, e.y_shape
    if own is None or not shape or not spatial_axes(shape):
        return None
    size = abs(e.slopes).max(initial=0.0)
    wrong = (abs(own - e.slopes) > 1e-5 * size)[e.smooth].any(axis=0)
    if not wrong.any() or wrong.all():
        return None
    covered = (abs(e.slopes) > 1e-9 * size).sum(axis=0)
    reaches_over = covered < covered.max()
    slides = covered.min() > 0 and 1 < covered.max() <= 2 * covered.min() + 4  # windows, some of which reach over the edge
    if slides and e.complete and e.x.ndim > 1 and wrong.sum() >= LEAST and np.array_equal(wrong, reaches_over) \
            and _is_box(~reaches_over.reshape(shape)):
        return Cause("border", f"d{e.name} is right for windows inside, and wrong for the {int(wrong.sum())} outputs whose "
                     "windows reach over the edge")
    for axes in (spatial_axes(shape), [1] if len(shape) > 2 else []):
        place = _edge(wrong.reshape(shape), axes)
        if place:
            return Cause("border", f"d{e.name} is right for outputs inside and wrong for those {place} of out")
    return None


def _is_box(inside: np.ndarray) -> bool:
    """Whether the marked outputs are, in space, those of a box."""
    axes = spatial_axes(inside.shape)
    flat = np.asarray(inside.any(axis=tuple(a for a in range(inside.ndim) if a not in axes)))
    if not flat.any():
        return False
    ranges = [np.flatnonzero(flat.any(axis=tuple(b for b in range(flat.ndim) if b != a))) for a in range(flat.ndim)]
    return bool(flat[tuple(slice(r[0], r[-1] + 1) for r in ranges)].all())


def _edge(wrong: np.ndarray, axes: list[int]) -> str | None:
    """Where the edge is, if all that is wrong lies along it and an inside without mistakes is left."""
    axes = [a for a in axes if wrong.shape[a] > (1 if wrong.ndim == 4 and a > 1 else 2)]
    if not axes:
        return None
    share = np.asarray(wrong.mean(axis=tuple(a for a in range(wrong.ndim) if a not in axes)))
    best: tuple[int, tuple[int, ...]] | None = None
    for margins in product(*(range(n // 2 + 1) for n in share.shape for _ in range(2))):
        pairs = [(margins[2 * a], margins[2 * a + 1], n) for a, n in enumerate(share.shape)]
        if any(low != high and low + high > max(1, (n - 1) // 2) for low, high, n in pairs):
            continue  # a wrong half is no edge
        inside = tuple(slice(margins[2 * a], share.shape[a] - margins[2 * a + 1]) for a in range(share.ndim))
        edge = np.ones(share.shape, bool)
        edge[inside] = False
        if not edge.any() or edge.all() or share[inside].any() or (share[edge] > 0).mean() < 0.6:
            continue
        chance = edge.mean() ** int((share[edge] > 0).sum())  # that so much that is wrong lies at the edge by accident
        if (chance < 0.02 or share[edge].min() > 0.9) and (best is None or sum(margins) < best[0]):
            best = sum(margins), margins
    if best is None:
        return None
    words = []
    for a, axis in enumerate(axes):
        low, high = best[1][2 * a : 2 * a + 2]
        words += [f"in the first {low} of axis {axis}"] if low else []
        words += [f"in the last {high} of axis {axis}"] if high else []
    return " and ".join(words)

