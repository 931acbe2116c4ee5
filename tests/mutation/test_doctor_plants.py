"""Bugs planted into the gradient doctor: what measures, what referees, what names causes, what reports. Each must show.

The bugs are chosen: what an author might have written. Each is put into a copy of the package, and the tests that defend the
file that it is in (`DEFENDERS`) must turn red. tests/checking/test_corpus.py defends the hypotheses with a chosen mistake
for each of them; whole numbers of what is named rightly are measured there, too, by its slow test.
"""
import pytest
from planted import exit_status

DOCTOR, GRADCHECK = "checking/test_doctor.py", "checking/test_gradcheck.py"
HONEST, MERGE = "checking/test_never_wrong.py", "checking/test_merge.py"
SLOW = "50000", "3000", "600", "large_conv", "plot", "scale", "elementwise", "whatever"
QUICK = " and ".join(f"not {word}" for word in SLOW)
MEASURED = [DOCTOR, GRADCHECK, HONEST, "-k", QUICK]  # without what takes most of the time and says nothing new
CORPUS = ["checking/test_corpus.py", DOCTOR, "-k",
          "its_mistake or chosen or windows_that or some_elements or wrong_places or fits_a_cause or axes_that"]
DEFENDERS = {  # by file: files of tests, and what of them; of all other files: CORPUS
    "slopes.py": [DOCTOR, HONEST, "-k", f"{QUICK} and (kink or bent or hide or limits or pass or sharing or range)"],
    "one_input.py": MEASURED,
    "referee.py": [DOCTOR, HONEST, "-k", f"{QUICK} and (kink or bent or limits or pass or nan)"],
    "ties.py": [DOCTOR, HONEST, "-k", f"{QUICK} and (tie or sharing or kink or limits or do_not_pass)"],
    "examine.py": MEASURED,
    "point.py": [DOCTOR, GRADCHECK],
    "pairs.py": [DOCTOR],
    "subject.py": [DOCTOR, GRADCHECK],
    "merge.py": [MERGE],
    "low_precision.py": [DOCTOR, HONEST, "-k", f"{QUICK} and float32"],
    "factors.py": [DOCTOR, MERGE],
    "report.py": [DOCTOR, HONEST, MERGE, "-k", f"{QUICK} and (merge or report or text or error or page or columns or short)"],
    "picture.py": [DOCTOR, "-k", "picture or plot or text or slice"],
    "source_line.py": [DOCTOR, HONEST, "-k", "line or text"],
    "strategies.py": ["checking/test_testing.py"],
    "assertions.py": ["checking/test_testing.py"],
}

PLANTS = {
    # slopes.py
    "the step is counted once": ("slopes.py", "return (up - down) / (2 * h), np", "return (up - down) / h, np"),
    "no kink is recognised": ("slopes.py", "kinked = suspicious & ~noisy &", "kinked = False & suspicious &"),
    "whatever bends is a kink": ("slopes.py", "np.maximum(gap / 2, noise)", "np.minimum(gap / 20, noise)"),
    "a negative dout turns the sides of a kink round": (
        "slopes.py",
        "Expected(float(sides.min(axis=0).sum()), float(sides.max(axis=0).sum())",
        "Expected(float(sides[0].sum()), float(sides[1].sum())"),
    "rounding is thought a thousand times larger": ("slopes.py", "rounding = 8 * MACHINE", "rounding = 8e3 * MACHINE"),
    "rounding is left out": ("slopes.py", "rounding = 8 * MACHINE", "rounding = 0 * MACHINE"),
    "whatever is too large is accepted": ("slopes.py", "<= got <= self.high + slack + rtol * abs(self.high)", "<= got"),
    "what may differ is a thousand times as much": ("slopes.py", "slack = atol + (", "slack = 1000 * atol + ("),
    "large elements get the step of small ones": ("slopes.py", "size = max(1.0, abs(x))", "size = 1.0"),
    "a kink beside the point stays in the slope": (
        "slopes.py",
        "    value = np.where(beside, (left + right) / 2, value)\n",
        ""),
    # one_input.py
    "only the first cotangent is compared": (
        "one_input.py",
        "for k, dy in enumerate(self.cotangents):",
        "for k, dy in enumerate(self.cotangents[:1]):"),
    "the second cotangent meets the first's gradient": ("one_input.py", "float(self.got[k, i])", "float(self.got[0, i])"),
    "the complex step is believed always": (
        "one_input.py",
        "near = exact is not None and abs(exact - expected.value) <= expected.rounding + rtol * abs(expected.value)",
        "near = exact is not None"),
    "the complex step is never asked": ("one_input.py", "            return exact if far else None", "            return None"),
    "what is far off needs no referee": ("one_input.py", "len(self.findings) >= SETTLED and", "len(self.findings) >= 0 and"),
    "nothing but kinks is a check": ("one_input.py", "if 2 * kinks > size and", "if kinks > 2 * size and"),
    "bisection follows the half that is right": (
        "one_input.py",
        "int(np.argmax(np.nan_to_num(errors, nan=np.inf)))",
        "int(np.argmin(np.nan_to_num(errors, nan=np.inf)))"),
    "small slopes may be off by all of themselves": (
        "one_input.py",
        "min(self.limits.atol, max(SMALLEST, 1e-4 * largest))",
        "self.limits.atol"),
    "kinks are not counted": ("one_input.py", 'return "kink" if kinked else "agrees"', 'return "agrees"'),
    "all directions are the same": ("one_input.py", "self.rng.choice([-1.0, 1.0], size) * steps", "np.ones(size) * steps"),
    "a direction that disagrees is let go": (
        "one_input.py",
        "                return got, wanted\n",
        "                return None\n"),
    "nothing is measured for the cause of a large mistake": (
        "one_input.py",
        "self.rng.choice(size, min(SAMPLED, size), replace=False)",
        "()"),
    "the picture shows what is right as wrong": (
        "one_input.py",
        '{"agrees": ".", "kink": "~", "wrong": "#"}',
        '{"agrees": "#", "kink": "~", "wrong": "."}'),
    # referee.py
    "the referee accepts everything": ("referee.py", "        if value is None or jumps:\n", "        if True:\n"),
    "the referee accepts nothing": ("referee.py", "    if not np.isfinite(q.got):\n", "    if True:\n"),
    "NaN may be right": (
        "referee.py",
        "    if not np.isfinite(q.got):\n        return q.expected.value",
        "    if not np.isfinite(q.got):\n        return None"),
    "what stays the same jumps": ("referee.py", "abs(g - 8) < 0.1", "abs(g - 1) < 0.1"),
    "any slope may jump": ("referee.py", "return min(seen) - slack <= q.got <= max(seen) + slack", "return True"),
    "no slope may jump": ("referee.py", "return min(seen) - slack <= q.got <= max(seen) + slack", "return False"),
    "a smooth function jumps": (
        "referee.py",
        "    if max(seen) - min(seen) <= JUMP * max(",
        "    if max(seen) - min(seen) < 0 * max("),
    "any complex step is believed": (
        "referee.py",
        "if exact is not None and abs(exact - value) <=",
        "if exact is not None or 0 <="),
    "noise may hide a mistake": ("referee.py", " and noise < 0.3 * base:", ":"),
    "the steps all are the first": ("referee.py", "central(line, factor * q.h)", "central(line, STEPS[0] * h)"),
    # ties.py
    "any sum at a tie is right": ("ties.py", "    if abs(sum(got) - total) <= tolerance:\n", "    if True:\n"),
    "slopes beside a tie are not looked at": (
        "ties.py",
        "    if min(beside) - tolerance <= sum(got) <= max(beside) + tolerance:\n        return None\n",
        ""),
    "unequal elements are tied": ("ties.py", "groups.setdefault(float(", "groups.setdefault(0.0 * float("),
    "two equal elements are no tie": ("ties.py", "if len(group) > 1]", "if len(group) > 2]"),
    "shares at a tie may be off by a hundredth": ("ties.py", "SAME = 1e-5", "SAME = 1e-2"),
    "beside a tie all move by the same step": ("ties.py", "BESIDE * sign * rng.uniform(0.5, 1.0) for", "BESIDE for"),
    # point.py
    "a moved point is the old one": (
        "point.py",
        "return self.subject.gradients(dy, self.moved)",
        "return self.subject.gradients(dy)"),
    # examine.py
    "both cotangents are alike": (
        "examine.py",
        "standard_normal((COTANGENTS, size))",
        "standard_normal((1, size)).repeat(COTANGENTS, axis=0)"),
    "cotangents are those of the student's seed": ("examine.py", "default_rng([seed, STREAM]).", "default_rng(seed)."),
    "ties are not looked at": ("examine.py", "            self._check_ties()\n", "            pass\n"),
    "nobody asks whether backward is linear": ("examine.py", "            self._check_proportion()\n", "            pass\n"),
    "dout of 0 is not tried": ("examine.py", "max(largest, 1e-3)), 0.0):", "max(largest, 1e-3)),):"),
    "dout of the other sign is not tried": (
        "examine.py",
        "for factor in (-100.0 / min(1.0, max(largest, 1e-3)), 0.0):",
        "for factor in (0.0,):"),
    "float32 is not looked at": ("examine.py", "            self._check_low_precision()\n", "            pass\n"),
    "a forward off by a thousandth is the reference's": ("examine.py", "<= 1e-7 * abs(want) +", "<= 1e-3 * abs(want) +"),
    "only the last input is counted": (
        "examine.py",
        "report.elements += len(one.verdicts)",
        "report.elements = len(one.verdicts)"),
    "the best elements come first": ("examine.py", "key=lambda f: -abs(f.got", "key=lambda f: abs(f.got"),
    "what is unknown comes first": ("examine.py", 'cause.code == "unknown")', 'cause.code != "unknown")'),
    "float32 gradients of float64 pass": ("examine.py", "itemsize >= self.subject.dtype.itemsize for", "itemsize >= 4 for"),
    "beside the point is the point": ("examine.py", "moved = x + NUDGE * size *", "moved = x + 0 * size *"),
    "a backward that fits is said not to fit": ("examine.py", "if not self.report.wrong else", "if self.report.wrong else"),
    # pairs.py
    "samples with unknown options are checked": (
        "pairs.py",
        "inspect.signature(subject).bind(*inputs, **options)",
        "inspect.signature(subject).bind(*inputs)"),
    "an error about shapes is unknown": ("pairs.py", '"wrong-shape" if shapes', '"wrong-shape" if not shapes'),
    "the line is that of another gradient": (
        "pairs.py",
        "cause.input, list(subject.values), labels)",
        "cause.input, list(subject.values)[::-1], labels[::-1])"),
    "the loops of minidl's are not compared with": (
        "pairs.py",
        "reference = reference or (kind.naive if kind else None)",
        "reference = reference"),
    # subject.py
    "two backwards may differ": (
        "subject.py",
        "return bool(np.allclose(a, b, rtol=tolerance",
        "return True or bool(np.allclose(a, b, rtol=tolerance"),
    "forward may write": ("subject.py", '        self._refuse_written(arguments, before, "forward")\n', ""),
    "a dictionary is shared by all calls": ("subject.py", "        return copy.deepcopy(x)\n", "        return x\n"),
    "narrower outputs pass": (
        "subject.py",
        "out.dtype.itemsize < self.dtype.itemsize",
        "out.dtype.itemsize > self.dtype.itemsize"),
    "gradients come in reverse": ("subject.py", "zip(wanted, gradients)", "zip(wanted, gradients[::-1])"),
    "gradients of Tensors add up from call to call": (
        "subject.py",
        "x.grad, x.requires_grad = None, True",
        "x.requires_grad = True"),
    "only the last output counts": (
        "subject.py",
        "total = term if total is None else total + term",
        "total = term"),
    "moved variables stay moved": (
        "subject.py",
        "                x[...] = to_device(self.values[name], device_of(x))\n",
        "                pass\n"),
    # merge.py
    "the rarest cause leads": ("merge.py", "leading = max(votes,", "leading = min(votes,"),
    "what makes all doubtful comes last": ("merge.py", "(code in FIRST,", "(code not in FIRST,"),
    "what is unknown outvotes what is named": ("merge.py", "NAMED = 2.0", "NAMED = 0.5"),
    "names that fit any sample are kept": ("merge.py", "first.names &= cause.names", "first.names |= cause.names"),
    "the elements of one sample are counted": (
        "merge.py",
        "best.elements, best.directions = sum(r.elements for r in reports)",
        "best.elements, best.directions = sum(r.elements for r in reports[:1])"),
    # low_precision.py
    "float32 may lose a tenth": ("low_precision.py", "RTOL, OF_LARGEST, MOVES = 1e-4,", "RTOL, OF_LARGEST, MOVES = 1e-1,"),
    "float32 may not cancel": ("low_precision.py", " + MOVES * moved[name]", ""),
    # factors.py
    "a factor below 1 has no name": ("factors.py", "size = max(abs(factor), 1 / abs(factor))", "size = abs(factor)"),
    "1 - an option is 1 + it": ("factors.py", 'yield f"1 - {name}", 1 - value', 'yield f"1 - {name}", 1 + value'),
    "names fit a factor by a tenth": ("factors.py", "2e-5 * abs(b)", "0.1 * abs(b)"),
    "a window's square is its double": ("factors.py", 'else f"{name}**2", value**2', 'else f"{name}**2", value * 2'),
    # report.py
    "the ratio is turned over": ("report.py", "self.got / self.expected + 0.0", "self.expected / self.got + 0.0"),
    "a factor of 1/5 is said to be 5": ("report.py", "(number if size >= 1 else", "(number if size < 1 else"),
    "causes come by the alphabet": (
        "report.py",
        "list(dict.fromkeys(cause.code for cause in self.diagnoses))",
        "sorted({cause.code for cause in self.diagnoses})"),
    # picture.py
    "a smaller picture hides what is wrong": ("picture.py", "block.max(axis=axis", "block.min(axis=axis"),
    "the slice where least is wrong is drawn": ("picture.py", "int(wrong.argmax())", "int(wrong.argmin())"),
    # source_line.py
    "lines are counted from 0": ("source_line.py", "line {first + number - 1}:", "line {first + number - 2}:"),
    "the first return counts": (
        "source_line.py",
        "value: ast.expr = returned[-1].value",
        "value: ast.expr = returned[0].value"),
    # wrong_shape.py
    "sums over the wrong axes are tried": (
        "wrong_shape.py",
        "total = g.sum(axis=axes)",
        "total = g.sum(axis=tuple(g.ndim - a for a in axes))"),
    "what is cut off is one short": ("wrong_shape.py", "range(abs(a - b) + 1) for a, b", "range(abs(a - b)) for a, b"),
    "axes of a wrong shape are not exchanged": (
        "wrong_shape.py",
        "in permutations(range(g.ndim - 1)):",
        "in [*permutations(range(g.ndim - 1))][:1]:"),
    "nothing was broadcast": (
        "wrong_shape.py",
        "if np.broadcast_shapes(e.x.shape, y) != y or",
        "if np.broadcast_shapes(e.x.shape, y) == y or"),
    # evidence.py
    "shares are summed over the wrong axes": (
        "evidence.py",
        "axis=tuple(2 + a for a in summed)",
        "axis=tuple(1 + a for a in summed)"),
    "equal is what differs by a fiftieth": ("evidence.py", "CLOSE = 2e-5", "CLOSE = 2e-2"),
    "backward's Jacobian is turned": (
        "evidence.py",
        "self.pull(dy)[self.index] for dy in one], axis=1)",
        "self.pull(dy)[self.index] for dy in one[::-1]], axis=1)"),
    "the other input stays as it was": (
        "evidence.py",
        "self.point.outputs({**changed, self.name: up})",
        "self.point.outputs({self.name: up})"),
    # right_numbers.py
    "some zeros are nothing at all": ("right_numbers.py", "if not (e.here == 0).all():", "if not (e.here == 0).any():"),
    "upstream is never ignored": (
        "right_numbers.py",
        "if not (abs(left) > 1e-9 * e.scale).any():",
        "if (abs(left) >= 0).any():"),
    "upstream is always ignored": (
        "right_numbers.py",
        "if not (abs(left) > 1e-9 * e.scale).any():",
        "if not (abs(left) >= 0).any():"),
    "the sign is that of what is right": ("right_numbers.py", "if not e.fits(-e.expected):", "if not e.fits(e.expected):"),
    "a factor is turned over": (
        "right_numbers.py",
        "ratios = e.here[large] / e.expected[large]",
        "ratios = e.expected[large] / e.here[large]"),
    "axes in their own order are exchanged": ("right_numbers.py", "if kept != sorted(kept) and", "if kept == sorted(kept) and"),
    "no Jacobian is transposed": ("right_numbers.py", "not close(own, e.slopes.T)", "not close(own, e.slopes)"),
    "only the first axis is mirrored": (
        "right_numbers.py",
        "for c in combinations(axes, n)]",
        "for c in combinations(axes[:1], n)]"),
    "another input is never rearranged": (
        "right_numbers.py",
        "if not np.array_equal(moved, v) and e.fits_if(",
        "if np.array_equal(moved, v) and e.fits_if("),
    "a kernel is never turned": (
        "right_numbers.py",
        "if not np.array_equal(turned, v) and",
        "if np.array_equal(turned, v) and"),
    "sorted numbers are compared with unsorted": (
        "right_numbers.py",
        "e.alike(np.sort(g), np.sort(x))",
        "e.alike(np.sort(g), x)"),
    "two zeros are no pattern": ("right_numbers.py", "if bad.sum() < 2 or not", "if bad.sum() > 2 or not"),
    "a factor at some is one at all": ("right_numbers.py", "return _factor(e, bad, f", "return _factor(e, e.smooth, f"),
    # lost_shares.py
    "a sample that receives is one that does not": (
        "lost_shares.py",
        "np.where(samples == n, e.expected, 0.0)",
        "np.where(samples != n, e.expected, 0.0)"),
    "the samples' shares are mixed": (
        "lost_shares.py",
        "shares = e.shares(tuple(range(1, len(e.y_shape))))",
        "shares = e.shares(tuple(range(0, len(e.y_shape) - 1)))"),
    "what contributes to the wrong sample": (
        "lost_shares.py",
        "if e.fits(shares[:, :, n]):",
        "if e.fits(shares[:, :, n - 1] + shares[:, :, n]):"),
    "no share is ever lost": ("lost_shares.py", "return bool((kept == last).all() or (kept == first).all())", "return False"),
    "any share is an end": ("lost_shares.py", "return bool((kept == last).all() or (kept == first).all())", "return True"),
    "only what moves the other way is shifted": (
        "lost_shares.py",
        "theirs = tuple(slice(max(0, o), size - max(0, -o))",
        "theirs = tuple(slice(max(0, -o), size - max(0, o))"),
    "an edge is at most nothing wide": (
        "lost_shares.py",
        "in product(*(range(n // 2 + 1) for n",
        "in product(*(range(n // 2) for n"),
    "the inside is one too small": (
        "lost_shares.py",
        "share.shape[a] - margins[2 * a + 1]) for a",
        "share.shape[a] - margins[2 * a + 1] - 1) for a"),
    "windows at the edge are those inside": (
        "lost_shares.py",
        "reaches_over = covered < covered.max()",
        "reaches_over = covered == covered.max()"),
    # statistics_path.py
    "every path is missing": (
        "statistics_path.py",
        "return _missing(e, path) if abs(ratio) < 1e-3",
        "return _missing(e, path) if abs(ratio) < 1e3"),
    "no path is held fixed": (
        "statistics_path.py",
        "if (abs(own[off]) <= 1e-9 * size).all():",
        "if (abs(own[off]) > 1e-9 * size).all():"),
    "the mean is not taken away": ("statistics_path.py", "u = x[group] - x[group].mean()", "u = x[group]"),
    "a path of the wrong sign is scaled": (
        "statistics_path.py",
        "    if abs(ratio + 1) < 1e-4:\n",
        "    if abs(ratio - 1) < 1e-4:\n"),
    "a reduction's path is never missing": (
        "statistics_path.py",
        "if abs(missing).max() < 1e-4 * size:",
        "if abs(missing).max() >= 0 * size:"),
    "softmax is summed over the batch": (
        "statistics_path.py",
        "p /= p.sum(axis=1, keepdims=True)",
        "p /= p.sum(axis=0, keepdims=True)"),
    # causes.py
    "the last hypothesis is forgotten": ("causes.py", "    right_numbers.factor_at_some,\n", ""),
    "zeros are named before samples and shares": (
        "causes.py",
        "    right_numbers.nothing_arrives,\n",
        "    right_numbers.nothing_at_some,\n    right_numbers.nothing_arrives,\n"),
    # assertions.py, strategies.py
    "float64 outputs of float32 pass": ("assertions.py", "if y.dtype != np.float32:", "if y.dtype == np.float16:"),
    "strides are not strided": ("assertions.py", "view = wide[..., ::2] if", "view = wide[..., :x.shape[-1]] if"),
    "values apart sit on 0": ("strategies.py", "- size // 2 + 0.5) / 7", "- size // 2) / 7"),
    "kernels reach over the padded image": ("strategies.py", "max(1, kernel - 2 * padding)", "1"),
}


@pytest.mark.mutation
@pytest.mark.parametrize("plant", PLANTS)
def test_a_bug_in_the_doctor_turns_its_tests_red(plant, tmp_path):
    name, old, new, *chosen = PLANTS[plant]
    tests = chosen[0] if chosen else DEFENDERS.get(name, CORPUS)
    assert exit_status(tmp_path, tests, f"checking/{name}", old, new) == 1, "no test noticed"


@pytest.mark.mutation
@pytest.mark.parametrize("name", ["causes.py", *DEFENDERS])
def test_with_nothing_planted_the_tests_are_green(name, tmp_path):
    assert exit_status(tmp_path, DEFENDERS.get(name, CORPUS)) == 0
