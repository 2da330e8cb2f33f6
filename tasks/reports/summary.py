"""The summary of a run: counts, causes and rate, for people and machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from models.units import GIB
from safety.verdict import Reason
from tasks.catalogue.expectation import Expectation, lasting
from tasks.ledger.kept import UNJUDGED, still_to_judge
from tasks.ledger.plan import Unread
from tasks.outcome import Status

WORTH_TELLING = 10.0  # seconds of rendering


@dataclass(frozen=True)
class Cause:
    """Rows that ended in the same way for the same reason."""

    status: str
    reason: str
    rows: int
    example: str  # the message of one of them


@dataclass(frozen=True)
class Summary:
    """What became of a manifest, and what this run did about it."""

    run: str | None  # None when there was nothing left to do
    store: str
    catalogue: str
    report: str
    complete: bool  # False: stopped before every shard had ended
    catalogue_version: int | None  # that the run's outcomes were committed as; a rebuild goes by it
    rows: int  # of the manifest, variants counted
    ended: int  # rows of them that have an outcome
    statuses: dict[str, int]
    unjudged: int  # rows of them that were refused because a check failed, not for what they are
    waiting: int  # rows of them that wait for a person
    unread: Unread  # rows of them that weren't looked at
    to_judge: int  # rows of them that keep what they had because they couldn't be judged again
    faults: tuple[str, ...]  # that lanes went on from, in sentences
    causes: tuple[Cause, ...]
    made: str  # what is said of such a picture: "rendered", "edited"
    rendered: int  # pictures made by this run, by all commands that worked on it
    kept: int  # rows whose outcome an earlier run had settled
    left: int  # rows of the catalogue that left the manifest and are still published, or wait to be
    started_at: datetime
    seconds: float  # wall time of the command that finished the run
    pictures_a_minute: float | None  # of this run's rendering, None when nothing was rendered
    rendering: float  # seconds of this run's rendering, of all its pictures
    expectation: Expectation | None  # of rendering all that was to be done, before it
    # what each took of its device, beside what was predicted: see `models.memory.usage`
    lanes: tuple[dict[str, Any], ...]
    # processes of other machines that edit the store, in sentences: see `tasks.catalogue.catalogue_edit`
    perhaps_dead: tuple[str, ...]
    warnings: tuple[str, ...] = ()  # of the manifest and of what judges it, in sentences

    @property
    def failed(self) -> int:
        return self.statuses[Status.FAILED]

    @property
    def notices(self) -> list[str]:
        """What a person should know of the run beside how its rows ended, in sentences."""
        unread = [self.unread.sentence] if self.unread.rows else []
        kept = (
            "1 row keeps the outcome that it had, because it"
            if self.to_judge == 1
            else (f"{self.to_judge} rows keep the outcome that they had, because they")
        )
        to_judge = [f"{kept} couldn't be judged again; the next run judges again."] if self.to_judge else []
        return [*unread, *to_judge, *self.faults]

    @property
    def is_partial(self) -> bool:
        """Whether rows failed, or weren't looked at as they should have been."""
        return bool(self.failed or self.unjudged or self.unread.rows or self.to_judge)

    @property
    def unsettled(self) -> int:
        """Rows that failed, or weren't looked at as they should have been."""
        return min(self.rows, self.failed + self.unjudged + self.unread.rows + self.to_judge)

    @property
    def sentence(self) -> str:
        """How the rows ended, in one line."""
        counts = {str(status): rows for status, rows in self.statuses.items()}
        counts |= {"unjudged": self.unjudged, "not read": self.unread.rows, "still to judge": self.to_judge}
        told = ", ".join(f"{rows} {what}" for what, rows in counts.items() if rows)
        return f"{self.rows} row{'' if self.rows == 1 else 's'}: {told or 'none has ended'}."

    @property
    def used(self) -> list[str]:
        """What each lane took, in a sentence."""
        return [_used(lane) for lane in self.lanes]

    @property
    def expected(self) -> str | None:
        """How far off it was what the rendering was expected to take, in a sentence; of seconds nobody asks."""
        if self.expectation is None or not self.rendered or self.expectation.rows < self.rendered:
            return None
        expected = self.expectation.of(self.rendered)
        if max(self.rendering, expected.seconds) < WORTH_TELLING:
            return None
        off = round(100 * (self.rendering / expected.seconds - 1))
        than = f"{abs(off)} % {'more' if off > 0 else 'less'} than" if off else "as much as"
        return f"rendering took {lasting(self.rendering)}, {than} expected: {expected.sentence}"

    @property
    def upkeep(self) -> list[str]:
        """What a person may want to do about the store, in sentences."""
        rows = "1 row left the manifest and stays as it is" if self.left == 1 else f"{self.left} rows left the manifest"
        stays = "" if self.left == 1 else " and stay as they are"
        left = [f"{rows}{stays}, published or waiting: --retire-missing withdraws what left."] if self.left else []
        return [*left, *self.perhaps_dead]

    def document(self) -> dict[str, Any]:
        """Return the summary as `summary.json` holds it."""
        return asdict(self)


def summarise(
    mine: pa.Table,
    *,
    run: str | None,
    store: str,
    catalogue: str,
    report: str,
    rows: int,
    started_at: datetime,
    complete: bool,
    version: int | None = None,
    perhaps_dead: Sequence[str] = (),
    left: int = 0,
    lanes: Sequence[dict[str, Any]] = (),
    unread: Unread = Unread(),  # noqa: B008  frozen
    faults: Sequence[str] = (),
    warnings: Sequence[str] = (),
    expectation: Expectation | None = None,
    made: str = "rendered",
) -> Summary:
    """Sum up the part of the catalogue that a run's plan is about."""
    of_run = mine.filter(pc.equal(mine.column("run"), run or ""))
    seconds = of_run.column("seconds").filter(pc.greater(of_run.column("seconds"), 0))
    rendering = pc.sum(seconds).as_py() or 0.0
    return Summary(
        run=run,
        store=store,
        catalogue=catalogue,
        report=report,
        complete=complete,
        catalogue_version=version,
        rows=rows,
        ended=mine.num_rows,
        statuses={status: pc.sum(pc.equal(mine.column("status"), status)).as_py() or 0 for status in Status},
        unjudged=pc.sum(pc.is_in(mine.column("reason"), value_set=pa.array(UNJUDGED, pa.string()))).as_py() or 0,
        waiting=pc.sum(pc.equal(mine.column("reason"), Reason.REVIEW)).as_py() or 0,
        unread=unread,
        to_judge=pc.sum(still_to_judge(mine)).as_py() or 0,
        faults=tuple(faults),
        causes=_causes(mine),
        made=made,
        rendered=len(seconds),
        kept=mine.num_rows - of_run.num_rows,
        left=left,
        started_at=started_at,
        seconds=round((datetime.now(UTC) - started_at).total_seconds(), 1),
        pictures_a_minute=round(60 * len(seconds) / rendering, 2) if rendering else None,
        rendering=rendering,
        expectation=expectation,
        lanes=tuple(lanes),
        perhaps_dead=tuple(perhaps_dead),
        warnings=tuple(warnings),
    )


def _used(lane: dict[str, Any]) -> str:
    """Return what a lane took of its device: see `models.memory.usage`. Of several, one may have taken nothing."""
    if "seconds" not in lane:
        return f"{_worked(lane)}nothing was drawn there"

    def beside(predicted: float | None, form: str) -> str:
        return "" if predicted is None else f" (predicted {predicted:{form}})"

    several = f", {60 / lane['seconds']:.1f} a minute" if "machine" in lane else ""
    took = f"{lane['seconds']:.2f} s a picture{beside(lane['predicted_seconds'], '.2f')}"
    took += several
    if lane["peak_bytes"] is not None:
        gib = lane["predicted_bytes"] and lane["predicted_bytes"] / GIB
        took += f", {lane['peak_bytes'] / GIB:.1f} GiB at the peak{beside(gib, '.1f')}"
    where = [lane["device"], lane["precision"], *([lane["placement"]] if lane["peak_bytes"] is not None else [])]
    return f"{_worked(lane)}{', '.join(where)}: {took}"


def _worked(lane: dict[str, Any]) -> str:
    """Which one of several lanes it was: see `flows.lanes.dispatcher.LaneHistory`; of a run's only one nothing."""
    if "machine" not in lane:
        return ""
    again = {0: "", 1: ", begun again once"}.get(lane["restarts"], f", begun again {lane['restarts']} times")
    rows = "1 row" if lane["rows"] == 1 else f"{lane['rows']} rows"
    return f"lane {lane['lane']} on {lane['machine']} ({lane['place']}), {rows}{again}; "


def _causes(mine: pa.Table) -> tuple[Cause, ...]:
    """Return reasons, the commonest first within a status."""
    refused = mine.filter(pc.is_valid(mine.column("reason")))
    grouped = refused.group_by(["status", "reason"]).aggregate([("id", "count"), ("message", "min")])
    order = [str(status) for status in Status]
    rows = sorted(grouped.to_pylist(), key=lambda row: (order.index(row["status"]), -row["id_count"], row["reason"]))
    return tuple(Cause(r["status"], r["reason"], r["id_count"], r["message_min"] or "") for r in rows)
