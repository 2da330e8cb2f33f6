"""Stores from before there were masters: what lies in them is found, and gets a master when it is touched.

Then a picture lay under its key alone, in `images/` or `layers/` where it had passed, in `quarantine/` where it had
been refused, and was moved between the two. It stays where it is, and its address stays valid, until its row changes.
"""

from __future__ import annotations

from tasks.results.master import COMPOSITE, PICTURE, PSD, SOURCE, Master, Masters
from tasks.results.publication import CAPTION
from tasks.stores.store import Store


def find_master(store: Store, key: str, *, extension: str, layered: bool, from_before: bool) -> Master | None:
    """Return a key's master, made of what was stored before there were masters if it has none; None if there is none.

    Raises:
        ValueError: its record can't be read; the message is a sentence.
    """
    masters = Masters(store)
    found = masters.find(key)
    if found is not None or not from_before:
        return found
    if layered:
        return _layers(store, masters, key)
    for place in ("images", "quarantine"):
        picture = store.read(f"{place}/{key[:2]}/{key}.{extension}")
        if picture is not None:
            return masters.keep(key, "images", {f"{PICTURE}.{extension}": picture[0]})
    return None


def _layers(store: Store, masters: Masters, key: str) -> Master | None:
    for place in ("layers", "quarantine"):
        folder = f"{place}/{key[:2]}/{key}"
        whole = store.read(f"{folder}/{COMPOSITE}")
        if whole is None:
            continue
        contents = {COMPOSITE: whole[0]}
        while (layer := store.read(f"{folder}/{len(contents) - 1}.png")) is not None:
            contents[f"{len(contents) - 1}.png"] = layer[0]
        for name in (SOURCE, PSD):
            if (beside := store.read(f"{folder}/{name}")) is not None:
                contents[name] = beside[0]
        caption = store.read(f"{folder}/{CAPTION}")
        if SOURCE in contents and caption is not None:
            return masters.keep(key, "layers", contents, caption[0].decode())
    return None
