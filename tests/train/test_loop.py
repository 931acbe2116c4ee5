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


# --- labels that do not count -----------------------------------------------------------------------------------------


def pixels(ignored):
    """(x (2, 1, 4, 3), labels (2, 4, 3)) with that many labels of 255 in the second image."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 3, (2, 4, 3))
    labels[1].ravel()[:ignored] = 255
    return rng.standard_normal((2, 1, 4, 3)).astype(np.float32), labels


def loss_and_accuracy_by_hand(net, batches):
    """Over all labels but 255, each with the same weight, by plain loops in float64."""
    losses, right = [], []
    for x, labels in batches:
        scores = predict(net, x).astype(float)
        for n, *place in zip(*np.nonzero(labels != 255)):
            row, label = scores[(n, slice(None), *place)], labels[(n, *place)]
            losses.append(np.log(np.exp(row).sum()) - row[label])
            right.append(row.argmax() == label)
    return np.mean(losses), np.mean(right), len(losses)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8])
def test_ignored_labels_count_neither_in_loss_nor_in_accuracy_and_batches_weigh_by_what_counts(dtype):
    net = nn.Conv2d(1, 3, 1)
    batches = [(x, labels.astype(dtype)) for x, labels in (pixels(0), pixels(10))]  # 24 labels that count, and 14
    expected = loss_and_accuracy_by_hand(net, batches)
    result = evaluate(net, batches, ignore_index=255)
    np.testing.assert_allclose((result.loss, result.accuracy, result.count), expected, rtol=1e-6)
    assert expected[2] == 38
    record = fit(net, SGD(net.parameters(), lr=0.0), batches, 1, ignore_index=255, validation=batches)[0]
    np.testing.assert_allclose((record.train_loss, record.train_accuracy, record.validation_accuracy),
                               (expected[0], expected[1], expected[1]), rtol=1e-6)


def test_a_class_that_the_net_knows_can_be_ignored_too():
    net = nn.Linear(2, 3)
    x, labels = blobs(40)
    net.weight.data, net.bias.data = np.zeros((3, 2), np.float32), np.array([0, 9, 0], np.float32)  # always says 1
    assert evaluate(net, [(x, labels)]).accuracy == (labels == 1).mean() > 0
    assert evaluate(net, [(x, labels)], ignore_index=1).accuracy == 0
    assert evaluate(net, [(x, labels)], ignore_index=2).accuracy == (labels == 1).sum() / (labels != 2).sum()


def test_a_batch_of_ignored_labels_alone_is_passed_over():
    net = nn.Linear(2, 3)
    x, labels = blobs(8)
    optimizer = SGD(net.parameters(), lr=0.1)
    schedule, seen = CosineAnnealingLR(optimizer, T_max=10), []
    batches = [(x, np.full(8, -1)), (x, labels)]
    fit(net, optimizer, batches, 1, schedule, ignore_index=-1, on_batch=lambda *b: seen.append(b[:2]))
    assert (schedule.steps, seen) == (1, [(1, 1)])
    assert evaluate(net, batches, ignore_index=-1) == evaluate(net, batches[1:], ignore_index=-1)
    for work in (lambda: fit(net, optimizer, batches[:1], 1, ignore_index=-1),
                 lambda: evaluate(net, batches[:1], ignore_index=-1)):
        with pytest.raises(ValueError, match="no batch with a label that counts"):
            work()


def test_a_loss_of_ones_own_sees_all_labels_and_the_accuracy_still_counts_without_the_ignored():
    net, seen = nn.Linear(2, 3), []

    def loss(outputs, labels):
        seen.append(labels.numpy())
        return minidl.ops.cross_entropy(outputs, labels, ignore_index=-1)

    x, labels = blobs(6)
    labels[:3] = -1
    result = evaluate(net, [(x, labels)], loss, ignore_index=-1)
    np.testing.assert_array_equal(seen, [labels])
    assert result.accuracy == accuracy(predict(net, x[3:]), labels[3:])
    assert result == evaluate(net, [(x, labels)], ignore_index=-1)


@pytest.mark.parametrize("wrong", ["255", 255.0, True])
def test_ignore_index_must_be_an_integer(wrong):
    net = nn.Linear(2, 3)
    for who, work in (("fit", lambda: train(net, ignore_index=wrong)),
                      ("evaluate", lambda: evaluate(net, [blobs(4)], ignore_index=wrong))):
        with pytest.raises(TypeError, match=f"{who}: ignore_index must be an integer or None"):
            work()


# --- nets with more than one output -----------------------------------------------------------------------------------


class WithHeads(nn.Module):
    """Three classifiers of the same x: all of them in training mode, the first alone in evaluation mode."""

    def __init__(self):
        self.own, self.first, self.second = nn.Linear(2, 3), nn.Linear(2, 3), nn.Linear(2, 3)

    def forward(self, x):
        return (self.own(x), self.first(x), self.second(x)) if self.training else self.own(x)


def test_a_net_with_heads_trains_them_and_is_judged_by_its_own_scores():
    x, labels = blobs(20)
    net = WithHeads()
    net.own.weight.data, net.own.bias.data = np.zeros((3, 2), np.float32), np.array([0, 0, 1], np.float32)  # always says 2
    net.first.bias.data = np.array([50, 0, 0], np.float32)  # says 0, very surely
    before = {name: value.copy() for name, value in net.state_dict().items()}
    record = fit(net, SGD(net.parameters(), lr=0.1), [(x, labels)], 1, validation=[(x, labels)])[0]
    assert record.train_accuracy == (labels == 2).mean()
    assert record.train_loss > 5  # the sure head weighs in
    assert evaluate(net, [(x, labels)]).loss < 1.5  # but not in evaluation mode
    assert all(not np.array_equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_loss_of_ones_own_is_given_whatever_the_net_returns():
    kinds = []

    def loss(outputs, labels):
        kinds.append(type(outputs))
        return minidl.ops.cross_entropy(outputs[0] if isinstance(outputs, tuple) else outputs, labels)

    net = WithHeads()
    fit(net, SGD(net.parameters(), lr=0.1), [blobs(6)], 1, loss=loss, validation=[blobs(4)])
    assert kinds == [tuple, Tensor]


class Reshape(nn.Module):
    def __init__(self, shape):
        self.shape = shape

    def forward(self, x):
        return x.reshape(self.shape)


def test_where_labels_are_no_classes_there_is_no_accuracy():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 2)).astype(np.float32)
    four, one, counts = x @ np.ones((2, 4), np.float32), x[:, 0], np.arange(8)
    for targets, outputs in ((four, (8, 4)), (one, (8,)), (one, (8, 1)), (counts, (8,))):
        net = nn.Sequential(nn.Linear(2, targets[0].size), Reshape(outputs))
        record = fit(net, SGD(net.parameters(), lr=0.01), [(x, targets)] * 2, 1,
                     loss=lambda y, targets: ((y.reshape(targets.shape) - targets.astype(np.float32)) ** 2).mean())[0]
        assert np.isfinite(record.train_loss)
        assert np.isnan(record.train_accuracy)
