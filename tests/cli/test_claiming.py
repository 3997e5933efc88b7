"""claim, finish, release, requeue, cancel, pause: what a shell script does with a queue."""

from __future__ import annotations

import json

import pytest

import ledger


@pytest.fixture
def queue(tmp_path):
    """A ledger with an experiment of three trials that wait."""
    path = tmp_path / "queue.ledger"
    with ledger.open(path) as book:
        exp = book.experiment("tuning")
        exp.new_trials([{"mb": 64, "journal": "wal"}, {"mb": 128, "journal": "off"}, {"mb": 256, "journal": "wal"}])
    return path


def states(path):
    with ledger.open(path) as book:
        return [trial.state for trial in book.get_experiment("tuning").trials()]


def test_a_script_claims_and_finishes(invoke, queue):
    """The claim is one line of JSON, with what finish needs; the results count, of the type that was typed."""
    result = invoke("claim", queue, "tuning", "--worker", "w1", "--format", "json")
    assert result.exit_code == 0
    job = json.loads(result.output)
    assert list(job) == ["experiment", "experiment_id", "trial_id", "attempt", "worker", "deadline", "config"]
    assert (job["trial_id"], job["attempt"], job["worker"]) == (1, 1, "w1")
    assert job["config"] == {"mb": 64, "journal": "wal"}
    done = invoke("finish", queue, "tuning", "1", "--attempt", "1", "--result", "ms=1.5", "--result", "text=fast")
    assert done.exit_code == 0
    assert "TrialStarted" in done.output
    state = states(queue)[0]
    assert (state.status, state.results, state.worker) == ("SUCCEEDED", {"ms": 1.5, "text": "fast"}, "w1")


def test_a_claim_chooses_by_config_and_shows_people(invoke, queue):
    """--where takes JSON or a text, several mean all of them; people get a line for each value."""
    result = invoke("claim", queue, "tuning", "--where", "journal=wal", "--where", "mb=256")
    lines = dict(line.split(maxsplit=1) for line in result.output.splitlines() if not line.startswith("lease"))
    assert (lines["trial"], lines["config.mb"], lines["config.journal"]) == ("3", "256", "wal")


def test_nothing_to_claim_is_exit_code_1(invoke, queue):
    """With null for programs, and a word for people; a paused experiment says so."""
    result = invoke("claim", queue, "tuning", "--where", "mb=1", "--format", "json")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "null\n", "Nothing to claim.\n")
    assert invoke("pause", queue, "tuning", "--reason", "the GPUs are needed").exit_code == 0
    result = invoke("claim", queue, "tuning")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "tuning is paused.\n")
    assert "Nothing to record" in invoke("pause", queue, "tuning").output
    assert invoke("pause", queue, "tuning", "--undo").exit_code == 0
    assert invoke("claim", queue, "tuning").exit_code == 0


def test_an_attempt_that_was_taken_over_is_refused_and_kept(invoke, queue):
    """finish with a stale attempt is exit code 4; what it brings is kept as late evidence."""
    invoke("claim", queue, "tuning", "--lease-seconds", "0.01")
    again = json.loads(invoke("claim", queue, "tuning", "--timeout", "20", "--where", "mb=64", "--format", "json").output)
    assert (again["trial_id"], again["attempt"]) == (1, 2)
    result = invoke("finish", queue, "tuning", "1", "--attempt", "1", "--result", "ms=9")
    assert result.exit_code == 4
    assert "lost its lease" in result.stderr
    assert invoke("release", queue, "tuning", "1", "--attempt", "1").exit_code == 4
    with ledger.open(queue) as book:
        late = [r.event.results for r in book.get_experiment("tuning").trial(1).history() if r.type == "LateResultReceived"]
    assert late == [{"ms": 9}]
    assert invoke("finish", queue, "tuning", "1").exit_code == 0  # whichever attempt is held now


def test_other_ends(invoke, queue):
    """A failure with its error, a release, a cancel and a requeue; what the status forbids is exit code 4."""
    invoke("claim", queue, "tuning")
    assert invoke("finish", queue, "tuning", "1", "--status", "failed", "--error", "disk full").exit_code == 0
    invoke("claim", queue, "tuning")
    assert invoke("release", queue, "tuning", "2", "--reason", "rebooting").exit_code == 0
    assert invoke("cancel", queue, "tuning", "3", "--reason", "out of budget").exit_code == 0
    assert [str(state.status) for state in states(queue)] == ["FAILED", "PENDING", "CANCELED"]
    assert states(queue)[0].error.message == "disk full"
    done = json.loads(invoke("requeue", queue, "tuning", "1", "--format", "json").output)
    assert [event["type"] for event in done["events"]] == ["TrialRequeued"]
    assert invoke("cancel", queue, "tuning", "3").exit_code == 4
    assert invoke("finish", queue, "tuning", "2", "--result", "ms=2").exit_code == 0  # one that nobody claimed


@pytest.mark.parametrize(
    "words",
    [("--status", "RUNNING"), ("--error", "x"), ("--result", "ms"), ("--attempt", "0")],
)
def test_wrong_usage_is_told(invoke, queue, words):
    """An end that is none, an error of a success, a result without a value: exit code 2, and nothing is recorded."""
    invoke("claim", queue, "tuning")
    assert invoke("finish", queue, "tuning", "1", *words).exit_code == 2
    assert str(states(queue)[0].status) == "READY"


def test_what_a_trial_waits_for_is_shown(invoke, queue):
    """`trials` has it in a column, `show` on a line; `experiments` and `info` say what is paused."""
    with ledger.open(queue) as book:
        exp = book.get_experiment("tuning")
        exp.trial(1).fail("no")
        exp.new_trial({}, depends_on=[exp.trial(1), exp.trial(2)], worker="gpu-1")
        exp.pause()
    row = json.loads(invoke("trials", queue, "tuning", "--format", "jsonl").output.splitlines()[3])
    assert (row["waits_for"], row["assigned_to"]) == ("1 (FAILED), 2 (PENDING)", "gpu-1")
    shown = invoke("show", queue, "tuning", "4").output
    assert "waits for    tuning/1 (FAILED), tuning/2 (PENDING)" in shown
    assert "assigned to  gpu-1" in shown
    assert len(json.loads(invoke("show", queue, "tuning", "4", "--format", "json").output)["waits_for"]) == 2
    assert json.loads(invoke("experiments", queue, "--format", "jsonl").output)["is_paused"] is True
    assert json.loads(invoke("info", queue, "--format", "json").output)["paused_experiments"] == 1
    assert "paused" in invoke("info", queue).output
