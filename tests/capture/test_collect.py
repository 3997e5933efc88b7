"""Collecting: guarded, in bounded time, once a process; and what is found of environment, packages and source."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import textwrap
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ledger
from ledger.capture import collect, environment, packages, source
from ledger.capture.collect import make_capture
from ledger.capture.options import CaptureOptions

COLLECTORS = [
    (environment, "capture_environment", "environment"), (environment, "capture_gpus", "gpus"),
    (packages, "capture_packages", "packages"), (environment, "capture_conda", "conda"), (collect.git, "capture_git", "git"),
    (source, "capture_script", "script"), (source, "capture_command", "command"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "name", "kind"), COLLECTORS)
@pytest.mark.parametrize("error", [OSError("disk on fire"), SystemExit(3), MemoryError(), RecursionError("deep")])
def test_what_a_collector_raises_is_named_in_its_place(
    exp: ledger.Experiment, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, kind: str, error: BaseException
) -> None:
    """The trial runs, the other kinds are there, the problem is in the capture and warned of."""

    def broken(*args: object) -> None:
        raise error

    monkeypatch.setattr(module, name, broken)
    trial = exp.new_trial({})
    with pytest.warns(ledger.CaptureIncomplete, match=rf"{kind}: {type(error).__name__}"), trial.run():
        trial.complete({"loss": 1})
    assert trial.captured[kind]["problem"].startswith(type(error).__name__)
    assert trial.status is ledger.Status.SUCCEEDED
    others = {"environment", "packages", "command"} - {kind}
    assert all("problem" not in trial.captured[other] for other in others)


def test_what_takes_too_long_is_not_waited_for(exp: ledger.Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hanging file system holds nobody up; everything else is captured."""
    never = threading.Event()
    monkeypatch.setattr(packages, "capture_packages", lambda: never.wait(60) and {})
    trial = exp.new_trial({})
    with pytest.warns(ledger.CaptureIncomplete, match=r"packages: it took longer than 0\.3 s"):
        found = trial.capture(options=CaptureOptions(seconds=0.3))
    assert found["packages"] == {"problem": "it took longer than 0.3 s"}
    assert found["environment"]["cpu"]["logical_cores"] == os.cpu_count()
    never.set()


def test_a_problem_is_warned_of_once(exp: ledger.Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second trial of the process has the same capture, and no warning."""
    monkeypatch.setattr(packages, "capture_packages", lambda: 1 / 0)
    with pytest.warns(ledger.CaptureIncomplete):
        exp.new_trial({}).capture()
    second = exp.new_trial({})
    second.capture()
    assert "ZeroDivisionError" in second.captured["packages"]["problem"]


def test_a_warning_made_an_error_ends_the_trial_as_failed(exp: ledger.Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under -W error nothing is left running: the trial has the warning as its error."""
    monkeypatch.setattr(packages, "capture_packages", lambda: 1 / 0)
    trial = exp.new_trial({})
    with pytest.raises(ledger.CaptureIncomplete), trial.run():  # warnings are errors in the tests
        pytest.fail("the block is not entered")
    assert trial.status is ledger.Status.FAILED
    assert trial.state.error is not None
    assert "CaptureIncomplete" in trial.state.error.type


def test_things_are_looked_at_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that change do not change what the process has loaded; ``refresh`` looks again; other options are other captures."""
    counts = {"packages": 0}

    def count() -> dict[str, int]:
        counts["packages"] += 1
        return dict(counts)

    monkeypatch.setattr(packages, "capture_packages", count)
    first = collect.collect(CaptureOptions())
    assert collect.collect(CaptureOptions()) is first
    assert collect.collect(CaptureOptions(), refresh=True)["packages"].content == {"packages": 2}
    assert collect.collect(CaptureOptions())["packages"].content == {"packages": 2}
    assert collect.collect(CaptureOptions(variables=("X",)))["packages"].content == {"packages": 3}


def test_a_library_is_captured_from_when_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Version and build of numpy, scipy and pandas are there once they are imported, and nothing is imported for them."""
    for name in collect.LIBRARIES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert set(collect.collect(CaptureOptions())) & set(collect.LIBRARIES) == set()
    scipy = types.ModuleType("scipy")
    scipy.__version__ = "1.11.4"  # type: ignore[attr-defined]
    scipy.__config__ = types.SimpleNamespace(CONFIG={"Build Dependencies": {"blas": {"name": "openblas"}}})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "scipy", scipy)
    assert collect.collect(CaptureOptions())["scipy"].content == {
        "version": "1.11.4", "build": {"Build Dependencies": {"blas": {"name": "openblas"}}},
    }  # fmt: skip


def test_real_libraries() -> None:
    """numpy's build names its BLAS, pandas its commit."""
    import numpy as np
    import pandas as pd

    found = collect.collect(CaptureOptions())
    assert found["numpy"].content["version"] == np.__version__
    assert "blas" in found["numpy"].content["build"]["Build Dependencies"]
    assert found["pandas"].content["version"] == pd.__version__


def test_installed_distributions_are_those_of_the_metadata() -> None:
    """Each with its version; those from elsewhere with the place that they are from."""
    import msgspec

    found = packages.capture_packages()["distributions"]
    assert found["msgspec"] == msgspec.__version__
    assert found["pytest"].split()[0] == pytest.__version__
    assert list(found) == sorted(found, key=str.lower)


def test_graphics_processors_are_those_that_the_driver_names(fake_program: Callable[[str, str], None]) -> None:
    """Name, driver, memory; nothing without a driver; a driver that hangs is a problem."""
    fake_program("nvidia-smi", 'echo "NVIDIA A100, 550.54, 81920, 8.0"')
    assert environment.capture_gpus(5.0) == {
        "gpus": [{"name": "NVIDIA A100", "driver": "550.54", "memory_mb": "81920", "compute_capability": "8.0"}]
    }
    fake_program("nvidia-smi", "echo failed; exit 9")
    assert environment.capture_gpus(5.0) is None
    fake_program("nvidia-smi", "sleep 60")
    assert environment.capture_gpus(0.3) == {"problem": "nvidia-smi took longer than 0.3 s"}


def test_no_driver_is_no_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without nvidia-smi there is nothing to say."""
    monkeypatch.setenv("PATH", "/nonexistent")
    assert environment.capture_gpus(5.0) is None


def test_a_conda_environment_is_told_by_its_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages with version and build, without running conda; nothing where Python is not conda's."""
    assert environment.capture_conda() is None
    (tmp_path / "conda-meta").mkdir()
    (tmp_path / "conda-meta" / "mkl-service-2.4.0-py311_1.json").write_text("{}")
    (tmp_path / "conda-meta" / "history").write_text("")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("CONDA_DEFAULT_ENV", "science")
    assert environment.capture_conda() == {"name": "science", "packages": {"mkl-service": "2.4.0 py311_1"}}


def test_content_that_no_record_can_hold_is_made_one_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lone surrogates, bytes and objects become text; what is too large becomes a problem."""
    made = make_capture("environment", {"bad\udcff": b"\xff", "object": Path("/x"), "many": ({1: None}, 2.5, True)})
    assert made.content == {"bad\\udcff": "\\xff", "object": "/x", "many": [{"1": None}, 2.5, True]}
    assert "600,0" in make_capture("git", {"patch": "x" * 600_000}).content["problem"]


@pytest.mark.parametrize(
    "bad", [{"variables": ["X"]}, {"variables": ("",)}, {"patch_bytes": -1}, {"patch_bytes": 10**6}, {"seconds": 0}]
)
def test_options_that_cannot_be_are_refused(bad: dict[str, Any]) -> None:
    """The error names the option, its value and what it may be."""
    with pytest.raises(ledger.InvalidValue, match=next(iter(bad))):
        CaptureOptions(**bad)


@pytest.mark.parametrize("bad", ["yes", 1, None])
def test_capture_is_yes_no_or_options(memory_book: ledger.Ledger, bad: Any) -> None:
    """Anything else is refused at the call."""
    with pytest.raises(ledger.InvalidValue, match="capture is"):
        memory_book.experiment("x", capture=bad)


# ------------------------------------------------------------------------------------------------------------ source


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap as decorators do."""

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


@decorated
@functools.lru_cache
def stacked(x: int) -> int:
    """Under two decorators."""
    return x + 41


class Model:
    """Something that is called in several ways."""

    def fit(self, x: int) -> int:
        """As a method."""
        return x + 42

    def __call__(self, x: int) -> int:
        """As a function."""
        return x + 43

    @staticmethod
    def load(x: int) -> int:
        """Without an object."""
        return x + 44


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (stacked, "x + 41"), (Model().fit, "x + 42"), (Model(), "x + 43"), (Model.load, "x + 44"), (Model, "x + 44"),
        (functools.partial(stacked, 1), "x + 41"), (lambda: 45, "lambda: 45"), (functools.partial(decorated(stacked)), "x + 41"),
    ],
)  # fmt: skip
def test_the_source_of_a_function_is_found(function: Callable[..., Any], text: str) -> None:
    """Within decorators, partial calls, methods, objects that can be called; of lambdas and classes, too."""
    assert text in source.capture_function(function)["text"]


def test_a_function_without_source_is_told_by_its_byte_code() -> None:
    """One made by exec has no file: the same code gives the same digest, other code another; built-in ones have a name."""

    def made(code: str) -> dict[str, Any]:
        space: dict[str, Any] = {}
        exec(code, space)
        return source.capture_function(space["f"])

    one, same, other = made("def f(x): return x + 1"), made("\n\ndef f(x): return x + 1"), made("def f(x): return x + 2")
    assert "text" not in one
    assert one["bytecode"] == same["bytecode"] != other["bytecode"]
    assert source.capture_function(len)["name"] == "len"
    assert source.capture_function(sorted)["note"]


def test_partial_calls_of_the_same_function_differ() -> None:
    """What is bound is part of what runs."""
    assert source.capture_function(functools.partial(stacked, 1)) != source.capture_function(functools.partial(stacked, 2))


def run_python(code: str, *words: str, **more: Any) -> str:
    """Run Python in a process of its own."""
    done = subprocess.run([sys.executable, *words], input=code, capture_output=True, text=True, timeout=60, check=False, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


PROGRAM = """
import os, sys
sys.path.insert(0, os.environ["HERE"])
from ledger.capture.source import capture_script
from ledger.capture.environment import python_mode
print(python_mode(), repr(capture_script()))
"""


def test_how_python_was_started(tmp_path: Path) -> None:
    """The source is that of the script, of the module (-m), or of the command (-c); from standard input there is none."""
    path = tmp_path / "experiment_one.py"
    path.write_text(PROGRAM)
    more = {"env": {**os.environ, "HERE": str(Path(ledger.__file__).parents[1])}, "cwd": tmp_path}
    said = run_python("", str(path), **more)
    assert said.startswith("script {'name': 'experiment_one.py'")
    assert "import os, sys" in said
    assert run_python("", "-m", "experiment_one", **more).startswith("module {'name': 'experiment_one'")
    assert run_python("", "-c", PROGRAM, **more).startswith("command {'name': '(-c)', 'text': '\\nimport os")
    assert run_python(PROGRAM, "-", **more) == "standard input None"


def test_a_file_that_was_changed_after_the_start_is_marked(tmp_path: Path) -> None:
    """What runs may be what was in it before."""
    path = tmp_path / "changing.py"
    path.write_text(f"{PROGRAM}\nos.utime(__file__)\nprint(repr(capture_script()))")
    os.utime(path, (1, 1))
    more = {"env": {**os.environ, "HERE": str(Path(ledger.__file__).parents[1])}}
    before, after = run_python("", str(path), **more).splitlines()
    assert "'note'" not in before
    assert "changed after this process had begun" in after


def test_a_notebook_gives_the_cell_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cell anew: it is not remembered from the one before."""
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))  # type: ignore[arg-type]
    cells = ["", "lr = 0.1"]
    monkeypatch.setattr(sys.modules["__main__"], "In", cells, raising=False)
    assert collect.collect(CaptureOptions())["script"].content["text"] == "lr = 0.1"
    cells.append("lr = 0.2")
    assert collect.collect(CaptureOptions())["script"].content["text"] == "lr = 0.2"
    assert environment.python_mode() == "notebook"


def test_the_command_line_is_as_it_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With interpreter options, in whole; very long arguments are cut, code is left to the source."""
    monkeypatch.setattr(sys, "orig_argv", ["python", "-X", "dev", "train.py", "--lr", "0.1", "y" * 10_000])
    arguments = source.capture_command()["arguments"]
    assert arguments[:6] == ["python", "-X", "dev", "train.py", "--lr", "0.1"]
    assert len(arguments[6]) == 4_096
    monkeypatch.setattr(sys, "orig_argv", ["python", "-c", "print(1)", "x"])
    assert source.capture_command()["arguments"] == ["python", "-c", "...", "x"]


def test_a_removed_working_directory_is_a_problem_of_the_command_only(tmp_path: Path) -> None:
    """The rest is captured."""
    code = textwrap.dedent("""
        import os, sys, warnings, ledger
        os.chdir(sys.argv[1]); os.rmdir(sys.argv[1])
        warnings.simplefilter("ignore")
        with ledger.open("memory:") as book:
            found = book.experiment("x").new_trial({}).capture()
        print(sorted(kind for kind, content in found.items() if "problem" in content), "environment" in found)
    """)
    place = tmp_path / "gone"
    place.mkdir()
    assert run_python(code, "-", str(place)) == "['command'] True"


def test_a_function_is_looked_at_once() -> None:
    """The second capture of it is the first one's."""

    def function() -> int:
        return 1

    found = collect.collect(CaptureOptions(), function)["function"]
    assert collect.collect(CaptureOptions(), function)["function"] is found
    assert collect.collect(CaptureOptions(), function, refresh=True)["function"] == found


def test_nothing_is_captured_when_capturing_itself_is_broken(exp: ledger.Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even then the trial runs, with a warning."""
    monkeypatch.setattr(collect, "run_collectors", lambda *args: 1 / 0)
    trial = exp.new_trial({})
    with pytest.warns(ledger.CaptureIncomplete, match="nothing was captured: ZeroDivisionError"), trial.run():
        trial.complete({"loss": 1})
    assert (trial.captured, trial.status) == ({}, ledger.Status.SUCCEEDED)
