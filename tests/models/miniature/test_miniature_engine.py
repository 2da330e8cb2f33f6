"""The bulk engine on the model that is shipped: trained weights, sizes that a shop would notice."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import QwenImagePipeline

from models.architectures.qwen_image.varlen import Varlen
from models.checkpoints.checkpoint import MINIATURE, find_checkpoint, find_clip, sampling_defaults
from models.clip.clip import Clip
from models.engines.generator import Generator
from models.loading.component import loading
from models.requests import PictureRequest, Shape

pytestmark = [
    pytest.mark.skipif(not (MINIATURE / "qwen-image").exists(), reason="the miniature isn't trained yet"),
]

LEVELS = 2  # of 255
PROMPTS = [
    "a red mug on a white background",
    "a blue hat",
    "studio photo of a green chair, plain white backdrop",
    "an orange lamp",
]


@pytest.fixture(scope="module")
def shape() -> Shape:
    defaults = sampling_defaults(find_checkpoint("miniature"))
    return Shape(defaults.width, defaults.height, defaults.steps, defaults.guidance)


@dataclass(frozen=True)
class Drawn:
    """The pictures of all prompts, drawn together by an engine that drew nothing before."""

    generator: Generator
    requests: list[PictureRequest]
    pictures: list[np.ndarray]
    skipped: float  # the share of rows' steps that the step cache skipped


@pytest.fixture(scope="module")
def drawn(shape: Shape) -> Callable[..., Drawn]:
    """Draws the pictures with a lever, once for all tests that compare them."""
    requests = [PictureRequest(prompt, " ", seed, shape) for seed, prompt in enumerate(PROMPTS)]

    @functools.cache
    def drawn(**lever: Any) -> Drawn:
        generator = Generator.load(find_checkpoint("miniature"), device="cpu", **lever)
        pictures = draw(generator, requests)
        return Drawn(generator, requests, pictures, skipped(generator))

    return drawn


@pytest.fixture(scope="module")
def generator(drawn: Callable[..., Drawn]) -> Generator:
    return drawn().generator


def draw(generator: Generator, requests: list[PictureRequest]) -> list[np.ndarray]:
    pictures = sorted((one for batch in generator.render(requests) for one in batch), key=lambda one: one.index)
    assert [picture.failure for picture in pictures] == [None] * len(requests)
    return [picture.pixels for picture in pictures if picture.pixels is not None]


def distance(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def decibels(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(one.astype(float) - other).mean()))


def skipped(generator: Generator) -> float:
    """The share of rows' steps that the step cache skipped so far; 0 where there is none."""
    predictor = generator.predictor
    assert isinstance(predictor, Varlen)
    return 1 - predictor.computed / predictor.asked if predictor.asked else 0.0


def test_it_draws_what_diffusers_own_pipeline_draws(generator: Generator, shape: Shape) -> None:
    with loading():
        stock = QwenImagePipeline.from_pretrained(find_checkpoint("miniature").folder, dtype=torch.float32)
    stock.set_progress_bar_config(disable=True)
    expected = stock(
        prompt=PROMPTS[0],
        negative_prompt=" ",
        true_cfg_scale=shape.guidance,
        width=shape.width,
        height=shape.height,
        num_inference_steps=shape.steps,
        generator=torch.Generator("cpu").manual_seed(11),
    ).images[0]

    [picture] = draw(generator, [PictureRequest(PROMPTS[0], " ", 11, shape)])

    assert distance(picture, np.asarray(expected)) <= LEVELS


def test_a_row_alone_and_among_others_is_the_same_picture(drawn: Callable[..., Drawn]) -> None:
    together = drawn()

    for one, wanted in zip(together.pictures[:2], together.requests[:2], strict=True):
        assert distance(one, draw(together.generator, [wanted])[0]) <= LEVELS


@pytest.mark.parametrize(
    ("lever", "mean", "least"),
    [
        ({"precision": "float8"}, 25, 18),
        ({"precision": "int8"}, 38, 34),
        ({"precision": "nf4"}, 22, 18),
        ({"step_cache": 0.2}, 34, 30),
        ({"precision": "float8", "step_cache": 0.2}, 23, 18),
    ],
    ids=str,
)
def test_a_lever_that_approximates_draws_other_pictures_and_near_ones(
    drawn: Callable[..., Drawn], lever: dict[str, Any], mean: float, least: float
) -> None:
    """PSNR in dB; `benchmarks.drift` measures more of them."""
    exact, fast = drawn(), drawn(**lever)

    assert all(distance(one, other) > LEVELS for one, other in zip(fast.pictures, exact.pictures, strict=True))
    ratios = [decibels(one, other) for one, other in zip(fast.pictures, exact.pictures, strict=True)]
    assert np.mean(ratios) >= mean, ratios
    assert min(ratios) >= least, ratios
    if "step_cache" in lever:
        assert 0.1 < fast.skipped < 0.75


def test_with_a_step_cache_a_row_alone_and_among_others_is_the_same_picture(drawn: Callable[..., Drawn]) -> None:
    together = drawn(step_cache=0.2)

    for one, wanted in zip(together.pictures[:2], together.requests[:2], strict=True):
        assert distance(one, draw(together.generator, [wanted])[0]) <= LEVELS


@pytest.mark.parametrize("precision", ["int8", "nf4"])
def test_with_compressed_weights_a_row_alone_and_among_others_is_the_same_picture(
    drawn: Callable[..., Drawn], precision: str
) -> None:
    """But for the rounding of bfloat16, which every processor does in its way and steps carry on."""
    together = drawn(precision=precision)

    for one, wanted in zip(together.pictures[:2], together.requests[:2], strict=True):
        assert decibels(one, draw(together.generator, [wanted])[0]) > 34


def test_its_clip_reads_texts_and_pictures_into_one_space() -> None:
    clip = Clip.load(find_clip("miniature"), device="cpu")

    texts = clip.embed_texts(PROMPTS)
    pictures = clip.embed_pictures([np.full((64, 64, 3), 255, dtype=np.uint8)])

    assert texts.shape[1] == pictures.shape[1]
    long = clip.embed_windows([" ".join(PROMPTS * 10)])[0]
    assert len(long) > 1
