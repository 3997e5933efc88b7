"""Status history, artifacts, environments and amendments; and what is hidden, redacted or asked for wrongly."""

import pandas as pd
import pytest

import ledger
from ledger import events as ev
from ledger.capture.collect import make_capture
from ledger.capture.record import with_captures


@pytest.fixture
def exp(book):
    return book.experiment("demo")


def changes_of(frame):
    rows = frame.astype(object).itertuples(index=False)
    return [tuple(None if cell is None or cell is pd.NA or cell != cell else cell for cell in row) for row in rows]


# -------------------------------------------------------------------------------------------------- status history


def test_every_change_has_its_time_actor_and_reason(tables, exp, clock):
    """A trial that is claimed, lost, tried again and canceled has a row for each change, with attempt and worker."""
    exp.new_trial({})
    exp.claim(worker="w1", lease_seconds=10).start()
    clock.advance(11)
    second = exp.claim(worker="w2", lease_seconds=10)
    second.cancel(reason="not needed")
    history = tables.status_history("demo")
    assert history[["from", "to", "attempt", "event"]].astype(object).values.tolist()[1:] == [
        ["PENDING", "READY", 1, "TrialClaimed"],
        ["READY", "RUNNING", 1, "TrialStarted"],
        ["RUNNING", "LOST", 1, "TrialLost"],
        ["LOST", "PENDING", 1, "TrialRequeued"],
        ["PENDING", "READY", 2, "TrialClaimed"],
        ["READY", "CANCELED", 2, "TrialCanceled"],
    ]
    assert history["worker"].tolist()[1:] == ["w1"] * 4 + ["w2"] * 2
    assert history["reason"].tolist()[-1] == "not needed"
    assert history["time"].is_monotonic_increasing
    assert {name: str(history[name].dtype) for name in ("trial_id", "from", "to", "time", "attempt", "event")} == {
        "trial_id": "int64", "from": "category", "to": "category", "time": "datetime64[ns, UTC]", "attempt": "Int64",
        "event": "category",
    }  # fmt: skip
    assert history["to"].cat.categories.tolist() == [status.value for status in ledger.Status]


def test_a_failure_without_a_reason_has_that_of_its_error(book, tables, exp):
    """The first line of it; a reason that was given is the reason, and a failure without either has none."""
    for error in (ValueError("lr is 0\nat step 7"), "disk full", None):
        exp.new_trial({}).fail(error)
    exp.new_trial({}).start()
    failed = ev.TrialFailed(ev.ErrorInfo("OSError", "disk full"), attempt=1)
    book.log.append([failed], stream=exp.trial(4).stream, reason="the node went down")
    history = tables.status_history("demo")
    reasons = history.loc[history["to"] == "FAILED", "reason"].tolist()
    assert reasons == ["ValueError: lr is 0", "disk full", pd.NA, "the node went down"]


def test_an_expired_lease_is_no_change_until_it_is_recorded(tables, exp, clock):
    """The history ends with RUNNING, however late it is."""
    exp.new_trial({})
    exp.claim(worker="w1", lease_seconds=10).start()
    clock.advance(1000)
    assert tables.status_history("demo")["to"].tolist()[-1] == "RUNNING"


def test_amended_and_forced_statuses(tables, exp):
    """An amended status has a row of its own, left out as first recorded; a forced one has a row though the status stays."""
    trial = exp.new_trial({})
    trial.complete({"loss": 1})
    trial.amend(status="FAILED", reason="wrong data")
    trial.force_status("FAILED", reason="import")
    amended = tables.status_history("demo")[["from", "to", "event", "attempt", "reason"]].astype(object)
    assert amended.values.tolist()[-2:] == [
        ["SUCCEEDED", "FAILED", "TrialAmended", 1, "wrong data"], ["FAILED", "FAILED", "StatusForced", 2, "import"],
    ]  # fmt: skip
    first = tables.status_history("demo", amended=False)[["from", "to", "event"]].astype(object)
    assert first.values.tolist()[-2:] == [["RUNNING", "SUCCEEDED", "TrialCompleted"], ["SUCCEEDED", "FAILED", "StatusForced"]]


def test_deleted_trials_are_hidden(tables, exp):
    """A deleted trial shows when asked for; one that was held is canceled by its deletion; restored, it is there again."""
    exp.new_trial({})
    held = exp.claim(worker="w1", lease_seconds=60)
    held.start()
    held.log_many({"loss": [1]}, steps=[1])
    held.note("x")
    held.amend_note(held.notes()[0].version, "y", reason="typo")
    held.log_artifact("a", name="a")
    held.capture_environment({"rack": 1})
    exp.trial(1).delete()
    shown = ("status_history", "metrics", "artifacts", "environments", "amendments")
    assert [len(getattr(tables, name)("demo")) for name in shown] == [0] * 5
    assert [len(getattr(tables, name)("demo", deleted=True)) for name in shown] == [4, 1, 1, 1, 1]
    assert tables.status_history("demo", deleted=True)["to"].tolist()[-1] == "CANCELED"
    exp.trial(1, deleted=True).restore()
    assert [len(getattr(tables, name)("demo")) for name in shown] == [4, 1, 1, 1, 1]


# ------------------------------------------------------------------------------------------------------- artifacts


def test_which_artifact_counts(book, tables, exp, tmp_path):
    """Every version has a row; the last counts, but not one of a worker that had lost the trial."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.txt").write_text("a")
    trial = exp.new_trial({})
    exp.log_artifact([1], name="own")
    kept = trial.log_artifact(tmp_path / "files")
    for attempt in (1, 2, 1):
        book.log.append([ev.ArtifactLogged("model", f"{attempt:064d}", 9, attempt=attempt)], stream=trial.stream)
    frame = tables.artifacts("demo")
    assert frame["name"].tolist() == ["own", "files", "model", "model", "model"]
    assert frame["is_current"].tolist() == [True, True, False, True, False]
    assert frame["trial_id"].isna().tolist() == [True, False, False, False, False]
    row = frame.iloc[1]
    assert (row["digest"], row["kind"], row["files"], row["size"]) == (kept.digest, "directory", 1, 1)
    assert trial.artifact("files", version=int(row["version"])).digest == kept.digest
    assert tables.artifacts("demo", trials=1, names=["model"])["attempt"].tolist() == [1, 2, 1]
    assert frame["saver"].tolist()[0] == "json"


def test_a_redacted_artifact_has_no_row(book, tables, exp):
    """What was redacted is not shown, and the version before it counts again."""
    trial = exp.new_trial({})
    for content in ("a", "secret"):
        trial.log_artifact(content, name="log")
    book.redact(book.log.head, reason="leaked")
    assert tables.artifacts("demo")[["name", "is_current"]].values.tolist() == [["log", True]]


# ---------------------------------------------------------------------------------------------------- environments


def captured(book, exp, trial, **contents):
    captures = {kind: make_capture(kind, content) for kind, content in contents.items()}
    book.log.execute(with_captures(exp.id, trial.id, captures, 1))


def test_what_trials_ran_with(book, tables, exp):
    """Host, processor, Python and git of each trial, from captures that are stored once; what is unknown is missing."""
    git = {"commit": "1a2b", "branch": "main", "is_dirty": True}
    machine = {"platform": {"system": "Linux"}, "cpu": {"model": "Z80", "logical_cores": 1}, "memory": {"total_gib": 0.1}}
    first, second, third = exp.new_trials([{}, {}, {}])
    captured(book, exp, first, git=git, environment={**machine, "python": {"version": "3.13"}})
    captured(book, exp, second, git={**git, "is_dirty": False}, command={"host": "m1", "arguments": ["a b", "c"]})
    third.capture_environment({"rack": 7})
    frame = tables.environments("demo").set_index("trial_id")
    assert frame["git_dirty"].tolist()[:2] == [True, False]
    assert frame["cpu"].tolist()[0] == "Z80"
    assert (str(frame["cores"].dtype), str(frame["memory_gib"].dtype), str(frame["git_dirty"].dtype)) == (
        "Int64", "float64", "boolean",
    )  # fmt: skip
    assert frame.loc[2, ["host", "command"]].tolist() == ["m1", "'a b' c"]
    assert frame.loc[1, "capture.git"] != frame.loc[2, "capture.git"]
    assert frame["environment.rack"].tolist()[2] == 7
    changes = tables.environment_changes("demo")
    assert changes["kind"].tolist() == ["environment", "git", "git"]
    assert ("git is_dirty True -> False",) in changes["changes"].tolist()


def test_a_real_capture(book, tables, exp):
    """What trial.capture finds out on this machine is in the columns."""
    trial = exp.new_trial({})
    trial.start()
    trial.capture()
    row = tables.environments("demo").iloc[0]
    found = trial.captured
    assert row["python"] == found["environment"]["python"]["version"]
    assert row["host"] == found["command"]["host"]


def test_a_redacted_capture_says_nothing(book, tables, exp):
    """Its digest stays, and its facts are missing."""
    trial = exp.new_trial({})
    captured(book, exp, trial, git={"commit": "secret"})
    position = next(record.position for record in book.log.read() if record.type == "CaptureStored")
    book.redact(position, reason="leaked")
    assert tables.environments("demo")["git_commit"].isna().all()
    assert tables.environments("demo")["capture.git"].notna().all()


# ------------------------------------------------------------------------------------------------------ amendments


def test_what_was_amended(book, tables, exp):
    """Result, parameter, label, status and note, each with the value before and after, who and why; in order."""
    trial = exp.new_trial({"lr": 0.1}, label="a")
    trial.complete({"loss": 1, "time": 2})
    trial.amend(results={"loss": [0.5]}, withdraw=["time"], config={"lr": 1}, label="b", status="FAILED", reason="typo")
    trial.amend(results={"loss": 3}, reason="again")
    exp.note("fan was off")
    exp.amend_note(exp.notes()[0].version, "fan was on", reason="seen later")
    frame = tables.amendments("demo")
    assert changes_of(frame[["what", "name", "before", "after", "reason"]]) == [
        ("result", "loss", 1, [0.5], "typo"),
        ("result", "time", 2, None, "typo"),
        ("config", "lr", 0.1, 1, "typo"),
        ("label", None, "a", "b", "typo"),
        ("status", None, "SUCCEEDED", "FAILED", "typo"),
        ("result", "loss", [0.5], 3, "again"),
        ("note", None, "fan was off", "fan was on", "seen later"),
    ]
    assert frame["trial_id"].isna().tolist() == [False] * 6 + [True]
    assert tables.amendments("demo", trials=[1], as_of=int(frame["position"][0]))["after"].tolist() == [
        [0.5],
        None,
        1,
        "b",
        "FAILED",
    ]


def test_redactions_are_shown(book, tables, exp):
    """A redaction has a row that names the type and version of the record; a forced status has none."""
    trial = exp.new_trial({})
    trial.note("secret")
    position = book.log.head
    trial.force_status("SUCCEEDED", reason="import")
    book.redact(position, reason="leaked")
    frame = tables.amendments("demo")
    assert frame[["trial_id", "what", "name", "version", "reason"]].astype(object).values.tolist() == [
        [1, "redaction", "NoteAdded", 2, "leaked"]
    ]
    assert frame[["before", "after"]].isna().all(axis=None)
