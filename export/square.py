"""An image -> the square that a model of kcls sees, with the pixels that kcls itself computes. For classify.py."""

import numpy as np
from PIL import Image, ImageOps

KERNELS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def square(picture, image_size, fit, crop_fraction, interpolation):
    """An image file or a Pillow image -> uint8 (1, image_size, image_size, 3), as the model saw its training images."""
    image = picture if isinstance(picture, Image.Image) else Image.open(picture)
    if image.format in ("JPEG", "MPO"):
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit grey
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image, size = image.convert("RGB"), image_size
    part, target = image.size, (size, size)
    if fit == "pad":
        target = tuple(max(round(side * size / max(part)), 1) for side in part)
    else:
        sides = (min(part),) * 2 if fit == "crop" else part
        part = tuple(side * crop_fraction for side in sides)
    left, top = ((whole - kept) / 2 for whole, kept in zip(image.size, part, strict=True))
    box = (left, top, left + part[0], top + part[1])
    bands = [np.asarray(b.convert("F").resize(target, KERNELS[interpolation], box=box)) for b in image.split()]
    canvas = np.full((size, size, 3), 128, np.uint8)
    x, y = (size - target[0]) // 2, (size - target[1]) // 2
    canvas[y : y + target[1], x : x + target[0]] = np.rint(np.stack(bands, -1)).clip(0, 255)
    return canvas[np.newaxis]
