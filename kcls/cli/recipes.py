"""``kcls recipes``."""

import click


@click.command()
@click.argument("name", required=False)
def recipes(name) -> None:
    """List the recipes that kcls brings, with cost and result, or print the one of that NAME.

    `kcls recipes digits > mine.yaml` is a start for one's own; `kcls train digits` trains it as it is.
    """
    from kcls.shipped import list_recipes, recipe_text

    if name:
        click.echo(recipe_text(name), nl=False)
        return
    for each, comment in list_recipes().items():
        click.echo(f"{each}\n" + "\n".join(f"    {line}" for line in comment.splitlines()))
