"""How the stages of a run write down what became of a row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from safety.verdict import Verdict
from tasks.lane.stages import Made
from tasks.ledger.decision import Decision
from tasks.ledger.kept import UNJUDGED
from tasks.ledger.plan import bad_rows
from tasks.manifests.row import Row
from tasks.outcome import FailureReason, Outcome, Status, outcome_table

if TYPE_CHECKING:
    from models.engines.made_picture import Picture


TextColumn = Literal["prompt", "caption"]
"""Where the text of a job's rows stands: each is a prompt that it was made from, or a caption of its source picture."""


@dataclass(frozen=True)
class OutcomeRecorder:
    """What every outcome of a run has in common."""

    run: str
    model: str
    text_column: TextColumn

    def outcome(self, row: Row, status: Status, **what: Any) -> Outcome:
        """Return the outcome of one row."""
        return Outcome(
            id=row.id,
            status=status,
            key=row.key,
            seed=row.seed,
            **said(row.prompt, self.text_column),
            model=self.model,
            profile=row.profile,
            policy_fingerprint=row.policy_fingerprint,
            run=self.run,
            attempt=row.attempt,
            **what,
        )

    def judged(self, row: Row, status: Status, verdict: Verdict, decision: Decision | None, **what: Any) -> Outcome:
        """Return the outcome of a row that a verdict decided, and a person's decision where there is one."""
        return self.outcome(
            row,
            status,
            reason=verdict.reason,
            message=verdict.message,
            retryable=verdict.reason in UNJUDGED,
            keeps=verdict.failed,
            scores={name: float(score) for name, score in verdict.scores.items()},
            limits=verdict.limits,
            asks=dict(verdict.asks),
            reviewed_by=decision.by if decision else None,
            reviewed_at=decision.at if decision else None,
            **what,
        )

    def rendered(self, row: Row, picture: Picture) -> Made | Outcome:
        """Return what an engine gave for a row, as the next stage wants it."""
        if picture.pixels is not None:
            return Made(row, picture.pixels, picture.seconds)
        assert picture.failure is not None
        failure = picture.failure
        return self.failure(row, failure.reason, failure.message, retryable=failure.retryable)

    def failure(self, row: Row, reason: str, message: str, *, retryable: bool, keeps: bool = False) -> Outcome:
        """Return the outcome of a row that failed."""
        return self.outcome(
            row,
            Status.FAILED,
            reason=FailureReason(reason),
            message=message,
            retryable=retryable,
            keeps=keeps,
        )

    def bad(self, plan: pa.Table, planned_at: datetime) -> pa.Table:
        """Return the outcomes of the rows of a plan that failed on their own when they were read."""
        return outcome_table(
            [
                Outcome(
                    id=row.id,
                    status=Status.FAILED,
                    reason=row.reason,
                    message=row.problem,
                    retryable=row.retryable,
                    key="",
                    seed=0,
                    **said(row.prompt, self.text_column),
                    model=self.model,
                    profile="",
                    policy_fingerprint="",
                    run=self.run,
                    attempt=1,
                    finished_at=planned_at,
                )
                for row in bad_rows(plan)
            ]
        )


def said(text: str, column: TextColumn) -> dict[str, Any]:
    """Return the columns that tell a row's text. `tasks.ledger.decision.text_of` reads it from them."""
    return {"prompt": "", "caption": text or None} if column == "caption" else {"prompt": text}
