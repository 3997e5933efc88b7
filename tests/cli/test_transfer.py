"""Export, import and merge as commands: what they make, what they print for programs, what they refuse."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import ledger
from ledger.transfer.jsonlines import RECORD_KEYS

IMPORT_KEYS = ["source", "path", "id", "rewrite", "records", "copied", "known", "head", "root"]
MERGE_KEYS = [
    "source", "source_id", "source_size", "source_root", "path", "id", "copied", "experiments", "renamed", "position", "head",
    "root",
]  # fmt: skip


def answer(result, keys):
    """Return the summary for programs: one line of JSON with these keys, in this order."""
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("\n") == 1
    facts = json.loads(result.stdout)
    assert list(facts) == keys
    return facts


def tree(path):
    with ledger.open(path) as book:
        size, root = book.log.backend.tree_head()
        return {"id": str(book.id), "head": size, "root": root.hex()}


def one_line_error(result, code):
    """Return the error line, having checked that it is all there is."""
    assert (getattr(result, "returncode", None) or result.exit_code, result.stdout) == (code, ""), result
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture
def lines(invoke, sample, tmp_path):
    """Return the export of the sample, in a file."""
    path = tmp_path / "runs.jsonl"
    path.write_text(invoke("export", sample).stdout)
    return path


# ----------------------------------------------------------------------------------------------------------- import


def test_export_and_import_make_the_same_ledger(call, sample, tmp_path):
    """Through a file, as processes: the summary names the ledger, and the copy's export is the file again."""
    file = tmp_path / "runs.jsonl"
    assert call("export", sample, "--output", file).returncode == 0
    facts = answer(call("import", file, tmp_path / "copy", "--from", "jsonl", "--format", "json"), IMPORT_KEYS)
    size = tree(sample)["head"]
    assert facts == {
        "source": str(file), "path": str(tmp_path / "copy"), "rewrite": False, "records": size, "copied": size, "known": 0,
        **tree(sample),
    }  # fmt: skip
    assert tree(tmp_path / "copy") == tree(sample)
    assert call("export", tmp_path / "copy").stdout == file.read_text()
    assert call("verify", tmp_path / "copy").returncode == 0


def test_import_from_standard_input(call, lines, tmp_path):
    """A dash reads standard input; the copy is the same."""
    facts = answer(call("import", "-", tmp_path / "copy", "--format", "json", input=lines.read_text()), IMPORT_KEYS)
    assert facts["source"] == "standard input"
    assert call("export", tmp_path / "copy").stdout == lines.read_text()
    result = call("import", "-", tmp_path / "again", input="{}\n")
    assert "standard input, line 1: " in one_line_error(result, 2)


def test_import_for_people(invoke, lines, tmp_path):
    """What was made is said in a sentence, with the root to compare."""
    text = invoke("import", lines, tmp_path / "copy").stdout
    facts = tree(tmp_path / "copy")
    assert text == f"Imported 20 records to {tmp_path / 'copy'}: the ledger {facts['id']}, root {facts['root']}\n"


def test_import_rewrite(call, invoke, sample, lines, tmp_path):
    """The records are appended to a new ledger or to one that is there; again, nothing is."""
    first = answer(call("import", lines, tmp_path / "all", "--rewrite", "--format", "json"), IMPORT_KEYS)
    again = answer(call("import", lines, tmp_path / "all", "--rewrite", "--format", "json"), IMPORT_KEYS)
    count = tree(sample)["head"]
    assert (first["records"], first["copied"], first["known"], first["rewrite"]) == (count, count, 0, True)
    assert (again["records"], again["copied"], again["known"]) == (count, 0, count)
    assert {key: again[key] for key in ("id", "head", "root")} == tree(tmp_path / "all")
    assert first["id"] != tree(sample)["id"]
    assert invoke("import", lines, tmp_path / "all", "--rewrite").stdout == (
        f"Appended 0 records to {tmp_path / 'all'} ({count} were there already); it has {count} now.\n"
    )


def test_a_part_is_imported_with_rewrite_only(invoke, sample, tmp_path):
    """The export of one experiment is no ledger; the error names the way."""
    file = tmp_path / "some.jsonl"
    file.write_text(invoke("export", sample, "--experiment", "größe 🚀").stdout)
    assert "--rewrite" in one_line_error(invoke("import", file, tmp_path / "copy"), 2)
    assert invoke("import", file, tmp_path / "copy", "--rewrite").exit_code == 0
    assert [line["name"] for line in json.loads(invoke("experiments", tmp_path / "copy", "--format", "json").stdout)] == [
        "größe 🚀"
    ]


def test_an_empty_ledger_exports_nothing(invoke, tmp_path):
    """And nothing is no ledger: the error says how to make an empty one."""
    invoke("init", tmp_path / "empty")
    assert invoke("export", tmp_path / "empty").stdout == ""
    (tmp_path / "file").write_text("")
    assert "ledger init" in one_line_error(invoke("import", tmp_path / "file", tmp_path / "copy"), 2)
    assert not (tmp_path / "copy").exists()
    assert invoke("import", tmp_path / "file", tmp_path / "empty", "--rewrite").exit_code == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["LINES", "PATH", "--from", "mlflow"], 2, "'jsonl'"),
        (["LINES", "PATH", "--from", "mlxp"], 2, "log directory"),
        (["LINES", "memory:"], 2, "memory:"),
        (["LINES", ""], 2, "no path"),
        (["LINES", "LEDGER"], 4, "not empty"),
        (["LINES", "LINES"], 3, "is a file"),
        (["LINES", "LINES", "--rewrite"], 3, "is a file"),
        (["LINES", "no/such/place"], 3, "does not exist"),
        (["LEDGER", "PATH"], 2, "ledger merge"),
        (["nothing.jsonl", "PATH"], 3, "there is no file nothing.jsonl"),
        (["nothing.jsonl", "PATH", "--rewrite"], 3, "there is no file nothing.jsonl"),
        (["DATA", "PATH"], 2, "data.mdb, line 1: "),
        (["DATA", "PATH", "--rewrite"], 2, "data.mdb, line 1: "),
        (["DATA/x", "PATH"], 3, "there is no file"),
        (["a\0b", "PATH"], 2, "cannot be read"),
    ],
)
def test_import_of_what_cannot_be(invoke, sample, lines, tmp_path, monkeypatch, words, code, said):
    """Each is answered with one line, and nothing is made."""
    monkeypatch.chdir(tmp_path)
    before = sorted(os.listdir(tmp_path)), (sample / "data.mdb").read_bytes()
    places = {"LINES": lines, "LEDGER": sample, "PATH": tmp_path / "new", "DATA": sample / "data.mdb", "DATA/x": lines / "x"}
    result = invoke("import", *(places.get(word, word) for word in words))
    assert result.exit_code == code, result.output
    assert said in result.stderr
    assert "Traceback" not in result.output
    assert (sorted(os.listdir(tmp_path)), (sample / "data.mdb").read_bytes()) == before


def test_a_damaged_line_is_named(call, lines, tmp_path):
    """File, line, thing and cure in one line; nothing is left at the path."""
    content = lines.read_text().splitlines()
    content[4] = content[4].replace("TrialStarted", "TrialStopped").replace('"attempt":1', '"attempt":2')
    lines.write_text("\n".join(content))
    for options in ([], ["--rewrite"]):
        error = one_line_error(call("import", lines, tmp_path / "copy", *options), 2)
        assert error.startswith(f"error: {lines}, line 5: ")
    assert not (tmp_path / "copy" / "data.mdb").exists() or tree(tmp_path / "copy")["head"] == 0


def test_a_killed_import_leaves_no_ledger(spawn, sample, lines, tmp_path):
    """SIGKILL in the middle of standard input: nothing at the path; the next import tidies up and succeeds."""
    process = spawn("import", "-", tmp_path / "copy", stdin=subprocess.PIPE)
    process.stdin.write(lines.read_bytes()[:-10])
    process.stdin.flush()
    _until(lambda: (tmp_path / ".copy.importing" / "data.mdb").exists())
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "copy").exists()
    process = spawn("import", lines, tmp_path / "copy")
    assert process.wait() == 0
    assert tree(tmp_path / "copy") == tree(sample)
    assert not (tmp_path / ".copy.importing").exists()


def test_an_interrupted_import_leaves_nothing(spawn, lines, tmp_path):
    """Ctrl-C ends it with 130, and without a trace."""
    process = spawn("import", "-", tmp_path / "copy", stdin=subprocess.PIPE)
    process.stdin.write(lines.read_bytes()[:-10])
    process.stdin.flush()
    _until(lambda: (tmp_path / ".copy.importing" / "data.mdb").exists())
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert process.stderr.read() == b""
    assert sorted(os.listdir(tmp_path)) == ["runs.jsonl", "runs.ledger"]


def _until(happened):
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# ------------------------------------------------------------------------------------------------------------ merge


@pytest.fixture
def target(invoke, tmp_path):
    """Return an empty ledger to merge into."""
    path = tmp_path / "all.ledger"
    invoke("init", path)
    return path


def test_merge_as_a_process(call, sample, target):
    """The summary for programs names both trees, what was copied, and where the event is."""
    facts = answer(call("merge", sample, target, "--format", "json"), MERGE_KEYS)
    source = tree(sample)
    assert (facts["source_id"], facts["source_size"], facts["source_root"]) == (source["id"], source["head"], source["root"])
    assert {key: facts[key] for key in ("id", "head", "root")} == tree(target)
    assert (facts["copied"], len(facts["experiments"]), facts["renamed"]) == (source["head"] - 1, 2, {})
    assert facts["position"] == facts["head"] == facts["copied"] + 1
    again = answer(call("merge", sample, target, "--format", "json"), MERGE_KEYS)
    assert (again["copied"], again["experiments"], again["position"], again["head"]) == (0, [], None, facts["head"])
    assert call("verify", target).returncode == 0
    assert tree(sample) == source


def test_merge_for_people(invoke, sample, target):
    """What was copied is said in a sentence, also when it is nothing."""
    assert invoke("merge", sample, target).stdout == f"Copied 19 records of 2 experiments to {target}; it has 20 records now.\n"
    assert invoke("merge", sample, target).stdout == f"Nothing was copied: {target} has all of it.\n"


def test_merge_with_another_name(invoke, sample, target):
    """A name that is taken is refused with the cure, which works."""
    with ledger.open(target) as book:
        book.experiment("sqlite-tuning")
    error = one_line_error(invoke("merge", sample, target, "--experiment", "sqlite-tuning"), 4)
    assert "--rename sqlite-tuning=NEW" in error
    words = ["--experiment", "sqlite-tuning", "--rename", "sqlite-tuning=a=b", "--format", "json"]
    facts = json.loads(invoke("merge", sample, target, *words).stdout)
    assert facts["renamed"] == {"sqlite-tuning": "a=b"}
    assert [row["name"] for row in json.loads(invoke("experiments", target, "--format", "json").stdout)] == [
        "sqlite-tuning",
        "a=b",
    ]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nothing", "TARGET"], 3, "there is no ledger at"),
        (["SAMPLE", "nothing"], 3, "there is no ledger at"),
        (["SAMPLE", "SAMPLE"], 2, "the same ledger"),
        (["memory:", "TARGET"], 2, "memory:"),
        (["SAMPLE", "memory:"], 2, "memory:"),
        (["SAMPLE", "TARGET", "--experiment", "sqlite-tunning"], 4, "Did you mean 'sqlite-tuning'?"),
        (["SAMPLE", "TARGET", "--rename", "x"], 2, "OLD=NEW"),
        (["SAMPLE", "TARGET", "--rename", "=x"], 2, "OLD=NEW"),
        (["SAMPLE", "TARGET", "--rename", "x="], 2, "OLD=NEW"),
        (["SAMPLE", "TARGET", "--rename", "x=y"], 2, "no experiment to be merged is or was called"),
        (["SAMPLE"], 2, "PATH"),
    ],
)
def test_merge_of_what_cannot_be(invoke, sample, target, tmp_path, monkeypatch, words, code, said):
    """Each is answered plainly, and nothing is written or made."""
    monkeypatch.chdir(tmp_path)
    before = sorted(os.listdir(tmp_path)), tree(sample), tree(target)
    result = invoke("merge", *({"SAMPLE": sample, "TARGET": target}.get(word, word) for word in words))
    assert result.exit_code == code, result.output
    assert said in result.stderr
    assert "Traceback" not in result.output
    assert (sorted(os.listdir(tmp_path)), tree(sample), tree(target)) == before


@pytest.mark.parametrize(
    "words",
    [
        ["import", b"\xff.jsonl", "PATH"],
        ["import", "LINES", b"/tmp/\xff.ledger"],
        ["import", "LINES", b"/tmp/\xff.ledger", "--rewrite"],
        ["import", "LINES", "PATH", "--from", b"\xff"],
        ["merge", b"/tmp/\xff", "PATH"],
        ["merge", "SAMPLE", b"/tmp/\xff.ledger"],
        ["merge", "SAMPLE", "SAMPLE", "--experiment", b"\xff"],
        ["merge", "SAMPLE", "SAMPLE", "--rename", b"\xff=a"],
        ["merge", "SAMPLE", "SAMPLE", "--rename", b"a=\xff"],
    ],
)
def test_arguments_that_are_no_text(call, sample, lines, tmp_path, words):
    """Bytes that are not UTF-8 get a plain answer."""
    result = call(*({"SAMPLE": sample, "LINES": lines, "PATH": tmp_path / "new"}.get(word, word) for word in words))
    assert (result.returncode, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr
    assert not os.path.exists(b"/tmp/\xff.ledger")


# ----------------------------------------------------------------------------------------------------------- export


def test_export_to_a_closed_pipe_ends_quietly(sample):
    """A reader that has enough is no error."""
    command = f"{sys.executable} -m ledger export {sample} | head -1"
    result = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert tuple(json.loads(result.stdout))[: len(RECORD_KEYS)] == RECORD_KEYS


def test_a_deleted_experiment_is_exported_by_name(invoke, sample):
    """Its history is not gone."""
    with ledger.open(sample) as book:
        book.get_experiment("größe 🚀").delete()
    lines = [json.loads(line) for line in invoke("export", sample, "--experiment", "größe 🚀").stdout.splitlines()]
    assert [line["type"] for line in lines] == ["ExperimentCreated", "TrialCreated", "ExperimentDeleted"]
