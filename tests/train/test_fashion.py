"""The demo's recipe: data, schedule, acceptance, repeatability. Accuracies are judged by the slow test of the demo."""
from dataclasses import replace

import numpy as np
import pytest

import minidl
from minidl.models import MINI_NETS
from minidl.train import fashion

TINY = replace(fashion.QUICK["vgg"], epochs=2, train_images=64)


def tiny_data():
    """64 training and 50 validation images."""
    data = fashion.load(64)
    return replace(data, validation_images=data.validation_images[:50], validation_labels=data.validation_labels[:50])


def test_images_are_normalised_by_the_training_images():
    data = fashion.load()
    assert data.train_images.shape == (3500, 1, 28, 28)
    assert data.validation_images.shape == (500, 1, 28, 28)
    assert abs(data.train_images.mean()) < 1e-3
    assert abs(data.train_images.std() - 1) < 1e-3
    assert np.bincount(data.validation_labels).tolist() == [50] * 10


def test_fewer_images_are_the_first_ones_in_the_same_scale():
    few, all_of_them = fashion.load(100), fashion.load()
    np.testing.assert_array_equal(few.train_images, all_of_them.train_images[:100])
    np.testing.assert_array_equal(few.validation_images, all_of_them.validation_images)


def test_the_same_seed_gives_the_same_net_and_another_seed_another():
    data = tiny_data()
    losses = []
    for seed in (1, 1, 2):
        minidl.manual_seed(seed)
        net = fashion.make_net("vgg", data)
        losses.append([record.train_loss for record in fashion.train(net, data, TINY, seed)])
    assert losses[0] == losses[1] != losses[2]


def test_the_rate_warms_up_and_falls_to_almost_nothing():
    data = tiny_data()
    history = fashion.train(fashion.make_net("vgg", data), data, TINY)
    assert 0 < history[-1].learning_rate < history[0].learning_rate <= TINY.learning_rate


def test_there_is_a_recipe_and_a_title_for_every_net():
    assert set(fashion.FULL) == set(fashion.QUICK) == set(fashion.TITLES) == set(MINI_NETS)


@pytest.mark.parametrize(("validation", "missed"), [
    ({"vgg": 0.85, "inception": 0.80, "resnet": 0.80}, []),
    ({"vgg": 0.849, "inception": 0.80, "resnet": 0.80}, ["the best net reached 84.9 %"]),
    ({"vgg": 0.90, "inception": 0.798, "resnet": 0.80}, ["mini Inception reached 79.8 %"]),
    ({"vgg": 0.81}, []),  # the best of one says nothing
    ({"vgg": 0.10, "resnet": 0.2}, ["mini VGG reached", "mini ResNet reached"]),
])
def test_acceptance_names_what_was_missed(validation, missed):
    found = fashion.shortcomings(validation)
    assert len(found) == len(missed)
    assert all(text.startswith(words) for text, words in zip(found, missed))


def test_an_unknown_net_is_refused():
    with pytest.raises(ValueError, match="vgg, inception, resnet, got 'lenet'"):
        fashion.make_net("lenet", fashion.load(64))
