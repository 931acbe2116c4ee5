"""Bugs planted into what the faster kernels call: threads, pieces, Winograd, pooling, batch norm, folding. Each must show.

plant_bugs.py changes every node of `forward_cpu` and `backward_cpu` themselves. The files behind them are full of sizes that
only decide how the work is cut, so here the bugs are chosen: what an author might have written. Each is put into a copy of
the package, and the tests that defend these files must turn red.
"""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import minidl

PACKAGE, TESTS = Path(minidl.__file__).parent, Path(__file__).parents[1]
DEFENDERS = ["ops/test_convolution_ways.py", "test_threads.py", "nn/test_fuse.py", "test_operations.py",
             "ops/test_batch_norm_digits.py", "optim/test_optimizers.py"]
CHOSEN = ("convolution_ways or threads or fuse or faster_kernel_holds or max_pool or batch_norm_digits or in_slices or relu or "
          "keeps_it")

PLANTS = {
    # threads.py
    "the last range is longer than it may be": ("threads.py", "min(start + step, count)", "start + step + 1"),
    "even parts leave the last number out": (
        "threads.py",
        "count * (i + 1) // parts) for i in range(parts)]\n\n\ndef shares",
        "count * (i + 1) // parts) for i in range(parts - 1)]\n\n\ndef shares"),
    "split forgets the second axis": (
        "threads.py",
        "[(slice(n, n + 1), part) for n in range(shape[0])",
        "[(slice(n, n + 1), part) for n in range(shape[0] - 1)"),
    "threads share one scratch memory": ("threads.py", "class _Local(threading.local):", "class _Local:"),
    "scratch arrays overlap": ("threads.py", "        start += size\n", "        start += size - _ALIGNMENT\n"),
    "purposes share one memory": (
        "threads.py",
        "    buffer = kept.get(purpose)\n",
        '    purpose = ""; buffer = kept.get(purpose)\n'),
    "errors of other threads are lost": (
        "threads.py",
        "            error = error or theirs\n",
        ""),
    "a thread goes on after another's error": (
        "threads.py",
        "            theirs = other.exception()  #",
        "            theirs = None if error else other.exception()  #"),
    "the rest is not stopped after an error": (
        "threads.py", "                for _ in waiting:", "                for _ in ():"),
    "a child leaves a block that it never entered": (
        "threads.py", "        if state is _state:\n            with state.lock:\n                state.callers -= 1\n",
        "        if True:\n            with _state.lock:\n                _state.callers -= 1\n"),
    "a closed pool is an error": ("threads.py", "            except RuntimeError:", "            except NotADirectoryError:"),
    "a nested call waits for the pool": (
        "threads.py",
        "    if _local.busy:\n        for part",
        "    if False:\n        for part"),
    "BLAS stays on one thread": (
        "threads.py", "                        _set_blas(library, before)\n", "                        pass\n"),
    "BLAS is put back by the first of several callers": (
        "threads.py", "                state.callers -= 1\n", "                state.callers = 0\n"),
    "BLAS keeps its threads in a kernel": ("threads.py", "                _set_blas(library, 1)\n", "                pass\n"),
    "BLAS listens to one Python thread alone": (
        "threads.py", "        forget(force=True)\n    library", "        pass\n    library"),
    "a forked child waits for its parent's threads": (
        "threads.py",
        "    _state = _State()\n    _local.busy",
        "    _local.busy"),
    "a part is given to two threads": (
        "threads.py",
        "part = next(waiting, waiting)",
        "part = next(waiting, waiting); part is waiting or body(part)"),
    # conv2d_cpu.py, windows.seen
    "windows begin a pixel late": ("ops/windows.py", "slice(first * stride + offset,", "slice(first * stride + offset + 1,"),
    "the last window is forgotten": ("ops/windows.py", "(size - 1 - offset) // stride + 1)", "(size - 1 - offset) // stride)"),
    "borders are not cleared": ("ops/conv2d_cpu.py", "        target[..., columns.stop:] = 0\n", "        pass\n"),
    "borders above are not cleared": ("ops/conv2d_cpu.py", "        target[..., :rows.start, :] = 0\n", "        pass\n"),
    "strides of the windows swapped": ("ops/conv2d_cpu.py", "h * stride[0], w * stride[1])", "h * stride[1], w * stride[0])"),
    "padding above taken on the left": (
        "ops/conv2d_cpu.py",
        "top = rows.start * s.stride[0] - s.padding[0]",
        "top = rows.start * s.stride[0] - s.padding[1]"),
    "a piece's rows all begin at the top": ("ops/conv2d_cpu.py", "top = rows.start * s.stride[0]", "top = 0 * s.stride[0]"),
    "= for += over kernel rows": (
        "ops/conv2d_cpu.py",
        "part[:, :, outputs] += products[:, kh, :, pixels]",
        "part[:, :, outputs] = products[:, kh, :, pixels]"),
    "bands of rows overlap": (
        "ops/conv2d_cpu.py",
        "bands, n = inside // rows, count(piece)",
        "bands, n = max(1, inside // rows - 1), count(piece)"),
    "bands come in the wrong order": (
        "ops/conv2d_cpu.py",
        "out=products.reshape(n, s.KH * s.F, bands, rows * s.OW).swapaxes(1, 2))",
        "out=products.reshape(n, s.KH * s.F, bands, rows * s.OW).swapaxes(1, 2)[:, ::-1])"),
    "rows moved the wrong way": (
        "ops/conv2d_cpu.py",
        "inner, pixels = seen(s.W, s.OW, kw - s.padding[1], 1)",
        "inner, pixels = seen(s.W, s.OW, s.padding[1] - kw, 1)"),
    "the bias is forgotten where only padding is seen": (
        "ops/conv2d_cpu.py",
        "outside = 0 if bias is None else bias",
        "outside = 0"),
    "the kernel is not turned for dx": ("ops/conv2d_cpu.py", "w[:, :, ::-1, ::-1].swapaxes(0, 1)", "w.swapaxes(0, 1)"),
    "dx of strided windows is overwritten": (
        "ops/conv2d_cpu.py",
        "pixels[:, rows, columns] += windows",
        "pixels[:, rows, columns] = windows"),
    "dx is not cleared": ("ops/conv2d_cpu.py", "                pixels[...] = 0\n", ""),
    "only the last piece counts in dw": (
        "ops/conv2d_cpu.py",
        "    np.matmul(moved.reshape(s.KH * s.F, -1), cols.reshape(s.C * s.KW, -1).T, out=product)\n"
        "    total += product",
        "    np.matmul(moved.reshape(s.KH * s.F, -1), cols.reshape(s.C * s.KW, -1).T, out=product)\n"
        "    total[...] = product"),
    "only the first thread counts in dw": (
        "ops/conv2d_cpu.py",
        "        for part in by_filter:\n",
        "        for part in by_filter[:1]:\n"),
    "float64 goes by winograd": ("ops/conv2d_cpu.py", " and dtype == np.float32", ""),
    "winograd where the kernel is not 3x3": ("ops/conv2d_cpu.py", "return (s.KH, s.KW) == (3, 3) and", "return s.KH == 3 and"),
    # winograd.py
    "a wrong number in B": ("ops/winograd.py", "[0, -2, -1, 2, 1, 0]", "[0, -2, -1, 2, 1, 1]"),
    "a wrong number in G": ("ops/winograd.py", "[1 / 24, -1 / 12, 1 / 6]", "[1 / 24, -1 / 12, -1 / 6]"),
    "a wrong number in A": ("ops/winograd.py", "[0, 1, -1, 8, -8, 1]", "[0, 1, -1, 8, -8, 0]"),
    "rows beyond the image are not cleared": ("ops/winograd.py", "        padded[:, :, across.stop:] = 0\n", ""),
    "columns beyond the image are not cleared": ("ops/winograd.py", "        padded[:, :, across, along.stop:] = 0\n", ""),
    "a block's first row is the image's": ("ops/winograd.py", "top = 4 * block.rows.start - PH", "top = -PH"),
    "tiles that stick out are not cut off": ("ops/winograd.py", "        beside[:, :, H:] = 0\n", ""),
    "every block's dU replaces the last": ("ops/winograd.py", "        dU[p] += product", "        dU[p] = product"),
    "dU begins with what was there": ("ops/winograd.py", "        if first:\n", "        if False:\n"),
    "V and M lie in the same memory": (
        "ops/winograd.py",
        'V, M = scratch(x.dtype, (36, C, T), (36, F, T), purpose="tiles")',
        'V, = scratch(x.dtype, (36, C, T), purpose="tiles"); M, = scratch(x.dtype, (36, F, T), purpose="tiles")'),
    "the kernel is not turned in dx": ("ops/winograd.py", "np.ascontiguousarray(G2[:, ::-1]) if turned else G2", "G2"),
    "the bias is left out": ("ops/winograd.py", "            done += b[filters, None, None]", "            pass"),
    "tiles of the images mixed up": ("ops/winograd.py", ".transpose(1, 0, 2, 4, 3)", ".transpose(1, 0, 2, 4, 3)[::-1]"),
    # pool_cpu.py
    "padding takes part in the maximum": (
        "ops/pool_cpu.py",
        "grid.into_planes(x[some], planes, -np.inf)",
        "grid.into_planes(x[some], planes, 0)"),
    "the last equal pixel gets the gradient": (
        "ops/pool_cpu.py",
        "np.greater(pixels, largest,",
        "np.greater_equal(pixels, largest,"),
    "the place is that of the largest so far": (
        "ops/pool_cpu.py",
        "np.maximum(place, here, out=place)",
        "np.copyto(place, here)"),
    "junk between the rows takes gradients": (
        "ops/pool_cpu.py",
        "place[...], gradient[...], dplanes[...] = np.iinfo(places.dtype).max, 0, 0",
        "place[...], dplanes[...] = 0, 0"),
    "NaN hands its gradient to the first place": (
        "ops/pool_cpu.py", "            np.putmask(places[some], np.isnan(y[some]), np.iinfo(places.dtype).max)\n", ""),
    "places of large windows wrap round": (
        "ops/pool_cpu.py",
        "np.empty(shape, np.min_scalar_type(math.prod(kernel)))",
        "np.empty(shape, np.uint8)"),
    "pixels that no window sees are forgotten": ("ops/pool_cpu.py", "        if grid.leaves_gaps:\n", "        if False:\n"),
    "overlapping windows overwrite each other": (
        "ops/pool_cpu.py",
        "dplanes[i, j, shift:shift + length] += share",
        "dplanes[i, j, shift:shift + length] = share"),
    "the shift counts columns of the output": (
        "ops/pool_cpu.py",
        "kh // self.stride[0] * self.plane[1]",
        "kh // self.stride[0] * self.output[1]"),
    "averages are not divided": ("ops/pool_cpu.py", "        y[index] /= divisor\n", ""),
    # batch_norm_cpu.py
    "the mean about k is not moved back": ("ops/batch_norm_cpu.py", "mean, var = near + beyond,", "mean, var = beyond,"),
    "the shift is left out": ("ops/batch_norm_cpu.py", "        part += column(shift, index)\n", ""),
    "the statistics' part of dx is left out": ("ops/batch_norm_cpu.py", "        part += other\n", ""),
    "every part takes the first channels' numbers": (
        "ops/batch_norm_cpu.py",
        "return a[index[1]][:, None] if len(index) > 1 else a[:, None]",
        "return a[:index[1].stop - index[1].start][:, None] if len(index) > 1 else a[:, None]"),
    "segments of a row overlap": (
        "ops/batch_norm_cpu.py",
        "shape = *first.shape[:-1], number, len(ones)",
        "first = second = first[..., ::-1] * 1; shape = *first.shape[:-1], number, len(ones)"),
    # linear, cross-entropy, concat, transposed convolution, ReLU
    "only the last of the small products counts": (
        "ops/linear_cpu.py", "sums[k] += dy[:, cut] @ w[cut]", "sums[k] = dy[:, cut] @ w[cut]"),
    "small products leave weights out": (
        "ops/linear_cpu.py",
        "in ranges(part.stop - part.start, max(1, size)):",
        "in ranges(part.stop - part.start - 1, max(1, size)):"),
    "small products begin with the first weight": ("ops/linear_cpu.py", "slice(part.start + cut.start,", "slice(cut.start,"),
    "columns are taken from the wrong weights": (
        "ops/linear_cpu.py",
        "np.matmul(dy, w[:, part],",
        "np.matmul(dy, w[:, ::-1][:, part],"),
    "only the first thread's sum counts": ("ops/linear_cpu.py", "np.sum(sums, axis=0, out=dx)", "dx[...] = sums[0]"),
    "one part's scores are normalised by its own classes": (
        "threads.py", "return [(slice(None), slice(None), rows)", "return [(slice(None), rows)"),
    "concat puts all inputs in the first one's place": (
        "arithmetic/shaping.py",
        "for x, part in zip(xs, parts):",
        "for x, part in zip(xs, parts[::-1]):"),
    "transposed convolution mixes the groups": (
        "ops/conv_transpose2d.py",
        "slice(g * F, (g + 1) * F)) for g",
        "slice(0, F)) for g"),
    "ReLU takes memory that its input's maker needs": (
        "autograd.py",
        "return x.node is None or x.node.function is None or x.node.function.may_lose_output()",
        "return True"),
    "ReLU takes memory that is somebody's": (
        "autograd.py",
        'if not getattr(x, "_made", False):',
        "if not isinstance(x, Tensor):"),
    "ReLU takes memory that was handed on": (
        "autograd.py",
        "output._version, output._made = x._version, False",
        "output._version = x._version"),
    "nobody is told that ReLU took the memory": ("autograd.py", "        tensors[0]._version.count += 1  #", "        #"),
    "what ReLU took may be used again": ("autograd.py", "        tensors[0]._version.taken = True  #", "        #"),
    "a subclass inherits that its output may go": (
        "function.py", 'return vars(cls._author()).get("keeps_output") is False', "return cls.keeps_output is False"),
    # optim
    "the last number of a parameter is not updated": (
        "optim/optimizer.py", "ranges(flat[0].size, SLICE)", "ranges(flat[0].size - 1, SLICE)"),
    "sums about 0 also where the mean is large": ("ops/batch_norm_cpu.py", "FAR = 16\n", "FAR = 1e9\n"),
    # fuse.py
    "eps is left out of the fold": ("nn/fuse.py", "norm.running_var + norm.eps", "norm.running_var"),
    "the convolution's bias is not scaled": (
        "nn/fuse.py",
        "(bias - norm.running_mean) * scale + norm",
        "bias - norm.running_mean * scale + norm"),
    "outputs that are used twice are folded": ("nn/fuse.py", "readers[id(before.output)] == 1 and", ""),
    "layers that are used twice are folded": ("nn/fuse.py", " and runs[id(before.module)] == 1 and (", " and ("),
    "layers of one's own are folded": ("nn/fuse.py", 'return "can_be_folded" in vars(type(module))', "return True"),
    "what the net returns is not counted": ("nn/fuse.py", ", *results))", ",))"),
    "the net itself is changed": ("nn/fuse.py", "copy.deepcopy(self)", "self"),
}


@pytest.mark.mutation
@pytest.mark.parametrize("plant", PLANTS)
def test_a_bug_in_a_fast_path_turns_its_tests_red(plant, tmp_path):
    package = tmp_path / "minidl"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "bundled"))
    name, old, new = PLANTS[plant]
    path = package / name
    source = path.read_text()
    assert source.count(old) == 1, f"{name} has {source.count(old)} of: {old}"
    path.write_text(source.replace(old, new))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-c", str(TESTS.parent / "pyproject.toml"),
               "-k", CHOSEN, *(str(TESTS / name) for name in DEFENDERS)]
    try:
        done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTEST_ADDOPTS": ""},
                              capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return  # threads that wait for each other are noticed, too
    print(done.stdout[-1500:], done.stderr[-500:])
    assert done.returncode == 1, "no test noticed"
