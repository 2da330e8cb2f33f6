"""The shipped layered miniature: small enough, and it takes drawings apart that training never saw."""

import functools
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import QwenImageLayeredPipeline

from models.architectures.qwen_image.varlen import Varlen
from models.checkpoints.checkpoint import MINIATURE, find_checkpoint, layers_defaults, writes_captions
from models.checkpoints.integrity import verify_folder
from models.engines.decomposer import Decomposer
from models.loading.component import loading
from models.miniature.networks.architecture import LayeredSampling
from models.miniature.training.export import SHARED
from models.miniature.training.matching import Puzzle, match, puzzles, solved

LEVELS = 2  # of 255: by so much rounding moves a pixel
FOLDER = MINIATURE / "qwen-image-layered"
PIPELINE = "QwenImageLayeredPipeline"
REVISION = "0540c80e3a9a2d026c6b4b012fdcfc604b4561b1c9b89ff4404f48c6a599b6c8"
"""It is part of the keys of all that was taken apart with these weights: another one makes all of it again."""


@pytest.fixture(scope="module")
def decomposer() -> Decomposer:
    return Decomposer.load(find_checkpoint("miniature", pipeline=PIPELINE), device="cpu")


@pytest.fixture(scope="module")
def sampling() -> LayeredSampling:
    own = layers_defaults(find_checkpoint("miniature", pipeline=PIPELINE))
    return LayeredSampling(own.layers, own.resolution, own.steps, own.guidance, own.cfg_normalize)


@dataclass(frozen=True)
class TakenApart:
    """Drawings that training never saw, taken apart together."""

    decomposer: Decomposer
    drawings: list[Puzzle]
    layers: list[np.ndarray]


@pytest.fixture(scope="module")
def taken_apart(sampling: LayeredSampling) -> Callable[..., TakenApart]:
    """Takes drawings apart with a lever, once for all tests that look at what comes out."""
    drawings = puzzles(2, 2, 7)

    @functools.cache
    def taken_apart(**lever: Any) -> TakenApart:
        decomposer = Decomposer.load(find_checkpoint("miniature", pipeline=PIPELINE), device="cpu", **lever)
        return TakenApart(decomposer, drawings, solved(decomposer, drawings, sampling))

    return taken_apart


def test_the_layered_weights_stay_within_16_mib_and_hold_no_pickles() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in files) <= 16 * 2**20
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".jinja"}


def test_it_says_how_to_sample_it_and_that_it_writes_no_captions() -> None:
    settings = json.loads((FOLDER / "sampling_config.json").read_text(encoding="utf-8"))
    assert set(settings) == {"layers", "resolution", "steps", "guidance", "cfg_normalize"}
    assert settings["resolution"] == 256
    assert not writes_captions(find_checkpoint("miniature", pipeline=PIPELINE))


def test_it_reads_captions_as_the_shipped_qwen_image_does() -> None:
    one, other = ((MINIATURE / name / "text_encoder" / "model.safetensors") for name in ("qwen-image", FOLDER.name))
    assert one.read_bytes() == other.read_bytes()


def test_what_it_shares_with_qwen_image_is_linked_and_it_is_a_whole_checkpoint_all_the_same(tmp_path: Path) -> None:
    assert [file.readlink().is_absolute() for file in FOLDER.rglob("*") if file.is_symlink()] == [False] * len(SHARED)
    assert all((FOLDER / name).is_symlink() for name in SHARED)
    copy = Path(shutil.copytree(FOLDER, tmp_path / "copy"))  # with files in the places of the links

    assert verify_folder(FOLDER) == verify_folder(copy)
    assert verify_folder(FOLDER).faults == ()
    assert {find_checkpoint(str(folder), pipeline=PIPELINE).revision for folder in (FOLDER, copy)} == {REVISION}
    with loading():
        opened = QwenImageLayeredPipeline.from_pretrained(FOLDER, processor=None, dtype=torch.float32)
    assert opened.tokenizer("a red mug").input_ids
    assert opened.text_encoder.dtype == torch.float32


@pytest.mark.parametrize("parts", [2, 3])
def test_it_takes_drawings_apart_that_it_never_saw(
    decomposer: Decomposer, sampling: LayeredSampling, parts: int
) -> None:
    torch.manual_seed(0)
    posed = puzzles(4, parts, 7)

    result = match(solved(decomposer, posed, sampling), posed)

    assert result.iou >= 0.8, result
    assert result.decibels >= 28, result


@pytest.mark.parametrize(
    "lever",
    [{"precision": "float8"}, {"precision": "nf4"}, {"step_cache": 0.3}, {"precision": "float8", "step_cache": 0.3}],
    ids=str,
)
def test_with_a_lever_that_approximates_it_takes_drawings_apart_as_well(
    taken_apart: Callable[..., TakenApart], lever: dict[str, Any]
) -> None:
    together = taken_apart(**lever)

    result = match(together.layers, together.drawings)

    assert result.iou >= 0.8, result
    assert result.decibels >= 26, result


def test_with_a_step_cache_a_drawing_alone_and_among_others_has_the_same_layers(
    taken_apart: Callable[..., TakenApart], sampling: LayeredSampling
) -> None:
    together = taken_apart(step_cache=0.3)
    decomposer = together.decomposer

    [alone] = solved(decomposer, together.drawings[:1], sampling)

    assert isinstance(decomposer.predictor, Varlen)
    assert decomposer.predictor.computed < decomposer.predictor.asked
    assert np.abs(together.layers[0].astype(int) - alone).max() <= LEVELS


def test_what_is_asked_for_beyond_a_drawings_parts_is_clear(decomposer: Decomposer, sampling: LayeredSampling) -> None:
    posed = puzzles(2, 2, 8)
    deeper = [type(each)(each.source, np.concatenate([each.parts, np.zeros_like(each.parts[:1])])) for each in posed]

    for layers in solved(decomposer, deeper, sampling):
        assert (layers[2, ..., 3] >= 128).mean() < 0.01
