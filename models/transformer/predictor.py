"""What the denoising loop asks of a transformer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

Grid = Sequence[tuple[int, int, int]]
"""Frames, height and width in tokens of each picture of a row; a source picture last."""


class Conditions(Protocol):
    """A batch of rows, ready for its steps."""

    def predict(self, step: int, latents: torch.Tensor, control: Sequence[torch.Tensor] | None = None) -> torch.Tensor:
        """The transformer's prediction at one step.

        Args:
            latents: packed latents [B, N, C] of the pictures of the grid.
            control: what a ControlNet adds to the image stream [B, N, D], each after as many of the blocks.

        Returns:
            [branches, B, N, C out].
        """


class Predictor(Protocol):
    """A transformer that can be asked for predictions."""

    def condition(self, texts: Sequence[Sequence[torch.Tensor]], grid: Grid, timesteps: torch.Tensor) -> Conditions:
        """Prepare a batch.

        Args:
            texts: of each row the embeddings [T, D] that its branches are conditioned on: the prompt's, with guidance
                the negative prompt's, too.
            timesteps: of the steps to come, 0 … 1 [steps], in the transformer's precision.
        """

    def retreat(self) -> bool:
        """Make room on the device by leaving it half of what can wait in host memory; whether there was anything."""

    def come_back(self) -> None:
        """Take back what `retreat` left, as far as there is room for it."""

    def repeat(self, blocks: int) -> None:
        """Go through the first block so many times instead of through all blocks, to try what that takes."""
