"""The whole suite a second time, on device "cuda": `pytest --stand-in`.

A test says `Tensor(x)`, `net = make_net()`, `y.backward(dy)`. In the second run, what a test makes is put on the device:
tensors and nets that a test file constructs, arrays that it hands to an operation, to `backward`, to `.grad`, `.data` or a
buffer. What the package makes inside is left where it is, so that a forgotten move shows as it would on a GPU. Nothing is
placed for a test that takes the `device` fixture, since it moves things itself, nor for one marked `cpu(reason)`.
"""
import functools
import inspect
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import standin

import minidl.models
from minidl import autograd
from minidl.autograd import Tensor
from minidl.backend import is_array, to_device
from minidl.nn import Module

TESTS = str(Path(__file__).parents[1])
PACKAGE = Path(autograd.__file__).parent
OPERATIONS = tuple(str(PACKAGE / part) for part in ("ops", "autograd.py", "nn", "checking", "models"))
DOORS = {"apply", "as_tensor", "_argument", "_operands", "_compare"}
"""The functions of the package through which every user's array becomes a tensor."""
CONVERSIONS = {"to_fully_convolutional"}
"""What makes a net from a net, and leaves it where that is."""


class Placing:
    """Whether what tests make goes to the device just now, and how many constructors are running inside each other."""

    on = False
    depth = 0
    placed = False
    """Whether anything of the test that runs went there."""
    tests = 0
    """How many tests had something there."""


def begin():
    """Puts the stand-in in CuPy's place for the rest of the process, and a hand between the tests and the package."""
    standin.install()
    _place_tensors()
    _place_assignments()
    for cls in [*_subclasses(Module)]:
        _place_instances(cls)
    Module.__init_subclass__ = classmethod(lambda cls, **options: _place_instances(cls))
    for module in [module for name, module in sys.modules.items() if name.startswith("minidl.models")]:
        for name, build in list(vars(module).items()):
            if inspect.isfunction(build) and build.__module__.startswith("minidl.models") and name not in CONVERSIONS:
                setattr(module, name, _placing(build))
    minidl.models.MINI_NETS.update({name: _placing(build) for name, build in minidl.models.MINI_NETS.items()})


def _is_test(frame):
    return frame.f_code.co_filename.startswith(TESTS)


def _placed(x):
    if not Placing.on or not is_array(x):
        return x
    Placing.placed = True
    return to_device(x, "cuda")


def _place_tensors():
    as_array = autograd._as_array
    autograd._as_array = lambda x: _placed(as_array(x)) if Placing.on and _comes_from_a_test(sys._getframe(2)) else as_array(x)


def _comes_from_a_test(frame):
    """Whether the array of which this frame makes a Tensor is a test's: made there, or handed to an operation there."""
    if frame.f_code.co_qualname == "Parameter.__init__":
        return _is_test(frame.f_back)
    if _function(frame) not in DOORS or Placing.depth:
        return _is_test(frame)
    company = []  # the tensors that the array is to meet decide
    while _function(frame) in DOORS:
        for x in frame.f_locals.values():
            company += [part for part in (x if isinstance(x, tuple) else (x,)) if isinstance(part, Tensor)]
        frame = frame.f_back
    if company:
        return any(x.device == "cuda" for x in company)
    while frame.f_code.co_filename.startswith(OPERATIONS):
        frame = frame.f_back
    return _is_test(frame)


def _function(frame):
    """The name of the function that runs, also from inside its list comprehensions and inner functions."""
    return frame.f_code.co_qualname.split(".<locals>")[0]


def _place_assignments():
    first, grad, data = Tensor._first_gradient, Tensor.grad, Tensor.data
    follows = lambda x, tensor: _placed(x) if tensor.device == "cuda" and is_array(x) else x
    Tensor._first_gradient = lambda self, dy: first(self, follows(dy, self) if _is_test(sys._getframe(2)) else dy)
    Tensor.grad = grad.setter(lambda self, dx: grad.fset(self, follows(dx, self) if _is_test(sys._getframe(1)) else dx))
    setattr_of_module = Module.__setattr__
    Module.__setattr__ = lambda self, name, value: setattr_of_module(
        self, name, _placed(value) if name in self._buffer_names and _is_test(sys._getframe(1)) else value)
    Tensor.data = data.setter(lambda self, x: data.fset(self, follows(x, self) if _is_test(sys._getframe(1)) else x))


def _subclasses(cls):
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)


def _place_instances(cls):
    if "__init__" in vars(cls):
        cls.__init__ = _placing(cls.__init__, first_argument=True)


def _placing(make, first_argument=False):
    """`make`, a function that builds nets or a constructor; what a test made with it is moved when all of it is done."""
    @functools.wraps(make)
    def placed(*args, **options):
        Placing.depth += 1
        try:
            made = make(*args, **options)
        finally:
            Placing.depth -= 1
        net = args[0] if first_argument else made
        if Placing.on and not Placing.depth and _is_test(sys._getframe(1)) and isinstance(net, Module):
            Placing.placed = True
            net.to("cuda")
        return made

    return placed


# --- how much of the suite that was ----------------------------------------------------------------------------------


@contextmanager
def during(test):
    """While a test runs, what it makes is placed."""
    Placing.on = "device" not in test.fixturenames and test.node.get_closest_marker("cpu") is None
    Placing.placed = test.node.callspec.params.get("device") == "cuda" if hasattr(test.node, "callspec") else False
    yield
    Placing.tests += Placing.placed
    Placing.on = False


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):  # of pytest-xdist
        session.config.workeroutput["tests on the device"] = Placing.tests


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    Placing.tests += getattr(node, "workeroutput", {}).get("tests on the device", 0)


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"{Placing.tests} tests had something on device 'cuda'")
