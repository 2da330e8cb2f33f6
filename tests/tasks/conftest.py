"""Manifests, and what a plan needs, without a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.kinds.generate.prompt_rows import Defaults, PromptRows
from tasks.ledger.plan import Known, Planner
from tasks.manifests.key import Maker
from tasks.rows.text_template import TextTemplate
from tasks.sources.decoder import Decoder
from tasks.stores.opening import open_store
from tasks.stores.store import Store
from tests.simulation import actors

Write = Callable[..., Path]


@pytest.fixture
def write_manifest(tmp_path: Path) -> Write:
    """Writes rows, or a table, as a manifest; returns its path."""

    def write(rows: list[dict[str, Any]] | pa.Table, name: str = "manifest.parquet", **options: Any) -> Path:
        table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows)
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, file, **options)
        return file

    return write


def defaults(template: str | None = None, **values: Any) -> Defaults:
    return Defaults(
        **{
            "width": 256,
            "height": 256,
            "steps": 8,
            "guidance": 2.0,
            "negative_prompt": " ",
            "profile": "none",
            "seed": 0,
            "variants": 1,
            "fewest_steps": 2,
            "size_multiple": 16,
            "template": TextTemplate(template, "prompt") if template else None,
            **values,
        }
    )


def planner(known: dict[str, Known] | None = None, **values: Any) -> Planner:
    """A planner over a catalogue given as a dict."""

    def look_up(ids: Sequence[str]) -> list[Known | None]:
        return [(known or {}).get(row_id) for row_id in ids]

    return Planner(
        **{
            "rows": PromptRows(defaults()),
            "maker": Maker("checkpoint", "float32", ("png", None)),
            "policy_fingerprint": lambda profile: f"judges of {profile}",
            "known": look_up,
            "retry": frozenset(),
            "shard_rows": 4,
            **values,
        }
    )


@pytest.fixture
def whole_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the simulation's commands work on any store, in place of its buckets: see `whole_runs`."""
    monkeypatch.setattr(actors, "MemoryStore", lambda store: store)


@pytest.fixture(params=["folder", "s3"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path, whole_runs: None) -> Store:
    """An empty store, once in a folder and once on S3, for whole runs."""
    del whole_runs
    return open_store(str(tmp_path / "store") if request.param == "folder" else request.getfixturevalue("s3_store_uri"))


@pytest.fixture
def folder(tmp_path: Path, whole_runs: None) -> Store:
    """An empty store in a folder, for whole runs."""
    del whole_runs
    return open_store(str(tmp_path / "store"))


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    """What reads pictures, in processes of its own."""
    with Decoder(workers=2) as decoder:
        yield decoder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store in a folder."""
    return open_store(str(tmp_path / "store"))
