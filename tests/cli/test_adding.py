"""add and renew: trials come into the queue, and stay a script's, without Python."""

from __future__ import annotations

import datetime as dt
import json
import time

import pytest

import ledger


@pytest.fixture
def path(tmp_path):
    """An empty ledger."""
    ledger.open(tmp_path / "queue.ledger").close()
    return tmp_path / "queue.ledger"


def states(path):
    with ledger.open(path) as book:
        return [trial.state for trial in book.get_experiment("tuning").trials()]


def test_a_trial_is_added_with_all_that_the_queue_knows_of_it(invoke, path):
    """Values keep their types; the experiment is created with its objectives, which is said."""
    result = invoke("add", path, "tuning", "--objective", "loss=min", "--param", "lr=0.1", "-p", "mode=wal", "--priority", 3)
    assert (result.exit_code, result.stdout) == (0, "Added trial 1 to tuning.\n")
    assert result.stderr == "note: created the experiment tuning.\n"
    more = ["--depends-on", 1, "--worker", "w1", "--at", "2h", "--group", "g", "--label", "big", "--max-attempts", 1]
    assert json.loads(invoke("add", path, "tuning", *more, "--format", "json").stdout) == {
        "experiment": "tuning",
        "trial_ids": [2],
    }
    first, second = states(path)
    assert (first.config, first.priority) == ({"lr": 0.1, "mode": "wal"}, 3)
    assert (second.assigned_to, second.group, second.label, second.max_attempts) == ("w1", "g", "big", 1)
    assert second.depends_on == (first.stream,)
    assert 7_000 < (second.scheduled_at - time.time_ns()) / 1e9 <= 7_200
    with ledger.open(path) as book:
        assert book.get_experiment("tuning").objectives == {"loss": "min"}


def test_a_trial_is_added_as_one_that_has_ended(invoke, path):
    """With its results; a time is ISO 8601, too."""
    assert invoke("add", path, "tuning", "--status", "PRUNED", "--result", "loss=0.5").exit_code == 0
    assert invoke("add", path, "tuning", "--at", "2040-01-02").exit_code == 0
    ended, later = states(path)
    assert (ended.status, ended.results) == ("PRUNED", {"loss": 0.5})
    assert later.scheduled_at == dt.datetime(2040, 1, 2, tzinfo=dt.UTC).timestamp() * 1e9


def test_configs_come_from_a_file_or_standard_input_all_or_none(invoke, path, tmp_path):
    """A line each; one that is no config is named, and then none is added."""
    file = tmp_path / "configs.jsonl"
    file.write_text('{"lr": 0.1}\n\n{"lr": 0.2, "shape": {"$tuple": [1, 2]}}\n')
    result = invoke("add", path, "tuning", "--from", file, "--priority", 2)
    assert result.stdout == "Added 2 trials to tuning: 1 to 2.\n"
    assert invoke("add", path, "tuning", "--from", "-", input='{"lr": 0.3}').stdout == "Added trial 3 to tuning.\n"
    assert [(state.config, state.priority) for state in states(path)] == [
        ({"lr": 0.1}, 2), ({"lr": 0.2, "shape": (1, 2)}, 2), ({"lr": 0.3}, 0),
    ]  # fmt: skip
    for bad, said in (('{"lr": 1}\n[1]', "line 2"), ('{"lr": 1}\n{"lr"', "line 2"), ('{"lr": {"$tuple": 1}}', "line 1")):
        file.write_text(bad)
        result = invoke("add", path, "tuning", "--from", file)
        assert (result.exit_code, said in result.stderr) == (2, True)
    assert invoke("add", path, "tuning", "--from", tmp_path / "none").exit_code == 2
    assert invoke("add", path, "tuning", "--from", file, "--param", "lr=1").exit_code == 2
    assert len(states(path)) == 3


def test_bad_values_create_nothing(invoke, path):
    """No experiment is left behind by a trial that was refused."""
    for words in (["--status", "DONE"], ["--depends-on", 7], ["--at", "soon"], ["--param", "lr"], ["--objective", "loss=less"]):
        result = invoke("add", path, "tuning", *words)
        assert result.exit_code in (2, 4), words
    with ledger.open(path) as book:
        assert list(book.experiments()) == []


def test_a_script_renews_its_lease(invoke, path):
    """It is for as long again as was claimed; an attempt that is lost is told so by exit code 4."""
    invoke("add", path, "tuning")
    invoke("claim", path, "tuning", "--lease-seconds", 600)
    before = states(path)[0].deadline
    result = invoke("renew", path, "tuning", 1, "--attempt", 1, "--format", "json")
    assert json.loads(result.stdout)["events"][0]["type"] == "LeaseRenewed"
    assert states(path)[0].deadline > before
    invoke("cancel", path, "tuning", 1)
    assert invoke("renew", path, "tuning", 1, "--attempt", 1).exit_code == 4
