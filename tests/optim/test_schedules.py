"""Schedules: the rates they write, per group, and resuming."""
import math

import numpy as np
import pytest

from minidl.autograd import Tensor
from minidl.nn import Parameter
from minidl.optim import SGD, CosineAnnealingLR, LinearWarmup, MultiStepLR, ReduceLROnPlateau, StepLR


def optimizer(*lrs):
    return SGD([{"params": [Parameter([1.0])], "lr": lr} for lr in lrs or (1.0,)], lr=9.0)


def rates(schedule, steps, *metric):
    """The first group's rate at step 0, 1, ..."""
    found = [schedule.get_last_lr()[0]]
    for _ in range(steps):
        schedule.step(*metric)
        found.append(schedule.get_last_lr()[0])
    return found


TABLE = [
    (lambda o: StepLR(o, 2, gamma=0.5), [1, 1, 0.5, 0.5, 0.25]),
    (lambda o: MultiStepLR(o, [1, 3], gamma=0.1), [1, 0.1, 0.1, 0.01, 0.01]),
    (lambda o: CosineAnnealingLR(o, 4), [1, (2 + math.sqrt(2)) / 4, 0.5, (2 - math.sqrt(2)) / 4, 0, (2 - math.sqrt(2)) / 4]),
    (lambda o: CosineAnnealingLR(o, 2, eta_min=0.2), [1, 0.6, 0.2]),
    (lambda o: LinearWarmup(o, 4), [0.25, 0.5, 0.75, 1, 1, 1]),
    (lambda o: LinearWarmup(o, 1, StepLR(o, 1, 0.5)), [1, 0.5, 0.25]),
    (lambda o: LinearWarmup(o, 3, StepLR(o, 2, 0.1)), [1 / 3, 2 / 3, 1, 1, 0.1, 0.1, 0.01]),
    (lambda o: LinearWarmup(o, 2, CosineAnnealingLR(o, 2)), [0.5, 1, 0.5, 0]),
]


@pytest.mark.parametrize("make, expected", TABLE)
def test_the_rates_are_the_formulas(make, expected):
    schedule = make(optimizer())
    np.testing.assert_allclose(rates(schedule, len(expected) - 1), expected, atol=1e-15)
    np.testing.assert_allclose([schedule.lr_at(t, 1.0) for t in range(len(expected))], expected, atol=1e-15)


@pytest.mark.parametrize("make, expected", TABLE)
def test_every_group_keeps_its_own_base(make, expected):
    o = optimizer(1.0, 10.0)
    schedule = make(o)
    for _ in range(2):
        schedule.step()
    a, b = schedule.get_last_lr()
    if "eta_min" not in repr(vars(schedule)) or schedule.eta_min == 0:
        assert b == pytest.approx(10 * a)
    assert [group["lr"] for group in o.param_groups] == [a, b] and schedule.base_lrs == [1.0, 10.0]


@pytest.mark.parametrize("make, expected", TABLE)
def test_a_resumed_schedule_goes_on_where_it_stood(make, expected, tmp_path):
    schedule = make(optimizer())
    rates(schedule, 2)
    np.savez(tmp_path / "s.npz", **schedule.state_dict())
    fresh = make(optimizer(0.123))  # whatever it was made with, the saved base counts
    fresh.load_state_dict(dict(np.load(tmp_path / "s.npz")))
    assert fresh.get_last_lr() == schedule.get_last_lr()
    assert rates(fresh, 4) == rates(schedule, 4)


def test_plateau_waits_longer_than_patience_and_then_rests():
    schedule = ReduceLROnPlateau(optimizer(), factor=0.5, patience=1, cooldown=2)
    # the first 1.0 is the best; failures 1, 2 -> reduce; two rests; failures 1, 2 -> reduce
    assert rates(schedule, 8, 1.0) == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize("options, metrics, reduced", [
    (dict(), [1.0, 0.99], False), (dict(), [1.0, 0.99995], True), (dict(threshold_mode="abs"), [100.0, 99.995], False),
    (dict(threshold_mode="rel"), [100.0, 99.995], True), (dict(mode="max"), [1.0, 1.1], False),
    (dict(mode="max"), [1.0, 0.9], True), (dict(mode="max"), [-1.0, -0.9], False), (dict(), [-1.0, -1.1], False),
    (dict(), [1.0, math.nan], True), (dict(), [-1.0, 5.0], True),
    (dict(mode="max", threshold_mode="abs", threshold=0.5), [1.0, 1.4], True),
    (dict(mode="max", threshold_mode="abs", threshold=0.5), [1.0, 1.6], False),
])
def test_plateau_knows_an_improvement(options, metrics, reduced):
    schedule = ReduceLROnPlateau(optimizer(), patience=0, **options)
    for metric in metrics:
        schedule.step(metric)
    assert (schedule.get_last_lr()[0] < 1) == reduced


def test_plateau_does_not_fall_below_min_lr_and_takes_tensors():
    schedule = ReduceLROnPlateau(optimizer(1.0, 0.04), factor=0.1, patience=0, min_lr=0.05)
    for _ in range(5):
        schedule.step(Tensor([2.0]))
    assert schedule.get_last_lr() == [0.05, 0.04]


def test_plateau_resumes_with_its_optimizers_rate():
    def make():
        o = optimizer()
        return o, ReduceLROnPlateau(o, patience=1)

    (o, schedule), (p, fresh) = make(), make()
    rates(schedule, 3, 1.0)
    p.load_state_dict(o.state_dict())
    fresh.load_state_dict(schedule.state_dict())
    assert fresh.get_last_lr() == [0.1] and rates(fresh, 5, 1.0) == rates(schedule, 5, 1.0)


def test_a_warmup_hands_the_metric_on_and_resumes_both():
    def make():
        o = optimizer()
        return o, LinearWarmup(o, 2, ReduceLROnPlateau(o, patience=0, factor=0.5))

    o, schedule = make()
    assert rates(schedule, 4, 1.0) == [0.5, 1, 1, 0.5, 0.25]
    p, fresh = make()
    p.load_state_dict(o.state_dict())
    fresh.load_state_dict(schedule.state_dict())
    assert rates(fresh, 2, 1.0) == [0.25, 0.125, 0.0625]
    with pytest.raises(TypeError, match="step needs the metric"):
        fresh.step()
    assert fresh.steps == 6


def test_loading_is_all_or_nothing():
    o = optimizer()
    schedule = LinearWarmup(o, 2, StepLR(o, 1))
    rates(schedule, 3)
    before, lr = schedule.state_dict(), schedule.get_last_lr()
    for wrong in ({}, [1], before | {"x": np.ones(1)}, before | {"after.base_lrs": np.ones(2)},
                  before | {"steps": np.array(0.5)}, before | {"steps": np.array("a")}):
        with pytest.raises(ValueError, match="LinearWarmup.load_state_dict"):
            schedule.load_state_dict(wrong)
        assert str(schedule.state_dict()) == str(before) and schedule.get_last_lr() == lr


O = optimizer()  # noqa: E741
STEPPED = StepLR(O, 1)
STEPPED.step()


@pytest.mark.parametrize("make, error, words", [
    (lambda: StepLR([], 2), TypeError, "needs an optimizer, got list"),
    (lambda: StepLR(O, 0), ValueError, "step_size must be an integer of at least 1, got 0"),
    (lambda: StepLR(O, 2.5), TypeError, "step_size must be an integer"),
    (lambda: StepLR(O, 2, -1), ValueError, "gamma"),
    (lambda: MultiStepLR(O, 30), TypeError, "milestones must be a list"),
    (lambda: MultiStepLR(O, [60, 30]), ValueError, "milestones must increase"),
    (lambda: MultiStepLR(O, [0]), ValueError, "each milestone must be"),
    (lambda: CosineAnnealingLR(O, 0), ValueError, "T_max"),
    (lambda: CosineAnnealingLR(O, 3, eta_min=math.inf), ValueError, "eta_min"),
    (lambda: ReduceLROnPlateau(O, "auto"), ValueError, "mode must be 'min' or 'max'"),
    (lambda: ReduceLROnPlateau(O, factor=1.0), ValueError, "factor must be .* below 1"),
    (lambda: ReduceLROnPlateau(O, patience=-1), ValueError, "patience"),
    (lambda: ReduceLROnPlateau(O).step(), TypeError, "step needs the metric"),
    (lambda: ReduceLROnPlateau(O).step("low"), TypeError, "the metric must be one number"),
    (lambda: ReduceLROnPlateau(O).step(Tensor([1.0, 2.0])), TypeError, "the metric must be one number"),
    (lambda: LinearWarmup(O, 0), ValueError, "warmup_steps"),
    (lambda: LinearWarmup(O, 2, 3), TypeError, "after must be another kind of schedule"),
    (lambda: LinearWarmup(O, 2, LinearWarmup(O, 2)), TypeError, "after must be another kind"),
    (lambda: LinearWarmup(O, 2, STEPPED), ValueError, "has made 1 steps"),
    (lambda: LinearWarmup(O, 2, StepLR(optimizer(), 2)), ValueError, "of another optimizer"),
])
def test_schedules_refuse(make, error, words):
    with pytest.raises(error, match=words):
        make()
