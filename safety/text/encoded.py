"""Text that is hidden in base64."""

from __future__ import annotations

import base64
import binascii
import re

from safety.text.memo import Memo

# The first two of its characters tell most other words from what begins like UTF-8.
_TOKEN = re.compile(
    r"(?<![A-Za-z0-9+/_-])(?=[CDI-Za-f][^BI-LRY-bho-rx4-7]|[w-z0-9][I-LY-bo-r4-7])[A-Za-z0-9+/_-]{4,}={0,2}"
)
_TO_STANDARD = str.maketrans("-_", "+/")
_LEAST = 3  # bytes: what is shorter is chance


def decoded(text: str) -> str:
    """Return what base64 in a text says, a line for each piece; "" for a text without any.

    Any word might be base64 to a machine. What counts here is one whose bytes are text that a person could have
    written; whether that says anything is for others to judge.
    """
    if text.isascii():
        found = [said for said in map(_decoded.__getitem__, text.split()) if said]
    else:
        found = [_pieces(text)] if _TOKEN.search(text) else []
    return "\n".join(found)


def _pieces(text: str) -> str:
    return "\n".join(filter(None, (_decode(token[0]) for token in _TOKEN.finditer(text))))


def _decode(token: str) -> str:
    digits = token.rstrip("=").translate(_TO_STANDARD)
    if len(digits) % 4 == 1 or (len(digits) == 4 and digits.isalpha() and digits[1:].islower()):
        return ""  # one in ten words of four letters is text
    try:
        data = base64.b64decode(digits + "=" * (-len(digits) % 4))
        said = data.decode() if len(data) >= _LEAST else ""
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return said if any(map(str.isalpha, said)) and all(map(str.isprintable, said.split())) else ""


_decoded = Memo(_pieces)
