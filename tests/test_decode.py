"""Every kind of image file gives the same pixels in TensorFlow and in Pillow, and a bad one a clear error."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kcls.data.decode import decode_part, decode_pillow, decode_tensor
from kcls.errors import DataError


def picture(mode: str = "RGB", size=(31, 22)) -> Image.Image:
    """A smooth colourful image, so that subsampled JPEG colours are not at their worst."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    channels = [x * 255 // size[0], y * 255 // size[1], (x + y) * 255 // sum(size)]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def sixteen_bit_grey() -> Image.Image:
    return Image.fromarray((np.arange(30 * 20).reshape(20, 30) * 109).astype(np.uint16))


def with_transparency() -> bytes:
    return encoded(picture().quantize(16), "PNG", transparency=3)


def animation(kind: str) -> bytes:
    frames = [picture(), picture().rotate(180)]
    options = {"lossless": True} if kind == "WEBP" else {}
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)


KINDS = {
    "jpeg": encoded(picture(), "JPEG", quality=90),
    "jpeg_progressive": encoded(picture(), "JPEG", progressive=True),
    "jpeg_grey": encoded(picture("L"), "JPEG"),
    "jpeg_cmyk": encoded(picture("CMYK"), "JPEG"),
    "png": encoded(picture(), "PNG"),
    "png_grey": encoded(picture("L"), "PNG"),
    "png_grey_alpha": encoded(picture("LA"), "PNG"),
    "png_alpha": encoded(picture("RGBA"), "PNG"),
    "png_palette": encoded(picture().quantize(16), "PNG"),
    "png_palette_transparent": with_transparency(),
    "png_1_bit": encoded(picture("1"), "PNG"),
    "png_16_bit": encoded(sixteen_bit_grey(), "PNG"),
    "gif": encoded(picture().quantize(16), "GIF"),
    "gif_animated": animation("GIF"),
    "bmp": encoded(picture(), "BMP"),
    "webp": encoded(picture(), "WEBP", lossless=True),
    "webp_lossy": encoded(picture(), "WEBP"),
    "webp_alpha": encoded(Image.merge("RGBA", [*picture().split(), picture("L")]), "WEBP", lossless=True),
    "webp_lossy_alpha": encoded(Image.merge("RGBA", [*picture().split(), picture("L")]), "WEBP"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_tensorflow_and_pillow_see_the_same_pixels(kind):
    pillow = np.asarray(decode_pillow(KINDS[kind], kind)).astype(int)
    tensor = decode_tensor(KINDS[kind]).numpy().astype(int)
    assert pillow.shape == tensor.shape and pillow.shape[-1] == 3
    # CMYK to RGB is the one conversion that the two libraries round differently.
    assert np.abs(pillow - tensor).max() <= (2 if kind == "jpeg_cmyk" else 0)


def test_an_animated_webp_is_an_error_in_tensorflow_not_a_crash():
    with pytest.raises(tf.errors.InvalidArgumentError, match="WebP Animation"):
        decode_tensor(animation("WEBP"))


def test_sixteen_bits_become_the_high_byte():
    expected = np.asarray(sixteen_bit_grey()) >> 8
    assert (np.asarray(decode_pillow(KINDS["png_16_bit"], "x"))[..., 0] == expected).all()


def test_an_animation_gives_its_first_frame():
    first = np.asarray(picture())
    assert (np.asarray(decode_pillow(animation("WEBP"), "x")) == first).all()
    gif = np.asarray(picture().quantize(16).convert("RGB"))
    assert (decode_tensor(animation("GIF")).numpy() == np.asarray(decode_pillow(animation("GIF"), "x"))).all()
    assert np.abs(decode_tensor(animation("GIF")).numpy().astype(int) - gif).max() < 64  # a palette of 16 colours


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("endian", ["<", ">"])
def test_an_exif_rotated_photo_is_turned_upright(orientation, endian):
    exif = Image.Exif()
    exif.endian = endian
    exif[0x010F] = "a maker before the entry"
    exif[0x0112] = orientation
    contents = encoded(picture(), "JPEG", exif=exif.tobytes(), quality=95)
    pillow, tensor = np.asarray(decode_pillow(contents, "x")), decode_tensor(contents).numpy()
    assert (pillow == tensor).all()
    assert pillow.shape[:2] == ((22, 31) if orientation < 5 else (31, 22))


def test_bytes_that_look_like_an_orientation_outside_exif_are_left_alone():
    image = encoded(picture(), "JPEG", comment=b"\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00")
    assert decode_tensor(image).shape == (22, 31, 3)


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (b"", "empty"),
        (b"just a text that somebody called photo.jpg", "not an image"),
        (KINDS["jpeg"][: len(KINDS["jpeg"]) // 2], "truncated"),
        (KINDS["png"][: len(KINDS["png"]) // 2], "truncated"),
        (KINDS["png"][:60] + b"\xff" * 40 + KINDS["png"][100:], "damaged"),
    ],
    ids=["empty", "text", "truncated jpeg", "truncated png", "overwritten png"],
)
def test_a_bad_file_is_named_with_the_reason(contents, words):
    with pytest.raises(DataError, match=rf"photo\.jpg: .*{words}"):
        decode_pillow(contents, "photo.jpg")
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_tensor(contents)


def test_a_decompression_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="decompression bomb"):
        decode_pillow(KINDS["png"], "x")


def test_an_exported_graph_decodes_what_eager_code_decodes():
    graph = tf.function(decode_tensor, input_signature=[tf.TensorSpec((), tf.string)])
    for contents in KINDS.values():
        assert (graph(contents).numpy() == decode_tensor(contents).numpy()).all()


def part_of(contents, top: int, left: int, height: int, width: int, **options):
    """The part and what ``decode_part`` says of it, as arrays."""
    found = decode_part(tf.constant(contents), lambda *_: tf.constant([top, left, height, width]), **options)
    return [value.numpy() for value in found]


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_has_the_pixels_of_the_whole(kind):
    whole = decode_tensor(KINDS[kind]).numpy().astype(int)
    pixels, shape, corner = part_of(KINDS[kind], 3, 5, 11, 14)
    assert shape.tolist() == list(whole.shape[:2]) and corner.tolist() == [3, 5]
    assert pixels.shape == (11, 14, 3)
    # JPEG's colours are coarser than its pixels: at a cut, the decoder lacks the neighbours to smooth them.
    assert (pixels[1:-1, 1:-1] == whole[4:13, 6:18]).all()


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_part_of_a_photo_lies_where_it_is_upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    contents = encoded(picture(), "JPEG", exif=exif.tobytes(), subsampling=0)
    pixels, shape, _ = part_of(contents, 2, 4, 9, 7)
    assert (pixels == decode_tensor(contents).numpy()[2:11, 4:11]).all()
    assert shape.tolist() == [22, 31] if orientation == 1 else [31, 22]


@pytest.mark.parametrize(("least", "side"), [(None, 96), (97, 96), (48, 48), (25, 48), (24, 24), (1, 12)])
def test_a_part_of_a_jpeg_is_halved_as_often_as_it_stays_large_enough(least, side):
    contents = encoded(picture(size=(200, 150)), "JPEG")
    pixels, shape, corner = part_of(contents, 16, 32, 96, 96, least=least)
    assert pixels.shape == (side, side, 3)
    assert shape.tolist() == [150, 200] and corner.tolist() == [16, 32]  # of the whole image, in its own pixels
    ratio = 96 // side
    whole = decode_tensor(contents).numpy()[16:112, 32:128].astype(float)
    means = whole.reshape(side, ratio, side, ratio, 3).mean((1, 3))
    assert np.abs(pixels - means).max() < 6  # a smooth image; a shift by one small pixel would be 10 or more
