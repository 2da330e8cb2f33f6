"""A store of another scheme, defined here alone, keeps the promises and takes a run from manifest to review."""

from __future__ import annotations

import hashlib
import inspect
import io
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from models.checkpoints.checkpoint import find_clip as find_folder
from models.checkpoints.identity import CLIP_FOLDER
from models.engines.generator import Generator
from tasks.checkpoints.checkpoints import find_clip
from tasks.checkpoints.verify import verify
from tasks.job import GenerateJob
from tasks.manifests.manifest_state import manifest_state
from tasks.review.decide import decide, waiting
from tasks.runs.finish import report_store
from tasks.runs.prepare import RunRequest, estimate
from tasks.sources.source import Sources, folder_of
from tasks.sources.web_source import WebSource
from tasks.stores.opening import SCHEMES, open_store
from tasks.stores.store import (
    STEPS,
    Changed,
    Conflict,
    Damaged,
    ListedObject,
    Missing,
    Step,
    Store,
    StoredObject,
    checked,
)
from tests.end_to_end.conftest import SMALL, catalogue, prefect_api, run
from tests.tasks.stores import test_store as contract

__all__ = ["prefect_api"]  # a fixture


class MemoryStore(Store):
    """What lies below a prefix of a dictionary; the version token of an object is its SHA-256."""

    def __init__(self, objects: dict[str, bytes], lock: threading.RLock, address: str) -> None:
        self.objects, self.lock, self.address = objects, lock, address.strip("/")
        self.folder_name = f"{self.address.partition('/')[2]}/".lstrip("/")

    @property
    def uri(self) -> str:
        return f"memory://{self.address}"

    def uri_of(self, path: str) -> str:
        return f"{self.uri}/{checked(path)}"

    def put_once(self, path: str, data: bytes | Path, *, content_type: str | None = None) -> StoredObject:
        stored = self.adopt_or_put(path, data, content_type=content_type)
        if stored.sha256 != (ours := sha256(whole(data))):
            raise Conflict(self.uri_of(path), ours=ours, theirs=stored.sha256)
        return stored

    def adopt_or_put(self, path: str, data: bytes | Path, *, content_type: str | None = None) -> StoredObject:  # noqa: ARG002
        with self.lock:
            adopted = self._key(path) in self.objects
            content = self.objects.setdefault(self._key(path), whole(data))
        return StoredObject(path, len(content), sha256(content), adopted)

    def replace(self, path: str, data: bytes | Path, *, expect: str | None, content_type: str | None = None) -> str:  # noqa: ARG002
        with self.lock:
            content, there = whole(data), self.read(path)
            if there is None or there[0] != content:
                if (there and there[1]) != expect:
                    raise Changed(self.uri_of(path))
                self.objects[self._key(path)] = content
            return sha256(content)

    def overwrite(self, path: str, data: bytes | Path, *, content_type: str | None = None) -> None:  # noqa: ARG002
        self.objects[self._key(path)] = whole(data)

    def copy(self, path: str, to: str, *, sha256: str, size: int) -> None:
        with self.lock:
            for there in (self.read(to), found := self.read(path)):
                if there is not None and (there[1], len(there[0])) == (sha256, size):
                    self.objects[self._key(to)] = there[0]
                    return
        raise Missing(self.uri_of(path)) if found is None else Damaged(self.uri_of(path))

    def read(self, path: str) -> tuple[bytes, str] | None:
        content = self.objects.get(self._key(path))
        return None if content is None else (content, sha256(content))

    def download(self, path: str, to: Path) -> str | None:
        if (found := self.read(path)) is None:
            return None
        to.write_bytes(found[0])
        return found[1]

    def exists(self, path: str) -> bool:
        return self._key(path) in self.objects

    def delete(self, path: str) -> None:
        self.objects.pop(self._key(path), None)

    def listing(self, prefix: str) -> Iterator[ListedObject]:
        below = self._key(prefix) + "/" if prefix else self.folder_name
        with self.lock:
            found = [(key, content) for key, content in self.objects.items() if key.startswith(below)]
        for key, content in found:
            yield ListedObject(key.removeprefix(self.folder_name), len(content), datetime.now(UTC), sha256(content))

    def probe(self, passed: Callable[[Step], object] = lambda _: None) -> None:
        for step in STEPS:
            passed(step)

    def _key(self, path: str) -> str:
        return f"{self.folder_name}{checked(path)}"


def whole(data: bytes | Path) -> bytes:
    return data if isinstance(data, bytes) else data.read_bytes()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def objects(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Everything that lies at `memory://shop`, by its path there."""
    stored: dict[str, bytes] = {}
    lock = threading.RLock()
    monkeypatch.setitem(SCHEMES, "memory", lambda rest, *_: MemoryStore(stored, lock, rest))
    return stored


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

ROWS = [{"id": f"{c}-mug", "prompt": f"a {c} mug on a white background"} for c in ("red", "blue")]
SEEN = """
neutral = ["a red boot", "a mug"]
[[concepts]]
name = "seen"
sentence = "Somebody should see it."
phrases = ["a syringe"]
answer = "review"
picture_threshold = -2.0
"""
OWN = {"uri", "seconds", "finished_at", "reviewed_at", "message"}
"""Columns that tell where and when something was done."""


def parquet(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def ends(store: Store) -> dict[str, dict[str, Any]]:
    return {
        row_id: {name: value for name, value in row.items() if name not in OWN}
        for row_id, row in catalogue(store).items()
    }


def test_a_run_its_rerun_and_a_review_end_as_in_a_folder(
    store: Store, objects: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects["in/manifest.parquet"] = parquet(ROWS)
    (tmp_path / "manifest.parquet").write_bytes(objects["in/manifest.parquet"])
    (tmp_path / "seen.toml").write_text(SEEN)
    places = {
        "memory://shop/in/manifest.parquet": store,
        str(tmp_path / "manifest.parquet"): open_store(str(tmp_path / "store")),
    }
    ended = []
    for manifest, place in places.items():
        with monkeypatch.context() as patch:
            first = run(manifest, place, policy=str(tmp_path / "seen.toml"))
            made = ends(place)
            patch.setattr(Generator, "load", lambda *_, **__: pytest.fail("a picture was drawn"))
            again = run(manifest, place, policy=str(tmp_path / "seen.toml"))
            assert [one.id for one in waiting(place.uri)] == ["red-mug", "blue-mug"]
            decide(place.uri, ["red-mug"], "approve", by="Ann")
            decide(place.uri, ["blue-mug"], "reject", by="Ann", note="smeared")
            run(manifest, place)  # by another policy: judged again, as people decided
        ended.append((first.run, first.statuses, again.run, made, ends(place)))
    assert ended[0] == ended[1]
    assert {row_id: row["status"] for row_id, row in ended[0][-1].items()} == {
        "red-mug": "done",
        "blue-mug": "rejected",
    }

    published = catalogue(store)["red-mug"]
    assert published["uri"].startswith("memory://shop/out/images/")
    assert sha256(objects[published["uri"].removeprefix("memory://shop/")]) == published["sha256"]
    assert b"red-mug" in objects[f"out/runs/{ended[0][0]}/report.html"]
    assert report_store(store.uri).statuses["done"] == 1


def test_a_folder_of_manifests_is_read_and_a_dry_run_writes_nothing(objects: dict[str, bytes]) -> None:
    for name, row in zip(("a", "b"), ROWS, strict=True):
        objects[f"in/{name}.parquet"] = parquet([row])
    before, state = dict(objects), manifest_state("memory://shop/in/")
    job = GenerateJob.of(manifest="memory://shop/in/", store="memory://shop/out", **SMALL)
    told = estimate(RunRequest(job))
    assert (told.plan_counts.rows, told.plan_counts.to_do, told.published_twice) == (2, 2, True)
    assert objects == before
    objects["in/b.parquet"] = parquet(ROWS[:1])
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
