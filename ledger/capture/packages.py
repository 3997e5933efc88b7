"""Installed distributions: what `pip freeze` would say."""

from __future__ import annotations

import importlib.metadata
import json
from typing import Any

_MOST = 10_000


def capture_packages() -> dict[str, Any]:
    """Return the version of every installed distribution by its name; of one from elsewhere also the place and commit.

    >>> "msgspec" in capture_packages()["distributions"]
    True
    """
    found: dict[str, str] = {}
    unreadable = 0
    for distribution in importlib.metadata.distributions():
        name, version = distribution.metadata["Name"], distribution.version
        if not name or not version:
            unreadable += 1  # left over from an installation that was broken off
        elif name not in found and len(found) < _MOST:  # the first one on the path is the one that is imported
            found[name] = f"{version}{_origin(distribution)}"
    captured: dict[str, Any] = {"distributions": dict(sorted(found.items(), key=lambda item: item[0].lower()))}
    if unreadable:
        captured["problem"] = f"{unreadable} installed distributions have no name or version"
    return captured


def _origin(distribution: importlib.metadata.Distribution) -> str:
    """Return where a distribution is from that no index has: a directory that can be edited, a repository."""
    text = distribution.read_text("direct_url.json")
    if not text:
        return ""
    origin = json.loads(text)
    commit = origin.get("vcs_info", {}).get("commit_id")
    editable = " (editable)" if origin.get("dir_info", {}).get("editable") else ""
    return f" @ {origin.get('url')}{'@' + commit if commit else ''}{editable}"
