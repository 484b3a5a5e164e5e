"""``kcls models``."""

from fnmatch import fnmatch
from glob import has_magic

import click

from kcls.cli.shared import as_json
from kcls.errors import RecipeError, near
from kcls.printing import next_command, plain, print_json, print_table


@click.command()
@click.argument("name", required=False)
@as_json
def models(name, json_) -> None:
    """List the models, or those of a pattern such as 'mobilenet*', or tell more about NAME."""
    from kcls.catalogue import read_catalogue

    rows = read_catalogue()
    if name and has_magic(name):
        rows = [row for row in rows if fnmatch(row["name"], name)]
        if not rows:
            raise RecipeError(f"no model is called {name}; `kcls models` lists them")
    elif name:
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
