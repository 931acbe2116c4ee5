"""The documents tell the truth: their code runs, their output is what comes out, the reference page is current."""
import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from minidl.checking.codes import CODES

ROOT = Path(__file__).parent.parent


def blocks(page: str, language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    return [text for name, text in fenced if name == language]


def rounded(text: str) -> str:
    """The text with every number of more than six digits cut to six: the last ones are measured, not computed."""
    return re.sub(r"\d+\.\d{6,}", lambda number: f"{float(number[0]):.6g}", text)


def run(code: str) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "<document>", "exec"), {"__name__": "document"})
    return printed.getvalue()


def test_the_ten_lines_of_the_readme_learn_the_digits():
    (accuracy,) = re.findall(r"test accuracy ([\d.]+)%", run(blocks("README.md", "python")[0]))
    assert float(accuracy) > 85


def test_the_networks_of_the_readme_are_built_saved_and_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(blocks("README.md", "python")[1])
    assert [path.name for path in tmp_path.iterdir()] == ["start.safetensors"]


@pytest.mark.parametrize("page, number", [("README.md", 2), ("docs/gradient_doctor.md", 0)])
def test_the_failing_checks_of_the_pages_print_what_the_pages_say(page, number, tmp_path):
    example = tmp_path / "example.py"
    example.write_text(blocks(page, "python")[number])
    done = subprocess.run([sys.executable, example], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert rounded(done.stdout) in [rounded(block) for block in blocks(page, "")]


def test_no_page_has_a_gap_that_was_to_be_filled():
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("lessons/*.md")]:
        assert "@@" not in page.read_text(), page


def test_the_page_of_the_doctor_lists_the_causes_that_it_names():
    rows = re.findall(r"^\| `([\w-]+)` \| (.*) \|$", (ROOT / "docs" / "gradient_doctor.md").read_text(), re.MULTILINE)
    assert rows == [(code, meaning) for code, (meaning, _) in CODES.items()]


def test_the_example_of_the_testing_page_passes_and_fails_as_described():
    code = blocks("docs/testing.md", "python")[0]
    run(code + "\ntest_the_gradient_of_swish()\n")
    broken = code.replace("(self.s + self.x * self.s * (1 - self.s))", "self.s")
    assert broken != code
    with pytest.raises(AssertionError, match=r"x0\[0, 0, 0, 0\]: got .*, expected"):
        run(broken + "\ntest_the_gradient_of_swish()\n")


@pytest.mark.parametrize("script", ["make_operations.py", "make_networks.py"])
def test_the_reference_pages_are_current(script):
    done = subprocess.run([sys.executable, ROOT / "docs" / script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_example_of_the_networks_page_prints_what_the_page_says():
    assert run(blocks("docs/networks.md", "python")[0]) in blocks("docs/networks.md", "")


@pytest.mark.parametrize("ending", ["/pytest", "demo"])
def test_the_readme_has_each_command_once_on_a_line_of_its_own(ending):
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("python3 -m venv")]
    assert sum(line.endswith(ending) for line in lines) == 1


@pytest.mark.parametrize("page", sorted(str(p.relative_to(ROOT)) for p in
                                        [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("lessons/*.md"),
                                         *ROOT.glob("datasets/*.md")]))
def test_links_between_documents_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
        if "://" not in target:
            assert (ROOT / page).parent.joinpath(target).exists(), f"{page} links to {target}"
