"""open_clip's own names for its models: `ViT-B-16-SigLIP2/webli` is a repository of the hub."""

from importlib.util import find_spec
from pathlib import Path

from models.files.safetensors_files import CheckpointError

SHOWN = 8  # weights that a sentence names


def repository_of(model: str) -> str:
    """Return the hub id that a model is found under: that of open_clip's register for `ARCHITECTURE/WEIGHTS`, else
    `model`.

    open_clip, and with it torch, is imported only where the first half is an architecture of its.

    Raises:
        CheckpointError: if open_clip has the architecture and not these weights, or has them outside the hub.
    """
    architecture, _, weights = model.partition("/")
    if not weights or not _has_architecture(architecture):
        return model
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    known = list_pretrained_tags_by_model(architecture)
    if weights not in known:
        some = f"{', '.join(known[:SHOWN])}{', …' if len(known) > SHOWN else ''}" or "none"
        raise CheckpointError(f"open_clip knows no weights {weights!r} of {architecture}", f"it knows {some}.")
    owner, _, rest = get_pretrained_cfg(architecture, weights).get("hf_hub", "").partition("/")
    name = rest.partition("/")[0]  # behind it may stand a file's name
    if not name:
        raise CheckpointError(
            f"open_clip has {model} as a pickle outside the hub, which can run code when it is opened",
            f"give other weights of {architecture}, or a folder with open_clip_model.safetensors.",
        )
    return f"{owner}/{name}"


def _has_architecture(name: str) -> bool:
    package = find_spec("open_clip")  # imports nothing
    folders = (package and package.submodule_search_locations) or ()
    plain = bool(name) and "." not in name[:1] and "\\" not in name
    return plain and any((Path(folder) / "model_configs" / f"{name}.json").is_file() for folder in folders)
