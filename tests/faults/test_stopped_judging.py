"""Kill a run that judges stored pictures again after any of its writes: nothing is lost, and it ends right."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.engines.generator import Generator
from tasks.review.decide import decide, waiting
from tasks.stores.store import Store, StoreError
from tests.end_to_end.conftest import SMALL, catalogue, command, manifest, prefect_api, run, store

from .stopped_store import killed_after

__all__ = ["manifest", "prefect_api", "store"]  # fixtures

POLICY = """
neutral = ["a red boot", "a mug"]
[[concepts]]
name = "syringe"
sentence = "Somebody should see it."
phrases = ["a syringe"]
prompt_threshold = {prompt}
[[concepts]]
name = "anything"
sentence = "Somebody should see it."
phrases = ["a cap"]
answer = "review"
picture_threshold = -2.0
"""


def masters(store: Store) -> dict[str, str]:
    """What was made, by where it lies."""
    root = Path(store.uri)
    files = list((root / "masters").rglob("*.png"))
    return {str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def published(store: Store) -> set[str]:
    """The pictures that are published, by their addresses."""
    return {str(file) for file in (Path(store.uri) / "images").rglob("*.png")}


MOVES = {
    "pass": ("rejected", "done"),
    "fall": ("done", "rejected"),
    "prompt": ("done", "blocked"),
    "stays": ("done", "done"),
}


class Shop:
    """A manifest whose rows end in one way under the first rules, and in another under the second ones.

    Whatever is done is so because a person approved it.
    """

    def __init__(self, folder: Path, write: Callable[..., str]) -> None:
        self.folder = folder
        profiles = {name: str(folder / f"{name}.toml") for name in MOVES}
        self.manifest = write(
            [
                {"id": name, "prompt": f"a {'syringe' if name == 'prompt' else 'mug'} {name}", "profile": profile}
                for name, profile in profiles.items()
            ]
        )

    def rules(self, turn: int) -> str:
        """Write the profiles of this turn; returns its policy."""
        for name in MOVES:
            strict = MOVES[name][turn] == "rejected"
            (self.folder / f"{name}.toml").write_text(f"min_longest_side = {512 if strict else 64}\n")
        policy = self.folder / f"policy-{turn}.toml"
        policy.write_text(POLICY.format(prompt=(2.0, 0.0)[turn]))
        return str(policy)


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be drawn."""

    def load(*_: Any, **__: Any) -> Generator:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(Generator, "load", load)


@pytest.fixture
def shop(tmp_path: Path, manifest: Callable[..., str], store: Store) -> Shop:
    """Judged by the second rules and then by the first ones, and everything approved that waited."""
    shop = Shop(tmp_path, manifest)
    for turn in (1, 0):
        run(shop.manifest, store, policy=shop.rules(turn))
        decide(store.uri, [row.id for row in waiting(store.uri)], "approve", by="Ann")
    assert {row_id: row["status"] for row_id, row in catalogue(store).items()} == {
        name: moves[0] for name, moves in MOVES.items()
    }
    return shop


def check_that_nothing_is_lost(store: Store) -> None:
    """Whatever the catalogue names is there, whole."""
    for row in catalogue(store).values():
        assert row["uri"] is None or hashlib.sha256(Path(row["uri"]).read_bytes()).hexdigest() == row["sha256"]


def check_the_end(store: Store, before: dict[str, str]) -> None:
    """Every row is what the second rules make of it, what is done is published, and nothing else is."""
    found = catalogue(store)
    assert {row_id: row["status"] for row_id, row in found.items()} == {name: moves[1] for name, moves in MOVES.items()}
    assert published(store) == {row["uri"] for row in found.values() if row["status"] == "done"}
    assert masters(store) == before


def test_judging_again_that_is_killed_between_two_writes_is_ended_by_the_same_command(
    shop: Shop, store: Store, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """After every third write: each is a whole run, and so is the command that ends it."""
    template, before, rules = tmp_path / "template", masters(store), shop.rules(1)
    request.getfixturevalue("no_model")
    shutil.copytree(store.uri, template)
    for most in itertools.count(0, 3):
        shutil.rmtree(store.uri)
        shutil.copytree(template, store.uri)
        with killed_after(most) as writes:
            try:
                run(shop.manifest, store, policy=rules)
            except StoreError:
                assert writes.stopped
        check_that_nothing_is_lost(store)
        if not writes.stopped:
            break
        run(shop.manifest, store, policy=rules)
        check_the_end(store, before)
    check_the_end(store, before)
    assert most > 10


def test_judging_again_that_is_killed_is_ended_by_the_same_command(shop: Shop, store: Store) -> None:
    before, rules, names = masters(store), shop.rules(1), published(store)
    words = ["generate", shop.manifest, "--store", store.uri, *(f"--{name}={SMALL[name]}" for name in SMALL)]
    process, deadline = command(*words, "--policy", rules), time.monotonic() + 200
    while published(store) == names:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    check_that_nothing_is_lost(store)
    run(shop.manifest, store, policy=rules)
    check_the_end(store, before)


def test_an_answer_that_is_killed_is_ended_by_the_same_command(
    manifest: Callable[..., str], store: Store, tmp_path: Path
) -> None:
    shop = Shop(tmp_path, manifest)
    run(shop.manifest, store, policy=shop.rules(0))
    before, ids = masters(store), [row.id for row in waiting(store.uri)]
    words = ["review", "approve", *ids, "--store", store.uri]
    process, deadline = command(*words, "--by", "Ann"), time.monotonic() + 200
    while not list((Path(store.uri) / "reviews").rglob("*.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    check_that_nothing_is_lost(store)

    process = command(*words, "--by", "Bo")
    said, complaint = process.communicate(timeout=200)

    assert process.returncode == 0, complaint
    assert said.count("approved  Published as ") == len(ids) == 3
    found = catalogue(store)
    assert {row_id: row["status"] for row_id, row in found.items()} == {name: moves[0] for name, moves in MOVES.items()}
    assert published(store) == {row["uri"] for row in found.values() if row["status"] == "done"}
    assert masters(store) == before
