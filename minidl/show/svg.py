"""The graph of a net as an SVG picture that stands alone: no Graphviz, no fonts or scripts from elsewhere."""
import re
from collections import Counter
from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from minidl.nn import Module
from minidl.show.graph import COLORS, Box, Frame, Graph, graph
from minidl.show.layout import Layout, Point, place

FONT = "Verdana, 'DejaVu Sans', Helvetica, Arial, sans-serif"
HEADING, TEXT, LINE = 12, 11, 15
"""Sizes of the letters and the height of a line, in pixels."""
SIDE, ABOVE = 14, 8
"""Between the text and the border of its box."""
MARGIN = 24
FRAME = 11
"""Between boxes and the frame around them."""
INK, PALE = "#1a1a1a", "#5a6472"
FLOW, SKIP = "#4a5568", "#b3261e"
"""The colours of lines, and of those that are shortcuts."""

Outline = tuple[float, float, float, float]
"""(x, y, width, height)"""


def to_svg(net: Module, input_shape: tuple[int, ...], *, title: str = "", fold: bool = True, depth: int | None = None,
           frames: int | None = None) -> str:
    """A picture of the net: a box per layer, top to bottom, branches side by side. Deep nets give a long page.

    Options and errors: see `minidl.show.graph.graph`. The same net gives the same text.
    """
    g = graph(net, input_shape, title=title, fold=fold, depth=depth, frames=frames)
    layout = place([size_of(box) for box in g.boxes], g.edges)
    outlines = _outlines(g, layout)
    labels = max((text_width(frame.label, TEXT) for frame, _ in outlines), default=0)
    left = MARGIN + (labels + FRAME + 12 if labels else 0)
    width = max(left + layout.width + FRAME + MARGIN, 600, text_width(g.title, 16, True) + 2 * MARGIN,
                text_width(g.summary, TEXT) + 2 * MARGIN)
    legend, legend_height = _legend(g, layout, width - 2 * MARGIN)
    head = [_text(MARGIN, 34, g.title, 16, INK, bold=True), _text(MARGIN, 54, g.summary, TEXT, PALE), legend]
    top = 72 + legend_height + FRAME
    if not labels:
        left = (width - layout.width) / 2
    height = top + layout.height + FRAME + MARGIN
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_number(width)} {_number(height)}" width="{_number(width)}" '
        f'height="{_number(height)}" role="img" aria-labelledby="title desc" font-family={quoteattr(FONT)}>',
        f'<title id="title">{_escaped(g.title)}</title>', f'<desc id="desc">{_escaped(_described(g))}</desc>',
        "<defs>", _arrow("flow", FLOW), _arrow("skip", SKIP), "</defs>",
        f'<rect width="{_number(width)}" height="{_number(height)}" fill="#ffffff"/>', *head,
        f'<g transform="translate({_number(left)} {_number(top)})">',
        *_frames(outlines), *_edges(g, layout), *_boxes(g, layout), "</g>", "</svg>", ""])


def size_of(box: Box) -> tuple[float, float]:
    """Width and height that hold the box's text, whichever of the fonts is there."""
    heading, *others = box.lines()
    width = max([text_width(heading, HEADING, bold=True), *(text_width(line, TEXT) for line in others)])
    return max(92, round(width + 2 * SIDE)), LINE * len(box.lines()) + 2 * ABOVE


def text_width(text: str, size: float, bold: bool = False) -> float:
    """An upper bound for the width in pixels: by Verdana, the widest of the fonts."""
    ems = sum(0.46 if c in "iljtfrI.,:;'|!()[] -/" else 1.1 if c in "mwMW@%" or ord(c) > 0x2000
              else 0.82 if c.isupper() or c in "+=_<>#&~^" else 0.66 for c in text)
    return ems * size * (1.13 if bold else 1)


def _boxes(g: Graph, layout: Layout) -> list[str]:
    parts = []
    for i, (box, (x, y)) in enumerate(zip(g.boxes, layout.places)):
        width, height = size_of(box)
        fill, border = COLORS[box.kind]
        parts.append(f'<g class="box" data-box="{i}"><rect x="{_number(x)}" y="{_number(y)}" width="{_number(width)}" '
                     f'height="{_number(height)}" rx="6" fill="{fill}" stroke="{border}" stroke-width="1.3"/>')
        for n, line in enumerate(box.lines()):
            parts.append(_text(x + width / 2, y + ABOVE + LINE * (n + 1) - 4, line, TEXT if n else HEADING, INK,
                               bold=n == 0, anchor="middle"))
        parts.append("</g>")
    return parts


def _edges(g: Graph, layout: Layout) -> list[str]:
    parts = []
    for (a, b), points, shortcut in zip(g.edges, layout.routes, _shortcuts(g, layout)):
        kind, color = ("skip", SKIP) if shortcut else ("flow", FLOW)
        parts.append(f'<path class="edge" data-from="{a}" data-to="{b}" d="{_curve(points)}" fill="none" stroke="{color}" '
                     f'stroke-width="1.5" marker-end="url(#{kind})"/>')
    return parts


def _shortcuts(g: Graph, layout: Layout) -> list[bool]:
    """Per edge, whether it passes layers: all the way from a fork, or into a sum. (The short branch of a concat does not.)"""
    lines_from = Counter(a for a, _ in g.edges)
    return [bool(waypoints) and (lines_from[a] > 1 or g.boxes[b].operations[0] not in ("concat", "stack"))
            for (a, b), waypoints in zip(g.edges, layout.waypoints)]


def _curve(points: Sequence[Point]) -> str:
    """Straight down from each even point to the next, and bending from each odd point to the next."""
    x, y = points[0]
    parts = [f"M {_number(x)} {_number(y)}"]
    for i, (end_x, end_y) in enumerate(points[1:]):
        if i % 2 == 0 or abs(end_x - x) < 0.01:
            if (end_x, end_y) != (x, y):
                parts.append(f"L {_number(end_x)} {_number(end_y)}")
        else:
            middle = (y + end_y) / 2
            parts.append("C " + " ".join(map(_number, (x, middle, end_x, middle, end_x, end_y))))
        x, y = end_x, end_y
    return " ".join(parts)


def _outlines(g: Graph, layout: Layout) -> list[tuple[Frame, Outline]]:
    """The frames that can be drawn: those in which no foreign box would lie."""
    rects = [(*corner, *size_of(box)) for corner, box in zip(layout.places, g.boxes)]
    in_rank: dict[int, list[int]] = {}
    for i, rank in enumerate(layout.ranks):
        in_rank.setdefault(rank, []).append(i)
    arriving: dict[int, list[Point]] = {}
    for (_, b), waypoints in zip(g.edges, layout.waypoints):
        arriving.setdefault(b, []).extend(waypoints)
    drawn = []
    for frame in g.frames:
        ranks = [layout.ranks[i] for i in frame.boxes]
        near = {i for rank in range(min(ranks), max(ranks) + 1) for i in in_rank[rank]}
        x, y, width, height = outline = _outline([rects[i] for i in frame.boxes],
                                                 [point for i in frame.boxes for point in arriving.get(i, [])])
        if not any(rects[i][0] < x + width and rects[i][0] + rects[i][2] > x for i in near - set(frame.boxes)):
            drawn.append((frame, outline))
    return drawn


def _outline(rects: list[Outline], passing: list[Point]) -> Outline:
    """(x, y, width, height) around boxes and the lines that pass some of them on their way to others."""
    top, bottom = min(y for _, y, _, _ in rects), max(y + height for _, y, _, height in rects)
    beside = [x for x, y in passing if top <= y <= bottom]
    left = min([*(x for x, *_ in rects), *beside]) - FRAME
    right = max([*(x + width for x, _, width, _ in rects), *beside]) + FRAME
    return left, top - FRAME, right - left, bottom - top + 2 * FRAME


def _frames(outlines: list[tuple[Frame, Outline]]) -> list[str]:
    """Dashed frames; their labels stand in the left margin, where no line passes."""
    parts, below = [], float("-inf")
    for frame, (x, y, width, height) in sorted(outlines, key=lambda item: item[1][1]):
        below = max(y + 12, below + LINE)
        parts.append(f'<rect class="frame" x="{_number(x)}" y="{_number(y)}" width="{_number(width)}" '
                     f'height="{_number(height)}" rx="9" fill="#f6f8fb" stroke="#8a94a6" stroke-dasharray="5 4"/>')
        parts.append(_text(-FRAME - 8, below, frame.label, TEXT, PALE, anchor="end"))
    return parts


def _legend(g: Graph, layout: Layout, width: float) -> tuple[str, float]:
    """The kinds that occur, in lines of at most `width`; and the height of that."""
    kinds = [kind for kind in COLORS if any(box.kind == kind for box in g.boxes)]
    entries = [(kind, text_width(kind, TEXT) + 34) for kind in kinds]
    if any(_shortcuts(g, layout)):
        entries.append(("shortcut", text_width("shortcut", TEXT) + 46))
    parts, x, y = [], 0.0, 0
    for kind, entry in entries:
        if x and x + entry > width:
            x, y = 0, y + 20
        left, above = MARGIN + x, 66 + y
        if kind in COLORS:
            fill, border = COLORS[kind]
            parts.append(f'<rect x="{_number(left)}" y="{above}" width="16" height="12" rx="3" fill="{fill}" '
                         f'stroke="{border}"/>')
        else:
            parts.append(f'<path d="M {_number(left)} {above + 6} L {_number(left + 28)} {above + 6}" stroke="{SKIP}" '
                         'stroke-width="1.5" marker-end="url(#skip)"/>')
        parts.append(_text(left + (22 if kind in COLORS else 34), above + 10, kind, TEXT, PALE))
        x += entry
    return "\n".join(parts), y + 20


def _described(g: Graph) -> str:
    """What a screen reader says instead of the picture."""
    return f"{g.summary}; {len(g.boxes)} boxes and {len(g.edges)} lines, from the image at the top to the result at the bottom."


def _arrow(name: str, color: str) -> str:
    return (f'<marker id="{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M 0 1 L 9 5 L 0 9 z" fill="{color}"/></marker>')


def _text(x: float, y: float, text: str, size: int, color: str, *, bold: bool = False, anchor: str = "start") -> str:
    weight = ' font-weight="bold"' if bold else ""
    place = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{_number(x)}" y="{_number(y)}" font-size="{size}" fill="{color}"{weight}{place}>{_escaped(text)}</text>'


def _escaped(text: str) -> str:
    """As XML; characters that no XML may hold become spaces."""
    return escape(re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", " ", text))


def _number(x: float) -> str:
    """At most one digit behind the point, none where it is 0."""
    return f"{x:.1f}".removesuffix(".0")
