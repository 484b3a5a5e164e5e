"""The command line as a whole: the group of the commands, and how it ends."""

import io
import os
import signal
import sys
import traceback
from typing import Any

import click

from kcls import __version__
from kcls.cli.benchmark import benchmark
from kcls.cli.evaluate import evaluate
from kcls.cli.export import export
from kcls.cli.init import init
from kcls.cli.models import models
from kcls.cli.predict import predict
from kcls.cli.recipes import recipes
from kcls.cli.runs import runs
from kcls.cli.train import train
from kcls.errors import KclsError


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


for command in (init, train, evaluate, predict, export, benchmark, models, recipes, runs):
    cli.add_command(command)


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
