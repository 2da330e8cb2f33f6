"""diffusers' own forward as a predictor: one branch of guidance after the other, unlike lengths padded and masked.

Rows with other condition pictures go through it apart: it takes one grid for a batch.

The simple road; `models.architectures.qwen_image.varlen` is the fast one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from diffusers import QwenImageTransformer2DModel
from torch import nn

from models.transformer.padded_embeds import PaddedEmbeds, pad
from models.transformer.predictor import Conditions, Grid, Pictures, Predictor, Size, grid_of, tokens_of

BRANCHES = ("cond", "uncond")  # as diffusers names them


class Padded(Predictor):
    """A transformer as diffusers runs it."""

    def __init__(self, transformer: QwenImageTransformer2DModel) -> None:
        """Nothing is changed about the transformer."""
        self.transformer = transformer

    def condition(
        self,
        texts: Sequence[Sequence[torch.Tensor]],
        grid: Grid,
        timesteps: torch.Tensor,
        pictures: Pictures | None = None,
    ) -> PaddedConditions:
        """See `Predictor`."""
        alike: dict[tuple[Size, ...], list[int]] = defaultdict(list)
        for row, of_row in enumerate(pictures or [()] * len(texts)):
            alike[grid_of(grid, of_row)].append(row)
        parts = [
            _Part(
                rows,
                list(sizes),
                [pad(branch, timesteps.device) for branch in zip(*(texts[row] for row in rows), strict=True)],
                _stacked([pictures[row] for row in rows]) if pictures else None,
            )
            for sizes, rows in alike.items()
        ]
        return PaddedConditions(self.transformer, parts, tokens_of(grid), timesteps)

    @property
    def schedule_bytes(self) -> int:
        """See `Predictor`: nothing is kept."""
        return 0

    @property
    def period(self) -> int:
        """See `Predictor`: every step is like any other."""
        return 1

    def kept_bytes(self, condition_tokens: int, branches: int) -> int:  # noqa: ARG002 as the others
        """See `Predictor`: nothing."""
        return 0

    def blocks_on_device(self) -> Iterator[torch.Tensor]:
        """See `Predictor`: its blocks are the transformer's own."""
        return iter(())

    def offload(self) -> bool:
        """See `Predictor`: what stays here stays."""
        return False

    def reload(self) -> None:
        """See `Predictor`."""

    def repeat(self, blocks: int) -> None:
        """See `Predictor`."""
        self.transformer.transformer_blocks = nn.ModuleList([self.transformer.transformer_blocks[0]] * blocks)


@dataclass(frozen=True, eq=False)
class _Part:
    """Rows of a batch that share their grid."""

    rows: list[int]
    grid: list[Size]
    branches: list[PaddedEmbeds]
    pictures: torch.Tensor | None  # packed latents of their condition pictures [rows, M, C]


class PaddedConditions(Conditions):
    """A batch of rows, ready for its steps."""

    def __init__(
        self, transformer: QwenImageTransformer2DModel, parts: Sequence[_Part], made: int, timesteps: torch.Tensor
    ) -> None:
        """See `Padded.condition`; so many image tokens of each row are of what is made."""
        self.transformer, self.parts, self.made, self.timesteps = transformer, parts, made, timesteps

    def predict(self, step: int, latents: torch.Tensor, control: Sequence[torch.Tensor] | None = None) -> torch.Tensor:
        """See `Conditions`."""
        if len(self.parts) == 1:
            return self._predict(step, self.parts[0], latents, control)
        predicted = [
            self._predict(step, part, latents[part.rows], [each[part.rows] for each in control] if control else None)
            for part in self.parts
        ]
        order = torch.tensor([row for part in self.parts for row in part.rows], device=latents.device)
        return torch.cat(predicted, dim=1)[:, order.argsort()]

    def _predict(
        self, step: int, part: _Part, latents: torch.Tensor, control: Sequence[torch.Tensor] | None
    ) -> torch.Tensor:
        rows = len(latents)
        seen = latents if part.pictures is None else torch.cat([latents, part.pictures], dim=1)
        timestep = self.timesteps[step].expand(rows)
        # The layered pipeline's `is_rgb`, which is 0 for every row: its pictures are RGBA.
        is_rgb = timestep.new_zeros(rows, dtype=torch.long) if self.transformer.config.use_additional_t_cond else None
        predicted = []
        for name, text in zip(BRANCHES, part.branches, strict=False):
            with self.transformer.cache_context(name):
                predicted += self.transformer(
                    hidden_states=seen,
                    timestep=timestep,
                    encoder_hidden_states=text.embeds,
                    encoder_hidden_states_mask=text.mask,
                    img_shapes=[part.grid] * rows,
                    additional_t_cond=is_rgb,
                    controlnet_block_samples=control,
                    return_dict=False,
                )
        return torch.stack(predicted)[:, :, : self.made]


def _stacked(pictures: Pictures) -> torch.Tensor | None:
    """The latents of condition pictures [rows, M, C], of rows that have alike ones; None where they have none."""
    rows = [torch.cat([picture.latents for picture in of_row]) for of_row in pictures if of_row]
    return torch.stack(rows) if rows else None
