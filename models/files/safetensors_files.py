"""Weights on disk: whole, in safetensors, and nothing else.

A checkpoint is checked before any of it is loaded, because libraries fill what is missing with random numbers and a
warning, and because a pickle runs code when it is opened. Reading headers is enough: it takes milliseconds at 60 GB.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.mendable import Mendable

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors library itself


class CheckpointError(Mendable, ValueError):
    """A checkpoint that a person has to mend; the message is one sentence that says how."""

    joined = "; "


class NotFetched(CheckpointError):  # noqa: N818 nothing is wrong with it
    """A checkpoint is on the hub, not here, and nothing may be fetched."""


class CheckpointUnreachable(Mendable):
    """What holds a checkpoint, or is to hold it, doesn't answer or has no room; one sentence that says what to do."""

    joined = "; "


@contextmanager
def called(folder: Path, name: str) -> Iterator[None]:
    """Have sentences about `folder`, which only packshot knows of, call it by the name that a person gave."""
    try:
        yield
    except CheckpointError as error:
        raise error.reworded(lambda words: words.replace(str(folder), name)) from None


@dataclass(frozen=True)
class Tensor:
    """What a safetensors file says of one of its tensors."""

    file: Path
    name: str
    dtype: str  # as safetensors names it: `BF16`, `F8_E4M3`, `U8`, …
    shape: tuple[int, ...]
    start: int  # where in the file its bytes begin
    stop: int

    def read(self) -> bytes:
        """Return the bytes of the tensor."""
        with self.file.open("rb") as file:
            file.seek(self.start)
            return file.read(self.stop - self.start)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that belongs to a checkpoint.

    Raises:
        CheckpointError: if it isn't there or isn't an object.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing from the checkpoint", "fetch the checkpoint again.") from None
    except OSError as error:
        raise CheckpointError(f"{path} isn't readable JSON ({error})", "fetch the checkpoint again.") from None
    return parse_json(content, str(path))


def parse_json(content: bytes, where: str) -> dict[str, Any]:
    """Parse a JSON object as `read_json` does, of content that was read from `where`."""
    try:
        parsed = json.loads(content.decode("utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{where} isn't readable JSON ({error})", "fetch the checkpoint again.") from None
    if not isinstance(parsed, dict):
        raise CheckpointError(f"{where} holds no JSON object", "fetch the checkpoint again.")
    return parsed


def read_header(path: Path) -> dict[str, int]:
    """Name tensors as `read_tensors` does, each with the number of its elements."""
    return {name: math.prod(tensor.shape) for name, tensor in read_tensors(path).items()}


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name tensors as `read_tensors` does, each with its shape."""
    return {name: tensor.shape for name, tensor in read_tensors(path).items()}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Name the tensors of a safetensors file, after checking that the file is all there.

    The format: eight bytes of header length, little-endian; a JSON header with each tensor's offsets; the data.
    https://github.com/huggingface/safetensors#format

    Raises:
        CheckpointError: if the file is missing, cut short, or no safetensors file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
            if header_bytes > min(MAX_HEADER_BYTES, size - 8):
                raise CheckpointError(f"{path} is cut short or no safetensors file", "fetch it again.")
            header = json.loads(file.read(header_bytes))
        header.pop("__metadata__", None)
        begin = 8 + header_bytes
        tensors = {
            name: Tensor(
                path,
                name,
                str(tensor["dtype"]),
                tuple(map(int, tensor["shape"])),
                *(begin + int(offset) for offset in tensor["data_offsets"]),
            )
            for name, tensor in header.items()
        }
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing from the checkpoint", "fetch the checkpoint again.") from None
    except CheckpointError:
        raise
    except (OSError, ValueError, AttributeError, KeyError, TypeError, IndexError):
        raise CheckpointError(f"{path} has no safetensors header", "fetch it again.") from None
    expected = max((tensor.stop for tensor in tensors.values()), default=begin)
    if size != expected:
        raise CheckpointError(f"{path} has {size} bytes where its header promises {expected}", "fetch it again.")
    return tensors


def check_weights(folder: Path, stem: str) -> list[Path]:
    """Check the weights of one component and return the files that will be loaded.

    Args:
        folder: the component's folder.
        stem: `model` for transformers, `diffusion_pytorch_model` for diffusers.

    Raises:
        CheckpointError: if there are none, if they are pickles, or if a shard or a tensor is missing.
    """
    index, single = folder / f"{stem}.safetensors.index.json", folder / f"{stem}.safetensors"
    if index.exists():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"{index} has no weight_map", "fetch the checkpoint again.")
        if any(Path(shard).name != shard for shard in weight_map.values()):
            raise CheckpointError(f"{index} names a file outside its own folder", "don't use this checkpoint.")
        shards = sorted({folder / shard for shard in weight_map.values()})
        held = {shard.name: read_header(shard) for shard in shards}
        for tensor, shard in weight_map.items():
            if tensor not in held[shard]:
                raise CheckpointError(f"{folder / shard} lacks the tensor {tensor}", "fetch it again.")
        return shards
    if single.exists():
        read_header(single)
        return [single]
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
    if pickles:
        raise CheckpointError(
            f"{folder / pickles[0]} is a pickle, which can run code when it is opened", "use safetensors weights."
        )
    raise CheckpointError(f"{folder} has no {stem}.safetensors", "fetch the checkpoint again.")
