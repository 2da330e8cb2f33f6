"""Text as it would be read aloud, whatever characters it is written with."""

from __future__ import annotations

import html
import re
import unicodedata
from functools import cache
from typing import NamedTuple

from safety.text.emoji_names import emoji_names
from safety.text.encoded import decoded
from safety.text.lookalikes import FOLDING, SIGNS

# Part of a policy's digest: count it up whenever a change in this room's code may change a verdict.
METHOD = 3

# Scripts that put no spaces between words, or glue particles to them: Han, kana, Hangul, Thai, Lao, Burmese, Khmer.
_UNSPACED_RANGES = "\u2e80-\u2fdf\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_UNSPACED_RANGES += "\uac00-\ud7a3\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\U00020000-\U0003ffff"
UNSPACED = re.compile(f"[{_UNSPACED_RANGES}]")
# Indian scripts spell with marks, which aren't letters to `re`.
_WORD = rf"[{_UNSPACED_RANGES}]+|(?:[^\W_{_UNSPACED_RANGES}]|[\u0900-\u0963\u0966-\u0dff])+"
_WORDS = re.compile(f"({_WORD})")
_ASCII_WORDS = re.compile("([a-z0-9]+)")
_CLAUSE_END = re.compile(rf"[。！？；，：\n]|[.,;:!?](?=[\s{_UNSPACED_RANGES}])")

# Marks above this code aren't decoration on Latin, Greek, Cyrillic or Armenian letters but part of the spelling.
_FIRST_SPELLED_WITH_MARKS = 0x590
_MOST_MARKS = 8  # in a row: sorting long runs of them is what makes Unicode normalisation slow
_MOST_FOLDS = 4

# Signs that stand for a letter, once a letter or digit is next to them.
_MAYBE_SIGNED = re.compile("[a-z0-9][@$|+¢£!]|[@$|+¢£!][a-z0-9]")
_SIGNED = re.compile(r"[a-z0-9@$!|+¢£]+")
_LEAST_BEFORE_END = 3  # letters: "naz!" may be meant, "go!" isn't
_SIGNS = str.maketrans("@$!|+¢£", "aslltcl")

_TAGS = {0xE0000 + code: chr(code) for code in range(0x20, 0x7F)}  # an ASCII that nobody sees
_TAG = re.compile("[\U000e0020-\U000e007e]+")
_MOST_LAYERS = 3  # of base64 in base64


class Reading(NamedTuple):
    """One way to read a text: its words, and what stands before each of them."""

    words: tuple[str, ...]
    gaps: tuple[str, ...]

    def is_tight(self, at: int) -> bool:
        """Say whether no space stands before word `at`: "gun" in "hand-gun"."""
        return at > 0 and not any(map(str.isspace, self.gaps[at]))

    def starts_clause(self, at: int) -> bool:
        """Say whether a full stop or a comma stands before word `at`: "gun" in "a glass of water, gun"."""
        return at > 0 and _CLAUSE_END.search(self.gaps[at] + self.words[at][0]) is not None


class Normalised(NamedTuple):
    """A text folded to plain letters: as it stands, and in the other ways in which it may be meant.

    The others are: capitals by the shape of their small letters, signs as letters, emoji by their names, what is
    written in characters that nobody sees, and what stands in base64.
    """

    readings: tuple[Reading, ...]

    @property
    def words(self) -> tuple[str, ...]:
        return self.readings[0].words

    @property
    def text(self) -> str:
        """The canonical form, one space between words: "a hand gun". To normalise it again changes nothing."""
        return " ".join(self.words)

    @property
    def compact(self) -> str:
        """Without any separator: "ahandgun"."""
        return "".join(self.words)


def normalise(text: str) -> Normalised:
    """Fold `text` to lower-case letters and digits without accents, look-alikes, invisible characters and separators.

        normalise("H.Ａ.Ｎ.d-ɢ‌uՈ").text == "h a n d gun"

    Digits keep their value here; which of them stand for letters, and which letters are held down, is decided word by
    word in `safety.text.spelling`, and which single letters spell a word in `safety.text.blocklist`.
    """
    return Normalised(tuple(_readings(text, _MOST_LAYERS)))


def _readings(text: str, layers: int) -> list[Reading]:
    folded = fold(text)
    readings = [_split(folded)]
    hidden = decoded(text)
    if not text.isascii():
        small = text.lower()
        if (
            small != text
            and any(char > "\x7f" and char.isupper() for char in text)
            and (small := fold(small)) != folded
        ):
            readings.append(_split(small))
        if names := emoji_names(text):
            readings.append(_split(fold(names)))
        hidden = "\n".join([hidden, *_TAG.findall(text)]).translate(_TAGS).strip("\n")
    for signed in _signed(folded):
        readings.append(_split(signed))
    if hidden and layers:
        readings += _readings(hidden, layers - 1)
    return readings


def fold(text: str) -> str:
    """Return the same text in plain characters; separators stay where they are."""
    if "&" in text:
        text = html.unescape(text)
    if text.isascii():
        return text.lower() if text.isprintable() else text.translate(FOLDING).lower()
    # Once is enough for what has nothing to be taken apart; the plain form of a few characters has a plainer one.
    for _ in range(_MOST_FOLDS):
        before = text
        text, settled = _fold(text)
        if settled or text == before:
            break
    return text


def _fold(text: str) -> tuple[str, bool]:
    """Return the text a step plainer, and whether it is as plain as can be."""
    # Capitals look like other letters than their small forms do (Η is H, η is n), so they are folded before they are
    # made small, and both before they are taken apart: ϲ is a c, and no sigma.
    text = text.translate(FOLDING)
    settled = unicodedata.is_normalized("NFKD", text) and _marks().isdisjoint(text)
    if not settled:
        text = unicodedata.normalize("NFKD", _thin_marks(text)).translate(FOLDING)
        text = _without_accents(text)
    small = text.casefold()
    if small != text:
        text = small.translate(FOLDING)
    return unicodedata.normalize("NFC", text), settled


def _split(folded: str) -> Reading:
    parts = (_ASCII_WORDS if folded.isascii() else _WORDS).split(folded)
    return Reading(tuple(parts[1::2]), tuple(parts[:-1:2]))


def _signed(folded: str) -> dict[str, None]:
    """Return the text with its signs read as letters, where there are any: inside words, and at their ends, too."""
    signs = folded if folded.isascii() else folded.translate(SIGNS)
    found = {signs: None}
    if _MAYBE_SIGNED.search(signs):
        found = dict.fromkeys(_SIGNED.sub(read, signs) for read in (_read_inner_signs, _read_signs))
    return {text: None for text in found if text != folded}


def _read_inner_signs(match: re.Match[str]) -> str:
    chunk = match[0].strip("!|+")  # at an end they are punctuation
    return match[0].replace(chunk, _letters(chunk), 1) if chunk else match[0]


def _read_signs(match: re.Match[str]) -> str:
    chunk = match[0].rstrip("!")
    if sum(map(str.isalpha, chunk)) >= _LEAST_BEFORE_END:
        chunk = match[0]
    return _letters(chunk) + match[0][len(chunk) :]


def _letters(chunk: str) -> str:
    letters = sum(map(str.isalpha, chunk))
    return chunk.translate(_SIGNS) if letters >= 2 or (letters and len(chunk) > 2) else chunk  # a sign in "a+"


def _thin_marks(text: str) -> str:
    if not any(map(unicodedata.combining, text)):
        return text
    kept, run = [], 0
    for char in text:
        run = run + 1 if unicodedata.combining(char) else 0
        if run <= _MOST_MARKS:
            kept.append(char)
    return "".join(kept)


@cache
def _marks() -> frozenset[str]:
    """Return every mark that takes no space of its own; there are none beyond the first two planes."""
    return frozenset(char for char in map(chr, range(0x300, 0x20000)) if unicodedata.category(char) == "Mn")


def _without_accents(text: str) -> str:
    kept, decorates = [], False
    for char in text:
        category = unicodedata.category(char)
        if category == "Mn" and decorates:
            continue
        if category[0] != "M" and category != "Cf":
            decorates = ord(char) < _FIRST_SPELLED_WITH_MARKS and not char.isspace()
        kept.append(char)
    return "".join(kept)
