"""History: told in sentences, filtered in every way, and given whole to programs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import ledger
from ledger.cli.output import RECORD_KEYS

HOUR = 3600 * 1_000_000_000
BEGIN = 1_800_000_000_000_000_000  # 2027-01-15 08:00:00 UTC


@pytest.fixture
def story(tmp_path: Path) -> Path:
    """Make a ledger in which one thing happens an hour, by three actors, with corrections of every kind."""
    path = tmp_path / "story.ledger"
    time = [BEGIN]

    def tick() -> int:
        time[0] += HOUR
        return time[0]

    with ledger.open(path, actor="ada@box/1", clock=lambda: time[0]) as book:

        def append(stream: str, event: ledger.Event, **context: str) -> None:
            tick()
            book.log.append([event], stream=stream, **context)

        exp = book.experiment("tuning", objectives={"ms": "min"})  # 1
        one = exp.new_trial({"lr": 0.1})  # 2
        append(one.stream, ledger.TrialClaimed("w1", 1, 7200.0, time[0] + 3 * HOUR), actor="bob@box/2/w1")  # 3
        append(one.stream, ledger.TrialStarted(1), actor="bob@box/2/w1")  # 4
        append(one.stream, ledger.LeaseRenewed(1, time[0] + 9 * HOUR), actor="bob@box/2/w1")  # 5
        append(one.stream, ledger.TrialCompleted({"ms": 1.9}, 1), actor="bob@box/2/w1")  # 6
        append(one.stream, ledger.NoteAdded("the key is 123"))  # 7
        append(one.stream, ledger.NoteAdded("fan was off"))  # 8
        append(one.stream, ledger.TrialAmended({"ms": 2.1}), reason="the fan was off")  # 9
        append(one.stream, ledger.TrialAmended({"ms": 2.2}), reason="it was off twice.", actor="eve@lab/3")  # 10
        append(one.stream, ledger.NoteAmended(7, "fan was on"))  # 11
        tick()
        book.redact(7, reason="a leaked key")  # 12
        tick()
        two = exp.new_trial({"lr": 0.2})  # 13
        append(two.stream, ledger.TrialDeleted())  # 14
        append(exp.stream, ledger.ExperimentRenamed("tuned"))  # 15
        tick()
        other = book.experiment("other")  # 16
        other.new_trial({"lr": 0.1})  # 17
        append(other.stream, ledger.ExperimentDeleted(), reason="wrong machine")  # 18
        append("diary", ledger.NoteAdded("dear diary"))  # 19
    return path


@pytest.fixture
def positions(invoke, story):
    """Call history with options and return the positions it gives, which are the same for people and for programs."""

    def call(*options: object) -> list[int]:
        result = invoke("history", story, *options, "--format", "jsonl")
        assert (result.exit_code, result.stderr) == (0, ""), result.output
        found = [json.loads(line)["position"] for line in result.stdout.splitlines()]
        prose = invoke("history", story, *options).stdout.splitlines()
        assert [int(line.split()[0]) for line in prose] == found
        return found

    return call


ALL = [position for position in range(1, 20) if position != 5]


def test_the_whole_ledger_in_sentences(invoke, story):
    """Without an experiment every record is told: who, when, what and why, with whom it is about on each line."""
    assert invoke("history", story).stdout.splitlines() == [
        "     1  2027-01-15 08:00:00Z  ada@box/1 created the experiment tuning to minimize ms.",
        # the experiment is called by the name that it had then: it is renamed below
        "     2  2027-01-15 08:00:00Z  ada@box/1 created trial 1 of tuning with lr=0.1.",
        "     3  2027-01-15 09:00:00Z  bob@box/2/w1 claimed trial 1 of tuning (attempt 1, lease 7200 s).",
        "     4  2027-01-15 10:00:00Z  bob@box/2/w1 started trial 1 of tuning.",
        "     6  2027-01-15 12:00:00Z  bob@box/2/w1 completed trial 1 of tuning with ms=1.9.",
        "     7  2027-01-15 13:00:00Z  ada@box/1 wrote a note on trial 1 of tuning "
        "[redacted by ada@box/1, because a leaked key].",
        '     8  2027-01-15 14:00:00Z  ada@box/1 noted on trial 1 of tuning: "fan was off".',
        "     9  2027-01-15 15:00:00Z  ada@box/1 amended trial 1 of tuning: result ms from 1.9 to 2.1, because the fan was off.",
        "    10  2027-01-15 16:00:00Z  eve@lab/3 amended trial 1 of tuning: result ms from 2.1 to 2.2, because it was off twice.",
        "    11  2027-01-15 17:00:00Z  ada@box/1 amended the note of version 7 (position 8) on trial 1 of tuning "
        'from "fan was off" to "fan was on".',
        "    12  2027-01-15 18:00:00Z  ada@box/1 redacted the NoteAdded of version 6 (position 7) of trial 1 of tuning, "
        "because a leaked key.",
        "    13  2027-01-15 19:00:00Z  ada@box/1 created trial 2 of tuning with lr=0.2.",
        "    14  2027-01-15 20:00:00Z  ada@box/1 deleted trial 2 of tuning.",
        "    15  2027-01-15 21:00:00Z  ada@box/1 renamed the experiment from tuning to tuned.",
        "    16  2027-01-15 22:00:00Z  ada@box/1 created the experiment other.",
        "    17  2027-01-15 22:00:00Z  ada@box/1 created trial 1 of other with lr=0.1.",
        "    18  2027-01-15 23:00:00Z  ada@box/1 deleted the experiment other and its trials, because wrong machine.",
        '    19  2027-01-16 00:00:00Z  ada@box/1 noted in the stream diary: "dear diary".',
    ]


def test_one_trial_is_it_after_the_first_sentence(invoke, story):
    """The history of one trial names it once; amendments show the value before them whatever else is filtered away."""
    lines = [line.split("Z  ")[1] for line in invoke("history", story, "tuned", 1).stdout.splitlines()]
    assert lines[:3] == [
        "ada@box/1 created trial 1 of tuning with lr=0.1.",
        "bob@box/2/w1 claimed it (attempt 1, lease 7200 s).",
        "bob@box/2/w1 started it.",
    ]
    assert lines[6] == "ada@box/1 amended result ms from 1.9 to 2.1, because the fan was off."
    [amended] = invoke("history", story, "tuned", 1, "--actor", "eve@").stdout.splitlines()
    assert amended.endswith("eve@lab/3 amended trial 1 of tuning: result ms from 2.1 to 2.2, because it was off twice.")


def test_an_experiment_names_its_trials_by_number(invoke, story):
    """The history of an experiment has its trials, by number, also the deleted ones."""
    lines = invoke("history", story, "tuned").stdout.splitlines()
    assert lines[-3].endswith("created trial 2 with lr=0.2.")
    assert lines[-2].endswith("deleted trial 2.")
    assert len(lines) == 14


def test_what_was_deleted_is_told(positions):
    """A deleted experiment is found by its name, a deleted trial by its number."""
    assert positions("other") == [16, 17, 18]
    assert positions("other", 1) == [17]
    assert positions("tuned", 2) == [13, 14]


def test_filters(positions):
    """Every filter leaves out what it says, alone and together with others."""
    assert positions() == ALL
    assert positions("--renewals") == list(range(1, 20))
    assert positions("--actor", "bob@") == [3, 4, 6]
    assert positions("--actor", "w1", "--type", "TrialStarted", "--type", "TrialCompleted") == [4, 6]
    assert positions("--type", "LeaseRenewed") == [5]
    assert positions("--after", 10) == [p for p in ALL if p > 10]
    assert positions("--as-of", 4) == [1, 2, 3, 4]
    assert positions("tuned", "--after", 9, "--as-of", 13) == [10, 11, 12, 13]
    assert positions("tuned", 1, "--after", 9, "--as-of", 100) == [10, 11, 12]
    assert positions("--after", 100) == []


def test_times(positions):
    """--since includes its moment, --until as well; a duration counts back from now."""
    assert positions("--since", "2027-01-15T22:00Z") == [16, 17, 18, 19]
    assert positions("--since", "2027-01-15T22:00:00.000001Z") == [18, 19]
    assert positions("--until", "2027-01-15T09:00Z") == [1, 2, 3]
    assert positions("--until", "2027-01-15T10:00+01:00") == [1, 2, 3]
    assert positions("--until", "2027-01-15T08:59:59Z") == [1, 2]
    assert positions("--since", "2027-01-16") == [19]
    assert positions("--until", "2027-01-15") == []
    assert positions("--since", "2027-01-15T12:00Z", "--until", "2027-01-15T14:00Z", "tuned", "--actor", "ada") == [7, 8]
    assert positions("--since", "1h") == ALL  # the ledger's clock is ahead of ours
    assert positions("--until", "1h") == []


def test_configs(invoke, story, positions):
    """--config takes the number that the tables show, or the values; with their types, and within what was asked for."""
    assert positions("--config", 1) == [2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 17]
    assert positions("--config", 2) == [13, 14]
    assert positions("--config", '{"lr": 0.1}') == positions("--config", 1)
    assert positions("other", "--config", 1) == [17]
    assert positions("tuned", 2, "--config", 1) == []
    assert positions("--config", 1, "--after", 11, "--type", "TrialCreated") == [17]
    rows = json.loads(invoke("trials", story, "tuned", "--format", "json").stdout)
    for row in rows:
        assert positions("tuned", row["trial_id"], "--type", "TrialCreated") == positions(
            "tuned", "--config", row["config_id"], "--type", "TrialCreated"
        )
    for unknown in (9, "0", '{"lr": 1}'):
        result = invoke("history", story, "--config", unknown)
        assert (result.exit_code, result.stdout) == (4, "")
        assert "no trial has the config" in result.stderr


def test_limit_is_the_newest(positions, monkeypatch):
    """--limit gives the last so many of those that fit, in order, however far back they are."""
    from ledger.cli import history

    for smallest in (4096, 1):
        monkeypatch.setattr(history, "_SMALLEST_PART", smallest)
        assert positions("--limit", 3) == [17, 18, 19]
        assert positions("--limit", 2, "--actor", "bob@") == [4, 6]
        assert positions("--limit", 2, "--actor", "nobody") == []
        assert positions("tuned", 1, "--limit", 1) == [12]
        assert positions("--limit", 100) == ALL
        assert positions("--limit", 0) == []


def test_what_a_newer_version_wrote_is_no_hindrance(invoke, story, monkeypatch):
    """Where the state before cannot be folded, an amendment is told without the value before it."""
    from ledger.cli import sentences

    def refuse(*args):
        raise ledger.UnsupportedFormat("a TrialConfigured was recorded with schema 9.")

    monkeypatch.setattr(sentences, "_evolved", refuse)
    lines = invoke("history", story, "tuned", 1).stdout.splitlines()
    assert lines[6].endswith("amended result ms to 2.1, because the fan was off.")
    assert lines[8].endswith('amended the note of version 7 (position 8) to "fan was on".')


def test_what_happened_before_it_was_recorded(invoke, tmp_path):
    """A time that the caller gave is told when it is another one."""
    with ledger.open(tmp_path / "runs") as book:
        book.log.append([ledger.NoteAdded("late")], stream="diary", occurred_at=BEGIN)
    assert invoke("history", tmp_path / "runs").stdout.endswith('"late" (it happened at 2027-01-15 08:00:00.000Z).\n')


def test_as_a_process(call, story):
    """The command as the shell runs it: sentences in UTF-8, and records with the contract's keys."""
    done = call("history", story, "tuned", 1, "--limit", 1)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "    12  2027-01-15 18:00:00Z  ada@box/1 redacted the NoteAdded of version 6 (position 7) of trial 1 of tuning, "
        "because a leaked key.\n"
    )
    [row] = json.loads(call("history", story, "--limit", 1, "--format", "json").stdout)
    assert list(row) == list(RECORD_KEYS)
    assert (row["position"], row["event"]) == (19, {"text": "dear diary"})


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nothing"], 4, "no experiment 'nothing'"),
        (["tuned", "9"], 4, "no trial 9"),
        (["tuned", "first"], 2, "TRIAL"),
        (["--since", "yesterday"], 2, "--since"),
        (["--until", "25:00"], 2, "--until"),
        (["--since", "1h", "--until", "2h"], 2, "nothing lies between"),
        (["--after", "5", "--as-of", "5"], 2, "nothing between"),
        (["--after", "-1"], 2, "--after"),
        (["--config", "{"], 2, "--config"),
        (["--config", "[1]"], 2, "no JSON object"),
        (["--config", '{"$what": 1}'], 2, "--config"),
        (["--config", '{"a": {"$bytes": 5}}'], 2, "--config"),
        (["--limit", "-1"], 2, "--limit"),
    ],
)
def test_bad_input(invoke, story, words, code, said):
    """What cannot be is answered with a line that names it, and with nothing on standard output."""
    result = invoke("history", story, *words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("words", [[b"\xff"], ["--config", b"\xff"], ["--since", b"\xff"], ["--actor", b"\xff"]])
def test_bytes_that_are_no_text(call, story, words):
    """Bytes that are not UTF-8 get a plain answer; no actor is called so."""
    done = call("history", story, *words)
    assert (done.returncode, done.stdout) == (0 if words[0] == "--actor" else 2, "")
    assert "Traceback" not in done.stderr


def test_an_unknown_type_is_noted(invoke, story):
    """A slip of the pen in --type is noted, with the nearest type."""
    result = invoke("history", story, "--type", "TrialClaim")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "Did you mean TrialClaimed?" in result.stderr


def test_on_a_terminal_statuses_are_coloured(on_terminal, story):
    """On a terminal what led to SUCCEEDED is green."""
    text = on_terminal("history", story, "tuned", 1, "--type", "TrialCompleted", columns=200)
    assert re.search(r"\x1b\[32mcompleted trial 1 of tuning with ms=1\.9", text), text
