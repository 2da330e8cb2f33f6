"""The drawn catalogue: scenes that can be described in words, and the pictures they make.

The miniature models learn from these pictures instead of photographs, so that packshot ships weights whose every
training example it can draw again, and so that a test knows what a prompt asks for.

    random = Random(7)
    scene = random_scene(random)
    drawing = draw(scene, random)
    words = caption(scene, random, language="en")  # models.miniature.language.captions

    before, after = draw_alike([scene, replace(scene, background="grass")], random)  # one product, seen twice
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from models.miniature.world.products import PRODUCTS, Product
from models.miniature.world.scenery import BACKGROUNDS, FAULTS, PLAIN, background, overlay, shadow, write
from models.miniature.world.shapes import RGB, DrawnShape, Field, toned
from models.miniature.world.surface import MATERIALS, PATTERNS, shade

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "FAULTS",
    "FORBIDDEN",
    "KINDS",
    "MATERIALS",
    "PATTERNS",
    "POSITIONS",
    "SIZES",
    "Alteration",
    "Drawing",
    "Scene",
    "draw",
    "draw_alike",
    "held_out",
    "nearest_colour",
    "random_scene",
    "unnamed_pigment",
]

PIGMENTS: dict[str, RGB] = {
    "red": (204, 32, 40),
    "orange": (244, 126, 22),
    "yellow": (248, 212, 44),
    "green": (46, 152, 64),
    "teal": (12, 160, 160),
    "blue": (40, 80, 214),
    "purple": (122, 54, 178),
    "pink": (246, 134, 186),
    "brown": (118, 74, 42),
    "black": (36, 36, 40),
    "white": (246, 246, 244),
    "grey": (136, 139, 143),
}
SPANS = {"small": 0.45, "medium": 0.65, "large": 0.88}  # of the picture's shorter side
CENTRES = {"left": 0.31, "centre": 0.5, "right": 0.69}  # of the picture's width

KINDS = tuple(PRODUCTS)
FORBIDDEN = tuple(kind for kind, product in PRODUCTS.items() if product.forbidden)
COLOURS = tuple(PIGMENTS)
SIZES = tuple(SPANS)
POSITIONS = tuple(CENTRES)

APART = 60.0  # of red, green and blue together, 0 to 255 each: nearer pigments may be called by one name
MARGIN = 0.03  # of the shorter side: no product comes nearer to the border
SUPERSAMPLING = 3


@dataclass(frozen=True)
class Scene:
    """What a picture shows, in words; width and height in pixels, multiples of 16 from 128 to 512."""

    kind: str
    colour: str
    material: str
    pattern: str
    background: str
    size: str
    position: str
    fault: str
    width: int = 256
    height: int = 256


@dataclass(frozen=True)
class Drawing:
    """A picture and its layers, all uint8.

    `product` over `background` gives the picture without its fault; `overlay` over that gives the picture.
    """

    picture: NDArray[np.uint8]  # [height, width, 3]
    product: NDArray[np.uint8]  # [height, width, 4], straight alpha
    background: NDArray[np.uint8]  # [height, width, 3], with the product's shadow
    overlay: NDArray[np.uint8]  # [height, width, 4], straight alpha; transparent without a fault


@dataclass(frozen=True)
class Chances:
    """Where the parts of a drawing take their random numbers from."""

    shapes: Random
    colour: Random
    light: Random
    pattern: Random
    place: Random
    ground: Random
    overlay: Random


@dataclass(frozen=True)
class Alteration:
    """What makes a product another one, or puts it elsewhere, though its scene says nothing of it."""

    stretch: tuple[float, float] = (1.0, 1.0)  # of its width and height, about its middle
    shift: tuple[int, int] = (0, 0)  # pixels to the right and down, no further than to the picture's border
    label: str = ""  # printed on it
    pigment: RGB | None = None  # its colour, in place of the one that its scene names


UNALTERED = Alteration()


def held_out(kind: str, colour: str) -> bool:
    """Say whether training never sees this pair: one colour of every kind, two of every fifth, 10 % in all."""
    row = KINDS.index(kind)
    diagonal = (5 * row + COLOURS.index(colour)) % len(COLOURS)
    return diagonal == 3 or (row % 5 == 0 and diagonal == 9)


def unnamed_pigment(kind: str, random: Random) -> RGB:
    """Pick any colour for a product but those of its pairs that training never sees, and what is near to them."""
    while True:
        red, green, blue = (round(255 * random.betavariate(0.5, 0.5)) for _ in range(3))  # strong colours, too
        pigment = (red, green, blue)
        unseen = [PIGMENTS[colour] for colour in COLOURS if held_out(kind, colour)]
        if min(math.dist(pigment, each) for each in unseen) > APART:
            return pigment


def nearest_colour(pigment: RGB) -> str:
    """Return the named colour that a pigment is nearest to."""
    return min(COLOURS, key=lambda colour: math.dist(pigment, PIGMENTS[colour]))


def random_scene(
    random: Random,
    *,
    width: int = 256,
    height: int = 256,
    held_out: bool | None = False,
    kinds: Sequence[str] = KINDS,
) -> Scene:
    """Pick a scene that makes sense.

    Args:
        held_out: False for training, True for pairs of kind and colour that training never sees, None for any.
        kinds: of which the product is one.
    """
    kind, colour = random.choice(kinds), random.choice(COLOURS)
    while held_out is not None and _held_out(kind, colour) != held_out:
        kind, colour = random.choice(kinds), random.choice(COLOURS)
    product = PRODUCTS[kind]
    size = random.choices(SIZES, (1, 2, 2))[0]
    # A large product fills a square or upright picture: there is no left or right to put it.
    roomy = size != "large" or width > 1.3 * height
    return Scene(
        kind=kind,
        colour=colour,
        material=random.choice(product.materials),
        pattern=random.choice(PATTERNS[1:]) if product.patterned and random.random() < 0.4 else PATTERNS[0],
        background=random.choices(BACKGROUNDS, (5, *(1 for _ in BACKGROUNDS[1:])))[0],
        size=size,
        position=random.choices(POSITIONS, (3, 10, 3))[0] if roomy else "centre",
        fault=random.choices(FAULTS, (85, 5, 5, 5))[0],
        width=width,
        height=height,
    )


_held_out = held_out  # `random_scene` has a parameter of that name


def draw(scene: Scene, random: Random) -> Drawing:
    """Draw a scene. The same scene and the same state of `random` give the same bytes.

    Raises:
        ValueError: if a side is not a multiple of 16 from 128 to 512.
    """
    return _drawn(scene, Chances(*(random for _ in fields(Chances))), scene, UNALTERED)


def draw_alike(
    scenes: Sequence[Scene], random: Random, alterations: Sequence[Alteration] | None = None
) -> list[Drawing]:
    """Draw one product in several scenes: where they say the same, the drawings are the same.

    It has the same proportions and stands in the same place, in the same light, whatever its background, its colour or
    its pattern. Scenes of different kinds share the place and the light. Another pattern than the first scene's has the
    ordinary repeat: nobody who asks for stripes says how wide.

    Args:
        scenes: what to draw; the first one decides where the product stands, and which pattern is its own.
        random: where all drawings take their random numbers from.
        alterations: of each drawing.

    Raises:
        ValueError: as `draw`.
    """
    seeds = [random.getrandbits(64) for _ in fields(Chances)]
    return [
        _drawn(scene, Chances(*map(Random, seeds)), scenes[0], alteration)
        for scene, alteration in zip(scenes, alterations or [UNALTERED] * len(scenes), strict=True)
    ]


def _drawn(scene: Scene, chances: Chances, placed: Scene, alteration: Alteration) -> Drawing:
    """Draw a scene with its product where that of `placed` stands; another pattern than its has the ordinary repeat."""
    if any(side % 16 or not 128 <= side <= 512 for side in (scene.width, scene.height)):
        raise ValueError(f"Cannot draw {scene.width}x{scene.height}: sides are multiples of 16 from 128 to 512.")
    product = PRODUCTS[scene.kind]
    span = SPANS[scene.size] * min(scene.width, scene.height) * chances.shapes.uniform(0.97, 1.03)
    shapes = _turned(product.shapes(chances.shapes), product, span, chances.shapes)
    colour = _jittered(alteration.pigment or PIGMENTS[scene.colour], chances.colour)
    rgba, surface = _rasterised(_stretched(shapes, alteration.stretch), colour)
    rgb = shade(
        rgba[..., :3].astype(np.float32),
        surface,
        colour,
        scene.material,
        scene.pattern,
        span,
        chances.light,
        chances.pattern if scene.pattern == placed.pattern else None,
    )
    if alteration.label:
        _print_label(rgb, surface, alteration.label, span)
    rows, columns = surface.shape
    left, top = _corner(placed, columns, rows, chances.place)
    left = min(max(left + alteration.shift[0], 0), scene.width - columns)
    top = min(max(top + alteration.shift[1], 0), scene.height - rows)

    layer = np.zeros((scene.height, scene.width, 4), np.uint8)
    layer[top : top + rows, left : left + columns, :3] = rgb + 0.5
    layer[top : top + rows, left : left + columns, 3] = rgba[..., 3]
    ground = background(scene.background, scene.width, scene.height, top + rows - 1, chances.ground)
    ground *= shadow(rgba[..., 3], left, top, scene.width, scene.height)
    below = np.clip(ground + 0.5, 0, 255).astype(np.uint8)
    above = overlay(scene.fault, scene.width, scene.height, scene.colour, chances.overlay)
    picture = _over(below, layer)
    if scene.fault != "none":
        picture = _over(picture, above)
    return Drawing(picture, layer, below, above)


def _turned(shapes: list[DrawnShape], product: Product, span: float, random: Random) -> list[DrawnShape]:
    """Mirror, tilt and scale shapes to pixels, so that the longer side of their bounds is `span`, from (0, 0)."""
    angle = math.radians(random.uniform(-product.tilt, product.tilt))
    mirror = random.choice((-1.0, 1.0))
    turn = np.array([[mirror * math.cos(angle), mirror * math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    turned = [np.asarray(shape.points) @ turn for shape in shapes]
    every = np.concatenate(turned)
    low, high = every.min(axis=0), every.max(axis=0)
    scale = span / (high - low).max()
    return [
        DrawnShape(tuple((float(x), float(y)) for x, y in (points - low) * scale), shape.paint)
        for shape, points in zip(shapes, turned, strict=True)
    ]


def _stretched(shapes: list[DrawnShape], stretch: tuple[float, float]) -> list[DrawnShape]:
    """Make shapes wider or higher."""
    if stretch == UNALTERED.stretch:
        return shapes
    across, down = stretch
    return [DrawnShape(tuple((x * across, y * down) for x, y in shape.points), shape.paint) for shape in shapes]


def _print_label(rgb: Field, surface: Field, text: str, span: float) -> None:
    """Print a label on the middle of a product's surface, into its colours [rows, columns, 3]."""
    rows, columns = np.nonzero(surface > 0.5)
    if not len(rows):
        return
    width, height = round(0.42 * span), round(0.15 * span)
    label = Image.new("RGB", (width, height), (250, 250, 246))
    write(label, text, 0.7 * height, (24, 24, 28))
    sheet = Image.fromarray(rgb.astype(np.uint8))
    sheet.paste(label, (round(float(np.median(columns))) - width // 2, round(float(np.median(rows))) - height // 2))
    rgb[:] = np.asarray(sheet)


def _jittered(colour: RGB, random: Random) -> RGB:
    shift = random.randint(-7, 7)
    red, green, blue = (min(255, max(0, channel + shift + random.randint(-2, 2))) for channel in colour)
    return red, green, blue


def _rasterised(shapes: list[DrawnShape], colour: RGB) -> tuple[NDArray[np.uint8], Field]:
    """Draw shapes given in pixels: flat RGBA [rows, columns, 4] and where they are surface, 0 to 1 [rows, columns]."""
    every = np.concatenate([np.asarray(shape.points) for shape in shapes])
    reach = every.max(axis=0)
    edge = max(1.0, 0.011 * float(reach.max()))
    columns, rows = (math.ceil(side + edge) + 1 for side in reach)
    size = (columns * SUPERSAMPLING, rows * SUPERSAMPLING)
    image, surface = Image.new("RGBA", size, (0, 0, 0, 0)), Image.new("L", size, 0)
    paint, mask = ImageDraw.Draw(image), ImageDraw.Draw(surface)
    width = round(edge * SUPERSAMPLING)
    for shape in shapes:
        points = [((x + edge / 2) * SUPERSAMPLING, (y + edge / 2) * SUPERSAMPLING) for x, y in shape.points]
        fill = toned(colour, shape.paint) if isinstance(shape.paint, float) else shape.paint
        paint.polygon(points, fill=(*fill, 255))
        paint.line([*points, points[0], points[1]], fill=(*toned(fill, -0.42), 255), width=width)
        mask.polygon(points, fill=255 if shape.is_surface else 0)
    rgba = np.asarray(image.reduce(SUPERSAMPLING))
    return rgba, np.asarray(surface.reduce(SUPERSAMPLING), np.float32) / 255


def _corner(scene: Scene, columns: int, rows: int, random: Random) -> tuple[int, int]:
    """Where the product's upper left corner lies: near its position, never over the margin."""
    margin = math.ceil(MARGIN * min(scene.width, scene.height))
    x = (CENTRES[scene.position] + random.uniform(-0.02, 0.02)) * scene.width - columns / 2
    middle = 0.5 if scene.background in PLAIN else 0.54
    y = (middle + random.uniform(-0.02, 0.02)) * scene.height - rows / 2
    left = min(max(round(x), margin), scene.width - margin - columns)
    top = min(max(round(y), margin), scene.height - margin - rows)
    return left, top


def _over(below: NDArray[np.uint8], layer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay an RGBA layer over a picture."""
    cover = layer[..., 3:].astype(np.float32) / 255
    mixed = below * (1 - cover) + layer[..., :3] * cover
    return (mixed + 0.5).astype(np.uint8)
