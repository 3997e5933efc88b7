"""What goes wrong becomes one plain line on standard error and a documented exit code."""

from __future__ import annotations

import os
import subprocess
import sys

import lmdb
import pytest

import ledger
from ledger.cli.app import exit_code

READERS = ["info", "experiments", "tail", "verify", "export"]


def one_line_error(result) -> str:
    """Return the error line, having checked that it is all there is."""
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.mark.parametrize("name", READERS)
def test_missing_ledger(invoke, tmp_path, name):
    """A path with nothing there exits with 3, says so, and creates nothing."""
    result = invoke(name, tmp_path / "nothing")
    assert result.exit_code == 3
    assert "there is no ledger at" in one_line_error(result)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", [*READERS, "init", "demo"])
def test_a_file_is_no_ledger(invoke, tmp_path, name):
    """A file at the path exits with 3 and is left alone."""
    (tmp_path / "file").write_text("mine")
    result = invoke(name, tmp_path / "file")
    assert result.exit_code == 3
    assert "is a file" in one_line_error(result)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("name", READERS)
def test_an_empty_directory_is_no_ledger(invoke, tmp_path, name):
    """An empty directory exits with 3 for every reader and stays empty."""
    result = invoke(name, tmp_path)
    assert result.exit_code == 3
    assert "ledger init" in one_line_error(result)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["info", "experiments", "tail", "export", "init"])
def test_another_lmdb_is_no_ledger(invoke, tmp_path, name):
    """A directory with somebody else's LMDB exits with 3."""
    with lmdb.open(str(tmp_path / "other"), max_dbs=2) as other, other.begin(write=True) as txn:
        txn.put(b"key", b"value")
    result = invoke(name, tmp_path / "other")
    assert result.exit_code == 3, result.output
    assert "not a ledger" in one_line_error(result)


def test_a_directory_with_other_files_is_left_alone(invoke, tmp_path):
    """Init refuses a directory that holds somebody's files."""
    (tmp_path / "thesis.tex").write_text("42")
    assert invoke("init", tmp_path).exit_code == 3
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_unknown_experiment_and_trial(invoke, sample):
    """What is not in the ledger exits with 4, with the nearest name."""
    result = invoke("show", sample, "sqlite-tunning")
    assert (result.exit_code, "Did you mean 'sqlite-tuning'?" in one_line_error(result)) == (4, True)
    for name in ("show", "history"):
        assert invoke(name, sample, "sqlite-tuning", 99).exit_code == 4
    assert invoke("tail", sample, "--experiment", "nothing").exit_code == 4
    assert invoke("trials", sample, "nothing").exit_code == 4
    assert invoke("export", sample, "--experiment", "nothing").exit_code == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tail", "PATH", "--after", "-1"], "--after"),
        (["tail", "PATH", "--after", "x"], "--after"),
        (["tail", "PATH", "--after", "1", "--lines", "2"], "not both"),
        (["tail", "PATH", "--trial", "1"], "--experiment"),
        (["tail", "PATH", "--format", "csv"], "--format"),
        (["show", "PATH", "sqlite-tuning", "first"], "TRIAL"),
        (["trials", "PATH", "sqlite-tuning", "--sort", "result.latency"], "result.latency_ms"),
        (["trials", "PATH", "sqlite-tuning", "--status", "BROKEN"], "--status"),
        (["trials", "PATH", "sqlite-tuning", "--limit", "-1"], "--limit"),
        (["demo", "PATH", "--trials", "0"], "--trials"),
        (["demo", "PATH", "--workers", "0"], "--workers"),
        (["info"], "PATH"),
        (["infos", "PATH"], "infos"),
    ],
)
def test_wrong_usage(invoke, sample, words, said):
    """Wrong options exit with 2 and name the option at fault."""
    result = invoke(*(str(sample) if word == "PATH" else word for word in words))
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_memory_is_refused(invoke):
    """A ledger in memory makes no sense for a command that ends."""
    assert invoke("info", "memory:").exit_code == 2


@pytest.mark.parametrize(
    "words",
    [
        ["show", "PATH", b"\xff"],
        ["trials", "PATH", b"a\xff"],
        ["history", "PATH", b"\xff", "1"],
        ["tail", "PATH", "--experiment", b"\xff"],
        ["export", "PATH", "--experiment", b"\xff"],
        ["trials", "PATH", "sqlite-tuning", "--sort", b"\xff"],
        ["info", b"/nowhere/\xff"],
        ["init", b"/tmp/\xff.ledger"],
        ["verify", b"/tmp/\xff.ledger"],
    ],
)
def test_arguments_that_are_no_text(call, sample, words):
    """Bytes that are not UTF-8 get a plain answer wherever a name or path is expected."""
    result = call(*(sample if word == "PATH" else word for word in words))
    assert (result.returncode, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr
    assert not os.path.exists(b"/tmp/\xff.ledger")


def test_a_type_that_is_no_text_matches_nothing(call, sample):
    """An event type of bytes that are not UTF-8 is noted as unknown and shows no record."""
    result = call("tail", sample, "--type", b"\xff")
    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr.startswith("note: ")


def test_every_error_of_the_package_has_an_exit_code():
    """No error of the tree falls through to a traceback or to success."""
    for name in ledger.errors.__all__:
        error = getattr(ledger, name)
        assert exit_code(error.__new__(error)) in (2, 3, 4, 5, 6)


def test_damage_in_the_way_of_a_reader_exits_with_5(invoke, sample, monkeypatch):
    """Damaged bytes that a reading command meets are named, and not shown."""
    from ledger.backends.lmdb import LmdbBackend

    def damaged(*args, **more):
        raise ledger.Corrupted("the record at position 3 fails its check.", 3)

    monkeypatch.setattr(LmdbBackend, "read_entries", damaged)
    result = invoke("export", sample)
    assert (result.exit_code, "position 3" in one_line_error(result)) == (5, True)


def test_errors_stay_on_one_line_and_hold_no_control_characters(invoke, sample):
    """A name with line breaks and escape sequences cannot disturb the terminal or the line."""
    error = one_line_error(invoke("show", sample, "a\n\x1b[2Jb"))
    assert "\x1b" not in error


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_behind_the_output(sample):
    """Output that cannot be written exits with 6 and one line, not a traceback."""
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [sys.executable, "-m", "ledger", "export", str(sample)], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert result.returncode == 6
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_read_only_files_are_named(call, sample, tmp_path):
    """Without the right to write, readers say what is missing and how to get it."""
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    sample.chmod(0o500)
    try:
        result = call("info", sample)
    finally:
        sample.chmod(0o700)
    assert result.returncode == 3
    assert "chmod" in result.stderr


def test_a_read_only_mount_is_read(invoke, sample, monkeypatch):
    """Where nothing can be written, readers open the ledger to read only; when that fails too, the first reason is told."""
    opened = ledger.open

    def on_a_readonly_mount(path, *, create=True, readonly=False, actor=None):
        if not readonly:
            raise ledger.ReadOnlyLedger("it is on a read-only mount.")
        return opened(path, readonly=True, actor=actor)

    monkeypatch.setattr(ledger, "open", on_a_readonly_mount)
    assert invoke("tail", sample).exit_code == 0
    result = invoke("info", sample / "nothing")
    assert (result.exit_code, "read-only mount" in one_line_error(result)) == (3, True)
    assert invoke("init", sample).exit_code == 0
    assert invoke("demo", sample).exit_code == 3
