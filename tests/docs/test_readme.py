"""The README is run: its Python, then its shell lines on the ledger which the Python made."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
TEXT = README.read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which the README's Python blocks have run, in order."""
    place = tmp_path_factory.mktemp("readme")
    with contextlib.chdir(place), contextlib.redirect_stdout(io.StringIO()) as printed:
        namespace: dict[str, object] = {"__name__": "readme"}
        for block in _blocks("python"):
            exec(compile(block, "README.md", "exec"), namespace)
    (place / "printed").write_text(printed.getvalue())
    return place


def test_the_python_of_the_readme_runs(workplace: Path) -> None:
    """The blocks run as they stand and make the ledger they speak of."""
    assert (workplace / "runs.ledger" / "data.mdb").exists()
    assert "SUCCEEDED" in (workplace / "printed").read_text()


def _shell_lines() -> list[str]:
    lines = [line[2:] for block in _blocks("console") for line in block.splitlines() if line.startswith("$ ledger ")]
    return [line.partition("  #")[0].strip() for line in lines]


@pytest.mark.parametrize("line", _shell_lines())
def test_the_shell_lines_of_the_readme_run(workplace: Path, line: str) -> None:
    """Each command does what it says and ends with exit code 0."""
    command = line.replace("ledger ", f"{sys.executable} -m ledger ", 1)
    done = subprocess.run(command, shell=True, cwd=workplace, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() or ">" in line


def test_the_readme_shows_some_shell_lines() -> None:
    """The test above has something to run."""
    assert len(_shell_lines()) >= 5
    assert shutil.which("git") is None or "<!-- test command -->" in TEXT


def test_every_link_of_the_readme_leads_to_something() -> None:
    """Files linked exist, and a test named behind :: is in its file."""
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", TEXT)
    assert links
    for link in links:
        assert (README.parent / link.partition("#")[0]).exists(), link
    for path, name in re.findall(r"\[`?([\w/]+\.py)::(\w+)`?\]", TEXT):
        assert f"def {name}(" in (README.parent / path).read_text(), f"{path}::{name}"


def test_every_command_is_in_the_readme() -> None:
    """Commands that the program offers are those that the README lists."""
    done = subprocess.run([sys.executable, "-m", "ledger", "--help"], capture_output=True, text=True, check=True)
    offered = set(re.findall(r"^[│ ]*\s([\w-]+)\s{2,}\S", done.stdout, re.MULTILINE)) & _all_words()
    assert offered
    for command in offered:
        assert re.search(rf"\bledger {command}\b|`{command}`", TEXT), command


def _all_words() -> set[str]:
    from ledger.cli.main import app

    return {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
