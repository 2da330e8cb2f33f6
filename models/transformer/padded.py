"""diffusers' own forward as a predictor: one branch of guidance after the other, unlike lengths padded and masked.

The simple road; `models.transformer.packed` is the fast one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import QwenImageTransformer2DModel
from torch import nn

from models.transformer.padded_embeds import PaddedEmbeds, pad
from models.transformer.predictor import Conditions, Grid, Predictor

BRANCHES = ("cond", "uncond")  # as diffusers names them


class Padded(Predictor):
    """A transformer as diffusers runs it."""

    def __init__(self, transformer: QwenImageTransformer2DModel) -> None:
        """Nothing is changed about the transformer."""
        self.transformer = transformer

    def condition(
        self, texts: Sequence[Sequence[torch.Tensor]], grid: Grid, timesteps: torch.Tensor
    ) -> PaddedConditions:
        """See `Predictor`."""
        branches = [pad(branch, timesteps.device) for branch in zip(*texts, strict=True)]
        return PaddedConditions(self.transformer, branches, grid, timesteps)

    def retreat(self) -> bool:
        """See `Predictor`: what stays here stays."""
        return False

    def come_back(self) -> None:
        """See `Predictor`."""

    def repeat(self, blocks: int) -> None:
        """See `Predictor`."""
        self.transformer.transformer_blocks = nn.ModuleList([self.transformer.transformer_blocks[0]] * blocks)


class PaddedConditions(Conditions):
    """A batch of rows, ready for its steps."""

    def __init__(
        self,
        transformer: QwenImageTransformer2DModel,
        branches: Sequence[PaddedEmbeds],
        grid: Grid,
        timesteps: torch.Tensor,
    ) -> None:
        """See `Padded.condition`."""
        self.transformer, self.branches, self.grid, self.timesteps = transformer, branches, grid, timesteps

    def predict(self, step: int, latents: torch.Tensor, control: Sequence[torch.Tensor] | None = None) -> torch.Tensor:
        """See `Conditions`."""
        rows = len(latents)
        timestep = self.timesteps[step].expand(rows)
        # The layered pipeline's `is_rgb`, which is 0 for every row: its pictures are RGBA.
        is_rgb = timestep.new_zeros(rows, dtype=torch.long) if self.transformer.config.use_additional_t_cond else None
        predicted = []
        for name, text in zip(BRANCHES, self.branches, strict=False):
            with self.transformer.cache_context(name):
                predicted += self.transformer(
                    hidden_states=latents,
                    timestep=timestep,
                    encoder_hidden_states=text.embeds,
                    encoder_hidden_states_mask=text.mask,
                    img_shapes=[list(self.grid)] * rows,
                    additional_t_cond=is_rgb,
                    controlnet_block_samples=control,
                    return_dict=False,
                )
        return torch.stack(predicted)
