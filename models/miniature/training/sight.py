"""Teaching the text encoder to see: a vision tower that speaks to a language model which stays as it is.

What a picture shows is known, so the tower learns as the text encoder learned words: heads on the token after a
picture, which has seen nothing else, name every attribute. Afterwards tower and language model stay as they are, and
what they make of pictures and instructions is encoded once.
"""

import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus import CONDITION_IMAGE_SIZE, calculate_dimensions
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from models.miniature.datasets.drawings import ATTRIBUTES
from models.miniature.networks.architecture import PATCH, VISION_PIXELS, new_seeing_encoder
from models.miniature.networks.tokenizer import EDIT_DROPPED, EDIT_OPENING, EDIT_TEMPLATE, PICTURE_END, SECOND_PICTURE
from models.miniature.training.stage import Stage
from models.miniature.training.words import Heads, targets, token_rows

PEAK_RATE = 2e-3
BATCH = 512
AROUND = 2 * PATCH  # pixels a side of a token


@dataclass(frozen=True)
class Shown:
    """Pictures of one shape, and what they show."""

    pictures: Tensor  # uint8 [N, H, W, 3]
    scenes: Tensor  # int16 [N, attributes]: see `drawings.attributes`


@dataclass(frozen=True)
class EditTemplate:
    """Token ids around pictures, as `QwenImageEditPlusPipeline` has them, [length] each."""

    opening: Tensor
    between: Tensor  # two pictures
    end: Tensor  # of the last picture

    @classmethod
    def of(cls, tokenizer: Qwen2Tokenizer, device: torch.device) -> Self:
        """Return what a tokenizer makes of them."""
        texts = (EDIT_OPENING, SECOND_PICTURE, PICTURE_END)
        return cls(*(torch.tensor(tokenizer(text).input_ids, device=device) for text in texts))


def seen_size(width: int, height: int) -> tuple[int, int]:
    """Return the width and height at which the text encoder sees a picture.

    `QwenImageEditPlusPipeline` resizes it to 384² of area, and the checkpoint's processor shrinks that.
    """
    wide, high = calculate_dimensions(CONDITION_IMAGE_SIZE, width / height)
    shrink = math.sqrt(wide * high / VISION_PIXELS)
    seen_wide, seen_high = (max(1, math.floor(side / shrink / AROUND)) * AROUND for side in (wide, high))
    return seen_wide, seen_high


def patches_of(pictures: Tensor) -> Tensor:
    """Cut uint8 pictures [N, H, W, 3] into what the vision tower reads, as the processor does: [N, patches, pixels].

    Patches that become one token follow one another.
    """
    wide, high = seen_size(pictures.shape[2], pictures.shape[1])
    small = functional.interpolate(pictures.permute(0, 3, 1, 2).float(), (high, wide), mode="bicubic", antialias=True)
    mean, deviation = (
        torch.tensor(values, device=pictures.device)[:, None, None] for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)
    )
    normal = (small.round().clamp(0, 255) / 255 - mean) / deviation
    cut = normal.view(len(normal), 3, high // AROUND, 2, PATCH, wide // AROUND, 2, PATCH)
    return cut.permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(len(normal), -1, 3 * PATCH * PATCH)


def see(visual: Any, patches: Tensor, size: tuple[int, int]) -> Tensor:
    """`Qwen2_5_VisionTransformerPretrainedModel.forward` for many pictures of one size, whose layers see all of them.

    Args:
        visual: the vision tower.
        patches: from `patches_of`, [N, patches, pixels].
        size: from `seen_size`, in pixels.

    Returns:
        what takes the place of a picture's tokens, [N, patches / 4, width].
    """
    rows, columns = size[1] // PATCH, size[0] // PATCH
    places = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"))
    places = places.view(2, rows // 2, 2, columns // 2, 2).transpose(2, 3).reshape(2, -1).to(patches.device)
    frequencies = places[..., None].float() * visual.rotary_pos_emb.inv_freq.to(patches.device)
    angles = frequencies.permute(1, 0, 2).flatten(1).repeat(1, 2)[None, :, None]  # [1, patches, 1, head]
    hidden = functional.linear(patches, visual.patch_embed.proj.weight.flatten(1))
    for block in visual.blocks:
        attention = block.attn
        joint = torch.unflatten(attention.qkv(block.norm1(hidden)), -1, (3, attention.num_heads, -1))
        query, key, value = joint.unbind(2)
        query, key = (_turned(each, angles).type_as(value).transpose(1, 2) for each in (query, key))
        mixed = functional.scaled_dot_product_attention(query, key, value.transpose(1, 2))
        hidden = hidden + attention.proj(mixed.transpose(1, 2).flatten(2))
        hidden = hidden + block.mlp(block.norm2(hidden))
    merged: Tensor = visual.merger.mlp(torch.unflatten(visual.merger.ln_q(hidden), 1, (-1, 4)).flatten(2))
    return merged


def _turned(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate [N, patches, heads, head]: the vision tower's rotary embedding."""
    x = x.float()
    first, second = x.chunk(2, -1)
    return x * angles.cos() + torch.cat([-second, first], -1) * angles.sin()


def encode_seen(
    text_encoder: Qwen2_5_VLForConditionalGeneration, template: EditTemplate, seen: Tensor, ids: Tensor
) -> Tensor:
    """Return the states of what follows the template's opening: the tokens of pictures and of a text.

    Positions count on through a picture, as they do in diffusers 0.42.1 with transformers 5.24, whose pipeline doesn't
    say which tokens are a picture's.

    Args:
        text_encoder: the text encoder.
        template: what stands around pictures.
        seen: from `see`, of each row's pictures, [N, pictures, tokens, width].
        ids: of what follows the last picture, padded on the right, [N, L].

    Returns:
        [N, length, width]; the last L states are those of `ids`.
    """
    reader = text_encoder.model.language_model
    opening, between, end = (
        reader.embed_tokens(each).expand(len(seen), -1, -1)
        for each in (template.opening, template.between, template.end)
    )
    shown = [piece for picture in seen.type_as(opening).unbind(1) for piece in (between, picture)][1:]
    embeds = torch.cat([opening, *shown, end, reader.embed_tokens(ids.long())], 1)
    hidden: Tensor = reader(inputs_embeds=embeds, use_cache=False).last_hidden_state
    return hidden[:, EDIT_DROPPED:]


@torch.no_grad()
def sight_difference(
    text_encoder: Qwen2_5_VLForConditionalGeneration, tokenizer: Qwen2Tokenizer, pictures: int = 1
) -> float:
    """Return the largest difference between the forward pass here and the library's, in fp32, for rows of pictures."""
    device, rows = text_encoder.device, 2
    shown = torch.randint(0, 256, (rows * pictures, 224, 288, 3), dtype=torch.uint8, device=device)
    patches, size = patches_of(shown), seen_size(288, 224)
    seen = see(text_encoder.model.visual, patches, size)
    text = "make it red"
    ids, lengths = token_rows(tokenizer, [text], device)
    after = ids[:, : int(lengths[0])].expand(rows, -1)
    ours = encode_seen(text_encoder, EditTemplate.of(tokenizer, device), seen.unflatten(0, (rows, pictures)), after)
    whole = "<|vision_start|>" + "<|image_pad|>" * seen.shape[1] + "<|vision_end|>"
    told = "".join(f"Picture {number}: {whole}" for number in range(1, pictures + 1)) + text
    batch = tokenizer([EDIT_TEMPLATE.format(told)] * rows, return_tensors="pt").to(device)
    theirs = text_encoder(
        **batch,
        pixel_values=patches.flatten(0, 1),
        image_grid_thw=torch.tensor([[1, size[1] // PATCH, size[0] // PATCH]] * len(shown), device=device),
        output_hidden_states=True,
    ).hidden_states[-1][:, EDIT_DROPPED:]
    return float((ours - theirs).abs().max())


def train_sight(
    shown: list[Shown],
    unseen: Shown,
    reader: Qwen2_5_VLForConditionalGeneration,
    tokenizer: Qwen2Tokenizer,
    seconds: float,
    work: Path,
    deadline: float,
) -> Qwen2_5_VLForConditionalGeneration:
    """Give `reader` a vision tower, and train that.

    Args:
        shown: pictures to learn from, of one shape each.
        unseen: pictures that are kept apart, to say how well it sees.
        reader: the text encoder, whose language model stays as it is.
        tokenizer: its tokenizer.
        seconds: of training in all.
        work: where the state is kept.
        deadline: when to stop at the latest.
    """
    device = shown[0].pictures.device
    cuda = device.type == "cuda"
    encoder = new_seeing_encoder(reader).to(device)
    heads = Heads().to(device)
    visual = encoder.model.visual
    trained = [*visual.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(trained, PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.02, fused=cuda)
    stage = Stage("sight", seconds, work, deadline, visual=visual, heads=heads, optimizer=optimizer)
    template = EditTemplate.of(tokenizer, device)
    for _ in stage.iterations():
        (source,) = random.choices(shown, [len(each.pictures) for each in shown])
        chosen = torch.randint(len(source.pictures), (BATCH if cuda else 8,), device=device)
        optimizer.param_groups[0]["lr"] = stage.rate(PEAK_RATE, warm=200)
        with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
            logits = heads(_looked_at(encoder, template, source.pictures[chosen]))
        truth = targets(source.scenes[chosen])
        losses = [functional.cross_entropy(each.float(), truth[:, at]) for at, each in enumerate(logits)]
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(torch.stack(losses).sum())
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        stage.report(kind=losses[0], colour=losses[1], rest=torch.stack(losses[2:]).sum())
    encoder.eval().requires_grad_(False)
    with torch.no_grad():
        logits = heads(_looked_at(encoder, template, unseen.pictures))
    right = {
        name: float((each.argmax(1) == unseen.scenes[:, at]).float().mean())
        for at, (name, each) in enumerate(zip(ATTRIBUTES, logits, strict=True))
    }
    stage.say("of held-out pictures: " + ", ".join(f"{name} {share:.4f}" for name, share in right.items()))
    return encoder


def _looked_at(encoder: Qwen2_5_VLForConditionalGeneration, template: EditTemplate, pictures: Tensor) -> Tensor:
    """The states of the token after each picture: uint8 [N, H, W, 3] to [N, width]."""
    size = seen_size(pictures.shape[2], pictures.shape[1])
    seen = see(encoder.model.visual, patches_of(pictures), size)
    nothing = torch.empty(len(pictures), 0, dtype=torch.long, device=pictures.device)
    return encode_seen(encoder, template, seen[:, None], nothing)[:, -1]
