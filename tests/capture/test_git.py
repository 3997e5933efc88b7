"""What is captured of git: commit, branch, remote, and a patch that gives the files again; whatever state it is in."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ledger.capture.git import capture_git, find_repository

Git = Callable[..., str]


def captured(place: Path, seconds: float = 20.0, patch_bytes: int = 100_000) -> dict[str, Any]:
    """Capture what must be a repository."""
    found = capture_git([str(place)], seconds, patch_bytes)
    assert found is not None
    return found


def test_a_clean_repository(repository: Path, git: Git) -> None:
    """Commit and branch, and nothing of a patch."""
    assert captured(repository) == {
        "commit": git("rev-parse", "HEAD"), "branch": "main", "is_dirty": False, "untracked": 0,
    }  # fmt: skip


def test_the_patch_gives_the_files_again(repository: Path, git: Git, tmp_path: Path) -> None:
    """Changed, staged, deleted, renamed, untracked, executable, without a last newline, with spaces, empty: applied to the
    commit, the patch makes the same files."""
    for name in ("gone.py", "old name.py"):
        (repository / name).write_text("x\n" * 20)
    git("add", ".")
    git("commit", "-m", "second")
    (repository / "train.py").write_text("lr = 0.2\nsize = 'größe'")
    (repository / "gone.py").unlink()
    git("mv", "old name.py", "new name.py")
    (repository / "staged.py").write_text("staged\n")
    git("add", "staged.py")
    (repository / "sub").mkdir()
    for name, text in {
        "sub/a b.txt": "one",
        "empty": "",
        "many.txt": "a\n\nb\n",
        "run.sh": "#!/bin/sh\n",
        "crlf.txt": "a\r\nb\r\n",
    }.items():
        (repository / name).write_bytes(text.encode())
    (repository / "run.sh").chmod(0o755)
    found = captured(repository)
    assert (found["is_dirty"], found["untracked"]) == (True, 5)
    clone = tmp_path / "clone"
    git("clone", "--quiet", str(repository), str(clone), directory=tmp_path)
    git("checkout", "--quiet", found["commit"], directory=clone)
    git("apply", "-", directory=clone, data=found["patch"])
    assert files(clone) == files(repository)


def files(place: Path) -> dict[str, tuple[bytes, bool]]:
    """Return the files of a directory that are not git's, with whether they can be executed."""
    return {
        str(path.relative_to(place)): (path.read_bytes(), os.access(path, os.X_OK))
        for path in place.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }


def test_what_is_no_text_is_named_and_left_out(repository: Path) -> None:
    """Binary files, links, pipes, other encodings and names that are no text are not in the patch; ignored ones not at all."""
    (repository / "model.bin").write_bytes(b"\x00\x01")
    (repository / "latin.txt").write_bytes("größe".encode("latin-1"))
    (repository / "link").symlink_to("/etc/passwd")
    os.mkfifo(repository / "pipe")
    Path(os.fsdecode(os.fsencode(repository) + b"/bad-\xff.txt")).write_text("text\n")
    (repository / ".gitignore").write_text("ignored\n")
    (repository / "ignored").write_text("ignored\n")
    found = captured(repository)
    assert sorted(found["not_in_patch"]) == sorted([os.fsdecode(b"bad-\xff.txt"), "latin.txt", "link", "model.bin"])
    assert "root:" not in found["patch"]
    assert "ignored" in found["patch"]  # the line of .gitignore
    assert "+++ b/ignored" not in found["patch"]


def test_a_patch_larger_than_asked_for_is_cut_and_says_so(repository: Path) -> None:
    """What is kept is at most so long, its beginning, and marked; with 0 there is none."""
    (repository / "train.py").write_text("x = 1\n" * 5_000)
    found = captured(repository, patch_bytes=1_000)
    assert len(found["patch"].encode()) <= 1_000
    assert found["patch"].startswith("diff --git a/train.py")
    assert "1,000 bytes" in found["patch_is_cut"]
    assert "patch" not in captured(repository, patch_bytes=0)
    assert captured(repository, patch_bytes=0)["is_dirty"] is True


def test_untracked_files_fill_the_patch_as_far_as_it_goes(repository: Path) -> None:
    """A file that does not fit is left out by name, those that do are in."""
    (repository / "a-large.txt").write_text("x" * 10_000)
    (repository / "b-small.txt").write_text("small\n")
    found = captured(repository, patch_bytes=2_000)
    assert found["not_in_patch"] == ["a-large.txt"]
    assert "+small" in found["patch"]


def test_a_detached_head_has_no_branch(repository: Path, git: Git) -> None:
    """The commit is there."""
    git("checkout", "--quiet", "--detach")
    found = captured(repository)
    assert (found["branch"], found["commit"]) == (None, git("rev-parse", "HEAD"))


def test_a_repository_without_a_commit(git: Git, tmp_path: Path) -> None:
    """The branch that is to be, no commit, and what is staged and untracked as the patch."""
    git("init")
    (tmp_path / "repository" / "staged.py").write_text("staged\n")
    git("add", ".")
    (tmp_path / "repository" / "new.py").write_text("new\n")
    found = captured(tmp_path / "repository")
    assert (found["commit"], found["branch"], found["is_dirty"]) == (None, "main", True)
    assert "+staged" in found["patch"]
    assert "+new" in found["patch"]


def test_a_bare_repository(repository: Path, git: Git, tmp_path: Path) -> None:
    """It has a commit and no files that could differ."""
    git("clone", "--quiet", "--bare", str(repository), str(tmp_path / "bare.git"), directory=tmp_path)
    found = captured(tmp_path / "bare.git")
    assert found.pop("remote").endswith("/repository")
    assert found == {"commit": git("rev-parse", "HEAD"), "branch": "main", "is_bare": True}


def test_a_submodule_and_a_worktree(repository: Path, git: Git, tmp_path: Path) -> None:
    """Changes in a submodule are seen from above; inside of it, and in a worktree, it is that repository's own state."""
    git("clone", "--quiet", str(repository), str(tmp_path / "outer"), directory=tmp_path)
    outer = tmp_path / "outer"
    git("submodule", "--quiet", "add", str(repository), "inner", directory=outer)
    git("commit", "-m", "with a submodule", directory=outer)
    assert captured(outer)["is_dirty"] is False
    (outer / "inner" / "train.py").write_text("lr = 0.3\n")
    assert "-dirty" in captured(outer)["patch"]
    assert "+lr = 0.3" in captured(outer / "inner")["patch"]
    git("worktree", "add", "--quiet", "-b", "side", str(tmp_path / "side"))
    assert captured(tmp_path / "side")["branch"] == "side"


def test_a_subdirectory_gives_the_whole_patch(repository: Path) -> None:
    """Untracked files above the directory that the script is in are part of what ran."""
    (repository / "src").mkdir()
    (repository / "new.py").write_text("new\n")
    assert "b/new.py" in captured(repository / "src")["patch"]


@pytest.mark.parametrize("damage", ["HEAD", "objects", "index", "config"])
def test_a_broken_repository_is_named_as_such(repository: Path, damage: str) -> None:
    """Whatever is missing or garbled, there is a problem, and no exception."""
    place = repository / ".git" / damage
    if damage == "objects":
        shutil.rmtree(place)
        place.mkdir()
    else:
        place.write_bytes(b"\x00garbage\xff\n")
    assert captured(repository)["problem"]


def test_a_file_called_git_is_no_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A .git that leads nowhere is a problem; no .git at all is nothing."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert capture_git([str(tmp_path)], 5.0, 1_000) is None
    (tmp_path / ".git").write_text("gitdir: /nowhere\n")
    assert "rev-parse" in captured(tmp_path)["problem"]


def test_no_git_program(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository without git on the path is a problem; where there is no repository it is none."""
    monkeypatch.setenv("PATH", "/nonexistent")
    assert "git could not be run" in captured(repository)["problem"]
    assert capture_git(["/"], 5.0, 1_000) is None


def test_a_slow_git_is_stopped(repository: Path, fake_program: Callable[[str, str], None], tmp_path: Path) -> None:
    """What it did not say in time is a problem; it and what it started are gone."""
    fake_program("git", f"echo $$ > {tmp_path}/pid; sleep 60 & wait")
    begun = time.monotonic()
    assert captured(repository, seconds=0.5) == {"problem": "git took longer than 0.5 s"}
    assert time.monotonic() - begun < 30  # it would have been 60
    group = int((tmp_path / "pid").read_text())
    assert [state for state, its_group in processes() if its_group == group and state != "Z"] == []


def processes() -> list[tuple[str, int]]:
    """Return state and group of every process."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            found.append((fields[0], int(fields[2])))
    return found


def test_what_git_said_before_it_became_slow_is_kept(
    repository: Path, git: Git, fake_program: Callable[[str, str], None]
) -> None:
    """A repository so large that its diff takes too long still has its commit."""
    commit, real = git("rev-parse", "HEAD"), shutil.which("git")
    fake_program("git", f'case "$*" in *--no-ext-diff*) sleep 60;; *) exec {real} "$@";; esac')
    found = captured(repository, seconds=2.0)
    assert found["commit"] == commit
    assert "longer" in found["problem"]


def test_an_endless_diff_is_cut(repository: Path, fake_program: Callable[[str, str], None]) -> None:
    """No more of it is read than is kept."""
    real = shutil.which("git")
    fake_program("git", f'case "$*" in *--no-ext-diff*) yes x;; *) exec {real} "$@";; esac')
    found = captured(repository, patch_bytes=1_000)
    assert found["patch"] == "x\n" * 500
    assert found["patch_is_cut"]


def test_nothing_that_a_repository_configures_is_run(repository: Path, git: Git, tmp_path: Path) -> None:
    """Neither hooks nor external diffs, text conversions, pagers and file system monitors; and nothing is written."""
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\ncat\n")
    trap.chmod(0o755)
    for name in ("core.fsmonitor", "core.pager", "diff.external", "diff.trap.textconv", "diff.trap.command", "core.askPass"):
        git("config", name, str(trap))
    git("config", "core.hooksPath", str(tmp_path))
    (tmp_path / "post-index-change").symlink_to(trap)
    (repository / ".gitattributes").write_text("*.py diff=trap\n")
    (tmp_path / "sprung").unlink(missing_ok=True)
    (repository / "train.py").write_text("lr = 0.2\n")
    os.utime(repository / "train.py", (1, 1))  # as a refresh of the index would note
    before = (repository / ".git" / "index").read_bytes()
    assert "+lr = 0.2" in captured(repository)["patch"]
    assert not (tmp_path / "sprung").exists()
    assert (repository / ".git" / "index").read_bytes() == before


def test_variables_of_a_hook_do_not_mislead(repository: Path, git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    """GIT_DIR of another repository (a process started by a hook) is not what is captured."""
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "/bin/false")
    assert "problem" not in captured(repository)


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://ada:hunter22@example.org/x.git", "https://example.org/x.git"),
        ("https://ghp_abcdefghijklmnopqrstuvwxyz0123456789@github.com/x.git", "https://github.com/x.git"),
        ("git@example.org:ada/x.git", "git@example.org:ada/x.git"),
        ("ssh://git@example.org/x.git", "ssh://git@example.org/x.git"),
        ("ssh://git:pw123456@example.org/x.git", "ssh://example.org/x.git"),
        ("/srv/x.git", "/srv/x.git"),
    ],
)
def test_the_remote_has_no_credentials(repository: Path, git: Git, url: str, kept: str) -> None:
    """User and password go from its address; an account's name that is part of it stays."""
    git("remote", "add", "origin", url)
    assert captured(repository)["remote"] == kept


def test_the_first_directory_in_a_repository_counts(repository: Path, tmp_path: Path) -> None:
    """The script's directory goes before the one that it is started in."""
    assert find_repository(["/", str(repository / "missing"), "/"]) == str(repository / "missing")
    assert find_repository(["/"]) is None
