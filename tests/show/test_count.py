"""Counting: every layer seen, every number right, and the net left as it was."""
import time

import numpy as np
import pytest

from minidl import models, nn, ops
from minidl.autograd import Tensor, concat, watch
from minidl.backend import array_module
from minidl.randomness import generator, manual_seed
from minidl.show import count_multiply_adds, count_parameters, short_bytes, short_number, trace
from minidl.show.count import FROM_IMAGE, walk


class Shared(nn.Module):
    """One linear layer used twice, and one that is never used."""

    def __init__(self):
        self.linear = nn.Linear(4, 4)
        self.idle = nn.Linear(2, 3)

    def forward(self, x):
        return self.linear(ops.relu(self.linear(x)))


class Block(nn.Module):
    """Branches, a sum, slices, padding, and a layer that exists in forward only."""

    def __init__(self):
        self.conv, self.shortcut = nn.Conv2d(4, 4, 3, padding=1), nn.Identity()

    def forward(self, x):
        y = self.conv(x) + self.shortcut(x)
        y = nn.ReLU()(y)
        return concat([y[:, :2], y[:, 2:]], axis=1)


def small_net():
    return nn.Sequential(nn.Conv2d(2, 3, (3, 5), stride=2, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5),
                         nn.Flatten(), nn.Linear(3 * 4 * 3, 7))


def columns(rows, *names):
    return [tuple(getattr(row, name) for name in names) for row in rows]


def test_rows_name_layers_shapes_and_costs():
    rows = trace(small_net(), (2, 8, 8))  # OH = (8 + 2 - 3) // 2 + 1 = 4, OW = (8 + 2 - 5) // 2 + 1 = 3
    assert columns(rows, "layer", "operation", "shape", "parameters", "multiply_adds", "memory") == [
        ("0", "Conv2d", (1, 3, 4, 3), 3 * 2 * 3 * 5 + 3, 4 * 3 * 3 * 2 * 3 * 5, 4 * 36),
        ("1", "BatchNorm2d", (1, 3, 4, 3), 6, 0, 4 * 36),
        ("2", "ReLU", (1, 3, 4, 3), 0, 0, 4 * 36),
        ("3", "Dropout", (), 0, 0, 0),
        ("4", "Flatten", (1, 36), 0, 0, 0),
        ("5", "Linear", (1, 7), 36 * 7 + 7, 36 * 7, 4 * 7),
    ]
    assert columns(rows, "inputs") == [((FROM_IMAGE,),), ((0,),), ((1,),), ((),), ((2,),), ((4,),)]


def test_operations_in_the_forward_of_a_module_with_parts_have_rows_of_their_own():
    net = nn.Sequential({"stem": nn.Conv2d(3, 4, 1), "block": Block()})
    assert columns(trace(net, (3, 5, 6)), "layer", "operation", "is_layer", "inputs", "memory") == [
        ("stem", "Conv2d", True, (FROM_IMAGE,), 4 * 4 * 30),
        ("block.conv", "Conv2d", True, (0,), 4 * 4 * 30),
        ("block.shortcut", "Identity", True, (), 0),
        ("block", "add", False, (1, 0), 4 * 4 * 30),
        ("block", "ReLU", False, (3,), 4 * 4 * 30),
        ("block", "getitem", False, (4,), 0),
        ("block", "getitem", False, (4,), 0),
        ("block", "concat", False, (5, 6), 4 * 4 * 30),
    ]


def test_a_slice_of_a_sequential_is_seen_layer_by_layer():
    class Halves(nn.Module):
        def __init__(self):
            self.features = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5))

        def forward(self, x):
            return self.features[2:](self.features[:2](x))

    assert columns(trace(Halves(), (3,)), "layer", "parameters") == [("features.0", 16), ("features.1", 0), ("features.2", 25)]


def test_what_makes_layers_for_itself_is_one_layer():
    class Deep(nn.Module):
        def __init__(self):
            self.weight = nn.Parameter(np.ones((3, 3), np.float32))

        def forward(self, x):
            return nn.ReLU()(ops.linear(nn.ReLU()(x), self.weight))

    (row,) = trace(nn.Sequential(Deep()), (3,))
    assert (row.layer, row.operation, row.parameters, row.multiply_adds, row.memory) == ("0", "Deep", 9, 9, 3 * 12)


def test_a_layer_of_several_windows_tells_the_first_and_sees_through_all():
    class Two(nn.Module):
        def forward(self, x):
            return ops.max_pool2d(ops.relu(ops.avg_pool2d(x, (3, 5), (2, 1))), 2)

    (row,) = trace(nn.Sequential(Two()), (1, 12, 12))
    assert row.window == ((3, 5), (2, 1))
    assert row.field == ((5, 6), (4, 2))
    assert row.memory == 4 * (5 * 8 + 5 * 8 + 2 * 4)


def test_a_net_that_is_a_single_layer_shows_its_operations():
    assert columns(trace(nn.Linear(4, 3), (4,)), "layer", "operation", "parameters") == [("", "linear", 15)]


def test_a_layer_that_is_used_twice_is_paid_for_twice_but_owned_once():
    net = Shared()
    rows = trace(net, (4,))
    assert columns(rows, "layer", "parameters") == [("linear", 20), ("", 0), ("linear", 0)]
    assert sum(row.multiply_adds for row in rows) == count_multiply_adds(net, (4,)) == 32
    assert count_parameters(net) == 20 + 9
    assert walk(net, (4,)).unused == {"idle.weight": 6, "idle.bias": 3}


def test_weights_that_two_layers_share_are_counted_once():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = net[0].weight
    assert [row.parameters for row in trace(net, (4,))] == [20, 4]


def test_a_batch_costs_its_size_times_an_image():
    net = nn.Sequential(nn.Conv2d(2, 4, 1), Block(), nn.Flatten(), nn.Linear(4 * 64, 7))
    one, five = trace(net, (2, 8, 8)), trace(net, (2, 8, 8), batch_size=5)
    for name in ("multiply_adds", "memory"):
        assert [5 * getattr(row, name) for row in one] == [getattr(row, name) for row in five], name
    assert [row.parameters for row in one] == [row.parameters for row in five]
    assert five[0].shape == (5, 4, 8, 8)
    assert five[-1].shape == (5, 7)


def test_what_does_not_depend_on_the_image_costs_the_same_for_every_batch():
    class Doubled(nn.Module):
        def __init__(self):
            self.linear = nn.Linear(4, 3)

        def forward(self, x):
            return ops.linear(x, self.linear.weight + self.linear.weight)

    assert [row.memory for row in trace(Doubled(), (4,), batch_size=10)] == [4 * 12, 4 * 30]


def real_memory(net, x):
    """Bytes of all outputs that do not show memory of their inputs, by really computing, with a graph."""
    total, alive = 0, []

    def see(function, inputs, y):
        nonlocal total
        alive.append(y)
        total += 0 if any(array_module(y).shares_memory(y, other) for other in inputs) else y.nbytes

    with watch(see):
        net.eval()(Tensor(x))
    return total


@pytest.mark.parametrize("name", ["mini-vgg", "mini-inception", "mini-resnet", "resnet20-cifar"])
def test_memory_is_that_of_a_real_forward_pass(name):
    net = models.build(name)
    shape = net.in_channels, net.image_size, net.image_size
    assert sum(row.memory for row in trace(net, shape, batch_size=2)) == real_memory(net, np.zeros((2, *shape), np.float32))


def test_relu_in_place_costs_nothing_only_where_training_lets_it_take_the_memory():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.ReLU(inplace=True), nn.ReLU())
    memory = [row.memory for row in trace(net, (1, 6, 6))]
    assert memory == [2 * 16 * 4, 0, 2 * 4 * 4, 2 * 4 * 4, 2 * 4 * 4]
    assert sum(memory) == real_memory(net, np.zeros((1, 1, 6, 6), np.float32))


def test_a_view_costs_nothing_and_a_copy_does():
    class Views(nn.Module):
        def __init__(self):
            self.crop = nn.Crop(3, 1)

        def forward(self, x):
            x = self.crop(x).transpose(0, 1, 3, 2)[:, 0]
            return x[:, [0, 2]].reshape(-1)

    rows = trace(Views(), (2, 5, 6))
    assert columns(rows, "operation", "memory") == [("Crop", 0), ("transpose", 0), ("getitem", 0), ("getitem", 4 * 6),
                                                    ("reshape", 0)]
    assert sum(row.memory for row in rows) == real_memory(Views(), np.zeros((1, 2, 5, 6), np.float32))


def test_frozen_parameters_are_left_out_on_request():
    net = nn.Linear(4, 3)
    net.bias.requires_grad = False
    assert (count_parameters(net), count_parameters(net, trainable_only=True)) == (15, 12)


def test_counting_leaves_the_net_and_the_generator_as_they_were():
    net = small_net()
    net[1].eval()
    x = np.random.default_rng(0).standard_normal((2, 2, 8, 8)).astype(np.float32)
    net(x).sum().backward()
    net[0].bias.requires_grad = False
    grads = [p.grad.copy() for p in net.parameters()]
    state = {key: value.copy() for key, value in net.state_dict().items()}
    manual_seed(5)
    expected = generator().random(4)
    manual_seed(5)
    trace(net, (2, 8, 8), batch_size=3)
    with pytest.raises(ValueError, match="channels"):
        trace(net, (1, 8, 8))
    assert np.array_equal(generator().random(4), expected)
    assert [module.training for module in net] == [True, False, True, True, True, True]
    assert [p.requires_grad for p in net.parameters()] == [True, False, True, True, True, True]
    assert all(np.array_equal(p.grad, g) for p, g in zip(net.parameters(), grads))
    assert all(np.array_equal(value, state[key]) for key, value in net.state_dict().items())
    assert net(x).requires_grad  # and gradients are recorded again


def test_a_float64_net_and_a_net_without_parameters_can_be_counted(device):
    net = small_net().to(device, np.float64)
    assert count_multiply_adds(net, (2, 8, 8)) == 12 * 90 + 252
    assert trace(net, (2, 8, 8))[0].memory == 8 * 36
    assert count_multiply_adds(nn.Sequential(nn.ReLU()), (3,)) == 0


def test_nets_may_return_several_results():
    class Two(nn.Module):
        def __init__(self):
            self.a, self.b = nn.Linear(3, 4), nn.Linear(3, 5)

        def forward(self, x):
            return {"a": self.a(x), "b": (self.b(x), x)}

    walked = walk(Two(), (3,), batch_size=2)
    assert walked.results == (0, 1, FROM_IMAGE)
    assert walked.result_shapes == ((2, 4), (2, 5), (2, 3))


def test_heads_that_serve_training_only_are_told_apart():
    with nn.init.no_values():
        net = models.build("googlenet")
    unused = walk(net, (3, 224, 224)).unused
    assert {name.split(".")[0] for name in unused} == {"aux1", "aux2"}
    assert sum(unused.values()) == 3_188_840 + 3_190_888


@pytest.mark.parametrize("wrong", [(), 28, (1, 28, 0), (1, 28.0, 28), None])
def test_an_input_shape_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match="shape of one image"):
        trace(small_net(), wrong)


@pytest.mark.parametrize("wrong", [0, -1, 2.5])
def test_a_batch_of_nothing_is_refused(wrong):
    with pytest.raises((ValueError, TypeError), match="batch_size"):
        trace(small_net(), (2, 8, 8), wrong)


def test_what_is_no_net_is_refused():
    with pytest.raises(TypeError, match=r"needs a net \(a Module\), got function"):
        trace(lambda x: x, (3,))


def test_an_image_that_does_not_fit_is_refused_with_the_layers_name():
    net = nn.Sequential({"stem": nn.Sequential(nn.Conv2d(1, 4, 3)), "block": nn.Sequential(nn.Conv2d(4, 4, 9))})
    with pytest.raises(ValueError, match="kernel's height 9") as raised:
        trace(net, (1, 8, 8))
    assert raised.value.__notes__ == ["in layer block.0 (Conv2d)"]


def test_an_error_in_a_forward_of_ones_own_is_named_too():
    class Wrong(nn.Module):
        def __init__(self):
            self.linear = nn.Linear(3, 4)

        def forward(self, x):
            return self.linear(x) + x

    with pytest.raises(ValueError, match="broadcast") as raised:
        trace(Wrong(), (3,))
    assert raised.value.__notes__ == ["in the forward of Wrong"]


@pytest.mark.parametrize("name", ["vgg-e", "resnet152", "resnet1202-cifar"])
def test_deep_nets_are_counted_in_a_moment(name):
    with nn.init.no_values():
        net = models.build(name)
    start = time.perf_counter()
    trace(net, (3, net.image_size, net.image_size), batch_size=100_000)
    assert time.perf_counter() - start < 3  # 0.3 s on a free core; what this guards against takes minutes, or all memory


@pytest.mark.parametrize(("n", "text"), [
    (0, "0"), (999, "999"), (1000, "1.00 k"), (9_994, "9.99 k"), (9_996, "10.0 k"), (999_499, "999 k"),
    (999_500, "1.00 M"), (3_120_528, "3.12 M"), (15_470_264_320, "15.5 G"), (2_000_000_000_000, "2.00 T"),
    (999_499_999_999_999, "999 T"), (999_500_000_000_000, "1.00 P"), (10**18, "1,000 P"),
    (123_456_789 * 10**15, "123,456,789 P")])
def test_short_numbers_have_three_digits(n, text):
    assert short_number(n) == text


@pytest.mark.parametrize(("n", "text"), [(0, "0 B"), (40, "40 B"), (4_000, "4.00 kB"), (12_845_056, "12.8 MB")])
def test_bytes_are_counted_in_thousands(n, text):
    assert short_bytes(n) == text
