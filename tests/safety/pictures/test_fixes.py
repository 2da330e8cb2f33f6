import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from safety.pictures.fixes import NEAR, pad_square, snap_white
from safety.pictures.measures import measure_background


def picture(
    width: int = 240,
    height: int = 240,
    *,
    ground: tuple[int, int, int] = (247, 246, 244),
    product: tuple[int, int, int] = (200, 40, 40),
    outline: tuple[int, int, int] | None = None,
    shadow: bool = False,
    noise: float = 1.0,
) -> np.ndarray:
    image = Image.new("RGB", (width, height), ground)
    box = (width * 0.25, height * 0.25, width * 0.75, height * 0.75)
    if shadow:
        dark = tuple(value - 90 for value in ground)
        ImageDraw.Draw(image).ellipse((width * 0.2, height * 0.68, width * 0.8, height * 0.84), fill=dark)
        image = image.filter(ImageFilter.GaussianBlur(8))
    ImageDraw.Draw(image).rectangle(box, fill=product, outline=outline, width=2)
    pixels = np.asarray(image) + np.random.default_rng(3).normal(0, noise, (height, width, 3))
    return pixels.clip(0, 255).astype(np.uint8)


def border_is_white(pixels: np.ndarray) -> float:
    return measure_background(pixels, white=True, tolerance=0, shadows=False).share


def test_a_nearly_white_background_becomes_exactly_white_and_the_product_stays_as_it_is() -> None:
    before = picture()
    after = snap_white(before)
    assert (border_is_white(before), border_is_white(after)) == (0, 1)
    assert (after[70:170, 70:170] == before[70:170, 70:170]).all()
    assert (after[:50] == 255).all()


def test_it_is_white_in_the_stored_picture_too() -> None:
    for kind in ("JPEG", "WEBP", "PNG"):
        buffer = io.BytesIO()
        Image.fromarray(snap_white(picture())).save(buffer, kind, quality=92)
        assert border_is_white(np.asarray(Image.open(buffer).convert("RGB"))) == 1, kind


@pytest.mark.parametrize("outline", [(232, 232, 232), (225, 225, 225), (120, 120, 120)])
def test_a_white_product_keeps_its_shading_behind_a_faint_outline(outline: tuple[int, int, int]) -> None:
    before = picture(product=(243, 243, 240), outline=outline, noise=0.5)
    after = snap_white(before)
    assert border_is_white(after) == 1
    assert (after[64:176, 64:176] == before[64:176, 64:176]).all()


def test_a_shadow_keeps_its_depth_and_fades_out_without_a_rim() -> None:
    before = picture(shadow=True, noise=0)
    after = snap_white(before)
    shadow = before.min(axis=2) < 255 - 2 * NEAR
    assert shadow.sum() > 500
    assert (after[shadow] == before[shadow]).all()
    # Where the picture was smooth, it stays smooth: no step becomes more than twice as high.
    column = (slice(185, 240), 120, 0)
    steps = np.abs(np.diff(after[column].astype(int))).max()
    assert steps <= 2 * np.abs(np.diff(before[column].astype(int))).max() + 1


@pytest.mark.parametrize("ground", [(255, 255, 255), (214, 216, 218), (240, 120, 60), (10, 10, 10)])
def test_a_background_that_is_white_already_or_far_from_it_is_left_alone(ground: tuple[int, int, int]) -> None:
    before = picture(ground=ground, noise=0)
    assert snap_white(before) is before


@pytest.mark.parametrize(("width", "height"), [(240, 160), (160, 240), (241, 160), (16, 240)])
@pytest.mark.parametrize("ground", [(255, 255, 255), (180, 200, 220), (20, 20, 24)])
def test_a_frame_becomes_square_with_the_picture_in_its_middle(
    width: int, height: int, ground: tuple[int, int, int]
) -> None:
    before = picture(width, height, ground=ground, noise=0)
    after = pad_square(before)
    side = max(width, height)
    assert after.shape == (side, side, 3)
    top, left = (side - height) // 2, (side - width) // 2
    assert (after[top : top + height, left : left + width] == before).all()
    added = np.ones((side, side), bool)
    added[top : top + height, left : left + width] = False
    assert (after[added] == ground).all()


def test_a_gradient_goes_on_in_what_is_added() -> None:
    ramp = np.linspace(206, 220, 240)[:, None, None]
    before = np.broadcast_to(ramp, (240, 160, 3)).astype(np.uint8).copy()
    before[80:160, 50:110] = (30, 60, 90)
    after = pad_square(before)
    assert np.abs(np.diff(after[:, :45].astype(int), axis=1)).max() <= 1
    assert np.abs(after[:, 0].astype(int) - before[:, 0]).max() <= 2


def test_a_shadow_at_the_edge_fades_out_in_what_is_added() -> None:
    before = picture(160, 240, ground=(255, 255, 255), noise=0)
    before[200:220] = 215
    after = pad_square(before)
    left = after[210, :40, 0].astype(int)  # outwards in reverse
    assert left[0] == 255
    assert left[-1] < 225
    assert (np.diff(left) <= 0).all()
    assert np.diff(left).min() > -8


def test_a_square_and_a_lively_background_are_left_alone() -> None:
    square = picture()
    assert pad_square(square) is square
    lively = np.random.default_rng(0).integers(0, 256, (160, 240, 3)).astype(np.uint8)
    assert pad_square(lively) is lively


@pytest.mark.parametrize("fix", [snap_white, pad_square])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 3), (16, 3)])
def test_tiny_pictures_are_fixed_without_an_error(fix, shape: tuple[int, int]) -> None:
    pixels = np.full((*shape, 3), 250, np.uint8)
    fixed = fix(pixels)
    assert fixed.dtype == np.uint8
    assert fix(fixed) is fixed


def test_a_fix_done_twice_is_done_once() -> None:
    for fix, before in ((snap_white, picture(shadow=True)), (pad_square, picture(160, 240, noise=0))):
        once = fix(before)
        assert np.abs(fix(once).astype(int) - once).max() <= NEAR
