"""What is known of a job's checkpoint without fetching it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from models.checkpoints.checkpoint import Checkpoint, size_multiple
from models.checkpoints.schedule import fewest_steps
from tasks.checkpoints.checkpoints import find_checkpoint
from tasks.job import Job
from tasks.rows.row_defaults import KnownCheckpoint, SamplingOf

QWEN_MULTIPLE, QWEN_STEPS = 16, 2  # of Qwen-Image and Qwen-Image-Layered, for checkpoints that aren't at hand


def known_checkpoint(
    job: Job, pipeline: str, defaults_of: Callable[[Checkpoint], SamplingOf], published: SamplingOf
) -> KnownCheckpoint[SamplingOf]:
    """Return what is known of a job's checkpoint; of one that isn't at hand, what is published of Qwen's own."""
    lightning = job.model.scheduler == "lightning" or (job.model.scheduler == "auto" and bool(job.model.loras))
    if job.model.model != "miniature" and not Path(job.model.model).expanduser().is_dir():
        return KnownCheckpoint(published, QWEN_MULTIPLE, 1 if lightning else QWEN_STEPS)
    checkpoint = find_checkpoint(job.model.model, job.model.revision, pipeline=pipeline)
    steps = fewest_steps(checkpoint, "lightning" if lightning else "checkpoint")
    return KnownCheckpoint(defaults_of(checkpoint), size_multiple(checkpoint), steps)
