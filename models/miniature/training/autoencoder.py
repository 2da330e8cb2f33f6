"""Training the miniature's VAE: clean edges, from latents that needn't be exact.

The VAE trains in the reduced form of `models.architectures.qwen_image.single_frame`, since a picture uses no more of
it. First a shallow one learns to draw edges, then a deep one starts from it.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from diffusers import AutoencoderKLQwenImage
from torch import Tensor, nn
from torch.nn import functional

from models.architectures.qwen_image.single_frame import single_frame
from models.miniature.datasets.drawings import Drawings, signed
from models.miniature.training.judge import Judge
from models.miniature.training.stage import Stage

PEAK_RATE = 2e-3
CROP = 128  # pixels a side, in the first part of training: smaller pictures, more iterations
CROPPED = 0.3  # of the stage
BATCH_PIXELS = 96 * CROP * CROP
KL = 2e-4
LATENT_NOISE = 0.15  # of the latents' deviation, so that the decoder forgives the transformer's errors


class Lessons(Protocol):
    """What a VAE learns from."""

    def batch(self, cropped: bool) -> Tensor:
        """Some pictures of one shape, floats -1 to 1 [B, C, H, W]: small crops, or whole pictures."""

    def losses(self, made: Tensor, meant: Tensor) -> dict[str, tuple[float, Tensor]]:
        """Return how far decoded pictures are from what they were, by several measures, each with its weight."""

    def samples(self) -> Tensor:
        """Pictures for the latents' mean and deviation, uint8 [N, H, W, C]."""

    def figures(self, vae: AutoencoderKLQwenImage) -> str:
        """Return what is said of a trained VAE, in a line."""


@dataclass(frozen=True)
class PictureLessons:
    """Whole drawings, and how the judge sees them."""

    drawings: list[Drawings]
    judge: Judge

    def batch(self, cropped: bool) -> Tensor:
        """Crops of drawings of any shape, or whole ones of about 256 pixels a side."""
        drawings = self.drawings
        if not cropped:
            drawings = [each for each in drawings if 256 <= min(each.height, each.width) < 384] or drawings
        (source,) = random.choices(drawings, [len(each) for each in drawings])
        chosen, rows, columns = cut(len(source), source.height, source.width, cropped, source.pictures.device)
        return signed(source.pictures[chosen][:, rows, columns])

    def losses(self, made: Tensor, meant: Tensor) -> dict[str, tuple[float, Tensor]]:
        """Return the losses of pixels, of edges, and of looks."""
        return {
            "l1": (1.0, (made - meant).abs().mean()),
            "mse": (2.0, (made - meant).square().mean()),
            "edges": (0.7, edge_loss(made, meant)),
            "looks": (0.15, look_loss(self.judge, made, meant)),
        }

    def samples(self) -> Tensor:
        """Up to 8192 drawings of the commonest shape."""
        return self.drawings[0].pictures[:8192]

    def figures(self, vae: AutoencoderKLQwenImage) -> str:
        """Return the signal-to-noise ratio of 256 drawings."""
        return f"on 256 drawings: {fidelity(vae, self.drawings[0].pictures[-256:]):.1f} dB"


def train_vae(
    name: str,
    vae: AutoencoderKLQwenImage,
    lessons: Lessons,
    seconds: float,
    work: Path,
    deadline: float,
    device: torch.device,
) -> AutoencoderKLQwenImage:
    """Train `vae` on `lessons`; returns it reduced to single frames, with its latents' mean and deviation set."""
    vae = single_frame(vae).to(device)
    trained = list(vae.parameters())
    optimizer = torch.optim.AdamW(trained, PEAK_RATE, betas=(0.9, 0.99), weight_decay=1e-4, fused=device.type == "cuda")
    stage = Stage(name, seconds, work, deadline, vae=vae, optimizer=optimizer)
    vae.train()
    for _ in stage.iterations():
        pictures = lessons.batch(stage.progress < CROPPED).contiguous(memory_format=torch.channels_last)
        optimizer.param_groups[0]["lr"] = stage.rate(PEAK_RATE)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            moments = vae.quant_conv(vae.encoder(pictures.unsqueeze(2)))
            mean, log_variance = moments.float().chunk(2, 1)
            log_variance = log_variance.clamp(-12, 6)
            spread = mean.detach().std((0, 2, 3, 4), keepdim=True)
            level = LATENT_NOISE * torch.randn(len(mean), 1, 1, 1, 1, device=device).abs().clamp(max=2.5)
            deviation = torch.exp(0.5 * log_variance) + level * spread
            latents = (mean + deviation * torch.randn_like(mean)).to(moments.dtype)
            again = vae.decoder(vae.post_quant_conv(latents)).float()[:, :, 0]
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        losses = lessons.losses(again, pictures) | {"kl": (KL, kl)}
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(torch.stack([weight * loss for weight, loss in losses.values()]).sum())
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        stage.report(**{key: loss for key, (_, loss) in losses.items()})
    vae.eval()
    if stage.done:
        mean, deviation = _spread(vae, lessons.samples())
        vae.register_to_config(latents_mean=mean, latents_std=deviation)
        stage.say(lessons.figures(vae))
    return vae


def cut(count: int, height: int, width: int, cropped: bool, device: torch.device) -> tuple[Tensor, slice, slice]:
    """Return a batch out of `count` pictures of one shape: which ones, and the rows and columns of them, a
    crop or all.
    """
    tall, wide = (CROP, CROP) if cropped else (height, width)
    rows = max(1, BATCH_PIXELS // (tall * wide)) if device.type == "cuda" else 2
    top, left = random.randrange(0, height - tall + 1), random.randrange(0, width - wide + 1)
    return torch.randint(count, (rows,), device=device), slice(top, top + tall), slice(left, left + wide)


def edge_loss(made: Tensor, meant: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbouring pixels' differences, at three scales: [B, C, H, W] to a
    number.
    """
    losses = []
    for _ in range(3):
        for axis in (2, 3):
            losses.append((made.diff(dim=axis) - meant.diff(dim=axis)).abs().mean())
        made, meant = functional.avg_pool2d(made, 2), functional.avg_pool2d(meant, 2)
    return torch.stack(losses).mean()


def look_loss(judge: Judge, made: Tensor, meant: Tensor) -> Tensor:
    """Return how differently the judge's layers see two batches (after LPIPS, arXiv 1801.03924): [B, 3, H, W] to a
    number.
    """
    losses = []
    with torch.no_grad():
        targets = list(_seen(judge, meant))
    for seen, target in zip(_seen(judge, made), targets, strict=True):
        losses.append(
            (functional.normalize(seen.float(), dim=1) - functional.normalize(target.float(), dim=1))
            .square()
            .sum(1)
            .mean()
        )
    return torch.stack(losses).mean()


def _seen(judge: Judge, pictures: Tensor) -> Iterator[Tensor]:
    device = pictures.device.type
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        for layer in judge.features[:12]:
            pictures = layer(pictures)
            if isinstance(layer, nn.ReLU):
                yield pictures


@torch.no_grad()
def encoded(vae: AutoencoderKLQwenImage, pictures: Tensor) -> Tensor:
    """Latents of uint8 pictures [B, H, W, C], as the VAE gives them: float [B, C, h, w]."""
    frames = signed(pictures).contiguous(memory_format=torch.channels_last).unsqueeze(2)
    with torch.autocast(frames.device.type, torch.bfloat16, enabled=frames.device.type == "cuda"):
        latents: Tensor = vae.encode(frames).latent_dist.mode()
    return latents[:, :, 0].float()


@torch.no_grad()
def fidelity(vae: AutoencoderKLQwenImage, pictures: Tensor) -> float:
    """Mean signal-to-noise ratio of uint8 pictures [N, H, W, 3] after encoding and decoding, in decibels."""
    ratios = []
    for chunk in torch.split(pictures, 32):
        meant = signed(chunk)
        made = vae.decode(encoded(vae, chunk).unsqueeze(2)).sample[:, :, 0]
        ratios.append(10 * torch.log10(4 / (made - meant).square().mean((1, 2, 3))))
    return float(torch.cat(ratios).mean())


def _spread(vae: AutoencoderKLQwenImage, pictures: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of every latent channel, over uint8 pictures [N, H, W, C]."""
    latents = torch.cat([encoded(vae, chunk) for chunk in torch.split(pictures, 64)])
    flat = latents.transpose(0, 1).flatten(1)
    return [round(each, 5) for each in flat.mean(1).tolist()], [round(each, 5) for each in flat.std(1).tolist()]
