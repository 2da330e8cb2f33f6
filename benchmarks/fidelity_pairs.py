"""Labelled pairs for the fidelity gate: a drawn source, and a result that is right or wrong in a known way.

    pair = labelled_pair(Random(7), "white-background", "label", side=256)

Right results have what was asked for and the same product. Wrong ones show another product, or the same one in another
colour, stretched, moved, zoomed, without a part of it or with another label; or nothing of what was asked for.
"""

import io
import math
from dataclasses import dataclass, replace
from random import Random

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.miniature.world.edits import LABELS
from models.miniature.world.products import PRODUCTS
from models.miniature.world.scenery import FAULTS
from models.miniature.world.world import (
    BACKGROUNDS,
    COLOURS,
    FORBIDDEN,
    KINDS,
    Alteration,
    Drawing,
    Scene,
    draw_alike,
    random_scene,
)

INSTRUCTIONS = ("white-background", "scene", "recolour", "remove-text", "relight", "upscale-clean")
WRONGS = ("product", "shape", "colour", "moved", "zoomed", "part", "label", "nothing")
MOST_DRAWN = 512  # pixels a side that the world draws; larger pictures are these, enlarged
LIVELY = tuple(name for name in BACKGROUNDS if name != "white")
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class LabelledPair:
    """A source, a result, and what is known of them."""

    instruction: str
    values: dict[str, str]  # of the instruction's fields
    wrong: str | None  # one of `WRONGS`; None where the result is right
    source: Pixels  # [H, W, 3]
    result: Pixels  # [H, W, 3]
    mask: Pixels  # [H, W]: the product in the source
    plain: bool  # whether the source's background has one colour


def labelled_pair(random: Random, instruction: str, wrong: str | None, *, side: int) -> LabelledPair:
    """Draw a pair.

    Args:
        random: where everything takes its random numbers from.
        instruction: one of `INSTRUCTIONS`.
        wrong: one of `WRONGS`, or None for a right result.
        side: pixels a side, a multiple of 16.
    """
    before, after = _scenes(random, instruction, min(side, MOST_DRAWN), roomy=wrong in ("moved", "zoomed"))
    source, result = _drawn(before, after, wrong, random)
    if wrong == "part":
        result = _without_part(result, random)
    first, last = source.picture, result.picture
    if wrong == "zoomed":
        last = _over(result.background, _zoomed(result.product, random.choice((0.86, 0.9, 1.1, 1.14))))
    if instruction == "relight":
        last = relit(last, random)
    if instruction == "upscale-clean":
        first = _worn(first, random)
    if wrong == "nothing":
        last = _enlarged(first, side)
    return LabelledPair(
        instruction,
        {"colour": after.colour} if instruction == "recolour" else {},
        wrong,
        first if instruction == "upscale-clean" else _enlarged(first, side),
        _enlarged(last, side),
        _enlarged(source.product[..., 3], first.shape[0] if instruction == "upscale-clean" else side),
        before.background in ("white", "grey", "blue", "pink", "green", "beige") and before.fault == "none",
    )


def like_a_decoder(pixels: Pixels, random: Random, *, strength: float = 1.0) -> Pixels:
    """Give a drawn result what a model's VAE and its sampling leave in one: soft edges, noise, a cast, a small shift.

    A decoder's noise is 3 to 5 of 255 and is alike over neighbouring pixels; real edits shift and zoom by pixels.
    """
    generator = np.random.default_rng(random.getrandbits(32))
    height, width = pixels.shape[:2]
    zoom, reach = 1 + strength * random.uniform(-0.004, 0.004), strength * 0.004 * min(height, width)
    across, down = random.uniform(-reach, reach), random.uniform(-reach, reach)
    moved = cv2.warpAffine(
        pixels.astype(np.float32),
        np.array([[zoom, 0, across + (1 - zoom) * width / 2], [0, zoom, down + (1 - zoom) * height / 2]]),
        (width, height),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    soft = cv2.GaussianBlur(moved, (0, 0), 0.5 + 0.3 * strength)
    noise = sum(
        cv2.GaussianBlur(generator.normal(0, 1, pixels.shape).astype(np.float32), (0, 0), blur) * blur * 3.0 * strength
        for blur in (0.8, 1.6)
    )
    cast = generator.normal(0, 1.0 * strength, 3).astype(np.float32)
    return np.clip(soft + noise + cast + 0.5, 0, 255).astype(np.uint8)


def relit(pixels: Pixels, random: Random) -> Pixels:
    """Light a picture anew: brighter towards one side, a little warmer or colder, in linear light."""
    height, width = pixels.shape[:2]
    angle, most = random.uniform(0, 2 * math.pi), random.uniform(0.35, 0.6)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    gain = 1 + most * (math.cos(angle) * x + math.sin(angle) * y) / math.sqrt(2) + random.uniform(-0.15, 0.1)
    warmth = np.array([1 + random.uniform(-0.04, 0.04), 1, 1 + random.uniform(-0.04, 0.04)], np.float32)
    linear = (pixels.astype(np.float32) / 255) ** 2.2 * gain[..., None] * warmth
    return (255 * np.clip(linear, 0, 1) ** (1 / 2.2) + 0.5).astype(np.uint8)


def _scenes(random: Random, instruction: str, side: int, *, roomy: bool) -> tuple[Scene, Scene]:
    while True:
        scene = replace(random_scene(random, width=side, height=side, held_out=None), fault="none")
        if scene.kind not in FORBIDDEN and not (roomy and scene.size == "large"):
            break
    if instruction == "white-background":
        return replace(scene, background=random.choice(LIVELY)), replace(scene, background="white")
    if instruction == "scene":
        others = [each for each in LIVELY if each != scene.background]
        return scene, replace(scene, background=random.choice(others))
    if instruction == "recolour":
        return scene, replace(scene, colour=random.choice([each for each in COLOURS if each != scene.colour]))
    if instruction == "remove-text":
        return replace(scene, fault=random.choice(FAULTS[1:])), scene
    return scene, scene


def _drawn(before: Scene, after: Scene, wrong: str | None, random: Random) -> tuple[Drawing, Drawing]:
    label, other = random.sample(LABELS, 2)
    has_label = wrong == "label" or random.random() < 0.4
    first = Alteration(label=label if has_label else "")
    last = replace(first, label=other) if wrong == "label" else first
    if wrong == "product":
        kinds = [kind for kind in KINDS if kind != after.kind and kind not in FORBIDDEN]
        after = replace(after, kind=random.choice(kinds))
        if not PRODUCTS[after.kind].patterned:
            after = replace(after, pattern="plain")
    elif wrong == "shape":
        narrow, wide = random.uniform(0.7, 0.82), random.uniform(0.95, 1.05)
        last = replace(last, stretch=random.choice(((narrow, wide), (wide, narrow))))
    elif wrong == "colour":
        after = replace(
            after, colour=random.choice([each for each in COLOURS if each not in (before.colour, after.colour)])
        )
    elif wrong == "moved":
        far = round(random.uniform(0.06, 0.1) * min(after.width, after.height))
        last = replace(last, shift=random.choice(((far, 0), (-far, 0), (0, far), (0, -far))))
    source, result = draw_alike([before, after], random, [first, last])
    return source, result


def _without_part(drawing: Drawing, random: Random) -> Drawing:
    """Take a part at a product's edge away: a tenth to a quarter of it."""
    product = drawing.product.copy()
    rows, columns = np.nonzero(product[..., 3] >= 128)
    place = rows if random.random() < 0.5 else columns
    share = random.uniform(0.1, 0.25)
    cut = np.quantile(place, share if random.random() < 0.5 else 1 - share)
    every = np.indices(product.shape[:2])[0 if place is rows else 1]
    product[every <= cut if cut < np.median(place) else every >= cut, 3] = 0
    return replace(drawing, product=product, picture=_over(drawing.background, product))


def _zoomed(layer: Pixels, zoom: float) -> Pixels:
    """Make a layer, [H, W, 4], so much larger about its product's middle."""
    rows, columns = np.nonzero(layer[..., 3] >= 128)
    x, y = (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2
    matrix = np.array([[zoom, 0, x - zoom * x], [0, zoom, y - zoom * y]])
    premultiplied = layer.astype(np.float32)
    premultiplied[..., :3] *= premultiplied[..., 3:] / 255
    larger = cv2.warpAffine(premultiplied, matrix, layer.shape[1::-1], flags=cv2.INTER_LINEAR)
    larger[..., :3] /= np.maximum(larger[..., 3:] / 255, 1e-3)
    return np.clip(larger + 0.5, 0, 255).astype(np.uint8)


def _worn(pixels: Pixels, random: Random) -> Pixels:
    """Make a small, noisy JPEG of a picture."""
    size = round(pixels.shape[0] / random.uniform(1.5, 2.2))
    small = Image.fromarray(pixels).resize((size, size), Image.Resampling.BOX)
    grain = np.random.default_rng(random.getrandbits(32)).normal(0, 3, (size, size, 3))
    noisy = Image.fromarray(np.clip(np.asarray(small) + grain + 0.5, 0, 255).astype(np.uint8))
    buffer = io.BytesIO()
    noisy.save(buffer, "JPEG", quality=random.randint(70, 90))
    return np.asarray(Image.open(buffer))


def _enlarged(picture: Pixels, side: int) -> Pixels:
    if picture.shape[0] == side:
        return picture
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))


def _over(below: Pixels, layer: Pixels) -> Pixels:
    cover = layer[..., 3:].astype(np.float32) / 255
    return (below * (1 - cover) + layer[..., :3] * cover + 0.5).astype(np.uint8)
