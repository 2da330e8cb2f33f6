"""Captions that the checkpoint's own vision-language model writes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import QwenImageLayeredPipeline
from PIL import Image
from transformers import GenerationMixin

from models.checkpoints.checkpoint import Checkpoint, CheckpointError, find_checkpoint, writes_captions
from models.engines.captioner import WrittenCaption
from models.engines.decomposer import Decomposer
from models.requests import layers_size
from tests.models.conftest import collect, picture, save_layered, tiny_vae

TOKENS = 40  # of a caption
SIZES = [(90, 90), (200, 80), (64, 64), (90, 90), (210, 80)]  # two aspects, at 64 pixels two sizes


def write(model: Decomposer, sources: list[np.ndarray], **options: Any) -> list[WrittenCaption]:
    return collect(model.caption(sources, resolution=64, **options), len(sources))


def watch_generate(model: Decomposer, monkeypatch: pytest.MonkeyPatch, most: int | None = None) -> list[int]:
    """Note how many pictures are captioned at a time; more than `most` run out of memory."""
    assert model.components.captioner is not None
    generate, sizes = model.components.captioner.model.generate, []

    def watched(**inputs: Any) -> Any:
        sizes.append(len(inputs["input_ids"]))
        assert inputs["attention_mask"].all()
        if most and sizes[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return generate(**inputs)

    monkeypatch.setattr(model.components.captioner.model, "generate", watched)
    return sizes


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model with random weights never ends a caption by itself."""
    generate = GenerationMixin.generate
    monkeypatch.setattr(
        GenerationMixin, "generate", lambda self, **inputs: generate(self, **inputs | {"max_new_tokens": TOKENS})
    )


@pytest.fixture
def sources() -> list[np.ndarray]:
    return [picture(width, height, seed) for seed, (width, height) in enumerate(SIZES)]


@pytest.mark.parametrize(("use_en_prompt", "pictures"), [(True, 3), (False, 1)])
def test_a_caption_is_the_one_that_diffusers_would_write_without_chance(
    decomposer: Decomposer,
    stock_layered: QwenImageLayeredPipeline,
    sources: list[np.ndarray],
    use_en_prompt: bool,
    pictures: int,
) -> None:
    written = write(decomposer, sources[:pictures], use_en_prompt=use_en_prompt)

    for one, source in zip(written, sources, strict=False):
        height, width = source.shape[:2]
        shown = Image.fromarray(source).resize(layers_size(width, height, 64, 16), Image.Resampling.LANCZOS)
        assert one.text
        assert one.text == stock_layered.get_image_caption(shown, use_en_prompt, torch.device("cpu"))
    assert len({one.text for one in written}) == pictures


@pytest.mark.usefixtures("short")
def test_a_caption_is_the_same_again_alone_and_among_others_even_if_the_checkpoint_samples(
    decomposer: Decomposer, sources: list[np.ndarray]
) -> None:
    assert decomposer.components.captioner is not None
    settings = decomposer.components.captioner.model.generation_config
    settings.update(do_sample=True, temperature=5.0, top_k=500)
    together = write(decomposer, sources)

    alone = [write(decomposer, [source])[0] for source in sources]

    assert [one.text for one in together] == [one.text for one in alone]
    assert settings.do_sample  # the checkpoint's own settings stay as they are


@pytest.mark.usefixtures("short")
def test_pictures_of_one_aspect_are_captioned_together_and_none_is_padded(
    decomposer: Decomposer, sources: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = watch_generate(decomposer, monkeypatch)

    write(decomposer, sources)

    assert sizes == [3, 2]


@pytest.mark.usefixtures("short")
def test_out_of_memory_halves_the_batch_and_every_picture_is_captioned(
    decomposer: Decomposer, sources: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [one.text for one in write(decomposer, sources)]
    sizes = watch_generate(decomposer, monkeypatch, most=1)

    written = write(decomposer, sources)

    assert [one.text for one in written] == expected
    assert sizes == [3, 1, 1, 1, 2, 1, 1]


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (np.zeros((64, 64, 3), np.uint8), "must be uint8"),
        (np.zeros((0, 64, 4), np.uint8), "is empty"),
        (np.zeros((2, 9000, 4), np.uint8), "too narrow"),
    ],
    ids=["RGB", "empty", "narrow"],
)
def test_a_picture_that_cannot_be_captioned_fails_alone(
    decomposer: Decomposer, sources: list[np.ndarray], bad: np.ndarray, reason: str
) -> None:
    first, failed, last = write(decomposer, [sources[0], bad, sources[2]])

    assert first.text
    assert last.text
    assert failed.text is None
    assert failed.failure is not None
    assert failed.failure.reason == "internal"
    assert reason in failed.failure.message


def test_a_checkpoint_without_a_processor_asks_for_captions_and_decomposes_all_the_same(
    tmp_path: Path, sources: list[np.ndarray]
) -> None:
    folder = save_layered(tmp_path / "blind", tiny_vae(input_channels=4), sees=False)
    checkpoint = find_checkpoint(str(folder), pipeline=Decomposer.pipeline)
    model = Decomposer.load(checkpoint, device="cpu")

    assert not writes_captions(checkpoint)
    assert not model.writes_captions
    with pytest.raises(CheckpointError, match=r"names no processor.*Give captions, leave them empty"):
        write(model, sources)


def test_a_checkpoint_with_a_processor_writes_captions(tiny_layered: Checkpoint, decomposer: Decomposer) -> None:
    assert writes_captions(tiny_layered)
    assert decomposer.writes_captions
