"""Classify images with a TFLite file of `kcls export`, on a Raspberry Pi or anywhere. Needs no kcls.

pip install ai-edge-litert numpy pillow; pictures.py and square.py lie beside this file.
"""

import argparse
import json
import sys
import time
import zipfile

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from pictures import files, frames
from square import square


def main(model, images, camera, threads, top):
    """Prints each image's most probable labels and the network's milliseconds; 1 if one could not be read, else 0."""
    with zipfile.ZipFile(model) as inside:  # labels and preprocessing travel in the file
        labels = inside.read("labels.txt").decode().rstrip("\n").split("\n")
        preprocess = json.loads(inside.read("kcls.json"))["preprocess"]
    interpreter = Interpreter(model, num_threads=threads)
    interpreter.allocate_tensors()
    input_, output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero = output["quantization"]  # of scores in bytes; floats have none
    failed = 0
    for picture in files(images) if camera is None else frames(camera):
        name = picture if camera is None else f"camera {camera}"
        try:
            interpreter.set_tensor(input_["index"], square(picture, **preprocess))
        except Exception as error:  # Pillow raises many kinds for a file that is no image, or a damaged one
            print(f"{name}: {error}", file=sys.stderr)
            failed = 1
            continue
        began = time.perf_counter()
        interpreter.invoke()
        took = time.perf_counter() - began
        scores = (interpreter.get_tensor(output["index"])[0] - np.float32(zero)) * np.float32(scale or 1)
        best = np.argsort(-scores, kind="stable")[:top]
        print(name, *(f"{labels[i]} {scores[i]:.4f}" for i in best), f"{took * 1000:.2f} ms", sep="  ", flush=True)
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", help="a .tflite file of kcls export")
    parser.add_argument("images", nargs="*", help="image files, and folders of them")
    parser.add_argument("--camera", type=int, metavar="N", help="instead of images: 0 is the first; until Ctrl-C")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--top", type=int, default=3, metavar="N", help="labels for each image")
    given = parser.parse_intermixed_args()
    if (given.camera is None) != bool(given.images) or given.threads < 1 or given.top < 1:
        parser.error("name images, or --camera alone; --threads and --top are 1 or more")
    try:
        sys.exit(main(**vars(given)))
    except (FileNotFoundError, KeyError, zipfile.BadZipFile) as error:
        sys.exit(f"{given.model}: not a .tflite file of kcls export ({error})")
    except KeyboardInterrupt:
        sys.exit(130)
