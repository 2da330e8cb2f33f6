"""One vector a prompt, the same whoever reads it and beside whatever; and rows that are refused by theirs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from models.checkpoints.checkpoint import Checkpoint
from models.engines.decomposer import Decomposer
from models.engines.engine import Engine
from models.engines.generator import Generator, Picture
from models.loading.prompt_encoder import PromptEncoder, load_prompt_encoder
from models.requests import Conditioning, LayersRequest, PictureRequest, SeenPicture, layers_shape
from models.sampling.pooled import Pooled, pool, read_prompts
from models.sampling.prompt_embeds import embed_prompts
from tests.models.conftest import LEVELS, MIXED, SHAPE, break_forward, collect, distance, request

PROMPTS = [Conditioning(text) for text in MIXED]
NEAR = 1e-4  # of values around 1, in float32


class Bars:
    """Refuses requests with a word in their texts, and remembers what it saw."""

    def __init__(self, word: str, requests: Sequence[PictureRequest | LayersRequest]) -> None:
        self.word, self.requests, self.saw = word, requests, dict[Conditioning, Pooled]()

    def __call__(self, pooled: Mapping[Conditioning, Pooled]) -> Collection[int]:
        self.saw |= pooled
        texts = [" ".join(conditioning.text for conditioning in one.conditionings) for one in self.requests]
        return [index for index, text in enumerate(texts) if self.word in text]


def render(model: Generator, requests: list[PictureRequest], word: str = "gun") -> list[Picture]:
    return collect(model.render(requests, admit=Bars(word, requests)), len(requests))


def test_a_vector_holds_the_mean_of_a_prompts_tokens_and_its_last_one() -> None:
    pooled = pool(torch.tensor([[1.0, 2.0], [3.0, 6.0]], dtype=torch.bfloat16))

    assert pooled.dtype == np.float32
    assert pooled.tolist() == [2.0, 4.0, 3.0, 6.0]


def test_a_prompt_has_the_same_vector_alone_and_among_others_of_other_lengths(generator: Generator) -> None:
    together, _ = read_prompts(generator.components, PROMPTS)

    for prompt in PROMPTS:
        alone, _ = read_prompts(generator.components, [prompt])
        assert np.abs(alone[prompt] - together[prompt]).max() <= NEAR


@pytest.mark.parametrize("fused", [True, False])
def test_every_road_is_asked_with_the_same_vectors(tiny: Checkpoint, generator: Generator, fused: bool) -> None:
    model, requests = Generator.load(tiny, device="cpu", fused=fused), [request(prompt) for prompt in MIXED]
    bars = Bars("nothing that is there", requests)

    list(model.render(requests, admit=bars))

    expected, _ = read_prompts(generator.components, PROMPTS)
    assert {*PROMPTS} < {*bars.saw}  # and the negative prompt
    assert max(np.abs(expected[prompt] - bars.saw[prompt]).max() for prompt in PROMPTS) <= NEAR


def test_a_refused_row_is_never_drawn_and_its_batch_mates_are_as_they_would_be(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [request(prompt, seed=seed) for seed, prompt in enumerate(["a mug", "a gun", "a red mug", "gun"])]
    alone = [render(generator, [requests[at]])[0] for at in (0, 2)]
    sizes = break_forward(generator, monkeypatch, lambda _: None)

    pictures = render(generator, requests)

    assert [picture.is_refused for picture in pictures] == [False, True, False, True]
    assert all(picture.pixels is None and picture.failure is None for picture in pictures if picture.is_refused)
    assert set(sizes) == {2}
    for one, picture in zip(alone, (pictures[0], pictures[2]), strict=True):
        assert one.pixels is not None
        assert picture.pixels is not None
        assert distance(one.pixels, picture.pixels) <= LEVELS


def test_where_all_rows_are_refused_the_transformer_does_nothing(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = break_forward(generator, monkeypatch, lambda _: None)

    assert all(picture.is_refused for picture in render(generator, [request("a gun"), request("guns")]))
    assert sizes == []


@pytest.mark.parametrize(("guidance", "is_refused"), [(4.0, True), (1.0, False)])
def test_a_negative_prompt_is_looked_at_where_it_conditions(
    generator: Generator, guidance: float, is_refused: bool
) -> None:
    shape = type(SHAPE)(SHAPE.width, SHAPE.height, 2, guidance)

    (picture,) = render(generator, [request("a mug", shape=shape, negative_prompt="a gun")])

    assert picture.is_refused is is_refused


def test_a_row_that_fails_is_no_refusal(tiny: Checkpoint) -> None:
    generator = Generator.load(tiny, device="cpu", max_prompt_tokens=12)

    too_long, fine = render(generator, [request("gun " * 40), request("a mug")])

    assert (too_long.is_refused, too_long.failure is not None) == (False, True)
    assert fine.pixels is not None


def test_what_answers_with_an_exception_stops_the_work(generator: Generator) -> None:
    def fails(_: Mapping[Conditioning, Pooled]) -> Collection[int]:
        raise RuntimeError("nothing was judged")

    with pytest.raises(RuntimeError, match="nothing was judged"):
        list(generator.render([request("a mug")], admit=fails))


def test_the_caption_of_a_source_picture_is_looked_at(decomposer: Decomposer) -> None:
    source = np.full((64, 64, 4), 200, dtype=np.uint8)
    shape = layers_shape(
        64, 64, multiple=decomposer.size_multiple, resolution=64, layers=2, steps=2, guidance=1.0, cfg_normalize=True
    )
    requests = [LayersRequest(source, caption, " ", 0, shape) for caption in ("a mug", "a gun")]

    made, refused = collect(decomposer.decompose(requests, admit=Bars("gun", requests)), 2)

    assert (made.is_refused, refused.is_refused) == (False, True)
    assert made.pixels is not None


def one_prompt(reader: PromptEncoder, prompt: str) -> torch.Tensor:
    embeds, failures = embed_prompts(reader, [Conditioning(prompt)], 1024)
    assert not failures
    return embeds[Conditioning(prompt)]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_a_reader_alone_reads_as_the_whole_model_does(tiny: Checkpoint, precision: str) -> None:
    whole: Engine = Generator.load(tiny, device="cpu", precision=precision)
    reader = load_prompt_encoder(tiny, device="cpu", precision=precision)

    assert not hasattr(reader, "transformer")
    assert torch.equal(one_prompt(reader, "a red mug"), one_prompt(whole.components, "a red mug"))


def test_a_reader_of_a_layered_checkpoint_reads_as_the_whole_model_does(
    tiny_layered: Checkpoint, decomposer: Decomposer
) -> None:
    reader: Any = load_prompt_encoder(tiny_layered, device="cpu")

    assert torch.equal(one_prompt(reader, "a red mug"), one_prompt(decomposer.components, "a red mug"))


def test_one_text_beside_other_pictures_is_another_conditioning() -> None:
    white, black = (np.full((2, 3, 3), level, dtype=np.uint8) for level in (255, 0))
    seen = {
        Conditioning("a mug"),
        *(Conditioning("a mug", (SeenPicture.of(pixels),)) for pixels in (white, black, white.copy())),
        Conditioning("a mug", (SeenPicture.of(white), SeenPicture.of(black))),
        Conditioning("a mug", (SeenPicture.of(black), SeenPicture.of(white))),
        Conditioning("a mug", (SeenPicture.of(white.reshape(3, 2, 3)),)),
    }

    assert len(seen) == 6


def test_a_text_encoder_that_reads_texts_alone_refuses_pictures(generator: Generator) -> None:
    seen = SeenPicture.of(np.zeros((2, 3, 3), dtype=np.uint8))

    with pytest.raises(ValueError, match="reads texts alone"):
        read_prompts(generator.components, [Conditioning("a mug", (seen,))])
