"""Qwen-Image's transformer over sequences of any lengths: no padding, no mask, both branches of guidance together.

diffusers' model keeps its weights and says what is computed (`QwenImageTransformer2DModel.forward`, 0.42.1). Here the
sequences of all rows and of both branches lie end to end (`models.transformer.packing`), so that every product is one
and a prompt's length costs nothing; what a block does with them stands in `models.transformer.double_stream`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial

import torch
from diffusers import QwenImageTransformer2DModel
from diffusers.models.transformers.transformer_qwenimage import QwenImageTransformerBlock
from torch import nn
from torch.nn.attention import sdpa_kernel

from models.devices.attention import Attention, backends
from models.transformer.blocks import Blocks, replaced
from models.transformer.double_stream import Block, Streams, advance, enter
from models.transformer.fused import modulated_norm, plain
from models.transformer.modulations import STEPS_AT_ONCE, Modulations, StepModulations
from models.transformer.packing import Packing
from models.transformer.predictor import Conditions, Grid, Predictor
from models.transformer.step_cache import StepCache


class Packed(Predictor):
    """A transformer whose forward takes packed sequences.

    packed = Packed(transformer)
    conditions = packed.condition(texts, [(1, 64, 64)], timesteps)
    cond, uncond = conditions.predict(0, latents)
    """

    def __init__(
        self,
        transformer: QwenImageTransformer2DModel,
        *,
        float8: bool = False,
        attention: Attention = "auto",
        step_cache: float | None = None,
        device: torch.device | None = None,
        resident: Collection[int] | None = None,
        homes: Sequence[torch.device] = (),
    ) -> None:
        """Merge weights where they are; the transformer stays usable by itself, except in float8 or streamed.

        Args:
            float8: multiply the image stream's tokens in float8; its weights are then given up for those.
            attention: the kernel that is tried first; `auto` is cuDNN's, the fastest on Hopper.
            step_cache: see `models.transformer.step_cache`; None to take every row through every block.
            device: where the blocks are used; where the transformer is by default.
            resident: the blocks that stay on `device`, where the others are streamed from host memory. None: all stay
                where they are. Their modulations' weights are brought there when they are needed, wherever they are.
            homes: where each of the resident blocks stays and is used, if not on `device`.

        Raises:
            ValueError: if the transformer modulates its tokens one by one (zero_cond_t), as no text-to-image one does.
        """
        if transformer.config.zero_cond_t:
            raise ValueError("a transformer with zero_cond_t modulates tokens one by one, which is not done here")
        self.transformer, self.step_cache = transformer, step_cache
        self.asked = 0  # rows times steps so far that a step cache could have skipped
        self.computed = 0  # of them, those that went through all blocks
        self.backends = list(backends(attention).values())
        device = torch.empty(0, device=device or transformer.device).device  # with the index of a GPU
        every = transformer.transformer_blocks
        places = zip(every, homes or [device] * len(every), strict=True)
        makers = [partial(_block, block, home, float8, resident is not None) for block, home in places]
        self.blocks = Blocks(makers, device, resident, homes)
        self.owns_blocks = resident is not None
        self._modulations: dict[tuple[float, ...], Modulations] = {}  # of the last schedules, for batches to come

    def condition(
        self, texts: Sequence[Sequence[torch.Tensor]], grid: Grid, timesteps: torch.Tensor
    ) -> PackedConditions:
        """See `Predictor`."""
        return PackedConditions(self, texts, grid, timesteps)

    def retreat(self) -> bool:
        """See `Predictor`; blocks that diffusers' transformer holds, too, can't go."""
        return self.owns_blocks and self.blocks.retreat()

    def come_back(self) -> None:
        """See `Predictor`."""
        if self.owns_blocks:
            self.blocks.come_back()

    def repeat(self, blocks: int) -> None:
        """See `Predictor`."""
        self.transformer.transformer_blocks = nn.ModuleList([self.transformer.transformer_blocks[0]] * blocks)
        self.blocks, self._modulations = self.blocks.repeated(blocks), {}

    @property
    def schedule_bytes(self) -> int:
        """What the modulations of the last schedules take."""
        return sum(modulations.bytes for modulations in self._modulations.values())

    def modulations(self, timesteps: torch.Tensor) -> Modulations:
        """Those of a schedule."""
        schedule = tuple(timesteps.tolist())
        if schedule not in self._modulations:
            while self._modulations and sum(map(len, self._modulations)) + len(schedule) > STEPS_AT_ONCE:
                del self._modulations[next(iter(self._modulations))]  # before the new ones take memory
            self._modulations[schedule] = Modulations(self.transformer, timesteps)
        return self._modulations[schedule]


class PackedConditions(Conditions):
    """A batch of rows, ready for its steps."""

    def __init__(
        self,
        packed: Packed,
        texts: Sequence[Sequence[torch.Tensor]],
        grid: Grid,
        timesteps: torch.Tensor,
    ) -> None:
        """See `Packed.condition`."""
        self.packed = packed
        device, model = timesteps.device, packed.transformer
        self.rows, self.branches = len(texts), len(texts[0])
        sequences = [(branch, row) for branch in range(self.branches) for row in range(self.rows)]
        # Equal lengths become neighbours, so that attention takes them together.
        order = sorted(sequences, key=lambda sequence: (len(texts[sequence[1]][sequence[0]]), sequence))
        ordered = [texts[row][branch] for branch, row in order]
        tokens = sum(frames * height * width for frames, height, width in grid)
        self.packing = Packing(tuple(map(len, ordered)), tokens, device)
        self.text = model.txt_in(model.txt_norm(torch.cat(ordered).to(device)))
        frequencies = model.pos_embed([list(grid)], max_txt_seq_len=max(map(len, ordered)), device=device)
        self.image_rotary, self.text_rotary = (
            (table.real.float().contiguous(), table.imag.float().contiguous()) for table in frequencies
        )
        self.modulations = packed.modulations(timesteps)
        row_of = [row for _, row in order]
        self.cache = None if packed.step_cache is None else StepCache(packed.step_cache, row_of, len(timesteps))
        self._row_of = torch.tensor(row_of, device=device)
        places = {sequence: place for place, sequence in enumerate(order)}
        self._packings: dict[tuple[torch.device, Packing], Packing] = {}  # by where they go, and come from
        self._last_said: tuple[tuple[int, torch.device], StepModulations] | None = None
        self._places = torch.tensor([places[sequence] for sequence in sequences], device=device)

    def predict(self, step: int, latents: torch.Tensor, control: Sequence[torch.Tensor] | None = None) -> torch.Tensor:
        """See `Conditions`."""
        model = self.packed.transformer
        image = model.img_in(latents)[self._row_of].flatten(0, 1)
        with torch.cuda.device_of(latents), sdpa_kernel(self.packed.backends, set_priority=True):
            normed = self._through(step, image, control)
        predicted = model.proj_out(normed).unflatten(0, (self.packing.sequences, -1))
        ordered: torch.Tensor = predicted[self._places].unflatten(0, (self.branches, self.rows))
        return ordered

    def _through(self, step: int, image: torch.Tensor, control: Sequence[torch.Tensor] | None) -> torch.Tensor:
        """Take image tokens [image tokens, D] through all blocks and the norm after the last."""
        blocks, modulations = self.packed.blocks, self._said(step, self.packing.device)
        streams = enter(
            modulations.image[0],
            modulations.text[0],
            packing=self.packing,
            rows=self._row_of,
            rotary=(self.image_rotary, self.text_rotary),
            image=image,
            text=self.text.clone(),
            eps=blocks.eps,
            quantize=blocks.quantizes,
        )
        if self.cache is None:
            return plain(self._onwards(step, streams, control, 0).image_in)
        before = streams.image.clone()
        streams = self._advance(step, streams, 0, control)
        after = streams.image.clone()
        first = (after - before).unflatten(0, (self.packing.sequences, -1))
        due = self.cache.due(step, first)
        self.packed.asked += self.rows
        self.packed.computed += len({self.cache.row_of[sequence] for sequence in due})
        if len(due) == self.packing.sequences:
            streams = self._onwards(step, streams, control, 1)
            self.cache.remember(due, first, (streams.image - after).unflatten(0, (self.packing.sequences, -1)))
            return plain(streams.image_in)
        recalled = after + self.cache.recalled().flatten(0, 1)
        normed = plain(modulated_norm(recalled, modulations.last_shift, modulations.last_scale, blocks.eps))
        if due:
            some = streams.only(due)
            at_first = some.image.clone()
            some = self._onwards(step, some, control, 1)
            self.cache.remember(due, first, (some.image - at_first).unflatten(0, (len(due), -1)))
            normed.unflatten(0, (self.packing.sequences, -1))[due] = plain(some.image_in).unflatten(0, (len(due), -1))
        return normed

    def _onwards(self, step: int, streams: Streams, control: Sequence[torch.Tensor] | None, first: int) -> Streams:
        """Take streams through the blocks from `first` on and, on the image stream, the norm after the last one."""
        for index in range(first, len(self.packed.blocks)):
            streams = self._advance(step, streams, index, control)
        return self._at(streams, self.packing.device)

    def _advance(self, step: int, streams: Streams, index: int, control: Sequence[torch.Tensor] | None) -> Streams:
        """Take streams through one block, where that is; they are changed in place unless they come from elsewhere."""
        count, following, home = len(self.packed.blocks), index + 1, self.packed.blocks.home(index)
        streams, said = self._at(streams, home), self._said(step, home)
        added = control[index // math.ceil(count / len(control))].to(home) if control else None
        # Triton launches on the current device, which needn't be the one that the job names.
        with torch.cuda.device_of(streams.image), self.packed.blocks.turn(index) as block:
            advance(
                streams,
                block,
                said.image[index],
                said.text[index],
                following=(said.image[following], said.text[following]) if following < count else None,
                last=(said.last_shift, said.last_scale),
                control=added,
            )
        return streams

    def _said(self, step: int, device: torch.device) -> StepModulations:
        if self._last_said is None or self._last_said[0] != (step, device):
            self._last_said = (step, device), self.modulations.at(step, device)
        return self._last_said[1]

    def _at(self, streams: Streams, device: torch.device) -> Streams:
        """Streams on a device that blocks are used on."""
        if streams.packing.device == device:
            return streams
        if (packing := self._packings.get((device, streams.packing))) is None:
            packing = self._packings[device, streams.packing] = replace(streams.packing, device=device)
        moved = replaced(replace(streams, packing=packing), lambda tensor: tensor.to(device))
        return replace(moved, packing=packing)


def _block(block: QwenImageTransformerBlock, device: torch.device, float8: bool, taken: bool) -> Block:
    """A block made of diffusers', on `device`; where it is `taken`, diffusers' keeps its modulations' weights alone."""
    if not taken:
        return Block.of(block, float8=float8)
    modulations = block.img_mod, block.txt_mod
    block.img_mod, block.txt_mod = nn.Identity(), nn.Identity()
    block.to(device)
    made = Block.of(block, float8=float8)
    for part in block.modules():
        for name, parameter in part.named_parameters(recurse=False):
            setattr(part, name, nn.Parameter(parameter.new_empty(0), requires_grad=False))
    block.img_mod, block.txt_mod = modulations
    return made
