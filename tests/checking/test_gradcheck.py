"""gradcheck: finds what is wrong, says where, and raises no false alarm."""
import numpy as np
import pytest

import minidl
from minidl import Function, GradcheckError, Tensor, apply, gradcheck, ops
from minidl.backend import array_module
from minidl.checking.examine import cotangents


def wrong_square(spoil):
    """x ** 2 whose gradient 2 x dy is spoilt by `spoil(dx, x, dy)`."""
    class WrongSquare(Function):
        name = "wrong_square"

        def forward(self, x):
            self.x = x
            return x**2

        def backward(self, dy):
            return spoil(2 * self.x * dy, self.x, dy)

    return lambda x: apply(WrongSquare(), x)


def one_wrong(dx, x, dy):
    dx.reshape(-1)[7] *= -1
    return dx


def test_a_right_gradient_passes_and_the_report_says_what_was_checked():
    report = gradcheck(lambda x: (x * x).sum(axis=1), np.random.default_rng(0).standard_normal((3, 4)))
    assert report.elements == 12 and report.directions == 0 and not report.kinks and report.worst < 1
    assert str(report).startswith("gradients agree: 12 elements checked")


def test_a_wrong_element_is_named_with_input_index_got_and_expected():
    x = np.random.default_rng(0).standard_normal((4, 3))
    with pytest.raises(GradcheckError) as caught:
        gradcheck(wrong_square(one_wrong), x, names=["image"])
    message = str(caught.value)
    assert "the gradient is wrong: image at 1 of 12 checked elements" in message
    dy = cotangents(0, 12)[0].reshape(4, 3)
    want = 2 * x[2, 1] * dy[2, 1]
    assert f"image[2, 1]: got {-want:.9g}"[:24] in message and "got / expected = -1" in message


def test_a_wrong_element_of_a_large_input_is_found_by_bisection():
    x = np.random.default_rng(1).standard_normal((40, 50))
    with pytest.raises(GradcheckError, match=r"x0\[0, 7\]: got"):
        gradcheck(wrong_square(one_wrong), x)


@pytest.mark.parametrize("size", [12, 3000])
@pytest.mark.parametrize("spoil", [
    lambda dx, x, dy: 2 * dx, lambda dx, x, dy: -dx, lambda dx, x, dy: dx * 0, lambda dx, x, dy: 2 * x,
    lambda dx, x, dy: dx[::-1].copy(), lambda dx, x, dy: dx + 1e-3, lambda dx, x, dy: dx * (1 + 1e-4),
    lambda dx, x, dy: dx * np.nan,
], ids=["doubled", "negated", "zero", "dy forgotten", "reversed", "shifted", "0.01 % off", "NaN"])
def test_wrong_gradients_of_all_kinds_fail(spoil, size):
    with pytest.raises(GradcheckError, match="is wrong"):
        gradcheck(wrong_square(spoil), np.random.default_rng(2).standard_normal(size))


@pytest.mark.parametrize("factor", [2.0, -1.0, 0.0, 0.5])
def test_mistakes_in_softmax_that_a_cotangent_of_ones_would_hide_are_found(factor):
    class WrongSoftmax(ops.OPS[ops.OPS.index(type_named("Softmax"))]):  # type: ignore[misc]
        def backward(self, dy):
            return factor * super().backward(dy)

    with pytest.raises(GradcheckError):
        gradcheck(lambda x: apply(WrongSoftmax(), x), np.random.default_rng(3).standard_normal((2, 4)))


def type_named(name):
    return next(op for op in ops.OPS if op.__name__ == name)


def test_kinks_are_reported_and_do_not_fail():
    report = gradcheck(ops.relu, np.array([0.0, 1.0, -1.0, 3e-7, 0.5, -2e-7]))
    assert [index for _, index in report.kinks] == [(0,)]  # a smaller step leaves a kink beside the point behind
    assert report.skipped == {"x0": 1}
    ties = np.array([[1.0, 1, 2, 3, 4, 5], [0, 0, 3, 3, 6, 7]]).reshape(1, 1, 2, 6)
    report = gradcheck(lambda x: ops.max_pool2d(x, 2), ties)
    assert {index[2:] for _, index in report.kinks} == {(0, 0), (0, 1), (0, 3), (1, 2), (1, 3)}


def test_a_wrong_gradient_hides_behind_no_kink():
    class WrongRelu(type_named("ReLU")):  # type: ignore[misc]
        def backward(self, dy):
            return 2 * dy  # at 0 the slopes are 0 and 1

    with pytest.raises(GradcheckError, match=r"x0\[0\].*between 0 and|x0\[0\].*\(a kink\)"):
        gradcheck(lambda x: apply(WrongRelu(), x), np.array([0.0, 1.0, 2.0, 3.0]))


def test_where_most_elements_sit_on_kinks_the_check_goes_a_little_beside_the_point():
    report = gradcheck(ops.relu, np.zeros(5))
    assert report.skipped == {"x0": 5} and report.beside == ["x0"] and report.elements == 5

    class Doubled(type_named("ReLU")):  # type: ignore[misc]
        def backward(self, dy):
            return super().backward(dy) + dy * (self.x_was > 0)

        def forward(self, x):
            self.x_was = x
            return super().forward(x)

        keeps_output = True

    with pytest.raises(GradcheckError, match="is wrong"):  # 0 at 0 is right; 2 beside it is not
        gradcheck(lambda x: apply(Doubled(), x), np.zeros(5))


def test_kinks_everywhere_are_an_error_because_nothing_was_checked():
    """Steps of 1e-6, up and down: every point is within eps of a kink."""
    class Saw(Function):
        name = "saw"

        def forward(self, x):
            return abs(x * 1e6 % 2 - 1) * 1e-6

        def backward(self, dy):
            return dy

    with pytest.raises(GradcheckError):
        gradcheck(lambda x: apply(Saw(), x), np.linspace(0.1, 1, 9))


def test_a_kink_in_a_large_input_is_stepped_around():
    x = np.random.default_rng(4).standard_normal(2000)
    x[[3, 1500]] = 0
    report = gradcheck(ops.relu, x)
    assert sorted(report.kinks) == [("x0", (3,)), ("x0", (1500,))]


def test_integer_inputs_are_passed_on_and_not_checked():
    labels = np.array([0, 2, 1])
    report = gradcheck(ops.cross_entropy, [np.random.default_rng(5).standard_normal((3, 4)), labels])
    assert report.elements == 12


def test_parameters_are_checked_in_float64_and_get_their_own_arrays_back():
    w = Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    w.grad = np.full((2, 3), 7, np.float32)
    data, grad = w.data, w.grad
    report = gradcheck(lambda x: ops.linear(x, w), np.random.default_rng(6).standard_normal((4, 3)), parameters={"w": w})
    assert report.elements == 18
    assert w.data is data and w.grad is grad and w.requires_grad
    with pytest.raises(GradcheckError, match=r"w\[0, 0\]"):
        gradcheck(lambda x: ops.linear(x, w) + ops.relu(w.detach()).sum() * 2.0, np.ones((4, 3)), parameters=[("w", w)])
    assert w.data is data and w.dtype == np.float32, "a failed check left the parameter changed"


def test_several_outputs_are_checked_together():
    f = lambda x: (x * 2.0, (x * x).sum())  # noqa: E731
    assert gradcheck(f, np.ones(3)).elements == 3
    with pytest.raises(GradcheckError):
        gradcheck(lambda x: (x * 2.0, wrong_square(lambda dx, x, dy: -dx)(x)), np.ones(3))


@pytest.mark.parametrize("f, error, words", [
    (lambda x: ops.dropout(x), GradcheckError, "not deterministic"),
    (lambda x: x.detach() * 2.0, GradcheckError, "does not depend on its inputs"),
    (lambda x: x.numpy(), TypeError, "must return a Tensor"),
    (lambda x: x.astype(np.float32), TypeError, "turned float64 inputs into float32"),
    (lambda x: x / 0.0, GradcheckError, "returned Inf"),
])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_cannot_be_checked_is_said(f, error, words):
    with pytest.raises(error, match=words):
        gradcheck(f, np.random.default_rng(7).uniform(1, 2, 20))


def test_a_function_that_writes_into_its_input_is_caught():
    def f(x):
        y = x * 2.0
        if y.requires_grad:
            x.data[0] += 1.0
        return y

    with pytest.raises(GradcheckError, match="wrote into x0"):
        gradcheck(f, np.ones(3))


@pytest.mark.parametrize("options, words", [
    (dict(eps=0), "eps > 0"), (dict(rtol=-1), "rtol, atol >= 0"), (dict(names=["a", "b"]), "2 names for 1 inputs"),
])
def test_bad_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        gradcheck(ops.relu, np.ones(2), **options)


def test_nothing_to_check_is_refused():
    with pytest.raises(ValueError, match="nothing to check"):
        gradcheck(lambda x: x, np.array([1, 2]))


def test_dropout_can_be_checked_with_a_seed_inside():
    def f(x):
        minidl.manual_seed(0)
        return ops.dropout(x, p=0.4)

    gradcheck(f, np.random.default_rng(8).standard_normal(30))


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_right_gradients_pass_at_every_scale_and_seed(scale):
    """No false alarm over operations, seeds and magnitudes: rounding is accounted for."""
    for seed in range(10):
        x = np.random.default_rng(seed).standard_normal((3, 4)) * scale
        gradcheck(lambda x: (x * x).sum(axis=0) + x.mean() * 1e3, x, seed=seed)
        gradcheck(ops.log_softmax, x / scale, seed=seed)
        gradcheck(lambda x: ops.leaky_relu(x).var(axis=1), x, seed=seed)


def test_the_same_seed_gives_the_same_report():
    x = np.random.default_rng(0).standard_normal(1000)
    assert str(gradcheck(ops.sigmoid, x, seed=3)) == str(gradcheck(ops.sigmoid, x, seed=3))


def test_names_that_clash_are_refused_because_one_would_hide_the_other():
    w = Tensor(np.ones(3), requires_grad=True)
    with pytest.raises(ValueError, match="need different names"):
        gradcheck(lambda x, y: x * y, [np.ones(3), np.ones(3)], names=["a", "a"])
    with pytest.raises(ValueError, match="need different names"):
        gradcheck(lambda x: x * w, np.ones(3), parameters={"x0": w})


def test_parameters_may_be_bare_tensors_and_nothing_else():
    w = Tensor(np.ones(3), requires_grad=True)
    assert gradcheck(lambda x: x * w, np.ones(3), parameters=[w]).elements == 6
    for parameters in ([("w", 3)], [3], {1: w}, {"n": Tensor(np.array([1, 2]))}):
        with pytest.raises(TypeError, match=r"net\.named_parameters\(\)"):
            gradcheck(lambda x: x * w, np.ones(3), parameters=parameters)


def test_a_checked_net_keeps_its_running_statistics():
    net = minidl.nn.BatchNorm2d(2)
    before = net.state_dict()
    gradcheck(net, np.random.default_rng(0).standard_normal((3, 2, 2, 2)), parameters=net.named_parameters())
    for name, x in net.state_dict().items():
        np.testing.assert_array_equal(x, before[name])


class WritesIntoItsInput(Function):
    name = "writes"

    def forward(self, x):
        array_module(x).maximum(x, 0, out=x)
        self.m = x > 0
        return x * 1

    def backward(self, dy):
        return dy * self.m


def test_a_function_whose_forward_destroys_its_input_is_named_as_such():
    for f in (lambda x: apply(WritesIntoItsInput(), x), lambda x: (x.data.fill(1.0), x * 2.0)[1]):
        with pytest.raises(GradcheckError, match="wrote into x0"):
            gradcheck(f, np.array([-1.0, 2, -3, 4]))


def test_a_check_of_nothing_is_no_check():
    with pytest.raises(GradcheckError, match="nothing was checked"):
        gradcheck(lambda x: x * 2.0, np.zeros((0, 3)))
    for options in (dict(projections=0), dict(projections=-5), dict(max_elements=-1), dict(seed="a"), dict(seed=-1)):
        with pytest.raises(ValueError, match="must be an integer of at least"):
            gradcheck(lambda x: x * 2.0, np.ones(3), **options)
    with pytest.raises(TypeError, match="eps must be a number"):
        gradcheck(lambda x: x * 2.0, np.ones(3), eps="a")
    with pytest.raises(ValueError, match="eps must be finite"):
        gradcheck(lambda x: x * 2.0, np.ones(3), eps=float("nan"))
    with pytest.raises(TypeError, match="f must be a function"):
        gradcheck(Tensor([1.0]), np.ones(3))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_point_without_a_slope_is_named():
    with pytest.raises(GradcheckError, match=r"not finite within eps = 1e-06 of x0\[0\] = 0.*move the input"):
        gradcheck(lambda x: x.sqrt(), np.array([0.0, 2.0]))


def test_gradcheck_works_inside_no_grad_and_takes_a_net_for_its_parameters():
    net = minidl.nn.Linear(3, 2)
    with minidl.no_grad():
        assert gradcheck(net, np.ones((2, 3)), parameters=net).elements == 6 + 8
