"""A store in a bucket of Amazon S3 or of anything that speaks its protocol."""

import base64
import contextlib
import dataclasses
import functools
import hashlib
import io
import mimetypes
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from tasks.dialect import Dialect
from tasks.s3_connection import connect, endpoint_of
from tasks.s3_error import (
    ABSENT,
    CONDITION_FAILED,
    Garbled,
    Unreplaceable,
    code_of,
    knows_no_conditions,
    passes,
    refuses_header,
    sentence,
    status_of,
)
from tasks.s3_probe import learn
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
    appearing_whole,
    at_once,
    checked,
    is_plain,
    pieces,
    sha256_of,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import (
        CopySourceTypeDef,
        GetObjectOutputTypeDef,
        HeadObjectOutputTypeDef,
        ListObjectsV2OutputTypeDef,
    )

T = TypeVar("T")

READ_TIMEOUT = 60.0  # seconds without a byte
PATIENCE = 120.0  # seconds for which a store that is away, busy or in dispute is asked again
PROBE_PATIENCE, PROBE_READ_TIMEOUT = 5.0, 10.0  # seconds; a person may be waiting, and no work is lost yet
LONGEST_PAUSE = 5.0  # seconds between two tries
LARGEST = 5 << 30  # bytes that one PutObject takes
LISTED_AT_ONCE = 16  # folders of a store that is larger than a page
DISPUTES = 3  # times that a store may refuse a condition that is seen to hold: others may have come and gone


@dataclass(frozen=True)
class Found:
    """What is in the bucket now under a path."""

    sha256: str
    size: int  # bytes
    version: str  # its ETag


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
        dialect: Dialect | None = None,
    ) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self.allow_unsafe = allow_unsafe
        self.patience = patience
        self.read_timeout = read_timeout
        self._dialect = dialect or Dialect()  # that of AWS, until it is learned
        self._has_learned = dialect is not None
        self._learning = threading.Lock()
        self._endpoint = "S3"
        self._connected: S3Client | None = None
        self._connecting = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process as an address and a dialect: connections and locks stay here."""
        same = functools.partial(
            S3Store,
            allow_unsafe=self.allow_unsafe,
            patience=self.patience,
            read_timeout=self.read_timeout,
            dialect=self.dialect,
        )
        return same, (self.bucket, self.prefix)

    @property
    def dialect(self) -> Dialect | None:
        return self._dialect if self._has_learned else None

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

    def replace(self, path: str, data: bytes | Path, *, expect: str | None, content_type: str | None = None) -> str:
        sha256, size = sha256_of(data)
        condition = {"IfNoneMatch": "*"} if expect is None else {"IfMatch": expect}
        for _ in range(DISPUTES):
            if token := self._put(path, data, sha256, size, content_type, condition):
                return token
            # After a lost reply, the repeat fails the condition because of its own success.
            found = self._found(path)
            if found and found.sha256 == sha256:
                return found.version
            if not _is_version(found.version if found else None, expect):
                raise Changed(self.uri_of(path))
        raise Unreplaceable(
            f"{self.uri_of(path)} can't be replaced, because the store says that somebody changed it, and nobody has: "
            "use another store."
        )

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
                found = self._find(client, to)
                if found is None:
                    raise Missing(self.uri_of(path)) from None
            else:
                if copied["CopyObjectResult"].get("ChecksumSHA256") == in_base64(sha256):
                    return True
                found = self._find(client, to)
            return found is not None and (found.sha256, found.size) == (sha256, size)

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
        key = f"{self._key(prefix)}/" if prefix else self._folder
        first = self._page(key)
        if not first["IsTruncated"]:
            yield from self._listed(first)
            return
        folders = []
        for page in self._pages(key, Delimiter="/"):
            yield from self._listed(page)
            folders += [folder["Prefix"] for folder in page.get("CommonPrefixes", [])]

        def whole(folder: str) -> list[Listed]:
            return [listed for page in self._pages(folder) for listed in self._listed(page)]

        for listed in at_once(whole, folders, most=LISTED_AT_ONCE):
            yield from listed

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

    def _listed(self, page: "ListObjectsV2OutputTypeDef") -> Iterator[Listed]:
        for entry in page.get("Contents", []):
            path = entry["Key"].removeprefix(self._folder)
            if is_plain(path):  # a console marks a folder by an object whose name ends in a slash
                yield Listed(path, entry["Size"], entry["LastModified"])

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
        def opened(dialect: Dialect) -> Store:
            return S3Store(
                self.bucket,
                self.prefix,
                allow_unsafe=self.allow_unsafe,
                patience=min(self.patience, PROBE_PATIENCE),
                read_timeout=min(self.read_timeout, PROBE_READ_TIMEOUT),
                dialect=dialect,
            )

        self._dialect = learn(opened, passed, unsafe=self.allow_unsafe)
        self._has_learned = True

    def keeps_versions(self) -> bool:
        try:
            answer = self._persist("read", "", lambda client: client.get_bucket_versioning(Bucket=self.bucket))
        except StoreError:  # nobody needs this permission, and some stores don't know the question
            return False
        return answer.get("Status") == "Enabled"

    def _spoken(self) -> Dialect:
        """Give the dialect in which to write under a condition; a command that hasn't probed does it now."""
        with self._learning:
            if not self._has_learned:
                self.probe()
        return self._dialect

    def _adopt_or_put(self, path: str, data: bytes | Path, sha256: str, size: int, content_type: str | None) -> Stored:
        for _ in range(5):
            if self._put(path, data, sha256, size, content_type, {"IfNoneMatch": "*"}):
                return Stored(path, size, sha256, adopted=False)
            if found := self._found(path):
                return Stored(path, found.size, found.sha256, adopted=True)
        raise StoreError(f"{self.uri_of(path)} both exists and doesn't: is somebody removing objects from the store?")

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
            raise StoreError(f"{self.uri_of(path)} would be over 5 GiB, the most S3 takes at once: split the manifest.")
        request: dict[str, Any] = {
            "Bucket": self.bucket,
            "Key": self._key(path),
            "ContentType": content_type or mimetypes.guess_type(path)[0] or "application/octet-stream",
            "Metadata": {"sha256": sha256, "md5": md5_of(data)},
        }
        checksum = {"ChecksumSHA256": in_base64(sha256)}
        # Which form a version has must be known; that an object must be absent is said in one way everywhere.
        dialect = self._spoken() if "IfMatch" in condition or (condition and self.allow_unsafe) else self._dialect

        def attempt(client: "S3Client") -> str | None:
            if not dialect.conditional and not self._holds(client, path, condition):
                return None
            headers = dialect.spoken(condition) if dialect.conditional else {}
            if self._dialect.checksum:
                try:
                    return self._send(client, path, data, {**request, **headers, **checksum}, condition)
                except ClientError as error:
                    if not refuses_header(error):
                        raise
            try:
                token = self._send(client, path, data, {**request, **headers}, condition)
            except ClientError as error:
                if headers and refuses_header(error):
                    raise knows_no_conditions(error, self._endpoint) from None
                raise
            self._dialect = dataclasses.replace(self._dialect, checksum=False)  # the signature covers the content, too
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
        return _is_version(head["ETag"] if head else None, condition.get("IfMatch"))

    def _found(self, path: str) -> Found | None:
        return self._persist("read", path, lambda client: self._find(client, path))

    def _find(self, client: "S3Client", path: str) -> Found | None:
        """Give what is there, or None when it is absent.

        The writer noted SHA-256 and MD5 together. The noted SHA-256 is believed where the server's own digest, the
        ETag, is that MD5; everything else is read through: what another tool wrote, or where ETags are no MD5.
        """
        head = self._head(client, path)
        if head is None:
            return None
        known, md5 = head["Metadata"].get("sha256"), head["Metadata"].get("md5")
        if known and _is_version(head["ETag"], md5):
            return Found(known, head["ContentLength"], head["ETag"])
        found = self._read_through(client, path)
        if found is None or known in (None, found.sha256):
            return found
        if self._read_through(client, path) != found:  # else it is what lies there, and not the way to it
            raise Garbled
        return found

    def _read_through(self, client: "S3Client", path: str) -> Found | None:
        digest = hashlib.sha256()
        size = 0
        with self._opened(client, path) as response:
            if response is None:
                return None
            for piece in response["Body"].iter_chunks(PIECE):
                digest.update(piece)
                size += len(piece)
            return Found(digest.hexdigest(), size, response["ETag"])

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

    @property
    def _folder(self) -> str:
        return f"{self.prefix}/" if self.prefix else ""

    def _key(self, path: str) -> str:
        return f"{self._folder}{checked(path)}"

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
                self._connected = connect(self.read_timeout)
                self._endpoint = endpoint_of(self._connected)
            return self._connected


def _is_version(found: str | None, expected: str | None) -> bool:
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
