"""artifacts and gc as commands, and what verify, redact, export and import say of artifacts."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

import ledger


@pytest.fixture
def stocked(sample: Path, tmp_path: Path) -> Path:
    """The sample with artifacts: of the experiment, of trials, one replaced, one of a deleted trial, odd names."""
    place = tmp_path / "logs"
    place.mkdir()
    (place / "out").write_text("line\n" * 2000)
    with ledger.open(sample) as book:
        exp = book.get_experiment("sqlite-tuning")
        exp.log_artifact(place)
        exp.trial(1).log_artifact(b"old", name="model")
        exp.trial(1).log_artifact(b"new\0", name="model")
        exp.trial(2).log_artifact({"a": 1}, name="plan \x1b[31m\n")
        exp.trial(3).log_artifact("gone", name="gone")
        exp.trial(3).delete()
    return sample


def test_artifacts_are_listed(invoke, stocked):
    """Those that count, of what is not deleted; of all, of an experiment, or of a trial; for people with sizes in words."""
    listed = json.loads(invoke("artifacts", stocked, "--format", "json").stdout)
    assert [(each["trial"], each["name"], each["kind"], each["size"]) for each in listed] == [
        (None, "logs", "directory", 10_000), (1, "model", "object", 4), (2, "plan \x1b[31m\n", "object", 12),
    ]  # fmt: skip
    assert {each["experiment"] for each in listed} == {"sqlite-tuning"}
    assert listed[0]["files"] == 1
    assert len(listed[0]["digest"]) == 64
    everything = json.loads(invoke("artifacts", stocked, "--all", "--format", "json").stdout)
    assert [each["name"] for each in everything] == ["logs", "model", "model", "plan \x1b[31m\n", "gone"]
    rows = list(csv.DictReader(io.StringIO(invoke("artifacts", stocked, "sqlite-tuning", "1", "--format", "csv").stdout)))
    assert [(row["name"], row["size"], row["saver"]) for row in rows] == [("model", "4", "bytes")]
    text = invoke("artifacts", stocked, "sqlite-tuning").stdout
    assert "9.766 KiB" in text
    assert "\x1b" not in text
    assert invoke("artifacts", stocked, "größe 🚀", "--format", "jsonl").stdout == ""


def test_an_artifact_is_got_out(invoke, call, stocked, tmp_path):
    """To a file, to a directory, to standard output byte for byte, and an earlier one by its version."""
    result = invoke("artifacts", stocked, "sqlite-tuning", "1", "--get", "model", "--to", tmp_path / "model.bin")
    assert (result.exit_code, result.stderr) == (0, "")
    assert (tmp_path / "model.bin").read_bytes() == b"new\0"
    assert "4 bytes" in result.stdout
    assert invoke("artifacts", stocked, "sqlite-tuning", "--get", "logs", "--to", tmp_path / "out").exit_code == 0
    assert (tmp_path / "out" / "out").read_text() == "line\n" * 2000
    versions = json.loads(invoke("artifacts", stocked, "sqlite-tuning", "1", "--all", "--format", "json").stdout)
    old = invoke(
        "artifacts", stocked, "sqlite-tuning", "1", "--get", "model", "--version", versions[0]["version"], "--to", "-"
    )  # fmt: skip
    assert old.stdout_bytes == b"old"
    assert call("artifacts", stocked, "sqlite-tuning", "1", "--get", "model", "--to", "-").stdout == "new\0"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["sqlite-tuning", "1", "--get", "nope", "--to", "x"], 4, "There are: 'model'"),
        (["sqlite-tuning", "--get", "model", "--to", "x"], 4, "There are: 'logs'"),
        (["sqlite-tuning", "9", "--get", "model", "--to", "x"], 4, "no trial 9"),
        (["nothing", "--get", "model", "--to", "x"], 4, "no experiment"),
        (["sqlite-tuning", "--get", "logs", "--to", "-"], 2, "is a directory"),
        (["sqlite-tuning", "1", "--get", "model", "--to", "."], 2, "nothing is overwritten"),
        (["sqlite-tuning", "1", "--get", "model"], 2, "--to FILE"),
        (["--get", "model", "--to", "x"], 2, "needs EXPERIMENT"),
        (["sqlite-tuning", "1", "--to", "x"], 2, "go with --get"),
    ],
)
def test_what_cannot_be_got_out_is_said(invoke, stocked, tmp_path, monkeypatch, arguments, code, said):
    """The error names the thing and the cure, and nothing is made."""
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    result = invoke("artifacts", stocked, *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_a_damaged_artifact_is_not_shown(invoke, stocked):
    """Getting it out exits with 5 and nothing on standard output; verify --artifacts names it, verify alone does not read."""
    with ledger.open(stocked) as book:
        path = book.log.backend.blobs.place(book.get_experiment("sqlite-tuning").trial(1).artifact("model").digest)
    path.chmod(0o644)
    path.write_bytes(b"new\1")
    result = invoke("artifacts", stocked, "sqlite-tuning", "1", "--get", "model", "--to", "-")
    assert (result.exit_code, result.stdout_bytes) == (5, b"")
    assert "'model'" in result.stderr
    assert invoke("verify", stocked).exit_code == 0
    report = invoke("verify", stocked, "--artifacts")
    assert report.exit_code == 1
    assert "'model'" in report.stdout
    path.unlink()
    missing = invoke("verify", stocked, "--format", "json")
    assert missing.exit_code == 1
    assert "is missing" in json.loads(missing.stdout)["problems"][0]


def test_what_nothing_refers_to_is_collected(invoke, stocked):
    """redact says what to do about the content, a dry run shows it, gc removes it, and says so as JSON too."""
    with ledger.open(stocked) as book:
        exp = book.get_experiment("sqlite-tuning")
        digest = exp.log_artifact(b"the key is 123", name="secret").digest
        position = book.log.head
    redacted = invoke("redact", stocked, position, "--reason", "leaked", "--yes")
    assert "ledger gc" in redacted.stdout
    young = invoke("gc", stocked)
    assert young.stdout.startswith("Removed 0 blobs")
    assert "1 younger one left for now" in young.stdout
    dry = invoke("gc", stocked, "--dry-run", "--grace", "0")
    assert dry.stdout.startswith("Would remove 1 blob (14 bytes)")
    assert digest in dry.stdout
    told = json.loads(invoke("gc", stocked, "--grace", "0", "--format", "json").stdout)
    assert [(each["digest"], each["bytes"]) for each in told["removed"]] == [(digest, 14)]
    assert (told["kept"], told["is_dry_run"]) == (6, False)
    assert invoke("gc", stocked, "--grace", "0").stdout.startswith("Removed 0 blobs (0 bytes)")
    assert invoke("verify", stocked, "--artifacts").exit_code == 0
    assert invoke("delete", stocked, "sqlite-tuning", "3", "--undo").exit_code == 0
    assert invoke("artifacts", stocked, "sqlite-tuning", "3", "--get", "gone", "--to", "-").stdout == "gone"


def test_doctor_sees_what_killed_saves_left(invoke, stocked):
    """A save that was killed is a warning with its cure, which gc carries out."""
    (stocked / "blobs" / "saving-1234").mkdir()
    (stocked / "blobs" / "saving-1234" / "writing").write_bytes(b"half")
    findings = {each["name"]: each for each in json.loads(invoke("doctor", stocked, "--format", "json").stdout)}
    assert findings["leftovers"]["level"] == "warning"
    assert "saving-1234" in findings["leftovers"]["message"]
    assert "and what 1 killed save left" in invoke("gc", stocked).stdout
    assert not (stocked / "blobs" / "saving-1234").exists()


def test_an_export_says_that_artifacts_are_elsewhere(invoke, stocked, tmp_path):
    """It notes what is not in the lines; with a directory it copies it there, and import takes it from there."""
    plain = invoke("export", stocked, "--output", tmp_path / "plain.jsonl")
    assert "note: the content of 5 artifacts is not in the lines" in plain.stderr
    both = invoke("export", stocked, "--output", tmp_path / "runs.jsonl", "--artifacts", tmp_path / "beside")
    assert "Copied the content of 5 artifacts" in both.stderr
    for name, more in (("exact", []), ("rewritten", ["--rewrite"])):
        made = invoke("import", tmp_path / "runs.jsonl", tmp_path / name, "--artifacts", tmp_path / "beside", *more)
        assert made.exit_code == 0, made.stderr
        assert invoke("verify", tmp_path / name, "--artifacts").exit_code == 0
    refused = invoke("import", tmp_path / "runs.jsonl", tmp_path / "no", "--artifacts", tmp_path / "nothing")
    assert refused.exit_code == 2
    assert not (tmp_path / "no").exists()
    assert invoke("export", stocked, "--output", tmp_path / "x", "--artifacts", stocked).exit_code == 2
