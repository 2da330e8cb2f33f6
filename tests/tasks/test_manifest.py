"""A manifest is refused as a whole before any work, in a sentence that says where."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.fetch import fetch_manifest
from tasks.manifest import CONTROLLED, PICTURES, PROMPTS, Columns, Manifest, ManifestError, open_manifest
from tasks.store import open_store

from .conftest import Write

BAD_FILES = Path(__file__).parents[3] / "shared" / "data" / "parquet" / "bad_data"


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
        ([{"id": 7, "prompt": "x"}], "holds int64 in its column 'id', not text"),
        ([{"id": "a", "prompt": "x", "seed": "7"}], "holds string in its column 'seed', not whole numbers"),
        ([{"id": "a", "prompt": "x", "width": 1.5}], "holds double in its column 'width', not whole numbers"),
        ([{"id": "a", "prompt": "x", "guidance": "2"}], "holds string in its column 'guidance', not numbers"),
        ([{"id": "a", "prompt": "x", "sha256": "2"}], "has a column 'sha256', which the catalogue uses itself"),
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
    with pytest.raises(ManifestError, match=r"mixes schemas: 2\.parquet differs from 1\.parquet"):
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
