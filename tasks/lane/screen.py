"""Screen: which rows of a shard may be made, and which of them the store has already."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from safety.pictures.layers import WHITE, over
from safety.text.texts import judge_text
from safety.verdict import Reason, Verdict, allow, strictest
from tasks.judging.judges import Judges, unjudged
from tasks.lane.outcome_recorder import OutcomeRecorder
from tasks.lane.stages import RowOriginals, Screened, Stages, StoredRow
from tasks.ledger.decision import Decision, DecisionHistory, Decisions
from tasks.manifests.row import Row
from tasks.outcome import FailureReason, Outcome, Status
from tasks.results.master import Master
from tasks.results.shelf import Shelf

logger = logging.getLogger(__name__)


@task(name="screen", task_run_name="screen {shard}", cache_policy=NO_CACHE)
def screen(
    shard: int,
    rows: Sequence[Row],
    *,
    stages: Stages,
    judges: Judges,
    decisions: Decisions,
    pool: Executor,
    recorder: OutcomeRecorder,
) -> Screened:
    """Judge what the rows of a shard are made from, and look up which of them are stored."""
    rows, masters, failed = masters_of(rows, stages.shelf, pool, recorder)
    screened = screen_originals(
        shard,
        stages.read_originals(rows, masters),
        masters,
        judges=judges,
        text=stages.text,
        conditions=stages.conditions,
        decisions=decisions,
        pool=pool,
        recorder=recorder,
    )
    screened.ended.extend(failed)
    return screened


def masters_of(
    rows: Sequence[Row], shelf: Shelf[Any], pool: Executor, recorder: OutcomeRecorder
) -> tuple[list[Row], dict[str, Master], list[Outcome]]:
    """Look up which rows have a master, and let those fail whose master can't be told.

    Returns the rows that are left, the masters by their rows' ids, and how the others ended.
    """

    def find(row: Row) -> Master | Outcome | None:
        try:
            return shelf.find(row.key)
        except ValueError as error:
            return recorder.failure(row, FailureReason.UNREADABLE, str(error), retryable=True)

    found = list(zip(rows, pool.map(find, rows), strict=True))
    failed = [thing for _, thing in found if isinstance(thing, Outcome)]
    left = [row for row, thing in found if not isinstance(thing, Outcome)]
    return left, {row.id: thing for row, thing in found if isinstance(thing, Master)}, failed


def screen_originals(
    shard: int,
    read: Sequence[RowOriginals | Outcome],
    masters: Mapping[str, Master],
    *,
    judges: Judges,
    text: str,
    conditions: bool,
    decisions: Decisions,
    pool: Executor,
    recorder: OutcomeRecorder,
) -> Screened:
    """Judge rows by their texts and by the pictures that they are made from, and sort them.

    Args:
        text: what people call the text of a row: see `Stages`.
        conditions: whether the pictures are what others are drawn after, of which less counts.
        read: as `Stages.read_originals` gives it, for each row of the shard.
        masters: of the rows that have one, by their ids.
    """
    failed = [thing for thing in read if isinstance(thing, Outcome)]
    opened = [thing for thing in read if not isinstance(thing, Outcome)]
    rows = [one.row for one in opened]
    own_words = {one.row.id: one.own_words for one in opened if one.own_words is not None}
    said, kept = judge_prompts(rows, judges, own_words, what=text)
    pictures = {id(picture): picture for one in opened for picture in one.pictures}  # rows may share one
    flat = [over(picture, WHITE) if picture.shape[2] == 4 else picture for picture in pictures.values()]
    seen = dict(zip(pictures, judges.see(flat, conditions=conditions), strict=True))
    shown = [[seen[id(picture)] for picture in one.pictures] for one in opened]
    verdicts = [strictest([text, *of_pictures]) for text, of_pictures in zip(said, shown, strict=True)]
    histories = decisions_on(rows, decisions, pool)
    screened = sort_rows(shard, rows, verdicts, histories, masters, kept, recorder=recorder)
    screened.ended.extend(failed)
    to_render = {row.id for row in screened.to_render}
    passed = to_render | {found.row.id for found in screened.found}
    screened.sources.update((one.row.id, one.pictures) for one in opened if one.row.id in to_render)
    screened.seen.update((one.row.id, one.seen) for one in opened if one.seen and one.row.id in to_render)
    compared = {one.row.id: one.compared for one in opened if one.compared is not None}
    screened.compared.update((name, it) for name, it in compared.items() if name in passed)
    return screened


def sort_rows(
    shard: int,
    rows: Sequence[Row],
    verdicts: Sequence[Verdict],
    histories: Sequence[DecisionHistory],
    masters: Mapping[str, Master],
    kept: Sequence[Mapping[str, Any]],
    *,
    recorder: OutcomeRecorder,
) -> Screened:
    """Sort the rows of a shard by their verdicts, by what people decided, and by what is stored."""
    screened = Screened(shard, [], [], [], {})
    for row, judged, history, known in zip(rows, verdicts, histories, kept, strict=True):
        verdict, decision = history.applied("input", judged)
        if not verdict.allowed:
            screened.ended.append(recorder.judged(row, Status.BLOCKED, verdict, decision))
            continue
        note_decision(screened, row, history, decision)
        if known:
            screened.kept[row.id] = known
        if (master := masters.get(row.id)) is not None:
            screened.found.append(StoredRow(row, master))
        else:
            screened.to_render.append(row)
    return screened


def decisions_on(rows: Sequence[Row], decisions: Decisions, pool: Executor) -> list[DecisionHistory]:
    """Return what people decided on each row."""
    return list(pool.map(lambda row: decisions.on(row.key, row.prompt), rows))


def note_decision(screened: Screened, row: Row, history: DecisionHistory, decision: Decision | None) -> None:
    """Note what people decided on a row that may be made, for when its picture is judged."""
    screened.histories[row.id] = history
    if decision is not None:
        screened.approved[row.id] = decision


def judge_prompts(
    rows: Sequence[Row],
    judges: Judges,
    own_words: Mapping[str, Sequence[str]] | None = None,
    *,
    what: str = "prompt",
) -> tuple[list[Verdict], list[Mapping[str, Any]]]:
    """Return the verdict on each row's prompt and negative prompt, and what classifiers keep of its prompt.

    A screen that fails blocks: whatever goes wrong with a row's text, the row isn't drawn.

    Args:
        rows: of a shard.
        judges: lists read every text whole.
        own_words: by id, what classifiers read in place of a row's prompt.
        what: people call it; see `Stages.text`.
    """
    asked = [read_by_classifiers(row, (own_words or {}).get(row.id)) for row in rows]
    verdicts = [judge_by_list(row, judges, what) for row in rows]
    kept: list[Mapping[str, Any]] = [{} for _ in rows]
    open_rows = [index for index, verdict in enumerate(verdicts) if verdict.allowed]
    texts = list(dict.fromkeys(text for index in open_rows for text in asked[index]))
    readings = dict(zip(texts, judges.screen(texts), strict=True))
    for index in open_rows:
        judged = [readings[text].verdict for text in asked[index]]
        # The prompt's scores are what the catalogue shows, unless it was another text that was refused.
        verdicts[index] = strictest(judged[::-1]) if judged else verdicts[index]
        if (shown := readings.get(rows[index].prompt)) is not None:
            kept[index] = shown.kept
    return verdicts, kept


def judge_by_list(row: Row, judges: Judges, what: str) -> Verdict:
    """Return the blocklist's verdict on a row's texts; `what` people call the one that isn't negative."""
    called = {row.negative_prompt: "negative prompt", row.prompt: what}
    try:
        verdicts = [judge_text(said, judges.policy.blocklist, what=called[said]) for said in conditioning(row)]
    except Exception as error:  # no text is known to bring it about; one that does is its own row's fault
        logger.exception("The blocklist failed of a text.")
        return unjudged(Reason.SCREEN_FAILED, f"{what} could not be screened", error)
    return strictest(verdicts) if verdicts else allow()


def read_by_classifiers(row: Row, own_words: Sequence[str] | None) -> list[str]:
    """Return the texts of a row that classifiers read: those that decide what is made, the prompt's first."""
    texts = conditioning(row)
    if own_words is None:
        return texts
    return [*(text for text in own_words if text.strip()), *texts[1:]]


def conditioning(row: Row) -> list[str]:
    """Return the texts that decide what is made, the prompt first; a text of nothing decides nothing."""
    texts = [row.prompt, row.negative_prompt] if row.guidance > 1 else [row.prompt]
    return [text for text in texts if text.strip()]
