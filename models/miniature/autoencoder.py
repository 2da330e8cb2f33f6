"""Training the miniature's VAE: clean edges, from latents that needn't be exact.

The VAE trains in the reduced form of `models.single_frame`, since a picture uses no more of it. First a shallow one
learns to draw edges, then a deep one starts from it.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import AutoencoderKLQwenImage
from diffusers.models.autoencoders.autoencoder_kl_qwenimage import QwenImageRMS_norm
from torch import Tensor, nn
from torch.nn import functional

from models.miniature.architecture import LATENT_CHANNELS
from models.miniature.drawings import Drawings, signed
from models.miniature.judge import Judge
from models.miniature.stage import Stage
from models.single_frame import single_frame

PEAK_RATE = 2e-3
CROP = 128  # pixels a side, in the first part of training: smaller pictures, more iterations
CROPPED = 0.3  # of the stage
BATCH_PIXELS = 96 * CROP * CROP
KL = 2e-4
LATENT_NOISE = 0.15  # of the latents' deviation, so that the decoder forgives the transformer's errors


def train_vae(
    name: str,
    vae: AutoencoderKLQwenImage,
    drawings: list[Drawings],
    judge: Judge,
    seconds: float,
    work: Path,
    deadline: float,
) -> AutoencoderKLQwenImage:
    """Train `vae` on all drawings; returns it reduced to single frames, with its latents' mean and deviation set."""
    device = drawings[0].pictures.device
    vae = single_frame(vae).to(device)
    trained = list(vae.parameters())
    optimizer = torch.optim.AdamW(trained, PEAK_RATE, betas=(0.9, 0.99), weight_decay=1e-4, fused=device.type == "cuda")
    stage = Stage(name, seconds, work, deadline, vae=vae, optimizer=optimizer)
    vae.train()
    with fused_norms():
        for _ in stage.iterations():
            pictures = _batch(drawings, stage.progress < CROPPED, device)
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
            flat, square = (again - pictures).abs().mean(), (again - pictures).square().mean()
            edges, looks = edge_loss(again, pictures), look_loss(judge, again, pictures)
            loss = flat + 2 * square + 0.7 * edges + 0.15 * looks + KL * kl
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            stage.report(l1=flat, mse=square, edges=edges, looks=looks, kl=kl)
    vae.eval()
    if stage.done:
        mean, deviation = _spread(vae, drawings)
        vae.register_to_config(latents_mean=mean, latents_std=deviation)
        stage.say(f"on 256 drawings: {fidelity(vae, drawings[0].pictures[-256:]):.1f} dB")
    return vae


def edge_loss(made: Tensor, meant: Tensor) -> Tensor:
    """The mean absolute difference of neighbouring pixels' differences, at three scales: [B, 3, H, W] to a number."""
    losses = []
    for _ in range(3):
        for axis in (2, 3):
            losses.append((made.diff(dim=axis) - meant.diff(dim=axis)).abs().mean())
        made, meant = functional.avg_pool2d(made, 2), functional.avg_pool2d(meant, 2)
    return torch.stack(losses).mean()


def look_loss(judge: Judge, made: Tensor, meant: Tensor) -> Tensor:
    """How differently the judge's layers see two batches (after LPIPS, arXiv 1801.03924): [B, 3, H, W] to a number."""
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


def _batch(drawings: list[Drawings], cropped: bool, device: torch.device) -> Tensor:
    """Some pictures of one shape, [B, 3, H, W]: crops of any, or whole ones of about 256 pixels a side."""
    if not cropped:
        drawings = [each for each in drawings if 256 <= min(each.height, each.width) < 384] or drawings
    (source,) = random.choices(drawings, [len(each) for each in drawings])
    height, width = (CROP, CROP) if cropped else (source.height, source.width)
    rows = max(1, BATCH_PIXELS // (height * width)) if device.type == "cuda" else 2
    top, left = random.randrange(0, source.height - height + 1), random.randrange(0, source.width - width + 1)
    chosen = source.pictures[torch.randint(len(source), (rows,), device=device)]
    whole = signed(chosen[:, top : top + height, left : left + width])
    return whole.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def encoded(vae: AutoencoderKLQwenImage, pictures: Tensor) -> Tensor:
    """Latents of uint8 pictures [B, H, W, 3], as the VAE gives them: float [B, C, h, w]."""
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


def _spread(vae: AutoencoderKLQwenImage, drawings: list[Drawings]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of every latent channel, over up to 8192 pictures of the commonest shape."""
    source = drawings[0].pictures[:8192]
    latents = torch.cat([encoded(vae, chunk) for chunk in torch.split(source, 64)])
    flat = latents.transpose(0, 1).reshape(LATENT_CHANNELS, -1)
    return [round(each, 5) for each in flat.mean(1).tolist()], [round(each, 5) for each in flat.std(1).tolist()]


@contextmanager
def fused_norms() -> Iterator[None]:
    """Let the VAE's norms run as one kernel: the same values up to rounding, a third faster to train."""

    def forward(self: QwenImageRMS_norm, x: Tensor) -> Tensor:
        last = x.movedim(1, -1)
        with torch.autocast(x.device.type, enabled=False):
            normed = functional.rms_norm(last, (last.shape[-1],), self.gamma.reshape(-1).to(last.dtype), 1e-6)
        return normed.movedim(-1, 1)

    original = QwenImageRMS_norm.forward
    QwenImageRMS_norm.forward = forward
    try:
        yield
    finally:
        QwenImageRMS_norm.forward = original
