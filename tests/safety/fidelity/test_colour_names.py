import cv2
import numpy as np
import pytest

from safety.fidelity.colour_names import EXAMPLES, SAME, ColourError, examples_of, nearest_difference


def lab(red: int, green: int, blue: int) -> np.ndarray:
    return cv2.cvtColor(np.array([[[red, green, blue]]], np.float32) / 255, cv2.COLOR_RGB2LAB)[0, 0]


def test_every_other_name_stands_for_one_that_has_examples():
    assert set(SAME.values()) <= set(EXAMPLES)


@pytest.mark.parametrize("name", ["red", "RED", " Red ", "bright red", "大红色", "红色", "red (#c8202a)"])
def test_a_red_is_near_red_by_any_of_its_names(name: str):
    assert nearest_difference(lab(204, 32, 40), name) < 5


@pytest.mark.parametrize(("name", "other"), [("blue", "red"), ("黑色", "white"), ("teal", "orange"), ("grey", "green")])
def test_a_colour_is_far_from_another_ones_name(name: str, other: str):
    (code, *_) = examples_of(name)
    rgb = [int(code[at : at + 2], 16) for at in (1, 3, 5)]
    assert nearest_difference(lab(*rgb), other) > 18


def test_a_code_counts_alone():
    assert examples_of("our own red (#00ff00)") == ("#00ff00",)
    assert nearest_difference(lab(0, 255, 0), "our own red (#00ff00)") < 1


def test_names_of_css_are_known():
    assert examples_of("rebeccapurple") == ("rebeccapurple",)
    assert nearest_difference(lab(102, 51, 153), "rebeccapurple") < 1


@pytest.mark.parametrize("name", ["", "midnight whisper", "像雾像雨", "色"])
def test_an_unknown_colour_is_named_with_what_to_do(name: str):
    with pytest.raises(ColourError, match="add a code to it"):
        examples_of(name)
