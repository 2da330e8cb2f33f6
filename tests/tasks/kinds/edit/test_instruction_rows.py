"""Rows of pictures and instructions: what each asks for, at which size, and what fails it alone."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from models.requests import EditDefaults
from tasks.errors import RequestError
from tasks.kinds.edit.edit_job import EditJob
from tasks.kinds.edit.edit_spec import EditSpec
from tasks.kinds.edit.instruction_check import sound_instructions
from tasks.kinds.edit.instruction_rows import InstructionRows, asked_of, edit_row_defaults
from tasks.ledger.plan import Plan, Planner, sources_in, write_plan
from tasks.manifests.fetch import fetch_manifest
from tasks.manifests.key import Maker
from tasks.manifests.known_columns import EDITS
from tasks.manifests.manifest import known_values, open_manifest
from tasks.manifests.manifest_file import ManifestError
from tasks.manifests.row import BadRow, PlannedPicture, Row
from tasks.manifests.row_error import RowError
from tasks.results.encoding import Encoding
from tasks.results.finishing import Finishing
from tasks.rows.originals import KEPT, Originals, kept_path
from tasks.rows.row_defaults import KnownCheckpoint
from tasks.sources.decoder import Decoder
from tasks.sources.intake import Intake
from tasks.stores.store import Store

CHECKPOINT = KnownCheckpoint(EditDefaults(256, 384, True, 8, 2.0, "a test"), size_multiple=32, fewest_steps=2)


def png(colour: str = "red", width: int = 96, height: int = 96) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def reader(tmp_path: Path, decoder: Decoder, store: Store) -> InstructionRows:
    return reader_of(tmp_path, decoder, store)


def reader_of(folder: Path, decoder: Decoder, store: Store, most: int = 3, **job: Any) -> InstructionRows:
    sources = Intake(str(folder), (), 1 << 22, 1 << 22).sources()
    finding = job.pop("finding", None)
    defaults = edit_row_defaults(EditJob.of(manifest="m", store="s", **job), CHECKPOINT, most, finding)
    return InstructionRows(defaults, Originals(sources, decoder, store))


def batch_of(*rows: dict[str, Any]) -> pa.RecordBatch:
    whole = [{"id": f"r{number}", "instruction": "make it blue", **row} for number, row in enumerate(rows)]
    names = dict.fromkeys(name for row in whole for name in row)
    texts = {"instruction": pa.large_string(), "instruction_name": pa.large_string()}
    return pa.RecordBatch.from_pydict(
        {name: pa.array([row.get(name) for row in whole], texts.get(name)) for name in names}
        | {"packshot:problem": pa.nulls(len(whole))}
    )


def read(reader: InstructionRows, *rows: dict[str, Any]) -> list[Row | BadRow]:
    return [row for _, row in reader.read(batch_of(*rows))]


def key(row: Row | BadRow) -> str:
    assert isinstance(row, Row), row
    spec = EditSpec(Intake("", (), 1, 1), Finishing(Encoding("png", 92)), 256, 384, 32)
    return Maker("checkpoint", "float32", spec.form).key(row, 7)


def said(row: Row | BadRow) -> str:
    assert isinstance(row, BadRow), row
    return row.problem


def size(row: Row | BadRow) -> tuple[int, int]:
    assert isinstance(row, Row), row
    return row.width, row.height


def test_an_edit_comes_out_in_the_aspect_of_its_last_picture_unless_its_size_is_named(
    reader: InstructionRows, tmp_path: Path, decoder: Decoder, store: Store
) -> None:
    wide, tall = png(width=200, height=100), png(width=100, height=150)
    rows = read(
        reader,
        {"image": wide},
        {"image": wide, "image2": tall},
        {"image": wide, "image3": wide},
        {"image": wide, "width": 128},
        {"image": tall, "height": 384},
        {"image": wide, "width": 64, "height": 96},
    )
    assert [size(row) for row in rows] == [(352, 192), (224, 320), (352, 192), (128, 64), (256, 384), (64, 96)]
    named = reader_of(tmp_path, decoder, store, width=512)
    assert [size(row) for row in read(named, {"image": wide}, {"image": wide, "width": 128})] == [(512, 256), (128, 64)]
    with pytest.raises(RequestError, match="multiples of 32"):
        reader_of(tmp_path, decoder, store, width=80)


def test_the_key_follows_the_instruction_and_every_picture_in_its_order(
    reader: InstructionRows, tmp_path: Path
) -> None:
    red, blue = png("red"), png("blue")
    (tmp_path / "red.png").write_bytes(red)
    rows = read(
        reader,
        {"image": red},
        {"image": blue},
        {"image": red, "image2": blue},
        {"image": red, "image2": red},
        {"image": red, "image2": blue, "image3": red},
        {"image": red, "image2": red, "image3": blue},
        {"image": red, "instruction": "make it green"},
        {"image": red, "width": 128},
    )
    assert len({key(row) for row in rows}) == len(rows)
    [held, address] = read(reader, {"image": red}), read(reader, {"image": "red.png"})
    assert key(held[0]) == key(address[0]) == key(rows[0])
    [second, third] = read(reader, {"image": red, "image2": blue}, {"image": red, "image3": blue})
    assert key(second) == key(third)  # the model sees the same


def test_a_row_may_want_variants_of_one_reading(
    reader: InstructionRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "red.png").write_bytes(png())
    asked: list[str | bytes] = []
    real = reader.originals.sources.read
    monkeypatch.setattr(reader.originals.sources, "read", lambda image: (asked.append(image), real(image))[1])

    rows = read(reader, {"image": "red.png", "variants": 3}, {"image": "red.png", "variants": 65})

    assert asked == ["red.png"]
    assert [row.id for row in rows] == ["r0.v1", "r0.v2", "r0.v3", "r1"]
    assert len({row.seed for row in rows if isinstance(row, Row)}) == 3


def test_a_template_builds_instructions_from_columns(tmp_path: Path, decoder: Decoder, store: Store) -> None:
    reader = reader_of(tmp_path, decoder, store, instruction_template="put the {title} on {surface}")
    rows = read(
        reader,
        {"image": png(), "instruction": None, "title": "mug", "surface": "marble"},
        {"image": png(), "instruction": "my own", "title": "mug", "surface": "marble"},
        {"image": png(), "instruction": " ", "title": "mug", "surface": None},
    )
    assert [row.prompt for row in rows[:2]] == ["put the mug on marble", "my own"]
    assert said(rows[2]) == "The instruction template reads the column 'surface', which is empty in this row."


def test_what_is_wrong_with_a_row_is_said_in_a_sentence_and_is_no_other_rows_trouble(
    reader: InstructionRows,
) -> None:
    good = png()
    rows = read(
        reader,
        {"image": good, "instruction": ""},
        {"image": good, "instruction": "a" * 100_000},
        {"image": good, "instruction": "like <|image_pad|>"},
        {"image": None},
        {"image": b"no picture"},
        {"image": good, "image2": "gone.png"},
        {"image": good, "image3": good[:40]},
        {"image": png(width=2, height=60)},
        {"image": good, "image2": png(width=2, height=60)},
        {"image": good, "width": 33},
        {"image": png(width=500, height=100), "height": 1024},
        {"image": good, "image2": good, "image3": good},
        {"image": png(width=1, height=1)},
    )
    assert [said(row) for row in rows[:11]] == [
        "The instruction is empty: write one, or name a ready-made one in the column instruction_name.",
        "The instruction has 100000 characters; at most 20000 are read.",
        "The instruction holds <|image_pad|>, which is no word but a sign for the model; leave it out.",
        "The image is empty; it should be a picture's bytes or its address.",
        said(rows[4]),
        said(rows[5]),
        said(rows[6]),
        "A picture of 2 × 60 would be looked at as 32 × 1408, in another aspect; add background to its long sides, "
        "or crop it.",
        f"image2: {said(rows[7])}",
        "The width is 33; it should be a multiple of 32 between 64 and 4096.",
        "A picture of 500 × 100 would come out at 5120 × 1024, and sides lie between 64 and 4096: give width and "
        "height, or another picture.",
    ]
    assert "none of the formats" in said(rows[4])
    assert said(rows[5]).startswith("image2: ")
    assert said(rows[6]).startswith("image3: ")
    assert [row.column for row in rows[7:9] if isinstance(row, BadRow)] == ["image", "image2"]
    assert [size(row) for row in rows[11:]] == [(256, 256), (256, 256)]


def test_a_mask_is_a_picture_of_its_pictures_own_size_in_every_form(reader: InstructionRows, tmp_path: Path) -> None:
    mask, named = png("white"), {"instruction_name": "scene", "scene": "oak"}
    (tmp_path / "mask.png").write_bytes(mask)
    held, address = read(reader, {"image": png(), "mask": mask, **named}, {"image": png(), "mask": b"", **named})
    [other] = read(reader, {"image": png(), "mask": "mask.png", **named})
    [both] = read(reader, {"image": png(), "mask": {"bytes": None, "path": "mask.png"}, **named})
    assert [row.mask for row in (held, address, other, both) if isinstance(row, Row)] == [
        PlannedPicture(KEPT + hashlib.sha256(mask).hexdigest(), hashlib.sha256(mask).hexdigest()),
        None,
        PlannedPicture("mask.png", hashlib.sha256(mask).hexdigest()),
        PlannedPicture("mask.png", hashlib.sha256(mask).hexdigest()),
    ]
    Image.new("1", (16_000, 4_100)).save(tmp_path / "bomb.png")
    bomb = (tmp_path / "bomb.png").read_bytes()
    bad = read(
        reader,
        {"image": png(), "mask": png(width=64)},
        {"image": png(), "mask": "gone.png"},
        {"image": png(), "mask": mask[:40]},
        {"image": png(), "mask": bomb},
    )
    assert said(bad[0]) == ("The mask is 64 × 96 pixels, and its picture 96 × 96: give one of the picture's own size.")
    assert [said(row).startswith("mask: ") for row in bad[1:4]] == [True] * 3
    [free] = read(reader, {"image": png(), "mask": mask})
    assert isinstance(free, Row)


def test_a_mask_is_part_of_what_it_decides_alone(reader: InstructionRows) -> None:
    whole, named = {"image": png(), "instruction": "a"}, {"instruction_name": "scene", "scene": "oak"}
    masks = [{}, {"mask": png("white")}, {"mask": png("grey")}]
    free = read(reader, *({**whole, **mask} for mask in masks))
    judged = read(reader, *({**whole, **named, **mask} for mask in masks))
    kept = read(reader, *({**whole, **mask, "keep": "product"} for mask in masks))
    keys = [{key(row) for row in rows} for rows in (free, judged, kept)]
    assert list(map(len, keys)) == [1, 1, 3]
    checks = [{row.checks_digest for row in rows if isinstance(row, Row)} for rows in (free, judged, kept)]
    assert list(map(len, checks)) == [1, 3, 1]
    assert [row.mask for row in free if isinstance(row, Row)] == [None] * 3


def test_how_products_are_found_is_part_of_what_is_decided_by_a_row_without_a_mask(
    tmp_path: Path, decoder: Decoder, store: Store
) -> None:
    kept = {"image": png(), "keep": "product"}
    judged = {"image": png(), "instruction_name": "scene", "scene": "a lawn"}
    asked = [kept, judged, {**kept, "mask": png("white")}, {"image": png()}]
    alone, found, otherwise = (
        read(reader_of(tmp_path, decoder, store, finding=finding), *asked) for finding in (None, "one", "other")
    )
    assert [len({key(row) for row in rows}) for rows in zip(alone, found, otherwise, strict=True)] == [3, 1, 1, 1]
    checks = [
        {row.checks_digest for row in rows if isinstance(row, Row)}
        for rows in zip(alone, found, otherwise, strict=True)
    ]
    assert [len(them) for them in checks] == [1, 3, 1, 1]


def test_a_row_keeps_its_product_where_it_or_its_job_says_so_and_its_instruction_allows_it(
    reader: InstructionRows, tmp_path: Path, decoder: Decoder, store: Store
) -> None:
    rows = [
        {"image": png()},
        {"image": png(), "keep": "product"},
        {"image": png(), "keep": " None "},
        {"image": png(), "keep": "all"},
        {"image": png(), "instruction_name": "white-background"},
        {"image": png(), "instruction_name": "recolour", "colour": "red"},
        {"image": png(), "instruction_name": "recolour", "colour": "red", "keep": "none"},
    ]
    refused = (
        'keep = "product" can\'t be used with the instruction recolour, which changes the product: its file says '
        "keep_product = false."
    )
    keeping = reader_of(tmp_path, decoder, store, keep="product")
    told = [
        [one.keeps_product if isinstance(one, Row) else said(one) for one in read(by, *rows)]
        for by in (reader, keeping)
    ]
    wrong = "The keep is 'all'; it should be product or none."
    assert told == [
        [False, True, False, wrong, False, False, False],
        [True, True, False, wrong, True, refused, False],
    ]
    with pytest.raises(RequestError, match="can't be used with the instruction relight"):
        reader_of(tmp_path, decoder, store, keep="product", instruction_name="relight")


def test_a_checkpoint_that_looks_at_one_picture_takes_no_references(
    tmp_path: Path, decoder: Decoder, store: Store
) -> None:
    first, second = read(
        reader_of(tmp_path, decoder, store, most=1), {"image": png()}, {"image": png(), "image2": png()}
    )
    assert isinstance(first, Row)
    assert said(second).startswith("The row has 2 pictures, and the checkpoint looks at 1: leave image2 empty")


def test_rows_that_are_surely_right_are_those_that_a_run_takes(tmp_path: Path, decoder: Decoder, store: Store) -> None:
    reader = reader_of(tmp_path, decoder, store, instruction_template="put the {title} on wood")
    rows = batch_of(
        {"title": "mug"},
        {"title": "mug", "instruction": "<|im_end|>"},
        {"title": "<|im_end|>", "instruction": None},
        {"title": None, "instruction": None},
        {"title": None, "width": 33},
        {"title": None, "steps": 1},
        {"title": "lamp", "instruction": None, "variants": 65},
        {"title": "lamp", "instruction": None},
        {"title": "lamp", "instruction_name": "sparkle"},
        {"title": "lamp", "instruction_name": "relight"},
        {"title": "lamp", "keep": "all"},
    )
    right = []
    for values in known_values(rows, EDITS):
        title = rows.column("title")[int(values["id"][1:])].as_py()
        try:
            asked_of(values, {"title": title}, reader.defaults)
            right.append(True)
        except RowError:
            right.append(False)
    assert sound_instructions(rows, reader.defaults).to_pylist() == right
    assert right == [True, False, False, False, False, False, False, True, False, True, False]


def test_all_pictures_of_a_row_are_planned_kept_and_read_back(
    reader: InstructionRows, store: Store, tmp_path: Path
) -> None:
    red, blue = png("red"), png("blue")
    mask = png("white")
    table = {"id": ["one", "two"], "image": [red, blue], "image2": [blue, None], "instruction": ["a", "b"]}
    table |= {"mask": [None, mask], "keep": [None, "product"]}
    pq.write_table(pa.table(table), tmp_path / "manifest.parquet")
    address = str(tmp_path / "manifest.parquet")
    manifest = open_manifest(address, fetch_manifest(address, tmp_path), EDITS)
    planner = Planner(
        rows=reader,
        maker=Maker("checkpoint", "float32", ("edit",)),
        policy_fingerprint=lambda _: "judges",
        known=lambda ids: [None] * len(ids),
        retry=frozenset(),
        shard_rows=8,
    )

    write_plan(planner, manifest, tmp_path / "plan.parquet")

    one, two = Plan(tmp_path / "plan.parquet").shard(0)
    [expected, kept] = read(reader, {"image": red, "image2": blue}, {"image": blue, "mask": mask, "keep": "product"})
    assert isinstance(expected, Row)
    assert isinstance(kept, Row)
    assert one.pictures == expected.pictures
    assert (len(one.pictures), len(two.pictures)) == (2, 1)
    assert (one.mask, one.keep_digest, two.mask, two.keep_digest) == (None, "", kept.mask, kept.keep_digest)
    assert one.references[0].image == KEPT + one.references[0].source
    sources = sources_in(Plan(tmp_path / "plan.parquet").table())
    assert sources == {picture.source for row in (one, two) for picture in row.originals}
    assert len(sources) == 3
    assert all(store.read(kept_path(source)) for source in sources)
    assert replace(one, references=()) != one


def test_a_manifest_of_edits_needs_pictures_and_instructions_or_a_template(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["one"], "image": ["a.png"]}), tmp_path / "manifest.parquet")
    address = str(tmp_path / "manifest.parquet")
    fetched = fetch_manifest(address, tmp_path)
    with pytest.raises(ManifestError, match="no column 'instruction', and the job has no instruction_template"):
        open_manifest(address, fetched, EDITS)
    with pytest.raises(ManifestError, match="The job builds its instructions from the column 'title'"):
        open_manifest(address, fetched, EDITS, template_columns=("title",))
