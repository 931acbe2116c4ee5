"""The generator of shapes: the box fits the mask, the mask fits the picture, the seed says it all."""
import functools

import numpy as np
import pytest

from minidl import randomness
from minidl.data import shapes

cached = functools.lru_cache(maxsize=None)(shapes)
FIELDS = ("images", "labels", "boxes", "masks", "sizes")


def test_arrays_have_the_promised_shapes_dtypes_and_ranges():
    s = cached(60, size=24)
    assert s.images.shape == (60, 3, 24, 24) and s.images.dtype == np.float32
    assert s.images.min() >= 0 and s.images.max() <= 1
    assert s.masks.shape == (60, 24, 24) and s.masks.dtype == bool
    for array, shape in ((s.labels, (60,)), (s.sizes, (60,)), (s.boxes, (60, 4))):
        assert array.shape == shape and array.dtype == np.int64
    assert len(s.class_names) >= 4 and "images=float32(60, 3, 24, 24)" in repr(s)


@pytest.mark.parametrize("size, size_range", [(32, None), (64, (7, 64)), (32, (7, 8)), (7, None), (33, (33, 33))])
def test_every_box_is_tight_around_its_mask_and_every_size_is_in_its_range(size, size_range):
    s = cached(120, size=size, size_range=size_range)
    for mask, (x0, y0, x1, y1), side in zip(s.masks, s.boxes, s.sizes, strict=True):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert (x0, y0, x1, y1) == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        assert side == max(x1 - x0, y1 - y0)
    smallest, largest = size_range or (max(7, size // 3), max(7, 2 * size // 3))
    assert s.sizes.min() == smallest and s.sizes.max() == largest


def test_shapes_reach_every_place_and_x_does_not_follow_y():
    boxes = cached(600, size_range=(10, 10)).boxes
    for c in (0, 1):
        assert set(boxes[:, c]) == set(range(23))
    assert abs(np.corrcoef(boxes[:, 0], boxes[:, 1])[0, 1]) < 0.15


def test_the_label_tells_the_shape_of_the_mask():
    s = cached(240, size_range=(12, 24))
    for mask, label, (x0, y0, x1, y1) in zip(s.masks, s.labels, s.boxes, strict=True):
        m = mask[y0:y1, x0:x1]
        n = len(m)
        corners = m[[0, 0, -1, -1], [0, -1, 0, -1]]
        name = s.class_names[label]
        full = m.mean()
        assert m.shape == (n, n) and (m == m[:, ::-1]).all()
        assert (m == m[::-1]).all() == (name != "triangle")
        assert corners.all() == (name == "square") and m[n // 2, n // 2] == (name != "ring")
        low, high = {"circle": (0.72, 0.84), "square": (1, 1), "triangle": (0.48, 0.6), "cross": (0.4, 0.63),
                     "diamond": (0.48, 0.6), "ring": (0.5, 0.68)}[name]
        assert low <= full <= high, (name, n, full)


def test_the_shape_stands_out_from_its_background():
    s = cached(600)
    brightness = s.images.mean(axis=1)
    gaps = np.array([b[m].mean() - b[~m].mean() for b, m in zip(brightness, s.masks, strict=True)])
    assert abs(gaps).min() > 0.25
    assert 0.4 < (gaps > 0).mean() < 0.6  # bright on dark as often as dark on bright


def test_the_background_has_a_texture_that_is_weaker_than_the_shape():
    s = cached(60)
    spread = np.array([image[:, ~mask].std(axis=1).mean() for image, mask in zip(s.images, s.masks, strict=True)])
    assert spread.min() > 0.03 and spread.max() < 0.15


@pytest.mark.parametrize("fewer, more", [(1, 40), (7, 40), (12, 40)])
def test_a_picture_does_not_depend_on_how_many_were_asked_for(fewer, more):
    a, b = shapes(fewer, seed=5), cached(more, seed=5)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name)[:fewer], err_msg=name)


def test_the_same_seed_gives_the_same_bits_and_another_seed_other_pictures():
    a, b, other = shapes(12, seed=1), shapes(12, seed=1), shapes(12, seed=2)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
        assert not np.array_equal(getattr(a, name), getattr(other, name)), name


def test_the_global_generator_is_neither_used_nor_changed():
    state = randomness.generator().bit_generator.state
    try:
        randomness.manual_seed(1)
        first = shapes(3)
        after = randomness.generator().random()
        randomness.manual_seed(1)
        assert randomness.generator().random() == after
        np.testing.assert_array_equal(shapes(3).images, first.images)
    finally:
        randomness.generator().bit_generator.state = state


def test_every_run_of_six_holds_each_class_once_and_not_always_in_the_same_order():
    runs = cached(600).labels.reshape(100, 6)
    assert (np.sort(runs, axis=1) == np.arange(6)).all()
    assert len({tuple(run) for run in runs.tolist()}) > 80


def test_class_says_nothing_about_place_size_or_brightness():
    s = cached(1200)
    side = s.sizes.astype(float)
    bright = s.images.mean(axis=(1, 2, 3))
    for value in (side, s.boxes[:, 0].astype(float), s.boxes[:, 1].astype(float), bright):
        means = np.array([value[s.labels == c].mean() for c in range(6)])
        assert np.ptp(means) < value.std()  # seven standard errors


@pytest.mark.parametrize("arguments, options, error, words", [
    ((0,), {}, ValueError, "n is an integer >= 1"),
    ((2.0,), {}, TypeError, "2.0 (float)"),
    ((2,), {"size": 6}, ValueError, "size is an integer >= 7"),
    ((2,), {"seed": -1}, ValueError, "a seed is an integer >= 0"),
    ((2,), {"seed": None}, TypeError, "NoneType"),
    ((2,), {"size_range": 12}, TypeError, "(12, 12)"),
    ((2,), {"size_range": (8, 9, 10)}, TypeError, "pair"),
    ((2,), {"size_range": (20, 10)}, ValueError, "swap them"),
    ((2,), {"size_range": (10, 33)}, ValueError, "for size 32"),
    ((2,), {"size_range": (3, 10)}, ValueError, "size_range is an integer >= 7"),
    ((2,), {"size_range": (8.0, 10)}, TypeError, "8.0 (float)"),
])
def test_what_cannot_be_drawn_is_refused(arguments, options, error, words):
    with pytest.raises(error) as caught:
        shapes(*arguments, **options)
    assert str(caught.value).startswith("shapes: ") and words in str(caught.value)
