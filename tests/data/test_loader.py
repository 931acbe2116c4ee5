"""DataLoader: every example once a pass, in the order that the seed says."""
import functools

import numpy as np
import pytest

from minidl import randomness
from minidl.data import DataLoader

N = 10
X = np.arange(N * 6, dtype=np.float32).reshape(N, 1, 2, 3)
LABELS = np.arange(N)
make = functools.partial(DataLoader, X, LABELS, batch_size=4)


@pytest.fixture(autouse=True)
def keep_the_stream_of_other_tests():
    state = randomness.generator().bit_generator.state
    yield
    randomness.generator().bit_generator.state = state


def one_pass(loader):
    return np.concatenate([labels for _, labels in loader]).tolist()


def noise(x, rng):
    return rng.random(x.shape)


@pytest.mark.parametrize("batch_size, drop_last, sizes", [
    (4, False, [4, 4, 2]), (4, True, [4, 4]), (5, False, [5, 5]), (5, True, [5, 5]), (99, False, [10]),
    (1, False, [1] * 10)])
@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_have_the_promised_sizes_and_len_counts_them(batch_size, drop_last, sizes, shuffle):
    loader = DataLoader(X, LABELS, batch_size=batch_size, drop_last=drop_last, shuffle=shuffle, seed=0)
    assert [len(labels) for _, labels in loader] == sizes
    assert len(loader) == len(sizes)


def test_without_shuffling_the_order_is_that_of_the_data_in_every_pass():
    loader = make()
    assert one_pass(loader) == one_pass(loader) == list(range(N))


def test_a_shuffled_pass_holds_every_example_once_with_its_own_label_and_dtype():
    for x, labels in make(shuffle=True, seed=1):
        np.testing.assert_array_equal(x, X[labels])
        assert x.dtype == np.float32 and labels.dtype == LABELS.dtype
    order = one_pass(make(shuffle=True, seed=1))
    assert sorted(order) == list(range(N)) and order != list(range(N))


def test_passes_differ_and_repeat_with_the_seed():
    first, second = make(shuffle=True, seed=3), make(shuffle=True, seed=3)
    passes = [one_pass(first) for _ in range(4)]
    assert passes == [one_pass(second) for _ in range(4)]
    assert len({tuple(order) for order in passes}) == 4
    assert one_pass(make(shuffle=True, seed=4)) != passes[0]


def test_a_run_goes_on_where_it_stopped_when_epoch_is_set():
    loader, resumed = make(shuffle=True, seed=3), make(shuffle=True, seed=3)
    passes = [one_pass(loader) for _ in range(3)]
    resumed.epoch = 2
    assert one_pass(resumed) == passes[2] and loader.epoch == resumed.epoch == 3


def test_a_seeded_loader_neither_uses_nor_moves_the_global_generator():
    randomness.manual_seed(0)
    order = one_pass(make(shuffle=True, seed=5, transform=noise))
    after = randomness.generator().random()
    randomness.manual_seed(0)
    assert randomness.generator().random() == after
    assert one_pass(make(shuffle=True, seed=5)) == order


def test_without_a_seed_manual_seed_decides():
    orders = []
    for seed in (1, 1, 2):
        randomness.manual_seed(seed)
        loader = make(shuffle=True)
        orders.append((one_pass(loader), one_pass(loader)))
    assert orders[0] == orders[1] != orders[2]
    assert orders[0][0] != orders[0][1]


def test_plain_evaluation_leaves_the_global_generator_alone():
    randomness.manual_seed(0)
    one_pass(make())
    after = randomness.generator().random()
    randomness.manual_seed(0)
    assert randomness.generator().random() == after


@pytest.mark.parametrize("seed", [None, 6])
def test_two_loops_at_the_same_time_do_not_disturb_each_other(seed):
    randomness.manual_seed(0)
    loader = make(shuffle=True, seed=seed, transform=noise)
    one_by_one = [[(x.copy(), y) for x, y in loader] for _ in range(2)]
    randomness.manual_seed(0)
    loader = make(shuffle=True, seed=seed, transform=noise)
    together = list(zip(iter(loader), iter(loader), strict=True))
    for p in range(2):
        for b in range(len(loader)):
            np.testing.assert_array_equal(together[b][p][1], one_by_one[p][b][1])
            np.testing.assert_array_equal(together[b][p][0], one_by_one[p][b][0])


def test_a_pass_takes_its_number_when_it_begins_and_not_at_its_first_batch():
    loader = make(shuffle=True, seed=7)
    first, second = iter(loader), iter(loader)
    late = [labels.tolist() for _, labels in second]
    early = [labels.tolist() for _, labels in first]
    again = make(shuffle=True, seed=7)
    assert np.concatenate(early).tolist() == one_pass(again) and np.concatenate(late).tolist() == one_pass(again)


@pytest.mark.parametrize("shuffle", [False, True])
def test_writing_into_a_batch_does_not_change_the_data(shuffle):
    data = X.copy()
    for (x,) in DataLoader(data, batch_size=4, shuffle=shuffle, seed=0):
        x[:] = -1
    np.testing.assert_array_equal(data, X)


def test_any_number_of_arrays_travel_together():
    for batch in DataLoader(LABELS, LABELS * 2, LABELS * 3, batch_size=3, shuffle=True, seed=0):
        assert isinstance(batch, tuple)
        np.testing.assert_array_equal(batch[1], batch[0] * 2)
        np.testing.assert_array_equal(batch[2], batch[0] * 3)


def test_the_transform_sees_the_first_array_only_and_its_noise_repeats_with_the_seed_and_changes_with_the_pass():
    loader, again = make(transform=noise, seed=2), make(transform=noise, seed=2)
    first, second = [x for x, _ in loader], [x for x, _ in loader]
    np.testing.assert_array_equal(first[0], next(iter(again))[0])
    assert not np.array_equal(first[0], second[0]) and not np.array_equal(first[0], first[1])
    assert one_pass(loader) == list(range(N))


@pytest.mark.parametrize("arrays, options, error, words", [
    ((), {}, TypeError, "but got none"),
    ((X, LABELS[:9]), {}, ValueError, "lengths [10, 9]"),
    ((X, LABELS.tolist()), {}, TypeError, "argument 2 is list"),
    ((X, 32), {}, TypeError, "argument 2 is int"),
    ((X, np.array(32)), {}, ValueError, "no axis"),
    ((X[:0], LABELS[:0]), {}, ValueError, "got 0 examples"),
    ((X,), {"batch_size": 0}, ValueError, "batch_size is an integer >= 1, but got 0"),
    ((X,), {"batch_size": -4}, ValueError, "got -4"),
    ((X,), {"batch_size": 4.0}, TypeError, "4.0 (float)"),
    ((X,), {"batch_size": True}, TypeError, "bool True"),
    ((X,), {"batch_size": None}, TypeError, "NoneType"),
    ((X,), {"batch_size": 11, "drop_last": True}, ValueError, "drop_last leaves at least one batch"),
    ((X,), {"shuffle": 3}, TypeError, "shuffle is True or False"),
    ((X,), {"drop_last": "no"}, TypeError, "drop_last is True or False"),
    ((X,), {"seed": -1}, ValueError, "DataLoader: a seed is an integer >= 0"),
    ((X,), {"seed": 1.5}, TypeError, "1.5 (float)"),
    ((X,), {"transform": X}, TypeError, "transform is a function"),
])
def test_what_cannot_be_loaded_is_refused_when_the_loader_is_made(arrays, options, error, words):
    with pytest.raises(error) as caught:
        DataLoader(*arrays, **options)
    assert str(caught.value).startswith("DataLoader: ") and words in str(caught.value)


def test_an_epoch_that_is_no_count_is_refused():
    loader = make(shuffle=True, seed=0)
    loader.epoch = -1
    with pytest.raises(ValueError, match="DataLoader: epoch is an integer >= 0, but got -1"):
        iter(loader)


@pytest.mark.parametrize("transform, words", [
    (lambda x, rng: None, "NoneType; does it end with a return?"),
    (lambda x, rng: x[:1], "shape (1, 1, 2, 3)"),
    (lambda x, rng: x.sum(), "float32"),
])
def test_a_transform_that_loses_the_batch_is_named(transform, words):
    with pytest.raises(TypeError) as caught:
        next(iter(make(transform=transform)))
    assert "transform returns a NumPy array with the 4 examples" in str(caught.value) and words in str(caught.value)
