"""The noise schedule is the checkpoint's own, or the one that Lightning LoRAs were distilled with."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.qwenimage.pipeline_qwenimage import calculate_shift

from models.checkpoints.checkpoint import Checkpoint
from models.checkpoints.lora import Lora
from models.checkpoints.schedule import Scheduler, WantedScheduler, fewest_steps, resolve_scheduler
from models.engines.generator import Generator
from models.requests import Shape
from tests.models.conftest import LEVELS, distance, open_stock, request
from tests.models.engines.test_generator import draw, draw_stock

ENAMEL = Lora(Path("loras/lightning/enamel.safetensors"), "a", 1.0)
OF_THE_HUB = Lora(Path("8steps.safetensors"), "b", 1.0, "lightx2v/Qwen-Image-Lightning")
BY_FILE = Lora(Path("qwen-LIGHTNING.safetensors"), "c", 1.0)

# As ModelTC/Qwen-Image-Lightning's generate_with_diffusers.py builds it.
PUBLISHED = FlowMatchEulerDiscreteScheduler(
    base_image_seq_len=256,
    base_shift=math.log(3),
    max_image_seq_len=8192,
    max_shift=math.log(3),
    shift=1.0,
    shift_terminal=None,
    time_shift_type="exponential",
    use_dynamic_shifting=True,
)


@pytest.mark.parametrize(
    ("wanted", "loras", "resolved"),
    [
        ("auto", (), "checkpoint"),
        ("auto", (ENAMEL,), "checkpoint"),
        ("auto", (ENAMEL, OF_THE_HUB), "lightning"),
        ("auto", (BY_FILE,), "lightning"),
        ("checkpoint", (BY_FILE,), "checkpoint"),
        ("lightning", (), "lightning"),
    ],
)
def test_auto_is_lightning_where_a_lora_is(
    wanted: WantedScheduler, loras: tuple[Lora, ...], resolved: Scheduler
) -> None:
    assert resolve_scheduler(wanted, loras) == resolved


@pytest.mark.parametrize("side", [64, 1024])
@pytest.mark.parametrize("steps", [1, 4, 8])
def test_lightning_has_the_published_sigmas_at_every_size(tiny: Checkpoint, side: int, steps: int) -> None:
    ours = Generator.load(tiny, device="cpu", scheduler="lightning").components.scheduler
    theirs = copy.deepcopy(PUBLISHED)
    even = torch.linspace(1.0, 1 / steps, steps)
    shift = (ours.config[name] for name in ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift"))

    ours.set_timesteps(sigmas=even.tolist(), mu=calculate_shift((side // 16) ** 2, *shift))

    theirs.set_timesteps(sigmas=even.tolist(), mu=math.log(3))
    assert torch.equal(ours.sigmas, theirs.sigmas)
    assert ours.sigmas[:-1] == pytest.approx(3 * even / (1 + 2 * even), abs=1e-6)


@pytest.mark.parametrize("steps", [1, 4])
def test_a_lightning_picture_is_the_one_that_diffusers_makes_with_the_published_scheduler(
    tiny: Checkpoint, tiny_folder: Path, steps: int
) -> None:
    wanted = request("a red mug", seed=3, shape=Shape(64, 48, steps, 1.0))
    pipeline = open_stock(tiny_folder)
    pipeline.scheduler = copy.deepcopy(PUBLISHED)

    [picture] = draw(Generator.load(tiny, device="cpu", scheduler="lightning"), [wanted])

    assert distance(picture, draw_stock(pipeline, wanted)) <= LEVELS
    if steps > 1:
        [own] = draw(Generator.load(tiny, device="cpu"), [wanted])
        assert distance(picture, own) > 20


def test_one_step_is_enough_for_lightning_and_not_for_a_stretched_schedule(tiny: Checkpoint) -> None:
    schedulers: tuple[Scheduler, ...] = ("checkpoint", "lightning")
    opened = [Generator.load(tiny, device="cpu", scheduler=scheduler) for scheduler in schedulers]

    assert [fewest_steps(tiny, scheduler) for scheduler in schedulers] == [2, 1]
    assert [generator.fewest_steps for generator in opened] == [2, 1]
