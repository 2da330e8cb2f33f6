"""The attention kernels that a job can name; importing this doesn't import torch."""

from typing import Literal

Attention = Literal["auto", "cudnn", "flash", "efficient", "math"]
"""The kernel that is tried first; `auto` is cuDNN's, the fastest on Hopper, and what comes after it elsewhere."""
