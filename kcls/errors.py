"""The errors that kcls raises for a user's mistake or a failed check, each with its exit code.

All of them are ``ValueError``s, so a script may catch one class; the command line prints the message
without a traceback and leaves with ``exit_code``.
"""

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches
from os.path import commonprefix


class KclsError(ValueError):
    """Something failed at run time: a missing file, a damaged checkpoint, an unusable artifact."""

    exit_code = 1


class RecipeError(KclsError):
    """The recipe or the command line asks for something that cannot be."""

    exit_code = 2


class DataError(KclsError):
    """The images or their labels cannot be used."""

    exit_code = 3


class GateError(KclsError):
    """A quality gate failed: the exported file is not as good as the model it came from."""

    exit_code = 4


class Interrupted(KclsError):
    """A signal stopped the training after a resumable checkpoint was written."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number


def near(name: str, known: Iterable[str]) -> str:
    """Returns "; did you mean 'resnet20'?" if ``known`` holds a near name, else an empty string."""
    matches = get_close_matches(str(name), list(known), n=5, cutoff=0.6)
    if not matches:
        return ""
    # Of names that are equally near, the one that begins alike.
    best = max(matches, key=lambda m: (SequenceMatcher(None, m, name).ratio(), len(commonprefix([m, name]))))
    return f"; did you mean {best!r}?"
