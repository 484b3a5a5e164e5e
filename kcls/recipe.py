"""The recipe: one YAML file, read into one frozen object, with errors that name the line and the near key."""

import re
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from kcls.errors import RecipeError, near
from kcls.sections import Recipe
from kcls.yaml_lines import parse_yaml

__all__ = ["Recipe", "RecipeError", "changed_keys", "load_recipe", "read_recipe"]


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads and validates a recipe.

    A relative ``data.path`` or ``data.data_dir``, or a local ``model.pretrained``, is taken from the recipe's folder;
    in an override, from the current folder.

    Args:
        path: the YAML file.
        overrides: ``section.key=value`` each, the value in YAML; ``null`` removes the key. They pass the same
            validation.

    Raises:
        RecipeError: the file cannot be read or is not a valid recipe; the message names the file, the line,
            the field, what came, what was expected and the nearest name.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"no recipe at {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read the recipe {path}: {error}") from None
    return read_recipe(text, str(path), path.parent, overrides)


def read_recipe(text: str, name: str, base: Path, overrides: Sequence[str] = ()) -> Recipe:
    """``load_recipe`` of a text that is called ``name`` in messages, and whose relative paths begin at ``base``."""
    values, lines = parse_yaml(text, name)
    if not isinstance(values, dict):
        raise RecipeError(f"{name}: a recipe is a mapping with the keys {', '.join(Recipe.model_fields)}")
    _resolve_paths(values, base)
    origins = {}
    for override in overrides:
        key = _override(values, override)
        origins[key] = f"--set {override}"
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError("\n".join(_explain(p, name, lines, origins) for p in error.errors())) from None


def changed_keys(old: Recipe, new: Recipe) -> list[str]:
    """The keys in which two recipes differ, as ``section.key: old -> new``."""
    a, b = old.resolved(), new.resolved()
    rows = []
    for section in Recipe.model_fields:
        x, y = a.get(section, {}), b.get(section, {})
        rows += [f"{section}.{k}: {x.get(k)} -> {y.get(k)}" for k in {**x, **y} if x.get(k) != y.get(k)]
    return rows


def _override(values: dict, override: str) -> tuple:
    """Sets one ``section.key=value`` in ``values`` and returns its path."""
    key, equals, text = override.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise RecipeError(f"--set {override}: expected section.key=value, such as optimizer.lr=0.05")
    value, _ = parse_yaml(text.strip() or "null", f"--set {override}")
    section = _field(path[:-1])
    if value is None and section and path[-1] not in section.model_fields:  # it would have no effect
        raise RecipeError(f"--set {override}: unknown key {key!r}{near(path[-1], section.model_fields)}")
    target = values
    for part in path[:-1]:
        if target.get(part) is None:
            if value is None:
                return path
            target[part] = {}
        target = target[part]
        if not isinstance(target, dict):
            raise RecipeError(f"--set {override}: {part} has no keys of its own")
    if value is None:
        target.pop(path[-1], None)
    else:
        target[path[-1]] = value
    if path[:1] in (("data",), ("model",)):
        _resolve_paths(values, Path.cwd())
    return path


def _resolve_paths(values: dict, base: Path) -> None:
    data = values.get("data")
    for key in ("path", "data_dir"):
        if isinstance(data, dict) and isinstance(data.get(key), str):
            data[key] = str((base / Path(data[key]).expanduser()).absolute())
    model = values.get("model")
    if isinstance(model, dict) and isinstance(model.get("pretrained"), str):
        model["pretrained"] = _resolve_source(model["pretrained"], base)


def _resolve_source(source: str, base: Path) -> str:
    """Pretrained weights that are a file or a folder, taken from ``base``."""
    if re.match(r"(timm|keras|package)/", source):
        return source
    library, colon, path = source.rpartition(":")
    return f"{library}{colon}{(base / Path(path).expanduser()).absolute()}"


def _explain(problem: Any, name: str, lines: dict[tuple, int], origins: dict[tuple, str]) -> str:
    """One line for one of pydantic's errors: where, which field, what came, what was expected."""
    path = tuple(problem["loc"])
    field = ".".join(map(str, path))
    if not path and (named := re.match(r"(?:Value error, )?([a-z_]+)\.([a-z_0-9]+) ", problem["msg"])):
        path = named.groups()  # a check between sections names the field itself
    origin = next((origins[path[:i]] for i in range(len(path), 0, -1) if path[:i] in origins), None)
    if problem["type"] == "extra_forbidden" and not origin:  # an unknown section that an override began
        origin = next((text for key, text in origins.items() if key[: len(path)] == path), None)
    line = next((lines[path[:i]] for i in range(len(path), 0, -1) if path[:i] in lines), None)
    where = origin or (f"{name}:{line}" if line else name)
    kind, came = problem["type"], problem.get("input")
    if kind == "extra_forbidden":
        parent = _field(path[:-1])
        known = list(parent.model_fields) if parent else []
        return f"{where}: unknown key {field!r}{near(str(path[-1]), known)} (known: {', '.join(known)})"
    if kind == "missing":
        return f"{where}: {field} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if kind == "value_error":
        return f"{where}: {field + ': ' if field else ''}{message}"
    expected = problem.get("ctx", {}).get("expected", "")
    hint = near(str(came), re.findall(r"'(\w+)'", str(expected))) if kind == "literal_error" else ""
    return f"{where}: {field}: {message}, not {came!r}{hint}"


def _field(path: tuple) -> type[BaseModel] | None:
    """The section class at a path, None if there is none."""
    section: type[BaseModel] | None = Recipe
    for part in path:
        field = section.model_fields.get(str(part)) if section else None
        section = None
        for kind in _alternatives(field.annotation) if field else ():
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                section = kind
    return section


def _alternatives(annotation: Any) -> tuple:
    if isinstance(annotation, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)
