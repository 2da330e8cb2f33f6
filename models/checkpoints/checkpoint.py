"""Checkpoints: found, pinned and checked before anything is loaded.

Importing this module doesn't import torch: a command that finds nothing to do should be over in a moment.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from models.checkpoints.clip_names import repository_of
from models.checkpoints.clip_settings import check_text_tower, read_settings
from models.checkpoints.other_models import refuse_file, refuse_folder
from models.files.digest import digest
from models.files.inventory import INVENTORY, read_inventory
from models.files.layout import CLIP, CLIP_WEIGHTS, CONTROLNET, PIPELINE, components, stem
from models.files.quantization_schemes import DIFFUSERS, TRANSFORMERS, stored_weights
from models.files.safetensors_files import PICKLES, CheckpointError, check_weights, read_header, read_json
from models.pipelines import CONTROLNET_CLASS, EDIT_PLUS, LAYERED, PIPELINES, TEXT_TO_IMAGE, Pipeline, does_work_of
from models.requests import (
    QWEN_IMAGE_DEFAULTS,
    QWEN_IMAGE_LAYERED_DEFAULTS,
    EditDefaults,
    LayersDefaults,
    SamplingDefaults,
    Workload,
)
from models.transfer.hub import is_hub_id, pinned
from models.transfer.hub_cache import snapshot

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "EditDefaults",
    "LayersDefaults",
    "SamplingDefaults",
    "edit_defaults",
    "find_checkpoint",
    "find_clip",
    "find_controlnet",
    "layers_defaults",
    "sampling_defaults",
    "weight_files",
]

Defaults = TypeVar("Defaults", bound=SamplingDefaults | LayersDefaults | EditDefaults)

MINIATURE = Path(__file__).parents[1] / "miniature" / "weights"
# The sizes in which a ControlNet must be as its transformer, with the defaults of diffusers' classes (0.42.1).
JOINT_SIZES = {"in_channels": 64, "joint_attention_dim": 3584}
INNER_SIZES = {"num_attention_heads": 24, "attention_head_dim": 128}  # their product is the width of every block


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk that has been checked."""

    name: str  # as it was asked for
    folder: Path
    revision: str  # the hub's commit (40 hex digits), or the SHA-256 of the contents (64); "" if that isn't hashed


def find_checkpoint(
    model: str, revision: str | None = None, *, pipeline: str = TEXT_TO_IMAGE.name, hashed: bool = True
) -> Checkpoint:
    """Find the checkpoint of a diffusers pipeline, and check that it is whole and safe to load.

    Args:
        model: `miniature`, a folder, or a hub id such as `Qwen/Qwen-Image`.
        revision: the commit of a hub id, 40 hex digits; or, for a folder, the revision that it must have.
        pipeline: the class that its model_index.json must name, or one that is alike: see `models.pipelines.Pipeline`.
        hashed: read a folder's contents for its revision, which takes minutes at 60 GB and is remembered; if not, its
            headers are all that is read, and it isn't compared with `revision`.

    Raises:
        CheckpointError: if it isn't there, isn't pinned, isn't whole, holds pickles or is another kind of model.
    """
    if model == "miniature":
        model_folder: Path | None = MINIATURE / PIPELINES[pipeline].miniature
    else:
        model_folder = None
    return _find(
        model,
        model_folder,
        revision,
        PIPELINE,
        lambda folder: check_kind(folder, pipeline),
        lambda folder: _check_pipeline(folder, pipeline),
        hashed=hashed,
    )


def declared_pipeline(model: str, revision: str | None) -> str | None:
    """Return the class that a checkpoint's model_index.json names, where it is on this machine and can be read."""
    index: object = Path(model).expanduser() / PIPELINE
    if not Path(model).expanduser().is_dir() and is_hub_id(model):
        from huggingface_hub import try_to_load_from_cache

        index = try_to_load_from_cache(model, PIPELINE, revision=revision)
    if not isinstance(index, str | Path) or not Path(index).is_file():
        return None
    try:
        name = read_json(Path(index)).get("_class_name")
    except CheckpointError:
        return None  # whoever opens it says what is wrong
    return name if isinstance(name, str) else None


def find_clip(model: str, revision: str | None = None) -> Checkpoint:
    """Find an open_clip checkpoint: `miniature`, a folder with open_clip_config.json, a hub id, or open_clip's own name
    for one of the hub: `ViT-B-16-SigLIP2/webli`.

    Raises:
        CheckpointError: as `find_checkpoint`.
    """
    bundled = MINIATURE / "clip" if model == "miniature" else None
    place = model if bundled or Path(model).expanduser().is_dir() else repository_of(model)
    return replace(_find(place, bundled, revision, CLIP, glance_at_clip, _check_clip), name=model)


def find_controlnet(model: str, revision: str | None, checkpoint: Checkpoint) -> Checkpoint:
    """Find a ControlNet, and check that it is whole, safe to load, and made for the transformer of `checkpoint`.

    Args:
        model: a folder that diffusers saved, or a hub id such as `InstantX/Qwen-Image-ControlNet-Union`.
        revision: as of `find_checkpoint`.
        checkpoint: the Qwen-Image that it is to steer.

    Raises:
        CheckpointError: as `find_checkpoint`, or if it is for inpainting or for another transformer.
    """
    return _find(
        model,
        None,
        revision,
        CONTROLNET,
        lambda folder: glance_at_controlnet(folder, checkpoint.folder),
        lambda folder: _check_controlnet(folder, checkpoint.folder),
    )


def sampling_defaults(checkpoint: Checkpoint) -> SamplingDefaults:
    """Return the sampling settings the checkpoint asks for in sampling_config.json, else those of Qwen-Image's model
    card.

    Raises:
        CheckpointError: if sampling_config.json gives width, height, steps or guidance as something else than a number.
    """
    return _own_settings(checkpoint, QWEN_IMAGE_DEFAULTS)


def layers_defaults(checkpoint: Checkpoint) -> LayersDefaults:
    """Return the sampling settings as of `sampling_defaults`, of a layered checkpoint and Qwen-Image-Layered's model
    card.

    Raises:
        CheckpointError: if sampling_config.json gives layers, resolution, steps, guidance or cfg_normalize as something
            else than a number or a truth value.
    """
    return _own_settings(checkpoint, QWEN_IMAGE_LAYERED_DEFAULTS)


def edit_defaults(checkpoint: Checkpoint) -> EditDefaults:
    """Return the sampling settings as of `sampling_defaults`, of a checkpoint that edits and its model card.

    Raises:
        CheckpointError: as `layers_defaults`; or if the checkpoint edits nothing.
    """
    pipeline = pipeline_of(checkpoint)
    if not isinstance(pipeline.defaults, EditDefaults):
        raise CheckpointError(f"{checkpoint.name} is a {pipeline.name}", f"{EDIT_PLUS.remedy}.")
    return _own_settings(checkpoint, pipeline.defaults)


def own_workload(checkpoint: Checkpoint, pipeline: Pipeline) -> Workload:
    """Return what a row takes that a checkpoint of `pipeline` makes if nobody says otherwise.

    Raises:
        CheckpointError: as `sampling_defaults`.
    """
    return _own_settings(checkpoint, pipeline.defaults).workload


def pipeline_of(checkpoint: Checkpoint) -> Pipeline:
    """Return the pipeline that a checkpoint is for.

    Raises:
        CheckpointError: if it is for none that packshot knows.
    """
    name = str(read_json(checkpoint.folder / PIPELINE).get("_class_name"))
    if name not in PIPELINES:
        raise CheckpointError(f"{checkpoint.name} is a {name}, which packshot doesn't use", f"{TEXT_TO_IMAGE.remedy}.")
    return PIPELINES[name]


def _own_settings(checkpoint: Checkpoint, card: Defaults) -> Defaults:
    path = checkpoint.folder / "sampling_config.json"
    if not path.exists():
        return card
    config = read_json(path)
    settings = {name: value for name, value in vars(card).items() if name != "source"}
    try:
        own = {name: type(value)(config.get(name, value)) for name, value in settings.items()}
    except (TypeError, ValueError):
        raise CheckpointError(f"{path} must give {', '.join(settings)} as numbers.") from None
    return replace(card, **own, source=f"sampling_config.json of {checkpoint.name}")


def size_multiple(checkpoint: Checkpoint) -> int:
    """Return what widths and heights must be multiples of, in pixels: a latent's side, times the transformer's patch of
    two.

    16 for Qwen-Image: its VAE halves the sides once for each entry of temperal_downsample, as the pipeline counts too.
    """
    levels = read_json(checkpoint.folder / "vae" / "config.json").get("temperal_downsample", [False, True, True])
    return int(2 * 2 ** len(levels))


def weight_files(checkpoint: Checkpoint, controlnet: Checkpoint | None = None) -> list[Path]:
    """Return the files of a pipeline's weights, in the order in which they are loaded.

    Raises:
        CheckpointError: as `models.files.safetensors_files.check_weights`.
    """
    return [
        *check_weights(checkpoint.folder / "text_encoder", TRANSFORMERS),
        *check_weights(checkpoint.folder / "transformer", DIFFUSERS),
        *check_weights(checkpoint.folder / "vae", DIFFUSERS),
        *(check_weights(controlnet.folder, DIFFUSERS) if controlnet else []),
    ]


def writes_captions(checkpoint: Checkpoint) -> bool:
    """Say whether its text encoder can see pictures and caption them: then model_index.json names a processor for them.

    Qwen-Image-Layered's does; a checkpoint whose text encoder only reads, such as the miniature's, leaves it null. Its
    pictures are decomposed with the captions that they come with, and those that have none with an empty one.
    """
    index = read_json(checkpoint.folder / PIPELINE)
    library, _ = index.get("processor") or (None, None)
    return index.get("_class_name") == LAYERED.name and library is not None


def sees_pictures(checkpoint: Checkpoint) -> bool:
    """Say whether a checkpoint's text encoder reads what it is told beside pictures."""
    return pipeline_of(checkpoint).most_pictures > 0


def check_condition_cache(checkpoint: Checkpoint, every: int) -> None:
    """Refuse to compute condition pictures at every so many steps alone where they are another step by step.

    Raises:
        CheckpointError: if `every` is more than 1, and the transformer doesn't modulate condition pictures as at
            timestep 0.
    """
    if every > 1 and not read_json(checkpoint.folder / "transformer" / "config.json").get("zero_cond_t"):
        raise CheckpointError(
            f"condition_cache is {every}, but the transformer of {checkpoint.name} modulates condition pictures anew "
            "at every step, without zero_cond_t",
            "leave condition_cache out, or use a checkpoint such as Qwen/Qwen-Image-Edit-2511.",
        )


def _find(
    model: str,
    bundled: Path | None,
    revision: str | None,
    entry: str,
    glance: Callable[[Path], object],
    check: Callable[[Path], list[Path]],
    *,
    hashed: bool = True,
) -> Checkpoint:
    folder = bundled or Path(model).expanduser()
    begun = read_inventory(folder) if not (folder / entry).exists() else None
    if begun is not None:
        again = f"{begun.origin} --revision {begun.revision}" if begun.revision else begun.origin
        raise CheckpointError(
            f"{model} holds {begun} in part", f"go on with packshot models pull {again} --to {model}."
        )
    if folder.is_file():
        refuse_file(folder, entry)
    if folder.is_dir() and not bundled and not (folder / entry).exists() and not is_hub_id(model):
        refuse_folder(folder, entry)
    if folder.is_dir() and (bundled or (folder / entry).exists() or not is_hub_id(model)):
        if not hashed:
            check(folder)
            return Checkpoint(model, folder.resolve(), "")
        actual = digest(folder, check(folder))
        if revision is not None and revision != actual:
            raise CheckpointError(f"{model} has the contents {actual}, not the revision {revision} that was asked for.")
        return Checkpoint(model, folder.resolve(), actual)
    if bundled:
        raise CheckpointError(
            f"The miniature's weights are missing from {bundled}",
            "name a checkpoint with --model, or install packshot again.",
        )
    if not is_hub_id(model):
        raise CheckpointError(f"{model} is no folder and no hub id such as Qwen/Qwen-Image", "check the path.")
    commit = pinned(model, revision)
    return Checkpoint(model, snapshot(model, commit, entry, glance, check), commit)


def check_folder(folder: Path) -> list[Path]:
    """Check a checkpoint of whichever kind, and return the files that decide what it makes.

    Raises:
        CheckpointError: if it isn't whole or safe to load, or is none that packshot uses.
    """
    if (folder / PIPELINE).exists():
        found = read_json(folder / PIPELINE).get("_class_name")
        return _check_pipeline(folder, found if found in PIPELINES else TEXT_TO_IMAGE.name)
    if (folder / CLIP).exists():
        return _check_clip(folder)
    if (folder / CONTROLNET).exists():
        return _check_controlnet(folder, None)
    raise CheckpointError(
        f"{folder} holds no checkpoint, or one that was never fetched to its end: {PIPELINE} is missing",
        "fetch it with packshot models pull.",
    )


def check_kind(folder: Path, pipeline: str) -> dict[str, Any]:
    """Check that a diffusers folder holds a checkpoint that does the work of `pipeline`; return its model_index.json.

    Raises:
        CheckpointError: if it is another kind of model.
    """
    index = read_json(folder / PIPELINE)
    found = index.get("_class_name")
    if not does_work_of(pipeline, found):
        raise CheckpointError(f"{folder} is a {found} where a {pipeline} is needed", f"{PIPELINES[pipeline].remedy}.")
    return index


def _check_pipeline(folder: Path, pipeline: str) -> list[Path]:
    """Check a diffusers folder and return the files that decide its pictures."""
    index = check_kind(folder, pipeline)
    files = [folder / PIPELINE]
    for component, (library, class_name) in components(index, str(folder / PIPELINE)).items():
        part = folder / component
        read_json(part / _config_name(part, class_name))
        weights = stem(library, class_name)
        if weights is not None:
            stored_weights(part, weights)
        files += (file for file in part.rglob("*") if file.is_file() and file.suffix not in (*PICKLES, ".md"))
    return files


def _config_name(part: Path, class_name: str) -> str:
    if "Tokenizer" in class_name:
        return "tokenizer_config.json"
    if "Scheduler" in class_name:
        return "scheduler_config.json"
    if "Processor" in class_name:  # transformers 5 writes the second name and reads both
        older, newer = "preprocessor_config.json", "processor_config.json"
        return newer if (part / newer).exists() else older
    return "config.json"


def glance_at_controlnet(folder: Path, model_folder: Path | None) -> None:
    """Check a ControlNet by its config.json alone, also against the model that it is to steer, where one is given.

    Raises:
        CheckpointError: if it is another kind of model, or made for another one.
    """
    path = folder / CONTROLNET
    config = read_json(path)
    if (found := config.get("_class_name")) != CONTROLNET_CLASS:
        raise CheckpointError(
            f"{folder} is a {found} where a {CONTROLNET_CLASS} is needed",
            "give a ControlNet such as InstantX/Qwen-Image-ControlNet-Union.",
        )
    if config.get("extra_condition_channels", 0) != 0:
        raise CheckpointError(
            f"{folder} is a ControlNet for inpainting, which reads a mask beside the picture, and no manifest has one",
            "give a ControlNet without extra_condition_channels.",
        )
    if model_folder is None:
        return
    transformer = model_folder / "transformer" / "config.json"
    sizes, needed = _block_sizes(path, config), _block_sizes(transformer, read_json(transformer))
    for name, size in sizes.items():
        if size != needed[name]:
            raise CheckpointError(
                f"{folder} has {name} {size} where the transformer of {model_folder} has {needed[name]}",
                "give a ControlNet that was trained for this checkpoint.",
            )


def _check_controlnet(folder: Path, model_folder: Path | None) -> list[Path]:
    """Check a ControlNet's folder and return the files that decide its work."""
    glance_at_controlnet(folder, model_folder)
    stored_weights(folder, DIFFUSERS)
    return [folder / CONTROLNET, *check_weights(folder, DIFFUSERS)]


def _block_sizes(path: Path, config: dict[str, Any]) -> dict[str, int]:
    """What a ControlNet and its transformer must share, by name."""
    try:
        sizes = {name: int(config.get(name, size)) for name, size in JOINT_SIZES.items()}
        inner = math.prod(int(config.get(name, size)) for name, size in INNER_SIZES.items())
    except (TypeError, ValueError):
        raise CheckpointError(f"{path} must give {', '.join((*JOINT_SIZES, *INNER_SIZES))} as numbers.") from None
    return {**sizes, "inner_dim": inner}


def glance_at_clip(folder: Path) -> None:
    """Check a CLIP by its open_clip_config.json alone.

    Raises:
        CheckpointError: if it is another kind of model, or asks for what isn't in the checkpoint.
    """
    read_settings(folder)


def _check_clip(folder: Path) -> list[Path]:
    check_text_tower(folder, read_settings(folder))
    weights = clip_weights(folder)
    read_header(weights)
    others = (file for file in folder.iterdir() if file.suffix in (".json", ".txt", ".model"))
    return [weights, *(file for file in others if file.is_file() and file.name != INVENTORY)]


def clip_weights(folder: Path) -> Path:
    """Return the weights that open_clip loads from `folder`.

    Raises:
        CheckpointError: if there are none, or if they are a pickle.
    """
    for name in CLIP_WEIGHTS:
        if (path := folder / name).exists():
            if path.suffix in PICKLES:
                raise CheckpointError(
                    f"{path} is a pickle, which can run code when it is opened", "use open_clip_model.safetensors."
                )
            return path
    raise CheckpointError(f"{folder} has no open_clip_model.safetensors", "fetch the checkpoint again.")
