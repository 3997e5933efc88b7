"""Captures of trials: once by content, referred to by each trial, changes told, all of it read back."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ledger
from ledger.capture import collect, packages
from ledger.capture.collect import LIBRARIES, make_capture


def types(book: ledger.Ledger) -> list[str]:
    """Return the types of all records."""
    return [record.type for record in book.log.read()]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say which distributions are installed from here on."""

    def say(**versions: str) -> None:
        monkeypatch.setattr(packages, "capture_packages", lambda: {"distributions": versions})
        monkeypatch.setattr(collect, "_known", {})

    say(numpy="2.1.0")
    return say


def live(exp: ledger.Experiment, **options: Any) -> ledger.Trial:
    """Run a trial that does nothing."""
    with exp.new_trial({"n": 1}).run(**options) as trial:
        trial.complete({"loss": 1.0})
    return trial


@pytest.mark.parametrize("kind", ["book", "memory_book"])
def test_what_a_trial_ran_with_is_read_back_in_one_call(request: pytest.FixtureRequest, kind: str) -> None:
    """By kind, as plain values; on disk and in memory."""
    exp = request.getfixturevalue(kind).experiment("tuning", capture=True)
    captured = live(exp).captured
    assert {"environment", "packages", "script", "command"} <= set(captured)
    assert captured["environment"]["platform"]["system"] == os.uname().sysname
    assert captured["command"]["directory"] == str(Path.cwd())
    assert exp.trial(1).captured == captured  # another handle


def test_nothing_is_captured_unless_asked_for(book: ledger.Ledger) -> None:
    """A life without capture has the same records as ever."""
    exp = book.experiment("tuning")
    trial = live(exp)
    assert types(book) == ["ExperimentCreated", "TrialCreated", "TrialClaimed", "TrialStarted", "TrialCompleted"]
    assert trial.captured == {}
    assert live(exp, capture=True).captured


def test_the_handle_says_what_its_trials_do(book: ledger.Ledger) -> None:
    """Those claimed through it as well; a run may say otherwise; another handle of the experiment has its own way."""
    exp = book.experiment("tuning", capture=True)
    assert live(exp, capture=False).captured == {}
    exp.new_trial({})
    job = exp.claim()
    assert job is not None
    with job.run():
        pass
    assert job.captured
    assert live(book.experiment("tuning")).captured == {}


def test_an_unchanged_trial_adds_one_record(exp: ledger.Experiment) -> None:
    """It refers to what is stored; and it is recorded in the commit of the trial's start."""
    live(exp)
    before = exp.book.log.head
    live(exp)
    assert types(exp.book)[before:] == ["TrialCreated", "TrialClaimed", "TrialStarted", "TrialCaptured", "TrialCompleted"]
    captured = next(record for record in exp.trial(2).history() if record.type == "TrialCaptured")
    started = next(record for record in exp.trial(2).history() if record.type == "TrialStarted")
    assert captured.append_id == started.append_id
    assert captured.event.attempt == 1


def test_a_change_is_an_event_and_a_warning(exp: ledger.Experiment, installed: Callable[..., None]) -> None:
    """Of what has changed, in a line; and not again for the next trial that runs with the same."""
    live(exp)
    installed(numpy="2.2.0", scipy="1.14")
    changed = r"trial 2 of 'tuning' runs with something else .*: numpy 2\.1\.0 -> 2\.2\.0, scipy 1\.14 \(new\)\."
    with pytest.warns(ledger.EnvironmentDiffers, match=changed):
        live(exp)
    live(exp)
    changes = [record.event for record in exp.history() if isinstance(record.event, ledger.EnvironmentChanged)]
    assert [(event.trial, sorted(event.before), event.changes) for event in changes] == [
        (1, [], []), (2, ["packages"], ["numpy 2.1.0 -> 2.2.0", "scipy 1.14 (new)"]),
    ]  # fmt: skip
    assert [exp.trial(n).captured["packages"]["distributions"]["numpy"] for n in (1, 2, 3)] == ["2.1.0", "2.2.0", "2.2.0"]


def test_going_back_is_a_change_and_stores_nothing(exp: ledger.Experiment, installed: Callable[..., None]) -> None:
    """The content is known from before."""
    live(exp)
    for version in ("2.2.0", "2.1.0"):
        installed(numpy=version)
        with pytest.warns(ledger.EnvironmentDiffers):
            live(exp)
    kinds = [record.event.kind for record in exp.book.log.read(types=[ledger.CaptureStored])]
    assert kinds.count("packages") == 2
    assert types(exp.book).count("EnvironmentChanged") == 3


def test_many_changes_are_cut(exp: ledger.Experiment, installed: Callable[..., None]) -> None:
    """The event names the first, and how many there are."""
    installed(**{f"package{n}": "1" for n in range(300)})
    live(exp)
    installed(**{f"package{n}": "2" for n in range(300)})
    with pytest.warns(ledger.EnvironmentDiffers, match="and 280 more"):
        live(exp)


def test_experiments_are_compared_with_themselves_and_share_what_is_stored(
    book: ledger.Ledger, installed: Callable[..., None]
) -> None:
    """The first trial of another experiment is no change, and what it runs with is there already."""
    live(book.experiment("one", capture=True))
    stored = types(book).count("CaptureStored")
    live(book.experiment("two", capture=True))
    assert types(book).count("CaptureStored") == stored
    installed(numpy="2.2.0")
    live(book.experiment("three", capture=True))  # no warning


def test_another_command_line_is_no_change(exp: ledger.Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is captured, and tells two processes apart which are otherwise the same: a sweep must not warn of each of its runs."""
    import sys

    for rate in ("0.1", "0.2"):
        monkeypatch.setattr(sys, "orig_argv", ["python", "train.py", "--lr", rate])
        monkeypatch.setattr(collect, "_known", {})
        live(exp)
    assert [exp.trial(n).captured["command"]["arguments"][-1] for n in (1, 2)] == ["0.1", "0.2"]
    assert types(exp.book).count("EnvironmentChanged") == 1


def test_a_library_that_is_loaded_later_is_no_change(exp: ledger.Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first trial that has it says so; what it is from then on is compared."""
    found = {"packages": make_capture("packages", {"distributions": {}})}
    monkeypatch.setattr(collect, "collect", lambda *args, **more: dict(found))
    live(exp)
    found["numpy"] = make_capture("numpy", {"version": "2.1"})
    live(exp)
    found["numpy"] = make_capture("numpy", {"version": "2.2"})
    with pytest.warns(ledger.EnvironmentDiffers, match=r"numpy version 2\.1 -> 2\.2"):
        live(exp)


def test_a_change_that_is_made_an_error_fails_the_trial(exp: ledger.Experiment, installed: Callable[..., None]) -> None:
    """Under -W error the trial has ended with it, and the change is recorded."""
    live(exp)
    installed(numpy="2.2.0")
    trial = exp.new_trial({})
    with pytest.raises(ledger.EnvironmentDiffers), trial.run():
        pytest.fail("the block is not entered")
    assert trial.status is ledger.Status.FAILED
    assert trial.captured["packages"]["distributions"] == {"numpy": "2.2.0"}


def test_a_trial_is_captured_at_any_time(book: ledger.Ledger) -> None:
    """Also one that has ended; the last capture counts."""
    trial = live(book.experiment("tuning"))
    given = trial.capture(live, options=ledger.CaptureOptions(patch_bytes=0))
    assert trial.captured == given
    assert "def live" in given["function"]["text"]


def test_each_attempt_has_its_own(exp: ledger.Experiment, installed: Callable[..., None]) -> None:
    """A trial that is tried again elsewhere says what that ran with."""
    trial = exp.new_trial({})
    with pytest.raises(OSError, match="full"), trial.run():
        raise OSError("full")
    trial.requeue()
    installed(numpy="2.2.0")
    with pytest.warns(ledger.EnvironmentDiffers), trial.run():
        pass
    attempts = [(r.event.attempt, r.event.captures["packages"]) for r in trial.history() if r.type == "TrialCaptured"]
    assert [number for number, _ in attempts] == [1, 2]
    assert attempts[0][1] != attempts[1][1]
    assert trial.captured["packages"]["distributions"] == {"numpy": "2.2.0"}


def test_two_processes_store_the_same_once(ledger_path: Path, script: Callable[..., Any]) -> None:
    """Whoever comes second refers to what the first one stored."""
    code = """
    import sys, ledger
    with ledger.open(sys.argv[1]) as book:
        exp = book.experiment("tuning", capture=True)
        print("ready"); sys.stdin.read(0)
        for _ in range(5):
            with exp.new_trial({}).run():
                pass
    """
    running = [script(code, ledger_path) for _ in range(3)]
    for each in running:
        each.finish()
    with ledger.open(ledger_path) as book:
        streams = [record.stream for record in book.log.read(types=[ledger.CaptureStored])]
        assert len(streams) == len(set(streams)) > 2
        captured = [trial.captured for trial in book.get_experiment("tuning").trials()]
    assert len(captured) == 15
    assert all(each == captured[0] for each in captured)


def test_a_capture_that_is_not_here_is_named(exp: ledger.Experiment) -> None:
    """What a part of an export left behind is a problem in its place."""
    trial = exp.new_trial({})
    exp.book.log.append([ledger.TrialCaptured({"git": "0f" * 16})], stream=trial.stream)
    assert trial.captured == {"git": {"problem": "it is not in this ledger"}}


@pytest.mark.parametrize("bad", [{"Git": "0f" * 16}, {"git": "0f"}, {"git": "0F" * 16}, {"x" * 41: "0f" * 16}])
def test_what_refers_to_no_capture_is_refused(exp: ledger.Experiment, bad: dict[str, str]) -> None:
    """Kinds are words, digests 32 hexadecimal digits."""
    trial = exp.new_trial({})
    for event, stream in ((ledger.TrialCaptured(bad), trial.stream), (ledger.EnvironmentChanged(1, bad), exp.stream)):
        with pytest.raises(ledger.InvalidValue, match="no kind of capture"):
            exp.book.log.append([event], stream=stream)


def test_a_trial_that_is_not_there_is_not_captured(exp: ledger.Experiment) -> None:
    """Nothing is stored for it."""
    trial = exp.new_trial({})
    ghost = ledger.Trial(exp, 99)
    with pytest.raises(ledger.UnknownTrial):
        ghost.capture()
    assert "CaptureStored" not in types(exp.book)
    assert trial.captured == {}


#: daskperiment's table of what it stores, with the place of each row in ``to_dict``.
ROWS = {
    "Experiment status": "status", "Experiment history (parameters)": "parameters", "Experiment history (results)": "results",
    "Persisted results": "persisted", "Metrics": "metrics", "Function input & output hash": "hashes", "Code contexts": "code",
    "Platform information": "platform", "CPU information": "cpu", "Python information": "python", "NumPy information": "numpy",
    "SciPy information": "scipy", "pandas information": "pandas", "conda information": "conda", "Git information": "git",
    "Python package information": "packages",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["book", "memory_book"])
def test_every_row_of_daskperiments_table_is_read_back_by_one_call(
    request: pytest.FixtureRequest, kind: str, repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is stored of a trial in each row is what to_dict gives."""
    import sys
    import types as modules

    book = request.getfixturevalue(kind)
    for name in LIBRARIES:
        monkeypatch.setitem(sys.modules, name, modules.SimpleNamespace(__version__=f"1.{name}"))  # type: ignore[arg-type]
    (tmp_path / "conda" / "conda-meta").mkdir(parents=True)
    (tmp_path / "conda" / "conda-meta" / "mkl-2024.0-0.json").write_text("{}")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "conda"))
    monkeypatch.setattr(collect.source, "places", lambda: [str(repository)])
    (repository / "train.py").write_text("lr = 0.2\n")
    exp = book.experiment("tuning", objectives={"loss": "min"})

    @exp.track
    def objective(lr: float, trial: ledger.Trial) -> float:
        trial.log(step=1, accuracy=0.5)
        trial.set_attributes({"scaled": [1.0, 2.0]}, namespace="persisted")
        return lr * 2

    objective(lr=0.1)
    known = exp.trial(1).to_dict()
    assert set(ROWS.values()) <= set(known)
    assert known["status"] == "SUCCEEDED"
    assert known["parameters"] == {"lr": 0.1}
    assert known["results"] == {"loss": 0.2}
    assert known["persisted"] == {"scaled": [1.0, 2.0]}
    assert [(point["step"], point["value"]) for point in known["metrics"]["accuracy"]] == [(1, 0.5)]
    assert [len(known["hashes"][name]) for name in ("inputs", "code", "output")] == [32, 32, 32]
    assert "return lr * 2" in known["code"]["function"]["text"]
    assert known["platform"]["machine"] == os.uname().machine
    assert known["cpu"]["logical_cores"] == os.cpu_count()
    assert known["python"]["version"].startswith("3.")
    assert [known[name]["version"] for name in LIBRARIES] == ["1.numpy", "1.scipy", "1.pandas"]
    assert known["conda"]["packages"] == {"mkl": "2024.0 0"}
    assert "+lr = 0.2" in known["git"]["patch"]
    assert known["packages"]["pytest"] == pytest.__version__


def test_what_was_not_captured_is_none(book: ledger.Ledger) -> None:
    """The other rows are there all the same."""
    trial = live(book.experiment("tuning"))
    known = trial.to_dict()
    rows = ("platform", "cpu", "python", "numpy", "scipy", "pandas", "conda", "git", "packages", "code")
    assert [known[name] for name in rows] == [None] * len(rows)
    assert (known["status"], known["results"], known["metrics"]) == ("SUCCEEDED", {"loss": 1.0}, {})


def test_nothing_is_warned_of_in_the_ordinary_case(exp: ledger.Experiment) -> None:
    """Two trials in a process that has everything in order."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        live(exp)
        live(exp)
