"""Screen: which rows of a shard may be drawn, and which of them the store has already."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from safety.blocklist import judge_text
from safety.concepts import judge_prompt
from safety.verdict import Reason, Verdict, refuse, strictest
from tasks.judges import Judges
from tasks.key import path_of
from tasks.outcome import Outcome, Status
from tasks.plan import PlannedRow
from tasks.record import Record
from tasks.store import Store

IMAGES, QUARANTINE = "images", "quarantine"


@dataclass(frozen=True)
class Found:
    """A row whose picture is in the store already."""

    planned: PlannedRow
    path: str


@dataclass(frozen=True)
class Screened:
    """A shard after screening. Every row is in exactly one of `to_render`, `found` and `blocked`."""

    shard: int
    to_render: list[PlannedRow]
    found: list[Found]
    blocked: list[Outcome]
    withdrawn: list[Found]  # pictures of blocked rows that were published before the policy refused their prompts
    windows: dict[str, np.ndarray]  # prompt embeddings of the rows that passed, by id: float32 [windows, dimensions]


@task(name="screen", task_run_name="screen {shard}", cache_policy=NO_CACHE)
def screen(
    shard: int,
    rows: Sequence[PlannedRow],
    *,
    judges: Judges,
    store: Store,
    pool: Executor,
    extension: str,
    record: Record,
) -> Screened:
    """Judge the prompts of a shard, and look up which pictures are stored."""
    verdicts, windows = judge_prompts(rows, judges)
    paths = list(pool.map(lambda planned: stored_path(store, planned.key, extension), rows))
    to_render, found, blocked, withdrawn = [], [], [], []
    for planned, verdict, path in zip(rows, verdicts, paths, strict=True):
        if not verdict.allowed:
            blocked.append(
                record.outcome(
                    planned,
                    Status.BLOCKED,
                    reason=verdict.reason,
                    message=verdict.message,
                    scores=dict(verdict.scores),
                    retryable=verdict.reason == Reason.SCREEN_FAILED,
                )
            )
            if path is not None and path.startswith(IMAGES):
                withdrawn.append(Found(planned, path))
        elif path is not None:
            found.append(Found(planned, path))
        else:
            to_render.append(planned)
    passed = {p.row.id: w for p, w, v in zip(rows, windows, verdicts, strict=True) if v.allowed and w is not None}
    return Screened(shard, to_render, found, blocked, withdrawn, passed)


def judge_prompts(rows: Sequence[PlannedRow], judges: Judges) -> tuple[list[Verdict], list[np.ndarray | None]]:
    """The verdict on each row's prompt and negative prompt, and its prompt's embeddings where it was embedded.

    A screen that fails blocks: whatever goes wrong with a row's text, the row isn't drawn.
    """
    verdicts = [judge_by_list(planned, judges) for planned in rows]
    windows: list[np.ndarray | None] = [None] * len(rows)
    open_rows = [index for index, verdict in enumerate(verdicts) if verdict.allowed]
    texts = list(dict.fromkeys(text for index in open_rows for text in conditioning(rows[index])))
    try:
        embedded = dict(zip(texts, judges.prompt_windows(texts), strict=True))
        concepts = judges.concepts
    except Exception as error:  # noqa: BLE001  whatever the CLIP failed of, nothing was screened
        failed = refuse(Reason.SCREEN_FAILED, f"The prompt could not be screened: {type(error).__name__}.")
        return [failed if verdict.allowed else verdict for verdict in verdicts], windows
    for index in open_rows:
        prompt, *others = (judge_prompt(embedded[t], concepts, judges.policy) for t in conditioning(rows[index]))
        # The prompt's scores are what the catalogue shows, unless it was another text that was refused.
        verdicts[index] = strictest([*others, prompt])
        windows[index] = embedded[rows[index].row.prompt]
    return verdicts, windows


def judge_by_list(planned: PlannedRow, judges: Judges) -> Verdict:
    """The blocklist's verdict on a row's texts."""
    texts = zip(("prompt", "negative prompt"), conditioning(planned), strict=False)
    return strictest(judge_text(text, judges.policy.blocklist, what=what) for what, text in texts)


def conditioning(planned: PlannedRow) -> list[str]:
    """The texts that decide the picture, the prompt first; a negative prompt of nothing decides nothing."""
    row = planned.row
    return [row.prompt, row.negative_prompt] if row.negative_prompt.strip() and row.guidance > 1 else [row.prompt]


def stored_path(store: Store, key: str, extension: str) -> str | None:
    """Where the picture of a key is stored, if it is."""
    for place in (IMAGES, QUARANTINE):
        path = path_of(place, key, extension)
        if store.exists(path):
            return path
    return None
