"""Partial directories: nobody's work is cleared away while it goes on, not even in the moment when it begins."""

from __future__ import annotations

import threading
from pathlib import Path

from ledger.partial import abandoned, clear_abandoned, in_use, partial_directory


def test_a_directory_is_not_cleared_away_as_it_is_made(tmp_path: Path) -> None:
    """Threads make directories and work in them, while others clear away what is abandoned, all the time."""
    end = threading.Event()
    lost: list[str] = []

    def clear() -> None:
        while not end.is_set():
            clear_abandoned(tmp_path, "making-")

    def make() -> None:
        for number in range(300):
            try:
                with partial_directory(tmp_path, "making-") as partial:
                    (partial / "file").write_text(str(number))
                    assert (partial / "file").read_text() == str(number)
            except OSError as error:
                lost.append(str(error))

    clearing = [threading.Thread(target=clear) for _ in range(2)]
    making = [threading.Thread(target=make) for _ in range(2)]
    for thread in (*clearing, *making):
        thread.start()
    for thread in making:
        thread.join()
    end.set()
    for thread in clearing:
        thread.join()
    assert lost == []
    assert list(tmp_path.iterdir()) == []


def test_what_was_left_is_told_from_what_is_worked_in(tmp_path: Path) -> None:
    """A directory without a lock goes; one that is locked stays."""
    (tmp_path / "making-old").mkdir()
    (tmp_path / "making-old" / "file").touch()
    with partial_directory(tmp_path, "making-") as partial:
        assert in_use(tmp_path, "making-") == [partial]
        assert abandoned(tmp_path, "making-") == [tmp_path / "making-old"]
        assert clear_abandoned(tmp_path, "making-") == 1
        assert partial.exists()
    assert list(tmp_path.iterdir()) == []
