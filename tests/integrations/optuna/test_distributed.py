"""Ways in which people spread an optimization: gRPC, Dask, joblib, processes that get the storage by pickle."""

from __future__ import annotations

import threading
from pathlib import Path

import grpc
import optuna
import pytest
from optuna.storages import GrpcStorageProxy
from optuna.trial import TrialState

from ledger.integrations.optuna import LedgerStorage

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def quadratic(trial: optuna.Trial) -> float:
    trial.report(1.0, 0)
    return trial.suggest_float("x", -1, 1) ** 2


def complete(storage: LedgerStorage, count: int) -> None:
    """Check that the study has so many trials, all complete, numbered without a gap."""
    study = optuna.load_study(study_name="demo", storage=storage)
    assert [trial.number for trial in study.trials] == list(range(count))
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}


def test_grpc_proxy_serves_a_ledger(storage: LedgerStorage) -> None:
    """Workers that reach the storage through Optuna's gRPC server share one study, its queue included."""
    from optuna.storages._grpc.server import make_server

    server = make_server(storage, "localhost", 0)
    port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        optuna.create_study(storage=storage, study_name="demo").enqueue_trial({"x": 0.5})
        proxies = [GrpcStorageProxy(host="localhost", port=port) for _ in range(3)]

        def work(proxy: GrpcStorageProxy) -> None:
            study = optuna.load_study(study_name="demo", storage=proxy, sampler=optuna.samplers.RandomSampler())
            study.optimize(quadratic, n_trials=5)

        threads = [threading.Thread(target=work, args=(proxy,)) for proxy in proxies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for proxy in proxies:
            proxy.close()
    finally:
        server.stop(5).wait()
    complete(storage, 15)
    assert [trial.params["x"] for trial in storage.get_all_trials(1)].count(0.5) == 1
    assert grpc.__version__


def test_dask_workers_share_a_ledger(storage: LedgerStorage) -> None:
    """`optuna_integration.DaskStorage` on a ledger: trials that run on the workers of a Dask cluster."""
    distributed = pytest.importorskip("distributed")
    dask_storage = pytest.importorskip("optuna_integration").DaskStorage

    with (
        distributed.LocalCluster(n_workers=2, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        study = optuna.create_study(
            storage=dask_storage(storage, client=client), study_name="demo", sampler=optuna.samplers.RandomSampler()
        )
        futures = [client.submit(study.optimize, quadratic, n_trials=3, pure=False) for _ in range(4)]
        distributed.wait(futures, timeout=120)
        assert [future.status for future in futures] == ["finished"] * 4
        for copy in cluster.scheduler.extensions["optuna"].storages.values():  # it got the storage by pickle
            copy.close()
    complete(storage, 12)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_joblib_workers_share_a_ledger(storage: LedgerStorage, ledger_path: Path, backend: str) -> None:
    """Processes or threads of joblib that are handed the study itself optimize it together."""
    joblib = pytest.importorskip("joblib")
    study = optuna.create_study(storage=storage, study_name="demo", sampler=optuna.samplers.RandomSampler())
    joblib.Parallel(n_jobs=3, backend=backend)(joblib.delayed(_optimize)(study, 4) for _ in range(3))
    complete(storage, 12)
    if backend == "loky":
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True)


def _optimize(study: optuna.Study, count: int) -> None:
    study.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=count)
