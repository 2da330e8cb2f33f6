"""CLIP concepts: how close a prompt or a picture comes to what the policy refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from safety.policy.policy import PROMPT_MATCH, Policy
from safety.verdict import Reason, Verdict, allow, ask, fail, refuse, strictest


@dataclass(frozen=True)
class ConceptEmbeddings:
    """The policy's phrases as the classifier sees them: float32, every row of length 1."""

    phrases: Mapping[str, np.ndarray]  # by concept: [P, D]
    exempt: Mapping[str, np.ndarray]  # by concept, the policy's neutral phrases included: [E, D], E may be 0


def embed_concepts(policy: Policy, embed: Callable[[Sequence[str]], np.ndarray]) -> ConceptEmbeddings:
    """Embed every phrase of `policy` with one call of `embed`, which maps N texts to [N, D].

    Raises:
        ValueError: if `embed` answers with another shape, or with a row that is zero or not finite. Better to
            stop before the first picture than to refuse every one of them.
    """
    texts = list(
        dict.fromkeys(
            [phrase for concept in policy.concepts for phrase in (*concept.phrases, *concept.exempt)]
            + list(policy.neutral)
        )
    )
    if not texts:
        return ConceptEmbeddings({}, {})
    rows = np.asarray(embed(texts))
    if rows.ndim != 2 or len(rows) != len(texts):
        raise ValueError(f"The classifier gave embeddings of shape {rows.shape} for {len(texts)} concept phrases.")
    unit = _unit(rows)
    if unit is None:
        raise ValueError("The classifier gave a concept phrase an embedding that is zero or not finite.")
    at = {text: index for index, text in enumerate(texts)}

    def pick(phrases: Sequence[str]) -> np.ndarray:
        return unit[[at[phrase] for phrase in phrases]]  # [len(phrases), D]

    return ConceptEmbeddings(
        phrases={concept.name: pick(concept.phrases) for concept in policy.concepts},
        exempt={concept.name: pick((*concept.exempt, *policy.neutral)) for concept in policy.concepts},
    )


def judge_prompt(windows: np.ndarray, concepts: ConceptEmbeddings, policy: Policy) -> Verdict:
    """Judge a prompt by its embedding windows, [W, D]: the worst window counts for every concept."""
    unit = _unit(windows)
    scores = None if unit is None else _scores(unit, concepts, policy)
    if scores is None:
        return fail(Reason.SCREEN_FAILED, "The prompt couldn't be screened, and what can't be screened is refused.")
    limits = {concept.name: concept.prompt_threshold for concept in policy.concepts}
    return _flagged("prompt", scores, limits, policy) or allow(scores)


def judge_picture(
    picture: np.ndarray, prompt: np.ndarray | None, concepts: ConceptEmbeddings, policy: Policy
) -> Verdict:
    """Judge a picture by its embedding [D], and how well it fits its prompt by the prompt's windows [W, D].

    A concept's score is the largest cosine to its phrases minus the largest cosine to its exempt and the policy's
    neutral phrases. The score `prompt_match` is the cosine to the best window; without a prompt there is none.
    """
    failed = "The picture couldn't be classified, and what can't be classified is refused."
    if np.ndim(picture) != 1:
        return fail(Reason.CLASSIFIER_FAILED, failed)
    unit = _unit(np.asarray(picture)[None])
    scores = None if unit is None else _scores(unit, concepts, policy)
    if unit is None or scores is None:
        return fail(Reason.CLASSIFIER_FAILED, failed)
    if prompt is not None:
        windows = _unit(prompt)
        if windows is None or windows.shape[1] != unit.shape[1]:
            return fail(Reason.CLASSIFIER_FAILED, failed, scores)
        scores[PROMPT_MATCH] = float((windows @ unit[0]).max())
    limits = {concept.name: concept.picture_threshold for concept in policy.concepts}
    flagged = _flagged("picture", scores, limits, policy) or allow(scores)
    least = policy.min_prompt_match
    if least is not None and scores.get(PROMPT_MATCH, least) < least:
        off = (
            f"The picture doesn't show what its prompt asks for (match {scores[PROMPT_MATCH]:.3f}, limit {least:.3f})."
        )
        return strictest([flagged, refuse(Reason.OFF_PROMPT, off, scores)])
    return flagged


def _unit(rows: np.ndarray) -> np.ndarray | None:
    """Return rows of length 1, [N, D] float32; None for anything a cosine would make no sense of."""
    try:
        rows = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    if rows.ndim != 2 or 0 in rows.shape or not np.isfinite(rows).all():
        return None
    largest = np.abs(rows).max(axis=1, keepdims=True)
    if not (largest > 0).all():
        return None
    rows = rows / largest  # first, so that no square overflows or vanishes
    unit: np.ndarray = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _scores(unit: np.ndarray, concepts: ConceptEmbeddings, policy: Policy) -> dict[str, float] | None:
    """Return every concept's score for the worst row of `unit` [N, D]; None if any of them can't be had."""
    scores = {}
    for concept in policy.concepts:
        phrases, exempt = concepts.phrases.get(concept.name), concepts.exempt.get(concept.name)
        if phrases is None or exempt is None or not len(phrases):
            return None
        if phrases.shape[1] != unit.shape[1] or (len(exempt) and exempt.shape[1] != unit.shape[1]):
            return None
        near = (unit @ phrases.T).max(axis=1)  # [N]
        far = (unit @ exempt.T).max(axis=1) if len(exempt) else 0.0
        scores[concept.name] = float((near - far).max())
    return scores if np.isfinite(list(scores.values())).all() else None


def _flagged(
    what: str, scores: Mapping[str, float], limits: Mapping[str, float | None], policy: Policy
) -> Verdict | None:
    """Return what is said of concepts over their limits, if any is: one that blocks, else a review of all."""
    over = {name: scores[name] - limit for name, limit in limits.items() if limit is not None and scores[name] >= limit}
    concepts = {concept.name: concept for concept in policy.concepts}
    furthest = sorted(over, key=lambda name: -over[name])

    def close(name: str) -> str:
        return f"too close to “{name.replace('_', ' ')}” ({scores[name]:.3f}, limit {limits[name]:.3f})"

    blocking = [name for name in furthest if concepts[name].answer == "block"]
    if blocking:
        worst = blocking[0]
        return refuse(Reason.CONCEPT, f"The {what} comes {close(worst)}. {concepts[worst].sentence}", scores)
    if furthest:
        near = ", and ".join(map(close, furthest))
        sentences = " ".join(dict.fromkeys(concepts[name].sentence for name in furthest))
        return ask(over, f"A person must look: the {what} comes {near}. {sentences}", scores)
    return None
