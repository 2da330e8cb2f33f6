import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast

from models.checkpoints.checkpoint import CheckpointError, find_clip
from models.clip.clip import Clip
from models.clip.clip_windows import _broken
from tests.models.conftest import tiny_tokenizer

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen " * 5


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> Clip:
    return Clip.load(find_clip(str(clip_folder)), device="cpu")


@pytest.fixture
def hugging_clip(clip_folder: Path, tmp_path: Path) -> Clip:
    """The same CLIP with a tokenizer of transformers, as multilingual ones have."""
    folder = Path(shutil.copytree(clip_folder, tmp_path / "clip"))
    backend = tiny_tokenizer()._tokenizer
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<|endoftext|>")
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "acme/tokenizer"
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return Clip.load(find_clip(str(folder)), device="cpu")


def pictures(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (40 + 8 * i, 64, 3), dtype=np.uint8) for i in range(count)]


def test_texts_and_pictures_are_embedded_as_open_clip_does_it(clip: Clip, clip_folder: Path) -> None:
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{clip_folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{clip_folder}")(["a red mug", "红色"])
    squares = [picture[:40, :40] for picture in pictures(2)]  # of others open_clip would cut off the ends
    with torch.no_grad():
        texts = model.eval().encode_text(tokens, normalize=True).numpy()
        seen = model.encode_image(torch.stack([preprocess(Image.fromarray(p)) for p in squares]), normalize=True)

    np.testing.assert_allclose(clip.embed_texts(["a red mug", "红色"]), texts, atol=1e-6)
    assert (clip.embed_pictures(squares) * seen.numpy()).sum(axis=1).min() > 0.9999  # bytes round otherwise


def test_embeddings_are_float32_of_length_one_and_any_number_of_them_will_do(clip: Clip) -> None:
    for embeds in (clip.embed_texts(["a"] * 70), clip.embed_pictures(pictures(70))):
        assert embeds.shape == (70, 24)
        assert embeds.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(embeds, axis=1), 1, atol=1e-5)
    assert clip.embed_texts([]).shape == clip.embed_pictures([]).shape == (0, 24)
    assert clip.embed_windows([]) == []


def test_a_text_that_fits_is_one_window_and_the_same_as_without_windows(clip: Clip) -> None:
    [windows] = clip.embed_windows(["a red mug"])

    np.testing.assert_allclose(windows, clip.embed_texts(["a red mug"]), atol=1e-6)


@pytest.mark.parametrize("tokenizer", ["clip", "hugging_clip"])
@pytest.mark.parametrize("text", [LONG, "mug" * 300, "", "的" * 50, "a " * 14, "a " * 15])
def test_every_token_of_a_long_text_is_in_a_window_and_windows_overlap(
    tokenizer: str, text: str, request: pytest.FixtureRequest
) -> None:
    clip: Clip = request.getfixturevalue(tokenizer)
    simple = tokenizer == "clip"
    length, step = (14, 7) if simple else (16, 8)  # what a window reads besides special tokens, and half of it
    own = clip.windows.tokenizer
    whole = own.encode(_broken(text)) if simple else own.tokenizer(own.clean_fn(text)).input_ids

    windows = clip.windows.of([text])[0].tolist()

    read: list[int] = []
    start = 0
    for window in windows:
        tokens = [token for token in (window[1:] if simple else window) if token][: len(whole) - start][:length]
        assert tokens == [token for token in whole[start : start + length] if token]
        read[start:] = tokens
        start += step
    assert read == whole
    assert len(windows) == max(1, -(-(len(whole) - length) // step) + 1)
    [embeds] = clip.embed_windows([text])
    assert len(embeds) == len(windows)


def test_what_stands_at_the_end_of_a_long_text_is_read(clip: Clip) -> None:
    quiet, loud = clip.embed_windows([LONG, LONG + "blood"])

    np.testing.assert_array_equal(clip.embed_texts([LONG]), clip.embed_texts([LONG + "blood"]))
    assert np.abs(quiet[-1] - loud[-1]).max() > 1e-3


def test_windows_come_back_to_the_texts_they_belong_to(clip: Clip) -> None:
    texts = ["a", LONG, "b", LONG[:200], ""]

    for one, text in zip(clip.embed_windows(texts), texts, strict=True):
        np.testing.assert_allclose(one, clip.embed_windows([text])[0], atol=1e-6)


def test_a_clip_that_drops_tokens_by_design_is_refused(clip_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(clip_folder, tmp_path / "clip"))
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"reduction_mask": "random"}
    (folder / "open_clip_config.json").write_text(json.dumps(config))

    with pytest.raises(CheckpointError, match="drops tokens"):
        Clip.load(find_clip(str(folder)), device="cpu")


def test_opening_a_clip_says_nothing(
    clip_folder: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    Clip.load(find_clip(str(clip_folder)), device="cpu").embed_texts(["a"])

    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
