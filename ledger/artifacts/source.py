"""What is given to be kept as an artifact: checked first, then saved."""

from __future__ import annotations

import mimetypes
import os
from pathlib import Path
from typing import Any

from ledger import events as ev
from ledger.artifacts.blobs import Saving
from ledger.artifacts.content import Content, Progress, kind_of, save_directory, save_file, save_object
from ledger.artifacts.savers import saver_for, saver_named
from ledger.errors import InvalidValue
from ledger.values import check_label, check_text, with_article

_MAX_NAME = 1024


class Source:
    """A file, a directory or an object; raises InvalidValue for what cannot be kept under that name.

    >>> Source("lr,loss", "table.csv").name
    'table.csv'
    """

    def __init__(self, value: Any, name: str | None = None, *, saver: str | None = None, media_type: str | None = None) -> None:
        self._value = value
        self._path = Path(value) if isinstance(value, os.PathLike) else None
        self.name = _checked_name(name, value, self._path)
        self._kind = "object" if self._path is None else kind_of(self._path)
        self._saver = saver_named(saver) if saver is not None else saver_for(value) if self._path is None else None
        if self._kind == "directory" and self._saver is not None:
            raise InvalidValue(f"{self._path} is a directory; no saver loads one. Leave saver= out.")
        self._media_type = None if media_type is None else check_label(media_type, "the media type")

    def save(self, saving: Saving, attempt: int = 0, progress: Progress | None = None) -> ev.ArtifactLogged:
        """Write the content to the store; return the event that refers to it."""
        content = self._save(saving, progress)
        saver = (self._saver.name, self._saver.module) if self._saver else ("", "")
        return ev.ArtifactLogged(
            self.name, content.digest, content.size, content.kind, *saver, self._said_media_type(), content.files, attempt
        )

    def _save(self, saving: Saving, progress: Progress | None) -> Content:
        if self._path is None:
            assert self._saver is not None  # chosen for the value
            return save_object(saving, self._saver, self._value, f"the artifact {self.name!r}")
        return (save_file if self._kind == "file" else save_directory)(saving, self._path, progress)

    def _said_media_type(self) -> str:
        if self._media_type is not None:
            return self._media_type
        if self._saver is not None:
            return self._saver.media_type
        return "" if self._kind == "directory" else mimetypes.guess_type(self.name)[0] or ""


def _checked_name(name: str | None, value: Any, path: Path | None) -> str:
    if name is None:
        if path is None:
            hint = f" If it is a path, give pathlib.Path({value!r:.100})." if isinstance(value, str) and "\n" not in value else ""
            raise InvalidValue(
                f"an artifact made of {with_article(type(value).__name__)} needs a name: log_artifact(value, name=...).{hint}"
            )
        name = path.resolve().name
    if type(name) is not str or not name.strip() or len(name) > _MAX_NAME:
        raise InvalidValue(f"the artifact's name is {name!r:.100}; give a text of 1 to {_MAX_NAME:,} characters.")
    return check_label(check_text(name, "the artifact's name"), "the artifact's name")
