"""Whether runs can be recorded: the Prefect server that PREFECT_API_URL names, and its version."""

from __future__ import annotations

import re
from dataclasses import dataclass
from json import JSONDecodeError
from typing import Literal
from urllib.parse import urlsplit

import httpx
import prefect
from prefect.client.base import ServerType
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from models.finding import Finding

CONNECT_SECONDS = 5.0
SECONDS = 20.0  # for an answer, of a run, too: a server that is busy is slow, and not away
Trouble = Literal["silent", "refuses", "stranger", "unasked"]


@dataclass(frozen=True)
class PrefectFacts:
    """What a Prefect server says of itself."""

    address: str  # of its API, without credentials; empty if PREFECT_API_URL names none
    client: str  # version of Prefect that packshot runs with
    server: str | None = None  # its version; None of Prefect Cloud, which fits every client
    trouble: Trouble | None = None
    answer: str = ""  # what it or the network said then


def read_prefect() -> PrefectFacts:
    """Ask the server that PREFECT_API_URL, or Prefect's profile, names for its version.

    It is asked through Prefect's own client, as a run talks to it: with its headers, credentials and proxies.
    """
    address, client_version = PREFECT_API_URL.value() or "", prefect.__version__
    if not address:
        return PrefectFacts("", client_version)
    shown, timeout = _without_credentials(address), httpx.Timeout(SECONDS, connect=CONNECT_SECONDS)
    try:
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(httpx_settings={"timeout": timeout}, sync_client=True) as client,
        ):
            if client.server_type == ServerType.CLOUD:
                if (error := client.api_healthcheck()) is not None:
                    raise error
                return PrefectFacts(shown, client_version)
            version = client.api_version()
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        refuses = status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
        trouble: Trouble = "refuses" if refuses else "silent" if status >= 500 else "stranger"
        return PrefectFacts(shown, client_version, trouble=trouble, answer=f"status {status}")
    except httpx.HTTPError as error:
        return PrefectFacts(shown, client_version, trouble="silent", answer=type(error).__name__)
    except (JSONDecodeError, UnicodeDecodeError):
        return PrefectFacts(shown, client_version, trouble="stranger", answer="no JSON")
    except (OSError, ImportError, ValueError, httpx.InvalidURL) as error:  # of certificates, and of proxies' addresses
        return PrefectFacts(shown, client_version, trouble="unasked", answer=str(error).splitlines()[0].rstrip("."))
    if not isinstance(version, str) or _numbers(version) is None:
        return PrefectFacts(shown, client_version, trouble="stranger", answer="no version")
    return PrefectFacts(shown, client_version, version)


def judge_prefect(facts: PrefectFacts) -> Finding:
    """Say whether runs will be recorded there."""
    where = f"The Prefect server at {facts.address}"
    match facts.trouble:
        case "silent":
            return Finding.failed(
                "Prefect",
                f"{where} doesn't answer ({facts.answer}).",
                "Start it with `prefect server start`, or unset PREFECT_API_URL: runs then bring up their own.",
            )
        case "refuses":
            return Finding.failed(
                "Prefect",
                f"{where} refuses us ({facts.answer}).",
                "Set PREFECT_API_AUTH_STRING, or PREFECT_API_KEY for Prefect Cloud.",
            )
        case "stranger":
            return Finding.failed(
                "Prefect",
                f"What answers at {facts.address} is no API of Prefect's ({facts.answer}).",
                "Give PREFECT_API_URL as http://host:4200/api.",
            )
        case "unasked":
            return Finding.failed(
                "Prefect",
                f"{where} can't be asked: {facts.answer}.",
                "Mend PREFECT_API_URL, PREFECT_API_SSL_CERT_FILE, or the variables that name proxies.",
            )
    if not facts.address:
        return Finding.ok("Prefect", "PREFECT_API_URL isn't set: every run brings up a server of its own.")
    if facts.server is None:
        return Finding.ok("Prefect", f"Prefect Cloud answers at {facts.address}.")
    server, client = _numbers(facts.server), _numbers(facts.client)
    versions = f"{facts.server}, and packshot runs with {facts.client}"
    if server is None or client is None or server[0] != client[0]:
        return Finding.failed(
            "Prefect",
            f"{where} is {versions}: major versions must be the same.",
            f"Run a server of Prefect {facts.client}.",
        )
    if server < client:
        return Finding.warning("Prefect", f"{where} is {versions}.", f"Update the server to {facts.client} or newer.")
    return Finding.ok("Prefect", f"{where} answers, version {facts.server}.")


def check_prefect() -> list[Finding]:
    """Ask a Prefect server for its version, and judge what it says: see `judge_prefect`."""
    return [judge_prefect(read_prefect())]


def _numbers(version: str) -> tuple[int, ...] | None:
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    return tuple(map(int, found.groups())) if found else None


def _without_credentials(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
