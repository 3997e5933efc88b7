"""Texts: the distinct ones of a column, by number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from projections.columns import missing_texts, text_array


class Texts:
    """Texts by number, each distinct one once."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self.list = list(texts)
        self._codes: dict[str, int] | None = None  # made when it is needed: who only reads needs none
        self._made = missing_texts(0)  # the first ones as pandas takes them: to make them, it looks at each

    def codes(self, texts: Sequence[str]) -> Any:
        """Return the numbers of texts, new ones for those not seen before."""
        if self._codes is None:
            self._codes = {text: code for code, text in enumerate(self.list)}
        codes = self._codes
        for text in dict.fromkeys(texts):
            if text not in codes:
                codes[text] = len(codes)
                self.list.append(text)
        return np.fromiter(map(codes.__getitem__, texts), np.int32, len(texts))

    def take(self, codes: Any) -> Any:
        """Return the texts of numbers, as objects; None for those below 0."""
        texts = np.empty(len(self.list) + 1, object)
        texts[:-1] = self.list
        return texts[codes]  # the last one, None, is that of -1

    def array(self, codes: Any) -> Any:
        """Return the texts of numbers as pandas takes them; missing for those below 0."""
        if not self.list:
            return missing_texts(len(codes))
        new = self.list[len(self._made) :]
        if len(new) > len(codes):  # of a few rows: to look at theirs alone is sooner done
            return text_array(self.take(codes))
        if new:
            self._made = self._made._concat_same_type([self._made, text_array(np.array(new, object))])
        return self._made.take(codes, allow_fill=True)
