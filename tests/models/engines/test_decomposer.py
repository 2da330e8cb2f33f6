from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import QwenImageLayeredPipeline
from PIL import Image

from models.architectures.qwen_image.varlen import Varlen
from models.checkpoints.checkpoint import Checkpoint, CheckpointError, find_checkpoint
from models.engines.decomposer import Decomposer, DeviceLost, Picture
from models.engines.engine import workload_of
from models.engines.generator import Generator
from models.memory.measure import measure_step
from models.placement_names import WantedPlacement
from models.requests import LayersRequest, Shape, check_aspect, layers_shape, layers_size
from models.sampling.denoise import _timesteps, draw_noise
from models.sampling.latents import encode
from tests.models.conftest import (
    LEVELS,
    MIXED,
    break_forward,
    collect,
    distance,
    no_worse,
    open_stock,
    picture,
    save_layered,
    tiny_vae,
)
from tests.models.conftest import request as picture_request


def request(source: np.ndarray, caption: str = "a red mug", seed: int = 0, **settings: Any) -> LayersRequest:
    height, width = source.shape[:2]
    negative_prompt = settings.pop("negative_prompt", " ")
    defaults = {"resolution": 64, "layers": 2, "steps": 3, "guidance": 4.0, "cfg_normalize": True, "multiple": 16}
    shape = layers_shape(width, height, **{**defaults, **settings})
    return LayersRequest(source, caption, negative_prompt, seed, shape)


def mixed_requests(count: int = len(MIXED)) -> list[LayersRequest]:
    return [request(picture(90, 80, seed), caption, seed) for seed, caption in enumerate(MIXED[:count])]


def run(model: Decomposer, requests: list[LayersRequest]) -> list[Picture]:
    return collect(model.decompose(requests), len(requests))


def decompose(model: Decomposer, requests: list[LayersRequest]) -> list[np.ndarray]:
    pictures = run(model, requests)
    assert [picture.failure for picture in pictures] == [None] * len(requests)
    return [picture.pixels for picture in pictures if picture.pixels is not None]


def decompose_stock(
    stock: QwenImageLayeredPipeline, requests: list[LayersRequest], resolution: int = 640, **more: Any
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
        **more,
    ).images
    return [np.stack([np.asarray(layer) for layer in row]) for row in rows]


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


def test_normalising_guidance_changes_the_layers_and_without_guidance_there_is_nothing_to_normalise(
    decomposer: Decomposer,
) -> None:
    source = picture(64, 64)
    on, off = (decompose(decomposer, [request(source, cfg_normalize=normalize)])[0] for normalize in (True, False))

    assert distance(on, off) > 10
    unguided = [request(source, guidance=1.0, cfg_normalize=normalize).shape for normalize in (True, False)]
    assert unguided[0] == unguided[1]


def test_a_row_alone_and_in_a_batch_of_eight_of_mixed_lengths_has_the_same_layers(decomposer: Decomposer) -> None:
    requests = mixed_requests()
    together = decompose(decomposer, requests)

    alone = [decompose(decomposer, [one])[0] for one in requests]

    assert max(distance(one, other) for one, other in zip(together, alone, strict=True)) <= LEVELS
    assert min(distance(one, other) for one, other in pairwise(together)) > 20


def test_with_a_step_cache_a_row_alone_and_in_a_batch_of_mixed_lengths_has_the_same_layers(
    tiny_layered: Checkpoint,
) -> None:
    model = Decomposer.load(tiny_layered, device="cpu", step_cache=0.4)
    requests = [request(picture(90, 80, seed), caption, seed, steps=12) for seed, caption in enumerate(MIXED)]
    together = decompose(model, requests)

    assert isinstance(model.predictor, Varlen)
    assert len(requests) * 3 < model.predictor.computed < model.predictor.asked == len(requests) * 12
    alone = [decompose(model, [one])[0] for one in requests]
    assert max(distance(one, other) for one, other in zip(together, alone, strict=True)) <= LEVELS


def test_an_empty_caption_is_a_caption(decomposer: Decomposer, stock_layered: QwenImageLayeredPipeline) -> None:
    wanted = request(picture(64, 64), caption="")

    [layers] = decompose(decomposer, [wanted])

    assert distance(layers, decompose_stock(stock_layered, [wanted])[0]) <= LEVELS


def test_layers_depend_on_their_own_source_caption_and_seed(decomposer: Decomposer) -> None:
    sources = [picture(64, 64, seed) for seed in (0, 0, 0, 5)]
    first, again, reseeded, other = decompose(
        decomposer, [request(source, seed=seed) for source, seed in zip(sources, (3, 3, 4, 3), strict=True)]
    )
    [recaptioned] = decompose(decomposer, [request(sources[0], "a kettle on white", seed=3)])

    assert distance(first, again) <= LEVELS
    assert min(distance(first, one) for one in (reseeded, other, recaptioned)) > 10


def test_pictures_of_one_aspect_share_a_batch_whatever_their_sizes(
    decomposer: Decomposer, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [request(picture(width, height), guidance=1.0) for width, height in ((30, 20), (300, 200), (151, 99))]
    alone = [decompose(decomposer, [one])[0] for one in requests]
    sizes = break_forward(decomposer, monkeypatch, lambda _: None)

    together = decompose(decomposer, requests)

    assert sizes == [3] * 3
    assert max(distance(one, other) for one, other in zip(together, alone, strict=True)) <= LEVELS


def test_the_alpha_of_a_source_reaches_the_vae(decomposer: Decomposer, stock_layered: QwenImageLayeredPipeline) -> None:
    sources = [picture(200, 100), picture(200, 100)]
    sources[1][..., 3] = 255
    shape = request(sources[0]).shape
    pictures = stock_layered.image_processor.preprocess(
        [Image.fromarray(s) for s in sources], shape.height, shape.width
    )

    with torch.inference_mode():
        encoded = encode(decomposer.components, shape.width, shape.height, sources)
        expected = stock_layered._encode_vae_image(pictures.unsqueeze(2), None)

    packed = stock_layered._pack_latents(expected.transpose(1, 2), 2, 16, shape.height // 8, shape.width // 8, 1)
    torch.testing.assert_close(encoded, packed, rtol=1e-4, atol=1e-4)
    assert (encoded[0] - encoded[1]).abs().max() > 0.1


@pytest.mark.parametrize(
    "settings", [{}, {"shift_terminal": None}, {"shift_terminal": None, "time_shift_type": "linear"}], ids=str
)
@pytest.mark.parametrize(("resolution", "toy"), [(640, 64), (1024, 102)])
def test_the_schedule_is_stocks(
    decomposer: Decomposer,
    stock_layered: QwenImageLayeredPipeline,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    resolution: int,
    toy: int,
) -> None:
    wanted = request(picture(100, 60), resolution=toy, steps=5, guidance=1.0)
    ours, theirs = (type(s).from_config(s.config, **settings) for s in [decomposer.components.scheduler] * 2)
    monkeypatch.setattr(stock_layered, "scheduler", theirs)
    frame_tokens = wanted.shape.width * wanted.shape.height // 16**2

    shift = decomposer.components.rules.shift(ours.config, 3 * frame_tokens, frame_tokens)
    timesteps = _timesteps(ours, 5, shift, torch.device("cpu"))

    decompose_stock(stock_layered, [wanted], resolution)
    torch.testing.assert_close(timesteps, theirs.timesteps)
    torch.testing.assert_close(ours.sigmas, theirs.sigmas)


@pytest.mark.usefixtures("toy_resolutions")
def test_a_vae_of_sixteen_pixels_a_latent_gives_what_stock_gives(tmp_path: Path) -> None:
    deep = {"dim_mult": [1, 1, 2, 2, 2], "temperal_downsample": [False] * 4}
    folder = save_layered(tmp_path / "deep", tiny_vae(input_channels=4, **deep))
    model = Decomposer.load(find_checkpoint(str(folder), pipeline=Decomposer.pipeline), device="cpu")
    wanted = request(picture(70, 100), multiple=model.size_multiple)

    [layers] = decompose(model, [wanted])

    assert model.size_multiple == 32
    assert layers.shape == (2, 64, 64, 4)
    assert distance(layers, decompose_stock(open_stock(folder), [wanted])[0]) <= LEVELS


@pytest.mark.usefixtures("toy_resolutions")
def test_in_bfloat16_layers_are_as_near_to_float32_as_diffusers_own(
    tiny_layered: Checkpoint, decomposer: Decomposer
) -> None:
    model = Decomposer.load(tiny_layered, device="cpu", precision="bfloat16")
    wanted = request(picture(64, 64), seed=1)
    noise = draw_noise(model.components, wanted.shape, [1])  # stock draws its noise in low precision, too

    [ours], [exact] = decompose(model, [wanted]), decompose(decomposer, [wanted])

    theirs = decompose_stock(open_stock(tiny_layered.folder, torch.bfloat16), [wanted], latents=noise)[0]
    assert no_worse(ours, theirs, exact)


def test_a_seed_means_the_same_noise_in_every_precision(tiny_layered: Checkpoint) -> None:
    full, half = (
        Decomposer.load(tiny_layered, device="cpu", precision=name).components for name in ("float32", "bfloat16")
    )
    shape = request(picture(64, 64)).shape

    assert torch.equal(draw_noise(full, shape, [5]).bfloat16(), draw_noise(half, shape, [5]))


@pytest.mark.parametrize("placement", ["staged", "streamed"])
def test_wherever_the_weights_live_layers_and_captions_are_the_same(
    tiny_layered: Checkpoint, decomposer: Decomposer, placement: WantedPlacement
) -> None:
    model = Decomposer.load(tiny_layered, device="cpu", placement=placement)
    requests = mixed_requests(3)

    assert model.placement.kind == placement
    for one, other in zip(decompose(model, requests), decompose(decomposer, requests), strict=True):
        assert np.array_equal(one, other)
    ours, theirs = (next(engine.caption([picture(64, 64)], resolution=64)) for engine in (model, decomposer))
    assert ours[0].text == theirs[0].text


def test_a_batch_that_runs_out_of_memory_is_halved_and_the_size_remembered_for_its_shape(
    decomposer: Decomposer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(rows: int) -> None:
        if rows > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    sizes = break_forward(decomposer, monkeypatch, fault)
    requests = [request(picture(64, 64, seed), seed=seed, steps=2, guidance=1.0) for seed in range(5)]
    fewer_layers = [replace(one, shape=replace(one.shape, layers=1)) for one in requests]

    assert all(picture.failure is None for picture in run(decomposer, requests))
    assert sizes == [5, *[2] * 4, 1, 1]

    sizes.clear()
    assert all(picture.failure is None for picture in run(decomposer, requests))
    assert sizes == [*[2] * 4, 1, 1]

    sizes.clear()
    assert all(picture.failure is None for picture in run(decomposer, fewer_layers))
    assert sizes[0] == 5


def test_a_picture_that_does_not_fit_by_itself_fails_and_says_what_to_do(
    decomposer: Decomposer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(_: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    break_forward(decomposer, monkeypatch, fault)

    for ended in run(decomposer, mixed_requests(2)):
        assert ended.failure is not None
        assert ended.failure.reason == "out_of_memory"
        assert ended.failure.retryable
        assert "64 × 64 in 2 layers" in ended.failure.message
        assert "fewer layers" in ended.failure.message


@pytest.mark.parametrize(
    "bad",
    [np.zeros((80, 90, 3), np.uint8), np.zeros((80, 90), np.uint8), np.zeros((80, 90, 4), np.float32)],
    ids=["RGB", "grey", "float"],
)
def test_a_source_that_is_no_rgba_picture_fails_its_row_alone(decomposer: Decomposer, bad: np.ndarray) -> None:
    requests = mixed_requests(4)
    requests[2] = replace(requests[2], source=bad)

    pictures = run(decomposer, requests)

    assert [one.failure is None for one in pictures] == [True, True, False, True]
    assert pictures[2].failure is not None
    assert pictures[2].failure.reason == "internal"
    assert "must be uint8 [H, W, 4]" in pictures[2].failure.message


def test_one_layer_that_is_not_finite_fails_its_row_alone(
    decomposer: Decomposer, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [request(picture(64, 64, seed), seed=seed) for seed in range(3)]
    alone = [decompose(decomposer, [one])[0] for one in requests]
    decode = decomposer.components.vae.decode

    def decode_badly(latents: torch.Tensor, **options: Any) -> Any:
        pixels = decode(latents, **options)[0]
        pixels[3, 3, :, 5, 5] = torch.nan  # the alpha of the second row's upper layer
        return (pixels,)

    monkeypatch.setattr(decomposer.components.vae, "decode", decode_badly)

    first, spoilt, last = run(decomposer, requests)

    assert spoilt.pixels is None
    assert spoilt.failure is not None
    assert spoilt.failure.reason == "not_finite"
    for one in (first, last):
        assert one.pixels is not None
        assert distance(one.pixels, alone[one.index]) <= LEVELS


def test_a_caption_that_is_too_long_fails_its_row_alone(tiny_layered: Checkpoint) -> None:
    model = Decomposer.load(tiny_layered, device="cpu", max_prompt_tokens=40)
    source = picture(64, 64)

    first, long = run(model, [request(source), request(source, "mug " * 60)])

    assert first.failure is None
    assert long.failure is not None
    assert long.failure.reason == "prompt_too_long"


def test_a_lost_gpu_blames_no_row(decomposer: Decomposer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(_: int) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered", 700)

    break_forward(decomposer, monkeypatch, fault)

    with pytest.raises(DeviceLost):
        run(decomposer, mixed_requests(2))


def test_every_batch_is_yielded_as_it_finishes(tiny_layered: Checkpoint) -> None:
    model = Decomposer.load(tiny_layered, device="cpu", batch=2)

    batches = list(model.decompose([request(picture(64, 64, seed)) for seed in range(3)]))

    assert [len(batch) for batch in batches] == [2, 1]
    assert all(one.seconds > 0 for batch in batches for one in batch)


def test_rows_that_cannot_be_decomposed_together_are_refused(decomposer: Decomposer, generator: Generator) -> None:
    square, wide = request(picture(64, 64)), request(picture(128, 64))
    assert list(decomposer.decompose([])) == []
    with pytest.raises(ValueError, match="share one shape"):
        run(decomposer, [square, wide])
    with pytest.raises(ValueError, match="128 × 64 would be stretched to 64 × 64"):
        run(decomposer, [square, replace(wide, shape=square.shape)])
    with pytest.raises(ValueError, match="at least one"):
        run(decomposer, [replace(square, shape=replace(square.shape, layers=0))])
    with pytest.raises(ValueError, match="multiples of 16"):
        run(decomposer, [replace(square, shape=replace(square.shape, width=72))])
    with pytest.raises(ValueError, match="has no layers"):
        list(generator.render([picture_request("a mug", shape=Shape(64, 64, 2, 1.0, layers=2))]))


def test_measuring_a_batch_denoises_one_step_of_it_with_sources(
    decomposer: Decomposer, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = decomposer.components.transformer.img_in
    forward, seen = embedder.forward, []

    def watch(latents: torch.Tensor) -> torch.Tensor:
        seen.append(len(latents))
        return forward(latents)

    monkeypatch.setattr(embedder, "forward", watch)

    workload = workload_of(request(picture(64, 64), layers=3))
    measure_step(decomposer.components, decomposer.predictor, workload, 128, 2)

    assert seen == [2 * 5 * 16]  # of each row the composite, three layers and the source


@pytest.mark.parametrize("resolution", [640, 1024])
def test_sizes_are_those_of_diffusers(resolution: int) -> None:
    from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus import calculate_dimensions

    sizes = [(int(w), int(h)) for w, h in np.random.default_rng(0).integers(200, 4000, (500, 2))]

    for width, height in sizes:
        expected = calculate_dimensions(resolution * resolution, width / height)
        assert layers_size(width, height, resolution, 16) == expected
        assert layers_size(width, height, resolution, 32) == expected
        assert layers_size(width, height, resolution, 64) == tuple(side // 64 * 64 for side in expected)


def test_a_picture_that_nothing_would_be_left_of_has_no_size() -> None:
    with pytest.raises(ValueError, match="0 × 10 is empty"):
        layers_size(0, 10, 640, 16)
    with pytest.raises(ValueError, match="20000 × 10 is too narrow"):
        layers_size(20000, 10, 640, 16)


@pytest.mark.parametrize(("width", "height"), [(4000, 20), (8, 2000), (2, 256), (5000, 30)])
def test_a_picture_whose_layers_would_have_another_aspect_is_refused_with_their_size(width: int, height: int) -> None:
    for resolution in (256, 640):
        size = layers_size(width, height, resolution, 16)
        with pytest.raises(
            ValueError, match=f"of {width} × {height} would come out at {size[0]} × {size[1]}, in another"
        ):
            check_aspect(width, height, size)


def test_layers_of_banners_keep_their_aspect() -> None:
    for width, height in ((1940, 600), (2000, 200), (200, 2000), (160, 1200), (3000, 150)):
        layers = layers_size(width, height, 640, 16)
        check_aspect(width, height, layers)
        assert layers[0] / layers[1] == pytest.approx(width / height, rel=0.125)


def test_a_checkpoint_of_the_other_kind_is_refused(tiny: Checkpoint, tiny_layered: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match="where a QwenImageLayeredPipeline is needed; to take pictures apart"):
        Decomposer.load(tiny, device="cpu")
    with pytest.raises(CheckpointError, match="where a QwenImagePipeline is needed; to make pictures from prompts"):
        Generator.load(tiny_layered, device="cpu")
