"""Twenty steps of every optimizer and schedule, side by side with PyTorch's."""
import numpy as np
import pytest

from minidl import optim
from minidl.nn import Parameter

torch = pytest.importorskip("torch", reason="compares with PyTorch, which minidl does not depend on")
pytestmark = pytest.mark.oracle

OPTIMIZERS = [
    ("SGD", dict(lr=0.1)), ("SGD", dict(lr=0.1, momentum=0.9)), ("SGD", dict(lr=0.1, momentum=0.9, weight_decay=0.1)),
    ("SGD", dict(lr=0.1, weight_decay=0.1)), ("SGD", dict(lr=0.05, momentum=0.9, weight_decay=0.1, nesterov=True)),
    ("Adam", dict(lr=0.1)), ("Adam", dict(lr=0.05, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1)),
    ("AdamW", dict(lr=0.1)), ("AdamW", dict(lr=0.05, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.3)),
    ("Adam", {}), ("AdamW", {}),
]
SCHEDULES = {
    "none": (lambda o: None, lambda o: None),
    "step": (lambda o: optim.StepLR(o, 3, 0.7), lambda o: torch.optim.lr_scheduler.StepLR(o, 3, 0.7)),
    "milestones": (lambda o: optim.MultiStepLR(o, [4, 9], 0.3),
                   lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [4, 9], 0.3)),
    "cosine": (lambda o: optim.CosineAnnealingLR(o, 12, 0.001),
               lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 12, 0.001)),
    "warmup": (lambda o: optim.LinearWarmup(o, 5, optim.StepLR(o, 4, 0.5)),
               lambda o: torch.optim.lr_scheduler.SequentialLR(o, milestones=[4], schedulers=[
                   torch.optim.lr_scheduler.LinearLR(o, 1 / 5, total_iters=4),
                   torch.optim.lr_scheduler.StepLR(o, 4, 0.5)])),
}
SHAPES = [(3, 2), (4,), ()]


def run(make_ours, make_theirs, schedules, steps=20, clip=None):
    """Yields both sides' parameters and rates after every step; gradients depend on the parameters."""
    rng = np.random.default_rng(0)
    first = [rng.standard_normal(shape) for shape in SHAPES]
    ours, theirs = [Parameter(x) for x in first], [torch.tensor(x, requires_grad=True) for x in first]
    mine = make_ours([{"params": ours[:1], "lr": 0.02}, {"params": ours[1:]}])
    other = make_theirs([{"params": theirs[:1], "lr": 0.02}, {"params": theirs[1:]}])
    schedule, other_schedule = schedules[0](mine), schedules[1](other)
    for i in range(steps):
        for p, q, shape in zip(ours, theirs, SHAPES):
            noise = rng.standard_normal(shape)
            p.grad = np.asarray(np.tanh(p.data) + noise)
            q.grad = torch.tanh(q.detach()) + torch.tensor(noise)
        if clip:
            norm, expected = getattr(optim, clip)(ours, 0.7), getattr(torch.nn.utils, clip)(theirs, 0.7)
            assert (norm is None and expected is None) or norm == pytest.approx(expected.item(), rel=1e-12)
        mine.step()
        other.step()
        if schedule:
            schedule.step()
            other_schedule.step()
        yield i, ours, theirs, [g["lr"] for g in mine.param_groups], [g["lr"] for g in other.param_groups]


def assert_same(trajectory):
    for i, ours, theirs, rates, expected in trajectory:
        for p, q in zip(ours, theirs):
            np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-9, atol=1e-13, err_msg=f"after step {i}")
        np.testing.assert_allclose(rates, expected, rtol=1e-9, atol=1e-15, err_msg=f"rates after step {i}")


@pytest.mark.parametrize("name, options", OPTIMIZERS, ids=str)
def test_optimizers_follow_pytorchs(name, options):
    def make(library):
        return lambda groups: getattr(library, name)(groups, **options)

    assert_same(run(make(optim), make(torch.optim), SCHEDULES["none"]))


@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_schedules_follow_pytorchs(name, schedule):
    def make(library):
        return lambda groups: getattr(library, name)(groups, lr=0.3)

    assert_same(run(make(optim), make(torch.optim), SCHEDULES[schedule]))


@pytest.mark.parametrize("clip", ["clip_grad_norm_", "clip_grad_value_"])
def test_clipping_follows_pytorchs(clip):
    assert_same(run(lambda g: optim.SGD(g, 0.1), lambda g: torch.optim.SGD(g, 0.1), SCHEDULES["none"], clip=clip))


@pytest.mark.parametrize("options", [
    dict(patience=1), dict(patience=0, cooldown=2, factor=0.5), dict(mode="max", patience=1), dict(threshold=0.1, patience=0),
    dict(threshold_mode="abs", threshold=0.3, patience=0), dict(mode="max", threshold_mode="abs", threshold=0.3, patience=1),
    dict(patience=0, min_lr=0.01, factor=0.3), dict(patience=0, eps=0.05)], ids=str)
def test_plateau_follows_pytorchs(options):
    rng = np.random.default_rng(1)
    mine = optim.SGD([Parameter([1.0])], 0.3)
    other = torch.optim.SGD([torch.ones(1, requires_grad=True)], 0.3)
    schedule = optim.ReduceLROnPlateau(mine, **options)
    expected = torch.optim.lr_scheduler.ReduceLROnPlateau(other, **options)
    for i, metric in enumerate([*rng.standard_normal(15), float("nan"), *rng.standard_normal(4) + 3]):
        schedule.step(metric)
        expected.step(metric)
        assert schedule.get_last_lr()[0] == pytest.approx(other.param_groups[0]["lr"], rel=1e-12), f"step {i}"
