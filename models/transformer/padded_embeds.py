"""Prompt embeddings of unlike lengths, stacked for diffusers' own forward."""

from collections.abc import Sequence
from typing import NamedTuple

import torch


class PaddedEmbeds(NamedTuple):
    """The prompt embeddings of one batch."""

    embeds: torch.Tensor  # [B, T, D]
    mask: torch.Tensor | None  # [B, T] bool; None where all are of one length, which keeps the fast attention kernels


def pad(embeds: Sequence[torch.Tensor], device: torch.device) -> PaddedEmbeds:
    """Stack embeddings [T_i, D] on `device`, padded with zeros and masked only where their lengths differ."""
    lengths = [len(embed) for embed in embeds]
    if len(set(lengths)) == 1:
        return PaddedEmbeds(torch.stack(list(embeds)).to(device), None)
    padded = torch.nn.utils.rnn.pad_sequence(list(embeds), batch_first=True)
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return PaddedEmbeds(padded.to(device), mask.to(device))
