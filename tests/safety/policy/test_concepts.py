from collections.abc import Sequence

import numpy as np
import pytest

from safety.policy.concepts import ConceptEmbeddings, embed_concepts, judge_picture, judge_prompt
from safety.policy.policy import Concept, Policy
from safety.text.blocklist import Blocklist
from safety.verdict import Reason

AXES = {"a gun": 0, "a rifle": 1, "a water gun": 2, "a mug": 3, "a watermark": 4}
CANARY = np.eye(6)[5]  # like nothing in the policy


def embed(texts: Sequence[str]) -> np.ndarray:
    return np.stack([np.eye(6, dtype=np.float32)[AXES[text]] * 7 for text in texts])


def mix(**weights: float) -> np.ndarray:
    return sum(weight * np.eye(6)[AXES[name.replace("_", " ")]] for name, weight in weights.items())  # type: ignore[return-value]


@pytest.fixture
def toy() -> Policy:
    return Policy(
        name="toy",
        blocklist=Blocklist([]),
        neutral=("a mug",),
        min_prompt_match=0.2,
        concepts=(
            Concept(
                name="weapon",
                sentence="No weapons.",
                phrases=("a gun", "a rifle"),
                exempt=("a water gun",),
                prompt_threshold=0.3,
                picture_threshold=0.5,
            ),
            Concept(name="watermark", sentence="No watermarks.", phrases=("a watermark",), picture_threshold=0.4),
        ),
    )


@pytest.fixture
def concepts(toy: Policy) -> ConceptEmbeddings:
    return embed_concepts(toy, embed)


def test_phrases_are_embedded_once_and_have_length_one(toy: Policy):
    calls: list[list[str]] = []

    def counting(texts: Sequence[str]) -> np.ndarray:
        calls.append(list(texts))
        return embed(texts)

    concepts = embed_concepts(toy, counting)
    assert len(calls) == 1
    assert len(calls[0]) == len(set(calls[0])) == 5
    assert concepts.phrases["weapon"].dtype == np.float32
    assert concepts.exempt["weapon"].shape == (2, 6)  # its own exempt phrase and the neutral one
    np.testing.assert_allclose(np.linalg.norm(concepts.phrases["weapon"], axis=1), 1)


def test_the_worst_window_of_a_prompt_counts(toy: Policy, concepts: ConceptEmbeddings):
    innocent = np.stack([mix(**{"a mug": 1})] * 9)
    assert judge_prompt(innocent, concepts, toy).allowed
    for place in range(9):
        windows = innocent.copy()
        windows[place] = mix(**{"a rifle": 1})
        verdict = judge_prompt(windows, concepts, toy)
        assert verdict.reason is Reason.CONCEPT
        assert verdict.scores["weapon"] == pytest.approx(1)


def test_what_is_exempt_counts_against_what_is_refused(toy: Policy, concepts: ConceptEmbeddings):
    assert not judge_prompt(mix(**{"a gun": 1, "a water gun": 0.5})[None], concepts, toy).allowed
    assert judge_prompt(mix(**{"a gun": 1, "a water gun": 0.9})[None], concepts, toy).allowed
    assert judge_prompt(mix(**{"a gun": 1, "a mug": 0.9})[None], concepts, toy).allowed


def test_a_score_at_the_threshold_is_refused_and_one_below_is_not(toy: Policy, concepts: ConceptEmbeddings):
    at = toy.model_copy(update={"concepts": (toy.concepts[0].model_copy(update={"prompt_threshold": 1.0}),)})
    assert not judge_prompt(mix(**{"a gun": 1})[None], concepts, at).allowed
    above = toy.model_copy(update={"concepts": (toy.concepts[0].model_copy(update={"prompt_threshold": 1.01}),)})
    assert judge_prompt(mix(**{"a gun": 1})[None], concepts, above).allowed


def test_a_concept_without_a_prompt_threshold_is_scored_but_not_refused_in_prompts(
    toy: Policy, concepts: ConceptEmbeddings
):
    verdict = judge_prompt(mix(**{"a watermark": 1})[None], concepts, toy)
    assert verdict.allowed
    assert verdict.scores["watermark"] == pytest.approx(1)
    refusal = judge_picture(mix(**{"a watermark": 1}), None, concepts, toy)
    assert refusal.message == "The picture comes too close to “watermark” (1.000, limit 0.400). No watermarks."


def test_a_picture_that_does_not_fit_its_prompt_is_refused(toy: Policy, concepts: ConceptEmbeddings):
    prompt = np.stack([CANARY, mix(**{"a mug": 1})])
    verdict = judge_picture(mix(**{"a mug": 1}), prompt, concepts, toy)
    assert verdict.allowed
    assert verdict.scores["prompt_match"] == pytest.approx(1)  # the best window
    assert judge_picture(mix(**{"a mug": 1}), CANARY[None], concepts, toy).reason is Reason.OFF_PROMPT
    assert judge_picture(mix(**{"a mug": 1}), None, concepts, toy).allowed
    lenient = toy.model_copy(update={"min_prompt_match": None})
    assert judge_picture(mix(**{"a mug": 1}), CANARY[None], concepts, lenient).allowed


def test_a_concept_weighs_more_than_a_poor_match(toy: Policy, concepts: ConceptEmbeddings):
    verdict = judge_picture(mix(**{"a gun": 1}), CANARY[None], concepts, toy)
    assert verdict.reason is Reason.CONCEPT
    assert set(verdict.scores) == {"weapon", "watermark", "prompt_match"}


def reviewed(policy: Policy, *names: str) -> Policy:
    """The policy with these concepts left to a person."""
    concepts = [
        concept.model_copy(update={"answer": "review"}) if concept.name in names else concept
        for concept in policy.concepts
    ]
    return policy.model_copy(update={"concepts": tuple(concepts)})


def test_a_concept_that_is_left_to_a_person_asks_for_a_review(toy: Policy, concepts: ConceptEmbeddings):
    policy = reviewed(toy, "weapon")
    for verdict, over in (
        (judge_prompt(mix(**{"a gun": 1})[None], concepts, policy), 0.7),
        (judge_picture(mix(**{"a gun": 1}), None, concepts, policy), 0.5),
    ):
        assert (verdict.allowed, verdict.reason, verdict.asks) == (
            False,
            Reason.REVIEW,
            pytest.approx({"weapon": over}),
        )
        assert verdict.scores["weapon"] == pytest.approx(1)
    assert verdict.message == (
        "A person must look: the picture comes too close to “weapon” (1.000, limit 0.500). No weapons."
    )
    assert judge_prompt(mix(**{"a mug": 1})[None], concepts, policy).allowed


def test_a_concept_that_blocks_beats_one_that_is_left_to_a_person_however_near(
    toy: Policy, concepts: ConceptEmbeddings
):
    both = mix(**{"a gun": 1, "a watermark": 0.7})
    assert judge_picture(both, None, concepts, reviewed(toy, "weapon")).message == (
        "The picture comes too close to “watermark” (0.573, limit 0.400). No watermarks."
    )
    everything = judge_picture(both, None, concepts, reviewed(toy, "weapon", "watermark"))
    assert list(everything.asks) == ["weapon", "watermark"]  # the one furthest over its limit first
    assert "too close to “weapon” (0.819, limit 0.500), and too close to “watermark”" in str(everything.message)


def test_a_poor_match_beats_a_review(toy: Policy, concepts: ConceptEmbeddings):
    verdict = judge_picture(mix(**{"a gun": 1}), CANARY[None], concepts, reviewed(toy, "weapon"))
    assert (verdict.reason, verdict.asks) == (Reason.OFF_PROMPT, {})


NAN, INFINITE = np.full(6, np.nan), np.full(6, np.inf)
BROKEN = [NAN, INFINITE, -INFINITE, np.zeros(6), np.ones(5), np.ones((0,)), np.array(["a"] * 6), np.array([None] * 6)]


@pytest.mark.parametrize("row", BROKEN, ids=range(len(BROKEN)))
def test_anything_uncertain_counts_as_unsafe(toy: Policy, concepts: ConceptEmbeddings, row: np.ndarray):
    fine = mix(**{"a mug": 1})
    assert judge_prompt(row[None], concepts, toy).reason is Reason.SCREEN_FAILED
    assert judge_picture(row, None, concepts, toy).reason is Reason.CLASSIFIER_FAILED
    assert judge_picture(fine, row[None], concepts, toy).reason is Reason.CLASSIFIER_FAILED
    if row.shape == fine.shape and row.dtype == np.float64:
        assert judge_prompt(np.stack([fine, row]), concepts, toy).reason is Reason.SCREEN_FAILED


def test_missing_windows_and_missing_concepts_count_as_unsafe(toy: Policy, concepts: ConceptEmbeddings):
    fine = mix(**{"a mug": 1})
    assert judge_prompt(np.zeros((0, 6)), concepts, toy).reason is Reason.SCREEN_FAILED
    assert judge_prompt(fine, concepts, toy).reason is Reason.SCREEN_FAILED  # one axis too few
    assert judge_picture(fine[None], None, concepts, toy).reason is Reason.CLASSIFIER_FAILED
    assert judge_picture(fine, np.zeros((0, 6)), concepts, toy).reason is Reason.CLASSIFIER_FAILED
    for incomplete in (
        ConceptEmbeddings({}, {}),
        ConceptEmbeddings(concepts.phrases, {}),
        ConceptEmbeddings(concepts.phrases | {"weapon": np.full((1, 6), np.nan)}, concepts.exempt),  # type: ignore[operator]
        ConceptEmbeddings(concepts.phrases | {"weapon": np.zeros((0, 6))}, concepts.exempt),  # type: ignore[operator]
    ):
        assert judge_prompt(fine[None], incomplete, toy).reason is Reason.SCREEN_FAILED
        assert judge_picture(fine, None, incomplete, toy).reason is Reason.CLASSIFIER_FAILED


def test_half_precision_and_extreme_scales_give_the_same_scores(toy: Policy, concepts: ConceptEmbeddings):
    row = mix(**{"a gun": 1, "a mug": 0.2})
    expected = judge_prompt(row[None], concepts, toy).scores["weapon"]
    for scaled in (row.astype(np.float16), row * 1e-300, row * 1e300):
        assert judge_prompt(scaled[None], concepts, toy).scores["weapon"] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    "answer",
    [np.zeros((5, 6)), np.full((5, 6), np.nan), np.ones((4, 6)), np.ones(5)],
    ids=["zero", "NaN", "a row short", "flat"],
)
def test_a_classifier_that_cannot_embed_the_phrases_stops_everything(toy: Policy, answer: np.ndarray):
    with pytest.raises(ValueError, match="classifier gave"):
        embed_concepts(toy, lambda _: answer)


def test_a_policy_without_concepts_allows_whatever_can_be_embedded():
    empty = Policy(name="empty", blocklist=Blocklist([]))
    concepts = embed_concepts(empty, embed)
    assert judge_prompt(CANARY[None], concepts, empty).allowed
    assert judge_prompt(NAN[None], concepts, empty).reason is Reason.SCREEN_FAILED


def test_random_embeddings_are_refused_exactly_when_a_score_reaches_its_threshold(
    toy: Policy, concepts: ConceptEmbeddings
):
    random = np.random.default_rng(3)
    for _ in range(300):
        windows = random.normal(size=(random.integers(1, 5), 6))
        verdict = judge_prompt(windows, concepts, toy)
        unit = windows / np.linalg.norm(windows, axis=1, keepdims=True)
        score = (unit[:, :2].max(axis=1) - unit[:, 2:4].max(axis=1)).max()
        assert verdict.scores["weapon"] == pytest.approx(score, abs=1e-6)
        assert verdict.allowed == (verdict.scores["weapon"] < 0.3)
