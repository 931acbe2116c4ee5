"""check_backward and check: their doors, what they look at before the numbers, kinks and ties, and what a report holds."""
import ast
import warnings

import numpy as np
import pytest

import minidl
from minidl import Function, GradcheckError, check, check_backward, ops
from minidl.checking.examine import cotangents

pytestmark = pytest.mark.cpu("raw NumPy pairs, as students write them")


def linear(x, w, b):
    return x @ w.T + b, (x, w)


def linear_backward(dout, cache):
    x, w = cache
    return dout @ w, dout.T @ x, dout.sum(axis=0)


def arrays(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


XWB = arrays((5, 4), (3, 4), (3,))


def spoilt(spoil):
    """linear's backward with its three gradients spoilt."""
    return lambda dout, cache: spoil(*linear_backward(dout, cache))


# --- doors -----------------------------------------------------------------------------------------------------------


def test_a_right_pair_passes_and_the_report_counts_what_was_checked():
    report = check_backward(linear, linear_backward, XWB)
    assert report.ok and report.causes == [] and report.elements == 20 + 12 + 3
    assert report.checked == {"x": 20, "w": 12, "b": 3}, "names come from forward"


def test_a_forward_without_cache_goes_with_a_backward_that_takes_inputs_and_options():
    def forward(x, y, power=2):
        return (x - y) ** power

    def backward(dout, x, y, power=2):
        return dout * power * (x - y) ** (power - 1), -dout * power * (x - y) ** (power - 1)

    assert check_backward(forward, backward, arrays((3, 2), (3, 2)), options=dict(power=3)).ok
    squared = lambda dout, x, y, power: backward(dout, x, y)
    wrong = check_backward(forward, squared, arrays((3, 2), (3, 2)), options=dict(power=3), raise_error=False)
    assert not wrong.ok


def test_dictionaries_of_parameters_are_copied_for_every_call_and_may_be_changed():
    def forward(x, param):
        param["calls"] += 1
        param["mean"][:] = x.mean(axis=0)
        return x * param["scale"], (param["scale"], param["calls"])

    param = {"calls": 0, "scale": 3.0, "mean": np.zeros(4)}
    assert check_backward(forward, lambda dout, cache: dout * cache[0], [XWB[0], param]).ok
    assert check_backward(lambda x, param: forward(x, param), lambda dout, cache: dout * cache[0], [XWB[0]],
                          options={"param": param}).ok
    assert param["calls"] == 0 and not param["mean"].any(), "the caller's dictionary was changed"


def test_integers_get_no_gradient_with_or_without_a_none_in_their_place():
    def forward(x, labels):
        return x[np.arange(len(x)), labels], (x.shape, labels)

    def backward(dout, cache):
        dx = np.zeros(cache[0])
        dx[np.arange(len(dout)), cache[1]] = dout
        return dx

    labels = np.array([0, 3, 1, 1, 2])
    assert check_backward(forward, backward, [XWB[0], labels]).ok
    assert check_backward(forward, lambda d, c: (backward(d, c), None), [XWB[0], labels]).ok


@pytest.mark.parametrize("give", [
    tuple, list, lambda g: dict(zip(("x", "w", "b"), g)), lambda g: dict(zip(("dx", "dw", "db"), g)),
], ids=["tuple", "list", "by name", "by d and name"])
def test_gradients_come_as_a_tuple_a_list_or_a_dictionary(give):
    assert check_backward(linear, lambda d, c: give(linear_backward(d, c)), XWB).ok


def test_a_loss_may_be_a_python_float_and_an_input_a_number():
    def forward(x, temperature):
        return float((x**2).sum() * temperature), (x, temperature)

    def backward(dout, cache):
        x, t = cache
        return 2 * x * t * dout, float((x**2).sum() * dout)

    assert check_backward(forward, backward, [XWB[0], 0.7]).ok


def test_a_function_class_is_checked_with_its_options_and_an_instance_too():
    x = np.random.default_rng(0).standard_normal((2, 5, 3))
    assert minidl.gradcheck(ops.LRN, [x], options=dict(n=3, alpha=0.5)).ok
    assert minidl.gradcheck(ops.LRN(n=3, alpha=0.5), x).ok

    class Half(ops.LRN):
        def backward(self, dy):
            return super().backward(dy) / 2

    with pytest.raises(GradcheckError, match="scale") as caught:
        minidl.gradcheck(Half, [x], options=dict(n=3, alpha=0.5))
    assert caught.value.report.causes == ["scale"] and caught.value.report.checked == {"x": 30}


@pytest.mark.parametrize("like", [ops.LRN, ops.lrn, "lrn"], ids=["class", "function", "name"])
def test_check_takes_the_samples_and_the_loops_of_an_operation_of_minidls(like):
    class MyLRN(Function):
        name = "my_lrn"

        def __init__(self, n=5, k=2.0, alpha=1e-4, beta=0.75):
            self.inner = ops.LRN(n, k, alpha, beta)

        def forward(self, x):
            return self.inner.forward(x)

        def backward(self, dy):
            return self.inner.backward(dy)

    report = check(MyLRN, like=like)
    assert report.ok and report.elements > 100

    class OneChannelTooMany(MyLRN):
        def __init__(self, n=5, k=2.0, alpha=1e-4, beta=0.75):
            self.inner = ops.LRN(n + 1, k, alpha, beta)

    wrong = check(OneChannelTooMany, like=like, raise_error=False)
    assert wrong.causes[0] == "forward-differs" and "backward fits this forward" in wrong.text


def test_check_takes_a_pair_and_leaves_out_samples_with_options_that_it_does_not_know():
    def forward(x):
        return np.maximum(x, 0), x > 0

    assert check((forward, lambda dout, mask: dout * mask), like="relu").ok
    with pytest.raises(ValueError, match="no sample could be checked"):
        check((forward, lambda dout, mask: dout * mask), samples=lambda rng: iter([((np.ones(3),), dict(slope=0.1))]))


def test_check_without_samples_or_with_a_wrong_name_says_what_to_write():
    with pytest.raises(ValueError, match=r"like=ops\.LRN, or samples"):
        check((linear, linear_backward))
    with pytest.raises(ValueError, match="did you mean conv2d"):
        check((linear, linear_backward), like="conv2")
    with pytest.raises(TypeError, match="Function class or a pair"):
        check(linear)


def test_inputs_must_be_a_sequence_and_names_must_fit():
    with pytest.raises(TypeError, match=r"write \[x\]"):
        check_backward(linear, linear_backward, XWB[0])
    with pytest.raises(ValueError, match="one name for each"):
        check_backward(linear, linear_backward, XWB, names=["x", "x", "b"])
    with pytest.raises(ValueError, match="no input is floating"):
        check_backward(lambda x: (x, None), lambda d, c: d, [np.arange(3)])
    with pytest.raises(ValueError, match="dtype must be"):
        check_backward(linear, linear_backward, XWB, dtype="float16")
    with pytest.raises(TypeError, match="out an array or a number"):
        check_backward(lambda x: ([x], None), lambda d, c: d, XWB[:1])


# --- what is looked at before the numbers ----------------------------------------------------------------------------


def writes_into_x(x):
    x -= x.mean()
    return x * 2.0, None


def draws(x):
    return x * np.random.default_rng().random(x.shape), None


def becomes_float32(x):
    return (x * 2).astype(np.float32), None


def counts_down(x):
    return x * 2.0, [2.0]


@pytest.mark.parametrize("forward, backward, code, words", [
    (writes_into_x, lambda d, c: 2 * d, "mutates-input", "forward wrote into x"),
    (lambda x: (2 * x, x), lambda d, x: (d.__imul__(2), d)[0], "mutates-input", "wrote into dout"),
    (lambda x: (2 * x, x), lambda d, x: (x.__iadd__(1), 2 * d)[1], "mutates-input", "backward wrote into x"),
    (draws, lambda d, c: d, "not-deterministic", "two calls of forward"),
    (lambda x: (2 * x, None), lambda d, c: d * np.random.default_rng().random(d.shape), "not-deterministic", "and backward"),
    (counts_down, lambda d, c: d * c.pop(), "not-deterministic", "second backward on the same cache failed"),
    (lambda x: (2 * x, np.array([2.0])), lambda d, c: (d * c[0], c.__iadd__(1))[0], "not-deterministic", "second backward"),
    (becomes_float32, lambda d, c: 2 * d, "wrong-dtype", "into float32"),
    (lambda x: (2 * x, None), lambda d, c: (2 * d).astype(np.float32), "wrong-dtype", "dx has dtype float32"),
    (lambda x: (2 * x, None), lambda d, c: (2 * d).astype(int), "wrong-dtype", "int"),
    (lambda x: (2 * x, None), lambda d, c: (2 * d).sum(axis=0), "wrong-shape", "shape (4,)"),
    (lambda x: (2 * x, None), lambda d, c: (2 * d, d), "wrong-shape", "2 gradient(s) for 1 input(s)"),
    (lambda x: (2 * x, None), lambda d, c: None, "zero", "returned None"),
    (lambda x: (2 * x, None), lambda d, c: d.reshape(7, 3), "wrong-shape", "cannot reshape"),
    (lambda x: (2 * x, None), lambda d, c: 1 / 0, "unknown", "ZeroDivisionError"),
])
def test_broken_rules_are_named_before_any_number(forward, backward, code, words):
    report = check_backward(forward, backward, XWB[:1], raise_error=False)
    assert report.causes == [code] and words in report.text, report.text


def test_an_exception_of_backward_is_kept_and_its_line_is_named():
    def backward(dout, cache):
        return dout @ np.ones((17, 2))  # does not fit

    with pytest.raises(GradcheckError, match=r"test_doctor\.py, in\s+backward") as caught:
        check_backward(linear, backward, XWB)
    assert isinstance(caught.value.__cause__, ValueError)


def test_an_exception_of_forward_is_the_callers_to_see():
    with pytest.raises(ZeroDivisionError):
        check_backward(lambda x: 1 / 0, lambda d, c: d, XWB[:1])


def test_a_wrong_forward_comes_first_and_what_backward_fits_is_said():
    def forward(x):
        return 2 * x + 1, None

    fits = check_backward(forward, lambda d, c: 2 * d, XWB[:1], reference=lambda x: 2 * x, raise_error=False)
    assert fits.causes == ["forward-differs"] and "backward fits this forward" in fits.text
    neither = check_backward(forward, lambda d, c: 3 * d, XWB[:1], reference=lambda x: 2 * x, raise_error=False)
    assert neither.causes == ["forward-differs", "scale"]
    shape = check_backward(forward, lambda d, c: 2 * d, XWB[:1], reference=lambda x: x[0], raise_error=False)
    assert shape.causes == ["forward-differs"] and "shape" in shape.text


# --- what a report holds ---------------------------------------------------------------------------------------------


def test_a_report_names_input_index_got_expected_ratio_and_factor():
    report = check_backward(linear, spoilt(lambda dx, dw, db: (dx, dw / 5, db)), XWB, seed=7, raise_error=False)
    assert report.causes == ["scale"] and report.wrong == {"w": 12} and report.seed == 7
    assert [f.input for f in report.findings] == ["w"] * 5
    finding = report.findings[0]
    both = [linear_backward(dy.reshape(5, 3), XWB[:2])[1] for dy in cotangents(7, 15)]
    assert any(np.isclose(finding.expected, dw[finding.index], rtol=1e-6) for dw in both)
    assert np.isclose(finding.ratio, 0.2, rtol=1e-6) and np.isclose(finding.got, finding.expected / 5, rtol=1e-6)
    errors = [abs(f.got - f.expected) for f in report.findings]
    assert errors == sorted(errors, reverse=True), "worst first"
    said = " ".join(report.text.split())
    assert "1/5 times" in said and "(5 is the batch, x.shape[0]" in said


def test_the_text_holds_verdict_cause_formula_line_picture_and_how_to_repeat():
    report = check_backward(linear, drops_a_column, XWB, raise_error=False)
    lines = report.text.splitlines()
    assert len(lines) <= 25 and max(map(len, lines)) <= 110
    assert lines[0].startswith("linear: the gradient is wrong: w at 3 of 12 checked elements; x, b agree")
    assert any(line.startswith("likely cause: ") for line in lines) and any(line.startswith("formula: ") for line in lines)
    assert "look at test_doctor.py, line" in report.text and "dw[:, 2] = 0" in report.text
    assert lines.count("    ..0.") == 3, "the picture shows where"
    assert lines[-1] == "again: minidl.check_backward(linear, drops_a_column, inputs, seed=0)"
    assert str(report) == report.text


def drops_a_column(dout, cache):
    dx, dw, db = linear_backward(dout, cache)
    dw[:, 2] = 0
    return dx, dw, db


def test_the_error_is_an_assertion_that_carries_the_report():
    with pytest.raises(AssertionError) as caught:
        check_backward(linear, spoilt(lambda dx, dw, db: (-dx, dw, db)), XWB)
    assert caught.value.report.causes == ["sign"] and str(caught.value) == caught.value.report.text


def test_the_plot_shows_the_errors_of_what_is_wrong():
    report = check_backward(linear, drops_a_column, XWB, raise_error=False)
    figure = report.plot()
    heat = [axes for axes in figure.axes if axes.images]
    assert len(heat) == 1 and "w: 3 wrong of 12" in heat[0].get_title()
    errors = np.ma.filled(heat[0].images[0].get_array(), 0)
    assert (errors[:, 2] > 0.01).all() and (np.delete(errors, 2, axis=1) < 1e-6).all()


def test_a_large_picture_is_drawn_smaller_and_hides_no_mistake():
    def backward(dout, cache):
        dx = 2 * dout
        dx[17, 31] = 0
        return dx

    x = np.random.default_rng(0).standard_normal((19, 100))
    report = check_backward(lambda x: (2 * x, None), backward, [x], raise_error=False, max_elements=2000)
    assert len(report.text.splitlines()) <= 25 and "drawn smaller" in report.text
    picture = [line.strip() for line in report.text.splitlines() if line.startswith("    ") and set(line.strip()) <= set(".0")]
    assert "".join(picture).count("0") == 1


# --- kinks and ties --------------------------------------------------------------------------------------------------


def max_of_rows(x):
    return x.max(axis=1), x


TIED = np.array([[1.0, 5.0, 5.0, 2.0], [3.0, 3.0, 3.0, 1.0], [0.5, 1.0, 2.0, 4.0]])


def to_all(dout, x):
    return (x == x.max(axis=1, keepdims=True)) * dout[:, None]


def shared(dout, x):
    mask = x == x.max(axis=1, keepdims=True)
    return mask / mask.sum(axis=1, keepdims=True) * dout[:, None]


def to_first(dout, x):
    dx = np.zeros_like(x)
    dx[np.arange(len(x)), x.argmax(axis=1)] = dout
    return dx


def unevenly(dout, x):
    mask = x == x.max(axis=1, keepdims=True)
    share = mask * np.array([0.7, 0.3, 0.2, 0.1])
    return share / share.sum(axis=1, keepdims=True) * dout[:, None]


@pytest.mark.parametrize("backward", [shared, to_first, unevenly])
def test_any_sharing_among_equal_maxima_is_right_and_counted_as_skipped(backward):
    for seed in range(5):
        report = check_backward(max_of_rows, backward, [TIED], seed=seed)
        assert report.ok and 2 <= report.skipped["x"] <= 5


def to_none(dout, x):
    alone = (x == x.max(axis=1, keepdims=True)).sum(axis=1) == 1
    return to_first(dout, x) * alone[:, None]


@pytest.mark.parametrize("backward", [to_all, to_none])
def test_sharing_out_too_much_or_nothing_is_called_ties(backward):
    report = check_backward(max_of_rows, backward, [TIED], raise_error=False)
    assert report.causes == ["ties"] and "gradients add up to" in report.text


def test_ties_across_two_inputs_are_looked_at_together():
    a, b = np.array([1.0, 2.0, 3.0, 0.5]), np.array([1.0, 0.0, 3.0, 2.5])
    forward = lambda a, b: (np.maximum(a, b), (a, b))
    assert check_backward(forward, lambda d, c: (d * (c[0] >= c[1]), d * (c[0] < c[1])), [a, b]).ok
    report = check_backward(forward, lambda d, c: (d * (c[0] >= c[1]), d * (c[0] <= c[1])), [a, b], raise_error=False)
    assert report.causes == ["ties"]


@pytest.mark.parametrize("at_zero", [0.0, 0.4, 1.0])
def test_any_slope_between_those_of_both_sides_is_right_at_a_kink(at_zero):
    x = np.array([-1.0, 0.0, 2.0, 3.0, -0.5])
    relu = lambda x: (np.maximum(x, 0), x)
    report = check_backward(relu, lambda d, x: d * np.where(x == 0, at_zero, x > 0), [x])
    assert report.ok and report.skipped == {"x": 1}
    wrong = check_backward(relu, lambda d, x: d * np.where(x == 0, 1.5, x > 0), [x], raise_error=False)
    assert not wrong.ok and wrong.findings[0].index == (1,) and wrong.findings[0].between


# --- the referee, large inputs, low precision ------------------------------------------------------------------------


def test_a_right_gradient_of_a_strongly_bent_function_is_not_refused():
    """1/x near 1e-5: the central difference is off by 1 %; a complex step, or a smaller one, knows better."""
    x = np.array([1e-5, 3e-5, 2.0])
    assert check_backward(lambda x: (1 / x, x), lambda d, x: -d / x**2, [x]).ok
    slopes = lambda x: (np.abs(1 / x), x)  # takes no complex numbers to differentiate
    assert check_backward(slopes, lambda d, x: -d * np.sign(x) / x**2, [x]).ok
    off = check_backward(slopes, lambda d, x: -d * np.sign(x) / x**2 * 1.001, [x], raise_error=False)
    assert not off.ok


@pytest.mark.parametrize("seed", range(3))
def test_one_wrong_element_of_a_large_input_is_found_and_named(seed):
    x = np.random.default_rng(seed).standard_normal((60, 70))
    place = tuple(int(i) for i in np.random.default_rng(seed + 50).integers(0, 60, 2))

    def backward(dout, x):
        dx = 2 * x * dout
        dx[place] *= -1
        return dx

    assert check_backward(lambda x: (x**2, x), lambda d, x: 2 * x * d, [x], seed=seed).directions == 8
    report = check_backward(lambda x: (x**2, x), backward, [x], seed=seed, raise_error=False)
    assert report.findings[0].index == place


def test_float32_is_judged_by_what_float32_can_hold():
    x, w = arrays((6, 40), (5, 40), seed=1)
    forward = lambda x, w: (x @ w.T, (x, w))
    backward = lambda d, c: (d @ c[1], d.T @ c[0])
    seen = []

    def watched(d, c):
        seen.append(d.dtype)
        return backward(d, c)

    assert check_backward(forward, watched, [x, w], dtype="float32").ok
    assert set(seen) == {np.dtype(np.float32), np.dtype(np.float64)}
    larger = lambda d, c: (d @ c[1] * np.float32(1.01), d.T @ c[0])
    off = check_backward(forward, larger, [x, w], dtype="float32", raise_error=False)
    assert off.wrong.keys() == {"x"}


def test_the_doctor_is_silent_and_repeats_itself():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        texts = {check_backward(linear, drops_a_column, XWB, seed=3, raise_error=False).text for _ in range(2)}
    assert len(texts) == 1
    assert check_backward(linear, drops_a_column, XWB, seed=4, raise_error=False).text not in texts


class LinearLayer:
    """A layer as many books write it: forward keeps what backward(dout) needs."""

    def forward(self, x, w):
        self.x, self.w = x, w
        return x @ w.T

    def backward(self, dout):
        return dout @ self.w, dout.T @ self.x


def test_a_layer_that_remembers_what_forward_saw_is_a_pair():
    layer = LinearLayer()
    assert check_backward(layer.forward, layer.backward, XWB[:2]).checked == {"x": 20, "w": 12}
    wrong = check_backward(layer.forward, lambda dout: (dout @ layer.w, dout.T @ layer.x / 5), XWB[:2], raise_error=False)
    assert wrong.causes == ["scale"] and wrong.wrong == {"w": 12}


def test_a_loss_that_returns_its_gradient_is_a_pair_with_that_as_cache():
    def loss_of(x, labels):
        p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
        dx = p.copy()
        dx[np.arange(len(x)), labels] -= 1
        return -np.log(p[np.arange(len(x)), labels]).mean(), dx / len(x)

    inputs = [XWB[0], np.array([0, 3, 1, 1, 2])]
    assert check_backward(loss_of, lambda dout, dx: dout * dx, inputs).ok
    assert check_backward(loss_of, lambda dout, dx: dx, inputs, raise_error=False).causes == ["ignores-upstream"]


@pytest.mark.parametrize("forward, inputs, words", [
    (lambda x: (np.log(x), x), [np.array([-1.0, 2.0])], "returned NaN"),
    (lambda x: (np.sqrt(x), x), [np.array([0.0, 2.0])], "move the input"),
    (lambda x: (x * 2, x), [np.zeros((0, 3))], "nothing was checked"),
])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_cannot_be_measured_is_a_report_that_is_not_ok_or_an_error(forward, inputs, words):
    report = check_backward(forward, lambda d, x: d * x, inputs, raise_error=False)
    assert not report.ok and not report.findings and words in " ".join(report.text.split())
    assert "cannot be checked here" in report.text and "wrong" not in report.text
    with pytest.raises(GradcheckError, match=words) as caught:
        check_backward(forward, lambda d, x: d * x, inputs)
    assert caught.value.report.causes == [] and not caught.value.report.measured


@pytest.mark.parametrize("spoil", [np.abs, lambda d: np.clip(d, -5, 5), lambda d: d + 1e-3 * d**2],
                         ids=["abs", "clipped", "squared a little"])
def test_a_gradient_that_is_not_in_proportion_to_dout_is_wrong_for_every_seed(spoil):
    for seed in range(10):
        backward = lambda d, x: 2 * x * spoil(d)
        assert not check_backward(lambda x: ((x * x).sum(), x), backward, [XWB[0]], seed=seed, raise_error=False).ok


def test_a_slow_forward_gets_its_answer_without_every_question():
    """The search for a cause stops calling a slow forward; the gradient is wrong all the same."""
    from minidl.checking import evidence
    x, w = arrays((6, 6), (6, 6))
    forward, backward = lambda x, w: (np.tanh(x) @ w, (x, w)), lambda d, c: (d @ c[1], c[0].T @ d)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "BUDGET", 0.0)
        report = check_backward(forward, backward, [x, w], raise_error=False)
    assert report.causes == ["unknown"] and "a smaller input would tell more" in " ".join(report.text.split())


# --- hypotheses that name nothing in the corpus ----------------------------------------------------------------------


def test_one_factor_at_some_elements_is_a_scale():
    report = check_backward(lambda x: (x**2, x), lambda d, x: 2 * x * d * np.where(x < 0, 3, 1), XWB[:1], raise_error=False)
    n = int((XWB[0] < 0).sum())
    assert report.causes == ["scale"] and f"at {n} of 20 elements dx is 3 times" in " ".join(report.text.split())


def test_right_numbers_in_wrong_places_are_transposed():
    order = np.random.default_rng(3).permutation(20)
    backward = lambda d, x: (2 * x * d).reshape(-1)[order].reshape(x.shape)
    report = check_backward(lambda x: (x**2, x), backward, XWB[:1], raise_error=False)
    assert report.causes == ["transposed"] and "in wrong places" in report.text


# --- float32 and the GPU, whose backward must not be another one ------------------------------------------------------


@pytest.mark.parametrize("low, code", [
    (lambda x, d: None, "zero"), (lambda x, d: (2 * x * d).sum(axis=0), "wrong-shape"), (lambda x, d: 2.02 * x * d, "unknown"),
    (lambda x, d: 2 * x[::-1] * d, "unknown"),
])
def test_a_backward_that_is_wrong_in_float32_alone_is_found(low, code):
    backward = lambda d, x: low(x, d) if x.dtype == np.float32 else 2 * x * d
    assert check_backward(lambda x: (x * x, x), backward, [XWB[0]]).ok
    report = check_backward(lambda x: (x * x, x), backward, [XWB[0]], dtype="float32", raise_error=False)
    assert report.causes == [code] and 0 <= report.wrong["x"] <= 20, report.text
    assert len({f.index for f in report.findings}) == len(report.findings), "an element is listed once"
    assert sum(line.count("#") for line in report.text.splitlines() if line.startswith("    ")) == report.wrong["x"]


# --- what a report says of the code ----------------------------------------------------------------------------------


def scores(labels, x, w):
    return x @ w.T, (x, w)


def scores_backward(dout, cache):
    x, w = cache
    dx = dout @ w
    dw = 2 * dout.T @ x
    return None, dx, dw


def test_the_line_is_the_right_one_beside_a_none_for_integers():
    report = check_backward(scores, scores_backward, [np.arange(5), *XWB[:2]], raise_error=False)
    assert report.wrong == {"w": 12} and ": dw = 2 * dout.T @ x" in report.text


@pytest.mark.parametrize("options", [
    {}, dict(seed=3), dict(reference=linear), dict(names=["a", "b", "c"], eps=1e-5), dict(dtype="float32", max_elements=5),
])
def test_the_last_line_is_python_and_names_every_option_that_was_changed(options):
    report = check_backward(linear, drops_a_column, XWB, raise_error=False, **options)
    said = " ".join(report.text.split("again: ")[1].split())
    call = ast.parse(said).body[0].value
    assert {keyword.arg for keyword in call.keywords} == set(options) | {"seed"} and len(call.args) == 3


@pytest.mark.parametrize("spoil", [
    lambda d, dx, dw: (dx, dw) if d.any() else dx,
    lambda d, dx, dw: (dx, dw if abs(d).max() < 20 else dw[:2]),
    lambda d, dx, dw: (dx, dw[0] if np.count_nonzero(d) == 1 else dw * np.arange(1, 13).reshape(3, 4)),
], ids=["one gradient for dout = 0", "another shape for a large dout", "another shape for a dout with a single 1"])
def test_a_shape_that_depends_on_dout_is_a_report_and_no_traceback(spoil):
    backward = lambda d, c: spoil(d, d @ c[1], d.T @ c[0])
    report = check_backward(lambda x, w: (x @ w.T, (x, w)), backward, XWB[:2], raise_error=False)
    assert report.causes == ["wrong-shape"]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6, 1e12])
def test_ties_are_judged_alike_at_every_size(scale):
    assert check_backward(max_of_rows, to_first, [TIED * scale]).ok
    assert check_backward(max_of_rows, to_all, [TIED * scale], raise_error=False).causes == ["ties"]


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6])
def test_a_kernel_that_is_not_turned_is_named_at_every_size(scale):
    x, w = arrays((9,), (3,))
    forward = lambda x, w: (np.correlate(x, w, "valid"), (x, w))
    backward = lambda d, c: (np.convolve(d, c[1][::-1], "full"), np.correlate(c[0], d, "valid"))
    assert check_backward(forward, lambda d, c: (np.convolve(d, c[1], "full"), backward(d, c)[1]), [x * scale, w]).ok
    assert check_backward(forward, backward, [x * scale, w], raise_error=False).causes == ["flipped"]


def test_samples_that_are_left_out_are_said():
    def forward(x):
        return np.maximum(x, 0), x > 0

    def samples(rng):
        yield (rng.standard_normal(4),), {}
        yield (rng.standard_normal(4),), {"slope": 0.1}

    report = check((forward, lambda dout, mask: dout * mask), samples=samples)
    assert report.ok and len(report.left_out) == 1
    assert "1 sample left out, as sample 1: with options slope" in " ".join(report.text.split())


@pytest.mark.parametrize("forward, backward, inputs, options, words", [
    (linear, linear_backward, [minidl.Tensor(XWB[0]), *XWB[1:]], None, "pass x.data, or use minidl.gradcheck"),
    (3, linear_backward, XWB, None, "needs two functions"), (linear, linear_backward, XWB, [1], "must be a mapping"),
])
def test_what_is_no_pair_is_refused_at_the_door(forward, backward, inputs, options, words):
    with pytest.raises(TypeError, match=words):
        check_backward(forward, backward, inputs, options=options)


# --- what planted bugs had shown to be untested ----------------------------------------------------------------------


def relu(x):
    return np.maximum(x, 0), x


def test_a_kink_beside_the_point_stays_out_of_the_slope():
    """Half a step from 0 the central difference of relu is 3/4; the slope is 1, and -1 times it is a sign."""
    x = np.array([5e-7, 1.0, -1.0, 2.0])
    assert check_backward(relu, lambda d, x: d * (x > 0), [x]).ok
    assert check_backward(relu, lambda d, x: -d * (x > 0), [x], raise_error=False).causes == ["sign"]


@pytest.mark.parametrize("seed", range(4))
def test_the_range_at_a_kink_is_told_from_below_for_dout_of_either_sign(seed):
    report = check_backward(relu, lambda d, x: d * np.where(x == 0, 7, x > 0), [np.array([0.0, 1.0, -1.0])], seed=seed,
                            raise_error=False)
    low, high = report.findings[0].between
    assert low < high


def test_a_gradient_must_be_right_for_both_cotangents():
    """This one is right for the first of the two, and linear in dout."""
    first = cotangents(0, 20)[0].reshape(5, 4)
    backward = lambda d, x: 2 * x * first * (first * d).sum() / (first * first).sum()
    assert not check_backward(lambda x: (x**2, x), backward, XWB[:1], raise_error=False).ok


def test_a_complex_step_that_does_not_fit_the_measurement_is_not_believed():
    """Of abs(x) * x it sees half; what is added leaves the measurement few digits."""
    x = np.array([1.0, -2.0, 0.7])
    assert check_backward(lambda x: (1e8 + (np.abs(x) * x).sum(), x), lambda d, x: 2 * np.abs(x) * d, [x]).ok


def test_shares_at_a_tie_that_are_a_little_off_are_called_ties():
    backward = lambda d, x: shared(d, x) * np.array([[1.0], [1.003], [1.0]])
    assert check_backward(max_of_rows, backward, [TIED], raise_error=False).causes == ["ties"]


def test_float32_may_lose_what_its_last_place_moves():
    """x is far from 0, and its mean is taken away: what rounding leaves of x - mean is all that float32 can know."""
    def forward(x):
        u = x - x.mean()
        return u**2, u

    def backward(d, u):
        g = 2 * d * u
        return g - g.mean()

    assert check_backward(forward, backward, [1e4 + XWB[0]], dtype="float32").ok


def test_the_slice_where_most_is_wrong_is_drawn():
    def backward(d, x):
        dx = 2 * x * d
        dx[1, 2, 1:] = 0
        return dx

    report = check_backward(lambda x: (x**2, x), backward, arrays((3, 4, 5)), raise_error=False)
    assert "where in x[1]" in report.text and "    .0000" in report.text.splitlines()


def test_lines_are_counted_as_an_editor_counts_them():
    report = check_backward(linear, drops_a_column, XWB, raise_error=False)
    assert f"line {drops_a_column.__code__.co_firstlineno + 2}: dw[:, 2] = 0" in report.text


def test_the_axes_that_must_be_summed_are_named():
    report = check_backward(linear, lambda d, c: (*linear_backward(d, c)[:2], d), XWB, raise_error=False)
    assert report.causes == ["broadcast-not-summed"] and "summed over axes (0,) it is right" in " ".join(report.text.split())
    doubled = check_backward(linear, lambda d, c: (*linear_backward(d, c)[:2], d**3), XWB, raise_error=False)
    assert doubled.causes[0] == "broadcast-not-summed", "also if the numbers are wrong, too"


def test_what_fits_a_cause_by_a_hundredth_does_not_fit_it():
    backward = lambda d, x: -2 * x * d * (1 + 0.005 * np.sin(9 * x))
    assert check_backward(lambda x: (x**2, x), backward, XWB[:1], raise_error=False).causes == ["unknown"]


def test_of_a_large_input_right_numbers_in_wrong_places_are_found_and_enough_is_measured_for_a_cause():
    x = np.random.default_rng(0).uniform(-1, 1, (40, 50))
    square = lambda x: (x**2, x)
    assert not check_backward(square, lambda d, x: (2 * x * d)[::-1], [x], raise_error=False).ok
    report = check_backward(square, lambda d, x: 6 * x * d, [x], raise_error=False)
    assert report.causes == ["scale"] and report.checked["x"] >= 200


def test_nan_is_a_wrong_element():
    report = check_backward(lambda x: (x**2, x), lambda d, x: 2 * x * d * np.where(x == XWB[0][1, 2], np.nan, 1), XWB[:1],
                            raise_error=False)
    assert report.wrong == {"x": 1} and report.findings[0].index == (1, 2)


def test_jumps_in_a_large_input_are_no_slopes():
    x = np.random.default_rng(0).standard_normal(900)
    x[[3, 500]] = 0.0, 2.0
    assert check_backward(lambda x: (np.floor(x), x), lambda d, x: 0 * d, [x]).ok


def test_a_forward_that_is_off_by_a_ten_thousandth_differs_and_one_off_by_rounding_does_not():
    double = lambda x: (2 * x, None)
    assert check_backward(double, lambda d, c: 2 * d, XWB[:1], reference=lambda x: 2 * x * (1 + 1e-12)).ok
    off = check_backward(double, lambda d, c: 2 * d, XWB[:1], reference=lambda x: 2.0002 * x, raise_error=False)
    assert off.causes == ["forward-differs"]


def test_what_is_unknown_comes_after_what_is_known():
    report = check_backward(linear, spoilt(lambda dx, dw, db: (dx + np.roll(dx, 1), -dw, db)), XWB, raise_error=False)
    assert report.causes == ["sign", "unknown"]


def test_a_large_constant_in_the_output_hides_no_mistake_of_a_percent():
    """What float64 cannot resolve at 1e4 is 2e-5 of a slope of 1; abs takes no complex numbers that could help."""
    x = XWB[0][0]
    forward = lambda x: (1e4 + np.abs(x).sum(), x)
    assert check_backward(forward, lambda dout, x: dout * np.sign(x), [x]).ok
    assert not check_backward(forward, lambda dout, x: 1.01 * dout * np.sign(x), [x], raise_error=False).ok
