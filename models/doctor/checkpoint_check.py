"""Whether what a job loads is on this machine, whole and of the right kind.

Nothing is fetched, and of a checkpoint nothing but headers is read: its contents would take minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from models.checkpoints.checkpoint import Checkpoint, declared_pipeline, find_checkpoint, find_clip, find_controlnet
from models.checkpoints.lora import Lora, find_loras
from models.files.safetensors_files import CheckpointError, NotFetched
from models.finding import Finding
from models.pipelines import PIPELINES, does_work_of

Found = TypeVar("Found")


def check_model(
    model: str, revision: str | None, pipeline: str, *, name: str = "checkpoint"
) -> tuple[Finding, Checkpoint | None]:
    """Say whether a job's checkpoint, or another model of a name, can be opened, and return it if so."""
    kind = declared_pipeline(model, revision)
    if kind is not None and not does_work_of(pipeline, kind):
        remedy = PIPELINES[pipeline].remedy
        do = f"{remedy[0].upper()}{remedy[1:]}."
        found = f"{model} is a {kind} where a {pipeline} is needed."
        return Finding.failed(name, found, do, "request"), None

    def find() -> tuple[Checkpoint, str]:
        checkpoint = find_checkpoint(model, revision, pipeline=pipeline, hashed=False)
        called = "The miniature" if model == "miniature" else model
        return checkpoint, f"{called} is whole: {_size(checkpoint.folder)} of weights."

    return _look(name, f"{model} at {revision}", find)


def check_loras(entries: Sequence[str], checkpoint: Checkpoint) -> Finding:
    """Say whether a job's LoRAs can be merged into its checkpoint."""

    def find() -> tuple[tuple[Lora, ...], str]:
        loras = find_loras(entries, checkpoint)
        return loras, f"What is merged fits the model: {', '.join(map(str, loras)) or 'none, by their scales'}."

    return _look("LoRAs", "A LoRA of the job", find)[0]


def check_controlnet(controlnet: str, revision: str | None, checkpoint: Checkpoint) -> Finding:
    """Say whether a job's ControlNet can be opened and is for its checkpoint."""

    def find() -> tuple[Checkpoint, str]:
        found = find_controlnet(controlnet, revision, checkpoint)
        return found, f"{controlnet} is whole and fits the model: {_size(found.folder)} of weights."

    return _look("ControlNet", f"{controlnet} at {revision}", find)[0]


def controlnet_of(controlnet: str, revision: str | None, checkpoint: Checkpoint) -> Checkpoint | None:
    """Return a job's ControlNet, if it can be opened without fetching anything."""

    def find() -> tuple[Checkpoint, str]:
        return find_controlnet(controlnet, revision, checkpoint), ""

    return _look("ControlNet", controlnet, find)[1]


def check_clip(clip: str, revision: str | None) -> Finding:
    """Say whether the CLIP that judges can be opened."""

    def find() -> tuple[Checkpoint, str]:
        found = find_clip(clip, revision)
        called = "The miniature's own" if clip == "miniature" else clip
        return found, f"{called} is whole: {_size(found.folder)} of weights."

    return _look("CLIP", f"{clip} at {revision}", find)[0]


def _look(name: str, on_hub: str, find: Callable[[], tuple[Found, str]]) -> tuple[Finding, Found | None]:
    with _fetching_nothing() as was_offline:
        try:
            found, sentence = find()
        except NotFetched:
            absent = f"{on_hub} isn't whole on this machine"
            if was_offline:
                do = "Unset HF_HUB_OFFLINE, or bring it into the hub's cache from a machine that reaches the hub."
                return Finding.failed(name, f"{absent}, and HF_HUB_OFFLINE is set.", do, "request"), None
            do = "Nothing, if the hub can be reached then; else fetch it before."
            return Finding.warning(name, f"{absent}: the first run fetches it.", do), None
        except CheckpointError as error:
            return Finding.refused(name, error, "Give another.", fault="request"), None
    return Finding.ok(name, sentence), found


@contextmanager
def _fetching_nothing() -> Iterator[bool]:
    """Have the hub's library take what is on this machine alone; gives whether it was to do that anyway."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield before
    finally:
        constants.HF_HUB_OFFLINE = before


def _size(folder: Path) -> str:
    size = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
