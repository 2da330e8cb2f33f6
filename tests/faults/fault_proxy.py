"""A way to the S3 server on which things go wrong: moto never answers 409 or 503, and never breaks a connection.

with FaultProxy(s3_server) as proxy:
    proxy.inject(answer(503, "SlowDown"), method="PUT", times=2)
"""

import functools
import http.client
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

ONCE_ONLY = ("connection", "expect", "transfer-encoding", "date", "server")  # headers that end at a proxy


@dataclass
class Answer:
    status: int
    headers: dict[str, str]  # their names in lower case
    body: bytes


@dataclass(frozen=True)
class Question:
    """A request, as an answer has its parts."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Ask = Callable[[Question], Answer]
Quirk = Callable[[Ask, Question], Answer]
"""How a store differs from others: it is given a way to the server, and a question to ask there, to answer otherwise or
to change."""


class Exchange(BaseHTTPRequestHandler):
    """One request on its way."""

    protocol_version = "HTTP/1.1"
    proxy: "FaultProxy"

    def serve(self) -> None:
        self.without: tuple[str, ...] = ()
        fault = self.proxy.next_fault(self.command, self.path, {name.lower() for name in self.headers})
        (fault or passing)(self)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = serve  # noqa: N815

    def finish(self) -> None:
        super().finish()
        self.proxy.close_way()

    def content(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def forward(self) -> Answer:
        """Let the server do what was asked, in the proxy's dialect."""
        content = self.content()
        headers = {n.lower(): v for n, v in self.headers.items() if n.lower() not in (*ONCE_ONLY, *self.without)}
        ask = self.proxy.ask
        for quirk in reversed(self.proxy.quirks):
            ask = functools.partial(quirk, ask)
        return ask(Question(self.command, self.path, headers, content))

    def reply(self, answer: Answer, *, only: int | None = None) -> None:
        """Give the answer to the client, or `only` so many bytes of its body."""
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if self.command != "HEAD" and "content-length" not in answer.headers:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[:only])
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


Fault = Callable[[Exchange], None]


def error(status: int, code: str) -> Answer:
    """An error as S3 gives it."""
    body = f"<Error><Code>{code}</Code><Message>a secret of the request</Message></Error>".encode()
    return Answer(status, {"content-type": "application/xml"}, body)


def passing(exchange: Exchange) -> None:
    exchange.reply(exchange.forward())


def answer(status: int, code: str) -> Fault:
    """Answer with an error of S3; the server never hears of the request."""

    def fault(exchange: Exchange) -> None:
        exchange.content()
        exchange.reply(error(status, code))

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


def half_request(exchange: Exchange) -> None:
    """Break the connection in the middle of what the client sends; the server never hears of it."""
    exchange.rfile.read(int(exchange.headers.get("Content-Length", 0)) // 2)
    exchange.close_connection = True


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
    def __init__(self, server: str, *quirks: Quirk) -> None:
        """Stand before a server, and speak as if it had these quirks: the first one is the nearest to the client."""
        self.upstream = urlsplit(server).netloc
        self.quirks = quirks
        self.halfway = threading.Event()
        self.closing = threading.Event()
        self.seen: list[tuple[str, str]] = []
        self._injected: list[Injected] = []
        self._at_random: tuple[Sequence[tuple[Fault, str]], float, random.Random] = ((), 0.0, random.Random())
        self._met_at_random: list[str] = []
        self._lock = threading.Lock()
        self._ways = threading.local()  # to the server: each connection of a client is served by a thread of its own
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

    def inject_at_random(self, faults: Sequence[tuple[Fault, str]], *, rate: float, seed: int) -> list[str]:
        """Let each request meet one of these faults, each with the methods that it is for, at this rate.

        Returns a list to which the names of those that were met are added.
        """
        self._at_random = (faults, rate, random.Random(seed))
        return self._met_at_random

    def ask(self, question: Question) -> Answer:
        """Ask the server itself, on a connection that stays for as long as the client keeps its own."""
        connection = getattr(self._ways, "connection", None) or http.client.HTTPConnection(self.upstream, timeout=30)
        self._ways.connection = connection
        try:
            connection.request(question.method, question.path, body=question.body, headers=question.headers)
            response = connection.getresponse()
            kept = {n.lower(): v for n, v in response.headers.items() if n.lower() not in ONCE_ONLY}
            return Answer(response.status, kept, response.read())
        except OSError:
            connection.close()  # which opens it anew for the next question
            raise

    def close_way(self) -> None:
        """Close this thread's connection to the server, if it has one."""
        if connection := getattr(self._ways, "connection", None):
            connection.close()

    def next_fault(self, method: str, path: str, headers: set[str]) -> Fault | None:
        with self._lock:
            self.seen.append((method, path))
            for one in self._injected:
                fits = one.method in ("", method) and (not one.having or one.having in headers) and one.path in path
                if fits and (one.times is None or one.met < one.times):
                    one.met += 1
                    return one.fault
            faults, rate, chance = self._at_random
            if chance.random() < rate:
                fault, _ = chance.choice([one for one in faults if method in one[1].split()] or [(passing, "")])
                self._met_at_random.append(getattr(fault, "__name__", "answer"))
                return fault
        return None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
