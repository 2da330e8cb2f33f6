"""A picture from the web: from hosts that the job names, in bounded time and size."""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urljoin

import httpcore2
from httpcore2 import NetworkBackend, NetworkStream

from tasks.sources.source_error import SourceError, too_large
from tasks.sources.web_address import WebAddress, allowed, checked_hosts, public_addresses

CONNECT_TIMEOUT = 10.0  # seconds, for each address of a host
READ_TIMEOUT = 20.0  # seconds without a byte
PATIENCE = 120.0  # seconds for a picture, over all hops and tries
PAUSES = (0.5, 2.0, 8.0)  # seconds before each further try
REDIRECTED = (301, 302, 303, 307, 308)
PASSING = (408, 425, 429, 500, 502, 503, 504)
ABSENT = (404, 410)
HEADERS = (
    ("User-Agent", "packshot"),
    # A delivery network that picks the format by this header should pick one that is read.
    ("Accept", "image/png, image/jpeg, image/webp, image/tiff, image/*;q=0.1"),
    ("Accept-Encoding", "identity"),
)


class WebSource:
    """Fetches pictures, each over a connection of its own; safe to use from many threads.

    Proxies of the environment aren't used: they would look names up again, and connect where they like.
    """

    def __init__(
        self,
        hosts: tuple[str, ...],
        *,
        redirects: int = 0,
        patience: float = PATIENCE,
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
        pauses: tuple[float, ...] = PAUSES,
        loopback: bool = False,
    ) -> None:
        """Allow `hosts` (see `checked_hosts`), and as many redirects among them. `loopback` is for tests alone.

        Raises:
            RequestError: one of `hosts` isn't the name of a host.
        """
        self.hosts = checked_hosts(hosts)
        self.redirects = redirects
        self.patience = patience
        self.connect_timeout = connect_timeout
        self.read_timeout = read_timeout
        self.pauses = pauses
        self.loopback = loopback
        self._trust: ssl.SSLContext | None = None
        self._trusting = threading.Lock()

    def read(self, address: str, limit: int) -> bytes:
        """Return the content at an `http(s)://` address, of at most `limit` bytes.

        Raises:
            SourceError: it isn't allowed, isn't there, is too large, or doesn't arrive whole and in time.
        """
        deadline = time.monotonic() + self.patience
        for pause in self.pauses:
            try:
                return self._follow(allowed(address, self.hosts), limit, deadline)
            except SourceError as error:
                if not error.retryable or time.monotonic() + pause >= deadline:
                    raise
            time.sleep(pause)
        return self._follow(allowed(address, self.hosts), limit, deadline)

    def _follow(self, first: WebAddress, limit: int, deadline: float) -> bytes:
        here = first
        for hop in range(self.redirects + 1):
            with _in_sentences(here), self._answer(here, deadline) as answer:
                if answer.status not in REDIRECTED:
                    return _body(here, answer, limit)
                location = _header(answer, b"location")
            if hop < self.redirects:
                here = self._next(here, location)
        number = "one redirect" if self.redirects == 1 else f"{self.redirects or 'no'} redirects"
        raise SourceError(
            "source_not_allowed", f"{here.shown} leads on to another address, and {number} may be followed: give that."
        )

    def _next(self, here: WebAddress, location: str) -> WebAddress:
        try:
            following = allowed(urljoin(here.url, location), self.hosts)
        except ValueError:
            raise SourceError("bad_value", f"{here.shown} leads on to what isn't an address.") from None
        except SourceError as error:
            raise SourceError(error.reason, f"{here.shown} leads on to another address. {error.message}") from None
        if here.scheme == "https" and following.scheme == "http":
            raise SourceError("source_not_allowed", f"{here.shown} leads on from https to http.")
        return following

    @contextlib.contextmanager
    def _answer(self, here: WebAddress, deadline: float) -> Iterator[httpcore2.Response]:
        addresses = public_addresses(here.host, here.port, loopback=self.loopback)
        # Taken apart already: nobody reads the address a second time, and perhaps otherwise.
        url = httpcore2.URL(scheme=here.scheme, host=here.host, port=here.port, target=here.path + here.query)
        timeouts = {"connect": self.connect_timeout, "read": self.read_timeout, "write": self.read_timeout}
        backend = PinnedBackend(addresses, deadline)
        with (
            httpcore2.ConnectionPool(self._context(), max_connections=1, network_backend=backend) as pool,
            pool.stream("GET", url, headers=list(HEADERS), extensions={"timeout": timeouts}) as answer,
        ):
            yield answer

    def _context(self) -> ssl.SSLContext:
        with self._trusting:
            if self._trust is None:
                self._trust = httpcore2.default_ssl_context()
            return self._trust


class PinnedBackend(NetworkBackend):
    """Connects to `addresses` whatever the name, and lets nothing go on beyond `deadline` (of `time.monotonic`).

    TLS and the Host header keep the name.
    """

    def __init__(self, addresses: list[str], deadline: float) -> None:
        self.addresses = addresses
        self.deadline = deadline
        self.network = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,  # noqa: ARG002  it was looked up already
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> NetworkStream:
        for address in self.addresses[:-1]:
            with contextlib.suppress(httpcore2.ConnectError, httpcore2.ConnectTimeout):
                return self._connect(address, port, timeout, local_address, socket_options)
        return self._connect(self.addresses[-1], port, timeout, local_address, socket_options)

    def _connect(self, address: str, port: int, timeout: float | None, *rest: Any) -> NetworkStream:
        return BoundedStream(
            self.network.connect_tcp(address, port, within(timeout, self.deadline), *rest), self.deadline
        )


class BoundedStream(NetworkStream):
    """A connection that ends at `deadline`, however little arrives at a time."""

    def __init__(self, stream: NetworkStream, deadline: float) -> None:
        self.stream = stream
        self.deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.stream.read(max_bytes, within(timeout, self.deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.stream.write(buffer, within(timeout, self.deadline))

    def close(self) -> None:
        self.stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> NetworkStream:
        secure = self.stream.start_tls(ssl_context, server_hostname, within(timeout, self.deadline))
        return BoundedStream(secure, self.deadline)

    def get_extra_info(self, info: str) -> Any:
        return self.stream.get_extra_info(info)


def within(timeout: float | None, deadline: float) -> float:
    """Return the seconds that one step may take.

    Raises:
        httpcore2.ReadTimeout: none are left.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore2.ReadTimeout("the time is over")
    return left if timeout is None else min(timeout, left)


def _body(here: WebAddress, answer: httpcore2.Response, limit: int) -> bytes:
    if answer.status in ABSENT:
        raise SourceError("source_not_found", f"There is nothing at {here.shown} (HTTP {answer.status}).")
    if answer.status != 200:
        raise SourceError(
            "source_unreachable",
            f"The server doesn't give out {here.shown} (HTTP {answer.status}).",
            retryable=answer.status in PASSING,
        )
    if _header(answer, b"content-encoding").lower() not in ("", "identity"):
        raise SourceError("source_unsupported", f"{here.shown} arrives compressed, though that wasn't asked for.")
    declared = _header(answer, b"content-length")
    if declared.isdecimal() and int(declared[:20]) > limit:
        raise too_large(here.shown, limit)
    data = bytearray()
    for piece in answer.iter_stream():
        data += piece
        if len(data) > limit:
            raise too_large(here.shown, limit)
    return bytes(data)


def _header(answer: httpcore2.Response, name: bytes) -> str:
    return next((value.decode("latin-1").strip() for key, value in answer.headers if key.lower() == name), "")


@contextlib.contextmanager
def _in_sentences(here: WebAddress) -> Iterator[None]:
    try:
        yield
    except httpcore2.TimeoutException:
        raise SourceError("source_unreachable", f"{here.shown} doesn't arrive in time.", retryable=True) from None
    except httpcore2.NetworkError as error:
        if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in error.args):
            raise SourceError(
                "source_unreachable", f"{here.host} has no certificate we trust: set SSL_CERT_FILE to its authority's."
            ) from None
        raise SourceError(
            "source_unreachable", f"The connection to {here.host} fails or breaks off.", retryable=True
        ) from None
    except httpcore2.RemoteProtocolError:
        raise SourceError(
            "source_unreachable", f"{here.host} breaks off its answer, or answers in no HTTP.", retryable=True
        ) from None
