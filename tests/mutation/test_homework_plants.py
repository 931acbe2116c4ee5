"""Bugs planted into the homework engine and `minidl check`: points, processes, hints, tables, students' files. Each must show.

The bugs are chosen: what an author might have written. Each is put into a copy of the package, and the tests that defend the
file that it is in (`DEFENDERS`), or those named with the plant where processes make all of them slow, must turn red.
"""
import pytest
from planted import exit_status

SOURCE, PARTS, RUNNER = "homework/test_source.py", "homework/test_parts.py", "homework/test_runner.py"
CLI, CHECK = "homework/test_cli.py", "cli/test_check.py"
DEFENDERS = {  # by file: files of tests, and what of them
    "homework/source.py": [SOURCE],
    "homework/parts.py": [PARTS],
    "homework/catalog.py": [SOURCE],
    "homework/judge.py": [RUNNER, "-k", "reference or mine or future or judged or right_file or stub or earlier or random"],
    "homework/fingerprint.py": [RUNNER, "-k", "changes_what"],
    "homework/runner.py": [RUNNER],
    "homework/grading.py": [CLI, RUNNER, "-k", "grade or programs or right_file or which or not_load"],
    "cli/homework.py": [CLI, "-k", "not ctrl"],
    "cli/check.py": [CHECK, "-k", "not all_operations and not ctrl and not terminal"],
    "cli/student_file.py": [CHECK, "-k", "not all_operations and not ctrl and not terminal"],
}

PLANTS = {
    # source.py
    "hints are given away in the stub": (
        "homework/source.py",
        'elif not line.strip().startswith("#:"):',
        "else:"),
    "the last line of a solution stays in the stub": (
        "homework/source.py",
        "dict.fromkeys(range(first, last + 1), [])",
        "dict.fromkeys(range(first, last - 1), [])"),
    "a hint's second line is lost": (
        "homework/source.py",
        '            source.tasks[-1].hints[-1] += " " + mark[2:].strip()\n',
        ""),
    "constants belong to no task": (
        "homework/source.py",
        "isinstance(statement, (ast.Assign, ast.AnnAssign)):",
        "isinstance(statement, ast.AnnAssign):"),
    "a hint too few is enough": ("homework/source.py", "if len(task.hints) != HINTS:", "if len(task.hints) > HINTS:"),
    "points and minutes are exchanged": (
        "homework/source.py",
        "int(match[2]), int(match[3]), number",
        "int(match[3]), int(match[2]), number"),
    # parts.py
    "values may differ a thousand times as much": ("homework/parts.py", "rtol: float = 1e-9", "rtol: float = 1e-6"),
    "NaN equals everything": ("homework/parts.py", "(np.isnan(y) & np.isnan(right))", "(np.isnan(y) | np.isnan(right))"),
    "shapes are not compared": ("homework/parts.py", "if y.shape != right.shape:", "if y.size != right.size:"),
    "any dtype will do": (
        "homework/parts.py",
        "if dtype is not None and y.dtype != np.dtype(dtype):",
        "if dtype is not None and y.dtype != y.dtype:"),
    "the message of an error is not read": ("homework/parts.py", "        if missing:\n", "        if False:\n"),
    "what is not written refuses": (
        "homework/parts.py",
        "    except NotImplementedError:\n        raise\n",
        "    except NotImplementedError:\n        return\n"),
    "the place of the smallest difference is told": (
        "homework/parts.py",
        "np.argmax(np.where(wrong, gap, -1))",
        "np.argmin(np.where(wrong, gap, -1))"),
    # catalog.py
    "points of parts may be fewer than the task's": (
        "homework/catalog.py",
        "if points != task.points:",
        "if points > task.points:"),
    "homeworks come in reverse": (
        "homework/catalog.py",
        "key=lambda homework: homework.number)",
        "key=lambda homework: -homework.number)"),
    # judge.py
    "earlier tasks are not replaced": ("homework/judge.py", "for earlier in homework.source.tasks:", "for earlier in ():"),
    "the student's module is the reference": ("homework/judge.py", "if earlier.name == task or mine:", "if mine:"),
    "nothing is ever mine": ("homework/judge.py", "if earlier.name == task or mine:", "if earlier.name == task:"),
    "earlier tasks are replaced when all is loaded": (
        "homework/judge.py",
        "            module.__dict__.update({key: value for key, value in replaced.items() if key in module.__dict__})\n",
        ""),
    "an exception is passed": ("homework/judge.py", 'return Verdict("lost", told(', 'return Verdict("passed", told('),
    "a future import holds for its line": ("homework/judge.py", "flags |= feature", "flags &= feature"),
    "all parts have one seed too many": (
        "homework/judge.py",
        "default_rng([zlib.crc32(part.task.encode()), part.number])",
        "default_rng()"),
    # fingerprint.py
    "code is not looked at": (
        "homework/fingerprint.py",
        "return (function, code, inner.__defaults__, *",
        "return (function, inner.__defaults__, *"),
    "keywords are not looked at": ("homework/fingerprint.py", ", *keywords, *keywords.values())", ")"),
    "one part that is the same is enough": ("homework/fingerprint.py", "and all(old is new for", "and any(old is new for"),
    "a builtin may be hidden": (
        "homework/fingerprint.py",
        "if name not in before and hasattr(builtins, name):",
        "if name in before and hasattr(builtins, name) and False:"),
    "methods are not looked at": (
        "homework/fingerprint.py",
        "                found.update(_methods(name, value))\n",
        "                pass\n"),
    "builtins are put back and forgotten": (
        "homework/fingerprint.py",
        "self._changed_builtin = self._changed_builtin or f",
        "self._changed_builtin = self._changed_builtin and f"),
    # runner.py
    "the fingerprint is ignored": (
        "homework/runner.py",
        "    if changed:\n        told = ",
        "    if False:\n        told = ",
        [RUNNER, "-k", "changes_what"]),
    "ten times the time": (
        "homework/runner.py",
        "process.wait(self.seconds)",
        "process.wait(10 * self.seconds)",
        [RUNNER, "-k", "3_s or not_done or while"]),
    "the group is not killed": (
        "homework/runner.py",
        "os.killpg(process.pid, signal.SIGKILL)",
        "os.kill(process.pid, signal.SIGKILL)",
        [RUNNER, "-k", "it_started"]),
    "four times the memory": (
        "homework/runner.py",
        'job["megabytes"] * 2**20',
        'job["megabytes"] * 2**22',
        [RUNNER, "-k", "memory_is_counted"]),
    "a part for a GPU is passed where there is none": (
        "homework/runner.py",
        'Verdict("not run", no_gpu())',
        'Verdict("passed", no_gpu())'),
    "the first lines of what is printed are kept": (
        "homework/runner.py",
        "[-KEPT_LINES:]",
        "[:KEPT_LINES]",
        [RUNNER, "-k", "printed"]),
    "what is printed is taken for news": ("homework/runner.py", "    os.dup2(2, 1)\n", "", [RUNNER, "-k", "fake"]),
    "a part that ends its process costs all the others": (
        "homework/runner.py",
        "            if not timed_out:\n                return",
        "            if timed_out:\n                return",
        [RUNNER, "-k", "trouble and float"]),
    "long messages are not cut": (
        "homework/runner.py",
        "    if len(text) > KEPT_MESSAGE:\n",
        "    if len(text) > KEPT_MESSAGE**2:\n",
        [RUNNER, "-k", "middle"]),
    "a terminal obeys what is printed": (
        "homework/runner.py",
        'letter.isprintable() or letter in "\\n\\t"',
        'letter or letter in "\\n\\t"',
        [RUNNER, "-k", "terminal"]),
    "the file's folder hides modules": (
        "homework/runner.py",
        "            sys.path.remove(folder)\n            sys.path.append(folder)\n",
        "            pass\n",
        [RUNNER, "-k", "neighbour"]),
    "solutions may be imported": (
        "homework/runner.py",
        "    sys.meta_path.insert(0, _NoSolutions())\n",
        "",
        [RUNNER, "-k", "not_load"]),
    "a checker that does not start is the student's fault": (
        "homework/runner.py",
        "        if not self.ready:\n",
        "        if False:\n",
        [RUNNER, "-k", "not_start"]),
    "the second part's verdict is the first's": (
        "homework/runner.py",
        "run.verdicts = [done[part.number] for part in parts]",
        "run.verdicts = [done[1] for part in parts]",
        [RUNNER, "-k", "right_file or trouble"]),
    # grading.py
    "the points of the first task alone count": (
        "homework/grading.py",
        'return sum(task.count("passed") for task in self.tasks)',
        'return sum(task.count("passed") for task in self.tasks[:1])'),
    "what was not run could be had": (
        "homework/grading.py",
        'return sum(task.count("passed", "lost") for task',
        'return sum(task.count("passed", "lost", "not run") for task'),
    "a file that does not load is tried for every task": (
        "homework/grading.py",
        "            result.load_error = run.load_error\n",
        "            result.load_error = ''\n"),
    "a formula goes into the table": (
        "homework/grading.py",
        'text.startswith(("=", "+", "-", "@"))',
        'text.startswith(("+", "-", "@"))'),
    "JSON lacks what could be had": (
        "homework/grading.py",
        '"points": result.points, "of": result.of,',
        '"points": result.points,'),
    "what was not run is green": (
        "homework/grading.py",
        '"status": "passed" if passed else "failed"',
        '"status": "failed" if verdict.status == "lost" else "passed"'),
    "the first of several files is judged": ("homework/grading.py", "if len(named) > 1:", "if len(named) > 2:"),
    "the checker's failure is the student's": (
        "homework/grading.py",
        'f"not judged: {error}", True',
        'f"not judged: {error}", False'),
    "who is not judged has 0": ("homework/grading.py", 'return ["", "", ""]', "return [0, 0, 0]"),
    "capitals name no homework": (
        "homework/grading.py",
        r'r"(?:^|[^a-z0-9])hw(\d+)(?!\d)", re.IGNORECASE)',
        r'r"(?:^|[^a-z0-9])hw(\d+)(?!\d)")'),
    "points of a lost part are got in Gradescope": ("homework/grading.py", "part.points if passed else 0", "part.points"),
    # cli/homework.py
    "what is there is overwritten": ("cli/homework.py", "    if os.path.lexists(target):\n", "    if target.is_dir():\n"),
    "a dangling link is overwritten": (
        "cli/homework.py",
        "    if os.path.lexists(target):\n",
        "    if os.path.exists(target):\n"),
    "hints are shifted": ("cli/homework.py", "task.hints[args.hint - 1]", "task.hints[args.hint % 3]"),
    "lost points are status 0": (
        "cli/homework.py",
        "return 0 if result.points == result.of else 1",
        "return 0 if result.tasks else 1"),
    "mine is not handed on": ("cli/homework.py", "args.mine, _limits(args), tell)", "False, _limits(args), tell)"),
    "the student's file may be replaced by its results": (
        "cli/homework.py",
        "            no_input(path, option, args.file)\n",
        ""),
    "every task is checked": ("cli/homework.py", "[args.task] if args.task else []", "[]"),
    "a file that does not load is told for every task": (
        "cli/homework.py",
        "            told.add(verdict.message)\n",
        "            pass\n"),
    "a table of what was not judged is status 0": (
        "cli/homework.py",
        "failed = sum(not row.judged for row in rows)",
        "failed = 0",
        [CLI, "-k", "could_not_judge"]),
    # cli/check.py
    "one that is right is enough": (
        "cli/check.py",
        "return 0 if all(result.verdict == RIGHT",
        "return 0 if any(result.verdict == RIGHT"),
    "seeds begin at 0": ("cli/check.py", "range(args.seed, args.seed + args.seeds)", "range(args.seeds)"),
    "a later seed forgives an earlier one": ("cli/check.py", "        if result.verdict != RIGHT:\n            break\n", ""),
    "JSON has NaN": ("cli/check.py", "None if isinstance(value, float) and not math.isfinite(value) else value", "value"),
    "samples that are left out are right": (
        "cli/check.py",
        "    if job.own and result.left_out and result.verdict == RIGHT:\n",
        "    if False:\n"),
    "the definition is not compared with": (
        "cli/check.py",
        "Job(subject.what, like.samples, like.naive, place",
        "Job(subject.what, like.samples, None, place"),
    "elements of the last seed are counted": (
        "cli/check.py",
        "result.elements += report.elements",
        "result.elements = report.elements"),
    "float32 is float64": (
        "cli/check.py",
        'dtype="float32" if args.float32 else "float64", device=args.device, progress',
        'dtype="float64", device=args.device, progress'),
    "JSON is right where nothing was": (
        "cli/check.py",
        'all(result.verdict == RIGHT for result in results),\n',
        'any(result.verdict == RIGHT for result in results),\n'),
    # cli/student_file.py
    "what is imported is the file's own": (
        "cli/student_file.py",
        "part.__module__ == module.__name__ for",
        "part.__module__ for"),
    "a __pycache__ is left": ("cli/student_file.py", "[str(path)], True\n", "[str(path)], False\n"),
    "sys.path stays as the file had it": (
        "cli/student_file.py",
        "sys.path[:], sys.argv, sys.dont_write_bytecode = before",
        "_, sys.argv, sys.dont_write_bytecode = before"),
    "sys.exit ends the check": (
        "cli/student_file.py",
        "    except (Exception, SystemExit) as error:\n        raise StudentError(home.told(error))",
        "    except Exception as error:\n        raise StudentError(home.told(error))"),
    "the beginning of what is printed is kept": (
        "cli/student_file.py",
        "(self.kept + bytes(data))[-KEPT:]",
        "(self.kept + bytes(data))[:KEPT]"),
    "what is printed is printed again": ("cli/student_file.py", 'self._end.kept, self._end.lines = b"", 0', "pass"),
    "the reference is never found": (
        "cli/student_file.py",
        'return Subject(base, (forward, backward), beside("samples"), beside("reference"))',
        'return Subject(base, (forward, backward), beside("samples"))'),
    "forward and backward are exchanged": (
        "cli/student_file.py",
        "return Subject(base, (forward, backward), beside",
        "return Subject(base, (backward, forward), beside"),
}


@pytest.mark.mutation
@pytest.mark.parametrize("plant", PLANTS)
def test_a_bug_in_the_homework_engine_turns_its_tests_red(plant, tmp_path):
    name, old, new, *chosen = PLANTS[plant]
    assert exit_status(tmp_path, chosen[0] if chosen else DEFENDERS[name], name, old, new) == 1, "no test noticed"


@pytest.mark.mutation
@pytest.mark.parametrize("name", DEFENDERS)
def test_with_nothing_planted_the_tests_are_green(name, tmp_path):
    assert exit_status(tmp_path, DEFENDERS[name]) == 0
