"""The deployment can be registered, started through the API by its form's values, and seen to complete."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import ConcurrencyLimitStrategy

from tasks.job import GenerateJob, in_sections
from tasks.stores.store import Store
from tests.end_to_end.conftest import SMALL, catalogue, manifest, prefect_api, store

__all__ = ["manifest", "prefect_api", "store"]  # fixtures

PROJECT = Path(__file__).parents[2]
PREFECT = [sys.executable, "-m", "prefect"]


@pytest.mark.waits
def test_the_nightly_deployment_runs_and_leaves_its_catalogue(
    manifest: Callable[..., str], store: Store, tmp_path: Path
) -> None:
    environment = {**os.environ, "PWD": str(PROJECT), "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "ERROR"}
    environment["PREFECT_WORKER_QUERY_SECONDS"] = "1"  # ten by default
    quiet = {"cwd": PROJECT, "env": environment, "capture_output": True, "text": True, "timeout": 120}
    subprocess.run([*PREFECT, "work-pool", "create", "packshot", "--type", "process"], check=True, **quiet)  # type: ignore[call-overload]
    deploy = [*PREFECT, "--no-prompt", "deploy", "--prefect-file", "deploy/prefect.yaml", "--all"]
    deployed = subprocess.run(deploy, **quiet)  # type: ignore[call-overload]
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr

    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("generate/nightly")
        (schedule,) = deployment.schedules
        assert (schedule.schedule.cron, schedule.schedule.timezone) == ("0 2 * * *", "Europe/Berlin")  # type: ignore[union-attr]
        assert deployment.global_concurrency_limit is not None
        assert deployment.global_concurrency_limit.limit == 1
        options = deployment.concurrency_options
        assert options is not None
        assert options.collision_strategy == ConcurrencyLimitStrategy.CANCEL_NEW
        form = deployment.parameter_openapi_schema
        assert form is not None
        assert "Denoising steps" in str(form["definitions"]["PictureSampling"]["properties"]["steps"])

        given = {"manifest": manifest([{"id": "a", "prompt": "a red mug"}]), "store": store.uri, **SMALL}
        job = in_sections(GenerateJob, {}, given)
        run = client.create_flow_run_from_deployment(deployment.id, parameters={"job": job})
        with (tmp_path / "worker.log").open("w+") as log:
            worker = subprocess.Popen(
                [*PREFECT, "worker", "start", "--pool", "packshot", "--limit", "1"],
                cwd=PROJECT,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                state = ended(client, run.id, within=200)
            finally:
                stop(worker)
            log.seek(0)
            assert state == "COMPLETED", log.read()

    assert catalogue(store)["a"]["status"] == "done"


def stop(worker: subprocess.Popen[bytes]) -> None:
    """End a worker with its children; Prefect's own (3.8.8) doesn't always end when asked to on a busy machine."""
    os.killpg(worker.pid, signal.SIGINT)
    try:
        worker.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


def ended(client: SyncPrefectClient, run: object, *, within: float) -> str:
    """The state a flow run ends in."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        state = client.read_flow_run(run).state  # type: ignore[arg-type]
        if state is not None and state.is_final():
            return state.type.value
        time.sleep(1)
    pytest.fail("The flow run did not end.")
