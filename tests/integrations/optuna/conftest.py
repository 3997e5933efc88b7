"""Fixtures: a storage on a ledger that is verified at the end of every test, and others to import from; Optuna is quiet."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from ledger.integrations.optuna import LedgerStorage
from tests.integrations.optuna.origins import KINDS, Origin
from tests.integrations.optuna.samples import fill


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


@pytest.fixture
def storage(ledger_path: Path) -> Iterator[LedgerStorage]:
    """A storage, closed at the end."""
    with LedgerStorage(ledger_path) as opened:
        yield opened


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a filled storage of each kind; to fill a database takes seconds."""
    place = tmp_path_factory.mktemp("samples")
    for kind in KINDS:
        fill(Origin(kind, place / kind).storage())
    return place


@pytest.fixture(params=KINDS)
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Origin:
    """A place for a storage of each kind."""
    return Origin(request.param, tmp_path / "studies")


@pytest.fixture
def origin(empty: Origin, samples: Path) -> Origin:
    """A storage of each kind, with studies."""
    shutil.copy(samples / empty.kind, empty.path)
    return empty
