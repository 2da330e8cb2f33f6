"""Whatever Parquet files a folder holds, there is a plan and a catalogue of them, or a sentence."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.catalogue.catalogue import check_carried, outcomes_in, read_catalogue
from tasks.errors import RequestError
from tasks.kinds.generate.prompt_rows import PromptRows
from tasks.ledger.plan import Plan, write_plan
from tasks.manifests.fetch import fetch_manifest
from tasks.manifests.manifest import open_manifest
from tasks.outcome import Outcome, Status
from tasks.review.decide import waiting
from tasks.rows.text_template import TextTemplate
from tasks.stores.opening import open_store
from tests.tasks.catalogues import commit
from tests.tasks.conftest import defaults, planner
from tests.tasks.manifests.arrow_values import arrays, types

TEXTS = [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.dictionary(pa.int8(), pa.string())]
NUMBERS = [pa.int8(), pa.int64(), pa.uint64(), pa.float16(), pa.float64(), pa.decimal128(10, 2), pa.null(), *TEXTS]
KNOWN = {
    **dict.fromkeys(["seed", "width", "guidance", "variants"], NUMBERS),
    **dict.fromkeys(["profile", "negative_prompt"], TEXTS),
}
IDS = [pa.int64(), pa.string(), pa.float64(), pa.decimal128(21, 0), pa.string_view()]
LAYOUTS = [
    ["1.parquet", "2.PARQUET"],
    ["k=1/part-0", "k=x/0.parq", "_temporary/0.parquet"],
    ["00000_0", ".hidden.parquet", "notes.csv"],
    ["3.parquet.gz"],
    ["_temporary/0.parquet"],
]


def seldom(draw: st.DrawFn) -> bool:
    return draw(st.integers(0, 19)) == 0


@st.composite
def columns(draw: st.DrawFn) -> dict[str, pa.DataType]:
    """The columns of a manifest; most that are known can be read."""
    names = st.text(st.characters(exclude_categories=["Cs"]), max_size=3) | st.sampled_from(["c", "a.b", "Seed"])
    carried = draw(st.lists(names, max_size=3, unique=True))
    known = draw(st.lists(st.sampled_from(sorted(KNOWN)), max_size=3, unique=True))
    kinds = {name: draw(types()) for name in carried}
    for name in [*known, "prompt"]:
        kinds[name] = draw(types() if seldom(draw) else st.sampled_from(KNOWN.get(name, TEXTS)))
    return kinds


@st.composite
def tables(draw: st.DrawFn, kinds: dict[str, pa.DataType], first: int) -> pa.Table:
    """A file's rows; now and then a column is of another type than the others' is."""
    rows = draw(st.integers(0, 3))
    made = {}
    for name, kind in kinds.items():
        others = types() if name not in KNOWN else st.sampled_from(KNOWN[name])
        made[name] = draw(arrays(draw(others) if seldom(draw) else kind, rows))
    ids = pa.array(range(first, first + rows))
    kind = draw(st.sampled_from(IDS))
    made["id"] = ids.cast(pa.string()).cast(kind) if kind in (pa.string(), pa.string_view()) else ids.cast(kind)
    return pa.table(made)


def write(files: dict[str, pa.Table], folder: Path) -> None:
    """Write a manifest's files, in place of another's."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, table in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            pq.write_table(table, folder / name)
        except pa.ArrowException:  # Parquet doesn't hold this type
            (folder / name).write_bytes(b"")


def committed(folder: Path, template: str | None) -> None:
    """Plan a folder's manifest, and put its rows into the catalogue beside it."""
    store = open_store(str(folder / "store"))
    rows = PromptRows(defaults(template=template))
    columns = TextTemplate(template, "prompt").columns if template else None
    manifest = open_manifest("m", fetch_manifest(str(folder / "m"), folder), template_columns=columns)
    before = read_catalogue(store)
    check_carried(before, manifest)
    plan_counts = write_plan(planner(rows=rows, known=None), manifest, folder / "plan")
    plan = Plan(folder / "plan")
    assert plan.table().num_rows == plan_counts.rows
    ended = [
        Outcome(
            *(row_id, Status.BLOCKED, "", 1, "a mug", "m", "none", "judges", "", 1),
            reason="review",
            message="Look.",
        )
        for row_id in plan.table().column("id").to_pylist()
    ]
    commit(store, plan.table(), ended)
    after = read_catalogue(store)
    assert set(manifest.carried.names) <= set(after.table.schema.names)
    assert len(outcomes_in(after.table)) == after.table.num_rows
    waiting(store.uri)


@settings(max_examples=50)
@given(st.data())
def test_any_folder_of_parquet_files_is_planned_and_catalogued_or_refused_in_a_sentence(data: st.DataObject) -> None:
    kinds = data.draw(columns())
    name = next(iter(kinds))
    plain = name and not any(mark in name for mark in "{}.[]!:")
    template = data.draw(st.sampled_from([None, "{" + name + "} on white"])) if plain else None
    names = data.draw(st.sampled_from(LAYOUTS))
    files = {name: data.draw(tables(kinds, 10 * number)) for number, name in enumerate(names)}
    nights = (files, {"1.parquet": data.draw(tables(kinds, 20))})
    folder = Path(tempfile.mkdtemp())
    try:
        for night in nights:
            write(night, folder / "m")
            with suppress(RequestError):
                committed(folder, template)
    finally:
        shutil.rmtree(folder)
