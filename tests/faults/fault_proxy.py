"""A way to the S3 server on which things go wrong: moto never answers 409 or 503, and never breaks a connection.

with FaultProxy(s3_server) as proxy:
    proxy.inject(answer(503, "SlowDown"), method="PUT", times=2)
"""

import http.client
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

ONCE_ONLY = ("connection", "expect", "transfer-encoding", "date", "server")  # headers that end at a proxy


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Exchange(BaseHTTPRequestHandler):
    """One request on its way."""

    protocol_version = "HTTP/1.1"
    proxy: "FaultProxy"

    def serve(self) -> None:
        self.without: tuple[str, ...] = ()
        fault = self.proxy.next_fault(self.command, self.path, {name.lower() for name in self.headers})
        (fault or passing)(self)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = serve  # noqa: N815

    def content(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def forward(self) -> Answer:
        """Let the server do what was asked."""
        content = self.content()
        headers = {n: v for n, v in self.headers.items() if n.lower() not in (*ONCE_ONLY, *self.without)}
        connection = http.client.HTTPConnection(self.proxy.upstream, timeout=30)
        try:
            connection.request(self.command, self.path, body=content, headers=headers)
            response = connection.getresponse()
            kept = {n: v for n, v in response.headers.items() if n.lower() not in ONCE_ONLY}
            return Answer(response.status, kept, response.read())
        finally:
            connection.close()

    def reply(self, answer: Answer, *, only: int | None = None) -> None:
        """Give the answer to the client, or `only` so many bytes of its body."""
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if self.command != "HEAD" and "content-length" not in {name.lower() for name in answer.headers}:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[:only])
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


Fault = Callable[[Exchange], None]


def passing(exchange: Exchange) -> None:
    exchange.reply(exchange.forward())


def answer(status: int, code: str) -> Fault:
    """Answer with an error of S3; the server never hears of the request."""

    def fault(exchange: Exchange) -> None:
        exchange.content()
        body = f"<Error><Code>{code}</Code><Message>a secret of the request</Message></Error>".encode()
        exchange.reply(Answer(status, {"Content-Type": "application/xml"}, body))

    return fault


def lost_request(exchange: Exchange) -> None:
    """Break the connection before the server hears of the request."""
    exchange.content()
    exchange.close_connection = True


def lost_reply(exchange: Exchange) -> None:
    """Let the server do what was asked, and break the connection before the client hears of it."""
    exchange.forward()
    exchange.close_connection = True


def torn_reply(exchange: Exchange) -> None:
    """Break the connection in the middle of the content."""
    answer = exchange.forward()
    exchange.reply(answer, only=len(answer.body) // 2)
    exchange.close_connection = True


def damaged_reply(exchange: Exchange) -> None:
    """Change the content on the way to the client."""
    answer = exchange.forward()
    exchange.reply(Answer(answer.status, answer.headers, bytes(len(answer.body))))


def without(*headers: str) -> Fault:
    """Pass the request on as if it didn't have these headers: a store that accepts and ignores them."""

    def fault(exchange: Exchange) -> None:
        exchange.without = headers
        passing(exchange)

    return fault


def hang(exchange: Exchange) -> None:
    """Take the request and never answer."""
    exchange.content()
    exchange.proxy.closing.wait()
    exchange.close_connection = True


def taken_in_part(exchange: Exchange) -> None:
    """Take the start of the content, say so through `proxy.halfway`, and stop reading until the client is gone."""
    exchange.rfile.read(1 << 20)
    exchange.proxy.halfway.set()
    exchange.proxy.closing.wait()
    exchange.close_connection = True


@dataclass
class Injected:
    fault: Fault
    method: str
    having: str
    path: str
    times: int | None
    met: int = field(default=0)


class FaultProxy:
    def __init__(self, server: str) -> None:
        self.upstream = urlsplit(server).netloc
        self.halfway = threading.Event()
        self.closing = threading.Event()
        self.seen: list[tuple[str, str]] = []
        self._injected: list[Injected] = []
        self._lock = threading.Lock()
        handler = type("BoundExchange", (Exchange,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def inject(
        self, fault: Fault, *, method: str = "", having: str = "", path: str = "", times: int | None = 1
    ) -> Injected:
        """Let the next `times` requests (None: all) of a method, with a header, to a path, meet this fault."""
        injected = Injected(fault, method, having, path, times)
        self._injected.append(injected)
        return injected

    def next_fault(self, method: str, path: str, headers: set[str]) -> Fault | None:
        with self._lock:
            self.seen.append((method, path))
            for one in self._injected:
                fits = one.method in ("", method) and (not one.having or one.having in headers) and one.path in path
                if fits and (one.times is None or one.met < one.times):
                    one.met += 1
                    return one.fault
        return None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
