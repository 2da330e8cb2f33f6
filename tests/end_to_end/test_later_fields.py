"""A packshot that knows more fields goes on with the stores of the one before: nothing is judged or made again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import Field

from models.clip.clip import Clip
from models.engines.generator import Generator
from safety.pictures.profile import Profile
from safety.policy.policy import Policy
from tasks.job import GenerateJob
from tasks.job_sections import PictureOutput
from tasks.stores.store import Store
from tests.end_to_end.conftest import catalogue, manifest, prefect_api, run, store

__all__ = ["manifest", "prefect_api", "store"]  # fixtures

MUGS = [{"id": f"{colour}-mug", "prompt": f"a {colour} mug on a white background"} for colour in ("red", "blue")]


class LaterPolicy(Policy):
    most_words: int | None = None


class LaterProfile(Profile):
    min_depth: int | None = None


class LaterOutput(PictureOutput):
    tiles: int = 1


class LaterJob(GenerateJob):
    output: LaterOutput = Field(default_factory=LaterOutput)


LaterJob.__name__ = GenerateJob.__name__


def nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(Generator, "load", load)
    monkeypatch.setattr(Clip, "load", load)


def know_more_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.judging.judges.Policy", LaterPolicy)
    monkeypatch.setattr("tasks.runs.prepare.Profile", LaterProfile)
    monkeypatch.setattr("tests.end_to_end.conftest.GenerateJob", LaterJob)


def test_a_field_more_judges_and_makes_nothing_again(
    manifest: Callable[..., str], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = manifest(MUGS)
    whole = run(file, store, shard_rows=1)
    before = catalogue(store)

    know_more_fields(monkeypatch)
    with monkeypatch.context() as broken:
        nothing_is_made(broken)
        again = run(file, store, shard_rows=1)
        assert catalogue(store) == before
        more = run(manifest(MUGS[:1], "fewer.parquet"), store)  # another run, with a plan of its own
    assert (again.run, again.kept, more.kept) == (None, 2, 1)
    assert {row["policy_fingerprint"] for row in catalogue(store).values()} == {
        row["policy_fingerprint"] for row in before.values()
    }

    for path in ("summary.json", "shards/00001.parquet"):  # as if it had been stopped before its second shard ended
        store.delete(f"runs/{whole.run}/{path}")
    with monkeypatch.context() as broken:
        broken.setattr(Generator, "load", lambda *_, **__: pytest.fail("a picture was made"))
        assert run(file, store, shard_rows=1).run == whole.run
    assert catalogue(store).keys() == before.keys()


def test_a_field_that_is_given_judges_again_and_makes_nothing_again(
    manifest: Callable[..., str], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = manifest(MUGS[:1])
    run(file, store)
    before = catalogue(store)["red-mug"]
    know_more_fields(monkeypatch)
    (tmp_path / "deep.toml").write_text("min_depth = 3")
    monkeypatch.setattr(Generator, "load", lambda *_, **__: pytest.fail("a picture was made"))

    run(file, store, profile=str(tmp_path / "deep.toml"))

    after = catalogue(store)["red-mug"]
    assert (after["status"], after["key"]) == ("done", before["key"])
    assert after["policy_fingerprint"] != before["policy_fingerprint"]
