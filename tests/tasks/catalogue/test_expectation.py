"""What drawing will take is told from what rows of the same shape took, and how sure that is."""

from __future__ import annotations

import io
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from flows.commands.terminal import show_estimate
from models.memory.usage import Usage
from tasks.catalogue.catalogue import PATH as CATALOGUE
from tasks.catalogue.catalogue import State, content_of
from tasks.job import GenerateJob
from tasks.ledger.run import write_json
from tasks.outcome import CATALOGUE_SCHEMA, Status
from tasks.runs.prepare import Estimate, RunRequest, estimate, prepare
from tests.tasks.summaries import summary_of

SMALL = {"width": 64, "height": 64, "steps": 10, "guidance": 1.0, "device": "cpu"}
TEN = [1.0] * 5 + [3.0] * 5
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def manifest(folder: Path, rows: int, **columns: Any) -> str:
    file = folder / f"{len([*folder.iterdir()])}.parquet"
    whole = {"id": [f"{file.stem}-{n}" for n in range(rows)], "prompt": ["a mug"] * rows}
    pq.write_table(pa.table({**whole, **{name: [value] * rows for name, value in columns.items()}}), file)
    return str(file)


def drew(folder: Path, seconds: list[float], *, device: str = "CPU", days: int = 0, **job: Any) -> None:
    """Leave in the store what a run leaves whose rows took so long."""
    store = str(folder / "store")
    prepared = prepare(
        RunRequest(GenerateJob.of(manifest=manifest(folder, len(seconds)), store=store, **{**SMALL, **job}))
    )
    prepared.leave()
    plan = pq.read_table(folder / "store" / prepared.run.path("plan.parquet"))
    rows = plan.num_rows
    columns = {name: pa.nulls(rows, CATALOGUE_SCHEMA.field(name).type) for name in CATALOGUE_SCHEMA.names}
    columns |= {name: plan.column(name) for name in ("id", "prompt", "seed", "key", "attempt")}
    columns |= {"status": pa.repeat(str(Status.DONE), rows), "retryable": pa.repeat(False, rows)}
    columns |= {"run": pa.repeat(prepared.run.id, rows), "model": pa.repeat(prepared.spec.model, rows)}
    columns |= {"seconds": pa.array(seconds), "finished_at": pa.array([NOW + timedelta(days=days)] * rows)}
    columns |= {name: pa.repeat(1, rows) for name in ("planned_from", "changed_in")}
    found = prepared.store.read(CATALOGUE)
    before = [pq.read_table(io.BytesIO(found[0])).replace_schema_metadata(None)] if found else []
    table = pa.concat_tables([*before, pa.table(columns).cast(CATALOGUE_SCHEMA)])
    prepared.store.overwrite(CATALOGUE, content_of(table, State(version=1)))
    usage = Usage(device, "float32", "resident", rows, sum(seconds) / rows, None, None, None)
    write_json(prepared.store, prepared.run.lane_path(0), asdict(usage))


def estimated(folder: Path, rows: int, *, job: dict[str, Any] | None = None, **columns: Any) -> Estimate:
    whole = {**SMALL, **(job or {}), "manifest": manifest(folder, rows, **columns), "store": str(folder / "store")}
    return estimate(RunRequest(GenerateJob.of(**whole)))


def numbers(found: Estimate) -> tuple[float, float, float]:
    assert found.expectation is not None
    return found.expectation.seconds, found.expectation.low, found.expectation.high


def test_rows_of_a_known_shape_take_what_such_rows_took(tmp_path: Path) -> None:
    drew(tmp_path, TEN)
    assert numbers(estimated(tmp_path, 50)) == pytest.approx((100.0, 50.0, 150.0))


def test_rows_of_a_new_shape_take_what_their_pixels_and_steps_do_and_less_surely(tmp_path: Path) -> None:
    drew(tmp_path, [2.0] * 10)
    assert numbers(estimated(tmp_path, 1, width=128, steps=20)) == pytest.approx((8.0, 8 / 1.5, 12.0))
    assert numbers(estimated(tmp_path, 1, guidance=3.0)) == pytest.approx((4.0, 4 / 1.5, 6.0))


def test_what_another_device_or_model_took_tells_nothing(tmp_path: Path) -> None:
    drew(tmp_path, TEN, device="NVIDIA H200")
    assert estimated(tmp_path, 5).expectation is None


def test_a_store_that_nothing_was_drawn_in_tells_nothing(tmp_path: Path) -> None:
    assert estimated(tmp_path, 5).expectation is None


def test_the_latest_runs_tell(tmp_path: Path) -> None:
    drew(tmp_path, [9.0], days=0)
    for day in (1, 2, 3):
        drew(tmp_path, [2.0], days=day, negative_prompt=f"night {day}")
    assert numbers(estimated(tmp_path, 10))[0] == pytest.approx(20.0)


def test_a_dry_run_gives_hours_and_money_with_an_interval(tmp_path: Path) -> None:
    drew(tmp_path, [1800.0] * 5 + [5400.0] * 5)
    console = Console(file=io.StringIO(), width=200)
    show_estimate(console, estimated(tmp_path, 2, job={"price_per_hour": 3.5}))
    assert (
        "At most 2.00 hours (1.00 to 3.00) of rendering, which cost 7.00 (3.50 to 10.50), at 3600.00 s a picture as in "
        "earlier runs on CPU." in console.file.getvalue()  # type: ignore[attr-defined]
    )
    assert "judged again, in 1 shard\n" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("lanes", "said"),
    [
        (1, "of rendering, which cost"),
        (4, "of rendering by one lane, 0.50 hours (0.25 to 0.75) by 4 from when each has loaded the model, which cost"),
        (None, "by one lane, which as many share as the cluster has places for, from when each has loaded the model, "),
    ],
)
def test_a_dry_run_shares_hours_among_lanes_and_leaves_money_as_it_is(
    tmp_path: Path, lanes: int | None, said: str
) -> None:
    drew(tmp_path, [1800.0] * 5 + [5400.0] * 5)
    console = Console(file=io.StringIO(), width=400)
    show_estimate(console, replace(estimated(tmp_path, 2, job={"price_per_hour": 3.5}), lanes=lanes))
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert said in told
    assert "7.00 (3.50 to 10.50)" in told


@pytest.mark.parametrize(("took", "said"), [(25.0, "25 % more than"), (15.0, "25 % less than"), (20.0, "as much as")])
def test_a_summary_says_how_far_off_that_was(tmp_path: Path, took: float, said: str) -> None:
    drew(tmp_path, TEN)
    expectation = estimated(tmp_path, 20).expectation
    found = replace(summary_of(20), rendered=10, rendering=took, expectation=expectation)
    assert found.expected == (
        f"rendering took {took} seconds, {said} expected: 20.0 seconds (10.0 seconds to 30.0 seconds)"
    )
    of_seconds = replace(found, rendered=1, rendering=took / 10)
    assert of_seconds.expected is None
