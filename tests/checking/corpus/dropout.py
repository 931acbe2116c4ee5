"""Dropout as in CS231n: a dictionary with p (the part that is kept), mode and seed is the second input."""
import numpy as np
from corpus.case import Operation


def samples(rng):
    for shape, p, mode in (((3, 4, 5), 0.6, "train"), ((4, 7), 0.3, "train"), ((5, 6), 0.75, "test"), ((1, 9), 0.5, "train")):
        yield (rng.normal(size=shape), {"p": p, "mode": mode, "seed": int(rng.integers(1000))}), {}


def draw(x, param):
    """The mask of numbers 0 and 1."""
    return (np.random.RandomState(param["seed"]).rand(*x.shape) < param["p"]).astype(float)


def reference(x, param):
    if param["mode"] == "test":
        return x.copy()
    rng = np.random.RandomState(param["seed"])
    return np.array([v / param["p"] if rng.rand() < param["p"] else 0.0 for v in x.flat]).reshape(x.shape)


def forward(x, param):
    mask = draw(x, param)
    return (x * mask / param["p"] if param["mode"] == "train" else x), (param, mask)


def forward_scaled_mask(x, param):
    mask = draw(x, param) / param["p"] if param["mode"] == "train" else None
    return (x if mask is None else x * mask), {"mask": mask}


def forward_only(x, param):
    return x * draw(x, param) / param["p"] if param["mode"] == "train" else x.copy()


dropout = Operation("dropout", samples, reference, forward)


@dropout.mistake("scale")
def forgets_to_divide_by_p(dout, cache):
    param, mask = cache
    return dout * mask if param["mode"] == "train" else dout


@dropout.mistake("scale")
def divides_by_p_twice(dout, cache):
    param, mask = cache
    return dout * mask / param["p"] ** 2 if param["mode"] == "train" else dout


@dropout.mistake("scale")
def divides_by_the_part_that_is_dropped(dout, cache):
    param, mask = cache
    return dout * mask / (1 - param["p"]) if param["mode"] == "train" else dout


@dropout.mistake("unknown")
def passes_dout_also_where_it_dropped(dout, cache):
    param, mask = cache
    return dout / param["p"] if param["mode"] == "train" else dout


@dropout.mistake("unknown")
def uses_the_mask_the_wrong_way_round(dout, cache):
    param, mask = cache
    return dout * (1 - mask) / param["p"] if param["mode"] == "train" else dout


@dropout.mistake("not-deterministic")
def draws_a_new_mask(dout, cache):
    param, mask = cache
    return dout * (np.random.rand(*dout.shape) < param["p"]) / param["p"] if param["mode"] == "train" else dout


@dropout.mistake("not-deterministic")
def scales_the_mask_in_the_cache(dout, cache):
    param, mask = cache
    mask /= param["p"]
    return dout * mask if param["mode"] == "train" else dout


@dropout.mistake("ignores-upstream")
def returns_the_mask(dout, cache):
    param, mask = cache
    return mask / param["p"] if param["mode"] == "train" else np.ones_like(dout)


@dropout.mistake("mutates-input")
def zeroes_in_dout(dout, cache):
    param, mask = cache
    if param["mode"] == "train":
        dout[mask == 0] = 0
        return dout / param["p"]
    return dout


@dropout.mistake("unknown")
def drops_in_test_mode_too(dout, cache):
    param, mask = cache
    return dout * mask / param["p"]


@dropout.mistake("zero")
def nothing_comes_back_in_train_mode(dout, cache):
    """The branch for training forgets its assignment."""
    param, mask = cache
    dx = np.zeros_like(dout)
    if param["mode"] == "train":
        dout * mask / param["p"]
    else:
        dx = dout
    return dx


def forward_without_scaling(x, param):
    mask = draw(x, param)
    return (x * mask if param["mode"] == "train" else x * param["p"]), (param, mask)


@dropout.mistake("forward-differs", forward=forward_without_scaling)
def scales_in_test_mode_instead(dout, cache):
    param, mask = cache
    return dout * mask if param["mode"] == "train" else dout * param["p"]


def forward_dropping_p(x, param):
    mask = np.random.RandomState(param["seed"]).rand(*x.shape) > param["p"]
    return (x * mask / (1 - param["p"]) if param["mode"] == "train" else x), (param, mask)


@dropout.mistake("forward-differs", forward=forward_dropping_p)
def takes_p_for_the_part_that_is_dropped(dout, cache):
    param, mask = cache
    return dout * mask / (1 - param["p"]) if param["mode"] == "train" else dout


@dropout.correct()
def same_mask_same_factor(dout, cache):
    param, mask = cache
    return dout * mask / param["p"] if param["mode"] == "train" else dout


@dropout.correct(forward=forward_scaled_mask)
def mask_holds_the_factor(dout, cache):
    return dout if cache["mask"] is None else dout * cache["mask"]


@dropout.correct(forward=forward_only)
def draws_the_same_mask_from_the_seed(dout, x, param):
    return dout * draw(x, param) / param["p"] if param["mode"] == "train" else dout


@dropout.correct(forward=lambda x, param: (np.array(forward_only(x, param)), dict(param, shape=x.shape)))
def none_for_the_dictionary(dout, param):
    if param["mode"] != "train":
        return dout, None
    np.random.seed(param["seed"])
    kept = np.random.rand(*param["shape"]) < param["p"]
    dx = np.zeros(param["shape"])
    dx[kept] = dout[kept] / param["p"]
    return dx, None
