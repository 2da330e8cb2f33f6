"""A store of another scheme keeps the promises, and gives manifests, pictures and checkpoints."""

from __future__ import annotations

import inspect
import io
from collections.abc import Iterator

import pytest
from PIL import Image

from models.checkpoints.checkpoint import find_clip as find_folder
from models.checkpoints.identity import CLIP_FOLDER
from tasks.checkpoints.checkpoints import find_clip
from tasks.checkpoints.verify import verify
from tasks.job import GenerateJob
from tasks.manifests.manifest_state import manifest_state
from tasks.runs.prepare import RunRequest, estimate
from tasks.sources.source import Sources, folder_of
from tasks.sources.web_source import WebSource
from tasks.stores.opening import open_store
from tasks.stores.store import Store
from tests.end_to_end.conftest import SMALL
from tests.kinds.memory_scheme import registered_scheme
from tests.kinds.mugs import parquet
from tests.tasks.stores import test_store as contract


@pytest.fixture(autouse=True)
def objects() -> Iterator[dict[str, bytes]]:
    """Everything that lies at `memory://shop`, by its path there."""
    with registered_scheme() as stored:
        yield stored


@pytest.fixture
def store(objects: dict[str, bytes]) -> Store:
    del objects  # which are its own
    return open_store("memory://shop/out")


globals().update(
    {
        name: test
        for name, test in vars(contract).items()
        if name.startswith("test_") and "store" in inspect.signature(test).parameters
    }
)
"""The promises of every store, which are shown of this one here."""

ROWS = {f"{colour}-mug": {"prompt": f"a {colour} mug on a white background"} for colour in ("red", "blue")}


def test_a_folder_of_manifests_is_read_and_a_dry_run_writes_nothing(objects: dict[str, bytes]) -> None:
    for name, row in ROWS.items():
        objects[f"in/{name}.parquet"] = parquet({name: row})
    before, state = dict(objects), manifest_state("memory://shop/in/")
    job = GenerateJob.of(manifest="memory://shop/in/", store="memory://shop/out", **SMALL)
    told = estimate(RunRequest(job))
    assert (told.plan_counts.rows, told.plan_counts.to_do, told.published_twice) == (2, 2, True)
    assert objects == before
    objects["in/blue-mug.parquet"] = parquet(dict([*ROWS.items()][:1]))
    assert manifest_state("memory://shop/in/") != state


def test_source_pictures_beside_a_manifest_and_elsewhere_are_read(objects: dict[str, bytes]) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    objects["in/red.png"] = objects["other/red.png"] = buffer.getvalue()
    sources = Sources(folder_of("memory://shop/in/manifest.parquet"), web=WebSource(()))
    assert sources.read("red.png") == sources.read("memory://shop/other/red.png") == buffer.getvalue()


def test_a_checkpoint_is_fetched_and_verified(objects: dict[str, bytes]) -> None:
    for file in CLIP_FOLDER.rglob("*"):
        if file.is_file():
            objects[f"models/clip/{file.relative_to(CLIP_FOLDER).as_posix()}"] = file.read_bytes()
    found = find_clip("memory://shop/models/clip")
    assert (found.name, found.revision) == ("memory://shop/models/clip", find_folder("miniature").revision)
    assert verify("memory://shop/models/clip")["memory://shop/models/clip"].faults == ()
