"""Files of weights that are damaged or hostile give arrays or a ValueError, run nothing, and take little memory and time.

tests/support/file_fuzzer.py makes them and judges; here it runs in processes of its own. The planted bugs prove that it can
fail: each is put into a copy of the package, and the fuzzer must find it.
"""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import minidl

PACKAGE = Path(minidl.__file__).parent
SUPPORT = Path(__file__).parents[1] / "support"


def fuzz(folder, tries, seed, package=PACKAGE):
    (folder / "scratch").mkdir(exist_ok=True)
    path = os.pathsep.join([str(package.parent), str(SUPPORT)])
    return subprocess.run([sys.executable, str(SUPPORT / "file_fuzzer.py"), str(tries), str(seed)], cwd=folder / "scratch",
                          env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}, capture_output=True, text=True,
                          timeout=1800)


def test_some_hundred_bad_files_do_no_harm(tmp_path):
    done = fuzz(tmp_path, 320, seed=0)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.fuzz
def test_ten_thousand_bad_files_do_no_harm(tmp_path):
    seed = int(os.environ.get("MINIDL_FUZZ_SEED", "1"))
    done = fuzz(tmp_path, 10_000, seed)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


# File, what stands there, what a careless author might have written. (That a list's places cost memory, test_pth.py shows: it
# takes a file of megabytes.)
PLANTS = {
    "every name is imported and called": [
        ("pth.py", "if name not in ALLOWED:", "if '.' not in name:"),
        ("pth.py", "        if len(arguments) <= 8:\n", """
        if function not in ALLOWED:
            import importlib
            module, _, word = function.rpartition('.')
            return getattr(importlib.import_module(module), word)(*arguments)
        if len(arguments) <= 8:
""")],
    "every name is looked up": [
        ("pth.py", "if name not in ALLOWED:", "if name not in ALLOWED and not __import__(name.split('.')[0]):")],
    "tensors are not checked against their storage": [("pth.py", "end * element > storage.nbytes or", "")],
    "sizes and strides may be negative": [("pth.py", "type(number) is not int or number < 0", "type(number) is not int")],
    "sizes and strides may be of any type": [("pth.py", "type(number) is not int or number < 0 for", "False for")],
    "arrays may outgrow the file": [("account.py", "        self.numbers += nbytes\n", "")],
    "empty arrays cost nothing": [("account.py", "ARRAY + AXIS * axes + nbytes", "nbytes")],
    "what waits for its storage costs nothing": [("pth.py", "sys.getsizeof(claim) +", "-10**4 +")],
    "a storage's claim is trusted": [("pth.py", "        self.check(storage)\n", "")],
    "objects are not counted": [("account.py", "        self.used += nbytes\n", "")],
    "a place on the stack costs nothing": [("unpickle.py", "            self.account.charge(2 * SLOT)", "            pass")],
    "marks cost nothing": [("unpickle.py", "            self.account.charge(SLOT + NUMBER)\n", "")],
    "small things cost nothing": [("unpickle.py", "        self.account.charge(sys.getsizeof(value))\n", "")],
    "strings are as long as their bytes": [("unpickle.py", "TEXT + (1 if raw.isascii() else 5) * length", "length")],
    "dictionaries cost nothing": [("unpickle.py", "    account.charge(SHELF if target else 2 * SHELF)", "    pass")],

    "the memo costs nothing": [("unpickle.py", "            self.account.charge(SLOT * more)\n", "")],
    "any hashable thing may be a key": [("unpickle.py", "type(key) not in (str, int, bool) or", "False and")],
    "marks are not respected": [("unpickle.py", "len(self.stack) <= (self.marks[-1] if self.marks else 0) or", "")],
    "arguments of a call may be anything": [("unpickle.py", "or type(arguments) is not tuple:", "and False:")],
    "lengths of strings are not checked": [("unpickle.py", "if n > len(self.data) - self.position:", "if False:")],
    "notes are whatever the header says": [("safetensors_file.py", "if not _FLAT_TEXTS.fullmatch(facts):", "if False:")],
    "notes cost nothing": [("safetensors_file.py", "            account.charge((SHELF", "            print(end='' and (SHELF")],
    "the zip says how long its entries are": [
        ("archive.py", "            self.account.charge(max(0, entry.size - self.room), PACKED)\n", "")],
    "an entry is unpacked in one piece": [("archive.py", "machine.decompress(rest, 1 << 16)", "machine.decompress(rest)")],
    "zips may point anywhere": [("archive.py", "if here < 0 or here + struct.calcsize(form) > len(data):", "if False:")],
    "any dtype may be in an npz": [("npz.py", "if dtype is None or dtype.char not in _KINDS:", "if False:")],
    "sizes in an npz are trusted": [("npz.py", "math.prod(shape) * dtype.itemsize != len(numbers) or", "")],
    "np.load reads npz files": [
        ("weights.py", "read_npz(Archive(data, account)) if form == NPZ", "dict(np.load(path)) if form == NPZ")],
    "safetensors' dtypes are all taken": [("safetensors_file.py", "word not in DTYPES or", "")],
    "safetensors' offsets are trusted": [
        ("safetensors_file.py", "if not 0 <= start <= end <= len(numbers) or nbytes != end - start:", "if False:")],
    "lists in lists recurse": [("safetensors_file.py", "except (ValueError, RecursionError) as", "except ValueError as"),
                               ("safetensors_file.py", "if len(facts) <= _LONGEST_FACTS else None", "")],
    "booleans keep their bytes": [("numbers.py", ', "bool": "uint8"', ""), ("numbers.py", 'dtype == "bool"', "0")],
    "errors come as they are": [("forms.py", "except ValueError as error:", "except NotADirectoryError as error:")],
}


@pytest.mark.mutation
@pytest.mark.parametrize("plant", PLANTS)
def test_the_fuzzer_finds_a_planted_bug(plant, tmp_path):
    package = tmp_path / "minidl"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "bundled"))
    for name, old, new in PLANTS[plant]:
        path = package / "interop" / name
        source = path.read_text()
        assert source.count(old) == 1, f"{name} has {source.count(old)} of: {old}"
        path.write_text(source.replace(old, new))
    for seed in (3, 4):  # a bug that one in some thousand files meets may escape one seed
        done = fuzz(tmp_path, 4000, seed, package=package)
        print(done.returncode, done.stdout[:300], done.stderr[-300:])
        if done.returncode != 0:
            return
    pytest.fail("the fuzzer did not notice")
