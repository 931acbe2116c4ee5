"""Receptive fields: the networks' known ones, and the real ones of small nets, found by touching every pixel."""
import numpy as np
import pytest

from minidl import models, nn, ops
from minidl.autograd import no_grad, pad
from minidl.show import trace
from minidl.show.receptive import steps_of_slices


def built(name, **options):
    with nn.init.no_values():
        return models.build(name, **options)


def field_of(net, shape, layer, operation=None):
    return next(row.field for row in trace(net, shape) if row.layer == layer and operation in (None, row.operation))


# After pool5 and after the first fully connected layer, by r_out = r_in + (k - 1) * jump from the paper's table 1.
VGG = {"a": (150, 342), "a-lrn": (150, 342), "b": (156, 348), "b-shallow": (156, 348), "c": (156, 348), "d": (212, 404),
       "e": (268, 460)}


@pytest.mark.parametrize("config", VGG)
def test_vgg_sees_what_the_table_says(config):
    net = built(f"vgg-{config}")
    pool5 = field_of(net, (3, 224, 224), f"features.{len(net.features) - 1}")
    fc6 = field_of(net, (3, 224, 224), "classifier.0")
    assert pool5 == ((VGG[config][0],) * 2, (32, 32))
    assert fc6 == ((VGG[config][1],) * 2, None)


@pytest.mark.parametrize("layer", ["fc6", "fc7", "score_fr"])
def test_fcn_sees_404_pixels_at_stride_32(layer):
    assert field_of(built("fcn32s"), (3, 500, 500), layer) == ((404, 404), (32, 32))


def test_fcn_is_back_at_the_images_resolution():
    rows = trace(built("fcn8s"), (3, 500, 500))
    assert rows[-1].field.step == (1, 1)
    assert [row.field.step[0] for row in rows if row.operation == "ConvTranspose2d"] == [16, 8, 1]


# After the last stage (before the average pool), as published for these nets; a stride in the 1x1 hides nothing.
@pytest.mark.parametrize(("name", "field"), [("resnet18", 435), ("resnet34", 899), ("resnet50-paper", 483),
                                             ("resnet101-paper", 1027), ("resnet152-paper", 1507)])
def test_resnets_see_far(name, field):
    rows = trace(built(name), (3, 224, 224))
    last = [row for row in rows if row.operation == "add"][-1]
    assert last.field == ((field, field), (32, 32))


def touched(net, shape, place):
    """Height and width of the pixels that the output at `place` depends on, by changing each of them in turn."""
    for parameter in net.parameters():
        parameter.data = np.abs(parameter.data) + np.float32(0.1)
    net.eval()
    seen = np.zeros(shape[1:], bool)
    with no_grad():
        before = net(np.ones((1, *shape), np.float32)).numpy()[0, 0][place]
        for h, w in np.ndindex(*shape[1:]):
            x = np.ones((1, *shape), np.float32)
            x[0, :, h, w] += 1
            seen[h, w] = net(x).numpy()[0, 0][place] != before
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    return rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1


class Residual(nn.Module):
    def __init__(self):
        self.a, self.b, self.short = nn.Conv2d(1, 2, 3, 2, 1), nn.Conv2d(2, 2, (3, 1), padding=(1, 0)), nn.Conv2d(1, 2, 1, 2)

    def forward(self, x):
        return self.b(self.a(x)) + self.short(x)


class OptionA(nn.Module):
    def forward(self, x):
        return pad(x[:, :, ::2, ::3], ((0, 0), (1, 0), (0, 0), (0, 0)), value=1.0) * 2


class Applied(nn.Module):
    """Any function as a net."""

    def __init__(self, function):
        self.function = function

    def forward(self, x):
        return self.function(x)


SMALL_NETS = {
    "one kernel": (nn.Conv2d(1, 1, (3, 5), padding=(1, 2)), (4, 4)),
    "two kernels": (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 1, (2, 4))), (3, 3)),
    "stride before a kernel": (nn.Sequential(nn.Conv2d(1, 1, 3, stride=(2, 1)), nn.Conv2d(1, 1, (3, 2))), (1, 3)),
    "kernel before a stride": (nn.Sequential(nn.Conv2d(1, 1, (3, 2)), nn.AvgPool2d(2, 2), nn.Conv2d(1, 1, 2)), (2, 2)),
    "a residual block sees with its longer branch": (Residual(), (3, 3)),
    "slices skip pixels": (nn.Sequential(OptionA(), nn.Conv2d(2, 1, 2)), (2, 1)),
    "the average of all": (nn.Sequential(nn.Conv2d(1, 1, 2, padding=1), nn.AdaptiveAvgPool2d(1)), (0, 0)),
    "cropped": (nn.Sequential(nn.Crop((6, 5), (2, 3)), nn.Conv2d(1, 1, 3)), (1, 1)),
    "normalised": (nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.LRN(), nn.ReLU()), (2, 2)),
    "larger again": (nn.Sequential(nn.Conv2d(1, 1, 3, 2), nn.ConvTranspose2d(1, 1, 4, 2)), (5, 5)),
}


@pytest.mark.cpu("the nets are made before the tests run")
@pytest.mark.parametrize("case", SMALL_NETS)
def test_the_field_is_that_of_the_pixels_which_matter(case):
    net, place = SMALL_NETS[case]
    field = trace(net if isinstance(net, nn.Sequential) else nn.Sequential(net), (1, 11, 12))[-1].field
    seen = touched(net, (1, 11, 12), place)
    if case == "the average of all":  # the formula counts padding like image: one row and column beyond each side
        seen = seen[0] + 2, seen[1] + 2
    assert field.size == seen, case


@pytest.mark.parametrize(("forward", "size", "step"), [
    (lambda x: x.reshape(1, -1), (11, 12), None),
    (lambda x: x.mean(axis=(2, 3)), (11, 12), None),
    (lambda x: x.max(axis=(2, 3), keepdims=True), (11, 12), (11, 12)),
    (lambda x: x.sum(), (11, 12), None),
    (lambda x: ops.relu(x) + x.mean(axis=(2, 3), keepdims=True), (11, 12), (1, 1)),
    (lambda x: x[:, :, 3, 4], (1, 1), None),
    (lambda x: x[..., ::2], (1, 1), (1, 2)),
])
def test_operations_outside_layers(forward, size, step):
    row = trace(nn.Sequential(Applied(forward), nn.Identity()), (3, 11, 12))[0]
    assert row.field == (size, step)


@pytest.mark.parametrize("forward", [lambda x: x.transpose(0, 2, 3, 1), lambda x: x @ np.ones((12, 2), np.float32),
                                     lambda x: ops.im2col(x, 3)])
def test_what_cannot_be_followed_is_unknown_from_there_on(forward):
    rows = trace(nn.Sequential(Applied(forward), nn.ReLU()), (3, 11, 12))
    assert [row.field for row in rows] == [None, None]


def test_vectors_have_no_field():
    assert trace(nn.Sequential(nn.Linear(3, 4)), (3,))[0].field is None


@pytest.mark.parametrize(("index", "steps"), [
    ((slice(None), slice(None), slice(None, None, 2), slice(None, None, 3)), (2, 3)), (slice(0, 1), (1, 1)),
    ((Ellipsis, slice(None, None, -2)), (1, 2)), ((0, Ellipsis, slice(None, None, 2), slice(None)), (2, 1)),
    ((slice(None), None), (1, 1)), ((slice(None), np.array([0, 1])), (1, 1))])
def test_steps_of_slices(index, steps):
    assert steps_of_slices(index) == steps
