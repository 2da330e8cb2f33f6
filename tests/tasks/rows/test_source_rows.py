"""Rows that are made from a picture each: what is asked of a row, then its picture, once."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from tasks.manifests.known_columns import PICTURES
from tasks.manifests.row import BadRow, Row, check_id
from tasks.manifests.row_error import Problem, RowError, RowFault
from tasks.rows.originals import KEPT, OriginalReference, Originals, kept_path
from tasks.rows.source_rows import SourceRows, bad_source_rows
from tasks.sources.decoder import Decoder
from tasks.sources.intake import Intake
from tasks.stores.store import Store


def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, "PNG")
    return buffer.getvalue()


def asked(values: Mapping[str, Any]) -> Row:
    check_id(values["id"])
    return Row(values["id"], values["caption"] or "", "", 1, 0, 0, 2, 1.0, "none")


def fitted(row: Row, original: OriginalReference) -> Row:
    if original.width > 2 * original.height:
        raise RowError(Problem("image", RowFault.ASPECT, "The picture is too wide."))
    return replace(row, width=original.width, height=original.height)


@pytest.fixture
def reader(tmp_path: Path, decoder: Decoder, store: Store) -> SourceRows:
    originals = Originals(Intake(str(tmp_path), (), 1 << 20, 1 << 20).sources(), decoder, store)
    return SourceRows(PICTURES, "caption", asked, fitted, originals)


def batch(**images: bytes | None) -> pa.RecordBatch:
    rows = [{"id": name.replace("_", " "), "caption": "a mug", "image": image} for name, image in images.items()]
    return pa.RecordBatch.from_pylist(
        rows, pa.schema({"id": pa.string(), "caption": pa.string(), "image": pa.binary()})
    )


def test_a_row_gets_the_size_and_the_content_of_its_picture(reader: SourceRows, store: Store) -> None:
    data = png(8, 6)
    ((_, row),) = reader.read(batch(a=data))
    assert isinstance(row, Row)
    source = hashlib.sha256(data).hexdigest()
    assert (row.width, row.height, row.source, row.image) == (8, 6, source, KEPT + source)
    reader.keep(row)
    assert store.exists(kept_path(source))


def test_what_is_wrong_with_a_row_or_with_its_picture_is_that_rows_own_trouble(reader: SourceRows) -> None:
    images = {"good": png(8, 8), "a_b": png(8, 8), "wide": png(9, 4), "none": None, "broken": b"\x89PNG"}
    rows = dict(reader.read(batch(**images)))
    bad = {number: row for number, row in rows.items() if isinstance(row, BadRow)}
    assert isinstance(rows[0], Row)
    assert {number: (row.reason, row.column) for number, row in bad.items()} == {
        1: ("bad_value", "id"),
        2: ("bad_value", "image"),
        3: ("bad_value", ""),
        4: ("source_corrupt", ""),
    }
    assert all(row.prompt == "a mug" for row in bad.values())


def test_rows_that_ask_for_what_cannot_be_are_found_without_a_picture() -> None:
    (bad,) = bad_source_rows(batch(good=None, a_b=None), PICTURES, asked)
    assert (bad.id, bad.column) == ("a b", "id")
