"""The training loop, what it measures, and the recipe that the demo follows."""
from minidl.train.loop import Epoch, Evaluation, evaluate, evaluating, fit, predict
from minidl.train.losses import classification_loss
from minidl.train.metrics import accuracy, confusion_matrix, top_k_accuracy

__all__ = ["Epoch", "Evaluation", "accuracy", "classification_loss", "confusion_matrix", "evaluate", "evaluating", "fit",
           "predict", "top_k_accuracy"]
