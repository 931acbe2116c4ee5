"""Optimizers, learning-rate schedules and gradient clipping."""
from minidl.optim.adam import Adam, AdamW
from minidl.optim.clip import clip_grad_norm_, clip_grad_value_
from minidl.optim.optimizer import Optimizer
from minidl.optim.schedules import CosineAnnealingLR, LinearWarmup, MultiStepLR, ReduceLROnPlateau, Schedule, StepLR
from minidl.optim.sgd import SGD

__all__ = [
    "Adam", "AdamW", "CosineAnnealingLR", "LinearWarmup", "MultiStepLR", "Optimizer", "ReduceLROnPlateau", "SGD",
    "Schedule", "StepLR", "clip_grad_norm_", "clip_grad_value_",
]
