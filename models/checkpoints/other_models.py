"""What a path is that was given as a checkpoint and is none, with what to do about it."""

from __future__ import annotations

from pathlib import Path

from models.files.layout import CLIP, CONTROLNET, PIPELINE
from models.files.safetensors_files import PICKLES, CheckpointError, read_shapes

WANTED = {
    PIPELINE: (
        f"a checkpoint is a folder as diffusers saves it, with {PIPELINE}",
        "give one, or a hub id such as Qwen/Qwen-Image.",
    ),
    CLIP: (f"a CLIP is a folder with {CLIP}", "give one, a hub id, or open_clip's own name of one."),
    CONTROLNET: (
        f"a ControlNet is a folder as diffusers saves it, with {CONTROLNET}",
        "give one, or a hub id such as InstantX/Qwen-Image-ControlNet-Union.",
    ),
}
"""What is wanted and what to do, by the entry of the checkpoint."""
SMALLER = "for less memory, give such a one with precision int8 or nf4"


def refuse_file(path: Path, entry: str) -> None:
    """Refuse a single file where a checkpoint is wanted.

    Raises:
        CheckpointError: always.
    """
    wanted, remedy = WANTED[entry]
    raise CheckpointError(f"{path} is {_kind_of(path)}, and {wanted}", remedy)


def refuse_folder(folder: Path, entry: str) -> None:
    """Refuse a folder that has no entry, and say what it has instead.

    Raises:
        CheckpointError: always.
    """
    names = sorted(path.name for path in folder.iterdir())
    suffixes = {Path(name).suffix for name in names}
    inside = next((name for name in names if (folder / name / entry).is_file()), None)
    if inside is not None:
        raise CheckpointError(f"{folder} has no {entry}, and {inside} in it has one", f"give {folder / inside}.")
    if ".gguf" in suffixes:
        what = "GGUF files, which packshot doesn't read"
    elif suffixes & set(PICKLES):
        what = "pickles, which can run code when they are opened"
    elif ".safetensors" in suffixes:
        what = f"single files of weights ({next(name for name in names if name.endswith('.safetensors'))})"
    else:
        raise CheckpointError(
            f"{folder} holds no checkpoint, or one that was never fetched to its end: {entry} is missing",
            "fetch it with packshot models pull, or check the path.",
        )
    wanted, remedy = WANTED[entry]
    raise CheckpointError(f"{folder} has no {entry}, but {what}: {wanted}", remedy)


def _kind_of(path: Path) -> str:
    with path.open("rb") as file:
        begins = file.read(8)
    if begins.startswith(b"GGUF"):
        return f"a GGUF file, which packshot doesn't read ({SMALLER})"
    if path.suffix in PICKLES:
        return "a pickle, which can run code when it is opened"
    if path.suffix == ".safetensors":
        try:
            names = read_shapes(path)
        except CheckpointError as error:
            return f"no safetensors file that can be read ({str(error).rstrip('.')})"
        if any(".lora" in name or "lora_" in name for name in names):
            return "a LoRA, which is given with --loras beside the model"
        return "a single file of weights, as other programs take them, without settings and tokenizer"
    return "a file"
