"""One run of MLXP as its directory tells of it: config, info, metrics, artifacts, output.

Nothing in it is ever run: pickles stay bytes, and the marshalled code of custom types is left where it is.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ledger.errors import InvalidValue
from ledger.records import to_nanoseconds
from ledger.values import with_article

#: What MLXP and its schedulers leave in the run's own directory, and the names that ``ledger logs`` looks for.
_OUTPUT = {"log.stdout": "stdout.txt", "log.stderr": "stderr.txt", "script.sh": "script.sh"}
_OWN_METADATA = ("config", "info")
_LEFTOVER = "_tmp"  # MLXP writes an artifact under this name, and then moves it


class Line(NamedTuple):
    """One line of a metrics file: its number in the file from 0, and the values by key."""

    number: int
    values: dict[str, Any]


class MetricsFile(NamedTuple):
    """What a metrics file holds beyond what was read before.

    ``name`` is that of the log; ``seen`` is what to remember of the file: bytes and lines read, and a digest of them.
    """

    name: str
    lines: list[Line]
    seen: dict[str, Any]


class ArtifactFile(NamedTuple):
    """A file or directory to be kept: its name as an artifact, its type in MLXP's words (empty for output)."""

    name: str
    kind: str
    path: Path
    seen: list[int]  # size and time of change, of all that is in it


class Run(NamedTuple):
    """A run as read; ``problems`` is what could not be read of it, and did not keep the rest from being read."""

    log_id: int
    config: dict[str, Any]
    is_resolved: bool  # False for one that a scheduler has queued: its config may hold ${...}
    info: dict[str, Any]
    metadata: dict[str, Any]  # of other files, by name without .yaml
    started_at: int | None
    ended_at: int | None
    metrics: list[MetricsFile]
    artifacts: list[ArtifactFile]
    problems: list[str]


class BrokenRun(InvalidValue):
    """A run that cannot be imported as it is on disk."""


def run_directories(source: Path) -> list[Path]:
    """Return the directories of runs in MLXP's log directory, by number: those whose names are digits.

    Raises InvalidValue when there are none.
    """
    try:
        found = [entry for entry in os.scandir(source) if entry.name.isascii() and entry.name.isdigit() and entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise InvalidValue(f"there is no directory {str(source)!r}. Give MLXP's log directory, the one with the runs.") from None
    except PermissionError as error:
        raise InvalidValue(f"{source} cannot be read: {error.strerror}. Get the right (chmod), or give another.") from None
    if not found:
        is_run = (source / "metadata").is_dir()
        hint = "It is a run itself: give the directory above it." if is_run else "Give MLXP's log directory."
        raise InvalidValue(f"there are no runs of MLXP (directories 1, 2, 3 ...) in {source}. {hint}")
    return sorted((Path(entry.path) for entry in found), key=lambda path: (int(path.name), path.name))


def read_run(directory: Path, zone: dt.tzinfo | None, seen: Mapping[str, Any]) -> Run:
    """Read a run's directory; of metrics files only what comes after what ``seen`` says was read before.

    ``zone`` is that of the run's clock, None for that of this machine. Raises BrokenRun when config or info cannot be had.
    """
    problems: list[str] = []
    try:
        config, is_resolved = _config(directory)
        info = _mapping(directory / "metadata" / "info.yaml")
        metadata = dict(_other_metadata(directory, problems))
        metrics = [_metrics(path, seen.get(path.stem, {}), problems) for path in _metrics_files(directory)]
        artifacts = [*_artifacts(directory, problems), *_output(directory)]
    except OSError as error:
        raise BrokenRun(f"{error.filename or directory} cannot be read: {error.strerror or error}.") from error
    return Run(
        log_id=int(directory.name), config=config, is_resolved=is_resolved, info=info, metadata=metadata,
        started_at=_time(info, "start", zone, problems), ended_at=_time(info, "end", zone, problems),
        metrics=[file for file in metrics if file is not None], artifacts=artifacts, problems=problems,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- YAML


def load_yaml() -> Callable[[str], Any]:
    """Return the function that reads a text of YAML; a date stays the text it is, as in MLXP's configs.

    Raises InvalidValue when PyYAML is not installed.
    """
    try:
        import yaml
    except ModuleNotFoundError:
        raise InvalidValue(
            "MLXP writes YAML, which is read with PyYAML: pip install 'experiment-ledger[mlxp]'. Nothing was imported."
        ) from None
    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc]
        yaml_implicit_resolvers = {
            first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
            for first, pairs in base.yaml_implicit_resolvers.items()
        }

    def load(text: str) -> Any:
        try:
            return yaml.load(text, Loader)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise BrokenRun(" ".join(str(error).split())) from error

    return load


def _read_yaml(path: Path) -> Any:
    try:
        return load_yaml()(path.read_text("utf-8"))
    except UnicodeDecodeError as error:
        raise BrokenRun(f"{_place(path)} is not text: {error}.") from error
    except BrokenRun as error:
        raise BrokenRun(f"{_place(path)} is broken: {error}.") from error


def _mapping(path: Path) -> dict[str, Any]:
    try:
        value = _read_yaml(path)
    except FileNotFoundError:
        raise BrokenRun(f"{_place(path)} is missing.") from None
    if not isinstance(value, dict):
        what = "is empty" if value is None else f"holds {with_article(type(value).__name__)}"
        raise BrokenRun(f"{_place(path)} {what}; it should hold keys and values. MLXP may have been killed while writing it.")
    return value


def _place(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _config(directory: Path) -> tuple[dict[str, Any], bool]:
    metadata = directory / "metadata"
    if not (metadata / "config.yaml").exists():
        if not (metadata / "config_unresolved.yaml").exists():
            raise BrokenRun("metadata/config.yaml is missing.")
        return _config_of(metadata / "config_unresolved.yaml"), False
    return _config_of(metadata / "config.yaml"), True


def _config_of(path: Path) -> dict[str, Any]:
    """Return the config, nested as it is; parameters are named by texts."""
    return {key if isinstance(key, str) else str(key): value for key, value in _mapping(path).items()}


def _other_metadata(directory: Path, problems: list[str]) -> Iterator[tuple[str, Any]]:
    for path in sorted((directory / "metadata").glob("*.yaml")):
        if path.stem in _OWN_METADATA:
            continue
        try:
            yield path.stem, _read_yaml(path)
        except BrokenRun as error:
            problems.append(str(error))


def _time(info: Mapping[str, Any], which: str, zone: dt.tzinfo | None, problems: list[str]) -> int | None:
    """Return a time of the run's clock in ns since 1970 UTC; None when MLXP has not written it (yet)."""
    date, time = info.get(f"{which}_date"), info.get(f"{which}_time")
    if date is None and time is None:
        return None
    try:
        local = dt.datetime.strptime(f"{date} {time}", "%d/%m/%Y %H:%M:%S")
    except ValueError:
        problems.append(f"info.{which}_date {date!r} with info.{which}_time {time!r} is no time (dd/mm/YYYY, HH:MM:SS).")
        return None
    return to_nanoseconds(local.astimezone() if zone is None else local.replace(tzinfo=zone), f"info.{which}_time")


# ---------------------------------------------------------------------------------------------------------- metrics


def _metrics_files(directory: Path) -> list[Path]:
    return sorted((directory / "metrics").glob("*.json"))


def _metrics(path: Path, seen: Mapping[str, Any], problems: list[str]) -> MetricsFile | None:
    """Read the lines after those that were read before; None when there is nothing new.

    A line that is torn is told of and passed over. The last one without an end is left for the next time: it is being
    written.
    """
    size, before = seen.get("bytes", 0), seen.get("lines", 0)
    content = path.read_bytes()
    if size and _digest(content[:size]) != seen.get("digest"):
        problems.append(f"metrics/{path.name} is not the file that was imported before, with more lines: nothing of it is taken.")
        return None
    whole = content.rfind(b"\n") + 1
    tail = content[whole:].strip()
    if tail and whole >= size and _values(tail) is not None:  # whole, and only its end of line is missing
        whole, tail = len(content), b""
    if tail:
        problems.append(f"metrics/{path.name} ends in half a line ({_shown(tail)}), which is not taken.")
    if whole <= size:
        return None
    lines = []
    texts = content[size:whole].splitlines()
    if size and not content[:size].endswith(b"\n") and texts[0] == b"":
        del texts[0]  # the end of the line that was read last
    for number, text in enumerate(texts, start=before):
        values = _values(text)
        if values is not None:
            lines.append(Line(number, values))
        elif text.strip():
            problems.append(f"metrics/{path.name}, line {number + 1} is broken and not taken: {_shown(text)}.")
    return MetricsFile(path.stem, lines, {"bytes": whole, "lines": before + len(texts), "digest": _digest(content[:whole])})


def _values(text: bytes) -> dict[str, Any] | None:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _shown(text: bytes) -> str:
    return repr(text[:60].decode(errors="replace")) + ("..." if len(text) > 60 else "")


# -------------------------------------------------------------------------------------------------------- artifacts


def _artifacts(directory: Path, problems: list[str]) -> Iterator[ArtifactFile]:
    """Yield what is in artifacts/<type>/: first what MLXP registered, which may be directories, then other files."""
    root = directory / "artifacts"
    known: list[Path] = []
    for kind, path in _registered(root, problems):
        if not path.exists():
            problems.append(f"{path.relative_to(directory)} is registered as an artifact, and is not there.")
            continue
        known.append(path)
        yield _artifact_file(root, kind, path)
    if not root.is_dir():
        return
    for path in sorted(root.rglob("*")):
        kind = path.relative_to(root).parts[0]
        if path.is_dir() or path.parent == root or kind == ".keys" or path.name.endswith(_LEFTOVER):
            continue
        if not any(path.is_relative_to(other) for other in known):
            yield _artifact_file(root, kind, path)


def _registered(root: Path, problems: list[str]) -> Iterator[tuple[str, Path]]:
    try:
        keys = _mapping(root / ".keys" / "artifacts.yaml")
        for kind, folders in keys.items():
            for folder, files in folders.items():
                for name in files:
                    yield str(kind), _inside(root / str(kind), *str(folder).split("."), str(name))
    except (BrokenRun, AttributeError, TypeError) as error:
        if (root / ".keys" / "artifacts.yaml").exists():
            problems.append(f"artifacts/.keys/artifacts.yaml cannot be read, so the files there are taken: {error}")


def _inside(top: Path, *parts: str) -> Path:
    path = top.joinpath(*(part for part in parts if part))
    if not path.resolve().is_relative_to(top.resolve()):
        raise BrokenRun(f"{'/'.join(parts)} leads out of {top.name}.")
    return path


def _artifact_file(root: Path, kind: str, path: Path) -> ArtifactFile:
    return ArtifactFile(path.relative_to(root).as_posix(), kind, path, _seen(path))


def _output(directory: Path) -> Iterator[ArtifactFile]:
    for file, name in _OUTPUT.items():
        path = directory / file
        if path.is_file():
            yield ArtifactFile(name, "", path, _seen(path))


def _seen(path: Path) -> list[int]:
    found = [path.stat(), *(each.lstat() for each in (path.rglob("*") if path.is_dir() else ()))]
    return [sum(each.st_size for each in found), max(each.st_mtime_ns for each in found)]
