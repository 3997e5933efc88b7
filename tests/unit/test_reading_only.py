"""A ledger that somebody may only read: what that takes, and what it says when it is not given."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import ledger

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")

READER = """
import os, sys, time, ledger, projections
path = sys.argv[1]
with ledger.open(path, readonly=True) as book, projections.Tables(book) as tables:
    tables.trials("demo")  # imports what somebody else may have no right to
os.setuid(65534)
try:
    with ledger.open(path, readonly=True) as book, projections.Tables(book) as tables:
        print(book.log.head, len(tables.trials("demo")))
        while book.log.head < 3:
            time.sleep(0.01)
        print(book.log.head, len(tables.trials("demo")))
        try:
            ledger.open(path)
        except ledger.OptionsConflict as error:
            print(error)
except ledger.ReadOnlyLedger as error:
    print(error)
try:
    ledger.open(path)
except ledger.ReadOnlyLedger as error:
    print(error)
"""


@pytest.fixture
def path(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with checkpoints that everybody can reach, and only root may write to."""
    for directory in (tmp_path, *tmp_path.parents):
        if directory.is_relative_to(tmp_path_factory.getbasetemp().parent):
            directory.chmod(0o755)
    with ledger.open(tmp_path / "runs.ledger") as book:
        book.experiment("demo").new_trial({})
    (tmp_path / "runs.ledger" / "projections").mkdir()
    return tmp_path / "runs.ledger"


def test_the_right_to_the_lock_file_alone_is_enough_to_read(path: Path, script: Callable) -> None:
    """Beside a writer: what it appends is seen; to write is refused."""
    (path / "lock.mdb").chmod(0o666)
    with ledger.open(path) as book:
        reader = script(READER, path)
        assert reader.line() == "2 1"
        book.experiment("demo").new_trial({})
        assert reader.line() == "3 2"
        assert "can only be read here" in reader.line()
        assert "readonly=True" in reader.line()
    assert not any((path / "projections").iterdir())


def test_without_it_the_error_says_how_to_give_it(path: Path, script: Callable) -> None:
    """Of the lock file, which its owner can open to others."""
    told = script(READER, path).line()
    assert f"`chmod a+rw {path / 'lock.mdb'}`" in told
