"""A GPU that is lost in the middle of a run, played at the engine's border: the rows go on, or the run can."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from models.clip import Clip
from models.failure import DeviceLost
from models.generator import Generator
from tasks.store import Store

from .conftest import catalogue, run

LOST = "The GPU failed and this process can't go on with it: CUDA error: an illegal memory access was encountered"
ROWS = [{"id": f"mug-{number}", "prompt": f"a red mug, number {number}"} for number in range(4)]
ONE_BY_ONE = {"batch": 1, "shard_rows": 2}


@pytest.fixture
def losing(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Have the GPU be lost after the first picture of so many renderings; gives how many pictures each one made."""
    real = Generator.render

    def lose(times: int) -> list[int]:
        made: list[int] = []

        def render(self: Generator, requests: Any, **more: Any) -> Iterator[Any]:
            made.append(0)
            for pictures in real(self, requests, **more):
                yield pictures
                made[-1] += len(pictures)
                if len(made) <= times:
                    raise DeviceLost(LOST)

        monkeypatch.setattr(Generator, "render", render)
        return made

    return lose


def test_a_model_whose_gpu_failed_is_opened_again_once_and_no_row_is_lost(
    manifest: Callable[..., str], store: Store, losing: Callable[[int], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, opened = Generator.load.__func__, []  # type: ignore[attr-defined]
    monkeypatch.setattr(Generator, "load", classmethod(lambda kind, *a, **k: opened.append(1) or real(kind, *a, **k)))
    losing(1)

    summary = run(manifest(ROWS), store, **ONE_BY_ONE)

    assert {row["status"] for row in catalogue(store).values()} == {"done"}
    assert len(opened) == 2
    assert any("the model was opened again, 1 time: DeviceLost" in notice for notice in summary.notices)


def test_a_gpu_that_is_lost_again_ends_the_run_and_its_rows_go_on_with_the_next(
    manifest: Callable[..., str], store: Store, losing: Callable[[int], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = manifest(ROWS)
    losing(2)
    with pytest.raises(DeviceLost, match="an illegal memory access"):
        run(file, store, **ONE_BY_ONE)
    monkeypatch.undo()

    summary = run(file, store, **ONE_BY_ONE)

    assert summary.failed == 0
    assert {row["status"] for row in catalogue(store).values()} == {"done"}


def test_a_model_that_cant_be_opened_because_its_gpu_is_lost_blames_the_gpu(
    manifest: Callable[..., str], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any, **__: Any) -> Generator:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure", 719)

    monkeypatch.setattr(Generator, "load", load)
    with pytest.raises(DeviceLost, match="unspecified launch failure"):
        run(manifest(ROWS), store)


def test_a_classifier_whose_gpu_is_lost_refuses_no_row(
    manifest: Callable[..., str], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = manifest(ROWS)

    def embed_windows(*_: Any) -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(Clip, "embed_windows", embed_windows)
    with pytest.raises(DeviceLost, match="an illegal memory access"):
        run(file, store)
    monkeypatch.undo()

    run(file, store)

    assert {row["status"] for row in catalogue(store).values()} == {"done"}
