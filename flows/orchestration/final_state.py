"""How a run went, as the final state of its flow: automations listen to states, and nobody reads a table at night."""

from __future__ import annotations

from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed

from tasks.reports.summary import Summary

WITH_FAILURES = "CompletedWithFailures"  # written as Prefect writes names of states: AwaitingRetry, TimedOut
STOPPED = "Stopped. What was finished is stored; the same command goes on from there."


def final_state(summary: Summary, fail_beyond: float | None) -> State[Any]:
    """Return Completed, by another name where rows failed or couldn't be judged; Failed beyond the allowed share."""
    if not summary.is_partial:
        return Completed(message=summary.sentence, data=summary)
    share = summary.unsettled / summary.rows
    if fail_beyond is not None and share > fail_beyond:
        beyond = f"{share:.1%} of the rows failed or couldn't be judged, and the job allows {fail_beyond:.1%}"
        return Failed(message=f"{beyond}. {summary.sentence}")
    return Completed(name=WITH_FAILURES, message=summary.sentence, data=summary)


def stopped_state() -> State[Any]:
    """Return Cancelled: a person or the system asked for it, and nothing is wrong."""
    return Cancelled(message=STOPPED)
