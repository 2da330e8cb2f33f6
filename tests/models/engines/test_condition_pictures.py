"""Rows with condition pictures of their own, many together, against diffusers' pipeline for edits, which takes one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from diffusers import QwenImageEditPlusPipeline, QwenImagePipeline
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus
from PIL import Image

from models.checkpoints.checkpoint import Checkpoint
from models.engines.engine import Demand, Engine, workload_of
from models.loading.components import load_components
from models.loading.optimization_options import OptimizationOptions
from models.pipelines import TEXT_TO_IMAGE
from models.requests import Conditioning, ConditionPicture, Pixels, Shape, conditionings
from models.sampling.prompt_embeds import embed_prompts
from tests.models.conftest import LEVELS, break_forward, collect, distance, picture, tiny_transformer

SHAPE = Shape(64, 48, 3, 4.0)
AREA = 64 * 64  # pixels that a condition picture is resized to, where stock has 1024²


@dataclass(frozen=True, eq=False)
class Edit:
    """An instruction and pictures, all of which the transformer sees."""

    text: str
    pictures: Sequence[Pixels]
    seed: int
    shape: Shape = SHAPE

    @property
    def conditionings(self) -> list[Conditioning]:
        return conditionings(self.shape, self.text, " ")

    @property
    def condition_pictures(self) -> list[ConditionPicture]:
        return [ConditionPicture(pixels, *size_of(pixels)) for pixels in self.pictures]


class Editor(Engine):
    pipeline = TEXT_TO_IMAGE.name


def size_of(pixels: Pixels) -> tuple[int, int]:
    width, height = pipeline_qwenimage_edit_plus.calculate_dimensions(AREA, pixels.shape[1] / pixels.shape[0])
    return int(width), int(height)


def rgb(width: int, height: int, seed: int) -> Pixels:
    return np.ascontiguousarray(picture(width, height, seed)[..., :3])


EDITS = [
    Edit("make it red", [rgb(80, 80, 0)], 0),
    Edit("put it on a white table, please", [rgb(120, 40, 1)], 1),
    Edit("this mug beside that one", [rgb(40, 120, 2), rgb(64, 64, 3)], 2),
]


def editor(tiny: Checkpoint, **options: bool | float) -> Editor:
    """An engine whose transformer modulates condition pictures as at timestep 0."""
    components = load_components(tiny, torch.device("cpu"), torch.float32)
    torch.manual_seed(3)
    transformer = tiny_transformer(zero_cond_t=True).eval().requires_grad_(False)
    return Editor(replace(components, transformer=transformer), options=OptimizationOptions(**options))


def edit_stock(stock: QwenImagePipeline, ours: Editor, edit: Edit) -> Pixels:
    """diffusers' own, one row at a time, with the embeddings that ours has of its texts."""
    parts = {name: getattr(stock, name) for name in ("scheduler", "vae", "text_encoder", "tokenizer")}
    pipeline = QwenImageEditPlusPipeline(**parts, processor=None, transformer=ours.components.transformer)
    pipeline.set_progress_bar_config(disable=True)
    embeds, _ = embed_prompts(ours.components, edit.conditionings, 1024)
    prompt, negative = (embeds[each][None] for each in edit.conditionings)
    made = pipeline(
        image=[Image.fromarray(pixels) for pixels in edit.pictures],
        prompt_embeds=prompt,
        prompt_embeds_mask=torch.ones(prompt.shape[:2], dtype=torch.long),
        negative_prompt_embeds=negative,
        negative_prompt_embeds_mask=torch.ones(negative.shape[:2], dtype=torch.long),
        true_cfg_scale=edit.shape.guidance,
        width=edit.shape.width,
        height=edit.shape.height,
        num_inference_steps=edit.shape.steps,
        generator=torch.Generator("cpu").manual_seed(edit.seed),
        output_type="np",
    ).images[0]
    return (made * 255).round().astype(np.uint8)


def run(engine: Editor, edits: Sequence[Edit]) -> list[Pixels]:
    made = collect(engine._run(edits), len(edits))
    assert [one.failure for one in made] == [None] * len(edits)
    return [one.pixels[0] for one in made]


@pytest.mark.parametrize("fused", [True, False])
def test_rows_with_pictures_of_other_sizes_go_together_and_each_is_stocks(
    tiny: Checkpoint, stock: QwenImagePipeline, monkeypatch: pytest.MonkeyPatch, fused: bool
) -> None:
    monkeypatch.setattr(pipeline_qwenimage_edit_plus, "VAE_IMAGE_SIZE", AREA)
    monkeypatch.setattr(pipeline_qwenimage_edit_plus, "CONDITION_IMAGE_SIZE", 32 * 32)
    ours = editor(tiny, fused=fused)
    expected = [edit_stock(stock, ours, edit) for edit in EDITS]
    sizes = break_forward(ours, monkeypatch, lambda _: None)

    made = run(ours, EDITS)

    assert sizes == [3] * SHAPE.steps
    assert max(distance(one, other) for one, other in zip(made, expected, strict=True)) <= LEVELS
    assert distance(made[0], run(ours, [replace(EDITS[0], pictures=EDITS[1].pictures)])[0]) > 10


def test_a_batch_is_fitted_to_its_row_with_the_most_tokens(tiny: Checkpoint) -> None:
    ours = editor(tiny)

    run(ours, EDITS)

    assert workload_of(EDITS[2]).condition_sizes == ((32, 96), (64, 64))
    assert [workload_of(edit).image_tokens(16) for edit in EDITS] == [12 + 16, 12 + 12, 12 + 12 + 16]
    assert [*ours._rows] == [Demand(64, 48, 0, True, 128, ((32, 96), (64, 64)))]


def test_a_step_cache_takes_each_row_with_its_own_pictures(tiny: Checkpoint) -> None:
    edits = [replace(edit, shape=replace(SHAPE, steps=8)) for edit in EDITS]
    exact, never_hit = (run(editor(tiny, **options), edits) for options in ({}, {"step_cache": 0.0}))

    assert max(distance(one, other) for one, other in zip(exact, never_hit, strict=True)) <= LEVELS
