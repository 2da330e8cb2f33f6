"""The judges of a run: the policy, the CLIP it speaks through, and the profiles."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from safety.pictures.profile import Profile

if TYPE_CHECKING:
    from models.clip.clip import Clip

from models.checkpoints.checkpoint import Checkpoint, CheckpointError
from models.checkpoints.identity import is_miniature, is_miniature_clip
from models.files.layout import PIPELINE
from models.loading.loaded_once import loaded_once
from models.lost_device import DeviceLost
from models.transfer.hub import is_hub_id
from safety.policy.concepts import ConceptEmbeddings, embed_concepts, judge_picture
from safety.policy.policy import Policy, PolicyError
from safety.verdict import Reason, Verdict, allow, fail
from tasks.checkpoints.checkpoints import find_clip, is_bucket
from tasks.errors import RequestError
from tasks.job import NO_CLIP, Job

logger = logging.getLogger(__name__)


def clip_of(job: Job) -> Checkpoint | None:
    """Find the CLIP of a job; None where it wants none.

    Raises:
        RequestError: if it is the miniature's, and the job's model is another one's.
        CheckpointError, CheckpointUnreachable, StoreError: if it can't be found.
    """
    if job.clip == NO_CLIP:
        return None
    clip = find_clip(job.clip, job.clip_revision)
    check_judge(job.clip, clip.folder, job.model)
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
    is_elsewhere = is_bucket(model) or (is_hub_id(model) and not place.is_dir())
    if is_elsewhere or ((place / PIPELINE).exists() and not is_miniature(place)):
        raise RequestError(
            f"The model {model} needs another CLIP than {clip!r}, which was trained on the miniature's drawings and "
            "would refuse most of what is real; give --clip MODEL and a policy that was measured on it, or --clip none "
            "for lists, profiles and whatever else the policy names alone."
        )


def load_policy(policy: str, clip: str) -> Policy:
    """The policy of a name or path, to be used with a CLIP, or without one.

    Raises:
        RequestError: if it can't be read, or its thresholds were measured on another CLIP.
    """
    try:
        found = Policy.load(policy)
    except PolicyError as error:
        raise RequestError(str(error)) from error
    if clip == NO_CLIP:
        return found.without_clip
    if found.calibrated_for not in (None, clip):
        measured = f"the CLIP {found.calibrated_for!r}" if found.calibrated_for else "no CLIP yet"
        raise RequestError(
            f"The policy {policy} was measured on {measured} and would misjudge with {clip!r}: measure its thresholds "
            "on that one with packshot calibrate."
        )
    return found


def unasked(policy: Policy) -> str:
    """Say what nobody looks for, of a policy that is used without a CLIP."""
    names = ", ".join(concept.name.replace("_", " ") for concept in policy.concepts)
    concepts = f"its concepts ({names}) aren't looked for" if names else "it names no concepts"
    probe = "lists and the probe" if policy.probe else "lists"
    return (
        f"No CLIP judges, as the job's clip is none: of the policy {policy.name} the {probe} count, {concepts}, and "
        "whether a picture fits its prompt isn't checked."
    )


class Judges:
    """Holds the CLIP open, with the policy's concepts embedded by it; without one, no concept is looked for."""

    def __init__(
        self, policy: Policy, clip: Checkpoint | None, profiles: Mapping[str, Profile], *, device: str
    ) -> None:
        self.policy, self.profiles = policy, profiles
        self.asks_clip = clip is not None
        self._clip_checkpoint, self._device = clip, device

    @loaded_once
    def clip(self) -> Clip:
        """The CLIP, loaded when it is first asked.

        Raises:
            CheckpointError: if it can't be opened, or the job has none.
        """
        if self._clip_checkpoint is None:
            raise CheckpointError("The job has no CLIP (clip is none); give one with --clip.")
        from models.clip.clip import Clip  # imports torch, which takes seconds: not where nothing is to be judged

        return Clip.load(self._clip_checkpoint, device=self._device)

    @loaded_once
    def concepts(self) -> ConceptEmbeddings:
        """The policy's phrases as this CLIP reads them."""
        return embed_concepts(self.policy, self.clip.embed_texts)

    def see(
        self,
        pictures: Sequence[np.ndarray],
        windows: Sequence[np.ndarray | None] | None = None,
        policy: Policy | None = None,
    ) -> list[Verdict]:
        """What the policy says of pictures, uint8 [H, W, 3], beside the windows of their prompts where there are any.

        `policy` is a part of the run's, where not all of it counts.

        A classifier that fails refuses: whatever goes wrong, no picture passes unseen.
        """
        if not pictures:
            return []
        if not self.asks_clip:
            return [allow() for _ in pictures]
        try:
            clip, concepts = self.clip, self.concepts
        except Exception as error:
            logger.exception("The CLIP could not be asked about pictures.")
            return [_unclassified(error) for _ in pictures]
        return [
            thing if isinstance(thing, Verdict) else judge_picture(thing, prompt, concepts, policy or self.policy)
            for thing, prompt in zip(_embedded(pictures, clip), windows or [None] * len(pictures), strict=True)
        ]

    def nearness(self, verdict: Verdict) -> dict[str, tuple[float, float]]:
        """How near a picture comes to what the policy looks for, by what `see` said: score and threshold, by name."""
        limits = looked_for(self.policy)
        return {name: (verdict.scores[name], limit) for name, limit in limits.items() if name in verdict.scores}

    def prompt_windows(self, prompts: Sequence[str]) -> list[np.ndarray]:
        """Embeddings of each prompt's windows: float32 [windows, dimensions] a prompt.

        Halves of a character, which no tokenizer takes, are read as question marks.
        """
        return self.clip.embed_windows([prompt.encode("utf-8", "replace").decode() for prompt in prompts])


def unjudged(reason: Reason, what: str, error: Exception) -> Verdict:
    """The refusal of something that a classifier failed of; `what` should have been done to it.

    Raises:
        DeviceLost: if the classifier's device is lost, which is no row's fault and would refuse all of them.
    """
    if isinstance(error, DeviceLost):
        raise error
    if isinstance(error, RuntimeError):
        from models.failure import blame  # imports torch, as what failed so has done

        blame(error)
    # Only a checkpoint's errors are made to be shown: another one may quote a whole prompt.
    why = str(error) if isinstance(error, CheckpointError) else f"{type(error).__name__}."
    return fail(reason, f"The {what}: {why}")


def _unclassified(error: Exception) -> Verdict:
    return unjudged(Reason.CLASSIFIER_FAILED, "picture could not be classified", error)


def _embedded(pictures: Sequence[np.ndarray], clip: Clip) -> list[np.ndarray | Verdict]:
    """The embedding of every picture, or the refusal of one that the CLIP fails of: it takes no other with it."""
    try:
        rows = clip.embed_pictures(pictures)
        if len(rows) != len(pictures):
            raise ValueError(f"{len(rows)} embeddings of {len(pictures)} pictures")
        return [*rows]
    except Exception as error:
        logger.exception("The CLIP failed of a picture." if len(pictures) == 1 else "The CLIP failed of pictures.")
        if len(pictures) == 1:
            return [_unclassified(error)]
        return [thing for picture in pictures for thing in _embedded([picture], clip)]


def looked_for(policy: Policy) -> dict[str, float]:
    """The concepts that a policy looks for in pictures, with the score from which on a picture shows them."""
    return {
        concept.name: concept.picture_threshold for concept in policy.concepts if concept.picture_threshold is not None
    }
