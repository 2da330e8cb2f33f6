"""Checkpoints of a hub in the hub's own cache (HF_HOME), which every tool of Hugging Face shares."""

import re
from collections.abc import Callable
from pathlib import Path

from models.files.safetensors_files import CheckpointError, CheckpointUnreachable, NotFetched, called
from models.transfer.endpoints import RemoteFile, listening
from models.transfer.hub_error import in_sentences
from models.transfer.transfer import TRIES

SNAPSHOT = ["*.json", "*.txt", "*.model", "*.jinja", "*.safetensors"]  # no pickles, no code


def snapshot(
    model: str, revision: str, entry: str, glance: Callable[[Path], object], check: Callable[[Path], object]
) -> Path:
    """Return the snapshot of a hub id, from the hub's cache if it is whole there, else downloaded and compared.

    Args:
        model: the hub id.
        revision: a commit.
        entry: the file that makes it a checkpoint.
        glance: raises CheckpointError for a snapshot whose entry says that it is another kind of checkpoint; called
            before anything else is downloaded.
        check: raises CheckpointError for one that isn't whole.

    Raises:
        CheckpointError: if there is no such checkpoint, or it isn't wanted.
        NotFetched: if it isn't whole in the cache, and HF_HUB_OFFLINE is set.
        CheckpointUnreachable: if it isn't in the cache, and the hub doesn't answer.
    """
    from huggingface_hub import constants, hf_hub_download, snapshot_download

    from models.transfer.hub_client import patient_hub

    wanted = [entry, *SNAPSHOT]
    there = _cached(model, revision, wanted)
    if there and (there / entry).exists():
        with called(there, model):
            glance(there)
    try:
        if there:
            check(there)
            return there
    except CheckpointError as error:
        lacking = f" ({str(error).rstrip('.')})"
    else:
        lacking = ""
    if constants.HF_HUB_OFFLINE:
        raise NotFetched(
            f"{model} at {revision} isn't whole in the hub's cache and HF_HUB_OFFLINE is set",
            f"fetch it where the hub can be reached{lacking}.",
        )
    listener = listening.get()
    with patient_hub(listener), in_sentences(model, model, revision):
        with in_sentences(f"{entry} of {model}", model, revision):
            begun = Path(hf_hub_download(model, entry, revision=revision)).parent
        with called(begun, model):
            glance(begun)
        listener.say(f"Fetching {model} at {revision} into the hub's cache.")
        for tries_left in reversed(range(TRIES)):
            folder = Path(snapshot_download(model, revision=revision, allow_patterns=wanted))
            damaged = [file for file in cached_files(folder) if not _is_whole(folder, file)]
            if not damaged:
                check(folder)
                return folder
            for file in damaged:
                (folder / file.path).resolve().unlink()
                (folder / file.path).unlink()
            if tries_left:
                listener.say(f"{damaged[0].path} arrived damaged; fetching it again.")
    raise CheckpointUnreachable(
        f"{damaged[0].path} of {model} arrived damaged {TRIES} times", "try again later, or from another HF_ENDPOINT."
    )


def cached(model: str, revision: str) -> Path:
    """Return the snapshot of a hub id in the hub's cache, whole or not.

    Raises:
        CheckpointError: if there is none.
    """
    there = _cached(model, revision, [])
    if there is None:
        raise CheckpointError(f"{model} at {revision} isn't in the hub's cache", "fetch it with packshot models pull.")
    return there


def _cached(model: str, revision: str, wanted: list[str]) -> Path | None:
    """A snapshot in the hub's cache, unless there is none, or the hub once listed more that is wanted of it."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    with in_sentences(model, model, revision):
        try:
            return Path(snapshot_download(model, revision=revision, allow_patterns=wanted, local_files_only=True))
        except LocalEntryNotFoundError:
            return None


def cached_files(snapshot: Path) -> list[RemoteFile]:
    """Return the files of a snapshot in the hub's cache, with the hashes that it keeps them under.

    A snapshot is made of links to blobs, which are named by the SHA-256 of large files and the git blob of small ones.
    """
    found = []
    for link in sorted(snapshot.rglob("*")):
        if not link.is_symlink() or not link.is_file():
            continue
        path, size, name = link.relative_to(snapshot).as_posix(), link.stat().st_size, link.readlink().name
        if re.fullmatch(r"[0-9a-f]{64}", name):
            found.append(RemoteFile(path, size, sha256=name))
        elif re.fullmatch(r"[0-9a-f]{40}", name):
            found.append(RemoteFile(path, size, git_blob=name))
    return found


def _is_whole(folder: Path, file: RemoteFile) -> bool:
    with (folder / file.path).open("rb") as content:
        return file.compare(content)[1]
