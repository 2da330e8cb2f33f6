"""A second decoder of PNG, slow and short, to compare with: W3C's PNG specification, read literally."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))  # Adam7


def decode_png(data: bytes) -> np.ndarray:
    """The pixels of a whole, valid PNG: float64 [H, W, 4] from 0 to 255, not rounded."""
    chunks: dict[bytes, bytes] = {}
    for kind, content in _chunks(data):
        chunks[kind] = chunks.get(kind, b"") + content if kind == b"IDAT" else content
    width, height, bits, color, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    stream = bytearray(zlib.decompress(chunks[b"IDAT"]))
    samples = np.zeros((height, width, CHANNELS[color]), np.int64)
    for x, y, across, down in PASSES if interlaced else ((0, 0, 1, 1),):
        part = samples[y::down, x::across]
        if part.size:
            part[:] = _unfiltered(stream, part.shape[1], part.shape[0], bits, CHANNELS[color])
    return _rgba(samples, bits, color, chunks.get(b"PLTE", b""), chunks.get(b"tRNS"))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def _unfiltered(stream: bytearray, width: int, height: int, bits: int, channels: int) -> np.ndarray:
    """Take one pass off the front of `stream`: its samples, int64 [height, width, channels]."""
    step, length = max(1, bits * channels // 8), (width * bits * channels + 7) // 8
    above = bytearray(length)
    lines = []
    for _ in range(height):
        kind, line = stream[0], stream[1 : 1 + length]
        del stream[: 1 + length]
        for i in range(length):
            a, b, c = (line[i - step], above[i], above[i - step]) if i >= step else (0, above[i], 0)
            guess = min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]
            line[i] = (line[i] + (0, a, b, (a + b) // 2, guess)[kind]) & 255
        lines.append(line)
        above = line
    packed = np.array(lines, np.uint8)
    if bits == 16:
        samples = packed.reshape(height, -1, 2).astype(np.int64) @ np.array([256, 1])
    else:
        digits = np.unpackbits(packed, axis=1).reshape(height, -1, bits).astype(np.int64)
        samples = digits @ (1 << np.arange(bits)[::-1])
    return samples[:, : width * channels].reshape(height, width, channels)


def _rgba(samples: np.ndarray, bits: int, color: int, palette: bytes, transparent: bytes | None) -> np.ndarray:
    if color == 3:
        colors = np.frombuffer(palette, np.uint8).reshape(-1, 3)
        alphas = np.full(len(colors), 255)
        alphas[: len(transparent or b"")] = list(transparent or b"")
        return np.dstack([colors[samples[..., 0]], alphas[samples[..., 0]]]).astype(np.float64)
    most = (1 << bits) - 1
    if color in (4, 6):
        values, alpha = samples[..., :-1], samples[..., -1]
    else:
        values, alpha = samples, np.full(samples.shape[:2], most)
        if transparent:
            named = struct.unpack(f">{len(transparent) // 2}H", transparent)
            alpha = np.where((samples == named).all(axis=2), 0, most)
    return np.dstack([np.broadcast_to(values, (*values.shape[:2], 3)), alpha]) * 255 / most
