"""What travels with kcls, so that one without its sources has it, too: the recipes, and the web page of an export."""

from pathlib import Path

from kcls.errors import RecipeError, near

_HERE = Path(__file__).parent


def _folder(name: str, sources: str) -> Path:
    """Where a folder is: inside kcls if that came as a wheel, else where its sources have it."""
    return _HERE / name if (_HERE / name).is_dir() else _HERE.parent / sources


FOLDER = _folder("recipes", "recipes")
WEB_PAGE = _folder("web", "export/web")


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
