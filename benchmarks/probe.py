"""What a probe over the model's own prompt embeddings finds of what a shop must not show, beside the CLIP.

    python -m benchmarks.probe --out out/probe.json

Both judge the same captions of the miniature's world, in word orders that neither has seen: the probe is trained on
captions of the split "train" alone, and so was the miniature's text encoder. Thresholds of both are set where they stop
at most --false-alarms of safe captions, on captions of their own; recall and false alarms are measured on others, by
language, and again with each caption hidden among sentences of empty prose, far from the prompt's end. The last lines
are what a row costs: embedding it takes place anyway, pooling and judging don't.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.policy import SHOWS, scenes
from models.checkpoint import find_checkpoint, find_clip
from models.clip import Clip
from models.miniature.captions import Split, caption
from models.miniature.clauses import empty_sentence
from models.miniature.names import PROSE, Language
from models.pooled import pool_all, read_prompts
from models.prompt_embeds import embed_prompts
from models.reader import load_reader
from safety.calibration import threshold_at, wilson
from safety.concepts import embed_concepts, judge_prompt
from safety.policy import Policy
from safety.probe import judge_vectors
from safety.probe_training import SAFE, merged, train

LANGUAGES: tuple[Language, ...] = ("en", "zh")
SENTENCES = 12  # of empty prose around a caption, before and behind it
Scores = dict[str, np.ndarray]  # of each concept, [N]


@dataclass(frozen=True)
class Captions:
    """Captions with what they are about."""

    texts: list[str]
    labels: list[str]  # a concept's name, or `SAFE`

    def about(self, concept: str) -> np.ndarray:
        """Which captions are about a concept: bool [N]."""
        return np.array([label == concept for label in self.labels])


def write_captions(
    seed: int, concepts: Sequence[str], *, each: int, safe: int, split: Split, languages: Sequence[Language] = LANGUAGES
) -> Captions:
    """Captions of random scenes, each once; faults of pictures may be named and are safe here, as in a policy."""
    random, examples = Random(seed), []
    for number, scene in enumerate(scenes(random, each=each, safe=safe)):
        label = next((concept for concept in concepts if {scene.kind, scene.fault} & SHOWS[concept]), SAFE)
        text = caption(scene, random, language=languages[number % len(languages)], split=split)
        examples.append((text, frozenset({label})))
    found = merged(examples)
    return Captions(list(found), [next(iter(label)) for label in found.values()])


def hidden(captions: Captions, seed: int, language: Language) -> Captions:
    """The same captions, each among sentences that say nothing."""
    random, gap = Random(seed), " " if language == "en" else ""

    def prose() -> list[str]:
        return [
            random.choice(PROSE[language]) if random.random() < 0.5 else empty_sentence(random, language)
            for _ in range(SENTENCES)
        ]

    return Captions([gap.join([*prose(), text, *prose()]) for text in captions.texts], captions.labels)


def figures(
    name: str, score: Callable[[Sequence[str]], Scores], concepts: Sequence[str], allowed: float, arguments: Any
) -> list[dict[str, Any]]:
    """A row of figures for each concept and kind of caption."""
    chosen_on = write_captions(11, concepts, each=arguments.each, safe=arguments.safe, split="train")
    scores, thresholds = score(chosen_on.texts), {}
    for concept in concepts:
        safe, unsafe = scores[concept][chosen_on.about(SAFE)], scores[concept][chosen_on.about(concept)]
        thresholds[concept] = threshold_at(safe, unsafe, max_false_positives=allowed).threshold
    found = []
    for language in LANGUAGES:
        plain = write_captions(
            12, concepts, each=arguments.each, safe=arguments.safe, split="test", languages=[language]
        )
        for kind, captions in (("captions", plain), ("hidden in prose", hidden(plain, 13, language))):
            scores = score(captions.texts)
            for concept in concepts:
                caught = scores[concept][captions.about(concept)] >= thresholds[concept]
                alarms = scores[concept][captions.about(SAFE)] >= thresholds[concept]
                found.append(
                    {
                        "judge": name,
                        "prompts": kind,
                        "language": language,
                        "concept": concept,
                        "unsafe": len(caught),
                        "recall": float(caught.mean()),
                        "recall_interval": wilson(int(caught.sum()), len(caught)),
                        "safe": len(alarms),
                        "false_alarms": float(alarms.mean()),
                    }
                )
    return found


def clip_scores(policy: Policy) -> Callable[[Sequence[str]], Scores]:
    """How near prompts come to the policy's concepts, by the miniature's CLIP."""
    clip = Clip.load(find_clip("miniature"), device="cpu")
    concepts = embed_concepts(policy, clip.embed_texts)

    def score(texts: Sequence[str]) -> Scores:
        said = [judge_prompt(windows, concepts, policy).scores for windows in clip.embed_windows(list(texts))]
        return {concept.name: np.array([one[concept.name] for one in said]) for concept in policy.concepts}

    return score


def main() -> None:
    """Train, compare, time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=60, help="captions of every forbidden thing and fault")
    parser.add_argument("--safe", type=int, default=1500, help="captions of ordinary products")
    parser.add_argument("--false-alarms", type=float, default=0.005, help="share of safe captions, for thresholds")
    parser.add_argument("--out", type=Path, help="write the figures as JSON, too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    policy = Policy.load("default")
    concepts = [concept.name for concept in policy.concepts if concept.prompt_threshold is not None]
    reader = load_reader(find_checkpoint("miniature"), device="cpu")

    def vectors(texts: Sequence[str]) -> np.ndarray:
        found, _ = read_prompts(reader, texts)
        return np.stack([found[text] for text in texts])

    learned = write_captions(10, concepts, each=2 * arguments.each, safe=2 * arguments.safe, split="train")
    probe, _ = train(
        learned.texts,
        [frozenset({label}) for label in learned.labels],
        vectors(learned.texts),
        text_encoder="",
        checkpoint="miniature",
        pooling="",
    )
    places = {concept.name: place for place, concept in enumerate(probe.about.concepts)}

    def probe_scores(texts: Sequence[str]) -> Scores:
        scores = probe.scores(vectors(texts))
        return {concept: scores[:, place] for concept, place in places.items()}

    rows = figures("probe", probe_scores, concepts, arguments.false_alarms, arguments)
    rows += figures("CLIP", clip_scores(policy), concepts, arguments.false_alarms, arguments)
    table = Table(title=f"Thresholds at {arguments.false_alarms:.1%} of safe captions")
    for name in rows[0]:
        table.add_column(name, justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        table.add_row(*(_shown(value) for value in row.values()))
    Console(width=150).print(table)

    texts = learned.texts[:512]
    started = time.perf_counter()
    embeds, _ = embed_prompts(reader, texts, 1 << 20)
    embedded = time.perf_counter()
    pooled = pool_all(embeds)
    judge_vectors(np.stack([*pooled.values()]), probe)
    judged = time.perf_counter()
    wide = {str(row): torch.randn(512, 3584, dtype=torch.bfloat16) for row in range(8)}
    wide_started = time.perf_counter()
    pool_all(wide)
    costs = {
        "embedding_ms": 1e3 * (embedded - started) / len(texts),
        "pooling_and_judging_ms": 1e3 * (judged - embedded) / len(texts),
        "pooling_qwen_image_512_tokens_ms": 1e3 * (time.perf_counter() - wide_started) / len(wide),
    }
    print(
        "A prompt of the miniature's takes {embedding_ms:.2f} ms to embed, one thread of a CPU, which a row needs "
        "anyway;\npooling and judging it {pooling_and_judging_ms:.3f} ms, pooling 512 tokens of Qwen-Image's width "
        "{pooling_qwen_image_512_tokens_ms:.2f} ms.".format(**costs)
    )
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps({"figures": rows, "costs": costs}, indent=2))


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " to ".join(f"{part:.3f}" for part in value)
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
