"""Runs of MLXP as trials: whole, once, and none hidden by another."""

from __future__ import annotations

import json
import math
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

import ledger
from ledger.integrations.mlxp import ImportReport, import_runs
from ledger.state import Status
from projections.mlxp_status import FROM_MLXP, TO_MLXP

RUNS = Path(__file__).parent / "data" / "mlxp_18runs"


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Return a copy of the 18 runs, free to be changed."""
    return Path(shutil.copytree(RUNS, tmp_path / "logs"))


def write_run(logs: Path, number: int, config: str | None = "lr: 0.1", info: str | None = "status: COMPLETE") -> Path:
    """Make the directory of one run."""
    run = logs / str(number)
    (run / "metadata").mkdir(parents=True)
    for name, text in (("config", config), ("info", info)):
        if text is not None:
            (run / "metadata" / f"{name}.yaml").write_text(text)
    return run


def write_metrics(run: Path, log: str, text: str) -> None:
    """Append to a metrics file of a run."""
    (run / "metrics").mkdir(exist_ok=True)
    with open(run / "metrics" / f"{log}.json", "a") as file:
        file.write(text)


def counts(report: ImportReport) -> tuple[int, int, int, int]:
    """Return how many runs were added, changed, known and skipped."""
    return report.added, report.changed, report.known, len(report.skipped)


def points(trial: ledger.Trial, name: str) -> list[Any]:
    """Return the values of a metric, in their order."""
    return [value for _, value in steps(trial, name)]


def steps(trial: ledger.Trial, name: str) -> list[tuple[Any, Any]]:
    """Return the steps and values of a metric, in their order."""
    found = []
    for record in trial.history():
        if isinstance(record.event, ledger.MetricsLogged):
            for part in record.event.points:
                if name in part.names:
                    found += list(zip(part.steps, part.values[part.names.index(name)], strict=True))
    return found


def test_a_run_becomes_a_trial_with_all_that_mlxp_wrote(book: ledger.Ledger) -> None:
    """Number, nested config, info, status, times, metrics in order and the artifact's bytes are those of the files."""
    report = import_runs(RUNS, book, "sweep", timezone="Europe/Paris")
    assert counts(report) == (18, 0, 0, 0)
    assert report.problems == []
    exp = book.get_experiment("sweep")
    assert sorted(trial.id for trial in exp.trials()) == list(range(1, 19))
    state = exp.trial(7).state
    assert state.config == {
        "seed": 1, "num_epoch": 10, "model": {"num_units": 3}, "data": {"d_int": 10, "device": "cpu"}, "optimizer": {"lr": 10.0},
    }  # fmt: skip
    assert state.status is Status.SUCCEEDED
    info = state.attributes["mlxp"]["info"]
    assert info["scheduler"] is None
    assert info["logger"]["log_id"] == 7
    expected = [json.loads(line) for line in (RUNS / "7/metrics/train.json").read_text().splitlines()]
    assert points(exp.trial(7), "train.loss") == [line["loss"] for line in expected]
    assert steps(exp.trial(7), "train.epoch") == [(number, number) for number in range(10)]
    assert exp.trial(7).artifact("pickle/last_ckpt.pkl").read_bytes() == (RUNS / "7/artifacts/pickle/last_ckpt.pkl").read_bytes()
    created = next(exp.trial(1).history())
    assert created.happened_at == 1795281114 * 10**9  # 21/11/2026 18:11:54 in Paris


def test_importing_again_adds_nothing(book: ledger.Ledger, tmp_path: Path) -> None:
    """Neither from the same directory nor from a copy of it at another place."""
    import_runs(RUNS, book, "sweep")
    head = book.log.head
    assert counts(import_runs(RUNS, book, "sweep")) == (0, 0, 18, 0)
    moved = shutil.copytree(RUNS, tmp_path / "moved", copy_function=shutil.copy)
    assert counts(import_runs(moved, book, "sweep")) == (0, 0, 18, 0)
    assert book.log.head == head


def test_an_import_that_was_interrupted_goes_on(book: ledger.Ledger) -> None:
    """What it came to is there, and the next one adds the rest."""

    def interrupt(done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_runs(RUNS, book, "sweep", progress=interrupt)
    assert counts(import_runs(RUNS, book, "sweep")) == (11, 0, 7, 0)


def test_a_run_that_goes_on_is_brought_up_to_date(book: ledger.Ledger, tmp_path: Path) -> None:
    """New lines are appended once, a changed artifact is a later version, and the end is the end."""
    logs = tmp_path / "logs"
    run = write_run(logs, 1, info="{status: RUNNING, start_date: 01/02/2026, start_time: '10:00:00'}")
    write_metrics(run, "train", '{"loss": 3.0}\n{"loss": 2.0}\n{"lo')
    (run / "artifacts/torch").mkdir(parents=True)
    (run / "artifacts/torch/model.pt").write_bytes(b"first")
    report = import_runs(logs, book)
    trial = book.get_experiment("logs").trial(1)
    assert "half a line" in report.problems[0].problem
    assert (trial.status, points(trial, "train.loss")) == (Status.RUNNING, [3.0, 2.0])

    write_metrics(run, "train", 'ss": 1.0}\n')
    (run / "artifacts/torch/model.pt").write_bytes(b"second")
    (run / "metadata/info.yaml").write_text("{status: COMPLETE, end_date: 01/02/2026, end_time: '11:00:00'}")
    assert counts(import_runs(logs, book)) == (0, 1, 0, 0)
    assert steps(trial, "train.loss") == [(0, 3.0), (1, 2.0), (2, 1.0)]
    assert trial.status is Status.SUCCEEDED
    assert trial.artifact("torch/model.pt").read_bytes() == b"second"
    assert counts(import_runs(logs, book)) == (0, 0, 1, 0)


def test_a_queued_run_waits_for_nobody_here_and_gets_its_config_when_it_begins(book: ledger.Ledger, tmp_path: Path) -> None:
    """It is PENDING with the config as submitted; a claim is not handed it."""
    run = write_run(tmp_path / "logs", 4, config=None, info="status: STARTING")
    (run / "metadata/config_unresolved.yaml").write_text("out: ${seed}/run\nseed: 1")
    import_runs(tmp_path / "logs", book)
    exp = book.get_experiment("logs")
    assert exp.trial(4).status is Status.PENDING
    assert exp.trial(4).config == {"out": "${seed}/run", "seed": 1}
    assert exp.claim() is None
    (run / "metadata/config.yaml").write_text("out: 1/run\nseed: 1\nlate: .nan")
    (run / "metadata/info.yaml").write_text("status: FAILED")
    assert counts(import_runs(tmp_path / "logs", book)) == (0, 1, 0, 0)
    config = exp.trial(4).config
    assert (exp.trial(4).status, math.isnan(config.pop("late")), config) == (Status.FAILED, True, {"out": "1/run", "seed": 1})
    assert counts(import_runs(tmp_path / "logs", book)) == (0, 0, 1, 0)


def test_a_broken_run_is_named_and_hides_no_other(book: ledger.Ledger, logs: Path) -> None:
    """Whatever is wrong with one: torn, missing, foreign or forbidden files."""
    (logs / "1/metadata/info.yaml").write_text("")
    (logs / "2/metadata/config.yaml").write_text("a: [1, ")
    (logs / "3/metadata/config.yaml").unlink()
    (logs / "4/metadata/config.yaml").write_text("!!python/object/apply:os.system ['false']")
    (logs / "5/metadata/config.yaml").write_bytes(b"a: \xff\xfe")
    (logs / "6/metadata/config.yaml").write_text("just a text")
    (logs / "7/metadata/config.yaml").write_text("{a: !!set {b, c}}")
    shutil.rmtree(logs / "8/metadata")
    shutil.copytree(logs / "9", logs / "09")
    shutil.copytree(logs / "9", logs / ("9" * 30))
    (logs / "10/metadata/config.yaml").unlink()
    (logs / "10/metadata/config.yaml").mkdir()
    (logs / "notes").mkdir()
    (logs / "database.json").write_text("{}")
    report = import_runs(logs, book)
    assert {each.run for each in report.skipped} == {*map(str, range(1, 9)), "09", "9" * 30, "10"}
    assert counts(report) == (9, 0, 0, 11)
    assert report.runs == 20
    told = {each.run: each.problem for each in report.skipped}
    assert "info.yaml is empty" in told["1"]
    assert "config.yaml is missing" in told["3"]
    assert "os.system" in told["4"]
    assert "holds a str" in told["6"]


def test_a_run_that_was_broken_is_taken_when_it_is_whole(book: ledger.Ledger, logs: Path) -> None:
    """A torn info.yaml that MLXP writes again."""
    text = (logs / "1/metadata/info.yaml").read_text()
    (logs / "1/metadata/info.yaml").write_text("")
    import_runs(logs, book)
    (logs / "1/metadata/info.yaml").write_text(text)
    assert counts(import_runs(logs, book)) == (1, 0, 17, 0)


def test_lines_of_metrics_that_are_torn_cost_no_others(book: ledger.Ledger, tmp_path: Path) -> None:
    """They are told of with their number; those around them keep their steps."""
    run = write_run(tmp_path / "logs", 1)
    write_metrics(
        run, "train", '{"loss": NaN}\n{"loss": {"loss": 2}\n{"loss": -Infinity}\n[1]\n\n{"loss": 1, "epoch": 5}\n{"loss": 0}'
    )
    report = import_runs(tmp_path / "logs", book)
    trial = book.get_experiment("logs").trial(1)
    found = steps(trial, "train.loss")
    assert [step for step, _ in found] == [0, 2, 5, 6]
    assert math.isnan(found[0][1])
    assert [value for _, value in found[1:]] == [-math.inf, 1, 0]
    assert steps(trial, "train.epoch") == [(5, 5)]
    assert [each.problem.split(" is ")[0] for each in report.problems] == [
        "metrics/train.json, line 2",
        "metrics/train.json, line 4",
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_line_that_lacked_its_end_is_taken_once(book: ledger.Ledger, tmp_path: Path, end: str) -> None:
    """And the lines after it keep their steps."""
    run = write_run(tmp_path / "logs", 1, info="status: RUNNING")
    write_metrics(run, "train", '{"loss": 3}')
    import_runs(tmp_path / "logs", book)
    (run / "metrics/train.json").write_bytes(f'{{"loss": 3}}{end}{{"loss": 2}}{end}'.encode())
    import_runs(tmp_path / "logs", book)
    assert steps(book.get_experiment("logs").trial(1), "train.loss") == [(0, 3), (1, 2)]


def test_values_that_are_no_points_are_kept_as_json(book: ledger.Ledger, tmp_path: Path) -> None:
    """Lists, objects and integers beyond 64 bits; a text too long for a point is told of, and costs no other line."""
    run = write_run(tmp_path / "logs", 1)
    write_metrics(
        run, "dot.name", '{"1": [1, 2]}\n{"1": 36893488147419103232}\n{"1": null}\n{"1": "%s"}\n{"1": true}\n' % ("x" * 9_999)
    )
    report = import_runs(tmp_path / "logs", book)
    trial = book.get_experiment("logs").trial(1)
    assert steps(trial, "dot.name.1") == [(0, "[1, 2]"), (1, "36893488147419103232"), (2, None), (4, True)]
    assert len(report.problems) == 1
    assert "line 4" in report.problems[0].problem


def test_a_key_can_be_the_step(book: ledger.Ledger, tmp_path: Path) -> None:
    """Where a line has it as a number; else the line's number stays."""
    run = write_run(tmp_path / "logs", 1)
    write_metrics(run, "train", '{"loss": 3, "iter": 100}\n{"loss": 2, "iter": 200}\n{"loss": 1}\n')
    import_runs(tmp_path / "logs", book, step="iter")
    assert steps(book.get_experiment("logs").trial(1), "train.loss") == [(100, 3), (200, 2), (2, 1)]


def test_artifacts_keep_their_bytes_and_nothing_of_them_runs(book: ledger.Ledger, tmp_path: Path) -> None:
    """Pickles, marshalled loaders and directories; registered or not; what is missing is told of."""

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    run = write_run(tmp_path / "logs", 1)
    root = run / "artifacts"
    for name, content in {
        "pickle/bomb.pkl": pickle.dumps(Bomb()), "custom/sub/thing": b"\x00\x01", "torch/other.pt_tmp": b"half",
        "tree/folder/leaf": b"leaf", ".keys/custom_types.yaml": b"custom: {load: !!binary 4wAA}",
        ".keys/artifacts.yaml": b"{pickle: {'': {bomb.pkl: ''}}, tree: {'': {folder: ''}}, gone: {.sub: {lost: ''}}}",
    }.items():  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (run / "log.stderr").write_text("boom\n")
    report = import_runs(tmp_path / "logs", book)
    trial = book.get_experiment("logs").trial(1)
    assert sorted(trial.artifacts) == [
        "custom/sub/thing",
        "pickle/bomb.pkl",
        "stderr.txt",
        "tree/folder",
    ]
    assert trial.artifact("custom/sub/thing").read_bytes() == b"\x00\x01"
    assert [entry.path for entry in trial.artifact("tree/folder").entries()] == ["leaf"]
    with pytest.raises(ledger.PickleRefused):
        trial.artifact("pickle/bomb.pkl").load()
    with pytest.raises(ledger.LoadError, match=r"type 'custom' of the tool .* imported .*register_saver\('custom'"):
        trial.artifact("custom/sub/thing").load()
    assert not (tmp_path / "ran").exists()
    assert [each.problem for each in report.problems] == [
        "artifacts/gone/sub/lost is registered as an artifact, and is not there."
    ]


def test_artifacts_of_numpy_and_of_registered_types_load(book: ledger.Ledger, tmp_path: Path) -> None:
    """An archive of arrays by the package's own saver, another type by the one of its name."""
    import numpy as np

    run = write_run(tmp_path / "logs", 1)
    (run / "artifacts/numpy").mkdir(parents=True)
    (run / "artifacts/shout").mkdir()
    np.savez(run / "artifacts/numpy/arrays.npz", a=np.arange(3))
    (run / "artifacts/shout/text").write_text("hello")
    import_runs(tmp_path / "logs", book)
    trial = book.get_experiment("logs").trial(1)
    assert trial.artifact("numpy/arrays.npz").load()["a"].tolist() == [0, 1, 2]
    ledger.register_saver(
        "shout", save=lambda value, file: file.write(value.encode()), load=lambda file: file.read().decode().upper()
    )
    assert trial.artifact("shout/text").load() == "HELLO"


def test_a_registered_artifact_cannot_lead_out_of_the_run(book: ledger.Ledger, tmp_path: Path) -> None:
    """Neither by .. nor by a link."""
    run = write_run(tmp_path / "logs", 1)
    (tmp_path / "secret").write_text("secret")
    (run / "artifacts/.keys").mkdir(parents=True)
    (run / "artifacts/.keys/artifacts.yaml").write_text("pickle: {'': {'../../../../secret': ''}}")
    report = import_runs(tmp_path / "logs", book)
    assert dict(book.get_experiment("logs").trial(1).artifacts) == {}
    assert "leads out of" in report.problems[0].problem


def test_another_sweep_of_the_same_numbers_is_not_mixed_in(book: ledger.Ledger, tmp_path: Path) -> None:
    """Nor a trial that was made here; each is skipped, with the cure."""
    exp = book.experiment("sweep")
    exp.new_trial({"lr": 1}, number=1)
    for place, number in (("a", 1), ("a", 2), ("b", 2), ("c", 2)):
        write_run(tmp_path / place, number, info=f"{{status: COMPLETE, logger: {{log_dir: /{place}/{number}}}}}")
    (tmp_path / "c/2/metadata/config.yaml").write_text("lr: 0.7")
    (tmp_path / "c/2/metadata/info.yaml").write_text("{status: COMPLETE, logger: {log_dir: /a/2}}")
    assert "no run of MLXP" in import_runs(tmp_path / "a", book, "sweep").skipped[0].problem
    assert "this is that of /b/2" in import_runs(tmp_path / "b", book, "sweep").skipped[0].problem
    assert "its config is another" in import_runs(tmp_path / "c", book, "sweep").skipped[0].problem


def test_metrics_that_were_written_anew_are_not_taken(book: ledger.Ledger, tmp_path: Path) -> None:
    """A file that does not begin as the one that was imported is told of."""
    run = write_run(tmp_path / "logs", 1)
    write_metrics(run, "train", '{"loss": 3}\n')
    import_runs(tmp_path / "logs", book)
    (run / "metrics/train.json").write_text('{"loss": 4}\n{"loss": 5}\n')
    report = import_runs(tmp_path / "logs", book)
    assert "not the file that was imported" in report.problems[0].problem
    assert points(book.get_experiment("logs").trial(1), "train.loss") == [3]


def test_what_people_made_of_an_imported_run_stays(book: ledger.Ledger, tmp_path: Path) -> None:
    """An amended config and a status set here are not taken back by the next import; a deleted one does not return."""
    logs = tmp_path / "logs"
    write_run(logs, 1, info="status: RUNNING")
    write_run(logs, 2)
    write_run(logs, 3)
    import_runs(logs, book)
    exp = book.get_experiment("logs")
    exp.trial(1).force_status("LOST", reason="the machine is gone")
    exp.trial(2).amend(config={"lr": 0.2}, reason="typo")
    exp.trial(3).delete(reason="a test")
    report = import_runs(logs, book)
    assert counts(report) == (0, 0, 2, 1)
    assert "deleted" in report.skipped[0].problem
    assert (exp.trial(1).status, exp.trial(2).config) == (Status.LOST, {"lr": 0.2})


def test_a_status_and_times_that_mlxp_does_not_write_are_told_of(book: ledger.Ledger, tmp_path: Path) -> None:
    """The status is UNKNOWN; the time that of the import."""
    write_run(tmp_path / "logs", 1, info="{status: EXPLODED, start_date: 99/99/2026, start_time: '1'}")
    report = import_runs(tmp_path / "logs", book)
    assert book.get_experiment("logs").trial(1).status is Status.UNKNOWN
    assert "info.start_date" in report.problems[0].problem


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path, "there is no directory"),
        (lambda path: path.mkdir() or path, "there are no runs of MLXP"),
        (lambda path: write_run(path, 1), "the directory above it"),
    ],
)
def test_a_source_without_runs_makes_no_ledger(tmp_path: Path, make: Any, message: str) -> None:
    """The error says what to give instead."""
    with pytest.raises(ledger.InvalidValue, match=message):
        import_runs(make(tmp_path / "logs"), tmp_path / "runs.ledger")
    assert not (tmp_path / "runs.ledger").exists()


def test_a_ledger_is_made_at_a_path(tmp_path: Path) -> None:
    """And progress tells of every run."""
    told: list[tuple[int, int]] = []
    import_runs(RUNS, tmp_path / "runs.ledger", progress=lambda done, total: told.append((done, total)))
    assert told[0] == (0, 18)
    assert told[-1] == (18, 18)
    with ledger.open(tmp_path / "runs.ledger") as book:
        assert len(list(book.get_experiment("mlxp_18runs").trials())) == 18


def test_a_sealed_experiment_refuses(book: ledger.Ledger) -> None:
    """It is no fault of a run, so it is raised."""
    book.experiment("sweep").seal(reason="done")
    with pytest.raises(ledger.ExperimentReadOnly):
        import_runs(RUNS, book, "sweep")


def test_the_words_for_a_status_come_back() -> None:
    """Each of MLXP's, and every one of ours has one."""
    assert {word: TO_MLXP[status] for word, status in FROM_MLXP.items()} == {word: word for word in FROM_MLXP}
    assert TO_MLXP.keys() == set(Status)
