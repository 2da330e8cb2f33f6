"""The double-stream blocks of Qwen-Image over packed sequences: `QwenImageTransformerBlock`'s steps, fewer and larger.

Query, key and value of a stream are one product, and what lies between products is fused (`models.transformer.fused`):
the residual stream's addition goes with the norm that follows, across the border of two blocks. Read in diffusers
0.42.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from diffusers.models.transformers.transformer_qwenimage import QwenImageTransformerBlock
from torch import nn
from torch.nn import functional

from models.architectures.qwen_image.modulations import Modulation
from models.transformer.fused import (
    FLOAT8,
    Quantized,
    Tokens,
    Update,
    cut_quantized,
    modulated_norm,
    new_tokens,
    rotated,
    rows_of,
)
from models.transformer.linears import Float8, LinearProduct, Plain
from models.transformer.packing import Packing, ranges
from models.transformer.quantized import Compressed, CompressedLinear, dequantized, product_of

Rotary = tuple[torch.Tensor, torch.Tensor]  # cosines and sines, float32 [positions, width / 2]
Exchange = Callable[[torch.Tensor, Packing], None]
"""Takes the queries, keys and values of all joint tokens, rotated, before they are attended to: see
`models.transformer.condition_cache.ConditionCache.exchange`."""


@dataclass(frozen=True)
class Stream:
    """The weights of one block for the tokens of the text or of the image."""

    qkv: LinearProduct
    query_weight: torch.Tensor  # [width], of the RMS norm
    key_weight: torch.Tensor
    out: LinearProduct
    up: LinearProduct
    down: LinearProduct


@dataclass(frozen=True)
class Block:
    """One double-stream block."""

    image: Stream
    text: Stream
    heads: int
    eps: float  # of the layer norms
    qk_eps: float  # of the RMS norms of queries and keys

    @classmethod
    def of(cls, block: QwenImageTransformerBlock, *, float8: bool) -> Block:
        """Return the weights of diffusers' block, which stays usable; in float8 those of its image stream are
        given up.
        """
        attn = block.attn
        for_image = _float8 if float8 else product_of
        return cls(
            image=Stream(
                for_image([attn.to_q, attn.to_k, attn.to_v]),
                attn.norm_q.weight,
                attn.norm_k.weight,
                for_image([attn.to_out[0]]),
                for_image([block.img_mlp.net[0].proj]),
                for_image([block.img_mlp.net[2]]),
            ),
            # Text has few tokens: its products wait for their weights in any precision.
            text=Stream(
                product_of([attn.add_q_proj, attn.add_k_proj, attn.add_v_proj]),
                attn.norm_added_q.weight,
                attn.norm_added_k.weight,
                product_of([attn.to_add_out]),
                product_of([block.txt_mlp.net[0].proj]),
                product_of([block.txt_mlp.net[2]]),
            ),
            heads=attn.heads,
            eps=block.img_norm1.eps,
            qk_eps=attn.norm_q.eps,
        )


@dataclass
class Streams:
    """Both streams on their way, and what the next block reads of them."""

    packing: Packing
    rows: torch.Tensor  # the row of each sequence
    image_rotary: Rotary
    text_rotary: Rotary
    image: torch.Tensor  # the residual stream [image tokens, D], changed in place
    text: torch.Tensor  # [text tokens, D]
    image_in: Tokens  # normed and modulated
    text_in: Tokens

    def only(self, places: Sequence[int]) -> Streams:
        """Return a copy of some sequences, in the order given."""
        packing, device = self.packing, self.image.device
        images = ranges([packing.image_range(place) for place in places], device)
        texts = ranges([packing.text_range(place) for place in places], device)
        return Streams(
            packing.only(places),
            self.rows[list(places)],
            self.image_rotary,
            self.text_rotary,
            self.image[images],
            self.text[texts],
            rows_of(self.image_in, images),
            rows_of(self.text_in, texts),
        )


def enter(
    image_modulation: Modulation,
    text_modulation: Modulation,
    *,
    packing: Packing,
    rows: torch.Tensor,
    rotary: tuple[Rotary, Rotary],
    image: torch.Tensor,
    text: torch.Tensor,
    eps: float,
    quantize: bool,
) -> Streams:
    """Return both streams before the first block; `image` and `text` are theirs from now on.

    Args:
        eps: of the layer norms.
        quantize: whether the blocks take the image's tokens in float8.
    """
    of_image, of_text = image_modulation, text_modulation
    kinds = packing.image_kinds
    image_in = modulated_norm(image, of_image.shift, of_image.scale, eps, kinds=kinds, quantize=quantize)
    text_in = modulated_norm(text, of_text.shift, of_text.scale, eps)
    return Streams(packing, rows, *rotary, image, text, image_in, text_in)


def advance(
    streams: Streams,
    block: Block,
    image_modulation: Modulation,
    text_modulation: Modulation,
    *,
    following: tuple[Modulation, Modulation] | None,
    last: tuple[torch.Tensor, torch.Tensor],
    control: torch.Tensor | None = None,
    exchange: Exchange | None = None,
) -> None:
    """Take both streams through one block.

    Args:
        following: what the step says to the image and the text of the next block, which takes its tokens as this one
            does; None for the last, after whose attention nobody reads the text any more.
        last: shift and scale of the norm after the last block, see `StepModulations`.
        control: what a ControlNet adds to the image stream of each row after this block [B, N, D].
        exchange: keeps keys and values of condition pictures, and puts back those that aren't computed.
    """
    attended = _attend(streams, block, exchange)
    image, mod, kinds = streams.image, image_modulation, streams.packing.image_kinds
    middle = modulated_norm(
        image,
        mod.mlp_shift,
        mod.mlp_scale,
        block.eps,
        update=Update(_image_out(streams.packing, block.image.out, attended), block.image.out.bias, mod.gate),
        kinds=kinds,
        quantize=block.image.up.quantizes,
    )
    widened = block.image.up.gelu(middle)
    update = Update(block.image.down(widened), block.image.down.bias, mod.mlp_gate)
    if control is not None:
        image += control[streams.rows].flatten(0, 1)
    if following is None:
        shift, scale, quantize = *(each.expand_as(mod.gate) for each in last), False
    else:
        shift, scale, quantize = following[0].shift, following[0].scale, block.image.qkv.quantizes
    streams.image_in = modulated_norm(image, shift, scale, block.eps, update=update, kinds=kinds, quantize=quantize)
    if following is None:
        return
    text, mod, next_mod = streams.text, text_modulation, following[1]
    update = Update(block.text.out(_text_of(streams.packing, attended)), block.text.out.bias, mod.gate)
    middle = modulated_norm(text, mod.mlp_shift, mod.mlp_scale, block.eps, update=update)
    widened = block.text.up.gelu(middle)
    update = Update(block.text.down(widened), block.text.down.bias, mod.mlp_gate)
    streams.text_in = modulated_norm(text, next_mod.shift, next_mod.scale, block.eps, update=update)


def _attend(streams: Streams, block: Block, exchange: Exchange | None) -> list[torch.Tensor]:
    """Joint attention → of each group of sequences [its attending tokens, D]."""
    packing = streams.packing
    image_qkv = block.image.qkv(streams.image_in).unflatten(1, (3, block.heads, -1))
    text_qkv = block.text.qkv(streams.text_in).unflatten(1, (3, block.heads, -1))
    joint = text_qkv.new_empty(packing.joint_tokens, *text_qkv.shape[1:])
    for qkv, stream, rotary, positions, places in (
        (image_qkv, block.image, streams.image_rotary, packing.image_positions, packing.image_places),
        (text_qkv, block.text, streams.text_rotary, packing.text_positions, packing.text_places),
    ):
        weights = stream.query_weight, stream.key_weight
        rotated(qkv, stream.qkv.bias, joint, *weights, block.qk_eps, rotary, positions, places)
    if exchange is not None:
        exchange(joint, packing)
    attended = []
    for group in packing.groups:
        mine = joint[group.start : group.start + group.count * group.length]
        query, key, value = mine.unflatten(0, (group.count, group.length)).permute(2, 0, 3, 1, 4)
        query = query[:, :, : group.attending]
        out = functional.scaled_dot_product_attention(query, key, value)  # [count, heads, attending, width]
        attended.append(out.transpose(1, 2).reshape(group.count * group.attending, -1))
    return attended


def _image_out(packing: Packing, product: LinearProduct, attended: Sequence[torch.Tensor]) -> torch.Tensor:
    """The product after attention, for the image tokens [image tokens, D]."""
    plain = product.plain() if isinstance(product, Compressed) else product
    images = new_tokens(attended[0], sum(packing.image_lengths), quantize=product.quantizes)
    for group, joint in zip(packing.groups, attended, strict=True):
        mine = rows_of(images, slice(group.image_start, group.image_start + group.count * group.image_tokens))
        if isinstance(mine, Quantized):
            cut_quantized(joint, group.count, group.text_tokens, out=mine)
        else:
            assert isinstance(plain, Plain)
            each = joint.unflatten(0, (group.count, group.attending))[:, group.text_tokens :]
            plain.of_each(each, mine.unflatten(0, (group.count, group.image_tokens)))
    return product(images) if isinstance(images, Quantized) else images


def _text_of(packing: Packing, attended: Sequence[torch.Tensor]) -> torch.Tensor:
    """What attention gave the text tokens [text tokens, D]."""
    return torch.cat(
        [
            joint.unflatten(0, (group.count, group.attending))[:, : group.text_tokens].flatten(0, 1)
            for group, joint in zip(packing.groups, attended, strict=True)
        ]
    )


def _float8(linears: Sequence[nn.Linear | CompressedLinear]) -> LinearProduct:
    product = product_of(linears) if isinstance(linears[0], CompressedLinear) else None
    if isinstance(product, Compressed) and product.codes.dtype == FLOAT8:  # as the checkpoint stores them
        return Float8(product.codes, product.scales[None], product.bias)
    weight, bias = dequantized(linears)
    for linear in linears:
        if isinstance(linear, nn.Linear):
            linear.weight = nn.Parameter(weight.new_empty(0), requires_grad=False)
    return Float8.of(weight, bias)
