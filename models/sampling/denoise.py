"""The straight road from noise to latents of pictures, as diffusers' own pipelines go it, for rows of one shape.

`QwenImagePipeline` makes one frame from noise. `QwenImageLayeredPipeline` makes several, the composite and its layers,
beside the latents of the source picture: a condition picture, which every step sees and none changes.
"""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.qwenimage.pipeline_qwenimage import calculate_shift, retrieve_timesteps

from models.loading.components import Components
from models.requests import Shape
from models.sampling.control import control_samples
from models.sampling.latents import pack, token_size
from models.transformer.padded_embeds import pad
from models.transformer.predictor import Pictures, Predictor


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
    return pack(torch.cat(rows)).to(components.device, components.dtype)


def denoise(
    components: Components,
    predictor: Predictor,
    shape: Shape,
    latents: torch.Tensor,
    texts: Sequence[Sequence[torch.Tensor]],
    pictures: Pictures | None = None,
    control: torch.Tensor | None = None,
    steps: int | None = None,
) -> torch.Tensor:
    """Run the denoising loop.

    Guidance is stock's: two predictions, then, if the shape says so, the guided one scaled back to the norm of the
    conditional one.

    Args:
        latents: packed noise [B, frames · H/16 · W/16, 64].
        texts: of each row the embeddings [T, D] of its prompt and, for guidance, of its negative prompt.
        pictures: of each row the condition pictures; None where there are none.
        control: packed latents [B, H/16 · W/16, 64] of the pictures to draw after; None where there is no ControlNet.
        steps: stop after so many of the shape's steps, to measure one.

    Returns:
        packed latents, like `latents`.
    """
    scheduler = copy.deepcopy(components.scheduler)
    timesteps = _timesteps(scheduler, shape.steps, latents, pictures)
    grid = [token_size(components, shape.width, shape.height)] * shape.frames
    levels = timesteps.to(latents.dtype) / 1000
    conditions = predictor.condition(texts, grid, levels, pictures)
    prompt = pad([row[0] for row in texts], latents.device) if control is not None else None
    for step, t in enumerate(timesteps[:steps]):
        samples = None
        if components.controlnet is not None and control is not None and prompt is not None:
            samples = control_samples(
                components.controlnet, control, latents, levels[step].expand(len(latents)), prompt, grid
            )
        noise_pred, *negative_preds = conditions.predict(step, latents, samples)
        for negative_pred in negative_preds:
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


def _timesteps(
    scheduler: FlowMatchEulerDiscreteScheduler, steps: int, latents: torch.Tensor, pictures: Pictures | None
) -> torch.Tensor:
    """Stock's schedule: evenly spaced sigmas, shifted by the number of image tokens, or of the source's."""
    config = scheduler.config
    if pictures:
        mu = (
            len(pictures[0][0].latents) / 256
        ) ** 0.5  # 256: the tokens of a 256² picture, as the layered pipeline has it
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
