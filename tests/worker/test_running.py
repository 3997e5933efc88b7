"""A program is run for each trial: what it is given, what is taken from it, and what has become of the trial."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path

import pytest

import ledger

ECHO = (sys.executable, "-c", "import json, sys; print(json.dumps({'got': sys.argv[1:]}))")


def test_the_config_comes_as_arguments(queue, work, states):
    """Spaces, quotes, unicode and leading dashes stay within their argument; values are as people type them."""
    config = {"text": "a b'\"ü🚀 $HOME", "dash": "--help", "on": True, "none": None, "lr": 1e-07, "shape": (3, 4), "n": {"d": 5}}
    queue(config)
    done = work("--", *ECHO, "{text}", "{dash}", "x={on}", "{none}", "{lr}", "{shape}", "{n.d}", "{{lr}} {} {print $1}")
    assert done.returncode == 0, done.stderr
    expected = ["a b'\"ü🚀 $HOME", "--help", "x=true", "", "1e-07", "[3, 4]", "5", "{lr} {} {print $1}"]
    assert states()[0].results == {"got": expected}


def test_the_config_comes_as_environment_and_file(queue, work, states):
    """Each parameter is a variable; the file is plain JSON; the trial is named."""
    path = queue({"cache-mb": 64, "shape": (1, 2)})
    code = """
import json, os
found = {name: os.environ[name] for name in ("LEDGER_PARAM_CACHE_MB", "LEDGER_PATH", "LEDGER_EXPERIMENT", "LEDGER_TRIAL",
                                             "LEDGER_ATTEMPT")}
print(json.dumps(found | {"file": json.load(open(os.environ["LEDGER_CONFIG"]))}))
"""
    assert work("--", sys.executable, "-c", code).returncode == 0
    assert states()[0].results == {
        "LEDGER_PARAM_CACHE_MB": "64", "LEDGER_PATH": str(path), "LEDGER_EXPERIMENT": "tuning", "LEDGER_TRIAL": "1",
        "LEDGER_ATTEMPT": "1", "file": {"cache-mb": 64, "shape": [1, 2]},
    }  # fmt: skip


def test_a_shell_is_asked_for_and_values_are_quoted_in_it(queue, work, states, tmp_path):
    """No value becomes a command; without --shell there is none."""
    queue({"name": f"x; touch {tmp_path}/hacked"})
    assert work("--shell", "--", "echo {name} | wc -w | sed 's/.*/{\"words\": &}/'").returncode == 0
    assert not (tmp_path / "hacked").exists()
    assert states()[0].results == {"words": 3}


def test_a_placeholder_that_is_no_parameter_is_refused_before_a_claim(queue, work, states):
    """The error names it and the nearest one; the trial has never been claimed."""
    queue({"momentum": 0.9})
    done = work("--", "true", "{momentun}")
    assert done.returncode == 2
    assert "{momentun} is no parameter of the trial. Did you mean {momentum}?" in done.stderr
    assert (states()[0].status, states()[0].attempt) == ("PENDING", 0)


def test_a_later_trial_without_the_parameter_fails_and_the_others_go_on(queue, work, states):
    """One odd config does not stop the queue."""
    queue({"lr": 1}, {"rl": 2}, {"lr": 3})
    assert work("--", "true", "{lr}").returncode == 1
    assert [state.status for state in states()] == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert "{lr} is no parameter" in states()[1].error.message


def test_the_last_line_with_a_brace_in_front_is_the_results(queue, work, states, kept):
    """Noise before and behind is passed over, and all of it is kept; NaN and Infinity are read as Python writes them."""
    queue({}, objectives={"loss": "min"})
    lines = ["loading", '{"loss": 9}', '{"loss": NaN, "top": Infinity, "ok": true, "by": "me"}', "bye"]
    assert work("--", "printf", "%s\\n", *lines).returncode == 0
    results = states()[0].results
    assert math.isnan(results.pop("loss"))
    assert results == {"top": math.inf, "ok": True, "by": "me"}
    assert kept(1, "stdout.txt").decode().splitlines() == lines


def test_a_last_line_that_does_not_parse_fails_the_trial_with_it(queue, work, states):
    """An earlier line in its place would be a wrong result."""
    queue({})
    assert work("--", "printf", "%s\\n", '{"loss": 9}', "{'loss': 0.4}").returncode == 1
    state = states()[0]
    assert (state.status, state.results) == ("FAILED", {})
    assert "{'loss': 0.4}" in state.error.message


def test_a_result_file_comes_before_standard_output(queue, work, states):
    """--results chooses one of them, or none."""
    program = ["sh", "-c", 'echo "{\\"a\\": 1}"; echo "{\\"b\\": 2}" > $LEDGER_RESULTS']
    queue({}, {}, {}, {})
    for source in ("auto", "stdout", "file", "none"):
        assert work("--max-trials", "1", "--results", source, "--", *program).returncode == 0
    assert [state.results for state in states()] == [{"b": 2}, {"a": 1}, {"b": 2}, {}]


def test_objectives_must_be_there_unless_empty_results_are_allowed(queue, work, states):
    """No results, a missing one and one that is no number are failures that say what to print."""
    queue({}, {}, {}, {}, objectives={"loss": "min"})
    for line in ("nothing", '{"lost": 1}', '{"loss": "low"}'):
        assert work("--max-trials", "1", "--", "echo", line).returncode == 1
    assert work("--allow-empty-results", "--", "true").returncode == 0
    first, second, third, last = states()
    assert 'last line such as {"loss": 0.5}' in first.error.message
    assert "results without 'loss'" in second.error.message
    assert '"low", which is no number' in third.error.message
    assert (last.status, last.results) == ("SUCCEEDED", {})


def test_exit_code_and_signal_are_recorded(queue, work, states, kept):
    """An exit code or a signal's name is in the error, with the last lines of standard error, and in the attributes."""
    queue({"code": "echo out of tape >&2; exit 3"}, {"code": "kill -SEGV $$"})
    done = work("--", "sh", "-c", "{code}")
    assert done.returncode == 1
    first, second = states()
    assert (first.status, first.error.message) == ("FAILED", "exit code 3: out of tape")
    assert first.attributes["worker"]["exit_code"] == 3
    assert (second.status, second.attributes["worker"]["signal"]) == ("FAILED", "SIGSEGV")
    assert "SIGSEGV" in second.error.message
    assert kept(1, "stderr.txt") == b"out of tape\n"


def test_a_program_that_cannot_be_started_is_the_workers_fault(queue, work, states, tmp_path):
    """The trial is handed back unharmed, and the worker says what it has not found."""
    queue({})
    plain = tmp_path / "plain.txt"
    plain.write_text("")
    for program, why in (("./nowhere", "No such file"), (plain, "Permission denied")):
        done = work("--", program)
        assert done.returncode == 2
        assert f"cannot run {program}: {why}" in done.stderr
        assert (states()[0].status, states()[0].error) == ("PENDING", None)
    assert "is no directory" in work("--cwd", tmp_path / "gone", "--", "true").stderr


def test_a_config_that_no_argument_can_hold_fails_its_trial(queue, work, states):
    """NUL bytes and what is too long: the error says where else to find the config."""
    queue({"text": "a\0b"}, {"text": "x" * 200_000})
    assert work("--", "true", "{text}").returncode == 1
    first, second = states()
    assert "null byte" in first.error.message
    assert "{config}" in second.error.message


def test_failed_trials_are_tried_again_as_often_as_asked(queue, work, states, ledger_path):
    """Each requeue has its reason; the attempts stay in history, and each one's output is kept under its name."""
    queue({})
    done = work("--retries", "2", "--", "sh", "-c", "echo attempt $LEDGER_ATTEMPT; exit 1")
    assert done.returncode == 1
    with ledger.open(ledger_path) as book:
        trial = book.get_experiment("tuning").trial(1)
        reasons = [record.reason for record in trial.history() if record.type == "TrialRequeued"]
        assert [reason.partition(":")[0] for reason in reasons] == [
            "retry 1 of 2 after exit code 1",
            "retry 2 of 2 after exit code 1",
        ]
        assert list(trial.artifacts) == ["stdout.txt", "stdout-2.txt", "stdout-3.txt"]
        assert (trial.status, trial.state.attempt) == ("FAILED", 3)


def test_a_trial_that_succeeds_in_the_end_is_well(queue, work, states):
    """A failure that was retried with success is no failure of the worker's."""
    queue({})
    assert work("--retries", "1", "--", "sh", "-c", "test $LEDGER_ATTEMPT = 2").returncode == 0
    assert states()[0].status == "SUCCEEDED"


def test_large_output_is_kept_within_its_bound_and_the_results_at_its_end_count(queue, work, states, kept):
    """The file has the beginning, a note, and the end."""
    queue({})
    code = "print('x' * 79)\nfor _ in range(5000): print('y' * 1023)\nprint('{\"n\": 1}')"
    assert work("--max-output", "1", "--", sys.executable, "-c", code).returncode == 0
    assert states()[0].results == {"n": 1}
    output = kept(1, "stdout.txt")
    assert 2 << 20 < len(output) < (2 << 20) + 1_000
    assert output.startswith(b"x" * 79)
    assert b"bytes are left out here; --max-output takes more" in output


def test_output_may_be_any_bytes(queue, work, states, kept):
    """It is kept as it is; in the error it is text."""
    queue({})
    assert work("--", "sh", "-c", "printf '\\377\\001\\n' >&2; exit 1").returncode == 1
    assert kept(1, "stderr.txt") == b"\xff\x01\n"
    assert "\\xff" in states()[0].error.message


def test_what_the_program_puts_into_its_directory_is_an_artifact(queue, work, ledger_path):
    """{output} is kept, with its files."""
    queue({})
    assert work("--", "sh", "-c", "echo model > $1/model.txt", "sh", "{output}").returncode == 0
    with ledger.open(ledger_path) as book:
        artifact = book.get_experiment("tuning").trial(1).artifact("output")
        assert (artifact.kind, artifact.files) == ("directory", 1)


def test_one_json_line_for_each_trial_that_has_ended(queue, work):
    """Everything that a script needs of the end."""
    queue({"c": 0}, {"c": 1})
    done = work("--format", "jsonl", "--", "sh", "-c", "echo '{\"x\": 1}'; exit {c}")
    first, second = map(json.loads, done.stdout.splitlines())
    assert {**first, "seconds": 0} == {
        "experiment": "tuning", "trial_id": 1, "attempt": 1, "status": "SUCCEEDED", "exit_code": 0, "signal": None, "seconds": 0,
        "results": {"x": 1}, "error": None, "is_requeued": False,
    }  # fmt: skip
    assert (second["status"], second["exit_code"]) == ("FAILED", 1)


def test_run_adds_one_trial_and_runs_it(queue, work, states):
    """No worker sees it in the queue; its machinery is the worker's; a missing experiment is created."""
    queue()
    done = work("--param", "lr=0.5", "--", "echo", '{"loss": {lr}}', command="run")
    assert done.returncode == 0, done.stderr
    (state,) = states()
    assert (state.status, state.config, state.results, state.attempt) == ("SUCCEEDED", {"lr": 0.5}, {"loss": 0.5}, 1)
    done = work("--", "./nowhere", command="run")
    assert done.returncode == 2
    assert states()[1].status == "CANCELED"


def test_only_trials_that_are_wanted_and_so_many_are_run(queue, work, states):
    """--where and --max-trials."""
    queue({"j": "wal"}, {"j": "off"}, {"j": "wal"}, {"j": "wal"})
    assert work("--where", "j=wal", "--max-trials", "2", "--", "true").returncode == 0
    assert [state.status for state in states()] == ["SUCCEEDED", "PENDING", "SUCCEEDED", "PENDING"]


def test_the_capture_is_of_the_program(queue, work, states, ledger_path, tmp_path):
    """The command line and the machine, not this Python's packages; a secret in the environment is in no file."""
    queue({"lr": 0.1})
    secret = "s3cret-" + "value-" + "0123456789"
    done = work("--capture", "--", "sh", "-c", "exit 0", "--token={lr}", secret, variables={"MY_API_TOKEN": secret})
    assert done.returncode == 0, done.stderr
    with ledger.open(ledger_path) as book:
        captured = book.get_experiment("tuning").trial(1).captured
    assert captured["command"]["arguments"] == ["sh", "-c", "exit 0", "--token=[masked]", "[masked]"]
    assert "packages" not in captured
    assert "python" not in captured["environment"]
    files = [path for path in Path(ledger_path).rglob("*") if path.is_file()]
    assert not any(secret.encode() in path.read_bytes() for path in files)


def test_results_outside_of_their_bounds_fail_the_trial(ledger_path, work, states):
    """As they do for trial.complete; such a trial is not tried again."""
    with ledger.open(ledger_path) as book:
        book.experiment("tuning", objectives={"ms": ledger.Objective("min", upper=10)}).new_trial({})
    assert work("--retries", "3", "--", "echo", '{"ms": 11}').returncode == 1
    assert (states()[0].status, states()[0].attempt) == ("FAILED", 1)


@pytest.mark.skipif(not hasattr(os, "getsid"), reason="sessions are POSIX")
def test_standard_input_is_empty(queue, work):
    """A program that reads finds the end, and does not wait for the terminal."""
    queue({})
    assert work("--", "cat", stdin=None).returncode == 0


def test_output_is_shown_with_the_trial_that_it_is_of(queue, work):
    """--show copies lines to standard error, marked, the last one without its end, too; --quiet says nothing else."""
    queue({})
    done = work("--show", "--quiet", "--", "sh", "-c", "echo one; sleep 0.3; printf two; echo bad >&2")
    assert (done.returncode, done.stdout) == (0, "")
    assert sorted(done.stderr.splitlines()) == ["1 ! bad", "1 | one", "1 | two"]


def test_a_paused_experiment_is_not_worked_on(queue, work, states, ledger_path):
    """The worker ends and says why."""
    queue({})
    with ledger.open(ledger_path) as book:
        book.get_experiment("tuning").pause()
    done = work("--", "true")
    assert (done.returncode, done.stdout) == (0, "Nothing to do.\n")
    assert "is paused" in done.stderr
    assert states()[0].attempt == 0


def test_the_files_of_a_worker_that_was_killed_are_cleared_away(queue, start, work, tmp_path, eventually):
    """By the next worker of the same machine; those of one that runs are not."""
    place = tmp_path / "place"
    queue({"place": str(place)}, {"place": ""}, max_attempts=1)
    worker = start(
        "--where", f"place={place}", "--lease-seconds", "1", "--", "sh", "-c", "echo $LEDGER_OUTPUT > {place}; sleep 60"
    )
    output = Path(eventually(lambda: place.exists() and place.read_text().strip()))
    assert work("--where", "place=", "--max-trials", "1", "--", "true").returncode == 0
    assert output.exists()
    worker.kill()
    worker.wait()
    assert work("--", "true").returncode == 0
    assert not output.exists()


def test_a_program_may_say_that_its_trial_was_pruned_or_failed(queue, work, states):
    """A status among the results is the trial's; objectives may be missing then. Any other status is a result."""
    queue(*({"say": say} for say in ("PRUNED", "FAILED", "SUCCEEDED", "fine")), objectives={"loss": "min"})
    program = 'echo "{\\"status\\": \\"$LEDGER_PARAM_SAY\\", \\"epochs\\": 3}"'
    done = work("--allow-empty-results", "--", "sh", "-c", program)
    assert [(state.status, state.results) for state in states()] == [
        ("PRUNED", {"epochs": 3}), ("FAILED", {"epochs": 3}), ("SUCCEEDED", {"epochs": 3}),
        ("SUCCEEDED", {"epochs": 3, "status": "fine"}),
    ]  # fmt: skip
    assert "the program says that it failed" in done.stdout
    assert done.returncode == 1


def test_a_pruned_trial_is_no_failure_of_the_worker(queue, work, states):
    """It is an end that was meant: exit code 0, without the objective."""
    queue({}, objectives={"loss": "min"})
    assert work("--", "echo", '{"status": "PRUNED"}').returncode == 0
    assert states()[0].status == "PRUNED"


def test_a_failure_and_its_retry_are_one_commit(queue, work, ledger_path):
    """Exit code, failure and requeue are recorded at once: a kill cannot come between, and nobody sees it FAILED for good."""
    queue({})
    work("--retries", "1", "--", "sh", "-c", "exit 3")
    with ledger.open(ledger_path) as book:
        records = list(book.get_experiment("tuning").trial(1).history())
        types = [record.type for record in records]
        first = types.index("TrialFailed")
        assert types[first - 1 : first + 2] == ["AttributesSet", "TrialFailed", "TrialRequeued"]
        assert len({record.recorded_at for record in records[first - 1 : first + 2]}) == 1
        assert records[first - 1].append_id == records[first].append_id
        assert [record.reason for record in records[first : first + 2]] == [None, "retry 1 of 1 after exit code 3"]


def test_one_trial_that_is_run_at_once_is_in_no_queue(queue, ledger_path, work):
    """`ledger run` creates and claims its trial in one step: no worker that waits can take it before."""
    queue()
    work("--param", "n=1", "--", "true", command="run")
    with ledger.open(ledger_path) as book:
        created, claimed, *_ = book.get_experiment("tuning").trial(1).history()
        assert (created.type, claimed.type) == ("TrialCreated", "TrialClaimed")
        assert created.append_id == claimed.append_id


def test_one_worker_runs_trials_of_several_experiments(ledger_path, work):
    """Those of the first that was named first; lines name the experiment; it ends when none of them has anything to come."""
    with ledger.open(ledger_path) as book:
        for name in ("tuning", "other"):
            book.experiment(name).new_trials([{"n": n} for n in range(2)])
        book.get_experiment("other").pause()
    done = work("-e", "other", "--", "true")
    assert done.stdout.splitlines()[-1] == "2 SUCCEEDED."
    assert "an experiment is paused" in done.stderr
    with ledger.open(ledger_path) as book:
        book.get_experiment("other").resume()
        book.get_experiment("tuning").new_trials([{"n": n} for n in range(2)])
    done = work("-e", "other", "--", "true")
    assert [line.partition(":")[0] for line in done.stdout.splitlines() if "began" in line] == [
        "trial tuning/3 began", "trial tuning/4 began", "trial other/1 began", "trial other/2 began",
    ]  # fmt: skip
    assert "trial other/2 SUCCEEDED" in done.stdout


def test_trials_of_several_experiments_run_at_once_with_files_of_their_own(ledger_path, work):
    """Also when they have the same numbers."""
    with ledger.open(ledger_path) as book:
        for name in ("tuning", "other"):
            book.experiment(name).new_trial({"said": name})
    assert work("-e", "other", "--jobs", "2", "--", "sh", "-c", "sleep 0.5; echo {said}").returncode == 0
    with ledger.open(ledger_path) as book:
        for name in ("tuning", "other"):
            assert book.get_experiment(name).trial(1).artifact("stdout.txt").read_bytes() == f"{name}\n".encode()
