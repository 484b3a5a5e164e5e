"""Images per second that become training and evaluation batches: `python benchmarks/input_pipeline.py`.

Photos of 500 x 375 px (JPEG, quality 90, written for the occasion) become 224 px squares in batches of 32. Beside
kcls: the JPEG decoder alone, which nothing can pass; Keras's image_dataset_from_directory, which changes no image and
does not antialias; and torchvision with two workers, where it is installed. All contestants take turns in one run; the
best of three turns counts, as other programs only take time away.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SIZE, BATCH, TURNS = 224, 32, 3
BARE = "bare JPEG decoder"

RECIPE = """\
model:   {{name: resnet50}}
data:    {{source: folder, path: {path}, train: "all[:90%]", val: "all[90%:]"}}
image:   {{size: 224, crop_fraction: 0.875}}
augment: {augment}
optimizer: {{name: sgd, lr: 0.1}}
train:   {{epochs: 1, batch_size: 32}}
"""


def write_photos(folder: Path, count: int) -> None:
    """Smooth shapes, edges and grain, which compress about as photos do: 60 to 70 KB each."""
    for i in range(count):
        random = np.random.default_rng(i)
        coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize((500, 375), Image.BICUBIC)
        photo = np.asarray(coarse) + random.normal(0, 6, (375, 500, 1))
        path = folder / f"class{i % 4}" / f"{i:04}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(photo.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def images_per_second(batches) -> float:
    """Of one pass, from the first batch on: what a pass costs to begin, a training pays once."""
    iterator, count = iter(batches), 0
    next(iterator)
    began = time.perf_counter()
    for batch in iterator:
        count += len(batch[0] if isinstance(batch, tuple | list) else batch)
    return count / (time.perf_counter() - began)


def contestants(folder: Path) -> dict:
    """Name -> a function that returns the batches of one pass."""
    import keras
    import tensorflow as tf

    from kcls.data.decode import decode_tensor
    from kcls.data.opening import open_data
    from kcls.data.preprocess import Preprocess
    from kcls.data.stream import evaluation_stream, training_stream
    from kcls.recipe import load_recipe

    paths = [str(path) for path in sorted(folder.rglob("*.jpg"))]

    def sizes(decode):
        """The number of pixels of each image: nothing is done with them."""
        read = tf.data.Dataset.from_tensor_slices(paths)
        return read.map(lambda path: tf.size(decode(tf.io.read_file(path))), num_parallel_calls=tf.data.AUTOTUNE).batch(
            BATCH
        )

    def opened(augment: str):
        file = folder.parent / "recipe.yaml"
        file.write_text(RECIPE.format(path=folder, augment=augment))
        recipe = load_recipe(file)
        return open_data(recipe.data).split("train"), recipe  # not kept in memory, as ImageNet could not be

    def training(augment: str):
        source, recipe = opened(augment)
        return lambda: training_stream(source, recipe, BATCH)

    def evaluation():
        source, recipe = opened("{flip: false}")
        preprocess = Preprocess.from_recipe(recipe.image)
        return lambda: evaluation_stream(source, preprocess.view, BATCH)

    def stock():
        return keras.utils.image_dataset_from_directory(
            folder, image_size=(SIZE, SIZE), batch_size=BATCH, verbose=False, crop_to_aspect_ratio=True
        )

    rows = {
        BARE: lambda: sizes(lambda contents: tf.io.decode_jpeg(contents, channels=3)),
        "kcls: whole image, upright": lambda: sizes(decode_tensor),
        "kcls: random_resized_crop + flip": training("{flip: true, random_resized_crop: [0.08, 1]}"),
        "kcls: square + crop_padding + flip": training("{flip: true, crop_padding: 28}"),
        "kcls: evaluation's square": evaluation(),
        "Keras: image_dataset_from_directory": stock,
    }
    if torch := torchvision(folder):
        rows["torchvision, two workers: RandomResizedCrop + flip"] = torch
    return rows


def torchvision(folder: Path):
    """The same with torchvision, or None where it is not installed."""
    try:
        import torch

        try:
            from torchvision import datasets, transforms
        except RuntimeError:  # built for another torch: the operators that it misses are not needed here
            library = torch.library.Library("torchvision", "FRAGMENT")
            for op in ("nms", "qnms"):
                library.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            from torchvision import datasets, transforms
    except ImportError:
        return None
    steps = [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip(), transforms.PILToTensor()]
    images = datasets.ImageFolder(str(folder), transforms.Compose(steps))
    return lambda: torch.utils.data.DataLoader(images, BATCH, shuffle=True, num_workers=2)


def difference(folder: Path) -> float:
    """Grey levels, in the mean, between random_resized_crop and an antialiased resize of the same box."""
    import tensorflow as tf

    from kcls.data.augment import random_box, random_resized_crop

    differences = []
    for i, path in enumerate(sorted(folder.rglob("*.jpg"))[:50]):
        contents, area, seed = tf.io.read_file(str(path)), (0.08, 1.0), tf.constant([0, i])
        exact = tf.image.resize(random_box(contents, area, seed, 2 * SIZE), (SIZE, SIZE), antialias=True)
        differences.append(np.abs(random_resized_crop(contents, SIZE, area, seed).numpy() - exact.numpy()).mean())
    return float(np.mean(differences))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=1200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "photos"
        folder.mkdir()
        write_photos(folder, options.images)
        rows = contestants(folder)
        best = dict.fromkeys(rows, 0.0)
        for turn in range(TURNS):
            for name, batches in rows.items():
                best[name] = max(best[name], images_per_second(batches()))
            print(f"turn {turn + 1} of {TURNS} done", file=sys.stderr)
        print("| pipeline | images/s | of bare decode |\n|---|---|---|")
        for name, rate in best.items():
            print(f"| {name} | {rate:,.0f} | {rate / best[BARE]:.2f} |")
        print(
            f"\nrandom_resized_crop is off from an antialiased one by {difference(folder):.2f} grey levels in the mean"
        )


if __name__ == "__main__":
    main()
