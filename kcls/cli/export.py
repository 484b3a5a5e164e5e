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


class Milliseconds(click.ParamType):
    """``20ms`` or ``20`` -> 20.0."""

    name = "milliseconds"

    def convert(self, value, param, ctx):
        """Returns the number."""
        try:
            return float(str(value).removesuffix("ms"))
        except ValueError:
            self.fail(f"expected milliseconds such as 20ms, not {value!r}", param, ctx)


@click.command()
@click.argument("artifact", required=False, type=click.Path(), metavar="[RUN|KERAS_FILE|SOURCE]")
@format_flags
@click.option(
    "--quantize",
    multiple=True,
    type=click.Choice([*QUANTIZATIONS, "auto"]),
    help=f"Of the {' or '.join(FORMATS[name].title for name in QUANTIZED)}; given again, of one more; auto tries them. "
    "[default: what the recipe states, else none]",
)
@click.option("--max-drop", type=float, help="Top-1 that a quantized file may lose, 0 to 1. [default: 0.01]")
@click.option("--min-agreement", type=float, help="Share of the model's answers it must give. [default: 0.9]")
@click.option("--max-size", metavar="SIZE", help="Of a TFLite file: 4MB, 1.5MiB, 300kB, ...")
@click.option(
    "--max-latency", "max_latency_ms", type=Milliseconds(), metavar="MS", help="Of an image, one thread here: 20ms."
)
@click.option(
    "--calibration", type=click.Path(), help="Not of a run: a folder of images, half to set ranges, half to compare on."
)
@click.option("--out", type=click.Path(), help="Not of a run: folder for the files. [default: the model's name]")
@as_json
def export(artifact, formats, json_, **options) -> None:
    """Write a run as a SavedModel, a TFLite file, a web page, or what its recipe states.

    Every file is opened again and compared with the model on held-out images; one that is not as good, or larger or
    slower than allowed, is refused with exit code 4. --quantize auto takes the fastest of the smallest kind (8, 16,
    32 bits) that is within the limits. A .keras file or a source of pretrained weights, such as
    package/efficientnet_lite0, has no images of its own and needs --calibration.
    """
    from kcls.exporting import export as export_

    reports = export_(artifact, formats, **options)
    if origin := reports[0].get("origin"):
        click.echo(f"with {origin}", err=True)
    if json_:
        print_json({"exports": reports})
        return
    print_exports(reports)
    next_command(f"The files are in {os.path.dirname(reports[-1]['path'])}", "predict", reports[-1]["path"], "IMAGE...")
