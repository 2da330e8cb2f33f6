"""A manifest is refused as a whole before any work, in a sentence that says where."""

from __future__ import annotations

import math
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.kinds.generate.prompt_rows import PromptRows
from tasks.manifests.column_types import of_any_value
from tasks.manifests.fetch import fetch_manifest
from tasks.manifests.known_columns import CONTROLLED, PICTURES, PROBLEM, PROMPTS, Columns
from tasks.manifests.manifest import Manifest, open_manifest
from tasks.manifests.manifest_file import ManifestError
from tasks.manifests.row import BadRow
from tasks.stores.opening import open_store
from tests.tasks.conftest import Write, defaults

BAD_FILES = Path(__file__).parents[4] / "shared" / "data" / "parquet" / "bad_data"


def opened(file: Path, columns: Columns = PROMPTS) -> Manifest:
    return open_manifest(str(file), fetch_manifest(str(file), file.parent), columns, template_columns=None)


def test_rows_come_back_in_order_with_their_carried_columns(write_manifest: Write) -> None:
    file = write_manifest([{"id": f"r{n}", "prompt": "a mug", "price": n} for n in range(10_000)])

    manifest = opened(file)

    assert manifest.rows == 10_000
    assert manifest.carried.names == ["price"]
    assert [row for batch in manifest.batches() for row in batch.column("price").to_pylist()] == list(range(10_000))


def test_a_folder_of_files_is_one_manifest_in_order_of_name(write_manifest: Write, tmp_path: Path) -> None:
    write_manifest([{"id": "b", "prompt": "x"}], "folder/2.parquet")
    write_manifest([{"id": "a", "prompt": "x"}], "folder/1.parquet")

    manifest = opened(tmp_path / "folder")

    assert [row for batch in manifest.batches() for row in batch.column("id").to_pylist()] == ["a", "b"]


@pytest.mark.parametrize("address", ["/manifests/one.parquet", "/manifests"])
def test_a_manifest_comes_from_a_bucket(s3_store_uri: str, write_manifest: Write, tmp_path: Path, address: str) -> None:
    open_store(s3_store_uri).put_once("manifests/one.parquet", write_manifest([{"id": "a", "prompt": "x"}]))

    files = fetch_manifest(s3_store_uri + address, tmp_path)

    assert open_manifest("s3", files, template_columns=None).rows == 1


def test_a_manifest_that_a_bucket_lacks_is_said_to_be_missing(s3_store_uri: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"There is no manifest s3://.*/none\.parquet"):
        fetch_manifest(f"{s3_store_uri}/none.parquet", tmp_path)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"prompt": "x"}], "has no column 'id'; it has prompt"),
        ([{"id": "a", "title": "x"}], "has no column 'prompt', and the job has no prompt_template"),
        ([{"id": "a", " prompt": "x"}], "it has id, ' prompt'; rename ' prompt' to 'prompt'"),
        ([{"id": True, "prompt": "x"}], "holds bool in its column 'id', not text, whole numbers or UUIDs"),
        ([{"id": n, "prompt": "x"} for n in (1.0, 2.5)], "column 'id', row 1 .*: Id is 2.5; it should be a whole"),
        ([{"id": n, "prompt": "x"} for n in (b"a", b"\xff")], "column 'id', row 1 .*: The id isn't text in UTF-8"),
        ([{"id": "a", "prompt": "x", "seed": True}], "holds bool in its column 'seed', not whole numbers"),
        ([{"id": "a", "prompt": "x", "guidance": [2]}], "holds list.* in its column 'guidance', not numbers"),
        (
            [{"id": n, "prompt": "x", "width": w} for n, w in (("a", "wide"), ("b", ""), ("c", "1,024"))],
            "holds text in its column 'width', and in no row whole numbers. Width is 'wide'; it should be a whole",
        ),
        ([{"id": "a", "prompt": "x", "sha256": "2"}], "has a column 'sha256', which the catalogue uses itself"),
        ([{"id": "a", "prompt": "x", "changed_in": 2}], "has a column 'changed_in', which the catalogue uses itself"),
        ([{"id": "a", "prompt": "x", "judged_by": 2}], "has a column 'judged_by', which the catalogue uses itself"),
        ([{"id": "a", "prompt": "x"}, {"id": None, "prompt": "x"}], "without an id: row 1"),
        ([{"id": n, "prompt": "x"} for n in ("a", "b", "a", "c", "c")], "repeats the id 'a' in rows 0, 2 .*; 1 more"),
    ],
)
def test_a_refusal_names_the_column_and_the_rows(
    write_manifest: Write, rows: list[dict[str, object]], sentence: str
) -> None:
    with pytest.raises(ManifestError, match=sentence):
        opened(write_manifest(rows))


def test_control_pictures_and_a_controlnet_need_each_other(write_manifest: Write) -> None:
    without, beside = {"id": "a", "prompt": "x"}, {"id": "a", "prompt": "x", "control": b"picture"}
    with pytest.raises(ManifestError, match=r"has a column 'control', .* no controlnet .* \(--controlnet\)"):
        opened(write_manifest([beside]))
    with pytest.raises(ManifestError, match="has no column 'control', and the job's controlnet"):
        opened(write_manifest([without]), CONTROLLED)
    with pytest.raises(ManifestError, match="holds int64 in its column 'control', not text or bytes"):
        opened(write_manifest([{**without, "control": 7}]), CONTROLLED)
    with pytest.raises(ManifestError, match="has no column 'prompt', and the job has no prompt_template"):
        opened(write_manifest([{"id": "a", "control": "a.png"}]), CONTROLLED)
    assert opened(write_manifest([beside]), CONTROLLED).carried.names == []


def test_a_column_of_that_name_is_carried_to_layers(write_manifest: Write) -> None:
    assert opened(write_manifest([{"id": "a", "image": "a.png", "control": 7}]), PICTURES).carried.names == ["control"]


def test_an_empty_manifest_is_refused(write_manifest: Write) -> None:
    with pytest.raises(ManifestError, match="has no rows"):
        opened(write_manifest(pa.table({"id": pa.array([], pa.string()), "prompt": pa.array([], pa.string())})))


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.parquet").write_text("id,prompt\na,x\n")
    with pytest.raises(ManifestError, match="not a Parquet file"):
        opened(tmp_path / "manifest.parquet")


def test_files_of_different_schemas_are_refused(write_manifest: Write, tmp_path: Path) -> None:
    write_manifest([{"id": "a", "prompt": "x"}], "folder/1.parquet")
    write_manifest([{"id": "b", "prompt": "x", "price": 1}], "folder/2.parquet")
    with pytest.raises(ManifestError, match=r"its column 'price' is in 2\.parquet, and not in 1\.parquet"):
        opened(tmp_path / "folder")
    write_manifest([{"id": "a", "prompt": "x", "price": "dear"}], "folder/1.parquet")
    with pytest.raises(
        ManifestError, match=r"its column 'price' holds string in 1\.parquet, int64 in 2\.parquet, and no"
    ):
        opened(tmp_path / "folder")


def test_a_page_with_a_wrong_checksum_is_refused(write_manifest: Write) -> None:
    rows = [{"id": f"row-{n}", "prompt": f"a mug number {n}"} for n in range(100)]
    file = write_manifest(rows, write_page_checksum=True, use_dictionary=False, compression="none")
    content = bytearray(file.read_bytes())
    content[content.index(b"mug number 50")] ^= 1
    file.write_bytes(content)

    with pytest.raises(ManifestError, match="is damaged"):
        list(opened(file).batches())


@pytest.mark.skipif(not BAD_FILES.exists(), reason="the public test data is not beside the project")
@pytest.mark.parametrize("index", range(4))
def test_known_corrupt_files_are_refused_in_a_sentence(index: int) -> None:
    file = sorted(BAD_FILES.glob("*.parquet"))[index]
    with pytest.raises(ManifestError):
        list(opened(file).batches())


def test_the_digest_follows_the_content(write_manifest: Write) -> None:
    one = opened(write_manifest([{"id": "a", "prompt": "x"}], "1.parquet"))
    same = opened(write_manifest([{"id": "a", "prompt": "x"}], "2.parquet"))
    other = opened(write_manifest([{"id": "a", "prompt": "y"}], "3.parquet"))
    assert one.digest == same.digest != other.digest


def test_a_prompt_may_be_of_any_arrow_text_type(tmp_path: Path) -> None:
    table = pa.table({"id": pa.array(["a"], pa.large_string()), "prompt": pa.array(["a mug"]).dictionary_encode()})
    pq.write_table(table, tmp_path / "m.parquet")
    assert opened(tmp_path / "m.parquet").rows == 1


def values(manifest: Manifest, column: str) -> list[Any]:
    return [value for batch in manifest.batches() for value in batch.column(column).to_pylist()]


UUID = uuid.UUID("0f8fad5b-d9cb-469f-a165-70867728950e")


@pytest.mark.parametrize(
    ("ids", "texts"),
    [
        (pa.array([7, 2**60]), ["7", str(2**60)]),
        (pa.array([7.0, 8.0]), ["7", "8"]),
        (pa.array([Decimal("7.00"), Decimal("8.00")]), ["7", "8"]),
        (pa.array(["a", "b"], pa.string_view()), ["a", "b"]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array([b"a", b"b"]), ["a", "b"]),
        (pa.array([UUID.bytes], pa.binary(16)), [str(UUID)]),
        (pa.ExtensionArray.from_storage(pa.uuid(), pa.array([UUID.bytes], pa.binary(16))), [str(UUID)]),
    ],
)
def test_ids_of_every_type_without_loss_are_text(tmp_path: Path, ids: pa.Array, texts: list[str]) -> None:
    pq.write_table(pa.table({"id": ids, "prompt": ["x"] * len(ids)}), tmp_path / "m.parquet")
    assert values(opened(tmp_path / "m.parquet"), "id") == texts


@pytest.mark.parametrize(
    ("column", "given", "read", "problem"),
    [
        ("seed", pa.array([12.0, math.nan, None, 12.5]), [12, None, None, None], "Seed is 12.5; it should be a whole"),
        ("seed", pa.array([1, 2**64 - 1], pa.uint64()), [1, None], f"Seed is {2**64 - 1}; it should be a whole number"),
        ("seed", pa.array([1.0, math.inf]), [1, None], "Seed is inf"),
        ("width", pa.array([Decimal("64.00"), Decimal("64.50")]), [64, None], "Width is 64.50"),
        ("width", pa.array([64, None], pa.int16()).dictionary_encode(), [64, None], None),
        ("guidance", pa.array([2, None], pa.int8()), [2.0, None], None),
        ("guidance", pa.array([math.nan, 2.5]), [None, 2.5], None),
        ("guidance", pa.array([Decimal("2.50")]), [2.5], None),
        ("width", pa.array(["1024", " 12.0 ", "", "nan", None]), [1024, 12, None, None, None], None),
        (
            "width",
            pa.array(["-0.0", "2.048e3", "wide"]),
            [0, 2048, None],
            "Width is 'wide'; it should be a whole number.",
        ),
        ("seed", pa.array([str(2**63 - 1), str(2**63)]), [2**63 - 1, None], f"Seed is {2**63}; it should be a whole"),
        ("seed", pa.array(["7", "7.5"]).dictionary_encode(), [7, None], "Seed is 7.5; it should be a whole number."),
        (
            "seed",
            pa.array(["7", "1_000"], pa.string_view()),
            [7, None],
            "Seed is '1_000'; it should be a whole number.",
        ),
        ("seed", pa.array([b"7", b"\xff"]), [7, None], "The seed isn't text in UTF-8."),
        ("guidance", pa.array(["2.5", "NaN", "4"]), [2.5, None, 4.0], None),
        ("guidance", pa.array(["2.5", "2,5"]), [2.5, None], "Guidance is '2,5'; it should be a number."),
        ("profile", pa.array(["none", None]).dictionary_encode(), ["none", None], None),
        ("prompt", pa.array([b"a mug", b"\xff"]).view(pa.string()), ["a mug", None], "The prompt isn't text in UTF-8."),
        ("prompt", pa.array([b"a mug", b"\xff"], pa.binary_view()), ["a mug", None], "The prompt isn't text in UTF-8."),
    ],
)
def test_values_are_cast_without_loss_or_fail_their_row(
    tmp_path: Path, column: str, given: pa.Array, read: list[Any], problem: str | None
) -> None:
    rows = {"id": [f"r{n}" for n in range(len(given))], "prompt": ["x"] * len(given), column: given}
    pq.write_table(pa.table(rows), tmp_path / "m.parquet")
    manifest = opened(tmp_path / "m.parquet")
    assert values(manifest, column) == read
    problems = values(manifest, PROBLEM)
    assert problems[:-1] == [None] * (len(given) - 1)
    if problem is None:
        assert problems[-1] is None
    else:
        assert problems[-1]["column"] == column
        assert problems[-1]["sentence"].startswith(problem)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([b"a mug", b"\xff"]).view(pa.string()),
        pa.array([b"a mug", b"\xff"]).cast(pa.large_binary()).view(pa.large_string()),
        pa.array([0, -1], pa.int64()).view(pa.time64("us")),
        pa.array([0, -1], pa.int32()).view(pa.time32("ms")),
        pa.array([b"\0" * 16, b"\xff" * 15 + b"\x7f"], pa.binary(16)).view(pa.decimal128(5, 2)),
        pa.array([b"\0" * 32, b"\xff" * 31 + b"\x7f"], pa.binary(32)).view(pa.decimal256(40, 2)),
    ],
    ids=lambda column: str(column.type),
)
def test_values_that_a_type_should_not_have_are_no_damage_however_deep_they_lie(column: pa.Array) -> None:
    ones = pa.array([0, 1, 2], pa.int32())
    nested = [
        column,
        pa.DictionaryArray.from_arrays(pa.array([0, 1]), column),
        pa.ListArray.from_arrays(ones, column),
        pa.LargeListArray.from_arrays(ones.cast(pa.int64()), column),
        pa.FixedSizeListArray.from_arrays(column, 1),
        pa.ListViewArray.from_arrays(ones[:2], pa.array([1, 1], pa.int32()), column),
        pa.LargeListViewArray.from_arrays(ones[:2].cast(pa.int64()), pa.array([1, 1]), column),
        pa.StructArray.from_arrays([column], ["a"]),
        pa.MapArray.from_arrays(ones, ["a", "b"], column),
        pa.ListArray.from_arrays(ones, pa.StructArray.from_arrays([column], ["a"])),
    ]
    for array in nested:
        with pytest.raises(pa.ArrowInvalid):
            array.validate(full=True)
        array.view(of_any_value(array.type)).validate(full=True)


def test_text_that_is_not_utf8_is_carried_as_it_is(tmp_path: Path) -> None:
    title = pa.array([b"mug", b"\xff\xfe"]).view(pa.string())
    pq.write_table(pa.table({"id": ["a", "b"], "prompt": ["x", "y"], "title": title}), tmp_path / "m.parquet")
    (batch,) = opened(tmp_path / "m.parquet").batches()
    assert batch.column("title").view(pa.binary()).to_pylist() == [b"mug", b"\xff\xfe"]
    assert batch.column(PROBLEM).null_count == 2


def test_a_byte_order_mark_before_a_columns_name_is_left_out_and_told(write_manifest: Write) -> None:
    manifest = opened(write_manifest([{"\ufeffid": "a", "prompt": "x"}]))
    assert values(manifest, "id") == ["a"]
    assert manifest.warnings == ("The column 'id' is read without the byte order mark before its name.",)


def test_columns_that_are_nearly_called_as_known_ones_are_told(write_manifest: Write) -> None:
    manifest = opened(
        write_manifest([{"id": "a", "prompt": "x", "Seed": 1, "negative prompt": "y", "Width": 1, "width": 64}])
    )
    assert manifest.carried.names == ["Seed", "negative prompt", "Width"]
    assert [warning.partition(" is carried")[0] for warning in manifest.warnings] == [
        "The column 'Seed'",
        "The column 'negative prompt'",
    ]


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        (pa.array([1], pa.int32()), pa.array([2]), pa.int64()),
        (pa.array(["a"]), pa.array(["b"]).dictionary_encode(), pa.string()),
        (pa.array(["a"]), pa.array(["b"], pa.string_view()), pa.large_string()),
        (pa.nulls(1), pa.array([1.5]), pa.float64()),
        (pa.array([-1], pa.int32()), pa.array([2**63], pa.uint64()), pa.decimal128(20, 0)),
        (pa.array([1]), pa.array([Decimal("1.25")]), pa.decimal128(21, 2)),
        (pa.array([1], pa.timestamp("s")), pa.array([1], pa.timestamp("ns")), pa.timestamp("ns")),
        (pa.array([2**40], pa.timestamp("s")), pa.array([10**9], pa.timestamp("ns")), pa.timestamp("ms")),
        (pa.array([{"a": 1}]), pa.array([{"b": "x"}]), pa.struct([("a", pa.int64()), ("b", pa.string())])),
        (pa.array([["a"]]), pa.array([["b"]], pa.list_(pa.string_view())), pa.list_(pa.large_string())),
        (pa.array([2**60]), pa.array([0.5]), None),
        (pa.array([Decimal("1.1")]), pa.array([0.5]), None),
        (pa.array([1], pa.timestamp("us", "UTC")), pa.array([1], pa.timestamp("us")), None),
    ],
)
def test_files_of_a_folder_carry_what_one_type_holds_without_loss(
    tmp_path: Path, one: pa.Array, other: pa.Array, together: pa.DataType | None
) -> None:
    (tmp_path / "m").mkdir()
    pq.write_table(pa.table({"id": ["a"], "prompt": ["x"], "c": one}), tmp_path / "m" / "1.parquet")
    pq.write_table(pa.table({"c": other, "id": ["b"], "prompt": ["x"]}), tmp_path / "m" / "2.parquet")
    if together is None:
        with pytest.raises(
            ManifestError, match=r"its column 'c' holds .* in 1\.parquet, .* in 2\.parquet, and no type"
        ):
            opened(tmp_path / "m")
        return
    batches = list(opened(tmp_path / "m").batches())
    assert [batch.schema.field("c").type for batch in batches] == [together, together]
    assert [batch.num_rows for batch in batches] == [1, 1]


def test_a_repeated_id_is_named_with_its_files(write_manifest: Write, tmp_path: Path) -> None:
    write_manifest([{"id": "7", "prompt": "x"}], "folder/1.parquet")
    write_manifest([{"id": 8, "prompt": "x"}, {"id": 7, "prompt": "x"}], "folder/2.parquet")
    with pytest.raises(ManifestError, match=r"repeats the id '7' in row 0 of 1\.parquet, row 1 of 2\.parquet"):
        opened(tmp_path / "folder")


def test_a_type_that_does_not_fit_names_its_file(write_manifest: Write, tmp_path: Path) -> None:
    write_manifest([{"id": "a", "prompt": "x", "seed": 1}], "folder/1.parquet")
    write_manifest([{"id": "b", "prompt": "x", "seed": True}], "folder/2.parquet")
    with pytest.raises(ManifestError, match=r"holds bool in its column 'seed' of 2\.parquet, not whole numbers"):
        opened(tmp_path / "folder")


def test_bytes_of_pictures_may_lie_in_views_and_structs(tmp_path: Path) -> None:
    for number, image in enumerate(
        (
            pa.array([b"picture"], pa.binary_view()),
            pa.array([{"bytes": b"picture", "path": None}]),
            pa.array(["a.png"]).dictionary_encode(),
        )
    ):
        pq.write_table(pa.table({"id": ["a"], "image": image}), tmp_path / f"{number}.parquet")
        (value,) = values(opened(tmp_path / f"{number}.parquet", PICTURES), "image")
        assert value in (b"picture", {"bytes": b"picture", "path": None}, "a.png")


def test_a_template_reads_values_that_python_does_not_know(tmp_path: Path) -> None:
    columns = {
        "ns": pa.array([1_700_000_000_000_000_001], pa.timestamp("ns")),
        "odd": pa.array([1], pa.timestamp("us", "Mars/Olympus")),
        "late": pa.array([2**31 - 1], pa.int32()).view(pa.date32()),
    }
    pq.write_table(pa.table({"id": ["a"], "prompt": pa.nulls(1, pa.string()), **columns}), tmp_path / "m.parquet")
    prompts = {}
    for name in columns:
        template = PromptRows(defaults(template="made {" + name + "}"))
        file = tmp_path / "m.parquet"
        manifest = open_manifest("m", fetch_manifest(str(file), tmp_path), template_columns=(name,))
        (batch,) = manifest.batches()
        ((_, prompts[name]),) = template.read(batch)
    assert prompts["ns"].prompt == "made 2023-11-14 22:13:20.000000001"
    assert isinstance(prompts["odd"], BadRow)
    assert "column 'odd' can't be written as text" in prompts["odd"].problem
    assert isinstance(prompts["late"], BadRow)
    own = open_manifest("m", fetch_manifest(str(tmp_path / "m.parquet"), tmp_path), template_columns=("odd",))
    (batch,) = own.batches()
    batch = batch.set_column(batch.schema.get_field_index("prompt"), "prompt", pa.array(["a mug"]))
    ((_, row),) = PromptRows(defaults(template="made {odd}")).read(batch)
    assert row.prompt == "a mug"


def test_a_file_without_rows_has_no_say_in_types(write_manifest: Write, tmp_path: Path) -> None:
    write_manifest(pa.table({"id": pa.nulls(0), "prompt": pa.nulls(0)}), "folder/0.parquet")
    write_manifest([{"id": "a", "prompt": "x", "price": 1}], "folder/1.parquet")
    assert values(opened(tmp_path / "folder"), "price") == [1]


def test_years_of_old_timestamps_come_out_as_they_are(tmp_path: Path) -> None:
    late = pa.array([253_402_214_400_000_000], pa.timestamp("us"))  # the last day of 9999
    table = pa.table({"id": ["a"], "prompt": ["x"], "until": late})
    pq.write_table(table, tmp_path / "m.parquet", use_deprecated_int96_timestamps=True)
    (batch,) = opened(tmp_path / "m.parquet").batches()
    assert batch.column("until").equals(late)
