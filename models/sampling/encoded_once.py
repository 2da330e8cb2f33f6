"""Condition pictures of many rows, each distinct one through the VAE once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import torch

from models.loading.components import Components
from models.requests import ConditionPicture
from models.sampling.latents import encode_conditions
from models.transformer.predictor import EncodedPicture, Pictures

Content = tuple[int, int, str]
"""A picture's size as it is encoded, and the hash of its pixels."""


class EncodedOnce:
    """Encodes the condition pictures of rows as their batches come, and keeps those that later rows have, too."""

    def __init__(self, components: Components, rows: Mapping[int, Sequence[ConditionPicture]]) -> None:
        """Take the pictures of every row that there will be."""
        self.components, self.rows = components, rows
        known: dict[int, str] = {}  # one object may be the picture of many rows
        self.contents = {row: [_content(picture, known) for picture in some] for row, some in rows.items()}
        self.awaited: dict[Content, set[int]] = {}
        for row, contents in self.contents.items():
            for content in contents:
                self.awaited.setdefault(content, set()).add(row)
        self._encoded: dict[Content, EncodedPicture] = {}

    @torch.inference_mode()
    def of(self, batch: Sequence[int]) -> Pictures | None:
        """Return the condition pictures of a batch as the transformer reads them; None where no row has any."""
        missing: dict[Content, ConditionPicture] = {
            content: picture
            for row in batch
            for content, picture in zip(self.contents[row], self.rows[row], strict=True)
            if content not in self._encoded
        }
        if missing:
            (encoded,) = encode_conditions(self.components, [[*missing.values()]])
            self._encoded.update(zip(missing, encoded, strict=True))
        pictures = [[self._encoded[content] for content in self.contents[row]] for row in batch]
        return pictures if any(pictures) else None

    def let_go(self, rows: Iterable[int]) -> None:
        """Forget what no other row than these has."""
        for row in rows:
            for content in self.contents[row]:
                awaiting = self.awaited[content]
                awaiting.discard(row)
                if not awaiting:
                    self._encoded.pop(content, None)


def _content(picture: ConditionPicture, known: dict[int, str]) -> Content:
    pixels = picture.pixels
    if id(pixels) not in known:
        known[id(pixels)] = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
    return picture.width, picture.height, known[id(pixels)]
