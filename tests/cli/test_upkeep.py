"""backup, restore, compact and doctor as commands: what they print, what programs read, and what goes wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
import typer

import ledger
from ledger.audit import verify
from ledger.cli.main import app
from ledger.redaction import remainder_of

COMMANDS = ("backup", "restore", "compact", "doctor")
LEVELS = {"ok", "note", "warning", "problem"}


def one_line_error(result) -> str:
    """Return the error line, having checked that it is all there is."""
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def redact_diary(path: Path) -> None:
    """Redact the sample's note in the diary."""
    with ledger.open(path) as book:
        (record,) = (record for record in book.log.read() if record.stream == "diary")
        gone = ledger.PayloadRedacted(record.version, record.type, remainder_of(record.stream, record.event))
        book.log.append([gone], stream="diary", reason="leak")


# ------------------------------------------------------------------------------------------------- what they are for


def test_a_backup_there_and_back(call, sample, tmp_path):
    """As processes, with JSON as the contract: the same ledger, head and root each time."""
    report = verify(sample)
    made = call("backup", sample, tmp_path / "monday.tar.zst", "--format", "json")
    assert (made.returncode, made.stderr) == (0, "")
    told = json.loads(made.stdout)
    assert list(told) == ["path", "ledger_id", "head", "root", "size_bytes", "seconds"]
    assert (told["head"], told["root"]) == (report.head, report.root.hex())
    assert told["path"] == str(tmp_path / "monday.tar.zst")
    assert told["size_bytes"] == os.path.getsize(tmp_path / "monday.tar.zst")
    back = call("restore", tmp_path / "monday.tar.zst", tmp_path / "again", "--format", "json")
    assert (back.returncode, back.stderr) == (0, "")
    restored = json.loads(back.stdout)
    assert list(restored) == ["path", "ledger_id", "head", "root", "size_bytes", "replaced", "seconds"]
    assert {key: restored[key] for key in ("ledger_id", "head", "root")} == {
        key: told[key] for key in ("ledger_id", "head", "root")
    }
    assert restored["replaced"] is None
    with ledger.open(tmp_path / "again", create=False) as book:
        assert (str(book.id), book.log.head) == (told["ledger_id"], report.head)


def test_compact_as_a_process(call, sample):
    """JSON says what was erased and how large the file is; the root stays."""
    redact_diary(sample)
    before = verify(sample)
    done = call("compact", sample, "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert list(told) == ["path", "ledger_id", "head", "root", "before_bytes", "after_bytes", "erased", "erased_blobs", "seconds"]
    assert (told["root"], told["erased"]) == (before.root.hex(), 1)
    assert told["after_bytes"] == os.path.getsize(sample / "data.mdb")


def test_doctor_as_a_process(call, sample):
    """JSON is a list of objects with the same four keys; 0 without a problem, 1 with one; the same for people."""
    done = call("doctor", sample, "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert all(list(finding) == ["name", "level", "message", "cure"] for finding in told)
    assert {finding["level"] for finding in told} <= LEVELS - {"problem"}
    assert {"content", "erasures", "readers"} <= {finding["name"] for finding in told}
    os.truncate(sample / "data.mdb", 8192)
    done = call("doctor", sample, "--format", "json")
    assert (done.returncode, done.stderr) == (1, "")
    (problem,) = [finding for finding in json.loads(done.stdout) if finding["level"] == "problem"]
    assert (problem["name"], "ledger restore" in problem["cure"]) == ("content", True)
    shown = call("doctor", sample)
    assert shown.returncode == 1
    assert "problem  content" in shown.stdout
    assert "cure: " in shown.stdout


def test_what_people_read(invoke, sample, tmp_path, monkeypatch):
    """Plain lines that name the next step: how to restore, how to undo, what was erased."""
    monkeypatch.chdir(tmp_path)
    redact_diary(sample)
    assert "compact" in invoke("doctor", sample).stdout
    assert f"ledger restore {tmp_path}/monday PATH" in invoke("backup", sample, tmp_path / "monday").stdout
    assert "erased     1 redacted" in invoke("compact", sample).stdout
    assert "redacted" not in invoke("compact", sample).stdout
    shown = invoke("restore", "monday", sample, "--replace").stdout
    undo = re.search(r"undo +ledger (restore \S+ \S+ --replace)\n", shown)
    assert undo is not None
    assert invoke(*undo[1].split()).exit_code == 0


def test_names_with_spaces_are_quoted_in_what_to_type_next(invoke, sample, tmp_path):
    """What is printed can be pasted into a shell."""
    shown = invoke("backup", sample, tmp_path / "on monday").stdout
    assert f"ledger restore '{tmp_path}/on monday' PATH" in shown


def test_progress_is_shown_on_a_terminal_only(on_terminal, call, sample, tmp_path):
    """On a terminal there is a bar while a large ledger is verified; a pipe gets the result alone."""
    with ledger.open(sample) as book:
        book.log.append([ledger.NoteAdded("x") for _ in range(80_000)], stream="bulk")
    assert "verifying the copy" in on_terminal("backup", sample, tmp_path / "monday")
    assert "verifying" not in call("backup", sample, tmp_path / "tuesday").stderr


def test_examples_of_the_help_work(invoke, sample, tmp_path, monkeypatch):
    """Each example is a command that parses, and that works where its paths are there."""
    monkeypatch.chdir(tmp_path)
    for name in COMMANDS:
        for example in re.findall(rf"^    ledger ({name} .*)$", invoke(name, "--help").output, re.MULTILINE):
            result = invoke(
                *example.replace("/backups/", f"{tmp_path}/")
                .replace("restore monday.tar.zst runs", "restore monday.tar.zst new")
                .split()
            )
            assert result.exit_code == 0, (example, result.output)
    for name in COMMANDS:
        assert all(option.help for option in typer.main.get_command(app).commands[name].params if option.name != "help")


# --------------------------------------------------------------------------------------------------------- what goes wrong


def words(name: str, path: object, tmp_path: Path) -> list[object]:
    """Return a command's words with the path as the thing that it reads."""
    return [name, path, *([tmp_path / "made"] if name in ("backup", "restore") else [])]


@pytest.mark.parametrize("name", COMMANDS)
def test_missing_path(invoke, tmp_path, name):
    """A path with nothing there exits with 3, says so, and creates nothing."""
    result = invoke(*words(name, tmp_path / "nothing", tmp_path))
    assert result.exit_code == 3
    assert "there is no " in one_line_error(result)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_is_no_ledger(invoke, tmp_path, name):
    """A file at the path exits with 3 and is left alone."""
    (tmp_path / "file").write_text("mine")
    result = invoke(*words(name, tmp_path / "file", tmp_path))
    assert result.exit_code == 3
    assert str(tmp_path / "file") in one_line_error(result)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("name", COMMANDS)
def test_memory_and_urls_are_refused(invoke, tmp_path, name):
    """They have no files to keep."""
    for path in ("memory:", "nats://host/runs"):
        result = invoke(*words(name, path, tmp_path))
        assert (result.exit_code, "has no files" in one_line_error(result)) == (2, True)


@pytest.mark.parametrize("name", COMMANDS)
def test_arguments_that_are_no_text(call, sample, tmp_path, name):
    """Bytes that are not UTF-8 get a plain answer wherever a path is expected, and nothing is made of them."""
    given = [words(name, b"/tmp/\xff.ledger", tmp_path)]
    if name in ("backup", "restore"):
        given.append([name, sample, os.fsencode(tmp_path) + b"/\xff"])
    before = sorted(os.listdir(os.fsencode(tmp_path)))
    for each in given:
        result = call(*each)
        assert (result.returncode, "not valid text" in one_line_error(result)) == (2, True)
    assert sorted(os.listdir(os.fsencode(tmp_path))) == before


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("backup LEDGER LEDGER", 2, "overwrites nothing"),
        ("backup LEDGER TMP/none/made", 2, "Create it first"),
        ("backup LEDGER TMP/made.zip", 2, ".tar.zst"),
        ("backup LEDGER LEDGER/made", 2, "inside the ledger"),
        ("restore LEDGER LEDGER", 2, "two different paths"),
        ("restore COPY LEDGER", 2, "--replace"),
        ("restore COPY TMP/none/made", 2, "Create it first"),
        ("restore COPY TMP/thesis.tex --replace", 3, "is a file"),
        ("restore TMP/thesis.tex TMP/made", 3, "not a whole backup"),
        ("restore COPY TMP --replace", 3, "without data.mdb"),
    ],
)
def test_places_that_cannot_be(invoke, sample, tmp_path, line, code, said):
    """One line that names the place and the cure; nothing is changed."""
    shutil.copytree(sample, tmp_path / "copy")
    (tmp_path / "thesis.tex").write_text("42")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock.mdb"}
    places = {"LEDGER": sample, "COPY": tmp_path / "copy", "TMP": tmp_path}
    result = invoke(*(re.sub("^(LEDGER|COPY|TMP)", lambda match: str(places[match[0]]), word) for word in line.split()))
    assert (result.exit_code, said in one_line_error(result)) == (code, True), result.stderr
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock.mdb"}
    assert after == before


@pytest.mark.parametrize(
    "line",
    ["backup", "backup PATH", "restore", "restore PATH", "compact", "doctor", "compact PATH --force", "doctor PATH --format csv"],
)
def test_wrong_usage(invoke, sample, line):
    """Missing and unknown words exit with 2."""
    result = invoke(*(sample if word == "PATH" else word for word in line.split()))
    assert (result.exit_code, "Traceback" in result.stderr) == (2, False)


@pytest.mark.parametrize("name", ["backup", "restore", "compact"])
def test_damage_exits_with_5(invoke, sample, tmp_path, name):
    """A record whose checksum fails is in no copy."""
    data = (sample / "data.mdb").read_bytes()
    (sample / "data.mdb").write_bytes(data.replace(b"dear diary", b"dear diarx"))
    result = invoke(*words(name, sample, tmp_path))
    assert (result.exit_code, "checksum" in one_line_error(result)) == (5, True)
    assert os.listdir(tmp_path) == [sample.name]


@pytest.mark.parametrize("name", ["compact", "restore"])
def test_an_open_ledger_is_refused_with_the_pid(call, spawn, sample, tmp_path, name):
    """Who has it open is named, with its command; backups and the doctor need nobody to leave."""
    shutil.copytree(sample, tmp_path / "copy")
    tail = spawn("tail", sample, "-f")
    tail.stdout.readline()
    given = [name, sample] if name == "compact" else [name, tmp_path / "copy", sample, "--replace"]
    result = call(*given)
    assert (result.returncode, f"process {tail.pid} " in one_line_error(result)) == (3, True)
    assert "tail" in result.stderr
    assert call("backup", sample, tmp_path / "made").returncode == 0
    doctor = call("doctor", sample, "--format", "json")
    assert (doctor.returncode, f"process {tail.pid} " in doctor.stdout) == (0, True)
    tail.terminate()
    tail.wait()
    assert call(*given).returncode == 0


@pytest.mark.parametrize("name", ["backup", "compact"])
def test_an_interrupt_leaves_nothing(spawn, sample, tmp_path, name):
    """Ctrl-C exits with 130, the ledger is as it was, and nothing half-made is left."""
    with ledger.open(sample) as book:
        book.log.append([ledger.NoteAdded("x" * 300) for _ in range(30_000)], stream="bulk")
    root = verify(sample).root
    process = spawn(*words(name, sample, tmp_path), start_new_session=True)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not [
        *sample.glob("compacting-*/*/data.mdb"),
        *tmp_path.glob(".made.partial-*/*/data.mdb"),
    ]:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, b"")
    assert verify(sample).root == root
    assert os.listdir(tmp_path) == [sample.name]
    assert [entry for entry in os.listdir(sample) if "-" in entry] == []
