"""Checkpoints of projections: used when they are right, told of and passed over when they are not."""

import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import lmdb
import pandas as pd
import pytest

import ledger
import projections
from ledger.errors import CheckpointDiscarded
from projections import folds
from projections.checkpoints import LAYOUT, CheckpointStore, Key


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A ledger of 60 trials in all kinds of states, whose checkpoints are saved whenever there is something new."""
    monkeypatch.setattr(folds, "_LEAST_RECORDS", 1)
    monkeypatch.setattr(folds, "_SAVING_SHARE", float("inf"))
    monkeypatch.setattr(folds, "_LEAST_SECONDS", 0)
    with ledger.open(tmp_path / "runs.ledger") as book:
        fill(book, 60)
    return tmp_path / "runs.ledger"


def fill(book, count):
    exp = book.experiment("demo", objectives={"loss": "min"})
    configs = [{"lr": each / 7, "name": f"n{each % 5}", "deep": [each]} for each in range(count)]
    for number, trial in enumerate(exp.new_trials(configs)):
        if number % 3 == 0:
            trial.complete({"loss": number / 2, "note": None if number % 2 else "x"})
        elif number % 3 == 1:
            trial.fail("no luck")
    exp.trial(1).amend(results={"loss": 99.0}, reason="wrong unit")
    exp.trial(2).delete(reason="twice")


def table(path, **options):
    with projections.Tables(path, **options) as tables:
        return tables.trials("demo", deleted=True, now=0)


def applied(monkeypatch):
    """Count the records that are folded from here on."""
    seen, apply_all = [], projections.Experiments.apply_all

    def counted(self, records):
        seen.extend(record.position for record in records)
        apply_all(self, records)

    monkeypatch.setattr(projections.Experiments, "apply_all", counted)
    return seen


def test_a_checkpoint_spares_the_fold(path, monkeypatch):
    """The second handle folds nothing, and after three more records those three; the table is as if all were folded."""
    first = table(path)
    seen = applied(monkeypatch)
    pd.testing.assert_frame_equal(table(path), first)
    assert seen == []
    with ledger.open(path) as book:
        book.get_experiment("demo").trial(3).complete({"loss": 0.5})
        head = book.log.head
    again = table(path)
    assert seen == [head - 2, head - 1, head]
    shutil.rmtree(path / "projections")
    pd.testing.assert_frame_equal(table(path), again)


def test_looking_back_starts_at_the_checkpoint_before(path, monkeypatch):
    """As of a position, the fold goes on from the nearest checkpoint before it; the result is that of a whole fold."""
    with projections.Tables(path) as tables:
        for position in (40, 80, 120):
            tables.trials("demo", as_of=position, now=0)
    before = [place for place in CheckpointStore(path / "projections").positions("experiments") if place <= 90]
    assert 40 in before
    shutil.copytree(path, path.parent / "plain")
    shutil.rmtree(path.parent / "plain" / "projections")
    seen = applied(monkeypatch)
    with projections.Tables(path) as tables:
        shown = tables.trials("demo", as_of=90, now=0)
    assert seen == list(range(before[-1] + 1, 91))
    with projections.Tables(path.parent / "plain") as tables:
        pd.testing.assert_frame_equal(shown, tables.trials("demo", as_of=90, now=0))


def test_the_number_of_checkpoints_is_bounded_and_they_lie_apart(path, monkeypatch):
    """Of many checkpoints 16 stay, no two of them nearer than half of what an even spread would give, but at the end."""
    with projections.Tables(path) as tables:
        head = tables.position()
        for position in range(2, head + 1, 2):
            tables.trials("demo", as_of=position) if position > 2 else None
    found = CheckpointStore(path / "projections").positions("experiments")
    assert len(found) == 16
    assert found[-1] >= head - 1
    assert max(later - earlier for earlier, later in zip([0, *found], found, strict=False)) < head / 4


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path, monkeypatch: monkeypatch.setattr(projections.Experiments, "schema_version", 99), "another version"),
        (lambda path, monkeypatch: other_ledger(path), "another ledger"),
        (lambda path, monkeypatch: roll_back(path, 0), "the log ends at"),
        (lambda path, monkeypatch: roll_back(path, 9), "another copy of the ledger"),
        (lambda path, monkeypatch: spoil_pieces(path), "a piece of it is damaged"),
        (lambda path, monkeypatch: (path / "projections" / "data.mdb").write_bytes(b"no LMDB file" * 2000), "cannot be used"),
    ],
)  # fmt: skip
def test_what_cannot_be_trusted_is_told_and_folded_again(path, monkeypatch, spoil, told):
    """Of another version, of another ledger, ahead of the log, of another history, damaged: a warning, and the right table."""
    kept = path.parent / "before"
    shutil.copytree(path, kept)
    table(path)
    spoil(path, monkeypatch)
    plain = path.parent / "plain"
    shutil.copytree(path, plain)
    shutil.rmtree(plain / "projections")
    expected = table(plain)
    with pytest.warns(CheckpointDiscarded, match=told):
        shown = table(path)
    pd.testing.assert_frame_equal(shown, expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pd.testing.assert_frame_equal(table(path), expected)  # what was saved since is right


def test_believed_blindly_a_checkpoint_would_show_another_history(path, monkeypatch):
    """The test above can fail: were a checkpoint not compared with the log, a table would show what never happened there."""
    shutil.copytree(path, path.parent / "before")
    say(path, {"later": 1})
    table(path)
    for name in ("data.mdb", "head"):
        shutil.copy(path.parent / "before" / name, path / name)
    (path / "lock.mdb").unlink(missing_ok=True)
    say(path, {"otherwise": 1})
    say(path, {"more": 1})
    shutil.copytree(path, path.parent / "plain", ignore=shutil.ignore_patterns("projections"))
    assert {"result.otherwise", "result.more"} <= set(table(path.parent / "plain"))
    monkeypatch.setattr(folds.Fold, "_usable", lambda self, position, redactions: max(self._store.positions(self._kind.name)))
    assert {"result.later", "result.more"} <= set(table(path))
    assert "result.otherwise" not in table(path)


def say(path, results):
    with ledger.open(path) as book:
        book.get_experiment("demo").trial(3).report(results)


def other_ledger(path):
    shutil.move(path / "projections", path.parent / "projections")
    shutil.rmtree(path)
    with ledger.open(path) as book:
        fill(book, 60)
    shutil.move(path.parent / "projections", path / "projections")


def roll_back(path, more):
    """Put back the copy from before the checkpoint, and go on from there otherwise."""
    with ledger.open(path) as book:
        for number in range(5):
            book.get_experiment("demo").note(f"later {number}")
    table(path)
    for name in ("data.mdb", "head"):
        shutil.copy(path.parent / "before" / name, path / name)
    (path / "lock.mdb").unlink(missing_ok=True)
    with ledger.open(path) as book:
        for number in range(more):
            book.get_experiment("demo").note(f"otherwise {number}")


def spoil_pieces(path):
    """Flip a bit in each piece of a column."""
    with lmdb.open(str(path / "projections")) as env, env.begin(write=True) as txn:
        for key, value in list(txn.cursor()):
            if key.startswith(b"piece/"):
                txn.put(key, value[:-1] + bytes([value[-1] ^ 1]))


def test_flipped_bits_never_show_a_wrong_table(path):
    """Of 60 copies of the checkpoint with one random bit flipped each, every one gives the right table."""
    expected = table(path)
    original = (path / "projections" / "data.mdb").read_bytes()
    chosen, told = random.Random(5), 0
    for _ in range(60):
        data = bytearray(original)
        data[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
        (path / "projections" / "data.mdb").write_bytes(data)
        (path / "projections" / "lock.mdb").unlink(missing_ok=True)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pd.testing.assert_frame_equal(table(path), expected)
        told += bool(caught)
    assert told > 0  # a flip in what is used was noticed


def test_a_redaction_makes_checkpoints_useless(path):
    """What was redacted is neither shown nor kept in the checkpoints that are made since; nobody need be told."""
    with ledger.open(path) as book:
        trial = book.get_experiment("demo").new_trial({"token": "s3cr3t-t0k3n"})
        assert "s3cr3t-t0k3n" in str(table(path).to_dict())
        (record,) = trial.history()
        book.redact(record.position, reason="leaked")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "s3cr3t-t0k3n" not in str(table(path).to_dict())
    assert b"s3cr3t" not in (path / "projections" / "data.mdb").read_bytes()


def test_nothing_that_the_process_has_forgotten_is_written(tmp_path):
    """Pages are cleared before they are filled: memory in which something redacted was is not kept in them."""
    store = CheckpointStore(tmp_path)
    key = Key(LAYOUT, "ledger", 1, "Errors", 0, bytes(16), 0)
    for number in range(100):
        for what in ("s3cr3t-t0k3n", "nothing"):
            rows = projections.Rows({f"column-{each}": "text" for each in range(number + 1)})
            rows.append(**{name: f"{what} {name}" for name in rows.buffers})
            store.save("errors", number, key, {"rows": rows}, {"said": what}, 16)
            data = (tmp_path / "data.mdb").read_bytes()
            store.discard()
        assert b"s3cr3t" not in data, number


def test_a_build_that_is_stopped_goes_on_where_it_was_saved(path, monkeypatch):
    """An interrupt in the middle of the first build leaves what was saved by then, which the next build starts from."""
    monkeypatch.setattr("projections.builder._REPORT_EVERY", 1)

    def stop(done, target):
        if done > 60:
            raise KeyboardInterrupt

    monkeypatch.setattr(folds, "_LEAST_RECORDS", 20)
    with projections.Tables(path, progress=stop) as tables, pytest.raises(KeyboardInterrupt):
        tables.trials("demo")
    seen = applied(monkeypatch)
    told = []
    with projections.Tables(path, progress=lambda done, target: told.append((done, target))) as tables:
        assert len(tables.trials("demo", deleted=True)) == 60
        assert {target for _, target in told} == {tables.position()}
    assert min(seen) > 20


def test_a_cache_directory_for_a_ledger_that_one_may_only_read(path, tmp_path, monkeypatch):
    """With cache_dir= the checkpoints are there, in a directory for each ledger, and nothing is written beside the log."""
    before = sorted(os.listdir(path))
    cache = tmp_path / "cache"
    first = table(path, cache_dir=cache)
    assert sorted(os.listdir(path)) == before
    seen = applied(monkeypatch)
    pd.testing.assert_frame_equal(table(path, cache_dir=cache), first)
    assert seen == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ledger.InvalidValue, match="nothing can be kept"):
        projections.Tables(path, cache_dir=tmp_path / "file")


def test_a_small_ledger_and_one_in_memory_have_no_checkpoints(tmp_path, monkeypatch):
    """Nothing is written for what is folded in a moment; for what took its time, also when it was few records."""
    monkeypatch.setattr(folds, "_LEAST_SECONDS", 3600)
    with ledger.open(tmp_path / "small") as book:
        fill(book, 10)
    table(tmp_path / "small")
    assert not (tmp_path / "small" / "projections").exists()
    monkeypatch.setattr(folds, "_LEAST_SECONDS", 1e-9)
    table(tmp_path / "small")
    assert CheckpointStore(tmp_path / "small" / "projections").positions("experiments")
    with ledger.open("memory:") as book:
        fill(book, 10)
        assert len(projections.Tables(book).trials("demo")) == 9


@pytest.mark.parametrize(("folding", "saving", "saved"), [(0.1, 0.05, True), (0.04, 0.05, False), (0.1, 0.0, False)])
def test_what_took_longer_to_fold_than_to_save_is_saved_at_the_end(path, monkeypatch, folding, saving, saved):
    """A few records more than the last checkpoint has are saved when to fold them again would take longer than that."""
    monkeypatch.setattr(folds, "_LEAST_RECORDS", 10**6)
    monkeypatch.setattr(folds, "_LEAST_SECONDS", 0.25)
    with projections.Tables(path) as tables:
        tables.trials("demo")
        fold = tables._folds[projections.Experiments]
        fold._saved, fold._unsaved_seconds, fold._save_seconds = 0, folding, saving
    assert (CheckpointStore(path / "projections").positions("experiments") != []) is saved


def test_nobody_waits_for_the_saving_of_what_was_folded_in_a_moment(path, monkeypatch):
    """It is saved when the handle is closed; what took its time is there at once, for who never closes."""
    for seconds, saved in ((3600, False), (1e-9, True)):
        monkeypatch.setattr(folds, "_LEAST_SECONDS", seconds)
        shutil.rmtree(path / "projections", ignore_errors=True)
        with projections.Tables(path) as tables:
            tables.trials("demo")
            assert (path / "projections").exists() is saved
        assert CheckpointStore(path / "projections").positions("experiments")


WRITER = """
import sys, projections
from projections import folds
folds._LEAST_RECORDS, folds._LEAST_SECONDS, folds._SAVING_SHARE = 1, 0, float("inf")
print("go", flush=True)
while True:
    with projections.Tables(sys.argv[1]) as tables:
        for position in range(1, tables.position() + 1):
            tables.trials("demo", as_of=position)
"""


def test_processes_that_save_at_once_and_are_killed_leave_right_tables(path):
    """Three processes save all the time, and are killed: what they leave is used without a warning, and right."""
    plain = path.parent / "plain"
    shutil.copytree(path, plain)
    expected = table(plain)
    for round_ in range(4):
        writers = [
            subprocess.Popen([sys.executable, "-c", textwrap.dedent(WRITER), str(path)], stdout=subprocess.PIPE) for _ in range(3)
        ]
        for writer in writers:
            assert writer.stdout.readline() == b"go\n"
        time.sleep(0.3 + 0.2 * round_)
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
            writer.stdout.close()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pd.testing.assert_frame_equal(table(path), expected)
    assert CheckpointStore(path / "projections").positions("experiments")


def test_a_ledger_on_a_read_only_mount_is_shown_from_its_checkpoint(path, tmp_path, monkeypatch):
    """Nothing can be written there, no lock either: the checkpoint that is there is used, and what came since is folded."""
    place = tmp_path / "mounted"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", place], capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    try:
        table(path)
        with ledger.open(path) as book:
            book.get_experiment("demo").trial(3).complete({"loss": 0.5})
        expected = table(path, cache_dir=tmp_path / "cache")
        shutil.copytree(path, place / "runs.ledger")
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        seen = applied(monkeypatch)
        pd.testing.assert_frame_equal(table(place / "runs.ledger"), expected)
        assert len(seen) == 3
    finally:
        subprocess.run(["umount", place], check=True)


CUT = """
import os, sys, warnings, projections
from projections import checkpoints, folds
folds._LEAST_RECORDS, folds._LEAST_SECONDS, folds._SAVING_SHARE = 1, 0, float("inf")
path, readonly, sizes = sys.argv[1], sys.argv[2] == "readonly", map(int, sys.argv[3:])
file = path + "/projections/data.mdb"
with open(file, "rb") as kept:
    data = kept.read()
for size in sizes:
    with open(file, "wb") as cut:
        cut.write(data[:size])
    with warnings.catch_warnings(record=True) as caught, projections.Tables(path) as tables:
        warnings.simplefilter("always")
        tables._store.readonly = readonly
        print(size, len(tables.trials("demo", deleted=True)), any("cut short" in str(each.message) for each in caught))
"""


@pytest.mark.parametrize("access", ["readonly", "writable"])
def test_a_checkpoint_cut_anywhere_is_told_and_folded_again(path, access):
    """At the ends of its pages and within them: no process dies of it, also where the checkpoint cannot be replaced."""
    table(path)
    size = (path / "projections" / "data.mdb").stat().st_size
    cuts = [*range(8192, size, 4096 * 3 // 4), size - 1]
    run = [sys.executable, "-c", CUT, path, access, *map(str, [*cuts, size])]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    shown = [line.split() for line in done.stdout.splitlines()]
    assert [line[:2] for line in shown] == [[str(cut), "60"] for cut in [*cuts, size]]
    told = [line[2] == "True" for line in shown]
    assert all(told[: len(cuts) // 2])  # the last pages may be free
    assert not told[-1]


class Errors(projections.Projection):
    """A projection of a caller's own."""

    name = "errors"
    schema_version = 1
    types = frozenset({"TrialFailed"})
    columns = {"trial": "text"}

    def apply(self, record):
        self.rows.append(**dict.fromkeys(self.columns, record.stream))

    def table(self):
        return self.rows.frame()


@pytest.mark.parametrize(
    "other",
    [
        type("Errors", (Errors,), {"columns": {"stream": "text"}}),
        type("Errors", (Errors,), {"columns": {"trial": "value"}}),
        type("Failures", (Errors,), {}),
    ],
)
def test_a_checkpoint_of_another_class_of_the_name_is_not_used(path, other):
    """One that has other columns, or another class's name, with the same version: it is told, and each shows its own."""
    other.__module__ = __name__
    with projections.Tables(path) as tables:
        expected = list(tables.table(Errors)["trial"])
    with projections.Tables(path) as tables, pytest.warns(CheckpointDiscarded, match="another class of that name"):
        shown = tables.table(other)
    assert list(shown) == list(other.columns)
    assert list(shown.iloc[:, 0]) == expected != []


def test_a_column_of_no_kind_is_an_error_of_the_class(path):
    """It is nothing that a checkpoint is to blame for."""
    with projections.Tables(path) as tables, warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ledger.InvalidValue, match="'trial' is of kind 'float'; give one of id, "):
            tables.table(type("Errors", (Errors,), {"columns": {"trial": "float"}}))
