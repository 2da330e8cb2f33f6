import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from safety.pictures.label import LEAST_HEIGHT, draw_label, find_label, without_label
from safety.pictures.measures import Box

TEXTS = ("AI生成", "AI合成")


def product(
    width: int = 320, height: int = 256, ground: tuple[int, int, int] = (255, 255, 255), corners: str = ""
) -> np.ndarray:
    image = Image.new("RGB", (width, height), ground)
    draw = ImageDraw.Draw(image)
    draw.ellipse((width * 0.3, height * 0.2, width * 0.7, height * 0.75), fill=(160, 30, 40))
    for corner in corners.split():
        left = 0 if "left" in corner else width // 2
        top = 0 if "top" in corner else height // 2
        for number in range(0, width // 2, 12):
            draw.rectangle((left + number, top, left + number + 5, top + height // 2), fill=(20, 60, 20))
    return np.asarray(image)


def stored(pixels: np.ndarray, kind: str, **options: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return np.asarray(Image.open(buffer).convert("RGB"))


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("JPEG", {"quality": 60}), ("WEBP", {"quality": 50})])
def test_a_label_is_found_again_in_a_stored_picture(text: str, kind: str, options: dict[str, int]) -> None:
    labelled = stored(draw_label(product(), text), kind, **options)
    assert find_label(labelled, text) is not None
    assert find_label(stored(product(), kind, **options), text) is None
    assert all(find_label(labelled, other) is None for other in TEXTS if other != text)


@pytest.mark.parametrize("ground", [(255, 255, 255), (235, 240, 246), (120, 90, 60), (10, 10, 10)])
def test_a_label_is_read_on_any_background(ground: tuple[int, int, int]) -> None:
    labelled = draw_label(product(ground=ground), "AI生成")
    box = find_label(labelled, "AI生成")
    assert box is not None
    part = labelled[box.top : box.bottom, box.left : box.right].mean(axis=2)
    assert np.percentile(part, 95) - np.percentile(part, 5) > 100


@pytest.mark.parametrize(("width", "height"), [(256, 256), (512, 320), (1328, 1328), (640, 1280)])
def test_the_lowest_character_is_a_twentieth_of_the_shortest_side_high(width: int, height: int) -> None:
    plain = np.full((height, width, 3), 255, np.uint8)
    ink = (draw_label(plain, "AI生成") != 255).any(axis=2)
    left = np.flatnonzero(ink.any(axis=0))[0]
    least = LEAST_HEIGHT * min(width, height)
    rows = np.flatnonzero(ink[:, left : left + round(0.8 * least)].any(axis=1))  # most of the A
    assert least <= rows[-1] - rows[0] + 1 <= 1.2 * least + 1


@pytest.mark.parametrize(
    ("busy", "side"),
    [
        ("", "bottom right"),
        ("bottom-right", "bottom left"),
        ("bottom-right bottom-left", "top right"),
        ("bottom-right bottom-left top-right", "top left"),
    ],
)
def test_a_label_lies_in_the_first_corner_without_a_product(busy: str, side: str) -> None:
    box = find_label(draw_label(product(corners=busy), "AI生成"), "AI生成")
    assert box is not None
    found = ("top" if box.top < 128 else "bottom") + (" left" if box.left < 160 else " right")
    assert found == side


def test_a_label_changes_nothing_but_its_corner_and_can_be_taken_out_again() -> None:
    before = product()
    labelled = draw_label(before, "AI生成")
    box = find_label(labelled, "AI生成")
    assert isinstance(box, Box)
    outside = np.ones(before.shape[:2], bool)
    outside[box.top : box.bottom, box.left : box.right] = False
    assert (labelled[outside] == before[outside]).all()
    assert (without_label(labelled, box) == before).all()


def test_a_picture_that_is_too_small_for_its_label_is_refused_in_a_sentence() -> None:
    narrow = np.full((256, 24, 3), 255, np.uint8)
    assert draw_label(narrow, "AI生成").shape == narrow.shape
    with pytest.raises(ValueError, match="24 × 4 pixels is too small for its visible label"):
        draw_label(narrow[:4], "AI合成")
    assert find_label(narrow[:4], "AI生成") is None
