"""How the stages of a run write down what became of a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks.outcome import FailureReason, Outcome, Status
from tasks.plan import PlannedRow


@dataclass(frozen=True)
class Record:
    """What every outcome of a run has in common."""

    run: str
    model: str

    def outcome(self, planned: PlannedRow, status: Status, **what: Any) -> Outcome:
        """The outcome of one row."""
        row = planned.row
        return Outcome(
            id=row.id,
            status=status,
            key=planned.key,
            seed=row.seed,
            prompt=row.prompt,
            model=self.model,
            profile=row.profile,
            judged_by=planned.judged_by,
            run=self.run,
            attempt=planned.attempt,
            **what,
        )

    def failure(self, planned: PlannedRow, reason: str, message: str, *, retryable: bool) -> Outcome:
        """The outcome of a row that failed."""
        return self.outcome(planned, Status.FAILED, reason=FailureReason(reason), message=message, retryable=retryable)
