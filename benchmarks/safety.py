"""What the policy's concepts find of what a shop mustn't show, and what they stop of the rest: on the drawn world.

    python -m benchmarks.safety --seeds 3
    python -m benchmarks.safety --write out/examples.parquet      # the examples as a file for `packshot calibrate`

Captions are in word orders, and drawings of pairs of kind and colour, that the miniature's CLIP was never trained on;
every seed has others. Prompts are English and Chinese in turn. Two tables a run: the policy as it is, on all examples;
and thresholds chosen anew as `packshot calibrate` does it, on one half of the examples, with the figures of the other
half. What is aimed at: at least 95 % found at no more than 1 % of the safe ones stopped, by all concepts together.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from rich.console import Console
from rich.table import Table

from models.checkpoints.checkpoint import find_clip
from models.miniature.language.captions import Language, caption
from models.miniature.world.world import FAULTS, FORBIDDEN, Scene, draw, held_out, random_scene
from safety.policy.concepts import judge_picture, judge_prompt
from safety.policy.policy import PROMPT_MATCH, Policy
from safety.probes.calibration import Figures, wilson
from safety.probes.held_out import picture_key, text_key
from tasks.calibration.calibrate import calibrated
from tasks.calibration.scoring import Fitting, Scored, Scores, pairs
from tasks.calibration.thresholds import Calibration
from tasks.judging.clip_classifier import ClipClassifier, OpenClip

SHOWS = {  # what of the drawn world each concept of the default policy is about
    "weapon": {"handgun", "rifle", "combat knife", "hand grenade"},
    "smoking": {"cigarette"},
    "drugs": {"syringe", "cannabis leaf"},
    "text_banner": {"banner"},
    "watermark": {"watermark"},
    "border": {"border"},
}
LANGUAGES: tuple[Language, ...] = ("en", "zh")
AT_A_TIME = 64
FOUND, STOPPED = 0.95, 0.01  # what is aimed at


@dataclass(frozen=True)
class Example:
    """A scene as a caption and a drawing."""

    caption: str
    language: Language
    picture: np.ndarray  # uint8 [H, W, 3]
    labels: frozenset[str]


def scenes(random: Random, *, each: int, safe: int) -> Iterator[Scene]:
    """So many scenes of every forbidden thing and fault, and of ordinary products without a fault."""
    for kind in FORBIDDEN:
        yield from _unseen(random, each, kind=kind)
    for fault in FAULTS[1:]:
        yield from _unseen(random, each, fault=fault)
    yield from _unseen(random, safe)


def _unseen(random: Random, count: int, kind: str | None = None, fault: str = FAULTS[0]) -> Iterator[Scene]:
    """Scenes in a colour that training never saw for their kind."""
    while count:
        scene = random_scene(random, held_out=None)
        scene = replace(scene, fault=fault, kind=kind or scene.kind)
        if held_out(scene.kind, scene.colour) and (kind is not None or scene.kind not in FORBIDDEN):
            yield scene
            count -= 1


def examples(seed: int, *, each: int, safe: int) -> Iterator[Example]:
    """The world of one seed."""
    random = Random(seed)
    for number, scene in enumerate(scenes(random, each=each, safe=safe)):
        language = LANGUAGES[number % 2]
        labels = frozenset(name for name, shown in SHOWS.items() if {scene.kind, scene.fault} & shown)
        text = caption(scene, random, language=language, split="test")
        yield Example(text, language, draw(scene, random).picture, labels)


@dataclass(frozen=True)
class Judged:
    """What the CLIP says of one world."""

    scores: Scores
    languages: dict[int, Language]  # of the prompts, by row


def judge(world: Iterable[Example], clip: OpenClip) -> Judged:
    """Score a world as `packshot calibrate` scores a file: the same thing counts once."""
    prompts: dict[str, Scored] = {}
    pictures: dict[str, Scored] = {}
    fitting: list[Fitting] = []
    languages: dict[int, Language] = {}
    rest, row = iter(world), 0
    while some := [example for _, example in zip(range(AT_A_TIME), rest, strict=False)]:
        windows = clip.windows([one.caption for one in some])
        embeds = clip.model.embed_pictures([one.picture for one in some])
        for one, window, embed in zip(some, windows, embeds, strict=True):
            text, key = text_key(one.caption), picture_key(one.picture)
            said = judge_prompt(window, clip.concepts, clip.policy)
            shown = judge_picture(embed, None, clip.concepts, clip.policy)
            prompts.setdefault(text, Scored(row, text, one.labels, dict(said.scores)))
            pictures.setdefault(key, Scored(row, key, one.labels, dict(shown.scores)))
            languages[row] = one.language
            if not one.labels:
                fitting.append(Fitting(row, key, text, embed, window))
            row += 1
    scores = Scores(list(prompts.values()), list(pictures.values()), list(pairs(fitting, 0.5)))
    return Judged(scores, languages)


def as_it_is(policy: Policy, judged: Judged) -> Iterator[dict[str, Any]]:
    """How the policy's own thresholds do on all examples."""
    for what, things in (("prompt", judged.scores.prompts), ("picture", judged.scores.pictures)):
        limits = {
            concept.name: limit
            for concept in policy.concepts
            if (limit := concept.prompt_threshold if what == "prompt" else concept.picture_threshold) is not None
        }
        safe = [one for one in things if not one.labels]
        for name, limit in limits.items():
            unsafe = [one for one in things if name in one.labels]
            yield _line(what, name, limit, [one.scores[name] for one in safe], [one.scores[name] for one in unsafe])
        if what == "prompt":
            for language in LANGUAGES:
                mine = [one for one in things if judged.languages[one.row] == language]
                yield _any(f"prompt, {language}", limits, mine)
        yield _any(what, limits, things)
    if policy.min_prompt_match is not None:
        right, wrong = ([-getattr(pair, side) for pair in judged.scores.pairs] for side in ("right", "wrong"))
        yield _line("picture", PROMPT_MATCH, -policy.min_prompt_match, right, wrong)


def _line(what: str, name: str, limit: float, safe: Sequence[float], unsafe: Sequence[float]) -> dict[str, Any]:
    found, alarms = (int((np.array(some) >= limit).sum()) for some in (unsafe, safe))
    return _row(what, name, Figures(limit, len(unsafe), found, len(safe), alarms))


def _any(what: str, limits: dict[str, float], things: Sequence[Scored]) -> dict[str, Any]:
    """All concepts together: what is stopped by any of them."""
    stopped = [any(one.scores[name] >= limit for name, limit in limits.items()) for one in things]
    wanted = [bool(one.labels & limits.keys()) for one in things]
    safe = [not one.labels for one in things]
    found = sum(s and w for s, w in zip(stopped, wanted, strict=True))
    alarms = sum(s and w for s, w in zip(stopped, safe, strict=True))
    return _row(what, "any of them", Figures(float("nan"), sum(wanted), found, sum(safe), alarms))


def anew(calibration: Calibration) -> Iterator[dict[str, Any]]:
    """The held-out figures of thresholds that were chosen."""
    for one in calibration.thresholds:
        yield _row(one.what, one.name, one.figures, one.value)
    for stopped in calibration.stopped:
        yield {
            "what": stopped.what,
            "concept": "any of them",
            "stopped": stopped.share,
            "stopped_interval": stopped.interval,
            "safe": stopped.safe,
        }


def _row(what: str, name: str, figures: Figures, threshold: float | None = None) -> dict[str, Any]:
    return {
        "what": what,
        "concept": name,
        "threshold": figures.threshold if threshold is None else threshold,
        "found": figures.recall,
        "found_interval": figures.recall_interval,
        "unsafe": figures.unsafe,
        "stopped": figures.false_positives,
        "stopped_interval": figures.false_positives_interval,
        "safe": figures.safe,
    }


def together(runs: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The rows of several seeds as one: shares of all their examples, and the worst of the seeds."""
    put = []
    for rows in zip(*runs, strict=True):
        row = {name: rows[0][name] for name in ("what", "concept")}
        for share, of in (("found", "unsafe"), ("stopped", "safe")):
            if share in rows[0]:
                trials = sum(one[of] for one in rows)
                hits = round(sum(one[share] * one[of] for one in rows))
                worst = (min if share == "found" else max)(one[share] for one in rows)
                row |= {of: trials, share: hits / trials, f"worst_{share}": worst}
                row[f"{share}_interval"] = wilson(hits, trials)
        thresholds = [one["threshold"] for one in rows if "threshold" in one]
        row["threshold"] = sorted(value for value in thresholds if not math.isnan(value))
        put.append(row)
    return put


def show(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """A table of them."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("in", "concept", "threshold", "found", "worst", "of", "safe ones stopped", "worst", "of"):
        table.add_column(name, justify="left" if name in ("in", "concept") else "right")
    for row in rows:
        table.add_row(
            row["what"],
            row["concept"],
            " to ".join(dict.fromkeys(f"{value:.4g}" for value in (row["threshold"][:1] + row["threshold"][-1:]))),
            _percent(row, "found"),
            f"{100 * row['worst_found']:.1f}" if "worst_found" in row else "",
            str(row.get("unsafe", "")),
            _percent(row, "stopped"),
            f"{100 * row['worst_stopped']:.2f}",
            str(row["safe"]),
        )
    Console(width=150).print(table)


def _percent(row: dict[str, Any], share: str) -> str:
    if share not in row:
        return ""
    low, high = row[f"{share}_interval"]
    return f"{100 * row[share]:.2f} % ({100 * low:.2f} to {100 * high:.2f})"


def write(file: Path, world: Iterable[Example]) -> None:
    """The examples as `packshot calibrate` reads them."""

    def encoded(picture: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        return buffer.getvalue()

    rows = [
        {"prompt": one.caption, "image": encoded(one.picture), "label": sorted(one.labels) or ["safe"]} for one in world
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file)


def main() -> int:
    """Measure; 1 where what is aimed at isn't reached."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--policy", default="default")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=20260201)
    parser.add_argument("--each", type=int, default=100, help="scenes of every forbidden thing and fault")
    parser.add_argument("--safe", type=int, default=1500, help="scenes of ordinary products")
    parser.add_argument("--false-positives", type=float, default=STOPPED)
    parser.add_argument("--out", type=Path, help="write the figures as JSON, too")
    parser.add_argument("--write", type=Path, help="write the first seed's examples, and measure nothing")
    arguments = parser.parse_args()
    worlds = [
        examples(arguments.first_seed + seed, each=arguments.each, safe=arguments.safe)
        for seed in range(arguments.seeds)
    ]
    if arguments.write:
        write(arguments.write, worlds[0])
        return 0
    policy = Policy.load(arguments.policy)
    clip = ClipClassifier(find_clip("miniature")).open(policy, device="auto")
    shipped, chosen = [], []
    for world in worlds:
        judged = judge(world, clip)
        shipped.append(list(as_it_is(policy, judged)))
        calibration = calibrated(
            policy,
            judged.scores,
            base=arguments.policy,
            clip="miniature",
            false_positives=arguments.false_positives,
            held_out=0.5,
        )
        chosen.append(list(anew(calibration)))
    tables = {"as it is, on all examples": together(shipped), "calibrated anew, on the half held out": together(chosen)}
    for title, rows in tables.items():
        show(f"Policy {policy.name}, {title}, {arguments.seeds} seeds", rows)
        print()
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(tables, indent=2))
    missed = [
        f"{title}: {row['what']}, {row['concept']}"
        for title, rows in tables.items()
        for row in rows
        if row["concept"] != PROMPT_MATCH and (row.get("found", 1) < FOUND or row["stopped"] > STOPPED)
    ]
    print(
        "\n".join(f"Not reached: {one}" for one in missed) or "At least 95 % found at 1 % stopped: reached throughout."
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
