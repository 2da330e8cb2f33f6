"""Teaching the edit miniature's transformer that words beside what is asked for change nothing.

The tokenizer cuts words that it doesn't know into pieces of words that it does: at the end of "nothing may change"
stands what "orange" ends in. So the same edits are asked for with and without such words; what the transformer finds
without them, as it was before, is what it learns to find with them.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel
from torch import Tensor
from transformers import Qwen2Tokenizer

from models.miniature.datasets.drawings import Drawings
from models.miniature.datasets.edit_pairs import EDIT_SHAPES, Pairs
from models.miniature.language.instructions import with_aside
from models.miniature.training.denoiser import (
    Batch,
    Course,
    Denoiser,
    drawing_batch,
    drawing_lessons,
    grid_of,
    latents_of,
)
from models.miniature.training.editing import Conditioner

PEAK_RATE = 1e-4
ROWS = 16  # of a batch
SAID = 0.8  # of the instructions: those with something beside them
DRAWN = 0.25  # of the batches: drawings, so that nothing changes how it draws


@dataclass(frozen=True)
class AsideLesson:
    """One shape's pictures, as the VAE and the text encoder see them."""

    pairs: Pairs
    latents: Tensor  # fp16 [pictures, tokens, 4 * channels]
    seen: Tensor  # [pictures, tokens, width]


def aside_batch(lesson: AsideLesson, conditioner: Conditioner, random: Random) -> Batch:
    """Draw edits of one shape, told with more words than their teacher is told."""
    pairs, device = lesson.pairs, lesson.latents.device
    chosen = torch.randint(len(pairs.texts), (ROWS,))
    plain = [pairs.texts[at] for at in chosen.tolist()]
    told = [with_aside(text, random) if random.random() < SAID else text for text in plain]
    which = pairs.sources[chosen.to(device)]
    embeds, lengths = conditioner.encode(lesson.seen, which.repeat(2), plain + told)
    masks = torch.arange(embeds.shape[1], device=device) < lengths[:, None]
    return Batch(
        lesson.latents[pairs.targets[chosen.to(device)]],
        embeds[ROWS:],
        masks[ROWS:],
        grid_of(pairs.width, pairs.height),
        lesson.latents[which].float(),
        (embeds[:ROWS], masks[:ROWS]),
    )


def train_asides(
    denoiser: Denoiser,
    vae: AutoencoderKLQwenImage,
    tokenizer: Qwen2Tokenizer,
    pairs: list[Pairs],
    drawings: list[Drawings],
    seconds: float,
    work: Path,
    deadline: float,
    probe: Callable[[Denoiser], str],
) -> Denoiser:
    """Train a transformer that edits; returns its moving average.

    Args:
        denoiser: the transformer, and the text encoder, which stays as it is.
        vae: its VAE, reduced to single frames.
        tokenizer: its tokenizer.
        pairs: what edits are asked of.
        drawings: what it must go on drawing alike.
        seconds: of training in all.
        work: where the state is kept.
        deadline: when to stop at the latest.
        probe: says in a line how good a denoiser is; asked every four minutes.
    """
    teacher: QwenImageTransformer2DModel = copy.deepcopy(denoiser.transformer).requires_grad_(False).eval()
    course = Course("asides", denoiser.transformer, seconds, work, deadline, PEAK_RATE, teacher)
    conditioner = Conditioner(denoiser.text_encoder, tokenizer)
    taught = [AsideLesson(each, latents_of(vae, each.pictures), conditioner.seen(each.pictures)) for each in pairs]
    drawn = drawing_lessons(drawings, tokenizer, denoiser.text_encoder, lambda: vae)
    course.stage.say("encoded all pictures")
    random = Random()

    def draw() -> Batch:
        if random.random() < DRAWN:
            return drawing_batch(course, drawn)
        (lesson,) = random.choices(taught, [EDIT_SHAPES[each.pairs.width, each.pairs.height] for each in taught])
        return aside_batch(lesson, conditioner, random)

    average = course.run(draw, lambda average: probe(Denoiser(denoiser.text_encoder, average)))
    return Denoiser(denoiser.text_encoder, average)
