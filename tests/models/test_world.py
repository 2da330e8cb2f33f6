"""The drawn catalogue: its pictures are what its scenes say, and its captions say what its pictures are."""

import re
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray

from models.miniature.captions import (
    BACKGROUND_NAMES,
    COLOUR_NAMES,
    FAULT_NAMES,
    KIND_NAMES,
    MATERIAL_NAMES,
    PATTERN_NAMES,
    POSITION_NAMES,
    SIZE_NAMES,
    TEMPLATES,
    Language,
    Names,
    all_words,
    caption,
)
from models.miniature.scenery import border_colour
from models.miniature.world import (
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
LANGUAGES: tuple[Language, ...] = ("en", "zh")


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


def test_every_value_of_a_scene_has_names_in_both_languages() -> None:
    tables: tuple[tuple[Names, tuple[str, ...]], ...] = (
        (KIND_NAMES, KINDS),
        (COLOUR_NAMES, COLOURS),
        (MATERIAL_NAMES, MATERIALS),
        (PATTERN_NAMES, PATTERNS),
        (BACKGROUND_NAMES, BACKGROUNDS),
        (SIZE_NAMES, SIZES),
        (POSITION_NAMES, POSITIONS),
        (FAULT_NAMES, FAULTS[1:]),
    )
    for table, values in tables:
        assert tuple(table) == values
        assert all(names["en"] and names["zh"] for names in table.values())


def test_no_name_means_two_kinds_or_two_colours() -> None:
    for table in (KIND_NAMES, COLOUR_NAMES):
        for language in LANGUAGES:
            names = [name for each in table.values() for name in each[language]]
            assert len(names) == len(set(names))


@pytest.mark.parametrize("language", LANGUAGES)
def test_test_captions_always_name_kind_and_colour(language: Language) -> None:
    random = Random(1)
    for scene in scenes(600, seed=1):
        said = caption(scene, random, language=language, split="test").lower()
        assert any(name.lower() in said for name in KIND_NAMES[scene.kind][language]), said
        assert any(name.lower() in said for name in COLOUR_NAMES[scene.colour][language]), said


@pytest.mark.parametrize("language", LANGUAGES)
def test_train_captions_nearly_always_name_the_kind_and_the_colour(language: Language) -> None:
    random = Random(2)
    drawn = scenes(1500, seed=2)
    said = [caption(scene, random, language=language).lower() for scene in drawn]
    kinds = colours = 0
    for scene, text in zip(drawn, said, strict=True):
        kinds += any(name.lower() in text for name in KIND_NAMES[scene.kind][language])
        colours += any(name.lower() in text for name in COLOUR_NAMES[scene.colour][language])
    assert kinds / len(drawn) > 0.97
    assert 0.91 < colours / len(drawn) < 0.99


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("fault", FAULTS[1:])
def test_a_fault_is_always_named(language: Language, fault: str) -> None:
    random = Random(3)
    for scene in (replace(scene, fault=fault) for scene in scenes(100)):
        colour = COLOUR_NAMES[border_colour(scene.colour)][language][0]
        names = [name.format(colour=colour) for name in FAULT_NAMES[fault][language]]
        said = caption(scene, random, language=language).lower()
        assert any(name.lower() in said for name in names), said


@pytest.mark.parametrize("language", LANGUAGES)
def test_test_captions_use_word_orders_that_training_never_uses(language: Language) -> None:
    assert not set(TEMPLATES[language]["train"]) & set(TEMPLATES[language]["test"])
    random = Random(4)
    drawn = scenes(3000, seed=4)
    train = {_order(caption(scene, random, language=language), scene, language) for scene in drawn}
    test = {_order(caption(scene, random, language=language, split="test"), scene, language) for scene in drawn}
    assert len(train) > 300
    assert not train & test


def _order(text: str, scene: Scene, language: Language) -> str:
    """A caption with its names replaced by what they name, so that only the order of the words is left."""
    named = {
        "KIND": KIND_NAMES[scene.kind],
        "COLOUR": COLOUR_NAMES[scene.colour],
        "MATERIAL": MATERIAL_NAMES[scene.material],
        "PATTERN": PATTERN_NAMES[scene.pattern],
        "BACKGROUND": BACKGROUND_NAMES[scene.background],
        "SIZE": SIZE_NAMES[scene.size],
        "POSITION": POSITION_NAMES[scene.position],
    }
    phrases = [(name, label) for label, names in named.items() for name in names[language]]
    order = text.lower()
    for name, label in sorted(phrases, key=lambda phrase: -len(phrase[0])):
        order = re.sub(re.escape(name.lower()), f"<{label}>", order)
    return order.rstrip(".。")


def test_some_captions_are_long() -> None:
    random = Random(5)
    lengths = [len(caption(scene, random, language="en").split()) for scene in scenes(1000, seed=5)]
    assert 0.01 < sum(length > 50 for length in lengths) / len(lengths) < 0.1
    assert max(lengths) < 140


def test_all_words_cover_what_captions_say() -> None:
    phrases = all_words()
    assert len(phrases) == len(set(phrases))
    known = set(re.findall(r"[a-z0-9]+", " ".join(phrases).lower())) | {"a"}
    letters = set("".join(phrases))
    random = Random(6)
    for scene in scenes(800, seed=6):
        english = caption(scene, random, language="en")
        assert set(re.findall(r"[a-z0-9]+", english.lower())) <= known, english
        chinese = caption(scene, random, language="zh")
        assert {letter for letter in chinese if letter > "㐀"} <= letters | set("，。：；（）｜"), chinese
