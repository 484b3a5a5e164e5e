"""The command line: each command parses, calls one function and prints what came out.

Results go to stdout; progress, logs and errors to stderr. Heavy imports wait until a command needs them.
"""

import functools
import io
import os
import signal
import sys
import traceback
from typing import Any

import click

from kcls import __version__
from kcls.errors import DataError, GateError, KclsError, RecipeError, near
from kcls.formats import FORMATS, QUANTIZATIONS, QUANTIZED
from kcls.printing import (
    next_command,
    number,
    plain,
    print_exports,
    print_json,
    print_summary,
    print_table,
    show_csv,
    show_json_lines,
    show_table,
)

as_json = click.option("--json", "json_", is_flag=True, help="Print JSON on stdout, and nothing else.")
run_argument = click.argument("run", required=False, type=click.Path())


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kcls")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_obj
def cli(state: dict[str, Any] | None, debug: bool) -> None:
    """Image classification, from a folder of images to a quantized model on a device.

    A recipe (a YAML file) makes a run (a folder); a run is evaluated, used for prediction and exported. Commands
    that take a RUN default to the newest one.
    """
    if state is not None:
        state["debug"] |= debug


@cli.command()
@click.argument("recipe", required=False, type=click.Path())
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change the recipe: optimizer.lr=0.05.")
@click.option(
    "--out", type=click.Path(), help="The run's folder; later commands must name it. [default: runs/RECIPE/N]"
)
@click.option("--resume", is_flag=True, help="Go on with the newest unfinished run, or with --out.")
@click.option("--force", is_flag=True, help="Replace the run that is at --out.")
@click.option("--download", is_flag=True, help="Allow the download of a TensorFlow data set.")
@as_json
def train(recipe, overrides, out, resume, force, download, json_) -> None:
    """Train RECIPE; then evaluate it on its test split and export it as the recipe says."""
    from kcls.catalogue import check_model
    from kcls.recipe import load_recipe

    if not recipe and not resume:
        raise click.UsageError("Name a recipe, or --resume.")
    if overrides and not recipe:
        raise click.UsageError("--set needs a recipe.")
    if resume and force:
        raise click.UsageError("--resume and --force exclude each other.")
    if force and not out:
        raise click.UsageError("--force replaces the run at --out; name it.")
    parsed = load_recipe(recipe, overrides) if recipe else None
    if parsed:  # a mistake is told before TensorFlow starts
        check_model(parsed.model.name, parsed.model.options)
        if parsed.model.pretrained:
            from kcls.weights.source import parse_source

            parse_source(parsed.model.pretrained)

    from kcls.training import train as train_

    name = os.path.splitext(os.path.basename(recipe))[0] if recipe else None
    run = train_(parsed, name=name, out=out, resume=resume, force=force, download=download)
    result: dict[str, Any] = {"run": str(run.path)}
    if run.recipe.data.test:
        from kcls.evaluation import evaluate as evaluate_

        result["evaluation"] = evaluate_(run).summary
        if not json_:
            print_summary("test", result["evaluation"])
    refused = None
    if run.recipe.export:
        from kcls.exporting import export as export_

        try:
            result["exports"] = export_(run)
        except GateError as error:  # the run is good, and what is known of it is printed
            refused = error
            result["error"] = str(error)
    if json_:
        print_json(result)
    else:
        if "exports" in result:
            print_exports(result["exports"])
        files = [r["path"] for r in result.get("exports", []) if r["format"] == "tflite"]
        next_command(f"The run is in {run.path}", "predict", files[0] if files else run.path, "IMAGE...")
    if refused:
        raise refused


@cli.command()
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


@cli.command()
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


def format_flags(command):
    """An option for each format, all of them together as ``formats``, a list of names."""

    @functools.wraps(command)
    def gathered(**arguments):
        return command(formats=[name for name in FORMATS if arguments.pop(name)], **arguments)

    for name, format in reversed(FORMATS.items()):
        gathered = click.option(format.flag, name, is_flag=True, help=f"Write a {format.title}.")(gathered)
    return gathered


@cli.command()
@run_argument
@format_flags
@click.option(
    "--quantize",
    multiple=True,
    type=click.Choice(list(QUANTIZATIONS)),
    help=f"Of the {' or '.join(FORMATS[name].title for name in QUANTIZED)}; given again, of one more. "
    "[default: what the recipe states, else none]",
)
@click.option("--max-drop", type=float, help="Top-1 that a quantized file may lose, 0 to 1. [default: 0.01]")
@click.option("--min-agreement", type=float, help="Share of the model's answers it must give. [default: 0.9]")
@as_json
def export(run, formats, quantize, max_drop, min_agreement, json_) -> None:
    """Write RUN as a SavedModel, a TFLite file, or what its recipe states.

    Every file is opened again and compared with the model on held-out images; one that is not as good is refused
    with exit code 4.
    """
    from kcls.exporting import export as export_

    reports = export_(run, formats, quantize=quantize, max_drop=max_drop, min_agreement=min_agreement)
    if json_:
        print_json({"exports": reports})
        return
    print_exports(reports)
    next_command(f"The files are in {os.path.dirname(reports[-1]['path'])}", "predict", reports[-1]["path"], "IMAGE...")


@cli.command()
@click.argument("name", required=False)
@as_json
def models(name, json_) -> None:
    """List the models, or tell more about NAME."""
    from kcls.catalogue import read_catalogue

    rows = read_catalogue()
    if name:
        chosen = [row for row in rows if row["name"] == name]
        if not chosen:
            raise RecipeError(f"unknown model {name!r}{near(name, [row['name'] for row in rows])}")
        # Published at another size or with other options, too: what is different then.
        chosen[0]["also"] = [{k: v for k, v in row.items() if v != chosen[0][k]} for row in chosen[1:]]
        if json_:
            print_json(chosen[0])
            return
        for key, value in chosen[0].items():
            click.echo(f"{key:<17} {plain(value)}")
        next_command("", "train", "recipe.yaml", "--set", f"model.name={name}")
        return
    keys = ["name", "image_size", "num_classes", "options", "trainable_params", "gmacs", "timm", "parity", "paper"]
    if json_:
        print_json([{key: row[key] for key in keys} for row in rows])
        return
    columns = ["name", "image size", "parameters", "multiply-adds"]
    print_table(
        columns,
        ([r["name"], f"{r['image_size']} px", f"{r['trainable_params']:,}", f"{r['gmacs']:.3g} G"] for r in rows),
    )


def main() -> None:
    """Runs the command line and leaves with its exit code."""
    state = {"debug": bool(os.environ.get("KCLS_DEBUG"))}
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")  # a file name need not be UTF-8
    terminate = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exit lets what is half-written be removed
    try:
        code = _run(state)
    finally:
        signal.signal(signal.SIGTERM, terminate)
    sys.exit(code)


def _run(state: dict[str, Any]) -> int:
    """Runs the command line and returns its exit code; says what went wrong in one line."""
    try:
        cli.main(prog_name="kcls", standalone_mode=False, obj=state)
        return 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:  # `kcls predict ... | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if state["debug"]:
            traceback.print_exc()
        if isinstance(error, KclsError | OSError):
            click.echo(f"Error: {error}", err=True)
        else:
            kind = type(error).__name__
            click.echo(f"Error: {kind}: {error}\nThis is a mistake in kcls; KCLS_DEBUG=1 shows where.", err=True)
        return getattr(error, "exit_code", 1)


def _check_image(first: str) -> None:
    """Raises a RecipeError if the first argument of predict is neither an artifact nor what images are named by."""
    from glob import has_magic
    from pathlib import Path

    path = Path(first)
    if path.is_dir() and any(path.glob("*/recipe.yaml")):
        raise RecipeError(f"{first} holds runs and is neither an artifact nor a folder of images; name one of its runs")
    if not path.exists() and not has_magic(first) and not path.suffix and first != "-":
        raise RecipeError(f"{first} is neither an artifact nor an image")
