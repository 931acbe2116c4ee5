"""Where the boxes and lines of a layered drawing go: top to bottom, no line through a box. Knows nothing of nets.

After Sugiyama, Tagawa and Toda 1981: (1) a box stands one rank below the lowest that leads to it; (2) a line that passes ranks
gets a place of its own, a waypoint, in each of them; (3) each rank is ordered so that few lines cross; (4) what should stand
in one column is tied together, as in Brandes and Koepf 2002, and columns are pushed apart just as far as needed; (5) lines
run straight down where there are boxes and bend only between the ranks.
"""
import math
from collections.abc import Sequence
from typing import NamedTuple

Point = tuple[float, float]
Edge = tuple[int, int]

GAP = 34
"""Least height between two ranks: room for the lines to bend."""
BESIDE = 34
"""Between two boxes of a rank."""
PASSING = 24
"""Between a box and a line that passes it."""
LINES = 14
"""Between two lines that pass."""
PORTS = 34
"""Between the ends of two lines at one box, where it is wide enough."""
SWEEPS = 12


class Layout(NamedTuple):
    """A finished drawing, with its corner at (0, 0)."""

    width: float
    height: float
    places: list[Point]
    """Upper left corner of each box."""
    routes: list[list[Point]]
    """Per edge: where the line starts, the points between which it goes straight down or bends, and where it ends."""
    waypoints: list[list[Point]]
    """Per edge: where it passes ranks (upper end); empty if it leads to the next rank."""
    ranks: list[int]
    """Per box: in which rank it stands."""


def place(sizes: Sequence[tuple[float, float]], edges: Sequence[Edge]) -> Layout:
    """Lays out boxes of these (width, height), joined by edges (from, to), from < to, each pair once."""
    if any(not 0 <= a < b < len(sizes) for a, b in edges):
        raise ValueError("place: edges must lead from a box to a later one: number the boxes in the order of the data flow")
    drawing = _Drawing(sizes, edges)
    drawing.order_ranks()
    drawing.tie_columns()
    drawing.push_apart()
    return drawing.finish()


class _Drawing:
    """The layout in the making. Places 0 ... n - 1 are boxes, those behind them waypoints."""

    def __init__(self, sizes: Sequence[tuple[float, float]], edges: Sequence[Edge]) -> None:
        self.sizes, self.edges = sizes, list(edges)
        self.rank = [0] * len(sizes)
        for a, b in sorted(edges, key=lambda edge: edge[1]):
            self.rank[b] = max(self.rank[b], self.rank[a] + 1)
        self.paths = [self._path(a, b) for a, b in self.edges]  # box, waypoints, box
        self.below: list[list[int]] = [[] for _ in self.rank]
        self.above: list[list[int]] = [[] for _ in self.rank]
        for path in self.paths:
            for u, v in zip(path, path[1:]):
                self.below[u].append(v)
                self.above[v].append(u)
        self.rows: list[list[int]] = [[] for _ in range(max(self.rank, default=0) + 1)]
        for place, rank in enumerate(self.rank):
            self.rows[rank].append(place)

    def _path(self, a: int, b: int) -> list[int]:
        passed = range(self.rank[a] + 1, self.rank[b])
        waypoints = list(range(len(self.rank), len(self.rank) + len(passed)))
        self.rank += passed
        return [a, *waypoints, b]

    def is_box(self, place: int) -> bool:
        return place < len(self.sizes)

    # (3) the order in each rank

    def order_ranks(self) -> None:
        """Sorts each rank by the mean position of its neighbours above, then below, and so on; keeps the best."""
        best, fewest = [list(row) for row in self.rows], self._crossings()
        for sweep in range(SWEEPS):
            if fewest == 0:
                break
            downwards = sweep % 2 == 0
            neighbours = self.above if downwards else self.below
            position = self._positions()
            for row in self.rows if downwards else reversed(self.rows):
                means = {p: sum(position[q] for q in neighbours[p]) / len(neighbours[p]) if neighbours[p] else position[p]
                         for p in row}
                row.sort(key=means.__getitem__)
                position.update((p, i) for i, p in enumerate(row))
            crossings = self._crossings()
            if crossings < fewest:
                best, fewest = [list(row) for row in self.rows], crossings
        self.rows = best

    def _positions(self) -> dict[int, int]:
        return {place: i for row in self.rows for i, place in enumerate(row)}

    def _crossings(self) -> int:
        position, count = self._positions(), 0
        for row in self.rows:
            lines = sorted((position[u], position[v]) for u in row for v in self.below[u])
            count += sum(a[0] < b[0] and a[1] > b[1] for i, a in enumerate(lines) for b in lines[i + 1 :])
        return count

    # (4) columns

    def tie_columns(self) -> None:
        """Ties places of neighbouring ranks together that shall stand straight below each other, most wanted ties first."""
        position = self._positions()
        rest = self._boxes_below()
        tie_above: dict[int, int] = {}
        for row in self.rows:
            lines = [(u, v) for u in row for v in self.below[u]]
            wanted = sorted((wish, i) for i, (u, v) in enumerate(lines) if (wish := self._wish(u, v, rest)) is not None)
            taken: list[tuple[int, int]] = []
            for _, i in wanted:
                u, v = lines[i]
                pu, pv = position[u], position[v]
                if all((pu - qu) * (pv - qv) > 0 for qu, qv in taken):  # no two ties cross, nor share an end
                    taken.append((pu, pv))
                    tie_above[v] = u
        self.column: list[int] = [-1] * len(self.rank)
        columns = 0
        for row in self.rows:
            for place in row:
                if place in tie_above:
                    self.column[place] = self.column[tie_above[place]]
                else:
                    self.column[place], columns = columns, columns + 1
        self.columns = columns

    def _wish(self, u: int, v: int, rest: list[int]) -> int | None:
        """How much u and v belong in one column: 0 most; None not at all, as where a box stands amid its many lines."""
        if not self.is_box(u) and not self.is_box(v):
            return 0
        if self.is_box(u) and self.is_box(v):
            if len(self.below[u]) > 2 or len(self.above[v]) > 2:
                return None
            main_below = max((w for w in self.below[u] if self.is_box(w)), key=lambda w: rest[w])
            main_above = next(w for w in self.above[v] if self.is_box(w))
            return 1 if main_below == v and main_above == u else None
        alone = len(self.below[u]) == 1 if self.is_box(u) else len(self.above[v]) == 1
        return 2 if alone else None

    def _boxes_below(self) -> list[int]:
        """How many boxes can be passed on the way down from each place: the main path is the longest."""
        rest = [0] * len(self.rank)
        for row in reversed(self.rows):
            for place in row:
                rest[place] = max((rest[v] + self.is_box(v) for v in self.below[place]), default=0)
        return rest

    def push_apart(self) -> None:
        """x of each column: near the columns that it is joined with, and far enough from its neighbours."""
        left: list[dict[int, float]] = [{} for _ in range(self.columns)]
        right: list[dict[int, float]] = [{} for _ in range(self.columns)]
        for row in self.rows:
            for p, q in zip(row, row[1:]):
                a, b, apart = self.column[p], self.column[q], self._apart(p, q)
                left[b][a] = right[a][b] = max(apart, left[b].get(a, 0))
        joined: list[list[int]] = [[] for _ in range(self.columns)]
        for u, others in enumerate(self.below):
            for v in others:
                if self.column[u] != self.column[v]:
                    joined[self.column[u]].append(self.column[v])
                    joined[self.column[v]].append(self.column[u])
        order = _from_left(left, right)
        x = [0.0] * self.columns
        for c in order:
            x[c] = max((x[a] + apart for a, apart in left[c].items()), default=0)
        for sweep in range(2 * SWEEPS):
            for c in order if sweep % 2 else reversed(order):
                if joined[c]:
                    wanted = sum(x[other] for other in joined[c]) / len(joined[c])
                    least = max((x[a] + apart for a, apart in left[c].items()), default=-math.inf)
                    most = min((x[b] - apart for b, apart in right[c].items()), default=math.inf)
                    x[c] = max(least, min(wanted, most))
        self.x = [x[c] for c in self.column]

    def _apart(self, p: int, q: int) -> float:
        """Least distance of two neighbours' centres."""
        boxes = self.is_box(p) + self.is_box(q)
        return (self._size(p)[0] + self._size(q)[0]) / 2 + (LINES, PASSING, BESIDE)[boxes]

    def _size(self, place: int) -> tuple[float, float]:
        return self.sizes[place] if self.is_box(place) else (0, 0)

    # (5) coordinates and lines

    def finish(self) -> Layout:
        """Moves everything to (0, 0) and draws the lines."""
        edge = min((x - self._size(p)[0] / 2 for p, x in enumerate(self.x)), default=0)
        self.x = [x - edge for x in self.x]
        self.heights = [max((self._size(p)[1] for p in row), default=0) for row in self.rows]
        self.tops, y = [], 0.0
        for row, height in zip(self.rows, self.heights):
            self.tops.append(y)
            farthest = max((abs(self.x[u] - self.x[v]) for u in row for v in self.below[u]), default=0)
            y += height + GAP + min(40, farthest / 12)
        boxes = range(len(self.sizes))
        places = [(self.x[p] - self.sizes[p][0] / 2, self._top(p)) for p in boxes]
        starts = {p: self._ports(p, self.below[p]) for p in boxes}
        ends = {p: self._ports(p, self.above[p]) for p in boxes}
        routes = [self._route(path, starts, ends) for path in self.paths]
        waypoints = [[(self.x[p], self.tops[self.rank[p]]) for p in path[1:-1]] for path in self.paths]
        width = max((self.x[p] + self._size(p)[0] / 2 for p in range(len(self.x))), default=0)
        height = max((y + size[1] for (_, y), size in zip(places, self.sizes)), default=0)
        return Layout(width, height, places, routes, waypoints, self.rank[: len(self.sizes)])

    def _top(self, box: int) -> float:
        rank = self.rank[box]
        return self.tops[rank] + (self.heights[rank] - self.sizes[box][1]) / 2

    def _ports(self, box: int, others: list[int]) -> dict[int, float]:
        """x at which the line to each of the others meets the box: side by side, straight where it can be."""
        others = sorted(others, key=self.x.__getitem__)
        centre = next((i for i, other in enumerate(others) if abs(self.x[other] - self.x[box]) < 0.5), (len(others) - 1) / 2)
        room = self.sizes[box][0] / 2 - 12
        step = min(PORTS, room / max(centre, len(others) - 1 - centre, 1e-9))
        return {other: self.x[box] + (i - centre) * step for i, other in enumerate(others)}

    def _route(self, path: list[int], starts: dict, ends: dict) -> list[Point]:
        """Straight down beside boxes, free to bend from one rank's lower edge to the next one's upper edge."""
        a, b = path[0], path[-1]
        x = starts[a][path[1]]
        points = [(x, self._top(a) + self.sizes[a][1]), (x, self._bottom_of_rank(a))]
        for waypoint in path[1:-1]:
            points += [(self.x[waypoint], self.tops[self.rank[waypoint]]), (self.x[waypoint], self._bottom_of_rank(waypoint))]
        x = ends[b][path[-2]]
        return [*points, (x, self.tops[self.rank[b]]), (x, self._top(b))]

    def _bottom_of_rank(self, place: int) -> float:
        return self.tops[self.rank[place]] + self.heights[self.rank[place]]


def _from_left(left: list[dict[int, float]], right: list[dict[int, float]]) -> list[int]:
    """The columns so that each comes after those to its left."""
    waiting = [len(others) for others in left]
    order = [c for c, count in enumerate(waiting) if count == 0]
    for c in order:  # grows while it is walked
        for other in right[c]:
            waiting[other] -= 1
            if waiting[other] == 0:
                order.append(other)
    return order
