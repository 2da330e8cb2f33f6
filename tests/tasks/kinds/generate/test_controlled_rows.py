"""A row that is drawn after a control picture is known by what that picture holds, and by what draws after it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from models.checkpoints.checkpoint import Checkpoint
from tasks.kinds.generate.controlled_rows import ControlledRows
from tasks.kinds.generate.picture_spec import Control, PictureSpec
from tasks.kinds.generate.prompt_rows import PromptRows
from tasks.lane.original_reader import OriginalReader, resized_to
from tasks.lane.outcome_recorder import OutcomeRecorder
from tasks.lane.stages import RowOriginals
from tasks.manifests.key import Maker
from tasks.manifests.row import BadRow, Row
from tasks.results.encoding import Encoding
from tasks.results.finishing import Finishing
from tasks.rows.originals import KEPT, Originals, kept_path
from tasks.sources.decoder import Decoder
from tasks.sources.intake import Intake
from tasks.stores.store import Store
from tests.tasks.conftest import defaults

EDGES = Checkpoint("edges", Path("edges"), "e" * 64)
DEPTH = Checkpoint("depth", Path("depth"), "d" * 64)


def png(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def reader(tmp_path: Path, decoder: Decoder, store: Store) -> ControlledRows:
    sources = Intake(str(tmp_path), (), 1 << 20, 1 << 20).sources()
    return ControlledRows(PromptRows(defaults()), Originals(sources, decoder, store))


def read(reader: ControlledRows, *rows: dict[str, Any]) -> list[Row | BadRow]:
    whole = [{"id": f"r{number}", "prompt": "a mug", "variants": None, **row} for number, row in enumerate(rows)]
    return [row for _, row in reader.read(pa.RecordBatch.from_pylist(whole))]


def key(row: Row | BadRow, controlnet: Checkpoint | None = EDGES, scale: float = 1.0) -> str:
    assert isinstance(row, Row), row
    control = Control(controlnet, scale, Intake("", (), 1, 1)) if controlnet else None
    return Maker("checkpoint", "float32", PictureSpec(Finishing(Encoding("png", 92)), control).form).key(row, 7)


def test_the_key_follows_the_content_of_the_control_picture_wherever_it_lies(
    reader: ControlledRows, tmp_path: Path
) -> None:
    (tmp_path / "red.png").write_bytes(png("red"))
    (tmp_path / "blue.png").write_bytes(png("blue"))

    held, pair = read(reader, {"control": png("red")})[0], {"bytes": None, "path": "red.png"}
    red, blue = read(reader, {"control": "red.png"}, {"control": "blue.png"})

    assert key(held) == key(red) == key(read(reader, {"control": pair})[0])
    assert key(blue) != key(red)


def test_the_key_follows_the_controlnet_and_its_scale(reader: ControlledRows) -> None:
    [row] = read(reader, {"control": png("red")})
    keys = [key(row), key(row, DEPTH), key(row, scale=0.5), key(row, None)]
    assert len(set(keys)) == 4
    assert key(row, Checkpoint("moved", Path("elsewhere"), EDGES.revision)) == keys[0]
    assert Control(EDGES, 1.0, Intake("a", ("b.com",), 1, 1)).form == Control(EDGES, 1.0, Intake("", (), 9, 9)).form


def test_rows_without_a_controlnet_keep_the_keys_that_they_always_had() -> None:
    row = Row("a", "a mug", " ", 7, 256, 256, 8, 2.0, "none")
    keys = [
        Maker("checkpoint", "float32", PictureSpec(Finishing(encoding)).form).key(row, 7)
        for encoding in (Encoding("png", 92), Encoding("jpeg", 90))
    ]
    assert keys == [
        "74f80aa7a62e974ee7f7441445a3b1947cf4b1b2d636fc65c3a9c317b623dcd5",
        "48787df1ed465e062e95340d8d86fc416168680469a3f26e4c9601fc378ea9b6",
    ]


def test_a_control_picture_that_will_not_do_fails_its_row_alone(reader: ControlledRows) -> None:
    rows = read(
        reader,
        *({"control": control} for control in (None, b"", b"no picture", png("red")[:20], png("red"))),
        {"control": png("red"), "prompt": " "},
    )
    problems = [row.problem if isinstance(row, BadRow) else None for row in rows]
    assert problems[:2] == ["The control is empty; it should be a picture's bytes or its address."] * 2
    assert [row.reason for row in rows if isinstance(row, BadRow)] == [
        "bad_value",
        "bad_value",
        "source_unsupported",
        "source_corrupt",
        "bad_value",
    ]
    assert problems[4] is None
    assert problems[5] == "The prompt is empty."


def test_a_control_picture_is_read_once_for_all_variants_and_not_for_a_bad_row(
    reader: ControlledRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "red.png").write_bytes(png("red"))
    asked: list[str | bytes] = []
    real = reader.originals.sources.read
    monkeypatch.setattr(reader.originals.sources, "read", lambda image: (asked.append(image), real(image))[1])

    rows = read(reader, {"control": "red.png", "variants": 3}, {"control": "blue.png", "variants": 65})

    assert asked == ["red.png"]
    assert [row.id for row in rows] == ["r0.v1", "r0.v2", "r0.v3", "r1"]
    assert len({key(row) for row in rows[:3]}) == 1  # the seed is the caller's
    assert isinstance(rows[3], BadRow)


def test_a_control_picture_is_laid_over_white_and_then_resized(
    reader: ControlledRows, store: Store, tmp_path: Path
) -> None:
    lines = np.zeros((40, 60, 4), np.uint8)
    lines[10:12], lines[:, 30] = (0, 0, 0, 255), (200, 0, 0, 128)
    Image.fromarray(lines).save(tmp_path / "lines.png")
    [row] = read(reader, {"control": "lines.png"})
    assert isinstance(row, Row)
    originals = reader.originals
    lane = OriginalReader(
        originals.sources, originals.decoder, store, OutcomeRecorder("run", "model", "prompt"), keeps_alpha=False
    )

    found = lane.read(replace(row, key="key", policy_fingerprint="judges", attempt=1))

    assert isinstance(found, RowOriginals)
    flat = Image.new("RGBA", (60, 40), "white")
    flat.alpha_composite(Image.fromarray(lines))
    expected = VaeImageProcessor(vae_scale_factor=16).resize(flat.convert("RGB"), 256, 256)  # as stock has it
    (picture,) = found.pictures
    assert picture.shape == (256, 256, 3)
    assert np.abs(picture.astype(int) - np.asarray(expected)).max() <= 1


def test_a_picture_that_has_its_size_is_drawn_after_as_it_is() -> None:
    pixels = np.zeros((48, 64, 3), np.uint8)
    assert resized_to(pixels, (64, 48)) is pixels
    assert resized_to(pixels, (48, 64)).shape == (64, 48, 3)


def test_a_control_picture_that_the_manifest_holds_is_kept_for_rows_that_are_to_do(
    reader: ControlledRows, store: Store
) -> None:
    red, blue = read(reader, {"control": png("red"), "variants": 2}, {"control": png("blue")})[1:]
    assert isinstance(red, Row)
    assert isinstance(blue, Row)

    reader.keep(red)

    assert red.source is not None
    assert blue.source is not None
    assert red.image == KEPT + red.source
    found = store.read(kept_path(red.source))
    assert found is not None
    assert found[0] == png("red")
    assert not store.exists(kept_path(blue.source))
