"""``kcls predict``."""

from typing import TYPE_CHECKING

import click

from kcls.errors import DataError, RecipeError
from kcls.printing import show_csv, show_json_lines, show_table

if TYPE_CHECKING:
    from kcls.artifact import Classifier
    from kcls.run import Run


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="[RUN|ARTIFACT|SOURCE] IMAGE...")
@click.option("--top-k", default=5, show_default=True, type=click.IntRange(1), help="Labels for each image.")
@click.option("--csv", "csv_", is_flag=True, help="Print CSV: image, rank, label, probability, error.")
@click.option("--json", "json_", is_flag=True, help="Print one JSON object a line for each image.")
def predict(inputs, top_k, csv_, json_) -> None:
    """Classify image files, folders and glob patterns; - reads an image from standard input.

    The first argument may be a run, a .keras file, a SavedModel or a .tflite file, or a source of pretrained weights:
    package/efficientnet_lite0, timm/resnet50.a1_in1k, timm:FILE, keras/ResNet50, keras:FILE. Without it the newest run
    is taken. A .tflite file needs no TensorFlow. An image that cannot be read is named, the others are done, and the
    exit code is 3.
    """
    from kcls.prediction import predict as predict_

    if csv_ and json_:
        raise click.UsageError("--csv and --json exclude each other.")
    artifact, images = _opened(inputs)
    show = show_csv if csv_ else show_json_lines if json_ else show_table
    failed = show(predict_(artifact, images, top_k=top_k))
    if failed:
        raise DataError(f"{failed} {'image' if failed == 1 else 'images'} could not be classified")


def _opened(inputs: tuple[str, ...]) -> tuple["Classifier | Run", tuple[str, ...]]:
    """What classifies and what is to be classified; where weights come from, and which run is taken, is said."""
    from kcls.artifact import is_artifact, open_artifact
    from kcls.run import newest_run

    if not is_artifact(inputs[0]):
        _check_image(inputs[0])
        run = newest_run(finished=True)
        click.echo(f"with the newest run, {run.path}", err=True)
        return run, inputs
    if not inputs[1:]:
        raise click.UsageError(f"Name the images that {inputs[0]} is to classify.")
    classifier = open_artifact(inputs[0])
    if classifier.origin:
        click.echo(f"with {classifier.origin}", err=True)
    return classifier, inputs[1:]


def _check_image(first: str) -> None:
    """Raises a RecipeError if the first argument of predict is neither an artifact nor what images are named by."""
    from glob import has_magic
    from pathlib import Path

    from kcls.weights.source import SUFFIXES

    path = Path(first)
    if path.is_dir() and any(path.glob("*/recipe.yaml")):
        raise RecipeError(f"{first} holds runs and is neither an artifact nor a folder of images; name one of its runs")
    if library := next((library for library, suffixes in SUFFIXES.items() if path.suffix in suffixes), None):
        raise RecipeError(f"{first} holds weights: say whose names they have, {library}:{first}")
    if not path.exists() and not has_magic(first) and not path.suffix and first != "-":
        raise RecipeError(f"{first} is neither an artifact nor an image, nor a source of weights")
