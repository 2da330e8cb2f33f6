"""The placements that a job can name: see `models.loading.placement`. Importing this doesn't import torch."""

from typing import Literal

Kind = Literal["resident", "staged", "streamed", "balanced"]
WantedPlacement = Literal["auto", "resident", "staged", "streamed", "balanced"]
"""`auto` is the fastest that fits."""
