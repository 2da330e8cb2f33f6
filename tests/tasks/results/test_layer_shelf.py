"""The layers of a key in a store: whole or not there, and never written twice."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from safety.marks.provenance import digital_source_type
from safety.pictures.layers import composite
from tasks.kinds.decompose.decompose_kind import DECOMPOSE
from tasks.results.encoding import decode_rgba
from tasks.results.layer_shelf import LayeredPicture, LayerShelf
from tasks.results.marking import Marking
from tasks.results.master import COMPOSITE, PSD, SOURCE, Masters
from tasks.results.publication import publication_of, publish, withdraw
from tasks.stores.opening import open_store

KEY = "ab" * 32


@pytest.fixture
def shelf(tmp_path: Path) -> LayerShelf:
    return LayerShelf(
        open_store(str(tmp_path)), with_psd=True, flatten=False, marker=Marking().open(DECOMPOSE.source_type)
    )


@pytest.fixture
def contents() -> LayeredPicture:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 24, 32, 4), np.uint8)
    return LayeredPicture(pixels[0], pixels[1:], "一个红色的杯子")


def test_what_is_kept_is_read_again(shelf: LayerShelf, contents: LayeredPicture) -> None:
    assert shelf.find(KEY) is None
    master, holds_it = shelf.keep(KEY, contents)
    assert holds_it
    assert shelf.find(KEY) == master
    found = shelf.read(master)
    assert (found.source == contents.source).all()
    assert (found.layers == contents.layers).all()
    assert found.caption == contents.caption
    assert found.stored is not None
    assert (decode_rgba(found.stored) == composite(contents.layers)).all()
    said = shelf.said(master)
    assert [uri.rpartition(".")[0][-2:] for uri in said["layer_uris"]] == [".0", ".1", ".2"]
    assert said["sha256"] == hashlib.sha256(found.stored).hexdigest()


def test_layers_are_found_only_when_all_of_them_are_there(
    shelf: LayerShelf, contents: LayeredPicture, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = shelf.store.put_once

    def refuse_the_last(path: str, data: bytes, **options: str) -> object:
        if path.endswith(".json"):
            raise KeyboardInterrupt
        return put(path, data, **options)

    monkeypatch.setattr(shelf.store, "put_once", refuse_the_last)
    with pytest.raises(KeyboardInterrupt):
        shelf.keep(KEY, contents)
    assert shelf.find(KEY) is None
    monkeypatch.undo()
    assert shelf.keep(KEY, contents)[1]
    assert shelf.find(KEY) is not None


def test_objects_of_two_writers_never_mix(shelf: LayerShelf, contents: LayeredPicture) -> None:
    others = LayeredPicture(contents.source, contents.layers[::-1].copy(), "another caption")
    first, _ = shelf.keep(KEY, contents)
    second, holds_it = shelf.keep(KEY, others)
    assert (second, holds_it) == (first, False)
    parts = {part.path for part in first.parts.values()}
    stored = {one.path for one in shelf.store.listing("masters")}
    assert stored == {*parts, f"masters/ab/{KEY}.json"}  # nothing is left of the second one's


def test_what_a_model_made_is_marked_and_the_source_is_not(shelf: LayerShelf, contents: LayeredPicture) -> None:
    master, _ = shelf.keep(KEY, contents)
    masters = Masters(shelf.store)
    marks = {name: digital_source_type(masters.read(master, name)) for name in ("0.png", COMPOSITE, SOURCE)}
    assert marks[SOURCE] is None
    assert marks["0.png"] == marks[COMPOSITE]
    assert "compositeWithTrainedAlgorithmicMedia" in str(marks[COMPOSITE])


def test_what_is_published_are_the_layers_without_the_source_and_nothing_is_left_of_it(
    shelf: LayerShelf, contents: LayeredPicture, tmp_path: Path
) -> None:
    master, _ = shelf.keep(KEY, contents)
    publication = publication_of(KEY, "0123", extension="png", layers=3)
    publish(shelf.store, master, publication)
    folder = tmp_path / "layers" / "ab" / f"{KEY}-0123"
    assert {file.name for file in folder.iterdir()} == {"0.png", "1.png", "2.png", COMPOSITE, PSD}
    withdraw(shelf.store, publication)
    assert not [path for path in (tmp_path / "layers").rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", [COMPOSITE, "1.png"])
def test_a_master_that_was_changed_is_neither_read_nor_published(
    shelf: LayerShelf, contents: LayeredPicture, tmp_path: Path, name: str
) -> None:
    master, _ = shelf.keep(KEY, contents)
    file = tmp_path / master.parts[name].path
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match="isn't what was written there: its SHA-256 differs"):
        shelf.read(master)
    with pytest.raises(ValueError, match="isn't what was written there: its SHA-256 differs"):
        publish(shelf.store, master, publication_of(KEY, "0123", extension="png", layers=3))
    assert not (tmp_path / "layers" / "ab" / f"{KEY}-0123" / COMPOSITE).exists()


def test_a_record_that_is_none_is_told(shelf: LayerShelf, contents: LayeredPicture) -> None:
    shelf.keep(KEY, contents)
    for content in (b"{", b"[]", b'{"key": "k", "kind": "layers", "parts": {}, "caption": ""}'):
        shelf.store.overwrite(f"masters/ab/{KEY}.json", content)
        with pytest.raises(ValueError, match="isn't the record of what was made"):
            shelf.find(KEY)


def test_a_layer_less_in_the_record_is_told_when_it_is_published(shelf: LayerShelf, contents: LayeredPicture) -> None:
    master, _ = shelf.keep(KEY, contents)
    with pytest.raises(ValueError, match="has 3 layers, not 4 of the catalogue"):
        publish(shelf.store, master, publication_of(KEY, "0123", extension="png", layers=4))
