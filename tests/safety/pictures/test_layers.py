from random import Random

import numpy as np
import pytest
from PIL import Image

from models.miniature.world.world import draw, random_scene
from safety.pictures.layers import HIGHEST_PSNR, LEAST_VISIBLE, composite, difference, judge_layers, over, psnr
from safety.pictures.profile import Profile
from safety.verdict import Reason

LEAST = Profile(name="default").min_layers_psnr


def layer(*box: int, colour: tuple[int, int, int] = (200, 40, 40), alpha: int = 255, size: int = 64) -> np.ndarray:
    """A transparent layer with one rectangle: left, top, right, bottom."""
    pixels = np.zeros((size, size, 4), np.uint8)
    left, top, right, bottom = box
    pixels[top:bottom, left:right] = (*colour, alpha)
    return pixels


GROUND = layer(0, 0, 64, 64, colour=(240, 240, 240))
MUG = layer(16, 16, 48, 48)
LABEL = layer(20, 30, 40, 36, colour=(20, 20, 120))


def judge(*layers: np.ndarray, source: np.ndarray | None = None, min_psnr: float = LEAST):
    stack = np.stack(layers)
    whole = composite(stack)
    return judge_layers(whole if source is None else source, stack, whole, min_psnr=min_psnr)


def random_layers(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, size=(count, 32, 24, 4)).astype(np.uint8)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_layers_are_laid_over_one_another_as_pillow_lays_them(count: int):
    layers = random_layers(count)
    theirs = Image.new("RGBA", (24, 32), (0, 0, 0, 0))
    for each in layers:
        theirs.alpha_composite(Image.fromarray(each, "RGBA"))
    ours = composite(layers)
    assert ours.dtype == np.uint8
    # Pillow rounds after every layer; where little is visible, a colour hangs on that.
    clear = ours[..., 3] > 64
    assert np.abs(ours.astype(int) - np.asarray(theirs))[clear].max() <= 2


def test_the_top_layer_hides_what_is_below_it():
    assert np.array_equal(composite(np.stack([GROUND, MUG]))[30, 30], (200, 40, 40, 255))
    assert np.array_equal(composite(np.stack([MUG, GROUND])), GROUND)


def test_half_of_black_over_white_is_the_middle_of_what_is_stored():
    white, shade = layer(0, 0, 8, 8, colour=(255, 255, 255)), layer(0, 0, 8, 8, colour=(0, 0, 0), alpha=128)
    assert np.array_equal(composite(np.stack([white, shade]))[4, 4], (127, 127, 127, 255))


def test_a_single_layer_is_its_own_composite_where_anything_shows():
    (pixels,) = random_layers(1)
    shows = pixels[..., 3] > 0
    made = composite(pixels[None])
    assert np.array_equal(made[shows], pixels[shows])
    assert not made[~shows].any()


@pytest.mark.parametrize("alpha", [0, 100, 255, None])
def test_over_a_ground_a_picture_is_mixed_by_its_alpha_and_stays_as_it_is_where_that_is_opaque(alpha: int | None):
    (picture,) = random_layers(1)
    if alpha is not None:
        picture[..., 3] = alpha
    share = picture[..., 3:].astype(np.float32) / 255
    assert np.array_equal(over(picture, 200), (picture[..., :3] * share + 200 * (1 - share) + 0.5).astype(np.uint8))
    if alpha == 255:
        assert np.array_equal(over(picture, 200), picture[..., :3])


def test_equal_pictures_have_the_highest_ratio_and_it_is_finite():
    assert psnr(MUG, MUG) == HIGHEST_PSNR
    hidden = MUG.copy()
    hidden[0, 0, :3] = 255
    assert psnr(MUG, hidden) == HIGHEST_PSNR  # nobody sees the colour of what is transparent


def test_opaque_pictures_have_the_usual_ratio():
    off = GROUND.copy()
    off[..., :3] -= 10
    assert psnr(GROUND, off) == pytest.approx(20 * np.log10(255 / 10))


@pytest.mark.parametrize("grey", [0, 255])
def test_a_hole_shows_on_one_ground_or_the_other(grey: int):
    whole = layer(0, 0, 64, 64, colour=(grey, grey, grey))
    assert psnr(whole, np.zeros_like(whole)) == pytest.approx(0)


def test_no_other_grey_shows_a_larger_difference():
    one, other = random_layers(2)

    def over(picture: np.ndarray, grey: int) -> np.ndarray:
        cover = picture[..., 3:] / 255
        return picture[..., :3] * cover + grey * (1 - cover)

    ratios = [10 * np.log10(255**2 / np.square(over(one, g) - over(other, g)).mean()) for g in range(256)]
    assert psnr(one, other) == pytest.approx(min(ratios), abs=1e-4)


def test_layers_that_make_up_their_picture_pass_with_their_measures():
    verdict = judge(GROUND, MUG, LABEL)
    assert verdict.allowed
    assert set(verdict.scores) == {"layers_psnr", "emptiest_layer", "visible_layers", "closest_layers"}
    assert verdict.scores["layers_psnr"] == HIGHEST_PSNR
    assert verdict.scores["emptiest_layer"] == pytest.approx(20 * 6 / 64**2)
    assert verdict.scores["visible_layers"] == 3
    assert all(np.isfinite(score) for score in verdict.scores.values())


def test_a_picture_may_be_one_layer():
    verdict = judge(GROUND)
    assert verdict.allowed
    assert "closest_layers" not in verdict.scores


def test_a_lost_part_is_a_mismatch_and_the_sentence_has_its_measure():
    verdict = judge(GROUND, LABEL, source=composite(np.stack([GROUND, MUG, LABEL])))
    assert verdict.reason is Reason.LAYERS_MISMATCH
    assert verdict.message == "Put together, the layers differ from the picture: 10.3 dB, below 26."
    assert set(verdict.scores) == {"layers_psnr", "emptiest_layer", "visible_layers", "closest_layers"}
    assert judge(GROUND, LABEL, source=MUG, min_psnr=0).allowed


def test_a_transparent_source_is_matched_in_its_transparency():
    assert judge(MUG, LABEL).allowed
    assert judge(GROUND, MUG, source=MUG).reason is Reason.LAYERS_MISMATCH


@pytest.mark.parametrize("alpha", [0, 12])
def test_an_empty_layer_is_refused_and_the_sentence_says_how_many_to_ask_for(alpha: int):
    faint = layer(0, 0, 64, 64, alpha=alpha)
    verdict = judge(GROUND, MUG, faint)
    assert verdict.reason is Reason.EMPTY_LAYER
    assert verdict.message == ("Layer 2 is empty: 2 of 3 show something. If the picture has no more parts, ask for 2.")
    assert (verdict.scores["emptiest_layer"], verdict.scores["visible_layers"]) == (0, 2)
    assert judge(faint, GROUND, MUG).message.startswith("The bottom layer is empty")


def test_a_picture_of_nothing_has_only_empty_layers():
    nothing = np.zeros_like(GROUND)
    verdict = judge(nothing, nothing)
    assert verdict.message == "The bottom layer is empty: 0 of 2 show something."


@pytest.mark.parametrize(("side", "reason"), [(19, Reason.EMPTY_LAYER), (21, None)])
def test_a_small_part_is_a_part_and_specks_are_none(side: int, reason: Reason | None):
    assert 19**2 < LEAST_VISIBLE * 640**2 < 21**2
    ground = layer(0, 0, 640, 640, colour=(240, 240, 240), size=640)
    assert judge(ground, layer(300, 300, 300 + side, 300 + side, size=640)).reason is reason


def test_a_copy_is_refused_even_with_a_decoders_noise():
    random = np.random.default_rng(3)
    noisy = (MUG.astype(float) + random.normal(0, 5, MUG.shape)).clip(0, 255).astype(np.uint8)
    verdict = judge(GROUND, MUG, noisy)
    assert verdict.reason is Reason.COPIED_LAYER
    assert verdict.message == "Layer 2 is a copy of layer 1."
    assert judge(GROUND, MUG, GROUND, source=GROUND).message == "Layer 2 is a copy of the bottom layer."


def test_two_small_parts_are_not_alike_because_most_of_both_is_empty():
    one, other = layer(2, 2, 6, 6), layer(40, 40, 44, 44)
    assert judge(GROUND, one, other).allowed
    assert difference(one, other) > 100
    assert difference(one, layer(2, 2, 6, 6, colour=(40, 200, 40))) > 50


def test_the_order_of_two_layers_does_not_change_how_far_they_are_apart():
    assert difference(MUG, LABEL) == difference(LABEL, MUG)
    assert difference(MUG, MUG) == 0
    hidden = MUG.copy()
    hidden[0, 0, :3] = 255
    assert difference(MUG, hidden) == 0


def test_drawings_pass_with_a_decoders_noise_and_fail_without_their_product():
    random, noise = Random(11), np.random.default_rng(11)
    for _ in range(12):
        drawing = draw(random_scene(random), random)
        opaque = np.full((*drawing.picture.shape[:2], 1), 255, np.uint8)
        parts = [np.concatenate([drawing.background, opaque], axis=2), drawing.product]
        if drawing.overlay[..., 3].any():
            parts.append(drawing.overlay)
        source = np.concatenate([drawing.picture, opaque], axis=2)
        decoded = [(part + noise.normal(0, 5, part.shape)).clip(0, 255).astype(np.uint8) for part in parts]
        assert judge(*parts, source=source).allowed
        assert judge(*decoded, source=source).allowed
        without = [part for part in parts if part is not drawing.product]
        assert judge(*without, source=source).reason is Reason.LAYERS_MISMATCH


@pytest.mark.parametrize(
    "layers", [np.zeros((4, 4, 4), np.uint8), np.zeros((1, 4, 4, 3), np.uint8), np.zeros((0, 4, 4, 4), np.uint8)]
)
def test_anything_but_rgba_bytes_is_an_error(layers: np.ndarray):
    with pytest.raises(ValueError, match="uint8"):
        composite(layers)


@pytest.mark.parametrize("picture", [np.zeros((1, 4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.uint8), MUG / 255])
def test_a_picture_without_alpha_is_not_compared(picture: np.ndarray):
    with pytest.raises(ValueError, match="uint8"):
        psnr(picture, picture)


def test_two_sizes_are_an_error():
    with pytest.raises(ValueError, match="64 × 64 and 32 × 32"):
        judge_layers(GROUND, GROUND[None, :32, :32], GROUND[:32, :32], min_psnr=20)
