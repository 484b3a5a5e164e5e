"""What the README says is true."""

import re
from pathlib import Path

import pytest
from conftest import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


def test_the_quickstart_is_two_commands_of_files_that_exist():
    block = re.search(r"<!-- quickstart -->\n```sh\n(.*?)```", README, re.DOTALL)[1]
    first, second = block.strip().splitlines()
    assert first.startswith("python3 -m venv") and "kcls train recipes/digits.yaml" in first
    assert second == "pytest"


def test_every_file_that_is_named_exists():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
    for recipe in re.findall(r"recipes/\w+\.yaml", README):
        assert (ROOT / recipe).exists(), recipe


@pytest.mark.heavy
@pytest.mark.parametrize("code", [code for kind, code in BLOCKS if kind == "python"])
def test_the_python_example_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102
    assert Path("digits.keras").is_file()


def test_every_option_and_command_that_is_named_exists(cli):
    commands = ([], ["train"], ["evaluate"], ["predict"], ["export"], ["benchmark"])
    text = "".join(cli(*command, "--help").out for command in commands)
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", "".join(c for k, c in BLOCKS if k == "sh")))
    assert named - {"--version"} <= set(re.findall(r"--[a-z][a-z-]+", text + cli("models", "--help").out))
