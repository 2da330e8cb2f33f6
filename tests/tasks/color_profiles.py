"""ICC profiles small enough to read: what they make of a colour can be worked out by hand."""

from __future__ import annotations

import itertools
import struct

import numpy as np

SRGB_COLORANTS = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7142))  # XYZ in D50
D50 = (0.9642, 1.0, 0.8249)


def _number(value: float) -> bytes:
    return struct.pack(">i", round(value * 65_536))


def _xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_number, values))


def _gamma(exponent: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(exponent * 256)) + bytes(2)


def _profile(space: bytes, connection: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A version 2.1 profile (ICC.1:2001-04, section 6)."""
    name = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78 + 3)
    tags = {b"desc": name, b"cprt": b"text\0\0\0\0none\0" + bytes(3), b"wtpt": _xyz(D50), **tags}
    table, content, at = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for tag, data in tags.items():
        table += tag + struct.pack(">II", at + len(content), len(data))
        content += data
    head = struct.pack(
        ">I4sI4s4s4s12s4s4sIIIQI12s4s44s",
        at + len(content),
        bytes(4),
        0x02100000,
        kind,
        space,
        connection,
        struct.pack(">6H", 2026, 1, 1, 0, 0, 0),
        b"acsp",
        bytes(4),
        0,
        0,
        0,
        0,
        0,
        b"".join(map(_number, D50)),
        bytes(4),
        bytes(44),
    )
    return head + table + content


def rgb_profile(order: tuple[int, int, int] = (0, 1, 2), gamma: float = 2.2) -> bytes:
    """sRGB's primaries, in another order, with a plain gamma."""
    tags = {name + b"XYZ": _xyz(SRGB_COLORANTS[i]) for name, i in zip((b"r", b"g", b"b"), order, strict=True)}
    return _profile(b"RGB ", b"XYZ ", b"mntr", tags | {name + b"TRC": _gamma(gamma) for name in (b"r", b"g", b"b")})


def gray_profile(gamma: float) -> bytes:
    return _profile(b"GRAY", b"XYZ ", b"mntr", {b"kTRC": _gamma(gamma)})


def cmyk_profile(inks: dict[tuple[int, int, int, int], tuple[float, float, float]]) -> bytes:
    """Lab of the 16 full overprints of C, M, Y, K; the ones that aren't given are black."""
    corners = [inks.get(corner, (0.0, 0.0, 0.0)) for corner in itertools.product((0, 1), repeat=4)]
    clut = b"".join(bytes((round(L * 2.55), round(a + 128), round(b + 128))) for L, a, b in corners)
    identity = np.arange(256, dtype=np.uint8).tobytes()
    matrix = b"".join(_number(value) for value in np.eye(3).ravel())
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + matrix + 4 * identity + clut + 3 * identity
    return _profile(b"CMYK", b"Lab ", b"prtr", {tag: table + bytes(-len(table) % 4) for tag in (b"A2B0", b"A2B1")})
