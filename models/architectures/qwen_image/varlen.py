"""Qwen-Image's transformer over sequences of any lengths: no padding, no mask, both branches of guidance together.

diffusers' model keeps its weights and says what is computed (`QwenImageTransformer2DModel.forward`, 0.42.1). Here the
sequences of all rows and of both branches lie end to end (`models.transformer.packing`), so that every product is one,
a prompt's length costs nothing, and each row has its own condition pictures. What a block does with them stands in
`models.architectures.qwen_image.double_stream`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate

import torch
from diffusers import QwenImageTransformer2DModel
from diffusers.models.transformers.transformer_qwenimage import QwenImageTransformerBlock
from torch import nn
from torch.nn.attention import sdpa_kernel

from models.architectures.qwen_image.blocks import Blocks, replaced
from models.architectures.qwen_image.double_stream import Block, Streams, advance, enter
from models.architectures.qwen_image.modulations import STEPS_AT_ONCE, Modulations, StepModulations
from models.devices.attention import Attention, backends
from models.transformer.fused import modulated_norm, plain
from models.transformer.packing import Packing, TokenSequence, ranges
from models.transformer.predictor import Conditions, Grid, Pictures, Predictor, Size, grid_of, tokens_of
from models.transformer.step_cache import StepCache


class Varlen(Predictor):
    """A transformer whose forward takes sequences of any lengths, end to end and unpadded.

    varlen = Varlen(transformer)
    conditions = varlen.condition(texts, [(1, 64, 64)], timesteps)
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
        """
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
        self,
        texts: Sequence[Sequence[torch.Tensor]],
        grid: Grid,
        timesteps: torch.Tensor,
        pictures: Pictures | None = None,
    ) -> VarlenConditions:
        """See `Predictor`."""
        return VarlenConditions(self, texts, grid, timesteps, pictures)

    def offload(self) -> bool:
        """See `Predictor`; blocks that diffusers' transformer holds, too, can't go."""
        return self.owns_blocks and self.blocks.offload()

    def reload(self) -> None:
        """See `Predictor`."""
        if self.owns_blocks:
            self.blocks.reload()

    def repeat(self, blocks: int) -> None:
        """See `Predictor`."""
        self.transformer.transformer_blocks = nn.ModuleList([self.transformer.transformer_blocks[0]] * blocks)
        self.blocks, self._modulations = self.blocks.repeated(blocks), {}

    def blocks_on_device(self) -> Iterator[torch.Tensor]:
        """See `Predictor`."""
        return self.blocks.stream.on_device()

    @property
    def schedule_bytes(self) -> int:
        """See `Predictor`: the modulations of the last schedules."""
        return sum(modulations.bytes for modulations in self._modulations.values())

    def modulations(self, timesteps: torch.Tensor) -> Modulations:
        """Return the modulations of a schedule."""
        schedule = tuple(timesteps.tolist())
        if schedule not in self._modulations:
            while self._modulations and sum(map(len, self._modulations)) + len(schedule) > STEPS_AT_ONCE:
                del self._modulations[next(iter(self._modulations))]  # before the new ones take memory
            self._modulations[schedule] = Modulations(self.transformer, timesteps)
        return self._modulations[schedule]


class VarlenConditions(Conditions):
    """A batch of rows, ready for its steps."""

    def __init__(
        self,
        varlen: Varlen,
        texts: Sequence[Sequence[torch.Tensor]],
        grid: Grid,
        timesteps: torch.Tensor,
        pictures: Pictures | None = None,
    ) -> None:
        """See `Varlen.condition`."""
        self.varlen = varlen
        device, model = timesteps.device, varlen.transformer
        self.rows, self.branches = len(texts), len(texts[0])
        grids = [grid_of(grid, of_row) for of_row in pictures or [()] * self.rows]
        lengths = [tokens_of(each) for each in grids]
        sequences = [(branch, row) for branch in range(self.branches) for row in range(self.rows)]
        # Equal lengths become neighbours, so that attention takes them together.
        order = sorted(
            sequences, key=lambda sequence: (len(texts[sequence[1]][sequence[0]]), lengths[sequence[1]], sequence)
        )
        ordered = [texts[row][branch] for branch, row in order]
        self.text = model.txt_in(model.txt_norm(torch.cat(ordered).to(device)))
        rotary = _Rotary(model, grids, max(map(len, ordered)), device)
        self.image_rotary, self.text_rotary = rotary.image, rotary.text
        self.packing = Packing(
            tuple(TokenSequence(len(texts[row][branch]), lengths[row], *rotary.starts[row]) for branch, row in order),
            tokens_of(grid),
            device,
            model.config.zero_cond_t,
        )
        self.pictures = [
            torch.cat([picture.latents for picture in of_row]) if of_row else None for of_row in pictures or ()
        ]
        self.modulations = varlen.modulations(timesteps)
        row_of = [row for _, row in order]
        self.cache = None
        if varlen.step_cache is not None:
            self.cache = StepCache(varlen.step_cache, row_of, self.packing.image_lengths, len(timesteps))
        self._row_of = torch.tensor(row_of, device=device)
        starts = [0, *accumulate(lengths)]
        self._token_of = ranges([(starts[row], starts[row + 1]) for row in row_of], device)
        places = {sequence: place for place, sequence in enumerate(order)}
        self._made = ranges([self.packing.made_range(places[sequence]) for sequence in sequences], device)
        self._packings: dict[tuple[torch.device, Packing], Packing] = {}  # by where they go, and come from
        self._last_said: tuple[tuple[int, torch.device], StepModulations] | None = None

    def predict(self, step: int, latents: torch.Tensor, control: Sequence[torch.Tensor] | None = None) -> torch.Tensor:
        """See `Conditions`."""
        model = self.varlen.transformer
        image = model.img_in(self._seen(latents))[self._token_of]
        with torch.cuda.device_of(latents), sdpa_kernel(self.varlen.backends, set_priority=True):
            normed = self._through(step, image, control)
        predicted: torch.Tensor = model.proj_out(normed)[self._made]
        of_rows: torch.Tensor = predicted.unflatten(0, (self.branches, self.rows, -1))
        return of_rows

    def _seen(self, latents: torch.Tensor) -> torch.Tensor:
        """The latents of all rows, each with those of its condition pictures after its own [tokens of rows, C]."""
        if not self.pictures:
            return latents.flatten(0, 1)
        rows = zip(latents, self.pictures, strict=True)
        return torch.cat([part for row in rows for part in row if part is not None])

    def _through(self, step: int, image: torch.Tensor, control: Sequence[torch.Tensor] | None) -> torch.Tensor:
        """Take image tokens [image tokens, D] through all blocks and the norm after the last."""
        blocks, modulations = self.varlen.blocks, self._said(step, self.packing.device)
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
        first = after - before
        due = self.cache.due(step, first)
        self.varlen.asked += self.rows
        self.varlen.computed += len({self.cache.row_of[sequence] for sequence in due})
        if len(due) == len(self.packing.sequences):
            streams = self._onwards(step, streams, control, 1)
            self.cache.remember(due, first, streams.image - after)
            return plain(streams.image_in)
        recalled = after + self.cache.recalled()
        normed = plain(modulated_norm(recalled, modulations.last_shift, modulations.last_scale, blocks.eps))
        if due:
            some = streams.only(due)
            at_first = some.image.clone()
            some = self._onwards(step, some, control, 1)
            self.cache.remember(due, first, some.image - at_first)
            computed = ranges([self.packing.image_range(place) for place in due], normed.device)
            normed[computed] = plain(some.image_in)
        return normed

    def _onwards(self, step: int, streams: Streams, control: Sequence[torch.Tensor] | None, first: int) -> Streams:
        """Take streams through the blocks from `first` on and, on the image stream, the norm after the last one."""
        for index in range(first, len(self.varlen.blocks)):
            streams = self._advance(step, streams, index, control)
        return self._at(streams, self.packing.device)

    def _advance(self, step: int, streams: Streams, index: int, control: Sequence[torch.Tensor] | None) -> Streams:
        """Take streams through one block, where that is; they are changed in place unless they come from elsewhere."""
        count, following, home = len(self.varlen.blocks), index + 1, self.varlen.blocks.home(index)
        streams, said = self._at(streams, home), self._said(step, home)
        added = control[index // math.ceil(count / len(control))].to(home) if control else None
        # Triton launches on the current device, which needn't be the one that the job names.
        with torch.cuda.device_of(streams.image), self.varlen.blocks.turn(index) as block:
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


class _Rotary:
    """The rotary embeddings of rows: those of each distinct grid once, one grid's after another's."""

    def __init__(
        self,
        model: QwenImageTransformer2DModel,
        grids: Sequence[tuple[Size, ...]],
        text_tokens: int,
        device: torch.device,
    ) -> None:
        """Have diffusers make them, for so many tokens of text."""
        made = {
            grid: model.pos_embed([list(grid)], max_txt_seq_len=text_tokens, device=device)
            for grid in dict.fromkeys(grids)
        }
        images, texts = zip(*made.values(), strict=True)
        self.image, self.text = (
            (table.real.float().contiguous(), table.imag.float().contiguous())
            for table in (torch.cat(images), torch.cat(texts))
        )
        begin = zip(*(accumulate(map(len, tables), initial=0) for tables in (texts, images)), strict=True)
        at = dict(zip(made, begin, strict=False))
        self.starts = [at[grid] for grid in grids]  # where each row's begin in the tables of text and of image


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
