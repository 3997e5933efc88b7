"""A git repository to work in, which mlos_bench insists on, storages, and experiments."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlos_bench")

import pytz
from mlos_bench.tunables.tunable_groups import TunableGroups

from ledger.integrations.mlos import LedgerStorage

#: What mlos_bench and what it is built on warn of themselves.
_OF_MLOS_BENCH = (
    "ignore:The inplace keyword in DataFrame.rename is deprecated",
    "ignore:No path_separator found in configuration:DeprecationWarning",
    "ignore:.*_tuple.*:DeprecationWarning",
)

TUNABLES = {
    "kernel": {
        "cost": 1,
        "params": {
            "idle": {"type": "categorical", "values": ["halt", "mwait", "noidle"], "default": "halt"},
            "latency_ns": {"type": "int", "range": [0, 1_000_000_000], "default": 2_000_000},
            "ratio": {"type": "float", "range": [0, 1], "default": 0.25},
        },
    }
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let mlos_bench warn in its own tests here, and nobody else."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for each in _OF_MLOS_BENCH:
                item.add_marker(pytest.mark.filterwarnings(each))


def make_repository(place: Path) -> Path:
    """Make a git repository with an origin and a commit of all that is there."""
    git = ["git", "-C", str(place), "-c", "user.name=test", "-c", "user.email=test@localhost"]
    for arguments in (
        ["init", "--quiet"],
        ["remote", "add", "origin", "https://example.invalid/configs.git"],
        ["add", "--all"],
        ["commit", "--quiet", "--allow-empty", "--message", "configs"],
    ):
        subprocess.run([*git, *arguments], check=True, stdout=subprocess.DEVNULL)
    return place


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a git repository."""
    place = tmp_path / "configs"
    place.mkdir()
    monkeypatch.chdir(make_repository(place))
    return place


@pytest.fixture
def tunables() -> Any:
    """Return three tunables with their defaults."""
    return TunableGroups(TUNABLES).reset()


@pytest.fixture
def open_storage(ledger_path: Path, repository: Path) -> Iterator[Callable[..., LedgerStorage]]:
    """Open storages in one ledger, as several processes would; they are closed at the end."""
    with contextlib.ExitStack() as stack:

        def open_one(**config: Any) -> LedgerStorage:
            return stack.enter_context(LedgerStorage({"database": str(ledger_path), **config}))

        yield open_one


@pytest.fixture
def storage(open_storage: Callable[..., LedgerStorage]) -> LedgerStorage:
    """Return a storage."""
    return open_storage()


def experiment_of(storage: Any, tunables: Any, name: str = "Test-001", **more: Any) -> Any:
    """Return an experiment of a storage, not entered yet."""
    arguments = {
        "experiment_id": name, "trial_id": 1, "root_env_config": "environment.jsonc", "description": "of a test",
        "tunables": tunables, "opt_targets": {"score": "min"}, **more,
    }  # fmt: skip
    return storage.experiment(**arguments)


@pytest.fixture
def experiment(storage: LedgerStorage, tunables: Any) -> Iterator[Any]:
    """Enter an experiment."""
    with experiment_of(storage, tunables) as entered:
        yield entered


def now() -> datetime:
    """Return the present time as mlos_bench's schedulers have it."""
    return datetime.now(pytz.UTC)


def utc(*parts: int) -> datetime:
    """Return a time."""
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]
