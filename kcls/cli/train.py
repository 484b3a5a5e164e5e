"""``kcls train``."""

import os
from typing import Any

import click

from kcls.cli.shared import as_json
from kcls.errors import GateError
from kcls.printing import next_command, print_exports, print_json, print_summary


@click.command()
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
