"""Following the log: filters, order, and clean ends."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys

import pytest

import ledger


def positions(text):
    """Return the positions of JSON lines."""
    return [json.loads(line)["position"] for line in text.splitlines()]


@pytest.fixture
def head(sample):
    """The sample's last position."""
    with ledger.open(sample) as book:
        return book.log.head


def jsonl(invoke, sample, *options):
    """Tail the sample and return the positions."""
    result = invoke("tail", sample, "--format", "jsonl", *options)
    assert (result.exit_code, result.stderr) == (0, "")
    return positions(result.stdout)


def test_the_last_ten_by_default(invoke, sample, head):
    """Without a place to begin, the last ten records are printed."""
    assert jsonl(invoke, sample) == list(range(head - 9, head + 1))
    assert jsonl(invoke, sample, "-n", 3) == [head - 2, head - 1, head]
    assert jsonl(invoke, sample, "-n", 0) == []
    assert jsonl(invoke, sample, "-n", 10_000) == list(range(1, head + 1))


def test_after_is_exclusive(invoke, sample, head):
    """--after begins with the next position."""
    assert jsonl(invoke, sample, "--after", 4) == list(range(5, head + 1))
    assert jsonl(invoke, sample, "--after", 0) == list(range(1, head + 1))
    assert jsonl(invoke, sample, "--after", head) == []
    assert jsonl(invoke, sample, "--after", head + 100) == []


def test_filters(invoke, sample):
    """Experiment, trial and type leave the other records out."""
    with ledger.open(sample) as book:
        exp = book.get_experiment("sqlite-tuning")
        of_experiment = [record.position for record in exp.history(trials=True, renewals=True)]
        of_trial = [record.position for record in exp.trial(1).history(renewals=True)]
        created = [record.position for record in book.log.read(types=["TrialCreated", "ExperimentCreated"])]
    assert jsonl(invoke, sample, "-n", 1000, "--experiment", "sqlite-tuning") == of_experiment
    assert jsonl(invoke, sample, "--after", 0, "--experiment", "sqlite-tuning", "--trial", 1) == of_trial
    assert jsonl(invoke, sample, "--after", 0, "--type", "TrialCreated", "--type", "ExperimentCreated") == created
    assert jsonl(invoke, sample, "-n", 2, "--type", "TrialCreated", "--type", "ExperimentCreated") == created[-2:]


def test_a_type_that_is_misspelt_is_noted(invoke, sample):
    """A type that the package does not know gets a note with the nearest one; it may be a caller's own."""
    result = invoke("tail", sample, "--type", "TrialFaild")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "Did you mean TrialFailed?" in result.stderr


def test_lines_for_people(invoke, sample):
    """Each line names the position, whom it is about, what happened and its content."""
    lines = invoke("tail", sample, "-n", 1000).stdout.splitlines()
    [completed] = [line for line in lines if "TrialCompleted" in line]
    assert "sqlite-tuning/1" in completed
    assert completed.endswith("latency_ms=1.9")
    [failed] = [line for line in lines if "TrialFailed" in line]
    assert failed.endswith("ValueError: cache must be at least 1 MB")
    assert lines[-1].endswith("dear diary") or "text=dear diary" in lines[-1]


def test_lines_of_corrections(invoke, sample):
    """Amendments, tombstones, seals, groups, parents and redactions have a compact line each."""
    with ledger.open(sample) as book:
        head = book.log.head
        exp = book.get_experiment("sqlite-tuning")
        one, two = exp.trial(1), exp.trial(2)
        one.amend(results={"latency_ms": 2.1}, reason="the fan was off")
        book.log.append([ledger.TrialGrouped("pairs"), ledger.ParentsSet([one.stream])], stream=two.stream)
        one.note("secret")
        [note] = [record for record in one.history() if record.type == "NoteAdded"]
        one.amend_note(note.version, "other", reason="asked")
        book.redact(note.position, reason="leak")
        two.delete(reason="double")
        exp.seal()
    lines = [line.split("Z  ")[1] for line in invoke("tail", sample, "--after", head).stdout.splitlines()]
    assert [re.sub(" +", " ", line) for line in lines] == [
        "sqlite-tuning/1 TrialAmended latency_ms=2.1 (amended) because: the fan was off",
        "sqlite-tuning/2 TrialGrouped into pairs",
        "sqlite-tuning/2 ParentsSet from sqlite-tuning/1",
        "sqlite-tuning/1 NoteAdded [redacted]",
        f"sqlite-tuning/1 NoteAmended version {note.version}: other because: asked",
        f"sqlite-tuning/1 PayloadRedacted the NoteAdded of version {note.version} because: leak",
        "sqlite-tuning/2 TrialDeleted because: double",
        "sqlite-tuning ExperimentSealed",
    ]


def test_a_line_is_cut_to_the_terminal_and_coloured_by_status(on_terminal, sample):
    """On a terminal a line takes one row, and its type has the colour of the status that it leads to."""
    with ledger.open(sample) as book:
        book.get_experiment("sqlite-tuning").trial(2).note("x" * 150)
    text = on_terminal("tail", sample, "-n", 1000, columns=90)
    assert all(len(re.sub(r"\x1b\[[\d;]*m", "", line)) <= 90 for line in text.splitlines())
    assert re.search(r"\x1b\[32m *TrialCompleted", text)
    assert re.search(r"\x1b\[31m *TrialFailed", text)
    assert re.search(r"\x1b\[33m *TrialCanceled", text)


def test_follow_sees_what_another_process_appends_and_ends_on_interrupt(spawn, sample, head):
    """-f prints records of other processes as they come; Ctrl-C is its normal end: exit 0, nothing on stderr."""
    tail = spawn("tail", sample, "-f", "--after", head - 1, "--format", "jsonl")
    assert json.loads(tail.stdout.readline())["position"] == head
    code = "import sys, ledger\nwith ledger.open(sys.argv[1]) as b: b.log.append([ledger.NoteAdded('now')], stream='diary')"
    subprocess.run([sys.executable, "-c", code, str(sample)], check=True)
    line = json.loads(tail.stdout.readline())
    assert (line["position"], line["event"]) == (head + 1, {"text": "now"})
    tail.send_signal(signal.SIGINT)
    out, err = tail.communicate(timeout=30)
    assert (tail.returncode, out, err) == (0, b"", b"")


def test_follow_for_people_with_filters(spawn, sample):
    """-f with filters passes on the filtered records only, and shows a new name once it is changed."""
    tail = spawn("tail", sample, "-f", "-n", 1, "--experiment", "größe 🚀")
    assert b"TrialCreated" in tail.stdout.readline()
    with ledger.open(sample) as book:
        book.log.append([ledger.NoteAdded("not this")], stream="diary")
        exp = book.get_experiment("größe 🚀")
        exp.rename("size")
        exp.note("this")
    assert b"ExperimentRenamed" in tail.stdout.readline()
    note = tail.stdout.readline()
    assert b"this" in note
    assert b"  size " in note
    tail.send_signal(signal.SIGINT)
    assert tail.wait(30) == 0


@pytest.mark.parametrize(
    "words", [["tail", "--after", "0", "--format", "jsonl"], ["export"], ["tail", "--after", "0"], ["tail", "-f"]]
)
def test_a_reader_that_stops_ends_the_command_quietly(spawn, sample, words):
    """When the reader of the pipe is gone, the command ends with 0 and says nothing."""
    with ledger.open(sample) as book:
        book.log.append([ledger.NoteAdded("x" * 1000) for _ in range(400)], stream="diary")  # more than a pipe holds
    process = spawn(words[0], sample, *words[1:])
    assert process.stdout.readline()
    process.stdout.close()
    if "-f" in words:  # it learns of the closed pipe when it next writes
        with ledger.open(sample) as book:
            book.log.append([ledger.NoteAdded("x" * 1000) for _ in range(400)], stream="diary")
    assert process.wait(60) == 0
    assert process.stderr.read() == b""
    process.stdout = None


def test_through_head(sample):
    """The shell's `| head -1` gets its line, and nobody complains."""
    command = f"set -o pipefail; {sys.executable} -m ledger export {sample} | head -1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert positions(result.stdout) == [1]


def test_tail_does_not_import_pandas(sample):
    """Commands that need no table start without pandas."""
    code = "import sys; from ledger.cli.main import app\ntry: app()\nexcept SystemExit: pass\nassert 'pandas' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, "tail", str(sample)], check=True, capture_output=True)
