"""A bucket as it is spoken to: one request each, in the bucket's dialect, tried again for as long as that may help."""

import base64
import contextlib
import dataclasses
import hashlib
import mimetypes
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from tasks.stores.dialect import Dialect
from tasks.stores.s3_connection import S3Connection
from tasks.stores.s3_error import (
    ABSENT,
    CONDITION_FAILED,
    Garbled,
    code_of,
    is_busy,
    knows_no_conditions,
    passes,
    refuses_header,
    sentence,
    status_of,
)
from tasks.stores.store import PIECE, StoreError, checked, pieces

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import (
        GetObjectOutputTypeDef,
        HeadObjectOutputTypeDef,
        ListObjectsV2OutputTypeDef,
    )

T = TypeVar("T")

READ_TIMEOUT = 60.0  # seconds without a byte
PATIENCE = 120.0  # seconds for which a store that is away, busy or in dispute is asked again
FIRST_PATIENCE = 8.0  # seconds for which an address is asked again where nobody has answered yet: it may be wrong
LONGEST_PAUSE = 5.0  # seconds between two tries
QUEUEING = 10  # times its patience that a request waits for its turn at a store that serves others meanwhile
LARGEST = 5 << 30  # bytes that one PutObject takes


@dataclass(frozen=True)
class ObjectState:
    """What is in the bucket now under a path."""

    sha256: str
    size: int  # bytes
    version: str  # its ETag


class S3Bucket:
    """A prefix of a bucket. An object is written with one PutObject, its SHA-256 and MD5 noted beside it.

    Multipart uploads aren't used: Ceph 16 ignores `If-None-Match` when it completes one.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        patience: float = PATIENCE,
        read_timeout: float = READ_TIMEOUT,
        dialect: Dialect | None = None,
        connection: S3Connection | None = None,
    ) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self.patience = patience
        self.read_timeout = read_timeout
        self._dialect = dialect or Dialect()  # Amazon's, until another one is learned
        self._adapting = threading.Lock()  # to that, by writes and by a probe at the same time
        # Who knows a dialect knows that somebody, somewhere, learned it there.
        self._connection = connection or S3Connection(read_timeout, has_answered=dialect is not None)
        self._served = 0.0  # when the store did something for us last, monotonic

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def uri_of(self, path: str) -> str:
        return f"{self.uri}/{checked(path)}"

    @property
    def _folder(self) -> str:
        return f"{self.prefix}/" if self.prefix else ""

    def _key(self, path: str) -> str:
        return f"{self._folder}{checked(path)}"

    def _put(
        self,
        path: str,
        data: bytes | Path,
        sha256: str,
        size: int,
        content_type: str | None,
        condition: dict[str, str],
    ) -> str | None:
        """Write an object with one PutObject; return its token, or None where its condition didn't hold."""
        if size > LARGEST:
            raise StoreError(
                f"{self.uri_of(path)} would be over 5 GiB, the most S3 takes at once", "split the manifest."
            )
        request: dict[str, Any] = {
            "Bucket": self.bucket,
            "Key": self._key(path),
            "ContentType": content_type or mimetypes.guess_type(path)[0] or "application/octet-stream",
            "Metadata": {"sha256": sha256, "md5": md5_of(data)},
        }
        checksum = {"ChecksumSHA256": in_base64(sha256)}

        def attempt(client: "S3Client") -> str | None:
            dialect = self._dialect
            if not dialect.conditional and not self._holds(client, path, condition):
                return None
            headers = dialect.spoken(condition) if dialect.conditional else {}
            if dialect.checksum:
                try:
                    return self._send(client, path, data, {**request, **headers, **checksum}, condition)
                except ClientError as error:
                    if not refuses_header(error):
                        raise
            try:
                token = self._send(client, path, data, {**request, **headers}, condition)
            except ClientError as error:
                if headers and refuses_header(error):
                    raise knows_no_conditions(error, self._connection.endpoint) from None
                raise
            with self._adapting:  # the signature covers the content, too
                self._dialect = dataclasses.replace(self._dialect, checksum=False)
            return token

        return self._persist("write", path, attempt)

    def _send(
        self,
        client: "S3Client",
        path: str,
        data: bytes | Path,
        request: dict[str, Any],
        condition: dict[str, str],
    ) -> str | None:
        """Make one PutObject; return the token of what it wrote, or None where its condition didn't hold."""
        try:
            with contextlib.nullcontext(data) if isinstance(data, bytes) else data.open("rb") as body:
                return client.put_object(**request, Body=body)["ETag"]
        except ClientError as error:
            # Absent: If-Match on an object that is gone.
            if condition and code_of(error) in (*CONDITION_FAILED, *ABSENT):
                return None
            # Ceph answers so to one who came second at the same moment; and the next try may be answered so again.
            if status_of(error) == 500 and not self._holds(client, path, condition):
                return None
            raise

    def _holds(self, client: "S3Client", path: str, condition: dict[str, str]) -> bool:
        """Look whether a condition holds now. Only the store itself can do that so that nobody is quicker."""
        if not condition:
            return True
        head = self._head(client, path)
        return is_version(head["ETag"] if head else None, condition.get("IfMatch"))

    def _found(self, path: str) -> ObjectState | None:
        return self._persist("read", path, lambda client: self._find(client, path))

    def _find(self, client: "S3Client", path: str) -> ObjectState | None:
        """Give what is there, or None when it is absent.

        The writer noted SHA-256 and MD5 together. The noted SHA-256 is believed where the server's own digest, the
        ETag, is that MD5; everything else is read through: what another tool wrote, or where ETags are no MD5.
        """
        head = self._head(client, path)
        if head is None:
            return None
        known, md5 = head["Metadata"].get("sha256"), head["Metadata"].get("md5")
        if known and is_version(head["ETag"], md5):
            return ObjectState(known, head["ContentLength"], head["ETag"])
        found = self._read_through(client, path)
        if found is None or known in (None, found.sha256):
            return found
        if self._read_through(client, path) != found:  # else it is what lies there, and not the way to it
            raise Garbled
        return found

    def _read_through(self, client: "S3Client", path: str) -> ObjectState | None:
        digest = hashlib.sha256()
        size = 0
        with self._opened(client, path) as response:
            if response is None:
                return None
            for piece in response["Body"].iter_chunks(PIECE):
                digest.update(piece)
                size += len(piece)
            return ObjectState(digest.hexdigest(), size, response["ETag"])

    def _head(self, client: "S3Client", path: str) -> "HeadObjectOutputTypeDef | None":
        try:
            return client.head_object(Bucket=self.bucket, Key=self._key(path))
        except ClientError as error:
            if code_of(error) in ABSENT:
                return None
            raise

    @contextlib.contextmanager
    def _opened(self, client: "S3Client", path: str) -> Iterator["GetObjectOutputTypeDef | None"]:
        try:
            response = client.get_object(Bucket=self.bucket, Key=self._key(path))
        except ClientError as error:
            if code_of(error) not in ABSENT:
                raise
            yield None
        else:
            with contextlib.closing(response["Body"]):
                yield response

    def _pages(self, key: str, **options: Any) -> Iterator["ListObjectsV2OutputTypeDef"]:
        page = self._page(key, **options)
        yield page
        while page["IsTruncated"]:
            page = self._page(key, **options, ContinuationToken=page["NextContinuationToken"])
            yield page

    def _page(self, key: str, **options: Any) -> "ListObjectsV2OutputTypeDef":
        return self._persist(
            "read", "", lambda client: client.list_objects_v2(Bucket=self.bucket, Prefix=key, **options)
        )

    def _persist(self, doing: str, path: str, attempt: Callable[["S3Client"], T], patience: float | None = None) -> T:
        """Attempt something until it works, stops being worth it, or `patience` is over.

        Of a store that is busy it begins anew each time that another request of this process was served.
        """
        begun, patience = time.monotonic(), self.patience if patience is None else patience
        way, pause = self._connection, 0.1
        while True:
            try:
                answer = attempt(way.client())
                way.has_answered, self._served = True, time.monotonic()
                return answer
            except (BotoCoreError, ClientError, Garbled) as error:
                way.has_answered = way.has_answered or not isinstance(error, BotoCoreError)
                wait = random.uniform(0, pause)
                least = patience if way.has_answered else min(patience, FIRST_PATIENCE)
                since = min(max(begun, self._served), begun + QUEUEING * least) if is_busy(error) else begun
                if not passes(error) or time.monotonic() + wait > since + least:
                    where = self.uri_of(path) if path else self.uri
                    raise sentence(error, doing=doing, where=where, endpoint=way.endpoint) from None
            time.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)


def is_version(found: str | None, expected: str | None) -> bool:
    """Say whether two ETags, with quotes or without, are of one version; None stands for no object."""
    return found == expected or (found is not None and expected is not None and found.strip('"') == expected.strip('"'))


def in_base64(digest: str) -> str:
    """Give a digest in hex the way that S3 writes it."""
    return base64.b64encode(bytes.fromhex(digest)).decode()


def md5_of(data: bytes | Path) -> str:
    """Give the MD5 (hex) of the content: most stores' ETags are one."""
    digest = hashlib.md5(usedforsecurity=False)
    for piece in pieces(data):
        digest.update(piece)
    return digest.hexdigest()


def receive(response: "GetObjectOutputTypeDef", to: BinaryIO) -> None:
    """Write what arrives.

    Raises:
        Garbled: the content isn't the one that was written.
    """
    digest = hashlib.sha256()
    for piece in response["Body"].iter_chunks(PIECE):
        digest.update(piece)
        to.write(piece)
    sha256 = digest.hexdigest()
    if response["Metadata"].get("sha256", sha256) != sha256:
        raise Garbled
