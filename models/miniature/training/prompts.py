"""Captions as prompt embeds, ready to train on: encoded once, since the text encoder no longer changes."""

import random
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

from models.miniature.networks.tokenizer import CLOSING, OPENING, TEMPLATE
from models.miniature.training.words import encode_text, token_rows

LENGTHS = (32, 64, 96, 192)  # tokens after the dropped ones; a prompt is padded to the least of these that holds it
EMPTY = ("", " ")  # what stands for no prompt: both are used as negative prompts


@dataclass(frozen=True)
class Bucket:
    """Prompts of about one length."""

    embeds: Tensor  # bf16 [prompts, length, width]
    lengths: Tensor  # int64 [prompts]
    pictures: Tensor  # int64 [prompts]: which picture a prompt describes


@dataclass(frozen=True)
class Prompts:
    """The prompts of one shape's drawings, by length."""

    lengths: tuple[int, ...]  # what prompts are padded to
    buckets: tuple[Bucket, ...]  # one for each of `lengths`
    empty: Bucket  # the embeds of EMPTY, as long as the longest

    def pick(self) -> int:
        """Pick a bucket as often as prompts fall into it."""
        (bucket,) = random.choices(range(len(self.buckets)), [len(each.lengths) for each in self.buckets])
        return bucket

    def draw(self, rows: int, bucket: int, dropped: float) -> tuple[Tensor, Tensor, Tensor]:
        """Draw prompts of one bucket, some of them emptied.

        Returns:
            The pictures' indices [rows], embeds [rows, length, width], and True for tokens, [rows, length].
        """
        source, length = self.buckets[bucket], self.lengths[bucket]
        device = source.embeds.device
        chosen = torch.randint(len(source.lengths), (rows,), device=device)
        emptied = torch.rand(rows, device=device) < dropped
        which = torch.randint(len(EMPTY), (rows,), device=device)
        embeds = torch.where(emptied[:, None, None], self.empty.embeds[which, :length], source.embeds[chosen])
        lengths = torch.where(emptied, self.empty.lengths[which], source.lengths[chosen])
        return source.pictures[chosen], embeds, torch.arange(length, device=device) < lengths[:, None]


@torch.no_grad()
def prepare(
    captions: list[list[str]],
    kept: Tensor,
    tokenizer: Qwen2Tokenizer,
    text_encoder: Qwen2_5_VLForConditionalGeneration,
    padded: tuple[int, ...] = LENGTHS,
) -> Prompts:
    """Encode the captions of all pictures that the transformer may learn from; too long ones are left out.

    Args:
        captions: of every picture, equally many of each.
        kept: which pictures to learn from, int64, on the device that trains.
        tokenizer: the prompts' tokenizer.
        text_encoder: what encodes them.
        padded: the lengths that prompts are padded to, in tokens after the dropped ones.
    """
    device = kept.device
    texts = [text for index in kept.tolist() for text in captions[index]]
    pictures = kept.repeat_interleave(len(captions[0]))
    for text in texts[:: max(1, len(texts) // 100)]:
        whole = tokenizer(OPENING).input_ids + tokenizer(text).input_ids + tokenizer(CLOSING).input_ids
        if tokenizer(TEMPLATE.format(text)).input_ids != whole:
            raise ValueError(f"the template and the prompt {text!r} don't tokenise the same together and apart")
    ids, lengths = token_rows(tokenizer, texts, device)
    opening = torch.tensor(tokenizer(OPENING).input_ids, device=device)

    def bucket(ids: Tensor, lengths: Tensor, pictures: Tensor, length: int) -> Bucket:
        rows = []
        for chunk in torch.split(ids[:, :length].long(), 2048 if device.type == "cuda" else 64):
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                rows.append(encode_text(text_encoder, torch.cat([opening.expand(len(chunk), -1), chunk], 1)).bfloat16())
        return Bucket(torch.cat(rows) if rows else torch.empty(0), lengths, pictures)

    buckets, shortest = [], 0
    for length in padded:
        inside = (lengths > shortest) & (lengths <= length)
        buckets.append(bucket(ids[inside], lengths[inside], pictures[inside], length))
        shortest = length
    empty_ids, empty_lengths = token_rows(tokenizer, list(EMPTY), device)
    return Prompts(padded, tuple(buckets), bucket(empty_ids, empty_lengths, empty_lengths, padded[-1]))
