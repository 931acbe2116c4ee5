"""Operations on single elements: + - * / **, negation, exp, log, sqrt, tanh, where.

Binary ones broadcast; the gradient of a broadcast input is the sum over its repetitions (`sum_to`).
"""
import math
from collections.abc import Iterator

import numpy as np

from minidl.arithmetic.broadcasting import broadcast_shape, over_elements, sum_to
from minidl.backend import Array, array_module
from minidl.function import Function, Refusal, Sample
from minidl.threads import in_parts


def _pairs(rng: "np.random.Generator") -> Iterator[tuple]:
    """Pairs of arrays away from 0, equal in shape, broadcast in one axis, in front, and both ways."""
    for x_shape, y_shape in [((2, 3), (2, 3)), ((2, 3), (3,)), ((4, 1, 2), (3, 1)), ((), (2, 1)), ((0, 3), (3,))]:
        x, y = rng.uniform(0.5, 2.0, x_shape), rng.uniform(0.5, 2.0, y_shape)
        yield (x * rng.choice([-1, 1], x_shape), y * rng.choice([-1, 1], y_shape)), {}


_MISMATCHED: tuple = ((np.ones((2, 3)), np.ones((2, 4))), {}, "do not broadcast")


class Add(Function):
    """z = x + y, broadcasting."""

    name, accepts_integers, keeps_output = "add", True, False

    def forward(self, x: Array, y: Array) -> Array:
        broadcast_shape(self.name, x.shape, y.shape)
        self.shapes = x.shape, y.shape
        return x + y

    def forward_cpu(self, x: Array, y: Array) -> Array:
        if x.shape != y.shape or x.dtype != y.dtype:
            return self.forward(x, y)
        self.shapes = x.shape, x.shape
        z = np.empty(x.shape, x.dtype)
        in_parts(np.add, x, y, z)  # into z
        return z

    def backward_cpu(self, dz: Array) -> tuple:
        return self.backward(dz)

    def backward(self, dz: Array) -> tuple:
        x_shape, y_shape = self.shapes
        return sum_to(dz, x_shape), sum_to(dz, y_shape)

    def output_shape(self, *shapes: tuple) -> tuple[int, ...]:
        return broadcast_shape(self.name, *shapes)

    @staticmethod
    def naive(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return over_elements(lambda a, b: a + b, x, y)

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        yield from _pairs(rng)

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield _MISMATCHED


class Subtract(Function):
    """z = x - y, broadcasting."""

    name, accepts_integers = "subtract", True

    def forward(self, x: Array, y: Array) -> Array:
        broadcast_shape(self.name, x.shape, y.shape)
        if x.dtype == bool and y.dtype == bool:
            raise TypeError("subtract: two boolean arrays have no difference; compare them with !=")
        self.shapes = x.shape, y.shape
        return x - y

    def backward(self, dz: Array) -> tuple:
        x_shape, y_shape = self.shapes
        return sum_to(dz, x_shape), sum_to(-dz, y_shape)

    @staticmethod
    def naive(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return over_elements(lambda a, b: a - b, x, y)

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        yield from _pairs(rng)

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield _MISMATCHED


class Multiply(Function):
    """z = x * y, broadcasting."""

    name, accepts_integers = "multiply", True

    def forward(self, x: Array, y: Array) -> Array:
        broadcast_shape(self.name, x.shape, y.shape)
        self.shapes = x.shape, y.shape
        self.x, self.y = x if self.needs[1] else None, y if self.needs[0] else None  # each for the other's gradient
        return x * y

    def backward(self, dz: Array) -> tuple:
        x_shape, y_shape = self.shapes
        dx = sum_to(dz * self.y, x_shape) if self.needs[0] else None
        dy = sum_to(dz * self.x, y_shape) if self.needs[1] else None
        return dx, dy

    def output_shape(self, *shapes: tuple) -> tuple[int, ...]:
        return broadcast_shape(self.name, *shapes)

    @staticmethod
    def naive(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return over_elements(lambda a, b: a * b, x, y)

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        yield from _pairs(rng)

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield _MISMATCHED


class Divide(Function):
    """z = x / y, broadcasting."""

    name, accepts_integers = "divide", True

    def forward(self, x: Array, y: Array) -> Array:
        broadcast_shape(self.name, x.shape, y.shape)
        self.shapes = x.shape, y.shape
        self.x, self.y = x if self.needs[1] else None, y
        return x / y

    def backward(self, dz: Array) -> tuple:
        x_shape, y_shape = self.shapes
        dx = sum_to(dz / self.y, x_shape) if self.needs[0] else None
        dy = sum_to(-dz * self.x / self.y**2, y_shape) if self.needs[1] else None
        return dx, dy

    @staticmethod
    def naive(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return over_elements(lambda a, b: a / b, x, y)

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        yield from _pairs(rng)

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield _MISMATCHED


class Power(Function):
    """y = x ** exponent, for a constant exponent.  dy/dx = exponent * x ** (exponent - 1)"""

    name, accepts_integers = "power", True

    def __init__(self, exponent: float = 2.0) -> None:
        self.exponent = exponent

    def forward(self, x: Array) -> Array:
        if x.dtype.kind in "iub" and self.exponent < 0:
            raise TypeError(f"power: {x.dtype} to the power {self.exponent} is no integer: use x.astype(np.float32)")
        self.x = x
        return x**self.exponent

    def backward(self, dy: Array) -> Array:
        if self.exponent == 0:  # 0 * x**-1 would be NaN at x = 0
            return dy * 0
        return dy * self.exponent * self.x ** (self.exponent - 1)

    @staticmethod
    def naive(x: np.ndarray, exponent: float = 2.0) -> np.ndarray:
        return over_elements(lambda a: math.pow(a, exponent), x)

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        yield (rng.uniform(0.5, 2.0, (2, 3)),), dict(exponent=2.5)
        yield (rng.uniform(0.5, 2.0, (3,)),), dict(exponent=-0.5)
        yield (rng.uniform(-2.0, -0.5, (2, 2)),), dict(exponent=3)
        yield (np.zeros((2, 2)),), dict(exponent=0)
        yield (np.zeros((2, 2)),), dict(exponent=1)
        yield (np.zeros((0, 3)),), dict(exponent=0.5)

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.array([1, 2]),), dict(exponent=-1), "astype"


class Negate(Function):
    """y = -x"""

    name, accepts_integers = "negate", True

    def forward(self, x: Array) -> Array:
        if x.dtype == bool:
            raise TypeError("negate: a boolean array has no negative; use x == False for its complement")
        return -x

    def backward(self, dy: Array) -> Array:
        return -dy

    @staticmethod
    def naive(x: np.ndarray) -> np.ndarray:
        return over_elements(lambda a: -a, x)

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        yield (rng.standard_normal((2, 3)),), {}
        yield (np.zeros((0, 3)),), {}

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.array([True]),), {}, "boolean"


class Exp(Function):
    """y = e**x"""

    name = "exp"

    def forward(self, x: Array) -> Array:
        self.y = array_module(x).exp(x)
        return self.y

    def backward(self, dy: Array) -> Array:
        return dy * self.y

    @staticmethod
    def naive(x: np.ndarray) -> np.ndarray:
        return over_elements(math.exp, x)

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        yield (rng.standard_normal((2, 3)),), {}
        yield (np.zeros((0, 3)),), {}

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.array([1, 2]),), {}, "astype"


class Log(Function):
    """y = ln x, the natural logarithm."""

    name = "log"

    def forward(self, x: Array) -> Array:
        self.x = x
        return array_module(x).log(x)

    def backward(self, dy: Array) -> Array:
        return dy / self.x

    @staticmethod
    def naive(x: np.ndarray) -> np.ndarray:
        return over_elements(math.log, x)

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        yield (rng.uniform(0.5, 3.0, (2, 3)),), {}
        yield (np.zeros((0, 3)),), {}

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.array([1, 2]),), {}, "astype"


class Sqrt(Function):
    """y = x ** (1/2).  dy/dx = 1 / (2 y), infinite at 0."""

    name = "sqrt"

    def forward(self, x: Array) -> Array:
        self.y = array_module(x).sqrt(x)
        return self.y

    def backward(self, dy: Array) -> Array:
        return dy / (2 * self.y)

    @staticmethod
    def naive(x: np.ndarray) -> np.ndarray:
        return over_elements(math.sqrt, x)

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        yield (rng.uniform(0.5, 3.0, (2, 3)),), {}
        yield (np.zeros((0, 3)),), {}

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.array([1, 2]),), {}, "astype"


class Tanh(Function):
    """y = (e**x - e**-x) / (e**x + e**-x).  dy/dx = 1 - y**2"""

    name = "tanh"

    def forward(self, x: Array) -> Array:
        self.y = array_module(x).tanh(x)
        return self.y

    def backward(self, dy: Array) -> Array:
        return dy * (1 - self.y**2)

    @staticmethod
    def naive(x: np.ndarray) -> np.ndarray:
        return over_elements(math.tanh, x)

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        yield (rng.standard_normal((2, 3)),), {}
        yield (np.zeros((0, 3)),), {}

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.array([1, 2]),), {}, "astype"


class Where(Function):
    """z = x where the condition holds, else y; all three broadcast."""

    name, integer_inputs = "where", ("condition",)

    def forward(self, condition: Array, x: Array, y: Array) -> Array:
        broadcast_shape(self.name, condition.shape, x.shape, y.shape)
        if condition.dtype != bool:
            raise TypeError(f"where: the condition must be boolean, got {condition.dtype}: pass x > 0, not x")
        self.condition, self.shapes = condition, (x.shape, y.shape)
        return array_module(x).where(condition, x, y)

    def backward(self, dz: Array) -> tuple:
        x_shape, y_shape = self.shapes
        return None, sum_to(dz * self.condition, x_shape), sum_to(dz * ~self.condition, y_shape)

    def output_shape(self, *shapes: tuple) -> tuple[int, ...]:
        return broadcast_shape(self.name, *shapes)

    @staticmethod
    def naive(condition: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return over_elements(lambda c, a, b: a if c else b, condition, x, y)

    @staticmethod
    def samples(rng: "np.random.Generator") -> Iterator[Sample]:
        for (x, y), options in _pairs(rng):
            yield (rng.random(np.broadcast_shapes(x.shape, y.shape)) < 0.5, x, y), options
        yield (np.array([True, False]), rng.standard_normal((3, 2)), rng.standard_normal((3, 1))), {}

    @staticmethod
    def rejects() -> Iterator[Refusal]:
        yield (np.array([1, 0]), np.ones(2), np.ones(2)), {}, "must be boolean"
        yield (np.array([True, False]), np.ones(3), np.ones(3)), {}, "do not broadcast"
