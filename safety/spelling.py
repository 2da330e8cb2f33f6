"""The ways one written word may be meant."""

from __future__ import annotations

import re

# Digits inside a word stand for letters; i, l and 1 are told apart by nobody, so all three become l.
_LEET = str.maketrans("0123456789", "olzeasgtbg")
_ONE_STROKE = str.maketrans("i", "l")
_RUN = re.compile(r"([^\W\d_])\1{2,}")
_REPEATED = re.compile(r"([^\W\d_])\1+")
LONG = 6  # letters: shorter words have neighbours one letter away
_ENDINGS = (("s", ""), ("z", ""), ("es", ""), ("les", "y"), ("ves", "f"), ("ves", "fe"))  # of keys, hence "les"


def key(word: str) -> str:
    """What a word is looked up by. "p1st0I" and "pistol" have the same key.

    Digits are read as letters only beside two letters or more, so "1911" and "a5" stay what they are.
    """
    return loose(word) if sum(map(str.isalpha, word)) >= 2 else word


def loose(word: str) -> str:
    """A key with every digit read as a letter."""
    return word.translate(_LEET).translate(_ONE_STROKE)


def listed(word: str) -> str:
    """The key of a word in a list: digits there mean themselves, as in "ak47"."""
    return word.translate(_ONE_STROKE) if word.isalpha() else word


def squeezed(word: str) -> str:
    """The key of a word with every repeated letter once: "pissttoll"."""
    return key(_REPEATED.sub(r"\1", word))


def keys(word: str) -> tuple[str, ...]:
    """The keys a written word may be meant by: as it stands, without digits at its ends, without letters that are
    held down ("gunnnn"), and as the plural of each."""
    written = dict.fromkeys([word, word.strip("0123456789")])
    for candidate in tuple(written):
        if _RUN.search(candidate):
            written |= dict.fromkeys([_RUN.sub(r"\1", candidate), _RUN.sub(r"\1\1", candidate)])
    found = dict.fromkeys(key(candidate) for candidate in written if candidate)
    if not word.isalpha():
        found[word] = None
    for candidate in tuple(found):
        for ending, singular in _ENDINGS:
            if candidate.endswith(ending) and len(candidate) - len(ending) >= 2:
                found[candidate.removesuffix(ending) + singular] = None
    return tuple(found)


def plurals(singular: str) -> tuple[str, ...]:
    """The keys that `keys` would take back to the key `singular`."""
    return tuple(singular.removesuffix(to) + ending for ending, to in _ENDINGS if singular.endswith(to))
