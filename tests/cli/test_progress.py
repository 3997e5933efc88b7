"""Progress: a bar where a person waits, and silence everywhere else."""

from __future__ import annotations

import sys

import pytest

import ledger
from ledger.cli import opening


class Terminal:
    """A standard error that says it is a terminal, and keeps what is written."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass

    def fileno(self) -> int:
        raise OSError


@pytest.fixture
def terminal(monkeypatch):
    """Return what puts a terminal in the place of standard error, for a test to call: pytest puts its own there before."""

    def put() -> Terminal:
        made = Terminal()
        monkeypatch.setattr(sys, "stderr", made)
        monkeypatch.setenv("TERM", "xterm-256color")
        return made

    return put


def test_a_bar_shows_percentage_and_rate(terminal, monkeypatch):
    """Work that takes a while shows what it is, how far it is, and how fast it goes."""
    monkeypatch.setattr(opening, "_PATIENCE_SECONDS", -1.0)
    screen = terminal()
    with opening.progress_bar("counting") as progress:
        progress(500, 1000)
        progress(1000, 1000)
    for part in ("counting", "100%", "1000/1000", " records/s"):
        assert part in screen.text


def test_work_that_is_done_at_once_shows_no_bar(terminal):
    """Nothing flashes up for what takes less than half a second."""
    screen = terminal()
    with opening.progress_bar("counting") as progress:
        progress(1000, 1000)
    assert screen.text == ""


def test_no_bar_over_output(terminal, monkeypatch):
    """What prints as it goes shows no bar on the terminal that it prints to."""
    screen = terminal()
    with opening.progress_bar("reading", output=True) as progress:
        assert progress is not None  # standard output is no terminal here
    monkeypatch.setattr(sys, "stdout", screen)
    with opening.progress_bar("reading", output=True) as progress:
        assert progress is None


def test_an_error_takes_the_bar_away(terminal, monkeypatch):
    """An error inside comes out as it is, and the cursor is shown again."""
    monkeypatch.setattr(opening, "_PATIENCE_SECONDS", -1.0)
    screen = terminal()
    with pytest.raises(ValueError, match="broken"), opening.progress_bar("counting") as progress:
        progress(1, 2)
        raise ValueError("broken")
    assert screen.text.rindex("\x1b[?25h") > screen.text.rindex("\x1b[?25l")


def test_silence_where_there_is_no_terminal(call, sample):
    """Without a terminal no command writes a bar to standard error."""
    for words in (["info"], ["history", "--format", "jsonl"], ["verify"]):
        assert call(words[0], sample, *words[1:]).stderr == ""


def test_records_are_counted_between_two_positions(sample):
    """The callback gets how far the positions have come, every so many records."""
    with ledger.open(sample) as book:
        book.log.append([ledger.NoteAdded("x")] * 600, stream="diary")
        after, head = 5, book.log.head
        calls: list[tuple[int, int]] = []
        passed = list(opening.counted(book.log.read(after), lambda *call: calls.append(call), after, head))
        assert len(passed) == head - after
        assert calls == [(256, head - after), (512, head - after)]
        assert list(opening.counted(iter(passed), None, after, head)) == passed
