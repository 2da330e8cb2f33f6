"""The straight road from noise to pixels, as diffusers' own pipelines go it, for rows of one shape.

`QwenImagePipeline` makes one frame from noise. `QwenImageLayeredPipeline` makes several, the composite and its layers,
beside the latents of the source picture, which every step sees and none changes.
"""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, QwenImageLayeredPipeline, QwenImageTransformer2DModel
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.qwenimage.pipeline_qwenimage import calculate_shift, retrieve_timesteps
from PIL import Image

from models.components import Components
from models.prompt_embeds import PaddedEmbeds
from models.sampling import Pixels, Shape

CODED_PIXELS = 1024 * 1024  # en- or decoded at once: 4.1 GiB on a GPU, and more at once is no faster


def draw_noise(components: Components, shape: Shape, seeds: Sequence[int]) -> torch.Tensor:
    """Draw each row's noise from its own seed.

    Drawn in float32 on the CPU whatever the device and precision, so that a seed means the same noise everywhere;
    stock draws in the model's precision, which is the same thing in float32.

    Returns:
        packed latents [B, frames · H/16 · W/16, 64].
    """
    channels = components.transformer.config.in_channels // 4
    height, width = shape.height // components.vae_scale, shape.width // components.vae_scale
    rows = [
        torch.randn((1, shape.frames, channels, height, width), generator=torch.Generator("cpu").manual_seed(seed))
        for seed in seeds
    ]
    return _pack(torch.cat(rows)).to(components.device, components.dtype)


def encode(components: Components, shape: Shape, sources: Sequence[Pixels]) -> torch.Tensor:
    """Encode source pictures [H, W, 4] of any size, each resized to the shape's own, alpha and all.

    Pillow resizes colours weighted by their alpha, so that what is hidden doesn't bleed into what is seen.

    Returns:
        packed latents [B, H/16 · W/16, 64].

    Raises:
        ValueError: if a source isn't uint8 [H, W, 4].
    """
    vae = components.vae
    for source in sources:
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 4:
            raise ValueError(f"a source picture must be uint8 [H, W, 4], not {source.dtype} {list(source.shape)}")
    processor = VaeImageProcessor(vae_scale_factor=components.vae_scale * 2)
    mean, std = _latent_statistics(components)
    pictures = [Image.fromarray(source) for source in sources]
    encoded = [
        vae.encode(some.unsqueeze(2).to(components.device, components.dtype)).latent_dist.mode()
        for some in processor.preprocess(pictures, shape.height, shape.width).split(_coded_at_once(shape))
    ]
    scaled = (torch.cat(encoded) - mean) / std  # [B, 16, 1, H/8, W/8]
    return _pack(scaled.transpose(1, 2))


def denoise(
    components: Components,
    shape: Shape,
    latents: torch.Tensor,
    prompt: PaddedEmbeds,
    negative: PaddedEmbeds | None,
    source: torch.Tensor | None = None,
    steps: int | None = None,
) -> torch.Tensor:
    """Run the denoising loop.

    Guidance is stock's: two forwards, then, if the shape says so, the guided prediction scaled back to the norm of the
    conditional one.

    Args:
        latents: packed noise [B, frames · H/16 · W/16, 64].
        negative: None for no guidance.
        source: packed latents [B, H/16 · W/16, 64] of the pictures to decompose; None where there are none.
        steps: stop after so many of the shape's steps, to measure one.

    Returns:
        packed latents, like `latents`.
    """
    scheduler = copy.deepcopy(components.scheduler)
    timesteps = _timesteps(scheduler, shape.steps, latents, source)
    patch = components.vae_scale * 2
    pictures = shape.frames + (source is not None)
    grid = [[(1, shape.height // patch, shape.width // patch)] * pictures] * len(latents)
    for t in timesteps[:steps]:
        timestep = t.expand(len(latents)).to(latents.dtype) / 1000
        noise_pred = _predict(components.transformer, "cond", latents, source, timestep, prompt, grid)
        if negative is not None:
            negative_pred = _predict(components.transformer, "uncond", latents, source, timestep, negative, grid)
            noise_pred = guide(noise_pred, negative_pred, shape.guidance, normalize=shape.cfg_normalize)
        stepped: torch.Tensor = scheduler.step(noise_pred, t, latents, return_dict=False)[0]
        latents = stepped
    return latents


def guide(
    noise_pred: torch.Tensor, negative_pred: torch.Tensor, guidance: float, *, normalize: bool = True
) -> torch.Tensor:
    """Combine two predictions [B, N, C]; if normalised, each token keeps the norm of its conditional prediction."""
    guided = negative_pred + guidance * (noise_pred - negative_pred)
    if not normalize:
        return guided
    norm = torch.norm(noise_pred, dim=-1, keepdim=True)
    rescaled: torch.Tensor = guided * (norm / torch.norm(guided, dim=-1, keepdim=True))
    return rescaled


def decode(components: Components, shape: Shape, latents: torch.Tensor) -> list[Pixels | None]:
    """Decode packed latents, a megapixel at a time; a row is None where not all of it is finite.

    A batch of `QwenImageLayeredPipeline` is cut in the wrong places (diffusers 0.42.1: a row is taken to have as many
    decoded frames as latent ones, but the composite isn't decoded), so that rows but the first get each other's layers.

    Returns:
        of each row uint8 [frames, H, W, 3], or [layers, H, W, 4] from bottom to top, without the composite.
    """
    vae, config = components.vae, components.vae.config
    unpacked = QwenImageLayeredPipeline._unpack_latents(
        latents, shape.height, shape.width, shape.frames - 1, components.vae_scale
    )
    mean, std = _latent_statistics(components)
    scaled = unpacked / (1.0 / std) + mean  # [B, 16, frames, H/8, W/8]
    wanted = scaled[:, :, -shape.layers :] if shape.layers else scaled
    frames = wanted.transpose(1, 2).reshape(-1, config.z_dim, 1, *wanted.shape[-2:])
    pixels, finite = [], []
    for some in frames.split(_coded_at_once(shape)):
        decoded = vae.decode(some, return_dict=False)[0][:, :, 0].float()  # [b, 3 or 4, H, W]
        # Before the cast: a cast turns NaN into a black picture.
        finite.append(torch.isfinite(decoded).flatten(1).all(1) & torch.isfinite(some).flatten(1).all(1))
        levels = ((decoded * 0.5 + 0.5).clamp(0, 1) * 255).nan_to_num().round().to(torch.uint8)
        pixels.append(levels.permute(0, 2, 3, 1).cpu())
    rows = torch.cat(pixels).numpy().reshape(len(latents), -1, shape.height, shape.width, vae.config.input_channels)
    whole = torch.cat(finite).view(len(latents), -1).all(1).tolist()
    return [row if is_whole else None for row, is_whole in zip(rows, whole, strict=True)]


def _pack(latents: torch.Tensor) -> torch.Tensor:
    """[B, F, C, H, W] to tokens of two by two [B, F · H/2 · W/2, 4 · C]."""
    rows, frames, channels, height, width = latents.shape
    packed: torch.Tensor = QwenImageLayeredPipeline._pack_latents(
        latents.contiguous(), rows, channels, height, width, frames
    )
    return packed


def _latent_statistics(components: Components) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of the VAE's latents, each [1, C, 1, 1, 1]."""
    config = components.vae.config
    mean, std = (
        torch.tensor(values).view(1, config.z_dim, 1, 1, 1).to(components.device, components.dtype)
        for values in (config.latents_mean, config.latents_std)
    )
    return mean, std


def _coded_at_once(shape: Shape) -> int:
    return max(1, CODED_PIXELS // (shape.width * shape.height))


def _timesteps(
    scheduler: FlowMatchEulerDiscreteScheduler, steps: int, latents: torch.Tensor, source: torch.Tensor | None
) -> torch.Tensor:
    """Stock's schedule: evenly spaced sigmas, shifted by the number of image tokens, or of the source's."""
    config = scheduler.config
    if source is not None:
        mu = (source.shape[1] / 256) ** 0.5  # 256: the tokens of a 256² picture, as the layered pipeline has it
    else:
        mu = calculate_shift(
            latents.shape[1],
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )
    sigmas = np.linspace(1.0, 1 / steps, steps)
    timesteps: torch.Tensor
    timesteps, _ = retrieve_timesteps(scheduler, steps, latents.device, sigmas=sigmas, mu=mu)
    scheduler.set_begin_index(0)
    return timesteps


def _predict(
    transformer: QwenImageTransformer2DModel,
    branch: str,
    latents: torch.Tensor,
    source: torch.Tensor | None,
    timestep: torch.Tensor,
    text: PaddedEmbeds,
    grid: list[list[tuple[int, int, int]]],
) -> torch.Tensor:
    # The layered pipeline's `is_rgb`, which is 0 for every row: its pictures are RGBA.
    is_rgb = timestep.new_zeros(len(latents), dtype=torch.long) if transformer.config.use_additional_t_cond else None
    with transformer.cache_context(branch):
        noise_pred: torch.Tensor = transformer(
            hidden_states=latents if source is None else torch.cat([latents, source], dim=1),
            timestep=timestep,
            encoder_hidden_states=text.embeds,
            encoder_hidden_states_mask=text.mask,
            img_shapes=grid,
            additional_t_cond=is_rgb,
            return_dict=False,
        )[0]
    return noise_pred[:, : latents.shape[1]]
