"""A hub on this machine that serves folders as repositories, and on which things go wrong.

with HubServer() as hub:
    hub.add("acme/shop", COMMIT, folder)
    hub.inject(busy(seconds=1), path="transformer/")
"""

import functools
import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

LFS_FROM = 64 << 10  # bytes from which a file counts as large: the hub gives its SHA-256 instead of its git blob


class Exchange(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    hub: "HubServer"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.seen.append(Seen(self.command, path, {name.lower(): value for name, value in self.headers.items()}))
        fault = self.hub.next_fault(self.command, path)
        (fault or Exchange.serve)(self)

    do_HEAD = do_GET  # noqa: N815

    def serve(self, *, damage: bool = False, only: int | None = None) -> None:
        """Answer as a hub does; with one wrong byte, or only so many of them before the connection breaks."""
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/api/models/"):
            self._tree(path, only=only)
        elif path.startswith("/storage/"):
            self._content(self.hub.blobs[path.removeprefix("/storage/")], damage=damage, only=only)
        else:
            self._resolve(path, damage=damage, only=only)

    def _tree(self, path: str, *, only: int | None) -> None:
        repository, _, revision = path.removeprefix("/api/models/").partition("/tree/")
        folder = self._folder(repository, revision)
        if folder is not None:
            self.reply(200, json.dumps(listed(folder)).encode(), only=only)

    def _resolve(self, path: str, *, damage: bool, only: int | None) -> None:
        repository, _, rest = path.removeprefix("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        folder = self._folder(repository, revision)
        if folder is None:
            return
        file = folder / name
        if not file.is_file():
            self.refuse(404, "EntryNotFound")
            return
        about = {"X-Repo-Commit": revision, "X-Linked-Size": str(file.stat().st_size)}
        if file.stat().st_size < LFS_FROM:
            about["ETag"] = f'"{hashes(file)[1]}"'
            self._content(file, about, damage=damage, only=only)
            return
        sha256 = self.hub.blob(file)
        about |= {"X-Linked-Etag": f'"{sha256}"', "Location": f"{self.hub.storage}/{sha256}"}
        self.reply(302, b"", about)

    def _content(
        self, file: Path, about: dict[str, str] | None = None, *, damage: bool = False, only: int | None = None
    ) -> None:
        content = bytearray(file.read_bytes())
        if damage:
            content[len(content) // 2] ^= 1
        begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        about = about or {}
        if begin:
            about["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        self.reply(206 if begin else 200, bytes(content[begin:]), about, only=only)

    def _folder(self, repository: str, revision: str) -> Path | None:
        """The folder of a repository at a commit; None if the refusal was sent."""
        if self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self.refuse(401, "RepoNotFound")
        elif repository in self.hub.gated:
            self.refuse(403, "GatedRepo")
        elif repository not in {name for name, _ in self.hub.repositories}:
            self.refuse(404, "RepoNotFound")
        elif (repository, revision) not in self.hub.repositories:
            self.refuse(404, "RevisionNotFound")
        return self.hub.repositories.get((repository, revision)) if not self.answered else None

    answered = False

    def refuse(self, status: int, code: str) -> None:
        self.reply(status, b'{"error": "no"}', {"X-Error-Code": code})

    def reply(
        self, status: int, content: bytes, about: dict[str, str] | None = None, *, only: int | None = None
    ) -> None:
        self.answered = True
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(about or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:only])
        if only is not None:
            self.wfile.flush()
            self.close_connection = True

    def handle_one_request(self) -> None:
        self.answered = False
        super().handle_one_request()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """What the other side does with a bad answer is its own business."""


Fault = Callable[[Exchange], None]


def busy(seconds: int | None = None, status: int = 429) -> Fault:
    """Ask to come again in so many seconds."""

    def fault(exchange: Exchange) -> None:
        exchange.reply(status, b"", {} if seconds is None else {"Retry-After": str(seconds)})

    return fault


def torn(after: int) -> Fault:
    """Break the connection after so many bytes of the content."""
    return lambda exchange: exchange.serve(only=after)


def stalled(after: int) -> Fault:
    """Send so many bytes of the content, and then nothing more for as long as the hub is there."""

    def fault(exchange: Exchange) -> None:
        exchange.serve(only=after)
        exchange.hub.closing.wait()

    return fault


def damaged(exchange: Exchange) -> None:
    """Send the content with one wrong byte."""
    exchange.serve(damage=True)


@dataclass(frozen=True)
class Seen:
    """What somebody asked for."""

    method: str
    path: str
    headers: dict[str, str]  # names in lower case

    @property
    def partial(self) -> bool:
        """Whether it was a part of a content."""
        return "range" in self.headers


@dataclass
class Injected:
    fault: Fault
    method: str
    path: str
    times: int | None
    met: int = field(default=0)


class HubServer:
    """Repositories by name and commit, and what was asked for."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Path] = {}
        self.gated: set[str] = set()
        self.token: str | None = None  # that every request has to bring
        self.blobs: dict[str, Path] = {}  # by SHA-256
        self.seen: list[Seen] = []
        self.closing = threading.Event()
        self._injected: list[Injected] = []
        self._lock = threading.Lock()
        handler = type("BoundExchange", (Exchange,), {"hub": self})
        self._server = Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def storage(self) -> str:
        """Where contents of large files are: another host, which is to see no token."""
        return f"http://localhost:{self._server.server_port}/storage"

    def add(self, repository: str, revision: str, folder: Path) -> None:
        self.repositories[repository, revision] = folder
        for file in folder.rglob("*"):
            if file.is_file() and file.stat().st_size >= LFS_FROM:
                self.blob(file)

    def blob(self, file: Path) -> str:
        sha256 = hashes(file)[0]
        self.blobs[sha256] = file
        return sha256

    def inject(self, fault: Fault, *, method: str = "GET", path: str = "", times: int | None = 1) -> None:
        """Let the next `times` requests (None: all) to a path meet this fault: of a large file, where it is stored."""
        for sha256, file in self.blobs.items():
            if path and str(file).endswith(path):
                path = f"/storage/{sha256}"
        self._injected.append(Injected(fault, method, path, times))

    def next_fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for one in self._injected:
                if one.method == method and one.path in path and (one.times is None or one.met < one.times):
                    one.met += 1
                    return one.fault
        return None

    def contents(self) -> list[Seen]:
        """The requests for contents."""
        return [seen for seen in self.seen if seen.method == "GET" and not seen.path.startswith("/api/")]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def listed(folder: Path) -> list[dict[str, Any]]:
    """The files of a repository as a hub lists them."""
    return [_entry(file, folder) for file in sorted(folder.rglob("*")) if file.is_file()]


def _entry(file: Path, folder: Path) -> dict[str, Any]:
    size = file.stat().st_size
    sha256, git_blob = hashes(file)
    about = {"type": "file", "path": file.relative_to(folder).as_posix(), "size": size, "oid": git_blob}
    if size >= LFS_FROM:
        about["lfs"] = {"size": size, "oid": sha256, "pointerSize": 134}
    return about


def hashes(file: Path) -> tuple[str, str]:
    """The SHA-256 of a file, and the name that git gives its content."""
    return _hashes(file, file.stat().st_mtime_ns)


@functools.cache
def _hashes(file: Path, _: int) -> tuple[str, str]:
    content = file.read_bytes()
    return hashlib.sha256(content).hexdigest(), hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
