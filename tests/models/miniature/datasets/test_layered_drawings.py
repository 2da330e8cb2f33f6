"""The layered miniature: its drawings fall apart into layers, and its training makes what the libraries load."""

import json
import time
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from diffusers import QwenImageLayeredPipeline
from diffusers.pipelines.qwenimage import pipeline_qwenimage_layered
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

from models.checkpoints.checkpoint import MINIATURE, find_checkpoint, layers_defaults
from models.engines.decomposer import Decomposer
from models.loading.component import loading
from models.miniature import train
from models.miniature.datasets import layered_drawings
from models.miniature.datasets.layered_drawings import frames, layered_scene, layers_of, over
from models.miniature.networks.architecture import LayeredSampling, new_layered_transformer
from models.miniature.train import Training
from models.miniature.training import layered
from models.miniature.training.denoiser import Denoiser, difference
from models.miniature.training.matching import composed, match, puzzles, solved
from models.miniature.world.world import Drawing, draw

QWEN_IMAGE = MINIATURE / "qwen-image"
SIDE = 128  # pixels
SAMPLING = LayeredSampling(resolution=SIDE, steps=2)
LEVELS = 2  # of 255: what rounding after every layer adds up to


def drawings() -> list[Drawing]:
    random = Random(5)
    return [draw(layered_scene(random, 160, SIDE, faulty=index % 2 == 1), random) for index in range(12)]


def distance(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def test_a_drawings_layers_compose_back_to_it_and_hold_nothing_where_they_are_clear() -> None:
    for drawing in drawings():
        found = layers_of(drawing)

        assert distance(composed(found)[..., :3], drawing.picture) <= LEVELS
        assert not found[found[..., 3] == 0].any()


def test_two_layers_of_a_drawing_with_a_fault_compose_back_to_it_too() -> None:
    every = frames(torch.from_numpy(np.stack([layers_of(drawing) for drawing in drawings()])))
    picture, background, _, _, both = every.unbind(1)

    assert distance(over(background, both).numpy(), picture.numpy()) <= LEVELS
    for found, drawing in zip(picture.numpy(), drawings(), strict=True):
        assert distance(found[..., :3], drawing.picture) <= LEVELS


def test_puzzles_show_pairs_that_training_never_sees_and_their_own_parts_match_them() -> None:
    for parts in (2, 3):
        posed = puzzles(3, parts, 1, width=160, height=SIDE)

        result = match([puzzle.parts for puzzle in posed], posed)

        assert result.iou == result.soft_iou == 1
        assert len(result.by_layer) == parts
        assert result.decibels > 45


def test_layers_in_the_wrong_order_do_not_match() -> None:
    posed = puzzles(3, 3, 1, width=160, height=SIDE)

    result = match([puzzle.parts[::-1] for puzzle in posed], posed)

    assert result.iou < 0.6
    assert result.decibels < 25


@pytest.mark.parametrize("pictures", [4, 5])
def test_the_training_forward_is_the_librarys_with_layers(pictures: int) -> None:
    torch.manual_seed(0)
    with loading():
        reader = Qwen2_5_VLForConditionalGeneration.from_pretrained(QWEN_IMAGE / "text_encoder", dtype=torch.float32)
    tokenizer = Qwen2Tokenizer.from_pretrained(QWEN_IMAGE / "tokenizer")

    assert difference(Denoiser(reader, new_layered_transformer()), tokenizer, pictures) < 1e-4


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights folder after a second of every stage on a few small drawings."""
    work = tmp_path_factory.mktemp("work")
    training = Training(
        work=work,
        device=torch.device("cpu"),
        deadline=time.monotonic() + 3600,
        seconds={"layered-vae": 1.0, "layered": 1.0},
        weights=work / "weights",
        judge_path=work / "judge",
        wait=False,
        captions=0,
        processes=1,
        qwen_image=QWEN_IMAGE,
        layered_sampling=SAMPLING,
    )

    def unseen(_: int, seed: int, *, faulty: bool) -> list[Drawing]:
        return layered_drawings.unseen_drawings(1, seed, faulty=faulty, width=SIDE, height=SIDE)

    with pytest.MonkeyPatch.context() as patch, loading():
        patch.setattr(layered_drawings, "PART", 4)
        for module in (layered_drawings, layered):
            patch.setattr(module, "LAYERED_SHAPES", {(SIDE, SIDE): 1.0})
        patch.setattr(train, "puzzles", lambda _, parts, seed: puzzles(1, parts, seed, width=SIDE, height=SIDE))
        patch.setattr(train, "unseen_drawings", unseen)
        layered_drawings.draw_layers(work / "layers", SIDE, SIDE, 0)
        training.train_layered_vae()
        training.train_layered()
    return work / "weights" / "qwen-image-layered"


def test_a_toy_run_exports_what_the_bulk_engine_loads_and_runs(toy: Path) -> None:
    checkpoint = find_checkpoint(str(toy), pipeline="QwenImageLayeredPipeline")
    decomposer = Decomposer.load(checkpoint, device="cpu")
    defaults = layers_defaults(checkpoint)

    assert json.loads((toy / "model_index.json").read_text(encoding="utf-8"))["processor"] == [None, None]
    assert (defaults.resolution, defaults.steps, defaults.guidance) == (SIDE, 2, 1.0)
    for parts in (2, 3):
        posed = puzzles(2, parts, 2, width=SIDE, height=SIDE)
        found = solved(decomposer, posed, SAMPLING)
        assert [each.shape for each in found] == [(parts, SIDE, SIDE, 4)] * 2


def test_a_toy_run_exports_what_diffusers_own_pipeline_loads_and_runs(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_qwenimage_layered, "calculate_dimensions", lambda *_: (SIDE, SIDE))
    with loading():
        pipeline = QwenImageLayeredPipeline.from_pretrained(toy, processor=None, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    [puzzle] = puzzles(1, 2, 3, width=SIDE, height=SIDE)

    expected = pipeline(
        image=Image.fromarray(puzzle.source),
        prompt="a mug",
        layers=2,
        num_inference_steps=2,
        true_cfg_scale=1.0,
        generator=torch.Generator("cpu").manual_seed(0),
        output_type="np",
    ).images[0]

    assert expected.shape == (2, SIDE, SIDE, 4)
