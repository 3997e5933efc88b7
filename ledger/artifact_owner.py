"""What has artifacts: experiments and trials."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ledger import events as ev
from ledger.annotations import Annotated
from ledger.commands import experiment_of
from ledger.errors import UnknownArtifact
from ledger.rules import check_open
from ledger.streams import subject_of

if TYPE_CHECKING:
    from ledger.artifacts.artifact import Artifact
    from ledger.artifacts.content import Progress
    from ledger.log import EventLog


class Artifacts(Mapping[str, "Artifact"]):
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
        from ledger.artifacts.artifact import Artifact  # here: `import ledger` need not pay for it
        from ledger.artifacts.source import Source

        log = self._event_log()
        log.backend.check_usable()
        source = Source(value, name, saver=saver, media_type=media_type)
        self._check_may_log()
        with log.backend.blobs.saving() as saving:
            event = source.save(saving, self._attempt or 0, progress)
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
        from ledger.artifacts.artifact import latest

        return latest(self._all_artifacts())

    def _all_artifacts(self) -> Iterator[Artifact]:
        from ledger.artifacts.artifact import Artifact

        for record in self._records([ev.ArtifactLogged]):
            if isinstance(record.event, ev.ArtifactLogged) and record.event.digest:  # a redacted one has none
                yield Artifact.of_record(self._event_log().backend.blobs, record)

    def _check_may_log(self) -> None:
        """Raise before a large file is copied what would else be raised afterwards."""
        subject = subject_of(self.stream)
        assert subject is not None  # its own stream
        with self._event_log().backend.view() as view:
            check_open(experiment_of(view, subject.experiment_id), ev.ArtifactLogged("", "", 0))
