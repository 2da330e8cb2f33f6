"""Training the miniature's transformer by flow matching.

The forward pass here is diffusers' own, in a form that compiles to few kernels: rotary embedding with real numbers,
and one mask for all heads. `difference` measures that it gives what the library gives.
"""

import copy
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel
from diffusers.models.transformers.transformer_qwenimage import QwenImageTransformerBlock
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

from models.miniature.datasets.drawings import SHAPES, Drawings
from models.miniature.networks.architecture import TEXT_WIDTH, new_transformer
from models.miniature.networks.tokenizer import DROPPED, TEMPLATE
from models.miniature.training.autoencoder import encoded
from models.miniature.training.prompts import LENGTHS, Prompts, prepare
from models.miniature.training.stage import Stage
from models.miniature.training.words import encode_text

PIXELS = 32  # a token's side: 16 a latent, and tokens fold 2 x 2 latents
PEAK_RATE = 1.5e-3
BATCH_TOKENS = 72_000  # picture and text tokens together
EMPTIED = 0.1  # of the prompts
EMA = 0.999
EMA_EVERY = 4  # iterations
# Numbers of picture tokens and of text tokens worth the ten seconds that compiling for them takes.
COMPILED = {(64, 32), (64, 64), (80, 32), (80, 64)}
PROBE_EVERY = 240.0  # seconds; the state is saved as often, so that a machine that is lost takes no more with it


@dataclass(frozen=True)
class Denoiser:
    """The transformer and the text encoder that speaks to it."""

    text_encoder: Qwen2_5_VLForConditionalGeneration
    transformer: QwenImageTransformer2DModel


def grid_of(width: int, height: int) -> tuple[int, int]:
    """Return how many rows and columns of tokens a picture of so many pixels has."""
    return height // PIXELS, width // PIXELS


@dataclass(frozen=True)
class DrawingLesson:
    """One shape's latents and prompts."""

    width: int
    height: int
    latents: Tensor  # fp16 [pictures, height / 32 * width / 32, 4 * channels], packed and normalised
    prompts: Prompts

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        return grid_of(self.width, self.height)


@dataclass(frozen=True)
class Batch:
    """Rows of one shape to learn from."""

    latents: Tensor  # clean and packed, [B, P, 4 * channels]
    embeds: Tensor  # of the prompts, [B, T, width]
    mask: Tensor  # True for the prompts' tokens, [B, T]
    grid: tuple[int, int]  # rows and columns of tokens of a picture
    source: Tensor | None = None  # packed latents of pictures seen without noise, [B, P', 4 * channels]
    weights: Tensor | None = None  # of the rows' losses, [B]; without them all count the same

    @property
    def tokens(self) -> int:
        """How many picture tokens a row has."""
        return self.latents.shape[1] + (0 if self.source is None else self.source.shape[1])

    @property
    def tensors(self) -> list[Tensor]:
        """All that it holds, in one order."""
        return [held for held in vars(self).values() if isinstance(held, Tensor)]

    def copied(self) -> "Batch":
        """Return a batch of the same whose tensors are its own."""
        copies: dict[str, Any] = {name: each.clone() for name, each in vars(self).items() if isinstance(each, Tensor)}
        return replace(self, **copies)


def latents_of(vae: AutoencoderKLQwenImage, pictures: Tensor) -> Tensor:
    """Encode uint8 pictures [N, H, W, C] into normalised packed latents: fp16 [N, tokens, 4 * channels]."""
    device = pictures.device
    mean = torch.tensor(vae.config.latents_mean, device=device)[:, None, None]
    deviation = torch.tensor(vae.config.latents_std, device=device)[:, None, None]
    chunks = torch.split(pictures, 256 if device.type == "cuda" else 16)
    return torch.cat([packed((encoded(vae, chunk) - mean) / deviation).half() for chunk in chunks])


def packed(latents: Tensor) -> Tensor:
    """Fold latents [B, C, h, w] into tokens of 2 x 2: [B, h / 2 * w / 2, 4 C]."""
    batch, channels, height, width = latents.shape
    folded = latents.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return folded.reshape(batch, height * width // 4, channels * 4)


Rotation = tuple[Tensor, Tensor]  # cosines and sines, [tokens, 1, head / 2]
Block = Callable[
    [QwenImageTransformerBlock, Tensor, Tensor, Tensor, Tensor, Rotation, Rotation, Tensor | None],
    tuple[Tensor, Tensor],
]


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
    clean: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`QwenImageTransformerBlock.forward`.

    Args:
        block: the block.
        picture: [B, P, width].
        text: [B, T, width].
        mask: what is added to attention, [B, heads, T + P, T + P].
        time: the timestep's embedding, [B, width]; with `zero_cond_t` followed by that of timestep 0, [2 B, width].
        at: rotations of the picture's tokens.
        text_at: rotations of the text's tokens.
        clean: with `zero_cond_t`, 1 for tokens of a condition picture, which are modulated as at timestep 0, [B, P].
    """
    attention = block.attn
    first, second = block.img_mod(time).chunk(2, -1)
    text_first, text_second = block.txt_mod(time[: len(text)]).chunk(2, -1)
    shown, gate = block._modulate(block.img_norm1(picture), first, clean)
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

    shown, gate = block._modulate(block.img_norm2(picture), second, clean)
    picture = picture + gate * block.img_mlp(shown)
    told, text_gate = block._modulate(block.txt_norm2(text), text_second)
    text = text + text_gate * block.txt_mlp(told)
    return picture, text


def _told_forward(*args: Any) -> tuple[Tensor, Tensor]:
    """`block_forward` of a teacher: torch compiles a function for a few sorts of calls only, then no more."""
    return block_forward(*args)


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
        latents: noisy packed latents [B, P, 4 * channels], of one picture or of several one after another; with
            `zero_cond_t` all but the first are clean.
        embeds: prompt embeds [B, T, width].
        mask: True for the prompt's tokens, [B, T].
        sigma: the share of noise, [B].
        grid: rows and columns of tokens of a picture.
        block: the blocks' forward pass, compiled or not.

    Returns:
        The velocity from picture to noise, [B, P, 4 * channels].
    """
    picture = transformer.img_in(latents)
    text = transformer.txt_in(transformer.txt_norm(embeds))
    is_rgb = _is_rgb(transformer, sigma)
    clean = None
    if transformer.config.zero_cond_t:
        sigma = torch.cat([sigma, torch.zeros_like(sigma)])
        clean = torch.ones(latents.shape[:2], dtype=torch.int, device=latents.device)
        clean[:, : grid[0] * grid[1]] = 0
    time = transformer.time_text_embed(sigma, picture, is_rgb)
    pictures = [(1, *grid)] * (latents.shape[1] // (grid[0] * grid[1]))
    rotations = transformer.pos_embed([pictures], max_txt_seq_len=text.shape[1], device=latents.device)
    at, text_at = (_cosines_and_sines(each) for each in rotations)
    seen = torch.cat([mask, mask.new_ones(latents.shape[:2])], 1)
    # Rows start at multiples of 16, where attention's kernels want them; otherwise the mask is copied for every query.
    wide = -(-seen.shape[1] // 16) * 16
    barred = torch.zeros(len(seen), wide, device=seen.device, dtype=picture.dtype)[:, : seen.shape[1]]
    barred.masked_fill_(~seen, float("-inf"))
    heads = transformer.config.num_attention_heads
    bars = barred[:, None, None, :].expand(-1, heads, seen.shape[1], -1)
    for each in transformer.transformer_blocks:
        picture, text = block(each, picture, text, bars, time, at, text_at, clean)
    result: Tensor = transformer.proj_out(transformer.norm_out(picture, time[: len(latents)]))
    return result


def _is_rgb(transformer: QwenImageTransformer2DModel, sigma: Tensor) -> Tensor | None:
    """What `QwenImageLayeredPipeline` gives beside the share of noise: 0, since its pictures are RGBA."""
    return sigma.new_zeros(len(sigma), dtype=torch.long) if transformer.config.use_additional_t_cond else None


def _cosines_and_sines(rotation: Tensor) -> Rotation:
    """Complex rotations [tokens, head / 2] as two real tensors [tokens, 1, head / 2]."""
    cosines, sines = torch.view_as_real(rotation)[:, None].unbind(-1)
    return cosines.contiguous(), sines.contiguous()


@torch.no_grad()
def difference(denoiser: Denoiser, tokenizer: Qwen2Tokenizer, pictures: int = 1) -> float:
    """Return the largest difference between the forward passes here and the library's, in fp32, on random weights.

    Args:
        denoiser: the transformer, whose weights may be anything, and the text encoder.
        tokenizer: the prompts' tokenizer.
        pictures: how many go through the transformer in one row; of several, all but the first are conditions.
    """
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
    latents = torch.randn(3, pictures * 6 * 8, transformer.config.in_channels, device=device)
    sigma = torch.tensor([0.1, 0.5, 0.9], device=device)
    ours = velocity(transformer, latents, embeds, mask, sigma, (6, 8))
    theirs = transformer(
        hidden_states=latents,
        encoder_hidden_states=embeds,
        encoder_hidden_states_mask=mask,
        timestep=sigma,
        img_shapes=[[(1, 6, 8)] * pictures] * 3,
        additional_t_cond=_is_rgb(transformer, sigma),
        return_dict=False,
    )[0]
    in_text = ((embeds - expected) * mask[..., None]).abs().max()
    return float(torch.stack([in_text, (ours - theirs).abs().max()]).max())  # not a number where either isn't


@dataclass(frozen=True)
class Teacher:
    """A transformer that draws already: it tells the velocity of drawings, see `flow_loss`."""

    transformer: QwenImageTransformer2DModel
    block: Block = block_forward  # the blocks' forward pass


def flow_loss(
    transformer: QwenImageTransformer2DModel, batch: Batch, block: Block, teacher: Teacher | None = None
) -> Tensor:
    """Return the mean square error of the velocity at random shares of noise, each row's times its weight.

    Args:
        transformer: the model.
        batch: what it learns from.
        block: the blocks' forward pass.
        teacher: what it is to agree with where there is no source (Learning without Forgetting, arXiv 1606.09282).
    """
    device = batch.latents.device
    latents = batch.latents.float()
    noise = torch.randn_like(latents)
    sigma = _sigmas(len(latents), device)
    noisy = torch.lerp(latents, noise, sigma[:, None, None])
    shown = noisy if batch.source is None else torch.cat([noisy, batch.source.float()], 1)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        told = shown, batch.embeds.float(), batch.mask, sigma, batch.grid
        found = velocity(transformer, *told, block)
        wanted = noise - latents
        if teacher is not None and batch.source is None:
            with torch.no_grad():
                wanted = velocity(teacher.transformer, *told, teacher.block).float()
    losses = (found[:, : latents.shape[1]].float() - wanted).square().mean((1, 2))
    return (losses if batch.weights is None else losses * batch.weights).mean()


def _sigmas(rows: int, device: torch.device) -> Tensor:
    """Shares of noise [rows]: three of four logit-normal (Stable Diffusion 3, arXiv 2403.03206), the rest uniform."""
    normal = torch.sigmoid(torch.randn(rows, device=device) + 0.2)
    return torch.where(torch.rand(rows, device=device) < 0.25, torch.rand(rows, device=device), normal)


def one_by_one(loss: Callable[[Batch], Tensor], batch: Batch, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Leave a batch's gradients at the parameters, each kernel launched by itself; returns the batch's loss."""
    for each in parameters:
        each.grad = torch.zeros_like(each) if each.grad is None else each.grad.zero_()
    found = loss(batch)
    torch.autograd.backward(found)
    return found.detach()


class Recorded:
    """The forward and backward pass of one shape of batch as a CUDA graph, replayed in one launch."""

    def __init__(self, loss: Callable[[Batch], Tensor], batch: Batch, parameters: Sequence[nn.Parameter]) -> None:
        """Record a pass.

        Args:
            loss: of a batch.
            batch: of the shape that is recorded; others of this shape can follow.
            parameters: where each pass leaves its gradients.
        """
        self._batch = batch.copied()
        gradients = []
        for each in parameters:
            each.grad = torch.zeros_like(each) if each.grad is None else each.grad
            gradients.append(each.grad)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):  # what libraries set up at their first calls can't be recorded
                torch.autograd.backward(loss(self._batch))
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            torch._foreach_zero_(gradients)
            found = loss(self._batch)
            torch.autograd.backward(found)
            self._loss = found.detach()

    def learn(self, batch: Batch) -> Tensor:
        """Leave a batch's gradients at the parameters; returns its loss."""
        for own, new in zip(self._batch.tensors, batch.tensors, strict=True):
            own.copy_(new)
        self._graph.replay()
        return self._loss.clone()


def relative_difference(ones: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """Return how far tensors are from others together, as a share of the length of those.

    It is 0 where all are 0, as the gradients of what has not moved from its teacher yet.
    """
    apart = sum(float((one - other).square().sum()) for one, other in zip(ones, others, strict=True))
    return float((apart / max(sum(float(each.square().sum()) for each in others), 1e-30)) ** 0.5)


class Course:
    """A transformer in training: its optimizer, its clock, and the moving average that comes out."""

    def __init__(
        self,
        name: str,
        transformer: QwenImageTransformer2DModel,
        seconds: float,
        work: Path,
        deadline: float,
        peak_rate: float = PEAK_RATE,
        teacher: QwenImageTransformer2DModel | None = None,
    ) -> None:
        """Take up a transformer that lies where it shall be trained.

        Args:
            name: of the stage.
            transformer: with its first weights; those that need no gradient stay as they are.
            seconds: of training in all.
            work: where the state is kept.
            deadline: when to stop at the latest.
            peak_rate: the highest learning rate.
            teacher: what it is to agree with where it draws: see `flow_loss`.
        """
        self.transformer, self.peak_rate = transformer, peak_rate
        self.average = copy.deepcopy(transformer).requires_grad_(False).eval()
        parameters = [each for each in transformer.parameters() if each.requires_grad]
        self.cuda = parameters[0].device.type == "cuda"
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [each for each in parameters if each.dim() > 1], "weight_decay": 0.02},
                {"params": [each for each in parameters if each.dim() <= 1], "weight_decay": 0.0},
            ],
            peak_rate,
            betas=(0.9, 0.99),
            fused=self.cuda,
        )
        self.stage = Stage(
            name,
            seconds,
            work,
            deadline,
            transformer=transformer,
            average=self.average,
            optimizer=self.optimizer,
        )
        self._compiled: Block = torch.compile(block_forward, dynamic=False) if self.cuda else block_forward
        self._teacher = None if teacher is None else Teacher(teacher)
        self._compiled_teacher = self._teacher
        if self.cuda and teacher is not None:
            self._compiled_teacher = Teacher(teacher, torch.compile(_told_forward, dynamic=False))
        self._lengths: set[tuple[int, int]] = set()
        self._recorded: dict[tuple[int, ...], Recorded] = {}

    def compile(self, lengths: set[tuple[int, int]]) -> None:
        """Compile the blocks for these numbers of picture and text tokens, before training's clock starts."""
        self._lengths = lengths
        if not self.cuda:
            return
        began, device = time.monotonic(), next(self.transformer.parameters()).device
        for tokens, length in sorted(lengths):
            rows = self.rows(tokens, length)
            latents = torch.randn(rows, tokens, self.transformer.config.in_channels, device=device)
            mask = torch.ones(rows, length, dtype=torch.bool, device=device)
            told = torch.randn(rows, length, TEXT_WIDTH, dtype=torch.bfloat16, device=device)
            batch = Batch(latents, told, mask, (2, tokens // 2))
            torch.autograd.backward(self._compiled_loss(batch))
        self.transformer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        self.stage.say(f"compiled for {len(lengths)} lengths in {time.monotonic() - began:.0f} s")

    def rows(self, tokens: int, length: int) -> int:
        """Return how many rows of so many picture and text tokens make up a batch."""
        return BATCH_TOKENS // (tokens + length) // 16 * 16 if self.cuda else 4

    def learn(self, batch: Batch, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Leave a batch's gradients at the parameters; returns its loss.

        Batches of the shapes that were compiled are recorded as CUDA graphs and replayed: their kernels are so small
        that a GPU is busy two fifths of the time when each is launched by itself.
        """
        if not self.cuda or (batch.tokens, batch.mask.shape[1]) not in self._lengths:
            return one_by_one(self._plain_loss, batch, parameters)
        shape = (*batch.latents.shape, batch.tokens, *batch.grid, batch.mask.shape[1], len(batch.tensors))
        if shape not in self._recorded:
            self._recorded[shape] = self._record(batch, parameters)
        return self._recorded[shape].learn(batch)

    def _record(self, batch: Batch, parameters: Sequence[nn.Parameter]) -> Recorded:
        """Record one shape of batch, and say how far its gradients are from those of kernels launched one by one."""
        recorded, drawn = Recorded(self._compiled_loss, batch, parameters), torch.cuda.get_rng_state()
        recorded.learn(batch)
        replayed = [each.grad.clone() for each in parameters if each.grad is not None]
        torch.cuda.set_rng_state(drawn)
        one_by_one(self._compiled_loss, batch, parameters)
        launched = [each.grad for each in parameters if each.grad is not None]
        share = relative_difference(replayed, launched)
        self.stage.say(f"recorded {batch.tokens} and {batch.mask.shape[1]} tokens, gradients off by {share:.1e}")
        return recorded

    def _plain_loss(self, batch: Batch) -> Tensor:
        return flow_loss(self.transformer, batch, block_forward, self._teacher)

    def _compiled_loss(self, batch: Batch) -> Tensor:
        return flow_loss(self.transformer, batch, self._compiled, self._compiled_teacher)

    def run(
        self, draw: Callable[[], Batch], probe: Callable[[QwenImageTransformer2DModel], str]
    ) -> QwenImageTransformer2DModel:
        """Train to the end of the stage; returns the moving average.

        Args:
            draw: draws a batch.
            probe: says in a line how good the moving average is; asked every four minutes.
        """
        pairs = zip(self.transformer.parameters(), self.average.parameters(), strict=True)
        parameters, averaged = zip(*(pair for pair in pairs if pair[0].requires_grad), strict=True)
        self.transformer.train()
        probed = self.stage.elapsed
        for count in self.stage.iterations():
            for group in self.optimizer.param_groups:
                group["lr"] = self.stage.rate(self.peak_rate, warm=200)
            found = self.learn(draw(), parameters)
            norm = nn.utils.clip_grad_norm_(parameters, 1.0)
            self.optimizer.step()
            if count % EMA_EVERY == 0:
                kept = min(EMA**EMA_EVERY, (count + 1) / (count + 40))
                with torch.no_grad():
                    torch._foreach_lerp_(averaged, parameters, 1 - kept)
            self.stage.report(loss=found, norm=norm)
            if self.stage.elapsed - probed > PROBE_EVERY:
                self.stage.save()
                probed = self.stage.elapsed
                self.stage.say(f"{count} {probe(self.average)}")
        return self.average


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
        probe: says in a line how good a denoiser is; asked every four minutes.
    """
    device = drawings[0].pictures.device
    course = Course("transformer", new_transformer().to(device), seconds, work, deadline)
    course.compile(COMPILED)
    reader, split = text_encoder(), tokenizer()
    apart = difference(Denoiser(reader, course.transformer), split)
    course.stage.say(f"{apart:.1e} is the largest difference from the library's forward pass")
    taught = drawing_lessons(drawings, split, reader, vae)
    course.stage.say("encoded all drawings and captions")
    average = course.run(lambda: drawing_batch(course, taught), lambda average: probe(Denoiser(reader, average)))
    return Denoiser(reader, average)


def drawing_lessons(
    drawings: list[Drawings],
    tokenizer: Qwen2Tokenizer,
    reader: Qwen2_5_VLForConditionalGeneration,
    vae: Callable[[], AutoencoderKLQwenImage],
) -> list[DrawingLesson]:
    """Encode all drawings and the captions of those that aren't held out, a lesson for each shape."""
    prompts = [prepare(each.texts, torch.nonzero(~each.held_out).flatten(), tokenizer, reader) for each in drawings]
    coder = vae()
    return [
        DrawingLesson(each.width, each.height, latents_of(coder, each.pictures), told)
        for each, told in zip(drawings, prompts, strict=True)
    ]


def drawing_batch(course: Course, taught: list[DrawingLesson]) -> Batch:
    """Draw a batch of drawings of one shape with captions of about one length."""
    (lesson,) = random.choices(taught, [SHAPES[each.width, each.height] for each in taught])
    bucket = lesson.prompts.pick()
    tokens, length = lesson.latents.shape[1], LENGTHS[bucket]
    chosen, embeds, mask = lesson.prompts.draw(course.rows(tokens, length), bucket, EMPTIED)
    return Batch(lesson.latents[chosen], embeds, mask, lesson.grid)
