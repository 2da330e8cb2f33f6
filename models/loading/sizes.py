"""How many bytes the parts of a checkpoint take in memory, read from its headers."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from models.architectures.qwen_image.modulations import STEPS_AT_ONCE
from models.files.quantization_schemes import (
    DIFFUSERS,
    TRANSFORMERS,
    QuantizationScheme,
    QuantizationSchemes,
    bytes_of,
    stored_weights,
)
from models.files.safetensors_files import read_json

BLOCK = re.compile(r"transformer_blocks\.(\d+)\.(?P<modulation>(?:img|txt)_mod\.)?(?P<image>attn\.to_|img_mlp\.)?.*")
LAYER = re.compile(r"(?:.+\.)?layers\.(\d+)\..*")
ON_HOST = re.compile(r"(?:.+\.)?(?:embed_tokens\.weight|visual\..*|lm_head\..*)")


@dataclass(frozen=True)
class Sizes:
    """Bytes of weights."""

    text_encoder: int  # all of it
    text_layer: int  # its largest layer
    text_rest: int  # what stays on the device even where its layers don't
    text_on_host: int  # what comes to the device only to write captions, where its layers don't stay
    blocks: int  # how many the transformer has
    block: int  # the largest, without its modulations
    modulation: int  # the weights of a block's modulations
    rest: int  # of the transformer beside its blocks, the VAE, and a ControlNet
    table: int  # what modulations make of a schedule

    @property
    def whole(self) -> int:
        """The bytes of all weights."""
        return self.text_encoder + self.blocks * (self.block + self.modulation) + self.rest


def read_sizes(
    folder: Path,
    itemsize: int,
    scheme: QuantizationScheme | None,
    *,
    float8: bool = False,
    fused: bool = True,
    changed: bool = False,
    unused: tuple[str, ...] = (),
    controlnet: Path | None = None,
) -> Sizes:
    """Read the sizes of a checkpoint.

    Args:
        folder: the checkpoint's.
        itemsize: bytes of a number that is kept as a float.
        scheme: what the weights of the transformer's blocks are kept in.
        float8: whether those that the image's tokens are multiplied with become float8.
        fused: whether modulations are made once for a schedule; if not, their weights are a part of their blocks.
        changed: whether a LoRA changes the weights.
        unused: beginnings of the names of the text encoder's parameters that aren't loaded.
        controlnet: the folder of a ControlNet.

    Raises:
        CheckpointError: if weights are missing, or stored in a form that packshot doesn't read.
    """
    schemes = QuantizationSchemes.of(folder, scheme, changed=changed)
    text = bytes_of(folder / "text_encoder", TRANSFORMERS, itemsize, schemes.text_encoder)
    text = {name: size for name, size in text.items() if not name.startswith(unused)}
    layers: dict[str, int] = defaultdict(int)
    for name, size in text.items():
        if layer := LAYER.fullmatch(name):
            layers[layer[1]] += size
    blocks: dict[str, int] = defaultdict(int)
    modulations: dict[str, int] = defaultdict(int)
    rest = 0
    for name, size in bytes_of(folder / "transformer", DIFFUSERS, itemsize, schemes.transformer).items():
        block = BLOCK.fullmatch(name)
        if block is None:
            rest += size
        elif block["modulation"] and fused:
            modulations[block[1]] += size
        elif float8 and block["image"] and name.endswith(".weight"):
            blocks[block[1]] += size // itemsize  # and its scales, which are a thousandth of that
        else:
            blocks[block[1]] += size
    for name, stored in stored_weights(folder / "vae", DIFFUSERS).items():
        rest += _single_frame(name, stored.shape) * itemsize
    if controlnet is not None:
        rest += sum(bytes_of(controlnet, DIFFUSERS, itemsize, None).values())
    config = read_json(folder / "transformer" / "config.json")
    width = config["num_attention_heads"] * config["attention_head_dim"]
    streams = 3 if config.get("zero_cond_t") else 2  # condition pictures may have a modulation of their own
    return Sizes(
        text_encoder=sum(text.values()),
        text_layer=max(layers.values(), default=0),
        text_rest=sum(size for name, size in text.items() if not LAYER.fullmatch(name) and not ON_HOST.fullmatch(name)),
        text_on_host=sum(size for name, size in text.items() if not LAYER.fullmatch(name) and ON_HOST.fullmatch(name)),
        blocks=len(blocks),
        block=max(blocks.values(), default=0),
        modulation=max(modulations.values(), default=0),
        rest=rest,
        table=STEPS_AT_ONCE * len(blocks) * streams * 6 * width * itemsize if fused else 0,
    )


def _single_frame(name: str, shape: tuple[int, ...]) -> int:
    """How many numbers of a weight of the VAE are kept: one slice of a kernel over time.

    See `models.architectures.qwen_image.single_frame`.
    """
    is_sliced = len(shape) == 5 and not name.endswith("time_conv.weight")
    return math.prod(shape) // (shape[2] if is_sliced else 1)
