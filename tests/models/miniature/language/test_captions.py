"""Captions say what their scenes are, in word orders of which the test's are never trained on."""

import re
from dataclasses import replace
from random import Random

import pytest

from models.miniature.language import captions
from models.miniature.language.captions import TEMPLATES, all_words, caption
from models.miniature.language.clauses import EMPTY_WORDS, composed
from models.miniature.language.names import (
    BACKGROUND_NAMES,
    COLOUR_NAMES,
    FAULT_NAMES,
    KIND_NAMES,
    MATERIAL_NAMES,
    PATTERN_NAMES,
    POSITION_NAMES,
    SIZE_NAMES,
    Language,
    Names,
    Wording,
)
from models.miniature.world.scenery import border_colour
from models.miniature.world.world import (
    BACKGROUNDS,
    COLOURS,
    FAULTS,
    KINDS,
    MATERIALS,
    PATTERNS,
    POSITIONS,
    SIZES,
    Scene,
    random_scene,
)

LANGUAGES: tuple[Language, ...] = ("en", "zh")
NAMES = (
    KIND_NAMES,
    COLOUR_NAMES,
    MATERIAL_NAMES,
    PATTERN_NAMES,
    BACKGROUND_NAMES,
    SIZE_NAMES,
    POSITION_NAMES,
    FAULT_NAMES,
)
SAID: dict[Language, Wording] = {
    "en": Wording("teapot", "teal", "steel", "striped", "meadow", "tiny", "to the left", "watermark", "on"),
    "zh": Wording("茶壶", "青色", "不锈钢", "条纹", "草地", "迷你", "居左", "水印", "on"),
}


def scenes(count: int, seed: int = 0) -> list[Scene]:
    random = Random(seed)
    return [random_scene(random, held_out=None) for _ in range(count)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_clauses_say_everything_in_any_order_among_any_words(language: Language) -> None:
    random, orders = Random(7), set()
    said = SAID[language]
    texts = (said.kind, said.colour, said.material, said.pattern, said.background, said.size, said.position, said.fault)
    made = [composed(said, random, language) for _ in range(400)]
    for text in made:
        assert all(each in text for each in texts), text
        orders.add(tuple(sorted(texts, key=text.index)))
    assert len(set(made)) == len(made)
    assert len(orders) > 200


def test_empty_words_are_part_of_no_name_and_of_no_test_template() -> None:
    names = " ".join(name for table in NAMES for each in table.values() for name in each["en"]).lower()
    templates = re.sub(r"{.*?}", " ", " ".join(TEMPLATES["en"]["test"]))
    assert not set(EMPTY_WORDS["en"]) & set(re.findall(r"[a-z]+", f"{names} {templates}"))
    names = " ".join(name for table in NAMES for each in table.values() for name in each["zh"])
    assert not [word for word in EMPTY_WORDS["zh"] if word in names + "".join(TEMPLATES["zh"]["test"])]


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


def test_all_words_cover_what_templates_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "COMPOSED", 0)
    monkeypatch.setattr(captions, "empty_sentence", lambda *_: "")
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
