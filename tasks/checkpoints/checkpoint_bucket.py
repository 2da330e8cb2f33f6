"""A checkpoint in a bucket: what a job fetches its model from, or what `packshot models pull` fills."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from botocore.exceptions import ClientError

from models.files.cache_file import cache_folder
from models.files.inventory import INVENTORY, Inventory, is_plain
from models.files.safetensors_files import CheckpointError, CheckpointUnreachable
from models.transfer.endpoints import Listener, Moved, RemoteFile
from models.transfer.partial_files import parts_folder
from models.transfer.transfer import AT_ONCE
from tasks.stores.opening import open_store
from tasks.stores.s3_connection import CONNECTIONS
from tasks.stores.s3_error import ABSENT, CONDITION_FAILED, code_of
from tasks.stores.s3_store import S3Store
from tasks.stores.store import PIECE, Conflict, StoreError, StoreUnreachable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

IN_ONE = 64 << 20  # bytes up to which an object is written with one request
PART = 16 << 20  # bytes of one request of a larger one
MOST_PARTS = 10_000  # of an object: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html, read 2026-11


@dataclass(frozen=True)
class Listed:
    """An object as a listing has it."""

    size: int  # bytes
    version: str  # its ETag


class CheckpointBucket(S3Store):
    """As `models.transfer.transfer` reads and fills it.

    Large objects are written in parts, which a bucket keeps until its lifecycle rules remove them when a machine loses
    its power between two. Nothing here is conditional but the inventory: whoever writes the same file writes the same
    content.
    """

    uploads = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.origin = self.uri
        self.revision: str | None = None

    @classmethod
    def at(cls, address: str) -> CheckpointBucket:
        """The checkpoint at `s3://bucket/prefix`. Touches no network.

        Raises:
            StoreAddressError: if it is no such address.
        """
        store = open_store(address)
        assert isinstance(store, S3Store)
        return cls(store.bucket, store.prefix)

    @property
    def name(self) -> str:
        return self.uri

    def inventory(self) -> Inventory | None:
        found = self.read(INVENTORY)
        return Inventory.decode(found[0], self.uri_of(INVENTORY)) if found else None

    # As a source.

    def files(self) -> list[RemoteFile]:
        listed, inventory = self.listed(), self.inventory()
        if inventory is None:
            return [RemoteFile(path, one.size, version=one.version) for path, one in listed.items()]
        self.origin, self.revision = inventory.origin, inventory.revision
        lacking = [
            path for path, entry in inventory.files.items() if path not in listed or listed[path].size != entry.size
        ]
        if lacking:
            raise CheckpointError(
                f"{self.uri} isn't whole: {len(lacking)} of {len(inventory.files)} files, such as {lacking[0]}, are "
                "missing or cut short; go on with packshot models pull."
            )
        return [
            RemoteFile(path, entry.size, sha256=entry.sha256, version=listed[path].version)
            for path, entry in inventory.files.items()
        ]

    def fetch(self, file: RemoteFile, part: Path, moved: Moved) -> None:
        while True:
            before = part.stat().st_size if part.exists() else 0
            try:
                self._persist("read", file.path, lambda client: self._go_on(client, file, part, moved))
                return
            except StoreUnreachable:
                if not part.exists() or part.stat().st_size <= before:
                    raise

    def _go_on(self, client: S3Client, file: RemoteFile, part: Path, moved: Moved) -> None:
        with part.open("ab") as content:
            begun = content.tell()
            if begun >= file.size:
                return
            request: dict[str, Any] = {"Bucket": self.bucket, "Key": self._key(file.path)}
            if begun:
                request["Range"] = f"bytes={begun}-"
            if file.version:
                request["IfMatch"] = file.version
            try:
                response = client.get_object(**request)
            except ClientError as error:
                if code_of(error) in (*ABSENT, *CONDITION_FAILED):
                    raise CheckpointUnreachable(
                        f"{self.uri_of(file.path)} was changed while it was read; start again."
                    ) from None
                raise
            with contextlib.closing(response["Body"]):
                for piece in response["Body"].iter_chunks(PIECE):
                    content.write(piece)
                    moved(len(piece))

    def compare(self, file: RemoteFile, moved: Moved = lambda _: None) -> tuple[str, bool] | None:
        """Read an object through, which goes nowhere: its SHA-256, and whether it is the file; None if it is absent."""

        def attempt(client: S3Client) -> tuple[str, bool] | None:
            with self._opened(client, file.path) as response:
                return None if response is None else file.compare(cast(BinaryIO, response["Body"]), moved)

        return self._persist("read", file.path, attempt)

    # As a destination.

    @contextlib.contextmanager
    def parts(self, listener: Listener) -> Iterator[Path]:
        def busy() -> None:
            listener.say(f"{self.name} is being filled by another pull; waiting for it.")

        folder = cache_folder() / "pulls" / hashlib.sha256(self.uri.encode()).hexdigest()[:32]
        with parts_folder(folder, busy) as parts:
            yield parts

    def present(self, files: Collection[RemoteFile]) -> Mapping[str, str | None]:
        with ThreadPoolExecutor(CONNECTIONS // 4) as threads:
            looked = zip(files, threads.map(self._look, files), strict=True)
        return {file.path: sha256 for file, found in looked if found for sha256 in found}

    def _look(self, file: RemoteFile) -> tuple[str | None] | None:
        """The SHA-256 of an object if it is the file, or None; in a tuple, if there is one at all."""
        head = self._persist("read", file.path, lambda client: self._head(client, file.path))
        if head is None:
            return None
        known = head["Metadata"].get("sha256")
        if head["ContentLength"] != file.size:
            return (None,)
        if known and file.sha256:
            return (known if known == file.sha256 else None,)
        compared = self.compare(file)
        return None if compared is None else (compared[0] if compared[1] else None,)

    def make_room(self, sizes: Collection[int], parts: Path) -> None:
        free, wanted = shutil.disk_usage(parts).free, sum(sorted(sizes)[-AT_ONCE:])
        if wanted > free:
            raise CheckpointUnreachable(
                f"{parts} has {free / 1e9:.1f} GB free, and the files that pass through it take {wanted / 1e9:.1f} GB; "
                "free some space, or set XDG_CACHE_HOME to another disk."
            )

    def claim(self, inventory: Inventory) -> None:
        try:
            self.put_once(INVENTORY, inventory.encode())
        except Conflict:
            there = self.inventory()
            if there is not None and (there.origin, there.revision) != (inventory.origin, inventory.revision):
                raise CheckpointError(f"{self.uri} is being filled with {there}; give another prefix.") from None
            self.overwrite(INVENTORY, inventory.encode())

    def store(self, path: str, part: Path, sha256: str, moved: Moved) -> None:
        size = part.stat().st_size
        if size <= IN_ONE:
            self._put(path, part, sha256, size, None, {})
            moved(size)
        else:
            self._put_in_parts(path, part, sha256, size, moved)
        part.unlink()

    def _put_in_parts(self, path: str, file: Path, sha256: str, size: int, moved: Moved) -> None:
        """Write a large object. Every part's hash is signed with its request, so that S3 refuses a damaged one."""
        where: dict[str, Any] = {"Bucket": self.bucket, "Key": self._key(path)}
        begun = self._persist(
            "write", path, lambda client: client.create_multipart_upload(**where, Metadata={"sha256": sha256})
        )
        where["UploadId"] = begun["UploadId"]
        done: list[CompletedPartTypeDef] = []
        try:
            with file.open("rb") as content:
                while piece := content.read(max(PART, -(-size // MOST_PARTS))):
                    sending = partial(_put_part, where, len(done) + 1, piece)
                    done.append(self._persist("write", path, sending))
                    moved(len(piece))
            self._persist("write", path, lambda client: self._complete(client, path, sha256, where, done))
        except BaseException:
            with contextlib.suppress(StoreError):
                self._persist("write", path, lambda client: client.abort_multipart_upload(**where))
            raise

    def _complete(
        self, client: S3Client, path: str, sha256: str, where: dict[str, Any], done: list[CompletedPartTypeDef]
    ) -> None:
        try:
            client.complete_multipart_upload(**where, MultipartUpload={"Parts": done})
        except ClientError as error:
            if code_of(error) != "NoSuchUpload":
                raise
            head = self._head(client, path)
            if head is None or head["Metadata"].get("sha256") != sha256:
                raise
            # A repeat after a lost reply: the first one has completed it.

    def listed(self) -> dict[str, Listed]:
        """What lies there, by path.

        Raises:
            CheckpointError: if nothing does.
        """
        folder = f"{self.prefix}/" if self.prefix else ""

        def attempt(client: S3Client) -> dict[str, Listed]:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=folder)
            return {
                path: Listed(entry["Size"], entry["ETag"])
                for page in pages
                for entry in page.get("Contents", [])
                if is_plain(path := entry["Key"].removeprefix(folder))
            }

        found = self._persist("read", "", attempt)
        if not found:
            raise CheckpointError(f"There is nothing at {self.uri}; check the address, or pull a checkpoint to it.")
        return found


def _put_part(where: dict[str, Any], number: int, piece: bytes, client: S3Client) -> CompletedPartTypeDef:
    return {"PartNumber": number, "ETag": client.upload_part(**where, PartNumber=number, Body=piece)["ETag"]}
