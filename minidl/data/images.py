"""Image files as a network's input: read, resize, crop, normalise. Pillow decodes and resizes; the rest is NumPy.

    image = read_image("cat.jpg")                  # uint8 (H, W, 3)
    x = PREPROCESSINGS["torchvision"](image)       # float32 (3, 224, 224)
    scores = net(x[None])

Weights go with the preprocessing that they were trained with: other mean values, or blue where red was, cost accuracy
without any error. `PREPROCESSINGS` has the usual ones.
"""
from __future__ import annotations

import math
import numbers
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from minidl.data import checks

ORDERS = {"RGB": 3, "BGR": 3, "grey": 1}
"""How a preprocessing can order the channels, and how many there are."""

MOST_PIXELS = 89_478_485
"""Larger images are refused, read or resized: 256 MB of RGB, and the limit at which Pillow begins to warn."""


def read_image(path: str | Path) -> np.ndarray:
    """The image in a file of any format that Pillow decodes, as RGB: uint8 (H, W, 3).

    Grey becomes three equal channels, transparent parts lie on white, 16 bits are cut to their upper 8, a camera's
    orientation mark (EXIF) is obeyed, and of an animation or a multi-page file the first picture is taken. Colour
    profiles are not applied.

    Raises FileNotFoundError if no file is there; ValueError for a file that is no image, is damaged or cut short, has
    more than MOST_PIXELS pixels, has pixels without a known white (32-bit integers or floats), or is a program (EPS).
    """
    path = Path(path)
    if not path.is_file():
        what = "that is a folder" if path.is_dir() else "nothing is there"
        raise FileNotFoundError(f"read_image: path is an image file, but got {path} and {what}; check the spelling")
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks about odd but readable files
        picture = _decoded(file, path)
        return np.array(_rgb(_upright(picture), picture.format, path))


def _decoded(file: Any, path: Path) -> Any:
    """The file as a Pillow image, every pixel decoded."""
    Image = _pillow().Image
    try:
        picture = Image.open(file)  # reads the header only
    except Image.UnidentifiedImageError:
        raise ValueError(f"read_image: {path} is not in an image format that Pillow knows; is it whole, and not an error "
                         f"page saved by a browser?") from None
    except Image.DecompressionBombError:
        raise ValueError(f"read_image: {path} has more than {MOST_PIXELS:,} pixels; shrink it first") from None
    except Exception as error:  # on damaged files Pillow's formats raise nearly anything: SyntaxError, struct.error, ...
        raise _damaged(path, error) from None
    if picture.width * picture.height > MOST_PIXELS:
        raise ValueError(f"read_image: an image has at most {MOST_PIXELS:,} pixels, but {path} has {picture.width} x "
                         f"{picture.height}; shrink it first")
    if picture.format == "EPS":
        raise ValueError(f"read_image: {path} is an EPS file, a program that Pillow would have Ghostscript run; "
                         f"convert it to PNG first")
    try:
        picture.load()
    except Exception as error:  # as above
        raise _damaged(path, error) from None
    return picture


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"read_image: {path} cannot be decoded ({str(error) or type(error).__name__}); it is damaged, cut "
                      f"short, or of a kind that Pillow cannot read: fetch it again, or convert it to PNG")


def _upright(picture: Any) -> Any:
    """The picture turned as its EXIF mark says. A mark that cannot be read turns nothing."""
    try:
        return _pillow().ImageOps.exif_transpose(picture)
    except Exception:  # as above; the pixels themselves have been decoded
        return picture


def _rgb(picture: Any, file_format: str, path: Path) -> Any:
    """The picture in Pillow's mode RGB."""
    Image = _pillow().Image
    if picture.mode.startswith("I;16") or (picture.mode == "I" and file_format == "PPM"):  # which Pillow scales to 16 bits
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")  # as Pillow cuts 16-bit colour
    if picture.mode in ("I", "F"):
        raise ValueError(f"read_image: the pixels of an image have 8 or 16 bits, but those of {path} are 32-bit "
                         f"{'integers' if picture.mode == 'I' else 'floats'}, and nothing says which of them is white; "
                         f"scale them to 0..255 and save them as uint8")
    try:
        if not picture.has_transparency_data:
            return picture.convert("RGB")
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    except ValueError:
        raise ValueError(f"read_image: {path} has colours of the kind {picture.mode}, which Pillow cannot turn into RGB; "
                         f"save it as RGB first") from None


def resize_shorter_side(image: np.ndarray, size: int) -> np.ndarray:
    """The image with its shorter side `size` pixels long, the longer one in proportion (rounded down).

    image uint8 (H, W, 3) or (H, W). Bilinear; when the image shrinks, the filter grows with it, so that every pixel
    counts (antialiasing). The same bits as torchvision's `Resize(size)` gives for a Pillow image.
    """
    image = _image("resize_shorter_side", image)
    size = checks.whole_number("resize_shorter_side", "size", size, 1)
    H, W = image.shape[:2]
    longer = int(size * max(H, W) / min(H, W))
    if size * longer > MOST_PIXELS:
        raise ValueError(f"resize_shorter_side: the result has at most {MOST_PIXELS:,} pixels, but an image of {H} x {W} with "
                         f"its shorter side made {size} has {size} x {longer}; crop it first, or choose a smaller size")
    height, width = (size, longer) if H <= W else (longer, size)
    Image = _pillow().Image
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def center_crop(image: np.ndarray, size: int) -> np.ndarray:
    """The middle (size, size) pixels of the image; where it is smaller, black is added around it.

    image (H, W, 3) or (H, W). Odd remainders are split as torchvision's `CenterCrop` does: a crop starts at
    (H - size) / 2 rounded to the nearest integer, halves to the even one; padding is smaller above and on the left.
    """
    image = _image("center_crop", image)
    size = checks.whole_number("center_crop", "size", size, 1)
    lacking = [max(size - length, 0) for length in image.shape[:2]]
    image = np.pad(image, [(n // 2, n - n // 2) for n in lacking] + [(0, 0)] * (image.ndim - 2))
    H, W = image.shape[:2]
    top, left = round((H - size) / 2), round((W - size) / 2)
    return image[top:top + size, left:left + size]


@dataclass(frozen=True)
class Preprocessing:
    """What a net's weights expect: y = (scale * image - mean) / std, of the middle of the resized image.

    Called with an image uint8 (H, W, 3), red first, it gives float32 (C, crop, crop): C = 3, or 1 if the order is "grey".
    """

    resize: int
    """How long the shorter side is made."""
    crop: int
    """Height and width of the square that is cut out of the middle then."""
    mean: tuple[float, ...]
    """One number per channel, in the order and on the scale of the result."""
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    """As mean."""
    order: str = "RGB"
    """Of the channels: "RGB", "BGR", or "grey" for their luminance alone (ITU-R 601: .299 R + .587 G + .114 B)."""
    scale: float = 1 / 255
    """1/255 for values from 0 to 1; 1 for values from 0 to 255."""

    def __post_init__(self) -> None:
        for name in ("resize", "crop"):
            checks.whole_number("Preprocessing", name, getattr(self, name), 1)
        if self.order not in ORDERS:
            raise ValueError(f"Preprocessing: order is one of {', '.join(ORDERS)}, but got {self.order!r}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if not (isinstance(values, tuple) and len(values) == self.channels and all(map(_is_finite, values))):
                raise ValueError(f"Preprocessing: {name} is a tuple of {self.channels} finite numbers for the order "
                                 f"{self.order!r}, one per channel, but got {values!r}")
        if min(self.std) <= 0 or not _is_finite(self.scale) or self.scale <= 0:
            raise ValueError(f"Preprocessing: std and scale are > 0, but got std {self.std} and scale {self.scale!r}; "
                             f"use 1 where nothing is to be scaled")

    @property
    def channels(self) -> int:
        """How many channels the result has."""
        return ORDERS[self.order]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        image = _image("Preprocessing", image)
        if image.ndim != 3:
            raise ValueError(f"Preprocessing: image is (H, W, 3), but got shape {image.shape}; "
                             f"for a grey image use np.stack([image] * 3, axis=-1)")
        x = center_crop(resize_shorter_side(image, self.resize), self.crop)
        x = np.ascontiguousarray(self._ordered(x).transpose(2, 0, 1), np.float32)  # (C, crop, crop)
        x = x / np.float32(1 / self.scale)  # a division by 255, like torchvision's, for the same bits
        mean, std = (np.array(values, np.float32)[:, None, None] for values in (self.mean, self.std))
        return (x - mean) / std

    def _ordered(self, image: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) -> uint8 (H, W, C)"""
        if self.order == "grey":  # in integers of 1/65536, as Pillow's mode L rounds
            return ((image @ np.array([19595, 38470, 7471]) + 32768) >> 16).astype(np.uint8)[:, :, None]
        return image[:, :, ::-1] if self.order == "BGR" else image

    def for_size(self, size: int) -> Preprocessing:
        """The same for nets that take images of (size, size): resize grows or shrinks in proportion to crop."""
        size = checks.whole_number("Preprocessing.for_size", "size", size, 1)
        return replace(self, resize=max(1, round(self.resize * size / self.crop)), crop=size)


def _is_finite(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _image(who: str, image: object) -> np.ndarray:
    """`image` if it is a NumPy array uint8 (H, W, 3) or (H, W), H and W at least 1."""
    if not isinstance(image, np.ndarray):
        raise TypeError(f"{who}: image is a NumPy array uint8 (H, W, 3), but got {type(image).__name__}; "
                        f"read_image reads a file, np.asarray(...) takes a Pillow image")
    if image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)) or 0 in image.shape:
        hint = "; channels come last: use image.transpose(1, 2, 0)" if image.ndim == 3 and image.shape[0] in (1, 3) else ""
        raise ValueError(f"{who}: image is (H, W, 3) or (H, W), H and W at least 1, but got shape {image.shape}{hint}")
    if image.dtype != np.uint8:
        raise TypeError(f"{who}: image is uint8 with values 0..255, but got {image.dtype}; "
                        f"for values from 0 to 1 use (image * 255).round().astype(np.uint8)")
    return image


def _pillow() -> Any:
    """The package PIL with the modules that are used here."""
    try:
        import PIL.Image
        import PIL.ImageOps
    except ImportError as error:
        raise ImportError(f"minidl.data: images are read and resized by Pillow, which cannot be imported ({error}); "
                          f"install it with: pip install pillow") from error
    return PIL


# --- the usual ones ---------------------------------------------------------------------------------------------------

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

PREPROCESSINGS = {
    "torchvision": Preprocessing(256, 224, IMAGENET_MEAN, IMAGENET_STD),
    "caffe": Preprocessing(256, 224, (104.0, 117.0, 123.0), order="BGR", scale=1.0),
    "caffe-alexnet": Preprocessing(256, 227, (104.0, 117.0, 123.0), order="BGR", scale=1.0),
    "vgg": Preprocessing(256, 224, (103.939, 116.779, 123.68), order="BGR", scale=1.0),
    "cifar": Preprocessing(32, 32, IMAGENET_MEAN, IMAGENET_STD),
    "grey": Preprocessing(28, 28, (0.28587872,), (0.35340142,), order="grey"),
}
"""By name, with the source of the numbers:

torchvision    torchvision's weights "IMAGENET1K_V1" (torchvision/transforms/_presets.py, ImageClassification)
caffe          the BVLC models of Caffe (models/bvlc_googlenet/train_val.prototxt: mean_value, crop_size). Caffe's own
               scripts squash images to 256 x 256; here the shorter side becomes 256 and nothing is squashed
caffe-alexnet  the same with AlexNet's crop (models/bvlc_alexnet/train_val.prototxt: crop_size 227)
vgg            the authors' VGG-16 and VGG-19 (Simonyan's gists beside Caffe's model zoo: BGR, mean_value to two or three
               decimals)
cifar          the usual CIFAR-10 ResNets of PyTorch, which keep ImageNet's mean (akamaster/pytorch_resnet_cifar10, trainer.py)
grey           `minidl demo`: Fashion-MNIST, light things on black, by the mean and standard deviation of its 3,500
               training images (minidl/train/fashion.py)
"""
