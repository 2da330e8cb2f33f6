import io
from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from safety.pictures.likeness import difference, fingerprint, repeats

COLOURS = [(200, 30, 30), (30, 60, 200), (40, 150, 60), (30, 30, 30), (140, 140, 140), (240, 200, 40)]


def product(shape: str, colour: tuple[int, int, int], size: int = 256) -> np.ndarray:
    image = Image.new("RGB", (size, size), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    box = tuple(size * part for part in (0.25, 0.2, 0.75, 0.8))
    if shape == "mug":
        draw.rectangle(box, fill=colour)
        draw.ellipse(tuple(size * part for part in (0.65, 0.35, 0.9, 0.65)), outline=colour, width=size // 20)
    elif shape == "ball":
        draw.ellipse(box, fill=colour)
    else:
        draw.polygon([(size * x, size * y) for x, y in ((0.5, 0.1), (0.9, 0.85), (0.1, 0.85))], fill=colour)
    return np.asarray(image)


def encoded(pixels: np.ndarray, kind: str, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


@pytest.mark.parametrize(
    "change",
    [
        lambda pixels: encoded(pixels, "JPEG", 50),
        lambda pixels: encoded(pixels, "WEBP", 50),
        lambda pixels: np.asarray(Image.fromarray(pixels).resize((128, 128))),
        lambda pixels: (pixels + np.random.default_rng(0).normal(0, 4, pixels.shape)).clip(0, 255).astype(np.uint8),
    ],
    ids=["jpeg", "webp", "smaller", "noisy"],
)
@pytest.mark.parametrize("shape", ["mug", "ball", "roof"])
def test_a_picture_that_is_encoded_again_is_the_same(change, shape: str) -> None:
    pixels = product(shape, COLOURS[0])
    assert repeats([fingerprint(pixels), fingerprint(change(pixels))]) == [None, 0]


def test_another_article_and_another_colour_of_one_are_others() -> None:
    pictures = [fingerprint(product(shape, colour)) for shape in ("mug", "ball", "roof") for colour in COLOURS]
    assert repeats(pictures) == [None] * len(pictures)


def test_the_first_of_equals_is_the_original_of_all() -> None:
    mug, ball = (fingerprint(product(shape, COLOURS[0])) for shape in ("mug", "ball"))
    again = fingerprint(encoded(product("mug", COLOURS[0]), "JPEG", 50))
    assert again != mug
    assert repeats([None, mug, ball, again, None, mug, again, ball]) == [None, None, None, 1, None, 1, 1, 2]
    assert repeats([]) == []
    assert repeats([None]) == [None]


def test_every_pair_is_found_that_comparing_all_pairs_finds() -> None:
    random = np.random.default_rng(7)
    base = random.integers(0, 256, (40, 56), np.uint8)
    near = np.repeat(base, 4, axis=0)
    for row in near:
        for bit in random.choice(64, random.integers(0, 9), replace=False):
            row[bit // 8] ^= np.uint8(1 << (bit % 8))
    random.shuffle(near)
    texts = [row.tobytes().hex() for row in near]
    first: list[int | None] = []
    for place, text in enumerate(texts):
        alike = (other for other in range(place) if first[other] is None and difference(text, texts[other])[0] < 6)
        first.append(next(alike, None))
    assert repeats(texts) == first
    assert any(found is not None for found in first)


def test_a_difference_is_counted_in_bits_and_in_colour() -> None:
    assert difference("00" * 56, "00" * 56) == (0, 0)
    assert difference("00" * 8 + "10" * 48, "03" + "00" * 7 + "1a" + "10" * 47) == (2, 10)
    shapes = [fingerprint(product(shape, COLOURS[0])) for shape in ("mug", "ball", "roof")]
    assert all(difference(one, other)[0] >= 6 for one, other in combinations(shapes, 2))
