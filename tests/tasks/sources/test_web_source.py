"""A picture from the web arrives whole, in time and from where it should, or its row fails with a sentence."""

from __future__ import annotations

import datetime
import gzip
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.sources.source_error import SourceError
from tasks.sources.web_source import WebSource
from tests.tasks.bad_server import BadServer, forever, leads_to, resets, sends, serving

PICTURE = b"\x89PNG" + os.urandom(300_000)
LIMIT = 1 << 20


@pytest.fixture
def server() -> Iterator[BadServer]:
    with serving() as server:
        yield server


@pytest.fixture
def over() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def source(*servers: BadServer, **options: Any) -> WebSource:
    patient = {"patience": 90.0, "connect_timeout": 30.0, "read_timeout": 30.0}  # on a busy machine, too
    quick = {"pauses": (0.01, 0.01), "loopback": True}
    return WebSource(tuple(server.host for server in servers), **{**patient, **quick, **options})


def refusal(web: WebSource, address: str) -> SourceError:
    with pytest.raises(SourceError) as refused:
        web.read(address, LIMIT)
    return refused.value


def test_a_picture_arrives_whole_and_unchanged(server: BadServer) -> None:
    server.answers["/a.png?w=1"] = [sends(PICTURE, content_type="text/html")]
    assert source(server).read(server.address("/a.png?w=1"), LIMIT) == PICTURE
    (request,) = server.requests
    assert request.headers["host"] == server.host
    assert request.headers["accept-encoding"] == "identity"
    assert not {"authorization", "cookie", "referer"} & set(request.headers)


def test_without_the_tests_own_leave_this_machine_is_never_asked(server: BadServer) -> None:
    error = refusal(source(server, loopback=False), server.address("/a.png"))
    assert error.reason == "source_not_allowed"
    assert server.requests == []


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "http://a b:port"])
def test_proxies_of_the_environment_are_not_used(
    server: BadServer, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    server.answers["/"] = [sends(PICTURE)]
    assert source(server).read(server.address("/"), LIMIT) == PICTURE


def test_a_name_is_looked_up_once_and_the_connection_goes_there(
    server: BadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookups: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: str, *rest: Any, **more: Any) -> Any:
        if host != "shop.example":
            return real(host, *rest, **more)
        lookups.append(host)
        return real("127.0.0.1" if len(lookups) == 1 else "10.0.0.1", *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    server.answers["/a.png"] = [sends(PICTURE)]
    web = WebSource((f"shop.example:{server.port}",), loopback=True)
    assert web.read(f"http://shop.example:{server.port}/a.png", LIMIT) == PICTURE
    assert lookups == ["shop.example"]
    assert server.requests[0].headers["host"] == f"shop.example:{server.port}"


def test_a_redirect_is_not_followed_unless_the_job_says_so(server: BadServer) -> None:
    server.answers |= {"/a": [leads_to("/b")], "/b": [sends(PICTURE)]}
    assert refusal(source(server), server.address("/a")).reason == "source_not_allowed"
    assert server.targets() == ["/a"]
    assert source(server, redirects=1).read(server.address("/a"), LIMIT) == PICTURE


def test_few_redirects_are_followed(server: BadServer) -> None:
    server.answers["/loop"] = [leads_to("/loop")]
    error = refusal(source(server, redirects=3), server.address("/loop"))
    assert error.reason == "source_not_allowed"
    assert "3 redirects" in error.message
    assert server.targets() == 4 * ["/loop"]


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://localhost/",
        "http://user:canary@{host}/",
        "http://{host}\\@evil.example/",
        "file:///etc/passwd",
        "//evil.example/a?token=canary",
        "http://[::1",
        "",
    ],
)
def test_a_redirect_off_the_list_is_refused_like_an_address_in_the_manifest(server: BadServer, target: str) -> None:
    server.answers["/a"] = [leads_to(target.format(host=server.host))]
    error = refusal(source(server, redirects=3), server.address("/a"))
    assert error.reason in ("source_not_allowed", "bad_value")
    assert "canary" not in error.message
    assert set(server.targets()) == {"/a"}


def test_a_redirect_to_a_name_of_a_private_address_is_refused(
    server: BadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *rest, **more: real("10.0.0.1" if host == "inside.example" else host, *rest, **more),
    )
    server.answers["/a"] = [leads_to("http://inside.example/")]
    web = WebSource((server.host, "inside.example"), redirects=3, loopback=True)
    assert "isn't on the public internet" in refusal(web, server.address("/a")).message


def test_more_than_the_limit_is_refused_before_it_is_read_when_it_is_declared(server: BadServer) -> None:
    server.answers["/"] = [sends(b"x", content_length=LIMIT + 1)]
    error = refusal(source(server), server.address("/"))
    assert (error.reason, error.retryable) == ("source_too_large", False)
    assert server.targets() == ["/"]


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", bytes(65_536)),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"10000\r\n" + bytes(65_536) + b"\r\n"),
    ],
)
def test_an_endless_answer_is_cut_off_at_the_limit(
    server: BadServer, over: threading.Event, head: bytes, piece: bytes
) -> None:
    server.answers["/"] = [forever(head, piece, 0.0, over)]
    assert refusal(source(server), server.address("/")).reason == "source_too_large"


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nx-slow: ", b"x"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
def test_a_server_that_drips_is_left_when_the_time_is_over(
    server: BadServer, over: threading.Event, head: bytes, piece: bytes
) -> None:
    server.answers["/"] = [forever(head, piece, 0.05, over)]
    start = time.monotonic()
    error = refusal(source(server, patience=0.5), server.address("/"))
    assert (error.reason, error.retryable) == ("source_unreachable", True)
    assert time.monotonic() - start < 40  # the shortest of these answers takes 50 s


def test_a_server_that_says_nothing_is_left_after_the_read_timeout(server: BadServer, over: threading.Event) -> None:
    server.answers["/"] = [forever(b"", b"", 60, over)]
    error = refusal(source(server, read_timeout=0.2, pauses=()), server.address("/"))
    assert "in time" in error.message


def test_endless_headers_are_cut_off(server: BadServer, over: threading.Event) -> None:
    server.answers["/"] = [forever(b"HTTP/1.1 200 OK\r\n", b"x-more: " + b"x" * 8000 + b"\r\n", 0.0, over)]
    assert refusal(source(server), server.address("/")).reason == "source_unreachable"


def test_a_compressed_answer_is_refused_and_never_unpacked(server: BadServer) -> None:
    server.answers["/"] = [sends(gzip.compress(bytes(10_000_000)), content_encoding="gzip")]
    assert refusal(source(server), server.address("/")).reason == "source_unsupported"


@pytest.mark.parametrize(
    "first",
    [
        sends(status="503 Service Unavailable"),
        sends(status="429 Too Many Requests"),
        resets,
        sends(PICTURE[:1000], content_length=len(PICTURE)),
        sends(b"", status="nonsense"),
    ],
)
def test_what_passes_is_tried_again(server: BadServer, first: Callable[[socket.socket], None]) -> None:
    server.answers["/"] = [first, first, sends(PICTURE)]
    assert source(server).read(server.address("/"), LIMIT) == PICTURE
    assert len(server.requests) == 3


def test_what_does_not_pass_in_three_tries_may_another_day(server: BadServer) -> None:
    server.answers["/"] = [sends(status="503 Service Unavailable")]
    error = refusal(source(server), server.address("/"))
    assert (error.reason, error.retryable) == ("source_unreachable", True)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("404 Not Found", "source_not_found"),
        ("410 Gone", "source_not_found"),
        ("403 Forbidden", "source_unreachable"),
        ("204 No Content", "source_unreachable"),
        ("206 Partial Content", "source_unreachable"),
    ],
)
def test_what_will_not_change_is_asked_for_once(server: BadServer, status: str, reason: str) -> None:
    server.answers["/a?signature=canary"] = [sends(status=status)]
    error = refusal(source(server), server.address("/a?signature=canary"))
    assert (error.reason, error.retryable) == (reason, False)
    assert "canary" not in error.message
    assert status[:3] in error.message
    assert len(server.requests) == 1


def test_a_server_that_is_not_there_is_out_of_reach() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{unused.getsockname()[1]}"
        error = refusal(WebSource((host,), pauses=(0.01,), loopback=True), f"http://{host}/")
    assert (error.reason, error.retryable) == ("source_unreachable", True)


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BadServer]:
    """A TLS server with a certificate for shop.example; that name and others.example lead to it."""
    certificate = certificate_for("shop.example", tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *rest, **more: real("127.0.0.1" if host.endswith(".example") else host, *rest, **more),
    )
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trust.load_cert_chain(certificate)
    with serving(trust) as server:
        yield server


def certificate_for(name: str, folder: Path) -> Path:
    """A certificate that vouches for itself, with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    named = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(named, named, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    file.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return file


def test_tls_asks_for_the_name_though_the_connection_goes_to_an_address(secure: BadServer) -> None:
    secure.answers["/a.png"] = [sends(PICTURE)]
    web = WebSource((f"shop.example:{secure.port}",), loopback=True)
    assert web.read(f"https://shop.example:{secure.port}/a.png", LIMIT) == PICTURE
    assert secure.server_names == ["shop.example"]


def test_a_certificate_for_another_name_is_not_trusted(secure: BadServer) -> None:
    web = WebSource((f"others.example:{secure.port}",), loopback=True)
    error = refusal(web, f"https://others.example:{secure.port}/a.png")
    assert (error.reason, error.retryable) == ("source_unreachable", False)
    assert "certificate" in error.message
    assert secure.requests == []


def test_a_redirect_from_https_to_http_is_refused(secure: BadServer, server: BadServer) -> None:
    secure.answers["/a.png"] = [leads_to(server.address("/a.png"))]
    server.answers["/a.png"] = [sends(PICTURE)]
    web = WebSource((f"shop.example:{secure.port}", server.host), redirects=1, loopback=True)
    assert "from https to http" in refusal(web, f"https://shop.example:{secure.port}/a.png").message
    assert server.requests == []
