"""The Reader on runs that MLXP made: its tutorial's session, custom types of artifacts, and runs that its own cannot show."""

import doctest
import shutil
import sys
from pathlib import Path

import pytest

import ledger
from ledger.integrations.mlxp import import_runs
from projections import Reader

TESTS = Path(__file__).parents[1]
RUNS = TESTS / "integrations" / "data" / "mlxp_18runs"
TRANSCRIPT = Path(__file__).parent / "data" / "mlxp_transcript.txt"


def test_the_session_of_mlxps_tutorial_runs_with_another_class(tmp_path, monkeypatch):
    """Seed document 002, word for word where it says what is computed."""
    monkeypatch.chdir(tmp_path)
    import_runs(RUNS, "logs", "sweep", timezone="UTC")
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, attempted = doctest.testfile(str(TRANSCRIPT), module_relative=False, optionflags=flags)
    assert (failed, attempted > 30) == (0, True)


@pytest.fixture
def logs(tmp_path):
    """A copy of two of the runs, to be changed."""
    for number in ("1", "2"):
        shutil.copytree(RUNS / number, tmp_path / "logs" / number)
    return tmp_path / "logs"


def test_artifacts_of_custom_types_are_loaded_by_a_registered_saver(logs, tmp_path):
    """MLXP keeps bytecode to load them, which no ledger runs; here it is a function registered under the type's name."""
    folder = logs / "1/artifacts/matrix/deep/down"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("1 2\n3 4\n")
    (logs / "1/artifacts/.keys/artifacts.yaml").write_text(
        "pickle: {'': {last_ckpt.pkl: ''}}\nmatrix: {.deep.down: {a.txt: ''}}\n"
    )
    ledger.register_saver(
        "matrix", save=lambda value, file: None, load=lambda file: [[int(n) for n in line.split()] for line in file]
    )
    import_runs(logs, tmp_path / "book")
    with Reader(tmp_path / "book") as reader:
        row = reader.filter("exists(artifact.matrix..deep.down)")[0]
        assert row["artifact.matrix..deep.down"]["a.txt"].load() == [[1, 2], [3, 4]]
        with pytest.raises(ledger.PickleRefused, match="allow_pickle"):
            row["artifact.pickle."]["last_ckpt.pkl"].load()
        assert "artifact.matrix..deep.down" not in reader.filter()[1]


def test_pickles_of_mlxp_are_loaded_when_asked_for_and_name_what_they_need(logs, tmp_path, monkeypatch):
    """MLXP pickles by dill, which the extra brings; without it the error says so."""
    import_runs(logs, tmp_path / "book")
    with Reader(tmp_path / "book", allow_pickle=True) as reader:
        artifact = reader.filter()[0]["artifact.pickle."]["last_ckpt.pkl"]
        assert artifact.load() is not None
        for name in [name for name in sys.modules if name.partition(".")[0] == "dill"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "dill", None)
        with pytest.raises(ledger.LoadError, match=r"Install dill, .*MLXP.*experiment-ledger\[mlxp\]"):
            artifact.load()


def test_queued_and_broken_runs_hide_nothing(logs, tmp_path):
    """MLXP shows none of the queued ones, and nothing at all when one file is torn."""
    shutil.copytree(logs / "2", logs / "3")
    (logs / "3/metadata/info.yaml").write_text("status: STARTING\n")
    (logs / "3/metadata/config.yaml").rename(logs / "3/metadata/config_unresolved.yaml")
    shutil.rmtree(logs / "3/metrics")
    (logs / "2/metrics/train.json").write_text('{"loss": 1.5, "epoch": 0}\n{"loss": 1.0, "ep')
    shutil.copytree(logs / "1", logs / "4")
    (logs / "4/metadata/info.yaml").write_text("{ torn: [")
    report = import_runs(logs, tmp_path / "book")
    assert [problem.run for problem in report.skipped] == ["4"]
    with Reader(tmp_path / "book") as reader:
        assert reader.filter()["info.trial_id"] == [1, 2, 3]
        assert reader.filter("info.status == 'STARTING'")["info.trial_id"] == [3]
        assert reader.filter()["train.loss"][1:] == [[1.5], None]
