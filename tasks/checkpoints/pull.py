"""Pull a checkpoint of a hub or a bucket to where machines share it: `packshot models pull`."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from models.checkpoints.clip_names import repository_of
from models.files.inventory import Inventory
from models.files.safetensors_files import CheckpointError
from models.transfer.checkpoint_folder import CheckpointFolder
from models.transfer.endpoints import Destination, Listener, Source, silent
from models.transfer.hub import HubSource, is_hub_id, pinned
from models.transfer.transfer import transfer
from tasks.checkpoints.stored_checkpoint import StoredCheckpoint
from tasks.stores.opening import is_store_address


def pull(model: str, revision: str | None, to: str, listener: Listener = silent) -> Inventory:
    """Bring a checkpoint of a hub or a bucket whole to a folder or a bucket, or go on with what an earlier pull began.

    Args:
        model: a hub id, open_clip's name for one, or an `s3://` address.
        revision: the commit of a hub id.
        to: a folder, or an `s3://` address.
        listener: is told how it gets on.

    Raises:
        CheckpointError: if there is no such checkpoint, or another one where this is to go.
        CheckpointUnreachable: if the hub doesn't answer, or there is no room.
        StoreError, StoreAddressError: if a bucket is out of reach, or no address is one.
    """
    given_up = threading.Event()
    with contextlib.ExitStack() as stack:
        source: Source
        if is_store_address(model):
            source = StoredCheckpoint.at(model)
        else:
            source = _repository(model, revision)
            from models.transfer.hub_client import patient_hub  # imports huggingface_hub

            stack.enter_context(patient_hub(listener, given_up))
        destination: Destination = (
            StoredCheckpoint.at(to) if is_store_address(to) else CheckpointFolder(Path(to).expanduser().absolute())
        )
        return transfer(source, destination, listener, given_up=given_up)


def _repository(model: str, revision: str | None) -> HubSource:
    if not is_hub_id(model):
        raise CheckpointError(f"{model} is no hub id such as Qwen/Qwen-Image, and no s3:// address", "check it.")
    repository = repository_of(model)
    return HubSource(repository, pinned(repository, revision))
