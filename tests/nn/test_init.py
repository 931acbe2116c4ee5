"""First values: their spread, and that a seed fixes them."""
import math
import threading

import numpy as np
import pytest

from minidl import nn
from minidl.autograd import Tensor
from minidl.nn import Parameter, init
from minidl.randomness import generator, manual_seed


@pytest.mark.parametrize("shape, expected", [((5, 3), (3, 5)), ((8, 3, 2, 5), (30, 80)), ((4, 1, 3, 3), (9, 36))])
def test_fans_count_connections(shape, expected):
    assert init.fans(shape) == expected


@pytest.mark.parametrize("shape", [(3,), (), (0, 3), (4, 3, 0, 1)])
def test_fans_refuse_what_is_no_weight(shape):
    with pytest.raises(ValueError, match="fans: a weight is"):
        init.fans(shape)


CASES = [  # shape (60, 20, 3, 5): fan_in 300, fan_out 900
    (init.he_normal, {}, math.sqrt(2 / 300), None),
    (init.he_normal, dict(mode="fan_out"), math.sqrt(2 / 900), None),
    (init.he_normal, dict(negative_slope=2.0), math.sqrt(2 / 5 / 300), None),
    (init.he_uniform, {}, math.sqrt(2 / 300), math.sqrt(6 / 300)),
    (init.glorot_normal, {}, math.sqrt(2 / 1200), None),
    (init.glorot_normal, dict(gain=3.0), 3 * math.sqrt(2 / 1200), None),
    (init.glorot_uniform, {}, math.sqrt(2 / 1200), math.sqrt(6 / 1200)),
    (init.normal, dict(std=0.01), 0.01, None),
]


@pytest.mark.parametrize("fill, options, std, limit", CASES)
def test_the_spread_is_the_formulas(fill, options, std, limit):
    manual_seed(1)
    p = Parameter(np.zeros((60, 20, 3, 5)))
    assert fill(p, **options) is p
    # 18000 numbers: the sample's std is within 3 % and its mean within 4 std / sqrt(18000)
    assert abs(p.data.std() / std - 1) < 0.03
    assert abs(p.data.mean()) < 4 * std / math.sqrt(18000)
    if limit is not None:
        assert 0.99 * limit < abs(p.data).max() <= limit
    else:
        assert abs(p.data).max() > 3 * std


def test_normal_has_the_given_mean_and_constant_the_value():
    manual_seed(0)
    assert abs(init.normal(Parameter(np.zeros(1000)), mean=5.0, std=0.1).data.mean() - 5) < 0.02
    assert init.constant(Parameter([1.0, 2.0]), 0.5).numpy().tolist() == [0.5, 0.5]


@pytest.mark.parametrize("fill", [init.he_normal, init.he_uniform, init.glorot_normal, init.glorot_uniform, init.normal])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_seed_fixes_the_bits_and_the_dtype_stays(fill, dtype):
    p, q = Parameter(np.zeros((4, 3), dtype)), Parameter(np.zeros((4, 3), dtype))
    manual_seed(5)
    fill(p)
    first = p.data.copy()
    fill(p)
    manual_seed(5)
    fill(q)
    assert p.dtype == dtype and np.array_equal(first, q.data) and not np.array_equal(first, p.data)


def test_filling_tells_a_waiting_graph():
    p = Parameter([1.0, 2.0])
    y = (p * p).sum()
    init.constant(p, 3)
    with pytest.raises(RuntimeError, match="changed after forward"):
        y.backward()


@pytest.mark.parametrize("fill, arguments, error, words", [
    (init.he_normal, (np.zeros((2, 2)),), TypeError, "he_normal: fills a Parameter, got ndarray"),
    (init.glorot_uniform, (nn.Linear(1, 1),), TypeError, "pass layer.weight"),
    (init.normal, (Tensor(np.arange(3)),), TypeError, "floating"),
    (init.he_normal, (Parameter([1.0]),), ValueError, "biases and scales have no fans"),
    (init.he_uniform, (Parameter([[1.0]]), "fan_avg"), ValueError, "mode must be"),
    (init.normal, (Parameter([1.0]), 0, -1), ValueError, "std must be a finite number of at least 0"),
    (init.constant, (Parameter([1.0]), "0"), TypeError, "value must be a finite number"),
    (init.glorot_normal, (Parameter([[1.0]]), math.nan), ValueError, "gain must be a finite number"),
])
def test_init_refuses(fill, arguments, error, words):
    with pytest.raises(error, match=words):
        fill(*arguments)


@pytest.mark.parametrize("make, fan_in", [
    (lambda: nn.Linear(50, 400), 50), (lambda: nn.Conv2d(40, 80, (2, 3), groups=2), 120),
    (lambda: nn.ConvTranspose2d(40, 60, (4, 6), stride=(2, 3), groups=2), 20 * 24 / 6)])
def test_layers_draw_he_normal_weights_and_zero_biases(make, fan_in):
    manual_seed(2)
    layer = make()
    assert layer.weight.dtype == np.float32 and not layer.bias.data.any()
    assert abs(layer.weight.data.std() / math.sqrt(2 / fan_in) - 1) < 0.03
    assert abs(layer.weight.data.mean()) < 0.03 * math.sqrt(2 / fan_in)


def test_activations_keep_their_size_through_many_layers():
    manual_seed(0)
    net = nn.Sequential(*[layer for _ in range(10) for layer in (nn.Linear(300, 300, bias=False), nn.ReLU())])
    x = Tensor(np.random.default_rng(0).standard_normal((100, 300)).astype(np.float32))
    # ReLU halves the mean square, He's factor 2 makes up for it
    assert 0.5 < (net(x).numpy() ** 2).mean() < 2.0


def test_the_same_seed_builds_bit_identical_nets_and_masks():
    def run():
        manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ConvTranspose2d(2, 1, 3), nn.Flatten(), nn.Linear(16, 16), nn.Dropout(0.5))
        return net.state_dict(), net(Tensor(np.ones((3, 1, 4, 4), np.float32))).numpy()

    (state, y), (again, z) = run(), run()
    assert all(np.array_equal(state[k], again[k]) for k in state)
    assert np.array_equal(y, z) and (y == 0).any()


@pytest.mark.parametrize("draw", [init.he_normal, init.glorot_uniform])
def test_no_values_leaves_new_weights_zero_and_the_generator_alone(draw):
    manual_seed(0)
    expected = generator().random()
    manual_seed(0)
    with init.no_values():
        layer = nn.Linear(3, 4)
        assert not draw(layer.weight).data.any()
    assert generator().random() == expected
    assert draw(layer.weight).data.all()


def test_drawing_into_a_tensor_leaves_the_callers_array_alone():
    x = np.zeros((3, 4))
    assert init.he_normal(Tensor(x)).data.any() and not x.any()


def test_a_constant_must_be_a_number_also_where_nothing_is_drawn():
    with init.no_values(), pytest.raises(TypeError, match="value must be a finite number"):
        init.constant(Parameter.zeros(3), "abc")


def test_no_values_ends_with_its_block_and_holds_for_one_thread():
    seen = []

    def elsewhere():
        seen.append(nn.Linear(3, 4).weight.data.any())

    with pytest.raises(ZeroDivisionError), init.no_values():
        with init.no_values():
            pass
        assert not nn.Linear(3, 4).weight.data.any()
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        1 / 0
    assert nn.Linear(3, 4).weight.data.any() and seen == [True]
