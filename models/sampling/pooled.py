"""One vector a conditioning, from the embeddings that the transformer attends to: for who judges prompts by them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from models.failure import Failure
from models.loading.prompt_encoder import PromptEncoder
from models.requests import Conditioning
from models.sampling.prompt_embeds import embed_prompts

Pooled = np.ndarray[Any, np.dtype[np.float32]]  # [2 D]


def pool(embeds: torch.Tensor) -> Pooled:
    """One prompt's embedding [T, D] → [2 D]: the mean over its tokens, then its last token.

    `models.checkpoints.text_encoder.POOLING` names this way. The template's own last tokens count as the prompt's, as
    they do for the transformer. The encoder is causal, so the last one has read all of the prompt: in it, a clause
    counts in a long prompt as in a short one. In the mean, every word counts wherever it stands.
    """
    whole = embeds.float()
    pooled: Pooled = torch.cat([whole.mean(0), whole[-1]]).cpu().numpy()
    return pooled


def pool_all(embeds: Mapping[Conditioning, torch.Tensor]) -> dict[Conditioning, Pooled]:
    """Return each conditioning's vector."""
    return {conditioning: pool(embed) for conditioning, embed in embeds.items()}


def read_prompts(
    encoder: PromptEncoder, prompts: Iterable[Conditioning], *, max_tokens: int = 1 << 20
) -> tuple[dict[Conditioning, Pooled], dict[Conditioning, Failure]]:
    """Return the vectors of prompts, and the failures of those that can't be read; nothing is drawn.

    Raises:
        DeviceLost: as `models.failure.blame`.
    """
    embeds, failures = embed_prompts(encoder, prompts, max_tokens)
    return pool_all(embeds), failures
