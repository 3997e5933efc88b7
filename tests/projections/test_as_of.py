"""Every table at every position of a random history equals a fold that was written a second time, in plain Python."""

import contextlib
import hashlib
import uuid

import pandas as pd
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import ledger
import projections
from ledger.values import encode_value

CONFIGS = [{"x": 1}, {"x": 1.0}, {"x": 2, "name": "a"}, {"name": None, "list": [1, 2]}, {}]
RESULTS = [{"loss": 0.5}, {"loss": 2, "x": True}, {}, {"loss": float("inf"), "text": "t"}]
COMMANDS = [
    "experiment", "rename", "tag", "trial", "trials", "claim", "start", "complete", "fail", "prune", "time_out", "cancel",
    "release", "requeue", "report", "configure", "force", "late", "note", "metrics", "amend", "amend", "withdraw", "group",
    "label", "delete", "restore", "restore", "delete_experiment", "restore_experiment", "restore_experiment", "seal",
    "unseal", "unseal", "pause", "resume", "assign", "depend", "depend",
]  # fmt: skip
STEPS = st.lists(st.tuples(st.sampled_from(COMMANDS), st.integers(0, 7), st.integers(0, 40)), min_size=1, max_size=25)

#: Amendments before and after a requeue, trials and experiments deleted and restored, a name taken meanwhile, a seal.
CORRECTIONS = [
    ("experiment", 0, 1),
    ("trials", 0, 1),
    ("trial", 2, 1),
    ("start", 0, 1),
    ("report", 1, 1),
    ("complete", 0, 1),
    ("amend", 0, 1),
    ("amend", 4, 1),
    ("label", 0, 1),
    ("group", 0, 1),
    ("withdraw", 0, 1),
    ("amend", 8, 1),
    ("amend", 12, 1),
    ("requeue", 0, 1),
    ("start", 0, 1),
    ("complete", 1, 1),
    ("delete", 0, 1),
    ("trial", 2, 1),
    ("restore", 1, 1),
    ("start", 2, 1),
    ("delete", 0, 1),
    ("restore", 0, 1),
    ("delete", 3, 1),
    ("delete_experiment", 0, 1),
    ("experiment", 0, 1),
    ("trial", 1, 1),
    ("metrics", 2, 1),
    ("restore_experiment", 0, 1),
    ("restore_experiment", 4, 1),
    ("note", 3, 1),
    ("seal", 1, 1),
    ("amend", 0, 1),
    ("note", 0, 1),
    ("unseal", 1, 1),
    ("delete_experiment", 1, 1),
    ("seal", 0, 1),
    ("tag", 0, 1),
]

#: Trials that wait for others: which then fail, succeed, are deleted and come back.
DEPENDING = [
    ("experiment", 0, 1), ("trials", 0, 1), ("depend", 1, 1), ("complete", 1, 1), ("pause", 0, 1), ("fail", 2, 1),
    ("assign", 0, 1), ("requeue", 2, 1), ("complete", 2, 1), ("delete", 1, 1), ("resume", 0, 1), ("restore", 1, 1),
    ("start", 0, 1), ("claim", 1, 1),
]  # fmt: skip

#: One history in which everything happens once: a lease lost and taken over, a requeue, a name used again.
EVERYTHING = [
    ("experiment", 0, 1), ("trials", 0, 1), ("claim", 1, 30), ("claim", 2, 1), ("start", 0, 1), ("configure", 0, 1),
    ("report", 1, 1), ("metrics", 0, 1), ("note", 0, 1), ("late", 0, 1), ("complete", 0, 1), ("report", 3, 1), ("start", 2, 1),
    ("fail", 2, 1), ("trial", 4, 1), ("trial", 3, 1), ("rename", 0, 1), ("experiment", 0, 1), ("trial", 1, 1), ("tag", 1, 1),
    ("start", 0, 1), ("release", 0, 1), ("force", 0, 1), ("force", 3, 1), ("cancel", 0, 1), ("requeue", 0, 1), ("start", 0, 1),
    ("time_out", 0, 1), ("requeue", 0, 1), ("start", 0, 1), ("prune", 0, 1), ("trial", 1, 1), ("fail", 0, 1),
]  # fmt: skip


class Session:
    """Drive the public handles by numbers, and leave out what the ledger refuses."""

    def __init__(self, book):
        self.book = book
        self.experiments = []
        self.trials = []

    def step(self, command, number):
        with contextlib.suppress(ledger.LedgerError):
            self.run(command, number)

    def run(self, command, number):
        if command == "experiment" or not self.experiments:
            self.experiments.append(self.book.experiment(f"e{number}"))
            return
        exp = self.experiments[number % len(self.experiments)]
        if command == "rename":
            exp.rename(f"e{(number + 3) % 8}")
        elif command == "tag":
            exp.tag(f"t{number}")
        elif command == "delete_experiment":
            exp.delete()
        elif command == "restore_experiment":
            exp.restore(f"e{number}" if number > 3 else None)
        elif command == "depend":
            self.depend(exp, number)
        elif command == "seal":
            exp.seal()
        elif command == "unseal":
            exp.unseal("test")
        elif command == "trials":
            self.trials += exp.new_trials([CONFIGS[number % 5], CONFIGS[0]])
        elif command == "trial" or not self.trials:
            self.trials.append(exp.new_trial(CONFIGS[number % 5], number=None if number % 2 else number))
        elif command == "claim":
            job = exp.claim(worker=f"w{number}", lease_seconds=20)
            self.trials += [] if job is None else [job]
        else:
            self.on_trial(command, self.trials[-1 - number % len(self.trials)], number)

    def depend(self, exp, number):
        on = [trial.stream for trial in self.trials if trial.experiment.id == exp.id][-2:]
        self.trials.append(exp.new_trial({}, depends_on=dict.fromkeys(on), worker=f"w{number}"))

    def on_trial(self, command, trial, number):
        results = RESULTS[number % 4]
        if command in CORRECTING:
            correct(command, trial, number)
        elif command in ("complete", "prune", "time_out", "report"):
            getattr(trial, command)(results)
        elif command == "start":
            fresh = trial.experiment.trial(trial.id)
            fresh.start()
            self.trials.append(fresh)
        elif command in ("cancel", "release", "requeue"):
            getattr(trial, command)()
        elif command == "fail":
            trial.fail("no", results)
        elif command == "configure":
            trial.configure({"added": len(results), "x": 1})
        elif command == "force":
            trial.force_status(["SUCCEEDED", "RUNNING", "PENDING", "UNKNOWN"][len(results)], reason="test", results=results)
        elif command == "late":
            event = ledger.NoteAdded("late")
            self.book.log.append([event], stream=trial.stream, occurred_at=1_700_000_000_000_000_000)
        elif command == "note":
            trial.note("n")
        else:
            trial.log_metrics({"loss": 1.0}, at=1)
            trial.flush()


OF_EXPERIMENTS = {
    "rename": lambda exp, number: exp.rename(f"e{(number + 3) % 8}"),
    "tag": lambda exp, number: exp.tag(f"t{number}"),
    "delete_experiment": lambda exp, number: exp.delete(),
    "restore_experiment": lambda exp, number: exp.restore(f"e{number}" if number > 3 else None),
    "pause": lambda exp, number: exp.pause(),
    "resume": lambda exp, number: exp.resume(),
    "seal": lambda exp, number: exp.seal(),
    "unseal": lambda exp, number: exp.unseal("test"),
}
CORRECTING = {"amend", "withdraw", "group", "label", "delete", "restore", "assign"}


def correct(command, trial, number):
    """Correct a trial, or say more of it."""
    if command == "amend":
        changes = [{"results": {"loss": number}}, {"config": {"x": number}}, {"label": f"l{number}"}, {"status": "FAILED"}]
        trial.amend(reason="test", **changes[number // 4 % 4], **({"label": ""} if number % 4 == 3 and number // 4 != 2 else {}))
    elif command == "withdraw":
        trial.amend(withdraw=["loss"], reason="test")
    elif command == "assign":
        trial.assign(f"w{number}" if number % 3 else None)
    elif command == "group":
        trial.set_group(f"g{number}" if number % 3 else "")
    elif command == "label":
        trial.experiment.new_trial({}, label=f"l{number}", group=f"g{number}")
    else:
        getattr(trial, command)()


# ------------------------------------------------------------------------------------------------ the second fold

ENDS = {
    "TrialCompleted": "SUCCEEDED", "TrialFailed": "FAILED", "TrialPruned": "PRUNED", "TrialTimedOut": "TIMED_OUT",
    "TrialLost": "LOST", "TrialCanceled": "CANCELED", "TrialAbandoned": "ABANDONED",
}  # fmt: skip
GROUPS = {"READY": "running", "RUNNING": "running", "TIMED_OUT": "failed", "LOST": "failed"}
STOPPED = ("PRUNED", "CANCELED", "ABANDONED")


def brute_force(records, amended=True):
    """Fold records into experiments, trials by experiment, and configs by experiment, as plain dicts."""
    experiments, trials, configs, numbers = {}, {}, {}, {}
    for record in records:
        kind, identifier, *rest = [*record.stream.split("/"), ""]
        if kind not in ("experiment", "trial"):
            continue
        at = record.recorded_at if record.occurred_at is None else record.occurred_at
        event = record.event
        if record.type == "ExperimentCreated":
            experiments[identifier] = {
                "name": event.name, "tags": set(), "created_at": at, "updated_at": at, "is_sealed": False, "deleted_at": None,
                "is_paused": False,
            }  # fmt: skip
            trials[identifier], configs[identifier] = {}, {}
        experiment = experiments[identifier]
        experiment["updated_at"] = max(experiment["updated_at"], at)
        if kind == "experiment":
            if record.type == "ExperimentRenamed":
                experiment["name"] = event.name
            elif record.type == "TagsChanged":
                experiment["tags"] |= set(event.added)
            elif record.type in ("ExperimentSealed", "ExperimentUnsealed"):
                experiment["is_sealed"] = record.type == "ExperimentSealed"
            elif record.type in ("ExperimentPaused", "ExperimentResumed"):
                experiment["is_paused"] = record.type == "ExperimentPaused"
            elif record.type in ("ExperimentDeleted", "ExperimentRestored"):
                experiment["deleted_at"] = at if record.type == "ExperimentDeleted" else None
                experiment["name"] = getattr(event, "name", "") or experiment["name"]
            continue
        key = int(rest[0])
        if record.type == "TrialCreated":
            trials[identifier][key] = {
                "status": "PENDING", "created_at": at, "scheduled_at": event.scheduled_at, "started_at": None, "ended_at": None,
                "attempts": 0, "worker": None, "deadline": None, "config_id": None, "config": dict(event.config), "result": {},
                "label": event.label, "group": event.group, "is_amended": False, "deleted_at": None,
                "assigned_to": event.assigned_to, "depends_on": event.depends_on, "tried": dict(event.config),
            }  # fmt: skip
        else:
            change_trial(trials[identifier][key], record.type, event, at, amended)
        number_config(trials[identifier], key, record, configs[identifier], numbers)
    return experiments, trials, configs


def number_config(trials, key, record, configs, numbers):
    """Number the config that a trial is created with, or ends with."""
    tried = trials[key]["tried"]
    if record.type == "TrialConfigured":
        tried.update(record.event.parameters)
    is_end = record.type in ENDS or (record.type == "StatusForced" and record.event.status in ENDS.values())
    if record.type != "TrialCreated" and not is_end:
        return
    digest = hashlib.sha256(encode_value(tried)).hexdigest()[:32]
    number = trials[key]["config_id"] = numbers.setdefault(digest, len(numbers) + 1)
    configs[number] = {"digest": digest, **tried}


def change_trial(row, kind, event, at, amended):
    """Change a trial's row by one event."""
    if kind in ENDS:
        row.update(status=ENDS[kind], ended_at=at, deadline=None)
        row["result"].update(getattr(event, "results", {}))
    elif kind == "TrialClaimed":
        row.update(status="READY", attempts=event.attempt, worker=event.worker, deadline=event.deadline, ended_at=None)
    elif kind == "TrialStarted":
        row.update(status="RUNNING", started_at=at)
    elif kind in ("TrialReleased", "TrialRequeued"):
        row.update(status="PENDING", worker=None, deadline=None, started_at=None, ended_at=None, result={})
    elif kind == "TrialConfigured":
        row["config"].update(event.parameters)
    elif kind == "ResultsReported":
        row["result"].update(event.results)
    elif kind == "LeaseRenewed":
        row["deadline"] = event.deadline
    elif kind == "StatusForced":
        force(row, event, at)
    else:
        correct_trial(row, kind, event, at, amended)


def correct_trial(row, kind, event, at, amended):
    """Change a trial's row by a correction."""
    if kind == "TrialAssigned":
        row["assigned_to"] = event.assigned_to
    elif kind == "TrialGrouped":
        row["group"] = event.group
    elif kind == "TrialAmended":
        row["is_amended"] = True
        if amended:
            amend(row, event)
    elif kind in ("TrialDeleted", "TrialRestored"):
        if kind == "TrialDeleted" and row["status"] in ("READY", "RUNNING"):
            row.update(status="CANCELED", ended_at=at, deadline=None)
        row["deleted_at"] = at if kind == "TrialDeleted" else None


def amend(row, event):
    """Change a trial's row by an amendment."""
    for name in event.withdrawn:
        row["result"].pop(name, None)
    row["result"].update(event.results)
    row["config"].update(event.config)
    if event.label is not None:
        row["label"] = event.label
    if event.status is not None:
        row["status"] = event.status


def force(row, event, at):
    """Change a trial's row by a forced status."""
    row.update(status=event.status, deadline=None, ended_at=None, attempts=row["attempts"] + 1)
    row["result"].update(event.results)
    if event.status == "PENDING":
        row.update(worker=None, started_at=None)
    elif event.status == "RUNNING":
        row["started_at"] = at
    else:
        row["ended_at"] = at


# -------------------------------------------------------------------------------------------------------- compare


def plain(frame):
    """Return a DataFrame as a list of dicts without what is missing; times as ns."""
    rows = []
    for row in frame.to_dict("records"):
        row = {
            name: value.value if isinstance(value, pd.Timestamp) and value is not pd.NaT else value for name, value in row.items()
        }
        rows.append({name: value for name, value in row.items() if isinstance(value, list | tuple) or not pd.isna(value)})
    return rows


def without_none(row):
    return {name: value for name, value in row.items() if value is not None}


def expected_experiments(experiments, trials, deleted):
    rows = []
    for identifier, row in experiments.items():
        if row["deleted_at"] is not None and not deleted:
            continue
        counts = dict.fromkeys(("pending", "running", "succeeded", "failed", "stopped", "unknown"), 0)
        for trial in trials[identifier].values():
            if trial["deleted_at"] is not None:
                continue
            status = trial["status"]
            counts["stopped" if status in STOPPED else GROUPS.get(status, status.lower())] += 1
        rows.append((identifier, row["name"], row["created_at"], row["updated_at"], counts, tuple(sorted(row["tags"]))))
        rows[-1] += (row["is_paused"], row["is_sealed"], row["deleted_at"])
    return rows


def shown_experiments(frame):
    return [
        (
            row["experiment_id"].replace("-", ""), row["name"], row["created_at"], row["updated_at"],
            {name: row[name] for name in ("pending", "running", "succeeded", "failed", "stopped", "unknown")}, row["tags"],
            row["is_paused"], row["is_sealed"], row.get("deleted_at"),
        )
        for row in plain(frame)
    ]  # fmt: skip


def expected_trials(trials, now, deleted=False):
    rows, groups = [], {}
    for key in sorted(trials):
        row = dict(trials[key])
        if row["deleted_at"] is not None and not deleted:
            continue
        row["group_id"] = groups.setdefault(row["config_id"], key)
        row |= {name: row[name] or None for name in ("label", "group", "assigned_to")} | {"tried": None}
        row["waits_for"] = expected_dependencies(trials, row)
        deadline, config, result = row.pop("deadline"), row.pop("config"), row.pop("result")
        row |= {"trial_id": key, "lease_expired": deadline is not None and deadline < now}
        row |= {f"config.{name}": value for name, value in config.items()}
        row |= {f"result.{name}": value for name, value in result.items()}
        rows.append(without_none(row))
    return rows


def expected_dependencies(trials, row):
    waiting = row.pop("depends_on") if row["status"] == "PENDING" and row["deleted_at"] is None else []
    row.pop("depends_on", None)
    found = [(number, trials[number]) for number in (int(stream.rpartition("/")[2]) for stream in waiting)]
    standing = {number: "deleted" if other["deleted_at"] is not None else other["status"] for number, other in found}
    return ", ".join(f"{number} ({how})" for number, how in standing.items() if how != "SUCCEEDED") or None


def expected_configs(configs, trials, deleted=False):
    rows = []
    for number in sorted(configs):
        row = dict(configs[number])
        digest = row.pop("digest")
        shown = [key for key, trial in trials.items() if deleted or trial["deleted_at"] is None]
        there = [key for key in shown if trials[key]["config_id"] == number]
        if there:
            row = {f"config.{name}": value for name, value in row.items()}
            row |= {"config_id": number, "digest": digest, "trials": len(there), "first_trial_id": there[0]}
            rows.append(without_none(row))
    return rows


def check(tables, records, as_of):
    """Compare every table as of the position with the fold of the records up to it."""
    experiments, trials, configs = brute_force(records[:as_of])
    _, first, _ = brute_force(records[:as_of], amended=False)
    for deleted in (False, True):
        shown = shown_experiments(tables.experiments(as_of=as_of, deleted=deleted))
        assert shown == expected_experiments(experiments, trials, deleted)
    for identifier, row in experiments.items():
        now = records[as_of - 1].recorded_at
        key = row["name"] if row["deleted_at"] is None else uuid.UUID(identifier)
        assert plain(tables.trials(key, as_of=as_of)) == expected_trials(trials[identifier], now)
        assert plain(tables.trials(key, as_of=as_of, deleted=True)) == expected_trials(trials[identifier], now, deleted=True)
        assert plain(tables.trials(key, as_of=as_of, amended=False)) == expected_trials(first[identifier], now)
        for deleted in (False, True):
            found = plain(tables.configs(key, as_of=as_of, deleted=deleted))
            assert found == expected_configs(configs[identifier], trials[identifier], deleted)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
@example(EVERYTHING)
@example(CORRECTIONS)
@example(DEPENDING)
def test_every_position_of_a_random_history(steps):
    """As of each position, from the first to the last and back, the tables equal an independent fold of the records."""
    time = [1_800_000_000_000_000_000]
    with ledger.open("memory:", clock=lambda: time[0]) as book:
        session = Session(book)
        for command, number, seconds in steps:
            session.step(command, number)
            time[0] += seconds * 1_000_000_001
        records = list(book.log.read())
        onwards, tables = projections.Tables(book), projections.Tables(book)
        for as_of in range(len(records) + 1):
            check(onwards, records, as_of)
        assert len(tables.experiments()) == len(onwards.experiments())  # stands at the head from here on
        for as_of in range(len(records), -1, -max(1, len(records) // 5)):
            check(tables, records, as_of)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
@example(EVERYTHING)
@example(CORRECTIONS)
@example(DEPENDING)
def test_refreshing_equals_rebuilding(steps):
    """A handle that was asked after every command shows the same tables, with the same dtypes, as one made afresh."""
    time = [1_800_000_000_000_000_000]
    with ledger.open("memory:", clock=lambda: time[0]) as book:
        session, kept = Session(book), projections.Tables(book)
        for command, number, seconds in steps:
            session.step(command, number)
            time[0] += seconds * 1_000_000_001
            fresh = projections.Tables(book)
            pd.testing.assert_frame_equal(kept.experiments(), fresh.experiments())
            for exp in book.experiments():
                pd.testing.assert_frame_equal(kept.trials(exp.name), fresh.trials(exp.id))
                pd.testing.assert_frame_equal(kept.configs(exp.name), fresh.configs(exp.id))
