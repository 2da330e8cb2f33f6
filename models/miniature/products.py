"""The drawn products: one small function each, from a few random proportions to flat shapes, painted back to front."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from models.miniature.shapes import (
    DARK,
    METAL,
    PAPER,
    RGB,
    STEEL,
    Shape,
    arc,
    box,
    ellipse,
    line,
    polygon,
    segment,
    smooth,
    symmetric,
)

EMBER: RGB = (255, 112, 24)
FLAME: RGB = (255, 190, 50)
GLASS: RGB = (150, 176, 196)
GLINT: RGB = (226, 238, 246)
GOLD: RGB = (214, 174, 72)
LEAF: RGB = (62, 140, 70)
SMOKE: RGB = (176, 178, 182)
TAN: RGB = (200, 146, 96)
TIMBER: RGB = (158, 112, 70)


def mug(random: Random) -> list[Shape]:
    top = random.uniform(-0.85, -0.65)
    return [
        line(arc(0.5, 0.05, 0.4, 0.4, -80, 80), 0.16),
        polygon([(-0.7, top), *arc(-0.1, 0.76, 0.58, 0.16, 180, 0), (0.5, top)]),
        ellipse(-0.1, top, 0.6, 0.15, 0.25),
        ellipse(-0.1, top + 0.01, 0.5, 0.1, -0.55),
    ]


def bottle(random: Random) -> list[Shape]:
    wide = random.uniform(0.33, 0.42)
    return [
        symmetric([(0.13, -0.8), (0.13, -0.5), (wide, -0.12), (wide, 0.93), (wide - 0.08, 1)]),
        box(-0.17, -1, 0.17, -0.78, 0.04, -0.45),
        box(-wide, 0.16, wide, 0.66, 0.01, PAPER),
        box(-wide + 0.12, 0.3, wide - 0.12, 0.4, 0.01, -0.1),
    ]


def t_shirt(random: Random) -> list[Shape]:
    hem = random.uniform(0.85, 0.98)
    body = [(0.28, -0.86), (0.6, -0.74), (1, -0.2), (0.74, 0.02), (0.56, -0.2), (0.58, hem)]
    neck = arc(0, -0.86, 0.28, 0.24, 180, 0)
    return [
        symmetric(body),
        polygon(neck, -0.5),
        line(arc(0, -0.86, 0.3, 0.26, 180, 0), 0.06, 0.3),
        line([(0.88, -0.36), (0.66, -0.14)], 0.03, -0.3),
        line([(-0.88, -0.36), (-0.66, -0.14)], 0.03, -0.3),
    ]


def sneaker(random: Random) -> list[Shape]:
    ankle = random.uniform(-0.62, -0.5)
    upper = smooth([(-0.92, ankle), (-0.62, ankle + 0.12), (-0.24, ankle), (0.1, -0.2), (0.62, 0.0), (0.98, 0.26)])
    return [
        polygon([*upper[:31], (1, 0.45), (-0.96, 0.45)]),
        polygon([(-0.94, ankle), (-0.66, ankle + 0.1), (-0.6, 0.12), (-0.96, 0.16)], -0.25),
        segment(0.68, 0.42, 0.34, 0.32, 180, 360, 0.3),
        box(-1, 0.36, 1.04, 0.6, 0.1, PAPER),
        *(
            line([(-0.2 + 0.19 * i, -0.46 + 0.15 * i), (-0.36 + 0.19 * i, -0.2 + 0.15 * i)], 0.07, PAPER)
            for i in range(3)
        ),
    ]


def handbag(random: Random) -> list[Shape]:
    flap = random.uniform(0.22, 0.36)
    return [
        line(arc(0, -0.15, 0.46, 0.7, 180, 360), 0.11, -0.2),
        polygon([(-0.76, -0.18), (0.76, -0.18), (0.98, 0.85), (-0.98, 0.85)]),
        polygon([(-0.76, -0.18), (0.76, -0.18), (0.83, flap), (0, flap + 0.14), (-0.83, flap)], -0.22),
        box(-0.11, flap - 0.04, 0.11, flap + 0.2, 0.04, GOLD),
    ]


def lamp(random: Random) -> list[Shape]:
    top = random.uniform(0.3, 0.45)
    return [
        box(-0.06, 0, 0.06, 0.9, 0.02, METAL),
        ellipse(0, 0.88, 0.42, 0.1, METAL),
        symmetric([(top, -0.95), (0.8, 0.1)]),
        symmetric([(0.77, 0.0), (0.8, 0.1)], -0.3),
    ]


def chair(random: Random) -> list[Shape]:
    back = random.uniform(-1, -0.9)
    return [
        polygon([(-0.28, 0.1), (-0.18, 0.1), (-0.2, 0.88), (-0.28, 0.88)], -0.45),
        polygon([(0.26, 0.1), (0.36, 0.1), (0.36, 0.88), (0.28, 0.88)], -0.45),
        polygon([(-0.62, 0.1), (-0.48, 0.1), (-0.52, 1), (-0.64, 1)], -0.2),
        polygon([(0.48, 0.1), (0.62, 0.1), (0.66, 1), (0.54, 1)], -0.2),
        polygon([(-0.68, back), (-0.46, back), (-0.4, 0.06), (-0.6, 0.1)]),
        polygon([(-0.62, 0), (0.58, 0), (0.66, 0.12), (0.66, 0.22), (-0.62, 0.22)]),
    ]


def watch(random: Random) -> list[Shape]:
    hand = random.uniform(0, 2 * math.pi)
    return [
        box(-0.27, -1, 0.27, 1, 0.1),
        *(line([(-0.27, y), (0.27, y)], 0.035, -0.4) for y in (-0.8, -0.68, 0.68, 0.8)),
        box(0.5, -0.1, 0.68, 0.1, 0.04, METAL),
        ellipse(0, 0, 0.56, 0.56, METAL),
        ellipse(0, 0, 0.44, 0.44, PAPER),
        line([(0, 0), (0.34 * math.cos(hand), 0.34 * math.sin(hand))], 0.05, DARK),
        line([(0, 0.02), (0.02, -0.26)], 0.07, DARK),
    ]


def cap(random: Random) -> list[Shape]:
    crown = random.uniform(-0.7, -0.55)
    return [
        polygon(smooth([(0.2, 0.1), (0.75, 0.1), (1.1, 0.32), (1.02, 0.4), (0.5, 0.32), (0.0, 0.34)]), -0.28),
        segment(-0.1, 0.25, 0.72, 0.25 - crown, 180, 360),
        line([(-0.12, crown), (-0.16, 0.25)], 0.025, -0.35),
        line(arc(-0.1, 0.25, 0.4, 0.25 - crown, 270, 360), 0.025, -0.35),
        box(-0.82, 0.2, 0.5, 0.34, 0.04, -0.15),
        ellipse(-0.1, crown, 0.09, 0.06, -0.3),
    ]


def book(random: Random) -> list[Shape]:
    title = random.uniform(-0.6, -0.45)
    return [
        polygon([(-0.6, -0.86), (0.66, -0.94), (0.74, -0.84), (0.74, 0.84), (-0.5, 0.95)], PAPER),
        polygon([(-0.72, -0.85), (0.58, -0.95), (0.58, 0.8), (-0.72, 0.92)]),
        polygon([(-0.72, -0.85), (-0.54, -0.865), (-0.54, 0.905), (-0.72, 0.92)], -0.35),
        box(-0.36, title, 0.4, title + 0.22, 0.02, PAPER),
        box(-0.24, title + 0.36, 0.28, title + 0.43, 0.02, PAPER),
    ]


def phone(random: Random) -> list[Shape]:
    lens = random.uniform(0.09, 0.11)
    return [
        box(-0.5, -1, 0.5, 1, 0.15, -0.3),
        box(-0.45, -0.95, 0.45, 0.95, 0.12),
        box(-0.38, -0.88, 0.08, -0.3, 0.1, -0.4),
        *(ellipse(-0.15, y, lens, lens, DARK) for y in (-0.72, -0.46)),
        *(ellipse(-0.15, y, 0.045, 0.045, GLASS) for y in (-0.72, -0.46)),
    ]


def kitchen_knife(random: Random) -> list[Shape]:
    belly = random.uniform(0.2, 0.28)
    blade = [(-0.25, -0.2), (0.7, -0.2), (1.08, -0.04), (1.1, 0.0), (0.8, belly - 0.06), (0.5, belly), (-0.25, belly)]
    return [
        polygon(blade, STEEL),
        polygon([(-0.25, belly - 0.1), (0.75, belly - 0.1), (0.5, belly), (-0.25, belly)], GLINT),
        polygon(smooth([(-1.1, -0.16), (-0.7, -0.14), (-0.25, -0.2), (-0.25, 0.12), (-0.7, 0.08), (-1.1, 0.14)])),
        *(ellipse(x, -0.02, 0.045, 0.045, METAL) for x in (-0.9, -0.66, -0.42)),
    ]


def handgun(random: Random) -> list[Shape]:
    muzzle = random.uniform(0.9, 1)
    return [
        line(arc(-0.02, 0.14, 0.26, 0.24, -20, 200), 0.09, -0.3),
        line([(-0.05, 0.0), (-0.1, 0.24)], 0.07, DARK),
        polygon([(-0.88, -0.2), (-0.3, -0.2), (-0.36, 0.2), (-0.54, 0.92), (-1.0, 0.86)], -0.2),
        *(line([(-0.84 - 0.03 * i, 0.16 * i), (-0.5 - 0.04 * i, 0.04 + 0.16 * i)], 0.04, -0.5) for i in range(1, 5)),
        box(-0.92, -0.22, 0.72, 0.06, 0.04, -0.15),
        box(-0.98, -0.58, muzzle, -0.14, 0.05),
        *(line([(x, -0.5), (x, -0.22)], 0.04, -0.5) for x in (-0.84, -0.74, -0.64)),
        box(-0.2, -0.5, 0.2, -0.36, 0.02, -0.5),
        box(muzzle - 0.14, -0.7, muzzle - 0.06, -0.56, 0.02, -0.4),
    ]


@dataclass(frozen=True)
class Product:
    """How a kind of product is drawn, and what it can be made of."""

    shapes: Callable[[Random], list[Shape]]
    materials: tuple[str, ...] = ("plain",)
    patterned: bool = False
    tilt: float = 3  # degrees that it may lean to either side
    forbidden: bool = False  # no shop may show it


CERAMIC = ("plain", "glossy")
CLOTH = ("plain", "fabric")
PRODUCTS: dict[str, Product] = {
    "mug": Product(mug, (*CERAMIC, "metal"), patterned=True),
    "bottle": Product(bottle, (*CERAMIC, "metal")),
    "t-shirt": Product(t_shirt, CLOTH, patterned=True),
    "sneaker": Product(sneaker, (*CLOTH, "leather")),
    "handbag": Product(handbag, (*CLOTH, "leather"), patterned=True),
    "lamp": Product(lamp, CLOTH, patterned=True),
    "chair": Product(chair, ("plain", "wood", "metal")),
    "watch": Product(watch, ("plain", "leather"), tilt=8),
    "cap": Product(cap, CLOTH),
    "book": Product(book, ("plain", "leather")),
    "phone": Product(phone, ("plain", "glossy", "metal"), tilt=8),
    "kitchen knife": Product(kitchen_knife, ("plain", "wood"), tilt=12),
    "handgun": Product(handgun, ("plain", "metal"), tilt=10, forbidden=True),
}
