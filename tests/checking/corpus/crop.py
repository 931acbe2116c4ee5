"""A part cut out of images, and the way back as students write it."""
import numpy as np
from corpus.case import Operation

from minidl import Function


def crop_samples(rng):
    yield (rng.standard_normal((2, 3, 5, 4)),), {"top": 1, "left": 0, "height": 3, "width": 2}
    yield (rng.standard_normal((2, 3, 5, 5)),), {"top": 2, "left": 1, "height": 2, "width": 2}
    yield (rng.standard_normal((1, 2, 4, 6)),), {"top": 0, "left": 3, "height": 4, "width": 2}


def crop_reference(x, top, left, height, width):
    return x[:, :, top:top + height, left:left + width].copy()


def crop_forward(x, top, left, height, width):
    return x[:, :, top:top + height, left:left + width], (x.shape, top, left)


crop = Operation("crop", crop_samples, crop_reference, crop_forward)


@crop.correct()
def pads_with_zeros(dout, cache):
    (_, _, H, W), top, left = cache
    height, width = dout.shape[2:]
    return np.pad(dout, [(0, 0), (0, 0), (top, H - top - height), (left, W - left - width)])


@crop.correct()
class CropFunction(Function):
    def __init__(self, top, left, height, width):
        self.place = (..., slice(top, top + height), slice(left, left + width))

    def forward(self, x):
        self.shape = x.shape
        return x[self.place]

    def backward(self, dy):
        dx = np.zeros(self.shape, dtype=dy.dtype)
        dx[self.place] = dy
        return dx


@crop.mistake("border")
def puts_dout_into_the_corner(dout, cache):
    dx = np.zeros(cache[0])
    dx[:, :, :dout.shape[2], :dout.shape[3]] = dout
    return dx


@crop.mistake("wrong-shape")
def returns_dout_as_it_is(dout, cache):
    return dout


@crop.mistake("ignores-upstream")
def puts_ones_where_the_cut_was(dout, cache):
    dx = np.zeros(cache[0])
    dx[:, :, cache[1]:cache[1] + dout.shape[2], cache[2]:cache[2] + dout.shape[3]] = 1
    return dx


@crop.mistake("flipped")
def puts_the_cut_in_upside_down(dout, cache):
    dx = np.zeros(cache[0])
    dx[:, :, cache[1]:cache[1] + dout.shape[2], cache[2]:cache[2] + dout.shape[3]] = dout[:, :, ::-1]
    return dx
