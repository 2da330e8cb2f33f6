"""A GPU that is lost in the middle of a run, played at the engine's border: the rows go on, or the run can."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from models.clip.clip import Clip
from models.engines.generator import Generator
from models.failure import blame
from models.lost_device import DeviceLost
from tasks.catalogue.catalogue import read_catalogue
from tasks.stores.store import Store
from tests.forked import forked_command

from .conftest import SMALL, catalogue, run

LOST = "CUDA error: an illegal memory access was encountered"
ROWS = [{"id": f"mug-{number}", "prompt": f"a red mug, number {number}"} for number in range(4)]
FLAGS = [word for name, value in {**SMALL, "batch": 1, "device": "cpu"}.items() for word in (f"--{name}", str(value))]
LOSING = """
import os
from models.failure import blame
from models.engines.generator import Generator

real = Generator.render

def render(self, requests, **more):
    for pictures in real(self, requests, **more):
        yield pictures
        if "PACKSHOT_GPU_LOSSES" not in os.environ:
            blame(RuntimeError(os.environ["LOST"]))

Generator.render = render
from flows.command import main
main()
"""


def test_a_command_that_loses_its_gpu_begins_again_as_a_new_process_and_ends_with_every_row_done(
    manifest: Callable[..., str], store: Store
) -> None:
    words = ["-c", LOSING, "generate", manifest(ROWS), "--store", store.uri, "--shard-rows", "2", *FLAGS]
    started = f"import sys; sys.orig_argv[1:] = {words}; sys.argv[1:] = {words[2:]}\n"  # as `python -c` would be
    ended = forked_command(environment={**os.environ, "LOST": LOST}, source=started + LOSING)
    out, err = ended.communicate()
    assert ended.returncode == 0, err
    assert err == (
        f"The GPU failed and this process can't go on with it: {LOST}; the command begins again in a new process.\n"
    )
    assert {row["status"] for row in catalogue(store).values()} == {"done"}
    assert "the run had to be begun again, 1 time: DeviceLost" in out
    assert "4 rows, 3 rendered" in out  # what was made before is found


def test_a_flow_that_loses_its_gpu_fails_when_what_it_finished_is_in_the_catalogue_and_the_next_goes_on(
    manifest: Callable[..., str], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, made = Generator.render, []

    def render(self: Generator, requests: Any, **more: Any) -> Iterator[Any]:
        for pictures in real(self, requests, **more):
            made.append(len(pictures))
            if sum(made) > 3:
                blame(RuntimeError(LOST))
            yield pictures

    file = manifest(ROWS)
    monkeypatch.setattr(Generator, "render", render)
    with pytest.raises(DeviceLost, match="an illegal memory access"):
        run(file, store, batch=1, shard_rows=2)
    monkeypatch.undo()

    assert [row["status"] for row in catalogue(store).values()] == ["done", "done"]
    assert not read_catalogue(store).state.editors
    assert run(file, store, batch=1, shard_rows=2).complete
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
