"""Modules: what is found among their attributes, and how it is moved, saved and loaded."""
import copy
import pickle
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from minidl.autograd import Tensor
from minidl.nn import BatchNorm1d, BatchNorm2d, Dropout, Linear, Module, ModuleList, Parameter, ReLU, Sequential
from minidl.nn.calls import watch_calls


class Block(Module):
    """A parameter after a child, and a buffer: an order that state_dict must not simply copy."""

    def __init__(self):
        self.inner = Linear(2, 3)
        self.scale = Parameter([1.0, 2.0])
        self.register_buffer("count", np.array(7, np.int64))

    def forward(self, x):
        return self.inner(x * self.scale)


class Net(Module):
    def __init__(self):
        super().__init__()
        self.first = Block()
        self.bias = Parameter(np.zeros(3, np.float32))
        self.norm = BatchNorm1d(3)

    def forward(self, x):
        return self.norm(self.first(x) + self.bias)


class Tied(Module):
    def __init__(self):
        self.encode = Linear(2, 2, bias=False)
        self.decode = Linear(2, 2, bias=False)
        self.decode.weight = self.encode.weight


def filled(net, seed=0):
    rng = np.random.default_rng(seed)
    net.load_state_dict({name: rng.uniform(0.5, 2, x.shape) if x.dtype.kind == "f" else x + 1
                         for name, x in net.state_dict().items()})
    return net


# --- finding -------------------------------------------------------------------------------------------------------


def test_state_dict_lists_own_parameters_then_buffers_then_children():
    assert list(Net().state_dict()) == [
        "bias", "first.scale", "first.count", "first.inner.weight", "first.inner.bias",
        "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"]


def test_parameters_buffers_and_modules_have_dotted_names():
    net = Net()
    assert [name for name, _ in net.named_parameters()] == [
        "bias", "first.scale", "first.inner.weight", "first.inner.bias", "norm.weight", "norm.bias"]
    assert [name for name, _ in net.named_buffers()] == [
        "first.count", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"]
    assert [name for name, _ in net.named_modules()] == ["", "first", "first.inner", "norm"]
    assert list(net.children()) == [net.first, net.norm]
    assert all(a is b for a, b in zip(net.buffers(), [net.first.count, net.norm.running_mean]))


def test_a_module_works_without_calling_the_constructor_of_its_base():
    block = Block()
    assert block.training and len(list(block.parameters())) == 3
    block.eval()
    assert not block.training and Block().training  # the class's default is not touched


def test_a_shared_parameter_comes_once_but_is_saved_under_each_name():
    net = Tied()
    assert [name for name, _ in net.named_parameters()] == ["encode.weight"]
    assert list(net.state_dict()) == ["encode.weight", "decode.weight"]


def test_a_shared_module_comes_once():
    layer = Linear(2, 2)
    net = Sequential(layer, ReLU(), layer)
    assert [name for name, _ in net.named_modules()] == ["", "0", "1"]
    assert len(list(net.parameters())) == 2
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


@pytest.mark.parametrize("value", [[Linear(1, 1)], (Linear(1, 1),), {"a": Linear(1, 1)}, {Linear(1, 1)}, [Parameter([1.0])],
                                   [[ReLU()]], {"a": [ReLU()]}], ids=lambda value: type(value).__name__)
def test_plain_containers_of_parts_are_refused_wherever_parts_are_looked_for(value):
    net = Sequential(Module())
    net[0].blocks = value
    for look in (net.parameters, net.state_dict, net.modules, net.to, net.eval, net.zero_grad):
        with pytest.raises(TypeError, match=r"Module.blocks is a plain .* wrap Modules in nn.ModuleList"):
            list(look() or ())


def test_containers_of_other_things_are_fine():
    net = Module()
    net.sizes, net.names, net.data = [1, [2]], {"a": "b"}, [Tensor([1.0])]
    assert net.state_dict() == {}


def test_a_module_that_holds_its_parent_is_refused_by_name():
    net = Sequential(Module())
    net[0].parent = net
    with pytest.raises(ValueError, match=r"Sequential at '0.parent' contains itself"):
        list(net.parameters())
    assert "..." in repr(net)


def test_a_module_without_forward_says_so():
    class Forgetful(Module):
        def foward(self, x):
            return x

    with pytest.raises(NotImplementedError, match="Forgetful must define forward"):
        Forgetful()(1)


# --- parameters and buffers ----------------------------------------------------------------------------------------


def test_a_parameter_is_a_leaf_of_its_own_memory():
    x = np.ones(3)
    p = Parameter(x)
    p.data += 1
    assert p.requires_grad and p.dtype == np.float64 and x.tolist() == [1, 1, 1]
    assert not Parameter([1.0], requires_grad=False).requires_grad
    with pytest.raises(TypeError, match="carries no gradient"):
        Parameter(np.arange(3))


@pytest.mark.parametrize("name, array, error, words", [
    ("a.b", np.ones(1), ValueError, "name must be that of an attribute"),
    (3, np.ones(1), ValueError, "name must be that of an attribute"),
    ("forward", np.ones(1), ValueError, "taken already"),
    ("mean", [1.0], TypeError, "must be an array, got list"),
    ("mean", Tensor([1.0]), TypeError, "must be an array, got Tensor"),
])
def test_register_buffer_refuses(name, array, error, words):
    with pytest.raises(error, match=words):
        Module().register_buffer(name, array)


def test_a_buffer_is_copied_and_stays_one_through_assignment_and_arithmetic():
    net, x = Module(), np.zeros(2)
    net.register_buffer("total", x)
    net.register_buffer("count", np.array(1))
    net.total += 1
    net.count = net.count + 1  # NumPy makes this a scalar
    assert x.tolist() == [0, 0]
    assert net.state_dict()["count"].shape == () and int(net.state_dict()["count"]) == 2
    net.total = "gone"
    with pytest.raises(TypeError, match="total was registered as a buffer, but now is a str"):
        net.state_dict()


# --- modes, gradients, moving --------------------------------------------------------------------------------------


def test_train_and_eval_reach_every_module_and_return_the_net():
    net = Sequential(Sequential(Dropout()), BatchNorm1d(2))
    assert net.eval() is net and not any(m.training for m in net.modules())
    assert net.train() is net and all(m.training for m in net.modules())
    with pytest.raises(TypeError, match="mode must be True or False"):
        net.train("yes")


def test_zero_grad_forgets_every_gradient():
    net = Net()
    net(Tensor(np.random.default_rng(0).standard_normal((4, 2)).astype(np.float32))).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_to_converts_in_place_and_keeps_identities_and_integers():
    net = Net()
    parameters = list(net.parameters())
    assert net.to(dtype=np.float64) is net
    assert all(a is b for a, b in zip(parameters, net.parameters()))
    assert {p.dtype for p in parameters} == {np.dtype(np.float64)}
    assert net.norm.running_var.dtype == np.float64 and net.norm.num_batches_tracked.dtype == np.int64
    assert net(Tensor(np.ones((2, 2)))).dtype == np.float64


def test_what_was_shared_stays_shared_when_moved():
    net = Sequential(Tied(), BatchNorm1d(2), BatchNorm1d(2))
    net[2].running_mean = net[1].running_mean
    net.to(dtype=np.float64)
    assert net[0].encode.weight is net[0].decode.weight
    assert net[2].running_mean is net[1].running_mean and net[1].running_mean is not net[1].running_var


def test_to_tells_a_waiting_graph_only_of_real_changes():
    layer, x = Linear(2, 1), Tensor([[1.0, 2.0]])
    y = layer(x).sum()
    layer.to(layer.weight.device, dtype=np.float32)
    y.backward()
    y = layer(x).sum()
    layer.to(dtype=np.float64)
    with pytest.raises(RuntimeError, match="changed after forward"):
        y.backward()


@pytest.mark.parametrize("options, error, words", [
    (dict(device="gpu"), ValueError, "device must be 'cpu' or 'cuda', got 'gpu'"),
    (dict(device=np.float64), ValueError, "a dtype goes by name"),
    (dict(dtype=np.int32), TypeError, "floating"),
    (dict(dtype="nonsense"), TypeError, "floating"),
])
def test_to_refuses(options, error, words):
    with pytest.raises(error, match=words):
        Net().to(**options)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["deepcopy", "pickle"])
def test_copies_of_a_net_share_nothing_with_it_but_within_themselves(duplicate):
    net = Sequential(Tied(), BatchNorm1d(2))
    twin = duplicate(net)
    assert twin[0].encode.weight is twin[0].decode.weight
    before = net.state_dict()
    for p in twin.parameters():
        p.data += 1
    twin[1].running_mean += 1
    assert all(np.array_equal(before[k], x) for k, x in net.state_dict().items())


# --- saving and loading --------------------------------------------------------------------------------------------


def test_state_dict_holds_copies():
    net = Net()
    state = net.state_dict()
    for x in state.values():
        x += 1
    assert net.bias.data.tolist() == [0, 0, 0] and net.norm.running_var.tolist() == [1, 1, 1]
    assert int(net.norm.num_batches_tracked) == 0
    assert state["norm.num_batches_tracked"].dtype == np.int64 and state["norm.num_batches_tracked"].shape == ()


def test_what_was_saved_is_what_is_loaded_and_nothing_is_shared():
    source, target = filled(Net()), Net()
    state = source.state_dict()
    parameters = list(target.parameters())
    assert target.load_state_dict(state) == ([], [])
    assert all(np.array_equal(x, source.state_dict()[k]) for k, x in target.state_dict().items())
    assert all(a is b for a, b in zip(parameters, target.parameters()))
    for x in state.values():
        x += 1
    assert all(np.array_equal(x, source.state_dict()[k]) for k, x in target.state_dict().items())


def test_loading_converts_to_the_dtype_that_is_there_and_takes_tensors():
    net = Linear(2, 1)
    net.load_state_dict({"weight": np.array([[1, 2]]), "bias": Tensor(np.array([0.5]))})
    assert net.weight.dtype == net.bias.dtype == np.float32
    assert net.weight.data.tolist() == [[1, 2]] and net.bias.data.tolist() == [0.5]


def test_loading_tells_a_waiting_graph():
    net = Linear(2, 1)
    y = net(Tensor([[1.0, 2.0]])).sum()
    net.load_state_dict(net.state_dict())
    with pytest.raises(RuntimeError, match="changed after forward"):
        y.backward()


def test_one_error_lists_everything_that_does_not_fit_and_nothing_changes():
    net = filled(Net())
    before = net.state_dict()
    state = {k: x + 1 for k, x in before.items()}
    del state["bias"]
    state["norm.running_mean"] = np.zeros(5)
    state["first.scale"] = "text"
    state["first.inner.weight"] = np.zeros((2, 3))
    state["norm.num_batches_tracked"] = np.array(0.5)
    state["norm.weight"] = np.array(["a", "b", "c"])
    state["head"] = np.zeros(1)
    with pytest.raises(ValueError) as caught:
        net.load_state_dict(state)
    for words in ("do not fit Net: 7; nothing was loaded", "missing: bias (3,)", "unexpected: head",
                  "misshapen: norm.running_mean is (5,), expected (3,)", "no array: first.scale is a str",
                  "misshapen: first.inner.weight is (2, 3), expected (3, 2), its transpose",
                  "no integers: norm.num_batches_tracked is float64", "no numbers: norm.weight is <U1", "likely fix"):
        assert words in str(caught.value), f"{words!r} not in {caught.value}"
    assert all(np.array_equal(before[k], x) for k, x in net.state_dict().items())


def test_not_strict_loads_what_fits_and_reports_the_rest_but_refuses_wrong_shapes():
    net = Linear(2, 1)
    report = net.load_state_dict({"weight": np.ones((1, 2)), "extra": np.ones(1)}, strict=False)
    assert report.missing_keys == ["bias"] and report.unexpected_keys == ["extra"]
    assert net.weight.data.tolist() == [[1, 1]]
    with pytest.raises(ValueError, match=r"misshapen: bias is \(2,\), expected \(1,\)"):
        net.load_state_dict({"weight": np.zeros((1, 2)), "bias": np.ones(2)}, strict=False)
    assert net.weight.data.tolist() == [[1, 1]]


@pytest.mark.parametrize("change, words", [
    (lambda state: {f"module.{k}": x for k, x in state.items()}, r"take the prefix off.*removeprefix\('module.'\)"),
    (lambda state: state | {"0.weight": state["0.weight"].T}, "transpose it"),
    (lambda state: state | {"1.bias": np.zeros(1000)}, "number of classes"),
    (lambda state: state | {"1.bias": None}, "NumPy arrays of numbers"),
    (lambda state: {"features": np.ones(1)}, "another architecture"),
])
def test_the_error_names_the_likely_fix(change, words):
    net = Sequential(Linear(2, 3), BatchNorm1d(3))
    with pytest.raises(ValueError, match=f"likely fix: .*{words}"):
        net.load_state_dict(change(net.state_dict()))


def test_a_checkpoint_that_does_not_count_batches_loads():
    """PyTorch's own from before 2018 do not."""
    net = Sequential(BatchNorm2d(3))
    net[0].num_batches_tracked += 7
    state = {key: x + 1 for key, x in net.state_dict().items() if "tracked" not in key}
    assert net.load_state_dict(state).missing_keys == ["0.num_batches_tracked"]
    assert (net[0].weight.data == 2).all() and int(net[0].num_batches_tracked) == 7
    with pytest.raises(ValueError, match="that do not fit Sequential: 1; nothing"):
        net.load_state_dict({key: x for key, x in state.items() if key != "0.weight"})


@pytest.mark.parametrize("state", [None, [1], Net()], ids=["None", "list", "module"])
def test_what_is_no_mapping_is_refused(state):
    with pytest.raises(TypeError, match="needs a mapping"):
        Net().load_state_dict(state)


# --- containers and printing ---------------------------------------------------------------------------------------


def test_sequential_applies_its_modules_in_order():
    net = Sequential(Linear(2, 3), ReLU(), Linear(3, 1))
    x = Tensor([[1.0, -2.0]])
    assert np.array_equal(net(x).numpy(), net[2](net[1](net[0](x))).numpy())


def test_sequential_is_indexed_sliced_and_iterated_like_a_list():
    a, b, c = Linear(2, 3), ReLU(), Linear(3, 1)
    net = Sequential(a, b, c)
    assert len(net) == 3 and list(net) == [a, b, c] and net[0] is a and net[-1] is c
    tail = net[1:]
    assert isinstance(tail, Sequential) and list(tail) == [b, c] and list(tail.state_dict()) == ["2.weight", "2.bias"]
    with pytest.raises(IndexError, match="index 3 is out of range, it holds 3"):
        net[3]
    with pytest.raises(IndexError):
        net[-4]
    with pytest.raises(TypeError, match="as an attribute by its name: net.0"):
        net["0"]


def test_a_replaced_module_keeps_name_and_place():
    net = Sequential({"conv": Linear(1, 1), "act": ReLU(), "last": Linear(1, 1)})
    head = Linear(1, 4)
    net[1] = head
    assert [name for name, _ in net.named_children()] == ["conv", "act", "last"] and net[1] is head is net.act
    with pytest.raises(TypeError, match="holds Modules"):
        net[0] = 3
    assert len(net) == 3


def test_sequential_takes_names():
    net = Sequential({"fc": Linear(2, 1), "act": ReLU()})
    assert list(net.state_dict()) == ["fc.weight", "fc.bias"] and net.act is net[1]


def test_append_numbers_on():
    net = ModuleList([Linear(1, 1)]).append(Linear(1, 2))
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert list(net[:1].state_dict()) == ["0.weight", "0.bias"]


@pytest.mark.parametrize("make, error, words", [
    (lambda: Sequential(ReLU), TypeError, r"add parentheses, ReLU\(...\)"),
    (lambda: Sequential([ReLU()]), TypeError, r"Sequential\(\*layers\)"),
    (lambda: Sequential(lambda x: x), TypeError, "holds Modules, got function"),
    (lambda: Sequential({"a.b": ReLU()}), ValueError, "without dots"),
    (lambda: Sequential({"forward": ReLU()}), ValueError, "cannot name a module"),
    (lambda: Sequential({"training": ReLU()}), ValueError, "cannot name a module"),
    (lambda: ModuleList(ReLU()), TypeError, "needs a list of modules"),
    (lambda: ModuleList(3), TypeError, "needs a list of modules"),
    (lambda: ModuleList([None]), TypeError, "holds Modules, got NoneType"),
    (lambda: ModuleList([ReLU()])(1), NotImplementedError, "loop over it"),
])
def test_containers_refuse(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_net_prints_as_an_indented_tree():
    assert repr(Sequential(Linear(2, 3), Sequential(ReLU()), BatchNorm1d(3))) == """\
Sequential(
  (0): Linear(2, 3, bias=True)
  (1): Sequential(
    (0): ReLU()
  )
  (2): BatchNorm1d(3, eps=1e-05, momentum=0.1)
)"""


def test_what_would_not_be_trained_does_not_take_the_place_of_a_parameter():
    layer = Linear(2, 2)
    for value in (np.zeros((2, 2), np.float32), Tensor(np.zeros((2, 2), np.float32)), 3.0):
        with pytest.raises(TypeError, match="weight is a Parameter"):
            layer.weight = value
    with pytest.raises(TypeError, match=r"make it a nn\.Parameter"):
        layer.extra = Tensor(np.zeros(2, np.float32), requires_grad=True)
    layer.weight = Parameter(np.ones((2, 2), np.float32))
    layer.bias = None
    layer.last_output = layer(np.ones((1, 2), np.float32))  # a computed tensor may be kept
    assert [name for name, _ in layer.named_parameters()] == ["weight"]


def test_calls_are_watched_in_one_thread_inside_the_block_only():
    net, seen = Sequential(Linear(2, 2), ReLU()), []

    @contextmanager
    def watcher(module):
        seen.append(type(module).__name__)
        yield

    with watch_calls(watcher):
        net(np.ones((1, 2), np.float32))
        thread = threading.Thread(target=lambda: net(np.ones((1, 2), np.float32)))
        thread.start()
        thread.join()
    with pytest.raises(ValueError, match="linear"), watch_calls(watcher):
        net(np.ones((1, 3), np.float32))
    net(np.ones((1, 2), np.float32))
    assert seen == ["Sequential", "Linear", "ReLU", "Sequential", "Linear"]
