"""The contract of artifacts: content is there before the event, once, and is proved when it is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger import events as ev
from ledger.artifacts.blobs import BlobStore
from ledger.backends.base import Backend
from ledger.errors import Corrupted, InvalidValue
from ledger.maintenance.garbage import collect_garbage
from ledger.streams import experiment_stream
from ledger.testing.clock import FakeClock
from ledger.testing.tools import EXPERIMENT, ContractBase, append, refusal, submission, with_experiment

_CONTENT = b"content of an artifact " * 10_000


def keep(blobs: BlobStore, content: bytes) -> str:
    """Save some content and return its digest."""
    with blobs.saving() as saving, blobs.guard():
        with saving.writing() as writer:
            writer.write(content)
        saving.publish()
    return writer.digest


def log(backend: Backend, name: str, content: bytes) -> str:
    """Save some content, and record it as an artifact of the experiment; return its digest."""
    digest = keep(backend.blobs, content)
    append(backend, [(experiment_stream(EXPERIMENT), ev.ArtifactLogged(name, digest, len(content)))])
    return digest


class ArtifactContract(ContractBase):
    """What is kept beside the log."""

    def test_content_comes_back_by_its_digest(self, backend: Backend) -> None:
        """What was saved is read again, whether it can be compressed or not, and of any size."""
        for content in (b"", b"x", _CONTENT, bytes(range(256)) * 10):
            digest = keep(backend.blobs, content)
            assert backend.blobs.read(digest, len(content), "it") == content

    def test_what_is_not_published_is_not_there(self, backend: Backend) -> None:
        """A save that ends without being published leaves nothing."""
        with backend.blobs.saving() as saving, saving.writing() as writer:
            writer.write(b"half")
        assert backend.blobs.find(writer.digest) is None
        assert list(backend.blobs.blobs()) == []

    def test_equal_content_is_kept_once(self, backend: Backend) -> None:
        """Saving the same again leaves what is there as it is."""
        keep(backend.blobs, _CONTENT)
        (before,) = backend.blobs.blobs()
        keep(backend.blobs, _CONTENT)
        assert list(backend.blobs.blobs()) == [before]

    def test_damaged_content_is_not_returned(self, backend: Backend) -> None:
        """Wrong bytes raise Corrupted, and so does content that is missing."""
        digest = keep(backend.blobs, b"right")
        stored = backend.blobs.find(digest)
        assert stored is not None
        stored.path.chmod(0o644)
        stored.path.write_bytes(b"wrong")
        with pytest.raises(Corrupted, match="it is damaged"):
            backend.blobs.read(digest, 5, "it")
        stored.path.unlink()
        with pytest.raises(Corrupted, match="it is missing"):
            backend.blobs.read(digest, 5, "it")

    def test_a_collection_keeps_what_a_record_refers_to(self, backend: Backend) -> None:
        """Content without a record is removed, and no other; none that is younger than the grace period."""
        with_experiment(backend)
        kept, free = log(backend, "kept", b"kept"), keep(backend.blobs, b"free")
        assert collect_garbage(backend).young == 1
        assert [stored.digest for stored in collect_garbage(backend, grace_seconds=0).removed] == [free]
        assert [stored.digest for stored in backend.blobs.blobs()] == [kept]

    def test_an_artifact_needs_a_name_and_a_digest(self, backend: Backend) -> None:
        """An event that no content could be found for is refused."""
        with_experiment(backend)
        stream = experiment_stream(EXPERIMENT)
        for name, digest, size in (("x", "../x", 1), ("", "ab" * 32, 1), ("x", "ab" * 32, -1)):
            bad = ev.ArtifactLogged(name, digest, size)
            assert isinstance(refusal(backend, submission([(stream, bad)])), InvalidValue)

    def test_content_is_there_after_reopening(self, backend: Backend, tmp_path: Path, clock: FakeClock) -> None:
        """It lives as long as the log."""
        digest = keep(backend.blobs, _CONTENT)
        backend.close()
        again = self.reopen(tmp_path, clock)
        try:
            assert again.blobs.read(digest, len(_CONTENT), "it") == _CONTENT
        finally:
            again.close()
