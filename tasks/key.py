"""The key of a picture, and what a row's seed is: what makes a picture the same picture."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

KEY_VERSION = 1  # goes up when the engine changes what it draws for the same request


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, in hex."""
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Maker:
    """What, besides the row, decides the stored bytes: the same for every row of a run."""

    checkpoint: str  # revision of the checkpoint
    precision: str
    format: str
    quality: int | None  # None for lossless formats

    def key(
        self, *, prompt: str, negative_prompt: str, seed: int, width: int, height: int, steps: int, guidance: float
    ) -> str:
        """The key of one picture, 64 hex digits."""
        return digest(
            [
                KEY_VERSION,
                self.checkpoint,
                self.precision,
                self.format,
                self.quality,
                prompt,
                negative_prompt if guidance > 1 else None,
                seed,
                width,
                height,
                steps,
                float(guidance),
            ]
        )


def seed_of(job_seed: int, row_id: str) -> int:
    """The seed of a row that names none: its own, and the same whatever else the manifest holds."""
    return int(digest(["seed", job_seed, row_id])[:8], 16)


def reseed(seed: int, attempt: int) -> int:
    """The seed of a later attempt at a rejected picture: the same seed would make the same picture again."""
    return seed if attempt == 1 else int(digest(["reseed", seed, attempt])[:8], 16)


def judgement(policy: str, clip: str, profile: str) -> str:
    """Names who judges a picture: digests of policy, CLIP and profile in one, 16 hex digits."""
    return digest(["judgement", policy, clip, profile])[:16]


def path_of(place: str, key: str, extension: str) -> str:
    """Where a picture lies in the store: `images/ab/ab12….png`."""
    return f"{place}/{key[:2]}/{key}.{extension}"
