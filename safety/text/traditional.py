"""Traditional Chinese characters and their simplified forms."""

from __future__ import annotations

from functools import cache

# What OpenCC leaves as it is, or simplifies to another character than shops write.
_OURS = {"鎗": "枪", "鬪": "斗", "槃": "盘", "鍊": "链"}
_HAN = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x323B0))


@cache
def simplified() -> dict[int, str]:
    """Return a table for `str.translate`: every character that has a simplified form, by itself.

    Phrases, of which OpenCC knows some, aren't looked at: what counts is that a list and a text are read alike.
    """
    from opencc import OpenCC  # reads its dictionaries, and most texts have no Chinese in them

    han = [chr(code) for start, end in _HAN for code in range(start, end)]
    converted = OpenCC("t2s").convert("\n".join(han)).split("\n")
    table = {char: simple for char, simple in zip(han, converted, strict=True) if char != simple} | _OURS
    return {ord(char): table.get(simple, simple) for char, simple in table.items()}
