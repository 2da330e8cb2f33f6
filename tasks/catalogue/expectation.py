"""How long rows will take to draw: as long as rows like them took in the store's latest runs, on such a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.files.temporary_folder import temporary_folder
from tasks.catalogue.catalogue import Catalogue
from tasks.ledger.plan import Plan
from tasks.ledger.run import Run
from tasks.manifests.row import RowShape
from tasks.stores.store import Store

RUNS = 3  # the latest ones that are looked at
SPREAD = (0.1, 0.9)  # quantiles of what rows took: the interval is theirs
GUESSED = 1.5  # either way, where rows of a shape were never drawn and their time follows from pixels and steps
SHAPE = ("width", "height", "steps", "guidance", "layers")


@dataclass(frozen=True)
class Expectation:
    """What drawing rows will take, in seconds of the device."""

    device: str  # that earlier runs drew on
    rows: int
    seconds: float
    low: float
    high: float

    def of(self, rows: int) -> Expectation:
        """Return what so many of these rows will take."""
        share = rows / self.rows
        return Expectation(self.device, rows, self.seconds * share, self.low * share, self.high * share)

    @property
    def sentence(self) -> str:
        """How long, and how sure that is."""
        return f"{lasting(self.seconds)} ({lasting(self.low)} to {lasting(self.high)})"


def expect(
    store: Store,
    catalogue: Catalogue,
    shapes: Mapping[RowShape, int],
    *,
    model: str,
    precision: str,
    device: str | None,
) -> Expectation | None:
    """Expect what so many rows of these shapes take; None where no earlier run tells.

    Args:
        model: as the catalogue names it.
        device: the one that will draw, as torch names it; None where another machine's may, and the latest run's tells.
    """
    took, drew_on = _took(store, catalogue, model, precision, device)
    if drew_on is None or not shapes:
        return None
    units = np.concatenate([np.asarray(seconds) / _work(shape) for shape, seconds in took.items()])
    total = np.zeros(3)
    for shape, rows in shapes.items():
        if shape in took:
            total += rows * _spread(np.asarray(took[shape]))
        else:
            total += rows * _work(shape) * _spread(units) * (1, 1 / GUESSED, GUESSED)
    seconds, low, high = map(float, total)
    return Expectation(drew_on, sum(shapes.values()), seconds, min(low, seconds), max(high, seconds))


def shapes_of(plan: Plan) -> dict[RowShape, int]:
    """Return how many rows a plan's shards hold of each shape."""
    table = pq.read_table(plan.file, columns=[*SHAPE, "shard"])
    table = table.filter(pc.is_valid(table.column("shard")))
    counted = table.group_by(list(SHAPE)).aggregate([([], "count_all")])
    rows = zip(*(counted.column(name).to_pylist() for name in (*SHAPE, "count_all")), strict=True)
    return {_shape(*shape): count for *shape, count in rows}


def lasting(seconds: float) -> str:
    """Return a time as a person says it."""
    if seconds < 90:
        return f"{seconds:.1f} seconds"
    return f"{seconds / 60:.1f} minutes" if seconds < 90 * 60 else f"{seconds / 3600:.2f} hours"


def _took(
    store: Store, catalogue: Catalogue, model: str, precision: str, device: str | None
) -> tuple[dict[RowShape, list[float]], str | None]:
    """Return what rows of each shape took in the latest runs on one device, and that device."""
    drawn = catalogue.table.select(["id", "run", "seconds", "finished_at", "model"])
    drawn = drawn.filter(pc.and_(pc.greater(drawn.column("seconds"), 0), pc.equal(drawn.column("model"), model)))
    runs = drawn.group_by("run").aggregate([("finished_at", "max")]).sort_by([("finished_at_max", "descending")])
    took: dict[RowShape, list[float]] = {}
    for name in runs.column("run").slice(0, RUNS).to_pylist():
        lanes = {(lane["device"], lane["precision"]) for lane in Run(name).lanes(store) if "precision" in lane}
        if len(lanes) != 1 or (found := lanes.pop())[1] != precision or found[0] != (device or found[0]):
            continue
        device = found[0]
        for shape, seconds in _drawn_in(store, Run(name), drawn.filter(pc.equal(drawn.column("run"), name))):
            took.setdefault(shape, []).append(seconds)
    return took, device if took else None


def _drawn_in(store: Store, run: Run, drawn: pa.Table) -> list[tuple[RowShape, float]]:
    """Return the shape of each row that a run drew, and what it took."""
    with temporary_folder() as folder:
        file = folder / "plan.parquet"
        if store.download(run.path("plan.parquet"), file) is None:
            return []
        planned = pq.read_table(file, columns=["id", *SHAPE])
    places = pc.index_in(drawn.column("id"), value_set=planned.column("id").combine_chunks())
    shapes = planned.take(places.combine_chunks().drop_null())
    seconds = drawn.column("seconds").filter(pc.is_valid(places)).to_pylist()
    rows = zip(*(shapes.column(name).to_pylist() for name in SHAPE), strict=True)
    return [(_shape(*shape), took) for shape, took in zip(rows, seconds, strict=True)]


def _shape(width: int, height: int, steps: int, guidance: float, layers: int | None) -> RowShape:
    return width, height, steps, guidance, layers or 0


def _work(shape: RowShape) -> float:
    """Return what the denoising of a row grows with: pixels that go through the transformer."""
    width, height, steps, guidance, layers = shape
    return width * height * steps * (2 if guidance > 1 else 1) * (layers + 2 if layers else 1)


def _spread(seconds: np.ndarray) -> np.ndarray:
    """Return the mean, and what the interval goes by."""
    return np.array([seconds.mean(), *np.quantile(seconds, SPREAD)])
