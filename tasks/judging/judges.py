"""The judges of a run: the policy, the classifiers that speak beside its lists, and the profiles."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from models.checkpoints.checkpoint import CheckpointError
from models.loading.loaded_once import loaded_once
from models.lost_device import DeviceLost
from safety.pictures.profile import Profile
from safety.policy.policy import Policy, PolicyError
from safety.verdict import Reason, Verdict, fail, strictest
from tasks.errors import RequestError
from tasks.job_sections import NO_CLIP
from tasks.judging.classifier import Classifier, OpenClassifier, TextReading
from tasks.judging.clip_classifier import CLIP, OpenClip

logger = logging.getLogger(__name__)

Thing = TypeVar("Thing")
Answer = TypeVar("Answer")


def load_policy(policy: str, clip: str) -> Policy:
    """Return the policy of a name or path, to be used with a CLIP, or without one.

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
    """Holds the classifiers of a run open, each from when it is first asked.

    A classifier that fails refuses, whatever the others say: whatever goes wrong, nothing passes unseen.
    """

    def __init__(
        self, policy: Policy, classifiers: Sequence[Classifier], profiles: Mapping[str, Profile], *, device: str
    ) -> None:
        self.policy, self.profiles, self.device = policy, profiles, device
        self.classifiers = tuple(classifiers)
        self._judges = tuple(_Judge(one, policy, device) for one in classifiers)

    def screen(self, texts: Sequence[str]) -> list[TextReading]:
        """Return what the classifiers say of texts, and what each keeps of them, by its name."""
        asked = [judge.screen(texts) for judge in self._judges] if texts else []
        return [_together([readings[at] for readings in asked]) for at in range(len(texts))]

    def see(
        self,
        pictures: Sequence[np.ndarray],
        kept: Sequence[Mapping[str, Any]] | None = None,
        *,
        conditions: bool = False,
    ) -> list[Verdict]:
        """Return what classifiers say of pictures, uint8 [H, W, 3], beside what was kept of their prompts, if any.

        `conditions` says that these are what pictures are drawn after, of which less counts.
        """
        kept = kept or [{}] * len(pictures)
        asked = [judge.classify(pictures, kept, conditions) for judge in self._judges] if pictures else []
        return [strictest(verdicts[at] for verdicts in asked) for at in range(len(pictures))]

    def nearness(self, verdict: Verdict) -> dict[str, tuple[float, float]]:
        """Return how near a picture comes to what the policy looks for: score of `see` and threshold, by name."""
        limits = looked_for(self.policy)
        return {name: (verdict.scores[name], limit) for name, limit in limits.items() if name in verdict.scores}

    @property
    def asks_clip(self) -> bool:
        """Whether a CLIP is among the classifiers."""
        return any(judge.name == CLIP for judge in self._judges)

    @property
    def by_clip(self) -> OpenClip:
        """The CLIP, opened when it is first asked.

        Raises:
            CheckpointError: if it can't be opened, or the job has none.
        """
        for judge in self._judges:
            if judge.name == CLIP and isinstance(opened := judge.opened, OpenClip):
                return opened
        raise CheckpointError("The job has no CLIP (clip is none)", "give one with --clip.")

    @property
    def besides_clip(self) -> Judges:
        """The other classifiers."""
        others = [one for one in self.classifiers if one.name != CLIP]
        return Judges(self.policy, others, self.profiles, device=self.device)


class _Judge:
    """One classifier of a run, opened when it is first asked."""

    def __init__(self, classifier: Classifier, policy: Policy, device: str) -> None:
        self.name = classifier.name
        self._classifier, self._policy, self._device = classifier, policy, device

    @loaded_once
    def opened(self) -> OpenClassifier:
        """Return the classifier, ready to judge."""
        return self._classifier.open(self._policy, device=self._device)

    def screen(self, texts: Sequence[str]) -> list[TextReading]:
        """Return what it says of texts, or that it failed of them."""

        def ask(some: Sequence[str]) -> list[TextReading]:
            return [TextReading(self._own(one.verdict), {self.name: one.kept}) for one in self.opened.screen(some)]

        def failed(error: Exception) -> TextReading:
            return TextReading(unjudged(Reason.SCREEN_FAILED, f"prompt could not be screened{self._by}", error), {})

        return self._answers("prompt", texts, ask, failed)

    def classify(
        self, pictures: Sequence[np.ndarray], kept: Sequence[Mapping[str, Any]], conditions: bool
    ) -> list[Verdict]:
        """Return what it says of pictures, or that it failed of them."""

        def ask(some: Sequence[tuple[np.ndarray, Any]]) -> list[Verdict]:
            shown, known = [picture for picture, _ in some], [what for _, what in some]
            return [self._own(one) for one in self.opened.classify(shown, known, conditions=conditions)]

        def failed(error: Exception) -> Verdict:
            return unjudged(Reason.CLASSIFIER_FAILED, f"picture could not be classified{self._by}", error)

        pairs = [(picture, one.get(self.name)) for picture, one in zip(pictures, kept, strict=True)]
        return self._answers("picture", pairs, ask, failed)

    def _answers(
        self,
        what: str,
        things: Sequence[Thing],
        ask: Callable[[Sequence[Thing]], list[Answer]],
        failed: Callable[[Exception], Answer],
    ) -> list[Answer]:
        try:
            self.opened  # noqa: B018  opens it, which isn't tried again for each thing
        except Exception as error:
            logger.exception("%s could not be asked about %ss.", self._title, what)
            return [failed(error) for _ in things]
        return self._each(what, things, ask, failed)

    def _each(
        self,
        what: str,
        things: Sequence[Thing],
        ask: Callable[[Sequence[Thing]], list[Answer]],
        failed: Callable[[Exception], Answer],
    ) -> list[Answer]:
        """Return the answer about every thing, or the refusal of one that it fails of: that takes no other with it."""
        try:
            answers = ask(things)
            if len(answers) != len(things):
                raise ValueError(f"{len(answers)} answers about {len(things)} {what}s")
            return answers
        except Exception as error:
            logger.exception("%s failed of %s.", self._title, f"a {what}" if len(things) == 1 else f"{what}s")
            if len(things) == 1:
                return [failed(error)]
            return [answer for thing in things for answer in self._each(what, [thing], ask, failed)]

    def _own(self, verdict: Verdict) -> Verdict:
        """Return a verdict whose scores say whose they are.

        Raises:
            ValueError: if a score isn't a number, of which nobody knows on which side of a limit it is.
        """
        if not all(math.isfinite(score) for score in (*verdict.scores.values(), *verdict.asks.values())):
            raise ValueError(f"scores that are no numbers: {sorted(verdict.scores)}")
        if self.name == CLIP:
            return verdict
        scores, asks = (
            {f"{self.name}.{name}": score for name, score in some.items()} for some in (verdict.scores, verdict.asks)
        )
        return replace(verdict, scores=scores, asks=asks)

    @property
    def _title(self) -> str:
        return "The CLIP" if self.name == CLIP else f"The classifier {self.name}"

    @property
    def _by(self) -> str:
        return "" if self.name == CLIP else f" by the classifier {self.name}"


def _together(readings: Sequence[TextReading]) -> TextReading:
    """Return what all classifiers say of one text, and what each of them keeps of it."""
    kept = {name: one for reading in readings for name, one in reading.kept.items()}
    return TextReading(strictest(reading.verdict for reading in readings), kept)


def unjudged(reason: Reason, what: str, error: Exception) -> Verdict:
    """Return the refusal of something that a classifier failed of; `what` should have been done to it.

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


def looked_for(policy: Policy) -> dict[str, float]:
    """Return the concepts that a policy looks for in pictures, with the score from which on a picture shows them."""
    return {
        concept.name: concept.picture_threshold for concept in policy.concepts if concept.picture_threshold is not None
    }
