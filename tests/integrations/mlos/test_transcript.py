"""The example of mlos_bench's documentation, with only the class changed; and its newer interface."""

from __future__ import annotations

import doctest
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlos_bench.environments.status import Status
from mlos_bench.storage.base_trial_data import TrialData

from ledger.integrations.mlos import LedgerStorage
from ledger.integrations.mlos.features import accepts
from tests.integrations.mlos import head
from tests.integrations.mlos.conftest import experiment_of, now

TRANSCRIPT = (Path(__file__).parent / "data" / "transcript.txt").read_text()
SQL, OURS = "mlos_bench.storage.sql.storage.SqlStorage", "ledger.integrations.mlos.LedgerStorage"
#: What the transcript has of the newer interface, and the release prints instead.
RELEASED = [
    (" rid:None", ""),
    ("'trial_runner_id', ", ""),
    (" status trial_runner_id  config", " status  config"),
    ("SUCCEEDED            None             50", "SUCCEEDED             50"),
    ("[1 rows x 7 columns]", "[1 rows x 6 columns]"),
]


def _run(transcript: str) -> tuple[doctest.TestResults, str]:
    test = doctest.DocTestParser().get_doctest(transcript, {}, "transcript", None, 0)
    said: list[str] = []
    with pd.option_context("display.max_columns", None, "display.width", 1000, "display.show_dimensions", True):
        results = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=said.append, clear_globs=False)
    test.globs["storage"].dispose()
    return results, "".join(said)


def _of_release(text: str) -> str:
    for new, old in RELEASED:
        assert new in text
        text = text.replace(new, old)
    return text


@pytest.mark.usefixtures("repository")
def test_the_documented_example_prints_the_same_with_only_the_class_changed() -> None:
    """As the installed release prints it."""
    assert SQL in TRANSCRIPT
    is_new = accepts(TrialData.__init__, "trial_runner_id")
    results, said = _run((TRANSCRIPT if is_new else _of_release(TRANSCRIPT)).replace(SQL, OURS))
    assert results.failed == 0, said
    assert results.attempted > 20


@pytest.mark.usefixtures("repository")
def test_the_documented_example_prints_the_same_with_the_newer_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    """Word for word as documented, runners included."""
    head.install(monkeypatch)
    results, said = _run(TRANSCRIPT.replace(SQL, OURS))
    assert results.failed == 0, said


def test_the_newer_interface_gives_runners_to_trials(
    open_storage: Callable[..., LedgerStorage], tunables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduler assigns, runs and looks at trials as it does in the repository."""
    head.install(monkeypatch)
    storage = open_storage()
    with experiment_of(storage, tunables) as experiment:
        experiment.new_trial(tunables, config={"a": 1})
        experiment.new_trial(tunables)
        for runner, trial in enumerate(list(experiment.pending_trials(now(), running=False, trial_runner_assigned=False)), 1):
            assert (trial.status, trial.opt_targets()) == (Status.PENDING, {"score": "min"})
            assert trial.set_trial_runner(runner) == runner
        first, second = experiment.pending_trials(now(), running=False, trial_runner_assigned=True)
        assert first.config({"g": 1}) == {"a": "1", "g": 1, "experiment_id": "Test-001", "trial_id": 1, "trial_runner_id": 1}
        first.add_new_config_data({"more": 2.5})
        first.update(Status.SUCCEEDED, now(), {"score": 0.5})
        second.update(Status.FAILED, now())
    data = storage.experiments["Test-001"]
    assert repr(data.trials[2]) == "Trial :: Test-001:2 cid:1 rid:2 FAILED"
    assert data.trials[1].metadata_dict == {"a": 1, "more": 2.5}
    frame = data.results_df
    assert frame.columns[5:7].tolist() == ["status", "trial_runner_id"]
    assert frame["trial_runner_id"].tolist() == [1, 2]


@pytest.mark.parametrize("is_new", [False, True])
def test_storages_are_sent_to_other_processes(
    open_storage: Callable[..., LedgerStorage], tunables: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_new: bool
) -> None:
    """A copy finds experiment and trial by id, wherever it works, and goes on with what the first was handed."""
    if is_new:
        head.install(monkeypatch)
    storage = open_storage()
    with experiment_of(storage, tunables) as experiment:
        experiment.new_trial(tunables, config={"a": 1})
        (trial,) = experiment.pending_trials(now())
        monkeypatch.chdir(tmp_path)
        with pickle.loads(pickle.dumps(storage)) as copy:
            assert copy.get_experiment_by_id("none", tunables, {}) is None
            again = copy.get_experiment_by_id("Test-001", tunables, {"score": "min"})
            assert again is not None
            for name in ("experiment_id", "description", "root_env_config", "opt_targets"):
                assert getattr(again, name) == getattr(experiment, name)
            restored = again.get_trial_by_id(1)
            assert restored is not None
            assert (restored.trial_id, restored.tunables, restored.config()) == (1, trial.tunables, trial.config())
            restored.config({})
            restored.update(Status.SUCCEEDED, now(), {"score": 1})
        with pytest.raises(RuntimeError, match="is SUCCEEDED"):
            trial.update(Status.FAILED, now())
    assert storage.experiments["Test-001"].trials[1].status is Status.SUCCEEDED
