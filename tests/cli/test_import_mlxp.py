"""`ledger import --from mlxp`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RUNS = Path(__file__).parent.parent / "integrations" / "data" / "mlxp_18runs"


def test_runs_are_imported_and_again_adds_nothing(invoke: Callable[..., Any], ledger_path: Path) -> None:
    """For people a sentence, for programs an object."""
    first = invoke("import", RUNS, ledger_path, "--from", "mlxp", "--experiment", "sweep")
    assert first.exit_code == 0
    assert "18 runs" in first.output
    assert "18 added, in experiment sweep" in first.output
    again = json.loads(invoke("import", RUNS, ledger_path, "--from", "mlxp", "--experiment", "sweep", "--format", "json").output)
    assert (again["runs"], again["added"], again["known"], again["skipped"]) == (18, 0, 18, [])


def test_a_broken_run_is_told_of_on_standard_error(invoke: Callable[..., Any], tmp_path: Path, ledger_path: Path) -> None:
    """And in the object; the exit code is 0, as the others are there."""
    logs = shutil.copytree(RUNS, tmp_path / "logs")
    (logs / "3/metadata/info.yaml").write_text("")
    (logs / "4/metrics/train.json").write_text('{"loss": 1}\n{"lo\n')
    done = invoke("import", logs, ledger_path, "--from", "mlxp", "--format", "json")
    assert done.exit_code == 0
    assert "skipped: run 3: metadata/info.yaml is empty" in done.stderr
    assert "note: run 4: metrics/train.json, line 2 is broken" in done.stderr
    facts = json.loads(done.stdout)
    assert [each["run"] for each in facts["skipped"]] == ["3"]
    assert [each["run"] for each in facts["problems"]] == ["4"]


def test_an_import_that_skipped_every_run_ends_with_1(invoke: Callable[..., Any], tmp_path: Path, ledger_path: Path) -> None:
    """For a script that does not read what is told."""
    shutil.copytree(RUNS / "3", tmp_path / "logs/3")
    (tmp_path / "logs/3/metadata/info.yaml").write_text("")
    done = invoke("import", tmp_path / "logs", ledger_path, "--from", "mlxp")
    assert (done.exit_code, "1 run in" in done.stdout, ": 1 skipped, in" in done.stdout) == (1, True, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--from", "mlxp", "--rewrite"), "--rewrite is not for --from mlxp"),
        (("--from", "mlxp", "--artifacts", "x"), "--artifacts is not for --from mlxp"),
        (("--experiment", "x"), "--experiment is not for --from jsonl"),
        (("--from", "mlxp", "--timezone", "Mars"), "there is no time zone 'Mars'"),
        (("--from", "mlxp", "--timezone", "../x"), "is no time zone"),
    ],
)
def test_options_that_do_not_fit_are_refused(invoke: Callable[..., Any], ledger_path: Path, options: Any, message: str) -> None:
    """Before anything is made."""
    done = invoke("import", RUNS, ledger_path, *options)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not ledger_path.exists()


def test_a_source_that_is_none_makes_no_ledger(invoke: Callable[..., Any], tmp_path: Path) -> None:
    """The error says what to give."""
    done = invoke("import", tmp_path / "nothing", tmp_path / "runs.ledger", "--from", "mlxp")
    assert (done.exit_code, (tmp_path / "runs.ledger").exists()) == (2, False)
    assert "MLXP's log directory" in done.stderr
