"""What is not imported cannot be slow: the light commands stay light."""

import sys

import pytest

HEAVY = ("tensorflow", "keras", "tensorflow_datasets", "pydantic", "matplotlib", "numpy", "rich")


def imported_by(python, arguments) -> set[str]:
    """Top-level modules that a kcls command imports."""
    code = (
        "import sys\n"
        "from kcls.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print(*sorted({m.partition('.')[0] for m in sys.modules}), file=sys.stderr)\n"
    )
    done = python(code, *arguments)
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["models", "resnet50"]])
def test_a_light_command_imports_nothing_heavy(python, arguments):
    assert not imported_by(python, arguments) & set(HEAVY)


def test_import_kcls_imports_nothing_heavy(python):
    done = python("import sys, kcls; print(*sys.modules)")
    assert not {m.partition(".")[0] for m in done.stdout.split()} & set(HEAVY)


def test_python_m_kcls_is_the_command(python):
    done = python("import runpy, sys; sys.argv = ['kcls', '--version']; runpy.run_module('kcls', run_name='__main__')")
    assert done.stdout.startswith("kcls, version ")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("TF_USE_LEGACY_KERAS", "1", "needs Keras 3"), ("KERAS_BACKEND", "jax", "KERAS_BACKEND is 'jax'")],
)
def test_another_keras_is_refused_before_it_is_imported(python, tiny_recipe, name, value, words):
    code = f"import sys; sys.argv = ['kcls', 'train', {str(tiny_recipe)!r}]; from kcls.cli import main; main()"
    done = python(code, **{name: value})
    assert done.returncode == 2
    assert words in done.stderr and "unset" in done.stderr and "Traceback" not in done.stderr


def test_every_public_name_can_be_loaded():
    import kcls

    for name in kcls.__all__:
        assert getattr(kcls, name).__doc__
    assert "tensorflow" in sys.modules  # they are the real ones
