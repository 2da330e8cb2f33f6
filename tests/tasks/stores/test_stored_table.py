"""What lies in the store and is damaged is named, with what to do, whichever of packshot's own objects it is."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.catalogue.catalogue import UnreadableCatalogue, read_catalogue
from tasks.ledger.faults import read_faults
from tasks.ledger.plan import COLUMNS, Plan
from tasks.ledger.run import Run
from tasks.outcome import CATALOGUE_SCHEMA, LEDGER
from tasks.stores.store import Store, StoreError

RUN = Run("0123456789ab")


def parquet(schema: pa.Schema) -> bytes:
    """A Parquet file with one row of this schema, in a compression that notices a flipped bit."""
    filled = {field.name: [None if field.nullable else pa.scalar(0).cast(field.type).as_py()] for field in schema}
    filled |= {name: ["a row of some length " * 9] for name in ("id", "prompt") if name in filled}
    out = pa.BufferOutputStream()
    metadata = {b"planned_at": datetime.now(UTC).isoformat().encode()}
    pq.write_table(pa.table(filled, schema.with_metadata(metadata)), out, compression="zstd", write_page_checksum=True)
    return bytes(out.getvalue())


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    """The same with the bytes of its first pages turned, and its footer as it was."""
    return content[:4] + bytes(byte ^ 0xFF for byte in content[4:80]) + content[80:]


@pytest.mark.parametrize("damage", [cut, flipped, lambda _: b""], ids=["cut off", "flipped", "empty"])
def test_a_damaged_ledger_is_named(store: Store, damage: Callable[[bytes], bytes]) -> None:
    store.overwrite(RUN.shard_path(0), damage(parquet(LEDGER)))
    with (
        ThreadPoolExecutor(1) as pool,
        pytest.raises(StoreError, match=r"shards/00000.parquet is damaged or cut off .*delete it, and the command"),
    ):
        RUN.outcomes(store, 1, pool)


@pytest.mark.parametrize("damage", [cut, flipped], ids=["cut off", "flipped"])
def test_a_damaged_plan_is_named(store: Store, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    file = tmp_path / "plan.parquet"
    file.write_bytes(damage(parquet(COLUMNS)))
    with pytest.raises(StoreError, match=r"plan.parquet is damaged .*remove that run's folder"):
        Plan(file, store.uri_of(RUN.path("plan.parquet"))).table()


@pytest.mark.parametrize("damage", [cut, flipped], ids=["cut off", "flipped"])
def test_a_damaged_catalogue_is_named(store: Store, damage: Callable[[bytes], bytes]) -> None:
    store.overwrite("catalog.parquet", damage(parquet(CATALOGUE_SCHEMA)))
    with pytest.raises(UnreadableCatalogue, match=r"catalog.parquet is not a Parquet file .*packshot rebuild"):
        read_catalogue(store)


def test_damaged_documents_of_a_run_are_named(store: Store) -> None:
    store.overwrite(RUN.lane_path(0), b'{"seconds": 1')
    with pytest.raises(StoreError, match=r"lanes/0.json is damaged"):
        RUN.lanes(store)
    store.overwrite(RUN.path("lanes/0.faults.json"), b'[{"unknown": 1}]')
    with pytest.raises(StoreError, match=r"lanes/0.faults.json is damaged"):
        read_faults(store, RUN, 0)
