"""Every network of the zoo against the same network written in PyTorch from the paper's table (support/torch_zoo.py).

The same random weights, scales and statistics go into both. Then scores, the gradient of every parameter and of the image,
and the running statistics agree: in float64 to 1e-9, as max|got - want| / max|want| for each tensor, in evaluation and in
training mode (with the same dropout masks); in float32 to 1e-4 (scores) and 1e-3 (gradients).

    pip install torch==2.13.0 && pytest -m oracle tests/models/test_zoo_oracle.py
"""
from typing import Any, NamedTuple

import numpy as np
import pytest
from operation_checks import relative_error

import minidl
from minidl import models
from minidl.autograd import Tensor
from minidl.train import classification_loss

torch = pytest.importorskip("torch", reason="compares with PyTorch, which minidl does not depend on")
import torch_zoo as zoo  # noqa: E402  (it imports torch)

pytestmark = pytest.mark.oracle

EXACT = 1e-9
SCORES32, GRADIENTS32 = 1e-4, 1e-3
"""float32 rounds to 6e-8, and the deepest nets make 1e-5 of it (so do they in PyTorch)."""
NEGLIGIBLE = 1e-6
"""A gradient that is this much smaller than the net's largest is 0 but for rounding: of a bias in front of a batch norm,
which takes it off again. It is compared with the net's largest."""


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The arrays are small: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Case(NamedTuple):
    """Ours, theirs, and images (N, C, H, W) whose pixels have standard deviation `scale`."""

    ours: Any
    theirs: Any
    shape: tuple[int, int, int, int]
    scale: float = 1.0


Q, E, S = 1 / 4, 1 / 8, 1 / 16  # widths
BIG = 50.0  # LRN adds alpha = 1e-4 times a sum of squares to 2: with smaller pixels it would be a constant factor

CASES: dict[str, Case] = {
    # 99: conv1 23, pool1 11, pool2 5, pool5 2; 101 wide is the same
    "alexnet": Case(lambda: models.alexnet(7, width=S, image_size=99), lambda: zoo.AlexNet(S, 7, 2), (2, 3, 99, 101), BIG),
    "alexnet, 2 channels": Case(lambda: models.alexnet(5, width=E, image_size=67, in_channels=2),
                                lambda: zoo.AlexNet(E, 5, 1, in_channels=2), (3, 2, 69, 67), BIG),
    # 95: conv1 23, pools 11, 5, 2; 131 wide: 3, averaged to 2
    "alexnet-torchvision": Case(lambda: models.alexnet(7, variant="torchvision", width=S, image_size=95),
                                lambda: zoo.OneWeirdTrick(S, 7, 2), (2, 3, 95, 131)),
    # 96: pool5 3; a map of 2 x 3 or 3 x 4 is averaged to 3 x 3
    **{f"vgg-{config}{'-bn' if bn else ''}": Case(
        lambda config=config, bn=bn: models.vgg(config, 6, batch_norm=bn, width=S, image_size=96),
        lambda config=config, bn=bn: zoo.VGG(config, S, 6, 3, batch_norm=bn),
        (3, 3, 71, 101) if bn else (2, 3, 97, 131), BIG if config == "A-LRN" else 1.0)
       for config in zoo.VGG_KERNELS for bn in (False, True)},
    # 128: conv1 64, pools 32, 16, 8, 4; a head's 5x5 windows fit twice. A 5x5 reduction of 16 / 8 channels would die at once.
    "googlenet": Case(lambda: models.googlenet(5, width=Q, image_size=128), lambda: zoo.GoogLeNet(Q, 5, 4, 2),
                      (2, 3, 127, 128), BIG),
    "googlenet without heads": Case(lambda: models.googlenet(5, width=Q, image_size=96, aux=False),
                                    lambda: zoo.GoogLeNet(Q, 5, 3, None), (2, 3, 96, 95), BIG),
    "googlenet-torchvision": Case(lambda: models.googlenet(5, variant="torchvision", width=E, image_size=96),
                                  lambda: zoo.GoogLeNet(E, 5, 3, 4, torchvision=True), (3, 3, 93, 126)),
    "googlenet-torchvision, transform_input": Case(
        lambda: models.googlenet(5, variant="torchvision", width=E, image_size=96, transform_input=True),
        lambda: zoo.GoogLeNet(E, 5, 3, 4, torchvision=True, transform_input=True), (3, 3, 97, 85)),
    "googlenet-torchvision without heads": Case(
        lambda: models.googlenet(5, variant="torchvision", width=E, image_size=96, aux=False),
        lambda: zoo.GoogLeNet(E, 5, 3, None, torchvision=True), (3, 3, 85, 97)),
    **{f"resnet{depth}-{shortcut}": Case(
        lambda depth=depth, shortcut=shortcut: models.resnet(depth, 6, shortcut=shortcut, width=S),
        lambda depth=depth, shortcut=shortcut: zoo.resnet(depth, S, 6, shortcut=shortcut), (4, 3, 51, 77))
       for depth, shortcut in ((18, "A"), (18, "B"), (18, "C"), (34, "B"), (50, "A"), (50, "B"), (50, "C"))},
    **{f"resnet{depth}-paper": Case(
        lambda depth=depth: models.resnet(depth, 6, stride_in="1x1", width=S),
        lambda depth=depth: zoo.resnet(depth, S, 6, stride_in="1x1"), (4, 3, 51, 77)) for depth in (50, 101)},
    "resnet152": Case(lambda: models.resnet152(6, width=S), lambda: zoo.resnet(152, S, 6), (4, 3, 51, 77)),
    **{f"plain{depth}": Case(lambda depth=depth: models.plain(depth, 6, width=S),
                             lambda depth=depth: zoo.resnet(depth, S, 6, shortcut=None), (4, 3, 51, 77)) for depth in (18, 34)},
    **{f"resnet20-cifar-{shortcut}": Case(
        lambda shortcut=shortcut: models.resnet_cifar(20, 6, shortcut=shortcut, width=1 / 2),
        lambda shortcut=shortcut: zoo.cifar(20, 1 / 2, 6, shortcut=shortcut), (4, 3, 17, 22)) for shortcut in "ABC"},
    "resnet32-cifar, 1 channel": Case(lambda: models.resnet_cifar(32, 6, in_channels=1, width=1 / 4),
                                      lambda: zoo.cifar(32, 1 / 4, 6, shortcut="A", in_channels=1), (4, 1, 22, 17)),
    "plain20-cifar": Case(lambda: models.plain_cifar(20, 6, width=1 / 2), lambda: zoo.cifar(20, 1 / 2, 6, shortcut=None),
                          (4, 3, 17, 22)),
    # padded by 200 - 2: heights 243, 122, 61, 31, 16 and widths 234, 117, 59, 30, 15: each pool has an odd map to round up
    **{f"fcn{stride}s{', learned' if learned else ''}": Case(
        lambda stride=stride, learned=learned: models.build(f"fcn{stride}s", num_classes=3, learned_upsampling=learned,
                                                            width=1 / 32),
        lambda stride=stride, learned=learned: zoo.FCN(stride, 1 / 32, 3, learned), (2, 3, 45, 36))
       for stride in (32, 16, 8) for learned in (False, True)},
    "mini-vgg": Case(lambda: models.mini_vgg(7), lambda: zoo.MiniVGG(1, 7, 3), (4, 1, 28, 33)),
    "mini-inception": Case(lambda: models.mini_inception(7), lambda: zoo.MiniInception(1, 7), (4, 1, 27, 34)),
    "mini-resnet": Case(lambda: models.mini_resnet(7), lambda: zoo.mini_resnet(1, 7), (4, 1, 27, 34)),
}

SLIDING = {
    # ours, theirs, side of the last map at the size that the net is made for, larger images
    "alexnet": (*CASES["alexnet"][:2], 2, (2, 3, 195, 163), BIG),
    "alexnet-torchvision": (*CASES["alexnet-torchvision"][:2], 2, (2, 3, 131, 163), 1.0),
    "vgg-D": (*CASES["vgg-D"][:2], 3, (2, 3, 131, 161), 1.0),
    "vgg-A-bn": (*CASES["vgg-A-bn"][:2], 3, (2, 3, 131, 161), 1.0),
    "googlenet": (*CASES["googlenet"][:2], 4, (2, 3, 161, 193), BIG),
    "googlenet-torchvision": (*CASES["googlenet-torchvision"][:2], 3, (2, 3, 129, 161), 1.0),
    "resnet50": (lambda: models.resnet50(6, width=S, image_size=96), CASES["resnet50-B"].theirs, 3, (2, 3, 129, 161), 1.0),
    "resnet20-cifar": (lambda: models.resnet_cifar(20, 6, width=1 / 2), CASES["resnet20-cifar-A"].theirs, 8, (2, 3, 37, 46),
                       1.0),
    "mini-vgg": (*CASES["mini-vgg"][:2], 3, (2, 1, 44, 37), 1.0),
    "mini-inception": (*CASES["mini-inception"][:2], 7, (2, 1, 36, 41), 1.0),
}


def pair(ours, theirs, shape, scale, seed, dtype=np.float64):
    """(our net, theirs in float64, x): both with the same random weights."""
    minidl.manual_seed(seed)
    rng = np.random.default_rng(seed)
    ours, theirs = ours().to(dtype=dtype), theirs().double()
    for name, value in theirs.state_dict().items():
        if name.startswith("upscore"):  # these start as interpolation, in each net by its own formula
            np.testing.assert_array_equal(ours.state_dict()[name], value.numpy(), err_msg=name)
    zoo.randomise(theirs, torch.from_numpy(scale * rng.standard_normal(shape)), seed)
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    return ours, theirs, (scale * rng.standard_normal(shape)).astype(dtype)


def outputs_of(y):
    """A tuple, whether y is one or a single tensor."""
    return y if isinstance(y, tuple) else (y,)


def before_batch_norm(theirs):
    """Names of the biases that a batch norm in training mode takes off again: those in VGG's `features`."""
    layers = list(getattr(theirs, "features", ()))
    return {f"features.{i}.bias" for i, after in enumerate(layers[1:]) if isinstance(after, torch.nn.BatchNorm2d)}


def compare_gradients(net, theirs, z, t, tolerance, training):
    """Of every parameter and of the image. A tensor whose gradient is (but for rounding) 0 is one whose should be."""
    got = {name: p.grad for name, p in net.named_parameters()} | {"x": z.grad}
    want = {name: p.grad for name, p in theirs.named_parameters()} | {"x": t.grad}
    assert set(got) == set(want)
    fixed = {name for name, p in theirs.named_parameters() if not p.requires_grad}
    assert fixed == {name for name, p in net.named_parameters() if not p.requires_grad}
    largest = max(abs(g.numpy()).max() for g in want.values() if g is not None)
    nothing = set()
    for name, g in want.items():
        if g is None:
            assert got[name] is None, f"{name} is fixed, but has a gradient"
            continue
        g, mine = g.numpy(), got[name].reshape(g.shape)  # a net that slides has a Linear's weight as a kernel
        assert mine.dtype == z.dtype, name
        if abs(g).max() < NEGLIGIBLE * largest:
            nothing.add(name)
            assert abs(mine - g).max() <= tolerance * largest, f"{name}: {abs(mine).max():.2e}, but 0 was to be expected"
        else:
            error = relative_error(mine, g)
            assert error <= tolerance, f"gradient of {name} differs from torch's by {error:.2e}"
    assert nothing <= (before_batch_norm(theirs) if training else set()), f"no gradient arrives at {nothing}"


def compare_states(net, theirs):
    """Parameters, running statistics and how many batches they have seen."""
    state = net.state_dict()
    for name, value in theirs.state_dict().items():
        if name.endswith("num_batches_tracked"):
            assert state[name] == value, name
        else:
            error = relative_error(state[name], value.numpy())
            assert error <= EXACT, f"{name} differs from torch's by {error:.2e} afterwards"


def compare_passes(net, theirs, x, seed, tolerances, training=False, forward=None):
    """Forward and backward with random cotangents, one for each output."""
    z, t = Tensor(x, requires_grad=True), torch.from_numpy(x.astype(np.float64)).requires_grad_()
    minidl.manual_seed(seed)
    got = outputs_of(net.train(training)(z))
    minidl.manual_seed(seed)
    want = outputs_of((forward or theirs.train(training))(t))
    assert len(got) == len(want)
    rng = np.random.default_rng(seed + 100)
    loss = expected_loss = 0
    for y, expected in zip(got, want):
        values = expected.detach().numpy()
        assert values.std() > 1e-3, "the scores are all the same: they say nothing"
        error = relative_error(y.numpy(), values)
        assert error <= tolerances[0], f"scores differ from torch's by {error:.2e}"
        dy = rng.standard_normal(values.shape)
        loss = loss + (y * dy.astype(x.dtype)).sum()
        expected_loss = expected_loss + (expected * torch.from_numpy(dy)).sum()
    loss.backward()
    expected_loss.backward()
    compare_gradients(net, theirs, z, t, tolerances[1], training)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", CASES)
def test_a_net_computes_what_its_table_says(name, training, seed):
    net, theirs, x = pair(*CASES[name], seed)
    compare_passes(net, theirs, x, seed, (EXACT, EXACT), training)
    compare_states(net, theirs)  # eval leaves running statistics alone


@pytest.mark.parametrize("name", CASES)
def test_in_float32_a_net_stays_close(name):
    """Rounding decides about a ReLU whose input lies within 1e-6 of 0; one of them, or one choice of a maximum, moves a
    gradient by some percent (PyTorch's own float32 gradients, too). Such draws are rare, so that of three one has none."""
    ours, theirs, shape, scale = CASES[name]
    for draws_left in (2, 1, 0):
        net, torch_net, x = pair(ours, theirs, shape, scale, 2 + draws_left, np.float32)
        torch_net.load_state_dict({key: torch.from_numpy(value) for key, value in net.state_dict().items()})  # rounded, too
        try:
            compare_passes(net, torch_net, x[:1], 2, (SCORES32, GRADIENTS32))
            return
        except AssertionError as error:
            if not draws_left or "gradient of" not in str(error):
                raise


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", SLIDING)
def test_a_net_made_fully_convolutional_slides_over_larger_images(name, seed):
    ours, theirs, side, shape, scale = SLIDING[name]
    net, theirs, x = pair(ours, theirs, shape, scale, seed)
    net, theirs = models.to_fully_convolutional(net), theirs.eval()
    for head in ("aux1", "aux2"):
        if hasattr(theirs, head):
            delattr(theirs, head)
    y = net.eval()(x)
    assert y.ndim == 4 and y.shape[2] > 1 and y.shape[3] > y.shape[2] - 3, f"{y.shape} is one place only"
    compare_passes(net, theirs, x, seed, (EXACT, EXACT), forward=lambda t: theirs.slide(t, side))


@pytest.mark.parametrize("name", ["alexnet", "alexnet-torchvision", "vgg-D", "vgg-A-bn", "googlenet", "googlenet-torchvision",
                                  "resnet18-B", "resnet50-paper", "plain18", "resnet20-cifar-A", "fcn16s", "fcn8s, learned",
                                  "mini-vgg", "mini-inception", "mini-resnet"])
def test_two_steps_of_training_move_a_net_as_they_move_torchs(name):
    """Cross entropy (and .3 of each head's; pixels labelled 255 count nothing), SGD with momentum and weight decay."""
    net, theirs, x = pair(*CASES[name], 3)
    options = dict(lr=1e-3 / CASES[name].scale, momentum=0.9, weight_decay=5e-4)
    ours = minidl.optim.SGD(net.parameters(), **options)
    expected = torch.optim.SGD(theirs.parameters(), **options)
    start = net.state_dict()
    rng = np.random.default_rng(3)
    for step in range(2):
        minidl.manual_seed(step)
        z = Tensor(x, requires_grad=True)
        got = net.train()(z)
        shape = outputs_of(got)[0].shape
        labels = rng.integers(0, shape[1], (shape[0], *shape[2:]))
        if labels.ndim > 1:
            labels[rng.random(labels.shape) < 0.3] = 255
        loss = classification_loss(got, labels, ignore_index=255)
        ours.zero_grad()
        loss.backward()

        minidl.manual_seed(step)
        t = torch.from_numpy(x).requires_grad_()
        losses = [torch.nn.functional.cross_entropy(y, torch.from_numpy(labels), ignore_index=255)
                  for y in outputs_of(theirs.train()(t))]
        expected_loss = losses[0] if len(losses) == 1 else losses[0] + 0.3 * (losses[1] + losses[2])
        expected.zero_grad()
        expected_loss.backward()

        assert loss.item() == pytest.approx(expected_loss.item(), rel=EXACT)
        compare_gradients(net, theirs, z, t, EXACT, training=True)
        ours.step()
        expected.step()
    compare_states(net, theirs)
    for key, p in net.named_parameters():
        moved = not np.array_equal(p.numpy(), start[key])
        assert moved == p.requires_grad, f"{key} {'moved' if moved else 'stayed where it was'}"


def test_a_mistake_of_a_part_in_a_hundred_million_would_be_noticed():
    """The comparison itself can fail."""
    net, theirs, x = pair(*CASES["resnet18-B"], 0)
    weight = net.layer2[0].downsample[0].weight
    weight.data = weight.data * (1 + 1e-8)
    with pytest.raises(AssertionError, match="differ"):
        compare_passes(net, theirs, x, 0, (EXACT, EXACT))
