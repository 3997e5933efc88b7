"""What is kept beside the log."""

from ledger.registry import Event, event


@event
class ArtifactLogged(Event, omit_defaults=True):
    """A file, a directory or an object was kept as an artifact, under a name; a later one of that name counts instead.

    ``digest`` is the SHA-256 of the content in hexadecimal, of a directory that of its manifest; ``size`` the bytes of the
    content, of a directory those of its ``files``. ``kind`` is ``file``, ``directory`` or ``object``; an object was written
    by ``saver``, which ``module`` registers (empty for one of the package). ``attempt`` is that of the trial's worker.

    >>> ArtifactLogged("model.bin", "0" * 64, 1024).kind
    'file'
    """

    name: str
    digest: str
    size: int
    kind: str = "file"
    saver: str = ""
    module: str = ""
    media_type: str = ""
    files: int = 0
    attempt: int = 0
