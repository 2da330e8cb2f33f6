"""Training the edit miniature's transformer: from latents of pictures and an instruction to those of the picture asked.

As in `QwenImageEditPlusPipeline`, a row is the result, from noise, and after it the source without noise, and at times
a second picture; the loss leaves those out. Qwen-Image's transformer is the teacher of how to draw, so that the two
checkpoints can share what comes out.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

from models.miniature.datasets.drawings import Drawings
from models.miniature.datasets.edit_pairs import EDIT_SHAPES, Instructions, Pairs
from models.miniature.training.denoiser import (
    COMPILED,
    Batch,
    Course,
    Denoiser,
    difference,
    drawing_batch,
    drawing_lessons,
    grid_of,
    latents_of,
)
from models.miniature.training.sight import EditTemplate, encode_seen, patches_of, see, seen_size
from models.miniature.training.words import LONGEST, token_rows

PEAK_RATE = 1e-3  # of a first training
LENGTHS = {1: 144, 2: 160}  # tokens of so many pictures and an instruction: all are padded to it, or left out
REFERRING = 0.15  # of the batches of edits: those with a second picture, all of them square
EMPTIED = 0.1  # of the instructions
EMPTY = " "  # what stands for no instruction, as a negative prompt
SOURCE_NOISE = 0.05  # of the source's latents, at most: other programs resize and compress pictures
STRONG, HEAVIEST = 0.3, 5.0
"""How much of latents' variance a new background changes, and how much more a faint edit's row may count."""
DRAWN = 0.4  # of the batches: drawings with captions, so that it doesn't forget how to draw
# Numbers of picture tokens and of text tokens: of 256 x 256 and of 5 : 4, the result and its source; of 256 x 256, the
# result, its source and a second picture.
COMPILED_EDITS = {(2 * 64, LENGTHS[1]), (2 * 63, LENGTHS[1]), (3 * 64, LENGTHS[2])}


@dataclass(frozen=True)
class EditLesson:
    """One shape's latents and conditionings, for instructions with one number of pictures."""

    width: int
    height: int
    latents: Tensor  # fp16 [pictures, tokens, 4 * channels], packed and normalised
    shown: Tensor  # int64 [instructions, pictures]: the source, and those beside it
    targets: Tensor  # int64 [instructions]: which picture is asked for
    embeds: Tensor  # bf16 [instructions, length, width]
    lengths: Tensor  # int64 [instructions]
    empty: Tensor  # bf16 [sets of pictures, length, width]: of EMPTY, with the pictures of instructions
    empty_at: Tensor  # int64 [instructions]: with which of these sets
    empty_length: int

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        return grid_of(self.width, self.height)

    @property
    def share(self) -> float:
        """How often it is learned from, beside the others."""
        return REFERRING if self.shown.shape[1] > 1 else (1 - REFERRING) * EDIT_SHAPES[self.width, self.height]


class Conditioner:
    """What encodes pictures with their instructions, many of one shape at a time."""

    def __init__(self, text_encoder: Qwen2_5_VLForConditionalGeneration, tokenizer: Qwen2Tokenizer) -> None:
        """Take what encodes; it stays as it is."""
        self.text_encoder, self.tokenizer, self.device = text_encoder, tokenizer, text_encoder.device
        self.template = EditTemplate.of(tokenizer, self.device)

    @torch.no_grad()
    def seen(self, pictures: Tensor) -> Tensor:
        """Return what the vision tower makes of uint8 pictures [N, H, W, 3]: [N, tokens, width]."""
        visual, size = self.text_encoder.model.visual, seen_size(pictures.shape[2], pictures.shape[1])
        return torch.cat([see(visual, patches_of(chunk), size) for chunk in torch.split(pictures, 1024)])

    @torch.no_grad()
    def encode(self, seen: Tensor, which: Tensor, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Encode texts, each with one of the pictures or several.

        Args:
            seen: of all pictures, from `seen`.
            which: the pictures of each text, [N, pictures].
            texts: N texts.

        Returns:
            embeds, as long as the longest text needs, [N, L, width], and the lengths, [N].
        """
        ids, lengths = token_rows(self.tokenizer, texts, self.device)
        ids = ids[:, : min(LONGEST, int(lengths.max()))]
        rows = [
            encode_seen(self.text_encoder, self.template, seen[at], some)
            for at, some in zip(torch.split(which, 1024), torch.split(ids, 1024), strict=True)
        ]
        embeds = torch.cat(rows)
        return embeds, lengths.clamp(max=LONGEST) + embeds.shape[1] - ids.shape[1]


def lessons_of(vae: AutoencoderKLQwenImage, pairs: Pairs, conditioner: Conditioner) -> list[EditLesson]:
    """Encode all pictures and instructions of one shape; instructions that are too long are left out."""
    device, latents = pairs.pictures.device, latents_of(vae, pairs.pictures)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        seen = conditioner.seen(pairs.pictures)
        return [_lesson(pairs, asked, latents, seen, conditioner) for asked in pairs.asked]


def _lesson(pairs: Pairs, asked: Instructions, latents: Tensor, seen: Tensor, conditioner: Conditioner) -> EditLesson:
    length = LENGTHS[asked.shown.shape[1]]
    sets, empty_at = asked.shown.unique(dim=0, return_inverse=True)
    empty, empty_lengths = conditioner.encode(seen, sets, [EMPTY] * len(sets))
    chunks = [
        _padded(*conditioner.encode(seen, asked.shown[some], asked.texts[some]), length)
        for some in (slice(start, start + 16384) for start in range(0, len(asked.texts), 16384))
    ]
    embeds, lengths = (torch.cat(each) for each in zip(*chunks, strict=True))
    fits = torch.nonzero(lengths <= length).flatten()
    return EditLesson(
        width=pairs.width,
        height=pairs.height,
        latents=latents,
        shown=asked.shown[fits],
        targets=asked.targets[fits],
        embeds=embeds[fits],
        lengths=lengths[fits],
        empty=_padded(empty, empty_lengths, length)[0],
        empty_at=empty_at[fits],
        empty_length=int(empty_lengths[0]),
    )


def _padded(embeds: Tensor, lengths: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Cut or pad embeds [N, L, width] to so many tokens, in bf16."""
    short = length - embeds.shape[1]
    return torch.nn.functional.pad(embeds[:, :length], (0, 0, 0, max(0, short))).bfloat16(), lengths


def edit_batch(course: Course, taught: list[EditLesson]) -> Batch:
    """Draw a batch of one shape, with the same number of pictures in all rows."""
    (lesson,) = random.choices(taught, [each.share for each in taught])
    length, pictures = lesson.embeds.shape[1], lesson.shown.shape[1]
    rows, device = course.rows((1 + pictures) * lesson.latents.shape[1], length), lesson.latents.device
    chosen = torch.randint(len(lesson.shown), (rows,), device=device)
    emptied = torch.rand(rows, device=device) < EMPTIED
    embeds = torch.where(emptied[:, None, None], lesson.empty[lesson.empty_at[chosen]], lesson.embeds[chosen])
    lengths = torch.where(emptied, lesson.empty_length, lesson.lengths[chosen])
    shown = lesson.latents[lesson.shown[chosen]].float()  # [rows, pictures, tokens, channels]
    target = lesson.latents[lesson.targets[chosen]]
    level = SOURCE_NOISE * torch.rand(rows, 1, 1, device=device)
    return Batch(
        target,
        embeds,
        torch.arange(length, device=device) < lengths[:, None],
        lesson.grid,
        (shown + level[..., None] * torch.randn_like(shown)).flatten(1, 2),
        weights_of(shown[:, 0], target.float()),
    )


def weights_of(sources: Tensor, targets: Tensor) -> Tensor:
    """Let an edit count the more, the less it changes: pale dots are as much asked for as another background.

    Unweighted, missing a faint edit costs almost nothing: the loss is as large as what was to change.

    Args:
        sources: clean packed latents, [B, P, 4 * channels].
        targets: likewise.

    Returns:
        Weights of the rows' losses, 1 to HEAVIEST, [B].
    """
    return (STRONG / (targets - sources).square().mean((1, 2)).clamp(min=1e-6)).clamp(1, HEAVIEST)


def train_editing(
    name: str,
    transformer: QwenImageTransformer2DModel,
    teacher: QwenImageTransformer2DModel,
    vae: AutoencoderKLQwenImage,
    text_encoder: Qwen2_5_VLForConditionalGeneration,
    tokenizer: Qwen2Tokenizer,
    pairs: list[Pairs],
    drawings: list[Drawings],
    seconds: float,
    work: Path,
    deadline: float,
    probe: Callable[[Denoiser], str],
    peak_rate: float = PEAK_RATE,
) -> Denoiser:
    """Train the transformer of edits and drawings; returns its moving average.

    Args:
        name: of the stage.
        transformer: what it starts from.
        teacher: what it goes on to draw like.
        vae: theirs, reduced to single frames.
        text_encoder: what encodes pictures and instructions and stays as it is.
        tokenizer: its tokenizer.
        pairs: what to learn edits from.
        drawings: what to go on learning to draw from.
        seconds: of training in all.
        work: where the state is kept.
        deadline: when to stop at the latest.
        probe: says in a line how good a denoiser is; asked every four minutes.
        peak_rate: the highest learning rate.
    """
    course = Course(name, transformer, seconds, work, deadline, peak_rate, teacher.requires_grad_(False).eval())
    course.compile(COMPILED_EDITS | COMPILED)
    apart = difference(Denoiser(text_encoder, course.transformer), tokenizer, pictures=3)
    course.stage.say(f"{apart:.1e} is the largest difference from the library's forward pass")
    conditioner = Conditioner(text_encoder, tokenizer)
    taught = [lesson for each in pairs for lesson in lessons_of(vae, each, conditioner)]
    kept, told = sum(len(each.shown) for each in taught), sum(len(some.texts) for each in pairs for some in each.asked)
    course.stage.say(f"encoded all pictures and {kept} instructions; {told - kept} are too long")
    drawn = drawing_lessons(drawings, tokenizer, text_encoder, lambda: vae)
    course.stage.say("encoded all drawings and captions")

    def draw() -> Batch:
        return drawing_batch(course, drawn) if random.random() < DRAWN else edit_batch(course, taught)

    average = course.run(draw, lambda average: probe(Denoiser(text_encoder, average)))
    return Denoiser(text_encoder, average)
