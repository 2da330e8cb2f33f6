"""Publications: copies of masters that shops read and may serve, each under a name that is used once.

    images/ab/ab12…-P.png
    layers/ab/ab12…-P/0.png … n.png, composite.png, layers.psd

P is new for each process and commit. As no name ever comes again, whoever deletes one late harms nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tasks.results.master import COMPOSITE, PRIVATE, PSD, SOURCE, Master, copy_of
from tasks.stores.store import Store

CAPTION = "caption.txt"
BESIDE = (SOURCE, CAPTION)  # what else lies in a folder of layers that was written before there were masters
# Before there were masters, what was refused lay in quarantine, and names had no P.
PUBLISHED = re.compile(r"(?:^|/)((?:images|layers|quarantine)/[^/]{2}/[^/]+(?:/composite\.png)?)$")


@dataclass(frozen=True)
class Publication:
    """A name that is used once: that of a picture, or of the composite of so many layers."""

    path: str
    layers: int = 0

    @property
    def key(self) -> str:
        """The key of its master."""
        return self.path.split("/")[2].rpartition("-")[0]

    @property
    def names(self) -> list[str]:
        """Every object that there may be: the one that says that it is whole is the first."""
        if not self.layers:
            return [self.path]
        folder = self.path.removesuffix(COMPOSITE)
        return [self.path, *(f"{folder}{n}.png" for n in range(self.layers)), *(folder + n for n in (PSD, *BESIDE))]


def publication_of(key: str, name: str, *, extension: str, layers: int) -> Publication:
    """Return the publication of a key under this name, `P`."""
    if layers:
        return Publication(f"layers/{key[:2]}/{key}-{name}/{COMPOSITE}", layers)
    return Publication(f"images/{key[:2]}/{key}-{name}.{extension}")


def addresses(store: Store, publication: Publication) -> tuple[str, list[str]]:
    """Return what the catalogue says of a publication: its `uri` and `layer_uris`."""
    folder = publication.path.removesuffix(COMPOSITE)
    layers = [store.uri_of(f"{folder}{number}.png") for number in range(publication.layers)]
    return store.uri_of(publication.path), layers


def publish(store: Store, master: Master, publication: Publication) -> None:
    """Copy a master to its publication, and check every copy.

    Raises:
        ValueError: the master is gone, damaged, or not of this kind; the message is a sentence.
    """
    if len(master.layers) != publication.layers:
        raise ValueError(f"What is stored has {len(master.layers)} layers, not {publication.layers} of the catalogue.")
    if not publication.layers:
        copy_of(store, master.main, publication.path)
        return
    folder = publication.path.removesuffix(COMPOSITE)
    for name, part in master.parts.items():
        if name not in (COMPOSITE, *PRIVATE):
            copy_of(store, part, folder + name)
    copy_of(store, master.main, publication.path)


def withdraw(store: Store, publication: Publication) -> None:
    """Delete a publication, if it is there. Done half, it can be done again."""
    for name in publication.names:
        store.delete(name)


def publications_in(uris: Iterable[str | None], layers: Iterable[int]) -> set[Publication]:
    """Return the publications that these rows of the catalogue name."""
    found = ((PUBLISHED.search(uri or ""), count) for uri, count in zip(uris, layers, strict=True))
    return {Publication(match[1], count or 0) for match, count in found if match}
