from pathlib import Path

import pytest

from safety.fidelity.instruction import LONGEST_VALUE, SHIPPED, Instruction, InstructionError, shipped
from safety.fidelity.measure_names import PREFIX
from safety.verdict import Reason, ScoreLimit

MINE = """
en = "Put it on {surface}."
zh = "放在{surface}上。"

[checks]
shift = { reason = "moved", most = 0.04, review = 0.02 }
outlines = { reason = "product_changed", least = 0.6, review = 0.8 }
beside = { reason = "not_changed", least = 2 }
"""
RIGHT = {f"{PREFIX}shift": 0.01, f"{PREFIX}outlines": 0.9, f"{PREFIX}beside": 9.0}


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(MINE, encoding="utf-8")
    return path


def written(path: Path, old: str, new: str) -> str:
    path.write_text(MINE.replace(old, new), encoding="utf-8")
    return str(path)


def test_six_instructions_are_shipped():
    assert shipped() == ["recolour", "relight", "remove-text", "scene", "upscale-clean", "white-background"]


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_instruction_says_what_it_asks_for_in_both_languages(name: str):
    instruction = Instruction.load(name)
    assert instruction.name == name
    values = dict.fromkeys(instruction.fields, "深蓝色")
    for language in ("en", "zh"):
        text = instruction.text(values, language)
        assert "{" not in text
        assert all(value in text for value in values.values())
    assert {check.reason for check in instruction.checks.values()} == {"product_changed", "moved", "not_changed"}
    assert all(check.review is not None for check in instruction.checks.values())


def test_the_product_may_be_kept_where_only_its_surroundings_change():
    assert {name for name in shipped() if Instruction.load(name).keep_product} == {"scene", "white-background"}


def test_a_users_file_is_one_more_instruction(mine: Path):
    instruction = Instruction.load(str(mine))
    assert instruction.name == "mine"
    assert instruction.text({"surface": "an oak table"}) == "Put it on an oak table."
    assert instruction.text({"surface": "橡木桌"}, "zh") == "放在橡木桌上。"


def test_braces_in_a_value_are_put_in_as_they_are(mine: Path):
    assert Instruction.load(str(mine)).text({"surface": "{surface.x}"}) == "Put it on {surface.x}."


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, r"needs a value for \{surface\}, and none is given"),
        ({"surface": "  "}, r"needs a value for \{surface\}, and none is given"),
        ({"surface": "x" * (LONGEST_VALUE + 1)}, f"has {LONGEST_VALUE + 1} characters; it may have {LONGEST_VALUE}"),
    ],
)
def test_a_value_that_is_missing_or_too_long_is_named(mine: Path, values: dict[str, str], words: str):
    with pytest.raises(InstructionError, match=words):
        Instruction.load(str(mine)).text(values)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('zh = "放在{surface}上。"', "", "zh isn't given"),
        ("{surface}上", "桌上", "{surface} stands in en alone"),
        ("on {surface}.", "on {surface.", "en: its braces can't be read"),
        ("on {surface}.", "on {surface:>9}.", "is no plain name"),
        ("on {surface}.", "on {}.", "is no plain name"),
        ("shift =", "shft =", "checks: there is no measure shft"),
        ("most = 0.04, review", "review", "checks.shift: a check has either most or least"),
        ("review = 0.02", "review = 0.2", "checks.shift: review is above most"),
        ('"moved"', '"gone"', 'checks.shift.reason is "gone", and must be one of'),
        ("most = 0.04", 'most = "little"', 'checks.shift.most is "little", and must be a number'),
        ("[checks]", "keep_products = true\n[checks]", "Did you mean keep_product"),
        ("[checks]", "[checks.x", "isn't TOML"),
    ],
)
def test_a_file_that_cant_be_used_is_named_with_the_field(mine: Path, old: str, new: str, words: str):
    with pytest.raises(InstructionError) as error:
        Instruction.load(written(mine, old, new))
    assert str(mine) in str(error.value)
    assert words in str(error.value)


def test_an_instruction_that_isnt_there_is_said_with_those_that_are():
    with pytest.raises(InstructionError, match="no instruction blur; shipped are recolour, relight"):
        Instruction.load("blur")


def test_a_wanted_colour_needs_a_field_that_says_it(mine: Path):
    old = "beside ="
    new = 'wanted_colour = { reason = "not_changed", most = 9 }\nbeside ='
    with pytest.raises(InstructionError, match=r"needs \{colour\} in the texts"):
        Instruction.load(written(mine, old, new))


def test_texts_and_sampling_leave_the_digest_and_limits_change_it(mine: Path):
    digest = Instruction.load(str(mine)).digest
    assert Instruction.load(written(mine, "Put it", "Lay it")).digest == digest
    assert Instruction.load(written(mine, "[checks]", "[sampling]\nsteps = 8\n[checks]")).digest == digest
    assert Instruction.load(written(mine, "0.04", "0.05")).digest != digest


def test_what_keeps_to_every_limit_is_allowed_with_its_scores(mine: Path):
    verdict = Instruction.load(str(mine)).judge(RIGHT)
    assert verdict.allowed
    assert verdict.scores == RIGHT


def test_a_limit_that_is_broken_rejects_with_what_was_measured(mine: Path):
    verdict = Instruction.load(str(mine)).judge(RIGHT | {f"{PREFIX}shift": 0.081})
    assert verdict.reason is Reason.MOVED
    assert verdict.message == (
        "The product isn't where it was: how far the product was moved is 8.1 % of the frame's shorter side, "
        "above 4 % of the frame's shorter side."
    )


def test_of_several_reasons_the_most_serious_one_is_given(mine: Path):
    broken = {f"{PREFIX}shift": 0.3, f"{PREFIX}outlines": 0.2, f"{PREFIX}beside": 0.0}
    assert Instruction.load(str(mine)).judge(broken).reason is Reason.PRODUCT_CHANGED


def test_between_review_and_the_limit_a_person_is_asked(mine: Path):
    verdict = Instruction.load(str(mine)).judge(RIGHT | {f"{PREFIX}outlines": 0.7})
    assert verdict.reason is Reason.REVIEW
    assert list(verdict.asks) == [f"{PREFIX}outlines"]
    assert "the likeness of the product's outlines is 0.7 (of 1), below 0.8 (of 1)" in (verdict.message or "")


def test_what_couldnt_be_measured_is_left_to_a_person(mine: Path):
    verdict = Instruction.load(str(mine)).judge({f"{PREFIX}shift": 0.01, f"{PREFIX}outlines": 0.9})
    assert verdict.reason is Reason.REVIEW
    assert "couldn't be measured" in (verdict.message or "")


def test_a_measure_that_is_no_number_is_rejected(mine: Path):
    verdict = Instruction.load(str(mine)).judge(RIGHT | {f"{PREFIX}outlines": float("nan")})
    assert verdict.reason is Reason.PRODUCT_CHANGED


def test_scores_of_other_checks_decide_nothing(mine: Path):
    verdict = Instruction.load(str(mine)).judge(RIGHT | {"weapon": 0.9, f"{PREFIX}colour": 99.0})
    assert verdict.allowed
    assert "weapon" not in verdict.scores


def test_a_changed_limit_judges_the_same_scores_again(mine: Path):
    scores = RIGHT | {f"{PREFIX}shift": 0.03}
    assert Instruction.load(str(mine)).judge(scores).waits
    assert Instruction.load(written(mine, "review = 0.02", "review = 0.035")).judge(scores).allowed


def test_every_shipped_file_is_read_in_utf8_with_a_source():
    for file in SHIPPED.glob("*.toml"):
        assert Instruction.load(file.stem).source


def test_a_verdict_says_what_every_measure_was_held_to():
    verdict = Instruction.load("white-background").judge({PREFIX + "white": 0.95, PREFIX + "colour": 1.0})
    assert verdict.limits[PREFIX + "white"] == ScoreLimit(least=0.9, review=0.97)
    assert verdict.limits[PREFIX + "colour"] == ScoreLimit(most=5.0, review=3.5)
