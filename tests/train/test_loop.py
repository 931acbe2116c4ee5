"""The training loop: that it learns, counts, calls back, stops at NaN, and leaves the net as it found it."""
import numpy as np
import pytest

import minidl
from minidl import nn
from minidl.autograd import Tensor
from minidl.data import DataLoader
from minidl.optim import SGD, CosineAnnealingLR
from minidl.train import accuracy, evaluate, evaluating, fit, predict


def blobs(n=90, seed=0):
    """Three clouds of points in the plane: x (n, 2), labels (n,)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    centers = np.array([[0, 3], [3, -2], [-3, -2]])
    return (centers[labels] + rng.standard_normal((n, 2))).astype(np.float32), labels


def make_net(seed=0):
    minidl.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3))


def train(net, epochs=4, lr=0.1, **options):
    loader = DataLoader(*blobs(), batch_size=16, shuffle=True, seed=0)
    return fit(net, SGD(net.parameters(), lr=lr, momentum=0.9), loader, epochs, **options)


def test_training_learns_and_reports_it():
    net = make_net()
    history = train(net, epochs=5, validation=DataLoader(*blobs(60, seed=1), batch_size=32))
    assert [record.epoch for record in history] == [1, 2, 3, 4, 5]
    assert history[-1].train_loss < history[0].train_loss / 2
    assert history[-1].validation_accuracy > 0.9
    assert all(record.learning_rate == 0.1 and record.seconds >= 0 for record in history)


def test_without_validation_there_is_no_validation_accuracy():
    assert train(make_net(), epochs=1)[0].validation_accuracy is None


def test_the_same_seed_gives_the_same_history():
    runs = [[(r.train_loss, r.train_accuracy) for r in train(make_net())] for _ in range(2)]
    assert runs[0] == runs[1]


def test_an_update_is_one_step_of_the_optimizer_by_the_gradient_of_the_mean_loss():
    x, labels = np.array([[1.0, 2.0], [0.5, -1.0]], np.float32), np.array([0, 1])
    net = nn.Linear(2, 2)
    w = net.weight.numpy().astype(float)
    net.bias.data *= 0
    history = fit(net, SGD(net.parameters(), lr=0.5), [(x, labels)], epochs=1)
    scores = x @ w.T
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(history[0].train_loss, -np.log(p[[0, 1], labels]).mean(), rtol=1e-5)
    np.testing.assert_allclose(net.weight.numpy(), w - 0.5 * (p - np.eye(2)[labels]).T @ x / 2, rtol=1e-5)


def test_the_loss_is_averaged_over_images_not_over_batches():
    net = nn.Linear(2, 3)
    x, labels = blobs(10)
    loader = DataLoader(x, labels, batch_size=8)  # 8 and 2
    optimizer = SGD(net.parameters(), lr=0.0)
    assert fit(net, optimizer, loader, 1)[0].train_loss == pytest.approx(evaluate(net, [(x, labels)]).loss, rel=1e-5)


def test_the_schedule_steps_once_per_update():
    net = nn.Linear(2, 3)
    optimizer = SGD(net.parameters(), lr=1.0)
    schedule = CosineAnnealingLR(optimizer, T_max=100)
    history = fit(net, optimizer, DataLoader(*blobs(60), batch_size=16), 2, schedule)
    assert schedule.steps == 8
    assert history[0].learning_rate == pytest.approx(schedule.lr_at(3, 1.0))  # of the fourth update


def test_callbacks_see_every_batch_and_every_epoch():
    batches, epochs = [], []
    history = train(make_net(), epochs=2, on_batch=lambda *b: batches.append(b[:2]), on_epoch=epochs.append)
    assert batches == [(epoch, batch) for epoch in (1, 2) for batch in range(1, 7)]
    assert epochs == history


def test_another_loss_is_used():
    history = train(make_net(), epochs=1, loss=lambda scores, labels: minidl.ops.cross_entropy(scores, labels) * 0 + 7.0)
    assert history[0].train_loss == pytest.approx(7.0)


def test_a_nan_loss_stops_before_it_reaches_the_weights():
    net = nn.Linear(2, 3)
    x, labels = blobs(8)
    bad = x.copy()
    bad[3, 1] = np.nan
    before = net.weight.numpy().copy()
    optimizer = SGD(net.parameters(), lr=0.0)
    with pytest.raises(FloatingPointError, match="nan in epoch 1, batch 2, .*Try a learning rate of .*detect_anomaly"):
        fit(net, optimizer, [(x, labels), (bad, labels)], 1)
    np.testing.assert_array_equal(net.weight.numpy(), before)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True])
def test_epochs_must_be_a_positive_integer(wrong):
    with pytest.raises((TypeError, ValueError), match="fit: epochs"):
        train(make_net(), epochs=wrong)


def test_batches_that_are_no_pairs_are_refused():
    net = nn.Linear(2, 3)
    with pytest.raises(TypeError, match="pair .*got 1 arrays"):
        evaluate(net, DataLoader(blobs()[0]))


def test_a_used_up_generator_is_an_error_not_an_empty_epoch():
    net = nn.Linear(2, 3)
    once = iter([blobs(8)])
    with pytest.raises(ValueError, match="epoch 2.*generator"):
        fit(net, SGD(net.parameters(), lr=0.1), once, 2)
    with pytest.raises(ValueError, match="nothing to average"):
        evaluate(net, [])


def test_evaluation_leaves_no_trace():
    net = make_net()
    net[1].eval()  # somebody froze one layer
    train(net, epochs=1)
    before = {key: value.copy() for key, value in net.state_dict().items()}
    grads = [p.grad.copy() for p in net.parameters()]
    modes = [module.training for module in net.modules()]
    x, labels = blobs(30, seed=2)
    result = evaluate(net, DataLoader(x, labels, batch_size=7))
    assert [module.training for module in net.modules()] == modes == [True, True, False, True, True, True]
    assert all(np.array_equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(np.array_equal(p.grad, g) for p, g in zip(net.parameters(), grads))
    assert result.count == 30
    assert result.accuracy == pytest.approx(accuracy(predict(net, x), labels))


def test_training_leaves_a_frozen_batch_norm_frozen_and_restores_the_mode():
    net = make_net()
    net[1].eval()
    mean = net[1].running_mean.copy()
    train(net, epochs=1)
    np.testing.assert_array_equal(net[1].running_mean, mean)
    net = make_net().eval()
    train(net, epochs=1)
    assert not net.training
    assert net[1].num_batches_tracked == 6


def test_evaluating_restores_the_modes_after_an_error():
    net = make_net()

    def fail():
        with evaluating(net):
            assert not net.training
            assert not net(blobs(4)[0]).requires_grad
            raise KeyError("stop")

    with pytest.raises(KeyError):
        fail()
    assert all(module.training for module in net.modules())
    assert net(blobs(4)[0]).requires_grad


def test_predict_gives_the_same_scores_in_batches_of_any_size():
    net, x = make_net(), blobs(20)[0]
    np.testing.assert_allclose(predict(net, x, batch_size=6), predict(net, x, batch_size=100), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="at least one image"):
        predict(net, x[:0])
    with pytest.raises(ValueError, match="NumPy array"):
        predict(net, Tensor(x))


def test_training_runs_on_every_device(device):
    net = make_net().to(device)
    history = train(net, epochs=1, validation=DataLoader(*blobs(20), batch_size=20))
    assert np.isfinite(history[0].train_loss)
    assert next(net.parameters()).device == device


def test_an_optimizer_of_another_net_is_refused():
    net, other = nn.Linear(2, 2), nn.Linear(2, 2)
    batches = [(np.ones((3, 2), np.float32), np.array([0, 1, 0]))]
    with pytest.raises(ValueError, match="holds none of the net's parameters"):
        fit(net, SGD(other.parameters(), lr=0.1), batches, 1)


def test_accuracy_of_labels_per_pixel_counts_pixels():
    net = nn.Conv2d(1, 3, 1)
    rng = np.random.default_rng(0)
    batches = [(rng.standard_normal((2, 1, 4, 4)).astype(np.float32), rng.integers(0, 3, (2, 4, 4)))]
    history = fit(net, SGD(net.parameters(), lr=0.1), batches, 1)
    assert 0 <= history[0].train_accuracy <= 1
    result = evaluate(net, batches)
    assert result.count == 32
    assert 0 <= result.accuracy <= 1
