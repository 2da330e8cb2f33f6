"""How fast the blocklist is, what it finds of hidden terms, and what it stops of plain titles.

    python -m benchmarks.blocklist

Recall: every shipped term (or every line of `--lists FILE…`) is hidden in every way of `benchmarks.disguises`, and put
into a sentence. False positives: titles of `benchmarks.titles`, captions of ordinary products of the drawn catalogue,
and `--titles FILE`, one title a line. Speed: the same titles and captions, normalised and searched one after another in
this process, with the shipped terms and invented ones, 5,000 in all. Words are remembered between texts: the first
pass starts without any memory, and the worst case, texts of words that were never there before, is measured, too.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.disguises import DISGUISES
from benchmarks.titles import titles
from models.miniature.language.captions import caption
from models.miniature.world.world import FAULTS, FORBIDDEN, random_scene
from safety.policy.policy import Policy
from safety.probes.calibration import wilson
from safety.text.blocklist import Blocklist
from safety.text.blocklist_file import BlocklistEntry

SEED = 20261125
SURROUNDINGS = {"en": "photo of a {} on white", "zh": "一张{}的照片，白底"}
_ONSETS = [*"bcdfghklmnprstvwz", "br", "cl", "dr", "st", "tr"]
_SYLLABLES = [onset + vowel for onset in _ONSETS for vowel in "aeiou"]


def recall(
    entries: Iterable[BlocklistEntry], blocklist: Blocklist, *, each: int, seed: int = SEED
) -> dict[str, tuple[int, int]]:
    """For every disguise: how many hidden terms were found, of how many.

    Args:
        each: how many times every term is hidden in every way.
    """
    found: Counter[str] = Counter()
    hidden: Counter[str] = Counter()
    terms = [entry for entry in entries if not entry.exception]
    for name, disguise in DISGUISES.items():
        random = Random(f"{seed} {name}")
        for entry in terms:
            for _ in range(each):
                written = disguise(entry.text, random)
                if written is None:
                    continue
                text = SURROUNDINGS["en" if entry.text.isascii() else "zh"].format(written)
                hidden[name] += 1
                found[name] += blocklist.search(text) is not None
    return {name: (found[name], hidden[name]) for name in DISGUISES if hidden[name]}


def ordinary_captions(random: Random, number: int) -> list[str]:
    """Captions of the drawn catalogue's ordinary products, English and Chinese in turn."""
    texts: list[str] = []
    while len(texts) < number:
        scene = random_scene(random, held_out=None)
        if scene.kind not in FORBIDDEN and scene.fault == FAULTS[0]:
            texts.append(caption(scene, random, language=("en", "zh")[len(texts) % 2], split="test"))
    return texts


def filled_up(blocklist: Blocklist, number: int, random: Random) -> Blocklist:
    """The same list with invented terms of one to three words, so many entries in all."""
    entries = dict.fromkeys(blocklist.entries)
    while len(entries) < number:
        entries[BlocklistEntry(_invented(random, random.choice([1, 1, 2, 3])), "invented", "none")] = None
    return Blocklist(entries)


def _invented(random: Random, words: int) -> str:
    return " ".join("".join(random.choices(_SYLLABLES, k=random.randint(2, 4))) for _ in range(words))


def texts_a_second(blocklist: Blocklist, texts: Sequence[str]) -> float:
    """How many texts are normalised and searched in a second of one core, one after another."""
    start = time.process_time()
    for text in texts:
        blocklist.search(text)
    return len(texts) / (time.process_time() - start)


def stopped(blocklist: Blocklist, texts: Iterable[str]) -> list[str]:
    """The texts in which something listed is found."""
    return [text for text in texts if blocklist.search(text)]


def main() -> None:
    """Measure all of it, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="default")
    parser.add_argument("--lists", type=Path, nargs="*", default=[], help="measure recall on these terms, one a line")
    parser.add_argument("--titles", type=Path, nargs="*", default=[], help="plain titles, one a line")
    parser.add_argument("--each", type=int, default=5, help="times every term is hidden in every way")
    parser.add_argument("--number", type=int, default=20_000, help="titles, and captions")
    parser.add_argument("--terms", type=int, default=5000)
    parser.add_argument("--out", type=Path, help="write the figures as JSON, too")
    arguments = parser.parse_args()
    blocklist = Policy.load(arguments.policy).blocklist
    measured: dict[str, Any] = {"terms": {}, "recall": {}, "stopped": {}, "texts_a_second": {}}

    lists = {arguments.policy: (blocklist.entries, blocklist)}
    for path in arguments.lists:
        terms = [
            BlocklistEntry(line.strip(), "terms", path.stem)
            for line in path.read_text("utf-8").splitlines()
            if line.strip()
        ]
        lists[path.name] = (tuple(terms), Blocklist(terms))
    for name, (entries, searched) in lists.items():
        measured["terms"][name] = sum(not entry.exception for entry in entries)
        measured["recall"][name] = recall(entries, searched, each=arguments.each)

    random = Random(SEED)
    plain = {
        "titles": titles(random, arguments.number),
        "captions": ordinary_captions(random, arguments.number),
        **{path.name: path.read_text("utf-8").splitlines() for path in arguments.titles},
    }
    for name, texts in plain.items():
        measured["stopped"][name] = (len(stopped(blocklist, texts)), len(texts))

    full = filled_up(blocklist, arguments.terms, random)
    strange = [_invented(random, 12) for _ in range(arguments.number)]
    for name, texts in {**plain, "new words": strange}.items():
        fresh = Blocklist(full.entries)
        passes = [texts_a_second(fresh, texts) for _ in range(3)]
        length = sum(map(len, texts)) / len(texts)
        measured["texts_a_second"][name] = {"first": passes[0], "later": max(passes[1:]), "characters": length}
    _show(measured)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(measured, indent=2) + "\n")


def _show(measured: dict[str, Any]) -> None:
    console = Console(width=140)
    for name, kinds in measured["recall"].items():
        table = Table(title=f"{name}: {measured['terms'][name]} terms, hidden", title_justify="left")
        for column in ("how", "found", "of", "recall", "95 % interval"):
            table.add_column(column, justify="left" if column == "how" else "right")
        all_of_them = tuple(map(sum, zip(*kinds.values(), strict=True)))
        for kind, (found, hidden) in [*kinds.items(), ("all", all_of_them)]:
            low, high = wilson(found, hidden)
            table.add_row(kind, str(found), str(hidden), f"{found / hidden:.2%}", f"{low:.2%} to {high:.2%}")
        console.print(table)
    table = Table(title="Plain texts", title_justify="left")
    for column in ("texts", "stopped", "of", "share", "characters", "first pass, 1/s", "later, 1/s"):
        table.add_column(column, justify="left" if column == "texts" else "right")
    for name, speed in measured["texts_a_second"].items():
        stops, total = measured["stopped"].get(name, (None, None))
        share = [str(stops), str(total), f"{stops / total:.3%}"] if total else ["", "", ""]
        table.add_row(name, *share, *(f"{speed[part]:,.0f}" for part in ("characters", "first", "later")))
    console.print(table)


if __name__ == "__main__":
    main()
