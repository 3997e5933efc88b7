"""What has artifacts: experiments and trials."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger import events as ev
from ledger.annotations import Annotated
from ledger.artifacts.artifact import Artifact, latest
from ledger.artifacts.blobs import Saving
from ledger.artifacts.content import Content, Progress, kind_of, save_directory, save_file, save_object
from ledger.artifacts.formats import Saver
from ledger.artifacts.savers import saver_for, saver_named
from ledger.commands import experiment_of
from ledger.errors import InvalidValue, UnknownArtifact
from ledger.rules import check_open
from ledger.streams import subject_of
from ledger.values import check_label, check_text

if TYPE_CHECKING:
    from ledger.log import EventLog

_MAX_NAME = 1024


class Artifacts(Mapping[str, Artifact]):
    """The artifacts of an experiment or a trial by name, as they are when they are asked for; contents are not read.

    >>> import ledger
    >>> exp = ledger.open("memory:").experiment("demo")
    >>> _ = exp.log_artifact("lr,loss", name="table.csv")
    >>> _ = exp.log_artifact("lr,loss\\n0.1,0.4", name="table.csv")
    >>> dict(exp.artifacts)
    {'table.csv': <Artifact 'table.csv': object, 15 bytes>}
    """

    def __init__(self, find: Callable[[], dict[str, Artifact]]) -> None:
        self._find = find

    def __getitem__(self, name: str) -> Artifact:
        return self._find()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._find())

    def __len__(self) -> int:
        return len(self._find())

    def __repr__(self) -> str:
        return f"<Artifacts {list(self)}>"


class ArtifactOwner(Annotated):
    """Something that artifacts can be logged for at any time, before and after its end; each one is an event.

    >>> import ledger
    >>> trial = ledger.open("memory:").experiment("demo").new_trial({"lr": 0.1})
    >>> _ = trial.log_artifact([0.5, 0.4], name="losses")
    >>> trial.artifact("losses").load()
    [0.5, 0.4]
    """

    _attempt: int | None = None

    @abstractmethod
    def _event_log(self) -> EventLog:
        """Return the log that the thing is recorded in."""

    def log_artifact(
        self, value: Any, name: str | None = None, *, saver: str | None = None, media_type: str | None = None,
        progress: Progress | None = None, reason: str | None = None,
    ) -> Artifact:  # fmt: skip
        """Keep a file, a directory or an object as an artifact, on disk when this returns.

        A path (``pathlib.Path``) stands for the file or directory there, whose name is the artifact's unless ``name`` is
        given; everything else is the object itself: bytes, str, what JSON can say (types are kept), numpy arrays, data
        frames (as Parquet), and what ``register_saver`` was called for. ``saver`` names another saver: ``"pickle"`` takes
        nearly everything, and loads when asked to with ``allow_pickle=True`` only; of a file it says how it can be loaded.

        Content that is there already takes no room again. It is streamed, and compressed where that pays. ``progress`` is
        called with the bytes done and their number, of files and directories. A file is what is read of it: one that is
        written to meanwhile warns (ArtifactChanged). In a directory, symbolic links are kept as links.

        A later artifact of the same name counts instead of this one; history has both. One of a worker that has lost its
        lease is kept, too, and does not count instead of a later worker's.

        Raises InvalidValue for what cannot be saved, DiskFull, ExperimentReadOnly; then nothing was recorded.
        """
        log = self._event_log()
        log.backend.check_usable()
        path = Path(value) if isinstance(value, os.PathLike) else None
        name = _checked_name(name, value, path)
        chosen = saver_named(saver) if saver is not None else saver_for(value) if path is None else None
        if path is not None:
            kind_of(path)
        self._check_may_log()
        with log.backend.blobs.saving() as saving:
            content = _save(saving, value, path, chosen, f"the artifact {name!r}", progress)
            event = ev.ArtifactLogged(
                name, content.digest, content.size, content.kind, chosen.name if chosen else "", chosen.module if chosen else "",
                _media_type(media_type, name, content, chosen), content.files, self._attempt or 0,
            )  # fmt: skip
            with log.backend.blobs.guard():
                saving.publish()
                appended = self._ask(lambda view: [(self.stream, event)], reason)
        (record,) = log.backend.read_positions([appended.position])
        return Artifact.of_record(log.backend.blobs, record)

    @property
    def artifacts(self) -> Mapping[str, Artifact]:
        """The artifacts by name, in order of when each name was used first; read when it is used."""
        return Artifacts(self._find_artifacts)

    def artifact(self, name: str, *, version: int | None = None) -> Artifact:
        """Return the artifact of that name; an earlier one by the version of the stream that it was logged with.

        Raises UnknownArtifact, naming those that there are.
        """
        if version is not None:
            found = [each for each in self._all_artifacts() if (each.name, each.version) == (name, version)]
            known = [f"{each.name} (version {each.version})" for each in self._all_artifacts()]
        else:
            artifacts = self._find_artifacts()
            found, known = [artifacts[name]] if name in artifacts else [], list(artifacts)
        if not found:
            there = f"There are: {', '.join(map(repr, known))}." if known else "It has none."
            asked = f"{name!r}" if version is None else f"{name!r} of version {version}"
            raise UnknownArtifact(f"there is no artifact {asked} in {self.stream}. {there}")
        return found[0]

    def _find_artifacts(self) -> dict[str, Artifact]:
        return latest(self._all_artifacts())

    def _all_artifacts(self) -> Iterator[Artifact]:
        for record in self._records([ev.ArtifactLogged]):
            if isinstance(record.event, ev.ArtifactLogged) and record.event.digest:  # a redacted one has none
                yield Artifact.of_record(self._event_log().backend.blobs, record)

    def _check_may_log(self) -> None:
        """Raise before a large file is copied what would else be raised afterwards."""
        subject = subject_of(self.stream)
        assert subject is not None  # its own stream
        with self._event_log().backend.view() as view:
            check_open(experiment_of(view, subject.experiment_id), ev.ArtifactLogged("", "", 0))


def _checked_name(name: str | None, value: Any, path: Path | None) -> str:
    if name is None:
        if path is None:
            hint = f" If it is a path, give pathlib.Path({value!r:.100})." if isinstance(value, str) and "\n" not in value else ""
            raise InvalidValue(f"an artifact made of a {type(value).__name__} needs a name: log_artifact(value, name=...).{hint}")
        name = path.resolve().name
    if type(name) is not str or not name.strip() or len(name) > _MAX_NAME:
        raise InvalidValue(f"the artifact's name is {name!r:.100}; give a text of 1 to {_MAX_NAME:,} characters.")
    return check_label(check_text(name, "the artifact's name"), "the artifact's name")


def _save(
    saving: Saving, value: Any, path: Path | None, saver: Saver | None, what: str, progress: Progress | None
) -> Content:  # fmt: skip
    if path is None:
        assert saver is not None  # chosen for the value
        return save_object(saving, saver, value, what)
    if kind_of(path) == "file":
        return save_file(saving, path, progress)
    if saver is not None:
        raise InvalidValue(f"{path} is a directory; no saver loads one. Leave saver= out.")
    return save_directory(saving, path, progress)


def _media_type(given: str | None, name: str, content: Content, saver: Saver | None) -> str:
    if given is not None:
        return check_label(given, "the media type")
    if saver is not None:
        return saver.media_type
    import mimetypes  # here: `import ledger` need not pay for it

    return "" if content.kind == "directory" else mimetypes.guess_type(name)[0] or ""
