"""The command line: each command, a file each, parses, calls one function and prints what came out.

Results go to stdout; progress, logs and errors to stderr. Heavy imports wait until a command needs them.
"""

from kcls.cli.group import cli, main

__all__ = ["cli", "main"]
