"""Training: the optimum of a convex problem, parts that stay apart, and figures that are earned."""

from __future__ import annotations

import numpy as np
import pytest

from safety.probes.probe import Probe, ProbeError, judge_vectors
from safety.probes.probe_training import FEWEST, Trained, fit_logistic, merged, part_of, train

Examples = tuple[list[str], list[frozenset[str]], np.ndarray]


def examples(each: int = 200, *, distance: float = 3.0, seed: int = 0) -> Examples:
    """Prompts whose vectors lie around a place of their label's own, in 24 dimensions of very unlike scales."""
    random = np.random.default_rng(seed)
    places = {"safe": np.zeros(24), "drugs": np.eye(24)[3] * distance, "weapon": np.eye(24)[7] * distance}
    names = [name for name in places for _ in range(each)]
    vectors = np.stack([places[name] + random.normal(size=24) for name in names])
    vectors *= np.geomspace(1e-3, 1e3, 24)
    vectors[:, 0] = 5.0  # one that never changes
    labels = [frozenset[str]() if name == "safe" else frozenset({name}) for name in names]
    return [f"{name} {number}" for number, name in enumerate(names)], labels, vectors


def trained(
    prompts: list[str], labels: list[frozenset[str]], vectors: np.ndarray, rate: float = 0.1
) -> tuple[Probe, list[Trained]]:
    return train(prompts, labels, vectors, text_encoder="e", checkpoint="c", pooling="p", max_false_positives=rate)


def test_a_regression_is_where_its_gradient_is_zero() -> None:
    random = np.random.default_rng(1)
    rows, is_unsafe = random.normal(size=(80, 200)), random.random(80) < 0.3

    weight, bias = fit_logistic(rows, is_unsafe, 0.01)

    odds = 1 / (1 + np.exp(-(rows @ weight + bias)))
    share = np.where(is_unsafe, 0.5 / is_unsafe.sum(), 0.5 / (~is_unsafe).sum())
    gradient = rows.T @ (share * (odds - is_unsafe)) + 0.01 * weight
    assert np.abs(gradient).max() < 1e-6
    assert abs(share @ (odds - is_unsafe)) < 1e-6


def test_what_is_told_is_what_the_probe_does_with_the_held_out_part() -> None:
    prompts, labels, vectors = examples(distance=5.0)
    probe, told = trained(prompts, labels, vectors)

    out = part_of(prompts, labels) == "held out"
    verdicts = np.array([not verdict.allowed for verdict in judge_vectors(vectors, probe)])
    for one in told:
        scores = probe.scores(vectors)[:, [concept.name for concept in probe.about.concepts].index(one.concept)]
        own = np.array([one.concept in label for label in labels])
        assert one.figures.recall == np.mean(scores[out & own] >= one.figures.threshold)
        assert one.figures.unsafe == (out & own).sum() == 50
    assert min(one.figures.recall for one in told) > 0.9
    safe = np.array([not label for label in labels])
    assert verdicts[safe & out].mean() < 0.1


def test_labels_that_mean_nothing_are_not_learned() -> None:
    prompts, labels, vectors = examples(400, distance=0.0)
    _, told = trained(prompts, labels, vectors)

    assert all(one.figures.recall < 0.25 for one in told)


def test_training_again_in_another_order_gives_the_same_probe_to_rounding() -> None:
    prompts, labels, vectors = examples(120)
    order = np.random.default_rng(3).permutation(len(prompts))

    one, again = (trained(prompts, labels, vectors)[0] for _ in range(2))
    other, _ = trained([prompts[at] for at in order], [labels[at] for at in order], vectors[order])

    assert one.data == again.data
    assert np.array_equal(
        part_of(prompts, labels)[order], part_of([prompts[at] for at in order], [labels[at] for at in order])
    )
    assert [concept.name for concept in other.about.concepts] == ["drugs", "weapon"]


def test_a_prompt_may_have_several_labels() -> None:
    prompts, labels, vectors = examples(120)
    labels = [label | {"weapon"} if "drugs" in label else label for label in labels]

    probe, told = trained(prompts, labels, vectors)

    assert [one.figures.unsafe for one in told] == [30, 60]
    assert [concept.name for concept in probe.about.concepts] == ["drugs", "weapon"]


def test_every_label_is_in_every_part() -> None:
    prompts, labels, _ = examples(FEWEST)
    parts = part_of(prompts, labels)

    for name in ("safe", "drugs", "weapon"):
        own = [part for part, label in zip(parts, labels, strict=True) if (name in label if label else name == "safe")]
        assert {part: own.count(part) for part in set(own)} == {"fit": 10, "threshold": 5, "held out": 5}


def test_too_few_examples_and_vectors_that_are_not_finite_are_refused_in_a_sentence() -> None:
    prompts, labels, vectors = examples(FEWEST)
    broken = vectors.copy()
    broken[3, 3] = np.nan

    with pytest.raises(ProbeError, match="19 different prompts are labelled safe; a probe needs at least 20"):
        trained(prompts[1:], labels[1:], vectors[1:])
    with pytest.raises(ProbeError, match="No prompt is labelled with a concept"):
        trained(prompts[:FEWEST], labels[:FEWEST], vectors[:FEWEST])
    with pytest.raises(ProbeError, match="aren't finite"):
        trained(prompts, labels, broken, 0.5)
    with pytest.raises(ProbeError, match=r"20 different prompts are safe; to promise 10 % .* it takes 116"):
        trained(prompts, labels, vectors)


def test_prompts_that_differ_in_case_or_spaces_are_one_and_may_not_contradict() -> None:
    weapon, safe = frozenset({"weapon"}), frozenset[str]()

    assert merged([("a gun", weapon), (" A  Gun", weapon), ("a mug", safe)]) == {"a gun": weapon, "a mug": safe}
    with pytest.raises(ProbeError, match=r"The prompt 'A GUN' is labelled weapon and safe; label it once\."):
        merged([("a gun", weapon), ("A GUN", safe)])
