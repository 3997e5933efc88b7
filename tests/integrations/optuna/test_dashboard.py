"""optuna-dashboard on a ledger, over HTTP: what it reads, and what its edits become."""

from __future__ import annotations

import base64
import http.client
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import pytest
from typer.testing import CliRunner

import ledger
from ledger.cli.main import app
from ledger.errors import InvalidValue
from ledger.integrations.optuna import LedgerStorage

pytest.importorskip("optuna_dashboard")
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

from ledger.integrations.optuna.dashboard import dashboard_actor, dashboard_server  # noqa: E402


class Answer(NamedTuple):
    """What the dashboard answered."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Browser:
    """Talk to the dashboard."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        """Send one request."""
        connection = http.client.HTTPConnection(*self._address, timeout=60)
        try:
            content = None if body is None else json.dumps(body).encode()
            headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
            connection.request(method, path, content, headers)
            response = connection.getresponse()
            return Answer(response.status, response.read())
        finally:
            connection.close()


@pytest.fixture
def invoke() -> Callable[..., Any]:
    """Call the command line in this process."""
    return lambda *args: CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def study(ledger_path: Path) -> Iterator[optuna.Study]:
    """A study of three trials, the last of which runs."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with LedgerStorage(ledger_path, actor="ada@host/1") as storage:
        made = optuna.create_study(storage=storage, study_name="tuning")
        made.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
        made.ask().suggest_float("x", 0, 1)
        yield made


@pytest.fixture
def browser(study: optuna.Study, ledger_path: Path) -> Iterator[Browser]:
    """The dashboard on that ledger."""
    with ledger.open(ledger_path, actor=dashboard_actor()) as book, dashboard_server(book, port=0) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield Browser(*server.server_address[:2])  # type: ignore[arg-type]
        server.shutdown()
        serving.join()


def _by_dashboard(study: optuna.Study) -> list[str]:
    records = study._storage.book.log.read()  # type: ignore[attr-defined]
    return [record.type for record in records if record.actor == dashboard_actor()]


def test_its_pages_show_the_studies(study: optuna.Study, browser: Browser) -> None:
    """The page, the list, a study with its trials and the best of them, and a table to download."""
    assert b"<html" in browser.ask("GET", "/dashboard").body
    assert browser.ask("GET", "/").status == 302
    summaries = browser.ask("GET", "/api/studies").json["study_summaries"]
    assert [(each["study_id"], each["study_name"]) for each in summaries] == [(study._study_id, "tuning")]
    shown = browser.ask("GET", f"/api/studies/{study._study_id}").json
    assert [(each["number"], each["state"]) for each in shown["trials"]] == [(0, "Complete"), (1, "Complete"), (2, "Running")]
    assert [each["number"] for each in shown["best_trials"]] == [study.best_trial.number]
    table = browser.ask("GET", f"/csv/{study._study_id}").body.decode().splitlines()
    assert table[0] == "Number,State,Value,Param x"
    assert len(table) == 4
    assert browser.ask("GET", "/api/meta").json["artifact_is_available"] is True
    assert browser.ask("GET", "/api/studies/99999").status == 404
    assert _by_dashboard(study) == []


def test_what_others_record_is_shown(study: optuna.Study, browser: Browser) -> None:
    """Studies made by another process, and by the ledger's own interface, come up."""
    study._storage.book.experiment("by hand", objectives={"loss": "min"})  # type: ignore[attr-defined]
    optuna.create_study(storage=study._storage, study_name="another")
    summaries = browser.ask("GET", "/api/studies").json["study_summaries"]
    assert [each["study_name"] for each in summaries] == ["tuning", "by hand", "another"]


def test_edits_are_events_with_an_actor(study: optuna.Study, browser: Browser, invoke: Callable[..., Any]) -> None:
    """Who did what in the browser is in the history: a note, the end of a trial, attributes, a study made and deleted."""
    trial_id = study.trials[2]._trial_id
    made = browser.ask("POST", "/api/studies", {"study_name": "from the browser", "directions": ["maximize"]})
    assert made.status == 201
    assert browser.ask("POST", "/api/studies", {"study_name": "tuning", "directions": ["minimize"]}).status == 400
    note = {"body": "fan was off", "version": 1}
    assert browser.ask("PUT", f"/api/studies/{study._study_id}/note", note).status == 204
    assert browser.ask("PUT", f"/api/studies/{study._study_id}/note", note).status == 409
    assert browser.ask("PUT", f"/api/studies/{study._study_id}/{trial_id}/note", {"body": "odd", "version": 1}).status == 204
    assert browser.ask("POST", f"/api/trials/{trial_id}/user-attrs", {"user_attrs": {"rating": 4}}).status == 204
    assert browser.ask("POST", f"/api/trials/{trial_id}/tell", {"state": "Complete", "values": [0.25]}).status == 204
    assert browser.ask("DELETE", f"/api/studies/{made.json['study_summary']['study_id']}").status == 204
    assert study.trials[2].value == 0.25
    assert study.trials[2].user_attrs == {"rating": 4}
    recorded = _by_dashboard(study)
    assert {"ExperimentCreated", "AttributesSet", "TrialCompleted", "ExperimentDeleted"} <= set(recorded)
    path = study._storage.book.path  # type: ignore[attr-defined]
    history = invoke("history", path, "tuning", 2, "--format", "jsonl").output
    ends = [json.loads(line) for line in history.splitlines() if '"TrialCompleted"' in line]
    assert [(end["type"], end["actor"]) for end in ends] == [("TrialCompleted", dashboard_actor())]
    told = " ".join(invoke("history", path, "tuning", 2).output.split())
    assert "dashboard (" in told
    deleted = invoke("history", path, "from the browser", "--format", "jsonl").output.splitlines()
    assert [(json.loads(line)["type"], json.loads(line)["actor"]) for line in deleted][-1] == (
        "ExperimentDeleted", dashboard_actor()
    )  # fmt: skip


def test_a_study_is_renamed(study: optuna.Study, browser: Browser) -> None:
    """The dashboard copies it under the new name and deletes the old; the ledger has both, the old one as deleted."""
    study.tell(2, 1.0)
    assert browser.ask("POST", f"/api/studies/{study._study_id}/rename", {"study_name": "renamed"}).status == 201
    names = [each["study_name"] for each in browser.ask("GET", "/api/studies").json["study_summaries"]]
    assert names == ["renamed"]
    book = study._storage.book  # type: ignore[attr-defined]
    assert [each.name for each in book.experiments(deleted=True)] == ["tuning"]


def test_artifacts_go_up_and_down(study: optuna.Study, browser: Browser) -> None:
    """Of a trial and of a study, whose artifact it is; one that is removed is gone from the pages, and in the history."""
    trial_id = study.trials[2]._trial_id
    body = {"file": "data:text/plain;base64," + base64.b64encode(b"a log").decode(), "filename": "run.log"}
    experiment = study._storage.book.get_experiment("tuning")  # type: ignore[attr-defined]
    for owner, has in ((f"{study._study_id}/{trial_id}", experiment.trial(2)), (f"{study._study_id}", experiment)):
        uploaded = browser.ask("POST", f"/api/artifacts/{owner}", body)
        assert uploaded.status == 201
        artifact = uploaded.json["artifact_id"]
        assert browser.ask("GET", f"/artifacts/{owner}/{artifact}") == Answer(200, b"a log")
        assert has.artifact(f"optuna/{artifact}").read_bytes() == b"a log"
        assert browser.ask("DELETE", f"/api/artifacts/{owner}/{artifact}").status == 204
        assert browser.ask("DELETE", f"/api/artifacts/{owner}/{artifact}").status == 404
    assert [each for each in _by_dashboard(study) if "Artifact" in each] == [
        "ArtifactLogged", "ArtifactLogged", "OptunaArtifactRemoved"
    ] * 2  # fmt: skip


def test_requests_are_answered_side_by_side(study: optuna.Study, browser: Browser) -> None:
    """Edits from several browsers at once are all there."""
    trial_id = study.trials[2]._trial_id
    edit: Callable[[int], Answer] = lambda number: browser.ask(  # noqa: E731
        "POST", f"/api/trials/{trial_id}/user-attrs", {"user_attrs": {f"k{number}": number}}
    )
    threads = [threading.Thread(target=edit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert study.trials[2].user_attrs == {f"k{number}": number for number in range(8)}


def test_a_port_that_is_taken_is_told_of(study: optuna.Study, ledger_path: Path) -> None:
    """With what to give instead."""
    with ledger.open(ledger_path) as book, dashboard_server(book, port=0) as server:
        with pytest.raises(InvalidValue, match=r"^cannot listen at 127.0.0.1, port \d+: .*Give another --host or --port"):
            dashboard_server(book, port=server.server_address[1]).__enter__()
        with pytest.raises(InvalidValue, match=r"^cannot listen at nowhere\.invalid"):
            dashboard_server(book, "nowhere.invalid", 0).__enter__()


def test_the_command_prints_its_address_and_ends_by_an_interrupt(study: optuna.Study, ledger_path: Path) -> None:
    """Ctrl-C is its normal end, and what was edited is in the ledger."""
    command = [sys.executable, "-m", "ledger", "dashboard", str(ledger_path), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"is shown at http://127\.0\.0\.1:(\d+)/dashboard", line)
        assert found, (line, process.stderr)
        browser = Browser("127.0.0.1", int(found.group(1)))
        assert browser.ask("PUT", f"/api/studies/{study._study_id}/note", {"body": "x", "version": 1}).status == 204
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, "", "")
    finally:
        process.kill()
        process.communicate()
    assert _by_dashboard(study)
    assert re.fullmatch(r"dashboard \(\S+@\S+\)", dashboard_actor())


@pytest.mark.parametrize("missing", ["optuna_dashboard", "optuna"])
def test_without_the_extra_the_command_says_what_to_install(study: optuna.Study, ledger_path: Path, missing: str) -> None:
    """It names the extra, and no server is begun."""
    program = f"import sys; sys.modules[{missing!r}] = None; from ledger.cli.main import main; main()"
    command = [sys.executable, "-c", program, "dashboard", str(ledger_path), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert f"({missing} is not installed): pip install 'experiment-ledger[dashboard]'" in done.stderr


def test_a_ledger_that_is_not_there_is_not_made(invoke: Callable[..., Any], tmp_path: Path) -> None:
    """As of every other command."""
    done = invoke("dashboard", tmp_path / "nothing")
    assert done.exit_code == 3
    assert not (tmp_path / "nothing").exists()
