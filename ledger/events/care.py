"""What happens to the ledger itself, and to its records."""

from ledger.registry import Event, event


@event
class PayloadRedacted(Event, omit_defaults=True):
    """The payload of a record was dropped (a leaked secret): of version ``version`` of the same stream.

    ``type`` is the record's, ``remainder`` the payload that stands in its place, as bytes: the event without what people
    put into it. Position, id and leaf hash of the record stay. Who and why are this record's actor and reason.

    >>> PayloadRedacted(version=4, type="NoteAdded", remainder=b"\\x81\\xa4text\\xa0").version
    4
    """

    version: int
    type: str
    remainder: bytes


@event
class ExperimentsMerged(Event, omit_defaults=True):
    """Records of another ledger were copied here, as new records of the same experiments; in the stream ``ledger``.

    ``source`` is the other ledger's id, ``size`` and ``root`` its Merkle tree at that moment, ``records`` how many were
    copied, ``experiments`` the streams they belong to. An experiment that was given another name is in ``renamed``.

    >>> ExperimentsMerged("0192f5ab-3c4d-7e8f-9a0b-1c2d3e4f5061", size=9, root=b"", records=7, experiments=[]).records
    7
    """

    source: str
    size: int
    root: bytes
    records: int
    experiments: list[str]
    renamed: dict[str, str] = {}


@event
class ClockSkewed(Event, omit_defaults=True):
    """The clock stood over a minute behind the newest record; ``raw_time`` is what it said (ns since 1970 UTC).

    >>> ClockSkewed(raw_time=1_700_000_000_000_000_000, behind_seconds=86_400.0).behind_seconds
    86400.0
    """

    raw_time: int
    behind_seconds: float
