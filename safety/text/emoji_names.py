"""What emoji are called, in English and Chinese."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Any

# Where emoji begin; letters in squares and arrows stand there, too. One may be made of several, and have a colour.
_START = "[\u203c-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001fbff]"
_FIRST_PICTURE = "\u2600"  # before are arrows, frames and "white bullets"
_LOOKS = "[\ufe0e\ufe0f\U0001f3fb-\U0001f3ff]*"
_EMOJI = re.compile(f"{_START}{_LOOKS}(?:\u200d{_START}{_LOOKS})*")
_UNSEEN = re.compile(_LOOKS)
_NOT_A_WORD = re.compile(r"[\W_]+")


def emoji_names(text: str) -> str:
    """Return the names of the emoji in a text, each once: "pistol , water pistol , gun , 水枪" for 🔫."""
    emoji = dict.fromkeys(_EMOJI.findall(text))
    return " , ".join(dict.fromkeys(name for one in emoji for name in _names(one)))


def _names(emoji: str) -> list[str]:
    """Return Unicode's own name, of which there is one a character, and those that people know it by."""
    said = []
    for char in dict.fromkeys(emoji):
        if unicodedata.category(char) == "So":
            said += [unicodedata.name(char, "") if char >= _FIRST_PICTURE else "", *_known(char)]
    if len(emoji) > 1:
        said += _known(emoji) or _known(_UNSEEN.sub("", emoji))
    return [name for written in said if (name := _NOT_A_WORD.sub(" ", written).strip().lower())]


def _known(emoji: str) -> list[str]:
    known = _data().get(emoji, {})
    return [name for name in (known.get("en"), *known.get("alias", ()), known.get("zh")) if name]


@cache
def _data() -> dict[str, dict[str, Any]]:
    import emoji  # reads half a megabyte of names, and most texts need none of them

    emoji.config.load_language("zh")
    return emoji.EMOJI_DATA
