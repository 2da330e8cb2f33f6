"""How checkpoints lie in a folder, on a hub or in a bucket: an entry, and the files that it stands for."""

from collections.abc import Callable, Collection
from pathlib import PurePosixPath
from typing import Any

from models.files.inventory import INVENTORY
from models.files.safetensors_files import PICKLES, CheckpointError
from models.pipelines import CONTROLNET_CLASS, PIPELINES, TEXT_TO_IMAGE

Read = Callable[[str], dict[str, Any]]

PIPELINE, CLIP, CONTROLNET = "model_index.json", "open_clip_config.json", "config.json"
"""The entries: the file that makes a folder a checkpoint of this kind."""
ENTRIES = (PIPELINE, CLIP, CONTROLNET)
SETTINGS = (
    ".json",
    ".txt",
    ".model",
    ".jinja",
)  # suffixes of what tokenizers, schedulers and models read beside weights
CLIP_WEIGHTS = (  # in open_clip's own order, so that a pickle it would prefer is seen (open_clip 3.3)
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
)


def needed(paths: Collection[str], read: Read, where: str) -> list[str]:
    """Choose from a listing the files that a checkpoint is loaded from; its entry comes last.

    Args:
        paths: of all files, relative to the checkpoint.
        read: gives the content of one of them that is a JSON object.
        where: what a sentence calls the checkpoint.

    Raises:
        CheckpointError: if it is none that packshot uses, lacks weights, or has them as pickles only.
    """
    if PIPELINE in paths:
        return [*_of_pipeline(paths, read, where), PIPELINE]
    settings = [path for path in sorted(paths) if "/" not in path and path.endswith(SETTINGS) and path != INVENTORY]
    if CLIP in paths:
        weights = next((name for name in CLIP_WEIGHTS if name in paths), None)
        if weights is None or weights.endswith(PICKLES):
            raise CheckpointError(f"{where} has no open_clip_model.safetensors", "give a CLIP in safetensors.")
        return [*(path for path in settings if path != CLIP), weights, CLIP]
    if CONTROLNET in paths and read(CONTROLNET).get("_class_name") == CONTROLNET_CLASS:
        return [*_weights(paths, read, "", "diffusion_pytorch_model", where), CONTROLNET]
    raise CheckpointError(
        f"{where} is no checkpoint of diffusers, for it has no {PIPELINE}", "give one such as Qwen/Qwen-Image."
    )


def components(index: dict[str, Any], where: str) -> dict[str, tuple[str, str]]:
    """Return the components that model_index.json names: its folder → library, class.

    Raises:
        CheckpointError: if one is loaded from elsewhere than diffusers and transformers.
    """
    found = {}
    for component, declared in sorted(index.items()):
        if component.startswith("_") or not isinstance(declared, list) or None in declared or len(declared) != 2:
            continue
        library, class_name = declared
        if library not in ("diffusers", "transformers"):
            raise CheckpointError(
                f"{where} loads {component} from {library}, code that would come with the checkpoint",
                "use a checkpoint of diffusers and transformers classes alone.",
            )
        found[component] = (library, str(class_name))
    return found


def stem(library: str, class_name: str) -> str | None:
    """Return what the weights of a component are called, without their suffix; None for those that have none."""
    if any(kind in class_name for kind in ("Tokenizer", "Scheduler", "Processor")):
        return None
    return "model" if library == "transformers" else "diffusion_pytorch_model"


def _of_pipeline(paths: Collection[str], read: Read, where: str) -> list[str]:
    index = read(PIPELINE)
    if (found := index.get("_class_name")) not in PIPELINES:
        raise CheckpointError(f"{where} is a {found}, which packshot doesn't use", f"{TEXT_TO_IMAGE.remedy}.")
    chosen = ["sampling_config.json"] if "sampling_config.json" in paths else []
    for component, (library, class_name) in components(index, f"{where}'s {PIPELINE}").items():
        chosen += sorted(path for path in paths if path.startswith(f"{component}/") and path.endswith(SETTINGS))
        weights = stem(library, class_name)
        if weights is not None:
            chosen += _weights(paths, read, f"{component}/", weights, where)
    return chosen


def _weights(paths: Collection[str], read: Read, folder: str, name: str, where: str) -> list[str]:
    index, single = f"{folder}{name}.safetensors.index.json", f"{folder}{name}.safetensors"
    if index in paths:
        weight_map = read(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"{where} has no weight_map in {index}", "give another checkpoint or revision.")
        shards = sorted({f"{folder}{shard}" for shard in weight_map.values()})
        missing = [shard for shard in shards if shard not in paths]
        if missing:
            raise CheckpointError(
                f"{where} lacks {missing[0]}, which {index} names", "give another checkpoint or revision."
            )
        return [index, *shards] if not folder else shards  # a component's index is among its settings
    if single in paths:
        return [single]
    pickled = any(path.startswith(folder) and PurePosixPath(path).suffix in PICKLES for path in paths)
    why = "has only pickles, which can run code when they are opened," if pickled else "has no weights"
    raise CheckpointError(f"{where} {why} where {single} should be", "give a checkpoint in safetensors.")
