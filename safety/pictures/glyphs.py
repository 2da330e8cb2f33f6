"""The few characters of a visible label, as the strokes of a pen: so no font has to be there."""

from __future__ import annotations

from itertools import pairwise

from PIL import Image, ImageDraw

Stroke = tuple[tuple[float, float], ...]

# Each stroke goes from point to point, (0, 0) at the top left; a character is 100 high, and as wide as its points.
STROKES: dict[str, tuple[Stroke, ...]] = {
    "A": (((0, 100), (35, 0), (70, 100)), ((13, 66), (57, 66))),
    "I": (((0, 0), (0, 100)),),
    "生": (
        ((26, 3), (10, 36)),
        ((20, 25), (86, 25)),
        ((14, 58), (82, 58)),
        ((50, 0), (50, 100)),
        ((0, 100), (96, 100)),
    ),
    "成": (
        ((14, 24), (98, 24)),
        ((14, 24), (14, 56), (10, 78), (0, 98)),
        ((16, 50), (43, 50), (42, 72), (38, 84), (26, 82)),
        ((58, 0), (61, 32), (67, 60), (77, 84), (88, 98), (98, 78)),
        ((88, 42), (76, 68), (60, 88), (42, 100)),
        ((74, 2), (88, 12)),
    ),
    "合": (
        ((50, 0), (34, 20), (0, 44)),
        ((50, 0), (66, 20), (100, 44)),
        ((30, 42), (70, 42)),
        ((20, 62), (80, 62), (80, 100), (20, 100), (20, 62)),
    ),
}
PEN = 11.0  # the width of a stroke
GAP = 26.0  # between the points of two characters
FINER = 8  # times as fine as a pixel it is drawn at first


def draw_text(text: str, height: int) -> Image.Image:
    """Return characters in a row, each exactly `height` pixels high.

    Returns:
        how far ink covers each pixel, of 255: a grey picture that fits the text.

    Raises:
        KeyError: if there are no strokes for a character.
    """
    scale = FINER * height / (100 + PEN)
    width = sum(_width(character) for character in text) + GAP * (len(text) - 1) + PEN
    fine = Image.new("L", (round(scale * width / FINER) * FINER, FINER * height), 0)
    pen, draw = scale * PEN, ImageDraw.Draw(fine)
    left = PEN / 2
    for character in text:
        for stroke in STROKES[character]:
            points = [(scale * (left + x), scale * (PEN / 2 + y)) for x, y in stroke]
            for (x, y), (to_x, to_y) in pairwise(points):
                draw.line((x, y, to_x, to_y), fill=255, width=round(pen))
            for x, y in points:  # round ends, and no gaps at corners
                draw.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), fill=255)
        left += _width(character) + GAP
    return fine.resize((fine.width // FINER, height), Image.Resampling.BOX)


def _width(character: str) -> float:
    return max(x for stroke in STROKES[character] for x, _ in stroke)
