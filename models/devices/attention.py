"""The attention kernels that a job can name; importing this doesn't import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch.nn.attention import SDPBackend

Attention = Literal["auto", "cudnn", "flash", "efficient", "math"]
"""The kernel that is tried first; `auto` is cuDNN's, the fastest on Hopper, and what comes after it elsewhere."""


def backends(first: Attention = "auto") -> dict[str, SDPBackend]:
    """torch's attention kernels by name, in the order in which they are tried."""
    from torch.nn.attention import SDPBackend

    known = {
        "cudnn": SDPBackend.CUDNN_ATTENTION,
        "flash": SDPBackend.FLASH_ATTENTION,
        "efficient": SDPBackend.EFFICIENT_ATTENTION,
        "math": SDPBackend.MATH,
    }
    wanted = "cudnn" if first == "auto" else first
    return {wanted: known[wanted], **known}
