"""Each command's output in each format, parsed back."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import textwrap
import uuid

import pytest

import ledger
from ledger.cli.output import RECORD_KEYS, Format, json_cell, print_rows, record_json
from ledger.values import from_json


def rows_of(result, form):
    """Parse the rows of an output."""
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    if form == "json":
        return json.loads(result.stdout)
    if form == "jsonl":
        return [json.loads(line) for line in result.stdout.splitlines()]
    return list(csv.DictReader(io.StringIO(result.stdout)))


# ----------------------------------------------------------------------------------------------------- the whole ledger


def test_init_creates_once(invoke, tmp_path):
    """Init creates a ledger and says so; again, it says that it is there, and changes nothing."""
    first = invoke("init", tmp_path / "runs.ledger")
    again = invoke("init", tmp_path / "runs.ledger")
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert first.stdout.startswith("Created the ledger")
    assert "a ledger already: 0 records" in again.stdout
    assert re.search(r"id (\S+?)\.", first.stdout)[1] in again.stdout


def test_init_in_an_empty_directory(invoke, tmp_path):
    """An empty directory may become a ledger."""
    assert invoke("init", tmp_path).stdout.startswith("Created")
    assert invoke("info", tmp_path).exit_code == 0


def test_info_as_json(invoke, sample):
    """Info counts records, experiments and trials, and names the tree's root."""
    facts = json.loads(invoke("info", sample, "--format", "json").stdout)
    with ledger.open(sample) as book:
        size, root = book.log.backend.tree_head()
        assert (facts["id"], facts["records"], facts["tree_size"], facts["tree_root"]) == (str(book.id), size, size, root.hex())
    assert facts["trials"] == sum(facts["trials_by_status"].values()) == 6
    assert facts["trials_by_status"] == {"SUCCEEDED": 1, "FAILED": 1, "CANCELED": 1, "PENDING": 3}
    assert (facts["experiments"], facts["format"]) == (2, ledger.format.FORMAT)
    assert facts["size_bytes"] > 0
    assert facts["created_at"] <= facts["newest_record_at"]


def test_info_for_people(invoke, sample):
    """Info's table has the same facts."""
    text = invoke("info", sample).stdout
    assert re.search(r"^trials +6: .*1 SUCCEEDED", text, re.MULTILINE)
    assert re.search(r"^experiments +2$", text, re.MULTILINE)


def test_info_of_an_empty_ledger(invoke, tmp_path):
    """A ledger without records has no newest one."""
    invoke("init", tmp_path / "new")
    facts = json.loads(invoke("info", tmp_path / "new", "--format", "json").stdout)
    assert (facts["records"], facts["newest_record_at"], facts["trials_by_status"]) == (0, None, {})
    assert invoke("info", tmp_path / "new").exit_code == 0


def test_verify_says_yes(invoke, sample):
    """An intact ledger is verified, in words and as JSON."""
    assert invoke("verify", sample).stdout.startswith("ok: all ")
    answer = json.loads(invoke("verify", sample, "--format", "json").stdout)
    with ledger.open(sample) as book:
        assert (answer["ok"], answer["head"], answer["problems"]) == (True, book.log.head, [])
        assert answer["root"] == book.log.backend.tree_head()[1].hex()


def test_verify_says_no(invoke, sample):
    """A ledger with a flipped byte exits with 1 and names a problem."""
    data = bytearray((sample / "data.mdb").read_bytes())
    place = data.index(b"dear diary")
    data[place] ^= 1
    (sample / "data.mdb").write_bytes(data)
    result = invoke("verify", sample)
    assert result.exit_code == 1
    assert result.stdout.startswith("DAMAGED")
    answer = invoke("verify", sample, "--format", "json")
    assert (answer.exit_code, json.loads(answer.stdout)["ok"]) == (1, False)


# --------------------------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize("form", ["json", "jsonl", "csv"])
def test_experiments(invoke, sample, form):
    """The experiments, in every format for programs."""
    rows = rows_of(invoke("experiments", sample, "--format", form), form)
    assert [row["name"] for row in rows] == ["sqlite-tuning", "größe 🚀"]


@pytest.mark.parametrize("form", ["json", "jsonl", "csv"])
def test_trials(invoke, sample, form):
    """The trials with configs and results, in every format for programs; what is missing is null or empty."""
    rows = rows_of(invoke("trials", sample, "sqlite-tuning", "--format", form), form)
    missing = "" if form == "csv" else None
    assert [str(row["trial_id"]) for row in rows] == ["1", "2", "3", "4", "5"]
    assert [row["status"] for row in rows] == ["SUCCEEDED", "FAILED", "CANCELED", "PENDING", "PENDING"]
    assert float(rows[0]["result.latency_ms"]) == 1.9
    assert (rows[3]["result.latency_ms"], rows[3]["started_at"], rows[4]["config.cache_mb"]) == (missing, missing, missing)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", rows[0]["created_at"])


def test_trials_for_people(invoke, sample):
    """The table shows objectives before the other columns, and nothing is cut where there is no terminal."""
    lines = invoke("trials", sample, "sqlite-tuning").stdout.splitlines()
    header = next(line for line in lines if "trial_id" in line)
    assert header.split()[:3] == ["trial_id", "status", "latency_ms"]
    assert "config_id" in header
    assert not any(line.endswith(" ") for line in lines)


def test_trials_filtered_sorted_and_limited(invoke, sample):
    """--status, --sort, --descending and --limit do what they say, together."""

    def ids(*options):
        return [
            row["trial_id"] for row in rows_of(invoke("trials", sample, "sqlite-tuning", "--format", "json", *options), "json")
        ]

    assert ids("--status", "PENDING") == [4, 5]
    assert ids("--status", "pending", "--status", "FAILED") == [2, 4, 5]
    assert ids("--sort", "config.cache_mb") == [2, 3, 4, 1, 5]
    assert ids("--sort", "config.cache_mb", "--descending", "--limit", 2) == [1, 4]
    assert ids("--descending") == [5, 4, 3, 2, 1]
    assert ids("--limit", 0) == []
    assert len(ids("--sort", "config.text")) == 5


def test_trials_as_of_a_position(invoke, sample):
    """--as-of shows the table as it stood then."""
    with ledger.open(sample) as book:
        [completed] = [record.position for record in book.log.read(types=["TrialCompleted"])]
    then = rows_of(invoke("trials", sample, "sqlite-tuning", "--as-of", completed - 1, "--format", "json"), "json")
    assert [row["status"] for row in then] == ["RUNNING"]


def test_cells_of_every_kind():
    """NaN, missing values, numpy numbers and times of a table become what JSON can say."""
    import numpy as np
    import pandas as pd

    time = pd.Timestamp("2026-11-20T12:00:00.123456789Z")
    values = [math.nan, pd.NaT, pd.NA, None, np.int64(3), np.float64("nan"), np.bool_(True), time, (1,)]
    assert [json_cell(value) for value in values] == [
        None, None, None, None, 3, None, True, "2026-11-20T12:00:00.123456789Z", {"$tuple": [1]},
    ]  # fmt: skip


def test_no_rows_are_valid_json_and_csv(capsysbinary):
    """A result without rows is an empty array, no lines, or the header."""
    for form, expected in ((Format.JSON, b"[]\n"), (Format.JSONL, b""), (Format.CSV, b"a,b\n")):
        print_rows(["a", "b"], [], form)
        assert capsysbinary.readouterr().out == expected


# -------------------------------------------------------------------------------------------------------- show, history


def test_show_a_trial_as_json(invoke, sample, odd):
    """The state of a trial is exact: its config can be read back with its types."""
    state = json.loads(invoke("show", sample, "sqlite-tuning", 5, "--format", "json").stdout)
    config = from_json(state["config"])
    assert math.isnan(config.pop("nan"))
    assert config == {key: value for key, value in odd.items() if key != "nan"}
    assert (state["status"], state["results"], state["error"]) == ("PENDING", {}, None)


def test_show_a_trial_that_failed(invoke, sample):
    """The error is shown with its traceback."""
    text = invoke("show", sample, "sqlite-tuning", 2).stdout
    assert re.search(r"^status +FAILED$", text, re.MULTILINE)
    assert "ValueError: cache must be at least 1 MB" in text
    assert "Traceback (most recent call last)" in text
    error = json.loads(invoke("show", sample, "sqlite-tuning", 2, "--format", "json").stdout)["error"]
    assert (error["type"], error["message"]) == ("ValueError", "cache must be\nat least 1 MB")


def test_show_a_trial_for_people(invoke, sample):
    """Config, results, tags and times each have their line."""
    text = invoke("show", sample, "sqlite-tuning", 1).stdout
    for line in (r"config\.cache_mb +64", r"result\.latency_ms +1\.9", r"tags +baseline", r"attempts +1", r"ended +\d{4}-"):
        assert re.search(rf"^{line}", text, re.MULTILINE), line


def test_show_an_experiment(invoke, sample):
    """Objectives, attributes and environment are shown, in words and as JSON."""
    text = invoke("show", sample, "sqlite-tuning").stdout
    for line in (r"objective\.latency_ms +min", r"attribute\.team\.owner +ada", r"environment\.cpus +2", r"last trial +5"):
        assert re.search(rf"^{line}$", text, re.MULTILINE), line
    state = json.loads(invoke("show", sample, "sqlite-tuning", "--format", "json").stdout)
    assert (state["name"], state["objectives"], state["trials"]) == ("sqlite-tuning", {"latency_ms": "min"}, 5)
    assert (state["attributes"], state["environment"]) == ({"team": {"owner": "ada"}}, {"python": "3.13", "cpus": 2})
    assert json.loads(invoke("show", sample, state["id"], "--format", "json").stdout) == state


def test_show_arms(invoke, tmp_path):
    """Several weighted configs of one trial are shown, and are objects in JSON."""
    with ledger.open(tmp_path / "runs") as book:
        book.experiment("ab").new_trial({}, arms=[ledger.Arm({"x": 1}, weight=0.25, name="0_0")])
    assert "x=1 (weight 0.25)" in invoke("show", tmp_path / "runs", "ab", 1).stdout
    state = json.loads(invoke("show", tmp_path / "runs", "ab", 1, "--format", "json").stdout)
    assert state["arms"] == [{"config": {"x": 1}, "weight": 0.25, "name": "0_0"}]


@pytest.mark.parametrize("form", ["json", "jsonl", "csv"])
def test_history(invoke, sample, form):
    """The records of a trial, in every format for programs, with the keys of the contract."""
    rows = rows_of(invoke("history", sample, "sqlite-tuning", 1, "--format", form), form)
    types = ["TrialCreated", "TrialClaimed", "TrialStarted", "TagsChanged", "MetricsLogged", "TrialCompleted"]
    assert [row["type"] for row in rows] == types
    assert all(list(row) == list(RECORD_KEYS) for row in rows)
    event = rows[-1]["event"] if form != "csv" else json.loads(rows[-1]["event"])
    assert event == {"results": {"latency_ms": 1.9}, "attempt": 1}


def test_history_for_people(invoke, sample):
    """Who, when, what and why are one sentence, and no control character of a text reaches the terminal."""
    text = invoke("history", sample, "größe 🚀").stdout
    assert "ada@host/1 created trial 1, because to see \\x1b[31mred." in text
    canceled = invoke("history", sample, "sqlite-tuning", 3).stdout.splitlines()[-1]
    assert re.search(r"^ *\d+  \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ  ada@host/1 canceled it, because no longer needed\.$", canceled)


def test_history_hides_renewals_unless_asked(invoke, tmp_path):
    """Lease renewals are left out by default and shown with --renewals."""
    with ledger.open(tmp_path / "runs") as book:
        exp = book.experiment("slow")
        trial = exp.new_trial({})
        with book.subscribe(types=["LeaseRenewed"]) as renewals, trial.run(lease_seconds=0.3):
            assert renewals.next(timeout=30) is not None
    assert "renewed the lease" not in invoke("history", tmp_path / "runs", "slow", 1).stdout
    assert "renewed the lease" in invoke("history", tmp_path / "runs", "slow", 1, "--renewals").stdout
    assert "renewed the lease" not in invoke("history", tmp_path / "runs", "slow").stdout
    assert "LeaseRenewed" not in invoke("history", tmp_path / "runs", "slow", "--format", "jsonl").stdout


# --------------------------------------------------------------------------------------------------------------- export


def test_export_has_every_record_exactly(invoke, sample):
    """Each line is one record with the contract's keys, and each event can be made again from it."""
    lines = [json.loads(line) for line in invoke("export", sample).stdout.splitlines()]
    with ledger.open(sample) as book:
        records = list(book.log.read())
    assert len(lines) == len(records)
    for line, record in zip(lines, records, strict=True):
        assert tuple(line)[: len(RECORD_KEYS)] == RECORD_KEYS  # those that make it exact come after: tests/unit/test_jsonlines.py
        assert (line["position"], line["stream"], line["version"]) == (record.position, record.stream, record.version)
        assert uuid.UUID(line["append_id"]).bytes == record.append_id
        assert repr(_event_again(line)) == repr(record.event)  # by repr: NaN is not equal to itself


def _event_again(line):
    import msgspec

    return msgspec.convert(from_json(line["event"]), getattr(ledger, line["type"]))


def test_export_to_a_file(invoke, sample, tmp_path):
    """--output writes the same lines, and leaves nothing else beside the file."""
    (tmp_path / "out").mkdir()
    result = invoke("export", sample, "--output", tmp_path / "out" / "runs.jsonl")
    assert (result.exit_code, result.stdout) == (0, "")
    assert (tmp_path / "out" / "runs.jsonl").read_text() == invoke("export", sample).stdout
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["runs.jsonl"]


def test_export_that_fails_leaves_the_old_file(invoke, sample, tmp_path, monkeypatch):
    """A file of an earlier export stays whole when a new one breaks off."""
    from ledger.cli import transfer

    def fails(*args):
        yield 1, b"{}\n"
        raise OSError("no space")

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "runs.jsonl").write_text("before")
    monkeypatch.setattr(transfer, "export_lines", fails)
    result = invoke("export", sample, "--output", tmp_path / "out" / "runs.jsonl")
    assert (result.exit_code, "no space" in result.stderr) == (6, True)
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["before"]


def test_export_into_a_missing_directory(invoke, sample, tmp_path):
    """A file that cannot be made exits with 6 and a plain line."""
    result = invoke("export", sample, "--output", tmp_path / "no" / "runs.jsonl")
    assert (result.exit_code, result.stderr.count("\n")) == (6, 1)


def test_export_of_a_part(invoke, sample):
    """--after and --experiment leave the other records out."""
    all_lines = invoke("export", sample).stdout.splitlines()
    assert invoke("export", sample, "--after", 4).stdout.splitlines() == all_lines[4:]
    some = [json.loads(line) for line in invoke("export", sample, "--experiment", "größe 🚀").stdout.splitlines()]
    assert [line["type"] for line in some] == ["ExperimentCreated", "TrialCreated"]


def test_records_of_unknown_types_are_carried_through(invoke, sample, script):
    """An event whose type this process does not know is exported with its data."""
    code = """
        import sys, ledger, datetime, typing
        @ledger.event
        class PhotoTaken(ledger.Event):
            arms: list[ledger.Arm]
            size: typing.Any
        with ledger.open(sys.argv[1]) as book:
            book.log.append([PhotoTaken([ledger.Arm({"x": 1})], (640, 480))], stream="camera")
    """
    script(textwrap.dedent(code), sample).finish()
    line = json.loads(invoke("tail", sample, "-n", 1, "--format", "jsonl").stdout)
    assert line["type"] == "PhotoTaken"
    assert from_json(line["event"])["size"] == (640, 480)
    assert "PhotoTaken" in invoke("tail", sample).stdout


def test_json_does_not_depend_on_the_locale(call, sample):
    """JSON is UTF-8 even where the locale is not."""
    import os
    import subprocess
    import sys

    result = subprocess.run(
        [sys.executable, "-m", "ledger", "experiments", str(sample), "--format", "jsonl"],
        capture_output=True, check=True, env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )  # fmt: skip
    assert "größe 🚀" in result.stdout.decode("utf-8")


def test_record_json_of_context(tmp_path):
    """Reason, correlation, causation, occurred_at and the caller's own id are all there."""
    own = uuid.uuid4()
    with ledger.open("memory:") as book:
        book.log.append(
            [ledger.NoteAdded("x")], stream="s", ids=[own], actor="eve", reason="why", correlation_id="c1", causation_id="c0",
            occurred_at=1_500_000_000_123_456_789,
        )  # fmt: skip
        line = record_json(next(book.log.read()))
    expected = {"id": str(own), "actor": "eve", "reason": "why", "correlation_id": "c1", "causation_id": "c0"}
    assert {key: line[key] for key in expected} == expected
    assert line["occurred_at"] == "2017-07-14T02:40:00.123456789Z"
