"""The one generator: same seed, same bits, whatever happened before."""
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minidl import randomness


@pytest.fixture(autouse=True)
def keep_the_stream_of_other_tests():
    state = randomness.generator().bit_generator.state
    yield
    randomness.generator().bit_generator.state = state


def run(code):
    """Standard output of `code` in a fresh Python."""
    root = Path(randomness.__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_same_seed_gives_the_same_bits_and_another_seed_gives_others():
    draws = []
    for seed in (3, 3, 4):
        randomness.manual_seed(seed)
        draws.append(randomness.generator().random(8))
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not (draws[0] == draws[2]).any()


def test_the_bits_are_those_of_numpys_pcg64():
    randomness.manual_seed(7)
    expected = np.random.Generator(np.random.PCG64(7)).random(5)
    np.testing.assert_array_equal(randomness.generator().random(5), expected)


def test_a_generator_taken_before_the_seed_follows_it():
    held = randomness.generator()
    randomness.manual_seed(5)
    first = held.random(3)
    randomness.manual_seed(5)
    np.testing.assert_array_equal(randomness.generator().random(3), first)
    assert held is randomness.generator()


def test_seeding_forgets_the_half_word_left_from_an_earlier_draw():
    randomness.manual_seed(1)
    expected = randomness.generator().integers(2**32, size=3, dtype=np.uint32)
    randomness.manual_seed(1)
    randomness.generator().integers(2**32, size=1, dtype=np.uint32)  # uses half of a 64-bit word, keeps the other half
    randomness.manual_seed(1)
    np.testing.assert_array_equal(randomness.generator().integers(2**32, size=3, dtype=np.uint32), expected)


def test_a_numpy_integer_and_a_seed_beyond_64_bits_are_seeds():
    randomness.manual_seed(np.int32(9))
    first = randomness.generator().random()
    randomness.manual_seed(9)
    assert randomness.generator().random() == first
    randomness.manual_seed(2**80)


def test_numpys_own_global_seed_is_neither_used_nor_changed():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    randomness.manual_seed(2)
    expected = randomness.generator().random()
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    randomness.manual_seed(2)
    np.random.seed(1)
    assert randomness.generator().random() == expected


@pytest.mark.parametrize("seed, error, words", [
    (-3, ValueError, "got -3; did you mean 3"),
    (1.0, TypeError, "1.0 (float)"),
    (np.float64(2), TypeError, "float64"),
    (True, TypeError, "bool True"),
    (np.bool_(False), TypeError, "bool"),
    (None, TypeError, "None (NoneType); leave the call out"),
    ("7", TypeError, "'7' (str)"),
    ([1, 2], TypeError, "list"),
])
def test_a_bad_seed_is_refused_and_leaves_the_stream_alone(seed, error, words):
    randomness.manual_seed(11)
    expected = randomness.generator().random()
    randomness.manual_seed(11)
    with pytest.raises(error) as caught:
        randomness.manual_seed(seed)
    assert "manual_seed: a seed is an integer >= 0" in str(caught.value)
    assert words in str(caught.value)
    assert randomness.generator().random() == expected


def test_unseeded_runs_differ():
    code = "from minidl import randomness; print(randomness.generator().random())"
    assert run(code) != run(code)


def test_nothing_is_drawn_at_import_and_the_order_of_imports_does_not_matter():
    code = ("import numpy as np; from minidl import randomness; assert randomness._generator is None; "
            "{first}; randomness.manual_seed(4); {then}; print(randomness.generator().random(3).tolist())")
    load = "import minidl, minidl.data"
    assert run(code.format(first=load, then="pass")) == run(code.format(first="pass", then=load))


def test_importing_minidl_draws_nothing():
    run("import minidl, minidl.data; from minidl import randomness; assert randomness._generator is None")
