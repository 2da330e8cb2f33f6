"""Take up: find the run that a command goes on with, or start it, with its plan in the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.catalogue.catalogue import Catalogue, read_catalogue
from tasks.catalogue.catalogue_edit import CatalogueEdit, tidy
from tasks.ledger.plan import Plan
from tasks.ledger.run import Run, open_run, write_json
from tasks.processes.process import Process
from tasks.stores.store import Conflict, Store

Draft = Callable[[Catalogue], bool]
"""Plans what is to be done after a catalogue, into a file; says whether that is anything at all."""


@dataclass(frozen=True)
class TakenUp:
    """A run whose plan is in the store and in a file, or the complete one that leaves nothing to do."""

    run: Run
    plan: Plan
    complete: bool
    catalogue: Catalogue  # as it was before anything was done; of a complete run, as it stands
    editor: str  # the name under which this process edits the catalogue; empty where nothing is to be done


@dataclass(frozen=True)
class FoundRun:
    """The run that a command goes on with or starts, and the catalogue as it was found after that."""

    run: Run
    before: Run | None  # the command's last one that is complete
    catalogue: Catalogue


def find_run(name: str, store: Store) -> FoundRun:
    """Find the last run of a command that isn't complete, or the name of the next one; then read the catalogue.

    In this order, the catalogue has what a complete run put into it.

    Args:
        name: that the command's runs share: see `run_name`.
        store: where they lie.
    """
    run, before = open_run(name, store)
    return FoundRun(run, before, read_catalogue(store))


def take_up(
    store: Store, found: FoundRun, file: Path, draft: Draft, *, document: dict[str, Any], process: Process
) -> TakenUp:
    """Go on with a run that was found, or start it.

    This process comes into the catalogue's state before it relies on a plan, so that nobody prunes it. Where nothing is
    to be done, what killed processes left is taken away, and nothing else is written.

    Args:
        store: where the run lies.
        found: as `find_run` gives it.
        file: where the plan is to be.
        draft: plans into that file.
        document: what `job.json` shall say.
        process: this one.

    Raises:
        RequestError: if the store is being pruned.
    """
    run, before, catalogue = found.run, found.before, found.catalogue
    path = run.path("plan.parquet")
    planned = store.download(path, file) is not None
    if not planned and not draft(catalogue) and before is not None and before.is_planned(store):
        tidied = tidy(store, catalogue, process)
        return TakenUp(before, Plan(file, store.uri_of(before.path("plan.parquet"))), True, tidied, "")
    with CatalogueEdit(store, f"run {run.id}", process) as edit:
        edit.come_in(catalogue)
        if store.download(path, file) is None:
            if planned or edit.pruned > catalogue.state.version:  # what it is made from may have been pruned since
                draft(catalogue)
            write_json(store, run.path("job.json"), document)
            try:
                store.put_once(path, file)
            except Conflict:  # another run of this command was first: its plan stands
                store.download(path, file)
    return TakenUp(run, Plan(file, store.uri_of(path)), False, catalogue, edit.name)
