"""A store as it was before there were masters: moved pictures, names without P, a catalogue without state.

images/ab/KEY.png, layers/ab/KEY/…    what had passed
quarantine/ab/KEY.png, …              what was refused, or waits
catalog.parquet                       with the column `judged_by`, and no `planned_from` or `changed_in`
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from safety.verdict import Reason, Verdict, allow, ask, refuse
from tasks.ledger.plan import COLUMNS
from tasks.manifests.key import Maker
from tasks.manifests.row import Row
from tasks.stores.store import Store

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
OLD_COLUMNS: dict[str, pa.DataType] = {
    "id": pa.string(),
    "status": pa.string(),
    "reason": pa.string(),
    "message": pa.string(),
    "retryable": pa.bool_(),
    "key": pa.string(),
    "uri": pa.string(),
    "layer_uris": pa.list_(pa.string()),
    "width": pa.int32(),
    "height": pa.int32(),
    "format": pa.string(),
    "bytes": pa.int64(),
    "sha256": pa.string(),
    "seed": pa.int64(),
    "prompt": pa.string(),
    "caption": pa.string(),
    "model": pa.string(),
    "scores": pa.map_(pa.string(), pa.float32()),
    "asks": pa.map_(pa.string(), pa.float32()),
    "reviewed_by": pa.string(),
    "reviewed_at": pa.timestamp("us", tz="UTC"),
    "fixes": pa.list_(pa.string()),
    "marks": pa.list_(pa.string()),
    "fingerprint": pa.string(),
    "profile": pa.string(),
    "judged_by": pa.string(),
    "run": pa.string(),
    "attempt": pa.int32(),
    "seconds": pa.float32(),
    "finished_at": pa.timestamp("us", tz="UTC"),
}
NEVER_NULL = ("id", "status", "retryable", "key")
OLD_ADDED = ("asks", "reviewed_by", "reviewed_at", "fixes", "marks", "fingerprint")
"""Of them, those that the packshot of then filled in where a table lacked them. It refused one that lacked another."""
ASKS = {"weapon": 0.1}
LAYERS = 3


def mixed(row_id: str) -> Verdict:
    """What the policy of then made of a picture."""
    match row_id[0]:
        case "b":
            return refuse(Reason.CONCEPT, "The picture shows what this policy refuses.")
        case "c" | "w":
            return ask(ASKS, "A person must look.")
    return allow()


def key_of(row_id: str) -> str:
    """The key of a row of the simulation's commands."""
    row = Row(row_id, f"a mug {row_id}", "", 1, 64, 64, 2, 1.0, "none")
    return Maker("checkpoint", "float32", ("png", None)).key(row, row.seed, label=None)


def layers_key(row_id: str) -> str:
    return hashlib.sha256(f"layers of {row_id}".encode()).hexdigest()


def picture(row_id: str) -> bytes:
    return f"{row_id} as it was drawn then".encode()


def put_picture(store: Store, place: str, row_id: str) -> dict[str, Any]:
    """Put a picture where it lay then; return what the catalogue said of it."""
    key, content = key_of(row_id), picture(row_id)
    path = f"{place}/{key[:2]}/{key}.png"
    store.put_once(path, content, content_type="image/png")
    return {
        "uri": store.uri_of(path),
        "format": "png",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def put_layers(store: Store, place: str, row_id: str) -> dict[str, Any]:
    """Put layers where they lay then, the composite last; return what the catalogue said of them."""
    key = layers_key(row_id)
    folder = f"{place}/{key[:2]}/{key}"
    random = np.random.default_rng(len(row_id) + ord(row_id[0]))
    objects = {f"{number}.png": _png(random) for number in range(LAYERS)}
    objects |= {"source.png": _png(random), "caption.txt": f"a mug {row_id}".encode(), "layers.psd": b"8BPS"}
    objects["composite.png"] = _png(random)
    for name, content in objects.items():
        store.put_once(f"{folder}/{name}", content)
    return {
        "uri": store.uri_of(f"{folder}/composite.png"),
        "layer_uris": [store.uri_of(f"{folder}/{number}.png") for number in range(LAYERS)],
        "format": "png",
        "bytes": len(objects["composite.png"]),
        "sha256": hashlib.sha256(objects["composite.png"]).hexdigest(),
    }


def _png(random: np.random.Generator) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(random.integers(0, 255, (8, 8, 4), np.uint8), "RGBA").save(sink, "PNG")
    return sink.getvalue()


def old_row(row_id: str, run: str, **values: Any) -> dict[str, Any]:
    """A row of a catalogue or a ledger."""
    return {
        **dict.fromkeys(OLD_COLUMNS),
        "id": row_id,
        "status": "done",
        "retryable": False,
        "key": key_of(row_id),
        "layer_uris": [],
        "width": 64,
        "height": 64,
        "seed": 1,
        "prompt": f"a mug {row_id}",
        "model": "model",
        "scores": [],
        "asks": [],
        "fixes": [],
        "marks": [],
        "profile": "none",
        "judged_by": "mixed",
        "run": run,
        "attempt": 1,
        "seconds": 1.0,
        "finished_at": NOON,
        **values,
    }


def table_of(rows: Iterable[dict[str, Any]], **carried: list[Any]) -> bytes:
    columns = [pa.field(name, kind, nullable=name not in NEVER_NULL) for name, kind in OLD_COLUMNS.items()]
    table = pa.Table.from_pylist([*rows], schema=pa.schema(columns))
    for name, values in carried.items():
        table = table.append_column(name, pa.array(values))
    return _file(table)


def plan_of(shards: dict[str, int | None]) -> bytes:
    """The plan of a run of then: the shard of each row, None where there was nothing to do."""
    rows = [
        {
            **dict.fromkeys(COLUMNS.names),
            "id": row_id,
            "prompt": f"a mug {row_id}",
            "negative_prompt": "",
            "seed": 1,
            "width": 64,
            "height": 64,
            "steps": 2,
            "guidance": 1.0,
            "profile": "none",
            "key": key_of(row_id),
            "judged_by": "mixed",
            "attempt": 1,
            "shard": shard,
        }
        for row_id, shard in shards.items()
    ]
    return _file(pa.Table.from_pylist(rows, schema=COLUMNS.with_metadata({b"planned_at": NOON.isoformat().encode()})))


def put_run(store: Store, run: str, shards: dict[str, int | None], ledgers: dict[int, list[dict[str, Any]]]) -> None:
    """Write a run down; it has a summary where every shard has its ledger."""
    job = {"job": {"manifest": "manifest.parquet"}, "limit": None, "retry": []}
    store.put_once(f"runs/{run}/job.json", json.dumps(job).encode())
    store.put_once(f"runs/{run}/plan.parquet", plan_of(shards))
    for shard, rows in ledgers.items():
        store.put_once(f"runs/{run}/shards/{shard:05}.parquet", table_of(rows))
    if len(ledgers) == len({shard for shard in shards.values() if shard is not None}):
        store.put_once(f"runs/{run}/summary.json", b"{}")


def fill(store: Store) -> None:
    """Fill a store as two runs of then and a person left it.

    Of pictures: a is done, b was refused, c waits, d was done until its prompt was refused; the run that makes e and f
    was killed when it had a ledger of e and a picture of f. Of layers: u is done, v was refused, w waits.
    """
    waits = {"status": "rejected", "reason": "review", "message": "A person must look.", "asks": [*ASKS.items()]}
    refused = {"status": "rejected", "reason": "concept", "message": "The picture shows what this policy refuses."}
    put_picture(store, "quarantine", "d")
    pictures = [
        old_row("a", "mixed", **put_picture(store, "images", "a")),
        old_row("b", "mixed", **put_picture(store, "quarantine", "b"), **refused),
        old_row("c", "mixed", **put_picture(store, "quarantine", "c"), **waits),
        old_row("d", "mixed", status="blocked", reason="blocklist", message="The prompt has “x”.", seconds=0.0),
    ]
    put_run(store, "mixed", dict.fromkeys("abcd", 0), {0: pictures})
    layers = [
        old_row(name, "layers", **{"key": layers_key(name), "prompt": "", "caption": f"a mug {name}", **what})
        for name, what in (
            ("u", put_layers(store, "layers", "u")),
            ("v", put_layers(store, "quarantine", "v") | refused),
            ("w", put_layers(store, "quarantine", "w") | waits),
        )
    ]
    store.put_once("catalog.parquet", table_of([*pictures, *layers], price=[*range(7)]))
    put_picture(store, "images", "f")
    put_run(store, "killed", {"e": 0, "f": 1}, {0: [old_row("e", "killed", **put_picture(store, "images", "e"))]})


def _file(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
