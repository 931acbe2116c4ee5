"""Bugs planted into the CUDA kernels, their launch code and whatever runs on the GPU: each is caught by a rung of the ladder.

Chosen as an author might make them; plant_cuda_bugs.py changes every operator of the kernels by rote. Each is put into a copy
of the package, and the rungs run on it one after the other until one turns red. With `-s`, pytest prints which.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import minidl

PACKAGE, TESTS = Path(minidl.__file__).parent, Path(__file__).parents[1]

RUNGS = {  # in the order in which they are tried: the quick ones first
    "3, executed as fibers": [
        "-m",
        "ladder",
        "cuda_on_cpu/test_kernels.py",
        "cuda_on_cpu/test_launcher.py",
        "-k",
        "not sanitizer",
    ],
    "4, on threads under sanitizers": ["-m", "ladder", "cuda_on_cpu/test_kernels.py", "-k", "sanitizer"],
    "2, on the strict stand-in": [
        "-m",
        "ladder",
        "cuda_on_cpu/test_second_run.py",
        "-k",
        "not suite and not demo and not report",
    ],
    "2, the suite a second time": [
        "--stand-in",
        "test_operations.py",
        "test_autograd.py",
        "optim",
        "checking",
        "nn",
        "train",
        "models/test_mini.py",
    ],
    "1, absence": ["-m", "ladder", "cuda_on_cpu/test_absence.py"],
    "5, NVRTC": ["-m", "ladder", "cuda_on_cpu/test_nvrtc.py"],
}

SYNC = "    __syncthreads();\n"
PLANTS = {
    # missing barriers
    "no barrier after the values are laid down": (
        "cuda.cuh",
        f"    shared[threadIdx.x] = value;\n{SYNC}    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {{\n"
        "        if (threadIdx.x < half) shared[threadIdx.x] += ",
        "    shared[threadIdx.x] = value;\n    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {\n"
        "        if (threadIdx.x < half) shared[threadIdx.x] += ",
    ),
    "no barrier between the halves": (
        "cuda.cuh",
        f"shared[threadIdx.x] += shared[threadIdx.x + half];\n    {SYNC}",
        "shared[threadIdx.x] += shared[threadIdx.x + half];\n",
    ),
    "no barrier before the memory is used again": (
        "cuda.cuh",
        "    __syncthreads();  // nobody writes the next row's values while somebody still reads this total\n",
        "",
    ),
    "no barrier after the largest": (
        "cuda.cuh",
        f"    double largest = shared[0];\n{SYNC}",
        "    double largest = shared[0];\n",
    ),
    "a barrier that half of the threads meet": (
        "cuda.cuh",
        f"if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];\n    {SYNC}",
        "if (threadIdx.x < half) {\n            shared[threadIdx.x] += shared[threadIdx.x + half];\n"
        "            __syncthreads();\n        }\n",
    ),
    "an atomic addition made plain": (
        "cuda.cuh",
        f"    shared[threadIdx.x] = value;\n{SYNC}    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {{\n"
        f"        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];\n    {SYNC}    }}\n",
        f"    if (threadIdx.x == 0) shared[0] = 0;\n{SYNC}    shared[0] += value;\n{SYNC}",
    ),
    "every thread writes the row's result": (
        "ops/batch_norm.cu",
        "        if (threadIdx.x == 0) {\n            mean[c] = average;",
        "        {\n            mean[c] = average;",
    ),
    "a thread adds to its neighbour's element": (
        "ops/im2col.cu",
        "        x[at] = total;\n",
        "        x[at] = total;\n        if (at) x[at - 1] += 0 * total;\n",
    ),
    # indices
    "the last element is left out": (
        "cuda.cuh",
        "i < (n); i += (long long)blockDim.x * gridDim.x)",
        "i < (n) - 1; i += (long long)blockDim.x * gridDim.x)",
    ),
    "one element too many": (
        "cuda.cuh",
        "i < (n); i += (long long)blockDim.x * gridDim.x)",
        "i <= (n); i += (long long)blockDim.x * gridDim.x)",
    ),
    "the grid's stride forgets the blocks": (
        "cuda.cuh",
        "i += (long long)blockDim.x * gridDim.x)",
        "i += (long long)blockDim.x)",
    ),
    "the grid does its work once": ("cuda.cuh", "i += (long long)blockDim.x * gridDim.x)", "i += (n))"),
    "the block's stride is one": ("cuda.cuh", "i < (n); i += blockDim.x)", "i < (n); i += 1)"),
    "rows are taken by the first block alone": ("cuda.cuh", "r < (n); r += gridDim.x)", "r < (n); r += gridDim.x + 1)"),
    "kernel rows and columns swapped": (
        "ops/im2col.cu",
        "kw = at / (OW * OH) % KW, kh = at / (OW * OH * KW) % KH",
        "kw = at / (OW * OH) % KH, kh = at / (OW * OH * KH) % KW",
    ),
    "strides swapped": (
        "ops/im2col.cu",
        "h = i * SH + kh - PH, v = j * SW + kw - PW",
        "h = i * SW + kh - PH, v = j * SH + kw - PW",
    ),
    "padding of the other axis": ("ops/im2col.cu", "long long row = h + PH - kh;", "long long row = h + PW - kh;"),
    "a read before the image": ("ops/im2col.cu", "0 <= h && h < H && 0 <= v", "-1 <= h && h < H && 0 <= v"),
    "a read behind the image": ("ops/im2col.cu", "h < H && 0 <= v && v < W", "h <= H && 0 <= v && v < W"),
    "a window beyond the last": ("ops/im2col.cu", "row / SH >= OH", "row / SH > OH"),
    "columns that no window starts at": ("ops/im2col.cu", " || column % SW != 0", ""),
    "the image's width for its height": (
        "ops/im2col.cu",
        "x[(image_and_channel * H + h) * W + v]",
        "x[(image_and_channel * W + h) * W + v]",
    ),
    "the first window of a pixel off by one": (
        "ops/avg_pool2d.cu",
        "first_i = first_window(h, KH, SH)",
        "first_i = first_window(h, KH, SH) - (h >= KH)",
    ),
    "the last window of a pixel off by one": ("ops/avg_pool2d.cu",
        "last_j = last_window(v, SW, OW)", "last_j = last_window(v, SW, OW + 1)"),
    "pooling reads below the image": ("ops/max_pool2d.cu", "h < min(top + KH, H)", "h < top + KH"),
    "the last of equal ones wins": ("ops/max_pool2d.cu", "value > largest ||", "value >= largest ||"),
    "NaN is passed over": ("ops/max_pool2d.cu", " || first_nan", ""),
    "the divisor of another window": ("ops/avg_pool2d.cu", "divisor[i * OW + j]", "divisor[j * OH + i]"),
    "LRN's window is one short": (
        "ops/lrn.cu",
        "d <= min(after, C - 1 - c); ++d) total",
        "d < min(after, C - 1 - c); ++d) total",
    ),
    "LRN leaves the image's channels": ("ops/lrn.cu", "d <= min(after, C - 1 - c); ++d) total", "d <= after; ++d) total"),
    "LRN's gradient is not mirrored": (
        "ops/lrn.cu",
        "d = max(-after, -c); d <= min(before, C - 1 - c)",
        "d = max(-before, -c); d <= min(after, C - 1 - c)",
    ),
    # values
    "softmax without the largest": (
        "ops/softmax.cu",
        "expf(x[start + c * inner] - largest) / total",
        "expf(x[start + c * inner]) / total",
    ),
    "the sum overflows": ("ops/softmax.cu", "total += expf(x[c * inner] - *largest)", "total += expf(x[c * inner])"),
    "rows of a middle axis lie apart": ("ops/softmax.cu", "return r / inner * C * inner + r % inner;", "return r * C;"),
    "a gradient for what is ignored": (
        "ops/cross_entropy.cu",
        "    if (ignores && label == ignore_index) gradient = 0;\n        else if",
        "    if",
    ),
    "a label beyond the classes is read": (
        "ops/cross_entropy.cu",
        "is_class ? log_probabilities[(n * C + label) * inner + j] : not_a_number()",
        "log_probabilities[(n * C + label) * inner + j]",
    ),
    "the mean of all labels": ("ops/cross_entropy.cu", "            if (ignores && label == ignore_index) continue;\n", ""),
    "no path through the statistics": ("ops/batch_norm.cu", "(dy[i] - db[c] / count - x_hat * dw[c] / count)", "dy[i]"),
    "variance about zero": (
        "ops/batch_norm.cu",
        "double distance = x[place(k, c, C, S)] - average;",
        "double distance = x[place(k, c, C, S)];",
    ),
    "sums in single precision": ("ops/batch_norm.cu", "double total = 0, squares = 0;", "float total = 0, squares = 0;"),
    "dropout forgets to scale": ("ops/dropout.cu", "x[i] * keep[i] * scale", "x[i] * keep[i]"),
    "ReLU lets NaN vanish": ("ops/relu.cu", "y[i] = x[i] > 0 || x[i] != x[i] ? x[i] : 0;", "y[i] = x[i] > 0 ? x[i] : 0;"),
    "velocity without momentum": ("optim/sgd.cu", "v[i] = momentum * v[i] + slope;", "v[i] = v[i] + slope;"),
    "Adam's averages swapped": ("optim/adam.cu", "m[i] = b1 * m[i] + b1_left * slope;", "m[i] = b1_left * m[i] + b1 * slope;"),
    # what NVRTC refuses and g++ may not
    "a constant of the host's headers": ("ops/max_pool2d.cu", "__int_as_float(0xff800000)", "-INFINITY"),
    "a header of the host": ("ops/lrn.cu", "// Local response", "#include <cmath>\n// Local response"),
    # launch code
    "swapped arrays": (
        "ops/relu.py",
        '"relu_gradient", dy.size, contiguous(dy), self.y, dx',
        '"relu_gradient", dy.size, self.y, contiguous(dy), dx',
    ),
    "swapped numbers": (
        "ops/lrn.py",
        "self.before, self.after, self.k, self.alpha, self.beta)",
        "self.after, self.before, self.k, self.alpha, self.beta)",
    ),
    "numbers of two kinds swapped": (
        "ops/dropout.py",
        '"dropout", x.size, contiguous(x), self.keep, y, x.size, 1 / (1 - self.p))',
        '"dropout", x.size, contiguous(x), self.keep, y, 1 / (1 - self.p), x.size)',
    ),
    "an argument too few": (
        "ops/max_pool2d.py",
        '"max_pool", y.size, contiguous(x), y, self.places, y.size,',
        '"max_pool", y.size, contiguous(x), y, self.places,',
    ),
    "places of the wrong dtype": ("ops/max_pool2d.py", "empty(y.shape, np.int32)", "empty(y.shape, np.int64)"),
    "labels as they come": ("ops/cross_entropy.py", "contiguous(labels.astype(np.int64))", "contiguous(labels)"),
    "an array with gaps": ("ops/softmax.py", "*map(contiguous, arrays)", "*arrays"),
    "a gradient with gaps": (
        "ops/batch_norm.py",
        "        dy = contiguous(dy)\n        dw, db = _gradient_sums_cuda(dy, self.x, self.true_mean",
        "        dw, db = _gradient_sums_cuda(dy, self.x, self.true_mean",
    ),
    "too few threads for the elements": ("cuda.py", "-(-elements // threads)", "elements // threads"),
    "shared memory for half of the threads": ("cuda.py", "threads, 8 * threads, arguments", "threads, 4 * threads, arguments"),
    "threads that are no power of two": (
        "cuda.py",
        "min(THREADS, max(1, 1 << (length - 1).bit_length()))",
        "min(THREADS, max(1, length))",
    ),
    "dtypes are not looked at": ("cuda.py", "    if x.dtype != parameter.dtype:\n", "    if False:\n"),
    "gaps are not looked at": ("cuda.py", "    if not x.flags.c_contiguous:\n        raise", "    if False:\n        raise"),
    "any number will do": ("cuda.py", "    if not fits:\n", "    if False:\n"),
    "numbers are passed as they are": ("cuda.py", "    return parameter.dtype.type(value)\n", "    return value\n"),
    "the columns of all images at once are the first image's": (
        "ops/conv2d.py",
        "slice(i, i + n) for i in range(0, N, n)",
        "slice(0, n) for i in range(0, N, n)",
    ),
    "convolution's gradients of one part only": (
        "ops/conv2d.py",
        "                dw += of_each_image.sum(axis=0).reshape(self.w_shape)\n",
        "                dw = of_each_image.sum(axis=0).reshape(self.w_shape)\n",
    ),
    # device and host
    "a host array is handed to a kernel": ("ops/avg_pool2d.py", "xp = array_module(like)\n", "xp = np\n"),
    "np. where xp. belongs": (
        "ops/leaky_relu.py",
        "return array_module(x).where(self.positive, x, x * self.negative_slope)",
        "return np.where(self.positive, x, x * self.negative_slope)",
    ),
    "np. in a plain form": (
        "ops/softmax.py",
        "exp = array_module(x).exp(x - x.max(axis=self.dim, keepdims=True))",
        "exp = np.exp(x - x.max(axis=self.dim, keepdims=True))",
    ),
    "a ufunc's where=, which CuPy has not": (
        "ops/relu.py",
        "        return dy * (self.y > 0)\n",
        "        return array_module(dy).multiply(dy, 1, where=self.y > 0)\n",
    ),
    "a forgotten where": (
        "ops/cross_entropy.py",
        "array_module(labels).where(self.counts, labels, 0).astype(np.int64)",
        "labels.astype(np.int64)",
    ),
    "the mask stays on the host": (
        "ops/dropout.py",
        "apply(function, x, to_device(keep, x.device))",
        "apply(function, x, keep)",
    ),
    "a number meets a tensor from the host": (
        "autograd.py",
        "Tensor(to_device(number, like.device) if like is not None else number)",
        "Tensor(number)",
    ),
    "optimizer memory on the host": (
        "optim/optimizer.py",
        "memory[key] = array_module(like).zeros_like(like)",
        "memory[key] = np.zeros(like.shape, like.dtype)",
    ),
    "the loss looks at a value": (
        "ops/cross_entropy.py",
        "        self.count = counts.sum()\n        return (losses",
        "        self.count = counts.sum()\n        bool(self.count > 0)\n        return (losses",
    ),
    "evaluation looks at the variance": (
        "ops/batch_norm.py",
        "        self.mean = mean.astype(np.float64)\n",
        "        self.check_variance(var)\n        self.mean = mean.astype(np.float64)\n",
    ),
    "training reads the accuracy in every step": (
        "train/loop.py",
        "self.right = self.right + right.sum()",
        "self.right = self.right + float(right.sum())",
    ),
    "a silent move on assignment": (
        "autograd.py",
        "        if not is_array(x) or x.shape != self.shape or x.dtype != self.dtype or device_of(x) != self.device:\n",
        "        if not is_array(x) or x.shape != self.shape or x.dtype != self.dtype:\n",
    ),
    # absence
    "an importable CuPy is taken for a GPU": ("backend.py", "        _see_a_device(cupy)\n        _run_a_kernel(cupy)\n", ""),
    "a compiler is taken for granted": ("backend.py", "        _run_a_kernel(cupy)\n", ""),
    "only ImportError counts as absent": (
        "backend.py",
        "    except (Exception, SystemExit) as error:  # broken installations",
        "    except ImportError as error:  # broken installations",
    ),
    "any module named cupy will do": (
        "backend.py",
        '    if not hasattr(cupy, "ndarray") or not hasattr(cupy, "cuda"):\n',
        "    if False:\n",
    ),
}


def rung_that_notices(folder):
    """The first rung that turns red on the package in this folder; "" if none does."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTEST_ADDOPTS": ""}
    for rung, chosen in RUNGS.items():
        if rung.startswith("5") and importlib.util.find_spec("cupy_backends") is None:
            continue
        files = [str(TESTS / part) if (TESTS / part).exists() else part for part in chosen]
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-c",
            str(TESTS.parent / "pyproject.toml"),
            *files,
        ]
        try:
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
        except subprocess.TimeoutExpired:
            return f"{rung} (it hangs)"
        if done.returncode < 0:
            return f"{rung} (it crashes)"
        if done.returncode != 0:
            reasons = [line for line in done.stdout.splitlines() if line.startswith("E  ")]
            return f"{rung}: {reasons[-1][4:100].strip() if reasons else done.stdout[-300:]}"
    return ""


def copy_of_package(folder):
    shutil.copytree(PACKAGE, folder / "minidl", ignore=shutil.ignore_patterns("__pycache__", "bundled"))
    for beside in ("datasets", "lessons", "tests"):
        (folder / beside).symlink_to(PACKAGE.parent / beside)
    return folder / "minidl"


@pytest.mark.mutation
def test_no_rung_turns_red_on_the_package_as_it_is(tmp_path):
    copy_of_package(tmp_path)
    assert rung_that_notices(tmp_path) == ""


@pytest.mark.mutation
@pytest.mark.parametrize("plant", PLANTS)
def test_a_bug_on_the_way_to_the_gpu_is_caught_by_a_rung(plant, tmp_path, request):
    name, old, new = PLANTS[plant]
    path = copy_of_package(tmp_path) / name
    source = path.read_text()
    assert source.count(old) == 1, f"{name} has {source.count(old)} of: {old}"
    path.write_text(source.replace(old, new))
    rung = rung_that_notices(tmp_path)
    print(f"\n{plant} ({name}): rung {rung}" if rung else f"\n{plant} ({name}): NOT NOTICED")
    assert rung, "no rung noticed"
