"""Who may be asked for a picture."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest

from tasks.errors import RequestError
from tasks.sources.source_error import SourceError
from tasks.sources.web_address import allowed, checked_hosts, is_public, public_addresses

HOSTS = checked_hosts(("CDN.example.com", "shop.example:8080"))


@pytest.mark.parametrize(
    ("address", "understood"),
    [
        ("https://cdn.example.com", "https://cdn.example.com/"),
        ("HTTPS://CDN.Example.com:443/a.png", "https://cdn.example.com/a.png"),
        ("http://cdn.example.com:80/a b/ü.png?w=1&t=%20", "http://cdn.example.com/a%20b/%C3%BC.png?w=1&t=%20"),
        ("http://shop.example:8080//x", "http://shop.example:8080//x"),
    ],
)
def test_an_address_on_a_named_host_is_understood(address: str, understood: str) -> None:
    assert allowed(address, HOSTS).url == understood


@pytest.mark.parametrize(
    "address",
    [
        "https://example.com/a.png",
        "https://evil.cdn.example.com/a.png",
        "https://cdn.example.com.evil.example/a.png",
        "https://cdn.example.com./a.png",
        "https://cdn.example.com:8443/a.png",
        "http://cdn.example.com:443/a.png",
        "https://shop.example/a.png",
        "https://cdn.example.com@evil.example/a.png",
        "https://user:hunter2@cdn.example.com/a.png",
        "https://cdn.exаmple.com/a.png",  # a Cyrillic а
        "http://2130706433/",
        "http://[::1]/",
    ],
)
def test_an_address_elsewhere_is_not_allowed(address: str) -> None:
    with pytest.raises(SourceError) as refused:
        allowed(address, HOSTS)
    assert refused.value.reason == "source_not_allowed"
    assert not refused.value.retryable
    assert "hunter2" not in refused.value.message


@pytest.mark.parametrize(
    "address",
    [
        "https://",
        "https:///a.png",
        "https://cdn.example.com:port/",
        "https://cdn.example.com:99999/",
        "http://[::1/",
        "https://cdn.example.com\\@evil.example/",
        "https://cdn.example.com/a\r\nHost: evil.example",
        "ftp://cdn.example.com/a.png",
    ],
)
def test_what_is_no_web_address_is_a_bad_value(address: str) -> None:
    with pytest.raises(SourceError) as refused:
        allowed(address, HOSTS)
    assert refused.value.reason == "bad_value"


def test_a_message_never_shows_the_query() -> None:
    assert allowed("https://cdn.example.com/a.png?X-Amz-Signature=canary", HOSTS).shown == (
        "https://cdn.example.com/a.png"
    )


@pytest.mark.parametrize(
    "host", ["", "https://cdn.example.com", "cdn.example.com/", "*.example.com", "bücher.example", " "]
)
def test_a_job_that_names_no_host_is_refused(host: str) -> None:
    with pytest.raises(RequestError, match="image_hosts"):
        checked_hosts((host,))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.100.100.200",
        "192.0.0.192",
        "192.0.2.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "192.88.99.1",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "fd00:ec2::254",
        "fec0::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:db8::1",
        "fe80::1%1",
    ],
)
def test_addresses_that_are_nobodys_or_our_own_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def looked_up(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_one_private_address_among_public_ones_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up(monkeypatch, "93.184.216.34", "10.0.0.1")
    with pytest.raises(SourceError, match="isn't on the public internet") as refused:
        public_addresses("cdn.example.com", 443)
    assert refused.value.reason == "source_not_allowed"


def test_loopback_passes_only_where_it_is_asked_for_and_brings_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up(monkeypatch, "127.0.0.1")
    assert public_addresses("cdn.example.com", 443, loopback=True) == ["127.0.0.1"]
    with pytest.raises(SourceError):
        public_addresses("cdn.example.com", 443)
    looked_up(monkeypatch, "169.254.169.254")
    with pytest.raises(SourceError):
        public_addresses("cdn.example.com", 443, loopback=True)


@pytest.mark.parametrize(("number", "retryable"), [(socket.EAI_AGAIN, True), (socket.EAI_NONAME, False)])
def test_a_name_that_nobody_knows_is_out_of_reach(
    monkeypatch: pytest.MonkeyPatch, number: int, retryable: bool
) -> None:
    def getaddrinfo(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(number, "no")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(SourceError, match="can't be looked up") as failed:
        public_addresses("cdn.example.com", 443)
    assert (failed.value.reason, failed.value.retryable) == ("source_unreachable", retryable)
