"""Learning rates that change as training goes on.

A schedule writes the "lr" of its optimizer's groups: at once for step 0, and again at every `schedule.step()`, which
goes after `optimizer.step()` (or after each epoch). Each group keeps a base rate of its own, the one that it had when
the schedule was made. The rate is a formula of the number of steps, so nothing drifts, and any step can be drawn.
"""
import bisect
import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minidl.optim.optimizer import Optimizer, check_number


class Schedule:
    """What the schedules share. A subclass with a closed form defines `factor_at` or `lr_at`."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.name = type(self).__name__
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{self.name}: needs an optimizer, got {type(optimizer).__name__}: make the optimizer "
                            f"first, then {self.name}(optimizer, ...)")
        self.optimizer = optimizer
        self.base_lrs = [group["lr"] for group in optimizer.param_groups]
        self.steps = 0

    def lr_at(self, steps: int, base_lr: float) -> float:
        """The rate after `steps` steps of a group that began with `base_lr`."""
        raise NotImplementedError(f"{self.name} must define lr_at(self, steps, base_lr)")

    def step(self) -> None:
        """Goes on to the next rate."""
        self.steps += 1
        self._apply()

    def get_last_lr(self) -> list[float]:
        """The rate of every group now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, np.ndarray]:
        """All that is needed to resume, beside the optimizer's own state_dict: arrays by name."""
        return {key: np.array(getattr(self, key)) for key in self._kept()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where the schedule that gave `state` stood, and writes the rates. All or nothing."""
        wanted = self.state_dict()
        if not isinstance(state, Mapping) or set(state) != set(wanted):
            arrived = list(state) if isinstance(state, Mapping) else type(state).__name__
            raise ValueError(f"{self.name}.load_state_dict: needs the entries {list(wanted)}, got {arrived}: "
                             "was another schedule saved?")
        values = {key: np.asarray(value) for key, value in state.items()}
        for key, value in values.items():
            if value.shape != wanted[key].shape or value.dtype.kind != wanted[key].dtype.kind:
                raise ValueError(f"{self.name}.load_state_dict: {key} must be {wanted[key].dtype} {wanted[key].shape}, "
                                 f"got {value.dtype} {value.shape}: has the optimizer as many groups as the saved one?")
        self._restore(values)
        self._apply()

    def _kept(self) -> tuple[str, ...]:
        return "steps", "base_lrs"

    def _restore(self, values: dict[str, np.ndarray]) -> None:
        for key in self._kept():
            setattr(self, key, values[key].tolist())

    def _apply(self) -> None:
        for group, base_lr in zip(self.optimizer.param_groups, self.base_lrs):
            group["lr"] = self.lr_at(self.steps, base_lr)


class StepLR(Schedule):
    """lr = base_lr * gamma ** floor(steps / step_size)"""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        super().__init__(optimizer)
        self.step_size = _count(self.name, "step_size", step_size)
        self.gamma = check_number(self.name, "gamma", gamma)
        self._apply()

    def lr_at(self, steps: int, base_lr: float) -> float:
        return base_lr * self.gamma ** (steps // self.step_size)


class MultiStepLR(Schedule):
    """lr = base_lr * gamma ** (how many of the milestones have been reached)

    milestones: increasing numbers of steps. ResNet's on CIFAR-10: [32000, 48000] (He et al. 2016, section 4.2).
    """

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> None:
        super().__init__(optimizer)
        if isinstance(milestones, str) or not isinstance(milestones, Sequence):
            raise TypeError(f"MultiStepLR: milestones must be a list of numbers of steps, got {milestones!r}")
        self.milestones = [_count(self.name, "each milestone", m) for m in milestones]
        if sorted(set(self.milestones)) != self.milestones:
            raise ValueError(f"MultiStepLR: milestones must increase, got {self.milestones}: sort them, each once")
        self.gamma = check_number(self.name, "gamma", gamma)
        self._apply()

    def lr_at(self, steps: int, base_lr: float) -> float:
        return base_lr * self.gamma ** bisect.bisect_right(self.milestones, steps)


class CosineAnnealingLR(Schedule):
    """lr = eta_min + (base_lr - eta_min) * (1 + cos(pi * steps / T_max)) / 2

    From base_lr down to eta_min in T_max steps (and up again after). Loshchilov and Hutter 2017, equation 5.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        super().__init__(optimizer)
        self.T_max = _count(self.name, "T_max", T_max)
        self.eta_min = check_number(self.name, "eta_min", eta_min)
        self._apply()

    def lr_at(self, steps: int, base_lr: float) -> float:
        return self.eta_min + (base_lr - self.eta_min) * (1 + math.cos(math.pi * steps / self.T_max)) / 2


class LinearWarmup(Schedule):
    """lr = base_lr * (steps + 1) / warmup_steps until that reaches base_lr; from there on what `after` says

    The first update uses base_lr / warmup_steps, update number `warmup_steps` the whole base_lr. `after` is another,
    fresh schedule of the same optimizer, whose step 0 is that update; without one the rate stays. Step the LinearWarmup
    only: it steps `after`, and hands a metric on to it. Goyal et al. 2017, section 2.2.
    """

    def __init__(self, optimizer: Optimizer, warmup_steps: int, after: Schedule | None = None) -> None:
        super().__init__(optimizer)
        self.warmup_steps = _count(self.name, "warmup_steps", warmup_steps)
        if after is not None and (not isinstance(after, Schedule) or isinstance(after, LinearWarmup)):
            raise TypeError("LinearWarmup: after must be another kind of schedule, such as StepLR(optimizer, 30), "
                            f"got {type(after).__name__}")
        if after is not None and (after.optimizer is not optimizer or after.steps):
            raise ValueError("LinearWarmup: after must be a fresh schedule of the same optimizer, got one "
                             + (f"that has made {after.steps} steps" if after.steps else "of another optimizer"))
        self.after = after
        self._apply()

    def step(self, *metric: Any) -> None:
        if self.after is not None and self.steps + 1 >= self.warmup_steps:
            self.after.step(*metric)  # may refuse the metric: count only afterwards
            self.steps += 1
        else:
            super().step()

    def lr_at(self, steps: int, base_lr: float) -> float:
        if self.after is not None and steps >= self.warmup_steps:
            return self.after.lr_at(steps - self.warmup_steps + 1, base_lr)
        return base_lr * min(1.0, (steps + 1) / self.warmup_steps)

    def state_dict(self) -> dict[str, np.ndarray]:
        after = {} if self.after is None else {f"after.{key}": x for key, x in self.after.state_dict().items()}
        return super().state_dict() | after

    def _restore(self, values: dict[str, np.ndarray]) -> None:
        super()._restore(values)
        if self.after is not None:
            self.after._restore({key: values[f"after.{key}"] for key in self.after.state_dict()})

    def _apply(self) -> None:
        if self.after is not None and self.steps >= self.warmup_steps:
            self.after._apply()
        else:
            super()._apply()


class ReduceLROnPlateau(Schedule):
    """lr = lr * factor, once the metric has not improved for more than `patience` steps

    mode "min" (a loss) or "max" (an accuracy). An improvement beats the best by `threshold`, a fraction of the best
    (threshold_mode "rel") or an amount ("abs"). After a reduction `cooldown` steps count as no failure. The rate does
    not fall below min_lr, and changes of at most `eps` are not made. A NaN metric is no improvement.
    """

    def __init__(self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1, patience: int = 10,
                 threshold: float = 1e-4, threshold_mode: str = "rel", cooldown: int = 0, min_lr: float = 0.0,
                 eps: float = 1e-8) -> None:
        super().__init__(optimizer)
        if mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            raise ValueError(f"ReduceLROnPlateau: mode must be 'min' or 'max' and threshold_mode 'rel' or 'abs', got "
                             f"{mode!r} and {threshold_mode!r}")
        self.mode, self.threshold_mode = mode, threshold_mode
        self.factor = check_number(self.name, "factor", factor, below=1)
        self.patience = _count(self.name, "patience", patience, least=0)
        self.cooldown = _count(self.name, "cooldown", cooldown, least=0)
        self.threshold, self.min_lr, self.eps = (check_number(self.name, key, value) for key, value in (
            ("threshold", threshold), ("min_lr", min_lr), ("eps", eps)))
        self.best = math.inf if mode == "min" else -math.inf
        self.failures = self.resting = 0

    def step(self, *metric: Any) -> None:
        """Takes the epoch's metric, a number or a tensor of one element."""
        if len(metric) != 1:
            raise TypeError("ReduceLROnPlateau: step needs the metric, step(validation_loss), "
                            f"got {len(metric)} arguments")
        try:
            value = float(metric[0])
        except (TypeError, ValueError):
            raise TypeError(f"ReduceLROnPlateau: the metric must be one number, got {metric[0]!r}") from None
        self.steps += 1
        improved = self._improves(value)
        self.best = value if improved else self.best
        self.failures = 0 if improved else self.failures + 1
        if self.resting:
            self.resting, self.failures = self.resting - 1, 0
        if self.failures > self.patience:
            self._reduce()
            self.resting, self.failures = self.cooldown, 0

    def _improves(self, value: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        if math.isinf(self.best):
            bound = self.best
        elif self.threshold_mode == "rel":
            bound = self.best * (1 + sign * self.threshold)
        else:
            bound = self.best + sign * self.threshold
        return sign * value > sign * bound

    def _reduce(self) -> None:
        for group in self.optimizer.param_groups:
            lr = max(group["lr"] * self.factor, self.min_lr)
            if group["lr"] - lr > self.eps:
                group["lr"] = lr

    def _kept(self) -> tuple[str, ...]:
        return "steps", "base_lrs", "best", "failures", "resting"

    def _apply(self) -> None:
        """Nothing to write: the rate has no formula, it stands in the optimizer."""


def _count(who: str, name: str, value: Any, least: int = 1) -> int:
    rule = f"{who}: {name} must be an integer of at least {least}"
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise TypeError(f"{rule}, got {value!r} ({type(value).__name__}): use int(...), or // in place of /")
    if operator.index(value) < least:
        raise ValueError(f"{rule}, got {value!r}")
    return operator.index(value)
