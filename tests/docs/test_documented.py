"""The documentation against the code: what is public is listed, explained, and shown by an example."""

from __future__ import annotations

import doctest
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ledger
from ledger import errors, events, registry, state

ROOT = Path(__file__).parents[2]
HEAVY = {"pandas", "numpy", "watchdog", "typer", "rich", "asyncio", "projections"}
CORE_TYPES = sorted(events.VOCABULARY)


def test_the_public_names_are_those_listed() -> None:
    """__all__ names what there is, nothing twice, and every public name of the package is in it."""
    assert len(set(ledger.__all__)) == len(ledger.__all__)
    missing = [name for name in ledger.__all__ if not hasattr(ledger, name)]
    assert missing == []
    modules = {name for name, value in vars(ledger).items() if inspect.ismodule(value)}
    public = {name for name in vars(ledger) if not name.startswith("_")} - modules
    assert public == set(ledger.__all__)


@pytest.mark.parametrize("name", sorted(set(ledger.__all__) - {"ANY", "NO_STREAM", "Command"}))
def test_every_public_name_has_a_docstring(name: str) -> None:
    """One imperative or descriptive line at least, ending as a sentence does."""
    first = (inspect.getdoc(getattr(ledger, name)) or "").split("\n")[0]
    assert len(first) > 10
    assert first.rstrip(":").endswith((".", "!", "?")) or ";" in first or "," in first or first.endswith(")")


def test_the_tree_of_errors_is_the_one_drawn() -> None:
    """Every error is in the drawing at the top of errors.py, under its base."""
    drawn: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^( {4}[│├└─ ]*)([A-Z]\w+)", line)
        if match:
            drawn.append((len(match.group(1)), match.group(2)))
    stack: list[tuple[int, str]] = []
    for depth, name in drawn:
        while stack and stack[-1][0] >= depth:
            stack.pop()
        if stack:
            assert stack[-1][1] in [base.__name__ for base in getattr(errors, name).__bases__]
        stack.append((depth, name))
    assert sorted(name for _, name in drawn) == sorted(errors.__all__)


def test_every_event_class_of_the_package_is_in_the_vocabulary() -> None:
    """A class that was written and not exported would be recorded, and unknown to the state machine."""
    written = {name for name, kind in registry.all_types().items() if kind.cls.__module__.startswith("ledger.events")}
    assert written == set(CORE_TYPES)


@pytest.mark.parametrize("name", CORE_TYPES)
def test_every_event_type_is_explained_shown_and_has_its_meaning(name: str) -> None:
    """A docstring, an example that runs, a place in the module's list and one in state.py."""
    cls = registry.all_types()[name].cls
    assert doctest.DocTestFinder().find(cls, name, globs={})[0].examples
    assert re.search(rf"\b{name}\b", events.__doc__ or "")
    source = Path(state.__file__).read_text()
    assert f"ev.{name}" in source or name == "ClockSkewed"


def test_the_status_machine_in_the_docstring_is_the_table() -> None:
    """Every transition of the table is named in the drawing of state.py."""
    drawing = state.__doc__ or ""
    for cls, (_, status) in state.TRANSITIONS.items():
        if status is not None:
            assert cls.__name__ in drawing
            assert status.value in drawing


def test_importing_the_package_loads_nothing_heavy() -> None:
    """`import ledger` leaves pandas, watchdog, typer, rich and asyncio alone: a worker that only appends starts fast."""
    code = f"import sys, ledger; print(sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_appending_loads_nothing_heavy_either(tmp_path: Path) -> None:
    """Opening, recording a trial and closing need no pandas and no watchdog."""
    code = f"""
import sys, ledger
with ledger.open(sys.argv[1]) as book:
    with book.experiment("e").new_trial(dict(a=1)).run() as trial:
        trial.log(step=1, loss=1.0)
print(sorted({HEAVY} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "l")], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_word_projections_is_not_known_to_the_core() -> None:
    """The read side is above the core: no core module imports it."""
    doors = {*ROOT.glob("ledger/cli/*.py"), *ROOT.glob("ledger/integrations/**/*.py")}
    for path in set(ROOT.glob("ledger/**/*.py")) - doors:
        assert not re.search(r"^\s*(from|import) projections", path.read_text(), re.MULTILINE), path


def test_files_and_functions_stay_readable() -> None:
    """No module over 400 lines, no function over 60."""
    import ast

    for path in [*ROOT.glob("ledger/**/*.py"), *ROOT.glob("projections/**/*.py")]:
        text = path.read_text()
        assert text.count("\n") <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno <= 60, f"{path}:{node.name}"


def test_the_changelog_names_the_version() -> None:
    """The version of the package has its entry."""
    assert (
        f"## {ledger.__version__}" in (ROOT / "CHANGELOG.md").read_text()
        or "## Unreleased" in (ROOT / "CHANGELOG.md").read_text()
    )


def test_every_setting_of_open_is_explained() -> None:
    """Each parameter of ledger.open is named in its docstring."""
    text = inspect.getdoc(ledger.open) or ""
    for name in inspect.signature(ledger.open).parameters:
        assert f"``{name}" in text, name
