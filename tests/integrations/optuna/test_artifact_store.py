"""Optuna's artifacts in a ledger's content store."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import optuna
import pytest
from optuna.artifacts import download_artifact, get_all_artifact_meta, upload_artifact
from optuna.artifacts.exceptions import ArtifactNotFound
from typer.testing import CliRunner

import ledger
from ledger.backends.portable import decode_command, encode_command
from ledger.cli.main import app
from ledger.errors import Corrupted, ExperimentReadOnly, InvalidValue
from ledger.integrations.optuna import LedgerJournalBackend, LedgerStorage
from ledger.integrations.optuna.artifact_store import HOME, LedgerArtifactStore
from ledger.integrations.optuna.commands import set_trial_attribute
from ledger.integrations.optuna.vocabulary import SYSTEM
from ledger.transfer.merging import merge


@pytest.fixture
def store(book: ledger.Ledger) -> LedgerArtifactStore:
    """A store in a ledger of its own."""
    return LedgerArtifactStore(book)


@pytest.fixture
def storage(book: ledger.Ledger) -> Iterator[LedgerStorage]:
    """The ledger as a storage."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with LedgerStorage(book) as made:
        yield made


def _read(store: LedgerArtifactStore, artifact_id: str) -> bytes:
    with store.open_reader(artifact_id) as file:
        return file.read()


def test_artifacts_of_a_trial_and_a_study_go_up_and_down(
    store: LedgerArtifactStore, storage: LedgerStorage, tmp_path: Path
) -> None:  # fmt: skip
    """By optuna.artifacts; each is an artifact of its trial or study in the ledger, too."""
    (tmp_path / "model.json").write_text('{"weights": [1, 2]}')
    study = optuna.create_study(storage=storage, study_name="demo")
    trial = study.ask()
    of_trial = upload_artifact(artifact_store=store, file_path=str(tmp_path / "model.json"), study_or_trial=trial)
    of_study = upload_artifact(artifact_store=store, file_path=str(tmp_path / "model.json"), study_or_trial=study)
    download_artifact(artifact_store=store, file_path=str(tmp_path / "copy"), artifact_id=of_trial)
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "model.json").read_bytes()
    assert [meta.artifact_id for meta in get_all_artifact_meta(study)] == [of_study]
    experiment = storage.book.get_experiment("demo")
    found = experiment.trial(trial.number).artifact(f"optuna/{of_trial}")
    assert (found.size, found.media_type, found.actor) == (19, "application/json", storage.book.log.actor)
    assert list(experiment.artifacts) == [f"optuna/{of_study}"]
    assert [each.name for each in storage.book.experiments()] == ["demo"]


def test_an_artifact_whose_owner_is_not_named_has_a_home(store: LedgerArtifactStore, storage: LedgerStorage) -> None:
    """It is no study, and its artifacts are found all the same."""
    for artifact_id in (str(uuid4()), "any/thing ü", "x" * 1000):
        store.write(artifact_id, io.BytesIO(artifact_id.encode()))
        assert _read(store, artifact_id) == artifact_id.encode()
    assert len(storage.book.get_experiment(HOME).artifacts) == 3
    assert storage.get_all_studies() == []
    assert len(list(storage.book.experiments())) == 1


def _given(storage: LedgerStorage, study: optuna.Study, trial: optuna.Trial, of_trial: str, of_study: str) -> None:
    """Name the owners of what was written, as optuna-dashboard does."""
    said = '{"artifact_id": "%s", "filename": "run.log", "mimetype": "text/plain", "encoding": null}'
    storage.set_trial_system_attr(trial._trial_id, f"artifacts:{of_trial}", said % of_trial)
    storage.set_study_system_attr(study._study_id, f"artifacts:{of_study}", said % of_study)


def test_an_owner_that_is_named_afterwards_has_the_artifact(ledger_path: Path) -> None:
    """In the commit that names it, also of what another handle has written long before; once, however often it is named."""
    with LedgerArtifactStore(ledger_path) as store, LedgerStorage(ledger_path) as storage:
        store.write("a", io.BytesIO(b"of the trial"))
        store.write("b", io.BytesIO(b"of the study"))
        study = optuna.create_study(storage=storage, study_name="demo")
        trial = study.ask()
        for _ in range(2):
            _given(storage, study, trial, "a", "b")
        experiment = storage.book.get_experiment("demo")
        assert list(experiment.artifacts) == ["optuna/b"]
        assert list(experiment.trial(0).artifacts) == ["optuna/a"]
        found = experiment.trial(0).artifact("optuna/a")
        assert (found.read_bytes(), found.media_type) == (b"of the trial", "text/plain")
        *_, named, logged, again = experiment.trial(0).history()
        assert [each.type for each in (named, logged, again)] == ["AttributesSet", "ArtifactLogged", "AttributesSet"]
        assert named.append_id == logged.append_id


def test_a_merge_takes_what_was_uploaded_along(store: LedgerArtifactStore, storage: LedgerStorage) -> None:
    """Of one study, without the experiment that it was written in; not what was removed."""
    study = optuna.create_study(storage=storage, study_name="demo")
    trial = study.ask()
    for artifact_id in ("a", "b", "c"):
        store.write(artifact_id, io.BytesIO(artifact_id.encode()))
    _given(storage, study, trial, "a", "b")
    storage.set_trial_system_attr(trial._trial_id, "artifacts:c", "{}")
    store.remove("c")
    with ledger.open("memory:") as target, LedgerArtifactStore(target) as merged:
        merge(storage.book, target, ["demo"])
        assert (_read(merged, "a"), _read(merged, "b")) == (b"a", b"b")
        with pytest.raises(ArtifactNotFound):
            merged.open_reader("c")


def test_a_copy_of_a_study_has_its_artifacts(store: LedgerArtifactStore, storage: LedgerStorage) -> None:
    """Of its trials, too, when the study that it was made of is gone."""
    study = optuna.create_study(storage=storage, study_name="demo")
    trial = study.ask()
    for artifact_id in ("a", "b"):
        store.write(artifact_id, io.BytesIO(artifact_id.encode()))
    _given(storage, study, trial, "a", "b")
    optuna.copy_study(from_study_name="demo", from_storage=storage, to_storage=storage, to_study_name="copy")
    optuna.delete_study(study_name="demo", storage=storage)
    copy = storage.book.get_experiment("copy")
    assert (list(copy.artifacts), list(copy.trial(0).artifacts)) == (["optuna/b"], ["optuna/a"])
    assert _read(store, "a") == b"a"


@pytest.mark.parametrize("deleted", ["study", "trial"])
def test_what_belonged_to_somebody_deleted_can_be_removed(
    store: LedgerArtifactStore, storage: LedgerStorage, deleted: str
) -> None:  # fmt: skip
    """Nobody is handed it any more, though its owner takes no events."""
    study = optuna.create_study(storage=storage, study_name="demo")
    for artifact_id in ("a", "b"):
        store.write(artifact_id, io.BytesIO(b"content"))
    _given(storage, study, study.ask(), "a", "b")
    experiment = storage.book.get_experiment("demo")
    (experiment if deleted == "study" else experiment.trial(0)).delete()
    store.remove("a")
    with pytest.raises(ArtifactNotFound):
        store.open_reader("a")


@pytest.mark.parametrize("lost", ["removed", "redacted"])
def test_what_is_gone_is_not_given(store: LedgerArtifactStore, storage: LedgerStorage, lost: str) -> None:
    """The attribute is set, and nothing is logged; nor is it when the attribute gives nothing."""
    store.write("a", io.BytesIO(b"secret"))
    if lost == "removed":
        store.remove("a")
    else:
        (logged,) = storage.book.log.read(types="ArtifactLogged")
        storage.book.redact(logged.position, reason="leaked")
    study = optuna.create_study(storage=storage, study_name="demo")
    trial = study.ask()
    _given(storage, study, trial, "a", "a")
    store.write("b", io.BytesIO(b"content"))
    for value in (None, "null", "[]", 17, "[" * 100_000):
        storage.set_trial_system_attr(trial._trial_id, "artifacts:b", value)
    experiment = storage.book.get_experiment("demo")
    assert [each.type for each in experiment.trial(0).history()].count("AttributesSet") == 6
    assert [*experiment.artifacts, *experiment.trial(0).artifacts] == []


def test_what_is_redacted_meanwhile_is_not_given(store: LedgerArtifactStore, storage: LedgerStorage) -> None:
    """It is looked at in the write transaction, by whichever process runs the command."""
    study = optuna.create_study(storage=storage, study_name="demo")
    study.ask()
    experiment = storage.book.get_experiment("demo")
    for artifact_id in ("a", "b"):
        store.write(artifact_id, io.BytesIO(b"secret"))
    first, second = storage.book.log.read(types="ArtifactLogged")
    storage.book.redact(first.position, reason="leaked")
    for logged in (first, second):
        command = set_trial_attribute(experiment.id, 0, "artifacts:x", "{}", SYSTEM, (logged.stream, logged.version))
        encoded = encode_command(command)
        sent = None if encoded is None else decode_command(encoded)
        assert sent is not None
        storage.book.log.execute(sent)
    assert [each.event.name for each in experiment.trial(0).history() if each.type == "ArtifactLogged"] == ["optuna/b"]


def test_a_journal_leaves_its_artifacts_where_they_were_written(store: LedgerArtifactStore, book: ledger.Ledger) -> None:
    """Its trials are no trials of the ledger, which could own them."""
    storage = optuna.storages.JournalStorage(LedgerJournalBackend(book))
    study = optuna.create_study(storage=storage, study_name="demo")
    store.write("a", io.BytesIO(b"a"))
    storage.set_trial_system_attr(study.ask()._trial_id, "artifacts:a", "{}")
    assert [each.stream for each in book.log.read(types="ArtifactLogged")] == [book.get_experiment(HOME).stream]
    assert _read(store, "a") == b"a"


def test_what_was_removed_is_listed_only_with_all(store: LedgerArtifactStore, storage: LedgerStorage) -> None:
    """By `ledger artifacts`: of its owner, and where it was written; what is written anew under its id is there again."""
    study = optuna.create_study(storage=storage, study_name="demo")
    trial = study.ask()
    for artifact_id in ("a", "b"):
        store.write(artifact_id, io.BytesIO(b"content"))
    _given(storage, study, trial, "a", "b")
    store.remove("a")

    def listed(*options: str) -> list[tuple[str, int | None, str]]:
        done = CliRunner().invoke(app, ["artifacts", storage.book.path, *options, "--format", "json"])
        return [(each["experiment"], each["trial"], each["name"]) for each in json.loads(done.stdout)]

    assert listed() == [(HOME, None, "optuna/b"), ("demo", None, "optuna/b")]
    assert listed("demo", "0") == []
    assert listed("demo", "0", "--all") == [("demo", 0, "optuna/a")]
    store.write("a", io.BytesIO(b"anew"))
    assert listed("demo", "0") == [("demo", 0, "optuna/a")]


def test_what_is_written_again_counts_anew(store: LedgerArtifactStore) -> None:
    """Every store on the ledger sees it, also one that has read the first."""
    other = LedgerArtifactStore(store._opened.book)
    for content in (b"one", b"two", b""):
        store.write("17", io.BytesIO(content))
        assert _read(other, "17") == content


def test_a_removed_artifact_is_not_found_and_not_erased(store: LedgerArtifactStore, book: ledger.Ledger) -> None:
    """That it was removed is an event; the room is given back by redaction and collection only."""
    store.write("17", io.BytesIO(b"the key is 123"))
    store.remove("17")
    for use in (store.open_reader, store.remove, LedgerArtifactStore(book).open_reader):
        with pytest.raises(ArtifactNotFound, match="there is no artifact '17' in "):
            use("17")
    removed = next(book.log.read(types="OptunaArtifactRemoved"))
    assert removed.event.artifact_id == "17"
    assert len(book.collect_garbage(grace_seconds=0).removed) == 0
    (logged,) = book.log.read(types="ArtifactLogged")
    book.redact(logged.position, reason="leaked")
    assert len(book.collect_garbage(grace_seconds=0).removed) == 1
    store.write("17", io.BytesIO(b"again"))
    assert _read(store, "17") == b"again"


def test_a_redacted_artifact_is_not_found(store: LedgerArtifactStore, book: ledger.Ledger) -> None:
    """Also by a store that has read it before."""
    store.write("17", io.BytesIO(b"secret"))
    assert _read(store, "17") == b"secret"
    (logged,) = book.log.read(types="ArtifactLogged")
    book.redact(logged.position, reason="leaked")
    with pytest.raises(ArtifactNotFound):
        store.open_reader("17")


def test_what_is_read_can_be_read_in_any_order(store: LedgerArtifactStore) -> None:
    """As torch.load and zipfile do."""
    content = bytes(range(256)) * 1000
    store.write("17", io.BytesIO(content))
    with store.open_reader("17") as file:
        file.seek(-256, io.SEEK_END)
        assert file.read() == content[-256:]
        file.seek(1)
        assert file.read(3) == b"\x01\x02\x03"


def test_damaged_content_is_not_handed_out(store: LedgerArtifactStore, book: ledger.Ledger) -> None:
    """Not one byte of it; it is mended by writing it again."""
    store.write("17", io.BytesIO(b"weights"))
    (stored,) = book.log.backend.blobs.blobs()
    stored.path.chmod(0o644)
    stored.path.write_bytes(b"wEights")
    with pytest.raises(Corrupted, match="the artifact '17' is damaged"):
        store.open_reader("17")
    store.write("17", io.BytesIO(b"weights"))
    assert _read(store, "17") == b"weights"


@pytest.mark.parametrize("artifact_id", ["", 17, "x" * 1001, "\ud800"])
def test_what_is_no_id_is_refused(store: LedgerArtifactStore, artifact_id: Any, book: ledger.Ledger) -> None:
    """Before anything is kept."""
    with pytest.raises(InvalidValue):
        store.write(artifact_id, io.BytesIO(b"content"))
    with pytest.raises(InvalidValue):
        store.open_reader(artifact_id)
    assert book.log.head == 0


def test_an_upload_that_breaks_off_leaves_nothing(store: LedgerArtifactStore, book: ledger.Ledger) -> None:
    """No record, and nothing beside the log."""

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        store.write("17", Broken())
    assert list(book.log.read(types="ArtifactLogged")) == []
    assert [entry.name for entry in (Path(book.path) / "blobs").iterdir()] == []


def test_a_sealed_study_takes_no_artifact(store: LedgerArtifactStore, storage: LedgerStorage, tmp_path: Path) -> None:
    """It says so, and neither record nor content is there."""
    (tmp_path / "file").write_text("x")
    study = optuna.create_study(storage=storage, study_name="demo")
    storage.book.get_experiment("demo").seal()
    with pytest.raises(ExperimentReadOnly):
        upload_artifact(artifact_store=store, file_path=str(tmp_path / "file"), study_or_trial=study)
    assert list(storage.book.log.read(types="ArtifactLogged")) == []


def test_threads_and_pickles_share_one(ledger_path: Path) -> None:
    """Each thing is there once; a copy finds what the first has written."""
    with LedgerArtifactStore(ledger_path) as store:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: store.write(f"{n}", io.BytesIO(b"%d" % n)), range(20)))
            assert list(pool.map(lambda n: _read(store, f"{n}"), range(20))) == [b"%d" % n for n in range(20)]
        with pickle.loads(pickle.dumps(store)) as copy:
            assert _read(copy, "7") == b"7"


_LARGE = """
import io, resource, sys
from ledger.integrations.optuna.artifact_store import LedgerArtifactStore

class Made(io.RawIOBase):
    left = 300 << 20
    def readable(self):
        return True
    def readinto(self, buffer):
        count = min(len(buffer), self.left)
        self.left -= count
        return count

with LedgerArtifactStore(sys.argv[1]) as store:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    store.write("17", Made())
    size = 0
    with store.open_reader("17") as file:
        while piece := file.read(1 << 20):
            size += len(piece)
    print(size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000)
"""


def test_a_large_artifact_needs_no_memory(ledger_path: Path) -> None:
    """300 MB go in and out within 100."""
    done = subprocess.run([sys.executable, "-c", _LARGE, str(ledger_path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(300 << 20), "True"]
