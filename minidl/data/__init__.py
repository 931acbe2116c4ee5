"""Data for networks, on NumPy alone (and Pillow for image files): nothing here knows about tensors, devices or gradients.

bundled.py     find: where the files that ship with minidl are
datasets.py    fashion_mnist, digits: the bundled sets
shapes.py      shapes: generated pictures with class, box, mask and size
split.py       balanced_split: hold out equally many of each class
loader.py      DataLoader: batches, shuffling, augmentation
transforms.py  normalize, random_horizontal_flip, random_crop, cutout
images.py      read_image, resize_shorter_side, center_crop, Preprocessing: image files as the input that weights expect
idx.py         read_idx: MNIST-style files of your own
npz.py         write_npz: .npz files with reproducible bytes
checks.py      what the functions above check in their arguments
"""
from minidl.data.bundled import find
from minidl.data.datasets import Dataset, digits, fashion_mnist
from minidl.data.idx import read_idx
from minidl.data.images import PREPROCESSINGS, Preprocessing, center_crop, read_image, resize_shorter_side
from minidl.data.loader import DataLoader
from minidl.data.npz import write_npz
from minidl.data.shapes import Shapes, shapes
from minidl.data.split import balanced_split
from minidl.data.transforms import cutout, normalize, random_crop, random_horizontal_flip

__all__ = ["PREPROCESSINGS", "DataLoader", "Dataset", "Preprocessing", "Shapes", "balanced_split", "center_crop", "cutout",
           "digits", "fashion_mnist", "find", "normalize", "random_crop", "random_horizontal_flip", "read_idx", "read_image",
           "resize_shorter_side", "shapes", "write_npz"]
