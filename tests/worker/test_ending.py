"""How programs are ended: in time, by signals, with their worker, and with all that they have started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ledger
from ledger.backends.gate import lock_holders

#: Says its process id and that of a child, both deaf to SIGTERM, and goes on for ever.
DEAF = "trap '' TERM; sleep 600 & echo $$ $! > {place}; while :; do sleep 1; done"
#: The same with a child that listens.
TAME = "sleep 600 & echo $$ $! > {place}; wait"


def _pids(place: Path) -> list[int]:
    return list(map(int, place.read_text().split())) if place.exists() and place.read_text().endswith("\n") else []


def test_a_timeout_ends_a_program_that_does_not_listen(queue, work, states, tmp_path, is_gone, eventually):
    """SIGTERM, then SIGKILL of the whole group after the grace; TIMED_OUT, and what it printed is kept."""
    queue({"place": str(tmp_path / "pids")})
    done = work("--timeout", "1", "--grace", "0.5", "--", "sh", "-c", "echo begun; " + DEAF)
    assert done.returncode == 1
    assert "TIMED_OUT" in done.stdout
    state = states()[0]
    assert (state.status, state.attributes["worker"]["signal"]) == ("TIMED_OUT", "SIGKILL")
    for pid in _pids(tmp_path / "pids"):
        eventually(lambda pid=pid: is_gone(pid))


def test_what_a_program_leaves_running_ends_with_it(queue, work, states, tmp_path, is_gone, eventually):
    """A child in the background neither holds up the worker nor lives on."""
    queue({"place": str(tmp_path / "pids")})
    assert work("--", "sh", "-c", "sleep 600 & echo $$ $! > {place}; echo '{\"x\": 1}'").returncode == 0
    assert states()[0].results == {"x": 1}
    for pid in _pids(tmp_path / "pids"):
        eventually(lambda pid=pid: is_gone(pid))


def test_sigterm_hands_back_and_leaves_no_orphan(queue, start, states, tmp_path, is_gone, eventually):
    """The programs are gone, the trials wait for another worker, the exit code is 130; Ctrl-C does the same."""
    for number in (signal.SIGTERM, signal.SIGINT):
        places = [tmp_path / f"{number}-{i}" for i in range(2)]
        queue(*({"place": str(place)} for place in places))
        worker = start("--jobs", "2", "--where", f"place={places[0]}", "--", "sh", "-c", TAME)
        pids = eventually(lambda place=places[0]: _pids(place))
        worker.send_signal(number)
        assert worker.wait(30) == 130
        assert all(map(is_gone, pids))
        assert all(state.status == "PENDING" for state in states())
    assert {state.error for state in states()} == {None}


def test_a_second_ctrl_c_ends_it_at_once(queue, start, states, tmp_path, is_gone, eventually):
    """A program that does not listen is not waited for."""
    queue({"place": str(tmp_path / "pids")})
    worker = start("--grace", "600", "--", "sh", "-c", DEAF)
    pids = eventually(lambda: _pids(tmp_path / "pids"))
    worker.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert worker.poll() is None
    worker.send_signal(signal.SIGINT)
    assert worker.wait(30) == 130
    assert all(map(is_gone, pids))
    assert states()[0].status == "PENDING"


def test_a_killed_worker_takes_its_program_along_and_others_get_the_trial(
    queue, start, work, states, tmp_path, is_gone, eventually
):
    """kill -9: the keeper ends the program; the trial is LOST when its lease has run out, and succeeds elsewhere."""
    queue({"place": str(tmp_path / "pids")})
    worker = start("--lease-seconds", "2", "--grace", "0.5", "--", "sh", "-c", DEAF)
    pids = eventually(lambda: _pids(tmp_path / "pids"))
    worker.kill()
    worker.wait()
    for pid in pids:
        eventually(lambda pid=pid: is_gone(pid))
    assert work("--", "true").returncode == 0
    state = states()[0]
    assert (state.status, state.attempt, state.lost) == ("SUCCEEDED", 2, 1)


def _is_stopped_between_writes(worker: subprocess.Popen[str], path: Path) -> bool:
    """Stop a worker; let it go on when it has the write gate, which nobody could take from it."""
    worker.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, worker.pid, os.WSTOPPED)
    if not lock_holders(path / "head"):
        return True
    worker.send_signal(signal.SIGCONT)
    return False


def test_a_worker_that_was_stopped_beyond_its_lease_ends_its_program(queue, start, work, states, tmp_path, is_gone, eventually):
    """SIGSTOP, as of a laptop that sleeps: another worker has the trial meanwhile, and only its results count."""
    path = queue({"place": str(tmp_path / "pids")})
    worker = start("--lease-seconds", "1", "--", "sh", "-c", TAME)
    pids = eventually(lambda: _pids(tmp_path / "pids"))
    eventually(lambda: _is_stopped_between_writes(worker, path))
    assert work("--", "echo", '{"by": 2}').returncode == 0
    worker.send_signal(signal.SIGCONT)
    out, _ = worker.communicate(timeout=60)
    assert "trial 1 LOST" in out
    assert all(map(is_gone, pids))
    assert (states()[0].status, states()[0].results, states()[0].attempt) == ("SUCCEEDED", {"by": 2}, 2)


def test_a_canceled_trial_ends_its_program(queue, start, states, ledger_path, tmp_path, is_gone, eventually):
    """Within a second or so, not when the lease is renewed next."""
    queue({"place": str(tmp_path / "pids")})
    worker = start("--", "sh", "-c", TAME)
    pids = eventually(lambda: _pids(tmp_path / "pids"))
    with ledger.open(ledger_path) as book:
        book.get_experiment("tuning").trial(1).cancel(reason="out of budget")
    assert worker.wait(30) == 0
    assert all(map(is_gone, pids))
    assert states()[0].status == "CANCELED"


def test_a_killed_keeper_is_noticed(queue, start, states, tmp_path, is_gone, eventually):
    """The program that nobody keeps any more is killed, and its trial FAILED."""
    queue({"place": str(tmp_path / "pids")})
    worker = start("--", "sh", "-c", TAME)
    pids = eventually(lambda: _pids(tmp_path / "pids"))
    parent = int(Path(f"/proc/{pids[0]}/stat").read_text().rpartition(")")[2].split()[1])
    assert parent != worker.pid
    os.kill(parent, signal.SIGKILL)
    assert worker.wait(30) == 1
    for pid in pids:
        eventually(lambda pid=pid: is_gone(pid))
    assert states()[0].status == "FAILED"


def test_two_workers_with_two_jobs_each_run_every_trial_once(queue, start, states, tmp_path):
    """One queue, no trial twice, none forgotten."""
    queue(*({"i": i, "place": str(tmp_path / "runs")} for i in range(24)))
    workers = [start("--jobs", "2", "--worker", f"w{i}", "--", "sh", "-c", "echo {i} >> {place}") for i in range(2)]
    assert [worker.wait(100) for worker in workers] == [0, 0]
    assert sorted(map(int, (tmp_path / "runs").read_text().split())) == list(range(24))
    assert {state.status for state in states()} == {"SUCCEEDED"}
    assert {state.attempt for state in states()} == {1}


def test_a_worker_that_waits_gets_what_comes_later(queue, start, states, eventually):
    """--wait: it stays when nothing waits, and takes a new trial."""
    queue({"n": 1})
    worker = start("--wait", "--", "true")
    eventually(lambda: states()[0].status == "SUCCEEDED")
    assert worker.poll() is None
    queue({"n": 2})
    eventually(lambda: states()[1].status == "SUCCEEDED")
    worker.terminate()
    assert worker.wait(30) == 130


def test_output_can_be_followed_while_the_program_runs_and_read_afterwards(queue, start, ledger_path, tmp_path, eventually):
    """ledger logs -f shows what comes until the end, ledger logs what was kept."""
    queue({"go": str(tmp_path / "go")})
    start("--", "sh", "-c", "echo one; while [ ! -e {go} ]; do sleep 0.1; done; echo two")
    command = [sys.executable, "-m", "ledger", "logs", str(ledger_path), "tuning", "1"]
    eventually(lambda: subprocess.run(command, capture_output=True, text=True, check=False).stdout == "one\n")
    with subprocess.Popen([*command, "-f"], stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "one\n"
        (tmp_path / "go").touch()
        assert follower.stdout.readline() == "two\n"
    eventually(lambda: subprocess.run(command, capture_output=True, text=True, check=False).stdout == "one\ntwo\n")
    assert subprocess.run([*command, "--stream", "stderr"], capture_output=True, check=False).returncode == 4
