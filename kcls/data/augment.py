"""What the network sees of a training image: the square, or a random box of the image, then random changes.

Each is a function of (seed, epoch, index) and of nothing else, so an image comes out the same in any order, any batch
and after a resume.
"""

from typing import TYPE_CHECKING

import tensorflow as tf

from kcls.data.decode import decode_part

if TYPE_CHECKING:
    from kcls.data.preprocess import Preprocess
    from kcls.sections import AugmentSection

BOX_RATIO = (3 / 4, 4 / 3)  # width / height of a random box: Szegedy et al. 2015, arXiv:1409.4842, section 6
BOX_TRIES = 10  # then the whole image is taken


def training_view(contents, preprocess: "Preprocess", options: "AugmentSection", seed: int, epoch, index):
    """An image of the training: uint8 (S, S, 3).

    Args:
        contents: encoded bytes (scalar string tensor), or the square, uint8 (S, S, 3).
        preprocess: how the square is cut.
        options: the recipe's augment section.
        seed: of the run.
        epoch: the pass over the data, from 0, scalar tensor.
        index: the image's place in its split, scalar tensor.
    """
    base = tf.random.fold_in([seed, tf.cast(epoch, tf.int32)], index)
    if options.random_resized_crop:
        box_seed = tf.random.fold_in(base, 0)
        square = random_resized_crop(contents, preprocess.image_size, options.random_resized_crop, box_seed)
    else:
        square = preprocess.view(contents)
    return augment(square, options, base)


def random_resized_crop(contents, size: int, area: tuple[float, float], seed):
    """A random box of an encoded image, stretched to the square: uint8 (size, size, 3).

    It is resized bilinearly, which is two to three times as fast as the antialiased resize of evaluation and off from
    it by less than one grey level (`benchmarks/input_pipeline.py`); boxes more than twice as large as the square are
    antialiased.
    """
    pixels, target = random_box(contents, area, seed, least=2 * size), (size, size)
    resized = tf.cond(
        tf.reduce_max(tf.shape(pixels)) <= 2 * size,
        lambda: tf.image.resize(pixels, target),
        lambda: tf.image.resize(pixels, target, antialias=True),
    )
    return tf.ensure_shape(tf.cast(tf.round(resized), tf.uint8), (size, size, 3))


def random_box(contents, area: tuple[float, float], seed, least: int):
    """A random box of an encoded image, uint8 (H, W, 3); Szegedy et al. 2015, arXiv:1409.4842, section 6.

    Args:
        contents: encoded bytes (scalar string tensor). Of a JPEG only the box is decoded.
        area: least and largest fraction of the image's area.
        seed: two integers.
        least: pixels each way that are enough: a JPEG's box may come smaller by 2, 4 or 8 as long as it has them.
    """

    def box(height, width):
        begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.stack([height, width, 3]),
            tf.zeros((1, 0, 4)),
            seed,
            aspect_ratio_range=BOX_RATIO,
            area_range=area,
            max_attempts=BOX_TRIES,
            use_image_if_no_bounding_boxes=True,
        )
        return tf.concat([begin[:2], extent[:2]], 0)

    return decode_part(contents, box, least)[0]


def augment(image, options: "AugmentSection", seed):
    """Crop, then rotate and scale, then flip, as far as ``options`` ask: uint8 (S, S, 3) -> uint8 (S, S, 3).

    Args:
        image: uint8 (S, S, 3).
        options: the recipe's augment section.
        seed: two integers, of this image in this epoch.
    """
    crop_seed, turn_seed, flip_seed = tf.unstack(tf.random.split(seed, 3))
    size = image.shape[0]
    if options.crop_padding:
        p = options.crop_padding
        image = tf.pad(image, [[p, p], [p, p], [0, 0]])
        image = tf.image.stateless_random_crop(image, (size, size, 3), crop_seed)
    if options.rotation or options.scale:
        image = rotate_and_scale(image, options.rotation, options.scale, turn_seed)
    if options.flip:
        image = tf.image.stateless_random_flip_left_right(image, flip_seed)
    return image


def rotate_and_scale(image, rotation: float, scale: float, seed):
    """Turns by up to ``rotation`` degrees either way and scales by 1 - ``scale`` to 1 + ``scale`` about the centre.

    uint8 (S, S, 3) -> uint8 (S, S, 3); what comes from outside the image is black.
    """
    size = image.shape[0]
    low, high = [-rotation, 1 - scale], [rotation, 1 + scale]
    angle, factor = tf.unstack(tf.random.stateless_uniform((2,), seed) * tf.subtract(high, low) + low)
    radians = angle * (3.141592653589793 / 180)
    cos, sin = tf.cos(radians) / factor, tf.sin(radians) / factor
    centre = (size - 1) / 2
    # Output pixel (x, y) shows input pixel (a x + b y + c, d x + e y + f).
    transform = [cos, -sin, centre * (1 - cos + sin), sin, cos, centre * (1 - sin - cos), 0.0, 0.0]
    turned = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(image, tf.float32)[tf.newaxis],
        transforms=tf.stack(transform)[tf.newaxis],
        output_shape=(size, size),
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=0.0,
    )[0]
    return tf.cast(tf.round(turned), tf.uint8)
