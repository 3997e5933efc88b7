"""Texts: the distinct ones of a column by number, and the objects made of them."""

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


class TextCells:
    """The texts of a column as pandas takes them: objects, of which those made before are not made again."""

    def __init__(self) -> None:
        self._made, self._count = missing_texts(0), 0
        self._stale: list[Any] = []

    def written(self, rows: Any) -> None:
        """Take note that cells have been written, given as an array of their rows or a slice at the end."""
        if self._count and not isinstance(rows, slice):
            self._stale.append(rows[rows < self._count])

    def array(self, codes: Any, texts: Texts) -> Any:
        """Return the texts of the codes of all cells."""
        if not texts.list:
            return missing_texts(len(codes))
        if not self._count:
            self._made = text_array(texts.take(codes))
        elif len(codes) > len(self._made):
            more = missing_texts(len(codes) + len(codes) // 2 - len(self._made))
            self._made = type(more)._concat_same_type([self._made, more])
        new = slice(self._count or len(codes), len(codes))
        for rows in (*self._stale, *([new] if (codes[new] >= 0).any() else [])):  # what is not made yet is missing
            self._made[rows] = text_array(texts.take(codes[rows]))
        self._count, self._stale = len(codes), []
        return self._made[: len(codes)].copy()
