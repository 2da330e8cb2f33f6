"""Blocklists: listed terms, found in a way that spelling tricks don't get round."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from ahocorasick_rs import AhoCorasick

from safety.text.blocklist_file import BlocklistEntry, Hit, check_entry, entry_words, read_entries
from safety.text.memo import Memo
from safety.text.normalise import UNSPACED, Normalised, Reading, normalise
from safety.text.spelling import LONG, has_repeats, holds, listed, loose, plurals, spellings, squeezed

# "g u n": this many single characters in a row spell a word out.
SPELLED = 3
LEAST_WITH_DIGITS = 4  # characters of a word in which a single letter is left: "4k47"
_FIRST_UNSPACED = "\u2e80"  # of Han, kana and Hangul
_NOWHERE = BlocklistEntry("", "", "")  # the answer for pieces that begin nothing listed


class FoundEntry(NamedTuple):
    """An entry that a text contains."""

    entry: BlocklistEntry
    written: str  # the words of the text that say so, folded: "p1st0l"


@dataclass
class _Node:
    """A step of the word index: the words that may follow, and the entry that ends here."""

    following: dict[str, _Node] = field(default_factory=dict)
    entry: BlocklistEntry | None = None


class _Forms(NamedTuple):
    """The words of the index that a written word may be meant by."""

    keys: tuple[str, ...]
    begins: bool  # an entry


class Blocklist:
    """Terms that are refused, and exceptions in which they are allowed.

    Text is read from left to right; at each place the longest listed entry is taken, and an exception uses up its
    words. So "glue gun" is allowed where "gun" isn't, and 消毒品 (disinfectant) isn't cut into 消 and 毒品 (drugs). A
    term is found across punctuation, because tricksters put some in; an exception isn't, because "a glass of water,
    gun" is no water gun.

    Scripts with spaces are matched by whole words and their plurals, the others by substring. All terms are searched
    for at once: a text costs as much with five thousand of them as with five.
    """

    def __init__(self, entries: Iterable[BlocklistEntry]) -> None:
        self.entries = tuple(dict.fromkeys(entries))
        self._words = _Node()
        self._meant: dict[str, tuple[str, ...]] = {}  # a word of the index, or its plural: the words that it may be
        self._squeezed: dict[str, tuple[str, ...]] = {}  # squeezed key: words of the index
        self._with_digits: dict[str, str] = {}  # "akat": "ak47"
        # Terms and their plurals without spaces, and every beginning of them, so that a search for pieces ends early.
        self._pieces: dict[str, BlocklistEntry | None] = {}
        # A long word is also found inside longer ones: "blackpistol". A short one would be found in innocent ones.
        self._inside: dict[str, tuple[str, BlocklistEntry]] = {}  # with its letters, of which the key lumps some
        self._unspaced: dict[str, BlocklistEntry] = {}
        for entry in self.entries:
            words = entry_words(check_entry(entry))
            compact = "".join(words)
            if UNSPACED.search(compact):
                if entry.exception or compact not in self._unspaced:
                    self._unspaced[compact] = entry
                continue
            self._insert(words, entry)
            joined = loose(listed(compact))
            if not entry.exception:
                self._insert_pieces(joined, entry)
            whole = len(words) == 1 or not entry.exception
            first = entry.exception or joined not in self._inside
            if len(compact) >= LONG and compact.isalpha() and whole and first:
                self._inside[joined] = compact, entry
        taken_apart = (piece for piece, entry in self._pieces.items() if entry and len(piece) >= LONG)
        self._long_automaton = _automaton([*self._inside, *taken_apart])
        self._unspaced_automaton = _automaton(self._unspaced)
        self._forms = Memo(self._forms_of)

    @classmethod
    def read(cls, paths: Sequence[Path]) -> Blocklist:
        """Read lists from text files.

        Raises:
            BlocklistError: if a file is missing, isn't UTF-8, or has a term outside any section.
        """
        return cls(entry for path in paths for entry in read_entries(path))

    def __reduce__(self) -> tuple[type[Blocklist], tuple[tuple[BlocklistEntry, ...]]]:
        return type(self), (self.entries,)

    def extended(self, *, refuse: Sequence[str] = (), allow: Sequence[str] = ()) -> Blocklist:
        """Return the same lists with more terms and exceptions, which a policy may bring itself."""
        more = [BlocklistEntry(text, "policy", "policy") for text in refuse]
        more += [BlocklistEntry(text, "policy", "policy", exception=True) for text in allow]
        return Blocklist([*self.entries, *more]) if more else self

    @property
    def contents(self) -> list[list[str]]:
        """Everything in the lists that decides a verdict, in an order that doesn't depend on the files'."""
        return sorted([entry.language, entry.list, "!" * entry.exception, entry.text] for entry in self.entries)

    def search(self, text: str | Normalised) -> Hit | None:
        """Return the first listed term in `text`, or None. Time grows in proportion to the text."""
        return next((found.entry.hit for found in self.find(text) if not found.entry.exception), None)

    def find(self, text: str | Normalised) -> Iterator[FoundEntry]:
        """Give everything listed in `text`: terms, and the exceptions that allow what they name."""
        for reading in (normalise(text) if isinstance(text, str) else text).readings:
            yield from self._find_words(reading)
            yield from self._find_unspaced(reading)

    def _insert(self, words: Sequence[str], entry: BlocklistEntry) -> None:
        node = self._words
        for word in words:
            meant = listed(word)
            for written in (meant, *plurals(meant)):
                self._meant[written] = tuple(dict.fromkeys([*self._meant.get(written, ()), meant]))
            if not word.isalpha():
                self._with_digits.setdefault(loose(word), meant)
            if len(word) >= 3:
                short = squeezed(word)
                self._squeezed[short] = tuple(dict.fromkeys([*self._squeezed.get(short, ()), meant]))
            node = node.following.setdefault(meant, _Node())
        if node.entry is None or entry.exception:
            node.entry = entry

    def _insert_pieces(self, joined: str, entry: BlocklistEntry) -> None:
        for whole in (joined, *plurals(joined)):
            for end in range(1, len(whole)):
                self._pieces.setdefault(whole[:end])
            self._pieces[whole] = self._pieces.get(whole) or entry

    def _forms_of(self, word: str) -> _Forms | None:
        if UNSPACED.match(word):
            return None
        keys = [meant for spelling in spellings(word) for meant in self._meant.get(spelling, ())]
        if len(word) >= LONG or has_repeats(word):
            for written in dict.fromkeys([word, word.rstrip("sz")]):
                keys += [meant for meant in self._squeezed.get(squeezed(written), ()) if holds(written, meant)]
        if len(word) >= LEAST_WITH_DIGITS and not word.isalpha() and not word.isdigit():
            keys += filter(None, [self._with_digits.get(loose(word))])
        if not keys:
            return None
        return _Forms(tuple(dict.fromkeys(keys)), any(key in self._words.following for key in keys))

    def _find_words(self, reading: Reading) -> Iterator[FoundEntry]:
        words = reading.words
        forms = [*map(self._forms.__getitem__, words)]
        used: set[int] = set()  # words that an exception allows
        if any(forms):
            at = 0
            while at < len(words):
                here = forms[at]
                entry, length = self._longest_at(reading, forms, at) if here and here.begins else (None, 0)
                if entry:
                    yield FoundEntry(entry, " ".join(words[at : at + length]))
                    if entry.exception:
                        used.update(range(at, at + length))
                at += length or 1
        joined = loose("".join(words))
        across: set[int] = set()  # words at which a long term may begin that goes on in the next
        if long := _matches(self._long_automaton, joined):
            ends = [*accumulate(map(len, words))]
            inside: dict[int, list[tuple[int, int]]] = {}
            for start, end in long:
                word = bisect_right(ends, start)
                if end > ends[word]:
                    across.add(word)
                elif word not in used and len(words[word]) > LONG:
                    inside.setdefault(word, []).append((start, end))
            for word, matches in inside.items():
                yield from self._find_inside(words[word], ends[word] - len(words[word]), matches, joined)
        starts = across | _tight_starts(reading) | _single_starts(words)
        if starts:
            yield from self._find_pieces(reading, sorted(starts), used)

    def _longest_at(
        self, reading: Reading, forms: Sequence[_Forms | None], start: int
    ) -> tuple[BlocklistEntry | None, int]:
        """Return the longest entry that starts at word `start`, and its length in words."""
        best: tuple[BlocklistEntry | None, int] = (None, 0)
        nodes, one_clause = [self._words], True
        for at in range(start, len(forms)):
            here = forms[at]
            if here is None:
                break
            nodes = [node.following[key] for node in nodes for key in here.keys if key in node.following]
            if not nodes:
                break
            one_clause = one_clause and (at == start or not reading.starts_clause(at))
            ends = [node.entry for node in nodes if node.entry and (one_clause or not node.entry.exception)]
            if ends:
                best = (next((entry for entry in ends if entry.exception), ends[0]), at - start + 1)
        return best

    def _find_inside(
        self, word: str, offset: int, matches: Sequence[tuple[int, int]], joined: str
    ) -> Iterator[FoundEntry]:
        """Find long terms in a word that starts at `offset` of the text `joined`, where `matches` are."""
        found: list[tuple[int, int, BlocklistEntry]] = []
        for start, end in matches:
            listed_as, entry = self._inside.get(joined[start:end], ("", _NOWHERE))
            letters = zip(word[start - offset : end - offset], listed_as, strict=False)
            # To the key, "decentralised" has "entrails" in it. In so long a word, only digits may be other letters.
            if listed_as and all(written == meant or written.isdigit() for written, meant in letters):
                found.append((start, end, entry))
        yield from (FoundEntry(entry, word) for entry in _longest(found) if not entry.exception)

    def _find_unspaced(self, reading: Reading) -> Iterator[FoundEntry]:
        compact = "".join(reading.words)
        if compact.isascii():
            return
        found = [
            (start, end, self._unspaced[compact[start:end]])
            for start, end in _matches(self._unspaced_automaton, compact)
        ]
        if any(entry.exception for _, _, entry in found):
            found = _fitting(reading, found)
        yield from (FoundEntry(entry, entry.text) for entry in _longest(found))

    def _find_pieces(self, reading: Reading, starts: Iterable[int], used: set[int]) -> Iterator[FoundEntry]:
        """Find words that were taken apart: "h a n d g u n", "pis-tol", "han dgun"."""
        words = reading.words
        for start in starts:
            joined, tight, single, lettered = "", True, True, True
            for end in range(start, len(words)):
                word = words[end]
                joined += word
                entry = self._pieces.get(loose(joined), _NOWHERE)
                if end in used or entry is _NOWHERE:
                    break
                tight = tight and (end == start or reading.is_tight(end))
                single = single and len(word) == 1
                lettered = lettered and (len(word) == 1 or not word.isdigit())  # "foil 35" is no "foils"
                pieces = end - start + 1
                if entry is None or pieces < 2 or not _means(joined, entry):
                    continue
                if tight or (len(joined) >= LONG and lettered) or (single and pieces >= SPELLED):
                    yield FoundEntry(entry, " ".join(words[start : end + 1]))


def _fitting(
    reading: Reading, found: Sequence[tuple[int, int, BlocklistEntry]]
) -> list[tuple[int, int, BlocklistEntry]]:
    """Return what of an unspaced script is meant where words have something between them.

    An exception doesn't reach from one clause into the next. And a term that begins inside a word and ends in another
    gives way to an exception there: a grey hair dryer (吹风机 枪灰色) is no machine gun (机枪), but 手 枪灰色 is a gun.
    """
    ends = [*accumulate(map(len, reading.words))]
    clauses = [end for at, end in enumerate(ends[:-1], 1) if reading.starts_clause(at)]
    exceptions = ((start, end) for start, end, entry in found if entry.exception)
    allowed = {
        (start, end) for start, end in exceptions if bisect_right(clauses, start) == bisect_right(clauses, end - 1)
    }
    begun = sorted(start for start, _ in allowed)
    fitting = []
    for start, end, entry in found:
        if entry.exception:
            fits = (start, end) in allowed
        else:
            word = bisect_right(ends, start)
            crosses = ends[word] - len(reading.words[word]) < start < ends[word] < end
            fits = not crosses or bisect_left(begun, ends[word]) == bisect_left(begun, end)
        if fits:
            fitting.append((start, end, entry))
    return fitting


def _tight_starts(reading: Reading) -> set[int]:
    """Return words, of letters that make up words, that the next one follows without a space."""
    words, gaps = reading
    tight = map(_TIGHT.__getitem__, gaps)
    return {at - 1 for at, follows in enumerate(tight) if follows and at and words[at - 1] < _FIRST_UNSPACED}


def _single_starts(words: Sequence[str]) -> set[int]:
    """Return single characters that are followed by so many that they may spell a word."""
    lengths = [*map(len, words)]
    if lengths.count(1) < SPELLED:
        return set()
    return {at for at in range(len(words)) if lengths[at : at + SPELLED] == [1] * SPELLED}


_TIGHT = Memo(lambda gap: not any(map(str.isspace, gap)))


def _automaton(texts: Iterable[str]) -> AhoCorasick | None:
    """Return what finds many texts in another at once."""
    patterns = list(dict.fromkeys(texts))
    return AhoCorasick(patterns) if patterns else None


def _matches(automaton: AhoCorasick | None, text: str) -> list[tuple[int, int]]:
    """Return where each of an automaton's texts starts and ends in `text`, also those inside others."""
    if automaton is None:
        return []
    return [(start, end) for _, start, end in automaton.find_matches_as_indexes(text, overlapping=True)]


def _longest(found: Sequence[tuple[int, int, BlocklistEntry]]) -> Iterator[BlocklistEntry]:
    """Give the longest at each place, from left to right; what begins inside one that was taken isn't looked at."""
    done = 0
    for start, end, entry in sorted(found, key=lambda match: (match[0], -match[1])):
        if start >= done:
            yield entry
            done = end


def _means(joined: str, entry: BlocklistEntry) -> bool:
    """Say whether pieces spell the entry out: digits for letters only among letters, a listed digit as it stands."""
    if any(map(str.isdigit, entry.text)):
        return joined == "".join(entry_words(entry))
    return sum(map(str.isalpha, joined)) >= 2
