"""What a ControlNet makes of control pictures: what the transformer adds to its hidden states, block by block."""

import torch

from models.loading.components import ControlNet
from models.transformer.padded_embeds import PaddedEmbeds
from models.transformer.predictor import Grid


def control_samples(
    controlnet: ControlNet,
    control: torch.Tensor,
    latents: torch.Tensor,
    timestep: torch.Tensor,
    prompt: PaddedEmbeds,
    grid: Grid,
) -> list[torch.Tensor]:
    """Return what the transformer adds after its blocks in one step, whichever prompt it reads.

    As `QwenImageControlNetPipeline` has it (diffusers 0.42.1): the ControlNet reads the prompt alone, and its samples
    serve the forward of the negative prompt, too.

    Args:
        control: packed latents [B, H/16 · W/16, 64] of the control pictures.
        latents: packed latents [B, H/16 · W/16, 64], as noisy as they are at `timestep`.
        timestep: [B], from 1 to 0.
        grid: of every row, see `models.transformer.predictor`.

    Returns:
        hidden states [B, H/16 · W/16, D], one for each block of the ControlNet, of which each serves as many of the
        transformer's blocks.
    """
    samples: list[torch.Tensor] = controlnet.model(
        hidden_states=latents,
        controlnet_cond=control,
        conditioning_scale=controlnet.scale,
        timestep=timestep,
        encoder_hidden_states=prompt.embeds,
        encoder_hidden_states_mask=prompt.mask,
        img_shapes=[list(grid)] * len(latents),
        return_dict=False,
    )
    return samples
