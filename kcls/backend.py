"""The one place that starts TensorFlow: refuse what cannot work, and keep its C++ code quiet."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

from kcls.errors import KclsError, RecipeError


def require_tensorflow() -> None:
    """Imports TensorFlow and Keras 3 on it, without their start-up lines.

    Raises:
        KclsError: the environment selects another Keras, or TensorFlow is missing.
    """
    if os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true"):
        raise RecipeError(
            "TF_USE_LEGACY_KERAS selects Keras 2, and kcls needs Keras 3: unset it (`unset TF_USE_LEGACY_KERAS`)"
        )
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise RecipeError(
            f"KERAS_BACKEND is {backend!r}; only kcls.models runs on it. For training, evaluation and export: "
            "`unset KERAS_BACKEND`"
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet_stderr():
        try:
            import absl.logging
            import keras
            import tensorflow as tf
        except ImportError as error:
            raise KclsError(
                f"TensorFlow or Keras cannot be imported ({error}); `pip install kcls` brings both"
            ) from None
    absl.logging.set_verbosity(absl.logging.ERROR)
    tf.get_logger().setLevel("ERROR")  # what libraries call of TensorFlow that is deprecated
    for gpu in tf.config.list_physical_devices("GPU"):  # takes what it needs, and leaves the rest to other programs
        with suppress(RuntimeError):  # it is in use already, by the script that called
            tf.config.experimental.set_memory_growth(gpu, True)
    if keras.backend.backend() != "tensorflow":
        raise RecipeError(
            f"Keras runs on {keras.backend.backend()!r}, set in ~/.keras/keras.json; "
            "kcls trains on TensorFlow: `export KERAS_BACKEND=tensorflow`"
        )


def door(home: str, name: str) -> Callable[[str], Any]:
    """A room's ``__getattr__``: its one public ``name`` is loaded from the module ``home``, after TensorFlow."""

    def load(wanted: str) -> Any:
        if wanted != name:
            raise AttributeError(f"module {home.rpartition('.')[0]!r} has no attribute {wanted!r}")
        require_tensorflow()
        return getattr(import_module(home), name)

    return load


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Holds back what C++ code prints to stderr within the block; prints it if the block fails."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
