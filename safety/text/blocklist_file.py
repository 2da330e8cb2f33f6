"""Blocklists as people write them: text files."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from safety.text.emoji_names import emoji_names
from safety.text.normalise import Normalised, normalise

MOST_CHARACTERS = 200  # of an entry
MOST_ENTRIES = 1 << 14  # that are kept normalised: each is looked at three times, and lists are read again and again


class BlocklistError(ValueError):
    """A list that can't be read; the message names the file and the line."""


@dataclass(frozen=True)
class Hit:
    """A listed term that a text contains, in whatever disguise."""

    term: str
    list: str  # the section: "weapons"
    language: str  # the file's stem: "en"


@dataclass(frozen=True)
class BlocklistEntry:
    """One line of a list."""

    text: str
    list: str
    language: str
    exception: bool = False

    @property
    def hit(self) -> Hit:
        return Hit(self.text, self.list, self.language)


def read_entries(path: Path) -> Iterator[BlocklistEntry]:
    """Give the entries of a file: a `[section]` above its terms, a term a line, `# comments`, and `!exceptions`.

    Raises:
        BlocklistError: if the file is missing, isn't UTF-8, or has a line that says nothing to search for.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except FileNotFoundError:
        raise BlocklistError(f"there is no list {path}.") from None
    except UnicodeDecodeError:
        raise BlocklistError(f"{path} isn't UTF-8 text.") from None
    except OSError as error:
        raise BlocklistError(f"{path} can't be read: {error.strerror}.") from None
    except ValueError:
        raise BlocklistError(f"{str(path)!r} can't be the path of a list.") from None
    section = ""
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            if text.startswith("["):
                section = _section(text)
            elif text.startswith("!"):
                yield BlocklistEntry(_searchable(text[1:].strip()), section, path.stem, exception=True)
            elif not section:
                raise ValueError("a term stands above the first [section].")
            else:
                yield BlocklistEntry(_searchable(text), section, path.stem)
        except ValueError as error:
            raise BlocklistError(f"{path}, line {number}: {error}") from None


def check_entry(entry: BlocklistEntry) -> BlocklistEntry:
    """Return the same entry, if it can be searched for.

    Raises:
        BlocklistError: if it can't.
    """
    try:
        _searchable(entry.text)
    except ValueError as error:
        raise BlocklistError(f"{entry.language}: {error}") from None
    return entry


def entry_words(entry: BlocklistEntry) -> tuple[str, ...]:
    """Return what is searched for: the entry's words, or those of its first name if it is an emoji."""
    words = _normalised(entry.text).words
    return words or normalise(emoji_names(entry.text).partition(",")[0]).words


@lru_cache(MOST_ENTRIES)
def _normalised(text: str) -> Normalised:
    return normalise(text)


def _section(text: str) -> str:
    name = text[1:-1].strip()
    if not text.endswith("]") or not name:
        raise ValueError("a section is written [name].")
    return name


def _searchable(text: str) -> str:
    if any(unicodedata.category(char) == "Cc" for char in text):
        raise ValueError("an entry has a control character in it.")
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"an entry has {len(text)} characters; at most {MOST_CHARACTERS} are searched for.")
    compact = _normalised(text).compact
    if not compact and not emoji_names(text):
        raise ValueError(f"the entry {text!r} has no letters to search for.")
    if len(compact) == 1 and compact.isascii():
        raise ValueError(f"the entry {text!r} is a single letter, which stands in nearly every text.")
    return text
