"""What a lane needs to know, told apart from the lane itself: planning it needs neither Prefect nor a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from models.checkpoints.checkpoint import Checkpoint
from models.checkpoints.lora import Lora
from models.checkpoints.schedule import Scheduler
from safety.pictures.profile import Profile
from safety.policy.policy import Policy
from tasks.job_sections import HardwareSection
from tasks.judging.classifier import Classifier
from tasks.results.marking import Marking
from tasks.stores.dialect import Dialect


class ResultSpec(Protocol):
    """What one kind of job says of how its results are made and stored; plain values, which lanes are sent."""

    @property
    def marking(self) -> Marking:
        """How results are marked."""

    @property
    def form(self) -> tuple[Any, ...]:
        """Its part in the key of a row; JSON values."""

    @property
    def finish(self) -> dict[str, Any]:
        """What is done after the model, by name: its part in the key of a row, where there is any."""


@dataclass(frozen=True)
class LaneSpec:
    """Everything a lane needs to know; plain values, so that it can run in another process or on another machine."""

    store: str
    dialect: Dialect | None  # what was learned of the store before this run's first work
    run: str
    checkpoint: Checkpoint
    loras: tuple[Lora, ...]
    scheduler: Scheduler
    classifiers: tuple[Classifier, ...]
    policy: Policy
    profiles: Mapping[str, Profile]
    kind: str  # the name of its jobs' kind: see `tasks.kinds.registry`
    result_spec: ResultSpec  # of that kind
    hardware: HardwareSection
    precision: str
    step_cache: float | None
    max_prompt_tokens: int
    from_before: bool  # the store has pictures that were written before there were masters

    @property
    def model(self) -> str:
        """What the catalogue names the model: see `model_name`."""
        return model_name(self.checkpoint, self.loras)


def model_name(checkpoint: Checkpoint, loras: Sequence[Lora]) -> str:
    """Return how the catalogue names a checkpoint and its LoRAs: `miniature@0123456789ab+enamel=0.8`."""
    return "+".join([f"{checkpoint.name}@{checkpoint.revision[:12]}", *map(str, loras)])
