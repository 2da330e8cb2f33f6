"""Training the miniature's CLIP model on drawings, captions and phrases.

Ordinary contrastive training calls a text right for one picture and wrong for all others, which is untrue for short
phrases: "a red mug" is true of many. Here the meaning of every text is known, so all pictures that a text is true of
count as right. Texts are also compared with texts: a caption lies near every phrase that it implies and far from the
others, which is what a screen of prompts by concept phrases needs.
"""

from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from models.miniature.datasets.drawings import CAPTIONS, UNSAID, Drawings, signed
from models.miniature.datasets.phrases import dressed, random_phrase
from models.miniature.networks.architecture import CLIP_CONTEXT, clip_config, new_clip
from models.miniature.training.judge import worn
from models.miniature.training.stage import Stage

PEAK_RATE = 1e-3
PICTURES, PHRASES = 1024, 1024  # in a batch; every picture comes with one caption
PHRASE_BANK = 80_000
DRESSED = 0.3  # of the captions
EMA = 0.998


@dataclass(frozen=True)
class Texts:
    """Tokenised texts and what they say."""

    ids: Tensor  # int16 [N, CLIP_CONTEXT]
    meanings: Tensor  # int16 [N, attributes]


def true_of(meanings: Tensor, facts: Tensor) -> Tensor:
    """Say whether texts are true of pictures, or implied by other texts.

    Args:
        meanings: what the texts say, [T, attributes].
        facts: what the pictures show, or other texts say, [P, attributes].

    Returns:
        True where nothing that a text says is missing or different, [P, T].
    """
    return ((meanings[None] == UNSAID) | (meanings[None] == facts[:, None])).all(2)


def train_clip(
    drawings: list[Drawings],
    tokenizer: PreTrainedTokenizerFast,
    seconds: float,
    work: Path,
    deadline: float,
    device: torch.device,
) -> nn.Module:
    """Train on all drawings but held-out pairs; returns the moving average of the weights."""
    import open_clip

    cuda = device.type == "cuda"
    pictures_a_batch, phrases_a_batch = (PICTURES, PHRASES) if cuda else (16, 16)
    config = clip_config(tokenizer)
    model, average = new_clip(config).to(device), new_clip(config).to(device)
    average.load_state_dict(model.state_dict())
    assert isinstance(model, open_clip.model.CLIP)
    sigmoid = Sigmoid().to(device)
    parameters = [*model.parameters(), *sigmoid.parameters()]
    optimizer = torch.optim.AdamW(
        [
            {"params": [each for each in parameters if each.dim() > 1], "weight_decay": 0.1},
            {"params": [each for each in parameters if each.dim() <= 1], "weight_decay": 0.0},
        ],
        PEAK_RATE,
        betas=(0.9, 0.98),
        fused=cuda,
    )
    stage = Stage("clip", seconds, work, deadline, model=model, average=average, sigmoid=sigmoid, optimizer=optimizer)
    small = torch.cat([each.small[~each.held_out] for each in drawings])
    scenes = torch.cat([each.scenes[~each.held_out] for each in drawings])
    told = caption_texts(drawings, tokenizer, device)
    bank = phrase_bank(PHRASE_BANK if cuda else 500, tokenizer, device)
    model.train()
    look, read_text = model.encode_image, model.encode_text
    if cuda:
        torch._dynamo.config.suppress_errors = True  # a graph that doesn't compile runs as it is
        look, read_text = torch.compile(look, dynamic=False), torch.compile(read_text, dynamic=False)
    for _ in stage.iterations():
        chosen = torch.randint(len(small), (pictures_a_batch,), device=device)
        pictures = shaken(worn(signed(small[chosen])))
        captions = chosen * len(CAPTIONS) + torch.randint(len(CAPTIONS), chosen.shape, device=device)
        phrases = torch.randint(len(bank.ids), (phrases_a_batch,), device=device)
        ids = torch.cat([told.ids[captions], bank.ids[phrases]]).long()
        meanings = torch.cat([told.meanings[captions], bank.meanings[phrases]])
        for group in optimizer.param_groups:
            group["lr"] = stage.rate(PEAK_RATE, warm=300)
        with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
            seen = look(pictures, normalize=True).float()
            read = read_text(ids, normalize=True).float()
        scale = model.logit_scale.exp()
        shown = true_of(meanings, scenes[chosen])
        implied = true_of(meanings[len(chosen) :], meanings)
        alike, alike_read = seen @ read.T, read @ read[len(chosen) :].T
        contrast = matched(scale * alike, shown) + matched(scale * alike_read, implied)
        apart = sigmoid(alike, shown) + sigmoid(alike_read, implied)
        loss = contrast + 0.5 * apart
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=4.6052)  # 100, as in CLIP
            kept = min(EMA, (stage.count + 1) / (stage.count + 10))
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - kept)
        stage.report(contrast=contrast, apart=apart, scale=scale)
    return average.eval()


class Sigmoid(nn.Module):
    """SigLIP's loss (arXiv 2303.15343) for pairs of which any number may match; it keeps cosines on one scale."""

    def __init__(self) -> None:
        """Start at SigLIP's scale and bias."""
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.3))
        self.bias = nn.Parameter(torch.tensor(-5.0))

    def forward(self, alike: Tensor, match: Tensor) -> Tensor:
        """Mean loss of cosines [A, B] given which pairs match; both kinds of pairs weigh the same."""
        logits = self.scale.exp() * alike + self.bias
        lost = -functional.logsigmoid(torch.where(match, logits, -logits))
        yes = match.float()
        return (lost * yes).sum() / yes.sum().clamp_min(1) + (lost * (1 - yes)).sum() / (1 - yes).sum().clamp_min(1)


def matched(logits: Tensor, match: Tensor) -> Tensor:
    """Contrastive loss, both ways, where any number of pairs may match: logits and match [A, B] to a number."""
    return _matched(logits, match) + _matched(logits.T, match.T)


def _matched(logits: Tensor, match: Tensor) -> Tensor:
    yes = match.float()
    count = yes.sum(1)
    each = -(functional.log_softmax(logits, 1) * yes).sum(1) / count.clamp_min(1)
    return each.sum() / (count > 0).sum().clamp_min(1)


def shaken(pictures: Tensor) -> Tensor:
    """Move pictures [B, 3, H, W] by a few pixels and scale them a little, all together."""
    batch, _, height, width = pictures.shape
    zoom = 1 + 0.08 * (torch.rand(batch, device=pictures.device) - 0.5)
    shift = 0.08 * (torch.rand(batch, 2, device=pictures.device) - 0.5)
    grid = torch.zeros(batch, 2, 3, device=pictures.device)
    grid[:, 0, 0], grid[:, 1, 1], grid[:, :, 2] = zoom, zoom, shift
    at = functional.affine_grid(grid, [batch, 3, height, width], align_corners=False)
    return functional.grid_sample(pictures, at, padding_mode="border", align_corners=False)


def caption_texts(drawings: list[Drawings], tokenizer: PreTrainedTokenizerFast, device: torch.device) -> Texts:
    """Return the captions of all drawings but held-out pairs, picture after picture, some of them dressed
    with filler.
    """
    random = Random("captions")
    texts, meanings = [], []
    for each in drawings:
        kept = torch.nonzero(~each.held_out).flatten()
        for index in kept.tolist():
            for text, language in zip(each.texts[index], CAPTIONS, strict=True):
                texts.append(dressed(text, random, language) if random.random() < DRESSED else text)
        meanings.append(each.said[kept].flatten(0, 1))
    return Texts(token_rows(tokenizer, texts, device), torch.cat(meanings).to(device))


def phrase_bank(count: int, tokenizer: PreTrainedTokenizerFast, device: torch.device) -> Texts:
    """So many random phrases."""
    random = Random("phrases")
    phrases = [random_phrase(random) for _ in range(count)]
    meanings = np.array([phrase.meaning for phrase in phrases], np.int16)
    return Texts(
        token_rows(tokenizer, [phrase.text for phrase in phrases], device), torch.from_numpy(meanings).to(device)
    )


def token_rows(tokenizer: PreTrainedTokenizerFast, texts: list[str], device: torch.device) -> Tensor:
    """Token ids as open_clip's tokenizer gives them: int16 [N, CLIP_CONTEXT]."""
    rows = np.full((len(texts), CLIP_CONTEXT), tokenizer.pad_token_id, np.int16)
    for start in range(0, len(texts), 50_000):
        encoded = tokenizer(texts[start : start + 50_000], max_length=CLIP_CONTEXT, truncation=True).input_ids
        for at, row in enumerate(encoded, start):
            rows[at, : len(row)] = row
    return torch.from_numpy(rows).to(device)
