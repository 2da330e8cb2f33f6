"""Which placement a checkpoint is opened in, on GPUs that aren't there."""

from __future__ import annotations

import pytest
import torch

from models.checkpoints.checkpoint import Checkpoint
from models.files.safetensors_files import CheckpointError
from models.loading.optimization_options import OptimizationOptions
from models.loading.placement import Placement
from models.memory import placement_choice
from models.memory.placement_choice import Budget, choose_placement
from models.placement_names import WantedPlacement
from models.units import GIB
from tests.models.memory.test_memory_plan import plan


class Gpus:
    """So many GPUs of so much free memory, and the plan that a trial on the first one leads to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, count: int, free: float) -> None:
        self.woken: list[str] = []
        self.tried = 0
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(
            placement_choice, "free_memory", lambda gpu: (self.woken.append(str(gpu)), int(free * GIB))[1]
        )
        monkeypatch.setattr(placement_choice, "plan_of", self.plan)
        self.free = free

    def plan(self, *_: object, **__: object) -> object:
        self.tried += 1
        return plan(self.free)

    def place(
        self, checkpoint: Checkpoint, wanted: WantedPlacement, *, device: str = "auto"
    ) -> tuple[Placement, object]:
        return choose_placement(
            checkpoint,
            torch.device("cuda:0"),
            torch.bfloat16,
            scheme=None,
            options=OptimizationOptions(),
            wanted=wanted,
            budget=Budget.of(device, torch.device("cuda:0"), 0.9, None),
            most=64,
        )


def test_where_there_is_plenty_nothing_is_tried_and_no_other_gpu_is_woken(
    tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = Gpus(monkeypatch, count=4, free=100)
    placement, planned = gpus.place(tiny, "auto")
    assert (placement.kind, planned, gpus.tried) == ("resident", None, 0)
    assert gpus.woken == ["cuda:0"]


@pytest.mark.parametrize(("wanted", "kind"), [("auto", "streamed"), ("streamed", "streamed"), ("staged", "staged")])
def test_where_memory_is_short_a_trial_tells(
    tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch, wanted: WantedPlacement, kind: str
) -> None:
    gpus = Gpus(monkeypatch, count=1, free=7)
    placement, planned = gpus.place(tiny, wanted)
    assert (placement.kind, gpus.tried) == (kind, 1)
    assert planned is not None


def test_a_job_that_names_its_gpu_keeps_to_it(tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = Gpus(monkeypatch, count=2, free=7)
    gpus.place(tiny, "auto", device="cuda:0")
    assert set(gpus.woken) == {"cuda:0"}
    gpus.place(tiny, "auto")
    assert set(gpus.woken) == {"cuda:0", "cuda:1"}
    with pytest.raises(CheckpointError, match="needs several GPUs"):
        gpus.place(tiny, "balanced", device="cuda:0")
    with pytest.raises(CheckpointError, match="All 2 GPUs together have no room"):
        gpus.place(tiny, "balanced")


def test_what_is_asked_for_is_given_without_a_gpu(tiny: Checkpoint) -> None:
    wanted: tuple[WantedPlacement, ...] = ("auto", "resident", "staged", "streamed")
    for each in wanted:
        placement, _ = choose_placement(
            tiny,
            torch.device("cpu"),
            torch.float32,
            scheme=None,
            options=OptimizationOptions(),
            wanted=each,
            budget=Budget.of("cpu", torch.device("cpu"), 0.9, None),
            most=8,
        )
        assert placement.kind == ("resident" if each == "auto" else each)
