"""What lies at a manifest's address is read, or named in a sentence that says what to write instead."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from tasks.manifests.fetch import fetch_manifest
from tasks.manifests.manifest import Manifest, open_manifest
from tasks.manifests.manifest_file import ManifestError
from tasks.stores.opening import open_store
from tests.tasks.conftest import Write


def opened(address: Path | str, folder: Path) -> Manifest:
    return open_manifest(str(address), fetch_manifest(str(address), folder))


def ids(manifest: Manifest) -> list[str]:
    return [row_id for batch in manifest.batches() for row_id in batch.column("id").to_pylist()]


def in_bucket(folder: Path, uri: str) -> str:
    store = open_store(f"{uri}/m")
    for file in folder.rglob("*"):
        if file.is_file():
            store.put_once(file.relative_to(folder).as_posix(), file)
    return f"{uri}/m"


def test_a_folders_files_are_told_by_name_and_content_and_those_of_nobody_are_left_out(
    write_manifest: Write, tmp_path: Path, s3_store_uri: str
) -> None:
    names = ["1.parquet", "2.PARQUET", "3.parq", "4.pq", "5.parquet.gz", "deep/000000_0", "a=b.parquet"]
    for name in names:
        write_manifest([{"id": name.replace("/", "-").replace("=", "-"), "prompt": "x"}], f"m/{name}")
    for name in ("_temporary/0.parquet", ".hidden.parquet", "deep/_SUCCESS", ".git/1.parquet"):
        write_manifest([{"id": "nobody's", "prompt": "x"}], f"m/{name}")
    (tmp_path / "m" / "notes.csv").write_text("id,prompt")
    (tmp_path / "m" / "README").write_text("which isn't Parquet")
    (tmp_path / "m" / "a.jpg").write_bytes(b"a picture that a row may name")

    for address in (str(tmp_path / "m"), in_bucket(tmp_path / "m", s3_store_uri)):
        (tmp_path / "fetched").mkdir()
        manifest = opened(address, tmp_path / "fetched")
        assert sorted(ids(manifest)) == sorted(name.replace("/", "-").replace("=", "-") for name in names)
        assert manifest.warnings == (
            "2 files in the manifest's folder are no Parquet files by their names, and aren't read: README, notes.csv.",
        )
        shutil.rmtree(tmp_path / "fetched")


@pytest.mark.parametrize(
    "folders",
    [
        ["brand=adidas", "brand=nike"],
        ["year=2024/month=01", "year=2025/month=12"],
        ["size=1", "size=x"],
        ["size=1", "size=3000000000"],
        ["brand=a%20b%2Fc", "brand=__HIVE_DEFAULT_PARTITION__"],
    ],
)
def test_what_folders_say_is_carried_as_pyarrow_reads_it(
    write_manifest: Write, tmp_path: Path, s3_store_uri: str, folders: list[str]
) -> None:
    for number, folder in enumerate(folders):
        write_manifest([{"id": f"r{number}", "prompt": "x"}], f"m/{folder}/part-0.parquet")
    theirs = ds.dataset(tmp_path / "m", partitioning="hive").to_table()
    theirs = theirs.select(["id", *sorted(set(theirs.schema.names) - {"id", "prompt"})]).sort_by("id")

    for address in (str(tmp_path / "m"), in_bucket(tmp_path / "m", s3_store_uri)):
        (tmp_path / "fetched").mkdir()
        manifest = opened(address, tmp_path / "fetched")
        ours = pa.Table.from_batches(manifest.batches()).select(theirs.schema.names).sort_by("id")
        assert ours.drop_columns("id").equals(theirs.drop_columns("id"))
        shutil.rmtree(tmp_path / "fetched")


def test_what_folders_say_is_part_of_the_digest(write_manifest: Write, tmp_path: Path) -> None:
    for brand in ("nike", "adidas"):
        write_manifest([{"id": "a", "prompt": "x"}], f"{brand}/brand={brand}/0.parquet")
    assert opened(tmp_path / "nike", tmp_path).digest != opened(tmp_path / "adidas", tmp_path).digest


def test_a_folder_in_a_bucket_may_be_called_like_a_file(
    write_manifest: Write, s3_store_uri: str, tmp_path: Path
) -> None:
    open_store(f"{s3_store_uri}/out.parquet").put_once("part-0", write_manifest([{"id": "a", "prompt": "x"}]))
    assert ids(opened(f"{s3_store_uri}/out.parquet".replace("s3:", "s3a:"), tmp_path)) == ["a"]


def test_a_file_address_is_a_path(write_manifest: Write, tmp_path: Path) -> None:
    file = write_manifest([{"id": "a", "prompt": "x"}], "a b.parquet")
    for address in (file.as_uri(), f"file:{file}", f"file://localhost{file}"):
        assert ids(opened(address, tmp_path)) == ["a"]


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("https://host/m.parquet", "aren't fetched from the web: download https://host/m.parquet"),
        ("gs://bucket/m", r"aren't read from gs:// addresses such as gs://bucket/m: copy it"),
        ("hdfs://host/m", r"aren't read from hdfs:// addresses"),
        ("{folder}/*.parquet", r"is a pattern, which isn't read: give one file, or the folder {folder}, of"),
        ("{folder}/mm.parquet", r"There is no manifest .*mm\.parquet; there is m\.parquet"),
        ("{folder}/none/m.parquet", r"There is no manifest .*: its folder isn't there"),
        ("{folder}/m.parquet/m", r"There is no manifest"),
        ("{folder}/fifo", r"fifo isn't a regular file"),
        ("{folder}/\0", r"can't be read: embedded null"),
        ("{folder}/empty", r"empty holds no Parquet file: there is nothing in it, or nothing but"),
        ("{folder}/csv", r"holds no Parquet file; it holds a\.csv \(a CSV file: write it as Parquet\)"),
        ("{folder}/csv/a.csv", r"It is a CSV file: write it as Parquet"),
        ("{folder}/what", r"It is a JSON file: write it as Parquet"),
        ("{folder}/a.xlsx", r"It is a ZIP file, as Excel's \.xlsx is"),
        ("{folder}/zipped.parquet.gz", r"It is compressed with gzip as a whole"),
        ("{folder}/cut.parquet", r"cut\.parquet is not a Parquet file that can be read"),
        ("{folder}/zero.parquet", r"It is empty, 0 bytes"),
    ],
)
def test_whatever_else_lies_there_is_named(write_manifest: Write, tmp_path: Path, address: str, sentence: str) -> None:
    whole = write_manifest([{"id": "a", "prompt": "x"}], "m.parquet").read_bytes()
    (tmp_path / "empty").mkdir()
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "a.csv").write_text("\ufeffid;prompt\na;x\n", "utf-8")
    (tmp_path / "what").write_text('[{"id": "a"}]')
    (tmp_path / "a.xlsx").write_bytes(b"PK\x03\x04rest")
    (tmp_path / "zipped.parquet.gz").write_bytes(gzip.compress(whole))
    (tmp_path / "cut.parquet").write_bytes(whole[:-5])
    (tmp_path / "zero.parquet").write_bytes(b"")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ManifestError, match=sentence.replace("{folder}", str(tmp_path))):
        opened(address.replace("{folder}", str(tmp_path)), tmp_path)


@pytest.mark.parametrize("name", ["none.parquet", "none", "*.parquet"])
def test_an_empty_prefix_of_a_bucket_is_told(s3_store_uri: str, tmp_path: Path, name: str) -> None:
    with pytest.raises(ManifestError, match="is a pattern" if "*" in name else "There is no manifest s3://"):
        opened(f"{s3_store_uri}/{name}", tmp_path)


def test_a_file_of_a_bucket_is_called_by_its_address(s3_store_uri: str, tmp_path: Path) -> None:
    open_store(f"{s3_store_uri}/m").put_once("deep/a.parquet", b"id,prompt")
    for address in (f"{s3_store_uri}/m", f"{s3_store_uri}/m/deep/a.parquet"):
        with pytest.raises(ManifestError, match=rf"The manifest {s3_store_uri}/m/deep/a\.parquet is not .* a CSV file"):
            opened(address, tmp_path)


def test_a_column_of_one_file_may_be_a_folder_of_another(write_manifest: Write, tmp_path: Path) -> None:
    write_manifest([{"id": "a", "prompt": "x", "size": 2**40}], "m/0.parquet")
    write_manifest([{"id": "b", "prompt": "x"}], "m/size=7/0.parquet")
    table = pa.Table.from_batches(opened(tmp_path / "m", tmp_path).batches())
    assert table.column("size").to_pylist() == [2**40, 7]


def test_a_table_of_many_versions_is_not_read_as_if_all_of_them_counted(
    write_manifest: Write, tmp_path: Path, s3_store_uri: str
) -> None:
    write_manifest([{"id": "a", "prompt": "x"}], "m/part-0.parquet")
    (tmp_path / "m" / "_delta_log").mkdir()
    (tmp_path / "m" / "_delta_log" / "00000.json").write_text("{}")
    for address in (str(tmp_path / "m"), in_bucket(tmp_path / "m", s3_store_uri)):
        with pytest.raises(ManifestError, match="is a Delta Lake table, among whose files"):
            opened(address, tmp_path)


def test_what_is_no_file_is_left_out_and_told(write_manifest: Write, tmp_path: Path) -> None:
    write_manifest([{"id": "a", "prompt": "x"}], "m/part-0.parquet")
    write_manifest([{"id": "b", "prompt": "x"}], "elsewhere/part-0.parquet")
    os.mkfifo(tmp_path / "m" / "pipe")
    os.mkfifo(tmp_path / "m" / "pipe.parquet")
    (tmp_path / "m" / "link").symlink_to(tmp_path / "elsewhere")
    manifest = opened(tmp_path / "m", tmp_path)
    assert ids(manifest) == ["a"]
    assert "3 files in the manifest's folder" in manifest.warnings[0]
    assert manifest.warnings[0].endswith("link/, pipe, pipe.parquet.")
