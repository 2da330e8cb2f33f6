"""Layers in the store: a folder a key, `layers/ab/ab12…/`, whole when its `composite.png` is there."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from safety.layers import WHITE, composite, over
from safety.provenance import DigitalSourceType, save_arguments
from tasks.encoding import PNG_LEVEL, decode_rgba
from tasks.marking import Marker
from tasks.retouching import FLATTEN
from tasks.shelf import QUARANTINE, Shelf
from tasks.store import Store

SOURCE_TYPE = DigitalSourceType.COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA
OPAQUE = 255
COMPOSITE, SOURCE, CAPTION, PSD = "composite.png", "source.png", "caption.txt", "layers.psd"
CONTENT_TYPES = {".png": "image/png", ".txt": "text/plain; charset=utf-8", ".psd": "image/vnd.adobe.photoshop"}


@dataclass(frozen=True)
class Layers:
    """What was made of a source picture."""

    source: np.ndarray  # uint8 [height, width, 4]: the source picture at the size of the layers
    layers: np.ndarray  # uint8 [layers, height, width, 4], bottom to top
    caption: str  # that they were made with, given or written; it may be empty
    stored: bytes | None = None  # composite.png, where it was stored before

    @cached_property
    def composite(self) -> np.ndarray:
        """The layers put together, uint8 [height, width, 4]."""
        return composite(self.layers)


@dataclass(frozen=True)
class Original:
    """What layers were made of."""

    source: np.ndarray  # uint8 [height, width, 4], at the size of the layers
    caption: str


def layer_names(count: int) -> list[str]:
    """What layers are called, bottom to top: "background", "layer 1", …; `layer n` is what n.png holds."""
    return ["background", *(f"layer {index}" for index in range(1, count))][:count]


class LayerShelf(Shelf[Layers]):
    """Layers of a row, with what a person needs beside them.

    `0.png … n.png` from bottom to top, the source picture at their size, its caption, `layers.psd` if it is wanted, and
    last of all `composite.png`: where that lies, everything does.
    """

    published = "layers"

    def __init__(self, store: Store, *, with_psd: bool, flatten: bool, marker: Marker) -> None:
        """`flatten` lays the composite over white, which the layers stay without."""
        self.store, self.with_psd, self.flatten, self.marker = store, with_psd, flatten, marker

    def path(self, place: str, key: str, name: str) -> str:
        """Where an object of a key lies in the store."""
        return f"{place}/{key[:2]}/{key}/{name}"

    def find(self, key: str) -> str | None:
        """See `Shelf`."""
        places = (self.published, QUARANTINE)
        return next((p for p in places if self.store.exists(self.path(p, key, COMPOSITE))), None)

    def read(self, place: str, key: str) -> Layers:
        """See `Shelf`."""
        original = self.original(place, key)
        layers: list[np.ndarray] = []
        while (layer := self._picture(place, key, f"{len(layers)}.png")) is not None:
            layers.append(layer)
        if not layers or any(layer.shape != original.source.shape for layer in layers):
            raise ValueError("The stored layers are incomplete; remove their folder to have them made again.")
        whole = self.store.read(self.path(place, key, COMPOSITE))
        if whole is None:
            raise ValueError("The stored composite was removed while the run was under way.")
        return Layers(original.source, np.stack(layers), original.caption, whole[0])

    def composite(self, key: str, contents: Layers) -> bytes:
        """`composite.png` as it is stored, or will be."""
        if contents.stored is not None:
            return contents.stored
        whole, edits = contents.composite, []
        if self.flatten and whole[..., 3].min() < OPAQUE:
            whole, edits = over(whole, WHITE), [FLATTEN]
        return self._marked(whole, key, edits)

    def original(self, place: str, key: str) -> Original:
        """What the layers that lie there were made of.

        Raises:
            ValueError: as `read`.
        """
        source, caption = self._picture(place, key, SOURCE), self.store.read(self.path(place, key, CAPTION))
        if source is None or caption is None:
            raise ValueError("The stored source picture was removed while the run was under way.")
        try:
            return Original(source, caption[0].decode())
        except UnicodeDecodeError as error:
            raise ValueError("The stored caption can't be read: it isn't UTF-8.") from error

    def put(self, place: str, key: str, contents: Layers) -> dict[str, Any]:
        """See `Shelf`."""
        whole = self.composite(key, contents)
        objects = {f"{n}.png": self._marked(layer, f"{key}.{n}") for n, layer in enumerate(contents.layers)}
        # The source is somebody's photograph, as far as anybody knows: it isn't marked as made by a model.
        objects[SOURCE] = encode(contents.source)
        objects[CAPTION] = contents.caption.encode()
        if self.with_psd:
            from tasks.psd import psd  # imports psd-tools, which takes a third of a second: not at every start

            objects[PSD] = psd(contents.layers, contents.composite, layer_names(len(contents.layers)))
        for name, data in objects.items():
            self.store.adopt_or_put(self.path(place, key, name), data, content_type=CONTENT_TYPES[Path(name).suffix])
        path = self.path(place, key, COMPOSITE)
        stored = self.store.adopt_or_put(path, whole, content_type=CONTENT_TYPES[".png"])
        return self._said(place, key, len(contents.layers), stored.size, stored.sha256)

    def describe(self, place: str, key: str, contents: Layers) -> dict[str, Any]:
        """See `Shelf`."""
        found = self.store.read(self.path(place, key, COMPOSITE))
        if found is None:  # removed meanwhile
            return self.put(place, key, contents)
        return self._said(place, key, len(contents.layers), len(found[0]), hashlib.sha256(found[0]).hexdigest())

    def copy(self, place: str, to: str, key: str) -> dict[str, Any] | None:
        """See `Shelf`."""
        if not self.store.exists(self.path(place, key, COMPOSITE)):
            return None
        layers = self._layers(place, key)
        for name in (*layers, SOURCE, CAPTION, PSD, COMPOSITE) if to != place else ():
            found = self.store.read(self.path(place, key, name))
            if found is not None:
                kind = CONTENT_TYPES[Path(name).suffix]
                self.store.adopt_or_put(self.path(to, key, name), found[0], content_type=kind)
            elif name != PSD:  # removed meanwhile: without its composite the copy is no result
                return None
        uris = [self.store.uri_of(self.path(to, key, name)) for name in layers]
        return {"uri": self.store.uri_of(self.path(to, key, COMPOSITE)), "layer_uris": uris}

    def remove(self, place: str, key: str) -> None:
        """See `Shelf`."""
        self.store.delete(self.path(place, key, COMPOSITE))  # first: from here on the rest is no result
        for name in (SOURCE, CAPTION, PSD, *reversed(self._layers(place, key))):  # from the top: what is left is found
            self.store.delete(self.path(place, key, name))

    def _layers(self, place: str, key: str) -> list[str]:
        """The names of the layers that lie there, bottom to top."""
        names: list[str] = []
        while self.store.exists(self.path(place, key, f"{len(names)}.png")):
            names.append(f"{len(names)}.png")
        return names

    def _marked(self, pixels: np.ndarray, number: str, edits: Sequence[str] = ()) -> bytes:
        return self.marker.signed(encode(pixels, self.marker.packet(number, edits)), "png", edits)

    def _picture(self, place: str, key: str, name: str) -> np.ndarray | None:
        found = self.store.read(self.path(place, key, name))
        return None if found is None else decode_rgba(found[0])

    def _said(self, place: str, key: str, layers: int, size: int, sha256: str) -> dict[str, Any]:
        uris = [self.store.uri_of(self.path(place, key, f"{number}.png")) for number in range(layers)]
        return {
            "uri": self.store.uri_of(self.path(place, key, COMPOSITE)),
            "layer_uris": uris,
            "format": "png",
            "bytes": size,
            "sha256": sha256,
        }


def encode(pixels: np.ndarray, packet: bytes | None = None) -> bytes:
    """The PNG of a picture (uint8 [height, width, 3 or 4]), with the marks of a packet of XMP, if there is one."""
    buffer = io.BytesIO()
    mark = save_arguments(packet, "png") if packet else {}
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=PNG_LEVEL, **mark)
    return buffer.getvalue()
