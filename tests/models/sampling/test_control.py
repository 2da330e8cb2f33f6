"""Pictures drawn after control pictures: the ones that diffusers' own pipeline draws, and each after its own."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import QwenImageControlNetModel, QwenImageControlNetPipeline, QwenImagePipeline
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image

from models.checkpoints.checkpoint import Checkpoint, find_controlnet
from models.engines.generator import Generator
from models.loading.components import load_components
from models.loading.sizes import read_sizes
from models.memory.measure import measure_step
from models.placement_names import WantedPlacement
from models.requests import PictureRequest, Shape, Workload
from models.sampling.denoise import draw_noise
from tests.models.conftest import LEVELS, MIXED, SHAPE, break_forward, collect, distance, picture, request


@pytest.fixture
def controlled(tiny: Checkpoint, controlnet_folder: Path) -> Generator:
    return open_controlled(tiny, controlnet_folder)


@pytest.fixture(scope="session")
def stock_controlled(stock: QwenImagePipeline, controlnet_folder: Path) -> QwenImageControlNetPipeline:
    """diffusers' own pipeline on the same checkpoint and ControlNet."""
    controlnet = QwenImageControlNetModel.from_pretrained(controlnet_folder)
    pipeline = QwenImageControlNetPipeline(**stock.components, controlnet=controlnet)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def open_controlled(tiny: Checkpoint, folder: Path, scale: float = 1.0, **more: Any) -> Generator:
    found = find_controlnet(str(folder), None, tiny)
    return Generator.load(tiny, device="cpu", controlnet=found, controlnet_scale=scale, **more)


def control(seed: int, width: int = SHAPE.width, height: int = SHAPE.height) -> np.ndarray:
    """A control picture, [H, W, 3]."""
    return picture(width, height, seed)[..., :3]


def draw(model: Generator, requests: list[PictureRequest]) -> list[np.ndarray]:
    pictures = collect(model.render(requests), len(requests))
    assert [picture.failure for picture in pictures] == [None] * len(requests)
    return [picture.pixels for picture in pictures]


@pytest.mark.parametrize("size", [(SHAPE.width, SHAPE.height), (200, 90)], ids=["its own size", "another size"])
@pytest.mark.parametrize(("guidance", "scale"), [(4.0, 1.0), (4.0, 0.4), (1.0, 1.0)])
def test_a_picture_is_the_one_that_diffusers_own_pipeline_draws_after_the_same_control_picture(
    tiny: Checkpoint,
    controlnet_folder: Path,
    stock_controlled: QwenImageControlNetPipeline,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    guidance: float,
    scale: float,
) -> None:
    model = open_controlled(tiny, controlnet_folder, scale)
    wanted = request("a red mug", 7, Shape(64, 48, 4, guidance), "blurry, low quality", control(1, *size))
    # Stock samples what the VAE says of a control picture, from the generator of the noise: here, too, it is the mode.
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, _: self.mode())

    [drawn] = draw(model, [wanted])

    expected = stock_controlled(
        prompt=wanted.prompt,
        negative_prompt=wanted.negative_prompt if guidance > 1 else None,
        true_cfg_scale=guidance,
        width=64,
        height=48,
        num_inference_steps=4,
        control_image=Image.fromarray(wanted.control),
        controlnet_conditioning_scale=scale,
        latents=draw_noise(model.components, wanted.shape, [7]),
    ).images[0]
    assert distance(drawn, np.asarray(expected)) <= LEVELS


def test_every_row_of_a_batch_is_drawn_after_its_own_control_picture(controlled: Generator) -> None:
    requests = [request(prompt, seed, control=control(seed)) for seed, prompt in enumerate(MIXED)]

    together = draw(controlled, requests)

    alone = [draw(controlled, [one])[0] for one in requests]
    assert max(distance(one, other) for one, other in zip(together, alone, strict=True)) <= LEVELS


def test_unlike_control_pictures_give_unlike_pictures(controlled: Generator) -> None:
    drawn = draw(controlled, [request("a mug", control=control(seed)) for seed in (1, 2, 3, 3)])

    assert min(distance(one, other) for one, other in pairwise(drawn[:3])) > 20
    assert distance(drawn[2], drawn[3]) <= LEVELS


def test_a_scale_of_zero_draws_what_there_is_without_a_controlnet(
    tiny: Checkpoint, controlnet_folder: Path, controlled: Generator, generator: Generator
) -> None:
    [without] = draw(generator, [request("a mug")])
    wanted = request("a mug", control=control(1))

    [at_zero] = draw(open_controlled(tiny, controlnet_folder, 0.0), [wanted])

    assert distance(at_zero, without) == 0
    assert distance(draw(controlled, [wanted])[0], without) > 20


def test_a_control_picture_leaves_a_seeds_noise_as_it_is(
    controlled: Generator, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []

    def watch(*rest: Any) -> torch.Tensor:
        seen.append(draw_noise(*rest))
        return seen[-1]

    monkeypatch.setattr("models.engines.engine.draw_noise", watch)
    draw(controlled, [request("a mug", 5, control=control(1))])
    draw(generator, [request("a mug", 5)])

    assert torch.equal(*seen)


def test_the_controlnet_runs_once_a_step_and_serves_both_prompts(
    controlled: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert controlled.components.controlnet is not None
    model = controlled.components.controlnet.model
    forward, seen = model.forward, []

    def watch(**kwargs: Any) -> Any:
        seen.append(len(kwargs["controlnet_cond"]))
        return forward(**kwargs)

    monkeypatch.setattr(model, "forward", watch)
    sizes = break_forward(controlled, monkeypatch, lambda _: None)

    draw(controlled, [request("a mug", seed, control=control(seed)) for seed in range(3)])

    assert seen == [3] * SHAPE.steps
    assert sizes == [3] * SHAPE.steps


def test_a_control_picture_that_is_none_fails_its_row_alone(controlled: Generator) -> None:
    wanted = [request("a mug", seed, control=control(seed)) for seed in range(3)]
    wanted[1] = request("a mug", 1, control=picture(64, 48))  # with alpha

    first, bad, last = collect(controlled.render(wanted), 3)

    assert (first.failure, last.failure) == (None, None)
    assert bad.failure is not None
    assert "uint8 [H, W, 3]" in bad.failure.message


def test_a_control_picture_without_a_controlnet_is_refused_and_so_is_none_with_one(
    controlled: Generator, generator: Generator
) -> None:
    with pytest.raises(ValueError, match="needs a ControlNet"):
        next(generator.render([request("a mug"), request("a mug", control=control(1))]))
    with pytest.raises(ValueError, match="every request needs a control picture"):
        next(controlled.render([request("a mug", control=control(1)), request("a mug")]))


def test_requests_are_compared_by_what_can_be_compared() -> None:
    assert request("a mug", control=control(1)) == request("a mug", control=control(2))
    assert request("a mug", control=control(1)) != request("a hat", control=control(1))


def test_measuring_a_batch_counts_the_controlnets_work(controlled: Generator) -> None:
    assert controlled.components.controlnet is not None
    seen: list[int] = []
    controlled.components.controlnet.model.register_forward_pre_hook(
        lambda _, __, kwargs: seen.append(len(kwargs["controlnet_cond"])), with_kwargs=True
    )

    measure_step(controlled.components, controlled.predictor, Workload(SHAPE), 128, 5)

    assert seen == [5]


def test_the_controlnet_counts_where_the_weights_are_placed(tiny: Checkpoint, controlnet_folder: Path) -> None:
    found = find_controlnet(str(controlnet_folder), None, tiny)
    with_it, without = (read_sizes(tiny.folder, 4, None, controlnet=folder) for folder in (found.folder, None))
    parts = load_components(tiny, torch.device("cpu"), torch.float32, controlnet=found)
    assert parts.controlnet is not None
    assert with_it.rest - without.rest == sum(parameter.nbytes for parameter in parts.controlnet.model.parameters())


@pytest.mark.parametrize("placement", ["staged", "streamed"])
def test_pictures_are_drawn_after_control_pictures_wherever_the_weights_are(
    tiny: Checkpoint, controlnet_folder: Path, controlled: Generator, placement: WantedPlacement
) -> None:
    found = find_controlnet(str(controlnet_folder), None, tiny)
    placed = Generator.load(tiny, device="cpu", controlnet=found, placement=placement)
    wanted = [request(prompt, control=control(1)) for prompt in MIXED[:2]]

    for one, other in zip(draw(placed, wanted), draw(controlled, wanted), strict=True):
        assert np.array_equal(one, other)
