"""Training a probe: labelled prompts' vectors in, weights and thresholds out, with what to expect of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from safety.probes.calibration import Chosen, Figures, choose, measure, percent, safe_needed
from safety.probes.held_out import text_key
from safety.probes.probe import About, Answer, Probe, Probed, ProbeError

FEWEST = 20  # different prompts of each label: each of the three parts must have some
PARTS = ("fit", "fit", "threshold", "held out")  # of four prompts of a label
FOLDS = 4
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the L2 penalty, beside losses that are means
NEWTON_STEPS, CONJUGATE_STEPS = 50, 200


@dataclass(frozen=True)
class Trained:
    """A concept of a probe that was trained."""

    concept: str
    l2: float
    chosen: Chosen
    figures: Figures  # on prompts that decided nothing


def part_of(prompts: Sequence[str], labels: Sequence[frozenset[str]]) -> np.ndarray:
    """Return the part of each prompt, text [N]: a half is for fitting, a quarter for thresholds, a quarter is held out.

    Every label is dealt to all three, in an order that depends on the prompts and not on theirs.
    """

    def place(index: int) -> tuple[list[str], str]:
        return sorted(labels[index]), text_key(prompts[index])

    parts = np.empty(len(prompts), dtype="U9")
    parts[sorted(range(len(prompts)), key=place)] = [PARTS[number % len(PARTS)] for number in range(len(prompts))]
    return parts


def check_labels(prompts: Sequence[str], labels: Sequence[frozenset[str]], max_false_positives: float) -> list[str]:
    """Return the concepts that prompts, each once, are labelled with.

    Raises:
        ProbeError: if there are none, or too few examples of a label.
    """
    concepts, parts = sorted({name for label in labels for name in label}), part_of(prompts, labels)
    if not concepts:
        raise ProbeError("No prompt is labelled with a concept; label some with names such as weapon, others safe.")
    for name in ("safe", *concepts):
        own = [part for part, label in zip(parts, labels, strict=True) if (name in label if label else name == "safe")]
        if len(own) < FEWEST or {*own} != {*PARTS}:
            raise ProbeError(f"{len(own)} different prompts are labelled {name}; a probe needs at least {FEWEST}.")
        if name == "safe" and own.count("threshold") < (needed := safe_needed(max_false_positives)):
            raise ProbeError(
                f"{len(own)} different prompts are safe; to promise {percent(max_false_positives)} of false positives "
                f"it takes {len(PARTS) * needed}, a quarter of which chooses the thresholds."
            )
    return concepts


def train(
    prompts: Sequence[str],
    labels: Sequence[frozenset[str]],
    vectors: np.ndarray,
    *,
    text_encoder: str,
    checkpoint: str,
    pooling: str,
    max_false_positives: float = 0.01,
    answers: Mapping[str, Answer] | None = None,
) -> tuple[Probe, list[Trained]]:
    """Train a probe for every concept that a label names.

    Args:
        prompts: each once.
        labels: the concepts of each; none where it is safe.
        vectors: [N, D], as `models.sampling.pooled` makes them.
        text_encoder, checkpoint, pooling: see `safety.probes.probe.About`.
        max_false_positives: the share of safe prompts that each concept may refuse: see
        `safety.probes.calibration.choose`.
        answers: of concepts that don't block.

    Raises:
        ProbeError: if there are too few examples of a label, or if vectors aren't finite.
    """
    concepts, parts = check_labels(prompts, labels, max_false_positives), part_of(prompts, labels)
    if vectors.ndim != 2 or len(vectors) != len(labels) or not np.isfinite(vectors).all():
        raise ProbeError("The text encoder gave vectors that aren't finite; nothing can be learned from them.")
    vectors = np.asarray(vectors, dtype=np.float64)
    is_safe = np.array([not label for label in labels])
    fit = parts == "fit"
    mean, deviation = vectors[fit].mean(0), vectors[fit].std(0)
    scale = np.where(deviation > 1e-6 * (1 + np.abs(mean)), deviation, np.inf)  # what never changes says nothing
    rows, told = (vectors - mean) / scale, []
    weights, probed = [], []
    for concept in concepts:
        is_unsafe = np.array([concept in label for label in labels])
        l2 = _best_strength(rows[fit], is_unsafe[fit])
        weight, bias = fit_logistic(rows[fit], is_unsafe[fit], l2)
        scores = rows @ weight + bias
        sides = {part: (scores[(parts == part) & is_safe], scores[(parts == part) & is_unsafe]) for part in PARTS}
        chosen = choose(*sides["threshold"], false_positives=max_false_positives)
        told.append(Trained(concept, l2, chosen, measure(chosen.threshold, *sides["held out"])))
        plain = weight / scale
        weights.append((plain, bias - float(plain @ mean)))
        probed.append(Probed(name=concept, threshold=chosen.threshold, answer=(answers or {}).get(concept, "block")))
    about = About(text_encoder=text_encoder, checkpoint=checkpoint, pooling=pooling, concepts=tuple(probed))
    return Probe(about, np.stack([row for row, _ in weights]), np.array([bias for _, bias in weights])), told


def fit_logistic(rows: np.ndarray, is_unsafe: np.ndarray, l2: float) -> tuple[np.ndarray, float]:
    """Return weights [D] and bias of an L2-regularised logistic regression on rows [N, D], with equal classes.

    Newton's method, each step solved by conjugate gradients, so that no D × D matrix is made; it begins at zero and
    depends on nothing but its arguments. The bias isn't penalised.
    """
    design = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
    share = np.where(is_unsafe, 0.5 / max(is_unsafe.sum(), 1), 0.5 / max((~is_unsafe).sum(), 1))  # sums up to 1
    penalty = np.append(np.full(rows.shape[1], l2), 1e-9)
    found = np.zeros(design.shape[1])
    loss = _loss(design, is_unsafe, share, penalty, found)
    for _ in range(NEWTON_STEPS):
        odds = _sigmoid(design @ found)
        gradient = design.T @ (share * (odds - is_unsafe)) + penalty * found
        if np.abs(gradient).max() < 1e-9:
            break
        curvature = share * odds * (1 - odds)
        step, length = _solve(design, curvature, penalty, gradient), 1.0
        while (after := _loss(design, is_unsafe, share, penalty, found - length * step)) > loss and length > 1e-6:
            length /= 2
        if after > loss - 1e-14:
            break
        found, loss = found - length * step, after
    return found[:-1], float(found[-1])


def _best_strength(rows: np.ndarray, is_unsafe: np.ndarray) -> float:
    """Return the penalty whose probes lose least on the folds that they weren't fitted to; of equals the strongest."""
    fold = np.empty(len(rows), dtype=int)
    for side in (is_unsafe, ~is_unsafe):
        fold[side] = np.arange(side.sum()) % FOLDS
    losses = {}
    for l2 in STRENGTHS:
        losses[l2] = float(np.mean([_left_out(rows, is_unsafe, fold == one, l2) for one in range(FOLDS)]))
    return max(l2 for l2 in STRENGTHS if losses[l2] <= min(losses.values()) + 1e-12)


def _left_out(rows: np.ndarray, is_unsafe: np.ndarray, left_out: np.ndarray, l2: float) -> float:
    """Return the loss on some rows of a probe that is fitted to the others; both classes weigh the same."""
    weight, bias = fit_logistic(rows[~left_out], is_unsafe[~left_out], l2)
    scores = rows[left_out] @ weight + bias
    lost = np.logaddexp(0, np.where(is_unsafe[left_out], -scores, scores))
    return float(np.mean([lost[side].mean() for side in (is_unsafe[left_out], ~is_unsafe[left_out]) if side.any()]))


def _loss(
    design: np.ndarray, is_unsafe: np.ndarray, share: np.ndarray, penalty: np.ndarray, found: np.ndarray
) -> float:
    scores = design @ found
    return float(share @ np.logaddexp(0, np.where(is_unsafe, -scores, scores)) + (penalty * found * found).sum() / 2)


def _sigmoid(scores: np.ndarray) -> np.ndarray:
    odds: np.ndarray = np.exp(-np.logaddexp(0, -scores))
    return odds


def _solve(design: np.ndarray, curvature: np.ndarray, penalty: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Return the Newton step: conjugate gradients on the Hessian, which is positive definite."""
    step, left = np.zeros_like(gradient), gradient.copy()
    direction, size = left.copy(), float(left @ left)
    enough = 1e-12 * size
    for _ in range(CONJUGATE_STEPS):
        if size <= enough:
            break
        turned = design.T @ (curvature * (design @ direction)) + penalty * direction
        length = size / float(direction @ turned)
        step += length * direction
        left -= length * turned
        after = float(left @ left)
        direction, size = left + after / size * direction, after
    return step


def merged(examples: Iterable[tuple[str, frozenset[str]]]) -> dict[str, frozenset[str]]:
    """Return prompts, each once, with their labels; two that differ in case, spaces or disguise alone are one.

    So no prompt that a probe is tried on is one that it was fitted to.

    Raises:
        ProbeError: if one prompt is labelled in two ways.
    """
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for prompt, label in examples:
        before = found.setdefault(text_key(prompt), (prompt, label))
        if before[1] != label:
            one, other = (",".join(sorted(each)) or "safe" for each in (before[1], label))
            raise ProbeError(f"The prompt {prompt[:80]!r} is labelled {one} and {other}; label it once.")
    return dict(found.values())
