"""Render: the rows of a shard through the GPU, and what comes out handed on batch by batch."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from safety.probes.probe import Probe
from tasks.lane.bounded_queue import BoundedQueue
from tasks.lane.outcome_recorder import OutcomeRecorder
from tasks.lane.probing import PromptReader, judge_stored
from tasks.lane.stages import Between, Made, Rendered, Screened, Stages
from tasks.processes.stopping import while_there_is_time

FOUND_AT_ONCE = 16


@task(name="render", task_run_name="render {shard}", cache_policy=NO_CACHE)
def render(
    shard: int,  # noqa: ARG001  names the task run
    screened: Screened,
    *,
    stages: Stages,
    probe: Probe | None,
    prompts: PromptReader,
    recorder: OutcomeRecorder,
    out: BoundedQueue[Rendered],
    between_batches: Between,
) -> int:
    """Make what is to be made; returns for how many rows. The model is loaded only if there is any.

    The policy's probe, if it has one, is asked about stored rows before they are fetched.
    """
    try:
        found, ended = judge_stored(probe, screened, prompts, recorder)
        if ended:
            out.put([*ended])
        for start in range(0, len(found), FOUND_AT_ONCE):
            out.put([*found[start : start + FOUND_AT_ONCE]])
        made = 0
        if screened.to_render:
            for batch in while_there_is_time(stages.render(screened)):
                out.put(batch)
                made += sum(isinstance(thing, Made) for thing in batch)
                between_batches()
        out.close()
    except BaseException:
        out.abandon()
        raise
    return made
