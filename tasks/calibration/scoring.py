"""What the CLIP says of labelled examples: a score for every concept, and for how pictures fit their prompts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

import numpy as np

from safety.pictures.layers import WHITE, over
from safety.policy.concepts import judge_picture, judge_prompt
from safety.policy.policy import PROMPT_MATCH
from safety.probes.held_out import is_held_out, picture_key, text_key
from safety.verdict import Verdict
from tasks.calibration.examples import Example, Examples
from tasks.errors import RequestError
from tasks.judging.clip_classifier import OpenClip
from tasks.sources.decoder import Decoder
from tasks.sources.source import Sources
from tasks.sources.source_error import SourceError

What = Literal["prompt", "picture"]
READING = 16  # pictures at a time: read, decoded and embedded
"""Few, because one of them may have 64 megapixels."""
TEXTS = 512  # rows at a time where there are no pictures


@dataclass
class Scored:
    """One thing of an example, once: the same thing in another row is the same example."""

    row: int  # the first that has it
    key: str
    labels: frozenset[str]  # concepts; none where it is safe
    scores: dict[str, float]  # by concept


@dataclass
class Pair:
    """A safe picture beside its own prompt, and beside one of another picture."""

    row: int
    key: str  # the picture's
    stranger: int  # the row of the other prompt
    right: float  # cosine
    wrong: float


@dataclass
class Scores:
    """All of a file's examples."""

    prompts: list[Scored]
    pictures: list[Scored]
    pairs: list[Pair]


@dataclass
class _Seen:
    """What is known while the file is read."""

    name: str
    things: dict[str, Scored] = field(default_factory=dict)

    def add(self, example: Example, key: str, verdict: Verdict) -> bool:
        """Take one in; whether it is new.

        Raises:
            RequestError: where the same thing is safe in one row and not in another.
        """
        if not verdict.scores:
            raise RequestError(f"Row {example.row} can't be scored: {verdict.message}")
        if key not in self.things:
            scores = {name: score for name, score in verdict.scores.items() if name != PROMPT_MATCH}
            self.things[key] = Scored(example.row, key, example.labels, scores)
            return True
        before = self.things[key]
        if bool(before.labels) != bool(example.labels):
            raise RequestError(
                f"Rows {before.row} and {example.row} hold the same {self.name}, once labelled safe and once "
                f"{sorted(before.labels | example.labels)[0]}."
            )
        before.labels |= example.labels
        return False


def score(examples: Examples, clip: OpenClip, sources: Sources, decoder: Decoder, *, held_out: float) -> Scores:
    """Score every example, each once.

    Args:
        held_out: the share that is held out; a picture's wrong prompt comes from its own part.

    Raises:
        RequestError: for a row that can't be used, and a picture that can't be read.
    """
    prompts, pictures = _Seen("prompt"), _Seen("picture")
    fitting: list[Fitting] = []
    at_a_time = READING if "image" in examples.columns else TEXTS
    with ThreadPoolExecutor(READING, thread_name_prefix="examples") as pool:
        rows = iter(examples)
        while some := list(islice(rows, at_a_time)):
            windows = _score_prompts(some, clip, prompts)
            shown = [example for example in some if example.image is not None]
            read = list(pool.map(lambda example: read_picture(example, sources, decoder), shown))
            for example, row, key in _score_pictures(shown, read, clip, pictures):
                if example.row in windows and not example.labels:
                    text = text_key(example.prompt or "")
                    fitting.append(Fitting(example.row, key, text, row, windows[example.row]))
    return Scores(list(prompts.things.values()), list(pictures.things.values()), list(pairs(fitting, held_out)))


def read_picture(example: Example, sources: Sources, decoder: Decoder) -> np.ndarray:
    """Return an example's picture over white, uint8 [H, W, 3].

    Raises:
        RequestError: if it can't be read or decoded.
    """
    assert example.image is not None
    try:
        return over(decoder.decode(sources.read(example.image)).pixels, WHITE)
    except SourceError as error:
        raise RequestError(f"The picture in row {example.row} can't be used: {error.message}") from None


def _score_prompts(some: Sequence[Example], clip: OpenClip, seen: _Seen) -> dict[int, np.ndarray]:
    """Score the prompts of some rows; gives the windows of each, by row."""
    rows = [example for example in some if example.prompt is not None]
    windows = clip.windows([example.prompt or "" for example in rows])
    for example, window in zip(rows, windows, strict=True):
        seen.add(example, text_key(example.prompt or ""), judge_prompt(window, clip.concepts, clip.policy))
    return {example.row: window for example, window in zip(rows, windows, strict=True)}


def _score_pictures(
    rows: Sequence[Example], pixels: Sequence[np.ndarray], clip: OpenClip, seen: _Seen
) -> Iterator[tuple[Example, np.ndarray, str]]:
    """Score some pictures; gives those that are new, each with its embedding and its key."""
    for example, picture, row in zip(rows, pixels, clip.model.embed_pictures(pixels), strict=True):
        key = picture_key(picture)
        if seen.add(example, key, judge_picture(row, None, clip.concepts, clip.policy)):
            yield example, row, key


@dataclass(frozen=True)
class Fitting:
    """A safe picture with its prompt."""

    row: int
    key: str
    text: str  # the prompt's key
    picture: np.ndarray  # [D]
    windows: np.ndarray  # [W, D]


def pairs(fitting: Sequence[Fitting], held_out: float) -> Iterator[Pair]:
    """Pair each picture with its own prompt and a stranger's, in both parts."""
    for part in (False, True):
        ones = sorted((one for one in fitting if is_held_out(one.key, held_out) is part), key=lambda one: one.key)
        for at, one in enumerate(ones):
            # By keys the order is as good as random, and the same every time.
            turned = (ones[(at + len(ones) // 2 + step) % len(ones)] for step in range(len(ones)))
            stranger = next((other for other in turned if other.text != one.text), None)
            if stranger is not None:
                right, wrong = (float((of.windows @ one.picture).max()) for of in (one, stranger))
                yield Pair(one.row, one.key, stranger.row, right, wrong)


def parts(things: Iterable[Scored], held_out: float) -> tuple[list[Scored], list[Scored]]:
    """Return those that thresholds are chosen by, and those that they are judged by."""
    chosen_by: list[Scored] = []
    judged_by: list[Scored] = []
    for one in things:
        (judged_by if is_held_out(one.key, held_out) else chosen_by).append(one)
    return chosen_by, judged_by
