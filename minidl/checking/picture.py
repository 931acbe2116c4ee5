"""Where in an array a gradient is wrong: as characters, and as a figure."""
from dataclasses import dataclass
from typing import Any

import numpy as np

MOST_COLUMNS, MOST_ROWS = 64, 9
RANK = ".?~0#"
"""Right, not measured, at a kink, nothing where something should be, wrong. Of several elements the last one shows."""
LEGEND = {".": "right", "?": "not measured", "~": "at a kink, skipped", "0": "0 where something should be", "#": "wrong"}


@dataclass
class Picture:
    """The elements of one input: `states`, characters of RANK; `errors`, |got - expected|, NaN where not measured."""

    name: str
    states: np.ndarray
    errors: np.ndarray

    @property
    def wrong(self) -> int:
        """How many elements are wrong."""
        return int(np.isin(self.states, ["0", "#"]).sum())

    def lines(self, room: int) -> list[str]:
        """A title, and rows of characters: the last two axes, at the place of the other axes where most is wrong."""
        at, flat = self._slice(self.states)
        grid = _squeezed(flat, max(1, min(MOST_ROWS, room - 2)), MOST_COLUMNS)
        used = [c for c in RANK if (grid == c).any()]
        legend = ", ".join(f"{c} {LEGEND[c]}" for c in used)
        shape = "" if flat.shape == grid.shape else f" ({' x '.join(map(str, flat.shape))}, drawn smaller)"
        title = f"where in {self.name}{at}{shape}: {legend}"
        rows = ["    " + "".join(row) for row in grid]
        return ([title, *rows] + self._axes()[: max(0, room - 1 - len(rows))])[:room]

    def _slice(self, a: np.ndarray) -> tuple[str, np.ndarray]:
        if a.ndim <= 2:
            return "", np.atleast_2d(a)
        wrong = np.isin(self.states, ["0", "#"]).sum(axis=(-2, -1))
        index = tuple(int(i) for i in np.unravel_index(int(wrong.argmax()), wrong.shape))
        return f"[{', '.join(map(str, index))}]", a[index]

    def _axes(self) -> list[str]:
        """A line for what is wrong at some places of the leading axes only."""
        wrong = np.isin(self.states, ["0", "#"])
        said = []
        for axis in range(max(0, wrong.ndim - 2)):
            places = np.asarray(wrong.any(axis=tuple(i for i in range(wrong.ndim) if i != axis)))
            if 0 < places.sum() < len(places):
                said.append(f"axis {axis}: at {_listed(np.flatnonzero(places))} of 0..{len(places) - 1}")
        return [f"    wrong along {'; '.join(said)}"] if said else []


def _listed(indices: np.ndarray) -> str:
    shown = ", ".join(map(str, indices[:8]))
    return shown + (", ..." if len(indices) > 8 else "")


def _squeezed(states: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """At most so many rows and columns; each character stands for a block, whose worst state it shows."""
    rank = np.vectorize(RANK.index, otypes=[int])(states) if states.size else np.zeros(states.shape, int)
    for axis, most in ((0, rows), (1, columns)):
        if rank.shape[axis] > most:
            blocks = np.array_split(rank, most, axis)
            rank = np.concatenate([block.max(axis=axis, keepdims=True) for block in blocks], axis)
    return np.array(list(RANK))[rank]


def draw(name: str, pictures: list[Picture], said: str) -> Any:
    """A matplotlib figure with one heat map of |got - expected| for each of the pictures that shows a mistake.

    Where the check ended before an element was measured, the figure shows what was `said`.
    """
    from matplotlib.figure import Figure
    shown = [p for p in pictures if p.wrong] or [p for p in pictures if p.states.size]
    if not shown:
        figure = Figure(figsize=(7, 1.5), layout="constrained")
        figure.text(0.5, 0.5, said, ha="center", va="center", wrap=True)
        return figure
    figure = Figure(figsize=(4.5 * len(shown), 4), layout="constrained")
    for axes, picture in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown):
        at, errors = picture._slice(picture.errors)
        states = picture._slice(picture.states)[1]
        image = axes.imshow(np.ma.masked_invalid(errors), cmap="magma", interpolation="nearest", vmin=0, aspect="auto")
        axes.set_facecolor("lightgrey")  # not measured
        for row, column in zip(*np.nonzero(states == "~")):
            axes.text(column, row, "~", ha="center", va="center", color="tab:cyan")
        axes.set_title(f"{picture.name}{at}: {picture.wrong} wrong of {picture.states.size}")
        axes.set_xlabel("last axis")
        axes.set_ylabel("axis before it" if picture.states.ndim > 1 else "")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.yaxis.get_major_locator().set_params(integer=True)
        figure.colorbar(image, ax=axes, label="|got - expected|")
    figure.suptitle(f"{name}: where the gradient is wrong" if any(p.wrong for p in shown) else f"{name}: gradients agree")
    return figure
