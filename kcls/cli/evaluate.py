"""``kcls evaluate``."""

import click

from kcls.cli.shared import as_json
from kcls.printing import next_command, number, print_json, print_summary, print_table


@click.command()
@click.argument("artifact", required=False, type=click.Path(), metavar="[RUN|ARTIFACT]")
@click.option("--split", default="test", show_default=True, help="train, val or test.")
@click.option("--recipe", type=click.Path(), help="Says which images. [default: the recipe of the run it lies in]")
@click.option(
    "--out", type=click.Path(), help="Folder for the results. [default: in the run, if --recipe is not given]"
)
@click.option("--top-k", default=5, show_default=True, help="The second accuracy to report.")
@click.option("--batch-size", default=128, show_default=True, help="Images at once.")
@as_json
def evaluate(artifact, split, recipe, out, top_k, batch_size, json_) -> None:
    """Measure a run or a file on a split: top-1, top-k, loss, and precision, recall and F1 of each class.

    The ARTIFACT may be a run, a .keras file, a SavedModel or a .tflite file. One that lies in a run is measured on
    the images of that run; any other needs --recipe.
    """
    from kcls.evaluation import evaluate as evaluate_
    from kcls.run import is_run

    evaluation = evaluate_(artifact, split, recipe=recipe, out=out, top_k=top_k, batch_size=batch_size)
    if json_:
        print_json({**evaluation.summary, "split": split, "per_class": evaluation.per_class})
        return
    print_summary(split, evaluation.summary)
    columns = ["class", "count", "precision", "recall", "f1"]
    print_table(columns, ([number(row[c]) for c in columns] for row in evaluation.per_class))
    where = f"The confusion matrix and the numbers are in {evaluation.folder}" if evaluation.folder else ""
    if evaluation.run and (artifact is None or is_run(artifact)):
        next_command(where, "export", evaluation.run.path, "--tflite")
    else:
        next_command(where, "predict", artifact, "IMAGE...")
