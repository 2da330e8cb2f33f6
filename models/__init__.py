"""Checkpoints, placement, batch fitting, the bulk engines and the miniature."""

import logging
import os

# diffusers imports bitsandbytes where it is installed, which on some processors warns of lacking kernels (0.50.2).
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

# Batches come in several sizes and fill what is left: in segments that can't grow, 3 of 24 GiB were of no use to the
# next batch (torch 2.11). torch reads this when it first allocates memory of a GPU.
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
