"""Large objects of a bucket: a download goes on where it stopped, and an upload is made of many requests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

from botocore.exceptions import ClientError

from tasks.stores.s3_bucket import S3Bucket
from tasks.stores.s3_error import ABSENT, CONDITION_FAILED, code_of, status_of
from tasks.stores.store import PIECE, Changed, Noted, StoreError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

T = TypeVar("T")

IN_ONE = 64 << 20  # bytes up to which an object is written with one request
PART = 16 << 20  # bytes of one request of a larger one
MOST_PARTS = 10_000  # of an object: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html, read 2026-11


class S3Parts(S3Bucket):
    """A bucket's ways with large objects.

    A bucket keeps the parts of an upload until its lifecycle rules remove them when a machine loses its power between
    two.
    """

    def look(self, path: str) -> Noted | None:
        head = self._persist("read", path, lambda client: self._head(client, path))
        return None if head is None else Noted(head["ContentLength"], head["Metadata"].get("sha256"))

    def read_through(self, path: str, act: Callable[[BinaryIO], T]) -> T | None:
        def attempt(client: S3Client) -> T | None:
            with self._opened(client, path) as response:
                return None if response is None else act(cast(BinaryIO, response["Body"]))

        return self._persist("read", path, attempt)

    def go_on(self, path: str, to: Path, *, size: int, version: str | None, moved: Callable[[int], object]) -> None:
        def attempt(client: S3Client) -> None:
            with to.open("ab") as content:
                begun = content.tell()
                if begun >= size:
                    return
                request: dict[str, Any] = {"Bucket": self.bucket, "Key": self._key(path)}
                if begun:
                    request["Range"] = f"bytes={begun}-"
                condition: dict[str, Any] = {"IfMatch": version} if version else {}
                try:
                    response = client.get_object(**request, **condition)
                except ClientError as error:
                    has_gone = code_of(error) in (*ABSENT, *CONDITION_FAILED)
                    # Some stores answer so where the condition didn't hold.
                    if has_gone or (status_of(error) == 500 and not self._holds(client, path, condition)):
                        raise Changed(self.uri_of(path)) from None
                    raise
                with contextlib.closing(response["Body"]):
                    for piece in response["Body"].iter_chunks(PIECE):
                        content.write(piece)
                        moved(len(piece))

        self._persist("read", path, attempt)

    def upload(self, path: str, file: Path, *, sha256: str, moved: Callable[[int], object]) -> None:
        size = file.stat().st_size
        if size <= IN_ONE:
            self._put(path, file, sha256, size, None, {})
            moved(size)
        else:
            self._put_in_parts(path, file, sha256, size, moved)

    def _put_in_parts(self, path: str, file: Path, sha256: str, size: int, moved: Callable[[int], object]) -> None:
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


def _put_part(where: dict[str, Any], number: int, piece: bytes, client: S3Client) -> CompletedPartTypeDef:
    return {"PartNumber": number, "ETag": client.upload_part(**where, PartNumber=number, Body=piece)["ETag"]}
