import io

import pytest
from PIL import Image

from safety.marks.marks import Mark, Marked, find_marks, judge_marks
from safety.marks.provenance import Aigc, DigitalSourceType, save_arguments, xmp_packet
from safety.verdict import Reason

TRAINED = DigitalSourceType.TRAINED_ALGORITHMIC_MEDIA
AIGC = Aigc("CODE", "42")


def picture(packet: bytes | None) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, "PNG", **(save_arguments(packet, "PNG") if packet else {}))
    return buffer.getvalue()


def test_what_is_there_is_found_with_what_was_done():
    found = find_marks(
        picture(xmp_packet(aigc=AIGC, edits=["snap_white"])), "png", source_type=TRAINED, aigc=AIGC, signed=False
    )
    assert found == Marked((Mark.DIGITAL_SOURCE_TYPE, Mark.AIGC), ("snap_white",))
    assert judge_marks(found.found, (Mark.DIGITAL_SOURCE_TYPE, Mark.AIGC)).allowed


@pytest.mark.parametrize(
    "packet",
    [
        None,
        xmp_packet(source_type=DigitalSourceType.COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA, aigc=Aigc("CODE", "43")),
    ],
    ids=["no marks", "those of another picture"],
)
def test_a_picture_without_its_marks_is_refused_by_their_names(packet: bytes | None):
    found = find_marks(picture(packet), "png", source_type=TRAINED, aigc=AIGC, signed=False)
    assert found.found == ()
    verdict = judge_marks(found.found, (Mark.DIGITAL_SOURCE_TYPE, Mark.AIGC))
    assert verdict.reason is Reason.UNMARKED
    assert verdict.message == ("The stored picture lacks IPTC's DigitalSourceType and the AIGC label of GB 45438-2025.")


def test_bytes_that_are_no_picture_have_no_marks():
    found = find_marks(b"nothing", "png", source_type=TRAINED, aigc=None, signed=False)
    assert not judge_marks(found.found, (Mark.DIGITAL_SOURCE_TYPE,)).allowed
