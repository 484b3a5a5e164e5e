"""What the commands share."""

import click

as_json = click.option("--json", "json_", is_flag=True, help="Print JSON on stdout, and nothing else.")

flip = click.option(
    "--flip/--no-flip", default=None, help="Of a folder of images: whether a mirrored image keeps its class."
)
