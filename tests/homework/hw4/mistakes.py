"""What students get wrong in homework 4: (task, the solution's text, what stands there instead, what the checks must say)."""

WINNER = """        winner[:, :, i, j] = window.argmax(axis=2)
        y[:, :, i, j] = window.max(axis=2)
    return y, (x.shape, winner, KW, stride)
"""
TO_WINNER = """        k, m = np.divmod(winner[:, :, i, j], KW)  # (N, C) each: row and column in the window
        dx[n, c, i * stride + k, j * stride + m] += dy[:, :, i, j]
"""
TO_ALL_LARGEST = """        rows, columns = slice(i * stride, i * stride + KH), slice(j * stride, j * stride + KW)
        dx[:, :, rows, columns] += (x[:, :, rows, columns] == y[:, :, i, j, None, None]) * dy[:, :, i, j, None, None]
"""
AVG_SHARE = "        dpadded[:, :, rows, columns] += share[:, :, i, j, None, None]\n"
AVG_RETURN = "    return dpadded[:, :, padding : padding + H, padding : padding + W]\n"
LRN_PATH = "        dx[:, first:last] += 2 * alpha * x[:, first:last] * ds[:, c : c + 1]\n"
LRN_FORWARD_WINDOW = """        first, last = max(0, c - n // 2), c + (n - 1) // 2 + 1
        s[:, c]"""
LRN_BACKWARD_WINDOW = """        first, last = max(0, c - n // 2), c + (n - 1) // 2 + 1
        dx"""
OTHER_SIDE = ("max(0, c - n // 2), c + (n - 1) // 2 + 1", "max(0, c - (n - 1) // 2), c + n // 2 + 1")
TRAINED = "    M = dy.size // dy.shape[1]\n"
DX_HAT = "    dx_hat = dy - (db / M)[:, None, None] - x_hat * (dw / M)[:, None, None]"
UP_TO_BACKWARD = "(x_hat, w, std)\n    #: end\n\n\ndef batch_norm_backward"
EVAL_RETURN = "    return (w / std)[:, None, None] * dy, (dy * x_hat).sum(axis=(0, 2, 3)), dy.sum(axis=(0, 2, 3))\n"
EVAL_STD = '    std = np.sqrt(running["var"] + eps)\n    x_hat = (x - running["mean"][:, None, None]) / std[:, None, None]\n'
FACTOR = "    factor = (np.random.default_rng(seed).random(x.shape) >= p) / (1 - p)\n"

MISTAKES = [
    ("max_pool", TO_WINNER, TO_WINNER.replace("+=", "="), "overwrites-overlap"),
    # the largest starts at zero
    ("max_pool", "window.max(axis=2)\n", "np.maximum(0, window.max(axis=2))\n", "max_pool_forward(x"),
    ("max_pool", "window.max(axis=2)\n", "window.mean(axis=2)\n", "forward-differs"),
    # the window moves by its own size
    ("max_pool", """        rows, columns = slice(i * stride, i * stride + KH), slice(j * stride, j * stride + KW)
        window""", """        rows, columns = slice(i * KH, i * KH + KH), slice(j * KW, j * KW + KW)
        window""", "cannot reshape"),
    ("max_pool", "np.divmod(winner[:, :, i, j], KW)", "np.divmod(winner[:, :, i, j], KW)[::-1]", "the gradient is wrong: x at"),
    # the last window may not stick out
    ("max_pool", "    OH, OW = (H - KH) // stride + 1, (W - KW) // stride + 1\n",
     "    OH, OW = -(-(H - KH) // stride) + 1, -(-(W - KW) // stride) + 1\n", "cannot reshape"),
    ("max_pool", WINNER + """    #: end


def max_pool_backward(dy, cache):
    \"\"\"Returns dx (N, C, H, W).

    Each window hands its dy to its largest pixel. If several are equally large, you may choose one or split dy among
    them, but all in all they get exactly dy, once. A pixel that is largest in several windows gets the sum.
    \"\"\"
    #: solution
    shape, winner, KW, stride = cache
    dx = np.zeros(shape, dy.dtype)
    n, c = np.ogrid[: shape[0], : shape[1]]
    for i, j in np.ndindex(dy.shape[2:]):
""" + TO_WINNER, """        y[:, :, i, j] = window.max(axis=2)
    return y, (x, y, KH, KW, stride)
    #: end


def max_pool_backward(dy, cache):
    \"\"\"Every pixel as large as the largest gets the whole dy.\"\"\"
    #: solution
    x, y, KH, KW, stride = cache
    dx = np.zeros(x.shape, dy.dtype)
    for i, j in np.ndindex(dy.shape[2:]):
""" + TO_ALL_LARGEST, "ties"),

    ("avg_pool", AVG_SHARE, AVG_SHARE.replace("+=", "="), "overwrites-overlap"),
    ("avg_pool", "    share = dy / count  #", "    share = dy  #", "scale"),
    ("avg_pool", AVG_RETURN, "    return dpadded\n", "border"),
    ("avg_pool", AVG_RETURN, "    return dpadded[:, :, :H, :W]\n", "border"),
    # the two rules the wrong way round
    ("avg_pool", "KH * KW if count_include_pad else", "KH * KW if not count_include_pad else", "count_include_pad="),
    ("avg_pool", "KH * KW if count_include_pad else", "KH * KW if True else", "count_include_pad=False"),
    ("avg_pool", "    share = dy / count  #", "    share = dy / (KH * KW)  #", "border"),
    ("avg_pool", "        y[:, :, i, j] = padded[:, :, rows, columns].sum(axis=(2, 3)) / count[i, j]\n",
     "        y[:, :, i, j] = padded[:, :, rows, columns].sum(axis=(2, 3))\n", "forward-differs"),

    # every channel for itself
    ("lrn", LRN_PATH, LRN_PATH.replace("first:last", "c : c + 1"), "the gradient is wrong"),
    # s taken for a constant
    ("lrn", LRN_PATH, "        pass\n", "missing-statistics-path"),
    ("lrn", LRN_PATH, LRN_PATH.replace("+=", "="), "the gradient is wrong"),
    ("lrn", LRN_PATH, LRN_PATH.replace("2 * alpha", "alpha"), "scale"),
    # Caffe's and torch's alpha
    ("lrn", "= k + alpha * (x", "= k + alpha / n * (x", "forward-differs"),
    ("lrn", LRN_FORWARD_WINDOW, LRN_FORWARD_WINDOW.replace("// 2 + 1", "// 2"), "forward-differs"),
    # a negative start counts from the end
    ("lrn", LRN_FORWARD_WINDOW, LRN_FORWARD_WINDOW.replace("max(0, c - n // 2)", "c - n // 2"), "lrn_forward(x"),
    # an even window that is longer on the other side
    ("lrn", LRN_FORWARD_WINDOW, LRN_FORWARD_WINDOW.replace(*OTHER_SIDE), "n=4"),
    ("lrn", LRN_BACKWARD_WINDOW, LRN_BACKWARD_WINDOW.replace(*OTHER_SIDE), "the gradient is wrong: x at"),

    # mean and variance taken for constants
    ("batch_norm", DX_HAT, "    dx_hat = dy", "missing-statistics-path"),
    # the variance alone
    ("batch_norm", DX_HAT, "    dx_hat = dy - (db / M)[:, None, None]", "missing-statistics-path"),
    ("batch_norm", DX_HAT, "    dx_hat = dy - x_hat * (dw / M)[:, None, None]", "missing-statistics-path"),
    # the batch's size in place of all pixels
    ("batch_norm", TRAINED, "    M = len(dy)\n", "gradient of x"),
    ("batch_norm", "    return (w / std)[:, None, None] * dx_hat, dw, db\n", "    return w[:, None, None] * dx_hat, dw, db\n",
     "gradient of x"),
    ("batch_norm", "    return (w / std)[:, None, None] * dx_hat, dw, db\n",
     "    return (w / std)[:, None, None] * dx_hat, dw[None], db\n", "expected shape"),
    # over the images only
    ("batch_norm", "    dw, db = (dy * x_hat).sum(axis=(0, 2, 3)), dy.sum(axis=(0, 2, 3))\n    M",
     "    dw, db = (dy * x_hat).sum(axis=(0, 2, 3)), dy.sum(axis=0)\n    M", "shape"),
    ("batch_norm", "    mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))  # (C,)\n",
     "    mean = x.mean(axis=(0, 2, 3))\n    var = (x**2).mean(axis=(0, 2, 3)) - mean**2\n", "x + 1e6"),
    ("batch_norm", "momentum * var * M / (M - 1)", "momentum * var", "running['var']"),
    ("batch_norm", "    mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))  # (C,)\n",
     "    mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3), ddof=1)\n", "forward-differs"),
    # Chainer's and Caffe's momentum: what is kept
    ("batch_norm", '(1 - momentum) * running["mean"] + momentum * mean', 'momentum * running["mean"] + (1 - momentum) * mean',
     "running['mean']"),
    ("batch_norm", '    running["mean"] = (1', '    running_mean = (1', "running['mean']"),
    # (C,) meets the width
    ("batch_norm", "    return w[:, None, None] * x_hat + b[:, None, None], " + UP_TO_BACKWARD,
     "    return w[:, None, None] * x_hat + b, " + UP_TO_BACKWARD, "batch_norm_forward(x"),

    ("batch_norm_eval", EVAL_STD, '    std = np.sqrt(x.var(axis=(0, 2, 3)) + eps)\n'
     '    x_hat = (x - x.mean(axis=(0, 2, 3))[:, None, None]) / std[:, None, None]\n', "forward-differs"),
    ("batch_norm_eval", EVAL_STD, EVAL_STD.replace('np.sqrt(running["var"] + eps)', 'running["var"] + eps'),
     "forward-differs"),
    ("batch_norm_eval", EVAL_STD, EVAL_STD + '    running["mean"] = 0.9 * running["mean"] + 0.1 * x.mean(axis=(0, 2, 3))\n',
     "only reads"),
    # the gradient of training
    ("batch_norm_eval", EVAL_RETURN, """    dw, db = (dy * x_hat).sum(axis=(0, 2, 3)), dy.sum(axis=(0, 2, 3))
    M = dy.size // len(w)
    return (w / std)[:, None, None] * (dy - (db / M)[:, None, None] - x_hat * (dw / M)[:, None, None]), dw, db
""", "gradient of x"),
    ("batch_norm_eval", EVAL_RETURN, EVAL_RETURN.replace("dy, (dy * x_hat)", "dy, (dy * x_hat / len(dy))"), "scale"),
    ("batch_norm_eval", EVAL_RETURN, EVAL_RETURN.replace("(w / std)[:, None, None] * dy", "(1 / std)[:, None, None] * dy"),
     "gradient of x"),

    # not inverted: nothing makes up for what is dropped
    ("dropout", FACTOR, "    factor = np.random.default_rng(seed).random(x.shape) >= p\n", "divided by 1 - p"),
    ("dropout", FACTOR, "    factor = (np.random.default_rng(seed).random(x.shape) >= p) / max(p, 0.1)\n",
     "divided by 1 - p"),
    # kept with probability p
    ("dropout", FACTOR, "    factor = (np.random.default_rng(seed).random(x.shape) < p) / (1 - p)\n", "dropped"),
    # one mask for all images
    ("dropout", FACTOR, "    factor = (np.random.default_rng(seed).random(x.shape[1:]) >= p) / (1 - p) * np.ones(x.shape)\n",
     "drawn by itself"),
    ("dropout", FACTOR, "    factor = (np.random.random(x.shape) >= p) / (1 - p)\n", "default_rng(seed)"),
    ("dropout", "        return x, 1.0\n", "        return x * (1 - p), 1.0\n", "training=False"),
    ("dropout", "    if not training:\n        return x, 1.0\n", "", "training=False"),
    ("dropout", "    return dy * cache\n", "    return dy\n", "the gradient is wrong: x at"),
    ("dropout", "    return dy * cache\n", "    return dy * (cache > 0)\n", "scale"),
    # another mask than forward's
    ("dropout", "    return dy * cache\n", "    return dy * (np.random.random(dy.shape) > 0.5)\n", "not-deterministic"),
]
