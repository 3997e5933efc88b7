"""The state of the code in git: commit, branch, remote, and the patch of what is not committed.

Asked of the git program, which is kept from writing, prompting, paging, and running the hooks, file system monitors and
external diffs that a repository configures (its filters, as of git LFS, run: without them every file would differ). The
patch, applied to the commit, gives the files that the trial ran with, as far as they are text and no secret was in them.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ledger.capture.masking import MASK, mask_text
from ledger.capture.programs import Answer, run_program

_MOST_FILES = 1_000  # untracked ones
_OVERLAP_BYTES = 4_096  # read beyond the end of the patch, so that a secret across it is known for one
_SETTINGS = (
    "core.fsmonitor=false", "core.hooksPath=/dev/null", "core.quotePath=true", "diff.noprefix=false",
    "diff.mnemonicPrefix=false", "diff.renames=true", "diff.submodule=short", "color.ui=false",
)  # fmt: skip
_KEPT_VARIABLES = ("GIT_CEILING_DIRECTORIES", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_EXEC_PATH")


class _Unanswered(Exception):
    """Git did not say what it was asked."""


def find_repository(directories: Iterable[str]) -> str | None:
    """Return the first of the directories that is in a repository, without asking git; None when there is none."""
    for directory in directories:
        place = Path(directory).absolute()
        for each in (place, *place.parents):
            is_bare = (each / "HEAD").is_file() and (each / "objects").is_dir() and (each / "refs").is_dir()
            if is_bare or os.path.lexists(each / ".git"):
                return str(place)
    return None


def capture_git(directories: Iterable[str], seconds: float, patch_bytes: int) -> dict[str, Any] | None:
    """Return the state of the repository that the first possible directory is in; None when none is.

    What git does not answer in time, or at all, is named under ``problem``; what it did answer is there.
    """
    directory = find_repository(directories)
    return None if directory is None else _Repository(directory, seconds, patch_bytes).capture()


class _Repository:
    def __init__(self, directory: str, seconds: float, patch_bytes: int) -> None:
        self._directory, self._seconds, self._patch_bytes = directory, seconds, patch_bytes
        self._deadline = time.monotonic() + seconds
        self._problems: list[str] = []
        kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_") or key in _KEPT_VARIABLES}
        quiet = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_PAGER": "cat", "GIT_ASKPASS": "true", "LC_ALL": "C"}
        self._environment = {**kept, **quiet, "GIT_NO_LAZY_FETCH": "1", "GIT_NO_REPLACE_OBJECTS": "1"}

    def capture(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        try:
            self._capture(found)
        except _Unanswered as problem:
            self._problems.append(str(problem))
        if self._problems:
            found["problem"] = "; ".join(dict.fromkeys(self._problems))
        return found

    def _capture(self, found: dict[str, Any]) -> None:
        is_bare = self._ask("rev-parse", "--is-bare-repository") == "true"
        commit = self._ask("rev-parse", "--verify", "--quiet", "HEAD", may_fail=True)
        branch = self._ask("symbolic-ref", "--quiet", "--short", "HEAD", may_fail=True)
        found["commit"] = commit or None  # None before the first one
        found["branch"] = branch or None  # None when HEAD is detached
        if not commit and not branch:
            raise _Unanswered("HEAD names neither a commit nor a branch: the repository is broken")
        remote = self._ask("config", "--get", "remote.origin.url", may_fail=True)
        if remote:
            found["remote"] = mask_text(remote).replace(f"{MASK}@", "")
        if is_bare:
            found["is_bare"] = True
            return
        top = self._ask("rev-parse", "--show-toplevel")
        # Nothing is compared with the empty tree before the first commit: what is staged is the patch.
        base = ["HEAD"] if commit else ["--cached"]
        diff = self._run(top, "diff", "--no-ext-diff", "--no-textconv", "--no-color", *base)
        files = self._untracked(top)
        found["is_dirty"] = bool(diff.out)
        found["untracked"] = len(files)
        if self._patch_bytes:
            found |= self._patch(top, diff, files)

    def _untracked(self, top: str) -> list[str]:
        answer = self._run(top, "ls-files", "--others", "--exclude-standard", "-z")
        names = [os.fsdecode(name) for name in answer.out.split(b"\0")]
        names = names[:-1]  # what follows the last NUL is nothing, or a name that was cut
        if answer.is_cut or len(names) > _MOST_FILES:
            self._problems.append(f"there are more than {_MOST_FILES:,} untracked files, of which the first are kept")
        return names[:_MOST_FILES]

    def _patch(self, top: str, diff: Answer, files: list[str]) -> dict[str, Any]:
        """Return the patch, as far as it is kept, and the names of the files that are not in it."""
        limit = self._patch_bytes
        text, left_out = _decoded(diff.out), [] if _is_utf8(diff.out) or diff.is_cut else ["(not UTF-8: a changed file)"]
        size, is_cut = len(diff.out), diff.is_cut
        for name in files:
            self._check_time()
            added = None if is_cut else _added_file(top, name, limit + _OVERLAP_BYTES - size)
            if added is None:
                left_out.append(name)
                continue
            text += added
            size += len(added.encode())
        masked = mask_text(text)
        kept = masked.encode()[:limit].decode(errors="ignore")
        is_cut = is_cut or len(kept) < len(masked)
        found: dict[str, Any] = {"patch": kept} if kept else {}
        if is_cut:
            found["patch_is_cut"] = f"only the first {limit:,} bytes are kept"
        if left_out:
            found["not_in_patch"] = left_out[:100] + ([f"and {len(left_out) - 100} more"] if len(left_out) > 100 else [])
        return found

    def _check_time(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise _Unanswered(f"git took longer than {self._seconds:g} s")
        return left

    def _ask(self, *arguments: str, may_fail: bool = False) -> str:
        answer = self._run(self._directory, *arguments, may_fail=may_fail)
        return os.fsdecode(answer.out).strip() if answer.code == 0 else ""

    def _run(self, directory: str, *arguments: str, may_fail: bool = False) -> Answer:
        settings = [word for setting in _SETTINGS for word in ("-c", setting)]
        try:
            answer = run_program(
                ["git", "--no-pager", *settings, *arguments],
                seconds=self._check_time(),
                most_bytes=self._patch_bytes + _OVERLAP_BYTES,
                directory=directory,
                environment=self._environment,
            )
        except OSError as error:
            raise _Unanswered(f"git could not be run: {error}") from error
        if answer.code is None and not answer.is_cut:
            raise _Unanswered(f"git took longer than {self._seconds:g} s")
        if answer.code and (not may_fail or answer.error):
            raise _Unanswered(f"git {arguments[0]}: {answer.error.splitlines()[0][:300] if answer.error else answer.code}")
        return answer


def _added_file(top: str, name: str, most_bytes: int) -> str | None:
    """Return an untracked file as part of a patch; None when it is no text, no plain file, or too long."""
    path = os.path.join(top, name)
    try:
        name.encode()
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe must not be waited for
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > most_bytes:
                return None
            content = file.read(most_bytes + 1)
        text = content.decode()
    except (OSError, UnicodeError):
        return None
    if b"\0" in content or len(content) > most_bytes or any(c in name for c in '"\\\n\t'):
        return None
    mode = "100755" if status.st_mode & stat.S_IXUSR else "100644"
    head = f"diff --git a/{name} b/{name}\nnew file mode {mode}\n"
    if not text:
        return f"{head}index 0000000..e69de29\n"
    lines = text.split("\n")
    end = "" if lines[-1] == "" else "\n\\ No newline at end of file\n"
    lines = lines[:-1] if lines[-1] == "" else lines
    count = f"+1,{len(lines)}" if len(lines) > 1 else "+1"
    tab = "\t" if " " in name else ""
    body = "\n".join(f"+{line}" for line in lines)
    return f"{head}--- /dev/null\n+++ b/{name}{tab}\n@@ -0,0 {count} @@\n{body}{end or chr(10)}"


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeError:
        return False
    return True


def _decoded(data: bytes) -> str:
    return data.decode(errors="backslashreplace")
