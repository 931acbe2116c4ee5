"""Planted changes that change nothing an operation promises: why no check can notice them.

Written as (function, line of source, why, changes); `EQUIVALENT` holds one entry per change. An entry whose line has
been rewritten, or whose change is noticed by now, is stale, and plant_bugs.py says so.
"""

MORE_THAN_NEEDED = "adds more rows or columns of padding than any window reaches; the slice at the end leaves them out"
NO_FURTHER_WINDOW = "the image is padded just as far as the last window reaches: a longer slice finds no further one"
CUT_OFF = "adds more rows or columns than any window reaches; they stay zero and are cut off at the end"
ONLY_THE_PRODUCT = "only the product of the two sizes is used"
MEMORY_ORDER = "decides whether the result is contiguous, which costs or saves time and changes no number"
SIMPLE_PART = "part is None or part is Ellipsis or isinstance(part, (int, slice))"
SUM_OF_BOTH = "kernel and output_padding are only added"
ANY_GRID = "any grid does any work: this only changes how many threads share it"
ROWS = ("KERNELS.launch_rows(kernel, size // C, C, *map(contiguous, arrays), size // C, C, "
        "math.prod(shape[axis % len(shape) + 1 :]))")
ROWS_SWAPPED = ("KERNELS.launch_rows(kernel, size // C, C, *map(contiguous, arrays), size // C, C, "
                "math.prod(shape[axis % len(shape) + 1:])) -> "
                "KERNELS.launch_rows(kernel, C, size // C, *map(contiguous, arrays), size // C, C, "
                "math.prod(shape[axis % len(shape) + 1:]))")
UNWRITTEN = "both are memory of one shape and dtype, and nothing is in them yet"
STATISTICS = 'KERNELS.launch_rows("statistics", C, N * S, self.x, self.true_mean, true_var, N, C, S)'
SUMS = 'KERNELS.launch_rows("gradient_sums", C, N * S, dy, x, mean, scale, dw, db, N, C, S)'

EXPLAINED: list[tuple[str, str, str, list[str]]] = [
    ("elementwise.Add.forward_cpu",
     "in_parts(np.add, x, y, z)  # into z",
     "x + y is y + x",
     ["in_parts(np.add, x, y, z) -> in_parts(np.add, y, x, z)"]),
    ("dropout.Dropout.forward_cpu", "in_parts(self.masked, x, keep, y)", "the factors of a product",
     ["in_parts(self.masked, x, keep, y) -> in_parts(self.masked, keep, x, y)"]),
    ("dropout.Dropout.backward_cpu", "in_parts(self.masked, dy, self.keep, dx)", "the factors of a product",
     ["in_parts(self.masked, dy, self.keep, dx) -> in_parts(self.masked, self.keep, dy, dx)"]),
    ("dropout.Dropout.masked", "np.multiply(x, keep, out=y)", "the factors of a product",
     ["np.multiply(x, keep, out=y) -> np.multiply(keep, x, out=y)"]),
    ("relu.ReLU.backward_cpu",
     "in_parts(lambda dy, y, dx: np.multiply(dy, y > 0, out=dx), dy, self.y, dx)",
     "the factors of a product",
     ["np.multiply(dy, y > 0, out=dx) -> np.multiply(y > 0, dy, out=dx)"]),
    ("relu.ReLU.may_overwrite",
     'return self.inplace and self.x_is_free and x.base is None and getattr(x.flags, "writeable", True)',
     "NumPy's arrays always say whether they may be written",
     ["True -> False"]),
    ("broadcasting.sum_to",
     "repeated = tuple(axis for axis, size in enumerate(shape) if size == 1 and dy.shape[axis] != 1)",
     "the sum over an axis of size 1 is its one element",
     ["size == 1 and dy.shape[axis] != 1 -> size == 1"]),
    ("sigmoid.Sigmoid.forward",
     "self.y = xp.where(x >= 0, 1 / (1 + small), small / (1 + small))",
     "at x = 0 both formulas give 1 / 2",
     ["x >= 0 -> x > 0"]),
    ("windows.pair",
     "both = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value, value)",
     "the letters of a string are no integers either: refused with the same words",
     ["isinstance(value, Sequence) and (not isinstance(value, str)) -> isinstance(value, Sequence)"]),
    ("windows.unfold",
     "below = max(0, (OH - 1) * SH + KH - H - PH)  # the last window ends here: padding, or more in ceil mode",
     MORE_THAN_NEEDED,
     ["0 -> 1",
      "(OH - 1) * SH + KH - H - PH -> (OH - 1) * SH + KH - H + PH",
      "(OH - 1) * SH + KH - H - PH -> (OH - 1) * SH + KH - H",
      "(OH - 1) * SH + KH - H -> (OH - 1) * SH + KH + H",
      "(OH - 1) * SH + KH - H -> (OH - 1) * SH + KH",
      "OH - 1 -> OH + 1",
      "OH - 1 -> OH"]),
    ("windows.unfold",
     "right = max(0, (OW - 1) * SW + KW - W - PW)",
     MORE_THAN_NEEDED,
     ["0 -> 1",
      "(OW - 1) * SW + KW - W - PW -> (OW - 1) * SW + KW - W + PW",
      "(OW - 1) * SW + KW - W - PW -> (OW - 1) * SW + KW - W",
      "(OW - 1) * SW + KW - W -> (OW - 1) * SW + KW + W",
      "(OW - 1) * SW + KW - W -> (OW - 1) * SW + KW",
      "OW - 1 -> OW + 1",
      "OW - 1 -> OW"]),
    ("windows.unfold",
     "return windows[:, :, : (OH - 1) * SH + 1 : SH, : (OW - 1) * SW + 1 : SW]",
     NO_FURTHER_WINDOW,
     ["OH - 1 -> OH + 1", "OH - 1 -> OH", "1 -> 2 (2)", "OW - 1 -> OW + 1", "OW - 1 -> OW", "1 -> 2 (4)"]),
    ("windows.fold", "height = max(H + PH, (OH - 1) * SH + KH)", CUT_OFF, ["OH - 1 -> OH + 1", "OH - 1 -> OH"]),
    ("windows.fold", "width = max(W + PW, (OW - 1) * SW + KW)", CUT_OFF, ["OW - 1 -> OW + 1", "OW - 1 -> OW"]),
    ("im2col.Im2Col.forward",
     "self.output = OH, OW = output_size(self.name, (H, W), self.kernel, self.stride, self.padding)",
     ONLY_THE_PRODUCT,
     ["(OH, OW) -> (OW, OH)"]),
    ("im2col.Im2Col.forward", "KH, KW = self.kernel", ONLY_THE_PRODUCT, ["(KH, KW) -> (KW, KH)"]),
    ("im2col.Col2Im.backward", "N, C, OH, OW, KH, KW = windows.shape", ONLY_THE_PRODUCT,
     ["(N, C, OH, OW, KH, KW) -> (N, C, OW, OH, KH, KW)", "(N, C, OH, OW, KH, KW) -> (N, C, OH, OW, KW, KH)"]),
    ("conv2d.as_matrix", "N, C, OH, OW, KH, KW = windows.shape", ONLY_THE_PRODUCT,
     ["(N, C, OH, OW, KH, KW) -> (N, C, OW, OH, KH, KW)", "(N, C, OH, OW, KH, KW) -> (N, C, OH, OW, KW, KH)"]),
    ("conv2d.channels_first", "N, F, OH, OW = y.shape", ONLY_THE_PRODUCT, ["(N, F, OH, OW) -> (N, F, OW, OH)"]),
    ("conv2d.as_images", "return images if N == 1 else images.copy()", MEMORY_ORDER,
     ["images if N == 1 else images.copy() -> images.copy() if N == 1 else images",
      "N == 1 -> N != 1",
      "1 -> 2",
      "images.copy() -> images"]),
    ("conv_transpose2d.ConvTranspose2d.output_shape", "size = [(n - 1) * s - 2 * p + k + extra", SUM_OF_BOTH,
     ["(n, s, p, k, extra) -> (n, s, p, extra, k)",
      "zip(x[2:], self.stride, self.padding, w[2:], self.output_padding) -> "
      "zip(x[2:], self.stride, self.padding, self.output_padding, w[2:])"]),
    ("dropout.Dropout.output_shape", "return shapes[0]", "the mask has x's shape", ["0 -> 1"]),
    ("shaping.GetItem.backward",
     "if all(part is None or part is Ellipsis or isinstance(part, (int, slice)) for part in parts):",
     "sends a simple index to add.at, which is slower and adds the same numbers to the same places",
     [SIMPLE_PART + " -> part is Ellipsis or isinstance(part, (int, slice))",
      SIMPLE_PART + " -> part is None or isinstance(part, (int, slice))",
      SIMPLE_PART + " -> part is None or part is Ellipsis"]),
    ("softmax.launch_along_classes", "shape = arrays[0].shape", "the arrays are of one shape", ["0 -> 1"]),
    ("softmax.launch_along_classes", ROWS, ANY_GRID, [ROWS_SWAPPED, "size // C -> size * C", "size // C -> size"]),
    ("cross_entropy.CrossEntropy.forward_cuda",
     "losses, counts = xp.empty(N, np.float64), xp.empty(N, np.float64)  # of each image", UNWRITTEN,
     ["(losses, counts) -> (counts, losses)"]),
    ("cross_entropy.CrossEntropy.forward_cuda",
     'KERNELS.launch_rows("image_losses", N, inner, self.log_probabilities, self.labels, losses, counts, N, C, inner,',
     ANY_GRID,
     ["KERNELS.launch_rows('image_losses', N, inner, self.log_probabilities, self.labels, losses, counts, N, C, inner, "
      "*self.ignored()) -> KERNELS.launch_rows('image_losses', inner, N, self.log_probabilities, self.labels, losses, counts, "
      "N, C, inner, *self.ignored())"]),
    ("cross_entropy.CrossEntropy.ignored",
     "return (False, 0) if self.ignore_index is None else (True, int(self.ignore_index))",
     "where nothing is ignored, the kernel does not look at the number", ["0 -> 1"]),
    ("conv2d.Conv2d.backward_cuda", "N, F, OH, OW = dy.shape", ONLY_THE_PRODUCT, ["(N, F, OH, OW) -> (N, F, OW, OH)"]),
    ("lrn.LRN.forward_cuda", "self.s, y = empty(x.shape, x), empty(x.shape, x)", UNWRITTEN, ["(self.s, y) -> (y, self.s)"]),
    ("batch_norm.BatchNorm.forward_cuda", "self.true_mean, true_var = xp.empty(C, np.float64), xp.empty(C, np.float64)",
     UNWRITTEN,
     ["(self.true_mean, true_var) -> (true_var, self.true_mean)"]),
    ("batch_norm.BatchNorm.forward_cuda", STATISTICS, ANY_GRID,
     ["N * S -> N", "N * S -> S",
      "KERNELS.launch_rows('statistics', C, N * S, self.x, self.true_mean, true_var, N, C, S) -> "
      "KERNELS.launch_rows('statistics', N * S, C, self.x, self.true_mean, true_var, N, C, S)"]),
    ("batch_norm._gradient_sums_cuda", "dw, db = empty((C,), dy), empty((C,), dy)", UNWRITTEN, ["(dw, db) -> (db, dw)"]),
    ("batch_norm._gradient_sums_cuda", SUMS, ANY_GRID, ["N * S -> N", "N * S -> S"]),
]

EQUIVALENT: dict[tuple[str, str, str], str] = {
    (function, line, change): why for function, line, why, changes in EXPLAINED for change in changes}
