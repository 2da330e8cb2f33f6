"""Batch sizes that were found by measuring, remembered from one process to the next."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, MutableMapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.files.cache_file import cache_folder, recall, remember
from models.memory.fit import Fit


def memory_of(*what: object) -> Path:
    """Return the file that remembers the sizes found for `what`: a checkpoint, a GPU, a placement, and so on."""
    name = hashlib.sha256(repr(what).encode()).hexdigest()[:32]
    return cache_folder() / "batches" / f"{name}.json"


class BatchSizes(MutableMapping[Hashable, int]):
    """How many rows go together, by what decides that; a size that is set is remembered."""

    def __init__(self, file: Path | None = None) -> None:
        """Without a file, nothing outlives the process."""
        self.file = file
        self._sizes: dict[Hashable, int] = {}
        self._found: dict[str, dict[str, Any]] = recall(file) if file else {}

    def __getitem__(self, key: Hashable) -> int:
        return self._sizes[key]

    def __setitem__(self, key: Hashable, rows: int) -> None:
        self._sizes[key] = rows
        if known := self._found.get(repr(key)):  # halved: what was measured didn't last
            known["rows"] = rows
            self._write()

    def __delitem__(self, key: Hashable) -> None:
        del self._sizes[key]

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._sizes)

    def __len__(self) -> int:
        return len(self._sizes)

    def found(self, key: Hashable, most: int, budget: int) -> Fit | None:
        """Return what was found for `key`, if it is still right.

        Args:
            most: rows that there are; more than last time are worth another look if more might have paid.
            budget: bytes that they may take.
        """
        try:
            fit = Fit(**self._found[repr(key)])
        except (KeyError, TypeError):
            return None
        if fit.peak_bytes > budget or (fit.grows and most > fit.rows):
            return None
        return fit

    def use(self, key: Hashable, rows: int) -> None:
        """Have so many rows go together, from now on and in this process."""
        self._sizes[key] = rows

    def keep(self, key: Hashable, fit: Fit) -> None:
        """Remember what was found."""
        self._found[repr(key)] = asdict(fit)
        self._sizes[key] = fit.rows
        self._write()

    def _write(self) -> None:
        if self.file:
            remember(self.file, self._found)
