"""The authority that clients of TLS trust in tests whose servers have no certificate at all."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import certifi


@cache
def first_certificate() -> str:
    """The first one that Python's clients usually trust: each of them would read all, for 20 ms of the processor."""
    certificates, end = Path(certifi.where()).read_text(encoding="utf-8"), "-----END CERTIFICATE-----\n"
    return certificates[: certificates.index(end) + len(end)]
