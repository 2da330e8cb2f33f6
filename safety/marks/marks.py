"""Whether a stored picture has the marks that it should have."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from safety.marks.credentials import read_credentials
from safety.marks.provenance import Aigc, DigitalSourceType, read_marks
from safety.verdict import Reason, Verdict, allow, refuse


class Mark(StrEnum):
    """The marks, as the catalogue names them."""

    DIGITAL_SOURCE_TYPE = "digital_source_type"
    AIGC = "aigc"
    CONTENT_CREDENTIALS = "content_credentials"
    VISIBLE_LABEL = "visible_label"


NAMES = {
    Mark.DIGITAL_SOURCE_TYPE: "IPTC's DigitalSourceType",
    Mark.AIGC: "the AIGC label of GB 45438-2025",
    Mark.CONTENT_CREDENTIALS: "its content credentials",
    Mark.VISIBLE_LABEL: "the visible label of its profile",
}
"""The marks, as a sentence names them."""


@dataclass(frozen=True)
class Marked:
    """What was found in the bytes of a picture."""

    found: tuple[Mark, ...]
    edits: tuple[str, ...]  # what packshot did to it after the model


def find_marks(
    picture: bytes,
    format: str,  # noqa: A002
    *,
    source_type: DigitalSourceType,
    aigc: Aigc | None,
    signed: bool,
) -> Marked:
    """Read the marks back from the bytes of a picture.

    Args:
        format: of its bytes: "png", "jpeg" or "webp".
        source_type: how it was made; another one is no mark.
        aigc: the implicit label that it should have; another one is no mark.
        signed: it should have content credentials.

    Raises:
        safety.marks.credentials.CredentialsError: if they are to be read and the library for it isn't there.
    """
    said = read_marks(picture)
    found = []
    if said.source_type == source_type:
        found.append(Mark.DIGITAL_SOURCE_TYPE)
    if aigc is not None and said.aigc == aigc:
        found.append(Mark.AIGC)
    if signed and read_credentials(picture, format) == source_type:
        found.append(Mark.CONTENT_CREDENTIALS)
    return Marked(tuple(found), said.edits)


def judge_marks(found: tuple[Mark, ...], demanded: tuple[Mark, ...]) -> Verdict:
    """Refuse a picture that lacks a mark which it should have: somebody took it out, or it was never written."""
    missing = [NAMES[mark] for mark in demanded if mark not in found]
    if not missing:
        return allow()
    return refuse(Reason.UNMARKED, f"The stored picture lacks {' and '.join(missing)}.")
