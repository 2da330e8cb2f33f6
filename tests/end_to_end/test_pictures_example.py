"""examples/pictures.parquet through the decompose flow, with the miniature that is shipped and every default."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from psd_tools import PSDImage

from flows.decompose import decompose
from safety.pictures.layers import composite, psnr
from tasks.job import DecomposeJob
from tasks.results.encoding import decode_rgba
from tasks.stores.opening import open_store
from tasks.stores.store import Store
from tests.end_to_end.conftest import catalogue, source_of

pytestmark = pytest.mark.together
MANIFEST = Path(__file__).parents[2] / "examples" / "pictures.parquet"
ENDS_AS = {
    "Mug, no part for a third layer": ("rejected", "empty_layer"),
    "Pistol": ("blocked", "concept"),
    "Cut off": ("failed", "source_corrupt"),
    "Decompression bomb": ("failed", "source_too_large"),
    "Animated": ("failed", "source_unsupported"),
    "Not a picture": ("failed", "source_unsupported"),
    "Nothing": ("failed", "bad_value"),
    "Not there": ("failed", "source_not_found"),
    "Out of the manifest's folder": ("failed", "source_not_allowed"),
    "On a host that the job doesn't name": ("failed", "source_not_allowed"),
    "Too many layers": ("failed", "bad_value"),
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    store = open_store(str(tmp_path_factory.mktemp("store")))
    decompose(DecomposeJob.of(manifest=str(MANIFEST), store=store.uri), None, ())
    return list(catalogue(store).values())


def store_of(row: dict) -> Store:
    """The store that a row's layers are published in."""
    return open_store(str(Path(row["uri"]).parents[3]))


def test_every_row_ends_as_it_should(rows: list[dict]) -> None:
    ends = {row["title"]: (row["status"], row["reason"]) for row in rows}
    assert {title: end for title, end in ends.items() if end != ("done", None)} == ENDS_AS
    assert len(ends) == len(rows) == 33


def test_layers_make_the_picture_again(rows: list[dict]) -> None:
    for row in (row for row in rows if row["status"] == "done"):
        folder = Path(row["uri"]).parent
        layers = [decode_rgba(Path(uri).read_bytes()) for uri in row["layer_uris"]]
        again = composite(np.stack(layers))
        assert np.abs(again.astype(int) - decode_rgba((folder / "composite.png").read_bytes())).max() <= 1, row["title"]
        assert psnr(again, decode_rgba(source_of(store_of(row), row))) >= 26, row["title"]


def test_photoshop_files_hold_the_named_layers_in_order(rows: list[dict]) -> None:
    banner = next(row for row in rows if row["title"] == "Camera")
    with (Path(banner["uri"]).parent / "layers.psd").open("rb") as file:
        psd = PSDImage.open(file)
        assert [layer.name for layer in psd] == ["background", "layer 1", "layer 2"]
        for layer, uri in zip(psd, banner["layer_uris"], strict=True):
            cover = np.asarray(layer.composite(viewport=psd.viewbox))[..., 3]
            assert np.abs(cover.astype(int) - decode_rgba(Path(uri).read_bytes())[..., 3]).max() <= 1
    overlay = decode_rgba(Path(banner["layer_uris"][2]).read_bytes())[..., 3]
    assert overlay[:30].mean() > 200  # the banner lies at the top, and it alone
    assert overlay[60:].mean() < 5
