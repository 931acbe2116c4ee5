"""What judges is judged: `close` and `refuses` let right answers pass, and say what is wrong with the others."""
import numpy as np
import pytest

import minidl
from minidl.homework.parts import close, in_case, part, refuses, shown

X = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


@pytest.mark.parametrize(("got", "expected"), [
    (X, X), (X.tolist(), X), (tuple(map(tuple, X)), X), (X + 1e-12, X), (minidl.Tensor(X), X), (np.float64(2), 2.0),
    (2.0, np.array(2.0)),
    (X.astype(np.float32), X.astype(np.float32)), ([1, 2], np.array([1, 2], np.int32)), (np.empty((0, 3)), np.empty((0, 3))),
    ([np.nan, np.inf, -np.inf, 1.0], np.array([np.nan, np.inf, -np.inf, 1])), ([True], np.array([True])),
    ([1e-20, 1.0], np.array([0.0, 1.0])), (np.zeros(3), np.zeros(3)), (X.view(type("Mine", (np.ndarray,), {})), X),
])
def test_close_takes_what_is_equal(got, expected):
    close(got, expected, "f(x)")


@pytest.mark.parametrize(("got", "expected", "words"), [
    (None, X, r"f\(x\): got None; is a `return` missing\?"),
    (X.T, X, r"f\(x\): got shape \(3, 2\), expected shape \(2, 3\)"),
    (X[:1], X, "got shape"),
    (np.array([1, 2]), np.array([1.0, 2.0]), "got integers .dtype int64., expected floats"),
    (np.array([1.0]), np.array([True]), "got floats .dtype float64., expected booleans"),
    (X + np.array([[0, 0, 0], [0, 0.5, 0.1]]), X, r"f\(x\), at \[1, 1\]: got 5.5, expected 5; 2 of 6 numbers differ"),
    (5.5, 5.0, r"f\(x\): got 5.5, expected 5$"),
    ([np.nan, 1.0], np.array([0.0, 1.0]), r"f\(x\), at \[0\]: got nan, expected 0"),
    ([0.0, 1.0], np.array([np.nan, 1.0]), "got 0, expected nan"),
    ([np.inf], np.array([-np.inf]), "got inf, expected -inf"),
    ([np.inf, 1.0], np.array([1.0, 1.0]), "got inf, expected 1"),
    ([1e-8], np.array([0.0]), "expected 0"),
    ([1, 3], np.array([1, 2]), r"at \[1\]: got 3, expected 2"),
    ([True, True], np.array([True, False]), r"at \[1\]: got True, expected False"),
    ([[1.0], [1.0, 2.0]], X, "got list .* expected an array of numbers"),
    ("abc", X, "got str 'abc', expected an array of numbers"),
    ({"y": X}, X, "expected an array of numbers"),
])
def test_close_says_what_differs(got, expected, words):
    with pytest.raises(AssertionError, match=words):
        close(got, expected, "f(x)")


def test_close_asks_for_a_dtype():
    with pytest.raises(AssertionError, match=r"f\(x\): got dtype float64, expected float32"):
        close(X, X, "f(x)", dtype=np.float32)


def test_an_array_that_says_yes_to_everything_is_compared_by_its_numbers():
    class Yes(np.ndarray):
        def __array_ufunc__(self, *args, **kwargs):
            return np.True_

        def __array_function__(self, *args):
            return True

    with pytest.raises(AssertionError, match="6 of 6 numbers differ"):
        close(np.zeros((2, 3)).view(Yes), X, "f(x)")


def raises(error):
    raise error


def test_refuses_wants_the_error_and_its_words():
    refuses(lambda: raises(ValueError("x has 4 Channels, w 3")), "channels", "f(x)")
    refuses(lambda: raises(TypeError("no")), ["n", "o"], "f(x)", (ValueError, TypeError))


@pytest.mark.parametrize(("call", "words"), [
    (lambda: 3, r"f\(x\): must be refused with ValueError, but returned 3"),
    (lambda: raises(ValueError("bad")), "its message, 'bad', does not say 'channels'"),
    (lambda: raises(IndexError("channels")), r"raised IndexError \(channels\), expected ValueError"),
])
def test_refuses_says_what_is_missing(call, words):
    with pytest.raises(AssertionError, match=words):
        refuses(call, "channels", "f(x)")


def test_a_function_that_is_not_written_refuses_nothing():
    with pytest.raises(NotImplementedError):
        refuses(lambda: raises(NotImplementedError("channels: your code here")), "channels", "f(x)", Exception)


@pytest.mark.parametrize("points", [0, -1, 1.5, True])
def test_points_are_whole(points):
    with pytest.raises(ValueError, match="points must be an integer of at least 1"):
        part("double", points, "doubles")


def test_numbers_are_shown_as_pythons_own():
    assert shown([np.float64(2.79), (np.int64(3), True)]) == "[2.79, (3, True)]"
    assert shown("x" * 100, 20) == "'xxxxxxxxxxxxxxxx..."


def test_a_case_stands_before_what_the_doctor_says_and_keeps_the_report():
    with pytest.raises(AssertionError, match=r"^x of shape \(2,\): forward/backward: the gradient is wrong") as raised, \
            in_case("x of shape (2,)"):
        minidl.check_backward(lambda x: (x**2, x), lambda dy, x: dy * x, [np.array([1.0, 2.0])])
    assert raised.value.report.text.startswith("x of shape (2,): ")
