"""The drawn products: one small function each, from a few random proportions to flat shapes, painted back to front."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from models.miniature.world.shapes import (
    DARK,
    METAL,
    PAPER,
    RGB,
    STEEL,
    DrawnShape,
    Point,
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
TIMBER: RGB = (158, 112, 70)


def mug(random: Random) -> list[DrawnShape]:
    top = random.uniform(-0.85, -0.65)
    return [
        line(arc(0.5, 0.05, 0.4, 0.4, -80, 80), 0.16),
        polygon([(-0.7, top), *arc(-0.1, 0.76, 0.58, 0.16, 180, 0), (0.5, top)]),
        ellipse(-0.1, top, 0.6, 0.15, 0.25),
        ellipse(-0.1, top + 0.01, 0.5, 0.1, -0.55),
    ]


def bottle(random: Random) -> list[DrawnShape]:
    wide = random.uniform(0.33, 0.42)
    return [
        symmetric([(0.13, -0.8), (0.13, -0.5), (wide, -0.12), (wide, 0.93), (wide - 0.08, 1)]),
        box(-0.17, -1, 0.17, -0.78, 0.04, -0.45),
        box(-wide, 0.16, wide, 0.66, 0.01, PAPER),
        box(-wide + 0.12, 0.3, wide - 0.12, 0.4, 0.01, -0.1),
    ]


def t_shirt(random: Random) -> list[DrawnShape]:
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


def sneaker(random: Random) -> list[DrawnShape]:
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


def handbag(random: Random) -> list[DrawnShape]:
    flap = random.uniform(0.22, 0.36)
    return [
        line(arc(0, -0.15, 0.46, 0.7, 180, 360), 0.11, -0.2),
        polygon([(-0.76, -0.18), (0.76, -0.18), (0.98, 0.85), (-0.98, 0.85)]),
        polygon([(-0.76, -0.18), (0.76, -0.18), (0.83, flap), (0, flap + 0.14), (-0.83, flap)], -0.22),
        box(-0.11, flap - 0.04, 0.11, flap + 0.2, 0.04, GOLD),
    ]


def lamp(random: Random) -> list[DrawnShape]:
    top = random.uniform(0.3, 0.45)
    return [
        box(-0.06, 0, 0.06, 0.9, 0.02, METAL),
        ellipse(0, 0.88, 0.42, 0.1, METAL),
        symmetric([(top, -0.95), (0.8, 0.1)]),
        symmetric([(0.77, 0.0), (0.8, 0.1)], -0.3),
    ]


def chair(random: Random) -> list[DrawnShape]:
    back = random.uniform(-1, -0.9)
    return [
        polygon([(-0.28, 0.1), (-0.18, 0.1), (-0.2, 0.88), (-0.28, 0.88)], -0.45),
        polygon([(0.26, 0.1), (0.36, 0.1), (0.36, 0.88), (0.28, 0.88)], -0.45),
        polygon([(-0.62, 0.1), (-0.48, 0.1), (-0.52, 1), (-0.64, 1)], -0.2),
        polygon([(0.48, 0.1), (0.62, 0.1), (0.66, 1), (0.54, 1)], -0.2),
        polygon([(-0.68, back), (-0.46, back), (-0.4, 0.06), (-0.6, 0.1)]),
        polygon([(-0.62, 0), (0.58, 0), (0.66, 0.12), (0.66, 0.22), (-0.62, 0.22)]),
    ]


def watch(random: Random) -> list[DrawnShape]:
    hand = random.uniform(0, 2 * math.pi)
    return [
        box(-0.33, -1, 0.33, 1, 0.1),
        *(line([(-0.33, y), (0.33, y)], 0.035, -0.4) for y in (-0.8, -0.68, 0.68, 0.8)),
        box(0.5, -0.1, 0.68, 0.1, 0.04, METAL),
        ellipse(0, 0, 0.58, 0.58, -0.15),
        ellipse(0, 0, 0.4, 0.4, PAPER),
        line([(0, 0), (0.32 * math.cos(hand), 0.32 * math.sin(hand))], 0.05, DARK),
        line([(0, 0.02), (0.02, -0.24)], 0.07, DARK),
    ]


def cap(random: Random) -> list[DrawnShape]:
    crown = random.uniform(-0.7, -0.55)
    return [
        polygon(smooth([(0.2, 0.1), (0.75, 0.1), (1.1, 0.32), (1.02, 0.4), (0.5, 0.32), (0.0, 0.34)]), -0.28),
        segment(-0.1, 0.25, 0.72, 0.25 - crown, 180, 360),
        line([(-0.12, crown), (-0.16, 0.25)], 0.025, -0.35),
        line(arc(-0.1, 0.25, 0.4, 0.25 - crown, 270, 360), 0.025, -0.35),
        box(-0.82, 0.2, 0.5, 0.34, 0.04, -0.15),
        ellipse(-0.1, crown, 0.09, 0.06, -0.3),
    ]


def book(random: Random) -> list[DrawnShape]:
    title = random.uniform(-0.6, -0.45)
    return [
        polygon([(-0.6, -0.86), (0.66, -0.94), (0.74, -0.84), (0.74, 0.84), (-0.5, 0.95)], PAPER),
        polygon([(-0.72, -0.85), (0.58, -0.95), (0.58, 0.8), (-0.72, 0.92)]),
        polygon([(-0.72, -0.85), (-0.54, -0.865), (-0.54, 0.905), (-0.72, 0.92)], -0.35),
        box(-0.36, title, 0.4, title + 0.22, 0.02, PAPER),
        box(-0.24, title + 0.36, 0.28, title + 0.43, 0.02, PAPER),
    ]


def phone(random: Random) -> list[DrawnShape]:
    lens = random.uniform(0.09, 0.11)
    return [
        box(-0.5, -1, 0.5, 1, 0.15, -0.3),
        box(-0.45, -0.95, 0.45, 0.95, 0.12),
        box(-0.38, -0.88, 0.08, -0.3, 0.1, -0.4),
        *(ellipse(-0.15, y, lens, lens, DARK) for y in (-0.72, -0.46)),
        *(ellipse(-0.15, y, 0.045, 0.045, GLASS) for y in (-0.72, -0.46)),
    ]


def kitchen_knife(random: Random) -> list[DrawnShape]:
    heel = random.uniform(0.44, 0.52)
    tip = smooth([(1.1, -0.2), (0.96, 0.02), (0.6, 0.26), (-0.14, heel)], closed=False)
    inner = smooth([(1.04, -0.16), (0.9, -0.02), (0.56, 0.16), (-0.14, heel - 0.12)], closed=False)
    handle = [(-1.1, -0.26), (-0.7, -0.2), (-0.12, -0.3), (-0.12, 0.04), (-0.7, 0.08), (-1.02, 0.22), (-1.14, 0.1)]
    return [
        polygon([(-0.14, -0.28), (0.6, -0.28), *tip], STEEL),
        polygon([*inner, *reversed(tip)], GLINT),
        polygon(smooth(handle)),
        *(ellipse(x, -0.07, 0.05, 0.05, METAL) for x in (-0.92, -0.62, -0.32)),
    ]


def backpack(random: Random) -> list[DrawnShape]:
    pocket = random.uniform(0.1, 0.22)
    return [
        line(arc(0, -0.82, 0.2, 0.18, 180, 360), 0.09, -0.3),
        box(-0.86, 0.15, -0.6, 0.8, 0.1, -0.25),
        box(0.6, 0.15, 0.86, 0.8, 0.1, -0.25),
        box(-0.68, -0.85, 0.68, 0.95, 0.32),
        line(arc(0, -0.3, 0.52, 0.3, 180, 360), 0.045, -0.5),
        box(-0.5, pocket, 0.5, 0.8, 0.12, -0.2),
        line([(-0.4, pocket + 0.14), (0.4, pocket + 0.14)], 0.045, -0.55),
        box(0.28, pocket + 0.1, 0.36, pocket + 0.3, 0.02, METAL),
    ]


def vase(random: Random) -> list[DrawnShape]:
    belly, waist = random.uniform(0.56, 0.72), random.uniform(0.16, 0.22)
    right = smooth(
        [(0.34, -1), (waist, -0.68), (0.38, -0.3), (belly, 0.15), (0.5, 0.68), (0.32, 1)],
        closed=False,
    )
    return [
        symmetric(right),
        ellipse(0, -1, 0.34, 0.08, -0.5),
        line(arc(0, -0.3, 0.38, 0.07, 170, 10), 0.05, -0.3),
    ]


def umbrella(random: Random) -> list[DrawnShape]:
    rim = random.uniform(0.08, 0.16)
    crook = [(0, 0), (0, 0.8), *arc(0.13, 0.8, 0.13, 0.16, 180, 20)]
    panels = [(-1, 0.1), (-0.36, 0.1), (0.36, 0.1), (1, 0.1)]
    scallops = [
        point
        for (left, y), (right, _) in reversed(list(pairwise(panels)))
        for point in arc((left + right) / 2, y, (right - left) / 2, rim, 0, -180)
    ]
    return [
        line(crook, 0.07, TIMBER),
        box(-0.03, -1, 0.03, -0.84, 0.02, METAL),
        polygon([*arc(0, 0.1, 1, 1, 180, 360), *scallops]),
        line(arc(0.0, 0.1, 0.36, 0.99, 180, 270), 0.03, -0.4),
        line(arc(0.0, 0.1, 0.36, 0.99, 270, 360), 0.03, -0.4),
    ]


def teapot(random: Random) -> list[DrawnShape]:
    knob = random.uniform(0.07, 0.1)
    return [
        line(smooth([(-0.5, -0.3), (-0.92, -0.3), (-0.96, 0.2), (-0.55, 0.42)], closed=False), 0.13, -0.15),
        polygon(smooth([(0.4, 0.1), (0.72, -0.1), (0.86, -0.46), (1.06, -0.46), (0.92, 0.1), (0.5, 0.55)]), -0.1),
        polygon([*arc(0, 0.1, 0.66, 0.6, 125, 415)]),
        ellipse(0, -0.44, 0.36, 0.12, -0.25),
        ellipse(0, -0.6, knob, knob, -0.2),
        box(-0.34, 0.58, 0.34, 0.68, 0.03, -0.25),
    ]


def dress(random: Random) -> list[DrawnShape]:
    flare = random.uniform(0.68, 0.8)
    hem = arc(0, 0.9, flare, 0.1, 0, 180)
    bodice = [(-0.2, -0.05), (-0.34, -0.6), (-0.24, -1), (-0.14, -1), (0, -0.7), (0.14, -1), (0.24, -1), (0.34, -0.6)]
    return [
        polygon([(-0.22, 0), *reversed(hem), (0.22, 0)]),
        polygon([*bodice, (0.2, -0.05)]),
        *(line([(0.1 * i, 0.1), (flare * 0.42 * i, 0.94)], 0.025, -0.35) for i in (-1, 0, 1)),
        box(-0.24, -0.1, 0.24, 0.06, 0.03, -0.4),
    ]


def trousers(random: Random) -> list[DrawnShape]:
    cuff = random.uniform(0.42, 0.52)
    return [
        polygon([(-0.42, -0.98), (0.42, -0.98), (0.56, 1), (0.56 - cuff, 1), (0, -0.3), (cuff - 0.56, 1), (-0.56, 1)]),
        box(-0.44, -1, 0.44, -0.84, 0.02, -0.3),
        line([(0, -0.84), (0, -0.32)], 0.03, -0.45),
        line([(-0.42, -0.62), (-0.22, -0.84)], 0.03, -0.45),
        line([(0.42, -0.62), (0.22, -0.84)], 0.03, -0.45),
        box(-0.05, -0.96, 0.05, -0.87, 0.03, METAL),
    ]


def sofa(random: Random) -> list[DrawnShape]:
    back = random.uniform(-0.62, -0.5)
    return [
        *(box(x, 0.4, x + 0.12, 0.62, 0.02, TIMBER) for x in (-0.88, 0.76)),
        box(-0.84, back, 0.84, 0.3, 0.12, -0.18),
        line([(0, back + 0.04), (0, 0)], 0.03, -0.45),
        box(-0.76, -0.04, 0.0, 0.28, 0.07, 0.12),
        box(0.0, -0.04, 0.76, 0.28, 0.07, 0.12),
        box(-0.8, 0.24, 0.8, 0.44, 0.04),
        box(-1.02, -0.22, -0.72, 0.48, 0.12),
        box(0.72, -0.22, 1.02, 0.48, 0.12),
    ]


def table(random: Random) -> list[DrawnShape]:
    deep = random.uniform(0.24, 0.3)
    return [
        *(polygon([(x, -0.2), (x + 0.08, -0.2), (x + 0.07, 0.5), (x, 0.5)], -0.45) for x in (-0.62, 0.54)),
        *(polygon([(x, -0.2), (x + 0.13, -0.2), (x + 0.11, 0.72), (x + 0.02, 0.72)], -0.2) for x in (-0.95, 0.82)),
        box(-0.88, -0.24, 0.88, -0.08, 0.02, -0.3),
        polygon([(-0.8, -0.36 - deep), (0.8, -0.36 - deep), (1.05, -0.34), (-1.05, -0.34)], 0.1),
        box(-1.05, -0.35, 1.05, -0.22, 0.02),
    ]


def headphones(random: Random) -> list[DrawnShape]:
    cup = random.uniform(0.36, 0.42)
    return [
        line(arc(0, 0.1, 0.78, 1, 180, 360), 0.17),
        line(arc(0, 0.12, 0.68, 0.88, 200, 340), 0.05, -0.45),
        *(
            box(min(x, x + 0.2 * side), 0.2 - cup, max(x, x + 0.2 * side), 0.2 + cup, 0.08, DARK)
            for x, side in ((0.5, -1), (-0.5, 1))
        ),
        box(0.48, 0.2 - cup, 0.92, 0.2 + cup, 0.16),
        box(-0.92, 0.2 - cup, -0.48, 0.2 + cup, 0.16),
    ]


def sunglasses(random: Random) -> list[DrawnShape]:
    low = random.uniform(0.36, 0.44)

    def lens(middle: float, grow: float) -> list[Point]:
        knots = [(-0.42, -0.28), (0, -0.32), (0.42, -0.28), (0.38, 0.14), (0, low), (-0.38, 0.14)]
        return smooth([(middle + x * grow, 0.02 + y * grow) for x, y in knots])

    glints = (((x - 0.16, -0.1), (x - 0.04, -0.12), (x - 0.14, 0.08), (x - 0.2, 0.06)) for x in (-0.52, 0.52))
    return [
        line([(-0.9, -0.2), (-1.02, -0.34), (-0.8, -0.5)], 0.14, -0.2),
        line([(0.9, -0.2), (1.02, -0.34), (0.8, -0.5)], 0.14, -0.2),
        line(arc(0, -0.02, 0.16, 0.18, 200, 340), 0.14),
        *(polygon(lens(x, 1.12)) for x in (-0.52, 0.52)),
        *(polygon(lens(x, 0.72), DARK) for x in (-0.52, 0.52)),
        *(polygon(glint, GLASS) for glint in glints),
    ]


def candle(random: Random) -> list[DrawnShape]:
    top = random.uniform(-0.4, -0.3)
    flame = [(0, top - 0.62), (0.13, top - 0.28), (0.08, top - 0.14), (-0.08, top - 0.14), (-0.13, top - 0.28)]
    return [
        ellipse(0, 0.86, 0.62, 0.13, METAL),
        polygon([(-0.36, top), *arc(0, 0.84, 0.36, 0.1, 180, 0), (0.36, top)]),
        ellipse(0, top, 0.36, 0.09, 0.3),
        polygon(smooth([(0.2, top), (0.36, top), (0.36, top + 0.34), (0.29, top + 0.42), (0.24, top + 0.3)]), 0.25),
        line([(0, top), (0, top - 0.2)], 0.04, DARK),
        polygon(smooth(flame), FLAME),
        ellipse(0, top - 0.22, 0.05, 0.1, PAPER),
    ]


def cushion(random: Random) -> list[DrawnShape]:
    puff = random.uniform(0.84, 0.88)
    corners = [(-0.96, -0.86), (-0.5, -puff), (0, -puff + 0.03), (0.5, -puff), (0.96, -0.86)]
    right = [(0.9, -0.45), (0.87, 0), (0.9, 0.45)]
    knots = [*corners, *right, *((-x, -y) for x, y in corners), *((-x, -y) for x, y in right)]
    creases = [((0.8 * x, 0.7 * y), (0.58 * x, 0.5 * y)) for x in (-1, 1) for y in (-1, 1)]
    outline = smooth(knots)
    return [
        polygon(outline, -0.28),
        polygon([(0.9 * x, 0.9 * y) for x, y in outline]),
        *(line(crease, 0.03, -0.4) for crease in creases),
        ellipse(0, 0, 0.07, 0.06, -0.4),
    ]


def suitcase(random: Random) -> list[DrawnShape]:
    ribs = random.choice((3, 4, 5))
    return [
        line([(-0.26, -0.6), (-0.26, -1), (0.26, -1), (0.26, -0.6)], 0.07, METAL),
        *(ellipse(x, 0.92, 0.1, 0.1, DARK) for x in (-0.44, 0.44)),
        box(-0.64, -0.62, 0.64, 0.86, 0.12),
        *(
            line([(-0.48 + 0.96 * i / (ribs - 1), -0.48), (-0.48 + 0.96 * i / (ribs - 1), 0.72)], 0.05, -0.35)
            for i in range(ribs)
        ),
        box(-0.16, -0.74, 0.16, -0.6, 0.05, -0.4),
    ]


def bowl(random: Random) -> list[DrawnShape]:
    foot = random.uniform(0.3, 0.4)
    return [
        box(-foot, 0.52, foot, 0.72, 0.03, -0.25),
        segment(0, -0.28, 1, 0.92, 0, 180),
        ellipse(0, -0.28, 1, 0.22, 0.2),
        ellipse(0, -0.27, 0.9, 0.16, -0.5),
    ]


def clock(random: Random) -> list[DrawnShape]:
    hand = random.uniform(0, 2 * math.pi)
    return [
        line([(-0.4, 0.6), (-0.62, 1)], 0.14, -0.3),
        line([(0.4, 0.6), (0.62, 1)], 0.14, -0.3),
        line([(0, -0.9), (0, -0.6)], 0.08, METAL),
        box(-0.12, -1.0, 0.12, -0.88, 0.04, METAL),
        polygon(
            [(x * 0.8 - 0.44 + 0.12 * y, y * 0.8 - 0.74 - 0.1 * x) for x, y in arc(0, 0, 0.42, 0.34, 150, 330)], -0.15
        ),
        polygon(
            [(x * 0.8 + 0.44 - 0.12 * y, y * 0.8 - 0.74 + 0.1 * x) for x, y in arc(0, 0, 0.42, 0.34, 210, 390)], -0.15
        ),
        ellipse(0, 0.1, 0.8, 0.8),
        ellipse(0, 0.1, 0.52, 0.52, PAPER),
        *(
            ellipse(0.42 * math.cos(i * math.pi / 2), 0.1 + 0.42 * math.sin(i * math.pi / 2), 0.05, 0.05, DARK)
            for i in range(4)
        ),
        line([(0, 0.1), (0.38 * math.cos(hand), 0.1 + 0.38 * math.sin(hand))], 0.06, DARK),
        line([(0, 0.1), (0.27 * math.sin(hand), 0.1 - 0.27 * math.cos(hand))], 0.08, DARK),
    ]


def boot(random: Random) -> list[DrawnShape]:
    shaft = random.uniform(-1, -0.9)
    return [
        polygon(
            [
                (-0.62, shaft),
                (0.08, shaft),
                (0.12, 0.08),
                *arc(0.5, 0.55, 0.4, 0.48, 260, 360),
                (0.9, 0.66),
                (-0.62, 0.66),
            ]
        ),
        box(-0.66, shaft - 0.02, 0.12, shaft + 0.18, 0.05, -0.3),
        polygon([(-0.66, 0.62), (0.96, 0.62), (0.96, 0.8), (-0.16, 0.8), (-0.2, 0.94), (-0.66, 0.94)], DARK),
        *(line([(-0.1, -0.44 + 0.2 * i), (0.12, -0.38 + 0.2 * i)], 0.06, PAPER) for i in range(4)),
        line([(-0.62, 0.3), (-0.2, 0.36), (0.1, 0.62)], 0.03, -0.4),
    ]


def scarf(random: Random) -> list[DrawnShape]:
    hang = random.uniform(0.72, 0.84)

    def fringe(left: float, right: float, y: float) -> list[DrawnShape]:
        xs = [left + 0.03 + (right - left - 0.06) * i / 4 for i in range(5)]
        return [line([(x, y - 0.02), (x, y + 0.18)], 0.05, -0.25) for x in xs]

    return [
        *fringe(0.02, 0.44, hang - 0.12),
        polygon([(-0.06, -0.3), (0.34, -0.34), (0.44, hang - 0.12), (0.02, hang - 0.12)], -0.22),
        *fringe(-0.5, -0.06, hang),
        polygon([(-0.3, -0.34), (0.16, -0.3), (-0.06, hang), (-0.5, hang)]),
        ellipse(0, -0.58, 0.62, 0.34),
        ellipse(0, -0.68, 0.42, 0.17, -0.5),
        line(arc(0, -0.66, 0.54, 0.3, 160, 20), 0.03, -0.35),
    ]


def ball(random: Random) -> list[DrawnShape]:
    twist = random.uniform(-0.1, 0.1)
    west = [*arc(0, 0, 0.32, 1, 90, 270), *arc(0, 0, 1, 1, 270, 222), (-0.84, 0.54), *arc(0, 0, 1, 1, 147, 90)]
    east = [*arc(0, 0, 0.5, 1, -90, 90), *arc(0, 0, 0.9, 1, 90, -90)]
    return [
        ellipse(0, 0, 1, 1),
        polygon(west, 0.6),
        polygon(east, 0.6),
        ellipse(0, -0.86 + twist * 0.3, 0.2, 0.09, -0.3),
    ]


def hair_dryer(random: Random) -> list[DrawnShape]:
    nozzle = random.uniform(0.92, 1.02)
    return [
        line(smooth([(-0.24, 0.86), (-0.2, 1.04), (0.1, 1.06), (0.3, 0.94)], closed=False), 0.06, DARK),
        polygon([(-0.44, 0), (0.02, 0), (-0.06, 0.88), (-0.38, 0.88)], -0.2),
        box(-0.26, 0.3, -0.14, 0.52, 0.04, PAPER),
        polygon([(-0.2, -0.7), (0.6, -0.52), (0.6, -0.02), (-0.2, 0.16)]),
        ellipse(-0.34, -0.27, 0.5, 0.47),
        ellipse(-0.34, -0.27, 0.27, 0.25, -0.5),
        *(line([(-0.54, -0.36 + 0.1 * i), (-0.14, -0.36 + 0.1 * i)], 0.03, METAL) for i in range(3)),
        polygon([(0.58, -0.48), (nozzle, -0.58), (nozzle, 0.04), (0.58, -0.06)], DARK),
    ]


def pen(random: Random) -> list[DrawnShape]:
    grip = random.uniform(0.3, 0.44)
    return [
        polygon([(0.78, -0.145), (1.06, -0.014), (1.06, 0.014), (0.78, 0.145)], METAL),
        box(-0.95, -0.16, 0.8, 0.16, 0.06),
        box(grip, -0.16, grip + 0.06, 0.16, 0.0, GOLD),
        box(-0.3, -0.167, -0.24, 0.167, 0.0, GOLD),
        box(-1.06, -0.087, -0.93, 0.087, 0.03, METAL),
        box(-0.9, -0.29, -0.32, -0.174, 0.03, METAL),
    ]


def potted_plant(random: Random) -> list[DrawnShape]:
    arms = random.uniform(-0.6, -0.46)
    return [
        line([(-0.2, -0.18), (-0.5, -0.18), (-0.5, arms)], 0.18, LEAF),
        ellipse(-0.5, arms, 0.09, 0.09, LEAF),
        line([(0.2, -0.32), (0.48, -0.32), (0.48, arms - 0.2)], 0.18, LEAF),
        ellipse(0.48, arms - 0.2, 0.09, 0.09, LEAF),
        box(-0.24, -1, 0.24, 0.4, 0.23, LEAF),
        *(line([(x, -0.74), (x, 0.24)], 0.025, (40, 104, 52)) for x in (-0.1, 0.08)),
        symmetric([(0.76, 0.1), (0.54, 1)]),
        box(-0.84, 0.0, 0.84, 0.26, 0.03, 0.15),
    ]


def toy_car(random: Random) -> list[DrawnShape]:
    roof = random.uniform(-0.56, -0.46)
    return [
        polygon([(-0.62, -0.06), (-0.44, roof), (0.3, roof), (0.6, -0.06)]),
        polygon([(-0.5, -0.08), (-0.36, roof + 0.1), (-0.1, roof + 0.1), (-0.1, -0.08)], GLINT),
        polygon([(0, -0.08), (0, roof + 0.1), (0.24, roof + 0.1), (0.44, -0.08)], GLINT),
        box(-1, -0.1, 1, 0.36, 0.14),
        ellipse(0.9, 0.06, 0.08, 0.08, FLAME),
        line([(-0.05, -0.06), (-0.05, 0.3)], 0.025, -0.4),
        *(ellipse(x, 0.36, 0.26, 0.26, DARK) for x in (-0.55, 0.55)),
        *(ellipse(x, 0.36, 0.12, 0.12, METAL) for x in (-0.55, 0.55)),
    ]


def camera(random: Random) -> list[DrawnShape]:
    lens = random.uniform(0.42, 0.48)
    return [
        box(-0.8, -0.66, -0.5, -0.46, 0.04, METAL),
        polygon([(-0.32, -0.5), (-0.22, -0.74), (0.22, -0.74), (0.32, -0.5)], -0.2),
        box(-1, -0.52, 1, 0.66, 0.12),
        box(-1, -0.52, -0.7, 0.66, 0.12, -0.2),
        box(0.6, -0.4, 0.86, -0.22, 0.03, GLINT),
        ellipse(0, 0.1, lens, lens, METAL),
        ellipse(0, 0.1, lens - 0.1, lens - 0.1, DARK),
        ellipse(0, 0.1, 0.18, 0.18, GLASS),
        ellipse(-0.08, 0.02, 0.06, 0.06, GLINT),
    ]


def guitar(random: Random) -> list[DrawnShape]:
    waist = random.uniform(0.24, 0.29)
    right = smooth(
        [(0.06, -0.16), (0.3, -0.12), (0.36, 0.1), (waist, 0.32), (0.46, 0.66), (0.3, 0.95), (0, 1)],
        closed=False,
    )
    return [
        box(-0.06, -0.8, 0.06, 0.1, 0.01, TIMBER),
        polygon([(-0.11, -1), (0.11, -1), (0.08, -0.76), (-0.08, -0.76)], -0.45),
        symmetric(right),
        ellipse(0, 0.24, 0.13, 0.13, DARK),
        box(-0.18, 0.66, 0.18, 0.73, 0.02, DARK),
        box(-0.055, -0.8, 0.055, 0.12, 0.01, TIMBER),
        *(line([(x, -0.78), (x, 0.68)], 0.014, PAPER) for x in (-0.03, 0.03)),
    ]


def handgun(random: Random) -> list[DrawnShape]:
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


def rifle(random: Random) -> list[DrawnShape]:
    muzzle = random.uniform(1.0, 1.08)
    return [
        box(0.4, -0.19, muzzle, -0.09, 0.01, DARK),
        box(muzzle - 0.1, -0.22, muzzle, -0.06, 0.01, DARK),
        box(0.76, -0.36, 0.82, -0.12, 0.01, DARK),
        polygon([(-1.05, -0.22), (-0.5, -0.22), (-0.5, 0.02), (-0.72, 0.08), (-1.05, 0.36)]),
        polygon([(-0.42, 0.0), (-0.22, 0.0), (-0.32, 0.48), (-0.52, 0.46)], -0.25),
        polygon([(-0.02, 0.02), (0.2, 0.02), (0.26, 0.36), (0.36, 0.6), (0.14, 0.68), (0.04, 0.4)], DARK),
        line(arc(-0.14, 0.08, 0.11, 0.15, 0, 180), 0.05, DARK),
        box(-0.56, -0.27, 0.26, 0.1, 0.02),
        box(0.22, -0.27, 0.66, 0.02, 0.03, -0.2),
        *(line([(x, -0.17), (x, -0.05)], 0.05, DARK) for x in (0.32, 0.43, 0.54)),
        box(-0.32, -0.54, 0.14, -0.37, 0.05, DARK),
        *(box(x, -0.38, x + 0.08, -0.26, 0.0, DARK) for x in (-0.22, 0.0)),
    ]


def combat_knife(random: Random) -> list[DrawnShape]:
    teeth = random.choice((4, 5, 6))
    spine = [(0.55 - 0.66 * i / (2 * teeth), -0.22 + 0.12 * (i % 2)) for i in range(2 * teeth + 1)]
    return [
        polygon([(1.14, -0.02), (0.86, 0.22), (-0.2, 0.25), (-0.2, -0.22), *reversed(spine), (0.78, -0.18)], STEEL),
        line([(-0.1, 0.03), (0.62, 0.03)], 0.06, METAL),
        polygon([(-0.15, 0.13), (0.92, 0.13), (0.86, 0.22), (-0.15, 0.25)], GLINT),
        box(-1.0, -0.2, -0.24, 0.2, 0.08),
        *(line([(x, -0.2), (x, 0.2)], 0.05, DARK) for x in (-0.82, -0.62, -0.42)),
        box(-1.12, -0.25, -0.97, 0.25, 0.05, DARK),
        box(-0.28, -0.46, -0.13, 0.46, 0.06, DARK),
    ]


def cigarette(random: Random) -> list[DrawnShape]:
    rise = random.uniform(-0.1, 0.1)
    near = [(0.92, -0.2), (0.8, -0.42), (0.98, -0.62), (0.82 + rise, -0.94)]
    far = [(1.0, -0.2), (1.1, -0.44), (1.16, -0.66), (1.08 + rise, -1)]
    return [
        line(smooth(near, closed=False), 0.09, SMOKE),
        line(smooth(far, closed=False), 0.07, SMOKE),
        box(-1, -0.18, -0.2, 0.18, 0.03),
        box(-0.2, -0.18, 0.8, 0.18, 0.0, PAPER),
        box(-0.23, -0.18, -0.15, 0.18, 0.0, GOLD),
        polygon([(0.78, -0.18), (0.92, -0.14), (0.96, 0.03), (0.91, 0.15), (0.78, 0.18)], EMBER),
        polygon([(0.9, -0.15), (1.03, -0.09), (1.05, 0.06), (0.9, 0.15)], SMOKE),
    ]


def syringe(random: Random) -> list[DrawnShape]:
    plunger = random.uniform(-0.2, 0.1)
    return [
        line([(0.6, 0), (1.15, 0)], 0.035, METAL),
        polygon([(0.48, -0.135), (0.66, -0.054), (0.66, 0.054), (0.48, 0.135)], -0.2),
        line([(-0.98, 0), (plunger, 0)], 0.08, METAL),
        box(-1.06, -0.27, -0.96, 0.27, 0.03, -0.2),
        box(-0.5, -0.23, 0.5, 0.23, 0.03, GLINT),
        box(plunger, -0.23, 0.5, 0.23, 0.02),
        box(plunger - 0.08, -0.23, plunger, 0.23, 0.0, DARK),
        *(line([(-0.36 + 0.16 * i, -0.23), (-0.36 + 0.16 * i, -0.054)], 0.025, DARK) for i in range(6)),
        box(-0.58, -0.459, -0.48, 0.459, 0.04, -0.1),
    ]


def hand_grenade(random: Random) -> list[DrawnShape]:
    bulge = random.uniform(0.56, 0.64)
    right = smooth([(0.2, -0.46), (bulge - 0.1, -0.2), (bulge, 0.2), (bulge - 0.14, 0.7), (0.18, 1)], closed=False)
    return [
        symmetric(right),
        *(
            line(arc(0, y - 0.06, reach, 0.1, 170, 10), 0.06, -0.55)
            for y, reach in ((-0.1, 0.46), (0.24, 0.56), (0.58, 0.46))
        ),
        *(line([(0.42 * x, -0.36), (x, 0.24), (0.5 * x, 0.88)], 0.06, -0.55) for x in (-0.24, 0.24)),
        box(-0.2, -0.76, 0.2, -0.42, 0.04, METAL),
        polygon(
            [
                (-0.16, -0.9),
                (0.34, -0.9),
                (0.78, -0.1),
                (0.76, 0.28),
                (0.66, 0.28),
                (0.66, -0.08),
                (0.3, -0.7),
                (-0.16, -0.7),
            ],
            DARK,
        ),
        line(arc(-0.44, -0.66, 0.2, 0.2, 0, 352), 0.07, GOLD),
        line([(-0.26, -0.66), (-0.1, -0.66)], 0.07, GOLD),
    ]


def cannabis_leaf(random: Random) -> list[DrawnShape]:
    spread = random.uniform(0.95, 1.05)
    shapes = [line([(0, 0.3), (0.04, 1)], 0.06, -0.3)]
    for degrees, length in ((128, 0.5), (-128, 0.5), (86, 0.8), (-86, 0.8), (44, 1.05), (-44, 1.05), (0, 1.3)):
        angle = math.radians(degrees * spread)
        turn = [(math.sin(angle), -math.cos(angle)), (math.cos(angle), math.sin(angle))]  # along, across
        edge: list[Point] = []
        for step in range(9):
            at = step / 8
            swell = 0.15 * length * math.sin(math.pi * at**0.75) * (1 if step % 2 else 0.6)
            edge.append((at * length, swell))
        outline = edge + [(along, -across) for along, across in reversed(edge)]
        placed = [
            (along * turn[0][0] + across * turn[1][0], 0.3 + along * turn[0][1] + across * turn[1][1])
            for along, across in outline
        ]
        tip = (0.86 * length * turn[0][0], 0.3 + 0.86 * length * turn[0][1])
        shapes += [polygon(placed), line([(0, 0.3), tip], 0.025, -0.45)]
    return shapes


@dataclass(frozen=True)
class Product:
    """How a kind of product is drawn, and what it can be made of."""

    shapes: Callable[[Random], list[DrawnShape]]
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
    "cap": Product(cap, CLOTH, patterned=True),
    "book": Product(book, ("plain", "leather")),
    "phone": Product(phone, ("plain", "glossy", "metal"), tilt=8),
    "backpack": Product(backpack, (*CLOTH, "leather"), patterned=True),
    "vase": Product(vase, (*CERAMIC, "metal"), patterned=True),
    "umbrella": Product(umbrella, CLOTH, patterned=True),
    "kitchen knife": Product(kitchen_knife, ("plain", "wood"), tilt=12),
    "teapot": Product(teapot, (*CERAMIC, "metal"), patterned=True),
    "dress": Product(dress, CLOTH, patterned=True),
    "trousers": Product(trousers, CLOTH, patterned=True),
    "sofa": Product(sofa, (*CLOTH, "leather"), patterned=True),
    "table": Product(table, ("plain", "wood", "metal")),
    "headphones": Product(headphones, ("plain", "glossy", "metal")),
    "sunglasses": Product(sunglasses, ("plain", "glossy"), tilt=8),
    "candle": Product(candle),
    "cushion": Product(cushion, (*CLOTH, "leather"), patterned=True, tilt=8),
    "suitcase": Product(suitcase, ("plain", "glossy", "metal")),
    "bowl": Product(bowl, (*CERAMIC, "wood"), patterned=True),
    "clock": Product(clock, ("plain", "glossy", "metal")),
    "boot": Product(boot, ("plain", "leather")),
    "scarf": Product(scarf, CLOTH, patterned=True),
    "ball": Product(ball, ("plain", "glossy"), tilt=40),
    "hair dryer": Product(hair_dryer, ("plain", "glossy", "metal"), tilt=8),
    "pen": Product(pen, ("plain", "glossy", "metal", "wood"), tilt=15),
    "potted plant": Product(potted_plant, CERAMIC, patterned=True),
    "toy car": Product(toy_car, ("plain", "glossy", "wood")),
    "camera": Product(camera, ("plain", "leather", "metal")),
    "guitar": Product(guitar, ("plain", "glossy", "wood"), tilt=8),
    "handgun": Product(handgun, ("plain", "metal"), tilt=10, forbidden=True),
    "rifle": Product(rifle, ("plain", "wood"), tilt=10, forbidden=True),
    "combat knife": Product(combat_knife, tilt=12, forbidden=True),
    "cigarette": Product(cigarette, tilt=8, forbidden=True),
    "syringe": Product(syringe, ("plain", "glossy"), tilt=12, forbidden=True),
    "hand grenade": Product(hand_grenade, ("plain", "metal"), tilt=8, forbidden=True),
    "cannabis leaf": Product(cannabis_leaf, tilt=8, forbidden=True),
}
