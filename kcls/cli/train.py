"""``kcls train``."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kcls.cli.shared import as_json, flip
from kcls.errors import GateError, RecipeError
from kcls.printing import next_command, print_exports, print_json, print_summary

if TYPE_CHECKING:
    from kcls.recipe import Recipe


@click.command()
@click.argument("recipe", required=False, type=click.Path(), metavar="[RECIPE|FOLDER]")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change the recipe: optimizer.lr=0.05.")
@flip
@click.option(
    "--out", type=click.Path(), help="The run's folder; later commands must name it. [default: runs/RECIPE/N]"
)
@click.option("--resume", is_flag=True, help="Go on with the newest unfinished run, or with --out.")
@click.option("--force", is_flag=True, help="Replace the run that is at --out.")
@click.option("--download", is_flag=True, help="Allow the download of a TensorFlow data set.")
@as_json
def train(recipe, overrides, flip, out, resume, force, download, json_) -> None:
    """Train RECIPE, a file or the name of one that kcls brings; then evaluate and export it as it says.

    Of a FOLDER of images, kcls chooses the recipe and prints it; `kcls init` writes it without training. Such a run
    starts from ImageNet weights and ends with an int8 .tflite file.
    """
    from kcls.catalogue import check_model

    if not recipe and not resume:
        raise click.UsageError("Name a recipe or a folder of images, or --resume.")
    if overrides and not recipe:
        raise click.UsageError("--set needs a recipe.")
    if resume and force:
        raise click.UsageError("--resume and --force exclude each other.")
    if force and not out:
        raise click.UsageError("--force replaces the run at --out; name it.")
    parsed: Recipe | None
    if recipe and os.path.isdir(recipe):
        parsed = _recipe_for(recipe, flip, overrides)
    elif flip is not None:
        raise click.UsageError("--flip and --no-flip are for a folder of images; a recipe has augment.flip.")
    else:
        parsed = _read(recipe, overrides) if recipe else None
    if parsed:  # a mistake is told before TensorFlow starts
        check_model(parsed.model.name, parsed.model.options)
        if parsed.model.pretrained:
            from kcls.weights.source import parse_source

            parse_source(parsed.model.pretrained)

    from kcls.training import train as train_

    name = _run_name(recipe) if recipe else None
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


def _recipe_for(folder: str, flip: bool | None, overrides: tuple[str, ...]) -> "Recipe":
    """The recipe that kcls chooses for a folder of images; it is shown, with what was found in the folder."""
    from kcls.recipe import read_recipe
    from kcls.run import is_run
    from kcls.starter import make_starter

    if is_run(folder):
        raise RecipeError(f"{folder} is a run: `kcls train --resume --out {folder}` goes on with it")
    starter = make_starter(folder, flip=flip, command=f"chosen by kcls train {folder}")
    parsed = read_recipe(starter.recipe, f"the recipe for {folder}", Path.cwd(), overrides)
    click.echo("\n".join([*starter.found, "", starter.recipe]), err=True)
    return parsed


def _read(recipe: str, overrides: tuple[str, ...]) -> "Recipe":
    """A recipe's file, or the recipe of that name that kcls brings; a file wins."""
    from kcls.recipe import load_recipe, read_recipe
    from kcls.shipped import list_recipes, recipe_text

    if os.path.exists(recipe) or recipe not in list_recipes():
        return load_recipe(recipe, overrides)
    return read_recipe(recipe_text(recipe), f"kcls's recipe {recipe}", Path.cwd() / "recipes", overrides)


def _run_name(recipe: str) -> str:
    """What the runs of a recipe's file, or of a folder of images, are called."""
    path = Path(recipe).absolute()
    return path.name if path.is_dir() else path.stem
