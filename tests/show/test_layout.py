"""Layouts of layered drawings, on shapes of graphs and on random ones: nothing overlaps, no line runs through a box."""
import time

import numpy as np
import pytest

from minidl.show.layout import place

CHAIN = [(i, i + 1) for i in range(5)]
RESIDUAL = [*CHAIN, (0, 3), (3, 5)]
INCEPTION = [(0, 1), (0, 2), (2, 3), (0, 4), (4, 5), (0, 6), (6, 7), *[(i, 8) for i in (1, 3, 5, 7)]]
NESTED = [*[(i, i + 1) for i in range(8)], (1, 7), (2, 6), (3, 5)]
DENSE = [(i, j) for j in range(5) for i in range(j)]
TWO_ENDS = [(0, 2), (1, 2), (2, 3), (2, 4)]
GRAPHS = {"chain": CHAIN, "residual": RESIDUAL, "inception": INCEPTION, "nested": NESTED, "dense": DENSE, "two": TWO_ENDS,
          "no edge": []}


def random_graph(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 30))
    edges = {(int(rng.integers(max(0, b - 6), b)), b) for b in range(1, n)}
    edges |= {tuple(sorted(map(int, rng.choice(n, 2, replace=False)))) for _ in range(int(rng.integers(0, n)))}
    return sorted(edges), [(float(rng.integers(40, 260)), float(rng.integers(20, 90))) for _ in range(n)]


CASES = [(edges, [(100.0 + 30 * (i % 3), 40.0 + 10 * (i % 4)) for i in range(max([6, *(b + 1 for _, b in edges)]))])
         for edges in GRAPHS.values()] + [random_graph(seed) for seed in range(60)]


def points_on(route):
    """Points along a line as it is drawn: straight down, then a cubic curve with vertical ends, and so on."""
    t = np.linspace(0, 1, 21)
    for i, ((x, y), (end_x, end_y)) in enumerate(zip(route, route[1:])):
        s = t if i % 2 == 0 else 3 * t**2 - 2 * t**3  # x of the curve with its control points at half height
        v = t if i % 2 == 0 else 1.5 * t - 1.5 * t**2 + t**3
        yield from zip(x + (end_x - x) * s, y + (end_y - y) * v)


@pytest.mark.parametrize("case", range(len(CASES)))
def test_no_box_overlaps_another_and_no_line_runs_through_a_box(case):
    edges, sizes = CASES[case]
    layout = place(sizes, edges)
    boxes = [(x, y, x + w, y + h) for (x, y), (w, h) in zip(layout.places, sizes)]
    for i, (left, top, right, bottom) in enumerate(boxes):
        assert left >= -1e-6 and top >= -1e-6 and right <= layout.width + 1e-6 and bottom <= layout.height + 1e-6, i
        for j, other in enumerate(boxes[:i]):
            assert left >= other[2] + 8 or right <= other[0] - 8 or top >= other[3] + 8 or bottom <= other[1] - 8, (i, j)
    for (a, b), route in zip(edges, layout.routes):
        for x, y in points_on(route):
            for i, (left, top, right, bottom) in enumerate(boxes):
                assert not (left < x < right and top + 1e-6 < y < bottom - 1e-6), (a, b, i)


@pytest.mark.parametrize("case", range(len(CASES)))
def test_lines_lead_down_from_box_to_box(case):
    edges, sizes = CASES[case]
    layout = place(sizes, edges)
    for (a, b), route, waypoints in zip(edges, layout.routes, layout.waypoints):
        (ax, ay), (bx, by) = layout.places[a], layout.places[b]
        assert ax < route[0][0] < ax + sizes[a][0] and route[0][1] == ay + sizes[a][1]
        assert bx < route[-1][0] < bx + sizes[b][0] and route[-1][1] == by
        assert all(y <= end_y for (_, y), (_, end_y) in zip(route, route[1:]))
        assert len(route) % 2 == 0
        assert layout.ranks[b] - layout.ranks[a] == len(waypoints) + 1


def test_a_chain_is_one_column():
    sizes = [(60.0 + 20 * i, 30.0) for i in range(6)]
    layout = place(sizes, CHAIN)
    assert {x + w / 2 for (x, _), (w, _) in zip(layout.places, sizes)} == {80.0}
    assert all(len({x for x, _ in route}) == 1 for route in layout.routes)


def test_the_main_path_of_a_residual_net_is_straight_and_shortcuts_pass_it():
    sizes = [(100.0, 40.0)] * 6
    layout = place(sizes, RESIDUAL)
    centres = [x + 50 for x, _ in layout.places]
    assert max(centres) == min(centres)
    passing = [x for waypoints in layout.waypoints for x, _ in waypoints]
    assert len(passing) == 3 and all(x > centres[0] + 50 for x in passing)


def test_the_longer_branch_is_the_main_path():
    layout = place([(100.0, 40.0)] * 5, [(0, 1), (0, 2), (1, 4), (2, 3), (3, 4)])
    centres = [x for x, _ in layout.places]
    assert centres[0] == centres[2] == centres[3] == centres[4] != centres[1]


def test_branches_stand_side_by_side_and_fork_and_joint_amid_them():
    layout = place([(100.0, 40.0)] * 9, INCEPTION)
    centres = [x + 50 for x, _ in layout.places]
    assert centres[1] < centres[2] < centres[4] < centres[6]
    assert (centres[2], centres[4], centres[6]) == (centres[3], centres[5], centres[7])
    middle = sum(centres[i] for i in (1, 3, 5, 7)) / 4
    np.testing.assert_allclose([centres[0], centres[8]], middle, atol=30)


def test_lines_that_need_not_cross_do_not():
    """Two columns side by side, given in an order that would cross them."""
    layout = place([(50.0, 20.0)] * 6, [(0, 3), (1, 2), (2, 5), (3, 4)])
    centres = [x for x, _ in layout.places]
    assert (centres[0] < centres[1]) == (centres[3] < centres[2]) == (centres[4] < centres[5])


def test_the_same_graph_is_laid_out_the_same():
    edges, sizes = CASES[10]
    assert place(sizes, edges) == place(sizes, edges)


@pytest.mark.parametrize("edge", [(1, 0), (1, 1), (0, 3), (-1, 1)])
def test_an_edge_that_does_not_lead_on_is_refused(edge):
    with pytest.raises(ValueError, match="from a box to a later one"):
        place([(10.0, 10.0)] * 3, [edge])


def test_thousands_of_boxes_are_laid_out_in_a_moment():
    n = 3000
    start = time.perf_counter()
    place([(100.0, 40.0)] * n, [*[(i, i + 1) for i in range(n - 1)], *[(i, i + 3) for i in range(0, n - 3, 3)]])
    assert time.perf_counter() - start < 5
