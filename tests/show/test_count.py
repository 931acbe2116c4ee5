"""Counting: every operation seen, every number right, and the net left as it was."""
import numpy as np
import pytest

from minidl import nn, ops
from minidl.show import count_multiply_adds, count_parameters, short_number, trace


class Shared(nn.Module):
    """One linear layer used twice, and one that is never used."""

    def __init__(self):
        self.linear = nn.Linear(4, 4)
        self.idle = nn.Linear(2, 3)

    def forward(self, x):
        return self.linear(ops.relu(self.linear(x)))


def small_net():
    return nn.Sequential(nn.Conv2d(2, 3, (3, 5), stride=2, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5),
                         nn.Flatten(), nn.Linear(3 * 4 * 3, 7))


def test_rows_name_layers_operations_shapes_and_costs():
    rows = trace(small_net(), (2, 8, 8))  # OH = (8 + 2 - 3) // 2 + 1 = 4, OW = (8 + 2 - 5) // 2 + 1 = 3
    assert rows == [
        ("0", "conv2d", (1, 3, 4, 3), 3 * 2 * 3 * 5 + 3, 4 * 3 * 3 * 2 * 3 * 5),
        ("1", "batch_norm_eval", (1, 3, 4, 3), 6, 0),
        ("", "relu", (1, 3, 4, 3), 0, 0),
        ("", "reshape", (1, 36), 0, 0),
        ("5", "linear", (1, 7), 36 * 7 + 7, 36 * 7),
    ]


def test_a_layer_that_is_used_twice_is_paid_for_twice_but_owned_once():
    net = Shared()
    rows = trace(net, (4,))
    assert [row.parameters for row in rows] == [20, 0, 0]
    assert sum(row.multiply_adds for row in rows) == count_multiply_adds(net, (4,)) == 32
    assert count_parameters(net) == 20 + 9


def test_a_batch_costs_its_size_times_an_image():
    net = small_net()
    assert sum(row.multiply_adds for row in trace(net, (2, 8, 8), batch_size=5)) == 5 * count_multiply_adds(net, (2, 8, 8))


def test_frozen_parameters_are_left_out_on_request():
    net = nn.Linear(4, 3)
    net.bias.requires_grad = False
    assert (count_parameters(net), count_parameters(net, trainable_only=True)) == (15, 12)


def test_counting_leaves_modes_gradients_and_running_statistics_alone():
    net = small_net()
    net[1].eval()
    x = np.random.default_rng(0).standard_normal((2, 2, 8, 8)).astype(np.float32)
    net(x).sum().backward()
    grads = [p.grad.copy() for p in net.parameters()]
    state = {key: value.copy() for key, value in net.state_dict().items()}
    count_multiply_adds(net, (2, 8, 8))
    assert [module.training for module in net] == [True, False, True, True, True, True]
    assert all(np.array_equal(p.grad, g) for p, g in zip(net.parameters(), grads))
    assert all(np.array_equal(value, state[key]) for key, value in net.state_dict().items())


def test_a_float64_net_and_a_net_without_parameters_can_be_counted(device):
    assert count_multiply_adds(small_net().to(device, np.float64), (2, 8, 8)) == 12 * 90 + 252
    assert count_multiply_adds(nn.Sequential(nn.ReLU()), (3,)) == 0


@pytest.mark.parametrize("wrong", [(), 28, (1, 28, 0), (1, 28.0, 28), None])
def test_an_input_shape_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match="shape of one image"):
        trace(small_net(), wrong)


def test_an_image_that_does_not_fit_is_refused_by_the_layer():
    with pytest.raises(ValueError, match="expects 2"):
        trace(small_net(), (1, 8, 8))


@pytest.mark.parametrize(("n", "text"), [
    (0, "0"), (999, "999"), (1000, "1.00 k"), (9_994, "9.99 k"), (9_996, "10.0 k"), (999_499, "999 k"),
    (999_500, "1.00 M"), (3_120_528, "3.12 M"), (15_470_264_320, "15.5 G"), (2_000_000_000_000, "2000 G")])
def test_short_numbers_have_three_digits(n, text):
    assert short_number(n) == text
