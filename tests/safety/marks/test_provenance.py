import io
import json
import random
import re
from xml.etree import ElementTree

import pytest
from PIL import Image, ImageDraw

from safety.marks.provenance import (
    AIGC_TEXT,
    Aigc,
    DigitalSourceType,
    XmpMarks,
    digital_source_type,
    read_marks,
    save_arguments,
    xmp_packet,
)

TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def encode(kind: str, mode: str = "RGB", **arguments: object) -> bytes:
    image = Image.new(mode, (64, 64), "white")
    ImageDraw.Draw(image).ellipse((16, 16, 48, 48), fill="red")
    buffer = io.BytesIO()
    image.save(buffer, kind, **arguments)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "RGB"), ("PNG", "RGBA"), ("JPEG", "RGB"), ("WEBP", "RGB"), ("WEBP", "RGBA")]
)
def test_the_mark_survives_being_written_and_read_back(kind: str, mode: str):
    packet = xmp_packet(software="packshot 0.1", model="Qwen-Image")
    assert digital_source_type(encode(kind, mode, **save_arguments(packet, kind))) == TRAINED


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_without_a_mark_has_none(kind: str):
    assert digital_source_type(encode(kind)) is None


def test_layers_put_together_carry_their_own_mark():
    packet = xmp_packet(software="packshot", source_type=DigitalSourceType.COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA)
    assert str(digital_source_type(encode("PNG", **save_arguments(packet, "PNG")))).endswith(
        "compositeWithTrainedAlgorithmicMedia"
    )


AIGC = Aigc("001191110108MA01TEST0X00001", "ab12" * 16)


@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "RGB"), ("PNG", "RGBA"), ("JPEG", "RGB"), ("WEBP", "RGB"), ("WEBP", "RGBA")]
)
def test_the_implicit_label_and_the_edits_are_read_back(kind: str, mode: str):
    packet = xmp_packet(aigc=AIGC, edits=["snap_white", "pad_square"])
    found = read_marks(encode(kind, mode, **save_arguments(packet, kind)))
    assert found == XmpMarks(TRAINED, AIGC, ("snap_white", "pad_square"))


def test_the_implicit_label_is_one_property_with_the_seven_fields_of_the_standard():
    root = ElementTree.fromstring(xmp_packet(aigc=AIGC))
    (value,) = root.iter("{http://www.tc260.org.cn/ns/AIGC/1.0/}AIGC")
    fields = json.loads(value.text or "")
    assert list(fields) == [
        "Label",
        "ContentProducer",
        "ProduceID",
        "ReservedCode1",
        "ContentPropagator",
        "PropagateID",
        "ReservedCode2",
    ]
    assert fields["Label"] == "1"
    assert (fields["ContentProducer"], fields["ProduceID"]) == (AIGC.producer, AIGC.number)


@pytest.mark.parametrize("text", ["91110108MA01", "a&b<c>'d", "!#~[]"])
def test_a_code_of_any_allowed_characters_survives(text: str):
    assert re.fullmatch(AIGC_TEXT, text)
    aigc = Aigc(text, "1")
    assert read_marks(encode("PNG", **save_arguments(xmp_packet(aigc=aigc), "PNG"))).aigc == aigc


@pytest.mark.parametrize("text", ["", "a b", 'a"b', "a\\b", "工作室", "a\n", "x" * 129])
def test_a_code_of_other_characters_is_none(text: str):
    assert not re.fullmatch(AIGC_TEXT, text)


@pytest.mark.parametrize("value", ["", "[]", "1", "{", "{}", '{"Label":"2","ContentProducer":"a","ProduceID":"b"}'])
def test_another_implicit_label_is_none(value: str):
    packet = xmp_packet(aigc=AIGC)
    start, end = packet.index(b"{", packet.index(b"<TC260:AIGC")), packet.index(b"</TC260:AIGC>")
    changed = packet[:start] + value.encode() + packet[end:]
    found = read_marks(encode("PNG", **save_arguments(changed, "PNG")))
    assert (found.source_type, found.aigc) == (TRAINED, None)


def test_edits_of_other_software_are_no_edits_of_ours():
    packet = xmp_packet(edits=["crop"], software="another")
    assert read_marks(encode("PNG", **save_arguments(packet, "PNG"))).edits == ()


def test_the_packet_is_xmp_that_an_xml_reader_understands():
    packet = xmp_packet(software='<a & "b">\x00\n', model="<qwen>")
    root = ElementTree.fromstring(packet)
    assert root.tag == "{adobe:ns:meta/}xmpmeta"
    assert root.findtext(".//{http://ns.adobe.com/xap/1.0/}CreatorTool") == '<a & "b">'
    assert root.findtext(".//{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}AISystemUsed") == "<qwen>"
    assert packet.startswith('<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'.encode())


def test_the_same_picture_is_marked_with_the_same_bytes():
    assert xmp_packet(software="packshot") == xmp_packet(software="packshot")
    assert len(xmp_packet(software="packshot")) < 2048


@pytest.mark.parametrize(
    "description",
    [
        '<rdf:Description xmlns:I="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" I:DigitalSourceType="{}"/>',
        '<rdf:Description xmlns:I="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
        '<I:DigitalSourceType rdf:resource="{}"/>'
        "</rdf:Description>",
    ],
    ids=["attribute", "resource"],
)
def test_marks_in_other_spellings_of_xmp_are_read(description: str):
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        + description.format(TRAINED)
        + "</rdf:RDF></x:xmpmeta>"
    )
    assert digital_source_type(encode("JPEG", xmp=packet.encode())) == TRAINED


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"not xml",
        b"<a>",
        b"\xff\xfe\x00",
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        b"<a>" * 100_000,
        b'<?xml version="1.0" encoding="nonsense"?><a/>',
        b'<a xmlns:I="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"><I:DigitalSourceType> </I:DigitalSourceType></a>',
    ],
    ids=lambda packet: ascii(packet[:20]),
)
def test_a_hostile_packet_is_no_mark_and_no_crash(packet: bytes):
    assert digital_source_type(encode("WEBP", xmp=packet)) is None


def test_broken_bytes_have_no_mark():
    whole = encode("PNG", **save_arguments(xmp_packet(software="packshot"), "PNG"))
    random_ = random.Random(9)
    for _ in range(300):
        cut = bytearray(whole[: random_.randrange(len(whole))])
        for _ in range(random_.randrange(4)):
            if cut:
                cut[random_.randrange(len(cut))] = random_.randrange(256)
        assert digital_source_type(bytes(cut)) in (None, TRAINED)


def test_a_format_that_cannot_hold_the_mark_is_refused():
    with pytest.raises(ValueError, match="BMP"):
        save_arguments(xmp_packet(software="packshot"), "BMP")
