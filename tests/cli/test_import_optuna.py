"""`ledger import --from optuna-journal` and `--from optuna-rdb`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna")

DATA = Path(__file__).parent.parent / "integrations" / "optuna" / "data"
JOURNAL, DATABASE = DATA / "optuna-4.0.0.log", DATA / "optuna-4.0.0.db"


@pytest.mark.parametrize(("source", "origin"), [(JOURNAL, "optuna-journal"), (DATABASE, "optuna-rdb")])
def test_studies_are_imported_and_again_adds_nothing(
    invoke: Callable[..., Any], ledger_path: Path, source: Path, origin: str
) -> None:
    """For people a sentence, for programs an object; tables and history show the studies."""
    first = invoke("import", source, ledger_path, "--from", origin)
    assert first.exit_code == 0, first.output
    assert "3 studies with 18 trials in " in first.output
    assert "18 added, in " in " ".join(first.output.split())
    again = json.loads(invoke("import", source, ledger_path, "--from", origin, "--format", "json").output)
    assert (again["trials"], again["added"], again["changed"], again["known"]) == (18, 0, 0, 18)
    assert (again["studies"][:2], again["skipped"], again["problems"]) == (["tuning", "front"], [], [])
    rows = json.loads(invoke("trials", ledger_path, "tuning", "--format", "json").output)
    assert [row["trial_id"] for row in rows] == list(range(14))
    assert {row["status"] for row in rows} == {"SUCCEEDED", "PRUNED", "FAILED", "PENDING"}
    assert "imported from Optuna" in invoke("history", ledger_path, "tuning", 0).output


def test_one_study_under_another_name(invoke: Callable[..., Any], ledger_path: Path) -> None:
    """--study picks it, --experiment names it."""
    done = invoke("import", DATABASE, ledger_path, "--from", "optuna-rdb", "--study", "front", "--experiment", "Pareto")
    assert "1 study with 4 trials" in done.output
    assert "Pareto" in invoke("experiments", ledger_path).output


def test_broken_entries_are_told_of_on_standard_error(invoke: Callable[..., Any], tmp_path: Path, ledger_path: Path) -> None:
    """And in the object; the exit code is 0, as the others are there."""
    journal = Path(shutil.copy(JOURNAL, tmp_path / "journal.log"))
    with journal.open("ab") as file:
        file.write(b'nonsense\x1b\n{"op_code":4,"wor')
    done = invoke("import", journal, ledger_path, "--from", "optuna-journal", "--format", "json")
    assert done.exit_code == 0
    assert "is damaged, and left out" in done.stderr
    assert "is torn" in done.stderr
    assert "\x1b" not in done.stderr
    facts = json.loads(done.stdout)
    assert (len(facts["problems"]), facts["added"], facts["rejected"]) == (2, 18, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--from", "optuna-journal", "--rewrite"), "--rewrite is not for --from optuna-journal"),
        (("--from", "optuna-rdb", "--step", "x"), "--step is not for --from optuna-rdb"),
        (("--from", "optuna-rdb", "--timezone", "UTC"), "--timezone is not for --from optuna-rdb"),
        (("--study", "x"), "--study is not for --from jsonl"),
        (("--from", "mlxp", "--study", "x"), "--study is not for --from mlxp"),
        (("--from", "optuna-rdb"), "is no SQLite file that can be read"),
        (("--from", "optuna-journal", "--study", "nothing"), "there is no study 'nothing'"),
        (("--from", "optuna-journal", "--experiment", "all"), "there are 3 studies in"),
    ],
)
def test_what_does_not_fit_is_refused(invoke: Callable[..., Any], ledger_path: Path, options: Any, message: str) -> None:
    """Before anything is made."""
    done = invoke("import", JOURNAL, ledger_path, *options)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not ledger_path.exists()


def test_without_optuna_the_command_says_what_to_install(ledger_path: Path) -> None:
    """It names the extra; nothing was made."""
    program = "import sys; sys.modules['optuna'] = None; from ledger.cli.main import main; main()"
    command = [sys.executable, "-c", program, "import", str(JOURNAL), str(ledger_path), "--from", "optuna-journal"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "pip install 'experiment-ledger[optuna]'" in done.stderr
    assert not ledger_path.exists()
