"""The verdict on a text: minors beside something sexual, whatever a policy says, and then the policy's lists."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from safety.text.blocklist import Blocklist
from safety.text.blocklist_file import BlocklistEntry, read_entries
from safety.text.normalise import Normalised, normalise
from safety.verdict import Reason, Verdict, allow, refuse

ROOM = Path(__file__).parents[1]
SHIPPED = [ROOM / "blocklists" / "en.txt", ROOM / "blocklists" / "zh.txt"]
WORDS = [ROOM / "minors" / "english.txt", ROOM / "minors" / "chinese.txt"]
MINORS, YOUNG, SEXUAL, SUGGESTIVE = "minors", "young people", "sexual", "suggestive"
AGE = re.compile(r"(?<![\d.])(?:1[0-7]|[1-9]) ?(?:years? old|yrs? old|y o|yo|岁|周岁)(?![a-z])")
"""An age below 18, in a text's canonical form."""


class _Words(NamedTuple):
    people: Blocklist
    sexual: Blocklist


def judge_text(text: str, blocklist: Blocklist, *, what: str = "text") -> Verdict:
    """Refuse a text that names something listed, or a minor beside something sexual.

    The message calls the text `what`, and names the listed term only.
    """
    read = normalise(text)
    if (pair := _minor_beside_something_sexual(read)) is not None:
        minor, sexual = pair
        beside = f"a word for minors ({minor}) beside a sexual one ({sexual})"
        return refuse(Reason.BLOCKLIST, f"The {what} has {beside}, which is refused whatever a policy says.")
    hit = blocklist.search(read)
    if hit is None:
        return allow()
    named = f"The {what} names something on the list “{hit.list}” ({hit.language}): {hit.term}."
    return refuse(Reason.BLOCKLIST, named)


def _minor_beside_something_sexual(read: Normalised) -> tuple[str, str] | None:
    """Find a word for minors and a sexual one in the same text: in any order, with anything in between."""
    words = _words()
    people = _found(words.people, read)
    if aged := next((found[0] for reading in read.readings if (found := AGE.search(" ".join(reading.words)))), None):
        people.setdefault(MINORS, aged)
    if not people:
        return None
    sexual = _found(words.sexual, read)
    if MINORS in people and sexual:
        return people[MINORS], sexual.get(SEXUAL) or sexual[SUGGESTIVE]
    return (people[YOUNG], sexual[SEXUAL]) if YOUNG in people and SEXUAL in sexual else None


def _found(listed: Blocklist, read: Normalised) -> dict[str, str]:
    """Return the first term that a text has of each section."""
    terms: dict[str, str] = {}
    for found in listed.find(read):
        if not found.entry.exception:
            terms.setdefault(found.entry.list, found.entry.text)
    return terms


@cache
def _words() -> _Words:
    """Read the words. What the shipped lists have as sexual and is nothing but a word for minors isn't both at once."""
    ours = [entry for path in WORDS for entry in read_entries(path)]
    shipped = [entry for path in SHIPPED for entry in read_entries(path) if entry.list == SEXUAL]
    minors = {entry.text for entry in ours if entry.list in (MINORS, YOUNG)}
    sexual = [entry for entry in (*shipped, *ours) if entry.list in (SEXUAL, SUGGESTIVE) and _counts(entry, minors)]
    return _Words(Blocklist(entry for entry in ours if entry.list in (MINORS, YOUNG)), Blocklist(sexual))


def _counts(entry: BlocklistEntry, minors: set[str]) -> bool:
    return entry.exception or entry.text not in minors
