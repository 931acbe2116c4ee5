"""What students get wrong in homework 3: (task, the solution's text, what stands there instead, what the checks must say)."""

BACKWARD_LOOP = "        dpadded[n, :, rows, columns] += dy[n, f, i, j] * w[f]\n"
DCOLS_LOOP = ("            padded[:, :, k : k + OH * stride : stride, m : m + OW * stride : stride] += "
              "cols[:, k, m].transpose(1, 0, 2, 3)\n")
LOOPS_RETURN = "    return pad_backward(dpadded, padding), dw, db\n"
DW = "    dw = (dY @ cols.T).reshape(w.shape)\n"
Y_AS_IMAGES = "Y.reshape(F, N, OH, OW).transpose(1, 0, 2, 3), (x.shape"

MISTAKES = [
    # rounded up: a window that sticks out is counted
    ("output_size", "    return room // stride + 1\n", "    return -(-room // stride) + 1\n", "output_size("),
    ("output_size", "    room = size + 2 * padding - kernel\n", "    room = size + padding - kernel\n", "padding=1"),
    ("output_size", "    return room // stride + 1\n", "    return room / stride + 1\n", "must be an integer"),
    ("output_size", "    return room // stride + 1\n", "    return room // stride\n", "output_size("),
    # nothing is refused: the count is 0 or negative
    ("output_size", "    if room < 0:\n", "    if kernel < 0:\n", "must be refused"),
    # the kernel that just fits is refused as well
    ("output_size", "    if room < 0:\n", "    if room <= 0:\n", "does not fit"),
    # the padding is forgotten in the refusal
    ("output_size", "    if room < 0:\n", "    if kernel > size:\n", "does not fit"),
    ("output_size", '(f"a kernel of {kernel} does not fit into {size} + 2 * {padding} = {size + 2 * padding} pixels")',
     '("does not fit")', "does not say"),

    # channels last
    ("pad", "((0, 0), (0, 0), around, around)", "((0, 0), around, around, (0, 0))", "shape"),
    ("pad", "((0, 0), (0, 0), around, around)", '((0, 0), (0, 0), around, around), mode="edge"', "forward-differs"),
    ("pad", "    return minidl.array_module(x).pad(x, ((0, 0), (0, 0), around, around))\n",
     "    y = np.zeros((*x.shape[:2], x.shape[2] + 2 * padding, x.shape[3] + 2 * padding))\n"
     "    y[:, :, padding : padding + x.shape[2], padding : padding + x.shape[3]] = x\n    return y\n", "dtype float64"),
    # empty for padding 0
    ("pad", "    return dy[:, :, padding : padding + H, padding : padding + W]\n",
     "    return dy[:, :, padding:-padding, padding:-padding]\n", "shape (2, 1, 0, 0)"),
    # cut at the wrong place
    ("pad", "    return dy[:, :, padding : padding + H, padding : padding + W]\n", "    return dy[:, :, :H, :W]\n", "border"),
    # not cut at all
    ("pad", "    return dy[:, :, padding : padding + H, padding : padding + W]\n", "    return dy\n", "border"),

    ("conv_loops", ".sum() + b[f]", ".sum()", "forward-differs"),
    # what the mathematicians call a convolution
    ("conv_loops", "(w[f] * window)", "(w[f, :, ::-1, ::-1] * window)", "forward-differs"),
    ("conv_loops", "    padded = pad(x, padding)\n    y = ", "    padded = pad(x, 1) if padding else x\n    y = ",
     "could not be broadcast"),
    # the bias for every channel of the window
    ("conv_loops", ".sum() + b[f]", ".sum() + b[0]", "forward-differs"),
    ("conv_loops", BACKWARD_LOOP, BACKWARD_LOOP.replace("+=", "="), "overwrites-overlap"),
    ("conv_loops", "        dw[f] += dy", "        dw[f] = dy", "overwrites-overlap"),
    ("conv_loops", BACKWARD_LOOP, BACKWARD_LOOP.replace("w[f]", "w[f, :, ::-1, ::-1]"), "flipped"),
    ("conv_loops", BACKWARD_LOOP, BACKWARD_LOOP.replace("dy[n, f, i, j] * w[f]", "w[f]"), "ignores-upstream"),
    ("conv_loops", "        db[f] += dy[n, f, i, j]\n", "        db[f] += 1\n", "ignores-upstream"),
    ("conv_loops", LOOPS_RETURN, "    return dpadded, dw, db\n", "border"),
    ("conv_loops", LOOPS_RETURN, LOOPS_RETURN.replace("dw", "-dw"), "sign"),
    ("conv_loops", LOOPS_RETURN, LOOPS_RETURN.replace("dw", "dw / len(dy)"), "scale"),
    # the windows of the first image for all images
    ("conv_loops", "dy[n, f, i, j] * padded[n, :, rows, columns]", "dy[0, f, i, j] * padded[0, :, rows, columns]",
     "gradient of w"),
    # adds up in the caller's array
    ("conv_loops", "    dpadded, dw, db = np.zeros_like(padded), np.zeros_like(w), np.zeros_like(b)\n",
     "    dpadded, dw, db = np.zeros_like(padded), w, np.zeros_like(b)\n", "mutates-input"),

    # (k, m, c) in place of (c, k, m)
    ("im2col", "    return cols.reshape(C * KH * KW, N * OH * OW)\n",
     "    return cols.transpose(1, 2, 0, 3, 4, 5).reshape(C * KH * KW, N * OH * OW)\n", "im2col(x (2, 3, 4, 5)"),
    # the images run fastest
    ("im2col", "    return cols.reshape(C * KH * KW, N * OH * OW)\n",
     "    return cols.transpose(0, 1, 2, 4, 5, 3).reshape(C * KH * KW, N * OH * OW)\n", "im2col(x (2, 3, 4, 5)"),
    # a reshape where a transpose is needed
    ("im2col", "place.transpose(1, 0, 2, 3)", "place.reshape(C, N, OH, OW)", "im2col(x (2, 3, 4, 5)"),
    ("im2col", "padded[:, :, k : k + OH * stride : stride, m : m + OW * stride : stride]  #",
     "padded[:, :, k : k + OH, m : m + OW]  #", "stride=2"),
    # one row per window
    ("im2col", "    return cols.reshape(C * KH * KW, N * OH * OW)\n", "    return cols.reshape(C * KH * KW, N * OH * OW).T\n",
     "expected shape"),
    ("im2col", "zeros((C, KH, KW, N, OH, OW), x.dtype)", "zeros((C, KH, KW, N, OH, OW))", "dtype float64"),

    ("col2im", DCOLS_LOOP, DCOLS_LOOP.replace("+=", "="), "overwrites-overlap"),
    ("col2im", "    return pad_backward(padded, padding)\n", "    return padded\n", "shape"),
    ("col2im", "    return pad_backward(padded, padding)\n", "    return padded[:, :, :H, :W]\n", "im2col(x, ...)"),
    # an average in place of the sum
    ("col2im", "    return pad_backward(padded, padding)\n", "    return pad_backward(padded, padding) / (KH * KW)\n", "scale"),
    ("col2im", "    cols = cols.reshape(C, KH, KW, N, OH, OW)\n",
     "    cols = cols.reshape(KH, KW, C, N, OH, OW).transpose(2, 0, 1, 3, 4, 5)\n", "the gradient is wrong: x at"),
    ("col2im", "2 * padding), cols.dtype)", "2 * padding))", "dtype float64"),

    ("conv_matrix", f"    return {Y_AS_IMAGES}", "    return Y.reshape(N, F, OH, OW), (x.shape",
     "conv_matrix_forward(x (2, 3, 5, 6)"),
    ("conv_matrix", " @ cols + b.reshape(F, 1)", " @ cols", "forward-differs"),
    ("conv_matrix", "    dY = dy.transpose(1, 0, 2, 3).reshape(F, -1)", "    dY = dy.reshape(F, -1)", "transposed"),
    ("conv_matrix", DW, "    dw = (dY @ cols.T).reshape(w.shape) / len(dy)\n", "scale"),
    ("conv_matrix", DW, "    dw = dY @ cols.T\n", "wrong-shape"),
    ("conv_matrix", "dw, dY.sum(axis=1)\n", "dw, dy[0].sum(axis=(1, 2))\n", "one-sample-only"),
    ("conv_matrix", "dw, dY.sum(axis=1)\n", "dw, dY\n", "broadcast-not-summed"),
    # a reshape where a transpose is needed
    ("conv_matrix", "    dcols = w.reshape(F, -1).T @ dY\n", "    dcols = w.reshape(-1, F) @ dY\n", "gradient of x"),
    ("conv_matrix", "    Y = w.reshape(F, -1) @ cols", "    Y = w.reshape(F, -1).astype(float) @ cols", "dtype float64"),
    # the loops, under another name
    ("conv_matrix", f"    return {Y_AS_IMAGES}",
     "    y, _ = conv_loops_forward(x, w, b, stride, padding)\n    return y, (x.shape", "lines of Python"),
]
