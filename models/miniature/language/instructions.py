"""How people ask for an edit: instructions in English and Chinese, in many wordings."""

import re
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
from models.miniature.language.wordings import CHATTER, FRAMES, JOINTS, KEEPING, OTHER, REFERRING, SYLLABLES, TEMPLATES
from models.miniature.world.edits import Edit
from models.miniature.world.scenery import border_colour

FRAMED = 0.3  # of the instructions that training sees
CHATTY = 0.5  # of what they ask for
KEPT: dict[Split, float] = {"train": 0.5, "test": 0.25}  # of the instructions: those that say what is to stay
NAMES = {"background": BACKGROUND_NAMES, "colour": COLOUR_NAMES, "pattern": PATTERN_NAMES, "fault": FAULT_NAMES}


def instruction(edit: Edit, random: Random, *, language: Language, split: Split = "train") -> str:
    """Ask for an edit, as a shop might."""
    kind = _kind(edit, random, language)
    parts = [_part(edit, attribute, kind, random, language, split) for attribute in edit.asked]
    random.shuffle(parts)
    text = parts[0]
    for part in parts[1:]:
        text = text.rstrip("?") + random.choice(JOINTS[language]) + part
    return _finished(text, random, language, split)


def referring_instruction(edit: Edit, random: Random, *, language: Language, split: Split = "train") -> str:
    """Ask for an edit whose new background is that of picture 2."""
    template = random.choice(REFERRING[language][split])
    if split == "train" and random.random() < CHATTY:
        template = with_chatter(template, random, language)
    text = template.format(kind=_kind(edit, random, language), other=random.choice(OTHER[language]))
    return _finished(text, random, language, split)


def _kind(edit: Edit, random: Random, language: Language) -> str:
    return random.choice(ANYTHING[language] if random.random() < 0.15 else KIND_NAMES[edit.source.kind][language])


def _finished(text: str, random: Random, language: Language, split: Split) -> str:
    """Add to a request what people say around it."""
    if random.random() < KEPT[split]:
        text = _kept(text, random.choice(KEEPING[language][split]), language)
    if split == "train" and random.random() < FRAMED:
        text = random.choice(FRAMES[language]).format(text=text)
    return cased(text, random, language)


def _part(edit: Edit, attribute: str, kind: str, random: Random, language: Language, split: Split) -> str:
    named = edit.source if attribute == "fault" else edit.target  # a fault is called by its name to be removed
    new = random.choice(NAMES[attribute][getattr(named, attribute)][language])
    new = new.format(colour=COLOUR_NAMES[border_colour(edit.source.colour)][language][0])
    template = random.choice(TEMPLATES[attribute][language][split])
    if split == "train" and random.random() < CHATTY:
        template = with_chatter(template, random, language)
    return template.format(
        kind=kind,
        old=random.choice(COLOUR_NAMES[edit.source.colour][language]),
        new=new,
        a_new=with_article(new) if language == "en" else new,
        on=PREPOSITIONS.get(edit.target.background, random.choice(("on", "against", "in front of"))),
    )


def _kept(text: str, aside: str, language: Language) -> str:
    return text.rstrip("?") + (", " if language == "en" else "，") + aside


def with_chatter(template: str, random: Random, language: Language) -> str:
    """Put one to three words that say nothing, or that nobody knows, between the words of a template."""
    english = language == "en"
    words = template.split(" ") if english else re.findall(r"{\w+}|.", template)
    known = CHATTER["en"].split(" ") if english else CHATTER["zh"]
    for _ in range(random.randint(1, 3)):
        made_up = english and random.random() < 0.5
        word = "".join(random.choices(SYLLABLES, k=random.randint(1, 3))) if made_up else random.choice(known)
        words.insert(random.randint(0, len(words)), word)
    return (" " if english else "").join(words)
