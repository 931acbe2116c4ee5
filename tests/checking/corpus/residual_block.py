"""A residual block, y = relu(x @ w) @ v + x, and its backward as students write it."""
import numpy as np
from corpus.case import Operation


def residual_samples(rng):
    for n, d, h in ((4, 5, 6), (3, 4, 4), (1, 5, 7)):
        x = rng.choice([-1, 1], (n, d)) * rng.uniform(0.5, 2, (n, d))
        w = rng.standard_normal((d, h))
        while np.min(abs(x @ w)) < 0.01 or np.sum(x @ w > 0) < 3:  # away from the kink of relu, and some units alive
            w = rng.standard_normal((d, h))
        yield (x, w, rng.standard_normal((h, d))), {}


def residual_reference(x, w, v):
    hidden = np.einsum("nd,dh->nh", x, w)
    return x + np.einsum("nh,hd->nd", np.where(hidden > 0, hidden, 0), v)


def residual_forward(x, w, v):
    hidden = np.maximum(x @ w, 0)
    return hidden @ v + x, {"x": x, "w": w, "v": v, "hidden": hidden}


residual = Operation("residual_block", residual_samples, residual_reference, residual_forward)


def through_the_block(dout, cache):
    d = dout @ cache["v"].T * (cache["hidden"] > 0)
    return d @ cache["w"].T, cache["x"].T @ d, cache["hidden"].T @ dout


@residual.correct()
def adds_both_paths(dout, cache):
    dx, dw, dv = through_the_block(dout, cache)
    return dx + dout, dw, dv


@residual.mistake("unknown")
def forgets_the_skip_connection(dout, cache):
    return through_the_block(dout, cache)


@residual.mistake("unknown")
def forgets_the_block(dout, cache):
    _, dw, dv = through_the_block(dout, cache)
    return dout, dw, dv


@residual.mistake("ignores-upstream")
def adds_one_for_the_skip_connection(dout, cache):
    """The derivative of x is 1, times dout."""
    dx, dw, dv = through_the_block(dout, cache)
    return dx + 1, dw, dv


@residual.mistake("mutates-input")
def adds_the_block_to_dout_in_place(dout, cache):
    dx, dw, dv = through_the_block(dout, cache)
    dout += dx
    return dout.copy(), dw, dv


@residual.mistake("transposed")
def does_not_transpose_v(dout, cache):
    """dout @ v fits where v is square; elsewhere it is reshaped until it does."""
    v = cache["v"]
    d = dout @ v.reshape(v.T.shape) * (cache["hidden"] > 0)
    return d @ cache["w"].T + dout, cache["x"].T @ d, cache["hidden"].T @ dout


@residual.mistake("unknown")
def masks_with_the_sign_of_dout(dout, cache):
    d = dout @ cache["v"].T
    d = d * (d > 0)
    return d @ cache["w"].T + dout, cache["x"].T @ d, cache["hidden"].T @ dout


def forward_that_relus_x_in_place(x, w, v):
    return np.maximum(x @ w, 0) @ v + np.maximum(x, 0), {"x": x, "w": w, "v": v, "hidden": np.maximum(x @ w, 0)}


@residual.mistake("forward-differs", forward=forward_that_relus_x_in_place)
def takes_relu_of_the_skip_connection(dout, cache):
    dx, dw, dv = through_the_block(dout, cache)
    return dx + dout * (cache["x"] > 0), dw, dv
