"""`ledger import --from mlos`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy")

SCHEMA = """
create table experiment (exp_id, description, root_env_config, git_repo, git_commit);
create table objectives (exp_id, optimization_target, optimization_direction, weight);
create table config (config_id, config_hash);
create table config_param (config_id, param_id, param_value);
create table trial (exp_id, trial_id, config_id, trial_runner_id, ts_start, ts_end, status);
create table trial_result (exp_id, trial_id, metric_id, metric_value);
insert into experiment values ('tuning', 'of a server', 'env.jsonc', 'https://example.invalid', '1a2b');
insert into objectives values ('tuning', 'score', 'min', 0.5);
insert into config values (1, 'a'), (2, 'b');
insert into config_param values (1, 'cache', '64'), (2, 'cache', '128');
insert into trial values ('tuning', 1, 1, null, '2026-01-01 10:00:00', '2026-01-01 11:00:00.5', 'SUCCEEDED');
insert into trial values ('tuning', 2, 2, null, '2026-01-01 12:00:00', null, 'PENDING');
insert into trial values ('tuning', 3, 9, null, '2026-01-01 12:00:00', null, 'PENDING');
insert into trial_result values ('tuning', 1, 'score', '0.5');
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Write a small database as mlos_bench does."""
    connection = sqlite3.connect(tmp_path / "mlos.sqlite")
    connection.executescript(SCHEMA)
    connection.close()
    return tmp_path / "mlos.sqlite"


def test_a_database_is_imported_and_again_adds_nothing(invoke: Callable[..., Any], database: Path, ledger_path: Path) -> None:
    """For people a sentence, for programs an object; what is skipped is told of on standard error."""
    first = invoke("import", database, ledger_path, "--from", "mlos", "--keep-config-ids")
    assert first.exit_code == 0
    assert "3 trials of 1 experiment in" in first.stdout
    assert "2 added, 1 skipped, in" in first.stdout
    assert first.stderr == "skipped: tuning, trial 3: its config 9 is not in the database.\n"
    again = json.loads(invoke("import", database, ledger_path, "--from", "mlos", "--format", "json").stdout)
    assert (again["trials"], again["added"], again["changed"], again["known"]) == (3, 0, 0, 2)
    assert again["skipped"] == [{"experiment": "tuning", "trial": 3, "problem": "its config 9 is not in the database."}]
    assert again["config_ids"] == {}
    shown = json.loads(invoke("trials", ledger_path, "tuning", "--format", "json").stdout)
    assert [(row["trial_id"], row["status"], row["config.cache"]) for row in shown] == [(1, "SUCCEEDED", 64), (2, "PENDING", 128)]


def test_options_that_do_not_fit_are_refused(invoke: Callable[..., Any], database: Path, ledger_path: Path) -> None:
    """Before anything is made."""
    for options, name in ((("--from", "mlos", "--step", "x"), "--step"), (("--keep-config-ids",), "--keep-config-ids")):
        done = invoke("import", database, ledger_path, *options)
        assert done.exit_code == 2
        assert f"{name} is not for --from" in done.stderr
    assert not ledger_path.exists()


def test_a_source_that_is_none_makes_no_ledger(invoke: Callable[..., Any], tmp_path: Path, ledger_path: Path) -> None:
    """The error says what to give."""
    done = invoke("import", tmp_path / "none.sqlite", ledger_path, "--from", "mlos")
    assert (done.exit_code, ledger_path.exists()) == (2, False)
    assert "Give a SQLite file of mlos_bench" in done.stderr


def test_a_database_taken_for_lines_is_told_what_to_say(invoke: Callable[..., Any], database: Path, ledger_path: Path) -> None:
    """Without --from a source is lines of an export: the error names the option."""
    done = invoke("import", database, ledger_path)
    assert (done.exit_code, ledger_path.exists()) == (2, False)
    assert "say which: --from" in done.stderr
