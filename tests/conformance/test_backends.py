"""The conformance suite, run for the backends of this package."""

from __future__ import annotations

from pathlib import Path

from ledger.backends.base import Backend
from ledger.backends.check import LogCheck
from ledger.backends.lmdb import LmdbBackend
from ledger.backends.memory import MemoryBackend
from ledger.testing import BackendConformance, FakeClock


class TestMemoryBackend(BackendConformance):
    """The backend that the others are compared with."""

    decodes_when_read = False

    def open_backend(self, tmp_path: Path, clock: FakeClock) -> Backend:
        return MemoryBackend(clock)


class TestLmdbBackend(BackendConformance):
    """The backend of files."""

    def open_backend(self, tmp_path: Path, clock: FakeClock) -> Backend:
        return LmdbBackend(tmp_path / "runs.ledger", clock=clock)

    def check(self, backend: Backend) -> None:
        """Check as ``verify`` does, without its child process, which would take most of the time of the suite."""
        check = LogCheck(Path(backend.name))
        check.run()
        check.close()
        assert check.problems == []

    def reopen(self, tmp_path: Path, clock: FakeClock) -> Backend:
        return LmdbBackend(tmp_path / "runs.ledger", create=False, clock=clock)
