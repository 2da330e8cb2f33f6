"""What the policy's probe says of rows: before they are made, and again of those that are stored."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from models.requests import Conditioning
from safety.probes.probe import Probe, judge_vectors
from safety.verdict import Reason, Verdict, allow, fail, strictest
from tasks.lane.outcome_recorder import OutcomeRecorder
from tasks.lane.screen import conditioning
from tasks.lane.stages import Made, Screened, StoredRow
from tasks.ledger.decision import DecisionHistory
from tasks.manifests.row import Row
from tasks.outcome import Outcome, Status

if TYPE_CHECKING:
    from models.engines.engine import Admit
    from models.engines.made_picture import Picture
    from models.loading.prompt_encoder import PromptEncoder

logger = logging.getLogger(__name__)

PromptReader = Callable[[bool], "PromptEncoder"]
"""Gives what reads prompts; it is told whether the model will be needed anyway."""


class ProbeAdmission:
    """The rows of a shard that are to be made, and what the probe says of them when the model has read them."""

    def __init__(self, probe: Probe | None, rows: Sequence[Row], screened: Screened, recorder: OutcomeRecorder) -> None:
        self.probe, self.rows, self.screened, self.recorder = probe, rows, screened, recorder
        self._refused: dict[int, Outcome] = {}

    @property
    def admit(self) -> Admit | None:
        """What the engine is to ask, if there is a probe."""
        return self._admit if self.probe is not None else None

    def rendered(self, picture: Picture) -> Made | Outcome:
        """Return what an engine gave for a row, as the next stage wants it."""
        if picture.is_refused:
            return self._refused[picture.index]
        return self.recorder.rendered(self.rows[picture.index], picture)

    def _admit(self, vectors: Mapping[Conditioning, np.ndarray]) -> list[int]:
        assert self.probe is not None
        verdicts = judge_rows(self.rows, vectors, self.probe)
        for index, (row, verdict) in enumerate(zip(self.rows, verdicts, strict=True)):
            if (refused := _refused(row, verdict, self.screened, self.recorder)) is not None:
                self._refused[index] = refused
        return [*self._refused]


def judge_stored(
    probe: Probe | None, screened: Screened, reader: PromptReader, recorder: OutcomeRecorder
) -> tuple[list[StoredRow], list[Outcome]]:
    """Return the stored rows of a shard that a probe allows, and how those end that it refuses.

    Their prompts are read by the text encoder alone, which costs a fraction of a denoising step: nothing is made again.
    """
    found = screened.found
    if probe is None or not found:
        return found, []
    rows = [one.row for one in found]
    vectors: Mapping[Conditioning, np.ndarray] = {}
    if prompts := {prompt for row in rows for prompt in _read(row)}:
        from models.sampling.pooled import read_prompts  # imports torch

        vectors, _ = read_prompts(reader(bool(screened.to_render)), prompts)
    kept: list[StoredRow] = []
    ended: list[Outcome] = []
    for one, verdict in zip(found, judge_rows(rows, vectors, probe), strict=True):
        if (refused := _refused(one.row, verdict, screened, recorder)) is not None:
            ended.append(refused)
        else:
            kept.append(one)
    return kept, ended


def _refused(row: Row, judged: Verdict, screened: Screened, recorder: OutcomeRecorder) -> Outcome | None:
    """Return the end of a row that a probe refuses, after what people decided on it; None if it may be made."""
    row_id = row.id
    verdict, decision = screened.histories.get(row_id, DecisionHistory()).applied("input", judged)
    if not verdict.allowed:
        return recorder.judged(row, Status.BLOCKED, verdict, decision)
    screened.probed[row_id] = verdict
    if decision is not None:
        screened.approved[row_id] = decision
    return None


def judge_rows(rows: Sequence[Row], vectors: Mapping[Conditioning, np.ndarray], probe: Probe) -> list[Verdict]:
    """Return the probe's verdict on each row, by the vectors of what conditions it.

    A conditioning without a vector, and a probe that fails, refuse.
    """
    read = list(vectors)
    try:
        judged = dict(zip(read, judge_vectors(np.stack([*vectors.values()]), probe), strict=True)) if read else {}
    except Exception as error:
        logger.exception("The policy's probe failed.")
        judged, why = {}, type(error).__name__
    else:
        why = "the text encoder couldn't read it"
    failed = fail(Reason.SCREEN_FAILED, f"The prompt could not be screened: {why}.")
    # The prompt's scores are what the catalogue shows, unless it was another text that was refused.
    of_rows = ([judged.get(each, failed) for each in _read(row)][::-1] for row in rows)
    return [strictest(of_texts) if of_texts else allow() for of_texts in of_rows]


def _read(row: Row) -> list[Conditioning]:
    """Return what the text encoder reads of a row."""
    return [Conditioning(text) for text in conditioning(row)]
