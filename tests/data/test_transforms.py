"""Augmentation: against plain loops where there is a definition, and by its statistics where there is chance."""
import numpy as np
import pytest

from minidl.data import cutout, normalize, random_crop, random_horizontal_flip

RANDOM = [random_horizontal_flip, random_crop, cutout]


def batch(N=6, C=3, H=9, W=7, dtype=np.float32):
    """Positive numbers, all different: a pixel says where it came from, and zero is never one of them."""
    return (np.arange(N * C * H * W, dtype=dtype) + 1).reshape(N, C, H, W)


@pytest.mark.parametrize("transform", RANDOM)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_input_is_kept_dtype_too_and_the_generator_decides(transform, dtype):
    images = batch(dtype=dtype)
    before = images.copy()
    images.flags.writeable = False
    results = [transform(images, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(images, before)
    assert results[0].dtype == dtype and results[0].shape == images.shape
    assert not np.shares_memory(results[0], images)
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


@pytest.mark.parametrize("transform", RANDOM)
@pytest.mark.parametrize("images, rng, error, words", [
    (batch()[0], np.random.default_rng(0), ValueError, "images is (N, C, H, W), but got shape (3, 9, 7)"),
    (batch().tolist(), np.random.default_rng(0), TypeError, "got list"),
    (batch(), 0, TypeError, "rng is a np.random.Generator, but got 0 (int)"),
    (batch(), None, TypeError, "NoneType"),
    (batch(), np.random.RandomState(0), TypeError, "RandomState"),
])
def test_what_is_not_a_batch_or_not_a_generator_is_refused(transform, images, rng, error, words):
    with pytest.raises(error) as caught:
        transform(images, rng)
    assert str(caught.value).startswith(f"{transform.__name__}: ") and words in str(caught.value)


def test_normalize_with_the_data_s_own_numbers_gives_mean_0_and_std_1_in_every_channel():
    images = np.random.default_rng(0).normal([[[1.0]], [[20.0]], [[-3.0]]], [[[2.0]], [[0.5]], [[9.0]]], (50, 3, 6, 5))
    before = images.copy()
    y = normalize(images, images.mean(axis=(0, 2, 3)), images.std(axis=(0, 2, 3)))
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(axis=(0, 2, 3)), 1, rtol=1e-12)
    np.testing.assert_array_equal(images, before)


def test_normalize_takes_numbers_keeps_float32_and_works_per_channel_even_when_W_equals_C():
    images = batch(2, 3, 4, 3)
    y = normalize(images, mean=np.array([1.0, 2.0, 3.0]), std=2)
    assert y.dtype == np.float32
    for c in range(3):
        np.testing.assert_array_equal(y[:, c], (images[:, c] - (c + 1)) / 2)


@pytest.mark.parametrize("images, mean, std, error, words", [
    (batch(dtype=np.uint8), 0, 1, TypeError, "astype(np.float32) / 255"),
    (batch(), [1.0, 2.0], 1, ValueError, "one per channel (3,)"),
    (batch(), np.nan, 1, ValueError, "finite"),
    (batch(), 0, 0, ValueError, "std is > 0"),
    (batch(), 0, [1.0, 0.0, 1.0], ValueError, "std is > 0"),
    (batch(), "zero", 1, ValueError, "'zero'"),
    (batch(), np.zeros((9, 7)), 1, ValueError, "axis=(0, 2, 3)"),
    (batch()[0], 0, 1, ValueError, "(N, C, H, W)"),
])
def test_normalize_refuses(images, mean, std, error, words):
    with pytest.raises(error) as caught:
        normalize(images, mean, std)
    assert str(caught.value).startswith("normalize: ") and words in str(caught.value)


def test_each_image_is_mirrored_or_left_alone_about_as_often_as_asked():
    images = batch(400, 2, 2, 5)
    y = random_horizontal_flip(images, np.random.default_rng(0), probability=0.25)
    mirrored = np.array([np.array_equal(b, a[..., ::-1]) for a, b in zip(images, y, strict=True)])
    kept = np.array([np.array_equal(b, a) for a, b in zip(images, y, strict=True)])
    assert (mirrored ^ kept).all() and 70 < mirrored.sum() < 130
    np.testing.assert_array_equal(random_horizontal_flip(images, np.random.default_rng(0), 0), images)
    np.testing.assert_array_equal(random_horizontal_flip(images, np.random.default_rng(0), 1), images[..., ::-1])


@pytest.mark.parametrize("probability", [-0.1, 1.1, np.nan, "half", None])
def test_a_probability_outside_0_to_1_is_refused(probability):
    with pytest.raises(ValueError, match="probability is a number from 0 to 1"):
        random_horizontal_flip(batch(), np.random.default_rng(0), probability)


@pytest.mark.parametrize("padding, size", [(2, None), (0, 5), (3, 4), (0, None), (1, 9)])
def test_a_crop_is_a_window_of_the_padded_image(padding, size):
    images = batch(600)
    y = random_crop(images, np.random.default_rng(0), padding=padding, size=size)
    H, W = (9, 7) if size is None else (size, size)
    assert y.shape == (600, 3, H, W)
    padded = np.pad(images, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    places = set()
    for a, b in zip(padded, y, strict=True):
        fits = [(i, j) for i in range(a.shape[1] - H + 1) for j in range(a.shape[2] - W + 1)
                if np.array_equal(a[:, i:i + H, j:j + W], b)]
        assert fits
        places.update(fits)
    rows, columns = 9 + 2 * padding - H + 1, 7 + 2 * padding - W + 1
    assert {i for i, _ in places} == set(range(rows)) and {j for _, j in places} == set(range(columns))
    assert len(places) > 0.9 * rows * columns  # rows and columns are drawn apart from each other


@pytest.mark.parametrize("options, error, words", [
    ({"padding": -1}, ValueError, "padding is an integer >= 0"),
    ({"padding": 1.0}, TypeError, "1.0 (float)"),
    ({"size": 0}, ValueError, "size is an integer >= 1"),
    ({"size": 10, "padding": 1}, ValueError, "fits into the padded image (11, 9)"),
])
def test_a_crop_that_cannot_be_is_refused(options, error, words):
    with pytest.raises(error) as caught:
        random_crop(batch(), np.random.default_rng(0), **options)
    assert words in str(caught.value)


@pytest.mark.parametrize("size", [1, 2, 3, 20])
def test_cutout_erases_one_clipped_square_in_all_channels(size):
    images = batch(900)
    y = cutout(images, np.random.default_rng(0), size=size, fill=-5)
    erased = y == -5
    np.testing.assert_array_equal(y[~erased], images[~erased])
    assert (erased == erased[:, :1]).all()
    heights, widths = set(), set()
    for hole in erased[:, 0]:
        rows, columns = hole.any(axis=1), hole.any(axis=0)
        assert rows.any() and (hole == rows[:, None] & columns).all()
        for line in (rows, columns):
            assert (np.diff(np.flatnonzero(line)) == 1).all()
        heights.add(int(rows.sum()))
        widths.add(int(columns.sum()))
    assert max(heights) == min(size, 9) and max(widths) == min(size, 7)
    if size == 3:
        assert min(heights) == min(widths) == 2  # clipped at the border
    assert erased[:, 0].any(axis=0).all()  # every pixel gets its turn


@pytest.mark.parametrize("dtype, fill", [
    (np.uint8, 300), (np.uint8, np.inf), (np.float32, "grey"), (np.float32, None), (np.float32, [1, 2])])
def test_cutout_refuses_a_fill_that_the_images_cannot_hold(dtype, fill):
    with pytest.raises(ValueError, match="cutout: fill is a number that fits into"):
        cutout(batch(dtype=dtype), np.random.default_rng(0), fill=fill)


def test_cutout_refuses_a_square_without_pixels():
    with pytest.raises(ValueError, match="cutout: size is an integer >= 1"):
        cutout(batch(), np.random.default_rng(0), size=0)
