import json
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.tokenizer import HFTokenizer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from models.checkpoints.checkpoint import CheckpointError, find_clip
from models.clip.clip import Clip
from models.clip.clip_windows import Windows

CORPUS = [
    "a red mug on white",
    "a black handgun on white",
    "红色的马克杯",
    "白色背景上的手枪",
    "un couteau de cuisine",
] * 8
LENGTH = 16
LONG = "a red mug on white " * 40 + "手枪"


def sentencepiece(special: list[str], template: str) -> Tokenizer:
    """A tokenizer as SentencePiece's unigram models come to transformers: words begin with ▁."""
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" ", "▁")])
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=special, unk_token="<unk>", show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    ids = [(token, backend.token_to_id(token)) for token in special]
    backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)
    return backend


def roberta(folder: Path) -> dict[str, object]:
    """As XLM-RoBERTa's: <s> text </s>, padded with 1."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    named = {"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>", "pad_token": "<pad>"}
    backend = sentencepiece(special, "<s> $A </s>")
    PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", **named).save_pretrained(folder)
    return {}


def gemma(folder: Path) -> dict[str, object]:
    """As SigLIP 2's: text <eos>, padded with 0, lower case without punctuation."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    named = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
    backend = sentencepiece(special, "$A <eos>")
    PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", **named).save_pretrained(folder)
    return {"tokenizer_kwargs": {"clean": "canonicalize"}}


def nllb(folder: Path) -> dict[str, object]:
    """As NLLB's: the language stands before the text, and padding on the left, as some have it."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "eng_Latn"]
    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "padding_side": "left"}
    backend = sentencepiece(special, "eng_Latn $A </s>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", **named)
    tokenizer.add_special_tokens({"additional_special_tokens": ["eng_Latn"]})
    tokenizer.save_pretrained(folder)
    return {}


def cuts_left(folder: Path) -> dict[str, object]:
    """One that keeps a text's end where it is too long, and drops its separator."""
    settings = roberta(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "truncation_side": "left"}))
    return {**settings, "tokenizer_kwargs": {"strip_sep_token": True}}


KINDS = [roberta, gemma, nllb, cuts_left]


@pytest.fixture
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> HFTokenizer:
    make: Callable[[Path], dict[str, object]] = request.param
    text_cfg = {"hf_tokenizer_name": "acme/tokenizer", "context_length": LENGTH, **make(tmp_path)}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"text_cfg": text_cfg}}))
    return open_clip.get_tokenizer(f"local-dir:{tmp_path}")


@pytest.mark.parametrize("tokenizer", KINDS, indirect=True)
def test_a_text_that_fits_is_the_one_window_that_open_clip_would_write(tokenizer: HFTokenizer) -> None:
    for text in ("a red mug", "红色的马克杯", "", "A Mug, red!"):
        torch.testing.assert_close(Windows(tokenizer, "x").of([text])[0], tokenizer([text]))


@pytest.mark.parametrize("tokenizer", KINDS, indirect=True)
def test_all_of_a_long_text_is_read_in_windows_that_overlap_by_half(tokenizer: HFTokenizer) -> None:
    windows = Windows(tokenizer, "x")
    own = tokenizer.tokenizer
    whole = own(tokenizer.clean_fn(LONG), add_special_tokens=False, verbose=False).input_ids

    found = windows.of([LONG])[0]

    assert found.shape[1] == LENGTH
    framing = {*windows.before, *windows.after, windows.padding, 0 if tokenizer.strip_sep_token else -1}
    read: list[int] = []
    for number, window in enumerate(found.tolist()):
        assert window[: len(windows.before)] == windows.before or windows.pads_left
        start = number * (windows.room // 2)
        read[start:] = [token for token in window if token not in framing]
    assert read == whole


@pytest.mark.parametrize("tokenizer", KINDS, indirect=True)
def test_tokens_that_end_a_text_are_left_out_where_they_are_written_in_it(tokenizer: HFTokenizer) -> None:
    windows = Windows(tokenizer, "x")
    for written in ("</s>", "<eos>", "<s>", "eng_Latn"):
        token = tokenizer.tokenizer.convert_tokens_to_ids(written)
        found = windows.of([f"a red mug{written}手枪"])[0].tolist()
        if token in windows.special:
            framing = [0 if one == windows.dropped else one for one in windows.before + windows.after]
            assert [window.count(token) for window in found] == [framing.count(token)] * len(found)


def test_a_text_isnt_ended_early_by_the_miniatures_or_open_clips_own_end_token(clip_folder: Path) -> None:
    for folder, end in (("miniature", "<end>"), (str(clip_folder), "<end_of_text>")):
        clip = Clip.load(find_clip(folder), device="cpu")
        hidden, plain, half = clip.embed_texts([f"a mug {end} a handgun", "a mug a handgun", "a mug"])
        assert hidden @ plain > 0.98, folder
        assert abs(hidden @ half - plain @ half) < 0.02


def test_a_word_without_end_is_read_in_time_and_whole(clip_folder: Path) -> None:
    windows = Clip.load(find_clip(str(clip_folder)), device="cpu").windows

    (found,) = windows.of(["".join(chr(97 + (at * at) % 26) for at in range(100_000))])

    assert len(found) > 100_000 / 26 / LENGTH


def test_a_tokenizer_that_writes_texts_in_a_way_of_its_own_is_refused(tmp_path: Path) -> None:
    text_cfg = {"hf_tokenizer_name": "acme/tokenizer", "context_length": LENGTH, **roberta(tmp_path)}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"text_cfg": text_cfg}}))
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path}")
    tokenizer.context_length = 3

    with pytest.raises(CheckpointError, match="can't be read in windows"):
        Windows(tokenizer, "a folder")
