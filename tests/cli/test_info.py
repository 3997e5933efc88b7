"""What `info` says of sizes, rates and duties, and its keys, which programs rely on."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

import ledger

KEYS = [
    "id", "path", "format", "created_at", "created_by", "records", "newest_record_at", "tree_size", "tree_root", "experiments",
    "deleted_experiments",
    "paused_experiments", "trials", "deleted_trials", "trials_by_status", "size_bytes", "file_bytes", "log_bytes", "index_bytes",
    "free_bytes", "blobs",
    "blob_bytes", "blocks", "sealed_records", "unsealed_records", "redactions", "pending_erasures", "open_by", "types",
]  # fmt: skip
TYPE_KEYS = [
    "type", "records", "record_bytes", "stored_bytes", "ratio", "first_at", "last_at", "records_per_hour", "last_24_hours",
]  # fmt: skip


def facts(invoke, path, *words):
    """Return what info says as JSON."""
    result = invoke("info", path, *words, "--format", "json")
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return json.loads(result.stdout)


def test_the_contract(call, sample):
    """The keys, in order, and by event type what there is: as a process."""
    done = call("info", sample, "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert list(found) == KEYS
    assert all(list(kind) == TYPE_KEYS for kind in found["types"])
    with ledger.open(sample) as book:
        records = list(book.log.read())
    by_type = {kind["type"]: kind for kind in found["types"]}
    assert {name: kind["records"] for name, kind in by_type.items()} == {
        name: sum(record.type == name for record in records) for name in {record.type for record in records}
    }
    created = [record for record in records if record.type == "TrialCreated"]
    assert by_type["TrialCreated"]["first_at"][:23] == created[0].time.isoformat()[:23]
    assert by_type["TrialCreated"]["last_at"][:23] == created[-1].time.isoformat()[:23]
    assert by_type["TrialCreated"]["last_24_hours"] == len(created)
    assert found["sealed_records"] + found["unsealed_records"] == found["records"] == len(records)
    assert sum(kind["stored_bytes"] for kind in found["types"]) == pytest.approx(found["log_bytes"], abs=len(by_type))
    assert found["log_bytes"] + found["index_bytes"] + found["free_bytes"] <= found["file_bytes"]
    assert found["open_by"] == []


def test_quick_reads_no_records(invoke, sample, monkeypatch):
    """--quick says what headers and indexes know, and null for the rest; no block is unpacked."""
    from ledger import census

    full = facts(invoke, sample)
    monkeypatch.setattr(census, "unpack_body", None)
    quick = facts(invoke, sample, "--quick")
    assert list(quick) == KEYS
    unknown = {"trials", "deleted_trials", "trials_by_status", "types"}
    assert {key: quick[key] for key in unknown} == dict.fromkeys(unknown)
    assert {key: quick[key] for key in KEYS if key not in unknown} == {key: full[key] for key in KEYS if key not in unknown}
    text = invoke("info", sample, "--quick").stdout
    assert "TrialCreated" not in text
    assert not re.search(r"^trials", text, re.MULTILINE)


def test_what_was_deleted_is_counted_apart(invoke, sample):
    """Deleted trials and experiments are counted by themselves, the trials of a deleted experiment with them."""
    with ledger.open(sample) as book:
        book.get_experiment("größe 🚀").delete()
        book.get_experiment("sqlite-tuning").trial(1).delete()
    found = facts(invoke, sample)
    assert (found["experiments"], found["deleted_experiments"], found["trials"], found["deleted_trials"]) == (1, 1, 4, 2)
    assert found["trials_by_status"] == {"CANCELED": 1, "FAILED": 1, "PENDING": 2}
    text = invoke("info", sample).stdout
    assert re.search(r"^experiments +1 \(and 1 deleted\)$", text, re.MULTILINE)
    assert re.search(r"^trials +4: .* \(and 2 deleted\)$", text, re.MULTILINE)


def test_a_pending_erasure_is_shouted(invoke, sample):
    """After a redaction the bytes are still in the file, and info says what to run."""
    assert not re.search("^erasure", invoke("info", sample).stdout, re.MULTILINE)
    with ledger.open(sample) as book:
        [note] = [record.position for record in book.log.read(stream="diary")]
        book.redact(note, reason="leak")
    found = facts(invoke, sample)
    assert (found["redactions"], found["pending_erasures"]) == (1, 1)
    line = re.search(r"^erasure +(.*)$", invoke("info", sample).stdout, re.MULTILINE)[1]
    assert line.startswith("pending: 1 payload redacted, its bytes are still in the file; run `ledger compact ")


@pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="only Linux names the holders of locks")
def test_who_has_it_open(invoke, sample):
    """Other processes that have the ledger open are named; this one is not."""
    code = "import sys, ledger; book = ledger.open(sys.argv[1]); print('open', flush=True); sys.stdin.read(); book.close()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(sample)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "open\n"
        [holder] = facts(invoke, sample)["open_by"]
        assert f"process {other.pid} " in holder
        other.stdin.close()
        other.wait(30)
    assert facts(invoke, sample)["open_by"] == []


def test_compression_by_type(invoke, tmp_path):
    """Types are listed by size with their share and ratio; what is sealed is compressed."""
    with ledger.open(tmp_path / "runs", durability="relaxed") as book:
        book.experiment("e").new_trials([{"lr": number} for number in range(2000)])
    found = facts(invoke, tmp_path / "runs")
    [largest, _] = found["types"]
    assert (largest["type"], largest["records"]) == ("TrialCreated", 2000)
    assert largest["ratio"] > 2
    assert found["sealed_records"] > 1000
    line = next(line for line in invoke("info", tmp_path / "runs").stdout.splitlines() if line.startswith("TrialCreated"))
    assert re.match(r"TrialCreated +2,000 +[\d.]+ % +[\d.]+ KiB +[\d.]+ KiB +[\d.]+x ", line)


def test_it_does_not_import_pandas(sample):
    """What info says needs no table."""
    code = "import sys; from ledger.cli.main import app\ntry: app()\nexcept SystemExit: pass\nassert 'pandas' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, "info", str(sample)], check=True, capture_output=True)
