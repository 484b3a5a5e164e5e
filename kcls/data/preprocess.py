"""How an image of any size becomes the square that a model sees: defined once, for every part of kcls.

The geometry is ``Preprocess.region``. It is carried out by one TensorFlow operation (training, evaluation,
SavedModel) or by Pillow (prediction, so that a TFLite file runs without TensorFlow). Both sample the same points
with the same antialiased kernel in floats; they differ by rounding, at most 1 grey level.
"""

import functools
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from kcls.data.decode import decode_part
from kcls.errors import RecipeError

if TYPE_CHECKING:
    from kcls.sections import ImageSection

MOST_PIXELS = 4096  # of a side of the square
PAD_VALUE = 128  # the grey around an image of fit "pad": 0 after the default normalisation


@dataclass(frozen=True)
class Preprocess:
    """Resize and crop to ``image_size`` x ``image_size`` pixels.

    ``fit``: ``crop`` takes the central square, ``stretch`` squeezes the whole image, ``pad`` keeps its shape
    and fills up with grey. ``crop_fraction``: the share of the side that crop and stretch keep.
    """

    image_size: int
    fit: str = "crop"
    crop_fraction: float = 1.0
    interpolation: str = "bilinear"

    @classmethod
    def from_recipe(cls, image: "ImageSection") -> "Preprocess":
        """The preprocessing that a recipe's image section states."""
        if image.size is None:
            raise RecipeError("image.size is missing: only `kcls train` asks model.pretrained for it")
        return cls(image.size, image.fit, image.crop_fraction, image.interpolation)

    def to_dict(self) -> dict[str, Any]:
        """The fields in plain types, for an artifact; ``from_dict`` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Preprocess":
        """What ``to_dict`` gave.

        Raises:
            RecipeError: a value makes no sense; the message names it.
        """
        made = cls(**fields)
        fine = {
            "image_size": type(made.image_size) is int and 1 <= made.image_size <= MOST_PIXELS,
            "fit": made.fit in ("crop", "pad", "stretch"),
            "crop_fraction": isinstance(made.crop_fraction, int | float) and 0 < made.crop_fraction <= 1,
            "interpolation": made.interpolation in ("bilinear", "bicubic"),
        }
        for name, is_fine in fine.items():
            if not is_fine:
                raise RecipeError(f"{name} is {fields.get(name)!r}")
        return made

    def region(self, height, width, minimum=min, maximum=max, rounded=round):
        """Which part of an image goes where: (top, left, height, width) in the image, (height, width) in the square.

        All are in pixels; the part may have fractions of a pixel. ``minimum``, ``maximum`` and ``rounded`` let the
        same formula run on tensors.
        """
        size = self.image_size
        if self.fit == "pad":
            longest = maximum(height, width)
            target = (
                maximum(rounded(height * size / longest), 1),
                maximum(rounded(width * size / longest), 1),
            )
            return (0, 0, height, width), target
        if self.fit == "crop":
            part = (minimum(height, width) * self.crop_fraction,) * 2
        else:
            part = (height * self.crop_fraction, width * self.crop_fraction)
        return ((height - part[0]) / 2, (width - part[1]) / 2, *part), (size, size)

    def pillow(self, image: Image.Image) -> np.ndarray:
        """An RGB Pillow image -> uint8 (image_size, image_size, 3)."""
        (top, left, height, width), (rows, columns) = self.region(image.height, image.width)
        kernel = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[self.interpolation]
        box = (left, top, left + width, top + height)
        # As floats, because Pillow rounds and clips 8-bit images between its two passes.
        bands = [np.asarray(b.convert("F").resize((columns, rows), kernel, box=box)) for b in image.split()]
        resized = np.rint(np.stack(bands, -1)).clip(0, 255)
        canvas = np.full((self.image_size, self.image_size, 3), PAD_VALUE, np.uint8)
        y, x = (self.image_size - rows) // 2, (self.image_size - columns) // 2
        canvas[y : y + rows, x : x + columns] = resized
        return canvas

    def tensor(self, image):
        """An image tensor (H, W, 3) of any numeric type, 0..255 -> uint8 (image_size, image_size, 3)."""
        import tensorflow as tf

        return self._square(image, tf.shape(image)[:2], tf.zeros((2,), tf.int32))

    def view(self, contents):
        """Encoded bytes, or the square -> the square, uint8 (image_size, image_size, 3): that of ``tensor``."""
        return contents if contents.dtype == "uint8" else _viewing_graph(self)(contents)

    def _view(self, contents):
        return self._square(*decode_part(contents, self._window))

    def _window(self, height, width):
        """The pixels that the square depends on: top, left, height, width, int32 (4,).

        They reach to the last row, so that a file that ends too early is noticed wherever it ends.
        """
        import tensorflow as tf

        shape = tf.stack([height, width])
        rows, columns = tf.unstack(tf.cast(shape, tf.float32))
        part, target = self.region(rows, columns, tf.minimum, tf.maximum, tf.round)
        corner, size, target = (tf.cast(tf.stack(pair), tf.float32) for pair in (part[:2], part[2:], target))
        # The kernel's reach, in pixels of the image; and one, as the decoder's colours are inexact at a cut.
        reach = tf.maximum(size / target, 1) * {"bilinear": 1, "bicubic": 2}[self.interpolation] + 2
        first = tf.maximum(tf.cast(tf.floor(corner - reach), tf.int32), 0)
        last = tf.minimum(tf.cast(tf.math.ceil(corner + size + reach), tf.int32), shape)
        last = tf.stack([height, last[1]])
        return tf.concat([first, last - first], 0)

    def _square(self, pixels, shape, corner):
        """The square of an image of ``shape`` of which ``pixels`` are the part that begins at ``corner``."""
        import tensorflow as tf

        rows, columns = tf.unstack(tf.cast(shape, tf.float32))
        part, target = self.region(rows, columns, tf.minimum, tf.maximum, tf.round)
        first, part, target = (tf.cast(tf.stack(pair), tf.float32) for pair in (part[:2], part[2:], target))
        scale = target / part
        size = tf.cast(target, tf.int32)
        resized = tf.raw_ops.ScaleAndTranslate(
            images=tf.cast(pixels, tf.float32)[tf.newaxis],
            size=size,
            scale=scale,
            translation=-(first - tf.cast(corner, tf.float32)) * scale,
            kernel_type={"bilinear": "triangle", "bicubic": "keyscubic"}[self.interpolation],
            antialias=True,
        )[0]
        square = tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)
        if self.fit == "pad":
            before = (self.image_size - size) // 2
            after = self.image_size - size - before
            square = tf.pad(square, [[before[0], after[0]], [before[1], after[1]], [0, 0]], constant_values=PAD_VALUE)
        return tf.ensure_shape(square, (self.image_size, self.image_size, 3))


@functools.cache
def _viewing_graph(preprocess: Preprocess):
    """``preprocess.view`` of encoded bytes as one graph: to trace it anew for each use takes a second."""
    import tensorflow as tf

    return tf.function(preprocess._view, input_signature=[tf.TensorSpec((), tf.string)])
