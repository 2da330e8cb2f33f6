from typing import Any

import numpy as np
import pytest
import torch
from diffusers import QwenImageLayeredPipeline
from PIL import Image

from models.decomposer import Decomposer, Picture
from models.sampling import LayersRequest, layers_shape

from .conftest import picture

LEVELS = 1  # of 255: how far rounding moves a pixel in float32 (a mask, a batch mate or a single-frame VAE)
MIXED = ["a mug", "a red mug", "a kettle on white", "红色的杯子", "a " * 30, "", "a blue hat", "a red mug, left"]


def request(source: np.ndarray, caption: str = "a red mug", seed: int = 0, **settings: Any) -> LayersRequest:
    height, width = source.shape[:2]
    negative_prompt = settings.pop("negative_prompt", " ")
    defaults = {"resolution": 64, "layers": 2, "steps": 3, "guidance": 4.0, "cfg_normalize": True}
    shape = layers_shape(width, height, multiple=16, **{**defaults, **settings})
    return LayersRequest(source, caption, negative_prompt, seed, shape)


def run(model: Decomposer, requests: list[LayersRequest]) -> list[Picture]:
    pictures = [picture for batch in model.decompose(requests) for picture in batch]
    assert sorted(picture.index for picture in pictures) == list(range(len(requests)))
    return sorted(pictures, key=lambda picture: picture.index)


def decompose(model: Decomposer, requests: list[LayersRequest]) -> list[np.ndarray]:
    pictures = run(model, requests)
    assert [picture.failure for picture in pictures] == [None] * len(requests)
    return [picture.pixels for picture in pictures if picture.pixels is not None]


def decompose_stock(
    stock: QwenImageLayeredPipeline, requests: list[LayersRequest], resolution: int = 640
) -> list[np.ndarray]:
    shape = requests[0].shape
    rows = stock(
        image=[Image.fromarray(wanted.source) for wanted in requests],
        prompt=[wanted.caption for wanted in requests],
        negative_prompt=[wanted.negative_prompt for wanted in requests] if shape.guidance > 1 else None,
        true_cfg_scale=shape.guidance,
        layers=shape.layers,
        num_inference_steps=shape.steps,
        generator=[torch.Generator("cpu").manual_seed(wanted.seed) for wanted in requests],
        resolution=resolution,
        cfg_normalize=shape.cfg_normalize,
    ).images
    return [np.stack([np.asarray(layer) for layer in row]) for row in rows]


def distance(one: np.ndarray, other: np.ndarray) -> int:
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def test_a_batch_of_two_gives_each_picture_its_own_layers_where_diffusers_mixes_them(
    decomposer: Decomposer, stock_layered: QwenImageLayeredPipeline
) -> None:
    requests = [request(picture(90, 90, seed), seed=seed) for seed in (1, 2)]
    alone = [decompose_stock(stock_layered, [wanted])[0] for wanted in requests]

    together = decompose(decomposer, requests)

    assert [layers.shape for layers in together] == [(2, 64, 64, 4)] * 2
    assert [distance(*pair) <= LEVELS for pair in zip(together, alone, strict=True)] == [True, True]
    assert distance(*alone) > 20
    mixed = decompose_stock(stock_layered, requests)
    assert [len(layers) for layers in mixed] == [3, 1]  # the first gets a layer of the second
    assert distance(mixed[0][2], alone[1][0]) <= LEVELS


@pytest.mark.parametrize(
    ("settings", "resolution"),
    [
        ({}, 640),
        ({"layers": 3, "steps": 4}, 640),
        ({"layers": 4, "steps": 2}, 640),
        ({"cfg_normalize": False}, 640),
        ({"guidance": 1.0}, 640),
        ({"resolution": 102, "steps": 2}, 1024),
    ],
    ids=str,
)
@pytest.mark.parametrize(("width", "height"), [(90, 90), (300, 100), (40, 70)])
def test_layers_are_those_that_diffusers_own_pipeline_makes_of_each_picture_alone(
    decomposer: Decomposer,
    stock_layered: QwenImageLayeredPipeline,
    settings: dict[str, Any],
    resolution: int,
    width: int,
    height: int,
) -> None:
    wanted = request(picture(width, height), seed=7, negative_prompt="blurry", **settings)

    [layers] = decompose(decomposer, [wanted])

    assert layers.shape == (wanted.shape.layers, wanted.shape.height, wanted.shape.width, 4)
    assert distance(layers, decompose_stock(stock_layered, [wanted], resolution)[0]) <= LEVELS
