"""Artifact: the handle of what was saved; its content is read when it is asked for."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from ledger import events as ev
from ledger.artifacts.blobs import BlobStore
from ledger.artifacts.content import Counter, Progress
from ledger.artifacts.manifest import Entry, read_manifest
from ledger.artifacts.reading import PIECE_BYTES
from ledger.artifacts.savers import read_object
from ledger.errors import InvalidValue, LoadError, UnknownArtifact
from ledger.partial import beside, partial_directory
from ledger.records import Record, from_nanoseconds
from ledger.values import with_article


class Artifact:
    """A file, a directory or an object that belongs to an experiment or a trial. Made by ``log_artifact`` and ``artifacts``.

    Nothing of the content is held here: it is read when it is asked for, and proved each time. Every method that reads
    raises Corrupted, naming the file, when bytes are missing or are not those that were saved.

    >>> import ledger
    >>> trial = ledger.open("memory:").experiment("demo").new_trial({})
    >>> artifact = trial.log_artifact({"weights": [0.5, 1.5]}, name="model")
    >>> artifact.kind, artifact.saver, artifact.load()
    ('object', 'json', {'weights': [0.5, 1.5]})
    """

    def __init__(
        self, blobs: BlobStore, event: ev.ArtifactLogged, stream: str, *, version: int, recorded_at: int, actor: str
    ) -> None:
        self._blobs = blobs
        self._event = event
        self.stream = stream
        self.version = version  # of the stream, with which it was logged
        self.actor = actor
        self.recorded_at = recorded_at  # ns since 1970 UTC

    @classmethod
    def of_record(cls, blobs: BlobStore, record: Record) -> Artifact:
        """Return the handle of the artifact that a record tells of."""
        return cls(blobs, record.event, record.stream, version=record.version, recorded_at=record.recorded_at, actor=record.actor)

    def __repr__(self) -> str:
        return f"<Artifact {self.name!r}: {self.kind}, {self.size:,} bytes>"

    @property
    def name(self) -> str:
        """The name it was logged under."""
        return self._event.name

    @property
    def kind(self) -> str:
        """``file``, ``directory`` or ``object``."""
        return self._event.kind

    @property
    def size(self) -> int:
        """The bytes of its content; of a directory, of all its files."""
        return self._event.size

    @property
    def digest(self) -> str:
        """The SHA-256 of its content in hexadecimal; of a directory, of its manifest."""
        return self._event.digest

    @property
    def saver(self) -> str:
        """The name of the saver that wrote it, and can load it; empty for a file that none was named for."""
        return self._event.saver

    @property
    def media_type(self) -> str:
        """What the content is, as MIME calls it; empty when that is not known."""
        return self._event.media_type

    @property
    def files(self) -> int:
        """The number of files in a directory; 0 for anything else."""
        return self._event.files

    @property
    def attempt(self) -> int:
        """The attempt of the trial that it was logged by; 0 when it was by none."""
        return self._event.attempt

    @property
    def time(self) -> dt.datetime:
        """When it was recorded."""
        return from_nanoseconds(self.recorded_at)

    @property
    def stored_size(self) -> int:
        """The bytes that it takes on the disk, which artifacts of the same content share."""
        blobs = [self._blobs.require(self.digest, None, self._what)]
        blobs += [self._blobs.require(each.digest, each.size, self._what) for each in self._entries() if each.digest]
        return sum(stored.size for stored in set(blobs))

    @property
    def _what(self) -> str:
        return f"the artifact {self.name!r} of {self.stream}"

    # -------------------------------------------------------------------------------------------------- read

    def open(self, path: str | None = None) -> BinaryIO:
        """Open the content as a binary file, to be read from its beginning; of a directory, the file at ``path`` in it.

        What is larger than memory can be read piece by piece. The last bytes are handed out only when all of them have
        proved right, else Corrupted is raised: do not act for good on a part before the end.

        >>> import ledger
        >>> trial = ledger.open("memory:").experiment("demo").new_trial({})
        >>> with trial.log_artifact("two\\nlines\\n", name="log").open() as file:
        ...     [line for line in file]
        [b'two\\n', b'lines\\n']
        """
        if self.kind == "directory":
            if path is None:
                raise InvalidValue(f"{self._what} is a directory; name a file in it: .open(path). .entries() lists them.")
            entry = next((each for each in self._entries() if each.path == path and each.digest), None)
            if entry is None:
                raise UnknownArtifact(f"there is no file {path!r} in {self._what}. .entries() lists them.")
            return self._blobs.open(entry.digest, entry.size, f"{path!r} of {self._what}")
        if path is not None:
            raise InvalidValue(f"{self._what} is {with_article(self.kind)}, which has no {path!r} in it; call .open().")
        return self._blobs.open(self.digest, self.size, self._what)

    def read_bytes(self, path: str | None = None) -> bytes:
        """Return the content; of a directory, of the file at ``path`` in it. It must fit into memory."""
        with self.open(path) as file:
            return file.read()

    def load(self, *, allow_pickle: bool = False) -> Any:
        """Return the object again, as the saver makes it from the content, which has proved right before.

        A saver that is not known in this process is looked for in the module that registered it, which is imported.
        Unpickling runs whatever code is in the pickle: PickleRefused is raised unless ``allow_pickle`` says that whoever
        can write to the ledger is trusted.

        Raises LoadError for a file that no saver was named for, and when its saver is not there or fails.
        """
        if not self.saver:
            raise LoadError(
                f"{self._what} is {with_article(self.kind)} that no saver was named for. Use .open(), .read_bytes() or "
                ".save_to(path); or log it with saver=."
            )
        return read_object(
            self.saver, self._event.module, lambda: self._blobs.open_proved(self.digest, self.size, self._what), self._what,
            allow_pickle=allow_pickle,
        )  # fmt: skip

    def entries(self) -> list[Entry]:
        """Return what is in a directory: paths, digests, sizes, modes, and symbolic links; nothing for anything else."""
        return list(self._entries())

    def _entries(self) -> Iterator[Entry]:
        return read_manifest(self._blobs, self.digest, self._what) if self.kind == "directory" else iter(())

    # ------------------------------------------------------------------------------------------------- fetch

    def save_to(self, path: str | os.PathLike[str], *, progress: Progress | None = None) -> Path:
        """Write the content to a file, or a directory, that is not there yet, and return its path.

        It appears when all of it has proved right. ``progress`` is called with the bytes written and their number. Raises
        InvalidValue when there is something at the path.
        """
        target = Path(path)
        if os.path.lexists(target):
            raise InvalidValue(f"{target} is there already, and nothing is overwritten. Give another path, or move it away.")
        if not target.parent.is_dir():
            raise InvalidValue(f"the directory {target.parent} does not exist. Create it first.")
        counter = Counter(progress, self.size)
        with partial_directory(target.parent, beside(target)) as partial:
            made = partial / "artifact"
            if self.kind == "directory":
                self._write_directory(made, counter)
            else:
                with self.open() as file:
                    _write(file, made, 0o666, counter)
            made.rename(target)
        return target

    def _write_directory(self, top: Path, counter: Counter) -> None:
        top.mkdir()
        links = []
        for entry in self._entries():
            place = top.joinpath(PurePosixPath(entry.path))
            place.parent.mkdir(parents=True, exist_ok=True)
            if entry.link:
                links.append((place, entry.link))
            elif entry.digest:
                with self._blobs.open(entry.digest, entry.size, f"{entry.path!r} of {self._what}") as file:
                    _write(file, place, entry.mode, counter)
            else:
                place.mkdir()
        for place, link in links:  # last: nothing is written through one
            place.symlink_to(link)


def latest(artifacts: Iterable[Artifact]) -> dict[str, Artifact]:
    """Return those of one experiment or trial that count, by name; given in the order in which they were logged.

    A later one counts instead of an earlier one, unless it is of a worker that had lost the trial to another one by then.
    """
    found: dict[str, Artifact] = {}
    for artifact in artifacts:
        known = found.get(artifact.name)
        if known is None or not artifact.attempt or artifact.attempt >= known.attempt:
            found[artifact.name] = artifact
    return found


def _write(file: BinaryIO, path: Path, mode: int, counter: Counter) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode | 0o200), "wb") as made:
        while piece := file.read(PIECE_BYTES):
            made.write(piece)
            counter.add(len(piece))
