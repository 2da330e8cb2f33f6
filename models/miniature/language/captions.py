"""What people write about a scene: captions in English and Chinese, in many word orders.

Templates give the order of the words; of the split "train", four of ten captions are put together from clauses instead
(`models.miniature.language.clauses`). The templates of the split "test" are word orders that training never sees.
"""

from random import Random
from string import Formatter
from typing import Literal

from models.miniature.language.clauses import composed, empty_sentence
from models.miniature.language.names import (
    ANYTHING,
    BACKGROUND_NAMES,
    COLOUR_NAMES,
    FAULT_NAMES,
    FILLERS,
    KIND_NAMES,
    MATERIAL_NAMES,
    PATTERN_NAMES,
    POSITION_NAMES,
    PROSE,
    SHOTS,
    SIZE_NAMES,
    Language,
    Names,
    Wording,
    with_article,
)
from models.miniature.world.scenery import border_colour
from models.miniature.world.world import Scene

Split = Literal["train", "test"]

# Fields: thing (all named attributes and the kind), a_thing (with its article), a_kind, kind, colour, shot, filler,
# scene ("on a white background, in the middle"), background, position, tail (", white background, in the middle").
TEMPLATES: dict[Language, dict[Split, tuple[str, ...]]] = {
    "en": {
        "train": (
            "{a_thing}{scene}",
            "{a_thing}{scene}",
            "{shot} of {a_thing}{scene}",
            "{shot} of {a_thing}{tail}",
            "{thing}{tail}",
            "{thing}{tail}",
            "{thing}{tail}, {shot}",
            "{a_thing}, {filler}{tail}",
            "{kind} in {colour}{looks}{tail}",
            "{shot} of {a_kind} in {colour}{looks}{scene}",
            "{shot}, {a_thing}{scene}",
            "there is {a_thing}{scene}",
            "this {kind} is {colour}{looks}{tail}",
            "{titled}",
            "{listed}",
            "{kind}: {colour}{looks}{tail}",
            "the {kind} has a {colour} color{looks}{tail}",
            "show me {a_thing}{scene}",
            "{shot} showing {a_thing}{tail}, {filler}",
            "product: {kind}; colour: {colour}{fields}",
            "{filler} {thing}{scene}",
        ),
        "test": (
            "{placed}{thing}, {shot}",
            "{staged} stands {a_thing}",
            "{colour} is the colour of this {kind}{looks}{tail}",
            "{a_kind}{scene}, coloured {colour}{looks}",
            "what you see: {colour}{looks}, namely {a_kind}{tail}",
            "{placed}{a_kind} that is {colour}{looks}",
        ),
    },
    "zh": {
        "train": (
            "{thing}{tail}",
            "{thing}{tail}",
            "一件{thing}{tail}",
            "{shot}：{thing}{tail}",
            "{thing}{tail}，{shot}",
            "{filler}{thing}{tail}",
            "{kind}（{colour}）{looks}{tail}",
            "这款{kind}是{colour}的{looks}{tail}",
            "{shot}，{thing}{tail}，{filler}",
            "【主体】{thing}{boxes}",
            "【主体】{thing}【颜色】{colour}{boxes}",
            "【主体】{kind}【颜色】{colour}{looks}{boxes}",
            "{titled}",
            "{listed}",
            "一张{thing}的{shot}{tail}",
            "{kind}，{colour}{looks}{tail}",
        ),
        "test": (
            "{placed}{thing}，{shot}",
            "{staged}摆放着一件{thing}",
            "颜色为{colour}的{kind}{looks}{tail}",
            "{placed}这里有{kind}，它的颜色是{colour}{looks}",
            "图中商品颜色{colour}{looks}，品类{kind}{tail}",
        ),
    },
}
COMPOSED = 0.4  # of the captions of the split "train"
TITLE_MARKS = (" – ", " | ", " / ", " - ", " · ")
PREPOSITIONS = {"room": "in", "grass": "on", "shelf": "on", "table": "on"}
BOX_LABELS = {"background": "场景", "position": "构图", "size": "尺寸", "fault": "附加", "filler": "风格"}


def caption(scene: Scene, random: Random, *, language: Language, split: Split = "train") -> str:
    """Describe a scene as a shop might.

    A fault is always named, so that pictures stay free of faults nobody asked for. In the split "train" other
    attributes are left out at random, the colour in 5 % and the kind in 1 %; in "test" kind, colour and background
    always stand, in word orders that "train" never uses.
    """
    words = _worded(scene, random, language, split)
    if split == "train" and random.random() < COMPOSED:
        text = composed(words, random, language)
        return _long(text, random, language) if random.random() < 0.1 else cased(text, random, language)
    fields = _fields(words, random, language)
    templates = [text for text in TEMPLATES[language][split] if words.colour or "{colour}" not in text]
    text = random.choice(templates).format(**fields)
    if random.random() < 0.25:
        mark = ", " if language == "en" else "，"
        text += mark + mark.join(random.sample(FILLERS[language], random.randint(1, 4)))
    if random.random() < 0.05:
        return _long(text, random, language)
    return cased(text, random, language)


def _worded(scene: Scene, random: Random, language: Language, split: Split) -> Wording:
    sure = split == "test"

    def name(table: Names, key: str, chance: float) -> str:
        return random.choice(table[key][language]) if random.random() < chance else ""

    fault = name(FAULT_NAMES, scene.fault, 1) if scene.fault != "none" else ""
    return Wording(
        kind=name(KIND_NAMES, scene.kind, 1 if sure else 0.99) or random.choice(ANYTHING[language]),
        colour=name(COLOUR_NAMES, scene.colour, 1 if sure else 0.95),
        material=name(MATERIAL_NAMES, scene.material, 0.15 if scene.material == "plain" else 0.6),
        pattern=name(PATTERN_NAMES, scene.pattern, 0.1 if scene.pattern == "plain" else 0.8),
        background=name(BACKGROUND_NAMES, scene.background, 1 if sure else 0.75),
        size=name(SIZE_NAMES, scene.size, 0.35 if scene.size == "medium" else 0.65),
        position=name(POSITION_NAMES, scene.position, 0.45 if scene.position == "centre" else 0.85),
        fault=fault.format(colour=COLOUR_NAMES[border_colour(scene.colour)][language][0]),
        preposition=PREPOSITIONS.get(scene.background, random.choice(("on", "against", "in front of"))),
    )


def _fields(words: Wording, random: Random, language: Language) -> dict[str, str]:
    """Fill every field that a template can ask for."""
    compose = _english if language == "en" else _chinese
    return {
        "kind": words.kind,
        "colour": words.colour,
        "shot": random.choice(SHOTS[language]),
        "filler": random.choice(FILLERS[language]),
        **compose(words, random),
    }


def _english(words: Wording, random: Random) -> dict[str, str]:
    adjectives = [words.size, words.pattern, words.colour, words.material]
    if random.random() < 0.3:
        random.shuffle(adjectives)
    thing = " ".join([word for word in adjectives if word] + [words.kind])
    staged = f"{words.preposition} {with_article(words.background)}" if words.background else "here"
    fault = f"with {with_article(words.fault)}" if words.fault else ""
    scene = [staged if words.background else "", words.position, fault]
    tail = [words.background, words.position, fault]
    if random.random() < 0.5:
        scene[:2] = scene[1::-1]
        tail[:2] = tail[1::-1]
    looks = [words.pattern, words.material, words.size]
    random.shuffle(looks)
    labelled = {"background": words.background, "position": words.position, "size": words.size, "fault": words.fault}
    attributes = [words.colour, words.material, words.pattern, words.size, *tail]
    random.shuffle(attributes)
    # Every list starts with what is sold: lists that start with the scene are word orders of the split "test".
    return {
        "thing": thing,
        "a_thing": with_article(thing),
        "a_kind": with_article(words.kind),
        "scene": _after(" ", scene[:1]) + _after(", " if random.random() < 0.5 else " ", scene[1:]),
        "tail": _after(", ", tail),
        "looks": _after(", ", looks),
        "titled": words.kind + _after(random.choice(TITLE_MARKS), attributes),
        "listed": words.kind + _after(", ", attributes),
        "fields": _after("; ", [f"{label}: {text}" for label, text in labelled.items() if text]),
        "placed": "".join(f"{text}, " for text in tail if text),
        "staged": " ".join(text for text in (staged, words.position, fault) if text),
    }


def _chinese(words: Wording, random: Random) -> dict[str, str]:
    adjectives = [words.size, words.colour, words.pattern, words.material]
    if random.random() < 0.3:
        random.shuffle(adjectives)
    thing = "".join(adjectives) + words.kind
    fault = f"带{words.fault}" if words.fault else ""
    tail = [words.background, words.position, fault]
    random.shuffle(tail)
    looks = [words.pattern, words.material, words.size]
    random.shuffle(looks)
    labelled = {
        "background": words.background,
        "position": words.position,
        "size": words.size,
        "fault": fault,
        "filler": random.choice(FILLERS["zh"]) if random.random() < 0.3 else "",
    }
    attributes = [words.colour, words.material, words.pattern, words.size, *tail]
    random.shuffle(attributes)
    return {
        "thing": thing,
        "tail": _after("，", tail),
        "looks": _after("，", looks),
        "titled": words.kind + _after(random.choice(TITLE_MARKS), attributes),
        "listed": words.kind + _after("，", attributes),
        "boxes": "".join(f"【{BOX_LABELS[label]}】{text}" for label, text in labelled.items() if text),
        "placed": "".join(f"{text}，" for text in tail if text),
        "staged": f"在{words.background}前" + "".join(f"{text}，" for text in (words.position, fault) if text)
        if words.background
        else "画面里" + "".join(f"{text}，" for text in (words.position, fault) if text),
    }


def _after(mark: str, texts: list[str]) -> str:
    """Every text that isn't empty, each after a mark."""
    return "".join(mark + text for text in texts if text)


def cased(text: str, random: Random, language: Language) -> str:
    if language == "zh":
        return text + random.choice(("", "", "。"))
    choice = random.random()
    if choice < 0.5:
        return text
    if choice < 0.8:
        return text[0].upper() + text[1:] + random.choice(("", "."))
    return text.title() if choice < 0.95 else text.upper()


def _long(text: str, random: Random, language: Language) -> str:
    """Hide a caption somewhere among several sentences: a shop's prose, or words that say nothing."""
    sentences = random.sample(PROSE[language], random.randint(2, 6))
    sentences = [empty_sentence(random, language) if random.random() < 0.3 else each for each in sentences]
    sentence = f"{text[0].upper()}{text[1:]}." if language == "en" else f"{text}。"
    sentences.insert(random.randint(0, len(sentences)), sentence)
    return (" " if language == "en" else "").join(sentences)


def all_words() -> list[str]:
    """Return every phrase that a caption can use, each once, in a stable order: names, filler, and what
    templates say.
    """
    tables = (KIND_NAMES, COLOUR_NAMES, MATERIAL_NAMES, PATTERN_NAMES, BACKGROUND_NAMES, SIZE_NAMES, POSITION_NAMES)
    phrases = [name for table in tables for names in table.values() for each in names.values() for name in each]
    for names in FAULT_NAMES.values():
        for language, each in names.items():
            colours = (COLOUR_NAMES[colour][language][0] for colour in ("red", "blue"))
            phrases += [name.format(colour=colour) for colour in colours for name in each]
    for fixed in (ANYTHING, SHOTS, FILLERS, PROSE):
        phrases += [phrase for each in fixed.values() for phrase in each]
    for template in (text for splits in TEMPLATES.values() for each in splits.values() for text in each):
        phrases += [said for said, *_ in Formatter().parse(template)]
    phrases += ["a pair of", "an", "with a", "here", "on", "in", "against", "in front of", "background:", "position:"]
    phrases += ["size:", "fault:", "画面里", "在", "前", "带", *(f"【{label}】" for label in BOX_LABELS.values())]
    return list(dict.fromkeys(phrase.strip() for phrase in phrases if phrase.strip()))
