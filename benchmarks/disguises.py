"""The ways in which listed terms are hidden from a filter, each drawn at random from a seed.

A disguise answers None for a term that it can't change: Chinese has no leetspeak, simplified characters that nobody
writes otherwise have no traditional form.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from random import Random
from typing import Any

Disguise = Callable[[str, Random], str | None]

LEET = {"a": "4@", "b": "8", "e": "3", "g": "9", "i": "1!", "l": "1|", "o": "0", "s": "5$", "t": "7+", "z": "2"}
INVISIBLE = (
    "\u200b\u200c\u200d\u2060\ufeff\u00ad\u034f\u061c\u200e\u200f\u202a\u202b\u202d\u202e\u2066\u2067\u2069\ufe0f"
)
SEPARATORS = ".-_*/|·•~,"
EMOJI = "🙂🔥⭐✨💫🎁❤🌸"
STYLES = (0xFF21, 0x1D400, 0x1D468, 0x1D4D0, 0x1D56C, 0x1D5A0, 0x1D5D4, 0x1D608, 0x1D63C, 0x1D670, 0x24B6)
"""Where A stands in full width, in the mathematical alphabets that have no holes, and in circles; a, too, but for the
first, comes 26 characters later."""
MARKS = "\u0300\u0301\u0302\u0303\u0304\u0307\u0308\u030a\u0323\u0331\u0335\u0336\u0338"
HELD = (2, 4)  # times that a letter is held down


def leetspeak(term: str, random: Random) -> str | None:
    """Digits and signs for about half of the letters that have any, for one at least."""
    return _some(term, random, lambda char: random.choice(LEET[char]) if char in LEET else None)


def look_alikes(term: str, random: Random, table: Mapping[str, Sequence[str]] | None = None) -> str | None:
    """Letters of other scripts that look the same: UTS #39's, or those of another table."""
    alike = table or confusables()
    return _some(term, random, lambda char: random.choice(alike[char]) if char in alike else None)


def invisible(term: str, random: Random) -> str | None:
    """Characters without a width, and those that turn the direction of writing."""
    return _between(term, lambda: random.choice(INVISIBLE))


def styled(term: str, random: Random) -> str | None:
    """Full width, mathematical and circled letters, one style a term."""
    start = random.choice(STYLES)
    small = start + (0x20 if start == 0xFF21 else 26)
    changed = "".join(_letter(char, start, small) for char in term)
    return changed if changed != term else None


def spaced(term: str, random: Random) -> str | None:
    """A space after every letter, two or three between words."""
    gap = random.choice(["  ", "   "])
    return gap.join(" ".join(word) for word in term.split()) if len(term) > 1 else None


def separated(term: str, random: Random) -> str | None:
    """One sign, or several in turn, between letters."""
    signs = random.sample(SEPARATORS, random.choice([1, 1, 2, 3]))
    return _between(term, lambda: random.choice(signs))


def held_down(term: str, random: Random) -> str | None:
    """One letter in three twice or more, one of a term at least."""
    return _some(
        term, random, lambda char: char * random.randint(*HELD) if char.isalpha() and char.isascii() else None, 3
    )


def encoded(term: str, random: Random) -> str | None:
    """Base64, with or without its padding, in either alphabet."""
    encode = random.choice([base64.b64encode, base64.urlsafe_b64encode])
    return encode(term.encode()).decode().rstrip(random.choice(["", "="]))


def marked(term: str, random: Random) -> str | None:
    """Accents, and strokes through letters."""
    return _some(term, random, lambda char: char + random.choice(MARKS) if char.isalpha() and char.isascii() else None)


def with_emoji(term: str, random: Random) -> str | None:
    """Emoji between letters."""
    return _between(term, lambda: random.choice(EMOJI))


def traditional(term: str, random: Random) -> str | None:  # noqa: ARG001  there is but one way
    """Traditional characters."""
    changed = _converter().convert(term)
    return changed if changed != term else None


DISGUISES: dict[str, Disguise] = {
    "leetspeak": leetspeak,
    "look-alikes": look_alikes,
    "invisible characters": invisible,
    "full-width and styled": styled,
    "spaced out": spaced,
    "separators": separated,
    "held down": held_down,
    "base64": encoded,
    "accents and strokes": marked,
    "emoji between": with_emoji,
    "traditional characters": traditional,
}


@cache
def confusables() -> dict[str, list[str]]:
    """Every single character that UTS #39 likens to a small Latin letter, by letter."""
    from confusable_homoglyphs.confusables import confusables_data

    return {
        letter: [like["c"] for like in confusables_data[letter] if len(like["c"]) == 1 and not like["c"].isascii()]
        for letter in "abcdefghijklnopqrstuvwxyz"  # m is r and n to it
    }


def _some(term: str, random: Random, change: Callable[[str], str | None], one_in: int = 2) -> str | None:
    """Change one character in so many of those that can be, one at least."""
    can = [at for at, char in enumerate(term) if change(char) is not None]
    if not can:
        return None
    chosen = {at for at in can if random.randrange(one_in) == 0} or {random.choice(can)}
    return "".join(change(char) or char if at in chosen else char for at, char in enumerate(term))


def _between(term: str, sign: Callable[[], str]) -> str | None:
    if len(term) < 2:
        return None
    return "".join(char if char == " " else char + sign() for char in term[:-1]) + term[-1]


def _letter(char: str, capital: int, small: int) -> str:
    if "a" <= char <= "z":
        return chr(small + ord(char) - ord("a"))
    return chr(capital + ord(char) - ord("A")) if "A" <= char <= "Z" else char


@cache
def _converter() -> Any:
    from opencc import OpenCC

    return OpenCC("s2t")
