"""What the denoising loop asks of a transformer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

Size = tuple[int, int, int]
"""Frames, height and width of a picture in tokens."""
Grid = Sequence[Size]
"""The sizes of the pictures whose tokens lie one after another."""


@dataclass(frozen=True, eq=False)
class EncodedPicture:
    """A condition picture as the transformer reads it: every step sees it, and none changes it."""

    latents: torch.Tensor  # packed [h · w, C]
    size: Size


Pictures = Sequence[Sequence[EncodedPicture]]
"""The condition pictures of each row, which may differ in number and size from row to row."""


class Conditions(Protocol):
    """A batch of rows, ready for its steps."""

    def predict(self, step: int, latents: torch.Tensor, control: Sequence[torch.Tensor] | None = None) -> torch.Tensor:
        """Return the transformer's prediction at one step.

        Args:
            latents: packed latents [B, N, C] of what is made.
            control: what a ControlNet adds to the image stream [B, N, D], each after as many of the blocks; for rows
                without condition pictures.

        Returns:
            [branches, B, N, C out].
        """


class Predictor(Protocol):
    """A transformer that can be asked for predictions."""

    @property
    def schedule_bytes(self) -> int:
        """What it keeps of noise schedules on the device."""

    @property
    def period(self) -> int:
        """After so many steps what they take begins anew: a step is what it takes on average of them."""

    def kept_bytes(self, condition_tokens: int, branches: int) -> int:
        """Return what each block keeps on the device from step to step, for a row.

        Args:
            condition_tokens: of the row's condition pictures.
            branches: of guidance.
        """

    def blocks_on_device(self) -> Iterator[torch.Tensor]:
        """Give what its blocks take of the device's memory beside the transformer's own parameters."""

    def condition(
        self,
        texts: Sequence[Sequence[torch.Tensor]],
        grid: Grid,
        timesteps: torch.Tensor,
        pictures: Pictures | None = None,
    ) -> Conditions:
        """Prepare a batch.

        Args:
            texts: of each row the embeddings [T, D] that its branches are conditioned on: the prompt's, with guidance
                the negative prompt's, too.
            grid: of what is made, the same for every row.
            timesteps: of the steps to come, 0 … 1 [steps], in the transformer's precision.
            pictures: the condition pictures of each row; None where no row has any.
        """

    def offload(self) -> bool:
        """Make room on the device by leaving it half of what can wait in host memory; whether there was anything."""

    def reload(self) -> None:
        """Take back what `offload` left, as far as there is room for it."""

    def repeat(self, blocks: int) -> None:
        """Go through the first block so many times instead of through all blocks, to try what that takes."""


def grid_of(made: Grid, pictures: Sequence[EncodedPicture]) -> tuple[Size, ...]:
    """Return the sizes of all pictures of a row: of what is made, then of its condition pictures."""
    return (*made, *(picture.size for picture in pictures))


def tokens_of(grid: Grid) -> int:
    """Return how many tokens pictures of these sizes have."""
    return sum(frames * height * width for frames, height, width in grid)
