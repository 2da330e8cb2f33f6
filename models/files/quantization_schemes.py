"""The schemes that a checkpoint's weights are stored in and kept in: as floats, or compressed to 8 or 4 bits.

Headers say all of it. Importing this module doesn't import torch: see `models.checkpoints.checkpoint`.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from models.files.safetensors_files import CheckpointError, Tensor, check_weights, read_json, read_tensors

QuantizationScheme = Literal["int8", "nf4", "fp4", "float8_weights"]
"""int8: whole numbers, a scale for each row; nf4, fp4: 4 bits, a scale for each block of numbers: all as bitsandbytes
stores them. float8_weights: float8, a scale for each row."""
SCHEMES: tuple[QuantizationScheme, ...] = get_args(QuantizationScheme)
FOUR_BITS: tuple[QuantizationScheme, ...] = ("nf4", "fp4")
BLOCK = 64  # weights that share a scale in 4 bits, where packshot compresses them: bitsandbytes' own default
TRANSFORMERS, DIFFUSERS = "model", "diffusion_pytorch_model"  # what their weights' files are called

# Only the weights of the repeated blocks are kept compressed: they are nearly all of a model, and the least sensitive.
IN_BLOCKS = re.compile(r"(?:.+\.)?(?:transformer_blocks|layers)\.\d+\..+\.weight")
FLOAT8 = ("F8_E4M3", "F8_E5M2")
METHODS = (None, "bitsandbytes", "fp8")  # of a config's quantization_config, which headers say more about
# What lies beside a compressed weight: of bitsandbytes in 4 bits, in 8, and of float8 as several programs name it.
BESIDE = re.compile(
    r"(?P<module>.+)\.(?:weight\.(?P<four>absmax|quant_map|nested_absmax|nested_quant_map|quant_state\.bitsandbytes__\w+)"
    r"|(?P<eight>SCB|weight_format)|(?P<scale>weight_scale|scale_weight|weight_scale_inv)"
    r"|(?P<unread>input_scale|scale_input|comfy_quant))"  # how to multiply in float8, which is ours to say
)
MARKERS = ("scaled_fp8",)  # an empty tensor that says what scales say, too


@dataclass(frozen=True)
class Stored:
    """A parameter as a checkpoint stores it."""

    tensor: Tensor
    shape: tuple[int, ...]  # the parameter's own, whatever its bits are packed into
    scheme: QuantizationScheme | None  # None: as floats
    block: int  # numbers that share a scale, one row after another; of floats 0
    beside: Mapping[str, Tensor]  # by what it is: `absmax`, `SCB`, `scale`, …


def stored_weights(folder: Path, stem: str) -> dict[str, Stored]:
    """Return what the files of a component hold, by the name of the parameter, after checking that they are all there.

    Args:
        folder: the component's folder.
        stem: `TRANSFORMERS` or `DIFFUSERS`.

    Raises:
        CheckpointError: as `check_weights`, or if weights are stored in a form that packshot doesn't read.
    """
    method = (read_json(folder / "config.json").get("quantization_config") or {}).get("quant_method")
    if method not in METHODS:
        raise CheckpointError(
            f"{folder} is stored as {method} does it, which packshot doesn't read",
            "use a checkpoint stored in 16 bits, in float8, or by bitsandbytes.",
        )
    tensors = {name: tensor for file in check_weights(folder, stem) for name, tensor in read_tensors(file).items()}
    beside: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name in [*tensors]:
        found = BESIDE.fullmatch(name)
        if name in MARKERS:
            del tensors[name]
        elif found and (weight := f"{found['module']}.weight") in tensors:
            role = "scale" if found["scale"] else found["four"] or found["eight"] or found["unread"]
            beside[weight][role] = tensors.pop(name)
    return {name: _stored(tensor, beside[name]) for name, tensor in tensors.items()}


def _stored(tensor: Tensor, beside: dict[str, Tensor]) -> Stored:
    columns = math.prod(tensor.shape[1:])
    state = next((role for role in beside if role.startswith("quant_state")), None)
    if state is not None and "absmax" in beside:
        kind: Any = state.removeprefix("quant_state.bitsandbytes__")
        try:
            said = json.loads(beside[state].read())
            shape, block = tuple(map(int, said["shape"])), int(said["blocksize"])
        except (ValueError, KeyError, TypeError):
            shape, block = (), 0
        numbers = 2 * (tensor.stop - tensor.start)
        fits = len(shape) == 2 and shape[1] % 2 == 0 and math.prod(shape) == numbers
        if kind in FOUR_BITS and fits and block and numbers % block == 0:
            return Stored(tensor, shape, kind, block, beside)
    elif tensor.dtype in FLOAT8:
        scale = beside.get("scale")
        if scale is None or scale.shape in ((), (1,), (1, 1), tensor.shape[:1], (*tensor.shape[:1], 1)):
            return Stored(tensor, tensor.shape, "float8_weights", columns, beside)
    elif tensor.dtype == "I8" and "SCB" in beside:
        return Stored(tensor, tensor.shape, "int8", columns, beside)
    elif tensor.dtype not in ("I8", "U8") and not beside:
        return Stored(tensor, tensor.shape, None, 0, beside)
    raise CheckpointError(
        f"{tensor.file} stores {tensor.name} in a form that packshot doesn't read ({tensor.dtype} beside "
        f"{', '.join(sorted(beside)) or 'nothing'})",
        "use a checkpoint stored in 16 bits, in float8 with a scale for "
        "each weight or each of its rows, or by bitsandbytes.",
    )


def scheme_of(weights: Mapping[str, Stored]) -> QuantizationScheme | None:
    """Return the scheme that most weights of the blocks are stored in, if any is compressed."""
    schemes = Counter(stored.scheme for name, stored in weights.items() if stored.scheme and IN_BLOCKS.fullmatch(name))
    return schemes.most_common(1)[0][0] if schemes else None


def kept_precision(precision: str, folder: Path) -> str:
    """Return what `auto` stands for where the transformer of a checkpoint is stored compressed: its scheme. Others
    stay.

    Args:
        folder: the checkpoint's.

    Raises:
        CheckpointError: if the transformer is stored in a form that packshot doesn't read.
    """
    if precision != "auto":
        return precision
    return scheme_of(stored_weights(folder / "transformer", DIFFUSERS)) or precision


def scheme_for(precision: str, folder: Path) -> QuantizationScheme | None:
    """Return what the weights of the transformer's blocks are kept in for a precision; None: as floats.

    With `float8`, weights that are stored in float8 are multiplied as they are.

    Raises:
        CheckpointError: as `kept_precision`.
    """
    if precision == "float8" and kept_precision("auto", folder) == "float8_weights":
        return "float8_weights"
    return next((scheme for scheme in SCHEMES if scheme == precision), None)


@dataclass(frozen=True)
class QuantizationSchemes:
    """What the weights of a checkpoint's blocks are kept in; None: as floats."""

    transformer: QuantizationScheme | None
    text_encoder: QuantizationScheme | None
    stored: QuantizationScheme | None  # what the transformer's are stored in
    compresses_transformer: bool  # or they are taken as they are stored
    compresses_text_encoder: bool

    @classmethod
    def of(cls, folder: Path, wanted: QuantizationScheme | None, *, changed: bool) -> QuantizationSchemes:
        """Return the schemes of the checkpoint in `folder`.

        The text encoder's stay as they are stored, and go the transformer's way where nothing is stored compressed.

        Args:
            wanted: what the transformer's are to be kept in.
            changed: whether they are changed when they are loaded, so that they must be floats until then.
        """
        stored = scheme_of(stored_weights(folder / "transformer", DIFFUSERS))
        text = scheme_of(stored_weights(folder / "text_encoder", TRANSFORMERS))
        return cls(
            transformer=wanted,
            text_encoder=text or (None if stored else wanted),
            stored=stored,
            compresses_transformer=wanted is not None and (changed or wanted != stored),
            compresses_text_encoder=text is None and stored is None and wanted is not None,
        )


def compresses(name: str, shape: Sequence[int], scheme: QuantizationScheme) -> bool:
    """Say whether packshot compresses a parameter to `scheme`: the weights of the blocks' linear layers."""
    if len(shape) != 2 or not IN_BLOCKS.fullmatch(name):
        return False
    return scheme not in FOUR_BITS or (shape[1] % 2 == 0 and math.prod(shape) % BLOCK == 0)


def count_bytes(
    folder: Path, stem: str, itemsize: int, scheme: QuantizationScheme | None, unused: tuple[str, ...] = ()
) -> int:
    """Return the bytes that a component takes in memory: see `bytes_of`.

    Args:
        unused: beginnings of the names of parameters that aren't counted.
    """
    each = bytes_of(folder, stem, itemsize, scheme)
    return sum(size for name, size in each.items() if not name.startswith(unused))


def bytes_of(folder: Path, stem: str, itemsize: int, scheme: QuantizationScheme | None) -> dict[str, int]:
    """Return the bytes that each parameter of a component takes in memory, by its name.

    Args:
        folder, stem: see `stored_weights`.
        itemsize: bytes of a number that is kept as a float.
        scheme: what the weights of the blocks are kept in; where they are stored so, floats among them stay floats.
    """
    weights = stored_weights(folder, stem)
    is_stored_so = scheme_of(weights) == scheme
    sizes = {}
    for name, stored in weights.items():
        numbers = math.prod(stored.shape)
        if scheme is None or not compresses(name, stored.shape, scheme) or (is_stored_so and stored.scheme != scheme):
            sizes[name] = numbers * itemsize
        elif scheme in FOUR_BITS:
            sizes[name] = numbers // 2 + 4 * numbers // (stored.block if is_stored_so else BLOCK)
        else:
            sizes[name] = numbers + 4 * stored.shape[0]
    return sizes
