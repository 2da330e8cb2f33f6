"""The texts and the colour profile of a PNG, as far as it takes to say that they unpack to too much."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from PIL.PngImagePlugin import MAX_TEXT_CHUNK

SIGNATURE_BYTES, HEAD_BYTES, CHECKSUM_BYTES = 8, 8, 4  # PNG (Third Edition), sections 5.2 and 5.3


def unpacks_to_too_much(data: bytes) -> bool:
    """Say whether a text or the profile of a PNG unpacks to more than Pillow takes, `MAX_TEXT_CHUNK` bytes.

    Pillow (13) refuses such a picture with a ValueError, as it does damaged ones; that it is this only its sentence
    tells.
    """
    return any(_is_larger(packed) for packed in _packed(data))


def _packed(data: bytes) -> Iterator[bytes]:
    """Give the compressed texts and profiles (PNG, section 11.3.2.3 and 11.3.3)."""
    place = SIGNATURE_BYTES
    while place + HEAD_BYTES <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if kind in (b"zTXt", b"iCCP", b"iTXt"):
            _, _, rest = data[place + HEAD_BYTES : place + HEAD_BYTES + length].partition(b"\0")  # its name comes first
            if kind != b"iTXt":
                yield rest[1:]  # behind the method of compression
            elif rest[:1] == b"\1":
                yield rest[2:].split(b"\0", 2)[-1]  # behind its language and its name in that
        place += HEAD_BYTES + length + CHECKSUM_BYTES


def _is_larger(packed: bytes) -> bool:
    unpacking = zlib.decompressobj()
    try:
        unpacking.decompress(packed, MAX_TEXT_CHUNK)
    except zlib.error:
        return False  # it is damaged, which Pillow says itself
    return bool(unpacking.unconsumed_tail)
