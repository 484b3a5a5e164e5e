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
@click.argument("run", required=False, type=click.Path())
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
