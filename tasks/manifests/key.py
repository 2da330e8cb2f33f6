"""The key of a picture, and what a row's seed is: what makes a picture the same picture."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.manifests.row import Row

CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
KEY_VERSION = 1  # goes up when the engine changes what it draws for the same request


def digest(value: Any) -> str:
    """Return SHA-256 of a value's canonical JSON, in hex."""
    return hashlib.sha256(CANONICAL(value).encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Maker:
    """What, besides the row, decides the stored bytes: the same for every row of a run."""

    checkpoint: str  # revision of the checkpoint
    precision: str
    form: tuple[Any, ...]  # how pictures are stored, or layers made; JSON values
    loras: tuple[tuple[str, float], ...] = ()  # revision and scale of each that is merged into the checkpoint
    scheduler: str = "checkpoint"  # whose noise schedule
    step_cache: float | None = None
    finish: dict[str, Any] = field(default_factory=dict)  # what is done to a picture after the model, by name

    @property
    def additions(self) -> dict[str, Any]:
        """What differs from the checkpoint's own way, by name; where nothing does, keys are as if nothing could."""
        additions: dict[str, Any] = {"loras": self.loras} if self.loras else {}
        if self.scheduler != "checkpoint":
            additions["scheduler"] = self.scheduler
        if self.step_cache is not None:
            additions["step_cache"] = self.step_cache
        return additions | self.finish

    def key(self, row: Row, seed: int, *, label: str | None = None) -> str:
        """Return the key of what a row asks for, made from `seed`: 64 hex digits.

        `label` is the visible one that the row's profile wants drawn into the picture.
        """
        negative_prompt = row.negative_prompt if row.guidance > 1 else None
        made_from: list[Any] = [
            row.prompt,
            negative_prompt,
            seed,
            row.width,
            row.height,
            row.steps,
            float(row.guidance),
        ]
        if row.source is not None:
            made_from += [row.source, row.layers]
        additions = self.additions | ({"label": label} if label else {})
        if row.references:
            additions["references"] = [reference.source for reference in row.references]
        if row.keep_digest:
            additions["keep_product"] = row.keep_digest
        if additions:
            made_from.append(additions)
        return digest([KEY_VERSION, self.checkpoint, self.precision, *self.form, *made_from])


def seed_of(job_seed: int, row_id: str) -> int:
    """Return the seed of a row that names none: its own, and the same whatever else the manifest holds."""
    return int(digest(["seed", job_seed, row_id])[:8], 16)


def reseed(seed: int, attempt: int) -> int:
    """Return the seed of a later attempt at a rejected picture: the same seed would make the same picture again."""
    return seed if attempt == 1 else int(digest(["reseed", seed, attempt])[:8], 16)


def judged_with(policy_fingerprint: str, checks_digest: str) -> str:
    """Name who judges a row's picture, with the checks that it alone has to pass, if there are any."""
    return digest([policy_fingerprint, checks_digest])[:16] if checks_digest else policy_fingerprint


def judgement(policy: str, clip: str, profile: str, others: Mapping[str, str]) -> str:
    """Name who judges a picture: digests of policy, CLIP, profile and other classifiers in one, 16 hex digits.

    Where there are no others, it is as if there could be none.
    """
    return digest(["judgement", policy, clip, profile, *([others] if others else [])])[:16]
