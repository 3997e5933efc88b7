"""The conformance suite: what every backend must do, as tests that a stranger runs on his own.

Derive a class whose name begins with ``Test`` in a test module of yours, and say how your backend is opened::

    # test_my_backend.py
    from ledger.testing import BackendConformance

    class TestMyBackend(BackendConformance):
        def open_backend(self, tmp_path, clock):
            return MyBackend(tmp_path / "log", clock=clock)

        def reopen(self, tmp_path, clock):          # only if the log outlives its handle
            return MyBackend(tmp_path / "log", clock=clock)

and run ``pytest test_my_backend.py``. Each test gets a log of its own, which is checked (``Backend.check``) and closed at
its end. ``clock`` is a ``FakeClock``: your backend must take its time from it. Each test says one sentence of the contract
in ``ledger.backends.base.Backend`` and ``ledger.log.EventLog``, which have the reasons.

The tests speak to the backend where they can, past the log above it, so that a fault of one is not hidden by the other.

>>> from ledger.backends.memory import MemoryBackend
>>> from ledger.testing import BackendConformance, FakeClock
>>> class TestMemory(BackendConformance):
...     def open_backend(self, tmp_path, clock):
...         return MemoryBackend(clock)
>>> TestMemory().test_an_empty_log_has_head_0_and_the_empty_tree(MemoryBackend(FakeClock()))

Needs pytest: ``pip install experiment-ledger[test]``.
"""

from __future__ import annotations

try:
    import pytest
except ImportError as error:
    raise ImportError(
        "ledger.testing needs pytest, which is not installed; install the extra: pip install 'experiment-ledger[test]'."
    ) from error

_PARTS = (
    "appends", "artifacts", "captures", "corrections", "evolution", "groups", "leases", "reads", "retries", "trials", "values",
    "waits",
)  # fmt: skip
pytest.register_assert_rewrite(*(f"{__name__}.{part}" for part in _PARTS))

from ledger.testing.appends import AppendContract  # noqa: E402 - their asserts are to be rewritten
from ledger.testing.artifacts import ArtifactContract  # noqa: E402
from ledger.testing.captures import CaptureContract  # noqa: E402
from ledger.testing.clock import FakeClock  # noqa: E402
from ledger.testing.corrections import CorrectionContract  # noqa: E402
from ledger.testing.evolution import EvolutionContract  # noqa: E402
from ledger.testing.groups import GroupContract  # noqa: E402
from ledger.testing.leases import LeaseContract  # noqa: E402
from ledger.testing.reads import ReadContract  # noqa: E402
from ledger.testing.retries import RetryContract  # noqa: E402
from ledger.testing.trials import TrialContract  # noqa: E402
from ledger.testing.values import ValueContract  # noqa: E402
from ledger.testing.waits import WaitContract  # noqa: E402

__all__ = ["BackendConformance", "FakeClock"]


class BackendConformance(
    AppendContract, GroupContract, RetryContract, ReadContract, ValueContract, EvolutionContract, TrialContract, LeaseContract,
    WaitContract, CorrectionContract, ArtifactContract, CaptureContract,
):  # fmt: skip
    """All tests of the contract; derive from it and define ``open_backend``, and ``reopen`` if the log can be."""
