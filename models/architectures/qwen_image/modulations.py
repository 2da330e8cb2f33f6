"""Shift, scale and gate of every block at every step, made once for many steps.

All rows of a batch stand at the same step, and nothing but the step decides them: so a third of the model's weights,
6.8 of 20.4 billion, is read once for many steps instead of at each (13.6 GB: 3 ms of a step on one H200), and where the
GPU has no room for them, they stay in host memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import QwenImageTransformer2DModel
from diffusers.models.transformers.transformer_qwenimage import QwenImageTransformerBlock
from torch import nn
from torch.nn import functional

from models.transformer.quantized import CompressedLinear

STEPS_AT_ONCE = 64  # whose modulations are kept: 4.4 MB each at full size, in bfloat16; see `models.loading.sizes`
IMAGE, TEXT, CONDITIONS = 0, 1, 2  # what a block says something to, in the order in which it is kept


@dataclass(frozen=True)
class Modulation:
    """What one step says to one stream of one block, each [kinds, D].

    There is one kind of tokens; or, on the image stream of a transformer with `zero_cond_t`, two: those of what is
    made, and those of condition pictures, which are modulated as at timestep 0.
    """

    shift: torch.Tensor
    scale: torch.Tensor
    gate: torch.Tensor
    mlp_shift: torch.Tensor
    mlp_scale: torch.Tensor
    mlp_gate: torch.Tensor


@dataclass(frozen=True)
class StepModulations:
    """What one step says to all blocks, and to the norm after the last one."""

    image: list[Modulation]
    text: list[Modulation]
    last_shift: torch.Tensor  # [1, D], which all tokens share
    last_scale: torch.Tensor  # [1, D]


class Modulations:
    """The modulations of the steps of one schedule; batches of one schedule share them."""

    def __init__(self, transformer: QwenImageTransformer2DModel, timesteps: torch.Tensor) -> None:
        """Nothing is computed yet; `timesteps` are those of the steps to come, 0 … 1 [steps]."""
        self.transformer, self.timesteps = transformer, timesteps
        self._first, self._blocks, self._last = 0, torch.empty(0), torch.empty(0)
        self._elsewhere: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = {}

    def at(self, step: int, device: torch.device) -> StepModulations:
        """Return the modulations of one step, on one of the devices that blocks are used on."""
        if not self._first <= step < self._first + len(self._last):
            self._first, self._elsewhere = step, {}
            self._make(self.timesteps[step : step + STEPS_AT_ONCE])
        blocks, last = self._blocks, self._last
        if device != self.timesteps.device:
            if device not in self._elsewhere:
                self._elsewhere[device] = blocks.to(device), last.to(device)
            blocks, last = self._elsewhere[device]
        of_step = blocks[step - self._first]  # [blocks, 2 or 3, 6, D]
        image, text = (
            [Modulation(*block.unbind(1)) for block in stream.unbind()]
            for stream in (of_step[:, IMAGE::CONDITIONS], of_step[:, TEXT : TEXT + 1])
        )
        scale, shift = last[step - self._first].unsqueeze(1)
        return StepModulations(image, text, shift, scale)

    @property
    def bytes(self) -> int:
        """What has been made takes."""
        return self._blocks.nbytes + self._last.nbytes

    def _make(self, timesteps: torch.Tensor) -> None:
        model = self.transformer
        dtype = model.proj_out.weight.dtype
        steps = len(timesteps)
        if model.config.zero_cond_t:
            timesteps = torch.cat([timesteps, timesteps.new_zeros(1)])
        # The layered pipeline's `is_rgb`, which is 0 for every row: its pictures are RGBA.
        is_rgb = timesteps.new_zeros(len(timesteps), dtype=torch.long) if model.config.use_additional_t_cond else None
        in_precision = torch.empty(0, dtype=dtype, device=timesteps.device)
        temb = model.time_text_embed(timesteps.to(dtype), in_precision, is_rgb)  # [steps, and that of timestep 0; D]
        of_blocks = [_of_block(block, temb, steps) for block in model.transformer_blocks]
        self._blocks = torch.stack(of_blocks, dim=1)  # [steps, blocks, 2 or 3, 6, D]
        self._last = model.norm_out.linear(functional.silu(temb[:steps])).unflatten(1, (2, -1))  # [steps, 2, D]


def _of_block(block: QwenImageTransformerBlock, temb: torch.Tensor, steps: int) -> torch.Tensor:
    """What a block says at each step to its image, its text and, if they have one of their own, condition pictures.

    Args:
        temb: the embeddings of so many timesteps and, where condition pictures are modulated so, of timestep 0 [_, D].

    Returns:
        [steps, 2 or 3, 6, D].
    """
    image, text = _modulated(block.img_mod, temb), _modulated(block.txt_mod, temb[:steps])
    streams = [image[:steps], text, *(still.expand(steps, -1) for still in image[steps:])]
    return torch.stack([stream.unflatten(1, (6, -1)) for stream in streams], dim=1)


def _modulated(modulation: nn.Sequential, temb: torch.Tensor) -> torch.Tensor:
    """What `modulation` says; its weights are brought to where `temb` is, wherever they are."""
    activation, linear = modulation
    if isinstance(linear, CompressedLinear):
        weight = linear.kept.to(temb.device).dequantize(temb.dtype)
    else:
        weight = linear.get_parameter("weight").to(temb.device)
    return functional.linear(activation(temb), weight, linear.get_parameter("bias").to(temb.device))
