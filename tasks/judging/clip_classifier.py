"""The CLIP of a job: which one judges, and what it says by the policy's concepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from models.checkpoints.checkpoint import Checkpoint
from models.checkpoints.identity import is_miniature, is_miniature_clip
from models.files.layout import PIPELINE
from models.transfer.hub import is_hub_id
from safety.policy.concepts import embed_concepts, judge_picture, judge_prompt
from safety.policy.policy import Policy
from safety.verdict import Verdict
from tasks.checkpoints.checkpoints import find_clip
from tasks.errors import RequestError
from tasks.job import Job
from tasks.job_sections import NO_CLIP
from tasks.judging.classifier import TextReading
from tasks.stores.opening import is_store_address

if TYPE_CHECKING:
    from models.clip.clip import Clip

CLIP = "clip"
"""The name of the one classifier whose scores are called as the policy's concepts are, which it looks for."""


@dataclass(frozen=True)
class ClipClassifier:
    """A CLIP, which looks for what the policy's concepts describe."""

    name: ClassVar[str] = CLIP
    checkpoint: Checkpoint

    @property
    def digest(self) -> str:
        """The revision of its checkpoint; what else it goes by is the policy's."""
        return self.checkpoint.revision

    def open(self, policy: Policy, *, device: str) -> OpenClip:
        """Load the CLIP, and have it read the policy's phrases.

        Raises:
            CheckpointError: if it can't be opened.
            ValueError: if what it makes of the phrases can't be compared with anything.
        """
        from models.clip.clip import Clip  # imports torch, which takes seconds: not where nothing is to be judged

        return OpenClip(Clip.load(self.checkpoint, device=device), policy)


class OpenClip:
    """A CLIP held open, with the policy's phrases as it reads them."""

    def __init__(self, model: Clip, policy: Policy) -> None:
        self.model, self.policy = model, policy
        self.concepts = embed_concepts(policy, model.embed_texts)

    def windows(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return embeddings of each text's windows: float32 [windows, dimensions] a text.

        Halves of a character, which no tokenizer takes, are read as question marks.
        """
        return self.model.embed_windows([text.encode("utf-8", "replace").decode() for text in texts])

    def screen(self, texts: Sequence[str]) -> list[TextReading]:
        """Judge texts by the worst of their windows, which are kept for the match with a picture."""
        return [TextReading(judge_prompt(found, self.concepts, self.policy), found) for found in self.windows(texts)]

    def classify(
        self, pictures: Sequence[np.ndarray], kept: Sequence[np.ndarray | None], *, conditions: bool
    ) -> list[Verdict]:
        """Judge pictures by their embeddings, beside the windows of their prompts where there are any."""
        policy = self.policy.of_conditions if conditions else self.policy
        rows = self.model.embed_pictures(pictures)
        return [judge_picture(row, windows, self.concepts, policy) for row, windows in zip(rows, kept, strict=True)]


def clip_classifier(job: Job) -> ClipClassifier | None:
    """Return the CLIP of a job as a classifier; None where it wants none.

    Raises:
        RequestError, CheckpointError, CheckpointUnreachable, StoreError: as `clip_of`.
    """
    clip = clip_of(job)
    return ClipClassifier(clip) if clip else None


def clip_of(job: Job) -> Checkpoint | None:
    """Find the CLIP of a job; None where it wants none.

    Raises:
        RequestError: if it is the miniature's, and the job's model is another one's.
        CheckpointError, CheckpointUnreachable, StoreError: if it can't be found.
    """
    if job.safety.clip == NO_CLIP:
        return None
    clip = find_clip(job.safety.clip, job.safety.clip_revision)
    check_judge(job.safety.clip, clip.folder, job.model.model)
    return clip


def check_judge(clip: str, folder: Path, model: str) -> None:
    """Refuse the miniature's CLIP, by its weights in `folder`, as the judge of what another model makes.

    A model of the hub or in a bucket is another one, so that this is said before anything is fetched.

    Raises:
        RequestError: if it is so; where there is no model, whoever opens that says so.
    """
    if model == "miniature" or not is_miniature_clip(folder):
        return
    place = Path(model).expanduser()
    is_elsewhere = is_store_address(model) or (is_hub_id(model) and not place.is_dir())
    if is_elsewhere or ((place / PIPELINE).exists() and not is_miniature(place)):
        raise RequestError(
            f"The model {model} needs another CLIP than {clip!r}, which was trained on the miniature's drawings and "
            "would refuse most of what is real",
            "give --clip MODEL and a policy that was measured on it, or --clip none "
            "for lists, profiles and whatever else the policy names alone.",
            joined="; ",
        )
