"""The layers of a key in a store: whole or not there, and never written twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from safety.layers import composite
from safety.provenance import digital_source_type
from tasks.encoding import decode_rgba
from tasks.layer_shelf import COMPOSITE, PSD, SOURCE, SOURCE_TYPE, Layers, LayerShelf
from tasks.marking import Marking
from tasks.shelf import QUARANTINE
from tasks.store import open_store

KEY = "ab" * 32


@pytest.fixture
def shelf(tmp_path: Path) -> LayerShelf:
    return LayerShelf(open_store(str(tmp_path)), with_psd=True, flatten=False, marker=Marking().open(SOURCE_TYPE))


@pytest.fixture
def contents() -> Layers:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 24, 32, 4), np.uint8)
    return Layers(pixels[0], pixels[1:], "一个红色的杯子")


def test_what_is_put_is_read_again(shelf: LayerShelf, contents: Layers, tmp_path: Path) -> None:
    assert shelf.find(KEY) is None
    said = shelf.put(shelf.published, KEY, contents)
    assert shelf.find(KEY) == "layers"
    found = shelf.read("layers", KEY)
    assert (found.source == contents.source).all()
    assert (found.layers == contents.layers).all()
    assert found.caption == contents.caption
    whole = decode_rgba((tmp_path / "layers" / "ab" / KEY / COMPOSITE).read_bytes())
    assert (whole == composite(contents.layers)).all()
    assert [Path(uri).name for uri in said["layer_uris"]] == ["0.png", "1.png", "2.png"]
    assert shelf.describe("layers", KEY, contents) == said


def test_layers_are_found_only_when_all_of_them_are_there(
    shelf: LayerShelf, contents: Layers, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = shelf.store.adopt_or_put

    def refuse_the_last(path: str, data: bytes, **options: str) -> object:
        if path.endswith(COMPOSITE):
            raise KeyboardInterrupt
        return put(path, data, **options)

    monkeypatch.setattr(shelf.store, "adopt_or_put", refuse_the_last)
    with pytest.raises(KeyboardInterrupt):
        shelf.put(shelf.published, KEY, contents)
    assert shelf.find(KEY) is None
    monkeypatch.undo()
    shelf.put(shelf.published, KEY, contents)
    assert shelf.find(KEY) == "layers"


def test_what_a_model_made_is_marked_and_the_source_is_not(shelf: LayerShelf, contents: Layers, tmp_path: Path) -> None:
    shelf.put(QUARANTINE, KEY, contents)
    folder = tmp_path / "quarantine" / "ab" / KEY
    marks = {name: digital_source_type((folder / name).read_bytes()) for name in ("0.png", COMPOSITE, SOURCE)}
    assert marks[SOURCE] is None
    assert marks["0.png"] == marks[COMPOSITE]
    assert "compositeWithTrainedAlgorithmicMedia" in str(marks[COMPOSITE])


def test_nothing_is_left_of_what_is_removed(shelf: LayerShelf, contents: Layers, tmp_path: Path) -> None:
    shelf.put(shelf.published, KEY, contents)
    assert (tmp_path / "layers" / "ab" / KEY / PSD).exists()
    shelf.remove("layers", KEY)
    assert shelf.find(KEY) is None
    assert not [path for path in (tmp_path / "layers").rglob("*") if path.is_file()]
    with pytest.raises(ValueError, match="removed"):
        shelf.read("layers", KEY)
