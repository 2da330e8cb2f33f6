"""The ways one written word may be meant."""

from __future__ import annotations

import re

# Digits inside a word stand for letters; i, l and 1 are told apart by nobody, so all three become l.
_LEET = str.maketrans("0123456789", "olzeasgtbg")
_ONE_STROKE = str.maketrans("i", "l")
_RUN = re.compile(r"([^\W\d_])\1{2,}")
_REPEATED = re.compile(r"([^\W\d_])\1+")
LONG = 6  # letters: shorter words have neighbours one letter away
_PLURALS = (("s", ""), ("z", ""), ("es", ""), ("les", "y"), ("ves", "f"), ("ves", "fe"))  # of keys, hence "les"


def key(word: str) -> str:
    """What a word is looked up by. "p1st0I" and "pistol" have the same key.

    Digits are read as letters only beside two letters or more, so "1911" and "a5" stay what they are.
    """
    if not word.isalpha() and sum(map(str.isalpha, word)) >= 2:
        word = word.translate(_LEET)
    return word.translate(_ONE_STROKE)


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
    for candidate in tuple(found):
        for ending, singular in _PLURALS:
            if candidate.endswith(ending) and len(candidate) - len(ending) >= 2:
                found[candidate.removesuffix(ending) + singular] = None
    return tuple(found)
