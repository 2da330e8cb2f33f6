"""What makes the transformer fast, as fields of a job: which of them make rows again, and which are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.checkpoints.checkpoint import MINIATURE
from models.engines.generator import Generator
from tasks.errors import RequestError
from tasks.job import GenerateJob
from tasks.job_file import load_job
from tasks.stores.store import Store
from tests.models.stored_checkpoints import save_float8

from .conftest import catalogue, run

MUGS = [{"id": f"mug-{n}", "prompt": f"a {color} mug on a white background"} for n, color in enumerate(("red", "teal"))]


@pytest.mark.parametrize("lever", [{"precision": "float8"}, {"precision": "nf4"}, {"step_cache": 0.9}], ids=str)
def test_a_lever_that_approximates_makes_every_row_again_and_the_same_command_afterwards_none(
    manifest: Callable[..., str], store: Store, monkeypatch: pytest.MonkeyPatch, lever: dict[str, Any]
) -> None:
    file = manifest(MUGS)
    run(file, store)
    exact = catalogue(store)

    assert run(file, store, **lever).rendered == 2

    found = catalogue(store)
    for row in found:
        assert found[row]["status"] == "done"
        assert found[row]["key"] != exact[row]["key"]
        assert found[row]["sha256"] != exact[row]["sha256"]

    monkeypatch.setattr(Generator, "load", lambda *_, **__: pytest.fail("The model was loaded."))
    assert run(file, store, **lever).rendered == 0
    assert run(file, store).rendered == 0
    assert {row: kept["key"] for row, kept in catalogue(store).items()} == {
        row: kept["key"] for row, kept in exact.items()
    }


def test_levers_that_change_pictures_by_rounding_alone_make_no_row_again(
    manifest: Callable[..., str], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = manifest(MUGS)
    run(file, store)
    made = catalogue(store)
    monkeypatch.setattr(Generator, "load", lambda *_, **__: pytest.fail("The model was loaded."))

    for lever in ({"fused": False}, {"attention": "math"}):
        again = run(file, store, **lever)
        assert (again.complete, again.rendered) == (True, 0)  # the same run, even

    assert {row: kept["key"] for row, kept in catalogue(store).items()} == {
        row: kept["key"] for row, kept in made.items()
    }


def test_pictures_are_drawn_without_the_fused_transformer_and_with_another_attention(
    manifest: Callable[..., str], store: Store
) -> None:
    assert run(manifest(MUGS), store, fused=False, attention="math").rendered == 2
    assert {row["status"] for row in catalogue(store).values()} == {"done"}


def test_a_checkpoint_that_is_stored_in_float8_is_drawn_with_as_it_is(
    manifest: Callable[..., str], store: Store, tmp_path: Path
) -> None:
    folder = save_float8(MINIATURE / "qwen-image", tmp_path / "stored", "row")

    made = run(manifest(MUGS), store, model=str(folder), clip="none")

    assert {row["status"] for row in catalogue(store).values()} == {"done"}
    document = store.read(f"runs/{made.run}/job.json")
    assert document is not None
    assert json.loads(document[0])["precision"] == "float8_weights"


@pytest.mark.parametrize("lever", [{"precision": "float8"}, {"step_cache": 0.1}], ids=str)
def test_a_lever_that_needs_the_fused_transformer_is_refused_without_it_before_any_work(
    manifest: Callable[..., str], store: Store, lever: dict[str, Any]
) -> None:
    with pytest.raises(RequestError, match="need the fused transformer; leave fused on"):
        load_job(GenerateJob, None, manifest=manifest(MUGS), store=store.uri, fused=False, **lever)
    assert not Path(store.uri).exists() or not any(Path(store.uri).iterdir())
