"""What rows of every kind of job have, and what they get where they say nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from tasks.job import Job
from tasks.manifests.key import seed_of
from tasks.manifests.row import MAX_STEPS, check_steps, given_or, guidance_of, profile_of, whole


class StepsAndGuidance(Protocol):
    """What every checkpoint has settings of its own for."""

    @property
    def steps(self) -> int:
        """How many denoising steps."""

    @property
    def guidance(self) -> float:
        """True classifier-free guidance."""


SamplingOf = TypeVar("SamplingOf", bound=StepsAndGuidance)


@dataclass(frozen=True)
class KnownCheckpoint(Generic[SamplingOf]):
    """What decides which rows a checkpoint can take."""

    defaults: SamplingOf
    size_multiple: int  # of width and height, pixels
    fewest_steps: int  # that its schedule can take


@dataclass(frozen=True, kw_only=True)
class RowDefaults:
    """What a row of any kind gets where it says nothing: the job's values, resolved against the checkpoint's own."""

    steps: int
    guidance: float
    negative_prompt: str
    profile: str
    seed: int
    fewest_steps: int  # that the checkpoint's schedule can take
    size_multiple: int  # of width and height, pixels


def row_defaults(job: Job, known: KnownCheckpoint[SamplingOf]) -> RowDefaults:
    """Return a job's values over the checkpoint's own, within what the checkpoint can do.

    Raises:
        RequestError: if no row could be made with them.
    """
    check_steps(job.sampling.steps, known.fewest_steps)
    return RowDefaults(
        steps=given_or(job.sampling.steps, known.defaults.steps),
        guidance=given_or(job.sampling.guidance, known.defaults.guidance),
        negative_prompt=job.sampling.negative_prompt,
        profile=job.marketplace.profile,
        seed=job.sampling.seed,
        fewest_steps=known.fewest_steps,
        size_multiple=known.size_multiple,
    )


def sampled(values: Mapping[str, Any], defaults: RowDefaults) -> dict[str, Any]:
    """Return what rows of every kind say of how they are sampled, by its name in `tasks.manifests.row.Row`.

    Raises:
        RowError: with a sentence, if a value is wrong.
    """
    return {
        "negative_prompt": given_or(values.get("negative_prompt"), defaults.negative_prompt),
        "seed": whole(values, "seed", seed_of(defaults.seed, values["id"]), range(2**63)),
        "steps": whole(values, "steps", defaults.steps, range(defaults.fewest_steps, MAX_STEPS + 1)),
        "guidance": guidance_of(values, defaults.guidance),
        "profile": profile_of(values, defaults.profile),
    }
