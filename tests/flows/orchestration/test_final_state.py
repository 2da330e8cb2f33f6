"""What the final state of a flow says of its rows, and that automations hear of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.events.schemas.automations import AutomationCore

from flows.generate import generate
from flows.orchestration.ending import ending, run_to_its_end
from flows.orchestration.final_state import WITH_FAILURES, final_state
from tasks.job import GenerateJob
from tasks.ledger.plan import Unread
from tasks.outcome import Status
from tasks.stores.store import Store
from tests.end_to_end.conftest import manifest, prefect_api, store
from tests.tasks.summaries import summary_of

__all__ = ["manifest", "prefect_api", "store"]  # fixtures

AUTOMATIONS = Path(__file__).parents[3] / "deploy" / "automations.yaml"


@pytest.mark.parametrize(
    ("counts", "fail_beyond", "name", "said"),
    [
        ({}, None, "Completed", "20 rows: 20 done."),
        ({"blocked": 3}, 0.0, "Completed", "20 rows: 17 done, 3 blocked."),
        ({"failed": 20}, None, WITH_FAILURES, "20 rows: 20 failed."),
        ({"failed": 1}, 0.05, WITH_FAILURES, "20 rows: 19 done, 1 failed."),
        ({"failed": 2}, 0.05, "Failed", "10.0% of the rows failed or couldn't be judged, and the job allows 5.0%."),
        ({"rejected": 4, "unjudged": 4}, None, WITH_FAILURES, "20 rows: 16 done, 4 rejected, 4 unjudged."),
        ({"rejected": 4, "unjudged": 4}, 0.1, "Failed", "20.0% of the rows"),
        ({"to_judge": 2}, 0.05, "Failed", "20 rows: 20 done, 2 still to judge."),
        ({"unread": Unread(2, "a", "gone")}, 0.05, "Failed", "20 rows: 20 done, 2 not read."),
    ],
)
def test_a_final_state_says_how_the_rows_ended(
    counts: dict[str, Any], fail_beyond: float | None, name: str, said: str
) -> None:
    state = final_state(summary_of(20, **counts), fail_beyond)
    assert (state.name, state.type) == (name, "FAILED" if name == "Failed" else "COMPLETED")
    assert said in str(state.message)


@pytest.mark.parametrize(("fail_beyond", "name"), [(None, WITH_FAILURES), (0.05, "Failed")])
def test_prefect_is_told_of_rows_that_failed_and_the_command_gets_its_summary(
    manifest: Callable[..., str], store: Store, fail_beyond: float | None, name: str
) -> None:
    file = manifest([{"id": "a", "prompt": "a mug", "width": 3}], f"{name}.parquet")
    job = GenerateJob.of(manifest=file, store=store.uri, fail_beyond=fail_beyond)

    summary = run_to_its_end(partial(generate, job, return_state=True))

    assert (summary.statuses[Status.FAILED], ending.is_told) == (1, True)
    with get_client(sync_client=True) as client:
        named = FlowRunFilter(name=FlowRunFilterName(like_=f"{name}.parquet"))
        (flow_run,) = client.read_flow_runs(flow_run_filter=named)
    assert flow_run.state_name == name
    assert "1 row: 1 failed." in str(flow_run.state and flow_run.state.message)


def test_the_automation_of_the_deployment_listens_to_the_states_that_there_are() -> None:
    (described,) = yaml.safe_load(AUTOMATIONS.read_text())["automations"]
    automation = AutomationCore.model_validate(described)
    assert automation.trigger.expect == {  # type: ignore[union-attr]
        f"prefect.flow-run.{name}" for name in (WITH_FAILURES, "Failed", "Crashed")
    }
