"""What the blocklist finds of hidden terms, and stops of plain titles, at a size that a test can afford.

`benchmarks.blocklist` measures the same with more of each.
"""

from pathlib import Path
from random import Random

import pytest

from benchmarks.blocklist import filled_up, ordinary_captions, recall, stopped
from benchmarks.disguises import DISGUISES, look_alikes
from benchmarks.titles import titles
from safety.policy.policy import Policy
from safety.text.blocklist import Blocklist
from safety.text.blocklist_file import BlocklistEntry


@pytest.fixture(scope="module")
def found(policy: Policy) -> dict[str, tuple[int, int]]:
    """For every disguise: how many hidden terms were found, of how many."""
    return recall(policy.blocklist.entries, policy.blocklist, each=1)


@pytest.mark.parametrize("disguise", DISGUISES)
def test_of_all_shipped_terms_nearly_all_are_found_in_every_disguise(found: dict[str, tuple[int, int]], disguise: str):
    hits, hidden = found[disguise]
    assert hidden > 100
    assert hits / hidden >= 0.97


def test_terms_in_any_look_alikes_of_uts_39_are_found(policy: Policy, public_data: Path):
    """In an edition of it that is newer than the one that is read from."""
    alike: dict[str, list[str]] = {}
    for line in (public_data / "unicode" / "confusables.txt").read_text("utf-8-sig").splitlines():
        source, _, target = line.partition("#")[0].partition(";")
        target = target.partition(";")[0].replace("0072 006E", "006D").strip()  # rn, which is its way to say m
        if len(source.split()) == 1 and len(target.split()) == 1 and chr(int(target, 16)).isalpha():
            alike.setdefault(chr(int(target, 16)).lower(), []).append(chr(int(source, 16)))
    random = Random(39)
    terms = [entry.text for entry in policy.blocklist.entries if not entry.exception and entry.language == "en"]
    hidden = [written for term in terms if (written := look_alikes(term, random, alike))]
    found = sum(policy.blocklist.search(f"photo of a {written} on white") is not None for written in hidden)
    assert len(hidden) > 300
    assert found / len(hidden) >= 0.97


@pytest.mark.parametrize("language", ["en", "zh", "ja", "de", "fr", "es", "ru", "ar", "ko"])
def test_hidden_terms_of_any_language_are_found(public_data: Path, language: str):
    lines = (public_data / "blocklists" / f"ldnoobw-{language}.txt").read_text("utf-8").splitlines()
    entries = [BlocklistEntry(line, "public", language) for line in lines if line]
    counts = recall(entries, Blocklist(entries), each=1).values()
    assert sum(hits for hits, _ in counts) / sum(hidden for _, hidden in counts) >= 0.97


def test_plain_titles_and_captions_are_hardly_ever_stopped(policy: Policy):
    random = Random(7)
    plain = [*titles(random, 4000), *ordinary_captions(random, 1000)]
    assert len(stopped(policy.blocklist, plain)) <= len(plain) / 1000


def test_five_thousand_terms_find_what_they_find_alone(policy: Policy):
    full = filled_up(policy.blocklist, 5000, Random(5))
    assert len(full.entries) == 5000
    invented = [entry.text for entry in full.entries if entry.list == "invented"]
    assert all(full.search(f"a {text} on white") for text in invented)
    ours = [entry for entry in policy.blocklist.entries if not entry.exception]
    assert all(full.search(entry.text) for entry in ours)
