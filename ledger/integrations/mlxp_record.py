"""What an imported run of MLXP becomes: the events of its trial, as far as they are not recorded yet."""

from __future__ import annotations

import json
import mimetypes
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ledger import events as ev
from ledger.artifacts.content import kind_of, save_directory, save_file
from ledger.backends.base import Staged, Submission, View
from ledger.bulk import point_batches
from ledger.codec import SALT_BYTES
from ledger.errors import CommandRefused, InvalidValue
from ledger.identity import new_uuid7
from ledger.integrations.mlxp_run import ArtifactFile, BrokenRun, Line, Run
from ledger.log import answers_of
from ledger.records import Context
from ledger.registry import Event
from ledger.state import Status, TrialState
from ledger.streams import trial_stream
from ledger.telemetry import check_scalar
from ledger.values import encode_value
from projections.mlxp_status import FROM_MLXP

if TYPE_CHECKING:
    from ledger.experiment import Experiment

#: The namespaces of attributes in which an imported trial keeps what MLXP said of it, and what was read of its files.
NAMESPACE = "mlxp"
_READ = "mlxp.import"
#: Who may claim a run that a scheduler of MLXP's has queued: nobody here.
WORKER = "mlxp"
_VALUES_PER_EVENT = 4096
_REASON = "imported from MLXP"

#: The savers of artifacts by MLXP's type; of other types one of that name can be registered.
_SAVERS = {"pickle": "pickle", "numpy": "numpy"}


def imported(state: TrialState | None, namespace: str = _READ) -> dict[str, Any]:
    """Return what was kept of the run when it was imported before; nothing when it was not."""
    return {} if state is None else state.attributes.get(namespace, {})


def check_same_run(state: TrialState, run: Run) -> None:
    """Raise BrokenRun when the trial of the run's number is something else than this run, imported before."""
    before = imported(state, NAMESPACE).get("info")
    if before is None:
        raise BrokenRun(
            f"trial {run.log_id} is there already, and is no run of MLXP. Import into another experiment (--experiment)."
        )
    if state.deleted_at is not None:
        raise BrokenRun(f"trial {run.log_id} was deleted. Restore it first (ledger delete --undo), or leave it.")
    then, now = (each.get("logger") or {} for each in (before, run.info))
    if then.get("log_dir") != now.get("log_dir"):
        raise BrokenRun(
            f"trial {run.log_id} is the run of {then.get('log_dir')}, and this is that of {now.get('log_dir')}. Import it into "
            "another experiment (--experiment)."
        )


def record_run(experiment: Experiment, state: TrialState | None, run: Run, step: str | None) -> bool:
    """Record what is new of a run in one commit, all of it or nothing; return whether anything was.

    Raises InvalidValue when something in it cannot be recorded.
    """
    known = imported(state).get("artifacts", {})
    files = [file for file in run.artifacts if known.get(file.name) != file.seen]
    digests = {} if state is None or not files else _digests(experiment, run.log_id)
    log = experiment.book.log
    with _kept(experiment, files, digests) as artifacts:
        points = list(_points(run, step, _begun(run, state)))
        begin, end = _events(state, run, points, artifacts)
        if not begin and not end:
            return False
        stream = trial_stream(experiment.id, run.log_id)
        first = _Step(stream, begin, log.version(stream))
        second = _Step(stream, end, log.version(stream) + len(begin))
        steps = [(first, run.started_at), (second, run.ended_at)]
        answers_of(log.commit([_submission(each, at, log.actor) for each, at in steps if each.events]))
    return True


class _Step:
    """Append events to a stream that is at this version still, be it by another's step or by the one before."""

    def __init__(self, stream: str, events: Sequence[Event], version: int) -> None:
        self.stream, self.events, self._version = stream, events, version

    def __call__(self, view: View) -> list[Staged]:
        if view.version(self.stream) != self._version:
            raise CommandRefused(f"{self.stream} was changed meanwhile, by another import perhaps. Import again.")
        return [(self.stream, event) for event in self.events]


def _submission(step: _Step, at: int | None, actor: str) -> Submission:
    return Submission(step, new_uuid7().bytes, os.urandom(SALT_BYTES), actor, Context(at, _REASON), is_first_try=True)


# ------------------------------------------------------------------------------------------------------------ events


def _events(
    state: TrialState | None, run: Run, points: list[Event], artifacts: list[ev.ArtifactLogged]
) -> tuple[list[Event], list[Event]]:  # fmt: skip
    """Return what happened at the run's beginning or while it ran, and what at its end."""
    status = FROM_MLXP.get(str(run.info.get("status")), Status.UNKNOWN)
    begin: list[Event] = []
    if state is None:
        waits = WORKER if status is Status.PENDING else ""
        begin.append(ev.TrialCreated(run.config, assigned_to=waits))
    elif not _same(state.config, run.config):
        begin += _resolved(state, run)
    said = {"info": run.info, **({"metadata": run.metadata} if run.metadata else {})}
    for namespace, wanted in ((NAMESPACE, said), (_READ, _read(state, run, artifacts))):
        known = imported(state, namespace)
        changed = {key: value for key, value in wanted.items() if not _same(known.get(key), value)}
        begin += [ev.AttributesSet(changed, namespace)] if changed else []
    before = imported(state, NAMESPACE).get("info", {}).get("status")
    if state is not None and before == run.info.get("status"):
        return [*begin, *points, *artifacts], []  # what others have made of its status since stays
    if status in (Status.SUCCEEDED, Status.FAILED):
        began, ended = _course(state, status)
        return [*begin, *began, *points, *artifacts], [ended]
    forced = [] if state is None and status is Status.PENDING else [ev.StatusForced(status)]
    return [*begin, *forced, *points, *artifacts], []


def _course(state: TrialState | None, status: Status) -> tuple[list[Event], Event]:
    """Return how the trial came to be running, unless it is, and how it ended."""
    now = Status.PENDING if state is None else state.status
    if now not in (Status.PENDING, Status.RUNNING):
        return [], ev.StatusForced(status)  # it was called off here, and MLXP went on
    attempt = (0 if state is None else state.attempt) + (now is Status.PENDING)
    began: list[Event] = [ev.StatusForced(Status.RUNNING)] if now is Status.PENDING else []
    return began, ev.TrialCompleted({}, attempt) if status is Status.SUCCEEDED else ev.TrialFailed(None, {}, attempt)


def _resolved(state: TrialState, run: Run) -> list[Event]:
    """Return what the run's config became when a queued run began; another change makes it another run."""
    then, was_resolved = state.config, imported(state).get("is_resolved", True)
    if (was_resolved and state.is_amended) or (not was_resolved and state.status.is_finished):
        return []  # amended, or called off, here since
    if was_resolved or then.keys() - run.config.keys():
        raise BrokenRun(
            f"its config is another than that of trial {run.log_id}, imported before. Import it into another experiment "
            "(--experiment)."
        )
    added = {key: value for key, value in run.config.items() if key not in then}
    changed = {key: value for key, value in run.config.items() if key in then and not _same(then[key], value)}
    configured: list[Event] = [ev.TrialConfigured(added)] if added else []
    return [*configured, *([ev.TrialAmended(config=changed)] if changed else [])]


def _read(state: TrialState | None, run: Run, artifacts: Sequence[ev.ArtifactLogged]) -> dict[str, Any]:
    """Return what was read of the run's files, by which they are known again."""
    known, seen = imported(state), {file.name: file.seen for file in run.artifacts}
    kept = {each.name: seen[each.name] for each in artifacts}
    return {
        "is_resolved": run.is_resolved,
        "metrics": {**known.get("metrics", {}), **{file.name: file.seen for file in run.metrics}},
        "artifacts": {**known.get("artifacts", {}), **kept},
    }


def _same(first: Any, second: Any) -> bool:
    return encode_value(first) == encode_value(second)  # NaN is as good as NaN


def _begun(run: Run, state: TrialState | None) -> int | None:
    return run.started_at if run.started_at is not None else None if state is None else state.created_at


# ----------------------------------------------------------------------------------------------------------- metrics


def _points(run: Run, step: str | None, at: int | None) -> Iterator[Event]:
    """Yield the new lines of the metrics files, in order, some thousand values to an event."""
    waiting: list[ev.Points] = []
    count = 0
    for file in run.metrics:
        for names, lines in groupby(file.lines, key=lambda line: tuple(line.values)):
            for points in _same_names(run, file.name, names, list(lines), step, at):
                waiting.append(points)
                count += len(points.names) * len(points.steps)
                if count >= _VALUES_PER_EVENT:
                    yield ev.MetricsLogged(waiting)
                    waiting, count = [], 0
    if waiting:
        yield ev.MetricsLogged(waiting)


def _same_names(
    run: Run, log: str, names: tuple[str, ...], lines: list[Line], step: str | None, at: int | None
) -> Iterator[ev.Points]:  # fmt: skip
    if not names:
        return
    columns = {f"{log}.{name}": [_value(line.values[name]) for line in lines] for name in names}
    steps = [_step(line, step) for line in lines]
    try:
        yield from list(point_batches(columns, steps, None if at is None else [at] * len(lines)))
    except InvalidValue as error:
        if len(lines) > 1:
            for line in lines:  # the others are to be had
                yield from _same_names(run, log, names, [line], step, at)
            return
        run.problems.append(f"metrics/{log}.json, line {lines[0].number + 1} is not taken: {error}")


def _value(value: Any) -> Any:
    """Return a value of a point; what is none (a list, an int of more than 64 bits) as its JSON text."""
    try:
        return check_scalar("", value)
    except InvalidValue:
        return value if isinstance(value, str) else json.dumps(value)


def _step(line: Line, key: str | None) -> int | float:
    value = None if key is None else line.values.get(key)
    return line.number if isinstance(value, bool) or not isinstance(value, int | float) else value


# --------------------------------------------------------------------------------------------------------- artifacts


@contextmanager
def _kept(
    experiment: Experiment, files: Sequence[ArtifactFile], digests: Mapping[str, str]
) -> Iterator[list[ev.ArtifactLogged]]:  # fmt: skip
    """Keep the files in the store, and yield the events that tell of those that are new, to be recorded in the block."""
    if not files:
        yield []
        return
    blobs = experiment.book.log.backend.blobs
    with blobs.saving() as saving:
        found: list[ev.ArtifactLogged] = []
        for file in files:
            save: Callable[..., Any] = save_directory if kind_of(file.path) == "directory" else save_file
            try:
                content = save(saving, file.path, None)
            except PermissionError as error:
                raise BrokenRun(f"{file.path} cannot be read: {error.strerror}.") from error
            if content.digest == digests.get(file.name):
                continue  # copied to another place, or written again as it was
            is_file = content.kind == "file"
            media_type = mimetypes.guess_type(file.name)[0] or "" if is_file else ""
            saver = _SAVERS.get(file.kind, file.kind) if is_file else ""
            found.append(
                ev.ArtifactLogged(file.name, content.digest, content.size, content.kind, saver, "", media_type, content.files)
            )
        with blobs.guard():
            saving.publish()
            yield found


def _digests(experiment: Experiment, number: int) -> dict[str, str]:
    return {name: artifact.digest for name, artifact in experiment.trial(number).artifacts.items()}


def known_metrics(state: TrialState | None) -> Mapping[str, Any]:
    """Return what was read of the run's metrics files before, by the name of the log."""
    metrics: Mapping[str, Any] = imported(state).get("metrics", {})
    return metrics
