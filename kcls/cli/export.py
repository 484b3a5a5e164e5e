"""``kcls export``."""

import functools
import os

import click

from kcls.cli.shared import as_json
from kcls.formats import FORMATS, QUANTIZATIONS, QUANTIZED
from kcls.printing import next_command, print_exports, print_json


def format_flags(command):
    """An option for each format, all of them together as ``formats``, a list of names."""

    @functools.wraps(command)
    def gathered(**arguments):
        return command(formats=[name for name in FORMATS if arguments.pop(name)], **arguments)

    for name, format in reversed(FORMATS.items()):
        gathered = click.option(format.flag, name, is_flag=True, help=f"Write a {format.title}.")(gathered)
    return gathered


@click.command()
@click.argument("artifact", required=False, type=click.Path(), metavar="[RUN|KERAS_FILE|SOURCE]")
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
@click.option(
    "--calibration", type=click.Path(), help="Not of a run: a folder of images, half to set ranges, half to compare on."
)
@click.option("--out", type=click.Path(), help="Not of a run: folder for the files. [default: the model's name]")
@as_json
def export(artifact, formats, quantize, max_drop, min_agreement, calibration, out, json_) -> None:
    """Write a run as a SavedModel, a TFLite file, a web page, or what its recipe states.

    Every file is opened again and compared with the model on held-out images; one that is not as good is refused
    with exit code 4. A .keras file or a source of pretrained weights, such as package/efficientnet_lite0, has no
    images of its own and needs --calibration.
    """
    from kcls.exporting import export as export_

    limits = {"max_drop": max_drop, "min_agreement": min_agreement}
    reports = export_(artifact, formats, quantize=quantize, **limits, calibration=calibration, out=out)
    if origin := reports[0].get("origin"):
        click.echo(f"with {origin}", err=True)
    if json_:
        print_json({"exports": reports})
        return
    print_exports(reports)
    next_command(f"The files are in {os.path.dirname(reports[-1]['path'])}", "predict", reports[-1]["path"], "IMAGE...")
