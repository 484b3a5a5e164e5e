"""The recipes that travel with kcls, so that one without its sources has them, too."""

from pathlib import Path

from kcls.errors import RecipeError, near

_HERE = Path(__file__).parent
FOLDER = _HERE / "recipes" if (_HERE / "recipes").is_dir() else _HERE.parent / "recipes"  # of a wheel; of the sources


def list_recipes() -> dict[str, str]:
    """What each is for, by name: the comment at its beginning."""
    return {file.stem: _comment(file.read_text(encoding="utf-8")) for file in sorted(FOLDER.glob("*.yaml"))}


def recipe_text(name: str) -> str:
    """The recipe of that name.

    Raises:
        RecipeError: there is none.
    """
    known = [file.stem for file in FOLDER.glob("*.yaml")]
    if name not in known:
        raise RecipeError(f"kcls brings no recipe {name!r}{near(name, known)}; `kcls recipes` lists them")
    return (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def _comment(text: str) -> str:
    """The lines before the first key."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return "\n".join(lines)
