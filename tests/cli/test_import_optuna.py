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

optuna = pytest.importorskip("optuna")
from optuna.storages import JournalStorage  # noqa: E402 - when it is there
from optuna.storages.journal import JournalFileBackend  # noqa: E402

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


def _journal(path: Path, seed: int, count: int) -> Path:
    storage = JournalStorage(JournalFileBackend(str(path)))
    study = optuna.create_study(storage=storage, study_name="my tuning", sampler=optuna.samplers.RandomSampler(seed=seed))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=count)
    return path


def test_another_study_of_the_same_name_is_refused(invoke: Callable[..., Any], tmp_path: Path, ledger_path: Path) -> None:
    """The exit code is 4, the cure can be pasted, and its trials are counted; there is nothing of it in the ledger."""
    first, other = (_journal(tmp_path / f"{seed}.log", seed, 5 * seed) for seed in (1, 2))
    assert invoke("import", first, ledger_path, "--from", "optuna-journal").exit_code == 0
    done = invoke("import", other, ledger_path, "--from", "optuna-journal")
    assert done.exit_code == 4
    assert "refused: study my tuning: another study of that name is there: trial 0 is another one." in done.stderr
    assert "--study 'my tuning' --experiment 'my tuning-2'" in done.stderr
    assert "1 study with 10 trials in" in done.stdout
    assert ": 10 skipped, in" in done.stdout
    facts = json.loads(invoke("import", other, ledger_path, "--from", "optuna-journal", "--format", "json").stdout)
    assert ([each["study"] for each in facts["refused"]], facts["left_out"], facts["added"]) == (["my tuning"], 10, 0)
    assert len(json.loads(invoke("trials", ledger_path, "my tuning", "--format", "json").output)) == 5
    cured = invoke(
        "import", other, ledger_path, "--from", "optuna-journal", "--study", "my tuning", "--experiment", "my tuning-2"
    )
    assert cured.exit_code == 0


def test_an_import_that_skipped_everything_ends_with_1(invoke: Callable[..., Any], tmp_path: Path, ledger_path: Path) -> None:
    """It says of how many trials."""
    journal = _journal(tmp_path / "journal.log", 1, 2)
    assert invoke("import", journal, ledger_path, "--from", "optuna-journal").exit_code == 0
    for number in (0, 1):
        invoke("amend", ledger_path, "my tuning", number, "--result", "value=7", "--reason", "read again")
    done = invoke("import", journal, ledger_path, "--from", "optuna-journal")
    assert done.exit_code == 1
    assert "skipped: study my tuning: 2 trials were changed in the ledger since they were imported" in done.stderr
    assert ": 2 skipped, in" in done.stdout


def test_a_source_without_studies_is_refused(invoke: Callable[..., Any], tmp_path: Path, ledger_path: Path) -> None:
    """No ledger is made of it."""
    (tmp_path / "empty.log").touch()
    done = invoke("import", tmp_path / "empty.log", ledger_path, "--from", "optuna-journal")
    assert done.exit_code == 2
    assert f"there are no studies in {tmp_path / 'empty.log'}" in done.stderr
    assert not ledger_path.exists()


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
        (("--from", "optuna-journal", "--experiment", "all"), "--study tuning --experiment all"),
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
