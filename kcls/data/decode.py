"""Encoded bytes to RGB pixels, twice with the same result: in a TensorFlow graph, and with Pillow.

Both turn the image upright (EXIF orientation of JPEG files), take the first frame of an animation, drop alpha,
scale 16 bits to 8 and convert palettes, grey and CMYK to RGB. Only Pillow reads animated WebP.
"""

import functools
import io
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from kcls.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
"""Names of image files in a folder end in one of these."""

_KINDS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")


def read_image(path: str | Path) -> Image.Image:
    """Reads an image file as an upright RGB Pillow image.

    Raises:
        DataError: the file is missing or not a whole image; the message says which and why.
    """
    try:
        contents = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    return decode_pillow(contents, str(path))


def decode_pillow(contents: bytes, name: str) -> Image.Image:
    """Encoded bytes -> upright RGB Pillow image; ``name`` is for the error message.

    Raises:
        DataError: not a whole image of a known kind.
    """
    if not contents:
        raise DataError(f"{name}: the file is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", "Palette images with Transparency")
            image: Image.Image = Image.open(io.BytesIO(contents), formats=_KINDS)
            image.load()
            if image.format in ("JPEG", "MPO"):  # MPO: a JPEG with more pictures behind, from many phones
                image = ImageOps.exif_transpose(image)
            return to_rgb(image)
    except Image.UnidentifiedImageError:
        raise DataError(f"{name}: not an image ({', '.join(_KINDS)} are read)") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        limit = Image.MAX_IMAGE_PIXELS or 0
        raise DataError(f"{name}: more than {limit:,} pixels, which looks like a decompression bomb") from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error) as error:
        raise DataError(f"{name}: damaged or truncated image ({error})") from None


def to_rgb(image: Image.Image) -> Image.Image:
    """A Pillow image of any mode -> RGB, 8 bits: 16 bits are scaled, alpha is dropped."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "I":  # 16-bit grey as older Pillow versions open it
        return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "PA" or (image.mode == "P" and "transparency" in image.info):
        return image.convert("RGBA").convert("RGB")  # the palette's colours, not the transparent key
    return image.convert("RGB")


def decode_tensor(contents):
    """Encoded bytes (scalar string tensor) -> upright uint8 (H, W, 3)."""
    return _decoding_graph()(contents)


@functools.cache
def _decoding_graph():
    """``_decode`` as one graph: to trace it anew for each use takes half a second."""
    import tensorflow as tf

    return tf.function(_decode, input_signature=[tf.TensorSpec((), tf.string)])


def _decode(contents):
    import tensorflow as tf

    def jpeg():
        return _upright(_decode_jpeg(contents), _orientation(contents))

    def other():
        return tf.io.decode_image(contents, channels=3, expand_animations=False)

    def webp():  # with or without alpha, which the operation reads only if it need not drop it
        return tf.io.decode_image(contents, channels=0, expand_animations=False)[..., :3]

    image = tf.cond(tf.io.is_jpeg(contents), jpeg, lambda: tf.cond(_is_still_webp(contents), webp, other))
    return tf.ensure_shape(image, (None, None, 3))


def decode_part(contents, part: Callable, least: int | None = None):
    """A part of an image, with the same pixels as ``decode_tensor``; of a JPEG, what lies beside it is not computed.

    Args:
        contents: encoded bytes (scalar string tensor).
        part: height and width of the upright image (int32 scalars) -> the wanted top, left, height and width in
            pixels (int32, (4,)).
        least: the part may come smaller by a factor of 2, 4 or 8, as long as it keeps this many pixels each way.

    Returns:
        Pixels uint8 (h, w, 3), the height and width of the whole image, and top and left of the part, int32 (2,) each.
    """
    import tensorflow as tf

    def jpeg():
        shape = tf.image.extract_jpeg_shape(contents)[:2]
        box = part(shape[0], shape[1])
        return _crop_jpeg(contents, box, least), shape, box[:2]

    def other():
        image = decode_tensor(contents)
        shape = tf.shape(image)[:2]
        box = part(shape[0], shape[1])
        return image[box[0] : box[0] + box[2], box[1] : box[1] + box[3]], shape, box[:2]

    plain = tf.cond(tf.io.is_jpeg(contents), lambda: _orientation(contents) == 1, lambda: tf.constant(False))
    pixels, shape, corner = tf.cond(plain, jpeg, other)
    return tf.ensure_shape(pixels, (None, None, 3)), shape, corner


def _crop_jpeg(contents, box, least: int | None):
    """The box of a JPEG, scaled down by the decoder as far as ``least`` allows."""
    import tensorflow as tf

    if least is None:
        return _decode_jpeg(contents, box)
    ratios = (1, 2, 4, 8)
    largest = tf.searchsorted(ratios[1:], [tf.reduce_min(box[2:]) // least], side="right")[0]
    # The decoder takes windows in pixels of the scaled image, and rounds its size up.
    return tf.switch_case(largest, [lambda r=r: _decode_jpeg(contents, box // r, r) for r in ratios])


def _decode_jpeg(contents, window=None, ratio: int = 1):
    import tensorflow as tf

    # The accurate inverse cosine transform is Pillow's; TensorFlow's default is up to 5 grey levels off.
    options = dict(channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")
    if window is None:
        return tf.io.decode_jpeg(contents, **options)
    return tf.io.decode_and_crop_jpeg(contents, window, **options)


def _is_still_webp(contents):
    """Whether these are the bytes of a WebP file without animation.

    TensorFlow 2.21 cannot read an animated one: with channels=3 it says so, with channels=0 it damages its memory.
    """
    import tensorflow as tf

    head = tf.cast(tf.io.decode_raw(tf.strings.substr(contents, 0, 21), tf.uint8), tf.int32)

    def has(text: bytes, start: int):
        return tf.reduce_all(head[start : start + len(text)] == list(text))

    def still():
        animated = tf.logical_and(has(b"VP8X", 12), head[20] & 2 > 0)
        return tf.logical_and(tf.logical_and(has(b"RIFF", 0), has(b"WEBP", 8)), tf.logical_not(animated))

    return tf.cond(tf.size(head) == 21, still, lambda: False)


def _upright(image, orientation):
    """Turns a JPEG's pixels as its EXIF orientation (1 to 8) says."""
    import tensorflow as tf

    turns = [
        lambda: image,
        lambda: image[:, ::-1],
        lambda: image[::-1, ::-1],
        lambda: image[::-1],
        lambda: tf.transpose(image, (1, 0, 2)),
        lambda: tf.transpose(image[::-1], (1, 0, 2)),
        lambda: tf.transpose(image[::-1, ::-1], (1, 0, 2)),
        lambda: tf.transpose(image[:, ::-1], (1, 0, 2)),
    ]
    return tf.switch_case(orientation - 1, turns)


def _orientation(contents):
    """The EXIF orientation of a JPEG, 1 (upright) if it has none.

    The entry is 12 bytes of the first TIFF directory: tag 0x0112, type 3 (short), count 1, value; in either byte
    order. It is looked for if the mark "Exif" is in the first bytes, which the format puts before the pixels.
    """
    import tensorflow as tf

    head = tf.strings.substr(contents, 0, 4096)

    def read():
        numbers = tf.cast(tf.io.decode_raw(head, tf.uint8), tf.int32)
        length = tf.shape(numbers)[0]

        def starts_of(pattern):
            found = tf.range(tf.maximum(length - 12, 0))
            for i, byte in enumerate(pattern):
                found = tf.boolean_mask(found, tf.gather(numbers, found + i) == byte)
            return found

        little = starts_of(b"\x12\x01\x03\x00\x01\x00\x00\x00") + 8
        big = starts_of(b"\x01\x12\x00\x03\x00\x00\x00\x01") + 9
        values = tf.gather(numbers, tf.concat([little, big, [0]], 0))
        return tf.where(tf.logical_and(values[0] >= 1, values[0] <= 8), values[0], 1)  # without entry, 255

    # \C is any byte; a dot would not match what is no UTF-8.
    return tf.cond(tf.strings.regex_full_match(head, r"\C*Exif\x00\x00\C*"), read, lambda: tf.constant(1))
