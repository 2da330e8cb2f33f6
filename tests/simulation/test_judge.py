"""A simulation that can't fail shows nothing: what is broken on purpose is found."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks.catalogue import catalogue_edit
from tasks.results import publication
from tasks.stores.store import Store

from .actors import Command, Decide, lax, strict
from .judge import Scene, Wrong
from .schedule import Limits, at_random, every

TWO_POLICIES = Scene([], [Command("lax", judge=lax), Command("strict", judge=strict)])


def found(scene: Scene, interruptions: int = 2) -> str:
    """What is wrong, if any schedule shows it."""
    try:
        for _ in every(scene, interruptions=interruptions):
            pass
    except Wrong as error:
        return str(error)
    return ""


def test_names_that_come_again_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    of = publication.publication_of

    def always_the_same(key: str, _: str, *, extension: str, layers: int) -> publication.Publication:
        return of(key, "always", extension=extension, layers=layers)

    monkeypatch.setattr(catalogue_edit, "publication_of", always_the_same)
    judged_again = Scene([Command("lax")], [Command("strict", judge=strict), Command("other", judge=lax)])
    assert "is done, and there is no object at images/" in found(judged_again, 3)


def test_a_commit_before_its_copies_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue_edit.CatalogueEdit, "_publish", lambda *_: {})
    assert "is done, and there is no object at images/" in found(TWO_POLICIES, 0)


def test_what_a_killed_process_leaves_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue_edit, "struck_from", lambda state, _: state)
    mortal = Scene([], TWO_POLICIES.at_once, Limits(kills=1))
    assert "The catalogue still has" in found(mortal)


def test_a_deletion_of_what_others_name_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    withdraw: Callable[[Store, publication.Publication], None] = catalogue_edit.withdraw

    def too_much(store: Store, one: publication.Publication) -> None:
        withdraw(store, one)
        for listed in list(store.listing("images")):
            store.delete(listed.path)

    monkeypatch.setattr(catalogue_edit, "withdraw", too_much)
    scene = Scene([Command("lax")], [Decide("Dan", ["a"], "reject", asked=False), Command("both", ("a", "b"))])
    assert "is done, and there is no object at images/" in found(scene)


def test_the_same_seed_plays_the_same_schedule_again() -> None:
    scene = Scene([], TWO_POLICIES.at_once, Limits(1, 1))
    first, second, other = (scene(at_random(seed)).log for seed in (7, 7, 8))
    assert first == second != other
