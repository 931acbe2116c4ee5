"""The rungs of the ladder notice changed CUDA kernels; and what changes them does what it says."""
import itertools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import plant_cuda_bugs  # noqa: E402
from plant_cuda_bugs import files, in_a_process_of_its_own, mutants_of  # noqa: E402

MACRO = """
#define EACH(i, n) \\
    for (long long i = threadIdx.x; i < (n); ++i)
"""
KERNEL = """
// y = 2 * x
__device__ double part(double value, double* shared) {
    if (value >= 1.5) shared[0] = value;
    __syncthreads();
    return *shared / -value;
}
extern "C" __global__ void f(const float* x, float* y, long long H, long long W, int k) {
    long long h = max(H, W), w = k % 0x0f;  // W + 1
    const float* map = x + h;
    for (long long i = 0; i < w; ++i) y[i] += map[i] != 0LL && H == W ? 1 : k;
}
"""


def changes(tmp_path, text):
    """(function, change) of everything that is planted into a file of this text."""
    path = tmp_path / "file.cu"
    path.write_text(text)
    return {(mutant.place.removeprefix("file."), mutant.change) for mutant in mutants_of(path)}


def test_every_operator_constant_and_statement_is_changed(tmp_path):
    assert changes(tmp_path, MACRO) == {("EACH", change) for change in ("threadIdx.x -> 0", "< -> <=", "++ -> --")}
    assert changes(tmp_path, KERNEL) == {("part", change) for change in (
        "if (true ||", "if (false &&", ">= -> >", "1.5 -> 2.5", "shared[0] = value ->", "0 -> 1", "__syncthreads() ->",
        "/ -> *", "- -> +")} | {("f", change) for change in (
            "max -> min", "H -> W", "W -> H", "% -> /", "0x0f -> 0x10",
            "x -> y", "+ -> -", "h -> w",
            "0 -> 1", "< -> <=", "w -> h", "++ -> --",
            "y[i] += map[i] != 0LL && H == W ? 1 : k ->", "y -> x", "+= -> =", "+= -> -=", "!= -> ==", "0LL -> 1LL",
            "&& -> ||", "== -> !=", "? -> || true ?", "? -> && false ?", "1 -> 2")}


def test_the_same_change_at_two_places_of_a_line_has_two_names(tmp_path):
    text = "__device__ int f(int a, int b) { return a + b + a; }"
    assert changes(tmp_path, text) == {
        ("f", change) for change in ("a -> b", "a -> b (2)", "b -> a", "+ -> -", "+ -> - (2)")}


def test_every_change_differs_from_the_original_and_from_the_others_and_keeps_the_lines():
    for path in files().values():
        mutants, text = mutants_of(path), path.read_text()
        assert len({mutant.key for mutant in mutants}) == len({mutant.text for mutant in mutants}) == len(mutants), path.name
        for mutant in mutants:
            assert mutant.text != text
            differing = [a != b for a, b in zip(mutant.text.split("\n"), text.split("\n"))]
            assert differing.index(True) == mutant.number - 1, mutant.key


def test_every_explanation_is_of_a_change_that_is_planted():
    assert plant_cuda_bugs.gone() == []


def test_an_explanation_of_a_change_that_is_no_more_is_reported(monkeypatch):
    key = ("relu.relu", "a line that is no more", "x -> y")
    monkeypatch.setitem(plant_cuda_bugs.EQUIVALENT, key, "for this test")
    said = []
    assert not plant_cuda_bugs.report({}, said.append)
    assert any("a line that is no more" in text for text in said)


@pytest.mark.parametrize("verdict", [*plant_cuda_bugs.VERDICTS, "explained", "stale"])
def test_the_report_fails_for_what_survives_unexplained_and_for_what_is_explained_and_noticed(verdict):
    mutant = mutants_of(files()["relu.cu"])[0]
    fine = plant_cuda_bugs.report({mutant: verdict}, lambda text: None)
    assert fine == (verdict not in ("survived", "stale"))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_kernel_that_ends_its_process_or_never_ends_counts_as_noticed(monkeypatch):
    monkeypatch.setattr(plant_cuda_bugs, "SECONDS", 0.2)
    assert in_a_process_of_its_own(lambda: ("wrong", "why")) == ("wrong", "why")
    assert in_a_process_of_its_own(lambda: os.kill(os.getpid(), signal.SIGKILL)) == ("stopped", "SIGKILL")
    assert in_a_process_of_its_own(lambda: sum(itertools.count())) == ("stopped", "no end after 0.2 s")


@pytest.mark.mutation
def test_a_drawn_sample_of_changes_is_noticed_or_explained():
    if shutil.which("g++") is None:
        pytest.skip("executes CUDA C on the CPU: needs g++")
    command = [sys.executable, str(HERE / "plant_cuda_bugs.py"), "--sample", "60", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr}"
