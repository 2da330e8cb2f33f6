"""The shipped layered miniature: small enough, and it takes drawings apart that training never saw."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from models.checkpoint import MINIATURE, find_checkpoint, layers_defaults, writes_captions
from models.decomposer import Decomposer
from models.miniature.architecture import LayeredSampling
from models.miniature.matching import match, puzzles, solved
from models.packed import Packed

LEVELS = 2  # of 255: by so much rounding moves a pixel
FOLDER = MINIATURE / "qwen-image-layered"


@pytest.fixture(scope="module")
def decomposer() -> Decomposer:
    return Decomposer.load(find_checkpoint("miniature", pipeline="QwenImageLayeredPipeline"), device="cpu")


@pytest.fixture(scope="module")
def sampling() -> LayeredSampling:
    own = layers_defaults(find_checkpoint("miniature", pipeline="QwenImageLayeredPipeline"))
    return LayeredSampling(own.layers, own.resolution, own.steps, own.guidance, own.cfg_normalize)


def test_the_layered_weights_stay_within_16_mib_and_hold_no_pickles() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in files) <= 16 * 2**20
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".jinja"}


def test_it_says_how_to_sample_it_and_that_it_writes_no_captions() -> None:
    settings = json.loads((FOLDER / "sampling_config.json").read_text(encoding="utf-8"))
    assert set(settings) == {"layers", "resolution", "steps", "guidance", "cfg_normalize"}
    assert settings["resolution"] == 256
    assert not writes_captions(find_checkpoint("miniature", pipeline="QwenImageLayeredPipeline"))


def test_it_reads_captions_as_the_shipped_qwen_image_does() -> None:
    one, other = ((MINIATURE / name / "text_encoder" / "model.safetensors") for name in ("qwen-image", FOLDER.name))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("parts", [2, 3])
def test_it_takes_drawings_apart_that_it_never_saw(
    decomposer: Decomposer, sampling: LayeredSampling, parts: int
) -> None:
    torch.manual_seed(0)
    posed = puzzles(6, parts, 7)

    result = match(solved(decomposer, posed, sampling), posed)

    assert result.iou >= 0.8, result
    assert result.decibels >= 28, result


@pytest.mark.parametrize(
    "lever",
    [{"precision": "float8"}, {"precision": "nf4"}, {"step_cache": 0.3}, {"precision": "float8", "step_cache": 0.3}],
    ids=str,
)
def test_with_a_lever_that_approximates_it_takes_drawings_apart_as_well(
    sampling: LayeredSampling, lever: dict[str, Any]
) -> None:
    posed = puzzles(4, 2, 7)
    decomposer = Decomposer.load(
        find_checkpoint("miniature", pipeline="QwenImageLayeredPipeline"), device="cpu", **lever
    )

    result = match(solved(decomposer, posed, sampling), posed)

    assert result.iou >= 0.8, result
    assert result.decibels >= 26, result


def test_with_a_step_cache_a_drawing_alone_and_among_others_has_the_same_layers(sampling: LayeredSampling) -> None:
    decomposer = Decomposer.load(
        find_checkpoint("miniature", pipeline="QwenImageLayeredPipeline"), device="cpu", step_cache=0.3
    )
    posed = puzzles(3, 2, 7)

    together, alone = solved(decomposer, posed, sampling), solved(decomposer, posed[:1], sampling)

    assert isinstance(decomposer.predictor, Packed)
    assert decomposer.predictor.computed < decomposer.predictor.asked
    assert np.abs(together[0].astype(int) - alone[0]).max() <= LEVELS


def test_what_is_asked_for_beyond_a_drawings_parts_is_clear(decomposer: Decomposer, sampling: LayeredSampling) -> None:
    posed = puzzles(2, 2, 8)
    deeper = [type(each)(each.source, np.concatenate([each.parts, np.zeros_like(each.parts[:1])])) for each in posed]

    for layers in solved(decomposer, deeper, sampling):
        assert (layers[2, ..., 3] >= 128).mean() < 0.01
