"""Whether a store can be reached and written, keeps its promise that the first writer wins, and who works on it."""

from __future__ import annotations

from models.finding import Finding
from tasks.catalogue.catalogue import read_catalogue
from tasks.catalogue.catalogue_edit import perhaps_dead, strike_command
from tasks.errors import RequestError
from tasks.processes.process import this_process
from tasks.stores.opening import open_store
from tasks.stores.store import STEPS, Step, StoreAddressError, StoreError

NAMES: dict[Step, str] = {
    "reach": "store reach",
    "write": "store write",
    "conditional put": "conditional put",
    "copy": "store copy",
    "delete": "store delete",
}
PASSED: dict[Step, str] = {
    "reach": "{uri} can be reached.",
    "write": "What is written there can be read at once.",
    "conditional put": "A second writer is refused, so two runs can't overwrite each other.",
    "copy": "A copy inside the store is whole.",
    "delete": "What this check wrote there is removed again.",
}
KEPT = Finding.warning(
    "store versions",
    "The bucket keeps versions, so a picture that was withdrawn can still be read by its version.",
    "Let a lifecycle rule of the bucket remove versions that aren't current, or name a bucket without versioning.",
)


def check_store(address: str) -> list[Finding]:
    """Write to a store what a run's own probe writes, and remove it; an empty address is none."""
    if not address:
        return [Finding.left_out("store", "None is named: give one with --store, or in the job.")]
    try:
        store = open_store(address)
    except StoreAddressError as error:
        return [Finding.refused("store reach", error, "Give another address.", fault="request")]
    passed: list[Step] = []
    failed = []
    try:
        store.probe(passed.append)
    except StoreError as error:
        step = STEPS[len(passed)]
        failed = [Finding.refused(NAMES[step], error, "Use another store.", fault="reach")]
    kept = [KEPT] if not failed and store.keeps_versions() else []
    return [*(Finding.ok(NAMES[step], PASSED[step].format(uri=store.uri)) for step in passed), *failed, *kept]


def check_catalogue(address: str) -> list[Finding]:
    """Look at who edits a store's catalogue, and whether it can be read; say nothing where all is well."""
    try:
        store = open_store(address)
        state = read_catalogue(store).state
    except (StoreAddressError, StoreError):
        return []  # `check_store` says why
    except RequestError as error:
        otherwise = f"Write it anew: packshot rebuild --store {store.uri}"
        return [Finding.refused("catalogue", error, otherwise, fault="request")]
    return [
        Finding.warning("store in use", sentence, f"Strike it, if it is dead: {strike_command(store, name)}")
        for name, sentence in perhaps_dead(state, this_process()).items()
    ]
