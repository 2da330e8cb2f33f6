"""A job's models, found: what every kind that has a checkpoint asks of it."""

from __future__ import annotations

from dataclasses import dataclass

from models.checkpoints.checkpoint import Checkpoint, size_multiple
from models.checkpoints.lora import Lora, find_loras
from models.checkpoints.schedule import Scheduler, fewest_steps, resolve_scheduler
from tasks.checkpoints.checkpoints import find_checkpoint
from tasks.job import Job
from tasks.rows.row_defaults import KnownCheckpoint, SamplingOf


@dataclass(frozen=True)
class FoundModels:
    """What makes a job's results."""

    checkpoint: Checkpoint
    loras: tuple[Lora, ...]  # that are merged into it
    scheduler: Scheduler

    def known(self, defaults: SamplingOf) -> KnownCheckpoint[SamplingOf]:
        """Return what decides which rows the checkpoint can take, beside its own settings."""
        return KnownCheckpoint(defaults, size_multiple(self.checkpoint), fewest_steps(self.checkpoint, self.scheduler))


def find_models(job: Job, pipeline: str) -> FoundModels:
    """Find a job's checkpoint, which is for this pipeline, and its LoRAs, and resolve whose schedule they take.

    Raises:
        RequestError, CheckpointError: see `tasks.kinds.job_kind.JobKind.resolve`.
    """
    checkpoint = find_checkpoint(job.model.model, job.model.revision, pipeline=pipeline)
    loras = find_loras(job.model.loras, checkpoint)
    return FoundModels(checkpoint, loras, resolve_scheduler(job.model.scheduler, loras))
