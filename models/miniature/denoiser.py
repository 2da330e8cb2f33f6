"""Training the miniature's transformer by flow matching.

The forward pass here is diffusers' own, in a form that compiles to few kernels: rotary embedding with real numbers,
and one mask for all heads. `difference` measures that it gives what the library gives.
"""

import copy
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel
from diffusers.models.transformers.transformer_qwenimage import QwenImageTransformerBlock
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

from models.miniature.architecture import LATENT_CHANNELS, TEXT_WIDTH, new_transformer
from models.miniature.autoencoder import encoded
from models.miniature.drawings import SHAPES, Drawings
from models.miniature.prompts import LENGTHS, Prompts, prepare
from models.miniature.stage import Stage
from models.miniature.tokenizer import DROPPED, TEMPLATE
from models.miniature.words import encode_text

LOG = logging.getLogger(__name__)
PIXELS = 32  # a token's side: 16 a latent, and tokens fold 2 x 2 latents
CHANNELS = 4 * LATENT_CHANNELS  # of a token
PEAK_RATE = 1.5e-3
BATCH_TOKENS = 72_000  # picture and text tokens together
EMPTIED = 0.1  # of the prompts
EMA = 0.999
EMA_EVERY = 4  # iterations
# Numbers of picture tokens and of text tokens worth the ten seconds that compiling for them takes.
COMPILED = {(64, 32), (64, 64), (80, 32), (80, 64)}
PROBE_EVERY = 120.0  # seconds


@dataclass(frozen=True)
class Denoiser:
    """The transformer and the text encoder that speaks to it."""

    text_encoder: Qwen2_5_VLForConditionalGeneration
    transformer: QwenImageTransformer2DModel


@dataclass(frozen=True)
class Lesson:
    """One shape's latents and prompts."""

    width: int
    height: int
    latents: Tensor  # fp16 [pictures, height / 32 * width / 32, CHANNELS], packed and normalised
    prompts: Prompts

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        return self.height // PIXELS, self.width // PIXELS


def latents_of(vae: AutoencoderKLQwenImage, drawings: Drawings) -> Tensor:
    """Encode drawings into normalised packed latents: fp16 [pictures, tokens, CHANNELS]."""
    device = drawings.pictures.device
    mean = torch.tensor(vae.config.latents_mean, device=device)[:, None, None]
    deviation = torch.tensor(vae.config.latents_std, device=device)[:, None, None]
    chunks = torch.split(drawings.pictures, 256 if device.type == "cuda" else 16)
    return torch.cat([packed((encoded(vae, chunk) - mean) / deviation).half() for chunk in chunks])


def packed(latents: Tensor) -> Tensor:
    """Fold latents [B, C, h, w] into tokens of 2 x 2: [B, h / 2 * w / 2, 4 C]."""
    batch, channels, height, width = latents.shape
    folded = latents.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return folded.reshape(batch, height * width // 4, channels * 4)


Rotation = tuple[Tensor, Tensor]  # cosines and sines, [tokens, 1, head / 2]
Block = Callable[[QwenImageTransformerBlock, Tensor, Tensor, Tensor, Tensor, Rotation, Rotation], tuple[Tensor, Tensor]]


def rotated(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate [B, tokens, heads, head]: diffusers' `apply_rotary_emb_qwen` without complex numbers."""
    cosine, sine = rotation
    even, odd = torch.unflatten(x.float(), -1, (-1, 2)).unbind(-1)
    return torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), -1).flatten(-2).type_as(x)


def block_forward(
    block: QwenImageTransformerBlock,
    picture: Tensor,
    text: Tensor,
    mask: Tensor,
    time: Tensor,
    at: Rotation,
    text_at: Rotation,
) -> tuple[Tensor, Tensor]:
    """`QwenImageTransformerBlock.forward`.

    Args:
        block: the block.
        picture: [B, P, width].
        text: [B, T, width].
        mask: what is added to attention, [B, heads, T + P, T + P].
        time: the timestep's embedding, [B, width].
        at: rotations of the picture's tokens.
        text_at: rotations of the text's tokens.
    """
    attention = block.attn
    first, second = block.img_mod(time).chunk(2, -1)
    text_first, text_second = block.txt_mod(time).chunk(2, -1)
    shown, gate = block._modulate(block.img_norm1(picture), first)
    told, text_gate = block._modulate(block.txt_norm1(text), text_first)

    def headed(x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (attention.heads, -1))

    query, key = attention.norm_q(headed(attention.to_q(shown))), attention.norm_k(headed(attention.to_k(shown)))
    text_query = attention.norm_added_q(headed(attention.add_q_proj(told)))
    text_key = attention.norm_added_k(headed(attention.add_k_proj(told)))
    value, text_value = headed(attention.to_v(shown)), headed(attention.add_v_proj(told))
    joint = (
        torch.cat([rotated(text_query, text_at), rotated(query, at)], 1).type_as(value),
        torch.cat([rotated(text_key, text_at), rotated(key, at)], 1).type_as(value),
        torch.cat([text_value, value], 1),
    )
    query, key, value = (each.transpose(1, 2) for each in joint)
    mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    mixed = mixed.transpose(1, 2).flatten(2)
    length = text.shape[1]
    picture = picture + gate * attention.to_out[0](mixed[:, length:])
    text = text + text_gate * attention.to_add_out(mixed[:, :length])

    shown, gate = block._modulate(block.img_norm2(picture), second)
    picture = picture + gate * block.img_mlp(shown)
    told, text_gate = block._modulate(block.txt_norm2(text), text_second)
    text = text + text_gate * block.txt_mlp(told)
    return picture, text


def velocity(
    transformer: QwenImageTransformer2DModel,
    latents: Tensor,
    embeds: Tensor,
    mask: Tensor,
    sigma: Tensor,
    grid: tuple[int, int],
    block: Block = block_forward,
) -> Tensor:
    """`QwenImageTransformer2DModel.forward`.

    Args:
        transformer: the model.
        latents: noisy packed latents [B, P, CHANNELS].
        embeds: prompt embeds [B, T, width].
        mask: True for the prompt's tokens, [B, T].
        sigma: the share of noise, [B].
        grid: rows and columns of tokens; their product is P.
        block: the blocks' forward pass, compiled or not.

    Returns:
        The velocity from picture to noise, [B, P, CHANNELS].
    """
    picture = transformer.img_in(latents)
    text = transformer.txt_in(transformer.txt_norm(embeds))
    embedding = transformer.time_text_embed
    time = embedding.timestep_embedder(embedding.time_proj(sigma).to(picture.dtype))
    rotations = transformer.pos_embed([(1, *grid)], max_txt_seq_len=text.shape[1], device=latents.device)
    at, text_at = (_cosines_and_sines(each) for each in rotations)
    seen = torch.cat([mask, mask.new_ones(latents.shape[:2])], 1)
    barred = torch.zeros(seen.shape, device=seen.device, dtype=picture.dtype).masked_fill_(~seen, float("-inf"))
    heads = transformer.config.num_attention_heads
    bars = barred[:, None, None, :].expand(-1, heads, seen.shape[1], -1)
    for each in transformer.transformer_blocks:
        picture, text = block(each, picture, text, bars, time, at, text_at)
    result: Tensor = transformer.proj_out(transformer.norm_out(picture, time))
    return result


def _cosines_and_sines(rotation: Tensor) -> Rotation:
    """Complex rotations [tokens, head / 2] as two real tensors [tokens, 1, head / 2]."""
    cosines, sines = torch.view_as_real(rotation)[:, None].unbind(-1)
    return cosines.contiguous(), sines.contiguous()


@torch.no_grad()
def difference(denoiser: Denoiser, tokenizer: Qwen2Tokenizer) -> float:
    """The largest difference between the forward passes here and the library's, in fp32, on random weights."""
    text_encoder, transformer = copy.deepcopy(denoiser.text_encoder), copy.deepcopy(denoiser.transformer)
    for parameter in transformer.parameters():
        if not parameter.any():
            parameter.normal_(0, 0.05)
    device = next(transformer.parameters()).device
    texts = [TEMPLATE.format(text) for text in ("a red mug", " ", "一件蓝色的帽子")]
    batch = tokenizer(texts, padding=True, return_tensors="pt").to(device)
    mask = batch.attention_mask[:, DROPPED:].bool()
    embeds = encode_text(text_encoder, batch.input_ids)
    expected = text_encoder(**batch, output_hidden_states=True).hidden_states[-1][:, DROPPED:]
    latents, sigma = torch.randn(3, 6 * 8, CHANNELS, device=device), torch.tensor([0.1, 0.5, 0.9], device=device)
    ours = velocity(transformer, latents, embeds, mask, sigma, (6, 8))
    theirs = transformer(
        hidden_states=latents,
        encoder_hidden_states=embeds,
        encoder_hidden_states_mask=mask,
        timestep=sigma,
        img_shapes=[[(1, 6, 8)]] * 3,
        return_dict=False,
    )[0]
    in_text = ((embeds - expected) * mask[..., None]).abs().max()
    return max(float(in_text), float((ours - theirs).abs().max()))


def flow_loss(
    transformer: QwenImageTransformer2DModel,
    latents: Tensor,
    embeds: Tensor,
    mask: Tensor,
    grid: tuple[int, int],
    block: Block,
) -> Tensor:
    """The mean square error of the velocity at random shares of noise.

    Args:
        transformer: the model.
        latents: clean packed latents, [B, P, CHANNELS].
        embeds: prompt embeds, [B, T, width].
        mask: True for the prompts' tokens, [B, T].
        grid: rows and columns of tokens.
        block: the blocks' forward pass.
    """
    device = latents.device
    latents = latents.float()
    noise = torch.randn_like(latents)
    sigma = _sigmas(len(latents), device)
    noisy = torch.lerp(latents, noise, sigma[:, None, None])
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        found = velocity(transformer, noisy, embeds.float(), mask, sigma, grid, block)
    return (found.float() - (noise - latents)).square().mean()


def _sigmas(rows: int, device: torch.device) -> Tensor:
    """Shares of noise [rows]: three of four logit-normal (Stable Diffusion 3, arXiv 2403.03206), the rest uniform."""
    normal = torch.sigmoid(torch.randn(rows, device=device) + 0.2)
    return torch.where(torch.rand(rows, device=device) < 0.25, torch.rand(rows, device=device), normal)


def train_denoiser(
    vae: Callable[[], AutoencoderKLQwenImage],
    text_encoder: Callable[[], Qwen2_5_VLForConditionalGeneration],
    tokenizer: Callable[[], Qwen2Tokenizer],
    drawings: list[Drawings],
    seconds: float,
    work: Path,
    deadline: float,
    probe: Callable[[Denoiser], str],
) -> Denoiser:
    """Train the transformer on all drawings but held-out pairs; returns its moving average.

    Args:
        vae: gives the VAE; called late, since it may still be in training elsewhere.
        text_encoder: gives what encodes the prompts and stays as it is; called late too.
        tokenizer: gives the prompts' tokenizer; likewise.
        drawings: what to learn from.
        seconds: of training in all.
        work: where the state is kept.
        deadline: when to stop at the latest.
        probe: says in a line how good a denoiser is; asked every two minutes.
    """
    device = drawings[0].pictures.device
    cuda = device.type == "cuda"
    transformer = new_transformer().to(device)
    average = copy.deepcopy(transformer).requires_grad_(False).eval()
    parameters, averaged = list(transformer.parameters()), list(average.parameters())
    optimizer = torch.optim.AdamW(
        [
            {"params": [each for each in parameters if each.dim() > 1], "weight_decay": 0.02},
            {"params": [each for each in parameters if each.dim() <= 1], "weight_decay": 0.0},
        ],
        PEAK_RATE,
        betas=(0.9, 0.99),
        fused=cuda,
    )
    stage = Stage("transformer", seconds, work, deadline, transformer=transformer, average=average, optimizer=optimizer)
    compiled: Block = torch.compile(block_forward, dynamic=False) if cuda else block_forward
    if cuda:
        _compile(transformer, compiled)
    reader, split = text_encoder(), tokenizer()
    apart = difference(Denoiser(reader, transformer), split)
    stage.say(f"{apart:.1e} is the largest difference from the library's forward pass")
    prompts = [prepare(each, split, reader) for each in drawings]
    stage.say("encoded all captions")
    coder = vae()
    taught = [
        Lesson(each.width, each.height, latents_of(coder, each), told)
        for each, told in zip(drawings, prompts, strict=True)
    ]
    stage.say("encoded all drawings")
    transformer.train()
    probed = stage.elapsed
    for count in stage.iterations():
        (lesson,) = random.choices(taught, [SHAPES[each.width, each.height] for each in taught])
        bucket = lesson.prompts.pick()
        tokens, length = lesson.latents.shape[1], LENGTHS[bucket]
        rows = BATCH_TOKENS // (tokens + length) // 16 * 16 if cuda else 4
        chosen, embeds, mask = lesson.prompts.draw(rows, bucket, EMPTIED)
        block = compiled if (tokens, length) in COMPILED else block_forward
        for group in optimizer.param_groups:
            group["lr"] = stage.rate(PEAK_RATE, warm=200)
        loss = flow_loss(transformer, lesson.latents[chosen], embeds, mask, lesson.grid, block)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if count % EMA_EVERY == 0:
            kept = min(EMA**EMA_EVERY, (count + 1) / (count + 40))
            with torch.no_grad():
                for old, new in zip(averaged, parameters, strict=True):
                    old.lerp_(new, 1 - kept)
        stage.report(loss=loss, norm=norm)
        if stage.elapsed - probed > PROBE_EVERY:
            probed = stage.elapsed
            stage.say(f"{count} {probe(Denoiser(reader, average))}")
    return Denoiser(reader, average)


def _compile(transformer: QwenImageTransformer2DModel, block: Block) -> None:
    """Compile the blocks for all of COMPILED, before training's clock starts."""
    began, device = time.monotonic(), next(transformer.parameters()).device
    for tokens, length in sorted(COMPILED):
        rows = BATCH_TOKENS // (tokens + length) // 16 * 16
        latents = torch.randn(rows, tokens, CHANNELS, device=device)
        mask = torch.ones(rows, length, dtype=torch.bool, device=device)
        told = torch.randn(rows, length, TEXT_WIDTH, dtype=torch.bfloat16, device=device)
        torch.autograd.backward(flow_loss(transformer, latents, told, mask, (8, tokens // 8), block))
    transformer.zero_grad(set_to_none=True)
    torch.cuda.synchronize()
    LOG.info("%-12s %s", "transformer", f"compiled for {len(COMPILED)} lengths in {time.monotonic() - began:.0f} s")
