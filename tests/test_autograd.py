"""The engine: what is recorded, the walk back, accumulation, freeing, hooks, and what it refuses."""
import gc
import threading
import weakref

import numpy as np
import pytest

import minidl
from minidl import Function, Tensor, apply, detect_anomaly, gradcheck, no_grad, ops


def leaf(*shape, seed=0, dtype=np.float64):
    return Tensor(np.random.default_rng(seed).standard_normal(shape).astype(dtype), requires_grad=True)


# --- tensors -------------------------------------------------------------------------------------------------------


@pytest.mark.cpu("that an array is not copied can be seen where it was made")
def test_numbers_and_lists_become_float32_and_arrays_keep_their_dtype_and_memory():
    assert Tensor(1).dtype == Tensor([1, 2]).dtype == Tensor([[1.5]]).dtype == np.float32
    for dtype in (np.float64, np.float32, np.int64, np.uint8, bool):
        x = np.ones(3, dtype)
        assert Tensor(x).dtype == dtype and Tensor(x).data is x
    assert Tensor(np.float64(2)).dtype == np.float64


@pytest.mark.parametrize("x, words", [
    (np.array([1j]), "no real number"), (np.array(["a"]), "no real number"), ("abc", "needs numbers"),
    ([[1, 2], [3]], "rectangular"),
    (None, "needs numbers"), ([None, 1.0], "needs numbers"), ([Tensor([1.0])], "minidl.stack"), ("1.5", "needs numbers"),
    (Tensor([1.0]), "detach"), (np.array([None]), "no real number"),
])
def test_what_is_no_array_of_real_numbers_is_refused(x, words):
    with pytest.raises(TypeError, match=words):
        Tensor(x)


def test_integers_carry_no_gradient():
    with pytest.raises(TypeError, match="carries no gradient"):
        Tensor(np.array([1, 2]), requires_grad=True)
    x = leaf(3)
    assert not (x.astype(np.int64)).requires_grad
    assert not (x > 0).requires_grad and (x > 0).dtype == bool


def test_a_tensor_never_turns_into_an_array_silently():
    with pytest.raises(TypeError, match=r"t\.numpy\(\)"):
        np.asarray(Tensor([1.0]))
    y = np.ones(2, np.float32) * Tensor([1.0, 2.0])  # and NumPy leaves operators to the tensor
    assert isinstance(y, Tensor) and y.numpy().tolist() == [1, 2]


@pytest.mark.cpu("elsewhere the device is printed, too")
def test_tensors_print_their_values_dtype_and_origin():
    x = Tensor([1.0, 2.0], requires_grad=True)
    assert repr(x) == "Tensor([1., 2.], float32, requires_grad)"
    assert repr(x * 2) == "Tensor([2., 4.], float32, made by multiply)"


def test_len_iteration_truth_and_item():
    x = Tensor([[1.0, 2.0], [3.0, 4.0]])
    assert len(x) == 2 and [row.numpy().tolist() for row in x] == [[1, 2], [3, 4]]
    assert Tensor(3.0).item() == 3.0 and float(Tensor([2.0])) == 2.0 and bool(Tensor([1.0]))
    with pytest.raises(ValueError, match="ambiguous"):
        bool(x)
    with pytest.raises(ValueError, match="one element"):
        x.item()
    with pytest.raises(TypeError, match="no length"):
        len(Tensor(1.0))


# --- operators -----------------------------------------------------------------------------------------------------

OPERATORS = {
    "x + y": lambda x, y: x + y, "x - y": lambda x, y: x - y, "x * y": lambda x, y: x * y, "x / y": lambda x, y: x / y,
    "2 - x": lambda x, y: 2 - x, "2 / y": lambda x, y: 2 / y, "3 + x": lambda x, y: 3 + x, "3 * x": lambda x, y: 3 * x,
    "y ** 3": lambda x, y: y**3, "y ** -.5": lambda x, y: (y * y) ** -.5, "2 ** x": lambda x, y: 2**x, "-x": lambda x, y: -x,
    "x @ y.T": lambda x, y: x @ y.T, "array + x": lambda x, y: np.ones((2, 3)) + x,
    "array @ y.T": lambda x, y: np.ones((2, 3)) @ y.T, "x.sum(0)": lambda x, y: x.sum(axis=0),
    "x.mean()": lambda x, y: x.mean(), "y.max(1)": lambda x, y: y.max(axis=1), "x.var(1)": lambda x, y: x.var(axis=1),
    "x.reshape": lambda x, y: x.reshape(3, -1), "x.transpose": lambda x, y: x.transpose(1, 0), "exp": lambda x, y: x.exp(),
    "log": lambda x, y: (y * y).log(), "sqrt": lambda x, y: (y * y + 1).sqrt(), "tanh": lambda x, y: x.tanh(),
    "concat": lambda x, y: minidl.concat([x, y], axis=1), "stack": lambda x, y: minidl.stack([x, y, x], axis=1),
    "pad": lambda x, y: minidl.pad(x, ((0, 1), (2, 0)), value=3.0), "where": lambda x, y: minidl.where(x > y, x, y),
    "x[mask]": lambda x, y: x[x > 0], "x[i]": lambda x, y: x[1], "x[:, ::2]": lambda x, y: x[:, ::2],
    "x[repeats]": lambda x, y: x[np.array([0, 1, 1, 0, 1])], "x[tensor]": lambda x, y: x[Tensor(np.array([1, 1]))],
    "x + x * y + x": lambda x, y: x + x * y + x, "astype": lambda x, y: x.astype(np.float64) * y,
}


@pytest.mark.parametrize("expression", OPERATORS, ids=OPERATORS.keys())
def test_gradients_of_every_operator_agree_with_measured_slopes(expression):
    rng = np.random.default_rng(1)
    gradcheck(OPERATORS[expression], [rng.standard_normal((2, 3)), rng.uniform(0.5, 2, (2, 3)) * rng.choice([-1, 1], (2, 3))])


def test_numbers_take_the_dtype_of_the_tensor_and_integers_join_floats():
    for dtype in (np.float32, np.float64):
        x = Tensor(np.ones(2, dtype), requires_grad=True)
        for y in (x + 1, 1.5 * x, x / np.float64(3), x**2, x - True, x * np.arange(2), (x > 0) * x,
                  x / Tensor(np.array([1, 2]))):
            assert y.dtype == dtype
    n = Tensor(np.array([3, 4]))
    assert (n + 1).dtype == np.int64 and (n * 0.5).dtype == np.float32 and (n / 2).dtype == np.float32


def test_two_floating_dtypes_are_not_mixed():
    with pytest.raises(TypeError, match=r"add: x is float32 but y is float64.*y.astype\(np.float32\)"):
        Tensor([1.0]) + np.array([1.0])
    with pytest.raises(TypeError, match="w is float64"):
        ops.linear(Tensor([[1.0]]), Tensor(np.ones((1, 1))))


def test_comparisons_are_boolean_tensors():
    x, y = Tensor([1.0, 2.0, 3.0]), Tensor([3.0, 2.0, 1.0])
    results = [x > y, x >= y, x < y, x <= y, x == y, x != y, x > 2, x == 2]
    want = ["FFT", "FTT", "TFF", "TTF", "FTF", "TFT", "FFT", "FTF"]
    assert ["".join("FT"[int(v)] for v in r.numpy()) for r in results] == want
    with pytest.raises(ValueError, match="do not broadcast"):
        x == Tensor([1.0, 2.0])


@pytest.mark.parametrize("misuse, error, words", [
    (lambda x: x ** x, TypeError, "constant number"), (lambda x: (-2) ** x, TypeError, "positive number"),
    (lambda x: x[5], IndexError, "has no element 5"), (lambda x: x["a"], IndexError, "has no element"),
    (lambda x: x.__setitem__(0, 1), TypeError, "minidl.where"), (lambda x: x.reshape(7), ValueError, "do not fill"),
    (lambda x: x + np.ones(5), ValueError, "do not broadcast"), (lambda x: x @ np.ones((5, 5)), ValueError, "columns"),
    (lambda x: x.sum(axis=3), ValueError, "does not exist"), (lambda x: x.transpose(0, 0), ValueError, "twice"),
    (lambda x: minidl.concat([]), ValueError, "at least one"), (lambda x: x[:, :0].max(axis=1), ValueError, "no elements"),
    (lambda x: minidl.where(x, x, x), TypeError, "boolean"), (lambda x: x.to("gpu"), ValueError, "'cpu' or 'cuda'"),
    (lambda x: Tensor(np.ones(2, np.uint8)) + 300, OverflowError, "does not fit"),
])
def test_misuse_is_refused_in_words(misuse, error, words):
    with pytest.raises(error, match=words):
        misuse(leaf(2, 3))


# --- the walk back -------------------------------------------------------------------------------------------------


def test_shared_branches_accumulate_in_topological_order():
    a = Tensor(1.0, requires_grad=True)
    b = a + a
    c = b + b
    c.backward()
    assert c.item() == 4 and a.grad == 4


def test_gradients_accumulate_over_two_losses_and_are_never_one_array():
    x, y = leaf(3), leaf(3, seed=1)
    (x + y).backward(np.array([1.0, 2.0, 3.0]))
    assert x.grad is not y.grad and not np.shares_memory(x.grad, y.grad)
    (x + y).backward(np.array([1.0, 2.0, 3.0]))
    assert x.grad.tolist() == y.grad.tolist() == [2, 4, 6]


@pytest.mark.parametrize("f", [lambda x: x + 0.0, lambda x: x.reshape(3, 2), lambda x: x.T, lambda x: x.sum(axis=0),
                               lambda x: x[0]])
def test_the_gradient_given_to_backward_is_never_the_array_in_grad(f):
    x = leaf(2, 3)
    y = f(x)
    dy = np.ones(y.shape)
    y.backward(dy)
    assert not np.shares_memory(x.grad, dy)
    assert x.grad.flags.owndata and getattr(x.grad.flags, "writeable", True)


def test_the_same_tensor_twice_in_one_operation_gets_both_gradients():
    x = leaf(2, 3)
    (x * x).sum().backward()
    np.testing.assert_allclose(x.grad, 2 * x.data, rtol=1e-15)


def test_a_leaf_is_its_own_result():
    x = leaf(3)
    x.backward(np.arange(3.0))
    assert x.grad.tolist() == [0, 1, 2]


@pytest.mark.parametrize("depth", [5_000, 20_000])
def test_a_deep_chain_runs_backward_without_recursion(depth):
    x = Tensor(1.0, requires_grad=True)
    y = x
    for _ in range(depth):
        y = y + 1.0
    y.backward()
    assert x.grad == 1
    forgotten = x
    for _ in range(depth):
        forgotten = forgotten + 1.0
    del forgotten  # a graph that never ran backward is let go without recursion, too


def test_an_activation_is_freed_as_soon_as_backward_has_used_it():
    """When the gradient arrives at an early layer, the arrays of the later ones are gone."""
    x = leaf(50)
    alive_at = {}
    y, refs = x, []
    for k in range(4):
        y = y.tanh()
        refs.append(weakref.ref(y.data))
        y.register_hook(lambda dy, k=k: alive_at.__setitem__(k, [r() is not None for r in refs]))
    loss = y.sum()
    del y
    loss.backward()
    # tanh k keeps its own output: at the hook of output k, the outputs of all later ones are freed
    assert alive_at == {3: [True] * 4, 2: [True] * 3 + [False], 1: [True] * 2 + [False] * 2, 0: [True] + [False] * 3}
    assert all(r() is None for r in refs)


def test_an_operation_that_needs_no_values_keeps_none_alive():
    x = leaf(50)
    middle = x * 2.0
    ref = weakref.ref(middle.data)
    y = middle + 1.0
    del middle
    gc.collect()
    assert ref() is None
    y.sum().backward()
    assert (x.grad == 2).all()


def test_a_second_backward_says_what_to_do():
    x = leaf(3)
    loss = (x * x).sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="has run backward before.*call forward again"):
        loss.backward()
    shared = x * x
    a, b = shared.sum(), shared.mean()
    a.backward()
    with pytest.raises(RuntimeError, match="add the losses up"):
        b.backward()


def test_a_parameter_changed_between_forward_and_backward_is_an_error():
    x, w = leaf(3), leaf(3, seed=1)
    for change in (lambda: w.__setattr__("data", w.data * 2), lambda: exec("w.data -= 1", {"w": w})):
        loss = (x * w).sum()
        change()
        with pytest.raises(RuntimeError, match="input y of multiply was changed after forward"):
            loss.backward()
    (x * w).sum().backward()


@pytest.mark.parametrize("start, error, words", [
    (lambda: Tensor([1.0]).backward(), RuntimeError, "no graph"),
    (lambda: leaf(3).backward(), ValueError, r"shape \(3,\) needs a gradient"),
    (lambda: leaf(3).backward(np.ones(4)), ValueError, "must be float64"),
    (lambda: leaf(3).backward(np.ones(3, np.float32)), ValueError, "must be float64"),
    (lambda: Tensor([1.0]).register_hook(print), RuntimeError, "never run"),
    (lambda: leaf(3).__setattr__("data", np.ones(4)), ValueError, "needs a float64 array of shape"),
    (lambda: leaf(3).__setattr__("data", [1, 2, 3]), ValueError, "got list"),
])
def test_misuse_of_backward_is_refused_in_words(start, error, words):
    with pytest.raises(error, match=words):
        start()


def test_detach_shares_data_and_stops_gradients():
    x = leaf(3)
    y = x.detach()
    assert y.data is x.data and not y.requires_grad
    (x * y).sum().backward()
    np.testing.assert_array_equal(x.grad, x.data)


def test_no_grad_records_nothing_in_its_own_thread_only():
    x, recorded = leaf(3), []
    with no_grad():
        assert not (x * 2).requires_grad
        thread = threading.Thread(target=lambda: recorded.append((x * 2).requires_grad))
        thread.start()
        thread.join()
    assert recorded == [True]
    assert (x * 2).requires_grad

    @no_grad()
    def evaluate():
        return x * 2

    assert not evaluate().requires_grad
    with pytest.raises(ZeroDivisionError), no_grad():
        1 / 0
    assert (x * 2).requires_grad, "an exception left recording switched off"


def test_hooks_see_and_may_replace_the_whole_gradient_once():
    x = leaf(3)
    y = x * 2.0
    seen = []
    y.register_hook(lambda dy: seen.append(dy.copy()))
    remove = y.register_hook(lambda dy: dy * 10)
    x.register_hook(lambda dx: seen.append(dx.copy()))
    (y + y).sum().backward()
    assert [s.tolist() for s in seen] == [[2, 2, 2], [40, 40, 40]]  # whole: both uses of y, both factors
    assert x.grad.tolist() == [40, 40, 40]
    remove()
    y = x * 2.0
    y.register_hook(lambda dy: np.ones(2))
    with pytest.raises(ValueError, match="hook: must return None or a float64 array"):
        y.sum().backward()


def test_one_array_returned_by_two_hooks_does_not_join_two_gradients():
    same = np.ones(3)
    x, y = leaf(3), leaf(3)
    for t in (x, y):
        t.register_hook(lambda dy: same)
    (x * y).sum().backward()
    assert not np.shares_memory(x.grad, y.grad) and not np.shares_memory(x.grad, same)


def test_retain_grad_keeps_the_gradient_of_a_computed_tensor():
    x = leaf(3)
    y = (x * 2.0).retain_grad()
    z = y * 3.0
    z.sum().backward()
    assert y.grad.tolist() == [3, 3, 3] and z.grad is None


def test_watch_sees_every_operation():
    names = []
    with minidl.watch(lambda function, inputs, y: names.append((function.name, inputs[0].shape, y.shape))):
        ops.relu(leaf(2, 3)).sum()
    ops.relu(leaf(2, 3))
    assert names == [("relu", (2, 3), (2, 3)), ("sum", (2, 3), ())]


# --- functions of a user's own -------------------------------------------------------------------------------------


class Square(Function):
    name = "square"

    def forward(self, x):
        self.x = x
        return x * x

    def backward(self, dy):
        return 2 * self.x * dy


def test_a_function_of_ones_own_takes_part():
    gradcheck(lambda x: apply(Square(), x), np.random.default_rng(0).standard_normal((2, 3)))


@pytest.mark.parametrize("returned, words", [
    (lambda x, dy: dy.sum(), r"gradient of input x is float64 \(\), but x is float64 \(2, 3\)"),
    (lambda x, dy: (dy, dy), "returned 2 gradients for 1 inputs"), (lambda x, dy: None, "is None, but x requires one"),
    (lambda x, dy: (dy * x).astype(np.float32), "gradient of input x is float32"),
])
def test_a_wrong_backward_is_named(returned, words):
    class Wrong(Square):
        def backward(self, dy):
            return returned(self.x, dy)

    with pytest.raises(ValueError, match=words):
        apply(Wrong(), leaf(2, 3)).sum().backward()


def test_a_function_without_forward_or_backward_says_so():
    with pytest.raises(NotImplementedError, match="must define forward"):
        apply(Function(), leaf(2))
    with pytest.raises(NotImplementedError, match="must define backward"):
        apply(type("Half", (Function,), dict(forward=lambda self, x: x * 1.0))(), leaf(2)).sum().backward()


# --- anomalies -----------------------------------------------------------------------------------------------------


def line_of(words):
    """The number of the line of this file that holds `words`, counted from 1."""
    with open(__file__) as file:
        return 1 + [words in line and "line_of" not in line for line in file].index(True)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_first_nan_of_the_forward_pass_is_named_with_its_line():
    x = Tensor([1.0, -1.0, 2.0], requires_grad=True)
    with detect_anomaly(), pytest.raises(FloatingPointError) as caught:
        z = x.log()  # here is the NaN
        (z * 0).sum()
    message = str(caught.value)
    assert "first NaN in the output of log, at index (1,)" in message
    assert f"test_autograd.py:{line_of('here is the NaN')}" in message


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_infinite_gradient_is_named_with_the_line_of_its_forward_call():
    x = Tensor([0.0, 1.0], requires_grad=True)
    with detect_anomaly():
        y = x.sqrt()  # this slope is infinite
        with pytest.raises(FloatingPointError) as caught:
            y.sum().backward()
    message = str(caught.value)
    assert "first Inf in the gradient of input x of sqrt" in message
    assert f"test_autograd.py:{line_of('this slope is infinite')}" in message


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_nan_that_came_in_from_outside_is_told_apart():
    with detect_anomaly(), pytest.raises(FloatingPointError, match="came in with an input"):
        Tensor([np.nan]) + 1
    (Tensor([np.nan]) + 1).numpy()  # outside the block nothing is checked


def test_anomaly_detection_leaves_a_healthy_computation_alone():
    x = leaf(3)
    with detect_anomaly():
        (x * x).sum().backward()
    np.testing.assert_allclose(x.grad, 2 * x.data)


# --- devices -------------------------------------------------------------------------------------------------------


def test_operations_run_on_every_device(device):
    x = Tensor(np.arange(6.0).reshape(2, 3)).to(device)
    x.requires_grad = True
    (x * x).sum().backward()
    assert x.device == device and type(x.grad) is type(x.data)


@pytest.mark.cpu("brings a CuPy of its own")
def test_mixed_devices_are_refused_and_the_fix_is_named(monkeypatch):
    """With a stand-in for CuPy: an array class of its own, no kernel runs."""
    import sys
    import types

    class CudaArray:
        shape, dtype, ndim, size = (2, 2, 3, 3), np.dtype(np.float32), 4, 36

    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(ndarray=CudaArray))
    w = Tensor(CudaArray())
    assert w.device == "cuda"
    x = Tensor(np.ones((1, 2, 5, 5), np.float32))
    with pytest.raises(ValueError, match=r"conv2d: x is on cpu, w on cuda: move one with x.to\('cuda'\)"):
        ops.conv2d(x, w)
    with pytest.raises(ValueError, match="add: x is on cpu, y on cuda"):
        x + w
    with pytest.raises(ValueError, match="compare: x is on cpu, y on cuda"):
        x > w


def test_cuda_without_cupy_says_what_to_install(monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(RuntimeError, match=r"device 'cuda' needs CuPy and a working GPU.*minidl\[cuda13\]"):
        Tensor([1.0]).to("cuda")


# --- aliases -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("f", [lambda x: x.exp(), ops.relu, ops.softmax, lambda x: x.sqrt(), ops.sigmoid])
def test_an_output_changed_before_backward_is_an_error(f):
    x = Tensor(np.array([[1.0, 2.0]]), requires_grad=True)
    y = f(x)
    y.data *= 10
    with pytest.raises(RuntimeError, match="the output of .* was changed after forward"):
        y.sum().backward()


@pytest.mark.parametrize("view", [lambda x: x.reshape(3, 1), lambda x: x[:2], lambda x: x.T, lambda x: x.detach(),
                                  lambda x: x.to(x.device)])
def test_a_change_through_a_view_is_noticed(view):
    x = leaf(3)
    z = (x * x).sum()
    h = view(x)
    h.data *= 3
    with pytest.raises(RuntimeError, match="was changed after forward"):
        z.backward()
    with no_grad():
        v = view(x)
    z = (v * leaf(*v.shape, seed=1)).sum()
    x.data -= 5
    with pytest.raises(RuntimeError, match="was changed after forward"):
        z.backward()


def test_an_index_shuffled_after_forward_does_not_move_the_gradient():
    index = np.array([0, 2])
    for part in (index, (index,), (slice(0, 4), index)):
        x = leaf(4) if not isinstance(part, tuple) or len(part) == 1 else leaf(4, 4)
        y = x[part]
        index[:] = 1
        y.sum().backward()
        index[:] = [0, 2]
        assert (x.grad != 0).reshape(-1, 4)[-1].tolist() == [True, False, True, False]


def test_a_function_serves_one_call_only():
    square = Square()
    y = apply(square, leaf(2))
    with pytest.raises(RuntimeError, match=r"applied before.*apply\(Square\(\.\.\.\), x\)"):
        apply(square, leaf(2, seed=1))
    y.sum().backward()


def test_a_gradient_hidden_in_a_saved_tuple_is_copied_for_the_leaf():
    class Hides(Function):
        name = "hides"

        def forward(self, x, y):
            self.saved = x, y
            return x + y

        def backward(self, dy):
            return self.saved[1], self.saved[0]

    x, y = leaf(3), leaf(3, seed=1)
    apply(Hides(), x, y).sum().backward()
    assert not np.shares_memory(x.grad, y.data)
    assert not np.shares_memory(y.grad, x.data)


def test_a_hook_that_raises_leaves_no_gradient_half_way():
    x, y = leaf(3), leaf(3, seed=1)
    y.register_hook(lambda dy: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        (x * y).sum().backward()
    assert x.grad is None
    assert y.grad is None


def test_a_product_with_a_constant_does_not_keep_its_input():
    for f in (lambda h: h * 0.5, lambda h: h / 2.0, lambda h: h @ np.ones((3, 2)), lambda h: ops.linear(h, np.ones((2, 3)))):
        h = leaf(4, 3) * 1.0
        ref = weakref.ref(h.data)
        y = f(h)
        del h
        assert ref() is None
        y.sum().backward()


def test_a_computed_tensor_does_not_leave_its_graph_by_to():
    with pytest.raises(RuntimeError, match="to: this tensor was computed by multiply"):
        (leaf(3) * 2.0).to("cpu")


def test_joining_integers_with_floats_gives_floats():
    x = Tensor([1.0, 2.0], requires_grad=True)
    for join in (minidl.concat, minidl.stack):
        y = join([x, np.array([1, 2])])
        assert y.dtype == np.float32
        y.sum().backward()
    assert x.grad.tolist() == [2, 2]
    assert minidl.where([True, False], x, 0.0).numpy().tolist() == [1, 0]


@pytest.mark.parametrize("misuse, error, words", [
    (lambda x: x.argmax(axis=5), ValueError, "argmax: axis 5 does not exist"),
    (lambda x: x.argmax(axis="a"), TypeError, "argmax"),
    (lambda x: x.astype("foo"), TypeError, "no dtype"), (lambda x: x.astype(complex), TypeError, "no real numbers"),
    (lambda x: x.sum().backward("a"), TypeError, "must be numbers"), (lambda x: minidl.concat(3), TypeError, "list of tensors"),
    (lambda x: minidl.pad(x, ((0, 0), (1, 1)), "a"), TypeError, "value must be a number"),
    (lambda x: minidl.pad(np.ones(2, int), ((1, 1),), 1.5), TypeError, "does not fit into int64"),
    (lambda x: f"{x:.2f}", ValueError, "one element"),
])
def test_more_misuse_is_refused_in_words(misuse, error, words):
    with pytest.raises(error, match=words):
        misuse(leaf(2, 3))


def test_small_conveniences():
    assert f"{Tensor(1.5):.3f}" == "1.500"
    assert (Tensor([1.0]) == None) is False  # noqa: E711  # what `in` and careless comparisons do
    assert Tensor(np.zeros((0, 3))).argmax(axis=1).shape == (0,)


@pytest.mark.parametrize("misuse, error, words", [
    (lambda x: apply(Square, x), TypeError, r"write apply\(Square\(\), x\)"),
    (lambda x: apply(lambda a: a, x), TypeError, "needs an instance of a Function"),
    (lambda x: Square()(x), TypeError, r"minidl\.apply\(Square\(\.\.\.\), x\)"),
    (lambda x: apply(type("Two", (Square,), dict(forward=lambda self, x: (x, x)))(), x), TypeError, "must return one array"),
    (lambda x: apply(type("Nothing", (Square,), dict(forward=lambda self, x: None))(), x), TypeError, "must return one array"),
    (lambda x: x.register_hook(5), TypeError, "needs a function"), (lambda x: minidl.watch(3), TypeError, "needs a function"),
    (lambda x: x.__setattr__("grad", np.ones(7)), ValueError, r"Tensor\.grad: must be None or a float64 array"),
    (lambda x: x.__setattr__("grad", Tensor(np.ones((2, 3)))), ValueError, "got Tensor"),
    (lambda x: ops.dropout(x, 0.5, "eval"), TypeError, "training must be True or False"),
])
def test_careless_calls_are_told_what_to_write(misuse, error, words):
    with pytest.raises(error, match=words):
        misuse(leaf(2, 3))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_anomaly_named_is_the_one_at_the_index_named():
    with detect_anomaly(), pytest.raises(FloatingPointError, match=r"first Inf in the output of log, at index \(0,\)"):
        Tensor([0.0, -1.0]).log()


def test_labels_may_be_a_plain_list():
    x = leaf(2, 3)
    assert ops.cross_entropy(x, [0, 2]).item() == ops.cross_entropy(x, np.array([0, 2])).item()


def test_enable_grad_records_inside_no_grad():
    x = leaf(3)
    with no_grad(), minidl.enable_grad():
        y = (x * 2.0).sum()
    y.backward()
    assert x.grad.tolist() == [2, 2, 2]


# --- shapes without computing ----------------------------------------------------------------------------------------


def test_shapes_only_holds_for_one_thread_and_ends_with_its_block():
    seen = {}

    def elsewhere():
        seen["thread"] = ops.relu(Tensor([1.0])).item()

    with minidl.shapes_only():
        with minidl.shapes_only():
            pass
        assert ops.relu(Tensor([1.0])).item() == 0
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    with pytest.raises(ValueError, match="relu|broadcast"), minidl.shapes_only():
        Tensor([1.0, 2.0]) + Tensor([1.0, 2.0, 3.0])
    assert ops.relu(Tensor([1.0])).item() == 1 and seen == {"thread": 1}


def test_shapes_only_records_nothing_even_where_recording_is_asked_for():
    w = Tensor(np.ones((2, 3)), requires_grad=True)
    with minidl.shapes_only(), minidl.enable_grad():
        y = ops.linear(np.ones((4, 3)), w)
    assert y.node is None and not y.requires_grad


def test_shapes_only_keeps_dtypes():
    x = Tensor(np.ones((2, 3), np.float32))
    with minidl.shapes_only():
        assert x.astype(np.float64).dtype == np.float64
        assert (x * 2.0).dtype == np.float32
