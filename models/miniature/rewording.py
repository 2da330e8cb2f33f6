"""Teaching the text encoder to get past words that it doesn't know.

Captions of the training split use a few hundred words; prompts use any. A text encoder that has only met the few loses
the thread at the first strange one ("namely", or a brand). So it learns, after the transformer has learned from it, to
give for a caption with strange words and letter cases in it the states that it gave for the plain caption. What the
transformer knows stays true, since plain captions keep all their states.
"""

import copy
from pathlib import Path
from random import Random

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

from models.miniature.captions import Language, caption
from models.miniature.phrases import brand
from models.miniature.stage import Stage
from models.miniature.tokenizer import CLOSING, OPENING, SPECIAL
from models.miniature.words import LONGEST, closing_states, encode_text, token_rows
from models.miniature.world import random_scene

PEAK_RATE = 6e-4
BATCH = 64  # captions, half of them reworded


def reworded(text: str, language: Language, strange: list[str], random: Random) -> str:
    """Put strange words into a caption, at its ends or between its words, and change its letters' case.

    Args:
        text: the caption.
        language: Chinese captions have no words apart: strange words go to their punctuation.
        strange: words to choose from.
        random: what to choose with.
    """
    mark = " " if language == "en" else "，"
    words = text.split(mark)
    for _ in range(random.choice((1, 1, 2, 3, 4))):
        word = brand(random) if random.random() < 0.3 else random.choice(strange)
        words.insert(random.randint(0, len(words)), word)
    text = mark.join(words)
    if language == "zh":
        return text
    return random.choice((str, str, str.lower, str.title, str.title, str.upper, str.upper))(text)


def strange_words(tokenizer: Qwen2Tokenizer) -> list[str]:
    """All tokens of the vocabulary, as text: those that captions hold teach that words also stand in odd places."""
    tokens = (tokenizer.decode([index]).strip() for index in range(len(tokenizer)))
    return sorted({token for token in tokens if token.isalpha() and len(token) > 2 and token not in SPECIAL})


def train_rewording(
    text_encoder: Qwen2_5_VLForConditionalGeneration,
    tokenizer: Qwen2Tokenizer,
    seconds: float,
    work: Path,
    deadline: float,
) -> Qwen2_5_VLForConditionalGeneration:
    """Train a copy of `text_encoder` on captions made as it goes: few are enough, so two processor cores do."""
    device = next(text_encoder.parameters()).device
    teacher, learner = text_encoder, copy.deepcopy(text_encoder).train()
    trained = list(learner.model.language_model.requires_grad_(True).parameters())
    optimizer = torch.optim.AdamW(trained, PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    stage = Stage("rewording", seconds, work, deadline, learner=learner, optimizer=optimizer)
    opening = torch.tensor(tokenizer(OPENING).input_ids, device=device)
    closing = len(tokenizer(CLOSING).input_ids)
    strange = strange_words(tokenizer)

    def states(encoder: Qwen2_5_VLForConditionalGeneration, texts: list[str]) -> tuple[Tensor, Tensor]:
        ids, lengths = token_rows(tokenizer, texts, device)
        batch = torch.cat([opening.expand(len(ids), -1), ids[:, : int(lengths.max())].long()], 1)
        return encode_text(encoder, batch), lengths

    for count in stage.iterations():
        random = Random(f"rewording {count}")
        plain: list[str] = []
        odd: list[str] = []
        while len(plain) < BATCH:
            language: Language = random.choices(("en", "zh"), (3, 1))[0]
            text = caption(random_scene(random), random, language=language, split="train")
            other = reworded(text, language, strange, random)
            if max(len(tokenizer(each).input_ids) for each in (text, other)) < LONGEST - closing:
                plain.append(text)
                odd.append(other)
        with torch.no_grad():
            meant, lengths = states(teacher, plain)
        same, _ = states(learner, plain[: BATCH // 2])
        strayed, odd_lengths = states(learner, odd)
        mask = torch.arange(same.shape[1], device=device) < lengths[: BATCH // 2, None]
        kept = (same - meant[: BATCH // 2, : same.shape[1]]).square()[mask].mean()
        found = closing_states(strayed, odd_lengths, closing)
        moved = functional.mse_loss(found, closing_states(meant, lengths, closing))
        optimizer.param_groups[0]["lr"] = stage.rate(PEAK_RATE, warm=50)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(kept + moved)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        stage.report(kept=kept, moved=moved)
    return learner.eval().requires_grad_(False)
