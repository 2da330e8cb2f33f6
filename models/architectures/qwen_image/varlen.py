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
from models.transformer.condition_cache import ConditionCache, kept_bytes
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
        condition_cache: int = 1,
        device: torch.device | None = None,
        resident: Collection[int] | None = None,
        homes: Sequence[torch.device] = (),
    ) -> None:
        """Merge weights where they are; the transformer stays usable by itself, except in float8 or streamed.

        Args:
            float8: multiply the image stream's tokens in float8; its weights are then given up for those.
            attention: the kernel that is tried first; `auto` is cuDNN's, the fastest on Hopper.
            step_cache: see `models.transformer.step_cache`; None to take every row through every block.
            condition_cache: see `models.transformer.condition_cache`; 1 to compute condition pictures at every step.
            device: where the blocks are used; where the transformer is by default.
            resident: the blocks that stay on `device`, where the others are streamed from host memory. None: all stay
                where they are. Their modulations' weights are brought there when they are needed, wherever they are.
            homes: where each of the resident blocks stays and is used, if not on `device`.
        """
        self.transformer, self.step_cache, self.condition_cache = transformer, step_cache, condition_cache
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
    def period(self) -> int:
        """See `Predictor`: condition pictures are computed once in so many steps."""
        return self.condition_cache

    def kept_bytes(self, condition_tokens: int, branches: int) -> int:
        """See `Predictor`: the keys and values of condition pictures."""
        model = self.transformer
        if self.condition_cache == 1:
            return 0
        return kept_bytes(condition_tokens, model.inner_dim, model.proj_out.weight.dtype.itemsize, branches)

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
        made = tokens_of(grid)
        kept_at = accumulate((lengths[row] - made for _, row in order), initial=0)
        self.packing = Packing(
            tuple(
                TokenSequence(
                    len(texts[row][branch]),
                    lengths[row],
                    text_rotary=rotary.starts[row][0],
                    image_rotary=rotary.starts[row][1],
                    conditions=lengths[row] - made,
                    conditions_start=start,
                )
                for (branch, row), start in zip(order, kept_at, strict=False)
            ),
            made,
            device,
            model.config.zero_cond_t,
        )
        self.pictures = [
            torch.cat([picture.latents for picture in of_row]) if of_row else None for of_row in pictures or ()
        ]
        self.modulations = varlen.modulations(timesteps)
        self.row_of = [row for _, row in order]
        looking = [row for row in range(self.rows) if lengths[row] > made]
        keeps = looking and min(varlen.condition_cache, len(timesteps)) > 1
        self.kept = ConditionCache(varlen.condition_cache, looking) if keeps else None
        self.cache = None
        # What a step cache judges and adds up: all image tokens, or what is made, where the others come and go.
        self._judged = self._packing_of(frozenset()) if self.kept else self.packing
        if varlen.step_cache is not None:
            self.cache = StepCache(varlen.step_cache, self.row_of, self._judged.image_lengths, len(timesteps))
        self._rows_of = torch.tensor(self.row_of, device=device)
        self._row_starts = [0, *accumulate(lengths)]
        places = {sequence: place for place, sequence in enumerate(order)}
        self._places = torch.tensor([places[sequence] for sequence in sequences], device=device)
        self._entering: dict[frozenset[int], tuple[Packing, torch.Tensor]] = {}
        self._packings: dict[tuple[torch.device, Packing], Packing] = {}  # by where they go, and come from
        self._last_said: tuple[tuple[int, torch.device], StepModulations] | None = None

    def predict(self, step: int, latents: torch.Tensor, control: Sequence[torch.Tensor] | None = None) -> torch.Tensor:
        """See `Conditions`."""
        model = self.varlen.transformer
        packing, token_of = self._enters(step)
        image = model.img_in(self._seen(latents))[token_of]
        with torch.cuda.device_of(latents), sdpa_kernel(self.varlen.backends, set_priority=True):
            normed = self._through(step, packing, image, control)
        predicted: torch.Tensor = model.proj_out(normed).unflatten(0, (len(self._places), -1))[self._places]
        of_rows: torch.Tensor = predicted.unflatten(0, (self.branches, self.rows))
        return of_rows

    def _enters(self, step: int) -> tuple[Packing, torch.Tensor]:
        """What goes through the blocks at a step, and which of the tokens of rows each of its image tokens is."""
        due = self.kept.due(step) if self.kept else frozenset(range(self.rows))
        if due not in self._entering:
            packing = self._packing_of(due) if self.kept else self.packing
            starts = [self._row_starts[row] for row in self.row_of]
            spans = [(start, start + image) for start, image in zip(starts, packing.image_lengths, strict=True)]
            self._entering[due] = packing, ranges(spans, packing.device)
        return self._entering[due]

    def _packing_of(self, due: frozenset[int]) -> Packing:
        """The packing of a step that computes these rows' condition pictures, and recalls those of the others."""
        rows = zip(self.row_of, self.packing.sequences, strict=True)
        return replace(self.packing, sequences=tuple(one if row in due else one.recalling() for row, one in rows))

    def _seen(self, latents: torch.Tensor) -> torch.Tensor:
        """The latents of all rows, each with those of its condition pictures after its own [tokens of rows, C]."""
        if not self.pictures:
            return latents.flatten(0, 1)
        rows = zip(latents, self.pictures, strict=True)
        return torch.cat([part for row in rows for part in row if part is not None])

    def _through(
        self, step: int, packing: Packing, image: torch.Tensor, control: Sequence[torch.Tensor] | None
    ) -> torch.Tensor:
        """Take image tokens [image tokens, D] through all blocks → what is made after the norm that follows the last.

        Returns:
            of one sequence after another [sequences · made, D].
        """
        blocks, modulations = self.varlen.blocks, self._said(step, packing.device)
        streams = enter(
            modulations.image[0],
            modulations.text[0],
            packing=packing,
            rows=self._rows_of,
            rotary=(self.image_rotary, self.text_rotary),
            image=image,
            text=self.text.clone(),
            eps=blocks.eps,
            quantize=blocks.quantizes,
        )
        if self.cache is None:
            streams = self._onwards(step, streams, control, 0)
            self._remember_conditions(step, range(len(self.row_of)))
            return plain(streams.image_in)[packing.made_tokens]
        before = streams.image.clone()
        streams = self._advance(step, streams, 0, control)
        after = streams.image.clone()
        first = self._to_judge(packing, after - before)
        due = self.cache.due(step, first)
        self.varlen.asked += self.rows
        self.varlen.computed += len({self.row_of[sequence] for sequence in due})
        if len(due) == len(packing.sequences):
            streams = self._onwards(step, streams, control, 1)
            self.cache.remember(due, first, self._to_judge(packing, streams.image - after))
            self._remember_conditions(step, due)
            return plain(streams.image_in)[packing.made_tokens]
        recalled = self._to_judge(packing, after) + self.cache.recalled()
        normed = plain(modulated_norm(recalled, modulations.last_shift, modulations.last_scale, blocks.eps))
        if due:
            some = streams.only(due)
            at_first = some.image.clone()
            some = self._onwards(step, some, control, 1)
            self.cache.remember(due, first, self._to_judge(some.packing, some.image - at_first))
            self._remember_conditions(step, due)
            computed = ranges([self._judged.image_range(place) for place in due], normed.device)
            normed[computed] = self._to_judge(some.packing, plain(some.image_in))
        return normed[self._judged.made_tokens]

    def _to_judge(self, packing: Packing, tokens: torch.Tensor) -> torch.Tensor:
        """What a step cache judges and adds up, of image tokens [image tokens, D]."""
        return tokens[packing.made_tokens] if self.kept else tokens

    def _remember_conditions(self, step: int, sequences: Sequence[int]) -> None:
        """Count the condition pictures of sequences that went through all blocks as computed, if they were."""
        if self.kept:
            self.kept.computed(step, self.kept.due(step) & {self.row_of[sequence] for sequence in sequences})

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
                exchange=partial(self.kept.exchange, index) if self.kept else None,
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
