"""Training the layered miniature's transformer: from a picture's latents to those of its layers.

As in `QwenImageLayeredPipeline`, a row is the composite and its layers, bottom to top, all from noise, and after them
the picture without noise; the loss leaves the picture out. Where fewer parts are asked for than there are, the upper
ones are one layer; where more, the top layer is clear.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKLQwenImage
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

from models.miniature.datasets.layered_drawings import FRAMES, LAYERED_SHAPES, Layers, frames
from models.miniature.networks.architecture import new_layered_transformer
from models.miniature.training.denoiser import Batch, Course, Denoiser, difference, latents_of
from models.miniature.training.prompts import Prompts, prepare

PIXELS = 16  # a token's side: 8 a latent, and tokens fold 2 x 2 latents
LENGTH = 64  # tokens of a caption, to which all are padded; longer ones are left out
EMPTIED = 0.5  # of the captions: most source pictures come without
ASKED = {2: 0.4, 3: 0.6}  # numbers of layers, and how often they are asked for
SOURCE_NOISE = 0.05  # of the source's latents, at most: other programs resize and compress pictures
# Numbers of picture tokens and of text tokens: 256 x 256 in two layers and in three.
COMPILED = {(4 * 256, LENGTH), (5 * 256, LENGTH)}


@dataclass(frozen=True)
class LayerLesson:
    """One shape's latents and captions."""

    width: int
    height: int
    latents: Tensor  # fp16 [drawings, 5, tokens, 4 * channels], packed and normalised: see `layers.frames`
    prompts: Prompts

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        return self.height // PIXELS, self.width // PIXELS


def lesson_of(
    vae: AutoencoderKLQwenImage,
    layers: Layers,
    tokenizer: Qwen2Tokenizer,
    text_encoder: Qwen2_5_VLForConditionalGeneration,
) -> LayerLesson:
    """Encode all frames and captions of one shape."""
    kept = torch.arange(len(layers), device=layers.layers.device)
    chunks = torch.split(layers.layers, 256)
    latents = [torch.unflatten(latents_of(vae, frames(each).flatten(0, 1)), 0, (len(each), -1)) for each in chunks]
    prompts = prepare(layers.texts, kept, tokenizer, text_encoder, (LENGTH,))
    return LayerLesson(layers.width, layers.height, torch.cat(latents), prompts)


def layered_batch(course: Course, taught: list[LayerLesson]) -> Batch:
    """Draw a batch of one shape and one number of layers."""
    (lesson,) = random.choices(taught, [LAYERED_SHAPES[each.width, each.height] for each in taught])
    (asked,) = random.choices(list(ASKED), list(ASKED.values()))
    wanted = FRAMES[asked]
    tokens = (len(wanted) + 1) * lesson.latents.shape[2]
    chosen, embeds, mask = lesson.prompts.draw(course.rows(tokens, LENGTH), 0, EMPTIED)
    latents = lesson.latents[chosen]
    source = latents[:, 0].float()
    level = SOURCE_NOISE * torch.rand(len(source), 1, 1, device=source.device)
    return Batch(
        latents[:, wanted].flatten(1, 2),
        embeds,
        mask,
        lesson.grid,
        source + level * torch.randn_like(source),
    )


def train_layered(
    vae: Callable[[], AutoencoderKLQwenImage],
    text_encoder: Qwen2_5_VLForConditionalGeneration,
    tokenizer: Qwen2Tokenizer,
    layers: list[Layers],
    seconds: float,
    work: Path,
    deadline: float,
    probe: Callable[[Denoiser], str],
) -> Denoiser:
    """Train the layered transformer; returns its moving average.

    Args:
        vae: gives the VAE; called late, since it may still be in training elsewhere.
        text_encoder: what encodes captions and stays as it is.
        tokenizer: the captions' tokenizer.
        layers: what to learn from.
        seconds: of training in all.
        work: where the state is kept.
        deadline: when to stop at the latest.
        probe: says in a line how good a denoiser is; asked every four minutes.
    """
    device = layers[0].layers.device
    course = Course("layered", new_layered_transformer().to(device), seconds, work, deadline)
    course.compile(COMPILED)
    apart = difference(Denoiser(text_encoder, course.transformer), tokenizer, pictures=4)
    course.stage.say(f"{apart:.1e} is the largest difference from the library's forward pass")
    coder = vae()
    taught = [lesson_of(coder, each, tokenizer, text_encoder) for each in layers]
    course.stage.say("encoded all layers and captions")
    average = course.run(lambda: layered_batch(course, taught), lambda average: probe(Denoiser(text_encoder, average)))
    return Denoiser(text_encoder, average)
