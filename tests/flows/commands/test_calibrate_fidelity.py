"""packshot calibrate --fidelity on drawn pairs."""

from __future__ import annotations

import io
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmarks.edit_gate import MadePair, read_pairs, write_pairs
from models.miniature.world.world import Scene, draw_alike
from safety.fidelity.instruction import Instruction
from tests.flows.conftest import Ended

KINDS = ("mug", "teapot", "sneaker", "vase", "clock", "bottle")


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def row(number: int, label: str) -> dict[str, Any]:
    """A product on white, and the same on a table; or another one there, or the picture as it was."""
    before = Scene(KINDS[number % 6], "red", "plain", "plain", "white", "medium", "centre", "none", 128, 128)
    kind = KINDS[(number + 1) % 6] if label == "changed" else before.kind
    source, result = draw_alike([before, replace(before, kind=kind, background="table")], Random(number))
    made = source.picture if label == "not_changed" else result.picture
    noise = np.random.default_rng(number).normal(0, 2, made.shape)
    noisy = np.clip(made + noise + 0.5, 0, 255).astype(np.uint8)
    mask = png(source.product[..., 3])
    return {"source": png(source.picture), "result": png(noisy), "mask": mask, "label": label}


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    labels = ["kept"] * 32 + ["changed"] * 16 + ["not_changed"] * 16
    return [row(number, label) for number, label in enumerate(labels)]


def test_labelled_pairs_give_an_instruction_with_its_comments_and_a_page(
    packshot: Callable[..., Ended], tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    words = ("calibrate", "pairs.parquet", "--fidelity", "scene", "--out", "mine.toml", "--false-positives", "0.25")
    ended = packshot(*words, "--device", "cpu")
    assert ended.code == 0, ended.out
    assert "wrong pairs found" in ended.out
    assert "How far the product was moved keeps its limits" in ended.out
    text = (tmp_path / "mine.toml").read_text("utf-8")
    assert text.startswith("# Calibrated by packshot by pairs.parquet, at 25 % of right pairs refused")
    assert "# another scene differs by 5 and more" in text
    mine, scene = Instruction.load(str(tmp_path / "mine.toml")), Instruction.load("scene")
    assert mine.checks["shift"] == scene.checks["shift"]
    assert mine.checks["beside"].least != scene.checks["beside"].least
    assert tomllib.loads(text)["en"] == scene.en
    page = (tmp_path / "mine.html").read_text("utf-8")
    assert "mine.toml, at 25 % of right pairs refused" in page
    assert "of held-out" in page or "held out" in page


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"label": "fine"}, "Row 0 of the pairs pairs.parquet is labelled 'fine'"),
        ({"source": None}, "Row 0 of the pairs pairs.parquet has no source"),
        ({"result": b"no picture"}, "The result in row 0 can't be used"),
        ({"mask": png(np.zeros((128, 128), np.uint8))}, "can't be compared. The mask shows no product at all"),
    ],
)
def test_a_row_that_cant_be_used_is_named(
    packshot: Callable[..., Ended], tmp_path: Path, rows: list[dict[str, Any]], changes: dict[str, Any], words: str
) -> None:
    schema = pa.Table.from_pylist(rows[:1]).schema
    pq.write_table(pa.Table.from_pylist([rows[0] | changes], schema), tmp_path / "pairs.parquet")
    ended = packshot("calibrate", "pairs.parquet", "--fidelity", "scene", "--out", "mine.toml", "--device", "cpu")
    assert ended.code == 2
    assert words in " ".join((ended.out + ended.err).split())


@pytest.mark.parametrize(
    ("columns", "fidelity", "words"),
    [
        (("source", "result"), "scene", "The pairs pairs.csv have no column label; they have source, result"),
        (("source", "result", "label"), "recolour", "have no column colour"),
        (("source", "result", "label"), "blur", "There is no instruction blur; shipped are"),
    ],
)
def test_a_file_or_an_instruction_that_cant_be_used_is_named(
    packshot: Callable[..., Ended], tmp_path: Path, columns: tuple[str, ...], fidelity: str, words: str
) -> None:
    (tmp_path / "pairs.csv").write_text(",".join(columns) + "\n" + ",".join("x" for _ in columns) + "\n")
    ended = packshot("calibrate", "pairs.csv", "--fidelity", fidelity, "--out", "mine.toml", "--device", "cpu")
    assert ended.code == 2
    assert words in " ".join((ended.out + ended.err).split())


@pytest.mark.parametrize("wrong", [frozenset(), frozenset({"product_changed"}), frozenset({"moved", "not_changed"})])
def test_pairs_that_the_benchmark_wrote_are_read_again(tmp_path: Path, wrong: frozenset[str]) -> None:
    source, result = np.random.default_rng(1).integers(0, 256, (2, 16, 24, 3), np.uint8)
    pair = MadePair(source, result, source[..., 0], wrong, "shape" if wrong else None, "teal", "make it teal")
    write_pairs(tmp_path, "recolour", [pair])
    (again,) = read_pairs(tmp_path, "recolour")
    for name, held in vars(pair).items():
        assert np.array_equal(getattr(again, name), held), name
