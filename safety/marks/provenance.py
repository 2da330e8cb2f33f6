"""The marks in a picture's XMP: that a model made it, where marketplaces and the laws of the EU and China look."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from PIL import Image, PngImagePlugin

PNG_KEYWORD = "XML:com.adobe.xmp"  # XMP specification part 3, section 1.1.5
FORMATS = ("PNG", "JPEG", "WEBP")
LARGEST_PACKET = 1 << 20  # bytes; ours is below 4 kB
SOFTWARE = "packshot"
AIGC_TEXT = r"[!#-\[\]-~]{1,128}"
"""What a field of the implicit label may hold: printable characters of one byte, without quotes, backslashes and spaces
(GB 45438-2025, annex E, as codes that check it have it, read 2026-11). Names in Chinese stand there as a code."""

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_IPTC_EXTENSION = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_TC260 = "http://www.tc260.org.cn/ns/AIGC/1.0/"
_MEDIA_MANAGEMENT = "http://ns.adobe.com/xap/1.0/mm/"
_EVENT = "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"


class DigitalSourceType(StrEnum):
    """The IPTC terms that apply to us (cv.iptc.org/newscodes/digitalsourcetype, read 2026-11)."""

    TRAINED_ALGORITHMIC_MEDIA = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA = (
        "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
    )


@dataclass(frozen=True)
class Aigc:
    """The implicit label of GB 45438-2025: who made a picture, and under which number. Both match `AIGC_TEXT`.

    Whoever passes the picture on writes their own name and number beside; until then the maker's stand there, too, as
    in the files of the services that write the label, and the two reserved codes are empty.
    """

    producer: str
    number: str

    @property
    def fields(self) -> dict[str, str]:
        """The seven fields, in the standard's order. Label 1: this is generated content."""
        return {
            "Label": "1",
            "ContentProducer": self.producer,
            "ProduceID": self.number,
            "ReservedCode1": "",
            "ContentPropagator": self.producer,
            "PropagateID": self.number,
            "ReservedCode2": "",
        }


@dataclass(frozen=True)
class XmpMarks:
    """What the XMP of a picture says; nothing where there is none."""

    source_type: str | None = None
    aigc: Aigc | None = None
    edits: tuple[str, ...] = ()  # by packshot, in their order


def xmp_packet(
    *,
    software: str = SOFTWARE,
    source_type: DigitalSourceType = DigitalSourceType.TRAINED_ALGORITHMIC_MEDIA,
    model: str | None = None,
    aigc: Aigc | None = None,
    edits: Sequence[str] = (),
) -> bytes:
    """Return an XMP packet with `Iptc4xmpExt:DigitalSourceType` and `xmp:CreatorTool`, UTF-8.

    Google Merchant Center demands `trainedAlgorithmicMedia` on generated pictures (image_link, 2026). `model` goes
    into `Iptc4xmpExt:AISystemUsed` (IPTC Photo Metadata Standard 2025.1), `aigc` into `TC260:AIGC` (TC260-PG-20258A,
    2025: one label a file), and `edits`, what was done to the picture after the model, into `xmpMM:History`. The same
    arguments give the same bytes: there is no date in it, because a picture made twice should have one hash.
    """
    system = f"\n   <Iptc4xmpExt:AISystemUsed>{_text(model)}</Iptc4xmpExt:AISystemUsed>" if model else ""
    more = _aigc(aigc) + _history(edits, software)
    return f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="{_RDF}">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:Iptc4xmpExt="{_IPTC_EXTENSION}">
   <xmp:CreatorTool>{_text(software)}</xmp:CreatorTool>
   <Iptc4xmpExt:DigitalSourceType>{source_type}</Iptc4xmpExt:DigitalSourceType>{system}{more}
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>""".encode()


def _aigc(aigc: Aigc | None) -> str:
    if aigc is None:
        return ""
    value = json.dumps(aigc.fields, separators=(",", ":"))
    return f'\n   <TC260:AIGC xmlns:TC260="{_TC260}">{_text(value)}</TC260:AIGC>'


def _history(edits: Sequence[str], software: str) -> str:
    if not edits:
        return ""
    events = "".join(
        f"""
     <rdf:li rdf:parseType="Resource">
      <stEvt:action>edited</stEvt:action>
      <stEvt:parameters>{_text(edit)}</stEvt:parameters>
      <stEvt:softwareAgent>{_text(software)}</stEvt:softwareAgent>
     </rdf:li>"""
        for edit in edits
    )
    return f"""
   <xmpMM:History xmlns:xmpMM="{_MEDIA_MANAGEMENT}" xmlns:stEvt="{_EVENT}">
    <rdf:Seq>{events}
    </rdf:Seq>
   </xmpMM:History>"""


def save_arguments(packet: bytes, format: str) -> dict[str, Any]:  # noqa: A002  (Pillow's own word)
    """Return the keyword arguments that make `Image.save` write `packet` into a PNG, a JPEG or a WebP."""
    if format.upper() == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt(PNG_KEYWORD, packet.decode())
        return {"pnginfo": info}
    if format.upper() in FORMATS:
        return {"xmp": packet}
    raise ValueError(f"No mark can be written into {format}: only into {', '.join(FORMATS)}.")


def digital_source_type(image_bytes: bytes) -> str | None:
    """Read the mark back from the bytes of a picture; None when it isn't there, whatever the cause."""
    return read_marks(image_bytes).source_type


def read_marks(image_bytes: bytes) -> XmpMarks:
    """Read what the XMP in the bytes of a picture says; nothing where there is none, whatever the cause.

    The picture isn't decoded, unless it is a PNG, whose text may stand behind the pixels.
    """
    try:
        with Image.open(io.BytesIO(image_bytes), formats=FORMATS) as image:
            packet = image.info.get("xmp") or image.info.get(PNG_KEYWORD)
            if packet is None and isinstance(image, PngImagePlugin.PngImageFile):
                image.load()
                packet = image.info.get("xmp") or image.info.get(PNG_KEYWORD)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return XmpMarks()
    if packet is None:
        return XmpMarks()
    return _read_packet(packet if isinstance(packet, bytes) else str(packet).encode())


def _read_packet(packet: bytes) -> XmpMarks:
    # A packet has no use for a document type, and entities declared in one can grow without bound.
    if len(packet) > LARGEST_PACKET or b"<!" in packet:
        return XmpMarks()
    try:
        root = ElementTree.fromstring(packet.strip(b"\x00 \r\n\t"))
    except (ElementTree.ParseError, ValueError, LookupError):
        return XmpMarks()
    return XmpMarks(
        source_type=_property(root, f"{{{_IPTC_EXTENSION}}}DigitalSourceType"),
        aigc=_read_aigc(_property(root, f"{{{_TC260}}}AIGC")),
        edits=tuple(
            event.findtext(f"{{{_EVENT}}}parameters", "")
            for event in root.iter(f"{{{_RDF}}}li")
            if event.findtext(f"{{{_EVENT}}}softwareAgent") == SOFTWARE
        ),
    )


def _property(root: ElementTree.Element, name: str) -> str | None:
    """Return a simple property, in any of the ways in which XMP spells it."""
    for element in root.iter():
        if element.tag == name:
            return element.get(f"{{{_RDF}}}resource") or (element.text or "").strip() or None
        if name in element.attrib:
            return element.attrib[name].strip() or None
    return None


def _read_aigc(value: str | None) -> Aigc | None:
    try:
        fields = json.loads(value or "")
    except ValueError:
        return None
    if not isinstance(fields, dict):
        return None
    label, producer, number = (fields.get(name) for name in ("Label", "ContentProducer", "ProduceID"))
    if label != "1" or not isinstance(producer, str) or not isinstance(number, str):
        return None
    return Aigc(producer, number)


def _text(value: str) -> str:
    """Return text as XML can hold it: escaped, without control characters."""
    return escape("".join(character for character in value if character.isprintable()))
