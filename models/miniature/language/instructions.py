"""How people ask for an edit: instructions in English and Chinese, in many wordings.

The templates of the split "test" are wordings that training never sees.
"""

from random import Random

from models.miniature.language.captions import PREPOSITIONS, Split, cased
from models.miniature.language.names import (
    ANYTHING,
    BACKGROUND_NAMES,
    COLOUR_NAMES,
    FAULT_NAMES,
    KIND_NAMES,
    PATTERN_NAMES,
    Language,
    with_article,
)
from models.miniature.world.edits import Edit
from models.miniature.world.scenery import border_colour

# Fields: kind, old (the colour before), new and a_new (what is asked for, with an article), on (its preposition).
TEMPLATES: dict[str, dict[Language, dict[Split, tuple[str, ...]]]] = {
    "background": {
        "en": {
            "train": (
                "replace the background with {a_new}",
                "change the background to {a_new}",
                "change the background to {new}",
                "swap the backdrop for {a_new}",
                "put it {on} {a_new}",
                "put the {kind} {on} {a_new}",
                "place the {kind} {on} {a_new}",
                "show the {kind} {on} {a_new}",
                "set this {kind} {on} {a_new}",
                "use {a_new}",
                "background: {new}",
                "new background: {new}",
                "{new}",
                "{new}, please",
                "make the background {a_new}",
                "i want {a_new} behind the {kind}",
                "new scene: {new}",
                "remove the background and use {a_new}",
            ),
            "test": (
                "could you move the {kind} {on} {a_new}?",
                "we need the same {kind} {on} {a_new}",
                "let the {kind} stand {on} {a_new}",
                "{a_new} would be better for this {kind}",
                "what is behind the {kind} should become {a_new}",
            ),
        },
        "zh": {
            "train": (
                "把背景换成{new}",
                "背景改为{new}",
                "背景换成{new}",
                "将背景替换为{new}",
                "换背景：{new}",
                "场景换成{new}",
                "请把背景改成{new}",
                "把{kind}放在{new}上",
                "将{kind}置于{new}",
                "{new}",
                "用{new}",
                "背景：{new}",
                "给{kind}换{new}",
            ),
            "test": ("希望背景是{new}", "{kind}的背景请用{new}", "原来的背景不要，改用{new}", "这件{kind}需要{new}"),
        },
    },
    "colour": {
        "en": {
            "train": (
                "make the {kind} {new}",
                "make it {new}",
                "change the colour to {new}",
                "change the color of the {kind} to {new}",
                "recolour the {kind} in {new}",
                "recolor it to {new}",
                "turn the {kind} {new}",
                "turn the {old} {kind} into {a_new} one",
                "change the {kind} from {old} to {new}",
                "paint the {kind} {new}",
                "colour: {new}",
                "the same {kind} in {new}",
                "the {kind} in {new}, please",
                "replace {old} with {new}",
                "dye it {new}",
                "{new} instead of {old}",
            ),
            "test": (
                "the {kind} should be {new} instead",
                "i would like this {kind} in {new}",
                "give the {kind} {a_new} color",
                "please show {a_new} version of the {kind}",
                "could the {kind} become {new}?",
            ),
        },
        "zh": {
            "train": (
                "把{kind}改成{new}",
                "颜色换成{new}",
                "将{kind}的颜色改为{new}",
                "把颜色改成{new}",
                "{kind}变成{new}",
                "把{old}的{kind}换成{new}",
                "换成{new}的",
                "改色：{new}",
                "颜色：{new}",
                "同款{kind}，{new}",
                "{old}换{new}",
            ),
            "test": ("我想要{new}的{kind}", "请给{kind}换上{new}", "{kind}的颜色应该是{new}", "能否让{kind}变为{new}"),
        },
    },
    "pattern": {
        "en": {
            "train": (
                "make the {kind} {new}",
                "make it {new}",
                "turn it into {a_new} {kind}",
                "turn the {kind} into {a_new} one",
                "change the pattern to {new}",
                "give the {kind} {a_new} pattern",
                "give it {a_new} look",
                "pattern: {new}",
                "the same {kind}, but {new}",
                "a {new} design for the {kind}",
            ),
            "test": (
                "the {kind} should be {new} instead",
                "i would like this {kind} to be {new}",
                "please show {a_new} version of the {kind}",
                "could the {kind} become {new}?",
            ),
        },
        "zh": {
            "train": (
                "把{kind}改成{new}",
                "图案换成{new}",
                "把图案改为{new}",
                "{kind}换成{new}的",
                "将{kind}做成{new}款式",
                "图案：{new}",
                "同款{kind}，{new}",
            ),
            "test": ("希望{kind}是{new}的", "{kind}请用{new}花样", "我想要{new}的{kind}"),
        },
    },
    "fault": {
        "en": {
            "train": (
                "remove the {new}",
                "remove the {new} from the picture",
                "delete the {new}",
                "get rid of the {new}",
                "take the {new} away",
                "erase the {new}",
                "no {new}",
                "clean the photo: no {new}",
                "remove {a_new}",
                "without the {new}",
                "cut out the {new}, keep the {kind}",
            ),
            "test": (
                "there should be no {new} on this photo",
                "could you wipe the {new} off?",
                "please show the {kind} without {a_new}",
                "the {new} has to go",
            ),
        },
        "zh": {
            "train": (
                "去掉{new}",
                "删除{new}",
                "移除图片上的{new}",
                "清除{new}",
                "不要{new}",
                "把{new}去掉",
                "请去除{new}",
                "去{new}",
                "无{new}",
            ),
            "test": ("请擦掉画面里的{new}", "图上的{new}不需要", "这张{kind}图不该有{new}"),
        },
    },
}
NAMES = {"background": BACKGROUND_NAMES, "colour": COLOUR_NAMES, "pattern": PATTERN_NAMES, "fault": FAULT_NAMES}
JOINTS: dict[Language, tuple[str, ...]] = {
    "en": (" and ", ", ", ", and ", "; ", ". ", ", then "),
    "zh": ("，", "，并", "，再", "；", "，然后"),
}
KEEPING: dict[Language, dict[Split, tuple[str, ...]]] = {
    "en": {
        "train": (
            "keep everything else the same",
            "keep the product as it is",
            "don't change anything else",
            "leave the rest alone",
            "same position, same light",
        ),
        "test": ("all the rest stays", "nothing else may change"),
    },
    "zh": {
        "train": ("其他保持不变", "保持商品不变", "其余不变", "不要改动其他部分", "位置和光线不变"),
        "test": ("别的都不动", "其他地方维持原样"),
    },
}


def instruction(edit: Edit, random: Random, *, language: Language, split: Split = "train") -> str:
    """Ask for an edit, as a shop might."""
    kind = random.choice(ANYTHING[language] if random.random() < 0.15 else KIND_NAMES[edit.source.kind][language])
    parts = [_part(edit, attribute, kind, random, language, split) for attribute in edit.asked]
    random.shuffle(parts)
    text = parts[0]
    for part in parts[1:]:
        text = text.rstrip("?") + random.choice(JOINTS[language]) + part
    if random.random() < 0.25:
        text = text.rstrip("?") + (", " if language == "en" else "，") + random.choice(KEEPING[language][split])
    return cased(text, random, language)


def _part(edit: Edit, attribute: str, kind: str, random: Random, language: Language, split: Split) -> str:
    named = edit.source if attribute == "fault" else edit.target  # a fault is called by its name to be removed
    new = random.choice(NAMES[attribute][getattr(named, attribute)][language])
    new = new.format(colour=COLOUR_NAMES[border_colour(edit.source.colour)][language][0])
    return random.choice(TEMPLATES[attribute][language][split]).format(
        kind=kind,
        old=random.choice(COLOUR_NAMES[edit.source.colour][language]),
        new=new,
        a_new=with_article(new) if language == "en" else new,
        on=PREPOSITIONS.get(edit.target.background, random.choice(("on", "against", "in front of"))),
    )
