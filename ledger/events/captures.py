"""What trials ran with: kept once by content, referred to by each trial."""

from typing import Any

from ledger.registry import Event, event


@event
class CaptureStored(Event, omit_defaults=True):
    """What trials run with was seen for the first time: of one kind (environment, packages, git, script ...), in full.

    Its stream is named by ``kind`` and ``digest`` (of the content), so that the same content is stored once in a ledger.

    >>> CaptureStored("packages", "0f" * 16, {"distributions": {"numpy": "2.1.0"}}).kind
    'packages'
    """

    kind: str
    digest: str
    content: dict[str, Any]


@event
class TrialCaptured(Event, omit_defaults=True):
    """What the trial runs with was taken down: digests of stored captures, by kind.

    >>> TrialCaptured({"packages": "0f" * 16}, attempt=1).captures
    {'packages': '0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f'}
    """

    captures: dict[str, str]
    attempt: int = 0


@event
class EnvironmentChanged(Event, omit_defaults=True):
    """From trial ``trial`` on, what the experiment's trials run with is something else than for the trial captured before.

    ``after`` has the digests of the kinds that are new or other, ``before`` those that they had; the first trial that is
    captured has nothing before. ``changes`` says in words what is different.

    >>> EnvironmentChanged(2, {"packages": "0f" * 16}, {"packages": "aa" * 16}, ["numpy 2.1.0 -> 2.2.0"]).changes
    ['numpy 2.1.0 -> 2.2.0']
    """

    trial: int
    after: dict[str, str]
    before: dict[str, str] = {}
    changes: list[str] = []
