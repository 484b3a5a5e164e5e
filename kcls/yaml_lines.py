"""YAML with line numbers and without the traps of YAML 1.1: numbers are decimal, a key given twice is an error."""

import re
from typing import Any

import yaml

from kcls.errors import RecipeError


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice."""

    def construct_mapping(self, node, deep=False):
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"key {key.value!r} was already given in line {seen[key.value]}",
                    key.start_mark,
                )
            seen[key.value] = line
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes what ``_Loader`` would read as a number."""


# Numbers are decimal: 010 is not 8, 1:30 is not 90, and 1e-3 is a number.
_NUMBERS = {
    "tag:yaml.org,2002:int": r"[-+]?\d+$",
    "tag:yaml.org,2002:float": r"[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?$|[-+]?\.inf$|\.nan$",
}
for _kind in (_Loader, _Dumper):
    _kind.yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in forms if tag not in _NUMBERS]
        for first, forms in _kind.yaml_implicit_resolvers.items()
    }
    for _tag, _form in _NUMBERS.items():
        _kind.add_implicit_resolver(_tag, re.compile(_form), list("-+.0123456789"))


def _decimal(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _decimal)


def parse_yaml(text: str, name: str) -> tuple[Any, dict[tuple, int]]:
    """The values of a YAML text, and the line (from 1) of each key by its path.

    Raises:
        RecipeError: it is not YAML; the message begins with ``name`` and the line.
    """
    lines: dict[tuple, int] = {}
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node:
            _collect_lines(node, (), lines)
        values = loader.construct_document(node) if node else None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        message = ", ".join(filter(None, (error.context, error.problem)))
        raise RecipeError(f"{name}:{line}: {message or error}") from None
    except RecursionError:
        raise RecipeError(f"{name}: nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that cannot be, such as 2024-13-45
        raise RecipeError(f"{name}: not YAML: {error}") from None
    if node is None:
        raise RecipeError(f"{name}: the recipe is empty")
    return values, lines


def _collect_lines(node: yaml.Node, path: tuple, lines: dict[tuple, int]) -> None:
    if len(path) > 9:
        problem = "nested too deeply; does an alias contain itself?"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                problem = "a key must be a name, not a list or a mapping"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            lines[*path, key.value] = key.start_mark.line + 1
            _collect_lines(value, (*path, key.value), lines)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            lines[*path, i] = value.start_mark.line + 1
            _collect_lines(value, (*path, i), lines)


def dump_yaml(values: Any) -> str:
    """A YAML text that ``parse_yaml`` reads back as the same values."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None)
