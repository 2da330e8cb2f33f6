"""What a product's surface looks like: the light on it, its material and its pattern. All smooth fields in numpy."""

from random import Random

import numpy as np
from PIL import Image

from models.miniature.world.shapes import RGB, Field, toned

MATERIALS = ("plain", "glossy", "metal", "wood", "fabric", "leather")
PATTERNS = ("plain", "stripes", "dots", "checks")


def shade(
    rgb: Field,
    surface: Field,
    colour: RGB,
    material: str,
    pattern: str,
    span: float,
    random: Random,
    random_pattern: Random | None,
) -> Field:
    """Light a flat drawing.

    Args:
        rgb: flat colours, 0 to 255, [height, width, 3].
        surface: where material and pattern show, 0 to 1, [height, width].
        span: the product's longer side in pixels; material and pattern scale with it.
        random: what light and material take their random numbers from.
        random_pattern: what the pattern takes its repeat from; None for the ordinary one. Where it is another one
            than `random`, light and material are the same whatever the pattern.

    Returns:
        Lit colours, 0 to 255, [height, width, 3].
    """
    height, width = surface.shape
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :] * np.float32(width / span)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * np.float32(height / span)
    side = random.choice((-1.0, 1.0))
    light = 1.02 + side * random.uniform(0.06, 0.13) * x - random.uniform(0.03, 0.08) * y
    if pattern != "plain":
        rgb = rgb + (surface * _pattern(pattern, x, y, random_pattern))[..., None] * pattern_contrast(colour)
    relief, gloss = _material(material, x, y, side, random)
    lit = rgb * (light * (1 + surface * (relief - 1)))[..., None]
    if gloss is not None:
        lit += (surface * gloss)[..., None] * (255 - lit)
    np.clip(lit, 0, 255, out=lit)
    return lit


def _material(material: str, x: Field, y: Field, side: float, random: Random) -> tuple[Field, Field | None]:
    """Return (a factor on brightness, how much of white lies on top), each [height, width]."""
    if material == "glossy":
        streak = _bell((x - 0.38 * side) / 0.07) * _bell((y + 0.1) / 0.5) * 0.5
        return np.ones_like(x * y), streak + _bell((x - 0.12 * side) / 0.05) * _bell((y + 0.3) / 0.2) * 0.35
    if material == "metal":
        phase = random.uniform(0, 6.28)
        bands = 1 + 0.13 * np.sin(9 * x + phase) + 0.07 * np.sin(23 * x + 2 * phase) + 0 * y
        return bands, 0.4 * _bell((x - 0.3 * side) / 0.06) + 0 * y
    if material == "wood":
        grain = np.sin(34 * (y + 0.05 * np.sin(4 * x + random.uniform(0, 6)) + 0.02 * np.sin(11 * x)))
        return 1 + 0.09 * grain, None
    if material == "fabric":
        return 1 + 0.07 * np.sin(75 * (x + y)) * np.sin(75 * (x - y)) + 0.05 * _noise(x, y, 7, random), None
    if material == "leather":
        return 1 + 0.09 * _noise(x, y, 40, random), 0.16 * _bell((x - 0.3 * side) / 0.25) * _bell((y + 0.2) / 0.4)
    return np.ones_like(x * y), None


PITCHES = (0.17, 0.22)  # of the span: the least and the greatest distance of a pattern's repeats
SLOPES = (0.0, 1.0, 0.7)  # of stripes: level, upright, slanting
ORDINARY_PITCH, ORDINARY_SLOPE = 0.195, 1.0
DOTTED, CHECKED = 0.75, 0.8  # times as frequent as stripes: the waves of dots and of checks


def _pattern(pattern: str, x: Field, y: Field, random: Random | None) -> Field:
    pitch = random.uniform(*PITCHES) if random else ORDINARY_PITCH
    slope = 0.0 if pattern != "stripes" else random.choice(SLOPES) if random else ORDINARY_SLOPE
    return pattern_tone(pattern, x, y, pitch, slope)


def pattern_contrast(colour: RGB) -> Field:
    """Return what a pattern's tone adds to a colour where it is full, [3]: white gets darker, all else lighter."""
    tone = -0.16 if min(colour) > 220 else 0.2 if max(colour) < 60 else 0.42  # black and white would turn grey
    return np.asarray(toned(colour, tone), np.float32) - np.asarray(colour, np.float32)


def pattern_tone(pattern: str, x: Field, y: Field, pitch: float, slope: float) -> Field:
    """Return how much of a pattern's tone lies at each pixel, 0 to 1, [height, width].

    Args:
        pattern: stripes, dots or checks.
        x, y: of pixels from the product's middle, 1 at half of its span, [1, width] and [height, 1].
        pitch: from `PITCHES`.
        slope: from `SLOPES`, of stripes alone.
    """
    across, down = 2 * np.pi * x / pitch, 2 * np.pi * y / pitch
    if pattern == "stripes":
        return _crisp(np.sin(slope * across + (1 - slope) * down))
    if pattern == "dots":
        return _crisp(np.cos(across * DOTTED) * np.cos(down * DOTTED) - 0.35)
    return (_crisp(np.sin(across * CHECKED)) + _crisp(np.sin(down * CHECKED))) / 2


def _crisp(wave: Field) -> Field:
    crisp: Field = np.clip(wave * 4 + 0.5, 0, 1)
    return crisp


def _bell(distance: Field) -> Field:
    bell: Field = np.exp(-(distance**2))
    return bell


def _noise(x: Field, y: Field, cells: int, random: Random) -> Field:
    """Smooth noise from -1 to 1 with about `cells` bumps along the longer side."""
    grain = Image.frombytes("L", (cells, cells), random.randbytes(cells * cells))
    size = (x.shape[1], y.shape[0])
    return np.asarray(grain.resize(size, Image.Resampling.BICUBIC), np.float32) / 127.5 - 1
