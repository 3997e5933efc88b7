"""Differences of two trials, and of one trial at two moments; for people and, as a contract, for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import ledger
from ledger.difference import SECTIONS
from ledger.values import from_json

BEGIN = 1_800_000_000_000_000_000
SECOND = 1_000_000_000


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """Make a ledger with trials 1 and 2 of `tuning`, which differ in everything, 3 and 4 in nothing but their times."""
    path = tmp_path / "pair.ledger"
    time = [BEGIN]

    def tick() -> int:
        time[0] += SECOND
        return time[0]

    with ledger.open(path, actor="ada@box/1", clock=tick) as book:
        exp = book.experiment("tuning")
        exp.capture_environment({"python": "3.13", "git": {"commit": "abc", "dirty": False}})
        one = exp.new_trial({"lr": 0.1, "same": 1, "gone": None})
        two = exp.new_trial({"lr": 0.2, "same": 1.0}, label="big", group="g", parents=[one])
        for trial in (one, two):
            trial.start()
        one.log(step=1, loss=0.5, at=BEGIN)
        one.log(step=2, loss=0.4, at=BEGIN)
        one.flush()
        one.note("fan was off")
        one.tag("a")
        one.set_attributes({"seed": 1}, namespace="optuna")
        one.complete({"ms": float("nan"), "rows": 7})
        two.capture_environment({"python": "3.14"})
        two.fail(OSError("disk full"), {"ms": 2.0})
        for _ in range(2):
            exp.new_trial({"lr": 0.3}).cancel()
        book.experiment("other").new_trial({"lr": 0.1, "same": 1, "gone": None})
    return path


def answer(invoke, *words: object) -> dict:
    """Return what diff says as JSON."""
    result = invoke("diff", *words, "--format", "json")
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return json.loads(result.stdout)


def test_the_contract_of_two_trials(call, pair):
    """The JSON of two trials has the sides, every section, and for each name the sides that have a value; as a process."""
    done = call("diff", pair, "tuning", 1, 2, "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    with ledger.open(pair) as book:
        exp = book.get_experiment("tuning")
        head, streams = book.log.head, [exp.trial(number).stream for number in (1, 2)]
        versions = [book.log.version(stream) for stream in streams]
    assert list(found) == ["left", "right", "differs", *SECTIONS]
    assert found["left"] == {
        "experiment": "tuning", "experiment_id": str(exp.id), "trial_id": 1, "position": head, "version": versions[0],
    }  # fmt: skip
    assert found["differs"] is True
    assert found["status"] == {"status": {"left": "SUCCEEDED", "right": "FAILED"}, "error": {"right": "OSError: disk full"}}
    assert found["config"] == {
        "lr": {"left": 0.1, "right": 0.2}, "same": {"left": 1, "right": 1.0}, "gone": {"left": None},
    }  # fmt: skip
    assert found["environment"] == {
        "python": {"left": "3.13", "right": "3.14"}, "git.commit": {"left": "abc"}, "git.dirty": {"left": False},
    }  # fmt: skip
    assert found["results"] == {"ms": {"left": {"$float": "nan"}, "right": 2.0}, "rows": {"left": 7}}
    assert found["labels"] == {
        "tags": {"left": ["a"]}, "attribute.optuna.seed": {"left": 1}, "label": {"right": "big"}, "group": {"right": "g"},
        "parents": {"right": [streams[0]]},
    }  # fmt: skip
    assert found["notes"] == {"fan was off": {"left": 1}}
    assert found["metrics"] == {"loss": {"left": {"value": 0.4, "step": 2, "points": 2}}}
    assert found["events"] == {
        "AttributesSet": {"left": 1}, "MetricsLogged": {"left": 1}, "NoteAdded": {"left": 1}, "TagsChanged": {"left": 1},
        "TrialCompleted": {"left": 1}, "EnvironmentCaptured": {"right": 1}, "TrialFailed": {"right": 1},
    }  # fmt: skip
    assert set(found["times"]) == {"created_at", "started_at", "ended_at", "run_seconds"}
    assert found["times"]["created_at"]["left"].startswith("2027-01-15T08:00:")
    assert isinstance(found["times"]["run_seconds"]["left"], float)


def test_for_people(invoke, pair):
    """A row for each difference with both values; a side without one has a dash, and null is a value."""
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in invoke("diff", pair, "tuning", 1, 2).stdout.splitlines()}
    assert lines["tuning/1"] == "tuning/2"
    assert lines["status"] == "SUCCEEDED FAILED"
    assert lines["config.lr"] == "0.1 0.2"
    assert lines["config.gone"] == "None -"
    assert lines["result.rows"] == "7 -"
    assert lines["parents"] == "- tuning/1"
    assert lines["note"] == "fan was off -"
    assert lines["metric.loss"] == "0.4 at step 2, 2 points -"
    assert lines["event.TrialFailed"] == "- 1"
    assert "attempt" not in lines


def test_trials_that_are_alike(invoke, pair):
    """Trials that differ in their times alone are said to; a trial and itself do not differ at all."""
    text = invoke("diff", pair, "tuning", 3, 4).stdout
    assert text.startswith("no differences between tuning/3 and tuning/4 but their times.\n")
    assert "created_at" in text
    assert "config" not in text
    assert invoke("diff", pair, "tuning", 3, 3).stdout == "no differences between tuning/3 and tuning/3.\n"
    assert answer(invoke, pair, "tuning", 3, 3)["differs"] is False


def test_everything(invoke, pair):
    """--all has what is equal, too."""
    assert answer(invoke, pair, "tuning", 3, 4, "--all")["config"] == {"lr": {"left": 0.3, "right": 0.3}}
    text = invoke("diff", pair, "tuning", 3, 3, "--all").stdout
    assert text.startswith("no differences")
    assert "config.lr" in text


def test_trials_of_two_experiments(invoke, pair):
    """--other-experiment compares across experiments; each side has its own environment."""
    found = answer(invoke, pair, "tuning", 1, 1, "--other-experiment", "other")
    assert (found["left"]["experiment"], found["right"]["experiment"]) == ("tuning", "other")
    assert found["config"] == {}
    assert found["environment"]["python"] == {"left": "3.13"}


def test_one_trial_at_two_positions(invoke, pair):
    """--from and --to compare a trial with itself, with the records between; without --to with how it is now."""
    with ledger.open(pair) as book:
        records = list(book.get_experiment("tuning").trial(1).history())
        head = book.log.head
    started, completed = (
        next(record.position for record in records if record.type == name) for name in ("TrialStarted", "TrialCompleted")
    )
    found = answer(invoke, pair, "tuning", 1, "--from", started)
    assert (found["left"]["position"], found["right"]["position"]) == (started, head)
    assert [record["position"] for record in found["records"]] == [r.position for r in records if r.position > started]
    assert found["status"] == {"status": {"left": "RUNNING", "right": "SUCCEEDED"}}
    assert found["results"] == {"ms": {"right": {"$float": "nan"}}, "rows": {"right": 7}}
    before = answer(invoke, pair, "tuning", 1, "--from", started, "--to", completed - 1)
    assert (before["results"], len(before["records"])) == ({}, len(found["records"]) - 1)
    text = invoke("diff", pair, "tuning", 1, "--from", completed - 1, "--to", completed).stdout
    assert text.splitlines()[0].split() == ["tuning/1", "at", str(completed - 1), "at", str(completed)]
    assert text.splitlines()[-2] == "between them:"
    assert text.splitlines()[-1].endswith("completed trial 1 of tuning with ms=nan, rows=7.")
    nothing = invoke("diff", pair, "tuning", 1, "--from", completed).stdout
    assert nothing == f"no differences between tuning/1 at {completed} and at {head}.\n"


def test_corrections_show(invoke, pair):
    """Amended results and notes count on their side, withdrawn ones are gone, deleted trials are compared as well."""
    with ledger.open(pair, clock=lambda: BEGIN + 1000 * SECOND) as book:
        head = book.log.head
        one = book.get_experiment("tuning").trial(1)
        [note] = [record.version for record in one.history() if record.type == "NoteAdded"]
        one.amend(results={"ms": 1.5}, withdraw=["rows"], reason="wrong disk")
        one.amend_note(note, "fan was on", reason="asked again")
        one.delete()
    found = answer(invoke, pair, "tuning", 1, "--from", head)
    assert found["results"] == {"ms": {"left": {"$float": "nan"}, "right": 1.5}, "rows": {"left": 7}}
    assert found["notes"] == {"fan was off": {"left": 1}, "fan was on": {"right": 1}}
    assert found["status"] == {"is_amended": {"left": False, "right": True}}
    assert list(found["times"]) == ["deleted_at"]


def test_values_keep_their_types(invoke, sample, odd):
    """Values that JSON cannot say are tagged, and equal ones of any type are equal: NaN as well."""
    assert answer(invoke, sample, "sqlite-tuning", 5, 5)["config"] == {}
    found = answer(invoke, sample, "sqlite-tuning", 1, 5)["config"]
    assert from_json(found["shape"]["right"]) == odd["shape"]
    assert from_json(found["big"]["right"]) == odd["big"]
    assert found["$odd"] == {"right": None}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["tuning", "1"], 2, "--from POSITION"),
        (["tuning", "1", "--to", "5"], 2, "--to needs --from"),
        (["tuning", "1", "--other-experiment", "other"], 2, "give OTHER"),
        (["tuning", "1", "2", "--from", "5"], 2, "not both"),
        (["tuning", "1", "2", "--to", "5"], 2, "not both"),
        (["tuning", "1", "--from", "5", "--other-experiment", "other"], 2, "not both"),
        (["tuning", "1", "--from", "9", "--to", "9"], 2, "is not before"),
        (["tuning", "1", "--from", "0"], 2, "--from"),
        (["tuning", "1", "--from", "x"], 2, "--from"),
        (["tuning", "1", "--from", "1"], 4, "it was created at position 3"),
        (["tuning", "1", "99"], 4, "no trial 99"),
        (["tuning", "1", "1", "--other-experiment", "nothing"], 4, "no experiment 'nothing'"),
        (["nothing", "1", "2"], 4, "no experiment 'nothing'"),
        (["tuning", "one", "2"], 2, "TRIAL"),
    ],
)
def test_bad_input(invoke, pair, words, code, said):
    """Both forms mixed, half a form, and what does not exist get a plain answer and nothing on standard output."""
    result = invoke("diff", pair, *words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_bytes_that_are_no_text(call, pair):
    """An experiment's name that is not UTF-8 gets a plain answer."""
    for words in ((b"\xff", 1, 2), ("tuning", 1, 1, "--other-experiment", b"\xff")):
        done = call("diff", pair, *words)
        assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (2, "", False)


def test_a_name_cannot_disturb_the_terminal(invoke, tmp_path):
    """Control characters of names and values are shown, not obeyed."""
    with ledger.open(tmp_path / "runs") as book:
        exp = book.experiment("e\x1b[2J")
        exp.new_trial({"a\x1b[31m": "x\x1b[0m"})
        exp.new_trial({"a\x1b[31m": 1}).note("n\x1b[5m")
    result = invoke("diff", tmp_path / "runs", "e\x1b[2J", 1, 2)
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
