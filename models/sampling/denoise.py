"""The straight road from noise to latents of pictures, as diffusers' own pipelines go it, for rows of one shape.

From noise comes one frame, or several: a composite and its layers. Beside it lie the latents of condition pictures,
such as the one that is taken apart, which every step sees and none changes. Where pipelines differ, their rules say how
(`models.architectures.model_family`).
"""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from models.loading.components import Components
from models.requests import Shape
from models.sampling.control import control_samples
from models.sampling.latents import token_size
from models.transformer.padded_embeds import pad
from models.transformer.predictor import Pictures, Predictor, tokens_of


def draw_noise(components: Components, shape: Shape, seeds: Sequence[int]) -> torch.Tensor:
    """Draw each row's noise from its own seed.

    Drawn in float32 on the CPU whatever the device and precision, so that a seed means the same noise everywhere;
    stock draws in the model's precision, which is the same thing in float32.

    Returns:
        packed latents [B, frames · H/16 · W/16, 64].
    """
    channels = components.latent_channels
    height, width = shape.height // components.vae_scale, shape.width // components.vae_scale
    rows = [
        torch.randn((1, shape.frames, channels, height, width), generator=torch.Generator("cpu").manual_seed(seed))
        for seed in seeds
    ]
    return components.architecture.pack(torch.cat(rows)).to(components.device, components.dtype)


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
    frame = token_size(components, shape.width, shape.height)
    grid = [frame] * shape.frames
    shift = components.rules.shift(scheduler.config, tokens_of(grid), tokens_of([frame]))
    timesteps = _timesteps(scheduler, shape.steps, shift, latents.device)
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
            noise_pred = components.architecture.guide(
                noise_pred, negative_pred, shape.guidance, normalize=shape.cfg_normalize
            )
        stepped: torch.Tensor = scheduler.step(noise_pred, t, latents, return_dict=False)[0]
        latents = stepped
    return latents


def _timesteps(
    scheduler: FlowMatchEulerDiscreteScheduler, steps: int, shift: float, device: torch.device
) -> torch.Tensor:
    """Stock's schedule: evenly spaced sigmas, shifted as the pipeline's rules say."""
    sigmas = np.linspace(1.0, 1 / steps, steps)
    scheduler.set_timesteps(sigmas=sigmas, device=device, mu=shift)
    scheduler.set_begin_index(0)
    timesteps: torch.Tensor = scheduler.timesteps
    return timesteps
