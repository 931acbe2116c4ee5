# %% [markdown]
# # Lesson 1: the chain rule and a tape
#
# ## Question
#
# A network turns weights into one number, the loss. You want the slope of that number for every weight. How does one
# walk back through the computation give all slopes at once, and in which order must it go?
#
# You need: derivatives of one variable, Python. You get: a tape of your own in about thirty lines, and a referee that
# tells you whether a gradient is right.

# %% [markdown]
# ## Prediction
#
# Write down your answers before you run anything.
#
# 1. $a = 1$, $b = a + a$, $c = b + b$. What is $dc/da$? Suppose a walk back passes a slope on the moment it arrives,
#    instead of waiting for the other one. Which number do you get for $dc/da$ then?
# 2. You measure a slope as $(f(x+h) - f(x-h)) / 2h$ in 64-bit numbers. Among $h = 10^{-1}, 10^{-2}, \dots, 10^{-13}$,
#    which is best? Is smaller always better?
#
# **The rule.** Two claims will be called *observed* only if the next cell says so. It is fixed now, before any number
# is known.
#
# - Order: the tape's order gives exactly 4, the impatient walk does not.
# - Step: the best step lies inside the range, and both ends of the range are at least 1000 times worse than the best.

# %%
def order_matters(patient, impatient):
    return patient == 4.0 and impatient != 4.0


def step_has_an_optimum(errors):
    best = min(errors)
    return errors[0] >= 1000 * best and errors[-1] >= 1000 * best


# %% [markdown]
# ## Experiment
#
# ### By hand
#
# Take $y = \sin(x^2)$. It is two steps, one behind the other: $u = x^2$, then $y = \sin u$. Each step has a *local
# slope*, which needs nothing but the step's own input: $du/dx = 2x$ and $dy/du = \cos u$. The chain rule says that
# slopes along a path multiply: $dy/dx = \cos(u) \cdot 2x$.
#
# You can measure the same slope without any rule. Move $x$ a little to both sides and look at $y$.

# %%
import math

x = 1.5
u = x * x
y = math.sin(u)
by_hand = math.cos(u) * (2 * x)
h = 1e-6
measured = (math.sin((x + h) ** 2) - math.sin((x - h) ** 2)) / (2 * h)
print(f"y = {y:.6f}   slope by hand {by_hand:.9f}   measured {measured:.9f}")

# %% [markdown]
# ### A tape
#
# Now let the computer do the bookkeeping. Every operation writes one line on a tape: its result, and for each input the
# local slope. The numbers are known at that moment, so the slope is a plain number too.

# %%
tape = []


class Value:
    def __init__(self, number):
        self.number = number
        self.grad = 0.0  # slope of the final result with respect to this value


def record(number, *inputs):
    """inputs: pairs (value, local slope)."""
    result = Value(number)
    tape.append((result, inputs))
    return result


# %% [markdown]
# An operation is now one line: the value, and beside it the local slopes. For a product $xy$ the slope with respect to
# $x$ is $y$, and the other way round.

# %%
def add(x, y):
    return record(x.number + y.number, (x, 1.0), (y, 1.0))


def multiply(x, y):
    return record(x.number * y.number, (x, y.number), (y, x.number))


def sine(x):
    return record(math.sin(x.number), (x, math.cos(x.number)))


# %% [markdown]
# The walk back reads the tape from its end. Along a path, slopes multiply. Where several paths meet, they add up. Both
# halves of the chain rule stand in the one line with `+=`.

# %%
def walk_back(result):
    result.grad = 1.0
    for value, inputs in reversed(tape):
        for x, local_slope in inputs:
            x.grad += value.grad * local_slope


x = Value(1.5)
y = sine(multiply(x, x))
walk_back(y)
print(f"slope by tape {x.grad:.9f}   by hand {by_hand:.9f}")
assert math.isclose(x.grad, by_hand)

# %% [markdown]
# Note that `multiply(x, x)` uses `x` twice. Each use sends $x$ back, and `+=` makes it $2x$. Nobody had to tell the tape
# about squares.
#
# ### The order
#
# When the walk takes a line, the slope of that line's result must be complete: everything that used the result must
# have sent its share. The tape guarantees this. A result is used only after it was made, so its users stand further
# down, and the walk meets them first. Reverse order of creation is one *topological order* of the graph.

# %%
tape.clear()
a = Value(1.0)
b = add(a, a)
c = add(b, b)
walk_back(c)
patient = a.grad
print("dc/db =", b.grad, "  dc/da =", patient)

# %% [markdown]
# Now the impatient walk: depth first, no waiting. As soon as a slope arrives at a value, it passes on what the value
# holds so far. Follow it on paper for $b$, which receives two shares of 1.

# %%
def impatient_walk(value, inputs_of):
    for x, local_slope in inputs_of.get(value, ()):
        x.grad += value.grad * local_slope
        impatient_walk(x, inputs_of)  # x may not be complete yet


for v in (a, b, c):
    v.grad = 0.0
c.grad = 1.0
impatient_walk(c, dict(tape))
impatient = a.grad
print("dc/db =", b.grad, "  dc/da =", impatient)

# %% [markdown]
# $b$ passes on 1 when the first share arrives: $a$ gets $1 + 1$. Then $b$ holds 2 and passes on all of it: $a$ gets
# $2 + 2$ more. The first share was counted twice, and the sum is 6.
#
# You may repair it: pass on only the share that has just arrived. Then the numbers are right, because the chain rule is
# a sum over all paths. But you walk every path. A chain of $n$ doublings has $2^n$ of them, and a tape of $n$ lines.

# %%
def count_visits(doublings):
    tape.clear()
    top = Value(1.0)
    for _ in range(doublings):
        top = add(top, top)
    inputs_of = dict(tape)

    def visits_by_path(value):
        return 1 + sum(visits_by_path(x) for x, _ in inputs_of.get(value, ()))

    return visits_by_path(top), len(tape)


for n in (4, 8, 16):
    print("doublings, visits path by path, lines of tape:", n, *count_visits(n))

# %% [markdown]
# ### The same with minidl
#
# A `minidl.Tensor` holds an array in place of one number, and every operation is recorded behind your back. The walk
# `backward()` goes in reverse order of creation, as yours does. There is one difference. Your tape is global and holds
# everything; minidl hangs each line on its result, so that what nobody needs any more is forgotten.

# %%
import numpy as np
import minidl

a = minidl.Tensor([1.0], requires_grad=True)
b = a + a
c = b + b
c.backward()
print("dc/da =", a.grad)
assert a.grad == patient

# %% [markdown]
# An operation of your own is a `Function`: `forward` takes arrays and gives an array, `backward` takes the slope of the
# result (`dy`) and gives the slope of each input. `minidl.apply` runs it and records it.

# %%
class Sine(minidl.Function):
    name = "sine"

    def forward(self, x):
        self.x = x  # backward will need it
        return np.sin(x)

    def backward(self, dy):
        return dy * np.cos(self.x)


x = minidl.Tensor(np.array([1.5]), requires_grad=True)
minidl.apply(Sine(), x * x).backward()
print("slope by minidl", x.grad, "  by hand", by_hand)

# %% [markdown]
# ### A referee
#
# `minidl.gradcheck` measures slopes as you did at the start and compares. Let it judge two versions: yours, and one that
# forgets `dy`. With `.sum()` at the end, `dy` is all ones, and forgetting it makes no difference. So looking at one such
# example proves nothing.

# %%
class ForgetfulSine(Sine):
    def backward(self, dy):
        return np.cos(self.x)


points = np.array([0.3, 1.5, 2.2])
x = minidl.Tensor(points, requires_grad=True)
minidl.apply(ForgetfulSine(), x).sum().backward()
print("after .sum() the forgetful one looks right:", np.array_equal(x.grad, np.cos(points)))

# %% [markdown]
# gradcheck weighs the outputs with random numbers in place of ones. Read its message: it names the input and the
# element, and prints what it got beside what it had measured.

# %%
def verdict(function_class, *inputs):
    try:
        return str(minidl.gradcheck(lambda *xs: minidl.apply(function_class(), *xs), inputs))
    except minidl.GradcheckError as error:
        return f"REFUSED\n{error}"


print("Sine:", verdict(Sine, points))
print("ForgetfulSine:", verdict(ForgetfulSine, points))
assert verdict(ForgetfulSine, points).startswith("REFUSED")

# %% [markdown]
# ### How good is a measured slope?
#
# The referee measures, so it has errors of its own. There are two, and they pull in opposite directions.
#
# - *Truncation*: the curve bends between $x - h$ and $x + h$. This error falls like $h^2$.
# - *Rounding*: $f(x+h)$ and $f(x-h)$ agree in most of their digits, and the subtraction throws those away. What is left
#   is as uncertain as the last digit, divided by $2h$. This error grows like $1/h$.
#
# (Baydin et al. 2018, "Automatic differentiation in machine learning: a survey", section 2.1, discuss both.) You measure
# at 400 points and take the median, because a rounding error can be small by luck at a single point.

# %%
def median_error(h, dtype):
    x = np.linspace(0.5, 2.0, 400).astype(dtype)
    h = dtype(h)
    measured = (np.sin((x + h) ** 2) - np.sin((x - h) ** 2)) / (2 * h)
    exact = np.cos(x.astype(np.float64) ** 2) * 2 * x
    return float(np.median(abs(measured - exact)))


steps = [10.0**-k for k in range(1, 14)]
errors = [median_error(h, np.float64) for h in steps]
errors32 = [median_error(h, np.float32) for h in steps[:7]]
for h, error in zip(steps, errors):
    print(f"h = {h:.0e}   error {error:.1e}")

# %% [markdown]
# ## Plot
#
# The error of the measured slope against the step, both axes logarithmic. The dashed line is gradcheck's own step.

# %%
import inspect
from matplotlib import pyplot

eps = inspect.signature(minidl.gradcheck).parameters["eps"].default
figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
axes.loglog(steps, errors, "o-", label="float64 (64 bits)")
axes.loglog(steps[:7], errors32, "s-", label="float32 (32 bits)")
axes.axvline(eps, color="black", linestyle="--", label=f"gradcheck's step, {eps:.0e}")
axes.set_xlabel("step h (no unit)")
axes.set_ylabel("median |measured slope - exact slope|")
axes.set_title("Slope of sin(x²) by central differences, 400 points")
axes.grid(alpha=0.3)
axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, frameon=False)
pyplot.close(figure)  # so that a notebook shows it once, as the last line of the next cell

# %%
import os
from pathlib import Path

folder = Path(os.environ.get("MINIDL_LESSON_OUTPUT", "lesson-output"))
folder.mkdir(parents=True, exist_ok=True)
path = folder / "01_chain_rule_and_tape.png"
figure.savefig(path, dpi=150)
print("plot:", path)
figure

# %% [markdown]
# ## Observed
#
# The rule from the start decides.

# %%
best = steps[int(np.argmin(errors))]
for claim, holds in (
    (f"the order matters (tape {patient:g}, impatient walk {impatient:g})", order_matters(patient, impatient)),
    (f"the step has an optimum (best {best:.0e}, error {min(errors):.0e})", step_has_an_optimum(errors)),
):
    print("observed:" if holds else "not observed:", claim)

# %% [markdown]
# What we saw when we ran it:
#
# - The tape gives 4, the impatient walk 6. Path by path is right as well, but took 131,071 visits for 16 doublings,
#   where the tape has 16 lines.
# - The best step was $10^{-6}$, with an error of $6 \cdot 10^{-11}$. At $10^{-1}$ the error was $2 \cdot 10^{-2}$, at
#   $10^{-13}$ it was $7 \cdot 10^{-4}$. Smaller is not always better.
# - In 32-bit numbers nothing better than $3 \cdot 10^{-5}$ was to be had, at $h = 10^{-3}$. That is why gradcheck turns
#   its inputs into float64 first.
# - gradcheck accepted `Sine` and refused `ForgetfulSine`, although the latter looked right after `.sum()`.
#
# Compare with what you wrote down. Where you were wrong, find the line of code that does what you had not expected.

# %% [markdown]
# ## Exercise
#
# Write an operation with two inputs, the hypotenuse $r = \sqrt{x^2 + y^2}$. Work out both local slopes on paper, then
# fill in the two methods. `backward` returns one gradient for each input, as a tuple. You are done when the cell below
# says that the gradients agree.
#
# Then break it on purpose: swap the two gradients, or change a sign. Does the referee notice? Check it at $x = y$ only.
# Does it notice the swap still?

# %%
class Hypotenuse(minidl.Function):
    name = "hypotenuse"

    def forward(self, x, y):
        raise NotImplementedError("Hypotenuse.forward")

    def backward(self, dy):
        raise NotImplementedError("Hypotenuse.backward")


# %%
try:
    print("exercise:", verdict(Hypotenuse, np.array([3.0, 1.0, -2.0]), np.array([4.0, -1.0, 0.5])))
except NotImplementedError as error:
    print("exercise: still to do,", error)
