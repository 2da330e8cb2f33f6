"""Where the model's parts live.

Placements, of which the first that fits is taken:

- **resident**: everything stays on the device. Qwen-Image takes 38.3 + 15.5 GiB in bfloat16.
- **staged**: the transformer's blocks and the VAE stay. The text encoder comes in layer by layer to encode the prompts
  of a shard, since offline work can go stage by stage, and the weights of the blocks' modulations (12.7 GiB) once for
  each noise schedule.
- **streamed**: of the blocks, too, only as many stay as there is room for; the others come from host memory one after
  another, each while the ones before are at work. A batch is large enough that their arithmetic hides that.
- **balanced**: as staged, but the blocks stay on several GPUs, and a batch goes from one to the next. One works while
  the others wait, so a lane for each GPU is faster; it is for GPUs whose bus is too slow to stream.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch

from models.files.safetensors_files import CheckpointError
from models.loading.sizes import Sizes
from models.placement_names import Kind
from models.transformer.weight_stream import SLOTS
from models.units import GIB

MIN_COMPUTE_TO_TRANSFER = 1.5
"""Least ratio of the time of a block's arithmetic to that of its transfer: the bus is shared, and slows."""


@dataclass(frozen=True)
class Placement:
    """The devices that a model's weights are on."""

    kind: Kind
    blocks: int  # of the transformer
    staying: int  # blocks that stay on the device, or on one of several
    homes: tuple[str, ...] = ()  # the device of each block, where they are on several

    @property
    def blocks_here(self) -> int:
        """How many blocks are used on the device, or on the first of several."""
        return self.homes.count(self.homes[0]) if self.homes else self.blocks

    @property
    def resident_blocks(self) -> frozenset[int] | None:
        """Positions of the blocks that stay, among those that don't; None where nothing is in host memory."""
        if self.kind == "resident":
            return None  # and they are where everything is
        # The first one is among them: a step that a cache skips goes through no other.
        return frozenset(index for index in range(self.blocks) if index * self.staying % self.blocks < self.staying)

    def __str__(self) -> str:
        if self.homes:
            return f"balanced over {len(set(self.homes))} devices"
        if self.kind != "streamed" or not self.staying:
            return self.kind
        return f"{self.kind}, {self.staying} of {self.blocks} blocks stay"

    def weights(self, sizes: Sizes) -> int:
        """Bytes of weights that are on the device while pictures are drawn; of several devices, on the first."""
        if self.kind == "resident":
            return sizes.whole
        if self.homes:
            return sizes.rest + sizes.text_rest + self.blocks_here * sizes.block
        streamed = self.blocks - self.staying
        return sizes.rest + sizes.text_rest + (self.staying + min(SLOTS, streamed)) * sizes.block

    def host_weights(self, sizes: Sizes) -> int:
        """Bytes of weights that wait in pinned host memory; those of modulations are read from their files."""
        if self.kind == "resident":
            return 0
        return sizes.text_encoder - sizes.text_rest + (self.blocks - self.staying) * sizes.block


RESIDENT = Placement("resident", 0, 0)


@dataclass(frozen=True)
class Room:
    """What has to fit beside the weights, in bytes; one stage at a time."""

    drawing: int  # of the batch that hides the transfers
    least: int  # of one row
    encoding: int  # of a batch of prompts, beside the layers of the text encoder that are there
    kept: int = 0  # of `drawing`, what each block keeps from step to step, where it is used

    def beside(self, placement: Placement, sizes: Sizes, drawing: int) -> int:
        """Return what work takes beside the weights of a placement, if drawing takes `drawing`."""
        layers = 0 if placement.kind == "resident" else SLOTS * sizes.text_layer
        return max(drawing, self.encoding + layers) + sizes.table


def place(sizes: Sizes, room: Room, budget: int) -> Placement:
    """Return the first placement that fits `budget` bytes of device memory.

    Raises:
        CheckpointError: if not even one block and one row fit.
    """
    *others, streamed = placements(sizes, room, budget)
    for placement in others:
        if placement.weights(sizes) + room.beside(placement, sizes, room.drawing) <= budget:
            return placement
    needed = streamed.weights(sizes) + room.beside(streamed, sizes, room.least)
    if needed <= budget:
        return streamed
    raise CheckpointError(
        f"The model needs {needed / GIB:.1f} GiB of the GPU's memory even if it is streamed block by block, and "
        f"{budget / GIB:.1f} GiB may be used",
        f"free some, draw smaller pictures, {'leave condition_cache out, ' if room.kept else ''}use a larger GPU, or "
        "device cpu.",
    )


def placements(sizes: Sizes, room: Room, budget: int) -> list[Placement]:
    """Return every placement, the fastest first; of streamed ones that with as many blocks on the device as fit
    `budget`.
    """
    none = Placement("streamed", sizes.blocks, 0)
    free = budget - none.weights(sizes) - room.beside(none, sizes, room.drawing)
    staying = min(max(free // max(sizes.block, 1), 0), sizes.blocks - 1)
    every = [Placement(kind, sizes.blocks, sizes.blocks) for kind in ("resident", "staged")]
    return [*every, Placement("streamed", sizes.blocks, staying)]


def balance(sizes: Sizes, room: Room, budgets: Mapping[str, int]) -> Placement | None:
    """Return the blocks spread over devices by what they have room for; None if all of them together haven't enough.

    Args:
        budgets: bytes that may be used of each device, the first of which has everything but most of the blocks.
    """
    first, *others = budgets
    drawing = room.drawing - sizes.blocks * room.kept
    beside = Placement("balanced", sizes.blocks, sizes.blocks, (first,))
    fixed = beside.weights(sizes) - sizes.block + room.beside(beside, sizes, drawing)
    free = {first: budgets[first] - fixed, **{name: budgets[name] - drawing - sizes.table for name in others}}
    places = {name: max(bytes_ // max(sizes.block + room.kept, 1), 0) for name, bytes_ in free.items()}
    total = sum(places.values())
    if total < sizes.blocks or not places[first]:
        return None
    ends = [round(sizes.blocks * filled / total) for filled in accumulate(places.values())]
    shares = [end - start for start, end in pairwise([0, *ends])]
    homes = tuple(name for name, share in zip(places, shares, strict=True) for _ in range(share))
    return Placement("balanced", sizes.blocks, sizes.blocks, homes)


def rows_that_hide(block_bytes: int, bytes_a_second: float, seconds_a_row: float) -> int:
    """Return how many rows a batch needs so that a block's arithmetic hides the transfer of the next.

    Args:
        seconds_a_row: that a block's arithmetic takes for each row.
    """
    return max(1, math.ceil(MIN_COMPUTE_TO_TRANSFER * block_bytes / bytes_a_second / seconds_a_row))


def free_memory(device: torch.device) -> int:
    """Bytes of GPU memory that torch could still use.

    The driver's free memory and torch's own unused blocks, or what this process may have
    (`torch.cuda.set_per_process_memory_fraction`) beside what it uses, if that is less.
    """
    free, total = torch.cuda.mem_get_info(device)
    allocated = torch.cuda.memory_allocated(device)
    unused = torch.cuda.memory_reserved(device) - allocated
    cap = int(total * torch.cuda.get_per_process_memory_fraction(device))
    return min(free + unused, cap - allocated)


def limit_memory(device: torch.device, most: int) -> None:
    """Have this process use at most so many bytes of a GPU's memory."""
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, most / total), device)
