"""`ledger capture`, and what `diff`, `history` and `tail` say of captures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import ledger
from ledger.capture.collect import Capture, make_capture
from ledger.capture.record import with_captures

SCRIPT = "import ledger\n\tlr = {}\n"


def captures(lr: str, version: str, commit: str) -> dict[str, Capture]:
    """Return what a trial could have run with."""
    contents = {
        "environment": {"python": {"version": "3.13"}, "cpu": {"model": "Z80"}},
        "packages": {"distributions": {"numpy": version, "rich": "15.0"}},
        "git": {"commit": commit * 40, "is_dirty": True, "patch": f"+x = {lr}\n+\x1b[31mred\n"},
        "script": {"name": "train.py", "text": SCRIPT.format(lr)},
        "command": {"arguments": ["python", "train.py", "--token", "[masked]"]},
    }
    return {kind: make_capture(kind, content) for kind, content in contents.items()}


@pytest.fixture
def captured(tmp_path: Path) -> Path:
    """A ledger with two captured trials and one that was not."""
    path = tmp_path / "captured.ledger"
    with ledger.open(path, actor="ada@box/1") as book:
        exp = book.experiment("tuning")
        for made in (captures("0.1", "2.1", "1"), captures("0.2", "2.2", "2")):
            trial = exp.new_trial({"lr": 1})
            book.log.execute(with_captures(exp.id, trial.id, made, 1))
        exp.new_trial({})
    return path


def test_what_a_trial_ran_with_for_people(invoke, captured):
    """Settings as fields, then the patch and the source, line by line; nothing of a record reaches the terminal unchecked."""
    result = invoke("capture", captured, "tuning", 1)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = {line.split("  ")[0]: line.split("  ", 1)[1].strip() for line in result.stdout.splitlines() if "  " in line}
    assert lines["cpu.model"] == "Z80"
    assert lines["packages.distributions"] == "numpy==2.1 rich==15.0"
    assert lines["git.commit"] == "1" * 40
    assert lines["command.arguments"] == "python, train.py, --token, [masked]"
    assert "script train.py:\nimport ledger\n        lr = 0.1" in result.stdout
    assert "git patch:\n+x = 0.1" in result.stdout
    assert "\x1b" not in result.stdout


def test_the_contract_of_what_a_trial_ran_with(call, captured):
    """The JSON has each kind with its digest and content, as a process."""
    done = call("capture", captured, "tuning", 2, "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    made = captures("0.2", "2.2", "2")
    assert found == {
        "experiment": "tuning",
        "trial_id": 2,
        "captured": {kind: {"digest": capture.digest, **capture.content} for kind, capture in made.items()},
    }


def test_one_kind_only(invoke, captured):
    """Others are left out; one that was not captured is refused, naming those that were."""
    assert "cpu" not in invoke("capture", captured, "tuning", 1, "--only", "git").stdout
    refused = invoke("capture", captured, "tuning", 1, "--only", "conda")
    assert refused.exit_code == 2
    assert "environment" in refused.stderr


def test_a_trial_that_was_not_captured(invoke, captured):
    """It is said, with the cure; programs get nothing as nothing."""
    assert "capture=True" in invoke("capture", captured, "tuning", 3).stdout
    assert json.loads(invoke("capture", captured, "tuning", 3, "--format", "json").stdout)["captured"] == {}
    assert invoke("capture", captured, "tuning", 9).exit_code == 4


def test_diff_shows_what_was_different(invoke, captured):
    """Packages and git as rows, source and patch as unified diffs."""
    text = invoke("diff", captured, "tuning", 1, 2).stdout
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}
    assert rows["package.numpy"] == ["2.1", "2.2"]
    assert rows["git.commit"] == ["1" * 40, "2" * 40]
    assert "--- tuning/1 script train.py\n+++ tuning/2 script train.py\n" in text
    assert "-       lr = 0.1\n+       lr = 0.2\n" in text
    assert "-+x = 0.1\n++x = 0.2\n" in text
    assert "environment" not in text
    assert "\x1b" not in text


def test_the_contract_of_diff(invoke, captured):
    """The JSON has the texts of both sides, and the lines that differ."""
    found = json.loads(invoke("diff", captured, "tuning", 1, 2, "--format", "json").stdout)
    assert found["packages"] == {"numpy": {"left": "2.1", "right": "2.2"}}
    assert found["code"] == {
        "script train.py": {
            "left": SCRIPT.format("0.1"),
            "right": SCRIPT.format("0.2"),
            "diff": "--- tuning/1 script train.py\n+++ tuning/2 script train.py\n@@ -1,2 +1,2 @@\n"
            " import ledger\n-\tlr = 0.1\n+\tlr = 0.2",
        }
    }
    assert set(found["git"]) == {"commit", "patch"}
    assert (found["environment"], found["command"]) == ({}, {})


def test_diff_with_a_trial_that_was_not_captured(invoke, captured):
    """One side has nothing; of a library that it does not have the version is enough for people."""
    with ledger.open(captured) as book:
        exp = book.get_experiment("tuning")
        numpy = make_capture("numpy", {"version": "2.1", "build": {"blas": "openblas"}})
        book.log.execute(with_captures(exp.id, 3, {"numpy": numpy}, 1))
    text = invoke("diff", captured, "tuning", 1, 3).stdout
    assert "environment.numpy.version" in text
    assert "openblas" not in text
    assert "openblas" in invoke("diff", captured, "tuning", 1, 3, "--format", "json").stdout
    assert "-       lr = 0.1" in text


def test_one_trial_at_two_moments(invoke, captured):
    """What was captured by then is what counts."""
    found = json.loads(invoke("diff", captured, "tuning", 1, "--from", 2, "--format", "json").stdout)
    assert found["packages"]["numpy"] == {"right": "2.1"}


def test_a_redacted_capture_is_shown_as_such(invoke, captured):
    """In place of its content, in the trial, in the history of its stream and in tail."""
    with ledger.open(captured, actor="eve@box/2") as book:
        (position,) = book.find_text("Z80").payloads
        book.redact(position, reason="hardware is secret")
    text = invoke("capture", captured, "tuning", 1).stdout
    assert "redacted by eve@box/2: hardware is secret" in text
    assert "Z80" not in text
    told = invoke("history", captured, "--type", "CaptureStored").stdout
    assert "kept what trials run with: environment" in told
    assert "[redacted by eve@box/2, because hardware is secret]" in told
    assert "[redacted]" in invoke("tail", captured, "--after", 0).stdout


def test_the_change_is_told_in_history(invoke, captured):
    """From which trial on, and what."""
    told = invoke("history", captured, "tuning").stdout
    assert "recorded what trials of the experiment tuning run with, from trial 1 on" in told
    assert "found that trial 2 of the experiment tuning runs with something else" in told
    assert "numpy 2.1 -> 2.2" in told
