"""Layers as they are stored: from the bottom to the top, with what a person needs beside them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from safety.marks.provenance import save_arguments
from safety.pictures.layers import WHITE, composite, over
from tasks.results.encoding import PNG_LEVEL, decode_rgba
from tasks.results.from_before import find_master
from tasks.results.marking import Marker
from tasks.results.master import COMPOSITE, PSD, SOURCE, Master, Masters
from tasks.results.retouching import FLATTEN
from tasks.results.shelf import Shelf, addressed
from tasks.stores.store import Store

OPAQUE = 255


@dataclass(frozen=True)
class LayeredPicture:
    """What was made of a source picture."""

    source: np.ndarray  # uint8 [height, width, 4]: the source picture at the size of the layers
    layers: np.ndarray  # uint8 [layers, height, width, 4], bottom to top
    caption: str  # that they were made with, given or written; it may be empty
    stored: bytes | None = None  # composite.png, once it is put together

    @cached_property
    def composite(self) -> np.ndarray:
        """The layers put together, uint8 [height, width, 4]."""
        return composite(self.layers)


@dataclass(frozen=True)
class LayerSource:
    """What layers were made of."""

    source: np.ndarray  # uint8 [height, width, 4], at the size of the layers
    caption: str


def layer_names(count: int) -> list[str]:
    """Return what layers are called, bottom to top: "background", "layer 1", …; `layer n` is what n.png holds."""
    return ["background", *(f"layer {index}" for index in range(1, count))][:count]


class LayerShelf(Shelf[LayeredPicture]):
    """Layers, each an object, with the source picture at their size, `composite.png`, and `layers.psd` if it is wanted.

    The caption stands in the record of the master.
    """

    def __init__(
        self, store: Store, *, with_psd: bool, flatten: bool, marker: Marker, from_before: bool = False
    ) -> None:
        """`flatten` lays the composite over white, which the layers stay without.

        `from_before` says that the store may hold layers that have no masters yet.
        """
        self.store, self.with_psd, self.flatten, self.marker = store, with_psd, flatten, marker
        self.from_before, self.masters = from_before, Masters(store)

    def find(self, key: str) -> Master | None:
        """Return a key's master, as every `Shelf` does."""
        return find_master(self.store, key, extension="png", layered=True, from_before=self.from_before)

    def read(self, master: Master) -> LayeredPicture:
        """Return what a master holds, as every `Shelf` does."""
        original = self.original(master)
        layers = [self._picture(master, f"{number}.png") for number in range(len(master.layers))]
        if not layers or any(layer.shape != original.source.shape for layer in layers):
            raise ValueError("The stored layers are incomplete; remove their record to have them made again.")
        return LayeredPicture(original.source, np.stack(layers), original.caption, self.masters.read(master, COMPOSITE))

    def composite(self, key: str, contents: LayeredPicture) -> bytes:
        """Return `composite.png` as it is stored, or will be."""
        if contents.stored is not None:
            return contents.stored
        whole, edits = contents.composite, []
        if self.flatten and whole[..., 3].min() < OPAQUE:
            whole, edits = over(whole, WHITE), [FLATTEN]
        return self._marked(whole, key, edits)

    def original(self, master: Master) -> LayerSource:
        """Return what layers were made of.

        Raises:
            ValueError: as `read`.
        """
        if SOURCE not in master.parts:
            raise ValueError("The stored layers have no source picture; remove their record to have them made again.")
        return LayerSource(self._picture(master, SOURCE), master.caption)

    def keep(self, key: str, contents: LayeredPicture) -> tuple[Master, bool]:
        """Make a master of results, as every `Shelf` does."""
        objects = {f"{n}.png": self._marked(layer, f"{key}.{n}") for n, layer in enumerate(contents.layers)}
        # The source is somebody's photograph, as far as anybody knows: it isn't marked as made by a model.
        objects[SOURCE] = encode(contents.source)
        if self.with_psd:
            from tasks.results.psd import psd  # imports psd-tools, which takes a third of a second: not at every start

            objects[PSD] = psd(contents.layers, contents.composite, layer_names(len(contents.layers)))
        objects[COMPOSITE] = self.composite(key, contents)
        return self.masters.keep_or_find(key, "layers", objects, contents.caption)

    def said(self, master: Master) -> dict[str, Any]:
        """Return what an outcome says of a master, as every `Shelf` does."""
        return addressed(self.store, master) | {"format": "png"}

    def _marked(self, pixels: np.ndarray, number: str, edits: Sequence[str] = ()) -> bytes:
        return self.marker.signed(encode(pixels, self.marker.packet(number, edits)), "png", edits)

    def _picture(self, master: Master, name: str) -> np.ndarray:
        return decode_rgba(self.masters.read(master, name))


def encode(pixels: np.ndarray, packet: bytes | None = None) -> bytes:
    """Return the PNG of a picture, uint8 [height, width, 3 or 4], with the marks of a packet of XMP if there is one."""
    buffer = io.BytesIO()
    mark = save_arguments(packet, "png") if packet else {}
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=PNG_LEVEL, **mark)
    return buffer.getvalue()
