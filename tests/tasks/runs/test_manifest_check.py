"""A manifest is checked without a model or a picture, and what is said of it is what a run would say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.catalogue.catalogue import State, content_of
from tasks.errors import RequestError
from tasks.kinds.decompose.picture_check import sound_pictures
from tasks.kinds.decompose.picture_rows import LayerDefaults, asked_of
from tasks.kinds.generate.prompt_check import sound_prompts
from tasks.kinds.generate.prompt_rows import rows_of
from tasks.manifests.fetch import fetch_manifest
from tasks.manifests.known_columns import PICTURES, PROMPTS
from tasks.manifests.manifest import known_values, open_manifest
from tasks.manifests.row import BadRow
from tasks.outcome import CATALOGUE_SCHEMA
from tasks.rows.text_template import extra_values
from tasks.runs.manifest_check import ManifestChecked, check_manifest
from tasks.stores.opening import open_store
from tests.models.conftest import save_edit
from tests.tasks.conftest import Write, defaults

TEXTS = st.sampled_from([None, "", " ", "\u3000", "\x1f", "!", "a mug", "杯子", "x" * 20_001, "x" * 19_990])
IDS = st.sampled_from(["a", "a b", "a\n", "", "x" * 129, "ö", "a.v2", "-"])
NUMBERS = st.sampled_from([None, 0, 1, 2, 16, 17, 63, 64, 80, 500, 501, 2048, 2049, 4096, 4112, -16, 2**63 - 1])
GUIDANCE = st.sampled_from([None, 0.0, 50.0, 50.1, -0.1, math.inf])
LAYERED = LayerDefaults(
    layers=4,
    resolution=640,
    steps=8,
    guidance=2.0,
    negative_prompt=" ",
    profile="none",
    seed=0,
    fewest_steps=2,
    size_multiple=16,
)


def checked(file: Path, **flags: Any) -> ManifestChecked:
    return check_manifest(str(file), None, **flags)


def failing(found: ManifestChecked) -> list[tuple[str, int, list[str]]]:
    return [(one.example, one.rows, one.ids) for one in found.failing]


def batch_of(folder: Path, columns: dict[str, pa.Array], of: Any, template: tuple[str, ...] | None) -> pa.RecordBatch:
    pq.write_table(pa.table(columns), folder / "m.parquet")
    fetched = fetch_manifest(str(folder / "m.parquet"), folder)
    (batch,) = open_manifest("m", fetched, of, template_columns=template).batches()
    return batch


@given(st.data(), st.sampled_from([None, "{title}, on white", "{title}{width}"]))
def test_rows_that_are_called_sound_are_read_without_a_complaint(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, template: str | None
) -> None:
    rows = data.draw(st.lists(IDS, min_size=1, unique=True))

    def column(values: st.SearchStrategy[Any], kind: pa.DataType) -> pa.Array:
        return pa.array(data.draw(st.lists(values, min_size=len(rows), max_size=len(rows))), kind)

    numbers = {
        name: column(NUMBERS, pa.int64())
        for name in ("seed", "width", "height", "steps", "variants", "layers", "resolution")
    }
    texts = {name: column(TEXTS, pa.string()) for name in ("prompt", "title", "caption")}
    columns = {"id": pa.array(rows), **numbers, **texts, "guidance": column(GUIDANCE, pa.float64())}
    folder = tmp_path_factory.getbasetemp()

    asked = defaults(template=template)
    read = asked.template.columns if asked.template else None
    prompts = {name: array for name, array in columns.items() if name not in ("caption", "layers")}
    batch = batch_of(folder, prompts, PROMPTS, read)
    extra = extra_values(batch, asked.template.columns if asked.template else ())
    for index, (values, sound) in enumerate(
        zip(known_values(batch, PROMPTS), sound_prompts(batch, asked).to_pylist(), strict=True)
    ):
        first = next(rows_of(values, extra[index] if extra else {}, asked))
        assert not (sound and isinstance(first, BadRow)), first

    pictures = {name: columns[name] for name in ("id", "caption", "layers", "resolution", "steps", "seed", "guidance")}
    batch = batch_of(folder, {**pictures, "image": pa.array(["a.png"] * len(rows))}, PICTURES, None)
    for values, sound in zip(known_values(batch, PICTURES), sound_pictures(batch, LAYERED).to_pylist(), strict=True):
        if sound:
            asked_of(values, LAYERED)


def test_ordinary_rows_are_sound(write_manifest: Write, tmp_path: Path) -> None:
    file = write_manifest([{"id": "a", "prompt": "a mug", "width": 64, "seed": 0, "guidance": 2}])
    (batch,) = open_manifest("m", fetch_manifest(str(file), tmp_path)).batches()
    assert pc.all(sound_prompts(batch, defaults())).as_py()


def test_rows_that_would_fail_are_counted_by_what_is_said_of_them(write_manifest: Write) -> None:
    rows = [
        {"id": "good", "prompt": "a mug", "width": 64.0, "profile": ""},
        {"id": "narrow", "prompt": "a mug", "width": 17.0, "profile": None},
        {"id": "wide", "prompt": "a mug", "width": 9999.0, "profile": None},
        {"id": "half", "prompt": "a mug", "width": 64.5, "profile": None},
        {"id": "moon", "prompt": "a mug", "width": None, "profile": "moon"},
        {"id": "bad id", "prompt": None, "width": None, "profile": "moon"},
        {"id": "empty", "prompt": " ", "width": None, "profile": None},
    ]
    found = checked(write_manifest(rows))
    assert (found.rows, found.would_fail, found.kind, found.carried) == (7, 6, "generate", ())
    said = {tuple(ids): (rows, example[:40]) for example, rows, ids in failing(found)}
    assert said == {
        ("narrow", "wide"): (2, "The width is 17; it should be a multiple"),
        ("half",): (1, "Width is 64.5; it should be a whole numb"),
        ("moon",): (1, "There is no profile moon; shipped are am"),
        ("bad id",): (1, "The id should be 1 to 128 letters of A t"),
        ("empty",): (1, "The prompt is empty."),
    }


def test_rows_are_counted_by_column_and_profile_whatever_stands_in_the_sentence(write_manifest: Write) -> None:
    rows = [
        {"id": "a", "title": "mug", "color": None, "profile": None},
        {"id": "b", "title": None, "color": "red", "profile": None},
        {"id": "c", "title": " ", "color": "red", "profile": None},
        {"id": "d", "title": "mug", "color": "red", "profile": "moon1"},
        {"id": "e", "title": "mug", "color": "red", "profile": "moon2"},
        {"id": "f'g", "title": "mug", "color": "red", "profile": None},
        {"id": 'h"i', "title": "mug", "color": "red", "profile": None},
        {"id": "j" * 129, "title": "mug", "color": "red", "profile": None},
    ]
    found = checked(write_manifest(rows), prompt_template="{color} {title}")
    assert sorted(ids for _, _, ids in failing(found)) == [["a"], ["b", "c"], ["d"], ["e"], ["f'g", 'h"i', "j" * 129]]


def test_numbers_that_came_as_text_are_read_and_what_is_none_fails_its_row_alone(write_manifest: Write) -> None:
    widths = ["1024", "12.0", "wide", "64.5", "", None]
    rows = [{"id": str(n), "prompt": "a mug", "width": width, "guidance": "2.5"} for n, width in enumerate(widths)]
    found = checked(write_manifest(rows))
    assert sorted(failing(found)) == [
        ("The width is 12; it should be a multiple of 32 between 64 and 4096.", 1, ["1"]),
        ("Width is 'wide'; it should be a whole number.", 2, ["2", "3"]),
    ]


def test_a_template_fills_prompts_in_a_check(write_manifest: Write) -> None:
    rows = [{"id": "a", "title": "mug"}, {"id": "b", "title": None}]
    found = checked(write_manifest(rows), prompt_template="{title}, on white")
    assert failing(found) == [("The prompt template reads the column 'title', which is empty in this row.", 1, ["b"])]


def test_a_manifest_of_pictures_is_known_by_its_columns(write_manifest: Write) -> None:
    rows = [{"id": "a", "image": "a.png", "layers": 99}, {"id": "b", "image": "", "layers": None}]
    found = checked(write_manifest(rows))
    assert found.kind == "decompose"
    assert [ids for _, _, ids in failing(found)] == [["b"], ["a"]]
    held = [{"id": "a", "image": {"bytes": b"x", "path": None}, "layers": 99}]
    assert failing(checked(write_manifest(held))) == [("Layers is 99; it should lie between 1 and 16.", 1, ["a"])]


def test_a_manifest_is_for_the_job_that_has_the_fields_which_are_given(tmp_path: Path, write_manifest: Write) -> None:
    manifest = write_manifest([{"id": "a", "image": "a.png", "title": "mug"}, {"id": "b", "image": "b.png"}])
    found = checked(manifest, instruction_template="put the {title} on oak", model=str(save_edit(tmp_path / "edits")))
    assert found.kind == "edit"
    assert [ids for _, _, ids in failing(found)] == [["b"]]
    assert checked(manifest, steps=9).kind == "decompose"


def test_what_is_refused_as_a_whole_is_refused_by_a_check(write_manifest: Write) -> None:
    shared = [{"id": "a", "prompt": "x", "variants": 2}, {"id": "a.v2", "prompt": "x", "variants": 1}]
    with pytest.raises(RequestError, match=r"would get the id 'a\.v2'"):
        checked(write_manifest(shared))
    good = write_manifest([{**row, "variants": 1} for row in shared])
    assert checked(good).would_fail == 0
    with pytest.raises(RequestError, match="There is no profile moon"):
        checked(good, profile="moon")
    with pytest.raises(RequestError, match="demands AIGC metadata"):
        checked(good, profile="china")


def test_carried_columns_are_checked_against_a_stores_catalogue(write_manifest: Write, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    table = CATALOGUE_SCHEMA.empty_table().append_column("price", pa.array([], pa.string()))
    store.replace("catalog.parquet", content_of(table, State()), expect=None)
    file = write_manifest([{"id": "a", "prompt": "x", "price": 7}])
    assert checked(file).would_fail == 0
    with pytest.raises(RequestError, match=r"'price' of .* holds int64, but string in the store's catalogue"):
        checked(file, store=store.uri)
