"""Commands that correct: what they record, what they print, and what they refuse."""

import json

import pytest

import ledger


def answer(call, *words):
    """Run a command as a process of its own and return its JSON."""
    result = call(*words, "--format", "json")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return json.loads(result.stdout)


def refused(invoke, code, *words):
    """Run a command that must be refused with the code, in one line; return the line."""
    result = invoke(*words)
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert "Traceback" not in result.stderr
    return result.stderr


# -------------------------------------------------------------------------------------------------------------- amend


def test_amend_a_result(call, sample):
    """Amending prints the event it recorded, keeps the reason, and the value's type."""
    said = answer(call, "amend", sample, "sqlite-tuning", 1, "--result", "latency_ms=2", "--reason", "the fan was off")
    assert list(said) == ["recorded_at", "events"]
    (event,) = said["events"]
    assert list(event) == ["position", "stream", "type", "event"]
    assert (event["type"], event["event"]["results"]) == ("TrialAmended", {"latency_ms": 2.0})
    with ledger.open(sample) as book:
        trial = book.get_experiment("sqlite-tuning").trial(1)
        assert (trial.results, trial.as_recorded.results) == ({"latency_ms": 2.0}, {"latency_ms": 1.9})
        assert type(trial.results["latency_ms"]) is float
        assert list(trial.history())[-1].reason == "the fan was off"


def test_amend_everything_at_once(invoke, sample):
    """Status, label, parameters, results and withdrawn ones go into one event; values are JSON, or a text."""
    words = ("--status", "failed", "--label", "cold", "--config", "journal=truncate", "--withdraw", "latency_ms", "--reason", "r")
    result = invoke("amend", sample, "sqlite-tuning", 1, *words)
    assert (result.exit_code, result.stdout.startswith("Recorded TrialAmended at position ")) == (0, True)
    with ledger.open(sample) as book:
        state = book.get_experiment("sqlite-tuning").trial(1).state
    assert (state.status, state.label, state.config["journal"], state.results) == ("FAILED", "cold", "truncate", {})


def test_amend_a_note_of_an_experiment(call, invoke, sample):
    """Notes are named by their version, also those of an experiment."""
    (added,) = answer(call, "note", sample, "sqlite-tuning", "--text", "fan of")["events"]
    with ledger.open(sample) as book:
        version = book.get_experiment("sqlite-tuning").notes()[0].version
    assert invoke("amend", sample, "sqlite-tuning", "--note", f"{version}=fan off", "--reason", "typo").exit_code == 0
    with ledger.open(sample) as book:
        (note,) = book.get_experiment("sqlite-tuning").notes()
    assert (note.text, note.first_text, added["type"]) == ("fan off", "fan of", "NoteAdded")


@pytest.mark.parametrize(
    ("code", "words", "said"),
    [
        (2, ["sqlite-tuning", "1", "--result", "latency_ms=2"], "--reason"),
        (2, ["sqlite-tuning", "1", "--reason", "r"], "nothing to amend"),
        (2, ["sqlite-tuning", "--status", "FAILED", "--reason", "r"], "TRIAL"),
        (2, ["sqlite-tuning", "1", "--result", "latency_ms", "--reason", "r"], "NAME=VALUE"),
        (2, ["sqlite-tuning", "1", "--status", "BROKEN", "--reason", "r"], "--status"),
        (2, ["sqlite-tuning", "1", "--note", "x=y", "--reason", "r"], "version"),
        (4, ["sqlite-tuning", "1", "--note", "1=y", "--reason", "r"], "not a note"),
        (4, ["sqlite-tuning", "1", "--result", "latency=2", "--reason", "r"], "has: latency_ms"),
        (4, ["sqlite-tuning", "1", "--result", "latency_ms=2", "--reason", " "], "reason"),
        (4, ["sqlite-tuning", "4", "--status", "FAILED", "--reason", "r"], "PENDING"),
        (4, ["sqlite-tuning", "99", "--result", "a=1", "--reason", "r"], "no trial 99"),
        (4, ["nothing", "1", "--result", "a=1", "--reason", "r"], "nothing"),
    ],
)
def test_amendments_refused(invoke, sample, code, words, said):
    """What cannot be amended is said in one line, and nothing is recorded."""
    with ledger.open(sample) as book:
        before = book.log.head
    assert said in refused(invoke, code, "amend", sample, *words)
    with ledger.open(sample) as book:
        assert book.log.head == before


# ------------------------------------------------------------------------------------------------------------- redact


def test_redact_by_position(call, sample):
    """The payload is gone, the record and the proofs stay, and the erasure is pending."""
    with ledger.open(sample) as book:
        record = next(record for record in book.log.read() if record.type == "TrialCreated")
        note = book.checkpoint()
    said = answer(call, "redact", sample, record.position, "--reason", "leaked")
    assert (said["redacted"], len(said["positions"]), said["erasures_pending"]) == ([record.position], 1, 1)
    with ledger.open(sample) as book:
        (now,) = book.log.backend.read_positions([record.position])
        assert (now.is_redacted, now.event.config, now.id) == (True, {}, record.id)
        assert book.verify(against=[note]).ok


def test_redact_whatever_contains_a_text(call, sample):
    """The text comes from standard input and is shown nowhere; every record with it is redacted, in payloads only."""
    with ledger.open(sample) as book:
        exp = book.get_experiment("sqlite-tuning")
        first = exp.new_trial({"key": "s3cr3t-value"})
        first.note("used s3cr3t-value here")
        first.cancel(reason="it had s3cr3t-value")
    result = call("redact", sample, "--containing", "--reason", "leaked", input="s3cr3t-value\n")
    assert result.returncode == 0
    assert "s3cr3t" not in result.stdout + result.stderr
    assert "Redacted 2 record(s)" in result.stdout
    assert "outside of its payload" in result.stderr
    with ledger.open(sample) as book:
        assert book.find_text("s3cr3t-value").payloads == []
    again = call("redact", sample, "--containing", "--reason", "leaked", input="s3cr3t-value\n")
    assert (again.returncode, "Redacted 0 record(s)" in again.stdout) == (0, True)


@pytest.mark.parametrize(
    ("code", "words", "said"),
    [
        (2, ["--reason", "r"], "positions"),
        (2, ["3", "--containing", "--reason", "r"], "--containing"),
        (2, ["0", "--reason", "r"], "POSITION"),
        (2, ["3"], "--reason"),
        (2, ["9999", "--reason", "r"], "no record at position 9999"),
        (4, ["3", "--reason", ""], "reason"),
    ],
)
def test_redactions_refused(invoke, sample, code, words, said):
    """What cannot be redacted is said in one line, and nothing is dropped."""
    assert said in refused(invoke, code, "redact", sample, *words)
    with ledger.open(sample) as book:
        assert book.log.backend.redactions().total == 0


def test_redaction_of_several_is_all_or_nothing(invoke, sample):
    """One position that cannot be redacted refuses the others, too."""
    with ledger.open(sample) as book:
        claimed = next(record.position for record in book.log.read() if record.type == "TrialClaimed")
    assert "nothing to redact" in refused(invoke, 4, "redact", sample, 2, claimed, "--reason", "r")
    with ledger.open(sample) as book:
        assert book.log.backend.redactions().total == 0


# ------------------------------------------------------------------------------------------------------------- delete


def test_delete_and_undo_a_trial(call, invoke, sample):
    """A deleted trial is in no table, and is back after --undo."""
    (event,) = answer(call, "delete", sample, "sqlite-tuning", 1, "--reason", "wrong disk")["events"]
    assert event["type"] == "TrialDeleted"
    rows = json.loads(invoke("trials", sample, "sqlite-tuning", "--format", "json").stdout)
    assert 1 not in [row["trial_id"] for row in rows]
    assert "deleted " in invoke("show", sample, "sqlite-tuning", 1).stdout
    assert "deleted" in refused(invoke, 4, "delete", sample, "sqlite-tuning", 1)
    result = invoke("delete", sample, "sqlite-tuning", 1, "--missing-ok")
    assert (result.exit_code, result.stdout) == (0, "Nothing to record: it is so already.\n")
    assert invoke("delete", sample, "sqlite-tuning", 1, "--undo").exit_code == 0
    assert invoke("show", sample, "sqlite-tuning", 1).exit_code == 0
    assert "not deleted" in refused(invoke, 4, "delete", sample, "sqlite-tuning", 1, "--undo")


def test_delete_and_undo_an_experiment(call, invoke, sample):
    """The name of a deleted experiment is free; it comes back under another one when it was taken."""
    assert invoke("delete", sample, "sqlite-tuning").exit_code == 0
    assert "--undo" in refused(invoke, 4, "trials", sample, "sqlite-tuning")
    with ledger.open(sample) as book:
        book.experiment("sqlite-tuning")
    assert "taken" in refused(invoke, 4, "delete", sample, "sqlite-tuning", "--undo")
    (event,) = answer(call, "delete", sample, "sqlite-tuning", "--undo", "--name", "old")["events"]
    assert (event["type"], event["event"]["name"]) == ("ExperimentRestored", "old")
    assert invoke("show", sample, "old", 1).exit_code == 0


def test_tables_show_either_value_and_the_deleted_on_request(invoke, sample):
    """--as-recorded shows first values, --deleted what was deleted; by default neither."""

    def rows(*words):
        return json.loads(invoke(*words, "--format", "json").stdout)

    invoke("amend", sample, "sqlite-tuning", 1, "--result", "latency_ms=2", "--reason", "r")
    assert rows("trials", sample, "sqlite-tuning")[0]["result.latency_ms"] == 2.0
    assert rows("trials", sample, "sqlite-tuning", "--as-recorded")[0]["result.latency_ms"] == 1.9
    invoke("delete", sample, "sqlite-tuning", 1)
    assert [row["trial_id"] for row in rows("trials", sample, "sqlite-tuning")] == [2, 3, 4, 5]
    assert rows("trials", sample, "sqlite-tuning", "--deleted")[0]["deleted_at"] is not None
    invoke("delete", sample, "sqlite-tuning")
    assert [row["name"] for row in rows("experiments", sample)] == ["größe 🚀"]
    assert [row["name"] for row in rows("experiments", sample, "--deleted")] == ["sqlite-tuning", "größe 🚀"]


def test_names_go_with_undo(invoke, sample):
    """Another name means nothing without --undo of an experiment."""
    assert "--name" in refused(invoke, 2, "delete", sample, "sqlite-tuning", "--name", "x")
    assert "--name" in refused(invoke, 2, "delete", sample, "sqlite-tuning", 1, "--undo", "--name", "x")
    assert "no deleted experiment" in refused(invoke, 4, "delete", sample, "sqlite-tuning", "--undo")


# -------------------------------------------------------------------------------------------------- seal, note and tag


def test_seal_and_unseal(call, invoke, sample):
    """A sealed experiment takes nothing until it is unsealed with a reason."""
    assert answer(call, "seal", sample, "sqlite-tuning")["events"][0]["type"] == "ExperimentSealed"
    assert "sealed at" in refused(invoke, 4, "note", sample, "sqlite-tuning", "-m", "late")
    assert "sealed at" in refused(invoke, 4, "delete", sample, "sqlite-tuning")
    assert "reason" in refused(invoke, 4, "seal", sample, "sqlite-tuning", "--undo")
    assert invoke("seal", sample, "sqlite-tuning", "--undo", "--reason", "one more").exit_code == 0
    assert "not sealed" in refused(invoke, 4, "seal", sample, "sqlite-tuning", "--undo", "--reason", "r")
    assert invoke("note", sample, "sqlite-tuning", "-m", "late").exit_code == 0


def test_tags_come_and_go(call, invoke, sample):
    """One event says which tags were added and which removed."""
    (event,) = answer(call, "tag", sample, "sqlite-tuning", 1, "--add", "a", "--remove", "baseline")["events"]
    assert event["event"] == {"added": ["a"], "removed": ["baseline"]}
    with ledger.open(sample) as book:
        assert book.get_experiment("sqlite-tuning").trial(1).state.tags == ("a",)
    assert "--add" in refused(invoke, 2, "tag", sample, "sqlite-tuning")


# ------------------------------------------------------------------------------------------------ verify, checkpoint


def test_a_checkpoint_is_the_note_and_verify_reads_it(call, sample, tmp_path):
    """Three lines: origin, size, root in base64; verify counts those it was given."""
    said = answer(call, "checkpoint", sample)
    assert list(said) == ["ledger_id", "size", "root", "text"]
    printed = call("checkpoint", sample).stdout
    assert printed == said["text"] == f"experiment-ledger/{said['ledger_id']}\n{said['size']}\n{said['root']}\n"
    file = tmp_path / "runs.checkpoint"
    for _ in range(2):
        assert call("checkpoint", sample, "--output", file).returncode == 0
    assert file.read_text() == f"{printed}\n{printed}"
    report = answer(call, "verify", sample, "--against", file)
    assert (report["ok"], report["checkpoints"]) == (True, 2)
    assert call("verify", sample, "--against", "-", input=printed).returncode == 0


def test_a_ledger_that_was_put_back_is_noticed(call, sample, tmp_path):
    """The older copy is in order by itself; against the later checkpoint it is not."""
    import shutil

    older = shutil.copytree(sample, tmp_path / "older.ledger")
    with ledger.open(sample) as book:
        book.get_experiment("sqlite-tuning").note("one more")
    file = tmp_path / "runs.checkpoint"
    file.write_text(call("checkpoint", sample).stdout)
    assert call("verify", older).returncode == 0
    result = call("verify", older, "--against", file)
    assert (result.returncode, "put back to an older state" in result.stdout) == (1, True)
    assert "records are damaged" not in result.stdout  # they are in order among themselves


@pytest.mark.parametrize("content", [b"", b"hello\n", b"experiment-ledger/x\n1\nAAAA\n", b"\xff\xfe", None])
def test_files_that_are_no_checkpoint(invoke, sample, tmp_path, content):
    """What holds no checkpoint is named, and nothing is verified."""
    file = tmp_path / "file"
    if content is not None:
        file.write_bytes(content)
    assert str(file) in refused(invoke, 2, "verify", sample, "--against", file)


def test_a_checkpoint_of_another_ledger(invoke, sample, tmp_path):
    """It proves nothing here, and is said to be another's."""
    with ledger.open(tmp_path / "other.ledger") as book:
        (tmp_path / "file").write_text(str(book.checkpoint()))
    assert "is of ledger" in refused(invoke, 2, "verify", sample, "--against", tmp_path / "file")


# -------------------------------------------------------------------------------------------------------- bad arguments

WRITERS = [
    ["amend", "PATH", "e", "1", "--result", "a=1", "--reason", "r"],
    ["redact", "PATH", "1", "--reason", "r"],
    ["delete", "PATH", "e"],
    ["seal", "PATH", "e"],
    ["note", "PATH", "e", "--text", "t"],
    ["tag", "PATH", "e", "--add", "t"],
    ["checkpoint", "PATH"],
]


@pytest.mark.parametrize("words", WRITERS, ids=lambda words: words[0])
def test_paths_without_a_ledger(invoke, tmp_path, words):
    """A path with nothing there, a file, or another directory exits with 3 and is left as it is."""
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "nothing", tmp_path / "file"):
        refused(invoke, 3, *(str(path) if word == "PATH" else word for word in words))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file"]
    refused(invoke, 2, *("memory:" if word == "PATH" else word for word in words))


@pytest.mark.parametrize(
    "words",
    [
        ["amend", "PATH", b"\xff", "1", "--result", "a=1", "--reason", "r"],
        ["amend", "PATH", "sqlite-tuning", "1", "--result", b"latency_ms=\xff", "--reason", "r"],
        ["amend", "PATH", "sqlite-tuning", "1", "--result", "latency_ms=1", "--reason", b"\xff"],
        ["redact", "PATH", "2", "--reason", b"\xff"],
        ["delete", "PATH", b"\xff"],
        ["delete", "PATH", b"\xff", "--undo"],
        ["seal", "PATH", "sqlite-tuning", "--reason", b"\xff"],
        ["note", "PATH", "sqlite-tuning", "--text", b"\xff"],
        ["tag", "PATH", "sqlite-tuning", "--add", b"\xff"],
        ["checkpoint", "PATH", "--output", b"/tmp/\xff.checkpoint"],
        ["verify", "PATH", "--against", b"/tmp/\xff.checkpoint"],
    ],
)
def test_arguments_that_are_no_text(call, sample, words):
    """Bytes that are not UTF-8 get a plain answer, and nothing is recorded."""
    with ledger.open(sample) as book:
        before = book.log.head
    result = call(*(sample if word == "PATH" else word for word in words))
    assert (result.returncode, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr
    with ledger.open(sample) as book:
        assert book.log.head == before
