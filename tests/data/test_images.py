"""Image files as input: what each kind of file becomes, what is refused, and torchvision's numbers bit for bit."""
import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from minidl.data import PREPROCESSINGS, Preprocessing, center_crop, fashion_mnist, read_image, resize_shorter_side
from minidl.data import images as module


def photo(H=7, W=5, seed=0):
    """Noise, uint8 (H, W, 3): no two pixels alike, so each says where it came from."""
    return np.random.default_rng(seed).integers(0, 256, (H, W, 3), dtype=np.uint8)


def saved(path, picture, **options):
    """`path`, after the Pillow image or array was saved there."""
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path, **options)
    return path


# --- reading ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.ppm", "a.tiff", "a.tga", "png without a name"])
def test_rgb_files_give_their_pixels_whatever_they_are_called(tmp_path, name):
    image = read_image(saved(tmp_path / name, photo(), format=None if "." in name else "png"))
    np.testing.assert_array_equal(image, photo())
    assert image.dtype == np.uint8
    assert image.flags.writeable and image.flags.c_contiguous


def test_a_jpeg_is_close_to_what_was_saved(tmp_path):
    ramp = np.dstack(np.broadcast_arrays(np.arange(32)[:, None] * 7, np.arange(24) * 9, 100)).astype(np.uint8)
    image = read_image(saved(tmp_path / "a.jpg", ramp, quality=95))
    assert np.abs(image.astype(int) - ramp).max() < 12


def kinds_of_files():
    """(name of the case, file name, Pillow image, options of save, expected uint8 (H, W, 3))"""
    grey, rgb = photo()[:, :, 0], photo()
    three = np.dstack([grey] * 3)
    yield "grey", "a.png", Image.fromarray(grey), {}, three
    yield "one bit", "a.png", Image.fromarray(grey > 99), {}, np.where(three > 99, 255, 0)
    palette = Image.fromarray(grey % 4).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 255, 0, 1])
    colours = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [255, 0, 1]])[grey % 4]
    yield "palette", "a.png", palette, {}, colours
    yield "palette with a transparent colour", "a.png", palette, {"transparency": 2}, np.where(
        (grey % 4 == 2)[:, :, None], 255, colours)
    yield "grey with a transparent value", "a.png", Image.fromarray(grey), {"transparency": int(grey[1, 2])}, np.where(
        three == grey[1, 2], 255, three)
    alpha = np.random.default_rng(9).integers(0, 256, grey.shape)
    alpha[0], alpha[1] = 0, 255
    on_white = np.rint((rgb * alpha[:, :, None] + 255 * (255 - alpha[:, :, None])) / 255)
    yield "RGBA", "a.png", Image.fromarray(np.dstack([rgb, alpha.astype(np.uint8)])), {}, on_white
    grey_on_white = np.rint((three * alpha[:, :, None] + 255 * (255 - alpha[:, :, None])) / 255)
    yield "grey and alpha", "a.png", Image.fromarray(np.dstack([grey, alpha.astype(np.uint8)])), {}, grey_on_white
    deep = grey.astype(np.uint16) * 256 + 200
    yield "16 bit", "a.png", Image.fromarray(deep), {}, three
    yield "16 bit TIFF", "a.tiff", Image.fromarray(deep), {}, three
    yield "16 bit PGM", "a.pgm", Image.fromarray(deep), {}, three
    cmyk = Image.frombytes("CMYK", (5, 7), np.dstack([255 - rgb, np.zeros_like(grey)]).tobytes())
    yield "CMYK", "a.tiff", cmyk, {}, rgb


@pytest.mark.parametrize("name, file, picture, options, expected", list(kinds_of_files()), ids=lambda value: (
    value if isinstance(value, str) and "." not in value else ""))
def test_every_kind_of_pixel_becomes_rgb(tmp_path, name, file, picture, options, expected):
    image = read_image(saved(tmp_path / file, picture, **options))
    assert image.shape == expected.shape and image.dtype == np.uint8
    # Pillow lays half transparent pixels on white in integers, which may round the other way
    np.testing.assert_allclose(image.astype(int), expected, atol=1 if "alpha" in name or name == "RGBA" else 0, err_msg=name)


def png(width, height, bits, kind, rows):
    """The bytes of a PNG file, for kinds that Pillow cannot write."""
    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def test_16_bit_colour_keeps_its_upper_8_bits(tmp_path):
    deep = (photo(2, 3).astype(int) * 256 + 255).astype(">u2")
    (tmp_path / "a.png").write_bytes(png(3, 2, 16, 2, b"".join(b"\0" + row.tobytes() for row in deep)))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), photo(2, 3))


@pytest.mark.parametrize("mark, undone", [
    (1, lambda x: x), (2, np.fliplr), (3, lambda x: np.rot90(x, 2)), (4, np.flipud), (5, lambda x: x.transpose(1, 0, 2)),
    (6, lambda x: np.rot90(x, -1)), (7, lambda x: np.rot90(x, 2).transpose(1, 0, 2)), (8, np.rot90), (77, lambda x: x)])
def test_the_camera_s_orientation_mark_is_obeyed(tmp_path, mark, undone):
    exif = Image.Exif()
    exif[0x0112] = mark
    image = read_image(saved(tmp_path / "a.png", photo(), exif=exif))
    np.testing.assert_array_equal(image, undone(photo()))


def test_the_mark_turns_16_bit_grey_too_and_a_broken_one_turns_nothing(tmp_path):
    exif, grey = Image.Exif(), photo()[:, :, 0]
    exif[0x0112] = 6
    image = read_image(saved(tmp_path / "a.png", grey.astype(np.uint16) * 256, exif=exif))
    np.testing.assert_array_equal(image[:, :, 0], np.rot90(grey, -1))
    for broken in (b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"\xff" * 30):
        for name in ("b.jpg", "b.png"):
            assert read_image(saved(tmp_path / name, photo(16, 8), exif=broken)).shape == (16, 8, 3), (broken, name)


def test_an_animation_gives_its_first_picture(tmp_path):
    frames = [Image.new("RGB", (5, 7), colour) for colour in ("red", "lime", "blue")]
    for name in ("a.gif", "a.png", "a.tiff"):
        image = read_image(saved(tmp_path / name, frames[0], save_all=True, append_images=frames[1:]))
        np.testing.assert_array_equal(image, np.full((7, 5, 3), [255, 0, 0]), err_msg=name)


def test_a_file_that_is_not_there_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing is there"):
        read_image(tmp_path / "missing.png")
    with pytest.raises(FileNotFoundError, match="that is a folder"):
        read_image(tmp_path)


def png_bytes():
    buffer = io.BytesIO()
    Image.fromarray(photo(40, 30)).save(buffer, "png")
    return buffer.getvalue()


def jpeg_bytes():
    buffer = io.BytesIO()
    Image.fromarray(photo(40, 30)).save(buffer, "jpeg")
    return buffer.getvalue()


@pytest.mark.parametrize("content, words", [
    (b"", "not in an image format"), (b"<html>404</html>", "error page"), (b"PK\3\4" + bytes(99), "not in an image format"),
    (png_bytes()[:20], "fetch it again|not in an image format"), (png_bytes()[:-200], "cannot be decoded"),
    (png_bytes().replace(b"IDAT", b"IDXX"), "not in an image format|cannot be decoded"), (jpeg_bytes()[:-200], "truncated"),
    (png(70_000, 70_000, 8, 0, b""), "more than 89,478,485 pixels"), (png(12_000, 9_000, 8, 0, b""), "12000 x 9000"),
    (png(0, 3, 8, 0, b""), "not in an image format|cannot be decoded"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "EPS"),
], ids=["empty", "html", "zip", "png header cut", "png cut", "png without pixels", "jpeg cut", "bomb", "large", "no width",
        "eps"])
def test_files_that_are_no_whole_image_are_refused(tmp_path, content, words):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        read_image(tmp_path / "a.png")
    assert str(caught.value).startswith("read_image: ") and "a.png" in str(caught.value)


@pytest.mark.parametrize("values, words", [
    (np.float32([[0.5, 1.0]]), "32-bit floats"), (np.int32([[5, 70000]]), "32-bit integers")])
def test_pixels_without_a_known_white_are_refused(tmp_path, values, words):
    with pytest.raises(ValueError, match=words):
        read_image(saved(tmp_path / "a.tiff", values))


def test_colours_that_pillow_cannot_turn_into_rgb_are_refused(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.tiff", Image.new("LAB", (3, 2)))

    def convert(self, mode):  # newer versions of Pillow can
        raise ValueError("conversion from LAB to RGB not supported")

    monkeypatch.setattr(Image.Image, "convert", convert)
    with pytest.raises(ValueError, match="colours of the kind LAB"):
        read_image(path)


@pytest.mark.parametrize("whole, step", [(png_bytes(), 97), (jpeg_bytes(), 61)], ids=["png", "jpeg"])
def test_a_file_cut_anywhere_gives_an_image_or_a_ValueError(tmp_path, whole, step):
    for end in range(0, len(whole), step):
        (tmp_path / "a").write_bytes(whole[:end])
        try:
            assert read_image(tmp_path / "a").shape == (40, 30, 3)
        except ValueError as error:
            assert str(error).startswith("read_image: ")


def test_without_pillow_the_error_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    for work in (lambda: read_image(__file__), lambda: resize_shorter_side(photo(), 3)):
        with pytest.raises(ImportError, match="pip install pillow"):
            work()


def test_importing_the_data_loads_no_pillow():
    script = "import sys, minidl.data; print('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "False\n"


# --- resizing and cropping ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("H, W, size, expected", [
    (100, 50, 20, (40, 20)), (50, 100, 20, (20, 40)), (30, 30, 7, (7, 7)), (7, 5, 256, (358, 256)), (5, 7, 256, (256, 358)),
    (600, 401, 256, (383, 256)),  # 383.04: rounded down
    (400, 333, 256, (307, 256)),  # 307.51
    (1, 3, 1, (1, 3))])
def test_the_shorter_side_gets_the_size_and_the_longer_its_proportion(H, W, size, expected):
    image = photo(H, W)
    before = image.copy()
    assert resize_shorter_side(image, size).shape == (*expected, 3)
    assert resize_shorter_side(image[:, :, 0], size).shape == expected
    np.testing.assert_array_equal(image, before)


def test_shrinking_looks_at_every_pixel():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[::8] = 255  # two neighbours without antialiasing would see all or nothing of a stripe
    small = resize_shorter_side(stripes, 8)
    assert np.abs(small.astype(float) - 255 / 8).max() < 20


def test_an_image_of_the_right_size_is_returned_as_a_copy():
    image = photo(5, 9)
    for result in (resize_shorter_side(image, 5), center_crop(photo(5, 5), 5)):
        assert result.shape[0] == 5
    np.testing.assert_array_equal(resize_shorter_side(image, 5), image)
    assert not np.shares_memory(resize_shorter_side(image, 5), image)
    assert not np.shares_memory(center_crop(image, 3), image)


def test_an_image_as_long_as_a_snake_is_refused_instead_of_filling_the_memory():
    with pytest.raises(ValueError, match="256 x 2560000; crop it first"):
        resize_shorter_side(np.zeros((1, 10_000, 3), np.uint8), 256)


@pytest.mark.parametrize("length, size, start", [
    (8, 4, 2), (9, 4, 2), (11, 4, 4), (5, 5, 0),  # 2.5 and 3.5 go to the even number, as in torchvision
    (3, 4, 0), (3, 6, -1), (2, 5, -1), (4, 5, 0)])  # before the image: padding, the smaller half of it
def test_the_crop_starts_where_torchvision_s_does(length, size, start):
    line = np.arange(1, length + 1, dtype=np.uint8)
    expected = [line[i] if 0 <= i < length else 0 for i in range(start, start + size)]
    wide = center_crop(np.tile(line, (size, 1)), size)
    np.testing.assert_array_equal(wide, np.tile(expected, (size, 1)))
    np.testing.assert_array_equal(center_crop(np.tile(line[:, None, None], (1, size, 3)), size)[:, :, 1], wide.T)


@pytest.mark.parametrize("work", [lambda x: resize_shorter_side(x, 4), lambda x: center_crop(x, 4), PREPROCESSINGS["cifar"]],
                         ids=["resize_shorter_side", "center_crop", "Preprocessing"])
@pytest.mark.parametrize("image, error, words", [
    (photo().tolist(), TypeError, "read_image reads a file"), (photo()[None], ValueError, r"got shape \(1, 7, 5, 3\)"),
    (photo().transpose(2, 0, 1), ValueError, "channels come last"), (photo() / 255, TypeError, "uint8 .*got float64"),
    (photo()[:0], ValueError, "at least 1")])
def test_what_is_no_image_is_refused(work, image, error, words):
    with pytest.raises(error, match=words):
        work(image)


@pytest.mark.parametrize("wrong", [0, -3, 2.5, True, "7"])
def test_sizes_are_positive_integers(wrong):
    for work in (resize_shorter_side, center_crop, lambda _, size: PREPROCESSINGS["cifar"].for_size(size)):
        with pytest.raises((TypeError, ValueError), match="size is an integer >= 1"):
            work(photo(), wrong)


# --- what weights expect ------------------------------------------------------------------------------------------------


def test_the_result_is_scaled_centred_and_in_the_order_of_the_channels():
    image = np.full((6, 6, 3), [255, 51, 0], np.uint8)
    for order, rows in (("RGB", [0, 1, 2]), ("BGR", [2, 1, 0])):
        x = Preprocessing(6, 4, (0.1, 0.2, 0.3), (0.5, 2.0, 4.0), order)(image)
        colour = np.array([1, 0.2, 0])[rows]
        expected = (colour - [0.1, 0.2, 0.3]) / [0.5, 2, 4]
        assert x.shape == (3, 4, 4) and x.dtype == np.float32 and x.flags.c_contiguous
        np.testing.assert_allclose(x, np.broadcast_to(expected[:, None, None], (3, 4, 4)), rtol=1e-6, err_msg=order)
    x = Preprocessing(6, 4, (104.0, 117.0, 123.0), order="BGR", scale=1.0)(image)
    np.testing.assert_array_equal(x[:, 0, 0], [0 - 104, 51 - 117, 255 - 123])


def test_places_stay_where_they_are():
    image = photo(9, 6)
    x = Preprocessing(6, 4, (0.0,) * 3, order="BGR", scale=1.0)(image)
    np.testing.assert_array_equal(x, image[2:6, 1:5, ::-1].transpose(2, 0, 1))  # (9 - 4) / 2 = 2.5 goes to 2


def test_grey_is_pillow_s_luminance_and_grey_images_keep_their_values():
    image = photo(20, 20)
    plain = Preprocessing(20, 20, (0.0,), (1.0,), "grey", 1.0)
    np.testing.assert_array_equal(plain(image)[0], np.asarray(Image.fromarray(image).convert("L")))
    grey = np.repeat(image[:, :, :1], 3, axis=2)
    np.testing.assert_array_equal(plain(grey)[0], grey[:, :, 0])


def test_the_grey_preprocessing_gives_the_demo_s_input_back(tmp_path):
    from minidl.train import fashion
    data = fashion.load()
    pixels = np.rint(fashion_mnist(validation=fashion.VALIDATION).test_images[:3, 0] * 255).astype(np.uint8)
    for i in range(3):
        x = PREPROCESSINGS["grey"](read_image(saved(tmp_path / "a.png", pixels[i])))
        np.testing.assert_allclose(x, data.test_images[i], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name, shape", [
    ("torchvision", (3, 224, 224)), ("caffe", (3, 224, 224)), ("caffe-alexnet", (3, 227, 227)), ("vgg", (3, 224, 224)),
    ("cifar", (3, 32, 32)), ("grey", (1, 28, 28))])
def test_the_table_gives_these_shapes(name, shape):
    assert PREPROCESSINGS[name](photo(300, 260)).shape == shape
    assert PREPROCESSINGS[name].channels == shape[0]


def test_the_table_s_numbers_on_one_white_pixel():
    """(255 or 1 - mean) / std, written out."""
    white = np.full((4, 4, 3), 255, np.uint8)
    expected = {"torchvision": [2.2489083, 2.4285714, 2.64], "cifar": [2.2489083, 2.4285714, 2.64],
                "caffe": [151, 138, 132], "caffe-alexnet": [151, 138, 132], "vgg": [151.061, 138.221, 131.32]}
    for name, values in expected.items():
        np.testing.assert_allclose(PREPROCESSINGS[name](white)[:, 0, 0], values, rtol=1e-6, err_msg=name)
    assert set(expected) | {"grey"} == set(PREPROCESSINGS)


def test_for_another_size_the_resize_keeps_its_proportion():
    table = PREPROCESSINGS["torchvision"]
    assert table.for_size(224) == table
    assert (table.for_size(448).resize, table.for_size(448).crop) == (512, 448)
    assert (table.for_size(65).resize, table.for_size(65).crop) == (74, 65)
    assert PREPROCESSINGS["cifar"].for_size(1).resize == 1


@pytest.mark.parametrize("options, words", [
    (dict(resize=0), "resize is an integer >= 1"), (dict(crop=2.5), "crop is an integer"), (dict(order="rgb"), "got 'rgb'"),
    (dict(mean=(0.5,)), "mean is a tuple of 3 finite numbers"), (dict(mean=0.5), "got 0.5"),
    (dict(order="grey"), "mean is a tuple of 1 finite"), (dict(std=(1.0, float("nan"), 1.0)), "std is a tuple of 3"),
    (dict(std=(1.0, 0.0, 1.0)), "std and scale are > 0"), (dict(scale=0), "std and scale are > 0"),
    (dict(scale="1/255"), "std and scale are > 0")])
def test_a_preprocessing_that_makes_no_sense_is_refused(options, words):
    with pytest.raises((TypeError, ValueError), match=words):
        Preprocessing(**(dict(resize=8, crop=8, mean=(0.0, 0.0, 0.0)) | options))


def test_a_grey_array_is_told_how_to_become_an_image():
    with pytest.raises(ValueError, match="np.stack"):
        PREPROCESSINGS["cifar"](photo()[:, :, 0])


@pytest.fixture(scope="module")
def torchvision_transforms():
    try:
        import torchvision.transforms._presets
    except Exception as error:  # a torchvision built for another torch raises RuntimeError
        pytest.skip(f"compares with torchvision: {type(error).__name__}: {error}")
    return torchvision.transforms


@pytest.mark.oracle
@pytest.mark.parametrize("H, W", [(300, 260), (260, 300), (511, 333), (333, 511), (100, 999), (37, 21), (224, 225), (256, 256),
                                  (1, 40)])
def test_torchvision_gives_the_same_bits(torchvision_transforms, H, W):
    T, image = torchvision_transforms, photo(H, W, seed=H + W)
    for size, crop in ((256, 224), (232, 224), (32, 32), (20, 33), (64, 51)):
        for mean in (module.IMAGENET_MEAN, (0.5, 0.25, 0.125)):
            theirs = T.Compose([T.Resize(size), T.CenterCrop(crop), T.ToTensor(), T.Normalize(mean, module.IMAGENET_STD)])
            np.testing.assert_array_equal(Preprocessing(size, crop, mean, module.IMAGENET_STD)(image),
                                          theirs(Image.fromarray(image)).numpy(), err_msg=f"{H} x {W}, {size}, {crop}")


@pytest.mark.oracle
def test_torchvision_s_preset_is_ours(torchvision_transforms):
    image = photo(345, 299)
    theirs = torchvision_transforms._presets.ImageClassification(crop_size=224)(Image.fromarray(image)).numpy()
    np.testing.assert_array_equal(PREPROCESSINGS["torchvision"](image), theirs)
