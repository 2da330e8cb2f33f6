"""Text as it would be read aloud, whatever characters it is written with."""

from __future__ import annotations

import html
import re
import unicodedata
from dataclasses import dataclass

from safety.lookalikes import FOLDING, SIGNS
from safety.traditional import SIMPLIFIED

# Part of a policy's digest: count it up whenever a change in this room's code may change a verdict.
METHOD = 1

# Scripts that put no spaces between words, or glue particles to them: Han, kana, Hangul, Thai, Lao, Burmese, Khmer.
_UNSPACED_RANGES = "\u2e80-\u2fdf\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_UNSPACED_RANGES += "\uac00-\ud7a3\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\U00020000-\U0003ffff"
UNSPACED = re.compile(f"[{_UNSPACED_RANGES}]")
_WORD = re.compile(rf"[{_UNSPACED_RANGES}]+|[^\W_{_UNSPACED_RANGES}]+")
_SPACE = re.compile(r"\s")
_CLAUSE_END = re.compile(rf"[。！？；，：\n]|[.,;:!?](?=[\s{_UNSPACED_RANGES}])")

# Marks above this code aren't decoration on Latin, Greek, Cyrillic or Armenian letters but part of the spelling.
_FIRST_SPELLED_WITH_MARKS = 0x590
_MOST_MARKS = 8  # in a row: sorting long runs of them is what makes Unicode normalisation slow

# Signs that stand for a letter, once a letter or digit is next to them.
_SIGNED = re.compile(r"[a-z0-9@$!|+¢£]+")
_SIGNS = str.maketrans("@$!|+¢£", "aslltcl")


@dataclass(frozen=True)
class Word:
    """A word, and how it hangs together with the one before it."""

    text: str
    tight: bool  # no space before it: "gun" in "hand-gun"
    starts_clause: bool = False  # a full stop or a comma before it: "gun" in "a glass of water, gun"

    @property
    def unspaced(self) -> bool:
        return UNSPACED.match(self.text) is not None


@dataclass(frozen=True)
class Normalised:
    """A text folded to plain letters.

    `words` keeps its word boundaries; `variants` are other ways to read it (capitals by the shape of their small
    letters, signs as letters, emoji by their names).
    """

    words: tuple[Word, ...]
    variants: tuple[tuple[Word, ...], ...]

    @property
    def text(self) -> str:
        """Readable, one space between words: "a hand gun"."""
        return " ".join(word.text for word in self.words)

    @property
    def compact(self) -> str:
        """Without any separator: "ahandgun"."""
        return "".join(word.text for word in self.words)


def normalise(text: str) -> Normalised:
    """Fold `text` to lower-case letters and digits without accents, look-alikes, invisible characters and separators.

        normalise("H.Ａ.Ｎ.d-ɢ‌uՈ").text == "h a n d gun"

    Digits keep their value here; which of them stand for letters is decided word by word in `safety.spelling`.
    """
    folded = fold(text)
    words = _split(folded)
    variants = []
    small = folded if text.isascii() else fold(text.lower())
    if small != folded:
        variants.append(_split(small))
    signed = _SIGNED.sub(_read_signs, folded.translate(SIGNS))
    if signed != folded:
        variants.append(_split(signed))
    named = _emoji_names(text)
    if named:
        variants.append(_split(named))
    return Normalised(words, tuple(variants))


def fold(text: str) -> str:
    """The same text in plain characters; separators stay where they are."""
    text = html.unescape(text)
    if not text.isascii():
        text = unicodedata.normalize("NFKD", _thin_marks(text))
        # Capitals look like other letters than their small forms do (Η is H, η is n), so they are folded first.
        text = _without_accents(text).translate(FOLDING).casefold().translate(FOLDING)
        text = unicodedata.normalize("NFC", text).translate(SIMPLIFIED)
    return text.casefold()


def _split(folded: str) -> tuple[Word, ...]:
    words: list[Word] = []
    end = 0
    for match in _WORD.finditer(folded):
        tight = bool(words) and not _SPACE.search(folded, end, match.start())
        starts_clause = bool(words) and _CLAUSE_END.search(folded, end, match.start() + 1) is not None
        words.append(Word(match[0], tight, starts_clause))
        end = match.end()
    return tuple(words)


def _read_signs(match: re.Match[str]) -> str:
    chunk = match[0].strip("!|+")  # at an end they are punctuation
    if chunk.isalnum() or sum(map(str.isalpha, chunk)) < 2:
        return match[0]
    return match[0].replace(chunk, chunk.translate(_SIGNS), 1)


def _thin_marks(text: str) -> str:
    kept, run = [], 0
    for char in text:
        run = run + 1 if unicodedata.combining(char) else 0
        if run <= _MOST_MARKS:
            kept.append(char)
    return "".join(kept)


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


def _emoji_names(text: str) -> str:
    names = [
        unicodedata.name(char, "").lower()
        for char in dict.fromkeys(text)
        if ord(char) >= 0x2600 and unicodedata.category(char) == "So"
    ]
    return " , ".join(names)
