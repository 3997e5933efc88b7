"""The data of one config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from mlos_bench.storage.base_tunable_config_data import TunableConfigData

from ledger.integrations.mlos.values import text_of


class LedgerTunableConfigData(TunableConfigData):  # type: ignore[misc]
    """A config that was tried."""

    def __init__(self, config_id: int, config: Mapping[str, Any]) -> None:
        super().__init__(tunable_config_id=config_id)
        self._config = config

    @property
    def config_df(self) -> pd.DataFrame:
        """A row for each parameter, by name: ``parameter`` and ``value``, a text."""
        return pairs(self._config, "parameter")


def pairs(values: Mapping[str, Any], title: str) -> pd.DataFrame:
    """Return values by name as mlos_bench shows them: two columns, the name and the value as a text."""
    return pd.DataFrame([(name, text_of(value)) for name, value in sorted(values.items())], columns=[title, "value"])
