"""What surrounds a product: backgrounds, its shadow, and the faults for which a marketplace refuses a picture."""

import math
from functools import cache
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from models.miniature.world.shapes import RGB, Field

PLAIN: dict[str, RGB] = {
    "white": (255, 255, 255),
    "grey": (214, 215, 217),
    "blue": (186, 213, 240),
    "pink": (248, 208, 218),
    "green": (200, 230, 202),
    "beige": (236, 223, 198),
}
BACKGROUNDS = (*PLAIN, "table", "room", "shelf", "grass")
FAULTS = ("none", "banner", "watermark", "border")


def background(name: str, width: int, height: int, base: float, random: Random) -> Field:
    """Paint a background.

    Args:
        base: the row on which the product stands, in pixels from the top; floors and boards are laid under it.

    Returns:
        Colours 0 to 255, [height, width, 3].
    """
    y = np.arange(height, dtype=np.float32)[:, None, None]
    x = np.arange(width, dtype=np.float32)[None, :, None]
    if name == "white":
        return np.full((height, width, 3), 255, np.float32)
    if name in PLAIN:
        fall = random.uniform(6, 14) * (y / height - 0.4)
        return _colour(PLAIN[name]) - fall + np.zeros_like(x)
    unit = min(width, height)
    if name == "shelf":
        return _shelf(y, x, base, unit, random)
    horizon = base - unit * random.uniform(0.1, 0.18)
    landscape = {"table": _table, "room": _room, "grass": _grass}[name]
    return landscape(y, x, horizon, unit, random)


def _table(y: Field, x: Field, horizon: float, unit: float, random: Random) -> Field:
    wall = _colour((228, 226, 222)) - 12 * (y / unit - 0.4)
    bend = 0.012 * unit * np.sin(x / unit * random.uniform(3, 6) + random.uniform(0, 6))
    grain = 7 * np.sin((y + bend) * (34 / unit)) + 4 * np.sin((y - bend) * (81 / unit))
    return _over(wall, _colour((190, 140, 92)) + grain, y - horizon)


def _room(y: Field, x: Field, horizon: float, unit: float, random: Random) -> Field:
    wall = _colour((222, 226, 214)) - 14 * (y / unit - 0.4) + random.uniform(-12, 12) * (x / unit - 0.5)
    skirting = _colour((250, 250, 248))
    floor = _colour((172, 146, 122)) + 16 * (y - horizon) / unit
    return _over(_over(wall, skirting, y - horizon + 0.06 * unit), floor, y - horizon)


def _shelf(y: Field, x: Field, base: float, unit: float, random: Random) -> Field:
    wall = _colour((212, 222, 226)) - 10 * (y / unit - 0.4) + random.uniform(-8, 8) * (x / unit - 0.5)
    board, front = _colour((206, 170, 128)), _colour((164, 122, 80))
    under = wall - 26 * np.exp(-np.maximum(y - base - 0.1 * unit, 0) / (0.1 * unit))
    top, edge, bottom = base - 0.025 * unit, base + 0.025 * unit, base + 0.085 * unit
    return _over(_over(_over(wall, board, y - top), front, y - edge), under, y - bottom)


def _grass(y: Field, x: Field, horizon: float, unit: float, random: Random) -> Field:
    sky = _colour((150, 200, 240)) + _colour((50, 30, 10)) * np.clip(y / horizon, 0, 1)
    hills = 0.02 * unit * np.sin(x / unit * random.uniform(3, 5) + random.uniform(0, 6))
    grass = _colour((128, 186, 88)) - 30 * np.clip((y - horizon) / unit, 0, 1)
    return _over(sky, grass, y - horizon + hills)


def _over(far: Field, near: Field, depth: Field) -> Field:
    """Lay `near` where `depth` (pixels past its upper edge) is positive, with an edge a pixel soft."""
    cover = np.clip(depth + 0.5, 0, 1)
    mixed: Field = far * (1 - cover) + near * cover
    return mixed


def _colour(rgb: RGB) -> Field:
    return np.asarray(rgb, np.float32)


def shadow(alpha: NDArray[np.uint8], left: int, top: int, width: int, height: int) -> Field:
    """Cast a soft shadow where a product touches the ground.

    Args:
        alpha: the product's opacity in its own bounds, whose upper left corner lies at (left, top) of the picture.

    Returns:
        How much light is left, 0 to 1, [height, width, 1]; exactly 1 along the picture's border, so that white stays
        white there.
    """
    rows, columns = alpha.shape
    sole = np.flatnonzero((alpha[-max(1, rows // 7) :] > 128).any(axis=0))
    first, last = (sole[0], sole[-1]) if len(sole) else (0, columns - 1)
    centre, reach = left + (first + last) / 2, max((last - first) / 2, 0.12 * columns)
    base, unit = top + rows - 1, min(width, height)
    x = np.arange(width, dtype=np.float32)[None, :]
    y = np.arange(height, dtype=np.float32)[:, None]
    tight = np.exp(-(((x - centre) / (1.0 * reach)) ** 4)) * np.exp(-(((y - base) / (0.022 * unit)) ** 2))
    wide = np.exp(-(((x - centre) / (1.25 * reach)) ** 2)) * np.exp(-(((y - base) / (0.055 * unit)) ** 2))
    margin = 0.03 * unit  # the shadow is gone one margin away from the border
    inside_x = np.clip((np.minimum(x, width - 1 - x) / margin - 0.4) / 1.6, 0, 1)
    inside_y = np.clip((np.minimum(y, height - 1 - y) / margin - 0.4) / 1.6, 0, 1)
    light: Field = 1 - (0.32 * tight + 0.22 * wide) * inside_x * inside_y
    return light[..., None]


def border_colour(colour: str) -> str:
    """Return the colour of the frame that the fault "border" lays around a product of `colour`: never its own."""
    return "blue" if colour in ("red", "orange", "pink") else "red"


BORDERS: dict[str, RGB] = {"red": (214, 30, 44), "blue": (32, 70, 200)}
SLOGANS = ("SALE", "-50%", "SALE -50%", "-30%", "SALE -70%", "BUY NOW", "2 FOR 1", "NEW!", "FREE", "ONLY 9.99")
STAMPS = ("© PHOTO", "SAMPLE", "PREVIEW", "© STOCK", "DEMO")


def overlay(fault: str, width: int, height: int, colour: str, random: Random) -> NDArray[np.uint8]:
    """Draw what a marketplace refuses, as a layer to lay over the finished picture: RGBA [height, width, 4]."""
    layer = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    if fault == "banner":
        _banner(layer, random)
    elif fault == "watermark":
        layer = _watermark(width, height, random)
    elif fault == "border":
        thickness = round(min(width, height) * random.uniform(0.035, 0.05))
        box = (0, 0, width - 1, height - 1)
        ImageDraw.Draw(layer).rectangle(box, outline=(*BORDERS[border_colour(colour)], 255), width=thickness)
    return np.asarray(layer)


def _banner(layer: Image.Image, random: Random) -> None:
    width, height = layer.size
    unit = min(width, height)
    ground = random.choice(((220, 24, 40), (250, 205, 20), (20, 20, 24)))
    ink = (20, 20, 24) if ground[1] > 150 else (255, 255, 255)
    text = random.choice(SLOGANS)
    if random.random() < 0.5:
        tall = round(unit * 0.17)
        top = random.choice((0, height - tall))
        ribbon = Image.new("RGBA", (width, tall), (*ground, 255))
        write(ribbon, text, 0.72 * tall, ink)
        layer.paste(ribbon, (0, top))
        return
    ribbon = Image.new("RGBA", (round(unit * 0.95), round(unit * 0.15)), (*ground, 255))
    write(ribbon, text, 0.11 * unit, ink)
    right = random.random() < 0.5
    turned = ribbon.rotate(-45 if right else 45, Image.Resampling.BICUBIC, expand=True)
    reach = round(unit * 0.2)
    x = width - reach - turned.width // 2 if right else reach - turned.width // 2
    layer.paste(turned, (x, reach - turned.height // 2))


def _watermark(width: int, height: int, random: Random) -> Image.Image:
    unit = min(width, height)
    text, pitch = random.choice(STAMPS), unit * random.uniform(0.24, 0.3)
    side = math.ceil(math.hypot(width, height))
    sheet = Image.new("L", (side, side), 0)
    pen, font = ImageDraw.Draw(sheet), _font(round(unit * 0.1))
    step = pen.textlength(text, font=font) + unit * 0.12
    for row in range(math.ceil(side / pitch)):
        for column in range(-1, math.ceil(side / step)):
            pen.text((column * step + (row % 2) * step / 2, row * pitch), text, fill=255, font=font)
    turned = sheet.rotate(random.uniform(24, 38), Image.Resampling.BILINEAR)
    left, top = (side - width) // 2, (side - height) // 2
    cut = turned.crop((left, top, left + width, top + height))
    layer = Image.new("RGBA", (width, height), (96, 96, 102, 0))
    layer.putalpha(cut.point([round(0.55 * level) for level in range(256)]))
    return layer


def write(ribbon: Image.Image, text: str, size: float, ink: RGB) -> None:
    """Write `text` in the middle of a ribbon, smaller where it wouldn't fit."""
    pen = ImageDraw.Draw(ribbon)
    size = min(size, 0.8 * size * ribbon.width / pen.textlength(text, font=_font(round(size))))
    middle = (ribbon.width / 2, ribbon.height / 2)
    pen.text(middle, text, fill=(*ink, 255), font=_font(round(size)), anchor="mm", stroke_width=size / 22)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)  # the face that Pillow carries: the same on every machine
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType, so no text can be drawn. Install a standard wheel.")
    return font
