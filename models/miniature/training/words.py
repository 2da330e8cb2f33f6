"""Training the text encoder to understand captions, before the transformer learns to draw from them.

Left to learn from pictures alone, so small a text encoder takes most of the training to find out what words mean, and
follows word orders that it never saw in four of five prompts only. Meaning can be taught directly, since what a
caption says is known: heads on the template's closing tokens, which see the whole prompt, name every attribute. The
text encoder then stays as it is, so that prompts are encoded once.
"""

from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

from models.miniature.datasets.drawings import ATTRIBUTES, UNSAID, Caption, attributes
from models.miniature.language.captions import caption
from models.miniature.language.names import Language
from models.miniature.networks.architecture import TEXT_WIDTH, new_text_encoder
from models.miniature.networks.tokenizer import CLOSING, DROPPED, OPENING
from models.miniature.training.stage import Stage
from models.miniature.world.world import random_scene

PEAK_RATE = 1.5e-3
BATCH = 1024
LONGEST = 192  # tokens of a caption and the template's closing
SIZES = [len(values) + 1 for values, _ in ATTRIBUTES.values()]  # one more: the caption doesn't say


class Heads(nn.Module):
    """One linear head for every attribute: hidden states [..., width] to a list of logits [..., values + 1]."""

    def __init__(self) -> None:
        """Start with random weights."""
        super().__init__()
        self.linear = nn.Linear(TEXT_WIDTH, sum(SIZES))

    def forward(self, hidden: Tensor) -> list[Tensor]:
        """Logits for each attribute; the last value is that it isn't said."""
        return list(torch.split(self.linear(hidden), SIZES, -1))


def encode_text(text_encoder: Qwen2_5_VLForConditionalGeneration, ids: Tensor) -> Tensor:
    """Encode prompts [B, DROPPED + L] as the pipeline does: [B, L, width]. Padding stands on the right."""
    hidden: Tensor = text_encoder.model.language_model(input_ids=ids, use_cache=False).last_hidden_state
    return hidden[:, DROPPED:]


def closing_states(hidden: Tensor, lengths: Tensor, closing: int) -> Tensor:
    """Return the states of the template's closing tokens: hidden [B, L, width], lengths [B], to [B, closing, width]."""
    at = lengths[:, None] - closing + torch.arange(closing, device=hidden.device)
    return hidden.gather(1, at[:, :, None].expand(-1, -1, hidden.shape[2]))


def train_words(
    captions: list[Caption],
    tokenizer: Qwen2Tokenizer,
    seconds: float,
    work: Path,
    deadline: float,
    device: torch.device,
) -> Qwen2_5_VLForConditionalGeneration:
    """Train the text encoder on captions and what they say."""
    cuda = device.type == "cuda"
    text_encoder, heads = new_text_encoder(tokenizer).to(device), Heads().to(device)
    trained = [*text_encoder.model.language_model.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(trained, PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.05, fused=cuda)
    stage = Stage("words", seconds, work, deadline, text_encoder=text_encoder, heads=heads, optimizer=optimizer)
    ids, lengths = token_rows(tokenizer, [each.text for each in captions], device)
    meanings = torch.tensor([each.said for each in captions], device=device)
    fits = torch.nonzero(lengths <= LONGEST).flatten()
    order = fits[lengths[fits].argsort()]
    closing = len(tokenizer(CLOSING).input_ids)
    opening = torch.tensor(tokenizer(OPENING).input_ids, device=device)
    text_encoder.train()
    for _ in stage.iterations():
        # Neighbours in `order` are equally long, so that little is padding.
        rows = BATCH if cuda else 16
        start = int(torch.randint(max(1, len(order) - rows * 8), ()))
        chosen = order[start + torch.randint(min(rows * 8, len(order) - start), (rows,), device=device)]
        longest = int(lengths[chosen].max())
        batch = torch.cat([opening.expand(rows, -1), ids[chosen, :longest].long()], 1)
        optimizer.param_groups[0]["lr"] = stage.rate(PEAK_RATE, warm=200)
        with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
            logits = heads(closing_states(encode_text(text_encoder, batch), lengths[chosen], closing))
        truth = targets(meanings[chosen])
        losses = [
            functional.cross_entropy(each.float().flatten(0, 1), truth[:, at].repeat_interleave(closing))
            for at, each in enumerate(logits)
        ]
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(torch.stack(losses).sum())
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        stage.report(kind=losses[0], colour=losses[1], rest=torch.stack(losses[2:]).sum())
    text_encoder.eval()
    languages: tuple[Language, ...] = ("en", "zh")
    for language in languages:
        kind, colour = understanding(text_encoder, heads, tokenizer, language, device)
        stage.say(f"of prompts in unseen word orders ({language}): kind {kind:.4f}, colour {colour:.4f}")
    return text_encoder


def targets(meanings: Tensor) -> Tensor:
    """Return what the heads should say for meanings [B, attributes]: the last value where nothing is said."""
    last = torch.tensor(SIZES, device=meanings.device) - 1
    return torch.where(meanings == UNSAID, last, meanings.long())


@torch.no_grad()
def understanding(
    text_encoder: Qwen2_5_VLForConditionalGeneration,
    heads: Heads,
    tokenizer: Qwen2Tokenizer,
    language: Language,
    device: torch.device,
) -> tuple[float, float]:
    """Return the share of 512 prompts, in word orders kept from training, whose kind and whose colour are
    understood.
    """
    random = Random("words")
    scenes = [random_scene(random, held_out=None) for _ in range(512)]
    texts = [caption(scene, random, language=language, split="test") for scene in scenes]
    ids, lengths = token_rows(tokenizer, texts, device)
    lengths = lengths.clamp(max=LONGEST)
    opening = torch.tensor(tokenizer(OPENING).input_ids, device=device)
    batch = torch.cat([opening.expand(len(ids), -1), ids.long()], 1)
    hidden = encode_text(text_encoder, batch)
    logits = heads(closing_states(hidden, lengths, 1)[:, 0])
    truth = torch.tensor([attributes(scene) for scene in scenes], device=device)
    right = [float((logits[at].argmax(1) == truth[:, at]).float().mean()) for at in (0, 1)]
    return right[0], right[1]


def token_rows(tokenizer: Qwen2Tokenizer, texts: list[str], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return what follows the template's opening: ids int16 [N, LONGEST], cut and padded, and whole lengths
    int64 [N].
    """
    closing = tokenizer(CLOSING).input_ids
    ids = np.full((len(texts), LONGEST), tokenizer.pad_token_id, np.int16)
    lengths = np.empty(len(texts), np.int64)
    for start in range(0, len(texts), 50_000):
        for at, row in enumerate(tokenizer(texts[start : start + 50_000]).input_ids, start):
            whole = row + closing
            lengths[at] = len(whole)
            ids[at, : len(whole)] = whole[:LONGEST]
    return torch.from_numpy(ids).to(device), torch.from_numpy(lengths).to(device)
