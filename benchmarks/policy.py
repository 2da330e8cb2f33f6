"""How well a policy tells what a shop must not show, through the miniature's CLIP: recall and false alarms by concept.

    python -m benchmarks.policy --out out/policy.json

Drawings and captions are fresh ones (captions in word orders that the CLIP was not trained on). A concept's own
drawings are unsafe; those that no concept is about are safe. `threshold` is the policy's; `suggested` is the lowest
that keeps false alarms on these examples within --false-alarms. The last row is about pictures that don't show what
their prompt asks for: unsafe are drawings beside the prompt of another kind of product.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from models.checkpoint import find_clip
from models.clip import Clip
from models.miniature.captions import caption
from models.miniature.world import FAULTS, FORBIDDEN, Scene, draw, random_scene
from safety.calibration import threshold_at, wilson
from safety.concepts import ConceptEmbeddings, embed_concepts, judge_picture, judge_prompt
from safety.policy import PROMPT_MATCH, Concept, Policy

SHOWS = {  # what of the drawn world each concept of the default policy is about
    "weapon": {"handgun", "rifle", "combat knife", "hand grenade"},
    "smoking": {"cigarette"},
    "drugs": {"syringe", "cannabis leaf"},
    "text_banner": {"banner"},
    "watermark": {"watermark"},
    "border": {"border"},
}


def scenes(random: Random, *, each: int, safe: int) -> list[Scene]:
    """So many scenes of every forbidden thing and fault, and of ordinary products without a fault."""
    found = []
    for kind in FORBIDDEN:
        found += [replace(random_scene(random, held_out=None), kind=kind, fault=FAULTS[0]) for _ in range(each)]
    ordinary = [random_scene(random, held_out=None) for _ in range(2 * (safe + each))]
    ordinary = [scene for scene in ordinary if scene.kind not in FORBIDDEN]
    for fault in FAULTS[1:]:
        found += [replace(scene, fault=fault) for scene in random.sample(ordinary, each)]
    return found + [replace(scene, fault=FAULTS[0]) for scene in random.sample(ordinary, safe)]


def shows(concept: Concept, scene: Scene) -> bool:
    """Whether a scene is what a concept is about."""
    return bool({scene.kind, scene.fault} & SHOWS[concept.name])


def is_safe(scene: Scene) -> bool:
    """Whether no concept is about a scene."""
    return not any({scene.kind, scene.fault} & shown for shown in SHOWS.values())


def picture_scores(
    clip: Clip, drawn: Sequence[Scene], concepts: ConceptEmbeddings, policy: Policy, random: Random
) -> list[dict[str, float]]:
    """The scores of each scene's drawing."""
    scores = []
    for start in range(0, len(drawn), 64):
        pictures = [draw(scene, random).picture for scene in drawn[start : start + 64]]
        scores += [dict(judge_picture(e, None, concepts, policy).scores) for e in clip.embed_pictures(pictures)]
    return scores


def prompt_scores(
    clip: Clip, drawn: Sequence[Scene], concepts: ConceptEmbeddings, policy: Policy, random: Random
) -> list[dict[str, float]]:
    """The scores of a caption of each scene, English and Chinese in turn."""
    texts = [
        caption(scene, random, language="zh" if number % 2 else "en", split="test")
        for number, scene in enumerate(drawn)
    ]
    return [dict(judge_prompt(windows, concepts, policy).scores) for windows in clip.embed_windows(texts)]


def match_scores(
    clip: Clip, drawn: Sequence[Scene], concepts: ConceptEmbeddings, policy: Policy, random: Random
) -> tuple[list[float], list[float]]:
    """How well drawings fit a prompt of their own, and how well one of another kind of product."""
    texts = [caption(scene, random, language=("en", "zh")[at % 2], split="test") for at, scene in enumerate(drawn)]
    windows = clip.embed_windows(texts)
    pictures = np.concatenate(
        [
            clip.embed_pictures([draw(scene, random).picture for scene in drawn[start : start + 64]])
            for start in range(0, len(drawn), 64)
        ]
    )
    strangers = [random.choice([at for at, one in enumerate(drawn) if one.kind != scene.kind]) for scene in drawn]

    def matches(prompts: Sequence[int]) -> list[float]:
        pairs = zip(pictures, prompts, strict=True)
        judged = (judge_picture(picture, windows[prompt], concepts, policy) for picture, prompt in pairs)
        return [dict(verdict.scores)[PROMPT_MATCH] for verdict in judged]

    return matches(range(len(drawn))), matches(strangers)


def figure(
    what: str, concept: str, unsafe: np.ndarray, safe: np.ndarray, threshold: float, allowed: float
) -> dict[str, Any]:
    """One row of the table; scores at or above the threshold are refused."""
    suggested = threshold_at(safe, unsafe, max_false_positives=allowed)
    found = unsafe >= threshold
    return {
        "what": what,
        "concept": concept,
        "unsafe": len(unsafe),
        "safe": len(safe),
        "threshold": threshold,
        "recall": float(found.mean()),
        "recall_interval": wilson(int(found.sum()), len(unsafe)),
        "false_alarms": float((safe >= threshold).mean()),
        "suggested": suggested.threshold,
        "lowest_unsafe": float(unsafe.min()),
        "highest_safe": float(safe.max()),
    }


def main() -> None:
    """Score, compare with the policy's thresholds, and suggest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", default="default")
    parser.add_argument("--each", type=int, default=120, help="scenes of every forbidden thing and fault")
    parser.add_argument("--safe", type=int, default=1500, help="scenes of ordinary products")
    parser.add_argument("--false-alarms", type=float, default=0.002)
    parser.add_argument("--out", type=Path, help="write the figures as JSON, too")
    arguments = parser.parse_args()
    policy, clip, random = Policy.load(arguments.policy), Clip.load(find_clip("miniature")), Random(20260101)
    concepts = embed_concepts(policy, clip.embed_texts)
    drawn = scenes(random, each=arguments.each, safe=arguments.safe)
    figures = []
    for what, score in (("picture", picture_scores), ("prompt", prompt_scores)):
        scores = score(clip, drawn, concepts, policy, random)
        for concept in policy.concepts:
            threshold = concept.picture_threshold if what == "picture" else concept.prompt_threshold
            if threshold is None:
                continue
            own = np.array([s[concept.name] for s, scene in zip(scores, drawn, strict=True) if shows(concept, scene)])
            other = np.array([s[concept.name] for s, scene in zip(scores, drawn, strict=True) if is_safe(scene)])
            figures.append(figure(what, concept.name, own, other, threshold, arguments.false_alarms))
    if policy.min_prompt_match is not None:
        # Low matches are refused, so all is negated.
        right, wrong = match_scores(clip, [scene for scene in drawn if is_safe(scene)], concepts, policy, random)
        least, allowed = -policy.min_prompt_match, arguments.false_alarms
        figures.append(figure("picture", "-prompt_match", -np.array(wrong), -np.array(right), least, allowed))
    table = Table(title=f"Policy {policy.name} through the miniature's CLIP")
    for name in figures[0]:
        table.add_column(name, justify="left" if name in ("what", "concept") else "right")
    for row in figures:
        table.add_row(*(_shown(value) for value in row.values()))
    Console(width=170).print(table)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(figures, indent=2))


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " to ".join(f"{part:.3f}" for part in value)
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
