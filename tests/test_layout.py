"""The plan of the house: who may import whom."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "kcls"
FILES = sorted(PACKAGE.rglob("*.py"))

# Which parts of kcls each part may import, by the first name below kcls.
ALLOWED = {
    "errors": set(),
    "files": {"errors"},
    "backend": {"errors"},
    "labels": {"errors"},
    "formats": set(),
    "options": {"errors"},
    "models": {"errors", "options"},
    "catalogue": {"errors", "options"},
    "weights": {"errors", "labels", "models", "quantization"},
    "write_catalogue": {"catalogue", "models", "weights"},
    "yaml_lines": {"errors"},
    "splits": set(),
    "section": set(),
    "train_section": {"section"},
    "sections": {"errors", "yaml_lines", "formats", "splits", "section", "train_section"},
    "recipe": {"errors", "yaml_lines", "sections"},
    "printing": set(),
    "data": {"errors", "labels", "backend", "recipe", "sections", "splits"},
    "run": {"errors", "labels", "files", "recipe"},
    "artifact": {"errors", "labels", "backend", "formats", "data", "run", "weights", "pretrained"},
    "predictions": {"errors", "files", "data", "artifact"},
    "prediction": {"errors", "artifact", "data", "run"},
    "pretrained": {"errors", "models", "weights", "run", "data"},
    "methods": {"models"},
    "quantization": {"errors", "backend"},
    "training": {
        "quantization",
        "methods",
        "train_section",
        "errors",
        "backend",
        "files",
        "recipe",
        "sections",
        "run",
        "data",
        "models",
        "pretrained",
        "weights",
        "__version__",
    },
    "evaluation": {"errors", "labels", "backend", "files", "recipe", "run", "data", "artifact", "predictions"},
    "exporting": {
        "errors",
        "labels",
        "backend",
        "files",
        "formats",
        "section",
        "sections",
        "run",
        "data",
        "artifact",
        "predictions",
        "weights",
        "quantization",
        "shipped",
    },
    "shipped": {"errors"},
    "starter": {"errors", "yaml_lines", "data"},
    "cli": {
        "starter",
        "shipped",
        "files",
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


def imports(path: Path, package: Path = PACKAGE) -> set[str]:
    """Full names of what a file imports, also within functions and for the type checker only."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = path.relative_to(package.parent).parts[: -node.level] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rooms_of(names: set[str]) -> set[str]:
    """The rooms among imported names."""
    return {name.split(".")[1] for name in names if name.startswith("kcls.")}


def test_a_relative_import_is_seen(tmp_path):
    file = tmp_path / "kcls" / "models" / "file.py"
    file.parent.mkdir(parents=True)
    file.write_text("from ..training import loop\nfrom .. import run\nfrom . import blocks\nfrom .vit import vit\n")
    names = {"kcls.training.loop", "kcls.run", "kcls.models.blocks", "kcls.models.vit.vit"}
    assert imports(file, tmp_path / "kcls") == names
    init = file.with_name("__init__.py")
    init.write_text("from .blocks import conv")
    assert imports(init, tmp_path / "kcls") == {"kcls.models.blocks.conv"}


def test_the_rooms_have_no_circle():
    graph: dict[str, set[str]] = {}
    for path in FILES:
        if path != PACKAGE / "__init__.py":  # the public names, each loaded when it is first used
            graph.setdefault(room(path), set()).update(rooms_of(imports(path)) - {room(path)})
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down_only(path):
    if path == PACKAGE / "__init__.py":
        return  # the public names, from everywhere
    assert rooms_of(imports(path)) <= ALLOWED[room(path)] | {room(path)}


@pytest.mark.parametrize("path", [p for p in FILES if room(p) == "models"], ids=lambda p: p.name)
def test_models_import_keras_but_never_tensorflow(path):
    assert not {name for name in imports(path) if name.split(".")[0].startswith("tensorflow")}


@pytest.mark.parametrize("path", [p for p in FILES if "@variants" in p.read_text()], ids=lambda p: p.name)
def test_every_architecture_names_its_paper(path):
    if path.name != "registry.py":
        assert "\nPaper: " in ast.get_docstring(ast.parse(path.read_text()))


def test_there_is_no_drawer():
    assert not {p.stem for p in FILES} & {"utils", "common", "helpers", "base", "misc"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_has_at_most_300_lines_and_a_function_60(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    assert not [f.name for f in functions if f.end_lineno - f.lineno >= 60]
