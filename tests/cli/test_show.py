"""What `show` says beside status, config and results: labels, lineage, notes, corrections, bounds, seals, tombstones."""

from __future__ import annotations

import json
import re

import pytest

import ledger


@pytest.fixture
def corrected(sample):
    """Return the sample with everything that can be said of a trial and an experiment."""
    with ledger.open(sample) as book:
        exp = book.get_experiment("sqlite-tuning")
        one = exp.trial(1)
        book.log.append([ledger.TrialGrouped("pairs")], stream=one.stream)
        one.note("fan was off")
        [note] = [record for record in one.history() if record.type == "NoteAdded"]
        one.amend_note(note.version, "fan was on", reason="asked again")
        one.report({"rows": 7})
        one.amend(results={"latency_ms": 2.1}, withdraw=["rows"], config={"cache_mb": 65}, label="big", reason="fan")
        one.set_parents([exp.trial(2)])
        exp.set_objectives({"latency_ms": ledger.Objective("min", lower=0, upper=10)})
        exp.trial(3).delete()
        exp.seal()
        book.get_experiment("größe 🚀").delete()
    return sample


def shown(invoke, *words):
    """Return what show prints, as a dict of names and texts."""
    result = invoke("show", *words)
    assert (result.exit_code, result.stderr) == (0, "")
    pairs = (re.split(r"  +", line, maxsplit=1) for line in result.stdout.splitlines())
    return dict(pairs)


def test_an_amended_trial(invoke, corrected):
    """What was amended is shown with the first value, what was withdrawn as such; notes as amended; and lineage."""
    lines = shown(invoke, corrected, "sqlite-tuning", 1)
    assert lines["result.latency_ms"] == "2.1 (amended; first 1.9)"
    assert lines["result.rows"] == "withdrawn (first 7)"
    assert lines["config.cache_mb"] == "65 (amended; first 64)"
    assert lines["config.journal"] == "wal"
    assert lines["label"] == "big (amended; first none)"
    assert (lines["group"], lines["parents"]) == ("pairs", "sqlite-tuning/2")
    [note] = [text for name, text in lines.items() if name.startswith("note ")]
    assert note == "fan was on (amended; first fan was off)"
    assert lines["environment.python"] == "3.13"


def test_an_amended_trial_as_json(call, corrected):
    """JSON has the values that count, those first recorded, the notes and the environment; as a process."""
    done = call("show", corrected, "sqlite-tuning", 1, "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    state = json.loads(done.stdout)
    assert state["results"] == {"latency_ms": 2.1}
    assert state["as_recorded"] == {
        "status": "SUCCEEDED", "label": "",
        "config": {"cache_mb": 64, "journal": "wal"}, "results": {"latency_ms": 1.9, "rows": 7},
    }  # fmt: skip
    assert (state["label"], state["group"], state["is_amended"], state["deleted_at"]) == ("big", "pairs", True, None)
    assert [parent.rsplit("/", 1)[1] for parent in state["parents"]] == ["2"]
    [note] = state["notes"]
    assert (note["text"], note["first_text"], note["actor"]) == ("fan was on", "fan was off", note["actor"])
    assert list(note) == ["version", "text", "first_text", "actor", "time"]
    assert state["environment"] == {"python": "3.13", "cpus": 2}


def test_a_trial_that_was_not_amended(invoke, corrected):
    """Without amendments nothing is said of first values."""
    state = json.loads(invoke("show", corrected, "sqlite-tuning", 2, "--format", "json").stdout)
    assert (state["as_recorded"], state["notes"]) == (None, [])
    assert "first" not in invoke("show", corrected, "sqlite-tuning", 4).stdout


def test_a_sealed_experiment_with_bounds(invoke, corrected):
    """Bounds stand beside the objective, and the seal has its time."""
    lines = shown(invoke, corrected, "sqlite-tuning")
    assert lines["objective.latency_ms"] == "min, within 0..10"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d .*Z", lines["sealed"])
    state = json.loads(invoke("show", corrected, "sqlite-tuning", "--format", "json").stdout)
    assert state["bounds"] == {"latency_ms": {"lower": 0, "upper": 10}}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\S+Z", state["sealed_at"])
    assert (state["parents"], state["deleted_at"], state["notes"]) == ([], None, [])


def test_what_was_deleted_can_be_looked_at(invoke, corrected):
    """A deleted trial and a deleted experiment are shown, with the time of it."""
    assert "deleted" in shown(invoke, corrected, "sqlite-tuning", 3)
    assert "deleted" in shown(invoke, corrected, "größe 🚀")
    assert json.loads(invoke("show", corrected, "größe 🚀", 1, "--format", "json").stdout)["deleted_at"] is None


def test_captures_and_artifacts_are_named(invoke, sample, tmp_path):
    """Of a trial what it ran with and what it kept, of an experiment its artifacts; as text and as JSON."""
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "a.svg").write_text("<svg/>")
    with ledger.open(sample) as book:
        exp = book.get_experiment("sqlite-tuning")
        with exp.new_trial({}).run(capture=True) as trial:
            trial.log_artifact("x" * 2048, name="model")
            trial.complete({"latency_ms": 1.0})
        exp.log_artifact(tmp_path / "plots")
        digests = {kind: record for record in trial.history() if record.type == "TrialCaptured" for kind in record.event.captures}
    lines = shown(invoke, sample, "sqlite-tuning", trial.id)
    assert lines["captured"].startswith(", ".join(digests))
    assert lines["artifact model"] == "object, 2 KiB"
    assert shown(invoke, sample, "sqlite-tuning")["artifact plots"] == "directory, 6 bytes, files: 1"
    state = json.loads(invoke("show", sample, "sqlite-tuning", trial.id, "--format", "json").stdout)
    assert list(state["captured"]) == list(digests)
    assert [(each["name"], each["kind"], each["size"]) for each in state["artifacts"]] == [("model", "object", 2048)]
    state = json.loads(invoke("show", sample, "sqlite-tuning", "--format", "json").stdout)
    assert [each["name"] for each in state["artifacts"]] == ["plots"]


def test_a_recorded_bool_is_told_from_a_text(invoke, tmp_path):
    """In every view for people as JSON writes it; the ledger's own flags are words."""
    path = tmp_path / "runs.ledger"
    with ledger.open(path) as book:
        trial = book.experiment("demo", objectives={"loss": "min"}).new_trial({"on": True, "text": "yes"})
        trial.set_attributes({"checked": False})
        trial.complete({"loss": 1.0, "ok": True})
        trial.amend(results={"ok": False}, reason="looked again")
    lines = shown(invoke, path, "demo", 1)
    assert (lines["config.on"], lines["config.text"], lines["attribute.checked"]) == ("true", "yes", "false")
    assert lines["result.ok"] == "false (amended; first true)"
    told = invoke("history", path, "demo", 1).stdout
    assert all(said in told for said in ("with on=true, text=yes", "set checked=false", "result ok from true to false"))
    assert "on=true text=yes" in invoke("tail", path).stdout
    columns = "config.on,result.ok,is_amended,lease_expired"
    row = invoke("trials", path, "demo", "--columns", columns).stdout.splitlines()[-1]
    assert row.split() == ["true", "false", "yes", "no"]
    assert re.search(r"is_amended +no +yes\n", invoke("diff", path, "demo", 1, "--from", 2).stdout)
