"""What a text encoder sees: pictures through its vision tower, each once, and their places among the words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from models.failure import Failure, apart
from models.loading.prompt_encoder import Eyes, PromptEncoder
from models.requests import SeenPicture
from models.transformer.host_weights import brought_in

VISION_BATCH_PATCHES = 16384  # patches that the vision tower reads at once: 20 pictures of 384² in Qwen2.5-VL's patches


@dataclass(frozen=True, eq=False)
class Sight:
    """What stands in the places of one picture's tokens, row after row of them."""

    features: torch.Tensor  # [rows · columns, D], in host memory
    rows: int
    columns: int


def see(
    encoder: PromptEncoder, eyes: Eyes, pictures: Iterable[SeenPicture]
) -> tuple[dict[SeenPicture, Sight], dict[SeenPicture, Failure]]:
    """Have the vision tower see pictures, many at a time; it is on the device meanwhile.

    Returns:
        what it makes of each, and the failures of those that it can't see.

    Raises:
        DeviceLost: as `models.failure.blame`.
    """
    distinct = list(dict.fromkeys(pictures))
    seen: dict[SeenPicture, Sight] = {}
    failures: dict[SeenPicture, Failure] = {}
    if distinct:
        with brought_in(eyes.vision_tower, encoder.device), torch.inference_mode():
            for some in _batches(distinct, eyes):
                done, failed = apart(lambda batch: _see(encoder, eyes, batch), some)
                seen |= done
                failures |= failed
    return seen, failures


def spread(ids: Sequence[int], eyes: Eyes | None, sights: Sequence[Sight]) -> list[int]:
    """Return token ids in which each picture's one token stands as often as the picture has tokens.

    Raises:
        ValueError: if there are other pictures than tokens for them.
    """
    if eyes is None:
        return [*ids]
    if ids.count(eyes.token) != len(sights):
        raise ValueError("the text has the token in it that stands for a picture; leave that out")
    left = iter(sights)
    return [each for token in ids for each in ([token] * _tokens(next(left)) if token == eyes.token else [token])]


def positions(ids: Sequence[int], eyes: Eyes, sights: Sequence[Sight]) -> torch.Tensor:
    """Return the positions of spread tokens for the rotary embedding: [3, T], of time, row and column.

    Words count on one after another. A picture's tokens stand at one time, by row and column, and what follows it goes
    on after its longer side. diffusers' pipelines (0.42.1) don't tell a transformers of version 5 which tokens are a
    picture's, and these then count on as words do, which the models weren't trained on
    (https://github.com/huggingface/diffusers/issues/14194).
    """
    if not eyes.by_grid:
        return torch.arange(len(ids)).expand(3, -1)
    parts: list[torch.Tensor] = []
    at = start = 0
    for sight in sights:
        first = ids.index(eyes.token, at)
        parts.append(torch.arange(start, start + first - at).expand(3, -1))
        start += first - at
        time = torch.zeros(1, dtype=torch.long)
        parts.append(torch.cartesian_prod(time, torch.arange(sight.rows), torch.arange(sight.columns)).T + start)
        start, at = start + max(sight.rows, sight.columns), first + _tokens(sight)
    parts.append(torch.arange(start, start + len(ids) - at).expand(3, -1))
    return torch.cat(parts, dim=1)


def put_in(embeds: torch.Tensor, ids: torch.Tensor, eyes: Eyes, sights: Sequence[Sight]) -> torch.Tensor:
    """Return embeddings [B, T, D] of spread ids [B, T] with what was seen in the places of the pictures' tokens.

    `sights` are of all rows, one row's after another's.
    """
    features = torch.cat([sight.features for sight in sights])
    return embeds.masked_scatter((ids == eyes.token).unsqueeze(-1), features.to(embeds))


def _tokens(sight: Sight) -> int:
    return sight.rows * sight.columns


def _see(encoder: PromptEncoder, eyes: Eyes, pictures: list[SeenPicture]) -> dict[SeenPicture, Sight]:
    shown = eyes.image_processor(images=[Image.fromarray(one.pixels) for one in pictures], return_tensors="pt")
    grids = shown["image_grid_thw"]  # [pictures, 3]: time, rows and columns of patches
    patches = shown["pixel_values"].to(encoder.device, encoder.dtype)
    features = eyes.vision_tower(patches, grid_thw=grids.to(encoder.device)).pooler_output.to("cpu")
    sizes = [(rows // eyes.merged, columns // eyes.merged) for _, rows, columns in grids.tolist()]
    parts = features.split([rows * columns for rows, columns in sizes])
    return {picture: Sight(part, *size) for picture, part, size in zip(pictures, parts, sizes, strict=True)}


def _batches(pictures: Sequence[SeenPicture], eyes: Eyes) -> Iterator[list[SeenPicture]]:
    """Cut pictures into batches of at most `VISION_BATCH_PATCHES` patches, or of one picture."""
    batch: list[SeenPicture] = []
    patches = 0
    for picture in pictures:
        height, width = picture.pixels.shape[:2]
        count = eyes.image_processor.get_number_of_image_patches(height, width)
        if batch and patches + count > VISION_BATCH_PATCHES:
            yield batch
            batch, patches = [], 0
        batch.append(picture)
        patches += count
    if batch:
        yield batch
