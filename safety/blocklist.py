"""Blocklists: readable text files, searched in a way that spelling tricks don't get round."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from safety.normalise import UNSPACED, Word, normalise
from safety.spelling import LONG, keys, listed, loose, plurals, squeezed
from safety.verdict import Reason, Verdict, allow, refuse

# "g u n": this many single characters in a row spell a word out.
SPELLED = 3


class BlocklistError(ValueError):
    """A list that can't be read; the message names the file and the line."""


@dataclass(frozen=True)
class Hit:
    """A listed term that a text contains, in whatever disguise."""

    term: str
    list: str  # the section: "weapons"
    language: str  # the file's stem: "en"


@dataclass(frozen=True)
class Entry:
    """One line of a list."""

    text: str
    list: str
    language: str
    exception: bool = False

    @property
    def hit(self) -> Hit:
        return Hit(self.text, self.list, self.language)


_NOWHERE = Entry("", "", "")  # the answer for pieces that begin nothing listed


@dataclass
class _Node:
    """A step of the word index: the words that may follow, and the entry that ends here."""

    following: dict[str, _Node] = field(default_factory=dict)
    entry: Entry | None = None


class Blocklist:
    """Terms that are refused, and exceptions in which they are allowed.

    A file has a `[section]` above its terms, a term per line, `# comments`, and `!exceptions`. Text is read from
    left to right; at each place the longest listed entry is taken, and an exception uses up its words. So "glue gun"
    is allowed where "gun" isn't, and 消毒品 (disinfectant) isn't cut into 消 and 毒品 (drugs). A term is found across
    punctuation, because tricksters put some in; an exception isn't, because "a glass of water, gun" is no water gun.

    Scripts with spaces are matched by whole words and their plurals, the others by substring.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = tuple(dict.fromkeys(entries))
        self._words = _Node()
        self._squeezed: dict[str, str] = {}  # long listed words: squeezed key to key
        # Terms and their plurals without spaces, and every beginning of them, so that a search for pieces ends early.
        self._pieces: dict[str, Entry | None] = {}
        unspaced: dict[str, Entry] = {}
        inside: dict[str, Entry] = {}
        for entry in self.entries:
            read = normalise(entry.text)
            if not read.words:
                raise BlocklistError(f"{entry.language}: the entry {entry.text!r} has no letters to search for.")
            if UNSPACED.search(read.compact):
                _add(unspaced, read.compact, entry)
                continue
            self._insert([word.text for word in read.words], entry)
            joined = listed(read.compact)
            if not entry.exception:
                self._insert_pieces(loose(joined), entry)
            # A long word is also found inside longer ones: "blackpistol". A short one would be found in innocent ones.
            if len(joined) >= LONG and (len(read.words) == 1 or not entry.exception):
                _add(inside, joined, entry)
        self._unspaced = unspaced
        self._inside = inside
        self._unspaced_pattern = _alternatives(unspaced)
        self._inside_pattern = _alternatives(inside)

    @classmethod
    def read(cls, paths: Sequence[Path]) -> Blocklist:
        """Read lists from text files.

        Raises:
            BlocklistError: if a file is missing, isn't UTF-8, or has a term outside any section.
        """
        return cls(entry for path in paths for entry in _entries(path))

    def extended(self, *, refuse: Sequence[str] = (), allow: Sequence[str] = ()) -> Blocklist:
        """The same lists with more terms and exceptions, which a policy may bring itself."""
        more = [Entry(text, "policy", "policy") for text in refuse]
        more += [Entry(text, "policy", "policy", exception=True) for text in allow]
        return Blocklist([*self.entries, *more]) if more else self

    @property
    def contents(self) -> list[list[str]]:
        """Everything in the lists that decides a verdict, in an order that doesn't depend on the files'."""
        return sorted([entry.language, entry.list, "!" * entry.exception, entry.text] for entry in self.entries)

    def search(self, text: str) -> Hit | None:
        """The first listed term in `text`, or None. Time grows in proportion to the text."""
        read = normalise(text)
        for words in (read.words, *read.variants):
            if hit := self._search_words(words):
                return hit
        return self._search_unspaced(read.words, read.compact)

    def _insert(self, words: Sequence[str], entry: Entry) -> None:
        node = self._words
        for word in words:
            if len(word) >= LONG:
                self._squeezed.setdefault(squeezed(word), listed(word))
            node = node.following.setdefault(listed(word), _Node())
        if node.entry is None or entry.exception:
            node.entry = entry

    def _insert_pieces(self, joined: str, entry: Entry) -> None:
        for whole in (joined, *plurals(joined)):
            for end in range(1, len(whole)):
                self._pieces.setdefault(whole[:end])
            self._pieces[whole] = self._pieces.get(whole) or entry

    def _forms(self, word: Word) -> tuple[str, ...]:
        """The index keys that a written word may be meant by."""
        if word.unspaced:
            return ()
        forms = keys(word.text)
        if len(word.text) >= LONG:
            meant = self._squeezed.get(squeezed(word.text)) or self._squeezed.get(squeezed(word.text.rstrip("sz")))
            if meant and meant not in forms:
                return (*forms, meant)
        return forms

    def _search_words(self, words: Sequence[Word]) -> Hit | None:
        forms = [self._forms(word) for word in words]
        allowed = [False] * len(words)
        index = 0
        while index < len(words):
            entry, length = self._longest_at(words, forms, index)
            if entry is None:
                index += 1
            elif entry.exception:
                allowed[index : index + length] = [True] * length
                index += length
            else:
                return entry.hit
        for word, free in zip(words, allowed, strict=True):
            if len(word.text) > LONG and not free:
                hit = _first(self._inside_pattern, self._inside, loose(word.text))
                if hit:
                    return hit
        return self._search_pieces(words, allowed)

    def _longest_at(
        self, words: Sequence[Word], forms: Sequence[tuple[str, ...]], index: int
    ) -> tuple[Entry | None, int]:
        """The longest entry that starts at word `index`, and its length in words."""
        best: tuple[Entry | None, int] = (None, 0)
        nodes, one_clause = [self._words], True
        for length in range(1, len(words) - index + 1):
            candidates = forms[index + length - 1]
            nodes = [node.following[form] for node in nodes for form in candidates if form in node.following]
            if not nodes:
                break
            one_clause = one_clause and (length == 1 or not words[index + length - 1].starts_clause)
            ends = [node.entry for node in nodes if node.entry and (one_clause or not node.entry.exception)]
            if ends:
                best = (next((entry for entry in ends if entry.exception), ends[0]), length)
        return best

    def _search_unspaced(self, words: Sequence[Word], compact: str) -> Hit | None:
        if self._unspaced_pattern is None:
            return None
        clauses, at = set(), 0  # the places in `compact` where a clause starts
        for word in words:
            if word.starts_clause:
                clauses.add(at)
            at += len(word.text)
        at = 0
        while match := self._unspaced_pattern.search(compact, at):
            entry = self._unspaced[match[0]]
            if not entry.exception:
                return entry.hit
            at = match.end()
            if not clauses.isdisjoint(range(match.start() + 1, at)):
                shorter = (compact[match.start() : end] for end in range(at - 1, match.start(), -1))
                term = next((self._unspaced[text] for text in shorter if text in self._unspaced), entry)
                if not term.exception:
                    return term.hit
                at = match.start() + 1
        return None

    def _search_pieces(self, words: Sequence[Word], allowed: Sequence[bool]) -> Hit | None:
        """Words taken apart: "h a n d g u n", "pis-tol", "han dgun"."""
        for start in range(len(words)):
            joined, tight, single = "", True, True
            for end in range(start, len(words)):
                word = words[end]
                joined += word.text
                entry = self._pieces.get(loose(joined), _NOWHERE)
                if allowed[end] or entry is _NOWHERE:
                    break
                tight = tight and (word.tight or end == start)
                single = single and len(word.text) == 1
                pieces = end - start + 1
                if entry is None or pieces < 2 or not _means(joined, entry):
                    continue
                if tight or len(joined) >= LONG or (single and pieces >= SPELLED):
                    return entry.hit
        return None


def _means(joined: str, entry: Entry) -> bool:
    """Whether pieces spell the entry out: digits for letters only among letters, and a listed digit as it stands."""
    if any(map(str.isdigit, entry.text)):
        return joined == normalise(entry.text).compact
    return sum(map(str.isalpha, joined)) >= 2


def judge_text(text: str, blocklist: Blocklist, *, what: str = "text") -> Verdict:
    """Refuse a text that names something listed. The message calls the text `what` and names the listed term only."""
    hit = blocklist.search(text)
    if hit is None:
        return allow()
    named = f"The {what} names something on the list “{hit.list}” ({hit.language}): {hit.term}."
    return refuse(Reason.BLOCKLIST, named)


def _entries(path: Path) -> Iterator[Entry]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        raise BlocklistError(f"there is no list {path}.") from None
    except UnicodeDecodeError:
        raise BlocklistError(f"{path} isn't UTF-8 text.") from None
    except OSError as error:
        raise BlocklistError(f"{path} can't be read: {error.strerror}.") from None
    section = None
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        if text.startswith("[") and text.endswith("]"):
            section = text[1:-1].strip()
        elif text.startswith("!"):
            yield Entry(text[1:].strip(), section or "", path.stem, exception=True)
        elif not section:
            raise BlocklistError(f"{path}, line {number}: a term stands above the first [section].")
        else:
            yield Entry(text, section, path.stem)


def _add(index: dict[str, Entry], at: str, entry: Entry) -> None:
    """The first of two equal entries stays, but an exception wins over a term."""
    if at not in index or entry.exception:
        index[at] = entry


def _alternatives(index: Mapping[str, Entry]) -> re.Pattern[str] | None:
    """A pattern that finds, from left to right, the longest entry at each place."""
    return re.compile("|".join(map(re.escape, sorted(index, key=len, reverse=True)))) if index else None


def _first(pattern: re.Pattern[str] | None, index: Mapping[str, Entry], text: str) -> Hit | None:
    """The first term in `text` that no exception uses up."""
    for match in pattern.finditer(text) if pattern else ():
        entry = index[match[0]]
        if not entry.exception:
            return entry.hit
    return None
