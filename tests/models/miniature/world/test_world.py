"""The drawn catalogue: its pictures are what its scenes say, and its captions say what its pictures are."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray

from models.miniature.world.world import (
    BACKGROUNDS,
    COLOURS,
    FAULTS,
    FORBIDDEN,
    KINDS,
    MATERIALS,
    PATTERNS,
    PIGMENTS,
    POSITIONS,
    SIZES,
    SPANS,
    Scene,
    draw,
    held_out,
    random_scene,
)

PLAIN_MUG = Scene("mug", "red", "plain", "plain", "white", "medium", "centre", "none")
# Kinds that are mostly their own colour; a knife is mostly blade, whatever the colour of its handle.
BROAD = (
    "mug",
    "t-shirt",
    "handbag",
    "lamp",
    "phone",
    "backpack",
    "vase",
    "teapot",
    "dress",
    "trousers",
    "sofa",
    "boot",
)


def scenes(count: int, seed: int = 0) -> list[Scene]:
    random = Random(seed)
    return [random_scene(random, held_out=None) for _ in range(count)]


def over(below: NDArray[np.uint8], layer: NDArray[np.uint8]) -> NDArray[np.float64]:
    cover = layer[..., 3:] / 255
    return below * (1 - cover) + layer[..., :3] * cover


def extent(alpha: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    rows, columns = (np.flatnonzero((alpha > 64).any(axis=axis)) for axis in (1, 0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def oklab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Perceived colour (Björn Ottosson, 2020) of sRGB 0 to 255, [..., 3]."""
    to_cones = np.array([[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6299]])
    to_lab = np.array([[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]])
    lab: NDArray[np.float64] = np.cbrt((rgb / 255) ** 2.2 @ to_cones.T) @ to_lab.T
    return lab


def test_there_are_enough_products_and_every_forbidden_thing_is_a_kind() -> None:
    assert len(set(KINDS)) == len(KINDS)
    assert len(KINDS) - len(FORBIDDEN) >= 28
    assert len(FORBIDDEN) == 7
    assert KINDS[-7:] == FORBIDDEN
    assert len(COLOURS) == 12
    assert FAULTS[0] == "none"


def test_layers_compose_to_the_picture() -> None:
    for index, scene in enumerate(scenes(40)):
        drawing = draw(scene, Random(index))
        composed = over(np.rint(over(drawing.background, drawing.product)).astype(np.uint8), drawing.overlay)
        assert np.abs(composed - drawing.picture).max() <= 1, scene
        assert (drawing.overlay[..., 3].max() == 0) == (scene.fault == "none")


def test_the_same_scene_and_seed_give_the_same_bytes() -> None:
    for index, scene in enumerate(scenes(12)):
        one, two = draw(scene, Random(index)), draw(scene, Random(index))
        assert one.picture.tobytes() == two.picture.tobytes()
        assert one.product.tobytes() == two.product.tobytes()
    assert scenes(5, seed=1) == scenes(5, seed=1)
    assert draw(PLAIN_MUG, Random(1)).picture.tobytes() != draw(PLAIN_MUG, Random(2)).picture.tobytes()


def test_a_white_background_is_pure_white_along_the_border_for_every_kind() -> None:
    for index, kind in enumerate(KINDS):
        for size in ("small", "large"):
            drawing = draw(replace(PLAIN_MUG, kind=kind, size=size, position="left"), Random(index))
            for edge in (drawing.picture[:3], drawing.picture[-3:], drawing.picture[:, :3], drawing.picture[:, -3:]):
                assert (edge == 255).all(), (kind, size)


@pytest.mark.parametrize(("width", "height"), [(256, 256), (128, 256), (512, 256), (336, 208)])
def test_a_product_is_never_cropped_and_has_the_size_that_its_scene_says(width: int, height: int) -> None:
    for index, scene in enumerate(scenes(40, seed=width)):
        drawing = draw(replace(scene, width=width, height=height), Random(index))
        assert drawing.picture.shape == (height, width, 3)
        left, top, right, bottom = extent(drawing.product[..., 3])
        assert left > 0
        assert top > 0
        assert right < width
        assert bottom < height
        span = max(right - left, bottom - top) / min(width, height)
        assert span == pytest.approx(SPANS[scene.size], rel=0.1), scene


def test_left_centre_and_right_stand_in_that_order() -> None:
    middles = []
    for position in POSITIONS:
        left, _, right, _ = extent(draw(replace(PLAIN_MUG, position=position), Random(0)).product[..., 3])
        middles.append((left + right) / 2)
    assert middles[0] < 112 < middles[1] < 144 < middles[2]


@pytest.mark.parametrize("kind", BROAD)
def test_a_product_is_nearest_to_the_colour_that_names_it(kind: str) -> None:
    names, pigments = list(PIGMENTS), oklab(np.array(list(PIGMENTS.values()), np.float64))
    for index, colour in enumerate(COLOURS):
        product = draw(replace(PLAIN_MUG, kind=kind, colour=colour), Random(index)).product
        typical = np.median(product[product[..., 3] == 255][:, :3], axis=0)
        nearest = names[int(((oklab(typical) - pigments) ** 2).sum(axis=1).argmin())]
        assert nearest == colour


def test_a_product_stands_out_from_a_background_of_its_own_colour() -> None:
    for colour in ("white", "grey", "blue", "pink", "green"):
        for kind in BROAD:
            drawing = draw(replace(PLAIN_MUG, kind=kind, colour=colour, background=colour), Random(3))
            difference = np.abs(drawing.picture.astype(int) - drawing.background).max(axis=2)
            left, top, right, bottom = extent(drawing.product[..., 3])
            # Every row and column of the product has an edge that can be seen.
            assert (difference[top:bottom].max(axis=1) > 20).mean() > 0.95, (colour, kind)
            assert (difference[:, left:right].max(axis=0) > 20).mean() > 0.95, (colour, kind)


def test_a_scene_of_a_wrong_size_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 16"):
        draw(replace(PLAIN_MUG, width=250), Random(0))


def test_a_tenth_of_all_pairs_is_held_out_and_every_kind_and_colour_has_some() -> None:
    pairs = [(kind, colour) for kind in KINDS for colour in COLOURS if held_out(kind, colour)]
    assert 0.08 <= len(pairs) / (len(KINDS) * len(COLOURS)) <= 0.12
    assert {kind for kind, _ in pairs} == set(KINDS)
    assert {colour for _, colour in pairs} == set(COLOURS)


def test_random_scenes_keep_to_their_side_of_the_held_out_pairs() -> None:
    random = Random(0)
    for wanted in (True, False):
        drawn = [random_scene(random, held_out=wanted) for _ in range(300)]
        assert all(held_out(scene.kind, scene.colour) == wanted for scene in drawn)


def test_random_scenes_show_everything_that_can_be_shown() -> None:
    drawn = scenes(2000)
    assert {scene.kind for scene in drawn} == set(KINDS)
    assert {scene.colour for scene in drawn} == set(COLOURS)
    assert {scene.material for scene in drawn} == set(MATERIALS)
    assert {scene.pattern for scene in drawn} == set(PATTERNS)
    assert {scene.background for scene in drawn} == set(BACKGROUNDS)
    assert {scene.size for scene in drawn} == set(SIZES)
    assert {scene.position for scene in drawn} == set(POSITIONS)
    assert 0.8 < sum(scene.fault == "none" for scene in drawn) / len(drawn) < 0.9
