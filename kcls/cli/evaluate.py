"""``kcls evaluate``."""

import click

from kcls.cli.shared import as_json
from kcls.printing import next_command, print_classes, print_json, print_summary


@click.command()
@click.argument("artifact", required=False, type=click.Path(), metavar="[RUN|ARTIFACT|SOURCE]")
@click.option("--split", help="train, val or test. [default: test]")
@click.option("--recipe", type=click.Path(), help="Says which images. [default: the recipe of the run it lies in]")
@click.option(
    "--data",
    type=click.Path(),
    help="Says which images instead: a folder CLASS/IMAGE, with some of its classes or all.",
)
@click.option("--label-sets", type=click.Path(), help="A JSON file with several right classes for an image (ReaL).")
@click.option(
    "--out", type=click.Path(), help="Folder for the results. [default: in the run, without --recipe and --data]"
)
@click.option("--top-k", default=5, show_default=True, help="The second accuracy to report.")
@click.option("--batch-size", default=128, show_default=True, help="Images at once.")
@as_json
def evaluate(artifact, split, recipe, data, label_sets, out, top_k, batch_size, json_) -> None:
    """Measure what classifies on labelled images: top-1, top-k, loss, and precision, recall and F1 of each class.

    The ARTIFACT may be a run, a .keras file, a SavedModel, a .tflite file or a source of pretrained weights, such as
    package/efficientnet_lite0. One that lies in a run is measured on the images of that run; any other needs --data
    or --recipe. The folders in --data are called as its classes, or as their synsets where these are ImageNet's.

    --label-sets adds real_top1. It is an object {image: [class, ...]}, the image by its path or file name and a class
    by its index, name or synset; or the real.json of arXiv:2006.07159. The images in --data then need no folders.
    """
    from kcls.evaluation import evaluate as evaluate_
    from kcls.run import is_run

    images = {"recipe": recipe, "data": data, "label_sets": label_sets}
    evaluation = evaluate_(artifact, split, **images, out=out, top_k=top_k, batch_size=batch_size)
    if evaluation.origin:
        click.echo(f"with {evaluation.origin}", err=True)
    where = {"data": data} if data else {"split": split or "test"}
    if json_:
        print_json({**evaluation.summary, **where, "per_class": evaluation.per_class})
        return
    (name,) = where.values()
    print_summary(name, evaluation.summary)
    if evaluation.per_class:
        print_classes(evaluation.per_class)
    results = f"The results are in {evaluation.folder}" if evaluation.folder else ""
    if evaluation.run and (artifact is None or is_run(artifact)):
        next_command(results, "export", evaluation.run.path, "--tflite")
    else:
        next_command(results, "predict", artifact, "IMAGE...")
