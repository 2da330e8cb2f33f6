from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.miniature.world.world import Alteration
from safety.fidelity.fidelity_gate import judge_edit
from safety.fidelity.instruction import Instruction, shipped
from safety.fidelity.measure_names import MEASURES, PREFIX
from safety.fidelity.measuring import slopes
from safety.fidelity.product_mask import find_product
from safety.verdict import Reason, Verdict

LIVELY = {"background": "table"}


def judged(source, result: np.ndarray, name: str, **values: str) -> Verdict:
    return beside(source.picture, result, Instruction.load(name), source.product[..., 3], **values)


def beside(
    source: np.ndarray, result: np.ndarray, instruction: Instruction, mask: np.ndarray | None = None, **values: str
) -> Verdict:
    return judge_edit(source, result, find_product(source, mask), instruction, values)


def lit_from_the_left(pixels: np.ndarray) -> np.ndarray:
    gain = np.linspace(1.2, 0.7, pixels.shape[1])[None, :, None]
    return np.clip(pixels * gain + 0.5, 0, 255).astype(np.uint8)


def test_the_same_shoe_on_white_is_done(drawn, noise):
    source, result = drawn(before=LIVELY, after={"background": "white"}, label="ACME")
    verdict = judged(source, noise(result.picture), "white-background")
    assert verdict.allowed, verdict.message
    assert set(verdict.scores) == {
        PREFIX + name for name in set(MEASURES) - {"wanted_colour", "text_kept", "text_left"}
    }


def test_the_same_shoe_in_another_scene_is_done(drawn, noise):
    source, result = drawn(before=LIVELY, after={"background": "grass"})
    assert judged(source, noise(result.picture), "scene", scene="a lawn").allowed


@pytest.mark.parametrize(("colour", "asked"), [("blue", "blue"), ("green", "绿色"), ("teal", "teal (#0ca0a0)")])
def test_the_same_shoe_in_the_asked_colour_is_done(drawn, noise, colour: str, asked: str):
    source, result = drawn(before=LIVELY, after=LIVELY | {"colour": colour}, label="ACME")
    verdict = judged(source, noise(result.picture), "recolour", colour=asked)
    assert verdict.allowed, verdict.message


@pytest.mark.parametrize("fault", ["banner", "watermark", "border"])
def test_the_same_shoe_without_what_was_laid_over_it_is_done(drawn, noise, fault: str):
    source, result = drawn(before=LIVELY | {"fault": fault}, after=LIVELY, label="ACME")
    verdict = judged(source, noise(result.picture), "remove-text")
    assert verdict.allowed, verdict.message


def test_the_same_shoe_in_another_light_is_done(drawn, noise):
    source, result = drawn(before=LIVELY, after=LIVELY, label="ACME")
    verdict = judged(source, noise(lit_from_the_left(result.picture)), "relight")
    assert verdict.allowed, verdict.message


def test_a_small_noisy_shoe_made_sharp_is_done_and_only_enlarged_it_isnt(drawn, noise):
    right, _ = drawn(before=LIVELY, label="ACME")
    small = noise(cv2.resize(right.picture, (144, 144), interpolation=cv2.INTER_AREA))
    mask = cv2.resize(right.product[..., 3], (144, 144), interpolation=cv2.INTER_AREA)
    clean = Instruction.load("upscale-clean")
    verdict = beside(small, noise(right.picture), clean, mask)
    assert verdict.allowed, verdict.message
    enlarged = cv2.GaussianBlur(cv2.resize(small, (256, 256), interpolation=cv2.INTER_CUBIC), (0, 0), 0.8)
    assert beside(small, enlarged, clean, mask).reason is Reason.NOT_CHANGED


WRONG_SHOES = {
    "another product": ({"kind": "teapot"}, Alteration(), Reason.PRODUCT_CHANGED),
    "another colour": ({"colour": "blue"}, Alteration(), Reason.PRODUCT_CHANGED),
    "another label": ({}, Alteration(label="ORBIT"), Reason.PRODUCT_CHANGED),
    "another shape": ({}, Alteration(stretch=(0.75, 1.0), label="ACME"), Reason.PRODUCT_CHANGED),
    "another place": ({}, Alteration(shift=(20, 0), label="ACME"), Reason.MOVED),
}


@pytest.mark.parametrize("name", ["white-background", "scene"])
@pytest.mark.parametrize("wrong", WRONG_SHOES)
def test_a_shoe_that_isnt_the_same_is_rejected(drawn, noise, name: str, wrong: str):
    after, altered, reason = WRONG_SHOES[wrong]
    ground = {"background": "white" if name == "white-background" else "grass"}
    source, result = drawn(before=LIVELY, after=ground | after, label="ACME", altered=altered)
    verdict = judged(source, noise(result.picture), name, scene="a lawn")
    assert not verdict.allowed
    assert not verdict.waits
    if wrong != "another shape":
        assert verdict.reason is reason, verdict.message


def test_a_shoe_without_its_heel_is_rejected(drawn, noise):
    source, result = drawn(before=LIVELY, after={"background": "white"})
    columns = np.flatnonzero(source.product[..., 3].any(axis=0))
    for part in (np.s_[:, columns[0] : columns[0] + 24], np.s_[:, columns[-1] - 24 : columns[-1] + 1]):
        spoiled = result.picture.copy()
        spoiled[part] = result.background[part]
        assert judged(source, noise(spoiled), "white-background").reason is Reason.PRODUCT_CHANGED


def test_a_recoloured_shoe_with_another_label_isnt_done(drawn, noise):
    source, result = drawn(after={"colour": "blue"}, label="ACME", altered=Alteration(label="ORBIT"))
    assert not judged(source, noise(result.picture), "recolour", colour="blue").allowed


def test_a_shoe_in_a_colour_that_nobody_asked_for_is_rejected_with_how_far_off_it_is(drawn, noise):
    source, result = drawn(after={"colour": "blue"})
    verdict = judged(source, noise(result.picture), "recolour", colour="yellow")
    assert verdict.reason is Reason.NOT_CHANGED
    assert "the wanted colour" in (verdict.message or "")


def test_a_colour_that_nobody_knows_is_left_to_a_person(drawn, noise):
    source, result = drawn(after={"colour": "blue"})
    verdict = judged(source, noise(result.picture), "recolour", colour="midnight whisper")
    assert list(verdict.asks) == [PREFIX + "wanted_colour"]


@pytest.mark.parametrize("name", shipped())
def test_a_result_that_is_its_source_isnt_done(drawn, name: str):
    fault = "watermark" if name == "remove-text" else "none"
    source, _ = drawn(before=LIVELY | {"fault": fault}, label="ACME")
    verdict = judged(source, source.picture, name, colour="blue", scene="a lawn")
    assert verdict.reason is Reason.NOT_CHANGED


def test_on_white_a_product_needs_no_mask(drawn, noise):
    source, result = drawn(after={"background": "grass"}, label="ACME")
    scene = Instruction.load("scene")
    assert beside(source.picture, noise(result.picture), scene).allowed
    _, wrong = drawn(after={"background": "grass"}, label="ACME", altered=Alteration(label="ORBIT"))
    assert beside(source.picture, noise(wrong.picture), scene).reason is Reason.PRODUCT_CHANGED


def test_the_scores_judge_again_without_the_pictures(drawn, noise):
    source, result = drawn(before=LIVELY, after={"background": "white"})
    white = Instruction.load("white-background")
    verdict = judged(source, noise(result.picture), "white-background")
    strict = white.checks["colour"].model_copy(update={"most": 0.01, "review": None})
    again = white.model_copy(update={"checks": white.checks | {"colour": strict}})
    assert again.judge(verdict.scores).reason is Reason.PRODUCT_CHANGED
    assert again.digest != white.digest


def test_measuring_twice_gives_the_same_numbers(drawn, noise):
    source, result = drawn(after={"colour": "blue"})
    picture = noise(result.picture)
    assert judged(source, picture, "recolour").scores == judged(source, picture, "recolour").scores


def test_numbers_dont_depend_on_where_pictures_lie_in_memory():
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    taken: list[np.ndarray] = []

    def measured(length: int) -> bytes:
        taken.append(np.empty(length, np.uint8))  # so that what comes after it lies elsewhere
        return slopes(picture, 0.5).tobytes()

    assert len({measured(1040 + 16 * number) for number in range(40)}) == 1


PICTURES = st.builds(
    lambda height, width, channels, deep, seed: (
        np.random.default_rng(seed)
        .integers(0, 65_536 if deep else 256, size=(height, width, channels) if channels else (height, width))
        .astype(np.uint16 if deep else np.uint8)
    ),
    *[st.sampled_from([1, 2, 15, 16, 17, 40, 96, 700])] * 2,
    st.sampled_from([0, 1, 2, 3, 4, 5]),
    st.booleans(),
    st.integers(0, 9),
)
BLANK = st.builds(
    lambda level, alpha: np.dstack([np.full((48, 48, 3), level, np.uint8), np.full((48, 48), alpha, np.uint8)]),
    st.sampled_from([0, 128, 255]),
    st.sampled_from([0, 60, 255]),
)
MASKS = st.none() | PICTURES | st.sampled_from([0, 255]).map(lambda level: np.full((48, 48), level, np.uint8))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.data_too_large])
@given(
    source=PICTURES | BLANK, result=PICTURES | BLANK, mask=MASKS, name=st.sampled_from(shipped()), same=st.booleans()
)
def test_whatever_is_given_there_is_a_verdict_with_a_sentence(source, result, mask, name, same):
    verdict = beside(source, source if same else result, Instruction.load(name), mask, colour="red")
    assert verdict.allowed or (verdict.message or "").endswith(".")
    assert all(np.isfinite(value) for value in verdict.scores.values())


def test_a_source_that_cant_be_compared_is_left_to_a_person_and_says_why(drawn):
    _, result = drawn()
    verdict = beside(np.zeros((1, 1, 3), np.uint8), result.picture, Instruction.load("scene"))
    assert verdict.waits
    assert "The source is 1 × 1 pixels, too small to compare" in (verdict.message or "")


def test_a_transparent_source_is_compared_by_its_alpha(drawn, noise):
    source, result = drawn(before=LIVELY, after={"background": "grass"})
    verdict = beside(source.product, noise(result.picture), Instruction.load("scene"))
    assert verdict.allowed, verdict.message
    wrong = replace(source, product=source.product[..., [2, 1, 0, 3]]).product
    assert beside(wrong, noise(result.picture), Instruction.load("scene")).reason is Reason.PRODUCT_CHANGED
