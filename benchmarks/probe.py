"""What a probe over the model's own prompt embeddings finds of what a shop must not show, beside the CLIP.

    python -m benchmarks.probe --out out/probe.json

Captions of the miniature's world, of colours and in word orders that neither has seen. The probe learns from captions
as the miniature's text encoder learned from; the thresholds of both are chosen on captions of their own, as `packshot
calibrate` chooses them, and recall and false alarms are measured on others, in English and in Chinese, and again with
each caption hidden among sentences of empty prose, far from the prompt's end. The last lines are what a row costs:
embedding it takes place anyway, pooling and judging don't.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.safety import LANGUAGES, SHOWS, scenes
from models.checkpoints.checkpoint import find_checkpoint, find_clip
from models.clip.clip import Clip
from models.loading.prompt_encoder import load_prompt_encoder
from models.miniature.language.captions import Split, caption
from models.miniature.language.clauses import empty_sentence
from models.miniature.language.names import PROSE, Language
from models.miniature.world.world import FAULTS, FORBIDDEN, Scene, random_scene
from models.requests import Conditioning
from models.sampling.pooled import pool_all, read_prompts
from models.sampling.prompt_embeds import embed_prompts
from safety.policy.concepts import embed_concepts, judge_prompt
from safety.policy.policy import Policy
from safety.probes.calibration import choose, measure
from safety.probes.probe import judge_vectors
from safety.probes.probe_training import merged, train

SENTENCES = 6  # of empty prose around a caption, before and behind it
Scores = dict[str, np.ndarray]  # of each concept, [N]


@dataclass(frozen=True)
class Captions:
    """Captions with what they are about."""

    texts: list[str]
    labels: list[frozenset[str]]  # the concepts of each; none where it is safe

    def about(self, concept: str) -> np.ndarray:
        """Which captions are about a concept: bool [N]."""
        return np.array([concept in label for label in self.labels])

    @property
    def safe(self) -> np.ndarray:
        """Which captions are about none: bool [N]."""
        return np.array([not label for label in self.labels])


def learned(seed: int, concepts: Sequence[str], *, each: int, safe: int) -> Captions:
    """Captions of scenes and in word orders that the miniature was trained on."""
    random, drawn = Random(seed), []
    for kind in FORBIDDEN:
        drawn += [replace(random_scene(random), kind=kind, fault=FAULTS[0]) for _ in range(each)]
    while len(drawn) < each * len(FORBIDDEN) + safe:
        scene = random_scene(random)
        drawn += [scene] if scene.kind not in FORBIDDEN else []
    return _captions(drawn, concepts, random, "train", LANGUAGES)


def unseen(seed: int, concepts: Sequence[str], *, each: int, safe: int, languages: Sequence[Language]) -> Captions:
    """Captions of scenes and in word orders that it never saw."""
    random = Random(seed)
    return _captions(scenes(random, each=each, safe=safe), concepts, random, "test", languages)


def _captions(
    drawn: Iterable[Scene], concepts: Sequence[str], random: Random, split: Split, languages: Sequence[Language]
) -> Captions:
    """A caption of each scene, each once; faults of pictures may be named and are safe here, as in the policy."""
    examples = []
    for number, scene in enumerate(drawn):
        label = frozenset(concept for concept in concepts if {scene.kind, scene.fault} & SHOWS[concept])
        examples.append((caption(scene, random, language=languages[number % len(languages)], split=split), label))
    found = merged(examples)
    return Captions(list(found), list(found.values()))


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
    chosen_on = unseen(11, concepts, each=arguments.each, safe=arguments.safe, languages=LANGUAGES)
    scores, thresholds = score(chosen_on.texts), {}
    for concept in concepts:
        chosen = choose(
            scores[concept][chosen_on.safe], scores[concept][chosen_on.about(concept)], false_positives=allowed
        )
        thresholds[concept] = chosen.threshold
    found = []
    for language in LANGUAGES:
        plain = unseen(12, concepts, each=arguments.each, safe=arguments.safe, languages=[language])
        for kind, captions in (("captions", plain), ("hidden in prose", hidden(plain, 13, language))):
            scores = score(captions.texts)
            for concept in concepts:
                safe, unsafe = scores[concept][captions.safe], scores[concept][captions.about(concept)]
                told = measure(thresholds[concept], safe, unsafe)
                found.append(
                    {
                        "judge": name,
                        "prompts": kind,
                        "language": language,
                        "concept": concept,
                        "unsafe": told.unsafe,
                        "recall": told.recall,
                        "recall_interval": told.recall_interval,
                        "safe": told.safe,
                        "false_alarms": told.false_positives,
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
    parser.add_argument("--safe", type=int, default=800, help="captions of ordinary products")
    parser.add_argument("--false-alarms", type=float, default=0.01, help="share of safe ones that may be stopped")
    parser.add_argument("--out", type=Path, help="write the figures as JSON, too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    policy = Policy.load("default")
    concepts = [concept.name for concept in policy.concepts if concept.prompt_threshold is not None]
    reader = load_prompt_encoder(find_checkpoint("miniature"), device="cpu")

    def vectors(texts: Sequence[str]) -> np.ndarray:
        found, _ = read_prompts(reader, map(Conditioning, texts))
        return np.stack([found[Conditioning(text)] for text in texts])

    examples = learned(10, concepts, each=2 * arguments.each, safe=2 * arguments.safe)
    probe, _ = train(
        examples.texts,
        examples.labels,
        vectors(examples.texts),
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
    table = Table(title=f"Thresholds that promise {arguments.false_alarms:.1%} of false alarms")
    for name in rows[0]:
        table.add_column(name, justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        table.add_row(*(_shown(value) for value in row.values()))
    Console(width=150).print(table)

    texts = examples.texts[:512]
    started = time.perf_counter()
    embeds, _ = embed_prompts(reader, map(Conditioning, texts), 1 << 20)
    embedded = time.perf_counter()
    pooled = pool_all(embeds)
    judge_vectors(np.stack([*pooled.values()]), probe)
    judged = time.perf_counter()
    wide = {Conditioning(str(row)): torch.randn(512, 3584, dtype=torch.bfloat16) for row in range(8)}
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
