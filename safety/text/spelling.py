"""The ways one written word may be meant."""

from __future__ import annotations

import re
from itertools import groupby

# Digits inside a word stand for letters; i, l and 1 are told apart by nobody, so all three become l.
_ONE_STROKE = str.maketrans("i", "l")
_LOOSE = str.maketrans("0123456789i", "olzeasgtbgl")
_SECOND_LOOKS = str.maketrans("69", "bq")
_TWO_STROKES = {"rn": "m", "vv": "w"}
_STROKES = re.compile("|".join(_TWO_STROKES))
_RUN = re.compile(r"([^\W\d_])\1{2,}")
_REPEATED = re.compile(r"([^\W\d_])\1+")
# Letters that English often has twice in words of three letters and one more, and in longer ones.
_OFTEN_DOUBLE, _STILL_DOUBLE = frozenset("eoflrst"), frozenset("eo")
LONG = 6  # letters: shorter words have neighbours one letter away
_ENDINGS = (("s", ""), ("z", ""), ("es", ""), ("les", "y"), ("ves", "f"), ("ves", "fe"))  # of keys, hence "les"


def key(word: str) -> str:
    """Return what a word is looked up by. "p1st0I" and "pistol" have the same key.

    Digits are read as letters only beside two letters or more, so "1911" and "a5" stay what they are.
    """
    if word.isalpha():
        return word.translate(_ONE_STROKE)
    return loose(word) if sum(map(str.isalpha, word)) >= 2 else word


def loose(word: str) -> str:
    """Return a key with every digit read as a letter."""
    return word.translate(_LOOSE)


def listed(word: str) -> str:
    """Return the key of a word in a list: digits there mean themselves, as in "ak47"."""
    return word.translate(_ONE_STROKE) if word.isalpha() else word


def squeezed(word: str) -> str:
    """Return the key of a word with every repeated letter once: "pissttoll"."""
    return key(_REPEATED.sub(r"\1", word))


def has_repeats(word: str) -> bool:
    """Say whether any letter stands twice in a row."""
    return _REPEATED.search(word) is not None


def holds(word: str, meant: str) -> bool:
    """Say whether `word` is `meant` with letters held down, where both squeeze to the same key: "gguun" is "gun".

    In a long word a letter may be missing, too ("canabis"). In a short one, a letter that English often has twice isn't
    enough ("hoop" is no "hop").
    """
    if len(meant) >= LONG:
        return True
    runs = zip(groupby(key(word)), groupby(key(meant)), strict=True)
    more = [(letter, len([*written]) - len([*plain])) for (letter, written), (_, plain) in runs]
    held = sum(times for _, times in more)
    doubled = {letter for letter, times in more if times}
    innocent = doubled <= (_OFTEN_DOUBLE if len(meant) <= 3 else _STILL_DOUBLE)
    return min(times for _, times in more) >= 0 and (held > 1 or not innocent)


def spellings(word: str) -> tuple[str, ...]:
    """Return the keys a written word may be meant by: as it stands, without digits at its ends, without letters held
    down ("gunnnn"), and with strokes read otherwise ("6omb", "firearrn")."""
    if word.isalpha() and not _RUN.search(word) and not _STROKES.search(word):
        return (key(word),)
    written = dict.fromkeys([word, word.strip("0123456789"), word.translate(_SECOND_LOOKS)])
    for candidate in tuple(written):
        if _RUN.search(candidate):
            written |= dict.fromkeys([_RUN.sub(r"\1", candidate), _RUN.sub(r"\1\1", candidate)])
        if len(candidate) >= LONG:
            written[_STROKES.sub(lambda stroke: _TWO_STROKES[stroke[0]], candidate)] = None
    found = dict.fromkeys(key(candidate) for candidate in written if candidate)
    if not word.isalpha():
        found[word] = None
    return tuple(found)


def plurals(singular: str) -> tuple[str, ...]:
    """Return the keys of the plurals that the key `singular` may have."""
    return tuple(
        singular.removesuffix(to) + ending
        for ending, to in _ENDINGS
        if singular.endswith(to) and len(singular) - len(to) >= 2
    )
