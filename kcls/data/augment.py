"""Random changes of a training image. Each is a function of (seed, epoch, index) and of nothing else, so an image
comes out the same in any order, any batch and after a resume.
"""

from typing import TYPE_CHECKING

import tensorflow as tf

if TYPE_CHECKING:
    from kcls.sections import AugmentSection


def augment(image, options: "AugmentSection", seed: int, epoch: int, index):
    """Crop, then rotate and scale, then flip, as far as ``options`` ask: uint8 (S, S, 3) -> uint8 (S, S, 3).

    Args:
        image: uint8 (S, S, 3).
        options: the recipe's augment section.
        seed: of the run.
        epoch: the pass over the data, from 0.
        index: the image's place in its split, scalar int64 tensor.
    """
    base = tf.random.fold_in([seed, epoch], index)
    crop_seed, turn_seed, flip_seed = tf.unstack(tf.random.split(base, 3))
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
