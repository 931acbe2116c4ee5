"""FCN-32s, 16s and 8s: scores as large as the image and over the right pixels, kernels fixed or learned, started from a VGG."""
import numpy as np
import pytest

import minidl
from minidl import nn, ops, optim
from minidl.models import FCN, fcn8s, fcn16s, fcn32s, vgg, vgg13, vgg16, vgg16_bn, vgg19
from minidl.ops import bilinear_kernel

BUILDERS = {32: fcn32s, 16: fcn16s, 8: fcn8s}
UPSAMPLING = {32: ["upscore"], 16: ["upscore2", "upscore16"], 8: ["upscore2", "upscore_pool4", "upscore8"]}
SCORES = {32: ["score_fr"], 16: ["score_fr", "score_pool4"], 8: ["score_fr", "score_pool4", "score_pool3"]}
TINY = 1 / 64  # one channel in the first stage, 64 in fc6


def images(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def with_scores(net, seed=0):
    """Score layers that are not 0, as after some training."""
    rng = np.random.default_rng(seed)
    for name in SCORES[net.stride]:
        layer = getattr(net, name)
        layer.weight.data = rng.standard_normal(layer.weight.shape).astype(layer.weight.dtype)
    return net


# --- sizes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", BUILDERS)
def test_scores_have_the_size_of_every_image(stride):
    """Every height from 64 to 160, each with a width of its own from the same range; and tiny, large and flat images."""
    with nn.init.no_values():
        net = BUILDERS[stride](num_classes=4, width=TINY).eval()
    sizes = [(H, 64 + 37 * H % 97) for H in range(64, 161)] + [(1, 1), (2, 301), (500, 333), (1024, 64)]
    assert {W for _, W in sizes} >= set(range(64, 161))
    with minidl.shapes_only():
        for H, W in sizes:
            assert net(np.zeros((1, 3, H, W), np.float32)).shape == (1, 4, H, W)


@pytest.mark.parametrize("stride", BUILDERS)
@pytest.mark.parametrize("size", [(37, 50), (1, 9)])
def test_scores_are_computed_at_that_size(stride, size):
    net = with_scores(BUILDERS[stride](num_classes=4, in_channels=2, width=TINY)).eval()
    y = net(images(2, 2, *size))
    assert (y.shape, y.dtype) == ((2, 4, *size), np.float32)
    assert np.isfinite(y.numpy()).all() and y.numpy().any()
    assert (net.image_size, net.in_channels, net.stride) == (500, 2, stride)


# --- what lies where ---------------------------------------------------------------------------------------------------


def passing_on(net):
    """Every convolution of the encoder hands on the mean of its channels at the same place, and every score layer is 0."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            w = np.zeros_like(module.weight.data)
            KH, KW = module.kernel_size
            w[:, :, KH // 2, KW // 2] = 1 / module.in_channels
            module.weight.data = w
    for name in SCORES[net.stride]:
        layer = getattr(net, name)
        layer.weight.data = np.zeros_like(layer.weight.data)
    return net.eval()


# (stride of the net, score layer, stride of its map, cell of that map whose window of the image is lit)
CELLS = [(32, "score_fr", 32, 5), (16, "score_fr", 32, 5), (16, "score_pool4", 16, 10),
         (8, "score_fr", 32, 5), (8, "score_pool4", 16, 10), (8, "score_pool3", 8, 20)]


@pytest.mark.parametrize(("stride", "layer", "step", "cell"), CELLS)
def test_what_is_seen_in_a_cell_is_painted_around_that_cell(stride, layer, step, cell):
    """Cell i of a map with stride s looks at the s pixels from s i - 99 on: padding of 100, of which conv1_1 takes one.

    Its score is painted as a tent around the middle of these pixels. A crop that is off by one would move it.
    """
    net = passing_on(BUILDERS[stride](num_classes=2, width=TINY))
    getattr(net, layer).weight.data[1] = 1 / getattr(net, layer).in_channels
    top, left = step * cell - 99, step * (cell + 1) - 99
    x = np.zeros((1, 3, 150, 179), np.float32)
    x[:, :, top : top + step, left : left + step] = 1
    y = net(x).numpy()[0]
    np.testing.assert_array_equal(y[0], 0)
    mass = y[1].sum()
    rows, columns = np.arange(150) @ y[1].sum(1) / mass, np.arange(179) @ y[1].sum(0) / mass
    np.testing.assert_allclose([rows, columns], [top + (step - 1) / 2, left + (step - 1) / 2], rtol=0, atol=1e-3)
    np.testing.assert_allclose(mass, step**2, rtol=1e-4)  # as bright as the lit pixels, together


# The first row of the image that lies between two cells of the coarsest map, and not before its first one: a cell is painted
# around pixel 12.5 + 32 i (32s); every later upsampling wants two neighbours again.
FIRST_FULL_ROW = {32: 13, 16: 21, 8: 25}


@pytest.mark.parametrize("stride", BUILDERS)
def test_a_constant_map_of_scores_stays_constant_inside(stride):
    net = BUILDERS[stride](num_classes=3, width=TINY).eval()
    net.score_fr.bias.data = np.array([1.5, -2, 0], np.float32)
    first = FIRST_FULL_ROW[stride]
    y = net(images(1, 3, 160, 150)).numpy()[0]
    inside = y[:, first : 160 - 48, first : 150 - 48]
    np.testing.assert_allclose(inside, np.broadcast_to(np.array([1.5, -2, 0])[:, None, None], inside.shape), rtol=1e-6)
    assert abs(y[0, first - 1, 80]) < 1.499  # one row higher one of the cells is missing


@pytest.mark.parametrize("stride", BUILDERS)
def test_score_layers_start_at_zero_and_so_do_the_scores(stride):
    net = BUILDERS[stride](num_classes=3, width=TINY).train()
    for name in SCORES[stride]:
        assert not getattr(net, name).weight.numpy().any() and not getattr(net, name).bias.numpy().any()
    np.testing.assert_array_equal(net(images(1, 3, 40, 30)).numpy(), 0)
    first = net.features[5]
    assert first.weight.numpy().any()  # only they


# --- kernels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", BUILDERS)
@pytest.mark.parametrize("learned", [False, True])
def test_kernels_are_bilinear_and_saved_and_learned_on_request(stride, learned):
    net = BUILDERS[stride](num_classes=3, width=TINY, learned_upsampling=learned)
    keys = set(net.state_dict())
    for name in UPSAMPLING[stride]:
        layer = getattr(net, name)
        assert layer.weight.requires_grad == learned
        assert f"{name}.weight" in keys and f"{name}.bias" not in keys
        np.testing.assert_array_equal(layer.weight.numpy(), bilinear_kernel(layer.kernel_size[0], 3))
    assert all(p.requires_grad for name, p in net.named_parameters() if name.split(".")[0] not in UPSAMPLING[stride])
    assert [name for name, _ in net.named_children()] == [
        "features", "fc6", "relu6", "drop6", "fc7", "relu7", "drop7", "score_fr",
        *{32: [], 16: ["upscore2", "score_pool4"], 8: ["upscore2", "score_pool4", "upscore_pool4", "score_pool3"]}[stride],
        UPSAMPLING[stride][-1]]


@pytest.mark.parametrize("learned", [False, True])
def test_a_step_of_training_moves_everything_but_fixed_kernels(learned):
    minidl.manual_seed(0)
    net = with_scores(fcn8s(num_classes=3, width=1 / 32, learned_upsampling=learned)).eval()  # no dropout: all take part
    before = net.state_dict()
    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    labels = np.random.default_rng(1).integers(0, 3, (2, 48, 40))
    for _ in range(2):
        optimizer.zero_grad()
        ops.cross_entropy(net(images(2, 3, 48, 40)), labels).backward()
        optimizer.step()
    after = net.state_dict()
    still = {key for key in before if np.array_equal(before[key], after[key])}
    fixed = {f"{name}.weight" for name in UPSAMPLING[8]}
    assert still & fixed == (set() if learned else fixed)
    assert not {key for key in still - fixed if key.endswith("weight")}


# --- from a VGG-16 -----------------------------------------------------------------------------------------------------

WIDTH = 1 / 32


@pytest.fixture(scope="module")
def small_vgg():
    minidl.manual_seed(7)
    net = vgg16(10, width=WIDTH)
    rng = np.random.default_rng(0)
    for name, p in net.named_parameters():
        if name.endswith("bias"):
            p.data = rng.standard_normal(p.shape).astype(np.float32)
    return net.eval()


def assert_started(net, vgg_net):
    ours, theirs = net.state_dict(), vgg_net.state_dict()
    for key in theirs:
        if key.startswith("features"):
            np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)
    np.testing.assert_array_equal(ours["fc6.weight"].reshape(128, -1), theirs["classifier.0.weight"])
    np.testing.assert_array_equal(ours["fc7.weight"].reshape(128, -1), theirs["classifier.3.weight"])
    np.testing.assert_array_equal(ours["fc6.bias"], theirs["classifier.0.bias"])
    np.testing.assert_array_equal(ours["fc7.bias"], theirs["classifier.3.bias"])


@pytest.mark.parametrize("stride", BUILDERS)
def test_it_starts_from_a_vgg_16_or_from_its_state(stride, small_vgg):
    for given in (small_vgg, small_vgg.state_dict()):
        net = BUILDERS[stride](num_classes=5, width=WIDTH, vgg16=given)
        assert_started(net, small_vgg)
        assert not net.score_fr.weight.numpy().any()
    later = BUILDERS[stride](num_classes=5, width=WIDTH)
    later.start_from(small_vgg)
    assert_started(later, small_vgg)


def test_it_starts_with_copies(small_vgg):
    before = small_vgg.state_dict()
    net = fcn32s(num_classes=5, width=WIDTH, vgg16=small_vgg)
    for p in net.parameters():
        p.data += 1
    for key, x in small_vgg.state_dict().items():
        np.testing.assert_array_equal(x, before[key], err_msg=key)


def test_fc6_on_a_map_of_7x7_is_the_vggs_fc6(small_vgg):
    net = fcn32s(num_classes=5, width=WIDTH, vgg16=small_vgg).eval()
    x = images(2, 16, 7, 7)
    fc6 = small_vgg.classifier[0](x.reshape(2, -1))
    np.testing.assert_allclose(net.fc6(x).numpy()[:, :, 0, 0], fc6.numpy(), rtol=1e-4, atol=1e-5)
    fc7 = small_vgg.classifier[:4](x.reshape(2, -1))
    np.testing.assert_allclose(net.fc7(net.relu6(net.fc6(x))).numpy()[:, :, 0, 0], fc7.numpy(), rtol=1e-4, atol=1e-5)


def without(state, key):
    return {name: x for name, x in state.items() if name != key}


WRONG = {
    "batch norm": lambda v: vgg16_bn(width=WIDTH),
    "19 layers": lambda v: vgg19(width=WIDTH),
    "13 layers": lambda v: vgg13(width=WIDTH),
    "1x1 in stages 3 to 5": lambda v: vgg("C", width=WIDTH),
    "another width": lambda v: vgg16(width=TINY),
    "another image size": lambda v: vgg16(width=WIDTH, image_size=160),
    "grey images": lambda v: vgg16(width=WIDTH, in_channels=1),
    "no last bias": lambda v: without(v.state_dict(), "classifier.3.bias"),
    "no first kernel": lambda v: without(v.state_dict(), "features.0.weight"),
    "transposed": lambda v: v.state_dict() | {"classifier.0.weight": v.state_dict()["classifier.0.weight"].T},
    "nothing": lambda v: {},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_not_its_vgg_16_is_refused_and_changes_nothing(wrong, small_vgg):
    net = fcn8s(num_classes=5, width=WIDTH)
    before = net.state_dict()
    with nn.init.no_values():
        given = WRONG[wrong](small_vgg)
    with pytest.raises(ValueError, match=r"^FCN\.start_from: [\w.]+ \(.*\) is made of [\w.]+, got .*: needs a VGG-16 without"):
        net.start_from(given)
    for key, x in net.state_dict().items():
        np.testing.assert_array_equal(x, before[key], err_msg=key)


@pytest.mark.parametrize("wrong", ["vgg16.safetensors", 16, [1, 2]])
def test_what_holds_no_weights_is_refused(wrong):
    with pytest.raises(TypeError, match=r"^FCN\.start_from: needs a VGG-16 or its state_dict, got \w+: load the file first"):
        fcn32s(num_classes=5, width=TINY, vgg16=wrong)


# --- from coarse to fine -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("coarse", "fine", "new", "gone"), [
    (32, 16, {"score_pool4.weight", "score_pool4.bias", "upscore2.weight", "upscore16.weight"}, {"upscore.weight"}),
    (16, 8, {"score_pool3.weight", "score_pool3.bias", "upscore_pool4.weight", "upscore8.weight"}, {"upscore16.weight"}),
])
def test_a_finer_net_goes_on_from_a_coarser_one(coarse, fine, new, gone):
    minidl.manual_seed(0)
    before = with_scores(BUILDERS[coarse](num_classes=3, width=TINY)).eval()
    after = BUILDERS[fine](num_classes=3, width=TINY).eval()
    report = after.load_state_dict(before.state_dict(), strict=False)
    assert (set(report.missing_keys), set(report.unexpected_keys)) == (new, gone)
    shared = set(before.state_dict()) - gone
    for key in shared:
        np.testing.assert_array_equal(after.state_dict()[key], before.state_dict()[key], err_msg=key)
    # the new scores are 0: the finer net starts with the coarser one's answer, interpolated in two steps instead of one
    x = images(1, 3, 96, 96)
    rough, smooth = before(x).numpy()[..., 25:, 25:], after(x).numpy()[..., 25:, 25:]
    assert np.corrcoef(rough.ravel(), smooth.ravel())[0, 1] > 0.98


def test_nets_of_different_strides_are_of_one_class():
    with nn.init.no_values():
        nets = [builder(width=TINY) for builder in BUILDERS.values()]
    assert all(type(net) is FCN and net.score_fr.out_channels == 21 for net in nets)
