"""Where the product is in a source picture: said by a given mask, by its alpha, or by a plain background.

product = find_product(source)               # by the source's alpha, else its plain background
product = find_product(source, given=plane)  # by the mask of a column, or the alpha of a layer that holds the product
product.cover, product.origin                # uint8 [H, W], "alpha"; or why none is found: `NoProduct`
mask = product_mask(source)                  # the same where one is to be found, or the sentence that says why not
plane = given_mask(picture)                  # a mask picture as a plane, or the sentence that says why it is none
plane = product_layer(layers)                # the alpha of the layer that holds the product

A product is found once for each source and mask, and handed to whoever asks for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from safety.fidelity.frames import STRETCH, PairError, eight_bits, opaque, resized
from safety.pictures.channels import highest, lowest
from safety.pictures.layers import WHITE
from safety.pictures.measures import SPECKS, STANDS_OUT, measure_background

# The constants below decide measures: count `safety.fidelity.measuring.METHOD` up when one changes.
COVERED = 128  # of 255: from here on a pixel is the product's
LEAST_SHARE, MOST_SHARE = 0.002, 0.98  # of the frame: a smaller product can't be told, a larger one leaves no ground
PLAIN = 0.9  # of the border band: a background of which as much has one colour is plain
TOLERANCE = 18  # of 255: how far a plain background may stray from its colour, as studio paper does
WORKING = 640  # pixels a side, at which a background is looked for
STEP = 10  # of 255: a background changes by no more from one pixel to the next, shadows and noise among it
DARKEST, HUE = 0.4, 0.09  # of the background's light: what a shadow leaves, and how evenly over red, green and blue
TOP, GROUND = 0.25, 0.6  # of the height of what stands out: a shadow on the ground begins and has its middle below
REACHED = 2  # marks what a flood has reached
FLAT = 4  # of 255: what the product encloses is background where it keeps so near to it, as inside of a handle
SPECK = 0.02  # of the largest part: smaller parts aren't the product's

Origin = Literal["mask", "alpha", "background"]


@dataclass(frozen=True)
class ProductMask:
    """Where the product is, over the source's own pixels."""

    cover: np.ndarray  # uint8 [H, W]: 0 beside the product, 255 on it
    origin: Origin

    @property
    def share(self) -> float:
        """The share of the frame that the product covers."""
        return float((self.cover >= COVERED).mean())


@dataclass(frozen=True)
class NoProduct:
    """Why no product is found on a source."""

    sentence: str
    is_untold: bool  # neither alpha nor a plain background tells it, so that a model may; not where a mask says it


def find_product(source: np.ndarray, given: np.ndarray | None = None) -> ProductMask | NoProduct:
    """Find the product of a source, or why there is none to be found.

    A picture on which nothing can be told, because it is too small or too long, isn't one for a model, either.

    Args:
        source: as `product_mask` takes it.
        given: likewise.
    """
    is_untold = False
    try:
        picture = eight_bits(source, "The source")
        is_untold = given is None
        return product_mask(picture, given)
    except PairError as error:
        return NoProduct(str(error), is_untold)


def product_mask(source: np.ndarray, given: np.ndarray | None = None) -> ProductMask:
    """Find the product of a source.

    Args:
        source: as `safety.fidelity.frames.framed` takes it.
        given: a mask that is known, as a picture: bright where the product is; or with alpha, opaque there. It has the
            source's aspect.

    Raises:
        PairError: if there is no product to be found: the sentence says what was looked at.
    """
    picture = eight_bits(source, "The source")
    if given is not None:
        return _checked(ProductMask(_given(given, picture), "mask"), "The mask")
    if picture.shape[2] == 4 and picture[..., 3].min() < COVERED:
        return _checked(ProductMask(np.ascontiguousarray(picture[..., 3]), "alpha"), "The source's alpha")
    return _checked(ProductMask(on_plain_ground(opaque(picture)), "background"), "What stands out from the background")


def given_mask(picture: np.ndarray) -> np.ndarray:
    """Return where a mask picture shows a product: uint8 [H, W], 0 beside it and 255 on it.

    Args:
        picture: as `product_mask` takes one.

    Raises:
        PairError: if it shows no product, or nothing beside it; or is no picture that can be compared.
    """
    return _checked(ProductMask(_plane(eight_bits(picture, "The mask")), "mask"), "The mask").cover


def product_layer(layers: np.ndarray) -> np.ndarray | None:
    """Return the alpha of the layer that holds the product: uint8 [H, W]; None if none of them does.

    It is the largest of those that cover a part of the frame: the background covers all of it, and shadows nothing.

    Args:
        layers: uint8 [N, H, W, 4], bottom to top, straight alpha.
    """
    shares = [(float((layer[..., 3] >= COVERED).mean()), number) for number, layer in enumerate(layers)]
    parts = [(share, number) for share, number in shares if LEAST_SHARE <= share <= MOST_SHARE]
    return np.ascontiguousarray(layers[max(parts)[1]][..., 3]) if parts else None


def on_plain_ground(pixels: np.ndarray) -> np.ndarray:
    """Return where a product stands out from a plain background, without its shadow: uint8 [H, W], 0 or 255.

    Background is what has the border's colour or is a soft shadow on it, and can be reached from the border without a
    step; what the product encloses is background where it is as flat as that.

    Args:
        pixels: uint8 [H, W, 3].

    Raises:
        PairError: if the background isn't plain.
    """
    ground = measure_background(pixels, white=False, tolerance=TOLERANCE)
    if ground.share < PLAIN:
        raise PairError(
            f"No product was found: {100 * ground.share:.0f} % of the picture's border has one colour, where a plain "
            f"background has {100 * PLAIN:.0f} % or more. Give a mask, or a picture with alpha."
        )
    height, width = pixels.shape[:2]
    scale = min(1.0, WORKING / math.sqrt(height * width))
    small = resized(pixels, (max(1, round(width * scale)), max(1, round(height * scale))))
    product = _without_specks(_beside_ground(cv2.medianBlur(small, 3), np.array(ground.colour, np.int16)))
    if scale < 1:
        product = cv2.resize(product, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.where(product >= COVERED, np.uint8(WHITE), np.uint8(0))


def _beside_ground(pixels: np.ndarray, colour: np.ndarray) -> np.ndarray:
    plain = highest(np.abs(colour - pixels.astype(np.int16))) <= STANDS_OUT
    light = pixels / np.maximum(colour, 1).astype(np.float32)  # [H, W, 3]: how much of the background's light is left
    darkest, brightest = lowest(light), highest(light)
    shaded = (darkest >= DARKEST) & (brightest <= 1.1) & (brightest - darkest <= HUE)
    ground = _reached(pixels, colour, plain)
    ground |= _ground_shadow(_reached(pixels, colour, plain | shaded) & ~ground, ~ground)
    return _with_holes(np.where(ground, np.uint8(0), np.uint8(WHITE)), _is_flat(pixels, colour, ground & plain))


def _reached(pixels: np.ndarray, colour: np.ndarray, open_to: np.ndarray) -> np.ndarray:
    """Return what can be reached from the border without a step through pixels that are open to it: bool [H, W]."""
    # One row and column of background around the picture, from which the flood begins.
    around = cv2.copyMakeBorder(pixels, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=[int(value) for value in colour])
    closed = np.ones((around.shape[0] + 2, around.shape[1] + 2), np.uint8)
    closed[1:-1, 1:-1] = 0
    closed[2:-2, 2:-2] = ~open_to
    flags, steps = 4 | REACHED << 8 | cv2.FLOODFILL_MASK_ONLY, (STEP,) * 3
    cv2.floodFill(around, closed, (0, 0), (0, 0, 0), steps, steps, flags)
    # The frame's edge itself may have a step to the ring around it, where a gradient is: it begins there, too.
    height, width = open_to.shape
    for x, y in ((0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)):
        if open_to[y, x] and closed[y + 2, x + 2] == 0:
            cv2.floodFill(around, closed, (x + 1, y + 1), (0, 0, 0), steps, steps, flags)
    return np.asarray(closed[2:-2, 2:-2] == REACHED)


def _ground_shadow(shaded: np.ndarray, standing: np.ndarray) -> np.ndarray:
    """Return those parts of what looks like shadow that lie on the ground: bool [H, W].

    A grey product without an outline looks like shadow, too, but it doesn't lie in the lower part of what stands out.
    """
    rows = np.flatnonzero(standing.mean(axis=1) > SPECKS)
    if not rows.size:
        return shaded
    height = rows[-1] - rows[0]
    wide = np.ones((5, 5), np.uint8)  # a shadow is soft: what is thinner is the blur of an outline
    opened = cv2.morphologyEx(shaded.astype(np.uint8), cv2.MORPH_OPEN, wide)
    _, parts, statistics, middles = cv2.connectedComponentsWithStats(opened, connectivity=4)
    low = (statistics[:, cv2.CC_STAT_TOP] >= rows[0] + TOP * height) & (middles[:, 1] >= rows[0] + GROUND * height)
    low[0] = False
    return np.asarray((np.asarray(cv2.dilate(low[parts].astype(np.uint8), wide)) > 0) & shaded)


def _is_flat(pixels: np.ndarray, colour: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """Return where a picture has the colour of its background in the same row, as a wall darkens downwards."""
    count = ground.sum(axis=1)[:, None]
    shown = (pixels[..., channel] * ground for channel in range(pixels.shape[2]))
    mean = np.stack([channel.sum(axis=1, dtype=np.int64) for channel in shown], axis=1) / np.maximum(count, 1)
    in_row = np.where(count > 0, mean, colour)[:, None]  # [H, 1, 3]
    flat: np.ndarray = highest(np.abs(pixels - in_row)) <= FLAT
    return flat


def _with_holes(product: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """Fill what the product encloses, uint8 [H, W], and take out again what of it is flat background."""
    outlines, _ = cv2.findContours(product, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros_like(product), outlines, -1, WHITE, cv2.FILLED)
    enclosed = cv2.morphologyEx(((filled > 0) & flat).astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    return np.where(enclosed > 0, np.uint8(0), filled)


def _without_specks(product: np.ndarray) -> np.ndarray:
    count, parts, statistics, _ = cv2.connectedComponentsWithStats(product, connectivity=8)
    if count < 2:
        return product
    areas = statistics[:, cv2.CC_STAT_AREA]
    areas[0] = 0
    kept = areas >= max(4, SPECK * areas.max())
    return np.where(kept[parts], np.uint8(WHITE), np.uint8(0))


def _given(given: np.ndarray, source: np.ndarray) -> np.ndarray:
    plane = _plane(eight_bits(given, "The mask"))
    (height, width), (rows, columns) = source.shape[:2], plane.shape
    if abs(math.log(columns * height / (rows * width))) > STRETCH:
        raise PairError(
            f"The mask is {columns} × {rows} pixels, and its picture {width} × {height}: give one of the picture's "
            "aspect."
        )
    return resized(plane, (width, height))


def _plane(mask: np.ndarray) -> np.ndarray:
    is_cut_out = mask.shape[2] == 4 and mask[..., 3].min() < WHITE
    return np.ascontiguousarray(mask[..., 3] if is_cut_out else highest(mask[..., :3]))


def _checked(mask: ProductMask, what: str) -> ProductMask:
    share, is_given = mask.share, mask.origin == "mask"
    remedy = "Give one that is white on the product and black beside it." if is_given else "Give a mask."
    if share < LEAST_SHARE:
        amount = "no product at all" if share == 0 else f"{100 * share:.2g} % of the picture as the product"
        raise PairError(f"{what} shows {amount}, below {100 * LEAST_SHARE:g} %: there is nothing to compare. {remedy}")
    if share > MOST_SHARE:
        raise PairError(
            f"{what} shows {100 * share:.4g} % of the picture as the product, above {100 * MOST_SHARE:g} %: nothing is "
            f"left beside it. {remedy}"
        )
    return mask
