"""``kcls init``."""

from pathlib import Path

import click

from kcls.cli.shared import flip
from kcls.errors import RecipeError
from kcls.printing import next_command


@click.command()
@click.argument("folder", type=click.Path())
@flip
@click.option("--out", type=click.Path(), help="The recipe's file. [default: FOLDER's name, .yaml]")
@click.option("--force", is_flag=True, help="Replace the file.")
def init(folder, flip, out, force) -> None:
    """Write a recipe for a FOLDER of images, to be changed and trained.

    It is the one that `kcls train FOLDER` would train: EfficientNet-Lite0 from its ImageNet weights.
    """
    import os

    from kcls.files import write_text
    from kcls.starter import make_starter

    file = Path(out or f"{Path(folder).absolute().name}.yaml")
    if file.exists() and not force:
        raise RecipeError(f"{file} is there already; --force replaces it, --out names another")
    beside = os.path.relpath(folder, file.parent)  # a recipe's paths begin at its own folder
    starter = make_starter(folder, flip=flip, path=beside, command=f"kcls train {file}")
    write_text(file, starter.recipe)
    click.echo("\n".join([*starter.found, "", starter.recipe]))
    next_command(f"The recipe is {file}", "train", file)
