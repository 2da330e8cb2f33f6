"""Colours by the names that shops call them, English and Chinese, and how far a colour is from one.

    nearest_difference(lab, "dark red")     # CIEDE2000
    nearest_difference(lab, "酒红色")
    nearest_difference(lab, "sage green (#9caf88)")

A name stands for a range of colours: each has a few examples, and the nearest one counts. A code in the name counts
alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import cv2
import numpy as np
from PIL import ImageColor
from skimage.color import deltaE_ciede2000

# What decides measures: count `safety.fidelity.measuring.METHOD` up when something changes.
LIGHTNESS = 2.0  # times less that lightness counts: a colour by name is as light as its product's light has it
CODE = re.compile(r"#(?:[0-9a-fA-F]{6}|[0-9a-fA-F]{3})\b")

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "red": ("#c8202a", "#e8303a", "#a01420", "#d84040"),
    "orange": ("#f08020", "#e06a10", "#ff9a3c"),
    "yellow": ("#f5d030", "#ffe040", "#e0b818"),
    "green": ("#2e9840", "#1e7030", "#58b860", "#407840"),
    "teal": ("#10a0a0", "#008080", "#30b0b0"),
    "blue": ("#2850d0", "#1c3c9c", "#4878e0", "#3060b0"),
    "light blue": ("#a8d0f0", "#7cb8e8"),
    "navy": ("#141c4c", "#1c2858"),
    "purple": ("#7838b0", "#5a2888", "#9858c8"),
    "pink": ("#f488b8", "#f8b0d0", "#e8609c"),
    "brown": ("#744828", "#8a5a34", "#5c3818"),
    "beige": ("#e4d4b4", "#d4c09c"),
    "black": ("#242428", "#101010", "#3a3a3e"),
    "white": ("#f6f6f4", "#e6e6e4", "#ffffff"),
    "grey": ("#888b8f", "#6c6e72", "#a8aaae"),
    "silver": ("#c0c4c8", "#a8acb0"),
    "gold": ("#d4ae48", "#c09030"),
    "wine red": ("#6c1428", "#842038"),
    "olive": ("#6c7030", "#808038"),
    "mint": ("#a0e0c0", "#80d0b0"),
    "turquoise": ("#30c8c0", "#40d8d0"),
    "lavender": ("#b8a0e0", "#c8b8e8"),
    "cream": ("#f8f0d8", "#f0e4c4"),
    "khaki": ("#b0a070", "#c0b080"),
    "coral": ("#f88070", "#f07058"),
}
"""Examples of every colour: what studio light makes of it, not the purest tone of a screen."""
SAME: Mapping[str, str] = {
    "gray": "grey", "violet": "purple", "burgundy": "wine red", "maroon": "wine red", "dark blue": "navy",
    "navy blue": "navy", "sky blue": "light blue", "off-white": "cream", "ivory": "cream", "golden": "gold",
    "cyan": "turquoise", "tan": "beige", "magenta": "pink", "rose": "pink", "charcoal": "black", "lilac": "lavender",
    "红": "red", "大红": "red", "橙": "orange", "橘": "orange", "橘黄": "orange", "黄": "yellow", "绿": "green",
    "青": "teal", "蓝绿": "teal", "蓝": "blue", "浅蓝": "light blue", "天蓝": "light blue", "深蓝": "navy",
    "藏青": "navy", "海军蓝": "navy", "紫": "purple", "粉": "pink", "粉红": "pink", "玫红": "pink", "棕": "brown",
    "褐": "brown", "咖啡": "brown", "米": "beige", "米黄": "beige", "黑": "black", "白": "white", "灰": "grey",
    "银": "silver", "金": "gold", "酒红": "wine red", "橄榄": "olive", "橄榄绿": "olive", "薄荷绿": "mint",
    "薄荷": "mint", "湖蓝": "turquoise", "绿松石": "turquoise", "薰衣草": "lavender", "淡紫": "lavender",
    "奶油": "cream", "米白": "cream", "乳白": "cream", "卡其": "khaki", "珊瑚": "coral",
}  # fmt: skip
"""Other names of the same colours; Chinese ones without 色."""


class ColourError(ValueError):
    """A colour that nobody here knows by its name; the message is a sentence."""


def examples_of(name: str) -> tuple[str, ...]:
    """Return the examples of a colour, as hexadecimal codes.

    Raises:
        ColourError: if the name isn't known.
    """
    if codes := CODE.findall(name):
        return tuple(codes)
    plain = " ".join(name.casefold().replace("_", " ").split()).removesuffix("色")
    plain = SAME.get(plain, plain)
    if plain in EXAMPLES:
        return EXAMPLES[plain]
    last = plain.rpartition(" ")[2]  # "bright red", "forest green": some kind of it
    last = SAME.get(last, last)
    if last in EXAMPLES:
        return EXAMPLES[last]
    try:
        return (str(ImageColor.getrgb(plain) and plain),)  # the names of CSS
    except ValueError:
        raise ColourError(
            f"The colour {name[:60]!r} isn't known by its name: add a code to it, as in {name[:40]!r} (#9caf88), or a "
            "person has to say whether it was reached."
        ) from None


def nearest_difference(lab: np.ndarray, name: str) -> float:
    """Return how far a colour in CIELAB, [3], is from one by name: CIEDE2000 with half of the weight on lightness.

    Raises:
        ColourError: if the name isn't known.
    """
    codes = np.array([ImageColor.getrgb(code)[:3] for code in examples_of(name)], np.float32)
    wanted = np.asarray(cv2.cvtColor(codes[None] / 255, cv2.COLOR_RGB2LAB))[0]  # [N, 3]
    return float(deltaE_ciede2000(np.broadcast_to(lab, wanted.shape), wanted, kL=LIGHTNESS).min())
