"""The contract of captures: stored once by content, checked, redacted; what an experiment's trials ran with last."""

from __future__ import annotations

import pytest

from ledger import events as ev
from ledger.backends.base import Backend
from ledger.capture.collect import make_capture
from ledger.capture.record import with_captures
from ledger.errors import InvalidValue
from ledger.streams import capture_digest, capture_stream, experiment_stream
from ledger.testing.corrections import redaction
from ledger.testing.tools import (
    EXPERIMENT,
    ContractBase,
    append,
    asking,
    commit,
    experiment_state,
    read_all,
    refusal,
    submission,
    with_experiment,
    with_trials,
)

OLD = make_capture("packages", {"distributions": {"numpy": "2.1.0"}})
NEW = make_capture("packages", {"distributions": {"numpy": "2.2.0"}})


def _types(backend: Backend) -> list[str]:
    return [record.type for record in read_all(backend)]


def _trials(backend: Backend, count: int) -> None:
    with_experiment(backend)
    with_trials(backend, *(ev.TrialCreated({"n": number}) for number in range(count)))


class CaptureContract(ContractBase):
    """What trials ran with."""

    def test_the_same_capture_is_stored_once(self, backend: Backend) -> None:
        """Two trials that run with the same, in one group: one record holds it, and each trial refers to it."""
        _trials(backend, 2)
        commands = [with_captures(EXPERIMENT, number, {"packages": OLD}, None) for number in (1, 2)]
        commit(backend, *(asking(command) for command in commands))
        types = _types(backend)
        assert (types.count("CaptureStored"), types.count("TrialCaptured"), types.count("EnvironmentChanged")) == (1, 2, 1)

    def test_a_change_is_an_event_of_the_experiment(self, backend: Backend) -> None:
        """It says what was and what is, in digests and in words, and the experiment's state has the newest digests."""
        _trials(backend, 3)
        for number, capture in enumerate((OLD, NEW, NEW), start=1):
            commit(backend, asking(with_captures(EXPERIMENT, number, {"packages": capture}, None)))
        changes = [record.event for record in read_all(backend) if isinstance(record.event, ev.EnvironmentChanged)]
        assert changes == [
            ev.EnvironmentChanged(1, {"packages": OLD.digest}),
            ev.EnvironmentChanged(2, {"packages": NEW.digest}, {"packages": OLD.digest}, ["numpy 2.1.0 -> 2.2.0"]),
        ]
        assert experiment_state(backend).captures == {"packages": NEW.digest}

    def test_a_redacted_capture_is_gone_and_not_stored_again(self, backend: Backend) -> None:
        """Its content is dropped; the trial's digests stay, and the next trial that runs with it does not bring it back."""
        _trials(backend, 2)
        commit(backend, asking(with_captures(EXPERIMENT, 1, {"packages": OLD}, None)))
        (position,) = [record.position for record in read_all(backend) if record.type == "CaptureStored"]
        append(backend, [redaction(backend, position)])
        commit(backend, asking(with_captures(EXPERIMENT, 2, {"packages": OLD}, None)))
        stored = [record.event for record in read_all(backend) if isinstance(record.event, ev.CaptureStored)]
        assert stored == [ev.CaptureStored("packages", OLD.digest, {})]

    def test_a_redacted_change_keeps_what_the_trials_ran_with(self, backend: Backend) -> None:
        """The words go, the digests stay: the state that is folded again is the same."""
        _trials(backend, 2)
        for number, capture in enumerate((OLD, NEW), start=1):
            commit(backend, asking(with_captures(EXPERIMENT, number, {"packages": capture}, None)))
        before = experiment_state(backend)
        (*_, position) = [record.position for record in read_all(backend) if record.type == "EnvironmentChanged"]
        append(backend, [redaction(backend, position)])
        assert experiment_state(backend) == before

    @pytest.mark.parametrize("case", ["another digest", "another stream", "of a trial", "another event", "a bad kind"])
    def test_a_capture_is_what_its_stream_says(self, backend: Backend, case: str) -> None:
        """One whose content is not that of the stream's digest, and anything else in such a stream, is refused."""
        _trials(backend, 1)
        stream = capture_stream("git", capture_digest({"commit": "1"}))
        bad = {
            "another digest": (stream, ev.CaptureStored("git", stream[-32:], {"commit": "2"})),
            "another stream": ("diary", ev.CaptureStored("git", stream[-32:], {"commit": "1"})),
            "of a trial": (experiment_stream(EXPERIMENT), ev.CaptureStored("git", stream[-32:], {"commit": "1"})),
            "another event": (stream, ev.NoteAdded("x")),
            "a bad kind": (capture_stream("Git!", stream[-32:]), ev.CaptureStored("Git!", stream[-32:], {"commit": "1"})),
        }[case]
        assert isinstance(refusal(backend, submission([bad])), InvalidValue)
        assert "CaptureStored" not in _types(backend)
