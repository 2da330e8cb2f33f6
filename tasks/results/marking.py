"""How a job marks what it makes: with an implicit label and content credentials, beside the DigitalSourceType."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safety.marks.credentials import CredentialsError, Signer
from safety.marks.marks import Mark, Marked, find_marks
from safety.marks.provenance import Aigc, DigitalSourceType, xmp_packet


@dataclass(frozen=True)
class Marking:
    """What a job says of marks; plain values, which lanes are sent. The key itself stays in its file."""

    aigc_producer: str | None = None
    certificate: str | None = None  # path of a PEM file
    key: str | None = None  # path of a PEM file

    @property
    def additions(self) -> dict[str, Any]:
        """Its part in the key of a row. Not the certificate: one that follows another signs what comes after it."""
        additions: dict[str, Any] = {"aigc": self.aigc_producer} if self.aigc_producer else {}
        if self.certificate:
            additions["c2pa"] = True
        return additions

    def open(self, source_type: DigitalSourceType) -> Marker:
        """Return what marks pictures that were made in this way.

        Raises:
            CredentialsError: if pictures can't be signed with this certificate and key.
        """
        signer = None
        if self.certificate and self.key:
            signer = Signer.of(_read(self.certificate, "certificate"), _read(self.key, "key"))
        return Marker(source_type, self.aigc_producer, signer)


@dataclass(frozen=True)
class Marker:
    """Marks pictures, and finds the marks again."""

    source_type: DigitalSourceType
    aigc_producer: str | None = None
    signer: Signer | None = None

    @property
    def demanded(self) -> tuple[Mark, ...]:
        """The marks that every picture of the job has."""
        marks = [Mark.DIGITAL_SOURCE_TYPE]
        if self.aigc_producer:
            marks.append(Mark.AIGC)
        if self.signer:
            marks.append(Mark.CONTENT_CREDENTIALS)
        return tuple(marks)

    def packet(self, number: str, edits: Sequence[str] = ()) -> bytes:
        """Return the XMP of the picture with this number: its key, or a part of it."""
        return xmp_packet(source_type=self.source_type, aigc=self._aigc(number), edits=edits)

    def signed(self, picture: bytes, format: str, edits: Sequence[str] = ()) -> bytes:  # noqa: A002
        """Return a picture with content credentials, if the job has them.

        Raises:
            CredentialsError: if it can't be signed any more.
        """
        if self.signer is None:
            return picture
        return self.signer.sign(picture, format, source_type=self.source_type, edits=edits)

    def find(self, picture: bytes, format: str, number: str) -> Marked:  # noqa: A002
        """Return the marks in the bytes of the picture with this number."""
        return find_marks(
            picture,
            format,
            source_type=self.source_type,
            aigc=self._aigc(number),
            signed=self.signer is not None,
        )

    def _aigc(self, number: str) -> Aigc | None:
        return Aigc(self.aigc_producer, number) if self.aigc_producer else None


def _read(path: str, what: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CredentialsError(
            f"The {what} for content credentials, {path}, can't be read: {error.strerror}."
        ) from None
