"""A web address that the job allows, and the machine addresses behind it that are open to the public."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote, urlsplit

from tasks.errors import RequestError
from tasks.sources.source_error import SourceError

DEFAULT_PORTS = {"http": 80, "https": 443}
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?"
HOST = re.compile(rf"(?=[^:]{{1,253}}(:|$)){_LABEL}(\.{_LABEL})*(:[0-9]{{1,5}})?")
MISREAD = re.compile(r"[\x00-\x1f\x7f\\]")  # by one reader of addresses so, by the next one otherwise

# Not for the public, though `ipaddress` (Python 3.11.7) calls some of them global. Most are in IANA's registries of
# special-purpose addresses: https://www.iana.org/assignments/iana-ipv4-special-registry, and …-ipv6-special-registry.
NEVER = tuple(
    ipaddress.ip_network(network)
    for network in (
        "100.64.0.0/10",  # shared by carriers; clouds answer for themselves on 100.100.100.200
        "168.63.129.16/32",  # Azure's own services
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata on 192.0.0.192
        "192.88.99.0/24",  # 6to4 relays
        "64:ff9b:1::/48",  # translated locally
        "2001::/23",  # protocol assignments, Teredo among them
        "2002::/16",  # 6to4: any IPv4 address in disguise
        "fec0::/10",  # site-local
    )
)
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # how a network without IPv4 writes IPv4 addresses (RFC 6052)


@dataclass(frozen=True)
class WebAddress:
    """What to ask for, and whom."""

    scheme: str  # http or https
    host: str  # lower case, ASCII
    port: int
    path: str  # percent-encoded, begins with a slash
    query: str  # percent-encoded, with its question mark, or empty

    @property
    def shown(self) -> str:
        """The address for messages: a query may be a signature, so it is left out."""
        return f"{self.scheme}://{self._netloc}{self.path[:200]}"

    @property
    def url(self) -> str:
        """The whole address: what a redirect is relative to."""
        return f"{self.scheme}://{self._netloc}{self.path}{self.query}"

    @property
    def _netloc(self) -> str:
        return self.host if self.port == DEFAULT_PORTS[self.scheme] else f"{self.host}:{self.port}"


def checked_hosts(hosts: tuple[str, ...]) -> frozenset[str]:
    """Return the hosts that a job names, as `allowed` compares them: `cdn.example.com`, `cdn.example.com:8080`.

    Raises:
        RequestError: one isn't the name of a host.
    """
    for host in hosts:
        if not HOST.fullmatch(host.lower()):
            raise RequestError(
                f"The job is wrong: image_hosts: {host!r} isn't the name of a host: write cdn.example.com, "
                "or cdn.example.com:8080 for a port of its own, and names beyond ASCII as xn--…."
            )
    return frozenset(host.lower() for host in hosts)


def allowed(address: str, hosts: frozenset[str]) -> WebAddress:
    """Take an `http://` or `https://` address apart, if `hosts` has its host, letter by letter.

    Another port than the scheme's own has to be named with the host.

    Raises:
        SourceError: it isn't allowed, or isn't an address.
    """
    try:
        parts = urlsplit(address)
        scheme, host, port = parts.scheme, parts.hostname or "", parts.port
    except ValueError:
        scheme = host = ""
        port = None
    if not host or scheme not in DEFAULT_PORTS or MISREAD.search(address):
        raise SourceError("bad_value", "The picture's web address isn't one: write https://host/path.")
    if "@" in parts.netloc:
        raise SourceError("source_not_allowed", f"The picture's address on {host} holds credentials: leave them out.")
    named = host if port in (None, DEFAULT_PORTS[scheme]) else f"{host}:{port}"
    if named not in hosts:
        raise SourceError("source_not_allowed", f"The job doesn't allow pictures from {named[:260]}: see image_hosts.")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    query = "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~?[]") if parts.query else ""
    return WebAddress(scheme, host, port or DEFAULT_PORTS[scheme], path, query)


def public_addresses(host: str, port: int, *, loopback: bool = False) -> list[str]:
    """Look a host up, once, and give its addresses: to connect to these and no others.

    One that isn't public condemns them all: who mixes them is up to something. `loopback` lets this machine pass.

    Raises:
        SourceError: there is no such host, or it is in a private network, on this machine, or a cloud's metadata.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        passing = getattr(error, "errno", None) == socket.EAI_AGAIN
        raise SourceError(
            "source_unreachable", f"The name of the host {host} can't be looked up.", retryable=passing
        ) from None
    addresses = [str(entry[4][0]) for entry in found]
    for text in addresses:
        address = _unwrapped(ipaddress.ip_address(text))
        if not is_public(address) and not (loopback and address.is_loopback):
            raise SourceError(
                "source_not_allowed", f"The host {host} isn't on the public internet: pictures are fetched from there."
            )
    return list(dict.fromkeys(addresses))


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Say whether an address belongs to somebody on the public internet; one inside another counts as itself."""
    address = _unwrapped(address)
    if address.is_multicast or address.is_reserved or any(address in network for network in NEVER):
        return False
    return address.is_global


def _unwrapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
