"""A net as a graph: its layers as boxes, the arrays that flow between them as lines, the modules around them as frames.

    text = to_dot(net, (3, 224, 224))     for Graphviz, where it is installed
    text = to_svg(net, (3, 224, 224))     in `minidl.show.svg`: drawn without it
"""
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from minidl.nn import Module
from minidl.nn.checks import flag, whole_number
from minidl.show.count import FROM_IMAGE, Row, count_parameters, short_number, walk

KINDS: dict[str, tuple[str, ...]] = {
    "convolution": ("conv", "upsample"), "pooling": ("pool",), "normalisation": ("norm", "lrn"),
    "activation": ("relu", "sigmoid", "tanh", "softmax"), "linear": ("linear", "matmul"),
}
"""Kinds of layers, and the parts of class names and operation names that tell them."""
MERGES = ("add", "subtract", "multiply", "divide", "concat", "stack", "where")
"""Operations that bring branches together, where they have several inputs."""
COLORS: dict[str, tuple[str, str]] = {
    "convolution": ("#dbe9f6", "#2a6099"), "linear": ("#e6defa", "#5f3d9c"), "pooling": ("#fde3cf", "#a8540f"),
    "normalisation": ("#f3f0d0", "#77701a"), "activation": ("#fbdfe3", "#a8324a"), "merge": ("#d5f0dc", "#1d7a3c"),
    "module": ("#dcf0f2", "#17717d"), "other": ("#ececec", "#555555"), "image and result": ("#ffffff", "#222222"),
}
"""Kind -> (filling, border); the text is nearly black on all of them."""


class Box(NamedTuple):
    """One layer, or several that were folded into one box."""

    operations: tuple[str, ...]
    """Classes of the layers: ("Conv2d", "BatchNorm2d", "ReLU")."""
    detail: str
    """Of the first: "3x3, stride 2"; "" if there is nothing to say."""
    name: str
    """Dotted; of an operation, its module's."""
    shape: str
    """Of the output, without the batch axis: "64x112x112"."""
    parameters: int
    kind: str
    path: tuple[str, ...] = ()
    """Where it hangs in the tree of modules."""

    def lines(self) -> list[str]:
        """What is written into the box; the first line is the heading."""
        lines = [" ".join(filter(None, (self.operations[0], self.detail)))]
        lines += ["+ " + " + ".join(self.operations[1:])] * (len(self.operations) > 1)
        lines += [self.name] * bool(self.name) + [self.shape] * bool(self.shape)
        return lines + [f"{self.parameters:,} parameters"] * (self.parameters > 0)


class Frame(NamedTuple):
    """A module, and which boxes it holds."""

    label: str
    boxes: tuple[int, ...]


class Graph(NamedTuple):
    """Boxes in the order of the data flow, from the image (first) to the result (last); edges lead to later boxes."""

    title: str
    summary: str
    boxes: list[Box]
    edges: list[tuple[int, int]]
    frames: list[Frame]


def graph(net: Module, input_shape: tuple[int, ...], *, title: str = "", fold: bool = True, depth: int | None = None,
          frames: int | None = None) -> Graph:
    """The graph of `net` for an image of `input_shape`, (C, H, W), in evaluation mode.

    A box per row of `trace`; layers that hand their input on (Identity, Dropout) are left out. fold: batch norm and
    activations go into the box of the convolution, linear layer or sum that they alone read. depth: modules deeper down are
    one box. frames: the depth of the modules that are framed; by default those in whose forward branches meet.
    """
    flag("graph", "fold", fold)
    walked = walk(net, input_shape)
    kept = {i for i, row in enumerate(walked.rows) if row.inputs or row.memory or row.shape}
    groups = [[i] for i in sorted(kept)]
    if depth is not None:
        groups = _grouped_by_module(walked.rows, groups, whole_number("graph", "depth", depth))
    if fold:
        groups = _folded(walked.rows, groups, walked.results)
    classes = {name: type(module).__name__ for name, module in net.named_modules()}
    image = Box(("image",), "", "", "x".join(map(str, input_shape)), 0, "image and result")
    result = Box(("result",), "", "", ", ".join("x".join(map(str, shape[1:])) for shape in walked.result_shapes), 0,
                 "image and result")
    boxes = [image, *(_box([walked.rows[i] for i in group], classes, depth) for group in groups), result]
    number = {row: 1 + i for i, group in enumerate(groups) for row in group} | {FROM_IMAGE: 0}
    edges = {(number[j], number[i]): None for i in sorted(kept) for j in walked.rows[i].inputs if number[j] != number[i]}
    edges |= {(number[i], len(boxes) - 1): None for i in walked.results}
    unused = sum(walked.unused.values())
    summary = (f"image {image.shape}, {count_parameters(net):,} parameters" + f" ({unused:,} not used)" * (unused > 0)
               + f", {short_number(sum(row.multiply_adds for row in walked.rows))} multiply-adds")
    return Graph(title or type(net).__name__, summary, boxes, sorted(edges, key=lambda edge: (edge[1], edge[0])),
                 _frames(boxes, walked.rows, classes, frames))


def _grouped_by_module(rows: list[Row], groups: list[list[int]], depth: int) -> list[list[int]]:
    """Groups of rows that follow each other in one module deeper down than `depth`."""
    result: list[list[int]] = []
    ends: tuple[str, ...] | None = None
    for group in groups:
        path = rows[group[0]].path
        if len(path) > depth and path[:depth] == ends:
            result[-1] += group
        else:
            result.append(list(group))
        ends = path[:depth] if len(path) > depth else None
    return result


def _folded(rows: list[Row], groups: list[list[int]], results: Iterable[int]) -> list[list[int]]:
    """Puts each batch norm and activation behind the convolution, linear layer or sum that it alone reads."""
    readers = Counter(j for row in rows for j in row.inputs) + Counter(results)
    group_of = {group[-1]: group for group in groups}
    result = []
    for group in groups:
        row = rows[group[0]]
        before = group_of.get(row.inputs[0]) if len(row.inputs) == 1 else None
        foldable = (before is not None and len(group) == 1 and readers[row.inputs[0]] == 1
                    and (_kind(row) == "activation" or "batch" in row.operation.lower())
                    and _kind(rows[before[0]]) in ("convolution", "linear", "merge")
                    and rows[before[0]].path[:-1] == row.path[:-1])
        if foldable and before is not None:
            before += group
            group_of[group[0]] = before
        else:
            result.append(group)
    return result


def _kind(row: Row) -> str:
    name = row.operation.lower()
    if not row.is_layer and name in MERGES and len(row.inputs) > 1:
        return "merge"
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "other")


def _box(rows: list[Row], classes: dict[str, str], depth: int | None) -> Box:
    first, last = rows[0], [row for row in rows if row.shape or row.memory][-1]
    parameters, shape = sum(row.parameters for row in rows), "x".join(map(str, last.shape[1:]))
    if depth is not None and len(first.path) > depth:
        name = ".".join(first.path[:depth])
        return Box((classes[name],), "", name, shape, parameters, "module", first.path[:depth])
    operations = tuple(row.operation for row in rows)
    return Box(operations, _detail(first), first.layer, shape, parameters, _kind(first), first.path)


def _detail(row: Row) -> str:
    """ "3x3, stride 2" for windows, "2x larger" for transposed convolutions."""
    if row.window is None:
        return ""
    kernel, stride = row.window
    if stride[0] < 1:
        return f"{round(1 / stride[0])}x larger"
    if row.shape[2:] == (1, 1) or any(n != round(n) for n in stride):
        return _by(kernel)  # the whole map, or windows that differ
    text = _by(kernel)
    return text if tuple(stride) == (1, 1) else f"{text}, stride {stride[0] if stride[0] == stride[1] else _by(stride)}"


def _by(pair: Sequence[Any]) -> str:
    return f"{round(pair[0])}x{round(pair[1])}"


def _frames(boxes: list[Box], rows: list[Row], classes: dict[str, str], depth: int | None) -> list[Frame]:
    """The modules to be framed, in order of their first box; each box lies in one frame at most."""
    if depth is not None:
        whole_number("graph", "frames", depth)
        homes = [box.path[:depth] if len(box.path) > depth else () for box in boxes]
    else:
        joints = {row.path[:-1] for row in rows if _kind(row) == "merge"} - {()}
        homes = [next((box.path[:n] for n in range(len(box.path) - 1, 0, -1) if box.path[:n] in joints), ()) for box in boxes]
    members: dict[tuple[str, ...], list[int]] = {}
    for i, home in enumerate(homes):
        if home:
            members.setdefault(home, []).append(i)
    return [Frame(f"{'.'.join(home)} ({classes['.'.join(home)]})", tuple(inside))
            for home, inside in members.items() if len(inside) > 1]


def to_dot(net: Module, input_shape: tuple[int, ...], *, title: str = "", fold: bool = True, depth: int | None = None,
           frames: int | None = None) -> str:
    """The graph in Graphviz's language; `dot -Tsvg` draws it. Options: see `graph`. The same net gives the same text."""
    g = graph(net, input_shape, title=title, fold=fold, depth=depth, frames=frames)
    lines = ["digraph net {", f"  label={_quoted([g.title, g.summary])}; labelloc=t; rankdir=TB;",
             '  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11, fontcolor="#1a1a1a"];',
             '  edge [color="#4a5568"];']
    for i, box in enumerate(g.boxes):
        fill, border = COLORS[box.kind]
        lines.append(f'  n{i} [label={_quoted(box.lines())}, fillcolor="{fill}", color="{border}"];')
    for i, frame in enumerate(g.frames):
        lines.append(f'  subgraph cluster_{i} {{ label={_quoted([frame.label])}; style="rounded,dashed"; color="#8a94a6"; '
                     + "".join(f"n{box}; " for box in frame.boxes) + "}")
    lines += [f"  n{a} -> n{b};" for a, b in g.edges]
    return "\n".join([*lines, "}", ""])


def _quoted(lines: Sequence[str]) -> str:
    """A DOT string of centred lines: quotes and backslashes lose their meaning, control characters become spaces."""
    plain = ["".join(c if c.isprintable() else " " for c in line) for line in lines]
    return '"' + r"\n".join(line.replace("\\", r"\\").replace('"', r"\"") for line in plain) + '"'
