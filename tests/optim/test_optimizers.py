"""Optimizers: their formulas by hand, what they leave alone, what they refuse, and resuming."""
import math

import numpy as np
import pytest

from minidl.autograd import Tensor
from minidl.nn import BilinearUpsample2d, Linear, Parameter, Sequential
from minidl.optim import SGD, Adam, AdamW, clip_grad_norm_, clip_grad_value_

MAKERS = [
    lambda params: SGD(params, lr=0.1),
    lambda params: SGD(params, lr=0.1, momentum=0.9, weight_decay=0.01),
    lambda params: SGD(params, lr=0.1, momentum=0.9, nesterov=True),
    lambda params: Adam(params, lr=0.1, weight_decay=0.01),
    lambda params: AdamW(params, lr=0.1),
]


def trained(make, steps, p=None, optimizer=None, first=0):
    """p after `steps` steps with gradients that depend on p and on the number of the step."""
    p = Parameter(np.linspace(-1.0, 2.0, 6).reshape(2, 3)) if p is None else p
    optimizer = make([p]) if optimizer is None else optimizer
    for i in range(first, first + steps):
        p.grad = np.sin(p.data + i)
        optimizer.step()
    return p, optimizer


def test_sgd_subtracts_lr_times_the_gradient():
    p = Parameter(np.array([1.0, 2.0]))
    p.grad = np.array([10.0, -10.0])
    SGD([p], lr=0.1).step()
    np.testing.assert_allclose(p.data, [0.0, 3.0], atol=1e-15)


def test_momentum_starts_with_the_gradient_and_keeps_lr_outside():
    p, g, lr, mu = Parameter(np.array([1.0])), np.array([2.0]), 0.1, 0.5
    optimizer = SGD([p], lr, momentum=mu)
    p.grad = g
    optimizer.step()
    assert p.data[0] == pytest.approx(1 - lr * 2)
    optimizer.param_groups[0]["lr"] = 0.01
    optimizer.step()  # v = 0.5 * 2 + 2 = 3
    assert p.data[0] == pytest.approx(0.8 - 0.01 * 3)
    assert g[0] == 2.0  # the velocity is no alias of the gradient


def test_weight_decay_pulls_towards_zero():
    p = Parameter(np.array([2.0, -4.0]))
    p.grad = np.zeros(2)
    SGD([p], lr=0.1, weight_decay=0.5).step()
    np.testing.assert_allclose(p.data, [1.9, -3.8], rtol=1e-12)


def test_nesterov_looks_ahead():
    p = Parameter(np.array([0.0]))
    optimizer = SGD([p], 1.0, momentum=0.5, nesterov=True)
    p.grad = np.array([1.0])
    optimizer.step()  # v = 1, moves by g + 0.5 v
    assert p.data[0] == pytest.approx(-1.5)
    optimizer.step()  # v = 1.5
    assert p.data[0] == pytest.approx(-1.5 - 1.75)


def test_adams_first_step_has_the_length_lr_whatever_the_gradient():
    p = Parameter(np.zeros(3))
    p.grad = np.array([1e-3, -5.0, 1e4])
    Adam([p], lr=0.1).step()
    np.testing.assert_allclose(p.data, [-0.1, 0.1, -0.1], rtol=1e-4)


def test_adams_second_step_is_the_formulas():
    p = Parameter(np.zeros(1))
    optimizer = Adam([p], lr=0.1, betas=(0.5, 0.75), eps=0.25)
    for g in (1.0, 3.0):
        p.grad = np.array([g])
        optimizer.step()
    first = 0.1 * 1 / (1 + 0.25)  # m = 0.5, v = 0.25; corrected: 1 and 1
    m, v = 0.5 * 0.5 + 0.5 * 3, 0.75 * 0.25 + 0.25 * 9
    second = 0.1 * (m / (1 - 0.5**2)) / (math.sqrt(v / (1 - 0.75**2)) + 0.25)
    np.testing.assert_allclose(p.data, [-first - second], rtol=1e-12)


def test_adamw_decays_beside_the_gradient_and_adam_within():
    p, q = Parameter(np.array([4.0])), Parameter(np.array([4.0]))
    p.grad = q.grad = np.array([0.0])
    AdamW([p], lr=0.1, weight_decay=0.5).step()
    assert p.data[0] == pytest.approx(4 * (1 - 0.05))
    Adam([q], lr=0.1, weight_decay=0.5).step()
    assert q.data[0] == pytest.approx(4 - 0.1)


@pytest.mark.parametrize("make", MAKERS)
def test_descent_finds_the_bottom_of_a_bowl(make):
    p = Parameter(np.array([3.0, -2.0]))
    optimizer = make([p])
    for _ in range(300):
        optimizer.zero_grad()
        ((p - np.array([1.0, 0.5])) ** 2).sum().backward()
        optimizer.step()
    np.testing.assert_allclose(p.data, [1.0, 0.5], atol=0.05)


@pytest.mark.parametrize("make", MAKERS)
def test_no_gradient_or_frozen_means_no_change(make):
    p, q, r = (Parameter(np.ones(2)) for _ in range(3))
    optimizer = make([p, q, r])
    p.grad = r.grad = np.ones(2)
    r.requires_grad = False
    optimizer.step()
    assert (p.data != 1).all() and (q.data == 1).all() and (r.data == 1).all()


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 3), (), (0, 2)])
def test_dtype_shape_and_identity_stay_and_the_gradient_is_not_written(make, dtype, shape):
    p = Parameter(np.ones(shape, dtype))
    optimizer, before = make([p]), type(p.data)
    for _ in range(3):
        p.grad = gradient = np.full(shape, 0.5, dtype)
        optimizer.step()
    assert type(p.data) is before and p.dtype == dtype and p.shape == shape
    assert (gradient == 0.5).all() and (p.data < 1).all()
    assert all(array.dtype == dtype and array.shape == shape for memory in optimizer.state.values()
               for key, array in memory.items() if key != "step")


def test_zero_grad_sets_none():
    p = Parameter([1.0])
    p.grad = np.ones(1, np.float32)
    SGD([p], 0.1).zero_grad()
    assert p.grad is None


@pytest.mark.parametrize("make", MAKERS)
def test_a_step_between_forward_and_backward_is_noticed_and_records_nothing(make):
    p = Parameter(np.ones(2))
    optimizer = make([p])
    (p * p).sum().backward()
    y = (p * p).sum()
    optimizer.step()
    assert p.node is None
    with pytest.raises(RuntimeError, match="changed after forward"):
        y.backward()


@pytest.mark.parametrize("make", MAKERS)
def test_memory_follows_a_net_that_is_converted_between_steps(make):
    net = Linear(2, 1)
    optimizer = make(net.parameters())
    net(Tensor([[1.0, 2.0]])).sum().backward()
    optimizer.step()
    net.to(dtype=np.float64)
    net.zero_grad()
    net(Tensor(np.array([[1.0, 2.0]]))).sum().backward()
    optimizer.step()
    assert net.weight.dtype == np.float64
    assert all(a.dtype == np.float64 for m in optimizer.state.values() for k, a in m.items() if k != "step")


@pytest.mark.parametrize("make", MAKERS)
def test_memory_follows_a_net_that_is_moved_between_steps(make, device):
    def train(where):
        net = Linear(2, 1)
        net.load_state_dict({"weight": np.array([[0.5, -1.0]]), "bias": np.array([0.25])})
        optimizer = make(net.parameters())
        for place in ("cpu", where, where):
            net.to(place).zero_grad()
            (net(Tensor([[1.0, 2.0]]).to(place)) ** 2).sum().backward()
            clip_grad_norm_(net.parameters(), 1.0)
            clip_grad_value_(net.parameters(), 0.8)
            optimizer.step()
        fresh = make(net.parameters())
        fresh.load_state_dict(optimizer.state_dict())
        assert str(fresh.state_dict()) == str(optimizer.state_dict())
        return net.weight.numpy()

    np.testing.assert_allclose(train(device), train("cpu"), rtol=1e-5)


def test_groups_have_options_of_their_own():
    p, q = Parameter(np.zeros(1)), Parameter(np.zeros(1))
    optimizer = SGD([{"params": [p], "lr": 1.0}, {"params": (x for x in [q])}], lr=0.1)
    p.grad = q.grad = np.ones(1)
    optimizer.step()
    assert p.data[0] == -1.0 and q.data[0] == -0.1
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 0.1]


def test_a_net_with_frozen_parts_can_be_passed_whole():
    net = Sequential(Linear(2, 2), BilinearUpsample2d(2, 2))
    SGD(net.parameters(), 0.1)
    net[0].weight.requires_grad = net[0].bias.requires_grad = False
    with pytest.raises(ValueError, match="none of the 3 parameters requires a gradient"):
        SGD(net.parameters(), 0.1)


# --- refusals ------------------------------------------------------------------------------------------------------

P = Parameter([1.0])
USED = iter([P])
next(USED)
READ_ONLY = np.ones(3)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize("make, error, words", [
    (lambda: SGD([], 0.1), ValueError, "got no parameters"),
    (lambda: SGD(USED, 0.1), ValueError, "used up before"),
    (lambda: SGD([{"params": []}], 0.1), ValueError, "got no parameters"),
    (lambda: SGD(P, 0.1), TypeError, r"put it into a list"),
    (lambda: SGD(Linear(1, 1), 0.1), TypeError, r"got Linear: pass net.parameters\(\)"),
    (lambda: SGD(Sequential(Linear(1, 1)), 0.1), TypeError, r"got Linear: pass net.parameters\(\)"),
    (lambda: SGD(Linear(1, 1).named_parameters(), 0.1), TypeError, "not net.named_parameters"),
    (lambda: SGD(Linear(1, 1).state_dict(), 0.1), TypeError, "put a group into a list"),
    (lambda: SGD([P.data], 0.1), TypeError, "must be a Parameter, got ndarray"),
    (lambda: SGD([Tensor([1.0])], 0.1), ValueError, "requires no gradient and would never change"),
    (lambda: SGD([Tensor(np.arange(2))], 0.1), ValueError, "int64"),
    (lambda: SGD([P * 2], 0.1), ValueError, "computed by multiply, so it is no leaf"),
    (lambda: SGD([P, P], 0.1), ValueError, "listed twice"),
    (lambda: SGD([{"params": [P]}, {"params": [P]}], 0.1), ValueError, "listed twice"),
    (lambda: SGD([{"params": [P]}, Parameter([1.0])], 0.1), TypeError, "mixed"),
    (lambda: SGD([{"params": [P], "learning_rate": 1}], 0.1), ValueError, "is one misspelt"),
    (lambda: SGD([{"lr": 1}], 0.1), ValueError, "must have 'params'"),
    (lambda: SGD([{"params": [P], "lr": -1}], 0.1), ValueError, "lr must be a finite number of at least 0"),
    pytest.param(lambda: SGD([Tensor(READ_ONLY, requires_grad=True)], 0.1), ValueError, "read-only",
                 marks=pytest.mark.cpu("no memory of a GPU is read-only")),
    (lambda: SGD([P], -0.1), ValueError, "lr must be a finite number of at least 0, got -0.1"),
    (lambda: SGD([P], math.nan), ValueError, "lr must be"),
    (lambda: SGD([P], "0.1"), TypeError, "pass a plain number"),
    (lambda: SGD([P], True), TypeError, "lr must be"),
    (lambda: SGD([P], 0.1, momentum=1.0), ValueError, "momentum must be .* below 1"),
    (lambda: SGD([P], 0.1, weight_decay=-1), ValueError, "weight_decay"),
    (lambda: SGD([P], 0.1, nesterov=True), ValueError, "momentum is 0"),
    (lambda: SGD([P], 0.1, 0.9, nesterov=1), TypeError, "nesterov must be True or False"),
    (lambda: Adam([P], betas=0.9), TypeError, "betas must be two numbers"),
    (lambda: Adam([P], betas=(0.9, 1.0)), ValueError, "each of betas"),
    (lambda: AdamW([P], eps=-1), ValueError, "AdamW: eps"),
])
def test_optimizers_refuse(make, error, words):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize("gradient", [np.ones(1, np.float32), np.ones((2, 2)), [1.0, 2.0], 3.0], ids=str)
def test_a_gradient_that_is_not_like_its_parameter_is_refused(gradient):
    p = Parameter([1.0, 2.0])
    with pytest.raises(ValueError, match=r"Tensor\.grad: must be None or a float32 array of shape \(2,\)"):
        p.grad = gradient
    SGD([p], 0.1).step()
    assert p.data.tolist() == [1, 2]


# --- resuming ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", MAKERS)
def test_a_resumed_run_is_bit_identical_to_an_uninterrupted_one(make, tmp_path):
    whole, _ = trained(make, 7)
    p, optimizer = trained(make, 3)
    optimizer.param_groups[0]["lr"] = optimizer.param_groups[0]["lr"]
    np.savez(tmp_path / "state.npz", p=p.data, **optimizer.state_dict())
    q = Parameter(np.load(tmp_path / "state.npz")["p"])
    fresh = make([q])
    fresh.load_state_dict({k: v for k, v in np.load(tmp_path / "state.npz").items() if k != "p"})
    trained(make, 4, q, fresh, first=3)
    assert np.array_equal(whole.data, q.data)


def test_options_are_resumed_too_and_copies_are_kept():
    p, optimizer = trained(lambda params: SGD(params, 0.5, 0.9, 0.1, nesterov=True), 2)
    state = optimizer.state_dict()
    other = SGD([Parameter(np.zeros((2, 3)))], 0.1)
    other.load_state_dict(state)
    group = other.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (0.5, 0.9, 0.1, True)
    assert isinstance(group["nesterov"], bool) and isinstance(group["lr"], float)
    kept = {k: v.copy() for k, v in state.items()}
    for memory in (*other.state.values(), *optimizer.state.values()):
        memory["momentum_buffer"] += 1
    assert all(np.array_equal(kept[k], state[k]) for k in kept)


def test_one_error_lists_all_that_does_not_fit_and_nothing_changes():
    _, optimizer = trained(lambda params: Adam(params, 0.1), 2)
    before = optimizer.state_dict()
    state = {k: v + 1 for k, v in before.items() if k not in ("groups.0.eps", "state.0.step")}
    state |= {"state.0.exp_avg": np.zeros(5), "state.1.exp_avg": np.zeros(2), "groups.0.lr": "fast"}
    with pytest.raises(ValueError) as caught:
        optimizer.load_state_dict(state)
    for words in ("missing: groups.0.eps", "missing: state.0.step", "unexpected: state.1.exp_avg",
                  "misshapen: state.0.exp_avg is (5,), expected (2, 3)", "no array: groups.0.lr", "do not fit: 5"):
        assert words in str(caught.value), f"{words!r} not in {caught.value}"
    after = optimizer.state_dict()
    assert list(after) == list(before) and all(np.array_equal(before[k], after[k]) for k in before)


@pytest.mark.parametrize("change, words", [
    ({"groups.0.lr": np.array(-1.0)}, "group 0: Adam: lr must be"),
    ({"groups.0.betas": np.array([0.9, 1.5])}, "each of betas"),
    ({"state.0.step": np.array(1.5)}, "state.0.step is float64"),
    ({"state.0.exp_avg": np.array([["a"] * 3] * 2)}, "no numbers"),
])
def test_wrong_values_are_refused_on_loading(change, words):
    _, optimizer = trained(lambda params: Adam(params, 0.1), 1)
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match=words):
        optimizer.load_state_dict(before | change)
    assert all(np.array_equal(before[k], v) for k, v in optimizer.state_dict().items())
    with pytest.raises(TypeError, match="needs a mapping"):
        optimizer.load_state_dict([1])


@pytest.mark.parametrize("make", [
    lambda p: SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01), lambda p: SGD(p, lr=0.1),
    lambda p: SGD(p, lr=0.1, momentum=0.9, nesterov=True), lambda p: Adam(p, lr=0.1, weight_decay=0.01),
    lambda p: AdamW(p, lr=0.1)], ids=["sgd", "plain sgd", "nesterov sgd", "adam", "adamw"])
def test_a_parameter_updated_in_slices_by_threads_is_the_one_updated_whole(make, monkeypatch):
    """The same bits: each number is computed alone."""
    from minidl.optim import optimizer
    results = []
    for size in (optimizer.SLICE, 7):
        monkeypatch.setattr(optimizer, "SLICE", size)
        rng = np.random.default_rng(0)
        p = Parameter(rng.standard_normal((5, 9)).astype(np.float32))
        updating = make([p])
        for _ in range(3):
            p.grad = rng.standard_normal((5, 9)).astype(np.float32)
            updating.step()
        results.append([p.data, *(x for x in updating.state_dict().values())])
    for one, other in zip(*results):
        assert np.array_equal(one, other)
