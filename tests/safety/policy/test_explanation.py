import numpy as np

from safety.policy.concepts import embed_concepts, judge_prompt
from safety.policy.explanation import Listed, listed_in, nearness, readings
from safety.policy.policy import Concept, Policy


def space(texts: list[str]) -> np.ndarray:
    """Every text has a direction of its own in a space of eight: [N, 8]."""
    at = {"a gun": 0, "a rifle": 1, "a water gun": 2, "a cigar": 3, "a mug": 4}
    return np.eye(8, dtype=np.float32)[[at[text] for text in texts]]


POLICY = Policy(
    name="small",
    concepts=(
        Concept(
            name="weapon", sentence="No.", phrases=("a gun", "a rifle"), exempt=("a water gun",), prompt_threshold=0.15
        ),
        Concept(name="smoking", sentence="No.", phrases=("a cigar",), prompt_threshold=0.9),
        Concept(name="border", sentence="No.", phrases=("a mug",), picture_threshold=0.5),
    ),
    neutral=("a mug",),
    blocklist=Policy.load("default").blocklist,
)


def test_nearness_says_what_the_verdict_went_by():
    concepts = embed_concepts(POLICY, space)
    windows = np.zeros((2, 8), np.float32)
    windows[0, 4] = 1  # a mug
    windows[1, [1, 2]] = 0.8, 0.6  # a rifle, more than a water gun
    verdict = judge_prompt(windows, concepts, POLICY)

    weapon, smoking, border = nearness(windows, verdict.scores, concepts, POLICY, "prompt")

    assert not verdict.allowed
    assert (weapon.concept, weapon.phrase, weapon.exempt) == ("weapon", "a rifle", "a water gun")
    assert weapon.score == verdict.scores["weapon"]
    assert weapon.room is not None
    assert weapon.room < 0
    assert np.isclose(weapon.room, 0.15 - (0.8 - 0.6), atol=1e-6)
    assert (smoking.concept, smoking.room) == ("smoking", 0.9 - verdict.scores["smoking"])
    assert (border.concept, border.limit, border.room) == ("border", None, None)  # not of a prompt


def test_everything_that_is_listed_is_named_once_and_as_it_is_written():
    text = "2 water guns, a p1stol, a p1stol, h-e-r-o-i-n, 手 枪"
    assert listed_in(text, POLICY.blocklist) == (
        Listed("water gun", "weapons", "en", "water guns", exception=True),
        Listed("pistol", "weapons", "en", "p1stol", exception=False),
        Listed("heroin", "drugs", "en", "h e r o i n", exception=False),
        Listed("手枪", "weapons", "zh", "手枪", exception=False),
    )


def test_readings_are_each_shown_once():
    assert readings("A Mug!") == ("a mug", "a mugl")
    assert readings("Z3Vu") == ("z3vu", "gun")
    assert readings("") == ("",)
