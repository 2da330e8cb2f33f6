import json
import shutil
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import QwenImagePipeline

from models.architectures.qwen_image.varlen import Varlen
from models.checkpoints.checkpoint import Checkpoint, CheckpointError, find_checkpoint
from models.devices.attention import Attention
from models.engines.engine import Demand
from models.engines.generator import DeviceLost, Generator, Picture
from models.loading import components
from models.loading.optimization_options import OptimizationOptions
from models.loading.placement import Placement
from models.memory.batch_sizes import BatchSizes
from models.memory.fit import Fit
from models.memory.measure import Cost, measure_step
from models.placement_names import WantedPlacement
from models.requests import Conditioning, PictureRequest, Shape, Workload
from models.sampling import prompt_embeds
from models.sampling.denoise import draw_noise
from models.sampling.prompt_embeds import embed_prompts
from tests.models.conftest import LEVELS, MIXED, SHAPE, break_forward, collect, distance, no_worse, open_stock, request

PROMPTS = [Conditioning(text) for text in MIXED]


def render(model: Generator, requests: list[PictureRequest]) -> list[Picture]:
    return collect(model.render(requests), len(requests))


def draw(model: Generator, requests: list[PictureRequest]) -> list[np.ndarray]:
    pictures = render(model, requests)
    assert [picture.failure for picture in pictures] == [None] * len(requests)
    return [picture.pixels for picture in pictures if picture.pixels is not None]


def draw_stock(stock: QwenImagePipeline, wanted: PictureRequest, **more: Any) -> np.ndarray:
    shape = wanted.shape
    picture = stock(
        prompt=wanted.prompt,
        negative_prompt=wanted.negative_prompt if shape.guidance > 1 else None,
        true_cfg_scale=shape.guidance,
        width=shape.width,
        height=shape.height,
        num_inference_steps=shape.steps,
        generator=torch.Generator("cpu").manual_seed(wanted.seed),
        **more,
    ).images[0]
    return np.asarray(picture)


@pytest.mark.parametrize(
    "shape", [SHAPE, Shape(64, 64, 6, 1.0), Shape(128, 32, 2, 2.5), Shape(16, 16, 3, 4.0)], ids=lambda shape: str(shape)
)
@pytest.mark.parametrize("prompt", ["a red mug", "红色的杯子, studio photo", ""])
def test_a_picture_is_the_one_that_diffusers_own_pipeline_makes(
    generator: Generator, stock: QwenImagePipeline, prompt: str, shape: Shape
) -> None:
    wanted = request(prompt, seed=7, shape=shape, negative_prompt="blurry")

    [picture] = draw(generator, [wanted])

    assert picture.shape == (shape.height, shape.width, 3)
    assert distance(picture, draw_stock(stock, wanted)) <= LEVELS


def test_a_row_alone_and_in_a_batch_of_eight_of_mixed_lengths_is_the_same_picture(generator: Generator) -> None:
    requests = [request(prompt, seed=seed) for seed, prompt in enumerate(MIXED)]
    together = draw(generator, requests)

    alone = [draw(generator, [one])[0] for one in requests]

    assert max(distance(one, other) for one, other in zip(together, alone, strict=True)) <= LEVELS
    assert min(distance(one, other) for one, other in pairwise(together)) > 20


def test_negative_prompts_of_mixed_lengths_share_a_batch(generator: Generator) -> None:
    requests = [request("a mug", negative_prompt=prompt) for prompt in MIXED]

    together = draw(generator, requests)

    alone = [draw(generator, [one])[0] for one in requests]
    assert max(distance(one, other) for one, other in zip(together, alone, strict=True)) <= LEVELS


def test_a_picture_depends_on_its_own_seed_alone(generator: Generator) -> None:
    first, again, other = draw(generator, [request("a mug", seed=s) for s in (3, 3, 4)])

    assert distance(first, again) <= LEVELS
    assert distance(first, other) > 20


def test_a_seed_means_the_same_noise_in_every_precision(tiny: Checkpoint) -> None:
    full, half = (Generator.load(tiny, device="cpu", precision=name) for name in ("float32", "bfloat16"))

    noise = draw_noise(full.components, SHAPE, [5])

    assert torch.equal(noise.bfloat16(), draw_noise(half.components, SHAPE, [5]))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_in_low_precision_a_picture_is_as_near_to_float32_as_diffusers_own(
    tiny: Checkpoint, tiny_folder: Path, generator: Generator, precision: str, fused: bool
) -> None:
    model = Generator.load(tiny, device="cpu", precision=precision, fused=fused)
    stock = open_stock(tiny_folder, getattr(torch, precision))
    wanted = [request(prompt, seed=seed) for seed, prompt in enumerate(MIXED)]

    ours, exact = np.stack(draw(model, wanted)), np.stack(draw(generator, wanted))

    assert model.precision == precision
    # Stock draws its noise in low precision, too, so it is given ours.
    noise = [draw_noise(model.components, SHAPE, [one.seed]) for one in wanted]
    theirs = [draw_stock(stock, one, latents=latents) for one, latents in zip(wanted, noise, strict=True)]
    assert no_worse(ours, np.stack(theirs), exact)


@pytest.mark.parametrize("attention", ["auto", "cudnn", "flash", "efficient", "math"])
def test_whatever_attention_is_tried_first_the_picture_is_the_same(
    tiny: Checkpoint, generator: Generator, attention: Attention
) -> None:
    wanted = [request(prompt, seed=seed) for seed, prompt in enumerate(MIXED[:3])]

    model = Generator.load(tiny, device="cpu", attention=attention)

    for one, other in zip(draw(model, wanted), draw(generator, wanted), strict=True):
        assert distance(one, other) <= LEVELS


@pytest.mark.parametrize("threshold", [0.5, 0.7])
def test_with_a_step_cache_a_row_alone_and_in_a_batch_of_mixed_lengths_is_the_same_picture(
    tiny: Checkpoint, threshold: float
) -> None:
    model = Generator.load(tiny, device="cpu", step_cache=threshold)
    requests = [request(prompt, seed=seed, shape=replace(SHAPE, steps=12)) for seed, prompt in enumerate(MIXED)]
    together = draw(model, requests)

    assert isinstance(model.predictor, Varlen)
    assert len(requests) * 3 < model.predictor.computed < model.predictor.asked == len(requests) * 12
    alone = [draw(model, [one])[0] for one in requests]
    assert max(distance(one, other) for one, other in zip(together, alone, strict=True)) <= LEVELS


def test_in_bfloat16_batch_mates_move_a_pixel_by_less_than_a_level_on_average(tiny: Checkpoint) -> None:
    model = Generator.load(tiny, device="cpu", precision="bfloat16")
    requests = [request(prompt, seed=seed) for seed, prompt in enumerate(MIXED)]

    together = draw(model, requests)

    for one, wanted in zip(together, requests, strict=True):
        assert np.abs(one.astype(int) - draw(model, [wanted])[0]).mean() < 1


def test_unfused_rows_of_one_length_need_no_mask_and_batches_are_filled_across_lengths(
    tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Generator.load(tiny, device="cpu", fused=False)
    forward, seen = generator.components.transformer.forward, []

    def watch(*args: Any, **kwargs: Any) -> Any:
        seen.append((len(kwargs["hidden_states"]), kwargs["encoder_hidden_states_mask"] is not None))
        return forward(*args, **kwargs)

    monkeypatch.setattr(generator.components.transformer, "forward", watch)
    shape = Shape(32, 32, 2, 1.0)

    render(generator, [request(prompt, shape=shape) for prompt in ["a mug"] * 8 + MIXED])

    assert seen == [(8, False)] * 2 + [(8, True)] * 2


def test_each_distinct_prompt_is_embedded_once_and_all_lengths_together(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, seen = generator.components.text_encoder, []
    forward = encoder.forward

    def watch(input_ids: torch.Tensor, **kwargs: Any) -> Any:
        assert kwargs.get("attention_mask") is None
        seen.append([tuple(row) for row in input_ids.tolist()])
        return forward(input_ids=input_ids, **kwargs)

    monkeypatch.setattr(encoder, "forward", watch)

    render(generator, [request(prompt, seed=seed) for prompt in MIXED for seed in (1, 2)])

    (rows,) = seen
    assert len(rows) == len(set(rows)) == len(MIXED) + 1  # and the negative prompt, which all of them share


def test_a_prompt_is_embedded_beside_longer_ones_as_it_is_alone(generator: Generator) -> None:
    together, _ = embed_prompts(generator.components, PROMPTS, 1024)
    for prompt in PROMPTS:
        alone, _ = embed_prompts(generator.components, [prompt], 1024)
        assert together[prompt].shape == alone[prompt].shape
        torch.testing.assert_close(together[prompt], alone[prompt])


def test_more_tokens_than_go_together_are_embedded_in_batches(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = embed_prompts(generator.components, PROMPTS, 1024)
    monkeypatch.setattr(prompt_embeds, "TEXT_BATCH_TOKENS", 130)
    encoder, sizes = generator.components.text_encoder, []
    forward = encoder.forward

    def watch(input_ids: torch.Tensor, **kwargs: Any) -> Any:
        sizes.append(tuple(input_ids.shape))
        return forward(input_ids=input_ids, **kwargs)

    monkeypatch.setattr(encoder, "forward", watch)
    cut, _ = embed_prompts(generator.components, PROMPTS, 1024)

    assert sum(rows for rows, _ in sizes) == len(MIXED)
    assert len(sizes) > 1
    assert all(rows == 1 or rows * length <= 130 for rows, length in sizes)
    for prompt in PROMPTS:
        torch.testing.assert_close(cut[prompt], whole[prompt])


def test_without_guidance_the_negative_prompt_is_not_even_read(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = break_forward(generator, monkeypatch, lambda _: None)

    render(generator, [request("a mug", shape=Shape(32, 32, 3, 1.0), negative_prompt="a " * 2000)])

    assert sizes == [1, 1, 1]


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_a_prompt_that_stock_would_cut_fails_its_row_alone(tiny: Checkpoint, field: str) -> None:
    model = Generator.load(tiny, device="cpu", max_prompt_tokens=40)
    requests = [request("a mug"), request("a mug"), request("a mug")]
    requests[1] = PictureRequest(**{**vars(requests[1]), field: "mug " * 60})

    first, long, last = render(model, requests)

    assert first.failure is None
    assert last.failure is None
    assert long.pixels is None
    assert long.failure is not None
    assert long.failure.reason == "prompt_too_long"
    assert not long.failure.retryable
    assert f"{model.count_tokens(['mug ' * 60])[0]} tokens" in long.failure.message
    assert long.failure.message.startswith("negative_prompt: ") == (field == "negative_prompt")


def test_a_prompt_of_exactly_the_longest_length_is_drawn_whole(generator: Generator, stock: QwenImagePipeline) -> None:
    prompt = next(text for n in range(500, 1100) if generator.count_tokens([text := "b" * n]) == [1024])
    wanted = request(prompt)

    [picture] = draw(generator, [wanted])

    assert distance(picture, draw_stock(stock, wanted, max_sequence_length=1024)) <= LEVELS


@pytest.mark.parametrize("prompt", ["\ud800 mug", "<|image_pad|> <|vision_start|>", "{} {0} {prompt}", "\x00"])
def test_a_strange_prompt_harms_no_other_row(generator: Generator, prompt: str) -> None:
    alone = draw(generator, [request("a mug")])[0]

    pictures = render(generator, [request("a mug"), request(prompt)])

    assert pictures[0].pixels is not None
    assert distance(pictures[0].pixels, alone) <= LEVELS
    assert pictures[1].pixels is not None or pictures[1].failure is not None


def test_a_text_encoder_that_fails_on_one_prompt_fails_that_row_alone(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = generator.components.text_encoder.forward
    guilty = generator.components.tokenizer(generator.components.template.format("b mug"))["input_ids"]

    def faulty(input_ids: torch.Tensor, **kwargs: Any) -> Any:
        if guilty in input_ids.tolist():
            raise RuntimeError("index out of range in self")
        return forward(input_ids=input_ids, **kwargs)

    monkeypatch.setattr(generator.components.text_encoder, "forward", faulty)

    first, second = render(generator, [request("a mug"), request("b mug")])

    assert first.failure is None
    assert second.failure is not None
    assert second.failure.reason == "internal"
    assert "index out of range" in second.failure.message


@pytest.mark.parametrize("part", ["text_encoder", "vae"])
def test_numbers_that_are_not_finite_fail_their_row_alone_instead_of_making_it_black(
    generator: Generator, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    requests = [request(prompt, seed=seed) for seed, prompt in enumerate(MIXED)]
    alone = [draw(generator, [one])[0] for one in requests]
    if part == "text_encoder":
        template, tokenizer = generator.components.template, generator.components.tokenizer
        guilty = tokenizer(template.format("a kettle on white"))["input_ids"]

        def spoil(_: Any, __: Any, kwargs: Any, output: Any) -> None:
            spoiled = [row[: len(guilty)] == guilty for row in kwargs["input_ids"].tolist()]
            output.last_hidden_state[spoiled] = torch.nan

        generator.components.text_encoder.register_forward_hook(spoil, with_kwargs=True)
    else:
        decode = generator.components.vae.decode

        def decode_badly(latents: torch.Tensor, **kwargs: Any) -> Any:
            pixels = decode(latents, **kwargs)[0]
            pixels[2, :, :, 5, 5] = torch.inf
            return (pixels,)

        monkeypatch.setattr(generator.components.vae, "decode", decode_badly)
        monkeypatch.setattr("models.engines.engine.cut_into_batches", lambda lengths, _: [list(range(len(lengths)))])

    pictures = render(generator, requests)

    failed = [picture for picture in pictures if picture.failure]
    assert 2 in [picture.index for picture in failed]
    assert len(failed) < len(pictures)
    assert all(picture.failure and picture.failure.reason == "not_finite" for picture in failed)
    for picture in pictures:
        assert (picture.pixels is None) == (picture.failure is not None)
        if picture.pixels is not None:
            assert distance(picture.pixels, alone[picture.index]) <= LEVELS


def test_a_batch_that_runs_out_of_memory_is_halved_and_the_size_remembered(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(rows: int) -> None:
        if rows > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    sizes = break_forward(generator, monkeypatch, fault)
    requests = [request("a mug", seed=seed, shape=Shape(32, 32, 2, 1.0)) for seed in range(11)]

    assert all(picture.failure is None for picture in render(generator, requests))
    assert sizes == [8, 4, *[2] * 8, *[2, 2], 1, 1]

    sizes.clear()
    assert all(picture.failure is None for picture in render(generator, requests))
    assert sizes == [*[2] * 10, 1, 1]


def test_rows_are_made_when_memory_shrinks_in_the_middle_of_a_run_and_the_next_process_knows(
    generator: Generator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fits = [8]

    def fault(rows: int) -> None:
        if rows > fits[0]:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    break_forward(generator, monkeypatch, fault)
    monkeypatch.setattr(generator, "_rows", sizes := BatchSizes(tmp_path / "sizes.json"))
    requests = [request("a mug", seed=seed, shape=Shape(32, 32, 2, 1.0)) for seed in range(20)]
    demand = Demand(32, 32, 0, False, 128)
    sizes.keep(demand, Fit(8, 100, 0.1, grows=False))

    batches = generator.render(requests)
    first = next(batches)
    fits[0] = 3  # somebody else took it
    rest = list(batches)

    assert [len(batch) for batch in (first, *rest)] == [8, *[2] * 6]
    pictures = [picture for batch in (first, *rest) for picture in batch]
    assert sorted(picture.index for picture in pictures) == [*range(20)]
    assert all(picture.failure is None for picture in pictures)
    known = BatchSizes(tmp_path / "sizes.json").found(demand, 20, 1000)
    assert known is not None
    assert known.rows == 2


def test_a_row_that_does_not_fit_beside_the_blocks_that_stay_is_made_when_fewer_stay(
    tiny: Checkpoint, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = Generator.load(tiny, device="cpu", placement="staged")
    assert isinstance(staged.predictor, Varlen)
    stream = staged.predictor.blocks.stream

    def fault(_: int) -> None:
        if not stream.streamed:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    break_forward(staged, monkeypatch, fault)
    requests = [request("a mug", seed=seed, shape=Shape(32, 32, 2, 1.0)) for seed in range(3)]

    made = render(staged, requests)

    assert stream.streamed
    for picture, expected in zip(made, render(generator, requests), strict=True):
        assert picture.failure is None
        assert np.array_equal(picture.pixels, expected.pixels)

    monkeypatch.undo()
    render(staged, [request("a mug", shape=Shape(64, 32, 2, 1.0))])  # others have what these had not
    assert stream.streamed == 0


def test_a_row_that_does_not_fit_by_itself_fails_and_may_be_tried_again(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(_: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    break_forward(generator, monkeypatch, fault)

    for picture in render(generator, [request("a mug"), request("a hat")]):
        assert picture.failure is not None
        assert picture.failure.reason == "out_of_memory"
        assert picture.failure.retryable
        assert "64 × 48" in picture.failure.message


def test_an_exception_in_a_batch_fails_the_guilty_row_alone(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [request("a mug", seed=seed) for seed in range(5)]
    drawn: list[int] = []

    def fault(parts: Any, shape: Shape, seeds: Any) -> torch.Tensor:
        if 3 in seeds:
            raise RuntimeError("The size of tensor a (3) must match\nsecond line")
        drawn.append(len(seeds))
        return draw_noise(parts, shape, seeds)

    monkeypatch.setattr("models.engines.engine.draw_noise", fault)

    pictures = render(generator, requests)

    assert [picture.failure is None for picture in pictures] == [True, True, True, False, True]
    assert pictures[3].failure is not None
    assert pictures[3].failure.reason == "internal"
    assert pictures[3].failure.message == "The model failed on this row: The size of tensor a (3) must match."
    assert drawn == [1, 1, 1, 1]


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered", 700),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling cublasGemmEx"),
    ],
    ids=["accelerator", "cublas"],
)
def test_a_lost_gpu_ends_the_lane_and_blames_no_row(
    generator: Generator, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fault(_: int) -> None:
        raise error

    break_forward(generator, monkeypatch, fault)

    with pytest.raises(DeviceLost, match="CUDA error"):
        render(generator, [request("a mug"), request("a hat")])


def test_every_batch_is_yielded_as_it_finishes_and_its_time_shared_among_its_rows(tiny: Checkpoint) -> None:
    model = Generator.load(tiny, device="cpu", batch=2)

    batches = list(model.render([request("a mug", seed=seed) for seed in range(5)]))

    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert all(picture.seconds > 0 for batch in batches for picture in batch)
    assert batches[0][0].seconds == batches[0][1].seconds


def test_rows_that_cannot_be_drawn_together_are_refused(generator: Generator) -> None:
    assert list(generator.render([])) == []
    with pytest.raises(ValueError, match="share one shape"):
        list(generator.render([request("a"), request("a", shape=Shape(32, 32, 2, 1.0))]))
    with pytest.raises(ValueError, match="multiples of 16"):
        list(generator.render([request("a", shape=Shape(40, 32, 2, 1.0))]))
    with pytest.raises(ValueError, match="at least 2"):
        list(generator.render([request("a", shape=Shape(32, 32, 1, 1.0))]))


@pytest.mark.parametrize("option", [{}, {"step_cache": 0.3}, {"precision": "float8"}, {"fused": False}])
@pytest.mark.parametrize("placement", ["staged", "streamed"])
def test_wherever_the_weights_live_the_pictures_are_the_same_bit_for_bit(
    tiny: Checkpoint, placement: WantedPlacement, option: dict[str, Any]
) -> None:
    resident = Generator.load(tiny, device="cpu", **option)
    placed = Generator.load(tiny, device="cpu", placement=placement, **option)

    assert placed.placement.kind == placement
    requests = [request(prompt, shape=Shape(64, 64, 8, 4.0)) for prompt in MIXED[:3]]
    for one, other in zip(draw(placed, requests), draw(resident, requests), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("staying", [0, 1, 2])
def test_blocks_that_stay_and_blocks_that_come_make_the_same_pictures(
    tiny: Checkpoint, generator: Generator, staying: int
) -> None:
    blocks = len(generator.components.transformer.transformer_blocks)
    placement = Placement("streamed", blocks, staying)
    placed = Generator(components.load_components(tiny, torch.device("cpu"), torch.float32, placement))

    assert isinstance(placed.predictor, Varlen)
    assert placed.predictor.blocks.stream.streamed == blocks - staying
    requests = [request(prompt) for prompt in MIXED[:3]]
    for one, other in zip(draw(placed, requests), draw(generator, requests), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    "options", [OptimizationOptions(), OptimizationOptions(float8=True), OptimizationOptions(step_cache=0.3)]
)
def test_blocks_on_several_devices_make_the_same_pictures(tiny: Checkpoint, options: OptimizationOptions) -> None:
    here = torch.device("cpu")
    homes = ("cpu", "cpu:0")  # to torch they are two, and every way between them is gone
    several = Generator(
        components.load_components(tiny, here, torch.float32, Placement("balanced", 2, 2, homes)), options=options
    )
    one = Generator(components.load_components(tiny, here, torch.float32), options=options)

    requests = [request(prompt, shape=Shape(64, 64, 8, 4.0)) for prompt in MIXED[:3]]
    for ours, theirs in zip(draw(several, requests), draw(one, requests), strict=True):
        assert np.array_equal(ours, theirs)


def test_several_gpus_are_refused_where_there_is_one(tiny: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match="needs several GPUs"):
        Generator.load(tiny, device="cpu", placement="balanced")


def test_a_checkpoint_is_in_memory_once_where_it_is_streamed(tiny: Checkpoint) -> None:
    placed = Generator.load(tiny, device="cpu", placement="streamed")
    parts = placed.components

    left = sum(parameter.nbytes for parameter in parts.transformer.transformer_blocks.parameters())
    modulations = sum(
        parameter.nbytes
        for block in parts.transformer.transformer_blocks
        for part in (block.img_mod, block.txt_mod)
        for parameter in part.parameters()
    )
    assert left == modulations > 0
    assert sum(parameter.nbytes for parameter in parts.text_encoder.layers.parameters()) == 0


def test_opening_a_model_says_nothing(
    tiny: Checkpoint, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    render(Generator.load(tiny, device="cpu"), [request("a mug", shape=Shape(32, 32, 2, 1.0))])

    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_a_checkpoint_whose_weights_do_not_fit_its_config_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    shutil.copytree(tiny_folder, folder)
    config = json.loads((folder / "transformer" / "config.json").read_text())
    (folder / "transformer" / "config.json").write_text(json.dumps(config | {"num_layers": 3}))

    with pytest.raises(CheckpointError, match="lacks weights"):
        Generator.load(find_checkpoint(str(folder)), device="cpu")


@pytest.mark.parametrize(("field", "value"), [("device", "cuda"), ("precision", "int3")])
def test_a_device_or_precision_that_is_not_there_is_refused_with_a_sentence(
    tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch, field: str, value: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(CheckpointError, match=value):
        Generator.load(tiny, **{field: value})


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"precision": "float8"}, "The precision float8 needs the fused transformer, but fused is off"),
        ({"step_cache": 0.1}, "A step cache needs the fused transformer, but fused is off"),
    ],
    ids=str,
)
def test_a_lever_that_needs_the_fused_transformer_is_refused_without_it(
    tiny: Checkpoint, option: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(CheckpointError, match=sentence):
        Generator.load(tiny, device="cpu", fused=False, **option)


class Card:
    """A GPU of so many bytes, all of them free, whose every row of a step takes a constant of bytes and of seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, free: int, bytes_a_row: int, seconds_a_row: float) -> None:
        self.free, self.bytes_a_row, self.seconds_a_row = free, bytes_a_row, seconds_a_row
        self.measured: list[int] = []
        self.roomy = 1000  # rows up to which torch has to give nothing back
        monkeypatch.setattr(Generator, "device", torch.device("cuda"))
        monkeypatch.setattr("models.engines.engine.free_memory", lambda _: self.free)
        monkeypatch.setattr("models.memory.measure.measure_step", self.measure)
        monkeypatch.setattr("models.memory.measure.WARM", 0.0)
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)

    def measure(self, _: object, __: object, ___: Workload, ____: int, rows: int) -> Cost:
        self.measured.append(rows)
        if rows * self.bytes_a_row > self.free:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return Cost(rows * self.bytes_a_row, rows * self.seconds_a_row, is_tight=rows > self.roomy)


DEMAND = Demand(1024, 1024, 0, True, 128)
FIFTY = Workload(Shape(1024, 1024, 50, 4.0))
FIFTY_SMALL = Workload(Shape(32, 32, 50, 4.0))


@pytest.mark.parametrize(
    ("batch", "bytes_a_row", "seconds_a_row", "rows"),
    [
        (None, 1, 0.25, 8),  # 100 s are long enough, and more rows gain nothing
        (None, 1, 0.01, 16),  # as many tokens as do a resident model good
        (4, 1, 0.01, 4),
        (None, 30, 0.01, 3),  # the tenth that isn't to be used counts, too
        (None, 400, 0.01, 1),  # not even one: tried all the same
    ],
)
def test_on_a_gpu_a_batch_is_as_large_as_memory_and_its_use_allow(
    generator: Generator,
    monkeypatch: pytest.MonkeyPatch,
    batch: int | None,
    bytes_a_row: int,
    seconds_a_row: float,
    rows: int,
) -> None:
    Card(monkeypatch, free=100, bytes_a_row=bytes_a_row, seconds_a_row=seconds_a_row)
    monkeypatch.setattr(generator, "batch", batch)
    monkeypatch.setattr(generator, "_rows", BatchSizes())

    generator._fit(DEMAND, FIFTY, 64)

    assert generator._rows[DEMAND] == rows


def test_a_batch_that_leaves_torch_no_room_to_keep_anything_is_not_taken(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    Card(monkeypatch, free=100, bytes_a_row=1, seconds_a_row=0.01).roomy = 6
    monkeypatch.setattr(generator, "_rows", BatchSizes())
    generator._fit(DEMAND, FIFTY, 64)
    assert generator._rows[DEMAND] == 6


def test_measuring_a_batch_denoises_one_step_of_it(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = break_forward(generator, monkeypatch, lambda _: None)
    cost = measure_step(generator.components, generator.predictor, FIFTY_SMALL, 128, 5)
    assert sizes == [5]
    assert cost.seconds > 0
    assert (cost.bytes, cost.is_tight) == (0, False)  # of no GPU


def test_a_batch_size_is_found_once_for_a_gpu_and_a_model_whoever_asks(
    generator: Generator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    card = Card(monkeypatch, free=100, bytes_a_row=10, seconds_a_row=0.01)
    file = tmp_path / "sizes.json"

    def fitted(count: int) -> int:
        card.measured.clear()
        monkeypatch.setattr(generator, "_rows", BatchSizes(file))
        generator._fit(DEMAND, FIFTY, count)
        return generator._rows[DEMAND]

    def measured() -> list[int]:
        return [rows for rows, _ in groupby(card.measured)]

    assert (fitted(2), measured()) == (2, [1, 2])
    assert (fitted(64), measured()) == (9, [1, 2, 4, 8, 9])  # more might pay for more rows
    assert (fitted(64), card.measured) == (9, [])
    assert (fitted(500), card.measured) == (9, [])
    card.free = 50  # another process has the rest
    assert fitted(64) == 4
    generator._rows[DEMAND] = 2  # halved
    assert (fitted(64), card.measured) == (2, [])
