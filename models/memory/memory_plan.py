"""Which placement a model gets: what each would take of a device's memory, and of its time.

Sizes are read from the checkpoint's headers, the rest is tried on the device with one block:
`models.memory.block_benchmark`. A batch is found among what is predicted as it is found later among what is measured:
`models.memory.fit`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from models.files.safetensors_files import CheckpointError
from models.loading.placement import Placement, Room, balance, place, placements, rows_that_hide
from models.loading.sizes import Sizes
from models.memory.block_benchmark import BlockBenchmark
from models.memory.fit import DoesNotFit, best_fit
from models.memory.measure import Cost

WORTH = 1.1  # times as fast must blocks on several devices be to be taken instead of streamed ones
MARGIN = 1.02  # of predicted memory: allocators round, and what is predicted must not be too little


@dataclass(frozen=True)
class Forecast:
    """What drawing will take of a device."""

    bytes: int  # at the peak
    seconds: float  # a picture


@dataclass(frozen=True)
class Candidate:
    """A placement, and what it would take."""

    placement: Placement
    rows: int  # of a batch; 0 where not even one fits
    bytes: int  # at the peak, with so many rows, or with one where not even that fits
    seconds: float | None  # a picture


class MemoryPlan:
    """The placements of a model that were looked at, and the one that is taken."""

    def __init__(
        self, sizes: Sizes, benchmark: BlockBenchmark, budgets: Mapping[str, int] | int, encoding: int, most: int
    ) -> None:
        """Look at all of them.

        Args:
            budgets: bytes that may be used of the device's memory, or of that of several devices, by their names.
            encoding: bytes that a batch of prompts takes beside the text encoder.
            most: rows of a batch at most.
        """
        budgets = {"": budgets} if isinstance(budgets, int) else budgets
        budget = next(iter(budgets.values()))
        self.sizes, self.benchmark, self.budget, self.most = sizes, benchmark, budget, most
        self._usable = int(budget / MARGIN)
        a_row = benchmark.step_seconds(1, 2) - benchmark.step_seconds(1, 1) or benchmark.step_seconds(1, 1)
        rows = min(most, rows_that_hide(sizes.block, benchmark.bus, a_row))
        drawing, least = (benchmark.bytes(count, sizes.blocks) for count in (rows, 1))
        self.room = Room(drawing, least, encoding, rows * benchmark.kept)
        self.candidates = [self._candidate(placement) for placement in placements(sizes, self.room, self._usable)]
        if len(budgets) > 1:
            usable = {name: int(each / MARGIN) for name, each in budgets.items()}
            if (balanced := balance(sizes, self.room, usable)) is not None:
                self.candidates.append(self._candidate(balanced))

    def taken(self) -> Candidate:
        """Return the first one that fits; the one over several devices only where streaming is much slower, or doesn't
        fit.

        Raises:
            CheckpointError: if none does.
        """
        balanced = next((candidate for candidate in self.candidates if candidate.placement.homes), None)
        try:
            placement = place(self.sizes, self.room, self._usable)
        except CheckpointError:
            if balanced is None or balanced.seconds is None:
                raise
            return balanced
        first = next(candidate for candidate in self.candidates if candidate.placement == placement)
        is_slow = balanced is not None and (balanced.seconds or inf) * WORTH < (first.seconds or inf)
        return balanced if balanced is not None and placement.kind == "streamed" and is_slow else first

    def forecast(self, placement: Placement, rows: int, *, bus: float | None = None) -> Forecast:
        """Return what batches of so many rows would take.

        Args:
            bus: bytes a second that come from host memory, where it isn't what this device gets alone.
        """
        step = self._step_seconds(placement, rows, bus or self.benchmark.bus)
        seconds = self.benchmark.workload.shape.steps * step / rows + self.benchmark.decoding.seconds
        return Forecast(int(MARGIN * self._bytes(placement, rows)), seconds)

    def _candidate(self, placement: Placement) -> Candidate:
        def predicted(rows: int) -> Cost:
            step = self._step_seconds(placement, rows, self.benchmark.bus)
            return Cost(self._bytes(placement, rows), step)

        try:
            rows = best_fit(self.benchmark.workload.shape, self._usable, predicted, self.most).rows
        except DoesNotFit:
            return Candidate(placement, 0, self.forecast(placement, 1).bytes, None)
        found = self.forecast(placement, rows)
        return Candidate(placement, rows, found.bytes, found.seconds)

    def _bytes(self, placement: Placement, rows: int) -> int:
        beside = self.room.beside(placement, self.sizes, self.benchmark.bytes(rows, placement.blocks_here))
        return placement.weights(self.sizes) + beside

    def _step_seconds(self, placement: Placement, rows: int, bus: float) -> float:
        streamed = 0 if placement.kind == "resident" else placement.blocks - placement.staying
        return max(self.benchmark.step_seconds(placement.blocks, rows), streamed * self.sizes.block / bus)
