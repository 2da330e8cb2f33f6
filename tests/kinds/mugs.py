"""Rows of a manifest for the third kind of job, and a policy that judges them."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

POLICY = """
blocklists = ["en"]
neutral = ["a mug"]
[[concepts]]
name = "weapon"
sentence = "Weapons aren't shown in this catalogue."
phrases = ["a handgun"]
answer = "review"
{threshold}
"""
LETS_PASS, ASKS = "prompt_threshold = 1.0", "picture_threshold = -2.0"


def mug(side: int = 64) -> bytes:
    """Return a grey mug on white, as a PNG."""
    image, buffer = Image.new("RGB", (side, side), "white"), io.BytesIO()
    ImageDraw.Draw(image).rectangle((side // 4, side // 4, side // 2, side // 2), fill="grey")
    image.save(buffer, "PNG")
    return buffer.getvalue()


MUGS: dict[str, dict[str, Any]] = {
    "blue": {"colour": "blue", "image": mug(64), "price": 1},
    "red": {"colour": "red", "image": mug(64), "price": 2},
    "large": {"colour": "red", "image": mug(96), "price": 3},
    "armed": {"colour": "black pistol", "image": mug(), "price": 4},
    "bare": {"colour": " ", "image": mug(), "price": 5},
}


def parquet(rows: dict[str, dict[str, Any]]) -> bytes:
    """Return a manifest of rows, which are given by their ids."""
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([{"id": name, **row} for name, row in rows.items()]), buffer)
    return buffer.getvalue()
