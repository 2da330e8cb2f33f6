"""Why a policy says what it says of a prompt or a picture, and how near it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from safety.policy.concepts import ConceptEmbeddings
from safety.policy.policy import Policy
from safety.probes.probe import PREFIX, Probe
from safety.text.blocklist import Blocklist
from safety.text.normalise import normalise
from safety.verdict import Verdict

What = Literal["prompt", "picture"]


@dataclass(frozen=True)
class Listed:
    """A listed entry that a text contains."""

    term: str
    list: str
    language: str
    written: str  # the words of the text that say so, folded
    exception: bool  # it allows what it names


@dataclass(frozen=True)
class Nearness:
    """How near a prompt or a picture comes to a concept."""

    concept: str
    score: float
    limit: float | None  # at or above it is refused; None where the concept isn't looked for
    phrase: str  # the concept's that is nearest; a probe has none
    exempt: str | None  # what is exempt and nearest

    @property
    def room(self) -> float | None:
        """How far below its limit the score is; what is refused has none, and is below zero or at it."""
        return None if self.limit is None else self.limit - self.score


@dataclass(frozen=True)
class Explanation:
    """The verdict on one thing, and everything that it was, or wasn't, for."""

    what: What
    verdict: Verdict
    read_as: tuple[str, ...] = ()  # the canonical form of a text, then what else it may mean
    listed: tuple[Listed, ...] = ()
    near: tuple[Nearness, ...] = ()  # the nearest first; empty where no classifier was asked, or it failed
    match: tuple[float, float | None] | None = None  # of a picture with its prompt: the cosine, and the least allowed
    unasked: str | None = None  # what nobody looked for, in a sentence, where no CLIP was asked


def probe_nearness(scores: Mapping[str, float], probe: Probe) -> tuple[Nearness, ...]:
    """Return how near the scores of a probe come to its concepts, the nearest first; none where it couldn't judge."""
    names = {f"{PREFIX}{concept.name}": concept.threshold for concept in probe.about.concepts}
    near = [Nearness(name, scores[name], limit, "", None) for name, limit in names.items() if name in scores]
    return tuple(sorted(near, key=lambda one: one.limit - one.score if one.limit is not None else 0.0))


def readings(text: str) -> tuple[str, ...]:
    """Return the ways in which a text is read before it is searched, each once."""
    return tuple(dict.fromkeys(" ".join(reading.words) for reading in normalise(text).readings))


def listed_in(text: str, blocklist: Blocklist) -> tuple[Listed, ...]:
    """Return every listed entry that a text contains, exceptions too, each once."""
    return tuple(
        dict.fromkeys(
            Listed(found.entry.text, found.entry.list, found.entry.language, found.written, found.entry.exception)
            for found in blocklist.find(text)
        )
    )


def nearness(
    rows: np.ndarray, scores: Mapping[str, float], concepts: ConceptEmbeddings, policy: Policy, what: What
) -> tuple[Nearness, ...]:
    """Return how near rows [N, D] of length 1, a prompt's windows or a picture, come to each concept.

    Args:
        scores: those of the verdict on them.
    """
    found = []
    for concept in policy.concepts:
        if concept.name not in scores:
            continue
        near = rows @ concepts.phrases[concept.name].T  # [N, phrases]
        far = rows @ concepts.exempt[concept.name].T  # [N, exempt phrases]
        exempt = (*concept.exempt, *policy.neutral)
        worst = int((near.max(axis=1) - (far.max(axis=1) if exempt else 0.0)).argmax())
        found.append(
            Nearness(
                concept.name,
                scores[concept.name],
                concept.prompt_threshold if what == "prompt" else concept.picture_threshold,
                concept.phrases[int(near[worst].argmax())],
                exempt[int(far[worst].argmax())] if exempt else None,
            )
        )
    return tuple(sorted(found, key=lambda one: (one.room is None, one.room)))
