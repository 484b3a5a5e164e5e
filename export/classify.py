"""Classify images with a TFLite file of `kcls export`, on a Raspberry Pi or anywhere. Needs no kcls.

pip install ai-edge-litert numpy pillow
python classify.py model.tflite photo.jpg [more.png ...]
"""

import json
import sys
import zipfile

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps

KERNELS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def square(image, image_size, fit, crop_fraction, interpolation):
    """An image -> uint8 (1, image_size, image_size, 3), as the model saw its training images."""
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


def main(model, *images):
    """Prints the three most probable labels of each image."""
    with zipfile.ZipFile(model) as inside:  # labels and preprocessing travel in the file
        labels = inside.read("labels.txt").decode().rstrip("\n").split("\n")
        preprocess = json.loads(inside.read("kcls.json"))["preprocess"]
    interpreter = Interpreter(model)
    interpreter.allocate_tensors()
    input_, output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    for path in images:
        interpreter.set_tensor(input_["index"], square(Image.open(path), **preprocess))
        interpreter.invoke()
        scores = interpreter.get_tensor(output["index"])[0]
        if scores.dtype == np.uint8:
            scale, zero = output["quantization"]
            scores = (scores.astype(np.float32) - zero) * scale
        best = np.argsort(-scores, kind="stable")[:3]
        print(path, *(f"{labels[i]} {scores[i]:.4f}" for i in best), sep="  ")


if __name__ == "__main__":
    main(*sys.argv[1:])
