"""Pictures of nets: sound XML that stands alone, all text inside its box, no box on another, no line through a box."""
import re
from xml.etree import ElementTree

import pytest

from minidl import models, nn
from minidl.show import to_svg
from minidl.show.graph import COLORS, Box, Frame, Graph, graph
from minidl.show.layout import place
from minidl.show.svg import _outlines, size_of, text_width

SVG = "{http://www.w3.org/2000/svg}"
CASES = [("vgg-a", {}), ("mini-inception", {}), ("resnet18", {}), ("resnet18", {"fold": False}), ("fcn8s", {}),
         ("googlenet", {}), ("resnet152", {"depth": 2}), ("resnet56-cifar", {}), ("googlenet-torchvision", {"fold": False}),
         ("alexnet", {"frames": 1})]


def built(name, **options):
    with nn.init.no_values():
        return models.build(name, **options)


def drawn(name, options):
    net = built(name)
    shape = net.in_channels, net.image_size, net.image_size
    text = to_svg(net, shape, title=name, **options)
    return graph(net, shape, title=name, **options), ElementTree.fromstring(text), text


def boxes_of(root):
    """number -> (left, top, right, bottom), and number -> texts"""
    rects, texts = {}, {}
    for group in root.iter(f"{SVG}g"):
        if group.get("class") == "box":
            number, rect = int(group.get("data-box")), group.find(f"{SVG}rect")
            x, y, w, h = (float(rect.get(key)) for key in ("x", "y", "width", "height"))
            rects[number] = x, y, x + w, y + h
            texts[number] = group.findall(f"{SVG}text")
    return rects, texts


def edges_of(root):
    """(from, to) -> points along the line"""
    return {(int(path.get("data-from")), int(path.get("data-to"))): list(points(path.get("d")))
            for path in root.iter(f"{SVG}path") if path.get("class") == "edge"}


def points(d):
    """Points along a path of M, L and C commands with absolute coordinates."""
    x = y = 0.0
    for command, numbers in re.findall(r"([A-Z]) ([^A-Z]*)", d):
        values = list(map(float, numbers.split()))
        if command == "M":
            x, y = values
            yield x, y
            continue
        corners = [(x, y), *zip(values[::2], values[1::2])]
        assert (command, len(corners)) in (("L", 2), ("C", 4)), command
        for i in range(1, 21):
            t = i / 20
            row = corners
            while len(row) > 1:  # de Casteljau
                row = [((1 - t) * a + t * c, (1 - t) * b + t * e) for (a, b), (c, e) in zip(row, row[1:])]
            yield row[0]
        x, y = corners[-1]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join([case[0], *map(str, case[1])]))
def picture(request):
    return drawn(*request.param)


def test_the_picture_is_sound_and_stands_alone(picture):
    g, root, text = picture
    assert root.tag == f"{SVG}svg"
    left, top, width, height = map(float, root.get("viewBox").split())
    assert (left, top) == (0, 0) and width > 0 and height > 0
    assert (root.get("width"), root.get("height")) == tuple(root.get("viewBox").split()[2:])
    assert root.find(f"{SVG}title").text == g.title
    assert root.find(f"{SVG}desc").text.startswith(g.summary)
    assert not re.search(r"<script|<image|href=|url\((?!#)|@import|&(?!amp;|lt;|gt;|quot;)", text)
    used = set(re.findall(r"url\(#(\w+)\)", text))
    assert used <= {marker.get("id") for marker in root.iter(f"{SVG}marker")}


def test_every_box_and_every_edge_is_drawn_once(picture):
    g, root, text = picture
    rects, texts = boxes_of(root)
    assert sorted(rects) == list(range(len(g.boxes)))
    assert {i: [t.text for t in texts[i]] for i in texts} == {i: box.lines() for i, box in enumerate(g.boxes)}
    assert sorted(edges_of(root)) == sorted(g.edges)
    assert text.count('class="edge"') == len(g.edges)


def test_no_box_overlaps_another(picture):
    rects, _ = boxes_of(picture[1])
    for i, a in rects.items():
        for j, b in rects.items():
            assert i == j or a[0] >= b[2] + 4 or a[2] <= b[0] - 4 or a[1] >= b[3] + 4 or a[3] <= b[1] - 4, (i, j)


def test_no_line_runs_through_a_box_and_each_joins_its_boxes(picture):
    rects, _ = boxes_of(picture[1])
    for (a, b), line in edges_of(picture[1]).items():
        assert rects[a][0] < line[0][0] < rects[a][2] and abs(line[0][1] - rects[a][3]) < 0.2, (a, b)
        assert rects[b][0] < line[-1][0] < rects[b][2] and abs(line[-1][1] - rects[b][1]) < 0.2, (a, b)
        for x, y in line:
            for i, (left, top, right, bottom) in rects.items():
                assert not (left < x < right and top + 0.2 < y < bottom - 0.2), (a, b, i)


def test_text_stands_inside_its_box(picture):
    rects, texts = boxes_of(picture[1])
    for i, (left, top, right, bottom) in rects.items():
        for text in texts[i]:
            size = float(text.get("font-size"))
            width = text_width(text.text, size, bold=text.get("font-weight") == "bold")
            assert text.get("text-anchor") == "middle"
            x, y = float(text.get("x")), float(text.get("y"))
            assert left <= x - width / 2 and x + width / 2 <= right, text.text
            assert top + size * 0.8 <= y <= bottom - size * 0.25, text.text


def test_everything_lies_on_the_page(picture):
    _, root, text = picture
    width, height = float(root.get("width")), float(root.get("height"))
    dx, dy = map(float, re.search(r'transform="translate\(([\d.]+) ([\d.]+)\)"', text).groups())
    places = [(x, y) for line in edges_of(root).values() for x, y in line]
    places += [corner for a, b, c, d in boxes_of(root)[0].values() for corner in ((a, b), (c, d))]
    assert all(0 <= x + dx <= width and 0 <= y + dy <= height for x, y in places)
    drawing = next(group for group in root.iter(f"{SVG}g") if group.get("transform"))
    for label in drawing.findall(f"{SVG}text"):  # those of the frames
        assert float(label.get("x")) + dx - text_width(label.text, float(label.get("font-size"))) >= 0, label.text
    for line in root.findall(f"{SVG}text"):
        assert float(line.get("x")) + text_width(line.text, float(line.get("font-size"))) <= width or line.text == "", line.text


def test_frames_hold_their_boxes_and_no_others(picture):
    g, root, _ = picture
    rects, _ = boxes_of(root)
    frames = []
    for rect in root.iter(f"{SVG}rect"):
        if rect.get("class") == "frame":
            x, y, w, h = (float(rect.get(key)) for key in ("x", "y", "width", "height"))
            frames.append({i for i, box in rects.items() if box[0] < x + w and box[2] > x and box[1] < y + h and box[3] > y})
            assert all(x < rects[i][0] and rects[i][2] < x + w and y < rects[i][1] and rects[i][3] < y + h for i in frames[-1])
    assert sorted(map(sorted, frames)) == sorted(sorted(frame.boxes) for frame in g.frames)


def test_a_frame_in_which_a_foreign_box_would_lie_is_left_out():
    boxes = [Box((name,), "", name, "3", 0, "other") for name in "abcde"]
    edges = [(0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 4)]
    g = Graph("", "", boxes, edges, [Frame("outer two", (1, 3)), Frame("left two", (1, 2))])
    layout = place([size_of(box) for box in boxes], edges)
    assert [frame.label for frame, _ in _outlines(g, layout)] == ["left two"]


def test_branches_of_an_inception_module_stand_side_by_side():
    g, root, _ = drawn("mini-inception", {})
    rects, _ = boxes_of(root)
    heads = {f"inception3a.branch{end}" for end in ("1.conv", "2.0.conv", "3.0.conv", "4.0")}
    first = [i for i, box in enumerate(g.boxes) if box.name in heads]
    assert len(first) == 4
    assert all(rects[a][2] < rects[b][0] for a, b in zip(first, first[1:]))


def test_the_main_path_of_a_resnet_is_straight():
    g, root, _ = drawn("resnet18", {})
    rects, _ = boxes_of(root)
    centres = {round((rects[i][0] + rects[i][2]) / 2) for i, box in enumerate(g.boxes) if "downsample" not in box.name}
    assert max(centres) - min(centres) <= 1


def contrast(a, b):
    """The ratio of WCAG 2.1 for two colours #rrggbb."""
    def luminance(color):
        channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_and_borders_can_be_told_from_what_is_behind_them():
    for kind, (fill, border) in COLORS.items():
        assert contrast("#1a1a1a", fill) > 7, kind
        assert contrast(border, fill) > 3 and contrast(border, "#ffffff") > 3, kind


EVIL = ['quote " here', "a<b>&c", "]]>", "new\nline", "\x00\x1b\ufffe", "höhe ∑", "<!--", "x" * 200]


@pytest.mark.parametrize("name", EVIL)
def test_names_of_layers_break_no_svg(name):
    text = to_svg(nn.Sequential({name: nn.Linear(3, 4)}), (3,), title=name)
    root = ElementTree.fromstring(text)
    shown = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", " ", name)
    assert root.find(f"{SVG}title").text == shown
    assert boxes_of(root)[1][1][1].text == shown


def test_the_same_net_gives_the_same_picture():
    net = built("mini-resnet")
    assert to_svg(net, (1, 28, 28)) == to_svg(net, (1, 28, 28))


def test_a_net_with_one_operation_and_one_that_returns_its_input_can_be_drawn():
    for net in (nn.Linear(3, 4), nn.Identity(), nn.Sequential()):
        ElementTree.fromstring(to_svg(net, (3,)))


def measured_by_the_font(text, size, bold):
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath
    font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")  # as wide as Verdana
    return TextPath((0, 0), text, size=size, prop=font).get_extents().x1


@pytest.mark.parametrize("text", ["Conv2d 3x3, stride 2", "+ BatchNorm2d + ReLU", "inception3a.branch2.1.conv",
                                  "102,764,544 parameters", "AdaptiveAvgPool2d 7x7", "64x112x112", "WWWWMMMM", "mmmm@@@@",
                                  "llliiitttfff", "A_B#C&D<E>F~G"])
@pytest.mark.parametrize("bold", [False, True])
def test_widths_are_upper_bounds(text, bold):
    assert measured_by_the_font(text, 12, bold) <= text_width(text, 12, bold)
