"""Fixtures of the tests of the read side: a ledger in memory whose clock the test moves."""

import pytest

import ledger
import projections

SECOND = 1_000_000_000
START = 1_800_000_000_123_456_789


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self):
        self.now = START

    def __call__(self):
        return self.now

    def advance(self, seconds):
        self.now += int(seconds * SECOND)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def book(clock):
    with ledger.open("memory:", clock=clock) as book:
        yield book


@pytest.fixture
def tables(book):
    with projections.Tables(book) as tables:
        yield tables
