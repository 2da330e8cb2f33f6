"""Training a probe: labelled prompts' vectors in, weights and thresholds out, with what to expect of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from safety.calibration import Calibration, threshold_at, wilson
from safety.probe import About, Answer, Probe, Probed, ProbeError

SAFE = "safe"
FEWEST = 16  # different prompts of each label: each of the three parts must have some
PARTS = ("fit", "fit", "threshold", "held out")  # of four prompts of a label
FOLDS = 4
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the L2 penalty, beside losses that are means
NEWTON_STEPS, CONJUGATE_STEPS = 50, 200


@dataclass(frozen=True)
class Trained:
    """What a probe does with a concept on prompts that decided nothing about it."""

    concept: str
    threshold: float
    l2: float
    chosen: Calibration  # on the part that the threshold was chosen on
    recall: float  # from here on: on the part that was held out
    recall_interval: tuple[float, float]  # Wilson, 95 %
    false_positives: float
    false_positive_interval: tuple[float, float]  # Wilson, 95 %
    unsafe: int
    safe: int


def part_of(prompts: Sequence[str], labels: Sequence[frozenset[str]]) -> np.ndarray:
    """The part of each prompt, text [N]: a half is for fitting, a quarter for thresholds, a quarter is held out.

    Every label is dealt to all three, in an order that depends on the prompts and not on theirs.
    """

    def place(index: int) -> tuple[list[str], bytes]:
        return sorted(labels[index]), hashlib.sha256(prompts[index].encode("utf-8", "surrogatepass")).digest()

    parts = np.empty(len(prompts), dtype="U9")
    parts[sorted(range(len(prompts)), key=place)] = [PARTS[number % len(PARTS)] for number in range(len(prompts))]
    return parts


def check_labels(prompts: Sequence[str], labels: Sequence[frozenset[str]]) -> list[str]:
    """The concepts that prompts, each once, are labelled with.

    Raises:
        ProbeError: if there are none, or too few examples of a label.
    """
    concepts, parts = sorted({name for label in labels for name in label} - {SAFE}), part_of(prompts, labels)
    if not concepts:
        raise ProbeError(f"No prompt is labelled with a concept; label some with names such as weapon, others {SAFE}.")
    for name in (SAFE, *concepts):
        own = [part for part, label in zip(parts, labels, strict=True) if name in label]
        if len(own) < FEWEST or {*own} != {*PARTS}:
            raise ProbeError(f"{len(own)} different prompts are labelled {name}; a probe needs at least {FEWEST}.")
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
        labels: the concepts of each; `SAFE` alone for none of them.
        vectors: [N, D], as `models.pooled` makes them.
        text_encoder, checkpoint, pooling: see `safety.probe.About`.
        max_false_positives: the share of safe prompts that a threshold may refuse, of each concept.
        answers: of concepts that don't block.

    Raises:
        ProbeError: if there are too few examples of a label, or if vectors aren't finite.
    """
    concepts, parts = check_labels(prompts, labels), part_of(prompts, labels)
    if vectors.ndim != 2 or len(vectors) != len(labels) or not np.isfinite(vectors).all():
        raise ProbeError("The text encoder gave vectors that aren't finite; nothing can be learned from them.")
    vectors = np.asarray(vectors, dtype=np.float64)
    is_safe = np.array([label == {SAFE} for label in labels])
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
        chosen = threshold_at(
            scores[(parts == "threshold") & is_safe],
            scores[(parts == "threshold") & is_unsafe],
            max_false_positives=max_false_positives,
        )
        out = parts == "held out"
        told.append(_told(concept, l2, chosen, scores[out & is_unsafe], scores[out & is_safe]))
        plain = weight / scale
        weights.append((plain, bias - float(plain @ mean)))
        probed.append(Probed(name=concept, threshold=chosen.threshold, answer=(answers or {}).get(concept, "block")))
    about = About(text_encoder=text_encoder, checkpoint=checkpoint, pooling=pooling, concepts=tuple(probed))
    return Probe(about, np.stack([row for row, _ in weights]), np.array([bias for _, bias in weights])), told


def fit_logistic(rows: np.ndarray, is_unsafe: np.ndarray, l2: float) -> tuple[np.ndarray, float]:
    """Weights [D] and bias of an L2-regularised logistic regression on rows [N, D], both classes weighing the same.

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


def _told(concept: str, l2: float, chosen: Calibration, unsafe: np.ndarray, safe: np.ndarray) -> Trained:
    found, alarms = int((unsafe >= chosen.threshold).sum()), int((safe >= chosen.threshold).sum())
    return Trained(
        concept=concept,
        threshold=chosen.threshold,
        l2=l2,
        chosen=chosen,
        recall=found / len(unsafe),
        recall_interval=wilson(found, len(unsafe)),
        false_positives=alarms / len(safe),
        false_positive_interval=wilson(alarms, len(safe)),
        unsafe=len(unsafe),
        safe=len(safe),
    )


def _best_strength(rows: np.ndarray, is_unsafe: np.ndarray) -> float:
    """The penalty whose probes lose least on the folds that they weren't fitted to; of equals the strongest."""
    fold = np.empty(len(rows), dtype=int)
    for side in (is_unsafe, ~is_unsafe):
        fold[side] = np.arange(side.sum()) % FOLDS
    losses = {}
    for l2 in STRENGTHS:
        losses[l2] = float(np.mean([_left_out(rows, is_unsafe, fold == one, l2) for one in range(FOLDS)]))
    return max(l2 for l2 in STRENGTHS if losses[l2] <= min(losses.values()) + 1e-12)


def _left_out(rows: np.ndarray, is_unsafe: np.ndarray, left_out: np.ndarray, l2: float) -> float:
    """The loss on some rows of a probe that is fitted to the others; both classes weigh the same."""
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
    """The Newton step: conjugate gradients on the Hessian, which is positive definite."""
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
    """Prompts, each once, with their labels: those that differ in case or spaces are the same prompt.

    So no prompt that a probe is tried on is one that it was fitted to.

    Raises:
        ProbeError: if one prompt is labelled in two ways.
    """
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for prompt, label in examples:
        same = " ".join(prompt.casefold().split())
        before = found.setdefault(same, (prompt, label))
        if before[1] != label:
            one, other = (",".join(sorted(each)) for each in (before[1], label))
            raise ProbeError(f"The prompt {prompt[:80]!r} is labelled {one} and {other}; label it once.")
    return dict(found.values())
