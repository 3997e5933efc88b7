"""Artifacts: what is kept comes back as it was, whatever it is, or an error says why not."""

from __future__ import annotations

import datetime as dt
import errno
import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ledger
from ledger import events as ev
from ledger.artifacts import savers
from ledger.artifacts.blobs import BlobStore
from ledger.artifacts.savers import register_saver
from ledger.audit import verify


@pytest.fixture(params=["memory:", "directory"])
def either(request: pytest.FixtureRequest, ledger_path: Path) -> Iterator[ledger.Ledger]:
    """A ledger of each kind."""
    with ledger.open("memory:" if request.param == "memory:" else ledger_path) as opened:
        yield opened


@pytest.fixture
def own_savers() -> Iterator[None]:
    """Savers that a test registers are gone after it."""
    known = dict(savers._by_name), dict(savers._by_type)
    yield
    savers._by_name, savers._by_type = known


@pytest.fixture
def trial(either: ledger.Ledger) -> ledger.Trial:
    """A trial in a ledger of each kind."""
    return either.experiment("e").new_trial({})


def files_in(directory: Path) -> list[Path]:
    """Return the files below a directory."""
    return sorted(path for path in directory.rglob("*") if path.is_file())


def spoil(path: Path, content: bytes) -> None:
    """Write to what nobody should write to."""
    path.chmod(0o644)
    path.write_bytes(content)


# ---------------------------------------------------------------------------------------------------- what is kept


@pytest.mark.parametrize(
    ("value", "saver"),
    [
        (b"", "bytes"), (b"\0\xff" * 10, "bytes"), ("", "text"), ("größe 🚀\n", "text"), (None, "json"), (True, "json"),
        ({"a": (1, 2**80), "b": [Decimal("1.50"), dt.datetime(2026, 1, 1, tzinfo=dt.UTC)], "c": b"x"}, "json"),
        (UUID(int=5), "json"), ({1: 2, "$x": float("inf")}, "json"), ([], "json"), ((), "json"),
    ],
)  # fmt: skip
def test_objects_come_back_as_they_were(trial: ledger.Trial, value: Any, saver: str) -> None:
    """Of the same value and the same type, from the trial and from a new handle of it."""
    artifact = trial.log_artifact(value, name="x")
    assert (artifact.kind, artifact.saver, artifact.name) == ("object", saver, "x")
    for loaded in (artifact.load(), trial.experiment.trial(1).artifact("x").load()):
        assert (type(loaded), loaded) == (type(value), value)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4), np.array([], dtype="i2"), np.array(5), np.asfortranarray(np.ones((3, 2))),
        np.array(["a", "bc"]), np.array([1 + 2j]), np.array(["2026-01-01"], dtype="M8[s]"), np.zeros(300_000),
        np.arange(20)[::3],
    ],
)  # fmt: skip
def test_arrays_come_back_as_they_were(trial: ledger.Trial, array: np.ndarray) -> None:
    """Shape, dtype and values of numpy arrays are kept."""
    loaded = trial.log_artifact(array, name="x").load()
    assert (loaded.shape, loaded.dtype) == (array.shape, array.dtype)
    assert np.array_equal(loaded, array)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=5000), st.integers(0, 600))
def test_bytes_of_any_size_come_back(piece: bytes, times: int) -> None:
    """Also over the sizes at which they are compressed, hashed aside, or kept in a file while they are loaded."""
    with ledger.open("memory:") as book:
        artifact = book.experiment("e").log_artifact(piece * times, name="x")
        assert artifact.size == len(piece) * times
        assert artifact.load() == artifact.read_bytes() == piece * times


def test_what_is_compressed_and_large_comes_back(trial: ledger.Trial) -> None:
    """Content that does not fit into the memory set aside for loading goes by a temporary file."""
    array = np.zeros(5_000_000)
    array[::1000] = np.arange(5000)
    artifact = trial.log_artifact(array, name="x")
    assert artifact.stored_size < artifact.size / 10
    assert np.array_equal(artifact.load(), array)


def test_what_cannot_be_compressed_is_kept_as_it_is(book: ledger.Ledger, tmp_path: Path) -> None:
    """Random bytes lie in the blob as they are, a text as a zstandard file; other tools can read both."""
    noise = os.urandom(3 << 20)
    (tmp_path / "noise").write_bytes(noise)
    (tmp_path / "text").write_bytes(b"text " * 1_000_000)
    exp = book.experiment("e")
    first, second = exp.log_artifact(tmp_path / "noise"), exp.log_artifact(tmp_path / "text")
    assert book.log.backend.blobs.place(first.digest).read_bytes() == noise
    import zstandard

    with open(book.log.backend.blobs.place(second.digest, is_compressed=True), "rb") as file:
        assert zstandard.ZstdDecompressor().stream_reader(file).read() == b"text " * 1_000_000


def test_the_same_content_is_kept_once(book: ledger.Ledger, tmp_path: Path) -> None:
    """Whatever it is called, whoever it belongs to, a file in a directory too; and it is not written again."""
    place = tmp_path / "directory"
    place.mkdir()
    for name in "abc":
        (place / name).write_bytes(b"same")
    exp = book.experiment("e")
    digest = exp.log_artifact(b"same", name="x").digest
    before = book.log.backend.blobs.place(digest).stat()
    exp.new_trial({}).log_artifact(place / "a", name="y")
    exp.log_artifact(place)
    after = book.log.backend.blobs.place(digest).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert len(files_in(Path(book.path) / "blobs")) == 2, "the content and the manifest"
    exp.log_artifact(place, name="again")
    assert len(files_in(Path(book.path) / "blobs")) == 2


def test_a_directory_comes_back_whole(trial: ledger.Trial, tmp_path: Path) -> None:
    """Files, modes, empty directories, links, names of any bytes."""
    place = tmp_path / "directory"
    (place / "sub" / "empty").mkdir(parents=True)
    (place / "sub" / "new\nline \x1b 🚀").write_text("odd")
    (place / os.fsdecode(b"\xff\xfe")).write_text("undecodable")
    (place / "run.sh").write_text("#!/bin/sh\n")
    (place / "run.sh").chmod(0o755)
    (place / "link").symlink_to("sub/../run.sh")
    (place / "dangling").symlink_to("not-there-yet")
    artifact = trial.log_artifact(place)
    assert (artifact.name, artifact.kind, artifact.files, artifact.size) == ("directory", "directory", 3, 3 + 11 + 10)
    made = artifact.save_to(tmp_path / "out")
    names = sorted(os.path.relpath(path, place) for path in place.rglob("*"))
    assert names == sorted(os.path.relpath(path, made) for path in made.rglob("*"))
    assert (made / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (os.readlink(made / "link"), os.readlink(made / "dangling")) == ("sub/../run.sh", "not-there-yet")
    assert artifact.read_bytes("sub/new\nline \x1b 🚀") == b"odd"
    assert trial.log_artifact(made, name="again").digest == artifact.digest
    with pytest.raises(ledger.UnknownArtifact, match="no file 'nope'"):
        artifact.open("nope")
    with pytest.raises(ledger.InvalidValue, match="name a file in it"):
        artifact.read_bytes()


def test_a_directory_with_what_cannot_be_kept_is_refused(trial: ledger.Trial, tmp_path: Path) -> None:
    """Links that lead out, and pipes, are named; nothing is recorded, and nothing is left."""
    for name, make, match in (
        ("absolute", lambda path: path.symlink_to("/etc/passwd"), "outside of what is saved"),
        ("upward", lambda path: path.symlink_to("../../secret"), "outside of what is saved"),
        ("pipe", os.mkfifo, "neither a file, a directory nor a link"),
    ):
        place = tmp_path / name
        place.mkdir()
        (place / "good").write_text("good")
        make(place / "bad")
        with pytest.raises(ledger.InvalidValue, match=match):
            trial.log_artifact(place)
    assert not trial.artifacts
    assert list(trial.experiment.book.log.backend.blobs.blobs()) == []


def test_a_directory_with_the_ledger_in_it_is_refused(book: ledger.Ledger, tmp_path: Path) -> None:
    """It would have to hold itself."""
    exp = book.experiment("e")
    (tmp_path / "link").symlink_to(tmp_path)
    for path in (tmp_path, Path(book.path), tmp_path / "link"):
        with pytest.raises(ledger.InvalidValue, match="has the ledger itself in it"):
            exp.log_artifact(path)
    assert not exp.artifacts


def test_a_file_is_what_its_path_is_and_a_text_is_a_text(trial: ledger.Trial, tmp_path: Path) -> None:
    """A pathlib path stands for the file; a str is its own content, and one that looks like a path asks for a name."""
    (tmp_path / "table.csv").write_text("a,b")
    artifact = trial.log_artifact(tmp_path / "table.csv")
    assert (artifact.name, artifact.kind, artifact.media_type, artifact.read_bytes()) == ("table.csv", "file", "text/csv", b"a,b")
    assert trial.log_artifact(str(tmp_path / "table.csv"), name="path").load() == str(tmp_path / "table.csv")
    with pytest.raises(ledger.InvalidValue, match=r"needs a name.*pathlib\.Path"):
        trial.log_artifact("table.csv")
    with pytest.raises(ledger.LoadError, match="no saver was named"):
        artifact.load()
    np.save(tmp_path / "array.npy", np.arange(3))
    assert trial.log_artifact(tmp_path / "array.npy", saver="numpy").load().tolist() == [0, 1, 2]


def test_files_without_a_size_are_read_to_their_end(trial: ledger.Trial) -> None:
    """What the system makes up as it is read says that it has no bytes, and has some."""
    assert b"Name:" in trial.log_artifact(Path("/proc/self/status")).read_bytes()


@pytest.mark.parametrize("name", ["a/b/../c", "größe 🚀", ".", "x" * 1024, "a\nb\x1b[31m", " leading"])
def test_a_name_may_be_any_text(trial: ledger.Trial, name: str) -> None:
    """Names are no paths: slashes and control characters do no harm."""
    trial.log_artifact(b"1", name=name)
    assert trial.artifact(name).read_bytes() == b"1"


@pytest.mark.parametrize("name", ["", " \n", "x" * 1025, 5, "\udcff"])
def test_a_name_that_is_none_is_refused(trial: ledger.Trial, name: Any) -> None:
    """Empty, endless, undecodable, or not a text."""
    with pytest.raises(ledger.InvalidValue, match="name"):
        trial.log_artifact(b"1", name=name)
    assert not trial.artifacts


# ------------------------------------------------------------------------------------------------------ what is not


def test_what_contains_itself_is_refused(trial: ledger.Trial) -> None:
    """A list in itself is no JSON; as a pickle it comes back."""
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ledger.InvalidValue, match="contains itself"):
        trial.log_artifact(endless, name="x")
    loaded = trial.log_artifact(endless, name="x", saver="pickle").load(allow_pickle=True)
    assert loaded[0] is loaded


class Spiteful:
    """What raises when it is asked to pickle itself."""

    def __reduce__(self) -> Any:
        raise RecursionError("no")


@pytest.mark.parametrize("value", [lambda: 0, Spiteful(), (x for x in ())])
def test_what_cannot_be_pickled_is_refused(either: ledger.Ledger, trial: ledger.Trial, value: Any) -> None:
    """The error names the type and the saver; nothing is recorded, and nothing is left."""
    with pytest.raises(ledger.InvalidValue, match=r"saver 'pickle' cannot write.*Nothing was recorded"):
        trial.log_artifact(value, name="x", saver="pickle")
    assert not trial.artifacts
    assert [path for path in either.log.backend.blobs.directory.rglob("*") if path.is_file()] == []
    trial.log_artifact(b"after", name="x")


@pytest.mark.parametrize("value", [{1, 2}, object(), np.ma.masked_array([1, 2], [0, 1]), range(3), np.array([{}])])
def test_what_no_saver_is_known_for_is_refused(trial: ledger.Trial, value: Any) -> None:
    """Nothing is pickled without being asked to; subclasses, which would come back as something else, neither."""
    with pytest.raises(ledger.InvalidValue, match=r"Register one|Give it a dtype"):
        trial.log_artifact(value, name="x")


def test_a_pickle_is_loaded_when_asked_for_only(trial: ledger.Trial, tmp_path: Path) -> None:
    """The error says that it runs code; and none of it ran."""

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "ran"),)

    (tmp_path / "evil.pickle").write_bytes(pickle.dumps(Evil()))
    artifact = trial.log_artifact(tmp_path / "evil.pickle", saver="pickle")
    with pytest.raises(ledger.PickleRefused, match=r"runs whatever code.*allow_pickle=True"):
        artifact.load()
    assert not (tmp_path / "ran").exists()
    artifact.load(allow_pickle=True)
    assert (tmp_path / "ran").exists()


def test_data_frames_say_what_they_need(trial: ledger.Trial) -> None:
    """With pyarrow they come back; without it the error names what to install."""
    import pandas as pd

    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=pd.Index([5, 6], name="i"))
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        with pytest.raises(ledger.InvalidValue, match=r"experiment-ledger\[parquet\]"):
            trial.log_artifact(frame, name="x")
        return
    pd.testing.assert_frame_equal(trial.log_artifact(frame, name="x").load(), frame)
    with pytest.raises(ledger.InvalidValue, match="'parquet' cannot write"):
        trial.log_artifact(pd.DataFrame({1: [object()]}), name="x")


def test_what_is_not_there_is_refused(trial: ledger.Trial, tmp_path: Path) -> None:
    """A path without a file, a pipe, a directory with a saver, a saver that is not known."""
    os.mkfifo(tmp_path / "pipe")
    for value, more, match in (
        (tmp_path / "nothing", {}, "no file at"),
        (tmp_path / "pipe", {}, "neither a file nor a directory"),
        (tmp_path, {"saver": "numpy"}, "no saver loads one"),
        (b"x", {"saver": "nope"}, "no saver 'nope'; there are bytes"),
    ):
        with pytest.raises(ledger.InvalidValue, match=match):
            trial.log_artifact(value, name="x", **more)
    assert not trial.artifacts


# ---------------------------------------------------------------------------------------------------------- savers


class Point:
    """A type that the package does not know."""

    def __init__(self, x: int) -> None:
        self.x = x


class Point3(Point):
    """One derived from it."""


@pytest.mark.usefixtures("own_savers")
def test_registered_savers_are_chosen_by_the_nearest_type(trial: ledger.Trial) -> None:
    """A class is saved by its own saver, a derived one by its nearest base's; registering again replaces."""
    register_saver("point", Point, save=lambda p, f: f.write(b"0"), load=lambda f: None)
    register_saver("point", Point, save=lambda p, f: f.write(b"%d" % p.x), load=lambda f: Point(int(f.read())))
    assert trial.log_artifact(Point3(7), name="x").load().x == 7
    register_saver("point3", Point3, save=lambda p, f: f.write(b"3"), load=lambda f: 3)
    assert trial.log_artifact(Point3(7), name="x").load() == 3
    with pytest.raises(ledger.InvalidValue, match="the package's own"):
        register_saver("json", Point, save=print, load=print)
    with pytest.raises(ledger.InvalidValue, match="is registered by"):
        register_saver("point", Point, save=print, load=print, module="elsewhere")
    with pytest.raises(ledger.InvalidValue, match="two functions"):
        register_saver("other", Point, save=print, load=None)  # type: ignore[arg-type]
    with pytest.raises(ledger.InvalidValue, match="no class"):
        register_saver("other", "Point", save=print, load=print)  # type: ignore[arg-type]


@pytest.mark.usefixtures("own_savers")
def test_a_loader_that_fails_says_which(trial: ledger.Trial) -> None:
    """What a loader raises is told with the artifact and the saver; the bytes are there all the same."""
    register_saver("broken", None, save=lambda value, file: file.write(value), load=lambda file: 1 / 0)
    artifact = trial.log_artifact(b"x", name="x", saver="broken")
    with pytest.raises(ledger.LoadError, match=r"'x'.*saver 'broken'.*ZeroDivisionError"):
        artifact.load()
    assert artifact.read_bytes() == b"x"


@pytest.mark.usefixtures("own_savers")
def test_a_saver_that_fails_half_way_leaves_nothing(either: ledger.Ledger, trial: ledger.Trial) -> None:
    """Neither an event nor a blob nor a directory to work in."""

    def save(value: Any, file: Any) -> None:
        file.write(b"half" * 1_000_000)
        raise RuntimeError("and no more")

    register_saver("half", None, save=save, load=lambda file: None)
    with pytest.raises(ledger.InvalidValue, match="RuntimeError: and no more"):
        trial.log_artifact(b"x", name="x", saver="half")
    assert list(either.log.backend.blobs.directory.iterdir()) == []


_MODULE = """
import ledger

class Fruit:
    def __init__(self, name):
        self.name = name

def save(fruit, file):
    file.write(fruit.name.encode())

ledger.register_saver("fruit", Fruit, save=save, load=lambda file: Fruit(file.read().decode()))
"""


def _run(code: str, *arguments: object, path: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), *sys.path])}
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_registered_types_survive_processes(ledger_path: Path, tmp_path: Path) -> None:
    """Another process loads what a module's saver wrote, without importing it first; without the module it says what is
    missing, and the bytes are there."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "fruits.py").write_text(_MODULE)
    saving = """
        import sys, ledger, fruits
        with ledger.open(sys.argv[1]) as book:
            book.experiment("e").log_artifact(fruits.Fruit("plum"), name="x")
    """
    loading = """
        import sys, ledger
        with ledger.open(sys.argv[1]) as book:
            artifact = book.experiment("e").artifact("x")
            try:
                print(artifact.load().name)
            except ledger.LoadError as error:
                print(error, artifact.read_bytes())
    """
    _run(saving, ledger_path, path=tmp_path / "modules")
    assert _run(loading, ledger_path, path=tmp_path / "modules") == "plum"
    said = _run(loading, ledger_path, path=tmp_path)
    assert "the module 'fruits' registers" in said
    assert said.endswith("b'plum'")
    (tmp_path / "modules" / "fruits.py").write_text("")
    assert "registered then, and does not now" in _run(loading, ledger_path, path=tmp_path / "modules")
    script = "import sys, ledger\n" + _MODULE + textwrap.dedent(saving.replace("fruits.Fruit", "Fruit").replace(", fruits", ""))
    _run(script, ledger_path, path=tmp_path)
    assert "in a script that was run" in _run(loading, ledger_path, path=tmp_path)


# --------------------------------------------------------------------------------------------------------- history


def test_a_later_artifact_counts_and_both_are_there(trial: ledger.Trial) -> None:
    """The name gives the later one; the earlier one is found by its version, and is in history."""
    first = trial.log_artifact(b"1", name="x")
    second = trial.log_artifact(b"2", name="x")
    assert dict(trial.artifacts)["x"].read_bytes() == b"2"
    assert trial.artifact("x", version=first.version).read_bytes() == b"1"
    assert first.version < second.version
    assert [record.event.name for record in trial.history() if isinstance(record.event, ev.ArtifactLogged)] == ["x", "x"]
    with pytest.raises(ledger.UnknownArtifact, match=r"'y'.*There are: 'x'"):
        trial.artifact("y")
    with pytest.raises(KeyError):
        trial.artifacts["y"]


def test_experiments_have_artifacts_of_their_own(either: ledger.Ledger) -> None:
    """Those of an experiment are not those of its trials."""
    exp = either.experiment("e")
    exp.log_artifact("plan", name="plan", reason="as agreed")
    assert list(exp.artifacts) == ["plan"]
    assert not exp.new_trial({}).artifacts
    assert [record.reason for record in exp.history()] == [None, "as agreed"]


def test_a_worker_that_lost_the_trial_does_not_replace_the_next_ones(ledger_path: Path) -> None:
    """What it saves late is kept as evidence, in history, and the artifact of the later attempt counts."""
    now = [1_800_000_000_000_000_000]
    with ledger.open(ledger_path, clock=lambda: now[0]) as book:
        exp = book.experiment("e")
        exp.new_trial({})
        late = exp.claim(worker="w1", lease_seconds=10)
        assert late is not None
        late._lease.stop()  # type: ignore[union-attr]
        late.log_artifact(b"early", name="early")
        now[0] += 20 * 10**9
        job = exp.claim(worker="w2", lease_seconds=10)
        assert job is not None
        job.log_artifact(b"second", name="model")
        late.log_artifact(b"first", name="model")
        assert (job.artifact("model").attempt, job.artifact("model").read_bytes()) == (2, b"second")
        assert job.artifact("early").attempt == 1
        assert [each.event.attempt for each in exp.trial(1).history() if each.type == "ArtifactLogged"] == [1, 2, 1]
        exp.trial(1).log_artifact(b"by a person", name="model")
        assert exp.trial(1).artifact("model").read_bytes() == b"by a person"


def test_a_sealed_experiment_takes_no_artifacts(either: ledger.Ledger, tmp_path: Path) -> None:
    """It is refused before anything is copied."""
    exp = either.experiment("e")
    trial = exp.new_trial({})
    exp.seal("done")
    (tmp_path / "large").write_bytes(b"x")
    for owner in (exp, trial):
        with pytest.raises(ledger.ExperimentReadOnly):
            owner.log_artifact(tmp_path / "large", progress=lambda done, total: pytest.fail("it was copied"))


def test_events_that_no_content_could_be_found_for_are_refused(either: ledger.Ledger) -> None:
    """An artifact is appended with a name and a digest, of a kind that is known."""
    exp = either.experiment("e")
    trial = exp.new_trial({})
    for bad in (
        ev.ArtifactLogged("", "ab" * 32, 1), ev.ArtifactLogged("x", "", 1), ev.ArtifactLogged("x", "../../etc/passwd", 1),
        ev.ArtifactLogged("x", "AB" * 32, 1), ev.ArtifactLogged("x", "ab" * 32, -1),
        ev.ArtifactLogged("x", "ab" * 32, 1, "symlink"), ev.ArtifactLogged("x", "ab" * 32, 1, files=-1),
    ):  # fmt: skip
        for stream in (exp.stream, trial.stream):
            with pytest.raises(ledger.InvalidValue):
                either.log.append([bad], stream=stream)
    with pytest.raises(ledger.InvalidValue, match="belongs in the stream of an experiment or a trial"):
        either.log.append([ev.ArtifactLogged("x", "ab" * 32, 1)], stream="diary")


def test_a_readonly_handle_saves_nothing(ledger_path: Path) -> None:
    """It is refused before anything is copied; what is there can be read."""
    with ledger.open(ledger_path) as book:
        book.experiment("e").log_artifact(b"x", name="x")
    with ledger.open(ledger_path, readonly=True) as book:
        exp = book.get_experiment("e")
        with pytest.raises(ledger.ReadOnlyLedger):
            exp.log_artifact(b"y", name="y")
        with pytest.raises(ledger.ReadOnlyLedger):
            book.collect_garbage()
        assert exp.artifact("x").read_bytes() == b"x"
        assert book.collect_garbage(dry_run=True).kept == 1


# --------------------------------------------------------------------------------------------------------- damage


def damages(stored: bytes) -> list[bytes | None]:
    """Return what a disk may make of a blob: flipped bits, cut short, too long, empty; None is gone."""
    flipped = [
        bytes([*stored[:at], stored[at] ^ 1 << at % 8, *stored[at + 1 :]]) for at in {0, len(stored) // 2, len(stored) - 1}
    ]
    return [*flipped, stored[:-1], stored + b"\0", b"", None]


def outcome(read: Callable[[], Any]) -> tuple[Any, str | None]:
    """Return what was read, or what Corrupted says."""
    try:
        got = read()
    except ledger.Corrupted as error:
        return None, str(error)
    return got.read_bytes() if isinstance(got, Path) else got, None


@pytest.mark.parametrize("value", [b"some bytes of a model", b"text that is compressed " * 1000])
def test_damage_is_named_and_nothing_of_it_is_loaded(ledger_path: Path, tmp_path: Path, value: bytes) -> None:
    """Every way to read raises Corrupted with artifact and file; a full verification names both."""
    with ledger.open(ledger_path) as book:
        artifact = book.experiment("e").log_artifact(value, name="model")
        stored = book.log.backend.blobs.find(artifact.digest)
        assert stored is not None
        right = stored.path.read_bytes()
        for damage in damages(right):
            if damage is None:
                stored.path.unlink()
            else:
                spoil(stored.path, damage)
            for read in (artifact.load, artifact.read_bytes, lambda: artifact.save_to(tmp_path / "out")):
                got, error = outcome(read)
                assert error is None or ("'model'" in error and artifact.digest in error)
                # Flipped bits of a compressed file's header may mean the same; no other bytes are ever returned.
                assert error is not None or (damage is not None and got == value)
                (tmp_path / "out").unlink(missing_ok=True)
            assert os.listdir(tmp_path) == ["runs.ledger"]
            problems = verify(ledger_path, artifacts="content").problems
            assert not damage or len(damage) > len(right) or [each for each in problems if "'model'" in each]
        spoil(stored.path, right) if stored.path.exists() else stored.path.write_bytes(right)
        assert artifact.load() == value


def test_verify_sees_that_artifacts_are_there_and_reads_them_when_asked_to(ledger_path: Path) -> None:
    """By default what is missing or has another size is a problem; wrong bytes are one when the content is read."""
    with ledger.open(ledger_path) as book:
        exp = book.experiment("e")
        first, second = exp.log_artifact(b"first", name="first"), exp.log_artifact(b"second", name="second")
        place = book.log.backend.blobs.place
        spoil(place(first.digest), b"fisrt")
        assert verify(ledger_path).ok
        (problem,) = verify(ledger_path, artifacts="content").problems
        assert "'first' (position 2) is damaged" in problem
        spoil(place(first.digest), b"first")
        place(second.digest).unlink()
        (problem,) = verify(ledger_path).problems
        assert "'second' (position 3) is missing" in problem
        assert verify(ledger_path, artifacts="skip").ok
        exp.new_trial({}).delete()
        book.redact(3, reason="lost for good")
        verify(ledger_path).raise_for_problem()
        with pytest.raises(ledger.InvalidValue, match="give one of"):
            verify(ledger_path, artifacts="nope")


def test_a_damaged_manifest_hides_nothing(book: ledger.Ledger, tmp_path: Path) -> None:
    """The directory cannot be read, the verification says so, and the garbage collection removes nothing."""
    place = tmp_path / "directory"
    place.mkdir()
    (place / "a").write_text("a")
    exp = book.experiment("e")
    artifact = exp.log_artifact(place)
    path = book.log.backend.blobs.place(artifact.digest)
    right = path.read_bytes()
    spoil(path, right.replace(b'"a"', b'"b"'))
    with pytest.raises(ledger.Corrupted, match="'directory'"):
        artifact.entries()
    assert not verify(book.path).ok
    with pytest.raises(ledger.Corrupted, match="nothing was removed"):
        book.collect_garbage(grace_seconds=0)
    spoil(path, right)
    assert artifact.read_bytes("a") == b"a"


def test_a_manifest_that_leads_out_is_refused(book: ledger.Ledger, tmp_path: Path) -> None:
    """What somebody else wrote into a ledger cannot write outside of the directory that is asked for."""
    exp = book.experiment("e")
    inside = exp.log_artifact(b"evil", name="evil").digest
    for path in ("../evil", "/tmp/evil", "a/../../evil", "a//b", ""):
        line = f'{{"path": "{path}", "digest": "{inside}", "size": 4, "mode": 420}}\n'
        manifest = exp.log_artifact(b'{"manifest": 1}\n' + line.encode(), name="m")
        book.log.append([ev.ArtifactLogged("d", manifest.digest, 4, "directory")], stream=exp.stream)
        with pytest.raises(ledger.Corrupted, match="leads out"):
            exp.artifact("d").save_to(tmp_path / "out")
        book.redact(book.log.head, reason="it is evil")
    assert os.listdir(tmp_path) == ["runs.ledger"]


def test_the_last_bytes_come_only_when_all_are_right(ledger_path: Path) -> None:
    """A reader that goes by pieces never gets as many bytes as were saved, when one of them is wrong."""
    with ledger.open(ledger_path) as book:
        artifact = book.experiment("e").log_artifact(os.urandom(3 << 20), name="x")
        path = book.log.backend.blobs.place(artifact.digest)
        content = bytearray(path.read_bytes())
        content[100] ^= 1
        spoil(path, bytes(content))
        got = 0
        with artifact.open() as file, pytest.raises(ledger.Corrupted):
            while piece := file.read(1000):
                got += len(piece)
        assert 0 < got < artifact.size
        content[100] ^= 1
        spoil(path, bytes(content))


@pytest.mark.parametrize("content", [b"some content", b"some content " * 9999])
@pytest.mark.parametrize("damage", [lambda data: data[:4], lambda data: data[:5] + b"\xff" + data[6:]])
def test_saving_again_mends_what_was_damaged(book: ledger.Ledger, content: bytes, damage: Callable[[bytes], bytes]) -> None:
    """A blob that was cut short, or has other bytes than were saved, is not taken for the content; it is replaced."""
    exp = book.experiment("e")
    artifact = exp.log_artifact(content, name="x")
    stored = book.log.backend.blobs.find(artifact.digest)
    assert stored is not None
    spoil(stored.path, damage(stored.path.read_bytes()))
    with pytest.raises(ledger.Corrupted):
        artifact.read_bytes()
    exp.log_artifact(content, name="x")
    assert artifact.read_bytes() == content


# -------------------------------------------------------------------------------------------------------- garbage


def test_the_collection_keeps_what_any_record_refers_to(book: ledger.Ledger, tmp_path: Path) -> None:
    """Of deleted trials, of names that were used again, in directories; what was redacted goes, and only then."""
    place = tmp_path / "directory"
    place.mkdir()
    (place / "a").write_text("in the directory")
    exp = book.experiment("e")
    trial = exp.new_trial({})
    trial.log_artifact(b"of a deleted trial", name="x")
    exp.log_artifact(b"replaced", name="y")
    exp.log_artifact(b"secret", name="y")
    exp.log_artifact(b"secret that is referred to twice", name="once")
    exp.log_artifact(b"secret that is referred to twice", name="twice")
    exp.log_artifact(place)
    trial.delete()
    assert book.collect_garbage(grace_seconds=0).removed == ()
    for position in (5, 6):
        book.redact(position, reason="leaked")
    dry = book.collect_garbage(grace_seconds=0, dry_run=True)
    assert [stored.size for stored in dry.removed] == [len(b"secret")]
    assert book.collect_garbage().removed == (), "younger than the grace period"
    assert book.collect_garbage().young == 1
    report = book.collect_garbage(grace_seconds=0)
    assert (len(report.removed), report.kept) == (1, 5)
    assert book.collect_garbage(grace_seconds=0).removed == ()
    verify(book.path, artifacts="content").raise_for_problem()
    trial.restore()
    assert exp.trial(1).artifact("x").read_bytes() == b"of a deleted trial"
    assert list(exp.artifacts) == ["y", "twice", "directory"]
    assert exp.artifact("y").read_bytes() == b"replaced"


def test_the_collection_leaves_what_is_not_a_blob(book: ledger.Ledger) -> None:
    """Somebody's own files in the directory, and files that are called otherwise, are none of its business."""
    book.experiment("e").log_artifact(b"x", name="x")
    blobs = Path(book.path) / "blobs"
    (blobs / "README").write_text("mine")
    (blobs / "ab").mkdir(exist_ok=True)
    (blobs / "ab" / "notes").write_text("mine")
    (blobs / "ab" / ("cd" + "0" * 62)).write_text("in the wrong place")
    assert book.collect_garbage(grace_seconds=0).removed == ()
    assert len(files_in(blobs)) == 4


def test_an_artifact_of_a_newer_version_stops_the_collection() -> None:
    """What it refers to cannot be told, so nothing is removed."""
    book = ledger.open("memory:")
    with book.log.backend.blobs.saving() as saving:
        with saving.writing() as writer:
            writer.write(b"unknown")
        saving.publish()
    payload = ledger.codec.encode_value({"blocks": [1]}, "payload")  # type: ignore[attr-defined]
    book.log.append([ledger.UnknownEvent("ArtifactLogged", 9, None, raw=payload)], stream="elsewhere")
    with pytest.raises(ledger.UnsupportedFormat, match="Upgrade"):
        book.collect_garbage(grace_seconds=0)
    assert book.log.backend.blobs.find(writer.digest) is not None
    book.close()


# ----------------------------------------------------------------------------------------------------- large files


def test_progress_is_told_to_the_end(trial: ledger.Trial, tmp_path: Path) -> None:
    """Bytes done rise to their number, over files and directories, when saved and when got out."""
    place = tmp_path / "directory"
    place.mkdir()
    (place / "a").write_bytes(os.urandom(5 << 20))
    (place / "b").write_bytes(b"b" * 100)
    for path in (place, place / "a"):
        told: list[tuple[int, int]] = []
        artifact = trial.log_artifact(path, progress=lambda done, total, told=told: told.append((done, total)))
        assert len(told) >= 3
        assert told[-1] == (artifact.size, artifact.size)
        assert told == sorted(told)
    told = []
    artifact.save_to(tmp_path / "out", progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (artifact.size, artifact.size)


@pytest.mark.parametrize("pieces", [0, 1, 2])
@pytest.mark.parametrize("answer", [OSError(errno.EXDEV, "no"), OSError(errno.ENOSYS, "no"), 0])
def test_where_the_system_cannot_copy_it_is_copied_all_the_same(
    trial: ledger.Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pieces: int, answer: Any
) -> None:
    """From the beginning, or from anywhere in the middle, whatever the system says instead."""
    path = tmp_path / "large"
    path.write_bytes(os.urandom(9 << 20))
    copy = os.copy_file_range
    left = [pieces]

    def refuse(*arguments: Any) -> int:
        left[0] -= 1
        if left[0] >= 0:
            return copy(*arguments)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(os, "copy_file_range", refuse)
    artifact = trial.log_artifact(path)
    assert left[0] == -1, "it was not asked again"
    assert artifact.read_bytes() == path.read_bytes()


def test_an_error_of_the_disk_while_it_is_hashed_is_raised(
    trial: ledger.Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written cannot be read again: nothing is recorded, and nothing is left."""
    path = tmp_path / "large"
    path.write_bytes(os.urandom(9 << 20))

    def broken(*arguments: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="Input/output error"):
        patched.setattr(os, "preadv", broken)
        trial.log_artifact(path)
    assert not trial.artifacts
    assert list(trial.experiment.book.log.backend.blobs.directory.iterdir()) == []


def test_a_large_file_needs_little_memory(ledger_path: Path, tmp_path: Path) -> None:
    """Saving, checking and getting out 300 MB takes a process less than 100 MB beyond what it had."""
    path = tmp_path / "large"
    with open(path, "wb") as file:
        for _ in range(15):
            file.write(os.urandom(10 << 20) + b"text " * (2 << 20))
    code = """
        import pathlib, sys, ledger
        def peak():
            return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
        with ledger.open(sys.argv[1]) as book:
            exp = book.experiment("e")
            exp.log_artifact(b"small", name="small").load()
            before = peak()
            artifact = exp.log_artifact(pathlib.Path(sys.argv[2]))
            artifact.save_to(sys.argv[2] + ".out")
            print(artifact.size, peak() - before)
    """
    size, grown = map(int, _run(code, ledger_path, path, path=tmp_path).split())
    assert size == path.stat().st_size
    assert grown < 100_000
    assert path.with_suffix(".out").read_bytes() == path.read_bytes()


def test_a_file_that_is_written_to_meanwhile_warns(trial: ledger.Trial, tmp_path: Path) -> None:
    """The artifact is what was read, its digest is of that, and what is appended is not waited for."""
    path = tmp_path / "log"
    path.write_bytes(os.urandom(4 << 20))

    def grow(done: int, total: int) -> None:
        with open(path, "ab") as file:
            file.write(b"more" * 1000)

    with pytest.warns(ledger.ArtifactChanged, match="written to while it was saved"):
        artifact = trial.log_artifact(path, progress=grow)
    assert artifact.size == 4 << 20
    assert artifact.read_bytes() == path.read_bytes()[: 4 << 20]


def test_a_directory_that_changes_meanwhile_is_consistent(trial: ledger.Trial, tmp_path: Path) -> None:
    """Its manifest has the digests of what was read; a file that goes is an error, and nothing is recorded."""
    place = tmp_path / "directory"
    place.mkdir()
    for name in "abc":
        (place / name).write_bytes(os.urandom(1 << 20))

    def change(done: int, total: int) -> None:
        (place / "c").write_bytes(b"other")

    with pytest.warns(ledger.ArtifactChanged):
        artifact = trial.log_artifact(place, progress=change)
    made = artifact.save_to(tmp_path / "out")
    assert (made / "a").read_bytes() == (place / "a").read_bytes()
    assert artifact.size == sum(each.stat().st_size for each in made.iterdir())
    with pytest.raises(ledger.InvalidValue, match="has gone"):
        trial.log_artifact(place, name="x", progress=lambda done, total: (place / "c").unlink(missing_ok=True))
    assert list(trial.artifacts) == ["directory"]


def test_nothing_is_overwritten_when_it_is_got_out(trial: ledger.Trial, tmp_path: Path) -> None:
    """A file, a directory or a dangling link at the path stays; a parent that is not there is named."""
    artifact = trial.log_artifact(b"x", name="x")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "link", "."):
        with pytest.raises(ledger.InvalidValue, match="nothing is overwritten"):
            artifact.save_to(tmp_path / name)
    with pytest.raises(ledger.InvalidValue, match="does not exist"):
        artifact.save_to(tmp_path / "nothing" / "x")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_ledger_in_memory_leaves_no_files() -> None:
    """The blobs of a ledger that ends with its handle end with it; those inherited by fork do not."""
    book = ledger.open("memory:")
    artifact = book.experiment("e").log_artifact(b"x", name="x")
    store: BlobStore = book.log.backend.blobs
    pid = os.fork()
    if pid == 0:
        store.close()
        os._exit(0)
    os.waitpid(pid, 0)
    assert artifact.read_bytes() == b"x"
    book.close()
    assert not store.directory.exists()
