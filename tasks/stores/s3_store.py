"""A store in a bucket of Amazon S3 or of anything that speaks its protocol."""

import functools
import io
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from models.files.whole_file import appearing_whole
from tasks.stores.dialect import Dialect
from tasks.stores.s3_bucket import PATIENCE, READ_TIMEOUT, in_base64, is_version, receive
from tasks.stores.s3_connection import S3Connection
from tasks.stores.s3_error import ABSENT, Unreplaceable, code_of
from tasks.stores.s3_parts import S3Parts
from tasks.stores.s3_probe import learn
from tasks.stores.store import (
    PIECE,
    Changed,
    Conflict,
    Damaged,
    ListedObject,
    Missing,
    Step,
    Store,
    StoredObject,
    StoreError,
    at_once,
    is_plain,
    sha256_of,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CopySourceTypeDef, ListObjectsV2OutputTypeDef

PROBE_PATIENCE, PROBE_READ_TIMEOUT = 5.0, 10.0  # seconds; a person may be waiting, and no work is lost yet
LISTED_AT_ONCE = 16  # folders of a store that is larger than a page
DISPUTES = 3  # times that a store may refuse a condition that is seen to hold: others may have come and gone
DISPUTE_PAUSE = 0.1  # seconds longer before each of them


class S3Store(S3Parts, Store):
    """The promises of a store, kept by conditional writes. The version token of an object is its ETag."""

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        allow_unsafe: bool = False,
        patience: float = PATIENCE,
        read_timeout: float = READ_TIMEOUT,
        dialect: Dialect | None = None,
        connection: S3Connection | None = None,
    ) -> None:
        super().__init__(
            bucket, prefix, patience=patience, read_timeout=read_timeout, dialect=dialect, connection=connection
        )
        self.allow_unsafe = allow_unsafe
        self._has_learned = dialect is not None
        self._learning = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the address and the dialect alone: connections and locks stay here."""
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

    def put_once(self, path: str, data: bytes | Path, *, content_type: str | None = None) -> StoredObject:
        sha256, size = sha256_of(data)
        stored = self._adopt_or_put(path, data, sha256, size, content_type)
        if stored.sha256 != sha256:
            raise Conflict(self.uri_of(path), ours=sha256, theirs=stored.sha256)
        return stored

    def adopt_or_put(self, path: str, data: bytes | Path, *, content_type: str | None = None) -> StoredObject:
        sha256, size = sha256_of(data)
        return self._adopt_or_put(path, data, sha256, size, content_type)

    def replace(self, path: str, data: bytes | Path, *, expect: str | None, content_type: str | None = None) -> str:
        sha256, size = sha256_of(data)
        condition = {"IfNoneMatch": "*"} if expect is None else {"IfMatch": expect}
        if expect is not None or self.allow_unsafe:  # that an object must be absent, stores are told in one way
            self._learn()
        for turn in range(DISPUTES):
            time.sleep(random.uniform(0, turn * DISPUTE_PAUSE))
            if token := self._put(path, data, sha256, size, content_type, condition):
                return token
            # After a lost reply, the repeat fails the condition because of its own success.
            found = self._found(path)
            if found and found.sha256 == sha256:
                return found.version
            if not is_version(found.version if found else None, expect):
                raise Changed(self.uri_of(path))
        raise Unreplaceable(
            f"{self.uri_of(path)} can't be replaced, because the store says that somebody changed it, and nobody has",
            "use another store.",
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
                receive(response, content)
                return content.getvalue(), response["ETag"]

        return self._persist("read", path, attempt)

    def read_at_most(self, path: str, limit: int) -> bytes | None:
        def attempt(client: "S3Client") -> bytes | None:
            with self._opened(client, path) as response:
                if response is None:
                    return None
                content = bytearray()
                for piece in response["Body"].iter_chunks(PIECE):
                    content += piece
                    if len(content) > limit:
                        break
                return bytes(content[: limit + 1])

        return self._persist("read", path, attempt)

    def download(self, path: str, to: Path) -> str | None:
        def attempt(client: "S3Client") -> str | None:
            with self._opened(client, path) as response:
                if response is None:
                    return None
                with appearing_whole(to) as file:
                    receive(response, file)
                return response["ETag"]

        return self._persist("read", path, attempt)

    def listing(self, prefix: str) -> Iterator[ListedObject]:
        key = f"{self._key(prefix)}/" if prefix else self._folder
        first = self._page(key)
        if not first["IsTruncated"]:
            yield from self._listed(first)
            return
        folders = []
        for page in self._pages(key, Delimiter="/"):
            yield from self._listed(page)
            folders += [folder["Prefix"] for folder in page.get("CommonPrefixes", [])]

        def whole(folder: str) -> list[ListedObject]:
            return [listed for page in self._pages(folder) for listed in self._listed(page)]

        for listed in at_once(whole, folders, most=LISTED_AT_ONCE):
            yield from listed

    def _listed(self, page: "ListObjectsV2OutputTypeDef") -> Iterator[ListedObject]:
        for entry in page.get("Contents", []):
            path = entry["Key"].removeprefix(self._folder)
            if is_plain(path):  # a console marks a folder by an object whose name ends in a slash
                yield ListedObject(path, entry["Size"], entry["LastModified"], entry["ETag"])

    def exists(self, path: str) -> bool:
        return self._persist("read", path, lambda client: self._head(client, path)) is not None

    def version(self, path: str) -> str | None:
        head = self._persist("read", path, lambda client: self._head(client, path))
        return None if head is None else head["ETag"]

    def delete(self, path: str) -> None:
        def attempt(client: "S3Client") -> None:
            try:
                client.delete_object(Bucket=self.bucket, Key=self._key(path))
            except ClientError as error:
                if code_of(error) not in ABSENT:
                    raise

        self._persist("delete", path, attempt)

    def probe(self, passed: Callable[[Step], object] = lambda _: None) -> None:
        read_timeout = min(self.read_timeout, PROBE_READ_TIMEOUT)
        way = S3Connection(read_timeout, has_answered=self._connection.has_answered)

        def opened(dialect: Dialect) -> Store:
            return S3Store(
                self.bucket,
                self.prefix,
                allow_unsafe=self.allow_unsafe,
                patience=min(self.patience, PROBE_PATIENCE),
                read_timeout=read_timeout,
                dialect=dialect,
                connection=way,
            )

        learned = learn(opened, passed, unsafe=self.allow_unsafe)
        with self._adapting:
            self._dialect = learned
        self._connection.has_answered = True
        self._has_learned = True

    def keeps_versions(self) -> bool:
        try:
            answer = self._persist(
                "read", "", lambda client: client.get_bucket_versioning(Bucket=self.bucket), PROBE_PATIENCE
            )
        except StoreError:  # nobody needs this permission, and some stores don't know the question
            return False
        return answer.get("Status") == "Enabled"

    def _learn(self) -> None:
        """Learn the dialect, for a command that hasn't probed the store."""
        with self._learning:
            if not self._has_learned:
                self.probe()

    def _adopt_or_put(
        self, path: str, data: bytes | Path, sha256: str, size: int, content_type: str | None
    ) -> StoredObject:
        if self.allow_unsafe:
            self._learn()
        for _ in range(5):
            if self._put(path, data, sha256, size, content_type, {"IfNoneMatch": "*"}):
                return StoredObject(path, size, sha256, adopted=False)
            if found := self._found(path):
                return StoredObject(path, found.size, found.sha256, adopted=True)
        raise StoreError(f"{self.uri_of(path)} both exists and doesn't", "is somebody removing objects from the store?")
