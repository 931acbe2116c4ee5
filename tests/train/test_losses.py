"""The default loss: cross-entropy, and what the heads of a net with heads add to it."""
import numpy as np
import pytest

from minidl.autograd import Tensor
from minidl.ops import cross_entropy
from minidl.train import classification_loss


def example(heads=2, shape=(4, 3), seed=0):
    """((scores, head, ...), labels), every output another one."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, shape[1], shape[:1] + shape[2:])
    return tuple(Tensor(rng.standard_normal(shape), requires_grad=True) for _ in range(heads + 1)), labels


def by_hand(scores, labels, ignore_index=None):
    """Mean of log(sum(exp(scores))) - scores[label] over the labels that count."""
    losses = [np.log(np.exp(row).sum()) - row[label] for row, label in zip(scores, labels) if label != ignore_index]
    return np.mean(losses)


@pytest.mark.parametrize("heads", [0, 1, 2, 3])
@pytest.mark.parametrize("options, weight", [({}, 0.3), ({"auxiliary_weight": 0.5}, 0.5), ({"auxiliary_weight": 0}, 0)])
def test_the_loss_is_the_net_s_own_and_the_weighted_sum_of_the_heads(heads, options, weight):
    outputs, labels = example(heads)
    own, *others = (by_hand(output.numpy(), labels) for output in outputs)
    loss = classification_loss(outputs, labels, **options)
    assert loss.shape == ()
    np.testing.assert_allclose(loss.item(), own + weight * sum(others), rtol=1e-12)


def test_every_output_gets_its_share_of_the_gradient():
    outputs, labels = example()
    classification_loss(outputs, labels).backward()
    for output, weight in zip(outputs, (1, 0.3, 0.3)):
        p = np.exp(output.numpy()) / np.exp(output.numpy()).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(output.grad, weight * (p - np.eye(3)[labels]) / 4, rtol=1e-12)


def test_scores_alone_are_what_cross_entropy_takes():
    (scores,), labels = example(heads=0, shape=(2, 3, 4, 5))
    assert classification_loss(scores, labels).item() == cross_entropy(scores, labels).item()


def test_ignored_labels_count_in_no_output():
    outputs, labels = example()
    labels[1] = 7
    own, *others = (by_hand(output.numpy(), labels, ignore_index=7) for output in outputs)
    np.testing.assert_allclose(classification_loss(outputs, labels, ignore_index=7).item(), own + 0.3 * sum(others), rtol=1e-12)


@pytest.mark.parametrize("outputs, words", [
    ({"scores": 1}, "got dict"), ((), "got tuple"), ((Tensor(np.ones((2, 3))), None), "got Tensor, NoneType"),
    ([Tensor(np.ones((2, 3)))], "got list")])
def test_other_outputs_need_a_loss_of_their_own(outputs, words):
    with pytest.raises(TypeError, match="a tuple of Tensors") as caught:
        classification_loss(outputs, np.array([0, 1]))
    assert words in str(caught.value)


@pytest.mark.parametrize("wrong", [-0.1, float("nan"), "0.3", True])
def test_the_weight_is_a_number_from_0(wrong):
    outputs, labels = example()
    with pytest.raises((TypeError, ValueError), match="classification_loss: auxiliary_weight"):
        classification_loss(outputs, labels, auxiliary_weight=wrong)
