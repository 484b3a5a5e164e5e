"""The command line: each command parses, calls one function and prints what came out.

Results go to stdout; progress, logs and errors to stderr. Heavy imports wait until a command needs them.
"""

import io
import json
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Iterable
from typing import Any

import click

from kcls import __version__
from kcls.errors import DataError, GateError, KclsError, RecipeError, near

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

    from kcls.training import train as train_

    name = os.path.splitext(os.path.basename(recipe))[0] if recipe else None
    run = train_(parsed, name=name, out=out, resume=resume, force=force, download=download)
    result: dict[str, Any] = {"run": str(run.path)}
    if run.recipe.data.test:
        from kcls.evaluation import evaluate as evaluate_

        result["evaluation"] = evaluate_(run).summary
        if not json_:
            _print_summary("test", result["evaluation"])
    refused = None
    if run.recipe.export:
        from kcls.exporting import export as export_

        try:
            result["exports"] = export_(run)
        except GateError as error:  # the run is good, and what is known of it is printed
            refused = error
            result["error"] = str(error)
    if json_:
        _print_json(result)
    else:
        if "exports" in result:
            _print_exports(result["exports"])
        files = [r["path"] for r in result.get("exports", []) if r["format"] == "tflite"]
        _next(f"The run is in {run.path}", "predict", files[0] if files else run.path, "IMAGE...")
    if refused:
        raise refused


@cli.command()
@run_argument
@click.option("--split", default="test", show_default=True, help="train, val or test.")
@click.option("--top-k", default=5, show_default=True, help="The second accuracy to report.")
@click.option("--batch-size", default=128, show_default=True, help="Images at once.")
@as_json
def evaluate(run, split, top_k, batch_size, json_) -> None:
    """Measure RUN on a split: top-1, top-k, loss, and precision, recall and F1 of each class."""
    from kcls.evaluation import evaluate as evaluate_

    evaluation = evaluate_(run, split, top_k=top_k, batch_size=batch_size)
    if json_:
        _print_json({**evaluation.summary, "split": split, "per_class": evaluation.per_class})
        return
    _print_summary(split, evaluation.summary)
    columns = ["class", "count", "precision", "recall", "f1"]
    _print_table(columns, ([_number(row[c]) for c in columns] for row in evaluation.per_class))
    where = evaluation.folder.parent.parent
    _next(f"The confusion matrix and the numbers are in {evaluation.folder}", "export", where, "--tflite")


@cli.command()
@click.argument("inputs", nargs=-1, required=True, metavar="[RUN|ARTIFACT] IMAGE...")
@click.option("--top-k", default=5, show_default=True, help="Labels for each image.")
@click.option("--csv", "csv_", is_flag=True, help="Print CSV: image, rank, label, probability, error.")
@click.option("--json", "json_", is_flag=True, help="Print one JSON object a line for each image.")
def predict(inputs, top_k, csv_, json_) -> None:
    """Classify image files, folders and glob patterns.

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
    show = _show_csv if csv_ else _show_json_lines if json_ else _show_table
    failed = show(predict_(artifact, images, top_k=top_k))
    if failed:
        raise DataError(f"{failed} {'image' if failed == 1 else 'images'} could not be classified")


@cli.command()
@run_argument
@click.option("--saved-model", is_flag=True, help="Write a SavedModel.")
@click.option("--tflite", is_flag=True, help="Write a TFLite file.")
@click.option(
    "--quantize",
    type=click.Choice(["none", "float16", "dynamic", "int8"]),
    help="Of the TFLite file. [default: what the recipe states, else none]",
)
@click.option("--max-drop", type=float, help="Top-1 that a quantized file may lose, 0 to 1. [default: 0.01]")
@click.option("--min-agreement", type=float, help="Share of the model's answers it must give. [default: 0.9]")
@as_json
def export(run, saved_model, tflite, quantize, max_drop, min_agreement, json_) -> None:
    """Write RUN as a SavedModel, a TFLite file, or what its recipe states.

    Every file is opened again and compared with the model on held-out images; one that is not as good is refused
    with exit code 4.
    """
    from kcls.exporting import export as export_

    formats = ["saved_model"] * saved_model + ["tflite"] * tflite
    reports = export_(run, formats or None, quantize=quantize, max_drop=max_drop, min_agreement=min_agreement)
    if json_:
        _print_json({"exports": reports})
        return
    _print_exports(reports)
    _next(
        f"The files are in {os.path.dirname(reports[-1]['path'])}",
        f"kcls predict {reports[-1]['path']} IMAGE...",
    )


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
        if json_:
            _print_json(chosen[0])
            return
        for key, value in chosen[0].items():
            click.echo(f"{key:<17} {_plain(value)}")
        _next("", "train", "recipe.yaml", "--set", f"model.name={name}")
        return
    keys = ["name", "image_size", "num_classes", "options", "trainable_params", "gmacs"]
    if json_:
        _print_json([{key: row[key] for key in keys} for row in rows])
        return
    columns = ["name", "image size", "parameters", "multiply-adds"]
    _print_table(
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
    if not path.exists() and not has_magic(first) and not path.suffix:
        raise RecipeError(f"{first} is neither an artifact nor an image")


def _next(where: str, *arguments: object) -> None:
    """Prints where the results are, and the next command, ready to be copied."""
    if where:
        click.echo(f"\n{where}")
    words = [word if word == "IMAGE..." else shlex.quote(word) for word in map(str, arguments)]
    click.echo(f"Next: kcls {' '.join(words)}")


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, allow_nan=False))


def _print_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # names may hold what rich takes for markup
    width = None if sys.stdout.isatty() else 1000  # a file or a pipe is as wide as the table
    Console(width=width).print(table)


def _print_summary(split: str, summary: dict[str, Any]) -> None:
    numbers = "  ".join(f"{key} {_number(value)}" for key, value in summary.items() if key != "count")
    click.echo(f"{split}: {summary['count']:,} images  {numbers}")


def _print_exports(reports: list[dict[str, Any]]) -> None:
    columns = ["format", "quantize", "size", "top1 model", "top1 file", "agreement", "latency"]
    _print_table(
        columns,
        (
            [
                r["format"],
                r["quantize"],
                f"{r['size_bytes'] / 1024:,.0f} KiB",
                _number(r["top1_model"]),
                _number(r["top1"]),
                _number(r["agreement"]),
                f"{r['latency_ms']:.2f} ms",
            ]
            for r in reports
        ),
    )
    click.echo(f"compared on {reports[0]['count']:,} images of the {reports[0]['split']} split; latency of one image")


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} ({kind})" for key, kind in value.items()) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value if value not in (None, {}) else "none")


def _show_table(predictions) -> int:
    failed = 0
    rows = []
    for p in predictions:
        if p.error:
            failed += 1
            click.echo(f"{p.image}: {p.error}", err=True)
        for rank, (label, probability) in enumerate(p.labels):
            rows.append(["" if rank else p.image, label, f"{probability:.4f}"])
    if rows:
        _print_table(["image", "label", "probability"], rows)
    return failed


def _show_csv(predictions) -> int:
    import csv

    failed = 0
    writer = csv.writer(sys.stdout)
    writer.writerow(["image", "rank", "label", "probability", "error"])
    for p in predictions:
        failed += bool(p.error)
        if p.error:
            writer.writerow([p.image, "", "", "", p.error])
        for rank, (label, probability) in enumerate(p.labels, 1):
            writer.writerow([p.image, rank, label, f"{probability:.6f}", ""])
    return failed


def _show_json_lines(predictions) -> int:
    failed = 0
    for p in predictions:
        failed += bool(p.error)
        answer = (
            {"error": p.error} if p.error else {"predictions": [{"label": n, "probability": v} for n, v in p.labels]}
        )
        _print_json({"image": p.image, **answer})
    return failed
