"""What tells a product's pattern in pictures that a model made: drawn ones, faint ones, and plain ones that differ."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from PIL import Image

from benchmarks.patterns import pattern_of
from models.miniature.world.products import PRODUCTS
from models.miniature.world.surface import (
    CHECKED,
    DOTTED,
    ORDINARY_PITCH,
    PATTERNS,
    pattern_contrast,
    pattern_tone,
)
from models.miniature.world.world import COLOURS, KINDS, PIGMENTS, Drawing, Scene, draw_alike

MUG = Scene("mug", "green", "glossy", "plain", "white", "large", "centre", "none", 256, 256)


def looks(scene: Scene, *others: Scene) -> list[Drawing]:
    return draw_alike([scene, *others], Random(f"{scene}"))


@pytest.mark.parametrize(("number", "kind"), [*enumerate(kind for kind in KINDS if PRODUCTS[kind].patterned)])
def test_a_drawn_pattern_is_told(number: int, kind: str) -> None:
    material, colour = PRODUCTS[kind].materials[-1], COLOURS[number % len(COLOURS)]
    scene = replace(MUG, kind=kind, colour=colour, material=material, size="medium")
    pattern = PATTERNS[number % len(PATTERNS)]
    plain, patterned = looks(scene, replace(scene, pattern=pattern))
    assert pattern_of(patterned.picture, plain, PIGMENTS[colour]) == pattern


def test_a_pattern_that_can_hardly_be_seen_is_none() -> None:
    plain, dots = looks(MUG, replace(MUG, pattern="dots"))
    faint = 0.9 * plain.picture + 0.1 * dots.picture
    assert pattern_of(faint.astype(np.uint8), plain, PIGMENTS["green"]) == "plain"


def test_highlights_elsewhere_are_no_pattern() -> None:
    plain, matt = looks(MUG, replace(MUG, material="plain"))
    assert pattern_of(matt.picture, plain, PIGMENTS["green"]) == "plain"


def test_checks_that_are_wider_than_high_are_checks() -> None:
    plain, checks = looks(MUG, replace(MUG, pattern="checks"))
    wide = np.asarray(Image.fromarray(checks.picture).resize((276, 256)))[:, 10:266]
    assert pattern_of(wide, plain, PIGMENTS["green"]) == "checks"


@pytest.mark.parametrize(("right", "below"), [(0.25, 0.75), (0.5, 0.0), (0.75, 0.5)])
@pytest.mark.parametrize("pattern", ["dots", "checks"])
def test_a_pattern_is_told_wherever_it_begins(pattern: str, right: float, below: float) -> None:
    (plain,) = looks(MUG)
    mask = plain.product[..., 3] == 255
    rows, columns = np.nonzero(mask)
    span = max(np.ptp(rows), np.ptp(columns)) + 1
    period = ORDINARY_PITCH / {"dots": DOTTED, "checks": CHECKED}[pattern]
    x = 2 * (np.arange(256, dtype=np.float32)[None, :] - columns.mean()) / span + right * period
    y = 2 * (np.arange(256, dtype=np.float32)[:, None] - rows.mean()) / span + below * period
    tone = 0.5 * pattern_tone(pattern, x, y, ORDINARY_PITCH, 0.0) * mask
    shown = plain.picture + tone[..., None] * pattern_contrast(PIGMENTS["green"])
    assert pattern_of(shown.clip(0, 255).astype(np.uint8), plain, PIGMENTS["green"]) == pattern
