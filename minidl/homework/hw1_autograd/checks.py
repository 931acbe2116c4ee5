"""What is checked in homework 1."""
import functools

import numpy as np

from minidl import check_backward
from minidl.homework.parts import close, in_case, part, refuses


def by_definition(dy, shape):
    """unbroadcast in loops: every number of dy goes to the place that broadcasting had taken it from."""
    dx = np.zeros(shape)
    for index in np.ndindex(dy.shape):
        own = index[len(index) - len(shape):]
        dx[tuple(0 if size == 1 else i for i, size in zip(own, shape))] += dy[index]
    return dx


def check_unbroadcast(hw, rng, cases):
    for dy_shape, shape in cases:
        dy = rng.normal(size=dy_shape)
        before = dy.copy()
        close(hw.unbroadcast(dy, shape), by_definition(dy, shape), f"unbroadcast(dy of shape {dy_shape}, {shape})")
        close(dy, before, f"dy after unbroadcast(dy of shape {dy_shape}, {shape})")


@part("unbroadcast", 1, "sums over axes that were put in front, also for a single number")
def _(hw, ref, rng):
    check_unbroadcast(hw, rng, [((4, 3), (3,)), ((2, 5, 4, 3), (4, 3)), ((4, 3), ()), ((3,), ()), ((1, 3), (3,))])


@part("unbroadcast", 1, "sums over axes of size 1 that were stretched, and keeps them")
def _(hw, ref, rng):
    check_unbroadcast(hw, rng, [((4, 3), (4, 1)), ((4, 3), (1, 3)), ((2, 4, 3), (2, 1, 3)), ((2, 4, 3), (1, 4, 1))])


@part("unbroadcast", 1, "does both at once, or nothing where nothing was repeated")
def _(hw, ref, rng):
    check_unbroadcast(hw, rng, [((4, 2, 3), (2, 1)), ((5, 4, 2, 3), (1, 1, 3)), ((4, 3), (1,)), ((4, 3), (4, 3)), ((), ()),
                                ((1, 3), (1, 3)), ((3, 3), (3,)), ((2, 3, 3), (3, 1))])


def check_operation(make, reference, inputs, what):
    """forward against the reference, then the doctor; `what` is the operation as the student would write it."""
    names = ["x", "y"][:len(inputs)]
    shapes = ", ".join(f"{name} of shape {x.shape}" for name, x in zip(names, inputs))
    operation, y = make(), reference(*inputs)
    close(operation.forward(*inputs), y, f"{what}.forward({shapes})")
    try:
        dxs = operation.backward(np.ones(np.shape(y)))
    except NotImplementedError:
        raise
    except Exception as error:  # the student sees the line; this adds the case
        error.args = (f"{what}.backward(dy), {shapes}: {error}",)
        raise
    if not isinstance(dxs, (tuple, list)) or len(dxs) != len(inputs):
        raise AssertionError(f"{what}.backward(dy) returned {type(dxs).__name__}{f' of {len(dxs)}' if np.ndim(dxs) else ''}, "
                             f"expected a tuple of {len(inputs)}: one gradient for each argument of forward, also for one")
    forward, backward = pair(make, what)
    with in_case(shapes):
        check_backward(forward, backward, inputs, names=names, reference=reference)


def pair(make, what):
    """forward and backward of an operation, as check_backward takes them: the instance is the cache."""
    def forward(*inputs):
        operation = make()
        return operation.forward(*inputs), operation

    def backward(dy, operation):
        return tuple(operation.backward(dy))

    forward.__name__ = what
    # the doctor looks for the student's line, and finds it through the mark that update_wrapper leaves
    return forward, functools.update_wrapper(backward, type(make()).backward, assigned=(), updated=())


BROADCASTS = [((3, 4), (3, 4)), ((3, 4), (4,)), ((2, 1, 4), (3, 1)), ((), (2, 3)), ((3, 3), (3,))]


@part("elementwise", 1, "Add: right, and its backward is the slope of its forward, for arrays that broadcast")
def _(hw, ref, rng):
    for x, y in BROADCASTS:
        check_operation(hw.Add, np.add, [rng.normal(size=x), rng.normal(size=y)], "Add()")


@part("elementwise", 1, "Multiply: right, and its backward is the slope of its forward, for arrays that broadcast")
def _(hw, ref, rng):
    for x, y in BROADCASTS:
        check_operation(hw.Multiply, np.multiply, [rng.normal(size=x), rng.normal(size=y)], "Multiply()")


@part("elementwise", 1, "Power: whole, fractional and negative exponents")
def _(hw, ref, rng):
    for p in (2, 3, 1, -1, 0.5, -1.5, 2.0):
        x = rng.uniform(0.5, 2, (3, 4))
        if p == int(p):
            x *= rng.choice([-1, 1], x.shape)
        check_operation(lambda p=p: hw.Power(p), lambda x, p=p: x**p, [x], f"Power({p})")
    check_operation(lambda: hw.Power(2), lambda x: x**2, [np.array([0.0, 1.0, -2.0])], "Power(2)")


@part("elementwise", 1, "every instance has a memory of its own, and no array is written into")
def _(hw, ref, rng):
    x, y, dz = rng.normal(size=(3, 2, 4))
    before = x.copy(), y.copy(), dz.copy()
    for name, make, inputs in (("Add", hw.Add, [x, y]), ("Multiply", hw.Multiply, [x, y]), ("Power", lambda: hw.Power(3), [x])):
        alone, first, second = make(), make(), make()
        alone.forward(*inputs)
        expected = alone.backward(dz)
        for what, array, old in zip(("x", "y", "dz"), (x, y, dz), before):
            close(array, old, f"{what} after {name}.forward and {name}.backward, which must not write into it")
        first.forward(*inputs)
        second.forward(*[np.ones((5, 2, 4)) for _ in inputs])  # must not disturb the first
        for number, (dx, right) in enumerate(zip(first.backward(dz), expected)):
            close(dx, np.asarray(right), f"{name}: gradient {number} of a first instance, after forward of a second one")


@part("matmul", 1, "two matrices")
def _(hw, ref, rng):
    for M, K, N in ((3, 4, 2), (1, 3, 5), (3, 3, 3)):
        check_operation(hw.MatMul, np.matmul, [rng.normal(size=(M, K)), rng.normal(size=(K, N))], "MatMul()")


@part("matmul", 1, "stacks of matrices")
def _(hw, ref, rng):
    for front in ((2,), (3, 2)):
        check_operation(hw.MatMul, np.matmul, [rng.normal(size=(*front, 3, 4)), rng.normal(size=(*front, 4, 2))], "MatMul()")


@part("matmul", 1, "a stack times one matrix, and other stacks that broadcast")
def _(hw, ref, rng):
    for x, y in (((5, 3, 4), (4, 2)), ((3, 4), (2, 4, 5)), ((3, 1, 2, 4), (5, 4, 2)), ((1, 3, 4), (2, 4, 2))):
        check_operation(hw.MatMul, np.matmul, [rng.normal(size=x), rng.normal(size=y)], "MatMul()")


def check_sums(hw, rng, cases):
    for shape, axis, keepdims in cases:
        check_operation(lambda axis=axis, keepdims=keepdims: hw.Sum(axis=axis, keepdims=keepdims),
                        lambda x, axis=axis, keepdims=keepdims: np.sum(x, axis=axis, keepdims=keepdims),
                        [rng.normal(size=shape)], f"Sum(axis={axis}, keepdims={keepdims})")


@part("total", 1, "over everything, with and without keepdims")
def _(hw, ref, rng):
    check_sums(hw, rng, [((3, 4), None, False), ((3, 4), None, True), ((5,), None, False), ((), None, False)])


@part("total", 1, "along one axis, counted from either end")
def _(hw, ref, rng):
    check_sums(hw, rng, [((3, 4), 0, False), ((3, 4), 1, False), ((3, 3), 1, False), ((3, 3), 0, True), ((2, 3, 4), 1, True),
                         ((2, 3, 4), -2, False), ((2, 3, 4), -1, True), ((5,), 0, False)])


@part("total", 1, "along several axes")
def _(hw, ref, rng):
    check_sums(hw, rng, [((2, 3, 4), (0, 2), False), ((2, 3, 4), (0, 2), True), ((2, 3, 4), (-1, 0), False),
                         ((3, 3, 3), (2, 1), False), ((2, 3, 4), (0, 1, 2), False)])


def check_grad(leaf, expected, what):
    if leaf.grad is None:
        raise AssertionError(f"{what}: got None: no gradient arrived")
    close(leaf.grad, np.broadcast_to(expected, leaf.data.shape).astype(float), what)


def check_leaf(x, what):
    """A tensor with no history that wants no gradient."""
    if x.requires_grad or x.operation is not None or len(x.inputs):
        raise AssertionError(f"{what}: must be a leaf that requires no gradient, got requires_grad={x.requires_grad}, "
                             f"operation={x.operation}, {len(x.inputs)} inputs")


@part("tensor", 2, "record remembers the operation and the inputs where a gradient is wanted, and nothing elsewhere")
def _(hw, ref, rng):
    x, constant = hw.Tensor(rng.normal(size=(2, 3)), requires_grad=True), hw.Tensor(rng.normal(size=3))
    operation = hw.Multiply()
    y = hw.record(operation, x, constant)
    if not isinstance(y, hw.Tensor):
        raise AssertionError(f"record(Multiply(), x, y): got {type(y).__name__}, expected a Tensor")
    close(y.data, x.data * constant.data, "record(Multiply(), x, y).data")
    if not y.requires_grad:
        raise AssertionError("record(Multiply(), x, y) where x requires a gradient, y does not: requires_grad must be True, "
                             f"got {y.requires_grad}")
    if y.operation is not operation:
        raise AssertionError(f"record(operation, x, y).operation must be the operation handed in, got {y.operation}")
    if len(y.inputs) != 2 or y.inputs[0] is not x or y.inputs[1] is not constant:
        raise AssertionError("record(operation, x, y).inputs must be (x, y), the very objects and in this order")
    z = hw.record(hw.Add(), np.ones((2, 3)), y)
    if len(z.inputs) != 2 or not isinstance(z.inputs[0], hw.Tensor) or z.inputs[1] is not y:
        raise AssertionError("record(Add(), array, y).inputs must be (the array as a Tensor, y)")
    check_leaf(z.inputs[0], "record(Add(), array, y).inputs[0], made of an array")
    close(z.data, 1 + y.data, "record(Add(), array of ones, y).data")
    check_leaf(hw.record(hw.Multiply(), constant, 2.0), "record(Multiply(), x, 2.0) where x requires no gradient")


@part("tensor", 1, "operators: values, and what they recorded leads to the right gradients")
def _(hw, ref, rng):
    a, b, c = rng.uniform(0.5, 2, (2, 3)), rng.uniform(0.5, 2, 3), rng.normal(size=(3, 4))
    array, ones = rng.normal(size=(2, 3)), np.ones((2, 3))
    for what, compute, value, dx, dy in (  # gradients of the sum over the result
        ("x * y", lambda x, y: x * y, a * b, ones * b, a.sum(axis=0)),
        ("x - y", lambda x, y: x - y, a - b, ones, np.full(3, -2.0)),
        ("x - 3.0", lambda x, y: x - 3.0, a - 3, ones, None),
        ("x - array", lambda x, y: x - array, a - array, ones, None),
        ("array * x", lambda x, y: array * x, array * a, array, None),
        ("3.0 * x", lambda x, y: 3.0 * x, 3 * a, 3 * ones, None),
        ("x ** 3", lambda x, y: x**3, a**3, 3 * a**2, None),
        ("y ** -0.5", lambda x, y: y**-0.5, b**-0.5, None, -0.5 * b**-1.5),
        ("x @ z, z a constant", lambda x, y: x @ hw.Tensor(c), a @ c, ones * c.sum(axis=1), None),
        ("x.sum()", lambda x, y: x.sum(), a.sum(), ones, None),
        ("x.sum(axis=1, keepdims=True)", lambda x, y: x.sum(axis=1, keepdims=True), a.sum(axis=1, keepdims=True), ones, None),
        ("x.sum(0)", lambda x, y: x.sum(0), a.sum(axis=0), ones, None),
    ):
        x, y = hw.Tensor(a, requires_grad=True), hw.Tensor(b, requires_grad=True)
        result = compute(x, y)
        close(result.data, value, what)
        ref.walk_back(result, np.ones(np.shape(value)))
        for name, leaf, expected in (("x", x, dx), ("y", y, dy)):
            if expected is not None:
                check_grad(leaf, expected, f"slope of ({what}).sum() with respect to {name}, by what was recorded")


@part("tensor", 1, "detach: the same numbers without a history, and the tensor itself keeps its own")
def _(hw, ref, rng):
    x = hw.Tensor(rng.normal(size=3), requires_grad=True)
    y = x * 2.0
    if not y.requires_grad:
        raise AssertionError("x * 2.0, where x requires a gradient, must be recorded; got requires_grad=False")
    for what, tensor in (("y.detach()", y), ("x.detach() of a leaf x", x)):
        cut = tensor.detach()
        close(cut.data, tensor.data, f"{what}.data")
        check_leaf(cut, what)
    if not x.requires_grad or not y.requires_grad or y.operation is None:
        raise AssertionError("y.detach() must leave y itself as it was: with requires_grad, operation and inputs")
    z = y.detach() * x  # the way through y is cut; the other one is not
    ref.walk_back(z, np.ones(3))
    close(x.grad, y.data, "slope of (x * 2).detach() * x with respect to x")


@part("tensor", 1, "no_grad: nothing is recorded inside, and everything is as before afterwards, also after an error")
def _(hw, ref, rng):
    x = hw.Tensor(rng.normal(size=3), requires_grad=True)

    def recorded():
        return bool((x * 2.0).requires_grad)

    if not recorded():
        raise AssertionError("x * 2.0 outside of no_grad: must be recorded, got requires_grad=False")
    with hw.no_grad():
        check_leaf(x * 2.0, "x * 2.0 inside no_grad")
        close((x * 2.0).data, x.data * 2, "x * 2.0 inside no_grad")
        with hw.no_grad():
            check_leaf(x * 2.0, "x * 2.0 inside no_grad inside no_grad")
        if recorded():
            raise AssertionError("after an inner no_grad, still inside the outer one: nothing may be recorded, but x * 2.0 was")
    if not recorded():
        raise AssertionError("after no_grad: x * 2.0 must be recorded again, but was not")
    try:
        with hw.no_grad():
            raise KeyError("an error inside no_grad")
    except KeyError:
        pass
    else:
        raise AssertionError("an error inside `with no_grad():` must come out of it, but no_grad swallowed it")
    if not recorded():
        raise AssertionError("after no_grad was left by an error: x * 2.0 must be recorded again, but was not")


def check_order(order, result, what):
    """Every tensor behind result once, after its inputs."""
    expected, stack = {}, [result]
    while stack:
        tensor = stack.pop()
        if id(tensor) not in expected:
            expected[id(tensor)] = tensor
            stack.extend(tensor.inputs)
    if not isinstance(order, (list, tuple)):
        raise AssertionError(f"topological_order({what}): got {type(order).__name__}, expected a list")
    place = {id(tensor): i for i, tensor in enumerate(order)}
    if len(place) < len(order):
        raise AssertionError(f"topological_order({what}): {len(order)} entries, but only {len(place)} different tensors: each "
                             "must stand there exactly once")
    if place.keys() != expected.keys():
        raise AssertionError(f"topological_order({what}): {len(place.keys() & expected.keys())} of the {len(expected)} tensors "
                             f"are there (leaves and constants count), and {len(place.keys() - expected.keys())} others")
    for tensor in order:
        for x in tensor.inputs:
            if place[id(x)] >= place[id(tensor)]:
                raise AssertionError(f"topological_order({what}): entry {place[id(tensor)]} has an input that comes later, at "
                                     f"{place[id(x)]}; every tensor must stand after all of its inputs")


@part("topological_order", 2, "every tensor once, each after its inputs")
def _(hw, ref, rng):
    x, w = hw.Tensor(np.ones(3), requires_grad=True), hw.Tensor(np.ones(3), requires_grad=True)
    check_order(hw.topological_order(x), x, "a leaf")
    y = x * w
    check_order(hw.topological_order(y), y, "x * w")
    for what, result in (("x * w + x", y + x), ("x + x * w", x + y), ("x + x", x + x), ("y + y ** 2, y = x * w", y + y**2),
                         ("y ** 2 + y", y**2 + y), ("(x * 2.0 + 1.0).sum()", (x * 2.0 + 1.0).sum())):
        check_order(hw.topological_order(result), result, what)
    long = y  # a short cut past a long way, taken first and taken last
    for _ in range(4):
        long = long * w
    for what, result in (("y + long way from y", y + long), ("long way from y + y", long + y)):
        check_order(hw.topological_order(result), result, what)
    for _ in range(20):  # random graphs
        tensors = [hw.Tensor(np.ones(2), requires_grad=True) for _ in range(3)]
        for _ in range(15):
            i, j = rng.integers(len(tensors), size=2)
            tensors.append(tensors[i] + tensors[j])
        check_order(hw.topological_order(tensors[-1]), tensors[-1], "a random graph")


DEPTH = 5000


def chain(hw, x, depth):
    for _ in range(depth):
        x = x * 1.0
    return x


@part("topological_order", 1, f"a chain of {DEPTH:,} operations")
def _(hw, ref, rng):
    y = chain(hw, hw.Tensor(np.ones(1), requires_grad=True), DEPTH)
    try:
        order = hw.topological_order(y)
    except RecursionError:
        raise AssertionError(f"topological_order of a chain of {DEPTH:,} operations: RecursionError. Python stops at about "
                             "1,000 nested calls: keep a stack of your own, a list") from None
    check_order(order, y, f"a chain of {DEPTH:,} operations")


@part("topological_order", 1, "60 doublings, which have more paths than anyone can walk")
def _(hw, ref, rng):
    looks = []

    class Watched(hw.Tensor):  # type: ignore[name-defined]
        """A tensor that counts how often its inputs are asked for."""

        @property
        def inputs(self):
            looks.append(self)
            if len(looks) > 20_000:
                raise AssertionError("topological_order of 60 doublings x = x + x: looked at the inputs of 61 tensors 20,000 "
                                     "times: remember which ones you have seen, and do not go there again")
            return self.behind

        @inputs.setter
        def inputs(self, tensors):
            self.behind = tensors

    x = Watched(np.ones(1), requires_grad=True)
    for _ in range(60):
        y = Watched(np.ones(1), requires_grad=True)
        y.operation, y.inputs = hw.Add(), (x, x)
        x = y
    check_order(hw.topological_order(x), x, "60 doublings x = x + x")


def check_none(tensor, what):
    if tensor.grad is not None:
        raise AssertionError(f"{what}: .grad must stay None, got an array of shape {np.shape(tensor.grad)}")


@part("walk_back", 1, "a little network: gradients at the leaves, and only there")
def _(hw, ref, rng):
    x, w, b = hw.Tensor(rng.normal(size=(4, 3))), rng.normal(size=(3, 2)), rng.normal(size=2)
    w, b = hw.Tensor(w, requires_grad=True), hw.Tensor(b, requires_grad=True)
    y = x @ w + b
    loss = (y**2).sum()
    hw.walk_back(loss)
    dy = 2 * (x.data @ w.data + b.data)
    what = "((x @ w + b) ** 2).sum(), x a constant"
    check_grad(w, x.data.T @ dy, f"w.grad of {what}")
    check_grad(b, dy.sum(axis=0), f"b.grad of {what}")
    for name, tensor in (("constant x", x), ("result y = x @ w + b", y), ("loss", loss)):
        check_none(tensor, f"the {name} of {what}")
    other = hw.Tensor(np.ones(2), requires_grad=True)
    check_none(other, "a leaf that the loss was not computed from")


class CountedDouble:
    """y = x + x, by two uses of x; counts the runs of its backward."""

    def __init__(self):
        self.runs = 0

    def forward(self, x, y):
        return x + y

    def backward(self, dz):
        self.runs += 1
        if self.runs > 500:
            raise AssertionError("walk_back: backward of one and the same operation ran 500 times; it must run once, when all "
                                 "shares of its gradient have arrived")
        return dz.copy(), dz.copy()


@part("walk_back", 2, "shares add up where paths meet, each backward runs once, after all of them, also 5,000 operations deep")
def _(hw, ref, rng):
    x = hw.Tensor(rng.normal(size=3), requires_grad=True)
    hw.walk_back((x * x).sum())
    check_grad(x, 2 * x.data, "x.grad of (x * x).sum()")
    for doublings in (2, 40):
        a = hw.Tensor(1.0, requires_grad=True)
        operations = [CountedDouble() for _ in range(doublings)]
        y = a
        for operation in operations:
            y = hw.record(operation, y, y)
        hw.walk_back(y)
        check_grad(a, 2.0**doublings, f"a.grad of {doublings} doublings, each y = y + y")
        if {operation.runs for operation in operations} != {1}:
            raise AssertionError(f"walk_back of {doublings} doublings: each backward must run once, but together they ran "
                                 f"{sum(operation.runs for operation in operations)} times")
    for first in (True, False):  # a short cut past a long way
        x = hw.Tensor(rng.normal(size=3), requires_grad=True)
        y = x**2
        long = chain(hw, y * 3.0, 5)
        hw.walk_back((y + long if first else long + y).sum())
        check_grad(x, 8 * x.data, "x.grad of (y + ((y * 3) * 1) * 1 ...).sum(), y = x ** 2")
    x = hw.Tensor(np.ones(2), requires_grad=True)
    try:
        hw.walk_back(chain(hw, x, DEPTH).sum())
    except RecursionError:
        raise AssertionError(f"walk_back from a chain of {DEPTH:,} operations: RecursionError; go through the list that "
                             "topological_order gives") from None
    check_grad(x, 1.0, f"x.grad of x * 1 * 1 * ..., {DEPTH:,} times")


class Share:
    """z = x + y, whose backward hands the very same array to both."""

    def forward(self, x, y):
        return x + y

    def backward(self, dz):
        return dz, dz


@part("walk_back", 1, ".grad is added to by a second walk, and every .grad is an array of its own")
def _(hw, ref, rng):
    x = hw.Tensor(rng.normal(size=3), requires_grad=True)
    hw.walk_back((x**2).sum())
    hw.walk_back((x * 5.0).sum())
    check_grad(x, 2 * x.data + 5, "x.grad after walks back from (x ** 2).sum() and from (x * 5).sum()")
    a, b, c, dy = *(hw.Tensor(rng.normal(size=3), requires_grad=True) for _ in range(3)), rng.normal(size=3)
    given = dy.copy()
    result = hw.record(Share(), hw.record(Share(), a, b), hw.record(Share(), a, c))
    hw.walk_back(result, dy)
    close(dy, given, "dy after walk_back((a + b) + (a + c), dy), which must not write into it")
    what = "walk_back((a + b) + (a + c), dy), where + hands the same array to both"
    for name, leaf, times in (("a", a, 2), ("b", b, 1), ("c", c, 1)):
        check_grad(leaf, times * given, f"{name}.grad after {what}")
    for names, one, two in (("a.grad and b.grad", a.grad, b.grad), ("b.grad and c.grad", b.grad, c.grad),
                            ("a.grad and dy", a.grad, dy), ("b.grad and dy", b.grad, dy)):
        if np.shares_memory(one, two):
            raise AssertionError(f"{what}: {names} share memory: a change of one would change the other; copy at the leaf")
    leaf = hw.Tensor(rng.normal(size=3), requires_grad=True)
    hw.walk_back(leaf, dy)
    check_grad(leaf, given, "x.grad after walk_back(x, dy) of a leaf x")
    if np.shares_memory(leaf.grad, dy):
        raise AssertionError("walk_back(x, dy) of a leaf x: x.grad and dy share memory; copy at the leaf")


@part("walk_back", 1, "dy weighs the result; without it, more than one number is refused")
def _(hw, ref, rng):
    x = hw.Tensor(rng.normal(size=(2, 3)), requires_grad=True)
    dy = rng.normal(size=(2, 3))
    hw.walk_back(x**2, dy)
    check_grad(x, 2 * x.data * dy, "x.grad after walk_back(x ** 2, dy)")
    for shape in ((1,), (1, 1), ()):
        one = hw.Tensor(np.full(shape, 3.0), requires_grad=True)
        hw.walk_back(one * one)
        check_grad(one, 6.0, f"x.grad after walk_back(x * x), x = 3 of shape {shape}")
    y = hw.Tensor(np.ones(3), requires_grad=True)
    refuses(lambda: hw.walk_back(y * 2.0), "", "walk_back(result of shape (3,)) without dy")
    check_none(y, "x after walk_back(x * 2), which was refused for its shape")


@part("descend", 1, "one step, by hand")
def _(hw, ref, rng):
    w, b = hw.Tensor(rng.normal(size=3), requires_grad=True), hw.Tensor(rng.normal(size=()), requires_grad=True)
    old_w, old_b = w.data.copy(), b.data.copy()
    losses = hw.descend(lambda: (w**2).sum() + b * 3.0, [w, b], lr=0.1, steps=1)
    close(w.data, old_w - 0.1 * 2 * old_w, "w.data after one step, loss (w ** 2).sum() + 3 b, lr 0.1")
    close(b.data, old_b - 0.1 * 3, "b.data after one step, loss (w ** 2).sum() + 3 b, lr 0.1")
    close(losses, np.array([(old_w**2).sum() + 3 * old_b]), "the losses of one step (before it), loss (w ** 2).sum() + 3 b")


@part("descend", 1, "more steps: old gradients do not count, parameters stay leaves")
def _(hw, ref, rng):
    w = hw.Tensor(rng.normal(size=3), requires_grad=True)
    unused = hw.Tensor(np.ones(2), requires_grad=True)
    w.grad, unused.grad = np.full(3, 100.0), np.full(2, 100.0)
    old = w.data.copy()
    losses = hw.descend(lambda: (w**2).sum(), [w, unused], lr=0.1, steps=4)
    close(w.data, old * 0.8**4, "w.data after 4 steps, loss (w ** 2).sum(), lr 0.1, w.grad was 100 before")
    close(losses, (old**2).sum() * 0.64 ** np.arange(4), "the losses of 4 steps, each before the step, loss (w ** 2).sum()")
    close(unused.data, np.ones(2), "a parameter that the loss was not computed from (its .grad was 100 before)")
    if not w.requires_grad or w.operation is not None or len(w.inputs):
        raise AssertionError("after descend a parameter must still be a leaf that requires a gradient: change its .data, "
                             "do not compute with the Tensor")
    close(len(hw.descend(lambda: (w**2).sum(), [w], lr=0.1, steps=0)), 0, "the number of losses of 0 steps")


@part("descend", 1, "finds a plane through points")
def _(hw, ref, rng):
    x = rng.normal(size=(50, 3))
    y = x @ np.array([[1.0], [-2.0], [0.5]]) + 3 + 0.1 * rng.normal(size=(50, 1))
    w, b = hw.Tensor(np.zeros((3, 1)), requires_grad=True), hw.Tensor(np.zeros(1), requires_grad=True)
    losses = hw.descend(lambda: ((hw.Tensor(x) @ w + b - y) ** 2).sum() * (1 / 50), [w, b], lr=0.2, steps=150)
    best = np.linalg.lstsq(np.hstack([x, np.ones((50, 1))]), y, rcond=None)[0]
    close(np.vstack([w.data, b.data[None]]), best, "w and b after 150 steps of least squares, lr 0.2", rtol=1e-4)
    if len(losses) != 150 or not losses[-1] < 0.01 * losses[0]:
        raise AssertionError(f"descend, least squares: 150 losses expected that fall to 1 %, got {len(losses)}, "
                             f"from {losses[0]:.4g} to {losses[-1]:.4g}")
