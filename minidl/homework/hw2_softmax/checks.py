"""What is checked in homework 2."""
import numpy as np

from minidl import check_backward
from minidl.data import digits
from minidl.homework.parts import close, in_case, part, refuses, shown


def check_pair(case, forward, backward, inputs, **options):
    """The doctor's verdict, with the case in front."""
    with in_case(case):
        check_backward(forward, backward, inputs, **options)


def softmax_by_rows(x):
    """The definition, for small x."""
    return np.array([[np.exp(a) / sum(np.exp(b) for b in row) for a in row] for row in x], dtype=float)


def scores(rng):
    """Yields x (N, K) of several shapes; no two of one row are the same."""
    for shape in ((4, 3), (3, 3), (1, 5), (2, 1), (2, 7)):
        yield 2 * rng.normal(size=shape)


@part("softmax", 1, "rows of probabilities, as the formula says")
def _(hw, ref, rng):
    for x in scores(rng):
        before = x.copy()
        y = hw.softmax_forward(x)[0]
        close(y, softmax_by_rows(x), f"softmax_forward(x of shape {x.shape})[0]")
        close(x, before, "x after softmax_forward(x), which must not write into it")


@part("softmax", 1, "numbers of any size, and float32 stays float32")
def _(hw, ref, rng):
    small = rng.normal(size=(3, 4))
    for size in (1e3, -1e3, 1e5, -1e5):
        with np.errstate(all="ignore"):
            y = hw.softmax_forward(small + size)[0]
        close(y, softmax_by_rows(small), f"softmax_forward(x + {size:g})[0], which must be the same as for x", rtol=1e-6)
    with np.errstate(all="ignore"):
        y = hw.softmax_forward(np.array([[1000.0, 0.0, -1000.0], [-800.0, 0.0, 1.0], [5.0, 2000.0, 3.0]]))[0]
    e = np.exp(1.0)
    close(y, np.array([[1, 0, 0], [0, 1 / (1 + e), e / (1 + e)], [0, 1, 0]]),
          "softmax_forward of rows with very different sizes, (1000, 0, -1000), (-800, 0, 1) and (5, 2000, 3)")
    y = hw.softmax_forward(small.astype(np.float32))[0]
    close(y, softmax_by_rows(small), "softmax_forward(x in float32)[0]", rtol=1e-6, dtype=np.float32)


@part("softmax", 2, "backward is the slope of forward")
def _(hw, ref, rng):
    for x in scores(rng):
        check_pair(f"x of shape {x.shape}", hw.softmax_forward, hw.softmax_backward, [x], names=["x"],
                   reference=softmax_by_rows)
    x, dy = rng.normal(size=(2, 3, 4))
    cache = hw.softmax_forward(x)[1]
    close(hw.softmax_backward(dy + 7, cache), hw.softmax_backward(dy, cache),
          "softmax_backward(dy + 7, cache), which must be the same as for dy: probabilities sum to 1")


@part("log_softmax", 1, "the logarithm of softmax")
def _(hw, ref, rng):
    for x in scores(rng):
        before = x.copy()
        close(hw.log_softmax_forward(x)[0], np.log(softmax_by_rows(x)), f"log_softmax_forward(x of shape {x.shape})[0]")
        close(x, before, "x after log_softmax_forward(x), which must not write into it")


@part("log_softmax", 1, "numbers of any size")
def _(hw, ref, rng):
    with np.errstate(all="ignore"):
        y = hw.log_softmax_forward(np.array([[0.0, -1000.0, -2000.0], [3000.0, 0.0, 3000.0]]))[0]
    half = np.log(0.5)
    close(y, np.array([[0, -1000, -2000], [half, -3000 + half, half]]),
          "log_softmax_forward of the rows (0, -1000, -2000) and (3000, 0, 3000)")
    x = rng.normal(size=(3, 4))
    with np.errstate(all="ignore"):
        close(hw.log_softmax_forward(x + 1e4)[0], np.log(softmax_by_rows(x)),
              "log_softmax_forward(x + 10000)[0], which must be the same as for x", rtol=1e-9)


@part("log_softmax", 2, "backward is the slope of forward, also where a probability vanishes")
def _(hw, ref, rng):
    for x in scores(rng):
        check_pair(f"x of shape {x.shape}", hw.log_softmax_forward, hw.log_softmax_backward, [x], names=["x"],
                   reference=lambda x: np.log(softmax_by_rows(x)))
    dy = rng.normal(size=(2, 2))
    with np.errstate(all="ignore"):
        cache = hw.log_softmax_forward(np.array([[0.0, -1000.0], [-1000.0, 0.0]]))[1]
        dx = hw.log_softmax_backward(dy, cache)
    close(dx, np.array([[-dy[0, 1], dy[0, 1]], [dy[1, 0], -dy[1, 0]]]),
          "log_softmax_backward for the rows (0, -1000) and (-1000, 0), where y is (x - max) up to rounding")


def cross_entropy_by_rows(x, labels):
    return float(np.mean([-np.log(row[label]) for row, label in zip(softmax_by_rows(x), labels, strict=True)]))


LABELS = {(4, 3): [2, 0, 2, 1], (3, 3): [0, 0, 0], (1, 5): [3], (2, 1): [0, 0], (2, 7): [6, 0]}


@part("cross_entropy", 1, "the mean over the examples, as the formula says")
def _(hw, ref, rng):
    for x in scores(rng):
        labels = np.array(LABELS[x.shape])
        before = x.copy()
        loss = hw.cross_entropy_forward(x, labels)[0]
        close(loss, cross_entropy_by_rows(x, labels), f"cross_entropy_forward(x {x.shape}, labels {labels.tolist()})[0]")
        close(x, before, "x after cross_entropy_forward(x, labels), which must not write into it")
    close(hw.cross_entropy_forward(np.zeros((6, 10)), np.arange(6))[0], np.log(10.0),
          "cross_entropy_forward(zeros of shape (6, 10), labels)[0], which is log(10): all classes are equally likely")


@part("cross_entropy", 1, "scores of any size")
def _(hw, ref, rng):
    x, labels = np.array([[1000.0, 0.0], [0.0, 2000.0], [0.0, 0.0]]), np.array([1, 1, 0])
    with np.errstate(all="ignore"):
        loss, cache = hw.cross_entropy_forward(x, labels)
        dx = hw.cross_entropy_backward(1.0, cache)
    close(loss, (1000 + 0 + np.log(2.0)) / 3, "cross_entropy_forward([[1000, 0], [0, 2000], [0, 0]], [1, 1, 0])[0]")
    close(dx, np.array([[1, -1], [0, 0], [-0.5, 0.5]]) / 3, "cross_entropy_backward(1.0, cache) for these scores and labels")


@part("cross_entropy", 2, "backward is the slope of forward, for any dloss")
def _(hw, ref, rng):
    for x in scores(rng):
        labels = np.array(LABELS[x.shape])
        what = f"x of shape {x.shape}, labels {labels.tolist()}"
        check_pair(what, hw.cross_entropy_forward, hw.cross_entropy_backward, [x, labels], names=["x", "labels"],
                   reference=cross_entropy_by_rows)
        cache = hw.cross_entropy_forward(x, labels)[1]
        dx = hw.cross_entropy_backward(-2.5, cache)
        close(dx, -2.5 * hw.cross_entropy_backward(1.0, cache),
              f"{what}: cross_entropy_backward(-2.5, cache), which must be -2.5 times the one for 1.0")


@part("numeric_gradient", 1, "central differences of the weighted outputs, for x and y of any shape")
def _(hw, ref, rng):
    p, a, cube, one = rng.uniform(0.5, 2, (2, 3)), rng.normal(size=(4, 3)), rng.uniform(0.5, 2, (2, 1, 3)), np.array(1.5)
    u, v = rng.normal(size=(2, 3)), rng.normal(size=(2, 4))
    for what, f, x, dy, dx in (
        ("x ** 3", lambda x: x**3, p, u, 3 * p**2 * u),
        ("sin(x)", np.sin, p, u, np.cos(p) * u),
        ("x @ a.T", lambda x: x @ a.T, p, v, v @ a),
        ("the sum of x ** 2", lambda x: float((x**2).sum()), cube, np.array(-3.0), -6 * cube),
        ("x ** 2 of a single number", lambda x: x**2, one, np.array(2.0), np.array(6.0)),
    ):
        got, _ = hw.numeric_gradient(f, x, dy)
        close(got, dx, f"numeric_gradient(f, x of shape {x.shape}, dy)[0], f(x) is {what}", rtol=1e-7)
    x = np.array([1.0, -2.0, 0.5])
    close(hw.numeric_gradient(lambda x: x**3, x, np.ones(3), eps=0.25)[0], 3 * x**2 + 0.25**2,
          "numeric_gradient(f, x, dy, eps=0.25)[0], f(x) is x ** 3: the central difference is 3 x ** 2 + eps ** 2")
    close(hw.numeric_gradient(lambda x: x.sum() ** 2, x, np.array(1.0), eps=0.25)[0], np.full(3, 2 * x.sum()),
          "numeric_gradient(f, x, dy, eps=0.25)[0], f(x) is x.sum() ** 2: while one element moves, the others must stay")


@part("numeric_gradient", 2, "float32, integers, functions that hand back their input; x is as before")
def _(hw, ref, rng):
    for x in (rng.uniform(1, 2, (2, 3)).astype(np.float32), np.array([[1, -2, 3]]), rng.uniform(1, 2, (2, 3))):
        before, dy = x.copy(), rng.normal(size=x.shape)
        got, _ = hw.numeric_gradient(lambda x: x**2, x, dy)
        close(got, 2 * x.astype(float) * dy, f"numeric_gradient(f, x of dtype {x.dtype}, dy)[0], f(x) is x ** 2", rtol=1e-7)
        close(x, before, f"x (dtype {x.dtype}) after numeric_gradient(f, x, dy)")
        if x.dtype != before.dtype:
            raise AssertionError(f"x after numeric_gradient(f, x, dy): its dtype was {before.dtype} and is now {x.dtype}")
    x = rng.normal(size=(2, 3))
    for what, f, back in (("x itself", lambda x: x, lambda dy: dy), ("x.T, a view", lambda x: x.T, lambda dy: dy.T),
                          ("x.reshape(6), a view", lambda x: x.reshape(6), lambda dy: dy.reshape(2, 3))):
        dy = rng.normal(size=f(x).shape)
        expected = back(dy)
        close(hw.numeric_gradient(f, x, dy)[0], expected, f"numeric_gradient(f, x, dy)[0], f returns {what}", rtol=1e-7)


def relu_forward(x):
    return np.maximum(x, 0), x


@part("numeric_gradient", 1, "tells kinks from smooth places")
def _(hw, ref, rng):
    x, dy = np.array([[0.0, 1.0, -1.0], [2.0, 0.0, 0.0]]), np.array([[1.5, -2.0, 1.0], [3.0, -1.0, 2.0]])
    for what, f, at_zero in (("maximum(x, 0)", lambda x: np.maximum(x, 0), dy / 2), ("abs(x)", np.abs, 0 * dy)):
        dx, kinks = hw.numeric_gradient(f, x, dy)
        what = f"numeric_gradient(f, x, dy), f(x) is {what}, x with zeros"
        close(kinks, x == 0, f"{what}: kinks")
        close(dx[x == 0], at_zero[x == 0], f"{what}: dx where x is 0, the mean of the slopes to both sides", rtol=1e-6)
    ties = np.array([[3.0, 1.0, 3.0]])
    close(hw.numeric_gradient(lambda x: x.max(axis=1), ties, np.array([2.0]))[1], ties == 3.0,
          "numeric_gradient(f, x, dy), f(x) is the maximum of (3, 1, 3): kinks")
    for what, f in (("x ** 3", lambda x: x**3), ("1000 (x + 3) ** 2", lambda x: 1000 * (x + 3) ** 2), ("sin(x)", np.sin)):
        kinks = hw.numeric_gradient(f, x, dy)[1]
        close(kinks, np.zeros(x.shape, dtype=bool), f"numeric_gradient(f, x, dy), f(x) is {what}: kinks")


def wrong_places(hw, forward, backward, x, rng, what):
    """What the student's check_gradient says, as a set of tuples."""
    got = hw.check_gradient(forward, backward, x, rng)
    try:
        return {tuple(int(j) for j in index) for index in got}
    except TypeError:
        raise AssertionError(f"check_gradient of {what}: got {shown(got)}, expected a list of indices of x, each a tuple; "
                             "an empty one if the gradient is right") from None


def accepts(hw, forward, backward, x, rng, what):
    before = x.copy()
    wrong = wrong_places(hw, forward, backward, x, rng, what)
    if wrong:
        raise AssertionError(f"check_gradient refused a right gradient, {what}: it named {sorted(wrong)[:5]}")
    close(x, before, f"x after check_gradient of {what}")


@part("check_gradient", 1, "accepts right gradients: any shape of x and y, large and small slopes")
def _(hw, ref, rng):
    rows = rng.normal(size=(4, 5))
    accepts(hw, ref.softmax_forward, ref.softmax_backward, rows, rng, "softmax")
    accepts(hw, ref.log_softmax_forward, ref.log_softmax_backward, rows, rng, "log-softmax")
    labels = np.array([0, 4, 4, 2])
    accepts(hw, lambda x: ref.cross_entropy_forward(x, labels), ref.cross_entropy_backward, rows, rng, "cross-entropy")
    for size in (1e-3, 1.0, 1e5):
        accepts(hw, lambda x, size=size: (size * x**3, x), lambda dy, x, size=size: 3 * size * x**2 * dy,
                rng.uniform(0.5, 2, (2, 3, 2)), rng, f"{size:g} x ** 3, x of shape (2, 3, 2)")
    x = rng.normal(size=4)
    accepts(hw, lambda x: (float(x.sum()), 4), lambda dy, size: np.full(size, dy), x, rng, "x.sum(), a Python float")
    accepts(hw, lambda x: (x[:, None] * np.ones(3), None), lambda dy, cache: dy.sum(axis=1), x, rng, "x repeated three times")


# All give what is right if dy is all ones, 0: the rows of softmax sum to 1.
WRONG_SOFTMAX = {
    "doubled": lambda dy, y: 2 * y * (dy - (dy * y).sum(axis=1, keepdims=True)),
    "of the wrong sign": lambda dy, y: y * ((dy * y).sum(axis=1, keepdims=True) - dy),
    "all zeros": lambda dy, y: np.zeros_like(dy),
    "without its factor y": lambda dy, y: dy - (dy * y).sum(axis=1, keepdims=True),
    "with the plain mean of dy in place of the one weighted by y": lambda dy, y: y * (dy - dy.mean(axis=1, keepdims=True)),
}


@part("check_gradient", 2, "refuses five wrong softmax gradients that pass when dy is all ones")
def _(hw, ref, rng):
    def forward(x):
        y = ref.softmax_forward(x)[0]
        return y, y

    for what, rule in WRONG_SOFTMAX.items():
        for _ in range(2):
            if not wrong_places(hw, forward, rule, rng.normal(size=(4, 5)), rng, f"softmax {what}"):
                raise AssertionError(f"check_gradient accepted a wrong softmax gradient, {what}. Is its dy random? With ones, "
                                     "this gradient and the right one are both 0")
    accepts(hw, forward, lambda dy, y: y * (dy - (dy * y).sum(axis=1, keepdims=True)), rng.normal(size=(4, 5)), rng, "softmax")


@part("check_gradient", 1, "names the wrong elements, NaN among them, and refuses a wrong shape")
def _(hw, ref, rng):
    x = rng.uniform(0.5, 2, (3, 4))
    for what, spoil in (("1 % too large", lambda d: 1.01 * d), ("NaN", lambda d: np.nan), ("infinite", lambda d: np.inf),
                        ("0", lambda d: 0.0)):
        def spoiled(dy, x, spoil=spoil):
            dx = 2 * x * dy
            for i in ((0, 2), (2, 3)):
                dx[i] = spoil(dx[i])
            return dx

        with np.errstate(all="ignore"):
            wrong = wrong_places(hw, lambda x: (x**2, x), spoiled, x, rng, "x ** 2")
        if wrong != {(0, 2), (2, 3)}:
            raise AssertionError(f"check_gradient of x ** 2, whose gradient is {what} at (0, 2) and (2, 3), else right: "
                                 f"expected these two, got {sorted(wrong)}")
    if not wrong_places(hw, lambda x: (np.sin(x), x), lambda dy, x: np.cos(x), x, rng, "sin(x)"):
        raise AssertionError("check_gradient accepted cos(x) as the gradient of sin(x): it lacks the factor dy")
    for shape in ((4,), (3, 1), (12,)):
        def misshapen(dy, x, shape=shape):
            return np.ones(shape)

        refuses(lambda backward=misshapen: hw.check_gradient(lambda x: (x * 1.0, x), backward, x, rng), "",  # type: ignore[misc]
                f"check_gradient of a gradient of shape {shape} for x of shape (3, 4)")


@part("check_gradient", 2, "at kinks any legal slope is right, and elsewhere it looks on")
def _(hw, ref, rng):
    x = np.array([[0.0, 1.0, -1.0, 0.0], [2.0, 0.0, -0.5, 0.0]])
    for slope in (0.0, 0.5, 1.0):
        def with_slope(dy, x, slope=slope):
            return np.where(x == 0, slope, x > 0) * dy
        accepts(hw, relu_forward, with_slope, x, rng, f"ReLU with the slope {slope:g} at 0")
    for what, backward, expected in (
        ("turned around", lambda dy, x: (x < 0) * dy, x != 0),
        ("1 everywhere", lambda dy, x: dy, x < 0),
        ("0 everywhere", lambda dy, x: 0 * dy, x > 0),
        ("doubled", lambda dy, x: 2 * (x > 0) * dy, x > 0),
    ):
        wrong = wrong_places(hw, relu_forward, backward, x, rng, f"ReLU, {what}")
        right = {tuple(int(j) for j in i) for i in np.argwhere(expected)}
        if wrong != right:
            raise AssertionError(f"check_gradient of a ReLU gradient that is {what}, x with zeros: expected {sorted(right)}, "
                                 f"got {sorted(wrong)}; kinks are left out, all others count")


@part("linear", 1, "forward: one row of w for each output")
def _(hw, ref, rng):
    for N, D, K in ((4, 3, 2), (1, 2, 5), (3, 3, 3)):
        x, w, b = rng.normal(size=(N, D)), rng.normal(size=(K, D)), rng.normal(size=K)
        y = np.array([[sum(x[n] * w[k]) + b[k] for k in range(K)] for n in range(N)])
        close(hw.linear_forward(x, w, b)[0], y, f"linear_forward(x {x.shape}, w {w.shape}, b {b.shape})[0]")


@part("linear", 2, "backward is the slope of forward, for x, w and b")
def _(hw, ref, rng):
    for N, D, K in ((4, 3, 2), (1, 2, 5), (3, 3, 3), (5, 1, 1)):
        inputs = [rng.normal(size=(N, D)), rng.normal(size=(K, D)), rng.normal(size=K)]
        check_pair(f"x {(N, D)}, w {(K, D)}, b {(K,)}", hw.linear_forward, hw.linear_backward, inputs,
                   names=["x", "w", "b"], reference=lambda x, w, b: np.einsum("nd,kd->nk", x, w) + b)


def by_hand(x, labels, w, b, steps, lr):
    """Gradient descent on all of x, written with one-hot labels."""
    hot, losses = np.eye(len(b))[labels], []
    for _ in range(steps):
        p = softmax_by_rows(x @ w.T + b)
        losses.append(float(-np.log((p * hot).sum(axis=1)).mean()))
        dy = (p - hot) / len(x)
        w, b = w - lr * dy.T @ x, b - lr * dy.sum(axis=0)
    return w, b, losses


def check_steps(hw, rng, steps):
    x, labels, w, b = rng.normal(size=(6, 4)), np.array([0, 2, 1, 1, 0, 2]), rng.normal(size=(3, 4)), rng.normal(size=3)
    before = w.copy(), b.copy()
    got = hw.train(x, labels, w, b, steps=steps, lr=0.3, batch_size=6, rng=rng)
    for name, value, expected in zip(("w", "b", "losses"), got, by_hand(x, labels, *before, steps, 0.3), strict=True):
        close(value, np.array(expected), f"train(6 examples, steps={steps}, lr=0.3, batch_size=6): {name}", rtol=1e-8)
    close(w, before[0], "the w that train was given, after train")
    close(b, before[1], "the b that train was given, after train")


@part("train", 2, "one step on all examples; the weights that it was given stay as they are")
def _(hw, ref, rng):
    check_steps(hw, rng, 1)


@part("train", 1, "more steps, each from where the last one ended")
def _(hw, ref, rng):
    check_steps(hw, rng, 5)


@part("train", 1, "each step sees a new random batch of different examples, each with its own label")
def _(hw, ref, rng):
    N, K, batch_size = 100, 3, 20
    x, labels = np.eye(N), rng.integers(K, size=N)  # each example has a column of w for itself
    seen = []
    for steps in (1, 1, 2):
        w = hw.train(x, labels, np.zeros((K, N)), np.zeros(K), steps=steps, lr=1.0, batch_size=batch_size, rng=rng)[0]
        used = (w != 0).any(axis=0)
        seen.append(used)
        if steps == 1 and used.sum() != batch_size:
            raise AssertionError(f"train(100 examples, steps=1, batch_size=20): {used.sum()} different examples had an "
                                 "influence, expected 20")
        if (w.argmax(axis=0) != labels)[used].any():
            raise AssertionError("train: an example did not pull w towards its own label; is each step against the gradient, "
                                 "and are x and labels indexed by the same rows?")
    if (seen[0] == seen[1]).all():
        raise AssertionError("train, called twice with the same Generator: both saw the same examples; draw them with rng")
    if seen[2].sum() == batch_size:
        raise AssertionError("train(100 examples, steps=2, batch_size=20): both steps saw the same examples; draw each time")


@part("train", 1, "handwritten digits: more than 85 % right on the test images")
def _(hw, ref, rng):
    data = digits()
    x, test = (images.reshape(len(images), 64).astype(np.float64) for images in (data.train_images, data.test_images))
    w, b, losses = hw.train(x, data.train_labels, np.zeros((10, 64)), np.zeros(10), steps=200, lr=0.5, batch_size=50, rng=rng)
    close(losses[0], np.log(10.0), "train on digits from w = 0, b = 0: the first loss, log(10)")
    if len(losses) != 200:
        raise AssertionError(f"train(steps=200) on digits: expected 200 losses, got {len(losses)}")
    right = float(((test @ w.T + b).argmax(axis=1) == data.test_labels).mean())
    if not right > 0.85:
        raise AssertionError(f"train on digits, 200 steps of 50 examples, lr=0.5: {right:.1%} of the test images are right, "
                             "expected more than 85 %")
