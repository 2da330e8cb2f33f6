"""A web server that answers as badly as a test wants it to."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Answer = Callable[[socket.socket], None]


@dataclass
class Request:
    """What somebody asked for."""

    target: str
    headers: dict[str, str]  # names in lower case


@dataclass
class BadServer:
    """Answers by target: one after another, the last one for ever. `sends` makes plain ones."""

    port: int
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    server_names: list[str] = field(default_factory=list)  # of TLS connections

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def address(self, target: str) -> str:
        return f"http://{self.host}{target}"

    def targets(self) -> list[str]:
        return [request.target for request in self.requests]


def sends(body: bytes = b"", status: str = "200 OK", **headers: str | int) -> Answer:
    """An answer of one piece, with its right length unless `headers` say otherwise (`content_length=3`)."""
    said = {"content_length": len(body), "connection": "close", **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in said.items())
    return lambda connection: connection.sendall(f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body)


def leads_to(address: str) -> Answer:
    return sends(status="302 Found", location=address)


def resets(connection: socket.socket) -> None:
    """Break the connection off in the middle."""
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def forever(head: bytes, piece: bytes, pause: float, over: threading.Event) -> Answer:
    """Send `head`, and then `piece` again and again."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(head)
        while not over.wait(pause):
            connection.sendall(piece)

    return answer


@contextlib.contextmanager
def serving(trust: ssl.SSLContext | None = None) -> Iterator[BadServer]:
    """A server on this machine, over TLS if `trust` holds a certificate."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):  # what the other side does with a bad answer
                connection = self.request if trust is None else trust.wrap_socket(self.request, server_side=True)
                with contextlib.closing(connection):
                    self.answer(connection)

        def answer(self, connection: socket.socket) -> None:
            head = b""
            while b"\r\n\r\n" not in head:
                if not (piece := connection.recv(4096)):
                    return
                head += piece
            first, *lines = head.decode("latin-1").split("\r\n\r\n")[0].split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            target = first.split(" ")[1]
            bad.requests.append(Request(target, headers))
            answers = bad.answers.get(target, [sends(status="404 Not Found")])
            (answers.pop(0) if len(answers) > 1 else answers[0])(connection)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        bad = BadServer(server.server_address[1])
        if trust is not None:
            trust.sni_callback = lambda _, name, __: bad.server_names.append(str(name))
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield bad
        server.shutdown()
        thread.join()
