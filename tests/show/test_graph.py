"""Graphs of nets: every layer and every flow, folded or not, as DOT that a parser takes."""
import re

import pytest

from minidl import models, nn, ops
from minidl.autograd import concat
from minidl.show import count_parameters, to_dot
from minidl.show.graph import graph


def built(name, **options):
    with nn.init.no_values():
        return models.build(name, **options)


class Block(nn.Module):
    """y = relu(b(relu(a(x))) + x)"""

    def __init__(self, channels):
        self.a, self.bn = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.b, self.drop = nn.Conv2d(channels, channels, 3, padding=1), nn.Dropout()

    def forward(self, x):
        return ops.relu(self.drop(self.b(ops.relu(self.bn(self.a(x))))) + x)


class Fork(nn.Module):
    """Two branches that read one activation, and one that reads the convolution before it."""

    def __init__(self):
        self.conv, self.relu, self.one, self.two = nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Conv2d(3, 4, 1), nn.Conv2d(3, 5, 1)

    def forward(self, x):
        y = self.conv(x)
        z = self.relu(y)
        return concat([self.one(z), self.two(z), y], axis=1)


def names(g):
    return [(" + ".join(box.operations), box.name) for box in g.boxes]


def flows(g):
    """Edges by the names at both ends."""
    said = [f"{box.name} {box.operations[0]}".strip() for box in g.boxes]
    return {(said[a], said[b]) for a, b in g.edges}


def residual():
    return nn.Sequential({"stem": nn.Conv2d(3, 4, 1), "block": Block(4), "pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten(),
                          "fc": nn.Linear(4, 10)})


def test_every_layer_has_a_box_and_every_flow_an_edge():
    g = graph(residual(), (3, 6, 5), fold=False)
    assert names(g) == [
        ("image", ""), ("Conv2d", "stem"), ("Conv2d", "block.a"), ("BatchNorm2d", "block.bn"), ("relu", "block"),
        ("Conv2d", "block.b"), ("add", "block"), ("relu", "block"), ("AdaptiveAvgPool2d", "pool"), ("Flatten", "flat"),
        ("Linear", "fc"), ("result", "")]
    assert g.edges == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (1, 6), (5, 6), (6, 7), (7, 8), (8, 9), (9, 10), (10, 11)]


def test_folding_puts_normalisation_and_activation_into_one_box():
    g = graph(residual(), (3, 6, 5))
    assert names(g) == [
        ("image", ""), ("Conv2d", "stem"), ("Conv2d + BatchNorm2d + relu", "block.a"), ("Conv2d", "block.b"),
        ("add + relu", "block"), ("AdaptiveAvgPool2d", "pool"), ("Flatten", "flat"), ("Linear", "fc"), ("result", "")]
    assert g.edges == [(0, 1), (1, 2), (2, 3), (1, 4), (3, 4), (4, 5), (5, 6), (6, 7), (7, 8)]
    assert [box.parameters for box in g.boxes] == [0, 16, 4 * 4 * 9 + 4 + 8, 4 * 4 * 9 + 4, 0, 0, 0, 50, 0]


def test_what_somebody_else_reads_is_not_folded():
    g = graph(Fork(), (2, 6, 5))
    assert names(g) == [("image", ""), ("Conv2d", "conv"), ("ReLU", "relu"), ("Conv2d", "one"), ("Conv2d", "two"),
                        ("concat", ""), ("result", "")]
    assert g.edges == [(0, 1), (1, 2), (2, 3), (2, 4), (1, 5), (3, 5), (4, 5), (5, 6)]


def test_what_belongs_to_another_module_is_not_folded():
    net = nn.Sequential({"a": nn.Sequential(nn.Conv2d(2, 3, 1)), "b": nn.Sequential(nn.ReLU())})
    assert names(graph(net, (2, 6, 5)))[1:-1] == [("Conv2d", "a.0"), ("ReLU", "b.0")]


def test_a_number_is_no_branch():
    class Scaled(nn.Module):
        def __init__(self):
            self.relu = nn.ReLU()

        def forward(self, x):
            y = self.relu(x * 2)
            return y * y.mean(axis=(2, 3), keepdims=True)

    g = graph(nn.Sequential(Scaled()), (2, 6, 5))
    assert [(box.operations[0], box.kind) for box in g.boxes[1:-1]] == [
        ("multiply", "other"), ("ReLU", "activation"), ("mean", "other"), ("multiply", "merge")]
    assert [frame.label for frame in g.frames] == ["0 (Scaled)"]


def test_a_module_may_be_called_like_an_operation():
    class Odd(nn.Module):
        def __init__(self):
            self.add = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))

        def forward(self, x):
            return self.add(x) + x

    g = graph(nn.Sequential(Odd()), (3,), depth=2)
    assert names(g)[1:-1] == [("Sequential", "0.add"), ("add", "0")]
    assert g.edges == [(0, 1), (0, 2), (1, 2), (2, 3)]


def test_a_result_on_the_way_is_not_folded():
    class Both(nn.Module):
        def __init__(self):
            self.conv, self.relu = nn.Conv2d(2, 3, 1), nn.ReLU()

        def forward(self, x):
            y = self.conv(x)
            return y, self.relu(y)

    g = graph(Both(), (2, 6, 5))
    assert names(g) == [("image", ""), ("Conv2d", "conv"), ("ReLU", "relu"), ("result", "")]
    assert g.edges == [(0, 1), (1, 2), (1, 3), (2, 3)]
    assert g.boxes[-1].shape == "3x6x5, 3x6x5"


def test_kinds_details_and_shapes_are_told():
    net = nn.Sequential(nn.Conv2d(3, 8, (3, 5), stride=(2, 1)), nn.LRN(), nn.MaxPool2d(3, 2), nn.Sigmoid(),
                        nn.ConvTranspose2d(8, 4, 4, 2), nn.BilinearUpsample2d(4, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                        nn.Linear(4, 2))
    g = graph(net, (3, 20, 20), fold=False)
    assert [(box.kind, box.operations[0], box.detail) for box in g.boxes[1:-1]] == [
        ("convolution", "Conv2d", "3x5, stride 2x1"), ("normalisation", "LRN", ""), ("pooling", "MaxPool2d", "3x3, stride 2"),
        ("activation", "Sigmoid", ""), ("convolution", "ConvTranspose2d", "2x larger"),
        ("convolution", "BilinearUpsample2d", "2x larger"), ("pooling", "AdaptiveAvgPool2d", "20x32"), ("other", "Flatten", ""),
        ("linear", "Linear", "")]
    assert g.boxes[1].lines() == ["Conv2d 3x5, stride 2x1", "0", "8x9x16", "368 parameters"]


@pytest.mark.parametrize("name", ["vgg-b", "googlenet", "resnet50", "fcn8s", "resnet20-cifar", "alexnet"])
def test_edges_are_those_of_the_trace_and_nothing_hangs_loose(name):
    net = built(name)
    g = graph(net, (3, net.image_size, net.image_size))
    assert len(set(g.edges)) == len(g.edges)
    assert all(0 <= a < b < len(g.boxes) for a, b in g.edges)
    assert {b for _, b in g.edges} == set(range(1, len(g.boxes)))
    assert {a for a, _ in g.edges} == set(range(len(g.boxes) - 1))
    heads = sum(p.size for key, p in net.named_parameters() if key.startswith("aux"))
    assert sum(box.parameters for box in g.boxes) == count_parameters(net) - heads


@pytest.mark.parametrize(("name", "operation", "count", "inputs"), [
    ("resnet18", "add", 8, 2), ("resnet152", "add", 50, 2), ("resnet20-cifar", "add", 9, 2), ("googlenet", "concat", 9, 4),
    ("fcn8s", "add", 2, 2), ("fcn32s", "add", 0, 0), ("plain34", "add", 0, 0)])
def test_branches_meet_where_the_papers_let_them(name, operation, count, inputs):
    net = built(name)
    g = graph(net, (3, net.image_size, net.image_size))
    meetings = [i for i, box in enumerate(g.boxes) if box.operations[0] == operation]
    assert len(meetings) == count
    assert all(sum(b == i for _, b in g.edges) == inputs for i in meetings)


def test_a_projection_is_a_branch_from_the_block_before():
    g = graph(built("resnet18"), (3, 224, 224))
    assert {("layer1.1 add", "layer2.0.downsample.0 Conv2d"), ("layer2.0.downsample.0 Conv2d", "layer2.0 add"),
            ("layer1.1 add", "layer2.0.conv1 Conv2d"), ("layer2.0.conv2 Conv2d", "layer2.0 add"),
            ("layer2.0 add", "layer2.1 add")} <= flows(g)


def test_depth_makes_a_module_one_box():
    g = graph(built("resnet152"), (3, 224, 224), depth=1)
    assert [box.name for box in g.boxes] == ["", "conv1", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool",
                                             "flatten", "fc", ""]
    assert g.edges == [(i, i + 1) for i in range(10)]
    assert [box.parameters for box in g.boxes if box.kind == "module"] == [215_808, 2_339_840, 40_613_888, 14_964_736]


def test_modules_in_which_branches_meet_are_framed():
    g = graph(built("googlenet"), (3, 224, 224))
    assert [frame.label for frame in g.frames][:2] == ["inception3a (Inception)", "inception3b (Inception)"]
    convolutions = {f"inception3a.branch{n}.conv" for n in ("1", "2.0", "2.1", "3.0", "3.1", "4.1")}
    assert {g.boxes[i].name for i in g.frames[0].boxes} == {"inception3a", "inception3a.branch4.0"} | convolutions
    assert graph(built("vgg-a"), (3, 224, 224)).frames == []


def test_frames_at_a_depth():
    g = graph(built("vgg-a"), (3, 224, 224), frames=1)
    assert [(frame.label, len(frame.boxes)) for frame in g.frames] == [("features (Sequential)", 13),
                                                                       ("classifier (Sequential)", 3)]
    assert graph(nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 2)), (2,), frames=1).frames == []


@pytest.mark.parametrize("options", [dict(depth=0), dict(frames=0), dict(fold=1), dict(depth=1.5)])
def test_wrong_options_are_refused(options):
    with pytest.raises((ValueError, TypeError), match=next(iter(options))):
        graph(residual(), (3, 6, 5), **options)


# --- DOT -----------------------------------------------------------------------------------------------------------------

TOKEN = re.compile(r'\s*(?:("(?:[^"\\\n]|\\.)*")|(->)|(\w+)|([\[\]{};,=]))')


def tokens(text):
    """The words of a DOT text; what is no word of the language is an error."""
    place, found = 0, []
    while text[place:].strip():
        match = TOKEN.match(text, place)
        assert match, f"no DOT: {text[place:place + 40]!r}"
        found.append(match.group().strip())
        place = match.end()
    return found


def parse(text):
    """(labels of the nodes, edges, labels and members of the clusters)"""
    words = tokens(text)
    assert words[:3] == ["digraph", "net", "{"] and words[-1] == "}"
    assert words.count("{") == words.count("}") and words.count("[") == words.count("]")
    nodes, edges, clusters, inside = {}, [], [], None
    for i, word in enumerate(words):
        if word == "subgraph":
            inside = (words[i + 5], [])
            clusters.append(inside)
        elif word == "}":
            inside = None
        elif re.fullmatch(r"n\d+", word):
            if words[i + 1] == "->":
                edges.append((int(word[1:]), int(words[i + 2][1:])))
            elif words[i + 1] == "[":
                assert words[i + 2 : i + 4] == ["label", "="]
                nodes[int(word[1:])] = words[i + 4]
            elif inside is not None:
                inside[1].append(int(word[1:]))
    return nodes, edges, clusters


def read(label):
    """What Graphviz shows for a quoted label, line by line."""
    characters = re.findall(r"\\.|[^\\]", label[1:-1])
    return "".join("\n" if c == r"\n" else c.removeprefix("\\") if len(c) == 2 else c for c in characters).split("\n")


@pytest.mark.parametrize("name", ["vgg-a", "googlenet", "resnet18", "fcn8s"])
def test_dot_says_what_the_graph_says(name):
    net = built(name)
    shape = 3, net.image_size, net.image_size
    g, text = graph(net, shape), to_dot(net, shape)
    nodes, edges, clusters = parse(text)
    assert [read(nodes[i]) for i in range(len(nodes))] == [box.lines() for box in g.boxes]
    assert edges == g.edges
    assert [(label.strip('"'), tuple(members)) for label, members in clusters] == list(g.frames)
    assert to_dot(net, shape) == text


EVIL = ['quote " here', "a<b>&c", "back\\slash", "back\\", "semi;colon", "new\nline", "{brace}", "]]>", "\x00\x1b", "höhe"]


@pytest.mark.parametrize("name", EVIL)
def test_names_of_layers_break_no_dot(name):
    net = nn.Sequential({name: nn.Linear(3, 4), "other": nn.Linear(4, 2)})
    nodes, edges, _ = parse(to_dot(net, (3,), title=name))
    assert edges == [(0, 1), (1, 2), (2, 3)]
    plain = "".join(c if c.isprintable() else " " for c in name)
    assert read(nodes[1]) == ["Linear", plain, "4", "16 parameters"]
