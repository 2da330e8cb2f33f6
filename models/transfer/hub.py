"""A repository on a hub, as a source of a checkpoint.

The token and the address of a mirror come from where every tool of Hugging Face takes them: HF_TOKEN and HF_ENDPOINT.
Importing this module doesn't import huggingface_hub: a job with a folder has no need of it.
"""

import io
import re
from pathlib import Path
from typing import BinaryIO, cast

from models.files.safetensors_files import CheckpointError
from models.transfer.endpoints import Moved, RemoteFile
from models.transfer.hub_error import in_sentences

STALLS = 3  # times in a row that a file may stop without another byte


def is_hub_id(model: str) -> bool:
    """Say whether a model is named as one of the hub: `Qwen/Qwen-Image`."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", model) is not None and not model.startswith((".", "~"))


def pinned(model: str, revision: str | None) -> str:
    """Return the commit that a hub id is pinned to.

    Raises:
        CheckpointError: if it is pinned to none.
    """
    if revision is None or not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise CheckpointError(
            f"{model} must be pinned",
            "give a commit of its repository, 40 hex digits, as the revision; "
            "a branch or tag can change under a running job.",
            joined=": ",
        )
    return revision


class HubSource:
    """A repository at a commit, as `models.transfer.transfer` takes it; to be used inside
    `models.transfer.hub_client.patient_hub`.

    Files come over plain HTTP, into parts that the next start goes on with: huggingface_hub 2.4.0's own downloads
    resume only as long as their process lives.
    """

    def __init__(self, repository: str, revision: str) -> None:
        self.origin = repository
        self.revision = revision

    def files(self) -> list[RemoteFile]:
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        with in_sentences(self.origin, self.origin, self.revision):
            tree = list(HfApi().list_repo_tree(self.origin, recursive=True, revision=self.revision))
        return [
            RemoteFile(file.path, file.lfs.size, sha256=file.lfs.sha256)
            if file.lfs
            else RemoteFile(file.path, file.size, git_blob=file.blob_id)
            for file in tree
            if isinstance(file, RepoFile)
        ]

    def fetch(self, file: RemoteFile, part: Path, moved: Moved) -> None:
        import httpx2
        from huggingface_hub import constants, hf_hub_url
        from huggingface_hub.errors import HfHubHTTPError
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers

        address = hf_hub_url(self.origin, file.path, revision=self.revision, endpoint=constants.ENDPOINT)
        stalls = 0
        with in_sentences(f"{file.path} of {self.origin}", self.origin, self.revision):
            while True:
                size = part.stat().st_size if part.exists() else 0
                try:
                    with part.open("ab") as content:
                        http_get(
                            address,
                            cast(BinaryIO, _Counted(content, moved)),
                            resume_size=size,
                            headers=build_hf_headers(),
                            expected_size=file.size,
                        )
                    return
                except HfHubHTTPError:
                    raise
                except (httpx2.TransportError, OSError) as error:
                    if isinstance(error, OSError) and error.errno is not None:
                        raise  # the disk's; what is left is a content of another length than was promised
                    came = part.stat().st_size
                    if came > file.size:
                        moved(-came)
                        part.unlink()
                    stalls = 0 if size < came <= file.size else stalls + 1
                    if stalls == STALLS:
                        raise


class _Counted:
    """A file whose bytes are told of as they are written, and as they are thrown away."""

    def __init__(self, content: BinaryIO, moved: Moved) -> None:
        self.content, self.moved = content, moved
        self.tell, self.seek = content.tell, content.seek

    def write(self, piece: bytes) -> int:
        self.moved(len(piece))
        return self.content.write(piece)

    def truncate(self) -> int:
        here = self.content.tell()
        dropped = self.content.seek(0, io.SEEK_END) - here
        self.content.seek(here)
        self.moved(-dropped)
        return self.content.truncate()
