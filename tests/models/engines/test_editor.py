"""The engine that edits: rows whose text encoder sees their pictures, each as diffusers makes it alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import QwenImageEditPipeline, QwenImageEditPlusPipeline
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit, pipeline_qwenimage_edit_plus
from PIL import Image

from models.checkpoints.checkpoint import Checkpoint, CheckpointError, edit_defaults, find_checkpoint
from models.checkpoints.lora import find_loras
from models.engines.editor import PictureEditor
from models.engines.engine import workload_of
from models.loading.optimization_options import OptimizationOptions
from models.loading.prompt_encoder import load_prompt_encoder
from models.memory.measure import measure_step
from models.memory.placement_choice import sizes_of
from models.pipelines import EDIT_PLUS
from models.requests import (
    Conditioning,
    ConditionPicture,
    EditDefaults,
    EditPicture,
    EditRequest,
    Pixels,
    SeenPicture,
    Shape,
    edit_size,
)
from models.sampling.latents import resized
from tests.models.conftest import (
    LEVELS,
    break_forward,
    collect,
    distance,
    open_stock,
    picture,
    save_edit,
    tiny_transformer,
)
from tests.models.loras import save_lora

SHAPE = Shape(64, 48, 3, 4.0)


def rgb(width: int, height: int, seed: int) -> Pixels:
    return np.ascontiguousarray(picture(width, height, seed)[..., :3])


def shown(pixels: Pixels, defaults: EditDefaults) -> EditPicture:
    """A picture at both of its sizes."""
    height, width = pixels.shape[:2]
    seen, encoded = (
        edit_size(width, height, resolution, 16) for resolution in (defaults.vision_resolution, defaults.resolution)
    )
    small = np.asarray(resized(pixels, *seen, channels=3))
    return EditPicture(SeenPicture.of(small), ConditionPicture(np.asarray(resized(pixels, *encoded, 3)), *encoded))


ASKED: list[tuple[str, list[Pixels]]] = [
    ("make it red", [rgb(80, 80, 0)]),
    ("put it on a white table, please", [rgb(120, 40, 1)]),
    ("把这个杯子放在那个旁边", [rgb(40, 120, 2), rgb(64, 64, 3)]),
    ("this beside that, {on} white", [rgb(80, 80, 0), rgb(64, 64, 3), rgb(96, 48, 4)]),
]


def requests(editor: PictureEditor, asked: Sequence[tuple[str, list[Pixels]]]) -> list[EditRequest]:
    defaults = editor.components.rules.pipeline.defaults
    assert isinstance(defaults, EditDefaults)
    own = replace(defaults, resolution=64, vision_resolution=96)
    return [
        EditRequest(text, "blurred", seed, SHAPE, tuple(shown(pixels, own) for pixels in pictures))
        for seed, (text, pictures) in enumerate(asked)
    ]


@pytest.fixture(scope="module")
def plus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_edit(tmp_path_factory.mktemp("tiny-edit-plus"))


@pytest.fixture(scope="module")
def plus(plus_folder: Path) -> Checkpoint:
    return find_checkpoint(str(plus_folder), pipeline=EDIT_PLUS.name)


@pytest.fixture(scope="module")
def tiny_areas() -> Iterator[None]:
    """Let the areas that stock's pipelines have, 1024² and 384², stand for 64² and 96²."""
    full_size = pipeline_qwenimage_edit.calculate_dimensions

    def tiny_size(area: int, ratio: float) -> tuple[float, float, None]:
        return full_size(64 * 64 if area == 1024 * 1024 else area, ratio)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline_qwenimage_edit_plus, "VAE_IMAGE_SIZE", 64 * 64)
        patch.setattr(pipeline_qwenimage_edit_plus, "CONDITION_IMAGE_SIZE", 96 * 96)
        patch.setattr(pipeline_qwenimage_edit, "calculate_dimensions", tiny_size)
        yield


def telling_pictures_apart(pipeline: Any) -> Any:
    """Stock, mended to tell the text encoder which tokens are a picture's (diffusers#14194)."""
    forward, token = pipeline.text_encoder.forward, pipeline.text_encoder.config.image_token_id

    def told(input_ids: torch.Tensor, **more: Any) -> Any:
        return forward(input_ids=input_ids, mm_token_type_ids=(input_ids == token).int(), **more)

    pipeline.text_encoder.forward = told
    return pipeline


def edit_stock(pipeline: Any, text: str, pictures: list[Pixels], seed: int, shape: Shape = SHAPE) -> Pixels:
    images = [Image.fromarray(pixels) for pixels in pictures]
    made = pipeline(
        image=images if isinstance(pipeline, QwenImageEditPlusPipeline) else images[0],
        prompt=text,
        negative_prompt="blurred",
        true_cfg_scale=shape.guidance,
        width=shape.width,
        height=shape.height,
        num_inference_steps=shape.steps,
        generator=torch.Generator("cpu").manual_seed(seed),
        output_type="np",
    ).images[0]
    return (made * 255).round().astype(np.uint8)


def run(editor: PictureEditor, asked: Sequence[EditRequest]) -> list[Pixels]:
    made = collect(editor.edit(asked), len(asked))
    assert [one.failure for one in made] == [None] * len(asked)
    return [one.pixels for one in made]


@pytest.mark.usefixtures("tiny_areas")
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("by_grid", [True, False])
def test_rows_with_instructions_and_pictures_go_together_and_each_is_stocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fused: bool, by_grid: bool
) -> None:
    folder = save_edit(tmp_path / "edit", grid_positions=by_grid)
    stock = telling_pictures_apart(open_stock(folder)) if by_grid else open_stock(folder)
    expected = [edit_stock(stock, text, pictures, seed) for seed, (text, pictures) in enumerate(ASKED)]
    ours = PictureEditor.load(find_checkpoint(str(folder), pipeline=PictureEditor.pipeline), device="cpu", fused=fused)
    sizes = break_forward(ours, monkeypatch, lambda _: None)

    made = run(ours, requests(ours, ASKED))

    assert sizes == [4] * SHAPE.steps
    assert max(distance(one, other) for one, other in zip(made, expected, strict=True)) <= LEVELS
    assert min(distance(one, made[0]) for one in made[1:]) > 10


@pytest.mark.usefixtures("tiny_areas")
def test_the_first_generation_sees_one_picture_as_large_as_it_is_encoded(tmp_path: Path) -> None:
    folder = save_edit(tmp_path / "edit", QwenImageEditPipeline, zero_cond_t=False, vision_resolution=64)
    stock = telling_pictures_apart(open_stock(folder))
    expected = [edit_stock(stock, text, pictures[:1], seed) for seed, (text, pictures) in enumerate(ASKED)]
    checkpoint = find_checkpoint(str(folder), pipeline=PictureEditor.pipeline)
    ours = PictureEditor.load(checkpoint, device="cpu")
    asked = [
        EditRequest(text, "blurred", seed, SHAPE, (shown(pictures[0], edit_defaults(checkpoint)),))
        for seed, (text, pictures) in enumerate(ASKED)
    ]

    made = run(ours, asked)

    assert max(distance(one, other) for one, other in zip(made, expected, strict=True)) <= LEVELS
    with pytest.raises(ValueError, match="takes a picture, and 1 at most"):
        list(ours.edit(requests(ours, ASKED)))


def test_a_picture_that_rows_share_is_seen_once_and_encoded_once(
    plus: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = rgb(80, 80, 0), rgb(120, 40, 1)
    ours = PictureEditor.load(plus, device="cpu", batch=2)
    seen, encoded = Counter[int](), Counter[int]()
    look, encode = ours.components.eyes.vision_tower.forward, ours.components.vae.encode

    def looking(patches: torch.Tensor, grid_thw: torch.Tensor, **more: Any) -> Any:
        seen["pictures"] += len(grid_thw)
        return look(patches, grid_thw, **more)

    def encoding(pictures: torch.Tensor, *more: Any) -> Any:
        encoded["pictures"] += len(pictures)
        return encode(pictures, *more)

    monkeypatch.setattr(ours.components.eyes.vision_tower, "forward", looking)
    monkeypatch.setattr(ours.components.vae, "encode", encoding)
    asked = [("make it red", [one]), ("make it blue", [one]), ("make it red", [one, other]), ("green", [other])]

    made = run(ours, requests(ours, asked * 2))

    assert (seen["pictures"], encoded["pictures"]) == (2, 2)
    assert distance(made[0], made[2]) > 10


def test_a_row_alone_and_among_others_is_the_same_picture(plus: Checkpoint) -> None:
    ours = PictureEditor.load(plus, device="cpu")
    asked = requests(ours, ASKED)

    together = run(ours, asked)

    assert max(distance(run(ours, [row])[0], together[at]) for at, row in enumerate(asked)) <= LEVELS


def test_an_instruction_that_stands_for_a_picture_or_is_too_long_fails_alone(plus: Checkpoint) -> None:
    ours = PictureEditor.load(plus, device="cpu")
    asked = [("make it red", ASKED[0][1]), ("like <|image_pad|>", ASKED[0][1]), ("abcdefg " * 300, ASKED[1][1])]

    made = collect(ours.edit(requests(ours, asked)), 3)

    assert [one.failure and one.failure.reason for one in made] == [None, "internal", "prompt_too_long"]
    assert "stands for a picture" in made[1].failure.message


def test_a_picture_that_cannot_be_seen_fails_the_rows_that_have_it(
    plus: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = PictureEditor.load(plus, device="cpu")
    asked = requests(ours, ASKED)
    process, bad = ours.components.eyes.image_processor.preprocess, asked[1].pictures[0].seen.pixels.shape

    def failing(images: list[Image.Image], **more: Any) -> Any:
        if any(image.size == (bad[1], bad[0]) for image in images):
            raise ValueError("the picture is cursed")
        return process(images, **more)

    monkeypatch.setattr(ours.components.eyes.image_processor, "preprocess", failing)

    made = collect(ours.edit(asked), len(asked))

    assert [one.failure is None for one in made] == [True, False, True, True]


def test_a_batch_that_runs_out_of_memory_is_halved(plus: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = PictureEditor.load(plus, device="cpu")
    asked = requests(ours, ASKED)
    expected = run(ours, asked)

    def full(rows: int) -> None:
        if rows > 2:
            raise torch.OutOfMemoryError("too much")

    sizes = break_forward(ours, monkeypatch, full)

    made = run(ours, asked)

    assert set(sizes) == {4, 2}
    assert max(distance(one, other) for one, other in zip(made, expected, strict=True)) <= LEVELS


def test_texts_are_judged_by_what_they_are_without_their_pictures(plus: Checkpoint) -> None:
    ours = PictureEditor.load(plus, device="cpu")
    asked = requests(ours, ASKED)
    judged: list[Any] = []

    def admit(vectors: Any) -> list[int]:
        judged.append(vectors)
        return [1]

    made = collect(ours.edit(asked, admit=admit), len(asked))

    assert [one.is_refused for one in made] == [False, True, False, False]
    assert {Conditioning(text) for text, _ in ASKED} | {Conditioning("blurred")} <= judged[0].keys()
    assert not hasattr(load_prompt_encoder(plus, device="cpu"), "transformer")


def test_a_checkpoint_that_edits_is_no_other_and_needs_what_shows_pictures(tmp_path: Path, tiny: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match="is a QwenImagePipeline where a QwenImageEditPlusPipeline is needed"):
        find_checkpoint(str(tiny.folder), pipeline=PictureEditor.pipeline)
    folder = save_edit(tmp_path / "edit")
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace('"transformers",\n    "Qwen2VLProcessor"', "null,\n    null"))
    with pytest.raises(CheckpointError, match="names no processor"):
        PictureEditor.load(find_checkpoint(str(folder), pipeline=PictureEditor.pipeline), device="cpu")


@pytest.mark.parametrize("placement", ["staged", "streamed"])
def test_weights_that_wait_in_host_memory_make_the_same_pictures(plus: Checkpoint, placement: Any) -> None:
    resident, waiting = (PictureEditor.load(plus, device="cpu", placement=each) for each in ("resident", placement))
    tower = waiting.components.eyes.vision_tower

    made = [run(one, requests(one, ASKED)) for one in (resident, waiting)]

    assert max(distance(*pair) for pair in zip(*made, strict=True)) <= LEVELS
    assert {parameter.device.type for parameter in tower.parameters()} == {"cpu"}


def test_a_step_cache_and_a_lora_do_to_edits_what_they_do_to_pictures(plus: Checkpoint, tmp_path: Path) -> None:
    whole = PictureEditor.load(plus, device="cpu")
    lora = save_lora(tiny_transformer(zero_cond_t=True), tmp_path / "lora.safetensors")
    loras = find_loras([f"{lora}=1.0"], plus)
    exact = run(whole, requests(whole, ASKED))

    cached, merged = (
        run(one, requests(one, ASKED))
        for one in (
            PictureEditor.load(plus, device="cpu", step_cache=1e-9),
            PictureEditor.load(plus, device="cpu", loras=loras),
        )
    )

    assert max(distance(*pair) for pair in zip(exact, cached, strict=True)) <= LEVELS
    assert min(distance(*pair) for pair in zip(exact, merged, strict=True)) > LEVELS


def test_condition_pictures_that_are_computed_at_every_second_step_change_results_a_little(plus: Checkpoint) -> None:
    steps = replace(SHAPE, steps=8)

    def made(every: int, **options: Any) -> list[Pixels]:
        editor = PictureEditor.load(plus, device="cpu", condition_cache=every, **options)
        return run(editor, [replace(one, shape=steps) for one in requests(editor, ASKED)])

    plain = PictureEditor.load(plus, device="cpu")
    exact = run(plain, [replace(one, shape=steps) for one in requests(plain, ASKED)])

    second = made(2)

    assert all(np.array_equal(*pair) for pair in zip(exact, made(1), strict=True))
    apart = [distance(*pair) for pair in zip(exact, second, strict=True)]
    assert min(apart) > 0
    assert max(apart) <= 12
    streamed = made(2, placement="streamed")
    assert max(distance(*pair) for pair in zip(second, streamed, strict=True)) <= LEVELS


def test_a_row_is_the_same_alone_and_among_others_with_both_caches_and_without_guidance(plus: Checkpoint) -> None:
    ours = PictureEditor.load(plus, device="cpu", condition_cache=3, step_cache=0.3)
    for guidance in (1.0, 4.0):
        asked = [replace(one, shape=Shape(64, 48, 8, guidance)) for one in requests(ours, ASKED)]
        together = run(ours, asked)
        assert max(distance(run(ours, [row])[0], together[at]) for at, row in enumerate(asked)) <= LEVELS


def test_condition_pictures_that_change_with_the_step_are_not_kept(tmp_path: Path, plus: Checkpoint) -> None:
    older = find_checkpoint(
        str(save_edit(tmp_path / "edit", zero_cond_t=False)), pipeline=PictureEditor.pipeline, hashed=False
    )
    with pytest.raises(CheckpointError, match=r"condition_cache is 2, but the transformer of .* without zero_cond_t"):
        PictureEditor.load(older, device="cpu", condition_cache=2)
    with pytest.raises(CheckpointError, match="A condition cache needs the fused transformer, but fused is off"):
        PictureEditor.load(plus, device="cpu", condition_cache=2, fused=False)
    assert PictureEditor.load(older, device="cpu", condition_cache=1).options.condition_cache == 1


def test_what_a_step_takes_is_measured_over_one_that_computes_condition_pictures_and_those_that_do_not(
    plus: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = PictureEditor.load(plus, device="cpu", condition_cache=3)
    sizes = break_forward(ours, monkeypatch, lambda _: None)

    cost = measure_step(ours.components, ours.predictor, workload_of(requests(ours, ASKED)[0]), 8, 2)

    assert sizes == [2] * 3
    assert cost.seconds > 0


def test_eyes_and_head_count_in_memory_as_far_as_they_are_loaded(plus: Checkpoint) -> None:
    loaded = PictureEditor.load(plus, device="cpu").components
    sizes = sizes_of(plus, torch.float32, scheme=None, options=OptimizationOptions())
    parts = (loaded.text_encoder, loaded.eyes.vision_tower)
    assert sizes.text_encoder == sum(each.numel() * 4 for part in parts for each in part.parameters())
