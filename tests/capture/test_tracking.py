"""Tracked functions: each call a trial, whatever the function does."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ledger
from ledger import Status


def test_a_call_is_a_trial(exp: ledger.Experiment) -> None:
    """Its arguments are the config, with defaults; a number is the value of the only objective; the value is returned."""

    @exp.track
    def objective(lr: float, *more: int, size: int = 3, **others: str) -> float:
        """Docs."""
        return lr * size

    assert objective(0.5, 1, 2, mode="fast") == 1.5
    trial = exp.trial(1)
    assert trial.config == {"lr": 0.5, "more": (1, 2), "size": 3, "mode": "fast"}
    assert (trial.results, trial.status) == ({"loss": 1.5}, Status.SUCCEEDED)
    assert (objective.__name__, objective.__doc__) == ("objective", "Docs.")
    assert "return lr * size" in trial.captured["function"]["text"]


def test_no_worker_of_the_queue_is_handed_a_tracked_call(exp: ledger.Experiment) -> None:
    """Its trial is claimed in the step that creates it."""
    exp.run(lambda: 1.0, capture=False)
    created, claimed, *_ = exp.trial(1).history()
    assert (created.type, claimed.type) == ("TrialCreated", "TrialClaimed")
    assert created.append_id == claimed.append_id


@pytest.mark.parametrize(
    ("value", "results"),
    [({"a": 1, "b": "x"}, {"a": 1, "b": "x"}), (2, {"result": 2}), ("text", {"result": "text"}), ((1, 2), {"result": (1, 2)}),
     (None, {}), ({}, {}), (float("inf"), {"result": float("inf")})],
)  # fmt: skip
def test_what_is_returned_are_the_results(book: ledger.Ledger, value: Any, results: dict[str, Any]) -> None:
    """A dict as it is, one value under ``result`` where there is not one objective."""
    trial = book.experiment("two", objectives={"a": "min", "b": "max"}).run(lambda: value, capture=False)
    assert (trial.results, trial.status) == (results, Status.SUCCEEDED)


def test_what_no_record_can_hold_is_returned_and_warned_of(exp: ledger.Experiment) -> None:
    """Hours of work are not thrown away for it: the rest is recorded, the trial has succeeded."""
    model = object()

    @exp.track(capture=False)
    def train() -> dict[Any, Any]:
        return {"loss": 1.0, "model": model, 3: 4, "large": "x" * 600_000}

    with pytest.warns(ledger.ResultNotRecorded, match=r"'model'.*object.*'large'.*larger than.*artifact"):
        assert train()["model"] is model
    trial = exp.trial(1)
    assert trial.results == {"loss": 1.0}
    assert trial.status is Status.SUCCEEDED


def test_an_exception_fails_the_trial_and_goes_on(exp: ledger.Experiment) -> None:
    """With what was logged before it."""

    @exp.track(capture=False)
    def objective(trial: ledger.Trial) -> None:
        trial.log(step=1, loss=0.5)
        raise ValueError("diverged")

    with pytest.raises(ValueError, match="diverged"):
        objective()
    found = exp.trial(1)
    assert found.status is Status.FAILED
    assert found.state.error is not None
    assert found.state.error.message == "diverged"
    assert found.to_dict()["metrics"]["loss"][0]["value"] == 0.5


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_an_exit_is_recorded_and_goes_on(exp: ledger.Experiment, error: BaseException) -> None:
    """sys.exit and Ctrl-C inside of the function end the trial and the program."""

    def objective() -> None:
        raise error

    with pytest.raises(type(error)):
        exp.run(objective)
    assert exp.trial(1).status is Status.FAILED
    assert exp.trial(1).state.error.type == type(error).__name__  # type: ignore[union-attr]
    assert exp.trial(1).captured


def test_a_function_may_end_its_trial_itself(exp: ledger.Experiment) -> None:
    """What it has set stays, whatever it returns."""

    def objective() -> float:
        ledger.current_trial().prune({"loss": 9.0})
        return 1.0

    trial = exp.run(objective, capture=False)
    assert (trial.status, trial.results) == (Status.PRUNED, {"loss": 9.0})


def test_a_bad_argument_starts_no_trial(exp: ledger.Experiment) -> None:
    """Too many, too few, or what no record can hold: the error is the caller's."""

    @exp.track
    def objective(lr: float, trial: ledger.Trial) -> None:
        pytest.fail("not called")

    with pytest.raises(TypeError, match="unexpected keyword"):
        objective(0.1, size=3)
    with pytest.raises(ledger.InvalidValue, match="set"):
        objective({1, 2})
    assert list(exp.trials()) == []


def test_an_argument_that_is_missing_beside_the_trial(exp: ledger.Experiment) -> None:
    """It is the caller's error as well, before anything is recorded."""

    @exp.track
    def objective(lr: float, trial: ledger.Trial) -> None:
        pytest.fail("not called")

    with pytest.raises(TypeError, match="'lr'"):
        objective()
    assert list(exp.trials()) == []


def test_a_method_is_tracked(exp: ledger.Experiment) -> None:
    """Its object is no part of the config."""

    class Model:
        @exp.track(capture=False)
        def fit(self, lr: float) -> float:
            return lr * 2

    assert Model().fit(0.5) == 1.0
    assert exp.trial(1).config == {"lr": 0.5}


def test_a_call_inside_of_a_call_is_a_trial_of_its_own(exp: ledger.Experiment) -> None:
    """The current trial is that of the innermost call, and afterwards the outer one again."""
    seen = []

    @exp.track(capture=False)
    def inner() -> None:
        seen.append(ledger.current_trial().id)

    @exp.track(capture=False)
    def outer() -> None:
        seen.append(ledger.current_trial().id)
        inner()
        seen.append(ledger.current_trial().id)

    outer()
    assert seen == [1, 2, 1]
    with pytest.raises(LookupError, match="no trial runs here"):
        ledger.current_trial()


def test_threads_have_their_own_current_trial(exp: ledger.Experiment) -> None:
    """Calls at the same time do not see each other's; a thread started inside has none."""
    meet = threading.Barrier(2, timeout=30)
    seen: dict[int, int] = {}

    @exp.track(capture=False)
    def objective(n: int) -> None:
        meet.wait()
        seen[n] = ledger.current_trial().config["n"]
        meet.wait()

    threads = [threading.Thread(target=objective, args=(n,)) for n in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {1: 1, 2: 2}
    missing: list[str] = []

    def look() -> None:
        try:
            ledger.current_trial()
        except LookupError as error:
            missing.append(str(error))

    with exp.new_trial({}).run(capture=False):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert len(missing) == 1


async def _async() -> None: ...


def _generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize("function", [_async, _generator, 3])
def test_what_cannot_be_tracked_is_refused(exp: ledger.Experiment, function: Any) -> None:
    """Asynchronous functions and generators return before their work is done."""
    with pytest.raises(ledger.InvalidValue, match=r"asynchronous|cannot be called"):
        exp.track(function)


def test_builtins_and_classes_can_be_run(exp: ledger.Experiment) -> None:
    """What has no signature takes its arguments by name."""
    assert exp.run(dict, {"a": 1}).results == {"a": 1}


# -------------------------------------------------------------------------------------------------------------- forks


def test_a_fork_inside_cannot_write_as_the_parent(ledger_path: Path, script: Callable[..., Any]) -> None:
    """The child's handle raises ForkedHandle, however it leaves the function the trial is left alone, and waits for no lock
    that a thread of the parent holds; the parent completes it."""
    code = """
    import os, sys, ledger
    with ledger.open(sys.argv[1]) as book:
        exp = book.experiment("tuning")

        @exp.track
        def objective(x, trial):
            for way in ("exit", "raise", "return"):
                child = os.fork()
                if child == 0:
                    try:
                        trial.log(step=1, loss=1.0)
                    except ledger.ForkedHandle:
                        print(f"{way}: refused", flush=True)
                    if way == "exit":
                        sys.exit(0)
                    if way == "raise":
                        raise ValueError("of the child")
                    return {"loss": -1.0}
                os.waitpid(child, 0)
            return {"loss": x}

        pid = os.getpid()
        try:
            objective(5)
        except BaseException as error:
            print(type(error).__name__, flush=True)
            os._exit(0)
        assert os.getpid() == pid
    """
    said = script(code, ledger_path).finish()
    assert said == [
        "exit: refused", "SystemExit", "raise: refused", "ValueError", "return: refused", "ForkedHandle",
    ]  # fmt: skip
    with ledger.open(ledger_path) as book:
        trial = book.get_experiment("tuning").trial(1)
        assert (trial.status, trial.results) == (Status.SUCCEEDED, {"loss": 5})
        assert [record.type for record in trial.history()].count("TrialCompleted") == 1


def test_a_forked_child_captures_in_its_own_ledger(ledger_path: Path, script: Callable[..., Any]) -> None:
    """What the parent knows of the process is true in the child, which opens the ledger itself."""
    code = """
    import os, sys, ledger
    with ledger.open(sys.argv[1]) as book:
        with book.experiment("tuning", capture=True).new_trial({}).run():
            child = os.fork()
            if child == 0:
                with ledger.open(sys.argv[1]) as own:
                    with own.experiment("child", capture=True).new_trial({}).run():
                        pass
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
    """
    script(code, ledger_path).finish()
    with ledger.open(ledger_path) as book:
        one, two = (book.get_experiment(name).trial(1).captured for name in ("tuning", "child"))
        assert one == two != {}


# ------------------------------------------------------------------------------------------------------- deterministic


def test_another_result_of_a_deterministic_function_is_warned_of(exp: ledger.Experiment) -> None:
    """For the same inputs and the same code; other inputs are another matter."""
    results = iter([1.0, 1.0, 5.0, 2.0])

    @exp.track(deterministic=True)
    def objective(x: int) -> float:
        return next(results)

    objective(1)
    objective(1)
    objective(2)
    with pytest.warns(ledger.ResultDiffers, match=r"/4 has another result than trial 2, which had the same inputs"):
        objective(1)
    hashes = [exp.trial(n).to_dict()["hashes"] for n in (1, 2, 4)]
    assert hashes[0] == hashes[1]
    assert (hashes[2]["inputs"], hashes[2]["code"]) == (hashes[0]["inputs"], hashes[0]["code"])
    assert hashes[2]["output"] != hashes[0]["output"]


def test_results_of_other_processes_count(exp: ledger.Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are found in the log by their config; those of other code, other experiments and failed trials do not count."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "deterministic_code.py").write_text("def objective(x):\n    return VALUE\n\nVALUE = 1.0\n")
    import deterministic_code as code  # type: ignore[import-not-found]

    def tracked(where: ledger.Experiment) -> Any:
        return where.track(deterministic=True)(code.objective)

    tracked(exp)(1)
    code.VALUE = 2.0
    tracked(exp.book.experiment("other", objectives={"loss": "min"}))(1)
    with pytest.warns(ledger.ResultDiffers, match="than trial 1"):
        tracked(exp)(1)
    del sys.modules["deterministic_code"]


def test_other_code_is_another_matter(exp: ledger.Experiment) -> None:
    """A function that was changed may give another result."""

    def one(x: int) -> float:
        return 1.0

    def two(x: int) -> float:
        return 2.0

    exp.track(deterministic=True)(one)(1)
    with pytest.warns(ledger.EnvironmentDiffers, match=r"one -> .*two"):
        exp.track(deterministic=True)(two)(1)


def test_without_capture_the_code_is_not_known(exp: ledger.Experiment) -> None:
    """So it cannot be compared."""
    with pytest.raises(ledger.InvalidValue, match="capture=False leaves unknown"):
        exp.track(deterministic=True, capture=False)(lambda: 1)


def test_an_argument_called_trial_that_is_given_is_part_of_the_config(exp: ledger.Experiment) -> None:
    """The handle is only for who leaves it out."""
    assert exp.track(capture=False)(lambda trial: {"loss": trial})(trial=3) == {"loss": 3}
    assert exp.trial(1).config == {"trial": 3}


# -------------------------------------------------------------------------------------------------------------- reuse


def test_a_trial_of_the_same_arguments_and_code_is_used_again(exp: ledger.Experiment) -> None:
    """Defaults count as arguments; a failure, a deleted trial, other arguments and other code do not stand in for it."""
    calls = []

    def work(x: int, y: int = 2) -> float:
        calls.append(x)
        if len(calls) == 1:
            raise ValueError("not this time")
        return x / y

    with pytest.raises(ValueError, match="not this time"):
        exp.run(work, {"x": 1}, reuse=True)
    first = exp.run(work, {"x": 1}, reuse=True)
    assert exp.run(work, {"x": 1}, reuse=True).id == first.id
    assert exp.run(work, {"y": 2, "x": 1}, reuse=True).results == {"loss": 0.5}
    assert exp.run(work, {"x": 3}, reuse=True).id != first.id
    assert exp.run(work, {"x": 1}).id != first.id
    exp.trial(first.id).delete()
    assert calls == [1, 1, 3, 1]
    assert exp.run(work, {"x": 1}, reuse=True).id != first.id
    with pytest.warns(ledger.EnvironmentDiffers):
        exp.run(lambda x: 0.0, {"x": 1}, reuse=True)
    assert calls == [1, 1, 3, 1]


def test_without_capture_nothing_is_used_again(exp: ledger.Experiment) -> None:
    """What code a trial ran is not known then."""
    with pytest.raises(ledger.InvalidValue, match="capture=False leaves unknown"):
        exp.run(lambda: 1.0, reuse=True, capture=False)
