"""The demo's parts, each by itself."""

from __future__ import annotations

import pytest
import zstandard

import ledger
import projections
from ledger.cli import demo, demo_report, demo_task


@pytest.fixture(scope="module")
def corpus():
    """A small corpus, of the same kind."""
    whole = demo_task.load_corpus()
    return demo_task.Corpus(whole.data[:200_000], 1, "0" * 64)


def test_the_corpus_is_the_same_each_time_and_no_larger_than_said():
    """Two loads give the same bytes, up to 6 MB of Python source."""
    one, two = demo_task.load_corpus(), demo_task.load_corpus()
    assert one == two
    assert 1_000_000 < len(one.data) <= 6_000_000


def test_a_python_without_sources_is_refused(tmp_path):
    """Where the standard library has no source files, the demo says so."""
    with pytest.raises(ledger.CommandRefused, match="no Python source files"):
        demo_task.load_corpus(str(tmp_path))


def test_configs_are_a_sequence_of_the_seed():
    """More configs begin with the same ones, another seed gives others, and the first is zstd's default."""
    assert demo_task.configs(5, 40)[:10] == demo_task.configs(5, 10)
    assert demo_task.configs(5, 10)[1:] != demo_task.configs(6, 10)[1:]
    assert demo_task.configs(5, 1) == demo_task.configs(6, 1) == [demo_task.BASELINE]


def test_every_config_is_valid():
    """zstd accepts every config of a long sequence."""
    for seed in range(3):
        for config in demo_task.configs(seed, 300):
            demo_task.parameters(config, 6_000_000)


def test_a_trial_logs_its_steps_and_its_results_are_true(corpus):
    """One trial logs a metric for each step, and its sizes are those of what zstd made."""
    with ledger.open("memory:") as book:
        trial = book.experiment("x").new_trial(demo_task.configs(1, 2)[1])
        with trial.run():
            results = demo_task.run_trial(trial, corpus, lambda: None)
            trial.complete(results)
        rows = [row for record in book.log.read(types=["MetricsLogged"]) for row in ledger.point_rows(record.event)]
    assert [step for name, step, _, _ in rows if name == "ratio"] == list(range(1, demo_task.STEPS + 1))
    assert results["ratio"] == pytest.approx(len(corpus.data) / results["compressed_bytes"], abs=1e-4)
    assert results["ratio"] > 1.5


def test_parameters_that_zstd_refuses_raise(corpus):
    """A config out of zstd's bounds raises, to be recorded as the trial's failure."""
    with ledger.open("memory:") as book:
        trial = book.experiment("x").new_trial({"level": 3, "window_log": 99})
        with pytest.raises((ValueError, zstandard.ZstdError)), trial.run():
            demo_task.run_trial(trial, corpus, lambda: None)
        assert trial.status is ledger.Status.FAILED


def test_preparing_again_changes_nothing_and_more_trials_are_added():
    """A second preparation appends nothing; a larger number of trials adds the missing ones only."""
    with ledger.open("memory:") as book:
        demo.prepare(book, "p", 5, 3)
        head = book.log.head
        demo.prepare(book, "p", 5, None)
        demo.prepare(book, "p", 2, 3)
        assert book.log.head == head
        exp = demo.prepare(book, "p", 8, None)
        assert [trial.config for trial in exp.trials()] == demo_task.configs(3, 8)
        assert book.log.head == head + 3


def test_a_preparation_that_was_cut_off_is_finished():
    """When only the experiment was created before a kill, the next run adds what is missing."""
    with ledger.open("memory:") as book:
        book.experiment(demo.EXPERIMENT, objectives={"ratio": "max", "compress_mb_s": "max"})
        exp = demo.prepare(book, "p", 3, 7)
        assert exp.state.attributes["demo"]["seed"] == 7
        assert len(list(exp.trials())) == 3


def test_another_seed_is_refused_and_named():
    """A demo cannot be continued with another seed; the message names both and the cure."""
    with ledger.open("memory:") as book:
        demo.prepare(book, "p", 2, 3)
        with pytest.raises(ledger.CommandRefused, match=r"seed 3, not 4.*--seed 3.*another path"):
            demo.prepare(book, "p", 2, 4)


def test_a_ledger_of_somebody_is_left_alone():
    """The demo does not write into a ledger with other content, nor into an experiment that is not its own."""
    with ledger.open("memory:") as book:
        book.experiment("serious work")
        with pytest.raises(ledger.CommandRefused, match="other content"):
            demo.prepare(book, "p", 2, None)
        assert book.log.head == 1
    with ledger.open("memory:") as book:
        book.experiment(demo.EXPERIMENT, objectives=demo._OBJECTIVES).new_trial({"mine": 1})
        with pytest.raises(ledger.CommandRefused, match="not the demo's"):
            demo.prepare(book, "p", 2, None)


def test_other_input_is_refused(monkeypatch):
    """A demo on other source files cannot be continued: its results could not be compared."""
    with ledger.open("memory:") as book:
        demo.prepare(book, "p", 2, 3)
        monkeypatch.setattr(demo_task, "load_corpus", lambda: demo_task.Corpus(b"x", 1, "other"))
        with pytest.raises(ledger.CommandRefused, match="other source files"):
            demo.prepare(book, "p", 2, 3)


def _state(number, ratio=1.0, speed=1.0, **more):
    exp = ledger.new_uuid7()
    fields = {"status": ledger.Status.SUCCEEDED, "results": {"ratio": ratio, "compress_mb_s": speed}, **more}
    return ledger.TrialState(exp, number, fields.pop("status"), {}, **fields)


def test_pareto_keeps_what_nothing_beats():
    """A config beaten in both ratio and speed is out; ties and extremes are in."""
    measured = [(5, 1), (4, 10), (4, 5), (1, 100), (0.5, 50)]
    with ledger.open("memory:") as book:
        exp = book.experiment("e")
        for ratio, speed in measured:
            exp.new_trial({}).complete({"ratio": float(ratio), "compress_mb_s": float(speed)})
        assert demo_report.pareto(projections.Tables(book).trials("e")) == {1, 2, 4}


def test_the_trial_told_of_is_the_most_eventful():
    """One lost and tried again comes before one that failed, and that before the best."""
    best, failed = _state(1, 9), _state(2, status=ledger.Status.FAILED, results={}, attempt=1)
    lost = _state(3, 1, lost=1, attempt=2)
    assert demo_report.most_eventful([best, failed, lost]).id == 3
    assert demo_report.most_eventful([best, lost]).id == 3


def test_suggestions_quote_the_path():
    """The commands to try next can be pasted, whatever the path."""
    lines = demo_report.suggestions("/tmp/my demo", "zstd-tuning", 10, "ledger")
    assert len(lines) == 3
    assert all("'/tmp/my demo'" in line for line in lines)
