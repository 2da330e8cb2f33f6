"""Where a job's models are found: a folder, a hub id, or an `s3://` address, which is fetched into a folder first."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from models.checkpoints import checkpoint as at_hand
from models.checkpoints.checkpoint import Checkpoint, check_kind, glance_at_clip, glance_at_controlnet
from models.files.cache_file import cache_folder
from models.files.layout import ENTRIES
from models.files.safetensors_files import called
from models.transfer.checkpoint_folder import CheckpointFolder
from models.transfer.endpoints import listening
from models.transfer.transfer import transfer
from tasks.checkpoints.stored_checkpoint import StoredCheckpoint
from tasks.stores.opening import is_store_address

Glance = Callable[[Path], object]


def find_checkpoint(model: str, revision: str | None = None, *, pipeline: str = "QwenImagePipeline") -> Checkpoint:
    """Find a checkpoint as `models.checkpoints.checkpoint.find_checkpoint` does, also at an `s3://` address.

    Raises:
        CheckpointError: as there.
        CheckpointUnreachable: if the hub doesn't answer, or there is no room.
        StoreError: if the bucket is out of reach.
    """
    return _find(
        model,
        lambda folder: check_kind(folder, pipeline),
        lambda place: at_hand.find_checkpoint(place, revision, pipeline=pipeline),
    )


def find_clip(model: str, revision: str | None = None) -> Checkpoint:
    """Find a CLIP as `models.checkpoints.checkpoint.find_clip` does, also at an `s3://` address.

    Raises:
        CheckpointError, CheckpointUnreachable, StoreError: as `find_checkpoint`.
    """
    return _find(model, glance_at_clip, lambda place: at_hand.find_clip(place, revision))


def find_controlnet(model: str, revision: str | None, checkpoint: Checkpoint) -> Checkpoint:
    """Find a ControlNet as `models.checkpoints.checkpoint.find_controlnet` does, also at an `s3://` address.

    Raises:
        CheckpointError, CheckpointUnreachable, StoreError: as `find_checkpoint`.
    """
    return _find(
        model,
        lambda folder: glance_at_controlnet(folder, checkpoint.folder),
        lambda place: at_hand.find_controlnet(place, revision, checkpoint),
    )


def _find(model: str, glance: Glance, find: Callable[[str], Checkpoint]) -> Checkpoint:
    if not is_store_address(model):
        return find(model)
    folder = _fetched(model, glance)
    with called(folder, model):
        return replace(find(str(folder)), name=model)


def at_hand_as(model: str) -> str | None:
    """Return what `find_checkpoint` of `models` finds a model by; None for one of a bucket that isn't fetched yet.

    Raises:
        StoreAddressError, StoreError: if the bucket can't be asked.
    """
    if not is_store_address(model):
        return model
    folder = _folder_for(StoredCheckpoint.at(model))
    return str(folder) if _is_whole(folder) else None


def _fetched(address: str, glance: Glance) -> Path:
    """Return the folder of this machine's cache that holds what lies at an address now, fetched if need be."""
    stored = StoredCheckpoint.at(address)
    folder = _folder_for(stored)
    if not _is_whole(folder):
        transfer(stored, CheckpointFolder(folder), listening.get(), glance=glance)
    return folder


def _folder_for(stored: StoredCheckpoint) -> Path:
    """Name the folder by what the bucket lists: other contents get another, and a run keeps what it began with."""
    listing = "".join(sorted(f"{file.path} {file.size} {file.sha256 or file.version}\n" for file in stored.files()))
    return cache_folder() / "checkpoints" / hashlib.sha256(listing.encode()).hexdigest()[:32]


def _is_whole(folder: Path) -> bool:
    return any((folder / entry).exists() for entry in ENTRIES)  # entries come last
