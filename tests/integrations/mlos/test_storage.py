"""The storage: its config, its life, and the program that runs mlos_bench on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from jsonschema import ValidationError
from mlos_bench.config.schemas import ConfigSchema
from mlos_bench.storage import from_config
from mlos_bench.storage.sql.storage import SqlStorage

import ledger
from ledger.integrations.mlos import LedgerStorage, register
from tests.integrations.mlos.conftest import TUNABLES, experiment_of, make_repository

OURS, SQL = "ledger.integrations.mlos.LedgerStorage", "mlos_bench.storage.sql.storage.SqlStorage"
ENVIRONMENT = {
    "name": "Mock environment",
    "class": "mlos_bench.environments.mock_env.MockEnv",
    "include_tunables": ["tunables.jsonc"],
    "config": {
        "tunable_params": ["kernel"], "mock_env_seed": 42, "mock_env_range": [60, 120], "mock_env_metrics": ["score", "time"],
    },
}  # fmt: skip
RUN = {
    "environment": "environment.jsonc", "optimizer": "optimizers/mock_opt.jsonc", "storage": "storage.jsonc",
    "experiment_id": "Mock", "trial_config_repeat_count": 2, "teardown": False, "config_path": ["."],
}  # fmt: skip


def test_a_config_is_checked(ledger_path: Path) -> None:
    """What is no option of it is refused, as everywhere in mlos_bench; and nothing is made."""
    register()
    database = str(ledger_path)
    for config in (
        {},
        {"database": 1},
        {"database": ""},
        {"database": database, "host": "x"},
        {"database": database, "lease_seconds": 0},
    ):
        with pytest.raises(ValidationError):
            LedgerStorage(config)
        with pytest.raises(ValueError, match="Failed to validate config"):
            from_config(json.dumps({"class": OURS, "config": config}))
    with pytest.raises(ValueError, match="Failed to validate"):
        from_config(json.dumps({"class": OURS, "config": {"database": database}, "resolve_config_property_paths": ["host"]}))
    with pytest.raises(ValidationError):
        ConfigSchema.STORAGE.validate({"class": "toy.Storage", "config": {"database": "x"}})
    with pytest.raises(ValidationError):
        ConfigSchema.STORAGE.validate({"class": SQL, "config": {"database": "x", "lease_seconds": 1}})
    assert not ledger_path.exists()


def test_a_config_is_json_with_comments_and_variables(ledger_path: Path, repository: Path) -> None:
    """$name is a global parameter, a global one of the same key replaces it, and paths are found as in mlos_bench."""
    text = """{
        // Comments and trailing commas.
        "class": "CLASS",
        "resolve_config_property_paths": ["database"],
        "config": {"database": "$storage_path", "lazy_schema_create": true, "lease_seconds": 5, "log_sql": false,},
    }"""
    globals_ = json.dumps({"storage_path": str(ledger_path), "lease_seconds": 7})
    with from_config(text.replace("CLASS", OURS), global_configs=[globals_]) as storage:
        assert (repr(storage), storage.lease_seconds) == (f"ledger:{ledger_path}", 7.0)
        assert not ledger_path.exists()
        storage.update_schema()
        assert ledger_path.exists()


def test_a_variable_without_a_value_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is made under its name; a dollar sign is written twice."""
    monkeypatch.chdir(tmp_path)
    for text in ("$place", "runs-${place}.ledger"):
        with pytest.raises(ledger.InvalidValue, match=r"no global parameter 'place'.*--place"):
            from_config(json.dumps({"class": OURS, "config": {"database": text}}), global_configs=['{"plaice": "runs.ledger"}'])
    assert not list(tmp_path.iterdir())
    with LedgerStorage({"database": "$$place"}), LedgerStorage({"database": "5$.ledger"}):
        assert sorted(each.name for each in tmp_path.iterdir()) == ["$place", "5$.ledger"]


def test_without_lazy_creation_the_ledger_is_there_at_once(ledger_path: Path) -> None:
    """And a database of another kind is told from one."""
    with LedgerStorage({"database": str(ledger_path)}):
        assert ledger_path.exists()
    other = ledger_path.parent / "mlos_bench.sqlite"
    other.write_bytes(b"SQLite format 3\0")
    with pytest.raises(ledger.OpenError):
        LedgerStorage({"database": str(other)})


def test_a_derived_class_has_the_same_config(ledger_path: Path) -> None:
    """Its name need not be known to mlos_bench."""

    class Own(LedgerStorage):
        pass

    with Own({"database": str(ledger_path), "drivername": "own"}) as storage:
        assert repr(storage) == f"own:{ledger_path}"


def test_a_storage_in_memory_is_not_sent_elsewhere() -> None:
    """Its ledger would not come along."""
    with LedgerStorage({"database": ":memory:"}) as storage, pytest.raises(ledger.InvalidValue, match="in memory"):
        storage.__getstate__()


def test_the_package_loads_nothing_and_says_what_is_missing(tmp_path: Path) -> None:
    """Importing it leaves mlos_bench alone; the class without it names the extra, and so does the program."""
    blocker = tmp_path / "mlos_bench.py"
    blocker.write_text("raise ModuleNotFoundError('no', name='mlos_bench')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    code = (
        "import sys, ledger.integrations.mlos as m; print('mlos_bench' in sys.modules, 'pandas' in sys.modules); m.LedgerStorage"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.split() == ["False", "False"]
    assert done.stderr.strip().splitlines()[-1].endswith("pip install 'experiment-ledger[mlos]'.")
    program = [sys.executable, "-m", "ledger.integrations.mlos"]
    done = subprocess.run(program, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: mlos_bench is not installed")


@pytest.mark.parametrize(
    ("line", "is_known"),
    [("import ledger.integrations.mlos", False), ("from ledger.integrations.mlos import LedgerStorage", True),
     ("from ledger.integrations.mlos import register; register()", True)],
)  # fmt: skip
def test_a_config_is_read_by_who_imports_the_class_or_registers_it(line: str, is_known: bool) -> None:
    """Not by who imports the package alone, as its documentation says."""
    config = json.dumps({"class": OURS, "config": {"database": ":memory:"}})
    code = f"{line}\nfrom mlos_bench.storage import from_config\nprint(repr(from_config({config!r})))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False, timeout=120)
    assert (done.returncode == 0, "Failed to validate config" in done.stderr) == (is_known, not is_known), done.stderr


def test_the_program_calls_itself_by_what_starts_it() -> None:
    """In its help."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "ledger.integrations.mlos", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
    assert " ".join(done.stdout.split()).startswith("usage: python -m ledger.integrations.mlos [-h]"), done.stdout


@pytest.fixture
def run_program(tmp_path: Path) -> Any:
    """Run a program of mlos_bench's command line in a repository with an environment, an optimizer and a storage."""

    def run(module: str, storage: dict[str, Any], name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        place = tmp_path / name
        if not place.exists():
            place.mkdir()
            files = {"environment": ENVIRONMENT, "tunables": TUNABLES, "cli": RUN, "storage": storage}
            for file, content in files.items():
                (place / f"{file}.jsonc").write_text("// A comment.\n" + json.dumps(content))
            make_repository(place)
        command = [sys.executable, "-m", module, "--config", "cli.jsonc", "--max_suggestions", "4", *arguments]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "ignore"}
        return subprocess.run(command, cwd=place, capture_output=True, text=True, env=environment, check=False)

    return run


@pytest.mark.timeout(900)  # three programs that import mlos_bench, one after the other
def test_the_command_line_gives_the_same_as_on_sql(run_program: Any, tmp_path: Path, ledger_path: Path) -> None:
    """A run of an unmodified config of another class: the same trials, configs, results, telemetry; and it is resumed."""
    database = str(tmp_path / "mlos.sqlite")
    sql = run_program("mlos_bench.run", {"class": SQL, "config": {"drivername": "sqlite", "database": database}}, "sql")
    own = {"class": OURS, "config": {"database": str(ledger_path)}}
    ours = run_program("ledger.integrations.mlos", own, "ours")
    assert (sql.returncode, ours.returncode) == (0, 0), ours.stderr
    assert _score(ours.stderr) == _score(sql.stderr)
    theirs = SqlStorage({"drivername": "sqlite", "database": database})
    with LedgerStorage({"database": str(ledger_path)}) as storage:
        data, expected = storage.experiments["Mock"], theirs.experiments["Mock"]
        times = ["ts_start", "ts_end"]
        pd.testing.assert_frame_equal(data.results_df.drop(columns=times), expected.results_df.drop(columns=times))
        assert (data.default_tunable_config_id, data.objectives) == (expected.default_tunable_config_id, expected.objectives)
        for number, trial in expected.trials.items():
            found = data.trials[number]
            assert found.metadata_dict == trial.metadata_dict
            assert found.telemetry_df[["metric", "value"]].equals(trial.telemetry_df[["metric", "value"]])
            history = found.status_history_df
            changes = history[history["event"] != "polled"]
            assert changes["status"].tolist() == ["PENDING", "READY", "RUNNING", "SUCCEEDED"]
            assert found.ts_start == changes["ts"].iloc[2]
        assert len(expected.trials) == 8
    theirs._engine.dispose()
    again = run_program("ledger.integrations.mlos", own, "ours")
    assert again.returncode == 0, again.stderr
    with LedgerStorage({"database": str(ledger_path)}) as storage:
        assert len(storage.experiments["Mock"].trials) > 8


def _score(output: str) -> str:
    (line,) = [line for line in output.splitlines() if "Final score:" in line]
    return line.rpartition("Final score:")[2]


def test_the_command_line_checks_configs(run_program: Any, ledger_path: Path) -> None:
    """A slip of the pen in the storage's config is refused, and makes nothing."""
    done = run_program("ledger.integrations.mlos", {"class": OURS, "config": {"databse": str(ledger_path)}}, "slip")
    assert done.returncode != 0
    assert "Failed to validate config" in done.stderr
    assert not ledger_path.exists()


def test_the_schema_alone_makes_the_ledger(run_program: Any, ledger_path: Path) -> None:
    """As the option of mlos_bench says, which changes the config on its way."""
    storage = {"class": OURS, "config": {"database": str(ledger_path), "lazy_schema_create": True}}
    done = run_program("ledger.integrations.mlos", storage, "schema", "--create-update-storage-schema-only")
    assert done.returncode == 0, done.stderr
    assert ledger_path.exists()


def test_two_experiments_of_one_ledger_share_configs(ledger_path: Path, repository: Path, tunables: Any) -> None:
    """Numbers of configs are those of the ledger: an equal config has one, whichever experiment tried it."""
    with LedgerStorage({"database": str(ledger_path)}) as storage:
        for name in ("one", "two"):
            with experiment_of(storage, tunables, name) as experiment:
                assert experiment.new_trial(tunables).tunable_config_id == 1
                assert experiment.new_trial(tunables.copy().assign({"idle": "mwait"})).tunable_config_id == 2
        assert sorted(storage.experiments) == ["one", "two"]
