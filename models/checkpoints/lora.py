"""LoRA weights: found, pinned and checked before anything is loaded; `models.loading.lora_merge` merges them.

Importing this module doesn't import torch: see `models.checkpoints.checkpoint`.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from models.checkpoints.checkpoint import Checkpoint
from models.files.digest import file_digest
from models.files.quantization_schemes import DIFFUSERS, stored_weights
from models.files.safetensors_files import PICKLES, CheckpointError, NotFetched, read_shapes
from models.transfer.endpoints import listening
from models.transfer.hub_error import in_sentences

EXAMPLE = "lightx2v/Qwen-Image-Lightning@COMMIT:FILE"
HUB_ENTRY = re.compile(r"(?P<repository>\w[\w.-]*/[\w.-]+)(?:@(?P<revision>[^:]*))?(?::(?P<file>.+))?")
OF_TEXT_ENCODER = ("text_encoder", "lora_te")
# A module's tensors, as PEFT, kohya's scripts and diffusers before PEFT name them.
TENSOR = re.compile(
    r"(?P<module>.+)\.(?:(?P<down>lora_A|lora_down|lora\.down)\.weight|(?P<up>lora_B|lora_up|lora\.up)\.weight"
    r"|alpha|lora_B\.bias|lora_magnitude_vector(?:\.weight)?)"
)


@dataclass(frozen=True)
class Lora:
    """A LoRA on disk that has been checked."""

    file: Path
    revision: str  # the SHA-256 of its contents (64 hex digits); of the hub its commit and its file: COMMIT/FILE
    scale: float  # how much of it is merged; 1 is as it was trained
    repository: str | None = None  # the hub id that it comes from

    def __str__(self) -> str:
        return f"{self.file.stem}={self.scale:g}"

    @property
    def is_lightning(self) -> bool:
        """Whether it is one of ModelTC's distillations to a few steps, going by its name."""
        return "lightning" in f"{self.repository}/{self.file.name}".lower()


def find_loras(entries: Sequence[str], checkpoint: Checkpoint) -> tuple[Lora, ...]:
    """Find LoRAs, and check that each is whole, safe to load and made for a transformer such as the checkpoint's.

    Args:
        entries: `FILE.safetensors`, a folder that holds exactly one, or `OWNER/NAME@COMMIT:FILE` of the hub, whose
            `:FILE` may be left out where the repository holds exactly one; each with `=SCALE` after it, or 1.
        checkpoint: whose transformer they are to be merged into.

    Returns:
        those with a scale other than 0, sorted: they add up, so the order in which they are named is to make no other
        pictures, and merging them in one order keeps rounding the same, too.

    Raises:
        CheckpointError: if one isn't there, isn't pinned, isn't whole, is a pickle, or would change anything else than
            this transformer.
    """
    loras = [_find(entry) for entry in entries]
    if loras:
        layers = _linear_layers(checkpoint)
        for lora in loras:
            _check(lora.file, checkpoint, layers)
    return tuple(sorted((lora for lora in loras if lora.scale), key=lambda lora: (lora.revision, lora.scale)))


def split_scale(entry: str) -> tuple[str, str]:
    """Return what an entry names, and the scale after it: `enamel.safetensors=0.8` → `enamel.safetensors`, `0.8`."""
    name, equals, scale = entry.rpartition("=")
    return (name, scale) if equals else (entry, "1")


def _find(entry: str) -> Lora:
    name, number = split_scale(entry)
    scale = _scale(entry, number)
    path = Path(name).expanduser()
    if path.is_dir():
        path = path / _only_one([file.name for file in path.iterdir()], name)
    if path.is_file():
        _refuse_suffix(path.name, name)
        return Lora(path.absolute(), file_digest(path), scale)  # a link keeps its own name
    found = HUB_ENTRY.fullmatch(name)
    if not found or (found["revision"] is None and found["file"] is None):
        raise CheckpointError(
            f"There is no LoRA {name}",
            f"give a safetensors file, a folder, or one of the hub pinned as in {EXAMPLE}.",
            joined=": ",
        )
    repository, revision, wanted = found.groups()
    if not re.fullmatch(r"[0-9a-f]{40}", revision or ""):
        raise CheckpointError(
            f"The LoRA {name} must be pinned",
            f"give a commit of its repository, 40 hex digits, as in {EXAMPLE}; "
            "a branch or tag can change under a running job.",
            joined=": ",
        )
    wanted = wanted or _only_one(_list_repository(repository, revision), name)
    _refuse_suffix(wanted, name)
    return Lora(_fetch(repository, revision, wanted), f"{revision}/{wanted}", scale, repository)


def _scale(entry: str, number: str) -> float:
    try:
        scale = float(number)
    except ValueError:
        scale = math.nan
    if not math.isfinite(scale):
        raise CheckpointError(f"The LoRA {entry} has the scale {number!r}", "give a number after the equals sign.")
    return scale


def _only_one(files: Iterable[str], name: str) -> str:
    """The one safetensors file among files."""
    files = sorted(files)
    weights = [file for file in files if file.endswith(".safetensors")]
    if len(weights) == 1:
        return weights[0]
    if weights:
        raise CheckpointError(f"{name} holds {len(weights)} safetensors files", "name the one that is the LoRA.")
    pickles = [file for file in files if file.endswith(PICKLES)]
    if pickles:
        _refuse_suffix(pickles[0], name)
    raise CheckpointError(f"{name} holds no safetensors file", "give a LoRA in safetensors.")


def _refuse_suffix(file: str, name: str) -> None:
    if file.endswith(PICKLES):
        raise CheckpointError(
            f"The LoRA {name} is a pickle ({file}), which can run code when it is opened", "give one in safetensors."
        )
    if not file.endswith(".safetensors") or ".." in PurePosixPath(file).parts or file.startswith("/"):
        raise CheckpointError(f"The LoRA {name} is no safetensors file", "give one in safetensors.")


def _list_repository(repository: str, revision: str) -> list[str]:
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    from models.transfer.hub_client import patient_hub

    if not constants.HF_HUB_OFFLINE:
        with patient_hub(listening.get()), in_sentences(repository, repository, revision):
            return HfApi().list_repo_files(repository, revision=revision)
    try:
        folder = Path(snapshot_download(repository, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        raise _out_of_reach(repository, revision) from None
    return [file.relative_to(folder).as_posix() for file in folder.rglob("*")]


def _fetch(repository: str, revision: str, file: str) -> Path:
    """A file of the hub, from its cache if it is there, else downloaded."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    from models.transfer.hub_client import patient_hub

    try:
        return Path(hf_hub_download(repository, file, revision=revision, local_files_only=True))
    except EntryNotFoundError:
        if constants.HF_HUB_OFFLINE:
            raise _out_of_reach(f"{file} of {repository}", revision) from None
    with patient_hub(listening.get()), in_sentences(f"{file} of {repository}", repository, revision):
        return Path(hf_hub_download(repository, file, revision=revision))


def _out_of_reach(what: str, revision: str) -> NotFetched:
    return NotFetched(
        f"{what} at {revision} isn't in the hub's cache and HF_HUB_OFFLINE is set",
        "fetch it where the hub can be reached.",
    )


def _flat(module: str) -> str:
    """A module's name as kohya's scripts write it, dots as underscores, so that every naming compares."""
    return module.replace(".", "_")


def _linear_layers(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    """The transformer's linear layers, from its headers: flat name → shape [out, in] of its weight."""
    return {
        _flat(name.removesuffix(".weight")): stored.shape
        for name, stored in stored_weights(checkpoint.folder / "transformer", DIFFUSERS).items()
        if name.endswith(".weight") and len(stored.shape) == 2
    }


def prefixed(names: Iterable[str]) -> bool:
    """Say whether a LoRA names its tensors as diffusers does and has alphas, too.

    diffusers (0.42.1) takes such names for another format, and puts its own prefix before theirs.
    """
    names = list(names)
    return any(name.endswith(".alpha") for name in names) and all(name.startswith("transformer.") for name in names)


def _module_name(name: str) -> str:
    for prefix in ("transformer.", "diffusion_model.", "lora_unet_"):
        name = name.removeprefix(prefix)
    return name.replace("default.", "")


def _check(file: Path, checkpoint: Checkpoint, layers: dict[str, tuple[int, ...]]) -> None:
    """Check that a LoRA's tensors are pairs for layers of this transformer, and that there is nothing else."""
    downs: dict[str, tuple[int, ...]] = defaultdict(tuple)
    ups: dict[str, tuple[int, ...]] = defaultdict(tuple)
    others = set()
    for name, (key, shape) in _loaded_names(file).items():
        found = TENSOR.fullmatch(key)
        if found is None:
            raise CheckpointError(
                f"{file} holds {name}, which is no part of a LoRA that diffusers merges", "use another."
            )
        if found["down"]:
            downs[found["module"]] = shape
        elif found["up"]:
            ups[found["module"]] = shape
        else:
            others.add(found["module"])
    if not downs and not ups:
        raise CheckpointError(f"{file} holds no LoRA", "give one that was trained on the transformer.")
    for module in sorted({*downs, *ups, *others}):
        layer, down, up = layers.get(_flat(module)), downs[module], ups[module]
        if layer is None:
            raise CheckpointError(
                f"{file} is a LoRA for another model: it changes {module}, and {checkpoint.name} has no such layer."
            )
        if len(down) != 2 or len(up) != 2 or down[0] != up[1]:
            raise CheckpointError(f"{file} has no pair of matrices that fit each other for {module}", "fetch it again.")
        if (up[0], down[1]) != layer:
            raise CheckpointError(
                f"{file} is a LoRA for another model: it changes {module} as a layer of {up[0]} × {down[1]}, "
                f"and in {checkpoint.name} it is {' × '.join(map(str, layer))}."
            )


def _loaded_names(file: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """A LoRA's tensors by name, each with its name in the transformer as diffusers will read it, and its shape.

    diffusers 0.42.1 puts other formats than its own, which it tells by the marks below, into its own; of what is left
    it loads only what begins with `transformer.`, and drops the rest without an error.
    """
    shapes = read_shapes(file)
    of_text = next((name for name in shapes if name.startswith(OF_TEXT_ENCODER)), None)
    if of_text is not None:
        raise CheckpointError(
            f"{file} also changes the text encoder ({of_text}), which packshot leaves as it is",
            "give a LoRA of the transformer alone.",
        )
    if any(
        name.endswith(".alpha") or name.startswith(("lora_unet_", "diffusion_model.")) or "default." in name
        for name in shapes
    ):
        return {name: (_module_name(name), shape) for name, shape in shapes.items()}
    stray = next((name for name in shapes if not name.startswith("transformer.")), None)
    if stray is not None:
        raise CheckpointError(
            f"{file} holds {stray}, which diffusers doesn't read as a LoRA of this transformer",
            "give one in the format of QwenImagePipeline.save_lora_weights or of kohya's scripts.",
        )
    return {name: (name.removeprefix("transformer."), shape) for name, shape in shapes.items()}
