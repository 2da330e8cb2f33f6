"""A store in a bucket of Amazon S3 or of anything that speaks its protocol.

Credentials, region and endpoint come from where every AWS tool takes them: AWS_ACCESS_KEY_ID, AWS_PROFILE,
AWS_ENDPOINT_URL_S3 and so on.
"""

import base64
import contextlib
import functools
import hashlib
import io
import mimetypes
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

import boto3.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tasks.s3_error import ABSENT, CONDITION_FAILED, REFUSED_HEADER, Garbled, code_of, passes, sentence
from tasks.store import (
    PIECE,
    Changed,
    Conflict,
    Damaged,
    Listed,
    Missing,
    Step,
    Store,
    Stored,
    StoreError,
    StoreUnreachable,
    appearing_whole,
    checked,
    is_plain,
    pieces,
    sha256_of,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CopySourceTypeDef, GetObjectOutputTypeDef, HeadObjectOutputTypeDef

T = TypeVar("T")

CONNECTIONS = 32  # at once, for the upload threads of one process
CONNECT_TIMEOUT = 10.0  # seconds
READ_TIMEOUT = 60.0  # seconds without a byte
PATIENCE = 120.0  # seconds for which a store that is away, busy or in dispute is asked again
PROBE_PATIENCE, PROBE_READ_TIMEOUT = 5.0, 10.0  # seconds; a person may be waiting, and no work is lost yet
LONGEST_PAUSE = 5.0  # seconds between two tries
LARGEST = 5 << 30  # bytes that one PutObject takes


class S3Store(Store):
    """An object is written with one conditional PutObject, its SHA-256 beside it.

    Multipart uploads aren't used: Ceph 16 ignores `If-None-Match` when it completes one. The version token of an object
    is its ETag.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        allow_unsafe: bool = False,
        patience: float = PATIENCE,
        read_timeout: float = READ_TIMEOUT,
    ) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self.allow_unsafe = allow_unsafe
        self.patience = patience
        self.read_timeout = read_timeout
        self._sends_checksum = True  # until the store refuses the header
        self._sends_condition = True  # until an unsafe store refuses the header
        self._endpoint = "S3"
        self._connected: S3Client | None = None
        self._connecting = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process as an address: connections and locks stay here."""
        same = functools.partial(
            S3Store, allow_unsafe=self.allow_unsafe, patience=self.patience, read_timeout=self.read_timeout
        )
        return same, (self.bucket, self.prefix)

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def uri_of(self, path: str) -> str:
        return f"{self.uri}/{checked(path)}"

    def put_once(self, path: str, data: bytes | Path, *, content_type: str | None = None) -> Stored:
        sha256, size = sha256_of(data)
        stored = self._adopt_or_put(path, data, sha256, size, content_type)
        if stored.sha256 != sha256:
            raise Conflict(self.uri_of(path), ours=sha256, theirs=stored.sha256)
        return stored

    def adopt_or_put(self, path: str, data: bytes | Path, *, content_type: str | None = None) -> Stored:
        sha256, size = sha256_of(data)
        return self._adopt_or_put(path, data, sha256, size, content_type)

    def replace(self, path: str, data: bytes | Path, *, expect: str | None, content_type: str | None = None) -> None:
        sha256, size = sha256_of(data)
        condition = {"IfNoneMatch": "*"} if expect is None else {"IfMatch": expect}
        if self._put(path, data, sha256, size, content_type, condition):
            return
        # After a lost reply, the repeat fails the condition because of its own success.
        found = self._found(path)
        if found is None or found[0] != sha256:
            raise Changed(self.uri_of(path))

    def overwrite(self, path: str, data: bytes | Path, *, content_type: str | None = None) -> None:
        sha256, size = sha256_of(data)
        self._put(path, data, sha256, size, content_type, {})

    def copy(self, path: str, to: str, *, sha256: str, size: int) -> None:
        source: CopySourceTypeDef = {"Bucket": self.bucket, "Key": self._key(path)}

        def attempt(client: "S3Client") -> bool:
            try:
                copied = client.copy_object(Bucket=self.bucket, Key=self._key(to), CopySource=source)
            except ClientError as error:
                if code_of(error) not in ABSENT:
                    raise
                # The source is gone: a repeat may come so late that its own copy is the only one left.
                found = self._digest(client, to)
                if found is None:
                    raise Missing(self.uri_of(path)) from None
                return found == (sha256, size)
            if checksum := copied["CopyObjectResult"].get("ChecksumSHA256"):
                return checksum == in_base64(sha256)
            return self._digest(client, to) == (sha256, size)

        if not self._persist("copy", path, attempt):
            self.delete(to)
            raise Damaged(self.uri_of(path))

    def read(self, path: str) -> tuple[bytes, str] | None:
        def attempt(client: "S3Client") -> tuple[bytes, str] | None:
            with self._opened(client, path) as response:
                if response is None:
                    return None
                content = io.BytesIO()
                copy(response, content)
                return content.getvalue(), response["ETag"]

        return self._persist("read", path, attempt)

    def read_at_most(self, path: str, limit: int) -> bytes | None:
        """Give a stranger's object, or None when it is absent; of a larger one only more than `limit` bytes."""

        def attempt(client: "S3Client") -> bytes | None:
            with self._opened(client, path) as response:
                if response is None:
                    return None
                content = bytearray()
                for piece in response["Body"].iter_chunks(PIECE):
                    content += piece
                    if len(content) > limit:
                        break
                return bytes(content)

        return self._persist("read", path, attempt)

    def download(self, path: str, to: Path) -> str | None:
        def attempt(client: "S3Client") -> str | None:
            with self._opened(client, path) as response:
                if response is None:
                    return None
                with appearing_whole(to) as file:
                    copy(response, file)
                return response["ETag"]

        return self._persist("read", path, attempt)

    def names(self) -> list[str]:
        """Give the paths of all objects, sorted. For a manifest that is a folder; a run never lists its store."""
        return sorted(one.path for one in self.listing(""))

    def listing(self, prefix: str) -> Iterator[Listed]:
        request: dict[str, Any] = {"Bucket": self.bucket, "Prefix": f"{self._key(prefix) if prefix else self.prefix}/"}
        if request["Prefix"] == "/":
            request["Prefix"] = ""
        while True:
            page = self._persist("read", "", lambda client: client.list_objects_v2(**request))
            for entry in page.get("Contents", []):
                path = entry["Key"].removeprefix(f"{self.prefix}/" if self.prefix else "")
                if is_plain(path):  # a console marks a folder by an object whose name ends in a slash
                    yield Listed(path, entry["Size"], entry["LastModified"])
            if not page["IsTruncated"]:
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def exists(self, path: str) -> bool:
        return self._persist("read", path, lambda client: self._head(client, path)) is not None

    def delete(self, path: str) -> None:
        def attempt(client: "S3Client") -> None:
            try:
                client.delete_object(Bucket=self.bucket, Key=self._key(path))
            except ClientError as error:
                if code_of(error) not in ABSENT:
                    raise

        self._persist("delete", path, attempt)

    def probe(self, passed: Callable[[Step], object] = lambda _: None) -> None:
        impatient = S3Store(
            self.bucket,
            self.prefix,
            allow_unsafe=self.allow_unsafe,
            patience=min(self.patience, PROBE_PATIENCE),
            read_timeout=min(self.read_timeout, PROBE_READ_TIMEOUT),
        )
        path = f".probe/{uuid.uuid4().hex}"
        try:
            impatient._try_out(path, passed)
        except StoreUnreachable:
            raise  # and so is anything left there
        except BaseException:
            with contextlib.suppress(StoreError):
                impatient.delete(path)
            raise
        impatient.delete(path)
        passed("delete")

    def _try_out(self, path: str, passed: Callable[[Step], object]) -> None:
        self.read(path)  # without permission to list, AWS says "forbidden" rather than "absent"
        passed("reach")
        self.put_once(path, b"first")
        found = self.read(path)
        if found is None or found[0] != b"first":
            raise StoreError(f"{self.uri} doesn't give back at once what was written to it: use another store.")
        passed("write")
        if self.allow_unsafe:
            return
        second = sha256_of(b"second")
        for condition in ({"IfNoneMatch": "*"}, {"IfMatch": f'"{"0" * 32}"'}):
            if self._put(path, b"second", *second, None, condition):
                raise StoreError(
                    f"{self.uri} ignores the condition of a write ({', '.join(condition)}), so runs could overwrite "
                    "each other: use a bucket without versioning or another store, or allow this one as unsafe."
                )
        passed("conditional put")
        self.copy(path, f"{path}.copy", sha256=sha256_of(b"first")[0], size=len(b"first"))
        self.delete(f"{path}.copy")
        passed("copy")

    def _adopt_or_put(self, path: str, data: bytes | Path, sha256: str, size: int, content_type: str | None) -> Stored:
        for _ in range(5):
            if self._put(path, data, sha256, size, content_type, {"IfNoneMatch": "*"}):
                return Stored(path, size, sha256, adopted=False)
            if found := self._found(path):
                return Stored(path, found[1], found[0], adopted=True)
        raise StoreError(f"{self.uri_of(path)} both exists and doesn't: is somebody removing objects from the store?")

    def _put(
        self,
        path: str,
        data: bytes | Path,
        sha256: str,
        size: int,
        content_type: str | None,
        condition: dict[str, str],
    ) -> bool:
        """Write an object with one PutObject; say whether its condition held."""
        if size > LARGEST:
            raise StoreError(f"{self.uri_of(path)} would be over 5 GiB, the most S3 takes at once: split the manifest.")
        request: dict[str, Any] = {
            "Bucket": self.bucket,
            "Key": self._key(path),
            "ContentType": content_type or mimetypes.guess_type(path)[0] or "application/octet-stream",
            "Metadata": {"sha256": sha256, "md5": md5_of(data)},
        }
        checksum = in_base64(sha256)

        def attempt(client: "S3Client") -> bool:
            if self.allow_unsafe and condition and not self._holds(client, path, condition):
                return False
            headers: dict[str, Any] = {
                **({"ChecksumSHA256": checksum} if self._sends_checksum else {}),
                **(condition if self._sends_condition else {}),
            }
            try:
                with contextlib.nullcontext(data) if isinstance(data, bytes) else data.open("rb") as body:
                    client.put_object(**request, **headers, Body=body)
            except ClientError as error:
                code = code_of(error)
                if condition and code in (*CONDITION_FAILED, *ABSENT):  # absent: If-Match on an object that is gone
                    return False
                if code in REFUSED_HEADER and self._sends_checksum:
                    self._sends_checksum = False  # the signature covers the content's SHA-256 too
                    return attempt(client)
                if code in REFUSED_HEADER and condition and self.allow_unsafe and self._sends_condition:
                    self._sends_condition = False
                    return attempt(client)
                raise
            return True

        return self._persist("write", path, attempt)

    def _holds(self, client: "S3Client", path: str, condition: dict[str, str]) -> bool:
        """Check a condition from here, for a store that doesn't: better than nothing, and not atomic."""
        head = self._head(client, path)
        return head is None if "IfNoneMatch" in condition else head is not None and head["ETag"] == condition["IfMatch"]

    def _found(self, path: str) -> tuple[str, int] | None:
        return self._persist("read", path, lambda client: self._digest(client, path))

    def _digest(self, client: "S3Client", path: str) -> tuple[str, int] | None:
        """Give the SHA-256 and the size of what is there, or None when it is absent.

        The writer noted SHA-256 and MD5 together. The noted SHA-256 is believed where the server's own digest, the
        ETag, is that MD5; everything else is read through: what another tool wrote, or where ETags are no MD5.
        """
        head = self._head(client, path)
        if head is None:
            return None
        known, md5 = head["Metadata"].get("sha256"), head["Metadata"].get("md5")
        if known and md5 == head["ETag"].strip('"'):
            return known, head["ContentLength"]
        found = self._read_through(client, path)
        if found is None or known in (None, found[0]):
            return found
        if self._read_through(client, path) != found:  # else it is what lies there, and not the way to it
            raise Garbled
        return found

    def _read_through(self, client: "S3Client", path: str) -> tuple[str, int] | None:
        digest = hashlib.sha256()
        size = 0
        with self._opened(client, path) as response:
            if response is None:
                return None
            for piece in response["Body"].iter_chunks(PIECE):
                digest.update(piece)
                size += len(piece)
        return digest.hexdigest(), size

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

    def _key(self, path: str) -> str:
        return f"{self.prefix}/{checked(path)}".lstrip("/")

    def _persist(self, doing: str, path: str, attempt: Callable[["S3Client"], T]) -> T:
        """Attempt something until it works, stops being worth it, or `patience` is over."""
        deadline = time.monotonic() + self.patience
        pause = 0.1
        while True:
            try:
                return attempt(self._client())
            except (BotoCoreError, ClientError, Garbled) as error:
                wait = random.uniform(0, pause)
                if not passes(error) or time.monotonic() + wait > deadline:
                    where = self.uri_of(path) if path else self.uri
                    raise sentence(error, doing=doing, where=where, endpoint=self._endpoint) from None
            time.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _client(self) -> "S3Client":
        with self._connecting:
            if self._connected is None:
                config = Config(
                    signature_version="s3v4",
                    retries={"mode": "standard", "total_max_attempts": 3},
                    connect_timeout=CONNECT_TIMEOUT,
                    read_timeout=self.read_timeout,
                    max_pool_connections=CONNECTIONS,
                    tcp_keepalive=True,
                    # boto3's own checksum trailers get 411 from Ceph over https; we send our own, and sign the content.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                    s3={"payload_signing_enabled": True},
                )
                try:
                    client = boto3.session.Session().client("s3", config=config)
                except ValueError:
                    raise StoreError("AWS_ENDPOINT_URL isn't an address: write it as https://host:port.") from None
                address = urlsplit(client.meta.endpoint_url)
                self._endpoint = f"{address.scheme}://{address.netloc.rpartition('@')[2]}"
                self._connected = client
            return self._connected


def in_base64(digest: str) -> str:
    """Give a digest in hex the way that S3 writes it."""
    return base64.b64encode(bytes.fromhex(digest)).decode()


def md5_of(data: bytes | Path) -> str:
    """Give the MD5 (hex) of the content: most stores' ETags are one."""
    digest = hashlib.md5(usedforsecurity=False)
    for piece in pieces(data):
        digest.update(piece)
    return digest.hexdigest()


def copy(response: "GetObjectOutputTypeDef", to: BinaryIO | None = None) -> str:
    """Copy what arrives, and give its SHA-256.

    Raises:
        Garbled: the content isn't the one that was written.
    """
    digest = hashlib.sha256()
    for piece in response["Body"].iter_chunks(PIECE):
        digest.update(piece)
        if to:
            to.write(piece)
    sha256 = digest.hexdigest()
    if response["Metadata"].get("sha256", sha256) != sha256:
        raise Garbled
    return sha256
