"""The straight road from noise to pixels, as `QwenImagePipeline` goes it, for rows of one shape."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, QwenImagePipeline, QwenImageTransformer2DModel
from diffusers.pipelines.qwenimage.pipeline_qwenimage import calculate_shift, retrieve_timesteps

from models.components import Components
from models.prompt_embeds import PaddedEmbeds
from models.sampling import Shape

DECODE_PIXELS = 1024 * 1024  # decoded at once: 4.1 GiB on a GPU, and more at once is no faster


def draw_noise(components: Components, shape: Shape, seeds: Sequence[int]) -> torch.Tensor:
    """Draw each row's noise from its own seed.

    Drawn in float32 on the CPU whatever the device and precision, so that a seed means the same noise everywhere;
    stock draws in the model's precision, which is the same thing in float32.

    Returns:
        packed latents [B, H/16 · W/16, 64].
    """
    channels = components.transformer.config.in_channels // 4
    height, width = shape.height // components.vae_scale, shape.width // components.vae_scale
    rows = [
        torch.randn((1, 1, channels, height, width), generator=torch.Generator("cpu").manual_seed(seed))
        for seed in seeds
    ]
    noise: torch.Tensor = QwenImagePipeline._pack_latents(torch.cat(rows), len(rows), channels, height, width)
    return noise.to(components.device, components.dtype)


def denoise(
    components: Components,
    shape: Shape,
    latents: torch.Tensor,
    prompt: PaddedEmbeds,
    negative: PaddedEmbeds | None,
    steps: int | None = None,
) -> torch.Tensor:
    """Run the denoising loop.

    Guidance is stock's: two forwards, then the guided prediction scaled back to the norm of the conditional one.

    Args:
        latents: packed noise [B, H/16 · W/16, 64].
        negative: None for no guidance.
        steps: stop after so many of the shape's steps, to measure one.

    Returns:
        packed latents, like `latents`.
    """
    scheduler = copy.deepcopy(components.scheduler)
    timesteps = _timesteps(scheduler, shape.steps, latents.shape[1], latents.device)
    patch = components.vae_scale * 2
    grid = [[(1, shape.height // patch, shape.width // patch)]] * len(latents)
    for t in timesteps[:steps]:
        timestep = t.expand(len(latents)).to(latents.dtype) / 1000
        noise_pred = _predict(components.transformer, "cond", latents, timestep, prompt, grid)
        if negative is not None:
            negative_pred = _predict(components.transformer, "uncond", latents, timestep, negative, grid)
            noise_pred = guide(noise_pred, negative_pred, shape.guidance)
        stepped: torch.Tensor = scheduler.step(noise_pred, t, latents, return_dict=False)[0]
        latents = stepped
    return latents


def guide(noise_pred: torch.Tensor, negative_pred: torch.Tensor, guidance: float) -> torch.Tensor:
    """Combine two predictions [B, N, C]; each token keeps the norm of its conditional prediction."""
    guided = negative_pred + guidance * (noise_pred - negative_pred)
    norm = torch.norm(noise_pred, dim=-1, keepdim=True)
    rescaled: torch.Tensor = guided * (norm / torch.norm(guided, dim=-1, keepdim=True))
    return rescaled


def decode(components: Components, shape: Shape, latents: torch.Tensor) -> list[np.ndarray | None]:
    """Decode packed latents to pixels uint8 [H, W, 3], a megapixel at a time; None where they aren't finite."""
    vae, config = components.vae, components.vae.config
    unpacked = QwenImagePipeline._unpack_latents(latents, shape.height, shape.width, components.vae_scale)
    mean, std = (
        torch.tensor(values).view(1, config.z_dim, 1, 1, 1).to(latents)
        for values in (config.latents_mean, config.latents_std)
    )
    scaled = unpacked / (1.0 / std) + mean  # [B, 16, 1, H/8, W/8]
    pictures: list[np.ndarray | None] = []
    for some in scaled.split(max(1, DECODE_PIXELS // (shape.width * shape.height))):
        decoded = vae.decode(some, return_dict=False)[0][:, :, 0].float()  # [b, 3, H, W]
        # Before the cast: a cast turns NaN into a black picture.
        finite = (torch.isfinite(decoded).flatten(1).all(1) & torch.isfinite(some).flatten(1).all(1)).tolist()
        pixels = ((decoded * 0.5 + 0.5).clamp(0, 1) * 255).nan_to_num().round().to(torch.uint8)
        pictures += [
            picture if whole else None
            for picture, whole in zip(pixels.permute(0, 2, 3, 1).cpu().numpy(), finite, strict=True)
        ]
    return pictures


def _timesteps(
    scheduler: FlowMatchEulerDiscreteScheduler, steps: int, tokens: int, device: torch.device
) -> torch.Tensor:
    """Stock's schedule: evenly spaced sigmas, shifted by the number of image tokens."""
    config = scheduler.config
    mu = calculate_shift(
        tokens,
        config.get("base_image_seq_len", 256),
        config.get("max_image_seq_len", 4096),
        config.get("base_shift", 0.5),
        config.get("max_shift", 1.15),
    )
    timesteps: torch.Tensor
    timesteps, _ = retrieve_timesteps(scheduler, steps, device, sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
    scheduler.set_begin_index(0)
    return timesteps


def _predict(
    transformer: QwenImageTransformer2DModel,
    branch: str,
    latents: torch.Tensor,
    timestep: torch.Tensor,
    text: PaddedEmbeds,
    grid: list[list[tuple[int, int, int]]],
) -> torch.Tensor:
    with transformer.cache_context(branch):
        noise_pred: torch.Tensor = transformer(
            hidden_states=latents,
            timestep=timestep,
            encoder_hidden_states=text.embeds,
            encoder_hidden_states_mask=text.mask,
            img_shapes=grid,
            return_dict=False,
        )[0]
    return noise_pred
