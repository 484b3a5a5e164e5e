"""The plan of the house: who may import whom."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "kcls"
FILES = sorted(PACKAGE.rglob("*.py"))

# Which parts of kcls each part may import, by the first name below kcls.
ALLOWED = {
    "errors": set(),
    "files": set(),
    "backend": {"errors"},
    "labels": {"errors"},
    "formats": set(),
    "models": {"errors", "catalogue"},
    "catalogue": {"errors", "models", "weights"},  # models and weights only when the file is written
    "weights": {"errors", "files", "labels", "models", "run", "data"},
    "yaml_lines": {"errors"},
    "sections": {"errors", "yaml_lines", "formats"},
    "recipe": {"errors", "yaml_lines", "sections"},
    "printing": set(),
    "data": {"errors", "labels", "backend", "recipe", "sections"},
    "run": {"errors", "labels", "files", "recipe"},
    "artifact": {"errors", "labels", "backend", "formats", "data", "run", "models"},
    "predictions": {"errors", "files", "data", "artifact"},
    "prediction": {"errors", "artifact", "data", "run"},
    "methods": {"models"},
    "training": {
        "methods",
        "errors",
        "backend",
        "files",
        "recipe",
        "sections",
        "run",
        "data",
        "models",
        "weights",
        "__version__",
    },
    "evaluation": {"errors", "backend", "files", "recipe", "run", "data", "artifact", "predictions"},
    "exporting": {
        "errors",
        "labels",
        "backend",
        "files",
        "formats",
        "sections",
        "run",
        "data",
        "artifact",
        "predictions",
    },
    "cli": {
        "errors",
        "formats",
        "weights",
        "printing",
        "recipe",
        "run",
        "artifact",
        "catalogue",
        "training",
        "evaluation",
        "exporting",
        "prediction",
    }
    | {"__version__"},
    "__main__": {"cli"},
}


def imports(path: Path) -> set[str]:
    """Full names of what a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down_only(path):
    if path == PACKAGE / "__init__.py":
        return  # the public names, from everywhere
    own = room(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "kcls" and parts[1] != own:
            assert parts[1] in ALLOWED[own], f"{path.name} imports {name}"


@pytest.mark.parametrize("path", [p for p in FILES if room(p) == "models"], ids=lambda p: p.name)
def test_models_import_keras_but_never_tensorflow(path):
    assert not {name for name in imports(path) if name.split(".")[0].startswith("tensorflow")}


@pytest.mark.parametrize("path", [p for p in FILES if "@variants" in p.read_text()], ids=lambda p: p.name)
def test_every_architecture_names_its_paper(path):
    if path.name != "registry.py":
        assert "\nPaper: " in ast.get_docstring(ast.parse(path.read_text()))


def test_there_is_no_drawer():
    assert not {p.stem for p in FILES} & {"utils", "common", "helpers", "base", "misc"}
