"""The tables of details at every position of a random history equal folds that were written a second time, in plain Python."""

import importlib.util
import math
import uuid
from pathlib import Path

import pandas as pd
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import ledger
import projections
from ledger import events as ev
from ledger.streams import capture_digest
from ledger.values import decode_value, encode_value
from projections.buffers import BUFFERS
from projections.rows import Rows

_spec = importlib.util.spec_from_file_location("as_of_histories", Path(__file__).with_name("test_as_of.py"))
base = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(base)

T = 1_700_000_000_000_000_000
ODD = "ü.a b'\"😀"
POINTS = [
    [ev.Points(["loss"], [1, 2, 3], [T, 5, 5], [[0.5, 0.25, 0.125]])],
    [ev.Points(["loss", "x"], [2, 2], [T + 1, 0], [[1, 2], ["a", None]])],
    [ev.Points(["loss"], [None, 1.5, None], [T, 1, -3], [[float("nan"), float("inf"), 4]]), ev.Points(["x"], [3], [T], [[True]])],
    [ev.Points([ODD], [2**63, 1, -2.5], [T, 1, 1], [[2**64 - 1, -5, 0.1]])],
    [ev.Points([], [], [], []), ev.Points(["loss"], [], [], [[]])],
    [ev.Points(["x", "loss"], [1.0, float("nan")], [T, 10**9], [[2**53 + 1, 0], [7, 8]])],
    [ev.Points(["x"], [2], [T], [[False]]), ev.Points(["x"], [2], [T], [[3]])],
    [ev.Points(["lr"], [1], [T], [["text"]])],
]
COMMANDS = ["points", "points", "points", "telemetry", "artifact", "captured", "said", "amend_note", "moved", "withdraw", "amend"]
STEPS = st.lists(
    st.tuples(st.sampled_from([*base.COMMANDS, *COMMANDS]), st.integers(0, 15), st.integers(0, 40)), min_size=1, max_size=25
)

#: Points of attempts that were lost, taken over, forced and late; a deleted trial that comes back; two experiments.
RETRIED = [
    ("experiment", 0, 1), ("trials", 0, 1), ("claim", 1, 30), ("points", 0, 1), ("claim", 2, 1), ("points", 8, 1),
    ("points", 1, 1), ("points", 5, 1), ("artifact", 1, 1), ("artifact", 0, 1), ("claim", 1, 30), ("claim", 1, 1),
    ("points", 2, 1), ("delete", 0, 1), ("experiment", 1, 1), ("trial", 2, 1), ("points", 3, 1), ("restore", 0, 1),
    ("points", 6, 1), ("points", 7, 1), ("telemetry", 2, 1), ("telemetry", 9, 1), ("note", 0, 1), ("amend_note", 0, 1),
    ("captured", 0, 1), ("captured", 5, 1), ("said", 1, 1), ("moved", 2, 1), ("delete", 0, 1), ("points", 0, 1),
]  # fmt: skip


class Session(base.Session):
    """Drive the handles, and append what only workers of long ago and other programs would."""

    def on_trial(self, command, trial, number):
        append, stream = self.book.log.append, trial.stream
        digests = {"git": capture_digest(git(number % 2)), "command": "0f" * 16}
        if command == "points":
            append([ev.MetricsLogged(POINTS[number % 8], number // 8 + (number % 3))], stream=stream)
        elif command == "telemetry":
            append([ev.TelemetryLogged(POINTS[number % 8], number % 2)], stream=stream)
        elif command == "artifact":
            trial.experiment.log_artifact("own", name="own")
            append([ev.ArtifactLogged(f"a{number % 2}", f"{number:064d}", number, attempt=number % 3)], stream=stream)
        elif command == "captured":
            content = git(number % 2)
            if self.book.log.version(f"capture/git/{digests['git']}") == 0:
                append([ev.CaptureStored("git", digests["git"], content)], stream=f"capture/git/{digests['git']}")
            append([ev.TrialCaptured(digests if number % 3 else {"git": digests["git"]}, number % 3)], stream=stream)
        elif command == "said":
            append([ev.EnvironmentCaptured({"rack": number, "x": None})], stream=[stream, trial.experiment.stream][number % 2])
        elif command == "moved":
            append([ev.EnvironmentChanged(trial.id, digests, {"git": "aa"}, [f"numpy {number}"])], stream=trial.experiment.stream)
        elif command == "amend_note":
            owner = trial if number % 2 else trial.experiment
            owner.note(f"first {number}")
            owner.amend_note(owner.notes()[-1 - number % len(owner.notes())].version, f"then {number}", reason="typo")
        else:
            super().on_trial(command, trial, number)


def git(number):
    return {"commit": f"1a2b{number}", "branch": None, "is_dirty": bool(number)}


# ------------------------------------------------------------------------------------------------ the second fold


def trial_records(records, identifier):
    """Yield the records of one experiment's trials with their number."""
    for record in records:
        kind, _, rest = record.stream.partition("/")
        experiment, _, number = rest.partition("/")
        if kind == "trial" and experiment == identifier:
            yield int(number), record


def hidden_trials(records, identifier):
    hidden = set()
    for number, record in trial_records(records, identifier):
        if record.type == "TrialDeleted":
            hidden.add(number)
        elif record.type == "TrialRestored":
            hidden.discard(number)
    return hidden


def is_without(step):
    return step is None or step != step


def points_of(records, identifier, kind):
    """Return the points in the order in which they count, as dicts."""
    found, highest = [], {}
    for number, record in trial_records(records, identifier):
        if record.type != kind:
            continue
        top = highest.get(number, 1)
        attempt = record.event.attempt
        rank = top if attempt == 0 else attempt
        highest[number] = max(top, rank)
        for place, points in enumerate(record.event.points):
            for index, name in enumerate(points.names):
                at = 0
                for row, (step, delta) in enumerate(zip(points.steps, points.times, strict=True)):
                    at += delta
                    found.append({
                        "trial_id": number, "name": name, "step": step, "time": at, "value": points.values[index][row],
                        "attempt": attempt, "position": record.position, "rank": rank, "order": (record.position, place, row),
                    })  # fmt: skip
    found.sort(key=lambda point: (point["trial_id"], point["name"], point["rank"], point["order"]))
    for point in found:
        point["is_superseded"] = any(supersedes(other, point) for other in found)
    return found


def supersedes(other, point):
    if (other["trial_id"], other["name"]) != (point["trial_id"], point["name"]) or other["rank"] <= point["rank"]:
        return False
    if is_without(point["step"]) or is_without(other["step"]):
        return is_without(point["step"]) and is_without(other["step"])
    return other["step"] <= point["step"]


def pivot(points, by):
    rows = {}
    for point in points:
        if by == "step" and point["is_superseded"]:
            continue
        key = None if is_without(point[by]) else point[by]
        rows.setdefault((point["trial_id"], key), {})[point["name"]] = point["value"]
    order = sorted(rows, key=lambda key: (key[0], key[1] is None, key[1] or 0))
    return [(*key, {name: value for name, value in rows[key].items() if not missing(value)}) for key in order]


def status_changes(records, identifier, amended):
    """Return the rows of the status history, by trial."""
    rows, states, workers = {}, {}, {}
    for number, record in trial_records(records, identifier):
        if record.type == "TrialCreated":
            states[number] = {"status": "PENDING", "config": {}, "result": {}, "attempts": 0}
            before, attempts = None, 0
        else:
            before, attempts = states[number]["status"], states[number]["attempts"]
            at = record.recorded_at if record.occurred_at is None else record.occurred_at
            base.change_trial(states[number], record.type, record.event, at, amended)
        state = states[number]
        if record.type == "TrialClaimed":
            workers[number] = record.event.worker
        elif state["attempts"] != attempts:
            workers[number] = None
        if (before, attempts) != (state["status"], state["attempts"]):
            error = record.event.error if record.type == "TrialFailed" else None
            why = record.reason or (None if error is None else ": ".join(filter(None, (error.type, error.message))))
            row = (number, before, state["status"], record.actor, why, state["attempts"], workers.get(number))
            rows.setdefault(number, []).append((*row, record.type, record.position))
    return [row for number in sorted(rows) for row in rows[number]]


def artifacts_of(records, identifier):
    found, latest = [], {}
    for record in records:
        kind, _, rest = record.stream.partition("/")
        if record.type == "ArtifactLogged" and rest.partition("/")[0] == identifier:
            trial = int(rest.partition("/")[2]) if kind == "trial" else None
            row = [trial, record.event.name, record.version, record.event.digest, record.event.attempt, False]
            found.append(row)
            known = latest.get((trial, row[1]))
            if known is None or row[4] == 0 or row[4] >= known[4]:
                latest[trial, row[1]] = row
    for row in latest.values():
        row[-1] = True
    return sorted(found, key=lambda row: -1 if row[0] is None else row[0])


def amendments_of(records, identifier):
    """Return the rows of the amendments in order: trial, what, name, version, before, after, position."""
    rows, states, notes = [], {}, {}
    for record in records:
        kind, _, rest = record.stream.partition("/")
        if kind not in ("trial", "experiment") or rest.partition("/")[0] != identifier:
            continue
        trial = int(rest.partition("/")[2]) if kind == "trial" else None
        event, at = record.event, record.position
        if record.type == "TrialCreated":
            states[trial] = {"status": "PENDING", "config": dict(event.config), "result": {}, "attempts": 0, "label": event.label}
        elif record.type == "NoteAdded":
            notes[record.stream, record.version] = event.text
        elif record.type == "NoteAmended":
            rows.append((trial, "note", None, event.version, notes[record.stream, event.version], event.text, at))
            notes[record.stream, event.version] = event.text
        elif record.type == "TrialAmended":
            state = states[trial]
            rows += [(trial, "result", name, None, state["result"][name], value, at) for name, value in event.results.items()]
            rows += [(trial, "result", name, None, state["result"][name], None, at) for name in event.withdrawn]
            rows += [(trial, "config", name, None, state["config"][name], value, at) for name, value in event.config.items()]
            rows += [(trial, "label", None, None, state["label"], event.label, at)] if event.label is not None else []
            rows += [(trial, "status", None, None, state["status"], event.status, at)] if event.status is not None else []
        if trial is not None and record.type != "TrialCreated":
            base.change_trial(states[trial], record.type, event, record.recorded_at, amended=True)
    return rows


def environments_of(records, identifier):
    """Return, by trial, the digests that it was captured with last, and what was said last."""
    captures, said = {}, {}
    for record in records:
        kind, _, rest = record.stream.partition("/")
        if kind in ("trial", "experiment") and rest.partition("/")[0] == identifier:
            trial = int(rest.partition("/")[2]) if kind == "trial" else None
            if record.type == "TrialCaptured":
                captures[trial] = record.event.captures
            elif record.type == "EnvironmentCaptured":
                said[trial] = record.event.environment["rack"]
    order = sorted(captures.keys() | said.keys(), key=lambda trial: -1 if trial is None else trial)
    return [
        (trial, captures.get(trial, {}).get("git"), captures.get(trial, {}).get("command"), said.get(trial)) for trial in order
    ]


# -------------------------------------------------------------------------------------------------------- compare


def missing(value):
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def bare(value):
    """Return a cell without what only dtypes tell apart: missing values; True stays another than 1."""
    if missing(value):
        return None
    if isinstance(value, pd.Timestamp):
        return value.value
    return ("bool", value) if isinstance(value, bool) else value


def cells(frame, names):
    return [tuple(bare(row[name]) for name in names) for row in frame.astype(object).to_dict("records")]


def check_points(show, points, hidden, by):
    names = ["trial_id", "name", "step", "time", "value", "attempt", "position", *(["is_superseded"] if by == "step" else [])]
    for deleted in (False, True):
        there = [point for point in points if deleted or point["trial_id"] not in hidden]
        long = show(deleted=deleted)
        assert list(long.columns) == names
        assert cells(long, names) == [tuple(bare(point[name]) for name in names) for point in there]
        wide = show(form="pivoted", deleted=deleted)
        assert sorted(wide.columns) == sorted({point["name"] for point in there})
        shown = [
            (trial, bare(step), {name: bare(value) for name, value in row.items() if not missing(value)})
            for (trial, step), row in zip(wide.index, wide.astype(object).to_dict("records"), strict=True)
        ]
        assert shown == [(trial, key, {name: bare(each) for name, each in row.items()}) for trial, key, row in pivot(there, by)]


def check_series(tables, key, points, hidden, as_of):
    for name in sorted({point["name"] for point in points}):
        there = [each for each in points if each["name"] == name and not each["is_superseded"] and each["trial_id"] not in hidden]
        series = tables.metric(key, name, as_of=as_of)
        assert series.trial_ids.tolist() == sorted({each["trial_id"] for each in there})
        for place, trial in enumerate(series.trial_ids.tolist()):
            own = [each for each in there if each["trial_id"] == trial]
            steps, values = series.of(trial)
            assert [bare(step) for step in steps.tolist()] == [bare(each["step"]) for each in own]
            assert [bare(value) for value in values.tolist()] == [bare(each["value"]) for each in own]
            numbers = [
                float(each["value"]) for each in own if isinstance(each["value"], int | float) and not missing(each["value"])
            ]
            assert bare(series.reduce("last").tolist()[place]) == bare(own[-1]["value"])
            assert series.reduce("count").tolist()[place] == len(own)
            assert bare(float(series.reduce("min")[place])) == (min(numbers) if numbers else None)
            assert bare(float(series.reduce("max")[place])) == (max(numbers) if numbers else None)


def check(tables, records, as_of):
    """Compare every table of details as of the position with the fold of the records up to it."""
    records = records[:as_of]
    for experiment in tables.experiments(as_of=as_of, deleted=True)["experiment_id"]:
        key, identifier = uuid.UUID(experiment), experiment.replace("-", "")
        hidden = hidden_trials(records, identifier)
        points = points_of(records, identifier, "MetricsLogged")
        check_points(lambda key=key, **options: tables.metrics(key, as_of=as_of, **options), points, hidden, "step")
        check_series(tables, key, points, hidden, as_of)
        points = points_of(records, identifier, "TelemetryLogged")
        check_points(lambda key=key, **options: tables.telemetry(key, as_of=as_of, **options), points, hidden, "time")
        for amended in (True, False):
            expected = status_changes(records, identifier, amended)
            shown = tables.status_history(key, as_of=as_of, amended=amended, deleted=True)
            names = ["trial_id", "from", "to", "actor", "reason", "attempt", "worker", "event", "position"]
            assert cells(shown, names) == expected
            shown = tables.status_history(key, as_of=as_of, amended=amended)
            assert cells(shown, names) == [row for row in expected if row[0] not in hidden]
        names = ["trial_id", "name", "version", "digest", "attempt", "is_current"]
        expected = [tuple(map(bare, row)) for row in artifacts_of(records, identifier) if row[0] not in hidden]
        assert cells(tables.artifacts(key, as_of=as_of), names) == expected
        names = ["trial_id", "what", "name", "version", "before", "after", "position"]
        expected = [tuple(map(bare, row)) for row in amendments_of(records, identifier) if row[0] not in hidden]
        assert cells(tables.amendments(key, as_of=as_of), names) == expected
        names = ["trial_id", "capture.git", "capture.command", "environment.rack"]
        frame = tables.environments(key, as_of=as_of).reindex(columns=[*names, "git_commit", "git_dirty"])
        expected = [row for row in environments_of(records, identifier) if row[0] not in hidden]
        assert cells(frame, names) == expected
        contents = {capture_digest(git(number)): git(number) for number in (0, 1)}
        told = [
            (contents[row[1]]["commit"], ("bool", contents[row[1]]["is_dirty"])) if row[1] else (None, None) for row in expected
        ]
        assert cells(frame, ["git_commit", "git_dirty"]) == told


def run(book, time, steps, after=lambda: None):
    session = Session(book)
    for command, number, seconds in steps:
        session.step(command, number)
        time[0] += seconds * 1_000_000_001
        after()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
@example(RETRIED)
@example(base.EVERYTHING)
@example(base.CORRECTIONS)
def test_every_position_of_a_random_history(steps):
    """As of each position the tables of details equal an independent fold of the records."""
    time = [1_800_000_000_000_000_000]
    with ledger.open("memory:", clock=lambda: time[0]) as book:
        run(book, time, steps)
        records = list(book.log.read())
        tables = projections.Tables(book)
        for as_of in range(len(records) + 1):
            check(tables, records, as_of)
        check(tables, records, len(records) // 2)


SHOWN = {
    "metrics": [{}, {"form": "pivoted"}, {"form": "pivoted", "by": "time"}, {"form": "mlos_bench"}],
    "telemetry": [{}, {"form": "pivoted"}, {"form": "pivoted", "by": "step"}],
    "status_history": [{}, {"amended": False, "deleted": True}],
    "artifacts": [{}],
    "environments": [{}],
    "environment_changes": [{}],
    "amendments": [{}],
    "results": [{}],
}


def shown_tables(tables, key):
    return [getattr(tables, name)(key, **options) for name, many in SHOWN.items() for options in many]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
@example(RETRIED)
@example(base.EVERYTHING)
def test_refreshing_equals_rebuilding(steps):
    """A handle that was asked after every command shows the same tables, with the same dtypes, as one made afresh."""
    time = [1_800_000_000_000_000_000]
    with ledger.open("memory:", clock=lambda: time[0]) as book:
        kept = projections.Tables(book)

        def compare():
            fresh = projections.Tables(book)
            for exp in book.experiments():
                for one, other in zip(shown_tables(kept, exp.id), shown_tables(fresh, exp.id), strict=True):
                    pd.testing.assert_frame_equal(one, other)

        run(book, time, steps, compare)


KINDS = [
    projections.MetricTable, projections.TelemetryTable, projections.StatusHistoryTable, projections.ArtifactTable,
    projections.EnvironmentTable, projections.AmendmentTable,
]  # fmt: skip


def reborn(projection):
    """Return the projection again as a checkpoint gives it back."""
    rows, memory = projection.save()
    copied = {}
    for name, kept in rows.items():
        copied[name] = Rows({})
        copied[name].length = kept.length
        for column, buffer in kept.buffers.items():
            arrays = [array.copy() for array in buffer.arrays()]
            copied[name].buffers[column] = BUFFERS[buffer.kind].restore(arrays, decode_value(encode_value(buffer.extras(), "x")))
    made = type(projection)()
    made.load(copied, decode_value(encode_value(memory, "x")))
    made.position, made.redactions = projection.position, projection.redactions
    return made


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, st.integers(1, 9))
@example(RETRIED, 3)
@example(base.CORRECTIONS, 2)
def test_a_fold_goes_on_from_what_was_saved(steps, every):
    """A projection that is saved and loaded again every few records shows what one folded at a stretch does."""
    time = [1_800_000_000_000_000_000]
    with ledger.open("memory:", clock=lambda: time[0]) as book:
        run(book, time, steps)
        for kind in KINDS:
            whole, parts = projections.build(kind(), book.log), kind()
            for as_of in range(0, book.log.head + every, every):
                parts = reborn(projections.build(parts, book.log, as_of=min(as_of, book.log.head)))
            more = [lambda stream: book.log.read(stream=stream)] if kind is projections.AmendmentTable else []
            for exp in book.experiments():
                pd.testing.assert_frame_equal(parts.table(exp.id, *more), whole.table(exp.id, *more))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, st.data())
@example(base.CORRECTIONS, None)
def test_changes_are_what_is_different(steps, data):
    """What changes says of two positions of a random history are the cells that differ between the two tables."""
    time = [1_800_000_000_000_000_000]
    with ledger.open("memory:", clock=lambda: time[0]) as book:
        run(book, time, steps)
        tables, head = projections.Tables(book), book.log.head
        after = data.draw(st.integers(0, head)) if data else head // 2
        for exp in book.experiments():
            key, until = exp.id, head
            before = tables.trials(key, as_of=after) if exp.id in ids(tables, after) else pd.DataFrame()
            now = tables.trials(key, as_of=until)
            one, two = ({row["trial_id"]: row for row in base.plain(frame)} for frame in (before, now))
            expected = {
                (trial, name)
                for trial in one.keys() | two.keys()
                for name in (one.get(trial, {}).keys() | two.get(trial, {}).keys()) - {"trial_id"}
                if repr_of(one.get(trial, {}).get(name)) != repr_of(two.get(trial, {}).get(name))
            }
            changed = tables.changes("trials", key, after=after, until=until)
            assert list(zip(changed["trial_id"], changed["column"], strict=True)) == sorted(
                expected, key=lambda pair: (pair[0], list(dict.fromkeys([*now.columns, *before.columns])).index(pair[1]))
            )


def repr_of(value):
    """Return a value so that 1 and 1.0 are the same, and 1 and True are not."""
    return repr(float(value)) if isinstance(value, int | float) and not isinstance(value, bool) else repr(value)


def ids(tables, as_of):
    return {uuid.UUID(each) for each in tables.experiments(as_of=as_of, deleted=True)["experiment_id"]}
