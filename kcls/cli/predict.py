"""``kcls predict``."""

import click

from kcls.errors import DataError, RecipeError
from kcls.printing import show_csv, show_json_lines, show_table


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="[RUN|ARTIFACT] IMAGE...")
@click.option("--top-k", default=5, show_default=True, help="Labels for each image.")
@click.option("--csv", "csv_", is_flag=True, help="Print CSV: image, rank, label, probability, error.")
@click.option("--json", "json_", is_flag=True, help="Print one JSON object a line for each image.")
def predict(inputs, top_k, csv_, json_) -> None:
    """Classify image files, folders and glob patterns; - reads an image from standard input.

    The first argument may be a run, a .keras file, a SavedModel or a .tflite file; without it the newest run is
    taken. A .tflite file needs no TensorFlow. An image that cannot be read is named, the others are done, and the
    exit code is 3.
    """
    from kcls.artifact import is_artifact
    from kcls.prediction import predict as predict_
    from kcls.run import newest_run

    if csv_ and json_:
        raise click.UsageError("--csv and --json exclude each other.")
    if is_artifact(inputs[0]):
        artifact, images = inputs[0], inputs[1:]
        if not images:
            raise click.UsageError(f"Name the images that {artifact} is to classify.")
    else:
        _check_image(inputs[0])
        artifact, images = newest_run(finished=True), inputs
        click.echo(f"with the newest run, {artifact.path}", err=True)
    show = show_csv if csv_ else show_json_lines if json_ else show_table
    failed = show(predict_(artifact, images, top_k=top_k))
    if failed:
        raise DataError(f"{failed} {'image' if failed == 1 else 'images'} could not be classified")


def _check_image(first: str) -> None:
    """Raises a RecipeError if the first argument of predict is neither an artifact nor what images are named by."""
    from glob import has_magic
    from pathlib import Path

    path = Path(first)
    if path.is_dir() and any(path.glob("*/recipe.yaml")):
        raise RecipeError(f"{first} holds runs and is neither an artifact nor a folder of images; name one of its runs")
    if not path.exists() and not has_magic(first) and not path.suffix and first != "-":
        raise RecipeError(f"{first} is neither an artifact nor an image")
