"""A stored object that was damaged is the trouble of its own row, at this start and at every later one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.reports.summary import Summary
from tasks.results.master import Masters, record_path
from tasks.stores.store import Store
from tests.end_to_end.conftest import ROAD, catalogue, manifest, prefect_api, store
from tests.end_to_end.conftest import run as generate
from tests.end_to_end.test_decompose import drawing, layered, run

__all__ = ["layered", "manifest", "prefect_api", "run", "store"]  # fixtures

RECORD = "the record"
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda _: b"",
    "garbled": lambda content: b"\xff" * len(content),
}


@pytest.fixture
def stricter(tmp_path: Path) -> str:
    """A policy that lets pass what the tests' own does, and so judges all that is stored again."""
    (file := tmp_path / "stricter.toml").write_text(Path(ROAD).read_text().replace("= 1.0", "= 0.99"))
    return str(file)


def damage(file: Path, how: str) -> None:
    content = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(DAMAGES[how](content))


def object_of(store: Store, key: str, name: str) -> Path:
    """An object of a key's master, or its record."""
    master = Masters(store).find(key)
    assert master is not None
    return Path(store.uri) / (record_path(key) if name == RECORD else master.parts[name].path)


def check(store: Store) -> None:
    """The row `well` is done, and every other one failed in a sentence and may do another time."""
    found = catalogue(store)
    assert found.pop("well")["status"] == "done"
    assert {(row["status"], row["reason"], row["retryable"]) for row in found.values()} == {
        ("failed", "unreadable", True)
    }
    assert all(row["message"].endswith(".") for row in found.values())


def test_damaged_layers_fail_their_row_alone(run: Callable[..., Summary], store: Store, stricter: str) -> None:
    damages = [
        *(("composite.png", how) for how in DAMAGES),
        ("source.png", "cut"),
        ("0.png", "cut"),
        (RECORD, "garbled"),
    ]
    names = ["well", *(f"hit{number}" for number in range(len(damages)))]
    rows = [{"id": name, "image": drawing(seed), "caption": "a mug"} for seed, name in enumerate(names)]
    run(rows)
    for name, (file, how) in zip(names[1:], damages, strict=True):
        damage(object_of(store, catalogue(store)[name]["key"], file), how)
    for _ in range(2):
        run(rows, policy=stricter)
        check(store)


def test_damaged_pictures_fail_their_row_alone(manifest: Callable[..., str], store: Store, stricter: str) -> None:
    names = ["well", *DAMAGES]
    file = manifest([{"id": name, "prompt": f"a red mug number {seed}"} for seed, name in enumerate(names)])
    generate(file, store)
    for how in DAMAGES:
        damage(object_of(store, catalogue(store)[how]["key"], "picture.png"), how)
    for _ in range(2):
        generate(file, store, policy=stricter)
        check(store)
