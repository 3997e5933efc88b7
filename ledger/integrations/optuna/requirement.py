"""What of the extra ``optuna`` is needed: looked for before anything else is imported, so that the error tells the cure."""

from __future__ import annotations

import importlib
import re

_OLDEST = (4, 4)  # in 4.3 NSGA-II, the sampler of several objectives, takes ids of trials for their numbers, and fails


def require(what: str) -> None:
    """Raise ImportError, with the cure, unless an Optuna is installed that is new enough for ``what``."""
    cure = "pip install --upgrade 'experiment-ledger[optuna]'"
    try:
        optuna = importlib.import_module("optuna")
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise ModuleNotFoundError(
            f"{what} needs Optuna, which is not installed: {cure.replace('--upgrade ', '')}.", name="optuna"
        ) from error
    version = str(optuna.__version__)
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        raise ImportError(f"{what} needs Optuna {oldest} or newer, and {version} is installed: {cure}.", name="optuna")
